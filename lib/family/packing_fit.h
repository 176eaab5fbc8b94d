/* The methods of packing.h: one row each, and what puts the stored tensors of a weight together. */
#ifndef APR_PACKING_FIT_H
#define APR_PACKING_FIT_H

#include "base/arena.h"
#include "family/packing_said.h"
#include "values/packed.h"

#define APR_MOST_PARTS 9

/* Codes on their way to a weight.
 *   stem    of the codes' name, before the method's suffix; module: the same without ".weight"
 *   method  by the word that config.json has for it
 *   t, to   what is being made, to's pointers into the arena
 *   part    the tensors that were used so far
 *   guess   how it was read, where it may be read in another way as well; "": nothing else fits */
struct apr_fit {
    const struct apr_kernels *k;
    const struct apr_model   *m;
    struct apr_arena        **arena;
    const struct apr_tensor  *codes;
    struct apr_bytes          stem, module, method;
    struct apr_said           said;
    struct apr_tensor         t;
    struct apr_packed         to;
    const struct apr_tensor  *part[APR_MOST_PARTS];
    size_t                    npart;
    char                      guess[160];
};

/* APR_ECORRUPT with the tensor that does not fit and why, APR_ENOMEM, APR_EIO of a helper behind an address that cannot be fetched. */
typedef enum apr_code apr_fit_fn(struct apr_fit *x, struct apr_error *e);

/* A method. Its codes are called STEM + codes and have one of the dtypes; one of the helpers `needs` is there, of one of its dtypes.
 *   helper  all that belong to such codes; those that begin with a dot follow the module, others the stem; ends with NULL
 *   weight  what stands in the place of `codes` in the name of the weight
 *   is      what decides where that is not enough; or NULL */
struct apr_packing_method {
    const char  *name, *codes;
    uint64_t     dtypes;
    const char  *needs[3];
    uint64_t     needs_dtypes;
    const char  *helper[10];
    const char  *weight;
    bool       (*is)(const struct apr_fit *x);
    apr_fit_fn  *fit;
};

extern const struct apr_packing_method apr_packing_methods[];
extern const size_t                    apr_packing_nmethod;

/* The tensor of the weight's module or stem with this ending, or NULL. */
const struct apr_tensor *apr_fit_find(const struct apr_fit *x, const char *helper);

apr_fit_fn apr_fit_values, apr_fit_packed_ints, apr_fit_mlx, apr_fit_nvfp4, apr_fit_mxfp4, apr_fit_gguf; /* packing_rows.c */
apr_fit_fn apr_fit_gptq, apr_fit_awq, apr_fit_bnb4;                                                      /* packing_words.c */

/* ---- what they share (packing_fit.c) -------------------------------------------------------------------------------- */

/* The helper, remembered as a part: NULL when it is absent. fit_need: a fault then. */
const struct apr_tensor *apr_fit_take(struct apr_fit *x, const char *helper);
APR_MUST_CHECK enum apr_code apr_fit_need(struct apr_fit *x, const char *helper, const struct apr_tensor **t, struct apr_error *e);

/* The one of these helpers that is there, remembered; NULL when none is. Two are a fault: which counts, nothing tells. */
APR_MUST_CHECK enum apr_code apr_fit_either(struct apr_fit *x, const char *const *helper, size_t n, const struct apr_tensor **t,
                                            struct apr_error *e);

/* What nothing says and shapes leave open: how it was read, and how else it may be. The first such is kept. */
void apr_fit_guessed(struct apr_fit *x, const char *format, ...) APR_PRINTF(2, 3);

/* A fault that names tensor and weight: `tensor "a.scales" ` and what is said of it. */
APR_MUST_CHECK enum apr_code apr_misfit(const struct apr_fit *x, const struct apr_tensor *t, struct apr_error *e, const char *format, ...)
    APR_PRINTF(4, 5);

/* Is it of that shape, dims of 1 aside? Else a fault with both shapes. */
APR_MUST_CHECK enum apr_code apr_fit_shape(const struct apr_fit *x, const struct apr_tensor *t, const uint64_t *dim, unsigned ndim,
                                           struct apr_error *e);
const char *apr_fit_spell(const uint64_t *dim, unsigned ndim, char text[128]);
bool apr_shape_fits(const struct apr_tensor *t, const uint64_t *dim, unsigned ndim);
static inline bool apr_matrix_fits(const struct apr_tensor *t, uint64_t a, uint64_t b)
{
    return apr_shape_fits(t, (const uint64_t[]){ a, b }, 2);
}

/* One of these dtypes? Else a fault. */
#define APR_BIT(dtype) (UINT64_C(1) << (dtype))
#define APR_F8S        (APR_BIT(APR_F8_E4M3) | APR_BIT(APR_F8_E5M2) | APR_BIT(APR_F8_E4M3FNUZ) | APR_BIT(APR_F8_E5M2FNUZ))
#define APR_FLOATS     (APR_BIT(APR_F32) | APR_BIT(APR_F16) | APR_BIT(APR_BF16))
APR_MUST_CHECK enum apr_code apr_fit_dtype(const struct apr_fit *x, const struct apr_tensor *t, uint64_t dtypes, struct apr_error *e);

/* The scales, of a dtype that scales may have; bytes are exponents. */
APR_MUST_CHECK enum apr_code apr_fit_scale(struct apr_fit *x, const struct apr_tensor *t, struct apr_error *e);
struct apr_packed_part apr_fit_part(const struct apr_tensor *t);

/* Copies small numbers, as floats, into the arena. */
APR_MUST_CHECK enum apr_code apr_fit_floats(struct apr_fit *x, const struct apr_tensor *t, const float **out, struct apr_error *e);

/* Groups of the columns that an index tells: count of them, each below ngroup; one that says what group_columns says is not kept. */
APR_MUST_CHECK enum apr_code apr_fit_index(struct apr_fit *x, const struct apr_tensor *t, struct apr_error *e);

/* How many of n share one of so many scales when nothing says it: what divides n, the power of two that leaves a shorter last group, or 0.
 * *other is the power of two where both fit, else 0. */
uint64_t apr_fit_share(uint64_t n, uint64_t nscale, uint64_t *other);

/* How many columns have a scale, when there are ngroup of them: by what was said, else as above, which may be a guess; 0: none fits. */
uint64_t apr_fit_group(struct apr_fit *x, uint64_t ncol, uint64_t ngroup);

/* Sets shape and count: the dims of the codes with the last two replaced. */
APR_MUST_CHECK enum apr_code apr_fit_dims(struct apr_fit *x, uint64_t nrow, uint64_t ncol, struct apr_error *e);

#endif
