#include "model/stage.h"

#include "base/bytes.h"

static const char *const stages[APR_NSTAGES] = {
    "embedding", "attn_norm", "qkv_matmul", "qkv_bias", "q_post_rope", "k_post_rope", "attn_scores", "attn_softmax", "attention",
    "attn_out", "post_attn_residual", "ffn_norm", "ffn_gate", "ffn_up", "ffn_silu", "ffn_swigl", "moe_router", "moe_router_indices",
    "moe_ffn_out", "ffn_out", "post_ffn_residual", "final_norm", "lm_head",
};

unsigned apr_stage_rank(struct apr_bytes stage)
{
    const struct apr_bytes name = apr_bytes_is(stage, "layer_output") ? apr_text("post_ffn_residual") : stage;
    unsigned i = 0;
    while (i < APR_LENGTH(stages) && !apr_bytes_is(name, stages[i]))
        i++;
    return i;
}

const char *apr_stage_name(unsigned rank) { return stages[rank]; }

bool apr_stage_is_of_last(unsigned rank)
{
    return rank == APR_STAGE_LM_HEAD || rank == APR_STAGE_MOE_ROUTER || rank == APR_STAGE_MOE_ROUTER_INDICES ||
           rank == APR_STAGE_MOE_FFN_OUT;
}

void apr_stage_split(struct apr_bytes name, uint32_t *layer, struct apr_bytes *stage)
{
    static const char prefix[] = "layer-";
    const size_t start = sizeof prefix - 1;
    size_t i = start;
    uint64_t n = 0;
    *layer = APR_WHOLE_MODEL;
    *stage = name;
    if (name.n <= start || !apr_bytes_is((struct apr_bytes){ name.at, start }, prefix))
        return;
    for (; i < name.n && i < start + 10 && name.at[i] >= '0' && name.at[i] <= '9'; i++)
        n = 10 * n + (uint64_t)(name.at[i] - '0');
    if (i == start || i == name.n || name.at[i] != '/' || n >= APR_WHOLE_MODEL)
        return;
    *layer = (uint32_t)n;
    *stage = (struct apr_bytes){ name.at + i + 1, name.n - i - 1 };
}

/* Where the last component of path[0..n) begins. */
static size_t last_component(const char *path, size_t n)
{
    while (n > 0 && path[n - 1] != '/')
        n--;
    return n;
}

struct apr_bytes apr_stage_of_path(const char *path, const char *suffix, struct apr_bytes *stage)
{
    const struct apr_bytes none = { 0 };
    const size_t start = last_component(path, strlen(path)), n = strlen(suffix);
    *stage = apr_text(path + start);
    if (stage->n >= n && memcmp(stage->at + stage->n - n, suffix, n) == 0)
        stage->n -= n;
    if (stage->n == 0 || strcmp(path, "-") == 0 || !apr_is_utf8(*stage))
        *stage = apr_text("stage");
    if (start == 0)
        return none;
    const size_t folder = last_component(path, start - 1);
    const struct apr_bytes whole = apr_text(path + folder), name = { whole.at, start - 1 - folder };
    struct apr_bytes rest;
    uint32_t layer;
    apr_stage_split((struct apr_bytes){ whole.at, start - folder }, &layer, &rest);
    return layer == APR_WHOLE_MODEL ? none : name;
}

int apr_stage_compare(struct apr_bytes a, struct apr_bytes b)
{
    uint32_t layer_a, layer_b;
    struct apr_bytes stage_a, stage_b;
    apr_stage_split(a, &layer_a, &stage_a);
    apr_stage_split(b, &layer_b, &stage_b);
    const unsigned rank_a = apr_stage_rank(stage_a), rank_b = apr_stage_rank(stage_b);
    if (layer_a != layer_b)
        return layer_a < layer_b ? -1 : 1;
    if (rank_a != rank_b)
        return rank_a < rank_b ? -1 : 1;
    return apr_bytes_compare(stage_a, stage_b);
}
