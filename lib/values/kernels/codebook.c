#include "values/kernels/codebook.h"

#include <assert.h>
#include <pthread.h>
#include <stddef.h>

#include "base/core.h"
#include "values/kernels/grids.h"

enum { MOST_ENTRIES = 2048, SLACK = 16, FAR = 64 };

/* A list takes the entries at the first `rings` squared distances that there are, counted in steps of one level; none is as far as FAR, or
 * farther than `reach`. */
struct source {
    unsigned        width, bits, rings, reach, nentry;
    const uint16_t *entry;
    uint32_t       *at;
    uint16_t       *list;
    size_t          nlist;
};

#define STORAGE(book, ntuple, n) \
    static uint32_t book##_at[ntuple]; \
    static uint16_t book##_list[n + SLACK]
STORAGE(iq2xxs, 1 << 16, 113157);
STORAGE(iq2xs, 1 << 16, 181721);
STORAGE(iq2s, 1 << 16, 44716);
STORAGE(iq1s, 1 << 16, 327721);
STORAGE(iq3xxs, 1 << 12, 18985);
STORAGE(iq3s, 1 << 12, 24733);

#define SOURCE(book, width, bits, rings, reach)                                                                              \
    {                                                                                                                        \
        width, bits, rings, reach, sizeof book##_codes / sizeof *book##_codes, book##_codes, book##_at, book##_list,                \
            sizeof book##_list / sizeof *book##_list - SLACK                                                                 \
    }
static const struct source sources[APR_NBOOKS] = {
    [APR_BOOK_IQ2XXS] = SOURCE(iq2xxs, 8, 2, 2, 12), [APR_BOOK_IQ2XS] = SOURCE(iq2xs, 8, 2, 2, 5),
    [APR_BOOK_IQ2S] = SOURCE(iq2s, 8, 2, 1, 3),      [APR_BOOK_IQ1S] = SOURCE(iq1s, 8, 2, 3, 4),
    [APR_BOOK_IQ3XXS] = SOURCE(iq3xxs, 4, 3, 2, 34), [APR_BOOK_IQ3S] = SOURCE(iq3s, 4, 3, 3, 28),
};
static struct apr_codebook books[APR_NBOOKS];

/* Squared distances of two halves of tuples, packed as the tuples are: a row for each half. */
static void measure_halves(const struct source *s, uint8_t distance[256][256])
{
    const unsigned n = 1u << s->width / 2 * s->bits, mask = (1u << s->bits) - 1;
    for (unsigned a = 0; a < n; a++)
        for (unsigned b = 0; b < n; b++) {
            int sum = 0;
            for (unsigned i = 0; i < s->width / 2; i++) {
                const int step = (int)(a >> i * s->bits & mask) - (int)(b >> i * s->bits & mask);
                sum += step * step;
            }
            distance[a][b] = (uint8_t)sum;
        }
}

/* Entries whose upper half is within reach of a tuple's, by rising index, and its squared distance. */
struct near {
    unsigned n;
    uint16_t tuple[MOST_ENTRIES];
    uint8_t  upper[MOST_ENTRIES];
};

/* Writes the entries nearest to a tuple to list and returns how many they are. `lower` has the squared distance of each half that there may
 * be from the tuple's lower one. */
static unsigned list_nearest(const struct source *s, const struct near *near, const uint8_t *lower, uint16_t *list)
{
    const unsigned half = (1u << s->width / 2 * s->bits) - 1;
    uint8_t distance[MOST_ENTRIES];
    uint16_t taken[MOST_ENTRIES];
    uint64_t seen = 0;
    for (unsigned i = 0; i < near->n; i++) {
        const unsigned d = near->upper[i] + (unsigned)lower[near->tuple[i] & half];
        distance[i] = (uint8_t)d;
        seen |= (uint64_t)(d < FAR) << d % FAR;
    }
    uint64_t rest = seen;
    for (unsigned ring = 1; ring < s->rings; ring++)
        rest &= rest - 1;
    assert(rest != 0);
    const unsigned most = (unsigned)__builtin_ctzll(rest);
    unsigned ntaken = 0, n = 0;
    assert(most <= s->reach);
    for (unsigned i = 0; i < near->n; i++) {
        taken[ntaken] = (uint16_t)i;
        ntaken += distance[i] <= most;
    }
    for (; n < ntaken; seen &= seen - 1)
        for (unsigned i = 0; i < ntaken; i++)
            if (distance[taken[i]] == (unsigned)__builtin_ctzll(seen))
                list[n++] = near->tuple[taken[i]];
    return n;
}

/* The entries within reach of a tuple's upper half, as the row of its distances tells. */
static void find_near(const struct source *s, const uint8_t *distance, struct near *near)
{
    near->n = 0;
    for (unsigned i = 0; i < s->nentry; i++) {
        const uint8_t d = distance[s->entry[i] >> s->width / 2 * s->bits];
        near->tuple[near->n] = s->entry[i];
        near->upper[near->n] = d;
        near->n += d <= s->reach;
    }
}

/* Whether each element of what is packed in two bits is one of three levels. Of three bits all are levels. */
static bool is_tuple(const struct source *s, unsigned packed) { return s->bits == 3 || !(packed & packed >> 1 & 0x5555u); }

static void fill(enum apr_codebook_id id)
{
    const struct source *const s = &sources[id];
    const unsigned shift = s->width / 2 * s->bits, n = 1u << shift;
    uint8_t distance[256][256];
    struct near near;
    size_t used = 0;
    measure_halves(s, distance);
    for (unsigned i = 0; i < s->nentry; i++)
        s->at[s->entry[i]] = i | APR_OFF_GRID >> 1;
    for (unsigned high = 0; high < n; high++) {
        find_near(s, distance[high], &near);
        for (unsigned low = 0; low < n; low++) {
            uint32_t *const at = &s->at[high << shift | low];
            if (*at || !is_tuple(s, high << shift | low)) {
                *at &= APR_OFF_GRID / 2 - 1;
                continue;
            }
            const unsigned count = list_nearest(s, &near, distance[low], s->list + used);
            *at = APR_OFF_GRID | count << 19 | (uint32_t)used;
            used += count;
        }
    }
    assert(used == s->nlist);
    books[id] = (struct apr_codebook){ s->width, s->bits, s->bits == 3 ? 8 : 3, s->entry, s->at, s->list };
}

#define FILL(id) \
    static void fill_##id(void) { fill(id); }
FILL(APR_BOOK_IQ2XXS)
FILL(APR_BOOK_IQ2XS)
FILL(APR_BOOK_IQ2S)
FILL(APR_BOOK_IQ1S)
FILL(APR_BOOK_IQ3XXS)
FILL(APR_BOOK_IQ3S)

const struct apr_codebook *apr_codebook(enum apr_codebook_id id)
{
    static void (*const fills[APR_NBOOKS])(void) = {
        fill_APR_BOOK_IQ2XXS, fill_APR_BOOK_IQ2XS, fill_APR_BOOK_IQ2S, fill_APR_BOOK_IQ1S, fill_APR_BOOK_IQ3XXS, fill_APR_BOOK_IQ3S,
    };
    static pthread_once_t once[APR_NBOOKS] = {
        PTHREAD_ONCE_INIT, PTHREAD_ONCE_INIT, PTHREAD_ONCE_INIT, PTHREAD_ONCE_INIT, PTHREAD_ONCE_INIT, PTHREAD_ONCE_INIT,
    };
    pthread_once(&once[id], fills[id]);
    return &books[id];
}
