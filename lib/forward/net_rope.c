/* Rotary positions: by how much each pair of elements turns, for every kind of scaling, in doubles. */
#include "forward/net_parts.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/fmath.h"

#define PI         3.14159265358979323846
#define MOST_TURNS 65536u /* elements of a head that turn */

/* ---- what the model says of its scaling ------------------------------------------------------------------------------- */

/* Where the numbers of a scaling are kept: in config.json, old and new, and there by kinds of layers, and in a GGUF. */
static const char *const places[] = { "rope_scaling.", "rope_parameters.", "rope_parameters.full_attention.", "rope.scaling." };

#define PATH_ROOM 128

/* The first place that has one of the words; the path of what was found, or of the last that was tried. */
static struct apr_result said(const struct apr_netting *g, const char *word, const char *other, char path[PATH_ROOM])
{
    struct apr_result r = { 0 };
    for (size_t i = 0; i < 2 * APR_LENGTH(places) && !r.known; i++) {
        struct apr_result v;
        snprintf(path, PATH_ROOM, "%s%s", places[i / 2], i % 2 == 0 ? word : other);
        r = apr_binding_word(g->b, apr_text(path));
        r.wrong |= !r.known && apr_binding_stands(g->b, apr_text(path), &v) == APR_STANDS_IN_CONFIG;
        if (r.wrong)
            break;
    }
    return r;
}

/* A layer's rope under way: n elements, half of them frequencies; base. The rest as it was said, NAN where it was not. */
struct turning {
    const struct apr_netting *g;
    uint32_t                  layer;
    uint64_t                  n, half;
    double                    base;
    double                    factor, original, low, high, fast, slow, extrapolated, truncate, whole, mscale, mscale_all, more;
    double                   *freq;
    struct apr_rope          *out;
};

/* word: in config.json; other: in a GGUF. term: what the contract may say first; APR_NTERMS: nothing. */
static const struct number {
    const char    *word, *other;
    enum apr_term  term;
    enum apr_bounds range;
    double         otherwise;
    size_t         at;
} numbers[] = {
    { "factor", "factor", APR_TERM_ROPE_FACTOR, APR_ABOVE_0, NAN, offsetof(struct turning, factor) },
    { "original_max_position_embeddings", "original_context_length", APR_TERM_ROPE_ORIGINAL, APR_ABOVE_0, NAN,
      offsetof(struct turning, original) },
    { "low_freq_factor", "low_freq_factor", APR_NTERMS, APR_ABOVE_0, 1, offsetof(struct turning, low) },
    { "high_freq_factor", "high_freq_factor", APR_NTERMS, APR_ABOVE_0, 4, offsetof(struct turning, high) },
    { "beta_fast", "yarn_beta_fast", APR_NTERMS, APR_ABOVE_0, 32, offsetof(struct turning, fast) },
    { "beta_slow", "yarn_beta_slow", APR_NTERMS, APR_ABOVE_0, 1, offsetof(struct turning, slow) },
    { "extrapolation_factor", "yarn_ext_factor", APR_NTERMS, APR_FROM_0, 1, offsetof(struct turning, extrapolated) },
    { "truncate", "truncate", APR_NTERMS, APR_ANY_NUMBER, 1, offsetof(struct turning, truncate) },
    { "attention_factor", "yarn_attn_factor", APR_NTERMS, APR_ABOVE_0, NAN, offsetof(struct turning, whole) },
    { "mscale", "mscale", APR_TERM_ROPE_MSCALE, APR_ANY_NUMBER, 0, offsetof(struct turning, mscale) },
    { "mscale_all_dim", "yarn_log_multiplier", APR_TERM_ROPE_MSCALE_ALL, APR_ANY_NUMBER, 0, offsetof(struct turning, mscale_all) },
    { "attn_factor", "attn_factor", APR_NTERMS, APR_ABOVE_0, NAN, offsetof(struct turning, more) },
};

static enum apr_code not_a(const struct turning *t, const char *path, const struct apr_result *r, const char *wanted)
{
    char value[200] = "neither a number nor a text";
    if (r->known && r->text.at != NULL)
        snprintf(value, sizeof value, "%s", APR_QUOTED(r->text));
    else if (r->known)
        snprintf(value, sizeof value, "%.9g", r->number);
    return apr_fail(t->g->e, APR_EARG, APR_NOWHERE, "%s, of the rope scaling of family %.*s, is %s, where %s should stand",
                    APR_QUOTED(apr_term_place(t->g->b, apr_text(path))), APR_PRINTED(t->g->n->family), value, wanted);
}

static enum apr_code read_number(const struct turning *t, const struct number *x, double *out)
{
    char path[PATH_ROOM];
    *out = NAN;
    if (x->term != APR_NTERMS)
        APR_TRY(apr_term_number(t->g->b, x->term, t->layer, NAN, out, t->g->e));
    if (!isnan(*out))
        return APR_OK;
    const struct apr_result r = said(t->g, x->word, x->other, path);
    *out = r.known ? r.number : x->otherwise;
    if (r.wrong || (r.known && r.text.at != NULL))
        return not_a(t, path, &r, "a number");
    const char *const wanted = r.known ? apr_bounds_wanted(x->range, r.number) : NULL;
    return wanted == NULL ? APR_OK : not_a(t, path, &r, wanted);
}

/* The context that frequencies were trained for: by the contract, beside the scaling, in it, else all that there is. */
static enum apr_code read_original(struct turning *t)
{
    static const char beside[] = "original_max_position_embeddings";
    struct apr_result r = { 0 };
    if (apr_binding_family(t->g->b)->term[APR_TERM_ROPE_ORIGINAL] == NULL &&
        apr_binding_stands(t->g->b, apr_text(beside), &r) == APR_STANDS_IN_CONFIG) {
        if (!r.known || r.text.at != NULL || !(r.number > 0))
            return not_a(t, beside, &r, "a number above 0");
        t->original = r.number;
    }
    if (isnan(t->original) && t->g->n->context > 0)
        t->original = (double)t->g->n->context;
    return APR_OK;
}

static enum apr_code read_numbers(struct turning *t)
{
    for (size_t i = 0; i < APR_LENGTH(numbers); i++) {
        double v;
        APR_TRY(read_number(t, &numbers[i], &v));
        memcpy((char *)t + numbers[i].at, &v, sizeof v);
    }
    return read_original(t);
}

static enum apr_code bad(const struct turning *t, const char *what)
{
    return apr_fail(t->g->e, APR_EARG, APR_NOWHERE, "the rope scaling of layer %u of family %.*s %s", t->layer,
                    APR_PRINTED(t->g->n->family), what);
}

static enum apr_code need_factor(const struct turning *t) { return isnan(t->factor) ? bad(t, "has no \"factor\"") : APR_OK; }

static enum apr_code need_original(const struct turning *t)
{
    return isnan(t->original) ? bad(t, "has no \"original_max_position_embeddings\", and the model no context") : APR_OK;
}

/* ---- frequencies ------------------------------------------------------------------------------------------------------ */

static double *frequencies(const struct turning *t)
{
    double *const freq = apr_net_room(t->g, t->half, sizeof *freq);
    const double step = apr_log(t->base);
    for (uint64_t i = 0; freq != NULL && i < t->half; i++)
        freq[i] = apr_exp(-((double)(2 * i) / (double)t->n) * step);
    return freq;
}

static enum apr_code linear(struct turning *t)
{
    APR_TRY(need_factor(t));
    for (uint64_t i = 0; i < t->half; i++)
        t->freq[i] /= t->factor;
    return APR_OK;
}

/* Waves grow with the text as soon as that is longer than the context, the longest one by as much as it is, times the factor. */
static enum apr_code dynamic(struct turning *t)
{
    APR_TRY(need_factor(t));
    if (t->g->n->context == 0)
        return bad(t, "is dynamic, and nothing tells the context");
    if (t->n < 4)
        return bad(t, "is dynamic, which wants at least two pairs that turn");
    t->out->original = t->g->n->context;
    t->out->growth = t->factor;
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
    const float *factor;
    APR_TRY(stored_factors(t, "rope_freqs", &factor));
    for (uint64_t i = 0; factor != NULL && i < t->half; i++)
        t->freq[i] /= (double)factor[i];
    if (factor != NULL)
        return APR_OK;
    APR_TRY(need_factor(t));
    APR_TRY(need_original(t));
    if (!(t->high > t->low))
        return bad(t, "has a \"high_freq_factor\" that is not above its \"low_freq_factor\"");
    for (uint64_t i = 0; i < t->half; i++) {
        const double share = (t->original * t->freq[i] / (2 * PI) - t->low) / (t->high - t->low); /* that is not stretched */
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
    const bool two = t->mscale != 0 && t->mscale_all != 0;
    if (!isnan(t->whole))
        return t->whole;
    const double by_factor = two ? magnitude(t->factor, t->mscale) / magnitude(t->factor, t->mscale_all) : magnitude(t->factor, 1);
    return isnan(t->more) ? by_factor : t->more * by_factor;
}

static enum apr_code yarn(struct turning *t)
{
    APR_TRY(need_factor(t));
    APR_TRY(need_original(t));
    if (!(t->base > 1))
        return bad(t, "is yarn, which wants a base above 1");
    double from = turns_at(t, t->fast), to = turns_at(t, t->slow);
    if (t->truncate != 0) {
        from = floor(from);
        to = ceil(to);
    }
    from = from > 0 ? from : 0;
    to = to < (double)t->n - 1 ? to : (double)t->n - 1;
    to = to == from ? to + 0.001 : to;
    for (uint64_t i = 0; i < t->half; i++) {
        const double at = ((double)i - from) / (to - from), ramp = at < 0 ? 0 : at > 1 ? 1 : at, kept = (1 - ramp) * t->extrapolated;
        t->freq[i] = t->freq[i] / t->factor * (1 - kept) + t->freq[i] * kept;
    }
    t->out->scale = yarn_scale(t);
    return APR_OK;
}

/* Frequencies divided by the factors of a tensor, or of a list in config.json. */
static enum apr_code listed(const struct turning *t, const char *role, const char *list, double **out)
{
    char word[64], path[PATH_ROOM], what[128];
    const float *stored;
    APR_TRY(stored_factors(t, role, &stored));
    double *const freq = *out = frequencies(t);
    if (freq == NULL)
        return apr_no_memory(t->g->e);
    for (uint64_t i = 0; i < t->half; i++) {
        snprintf(word, sizeof word, "%s.%llu", list, (unsigned long long)i);
        const struct apr_result r = stored != NULL ? (struct apr_result){ .known = true, .number = (double)stored[i] }
                                                   : said(t->g, word, word, path);
        snprintf(what, sizeof what, "lacks \"%s\", of its lists of factors", word);
        if (!r.known && !r.wrong)
            return bad(t, what);
        if (!r.known || r.text.at != NULL || !(r.number > 0))
            return not_a(t, stored != NULL ? role : path, &r, "a number above 0");
        freq[i] /= r.number;
    }
    return APR_OK;
}

/* One list of factors for texts as long as the original context, another for longer ones. */
static enum apr_code longrope(struct turning *t)
{
    double *freq, *stretched;
    APR_TRY(need_original(t));
    const double ratio = !isnan(t->factor) ? t->factor : (double)t->g->n->context / t->original;
    const double scale = ratio > 1 && t->original > 1 ? sqrt(1 + apr_log(ratio) / apr_log(t->original)) : 1;
    if (!(t->original >= 1 && t->original < 0x1p53))
        return bad(t, "has no original context of at least one position");
    APR_TRY(listed(t, "rope_factors_short", "short_factor", &freq));
    APR_TRY(listed(t, "rope_factors_long", "long_factor", &stretched));
    t->freq = freq;
    t->out->long_freq = stretched;
    t->out->original = (uint64_t)t->original;
    const double otherwise = !isnan(t->whole) ? t->whole : !isnan(t->more) ? t->more : scale;
    APR_TRY(apr_term_number(t->g->b, APR_TERM_ROPE_SCALE, t->layer, otherwise, &t->out->scale, t->g->e));
    t->out->long_scale = t->out->scale;
    return APR_OK;
}

/* ---- a layer ---------------------------------------------------------------------------------------------------------- */

static enum apr_code scale_by_kind(struct turning *t, struct apr_bytes kind)
{
    static const struct {
        const char *word;
        enum apr_code (*scale)(struct turning *t);
    } kinds[] = {
        { "", NULL }, { "none", NULL }, { "default", NULL }, { "dynamic", dynamic },
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
    struct apr_bytes kind;
    APR_TRY(apr_net_size(g, APR_TERM_ROPE_DIMS, layer, 0, MOST_TURNS, &out->n));
    APR_TRY(apr_net_size(g, APR_TERM_ROPE_SKIP, layer, 0, MOST_TURNS, &out->skip));
    APR_TRY(apr_net_flag(g, APR_TERM_ROPE_ADJACENT, layer, false, &out->adjacent));
    out->scale = out->long_scale = 1;
    if (out->n == 0)
        return APR_OK;
    t.n = out->n;
    t.half = out->n / 2;
    APR_TRY(apr_term_number(g->b, APR_TERM_ROPE_BASE, layer, 10000, &t.base, g->e));
    APR_TRY(apr_term_text(g->b, APR_TERM_ROPE_KIND, layer, &kind, g->e));
    APR_TRY(read_numbers(&t));
    if (t.n % 2 != 0 || out->skip + t.n > g->n->head_k)
        return apr_fail(g->e, APR_EARG, APR_NOWHERE, "%llu elements from %llu on of a head of %llu cannot turn",
                        (unsigned long long)t.n, (unsigned long long)out->skip, (unsigned long long)g->n->head_k);
    t.freq = frequencies(&t);
    if (t.freq == NULL)
        return apr_no_memory(g->e);
    APR_TRY(scale_by_kind(&t, kind));
    out->freq = t.freq;
    return APR_OK;
}
