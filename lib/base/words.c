/* The words stand sorted. Those that a text goes on with at some place are all beginnings of one another; the longest of them is the last
 * word that does not stand behind the text, or the longest beginning of that which the text shares. */
#include "base/words.h"

#include <stdlib.h>

#include "base/bytes.h"

#define NONE SIZE_MAX

/* number: of the word; first: of those equal to it; within: the first of the longest others that it begins with; seen: the last text in
 * which it was found */
struct word {
    struct apr_bytes text;
    size_t           number, first, within;
    uint64_t         seen;
};

struct apr_words {
    struct word *word;
    size_t       n;
    uint64_t     texts;
};

static int by_text(const void *a, const void *b)
{
    const struct word *x = a, *y = b;
    const int order = apr_bytes_compare(x->text, y->text);
    return order != 0 ? order : (x->number > y->number) - (x->number < y->number);
}

/* Behind one word in the order comes one that it begins with, or one that a beginning of it begins with, or neither has a beginning. */
static void link_words(struct apr_words *w)
{
    for (size_t i = 0; i < w->n; i++) {
        struct word *x = &w->word[i];
        size_t k = i == 0 ? NONE : w->word[i - 1].first;
        while (k != NONE && !apr_bytes_begin(x->text, w->word[k].text))
            k = w->word[k].within;
        const bool equal = k != NONE && w->word[k].text.n == x->text.n;
        x->first = equal ? k : i;
        x->within = equal ? w->word[k].within : k;
    }
}

enum apr_code apr_words_new(struct apr_words **out, const struct apr_bytes *word, size_t n, struct apr_error *e)
{
    struct apr_words *w = *out = calloc(1, sizeof *w);
    if (w == NULL || (w->word = calloc(n + 1, sizeof *w->word)) == NULL) {
        apr_words_free(w);
        *out = NULL;
        return apr_no_memory(e);
    }
    w->n = n;
    for (size_t i = 0; i < n; i++)
        w->word[i] = (struct word){ .text = word[i], .number = i };
    qsort(w->word, n, sizeof *w->word, by_text);
    link_words(w);
    return APR_OK;
}

void apr_words_free(struct apr_words *w)
{
    if (w != NULL)
        free(w->word);
    free(w);
}

/* The first of the longest words that the text begins with. */
static size_t longest(const struct apr_words *w, struct apr_bytes text, uint64_t *work)
{
    size_t low = 0, high = w->n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const bool behind = apr_bytes_compare(w->word[middle].text, text) > 0;
        *work += 1 + w->word[middle].text.n / 16;
        if (behind)
            high = middle;
        else
            low = middle + 1;
    }
    size_t k = low == 0 ? NONE : w->word[low - 1].first;
    for (; k != NONE && !apr_bytes_begin(text, w->word[k].text); k = w->word[k].within)
        *work += 1 + w->word[k].text.n / 16;
    return k;
}

void apr_words_find(struct apr_words *w, struct apr_bytes text, apr_words_fn *found, void *ctx, uint64_t *work)
{
    const uint64_t now = ++w->texts;
    size_t at = 0;
    do {
        const struct apr_bytes rest = { text.at == NULL ? NULL : text.at + at, text.n - at };
        for (size_t k = longest(w, rest, work); k != NONE && w->word[k].seen != now; k = w->word[k].within) {
            w->word[k].seen = now;
            for (size_t i = k; i < w->n && w->word[i].first == k && found(ctx, w->word[i].number); i++)
                ++*work;
        }
    } while (++at < text.n);
}
