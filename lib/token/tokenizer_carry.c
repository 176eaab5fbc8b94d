/* What a GGUF has no keys for of a checkpoint's tokenizer: it travels under hf.*, small, and comes back.
 *   hf.tokenizer.json         tokenizer.json with three members changed: "vocab" of the model is the number of tokens that are the model's
 *                             own, "merges" null, "added_tokens" runs of [first id, how many, flags] or, where its text is not that of
 *                             the GGUF's token, [id, 1, flags, "text"]; a map of characters that a key holds is ""
 *   hf.tokenizer_config.json  tokenizer_config.json; "chat_template" and "added_tokens_decoder" are null where they can be made again */
#include "token/tokenizer_parts.h"

#include <string.h>

#include "base/base64.h"
#include "base/bytes.h"
#include "model/json.h"

#define MOST_CARRIED ((size_t)1 << 20)

/* A walk over an object, whose members are copied but for some. */
typedef enum apr_code copy_fn(void *ctx, struct apr_out *out, struct apr_bytes key, struct apr_bytes value, struct apr_error *e);

static enum apr_code copy_object(struct apr_vocabulary *scratch, struct apr_bytes object, struct apr_out *out, copy_fn *copy, void *ctx,
                                 struct apr_error *e)
{
    struct apr_walk w;
    struct apr_item item;
    bool more;
    APR_TRY(apr_walk_in(&w, object, 0, '{', e));
    apr_out_open(out, NULL, '{');
    for (;;) {
        struct apr_bytes key;
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            break;
        APR_TRY(apr_json_text(&scratch->arena, item.key, item.key_at, &key, e));
        apr_out_key(out, key);
        APR_TRY(copy(ctx, out, key, item.value, e));
    }
    apr_out_close(out, '}');
    return APR_OK;
}

/* ---- tokenizer.json -------------------------------------------------------------------------------------------------- */

struct carrying {
    struct apr_tokenizer_files  *f;
    const struct apr_token_list *l;
    struct apr_bytes             charsmap; /* base64 of what a key holds */
};

/* Do all ids below n, and no others, belong to the model itself? */
static bool own_below(const struct apr_vocabulary *v, uint64_t *n)
{
    *n = 0;
    for (size_t i = 0; i < v->ntoken; i++) {
        const bool own = !(v->token[i].flags & APR_TOKEN_ADDED) || v->token[i].flags & APR_TOKEN_OWN;
        if (own && v->token[i].id != (*n)++)
            return false;
    }
    return true;
}

static void write_added(const struct carrying *c, struct apr_out *out)
{
    const struct apr_vocabulary *const v = c->f->json;
    const struct apr_token *last = NULL;
    uint64_t first = 0;
    apr_out_open(out, NULL, '[');
    for (size_t i = 0; i <= v->ntoken; i++) {
        const struct apr_token *const t = i < v->ntoken ? &v->token[i] : NULL;
        const bool added = t != NULL && t->flags & APR_TOKEN_ADDED;
        const bool told = added && (t->id >= c->l->n || !apr_bytes_equal(c->l->row[t->id].text, t->text));
        if (last != NULL && (!added || told || t->id != last->id + 1 || t->flags != last->flags)) {
            apr_out_open(out, NULL, '[');
            apr_out_count(out, NULL, first);
            apr_out_count(out, NULL, last->id - first + 1);
            apr_out_count(out, NULL, last->flags);
            apr_out_close(out, ']');
            last = NULL;
        }
        if (told) {
            apr_out_open(out, NULL, '[');
            apr_out_count(out, NULL, t->id);
            apr_out_count(out, NULL, 1);
            apr_out_count(out, NULL, t->flags);
            apr_out_bytes(out, NULL, t->text);
            apr_out_close(out, ']');
        } else if (added) {
            first = last == NULL ? t->id : first;
            last = t;
        }
    }
    apr_out_close(out, ']');
}

static enum apr_code copy_model(void *ctx, struct apr_out *out, struct apr_bytes key, struct apr_bytes value, struct apr_error *e)
{
    const struct carrying *const c = ctx;
    uint64_t own;
    (void)e;
    if (apr_bytes_is(key, "vocab") && own_below(c->f->json, &own))
        apr_out_count(out, NULL, own);
    else if (apr_bytes_is(key, "vocab") || apr_bytes_is(key, "merges"))
        apr_out_null(out, NULL);
    else
        apr_out_raw(out, NULL, value);
    return APR_OK;
}

/* The text around a map of characters that a key of the GGUF holds. */
static void write_without_map(const struct carrying *c, struct apr_out *out, struct apr_bytes value)
{
    const unsigned char *const at = c->charsmap.n == 0 ? NULL : memmem(value.at, value.n, c->charsmap.at, c->charsmap.n);
    if (at == NULL) {
        apr_out_raw(out, NULL, value);
        return;
    }
    const size_t before = (size_t)(at - value.at);
    apr_out_raw(out, NULL, (struct apr_bytes){ value.at, before });
    fwrite(at + c->charsmap.n, 1, value.n - before - c->charsmap.n, out->to);
}

static enum apr_code copy_tokenizer(void *ctx, struct apr_out *out, struct apr_bytes key, struct apr_bytes value, struct apr_error *e)
{
    const struct carrying *const c = ctx;
    if (apr_bytes_is(key, "added_tokens"))
        write_added(c, out);
    else if (apr_bytes_is(key, "model") && value.at[0] == '{')
        return copy_object(&c->f->scratch, value, out, copy_model, ctx, e);
    else if (apr_bytes_is(key, "normalizer"))
        write_without_map(c, out, value);
    else
        apr_out_raw(out, NULL, value);
    return APR_OK;
}

/* ---- tokenizer_config.json ------------------------------------------------------------------------------------------- */

static enum apr_code copy_config(void *ctx, struct apr_out *out, struct apr_bytes key, struct apr_bytes value, struct apr_error *e)
{
    const struct carrying *const c = ctx;
    (void)e;
    const bool again = apr_bytes_is(key, "added_tokens_decoder") && c->f->json != NULL;
    if (again || apr_bytes_is(key, "chat_template"))
        apr_out_null(out, NULL);
    else
        apr_out_raw(out, NULL, value);
    return APR_OK;
}

/* ---- both ------------------------------------------------------------------------------------------------------------ */

static struct apr_bytes from_brace(struct apr_bytes text)
{
    const unsigned char *const brace = memchr(text.at, '{', text.n);
    return brace == NULL ? text : (struct apr_bytes){ brace, text.n - (size_t)(brace - text.at) };
}

static enum apr_code carry(struct apr_draft *d, struct carrying *c, const char *file, const char *key, copy_fn *copy, struct apr_error *e)
{
    const struct apr_bytes text = apr_side_get(c->f->side, file);
    struct apr_text_made m;
    struct apr_bytes made;
    struct apr_error why;
    if (text.at == NULL)
        return APR_OK;
    APR_TRY(apr_text_begin(&m, e));
    const enum apr_code code = copy_object(&c->f->scratch, from_brace(text), &m.out, copy, c, e);
    const enum apr_code end = apr_text_end(&m, &c->f->scratch.arena, &made, &why);
    if (code != APR_OK)
        return code;
    if (end != APR_OK)
        return apr_no_memory(e);
    return made.n > MOST_CARRIED ? APR_OK : apr_draft_text(d, key, made, e);
}

enum apr_code apr_carry_tokenizer(struct apr_draft *d, struct apr_tokenizer_files *f, const struct apr_token_list *l, struct apr_error *e)
{
    const struct apr_value *const map = apr_draft_find(d, apr_text("tokenizer.ggml.precompiled_charsmap"));
    const struct apr_bytes special = apr_side_get(f->side, "special_tokens_map.json");
    struct carrying c = { .f = f, .l = l };
    if (map != NULL) {
        c.charsmap = apr_base64_encode(&f->scratch.arena, map->text);
        if (c.charsmap.at == NULL)
            return apr_no_memory(e);
    }
    if (f->json != NULL)
        APR_TRY(carry(d, &c, "tokenizer.json", APR_CARRIED_TOKENIZER, copy_tokenizer, e));
    APR_TRY(carry(d, &c, "tokenizer_config.json", APR_CARRIED_CONFIG, copy_config, e));
    return special.n == 0 || special.n > MOST_CARRIED / 16 ? APR_OK : apr_draft_text(d, APR_CARRIED_MAP, special, e);
}
