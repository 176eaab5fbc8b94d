#include "forward/sequence.h"

/* Sums have 16 lanes, as those of kernels (values/kernels.h). */
static double sum_of(const float *x, size_t n)
{
    double lane[APR_LANES] = { 0 };
    size_t i = 0;
    for (; i + APR_LANES <= n; i += APR_LANES)
        for (unsigned l = 0; l < APR_LANES; l++)
            lane[l] += x[i + l];
    for (unsigned l = 0; i + l < n; l++)
        lane[l] += x[i + l];
    return apr_fold(lane);
}

/* Of squares of what x is above the centre. */
static double squares_of(const float *x, size_t n, double centre)
{
    double lane[APR_LANES] = { 0 };
    size_t i = 0;
    for (; i + APR_LANES <= n; i += APR_LANES)
        for (unsigned l = 0; l < APR_LANES; l++)
            lane[l] += (x[i + l] - centre) * (x[i + l] - centre);
    for (unsigned l = 0; i + l < n; l++)
        lane[l] += (x[i + l] - centre) * (x[i + l] - centre);
    return apr_fold(lane);
}

static void norm_of(const struct apr_net *net, const struct apr_norm *norm, const float *x, float *y)
{
    const size_t n = (size_t)norm->n;
    const double centre = net->layer_norm ? sum_of(x, n) / (double)n : 0;
    const double inverse = 1 / sqrt(squares_of(x, n, centre) / (double)n + net->eps);
    if (norm->bias == NULL)
        for (size_t i = 0; i < n; i++)
            y[i] = apr_rounded((x[i] - centre) * inverse * norm->weight[i]);
    else
        for (size_t i = 0; i < n; i++)
            y[i] = apr_rounded((x[i] - centre) * inverse * norm->weight[i] + norm->bias[i]);
}

struct norms {
    const struct apr_net       *net;
    const struct apr_norm_rows *rows;
};

static void norm_row(void *ctx, size_t i, unsigned worker)
{
    (void)worker;
    const struct norms *const c = ctx;
    const struct apr_norm_rows *const r = c->rows;
    for (size_t g = 0; g < r->ngroup; g++)
        norm_of(c->net, r->norm, r->x + i * r->x_stride + g * r->norm->n, r->y + i * r->y_stride + g * r->norm->n);
}

void apr_norm_rows(struct apr_sequence *s, const struct apr_norm_rows *rows, size_t n)
{
    struct norms c = { s->net, rows };
    apr_share_work(s, n, n * rows->ngroup * rows->norm->n, norm_row, &c);
}
