/* The numbers of a net that belong to no layer. */
#include "forward/net_parts.h"

#include <math.h>

#include "base/bytes.h"

#define MOST_LAYERS 4096u
#define MOST_HEADS  65536u
#define MOST_TOKENS ((uint64_t)1 << 40) /* a context's */

enum apr_code apr_net_size(const struct apr_netting *g, enum apr_term term, uint64_t layer, uint64_t otherwise, uint64_t most,
                           uint64_t *out)
{
    const struct apr_result r = apr_term(g->b, term, layer);
    *out = otherwise;
    if (!r.known)
        return APR_OK;
    if (r.text.at != NULL || !(r.number >= 0) || r.number != floor(r.number))
        return apr_fail(g->e, APR_EARG, APR_NOWHERE, "`%s` of family %.*s comes to %g, which is no size", apr_term_words[term],
                        APR_PRINTED(g->n->family), r.text.at != NULL ? 0 : r.number);
    if (r.number > (double)most)
        return apr_fail(g->e, APR_ELIMIT, APR_NOWHERE, "`%s` of family %.*s comes to %.0f, more than %llu", apr_term_words[term],
                        APR_PRINTED(g->n->family), r.number, (unsigned long long)most);
    *out = (uint64_t)r.number;
    return APR_OK;
}

double apr_net_real(const struct apr_netting *g, enum apr_term term, uint64_t layer, double otherwise)
{
    const struct apr_result r = apr_term(g->b, term, layer);
    return r.known && r.text.at == NULL ? r.number : otherwise;
}

bool apr_net_flag(const struct apr_netting *g, enum apr_term term, uint64_t layer, bool otherwise)
{
    return apr_net_real(g, term, layer, otherwise) != 0;
}

/* At least 1. */
static enum apr_code needed(const struct apr_netting *g, enum apr_term term, uint64_t most, uint64_t *out)
{
    APR_TRY(apr_net_size(g, term, 0, 0, most, out));
    return *out > 0 ? APR_OK : apr_term_unknown(g->b, term, g->e);
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
    const struct apr_result r = apr_term(g->b, APR_TERM_ACT, 0);
    if (!r.known || r.text.at == NULL)
        return apr_term_unknown(g->b, APR_TERM_ACT, g->e);
    for (size_t i = 0; i < APR_LENGTH(words); i++)
        if (apr_bytes_is(r.text, words[i].word)) {
            g->n->act = words[i].act;
            return APR_OK;
        }
    return apr_fail(g->e, APR_EUNSUPPORTED, APR_NOWHERE, "no forward pass has the activation %s of family %.*s", APR_QUOTED(r.text),
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

enum apr_code apr_net_numbers(const struct apr_netting *g)
{
    struct apr_net *const n = g->n;
    n->features = apr_net_flag(g, APR_TERM_FEATURES, 0, false);
    n->embed_scale = apr_net_real(g, APR_TERM_EMBED_SCALE, 0, 1);
    n->residual_scale = apr_net_real(g, APR_TERM_RESIDUAL_SCALE, 0, 1);
    n->logit_scale = apr_net_real(g, APR_TERM_LOGIT_SCALE, 0, 1);
    n->logit_cap = apr_net_real(g, APR_TERM_LOGIT_CAP, 0, 0);
    if (n->features)
        return APR_OK;
    APR_TRY(read_sizes(g));
    APR_TRY(read_act(g));
    n->order = apr_net_flag(g, APR_TERM_PARALLEL, 0, false)     ? APR_ORDER_PARALLEL
               : apr_net_flag(g, APR_TERM_NORM_AFTER, 0, false) ? APR_ORDER_AFTER
                                                                : APR_ORDER_BEFORE;
    n->layer_norm = apr_net_flag(g, APR_TERM_LAYER_NORM, 0, false);
    n->causal = apr_net_flag(g, APR_TERM_CAUSAL, 0, true);
    if (!apr_term(g->b, APR_TERM_EPS, 0).known)
        return apr_term_unknown(g->b, APR_TERM_EPS, g->e);
    n->eps = apr_net_real(g, APR_TERM_EPS, 0, 0);
    n->attn_scale = apr_net_real(g, APR_TERM_ATTN_SCALE, 0, 1 / sqrt((double)n->head_k));
    n->attn_cap = apr_net_real(g, APR_TERM_ATTN_CAP, 0, 0);
    n->temperature = apr_net_real(g, APR_TERM_TEMPERATURE, 0, 0);
    APR_TRY(apr_net_size(g, APR_TERM_TEMPERATURE_LENGTH, 0, 0, MOST_TOKENS, &n->temperature_length));
    if (n->temperature_length == 0)
        n->temperature = 0;
    return APR_OK;
}
