/* A CRC is a polynomial over GF(2) modulo P, in 32 bits: bit 31 is the coefficient of x^0. A byte behind A multiplies A's by x^8, so
 * crc(AB) = crc(A) * x^(8 |B|) + crc(B): the inversions at both ends cancel, and + is exclusive or, which is its own inverse. */
#include "base/crc.h"

#include <libdeflate.h>

#define POLYNOMIAL 0xEDB88320u
#define ONE        0x80000000u /* x^0 */

uint32_t apr_crc32_of(uint32_t before, struct apr_bytes b)
{
    return b.n == 0 ? before : libdeflate_crc32(before, b.at, b.n);
}

static uint32_t times_x(uint32_t a) { return a >> 1 ^ ((a & 1) != 0 ? POLYNOMIAL : 0); }

static uint32_t product(uint32_t a, uint32_t b)
{
    uint32_t sum = 0;
    for (; a != 0; a <<= 1, b = times_x(b))
        sum ^= (a & ONE) != 0 ? b : 0;
    return sum;
}

/* x^(8 bytes), by squares. */
static uint32_t shift_by(uint64_t bytes)
{
    uint32_t power = ONE >> 8, all = ONE;
    for (; bytes != 0; bytes >>= 1, power = product(power, power))
        all = (bytes & 1) != 0 ? product(power, all) : all;
    return all;
}

uint32_t apr_crc32_joined(uint32_t a, uint32_t b, uint64_t length_of_b) { return product(shift_by(length_of_b), a) ^ b; }

uint32_t apr_crc32_behind(uint32_t ab, uint32_t a, uint64_t length_of_b) { return apr_crc32_joined(a, ab, length_of_b); }
