/* What is stored of a packed weight: the bytes of its codes and scales, and blocks of a GGUF rearranged out of them. */
#include "values/dtype.h"
#include "values/packed_row.h"

/* ---- bytes ---------------------------------------------------------------------------------------------------------- */

struct apr_bytes apr_packed_codes(const struct apr_tensor *t, uint64_t first, uint64_t n)
{
    const struct apr_packed *const p = t->packed;
    if (n == 0 || p->form == APR_PACKED_DOWN || p->form == APR_PACKED_EIGHTS)
        return (struct apr_bytes){ t->data.at, n == 0 ? 0 : t->data.n };
    const struct apr_packed_row from = apr_packed_row_of(t, first), to = apr_packed_row_of(t, first + n - 1);
    const uint64_t last = (first + n - 1) % p->ncol;
    const unsigned char *begin = from.at, *end = to.at + p->stride;
    if (p->form == APR_PACKED_VALUES || p->per_word == 0) {
        const unsigned bits = p->form == APR_PACKED_VALUES ? 8u * p->code->bytes : p->bits;
        begin += first % p->ncol * bits / 8;
        end = to.at + (last * bits + bits + 7) / 8;
    }
    return (struct apr_bytes){ begin, (size_t)(end - begin) };
}

struct apr_bytes apr_packed_scales(const struct apr_tensor *t, uint64_t first, uint64_t n)
{
    const struct apr_packed *const p = t->packed;
    if (n == 0 || p->scale.data.at == NULL || p->index.data.at != NULL || p->scale_along > 1)
        return (struct apr_bytes){ t->data.at, 0 };
    const struct apr_packed_row from = apr_packed_row_of(t, first), to = apr_packed_row_of(t, first + n - 1);
    const uint64_t begin = apr_scale_index(p, &from, 0) * p->scale.dtype->bytes;
    const uint64_t end = (apr_scale_index(p, &to, 0) + p->ngroup) * p->scale.dtype->bytes;
    return (struct apr_bytes){ p->scale.data.at + begin, (size_t)(apr_min(end, p->scale.data.n) - begin) };
}

/* ---- blocks --------------------------------------------------------------------------------------------------------- */

bool apr_packed_has_blocks(const struct apr_tensor *t)
{
    return t->packed == NULL || t->packed->form == APR_PACKED_BLOCKS || (!t->dtype->packed && t->packed->ncol % t->dtype->block == 0);
}

/* Pairs of neighbours, n codes in all, to pairs of elements n / 2 apart. */
static void turn_nibbles(const unsigned char *in, unsigned n, unsigned char *out)
{
    for (unsigned i = 0; i < n / 2; i += 2) {
        const unsigned low = in[i / 2], high = in[i / 2 + n / 4];
        out[i] = (unsigned char)((low & 15) | (high & 15) << 4);
        out[i + 1] = (unsigned char)(low >> 4 | (high & 0xf0));
    }
}

void apr_packed_blocks(const struct apr_tensor *t, uint64_t first, uint64_t n, unsigned char *out)
{
    const struct apr_packed *const p = t->packed;
    const unsigned block = t->dtype->block, group = (unsigned)p->group_columns, ngroup = block / group;
    for (uint64_t now; n > 0; first += now, n -= now, out += t->dtype->bytes) {
        const struct apr_packed_row r = apr_packed_row_of(t, first);
        const uint64_t col = first % p->ncol;
        const unsigned char *const scale = p->scale.data.at + apr_scale_index(p, &r, col / group);
        now = apr_min(n, block);
        for (unsigned g = 0; g < ngroup; g++) {
            out[g] = ngroup == 1 ? scale[g] : scale[g] & 0x7f; /* a scale of NVFP4 has no sign there */
            turn_nibbles(r.at + (col + g * group) / 2, group, out + ngroup + g * group / 2);
        }
    }
}
