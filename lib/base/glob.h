/* Shell patterns over whole names. */
#ifndef APR_GLOB_H
#define APR_GLOB_H

#include "base/core.h"

/* Does the glob match the whole name? * any characters, ? one, [a-z] [!a-z] [[:digit:]] one of a set, \ takes the next as it is; a
 * bracket without its end is a character like others, and so is a dot. Characters are those of UTF-8; a byte that is in none counts as
 * one. At most *work steps, which
 * those taken are taken from: when none is left there is no answer. It takes no more than the product of both lengths. */
bool apr_glob_matches(struct apr_bytes glob, struct apr_bytes name, uint64_t *work);

/* The same of a short glob of our own, and a path. */
bool apr_glob_is(const char *glob, const char *path);

/* The longest run of plain characters in the glob, a view: a name without it does not match. */
struct apr_bytes apr_glob_literal(struct apr_bytes glob);

#endif
