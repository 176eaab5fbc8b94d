#include "base/cpu.h"

#ifdef __x86_64__
#include <cpuid.h>

/* The register state that the system saves at a task switch; only to be asked where OSXSAVE is set. */
static uint32_t saved_state(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static bool has(unsigned bits, unsigned wanted)
{
    return (bits & wanted) == wanted;
}

static enum apr_isa best(void)
{
    const unsigned ymm = 0x06, zmm = 0xe6; /* of XCR0 */
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C))
        return APR_SCALAR;
    const uint32_t state = saved_state();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !has(b, bit_AVX2) || !has(state, ymm))
        return APR_SCALAR;
    return has(b, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL) && has(state, zmm) ? APR_AVX512 : APR_AVX2;
}

bool apr_isa_has(enum apr_isa isa)
{
    return isa == APR_SCALAR || (isa != APR_NEON && isa <= best());
}
#else
static enum apr_isa best(void)
{
#ifdef __aarch64__
    return APR_NEON;
#else
    return APR_SCALAR;
#endif
}

bool apr_isa_has(enum apr_isa isa)
{
    return isa == APR_SCALAR || isa == best();
}
#endif

enum apr_isa apr_isa_best(void)
{
    return best();
}

const char *apr_isa_word(enum apr_isa isa)
{
    static const char *const word[APR_NISA] = {
        [APR_SCALAR] = "scalar", [APR_NEON] = "neon", [APR_AVX2] = "avx2", [APR_AVX512] = "avx512",
    };
    return word[isa];
}
