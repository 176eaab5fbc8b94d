/* What a contract says of the forward pass: terms with their expressions. */
#include "family/contract.h"

#include "base/bytes.h"

const char *const apr_term_words[APR_NTERMS] = { /* as enum apr_term */
    "only", "layers", "hidden", "heads", "kv_heads", "head_k", "head_v", "context",
    "parallel", "norm_after", "layer_norm", "eps", "act", "gate_in_up", "causal",
    "head", "features",
    "embed_scale", "residual_scale", "logit_scale", "logit_cap", "attn_scale", "attn_cap",
    "slides", "window", "temperature", "temperature_length", "latent_rank",
    "rope_dims", "rope_skip", "rope_base", "rope_adjacent", "rope_kind", "rope_factor",
    "rope_original", "rope_mscale", "rope_mscale_all", "rope_scale",
    "experts", "experts_used", "expert_sigmoid", "expert_normalized", "expert_scale",
    "expert_groups", "expert_groups_used", "expert_best_two",
};

static enum apr_code read_term(const struct apr_contract *c, const struct apr_yaml *at)
{
    unsigned i = 0;
    while (i < APR_NTERMS && !apr_bytes_is(at->key, apr_term_words[i]))
        i++;
    if (i == APR_NTERMS)
        return apr_contract_fault(c, at, "unknown key", at->key);
    struct apr_expr *x = NULL; /* a term does not name itself */
    APR_TRY(apr_contract_term(c, at, &x));
    c->f->term[i] = x;
    return APR_OK;
}

/* Without these there is nothing to compute; features need none of them. */
static enum apr_code complete(const struct apr_contract *c, const struct apr_yaml *forward)
{
    static const enum apr_term needed[] = { APR_TERM_LAYERS, APR_TERM_HIDDEN, APR_TERM_HEADS, APR_TERM_EPS, APR_TERM_ACT };
    for (size_t i = 0; i < APR_LENGTH(needed); i++)
        if (c->f->term[needed[i]] == NULL && c->f->term[APR_TERM_FEATURES] == NULL)
            return apr_contract_fault(c, forward, "`forward` lacks", apr_text(apr_term_words[needed[i]]));
    return APR_OK;
}

enum apr_code apr_contract_read_forward(const struct apr_contract *c)
{
    const struct apr_yaml *forward = apr_yaml_get(c->root, "forward");
    if (forward == NULL)
        return APR_OK;
    if (forward->kind != APR_YAML_MAP)
        return apr_contract_fault(c, forward, "a map should stand here, not", forward->text);
    for (const struct apr_yaml *k = forward->child; k != NULL; k = k->next)
        APR_TRY(read_term(c, k));
    c->f->runs = true;
    return complete(c, forward);
}
