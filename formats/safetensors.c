/* SafeTensors: | u64 n | n bytes of JSON: name -> { dtype, shape, data_offsets } | data without a hole to the end of the file | */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "reheader.h"

#include "base/cursor.h"
#include "files/source.h"
#include "layout.h"
#include "model/json.h"
#include "model/meta.h"
#include "model/model.h"
#include "values/dtype.h"

#define PREFIX       8u
#define HEADER_LIMIT 100000000u /* of the reference library, for readers and writers */
#define FIELD_DEPTH  125u       /* of its 127 levels the header and the entry are two */

/* One tensor of the header; begin and end count from the start of the data part.
 *   shape  its JSON array as spelled, read when the order of the data is known: 2 million entries fit a header
 *   at     file offsets of the entry's name and of its shape */
struct entry {
    struct apr_bytes        name, shape;
    const struct apr_dtype *dtype;
    uint64_t                begin, end, at, shape_at;
};

struct header {
    struct apr_model *m;
    struct entry     *entry;
    size_t            n, room;
    bool              metadata;   /* was there */
    size_t            first_meta; /* of this file, in m->meta */
    uint64_t          data_at;    /* file offset of the data part, and its length */
    uint64_t          data_bytes;
};

static bool probe(struct apr_bytes start, uint64_t size)
{
    struct apr_cursor c = apr_cursor_on(start);
    const uint64_t n = apr_u64(&c);
    if (c.bad)
        return false;
    if (n > 0 && n <= HEADER_LIMIT && n <= size - PREFIX)
        return true;
    while (apr_left(&c) > 0 && memchr(" \t\r\n", start.at[c.at], 4) != NULL)
        c.at++;
    return apr_u8(&c) == '{';
}

/* Puts the name of the tensor before what is said already. */
static enum apr_code in_tensor(struct apr_error *e, struct apr_bytes name)
{
    const struct apr_error why = *e;
    apr_fail_tensor(e, why.code, why.at, name, ": %s", why.text);
    return apr_found(why.code, e, why.finding);
}

/* ---- one entry ----------------------------------------------------------------------------------------------------- */

/* The integers of a JSON array, at most `most`. */
static enum apr_code read_integers(const char *field, struct apr_bytes text, uint64_t at, uint64_t *out, unsigned most, unsigned *n,
                                   struct apr_error *e)
{
    *n = 0;
    if (text.at[0] != '[')
        return apr_fail(e, APR_ECORRUPT, at, "%s: expected an array of integers, found %s", field, APR_QUOTED(text));
    struct apr_walk w;
    APR_TRY(apr_walk_in(&w, text, at, '[', e));
    for (;;) {
        struct apr_item item;
        bool more;
        uint64_t value;
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            return APR_OK;
        if (!apr_json_plain(item.value, &value))
            return apr_fail(e, APR_ECORRUPT, item.value_at, "%s: expected a plain integer from 0 to 2^64 - 1, found %s", field,
                            APR_QUOTED(item.value));
        if (*n < most)
            out[*n] = value;
        ++*n;
    }
}

static enum apr_code read_dtype(struct apr_model *m, const struct apr_item *item, struct entry *t, struct apr_error *e)
{
    struct apr_bytes name;
    if (item->value.at[0] != '"')
        return apr_fail(e, APR_ECORRUPT, item->value_at, "dtype: expected a string, found %s", APR_QUOTED(item->value));
    APR_TRY(apr_json_string(m, item->value, item->value_at, &name, e));
    t->dtype = apr_dtype_of_safetensors(name);
    if (t->dtype != NULL)
        return APR_OK;
    apr_fail(e, APR_EUNSUPPORTED, item->value_at, "dtype %s is none of SafeTensors (F32, BF16, F8_E4M3, ...)", APR_QUOTED(name));
    return apr_found(APR_EUNSUPPORTED, e, "st.dtype");
}

static enum apr_code read_offsets(const struct apr_item *item, struct entry *t, struct apr_error *e)
{
    uint64_t range[2] = { 0, 0 };
    unsigned n;
    APR_TRY(read_integers("data_offsets", item->value, item->value_at, range, 2, &n, e));
    if (n != 2)
        return apr_fail(e, APR_ECORRUPT, item->value_at, "data_offsets: expected two integers, found %u", n);
    if (range[1] < range[0])
        return apr_fail(e, APR_ECORRUPT, item->value_at, "data_offsets: the end %" PRIu64 " lies before the begin %" PRIu64, range[1],
                        range[0]);
    t->begin = range[0];
    t->end = range[1];
    return APR_OK;
}

enum { DTYPE, SHAPE, OFFSETS, NFIELDS };
static const char *const fields[NFIELDS] = { "dtype", "shape", "data_offsets" };

static enum apr_code read_field(struct apr_model *m, const struct apr_item *item, struct entry *t, bool seen[NFIELDS],
                                struct apr_error *e)
{
    struct apr_bytes key;
    APR_TRY(apr_json_string(m, item->key, item->key_at, &key, e));
    unsigned field = 0;
    while (field < NFIELDS && !apr_bytes_is(key, fields[field]))
        field++;
    if (field == NFIELDS) {
        APR_TRY(apr_json_check_to(FIELD_DEPTH, item->value, item->value_at, e));
        apr_model_note(m, "st.unknown_field", t->name, item->key_at,
                       "tensor %s: the field %s is not of SafeTensors, ignored", APR_QUOTED(t->name), APR_QUOTED(key));
        return APR_OK;
    }
    if (seen[field])
        return apr_fail(e, APR_ECORRUPT, item->key_at, "the field %s stands twice", fields[field]);
    seen[field] = true;
    switch (field) {
    case DTYPE:   return read_dtype(m, item, t, e);
    case OFFSETS: return read_offsets(item, t, e);
    }
    t->shape = item->value;
    t->shape_at = item->value_at;
    return APR_OK;
}

static enum apr_code read_fields(struct apr_model *m, const struct apr_item *tensor, struct entry *t, struct apr_error *e)
{
    if (tensor->value.at[0] != '{')
        return apr_fail(e, APR_ECORRUPT, tensor->value_at, "expected an object with dtype, shape and data_offsets, found %s",
                        APR_QUOTED(tensor->value));
    bool seen[NFIELDS] = { false };
    struct apr_walk w;
    APR_TRY(apr_walk_in(&w, tensor->value, tensor->value_at, '{', e));
    for (;;) {
        struct apr_item item;
        bool more;
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            break;
        APR_TRY(read_field(m, &item, t, seen, e));
    }
    for (unsigned i = 0; i < NFIELDS; i++)
        if (!seen[i])
            return apr_fail(e, APR_ECORRUPT, tensor->value_at, "it has no %s", fields[i]);
    return APR_OK;
}

/* ---- the header ---------------------------------------------------------------------------------------------------- */

static enum apr_code read_metadata(struct header *h, const struct apr_item *metadata, struct apr_error *e)
{
    if (h->metadata)
        return apr_fail(e, APR_ECORRUPT, metadata->key_at, "__metadata__ stands twice");
    h->metadata = true;
    if (apr_bytes_is(metadata->value, "null"))
        return APR_OK;
    if (metadata->value.at[0] != '{')
        return apr_fail(e, APR_ECORRUPT, metadata->value_at, "__metadata__: expected an object, found %s", APR_QUOTED(metadata->value));
    struct apr_walk w;
    APR_TRY(apr_walk_in(&w, metadata->value, metadata->value_at, '{', e));
    for (;;) {
        struct apr_item item;
        bool more;
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            return APR_OK;
        struct apr_bytes key;
        struct apr_value value;
        APR_TRY(apr_json_string(h->m, item.key, item.key_at, &key, e));
        if (item.value.at[0] != '"')
            return apr_fail(e, APR_ECORRUPT, item.value_at, "__metadata__: %s: expected a string, found %s", APR_QUOTED(key),
                            APR_QUOTED(item.value));
        APR_TRY(apr_json_value(h->m, item.value, item.value_at, &value, e));
        APR_TRY(apr_model_meta(h->m, key, &value, e));
    }
}

/* Shards repeat each other's metadata: that alone is not worth a note. */
static void note_twice(const struct apr_meta_entry *gone, const struct apr_meta_entry *next, void *ctx)
{
    const struct header *h = ctx;
    if ((size_t)(gone - h->m->meta.entry) >= h->first_meta || !apr_bytes_equal(gone->value.text, next->value.text))
        apr_model_note(h->m, "st.metadata_twice", (struct apr_bytes){ 0 }, PREFIX,
                       "__metadata__: %s stands twice, the last one counts", APR_QUOTED(gone->key));
}

static enum apr_code read_entry(struct header *h, const struct apr_item *item, struct apr_error *e)
{
    struct entry t = { .at = item->key_at };
    APR_TRY(apr_json_string(h->m, item->key, item->key_at, &t.name, e));
    if (apr_bytes_is(t.name, "__metadata__"))
        return apr_found(read_metadata(h, item, e), e, "st.metadata");
    if (apr_found(read_fields(h->m, item, &t, e), e, "st.entry") != APR_OK)
        return in_tensor(e, t.name);
    struct entry *more = apr_grown(h->entry, &h->room, h->n, 64, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    h->entry = more;
    h->entry[h->n++] = t;
    return APR_OK;
}

static enum apr_code check_utf8(struct apr_bytes text, struct apr_error *e)
{
    for (size_t i = 0; i < text.n;) {
        uint64_t eight;
        if (text.n - i >= sizeof eight && (memcpy(&eight, text.at + i, sizeof eight), (eight & UINT64_C(0x8080808080808080)) == 0)) {
            i += sizeof eight;
            continue;
        }
        const size_t n = apr_utf8_length(text.at + i, text.n - i);
        if (n == 0)
            return apr_fail(e, APR_ECORRUPT, PREFIX + i, "the header is not UTF-8: found the byte 0x%02x", text.at[i]);
        i += n;
    }
    return APR_OK;
}

static enum apr_code read_header(struct header *h, struct apr_bytes text, struct apr_error *e)
{
    APR_TRY(check_utf8(text, e));
    struct apr_walk w;
    APR_TRY(apr_walk_in(&w, text, PREFIX, '{', e));
    if (text.at[0] != '{')
        apr_model_note(h->m, "st.leading_space", (struct apr_bytes){ 0 }, PREFIX,
                       "the header begins with white space, not with '{'");
    for (;;) {
        struct apr_item item;
        bool more;
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            break;
        APR_TRY(read_entry(h, &item, e));
    }
    APR_TRY(apr_walk_end(&w, e));
    return apr_meta_keep_last(&h->m->meta, note_twice, h, e);
}

/* ---- the layout ---------------------------------------------------------------------------------------------------- */

static int by_range(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

/* t should begin where the tensor before it (NULL: none) ends, at `expected`. */
static enum apr_code misplaced(const struct header *h, const struct entry *before, const struct entry *t, uint64_t expected,
                               struct apr_error *e)
{
    const bool gap = t->begin > expected;
    if (apr_model_find(h->m, t->name) != NULL)
        return apr_found(apr_fail(e, APR_ECORRUPT, t->at, "it stands twice"), e, "st.dup_name");
    if (before == NULL)
        apr_fail(e, APR_ECORRUPT, t->at, "a gap: it is the first, but begins at byte %" PRIu64 " of the data", t->begin);
    else
        apr_fail(e, APR_ECORRUPT, t->at, "%s: it begins at byte %" PRIu64 " of the data, but %s before it ends at %" PRIu64,
                 gap ? "a gap" : "an overlap", t->begin, APR_QUOTED(before->name), expected);
    return apr_found(APR_ECORRUPT, e, gap ? "st.gap" : "st.overlap");
}

static enum apr_code measure(const struct entry *t, struct apr_tensor *out, struct apr_error *e)
{
    const struct apr_dtype *d = t->dtype;
    uint64_t count = 1, bits, bytes;
    APR_TRY(read_integers("shape", t->shape, t->shape_at, out->dim, APR_MAX_DIMS, &out->ndim, e));
    if (out->ndim > APR_MAX_DIMS)
        return apr_fail(e, APR_EUNSUPPORTED, t->shape_at, "shape: %u dimensions, at most %d are read", out->ndim, APR_MAX_DIMS);
    for (unsigned i = 0; i < out->ndim; i++)
        if (!apr_mul(count, out->dim[i], &count))
            return apr_fail(e, APR_ECORRUPT, t->shape_at, "shape: %s multiplies to 2^64 elements or more", APR_QUOTED(t->shape));
    if (count % d->block != 0)
        return apr_fail(e, APR_ECORRUPT, t->shape_at, "shape: %" PRIu64 " elements of %s do not fill whole bytes", count, d->name);
    if (!apr_mul(count / d->block, d->bytes, &bytes) || !apr_mul(bytes, 8, &bits))
        return apr_fail(e, APR_ECORRUPT, t->shape_at, "shape: %" PRIu64 " elements of %s take 2^64 bits or more", count, d->name);
    if (bytes != t->end - t->begin)
        return apr_fail(e, APR_ECORRUPT, t->at, "data_offsets give it %" PRIu64 " bytes, but %" PRIu64 " elements of %s take %" PRIu64,
                        t->end - t->begin, count, d->name, bytes);
    return APR_OK;
}

static enum apr_code check_place(const struct header *h, const struct entry *before, const struct entry *t, struct apr_error *e)
{
    const uint64_t expected = before == NULL ? 0 : before->end;
    if (t->begin != expected)
        return misplaced(h, before, t, expected, e);
    if (t->end <= h->data_bytes || h->m->partial)
        return APR_OK;
    apr_fail(e, APR_ECORRUPT, t->at, "it ends at byte %" PRIu64 " of the data, the file holds only %" PRIu64, t->end, h->data_bytes);
    return apr_found(APR_ECORRUPT, e, "st.extent");
}

static enum apr_code read_layout(struct header *h, struct apr_error *e)
{
    const struct entry *before = NULL;
    if (h->n > 0)
        qsort(h->entry, h->n, sizeof *h->entry, by_range);
    APR_TRY(apr_model_expect(h->m, h->n, e));
    for (size_t i = 0; i < h->n; i++) {
        const struct entry *t = &h->entry[i];
        struct apr_tensor out = { .name = t->name, .dtype = t->dtype };
        if (check_place(h, before, t, e) != APR_OK || apr_found(measure(t, &out, e), e, "st.shape") != APR_OK)
            return in_tensor(e, t->name);
        APR_TRY(apr_model_add(h->m, &out, h->data_at + t->begin, t->end - t->begin, t->at, e));
        if (apr_has_control(t->name))
            apr_model_note(h->m, "st.control_name", t->name, t->at, "control characters in the name");
        before = t;
    }
    const uint64_t end = before == NULL ? 0 : before->end;
    if (end == h->data_bytes || (end > h->data_bytes && h->m->partial))
        return APR_OK;
    if (before == NULL)
        apr_fail(e, APR_ECORRUPT, h->data_at, "%" PRIu64 " bytes of data, but the header names no tensor", h->data_bytes);
    else
        apr_fail(e, APR_ECORRUPT, h->data_at + end, "%" PRIu64 " bytes follow the data of the last tensor, %s", h->data_bytes - end,
                 APR_QUOTED(before->name));
    return apr_found(APR_ECORRUPT, e, "st.trailing");
}

static enum apr_code read_file(struct apr_model *m, const struct apr_source *s, struct apr_error *e)
{
    struct apr_cursor c = apr_cursor_on(s->map);
    const uint64_t n = apr_u64(&c);
    if (c.bad)
        return apr_fail(e, APR_ECORRUPT, 0, "a SafeTensors file begins with 8 bytes, the length of its header; this one has %zu", s->map.n);
    if (n > HEADER_LIMIT)
        return apr_fail(e, APR_ELIMIT, 0, "a header of %" PRIu64 " bytes, at most %u are read", n, HEADER_LIMIT);
    const size_t left = apr_left(&c);
    const struct apr_bytes text = apr_take_bytes(&c, n);
    if (c.bad)
        return apr_fail(e, APR_ECORRUPT, 0, "a header of %" PRIu64 " bytes is promised, only %zu follow", n, left);
    struct header h = { .m = m, .first_meta = m->meta.n, .data_at = c.at, .data_bytes = apr_left(&c) };
    enum apr_code code = apr_found(read_header(&h, text, e), e, "st.syntax");
    if (code == APR_OK)
        code = read_layout(&h, e);
    free(h.entry);
    return code;
}

static uint64_t header(struct apr_bytes start, uint64_t size)
{
    struct apr_cursor c = apr_cursor_on(start);
    const uint64_t n = apr_u64(&c);
    (void)size;
    return c.bad || n > HEADER_LIMIT ? start.n : n + sizeof n; /* read refuses what is too long */
}

static enum apr_code read(struct apr_model *m, struct apr_source *s, const struct apr_run *r, struct apr_error *e)
{
    (void)r;
    return apr_found(read_file(m, s, e), e, "st.header");
}

const struct apr_format apr_safetensors = {
    .name = "safetensors", .title = "SafeTensors", .suffix = ".safetensors", .config = true,
    .probe = probe, .header = header, .read = read, .rule = &apr_safetensors_rule, .layout = apr_safetensors_layout,
    .keys = APR_KEYS_STRINGS, .reheader = apr_safetensors_reheader,
};
