/* CRC-32 of parts put together; those of the parts are libdeflate's. */
#ifndef APR_CRC32_H
#define APR_CRC32_H

#include "base/core.h"

/* The CRC-32 of a and then b, from that of each and the length of b. */
uint32_t apr_crc32_join(uint32_t a, uint32_t b, uint64_t b_bytes);

#endif
