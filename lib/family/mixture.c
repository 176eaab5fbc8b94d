#include "family/mixture.h"

#include "base/bytes.h"

/* ---- categories ----------------------------------------------------------------------------------------------------- */

/* By name, the first that holds: the whole name, or a part of it. */
static const struct {
    const char       *text;
    bool              whole;
    const char       *architecture; /* NULL: any */
    enum apr_category category;
} names[] = {
    { "attn_q_a", false, "glm5-next", APR_MIX_EIGHT_BITS },
    { "attn_q_b", false, "glm5-next", APR_MIX_EIGHT_BITS },
    { "nextn.eh_proj", false, "glm5-next", APR_MIX_EIGHT_BITS },
    { "output.weight", true, NULL, APR_MIX_OUTPUT },
    { "token_embd.weight", true, NULL, APR_MIX_EMBEDDING },
    { "per_layer_token_embd.weight", true, NULL, APR_MIX_EMBEDDING },
    { "attn_qkv.weight", false, NULL, APR_MIX_VALUES },
    { "attn_kv_b.weight", false, NULL, APR_MIX_VALUES },
    { "attn_v.weight", false, NULL, APR_MIX_VALUES },
    { "attn_k.weight", false, NULL, APR_MIX_KEYS },
    { "attn_q.weight", false, NULL, APR_MIX_QUERIES },
    { "attn_output.weight", false, NULL, APR_MIX_ATTENTION },
    { "ffn_up", false, NULL, APR_MIX_UP },
    { "ffn_gate", false, NULL, APR_MIX_GATE },
    { "ffn_down", false, NULL, APR_MIX_DOWN },
};

enum apr_category apr_category_of(const struct apr_mix *m, struct apr_bytes name)
{
    for (size_t i = 0; i < APR_LENGTH(names); i++) {
        const bool here = names[i].architecture == NULL || apr_bytes_is(m->architecture, names[i].architecture);
        if (here && (names[i].whole ? apr_bytes_is(name, names[i].text) : apr_bytes_have(name, names[i].text)))
            return names[i].category;
    }
    return APR_MIX_OTHER;
}

/* ---- what is true of a tensor --------------------------------------------------------------------------------------- */

/* i of n: which of the values' tensors it is, or of the blocks. */
enum {
    GROUPED    = 1 << 0,  /* four heads or more share keys and values */
    EXPERTS    = 1 << 1,  /* four or more */
    EIGHT      = 1 << 2,  /* experts, no more and no less */
    FALCON     = 1 << 3,
    BAILING    = 1 << 4,  /* bailingmoe3 */
    WEIGHED    = 1 << 5,  /* there is an imatrix */
    RAGGED     = 1 << 6,  /* rows are no whole blocks of the preset's dtype */
    STACKED    = 1 << 7,  /* several matrices */
    TWO        = 1 << 8,  /* i < 2 */
    FOUR       = 1 << 9,  /* i < 4 */
    SIXTEENTH  = 1 << 10, /* of the first sixteenth */
    EIGHTH     = 1 << 11,
    LAST       = 1 << 12, /* of the last eighth */
    MORE       = 1 << 13, /* of the first eighth, of the last, or every third between */
};

static unsigned facts_of_model(const struct apr_mix *m)
{
    unsigned facts = m->imatrix ? WEIGHED : 0;
    facts |= m->nhead_kv != 0 && m->nhead / m->nhead_kv >= 4 ? GROUPED : 0;
    facts |= m->nexpert >= 4 ? EXPERTS : 0;
    facts |= m->nexpert == 8 ? EIGHT : 0;
    facts |= apr_bytes_is(m->architecture, "falcon") ? FALCON : 0;
    facts |= apr_bytes_is(m->architecture, "bailingmoe3") ? BAILING : 0;
    return facts;
}

static unsigned facts_of_shape(const struct apr_mix *m, const struct apr_mixed *t)
{
    const unsigned block = apr_dtypes[m->preset->dtype].block;
    const bool ragged = t->dim[t->ndim - 1] % block != 0, stacked = t->ndim > 2 && t->dim[t->ndim - 3] > 1;
    return (ragged ? RAGGED : 0) | (stacked ? STACKED : 0);
}

static unsigned facts_of_place(uint64_t i, uint64_t n)
{
    const uint64_t eighth = n / 8;
    const bool first = i < eighth, last = i >= 7 * n / 8;
    unsigned facts = i < 2 ? TWO | FOUR : i < 4 ? FOUR : 0;
    facts |= i < n / 16 ? SIXTEENTH : 0;
    facts |= first ? EIGHTH : 0;
    facts |= last ? LAST : 0;
    facts |= first || last || (i - eighth) % 3 == 2 ? MORE : 0;
    return facts;
}

/* ---- the mixes ------------------------------------------------------------------------------------------------------ */

#define P(name) (UINT64_C(1) << APR_MIX_##name)
#define ANY     UINT64_MAX
#define MEDIUM  (P(IQ2_S) | P(IQ2_M))
#define TINY    (P(IQ1_S) | P(IQ1_M) | P(IQ2_XXS) | P(IQ2_XS))
#define LOW     (TINY | MEDIUM)
#define IQ3     (P(IQ3_XS) | P(IQ3_XXS) | P(IQ3_S) | P(IQ3_M))
#define EIGHT_5 (P(Q2_K) | P(Q3_K_S) | P(Q3_K_M) | P(Q4_K_S) | P(Q4_K_M) | P(IQ4_NL) | P(IQ4_XS) | IQ3)

#define C(name) (1u << APR_MIX_##name)
#define FORWARD (C(UP) | C(GATE) | C(DOWN))
#define ALL     (C(NCATEGORIES) - 1)

/* The first row that holds gives the dtype: the tensor is of one of the categories, the preset is one of those, all that stands in `with`
 * is true of it and nothing that stands in `without`. When none holds it is the preset's. A tied embedding counts as an OUTPUT. */
static const struct row {
    unsigned          categories;
    uint64_t          presets;
    unsigned          with, without;
    enum apr_dtype_id dtype;
} rows[] = {
    { C(EIGHT_BITS), ANY, 0, 0, APR_Q8_0 },

    { C(OUTPUT), P(MXFP4_MOE), 0, 0, APR_Q8_0 },
    { C(OUTPUT), ANY, FALCON, 0, APR_Q8_0 },
    { C(OUTPUT), ANY, RAGGED, 0, APR_Q8_0 },
    { C(OUTPUT), LOW | P(IQ3_XXS), 0, 0, APR_Q5_K },
    { C(OUTPUT), ~P(Q8_0), 0, 0, APR_Q6_K },

    { FORWARD, P(MXFP4_MOE), STACKED, 0, APR_MXFP4 },
    { ALL, P(MXFP4_MOE), STACKED, BAILING, APR_MXFP4 },
    { ALL, P(MXFP4_MOE), 0, 0, APR_Q8_0 },

    { C(EMBEDDING), TINY, 0, 0, APR_Q2_K },
    { C(EMBEDDING), MEDIUM | P(IQ3_XXS), 0, 0, APR_IQ3_S },
    { C(EMBEDDING), P(TQ1_0) | P(TQ2_0) | P(Q2_0), 0, 0, APR_Q4_K },

    { C(VALUES), LOW, GROUPED, 0, APR_Q4_K },
    { C(VALUES), LOW, EXPERTS, 0, APR_Q4_K },
    { C(VALUES), MEDIUM, 0, 0, APR_IQ3_S },
    { C(VALUES), TINY, 0, 0, APR_Q2_K },
    { C(VALUES), ANY, EIGHT, 0, APR_Q8_0 },
    { C(VALUES), P(Q2_K) | P(Q2_K_S) | P(IQ3_XXS) | P(IQ3_XS) | P(IQ3_S), GROUPED, 0, APR_Q4_K },
    { C(VALUES), P(Q2_K), 0, 0, APR_Q3_K },
    { C(VALUES), P(IQ3_XXS), 0, WEIGHED, APR_IQ3_S },
    { C(VALUES), P(IQ3_M), 0, 0, APR_Q4_K },
    { C(VALUES), P(Q3_K_M), TWO, 0, APR_Q5_K },
    { C(VALUES), P(Q3_K_M), 0, 0, APR_Q4_K },
    { C(VALUES), P(Q3_K_L), 0, 0, APR_Q5_K },
    { C(VALUES), P(IQ4_NL) | P(IQ4_XS), GROUPED, 0, APR_Q5_K },
    { C(VALUES), P(Q4_K_M) | P(Q5_K_M), MORE, 0, APR_Q6_K },
    { C(VALUES), P(Q4_K_S), FOUR, 0, APR_Q5_K },

    { C(KEYS), LOW, EIGHT, 0, APR_Q4_K },
    { C(KEYS), ~LOW, EIGHT, 0, APR_Q8_0 },
    { C(KEYS) | C(QUERIES), P(IQ3_XS), 0, 0, APR_IQ3_XXS },
    { C(KEYS) | C(QUERIES), P(IQ3_XXS), 0, 0, APR_IQ2_S },

    { C(DOWN), MEDIUM, EIGHTH, 0, APR_IQ3_S },
    { C(DOWN), TINY, EIGHTH, 0, APR_Q2_K },
    { C(DOWN), P(Q2_K), 0, 0, APR_Q3_K },
    { C(DOWN), P(Q2_K_S), EIGHTH, 0, APR_Q4_K },
    { C(DOWN), P(IQ3_XXS), EIGHTH, WEIGHED, APR_Q4_K },
    { C(DOWN), P(IQ3_XXS), 0, WEIGHED, APR_Q3_K },
    { C(DOWN), P(Q3_K_M), SIXTEENTH, 0, APR_Q5_K },
    { C(DOWN), P(Q3_K_M), 0, FALCON, APR_Q4_K },
    { C(DOWN), P(Q3_K_M), MORE, 0, APR_Q4_K },
    { C(DOWN), P(IQ3_M), EIGHTH, 0, APR_Q4_K },
    { C(DOWN), P(IQ3_M), EIGHT | MORE, 0, APR_Q4_K },
    { C(DOWN), P(Q3_K_L), FALCON, 0, APR_Q4_K },
    { C(DOWN), P(Q3_K_L), 0, 0, APR_Q5_K },
    { C(DOWN), P(Q4_K_M), FALCON | SIXTEENTH, 0, APR_Q6_K },
    { C(DOWN), P(Q4_K_M), FALCON | MORE, 0, APR_Q5_K },
    { C(DOWN), P(Q4_K_M), MORE, FALCON, APR_Q6_K },
    { C(DOWN), P(IQ4_NL) | P(IQ4_XS), EIGHTH, WEIGHED, APR_Q5_K },
    { C(DOWN), P(Q5_K_M), MORE, 0, APR_Q6_K },
    { C(DOWN), P(Q4_K_S), EIGHTH, FALCON, APR_Q5_K },
    { C(DOWN), P(Q4_0), WEIGHED | EIGHTH, 0, APR_Q4_1 },
    { C(DOWN), P(Q5_0), WEIGHED | EIGHTH, 0, APR_Q5_1 },

    { C(ATTENTION), LOW, EIGHT, 0, APR_Q5_K },
    { C(ATTENTION), P(IQ1_S) | P(IQ1_M), 0, 0, APR_IQ2_XXS },
    { C(ATTENTION), MEDIUM, 0, 0, APR_IQ3_S },
    { C(ATTENTION), P(Q3_K_L), FALCON, 0, APR_Q4_K },
    { C(ATTENTION), EIGHT_5, EIGHT, FALCON, APR_Q5_K },
    { C(ATTENTION), P(Q2_K), 0, FALCON | EIGHT, APR_Q3_K },
    { C(ATTENTION), P(IQ3_XXS), 0, FALCON | EIGHT, APR_IQ3_S },
    { C(ATTENTION), P(Q3_K_M) | P(IQ3_M), 0, FALCON | EIGHT, APR_Q4_K },
    { C(ATTENTION), P(Q3_K_L), 0, FALCON | EIGHT, APR_Q5_K },

    { C(GATE) | C(UP), P(IQ3_XS), 0, EIGHTH | LAST, APR_IQ3_XXS },
};

static bool is_among(const struct apr_mix *m, uint64_t presets) { return presets >> m->preset->file_type & 1; }

static enum apr_dtype_id mixed(const struct apr_mix *m, enum apr_category c, unsigned facts)
{
    for (const struct row *r = rows; r < rows + APR_LENGTH(rows); r++)
        if (r->categories >> c & 1 && is_among(m, r->presets) && (facts & r->with) == r->with && (facts & r->without) == 0)
            return r->dtype;
    return m->preset->dtype;
}

/* ---- the walk ------------------------------------------------------------------------------------------------------- */

/* What the loader of llama.cpp takes for a model of 70 billion weights, whose values are a small part of it. */
static bool is_70b(const struct apr_mix *m)
{
    static const struct {
        const char *architecture;
        uint32_t    nblock;
        bool        grouped; /* only with fewer heads of keys and values than of queries, and not with eight experts */
    } large[] = { { "llama", 80, true }, { "llama-embed", 80, true }, { "qwen2", 80, false }, { "deci", 80, false }, { "olmo", 80, false },
                  { "jais2", 68, false } };
    for (size_t i = 0; i < APR_LENGTH(large); i++)
        if (apr_bytes_is(m->architecture, large[i].architecture) && (uint64_t)m->npredict + large[i].nblock == m->nblock)
            return !large[i].grouped || (m->nhead != m->nhead_kv && m->nexpert != 8);
    return false;
}

/* The number behind a leading "blk.", -1 without one. */
int64_t apr_mix_block(struct apr_bytes name)
{
    int64_t n = -1;
    if (name.n < 4 || memcmp(name.at, "blk.", 4) != 0)
        return n;
    for (size_t i = 4; i < name.n && name.at[i] >= '0' && name.at[i] <= '9' && n < UINT32_MAX; i++)
        n = 10 * (n < 0 ? 0 : n) + (name.at[i] - '0');
    return n;
}

struct apr_mixture apr_mixture_of(const struct apr_mix *m, const struct apr_mixed *t, size_t n)
{
    struct apr_mixture x = { .mix = m, .tied = true };
    for (size_t i = 0; i < n; i++) {
        const enum apr_category c = apr_category_of(m, t[i].name);
        x.tied = x.tied && c != APR_MIX_OUTPUT;
        x.nvalues += c == APR_MIX_VALUES;
    }
    return x;
}

/* How many of its category came before a tensor; of a feed-forward tensor with experts, which may stand in any order, its block. LOW
 * presets count all the same, and MXFP4_MOE does not ask. */
static enum apr_code place(const struct apr_mixture *x, const struct apr_mixed *t, enum apr_category c, uint64_t *i, struct apr_error *e)
{
    const struct apr_mix *m = x->mix;
    *i = x->seen[c];
    if ((FORWARD >> c & 1) == 0 || m->nexpert < 2 || is_among(m, LOW | P(MXFP4_MOE)))
        return APR_OK;
    const int64_t block = apr_mix_block(t->name);
    if (block < 0 || block >= m->nblock)
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, t->name, " is in none of the model's %u blocks, by which preset %s treats experts",
                               m->nblock, m->preset->name);
    *i = (uint64_t)block;
    return APR_OK;
}

enum apr_code apr_mixture_next(struct apr_mixture *x, const struct apr_mixed *t, const struct apr_dtype **d, struct apr_error *e)
{
    const struct apr_mix *m = x->mix;
    const enum apr_category own = apr_category_of(m, t->name), c = own == APR_MIX_EMBEDDING && x->tied ? APR_MIX_OUTPUT : own;
    uint64_t i;
    APR_TRY(place(x, t, c, &i, e));
    const uint64_t n = c == APR_MIX_VALUES ? x->nvalues : m->nblock;
    enum apr_dtype_id chosen = mixed(m, c, facts_of_model(m) | facts_of_shape(m, t) | facts_of_place(i, n));
    if (c == APR_MIX_VALUES && (chosen == APR_Q3_K || chosen == APR_Q4_K) && !is_among(m, LOW) && is_70b(m))
        chosen = APR_Q5_K;
    *d = c == APR_MIX_OUTPUT && m->output != NULL ? m->output : &apr_dtypes[chosen];
    x->seen[c]++;
    return APR_OK;
}
