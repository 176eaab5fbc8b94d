/* Content fingerprints: XXH3-128 per piece, folded by index, so that threads may share the work and the digest is one. */
#ifndef APR_HASH_H
#define APR_HASH_H

#include "base/core.h"

struct apr_digest {
    uint64_t high, low;
};

/* 32 lower-case hex digits into text; returns it. */
const char *apr_digest_spell(struct apr_digest d, char text[33]);

/* The digest that such a text spells; false when it is none. */
bool apr_digest_read(struct apr_bytes text, struct apr_digest *d);

bool apr_digest_equal(struct apr_digest a, struct apr_digest b);

/* XXH3-128 of bytes; of what two digests spell, one after the other. */
struct apr_digest apr_digest_of(struct apr_bytes b);
struct apr_digest apr_digest_fold(struct apr_digest before, struct apr_digest next);

/* Numbers that look random and are a function of seed, name and index alone: the key of a name is its XXH3-64 with that seed, the number of
 * an index that of its eight bytes, little-endian, with the key as the seed. All 64 bits are good. */
uint64_t apr_draw_key(struct apr_bytes name, uint64_t seed);

/* XXH3 as its specification has it for 8 bytes: here, since billions of them are drawn. The first constant is two words of its secret. */
static inline uint64_t apr_draw(uint64_t key, uint64_t index)
{
    const uint64_t seed = key ^ (uint64_t)__builtin_bswap32((uint32_t)key) << 32;
    uint64_t h = (index << 32 | index >> 32) ^ (0xc73ab174c5ecd5a2u - seed);
    h ^= (h << 49 | h >> 15) ^ (h << 24 | h >> 40);
    h *= 0x9fb21c651e98df25u;
    h ^= (h >> 35) + 8;
    h *= 0x9fb21c651e98df25u;
    return h ^ h >> 28;
}

/* What a tensor's digests begin with: the dtype's name, the shape and the head of its data; the shape alone. */
struct apr_digest apr_digest_stored(const struct apr_tensor *t);
struct apr_digest apr_digest_values(const struct apr_tensor *t);

/* The model's digest, blind to the order in which tensors are added. A tied placeholder has no bytes of its own and does not count, so
 * that a checkpoint without it has the same. Begin with zeros. */
struct apr_model_digest {
    struct apr_digest sum;
    uint64_t          n;
};
void apr_model_digest_add(struct apr_model_digest *m, const struct apr_tensor *t, struct apr_digest hash);
struct apr_digest apr_model_digest_end(const struct apr_model_digest *m);

#endif
