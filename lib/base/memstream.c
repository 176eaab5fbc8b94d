#include "base/memstream.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

struct memory {
    char  **text;
    size_t *n, room;
    int     lost; /* EOF when there was no room once */
};

/* 0 is how a cookie's stream is told of a failure. */
static ssize_t put(void *cookie, const char *bytes, size_t n)
{
    struct memory *const m = cookie;
    if (n >= m->room - *m->n) {
        const size_t room = n < (SIZE_MAX - m->room) / 2 ? 2 * m->room + n : 0;
        char *const grown = room > 0 ? realloc(*m->text, room) : NULL;
        if (grown == NULL) {
            errno = ENOMEM;
            m->lost = EOF;
            return 0;
        }
        *m->text = grown;
        m->room = room;
    }
    memcpy(*m->text + *m->n, bytes, n);
    *m->n += n;
    (*m->text)[*m->n] = 0;
    return (ssize_t)n;
}

static int end(void *cookie)
{
    const int lost = ((struct memory *)cookie)->lost;
    free(cookie);
    return lost;
}

FILE *apr_memstream(char **text, size_t *n)
{
    enum { FIRST = 256 };
    struct memory *const m = malloc(sizeof *m);
    *text = malloc(FIRST);
    *n = 0;
    FILE *const f = m == NULL || *text == NULL ? NULL : fopencookie(m, "w", (cookie_io_functions_t){ .write = put, .close = end });
    if (f == NULL) {
        free(m);
        free(*text);
        *text = NULL;
        return NULL;
    }
    **text = 0;
    *m = (struct memory){ text, n, FIRST, 0 };
    return f;
}
