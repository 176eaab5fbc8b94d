/* Changing members of a JSON object in its text: all else stays byte for byte. */
#ifndef APR_JSON_EDIT_H
#define APR_JSON_EDIT_H

#include "base/arena.h"
#include "base/core.h"

/* The value at a path ("rope_scaling.factor") as it is spelled; empty when there is none. Of a key that stands twice the last counts. The
 * text is an object that apr_json_check, or Python, takes. */
struct apr_bytes apr_json_find(struct apr_bytes object, const char *path);

/* Puts the JSON text `value` at a path of *object, in the place of what is there, else behind the last member; objects on the way are made
 * where there are none. *object becomes a text in the arena. A text with line breaks gets a line of its own for each member. */
APR_MUST_CHECK enum apr_code apr_json_put(struct apr_arena **a, struct apr_bytes *object, const char *path, struct apr_bytes value,
                                          struct apr_error *e);

/* Takes the member of that key out of *object, which becomes a text in the arena; nothing where there is none. */
APR_MUST_CHECK enum apr_code apr_json_drop(struct apr_arena **a, struct apr_bytes *object, const char *key, struct apr_error *e);

#endif
