/* A net from a model and its binding: layer by layer, what is there by its role. */
#include "forward/net_parts.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "family/missing.h"

#define MOST_EXPERTS 4096u

/* ---- attention -------------------------------------------------------------------------------------------------------- */

/* Widths of all queries, keys and values; numbers have been checked. */
struct widths {
    uint64_t q, k, v, qkv;
};

static struct widths widths_of(const struct apr_net *n)
{
    struct widths w = { n->heads * n->head_k, n->kv_heads * n->head_k, n->kv_heads * n->head_v, 0 };
    w.qkv = w.q + w.k + w.v;
    return w;
}

/* Latent attention: heads of keys are nope elements that come of the latent and some that turn. */
static enum apr_code take_latent(const struct apr_netting *g, uint32_t layer, struct apr_layer *l)
{
    struct apr_net *const n = g->n;
    struct apr_latent *const a = &l->latent;
    struct widths w = widths_of(n);
    uint64_t q_rank = 0, kv_a, kv_b;
    APR_TRY(apr_net_size(g, APR_TERM_LATENT_RANK, layer, 0, APR_MOST_COLUMNS, &a->rank));
    a->rotated = l->rope.n;
    a->nope = n->head_k - l->rope.n;
    kv_a = a->rank + a->rotated;
    kv_b = n->heads * (a->nope + n->head_v);
    if (a->rank == 0)
        return apr_term_unknown(g->b, APR_TERM_LATENT_RANK, g->e);
    APR_TRY(apr_net_linear(g, "attn_kv_a_mqa", layer, &kv_a, &n->hidden, &a->kv_a));
    APR_TRY(apr_net_norm(g, "attn_kv_a_norm", layer, a->rank, &a->kv_a_norm));
    APR_TRY(apr_net_linear(g, "attn_kv_b attn_kv_b_old", layer, &kv_b, &a->rank, &a->kv_b));
    APR_TRY(apr_net_linear(g, "attn_q", layer, &w.q, &n->hidden, &l->q));
    if (l->q.w.in != NULL)
        return APR_OK;
    APR_TRY(apr_net_linear(g, "attn_q_a", layer, &q_rank, &n->hidden, &a->q_a));
    APR_TRY(apr_net_norm(g, "attn_q_a_norm", layer, q_rank, &a->q_a_norm));
    return apr_net_linear(g, "attn_q_b", layer, &w.q, &q_rank, &a->q_b);
}

/* Over a head, or over all heads at once. */
static enum apr_code take_head_norm(const struct apr_netting *g, const char *roles, uint32_t layer, uint64_t width, struct apr_norm *out)
{
    uint64_t n = 0;
    const float *weight;
    APR_TRY(apr_net_vector(g, roles, layer, &n, &weight, NULL));
    return weight == NULL ? APR_OK : apr_net_norm(g, roles, layer, n == width ? width : g->n->head_k, out);
}

static enum apr_code take_attention(const struct apr_netting *g, uint32_t layer, struct apr_layer *l)
{
    struct apr_net *const n = g->n;
    struct widths w = widths_of(n);
    uint64_t out = n->heads * n->head_v;
    bool slides;
    APR_TRY(apr_net_flag(g, APR_TERM_SLIDES, layer, true, &slides));
    APR_TRY(apr_net_size(g, APR_TERM_WINDOW, layer, 0, UINT32_MAX, &l->window));
    if (!slides)
        l->window = 0;
    APR_TRY(apr_net_rope(g, layer, &l->rope));
    if (apr_net_role(g, "attn_kv_a_mqa", layer) != NULL) {
        APR_TRY(take_latent(g, layer, l));
    } else {
        APR_TRY(apr_net_linear(g, "attn_qkv", layer, &w.qkv, &n->hidden, &l->qkv));
        APR_TRY(apr_net_linear(g, "attn_q", layer, &w.q, &n->hidden, &l->q));
        APR_TRY(apr_net_linear(g, "attn_k", layer, &w.k, &n->hidden, &l->k));
        APR_TRY(apr_net_linear(g, "attn_v", layer, &w.v, &n->hidden, &l->v));
        if (apr_net_role(g, "attn_q_k_v", layer) != NULL) {
            APR_TRY(apr_net_matrix(g, "attn_q_k_v", layer, 0, &w.q, &n->hidden, &l->q.w));
            APR_TRY(apr_net_matrix(g, "attn_q_k_v", layer, 1, &w.k, &n->hidden, &l->k.w));
            APR_TRY(apr_net_matrix(g, "attn_q_k_v", layer, 2, &w.v, &n->hidden, &l->v.w));
        }
    }
    APR_TRY(take_head_norm(g, "attn_q_norm", layer, w.q, &l->q_norm));
    APR_TRY(take_head_norm(g, "attn_k_norm", layer, w.k, &l->k_norm));
    return apr_net_linear(g, "attn_output", layer, &n->hidden, &out, &l->o);
}

/* ---- feed-forward ----------------------------------------------------------------------------------------------------- */

/* A gate that has the first half of the rows of ffn_up. */
static enum apr_code part_gate(const struct apr_netting *g, uint32_t layer, struct apr_ffn *f)
{
    if (f->up.w.nout % 2 != 0)
        return apr_fail(g->e, APR_EARG, APR_NOWHERE, "the %llu rows of a gate and of what it opens, in layer %u, are no two halves",
                        (unsigned long long)f->up.w.nout, layer);
    f->gate = f->up;
    f->gate.w.nout = f->up.w.nout / 2;
    f->up.w.first += f->gate.w.nout;
    f->up.w.nout -= f->gate.w.nout;
    if (f->up.bias != NULL)
        f->up.bias += f->gate.w.nout;
    return APR_OK;
}

static enum apr_code take_ffn(const struct apr_netting *g, uint32_t layer, struct apr_ffn *f)
{
    uint64_t width = 0, hidden = g->n->hidden;
    APR_TRY(apr_net_linear(g, "ffn_up ffn_up_plain", layer, &width, &hidden, &f->up));
    bool gate_in_up;
    APR_TRY(apr_net_flag(g, APR_TERM_GATE_IN_UP, layer, false, &gate_in_up));
    if (gate_in_up)
        APR_TRY(part_gate(g, layer, f));
    else
        APR_TRY(apr_net_linear(g, "ffn_gate", layer, &width, &hidden, &f->gate));
    if (apr_net_role(g, "ffn_gate_up", layer) != NULL) {
        APR_TRY(apr_net_matrix(g, "ffn_gate_up", layer, 0, &width, &hidden, &f->gate.w));
        APR_TRY(apr_net_matrix(g, "ffn_gate_up", layer, 1, &width, &hidden, &f->up.w));
    }
    width = f->up.w.nout;
    return apr_net_linear(g, "ffn_down ffn_down_plain", layer, &hidden, &width, &f->down);
}

static enum apr_code take_shared(const struct apr_netting *g, uint32_t layer, struct apr_experts *x)
{
    uint64_t width = 0, hidden = g->n->hidden, one = 1;
    APR_TRY(apr_net_linear(g, "ffn_gate_shexp", layer, &width, &hidden, &x->shared.gate));
    APR_TRY(apr_net_linear(g, "ffn_up_shexp", layer, &width, &hidden, &x->shared.up));
    if (apr_net_role(g, "ffn_gate_up_shexp", layer) != NULL) {
        APR_TRY(apr_net_matrix(g, "ffn_gate_up_shexp", layer, 0, &width, &hidden, &x->shared.gate.w));
        APR_TRY(apr_net_matrix(g, "ffn_gate_up_shexp", layer, 1, &width, &hidden, &x->shared.up.w));
    }
    APR_TRY(apr_net_linear(g, "ffn_down_shexp", layer, &hidden, &width, &x->shared.down));
    return apr_net_linear(g, "ffn_gate_inp_shexp", layer, &one, &hidden, &x->shared_gate);
}

static enum apr_code read_routing(const struct apr_netting *g, uint32_t layer, struct apr_experts *x)
{
    APR_TRY(apr_net_size(g, APR_TERM_EXPERTS, layer, 0, MOST_EXPERTS, &x->n));
    if (x->n == 0)
        return apr_term_unknown(g->b, APR_TERM_EXPERTS, g->e);
    APR_TRY(apr_net_size(g, APR_TERM_EXPERTS_USED, layer, 0, MOST_EXPERTS, &x->used));
    if (x->used == 0)
        return apr_term_unknown(g->b, APR_TERM_EXPERTS_USED, g->e);
    APR_TRY(apr_net_size(g, APR_TERM_EXPERT_GROUPS, layer, 1, MOST_EXPERTS, &x->groups));
    APR_TRY(apr_net_size(g, APR_TERM_EXPERT_GROUPS_USED, layer, x->groups, MOST_EXPERTS, &x->groups_used));
    x->groups += x->groups == 0;
    if (x->used > x->n || x->n % x->groups != 0 || x->groups_used > x->groups || x->groups_used * (x->n / x->groups) < x->used)
        return apr_fail(g->e, APR_EARG, APR_NOWHERE, "layer %u: %llu of %llu experts, in %llu of %llu groups, cannot be chosen", layer,
                        (unsigned long long)x->used, (unsigned long long)x->n, (unsigned long long)x->groups_used,
                        (unsigned long long)x->groups);
    APR_TRY(apr_net_flag(g, APR_TERM_EXPERT_SIGMOID, layer, false, &x->sigmoid));
    APR_TRY(apr_net_flag(g, APR_TERM_EXPERT_NORMALIZED, layer, false, &x->normalized));
    APR_TRY(apr_net_flag(g, APR_TERM_EXPERT_BEST_TWO, layer, false, &x->best_two));
    return apr_term_number(g->b, APR_TERM_EXPERT_SCALE, layer, 1, &x->scale, g->e);
}

static enum apr_code take_experts(const struct apr_netting *g, uint32_t layer, struct apr_experts *x)
{
    uint64_t width = 0, hidden = g->n->hidden;
    APR_TRY(read_routing(g, layer, x));
    struct apr_ffn *const f = x->expert = apr_net_room(g, x->n, sizeof *f);
    if (f == NULL)
        return apr_no_memory(g->e);
    APR_TRY(apr_net_linear(g, "ffn_gate_inp", layer, &x->n, &hidden, &x->router));
    APR_TRY(apr_net_vector(g, "exp_probs_b", layer, &x->n, &x->score_bias, &x->score_bias_in));
    APR_TRY(apr_net_stack(g, "ffn_gate_exps", layer, 0, x->n, &width, &hidden, &f->gate, sizeof *f));
    APR_TRY(apr_net_stack(g, "ffn_up_exps", layer, 0, x->n, &width, &hidden, &f->up, sizeof *f));
    APR_TRY(apr_net_stack(g, "ffn_gate_up_exps ffn_gate_up_rows_exps", layer, 0, x->n, &width, &hidden, &f->gate, sizeof *f));
    APR_TRY(apr_net_stack(g, "ffn_gate_up_exps ffn_gate_up_rows_exps", layer, 1, x->n, &width, &hidden, &f->up, sizeof *f));
    APR_TRY(apr_net_stack(g, "ffn_down_exps ffn_down_all_exps ffn_down_rows_exps", layer, 0, x->n, &hidden, &width, &f->down, sizeof *f));
    return take_shared(g, layer, x);
}

/* ---- what nothing can be computed without ------------------------------------------------------------------------------ */

/* Contracts ask for it, but one of somebody's own may not. */
static enum apr_code lacking(const struct apr_netting *g, uint32_t layer, const char *what)
{
    return apr_fail(g->e, APR_EARG, APR_NOWHERE, "by the contract of family %.*s, layer %u has no %s", APR_PRINTED(g->n->family), layer,
                    what);
}

static bool has(const struct apr_linear *l) { return l->w.in != NULL; }

static bool has_latent(const struct apr_layer *l)
{
    const struct apr_latent *const a = &l->latent;
    return has(&a->kv_a) && has(&a->kv_b) && (has(&l->q) || (has(&a->q_a) && has(&a->q_b)));
}

static enum apr_code check_layer(const struct apr_netting *g, uint32_t layer, const struct apr_layer *l)
{
    const struct apr_experts *const x = &l->experts;
    const struct apr_ffn *const f = x->n > 0 ? &x->expert[0] : &l->ffn;
    const bool latent = l->latent.rank > 0;
    if (latent != (g->n->layer[0].latent.rank > 0))
        return lacking(g, layer, latent ? "keys and values as those before it" : "latent as those before it");
    if (latent ? !has_latent(l) : !has(&l->qkv) && !(has(&l->q) && has(&l->k) && has(&l->v)))
        return lacking(g, layer, "queries, keys and values");
    if (!has(&l->o))
        return lacking(g, layer, "output of its attention");
    if (!has(&f->up) || !has(&f->down) || has(&x->shared.up) != has(&x->shared.down))
        return lacking(g, layer, "feed-forward with its two ends");
    return APR_OK;
}

/* ---- layers ----------------------------------------------------------------------------------------------------------- */

static enum apr_code take_layer(const struct apr_netting *g, uint32_t layer, struct apr_layer *l)
{
    const uint64_t hidden = g->n->hidden;
    APR_TRY(apr_net_norm(g, "attn_norm_2 attn_norm attn_output_norm", layer, hidden, &l->attn_norm));
    APR_TRY(take_attention(g, layer, l));
    APR_TRY(apr_net_norm(g, "post_attention_norm", layer, hidden, &l->post_attn_norm));
    APR_TRY(apr_net_norm(g, "ffn_norm attn_norm_mlp layer_output_norm", layer, hidden, &l->ffn_norm));
    APR_TRY(apr_net_norm(g, "post_ffw_norm", layer, hidden, &l->post_ffn_norm));
    return apr_net_role(g, "ffn_gate_inp", layer) != NULL ? take_experts(g, layer, &l->experts) : take_ffn(g, layer, &l->ffn);
}

static enum apr_code take_layers(const struct apr_netting *g)
{
    struct apr_net *const n = g->n;
    n->layer = apr_net_room(g, n->nlayer, sizeof *n->layer);
    if (n->layer == NULL)
        return apr_no_memory(g->e);
    for (uint64_t i = 0; i < n->nlayer; i++)
        APR_TRY(take_layer(g, (uint32_t)i, &n->layer[i]));
    for (uint64_t i = 0; i < n->nlayer; i++)
        APR_TRY(check_layer(g, (uint32_t)i, &n->layer[i]));
    return APR_OK;
}

/* ---- what stands before and behind ------------------------------------------------------------------------------------ */

static enum apr_code no_matrix(const struct apr_netting *g, const char *role)
{
    return apr_fail(g->e, APR_EARG, APR_NOWHERE, "by the contract of family %.*s there is no %s", APR_PRINTED(g->n->family), role);
}

static enum apr_code take_embeddings(const struct apr_netting *g)
{
    struct apr_net *const n = g->n;
    uint64_t types = 0;
    APR_TRY(apr_net_matrix(g, "token_embd", 0, 0, &n->vocab, &n->hidden, &n->embedding));
    if (n->embedding.in == NULL)
        return no_matrix(g, "token_embd");
    APR_TRY(apr_net_matrix(g, "position_embd", 0, 0, &n->positions, &n->hidden, &n->position));
    APR_TRY(apr_net_matrix(g, "token_types", 0, 0, &types, &n->hidden, &n->types));
    return apr_net_norm(g, "token_embd_norm", 0, n->hidden, &n->embedding_norm);
}

static enum apr_code take_head(const struct apr_netting *g)
{
    struct apr_net *const n = g->n;
    bool head;
    APR_TRY(apr_net_norm(g, "output_norm", 0, n->hidden, &n->output_norm));
    APR_TRY(apr_net_flag(g, APR_TERM_HEAD, 0, true, &head));
    if (!head)
        return APR_OK;
    if (!apr_binding_tied(g->b))
        return apr_net_linear(g, "output", 0, &n->vocab, &n->hidden, &n->head);
    n->head.w = n->embedding;
    return apr_net_vector(g, "output_bias", 0, &n->vocab, &n->head.bias, &n->head.bias_in);
}

/* A head alone: rows of weights, or the coefficients of one output. */
static enum apr_code take_features(const struct apr_netting *g)
{
    struct apr_net *const n = g->n;
    APR_TRY(apr_net_matrix(g, "weight coefficients", 0, 0, &n->vocab, &n->hidden, &n->head.w));
    if (n->head.w.in == NULL)
        return no_matrix(g, "weight");
    return apr_net_vector(g, "bias intercept", 0, &n->vocab, &n->head.bias, &n->head.bias_in);
}

/* ---- what must be there, and what must not ---------------------------------------------------------------------------- */

struct miss {
    const struct apr_netting *g;
    enum apr_code             code;
};

static bool miss(void *ctx, const struct apr_meaning *what, struct apr_bytes name)
{
    struct miss *const x = ctx;
    x->code = apr_fail_tensor(x->g->e, APR_EARG, APR_NOWHERE, name, " is not there; the forward pass of family %.*s needs it as %.*s",
                              APR_PRINTED(x->g->n->family), APR_PRINTED(what->role->name));
    return false;
}

/* Tensors that would have a part in the pass if only somebody knew which. */
static enum apr_code check_strange(const struct apr_netting *g)
{
    struct apr_meaning meaning;
    for (size_t i = 0; i < g->m->ntensor; i++) {
        const struct apr_tensor *const t = &g->m->tensor[i];
        if (!apr_binding_meaning(g->b, t, 0, &meaning) && !apr_binding_skips(g->b, t))
            return apr_fail_tensor(g->e, APR_EARG, APR_NOWHERE, t->name, " has no place in the forward pass of family %.*s",
                                   APR_PRINTED(g->n->family));
    }
    return APR_OK;
}

static enum apr_code put_together(struct apr_netting *g)
{
    struct apr_net *const n = g->n;
    struct miss x = { g, APR_OK };
    bool only;
    if (!apr_binding_family(g->b)->runs)
        return apr_fail(g->e, APR_EARG, APR_NOWHERE, "family %.*s has no forward pass; docs/families.md lists those that have one",
                        APR_PRINTED(n->family));
    APR_TRY(apr_net_flag(g, APR_TERM_ONLY, 0, true, &only));
    if (!only)
        return apr_fail(g->e, APR_EUNSUPPORTED, APR_NOWHERE, "this model is of a kind of family %.*s that has no forward pass",
                        APR_PRINTED(n->family));
    APR_TRY(apr_net_numbers(g));
    APR_TRY(check_strange(g));
    apr_binding_missing(g->b, apr_binding_spoken(g->b, g->m), n->nlayer, miss, &x);
    APR_TRY(x.code);
    if (n->features)
        return take_features(g);
    APR_TRY(take_embeddings(g));
    APR_TRY(take_layers(g));
    return take_head(g);
}

enum apr_code apr_net_new(struct apr_net **out, const struct apr_kernels *k, const struct apr_model *m, const struct apr_binding *b,
                          struct apr_error *e)
{
    struct apr_net *const n = *out = calloc(1, sizeof *n);
    const struct apr_tensor **const part = malloc(APR_MOST_PARTS * sizeof *part);
    enum apr_code code = n == NULL || part == NULL ? apr_no_memory(e) : APR_OK;
    if (code == APR_OK) {
        struct apr_netting g = { n, k, m, b, part, e };
        n->model = m;
        n->binding = b;
        n->family = apr_binding_family(b)->name;
        code = put_together(&g);
    }
    free(part);
    if (code != APR_OK) {
        apr_net_free(n);
        *out = NULL;
    }
    return code;
}

void apr_net_free(struct apr_net *n)
{
    if (n == NULL)
        return;
    apr_arena_free(&n->arena);
    free(n);
}
