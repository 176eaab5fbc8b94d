#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES 65536

struct apr_arena {
    struct apr_arena *next;
    size_t            used, room;
    max_align_t       bytes[];
};

void *apr_arena_alloc(struct apr_arena **arena, size_t n)
{
    const size_t step = _Alignof(max_align_t);
    if (n > SIZE_MAX / 2)
        return NULL;
    n = (n + step - 1) / step * step;
    struct apr_arena *a = *arena;
    if (a == NULL || a->room - a->used < n) {
        const size_t room = n > BLOCK_BYTES / 4 ? n : BLOCK_BYTES;
        a = calloc(1, sizeof *a + room);
        if (a == NULL)
            return NULL;
        a->room = room;
        /* a block of its own for something large leaves the rest of the current one in use */
        if (*arena != NULL && room != BLOCK_BYTES) {
            a->next = (*arena)->next;
            (*arena)->next = a;
        } else {
            a->next = *arena;
            *arena = a;
        }
    }
    void *out = (unsigned char *)a->bytes + a->used;
    a->used += n;
    return out;
}

struct apr_bytes apr_arena_copy(struct apr_arena **a, struct apr_bytes b)
{
    unsigned char *copy = b.n == SIZE_MAX ? NULL : apr_arena_alloc(a, b.n + 1);
    if (copy == NULL)
        return (struct apr_bytes){ 0 };
    if (b.n > 0)
        memcpy(copy, b.at, b.n);
    return (struct apr_bytes){ copy, b.n };
}

struct apr_bytes apr_arena_format(struct apr_arena **a, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int n = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = n < 0 ? NULL : apr_arena_alloc(a, (size_t)n + 1);
    if (text == NULL)
        return (struct apr_bytes){ 0 };
    va_start(arguments, format);
    vsnprintf(text, (size_t)n + 1, format, arguments);
    va_end(arguments);
    return (struct apr_bytes){ (const unsigned char *)text, (size_t)n };
}

void apr_arena_free(struct apr_arena **arena)
{
    while (*arena != NULL) {
        struct apr_arena *next = (*arena)->next;
        free(*arena);
        *arena = next;
    }
}
