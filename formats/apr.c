/* APR v2:
 *   | 64: header | JSON object | index: entries in name order | data: tensors in any order, each on a multiple of 64 | u32 CRC, or none |
 * Behind the header all may be packed. A file of exactly `end` bytes (see struct extent) has no CRC, one of 4 more has it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libdeflate.h>

#include "reheader.h"

#include "base/cursor.h"
#include "files/inflate.h"
#include "files/source.h"
#include "layout.h"
#include "model/json.h"
#include "model/meta.h"
#include "model/model.h"
#include "values/dtype.h"

enum { HEADER = 64, ALIGN = 64, FOOTER = 4, SMALLEST_ENTRY = 20 };
#define METADATA_MOST  100000000u    /* bytes */
#define KEYS_MOST      100000u
#define UNPACKED_MOST  (256u << 20)  /* bytes before the data of a packed file: what is unpacked on its header's word alone */
#define CHECKSUM_STEP  (4u << 20)    /* bytes after which their pages are let go */

enum {
    FLAG_LZ4 = 1 << 0, FLAG_ZSTD = 1 << 1, FLAG_ENCRYPTED = 1 << 2, FLAG_COLUMN_MAJOR = 1 << 11,
    FLAGS_UNKNOWN = 0xF000,
};

struct header {
    uint8_t  minor;
    uint16_t flags;
    uint32_t count, metadata_size;
    uint64_t metadata_at, index_at, data_at;
    bool     reserved_used;
};

struct entry {
    size_t           at;      /* in the file */
    struct apr_bytes name;
    uint8_t          byte, ndim;
    uint64_t         dim[APR_MAX_DIMS];
    uint64_t         offset, size;
};

/* What a first walk over the index tells.
 *   end        where the padding of the tensor that reaches farthest ends
 *   embedding  where the entry of the token embedding is, 0 when there is none */
struct extent {
    uint64_t end;
    size_t   embedding;
};

typedef unsigned long long ull;

/* ---- header --------------------------------------------------------------------------------------------------------- */

static bool probe(struct apr_bytes start, uint64_t size)
{
    (void)size;
    return start.n >= 3 && memcmp(start.at, "APR", 3) == 0 && (start.n == 3 || start.at[3] != 'T');
}

static enum apr_code check_magic(struct apr_bytes map, struct apr_error *e)
{
    if (map.n < 4)
        return apr_fail(e, APR_ECORRUPT, map.n, "the file ends inside its magic");
    switch (map.at[3]) {
    case 0:
    case '2':
        return APR_OK;
    case '1':
        return apr_fail(e, APR_EUNSUPPORTED, 0, "\"APR1\", the older layout for Whisper models, is not read");
    case 'N':
        return apr_fail(e, APR_EUNSUPPORTED, 0, "\"APRN\", version 1 of the container, is not read");
    default:
        return apr_fail(e, APR_EUNSUPPORTED, 3, "the magic is APR and then byte 0x%02x, where 0x00 or '2' should be", map.at[3]);
    }
}

static uint32_t header_crc(const unsigned char header[HEADER])
{
    return libdeflate_crc32(libdeflate_crc32(0, header, 40), header + 44, HEADER - 44);
}

static enum apr_code check_sections(const struct header *h, struct apr_error *e)
{
    uint64_t metadata_end;
    if (h->metadata_size > METADATA_MOST)
        return apr_fail(e, APR_ELIMIT, 20, "%u bytes of metadata, more than %u", h->metadata_size, METADATA_MOST);
    if (h->metadata_at < HEADER || !apr_add(h->metadata_at, h->metadata_size, &metadata_end) || metadata_end > h->data_at)
        return apr_fail(e, APR_ECORRUPT, 12, "%u bytes of metadata from byte %llu on do not fit between the header and byte %llu, the data",
                        h->metadata_size, (ull)h->metadata_at, (ull)h->data_at);
    if (h->index_at < HEADER || h->index_at > h->data_at)
        return apr_fail(e, APR_ECORRUPT, 24, "an index from byte %llu on does not fit between the header and byte %llu, the data",
                        (ull)h->index_at, (ull)h->data_at);
    if (h->count > (h->data_at - h->index_at) / SMALLEST_ENTRY)
        return apr_fail(e, APR_ECORRUPT, 8, "%u tensors promised, but the %llu bytes of the index can hold %llu", h->count,
                        (ull)(h->data_at - h->index_at), (ull)((h->data_at - h->index_at) / SMALLEST_ENTRY));
    return APR_OK;
}

static enum apr_code take_header(struct apr_bytes map, struct header *h, struct apr_error *e)
{
    static const unsigned char zero[HEADER - 44];
    APR_TRY(apr_found(check_magic(map, e), e, "apr.magic"));
    if (map.n < HEADER)
        return apr_fail(e, APR_ECORRUPT, map.n, "the file ends inside its header, which has %d bytes", HEADER);
    struct apr_cursor c = { .of = map, .at = 4 };
    const uint8_t major = apr_u8(&c);
    *h = (struct header){ .minor = apr_u8(&c) };
    h->flags = apr_u16(&c);
    h->count = apr_u32(&c);
    h->metadata_at = apr_u64(&c);
    h->metadata_size = apr_u32(&c);
    h->index_at = apr_u64(&c);
    h->data_at = apr_u64(&c);
    const uint32_t stored = apr_u32(&c);
    h->reserved_used = memcmp(map.at + 44, zero, sizeof zero) != 0;
    if (major != 2) {
        apr_fail(e, APR_EUNSUPPORTED, 4, "version %u.%u is not read, only 2", major, h->minor);
        return apr_found(APR_EUNSUPPORTED, e, "apr.version");
    }
    const uint32_t crc = header_crc(map.at);
    if (crc != stored) {
        apr_fail(e, APR_ECORRUPT, 40, "the header's CRC is %08x, it says %08x", crc, stored);
        return apr_found(APR_ECORRUPT, e, "apr.header.crc");
    }
    if (h->flags & FLAG_ENCRYPTED)
        return apr_fail(e, APR_EUNSUPPORTED, 6, "the file is encrypted");
    if (h->flags & FLAG_COLUMN_MAJOR)
        return apr_fail(e, APR_EUNSUPPORTED, 6, "the tensors are marked as column-major: an import that forgot to turn the shapes round");
    return apr_found(check_sections(h, e), e, "apr.sections");
}

static void note_header(struct apr_model *m, const struct header *h, bool packed)
{
    const struct apr_bytes none = { 0 };
    if (h->flags & FLAGS_UNKNOWN)
        apr_model_note(m, "apr.flags", none, 6, "flags 0x%04x have bits that mean nothing", h->flags);
    if ((h->flags & (FLAG_LZ4 | FLAG_ZSTD)) && !packed)
        apr_model_note(m, "apr.plain", none, 6, "flags 0x%04x say compressed, but it is not", h->flags);
    if (h->reserved_used)
        apr_model_note(m, "apr.reserved", none, 44, "reserved bytes of the header are not zero");
    if (h->data_at % ALIGN != 0)
        apr_model_note(m, "apr.align", none, 32, "the data begins at byte %llu, no multiple of %d",
                       (ull)h->data_at, ALIGN);
}

/* ---- index ---------------------------------------------------------------------------------------------------------- */

/* The index as a cursor that cannot leave it; of.at is the start of the file. */
static struct apr_cursor index_of(struct apr_bytes map, const struct header *h)
{
    return (struct apr_cursor){ .of = { map.at, (size_t)h->data_at }, .at = (size_t)h->index_at };
}

static struct entry take_entry(struct apr_cursor *c)
{
    struct entry x = { .at = c->at };
    const uint16_t n = apr_u16(c);
    x.name = apr_take_bytes(c, n);
    x.byte = apr_u8(c);
    x.ndim = apr_u8(c);
    for (unsigned i = 0; i < x.ndim; i++) {
        const uint64_t dim = apr_u64(c);
        if (i < APR_MAX_DIMS)
            x.dim[i] = dim;
    }
    x.offset = apr_u64(c);
    x.size = apr_u64(c);
    return x;
}

static bool is_placeholder(const struct entry *x)
{
    for (unsigned i = 0; i < x->ndim; i++)
        if (x->dim[i] == 0)
            return false;
    return x->size == 0;
}

/* 0 for the likeliest name of a token embedding, more for others, UINT32_MAX for no such name. */
static unsigned embedding_rank(struct apr_bytes name)
{
    static const char *const known[] = { "model.embed_tokens.weight", "token_embd.weight", "transformer.wte.weight", "wte.weight" };
    static const char ending[] = "embed_tokens.weight";
    const size_t n = sizeof ending - 1;
    for (unsigned i = 0; i < APR_LENGTH(known); i++)
        if (apr_bytes_is(name, known[i]))
            return i;
    const bool ends = name.n >= n && memcmp(name.at + name.n - n, ending, n) == 0;
    return ends && (name.n == n || name.at[name.n - n - 1] == '.') ? APR_LENGTH(known) : UINT32_MAX;
}

static enum apr_code survey(struct apr_bytes map, const struct header *h, struct extent *x, struct apr_error *e)
{
    struct apr_cursor c = index_of(map, h);
    struct entry before = { 0 };
    unsigned best = UINT32_MAX;
    *x = (struct extent){ .end = h->data_at };
    if (apr_left(&c) >= 3 && memcmp(map.at + c.at, "[{\"", 3) == 0)
        return apr_fail(e, APR_EUNSUPPORTED, c.at, "the index is JSON (a pseudo tensor of dtype \"json\"): this variant is not read");
    for (uint32_t i = 0; i < h->count; i++) {
        const struct entry now = take_entry(&c);
        uint64_t end;
        if (c.bad)
            return apr_fail(e, APR_ECORRUPT, now.at, "entry %u of %u runs past byte %llu, where the data begins", i, h->count,
                            (ull)h->data_at);
        if (now.ndim > APR_MAX_DIMS)
            return apr_fail_tensor(e, APR_ELIMIT, now.at, now.name, " has %u dimensions, more than %d", now.ndim,
                            APR_MAX_DIMS);
        const int order = i == 0 ? -1 : apr_bytes_compare(before.name, now.name);
        if (order == 0) {
            apr_fail_tensor(e, APR_ECORRUPT, now.at, now.name, " stands twice in the index");
            return apr_found(APR_ECORRUPT, e, "apr.dup_name");
        }
        if (order > 0) {
            apr_fail(e, APR_ECORRUPT, now.at, "the index is not in name order: %s stands behind %s", APR_QUOTED(now.name),
                     APR_QUOTED(before.name));
            return apr_found(APR_ECORRUPT, e, "apr.unsorted");
        }
        if (!apr_round_up(now.size, ALIGN, &end) || !apr_add(now.offset, end, &end) || !apr_add(h->data_at, end, &end) || end > INT64_MAX) {
            apr_fail_tensor(e, APR_ECORRUPT, now.at, now.name, ": %llu bytes from %llu on end beyond any file",
                     (ull)now.size, (ull)now.offset);
            return apr_found(APR_ECORRUPT, e, "apr.extent");
        }
        if (end > x->end)
            x->end = end;
        if (now.size != 0 && embedding_rank(now.name) < best) {
            best = embedding_rank(now.name);
            x->embedding = now.at;
        }
        before = now;
    }
    return APR_OK;
}

/* ---- dtypes --------------------------------------------------------------------------------------------------------- */

static const struct apr_dtype *own_meaning(uint8_t byte)
{
    if (byte == 8 || byte == 9)    /* older writers */
        return &apr_dtypes[byte == 8 ? APR_APR_Q4 : APR_APR_Q8];
    for (size_t i = 0; i < APR_NDTYPES; i++)
        if (apr_dtypes[i].apr == byte)
            return &apr_dtypes[i];
    return NULL;
}

const struct apr_dtype *apr_apr_ggml(uint8_t byte)
{
    switch (byte) {
    case 2: case 3: case 6: case 7: case 8: case 10: case 11: case 13: case 16: case 17:
        return apr_dtype_of_ggml(byte);
    default:
        return NULL;
    }
}

/* Blocks run over the whole tensor, but the reference's quantizer starts a fresh one with each row of a matrix. */
static bool fits(struct apr_tensor *t, const struct apr_dtype *d, uint64_t size)
{
    uint64_t bytes;
    if (d == NULL)
        return false;
    t->dtype = d;
    if (!d->flat && t->ndim == 2 && t->dim[1] % d->block != 0) {
        t->row = t->dim[1];
        if (apr_tensor_measure(t, &bytes) && bytes == size)
            return true;
    }
    t->row = 0;
    return apr_tensor_measure(t, &bytes) && bytes == size;
}

static enum apr_code resolve(struct apr_tensor *t, const struct entry *x, struct apr_error *e)
{
    const struct apr_dtype *own = own_meaning(x->byte), *ggml = apr_apr_ggml(x->byte);
    if (own == NULL && ggml == NULL)
        return apr_fail_tensor(e, APR_EUNSUPPORTED, x->at, x->name, ": dtype byte %u is unknown", x->byte);
    if (fits(t, own, x->size) || fits(t, ggml, x->size))
        return APR_OK;
    return apr_fail_tensor(e, APR_ECORRUPT, x->at, x->name, ": its %llu bytes are not what its shape takes as %s%s%s (dtype %u)",
                           (ull)x->size, own ? own->name : ggml->name, own && ggml ? " or " : "",
                    own && ggml ? ggml->name : "", x->byte);
}

/* ---- tensors -------------------------------------------------------------------------------------------------------- */

/* t borrows the bytes of the embedding, whose entry is put into *x. */
static enum apr_code tie(struct apr_model *m, struct apr_tensor *t, struct entry *x, struct apr_cursor index, size_t embedding,
                         struct apr_error *e)
{
    const size_t at = x->at;
    if (embedding == 0)
        return apr_fail_tensor(e, APR_ECORRUPT, at, t->name, " has no bytes, and there is no embedding to tie it to");
    index.at = embedding;
    *x = take_entry(&index);
    if (t->ndim != x->ndim || memcmp(t->dim, x->dim, sizeof t->dim) != 0)
        return apr_fail_tensor(e, APR_ECORRUPT, at, t->name, " has no bytes, and another shape than the embedding %s",
                        APR_QUOTED(x->name));
    APR_TRY(resolve(t, x, e));
    t->tied = true;
    apr_model_note(m, "apr.placeholder", t->name, at, "has no bytes of its own: tied to %s", APR_QUOTED(x->name));
    return APR_OK;
}

static enum apr_code add_tensors(struct apr_model *m, struct apr_bytes map, const struct header *h, const struct extent *extent,
                                 struct apr_error *e)
{
    struct apr_cursor c = index_of(map, h);
    APR_TRY(apr_model_expect(m, h->count, e));
    for (uint32_t i = 0; i < h->count; i++) {
        struct entry x = take_entry(&c);
        const size_t at = x.at;
        struct apr_tensor t = { .name = x.name, .ndim = x.ndim };
        memcpy(t.dim, x.dim, sizeof t.dim);
        if (is_placeholder(&x))
            APR_TRY(apr_found(tie(m, &t, &x, c, extent->embedding, e), e, "apr.placeholder.loose"));
        else
            APR_TRY(apr_found(resolve(&t, &x, e), e, "apr.dtype"));
        APR_TRY(apr_model_add(m, &t, h->data_at + x.offset, x.size, at, e));
        if (apr_has_control(t.name))
            apr_model_note(m, "apr.control_name", t.name, at, "control characters in the name");
        if (!t.tied && x.offset % ALIGN != 0)
            apr_model_note(m, "apr.align", t.name, at, "begins at %llu of the data, no multiple of %d",
                           (ull)x.offset, ALIGN);
    }
    return APR_OK;
}

static enum apr_code note_extents(struct apr_model *m, const struct header *h, struct apr_error *e)
{
    size_t n;
    uint32_t *order = apr_model_by_offset(m, (unsigned)m->nfile - 1, &n);
    if (order == NULL && n > 0)
        return apr_no_memory(e);
    const struct apr_tensor *last = NULL;
    uint64_t end = h->data_at;
    for (size_t i = 0; i < n; i++) {
        const struct apr_tensor *t = &m->tensor[order[i]];
        const uint64_t begin = apr_tensor_offset(m, t);
        if (t->tied || t->data.n == 0)
            continue;
        if (begin < end)
            apr_model_note(m, "apr.overlap", t->name, begin, "begins inside tensor %s", APR_QUOTED(last->name));
        else if (begin - end >= ALIGN)
            apr_model_note(m, "apr.gap", t->name, end, "%llu unused bytes before it", (ull)(begin - end));
        if (begin + t->data.n > end) {
            end = begin + t->data.n;
            last = t;
        }
    }
    free(order);
    return APR_OK;
}

static void note_ending(struct apr_model *m, uint64_t size, uint64_t end)
{
    const struct apr_bytes none = { 0 };
    if (size < end)
        apr_model_note(m, "apr.unpadded", none, size,
                       "the file ends %llu bytes before the padding of its last tensor does", (ull)(end - size));
    else if (size == end)
        apr_model_note(m, "apr.footer.absent", none, end, "no CRC at the end");
    else if (size != end + FOOTER)
        apr_model_note(m, "apr.trailing", none, end, "%llu bytes follow the data, where a CRC has %d",
                       (ull)(size - end), FOOTER);
}

/* ---- metadata ------------------------------------------------------------------------------------------------------- */

struct fresh {
    struct apr_model *m;
    size_t            first; /* of this file's entries */
    uint64_t          at;
};

static void note_twice(const struct apr_meta_entry *gone, const struct apr_meta_entry *next, void *ctx)
{
    const struct fresh *f = ctx;
    if ((size_t)(gone - f->m->meta.entry) >= f->first)
        apr_model_note(f->m, "apr.metadata_twice", (struct apr_bytes){ 0 }, f->at,
                       "the key %s stands twice, the last counts", APR_QUOTED(next->key));
}

static enum apr_code add_metadata(struct apr_model *m, struct apr_bytes map, const struct header *h, struct apr_error *e)
{
    const struct apr_bytes text = { map.at + h->metadata_at, h->metadata_size };
    struct fresh fresh = { m, m->meta.n, h->metadata_at };
    struct apr_walk w;
    struct apr_item item;
    bool more;
    APR_TRY(apr_walk_in(&w, text, h->metadata_at, '{', e));
    for (;;) {
        struct apr_bytes key;
        struct apr_value value;
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            break;
        if (m->meta.n - fresh.first == KEYS_MOST)
            return apr_fail(e, APR_ELIMIT, item.key_at, "more than %u keys of metadata", KEYS_MOST);
        APR_TRY(apr_json_string(m, item.key, item.key_at, &key, e));
        APR_TRY(apr_json_value(m, item.value, item.value_at, &value, e));
        APR_TRY(apr_model_meta(m, key, &value, e));
    }
    APR_TRY(apr_walk_end(&w, e));
    return apr_meta_keep_last(&m->meta, note_twice, &fresh, e);
}

static enum apr_code shards(const struct apr_model *m, unsigned *count, unsigned *number, struct apr_error *e)
{
    const struct apr_value *sharding = apr_meta_find(&m->meta, "sharding");
    uint64_t of = 1, this = 0;
    if (sharding != NULL && sharding->type == APR_META_OBJECT) {
        struct apr_elements w = apr_elements_of(sharding);
        struct apr_meta_entry member;
        const struct apr_meta one = { &member, 1, 1 };
        while (apr_elements_next(&w, &member.value)) {
            member.key = w.key;
            apr_meta_unsigned(&one, "shard_count", &of);
            apr_meta_unsigned(&one, "shard_index", &this);
        }
        APR_TRY(apr_elements_done(&w, APR_OK, e));
    }
    if (of > UINT32_MAX || (of > 1 && this >= of)) {
        apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "the metadata says shard %llu of %llu, counted from 0", (ull)this, (ull)of);
        return apr_found(APR_ECORRUPT, e, "apr.sharding");
    }
    *count = of < 2 ? 1 : (unsigned)of;
    *number = of < 2 ? 0 : (unsigned)this;
    return APR_OK;
}

/* ---- the file ------------------------------------------------------------------------------------------------------- */

/* The object of an uncompressed file begins with '{' whatever its flags say; no zstd frame does, and an LZ4 size that does would
 * be no multiple of 4. */
static bool is_packed(struct apr_bytes map, const struct header *h)
{
    return (h->flags & (FLAG_LZ4 | FLAG_ZSTD)) && !(h->metadata_at < map.n && map.at[h->metadata_at] == '{');
}

/* First what stands before the data, then, by what the index says, the rest. */
static enum apr_code unpack(struct apr_inflater *f, struct apr_source *s, const struct header *h, struct extent *x, struct apr_error *e)
{
    struct apr_bytes view;
    APR_TRY(apr_inflate_to(f, h->data_at, e));
    APR_TRY(apr_inflate_view(f, &view, e));
    if (view.n < h->data_at)
        return apr_fail(e, APR_ECORRUPT, HEADER, "the file unpacks to %zu bytes, but its data should begin at byte %llu", view.n,
                        (ull)h->data_at);
    APR_TRY(survey(view, h, x, e));
    APR_TRY(apr_inflate_to(f, x->end + FOOTER + 1, e));
    APR_TRY(apr_inflate_view(f, &view, e));
    if (view.n > x->end + FOOTER)
        return apr_fail(e, APR_ECORRUPT, HEADER, "the file unpacks to more than the %llu bytes that its index and a CRC take",
                        (ull)(x->end + FOOTER));
    return apr_inflate_into(f, s, e);
}

static enum apr_code inflate(struct apr_source *s, const struct header *h, struct extent *x, const struct apr_run *r, struct apr_error *e)
{
    struct apr_inflater *f;
    if (h->data_at > UNPACKED_MOST)
        return apr_fail(e, APR_ELIMIT, 32, "the data of a compressed file begins at byte %llu, beyond %u", (ull)h->data_at, UNPACKED_MOST);
    if ((h->flags & FLAG_LZ4) && (h->flags & FLAG_ZSTD))
        return apr_fail(e, APR_ECORRUPT, 6, "flags 0x%04x say both LZ4 and zstd", h->flags);
    APR_TRY(apr_inflate_new(&f, s, HEADER, h->flags & FLAG_ZSTD ? APR_PACKED_ZSTD : APR_PACKED_LZ4, r, e));
    const enum apr_code code = unpack(f, s, h, x, e);
    apr_inflate_free(f);
    return code;
}

/* The CRC of [0, end), with `header` in the place of the map's. */
static uint32_t checksum(struct apr_bytes map, uint64_t end, const unsigned char *header)
{
    uint32_t crc = libdeflate_crc32(0, header, HEADER);
    for (size_t at = HEADER; at < end; at += CHECKSUM_STEP) {
        const struct apr_bytes part = { map.at + at, (size_t)apr_min(CHECKSUM_STEP, end - at) };
        crc = libdeflate_crc32(crc, part.at, part.n);
        apr_drop_behind(map, part);
    }
    return crc;
}

static void put_u32(unsigned char *at, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++)
        at[i] = (unsigned char)(v >> 8 * i);
}

/* Some pack a finished file and set the flag afterwards: then the CRC is right for the header as it was. */
static enum apr_code check_footer(struct apr_bytes map, uint64_t end, struct apr_error *e)
{
    if (map.n != end + FOOTER)
        return APR_OK;
    struct apr_cursor c = { .of = map, .at = (size_t)end };
    const uint32_t stored = apr_u32(&c), crc = checksum(map, end, map.at);
    if (crc == stored)
        return APR_OK;
    if (map.at[6] & (FLAG_LZ4 | FLAG_ZSTD)) {
        unsigned char plain[HEADER];
        memcpy(plain, map.at, HEADER);
        plain[6] &= (unsigned char)~(FLAG_LZ4 | FLAG_ZSTD);
        put_u32(plain + 40, header_crc(plain));
        if (checksum(map, end, plain) == stored)
            return APR_OK;
    }
    apr_fail(e, APR_ECORRUPT, end, "the CRC at the end is wrong: it says %08x, the bytes before it have %08x", stored, crc);
    return apr_found(APR_ECORRUPT, e, "apr.footer.wrong");
}

static enum apr_code read(struct apr_model *m, struct apr_source *s, const struct apr_run *r, struct apr_error *e)
{
    struct header h;
    struct extent x;
    APR_TRY(apr_found(take_header(s->map, &h, e), e, "apr.header"));
    const bool packed = is_packed(s->map, &h);
    if (packed) {
        APR_TRY(apr_found(inflate(s, &h, &x, r, e), e, "apr.packed"));
        APR_TRY(check_footer(s->map, x.end, e));
    } else {
        if (h.data_at > s->map.n) {
            apr_fail(e, APR_ECORRUPT, 32, "the data begins at byte %llu, but the file has %zu", (ull)h.data_at, s->map.n);
            return apr_found(APR_ECORRUPT, e, "apr.data");
        }
        APR_TRY(apr_found(survey(s->map, &h, &x, e), e, "apr.index"));
    }
    char *version = apr_arena_alloc(&m->arena, sizeof "2.255");
    if (version == NULL)
        return apr_no_memory(e);
    snprintf(version, sizeof "2.255", "2.%u", h.minor);
    m->version = version;
    note_header(m, &h, packed);
    APR_TRY(apr_found(add_metadata(m, s->map, &h, e), e, "apr.metadata"));
    APR_TRY(add_tensors(m, s->map, &h, &x, e));
    APR_TRY(note_extents(m, &h, e));
    note_ending(m, s->map.n, x.end);
    return APR_OK;
}

/* What is packed has to be unpacked, all of it. */
static uint64_t header(struct apr_bytes start, uint64_t size)
{
    struct header h;
    struct apr_error ignored;
    if (take_header(start, &h, &ignored) != APR_OK)
        return start.n; /* read says what is wrong */
    if (h.flags & (FLAG_LZ4 | FLAG_ZSTD)) {
        if (h.metadata_at >= start.n)
            return apr_min(h.metadata_at, size - 1) + 1;
        if (is_packed(start, &h))
            return APR_HEADER_ALL;
    }
    return apr_min(h.data_at, size);
}

static enum apr_code verify(const struct apr_model *m, const struct apr_source *s, struct apr_error *e)
{
    struct header h;
    struct extent x;
    APR_TRY(take_header(s->map, &h, e));
    APR_TRY(survey(s->map, &h, &x, e));
    const enum apr_code code = check_footer(s->map, x.end, e);
    APR_TRY(apr_model_intact(m, e));
    return code;
}

const struct apr_format apr_apr = {
    .name = "apr", .title = "APR", .suffix = ".apr",
    .probe = probe, .header = header, .read = read, .shards = shards, .verify = verify,
    .rule = &apr_apr_rule, .layout = apr_apr_layout, .finish = apr_apr_finish,
    .keys = APR_KEYS_JSON, .template_key = { "chat_template", "tokenizer.chat_template" }, .reheader = apr_apr_reheader,
};
