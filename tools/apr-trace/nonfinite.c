/* The first value that is no finite number, and the weight that holds one. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "trace.h"

/* ---- which value ---------------------------------------------------------------------------------------------------- */

static uint64_t first_bad(const float *x, uint64_t n)
{
    uint64_t i = 0;
    while (i < n && isfinite(x[i]))
        i++;
    return i;
}

const char *spell_nonfinite(float v) { return isnan(v) ? "nan" : v > 0 ? "inf" : "-inf"; }

static enum apr_code find_culprit(struct trace *t, struct nonfinite *f, struct apr_error *e);

/* By positions first, then by heads: what comes of the first token tells most. */
enum apr_code find_nonfinite(struct trace *t, const struct apr_stage_values *v, struct apr_error *e)
{
    const unsigned at = v->ndim == 3 ? 1 : 0;
    const uint64_t heads = v->ndim == 3 ? v->dim[0] : 1, n = v->dim[at], width = v->dim[at + 1];
    if (t->nonfinite.found || first_bad(v->values, heads * n * width) == heads * n * width)
        return APR_OK;
    for (uint64_t p = 0; p < n; p++)
        for (uint64_t h = 0; h < heads; h++) {
            const float *const row = v->values + (h * n + p) * width;
            const uint64_t i = first_bad(row, width);
            if (i == width)
                continue;
            t->nonfinite = (struct nonfinite){ .found = true, .layer = v->layer, .stage = v->stage, .position = v->position + p,
                                               .index = h * width + i, .value = row[i] };
            return find_culprit(t, &t->nonfinite, e);
        }
    return APR_OK;
}

/* The stage that has it is done. */
enum apr_code stop_run(struct trace *t, struct apr_error *e)
{
    t->stopped = true;
    return apr_fail(e, APR_EARG, APR_NOWHERE, "a value is not finite");
}

/* ---- which weight --------------------------------------------------------------------------------------------------- */

/* A row of a matrix, and the elements of vectors, that the value came by. */
struct suspects {
    const struct apr_matrix *w;
    uint64_t                 row;
    const float             *vector[2];
    const char              *called[2];
    uint64_t                 index;
};

static void suspect_linear(struct suspects *s, const struct apr_linear *l, uint64_t row)
{
    s->w = &l->w;
    s->row = row;
    s->vector[0] = l->bias;
    s->called[0] = "the bias";
    s->index = row;
}

static void suspect_norm(struct suspects *s, const struct apr_norm *norm, uint64_t index)
{
    s->vector[0] = norm->weight;
    s->vector[1] = norm->bias;
    s->called[0] = "the weight of the norm";
    s->called[1] = "the bias of the norm";
    s->index = index;
}

static void suspect_qkv(struct suspects *s, const struct apr_layer *l, uint64_t row)
{
    const struct apr_linear *const part[] = { &l->q, &l->k, &l->v };
    if (l->qkv.w.in != NULL) {
        suspect_linear(s, &l->qkv, row);
        return;
    }
    for (size_t i = 0; i < APR_LENGTH(part) && part[i]->w.in != NULL; i++) {
        if (row < part[i]->w.nout) {
            suspect_linear(s, part[i], row);
            return;
        }
        row -= part[i]->w.nout;
    }
}

static void suspect_layer(struct suspects *s, enum apr_order order, const struct apr_layer *l, unsigned stage, uint64_t index)
{
    const bool after = order == APR_ORDER_AFTER;
    switch (stage) {
    case APR_STAGE_ATTN_NORM: suspect_norm(s, &l->attn_norm, index); break;
    case APR_STAGE_QKV_MATMUL: case APR_STAGE_QKV_BIAS: suspect_qkv(s, l, index); break;
    case APR_STAGE_ATTN_OUT: suspect_linear(s, &l->o, index); break;
    case APR_STAGE_FFN_NORM: suspect_norm(s, after ? &l->attn_norm : &l->ffn_norm, index); break;
    case APR_STAGE_FFN_GATE: suspect_linear(s, &l->ffn.gate, index); break;
    case APR_STAGE_FFN_UP: suspect_linear(s, &l->ffn.up, index); break;
    case APR_STAGE_FFN_OUT: suspect_linear(s, &l->ffn.down, index); break;
    case APR_STAGE_POST_FFN_RESIDUAL:
        if (after)
            suspect_norm(s, &l->ffn_norm, index);
        break;
    default: break;
    }
}

static struct suspects suspects_of(const struct trace *t, const struct nonfinite *f)
{
    const struct apr_net *const net = t->engine.net;
    struct suspects s = { 0 };
    if (f->stage == APR_STAGE_EMBEDDING && t->ids.n > f->position) {
        s.w = &net->embedding;
        s.row = t->ids.id[f->position];
    } else if (f->stage == APR_STAGE_FINAL_NORM) {
        suspect_norm(&s, &net->output_norm, f->index);
    } else if (f->stage == APR_STAGE_LM_HEAD) {
        suspect_linear(&s, &net->head, f->index);
    } else if (f->layer < net->nlayer) {
        suspect_layer(&s, net->order, &net->layer[f->layer], f->stage, f->index);
    }
    return s;
}

/* Element e of the matrix, as the file has it. */
static void name_element(const struct apr_matrix *w, uint64_t e, float value, struct nonfinite *f)
{
    const struct apr_place place = apr_view_place(&w->in->view, w->first * w->nin + e);
    if (place.part >= w->in->view.npart)
        return;
    snprintf(f->culprit, sizeof f->culprit, "tensor %s holds %s, its element %llu", APR_QUOTED(apr_input_part(w->in, place.part)->name),
             spell_nonfinite(value), (unsigned long long)place.index);
}

static enum apr_code search_matrix(const struct suspects *s, struct nonfinite *f, struct apr_error *e)
{
    if (s->w == NULL || s->w->in == NULL || s->row >= s->w->nout)
        return APR_OK;
    float *const row = malloc((s->w->nin + 1) * sizeof *row);
    if (row == NULL)
        return apr_no_memory(e);
    apr_matrix_rows(s->w, s->row, 1, row);
    const uint64_t i = first_bad(row, s->w->nin);
    if (i < s->w->nin)
        name_element(s->w, s->row * s->w->nin + i, row[i], f);
    free(row);
    return APR_OK;
}

static enum apr_code find_culprit(struct trace *t, struct nonfinite *f, struct apr_error *e)
{
    const struct suspects s = suspects_of(t, f);
    APR_TRY(search_matrix(&s, f, e));
    for (size_t i = 0; i < APR_LENGTH(s.vector) && f->culprit[0] == 0; i++)
        if (s.vector[i] != NULL && !isfinite(s.vector[i][s.index]))
            snprintf(f->culprit, sizeof f->culprit, "%s is %s there", s.called[i], spell_nonfinite(s.vector[i][s.index]));
    return APR_OK;
}
