#include "base/base64.h"

#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

struct apr_bytes apr_base64_encode(struct apr_arena **a, struct apr_bytes bytes)
{
    const size_t n = (bytes.n + 2) / 3 * 4;
    char *const out = apr_arena_alloc(a, n + 1);
    if (out == NULL)
        return (struct apr_bytes){ 0 };
    for (size_t i = 0, at = 0; i < bytes.n; i += 3, at += 4) {
        const size_t left = bytes.n - i;
        const uint32_t three = (uint32_t)bytes.at[i] << 16 | (left > 1 ? (uint32_t)bytes.at[i + 1] << 8 : 0) | (left > 2 ? bytes.at[i + 2] : 0);
        for (unsigned k = 0; k < 4; k++)
            out[at + k] = k > left ? '=' : digits[three >> (18 - 6 * k) & 63];
    }
    return (struct apr_bytes){ (const unsigned char *)out, n };
}

/* 0 to 63, or 64 for what is no digit. */
static uint32_t value_of(unsigned char c)
{
    const char *const at = c == 0 ? NULL : memchr(digits, c, 64);
    return at == NULL ? 64 : (uint32_t)(at - digits);
}

bool apr_base64_decode(struct apr_arena **a, struct apr_bytes text, struct apr_bytes *out)
{
    size_t padding = 0;
    *out = (struct apr_bytes){ 0 };
    while (padding < 2 && padding < text.n && text.at[text.n - 1 - padding] == '=')
        padding++;
    if (text.n % 4 != 0)
        return false;
    unsigned char *const bytes = apr_arena_alloc(a, text.n / 4 * 3 + 1);
    if (bytes == NULL)
        return false;
    size_t n = 0;
    uint32_t bits = 0;
    for (size_t i = 0; i < text.n; i++) {
        const uint32_t v = i < text.n - padding ? value_of(text.at[i]) : 0;
        if (v > 63)
            return false;
        bits = bits << 6 | v;
        if (i % 4 == 3)
            for (unsigned k = 0; k < 3; k++)
                bytes[n++] = (unsigned char)(bits >> (16 - 8 * k));
    }
    *out = (struct apr_bytes){ bytes, n - padding };
    return true;
}
