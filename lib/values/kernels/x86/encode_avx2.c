/* The encoders of this level: templates over its lanes. */
#ifdef __x86_64__
#include "values/kernels/x86/lanes8.h"

#include "values/kernels/encoders_lanes.h"

void apr_encode_avx2(struct apr_kernels *k) { set_encoders(k); }
#endif
