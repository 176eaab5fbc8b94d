#include "family/preset.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#define SAME(type)        { #type, NULL, APR_MIX_##type, APR_##type }
#define MOSTLY(preset, type) { #preset, NULL, APR_MIX_##preset, APR_##type }

static const struct apr_preset presets[] = {
    SAME(F32),
    SAME(F16),
    SAME(Q4_0),
    SAME(Q4_1),
    SAME(Q8_0),
    SAME(Q5_0),
    SAME(Q5_1),
    SAME(Q2_K),
    MOSTLY(Q3_K_S, Q3_K),
    { "Q3_K_M", "Q3_K", APR_MIX_Q3_K_M, APR_Q3_K },
    MOSTLY(Q3_K_L, Q3_K),
    MOSTLY(Q4_K_S, Q4_K),
    { "Q4_K_M", "Q4_K", APR_MIX_Q4_K_M, APR_Q4_K },
    MOSTLY(Q5_K_S, Q5_K),
    { "Q5_K_M", "Q5_K", APR_MIX_Q5_K_M, APR_Q5_K },
    SAME(Q6_K),
    SAME(IQ2_XXS),
    SAME(IQ2_XS),
    MOSTLY(Q2_K_S, Q2_K),
    MOSTLY(IQ3_XS, IQ3_S),
    SAME(IQ3_XXS),
    SAME(IQ1_S),
    SAME(IQ4_NL),
    SAME(IQ3_S),
    MOSTLY(IQ3_M, IQ3_S),
    MOSTLY(IQ2_S, IQ2_XS), /* a name is no promise */
    MOSTLY(IQ2_M, IQ2_S),
    SAME(IQ4_XS),
    SAME(IQ1_M),
    SAME(BF16),
    SAME(TQ1_0),
    SAME(TQ2_0),
    MOSTLY(MXFP4_MOE, MXFP4),
    SAME(Q1_0),
    SAME(Q2_0),
};

/* One or two digits, else -1. */
static int number_of(const char *word)
{
    const size_t n = strlen(word);
    if (n == 0 || n > 2 || !isdigit((unsigned char)word[0]) || (n == 2 && !isdigit((unsigned char)word[1])))
        return -1;
    return n == 1 ? word[0] - '0' : 10 * (word[0] - '0') + (word[1] - '0');
}

const struct apr_preset *apr_preset_of(const char *word)
{
    const int number = number_of(word);
    for (size_t i = 0; i < APR_LENGTH(presets); i++) {
        const struct apr_preset *p = &presets[i];
        if (strcasecmp(p->name, word) == 0 || (p->alias != NULL && strcasecmp(p->alias, word) == 0) || (int)p->file_type == number)
            return p;
    }
    return NULL;
}

const struct apr_preset *apr_preset_at(size_t i) { return i < APR_LENGTH(presets) ? &presets[i] : NULL; }
