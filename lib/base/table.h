/* A hash table: bytes or integers to numbers or pointers. */
#ifndef APR_TABLE_H
#define APR_TABLE_H

#include "base/core.h"

/* Keys are views that must outlive their table; equal bytes are one key. A table of zeros is an empty one, its entries stand in the order
 * in which their keys were put. Free with apr_table_free. One thread fills it, then any may ask. */
struct apr_table_entry {
    struct apr_bytes key;
    union apr_table_value {
        uint64_t number;
        void    *pointer;
    } value;
};

/* An integer as a key; no bytes are equal to it. */
struct apr_bytes apr_table_integer(uint64_t number);

/* Where the key's value stands, or NULL. It may be written, and stays there until the next key is put. */
union apr_table_value *apr_table_find(const struct apr_table *t, struct apr_bytes key);

/* The same, but an absent key is put in, *fresh then and its value 0. NULL when memory is out; the keys are then what they were. */
union apr_table_value *apr_table_put(struct apr_table *t, struct apr_bytes key, bool *fresh);

/* Room for n keys in all, so that it need not grow on the way to them; false when memory is out. */
APR_MUST_CHECK bool apr_table_expect(struct apr_table *t, size_t n);

void apr_table_free(struct apr_table *t);

#endif
