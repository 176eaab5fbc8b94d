/* The weight behind a value that is no finite number: of those that have a part in the value, the first that holds one itself. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/bytes.h"
#include "trace.h"
#include "ui/report.h"
#include "values/chunk.h"

#define NO_EXPERT UINT64_MAX

/* ---- what is suspected ---------------------------------------------------------------------------------------------- */

/* Where element `index` of a tensor stands in its shape: "[5, 7]". */
static const char *spell_element(const struct apr_tensor *t, uint64_t index, char text[176])
{
    uint64_t at[APR_MAX_DIMS] = { 0 };
    for (unsigned i = t->ndim; i-- > 0 && t->dim[i] > 0; index /= t->dim[i])
        at[i] = index % t->dim[i];
    return apr_spell_shape(at, t->ndim, text);
}

/* Element e of what is read, as the file has it. */
static void name_element(struct nonfinite *f, const struct apr_input *in, uint64_t e, float value, uint64_t expert)
{
    char element[176], of[40] = "";
    const struct apr_place place = apr_view_place(&in->view, e);
    if (place.part >= in->view.npart)
        return;
    const struct apr_tensor *const t = apr_input_part(in, place.part);
    if (expert != NO_EXPERT)
        snprintf(of, sizeof of, ", of expert %" PRIu64, expert);
    snprintf(f->culprit, sizeof f->culprit, "tensor %s holds %s, its element %s%s", APR_QUOTED(t->name), spell_nonfinite(value),
             spell_element(t, place.index, element), of);
}

/* Elements [first, first + n). Nothing more is looked for once one is found. */
static void suspect(struct nonfinite *f, const struct apr_input *in, uint64_t first, uint64_t n, uint64_t expert)
{
    float x[APR_STRETCH];
    if (in == NULL || first > in->count || n > in->count - first)
        return;
    for (uint64_t now; n > 0 && f->culprit[0] == 0; first += now, n -= now) {
        now = apr_min(n, APR_STRETCH);
        apr_input_all_floats(in, NULL, first, now, x);
        for (uint64_t i = 0; i < now && f->culprit[0] == 0; i++)
            if (!isfinite(x[i]))
                name_element(f, in, first + i, x[i], expert);
    }
}

static void suspect_rows(struct nonfinite *f, const struct apr_linear *l, uint64_t row, uint64_t n, uint64_t expert)
{
    if (l->w.in == NULL || row >= l->w.nout)
        return;
    suspect(f, l->w.in, (l->w.first + row) * l->w.nin, n * l->w.nin, expert);
    suspect(f, l->bias_in, l->w.first + row, n, expert);
}

static void suspect_row(struct nonfinite *f, const struct apr_linear *l, uint64_t row) { suspect_rows(f, l, row, 1, NO_EXPERT); }
static void suspect_linear(struct nonfinite *f, const struct apr_linear *l) { suspect_rows(f, l, 0, l->w.nout, NO_EXPERT); }

static void suspect_norm(struct nonfinite *f, const struct apr_norm *norm, uint64_t index, uint64_t n)
{
    suspect(f, norm->weight_in, index, n, NO_EXPERT);
    suspect(f, norm->bias_in, index, n, NO_EXPERT);
}

/* ---- layers --------------------------------------------------------------------------------------------------------- */

static void suspect_latent(struct nonfinite *f, const struct apr_layer *l, uint64_t row)
{
    const struct apr_latent *const a = &l->latent;
    const struct apr_linear *const query = a->q_a.w.in != NULL ? &a->q_b : &l->q;
    if (row >= query->w.nout) {
        suspect_row(f, &a->kv_a, row - query->w.nout);
        return;
    }
    suspect_linear(f, &a->q_a);
    suspect_norm(f, &a->q_a_norm, 0, a->q_a_norm.n);
    suspect_row(f, query, row);
}

static void suspect_qkv(struct nonfinite *f, const struct apr_layer *l, uint64_t row)
{
    const struct apr_linear *const part[] = { &l->q, &l->k, &l->v };
    if (l->latent.rank > 0)
        suspect_latent(f, l, row);
    else if (l->qkv.w.in != NULL)
        suspect_row(f, &l->qkv, row);
    else
        for (size_t i = 0; i < APR_LENGTH(part); row -= apr_min(row, part[i]->w.nout), i++)
            if (row < part[i]->w.nout) {
                suspect_row(f, part[i], row);
                return;
            }
}

/* What stands between the projections and the scores. */
static void suspect_heads(struct nonfinite *f, const struct apr_layer *l, bool queries, bool keys)
{
    if (queries)
        suspect_norm(f, &l->q_norm, 0, l->q_norm.n);
    if (!keys)
        return;
    suspect_norm(f, &l->k_norm, 0, l->k_norm.n);
    suspect_norm(f, &l->latent.kv_a_norm, 0, l->latent.kv_a_norm.n);
    suspect_linear(f, &l->latent.kv_b);
}

/* A network whose middle is not told; index: of its output. */
static void suspect_network(struct nonfinite *f, const struct apr_ffn *n, uint64_t index, uint64_t expert)
{
    suspect_rows(f, &n->gate, 0, n->gate.w.nout, expert);
    suspect_rows(f, &n->up, 0, n->up.w.nout, expert);
    suspect_rows(f, &n->down, index, 1, expert);
}

/* Those experts that the position goes through. */
static void suspect_experts(struct nonfinite *f, const struct apr_experts *x)
{
    for (uint64_t i = 0; i < f->used && f->position >= f->first; i++) {
        const uint64_t k = (uint64_t)f->expert[(f->position - f->first) * f->used + i];
        if (k < x->n)
            suspect_network(f, &x->expert[k], f->index, k);
    }
}

static void suspect_ffn_out(struct nonfinite *f, const struct apr_layer *l)
{
    if (l->experts.n == 0) {
        suspect_row(f, &l->ffn.down, f->index);
        return;
    }
    suspect_network(f, &l->experts.shared, f->index, NO_EXPERT);
    suspect_linear(f, &l->experts.shared_gate);
}

static void suspect_layer(struct nonfinite *f, enum apr_order order, const struct apr_layer *l)
{
    const bool after = order == APR_ORDER_AFTER;
    const uint64_t index = f->index;
    switch (f->stage) {
    case APR_STAGE_ATTN_NORM: suspect_norm(f, &l->attn_norm, index, 1); break;
    case APR_STAGE_QKV_MATMUL: case APR_STAGE_QKV_BIAS: suspect_qkv(f, l, index); break;
    case APR_STAGE_Q_POST_ROPE: suspect_heads(f, l, true, false); break;
    case APR_STAGE_K_POST_ROPE: suspect_heads(f, l, false, true); break;
    case APR_STAGE_ATTN_SCORES: case APR_STAGE_ATTN_SOFTMAX: case APR_STAGE_ATTENTION: suspect_heads(f, l, true, true); break;
    case APR_STAGE_ATTN_OUT: suspect_row(f, &l->o, index); break;
    case APR_STAGE_POST_ATTN_RESIDUAL: suspect_norm(f, &l->post_attn_norm, index, 1); break;
    case APR_STAGE_FFN_NORM: suspect_norm(f, after ? &l->attn_norm : &l->ffn_norm, index, 1); break;
    case APR_STAGE_FFN_GATE: suspect_row(f, &l->ffn.gate, index); break;
    case APR_STAGE_FFN_UP: suspect_row(f, &l->ffn.up, index); break;
    case APR_STAGE_MOE_ROUTER: case APR_STAGE_MOE_ROUTER_INDICES:
        suspect_linear(f, &l->experts.router);
        suspect(f, l->experts.score_bias_in, 0, l->experts.n, NO_EXPERT);
        break;
    case APR_STAGE_MOE_FFN_OUT: suspect_experts(f, &l->experts); break;
    case APR_STAGE_FFN_OUT: suspect_ffn_out(f, l); break;
    case APR_STAGE_POST_FFN_RESIDUAL: suspect_norm(f, after ? &l->ffn_norm : &l->post_ffn_norm, index, 1); break;
    default: break;
    }
}

/* ---- the whole ------------------------------------------------------------------------------------------------------ */

static void suspect_embedding(const struct trace *t, struct nonfinite *f)
{
    const struct apr_net *const net = t->engine.net;
    if (t->ids.n > f->position)
        suspect(f, net->embedding.in, t->ids.id[f->position] * net->hidden, net->hidden, NO_EXPERT);
    suspect(f, net->position.in, f->position * net->hidden, net->hidden, NO_EXPERT);
    suspect(f, net->types.in, 0, net->hidden, NO_EXPERT);
    suspect_norm(f, &net->embedding_norm, f->index, 1);
}

void find_culprit(const struct trace *t, struct nonfinite *f)
{
    const struct apr_net *const net = t->engine.net;
    if (f->stage == APR_STAGE_EMBEDDING)
        suspect_embedding(t, f);
    else if (f->stage == APR_STAGE_FINAL_NORM)
        suspect_norm(f, &net->output_norm, f->index, 1);
    else if (f->stage == APR_STAGE_LM_HEAD)
        suspect_row(f, &net->head, f->index);
    else if (f->layer < net->nlayer)
        suspect_layer(f, net->order, &net->layer[f->layer]);
}
