#include "model/json.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"

#define DEPTH  127u
#define BUDGET ((size_t)64 << 20) /* bytes that all json_t together may take */

/* ---- jansson's memory ---------------------------------------------------------------------------------------------- */

/* Not every path of jansson survives a failed allocation: some cut a string short. So while a text is parsed none is let fail: the
 * allocator leaps out of the parser instead, and what that had taken is given back from the list of its blocks. */
struct block {
    size_t        bytes;
    struct block *before, *after; /* in the parse under way; of others NULL */
    max_align_t   content[];
};

struct parse {
    jmp_buf       out;
    struct block *last;
    enum apr_code refusal;
};

static _Atomic size_t               used;
static _Thread_local struct parse *parsing;

static void *refuse(enum apr_code why)
{
    if (parsing == NULL)
        return NULL;
    parsing->refusal = why;
    longjmp(parsing->out, 1);
}

static void *take(size_t n)
{
    const size_t bytes = n + sizeof(struct block);
    if (n > BUDGET - sizeof(struct block))
        return refuse(APR_ELIMIT);
    if (atomic_fetch_add(&used, bytes) > BUDGET - bytes) {
        atomic_fetch_sub(&used, bytes);
        return refuse(APR_ELIMIT);
    }
    struct block *block = malloc(bytes);
    if (block == NULL) {
        atomic_fetch_sub(&used, bytes);
        return refuse(APR_ENOMEM);
    }
    *block = (struct block){ .bytes = bytes, .before = parsing == NULL ? NULL : parsing->last };
    if (block->before != NULL)
        block->before->after = block;
    if (parsing != NULL)
        parsing->last = block;
    return block->content;
}

static void release(void *p)
{
    if (p == NULL)
        return;
    struct block *block = (struct block *)((unsigned char *)p - offsetof(struct block, content));
    if (block->before != NULL)
        block->before->after = block->after;
    if (block->after != NULL)
        block->after->before = block->before;
    if (parsing != NULL && parsing->last == block)
        parsing->last = block->before;
    atomic_fetch_sub(&used, block->bytes);
    free(block);
}

static void set_memory(void)
{
    json_set_alloc_funcs(take, release);
}

/* Takes the blocks of a parse that is done off its list: they outlive it. */
static void let_go(struct parse *parse)
{
    for (struct block *b = parse->last, *before; b != NULL; b = before) {
        before = b->before;
        b->before = b->after = NULL;
    }
}

static enum apr_code load(json_t **json, struct apr_bytes text, uint64_t at, size_t flags, struct apr_error *e)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct parse parse = { .refusal = APR_OK };
    json_error_t why;
    pthread_once(&once, set_memory);
    *json = NULL;
    parsing = &parse;
    if (setjmp(parse.out) == 0) {
        *json = json_loadb((const char *)text.at, text.n, flags | JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
        let_go(&parse);
    } else {
        while (parse.last != NULL)
            release(parse.last->content);
    }
    parsing = NULL;
    const enum apr_code refusal = parse.refusal;
    if (*json != NULL)
        return APR_OK;
    if (refusal == APR_ENOMEM)
        return apr_no_memory(e);
    if (refusal != APR_OK)
        return apr_fail(e, refusal, at, "a JSON value of %zu bytes takes more than %zu MiB of memory", text.n, BUDGET >> 20);
    const uint64_t position = why.position > 0 ? apr_min((uint64_t)why.position, text.n) : 0;
    return apr_fail(e, APR_ECORRUPT, at + position, "JSON: %s", why.text);
}

/* ---- walking ------------------------------------------------------------------------------------------------------- */

static bool is_space(unsigned char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool opens(unsigned char c)
{
    return c == '{' || c == '[';
}

static bool closes(unsigned char c)
{
    return c == '}' || c == ']';
}

static void skip_space(struct apr_walk *w)
{
    while (w->at < w->text.n && is_space(w->text.at[w->at]))
        w->at++;
}

static bool stands(const struct apr_walk *w, char c)
{
    return w->at < w->text.n && w->text.at[w->at] == (unsigned char)c;
}

static enum apr_code unexpected(const struct apr_walk *w, const char *wanted, struct apr_error *e)
{
    if (w->at >= w->text.n)
        return apr_fail(e, APR_ECORRUPT, w->base + w->at, "JSON: expected %s, but the text ends", wanted);
    const struct apr_bytes rest = { w->text.at + w->at, w->text.n - w->at };
    const size_t n = apr_utf8_length(rest.at, rest.n);
    return apr_fail(e, APR_ECORRUPT, w->base + w->at, "JSON: expected %s, found %s", wanted,
                    APR_QUOTED(((struct apr_bytes){ rest.at, n ? n : 1 })));
}

/* From an opening quote to behind the closing one. */
static bool skip_string(struct apr_walk *w)
{
    for (size_t i = w->at + 1; i < w->text.n; i++) {
        if (w->text.at[i] == '\\') {
            i++;
        } else if (w->text.at[i] == '"') {
            w->at = i + 1;
            return true;
        }
    }
    return false;
}

static bool skip_container(struct apr_walk *w)
{
    size_t depth = 0;
    struct apr_walk in = *w;
    while (in.at < in.text.n) {
        const unsigned char c = in.text.at[in.at];
        if (c == '"') {
            if (!skip_string(&in))
                return false;
            continue;
        }
        in.at++;
        depth += opens(c);
        depth -= closes(c);
        if (depth == 0) {
            w->at = in.at;
            return true;
        }
    }
    return false;
}

static enum apr_code skip_value(struct apr_walk *w, struct apr_error *e)
{
    const unsigned char c = w->text.at[w->at];
    if (c == '"')
        return skip_string(w) ? APR_OK : apr_fail(e, APR_ECORRUPT, w->base + w->at, "JSON: a string without an end");
    if (opens(c))
        return skip_container(w) ? APR_OK : apr_fail(e, APR_ECORRUPT, w->base + w->at, "JSON: '%c' is never closed", c);
    while (w->at < w->text.n && !is_space(w->text.at[w->at]) && !stands(w, ',') && !closes(w->text.at[w->at]))
        w->at++;
    return APR_OK;
}

/* Up to where the next value begins. */
static enum apr_code step(struct apr_walk *w, struct apr_item *item, bool *more, struct apr_error *e)
{
    *item = (struct apr_item){ 0 };
    skip_space(w);
    *more = !stands(w, w->close);
    if (!*more) {
        w->at++;
        return APR_OK;
    }
    if (w->started) {
        if (!stands(w, ','))
            return unexpected(w, w->close == '}' ? "',' or '}'" : "',' or ']'", e);
        w->at++;
        skip_space(w);
    }
    w->started = true;
    if (w->close == '}') {
        if (!stands(w, '"'))
            return unexpected(w, "a name in double quotes", e);
        const size_t begin = w->at;
        APR_TRY(skip_value(w, e));
        item->key_at = w->base + begin;
        item->key = (struct apr_bytes){ w->text.at + begin, w->at - begin };
        skip_space(w);
        if (!stands(w, ':'))
            return unexpected(w, "':'", e);
        w->at++;
        skip_space(w);
    }
    if (w->at >= w->text.n || stands(w, ',') || closes(w->text.at[w->at]))
        return unexpected(w, "a value", e);
    item->value_at = w->base + w->at;
    return APR_OK;
}

enum apr_code apr_walk_in(struct apr_walk *w, struct apr_bytes text, uint64_t base, char open, struct apr_error *e)
{
    *w = (struct apr_walk){ .text = text, .base = base, .close = open == '{' ? '}' : ']' };
    skip_space(w);
    if (!stands(w, open))
        return unexpected(w, open == '{' ? "an object, '{'" : "an array, '['", e);
    w->at++;
    return APR_OK;
}

enum apr_code apr_walk_next(struct apr_walk *w, struct apr_item *item, bool *more, struct apr_error *e)
{
    APR_TRY(step(w, item, more, e));
    if (!*more)
        return APR_OK;
    const size_t begin = w->at;
    APR_TRY(skip_value(w, e));
    item->value = (struct apr_bytes){ w->text.at + begin, w->at - begin };
    return APR_OK;
}

enum apr_code apr_walk_end(const struct apr_walk *w, struct apr_error *e)
{
    struct apr_walk rest = *w;
    skip_space(&rest);
    return rest.at == rest.text.n ? APR_OK : unexpected(&rest, "the end of the text", e);
}

/* ---- values -------------------------------------------------------------------------------------------------------- */

static enum apr_code load_bounded(json_t **json, struct apr_bytes text, uint64_t at, size_t flags, struct apr_error *e)
{
    *json = NULL;
    struct apr_walk w = { .text = text };
    size_t depth = 0;
    while (w.at < text.n) {
        const unsigned char c = text.at[w.at];
        if (c == '"' && skip_string(&w))
            continue;
        if (opens(c) && ++depth > DEPTH)
            return apr_fail(e, APR_ELIMIT, at + w.at, "JSON: more than %u levels deep", DEPTH);
        depth -= closes(c) && depth > 0;
        w.at++;
    }
    return load(json, text, at, flags, e);
}

enum apr_code apr_json_load(json_t **json, struct apr_bytes text, uint64_t at, struct apr_error *e)
{
    return load_bounded(json, text, at, JSON_REJECT_DUPLICATES, e);
}

enum apr_code apr_json_load_last(json_t **json, struct apr_bytes text, uint64_t at, struct apr_error *e)
{
    return load_bounded(json, text, at, 0, e);
}

/* Well-formed without an escape: the characters between the quotes mean themselves. */
static bool is_literal(struct apr_bytes quoted)
{
    if (quoted.n < 2 || quoted.at[0] != '"' || quoted.at[quoted.n - 1] != '"')
        return false;
    for (size_t i = 1; i < quoted.n - 1;) {
        const unsigned char c = quoted.at[i];
        if (c < 0x20 || c == '"' || c == '\\')
            return false;
        const size_t n = c < 0x80 ? 1 : apr_utf8_length(quoted.at + i, quoted.n - 1 - i);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

static struct apr_bytes unquote(struct apr_bytes quoted)
{
    return (struct apr_bytes){ quoted.at + 1, quoted.n - 2 };
}

static enum apr_code load_string(json_t **json, struct apr_bytes quoted, uint64_t at, struct apr_error *e)
{
    if (quoted.n == 0 || quoted.at[0] != '"')
        return apr_fail(e, APR_ECORRUPT, at, "JSON: expected a string, found %s", APR_QUOTED(quoted));
    return load(json, quoted, at, 0, e);
}

enum apr_code apr_json_text(struct apr_arena **a, struct apr_bytes quoted, uint64_t at, struct apr_bytes *out, struct apr_error *e)
{
    if (is_literal(quoted)) {
        *out = unquote(quoted);
        return APR_OK;
    }
    json_t *json;
    APR_TRY(load_string(&json, quoted, at, e));
    const size_t n = json_string_length(json);
    unsigned char *copy = apr_arena_alloc(a, n + 1);
    if (copy != NULL)
        memcpy(copy, json_string_value(json), n);
    json_decref(json);
    *out = (struct apr_bytes){ copy, n };
    return copy != NULL ? APR_OK : apr_no_memory(e);
}

enum apr_code apr_json_string(struct apr_model *m, struct apr_bytes quoted, uint64_t at, struct apr_bytes *out, struct apr_error *e)
{
    return apr_json_text(&m->arena, quoted, at, out, e);
}

bool apr_json_plain(struct apr_bytes text, uint64_t *n)
{
    *n = 0;
    if (text.n == 0 || (text.n > 1 && text.at[0] == '0'))
        return false;
    for (size_t i = 0; i < text.n; i++) {
        const unsigned digit = text.at[i] - (unsigned)'0';
        if (digit > 9 || !apr_mul(*n, 10, n) || !apr_add(*n, digit, n))
            return false;
    }
    return true;
}

/* Integers of 64 bits stay exact; everything else that is a number is a double, "-0" too, which no integer can hold. */
static enum apr_code parse_number(struct apr_bytes text, uint64_t at, struct apr_value *v, struct apr_error *e)
{
    if (apr_json_plain(text, &v->u)) {
        v->type = APR_META_U64;
        return APR_OK;
    }
    uint64_t below;
    if (text.at[0] == '-' && apr_json_plain((struct apr_bytes){ text.at + 1, text.n - 1 }, &below) && below > 0 &&
        below <= (uint64_t)INT64_MAX + 1) {
        v->type = APR_META_I64;
        v->i = -1 - (int64_t)(below - 1);
        return APR_OK;
    }
    json_t *json;
    APR_TRY(load(&json, text, at, JSON_DECODE_INT_AS_REAL, e));
    v->type = APR_META_F64;
    v->f = json_real_value(json);
    json_decref(json);
    return APR_OK;
}

/* What text is, by its first byte; strings and containers are taken as they are spelled. */
static enum apr_code classify(struct apr_bytes text, uint64_t at, struct apr_value *v, struct apr_error *e)
{
    *v = (struct apr_value){ .encoding = APR_JSON, .element = APR_META_ANY, .text = text };
    switch (text.n > 0 ? text.at[0] : 0) {
    case '"': v->type = APR_META_STRING; return APR_OK;
    case '[': v->type = APR_META_ARRAY; return APR_OK;
    case '{': v->type = APR_META_OBJECT; return APR_OK;
    case '-': case '0': case '1': case '2': case '3': case '4': case '5': case '6': case '7': case '8': case '9':
        return parse_number(text, at, v, e);
    }
    v->text = (struct apr_bytes){ 0 };
    v->type = APR_META_NULL;
    if (apr_bytes_is(text, "null"))
        return APR_OK;
    v->type = APR_META_BOOL;
    v->b = apr_bytes_is(text, "true");
    if (v->b || apr_bytes_is(text, "false"))
        return APR_OK;
    return apr_fail(e, APR_ECORRUPT, at, "JSON: expected a value, found %s", APR_QUOTED(text));
}

static enum apr_code check_string(struct apr_bytes quoted, uint64_t at, struct apr_error *e)
{
    if (is_literal(quoted))
        return APR_OK;
    json_t *json;
    APR_TRY(load_string(&json, quoted, at, e));
    json_decref(json);
    return APR_OK;
}

/* The value at w->at, `level` containers above it of `most`; leaves w->at behind it. One pass over the bytes, whatever the nesting. */
static enum apr_code check_value(struct apr_walk *w, unsigned level, unsigned most, struct apr_error *e)
{
    const size_t begin = w->at;
    const uint64_t at = w->base + begin;
    if (!opens(w->text.at[begin])) {
        APR_TRY(skip_value(w, e));
        const struct apr_bytes text = { w->text.at + begin, w->at - begin };
        struct apr_value v;
        APR_TRY(classify(text, at, &v, e));
        return v.type == APR_META_STRING ? check_string(text, at, e) : APR_OK;
    }
    if (level == most)
        return apr_fail(e, APR_ELIMIT, at, "JSON: more than %u levels deep", most);
    struct apr_walk in = *w;
    in.close = stands(w, '{') ? '}' : ']';
    in.started = false;
    in.at++;
    for (;;) {
        struct apr_item item;
        bool more;
        APR_TRY(step(&in, &item, &more, e));
        if (!more)
            break;
        if (in.close == '}')
            APR_TRY(check_string(item.key, item.key_at, e));
        APR_TRY(check_value(&in, level + 1, most, e));
    }
    w->at = in.at;
    return APR_OK;
}

enum apr_code apr_json_check_to(unsigned most, struct apr_bytes text, uint64_t at, struct apr_error *e)
{
    struct apr_walk w = { .text = text, .base = at };
    skip_space(&w);
    if (w.at == text.n)
        return unexpected(&w, "a value", e);
    APR_TRY(check_value(&w, 0, most, e));
    return apr_walk_end(&w, e);
}

enum apr_code apr_json_check(struct apr_bytes text, uint64_t at, struct apr_error *e)
{
    return apr_json_check_to(DEPTH, text, at, e);
}

enum apr_code apr_json_checked(struct apr_arena **a, struct apr_bytes text, uint64_t at, struct apr_value *v, struct apr_error *e)
{
    APR_TRY(classify(text, at, v, e));
    return v->type == APR_META_STRING ? apr_json_text(a, text, at, &v->text, e) : APR_OK;
}

enum apr_code apr_json_value(struct apr_model *m, struct apr_bytes text, uint64_t at, struct apr_value *v, struct apr_error *e)
{
    APR_TRY(apr_json_checked(&m->arena, text, at, v, e));
    return v->type == APR_META_ARRAY || v->type == APR_META_OBJECT ? apr_json_check(text, at, e) : APR_OK;
}

bool apr_json_element(struct apr_bytes text, unsigned char **scratch, struct apr_value *v)
{
    struct apr_error e;
    if (classify(text, 0, v, &e) != APR_OK)
        return false;
    if (v->type != APR_META_STRING)
        return true;
    if (is_literal(text)) {
        v->text = unquote(text);
        return true;
    }
    json_t *json;
    if (load_string(&json, text, 0, &e) != APR_OK)
        return false;
    const size_t n = json_string_length(json);
    unsigned char *copy = realloc(*scratch, n + 1);
    if (copy != NULL) {
        memcpy(copy, json_string_value(json), n);
        *scratch = copy;
        v->text = (struct apr_bytes){ copy, n };
    }
    json_decref(json);
    return copy != NULL;
}
