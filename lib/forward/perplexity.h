/* A model judged by a text: run over its windows, and asked how likely it took each token to be. */
#ifndef APR_PERPLEXITY_H
#define APR_PERPLEXITY_H

#include "forward/forward.h"
#include "forward/importance.h"
#include "forward/judge.h"

/* A text as windows of `length` tokens, one behind the other, as llama.cpp's tool makes them: what is left at the end is left out. In each,
 * token i foretells token i + 1 from the middle (i = length / 2) on; what stands before is only context.
 *   bos  *bos takes the place of each window's first token; NULL: none does */
struct apr_windows {
    const uint32_t *id, *bos;
    uint64_t        n, length;
};

#define APR_LEAST_WINDOW 3 /* tokens: one to start from, one that foretells, one that is foretold */

/* How many windows there are, and how many tokens of each are foretold. */
static inline uint64_t apr_windows_count(const struct apr_windows *w) { return w->n / w->length; }
static inline uint64_t apr_windows_judged(const struct apr_windows *w) { return w->length - 1 - w->length / 2; }

/* APR_EARG for a net that foretells no tokens: an encoder, a classic model. */
APR_MUST_CHECK enum apr_code apr_foretells(const struct apr_net *net, struct apr_error *e);

/* For one that does. APR_EARG with the numbers: a window that is shorter than the least or longer than the net's context, fewer tokens than
 * two windows, a token that the net has not. */
APR_MUST_CHECK enum apr_code apr_windows_check(const struct apr_windows *w, const struct apr_net *net, struct apr_error *e);

/* The length that is taken when none is asked for: 512, or the context where that is less. */
uint64_t apr_windows_length(const struct apr_net *net);

/* Windows that were checked, for both nets.
 *   base        with it, how far net is from it; else NULL. It has as many tokens
 *   importance  of net's matrices is added to, or NULL */
struct apr_judging {
    const struct apr_net  *net, *base;
    struct apr_team       *team;
    struct apr_windows     windows;
    struct apr_importance *importance;
    struct apr_progress   *progress;
};
struct apr_judgement {
    struct apr_perplexity own, base; /* base: with a base */
    struct apr_divergence from_base;
};

/* Runs the net or nets over all windows. Memory: a sequence of a window for each net, a few rows of logits, some numbers for each token.
 * APR_EARG names window, position and token of a logit that is no finite number. */
APR_MUST_CHECK enum apr_code apr_judge(const struct apr_judging *j, struct apr_judgement *out, struct apr_error *e);

#endif
