#include "model/hf_config.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "files/source.h"
#include "model/json.h"
#include "model/side.h"

struct apr_hf_config {
    json_t *top, *inner;
};

/* Copies JSON into out (4/3 of its size at most) with the bare NaN and Infinity that Python writes as null; returns the length. */
static size_t mend(char *out, struct apr_bytes text)
{
    static const char *const word[] = { "-Infinity", "Infinity", "NaN" };
    bool string = false;
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++) {
        size_t k = string ? APR_LENGTH(word) : 0;
        while (k < APR_LENGTH(word) && (strlen(word[k]) > text.n - i || memcmp(text.at + i, word[k], strlen(word[k])) != 0))
            k++;
        if (k < APR_LENGTH(word)) {
            memcpy(out + n, "null", 4);
            n += 4;
            i += strlen(word[k]) - 1;
            continue;
        }
        if (text.at[i] == '"')
            string = !string;
        else if (string && text.at[i] == '\\' && i + 1 < text.n)
            out[n++] = (char)text.at[i++];
        out[n++] = (char)text.at[i];
    }
    return n;
}

static enum apr_code load(json_t **top, struct apr_bytes text, struct apr_error *e)
{
    char *copy = malloc(text.n / 3 * 4 + 4);
    if (copy == NULL)
        return apr_no_memory(e);
    const size_t n = mend(copy, text);
    enum apr_code code = apr_json_load_last(top, (struct apr_bytes){ (const unsigned char *)copy, n }, 0, e);
    free(copy);
    if (code != APR_OK && n != text.n)
        e->at = APR_NOWHERE; /* it would be an offset in the copy */
    if (code == APR_OK && !json_is_object(*top)) {
        json_decref(*top);
        code = apr_fail(e, APR_ECORRUPT, 0, "a configuration is a JSON object");
    }
    return code;
}

enum apr_code apr_hf_config_new(struct apr_hf_config **out, struct apr_bytes text, struct apr_error *e)
{
    static const char *const inner[] = { "text_config", "llm_config", "lm_config", "language_config" };
    *out = NULL;
    if (text.n > APR_MOST_CONFIG)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "%zu bytes of configuration, at most %zu are read", text.n, (size_t)APR_MOST_CONFIG);
    struct apr_hf_config *c = calloc(1, sizeof *c);
    if (c == NULL)
        return apr_no_memory(e);
    const enum apr_code code = load(&c->top, text, e);
    if (code != APR_OK) {
        free(c);
        return code;
    }
    for (size_t i = 0; !json_is_object(c->inner) && i < APR_LENGTH(inner); i++)
        c->inner = json_object_get(c->top, inner[i]);
    *out = c;
    return APR_OK;
}

enum apr_code apr_hf_config_of(struct apr_hf_config **config, const struct apr_model *m, struct apr_error *e)
{
    struct apr_arena *arena = NULL;
    struct apr_bytes text = { 0 };
    *config = NULL;
    enum apr_code code = m->config != NULL ? apr_hf_config_new(config, m->config->map, e)
                                           : apr_side_carried(&arena, m, "config.json", &text, e);
    if (code == APR_OK && text.at != NULL)
        code = apr_hf_config_new(config, text, e);
    apr_arena_free(&arena);
    if (code != APR_OK && m->config != NULL)
        apr_error_in(e, m->config->path);
    return code;
}

void apr_hf_config_free(struct apr_hf_config *c)
{
    if (c == NULL)
        return;
    json_decref(c->top);
    free(c);
}

/* Element number `digits` of an array. */
static const json_t *element(const json_t *array, const char *digits, size_t n)
{
    size_t i = 0;
    for (size_t k = 0; k < n; k++) {
        if (digits[k] < '0' || digits[k] > '9' || k > 8)
            return NULL;
        i = 10 * i + (size_t)(digits[k] - '0');
    }
    return n == 0 ? NULL : json_array_get(array, i);
}

static const json_t *follow(const json_t *from, struct apr_bytes path)
{
    const char *at = (const char *)path.at, *end = at + path.n;
    while (from != NULL && at < end) {
        const char *dot = memchr(at, '.', (size_t)(end - at));
        const size_t n = (size_t)((dot == NULL ? end : dot) - at);
        from = json_is_array(from) ? element(from, at, n) : json_object_getn(from, at, n);
        at += n + 1;
    }
    return json_is_null(from) ? NULL : from;
}

/* The class that has the head decides whether it is tied, and its members are those of the top. Older ones of several parts wrote that
 * into text_config alone, and a top that denies it was their default. */
static const json_t *tie_of(const struct apr_hf_config *c, struct apr_bytes path)
{
    const json_t *const top = follow(c->top, path), *const inner = follow(c->inner, path);
    return top == NULL || (json_is_false(top) && json_is_true(inner)) ? inner : top;
}

static const json_t *value_at(const struct apr_hf_config *c, struct apr_bytes path)
{
    if (c != NULL && apr_bytes_is(path, "tie_word_embeddings"))
        return tie_of(c, path);
    const json_t *v = c == NULL ? NULL : follow(c->inner, path);
    return v != NULL || c == NULL ? v : follow(c->top, path);
}

bool apr_hf_config_has(const struct apr_hf_config *c, struct apr_bytes path) { return value_at(c, path) != NULL; }

bool apr_hf_config_number(const struct apr_hf_config *c, struct apr_bytes path, double *value)
{
    const json_t *v = value_at(c, path);
    *value = json_is_true(v) ? 1 : json_number_value(v);
    return json_is_boolean(v) || json_is_number(v);
}

bool apr_hf_config_string(const struct apr_hf_config *c, struct apr_bytes path, struct apr_bytes *value)
{
    const json_t *v = value_at(c, path);
    if (json_is_string(v))
        *value = (struct apr_bytes){ (const unsigned char *)json_string_value(v), json_string_length(v) };
    return json_is_string(v);
}

size_t apr_hf_config_length(const struct apr_hf_config *c, struct apr_bytes path)
{
    return json_array_size(value_at(c, path));
}

bool apr_hf_config_largest(const struct apr_hf_config *c, struct apr_bytes path, double *value)
{
    const json_t *const list = value_at(c, path);
    const size_t n = json_array_size(list);
    bool found = false, sound = true;
    for (size_t i = 0; i < n && sound; i++) {
        const json_t *const v = json_array_get(list, i);
        sound = json_is_number(v) || json_is_null(v);
        if (json_is_number(v) && (!found || json_number_value(v) > *value))
            *value = json_number_value(v);
        found |= json_is_number(v);
    }
    return found && sound;
}

const json_t *apr_hf_config_json(const struct apr_hf_config *c, struct apr_bytes path) { return value_at(c, path); }
