/* A GGUF's header for an edit in place. Keys that are not touched and all of a tensor's entry but its name are copied as they stand. The
 * data begins at the first multiple of the alignment behind the last entry, so the header must end less than that before it: what is left
 * over goes into a last key, general.padding, a string of as many blanks as it takes (or, in room for no string, a u8). */
#include "reheader.h"

#include "layout.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cursor.h"
#include "base/table.h"
#include "files/source.h"
#include "model/meta.h"

#define PADDING   "general.padding"
#define LONG_NAME 64u /* from here on llama.cpp refuses a tensor's name */
enum { COUNTS_AT = 8, LEAST_STRING = 8 + sizeof PADDING - 1 + 4 + 8, LEAST_U8 = 8 + sizeof PADDING - 1 + 4 + 1 };

/* The file as it stands. key: where each entry begins, and its end: nkeys + 1 of them */
struct old_header {
    struct apr_cursor c;
    uint64_t          ntensors, nkeys, alignment;
    size_t           *key;
    struct apr_table  place; /* of each key: its number */
};

/* Keys that may not become others here: they say where the data lies, and which files belong together. */
static const char *const fixed[] = { "general.alignment", "split.no", "split.count", "split.tensors.count" };

static void skip_value(struct apr_cursor *c, uint32_t type)
{
    if (type == APR_META_STRING) {
        apr_take_bytes(c, apr_u64(c));
    } else if (type == APR_META_ARRAY) {
        const uint32_t element = apr_u32(c);
        const uint64_t n = apr_u64(c);
        const unsigned width = apr_meta_width(element);
        if (width > 0)
            apr_take_bytes(c, n * width); /* the reader has held it against the file */
        else
            for (uint64_t i = 0; i < n && !c->bad; i++)
                skip_value(c, element);
    } else {
        apr_take_bytes(c, apr_meta_width(type));
    }
}

static enum apr_code walk_keys(struct old_header *o, struct apr_error *e)
{
    struct apr_cursor *c = &o->c;
    bool fresh;
    o->key = malloc((o->nkeys + 1) * sizeof *o->key);
    if (o->key == NULL)
        return apr_no_memory(e);
    for (uint64_t i = 0; i < o->nkeys; i++) {
        o->key[i] = c->at;
        union apr_table_value *const place = apr_table_put(&o->place, apr_take_bytes(c, apr_u64(c)), &fresh);
        if (place == NULL)
            return apr_no_memory(e);
        place->number = i;
        skip_value(c, apr_u32(c));
    }
    o->key[o->nkeys] = c->at;
    return APR_OK;
}

static void skip_info(struct apr_cursor *c, struct apr_bytes *name, struct apr_bytes *rest)
{
    *name = apr_take_bytes(c, apr_u64(c));
    const size_t begin = c->at;
    apr_take_bytes(c, 8 * (uint64_t)apr_u32(c) + 4 + 8);
    *rest = (struct apr_bytes){ c->of.at + begin, c->at - begin };
}

static enum apr_code walk(struct apr_reheader *h, struct old_header *o, struct apr_error *e)
{
    const struct apr_bytes map = h->m->file[0]->map;
    struct apr_bytes name, rest;
    *o = (struct old_header){ .c = apr_cursor_on(map), .alignment = 32 };
    apr_take_bytes(&o->c, 4);
    if ((apr_u32(&o->c) & 0xFFFF) == 0)
        return apr_fail(e, APR_EUNSUPPORTED, 4, "is big-endian, which is not changed in place");
    o->ntensors = apr_u64(&o->c);
    o->nkeys = apr_u64(&o->c);
    apr_meta_unsigned(&h->m->meta, "general.alignment", &o->alignment);
    APR_TRY(walk_keys(o, e));
    struct apr_cursor c = o->c;
    for (uint64_t i = 0; i < o->ntensors; i++)
        skip_info(&c, &name, &rest);
    if (c.bad || o->ntensors != h->m->ntensor || o->nkeys != h->m->meta.n)
        return apr_fail(e, APR_ECORRUPT, c.at, "its header is not what was read of it");
    h->unit = o->alignment;
    if (!apr_round_up(c.at, o->alignment, &h->room) || h->room > map.n)
        h->room = map.n; /* a file without tensors need not be padded */
    return APR_OK;
}

/* ---- what may be -------------------------------------------------------------------------------------------------------- */

static enum apr_code check_names(const struct apr_reheader *h, struct apr_error *e)
{
    for (size_t i = 0; i < h->m->ntensor; i++)
        if (h->name[i].n >= LONG_NAME && !apr_bytes_equal(h->name[i], h->m->tensor[i].name))
            return apr_fail(e, APR_EARG, APR_NOWHERE, "a tensor cannot be called %s: in a GGUF names have less than %u bytes",
                            APR_QUOTED(h->name[i]), LONG_NAME);
    return APR_OK;
}

static enum apr_code check_keys(const struct apr_reheader *h, struct apr_error *e)
{
    const struct apr_meta *was = &h->m->meta;
    const struct apr_value *const padding = apr_meta_find(h->meta, PADDING), *const old_padding = apr_meta_find(was, PADDING);
    uint64_t number = 0;
    bool touched = was->n != h->meta->n;
    for (size_t i = 0; i < APR_LENGTH(fixed); i++) {
        const struct apr_value *a = apr_meta_find(was, fixed[i]), *b = apr_meta_find(h->meta, fixed[i]);
        if ((a == NULL) != (b == NULL) || (a != NULL && !apr_value_untouched(a, b)))
            return apr_fail(e, APR_EARG, APR_NOWHERE, "%s says how the data lies, and is not changed in place", fixed[i]);
    }
    if (padding != NULL && (old_padding == NULL || !apr_value_untouched(padding, old_padding)))
        return apr_fail(e, APR_EARG, APR_NOWHERE, PADDING " is what fills up the header of a file changed in place, and nobody else's");
    for (size_t i = 0; i < h->meta->n && !touched; i++)
        touched = !apr_bytes_equal(was->entry[i].key, h->meta->entry[i].key) ||
                  !apr_value_untouched(&was->entry[i].value, &h->meta->entry[i].value);
    if (touched && apr_meta_unsigned(was, "split.no", &number) && number > 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "is shard %u of a model (counted from 0), and keys stand in the first", (unsigned)number);
    return APR_OK;
}

/* ---- the new header ----------------------------------------------------------------------------------------------------- */

/* All keys but the padding; *n of them. */
static enum apr_code put_keys(FILE *to, const struct apr_reheader *h, const struct old_header *o, uint64_t *n, struct apr_error *e)
{
    *n = 0;
    for (size_t i = 0; i < h->meta->n; i++) {
        const struct apr_meta_entry *const entry = &h->meta->entry[i];
        const union apr_table_value *const place = apr_table_find(&o->place, entry->key);
        if (apr_bytes_is(entry->key, PADDING))
            continue;
        ++*n;
        if (place != NULL && apr_value_untouched(&h->m->meta.entry[place->number].value, &entry->value))
            apr_emit_bytes(to, (struct apr_bytes){ o->c.of.at + o->key[place->number], o->key[place->number + 1] - o->key[place->number] });
        else
            APR_TRY(apr_gguf_put_key(to, entry->key, &entry->value, e));
    }
    return APR_OK;
}

static uint64_t info_bytes(const struct apr_reheader *h, const struct old_header *o)
{
    struct apr_cursor c = o->c;
    struct apr_bytes name, rest;
    uint64_t n = 0;
    for (size_t i = 0; i < h->m->ntensor; i++) {
        skip_info(&c, &name, &rest);
        n += 8 + h->name[i].n + rest.n;
    }
    return n;
}

static void put_infos(FILE *to, const struct apr_reheader *h, const struct old_header *o)
{
    struct apr_cursor c = o->c;
    struct apr_bytes name, rest;
    for (size_t i = 0; i < h->m->ntensor; i++) {
        skip_info(&c, &name, &rest);
        apr_gguf_put_string(to, h->name[i]);
        apr_emit_bytes(to, rest);
    }
}

/* The padding that lets a header of `end` bytes end where it must, less than an alignment before `room`; false: none does, and h->missing
 * says how many more bytes make one possible. */
static bool put_padding(FILE *to, struct apr_reheader *h, const struct old_header *o, uint64_t end, bool *padded)
{
    const uint64_t room = h->room + h->inserted, gap = room - end;
    *padded = gap >= o->alignment;
    if (!*padded)
        return true;
    if (gap < LEAST_U8) {
        h->missing = LEAST_U8 - gap;
        return false;
    }
    apr_gguf_put_string(to, apr_text(PADDING));
    if (gap < LEAST_STRING) {
        apr_emit_integer(to, APR_META_U8, 4);
        apr_emit_integer(to, 0, 1);
        h->missing = gap - LEAST_U8 >= o->alignment ? LEAST_STRING - gap : 0;
        return h->missing == 0;
    }
    apr_emit_integer(to, APR_META_STRING, 4);
    apr_emit_integer(to, gap - LEAST_STRING, 8);
    apr_emit_fill(to, ' ', gap - LEAST_STRING);
    return true;
}

/* made is empty when bytes are missing. */
static enum apr_code assemble(struct apr_reheader *h, const struct old_header *o, struct apr_emit *m, struct apr_bytes *made, struct apr_error *e)
{
    uint64_t nkeys;
    bool padded;
    apr_emit_bytes(m->to, (struct apr_bytes){ o->c.of.at, COUNTS_AT });
    apr_emit_integer(m->to, o->ntensors, 8);
    apr_emit_integer(m->to, 0, 8);
    APR_TRY(put_keys(m->to, h, o, &nkeys, e));
    const uint64_t end = apr_emit_length(m) + info_bytes(h, o), room = h->room + h->inserted;
    if (end > INT32_MAX || room > INT32_MAX)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "a header of 2 GiB or more is not made");
    h->missing = end > room ? end - room : 0;
    if (h->missing > 0 || !put_padding(m->to, h, o, end, &padded))
        return APR_OK;
    put_infos(m->to, h, o);
    APR_TRY(apr_emit_end(m, made, e));
    apr_put_integer((unsigned char *)(uintptr_t)made->at + COUNTS_AT + 8, nkeys + padded, 8);
    return apr_reheader_fill(h, *made, 0, e);
}

enum apr_code apr_gguf_reheader(struct apr_reheader *h, struct apr_error *e)
{
    struct old_header o = { 0 };
    struct apr_emit m = { 0 };
    struct apr_bytes made = { 0 };
    h->header = (struct apr_bytes){ 0 };
    h->missing = 0;
    enum apr_code code = walk(h, &o, e);
    if (code == APR_OK)
        code = check_names(h, e);
    if (code == APR_OK)
        code = check_keys(h, e);
    if (code == APR_OK)
        code = apr_emit_begin(&m, e);
    if (code == APR_OK)
        code = assemble(h, &o, &m, &made, e);
    apr_emit_drop(&m);
    free((unsigned char *)(uintptr_t)made.at);
    apr_table_free(&o.place);
    free(o.key);
    return code;
}
