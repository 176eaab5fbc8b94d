/* What kind of character it is. The version of Unicode is that of utf8proc. */
#ifndef APR_LETTERS_H
#define APR_LETTERS_H

#include "base/core.h"

/* The first letter of its general category: 'C' 'L' 'M' 'N' 'P' 'S' 'Z'; unassigned ones are 'C'. */
char apr_letter_class(uint32_t c);
bool apr_is_nonspacing(uint32_t c);       /* category Mn */
bool apr_is_unassigned(uint32_t c);       /* category Cn */
bool apr_is_young(uint32_t c);            /* a mark, punctuation or a format character of which BERT's part of tokenizers does not know */
bool apr_is_ideograph(uint32_t c);        /* in one of the blocks around which BERT puts blanks */
uint32_t apr_lower(uint32_t c);           /* the one small letter, or itself */
bool apr_ends_grapheme(uint32_t c, uint32_t next, int32_t *state); /* is there a boundary between them? state begins as 0 */

#endif
