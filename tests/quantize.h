/* What the tests of quantizing share: importance matrices, and the tensors of a file as bytes. */
#ifndef APR_TESTS_QUANTIZE_H
#define APR_TESTS_QUANTIZE_H

#include "convert.h"

#define WIDE         "fixtures/wide.gguf"
#define WIDE_IMATRIX "--imatrix=fixtures/wide.imatrix.gguf"
#define OWN_IMATRIX  "--imatrix=fixtures/qwen2.imatrix.gguf"

/* An entry of an importance matrix: n weights that rise from `low`, and differ from column to column. */
struct importance {
    const char *name;
    size_t      n;
    float       low;
};

/* Writes them in the .dat form, of one call; returns "--imatrix=PATH", which stays as long as `option`. */
static inline const char *imatrix_of(const char *file, const struct importance *x, size_t n, char option[300])
{
    struct test_bytes b = { 0 };
    test_integer(&b, n, 4);
    for (size_t i = 0; i < n; i++) {
        test_integer(&b, strlen(x[i].name), 4);
        test_text(&b, x[i].name);
        test_integer(&b, 1, 4);
        test_integer(&b, x[i].n, 4);
        for (size_t k = 0; k < x[i].n; k++)
            test_floats(&b, &(float){ x[i].low + (float)(k * k % 101) }, 1);
    }
    snprintf(option, 300, "--imatrix=%s", test_file(file, b.at, b.n));
    test_free(&b);
    return option;
}

/* How many bytes at the end of a GGUF are tensors, by the report of the run that wrote it. */
static inline size_t bytes_of_tensors(const json_t *report)
{
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(at(report, "tensors")); i++)
        n += ((size_t)json_integer_value(at(json_array_get(at(report, "tensors"), i), "bytes")) + 31) / 32 * 32;
    return n;
}

/* The last n bytes of both files are the same. */
static inline void expect_same_end(const char *a, const char *b, size_t n)
{
    struct test_bytes x = test_load(a), y = test_load(b);
    if (x.n < n || y.n < n || memcmp(x.at + x.n - n, y.at + y.n - n, n) != 0)
        fail_msg("the last %zu bytes of %s (%zu) and %s (%zu) are not the same", n, a, x.n, b, y.n);
    test_free(&x);
    test_free(&y);
}

#endif
