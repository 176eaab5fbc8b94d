/* Stage 6: the tokenizer by its own numbers and against the embedding. */
#include "check.h"

#include <string.h>

#include "model/format.h"
#include "model/meta.h"
#include "model/model.h"
#include "token/vocabulary.h"

typedef unsigned long long ull;

/* rows: of the embedding, 0 when it was not found */
struct stage {
    struct inspection    *x;
    struct apr_error     *e;
    struct apr_vocabulary v;
    uint64_t              rows;
};

#define SAY(s, code, ...)              add_finding(&(s)->x->findings, code, no_tensor, (s)->e, __VA_ARGS__)
#define SAY_AS(s, severity, code, ...) add_finding_as(&(s)->x->findings, severity, code, no_tensor, (s)->e, __VA_ARGS__)

static uint64_t embedding_rows(const struct inspection *x)
{
    static const char *const known[] = { "token_embd.weight", "model.embed_tokens.weight" };
    const struct apr_role *role = x->family == NULL ? NULL : apr_family_role(x->family, apr_text("token_embd"));
    const struct apr_tensor *t = NULL;
    if (x->binding != NULL && role != NULL && apr_binding_parts(x->binding, role, 0, &t, 1) != 1)
        t = NULL;
    for (size_t i = 0; i < APR_LENGTH(known) && t == NULL; i++)
        t = apr_model_find(x->m, apr_text(known[i]));
    return t == NULL || t->ndim != 2 ? 0 : t->dim[0];
}

/* ---- any vocabulary -------------------------------------------------------------------------------------------------- */

static enum apr_code check_tokens(struct stage *s)
{
    const struct apr_vocabulary_faults *f = &s->v.faults;
    if (f->unreadable > 0)
        APR_TRY(SAY(s, "vocab.type", "%llu of %llu tokens are no strings with ids", (ull)f->unreadable, (ull)f->listed));
    if (f->shared > 0)
        APR_TRY(SAY(s, "vocab.id", "%llu of %llu tokens have an id that a later one has too", (ull)f->shared, (ull)f->listed));
    APR_TRY(apr_vocabulary_index(&s->v, s->e));
    if (f->again > 0)
        return SAY(s, "vocab.duplicate", "%llu tokens stand there a second time, one of them is %s", (ull)f->again,
                   APR_QUOTED(f->again_text));
    return APR_OK;
}

/* llama.cpp wants as many tokens as rows; elsewhere rows may be more, as padding. */
static enum apr_code check_rows(struct stage *s, bool exact)
{
    if (s->rows == 0 || s->rows == s->v.size)
        return APR_OK;
    const bool fault = exact || s->v.size > s->rows;
    return SAY_AS(s, fault ? APR_FAULT : APR_INFO, "vocab.size", "%llu tokens, the embedding has %llu rows", (ull)s->v.size, (ull)s->rows);
}

static bool is_known(struct apr_vocabulary *v, const struct apr_merge *m)
{
    return apr_vocabulary_find(v, m->left) != NULL && apr_vocabulary_find(v, m->right) != NULL && apr_vocabulary_join(v, m) != NULL;
}

/* "left right", as far as it can be shown. */
static const char *quote_merge(struct apr_quoted *q, const struct apr_merge *m)
{
    unsigned char both[2 * sizeof q->text + 1];
    const size_t left = (size_t)apr_min(m->left.n, sizeof q->text), right = (size_t)apr_min(m->right.n, sizeof q->text);
    memcpy(both, m->left.at, left);
    both[left] = ' ';
    memcpy(both + left + 1, m->right.at, right);
    return apr_quote(q, (struct apr_bytes){ both, left + 1 + right });
}

static enum apr_code check_merges(struct stage *s)
{
    struct apr_vocabulary *v = &s->v;
    const ull n = v->nmerge + v->faults.bad_merges;
    uint64_t strange = 0;
    size_t first = 0;
    if (v->faults.bad_merges > 0)
        APR_TRY(SAY(s, "vocab.merge", "%llu of %llu merges are not two parts with a blank between, the first is %s",
                    (ull)v->faults.bad_merges, n, APR_QUOTED(v->faults.bad_merge)));
    for (size_t i = v->ntoken == 0 ? 0 : v->nmerge; i-- > 0;)
        if (!is_known(v, &v->merge[i])) {
            strange++;
            first = i;
        }
    if (strange == 0)
        return APR_OK;
    struct apr_quoted merge;
    return SAY(s, "vocab.merge_unknown", "%llu of %llu merges are of tokens that are not in the vocabulary, the first is %s",
               (ull)strange, n, quote_merge(&merge, &v->merge[first]));
}

/* ---- in metadata ---------------------------------------------------------------------------------------------------- */

static const struct apr_value *find(const struct stage *s, const char *prefix, const char *key)
{
    char name[128];
    snprintf(name, sizeof name, "%s%s", prefix, key);
    const struct apr_value *value = apr_meta_find(&s->x->m->meta, name);
    return value == NULL || value->type == APR_META_NULL ? NULL : value;
}

/* One entry for each token, or more. */
static enum apr_code check_list(struct stage *s, const char *prefix, const char *key, enum apr_meta_type element)
{
    const struct apr_value *list = find(s, prefix, key);
    if (list == NULL)
        return APR_OK;
    if (list->type != APR_META_ARRAY || (list->encoding != APR_JSON && list->element != element))
        return SAY(s, "vocab.type", "%s%s is of type %s of %s, expected arr of %s", prefix, key, apr_meta_type_word(list->type),
                   apr_meta_type_word(list->element), apr_meta_type_word(element));
    const uint64_t n = list->encoding == APR_JSON ? apr_meta_length(list) : list->n;
    if (n != s->v.size)
        return SAY_AS(s, n < s->v.size ? APR_FAULT : APR_WARNING, "vocab.length", "%s%s has %llu entries, for %llu tokens", prefix, key,
                   (ull)n, (ull)s->v.size);
    return APR_OK;
}

static enum apr_code check_ids(struct stage *s, const char *prefix)
{
    const size_t n = strlen(prefix);
    for (size_t i = 0; i < s->x->m->meta.n; i++) {
        const struct apr_meta_entry *m = &s->x->m->meta.entry[i];
        if (m->key.n < n || memcmp(m->key.at, prefix, n) != 0 || !apr_bytes_end(m->key, apr_text("_token_id")) ||
            m->value.type == APR_META_NULL)
            continue;
        const bool integer = m->value.type == (m->value.encoding == APR_JSON ? APR_META_U64 : APR_META_U32);
        if (!integer)
            APR_TRY(SAY(s, "vocab.type", "%s is of type %s, expected u32", APR_QUOTED(m->key),
                        apr_meta_type_word(m->value.type)));
        else if (m->value.u >= s->v.size)
            APR_TRY(SAY(s, "vocab.special", "%s is %llu, there are %llu tokens", APR_QUOTED(m->key), (ull)m->value.u,
                        (ull)s->v.size));
    }
    return APR_OK;
}

static enum apr_code check_keys(struct stage *s, bool gguf)
{
    const char *prefix = gguf ? "tokenizer.ggml." : "tokenizer.";
    const struct apr_value *tokens = find(s, prefix, gguf ? "tokens" : "vocabulary"), *merges = find(s, prefix, "merges");
    const struct apr_bytes model = apr_meta_string(&s->x->m->meta, "tokenizer.ggml.model");
    if (gguf && (apr_bytes_is(model, "none") || apr_bytes_is(model, "no_vocab")))
        return APR_OK;
    if (tokens == NULL && s->x->family == NULL && model.n == 0)
        return APR_OK;
    if (tokens == NULL)
        return SAY_AS(s, gguf && model.n > 0 ? APR_FAULT : gguf ? APR_WARNING : APR_INFO, "vocab.absent", "there is no %s%s", prefix,
                   gguf ? "tokens" : "vocabulary");
    if (tokens->type != APR_META_ARRAY || (gguf && tokens->element != APR_META_STRING))
        return SAY(s, "vocab.type", "%s%s is no array of strings", prefix, gguf ? "tokens" : "vocabulary");
    APR_TRY(check_tokens(s));
    APR_TRY(check_rows(s, gguf));
    APR_TRY(check_list(s, prefix, "scores", APR_META_F32));
    APR_TRY(check_list(s, prefix, "token_type", APR_META_I32));
    APR_TRY(check_ids(s, prefix));
    if (merges == NULL && gguf && apr_bytes_is(model, "gpt2"))
        return SAY(s, "vocab.merges_absent", "there is no %smerges, which a tokenizer of model gpt2 needs", prefix);
    if (merges != NULL && merges->type != APR_META_ARRAY)
        return SAY(s, "vocab.type", "%smerges is no array of strings", prefix);
    return check_merges(s);
}

/* ---- in a folder ---------------------------------------------------------------------------------------------------- */

static enum apr_code check_config_ids(struct stage *s)
{
    static const char *const key[] = { "bos_token_id", "eos_token_id", "eos_token_id.0", "pad_token_id" };
    for (size_t i = 0; i < APR_LENGTH(key); i++) {
        double id;
        if (s->rows > 0 && apr_hf_config_number(s->x->config, apr_text(key[i]), &id) && id >= (double)s->rows)
            APR_TRY(SAY(s, "vocab.special", "config.json: %s is %.0f, the embedding has %llu rows", key[i], id, (ull)s->rows));
    }
    return APR_OK;
}

static enum apr_code check_folder(struct stage *s)
{
    if (s->v.from == APR_FROM_TOKENIZER_JSON && s->v.found && s->v.faults.listed == 0)
        APR_TRY(SAY(s, "vocab.absent", "tokenizer.json has no model.vocab"));
    if (s->v.ntoken > 0) {
        APR_TRY(check_tokens(s));
        APR_TRY(check_rows(s, false));
        APR_TRY(check_merges(s));
    }
    return check_config_ids(s);
}

/* What is wrong with a file is a finding, and what was read before that file is looked at. */
static enum apr_code check_read(struct stage *s)
{
    const struct apr_model *m = s->x->m;
    const enum apr_code code = apr_vocabulary_read(&s->v, m, &s->x->o->cli.run, s->e);
    if (code != APR_OK && s->e->finding == NULL)
        return code;
    if (code != APR_OK) {
        const struct apr_error why = *s->e;
        APR_TRY(finding_of_error(&s->x->findings, &why, s->e));
    }
    if (m->format->config)
        return check_folder(s);
    return code == APR_OK ? check_keys(s, m->format->own_names) : APR_OK;
}

enum apr_code check_tokenizer(struct inspection *x, struct apr_error *e)
{
    struct stage s = { .x = x, .e = e, .rows = embedding_rows(x) };
    const enum apr_code code = has_weights(x) && x->kind != APR_KIND_ADAPTER ? check_read(&s) : APR_OK;
    apr_vocabulary_end(&s.v);
    return code;
}
