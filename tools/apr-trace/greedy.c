/* The best next tokens, one after the other. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "trace.h"

/* Of what is no number nothing is known: it comes last. */
static bool is_better(const float *logits, uint64_t a, uint64_t b)
{
    if (isnan(logits[a]) || isnan(logits[b]))
        return isnan(logits[b]) && (!isnan(logits[a]) || a < b);
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
}

uint64_t best_logit(const float *logits, uint64_t n)
{
    uint64_t best = 0;
    for (uint64_t i = 1; i < n; i++)
        if (is_better(logits, i, best))
            best = i;
    return best;
}

/* Puts id[i] where it belongs in a heap of n whose worst is the first. */
static void sift(const float *logits, uint64_t *id, uint64_t n, uint64_t i)
{
    for (uint64_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && is_better(logits, id[child], id[child + 1]))
            child++;
        if (is_better(logits, id[child], id[i]))
            return;
        const uint64_t kept = id[i];
        id[i] = id[child];
        id[child] = kept;
    }
}

void best_logits(const float *logits, uint64_t nlogit, uint64_t n, uint64_t *id)
{
    for (uint64_t i = 0; i < n; i++)
        id[i] = i;
    for (uint64_t i = n / 2; i-- > 0;)
        sift(logits, id, n, i);
    for (uint64_t i = n; i < nlogit && n > 0; i++)
        if (is_better(logits, i, id[0])) {
            id[0] = i;
            sift(logits, id, n, 0);
        }
    for (uint64_t left = n; left > 1; left--) { /* the worst to the end */
        const uint64_t worst = id[0];
        id[0] = id[left - 1];
        id[left - 1] = worst;
        sift(logits, id, left - 1, 0);
    }
}

/* ---- going on ------------------------------------------------------------------------------------------------------- */

static bool ends_text(const struct apr_vocabulary *v, uint32_t id)
{
    for (size_t i = 0; i < v->nspecial; i++) {
        const struct apr_special *const s = &v->special[i];
        if ((s->role == APR_EOS || s->role == APR_EOT || s->role == APR_EOM) && s->id == id)
            return true;
    }
    return false;
}

static enum apr_code check_number(float best, struct apr_error *e)
{
    if (!isnan(best))
        return APR_OK;
    return apr_fail(e, APR_EARG, APR_NOWHERE, "no logit is a number, so there is no best token: --stop-at-nan finds where it begins");
}

/* What is looked at in the run of a token that was found: whether all is finite. */
static bool wants(void *ctx, uint32_t layer, unsigned stage)
{
    (void)layer, (void)stage;
    return ((const struct trace *)ctx)->o->stop_at_nan;
}

static enum apr_code stage(void *ctx, const struct apr_stage_values *v, struct apr_error *e)
{
    struct trace *const t = ctx;
    APR_TRY(find_nonfinite(t, v, e));
    return t->nonfinite.found ? stop_run(t, e) : APR_OK;
}

/* Runs the token that was found last; logits get what comes behind it. */
static enum apr_code run_token(struct trace *t, float *logits, struct apr_error *e)
{
    const struct apr_observer observer = { .ctx = t, .wants = wants, .stage = stage };
    const struct apr_stage_values v = { .stage = APR_STAGE_LM_HEAD, .layer = APR_WHOLE_MODEL, .ndim = 2,
                                        .dim = { 1, t->engine.net->vocab }, .position = t->ids.n + t->greedy.n - 1, .values = logits };
    APR_TRY(apr_sequence_run(t->sequence, &t->greedy.id[t->greedy.n - 1], 1, t->o->stop_at_nan ? &observer : NULL, e));
    APR_TRY(apr_sequence_logits(t->sequence, 0, 1, NULL, logits, e));
    return t->o->stop_at_nan ? stage(t, &v, e) : APR_OK;
}

static enum apr_code go_on(struct trace *t, const struct apr_vocabulary *v, struct apr_error *e)
{
    const uint64_t vocab = t->engine.net->vocab;
    float *const logits = malloc(vocab * sizeof *logits);
    uint64_t best = best_logit(t->logits, vocab);
    enum apr_code code = logits == NULL ? apr_no_memory(e) : check_number(t->logits[best], e);
    while (code == APR_OK) {
        const uint32_t id = (uint32_t)best;
        code = apr_ids_add(&t->greedy, id, e);
        if (code != APR_OK)
            break;
        print_greedy_token(t, id);
        t->ended = ends_text(v, id);
        if (t->ended || t->greedy.n == t->o->greedy)
            break;
        code = run_token(t, logits, e);
        best = code == APR_OK ? best_logit(logits, vocab) : 0;
        if (code == APR_OK)
            code = check_number(logits[best], e);
    }
    free(logits);
    return code;
}

/* Behind their text, which has come piece by piece. */
static void print_ids(const struct trace *t)
{
    for (size_t i = 0; i < t->greedy.n; i++)
        printf("%s%lu", i > 0 ? " " : "ids: ", (unsigned long)t->greedy.id[i]);
    if (t->greedy.n > 0)
        putchar('\n');
}

/* A model without a tokenizer may still say which token ends a text. */
enum apr_code run_greedy(struct trace *t, struct apr_error *e)
{
    struct apr_vocabulary bare = { 0 };
    APR_TRY(try_encoder(&t->engine, t->o, e));
    const bool spoken = t->engine.encoder != NULL;
    enum apr_code code = spoken ? APR_OK : apr_vocabulary_read(&bare, t->engine.m, &t->o->cli.run, e);
    if (code == APR_OK)
        code = go_on(t, spoken ? apr_encoder_vocabulary(t->engine.encoder) : &bare, e);
    apr_vocabulary_end(&bare);
    end_greedy_text(t);
    if (spoken && !t->o->cli.json)
        print_ids(t);
    return code != APR_OK && t->stopped ? APR_OK : code;
}
