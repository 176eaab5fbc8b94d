/* The encoders of this level: templates over its lanes. */
#ifdef __aarch64__
#include "values/kernels/arm/lanes4.h"

#include "values/kernels/encoders_lanes.h"

void apr_encode_neon(struct apr_kernels *k) { set_encoders(k); }
#endif
