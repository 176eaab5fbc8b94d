#include "values/kernels.h"

#include <pthread.h>

#include "values/kernels/init.h"

static struct apr_kernels table[APR_NISA];

static void fill(void)
{
    for (unsigned isa = 0; isa < APR_NISA; isa++) {
        struct apr_kernels *k = &table[isa];
        k->isa = (enum apr_isa)isa;
        for (size_t i = 0; i < APR_NDTYPES; i++)
            if (apr_dtypes[i].init)
                apr_dtypes[i].init(k, k->isa);
        apr_difference_init(k, k->isa);
        apr_moments_init(k, k->isa);
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
