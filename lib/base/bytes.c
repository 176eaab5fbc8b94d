#include "base/bytes.h"

#include <stdlib.h>

int apr_bytes_compare(struct apr_bytes a, struct apr_bytes b)
{
    const size_t n = a.n < b.n ? a.n : b.n;
    const int order = n == 0 ? 0 : memcmp(a.at, b.at, n);
    return order != 0 ? order : (a.n > b.n) - (a.n < b.n);
}

bool apr_bytes_equal(struct apr_bytes a, struct apr_bytes b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.at, b.at, a.n) == 0);
}

bool apr_bytes_is(struct apr_bytes a, const char *word) { return apr_bytes_equal(a, apr_text(word)); }

bool apr_bytes_have(struct apr_bytes a, const char *word) { return a.n > 0 && memmem(a.at, a.n, word, strlen(word)) != NULL; }

bool apr_bytes_begin(struct apr_bytes a, struct apr_bytes with)
{
    return a.n >= with.n && (with.n == 0 || memcmp(a.at, with.at, with.n) == 0);
}

bool apr_bytes_end(struct apr_bytes a, struct apr_bytes with)
{
    return a.n >= with.n && (with.n == 0 || memcmp(a.at + a.n - with.n, with.at, with.n) == 0);
}

bool apr_has_control(struct apr_bytes name)
{
    for (size_t i = 0; i < name.n; i++)
        if (name.at[i] < 0x20 || name.at[i] == 0x7F || (name.at[i] == 0xC2 && i + 1 < name.n && name.at[i + 1] < 0xA0))
            return true;
    return false;
}

struct apr_bytes apr_text(const char *s) { return (struct apr_bytes){ (const unsigned char *)s, strlen(s) }; }

void *apr_grown(void *array, size_t *room, size_t n, size_t first, size_t size)
{
    const size_t wanted = n < *room ? *room : *room == 0 ? first : 2 * *room;
    void *grown = n < *room ? array : realloc(array, wanted * size);
    if (grown != NULL)
        *room = wanted;
    return grown;
}

bool apr_is_utf8(struct apr_bytes a)
{
    for (size_t i = 0, step; i < a.n; i += step) {
        step = apr_utf8_length(a.at + i, a.n - i);
        if (step == 0)
            return false;
    }
    return true;
}
