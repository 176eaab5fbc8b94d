/* Tokens of a GGUF that the files made of it would give otherwise: a type or a score for which they have no place, a text that stands there
 * twice. They travel in the member of our own. */
#include "token/tokenizer_parts.h"

#include <string.h>

#include "base/bytes.h"
#include "model/json.h"
#include "model/meta.h"

#define MOST_OWN 256u /* more are no exceptions, but another kind of tokenizer */

/* ---- telling --------------------------------------------------------------------------------------------------------- */

/* The rows of a GGUF, one after the other, beside those of the files. */
struct rows {
    struct apr_elements          text, score, type;
    bool                         scored, typed;
    const struct apr_token_list *l;
    uint64_t                     id;
    struct apr_token_row         want;
};

static bool begin(struct rows *r, const struct apr_draft *keys, const struct apr_token_list *l)
{
    const struct apr_value *const text = apr_draft_find(keys, apr_text("tokenizer.ggml.tokens")),
                           *const score = apr_draft_find(keys, apr_text("tokenizer.ggml.scores")),
                           *const type = apr_draft_find(keys, apr_text("tokenizer.ggml.token_type"));
    *r = (struct rows){ .l = l, .id = UINT64_MAX };
    if (text == NULL || text->type != APR_META_ARRAY || text->element != APR_META_STRING)
        return false;
    r->scored = score != NULL && score->type == APR_META_ARRAY && score->element == APR_META_F32 && score->n == text->n;
    r->typed = type != NULL && type->type == APR_META_ARRAY && type->n == text->n;
    r->text = apr_elements_of(text);
    if (r->scored)
        r->score = apr_elements_of(score);
    if (r->typed)
        r->type = apr_elements_of(type);
    return true;
}

static bool next(struct rows *r)
{
    struct apr_value text, score, type;
    if (++r->id >= r->l->n || !apr_elements_next(&r->text, &text))
        return false;
    r->want = r->l->row[r->id];
    r->want.text = text.text;
    if (r->scored && apr_elements_next(&r->score, &score))
        r->want.score = (float)score.f;
    if (r->typed && apr_elements_next(&r->type, &type))
        r->want.type = (uint8_t)apr_number(&type);
    return true;
}

static enum apr_code end(struct rows *r, struct apr_error *e)
{
    if (r->scored)
        APR_TRY(apr_elements_done(&r->score, APR_OK, e));
    if (r->typed)
        APR_TRY(apr_elements_done(&r->type, APR_OK, e));
    return apr_elements_done(&r->text, APR_OK, e);
}

/* Is it another than the files give, and one that JSON can tell? */
static bool is_told(const struct rows *r)
{
    const struct apr_token_row *const got = &r->l->row[r->id];
    const bool same = apr_bytes_equal(got->text, r->want.text) && memcmp(&got->score, &r->want.score, sizeof got->score) == 0 &&
                      got->type == r->want.type;
    return !same && apr_is_utf8(r->want.text) && r->want.score - r->want.score == 0;
}

static void write_row(struct apr_out *out, const struct rows *r)
{
    char spelled[32];
    apr_out_open(out, NULL, '[');
    apr_out_count(out, NULL, r->id);
    apr_out_count(out, NULL, r->want.type);
    apr_out_raw(out, NULL, apr_text(apr_spell_float(r->want.score, spelled)));
    apr_out_bytes(out, NULL, r->want.text);
    apr_out_close(out, ']');
}

enum apr_code apr_write_own_tokens(struct apr_out *out, const struct apr_draft *keys, const struct apr_token_list *l, bool *any,
                                   struct apr_error *e)
{
    struct rows r;
    size_t n = 0;
    if (!begin(&r, keys, l))
        return APR_OK;
    while (next(&r))
        n += is_told(&r);
    APR_TRY(end(&r, e));
    if (n == 0 || n > MOST_OWN || !begin(&r, keys, l))
        return APR_OK;
    *any = true;
    apr_out_open(out, "tokens", '[');
    while (next(&r))
        if (is_told(&r))
            write_row(out, &r);
    apr_out_close(out, ']');
    return end(&r, e);
}

/* ---- taking ---------------------------------------------------------------------------------------------------------- */

/* [id, type, score, "text"]; what is no such row is none. */
static enum apr_code take_row(struct apr_tokenizer_files *f, struct apr_token_list *l, const struct apr_value *row, struct apr_error *e)
{
    struct apr_walk walk;
    struct apr_item item;
    struct apr_value field[4] = { { .type = APR_META_ANY }, { .type = APR_META_ANY }, { .type = APR_META_ANY }, { .type = APR_META_ANY } };
    bool more = row->type == APR_META_ARRAY;
    if (more)
        APR_TRY(apr_walk_in(&walk, row->text, 0, '[', e));
    for (size_t i = 0; more; i++) {
        APR_TRY(apr_walk_next(&walk, &item, &more, e));
        if (more && i < 4)
            APR_TRY(apr_json_checked(&f->scratch.arena, item.value, 0, &field[i], e));
    }
    const bool sound = field[0].type == APR_META_U64 && field[1].type == APR_META_U64 && field[3].type == APR_META_STRING;
    if (sound && field[0].u < l->n && field[1].u >= APR_TOKEN_NORMAL && field[1].u <= APR_TOKEN_BYTE)
        l->row[field[0].u] = (struct apr_token_row){ field[3].text, (float)apr_number(&field[2]), (uint8_t)field[1].u };
    return APR_OK;
}

enum apr_code apr_take_own_tokens(struct apr_tokenizer_files *f, struct apr_token_list *l, struct apr_error *e)
{
    struct apr_value own;
    struct apr_member m[] = { { .key = "tokens" } };
    struct apr_walk walk;
    struct apr_item item;
    bool more;
    APR_TRY(apr_tokenizer_member(f, APR_OWN_MEMBER, &own, e));
    APR_TRY(apr_take_members(&f->scratch, &own, m, 1, e));
    if (m[0].value.type != APR_META_ARRAY)
        return APR_OK;
    APR_TRY(apr_walk_in(&walk, m[0].value.text, 0, '[', e));
    for (;;) {
        struct apr_value row;
        APR_TRY(apr_walk_next(&walk, &item, &more, e));
        if (!more)
            return APR_OK;
        APR_TRY(apr_json_checked(&f->scratch.arena, item.value, 0, &row, e));
        APR_TRY(take_row(f, l, &row, e));
    }
}
