/* Decimal numbers, by the hundred million. */
#ifndef APR_LINEAR_NUMBER_H
#define APR_LINEAR_NUMBER_H

#include "base/core.h"

/* What a field of a table is.
 *   NUMBER   a finite one, in decimal, with the blanks before it that strtod skips
 *   NONE     nothing (blanks alone too), a NaN, an infinity, a number too large for a double
 *   TEXT     all else, hexadecimal numbers included */
enum number_kind { NUMBER_FINITE, NUMBER_NONE, NUMBER_TEXT };

/* Reads all of the field: what strtod in the C locale gives, bit by bit. *v is set for a finite one. */
enum number_kind number_read(struct apr_bytes field, double *v);

/* Reads a number at the start of [at, end) as far as it goes, without blanks: behind it, or NULL when there is none or it is one of those
 * that only number_read knows. What stands behind is the caller's to judge. */
const unsigned char *number_take(const unsigned char *at, const unsigned char *end, double *v);

#endif
