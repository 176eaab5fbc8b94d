/* A vocabulary in a checkpoint's files: those of a folder, or those that are at hand. */
#include "token/vocabulary_read.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/table.h"
#include "files/address.h"
#include "files/source.h"
#include "model/format.h"
#include "model/hf_config.h"
#include "model/meta.h"

/* What is read, and from where: files at hand, or a folder of which only those are opened that are wanted.
 *   last  the file under way: its name at hand, its path in a folder */
struct folder {
    struct apr_vocabulary *v;
    const struct apr_side *side;
    const char            *path;
    const struct apr_run  *r;
    struct apr_error      *e;
    const char            *last;
};

/* Maps the file of that name, which v keeps open; *text.at is NULL when there is none. */
static enum apr_code open_file(struct folder *f, const char *name, uint64_t most, struct apr_bytes *text)
{
    struct apr_source *s;
    f->last = name;
    if (f->side != NULL) {
        *text = apr_side_get(f->side, name);
        return APR_OK;
    }
    const size_t n = strlen(f->path) + strlen(name) + 1;
    char *path = malloc(n);
    if (path == NULL)
        return apr_no_memory(f->e);
    snprintf(path, n, "%s%s", f->path, name);
    const enum apr_code code = apr_source_sidecar(&s, path, most, f->r, f->e);
    free(path);
    *text = s == NULL ? (struct apr_bytes){ 0 } : s->map;
    if (s != NULL) {
        f->v->file[f->v->nfile++] = s;
        f->last = s->path;
    }
    if (code != APR_OK && f->e->finding != NULL)
        f->e->finding = "vocab.unreadable";
    return code;
}

/* Names the file that was opened last in a failure. */
static enum apr_code in_last(struct folder *f, enum apr_code code)
{
    if (f->side != NULL)
        return apr_side_in(f->side, f->last, code, f->e);
    if (code != APR_OK)
        apr_error_in(f->e, f->last);
    return code;
}

typedef enum apr_code read_fn(struct apr_vocabulary *v, struct apr_bytes text, struct apr_error *e);

static enum apr_code read_file(struct folder *f, const char *name, uint64_t most, read_fn *read)
{
    struct apr_bytes text;
    APR_TRY(open_file(f, name, most, &text));
    return text.at == NULL ? APR_OK : in_last(f, read(f->v, text, f->e));
}

/* A JSON object; type APR_META_ANY when there is no such file. */
static enum apr_code read_object(struct folder *f, const char *name, struct apr_value *object)
{
    struct apr_bytes text;
    *object = (struct apr_value){ .type = APR_META_ANY };
    APR_TRY(open_file(f, name, APR_MOST_CONFIG, &text));
    return text.at == NULL ? APR_OK : in_last(f, apr_take_object(f->v, text, object, f->e));
}

/* ---- tokens --------------------------------------------------------------------------------------------------------- */

static const struct {
    enum apr_vocabulary_source from;
    const char                *name;
    read_fn                   *read;
    uint64_t                   most;
} sources[] = {
    { APR_FROM_TOKENIZER_JSON, "tokenizer.json", apr_read_tokenizer_json, APR_MOST_TOKENIZER },
    { APR_FROM_SENTENCEPIECE, "tokenizer.model", apr_read_sentencepiece, APR_MOST_VOCABULARY },
    { APR_FROM_SENTENCEPIECE, "spiece.model", apr_read_sentencepiece, APR_MOST_VOCABULARY },
    { APR_FROM_SENTENCEPIECE, "sentencepiece.bpe.model", apr_read_sentencepiece, APR_MOST_VOCABULARY },
    { APR_FROM_VOCAB_JSON, "vocab.json", apr_read_vocab_json, APR_MOST_VOCABULARY },
    { APR_FROM_VOCAB_TXT, "vocab.txt", apr_read_vocab_txt, APR_MOST_VOCABULARY },
};

/* Those that tokenizer.json has itself. */
static enum apr_code read_added(struct folder *f, const struct apr_value *config)
{
    struct apr_value added;
    struct apr_member decoder[] = { { .key = "added_tokens_decoder" } };
    if (f->v->from == APR_FROM_NOTHING || f->v->from == APR_FROM_TOKENIZER_JSON)
        return APR_OK;
    APR_TRY(apr_vocabulary_index(f->v, f->e));
    APR_TRY(read_object(f, "added_tokens.json", &added));
    APR_TRY(apr_read_added_tokens(f->v, &added, f->e));
    APR_TRY(apr_take_members(f->v, config, decoder, 1, f->e));
    APR_TRY(apr_read_added_tokens(f->v, &decoder[0].value, f->e));
    return apr_order_tokens(f->v, f->e);
}

/* Half a vocabulary is none. */
static void forget_tokens(struct apr_vocabulary *v)
{
    v->size = v->ntoken = v->nmerge = v->nspecial = 0;
    v->faults = (struct apr_vocabulary_faults){ 0 };
    v->found = false;
    apr_table_free(&v->by_text);
}

static enum apr_code read_tokens(struct folder *f, enum apr_vocabulary_source wanted)
{
    struct apr_vocabulary *v = f->v;
    enum apr_code code = APR_OK;
    for (size_t i = 0; i < APR_LENGTH(sources) && v->from == APR_FROM_NOTHING && code == APR_OK; i++)
        if (wanted == APR_FROM_NOTHING || wanted == sources[i].from)
            code = read_file(f, sources[i].name, sources[i].most, sources[i].read);
    if (code != APR_OK) {
        forget_tokens(v);
        return code;
    }
    const bool bpe = v->from == APR_FROM_VOCAB_JSON || (v->from == APR_FROM_TOKENIZER_JSON && v->kind == APR_VOCABULARY_BPE);
    if (!bpe || v->nmerge > 0 || v->faults.bad_merges > 0)
        return APR_OK;
    return read_file(f, "merges.txt", APR_MOST_VOCABULARY, apr_read_merges_txt);
}

/* ---- templates ------------------------------------------------------------------------------------------------------ */

/* A file of its own counts before what the configuration has, and that before chat_template.json. */
static enum apr_code read_chat(struct folder *f, const struct apr_value *config)
{
    struct apr_member chat[] = { { .key = "chat_template" } };
    struct apr_bytes text;
    struct apr_value object;
    APR_TRY(apr_take_members(f->v, config, chat, 1, f->e));
    APR_TRY(apr_read_templates(f->v, &chat[0].value, f->e));
    APR_TRY(open_file(f, "chat_template.jinja", APR_MOST_CONFIG, &text));
    if (text.at != NULL)
        return in_last(f, apr_read_template_file(f->v, apr_text("default"), text, f->e));
    if (f->v->nchat > 0)
        return APR_OK;
    APR_TRY(read_object(f, "chat_template.json", &object));
    APR_TRY(apr_take_members(f->v, &object, chat, 1, f->e));
    return apr_read_templates(f->v, &chat[0].value, f->e);
}

/* ---- config.json ----------------------------------------------------------------------------------------------------- */

static enum apr_code take_config_id(struct folder *f, const struct apr_hf_config *config, const char *word, const char *more)
{
    char path[40];
    double id;
    snprintf(path, sizeof path, "%s_token_id%s", word, more);
    if (!apr_hf_config_number(config, apr_text(path), &id) || !(id >= 0 && id < (double)UINT32_MAX))
        return APR_OK;
    return apr_put_special(f->v, apr_text(word), (uint64_t)id, true, f->e);
}

/* The ids that the model's configuration gives; a list of them too, each of which ends a text. What is broken there is for others to
 * tell. */
static enum apr_code read_config_ids(struct folder *f, const char *name)
{
    static const char *const role[] = { "bos", "eos", "unk", "sep", "pad", "cls", "mask" }, *const at[] = { "", ".0", ".1", ".2", ".3" };
    struct apr_bytes text;
    struct apr_hf_config *config;
    struct apr_error why;
    enum apr_code code = open_file(f, name, APR_MOST_CONFIG, &text);
    if (code != APR_OK || text.at == NULL)
        return code == APR_ENOMEM ? code : APR_OK;
    code = apr_hf_config_new(&config, text, &why);
    if (code != APR_OK)
        return code == APR_ENOMEM ? apr_no_memory(f->e) : APR_OK;
    for (size_t i = 0; i < APR_LENGTH(role) * APR_LENGTH(at) && code == APR_OK; i++)
        code = take_config_id(f, config, role[i / APR_LENGTH(at)], at[i % APR_LENGTH(at)]);
    apr_hf_config_free(config);
    return code;
}

/* ---- both ----------------------------------------------------------------------------------------------------------- */

static enum apr_code read_all(struct folder *f, enum apr_vocabulary_source wanted)
{
    struct apr_value config, map;
    APR_TRY(read_tokens(f, wanted));
    APR_TRY(read_object(f, "tokenizer_config.json", &config));
    f->v->found = f->v->found || config.type == APR_META_OBJECT;
    APR_TRY(read_added(f, &config));
    APR_TRY(apr_read_roles(f->v, &config, f->e));
    APR_TRY(read_object(f, "special_tokens_map.json", &map));
    APR_TRY(apr_read_roles(f->v, &map, f->e));
    APR_TRY(read_config_ids(f, "config.json"));
    APR_TRY(read_config_ids(f, "generation_config.json"));
    APR_TRY(apr_read_normalizer(f->v, f->e));
    APR_TRY(apr_read_post_processor(f->v, f->e));
    return read_chat(f, &config);
}

enum apr_code apr_vocabulary_folder(struct apr_vocabulary *v, const char *path, enum apr_vocabulary_source wanted, const struct apr_run *r,
                                    struct apr_error *e)
{
    struct folder f = { .v = v, .path = path, .r = r, .e = e };
    const enum apr_code code = read_all(&f, wanted);
    struct apr_error why;
    for (size_t i = 0; i < v->nfile; i++)
        if (apr_source_intact(v->file[i], &why) != APR_OK) { /* whatever was found wrong then is no news about the file */
            *e = why;
            return why.code;
        }
    return code;
}

enum apr_code apr_vocabulary_side(struct apr_vocabulary *v, const struct apr_side *side, enum apr_vocabulary_source wanted,
                                  struct apr_error *e)
{
    struct folder f = { .v = v, .side = side, .e = e };
    return read_all(&f, wanted);
}

enum apr_code apr_vocabulary_read(struct apr_vocabulary *v, const struct apr_model *m, const struct apr_run *r, struct apr_error *e)
{
    const char *path = m->nfile == 0 ? "-" : m->file[0]->path;
    if (!m->format->config || strcmp(path, "-") == 0)
        return apr_read_metadata(v, &m->meta, e);
    char *folder = strndup(path, apr_folder_length(path));
    if (folder == NULL)
        return apr_no_memory(e);
    const enum apr_code code = apr_vocabulary_folder(v, folder, APR_FROM_NOTHING, r, e);
    free(folder);
    return code;
}
