#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/core.h"

size_t apr_utf8_length(const unsigned char *s, size_t n)
{
    if (n == 0)
        return 0;
    if (s[0] < 0x80)
        return 1;
    const size_t length = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4 || length > n)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    const unsigned second = s[1];
    const bool overlong = (s[0] == 0xE0 && second < 0xA0) || (s[0] == 0xF0 && second < 0x90);
    const bool beyond = (s[0] == 0xED && second > 0x9F) || (s[0] == 0xF4 && second > 0x8F); /* surrogates, above U+10FFFF */
    return overlong || beyond ? 0 : length;
}

/* Of three bytes, second and third: U+200E, U+200F, U+2028 .. U+202E, U+2066 .. U+2069. */
static bool turns_or_breaks(unsigned second, unsigned third)
{
    return (second == 0x80 && ((third >= 0x8E && third <= 0x8F) || (third >= 0xA8 && third <= 0xAE))) ||
           (second == 0x81 && third >= 0xA6 && third <= 0xA9);
}

size_t apr_shown_length(const unsigned char *s, size_t n)
{
    const size_t length = apr_utf8_length(s, n);
    const bool control = length == 1 && (s[0] < 0x20 || s[0] == 0x7F);
    const bool c1_or_mark = length == 2 && ((s[0] == 0xC2 && s[1] < 0xA0) || (s[0] == 0xD8 && s[1] == 0x9C)); /* U+061C */
    return control || c1_or_mark || (length == 3 && s[0] == 0xE2 && turns_or_breaks(s[1], s[2])) ? 0 : length;
}

/* Copies s into out (room bytes with the terminator), what may not be shown as \xNN; false when it was cut. */
static bool make_printable(char *out, size_t room, const unsigned char *s, size_t n)
{
    size_t o = 0;
    for (size_t i = 0; i < n;) {
        const size_t length = apr_shown_length(s + i, n - i), needs = length > 0 ? length : 4;
        if (o + needs >= room) {
            out[o] = 0;
            return false;
        }
        if (length > 0)
            memcpy(out + o, s + i, length);
        else
            snprintf(out + o, 5, "\\x%02x", s[i]);
        o += needs;
        i += length > 0 ? length : 1;
    }
    out[o] = 0;
    return true;
}

enum apr_code apr_fail(struct apr_error *e, enum apr_code code, uint64_t at, const char *format, ...)
{
    char raw[sizeof e->text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(raw, sizeof raw, format, arguments);
    va_end(arguments);
    e->code = code;
    e->finding = NULL;
    e->tensor_bytes = 0;
    e->at = at;
    e->file[0] = 0;
    make_printable(e->text, sizeof e->text, (const unsigned char *)raw, strlen(raw));
    return code;
}

enum apr_code apr_fail_tensor(struct apr_error *e, enum apr_code code, uint64_t at, struct apr_bytes name, const char *format, ...)
{
    char behind[sizeof e->text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(behind, sizeof behind, format, arguments);
    va_end(arguments);
    apr_fail(e, code, at, "tensor %s%s", APR_QUOTED(name), behind);
    if (name.n > 0 && name.n <= sizeof e->tensor) {
        memcpy(e->tensor, name.at, name.n);
        e->tensor_bytes = name.n;
    }
    return code;
}

enum apr_code apr_found(enum apr_code code, struct apr_error *e, const char *finding)
{
    const bool fault = code == APR_ECORRUPT || code == APR_EUNSUPPORTED || code == APR_ELIMIT;
    if (fault && e->finding == NULL)
        e->finding = finding;
    return code;
}

enum apr_code apr_no_memory(struct apr_error *e)
{
    return apr_fail(e, APR_ENOMEM, APR_NOWHERE, "out of memory");
}

void apr_error_in(struct apr_error *e, const char *path)
{
    if (e->file[0] == 0)
        make_printable(e->file, sizeof e->file, (const unsigned char *)path, strlen(path));
}

const char *apr_code_word(enum apr_code code)
{
    static const char *const word[] = {
        [APR_OK] = "ok",       [APR_EIO] = "io",          [APR_ECORRUPT] = "corrupt", [APR_EUNSUPPORTED] = "unsupported",
        [APR_ELIMIT] = "limit", [APR_ENOMEM] = "memory", [APR_EARG] = "argument",
    };
    return word[code];
}

const char *apr_quote(struct apr_quoted *q, struct apr_bytes name)
{
    q->text[0] = '"';
    const bool whole = make_printable(q->text + 1, sizeof q->text - 5, name.at, name.n);
    strcat(q->text, whole ? "\"" : "...\"");
    return q->text;
}
