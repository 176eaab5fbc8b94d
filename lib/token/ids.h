/* Token ids as people write them. */
#ifndef APR_IDS_H
#define APR_IDS_H

#include "token/encode.h"

/* Adds the ids of a list that is parted by commas, with or without blanks around them, or by blanks and line breaks alone. Each is below
 * `rows`, those of the embedding. in_file: messages say at which byte. APR_EARG for what is no id, and for none at all; APR_ELIMIT for more
 * than 16 Mi. */
APR_MUST_CHECK enum apr_code apr_ids_read(struct apr_ids *ids, struct apr_bytes text, uint64_t rows, bool in_file, struct apr_error *e);

/* The same of a file; e names it. */
APR_MUST_CHECK enum apr_code apr_ids_of_file(struct apr_ids *ids, const char *path, uint64_t rows, const struct apr_run *r,
                                             struct apr_error *e);

/* Of such lists: the place of the first byte from `at` on that is no blank; the word from *at on that ends at a comma or a blank, *at then
 * behind it. */
size_t apr_skip_blanks(struct apr_bytes text, size_t at);
struct apr_bytes apr_next_word(struct apr_bytes text, size_t *at);

/* How many digits the text begins with; *n is their number, UINT64_MAX where 64 bits do not hold it. */
size_t apr_digits(struct apr_bytes text, uint64_t *n);

#endif
