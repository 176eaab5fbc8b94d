/* Stage 9: a tensor against those that play its part in the other layers. */
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

/* A deviation counts in units of 1.4826 MAD, the std of a normal distribution, or of 5 % of the spread where layers are more alike
 * than that; sound models stay below. */
#define LEAST_LAYERS 8
#define MOST_Z       12.0
#define MAD_TO_STD   1.4826
#define LEAST_UNIT   0.05

/* name: the tensor's with each number as '#'. */
struct member {
    struct apr_bytes name;
    size_t           tensor;
    double           mean, std;
};

/* "blk.12.ffn_up.weight" -> "blk.#.ffn_up.weight", in place; the new length. */
static size_t generalise(char *s, size_t n)
{
    size_t out = 0;
    for (size_t i = 0; i < n;) {
        size_t end = i;
        bool digits = true;
        for (; end < n && s[end] != '.' && s[end] != '/'; end++)
            digits &= s[end] >= '0' && s[end] <= '9';
        if (digits && end > i) {
            s[out++] = '#';
        } else {
            memmove(s + out, s + i, end - i);
            out += end - i;
        }
        if (end < n)
            s[out++] = s[end++];
        i = end;
    }
    return out;
}

static int by_name(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    const int order = apr_bytes_compare(x->name, y->name);
    return order != 0 ? order : (x->tensor > y->tensor) - (x->tensor < y->tensor);
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_size);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* The median of a column, and that of the distances from it; v has room for n. */
static double spread_of(const double *column, size_t n, double *v, double *middle)
{
    memcpy(v, column, n * sizeof *v);
    *middle = median(v, n);
    for (size_t i = 0; i < n; i++)
        v[i] = fabs(column[i] - *middle);
    return MAD_TO_STD * median(v, n);
}

/* One group of n; v has room for 3 n. */
static enum apr_code judge(struct inspection *x, const struct member *g, size_t n, double *v, struct apr_error *e)
{
    double *mean = v + n, *std = v + 2 * n, middle[2], unit[2];
    for (size_t i = 0; i < n; i++) {
        mean[i] = g[i].mean;
        std[i] = g[i].std;
    }
    unit[0] = spread_of(mean, n, v, &middle[0]);
    unit[1] = spread_of(std, n, v, &middle[1]);
    for (size_t i = 0; i < n; i++) {
        const double least = LEAST_UNIT * middle[1];
        const double z[2] = { (g[i].mean - middle[0]) / fmax(unit[0], least), (g[i].std - middle[1]) / fmax(unit[1], least) };
        const unsigned worse = fabs(z[1]) >= fabs(z[0]);
        const struct apr_bytes name = x->m->tensor[g[i].tensor].name;
        if (fabs(z[worse]) > MOST_Z)
            APR_TRY(add_finding(&x->findings, "layers.outlier", name, e,
                                "tensor %s: its %s is %.4g, the median of its %zu siblings %.4g (z = %.1f)", APR_QUOTED(name),
                                worse ? "std" : "mean", worse ? g[i].std : g[i].mean, n, middle[worse], z[worse]));
    }
    return APR_OK;
}

static enum apr_code judge_groups(struct inspection *x, struct member *member, size_t n, struct apr_error *e)
{
    double *v = malloc((3 * n + 1) * sizeof *v);
    enum apr_code code = v == NULL ? apr_no_memory(e) : APR_OK;
    qsort(member, n, sizeof *member, by_name);
    for (size_t i = 0, end; i < n && code == APR_OK; i = end) {
        for (end = i + 1; end < n && apr_bytes_equal(member[i].name, member[end].name); end++)
            ;
        if (end - i >= LEAST_LAYERS)
            code = judge(x, member + i, end - i, v, e);
    }
    free(v);
    return code;
}

enum apr_code check_layers(struct inspection *x, const struct moments *moments, struct apr_error *e)
{
    const struct apr_model *m = x->m;
    size_t bytes = 1, n = 0;
    for (size_t i = 0; i < m->ntensor; i++)
        bytes += moments[i].usable ? m->tensor[i].name.n : 0;
    char *names = malloc(bytes), *at = names;
    struct member *member = calloc(m->ntensor + 1, sizeof *member);
    enum apr_code code = names == NULL || member == NULL ? apr_no_memory(e) : APR_OK;
    for (size_t i = 0; code == APR_OK && i < m->ntensor; i++) {
        const struct apr_bytes name = m->tensor[i].name;
        if (!moments[i].usable)
            continue;
        memcpy(at, name.at, name.n);
        const struct apr_bytes general = { (const unsigned char *)at, generalise(at, name.n) };
        member[n++] = (struct member){ general, i, moments[i].mean, moments[i].std };
        at += general.n;
    }
    if (code == APR_OK)
        code = judge_groups(x, member, n, e);
    free(names);
    free(member);
    return code;
}
