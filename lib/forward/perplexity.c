#include "forward/perplexity.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fmath.h"
#include "ui/progress.h"

#define USUAL_WINDOW 512 /* tokens */
#define LOGIT_BYTES  ((uint64_t)32 << 20) /* of the rows of a net that are looked at together */
#define MOST_ROWS    64

/* ---- windows -------------------------------------------------------------------------------------------------------- */

/* Positions that the net can have, as it was made: 0 when nothing tells. */
static uint64_t context_of(const struct apr_net *net)
{
    if (net->positions == 0 || net->context == 0)
        return net->positions + net->context;
    return apr_min(net->positions, net->context);
}

uint64_t apr_windows_length(const struct apr_net *net)
{
    const uint64_t context = context_of(net);
    return context == 0 ? USUAL_WINDOW : apr_min(USUAL_WINDOW, context);
}

static enum apr_code check_length(const struct apr_windows *w, const struct apr_net *net, struct apr_error *e)
{
    const uint64_t context = context_of(net);
    if (w->length < APR_LEAST_WINDOW)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "a window of %" PRIu64 " foretells no token: it takes %d at least", w->length,
                        APR_LEAST_WINDOW);
    if (context != 0 && w->length > context)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "a window of %" PRIu64 " tokens is longer than the model's context of %" PRIu64,
                        w->length, context);
    if (w->n / 2 >= w->length)
        return APR_OK;
    if (w->n / 2 < APR_LEAST_WINDOW)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%" PRIu64 " tokens are too few: two windows of %" PRIu64 " take %" PRIu64
                        ", and two of the shortest %d", w->n, w->length, 2 * w->length, 2 * APR_LEAST_WINDOW);
    return apr_fail(e, APR_EARG, APR_NOWHERE, "%" PRIu64 " tokens are too few for two windows of %" PRIu64 ", which take %" PRIu64
                    "; they would do for --window %" PRIu64, w->n, w->length, 2 * w->length, w->n / 2);
}

enum apr_code apr_foretells(const struct apr_net *net, struct apr_error *e)
{
    if (net->head.w.in != NULL && !net->features)
        return APR_OK;
    return apr_fail(e, APR_EARG, APR_NOWHERE, "it foretells no tokens: family %s has no logits of a vocabulary", APR_QUOTED(net->family));
}

enum apr_code apr_windows_check(const struct apr_windows *w, const struct apr_net *net, struct apr_error *e)
{
    APR_TRY(check_length(w, net, e));
    for (uint64_t i = 0; i < w->n; i++)
        if (w->id[i] >= net->vocab)
            return apr_fail(e, APR_EARG, APR_NOWHERE, "token %" PRIu64 " of the text is %" PRIu32 ", and the model has %" PRIu64, i,
                            w->id[i], net->vocab);
    if (w->bos != NULL && *w->bos >= net->vocab)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "BOS is %" PRIu32 ", and the model has %" PRIu64 " tokens", *w->bos, net->vocab);
    return APR_OK;
}

/* ---- runs ----------------------------------------------------------------------------------------------------------- */

/* What is found at one position; odd: the first token whose logit is no finite number, in `odd_in`. */
struct score {
    double   own, base, divergence, delta_p;
    bool     same;
    int      odd_in; /* 1: in net, 2: in base; 0: in neither */
    uint64_t odd;
    float    value;
};

/* A net that runs.
 *   logits  `rows` of them
 *   layer   of the product that was last seen */
struct runner {
    struct judge        *judge;
    const struct apr_net *net;
    struct apr_sequence *sequence;
    float               *logits;
    uint32_t             layer;
};

/* id: the window under way, `right` the tokens that are foretold by the rows under way, nscored what stands in the arrays.
 *   rows  how many positions are looked at together */
struct judge {
    const struct apr_judging *j;
    struct runner             own, base;
    uint64_t                  rows, same, nscored;
    uint32_t                 *id;
    const uint32_t           *right;
    struct score             *score;
    double                   *own_log, *base_log, *divergence, *delta_p;
};

/* Importance, and how far it is: a layer is done when the next one begins. */
static enum apr_code product(void *ctx, const struct apr_matrix *w, const float *x, size_t n, struct apr_error *e)
{
    struct runner *const run = ctx;
    const struct apr_judging *const j = run->judge->j;
    if (w->layer != run->layer && w->layer < run->net->nlayer)
        apr_progress_add(j->progress, j->windows.length);
    run->layer = w->layer;
    return j->importance != NULL && run->net == j->net ? apr_importance_add(j->importance, w, x, n, e) : APR_OK;
}

/* Row r of the block, for itself. */
static void score_row(void *ctx, size_t r, unsigned worker)
{
    const struct judge *const g = ctx;
    struct score *const s = &g->score[r];
    const uint64_t vocab = g->own.net->vocab;
    struct apr_row own, base;
    (void)worker;
    *s = (struct score){ 0 };
    if (!apr_row_of(g->own.logits + r * vocab, vocab, &own, &s->odd)) {
        s->odd_in = 1;
        return;
    }
    s->own = -apr_row_log(&own, g->right[r]);
    if (g->base.net == NULL)
        return;
    if (!apr_row_of(g->base.logits + r * vocab, vocab, &base, &s->odd)) {
        s->odd_in = 2;
        return;
    }
    s->base = -apr_row_log(&base, g->right[r]);
    s->divergence = apr_row_divergence(&base, &own, vocab);
    s->delta_p = apr_exp(-s->own) - apr_exp(-s->base);
    s->same = own.best == base.best;
}

static enum apr_code odd_logit(const struct judge *g, uint64_t window, uint64_t first, size_t r, struct apr_error *e)
{
    const struct score *const s = &g->score[r];
    const float v = (s->odd_in == 1 ? g->own.logits : g->base.logits)[r * g->own.net->vocab + s->odd];
    return apr_fail(e, APR_EARG, APR_NOWHERE, "in window %" PRIu64 " of %" PRIu64 ", at position %" PRIu64
                    ", the logit of token %" PRIu64 "%s is %s", window + 1, apr_windows_count(&g->j->windows), first + r, s->odd,
                    s->odd_in == 1 ? "" : " by the other model", isnan(v) ? "NaN" : v > 0 ? "inf" : "-inf");
}

static enum apr_code logits_of(struct runner *run, uint64_t first, uint64_t n, struct apr_error *e)
{
    const struct apr_observer observer = { .ctx = run, .product = product };
    return apr_sequence_logits(run->sequence, first, n, &observer, run->logits, e);
}

/* Positions [first, first + n) of the window under way. */
static enum apr_code score_rows(struct judge *g, uint64_t window, uint64_t first, uint64_t n, struct apr_error *e)
{
    APR_TRY(logits_of(&g->own, first, n, e));
    if (g->base.net != NULL)
        APR_TRY(logits_of(&g->base, first, n, e));
    g->right = g->j->windows.id + window * g->j->windows.length + first + 1;
    apr_team_do(g->j->team, (size_t)n, score_row, g);
    for (size_t r = 0; r < n; r++, g->nscored++) {
        const struct score *const s = &g->score[r];
        if (s->odd_in != 0)
            return odd_logit(g, window, first, r, e);
        g->own_log[g->nscored] = s->own;
        g->same += s->same;
        if (g->base.net == NULL)
            continue;
        g->base_log[g->nscored] = s->base;
        g->divergence[g->nscored] = s->divergence;
        g->delta_p[g->nscored] = s->delta_p;
    }
    return APR_OK;
}

static enum apr_code run_window(struct runner *run, const uint32_t *id, uint64_t n, struct apr_error *e)
{
    const struct apr_observer observer = { .ctx = run, .product = product };
    run->layer = UINT32_MAX;
    apr_sequence_clear(run->sequence);
    return apr_sequence_run(run->sequence, id, (size_t)n, &observer, e);
}

static enum apr_code judge_window(struct judge *g, uint64_t window, struct apr_error *e)
{
    const struct apr_windows *const w = &g->j->windows;
    memcpy(g->id, w->id + window * w->length, (size_t)w->length * sizeof *g->id);
    if (w->bos != NULL)
        g->id[0] = *w->bos;
    APR_TRY(run_window(&g->own, g->id, w->length, e));
    if (g->base.net != NULL)
        APR_TRY(run_window(&g->base, g->id, w->length, e));
    for (uint64_t first = w->length / 2, n; first < w->length - 1; first += n) {
        n = apr_min(g->rows, w->length - 1 - first);
        APR_TRY(score_rows(g, window, first, n, e));
    }
    return APR_OK;
}

/* ---- the whole ------------------------------------------------------------------------------------------------------ */

static enum apr_code begin_runner(struct runner *run, struct judge *g, const struct apr_net *net, struct apr_error *e)
{
    *run = (struct runner){ .judge = g, .net = net };
    if (net == NULL)
        return APR_OK;
    run->logits = calloc((size_t)(g->rows * net->vocab), sizeof *run->logits);
    return run->logits == NULL ? apr_no_memory(e) : apr_sequence_new(&run->sequence, net, g->j->team, g->j->windows.length, e);
}

static double *numbers(uint64_t n) { return n > SIZE_MAX / sizeof(double) ? NULL : calloc((size_t)n, sizeof(double)); }

static enum apr_code begin(struct judge *g, const struct apr_judging *j, struct apr_error *e)
{
    const struct apr_windows *const w = &j->windows;
    const uint64_t n = apr_windows_count(w) * apr_windows_judged(w), fit = LOGIT_BYTES / sizeof(float) / j->net->vocab;
    *g = (struct judge){ .j = j, .rows = fit < 1 ? 1 : apr_min(fit, MOST_ROWS) };
    g->id = calloc((size_t)w->length, sizeof *g->id);
    g->score = calloc((size_t)g->rows, sizeof *g->score);
    g->own_log = numbers(n);
    if (j->base != NULL) {
        g->base_log = numbers(n);
        g->divergence = numbers(n);
        g->delta_p = numbers(n);
    }
    if (g->id == NULL || g->score == NULL || g->own_log == NULL ||
        (j->base != NULL && (g->base_log == NULL || g->divergence == NULL || g->delta_p == NULL)))
        return apr_no_memory(e);
    APR_TRY(begin_runner(&g->own, g, j->net, e));
    return begin_runner(&g->base, g, j->base, e);
}

static void end(struct judge *g)
{
    apr_sequence_free(g->own.sequence);
    apr_sequence_free(g->base.sequence);
    free(g->own.logits);
    free(g->base.logits);
    free(g->id);
    free(g->score);
    free(g->own_log);
    free(g->base_log);
    free(g->divergence);
    free(g->delta_p);
}

/* A token counts as one when all layers of all nets have seen it. */
static void begin_progress(const struct apr_judging *j)
{
    const uint64_t layers = j->net->nlayer + (j->base == NULL ? 0 : j->base->nlayer);
    apr_progress_begin(j->progress, "judging", apr_windows_count(&j->windows) * j->windows.length * layers);
    apr_progress_unit(j->progress, "tokens", layers);
}

enum apr_code apr_judge(const struct apr_judging *j, struct apr_judgement *out, struct apr_error *e)
{
    struct judge g;
    enum apr_code code = begin(&g, j, e);
    begin_progress(j);
    for (uint64_t i = 0; code == APR_OK && i < apr_windows_count(&j->windows); i++)
        code = judge_window(&g, i, e);
    apr_progress_end(j->progress);
    if (code == APR_OK)
        out->own = apr_perplexity_of(g.own_log, (size_t)g.nscored);
    if (code == APR_OK && j->base != NULL) {
        out->base = apr_perplexity_of(g.base_log, (size_t)g.nscored);
        out->from_base = apr_divergence_of(g.divergence, g.delta_p, (size_t)g.nscored, g.same);
    }
    end(&g);
    return code;
}
