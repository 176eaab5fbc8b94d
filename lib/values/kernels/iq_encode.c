/* Encoders of IQ2 and IQ3. A super-block of 256 falls into sub-blocks of 16 or 32 values with a scale each, these into groups of 8 or 4
 * that are entries of a codebook, apart from their signs. An entry's positions are odd numbers, 2l + 1 for level l; a value is about
 * scale * position. The codebook has few of the tuples of levels that there are: where the nearest levels of a group are off the grid,
 * the best of the entries around them is taken. */
#include "values/kernels/iq_encode.h"

#include "values/kernels/search.h"

enum { SUPER = 256 };

/* ---- the search for the scale and the tuples of a sub-block ------------------------------------------------------------ */

static inline unsigned level_of(const struct apr_codebook *b, uint16_t tuple, unsigned i)
{
    return (unsigned)tuple >> i * b->bits & ((1u << b->bits) - 1);
}

/* The tuple of levels nearest to x * per_scale. */
static uint16_t nearest_levels(const struct apr_codebook *b, const float *x, float per_scale)
{
    unsigned tuple = 0;
    for (unsigned i = 0; i < b->width; i++)
        tuple |= (unsigned)apr_clamp(apr_nearest(0.5f * (per_scale * x[i] - 1)), 0, (int)b->levels - 1) << i * b->bits;
    return (uint16_t)tuple;
}

/* Of the entries near a tuple that is off the grid the one with the least error, the first of several:
 *     sum of v * (scale * position - x)^2 */
static uint16_t best_neighbour(const struct apr_codebook *b, uint32_t at, const float *x, const float *v, float scale)
{
    const uint16_t *const near = b->list + apr_near_first(at);
    float least = FLT_MAX;
    unsigned best = 0;
    for (unsigned k = 0; k < apr_near_count(at); k++) {
        float sum = 0;
        for (unsigned i = 0; i < b->width; i++) {
            const float e = scale * (float)(2 * level_of(b, near[k], i) + 1) - x[i];
            sum += v[i] * e * e;
        }
        if (sum < least) {
            least = sum;
            best = k;
        }
    }
    return near[best];
}

/* The entry for a group, and whether its nearest levels were one. */
static uint16_t pick(const struct apr_codebook *b, const float *x, const float *v, float per_scale, float scale, bool *on_grid)
{
    const uint16_t tuple = nearest_levels(b, x, per_scale);
    *on_grid = !(b->at[tuple] & APR_OFF_GRID);
    return *on_grid ? tuple : best_neighbour(b, b->at[tuple], x, v, scale);
}

/* The best scale for positions r is a / b, and leaves the less the larger a * a / b is. */
struct sums {
    float a, b; /* of w * x * r and of w * r * r */
};

static struct sums fit(const struct apr_codebook *b, const struct apr_iq_part *p, unsigned n, const uint16_t *tuple)
{
    struct sums s = { 0, 0 };
    for (unsigned i = 0; i < n; i++) {
        const float r = (float)(2 * level_of(b, tuple[i / b->width], i % b->width) + 1);
        s.a += p->w[i] * p->x[i] * r;
        s.b += p->w[i] * r * r;
    }
    return s;
}

/* The groups once more, with a scale that was fitted to all. */
static void pick_again(const struct apr_iq_kind *kind, const struct apr_codebook *b, const struct apr_iq_part *p, const bool *on_grid,
                            struct apr_iq_fit *f)
{
    for (unsigned g = 0; g < kind->n / b->width; g++) {
        bool unused;
        if (kind->again != APR_IQ_OFF_GRID || !on_grid[g])
            f->tuple[g] = pick(b, p->x + g * b->width, p->v + g * b->width, 1 / f->scale, f->scale, &unused);
    }
    const struct sums s = fit(b, p, kind->n, f->tuple);
    if (s.b > 0)
        f->scale = s.a / s.b;
}

static void search_part(const struct apr_iq_kind *kind, const struct apr_codebook *b, const struct apr_iq_part *p, float largest,
                        float scale, struct apr_iq_fit *f)
{
    const unsigned ngroup = kind->n / b->width;
    bool on_grid[8], off = kind->again != APR_IQ_OFF_GRID;
    float best = 0;
    memset(on_grid, 1, sizeof on_grid);
    *f = (struct apr_iq_fit){ .scale = scale };
    for (int k = -kind->trials; k <= kind->trials; k++) {
        const float per_scale = ((float)kind->top + (float)k * kind->step) / largest;
        uint16_t tuple[8];
        bool on[8];
        for (unsigned g = 0; g < ngroup; g++)
            tuple[g] = pick(b, p->x + g * b->width, p->v + g * b->width, per_scale, 1 / per_scale, &on[g]);
        const struct sums s = fit(b, p, kind->n, tuple);
        if (s.b > 0 && s.a * s.a > best * s.b) {
            f->scale = s.a / s.b;
            best = f->scale * s.a;
            memcpy(f->tuple, tuple, ngroup * sizeof *tuple);
            memcpy(on_grid, on, ngroup * sizeof *on);
            off = kind->again == APR_IQ_ALL_ALWAYS;
            for (unsigned g = 0; g < ngroup; g++)
                off |= !on[g];
        }
    }
    if (off && f->scale > 0)
        pick_again(kind, b, p, on_grid, f);
}

/* ---- one super-block ------------------------------------------------------------------------------------------------- */

/* A super-block as numbers: scales of its sub-blocks as codes of four bits in steps of d; indices of entries; signs of groups of 8. */
struct super {
    float    d;
    uint8_t  code[APR_IQ_PARTS];
    bool     skipped[APR_IQ_PARTS]; /* for having no value of any size */
    uint16_t index[64];
    uint8_t  sign[32];
};

/* Takes the signs off 8 values; returns them, bit i for value i. There shall be an even number of them: else the value that weighs
 * least, the first of several, gets the other one, and is itself left negative, or made so. Of the eight the last is then not stored. */
static uint8_t take_signs(const float *x, const float *w, bool even, float *magnitude)
{
    unsigned signs = 0, least_at = 0;
    float least = w[0] * x[0] * x[0];
    for (unsigned i = 0; i < 8; i++) {
        const float cost = w[i] * x[i] * x[i];
        magnitude[i] = x[i] >= 0 ? x[i] : -x[i];
        signs |= (unsigned)!(x[i] >= 0) << i;
        if (cost < least) {
            least = cost;
            least_at = i;
        }
    }
    if (!even)
        return (uint8_t)signs;
    if (__builtin_parity(signs)) {
        magnitude[least_at] = -magnitude[least_at];
        signs ^= 1u << least_at;
    }
    return signs & 127;
}

static float largest_of(const float *x, unsigned n)
{
    float most = x[0];
    for (unsigned i = 1; i < n; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

/* Sub-block number `at` of a super-block; returns its scale. first_scale is for a type that begins with one. */
static float encode_part(const struct apr_iq_kind *k, const struct apr_codebook *b, const struct apr_iq_level *level,
                         const struct apr_iq_part *p, float first_scale, unsigned at, struct super *s)
{
    struct apr_iq_fit f;
    uint8_t *const sign = s->sign + at * k->n / 8;
    float largest = largest_of(p->x, k->n), scale = largest / (float)k->top;
    s->skipped[at] = largest < k->least;
    if (k->again == APR_IQ_ALL_ALWAYS) {
        scale = first_scale;
        largest = scale * 3;
        s->skipped[at] |= !(largest > 0);
    }
    if (s->skipped[at]) {
        memset(sign, 0, k->n / 8);
        memset(s->index + at * k->n / b->width, 0, k->n / b->width * sizeof *s->index);
        return 0;
    }
    level->search(k, b, p, largest, scale, &f);
    for (unsigned g = 0; g < k->n / 8 && f.scale < 0; g++)
        sign[g] = (uint8_t)~sign[g] & (k->even ? 127 : 255);
    for (unsigned g = 0; g < k->n / b->width; g++)
        s->index[at * k->n / b->width + g] = (uint16_t)b->at[f.tuple[g]];
    return fabsf(f.scale);
}

/* Copies a super-block; zeros stand for what is not finite. Returns whether there was an infinity. */
static bool copy_finite(const float *x, float *y)
{
    bool infinite = false;
    for (unsigned i = 0; i < SUPER; i++) {
        infinite |= isinf(x[i]) != 0;
        y[i] = isfinite(x[i]) ? x[i] : 0;
    }
    return infinite;
}

/* A super-block whose scales are all 0 is one of zeros; types with all signs stored keep the codes that were found. An infinity makes d
 * infinite. */
static void encode_super(const struct apr_iq_kind *k, const struct apr_codebook *b, const struct apr_iq_level *level,
                         const float *in, const float *importance, struct super *s)
{
    struct apr_iq_part part[APR_IQ_PARTS];
    float x[SUPER], scale[APR_IQ_PARTS] = { 0 }, sum = 0, most = 0;
    const bool infinite = copy_finite(in, x);
    memset(part + SUPER / k->n, 0, sizeof part - SUPER / k->n * sizeof *part);
    for (unsigned i = 0; i < SUPER; i++)
        sum += x[i] * x[i];
    for (unsigned at = 0; at < SUPER / k->n; at++) {
        const float *const w = importance ? importance + at * k->n : NULL;
        level->weigh(k, x + at * k->n, w, k->sigma * sum / SUPER, &part[at]);
        for (unsigned g = at * k->n / 8, i = 0; i < k->n; g++, i += 8)
            s->sign[g] = take_signs(x + 8 * g, part[at].w + i, k->even, part[at].x + i);
    }
    if (k->again == APR_IQ_ALL_ALWAYS)
        level->first_scales(part, scale);
    for (unsigned at = 0; at < SUPER / k->n; at++) {
        scale[at] = encode_part(k, b, level, &part[at], scale[at], at, s);
        most = scale[at] > most ? scale[at] : most;
    }
    const float d = most / 31, per_d = 1 / d;
    for (unsigned at = 0; at < SUPER / k->n; at++)
        s->code[at] = (uint8_t)(most > 0 ? apr_clamp(apr_nearest(0.5f * (per_d * scale[at] - 1)), 0, 15) : 0);
    if (!(most > 0) && k->even)
        memset(s, 0, sizeof *s);
    s->d = infinite ? INFINITY : most > 0 ? d * k->widen : 0;
}

/* ---- the types --------------------------------------------------------------------------------------------------------- */

static void store32(unsigned char *p, uint32_t v)
{
    apr_store16(p, (uint16_t)v);
    apr_store16(p + 2, (uint16_t)(v >> 16));
}

/* Two codes of four bits a byte, the first low. */
static void store_codes(const uint8_t *code, unsigned n, unsigned char *out)
{
    for (unsigned i = 0; i < n; i += 2)
        *out++ = (unsigned char)(code[i] | code[i + 1] << 4);
}

/* u32: four 7-bit signs, 4-bit scale */
static void store_signs_and_scale(const struct super *s, unsigned at, unsigned char *out)
{
    const uint8_t *const sign = s->sign + 4 * at;
    store32(out, sign[0] | (uint32_t)sign[1] << 7 | (uint32_t)sign[2] << 14 | (uint32_t)sign[3] << 21 | (uint32_t)s->code[at] << 28);
}

/* | f16 d | 8 of: 4 indices, u32: four 7-bit signs, 4-bit scale | */
static void store_iq2_xxs(const struct super *s, unsigned char *out)
{
    apr_store_scale(out, s->d);
    for (unsigned at = 0; at < 8; at++) {
        for (unsigned g = 0; g < 4; g++)
            out[2 + 8 * at + g] = (unsigned char)s->index[4 * at + g];
        store_signs_and_scale(s, at, out + 6 + 8 * at);
    }
}

/* | f16 d | 32 u16: 9-bit index, 7-bit signs | 8: 4-bit scales | */
static void store_iq2_xs(const struct super *s, unsigned char *out)
{
    apr_store_scale(out, s->d);
    for (unsigned g = 0; g < 32; g++)
        apr_store16(out + 2 + 2 * g, (uint16_t)(s->index[g] | s->sign[g] << 9));
    store_codes(s->code, 16, out + 66);
}

/* | f16 d | 32: indices | 32: signs | 8: the indices' bits 8, 9 | 8: 4-bit scales | */
static void store_iq2_s(const struct super *s, unsigned char *out)
{
    apr_store_scale(out, s->d);
    memcpy(out + 34, s->sign, 32);
    for (unsigned g = 0; g < 32; g++)
        out[2 + g] = (unsigned char)s->index[g];
    for (unsigned q = 0; q < 8; q++) {
        const uint16_t *const index = s->index + 4 * q;
        out[66 + q] = (unsigned char)(index[0] >> 8 | index[1] >> 8 << 2 | index[2] >> 8 << 4 | index[3] >> 8 << 6);
    }
    store_codes(s->code, 16, out + 74);
}

/* | f16 d | 64: indices | 8 u32: four 7-bit signs, 4-bit scale | */
static void store_iq3_xxs(const struct super *s, unsigned char *out)
{
    apr_store_scale(out, s->d);
    for (unsigned g = 0; g < 64; g++)
        out[2 + g] = (unsigned char)s->index[g];
    for (unsigned at = 0; at < 8; at++)
        store_signs_and_scale(s, at, out + 66 + 4 * at);
}

/* | f16 d | 64: indices | 8: the indices' bits 8 | 32: signs | 4: 4-bit scales |
 * The reference has a defect that its files are the same with: where a sub-block was skipped, being all zeros, the indices and signs of
 * those after it move up into its place; bits 8 and scales do not. They decode to other values then. */
static void store_iq3_s(const struct super *s, unsigned char *out)
{
    memset(out, 0, 110);
    apr_store_scale(out, s->d);
    for (unsigned at = 0, place = 0; at < 8; at++) {
        for (unsigned g = 0; g < 8; g++) {
            out[66 + at] |= (unsigned char)(s->index[8 * at + g] >> 8 << g);
            out[2 + 8 * place + g] = (unsigned char)s->index[8 * at + g];
        }
        memcpy(out + 74 + 4 * place, s->sign + 4 * at, 4);
        place += !s->skipped[at];
    }
    store_codes(s->code, 8, out + 106);
}

typedef void store_fn(const struct super *s, unsigned char *out);

static void encode_rows(const struct apr_iq_kind *k, store_fn *put, unsigned bytes, const struct apr_iq_level *level,
                        const float *x, size_t nrow, size_t ncol, const float *importance, unsigned char *out)
{
    const struct apr_codebook *const b = apr_codebook(k->book);
    for (; nrow; nrow--)
        for (size_t i = 0; i < ncol; i += SUPER, x += SUPER, out += bytes) {
            struct super s;
            encode_super(k, b, level, x, importance ? importance + i : NULL, &s);
            put(&s, out);
        }
}

static void first_scales(const struct apr_iq_part part[APR_IQ_PARTS], float scale[APR_IQ_PARTS])
{
    uint8_t unused[32];
    for (unsigned at = 0; at < SUPER / 32; at++)
        scale[at] = apr_fit_positive(part[at].x, 32, 4, part[at].w, unused);
}

static void weigh(const struct apr_iq_kind *k, const float *x, const float *importance, float sigma2, struct apr_iq_part *p)
{
    for (unsigned i = 0; i < k->n; i++) {
        const float square = x[i] * x[i];
        p->w[i] = importance ? importance[i] * sqrtf(sigma2 + square) : k->share > 0 ? k->share * sigma2 + square : square;
        p->v[i] = sqrtf(p->w[i]);
    }
}

static const struct apr_iq_level scalar = { weigh, search_part, first_scales };

/* The encoder of a type and its scalar table entries. */
#define ENCODER(type, bytes, ...)                                                                                                 \
    void apr_##type##_encode(const struct apr_iq_level *level, const float *x, size_t nrow, size_t ncol, const float *importance, \
                             unsigned char *out)                                                                                  \
    {                                                                                                                             \
        static const struct apr_iq_kind kind = { __VA_ARGS__ };                                                                   \
        encode_rows(&kind, store_##type, bytes, level, x, nrow, ncol, importance, out);                                           \
    }                                                                                                                             \
    APR_IQ_WEIGHTED(type, scalar)

ENCODER(iq2_xxs, 66, .book = APR_BOOK_IQ2XXS, .n = 32, .top = 5, .trials = 6, .step = 0.1f, .again = APR_IQ_ALL_ALWAYS, .even = true,
        .sigma = 1, .least = 1e-15f, .widen = 1)
ENCODER(iq2_xs, 74, .book = APR_BOOK_IQ2XS, .n = 16, .top = 5, .trials = 9, .step = 0.1f, .again = APR_IQ_OFF_GRID, .even = true,
        .sigma = 1, .least = 1e-15f, .widen = 1)
ENCODER(iq2_s, 82, .book = APR_BOOK_IQ2S, .n = 16, .top = 5, .trials = 9, .step = 0.1f, .again = APR_IQ_OFF_GRID, .sigma = 2,
        .share = 0.25f, .least = 1e-8f, .widen = 0.9875f)
ENCODER(iq3_xxs, 98, .book = APR_BOOK_IQ3XXS, .n = 32, .top = 15, .trials = 15, .step = 0.2f, .again = APR_IQ_OFF_GRID, .even = true,
        .sigma = 2, .least = 1e-8f, .widen = 1.0125f)
ENCODER(iq3_s, 110, .book = APR_BOOK_IQ3S, .n = 32, .top = 15, .trials = 9, .step = 0.2f, .again = APR_IQ_ALL_IF_ANY, .sigma = 2,
        .least = 0x1p-149f, .widen = 1.033f)
APR_IQ_PLAIN(iq2_s, scalar)
APR_IQ_PLAIN(iq3_xxs, scalar)
APR_IQ_PLAIN(iq3_s, scalar)

void apr_iq_encode_init(struct apr_kernels *k)
{
    k->encode[APR_IQ2_S] = iq2_s_plain;
    k->encode[APR_IQ3_XXS] = iq3_xxs_plain;
    k->encode[APR_IQ3_S] = iq3_s_plain;
    k->encode_weighted[APR_IQ2_XXS] = iq2_xxs_weighted;
    k->encode_weighted[APR_IQ2_XS] = iq2_xs_weighted;
    k->encode_weighted[APR_IQ2_S] = iq2_s_weighted;
    k->encode_weighted[APR_IQ3_XXS] = iq3_xxs_weighted;
    k->encode_weighted[APR_IQ3_S] = iq3_s_weighted;
}
