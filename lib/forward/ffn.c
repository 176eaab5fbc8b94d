#include "base/fmath.h"
#include "forward/sequence.h"

#define HELPING 1024u /* elements of a task */

/* ---- element by element ----------------------------------------------------------------------------------------------- */

static double silu(double x) { return x / (1 + apr_exp(-x)); }
static double gelu(double x) { return x * (1 + apr_erf(x * 0x1.6a09e667f3bcdp-1)) / 2; }                               /* sqrt(1/2) */
static double gelu_tanh(double x) { return x * (1 + apr_tanh(0x1.9884533d43651p-1 * (x + 0.044715 * x * x * x))) / 2; } /* sqrt(2/pi) */
static double relu(double x) { return x < 0 ? 0 : x; }
static double relu2(double x) { return x < 0 ? 0 : x * x; }

static double (*const activation[APR_NACTS])(double) = {
    [APR_SILU] = silu, [APR_GELU] = gelu, [APR_GELU_TANH] = gelu_tanh, [APR_RELU] = relu, [APR_RELU2] = relu2,
};

/* x[i] becomes act(x[i]), or x[i] y[i]. */
struct elements {
    float        *x;
    const float  *y;
    uint64_t      n;
    enum apr_act  act;
};

static void activate_some(void *ctx, size_t i, unsigned worker)
{
    (void)worker;
    const struct elements *const c = ctx;
    float *const x = c->x + i * HELPING;
    const size_t n = (size_t)apr_min(HELPING, c->n - i * HELPING);
    for (size_t k = 0; k < n; k++)
        x[k] = apr_rounded(activation[c->act](x[k]));
}

static void multiply_some(void *ctx, size_t i, unsigned worker)
{
    (void)worker;
    const struct elements *const c = ctx;
    const uint64_t end = apr_min(c->n, (i + 1) * HELPING);
    for (uint64_t k = i * HELPING; k < end; k++)
        c->x[k] = apr_rounded((double)c->x[k] * c->y[k]);
}

void apr_ffn_activate(struct apr_sequence *s, float *x, uint64_t n)
{
    struct elements c = { x, NULL, n, s->net->act };
    apr_share_work(s, (size_t)((n + HELPING - 1) / HELPING), 8 * n, activate_some, &c);
}

void apr_ffn_multiply(struct apr_sequence *s, float *x, const float *y, uint64_t n)
{
    struct elements c = { x, y, n, s->net->act };
    apr_share_work(s, (size_t)((n + HELPING - 1) / HELPING), n, multiply_some, &c);
}

/* ---- the network ------------------------------------------------------------------------------------------------------ */

static enum apr_code tell(struct apr_sequence *s, uint32_t layer, unsigned stage, const float *values, uint64_t width, struct apr_error *e)
{
    return layer == APR_WHOLE_MODEL ? APR_OK : apr_stage_tell(s, layer, stage, values, width, e);
}

static enum apr_code gated(struct apr_sequence *s, const struct apr_ffn *f, uint32_t layer, const float *x, size_t n, struct apr_error *e)
{
    const size_t width = (size_t)f->up.w.nout;
    float *const gate = s->at[APR_FLOW_GATE], *const up = s->at[APR_FLOW_UP];
    const struct apr_into into[] = { { &f->gate, gate, width }, { &f->up, up, width } };
    APR_TRY(apr_linear_products(s, into, APR_LENGTH(into), x, n, e));
    apr_linear_bias(into, APR_LENGTH(into), n);
    APR_TRY(tell(s, layer, APR_STAGE_FFN_GATE, gate, width, e));
    APR_TRY(tell(s, layer, APR_STAGE_FFN_UP, up, width, e));
    apr_ffn_activate(s, gate, n * width);
    APR_TRY(tell(s, layer, APR_STAGE_FFN_SILU, gate, width, e));
    apr_ffn_multiply(s, gate, up, n * width);
    return tell(s, layer, APR_STAGE_FFN_SWIGL, gate, width, e);
}

static enum apr_code plain(struct apr_sequence *s, const struct apr_ffn *f, uint32_t layer, const float *x, size_t n, struct apr_error *e)
{
    float *const up = s->at[APR_FLOW_GATE];
    APR_TRY(apr_linear_whole(s, &f->up, x, n, up, e));
    APR_TRY(tell(s, layer, APR_STAGE_FFN_UP, up, f->up.w.nout, e));
    apr_ffn_activate(s, up, n * f->up.w.nout);
    return tell(s, layer, APR_STAGE_FFN_SILU, up, f->up.w.nout, e);
}

enum apr_code apr_ffn_run(struct apr_sequence *s, const struct apr_ffn *f, uint32_t layer, const float *x, size_t n, float *y,
                          struct apr_error *e)
{
    APR_TRY(f->gate.w.in != NULL ? gated(s, f, layer, x, n, e) : plain(s, f, layer, x, n, e));
    return apr_linear_whole(s, &f->down, s->at[APR_FLOW_GATE], n, y, e);
}
