/* The tokenizer: from GGUF or APR metadata, or from tokenizer.json and its neighbours in a checkpoint's folder. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer.h"

#include "check.h"
#include "files/source.h"
#include "model/format.h"
#include "model/json.h"
#include "model/meta.h"
#include "model/model.h"

/* ---- JSON values ---------------------------------------------------------------------------------------------------- */

/* A string may stand in a walk's scratch: this one stays. */
static enum apr_code keep(const struct tokenizer *k, struct apr_bytes s, struct apr_bytes *out, struct apr_error *e)
{
    unsigned char *copy = apr_arena_alloc(&k->m->arena, s.n + 1);
    if (copy == NULL)
        return apr_no_memory(e);
    if (s.n > 0)
        memcpy(copy, s.at, s.n);
    *out = (struct apr_bytes){ copy, s.n };
    return APR_OK;
}

/* A member of an object; type APR_META_ANY when there is none. */
static enum apr_code member(const struct tokenizer *k, const struct apr_value *object, const char *key, struct apr_value *v,
                            struct apr_error *e)
{
    enum apr_code code = APR_OK;
    struct apr_elements w = apr_elements_of(object);
    bool found = false;
    if (object->type == APR_META_OBJECT)
        while (!found && apr_elements_next(&w, v))
            found = apr_bytes_equal(w.key, apr_text(key));
    if (!found)
        *v = (struct apr_value){ .type = APR_META_ANY };
    else if (v->type == APR_META_STRING)
        code = keep(k, v->text, &v->text, e);
    apr_elements_end(&w);
    return code;
}

static enum apr_code string_member(const struct tokenizer *k, const struct apr_value *object, const char *key, struct apr_bytes *s,
                                   struct apr_error *e)
{
    struct apr_value v;
    APR_TRY(member(k, object, key, &v, e));
    if (v.type == APR_META_STRING)
        *s = v.text;
    return APR_OK;
}

/* ---- tokens --------------------------------------------------------------------------------------------------------- */

static void add_special(struct tokenizer *k, uint64_t id, struct apr_bytes text, struct apr_bytes role, bool known)
{
    if (k->nspecial < MOST_SPECIAL)
        k->special[k->nspecial++] = (struct token){ id, text, role, known };
}

/* Tokens come in any order; their number is known. */
static enum apr_code meet(struct tokenizer *k, uint64_t id, struct apr_bytes text, struct apr_error *e)
{
    const uint64_t from_end = k->size - id;
    struct apr_bytes kept = { 0 };
    bool wanted = id < ENDS || (id < k->size && from_end <= ENDS);
    for (size_t i = 0; i < k->nspecial; i++)
        wanted |= k->special[i].id == id && !k->special[i].known;
    if (!wanted)
        return APR_OK;
    APR_TRY(keep(k, text, &kept, e));
    for (size_t i = 0; i < k->nspecial; i++)
        if (k->special[i].id == id && !k->special[i].known) {
            k->special[i].text = kept;
            k->special[i].known = true;
        }
    if (id < ENDS)
        k->first[id] = (struct token){ id, kept, { 0 }, true };
    if (id < k->size && from_end <= ENDS)
        k->last[ENDS - from_end] = (struct token){ id, kept, { 0 }, true };
    return APR_OK;
}

/* ---- GGUF and APR metadata ------------------------------------------------------------------------------------------ */

static const struct apr_value *find_array(const struct apr_meta *meta, const char *gguf, const char *apr)
{
    const struct apr_value *v = apr_meta_find(meta, gguf);
    if (v == NULL)
        v = apr_meta_find(meta, apr);
    return v != NULL && v->type == APR_META_ARRAY ? v : NULL;
}

/* "tokenizer.ggml.bos_token_id" -> "bos" */
static struct apr_bytes role_of(struct apr_bytes key)
{
    static const char *const before[] = { "tokenizer.ggml.", "tokenizer." }, after[] = "_token_id";
    const size_t tail = sizeof after - 1;
    for (size_t i = 0; i < APR_LENGTH(before); i++) {
        const size_t n = strlen(before[i]);
        if (key.n > n + tail && memcmp(key.at, before[i], n) == 0 && memcmp(key.at + key.n - tail, after, tail) == 0)
            return (struct apr_bytes){ key.at + n, key.n - n - tail };
    }
    return (struct apr_bytes){ 0 };
}

static void take_roles(struct tokenizer *k, const struct apr_meta *meta)
{
    for (size_t i = 0; i < meta->n; i++) {
        const struct apr_bytes role = role_of(meta->entry[i].key);
        const struct apr_value *v = &meta->entry[i].value;
        const bool whole = v->type == APR_META_U32 || v->type == APR_META_U64 || (v->type == APR_META_I32 && v->i >= 0);
        if (role.n > 0 && whole)
            add_special(k, v->u, (struct apr_bytes){ 0 }, role, false);
    }
}

static bool has_special(const struct tokenizer *k, uint64_t id)
{
    for (size_t i = 0; i < k->nspecial; i++)
        if (k->special[i].id == id)
            return true;
    return false;
}

/* Type 3 is a control token, in GGUF and in what APR took from it. */
static void take_control(struct tokenizer *k, const struct apr_value *types)
{
    struct apr_elements w = apr_elements_of(types);
    struct apr_value v;
    for (uint64_t id = 0; apr_elements_next(&w, &v); id++) {
        if ((v.type != APR_META_I32 && v.type != APR_META_U32 && v.type != APR_META_U64) || v.u != 3)
            continue;
        k->control++;
        if (!has_special(k, id))
            add_special(k, id, (struct apr_bytes){ 0 }, (struct apr_bytes){ 0 }, false);
    }
    apr_elements_end(&w);
}

static enum apr_code from_metadata(struct tokenizer *k, struct apr_error *e)
{
    const struct apr_meta *meta = &k->m->meta;
    const struct apr_value *tokens = find_array(meta, "tokenizer.ggml.tokens", "tokenizer.vocabulary");
    const struct apr_value *merges = find_array(meta, "tokenizer.ggml.merges", "tokenizer.merges");
    const struct apr_value *types = find_array(meta, "tokenizer.ggml.token_type", "tokenizer.token_type");
    const char *const models[] = { "tokenizer.ggml.model", "tokenizer.model", "tokenizer.model_type" };
    const char *const pres[] = { "tokenizer.ggml.pre", "tokenizer.pre_type" };
    for (size_t i = 0; i < APR_LENGTH(models) && k->model.n == 0; i++)
        k->model = apr_meta_string(meta, models[i]);
    for (size_t i = 0; i < APR_LENGTH(pres) && k->pre.n == 0; i++)
        k->pre = apr_meta_string(meta, pres[i]);
    k->chat_template = apr_meta_string(meta, "tokenizer.chat_template");
    k->found = tokens != NULL || k->model.n > 0 || k->chat_template.n > 0;
    if (merges != NULL)
        k->merges = apr_meta_length(merges);
    take_roles(k, meta);
    if (types != NULL)
        take_control(k, types);
    if (tokens == NULL)
        return APR_OK;
    k->size = apr_meta_length(tokens);
    struct apr_elements w = apr_elements_of(tokens);
    struct apr_value v;
    enum apr_code code = APR_OK;
    for (uint64_t id = 0; code == APR_OK && apr_elements_next(&w, &v); id++)
        if (v.type == APR_META_STRING)
            code = meet(k, id, v.text, e);
    apr_elements_end(&w);
    return code;
}

/* ---- tokenizer.json ------------------------------------------------------------------------------------------------- */

/* The whole file as a value; type APR_META_ANY when there is none. */
static enum apr_code load(const struct tokenizer *k, enum file which, struct apr_value *v, struct apr_error *e)
{
    *v = (struct apr_value){ .type = APR_META_ANY };
    if (k->file[which] == NULL)
        return APR_OK;
    struct apr_bytes text = k->file[which]->map;
    size_t space = 0;
    while (space < text.n && strchr(" \t\r\n", text.at[space]) != NULL && text.at[space] != 0)
        space++;
    text = (struct apr_bytes){ text.at + space, text.n - space };
    const enum apr_code code = apr_json_value(k->m, text, space, v, e);
    if (code != APR_OK)
        apr_error_in(e, k->file[which]->path);
    return code;
}

/* The first time round tokens are counted, the second time looked at. */
static enum apr_code see(struct tokenizer *k, uint64_t id, struct apr_bytes text, bool counting, struct apr_error *e)
{
    if (!counting)
        return meet(k, id, text, e);
    k->size = id + 1 > k->size ? id + 1 : k->size;
    return APR_OK;
}

/* {"token": id, ...} */
static enum apr_code walk_words(struct tokenizer *k, const struct apr_value *vocabulary, bool counting, struct apr_error *e)
{
    struct apr_elements w = apr_elements_of(vocabulary);
    struct apr_value id;
    enum apr_code code = APR_OK;
    while (code == APR_OK && apr_elements_next(&w, &id))
        if (id.type == APR_META_U64 && id.u < UINT64_MAX)
            code = see(k, id.u, w.key, counting, e);
    apr_elements_end(&w);
    return code;
}

/* [["token", score], ...] by id */
static enum apr_code walk_scores(struct tokenizer *k, const struct apr_value *vocabulary, bool counting, struct apr_error *e)
{
    struct apr_elements w = apr_elements_of(vocabulary);
    struct apr_value pair, text;
    enum apr_code code = APR_OK;
    for (uint64_t id = 0; code == APR_OK && apr_elements_next(&w, &pair); id++) {
        struct apr_elements inner = apr_elements_of(&pair);
        if (pair.type == APR_META_ARRAY && apr_elements_next(&inner, &text) && text.type == APR_META_STRING)
            code = see(k, id, text.text, counting, e);
        apr_elements_end(&inner);
    }
    apr_elements_end(&w);
    return code;
}

/* [{"id": 0, "content": "<s>", "special": true}, ...] */
static enum apr_code walk_added(struct tokenizer *k, const struct apr_value *added, bool counting, struct apr_error *e)
{
    struct apr_elements w = apr_elements_of(added);
    struct apr_value v, id, content, special;
    enum apr_code code = APR_OK;
    while (added->type == APR_META_ARRAY && code == APR_OK && apr_elements_next(&w, &v)) {
        code = member(k, &v, "id", &id, e);
        if (code == APR_OK)
            code = member(k, &v, "content", &content, e);
        if (code == APR_OK)
            code = member(k, &v, "special", &special, e);
        if (code != APR_OK || id.type != APR_META_U64 || id.u == UINT64_MAX || content.type != APR_META_STRING)
            continue;
        code = see(k, id.u, content.text, counting, e);
        if (counting && special.type == APR_META_BOOL && special.b) {
            k->control++;
            add_special(k, id.u, content.text, (struct apr_bytes){ 0 }, true);
        }
    }
    apr_elements_end(&w);
    return code;
}

/* tokenizer_config.json: "bos_token": "<s>", or {"content": "<s>", ...}. */
static enum apr_code name_roles(struct tokenizer *k, const struct apr_value *config, struct apr_error *e)
{
    static const char *const role[] = { "bos", "eos", "unk", "pad", "cls", "sep", "mask" };
    for (size_t i = 0; i < APR_LENGTH(role); i++) {
        char key[16];
        struct apr_value v;
        struct apr_bytes text = { 0 };
        snprintf(key, sizeof key, "%s_token", role[i]);
        APR_TRY(member(k, config, key, &v, e));
        if (v.type == APR_META_STRING)
            text = v.text;
        else
            APR_TRY(string_member(k, &v, "content", &text, e));
        for (size_t s = 0; text.n > 0 && s < k->nspecial; s++)
            if (apr_bytes_equal(k->special[s].text, text)) {
                const struct token same = k->special[s];
                if (same.role.n == 0)
                    k->special[s].role = apr_text(role[i]);
                else
                    add_special(k, same.id, same.text, apr_text(role[i]), true);
                break;
            }
    }
    return APR_OK;
}

static enum apr_code from_folder(struct tokenizer *k, const struct inspection *x, struct apr_error *e)
{
    struct apr_value top, config, model, vocabulary, added, merges, pre;
    APR_TRY(open_beside(x, "tokenizer.json", APR_MOST_TOKENIZER, &k->file[TOKENIZER], e));
    APR_TRY(open_beside(x, "tokenizer_config.json", APR_MOST_CONFIG, &k->file[CONFIG], e));
    APR_TRY(open_beside(x, "chat_template.jinja", APR_MOST_CONFIG, &k->file[TEMPLATE], e));
    APR_TRY(load(k, TOKENIZER, &top, e));
    APR_TRY(load(k, CONFIG, &config, e));
    k->found = top.type == APR_META_OBJECT || config.type == APR_META_OBJECT;
    APR_TRY(member(k, &top, "model", &model, e));
    APR_TRY(member(k, &top, "added_tokens", &added, e));
    APR_TRY(member(k, &top, "pre_tokenizer", &pre, e));
    APR_TRY(member(k, &model, "vocab", &vocabulary, e));
    APR_TRY(member(k, &model, "merges", &merges, e));
    APR_TRY(string_member(k, &model, "type", &k->model, e));
    APR_TRY(string_member(k, &pre, "type", &k->pre, e));
    APR_TRY(string_member(k, &config, "chat_template", &k->chat_template, e));
    if (k->file[TEMPLATE] != NULL)
        k->chat_template = k->file[TEMPLATE]->map;
    if (merges.type == APR_META_ARRAY)
        k->merges = apr_meta_length(&merges);
    for (int counting = 1; counting >= 0; counting--) {
        APR_TRY(walk_added(k, &added, counting, e));
        if (vocabulary.type == APR_META_OBJECT)
            APR_TRY(walk_words(k, &vocabulary, counting, e));
        else if (vocabulary.type == APR_META_ARRAY)
            APR_TRY(walk_scores(k, &vocabulary, counting, e));
    }
    return name_roles(k, &config, e);
}

/* ---- both ----------------------------------------------------------------------------------------------------------- */

static int by_id(const void *a, const void *b)
{
    const struct token *x = a, *y = b;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return apr_bytes_compare(x->role, y->role);
}

enum apr_code read_tokenizer(struct tokenizer *k, const struct inspection *x, struct apr_error *e)
{
    *k = (struct tokenizer){ .m = x->m };
    APR_TRY(x->m->format->config && strcmp(x->path, "-") != 0 ? from_folder(k, x, e) : from_metadata(k, e));
    qsort(k->special, k->nspecial, sizeof *k->special, by_id);
    return APR_OK;
}

void end_tokenizer(struct tokenizer *k)
{
    for (size_t i = 0; i < NFILES; i++)
        apr_source_close(k->file[i]);
}
