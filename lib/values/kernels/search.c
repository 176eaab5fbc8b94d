#include "values/kernels/search.h"

/* How levels fit: a = sum of w x l, b = sum of w l^2, for levels l of either sign. The error is least at scale a / b, and less the larger
 * a^2 / b. */
struct fit {
    float a, b;
};

static inline float weight_of(const float *x, const float *weight, unsigned i) { return weight ? weight[i] : x[i] * x[i]; }

/* Levels of x times per_scale. */
static struct fit fit_at(const float *x, unsigned n, const float *weight, float per_scale, int half, int8_t *level)
{
    struct fit f = { 0, 0 };
    for (unsigned i = 0; i < n; i++) {
        const float w = weight_of(x, weight, i), l = (float)(level[i] = (int8_t)apr_clamp(apr_nearest(per_scale * x[i]), -half, half - 1));
        f.a += w * x[i] * l;
        f.b += w * l * l;
    }
    return f;
}

static void shift_levels(const int8_t *from, unsigned n, int by, uint8_t *level)
{
    for (unsigned i = 0; i < n; i++)
        level[i] = (uint8_t)(from[i] + by);
}

float apr_fit_around(const float *x, unsigned n, int half, const float *weight, uint8_t *level)
{
    const float farthest = apr_farthest(x, n);
    int8_t tried[32];
    if (fabsf(farthest) < APR_ALMOST_NOTHING) {
        memset(level, 0, n);
        return 0;
    }
    const struct fit first = fit_at(x, n, weight, (float)-half / farthest, half, tried);
    float scale = first.b != 0 ? first.a / first.b : 0, best = scale * first.a;
    shift_levels(tried, n, half, level);
    for (int slack = -9; slack <= 9; slack++) {
        if (slack == 0)
            continue;
        const struct fit f = fit_at(x, n, weight, -((float)half + 0.1f * (float)slack) / farthest, half, tried);
        if (f.b > 0 && f.a * f.a > best * f.b) {
            shift_levels(tried, n, half, level);
            scale = f.a / f.b;
            best = scale * f.a;
        }
    }
    return scale;
}

/* One round of turns: each level as the others alone would have it, where that makes the fit better. Returns whether one changed. */
static bool take_turns(const float *x, unsigned n, int half, int8_t *level, struct fit *f)
{
    bool changed = false;
    for (unsigned i = 0; i < n; i++) {
        const float w = x[i] * x[i], l = (float)level[i];
        struct fit other = { f->a - w * x[i] * l, 0 };
        if (!(other.a > 0))
            continue;
        other.b = f->b - w * l * l;
        const int better = apr_clamp(apr_nearest(x[i] * other.b / other.a), -half, half - 1);
        if (better == level[i])
            continue;
        other.a += w * x[i] * (float)better;
        other.b += w * (float)better * (float)better;
        if (other.b > 0 && other.a * other.a * f->b > f->a * f->a * other.b) {
            level[i] = (int8_t)better;
            *f = other;
            changed = true;
        }
    }
    return changed;
}

float apr_fit_by_turns(const float *x, unsigned n, int half, uint8_t *level)
{
    const float farthest = apr_farthest(x, n);
    int8_t l[32];
    if (fabsf(farthest) < APR_ALMOST_NOTHING) {
        memset(level, 0, n);
        return 0;
    }
    struct fit f = fit_at(x, n, NULL, (float)-half / farthest, half, l);
    for (unsigned round = 0; round < 5 && take_turns(x, n, half, l, &f); round++)
        ;
    shift_levels(l, n, half, level);
    return f.b > 0 ? f.a / f.b : 0;
}

/* A line that values of some levels are near to, its error. */
struct line {
    float scale, min, error;
};

static void levels_from(const float *x, unsigned n, float per_scale, float min, int largest, uint8_t *level)
{
    for (unsigned i = 0; i < n; i++)
        level[i] = (uint8_t)apr_clamp(apr_nearest(per_scale * (x[i] - min)), 0, largest);
}

static float error_of(const float *x, unsigned n, const float *weight, const uint8_t *level, float scale, float min, bool absolute)
{
    float error = 0;
    for (unsigned i = 0; i < n; i++) {
        const float off = scale * (float)level[i] + min - x[i];
        error += weight[i] * (absolute ? fabsf(off) : off * off);
    }
    return error;
}

/* The best line for levels, or false when they are all the same. w and wx: sums of the weights, and of these times x. */
static bool line_of(const float *x, unsigned n, const float *weight, const uint8_t *level, float w, float wx, struct line *line)
{
    float wl = 0, wll = 0, wlx = 0;
    for (unsigned i = 0; i < n; i++) {
        const float l = (float)level[i], each = weight[i] * l;
        wl += each;
        wll += each * l;
        wlx += each * x[i];
    }
    const float determinant = w * wll - wl * wl;
    if (!(determinant > 0))
        return false;
    line->scale = (w * wlx - wx * wl) / determinant;
    line->min = (wll * wx - wl * wlx) / determinant;
    if (line->min > 0) {
        line->min = 0;
        line->scale = wlx / wll;
    }
    return true;
}

float apr_fit_from_min(const float *x, unsigned n, const float *weight, const struct apr_steps *s, uint8_t *level, float *min)
{
    float least = x[0], most = x[0], w = weight[0], wx = w * x[0];
    uint8_t tried[32];
    for (unsigned i = 1; i < n; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
        w += weight[i];
        wx += weight[i] * x[i];
    }
    least = least > 0 ? 0 : least;
    memset(level, 0, n);
    struct line best = { 0, least, 0 };
    if (most != least) {
        const float per_scale = (float)s->largest / (most - least);
        best.scale = 1 / per_scale;
        levels_from(x, n, per_scale, least, s->largest, level);
        best.error = error_of(x, n, weight, level, best.scale, least, s->absolute);
        for (unsigned k = 0; k <= s->nstep; k++) {
            struct line now;
            levels_from(x, n, (s->first + s->step * (float)k + (float)s->largest) / (most - best.min), best.min, s->largest, tried);
            if (!line_of(x, n, weight, tried, w, wx, &now))
                continue;
            now.error = error_of(x, n, weight, tried, now.scale, now.min, s->absolute);
            if (now.error < best.error) {
                memcpy(level, tried, n);
                best = now;
            }
        }
    }
    *min = -best.min;
    return best.scale;
}

static inline int level_at_most(float f, int largest)
{
    const int l = apr_nearest(f);
    return l < largest ? l : largest;
}

/* Of the nine scales around largest / most, the inverse of that with the least error. Only the first is not limited to the largest level,
 * but to a byte. */
static float best_of_nine(const float *x, unsigned n, int largest, const float *weight, float most)
{
    float per_scale = (float)largest / most, least = 0;
    for (unsigned i = 0; i < n; i++) {
        const float off = x[i] - 1 / per_scale * (float)(uint8_t)apr_nearest(per_scale * x[i]);
        least += weight[i] * off * off;
    }
    for (int k = -4; k <= 4; k++) {
        if (k == 0)
            continue;
        const float now = (0.1f * (float)k + (float)largest) / most, scale = 1 / now;
        float error = 0;
        for (unsigned i = 0; i < n; i++) {
            const float off = x[i] - scale * (float)level_at_most(now * x[i], largest);
            error += weight[i] * off * off;
        }
        if (error < least) {
            least = error;
            per_scale = now;
        }
    }
    return per_scale;
}

static bool take_positive_turns(const float *x, unsigned n, int largest, const float *weight, uint8_t *level, struct fit *f)
{
    bool changed = false;
    for (unsigned i = 0; i < n; i++) {
        const float w = weight[i], l = (float)level[i];
        struct fit other = { f->a - w * x[i] * l, f->b - w * l * l };
        if (!(other.a > 0 && other.b > 0))
            continue;
        const int better = level_at_most(x[i] * other.b / other.a, largest);
        if (better == level[i])
            continue;
        other.a += w * x[i] * (float)better;
        other.b += w * (float)better * (float)better;
        if (other.a * other.a * f->b > f->a * f->a * other.b) {
            level[i] = (uint8_t)better;
            *f = other;
            changed = true;
        }
    }
    return changed;
}

float apr_fit_positive(const float *x, unsigned n, int largest, const float *weight, uint8_t *level)
{
    float most = 0;
    for (unsigned i = 0; i < n; i++)
        most = most > x[i] ? most : x[i];
    if (most < APR_ALMOST_NOTHING) {
        memset(level, 0, n);
        return 0;
    }
    const float per_scale = best_of_nine(x, n, largest, weight, most);
    struct fit f = { 0, 0 };
    for (unsigned i = 0; i < n; i++) {
        const int l = level_at_most(per_scale * x[i], largest);
        level[i] = (uint8_t)l;
        f.a += weight[i] * x[i] * (float)l;
        f.b += weight[i] * (float)l * (float)l;
    }
    for (unsigned round = 0; round < 5 && take_positive_turns(x, n, largest, weight, level, &f); round++)
        ;
    return f.b > 0 ? f.a / f.b : 0;
}

void apr_level_around(const float *x, unsigned n, float scale, int half, uint8_t *level)
{
    for (unsigned i = 0; i < n && scale != 0; i++)
        level[i] = (uint8_t)(apr_clamp(apr_nearest(x[i] / scale), -half, half - 1) + half);
}

void apr_level_from_min(const float *x, unsigned n, float scale, float min, int largest, uint8_t *level)
{
    for (unsigned i = 0; i < n && scale != 0; i++)
        level[i] = (uint8_t)apr_clamp(apr_nearest((x[i] + min) / scale), 0, largest);
}

void apr_weigh(const float *x, size_t n, const float *importance, float variance, float *weight)
{
    for (size_t i = 0; i < n; i++)
        weight[i] = importance[i] * sqrtf(variance + x[i] * x[i]);
}

float apr_sum_of_squares(const float *x, size_t n)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sum;
}
