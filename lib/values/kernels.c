#include "values/kernels.h"

#include <math.h>
#include <pthread.h>

#include "values/dtype.h"
#include "values/kernels/init.h"

static struct apr_kernels table[APR_NISA];

/* The bodies of other machines are not there. */
static void set_encoders(struct apr_kernels *k)
{
#if APR_X86
    if (k->isa == APR_AVX512 && APR_WIDE)
        apr_encode_avx512(k);
    else if (k->isa >= APR_AVX2)
        apr_encode_avx2(k);
#elif APR_ARM
    if (k->isa == APR_NEON)
        apr_encode_neon(k);
#else
    (void)k;
#endif
}

static void fill(void)
{
    for (unsigned isa = 0; isa < APR_NISA; isa++) {
        struct apr_kernels *k = &table[isa];
        k->isa = (enum apr_isa)isa;
        for (size_t i = 0; i < APR_NDTYPES; i++)
            if (apr_dtypes[i].init)
                apr_dtypes[i].init(k, k->isa);
        set_encoders(k);
        apr_difference_init(k, k->isa);
        apr_moments_init(k, k->isa);
        apr_dots_init(k, k->isa);
        apr_packed_init(k, k->isa);
    }
}

const struct apr_kernels *apr_kernels_for(enum apr_isa isa)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fill);
    return &table[isa];
}

double apr_fold(const double lane[APR_LANES])
{
    double s[APR_LANES];
    memcpy(s, lane, sizeof s);
    for (unsigned half = APR_LANES / 2; half; half /= 2)
        for (unsigned i = 0; i < half; i++)
            s[i] += s[i + half];
    return s[0];
}

double apr_cosine(double ab, double aa, double bb)
{
    if (aa == 0 || bb == 0)
        return aa == bb;
    const double product = aa * bb;
    const double cosine = isnormal(product) ? ab / sqrt(product) : ab / sqrt(aa) / sqrt(bb);
    return cosine > 1 ? 1 : cosine < -1 ? -1 : cosine;
}

double apr_norm_ratio(double aa, double bb)
{
    if (aa == 0)
        return bb == 0 ? 1 : NAN;
    const double ratio = bb / aa;
    return bb == 0 || isnormal(ratio) ? sqrt(ratio) : sqrt(bb) / sqrt(aa);
}

double apr_scale_allowed(double floor) { return floor < 1 ? sqrt(2 * (1 - floor)) : 0; }

bool apr_is_unlike(double cosine, double largest, double floor, double allowed)
{
    return !(cosine >= floor) || (floor >= 1 && !(allowed > 0) && largest > 0);
}

bool apr_is_scaled(double ratio, double allowed) { return !(ratio > 0) || !((ratio > 1 ? ratio : 1 / ratio) - 1 <= allowed); }

/* A float whose exponent has all its bits: in an f16 there are 5 of them, in an f32 8, below the sign. */
static bool is_bad(const unsigned char *block, const struct apr_field *f)
{
    const unsigned char *const end = block + f->at + apr_field_width(f->kind);
    const unsigned high = (unsigned)end[-1] << 8 | end[-2], exponent = f->kind == APR_FIELD_F16 ? 0x7C00 : 0x7F80;
    return (high & exponent) == exponent;
}

const char *apr_bad_scale(const struct apr_kernels *k, const struct apr_dtype *d, const unsigned char *block)
{
    apr_bad_scale_fn *const own = k->bad_scale[apr_dtype_id(d)];
    if (own != NULL)
        return own(block);
    for (const struct apr_field *f = d->field; f < d->field + APR_MAX_FIELDS && f->n > 0; f++)
        if ((f->kind == APR_FIELD_F16 || f->kind == APR_FIELD_F32) && is_bad(block, f))
            return f->name;
    return NULL;
}
