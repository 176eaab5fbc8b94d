/* Name patterns as users write them: a plain word is a substring; with * ? [ a glob over the whole name; re:... a POSIX extended
 * regular expression. */
#ifndef APR_PATTERN_H
#define APR_PATTERN_H

#include "base/core.h"

struct apr_pattern;

/* Compiles one; the caller frees it with apr_pattern_free. APR_EARG names what is wrong with it. */
APR_MUST_CHECK enum apr_code apr_pattern_new(struct apr_pattern **p, const char *text, struct apr_error *e);
void apr_pattern_free(struct apr_pattern *p);
bool apr_pattern_matches(const struct apr_pattern *p, struct apr_bytes name);

#endif
