/* Rotary positions: by how much each pair of elements turns, for every kind of scaling, in doubles. */
#include "forward/net_parts.h"

#include <math.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/fmath.h"

#define PI         3.14159265358979323846
#define MOST_TURNS 65536u /* elements of a head that turn */

/* ---- what the model says of its scaling ------------------------------------------------------------------------------- */

/* Where the numbers of a scaling are kept: in config.json, old and new, and there by kinds of layers, and in a GGUF. */
static const char *const places[] = { "rope_scaling.", "rope_parameters.", "rope_parameters.full_attention.", "rope.scaling." };

/* The first place that has one of the words. */
static struct apr_result said(const struct apr_netting *g, const char *word, const char *other)
{
    char path[128];
    struct apr_result r = { 0 };
    for (size_t i = 0; i < 2 * APR_LENGTH(places) && !r.known; i++) {
        snprintf(path, sizeof path, "%s%s", places[i / 2], i % 2 == 0 ? word : other);
        r = apr_binding_word(g->b, apr_text(path));
    }
    return r;
}

static double number(const struct apr_netting *g, const char *word, const char *other, double otherwise)
{
    const struct apr_result r = said(g, word, other);
    return r.known && r.text.at == NULL ? r.number : otherwise;
}

/* The term, where the contract has it, else the number. */
static double term_or(const struct apr_netting *g, enum apr_term term, uint32_t layer, const char *word, const char *other,
                      double otherwise)
{
    const double v = apr_net_real(g, term, layer, NAN);
    return isnan(v) ? number(g, word, other, otherwise) : v;
}

/* ---- frequencies ------------------------------------------------------------------------------------------------------ */

/* A layer's rope under way: n elements, half of them frequencies. */
struct turning {
    const struct apr_netting *g;
    uint32_t                  layer;
    uint64_t                  n, half;
    double                    base, factor, original;
    double                   *freq;
    struct apr_rope          *out;
};

static double *frequencies(const struct turning *t)
{
    double *const freq = apr_net_room(t->g, t->half, sizeof *freq);
    const double step = apr_log(t->base);
    for (uint64_t i = 0; freq != NULL && i < t->half; i++)
        freq[i] = apr_exp(-((double)(2 * i) / (double)t->n) * step);
    return freq;
}

static enum apr_code bad(const struct turning *t, const char *what)
{
    return apr_fail(t->g->e, APR_EARG, APR_NOWHERE, "the rope scaling of layer %u of family %.*s %s", t->layer,
                    APR_PRINTED(t->g->n->family), what);
}

static enum apr_code linear(struct turning *t)
{
    if (!(t->factor > 0))
        return bad(t, "has no factor");
    for (uint64_t i = 0; i < t->half; i++)
        t->freq[i] /= t->factor;
    return APR_OK;
}

/* Factors that a GGUF has as a tensor; NULL when there is none. */
static enum apr_code stored_factors(const struct turning *t, const char *role_name, const float **out)
{
    const struct apr_role *const role = apr_family_role(apr_binding_family(t->g->b), apr_text(role_name));
    const struct apr_meaning meaning = { .role = role, .dialect = APR_GGUF };
    const struct apr_tensor *const stored = role == NULL ? NULL : apr_binding_find(t->g->b, &meaning);
    *out = NULL;
    if (stored == NULL)
        return APR_OK;
    const struct apr_input in = apr_input_of(t->g->k, t->g->m, stored);
    if (in.count != t->half || !in.decodable || in.wide)
        return apr_fail_tensor(t->g->e, APR_EARG, APR_NOWHERE, stored->name, " holds no %llu floats, one for each pair that turns",
                               (unsigned long long)t->half);
    float *const values = apr_net_room(t->g, t->half, sizeof *values);
    if (values == NULL)
        return apr_no_memory(t->g->e);
    apr_input_all_floats(&in, NULL, 0, t->half, values);
    *out = values;
    return APR_OK;
}

/* Long waves are stretched by the factor, short ones not, those between by something between. */
static enum apr_code llama3(struct turning *t)
{
    const double low = number(t->g, "low_freq_factor", "low_freq_factor", 1);
    const double high = number(t->g, "high_freq_factor", "high_freq_factor", 4);
    const float *factor;
    APR_TRY(stored_factors(t, "rope_freqs", &factor));
    for (uint64_t i = 0; factor != NULL && i < t->half; i++)
        t->freq[i] /= (double)factor[i];
    if (factor != NULL)
        return APR_OK;
    if (!(t->factor > 0) || !(high > low) || !(t->original > 0))
        return bad(t, "lacks one of its numbers");
    for (uint64_t i = 0; i < t->half; i++) {
        const double share = (t->original * t->freq[i] / (2 * PI) - low) / (high - low); /* that is not stretched */
        const double kept = share < 0 ? 0 : share > 1 ? 1 : share;
        t->freq[i] *= kept + (1 - kept) / t->factor;
    }
    return APR_OK;
}

/* The element that turns `rotations` times in the original context. */
static double turns_at(const struct turning *t, double rotations)
{
    return (double)t->n * apr_log(t->original / (rotations * 2 * PI)) / (2 * apr_log(t->base));
}

static double magnitude(double factor, double mscale) { return factor <= 1 ? 1 : 0.1 * mscale * apr_log(factor) + 1; }

/* By what cos and sin grow. A GGUF has a factor more, which HuggingFace has not. */
static double yarn_scale(const struct turning *t)
{
    const double whole = number(t->g, "attention_factor", "yarn_attn_factor", 0);
    const double all = term_or(t->g, APR_TERM_ROPE_MSCALE_ALL, t->layer, "mscale_all_dim", "yarn_log_multiplier", 0);
    const double mscale = term_or(t->g, APR_TERM_ROPE_MSCALE, t->layer, "mscale", "mscale", 0);
    const double more = number(t->g, "attn_factor", "attn_factor", 1);
    if (whole > 0)
        return whole;
    return more * (mscale != 0 && all != 0 ? magnitude(t->factor, mscale) / magnitude(t->factor, all) : magnitude(t->factor, 1));
}

static enum apr_code yarn(struct turning *t)
{
    const double fast = number(t->g, "beta_fast", "yarn_beta_fast", 32), slow = number(t->g, "beta_slow", "yarn_beta_slow", 1);
    const double extrapolated = number(t->g, "extrapolation_factor", "yarn_ext_factor", 1);
    if (!(t->factor > 0) || !(t->original > 0) || !(t->base > 1) || !(fast > 0) || !(slow > 0))
        return bad(t, "lacks one of its numbers");
    double from = turns_at(t, fast), to = turns_at(t, slow);
    if (number(t->g, "truncate", "truncate", 1) != 0) {
        from = floor(from);
        to = ceil(to);
    }
    from = from > 0 ? from : 0;
    to = to < (double)t->n - 1 ? to : (double)t->n - 1;
    to = to == from ? to + 0.001 : to;
    for (uint64_t i = 0; i < t->half; i++) {
        const double at = ((double)i - from) / (to - from), ramp = at < 0 ? 0 : at > 1 ? 1 : at, kept = (1 - ramp) * extrapolated;
        t->freq[i] = t->freq[i] / t->factor * (1 - kept) + t->freq[i] * kept;
    }
    t->out->scale = yarn_scale(t);
    return APR_OK;
}

/* Frequencies divided by the factors of a tensor, or of a list in config.json. */
static enum apr_code listed(const struct turning *t, const char *role, const char *list, double **out)
{
    char path[64];
    const float *stored;
    APR_TRY(stored_factors(t, role, &stored));
    double *const freq = *out = frequencies(t);
    if (freq == NULL)
        return apr_no_memory(t->g->e);
    for (uint64_t i = 0; i < t->half; i++) {
        snprintf(path, sizeof path, "%s.%llu", list, (unsigned long long)i);
        const double factor = stored != NULL ? (double)stored[i] : number(t->g, path, path, 0);
        if (!(factor > 0))
            return bad(t, "lacks an element of its lists of factors");
        freq[i] /= factor;
    }
    return APR_OK;
}

/* One list of factors for texts as long as the original context, another for longer ones. */
static enum apr_code longrope(struct turning *t)
{
    double *freq, *stretched;
    const double ratio = t->factor > 0 ? t->factor : t->original > 0 ? (double)t->g->n->context / t->original : 1;
    const double scale = ratio > 1 && t->original > 1 ? sqrt(1 + apr_log(ratio) / apr_log(t->original)) : 1;
    if (!(t->original >= 1 && t->original < 0x1p53))
        return bad(t, "lacks the length of the original context");
    APR_TRY(listed(t, "rope_factors_short", "short_factor", &freq));
    APR_TRY(listed(t, "rope_factors_long", "long_factor", &stretched));
    t->freq = freq;
    t->out->long_freq = stretched;
    t->out->original = (uint64_t)t->original;
    t->out->scale = t->out->long_scale = term_or(t->g, APR_TERM_ROPE_SCALE, t->layer, "attention_factor", "attn_factor", scale);
    return APR_OK;
}

/* ---- a layer ---------------------------------------------------------------------------------------------------------- */

static enum apr_code scale_by_kind(struct turning *t, struct apr_bytes kind)
{
    static const struct {
        const char *word;
        enum apr_code (*scale)(struct turning *t);
    } kinds[] = {
        { "", NULL }, { "none", NULL }, { "default", NULL }, { "dynamic", NULL }, /* the last: as none, up to the original context */
        { "linear", linear }, { "llama3", llama3 }, { "yarn", yarn }, { "longrope", longrope }, { "su", longrope },
    };
    for (size_t i = 0; i < APR_LENGTH(kinds); i++)
        if (apr_bytes_is(kind, kinds[i].word))
            return kinds[i].scale == NULL ? APR_OK : kinds[i].scale(t);
    return apr_fail(t->g->e, APR_EUNSUPPORTED, APR_NOWHERE, "no forward pass has the rope scaling %s of family %.*s", APR_QUOTED(kind),
                    APR_PRINTED(t->g->n->family));
}

enum apr_code apr_net_rope(const struct apr_netting *g, uint32_t layer, struct apr_rope *out)
{
    struct turning t = { .g = g, .layer = layer, .out = out };
    APR_TRY(apr_net_size(g, APR_TERM_ROPE_DIMS, layer, 0, MOST_TURNS, &out->n));
    APR_TRY(apr_net_size(g, APR_TERM_ROPE_SKIP, layer, 0, MOST_TURNS, &out->skip));
    out->adjacent = apr_net_flag(g, APR_TERM_ROPE_ADJACENT, layer, false);
    out->scale = out->long_scale = 1;
    if (out->n == 0)
        return APR_OK;
    t.n = out->n;
    t.half = out->n / 2;
    t.base = apr_net_real(g, APR_TERM_ROPE_BASE, layer, 10000);
    t.factor = term_or(g, APR_TERM_ROPE_FACTOR, layer, "factor", "factor", 0);
    t.original = term_or(g, APR_TERM_ROPE_ORIGINAL, layer, "original_max_position_embeddings", "original_context_length", 0);
    if (t.n % 2 != 0 || out->skip + t.n > g->n->head_k || !(t.base > 0))
        return apr_fail(g->e, APR_EARG, APR_NOWHERE, "%llu elements from %llu on of a head of %llu cannot turn with base %g",
                        (unsigned long long)t.n, (unsigned long long)out->skip, (unsigned long long)g->n->head_k, t.base);
    t.freq = frequencies(&t);
    if (t.freq == NULL)
        return apr_no_memory(g->e);
    const struct apr_result kind = apr_term(g->b, APR_TERM_ROPE_KIND, layer);
    APR_TRY(scale_by_kind(&t, kind.known && kind.text.at != NULL ? kind.text : apr_text("")));
    out->freq = t.freq;
    return APR_OK;
}
