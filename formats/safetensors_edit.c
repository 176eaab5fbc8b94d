/* A SafeTensors header for an edit in place: __metadata__ and the names anew, what is said of each tensor as it is spelled, and blanks up
 * to the data. */
#include "reheader.h"

#include <stdlib.h>

#include "base/bytes.h"
#include "base/cursor.h"
#include "files/source.h"
#include "model/json.h"
#include "model/model.h"
#include "ui/report.h"

#define PREFIX       8u
#define HEADER_LIMIT 100000000u

static enum apr_code put_metadata(struct apr_out *o, const struct apr_meta *meta, struct apr_error *e)
{
    apr_out_open(o, "__metadata__", '{');
    for (size_t i = 0; i < meta->n; i++) {
        const struct apr_meta_entry *const entry = &meta->entry[i];
        if (entry->value.type != APR_META_STRING)
            return apr_fail(e, APR_EARG, APR_NOWHERE, "key %s: the metadata of SafeTensors holds strings alone", APR_QUOTED(entry->key));
        apr_out_key(o, entry->key);
        apr_out_bytes(o, NULL, entry->value.text);
    }
    apr_out_close(o, '}');
    return APR_OK;
}

static enum apr_code put_tensor(struct apr_out *o, const struct apr_reheader *h, const struct apr_item *item, struct apr_error *e)
{
    struct apr_arena *arena = NULL;
    struct apr_bytes name;
    const enum apr_code code = apr_json_text(&arena, item->key, item->key_at, &name, e);
    const struct apr_tensor *const t = code == APR_OK ? apr_model_find(h->m, name) : NULL;
    if (t != NULL) { /* else it is __metadata__ */
        apr_out_key(o, h->name[t - h->m->tensor]);
        apr_out_raw(o, NULL, item->value);
    }
    apr_arena_free(&arena);
    return code;
}

static enum apr_code put_header(FILE *to, const struct apr_reheader *h, struct apr_error *e)
{
    const struct apr_bytes text = { h->m->file[0]->map.at + PREFIX, (size_t)h->room - PREFIX };
    struct apr_out o = { .to = to };
    struct apr_walk w;
    struct apr_item item;
    bool more;
    APR_TRY(apr_walk_in(&w, text, PREFIX, '{', e));
    apr_emit_integer(to, h->room + h->inserted - PREFIX, PREFIX);
    apr_out_open(&o, NULL, '{');
    if (h->meta->n > 0)
        APR_TRY(put_metadata(&o, h->meta, e));
    for (;;) {
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            break;
        APR_TRY(put_tensor(&o, h, &item, e));
    }
    apr_out_close(&o, '}');
    return APR_OK;
}

static enum apr_code check(const struct apr_reheader *h, struct apr_error *e)
{
    bool renamed = false;
    for (size_t i = 0; i < h->m->ntensor; i++) {
        renamed |= !apr_bytes_equal(h->name[i], h->m->tensor[i].name);
        if (apr_bytes_is(h->name[i], "__metadata__"))
            return apr_fail(e, APR_EARG, APR_NOWHERE, "a tensor cannot be called __metadata__");
    }
    for (size_t i = 0; i < h->m->nnote && renamed; i++)
        if (apr_bytes_is(apr_text(h->m->note[i].code), "index.beside"))
            return apr_fail(e, APR_EARG, APR_NOWHERE, "is one shard of an index beside it, which names its tensors: not renamed in place");
    return APR_OK;
}

enum apr_code apr_safetensors_reheader(struct apr_reheader *h, struct apr_error *e)
{
    struct apr_cursor c = apr_cursor_on(h->m->file[0]->map);
    struct apr_emit m;
    struct apr_bytes made = { 0 };
    h->header = (struct apr_bytes){ 0 };
    h->room = PREFIX + apr_u64(&c);
    h->unit = PREFIX;
    APR_TRY(check(h, e));
    if (h->room + h->inserted - PREFIX > HEADER_LIMIT)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "a header of %llu bytes, SafeTensors has %u at most",
                        (unsigned long long)(h->room + h->inserted - PREFIX), HEADER_LIMIT);
    APR_TRY(apr_emit_begin(&m, e));
    enum apr_code code = put_header(m.to, h, e);
    if (code == APR_OK)
        code = apr_emit_end(&m, &made, e);
    if (code == APR_OK)
        code = apr_reheader_fill(h, made, ' ', e);
    apr_emit_drop(&m);
    free((unsigned char *)(uintptr_t)made.at);
    return code;
}
