/* Metadata, tokenizer and the files beside, as the target has them. */
#include "convert/conversion_parts.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "family/translate.h"
#include "files/source.h"
#include "model/format.h"
#include "model/json_edit.h"
#include "token/tokenizer_write.h"
#include "values/dtype.h"

/* general.file_type of a model whose matrices are of that dtype, as a loader guesses it; -1 where there is no number for it. */
static int64_t file_type_of(const struct apr_dtype *d)
{
    static const enum apr_file_type usual[APR_NDTYPES] = {
        [APR_Q3_K] = APR_MIX_Q3_K_M,   [APR_Q4_K] = APR_MIX_Q4_K_M, [APR_Q5_K] = APR_MIX_Q5_K_M,
        [APR_IQ2_XS] = APR_MIX_IQ2_XS, [APR_IQ2_S] = APR_MIX_IQ2_S, [APR_IQ3_S] = APR_MIX_IQ3_S,
    };
    if (d == &apr_dtypes[APR_NVFP4])
        return 39;
    if (usual[apr_dtype_id(d)] != 0)
        return usual[apr_dtype_id(d)];
    for (size_t i = 0; apr_preset_at(i) != NULL; i++)
        if (&apr_dtypes[apr_preset_at(i)->dtype] == d)
            return apr_preset_at(i)->file_type;
    return -1;
}

static bool is_relative(struct apr_bytes part) { return part.n == 0 || apr_bytes_is(part, ".") || apr_bytes_is(part, ".."); }

/* Of a path, without slashes and "/." behind it. */
static struct apr_bytes last_part(const char *path)
{
    size_t end = strlen(path), begin;
    while (end > 1 && (path[end - 1] == '/' || (path[end - 1] == '.' && path[end - 2] == '/')))
        end--;
    for (begin = end; begin > 0 && path[begin - 1] != '/'; begin--)
        continue;
    return (struct apr_bytes){ (const unsigned char *)path + begin, end - begin };
}

/* What the source is called: the last part of its path as it was given, of a file without its suffix; of "." and ".." what that is. */
static enum apr_code name_of(const struct apr_convert_source *s, struct apr_arena **a, struct apr_bytes *name, struct apr_error *e)
{
    const size_t suffix = s->m->format->suffix == NULL ? 0 : strlen(s->m->format->suffix);
    *name = last_part(s->path);
    if (is_relative(*name)) {
        char *const whole = realpath(s->path, NULL);
        *name = whole == NULL ? (struct apr_bytes){ 0 } : apr_arena_copy(a, last_part(whole));
        free(whole);
        return whole != NULL && name->at == NULL ? apr_no_memory(e) : APR_OK;
    }
    if (suffix > 0 && name->n > suffix && memcmp(name->at + name->n - suffix, s->m->format->suffix, suffix) == 0)
        name->n -= suffix;
    return APR_OK;
}

static struct apr_translation translation_of(const struct apr_conversion *c)
{
    const struct apr_dtype *const asked = c->blocks != NULL ? c->blocks : c->o->dtype;
    const bool to_gguf = c->dialect == APR_GGUF;
    struct apr_translation t = {
        .m = c->source.m, .b = c->source.binding, .side = &c->side, .config = c->source.config,
        .main = c->main, .file_type = to_gguf ? file_type_of(asked != NULL ? asked : c->main) : -1, .head = c->head,
        .quantized = c->quantized, .typed = c->o->dtype != NULL || c->o->retyped || apr_is_quantizing(c->o),
        .refiled = c->o->tokenizer != NULL || c->o->model != NULL,
        .bytes = c->bytes, .elements = c->elements, .expert_elements = c->expert_elements, .nexpert = c->nexpert,
    };
    const struct apr_tensor *const freqs = apr_model_find(c->source.m, apr_text("rope_freqs.weight"));
    if (freqs != NULL && freqs->dtype == &apr_dtypes[APR_F32] && !freqs->swapped && (uintptr_t)freqs->data.at % sizeof(float) == 0) {
        t.rope_freqs = (const float *)(const void *)freqs->data.at;
        t.nrope_freqs = (size_t)freqs->count;
    }
    return t;
}

enum apr_code apr_read_mix(struct apr_conversion *c, struct apr_mix *mix, struct apr_error *e)
{
    struct apr_draft keys = { 0 };
    const struct apr_translation t = translation_of(c);
    if (c->source.m->format->own_names) {
        apr_mix_read(mix, &c->source.m->meta);
        return APR_OK;
    }
    enum apr_code code = apr_translate_to_gguf(&keys, &t, e);
    if (code == APR_OK) {
        apr_mix_read(mix, &keys.meta);
        mix->architecture = apr_arena_copy(&c->plan.arena, mix->architecture);
        code = mix->architecture.at == NULL ? apr_no_memory(e) : APR_OK;
    }
    apr_draft_end(&keys);
    return code;
}

/* Of the embedding as it is written, which a vocabulary must not exceed; 0: there is none. */
static uint64_t embedding_rows(const struct apr_conversion *c)
{
    for (size_t i = 0; i < c->source.wishes.n; i++) {
        const struct apr_wish *const x = &c->source.wishes.wish[i];
        if (x->ndim == 2 && (apr_bytes_is(x->name, "token_embd.weight") || (x->role != NULL && apr_bytes_is(x->role->name, "token_embd"))))
            return x->dim[0];
    }
    return 0;
}

/* A checkpoint's own files go along. */
enum apr_code apr_copy_side(struct apr_side *to, const struct apr_side *from, struct apr_error *e)
{
    for (size_t i = 0; i < from->n; i++)
        APR_TRY(apr_side_put(to, (const char *)from->file[i].name.at, from->file[i].text, e));
    return APR_OK;
}

/* Another tokenizer in the place of the source's own keys. */
static enum apr_code exchange_tokenizer(struct apr_conversion *c, struct apr_tokenizer *tokenizer, struct apr_error *e)
{
    static const char prefix[] = "tokenizer.";
    struct apr_draft *const d = &c->plan.meta;
    for (size_t i = d->meta.n; i-- > 0;) {
        const struct apr_bytes key = d->meta.entry[i].key;
        if (key.n >= sizeof prefix - 1 && memcmp(key.at, prefix, sizeof prefix - 1) == 0)
            apr_draft_remove(d, key);
    }
    return apr_tokenizer_to_gguf(d, tokenizer, &c->o->cli.run, e);
}

static enum apr_code to_gguf(struct apr_conversion *c, const struct apr_translation *t, struct apr_tokenizer *tokenizer,
                             struct apr_error *e)
{
    APR_TRY(apr_translate_to_gguf(&c->plan.meta, t, e));
    if (!c->source.m->format->own_names)
        return apr_tokenizer_to_gguf(&c->plan.meta, tokenizer, &c->o->cli.run, e);
    if (c->o->tokenizer != NULL || c->o->tokenizer_files != NULL)
        return exchange_tokenizer(c, tokenizer, e);
    const bool named = c->o->pre != NULL && apr_draft_find(&c->plan.meta, apr_text("tokenizer.ggml.tokens")) != NULL;
    return !named ? APR_OK : apr_draft_text(&c->plan.meta, "tokenizer.ggml.pre", apr_text(c->o->pre), e);
}

static enum apr_code to_apr(struct apr_conversion *c, const struct apr_translation *t, struct apr_tokenizer *tokenizer, struct apr_error *e)
{
    APR_TRY(apr_translate_to_apr(&c->plan.meta, t, e));
    return apr_tokenizer_to_apr(&c->plan.meta, tokenizer, &c->o->cli.run, e);
}

/* What config.json says of codes goes along with them in the metadata of a file that stands alone, and away where they are undone. */
static enum apr_code carry_packing(struct apr_conversion *c, struct apr_error *e)
{
    struct apr_draft *const d = &c->plan.meta;
    const struct apr_bytes config = apr_side_get(&c->side, "config.json"), inner = apr_json_find(config, "text_config");
    for (size_t i = 0; apr_packing_keys[i] != NULL; i++) {
        const struct apr_bytes key = apr_text(apr_packing_keys[i]);
        struct apr_bytes said = apr_json_find(inner, apr_packing_keys[i]);
        if (said.n == 0)
            said = apr_json_find(config, apr_packing_keys[i]);
        if (c->source.packing != NULL || c->o->unpacked)
            apr_draft_remove(d, key);
        else if (!c->folder && said.n > 0 && said.at[0] == '{' && apr_draft_find(d, key) == NULL)
            APR_TRY(apr_draft_text(d, apr_packing_keys[i], said, e));
    }
    return APR_OK;
}

static enum apr_code to_hf(struct apr_conversion *c, const struct apr_translation *t, struct apr_tokenizer *tokenizer, struct apr_error *e)
{
    struct apr_side *const files = c->folder ? &c->plan.side : NULL;
    if (files != NULL)
        APR_TRY(apr_copy_side(files, &c->side, e));
    APR_TRY(apr_translate_to_hf(&c->plan.meta, files, t, e));
    APR_TRY(carry_packing(c, e));
    return files == NULL ? APR_OK : apr_tokenizer_to_hf(files, tokenizer, &c->o->cli.run, e);
}

/* As much of a text as llama-quantize keeps in a key, in whole characters. */
#define MOST_TEXT 127u
static struct apr_bytes cut(struct apr_bytes text)
{
    size_t n = text.n < MOST_TEXT ? text.n : MOST_TEXT;
    while (n < text.n && n > 0 && (text.at[n] & 0xC0) == 0x80)
        n--;
    return (struct apr_bytes){ text.at, n };
}

static enum apr_code tell_imatrix(struct apr_draft *d, const struct apr_imatrix *im, const char *path, struct apr_error *e)
{
    APR_TRY(apr_draft_text(d, "quantize.imatrix.file", cut(apr_text(path)), e));
    if (im->ndataset > 0)
        APR_TRY(apr_draft_text(d, "quantize.imatrix.dataset", cut(im->dataset[0]), e));
    APR_TRY(apr_draft_u32(d, "quantize.imatrix.entries_count", (uint32_t)im->nentry, e));
    return im->chunks == 0 ? APR_OK : apr_draft_u32(d, "quantize.imatrix.chunks_count", im->chunks, e);
}

/* What llama-quantize puts behind all other keys. */
static enum apr_code tell_quantization(struct apr_conversion *c, struct apr_error *e)
{
    struct apr_draft *const d = &c->plan.meta;
    const int64_t type = c->o->preset != NULL ? (int64_t)c->o->preset->file_type : file_type_of(c->main);
    if (c->dialect != APR_GGUF || !apr_is_quantizing(c->o))
        return APR_OK;
    apr_draft_remove(d, apr_text("general.quantization_version"));
    apr_draft_remove(d, apr_text("general.file_type"));
    APR_TRY(apr_draft_u32(d, "general.quantization_version", 2, e));
    if (type >= 0)
        APR_TRY(apr_draft_u32(d, "general.file_type", (uint32_t)type, e));
    return c->imatrix == NULL ? APR_OK : tell_imatrix(d, c->imatrix, c->o->imatrix, e);
}

/* In a folder the template is a file of its own. */
static enum apr_code edit(struct apr_conversion *c, struct apr_error *e)
{
    struct apr_edits edits = c->o->edits;
    struct apr_bytes text;
    if (c->folder) {
        edits.chat_template = NULL;
        edits.template_text = (struct apr_bytes){ 0 };
    }
    apr_draft_remove(&c->plan.meta, apr_text("general.padding")); /* it filled up a header that was changed in place */
    APR_TRY(apr_edit_metadata(&c->plan.meta, &edits, c->format, &c->o->cli.run, e));
    text = c->o->edits.template_text;
    if (!c->folder || (c->o->edits.chat_template == NULL && text.n == 0))
        return APR_OK;
    if (c->o->edits.chat_template != NULL)
        APR_TRY(apr_read_template(&c->plan.arena, c->o->edits.chat_template, &c->o->cli.run, &text, e));
    return apr_side_put(&c->plan.side, "chat_template.jinja", text, e);
}

static enum apr_code all_of_it(struct apr_conversion *c, struct apr_error *e)
{
    struct apr_translation t = translation_of(c);
    APR_TRY(name_of(&c->source, &c->plan.meta.arena, &t.name, e));
    struct apr_tokenizer tokenizer = { .m = c->source.m, .b = c->source.binding, .side = &c->side, .pre = c->o->pre,
                                       .rows = embedding_rows(c) };
    APR_TRY(c->format->own_names ? to_gguf(c, &t, &tokenizer, e)
            : c->format->config  ? to_hf(c, &t, &tokenizer, e)
                                 : to_apr(c, &t, &tokenizer, e));
    c->unknown_pre = tokenizer.unknown_pre;
    APR_TRY(tell_quantization(c, e));
    return edit(c, e);
}

enum apr_code apr_plan_metadata(struct apr_conversion *c, struct apr_error *e)
{
    const enum apr_code code = all_of_it(c, e);
    if (code != APR_OK)
        apr_error_in(e, c->source.path);
    return code;
}
