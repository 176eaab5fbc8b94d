/* Stages 7 and 10 of block types: scales and codes as they stand. */
#include "check.h"

#include <string.h>

#include "values/dtype.h"

static unsigned load16(const unsigned char *at, bool swapped)
{
    return swapped ? (unsigned)at[0] << 8 | at[1] : (unsigned)at[1] << 8 | at[0];
}

static bool finite16(unsigned half) { return (half & 0x7C00) != 0x7C00; }

static bool finite32(const unsigned char *at, bool swapped)
{
    const unsigned high = load16(at + (swapped ? 0 : 2), swapped);
    return (high & 0x7F80) != 0x7F80;
}

/* IQ1_M: the top four bits of its four u16, lowest first. */
static unsigned assembled_scale(const unsigned char *block, bool swapped)
{
    unsigned d = 0;
    for (unsigned i = 0; i < 4; i++)
        d |= load16(block + 48 + 2 * i, swapped) >> 12 << 4 * i;
    return d;
}

/* The first scale of the block that is NaN or infinite, or NULL. */
static const char *bad_scale(const struct apr_dtype *d, const unsigned char *block, bool swapped)
{
    switch (apr_dtype_id(d)) {
    case APR_MXFP4:
        return block[0] == 0xFF ? "e" : NULL;
    case APR_NVFP4:
        for (unsigned i = 0; i < 4; i++)
            if ((block[i] & 0x7F) == 0x7F)
                return "d";
        return NULL;
    case APR_IQ1_M:
        return finite16(assembled_scale(block, swapped)) ? NULL : "scales";
    default:
        for (const struct apr_field *f = d->field; f < d->field + APR_MAX_FIELDS && f->n > 0; f++)
            if ((f->kind == APR_FIELD_F16 && !finite16(load16(block + f->at, swapped))) ||
                (f->kind == APR_FIELD_F32 && !finite32(block + f->at, swapped)))
                return f->name;
        return NULL;
    }
}

/* An encoder writes d = max|x| / 127: codes from -127 to 127, and one of either end in each block but an empty one. */
static void tally_q8_0(const unsigned char *block, bool swapped, bool *foreign, bool *loose)
{
    const unsigned d = load16(block, swapped);
    unsigned most = 0;
    for (unsigned i = 0; i < 32; i++) {
        const unsigned code = block[2 + i], size = code < 128 ? code : 256 - code;
        most = size > most ? size : most;
    }
    *foreign = most == 128 || (d > 0x8000 && most > 0);
    *loose = !*foreign && most != 127 && most > 0 && (d & 0x7FFF) != 0;
}

/* Five digits of base 3 as a fraction of 256: ceil(q * 256 / 243). */
static bool is_ternary(unsigned byte)
{
    const unsigned q = byte * 243 / 256;
    return (q * 256 + 242) / 243 == byte;
}

static bool has_code_3(const unsigned char *at, size_t n)
{
    bool yes = false;
    for (size_t i = 0; i < n; i++)
        yes |= (at[i] & at[i] >> 1 & 0x55) != 0;
    return yes;
}

static void judge_codes(const struct apr_dtype *d, const unsigned char *block, bool swapped, bool *foreign, bool *loose)
{
    *foreign = *loose = false;
    switch (apr_dtype_id(d)) {
    case APR_Q8_0:
        tally_q8_0(block, swapped, foreign, loose);
        break;
    case APR_APR_Q8:
        *foreign = block[0] == 0x80;
        break;
    case APR_TQ1_0:
        for (unsigned i = 0; i < 52; i++)
            *foreign |= !is_ternary(block[i]);
        break;
    case APR_TQ2_0:
        *foreign = has_code_3(block, 64);
        break;
    case APR_Q2_0:
        *foreign = has_code_3(block + 2, 16);
        break;
    default:
        break;
    }
}

uint64_t block_count(const struct apr_tensor *t)
{
    const bool has_fields = t->dtype->field[0].n > 0;
    return !has_fields || t->data.n < t->dtype->head ? 0 : (t->data.n - t->dtype->head) / t->dtype->bytes;
}

void tally_blocks(const struct apr_tensor *t, uint64_t first, uint64_t end, struct block_tally *b)
{
    const unsigned char *block = t->data.at + t->dtype->head + first * t->dtype->bytes;
    for (uint64_t i = first; i < end; i++, block += t->dtype->bytes) {
        const char *field = bad_scale(t->dtype, block, t->swapped);
        bool foreign = false, loose = false;
        if (field == NULL)
            judge_codes(t->dtype, block, t->swapped, &foreign, &loose);
        const struct block_tally one = { field != NULL, i, foreign, i, loose, i, field };
        if (field != NULL || foreign || loose)
            merge_tally(b, &one);
    }
}

void merge_tally(struct block_tally *into, const struct block_tally *b)
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
