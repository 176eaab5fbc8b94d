/* apr_dot_fn: rows as they are stored, one position. A template, included by dot_avx512.c and dot_avx2.c, which define
 *     LEVEL, LANE  the level's target attribute; with inline
 *     PER_SUM      registers of doubles of 16 lanes
 *     doubles      such a register; none() zeros, folded() PER_SUM of them as one sum, as apr_fold()
 *     prepared     a struct: what is made of a block before its products are added
 *     add_floats   adds 16 products to a sum: of 8 floats, 8 more, and of x */
#ifndef APR_KERNELS_X86_DOT_LANES_H
#define APR_KERNELS_X86_DOT_LANES_H

#define AHEAD 1024u

/* How far ahead, in bytes, a row of so many is asked for before it is needed: rows are short, and what lies between two is not foreseen.
 * They are side by side as a rule, and of two at a time the first AHEAD bytes of the second would be asked for too late, unless the same
 * place of the next two is. */
static inline size_t bytes_ahead(size_t row) { return row > AHEAD && row < 8 * AHEAD ? 2 * row : AHEAD; }

/* `adds` adds the products of one block, of so many elements and bytes, to a row's sum; `last` those of fewer elements. Two rows at a time,
 * as an addition waits for the one before it in its lane. What `prepares` writes of a block is read a block later: what is read right after
 * it was written is waited for. */
#define DOT(name, block, bytes, prepares, adds, last)                                                          \
    LEVEL static void name(const unsigned char *const *row, size_t nrow, const double *x, size_t n, double *y) \
    {                                                                                                          \
        const size_t ahead = bytes_ahead(n / (block) * (bytes));                                               \
        for (size_t r = 0; r < nrow; r += 2) {                                                                 \
            const unsigned char *a = row[r], *b = row[r + 1 < nrow ? r + 1 : r];                               \
            struct prepared prepared[2][2];                                                                    \
            unsigned now = 0;                                                                                  \
            doubles sum[2][PER_SUM];                                                                           \
            UNROLL                                                                                             \
            for (unsigned i = 0; i < 2 * PER_SUM; i++)                                                         \
                sum[i / PER_SUM][i % PER_SUM] = none();                                                        \
            if (n >= (block)) {                                                                                \
                prepares(a, &prepared[0][0]);                                                                  \
                prepares(b, &prepared[0][1]);                                                                  \
            }                                                                                                  \
            size_t i = 0;                                                                                      \
            for (; n - i >= (block); i += (block), a += (bytes), b += (bytes), now = 1 - now) {                \
                UNROLL                                                                                         \
                for (unsigned line = 0; line < (bytes); line += 64) {                                          \
                    __builtin_prefetch(a + ahead + line);                                                      \
                    __builtin_prefetch(b + ahead + line);                                                      \
                }                                                                                              \
                if (n - i >= 2 * (block)) {                                                                    \
                    prepares(a + (bytes), &prepared[1 - now][0]);                                              \
                    prepares(b + (bytes), &prepared[1 - now][1]);                                              \
                }                                                                                              \
                adds(a, &prepared[now][0], x + i, sum[0]);                                                     \
                adds(b, &prepared[now][1], x + i, sum[1]);                                                     \
            }                                                                                                  \
            last(a, x + i, n - i, sum[0]);                                                                     \
            last(b, x + i, n - i, sum[1]);                                                                     \
            y[r] = folded(sum[0]);                                                                             \
            if (r + 1 < nrow)                                                                                  \
                y[r + 1] = folded(sum[1]);                                                                     \
        }                                                                                                      \
    }

/* Where nothing is to be prepared. */
#define SIMPLE_DOT(name, block, bytes, adds, last)                                                                   \
    LANE void name##_adds(const unsigned char *in, const struct prepared *p, const double *x, doubles sum[PER_SUM])  \
    {                                                                                                                \
        (void)p;                                                                                                     \
        adds(in, x, sum);                                                                                            \
    }                                                                                                                \
    DOT(name, block, bytes, nothing, name##_adds, last)
LANE void nothing(const unsigned char *in, struct prepared *p) { (void)in, (void)p; }

/* Plain types have blocks of one element and are taken by 16. The last ones are filled up with zeros: to a lane, which is never -0, they
 * add nothing. */
#define PLAIN_DOT(name, bytes, adds)                                                                   \
    LANE void adds##_last(const unsigned char *in, const double *x, size_t n, doubles sum[PER_SUM])    \
    {                                                                                                  \
        unsigned char w[16 * (bytes)] = { 0 };                                                         \
        double filled[16] = { 0 };                                                                     \
        if (n > 0) {                                                                                   \
            memcpy(w, in, n * (bytes));                                                                \
            memcpy(filled, x, n * sizeof *x);                                                          \
            adds(w, filled, sum);                                                                      \
        }                                                                                              \
    }                                                                                                  \
    SIMPLE_DOT(name, 16, 16 * (bytes), adds, adds##_last)

LANE __m256 bf16_8(const unsigned char *in) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load16(in)), 16)); }
LANE void bf16(const unsigned char *in, const double *x, doubles sum[PER_SUM]) { add_floats(bf16_8(in), bf16_8(in + 16), x, sum); }

LANE void f16(const unsigned char *in, const double *x, doubles sum[PER_SUM])
{
    add_floats(_mm256_cvtph_ps(load16(in)), _mm256_cvtph_ps(load16(in + 16)), x, sum);
}

LANE void f32(const unsigned char *in, const double *x, doubles sum[PER_SUM])
{
    add_floats(_mm256_castsi256_ps(load32(in)), _mm256_castsi256_ps(load32(in + 32)), x, sum);
}

PLAIN_DOT(bf16_dot, 2, bf16)
PLAIN_DOT(f16_dot, 2, f16)
PLAIN_DOT(f32_dot, 4, f32)

static void set_plain_dots(struct apr_kernels *k)
{
    k->dot[APR_BF16] = bf16_dot;
    k->dot[APR_F16] = f16_dot;
    k->dot[APR_F32] = f32_dot;
}

#endif
