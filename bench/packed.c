#include "packed.h"

#include <stdlib.h>
#include <string.h>

#define ROWS    64u
#define COLUMNS 4096u
#define COUNT   (ROWS * COLUMNS)
#define OUT     4096u /* rows whose words lie side by side, so that those of one row lie far apart */

static unsigned char codes[OUT * COLUMNS], scales[COUNT], zeros[COUNT];
static float level[16];

#define OF(dtype, bytes) { &apr_dtypes[dtype], { bytes, sizeof bytes }, 0 }
#define F16_SCALE .scale = OF(APR_F16, scales)
#define ROWWISE(columns) \
    .nrow = ROWS, .ncol = COLUMNS, .matrix_bytes = sizeof codes, .group_rows = 1, .group_columns = columns, .ngroup = COLUMNS / (columns), \
    .scale_down = COLUMNS / (columns), .scale_along = 1
#define DOWNWARD(columns) \
    .nrow = OUT, .ncol = COLUMNS, .matrix_bytes = sizeof codes, .group_rows = 1, .group_columns = columns, .ngroup = COLUMNS / (columns), \
    .scale_down = 1, .scale_along = OUT, .zeros = OF(APR_I32, zeros)

#define WORDS_DOWN .stride = OUT * 4, .zero_form = APR_ZERO_ALONG, .zero = 1, F16_SCALE

static const float factor = 1.25f;

static struct made {
    enum apr_dtype_id id;
    struct apr_packed p;
} made[] = {
    { APR_FP8_BLOCK, { ROWWISE(128), .form = APR_PACKED_VALUES, .code = &apr_dtypes[APR_F8_E4M3], .stride = COLUMNS, F16_SCALE } },
    { APR_INT8_CHANNEL, { ROWWISE(COLUMNS), .form = APR_PACKED_VALUES, .code = &apr_dtypes[APR_I8], .stride = COLUMNS, F16_SCALE } },
    { APR_GPTQ4, { DOWNWARD(128), .form = APR_PACKED_DOWN, .bits = 4, WORDS_DOWN } },
    { APR_GPTQ8, { DOWNWARD(128), .form = APR_PACKED_DOWN, .bits = 8, WORDS_DOWN } },
    { APR_GPTQ3, { DOWNWARD(128), .form = APR_PACKED_DOWN, .bits = 3, WORDS_DOWN } },
    { APR_AWQ4, { DOWNWARD(128), .form = APR_PACKED_EIGHTS, .bits = 4, .stride = OUT / 8 * 4, .zero_form = APR_ZERO_EIGHTS,
                  F16_SCALE } },
    { APR_NF4, { .form = APR_PACKED_STREAM, .bits = 4, .nibbles_turned = true, .nrow = 1, .ncol = COUNT, .stride = COUNT / 2, .group_rows = 1,
                 .group_columns = 64, .ngroup = COUNT / 64, .scale_along = 1, .level = level, F16_SCALE } },
    { APR_CT_INT4, { ROWWISE(128), .form = APR_PACKED_STREAM, .bits = 4, .stride = COLUMNS / 2, .zero = 8, F16_SCALE } },
    { APR_CT_INT8, { ROWWISE(128), .form = APR_PACKED_STREAM, .bits = 8, .stride = COLUMNS, .zero = 128, F16_SCALE } },
    { APR_MLX4, { ROWWISE(64), .form = APR_PACKED_STREAM, .bits = 4, .stride = COLUMNS / 2, .bias = OF(APR_F16, zeros), F16_SCALE } },
    { APR_MLX6, { ROWWISE(64), .form = APR_PACKED_STREAM, .bits = 6, .stride = COLUMNS / 4 * 3, .bias = OF(APR_F16, zeros), F16_SCALE } },
    { APR_MLX2, { ROWWISE(64), .form = APR_PACKED_STREAM, .bits = 2, .stride = COLUMNS / 4, .bias = OF(APR_F16, zeros), F16_SCALE } },
    { APR_MXFP4, { ROWWISE(32), .form = APR_PACKED_STREAM, .bits = 4, .stride = COLUMNS / 2, .level = apr_fp4_level,
                   .scale = OF(APR_F8_E8M0, scales) } },
    { APR_NVFP4, { ROWWISE(16), .form = APR_PACKED_STREAM, .bits = 4, .stride = COLUMNS / 2, .level = apr_fp4_level, .factor = &factor,
                   .nfactor = 1, .scale = OF(APR_F8_E4M3, scales) } },
};

static void fill(void)
{
    uint64_t x = 1;
    for (size_t i = 0; i < sizeof codes; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        codes[i] = (unsigned char)(x >> 24);
        zeros[i % COUNT] = (unsigned char)(x >> 32 & 0x37);
        scales[i % COUNT] = (unsigned char)(x >> 40 & 0x37); /* as halves or small floats, too: finite */
    }
    for (unsigned i = 0; i < 16; i++)
        level[i] = (float)i / 8 - 1;
}

const struct apr_tensor *bench_packed(size_t i)
{
    static struct apr_tensor t[APR_LENGTH(made)];
    if (t[0].count == 0)
        fill();
    for (size_t k = 0; k < APR_LENGTH(made); k++) {
        struct apr_packed *const p = &made[k].p;
        p->serial = k + 1;
        t[k] = (struct apr_tensor){ .dtype = &apr_dtypes[made[k].id], .count = p->nrow * p->ncol, .row = p->ncol,
                                    .data = { codes, sizeof codes }, .packed = p };
    }
    return i < APR_LENGTH(made) ? &t[i] : NULL;
}
