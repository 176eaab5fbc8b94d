/* The merges of a SentencePiece vocabulary, which has scores instead. */
#include "token/tokenizer_parts.h"

#include <stdlib.h>

#include "base/bytes.h"

#define LONGEST 256u /* bytes of a piece that is taken apart; published ones have at most 96 */

/* key: the score as an integer that falls as it rises, above; below the order in which they were found */
struct found {
    uint64_t           key;
    struct apr_id_pair pair;
};

struct finding {
    struct found *at;
    size_t        n, room;
};

/* The highest first; what is no number last. */
static uint32_t falling(float score)
{
    union {
        float    f;
        uint32_t u;
    } bits = { score };
    if (score != score)
        return UINT32_MAX;
    bits.f = score == 0 ? 0 : score; /* -0 is 0 */
    return bits.u & 0x80000000u ? bits.u : 0x7FFFFFFFu - bits.u;
}

static int by_key(const void *a, const void *b)
{
    const struct found *const x = a, *const y = b;
    return (x->key > y->key) - (x->key < y->key);
}

static int by_ids(const void *a, const void *b)
{
    const struct apr_id_pair x = ((const struct found *)a)->pair, y = ((const struct found *)b)->pair;
    return x.left != y.left ? (x.left > y.left) - (x.left < y.left) : (x.right > y.right) - (x.right < y.right);
}

/* All ways to part one piece into two. */
static enum apr_code part(struct finding *f, const struct apr_vocabulary *v, const struct apr_token *t, struct apr_error *e)
{
    const size_t first = f->n;
    for (size_t at = 0; t->text.n <= LONGEST;) {
        const size_t step = apr_utf8_length(t->text.at + at, t->text.n - at);
        at += step == 0 ? 1 : step;
        if (at >= t->text.n)
            break;
        const struct apr_bytes end = { t->text.at + at, t->text.n - at };
        const struct apr_token *const left = apr_vocabulary_find(v, (struct apr_bytes){ t->text.at, at });
        const struct apr_token *const right = left == NULL ? NULL : apr_vocabulary_find(v, end);
        if (right == NULL)
            continue;
        struct found *const grown = apr_grown(f->at, &f->room, f->n, 4096, sizeof *grown);
        if (grown == NULL)
            return apr_no_memory(e);
        f->at = grown;
        f->at[f->n++] = (struct found){ .pair = { left->id, right->id } };
    }
    if (f->n - first > 1)
        qsort(f->at + first, f->n - first, sizeof *f->at, by_ids);
    for (size_t i = first; i < f->n; i++)
        f->at[i].key = (uint64_t)falling((float)t->score) << 32 | (uint32_t)i;
    if (f->n <= APR_MOST_MERGES)
        return APR_OK;
    return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "more than %llu merges", (unsigned long long)APR_MOST_MERGES);
}

enum apr_code apr_merges_of_scores(const struct apr_vocabulary *v, struct apr_id_pair **pair, size_t *n, struct apr_error *e)
{
    struct finding f = { 0 };
    enum apr_code code = APR_OK;
    *pair = NULL;
    *n = 0;
    for (size_t i = 0; i < v->ntoken && code == APR_OK; i++)
        code = part(&f, v, &v->token[i], e);
    if (code == APR_OK) {
        if (f.n > 0)
            qsort(f.at, f.n, sizeof *f.at, by_key);
        *pair = malloc((f.n + 1) * sizeof **pair);
        code = *pair == NULL ? apr_no_memory(e) : APR_OK;
    }
    for (size_t i = 0; i < f.n && code == APR_OK; i++)
        (*pair)[(*n)++] = f.at[i].pair;
    free(f.at);
    return code;
}
