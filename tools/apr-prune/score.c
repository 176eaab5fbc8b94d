/* Scores of elements, and what is left of a matrix. */
#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "prune.h"

/* ---- scores --------------------------------------------------------------------------------------------------------- */

/* The root mean squares that belong to a row: of the columns from `col` on, or of a turned one a single number for all. */
static const float *rms_of(const struct matrix *x, uint64_t row, uint64_t col)
{
    return x->turned ? x->rms + row : x->rms + row / x->high * x->ncol + col;
}

/* An infinite weight at an input that is always 0 has a score of 0, too. */
static void weigh(const struct matrix *x, const float *value, uint64_t first, size_t n, float *score)
{
    for (size_t i = 0, now; i < n; i += now) {
        const uint64_t row = (first + i) / x->ncol, col = (first + i) % x->ncol;
        const float *const rms = rms_of(x, row, col);
        now = (size_t)apr_min(n - i, x->ncol - col);
        for (size_t k = 0; k < now; k++) {
            const float in = rms[x->turned ? 0 : k];
            score[i + k] = in > 0 ? fabsf(value[i + k]) * in : 0;
        }
    }
}

/* 30 random bits as a float: they order as the bits do, and none of them is NaN. */
static float drawn(uint64_t key, uint64_t index)
{
    const uint32_t bits = (uint32_t)(apr_draw(key, index) >> 34);
    float score;
    memcpy(&score, &bits, sizeof score);
    return score;
}

void score_elements(const struct matrix *x, const float *value, uint64_t first, size_t n, float *score)
{
    if (x->o->method == WANDA)
        weigh(x, value, first, n, score);
    for (size_t i = 0; i < n && x->o->method == MAGNITUDE; i++)
        score[i] = fabsf(value[i]);
    for (size_t i = 0; i < n && x->o->method == RANDOM; i++)
        score[i] = drawn(x->key, first + i);
}

void clean_numbers(const struct matrix *x, float *value, size_t n)
{
    for (size_t i = 0; i < n && x->o->to.nan_to_zero; i++)
        value[i] = isfinite(value[i]) ? value[i] : 0;
}

enum apr_code check_numbers(const struct matrix *x, float *value, uint64_t first, size_t n, struct apr_error *e)
{
    bool odd = false;
    clean_numbers(x, value, n);
    for (size_t i = 0; i < n; i++)
        odd |= isnan(value[i]);
    for (size_t i = 0; odd; i++)
        if (isnan(value[i]))
            return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, x->t->name,
                                   ": row %llu, column %llu is NaN, which has no place among the others",
                                   (unsigned long long)((first + i) / x->ncol), (unsigned long long)((first + i) % x->ncol));
    return APR_OK;
}

/* ---- zeros ---------------------------------------------------------------------------------------------------------- */

/* Of each group those go before which, by score and then by place, fewer stand than go. */
static void find_by_pattern(const struct matrix *x, const float *score, size_t n, bool *zero)
{
    const size_t of = (size_t)x->o->of, go = of - (size_t)x->o->stay;
    for (size_t begin = 0; begin < n; begin += of)
        for (size_t i = begin; i < begin + of; i++) {
            const float mine = score[i];
            size_t before = 0;
            for (size_t k = begin; k < i; k++)
                before += score[k] <= mine;
            for (size_t k = i + 1; k < begin + of; k++)
                before += score[k] < mine;
            zero[i] = before < go;
        }
}

static void find_by_row(const struct matrix *x, const float *score, uint64_t first, size_t n, bool *zero)
{
    for (size_t i = 0, now; i < n; i += now) {
        const uint64_t row = (first + i) / x->ncol, col = (first + i) % x->ncol;
        const struct apr_cutoff c = { .key = x->row[row].key, .end = x->row[row].end };
        now = (size_t)apr_min(n - i, x->ncol - col);
        apr_cutoff_mark(&c, score + i, col, now, zero + i);
    }
}

void find_zeros(const struct matrix *x, struct apr_window *w, const float *value, uint64_t first, size_t n, bool *zero)
{
    float score[APR_STRETCH];
    score_elements(x, value, first, n, score);
    if (x->o->of > 0 && x->turned)
        zeros_by_turned_pattern(x, w, score, first, n, zero);
    else if (x->o->of > 0)
        find_by_pattern(x, score, n, zero);
    else if (x->row != NULL && x->turned)
        zeros_of_columns(x, score, first, n, zero);
    else if (x->row != NULL)
        find_by_row(x, score, first, n, zero);
    else
        apr_cutoff_mark(&x->cutoff, score, first, n, zero);
}

/* Elements [first, first + n), which begin and end with groups. */
static void put_values(const struct matrix *x, struct apr_window *w, uint64_t first, size_t n, float *value, double *wide)
{
    bool zero[APR_STRETCH];
    if (wide != NULL) {
        apr_input_doubles(&x->in, w, first, n, wide);
        for (size_t i = 0; i < n; i++)
            value[i] = (float)wide[i];
        for (size_t i = 0; i < n && x->o->to.nan_to_zero; i++)
            wide[i] = isfinite(wide[i]) ? wide[i] : 0;
    } else {
        apr_input_floats(&x->in, w, first, n, value);
    }
    clean_numbers(x, value, n);
    find_zeros(x, w, value, first, n, zero);
    for (size_t i = 0; i < n; i++) { /* without a branch that nothing could foresee */
        uint32_t bits;
        memcpy(&bits, value + i, sizeof bits);
        bits &= (uint32_t)zero[i] - 1;
        memcpy(value + i, &bits, sizeof bits);
    }
    for (size_t i = 0; i < n && wide != NULL; i++)
        wide[i] = zero[i] ? 0 : wide[i];
}

/* By groups where a pattern tells; at either end more is made than is wanted. */
void pruned_values(const struct apr_computation *c, struct apr_window *w, uint64_t first, size_t n, void *out)
{
    const struct matrix *const x = (const struct matrix *)(const void *)c;
    const uint64_t of = group_length(x), end = first + n, most = APR_STRETCH - APR_STRETCH % of;
    float value[APR_STRETCH];
    double wide[APR_STRETCH];
    for (uint64_t begin = first - first % of, now; begin < end; begin += now) {
        now = apr_min(most, (end - begin + of - 1) / of * of);
        put_values(x, w, begin, (size_t)now, value, x->in.wide ? wide : NULL);
        const uint64_t from = begin > first ? begin : first, to = apr_min(begin + now, end);
        if (x->in.wide)
            memcpy((double *)out + (from - first), wide + (from - begin), (size_t)(to - from) * sizeof *wide);
        else
            memcpy((float *)out + (from - first), value + (from - begin), (size_t)(to - from) * sizeof *value);
    }
}
