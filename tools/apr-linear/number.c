#include "number.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MOST_DIGITS 19 /* that a uint64_t always holds */
#define MOST_POWER  27 /* 5^27 is the last power that a uint64_t holds */
#define EXACT_POWER 22 /* 10^22 the last that a double holds */
#define MOST_COPIED 400
#define SHORT       19 /* bytes: a sign, eight, a point, eight, and what follows */

__extension__ typedef unsigned __int128 wide_integer;

static const double ten_to[EXACT_POWER + 1] = { 1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                                1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };

static const uint64_t whole_ten_to[] = { 1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000 };

static const uint64_t five_to[MOST_POWER + 1] = {
    1, 5, 25, 125, 625, 3125, 15625, 78125, 390625, 1953125, 9765625, 48828125, 244140625, 1220703125, 6103515625, 30517578125, 152587890625,
    762939453125, 3814697265625, 19073486328125, 95367431640625, 476837158203125, 2384185791015625, 11920928955078125, 59604644775390625,
    298023223876953125, 1490116119384765625, 7450580596923828125,
};

static double two_to(int n)
{
    const uint64_t bits = (uint64_t)(n + 1023) << 52;
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* m * 10^power rounded once, |power| <= MOST_POWER, m above 0. A quotient, or the upper half of a product, of 63 bits or more whose last
 * bit says whether anything follows rounds to 53 bits as the exact value would. */
static double compose(uint64_t m, int power)
{
    const uint64_t five = five_to[abs(power)];
    const int up = __builtin_clzll(m);
    if (power < 0) {
        const int five_up = __builtin_clzll(five);
        const uint64_t by = five << five_up;
        const wide_integer from = (wide_integer)(m << up) << 63;
        const uint64_t q = (uint64_t)(from / by);
        return (double)(q | (from - (wide_integer)q * by != 0)) * two_to(five_up - up - 63 + power);
    }
    const wide_integer product = (wide_integer)(m << up) * five;
    const uint64_t high = (uint64_t)(product >> 64), low = (uint64_t)product;
    if (high == 0)
        return (double)low * two_to(power - up);
    const int more = __builtin_clzll(high);
    const uint64_t top = more == 0 ? high : high << more | low >> (64 - more);
    return (double)(top | (low << more != 0)) * two_to(64 - more - up + power);
}

static bool is_digit(unsigned char c) { return c >= '0' && c <= '9'; }

/* The digits at the start of eight bytes, how many there are and what they say: pairs, then fours, then all at once ("Number parsing at a gigabyte
 * per second", 2021). Fewer than eight are moved to the end, behind zeros. */
static unsigned eight(const unsigned char *at, uint64_t *value)
{
    const uint64_t tops = 0x8080808080808080;
    uint64_t v;
    memcpy(&v, at, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    v ^= 0x3030303030303030; /* a digit is its number, all else is above 9 */
    const uint64_t others = (((v & ~tops) + 0x7676767676767676) | v) & tops;
    const unsigned n = others == 0 ? 8 : (unsigned)__builtin_ctzll(others) / 8;
    v = n == 0 ? 0 : v << (64 - 8 * n);
    v = v * 10 + (v >> 8);
    *value = (uint32_t)(((v & 0x000000FF000000FF) * 0x000F424000000064 + (v >> 16 & 0x000000FF000000FF) * 0x0000271000000001) >> 32);
    return n;
}

/* Digits from *at on, of which *n were taken before them; leading zeros do not count. Those that m has no room for: false. */
static bool take_digits(const unsigned char **at, const unsigned char *end, uint64_t *m, int *n)
{
    const unsigned char *s = *at;
    uint64_t value;
    while (*n == 0 && s < end && *s == '0')
        s++;
    for (unsigned now = 8; now == 8 && end - s >= 8; *n += (int)now) {
        now = eight(s, &value);
        if (*n + (int)now > MOST_DIGITS)
            return false;
        *m = *m * whole_ten_to[now] + value;
        s += now;
    }
    for (; s < end && is_digit(*s); s++, ++*n) {
        if (*n == MOST_DIGITS)
            return false;
        *m = *m * 10 + (uint64_t)(*s - '0');
    }
    *at = s;
    return true;
}

/* "e-12" at *s, if an exponent stands there, is added. */
static bool take_exponent(const unsigned char **s, const unsigned char *end, int *power)
{
    const unsigned char *at = *s;
    if (at == end || (*at | 0x20) != 'e')
        return true;
    at++;
    const bool minus = at < end && *at == '-';
    at += at < end && (*at == '-' || *at == '+');
    int n = 0;
    if (at == end || !is_digit(*at))
        return false;
    for (; at < end && is_digit(*at); at++)
        n = n < 10000 ? n * 10 + (*at - '0') : n;
    *power += minus ? -n : n;
    *s = at;
    return true;
}

/* The usual number, fewer than eight digits before a point and after it, without a jump that depends on what they are: NULL when it is another. */
static const unsigned char *take_short(const unsigned char *s, const unsigned char *end, double *v)
{
    if (end - s < SHORT)
        return NULL;
    const uint64_t minus = *s == '-';
    s += minus | (*s == '+');
    uint64_t whole, part = 0;
    unsigned nwhole = eight(s, &whole), npart = 0;
    s += nwhole;
    if (*s == '.') {
        npart = eight(++s, &part);
        s += npart;
    }
    if (nwhole == 8 || npart == 8 || nwhole + npart == 0 || (*s | 0x20) == 'e')
        return NULL;
    const double size = (double)(int64_t)(whole * whole_ten_to[npart] + part) / ten_to[npart];
    uint64_t bits;
    memcpy(&bits, &size, sizeof bits);
    bits |= minus << 63;
    memcpy(v, &bits, sizeof bits);
    return s;
}

const unsigned char *number_take(const unsigned char *at, const unsigned char *end, double *v)
{
    const unsigned char *s = take_short(at, end, v);
    if (s != NULL)
        return s;
    s = at;
    uint64_t m = 0;
    int n = 0, power = 0;
    const bool minus = s < end && *s == '-';
    s += s < end && (*s == '-' || *s == '+');
    const unsigned char *const first = s;
    if (!take_digits(&s, end, &m, &n))
        return NULL;
    ptrdiff_t digits = s - first;
    if (s < end && *s == '.') {
        const unsigned char *const point = ++s;
        if (!take_digits(&s, end, &m, &n) || s - point > 1000)
            return NULL;
        power = (int)(point - s);
        digits += s - point;
    }
    if (digits == 0 || !take_exponent(&s, end, &power))
        return NULL;
    double size = 0;
    if (m == 0)
        size = 0;
    else if (m <= (uint64_t)1 << 53 && abs(power) <= EXACT_POWER)
        size = power < 0 ? (double)m / ten_to[-power] : (double)m * ten_to[power];
    else if (abs(power) <= MOST_POWER)
        size = compose(m, power);
    else
        return NULL;
    *v = minus ? -size : size;
    return s;
}

/* The words that strtod takes for what is no finite number. */
static bool is_no_number(const char *s)
{
    s += *s == '-' || *s == '+';
    return strcasecmp(s, "nan") == 0 || strcasecmp(s, "inf") == 0 || strcasecmp(s, "infinity") == 0;
}

/* What number_take leaves: many digits, large powers, words. */
static enum number_kind read_copy(struct apr_bytes field, double *v)
{
    char small[MOST_COPIED], *const text = field.n < sizeof small ? small : malloc(field.n + 1), *end;
    if (text == NULL)
        return NUMBER_TEXT;
    memcpy(text, field.at, field.n);
    text[field.n] = 0;
    enum number_kind kind = NUMBER_TEXT;
    if (is_no_number(text)) {
        kind = NUMBER_NONE;
    } else if (strspn(text, "0123456789+-.eE") == field.n) {
        *v = strtod(text, &end);
        kind = end != text + field.n ? NUMBER_TEXT : isfinite(*v) ? NUMBER_FINITE : NUMBER_NONE;
    }
    if (text != small)
        free(text);
    return kind;
}

enum number_kind number_read(struct apr_bytes field, double *v)
{
    while (field.n > 0 && (*field.at == ' ' || (*field.at >= '\t' && *field.at <= '\r'))) {
        field.at++;
        field.n--;
    }
    if (field.n == 0)
        return NUMBER_NONE;
    return number_take(field.at, field.at + field.n, v) == field.at + field.n ? NUMBER_FINITE : read_copy(field, v);
}
