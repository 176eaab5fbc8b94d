/* CRC-32 as zlib has it (reflected 0xEDB88320, inverted on both ends), of bytes and of what is known by its CRC alone. */
#ifndef APR_CRC_H
#define APR_CRC_H

#include "base/core.h"

/* The CRC of what `before` is the CRC of (0: nothing) with b behind it. */
uint32_t apr_crc32_of(uint32_t before, struct apr_bytes b);

/* The CRC of AB, from a, the CRC of A, and b, the CRC of B, which has length_of_b bytes. Parts can be summed on any threads and joined.
 * Takes time in the logarithm of the length. */
uint32_t apr_crc32_joined(uint32_t a, uint32_t b, uint64_t length_of_b);

/* The other way round: the CRC of B, from those of AB and of A. So a header can be exchanged without a look at the data behind it. */
uint32_t apr_crc32_behind(uint32_t ab, uint32_t a, uint64_t length_of_b);

#endif
