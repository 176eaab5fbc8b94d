/* tokenizer.* of an APR: flat keys. */
#include "token/tokenizer_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "model/format.h"
#include "model/meta.h"

/* What the flat keys are made of.
 *   v       the tokens; scored: those with scores, by the same ids; or NULL
 *   keys    those of a GGUF for all else */
struct flat {
    struct apr_draft            *d;
    const struct apr_vocabulary *v, *scored;
    const struct apr_meta       *keys;
    struct apr_error            *e;
};

/* ---- lists ----------------------------------------------------------------------------------------------------------- */

enum list { TEXTS, MERGES, SCORES, TYPES };

/* "left right"; line is room that grows. False: no memory. */
static bool write_merge(struct apr_out *out, const struct apr_merge *m, unsigned char **line, size_t *room)
{
    const size_t n = m->left.n + 1 + m->right.n;
    if (n > *room) {
        unsigned char *const grown = realloc(*line, 2 * n);
        if (grown == NULL)
            return false;
        *line = grown;
        *room = 2 * n;
    }
    memcpy(*line, m->left.at, m->left.n);
    (*line)[m->left.n] = ' ';
    memcpy(*line + m->left.n + 1, m->right.at, m->right.n);
    apr_out_bytes(out, NULL, (struct apr_bytes){ *line, n });
    return true;
}

static void write_token(struct apr_out *out, const struct flat *f, enum list which, uint64_t id)
{
    const struct apr_token *const t = apr_vocabulary_token(which == SCORES ? f->scored : f->v, id);
    char spelled[32];
    if (which == TEXTS) {
        snprintf(spelled, sizeof spelled, "[PAD%llu]", (unsigned long long)id);
        apr_out_bytes(out, NULL, t != NULL ? t->text : apr_text(spelled));
    } else if (which == SCORES) {
        const float score = t == NULL ? 0 : (float)t->score;
        apr_out_raw(out, NULL, score - score == 0 ? apr_text(apr_spell_float(score, spelled)) : apr_text("null"));
    } else {
        apr_out_count(out, NULL, t == NULL ? APR_TOKEN_UNUSED : t->type);
    }
}

static enum apr_code put_list(const struct flat *f, const char *key, enum list which)
{
    struct apr_text_made m;
    struct apr_bytes json;
    const uint64_t n = which == MERGES ? f->v->nmerge : f->v->size;
    if (n == 0)
        return APR_OK;
    APR_TRY(apr_text_begin(&m, f->e));
    unsigned char *line = NULL;
    size_t room = 0;
    bool lost = false;
    apr_out_open(&m.out, NULL, '[');
    for (uint64_t i = 0; i < n && !lost; i++)
        if (which == MERGES)
            lost = !write_merge(&m.out, &f->v->merge[i], &line, &room);
        else
            write_token(&m.out, f, which, i);
    apr_out_close(&m.out, ']');
    free(line);
    struct apr_arena *scratch = NULL;
    enum apr_code code = apr_text_end(&m, &scratch, &json, f->e);
    if (code == APR_OK && lost)
        code = apr_no_memory(f->e);
    if (code == APR_OK)
        code = apr_draft_json(f->d, key, json, f->e);
    apr_arena_free(&scratch);
    return code;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------- */

static bool between(struct apr_bytes key, const char *before, const char *after, char *out, size_t room)
{
    const size_t n = strlen(before), tail = strlen(after);
    if (key.n <= n + tail || key.n - n >= room || memcmp(key.at, before, n) != 0 || memcmp(key.at + key.n - tail, after, tail) != 0)
        return false;
    memcpy(out, key.at + n, key.n - n);
    out[key.n - n] = 0;
    return true;
}

/* Ids and flags go by their names in a GGUF without "ggml."; three have one of their own. */
static enum apr_code put_words(const struct flat *f)
{
    static const struct {
        const char *from, *to;
    } names[] = { { "tokenizer.ggml.pre", "tokenizer.pre_type" }, { "tokenizer.ggml.model", "tokenizer.model" },
                  { "tokenizer.chat_template", "tokenizer.chat_template" } };
    for (size_t i = 0; i < f->keys->n; i++) {
        const struct apr_meta_entry *const m = &f->keys->entry[i];
        char word[96], key[128];
        const char *to = NULL;
        for (size_t k = 0; k < APR_LENGTH(names) && m->value.type == APR_META_STRING; k++)
            if (apr_bytes_is(m->key, names[k].from))
                to = names[k].to;
        if (to != NULL)
            APR_TRY(apr_draft_text(f->d, to, m->value.text, f->e));
        if (m->value.type == APR_META_ARRAY || m->value.type == APR_META_STRING)
            continue;
        if (between(m->key, "tokenizer.ggml.", "_token_id", word, sizeof word) ||
            between(m->key, "tokenizer.ggml.add_", "", word, sizeof word)) {
            snprintf(key, sizeof key, "tokenizer.%.*s", (int)(m->key.n - 15), (const char *)m->key.at + 15);
            APR_TRY(apr_draft_put(f->d, apr_text(key), &m->value, f->e));
        }
    }
    return APR_OK;
}

static enum apr_code put_flat(const struct flat *f)
{
    if (f->v->ntoken > 0) {
        APR_TRY(put_list(f, "tokenizer.vocabulary", TEXTS));
        APR_TRY(apr_draft_u32(f->d, "tokenizer.vocab_size", (uint32_t)f->v->size, f->e));
    }
    APR_TRY(put_words(f));
    APR_TRY(put_list(f, "tokenizer.merges", MERGES));
    if (f->scored != NULL && f->scored->has_scores)
        APR_TRY(put_list(f, "tokenizer.scores", SCORES));
    return f->v->has_types || f->v->from == APR_FROM_TOKENIZER_JSON ? put_list(f, "tokenizer.token_type", TYPES) : APR_OK;
}

/* A list of the GGUF element by element, so that it can be made again: numbers of any kind, texts of any bytes that are UTF-8. */
static enum apr_code copy_list(struct apr_draft *d, const char *key, const struct apr_value *list, struct apr_error *e)
{
    struct apr_text_made m;
    struct apr_bytes json;
    struct apr_elements each = apr_elements_of(list);
    struct apr_arena *scratch = NULL;
    enum apr_code code = apr_text_begin(&m, e);
    if (code != APR_OK)
        return code;
    apr_out_open(&m.out, NULL, '[');
    for (struct apr_value v; apr_elements_next(&each, &v);) {
        char spelled[32];
        if (v.type == APR_META_F32 && v.f - v.f == 0)
            apr_out_raw(&m.out, NULL, apr_text(apr_spell_float((float)v.f, spelled)));
        else
            apr_out_value(&m.out, NULL, &v, UINT64_MAX);
    }
    apr_out_close(&m.out, ']');
    const enum apr_code walked = apr_elements_done(&each, APR_OK, e);
    code = apr_text_end(&m, &scratch, &json, e);
    if (code == APR_OK)
        code = walked;
    if (code == APR_OK)
        code = apr_draft_json(d, key, json, e);
    apr_arena_free(&scratch);
    return code;
}

static enum apr_code from_keys(struct apr_draft *d, const struct apr_model *m, struct apr_error *e)
{
    static const struct {
        const char *from, *to;
    } lists[] = { { "tokenizer.ggml.tokens", "tokenizer.vocabulary" }, { "tokenizer.ggml.merges", "tokenizer.merges" },
                  { "tokenizer.ggml.scores", "tokenizer.scores" },     { "tokenizer.ggml.token_type", "tokenizer.token_type" } };
    const struct flat f = { .d = d, .keys = &m->meta, .e = e };
    for (size_t i = 0; i < APR_LENGTH(lists); i++) {
        const struct apr_value *const list = apr_meta_find(&m->meta, lists[i].from);
        if (list == NULL || list->type != APR_META_ARRAY)
            continue;
        APR_TRY(copy_list(d, lists[i].to, list, e));
        if (i == 0)
            APR_TRY(apr_draft_u32(d, "tokenizer.vocab_size", (uint32_t)apr_min(list->n, UINT32_MAX), e));
    }
    return put_words(&f);
}

/* The model's word in tokenizer.json; SentencePiece, which goes by the same word, has that of a GGUF as well. */
static enum apr_code put_model(struct apr_draft *d, const struct apr_tokenizer_files *f, struct apr_error *e)
{
    static const char *const words[] = { "BPE", "BPE", "BPE", "WordPiece", "Unigram" };
    if (f->as >= APR_LENGTH(words))
        return APR_OK;
    if (f->as == APR_SPM_MODEL || f->as == APR_SPM_JSON)
        APR_TRY(apr_draft_text(d, "tokenizer.model", apr_text("llama"), e));
    return apr_draft_text(d, "tokenizer.model_type", apr_text(words[f->as]), e);
}

static enum apr_code from_files(struct apr_draft *d, struct apr_tokenizer *t, struct apr_error *e)
{
    struct apr_tokenizer_files files = { 0 };
    struct apr_draft words = { 0 };
    enum apr_code code = apr_tokenizer_files_read(&files, t, e);
    if (code == APR_OK && files.v != NULL)
        code = apr_gguf_words_of(&words, t, &files, e);
    const struct apr_vocabulary *const v = files.json != NULL ? files.json : files.v;
    const bool same_ids = files.v != NULL && !files.realigned;
    const struct flat f = { d, v, same_ids ? files.v : NULL, &words.meta, e };
    if (code == APR_OK && v != NULL)
        code = apr_tokens_bounded(v, e);
    if (code == APR_OK && v != NULL)
        code = put_model(d, &files, e);
    if (code == APR_OK && v != NULL)
        code = put_flat(&f);
    apr_draft_end(&words);
    apr_tokenizer_files_end(&files);
    return code;
}

/* Has an APR other files by now than those it carries? */
static enum apr_code replaced(const struct apr_tokenizer *t, const struct apr_run *r, bool *yes, struct apr_error *e)
{
    static const char *const names[] = { "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tokenizer_config.json" };
    struct apr_side carried = { 0 };
    const enum apr_code code = apr_side_of(&carried, t->m, r, e);
    *yes = false;
    for (size_t i = 0; i < APR_LENGTH(names) && code == APR_OK; i++)
        *yes = *yes || !apr_bytes_equal(apr_side_get(&carried, names[i]), apr_side_get(t->side, names[i]));
    apr_side_end(&carried);
    return code;
}

enum apr_code apr_tokenizer_to_apr(struct apr_draft *d, struct apr_tokenizer *t, const struct apr_run *r, struct apr_error *e)
{
    const bool apr = !t->m->format->config && !t->m->format->own_names, any = apr_tokenizer_files_any(t->side);
    bool fresh = any;
    if (any && apr)
        APR_TRY(replaced(t, r, &fresh, e));
    if (fresh)
        return from_files(d, t, e);
    if (t->m->format->own_names)
        return from_keys(d, t->m, e);
    for (size_t i = 0; i < t->m->meta.n && !t->m->format->config; i++) {
        const struct apr_meta_entry *const m = &t->m->meta.entry[i];
        if (m->key.n > 10 && memcmp(m->key.at, "tokenizer.", 10) == 0)
            APR_TRY(apr_draft_put(d, m->key, &m->value, e));
    }
    return APR_OK;
}
