#include <stdlib.h>
#include <string.h>

#include "base/fmath.h"
#include "forward/sequence.h"

void apr_rope_free(struct apr_sequence *s)
{
    for (unsigned i = 0; i < APR_ANGLES; i++) {
        free(s->angles[i].cos);
        s->angles[i] = (struct apr_angles){ 0 };
    }
}

/* Room for the angles of so many positions; both tables lie in one piece. */
static bool grow(struct apr_angles *a, uint64_t npair, size_t n)
{
    uint64_t number, bytes;
    a->freq = NULL;
    if (!apr_mul(npair, n, &number) || !apr_mul(number, 2 * sizeof *a->cos, &bytes))
        return false;
    if (number > a->room) {
        free(a->cos);
        a->cos = malloc(bytes);
        a->room = a->cos != NULL ? number : 0;
    }
    a->sin = a->cos + number;
    return number <= a->room;
}

static void angles_at(void *ctx, size_t p, unsigned worker)
{
    (void)worker;
    const struct apr_sequence *const s = ctx;
    const struct apr_angles *const a = &s->angles[s->oldest];
    const size_t half = (size_t)a->n / 2;
    for (size_t i = 0; i < half; i++) {
        const double shorter = a->stretch > 0 ? apr_exp(-((double)i / (double)(half - 1)) * a->stretch) : 1;
        const double angle = (double)(s->seen + p) * (a->freq[i] * shorter);
        a->cos[p * half + i] = apr_cos(angle) * a->scale;
        a->sin[p * half + i] = apr_sin(angle) * a->scale;
    }
}

static bool same(const struct apr_angles *a, const struct apr_angles *b)
{
    return a->freq != NULL && a->n == b->n && a->scale == b->scale && a->stretch == b->stretch &&
           (a->freq == b->freq || memcmp(a->freq, b->freq, a->n / 2 * sizeof *a->freq) == 0);
}

/* A table as `wanted`, over the run's positions: one that is there, or a new one in place of the oldest. */
static enum apr_code table_of(struct apr_sequence *s, const struct apr_angles *wanted, const struct apr_angles **out, struct apr_error *e)
{
    for (unsigned i = 0; i < APR_ANGLES; i++)
        if (same(&s->angles[i], wanted)) {
            *out = &s->angles[i];
            return APR_OK;
        }
    struct apr_angles *const a = &s->angles[s->oldest];
    if (!grow(a, wanted->n / 2, s->n))
        return apr_no_memory(e);
    a->freq = wanted->freq;
    a->n = wanted->n;
    a->scale = wanted->scale;
    a->stretch = wanted->stretch;
    apr_share_work(s, s->n, s->n * a->n * 8, angles_at, s);
    s->oldest = (s->oldest + 1) % APR_ANGLES;
    *out = a;
    return APR_OK;
}

struct turning {
    struct apr_sequence     *s;
    const struct apr_rope   *rope;
    const struct apr_angles *angles;
};

/* A pair by an angle. */
static void turn(float *a, float *b, double cos, double sin)
{
    const double x = *a, y = *b;
    *a = apr_rounded(x * cos - y * sin);
    *b = apr_rounded(y * cos + x * sin);
}

static void turn_head(const struct apr_rope *r, float *x, const double *cos, const double *sin)
{
    const size_t half = (size_t)r->n / 2;
    x += r->skip;
    if (r->adjacent)
        for (size_t i = 0; i < half; i++)
            turn(&x[2 * i], &x[2 * i + 1], cos[i], sin[i]);
    else
        for (size_t i = 0; i < half; i++)
            turn(&x[i], &x[i + half], cos[i], sin[i]);
}

/* Queries and keys lie side by side: heads + key_heads of one width. */
static void turn_position(void *ctx, size_t p, unsigned worker)
{
    (void)worker;
    const struct turning *const t = ctx;
    const struct apr_sequence *const s = t->s;
    const size_t half = (size_t)t->angles->n / 2, nhead = (size_t)(s->net->heads + s->key_heads);
    float *const row = s->at[APR_FLOW_QKV] + p * s->width[APR_FLOW_QKV];
    for (size_t h = 0; h < nhead; h++)
        turn_head(t->rope, row + h * s->net->head_k, t->angles->cos + p * half, t->angles->sin + p * half);
}

enum apr_code apr_rope_turn(struct apr_sequence *s, const struct apr_rope *r, struct apr_error *e)
{
    const bool past = s->text > r->original, is_long = past && r->long_freq != NULL, grows = past && r->growth > 0;
    struct apr_angles wanted = { .freq = is_long ? r->long_freq : r->freq, .n = r->n, .scale = is_long ? r->long_scale : r->scale };
    struct turning t = { s, r, NULL };
    if (grows)
        wanted.stretch = apr_log(r->growth * ((double)s->text / (double)r->original - 1) + 1);
    APR_TRY(table_of(s, &wanted, &t.angles, e));
    apr_share_work(s, s->n, s->n * (s->q_width + s->k_width), turn_position, &t);
    return APR_OK;
}
