/* Methods whose codes lie row by row. */
#include "family/packing_fit.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "model/fetch.h"
#include "model/model.h"
#include "values/dtype.h"

/* ---- FP8, INT8 ------------------------------------------------------------------------------------------------------ */

/* Scales by such groups: `whole` when one is for all matrices. */
struct grid {
    uint64_t rows, columns;
    bool     whole;
    unsigned kind; /* after FP8_TENSOR, INT8_TENSOR */
    uint64_t other_rows, other_columns;
};

static unsigned scales_of(const struct apr_fit *x, const struct grid *g, uint64_t dim[APR_MAX_DIMS])
{
    const struct apr_tensor *const t = &x->t;
    const unsigned batch = t->ndim > 2 ? t->ndim - 2 : 0;
    if (g->whole)
        return 0;
    memcpy(dim, t->dim, batch * sizeof *dim);
    dim[batch] = apr_ceil(x->to.nrow, g->rows);
    dim[batch + 1] = apr_ceil(x->to.ncol, g->columns);
    return batch + 2;
}

/* Blocks by how many scales there are: what the dimensions of both tell. */
static struct grid blocks_by_count(const struct apr_fit *x, const struct apr_tensor *scale)
{
    struct grid g = { .kind = 3 };
    if (scale->ndim < 2)
        return g;
    g.rows = apr_fit_share(x->to.nrow, scale->dim[scale->ndim - 2], &g.other_rows);
    g.columns = apr_fit_share(x->to.ncol, scale->dim[scale->ndim - 1], &g.other_columns);
    g.kind = g.rows == 1 ? 2 : 3;
    return g;
}

/* The grids that what was said allows, likeliest first. */
static size_t grids_of(struct apr_fit *x, const struct apr_tensor *scale, struct grid grid[6])
{
    const uint64_t nrow = x->to.nrow, ncol = x->to.ncol, last = scale->ndim == 0 ? 1 : scale->dim[scale->ndim - 1];
    const struct grid counted = blocks_by_count(x, scale);
    const enum apr_strategy by = x->said.strategy;
    const bool any = by == APR_STRATEGY_ANY;
    size_t n = 0;
    if (by == APR_STRATEGY_BLOCK)
        grid[n++] = (struct grid){ x->said.block[0], x->said.block[1], false, 3, 0, 0 };
    if (any || by == APR_STRATEGY_TENSOR) {
        grid[n++] = (struct grid){ nrow, ncol, true, 0, 0, 0 };
        grid[n++] = (struct grid){ nrow, ncol, false, 0, 0, 0 };
    }
    if (any || by == APR_STRATEGY_CHANNEL)
        grid[n++] = (struct grid){ 1, ncol, false, 1, 0, 0 };
    if (any)
        grid[n++] = (struct grid){ 128, 128, false, 3, 0, 0 };
    if ((by == APR_STRATEGY_GROUP || (any && x->said.group > 0)) && apr_fit_group(x, ncol, last) > 0)
        grid[n++] = (struct grid){ 1, apr_fit_group(x, ncol, last), false, 2, 0, 0 };
    if (any && counted.rows > 0 && counted.columns > 0)
        grid[n++] = counted;
    return n;
}

static enum apr_code fit_grid(struct apr_fit *x, const struct apr_tensor *scale, unsigned *kind, struct apr_error *e)
{
    struct grid grid[6];
    uint64_t dim[APR_MAX_DIMS];
    const size_t n = grids_of(x, scale, grid);
    const uint64_t *const block = x->said.block;
    for (size_t i = 0; i < n; i++) {
        const unsigned ndim = scales_of(x, &grid[i], dim);
        if (!apr_shape_fits(scale, dim, ndim))
            continue;
        *kind = grid[i].kind;
        if (grid[i].other_rows + grid[i].other_columns > 0)
            apr_fit_guessed(x, "blocks of %llu x %llu; other sizes fit as well", (unsigned long long)grid[i].rows,
                            (unsigned long long)grid[i].columns);
        x->to.group_rows = grid[i].rows;
        x->to.group_columns = grid[i].columns;
        x->to.ngroup = apr_ceil(x->to.ncol, grid[i].columns);
        x->to.scale_down = x->to.ngroup;
        x->to.scale_along = 1;
        x->to.scales_per_matrix = grid[i].whole ? 0 : apr_ceil(x->to.nrow, grid[i].rows) * x->to.ngroup;
        return APR_OK;
    }
    if (n == 0)
        return apr_misfit(x, scale, e, " has no group size that divides its weight's rows");
    if (x->said.strategy == APR_STRATEGY_BLOCK)
        return apr_misfit(x, scale, e, " has the shape %s, which is not that of blocks [%llu, %llu] (weight_block_size) of [%llu, %llu]",
                          apr_fit_spell(scale->dim, scale->ndim, (char[128]){ "" }), (unsigned long long)block[0],
                          (unsigned long long)block[1], (unsigned long long)x->to.nrow, (unsigned long long)x->to.ncol);
    return apr_fit_shape(x, scale, dim, scales_of(x, &grid[0], dim), e);
}

static enum apr_code take_scale(struct apr_fit *x, const struct apr_tensor **scale, struct apr_error *e)
{
    static const char *const name[] = { "_scale_inv", "_scale", ".qscale_weight", ".SCB" };
    APR_TRY(apr_fit_either(x, name, APR_LENGTH(name), scale, e));
    return *scale != NULL ? APR_OK : apr_misfit(x, x->codes, e, " has no scale");
}

enum apr_code apr_fit_values(struct apr_fit *x, struct apr_error *e)
{
    static const float of_127 = 127;
    const struct apr_tensor *const c = x->codes, *scale, *zeros;
    const bool ints = c->dtype == &apr_dtypes[APR_I8];
    unsigned kind = 0;
    if (c->ndim == 0)
        return apr_misfit(x, c, e, " is a single number");
    APR_TRY(take_scale(x, &scale, e));
    const bool bnb = apr_bytes_have(scale->name, ".SCB");
    APR_TRY(apr_fit_dims(x, c->ndim > 1 ? c->dim[c->ndim - 2] : 1, c->dim[c->ndim - 1], e));
    APR_TRY(apr_fit_scale(x, scale, e));
    if (bnb)
        x->said = (struct apr_said){ .strategy = APR_STRATEGY_CHANNEL };
    if (x->said.zeros && apr_fit_find(x, "_zero_point") == NULL)
        return apr_misfit(x, c, e, " has no _zero_point beside it, which codes that are not symmetric have");
    APR_TRY(fit_grid(x, scale, &kind, e));
    x->to.form = APR_PACKED_VALUES;
    x->to.code = c->dtype;
    x->to.stride = x->to.ncol * c->dtype->bytes;
    if ((zeros = apr_fit_take(x, "_zero_point")) != NULL) {
        APR_TRY(apr_fit_dtype(x, zeros, APR_BIT(APR_I8) | APR_BIT(APR_U8) | APR_F8S | APR_FLOATS, e));
        APR_TRY(apr_fit_shape(x, zeros, scale->dim, scale->ndim, e));
        x->to.zero_form = APR_ZERO_VALUES;
        x->to.zeros = apr_fit_part(zeros);
    }
    x->t.dtype = bnb ? &apr_dtypes[APR_BNB_INT8] : &apr_dtypes[(ints ? APR_INT8_TENSOR : APR_FP8_TENSOR) + kind];
    if (bnb) {
        x->to.factor = &of_127;
        x->to.nfactor = 1;
        x->to.divides = true;
    }
    return APR_OK;
}

/* ---- streams -------------------------------------------------------------------------------------------------------- */

/* Scales [.., nrow, ngroup] beside a stream. */
static enum apr_code fit_groups(struct apr_fit *x, const struct apr_tensor *scale, uint64_t columns, struct apr_error *e)
{
    uint64_t dim[APR_MAX_DIMS];
    struct apr_packed *const to = &x->to;
    APR_TRY(apr_fit_scale(x, scale, e));
    to->group_rows = 1;
    to->group_columns = columns;
    to->ngroup = apr_ceil(to->ncol, columns);
    to->scale_down = to->ngroup;
    to->scale_along = 1;
    to->scales_per_matrix = to->nrow * to->ngroup;
    return apr_fit_shape(x, scale, dim, scales_of(x, &(struct grid){ 1, columns, false, 0 }, dim), e);
}

/* What weight_shape says: two counts. */
static enum apr_code read_shape(struct apr_fit *x, uint64_t n[2], struct apr_error *e)
{
    const struct apr_tensor *const t = apr_fit_take(x, ".weight_shape");
    uint32_t narrow[2];
    if (t == NULL) {
        const uint64_t per_word = x->said.bits > 0 && x->said.bits <= 8 ? 32 / x->said.bits : 8;
        if (x->said.bits == 0)
            apr_fit_guessed(x, "codes of 4 bits; with neither num_bits nor .weight_shape others fit as well");
        n[0] = x->codes->dim[0];
        return apr_mul(x->codes->dim[1], per_word, &n[1]) ? APR_OK : apr_misfit(x, x->codes, e, " is larger than any weight");
    }
    APR_TRY(apr_fit_dtype(x, t, APR_BIT(APR_I64) | APR_BIT(APR_I32), e));
    APR_TRY(apr_fit_shape(x, t, (const uint64_t[]){ 2 }, 1, e));
    APR_TRY(apr_fetch_tensor(x->m, t, e));
    if (t->dtype->bytes == 8) {
        memcpy(n, t->data.at, 16);
    } else {
        memcpy(narrow, t->data.at, 8);
        n[0] = narrow[0];
        n[1] = narrow[1];
    }
    if (n[0] == 0 || n[1] == 0 || n[0] > INT32_MAX || n[1] > INT32_MAX)
        return apr_misfit(x, t, e, " holds no shape");
    return APR_OK;
}

/* Bits of a code: those that were said, else the most usual that fit. */
static unsigned bits_by_words(struct apr_fit *x, uint64_t ncol, uint64_t nword)
{
    static const unsigned usual[] = { 4, 8, 2, 3, 6, 5, 7 };
    unsigned bits = x->said.bits;
    for (size_t i = 0; x->said.bits == 0 && i < APR_LENGTH(usual); i++) {
        if (apr_ceil(ncol, 32 / usual[i]) != nword)
            continue;
        if (bits > 0 && usual[i] != 7) /* 7 bits fill words as 8 do, and nobody has them */
            apr_fit_guessed(x, "codes of %u bits; %u fit as well", bits, usual[i]);
        bits = bits > 0 ? bits : usual[i];
    }
    return bits;
}

static enum apr_code fit_int_zeros(struct apr_fit *x, struct apr_error *e)
{
    struct apr_packed *const to = &x->to;
    const struct apr_tensor *const t = apr_fit_take(x, ".weight_zero_point");
    to->zero = (float)(1u << (to->bits - 1));
    if (t == NULL && x->said.zeros)
        return apr_misfit(x, x->codes, e, " has no .weight_zero_point beside it, which codes that are not symmetric have");
    if (t == NULL)
        return APR_OK;
    APR_TRY(apr_fit_dtype(x, t, APR_BIT(APR_I32), e));
    to->zero_form = APR_ZERO_DOWN;
    to->zeros = apr_fit_part(t);
    return apr_fit_shape(x, t, (const uint64_t[]){ apr_ceil(to->nrow, to->per_word), to->ngroup }, 2, e);
}

enum apr_code apr_fit_packed_ints(struct apr_fit *x, struct apr_error *e)
{
    const struct apr_tensor *const c = x->codes, *scale, *index;
    struct apr_packed *const to = &x->to;
    uint64_t n[2], columns;
    if (c->ndim != 2)
        return apr_misfit(x, c, e, " has %u dimensions, codes of this method have two", c->ndim);
    APR_TRY(apr_fit_need(x, ".weight_scale", &scale, e));
    APR_TRY(read_shape(x, n, e));
    to->bits = bits_by_words(x, n[1], c->dim[1]);
    if (to->bits < 2 || to->bits > 8)
        return apr_misfit(x, c, e, " has codes of %u bits, 2 to 8 are known", to->bits);
    to->per_word = 32 / to->bits;
    APR_TRY(apr_fit_shape(x, c, (const uint64_t[]){ n[0], apr_ceil(n[1], to->per_word) }, 2, e));
    APR_TRY(apr_fit_dims(x, n[0], n[1], e));
    if ((columns = apr_fit_group(x, n[1], scale->ndim < 2 ? 1 : scale->dim[1])) == 0)
        columns = x->said.group > 0 ? x->said.group : n[1];
    to->form = APR_PACKED_STREAM;
    to->stride = c->dim[1] * 4;
    APR_TRY(fit_groups(x, scale, columns, e));
    APR_TRY(fit_int_zeros(x, e));
    x->t.dtype = &apr_dtypes[APR_CT_INT2 + to->bits - 2];
    if (32 % to->bits == 0)
        to->per_word = 0; /* no bits are left over; zeros are read by whole words */
    if (to->zero_form == APR_ZERO_DOWN)
        to->per_word = 32 / to->bits;
    index = apr_fit_take(x, ".weight_g_idx");
    if (index == NULL && x->said.order && to->ngroup > 1)
        return apr_misfit(x, c, e, " has no .weight_g_idx beside it, which actorder asks for");
    return index == NULL ? APR_OK : apr_fit_index(x, index, e);
}

/* ---- MLX ------------------------------------------------------------------------------------------------------------ */

static enum apr_code fit_mlx_floats(struct apr_fit *x, const struct apr_tensor *scale, struct apr_error *e)
{
    x->to.bits = 4;
    x->to.level = apr_fp4_level;
    APR_TRY(apr_fit_dims(x, x->to.nrow, x->codes->dim[x->codes->ndim - 1] * 8, e));
    APR_TRY(fit_groups(x, scale, x->said.floats, e));
    x->to.scale.dtype = &apr_dtypes[x->said.floats == 16 ? APR_F8_E4M3 : APR_F8_E8M0];
    x->t.dtype = &apr_dtypes[x->said.floats == 16 ? APR_NVFP4 : APR_MXFP4];
    return APR_OK;
}

/* Bits and columns of a group where neither is said: a group is so many bits, of which MLX makes codes in these ways. The likeliest of
 * those that fit counts. */
static void guess_mlx(struct apr_fit *x, uint64_t group_bits, unsigned *bits, uint64_t *group)
{
    static const unsigned char usual[][2] = { { 4, 64 }, { 8, 64 }, { 6, 64 }, { 3, 64 },  { 5, 64 },  { 4, 32 },  { 8, 32 },  { 6, 32 },  { 3, 32 },
                                              { 5, 32 }, { 2, 64 }, { 2, 32 }, { 4, 128 }, { 8, 128 }, { 6, 128 }, { 3, 128 }, { 5, 128 },
                                              { 2, 128 } };
    *bits = 0;
    for (size_t i = 0; i < APR_LENGTH(usual); i++) {
        const unsigned width = usual[i][0], columns = usual[i][1];
        if (group_bits != (uint64_t)width * columns)
            continue;
        if (*bits > 0)
            apr_fit_guessed(x, "%u bits in groups of %llu; %u bits in groups of %u fit as well", *bits, (unsigned long long)*group, width,
                            columns);
        *group = *bits > 0 ? *group : columns;
        *bits = *bits > 0 ? *bits : width;
    }
}

/* What is said of both, or the one from the other: ngroup groups lie in so many words. */
static enum apr_code size_mlx(struct apr_fit *x, uint64_t nword, uint64_t ngroup, uint64_t *group, struct apr_error *e)
{
    unsigned bits = x->said.bits;
    *group = x->said.group;
    if (ngroup == 0 || (bits == 0 && nword * 32 % ngroup != 0))
        return apr_misfit(x, x->codes, e, " has %llu words for %llu groups, which no weight has", (unsigned long long)nword,
                          (unsigned long long)ngroup);
    if (bits == 0 && *group > 0)
        bits = (unsigned)apr_min(nword * 32 / ngroup / *group, 99);
    else if (bits == 0)
        guess_mlx(x, nword * 32 / ngroup, &bits, group);
    else if (*group == 0)
        *group = nword * 32 / bits / ngroup;
    x->to.bits = bits;
    return *group > 0 ? APR_OK : apr_misfit(x, x->codes, e, " has %llu words for %llu groups, which no bits and no group size of MLX make",
                                            (unsigned long long)nword, (unsigned long long)ngroup);
}

enum apr_code apr_fit_mlx(struct apr_fit *x, struct apr_error *e)
{
    static const unsigned char kind[9] = { [2] = APR_MLX2, [3] = APR_MLX3, [4] = APR_MLX4, [5] = APR_MLX5, [6] = APR_MLX6, [8] = APR_MLX8 };
    const struct apr_tensor *const c = x->codes, *scale, *bias;
    struct apr_packed *const to = &x->to;
    if (c->ndim < 2)
        return apr_misfit(x, c, e, " has %u dimensions, codes of this method have two", c->ndim);
    APR_TRY(apr_fit_need(x, ".scales", &scale, e));
    const uint64_t nword = c->dim[c->ndim - 1], ngroup = scale->ndim == 0 ? 1 : scale->dim[scale->ndim - 1];
    uint64_t group;
    to->form = APR_PACKED_STREAM;
    to->nrow = c->dim[c->ndim - 2];
    to->stride = nword * 4;
    if (nword > UINT32_MAX || ngroup > UINT32_MAX)
        return apr_misfit(x, c, e, " has more weights than any model has");
    if (x->said.floats > 0)
        return fit_mlx_floats(x, scale, e);
    APR_TRY(apr_fit_need(x, ".biases", &bias, e));
    APR_TRY(size_mlx(x, nword, ngroup, &group, e));
    if (to->bits > 8 || kind[to->bits] == 0 || nword * 32 % to->bits != 0)
        return apr_misfit(x, c, e, " has codes of %u bits in %llu words, which no weight has", to->bits, (unsigned long long)nword);
    APR_TRY(apr_fit_dims(x, to->nrow, nword * 32 / to->bits, e));
    APR_TRY(fit_groups(x, scale, group, e));
    APR_TRY(apr_fit_dtype(x, bias, APR_FLOATS, e));
    APR_TRY(apr_fit_shape(x, bias, scale->dim, scale->ndim, e));
    to->bias = apr_fit_part(bias);
    x->t.dtype = &apr_dtypes[kind[to->bits]];
    return APR_OK;
}

/* ---- FP4 ------------------------------------------------------------------------------------------------------------ */

/* Pairs of codes in bytes, with a scale for so many. */
static enum apr_code fit_fp4(struct apr_fit *x, uint64_t nrow, uint64_t nbyte, const struct apr_tensor *scale, unsigned columns,
                             struct apr_error *e)
{
    if (nbyte > UINT32_MAX / 2)
        return apr_misfit(x, x->codes, e, " has more weights than any model has");
    APR_TRY(apr_fit_dims(x, nrow, 2 * nbyte, e));
    x->to.form = APR_PACKED_STREAM;
    x->to.bits = 4;
    x->to.stride = nbyte;
    x->to.level = apr_fp4_level;
    x->t.dtype = &apr_dtypes[columns == 16 ? APR_NVFP4 : APR_MXFP4];
    return fit_groups(x, scale, columns, e);
}

/* One number for the weight, or one a matrix; NULL t: none. */
static enum apr_code take_factor(struct apr_fit *x, const struct apr_tensor *t, const float **factor, uint64_t *n, struct apr_error *e)
{
    const uint64_t matrices = x->t.count / x->to.nrow / x->to.ncol;
    if (t == NULL)
        return APR_OK;
    APR_TRY(apr_fit_floats(x, t, factor, e));
    if (t->count != 1)
        APR_TRY(apr_fit_shape(x, t, &matrices, 1, e));
    *n = t->count;
    return APR_OK;
}

/* NVFP4's scale of the whole weight, which another name says that one divides by; and that of its activations. */
static enum apr_code take_nvfp4_factors(struct apr_fit *x, struct apr_error *e)
{
    static const char *const name[] = { ".weight_scale_2", ".weight_global_scale" };
    const struct apr_tensor *of;
    APR_TRY(apr_fit_either(x, name, 2, &of, e));
    if (of == NULL)
        return apr_misfit(x, x->codes, e, " has no %s beside it, by which its scales are multiplied",
                          name[apr_bytes_have(x->codes->name, "_packed")]);
    x->to.divides = apr_bytes_have(of->name, name[1]);
    APR_TRY(take_factor(x, of, &x->to.factor, &x->to.nfactor, e));
    return take_factor(x, apr_fit_take(x, x->to.divides ? ".input_global_scale" : ".input_scale"), &x->to.input, &x->to.ninput, e);
}

enum apr_code apr_fit_nvfp4(struct apr_fit *x, struct apr_error *e)
{
    const struct apr_tensor *const c = x->codes, *scale;
    if (c->ndim < 2)
        return apr_misfit(x, c, e, " has %u dimensions, codes of this method have two", c->ndim);
    APR_TRY(apr_fit_need(x, ".weight_scale", &scale, e));
    const bool e8m0 = scale->dtype == &apr_dtypes[APR_U8] || scale->dtype == &apr_dtypes[APR_F8_E8M0];
    APR_TRY(fit_fp4(x, c->dim[c->ndim - 2], c->dim[c->ndim - 1], scale, e8m0 ? 32 : 16, e));
    return e8m0 ? APR_OK : take_nvfp4_factors(x, e);
}

/* Blocks of 16 bytes, which are 32 codes, make the last dimension. */
enum apr_code apr_fit_mxfp4(struct apr_fit *x, struct apr_error *e)
{
    const struct apr_tensor *const c = x->codes, *scale;
    if (c->ndim < 3 || c->dim[c->ndim - 1] != 16)
        return apr_misfit(x, c, e, " is not made of blocks of 16 bytes");
    APR_TRY(apr_fit_need(x, "_scales", &scale, e));
    x->t.ndim = c->ndim - 1;
    if (c->dim[c->ndim - 2] > UINT32_MAX / 32)
        return apr_misfit(x, c, e, " has more weights than any model has");
    return fit_fp4(x, c->dim[c->ndim - 3], c->dim[c->ndim - 2] * 16, scale, 32, e);
}

/* Blocks of a GGUF with a factor. */
enum apr_code apr_fit_gguf(struct apr_fit *x, struct apr_error *e)
{
    const struct apr_tensor *const c = x->codes;
    if (c->ndim < 2)
        return apr_misfit(x, c, e, " has %u dimensions, codes of this method have two", c->ndim);
    APR_TRY(apr_fit_dims(x, c->dim[c->ndim - 2], c->dim[c->ndim - 1], e));
    x->to.form = APR_PACKED_BLOCKS;
    x->t.row = c->row;
    APR_TRY(take_factor(x, apr_fit_take(x, ".scale"), &x->to.factor, &x->to.nfactor, e));
    return take_factor(x, apr_fit_take(x, ".input_scale"), &x->to.input, &x->to.ninput, e);
}
