#include "convert/edits.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/nearest.h"
#include "base/table.h"
#include "files/source.h"
#include "model/json.h"
#include "model/meta.h"

bool apr_have_edits(const struct apr_edits *x)
{
    return x->set.n > 0 || x->unset.n > 0 || x->rename.n > 0 || x->chat_template != NULL;
}

static bool is_text(struct apr_bytes s)
{
    for (size_t i = 0, step; i < s.n; i += step) {
        step = apr_utf8_length(s.at + i, s.n - i);
        if (step == 0)
            return false;
    }
    return true;
}

/* A key or a name that a file can hold. */
static bool is_name(struct apr_bytes s) { return s.n > 0 && is_text(s) && !apr_has_control(s); }

/* ---- --set ---------------------------------------------------------------------------------------------------------- */

static const struct {
    enum apr_meta_type type;
    bool               with_sign;
    unsigned           bits;
} integers[] = {
    { APR_META_U8, false, 8 },   { APR_META_I8, true, 8 },   { APR_META_U16, false, 16 }, { APR_META_I16, true, 16 },
    { APR_META_U32, false, 32 }, { APR_META_I32, true, 32 }, { APR_META_U64, false, 64 }, { APR_META_I64, true, 64 },
};

/* Digits, with a minus before them where one may be; within `bits`. */
static bool read_integer(const char *text, bool with_sign, unsigned bits, struct apr_value *v)
{
    const bool minus = with_sign && *text == '-';
    const char *const digits = text + minus;
    char *end;
    errno = 0;
    const uint64_t size = strtoull(digits, &end, 10), most = with_sign ? (UINT64_C(1) << (bits - 1)) - !minus : UINT64_MAX >> (64 - bits);
    if (strspn(digits, "0123456789") != strlen(digits) || *digits == 0 || errno != 0 || size > most)
        return false;
    v->u = minus ? -size : size;
    return true;
}

static bool read_real(const char *text, bool single, struct apr_value *v)
{
    char *end;
    if (*text == 0 || strspn(text, "0123456789+-.eE") != strlen(text))
        return false;
    v->f = strtod(text, &end);
    if (single && isfinite((float)v->f))
        v->f = (double)(float)v->f;
    return *end == 0 && (single ? isfinite((float)v->f) : isfinite(v->f));
}

static bool read_flag(const char *text, struct apr_value *v)
{
    v->b = strcmp(text, "true") == 0;
    return v->b || strcmp(text, "false") == 0;
}

static enum apr_code no_such_value(const char *option, const char *word, const char *text, struct apr_error *e)
{
    const char *const what = strcmp(word, "bool") == 0 ? ", which is true or false" : "";
    char range[64] = "";
    for (size_t i = 0; i < APR_LENGTH(integers); i++)
        if (strcmp(apr_meta_type_word(integers[i].type), word) == 0) {
            const uint64_t half = UINT64_C(1) << (integers[i].bits - 1);
            if (integers[i].with_sign)
                snprintf(range, sizeof range, ", from -%" PRIu64 " to %" PRIu64, half, half - 1);
            else
                snprintf(range, sizeof range, ", from 0 to %" PRIu64, UINT64_MAX >> (64 - integers[i].bits));
        }
    return apr_fail(e, APR_EARG, APR_NOWHERE, "--set %s: %s is no %s%s%s", option, APR_QUOTED(apr_text(text)), word, what, range);
}

/* A number's type in JSON, where there is one integer and one real. */
static void as_json(struct apr_value *v, const char *text)
{
    const bool real = v->type == APR_META_F32 || v->type == APR_META_F64;
    const bool with_sign = v->type == APR_META_I8 || v->type == APR_META_I16 || v->type == APR_META_I32 || v->type == APR_META_I64;
    if (real)
        v->f = strtod(text, NULL); /* 0.1 is spelled 0.1 */
    if (real || v->type == APR_META_BOOL || v->type == APR_META_STRING)
        v->type = real ? APR_META_F64 : v->type;
    else
        v->type = with_sign && v->i < 0 ? APR_META_I64 : APR_META_U64;
    v->encoding = APR_JSON;
}

/* word: the type. False: it is none of those that need no other look at the format. */
static bool read_value(const char *word, const char *text, struct apr_value *v, bool *fits)
{
    for (size_t i = 0; i < APR_LENGTH(integers); i++)
        if (strcmp(apr_meta_type_word(integers[i].type), word) == 0) {
            v->type = integers[i].type;
            *fits = read_integer(text, integers[i].with_sign, integers[i].bits, v);
            return true;
        }
    static const enum apr_meta_type others[] = { APR_META_F32, APR_META_F64, APR_META_BOOL, APR_META_STRING };
    for (size_t i = 0; i < APR_LENGTH(others); i++)
        if (strcmp(apr_meta_type_word(others[i]), word) == 0) {
            v->type = others[i];
            v->text = v->type == APR_META_STRING ? apr_text(text) : (struct apr_bytes){ 0 };
            *fits = v->type == APR_META_STRING ? is_text(v->text) : v->type == APR_META_BOOL ? read_flag(text, v)
                                                                  : read_real(text, v->type == APR_META_F32, v);
            return true;
        }
    return false;
}

static enum apr_code set_json(struct apr_draft *d, const char *key, const char *text, const char *option, struct apr_error *e)
{
    struct apr_error why;
    const enum apr_code code = *text == 0 ? APR_ECORRUPT : apr_draft_json(d, key, apr_text(text), &why);
    if (code == APR_OK || code == APR_ENOMEM)
        return code == APR_OK ? APR_OK : apr_no_memory(e);
    return apr_fail(e, APR_EARG, APR_NOWHERE, "--set %.80s: its value is no JSON: %.300s", option, *text == 0 ? "it is empty" : why.text);
}

static enum apr_code set_typed(struct apr_draft *d, const char *key, const char *word, const char *text, const char *option,
                               const struct apr_format *f, struct apr_error *e)
{
    struct apr_value v = { .encoding = APR_GGUF_LE };
    bool fits = false;
    if (f->keys == APR_KEYS_JSON && strcmp(word, "json") == 0)
        return set_json(d, key, text, option, e);
    if (!read_value(word, text, &v, &fits))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--set %s: the type %s is none of u8 i8 u16 i16 u32 i32 u64 i64 f32 f64 bool str%s",
                        option, APR_QUOTED(apr_text(word)),
                        f->keys == APR_KEYS_JSON ? " json" : strcmp(word, "json") == 0 ? "; json is for APR" : "");
    if (!fits)
        return no_such_value(option, word, text, e);
    if (f->keys == APR_KEYS_STRINGS && v.type != APR_META_STRING)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--set %s: the metadata of %s holds strings alone: %s=str:%s", option, f->title, key,
                        text);
    if (f->keys == APR_KEYS_JSON)
        as_json(&v, text);
    return apr_draft_put(d, apr_text(key), &v, e);
}

static enum apr_code set_key(struct apr_draft *d, const char *option, const struct apr_format *f, struct apr_error *e)
{
    const char *const equals = strchr(option, '='), *const colon = equals == NULL ? NULL : strchr(equals, ':');
    if (colon == NULL || equals == option)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--set %s: expected KEY=TYPE:VALUE, as in general.name=str:Tiny", option);
    char *const key = strndup(option, (size_t)(equals - option)), *const word = strndup(equals + 1, (size_t)(colon - equals - 1));
    enum apr_code code = key == NULL || word == NULL ? apr_no_memory(e) : APR_OK;
    if (code == APR_OK && !is_name(apr_text(key)))
        code = apr_fail(e, APR_EARG, APR_NOWHERE, "--set: %s cannot be a key: it is not UTF-8, or has control characters",
                        APR_QUOTED(apr_text(key)));
    if (code == APR_OK)
        code = set_typed(d, key, word, colon + 1, option, f, e);
    free(key);
    free(word);
    return code;
}

/* ---- --unset, --chat-template --------------------------------------------------------------------------------------- */

static enum apr_code unset_key(struct apr_draft *d, const char *key, struct apr_error *e)
{
    if (apr_draft_remove(d, apr_text(key)))
        return APR_OK;
    struct apr_nearest near = apr_nearest_to(apr_text(key));
    for (size_t i = 0; i < d->meta.n; i++)
        apr_nearest_try(&near, d->meta.entry[i].key);
    return apr_fail(e, APR_EARG, APR_NOWHERE, "--unset: there is no key %s%s%s", APR_QUOTED(apr_text(key)),
                    near.best.n > 0 ? "; did you mean " : "", near.best.n > 0 ? APR_QUOTED(near.best) : "");
}

static enum apr_code check_template(const struct apr_source *s, struct apr_error *e)
{
    if (s->map.n > APR_MOST_CONFIG)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "has %zu bytes, of a template at most %u are read", s->map.n,
                        (unsigned)APR_MOST_CONFIG);
    return is_text(s->map) ? APR_OK : apr_fail(e, APR_EARG, APR_NOWHERE, "is no chat template: it is not UTF-8");
}

enum apr_code apr_read_template(struct apr_arena **arena, const char *path, const struct apr_run *r, struct apr_bytes *text,
                                struct apr_error *e)
{
    struct apr_source *s;
    APR_TRY(apr_source_open(&s, path, r, e));
    enum apr_code code = check_template(s, e);
    *text = code == APR_OK ? apr_arena_copy(arena, s->map) : (struct apr_bytes){ 0 };
    if (code == APR_OK && text->at == NULL)
        code = apr_no_memory(e);
    if (code != APR_OK)
        apr_error_in(e, path);
    return apr_source_end(s, code, e);
}

static enum apr_code set_template(struct apr_draft *d, const struct apr_edits *x, const struct apr_format *f, const struct apr_run *r,
                                  struct apr_error *e)
{
    struct apr_bytes text = x->template_text;
    if (f->template_key[0] == NULL)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--chat-template: a %s file holds none; it lives in tokenizer_config.json of the folder",
                        f->title);
    if (x->chat_template != NULL)
        APR_TRY(apr_read_template(&d->arena, x->chat_template, r, &text, e));
    for (size_t i = 0; i < APR_LENGTH(f->template_key) && f->template_key[i] != NULL; i++)
        APR_TRY(apr_draft_text(d, f->template_key[i], text, e));
    return APR_OK;
}

enum apr_code apr_edit_metadata(struct apr_draft *d, const struct apr_edits *x, const struct apr_format *f, const struct apr_run *r,
                                struct apr_error *e)
{
    for (size_t i = 0; i < x->set.n; i++)
        APR_TRY(set_key(d, x->set.text[i], f, e));
    for (size_t i = 0; i < x->unset.n; i++)
        APR_TRY(unset_key(d, x->unset.text[i], e));
    return x->chat_template == NULL && x->template_text.n == 0 ? APR_OK : set_template(d, x, f, r, e);
}

/* ---- --rename ------------------------------------------------------------------------------------------------------- */

static enum apr_code no_such_name(const struct apr_table *places, struct apr_bytes name, struct apr_error *e)
{
    struct apr_nearest near = apr_nearest_to(name);
    for (size_t i = 0; i < places->n; i++)
        apr_nearest_try(&near, places->entry[i].key);
    return apr_fail(e, APR_EARG, APR_NOWHERE, "--rename: there is no tensor %s%s%s", APR_QUOTED(name),
                    near.best.n > 0 ? "; did you mean " : "", near.best.n > 0 ? APR_QUOTED(near.best) : "");
}

static enum apr_code rename_one(struct apr_bytes *name, const struct apr_table *places, const char *option, struct apr_error *e)
{
    const char *const equals = strchr(option, '=');
    if (equals == NULL || equals == option || !is_name(apr_text(equals + 1)))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--rename %s: expected A=B, two names of tensors", APR_QUOTED(apr_text(option)));
    const struct apr_bytes a = { (const unsigned char *)option, (size_t)(equals - option) };
    const union apr_table_value *const place = apr_table_find(places, a);
    if (place == NULL)
        return no_such_name(places, a, e);
    if (!apr_bytes_equal(name[place->number], a))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--rename: %s is renamed twice", APR_QUOTED(a));
    name[place->number] = apr_text(equals + 1);
    return APR_OK;
}

static enum apr_code table_of(struct apr_table *t, const struct apr_bytes *name, size_t n, struct apr_error *e)
{
    for (size_t i = 0; i < n; i++) {
        bool fresh;
        union apr_table_value *const place = apr_table_put(t, name[i], &fresh);
        if (place == NULL)
            return apr_no_memory(e);
        if (!fresh)
            return apr_fail(e, APR_EARG, APR_NOWHERE, "--rename: two tensors would be called %s", APR_QUOTED(name[i]));
        place->number = i;
    }
    return APR_OK;
}

enum apr_code apr_edit_names(struct apr_bytes *name, size_t n, const struct apr_edits *x, struct apr_error *e)
{
    struct apr_table before = { 0 }, after = { 0 };
    if (x->rename.n == 0)
        return APR_OK;
    enum apr_code code = table_of(&before, name, n, e);
    for (size_t i = 0; i < x->rename.n && code == APR_OK; i++)
        code = rename_one(name, &before, x->rename.text[i], e);
    if (code == APR_OK)
        code = table_of(&after, name, n, e);
    apr_table_free(&before);
    apr_table_free(&after);
    return code;
}
