/* An APR's header, metadata and index for an edit in place: zeros fill what is left up to the data. The CRC at the end, where there is one,
 * is that of the new first bytes and of a rest that nobody reads: its CRC follows from the old one. A wrong one stays wrong. */
#include "reheader.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc.h"
#include "base/cursor.h"
#include "files/source.h"
#include "ui/report.h"

enum { HEADER = 64, ALIGN = 64, FOOTER = 4, CRC_AT = 40, METADATA_MOST = 100000000, NAME_MOST = 256 };
enum { PACKED = 3 }; /* flags: LZ4, zstd */

struct old_header {
    uint16_t flags;
    uint64_t index_at, data_at;
};

/* One entry of the index. rest: all behind the name */
struct entry {
    struct apr_bytes name, rest;
};

static enum apr_code take_header(struct apr_reheader *h, struct old_header *o, struct apr_error *e)
{
    const struct apr_source *const s = h->m->file[0];
    struct apr_cursor c = { .of = s->map, .at = 6 };
    o->flags = apr_u16(&c);
    c.at = 24;
    o->index_at = apr_u64(&c);
    o->data_at = apr_u64(&c);
    h->room = o->data_at;
    h->unit = ALIGN;
    if ((o->flags & PACKED) != 0 || s->stored != s->map.n)
        return apr_fail(e, APR_EUNSUPPORTED, 6, "is compressed, which is not changed in place: apr-convert IN OUT writes another file");
    return APR_OK;
}

static int by_name(const void *a, const void *b)
{
    return apr_bytes_compare(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

/* The index under its new names; the caller frees it. *end: where the padding of the tensor ends that reaches farthest. */
static enum apr_code take_index(const struct apr_reheader *h, const struct old_header *o, struct entry **index, uint64_t *end,
                                struct apr_error *e)
{
    struct apr_cursor c = { .of = h->m->file[0]->map, .at = (size_t)o->index_at };
    struct entry *const x = malloc((h->m->ntensor + 1) * sizeof *x);
    *index = x;
    *end = o->data_at;
    if (x == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < h->m->ntensor; i++) {
        uint64_t padded;
        apr_take_bytes(&c, apr_u16(&c));
        const size_t begin = c.at;
        apr_u8(&c);
        apr_take_bytes(&c, 8 * (uint64_t)apr_u8(&c));
        const uint64_t offset = apr_u64(&c), size = apr_u64(&c);
        x[i] = (struct entry){ h->name[i], { c.of.at + begin, c.at - begin } };
        if (x[i].name.n > NAME_MOST && !apr_bytes_equal(x[i].name, h->m->tensor[i].name))
            return apr_fail(e, APR_EARG, APR_NOWHERE, "a tensor cannot be called %s: in an APR names have %d bytes at most",
                            APR_QUOTED(x[i].name), NAME_MOST);
        if (apr_round_up(size, ALIGN, &padded) && o->data_at + offset + padded > *end) /* the reader has held it against 2^63 */
            *end = o->data_at + offset + padded;
    }
    if (c.bad)
        return apr_fail(e, APR_ECORRUPT, o->index_at, "its index is not what was read of it");
    if (h->m->ntensor > 0)
        qsort(x, h->m->ntensor, sizeof *x, by_name);
    return APR_OK;
}

static void put_metadata(FILE *to, const struct apr_meta *meta)
{
    struct apr_out o = { .to = to };
    apr_out_open(&o, NULL, '{');
    for (size_t i = 0; i < meta->n; i++) {
        const struct apr_value *const v = &meta->entry[i].value;
        apr_out_key(&o, meta->entry[i].key);
        if (v->encoding == APR_JSON && (v->type == APR_META_ARRAY || v->type == APR_META_OBJECT)) {
            apr_out_raw(&o, NULL, (struct apr_bytes){ 0 });
            apr_emit_bytes(to, v->text);
        } else {
            apr_out_value(&o, NULL, v, UINT64_MAX);
        }
    }
    apr_out_close(&o, '}');
}

/* Header, metadata, index. */
static enum apr_code assemble(struct apr_emit *m, const struct apr_reheader *h, const struct entry *index, struct apr_bytes *made,
                              struct apr_error *e)
{
    apr_emit_bytes(m->to, (struct apr_bytes){ h->m->file[0]->map.at, HEADER });
    put_metadata(m->to, h->meta);
    const uint64_t metadata = apr_emit_length(m) - HEADER;
    apr_emit_fill(m->to, 0, -apr_emit_length(m) % ALIGN);
    const uint64_t index_at = apr_emit_length(m);
    for (size_t i = 0; i < h->m->ntensor; i++) {
        apr_emit_integer(m->to, index[i].name.n, 2);
        apr_emit_bytes(m->to, index[i].name);
        apr_emit_bytes(m->to, index[i].rest);
    }
    if (metadata > METADATA_MOST)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "%llu bytes of metadata, an APR has %d at most", (unsigned long long)metadata, METADATA_MOST);
    APR_TRY(apr_emit_end(m, made, e));
    unsigned char *const header = (unsigned char *)(uintptr_t)made->at;
    apr_put_integer(header + 12, HEADER, 8);
    apr_put_integer(header + 20, metadata, 4);
    apr_put_integer(header + 24, index_at, 8);
    apr_put_integer(header + 32, h->room + h->inserted, 8);
    const uint32_t crc = apr_crc32_of(apr_crc32_of(0, (struct apr_bytes){ header, CRC_AT }),
                                      (struct apr_bytes){ header + CRC_AT + 4, HEADER - CRC_AT - 4 });
    apr_put_integer(header + CRC_AT, crc, 4);
    return APR_OK;
}

/* end: where a CRC stands, if one does. */
static void exchange_crc(struct apr_reheader *h, uint64_t end)
{
    const struct apr_bytes map = h->m->file[0]->map;
    if (map.n != end + FOOTER || h->missing > 0)
        return;
    struct apr_cursor c = { .of = map, .at = (size_t)end };
    const uint64_t rest = end - h->room;
    const uint32_t old_head = apr_crc32_of(0, (struct apr_bytes){ map.at, (size_t)h->room });
    const uint32_t data = apr_crc32_behind(apr_u32(&c), old_head, rest);
    h->ntail = FOOTER;
    memcpy(h->old_tail, map.at + end, FOOTER);
    apr_put_integer(h->tail, apr_crc32_joined(apr_crc32_of(0, h->header), data, rest), FOOTER);
}

enum apr_code apr_apr_reheader(struct apr_reheader *h, struct apr_error *e)
{
    struct old_header o;
    struct entry *index = NULL;
    struct apr_emit m = { 0 };
    struct apr_bytes made = { 0 };
    uint64_t end;
    h->header = (struct apr_bytes){ 0 };
    APR_TRY(take_header(h, &o, e));
    enum apr_code code = take_index(h, &o, &index, &end, e);
    if (code == APR_OK)
        code = apr_emit_begin(&m, e);
    if (code == APR_OK)
        code = assemble(&m, h, index, &made, e);
    if (code == APR_OK)
        code = apr_reheader_fill(h, made, 0, e);
    if (code == APR_OK)
        exchange_crc(h, end);
    apr_emit_drop(&m);
    free((unsigned char *)(uintptr_t)made.at);
    free(index);
    return code;
}
