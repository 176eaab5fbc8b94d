#include <string.h>

#include "base/fmath.h"
#include "forward/sequence.h"

/* ---- routing ---------------------------------------------------------------------------------------------------------- */

/* Of one position, in a worker's memory. score: of each expert, as it weighs; choice: as it is chosen; group: of each group. */
struct router {
    double        *score, *choice, *group;
    unsigned char *taken;
};

/* Is a the better choice? What is no number is taken first, so that it is seen. */
static bool better(double a, double b) { return a > b || (isnan(a) && !isnan(b)); }

/* The best of n that is not taken yet, the first of equals; it is taken now. */
static size_t take_best(const double *x, size_t n, unsigned char *taken)
{
    size_t best = n;
    for (size_t i = 0; i < n; i++)
        if (!taken[i] && (best == n || better(x[i], x[best])))
            best = i;
    taken[best] = 1;
    return best;
}

static void score(const struct apr_experts *x, const float *logit, double *score)
{
    const size_t n = (size_t)x->n;
    double most = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        most = logit[i] > most ? logit[i] : most;
    for (size_t i = 0; i < n; i++)
        sum += score[i] = x->sigmoid ? 1 / (1 + apr_exp(-(double)logit[i])) : apr_exp(logit[i] - most);
    for (size_t i = 0; i < n && !x->sigmoid; i++)
        score[i] /= sum;
}

/* A group is as good as its best expert, or its two best. */
static double group_score(const struct apr_experts *x, const double *choice, size_t n)
{
    double first = -INFINITY, second = -INFINITY;
    for (size_t i = 0; i < n; i++)
        if (better(choice[i], first)) {
            second = first;
            first = choice[i];
        } else if (better(choice[i], second)) {
            second = choice[i];
        }
    return x->best_two && n > 1 ? first + second : first;
}

/* Experts of groups that do not stay come last. */
static void leave_groups(const struct apr_experts *x, const struct router *r)
{
    const size_t ngroup = (size_t)x->groups, each = (size_t)x->n / ngroup;
    for (size_t g = 0; g < ngroup; g++)
        r->group[g] = group_score(x, r->choice + g * each, each);
    memset(r->taken, 0, ngroup);
    for (size_t i = 0; i < x->groups_used; i++)
        take_best(r->group, ngroup, r->taken);
    for (size_t g = 0; g < ngroup; g++)
        for (size_t i = 0; i < each && !r->taken[g]; i++)
            r->choice[g * each + i] = -INFINITY;
}

static void choose(const struct apr_experts *x, const struct router *r, float *weight, float *index)
{
    const size_t n = (size_t)x->n, used = (size_t)x->used;
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        r->choice[i] = r->score[i] + (x->score_bias != NULL ? (double)x->score_bias[i] : 0);
    if (x->groups > 1)
        leave_groups(x, r);
    memset(r->taken, 0, n);
    for (size_t i = 0; i < used; i++) {
        const size_t best = take_best(r->choice, n, r->taken);
        index[i] = (float)best;
        sum += r->score[best];
    }
    const double share = x->scale / (x->normalized && sum != 0 ? sum : 1);
    for (size_t i = 0; i < used; i++)
        weight[i] = apr_rounded(r->score[(size_t)index[i]] * share);
}

struct routing {
    struct apr_sequence      *s;
    const struct apr_experts *experts;
};

static void route_position(void *ctx, size_t p, unsigned worker)
{
    const struct routing *const c = ctx;
    struct apr_sequence *const s = c->s;
    const struct apr_experts *const x = c->experts;
    double *const memory = apr_team_scratch(s->team, worker);
    const struct router r = { memory, memory + x->n, memory + 2 * x->n, (unsigned char *)(memory + 3 * x->n) };
    score(x, s->at[APR_FLOW_ROUTER] + p * x->n, r.score);
    choose(x, &r, s->at[APR_FLOW_WEIGHTS] + p * x->used, s->at[APR_FLOW_INDICES] + p * x->used);
}

static enum apr_code route(struct apr_sequence *s, const struct apr_experts *x, uint32_t layer, const float *rows, struct apr_error *e)
{
    struct routing c = { s, x };
    uint64_t bytes;
    APR_TRY(apr_linear_whole(s, &x->router, rows, s->n, s->at[APR_FLOW_ROUTER], e));
    if (!apr_mul(x->n, 3 * sizeof(double) + 1, &bytes) || !apr_team_room(s->team, bytes))
        return apr_no_memory(e);
    apr_share_work(s, s->n, s->n * x->n * x->used, route_position, &c);
    APR_TRY(apr_stage_tell(s, layer, APR_STAGE_MOE_ROUTER, s->at[APR_FLOW_WEIGHTS], x->used, e));
    return apr_stage_tell(s, layer, APR_STAGE_MOE_ROUTER_INDICES, s->at[APR_FLOW_INDICES], x->used, e);
}

/* ---- the experts ------------------------------------------------------------------------------------------------------ */

/* The positions of each expert, in order, become rows side by side. */
static void sort(struct apr_sequence *s, const struct apr_experts *x, const float *rows)
{
    const size_t n = s->n * (size_t)x->used, hidden = (size_t)s->net->hidden;
    const float *const index = s->at[APR_FLOW_INDICES];
    size_t at = 0;
    memset(s->first, 0, (x->n + 1) * sizeof *s->first);
    for (size_t i = 0; i < n; i++)
        s->first[(size_t)index[i]]++;
    for (size_t i = 0; i <= x->n; i++) {
        const size_t count = s->first[i];
        s->first[i] = at;
        at += count;
    }
    for (size_t i = 0; i < n; i++) {
        s->place[i] = s->first[(size_t)index[i]]++;
        memcpy(s->at[APR_FLOW_SORTED] + s->place[i] * hidden, rows + i / x->used * hidden, hidden * sizeof *rows);
    }
    for (size_t i = (size_t)x->n; i > 0; i--)
        s->first[i] = s->first[i - 1];
    s->first[0] = 0;
}

/* Where an expert's gate and up go that has its first row there. */
static void gate_and_up(const struct apr_sequence *s, const struct apr_ffn *f, size_t row, struct apr_into into[2])
{
    const size_t width = (size_t)f->up.w.nout;
    into[0] = (struct apr_into){ &f->gate, s->at[APR_FLOW_GATE] + row * width, width };
    into[1] = (struct apr_into){ &f->up, s->at[APR_FLOW_UP] + row * width, width };
}

static enum apr_code multiply(struct apr_sequence *s, const struct apr_into *into, size_t ninto, size_t row, size_t n, struct apr_error *e)
{
    APR_TRY(apr_linear_products(s, into, ninto, s->at[APR_FLOW_SORTED] + row * s->net->hidden, n, e));
    apr_linear_bias(into, ninto, n);
    return APR_OK;
}

/* One expert's rows through its gate and up, or through its down. */
static enum apr_code enter(struct apr_sequence *s, const struct apr_ffn *f, size_t row, size_t n, struct apr_error *e)
{
    struct apr_into into[2];
    gate_and_up(s, f, row, into);
    return multiply(s, into, APR_LENGTH(into), row, n, e);
}

/* The experts of a run of one position all see the same row: many of them go in one product, so that threads meet once. */
static enum apr_code enter_together(struct apr_sequence *s, const struct apr_experts *x, struct apr_error *e)
{
    struct apr_into into[APR_INTO];
    size_t n = 0;
    for (size_t i = 0; i < x->n; i++) {
        if (s->first[i + 1] == s->first[i])
            continue;
        if (n == APR_INTO) {
            APR_TRY(multiply(s, into, n, 0, 1, e));
            n = 0;
        }
        gate_and_up(s, &x->expert[i], s->first[i], into + n);
        n += 2;
    }
    return multiply(s, into, n, 0, 1, e);
}

static enum apr_code leave(struct apr_sequence *s, const struct apr_ffn *f, size_t row, size_t n, struct apr_error *e)
{
    const bool gated = f->gate.w.in != NULL;
    return apr_linear_whole(s, &f->down, s->at[gated ? APR_FLOW_GATE : APR_FLOW_UP] + row * f->up.w.nout, n,
                            s->at[APR_FLOW_RESULTS] + row * s->net->hidden, e);
}

typedef enum apr_code step_fn(struct apr_sequence *s, const struct apr_ffn *f, size_t row, size_t n, struct apr_error *e);

static enum apr_code each_expert(struct apr_sequence *s, const struct apr_experts *x, step_fn *step, struct apr_error *e)
{
    for (size_t i = 0; i < x->n; i++)
        if (s->first[i + 1] > s->first[i])
            APR_TRY(step(s, &x->expert[i], s->first[i], s->first[i + 1] - s->first[i], e));
    return APR_OK;
}

static enum apr_code work(struct apr_sequence *s, const struct apr_experts *x, struct apr_error *e)
{
    const bool gated = x->expert[0].gate.w.in != NULL;
    const uint64_t n = s->n * x->used * x->expert[0].up.w.nout;
    APR_TRY(s->n == 1 ? enter_together(s, x, e) : each_expert(s, x, enter, e));
    apr_ffn_activate(s, s->at[gated ? APR_FLOW_GATE : APR_FLOW_UP], n);
    if (gated)
        apr_ffn_multiply(s, s->at[APR_FLOW_GATE], s->at[APR_FLOW_UP], n);
    return each_expert(s, x, leave, e);
}

/* ---- their sum -------------------------------------------------------------------------------------------------------- */

struct adding {
    struct apr_sequence      *s;
    const struct apr_experts *experts;
    float                    *y;
};

static void add_position(void *ctx, size_t p, unsigned worker)
{
    (void)worker;
    const struct adding *const c = ctx;
    const struct apr_sequence *const s = c->s;
    const size_t used = (size_t)c->experts->used, hidden = (size_t)s->net->hidden;
    for (size_t i = 0; i < hidden; i++) {
        double sum = 0;
        for (size_t r = p * used; r < (p + 1) * used; r++)
            sum += (double)s->at[APR_FLOW_WEIGHTS][r] * s->at[APR_FLOW_RESULTS][s->place[r] * hidden + i];
        c->y[p * hidden + i] = apr_rounded(sum);
    }
}

static void add_shared(void *ctx, size_t p, unsigned worker)
{
    (void)worker;
    const struct adding *const c = ctx;
    const struct apr_sequence *const s = c->s;
    const size_t hidden = (size_t)s->net->hidden;
    const float *const x = s->at[APR_FLOW_SHARED] + p * hidden;
    float *const y = c->y + p * hidden;
    const double weight = c->experts->shared_gate.w.in != NULL ? 1 / (1 + apr_exp(-(double)s->at[APR_FLOW_SHARED_GATE][p])) : 1;
    for (size_t i = 0; i < hidden; i++)
        y[i] = apr_rounded(y[i] + weight * x[i]);
}

static enum apr_code share(struct apr_sequence *s, struct adding *c, const float *rows, struct apr_error *e)
{
    const struct apr_experts *const x = c->experts;
    if (x->shared.up.w.in == NULL)
        return APR_OK;
    APR_TRY(apr_ffn_run(s, &x->shared, APR_WHOLE_MODEL, rows, s->n, s->at[APR_FLOW_SHARED], e));
    if (x->shared_gate.w.in != NULL)
        APR_TRY(apr_linear_whole(s, &x->shared_gate, rows, s->n, s->at[APR_FLOW_SHARED_GATE], e));
    apr_share_work(s, s->n, s->n * s->net->hidden, add_shared, c);
    return APR_OK;
}

enum apr_code apr_experts_run(struct apr_sequence *s, uint32_t layer, const float *rows, float *y, struct apr_error *e)
{
    const struct apr_experts *const x = &s->net->layer[layer].experts;
    struct adding c = { s, x, y };
    APR_TRY(route(s, x, layer, rows, e));
    sort(s, x, rows);
    APR_TRY(work(s, x, e));
    apr_share_work(s, s->n, s->n * x->used * s->net->hidden, add_position, &c);
    APR_TRY(apr_stage_tell(s, layer, APR_STAGE_MOE_FFN_OUT, y, s->net->hidden, e));
    return share(s, &c, rows, e);
}
