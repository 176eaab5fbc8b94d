#include "packed.h"

#include <stdlib.h>
#include <string.h>

#define ROWS    4096u
#define COLUMNS 4096u
#define COUNT   (ROWS * COLUMNS)

static unsigned char codes[COUNT / 32 * 34], scales[COUNT / 16], zeros[COUNT / 16]; /* codes: also of Q8_0 */
static float level[16];

#define SCALE(type)    .scale = { &apr_dtypes[type], { scales, sizeof scales }, 0 }
#define F16_SCALE      SCALE(APR_F16)
#define F16_BIAS       .bias = { &apr_dtypes[APR_F16], { zeros, sizeof zeros }, 0 }
#define GROUPS(columns) \
    .nrow = ROWS, .ncol = COLUMNS, .matrix_bytes = sizeof codes, .group_rows = 1, .group_columns = columns, .ngroup = COLUMNS / (columns)
#define ROWWISE(columns) GROUPS(columns), .scale_down = COLUMNS / (columns), .scale_along = 1
#define STREAM(b)        .form = APR_PACKED_STREAM, .bits = b, .stride = COLUMNS * (b) / 8
#define DOWNWARD \
    GROUPS(128), .scale_down = 1, .scale_along = ROWS, F16_SCALE, .zeros = { &apr_dtypes[APR_I32], { zeros, sizeof zeros }, 0 }
#define GPTQ(b)          DOWNWARD, .form = APR_PACKED_DOWN, .bits = b, .stride = ROWS * 4, .zero_form = APR_ZERO_ALONG, .zero = 1
#define VALUES(type)     .form = APR_PACKED_VALUES, .code = &apr_dtypes[type], .stride = COLUMNS, F16_SCALE

static const float factor = 1.25f;

static struct made {
    enum apr_dtype_id id;
    struct apr_packed p;
} made[] = {
    { APR_FP8_BLOCK, { ROWWISE(128), VALUES(APR_F8_E4M3) } },
    { APR_INT8_CHANNEL, { ROWWISE(COLUMNS), VALUES(APR_I8) } },
    { APR_GPTQ4, { GPTQ(4) } },
    { APR_GPTQ8, { GPTQ(8) } },
    { APR_GPTQ3, { GPTQ(3) } },
    { APR_AWQ4, { DOWNWARD, .form = APR_PACKED_EIGHTS, .bits = 4, .stride = ROWS / 8 * 4, .zero_form = APR_ZERO_EIGHTS } },
    { APR_NF4, { .form = APR_PACKED_STREAM, .bits = 4, .nibbles_turned = true, .nrow = 1, .ncol = COUNT, .stride = COUNT / 2,
                 .group_rows = 1, .group_columns = 64, .ngroup = COUNT / 64, .scale_along = 1, .level = level, F16_SCALE } },
    { APR_CT_INT4, { ROWWISE(128), STREAM(4), .zero = 8, F16_SCALE } },
    { APR_CT_INT8, { ROWWISE(128), STREAM(8), .zero = 128, F16_SCALE } },
    { APR_MLX4, { ROWWISE(64), STREAM(4), F16_BIAS, F16_SCALE } },
    { APR_MLX6, { ROWWISE(64), STREAM(6), F16_BIAS, F16_SCALE } },
    { APR_MLX2, { ROWWISE(64), STREAM(2), F16_BIAS, F16_SCALE } },
    { APR_MXFP4, { ROWWISE(32), STREAM(4), .level = apr_fp4_level, SCALE(APR_F8_E8M0) } },
    { APR_NVFP4, { ROWWISE(16), STREAM(4), .level = apr_fp4_level, .factor = &factor, .nfactor = 1, SCALE(APR_F8_E4M3) } },
};
static const enum apr_dtype_id blocks[] = { APR_Q4_0, APR_Q8_0, APR_Q6_K, APR_Q2_K, APR_Q3_K, APR_MXFP4, APR_NVFP4 };

static void fill(void)
{
    uint64_t x = 1;
    for (size_t i = 0; i < sizeof codes; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        codes[i] = (unsigned char)(x >> 24);
        zeros[i % sizeof zeros] = (unsigned char)(x >> 32 & 0x37);
        scales[i % sizeof scales] = (unsigned char)(x >> 40 & 0x37); /* as halves or small floats, too: finite */
    }
    for (unsigned i = 0; i < 16; i++)
        level[i] = (float)i / 8 - 1;
}

const struct apr_tensor *bench_packed(size_t i)
{
    static struct apr_tensor t[APR_LENGTH(made) + APR_LENGTH(blocks)];
    if (t[0].count == 0)
        fill();
    for (size_t k = 0; k < APR_LENGTH(t); k++) {
        struct made *const m = k < APR_LENGTH(made) ? &made[k] : NULL;
        const enum apr_dtype_id id = m != NULL ? m->id : blocks[k - APR_LENGTH(made)];
        t[k] = (struct apr_tensor){ .dtype = &apr_dtypes[id], .count = COUNT, .row = COLUMNS, .data = { codes, sizeof codes } };
        if (m == NULL)
            continue;
        m->p.serial = k + 1;
        t[k].packed = &m->p;
        t[k].row = m->p.ncol;
    }
    return i < APR_LENGTH(t) ? &t[i] : NULL;
}
