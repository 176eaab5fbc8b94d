/* The forward pass of the input. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "trace.h"

#define BLOCK ((uint64_t)1 << 24) /* logits that are made at a time: 64 MiB */

/* ---- stages --------------------------------------------------------------------------------------------------------- */

static bool wants(void *ctx, uint32_t layer, unsigned stage) { return is_wanted(ctx, layer, stage); }

static enum apr_code stage(void *ctx, const struct apr_stage_values *v, struct apr_error *e)
{
    struct trace *const t = ctx;
    return is_wanted(t, v->layer, v->stage) ? take_stage(t, v, e) : APR_OK;
}

/* ---- logits --------------------------------------------------------------------------------------------------------- */

/* Those of the rows of the stage, some at a time: all of a long run would be more than everything else. last: gets the last position's, if
 * it is among them. */
static enum apr_code take_logits(struct trace *t, float *last, struct apr_error *e)
{
    const uint64_t vocab = t->engine.net->vocab, n = positions_of(t);
    const struct span rows = t->o->cut.to > 0 ? t->o->cut : (struct span){ n - 1, n };
    const uint64_t most = BLOCK / vocab > 0 ? BLOCK / vocab : 1, block = apr_min(most, rows.to - rows.from);
    const uint64_t dim[] = { rows.to - rows.from, vocab };
    float *const out = malloc(block * vocab * sizeof *out);
    if (out == NULL)
        return apr_no_memory(e);
    enum apr_code code = begin_stage(t, APR_WHOLE_MODEL, APR_STAGE_LM_HEAD, dim, 2, e);
    for (uint64_t i = rows.from, now; code == APR_OK && i < rows.to; i += now) {
        now = apr_min(block, rows.to - i);
        const struct apr_stage_values v = { .stage = APR_STAGE_LM_HEAD, .layer = APR_WHOLE_MODEL, .ndim = 2, .dim = { now, vocab },
                                            .position = i, .values = out };
        code = apr_sequence_logits(t->sequence, i, now, NULL, out, e);
        if (code == APR_OK && i + now == n)
            memcpy(last, out + (now - 1) * vocab, vocab * sizeof *out);
        if (code == APR_OK)
            code = put_values(t, out, now * vocab, e);
        if (code == APR_OK && t->o->stop_at_nan)
            code = find_nonfinite(t, &v, e);
    }
    free(out);
    APR_TRY(code);
    APR_TRY(end_stage(t, e));
    return t->nonfinite.found ? stop_run(t, e) : APR_OK;
}

/* The stage, if it is looked at, and the last position's in any case: made once, as they are the model's largest product. */
static enum apr_code make_logits(struct trace *t, struct apr_error *e)
{
    const uint64_t n = positions_of(t);
    const bool wanted = is_wanted(t, APR_WHOLE_MODEL, APR_STAGE_LM_HEAD), has_last = t->o->cut.to == 0 || t->o->cut.to == n;
    float *const last = malloc(t->engine.net->vocab * sizeof *last);
    enum apr_code code = last == NULL ? apr_no_memory(e) : APR_OK;
    if (code == APR_OK && wanted)
        code = take_logits(t, last, e);
    if (code == APR_OK && !(wanted && has_last))
        code = apr_sequence_logits(t->sequence, n - 1, 1, NULL, last, e);
    if (code == APR_OK)
        t->logits = last;
    else
        free(last);
    return code;
}

/* ---- the run -------------------------------------------------------------------------------------------------------- */

static enum apr_code run_layers(struct trace *t, struct apr_error *e)
{
    const struct apr_observer observer = { .ctx = t, .wants = wants, .stage = stage,
                                           .product = wants_products(&t->o->judging) ? take_product : NULL };
    if (t->feature != NULL)
        return apr_sequence_features(t->sequence, t->feature, t->nrow, e);
    return apr_sequence_run(t->sequence, t->ids.id, t->ids.n, &observer, e);
}

/* All that is to come must fit, before anything is computed. */
static enum apr_code begin_sequence(struct trace *t, struct apr_error *e)
{
    const struct apr_net *const net = t->engine.net;
    const uint64_t n = positions_of(t), more = t->o->greedy_given ? t->o->greedy - 1 : 0;
    uint64_t room;
    if (!apr_add(n, more, &room))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--greedy %llu is too many", (unsigned long long)t->o->greedy);
    if (net->positions > 0 && room > net->positions)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%llu positions%s, but the model has learned %llu", (unsigned long long)room,
                        more > 0 ? " with those of --greedy" : "", (unsigned long long)net->positions);
    return apr_sequence_new(&t->sequence, net, t->team, room, e);
}

/* A stage that was named and that no layer has; none of them at all is no answer. */
static enum apr_code check_seen(const struct trace *t, struct apr_error *e)
{
    const struct options *const o = t->o;
    if (o->save_tensor == NULL || o->all || t->nonfinite.found)
        return APR_OK;
    for (unsigned i = 0; i < APR_NSTAGES; i++) {
        struct apr_error note;
        if (!o->stage[i] || t->seen[i])
            continue;
        if (t->saved.n == 0)
            return apr_fail(e, APR_EARG, APR_NOWHERE, "the model has no stage %s in these layers, so nothing is saved", apr_stage_name(i));
        apr_fail(&note, APR_OK, APR_NOWHERE, "it has no stage %s in these layers", apr_stage_name(i));
        apr_error_in(&note, t->engine.path);
        if (!o->cli.quiet)
            apr_cli_fail(&o->cli, &note);
    }
    return APR_OK;
}

enum apr_code run_input(struct trace *t, struct apr_error *e)
{
    const bool head = t->engine.net->head.w.in != NULL;
    APR_TRY(begin_sequence(t, e));
    enum apr_code code = run_layers(t, e);
    if (code == APR_OK && head)
        code = make_logits(t, e);
    if (code != APR_OK && t->stopped)
        code = APR_OK;
    return code == APR_OK ? check_seen(t, e) : code;
}
