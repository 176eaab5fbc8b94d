#include "base/nearest.h"

#include "base/bytes.h"

#define MOST_BYTES 128

static unsigned least(unsigned a, unsigned b) { return a < b ? a : b; }

/* The distance of a and b, both of at most MOST_BYTES: row i of the table says how far the first i bytes of a are from each start of b. */
static unsigned distance(struct apr_bytes a, struct apr_bytes b)
{
    unsigned row[3][MOST_BYTES + 1];
    for (unsigned k = 0; k <= b.n; k++)
        row[0][k] = k;
    for (unsigned i = 1; i <= a.n; i++) {
        unsigned *const now = row[i % 3], *const before = row[(i + 2) % 3], *const two_before = row[(i + 1) % 3];
        now[0] = i;
        for (unsigned k = 1; k <= b.n; k++) {
            now[k] = least(least(before[k] + 1, now[k - 1] + 1), before[k - 1] + (a.at[i - 1] != b.at[k - 1]));
            if (i > 1 && k > 1 && a.at[i - 1] == b.at[k - 2] && a.at[i - 2] == b.at[k - 1])
                now[k] = least(now[k], two_before[k - 2] + 1);
        }
    }
    return row[a.n % 3][b.n];
}

/* Does the word stand at an end of the dotted candidate? */
static bool is_part(struct apr_bytes word, struct apr_bytes candidate)
{
    if (word.n == 0 || candidate.n <= word.n + 1)
        return false;
    const size_t rest = candidate.n - word.n;
    return (candidate.at[word.n] == '.' && memcmp(candidate.at, word.at, word.n) == 0) ||
           (candidate.at[rest - 1] == '.' && memcmp(candidate.at + rest, word.at, word.n) == 0);
}

/* Or between its dots? */
static bool is_inner_part(struct apr_bytes word, struct apr_bytes candidate)
{
    for (size_t at = 1; word.n > 2 && at + word.n < candidate.n; at++)
        if (candidate.at[at - 1] == '.' && candidate.at[at + word.n] == '.' && memcmp(candidate.at + at, word.at, word.n) == 0)
            return true;
    return false;
}

struct apr_nearest apr_nearest_to(struct apr_bytes wanted)
{
    const unsigned most = wanted.n < 10 ? 2 : (unsigned)apr_min(wanted.n, MOST_BYTES) / 5;
    return (struct apr_nearest){ .wanted = wanted, .distance = most + 1 };
}

void apr_nearest_try(struct apr_nearest *n, struct apr_bytes candidate)
{
    if (n->distance > 1 && candidate.n <= MOST_BYTES && is_part(n->wanted, candidate)) {
        n->best = candidate;
        n->distance = 1;
        return;
    }
    if (n->distance > 2 && candidate.n <= MOST_BYTES && is_inner_part(n->wanted, candidate)) {
        n->best = candidate;
        n->distance = 2;
        return;
    }
    const size_t apart = candidate.n > n->wanted.n ? candidate.n - n->wanted.n : n->wanted.n - candidate.n;
    if (candidate.n == 0 || candidate.n > MOST_BYTES || n->wanted.n > MOST_BYTES || apart >= n->distance)
        return;
    const unsigned d = distance(n->wanted, candidate);
    if (d < n->distance && d < n->wanted.n) {
        n->best = candidate;
        n->distance = d;
    }
}
