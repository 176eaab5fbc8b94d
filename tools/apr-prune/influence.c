/* How much a layer changes what goes through it: one less the mean cosine of what goes in and what comes out, over all tokens. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "flow/team.h"
#include "forward/forward.h"
#include "prune.h"
#include "token/ids.h"

#define WINDOW 2048u /* tokens that are run as one text */

/*   before  what came out of the layer before: a row of net->hidden for each token of the window
 *   sum     of each layer, of the cosines so far */
struct watching {
    const struct apr_net *net;
    float                *before;
    double               *sum;
};

static bool wants(void *ctx, uint32_t layer, unsigned stage)
{
    (void)ctx;
    (void)layer;
    return stage == APR_STAGE_POST_FFN_RESIDUAL;
}

static double cosine_of(const float *a, const float *b, uint64_t n)
{
    double ab[APR_LANES] = { 0 }, aa[APR_LANES] = { 0 }, bb[APR_LANES] = { 0 };
    for (uint64_t i = 0; i < n; i++) {
        const double x = (double)a[i], y = (double)b[i];
        ab[i % APR_LANES] += x * y;
        aa[i % APR_LANES] += x * x;
        bb[i % APR_LANES] += y * y;
    }
    return apr_cosine(apr_fold(ab), apr_fold(aa), apr_fold(bb));
}

static enum apr_code look(void *ctx, const struct apr_stage_values *v, struct apr_error *e)
{
    struct watching *const w = ctx;
    const uint64_t width = w->net->hidden, n = v->dim[0];
    for (uint64_t i = 0; i < n * width; i++)
        if (!isfinite(v->values[i]))
            return apr_fail(e, APR_EARG, APR_NOWHERE, "layer %lu gives a value that is not finite: apr-trace --stop-at-nan says where",
                            (unsigned long)v->layer);
    for (uint64_t i = 0; v->layer > 0 && i < n; i++)
        w->sum[v->layer] += cosine_of(w->before + i * width, v->values + i * width, width);
    memcpy(w->before, v->values, (size_t)(n * width) * sizeof *w->before);
    return APR_OK;
}

static enum apr_code run_windows(struct watching *w, struct apr_sequence *s, const struct apr_ids *ids, uint64_t window,
                                 struct apr_error *e)
{
    const struct apr_observer observer = { .ctx = w, .wants = wants, .stage = look };
    for (size_t first = 0; first < ids->n; first += (size_t)window) {
        apr_sequence_clear(s);
        APR_TRY(apr_sequence_run(s, ids->id + first, (size_t)apr_min(window, ids->n - first), &observer, e));
    }
    return APR_OK;
}

static enum apr_code run_tokens(struct pruning *p, const struct apr_net *net, const struct apr_ids *ids, struct apr_error *e)
{
    uint64_t window = apr_min(WINDOW, ids->n), bytes;
    struct watching w = { .net = net, .sum = calloc(p->nlayer + 1, sizeof *w.sum) };
    struct apr_team *team = NULL;
    struct apr_sequence *s = NULL;
    if (net->positions > 0)
        window = apr_min(window, net->positions);
    if (apr_mul(window, net->hidden, &bytes) && apr_mul(bytes, sizeof *w.before, &bytes))
        w.before = malloc((size_t)bytes);
    enum apr_code code = w.sum == NULL || w.before == NULL ? apr_no_memory(e) : apr_team_new(&team, p->o->to.cli.run.threads, e);
    if (code == APR_OK)
        code = apr_sequence_new(&s, net, team, window, e);
    if (code == APR_OK)
        code = run_windows(&w, s, ids, window, e);
    for (uint32_t i = 0; i < p->nlayer && code == APR_OK; i++)
        p->influence[i] = i == 0 ? NAN : 1 - w.sum[i] / (double)ids->n;
    apr_sequence_free(s);
    apr_team_free(team);
    free(w.before);
    free(w.sum);
    return code;
}

static enum apr_code run_net(struct pruning *p, const struct apr_net *net, struct apr_error *e)
{
    struct apr_ids ids = { 0 };
    if (net->features)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "it is a classic model, which has no layers");
    if (net->nlayer != p->nlayer)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "%llu of its %lu layers run", (unsigned long long)net->nlayer,
                        (unsigned long)p->nlayer);
    enum apr_code code = apr_ids_of_file(&ids, p->o->tokens_file, net->embedding.nout, &p->o->to.cli.run, e);
    if (code == APR_OK)
        code = run_tokens(p, net, &ids, e);
    apr_ids_free(&ids);
    return code;
}

enum apr_code measure_influence(struct pruning *p, struct apr_error *e)
{
    struct apr_net *net = NULL;
    p->influence = calloc(p->nlayer + 1, sizeof *p->influence);
    if (p->influence == NULL)
        return apr_no_memory(e);
    enum apr_code code = apr_net_new(&net, p->o->to.cli.run.kernels, p->m, p->binding, e);
    if (code == APR_OK)
        code = run_net(p, net, e);
    apr_net_free(net);
    return code;
}
