/* Metadata being made: what is to be written, in order. */
#ifndef APR_DRAFT_H
#define APR_DRAFT_H

#include "base/arena.h"
#include "base/core.h"

/* Keys are unique. Begin with zeros, end with apr_draft_end. The rest is private. */
struct apr_draft {
    struct apr_meta   meta;
    struct apr_arena *arena;
    struct apr_table  place; /* of each key: its entry */
};
void apr_draft_end(struct apr_draft *d);

/* key = value. A key that is there keeps its place and gets the value. The key is copied, the value's text is borrowed. */
APR_MUST_CHECK enum apr_code apr_draft_put(struct apr_draft *d, struct apr_bytes key, const struct apr_value *v, struct apr_error *e);

/* The same for what is at hand; texts are copied. JSON is one value as it is spelled: an object, an array, a number ... */
APR_MUST_CHECK enum apr_code apr_draft_u32(struct apr_draft *d, const char *key, uint32_t v, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_draft_f32(struct apr_draft *d, const char *key, double v, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_draft_bool(struct apr_draft *d, const char *key, bool v, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_draft_text(struct apr_draft *d, const char *key, struct apr_bytes v, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_draft_json(struct apr_draft *d, const char *key, struct apr_bytes json, struct apr_error *e);

/* Takes the key out; false when it was not there. Costs time in the keys behind it. */
bool apr_draft_remove(struct apr_draft *d, struct apr_bytes key);

/* Its value, or NULL. */
const struct apr_value *apr_draft_find(const struct apr_draft *d, struct apr_bytes key);

/* An array being made, as a GGUF has it: elements of one type, one after the other. Begin with { .element = ... }; memory that is out is
 * told at the end, when it goes to the draft. */
struct apr_array {
    enum apr_meta_type element;
    uint64_t           n;
    unsigned char     *at;
    size_t             bytes, room;
    bool               lost;
};
void apr_array_text(struct apr_array *a, struct apr_bytes text);
void apr_array_integer(struct apr_array *a, uint64_t v); /* of any integer type, and of bool */
void apr_array_real(struct apr_array *a, double v);
APR_MUST_CHECK enum apr_code apr_draft_array(struct apr_draft *d, const char *key, struct apr_array *a, struct apr_error *e);
void apr_array_drop(struct apr_array *a); /* for one that goes nowhere; harmless after apr_draft_array */

#endif
