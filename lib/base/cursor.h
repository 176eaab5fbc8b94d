/* Reads that cannot leave their bytes. A read past the end gives zeros and sets `bad`, which stays set: a record is read first
 * and questioned once. `big` turns the byte order round. */
#ifndef APR_CURSOR_H
#define APR_CURSOR_H

#include "base/core.h"

struct apr_cursor {
    struct apr_bytes of;
    size_t           at;
    bool             bad, big;
};

static inline struct apr_cursor apr_cursor_on(struct apr_bytes of) { return (struct apr_cursor){ .of = of }; }

static inline size_t apr_left(const struct apr_cursor *c) { return c->of.n - c->at; }

/* The next n bytes, or none and `bad`. */
static inline struct apr_bytes apr_take_bytes(struct apr_cursor *c, uint64_t n)
{
    if (c->bad || n > apr_left(c)) {
        c->bad = true;
        return (struct apr_bytes){ 0 };
    }
    const struct apr_bytes b = { c->of.at + c->at, (size_t)n };
    c->at += (size_t)n;
    return b;
}

static inline uint64_t apr_take_integer(struct apr_cursor *c, unsigned width)
{
    const struct apr_bytes b = apr_take_bytes(c, width);
    uint64_t v = 0;
    for (size_t i = 0; i < b.n; i++)
        v |= (uint64_t)b.at[i] << 8 * (c->big ? b.n - 1 - i : i);
    return v;
}

static inline uint8_t  apr_u8(struct apr_cursor *c) { return (uint8_t)apr_take_integer(c, 1); }
static inline uint16_t apr_u16(struct apr_cursor *c) { return (uint16_t)apr_take_integer(c, 2); }
static inline uint32_t apr_u32(struct apr_cursor *c) { return (uint32_t)apr_take_integer(c, 4); }
static inline uint64_t apr_u64(struct apr_cursor *c) { return apr_take_integer(c, 8); }

#endif
