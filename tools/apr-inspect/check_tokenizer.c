/* Stage 6: the tokenizer by its own numbers and against the embedding. In a GGUF's or APR file's metadata, or in tokenizer.json. */
#include "check.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "files/source.h"
#include "model/format.h"
#include "model/json.h"
#include "model/meta.h"
#include "model/model.h"

#define MOST_TOKENS ((uint64_t)1 << 22) /* more are not held against each other */
#define MOST_TEXT   1024                /* bytes of a merge's two parts */

typedef unsigned long long ull;

/* Tokens by the hashes of their texts, sorted: two of 64 bits that are equal by chance are less likely than a broken disk.
 *   ntoken  one more than the highest id
 *   rows    of the embedding, 0 when it was not found */
struct vocabulary {
    struct inspection *x;
    struct apr_error  *e;
    uint64_t           ntoken, rows;
    uint64_t          *hash;
    size_t             n;
};

#define SAY(v, severity, code, ...) add_finding(&(v)->x->findings, severity, STAGE_TOKENIZER, code, no_tensor, (v)->e, __VA_ARGS__)

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

/* ---- texts ---------------------------------------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool knows(const struct vocabulary *v, const void *text, size_t n)
{
    const uint64_t hash = XXH3_64bits(text, n);
    return bsearch(&hash, v->hash, v->n, sizeof hash, by_number) != NULL;
}

/* The text of the next token, and its id where the list has them: an array of strings, or of [text, score], or an object. */
static bool next_token(struct apr_elements *w, struct apr_elements *pair, struct apr_bytes *text, uint64_t *id, bool *sound)
{
    struct apr_value one, first;
    if (!apr_elements_next(w, &one))
        return false;
    if (w->array.type == APR_META_OBJECT) {
        *text = w->key;
        *id = one.u;
        *sound = one.type == APR_META_U64;
        return true;
    }
    *sound = one.type == APR_META_STRING;
    *text = one.text;
    if (one.type == APR_META_ARRAY) {
        apr_elements_end(pair);
        *pair = apr_elements_of(&one);
        *sound = apr_elements_next(pair, &first) && first.type == APR_META_STRING;
        *text = first.text;
    }
    return true;
}

/* Names a token that has the hash, from a second walk. */
static enum apr_code add_duplicate(struct vocabulary *v, const struct apr_value *tokens, uint64_t hash, uint64_t count)
{
    struct apr_elements w = apr_elements_of(tokens), pair = { 0 };
    struct apr_bytes text = { 0 };
    uint64_t id;
    bool sound, found = false;
    while (!found && next_token(&w, &pair, &text, &id, &sound))
        found = sound && XXH3_64bits(text.at, text.n) == hash;
    const enum apr_code code = SAY(v, APR_FAULT, "vocab.duplicate", "%llu tokens stand there a second time, one of them is %s", (ull)count,
                                   APR_QUOTED(text));
    apr_elements_end(&w);
    apr_elements_end(&pair);
    return code;
}

static enum apr_code find_duplicates(struct vocabulary *v, const struct apr_value *tokens)
{
    uint64_t again = 0, which = 0;
    if (v->n > 1)
        qsort(v->hash, v->n, sizeof *v->hash, by_number);
    for (size_t i = 1; i < v->n; i++)
        if (v->hash[i] == v->hash[i - 1] && again++ == 0)
            which = v->hash[i];
    return again == 0 ? APR_OK : add_duplicate(v, tokens, which, again);
}

/* Takes the tokens of the list, and looks for twins. */
static enum apr_code take_tokens(struct vocabulary *v, const struct apr_value *tokens)
{
    const uint64_t n = tokens->type == APR_META_ARRAY && tokens->encoding != APR_JSON ? tokens->n : apr_meta_length(tokens);
    struct apr_elements w, pair = { 0 };
    struct apr_bytes text;
    uint64_t bad = 0, number = 0, id;
    bool sound;
    if (n > MOST_TOKENS) {
        v->ntoken = n;
        return SAY(v, APR_WARNING, "vocab.large", "%llu tokens: their texts are not looked at", (ull)n);
    }
    v->hash = malloc((size_t)(n + 1) * sizeof *v->hash);
    if (v->hash == NULL)
        return apr_no_memory(v->e);
    w = apr_elements_of(tokens);
    while (v->n < n && (id = number, next_token(&w, &pair, &text, &id, &sound))) {
        bad += !sound;
        number++;
        v->hash[v->n++] = sound ? XXH3_64bits(text.at, text.n) : number;
        if (sound && id < UINT32_MAX && id >= v->ntoken)
            v->ntoken = id + 1;
    }
    apr_elements_end(&w);
    apr_elements_end(&pair);
    if (bad > 0)
        APR_TRY(SAY(v, APR_FAULT, "vocab.type", "%llu of %llu tokens are no strings with ids", (ull)bad, (ull)n));
    if (number > v->ntoken)
        APR_TRY(SAY(v, APR_FAULT, "vocab.id", "%llu tokens share the ids below %llu", (ull)number, (ull)v->ntoken));
    return find_duplicates(v, tokens);
}

/* ---- merges --------------------------------------------------------------------------------------------------------- */

/* "left right", parted at the first blank from position 1 on, or ["left", "right"]: joined in `both`, its first *left bytes the one.
 * False when it does not parse; *n is 0 when it is too long to be looked at. */
static bool part_merge(const struct apr_value *merge, char both[MOST_TEXT], size_t *left, size_t *n)
{
    struct apr_bytes a = merge->text, b;
    *n = *left = 0;
    if (merge->type == APR_META_ARRAY) {
        struct apr_elements w = apr_elements_of(merge);
        struct apr_value part;
        unsigned count = 0;
        bool sound = true;
        for (; apr_elements_next(&w, &part); count++) {
            sound = sound && part.type == APR_META_STRING && part.text.n > 0 && part.text.n <= MOST_TEXT - *n;
            if (sound)
                memcpy(both + *n, part.text.at, part.text.n);
            *n += sound ? part.text.n : 0;
            *left = count == 0 ? *n : *left;
        }
        apr_elements_end(&w);
        return sound && count == 2;
    }
    const unsigned char *blank = merge->type != APR_META_STRING || a.n < 3 ? NULL : memchr(a.at + 1, ' ', a.n - 1);
    if (blank == NULL || blank == a.at + a.n - 1)
        return false;
    b = (struct apr_bytes){ blank + 1, (size_t)(a.at + a.n - blank) - 1 };
    a.n = (size_t)(blank - a.at);
    if (a.n + b.n > MOST_TEXT)
        return true;
    memcpy(both, a.at, a.n);
    memcpy(both + a.n, b.at, b.n);
    *left = a.n;
    *n = a.n + b.n;
    return true;
}

static enum apr_code check_merges(struct vocabulary *v, const struct apr_value *merges)
{
    struct apr_elements w = apr_elements_of(merges);
    struct apr_value merge;
    struct apr_quoted bad_text = { "" }, strange_text = { "" };
    uint64_t n = 0, bad = 0, strange = 0;
    char both[MOST_TEXT];
    size_t left, all;
    for (; apr_elements_next(&w, &merge); n++) {
        if (!part_merge(&merge, both, &left, &all)) {
            if (bad++ == 0)
                apr_quote(&bad_text, merge.text);
        } else if (all > 0 && v->n > 0 && !(knows(v, both, left) && knows(v, both + left, all - left) && knows(v, both, all))) {
            if (strange++ == 0)
                apr_quote(&strange_text, merge.text);
        }
    }
    apr_elements_end(&w);
    if (bad > 0)
        APR_TRY(SAY(v, APR_FAULT, "vocab.merge", "%llu of %llu merges are not two parts with a blank between, the first is %s", (ull)bad,
                    (ull)n, bad_text.text));
    if (strange > 0)
        APR_TRY(SAY(v, APR_WARNING, "vocab.merge_unknown",
                    "%llu of %llu merges are of tokens that are not in the vocabulary, the first is %s", (ull)strange, (ull)n,
                    strange_text.text));
    return APR_OK;
}

/* ---- in metadata ---------------------------------------------------------------------------------------------------- */

static const struct apr_value *find(const struct vocabulary *v, const char *prefix, const char *key)
{
    char name[128];
    snprintf(name, sizeof name, "%s%s", prefix, key);
    const struct apr_value *value = apr_meta_find(&v->x->m->meta, name);
    return value == NULL || value->type == APR_META_NULL ? NULL : value;
}

/* One entry for each token, or more. */
static enum apr_code check_list(struct vocabulary *v, const char *prefix, const char *key, enum apr_meta_type element)
{
    const struct apr_value *list = find(v, prefix, key);
    if (list == NULL)
        return APR_OK;
    if (list->type != APR_META_ARRAY || (list->encoding != APR_JSON && list->element != element))
        return SAY(v, APR_FAULT, "vocab.type", "%s%s is of type %s of %s, expected arr of %s", prefix, key, apr_meta_type_word(list->type),
                   apr_meta_type_word(list->element), apr_meta_type_word(element));
    const uint64_t n = list->encoding == APR_JSON ? apr_meta_length(list) : list->n;
    if (n != v->ntoken)
        return SAY(v, n < v->ntoken ? APR_FAULT : APR_WARNING, "vocab.length", "%s%s has %llu entries, for %llu tokens", prefix, key,
                   (ull)n, (ull)v->ntoken);
    return APR_OK;
}

static bool ends_in(struct apr_bytes s, const char *end)
{
    const size_t n = strlen(end);
    return s.n >= n && memcmp(s.at + s.n - n, end, n) == 0;
}

static enum apr_code check_ids(struct vocabulary *v, const char *prefix)
{
    const size_t n = strlen(prefix);
    for (size_t i = 0; i < v->x->m->meta.n; i++) {
        const struct apr_meta_entry *m = &v->x->m->meta.entry[i];
        if (m->key.n < n || memcmp(m->key.at, prefix, n) != 0 || !ends_in(m->key, "_token_id") || m->value.type == APR_META_NULL)
            continue;
        const bool integer = m->value.type == (m->value.encoding == APR_JSON ? APR_META_U64 : APR_META_U32);
        if (!integer)
            APR_TRY(SAY(v, APR_FAULT, "vocab.type", "%s is of type %s, expected u32", APR_QUOTED(m->key),
                        apr_meta_type_word(m->value.type)));
        else if (m->value.u >= v->ntoken)
            APR_TRY(SAY(v, APR_FAULT, "vocab.special", "%s is %llu, there are %llu tokens", APR_QUOTED(m->key), (ull)m->value.u,
                        (ull)v->ntoken));
    }
    return APR_OK;
}

/* llama.cpp wants as many tokens as rows; elsewhere rows may be more, as padding. */
static enum apr_code check_rows(struct vocabulary *v, bool exact)
{
    if (v->rows == 0 || v->rows == v->ntoken)
        return APR_OK;
    const bool fault = exact || v->ntoken > v->rows;
    return SAY(v, fault ? APR_FAULT : APR_INFO, "vocab.size", "%llu tokens, the embedding has %llu rows", (ull)v->ntoken, (ull)v->rows);
}

static enum apr_code check_keys(struct vocabulary *v, bool gguf)
{
    const char *prefix = gguf ? "tokenizer.ggml." : "tokenizer.";
    const struct apr_value *tokens = find(v, prefix, gguf ? "tokens" : "vocabulary"), *merges = find(v, prefix, "merges");
    const struct apr_bytes model = apr_meta_string(&v->x->m->meta, "tokenizer.ggml.model");
    if (gguf && (apr_bytes_is(model, "none") || apr_bytes_is(model, "no_vocab")))
        return APR_OK;
    if (tokens == NULL && v->x->family == NULL && model.n == 0)
        return APR_OK;
    if (tokens == NULL)
        return SAY(v, gguf && model.n > 0 ? APR_FAULT : gguf ? APR_WARNING : APR_INFO, "vocab.absent", "there is no %s%s", prefix,
                   gguf ? "tokens" : "vocabulary");
    if (tokens->type != APR_META_ARRAY || (gguf && tokens->element != APR_META_STRING))
        return SAY(v, APR_FAULT, "vocab.type", "%s%s is no array of strings", prefix, gguf ? "tokens" : "vocabulary");
    APR_TRY(take_tokens(v, tokens));
    APR_TRY(check_rows(v, gguf));
    APR_TRY(check_list(v, prefix, "scores", APR_META_F32));
    APR_TRY(check_list(v, prefix, "token_type", APR_META_I32));
    APR_TRY(check_ids(v, prefix));
    if (merges == NULL && gguf && apr_bytes_is(model, "gpt2"))
        return SAY(v, APR_FAULT, "vocab.merges_absent", "there is no %smerges, which a tokenizer of model gpt2 needs", prefix);
    if (merges == NULL)
        return APR_OK;
    if (merges->type != APR_META_ARRAY)
        return SAY(v, APR_FAULT, "vocab.type", "%smerges is no array of strings", prefix);
    return check_merges(v, merges);
}

/* ---- in a folder ---------------------------------------------------------------------------------------------------- */

/* The member of that name, as metadata; false when there is none. Only strings need the walk that found them, and none is asked for. */
static bool find_member(const struct apr_value *object, const char *key, struct apr_value *value)
{
    struct apr_elements w = apr_elements_of(object);
    bool found = false;
    while (object->type == APR_META_OBJECT && !found && apr_elements_next(&w, value))
        found = apr_bytes_equal(w.key, apr_text(key));
    apr_elements_end(&w);
    return found;
}

static void take_added(struct vocabulary *v, const struct apr_value *added)
{
    struct apr_elements w = apr_elements_of(added);
    struct apr_value token, id;
    while (apr_elements_next(&w, &token))
        if (find_member(&token, "id", &id) && id.type == APR_META_U64 && id.u < UINT32_MAX && id.u >= v->ntoken)
            v->ntoken = id.u + 1;
    apr_elements_end(&w);
}

static enum apr_code check_tokenizer_json(struct vocabulary *v, struct apr_bytes text)
{
    const struct apr_value whole = { .type = APR_META_OBJECT, .encoding = APR_JSON, .text = text };
    struct apr_value model, tokens, list;
    if (!find_member(&whole, "model", &model) || !find_member(&model, "vocab", &tokens) ||
        (tokens.type != APR_META_OBJECT && tokens.type != APR_META_ARRAY))
        return SAY(v, APR_FAULT, "vocab.absent", "tokenizer.json has no model.vocab");
    APR_TRY(take_tokens(v, &tokens));
    if (find_member(&whole, "added_tokens", &list) && list.type == APR_META_ARRAY)
        take_added(v, &list);
    APR_TRY(check_rows(v, false));
    return find_member(&model, "merges", &list) && list.type == APR_META_ARRAY ? check_merges(v, &list) : APR_OK;
}

/* Opens a JSON object beside the model; *s is NULL when there is none, or it is broken, which is told. */
static enum apr_code open_json(struct vocabulary *v, const char *name, uint64_t most, struct apr_source **s)
{
    struct apr_error why;
    enum apr_code code = open_beside(v->x, name, most, s, v->e);
    if (code == APR_EIO || code == APR_ELIMIT)
        return SAY(v, APR_FAULT, "vocab.unreadable", "%s: %s", name, v->e->text);
    if (*s == NULL)
        return code;
    code = apr_json_check((*s)->map, 0, &why);
    if (code == APR_OK && (*s)->map.at[strspn((const char *)(*s)->map.at, " \t\r\n")] == '{')
        return APR_OK;
    if (code == APR_ENOMEM)
        *v->e = why;
    else if (code == APR_OK)
        code = SAY(v, APR_FAULT, "vocab.syntax", "%s is no JSON object", name);
    else
        code = SAY(v, APR_FAULT, "vocab.syntax", "%s: %s", name, why.text);
    apr_source_close(*s);
    *s = NULL;
    return code;
}

static enum apr_code check_config_ids(struct vocabulary *v)
{
    static const char *const key[] = { "bos_token_id", "eos_token_id", "eos_token_id.0", "pad_token_id" };
    for (size_t i = 0; i < APR_LENGTH(key); i++) {
        double id;
        if (v->rows > 0 && apr_hf_config_number(v->x->config, apr_text(key[i]), &id) && id >= (double)v->rows)
            APR_TRY(SAY(v, APR_FAULT, "vocab.special", "config.json: %s is %.0f, the embedding has %llu rows", key[i], id, (ull)v->rows));
    }
    return APR_OK;
}

static enum apr_code check_folder(struct vocabulary *v)
{
    struct apr_source *s;
    enum apr_code code = open_json(v, "tokenizer.json", APR_MOST_TOKENIZER, &s);
    if (code == APR_OK && s != NULL)
        code = check_tokenizer_json(v, s->map);
    apr_source_close(s);
    if (code != APR_OK)
        return code;
    code = open_json(v, "tokenizer_config.json", APR_MOST_CONFIG, &s);
    apr_source_close(s);
    return code == APR_OK ? check_config_ids(v) : code;
}

enum apr_code check_tokenizer(struct inspection *x, struct apr_error *e)
{
    struct vocabulary v = { .x = x, .e = e, .rows = embedding_rows(x) };
    enum apr_code code = APR_OK;
    if (!has_weights(x->m))
        return APR_OK;
    if (x->m->format->config)
        code = check_folder(&v);
    else
        code = check_keys(&v, strcmp(x->m->format->name, "gguf") == 0);
    free(v.hash);
    return code;
}
