/* Regular expressions that come from users and files: PCRE2 with a bound to everything. */
#ifndef APR_REGEX_H
#define APR_REGEX_H

#include "base/core.h"

/* An expression over UTF-8, in the syntax of PCRE2: "." takes any character, $ only the end, [[:alpha:]] and its like work, parentheses
 * do not capture. What lets a match look at what it has matched, or do anything but match, is refused: back references, named groups,
 * recursion, conditions, callouts, verbs, comments. So are more than 100 parentheses within each other and what compiles to more than
 * 64 KiB. APR_EARG, with what is wrong as the text. Free with apr_regex_free. */
struct apr_regex;
APR_MUST_CHECK enum apr_code apr_regex_new(struct apr_regex **x, struct apr_bytes text, struct apr_error *e);
void apr_regex_free(struct apr_regex *x);
size_t apr_regex_bytes(const struct apr_regex *x); /* of memory that it takes */

/* Does it match somewhere in the text? At most APR_REGEX_SUBJECT bytes, and *work steps, which those taken are taken from: else
 * APR_ELIMIT, and *work is 0 when it was for the steps. APR_EARG for a text that is no UTF-8. The same on every machine. One thread at a
 * time. */
#define APR_REGEX_SUBJECT 1024
APR_MUST_CHECK enum apr_code apr_regex_matches(struct apr_regex *x, struct apr_bytes text, uint64_t *work, bool *yes, struct apr_error *e);

#endif
