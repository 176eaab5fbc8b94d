/* Any bytes as an importance matrix: what is taken has names of its own, and weights that can be used. */
#include "fuzz.h"

#include <math.h>

#include "model/imatrix.h"

static void touch_weights(const struct apr_imatrix_entry *x)
{
    float weight[64];
    fuzz_expect(x->n > 0 && x->ncount > 0 && x->n % x->ncount == 0);
    for (uint64_t first = 0; first < x->n; first += 64) {
        const uint64_t n = apr_min(64, x->n - first);
        apr_imatrix_weights(x, first, n, weight);
        for (uint64_t i = 0; i < n; i++)
            fuzz_expect(isfinite(weight[i]) && weight[i] >= 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    const struct apr_run run = fuzz_run();
    struct apr_imatrix *im;
    const struct apr_imatrix_entry *x;
    struct apr_error e;
    const enum apr_code code = apr_imatrix_open(&im, fuzz_file(bytes, n), &run, &e);
    if (code != APR_OK) {
        fuzz_expect_error(code, &e);
        fuzz_expect(im == NULL && e.file[0] != 0);
        return 0;
    }
    fuzz_expect(im->nentry > 0);
    for (size_t i = 0; i < im->nentry; i++) {
        fuzz_expect(im->entry[i].name.n > 0 && apr_imatrix_find(im, im->entry[i].name) == &im->entry[i]);
        fuzz_expect(apr_imatrix_of(im, im->entry[i].name, im->entry[i].n, 1, &x, &e) == APR_OK && x == &im->entry[i]);
        touch_weights(x);
    }
    for (size_t i = 0; i < im->ndataset; i++)
        fuzz_expect(im->dataset[i].n <= n);
    fuzz_expect(apr_imatrix_unchanged(im, &e) == APR_OK);
    apr_imatrix_close(im);
    return 0;
}
