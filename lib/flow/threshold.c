#include "flow/threshold.h"

#include <math.h>
#include <stdlib.h>

#include "flow/pass.h"
#include "values/chunk.h"

#define HALF 65536u    /* keys have two halves of 16 bits */
#define RUN 16u        /* pieces counted in one go: a million elements to 65,536 counts */
#define SCRATCH_LINE 64u

/* What is read for. PLACE and the rank's number: the piece where the last of its equals lies. */
enum { UPPER, LOWER, EQUALS, PLACE };

/* Of one contest at a time: what is known of each rank.
 *   open    what it takes is neither none nor all
 *   left    how many are to be taken of those that are not below the key, as far as that is known
 *   some    of its equals some are taken and others not
 *   equals  how many have the key
 *   found, piece  where the last one lies that is taken */
struct search {
    bool     open, some, found;
    uint32_t key;
    uint64_t left, equals, piece;
};

/*   base    of each tensor: pieces of its contest before it
 *   count   of each half key, of each rank; zeros, low: of scores that are 0, and all lower halves together
 *   seen    equals in the pieces that were taken */
struct finding {
    const struct apr_thresholds *t;
    uint64_t                    *base;
    uint64_t                    *count;
    uint64_t                     zeros, seen[APR_MOST_RANKS];
    uint32_t                     low;
    struct search                rank[APR_MOST_RANKS];
};

/* What comes of a run of pieces. */
struct counts {
    uint32_t zeros, low;
    union {
        uint32_t half[APR_MOST_RANKS][HALF];
        uint32_t equals[RUN][APR_MOST_RANKS];
        struct {
            uint32_t n, at[APR_CHUNK];
        } place;
    };
};

struct bench {
    _Alignas(SCRATCH_LINE) float score[APR_STRETCH];
    _Alignas(SCRATCH_LINE) unsigned char callers[];
};

/* ---- in hand -------------------------------------------------------------------------------------------------------- */

/* The digit of the key that is looked for, when `left` of those counted are to be taken, at least one; less those before it. */
static uint32_t digit_of(const uint64_t *count, uint32_t n, bool highest, uint64_t *left)
{
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t digit = highest ? n - 1 - i : i;
        if (count[digit] >= *left)
            return digit;
        *left -= count[digit];
    }
    return highest ? 0 : n - 1;
}

void apr_cutoff_mark(const struct apr_cutoff *c, const float *score, uint64_t first, size_t n, bool *taken)
{
    const uint32_t key = c->key, flip = c->flip;
    const size_t equals = c->end <= first ? 0 : (size_t)apr_min(c->end - first, n); /* of these the ones that have the key count */
    for (size_t i = 0; i < equals; i++)
        taken[i] = (apr_score_key(score[i]) ^ flip) <= key;
    for (size_t i = equals; i < n; i++)
        taken[i] = (apr_score_key(score[i]) ^ flip) < key;
}

static struct apr_cutoff take_all(bool highest)
{
    return (struct apr_cutoff){ UINT32_MAX, highest ? UINT32_MAX : 0, UINT64_MAX };
}

struct apr_cutoff apr_cutoff_of(const float *score, size_t n, uint64_t k, bool highest)
{
    uint32_t key = 0;
    if (k == 0)
        return (struct apr_cutoff){ 0 };
    if (k >= n)
        return take_all(highest);
    for (unsigned shift = 24; shift < 32; shift -= 8) {
        const uint32_t known = shift == 24 ? 0 : UINT32_MAX << (shift + 8);
        uint64_t count[256] = { 0 };
        for (size_t i = 0; i < n; i++) {
            const uint32_t other = apr_score_key(score[i]);
            count[other >> shift & 255] += ((other ^ key) & known) == 0;
        }
        key |= digit_of(count, 256, highest, &k) << shift;
    }
    size_t end = 0;
    for (; k > 0; end++)
        k -= apr_score_key(score[end]) == key;
    return (struct apr_cutoff){ highest ? ~key : key, highest ? UINT32_MAX : 0, end };
}

/* ---- pieces --------------------------------------------------------------------------------------------------------- */

static uint64_t pieces_of(const struct apr_scored *t) { return apr_ceil(t->count, APR_CHUNK); }

/* The tensor that a piece of a contest is of: the last that begins there or before it. */
static size_t tensor_of(const struct finding *f, const struct apr_contest *c, uint64_t piece)
{
    size_t low = c->first, high = c->first + c->n;
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (f->base[middle] <= piece)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static uint64_t pieces_of_contest(const struct finding *f, const struct apr_contest *c)
{
    const size_t last = c->first + c->n - 1;
    return c->n == 0 ? 0 : f->base[last] + pieces_of(&f->t->tensor[last]);
}

static bool is_open(const struct apr_contest *c, unsigned r) { return c->rank[r].k > 0 && c->rank[r].k < c->count; }

static struct apr_cut cut(void *ctx, size_t input, unsigned mode)
{
    const struct finding *const f = ctx;
    const struct apr_contest *const c = &f->t->contest[input];
    bool needed = f->t->choose != NULL || mode > UPPER;
    for (unsigned r = 0; r < c->nrank && !needed; r++)
        needed = is_open(c, r);
    const uint64_t npiece = mode >= PLACE ? 1 : needed ? pieces_of_contest(f, c) : 0;
    return (struct apr_cut){ .npiece = npiece, .run = RUN, .elements = APR_ALONE, .bytes = npiece * APR_CHUNK * sizeof(float) };
}

/* ---- counting ------------------------------------------------------------------------------------------------------- */

static enum apr_code count_upper(const struct apr_scored *t, uint64_t first, const float *score, size_t n, struct counts *into,
                                 struct apr_error *e)
{
    uint32_t low = 0, zeros = 0;
    bool odd = false;
    for (size_t i = 0; i < n; i++) {
        const uint32_t key = apr_score_key(score[i]);
        into->half[0][key >> 16]++;
        low |= key;
        zeros += score[i] == 0;
        odd |= isnan(score[i]);
    }
    into->low |= low & (HALF - 1);
    into->zeros += zeros;
    for (size_t i = 0; odd; i++)
        if (isnan(score[i]))
            return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, t->name, ": the score of element %llu is NaN",
                                   (unsigned long long)(first + i));
    return APR_OK;
}

static void count_lower(const struct finding *f, unsigned nrank, const float *score, size_t n, struct counts *into)
{
    for (unsigned r = 0; r < nrank; r++)
        for (size_t i = 0; f->rank[r].open && i < n; i++) {
            const uint32_t key = apr_score_key(score[i]);
            if (key >> 16 == f->rank[r].key >> 16)
                into->half[r][key & (HALF - 1)]++;
        }
}

static void count_equals(const struct finding *f, unsigned nrank, const float *score, size_t n, uint32_t *equals)
{
    for (unsigned r = 0; r < nrank; r++)
        for (size_t i = 0; f->rank[r].some && i < n; i++)
            equals[r] += apr_score_key(score[i]) == f->rank[r].key;
}

static void note_places(uint32_t key, uint64_t first, const float *score, size_t n, struct counts *into)
{
    for (size_t i = 0; i < n; i++)
        if (apr_score_key(score[i]) == key)
            into->place.at[into->place.n++] = (uint32_t)(first % APR_CHUNK + i);
}

static enum apr_code make_piece(const struct finding *f, const struct apr_pieces *p, uint64_t piece, struct bench *b, struct counts *into,
                                struct apr_error *e)
{
    const struct apr_contest *const c = &f->t->contest[p->input];
    const size_t tensor = tensor_of(f, c, piece);
    const struct apr_scored *const t = &f->t->tensor[tensor];
    const uint64_t begin = (piece - f->base[tensor]) * APR_CHUNK, end = begin + apr_min(APR_CHUNK, t->count - begin);
    for (uint64_t first = begin; first < end; first += APR_STRETCH) {
        const size_t n = (size_t)apr_min(APR_STRETCH, end - first);
        APR_TRY(f->t->score(f->t->ctx, tensor, first, n, b->callers, b->score, e));
        if (p->mode == UPPER)
            APR_TRY(count_upper(t, first, b->score, n, into, e));
        if (p->mode == LOWER)
            count_lower(f, c->nrank, b->score, n, into);
        if (p->mode == EQUALS)
            count_equals(f, c->nrank, b->score, n, into->equals[piece - p->first]);
        if (p->mode >= PLACE)
            note_places(f->rank[p->mode - PLACE].key, first, b->score, n, into);
    }
    return APR_OK;
}

static enum apr_code make(void *ctx, const struct apr_pieces *p, void *scratch, void *result, struct apr_error *e)
{
    const struct finding *const f = ctx;
    struct counts *const into = result;
    into->zeros = into->low = 0;
    if (p->mode <= LOWER)
        memset(into->half, 0, (p->mode == LOWER ? f->t->contest[p->input].nrank : 1) * sizeof into->half[0]);
    memset(into->equals, 0, p->mode == EQUALS ? sizeof into->equals : 0);
    if (p->mode >= PLACE) {
        into->place.n = 0;
        return make_piece(f, p, f->rank[p->mode - PLACE].piece, scratch, into, e);
    }
    for (uint64_t i = p->first; i < p->first + p->n; i++)
        APR_TRY(make_piece(f, p, i, scratch, into, e));
    return APR_OK;
}

/* ---- taking --------------------------------------------------------------------------------------------------------- */

static void take_halves(struct finding *f, const struct counts *of, unsigned nrank)
{
    for (unsigned r = 0; r < nrank; r++)
        for (size_t i = 0; i < HALF; i++)
            f->count[r * HALF + i] += of->half[r][i];
    f->zeros += of->zeros;
    f->low |= of->low;
}

/* Finds the piece in which as many equals have come as are taken; `left` becomes how many of that piece. */
static void take_equals(struct finding *f, const struct apr_pieces *p, const struct counts *of, unsigned nrank)
{
    for (unsigned r = 0; r < nrank; r++)
        for (uint64_t i = 0; f->rank[r].some && i < p->n; i++) {
            struct search *const s = &f->rank[r];
            const uint64_t before = f->seen[r];
            f->seen[r] += of->equals[i][r];
            if (s->found || f->seen[r] < s->left)
                continue;
            s->found = true;
            s->piece = p->first + i;
            s->left -= before;
        }
}

static void set_cutoffs(const struct finding *f, const struct apr_contest *c, unsigned r, struct apr_cutoff at, size_t tensor)
{
    for (size_t i = c->first; i < c->first + c->n; i++) {
        struct apr_cutoff *const out = &f->t->cutoff[i * APR_MOST_RANKS + r];
        *out = at;
        if (tensor != SIZE_MAX && i != tensor)
            out->end = i < tensor ? UINT64_MAX : 0;
    }
}

static void take_place(const struct finding *f, const struct apr_contest *c, unsigned r, const struct counts *of)
{
    const struct search *const s = &f->rank[r];
    const bool highest = c->rank[r].highest;
    const size_t tensor = tensor_of(f, c, s->piece);
    const uint64_t index = (s->piece - f->base[tensor]) * APR_CHUNK + of->place.at[s->left - 1];
    set_cutoffs(f, c, r, (struct apr_cutoff){ highest ? ~s->key : s->key, highest ? UINT32_MAX : 0, index + 1 }, tensor);
}

static enum apr_code take(void *ctx, const struct apr_pieces *p, const void *result, struct apr_error *e)
{
    struct finding *const f = ctx;
    const struct apr_contest *const c = &f->t->contest[p->input];
    (void)e;
    if (p->mode <= LOWER)
        take_halves(f, result, p->mode == LOWER ? c->nrank : 1);
    else if (p->mode == EQUALS)
        take_equals(f, p, result, c->nrank);
    else
        take_place(f, c, p->mode - PLACE, result);
    return APR_OK;
}

/* ---- a contest ------------------------------------------------------------------------------------------------------ */

static void begin_ranks(struct finding *f, const struct apr_contest *c)
{
    for (unsigned r = 0; r < c->nrank; r++) {
        struct search *const s = &f->rank[r];
        *s = (struct search){ .open = is_open(c, r), .left = c->rank[r].k };
        if (!s->open)
            set_cutoffs(f, c, r, s->left == 0 ? (struct apr_cutoff){ 0 } : take_all(c->rank[r].highest), SIZE_MAX);
        else
            s->key = digit_of(f->count, HALF, c->rank[r].highest, &s->left) << 16;
    }
}

/* The lower halves: read again, unless all are 0, as the counts then are. */
static enum apr_code find_lower(struct finding *f, struct apr_pass *pass, size_t input, const struct apr_contest *c, struct apr_error *e)
{
    if (f->low == 0) {
        for (unsigned r = 0; r < c->nrank; r++)
            f->rank[r].equals = f->count[f->rank[r].key >> 16];
        return APR_OK;
    }
    memset(f->count, 0, APR_MOST_RANKS * HALF * sizeof *f->count);
    APR_TRY(apr_pass_again(pass, input, LOWER, e));
    for (unsigned r = 0; r < c->nrank; r++) {
        struct search *const s = &f->rank[r];
        if (s->open)
            s->key |= digit_of(f->count + r * HALF, HALF, c->rank[r].highest, &s->left);
        s->equals = f->count[r * HALF + (s->key & (HALF - 1))];
    }
    return APR_OK;
}

/* Which of the equals: all of them, or those before an index. */
static enum apr_code find_places(struct finding *f, struct apr_pass *pass, size_t input, const struct apr_contest *c, struct apr_error *e)
{
    bool some = false;
    for (unsigned r = 0; r < c->nrank; r++) {
        struct search *const s = &f->rank[r];
        const bool highest = c->rank[r].highest;
        s->some = s->open && s->left < s->equals;
        some |= s->some;
        f->seen[r] = 0;
        if (s->open && !s->some)
            set_cutoffs(f, c, r, (struct apr_cutoff){ highest ? ~s->key : s->key, highest ? UINT32_MAX : 0, UINT64_MAX }, SIZE_MAX);
    }
    if (some)
        APR_TRY(apr_pass_again(pass, input, EQUALS, e));
    for (unsigned r = 0; r < c->nrank; r++)
        if (f->rank[r].some)
            APR_TRY(apr_pass_again(pass, input, PLACE + r, e));
    return APR_OK;
}

static enum apr_code done(void *ctx, struct apr_pass *pass, size_t input, struct apr_error *e)
{
    struct finding *const f = ctx;
    struct apr_contest *const c = &f->t->contest[input];
    if (f->t->choose != NULL) {
        c->zeros = f->zeros;
        f->t->choose(f->t->ctx, input, c);
    }
    begin_ranks(f, c);
    bool open = false;
    for (unsigned r = 0; r < c->nrank; r++)
        open |= f->rank[r].open;
    if (open) {
        APR_TRY(find_lower(f, pass, input, c, e));
        APR_TRY(find_places(f, pass, input, c, e));
    }
    memset(f->count, 0, APR_MOST_RANKS * HALF * sizeof *f->count);
    f->zeros = f->low = 0;
    return APR_OK;
}

static void enter(void *ctx, void *scratch)
{
    const struct finding *const f = ctx;
    if (f->t->enter != NULL)
        f->t->enter(f->t->ctx, ((struct bench *)scratch)->callers);
}

static void leave(void *ctx, void *scratch)
{
    const struct finding *const f = ctx;
    if (f->t->leave != NULL)
        f->t->leave(f->t->ctx, ((struct bench *)scratch)->callers);
}

static void measure_contests(const struct finding *f)
{
    for (size_t i = 0; i < f->t->ncontest; i++) {
        struct apr_contest *const c = &f->t->contest[i];
        uint64_t base = 0;
        c->count = c->zeros = 0;
        for (size_t k = c->first; k < c->first + c->n; k++) {
            f->base[k] = base;
            base += pieces_of(&f->t->tensor[k]);
            c->count += f->t->tensor[k].count;
        }
    }
}

enum apr_code apr_thresholds_find(const struct apr_thresholds *t, const struct apr_run *r, struct apr_error *e)
{
    struct finding f = { .t = t };
    const struct apr_job job = { .what = "ranking", .ctx = &f, .ninput = t->ncontest, .result = sizeof(struct counts),
                                 .scratch = sizeof(struct bench) + t->scratch, .cut = cut, .make = make, .take = take, .done = done,
                                 .enter = enter, .leave = leave };
    f.base = calloc(t->ntensor + 1, sizeof *f.base);
    f.count = calloc(APR_MOST_RANKS * HALF, sizeof *f.count);
    enum apr_code code = f.base == NULL || f.count == NULL ? apr_no_memory(e) : APR_OK;
    if (code == APR_OK) {
        measure_contests(&f);
        code = apr_pass(r, &job, e);
    }
    free(f.base);
    free(f.count);
    return code;
}
