/* The encoders of IQ2 and IQ3, whole but for the search of one sub-block, which each ISA level has its own body for. */
#ifndef APR_KERNELS_IQ_ENCODE_H
#define APR_KERNELS_IQ_ENCODE_H

#include "values/kernels/codebook.h"
#include "values/kernels/encode.h"

#define APR_IQ_PARTS 16 /* sub-blocks of a super-block, at most */

/* Which groups are fitted again with the scale that was found. */
enum apr_iq_again {
    APR_IQ_OFF_GRID,    /* those whose levels were off the grid */
    APR_IQ_ALL_IF_ANY,  /* all, where some were off the grid or no trial was taken */
    APR_IQ_ALL_ALWAYS,
};

/* What the types differ in.
 *   n          values of a sub-block, which has a scale: 16 or 32
 *   top        the position of the highest level: 5 or 15
 *   trials     a sub-block is tried with scales for which its largest value lies at top + i * step, i from -trials to trials
 *   even       minus signs are even in number in each group of 8, and seven are stored
 *   sigma      the mean square of a super-block counts so often in the weights of values
 *   share      of it in weights without importance
 *   least      a largest value below this makes the sub-block one of zeros
 *   widen      the scale of the super-block as it is stored, times what the search found */
struct apr_iq_kind {
    enum apr_codebook_id book;
    unsigned             n;
    int                  top, trials;
    float                step;
    enum apr_iq_again    again;
    bool                 even;
    float                sigma, share, least, widen;
};

/* A sub-block: values with their signs taken off (an even number of them: a value may be left negative), weights, roots of these. */
struct apr_iq_part {
    float x[32], w[32], v[32];
};

/* What became of it. index: of entries, one for each group of 8 values (IQ2) or 4. */
struct apr_iq_fit {
    float    scale;
    uint16_t tuple[8];
};

/* What an ISA level has its own bodies for.
 *   weigh         the weights of a sub-block, and their roots: importance * sqrt(sigma2 + x^2), or share * sigma2 + x^2 without any
 *   search        finds scale and tuples of a sub-block. largest: what is to lie at the top; scale: where no trial is taken
 *   first_scales  apr_fit_positive() of the first 8, sub-blocks of 32 values, levels up to 4; the others are zeros */
typedef void apr_iq_weigh_fn(const struct apr_iq_kind *kind, const float *x, const float *importance, float sigma2,
                             struct apr_iq_part *part);
typedef void apr_iq_search_fn(const struct apr_iq_kind *kind, const struct apr_codebook *book, const struct apr_iq_part *part,
                              float largest, float scale, struct apr_iq_fit *fit);
typedef void apr_iq_first_scales_fn(const struct apr_iq_part part[APR_IQ_PARTS], float scale[APR_IQ_PARTS]);
struct apr_iq_level {
    apr_iq_weigh_fn        *weigh;
    apr_iq_search_fn       *search;
    apr_iq_first_scales_fn *first_scales;
};

/* Encoders of whole rows; importance may be NULL where the type does without. */
typedef void apr_iq_encode_fn(const struct apr_iq_level *level, const float *x, size_t nrow, size_t ncol, const float *importance,
                              unsigned char *out);
apr_iq_encode_fn apr_iq2_xxs_encode, apr_iq2_xs_encode, apr_iq2_s_encode, apr_iq3_xxs_encode, apr_iq3_s_encode;

/* The entries of the table. */
#define APR_IQ_WEIGHTED(type, level)                                                                                    \
    static void type##_weighted(const float *x, size_t nrow, size_t ncol, const float *importance, unsigned char *out)  \
    {                                                                                                                   \
        apr_##type##_encode(&level, x, nrow, ncol, importance, out);                                                    \
    }
#define APR_IQ_PLAIN(type, level)                                        \
    static void type##_plain(const float *x, size_t n, unsigned char *out) \
    {                                                                    \
        apr_##type##_encode(&level, x, 1, n, NULL, out);                 \
    }

#endif
