#include "family/llama3.h"

#include <math.h>

#include "base/bytes.h"
#include "base/fmath.h"

#define MOST_PAIRS   4096u
#define MOST_MIDDLES 16    /* of which each is tried for what it tells of the context */
#define CLOSE        2e-6
#define USUAL        8192 /* positions */

float apr_llama3_factor(const struct apr_llama3 *s, uint64_t i)
{
    const float exponent = (float)(2 * i) / (float)s->dims, freq = 1.0f / (float)apr_exp((double)exponent * apr_log((double)(float)s->theta));
    const float length = (float)(2 * 3.14159265358979323846) / freq;
    const float share = ((float)s->original / length - (float)s->low) / (float)(s->high - s->low);
    return (double)length < s->original / s->high  ? 1.0f
           : (double)length > s->original / s->low ? (float)s->factor
                                                   : 1.0f / ((1.0f - share) / (float)s->factor + share);
}

/* The factors that are looked for, of which those of the pairs in `middle` are neither 1 nor that of the longest wave. */
struct sought {
    const float *f;
    uint64_t     n;
    double       context, close;
    size_t       middle[MOST_MIDDLES], nmiddle;
};

static double wave(const struct apr_llama3 *s, uint64_t i)
{
    return 6.283185307179586 * apr_exp(2 * (double)i / s->dims * apr_log(s->theta));
}

static bool gives(const struct apr_llama3 *s, const struct sought *of)
{
    bool same = s->original >= 1 && s->original < 0x1p53 && s->factor > 0 && s->high > s->low;
    for (uint64_t i = 0; i < of->n && same; i++) {
        const double f = (double)apr_llama3_factor(s, i);
        same = fabs(f - (double)of->f[i]) <= of->close * fabs(f);
    }
    return same;
}

static bool fits(struct apr_llama3 *s, const struct sought *of, double original)
{
    s->original = original;
    return gives(s, of);
}

/* Of factors all 1 or all the longest wave's where they are not: any context between the two kinds. */
static bool find_between(struct apr_llama3 *s, const struct sought *of)
{
    const double most = of->context / s->factor;
    if (fits(s, of, USUAL) || (most == floor(most) && fits(s, of, most)))
        return true;
    for (double original = 1; original < 0x1p32; original *= 2)
        if (fits(s, of, original))
            return true;
    for (uint64_t i = 0; i < of->n; i++)
        if (of->f[i] != 1)
            return i > 0 && fits(s, of, floor(s->high * wave(s, i - 1)) + 1);
    return false;
}

/* The context, when all else is set: a middle pair tells it. */
static bool find_original(struct apr_llama3 *s, const struct sought *of)
{
    if (of->nmiddle == 0)
        return find_between(s, of);
    for (size_t k = 0; k < of->nmiddle; k++) {
        const double share = (1 / (double)of->f[of->middle[k]] - 1 / s->factor) / (1 - 1 / s->factor);
        if (fits(s, of, floor(wave(s, of->middle[k]) * (share * (s->high - s->low) + s->low) + 0.5)))
            return true;
    }
    return false;
}

/* high, where low is 1 and the factor is set: two middle pairs tell it. */
static bool find_high(struct apr_llama3 *s, const struct sought *of)
{
    if (of->nmiddle < 2)
        return false;
    const size_t i = of->middle[0], j = of->middle[of->nmiddle - 1];
    const double x = 1 / wave(s, i), whole = 1 - 1 / s->factor, a = (1 / (double)of->f[i] - 1 / s->factor) / whole,
                 b = (1 / (double)of->f[j] - 1 / s->factor) / whole, slope = (a - b) / (x - 1 / wave(s, j)), rest = slope * x - a;
    const double high = (1 + rest) / rest;
    for (double round = 1; round <= 1000; round *= 10) {
        s->high = floor(high * round + 0.5) / round;
        if (find_original(s, of))
            return true;
    }
    return false;
}

/* The factor, where none of the waves is so long as to have it whole: again two middle pairs tell it. */
static double factor_beyond(const struct apr_llama3 *s, const struct sought *of)
{
    if (of->nmiddle < 2)
        return 0;
    const size_t i = of->middle[0], j = of->middle[of->nmiddle - 1];
    const double a = 1 / (double)of->f[i], b = 1 / (double)of->f[j], x = 1 / wave(s, i), slope = (a - b) / (x - 1 / wave(s, j));
    const double rest = s->low / (s->high - s->low), factor = (1 + rest) / (a - slope * x + rest);
    return fabs(factor - floor(factor * 8 + 0.5) / 8) < 1e-3 * factor ? floor(factor * 8 + 0.5) / 8 : factor;
}

static void find_middles(struct sought *of)
{
    const float longest = of->f[of->n - 1];
    of->nmiddle = 0;
    for (uint64_t i = 0; i < of->n && of->nmiddle < MOST_MIDDLES; i++)
        if (of->f[i] != 1 && of->f[i] != longest)
            of->middle[of->nmiddle++] = (size_t)i;
}

static bool find_with(struct apr_llama3 *s, struct sought *of)
{
    static const double usual[] = { 4, 8, 2, 16, 32, 1.5, 1.25, 1.125, 1.0625 };
    for (unsigned beyond = 0; beyond < 2; beyond++) {
        find_middles(of);
        if (beyond > 0 && of->nmiddle < MOST_MIDDLES)
            of->middle[of->nmiddle++] = (size_t)of->n - 1;
        for (size_t i = 0; i < APR_LENGTH(usual); i++) {
            s->low = 1;
            s->high = usual[i];
            s->factor = beyond > 0 ? factor_beyond(s, of) : (double)of->f[of->n - 1];
            if (s->factor > 0 && (find_original(s, of) || (i == 0 && beyond == 0 && find_high(s, of))))
                return true;
        }
    }
    return false;
}

bool apr_llama3_find(struct apr_llama3 *s, const float *factor, uint64_t n, double context)
{
    struct sought of = { .f = factor, .n = n, .context = context };
    bool sound = n > 0 && n <= MOST_PAIRS && s->theta > 1 && s->dims > 0;
    for (uint64_t i = 0; i < n && sound; i++)
        sound = factor[i] > 0 && factor[i] < 0x1p60f;
    if (!sound)
        return false;
    if (find_with(s, &of))
        return true;
    of.close = CLOSE;
    return find_with(s, &of);
}
