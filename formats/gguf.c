/* GGUF, versions 2 and 3, of either byte order.
 *
 *   | "GGUF" | u32 version | u64 tensors | u64 keys |
 *   | keys:    u64 n, n bytes of name | u32 type | value           | ...
 *   | tensors: u64 n, n bytes of name | u32 ndim | u64 dim, fastest first | u32 type | u64 offset in the data section | ...
 *   | zeros up to a multiple of the alignment | data section                                                              */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "reheader.h"

#include "base/bytes.h"
#include "base/cursor.h"
#include "base/table.h"
#include "files/source.h"
#include "gguf_header.h"
#include "layout.h"
#include "model/meta.h"
#include "model/model.h"
#include "values/dtype.h"

#define LONG_NAME    64u                  /* from here on llama.cpp refuses a tensor's name */
#define LONG_KEY     65535u
#define MOST_SHARDS  65535u               /* split.count is a u16 */

enum { SPLIT_NO, SPLIT_COUNT, SPLIT_TENSORS, NSPLIT };
static const char *const split_key[NSPLIT] = { "split.no", "split.count", "split.tensors.count" };

/* One file being read.
 *   key, key_at         the key whose value is being read, and where its entry begins
 *   nested, flag, text  where that value has an array in an array, a boolean beyond 0 and 1, bad UTF-8; 0 when it has none
 *   split               this file's split keys; `at` is 0 for one that is absent */
struct reader {
    struct apr_model  *m;
    struct apr_cursor  c;
    struct apr_error  *e;
    uint64_t           ntensors, nkeys, alignment;
    struct apr_bytes   key;
    uint64_t           key_at, nested, flag, text;
    struct {
        uint64_t           value, at;
        enum apr_meta_type type;
    } split[NSPLIT];
};

static const struct apr_bytes no_tensor = { 0 };

static bool probe(struct apr_bytes start, uint64_t size)
{
    (void)size;
    return start.n >= 4 && memcmp(start.at, "GGUF", 4) == 0;
}

static enum apr_code take_header(struct reader *r)
{
    struct apr_cursor *c = &r->c;
    apr_take_bytes(c, 4);
    uint32_t version = apr_u32(c);
    if (version != 0 && (version & 0xFFFF) == 0) {      /* nothing else tells the byte order */
        c->at = 4;
        c->big = true;
        version = apr_u32(c);
    }
    if (!c->bad && version == 1)
        return apr_fail(r->e, APR_EUNSUPPORTED, 4, "GGUF version 1, with its 32-bit counts, is not read; 2 and 3 are");
    if (!c->bad && (version == 0 || version > 3))
        return apr_fail(r->e, version == 0 ? APR_ECORRUPT : APR_EUNSUPPORTED, 4, "GGUF version %" PRIu32 "%s, expected 2 or 3", version,
                        c->big ? " (big-endian)" : "");
    r->ntensors = apr_u64(c);
    r->nkeys = apr_u64(c);
    if (c->bad)
        return apr_fail(r->e, APR_ECORRUPT, c->at, "the file ends inside its header: %zu bytes, expected 24 at least", c->of.n);
    if (r->ntensors > apr_left(c) / LEAST_TENSOR)
        return apr_fail(r->e, APR_ECORRUPT, 8, "the header promises %" PRIu64 " tensors, the %zu bytes left hold %zu at most", r->ntensors,
                        apr_left(c), apr_left(c) / LEAST_TENSOR);
    if (r->nkeys > apr_left(c) / LEAST_KEY)
        return apr_fail(r->e, APR_ECORRUPT, 16, "the header promises %" PRIu64 " keys, the %zu bytes left hold %zu at most", r->nkeys,
                        apr_left(c), apr_left(c) / LEAST_KEY);
    if (r->m->nfile == 1)
        r->m->version = version == 2 ? "2" : "3";
    if (c->big)
        apr_model_note(r->m, "gguf.big_endian", no_tensor, 4, "the file is big-endian");
    return APR_OK;
}

/* ---- values --------------------------------------------------------------------------------------------------------- */

/* Steps over one value and checks all of it, so that no later walk over its elements can leave its bytes. */
static enum apr_code step_value(struct reader *r, uint32_t type, unsigned depth);

static enum apr_code value_cut(struct reader *r, uint64_t at)
{
    return apr_fail(r->e, APR_ECORRUPT, at, "key %s: the file ends inside its value, at byte %zu", APR_QUOTED(r->key), r->c.of.n);
}

static enum apr_code step_string(struct reader *r)
{
    const uint64_t at = r->c.at, n = apr_u64(&r->c);
    const size_t left = apr_left(&r->c);
    if (r->c.bad)
        return value_cut(r, at);
    const struct apr_bytes text = apr_take_bytes(&r->c, n);
    if (r->c.bad)
        return apr_fail(r->e, APR_ECORRUPT, at, "key %s: a string of %" PRIu64 " bytes, where %zu are left", APR_QUOTED(r->key), n, left);
    if (r->text == 0 && !apr_is_utf8(text))
        r->text = at;
    return APR_OK;
}

static enum apr_code step_array(struct reader *r, unsigned depth)
{
    const uint64_t at = r->c.at;
    const uint32_t type = apr_u32(&r->c);
    const uint64_t n = apr_u64(&r->c);
    const size_t left = apr_left(&r->c);
    if (r->c.bad)
        return value_cut(r, at);
    if (type > APR_META_F64)
        return apr_fail(r->e, APR_ECORRUPT, at, "key %s: an array of type %" PRIu32 ", expected 0 to 12", APR_QUOTED(r->key), type);
    if (depth > MOST_DEPTH)
        return apr_fail(r->e, APR_ELIMIT, at, "key %s: arrays in arrays, more than %u deep", APR_QUOTED(r->key), MOST_DEPTH);
    if (depth > 1 && r->nested == 0)
        r->nested = at;
    const unsigned width = apr_meta_width(type), least = width ? width : type == APR_META_STRING ? LEAST_STRING : LEAST_ARRAY;
    if (n > left / least)
        return apr_fail(r->e, APR_ECORRUPT, at, "key %s: an array of %" PRIu64 " %s of %u bytes%s, where %zu are left",
                        APR_QUOTED(r->key), n, apr_meta_type_word(type), least, width ? "" : " at least", left);
    if (width && type != APR_META_BOOL)
        apr_take_bytes(&r->c, n * width);
    else
        for (uint64_t i = 0; i < n; i++)
            APR_TRY(step_value(r, type, depth + 1));
    return APR_OK;
}

static enum apr_code step_value(struct reader *r, uint32_t type, unsigned depth)
{
    const uint64_t at = r->c.at;
    if (type == APR_META_STRING)
        return step_string(r);
    if (type == APR_META_ARRAY)
        return step_array(r, depth);
    const struct apr_bytes scalar = apr_take_bytes(&r->c, apr_meta_width(type));
    if (r->c.bad)
        return value_cut(r, at);
    if (type == APR_META_BOOL && scalar.at[0] > 1 && r->flag == 0)
        r->flag = at;
    return APR_OK;
}

/* Reads one value of that type. A value stands in its bytes as it would in an array of one, which is how it is decoded. */
static enum apr_code take_value(struct reader *r, uint32_t type, struct apr_value *v)
{
    const unsigned char *begin = r->c.of.at + r->c.at;
    r->nested = r->flag = r->text = 0;
    APR_TRY(step_value(r, type, 1));
    const struct apr_value one = { .type = APR_META_ARRAY, .element = type, .encoding = r->c.big ? APR_GGUF_BE : APR_GGUF_LE, .n = 1,
                                   .text = { begin, (size_t)(r->c.of.at + r->c.at - begin) } };
    struct apr_elements walk = apr_elements_of(&one);
    const bool taken = apr_elements_next(&walk, v);
    apr_elements_end(&walk);
    return taken ? APR_OK : apr_no_memory(r->e);
}

/* ---- keys ----------------------------------------------------------------------------------------------------------- */

/* The keys that the reader itself goes by. */
static enum apr_code obey(struct reader *r, const struct apr_value *v)
{
    struct apr_meta_entry entry = { r->key, *v };
    const struct apr_meta only = { &entry, 1, 1 };
    if (apr_meta_find(&only, "general.alignment") != NULL) {
        if (v->type != APR_META_U32)
            return apr_fail(r->e, APR_ECORRUPT, r->key_at, "general.alignment is of type %s, expected u32", apr_meta_type_word(v->type));
        if (v->u == 0 || (v->u & (v->u - 1)) != 0)
            return apr_fail(r->e, APR_ECORRUPT, r->key_at, "general.alignment is %" PRIu64 ", expected a power of two", v->u);
        if (v->u < 8)
            apr_model_note(r->m, "gguf.alignment", no_tensor, r->key_at,
                           "general.alignment is %" PRIu64 ", expected a multiple of 8", v->u);
        r->alignment = v->u;
    }
    for (unsigned i = 0; i < NSPLIT; i++)
        if (apr_meta_find(&only, split_key[i]) != NULL) {
            if (!apr_meta_unsigned(&only, split_key[i], &r->split[i].value))
                return apr_fail(r->e, APR_ECORRUPT, r->key_at, "%s, of type %s, is no integer from 0 on", split_key[i],
                                apr_meta_type_word(v->type));
            r->split[i].at = r->key_at;
            r->split[i].type = v->type;
        }
    return APR_OK;
}

static void note_key(struct reader *r)
{
    const struct { uint64_t at; const char *code, *text; } odd[] = {
        { r->nested, "gguf.nested_array", "an array in an array; llama.cpp refuses the file" },
        { r->flag, "gguf.bool", "a boolean that is neither 0 nor 1" },
        { r->text, "gguf.bad_utf8", "a string that is not UTF-8" },
    };
    for (size_t i = 0; i < APR_LENGTH(odd); i++)
        if (odd[i].at != 0)
            apr_model_note(r->m, odd[i].code, no_tensor, odd[i].at, "key %s: %s",
                           APR_QUOTED(r->key), odd[i].text);
    if (!apr_is_utf8(r->key) || apr_has_control(r->key)) {
        apr_model_note(r->m, "gguf.bad_key", no_tensor, r->key_at,
                       "the key %s has control characters or is not UTF-8", APR_QUOTED(r->key));
        return;
    }
    bool plain = r->key.n <= LONG_KEY;
    for (size_t i = 0; i < r->key.n && plain; i++)
        plain = memchr("abcdefghijklmnopqrstuvwxyz0123456789_.", r->key.at[i], 38) != NULL;
    if (!plain)
        apr_model_note(r->m, "gguf.key_style", no_tensor, r->key_at,
                       "the key %s of %zu bytes, expected lower_snake_case with dots, %u bytes at most", APR_QUOTED(r->key), r->key.n,
                       LONG_KEY);
}

/* keys: all keys of the model, each with the byte where it stands in this file, 0 for one that only an earlier file has. */
static enum apr_code take_key(struct reader *r, struct apr_table *keys, uint64_t number)
{
    struct apr_cursor *c = &r->c;
    const size_t left = apr_left(c);
    r->key_at = c->at;
    const uint64_t n = apr_u64(c);
    r->key = apr_take_bytes(c, n);
    const uint64_t type_at = c->at;
    const uint32_t type = apr_u32(c);
    if (c->bad)
        return apr_fail(r->e, APR_ECORRUPT, r->key_at, "key %" PRIu64 " of %" PRIu64 ": a name of %" PRIu64
                        " bytes, where %zu are left for the entry", number, r->nkeys, n, left);
    if (n == 0)
        return apr_fail(r->e, APR_ECORRUPT, r->key_at, "key %" PRIu64 " of %" PRIu64 " has an empty name", number, r->nkeys);
    bool fresh;
    union apr_table_value *first = apr_table_put(keys, r->key, &fresh);
    if (first == NULL)
        return apr_no_memory(r->e);
    if (first->number != 0) {
        apr_fail(r->e, APR_ECORRUPT, r->key_at, "key %s stands twice, first at byte %" PRIu64, APR_QUOTED(r->key), first->number);
        return apr_found(APR_ECORRUPT, r->e, "gguf.dup_key");
    }
    first->number = r->key_at;
    if (type > APR_META_F64)
        return apr_fail(r->e, APR_ECORRUPT, type_at, "key %s: a value of type %" PRIu32 ", expected 0 to 12", APR_QUOTED(r->key), type);

    struct apr_value v;
    APR_TRY(apr_found(take_value(r, type, &v), r->e, "gguf.value"));
    APR_TRY(apr_found(obey(r, &v), r->e, "gguf.reserved_key"));
    note_key(r);
    return fresh ? apr_model_meta(r->m, r->key, &v, r->e) : APR_OK;
}

static enum apr_code take_keys(struct reader *r)
{
    struct apr_table keys = { 0 };
    enum apr_code code = APR_OK;
    bool fresh;
    for (size_t i = 0; i < r->m->meta.n && code == APR_OK; i++)
        code = apr_table_put(&keys, r->m->meta.entry[i].key, &fresh) == NULL ? apr_no_memory(r->e) : APR_OK;
    for (uint64_t i = 0; i < r->nkeys && code == APR_OK; i++)
        code = take_key(r, &keys, i + 1);
    apr_table_free(&keys);
    return code;
}

/* ---- shards --------------------------------------------------------------------------------------------------------- */

/* A first file must know its number; each later one must be the next of the same set. */
static enum apr_code check_split(struct reader *r)
{
    const uint64_t no = r->split[SPLIT_NO].value, no_at = r->split[SPLIT_NO].at;
    const uint64_t count = r->split[SPLIT_COUNT].value, count_at = r->split[SPLIT_COUNT].at;
    const uint64_t next = r->m->nfile - 1;
    uint64_t first_no = 0, first_count = 0;
    if (next == 0 && count <= 1)
        return APR_OK;
    if (count > MOST_SHARDS)
        return apr_fail(r->e, APR_ELIMIT, count_at, "split.count is %" PRIu64 ", %u shards are the most there can be", count, MOST_SHARDS);
    apr_meta_unsigned(&r->m->meta, split_key[SPLIT_COUNT], &first_count);
    apr_meta_unsigned(&r->m->meta, split_key[SPLIT_NO], &first_no);
    if (count != first_count)
        return apr_fail(r->e, APR_ECORRUPT, count_at, "split.count is %" PRIu64 "%s, in the first shard it is %" PRIu64, count,
                        count_at ? "" : " (absent)", first_count);
    if (no_at == 0 || no >= count)
        return apr_fail(r->e, APR_ECORRUPT, no_at, "split.no is %" PRIu64 "%s, expected a number below split.count, %" PRIu64, no,
                        no_at ? "" : " (absent)", count);
    if (next > 0 && (first_no != 0 || no != next))
        return apr_fail(r->e, APR_ECORRUPT, no_at, "split.no is %" PRIu64 " in the first shard and %" PRIu64
                        " in this one, expected 0 and %" PRIu64, first_no, no, next);
    return APR_OK;
}

/* What is clear, but not as llama.cpp wants it: it takes one integer type alone for each key, and no empty file but the first. */
static void note_split(struct reader *r)
{
    static const enum apr_meta_type wanted[NSPLIT] = { APR_META_U16, APR_META_U16, APR_META_I32 };
    const bool first = r->m->nfile == 1, set = !first || r->split[SPLIT_COUNT].value > 1;
    for (unsigned i = 0; i < NSPLIT; i++) {
        if (r->split[i].at != 0 && r->split[i].type != wanted[i] && (set || i == SPLIT_COUNT))
            apr_model_note(r->m, "gguf.split_type", no_tensor, r->split[i].at,
                           "%s is of type %s, expected %s; llama.cpp refuses the file", split_key[i],
                           apr_meta_type_word(r->split[i].type), apr_meta_type_word(wanted[i]));
        if (r->split[i].at == 0 && set && first)
            apr_model_note(r->m, "gguf.split_missing", no_tensor, APR_NOWHERE,
                           "the first of several files has no %s; llama.cpp refuses it", split_key[i]);
    }
    if (!first && r->ntensors == 0)
        apr_model_note(r->m, "gguf.split_empty", no_tensor, 8,
                       "the file has no tensors, which only the first of several may; llama.cpp refuses it");
}

static enum apr_code shards(const struct apr_model *m, unsigned *count, unsigned *number, struct apr_error *e)
{
    (void)e;                                            /* read has refused what makes no sense */
    uint64_t n, i;
    const bool split = apr_meta_unsigned(&m->meta, split_key[SPLIT_COUNT], &n) && n > 1 &&
                       apr_meta_unsigned(&m->meta, split_key[SPLIT_NO], &i);
    *count = split ? (unsigned)n : 1;
    *number = split ? (unsigned)i : 0;
    return APR_OK;
}

/* ---- tensors -------------------------------------------------------------------------------------------------------- */

static enum apr_code info_cut(struct reader *r, uint64_t at, uint64_t number, uint64_t name)
{
    return apr_fail(r->e, APR_ECORRUPT, at, "tensor %" PRIu64 " of %" PRIu64 ": its entry, with a name of %" PRIu64
                    " bytes, reaches past the end of the file, byte %zu", number, r->ntensors, name, r->c.of.n);
}

/* Reads one entry. *offset is relative to the data section. */
static enum apr_code take_info(struct reader *r, uint64_t number, struct apr_tensor *t, uint64_t *offset)
{
    struct apr_cursor *c = &r->c;
    const uint64_t at = c->at, name = apr_u64(c);
    *t = (struct apr_tensor){ .name = apr_take_bytes(c, name), .swapped = c->big };
    t->ndim = apr_u32(c);
    if (c->bad)
        return info_cut(r, at, number, name);
    if (t->ndim > MOST_DIMS)
        return apr_fail_tensor(r->e, APR_ECORRUPT, c->at - 4, t->name, " has %u dimensions, expected %u at most", t->ndim,
                        MOST_DIMS);
    for (unsigned i = t->ndim; i-- > 0;)
        t->dim[i] = apr_u64(c);
    const uint32_t type = apr_u32(c);
    *offset = apr_u64(c);
    if (c->bad)
        return info_cut(r, at, number, name);

    const uint64_t type_at = c->at - 12, offset_at = c->at - 8;
    for (unsigned i = 0; i < t->ndim; i++)
        if (t->dim[i] > INT64_MAX)
            return apr_fail_tensor(r->e, APR_ECORRUPT, type_at - 8 * (i + 1), t->name,
                                   ": a dimension of %" PRIu64 ", expected less than 2^63", t->dim[i]);
    t->dtype = apr_dtype_of_ggml(type);
    if (t->dtype == NULL) {
        const char *removed = apr_ggml_removed(type);
        apr_fail_tensor(r->e, APR_EUNSUPPORTED, type_at, t->name, ": GGML type %" PRIu32 "%s%s%s", type,
                 removed ? ", " : "", removed ? removed : " is not known", removed ? ", was removed from the format" : "");
        return apr_found(APR_EUNSUPPORTED, r->e, "gguf.dtype");
    }
    const uint64_t row = t->ndim == 0 ? 1 : t->dim[t->ndim - 1];
    if (row % t->dtype->block != 0)
        return apr_fail_tensor(r->e, APR_ECORRUPT, at, t->name, ": a row of %" PRIu64 " elements, expected whole %s blocks of %u", row,
                               t->dtype->name, (unsigned)t->dtype->block);
    if (*offset % r->alignment == 0)
        return APR_OK;
    apr_fail_tensor(r->e, APR_ECORRUPT, offset_at, t->name, ": offset %" PRIu64 ", expected a multiple of the alignment, %" PRIu64,
                    *offset, r->alignment);
    return apr_found(APR_ECORRUPT, r->e, "gguf.align");
}

static void note_name(struct reader *r, struct apr_bytes name, uint64_t at)
{
    if (name.n == 0)
        apr_model_note(r->m, "gguf.no_name", name, at, "a tensor has an empty name");
    if (name.n >= LONG_NAME)
        apr_model_note(r->m, "gguf.long_name", name, at,
                       "tensor %s: a name of %zu bytes; llama.cpp refuses more than %u", APR_QUOTED(name), name.n, LONG_NAME - 1);
    if (!apr_is_utf8(name) || apr_has_control(name))
        apr_model_note(r->m, "gguf.control_name", name, at, "tensor %s: control characters in the name",
                       APR_QUOTED(name));
}

static uint64_t padded(const struct reader *r, uint64_t end)
{
    return (end + r->alignment - 1) & ~(r->alignment - 1);
}

/* Walks this file's tensors as they lie: no byte may belong to two of them. The data section begins at `end`. */
static enum apr_code check_layout(struct reader *r, uint64_t end)
{
    struct apr_model *m = r->m;
    const struct apr_tensor *last = NULL;
    enum apr_code code = APR_OK;
    bool in_order = true;
    size_t n;
    uint32_t *order = apr_model_by_offset(m, (unsigned)m->nfile - 1, &n);
    if (order == NULL && n > 0)
        return apr_no_memory(r->e);
    for (size_t i = 0; i < n && code == APR_OK; i++) {
        const struct apr_tensor *t = &m->tensor[order[i]];
        const uint64_t at = apr_tensor_offset(m, t), next = padded(r, end);
        if (t->data.n == 0)
            continue;
        if (at < end)
            code = apr_fail_tensor(r->e, APR_ECORRUPT, at, t->name,
                                   " begins at byte %" PRIu64 ", inside tensor %s, which ends at byte %" PRIu64, at,
                                   APR_QUOTED(last->name), end);
        if (at > next)
            apr_model_note(m, "gguf.gap", t->name, next,
                           "%" PRIu64 " bytes before tensor %s belong to no tensor", at - next, APR_QUOTED(t->name));
        if (last != NULL && t < last && in_order) {
            apr_model_note(m, "gguf.order", t->name, at,
                           "tensor %s is listed before tensor %s and lies after it", APR_QUOTED(t->name), APR_QUOTED(last->name));
            in_order = false;
        }
        last = t;
        end = at + t->data.n;
    }
    free(order);
    if (r->c.of.n < padded(r, end))
        apr_model_note(m, "gguf.padding", no_tensor, end,
                       "the file ends at byte %zu, without the padding after the last tensor up to byte %" PRIu64, r->c.of.n,
                       padded(r, end));
    if (r->c.of.n > padded(r, end) && m->ncut == 0)
        apr_model_note(m, "gguf.trailing", no_tensor, padded(r, end),
                       "%" PRIu64 " bytes follow the last tensor", r->c.of.n - padded(r, end));
    return code;
}

/* The entries are read twice: where the data section begins is known only behind the last of them. */
static enum apr_code take_tensors(struct reader *r)
{
    const size_t begin = r->c.at;
    struct apr_tensor t;
    uint64_t offset;
    for (uint64_t i = 0; i < r->ntensors; i++)
        APR_TRY(apr_found(take_info(r, i + 1, &t, &offset), r->e, "gguf.info"));
    const uint64_t data = r->ntensors == 0 ? r->c.at : padded(r, r->c.at);
    if (data > r->c.of.n && !r->m->partial)
        return apr_fail(r->e, APR_ECORRUPT, r->c.at, "the data section begins at byte %" PRIu64 " (alignment %" PRIu64
                        "), the file has %zu bytes", data, r->alignment, r->c.of.n);
    r->c.at = begin;
    for (uint64_t i = 0; i < r->ntensors; i++) {
        const uint64_t at = r->c.at;
        uint64_t place, size = 0;
        APR_TRY(take_info(r, i + 1, &t, &offset));
        if (!apr_add(data, offset, &place))
            place = UINT64_MAX;
        apr_tensor_measure(&t, &size);                  /* apr_model_add tells what does not fit 64 bits */
        if (apr_model_find(r->m, t.name) != NULL) {
            apr_fail_tensor(r->e, APR_ECORRUPT, at, t.name, ": the name stands twice");
            return apr_found(APR_ECORRUPT, r->e, "gguf.dup_name");
        }
        APR_TRY(apr_model_add(r->m, &t, place, size, at, r->e));
        note_name(r, t.name, at);
    }
    if (r->ntensors > 0)
        return apr_found(check_layout(r, data), r->e, "gguf.overlap");
    if (r->c.of.n > padded(r, data))
        apr_model_note(r->m, "gguf.trailing", no_tensor, data,
                       "%" PRIu64 " bytes follow the header of a file without tensors", r->c.of.n - data);
    return APR_OK;
}

/* ---- the whole ------------------------------------------------------------------------------------------------------ */

/* What is missing in the model, once all of its files are read. */
static void note_absence(struct reader *r)
{
    const struct apr_model *m = r->m;
    const uint64_t count = r->split[SPLIT_COUNT].value;
    bool quantized = false;
    if (count > 1 && count != m->nfile)
        return;
    for (size_t i = 0; i < m->ntensor && !quantized; i++)
        quantized = m->tensor[i].dtype->block > 1;
    if (apr_meta_string(&m->meta, "general.architecture").n == 0 &&
        !apr_bytes_is(apr_meta_string(&m->meta, "general.type"), "imatrix"))
        apr_model_note(r->m, "gguf.no_architecture", no_tensor, APR_NOWHERE,
                       "there is no general.architecture");
    if (quantized && apr_meta_find(&m->meta, "general.quantization_version") == NULL)
        apr_model_note(r->m, "gguf.no_quantization_version", no_tensor, APR_NOWHERE,
                       "there are quantized tensors, but no general.quantization_version");
    if (count > 1 && r->split[SPLIT_TENSORS].at != 0 && r->split[SPLIT_TENSORS].value != m->ntensor)
        apr_model_note(r->m, "gguf.split_total", no_tensor, r->split[SPLIT_TENSORS].at,
                       "split.tensors.count is %" PRIu64 ", the %zu files have %zu tensors", r->split[SPLIT_TENSORS].value, m->nfile,
                       m->ntensor);
}

static enum apr_code read(struct apr_model *m, struct apr_source *s, const struct apr_run *run, struct apr_error *e)
{
    (void)run;
    struct reader r = { .m = m, .c = apr_cursor_on(s->map), .e = e, .alignment = 32 };
    APR_TRY(apr_found(take_header(&r), e, "gguf.header"));
    APR_TRY(apr_found(take_keys(&r), e, "gguf.key"));
    APR_TRY(apr_found(check_split(&r), e, "gguf.split"));
    note_split(&r);
    APR_TRY(apr_found(take_tensors(&r), e, "gguf.data"));
    note_absence(&r);
    return APR_OK;
}

const struct apr_format apr_gguf = {
    .name = "gguf", .title = "GGUF", .suffix = ".gguf", .own_names = true,
    .probe = probe, .header = apr_gguf_header, .read = read, .shards = shards, .rule = &apr_gguf_rule, .layout = apr_gguf_layout,
    .keys = APR_KEYS_TYPED, .template_key = { "tokenizer.chat_template" }, .reheader = apr_gguf_reheader,
};
