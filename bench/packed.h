/* Packed weights to measure, put together by hand, and after them weights of blocks, to compare with: 4096 rows of 4096 columns. */
#ifndef APR_BENCH_PACKED_H
#define APR_BENCH_PACKED_H

#include "values/packed.h"

/* Weight number i, NULL behind the last. Its codes are random, its scales are numbers. */
const struct apr_tensor *bench_packed(size_t i);

#endif
