/* Stages 7 and 10 of block types: scales and codes as they stand. */
#include "check.h"

#include "values/chunk.h"
#include "values/dtype.h"
#include "values/packed.h"

#define MOST_BLOCK_BYTES 320

uint64_t block_count(const struct apr_tensor *t)
{
    const bool has_fields = t->dtype->field[0].n > 0;
    if (!has_fields || t->data.n < t->dtype->head || (t->packed != NULL && t->packed->form != APR_PACKED_BLOCKS))
        return 0;
    return (t->data.n - t->dtype->head) / t->dtype->bytes;
}

void tally_blocks(const struct apr_tensor *t, uint64_t first, uint64_t end, struct block_tally *b)
{
    const struct apr_kernels *const k = apr_kernels_for(APR_SCALAR);
    apr_codes_fn *const codes_of = k->codes[apr_dtype_id(t->dtype)];
    const unsigned char *block = t->data.at + t->dtype->head + first * t->dtype->bytes;
    unsigned char turned[MOST_BLOCK_BYTES];
    for (uint64_t i = first; i < end; i++, block += t->dtype->bytes) {
        const unsigned char *now = block;
        if (t->swapped) {
            apr_turn_blocks(t, (struct apr_bytes){ block, t->dtype->bytes }, turned);
            now = turned;
        }
        const char *const field = apr_bad_scale(k, t->dtype, now);
        const enum apr_codes codes = field == NULL && codes_of != NULL ? codes_of(now) : APR_CODES_SOUND;
        const struct block_tally one = { field != NULL, i, codes == APR_CODES_FOREIGN, i, codes == APR_CODES_LOOSE, i, field };
        if (field != NULL || codes != APR_CODES_SOUND)
            merge_blocks(b, &one);
    }
}

void merge_blocks(struct block_tally *into, const struct block_tally *b)
{
    if (into->bad == 0) {
        into->first_bad = b->first_bad;
        into->field = b->field;
    }
    if (into->foreign == 0)
        into->first_foreign = b->first_foreign;
    if (into->loose == 0)
        into->first_loose = b->first_loose;
    into->bad += b->bad;
    into->foreign += b->foreign;
    into->loose += b->loose;
}
