/* The numbers of a net that belong to no layer. */
#include "forward/net_parts.h"

#include <math.h>
#include <stdio.h>

#include "base/bytes.h"

#define MOST_LAYERS 4096u
#define MOST_HEADS  65536u
#define MOST_TOKENS ((uint64_t)1 << 40) /* a context's */

enum apr_code apr_net_size(const struct apr_netting *g, enum apr_term term, uint64_t layer, uint64_t otherwise, uint64_t most,
                           uint64_t *out)
{
    double v;
    APR_TRY(apr_term_number(g->b, term, layer, (double)otherwise, &v, g->e));
    if (!(v >= 0) || v != floor(v))
        return apr_term_refuse(g->b, term, layer, "a whole number from 0 on", g->e);
    if (v > (double)most)
        return apr_fail(g->e, APR_ELIMIT, APR_NOWHERE, "`%s` of family %.*s comes to %.0f, more than %llu", apr_term_words[term],
                        APR_PRINTED(g->n->family), v, (unsigned long long)most);
    *out = (uint64_t)v;
    return APR_OK;
}

enum apr_code apr_net_flag(const struct apr_netting *g, enum apr_term term, uint64_t layer, bool otherwise, bool *out)
{
    double v;
    APR_TRY(apr_term_number(g->b, term, layer, otherwise, &v, g->e));
    *out = v != 0;
    return APR_OK;
}

/* At least 1. */
static enum apr_code needed(const struct apr_netting *g, enum apr_term term, uint64_t most, uint64_t *out)
{
    APR_TRY(apr_net_size(g, term, 0, 0, most, out));
    if (*out > 0)
        return APR_OK;
    return apr_term(g->b, term, 0).known ? apr_term_refuse(g->b, term, 0, "a whole number above 0", g->e)
                                         : apr_term_unknown(g->b, term, g->e);
}

/* The words of config.json; a GGUF has none of them, and its contract says which one it would be. */
static enum apr_code read_act(const struct apr_netting *g)
{
    static const struct {
        const char  *word;
        enum apr_act act;
    } words[] = {
        { "silu", APR_SILU }, { "swish", APR_SILU }, { "swiglu", APR_SILU }, { "gelu", APR_GELU }, { "gelu_python", APR_GELU },
        { "gelu_new", APR_GELU_TANH }, { "gelu_pytorch_tanh", APR_GELU_TANH }, { "gelu_fast", APR_GELU_TANH },
        { "gelu_accurate", APR_GELU_TANH }, { "gelu_python_tanh", APR_GELU_TANH },
        { "relu", APR_RELU }, { "relu2", APR_RELU2 }, { "relu_squared", APR_RELU2 },
    };
    struct apr_bytes word;
    APR_TRY(apr_term_text(g->b, APR_TERM_ACT, 0, &word, g->e));
    if (word.at == NULL)
        return apr_term_unknown(g->b, APR_TERM_ACT, g->e);
    for (size_t i = 0; i < APR_LENGTH(words); i++)
        if (apr_bytes_is(word, words[i].word)) {
            g->n->act = words[i].act;
            return APR_OK;
        }
    return apr_fail(g->e, APR_EUNSUPPORTED, APR_NOWHERE, "no forward pass has the activation %s of family %.*s", APR_QUOTED(word),
                    APR_PRINTED(g->n->family));
}

static enum apr_code read_sizes(const struct apr_netting *g)
{
    struct apr_net *const n = g->n;
    uint64_t width;
    APR_TRY(needed(g, APR_TERM_HIDDEN, APR_MOST_COLUMNS, &n->hidden));
    APR_TRY(needed(g, APR_TERM_LAYERS, MOST_LAYERS, &n->nlayer));
    APR_TRY(needed(g, APR_TERM_HEADS, MOST_HEADS, &n->heads));
    APR_TRY(apr_net_size(g, APR_TERM_KV_HEADS, 0, n->heads, MOST_HEADS, &n->kv_heads));
    APR_TRY(apr_net_size(g, APR_TERM_HEAD_K, 0, n->hidden / n->heads, APR_MOST_COLUMNS, &n->head_k));
    APR_TRY(apr_net_size(g, APR_TERM_HEAD_V, 0, n->head_k, APR_MOST_COLUMNS, &n->head_v));
    APR_TRY(apr_net_size(g, APR_TERM_CONTEXT, 0, 0, MOST_TOKENS, &n->context));
    if (n->kv_heads == 0 || n->heads % n->kv_heads != 0)
        return apr_fail(g->e, APR_EARG, APR_NOWHERE, "%llu heads of queries do not go into %llu of keys", (unsigned long long)n->heads,
                        (unsigned long long)n->kv_heads);
    if (n->head_k == 0 || n->head_v == 0 || !apr_mul(n->heads, n->head_k, &width) || width > APR_MOST_COLUMNS ||
        !apr_mul(n->heads, n->head_v, &width) || width > APR_MOST_COLUMNS)
        return apr_fail(g->e, APR_EARG, APR_NOWHERE, "%llu heads of %llu elements, and %llu of values, are none, or too wide",
                        (unsigned long long)n->heads, (unsigned long long)n->head_k, (unsigned long long)n->head_v);
    return APR_OK;
}

/* Of layers whose kind config.json says, each has one of the words that are known here. */
static enum apr_code check_layer_types(const struct apr_netting *g)
{
    struct apr_result v;
    char path[64];
    if (apr_binding_stands(g->b, apr_text("layer_types"), &v) != APR_STANDS_IN_CONFIG)
        return APR_OK;
    for (uint64_t i = 0; i <= g->n->nlayer; i++) {
        snprintf(path, sizeof path, "layer_types.%llu", (unsigned long long)i);
        const bool there = apr_binding_stands(g->b, apr_text(path), &v) != APR_STANDS_NOWHERE;
        if (there != (i < g->n->nlayer))
            return apr_fail(g->e, APR_EARG, APR_NOWHERE, "\"layer_types\" should be a list of %llu words, one for each layer",
                            (unsigned long long)g->n->nlayer);
        const bool attends = apr_bytes_is(v.text, "attention") || apr_bytes_is(v.text, "full_attention"); /* whole, to Granite 4 as well */
        if (there && (!v.known || (!attends && !apr_bytes_is(v.text, "sliding_attention"))))
            return apr_fail(g->e, APR_EARG, APR_NOWHERE, "\"%s\" is %s: no forward pass has such layers", path,
                            v.known && v.text.at != NULL ? APR_QUOTED(v.text) : "no text");
    }
    return APR_OK;
}

static enum apr_code read_order(const struct apr_netting *g)
{
    bool parallel, after;
    APR_TRY(apr_net_flag(g, APR_TERM_PARALLEL, 0, false, &parallel));
    APR_TRY(apr_net_flag(g, APR_TERM_NORM_AFTER, 0, false, &after));
    g->n->order = parallel ? APR_ORDER_PARALLEL : after ? APR_ORDER_AFTER : APR_ORDER_BEFORE;
    APR_TRY(apr_net_flag(g, APR_TERM_LAYER_NORM, 0, false, &g->n->layer_norm));
    return apr_net_flag(g, APR_TERM_CAUSAL, 0, true, &g->n->causal);
}

static enum apr_code real(const struct apr_netting *g, enum apr_term term, double otherwise, double *out)
{
    return apr_term_number(g->b, term, 0, otherwise, out, g->e);
}

enum apr_code apr_net_numbers(const struct apr_netting *g)
{
    struct apr_net *const n = g->n;
    APR_TRY(apr_terms_check(g->b, g->e));
    APR_TRY(apr_net_flag(g, APR_TERM_FEATURES, 0, false, &n->features));
    APR_TRY(real(g, APR_TERM_EMBED_SCALE, 1, &n->embed_scale));
    APR_TRY(real(g, APR_TERM_RESIDUAL_SCALE, 1, &n->residual_scale));
    APR_TRY(real(g, APR_TERM_LOGIT_SCALE, 1, &n->logit_scale));
    APR_TRY(real(g, APR_TERM_LOGIT_CAP, 0, &n->logit_cap));
    if (n->features)
        return APR_OK;
    APR_TRY(read_sizes(g));
    APR_TRY(check_layer_types(g));
    APR_TRY(read_act(g));
    APR_TRY(read_order(g));
    APR_TRY(real(g, APR_TERM_EPS, 0, &n->eps));
    if (n->eps == 0)
        return apr_term_unknown(g->b, APR_TERM_EPS, g->e);
    APR_TRY(real(g, APR_TERM_ATTN_SCALE, 1 / sqrt((double)n->head_k), &n->attn_scale));
    APR_TRY(real(g, APR_TERM_ATTN_CAP, 0, &n->attn_cap));
    APR_TRY(real(g, APR_TERM_TEMPERATURE, 0, &n->temperature));
    APR_TRY(apr_net_size(g, APR_TERM_TEMPERATURE_LENGTH, 0, 0, MOST_TOKENS, &n->temperature_length));
    if (n->temperature_length == 0)
        n->temperature = 0;
    return APR_OK;
}
