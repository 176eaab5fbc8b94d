/* Comparing, naming and growing ranges of bytes. */
#ifndef APR_BYTES_H
#define APR_BYTES_H

#include <string.h>

#include "base/core.h"

int  apr_bytes_compare(struct apr_bytes a, struct apr_bytes b);  /* memcmp order, shorter first */
bool apr_bytes_equal(struct apr_bytes a, struct apr_bytes b);
bool apr_bytes_is(struct apr_bytes a, const char *word);         /* is it that word? */
bool apr_bytes_have(struct apr_bytes a, const char *word);       /* does it stand in them? */
bool apr_bytes_begin(struct apr_bytes a, struct apr_bytes with); /* are those the first of them? */
bool apr_bytes_end(struct apr_bytes a, struct apr_bytes with);   /* are those the last of them? */
bool apr_is_utf8(struct apr_bytes a);
bool apr_has_control(struct apr_bytes name);                     /* C0, DEL or, as UTF-8, C1 */
struct apr_bytes apr_text(const char *s);                        /* without its terminator */

/* What "%.*s" takes to print b, as it is. */
#define APR_PRINTED(b) (int)(b).n, (const char *)(b).at

/* The array with room for one element behind its n: as it was, or moved by realloc with *room doubled (`first` at the start). NULL when
 * memory is out; the array and *room are then as they were. */
void *apr_grown(void *array, size_t *room, size_t n, size_t first, size_t size);

#endif
