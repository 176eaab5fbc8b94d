/* Taking a request's body apart. It is walked, never kept as a tree, so that memory goes by its bytes and not by what stands in them. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "model/json.h"
#include "number.h"
#include "serve.h"

bool complain(struct complaint *c, enum fault fault, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    c->fault = fault;
    vsnprintf(c->text, sizeof c->text, format, arguments);
    va_end(arguments);
    return false;
}

/* What the walker found. */
static bool no_json(struct complaint *c, const struct apr_error *e)
{
    if (e->code == APR_ENOMEM)
        return complain(c, FAULT_MEMORY, "out of memory");
    const uint64_t at = e->at == APR_NOWHERE ? 0 : e->at;
    return complain(c, FAULT_JSON, "the body is no JSON: at byte %llu: %s", (unsigned long long)at, e->text);
}

/* The next member of an object, and its key as text; *more: there was one. */
static bool next_member(struct apr_walk *walk, struct apr_arena **a, struct apr_item *item, struct apr_bytes *key, bool *more,
                        struct complaint *c)
{
    struct apr_error e;
    if (apr_walk_next(walk, item, more, &e) != APR_OK || (*more && apr_json_text(a, item->key, item->key_at, key, &e) != APR_OK))
        return no_json(c, &e);
    return true;
}

/* ---- the body ------------------------------------------------------------------------------------------------------- */

/* The object at "options": of its members one counts here. */
static bool read_options(struct wishes *w, const struct apr_item *options, struct complaint *c)
{
    struct apr_error e;
    struct apr_walk walk;
    struct apr_item item;
    struct apr_bytes key;
    bool more;
    if (options->value.at[0] != '{')
        return complain(c, FAULT_REQUEST, "options: expected an object, found %s", APR_QUOTED(options->value));
    if (apr_json_check(options->value, options->value_at, &e) != APR_OK ||
        apr_walk_in(&walk, options->value, options->value_at, '{', &e) != APR_OK)
        return no_json(c, &e);
    for (;;) {
        if (!next_member(&walk, &w->arena, &item, &key, &more, c))
            return false;
        if (!more)
            return true;
        if (!apr_bytes_is(key, "return_probabilities"))
            continue;
        w->probabilities = apr_bytes_is(item.value, "true");
        if (!w->probabilities && !apr_bytes_is(item.value, "false"))
            return complain(c, FAULT_REQUEST, "return_probabilities: expected true or false, found %s", APR_QUOTED(item.value));
    }
}

static bool read_model(struct wishes *w, const struct apr_item *model, struct complaint *c)
{
    struct apr_error e;
    if (model->value.at[0] != '"')
        return complain(c, FAULT_REQUEST, "model: expected a name, found %s", APR_QUOTED(model->value));
    if (apr_json_text(&w->arena, model->value, model->value_at, &w->model, &e) != APR_OK)
        return no_json(c, &e);
    w->has_model = true;
    return true;
}

static bool read_member(struct wishes *w, const struct apr_item *item, struct apr_bytes key, const char *wanted, struct complaint *c)
{
    struct apr_error e;
    if (apr_bytes_is(key, wanted)) {
        if (w->features.at != NULL)
            return complain(c, FAULT_REQUEST, "%s stands twice", wanted);
        w->features = item->value;
        return true;
    }
    if (apr_bytes_is(key, "model"))
        return read_model(w, item, c);
    if (apr_bytes_is(key, "options"))
        return read_options(w, item, c);
    return apr_json_check(item->value, item->value_at, &e) == APR_OK || no_json(c, &e);
}

static bool read_members(struct wishes *w, struct apr_bytes body, const char *wanted, struct complaint *c)
{
    struct apr_error e;
    struct apr_walk walk;
    struct apr_item item;
    struct apr_bytes key;
    bool more;
    if (apr_walk_in(&walk, body, 0, '{', &e) != APR_OK)
        return complain(c, FAULT_REQUEST, "expected an object with \"%s\"", wanted);
    do {
        if (!next_member(&walk, &w->arena, &item, &key, &more, c) || (more && !read_member(w, &item, key, wanted, c)))
            return false;
    } while (more);
    if (apr_walk_end(&walk, &e) != APR_OK)
        return no_json(c, &e);
    return w->features.at != NULL || complain(c, FAULT_REQUEST, "\"%s\" is missing", wanted);
}

bool read_wishes(struct wishes *w, struct apr_bytes body, const char *key, struct complaint *c)
{
    return body.n == 0 ? complain(c, FAULT_JSON, "there is no body") : read_members(w, body, key, c);
}

/* ---- numbers -------------------------------------------------------------------------------------------------------- */

static const unsigned char *skip_digits(const unsigned char *at, const unsigned char *end)
{
    while (at < end && *at >= '0' && *at <= '9')
        at++;
    return at;
}

/* JSON wants digits on both sides of the point, and no zero in front. */
static bool is_number(struct apr_bytes text)
{
    const unsigned char *at = text.at, *const end = at + text.n, *from;
    at += at < end && *at == '-';
    from = at;
    at = skip_digits(at, end);
    if (at == from || (*from == '0' && at - from > 1))
        return false;
    if (at < end && *at == '.') {
        from = ++at;
        at = skip_digits(at, end);
        if (at == from)
            return false;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        at += at < end && (*at == '+' || *at == '-');
        from = at;
        at = skip_digits(at, end);
        if (at == from)
            return false;
    }
    return at == end;
}

/* The value of feature i, which is called `key` or, where that is empty, goes by its place. */
static bool read_number(struct apr_bytes text, size_t i, struct apr_bytes key, double *x, struct complaint *c)
{
    const bool number = is_number(text);
    char place[24];
    if (number && number_read(text, &x[i]) == NUMBER_FINITE)
        return true;
    snprintf(place, sizeof place, "%zu", i);
    return complain(c, number ? FAULT_FINITE : FAULT_VALUE, "feature %s: expected a finite number, found %s",
                    key.at == NULL ? place : APR_QUOTED(key), APR_QUOTED(text));
}

static const unsigned char *skip_blanks(const unsigned char *at, const unsigned char *end)
{
    while (at < end && *at == ' ')
        at++;
    return at;
}

/* An array of n numbers as programs write it, at once. False where anything is otherwise: the walk then finds out what. */
static bool read_plain(struct apr_bytes text, size_t n, double *x)
{
    const unsigned char *at = text.at, *const end = at + text.n;
    for (size_t i = 0; i < n; i++) {
        const bool parted = at < end && *at == (i == 0 ? '[' : ',');
        const unsigned char *const from = skip_blanks(at + parted, end), *const behind = parted ? number_take(from, end, &x[i]) : NULL;
        if (behind == NULL || !is_number((struct apr_bytes){ from, (size_t)(behind - from) }))
            return false;
        at = skip_blanks(behind, end);
    }
    return n > 0 && at + 1 == end && *at == ']';
}

static bool read_by_place(const struct linear_model *m, struct apr_bytes text, double *x, struct complaint *c)
{
    struct apr_error e;
    struct apr_walk walk;
    struct apr_item item;
    bool more;
    size_t n = 0;
    if (read_plain(text, m->inputs, x))
        return true;
    if (apr_walk_in(&walk, text, 0, '[', &e) != APR_OK)
        return no_json(c, &e);
    for (;; n++) {
        if (apr_walk_next(&walk, &item, &more, &e) != APR_OK)
            return no_json(c, &e);
        if (!more)
            break;
        if (n < m->inputs && !read_number(item.value, n, (struct apr_bytes){ 0 }, x, c))
            return false;
    }
    return n == m->inputs || complain(c, FAULT_COUNT, "expected %zu features, found %zu", m->inputs, n);
}

static bool read_by_name(const struct linear_model *m, struct apr_bytes text, double *x, unsigned char *seen, struct apr_arena **a,
                         struct complaint *c)
{
    struct apr_error e;
    struct apr_walk walk;
    struct apr_item item;
    struct apr_bytes key;
    bool more;
    if (m->nfeature == 0)
        return complain(c, FAULT_NAME, "the model knows no names: expected an array of %zu features", m->inputs);
    memset(seen, 0, m->inputs);
    if (apr_walk_in(&walk, text, 0, '{', &e) != APR_OK)
        return no_json(c, &e);
    for (;;) {
        if (!next_member(&walk, a, &item, &key, &more, c))
            return false;
        if (!more)
            break;
        const size_t i = linear_feature(m, key);
        if (i == m->inputs)
            return complain(c, FAULT_NAME, "%s is no feature of the model", APR_QUOTED(key));
        if (seen[i]++ > 0)
            return complain(c, FAULT_NAME, "feature %s stands twice", APR_QUOTED(key));
        if (!read_number(item.value, i, key, x, c))
            return false;
    }
    for (size_t i = 0; i < m->inputs; i++)
        if (!seen[i])
            return complain(c, FAULT_MISSING, "feature %s is missing", APR_QUOTED(m->feature[i]));
    return true;
}

bool read_features(const struct linear_model *m, struct apr_bytes text, double *x, unsigned char *seen, struct complaint *c)
{
    if (text.at[0] == '[')
        return read_by_place(m, text, x, c);
    if (text.at[0] != '{')
        return complain(c, FAULT_REQUEST, "expected an array or an object of features, found %s", APR_QUOTED(text));
    struct apr_arena *a = NULL;
    const bool good = read_by_name(m, text, x, seen, &a, c);
    apr_arena_free(&a);
    return good;
}
