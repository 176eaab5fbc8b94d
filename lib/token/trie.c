#include "token/trie.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

/* Nodes yet to be looked at: the sorted texts from `low` to `high` have `depth` bytes in common. */
struct range {
    uint32_t low, high, depth;
};
struct making {
    struct apr_trie            *t;
    const struct apr_trie_text *text;
    struct range               *range;
    size_t                      range_room;
};

/* Of equal texts the later one stands last, as its place in memory does not change their order: values rise with it. */
static int by_text(const void *a, const void *b)
{
    const struct apr_trie_text *x = a, *y = b;
    const int order = apr_bytes_compare(x->text, y->text);
    return order != 0 ? order : (x->value > y->value) - (x->value < y->value);
}

static enum apr_code add_node(struct making *m, unsigned char byte, struct range range, struct apr_error *e)
{
    struct apr_trie *t = m->t;
    if (t->n + 1 >= t->room) {
        const size_t room = t->room == 0 ? 1024 : 2 * t->room;
        uint32_t *first = realloc(t->first, room * sizeof *first);
        t->first = first == NULL ? t->first : first;
        uint32_t *value = realloc(t->value, room * sizeof *value);
        t->value = value == NULL ? t->value : value;
        unsigned char *bytes = realloc(t->byte, room);
        t->byte = bytes == NULL ? t->byte : bytes;
        struct range *ranges = realloc(m->range, room * sizeof *ranges);
        m->range = ranges == NULL ? m->range : ranges;
        if (first == NULL || value == NULL || bytes == NULL || ranges == NULL || room > UINT32_MAX / 2)
            return apr_no_memory(e);
        t->room = room;
    }
    t->byte[t->n] = byte;
    t->value[t->n] = APR_NO_VALUE;
    m->range[t->n++] = range;
    return APR_OK;
}

/* Adds the nodes below number i, and takes the value of the text that ends there. */
static enum apr_code look_below(struct making *m, size_t i, struct apr_error *e)
{
    const struct range r = m->range[i];
    uint32_t low = r.low;
    m->t->first[i] = (uint32_t)m->t->n;
    for (; low < r.high && m->text[low].text.n == r.depth; low++)
        m->t->value[i] = m->text[low].value;
    while (low < r.high) {
        const unsigned char byte = m->text[low].text.at[r.depth];
        uint32_t high = low + 1;
        while (high < r.high && m->text[high].text.at[r.depth] == byte)
            high++;
        APR_TRY(add_node(m, byte, (struct range){ low, high, r.depth + 1 }, e));
        low = high;
    }
    return APR_OK;
}

enum apr_code apr_trie_make(struct apr_trie *t, struct apr_trie_text *text, size_t n, struct apr_error *e)
{
    struct making m = { .t = t, .text = text };
    for (size_t i = 0; i < n; i++)
        if (text[i].text.n > APR_LONGEST_IN_TRIE)
            return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "the token %s has %zu bytes, at most %d are accepted", APR_QUOTED(text[i].text),
                            text[i].text.n, APR_LONGEST_IN_TRIE);
    if (n > 0)
        qsort(text, n, sizeof *text, by_text);
    enum apr_code code = add_node(&m, 0, (struct range){ 0, (uint32_t)n, 0 }, e);
    for (size_t i = 0; i < t->n && code == APR_OK; i++)
        code = look_below(&m, i, e);
    free(m.range);
    if (code != APR_OK)
        return code;
    t->first[t->n] = (uint32_t)t->n;
    for (uint32_t i = 1; i < t->first[1]; i++)
        t->top[t->byte[i]] = i;
    return APR_OK;
}

void apr_trie_free(struct apr_trie *t)
{
    free(t->first);
    free(t->value);
    free(t->byte);
    *t = (struct apr_trie){ 0 };
}

uint32_t apr_trie_step(const struct apr_trie *t, uint32_t at, unsigned char byte)
{
    if (at == 0)
        return t->top[byte];
    const uint32_t first = t->first[at], n = t->first[at + 1] - first;
    if (n < 8) {
        for (uint32_t i = first; i < first + n; i++)
            if (t->byte[i] == byte)
                return i;
        return 0;
    }
    const unsigned char *found = memchr(t->byte + first, byte, n);
    return found == NULL ? 0 : (uint32_t)(found - t->byte);
}

size_t apr_trie_longest(const struct apr_trie *t, struct apr_bytes text, uint32_t *value)
{
    size_t longest = 0;
    uint32_t at = 0;
    for (size_t i = 0; i < text.n && (at = apr_trie_step(t, at, text.at[i])) != 0; i++)
        if (t->value[at] != APR_NO_VALUE) {
            longest = i + 1;
            *value = t->value[at];
        }
    return longest;
}
