/* Name patterns as users write them: a plain word is a substring; with * ? [ a glob over the whole name (base/glob.h); re:... a regular
 * expression (base/regex.h); of those, re:^...$ with nothing but plain and escaped characters is the one name that it spells. */
#ifndef APR_PATTERN_H
#define APR_PATTERN_H

#include "base/core.h"

/* Patterns in order, NULL while there are none. Their number costs little where words or the plain part of globs tell them apart. What
 * all matching may take grows with the number of names asked for, not with what the patterns say. One thread at a time. */
struct apr_patterns;

/* Adds one at the end; of a glob the text is a glob even without * ? [. APR_EARG names the pattern and says what is wrong with it: more
 * than APR_PATTERN_MOST bytes, or what regex.h refuses. The caller frees them all with apr_patterns_free. */
#define APR_PATTERN_MOST 16384
APR_MUST_CHECK enum apr_code apr_patterns_add(struct apr_patterns **p, struct apr_bytes text, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_patterns_add_glob(struct apr_patterns **p, struct apr_bytes text, struct apr_error *e);
void apr_patterns_free(struct apr_patterns *p);

/* The number of the first pattern that matches the name, from 0, or APR_NO_PATTERN. APR_ELIMIT names the pattern that takes too long, or
 * the name that is too long for an expression. */
#define APR_NO_PATTERN SIZE_MAX
APR_MUST_CHECK enum apr_code apr_patterns_first(struct apr_patterns *p, struct apr_bytes name, size_t *first, struct apr_error *e);

/* Does any match? Also when there are none at all. */
APR_MUST_CHECK enum apr_code apr_patterns_want(struct apr_patterns *p, struct apr_bytes name, bool *yes, struct apr_error *e);

/* Remembers all patterns that match the name; which of them have matched such a name. */
APR_MUST_CHECK enum apr_code apr_patterns_note(struct apr_patterns *p, struct apr_bytes name, struct apr_error *e);
bool apr_patterns_noted(const struct apr_patterns *p, size_t i);

/* How many there are, and the text of one. */
size_t apr_patterns_count(const struct apr_patterns *p);
struct apr_bytes apr_patterns_text(const struct apr_patterns *p, size_t i);

#endif
