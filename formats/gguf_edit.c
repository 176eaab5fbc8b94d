/* A GGUF's header for an edit in place. Keys that are not touched and all of a tensor's entry but its name are copied as they stand. The
 * data begins at the first multiple of the alignment behind the last entry, so the header must end less than that before it: what is left
 * over goes into a last key, general.padding, a string of as many blanks as it takes (or, in room for no string, a u8). */
#include "reheader.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cursor.h"
#include "base/table.h"
#include "files/source.h"
#include "model/meta.h"

#define PADDING   "general.padding"
#define LONG_NAME 64u /* from here on llama.cpp refuses a tensor's name */
enum { COUNTS_AT = 8, HEADER = 24, LEAST_STRING = 8 + sizeof PADDING - 1 + 4 + 8, LEAST_U8 = 8 + sizeof PADDING - 1 + 4 + 1 };

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

static void put_text(struct apr_builder *b, struct apr_bytes text)
{
    apr_build_integer(b, text.n, 8);
    apr_build_bytes(b, text);
}

static enum apr_code put_value(struct apr_builder *b, struct apr_bytes key, const struct apr_value *v, struct apr_error *e)
{
    uint64_t bits;
    uint32_t half;
    if (v->type > APR_META_F64 || (v->type == APR_META_ARRAY && v->encoding != APR_GGUF_LE))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "key %s: a GGUF holds no JSON", APR_QUOTED(key));
    put_text(b, key);
    apr_build_integer(b, v->type, 4);
    switch (v->type) {
    case APR_META_STRING:
        put_text(b, v->text);
        break;
    case APR_META_ARRAY:
        apr_build_integer(b, v->element, 4);
        apr_build_integer(b, v->n, 8);
        apr_build_bytes(b, v->text);
        break;
    case APR_META_F32:
        memcpy(&half, &(float){ (float)v->f }, sizeof half);
        apr_build_integer(b, half, 4);
        break;
    case APR_META_F64:
        memcpy(&bits, &v->f, sizeof bits);
        apr_build_integer(b, bits, 8);
        break;
    case APR_META_BOOL:
        apr_build_integer(b, v->b, 1);
        break;
    default:
        apr_build_integer(b, v->u, apr_meta_width(v->type));
    }
    return APR_OK;
}

/* All keys but the padding; *n of them. */
static enum apr_code put_keys(struct apr_builder *b, const struct apr_reheader *h, const struct old_header *o, uint64_t *n,
                              struct apr_error *e)
{
    *n = 0;
    for (size_t i = 0; i < h->meta->n; i++) {
        const struct apr_meta_entry *const entry = &h->meta->entry[i];
        const union apr_table_value *const place = apr_table_find(&o->place, entry->key);
        if (apr_bytes_is(entry->key, PADDING))
            continue;
        ++*n;
        if (place != NULL && apr_value_untouched(&h->m->meta.entry[place->number].value, &entry->value))
            apr_build_bytes(b, (struct apr_bytes){ o->c.of.at + o->key[place->number], o->key[place->number + 1] - o->key[place->number] });
        else
            APR_TRY(put_value(b, entry->key, &entry->value, e));
    }
    return APR_OK;
}

static void put_infos(struct apr_builder *b, const struct apr_reheader *h, const struct old_header *o)
{
    struct apr_cursor c = o->c;
    struct apr_bytes name, rest;
    for (size_t i = 0; i < h->m->ntensor; i++) {
        skip_info(&c, &name, &rest);
        put_text(b, h->name[i]);
        apr_build_bytes(b, rest);
    }
}

/* The padding that lets a header of `end` bytes end where it must, less than an alignment before `room`; false: none does, and h->missing
 * says how many more bytes make one possible. */
static bool put_padding(struct apr_builder *b, struct apr_reheader *h, const struct old_header *o, uint64_t end, bool *padded)
{
    const uint64_t room = h->room + h->inserted, gap = room - end;
    *padded = gap >= o->alignment;
    if (!*padded)
        return true;
    if (gap < LEAST_U8) {
        h->missing = LEAST_U8 - gap;
        return false;
    }
    put_text(b, apr_text(PADDING));
    if (gap < LEAST_STRING) {
        apr_build_integer(b, APR_META_U8, 4);
        apr_build_integer(b, 0, 1);
        h->missing = gap - LEAST_U8 >= o->alignment ? LEAST_STRING - gap : 0;
        return h->missing == 0;
    }
    apr_build_integer(b, APR_META_STRING, 4);
    apr_build_integer(b, gap - LEAST_STRING, 8);
    fprintf(b->to, "%*s", (int)(gap - LEAST_STRING), "");
    return true;
}

static enum apr_code assemble(struct apr_reheader *h, const struct old_header *o, struct apr_builder *keys, struct apr_builder *infos,
                              struct apr_builder *all, struct apr_error *e)
{
    uint64_t nkeys;
    bool padded;
    APR_TRY(apr_build(keys, e));
    APR_TRY(apr_build(infos, e));
    APR_TRY(apr_build(all, e));
    APR_TRY(put_keys(keys, h, o, &nkeys, e));
    put_infos(infos, h, o);
    APR_TRY(apr_built(infos, e));
    const long length = ftell(keys->to);
    const uint64_t end = HEADER + (uint64_t)length + infos->made.n;
    if (length < 0 || end > INT32_MAX || h->room + h->inserted > INT32_MAX)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "a header of 2 GiB or more is not made");
    if (end > h->room + h->inserted) {
        h->missing = end - h->room - h->inserted;
        return APR_OK;
    }
    if (!put_padding(keys, h, o, end, &padded))
        return APR_OK;
    APR_TRY(apr_built(keys, e));
    apr_build_bytes(all, (struct apr_bytes){ o->c.of.at, COUNTS_AT });
    apr_build_integer(all, o->ntensors, 8);
    apr_build_integer(all, nkeys + padded, 8);
    apr_build_bytes(all, keys->made);
    apr_build_bytes(all, infos->made);
    APR_TRY(apr_built(all, e));
    return apr_reheader_fill(h, all->made, 0, e);
}

enum apr_code apr_gguf_reheader(struct apr_reheader *h, struct apr_error *e)
{
    struct old_header o = { 0 };
    struct apr_builder keys = { 0 }, infos = { 0 }, all = { 0 };
    h->header = (struct apr_bytes){ 0 };
    h->missing = 0;
    enum apr_code code = walk(h, &o, e);
    if (code == APR_OK)
        code = check_names(h, e);
    if (code == APR_OK)
        code = check_keys(h, e);
    if (code == APR_OK)
        code = assemble(h, &o, &keys, &infos, &all, e);
    apr_build_drop(&keys);
    apr_build_drop(&infos);
    apr_build_drop(&all);
    apr_table_free(&o.place);
    free(o.key);
    return code;
}
