#include "base/hash.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

static struct apr_digest of_xxh(XXH128_hash_t h) { return (struct apr_digest){ h.high64, h.low64 }; }

const char *apr_digest_spell(struct apr_digest d, char text[33])
{
    snprintf(text, 33, "%016llx%016llx", (unsigned long long)d.high, (unsigned long long)d.low);
    return text;
}

bool apr_digest_read(struct apr_bytes text, struct apr_digest *d)
{
    uint64_t half[2] = { 0, 0 };
    if (text.n != 32)
        return false;
    for (size_t i = 0; i < 32; i++) {
        const unsigned char c = text.at[i];
        const unsigned digit = c >= '0' && c <= '9' ? c - (unsigned)'0' : c >= 'a' && c <= 'f' ? c - (unsigned)'a' + 10 : 16;
        if (digit == 16)
            return false;
        half[i / 16] = half[i / 16] << 4 | digit;
    }
    *d = (struct apr_digest){ half[0], half[1] };
    return true;
}

bool apr_digest_equal(struct apr_digest a, struct apr_digest b) { return a.high == b.high && a.low == b.low; }

uint64_t apr_draw_key(struct apr_bytes name, uint64_t seed) { return XXH3_64bits_withSeed(name.at, name.n, seed); }

struct apr_digest apr_digest_of(struct apr_bytes b) { return of_xxh(XXH3_128bits(b.at, b.n)); }

/* Big-endian, as the digits are spelled. */
static void put64(unsigned char *at, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++)
        at[i] = (unsigned char)(v >> 8 * (7 - i));
}

static void put_digest(unsigned char *at, struct apr_digest d)
{
    put64(at, d.high);
    put64(at + 8, d.low);
}

struct apr_digest apr_digest_fold(struct apr_digest before, struct apr_digest next)
{
    unsigned char both[32];
    put_digest(both, before);
    put_digest(both + 16, next);
    return of_xxh(XXH3_128bits(both, sizeof both));
}

/* | dims, 8 bytes each | word | head | */
static struct apr_digest begin(const struct apr_tensor *t, const char *word, size_t head)
{
    unsigned char bytes[8 * APR_MAX_DIMS + 32 + UINT8_MAX];
    size_t n = 0;
    for (unsigned i = 0; i < t->ndim; i++, n += 8)
        put64(bytes + n, t->dim[i]);
    const size_t length = strnlen(word, 32);
    memcpy(bytes + n, word, length);
    n += length;
    if (head > 0 && t->data.n >= head)
        memcpy(bytes + n, t->data.at, head);
    return of_xxh(XXH3_128bits(bytes, n + (t->data.n >= head ? head : 0)));
}

struct apr_digest apr_digest_stored(const struct apr_tensor *t) { return begin(t, t->dtype->name, t->dtype->head); }

struct apr_digest apr_digest_values(const struct apr_tensor *t) { return begin(t, "values", 0); }

void apr_model_digest_add(struct apr_model_digest *m, const struct apr_tensor *t, struct apr_digest hash)
{
    if (t->tied)
        return;
    const struct apr_digest d = apr_digest_fold(apr_digest_of(t->name), hash);
    m->sum.low += d.low;
    m->sum.high += d.high + (m->sum.low < d.low);
    m->n++;
}

struct apr_digest apr_model_digest_end(const struct apr_model_digest *m)
{
    return apr_digest_fold(m->sum, (struct apr_digest){ 0, m->n });
}
