/* Between expression.c and oniguruma.c. */
#ifndef APR_EXPRESSION_PARTS_H
#define APR_EXPRESSION_PARTS_H

#include "token/encode_parts.h"

/* For sets, without their brackets: Unicode's White_Space; what Oniguruma takes for a word's character, and what Rust's regex does. */
#define APR_SPACES "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define APR_WORD   "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"
#define APR_RUST_WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}"

/* Adds to out, in PCRE2's spelling, what the text means in Oniguruma's syntax for Ruby. APR_EUNSUPPORTED: a part of it is not known. */
APR_MUST_CHECK enum apr_code apr_spell_expression(struct apr_made *out, struct apr_bytes text, struct apr_error *e);

#endif
