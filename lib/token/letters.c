#include "token/letters.h"

#include <utf8proc.h>

char apr_letter_class(uint32_t c)
{
    static const char letter[] = { [UTF8PROC_CATEGORY_CN] = 'C', [UTF8PROC_CATEGORY_LU] = 'L', [UTF8PROC_CATEGORY_LL] = 'L',
                                   [UTF8PROC_CATEGORY_LT] = 'L', [UTF8PROC_CATEGORY_LM] = 'L', [UTF8PROC_CATEGORY_LO] = 'L',
                                   [UTF8PROC_CATEGORY_MN] = 'M', [UTF8PROC_CATEGORY_MC] = 'M', [UTF8PROC_CATEGORY_ME] = 'M',
                                   [UTF8PROC_CATEGORY_ND] = 'N', [UTF8PROC_CATEGORY_NL] = 'N', [UTF8PROC_CATEGORY_NO] = 'N',
                                   [UTF8PROC_CATEGORY_PC] = 'P', [UTF8PROC_CATEGORY_PD] = 'P', [UTF8PROC_CATEGORY_PS] = 'P',
                                   [UTF8PROC_CATEGORY_PE] = 'P', [UTF8PROC_CATEGORY_PI] = 'P', [UTF8PROC_CATEGORY_PF] = 'P',
                                   [UTF8PROC_CATEGORY_PO] = 'P', [UTF8PROC_CATEGORY_SM] = 'S', [UTF8PROC_CATEGORY_SC] = 'S',
                                   [UTF8PROC_CATEGORY_SK] = 'S', [UTF8PROC_CATEGORY_SO] = 'S', [UTF8PROC_CATEGORY_ZS] = 'Z',
                                   [UTF8PROC_CATEGORY_ZL] = 'Z', [UTF8PROC_CATEGORY_ZP] = 'Z', [UTF8PROC_CATEGORY_CC] = 'C',
                                   [UTF8PROC_CATEGORY_CF] = 'C', [UTF8PROC_CATEGORY_CS] = 'C', [UTF8PROC_CATEGORY_CO] = 'C' };
    const utf8proc_category_t category = utf8proc_category((int32_t)c);
    return (size_t)category < APR_LENGTH(letter) ? letter[category] : 'C';
}

bool apr_is_nonspacing(uint32_t c) { return c >= 0x300 && utf8proc_category((int32_t)c) == UTF8PROC_CATEGORY_MN; }

bool apr_is_unassigned(uint32_t c) { return c >= 0x378 && utf8proc_category((int32_t)c) == UTF8PROC_CATEGORY_CN; }

/* U+2B820 to U+2B91F would belong to them; neither tokenizers nor llama.cpp has them. */
bool apr_is_ideograph(uint32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) ||
           (c >= 0x2F800 && c <= 0x2FA1F);
}

uint32_t apr_lower(uint32_t c)
{
    if (c < 0x80)
        return c >= 'A' && c <= 'Z' ? c + 32 : c;
    return (uint32_t)utf8proc_tolower((int32_t)c);
}

bool apr_ends_grapheme(uint32_t c, uint32_t next, int32_t *state)
{
    return utf8proc_grapheme_break_stateful((int32_t)c, (int32_t)next, state);
}
