/* The searches of llama.cpp's quantizers: a scale, and often a min, that make the weighted error of n values small, and the integer level
 * of each. Nothing is the least error there is; what is tried, and in which order, decides the bytes. Operations are f32, each rounded on
 * its own, sums in order of i. Levels are the nearest integers, ties to even (apr_nearest), clamped. */
#ifndef APR_KERNELS_SEARCH_H
#define APR_KERNELS_SEARCH_H

#include "values/kernels/encode.h"

/* Where all magnitudes of a block are less there is nothing to scale. */
#define APR_ALMOST_NOTHING 1e-15f

/* Values about scale * (level - half), levels 0 .. 2 half - 1. The value farthest from 0 is tried at level 0 less `slack` tenths,
 * slack from -9 to 9, 0 first; the scale that fits the levels of each best is A / B,
 *     A = sum of w x (level - half), B = sum of w (level - half)^2,    and A^2 / B tells how well.
 * Returns the scale, 0 when all is less than 1e-15: levels are 0 then, not half.
 *   weight  n of them, or NULL for x * x */
float apr_fit_around(const float *x, unsigned n, int half, const float *weight, uint8_t *level);

/* The same with weights x * x and the farthest value at level 0, after which each level in turn goes where it fits the others best, five
 * rounds at most. */
float apr_fit_by_turns(const float *x, unsigned n, int half, uint8_t *level);

/* Which scales apr_fit_from_min tries: those that take its range to largest + first + k * step, k from 0 to nstep. */
struct apr_steps {
    int      largest;
    float    first, step;
    unsigned nstep;
    bool     absolute; /* errors count by magnitude, not by square */
};

/* Those of K types, and of all blocks with importance. */
static const struct apr_steps apr_q2_steps = { 3, -0.5f, 0.1f, 15, true }, apr_q4_steps = { 15, -1.0f, 0.1f, 20, false },
                              apr_q5_steps = { 31, -0.5f, 0.1f, 15, false };
static inline struct apr_steps apr_weighted_steps(int largest) { return (struct apr_steps){ largest, -0.9f, 0.05f, 36, false }; }

/* Values about scale * level - *min, levels 0 .. largest, *min not negative. For each scale that is tried, the line that fits its levels
 * best; what makes the error less than any before is kept, and its min is that of the scales tried next. Returns the scale, 0 when all
 * values are the same and positive ones are none. */
float apr_fit_from_min(const float *x, unsigned n, const float *weight, const struct apr_steps *s, uint8_t *level, float *min);

/* Values that are not negative about scale * level, levels 0 .. largest: the best of nine scales by error, then turns as above. Levels are
 * kept in a byte whatever comes. Returns the scale, 0 when all is less than 1e-15. */
float apr_fit_positive(const float *x, unsigned n, int largest, const float *weight, uint8_t *level);

/* What the plain fits leave to those who have the rounded scale: levels once more, unless the scale is 0. */
void apr_level_around(const float *x, unsigned n, float scale, int half, uint8_t *level);
void apr_level_from_min(const float *x, unsigned n, float scale, float min, int largest, uint8_t *level);

/* weight[i] = importance[i] * sqrt(variance + x[i]^2) */
void apr_weigh(const float *x, size_t n, const float *importance, float variance, float *weight);

/* The sum of squares, in order. */
float apr_sum_of_squares(const float *x, size_t n);

#endif
