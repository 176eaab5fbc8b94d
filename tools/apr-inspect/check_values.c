/* Stages 7 to 10: one pass over the data, on all threads, judged tensor by tensor in the order of the file. */
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "flow/input.h"
#include "flow/pass.h"
#include "model/format.h"
#include "model/hf_config.h"
#include "model/meta.h"
#include "values/dtype.h"

struct checking {
    struct inspection *x;
    struct job        *job;
    size_t             njob;
    uint64_t           padding;  /* the token that stands for nothing, whose row may be of zeros; UINT64_MAX: not told */
    struct tally       sum;      /* of the pieces of a tensor so far */
    struct moments    *moments;
    struct findings    degenerate, round_trip;
    uint64_t          *counted;  /* of a share: the classes of the tensor's values so far; NULL: it is no share */
    struct roles       roles;    /* of a share's tensors, and each one's, by its index in the model */
    size_t            *role_of;
    struct census     *census;   /* of each role */
};

/* ---- what a tensor is ----------------------------------------------------------------------------------------------- */

static bool is_embedding(struct apr_bytes name)
{
    static const char *const word[] = { "embed", "embd", "wte.", "wpe.", "lm_head" };
    for (size_t i = 0; i < APR_LENGTH(word); i++)
        if (apr_bytes_have(name, word[i]))
            return true;
    return apr_bytes_is(name, "output.weight");
}

/* Norms, biases, scalars: that they are constant, or zero, may be meant. */
static bool is_vector(const struct apr_tensor *t)
{
    unsigned sides = 0;
    for (unsigned i = 0; i < t->ndim; i++)
        sides += t->dim[i] > 1;
    return sides < 2 || apr_bytes_have(t->name, "norm") || apr_bytes_have(t->name, "bias") || apr_bytes_have(t->name, "ln_");
}

/* Does a converter make it, in F32 whatever the model is stored in? */
static bool is_made(const struct inspection *x, const struct apr_tensor *t)
{
    struct apr_meaning s;
    return x->binding != NULL && apr_binding_meaning(x->binding, t, 0, &s) && s.role->generated != APR_NOT_GENERATED;
}

/* A norm that is stored less 1, so that zeros are its neutral value. */
static bool is_stored_less_one(const struct inspection *x, const struct apr_tensor *t)
{
    struct apr_meaning s;
    return x->binding != NULL && apr_binding_meaning(x->binding, t, 0, &s) && s.dialect != APR_GGUF && s.role->ntransform > 0 &&
           s.role->transform[0].op == APR_OP_ADD;
}

/* ---- one piece ------------------------------------------------------------------------------------------------------ */

static struct apr_cut cut(void *ctx, size_t i, unsigned mode)
{
    const struct checking *p = ctx;
    const struct job *j = &p->job[i];
    (void)mode;
    return (struct apr_cut){ j->npiece, 1, j->t->count, j->t->data.n };
}

/* What follows the tally in a share's result. */
static uint64_t *classes_of(void *result) { return (uint64_t *)(void *)((struct tally *)result + 1); }

static enum apr_code make(void *ctx, const struct apr_pieces *pieces, void *scratch, void *result, struct apr_error *e)
{
    const struct checking *p = ctx;
    const struct job *j = &p->job[pieces->input];
    const struct apr_input in = apr_input_of(p->x->o->cli.run.kernels, p->x->m, j->t);
    struct tally sum = tally_piece(j, p->padding, &in, scratch, pieces->first);
    (void)e;
    if (p->counted != NULL) {
        uint64_t *const of = classes_of(result);
        memset(of, 0, CLASSES * sizeof *of);
        if (apr_decodable(in.k, j->t))
            count_classes(&in, scratch, pieces->first * j->piece, apr_min(j->t->count, (pieces->first + pieces->n) * j->piece), of);
    }
    for (uint64_t i = 1; i < pieces->n; i++) {
        const struct tally one = tally_piece(j, p->padding, &in, scratch, pieces->first + i);
        merge_tally(&sum, &one);
    }
    memcpy(result, &sum, sizeof sum);
    apr_window_rest(scratch);
    return APR_OK;
}

/* ---- one tensor ----------------------------------------------------------------------------------------------------- */

typedef unsigned long long ull;

static const char *spell_place(const struct apr_tensor *t, uint64_t element, char buffer[176])
{
    uint64_t place[APR_MAX_DIMS];
    for (unsigned d = t->ndim; d-- > 0; element /= t->dim[d])
        place[d] = element % t->dim[d];
    return apr_spell_shape(place, t->ndim, buffer);
}

static enum apr_code judge_finite(struct checking *p, const struct apr_tensor *t, struct apr_error *e)
{
    const struct tally *s = &p->sum;
    struct findings *f = &p->x->findings;
    char place[176];
    if (s->blocks.bad > 0)
        return add_finding(f, "values.scale", t->name, e,
                           "tensor %s: %llu of %llu blocks of %s have a scale that is NaN or infinite, the first is block %llu (%s)",
                           APR_QUOTED(t->name), (ull)s->blocks.bad, (ull)block_count(t), t->dtype->name, (ull)s->blocks.first_bad,
                           s->blocks.field);
    const bool meant = p->x->binding != NULL && apr_binding_is_buffer(p->x->binding, t);
    if (s->nans + s->infs > 0 && !meant)
        return add_finding(f, "values.nonfinite", t->name, e,
                           "tensor %s: %llu NaN and %llu infinite of %llu values, the first at %s", APR_QUOTED(t->name), (ull)s->nans,
                           (ull)s->infs, (ull)t->count, spell_place(t, s->first_bad, place));
    if (!apr_decodable(p->x->o->cli.run.kernels, t))
        return add_finding(f, "values.undecoded", t->name, e, "tensor %s: values of type %s are not looked at",
                           APR_QUOTED(t->name), t->dtype->name);
    return APR_OK;
}

static enum apr_code judge_zeros(struct checking *p, const struct apr_tensor *t, struct apr_error *e)
{
    const struct tally *s = &p->sum;
    struct findings *f = &p->degenerate;
    const bool vector = is_vector(t), embedding = is_embedding(t->name);
    const double zeros = (double)s->zeros / (double)t->count;
    char value[32];
    if (s->zeros == t->count) {
        if (apr_bytes_have(t->name, "bias") || is_stored_less_one(p->x, t))
            return APR_OK;
        return add_finding_as(f, vector ? APR_WARNING : APR_FAULT, "values.zero", t->name, e,
                           "tensor %s: all of its %llu values are 0", APR_QUOTED(t->name), (ull)t->count);
    }
    if (vector)
        return APR_OK;
    if (s->min == s->max && s->n == t->count)
        return add_finding(f, "values.constant", t->name, e, "tensor %s: all of its %llu values are %s",
                           APR_QUOTED(t->name), (ull)t->count, apr_spell_real(s->min, value));
    if (zeros > (embedding ? 0.5 : 0.8))
        APR_TRY(add_finding_as(f, embedding ? APR_FAULT : APR_WARNING, "values.sparse", t->name, e,
                            "tensor %s: %.1f %% of its values are 0, more than %d %%", APR_QUOTED(t->name), 100 * zeros,
                            embedding ? 50 : 80));
    if (s->dead == s->tail) /* the last rows may pad a vocabulary */
        return APR_OK;
    return add_finding(f, "values.dead_rows", t->name, e,
                       "tensor %s: %llu of %llu rows are 0, the first is row %llu", APR_QUOTED(t->name), (ull)(s->dead - s->tail),
                       (ull)t->dim[0], (ull)s->first_dead);
}

static enum apr_code judge_codes(struct checking *p, const struct apr_tensor *t, struct apr_error *e)
{
    const struct block_tally *b = &p->sum.blocks;
    if (b->foreign > 0)
        APR_TRY(add_finding(&p->round_trip, "codec.foreign", t->name, e,
                            "tensor %s: %llu of %llu blocks of %s hold a code that no encoder writes, the first is block %llu",
                            APR_QUOTED(t->name), (ull)b->foreign, (ull)block_count(t), t->dtype->name, (ull)b->first_foreign));
    if (b->loose > 0)
        APR_TRY(add_finding(&p->round_trip, "codec.loose", t->name, e,
                            "tensor %s: %llu of %llu blocks of %s, decoded and encoded again, give other bytes, the first is block %llu",
                            APR_QUOTED(t->name), (ull)b->loose, (ull)block_count(t), t->dtype->name, (ull)b->first_loose));
    return APR_OK;
}

/* A tensor that the contract drops may be a mask. */
static bool is_plain(const struct inspection *x, const struct apr_tensor *t)
{
    return x->binding == NULL || !apr_binding_skips(x->binding, t);
}

/* Whatever else it is, a matrix of zeros alone is nothing. */
static enum apr_code judge_other(struct checking *p, const struct apr_tensor *t, struct apr_error *e)
{
    return p->sum.zeros == t->count && !is_vector(t) ? judge_zeros(p, t, e) : APR_OK;
}

static enum apr_code judge(struct checking *p, const struct apr_tensor *t, struct apr_error *e)
{
    const size_t i = (size_t)(t - p->x->m->tensor);
    const bool weights = has_weights(p->x) && t->dtype->kind == APR_REAL && p->sum.n > 0, plain = is_plain(p->x, t);
    struct moments *m = &p->moments[i];
    APR_TRY(judge_finite(p, t, e));
    if (weights && !plain)
        APR_TRY(judge_other(p, t, e));
    if (weights && plain) {
        *m = (struct moments){ .name = t->name, .mean = p->sum.mean, .std = sqrt(p->sum.squares / (double)p->sum.n),
                               .most = fmax(fabs(p->sum.min), fabs(p->sum.max)), .weights = true,
                               .usable = p->sum.n == t->count && p->sum.min < p->sum.max, .vector = is_vector(t),
                               .made = is_made(p->x, t) };
        memcpy(m->magnitude, p->sum.magnitude, sizeof m->magnitude);
        APR_TRY(judge_zeros(p, t, e));
    }
    return judge_codes(p, t, e);
}

static enum apr_code take(void *ctx, const struct apr_pieces *pieces, const void *result, struct apr_error *e)
{
    struct checking *p = ctx;
    const uint64_t *const of = (const uint64_t *)(const void *)((const struct tally *)result + 1);
    (void)e;
    for (unsigned k = 0; p->counted != NULL && k < CLASSES; k++)
        p->counted[k] = (pieces->first == 0 ? 0 : p->counted[k]) + of[k];
    if (pieces->first == 0)
        p->sum = *(const struct tally *)result;
    else
        merge_tally(&p->sum, result);
    return APR_OK;
}

static enum apr_code done(void *ctx, struct apr_pass *pass, size_t i, struct apr_error *e)
{
    struct checking *p = ctx;
    const struct apr_tensor *const t = p->job[i].t;
    const size_t index = (size_t)(t - p->x->m->tensor);
    (void)pass;
    APR_TRY(judge(p, t, e));
    return p->counted == NULL || !p->moments[index].weights ? APR_OK : add_to_census(&p->census[p->role_of[index]], p->counted, e);
}

/* A config.json that is broken has been told. */
static uint64_t padding_token(const struct inspection *x)
{
    struct apr_hf_config *config = NULL;
    struct apr_error ignored;
    uint64_t id = UINT64_MAX;
    double n;
    if (apr_meta_unsigned(&x->m->meta, "tokenizer.ggml.padding_token_id", &id))
        return id;
    if (apr_hf_config_of(&config, x->m, &ignored) == APR_OK && apr_hf_config_number(config, apr_text("pad_token_id"), &n) && n >= 0 &&
        n < 0x1p53)
        id = (uint64_t)n;
    apr_hf_config_free(config);
    return id;
}

/* ---- all chosen tensors --------------------------------------------------------------------------------------------- */

static void enter(void *ctx, void *scratch)
{
    const struct checking *p = ctx;
    *(struct apr_window *)scratch = apr_window_of(&p->x->o->cli.run);
}

static void leave(void *ctx, void *scratch)
{
    (void)ctx;
    apr_window_drop(scratch);
}

static void choose(struct checking *p)
{
    for (size_t i = 0; i < p->x->m->ntensor; i++) {
        const struct apr_tensor *t = &p->x->m->tensor[i];
        if (t->count == 0 || t->tied || !is_mine(p->x, t))
            continue;
        struct job *j = &p->job[p->njob++];
        *j = (struct job){ .t = t, .piece = APR_CHUNK };
        if (t->ndim == 2 && t->dim[1] <= APR_CHUNK && is_embedding(t->name)) {
            j->row = t->dim[1];
            j->piece = APR_CHUNK / j->row * j->row;
        }
        j->npiece = (t->count - 1) / j->piece + 1;
    }
}

static enum apr_code read_all(struct checking *p, struct apr_error *e)
{
    const size_t result = sizeof(struct tally) + (p->counted != NULL ? CLASSES * sizeof(uint64_t) : 0);
    const struct apr_job job = { .what = "checking", .ctx = p, .ninput = p->njob,
                                 .result = result, .shared = p->counted != NULL ? 0 : result, .scratch = sizeof(struct apr_window),
                                 .cut = cut, .make = make, .take = take, .done = done, .enter = enter, .leave = leave };
    return apr_pass(&p->x->o->cli.run, &job, e);
}

/* ---- what they are together ------------------------------------------------------------------------------------------ */

/* The type most weights are stored in, when that has 16 bits, and the largest number it holds; 0 when there is none. */
static double held_by_model(const struct inspection *x, const char **type)
{
    uint64_t all = 0, f16 = 0, bf16 = 0;
    for (size_t i = 0; i < x->m->ntensor; i++) {
        const struct apr_tensor *t = &x->m->tensor[i];
        all += t->count;
        f16 += t->dtype == &apr_dtypes[APR_F16] ? t->count : 0;
        bf16 += t->dtype == &apr_dtypes[APR_BF16] ? t->count : 0;
    }
    *type = f16 > all / 2 ? "F16" : "BF16";
    return f16 > all / 2 ? 65504 : bf16 > all / 2 ? 0x1.FEp127 : 0;
}

/* ---- a share --------------------------------------------------------------------------------------------------------- */

/* The roles that its tensors may have, whose values are counted. */
static enum apr_code begin_share(struct checking *p, struct apr_error *e)
{
    const size_t n = p->x->m->ntensor;
    struct moments *const names = calloc(n + 1, sizeof *names);
    enum apr_code code = names == NULL ? apr_no_memory(e) : APR_OK;
    for (size_t i = 0; code == APR_OK && i < p->njob; i++)
        names[p->job[i].t - p->x->m->tensor] = (struct moments){ .name = p->job[i].t->name, .weights = true };
    if (code == APR_OK)
        code = find_roles(&p->roles, names, n, e);
    free(names);
    APR_TRY(code);
    p->counted = calloc(CLASSES, sizeof *p->counted);
    p->role_of = calloc(n + 1, sizeof *p->role_of);
    p->census = calloc(p->roles.n + 1, sizeof *p->census);
    if (p->counted == NULL || p->role_of == NULL || p->census == NULL)
        return apr_no_memory(e);
    for (size_t r = 0; r < p->roles.n; r++)
        for (size_t i = 0; i < p->roles.at[r].n; i++)
            p->role_of[p->roles.at[r].tensor[i]] = r;
    return APR_OK;
}

/* Its own findings, and what those of all shares together take; what that borrows is x's from here on. */
static enum apr_code end_share(struct checking *p, struct apr_error *e)
{
    struct inspection *const x = p->x;
    struct measured *const m = x->measured = malloc(sizeof *m);
    if (m == NULL)
        return apr_no_memory(e);
    *m = (struct measured){ .moments = p->moments, .n = x->m->ntensor, .roles = p->roles, .census = p->census };
    m->held = held_by_model(x, &m->type);
    p->moments = NULL;
    p->roles = (struct roles){ 0 };
    p->census = NULL;
    return APR_OK;
}

static enum apr_code judge_all(struct checking *p, struct apr_error *e)
{
    struct judging j = { .findings = &p->x->findings, .moments = p->moments, .n = p->x->m->ntensor, .middle = middle_of_role, .ctx = p->x };
    j.held = held_by_model(p->x, &j.type);
    return judge_together(&j, &p->degenerate, &p->round_trip, e);
}

enum apr_code check_values(struct inspection *x, struct apr_error *e)
{
    struct checking p = { .x = x, .padding = padding_token(x) };
    const bool share = x->o->nparts > 0;
    p.job = calloc(x->m->ntensor + 1, sizeof *p.job);
    p.moments = calloc(x->m->ntensor + 1, sizeof *p.moments);
    enum apr_code code = p.job == NULL || p.moments == NULL ? apr_no_memory(e) : APR_OK;
    if (code == APR_OK)
        choose(&p);
    if (code == APR_OK && share)
        code = begin_share(&p, e);
    if (code == APR_OK)
        code = read_all(&p, e);
    if (code == APR_OK)
        code = share ? end_share(&p, e) : judge_all(&p, e);
    struct apr_error ignored;
    const enum apr_code rest[] = { append_findings(&x->findings, &p.degenerate, &ignored),
                                   append_findings(&x->findings, &p.round_trip, &ignored) };
    struct measured left = { .moments = p.moments, .roles = p.roles, .census = p.census };
    free_measured(&left);
    free(p.job);
    free(p.counted);
    free(p.role_of);
    return code == APR_OK && (rest[0] != APR_OK || rest[1] != APR_OK) ? apr_no_memory(e) : code;
}
