/* All templates of encoders, for the lanes that were included before. */
#ifndef APR_KERNELS_ENCODERS_LANES_H
#define APR_KERNELS_ENCODERS_LANES_H

#include "values/kernels/fp4_lanes.h"
#include "values/kernels/iq1_lanes.h"
#include "values/kernels/iq23_lanes.h"
#include "values/kernels/iq4_lanes.h"
#include "values/kernels/k_lanes.h"
#include "values/kernels/legacy_lanes.h"
#include "values/kernels/q1_lanes.h"

static inline void set_encoders(struct apr_kernels *k)
{
    k->encode[APR_Q1_0] = q1_0_encode;
    set_fp4_encoders(k);
    set_iq1_encoders(k);
    set_iq23_encoders(k);
    set_iq4_encoders(k);
    set_k_encoders(k);
    set_legacy_encoders(k);
}

#endif
