/* IQ1_S and IQ1_M: each group of 8 is an entry of a codebook of tuples of -1, 0 and 1, all moved by an eighth up or down.
 *
 * A sub-block (32 elements of IQ1_S, 16 of IQ1_M) is sorted by value. Whatever its scale, the least weighted squares leave the lowest
 * elements at level 0, the next at 1 and the rest at 2: so every pair of places where levels part is tried, with each sign of the shift
 * (of IQ1_M, for each of its two groups), and the pair of the largest a * a / b is kept, the first of equal ones, where
 *     a = sum of weight * value * x    b = sum of weight * value * value    scale = a / b
 * Of IQ1_S, both sums come out of prefix sums over the sorted elements. Then groups that are not in the codebook become the entry near to
 * them that fits best, the scale is fitted again, and the sub-blocks' scales are coded in three bits. */
#include "values/kernels/iq1.h"

/* w: of an element, its importance times the root of what it and twice the mean of its block are squared, or the square alone. */
static void weigh(const float *x, const float *importance, float w[256])
{
    float sum = 0;
    for (unsigned i = 0; i < 256; i++)
        sum += x[i] * x[i];
    const float twice = 2 * sum / 256;
    for (unsigned i = 0; i < 256; i++)
        w[i] = importance ? importance[i] * sqrtf(twice + x[i] * x[i]) : x[i] * x[i];
}

/* Elements by rising value, equal ones as they come. */
static void sort(const float *x, unsigned n, uint8_t order[32])
{
    for (unsigned i = 0; i < n; i++) {
        unsigned at = i;
        for (; at > 0 && iq1_key(x[order[at - 1]]) > iq1_key(x[i]); at--)
            order[at] = order[at - 1];
        order[at] = (uint8_t)i;
    }
}

/* The best of what was tried: a * a / b, in the form that rounds as it does. */
struct best {
    float             score;
    struct iq1_split *split;
};

static void try(struct best *best, float a, float b, unsigned first, unsigned second, unsigned minus)
{
    if (!(b > 0 && a * a > best->score * b))
        return;
    struct iq1_split *const split = best->split;
    split->found = true;
    split->scale = a / b;
    best->score = split->scale * a;
    split->first = first;
    split->second = second;
    split->minus = minus;
}

static void split_s(const float *x, const float *w, const uint8_t order[32], struct iq1_split *split)
{
    struct best best = { -FLT_MAX, split };
    float sx[33] = { 0 }, sw[33] = { 0 };
    for (unsigned j = 0; j < 32; j++) {
        const unsigned i = order[j];
        sx[j + 1] = sx[j] + w[i] * x[i];
        sw[j + 1] = sw[j] + w[i];
    }
    for (unsigned first = 0; first <= 32; first++)
        for (unsigned second = first; second <= 32; second++)
            for (unsigned minus = 0; minus < 2; minus++) {
                const float *const v = iq1_value[minus];
                const float a = sx[first] * v[0] + (sx[second] - sx[first]) * v[1] + (sx[32] - sx[second]) * v[2];
                const float b = sw[first] * v[0] * v[0] + (sw[second] - sw[first]) * v[1] * v[1] + (sw[32] - sw[second]) * v[2] * v[2];
                try(&best, a, b, first, second, minus ? 15 : 0);
            }
}

/* Of IQ1_M both sums are taken anew for each pair, over the sorted elements. */
static void try_m(struct best *best, const float *x, const float *w, const uint8_t order[16], unsigned first, unsigned second)
{
    for (unsigned signs = 0; signs < 4; signs++) {
        float a = 0, b = 0;
        for (unsigned j = 0; j < 16; j++) {
            const unsigned i = order[j], minus = i < 8 ? signs >> 1 : signs & 1;
            const float v = iq1_value[minus][j < first ? 0 : j < second ? 1 : 2];
            a += w[i] * v * x[i];
            b += w[i] * v * v;
        }
        try(best, a, b, first, second, signs >> 1 | (signs & 1) << 1);
    }
}

static void split_m(const float *x, const float *w, const uint8_t order[16], struct iq1_split *split)
{
    struct best best = { -FLT_MAX, split };
    for (unsigned first = 0; first <= 16; first++)
        for (unsigned second = first; second <= 16; second++)
            try_m(&best, x, w, order, first, second);
}

static unsigned nearest(const uint16_t *tuple, unsigned n, const float *x, const float *w, float scale, const float value[4])
{
    float least = FLT_MAX;
    unsigned at = 0;
    for (unsigned k = 0; k < n; k++) {
        float sum = 0;
        for (unsigned i = 0; i < 8; i++) {
            const float e = scale * value[tuple[k] >> 2 * i & 3] - x[i];
            sum += w[i] * e * e;
        }
        if (sum < least) {
            least = sum;
            at = k;
        }
    }
    return tuple[at];
}

/* What element i of a sub-block stands for, but for the scale. */
static float value_of(const struct iq1_sub *sub, unsigned i)
{
    return iq1_value[sub->minus >> i / 8 & 1][sub->tuple[i / 8] >> 2 * (i % 8) & 3];
}

/* The scale of least weighted squares for what the groups are now. */
static void fit(struct iq1_sub *sub, const float *x, const float *w, unsigned n)
{
    float a = 0, b = 0;
    for (unsigned i = 0; i < n; i++) {
        const float v = value_of(sub, i);
        a += w[i] * v * x[i];
        b += w[i] * v * v;
    }
    if (a > 0 && b > 0)
        sub->scale = a / b;
}

typedef void split_fn(const float *x, const float *w, const uint8_t *order, struct iq1_split *split);

static void encode_sub(const struct apr_codebook *book, const float *x, const float *w, unsigned n, float least, split_fn *find,
                       struct iq1_sub *sub)
{
    uint8_t order[32];
    struct iq1_split split = { .order = order, .step = 1 };
    sort(x, n, order);
    if (apr_largest(x, n) >= least)
        find(x, w, order, &split);
    iq1_settle(book, &split, x, w, n, nearest, sub);
    if (sub->moved)
        fit(sub, x, w, n);
}

static void encode_s(const struct apr_codebook *book, const float *x, const float *importance, unsigned char *out)
{
    float w[256];
    struct iq1_sub sub[8];
    weigh(x, importance, w);
    for (unsigned s = 0; s < 8; s++)
        encode_sub(book, x + 32 * s, w + 32 * s, 32, IQ1_S_LEAST, split_s, &sub[s]);
    iq1_store_s(sub, out);
}

static void encode_m(const struct apr_codebook *book, const float *x, const float *importance, unsigned char *out)
{
    float w[256], a = 0, b = 0;
    struct iq1_sub sub[16];
    weigh(x, importance, w);
    for (unsigned s = 0; s < 16; s++)
        encode_sub(book, x + 16 * s, w + 16 * s, 16, IQ1_M_LEAST, split_m, &sub[s]);
    const struct iq1_scales scales = iq1_code_scales(sub);
    for (unsigned i = 0; i < 256; i++) {
        const float v = value_of(&sub[i / 16], i % 16) * (float)(2 * scales.code[i / 16] + 1);
        a += w[i] * v * x[i];
        b += w[i] * v * v;
    }
    iq1_store_m(sub, &scales, a, b, out);
}

static void iq1_s_weighted(const float *x, size_t nrow, size_t ncol, const float *importance, unsigned char *out)
{
    const struct apr_codebook *const book = apr_codebook(APR_BOOK_IQ1S);
    for (; nrow; nrow--)
        for (size_t i = 0; i < ncol; i += 256, x += 256, out += 50)
            encode_s(book, x, importance + i, out);
}

static void iq1_m_weighted(const float *x, size_t nrow, size_t ncol, const float *importance, unsigned char *out)
{
    const struct apr_codebook *const book = apr_codebook(APR_BOOK_IQ1S);
    for (; nrow; nrow--)
        for (size_t i = 0; i < ncol; i += 256, x += 256, out += 56)
            encode_m(book, x, importance + i, out);
}

static void iq1_m_plain(const float *x, size_t n, unsigned char *out)
{
    const struct apr_codebook *const book = apr_codebook(APR_BOOK_IQ1S);
    for (; n; n -= 256, x += 256, out += 56)
        encode_m(book, x, NULL, out);
}

void apr_iq1_encode_init(struct apr_kernels *k)
{
    k->encode_weighted[APR_IQ1_S] = iq1_s_weighted;
    k->encode[APR_IQ1_M] = iq1_m_plain;
    k->encode_weighted[APR_IQ1_M] = iq1_m_weighted;
}
