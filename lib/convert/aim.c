#include "convert/aim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "flow/budget.h"
#include "values/dtype.h"

/* Who is a candidate: for rows of whole blocks of 256, for others; with importance alone. Types that another of as many bits beats on about
 * every tensor are not here, as IQ3_S is beaten by Q3_K without importance. */
enum rows { ANY, LONG, SHORT };
static const struct candidate {
    enum apr_dtype_id dtype;
    enum rows         rows;
    bool              importance;
} candidates[] = {
    { APR_IQ1_S, LONG, true },   { APR_IQ1_M, LONG, true },    { APR_IQ2_XXS, LONG, true }, { APR_IQ2_XS, LONG, true },
    { APR_IQ2_S, LONG, true },   { APR_IQ3_XXS, LONG, true },  { APR_Q2_K, LONG, false },   { APR_Q3_K, LONG, false },
    { APR_IQ3_S, LONG, true },   { APR_IQ4_XS, LONG, false },  { APR_Q4_K, LONG, false },   { APR_Q5_K, LONG, false },
    { APR_Q6_K, LONG, false },   { APR_Q2_0, SHORT, false },   { APR_MXFP4, SHORT, false }, { APR_IQ4_NL, SHORT, false },
    { APR_Q4_1, SHORT, false },  { APR_Q5_0, SHORT, false },   { APR_Q5_1, SHORT, false },  { APR_Q8_0, ANY, false },
    { APR_F16, ANY, false },     { APR_BF16, ANY, false },
};
#define NCANDIDATE APR_LENGTH(candidates)
#define NOFFER     (NCANDIDATE + 1) /* the last: it stays */

/* A choice being made: offers of each tensor, in candidates' order, and what is measured of them.
 *   choice  of all tensors, and as many more for a second try
 *   evenly  importance of what has none of its own
 *   fewest  bits per element of a candidate */
struct choosing {
    struct apr_aim   *t;
    struct apr_trial *trial;
    struct apr_tried *tried;
    struct apr_offer *offer;
    size_t           *choice;
    double            evenly, fewest;
};

/* ---- offers --------------------------------------------------------------------------------------------------------- */

static bool is_candidate(const struct choosing *choosing, const struct apr_aim_tensor *x, const struct apr_kernels *k, size_t j)
{
    const struct candidate *const c = &candidates[j];
    const struct apr_dtype *const d = &apr_dtypes[c->dtype];
    if (8 * d->bytes < choosing->fewest * d->block || x->fixed || x->in == NULL || !x->in->decodable || x->in->count == 0 || x->kept == d ||
        !apr_can_try(k, d, x->in->ncol, x->importance != NULL))
        return false;
    return (choosing->t->allowed >> c->dtype & 1) != 0 && (x->importance != NULL || !c->importance) &&
           (c->rows == ANY || (c->rows == LONG) == (x->in->ncol % 256 == 0));
}

static uint64_t bytes_as(const struct apr_aim_tensor *x, const struct apr_dtype *d)
{
    return x->in->nrow * (x->in->ncol / d->block) * d->bytes;
}

/* What an offer takes of the budget. */
static uint64_t taken(const struct apr_aim *t, uint64_t bytes)
{
    uint64_t up = bytes;
    return t->size == 0 || t->alignment == 0 || apr_round_up(bytes, t->alignment, &up) ? up : UINT64_MAX;
}

/* Offers by bytes alone: enough to say what can be reached. */
static void make_offers(struct choosing *c, const struct apr_kernels *k, double fewest)
{
    c->fewest = fewest;
    for (size_t i = 0; i < c->t->ntensor; i++) {
        const struct apr_aim_tensor *const x = &c->t->tensor[i];
        struct apr_offer *const o = c->offer + i * NOFFER;
        c->trial[i] = (struct apr_trial){ .name = x->name, .in = x->in, .importance = x->importance };
        for (size_t j = 0; j < NCANDIDATE; j++) {
            const bool is = is_candidate(c, x, k, j);
            c->trial[i].dtypes |= (uint64_t)is << j;
            o[j] = (struct apr_offer){ is ? taken(c->t, bytes_as(x, &apr_dtypes[candidates[j].dtype])) : 0, is ? 0 : NAN };
        }
        o[NCANDIDATE] = (struct apr_offer){ taken(c->t, x->kept_bytes), 0 };
    }
}

/* The mean importance of all elements that have one, 1 when none has. */
static double mean_importance(const struct apr_aim *t)
{
    double sum = 0, n = 0;
    for (size_t i = 0; i < t->ntensor; i++) {
        const struct apr_aim_tensor *const x = &t->tensor[i];
        if (x->importance == NULL || x->in == NULL || x->in->ndim < 2 || x->in->count == 0)
            continue;
        const uint64_t high = x->in->dim[x->in->ndim - 2], ncolumns = x->in->count / high;
        double of = 0;
        for (uint64_t j = 0; j < ncolumns; j++)
            of += (double)x->importance[j];
        sum += of * (double)high;
        n += (double)x->in->count;
    }
    return n > 0 ? sum / n : 1;
}

static enum apr_code measure(struct choosing *c, const struct apr_run *r, struct apr_error *e)
{
    const struct apr_dtype *dtype[NCANDIDATE];
    const struct apr_trials trials = { .trial = c->trial, .ntrial = c->t->ntensor, .dtype = dtype, .ndtype = NCANDIDATE,
                                       .sample = c->t->sample, .nan_to_zero = c->t->nan_to_zero, .tried = c->tried };
    for (size_t j = 0; j < NCANDIDATE; j++)
        dtype[j] = &apr_dtypes[candidates[j].dtype];
    APR_TRY(apr_trials_run(&trials, r, e));
    for (size_t i = 0; i < c->t->ntensor; i++)
        for (size_t j = 0; j < NCANDIDATE; j++) {
            struct apr_tried *const tried = &c->tried[i * NCANDIDATE + j];
            if (c->t->tensor[i].importance == NULL)
                tried->weighted = c->evenly * tried->squares;
            c->offer[i * NOFFER + j].error = tried->weighted;
        }
    return APR_OK;
}

/* ---- the target ----------------------------------------------------------------------------------------------------- */

static double bits_of(const struct apr_aim *t, double bytes) { return t->elements == 0 ? 0 : 8 * bytes / (double)t->elements; }

static enum apr_code unreachable(struct apr_aim *t, uint64_t least, uint64_t most, struct apr_error *e)
{
    t->unreachable = true;
    if (t->size > 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE,
                        "no choice of types makes a file of at most %llu bytes: the smallest has %llu, the largest has %llu",
                        (unsigned long long)t->size, (unsigned long long)(least + t->overhead), (unsigned long long)(most + t->overhead));
    return apr_fail(e, APR_EARG, APR_NOWHERE, "no choice of types has %g bits per weight: the least is %.4f, the most is %.4f", t->bpw,
                    bits_of(t, (double)least), bits_of(t, (double)most));
}

/* A part of what the target allows, in bytes of tensors. */
static uint64_t part_of(const struct apr_aim *t, double part)
{
    if (t->size == 0)
        return (uint64_t)fmin(0x1p62, part * t->bpw * (double)t->elements / 8);
    const uint64_t whole = part < 1 ? (uint64_t)(part * (double)t->size) : t->size;
    return whole > t->overhead ? whole - t->overhead : 0;
}

#define NEAR 0.01  /* of bits per weight */

static bool is_reachable(const struct apr_aim *t, uint64_t least, uint64_t most)
{
    return least <= part_of(t, t->size > 0 ? 1 : 1 + NEAR) && (t->size > 0 || most >= part_of(t, 1 - NEAR));
}

/* Dtypes of fewer than half the bits wanted are slow to measure and hardly ever chosen: they are offered when the others do not do. */
static enum apr_code offer_what_may_do(struct choosing *c, const struct apr_budget *b, const struct apr_kernels *k, struct apr_error *e)
{
    uint64_t least, most;
    make_offers(c, k, bits_of(c->t, (double)part_of(c->t, 0.5)));
    apr_budget_range(b, &least, &most);
    if (is_reachable(c->t, least, most))
        return APR_OK;
    make_offers(c, k, 0);
    apr_budget_range(b, &least, &most);
    return is_reachable(c->t, least, most) ? APR_OK : unreachable(c->t, least, most, e);
}

static enum apr_code spend(struct choosing *c, struct apr_budget *b, struct apr_spent *s, struct apr_error *e)
{
    uint64_t least, most;
    const uint64_t above = part_of(c->t, c->t->size > 0 ? 1 : 1 + NEAR);
    apr_budget_range(b, &least, &most);
    if (!is_reachable(c->t, least, most)) /* as some dtypes did not hold the values */
        return unreachable(c->t, least, most, e);
    b->most = part_of(c->t, 1) < least ? least : part_of(c->t, 1);
    b->least = c->t->size > 0 ? 0 : part_of(c->t, 1 - NEAR);
    APR_TRY(apr_budget_spend(b, c->choice, s, e));
    if (s->bytes >= b->least || c->t->size > 0 || above <= b->most)
        return APR_OK;
    const struct apr_budget more = { .offer = b->offer, .nitem = b->nitem, .noffer = b->noffer, .least = b->most + 1, .most = above };
    struct apr_spent second;
    size_t *const first = c->choice;
    size_t *const other = c->choice + b->nitem;
    APR_TRY(apr_budget_spend(&more, other, &second, e));
    if (second.bytes >= more.least) {
        memcpy(first, other, b->nitem * sizeof *first);
        *s = second;
    }
    return APR_OK;
}

/* ---- the result ----------------------------------------------------------------------------------------------------- */

static struct apr_aim_option option(const struct choosing *c, size_t i, size_t j)
{
    const struct apr_aim_tensor *const x = &c->t->tensor[i];
    if (j == NCANDIDATE)
        return (struct apr_aim_option){ x->kept, x->kept_bytes, { 0, 0 } };
    const struct apr_dtype *const d = &apr_dtypes[candidates[j].dtype];
    return (struct apr_aim_option){ d, bytes_as(x, d), c->tried[i * NCANDIDATE + j] };
}

/* Is a nearer to x than b is, on its side? */
static bool is_nearer(const struct apr_aim_option *a, const struct apr_aim_option *b, bool more)
{
    if (b->dtype == NULL || a->bytes != b->bytes)
        return b->dtype == NULL || (more ? a->bytes < b->bytes : a->bytes > b->bytes);
    return a->error.weighted < b->error.weighted;
}

static void tell(struct choosing *c, size_t i)
{
    struct apr_aim_tensor *const x = &c->t->tensor[i];
    x->chosen = option(c, i, c->choice[i]);
    x->less = x->more = (struct apr_aim_option){ 0 };
    for (size_t j = 0; j < NOFFER; j++) {
        const struct apr_aim_option o = option(c, i, j);
        if (!(c->offer[i * NOFFER + j].error < INFINITY) || x->fixed)
            continue;
        if (o.bytes > x->chosen.bytes && o.error.weighted < x->chosen.error.weighted && is_nearer(&o, &x->more, true))
            x->more = o;
        if (o.bytes < x->chosen.bytes && o.error.weighted > x->chosen.error.weighted && is_nearer(&o, &x->less, false))
            x->less = o;
    }
    c->t->bytes += x->chosen.bytes;
}

static enum apr_code choose(struct choosing *c, const struct apr_run *r, struct apr_error *e)
{
    struct apr_aim *const t = c->t;
    struct apr_budget b = { .offer = c->offer, .nitem = t->ntensor, .noffer = NOFFER };
    struct apr_spent s;
    APR_TRY(offer_what_may_do(c, &b, r->kernels, e));
    c->evenly = mean_importance(t);
    APR_TRY(measure(c, r, e));
    APR_TRY(spend(c, &b, &s, e));
    for (size_t i = 0; i < t->ntensor; i++)
        tell(c, i);
    t->error = s.error;
    t->bound = s.bound;
    t->exact = s.exact;
    t->reached = t->size > 0 ? (double)(s.bytes + t->overhead) : bits_of(t, (double)s.bytes);
    return APR_OK;
}

enum apr_code apr_aim_choose(struct apr_aim *t, const struct apr_run *r, struct apr_error *e)
{
    struct choosing c = { .t = t };
    t->bytes = t->elements = 0;
    for (size_t i = 0; i < t->ntensor; i++)
        if (!apr_add(t->elements, t->tensor[i].count, &t->elements))
            return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "the tensors have more elements than any file holds");
    c.trial = calloc(t->ntensor + 1, sizeof *c.trial);
    c.tried = calloc(t->ntensor + 1, NCANDIDATE * sizeof *c.tried);
    c.offer = calloc(t->ntensor + 1, NOFFER * sizeof *c.offer);
    c.choice = calloc(t->ntensor + 1, 2 * sizeof *c.choice);
    const bool room = c.trial != NULL && c.tried != NULL && c.offer != NULL && c.choice != NULL;
    const enum apr_code code = room ? choose(&c, r, e) : apr_no_memory(e);
    free(c.trial);
    free(c.tried);
    free(c.offer);
    free(c.choice);
    return code;
}
