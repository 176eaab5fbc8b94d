/* Asking metadata. */
#ifndef APR_META_H
#define APR_META_H

#include "base/core.h"

/* The value of key, or NULL. The last entry wins where a format allows a key twice. Linear for few keys; models have tens. */
const struct apr_value *apr_meta_find(const struct apr_meta *meta, const char *key);
const struct apr_value *apr_meta_at(const struct apr_meta *meta, struct apr_bytes key);

/* Of the entries of one key the last stays, where it stands; for each that goes twice(it, the one after it, ctx) is called (NULL: nothing),
 * by rising keys. */
typedef void apr_twice_fn(const struct apr_meta_entry *gone, const struct apr_meta_entry *next, void *ctx);
APR_MUST_CHECK enum apr_code apr_meta_keep_last(struct apr_meta *meta, apr_twice_fn *twice, void *ctx, struct apr_error *e);

/* *out is the integer at key; false when it is absent, not an integer, or negative. */
bool apr_meta_unsigned(const struct apr_meta *meta, const char *key, uint64_t *out);

/* *out is the number that v is, of any kind; booleans count as 0 and 1. */
bool apr_meta_number(const struct apr_value *v, double *out);

/* The string at key, or empty. */
struct apr_bytes apr_meta_string(const struct apr_meta *meta, const char *key);

/* "u8" ... "f64", "bool", "str", "arr", "null", "obj", "any". */
const char *apr_meta_type_word(enum apr_meta_type t);

/* Bytes of one element of a fixed-size GGUF type, 0 for strings and arrays and for no type. */
unsigned apr_meta_width(enum apr_meta_type t);

/* A walk over the elements of an ARRAY value (or the members of an OBJECT: then `key` is set). Values are views; an escaped JSON
 * string is decoded into `scratch`, which the next step reuses. End it with apr_elements_end.
 *   left  elements to come; JSON: 1 until the end was seen
 *   lost  the walk ended before the last one, for want of memory */
struct apr_elements {
    struct apr_value array;
    uint64_t         left;
    size_t           at;
    struct apr_bytes key;
    unsigned char   *scratch, *key_scratch;
    bool             lost;
};
struct apr_elements apr_elements_of(const struct apr_value *array);
bool apr_elements_next(struct apr_elements *w, struct apr_value *v); /* false at the end, or when memory is out */
void apr_elements_end(struct apr_elements *w);

/* Ends a walk of which all is wanted: code, and when that is APR_OK and elements were lost, APR_ENOMEM. */
APR_MUST_CHECK enum apr_code apr_elements_done(struct apr_elements *w, enum apr_code code, struct apr_error *e);

/* The number of elements of an ARRAY (counted, for JSON). */
uint64_t apr_meta_length(const struct apr_value *array);

/* Equal type and value: floats by their bits, arrays element by element, objects in any order of their keys. Big-endian or not and
 * JSON or GGUF make no difference as such, but JSON integers are u64 or i64, its other numbers f64. */
bool apr_value_equal(const struct apr_value *a, const struct apr_value *b);

#endif
