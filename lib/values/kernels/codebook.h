/* The codebooks of IQ1, IQ2 and IQ3 as their encoders search them. An entry, and every other tuple of level indices, is packed: level
 * index i at bits i * bits. What lies at a level index l is the position 2l + 1. */
#ifndef APR_KERNELS_CODEBOOK_H
#define APR_KERNELS_CODEBOOK_H

#include <stdint.h>

/* entry, at and list stay as they are forever.
 *   width, bits, levels  elements of a tuple, bits of one, and how many values it has: 3 of the 4 in two bits, or 8
 *   entry                the tuples that have an index, by it
 *   at                   [1 << width * bits], by tuple: the index of one on the grid; of another APR_OFF_GRID and where in list the
 *                        entries are that lie nearest, by rising squared distance, then index. What is no tuple has 0.
 *   list                 tuples; 16 may be read at any place of it */
struct apr_codebook {
    unsigned        width, bits, levels;
    const uint16_t *entry;
    const uint32_t *at;
    const uint16_t *list;
};

#define APR_OFF_GRID 0x80000000u
static inline unsigned apr_near_first(uint32_t at) { return at & 0x7ffff; }
static inline unsigned apr_near_count(uint32_t at) { return at >> 19 & 0xfff; }

enum apr_codebook_id { APR_BOOK_IQ2XXS, APR_BOOK_IQ2XS, APR_BOOK_IQ2S, APR_BOOK_IQ1S, APR_BOOK_IQ3XXS, APR_BOOK_IQ3S, APR_NBOOKS };

/* Filled at the first call for each, which takes some milliseconds; on any thread. */
const struct apr_codebook *apr_codebook(enum apr_codebook_id id);

#endif
