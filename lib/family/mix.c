#include "family/mix.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "family/mixture.h"
#include "model/meta.h"
#include "values/dtype.h"

/* ---- the model ------------------------------------------------------------------------------------------------------ */

/* The number at ARCHITECTURE.key; of an array, its first. */
static uint32_t number_at(const struct apr_mix *m, const struct apr_meta *meta, const char *key, uint32_t absent)
{
    char text[256];
    const struct apr_bytes of = m->architecture;
    const int n = of.n == 0 ? -1 : snprintf(text, sizeof text, "%.*s.%s", (int)apr_min(of.n, sizeof text), (const char *)of.at, key);
    const struct apr_value *v = n >= 0 && (size_t)n < sizeof text ? apr_meta_find(meta, text) : NULL;
    struct apr_value first;
    double number = absent;
    if (v != NULL && v->type == APR_META_ARRAY) {
        struct apr_elements w = apr_elements_of(v);
        v = apr_elements_next(&w, &first) ? &first : NULL;
        apr_elements_end(&w);
    }
    if (v == NULL || !apr_meta_number(v, &number))
        return absent;
    return number < 0 ? 0 : number > UINT32_MAX ? UINT32_MAX : (uint32_t)number;
}

/* Nanbeige runs its blocks several times, a Granite with switched adapters has one more for their router; both count. */
static uint32_t blocks(const struct apr_mix *m, const struct apr_meta *meta)
{
    uint64_t n = number_at(m, meta, "block_count", 0);
    if (apr_bytes_is(m->architecture, "nanbeige"))
        n *= number_at(m, meta, "num_loops", 1);
    if (apr_bytes_is(m->architecture, "graniteswitch"))
        n++;
    return (uint32_t)apr_min(n, UINT32_MAX);
}

void apr_mix_read(struct apr_mix *m, const struct apr_meta *meta)
{
    m->architecture = apr_meta_string(meta, "general.architecture");
    m->nblock = blocks(m, meta);
    m->npredict = number_at(m, meta, "nextn_predict_layers", 0);
    m->nexpert = number_at(m, meta, "expert_count", 0);
    m->nhead = number_at(m, meta, "attention.head_count", 0);
    m->nhead_kv = number_at(m, meta, "attention.head_count_kv", m->nhead);
}

/* ---- which tensors may change --------------------------------------------------------------------------------------- */

static uint64_t row_length(const struct apr_mixed *t) { return t->ndim == 0 ? 1 : t->dim[t->ndim - 1]; }

/* Dimensions from the first one that is not 1. */
static unsigned rank(const struct apr_mixed *t)
{
    unsigned i = 0;
    while (i < t->ndim && t->dim[i] == 1)
        i++;
    return t->ndim - i;
}

/* llama-quantize sees "weight" end at byte -1 of a name too short for it by one, and takes such a name for a weight's. */
static bool names_a_weight(struct apr_bytes name)
{
    return name.n == 5 || (name.n >= 6 && memcmp(name.at + name.n - 6, "weight", 6) == 0);
}

/* In a name: what is small, or sensitive, or no matrix to multiply with. */
static const char *const kept_parts[] = {
    "_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel", "per_layer_model_proj", "ssm_conv1d",
    "shortconv.conv.weight", "indexer.k_proj.weight", "indexer.q_proj.weight", "time_mix_first.weight", "time_mix_w0.weight",
    "time_mix_w1.weight", "time_mix_w2.weight", "time_mix_v0.weight", "time_mix_v1.weight", "time_mix_v2.weight", "time_mix_a0.weight",
    "time_mix_a1.weight", "time_mix_a2.weight", "time_mix_g1.weight", "time_mix_g2.weight", "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight", "time_mix_lerp_fused.weight", "attn_rel_b.weight", ".position_embd", "sam.pos_embd", "sam.neck.",
    "sam.net_", ".rel_pos", ".patch_embd", ".patch_merger", "a.rvq.codebook", "mm.a.code_embd",
};

/* And of the architecture glm5-next. */
static const char *const kept_parts_of_glm5[] = {
    "hc_", "indexer.attn_q_b", "indexer.attn_k", "indexer.proj", "indexer_compressor_gate", "indexer_compressor_ape", "ssm_f_a.weight",
    "ssm_f_b.weight", "ssm_g_a.weight", "ssm_g_b.weight", "ssm_beta.weight", "attn_kv_a_mqa.weight", "attn_k_b.weight", "attn_v_b.weight",
};

static bool has_one_of(struct apr_bytes name, const char *const *part, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (apr_bytes_have(name, part[i]))
            return true;
    return false;
}

bool apr_mix_may_change(const struct apr_mix *m, const struct apr_mixed *t)
{
    if (rank(t) < 2 || !names_a_weight(t->name))
        return false;
    if (apr_bytes_is(t->name, "position_embd.weight") || apr_bytes_is(t->name, "token_types.weight"))
        return false;
    if (m->leave_output && apr_bytes_is(t->name, "output.weight"))
        return false;
    return !has_one_of(t->name, kept_parts, APR_LENGTH(kept_parts)) &&
           !(apr_bytes_is(m->architecture, "glm5-next") && has_one_of(t->name, kept_parts_of_glm5, APR_LENGTH(kept_parts_of_glm5)));
}

/* ---- shapes that do not fit ----------------------------------------------------------------------------------------- */

/* In place of a dtype whose blocks a row does not fill: one of blocks of 32. */
static const struct {
    enum apr_dtype_id chosen, instead;
} smaller_blocks[] = {
    { APR_IQ1_S, APR_IQ4_NL }, { APR_IQ1_M, APR_IQ4_NL },   { APR_IQ2_XXS, APR_IQ4_NL }, { APR_IQ2_XS, APR_IQ4_NL },
    { APR_IQ2_S, APR_IQ4_NL }, { APR_IQ3_XXS, APR_IQ4_NL }, { APR_IQ3_S, APR_IQ4_NL },   { APR_IQ4_XS, APR_IQ4_NL },
    { APR_Q2_0, APR_Q4_0 },    { APR_Q2_K, APR_Q4_0 },      { APR_Q3_K, APR_Q4_0 },      { APR_TQ1_0, APR_Q4_0 },
    { APR_TQ2_0, APR_Q4_0 },   { APR_Q4_K, APR_Q5_0 },      { APR_Q5_K, APR_Q5_1 },      { APR_Q6_K, APR_Q8_0 },
};

/* The chosen dtype, another that fits the rows, or NULL: of larger blocks than 32 and not in the table. */
static const struct apr_dtype *fitting(const struct apr_dtype *chosen, uint64_t row)
{
    if (row % chosen->block == 0)
        return chosen;
    const struct apr_dtype *instead = chosen->block <= 32 ? chosen : NULL;
    for (size_t i = 0; i < APR_LENGTH(smaller_blocks); i++)
        if (chosen == &apr_dtypes[smaller_blocks[i].chosen])
            instead = &apr_dtypes[smaller_blocks[i].instead];
    return instead != NULL && row % instead->block != 0 ? &apr_dtypes[APR_F16] : instead;
}

/* ---- importance ----------------------------------------------------------------------------------------------------- */

bool apr_mix_outside(const struct apr_mix *m, struct apr_bytes name)
{
    const enum apr_category c = apr_category_of(m, name);
    return c == APR_MIX_OUTPUT || c == APR_MIX_EMBEDDING;
}

static bool needs_importance(const struct apr_mix *m, const struct apr_mixed *t)
{
    if (apr_mix_outside(m, t->name))
        return false;
    switch (apr_dtype_id(t->dtype)) {
    case APR_IQ1_S:
    case APR_IQ1_M:
    case APR_IQ2_XXS:
    case APR_IQ2_XS:
    case APR_IQ2_S:
    case APR_IQ3_XXS: return true;
    case APR_Q2_K: return m->preset->file_type == APR_MIX_Q2_K_S;
    default: return false;
    }
}

/* Blocks that are carried over lack nothing, but llama-quantize asks for an imatrix all the same. */
static bool lacks_importance(const struct apr_mix *m, const struct apr_mixed *t)
{
    return t->needs_importance && (!m->imatrix || (t->dtype != t->from && !t->has_importance));
}

/* ---- one tensor after the other ------------------------------------------------------------------------------------- */

/* The dtype that an option has for this one tensor, or NULL. A rule that names the embeddings of layers goes before. */
static const struct apr_dtype *by_option(const struct apr_mix *m, const struct apr_mixed *t)
{
    const enum apr_category c = apr_category_of(m, t->name);
    const bool own_rule = t->ruled != NULL && apr_bytes_is(t->name, "per_layer_token_embd.weight");
    return c == APR_MIX_EMBEDDING && !own_rule ? m->embedding : c == APR_MIX_OUTPUT ? m->output : NULL;
}

/* What an option, a rule or the mix says, in this order; nothing takes the place of what an option says. A preset of plain floats knows no
 * rules, and a tensor under a rule is not counted by the mix. */
static enum apr_code wanted(struct apr_mixture *x, struct apr_mixed *t, struct apr_error *e)
{
    const struct apr_mix *m = x->mix;
    const struct apr_dtype *d = by_option(m, t);
    if (d != NULL)
        t->dtype = row_length(t) % d->block == 0 ? d : NULL;
    else {
        d = &apr_dtypes[m->preset->dtype];
        if (t->ruled != NULL && apr_is_quantized(d))
            d = t->ruled;
        else if (!m->pure && apr_is_quantized(d))
            APR_TRY(apr_mixture_next(x, t, &d, e));
        t->dtype = fitting(d, row_length(t));
        t->fell_back = t->dtype != NULL && t->dtype != d;
    }
    if (t->dtype == NULL)
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, t->name,
                               " has rows of %llu elements, no whole blocks of %s (%u), and there is no dtype in its place (preset %s)",
                               (unsigned long long)row_length(t), d->name, d->block, m->preset->name);
    return APR_OK;
}

static enum apr_code choose(struct apr_mixture *x, struct apr_mixed *t, struct apr_error *e)
{
    const struct apr_mix *m = x->mix;
    t->dtype = t->from;
    t->needs_importance = t->fell_back = false;
    if (!apr_mix_may_change(m, t))
        return APR_OK;
    APR_TRY(wanted(x, t, e));
    t->needs_importance = needs_importance(m, t);
    if (lacks_importance(m, t))
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, t->name, " becomes %s (preset %s), %s", t->dtype->name, m->preset->name,
                               m->imatrix ? "and the imatrix has no entry for it" : "which needs an importance matrix: --imatrix FILE gives one");
    if (t->dtype != t->from && rank(t) > 3)
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, t->name,
                               " has %u dimensions: only matrices and stacks of them become %s (preset %s)", rank(t), t->dtype->name,
                               m->preset->name);
    return APR_OK;
}

int apr_mix_order(struct apr_bytes a, struct apr_bytes b)
{
    const int64_t x = apr_mix_block(a), y = apr_mix_block(b);
    return x != y ? (x > y) - (x < y) : apr_bytes_compare(a, b);
}

static int by_order(const void *a, const void *b)
{
    struct apr_mixed *const *x = a, *const *y = b;
    const int order = apr_mix_order((*x)->name, (*y)->name);
    return order != 0 ? order : (*x > *y) - (*x < *y);
}

enum apr_code apr_mix_choose(const struct apr_mix *m, struct apr_mixed *t, size_t n, struct apr_error *e)
{
    struct apr_mixed **walk = calloc(n + 1, sizeof *walk);
    if (walk == NULL)
        return apr_no_memory(e);
    struct apr_mixture x = apr_mixture_of(m, t, n);
    for (size_t i = 0; i < n; i++)
        walk[i] = &t[i];
    qsort(walk, n, sizeof *walk, by_order);
    enum apr_code code = APR_OK;
    for (size_t i = 0; i < n && code == APR_OK; i++)
        code = choose(&x, walk[i], e);
    free(walk);
    return code;
}
