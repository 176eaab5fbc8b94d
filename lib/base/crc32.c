/* A CRC is a polynomial over GF(2) modulo P = x^32 + x^26 + ... + 1, here with its bits mirrored: bit 31 is the coefficient of 1, bit 0
 * that of x^31. Behind b's n bytes a stands 8n places higher, so the CRC of both is a * x^(8n) + b; the inversions at both ends of either
 * part cancel out. */
#include "base/crc32.h"

#define MIRRORED_P UINT32_C(0xEDB88320)
#define ONE        UINT32_C(0x80000000)
#define X8         UINT32_C(0x00800000) /* x^8: a byte */

/* a * b modulo P. */
static uint32_t times(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (uint32_t power = ONE; power != 0; power >>= 1) { /* b * x^i */
        if (a & power)
            product ^= b;
        b = b >> 1 ^ (b & 1 ? MIRRORED_P : 0);
    }
    return product;
}

uint32_t apr_crc32_join(uint32_t a, uint32_t b, uint64_t b_bytes)
{
    uint32_t shift = ONE;
    for (uint32_t square = X8; b_bytes != 0; b_bytes >>= 1, square = times(square, square))
        if (b_bytes & 1)
            shift = times(shift, square);
    return times(shift, a) ^ b;
}
