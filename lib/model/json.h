/* JSON without trees: an object or array is walked member by member over its bytes, and each value is handed to jansson alone,
 * under a budget. So memory is bounded by the largest member, every value keeps its spelling, and messages know their byte. */
#ifndef APR_JSON_H
#define APR_JSON_H

#include <jansson.h>

#include "base/arena.h"
#include "base/core.h"

/* A walk over the members of one object, or the elements of one array.
 *   base  file offset of text.at[0], for messages */
struct apr_walk {
    struct apr_bytes text;
    uint64_t         base;
    size_t           at;
    char             close; /* '}' or ']' */
    bool             started;
};

/* One step. key: the key with its quotes, as spelled (none in an array). value: its bytes, without surrounding white space, not
 * yet checked beyond balanced brackets. key_at, value_at: file offsets. */
struct apr_item {
    struct apr_bytes key, value;
    uint64_t         key_at, value_at;
};

/* Starts at the first byte that is not JSON white space, which must be `open`, '{' or '['. */
APR_MUST_CHECK enum apr_code apr_walk_in(struct apr_walk *w, struct apr_bytes text, uint64_t base, char open, struct apr_error *e);

/* The next one; *more is false at the end of the object or array, when w->at stands behind it. */
APR_MUST_CHECK enum apr_code apr_walk_next(struct apr_walk *w, struct apr_item *item, bool *more, struct apr_error *e);

/* After the last item: nothing but white space may follow. */
APR_MUST_CHECK enum apr_code apr_walk_end(const struct apr_walk *w, struct apr_error *e);

/* One whole value by jansson: strict, duplicate keys refused, at most 127 levels deep, integers of 64 bits with sign. `at` is its
 * file offset. *json is a new reference. All json_t of the process share a budget of 64 MiB, counted in jansson's own blocks from
 * the first call on: make no json_t before it, and give what json_dumps returns back through json_get_alloc_funcs. Any thread. */
APR_MUST_CHECK enum apr_code apr_json_load(json_t **json, struct apr_bytes text, uint64_t at, struct apr_error *e);

/* The same, but of a key that stands twice the last counts, as in Python. */
APR_MUST_CHECK enum apr_code apr_json_load_last(json_t **json, struct apr_bytes text, uint64_t at, struct apr_error *e);

/* Checks one value of any size, however large, without keeping it: containers are walked in one pass, at most 127 levels deep (or
 * `most`), scalars loaded. Keys that occur twice are no fault here. */
APR_MUST_CHECK enum apr_code apr_json_check(struct apr_bytes text, uint64_t at, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_json_check_to(unsigned most, struct apr_bytes text, uint64_t at, struct apr_error *e);

/* A string with its quotes -> its bytes: a view when nothing is escaped, else in the arena (m's). It may hold NUL. */
APR_MUST_CHECK enum apr_code apr_json_text(struct apr_arena **a, struct apr_bytes quoted, uint64_t at, struct apr_bytes *out,
                                           struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_json_string(struct apr_model *m, struct apr_bytes quoted, uint64_t at, struct apr_bytes *out,
                                             struct apr_error *e);

/* A value -> its metadata form: numbers and booleans loaded, strings decoded (into m's arena when escaped), arrays and objects
 * checked by apr_json_check and kept as they are spelled. */
APR_MUST_CHECK enum apr_code apr_json_value(struct apr_model *m, struct apr_bytes text, uint64_t at, struct apr_value *v,
                                            struct apr_error *e);

/* The same for text that lies within what apr_json_check has passed: arrays and objects are not checked again. */
APR_MUST_CHECK enum apr_code apr_json_checked(struct apr_arena **a, struct apr_bytes text, uint64_t at, struct apr_value *v,
                                              struct apr_error *e);

/* The same, on any thread and without a model, for text that apr_json_check has passed: an escaped string is decoded into
 * *scratch, a block of malloc (or NULL) that is replaced. False when memory is out. */
bool apr_json_element(struct apr_bytes text, unsigned char **scratch, struct apr_value *v);

/* A plain non-negative integer as SafeTensors wants it: digits only, no leading zero, below 2^64. */
bool apr_json_plain(struct apr_bytes text, uint64_t *n);

#endif
