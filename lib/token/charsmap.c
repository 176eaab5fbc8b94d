/* A double array, as darts-clone lays it out, of units of 32 bits, little-endian:
 *   | 31: a value | 10-30: offset | 9: it counts in 256s | 8: a value hangs below | 0-7: the byte that leads here |
 * The unit for a byte below one at i is i ^ offset ^ byte; the value that hangs below it is i ^ offset itself. */
#include "token/charsmap.h"

#include <string.h>

#include "base/bytes.h"

static enum apr_code leads_out(struct apr_error *e)
{
    return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "the tokenizer's precompiled charsmap leads out of itself");
}

static bool unit(const struct apr_charsmap *m, uint32_t i, uint32_t *u)
{
    if (i >= m->units.n / 4)
        return false;
    const unsigned char *at = m->units.at + 4 * (size_t)i;
    *u = (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
    return true;
}

static uint32_t offset_of(uint32_t u) { return u >> 10 << ((u & 1u << 9) >> 6); }

static bool is_behind(uint32_t u, unsigned char byte) { return (u & (1u << 31 | 0xFF)) == byte; }

/* | u32 bytes of the array | the array | texts, each with a NUL behind it | */
enum apr_code apr_charsmap_on(struct apr_charsmap *m, struct apr_bytes bytes, struct apr_error *e)
{
    uint32_t size = 0, root, u;
    *m = (struct apr_charsmap){ .units = { bytes.at, 0 } };
    if (bytes.n == 0)
        return APR_OK;
    const struct apr_charsmap head = { .units = { bytes.at, bytes.n & ~(size_t)3 } };
    if (!unit(&head, 0, &size) || size > bytes.n - 4 || size < 4 || size % 4 != 0)
        return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "the tokenizer's precompiled charsmap has %zu bytes, and promises an array of %u",
                        bytes.n, size);
    m->units = (struct apr_bytes){ bytes.at + 4, size };
    m->texts = (struct apr_bytes){ bytes.at + 4 + size, bytes.n - 4 - size };
    if (!unit(m, 0, &root))
        return leads_out(e);
    if (!apr_is_utf8(m->texts))
        return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "the tokenizer's precompiled charsmap has texts that are not UTF-8");
    for (unsigned byte = 1; byte < 256; byte++) {
        const uint32_t at = offset_of(root) ^ byte;
        if (unit(m, at, &u) && is_behind(u, (unsigned char)byte))
            m->first[byte] = at;
    }
    return APR_OK;
}

static bool text_at(const struct apr_charsmap *m, uint32_t i, struct apr_bytes *text)
{
    i &= ~(1u << 31);
    if (i >= m->texts.n)
        return false;
    const unsigned char *at = m->texts.at + i, *end = memchr(at, 0, m->texts.n - i);
    *text = (struct apr_bytes){ at, end == NULL ? 0 : (size_t)(end - at) };
    return end != NULL && (at[0] & 0xC0) != 0x80; /* no character is cut */
}

enum apr_code apr_charsmap_find(const struct apr_charsmap *m, struct apr_bytes text, bool shortest, struct apr_mapped *found,
                                struct apr_error *e)
{
    uint32_t at = text.n == 0 ? 0 : m->first[text.at[0]], u, value = 0;
    *found = (struct apr_mapped){ 0 };
    if (at == 0)
        return APR_OK;
    for (size_t i = 1;; i++) {
        if (!unit(m, at, &u))
            return leads_out(e);
        if (!is_behind(u, text.at[i - 1]))
            break;
        at ^= offset_of(u);
        if (u & 1u << 8) {
            if (!unit(m, at, &value))
                return leads_out(e);
            found->n = i;
        }
        if (i == text.n || text.at[i] == 0 || (shortest && found->n > 0))
            break;
        at ^= text.at[i];
    }
    return found->n == 0 || text_at(m, value, &found->to) ? APR_OK : leads_out(e);
}
