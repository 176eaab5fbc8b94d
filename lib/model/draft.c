#include "model/draft.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/emit.h"
#include "base/table.h"
#include "model/json.h"
#include "model/meta.h"

void apr_draft_end(struct apr_draft *d)
{
    free(d->meta.entry);
    apr_table_free(&d->place);
    apr_arena_free(&d->arena);
    *d = (struct apr_draft){ 0 };
}

#define REMOVED UINT64_MAX /* the place of a key that was taken out */

static union apr_table_value *place_of(const struct apr_draft *d, struct apr_bytes key)
{
    union apr_table_value *const place = apr_table_find(&d->place, key);
    return place == NULL || place->number == REMOVED ? NULL : place;
}

enum apr_code apr_draft_put(struct apr_draft *d, struct apr_bytes key, const struct apr_value *v, struct apr_error *e)
{
    struct apr_meta *const meta = &d->meta;
    union apr_table_value *place = place_of(d, key);
    bool fresh;
    if (place != NULL) {
        meta->entry[place->number].value = *v;
        return APR_OK;
    }
    struct apr_meta_entry *const grown = apr_grown(meta->entry, &meta->room, meta->n, 64, sizeof *grown);
    if (grown == NULL)
        return apr_no_memory(e);
    meta->entry = grown;
    const struct apr_bytes own = apr_arena_copy(&d->arena, key);
    place = own.at == NULL ? NULL : apr_table_put(&d->place, own, &fresh);
    if (place == NULL)
        return apr_no_memory(e);
    place->number = meta->n;
    meta->entry[meta->n++] = (struct apr_meta_entry){ own, *v };
    return APR_OK;
}

const struct apr_value *apr_draft_find(const struct apr_draft *d, struct apr_bytes key)
{
    const union apr_table_value *const place = place_of(d, key);
    return place == NULL ? NULL : &d->meta.entry[place->number].value;
}

bool apr_draft_remove(struct apr_draft *d, struct apr_bytes key)
{
    union apr_table_value *const place = place_of(d, key);
    if (place == NULL)
        return false;
    struct apr_meta *const meta = &d->meta;
    const size_t at = (size_t)place->number;
    for (size_t i = at + 1; i < meta->n; i++)
        place_of(d, meta->entry[i].key)->number = i - 1;
    memmove(&meta->entry[at], &meta->entry[at + 1], (meta->n - at - 1) * sizeof *meta->entry);
    meta->n--;
    place->number = REMOVED;
    return true;
}

/* ---- values at hand ------------------------------------------------------------------------------------------------- */

enum apr_code apr_draft_u32(struct apr_draft *d, const char *key, uint32_t v, struct apr_error *e)
{
    return apr_draft_put(d, apr_text(key), &(struct apr_value){ .type = APR_META_U32, .u = v }, e);
}

enum apr_code apr_draft_f32(struct apr_draft *d, const char *key, double v, struct apr_error *e)
{
    return apr_draft_put(d, apr_text(key), &(struct apr_value){ .type = APR_META_F32, .f = (double)(float)v }, e);
}

enum apr_code apr_draft_bool(struct apr_draft *d, const char *key, bool v, struct apr_error *e)
{
    return apr_draft_put(d, apr_text(key), &(struct apr_value){ .type = APR_META_BOOL, .b = v }, e);
}

enum apr_code apr_draft_text(struct apr_draft *d, const char *key, struct apr_bytes v, struct apr_error *e)
{
    const struct apr_bytes own = apr_arena_copy(&d->arena, v);
    if (own.at == NULL)
        return apr_no_memory(e);
    return apr_draft_put(d, apr_text(key), &(struct apr_value){ .type = APR_META_STRING, .text = own }, e);
}

enum apr_code apr_draft_json(struct apr_draft *d, const char *key, struct apr_bytes json, struct apr_error *e)
{
    const struct apr_bytes own = apr_arena_copy(&d->arena, json);
    struct apr_value v;
    if (own.at == NULL)
        return apr_no_memory(e);
    APR_TRY(apr_json_check(own, 0, e));
    APR_TRY(apr_json_checked(&d->arena, own, 0, &v, e));
    return apr_draft_put(d, apr_text(key), &v, e);
}

/* ---- arrays --------------------------------------------------------------------------------------------------------- */

static unsigned char *more(struct apr_array *a, size_t n)
{
    while (!a->lost && a->room - a->bytes < n) {
        const size_t room = a->room == 0 ? 4096 : 2 * a->room;
        unsigned char *const grown = realloc(a->at, room);
        a->lost = grown == NULL;
        if (a->lost)
            break;
        a->at = grown;
        a->room = room;
    }
    if (a->lost)
        return NULL;
    a->bytes += n;
    return a->at + a->bytes - n;
}

void apr_array_text(struct apr_array *a, struct apr_bytes text)
{
    unsigned char *const to = more(a, 8 + text.n);
    if (to == NULL)
        return;
    apr_put_integer(to, text.n, 8);
    if (text.n > 0)
        memcpy(to + 8, text.at, text.n);
    a->n++;
}

void apr_array_integer(struct apr_array *a, uint64_t v)
{
    const unsigned width = apr_meta_width(a->element);
    unsigned char *const to = more(a, width);
    if (to == NULL)
        return;
    apr_put_integer(to, v, width);
    a->n++;
}

void apr_array_real(struct apr_array *a, double v)
{
    uint64_t bits = 0;
    uint32_t half;
    memcpy(&bits, &v, sizeof bits);
    memcpy(&half, &(float){ (float)v }, sizeof half);
    apr_array_integer(a, a->element == APR_META_F32 ? half : bits);
}

enum apr_code apr_draft_array(struct apr_draft *d, const char *key, struct apr_array *a, struct apr_error *e)
{
    const struct apr_bytes own = apr_arena_copy(&d->arena, (struct apr_bytes){ a->at, a->bytes });
    const struct apr_value v = { .type = APR_META_ARRAY, .element = a->element, .encoding = APR_GGUF_LE, .n = a->n, .text = own };
    const bool lost = a->lost || own.at == NULL;
    apr_array_drop(a);
    return lost ? apr_no_memory(e) : apr_draft_put(d, apr_text(key), &v, e);
}

void apr_array_drop(struct apr_array *a)
{
    free(a->at);
    *a = (struct apr_array){ .element = a->element };
}
