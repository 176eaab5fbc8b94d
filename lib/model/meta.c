#include "model/meta.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cursor.h"
#include "model/json.h"

#define DEPTH 127u /* arrays within arrays; readers bound them far below */

static const struct {
    const char *word;
    unsigned    width;
} types[] = {
    [APR_META_U8] = { "u8", 1 },      [APR_META_I8] = { "i8", 1 },       [APR_META_U16] = { "u16", 2 },   [APR_META_I16] = { "i16", 2 },
    [APR_META_U32] = { "u32", 4 },    [APR_META_I32] = { "i32", 4 },     [APR_META_F32] = { "f32", 4 },   [APR_META_BOOL] = { "bool", 1 },
    [APR_META_STRING] = { "str", 0 }, [APR_META_ARRAY] = { "arr", 0 },   [APR_META_U64] = { "u64", 8 },   [APR_META_I64] = { "i64", 8 },
    [APR_META_F64] = { "f64", 8 },    [APR_META_NULL] = { "null", 0 },   [APR_META_OBJECT] = { "obj", 0 }, [APR_META_ANY] = { "any", 0 },
};

const char *apr_meta_type_word(enum apr_meta_type t)
{
    return (size_t)t < APR_LENGTH(types) ? types[t].word : "?";
}

unsigned apr_meta_width(enum apr_meta_type t)
{
    return (size_t)t < APR_LENGTH(types) ? types[t].width : 0;
}

const struct apr_value *apr_meta_at(const struct apr_meta *meta, struct apr_bytes key)
{
    for (size_t i = meta->n; i-- > 0;)
        if (apr_bytes_equal(meta->entry[i].key, key))
            return &meta->entry[i].value;
    return NULL;
}

const struct apr_value *apr_meta_find(const struct apr_meta *meta, const char *key) { return apr_meta_at(meta, apr_text(key)); }

static int by_key_and_place(const void *a, const void *b)
{
    const struct apr_meta_entry *x = *(struct apr_meta_entry *const *)a, *y = *(struct apr_meta_entry *const *)b;
    const int order = apr_bytes_compare(x->key, y->key);
    return order != 0 ? order : (x > y) - (x < y);
}

enum apr_code apr_meta_keep_last(struct apr_meta *meta, apr_twice_fn *twice, void *ctx, struct apr_error *e)
{
    const size_t n = meta->n;
    struct apr_meta_entry *entry = meta->entry, **sorted = malloc((n + 1) * sizeof *sorted);
    if (sorted == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < n; i++)
        sorted[i] = &entry[i];
    qsort(sorted, n, sizeof *sorted, by_key_and_place);
    for (size_t i = 1; i < n; i++)
        if (apr_bytes_equal(sorted[i - 1]->key, sorted[i]->key)) {
            if (twice != NULL)
                twice(sorted[i - 1], sorted[i], ctx);
            sorted[i - 1]->key.at = NULL;
        }
    free(sorted);
    meta->n = 0;
    for (size_t i = 0; i < n; i++)
        if (entry[i].key.at != NULL)
            entry[meta->n++] = entry[i];
    return APR_OK;
}

static bool is_unsigned(enum apr_meta_type t)
{
    return t == APR_META_U8 || t == APR_META_U16 || t == APR_META_U32 || t == APR_META_U64;
}

static bool is_signed(enum apr_meta_type t)
{
    return t == APR_META_I8 || t == APR_META_I16 || t == APR_META_I32 || t == APR_META_I64;
}

bool apr_meta_unsigned(const struct apr_meta *meta, const char *key, uint64_t *out)
{
    const struct apr_value *v = apr_meta_find(meta, key);
    if (v == NULL || !(is_unsigned(v->type) || (is_signed(v->type) && v->i >= 0)))
        return false;
    *out = is_unsigned(v->type) ? v->u : (uint64_t)v->i;
    return true;
}

bool apr_meta_number(const struct apr_value *v, double *out)
{
    const bool real = v->type == APR_META_F32 || v->type == APR_META_F64;
    *out = is_unsigned(v->type) ? (double)v->u : is_signed(v->type) ? (double)v->i : real ? v->f : v->type == APR_META_BOOL ? v->b : 0;
    return real || is_unsigned(v->type) || is_signed(v->type) || v->type == APR_META_BOOL;
}

struct apr_bytes apr_meta_string(const struct apr_meta *meta, const char *key)
{
    const struct apr_value *v = apr_meta_find(meta, key);
    return v != NULL && v->type == APR_META_STRING ? v->text : (struct apr_bytes){ 0 };
}

/* ---- elements ------------------------------------------------------------------------------------------------------ */

/* Steps over n elements of one type; nested arrays are | u32 type | u64 n | elements |, strings | u64 n | bytes |. */
static void skip_elements(struct apr_cursor *c, enum apr_meta_type type, uint64_t n, unsigned levels)
{
    const unsigned width = apr_meta_width(type);
    uint64_t bytes;
    if (width > 0) {
        apr_take_bytes(c, apr_mul(n, width, &bytes) ? bytes : UINT64_MAX);
        return;
    }
    for (; n > 0 && !c->bad; n--) {
        if (type == APR_META_STRING) {
            apr_take_bytes(c, apr_u64(c));
        } else if (type == APR_META_ARRAY && levels > 0) {
            const enum apr_meta_type inner = (enum apr_meta_type)apr_u32(c);
            skip_elements(c, inner, apr_u64(c), levels - 1);
        } else {
            c->bad = true;
        }
    }
}

static void take_value(struct apr_cursor *c, struct apr_value *v)
{
    float f;
    switch (v->type) {
    case APR_META_U8:
    case APR_META_U16:
    case APR_META_U32:
    case APR_META_U64:  v->u = apr_take_integer(c, apr_meta_width(v->type)); break;
    case APR_META_I8:   v->i = (int8_t)apr_u8(c); break;
    case APR_META_I16:  v->i = (int16_t)apr_u16(c); break;
    case APR_META_I32:  v->i = (int32_t)apr_u32(c); break;
    case APR_META_I64:  v->i = (int64_t)apr_u64(c); break;
    case APR_META_BOOL: v->b = apr_u8(c) != 0; break;
    case APR_META_F32:
        memcpy(&f, &(uint32_t){ apr_u32(c) }, sizeof f);
        v->f = (double)f;
        break;
    case APR_META_F64:    memcpy(&v->f, &(uint64_t){ apr_u64(c) }, sizeof v->f); break;
    case APR_META_STRING: v->text = apr_take_bytes(c, apr_u64(c)); break;
    case APR_META_ARRAY: {
        v->element = (enum apr_meta_type)apr_u32(c);
        v->n = apr_u64(c);
        const size_t begin = c->at;
        skip_elements(c, v->element, v->n, DEPTH);
        v->text = (struct apr_bytes){ c->of.at + begin, c->at - begin };
        break;
    }
    default: c->bad = true;
    }
}

struct apr_elements apr_elements_of(const struct apr_value *array)
{
    return (struct apr_elements){ .array = *array, .left = array->encoding == APR_JSON ? 1 : array->n };
}

/* One item of a JSON walk that is resumed where the last step left it. */
static bool next_item(struct apr_elements *w, struct apr_item *item)
{
    struct apr_error e;
    struct apr_walk walk = { .text = w->array.text, .at = w->at, .close = w->array.type == APR_META_OBJECT ? '}' : ']', .started = true };
    if (w->at == 0 && apr_walk_in(&walk, w->array.text, 0, w->array.type == APR_META_OBJECT ? '{' : '[', &e) != APR_OK)
        return !(w->lost = true);
    bool more;
    w->lost = apr_walk_next(&walk, item, &more, &e) != APR_OK;
    if (w->lost || !more)
        return false;
    w->at = walk.at;
    return true;
}

static bool next_json(struct apr_elements *w, struct apr_value *v)
{
    struct apr_item item;
    struct apr_value key = { 0 };
    if (!next_item(w, &item))
        return false;
    w->lost = !apr_json_element(item.value, &w->scratch, v) ||
              (w->array.type == APR_META_OBJECT && !apr_json_element(item.key, &w->key_scratch, &key));
    w->key = key.text;
    return !w->lost;
}

bool apr_elements_next(struct apr_elements *w, struct apr_value *v)
{
    *v = (struct apr_value){ 0 };
    if (w->left == 0)
        return false;
    bool found;
    if (w->array.encoding == APR_JSON) {
        found = next_json(w, v);
    } else {
        struct apr_cursor c = { .of = w->array.text, .at = w->at, .big = w->array.encoding == APR_GGUF_BE };
        v->type = w->array.element;
        v->encoding = w->array.encoding;
        take_value(&c, v);
        w->at = c.at;
        w->left--;
        found = !c.bad;
    }
    if (!found)
        w->left = 0;
    return found;
}

void apr_elements_end(struct apr_elements *w)
{
    free(w->scratch);
    free(w->key_scratch);
    *w = (struct apr_elements){ 0 };
}

enum apr_code apr_elements_done(struct apr_elements *w, enum apr_code code, struct apr_error *e)
{
    const bool lost = w->lost;
    apr_elements_end(w);
    return code == APR_OK && lost ? apr_no_memory(e) : code;
}

uint64_t apr_meta_length(const struct apr_value *array)
{
    if (array->encoding != APR_JSON)
        return array->n;
    struct apr_elements w = apr_elements_of(array);
    struct apr_item item;
    uint64_t n = 0;
    while (next_item(&w, &item))
        n++;
    return n;
}

/* ---- equality ------------------------------------------------------------------------------------------------------ */

struct member {
    struct apr_bytes key, value;
};

static int by_key(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    const int order = apr_bytes_compare(x->key, y->key);
    return order != 0 ? order : (x->value.at > y->value.at) - (x->value.at < y->value.at);
}

/* The members in order of their keys as spelled, equal ones in theirs. NULL when memory is out. */
static struct member *sorted_members(const struct apr_value *object, size_t *n)
{
    *n = (size_t)apr_meta_length(object);
    struct member *m = malloc((*n + 1) * sizeof *m);
    if (m == NULL)
        return NULL;
    struct apr_elements w = apr_elements_of(object);
    struct apr_item item;
    for (size_t i = 0; i < *n && next_item(&w, &item); i++)
        m[i] = (struct member){ item.key, item.value };
    qsort(m, *n, sizeof *m, by_key);
    return m;
}

static bool member_equal(const struct member *a, const struct member *b)
{
    unsigned char *scratch[2] = { NULL, NULL };
    struct apr_value x, y;
    const bool equal = apr_bytes_equal(a->key, b->key) && apr_json_element(a->value, &scratch[0], &x) &&
                       apr_json_element(b->value, &scratch[1], &y) && apr_value_equal(&x, &y);
    free(scratch[0]);
    free(scratch[1]);
    return equal;
}

static bool object_equal(const struct apr_value *a, const struct apr_value *b)
{
    size_t na, nb;
    struct member *x = sorted_members(a, &na), *y = sorted_members(b, &nb);
    bool equal = x != NULL && y != NULL && na == nb;
    for (size_t i = 0; equal && i < na; i++)
        equal = member_equal(&x[i], &y[i]);
    free(x);
    free(y);
    return equal;
}

static bool array_equal(const struct apr_value *a, const struct apr_value *b)
{
    if (a->encoding != APR_JSON && b->encoding != APR_JSON && (a->element != b->element || a->n != b->n))
        return false;
    struct apr_elements x = apr_elements_of(a), y = apr_elements_of(b);
    struct apr_value v, w;
    bool equal, more;
    do {
        more = apr_elements_next(&x, &v);
        equal = more == apr_elements_next(&y, &w) && (!more || apr_value_equal(&v, &w));
    } while (equal && more);
    apr_elements_end(&x);
    apr_elements_end(&y);
    return equal;
}

bool apr_value_equal(const struct apr_value *a, const struct apr_value *b)
{
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case APR_META_NULL:   return true;
    case APR_META_BOOL:   return a->b == b->b;
    case APR_META_STRING: return apr_bytes_equal(a->text, b->text);
    case APR_META_ARRAY:
    case APR_META_OBJECT:
        if (a->encoding == b->encoding && a->element == b->element && a->n == b->n && apr_bytes_equal(a->text, b->text))
            return true;
        return a->type == APR_META_ARRAY ? array_equal(a, b) : object_equal(a, b);
    default: return a->u == b->u; /* the 8 bytes of any number */
    }
}
