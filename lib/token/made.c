/* Text that is made, character by character. */
#include "token/encode_parts.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 64

enum apr_code apr_made_too_much(struct apr_error *e)
{
    return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "the tokenizer makes more of a text than is accepted, 64 times its bytes and 64 KiB");
}

enum apr_code apr_made_add(struct apr_made *m, struct apr_bytes text, struct apr_error *e)
{
    uint64_t wanted;
    if (m->most > 0 && (m->n > m->most || text.n > m->most - m->n))
        return apr_made_too_much(e);
    if (text.n <= m->room - m->n) {
        if (text.n > 0)
            memcpy(m->at + m->n, text.at, text.n);
        m->n += text.n;
        return APR_OK;
    }
    if (!apr_add(m->n, text.n, &wanted) || !apr_mul(wanted, 2, &wanted))
        return apr_no_memory(e);
    unsigned char *const more = realloc(m->at, wanted < FIRST_ROOM ? FIRST_ROOM : wanted);
    if (more == NULL)
        return apr_no_memory(e);
    m->at = more;
    m->room = wanted < FIRST_ROOM ? FIRST_ROOM : wanted;
    return apr_made_add(m, text, e);
}

enum apr_code apr_made_character(struct apr_made *m, uint32_t c, struct apr_error *e)
{
    unsigned char s[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = { 0, 0, 0xC0, 0xE0, 0xF0 };
    for (size_t i = n; i-- > 1; c >>= 6)
        s[i] = (unsigned char)(0x80 | (c & 0x3F));
    s[0] = (unsigned char)(lead[n] | c);
    return apr_made_add(m, (struct apr_bytes){ s, n }, e);
}

uint32_t apr_character(const unsigned char *s, size_t left, size_t *n)
{
    *n = apr_utf8_length(s, left);
    switch (*n) {
    case 1:  return s[0];
    case 2:  return (uint32_t)(s[0] & 0x1F) << 6 | (s[1] & 0x3F);
    case 3:  return (uint32_t)(s[0] & 0x0F) << 12 | (uint32_t)(s[1] & 0x3F) << 6 | (s[2] & 0x3F);
    case 4:  return (uint32_t)(s[0] & 0x07) << 18 | (uint32_t)(s[1] & 0x3F) << 12 | (uint32_t)(s[2] & 0x3F) << 6 | (s[3] & 0x3F);
    default: *n = 1; return APR_NO_CHARACTER;
    }
}

bool apr_is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

enum apr_code apr_valid(struct apr_bytes text, struct apr_made *room, struct apr_bytes *valid, struct apr_error *e)
{
    static const unsigned char replacement[] = { 0xEF, 0xBF, 0xBD };
    size_t from = 0;
    room->n = 0;
    for (size_t i = 0, step; i < text.n; i += step == 0 ? 1 : step) {
        step = apr_utf8_length(text.at + i, text.n - i);
        if (step > 0)
            continue;
        APR_TRY(apr_made_add(room, (struct apr_bytes){ text.at + from, i - from }, e));
        APR_TRY(apr_made_add(room, (struct apr_bytes){ replacement, sizeof replacement }, e));
        from = i + 1;
    }
    *valid = text;
    if (from == 0)
        return APR_OK;
    APR_TRY(apr_made_add(room, (struct apr_bytes){ text.at + from, text.n - from }, e));
    *valid = (struct apr_bytes){ room->at, room->n };
    return APR_OK;
}

/* ---- bytes as characters --------------------------------------------------------------------------------------------- */

/* Bytes that show stand for themselves, the others for U+0100 and on, by their order. */
static bool shows(unsigned b) { return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD); }

static unsigned before(unsigned b) /* that do not show */
{
    return b <= 0x20 ? b : b <= 0xA0 ? b - 0x7F + 0x21 : 0x43;
}

uint32_t apr_stand_in(unsigned char byte) { return shows(byte) ? byte : 0x100 + before(byte); }

bool apr_stands_for(uint32_t c, unsigned char *byte)
{
    const unsigned k = c - 0x100;
    if (c < 0x100) {
        *byte = (unsigned char)c;
        return shows(c);
    }
    *byte = (unsigned char)(k <= 0x20 ? k : k < 0x43 ? k + 0x7F - 0x21 : 0xAD);
    return k <= 0x43;
}
