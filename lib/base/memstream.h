/* A stream into memory. */
#ifndef APR_MEMSTREAM_H
#define APR_MEMSTREAM_H

#include <stddef.h>
#include <stdio.h>

/* As open_memstream, but a want of memory is an error of the stream, told by ferror and fclose; glibc's forgets what it had no room for and
 * goes on. NULL: no memory. *text, with a NUL behind its *n bytes, is there after fflush or fclose, also when they fail; the caller frees
 * it. */
FILE *apr_memstream(char **text, size_t *n);

#endif
