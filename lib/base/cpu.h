/* What this CPU can do. */
#ifndef APR_CPU_H
#define APR_CPU_H

#include "base/core.h"

/* Does this CPU (and kernel) have the level? APR_SCALAR always. */
bool apr_isa_has(enum apr_isa isa);
enum apr_isa apr_isa_best(void);
const char *apr_isa_word(enum apr_isa isa); /* "scalar", "neon", "avx2", "avx512" */

#endif
