/* What --tensor shows. */
#ifndef APR_INSPECT_VALUES_H
#define APR_INSPECT_VALUES_H

#include "flow/input.h"
#include "inspect.h"

/* [from, to) of each dimension; one that was given as a number is left out of the result's shape. */
struct window {
    uint64_t from[APR_MAX_DIMS], to[APR_MAX_DIMS];
    bool     single[APR_MAX_DIMS];
};

/* What is shown of a tensor. */
struct view {
    const struct inspection *x;
    const struct apr_tensor *stored;
    struct apr_input         in;
    struct window            w;
};

/* Numbers are written through these: as text or as JSON. */
struct printer {
    struct apr_out *json;
    unsigned        column;
    bool            whole; /* integers */
};

/* Values [first, first + n) of a decodable tensor. */
void put_run(struct printer *p, const struct view *v, uint64_t first, uint64_t n);

/* --slice as a range of n things, by default the first `most`. */
APR_MUST_CHECK enum apr_code take_run(const struct inspection *x, uint64_t n, uint64_t most, uint64_t *from, uint64_t *to,
                                      struct apr_error *e);

/* ---- blocks.c ------------------------------------------------------------------------------------------------------- */

/* The chosen blocks; APR_EARG when the type has none. Then, as text or as members of an object, what is in them. */
APR_MUST_CHECK enum apr_code take_blocks(const struct view *v, uint64_t *from, uint64_t *to, struct apr_error *e);
void put_blocks(struct apr_out *json, const struct view *v, uint64_t from, uint64_t to);

/* The chosen bytes, and where they begin in their file. */
APR_MUST_CHECK enum apr_code take_bytes(const struct view *v, struct apr_bytes *b, uint64_t *at, struct apr_error *e);
void print_hex(struct apr_bytes b, uint64_t at);
void write_hex(struct apr_out *j, struct apr_bytes b);

#endif
