/* How often each magnitude occurs among some values. */
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "flow/input.h"

static unsigned class_of(double v)
{
    const float f = (float)fabs(v);
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return (unsigned)apr_min(bits >> 16, 0x7F7F);
}

static double value_of(unsigned k)
{
    const uint32_t bits = (uint32_t)k << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return (double)f;
}

void count_classes(const struct apr_input *in, struct apr_window *w, uint64_t begin, uint64_t end, uint64_t of[CLASSES])
{
    double v[APR_STRETCH];
    for (uint64_t at = begin; at < end; at += APR_STRETCH) {
        const size_t n = (size_t)apr_min(APR_STRETCH, end - at);
        apr_input_doubles(in, w, at, n, v);
        for (size_t i = 0; i < n; i++)
            if (isfinite(v[i]) && v[i] != 0)
                of[class_of(v[i])]++;
    }
}

double middle_of_classes(const uint64_t of[CLASSES])
{
    uint64_t all = 0, below = 0;
    unsigned k = 0;
    for (unsigned i = 0; i < CLASSES; i++)
        all += of[i];
    while (k + 1 < CLASSES && below + of[k] < (all + 1) / 2)
        below += of[k++];
    return value_of(k);
}

enum apr_code add_to_census(struct census *c, const uint64_t of[CLASSES], struct apr_error *e)
{
    size_t n = 0, old = 0;
    for (uint32_t k = 0, i = 0; k < CLASSES; k++) {
        const bool has = i < c->n && c->at[i].class == k;
        n += has || of[k] > 0;
        i += has;
    }
    struct counted *const at = malloc((n + 1) * sizeof *at);
    if (at == NULL)
        return apr_no_memory(e);
    n = 0;
    for (uint32_t k = 0; k < CLASSES; k++) {
        const bool has = old < c->n && c->at[old].class == k;
        if (has || of[k] > 0)
            at[n++] = (struct counted){ k, of[k] + (has ? c->at[old].n : 0) };
        old += has;
    }
    free(c->at);
    *c = (struct census){ at, n };
    return APR_OK;
}
