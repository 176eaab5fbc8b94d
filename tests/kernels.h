/* What the tests of kernels share: walking the tables, random numbers, bytes that end at a page nobody may touch. */
#ifndef APR_TESTS_KERNELS_H
#define APR_TESTS_KERNELS_H

#include "support.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "values/dtype.h"
#include "values/kernels.h"

#define LONG_RUN 65536u /* elements */

static uint64_t seed;

static inline uint64_t next(void)
{
    uint64_t z = seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* The end of writable bytes, right before a page that nobody may touch. */
static inline unsigned char *guarded(size_t n)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (n + page - 1) / page * page;
    unsigned char *at = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(at != MAP_FAILED);
    assert_int_equal(mprotect(at + room, page, PROT_NONE), 0);
    return at + room;
}

static inline void decode(const struct apr_kernels *k, const struct apr_dtype *d, const unsigned char *head, const unsigned char *in,
                          size_t n, void *out)
{
    if (d->wide)
        k->decode_wide[apr_dtype_id(d)](head, in, n, out);
    else
        k->decode[apr_dtype_id(d)](head, in, n, out);
}

#define FOR_LEVELS(k)                                                                                    \
    for (unsigned isa_ = 0; isa_ < APR_NISA; isa_++)                                                     \
        for (const struct apr_kernels *k = apr_isa_has((enum apr_isa)isa_) ? apr_kernels_for((enum apr_isa)isa_) : NULL; k; k = NULL)

#define FOR_DTYPES(d) for (const struct apr_dtype *d = apr_dtypes; d < apr_dtypes + APR_NDTYPES; d++)

static inline struct test_bytes vector(const char *name, const char *suffix)
{
    char path[128];
    snprintf(path, sizeof path, "fixtures/vectors/%s.%s", name, suffix);
    return test_load(path);
}

#endif
