/* The encoders of this level: templates over its lanes. */
#ifdef __x86_64__
#include "values/kernels/x86/lanes8.h"
#include "values/kernels/k_lanes.h"
#include "values/kernels/legacy_lanes.h"
#include "values/kernels/fp4_lanes.h"
#include "values/kernels/iq4_lanes.h"
#include "values/kernels/q1_lanes.h"
#include "values/kernels/iq1_lanes.h"
#include "values/kernels/iq23_lanes.h"

void apr_encode_avx2(struct apr_kernels *k)
{
    k->encode[APR_Q1_0] = q1_0_encode;
    set_iq1_encoders(k);
    set_iq23_encoders(k);
    set_k_encoders(k);
    set_legacy_encoders(k);
    set_fp4_encoders(k);
    set_iq4_encoders(k);
}
#endif
