/* Numbers, and metadata, as JSON spells them, so that they read back as they are. */
#ifndef APR_SPELL_H
#define APR_SPELL_H

#include <stdio.h>

#include "base/arena.h"
#include "model/meta.h"

/* Room for any of them. */
#define APR_SPELL_ROOM 48

/* The shortest decimals that read back as the same F32, as the same double, always with a point or an exponent: "1e-05", "10000.0",
 * "-0.0". v is finite. Both return text. */
const char *apr_spell_f32(double v, char text[APR_SPELL_ROOM]);
const char *apr_spell_f64(double v, char text[APR_SPELL_ROOM]);

/* One value of metadata as JSON, in the arena: 64-bit integers whole, F32 as above, what JSON has spelled as it is. Not finite: null. */
APR_MUST_CHECK enum apr_code apr_spell_value(struct apr_arena **a, const struct apr_value *v, struct apr_bytes *json, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_spell_string(struct apr_arena **a, struct apr_bytes text, struct apr_bytes *json, struct apr_error *e);

/* What was written to a stream of apr_memstream, moved into the arena; *text is freed. */
APR_MUST_CHECK enum apr_code apr_spelled(struct apr_arena **a, FILE *to, char **text, const size_t *n, struct apr_bytes *out,
                                         struct apr_error *e);

#endif
