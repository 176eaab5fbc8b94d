#include "flow/threshold.h"

#include <math.h>
#include <stdlib.h>

#include "flow/pass.h"
#include "flow/threshold_count.h"
#include "values/chunk.h"

#define HALF APR_MOST_BUCKETS /* keys have two halves of 16 bits */
#define RUN 16u        /* pieces counted in one go: a million elements to 65,536 counts */
#define SCRATCH_LINE 64u

#define SAMPLED      ((uint64_t)16 * APR_CHUNK) /* elements: of contests of so many a sample is looked at first */
#define PLACES       128u                       /* of a sample, evenly spread */
#define AT_PLACE     256u                       /* elements that are looked at there */

/* What is read for. FIRST: a sample of a large contest, else UPPER. PLACE and the rank's number: the piece where the last of its equals
 * lies. */
enum { FIRST, UPPER, BETWEEN, LOWER, EQUALS, PLACE };

/* Of one contest at a time: what is known of each rank.
 *   open     what it takes is neither none nor all
 *   left     how many are to be taken of those that are not below the key, as far as that is known
 *   probe    where the key is sought, in buckets, and the key that is most likely; a width of 0: nothing else
 *   exact    the key is known; counted: the equals of each piece are
 *   some     of its equals some are taken and others not
 *   below    how many are below the probe; equals: how many have the key
 *   piece    where the last one lies that is taken */
struct search {
    bool             open, exact, counted, some;
    struct apr_probe probe;
    uint32_t         key;
    uint64_t         left, below, equals, piece;
};

/*   base    of each tensor: pieces of its contest before it
 *   count   of each bucket, of each rank; zeros, low: of scores that are 0, and all lower halves together
 *   equals  of each piece, of each rank */
struct finding {
    const struct apr_thresholds *t;
    apr_count_keys_fn           *count_keys;
    uint64_t                    *base;
    uint64_t                    *count;
    uint32_t                   (*equals)[APR_MOST_RANKS];
    uint64_t                     zeros;
    uint32_t                     low;
    struct search                rank[APR_MOST_RANKS];
};

/* What comes of a run of pieces. */
struct counts {
    uint32_t zeros, low, below[APR_MOST_RANKS], equals[RUN][APR_MOST_RANKS];
    union {
        uint32_t         bucket[APR_MOST_RANKS][HALF];
        uint32_t         sample[PLACES * AT_PLACE];
        struct apr_probe probe[APR_MOST_RANKS];
        struct {
            uint32_t n, at[APR_CHUNK];
        } place;
    };
};

struct bench {
    _Alignas(SCRATCH_LINE) float score[APR_STRETCH];
    _Alignas(SCRATCH_LINE) unsigned char callers[];
};

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

static bool is_sampled(const struct finding *f, const struct apr_contest *c) { return f->t->choose == NULL && c->count >= SAMPLED; }

static struct apr_cut cut(void *ctx, size_t input, unsigned mode)
{
    const struct finding *const f = ctx;
    const struct apr_contest *const c = &f->t->contest[input];
    bool needed = f->t->choose != NULL || mode > FIRST;
    for (unsigned r = 0; r < c->nrank && !needed; r++)
        needed = is_open(c, r);
    const bool one = mode >= PLACE || (mode == FIRST && is_sampled(f, c));
    const uint64_t npiece = !needed ? 0 : one ? 1 : pieces_of_contest(f, c);
    return (struct apr_cut){ .npiece = npiece, .run = RUN, .elements = APR_ALONE, .bytes = npiece * APR_CHUNK * sizeof(float) };
}

/* ---- counting ------------------------------------------------------------------------------------------------------- */

static enum apr_code find_nan(const struct apr_scored *t, uint64_t first, const float *score, struct apr_error *e)
{
    size_t i = 0;
    while (!isnan(score[i]))
        i++;
    return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, t->name, ": the score of element %llu is NaN", (unsigned long long)(first + i));
}

static enum apr_code count_upper(const struct apr_scored *t, uint64_t first, const float *score, size_t n, struct counts *into,
                                 struct apr_error *e)
{
    uint32_t low = 0, zeros = 0;
    bool odd = false;
    for (size_t i = 0; i < n; i++) {
        const uint32_t key = apr_score_key(score[i]);
        into->bucket[0][key >> 16]++;
        low |= key;
        zeros += score[i] == 0;
        odd |= isnan(score[i]);
    }
    into->low |= low & (HALF - 1);
    into->zeros += zeros;
    return odd ? find_nan(t, first, score, e) : APR_OK;
}

/* Is a rank's probe counted in that mode? */
static bool is_counted(const struct search *s, unsigned mode)
{
    return mode == BETWEEN ? s->open : mode == LOWER ? s->open && !s->exact : s->some && !s->counted;
}

static enum apr_code count_probes(const struct finding *f, const struct apr_pieces *p, const struct apr_scored *t, uint64_t first,
                                  const float *score, size_t n, struct counts *into, uint32_t *equals, struct apr_error *e)
{
    for (unsigned r = 0; r < f->t->contest[p->input].nrank; r++) {
        const struct search *const s = &f->rank[r];
        struct apr_counted counted;
        if (!is_counted(s, p->mode))
            continue;
        f->count_keys(score, n, &s->probe, into->bucket[r], &counted);
        into->below[r] += counted.below;
        equals[r] += counted.equals;
        if (counted.nan)
            return find_nan(t, first, score, e);
    }
    return APR_OK;
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
        if (p->mode >= PLACE)
            note_places(f->rank[p->mode - PLACE].key, first, b->score, n, into);
        else if (p->mode >= BETWEEN)
            APR_TRY(count_probes(f, p, t, first, b->score, n, into, into->equals[piece - p->first], e));
        else
            APR_TRY(count_upper(t, first, b->score, n, into, e));
    }
    return APR_OK;
}

/* ---- a sample ------------------------------------------------------------------------------------------------------- */

static enum apr_code make_sample(const struct finding *f, size_t input, struct bench *b, struct counts *into, struct apr_error *e)
{
    const struct apr_contest *const c = &f->t->contest[input];
    struct apr_probe probe[APR_MOST_RANKS];
    size_t taken = 0;
    for (uint64_t i = 0; i < PLACES; i++) {
        const uint64_t pieces = pieces_of_contest(f, c), piece = pieces / PLACES * i + pieces % PLACES * i / PLACES;
        const size_t tensor = tensor_of(f, c, piece);
        const uint64_t first = (piece - f->base[tensor]) * APR_CHUNK;
        const size_t n = (size_t)apr_min(AT_PLACE, f->t->tensor[tensor].count - first);
        APR_TRY(f->t->score(f->t->ctx, tensor, first, n, b->callers, b->score, e));
        for (size_t j = 0; j < n; j++)
            into->sample[taken++] = apr_score_key(b->score[j]);
    }
    for (unsigned r = 0; r < c->nrank; r++)
        if (is_open(c, r))
            probe[r] = apr_probe_for(c, r, into->sample, taken);
    memcpy(into->probe, probe, sizeof probe);
    return APR_OK;
}

/* ---- making --------------------------------------------------------------------------------------------------------- */

static enum apr_code make(void *ctx, const struct apr_pieces *p, void *scratch, void *result, struct apr_error *e)
{
    const struct finding *const f = ctx;
    const struct apr_contest *const c = &f->t->contest[p->input];
    struct counts *const into = result;
    into->place.n = into->zeros = into->low = 0;
    if (p->mode >= PLACE)
        return make_piece(f, p, f->rank[p->mode - PLACE].piece, scratch, into, e);
    if (p->mode == FIRST && is_sampled(f, c))
        return make_sample(f, p->input, scratch, into, e);
    for (unsigned r = 0; r < c->nrank; r++)
        if (p->mode < BETWEEN ? r == 0 : is_counted(&f->rank[r], p->mode) && f->rank[r].probe.width > 0)
            memset(into->bucket[r], 0, sizeof into->bucket[r]);
    memset(into->below, 0, sizeof into->below);
    memset(into->equals, 0, sizeof into->equals);
    for (uint64_t i = p->first; i < p->first + p->n; i++)
        APR_TRY(make_piece(f, p, i, scratch, into, e));
    return APR_OK;
}

/* ---- taking --------------------------------------------------------------------------------------------------------- */

static void take_upper(struct finding *f, const struct counts *of)
{
    for (size_t i = 0; i < HALF; i++)
        f->count[i] += of->bucket[0][i];
    f->zeros += of->zeros;
    f->low |= of->low;
}

static void take_probes(struct finding *f, const struct apr_pieces *p, const struct counts *of, unsigned nrank)
{
    for (unsigned r = 0; r < nrank; r++) {
        struct search *const s = &f->rank[r];
        if (!is_counted(s, p->mode))
            continue;
        s->below += of->below[r];
        for (size_t i = 0; i <= s->probe.width >> s->probe.shift && s->probe.width > 0; i++)
            f->count[r * HALF + i] += of->bucket[r][i];
        for (uint64_t i = 0; i < p->n; i++)
            f->equals[p->first + i][r] = of->equals[i][r];
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
    const struct counts *const of = result;
    (void)e;
    if (p->mode >= PLACE)
        take_place(f, c, p->mode - PLACE, result);
    else if (p->mode >= BETWEEN)
        take_probes(f, p, result, c->nrank);
    else if (p->mode == UPPER || !is_sampled(f, c))
        take_upper(f, result);
    else
        for (unsigned r = 0; r < c->nrank; r++)
            f->rank[r].probe = of->probe[r];
    return APR_OK;
}

/* ---- a contest ------------------------------------------------------------------------------------------------------ */

static void forget_counts(struct finding *f)
{
    memset(f->count, 0, APR_MOST_RANKS * HALF * sizeof *f->count);
    for (unsigned r = 0; r < APR_MOST_RANKS; r++)
        f->rank[r].below = 0;
}

static void begin_ranks(struct finding *f, const struct apr_contest *c)
{
    for (unsigned r = 0; r < c->nrank; r++) {
        struct search *const s = &f->rank[r];
        *s = (struct search){ .open = is_open(c, r), .left = c->rank[r].k, .probe = s->probe };
        if (!s->open)
            set_cutoffs(f, c, r, s->left == 0 ? (struct apr_cutoff){ 0 } : apr_take_all(c->rank[r].highest), SIZE_MAX);
    }
}

static uint64_t pieces_with(const struct finding *f, const struct apr_contest *c, unsigned r)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < pieces_of_contest(f, c); i++)
        n += f->equals[i][r];
    return n;
}

/* The key by what was counted at the probe; false: it is not there. Where its bucket holds others, they are counted once more, as the probe
 * then says. */
static bool look_between(struct finding *f, const struct apr_contest *c, unsigned r)
{
    struct search *const s = &f->rank[r];
    const uint32_t nbucket = (s->probe.width >> s->probe.shift) + 1;
    const uint64_t likely = pieces_with(f, c, r);
    uint64_t *const count = f->count + r * HALF, inside = 0;
    count[(s->probe.key - s->probe.low) >> s->probe.shift] += likely;
    for (size_t i = 0; i < nbucket; i++)
        inside += count[i];
    const uint64_t before = c->rank[r].highest ? c->count - s->below - inside : s->below;
    if (s->left <= before || s->left > before + inside)
        return false;
    s->left -= before;
    const uint32_t bucket = apr_digit_of(count, nbucket, c->rank[r].highest, &s->left);
    const uint32_t low = s->probe.low + (bucket << s->probe.shift), left = s->probe.width - (low - s->probe.low);
    s->equals = count[bucket];
    s->counted = s->probe.key >= low && (s->probe.key - low) >> s->probe.shift == 0 && s->equals == likely;
    s->key = s->counted ? s->probe.key : low;
    s->probe = (struct apr_probe){ .low = low, .width = (uint32_t)apr_min(left, (1u << s->probe.shift) - 1) };
    s->exact = s->counted || s->probe.width == 0;
    return true;
}

/* The keys by way of the probes that a sample has set; found: of every rank. */
static enum apr_code find_between(struct finding *f, struct apr_pass *pass, size_t input, const struct apr_contest *c, bool *found,
                                  struct apr_error *e)
{
    *found = true;
    APR_TRY(apr_pass_again(pass, input, BETWEEN, e));
    for (unsigned r = 0; r < c->nrank && *found; r++)
        *found = !f->rank[r].open || look_between(f, c, r);
    forget_counts(f);
    return APR_OK;
}

/* The keys by their upper halves, which have been counted. Where all lower halves are 0, the counts are those of keys. */
static void find_upper(struct finding *f, const struct apr_contest *c)
{
    for (unsigned r = 0; r < c->nrank; r++) {
        struct search *const s = &f->rank[r];
        if (!s->open)
            continue;
        const uint32_t half = apr_digit_of(f->count, HALF, c->rank[r].highest, &s->left);
        s->key = half << 16;
        s->equals = f->count[half];
        s->exact = f->low == 0;
        s->probe = (struct apr_probe){ .low = s->key, .width = HALF - 1 };
    }
    forget_counts(f);
}

/* Reads again for the keys of which only a bucket is known. */
static enum apr_code find_lower(struct finding *f, struct apr_pass *pass, size_t input, const struct apr_contest *c, struct apr_error *e)
{
    bool needed = false;
    for (unsigned r = 0; r < c->nrank; r++)
        needed |= f->rank[r].open && !f->rank[r].exact;
    if (!needed)
        return APR_OK;
    APR_TRY(apr_pass_again(pass, input, LOWER, e));
    for (unsigned r = 0; r < c->nrank; r++) {
        struct search *const s = &f->rank[r];
        if (!s->open || s->exact)
            continue;
        const uint32_t bucket = apr_digit_of(f->count + r * HALF, s->probe.width + 1, c->rank[r].highest, &s->left);
        s->key = s->probe.low + bucket;
        s->equals = f->count[r * HALF + bucket];
        s->exact = true;
    }
    forget_counts(f);
    return APR_OK;
}

/* The piece in which as many equals have come as are taken; `left` becomes how many of that piece. */
static void find_piece(struct finding *f, unsigned r)
{
    struct search *const s = &f->rank[r];
    while (f->equals[s->piece][r] < s->left)
        s->left -= f->equals[s->piece++][r];
}

/* Which of the equals: all of them, or those before an index. */
static enum apr_code find_places(struct finding *f, struct apr_pass *pass, size_t input, const struct apr_contest *c, struct apr_error *e)
{
    bool needed = false;
    for (unsigned r = 0; r < c->nrank; r++) {
        struct search *const s = &f->rank[r];
        const bool highest = c->rank[r].highest;
        s->some = s->open && s->left < s->equals;
        needed |= s->some && !s->counted;
        if (s->open && !s->some)
            set_cutoffs(f, c, r, (struct apr_cutoff){ highest ? ~s->key : s->key, highest ? UINT32_MAX : 0, UINT64_MAX }, SIZE_MAX);
        if (!s->counted)
            s->probe = (struct apr_probe){ .low = s->key, .key = s->key };
    }
    if (needed)
        APR_TRY(apr_pass_again(pass, input, EQUALS, e));
    for (unsigned r = 0; r < c->nrank; r++) {
        if (!f->rank[r].some)
            continue;
        find_piece(f, r);
        APR_TRY(apr_pass_again(pass, input, PLACE + r, e));
    }
    return APR_OK;
}

static enum apr_code find_keys(struct finding *f, struct apr_pass *pass, size_t input, const struct apr_contest *c, struct apr_error *e)
{
    bool found = false;
    if (is_sampled(f, c)) {
        APR_TRY(find_between(f, pass, input, c, &found, e));
        if (!found) {
            begin_ranks(f, c);
            APR_TRY(apr_pass_again(pass, input, UPPER, e));
        }
    }
    if (!found)
        find_upper(f, c);
    return find_lower(f, pass, input, c, e);
}

static enum apr_code done(void *ctx, struct apr_pass *pass, size_t input, struct apr_error *e)
{
    struct finding *const f = ctx;
    struct apr_contest *const c = &f->t->contest[input];
    bool open = false;
    if (f->t->choose != NULL) {
        c->zeros = f->zeros;
        f->t->choose(f->t->ctx, input, c);
    }
    begin_ranks(f, c);
    for (unsigned r = 0; r < c->nrank; r++)
        open |= f->rank[r].open;
    if (open) {
        APR_TRY(find_keys(f, pass, input, c, e));
        APR_TRY(find_places(f, pass, input, c, e));
    }
    forget_counts(f);
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

/* Returns the pieces of the largest. */
static uint64_t measure_contests(const struct finding *f)
{
    uint64_t most = 0;
    for (size_t i = 0; i < f->t->ncontest; i++) {
        struct apr_contest *const c = &f->t->contest[i];
        uint64_t base = 0;
        c->count = c->zeros = 0;
        for (size_t k = c->first; k < c->first + c->n; k++) {
            f->base[k] = base;
            base += pieces_of(&f->t->tensor[k]);
            c->count += f->t->tensor[k].count;
        }
        most = base > most ? base : most;
    }
    return most;
}

enum apr_code apr_thresholds_find(const struct apr_thresholds *t, const struct apr_run *r, struct apr_error *e)
{
    struct finding f = { .t = t, .count_keys = apr_count_keys_at(r->kernels->isa) };
    const struct apr_job job = { .what = "ranking", .ctx = &f, .ninput = t->ncontest, .result = sizeof(struct counts),
                                 .scratch = sizeof(struct bench) + t->scratch, .cut = cut, .make = make, .take = take, .done = done,
                                 .enter = enter, .leave = leave };
    f.base = calloc(t->ntensor + 1, sizeof *f.base);
    f.count = calloc(APR_MOST_RANKS * HALF, sizeof *f.count);
    f.equals = f.base == NULL ? NULL : calloc((size_t)measure_contests(&f) + 1, sizeof *f.equals);
    const bool enough = f.base != NULL && f.count != NULL && f.equals != NULL;
    const enum apr_code code = enough ? apr_pass(r, &job, e) : apr_no_memory(e);
    free(f.base);
    free(f.count);
    free(f.equals);
    return code;
}
