/* What the targets share. Each tests/fuzz/X.c is one door for any bytes: libFuzzer's name for it, so that `make fuzz` links it alone, and
 * fuzz_X for test_fuzz.c, which holds them all. tests/fuzz/X/ has files to begin with. */
#ifndef APR_FUZZ_H
#define APR_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/core.h"
#include "values/kernels.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static inline void fuzz_expect(bool holds)
{
    if (!holds)
        abort();
}

/* An error says something. */
static inline void fuzz_expect_error(enum apr_code code, const struct apr_error *e)
{
    fuzz_expect(code != APR_OK && e->code == code && e->text[0] != 0);
}

static inline struct apr_run fuzz_run(void)
{
    return (struct apr_run){ .threads = 1, .kernels = apr_kernels_for(APR_SCALAR), .tmpdir = "/tmp" };
}

/* The path of a file that holds the bytes, until the next call. */
static inline const char *fuzz_file(const uint8_t *bytes, size_t n)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("fuzz", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    fuzz_expect(ftruncate(fd, (off_t)n) == 0 && pwrite(fd, bytes, n, 0) == (ssize_t)n);
    return path;
}

#endif
