#include "token/around.h"

#include <stdlib.h>

#include "base/bytes.h"
#include "model/json.h"
#include "token/vocabulary_read.h"

#define DEPTH 8u /* of processors in processors */
#define NONE  UINT32_MAX

void apr_around_end(struct apr_around *a)
{
    apr_ids_free(&a->before);
    apr_ids_free(&a->behind);
}

/* ---- a post_processor ------------------------------------------------------------------------------------------------ */

static struct apr_bytes text_of(const struct apr_value *v) { return v->type == APR_META_STRING ? v->text : (struct apr_bytes){ 0 }; }

static enum apr_code refuse(struct apr_error *e, const char *what)
{
    return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "the post_processor %s", what);
}

/* One step along an array; *more is false behind its end. */
static enum apr_code step(struct apr_vocabulary *v, struct apr_walk *w, struct apr_value *value, bool *more, struct apr_error *e)
{
    struct apr_item item;
    APR_TRY(apr_walk_next(w, &item, more, e));
    return *more ? apr_json_checked(&v->arena, item.value, 0, value, e) : APR_OK;
}

static enum apr_code add_number(const struct apr_value *id, struct apr_ids *ids, struct apr_error *e)
{
    if (id->type != APR_META_U64 || id->u >= NONE)
        return refuse(e, "names no id");
    return apr_ids_add(ids, (uint32_t)id->u, e);
}

static enum apr_code add_list(struct apr_vocabulary *v, const struct apr_value *list, struct apr_ids *ids, struct apr_error *e)
{
    struct apr_walk w;
    struct apr_value id;
    bool more;
    if (list->type != APR_META_ARRAY)
        return refuse(e, "names a token without ids");
    APR_TRY(apr_walk_in(&w, list->text, 0, '[', e));
    for (;;) {
        APR_TRY(step(v, &w, &id, &more, e));
        if (!more)
            return APR_OK;
        APR_TRY(add_number(&id, ids, e));
    }
}

/* Of {"[CLS]": {"id": "[CLS]", "ids": [101], "tokens": ["[CLS]"]}, ...} the ids of that name. */
static enum apr_code add_named(struct apr_vocabulary *v, const struct apr_value *tokens, struct apr_bytes name, struct apr_ids *ids,
                               struct apr_error *e)
{
    struct apr_walk w;
    struct apr_item item;
    bool more = tokens->type == APR_META_OBJECT;
    if (more)
        APR_TRY(apr_walk_in(&w, tokens->text, 0, '{', e));
    while (more) {
        struct apr_bytes key;
        struct apr_value token;
        struct apr_member m[] = { { .key = "ids" } };
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            break;
        APR_TRY(apr_json_text(&v->arena, item.key, item.key_at, &key, e));
        if (!apr_bytes_equal(key, name))
            continue;
        APR_TRY(apr_json_checked(&v->arena, item.value, 0, &token, e));
        APR_TRY(apr_take_members(v, &token, m, 1, e));
        return add_list(v, &m[0].value, ids, e);
    }
    return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "the post_processor names %s, which it does not tell of", APR_QUOTED(name));
}

/* ids go before those that are there. */
static enum apr_code put_before(struct apr_around *a, const struct apr_ids *ids, struct apr_error *e)
{
    struct apr_ids all = { 0 };
    enum apr_code code = APR_OK;
    for (size_t i = 0; i < ids->n && code == APR_OK; i++)
        code = apr_ids_add(&all, ids->id[i], e);
    for (size_t i = 0; i < a->before.n && code == APR_OK; i++)
        code = apr_ids_add(&all, a->before.id[i], e);
    if (code != APR_OK) {
        apr_ids_free(&all);
        return code;
    }
    apr_ids_free(&a->before);
    a->before = all;
    return APR_OK;
}

/* [{"SpecialToken": {"id": "<s>", ...}}, {"Sequence": {"id": "A", ...}}, ...]: what is before the sequence goes to ids. */
static enum apr_code take_parts(struct apr_around *a, struct apr_vocabulary *v, const struct apr_member *m, struct apr_ids *ids,
                                struct apr_error *e)
{
    struct apr_walk w;
    struct apr_value part;
    bool more, behind = false;
    if (m[0].value.type != APR_META_ARRAY)
        return refuse(e, "TemplateProcessing has no list of parts");
    APR_TRY(apr_walk_in(&w, m[0].value.text, 0, '[', e));
    for (;;) {
        struct apr_member kind[] = { { .key = "SpecialToken" }, { .key = "Sequence" } }, id[] = { { .key = "id" } };
        APR_TRY(step(v, &w, &part, &more, e));
        if (!more)
            return behind ? APR_OK : refuse(e, "TemplateProcessing has no place for a text");
        APR_TRY(apr_take_members(v, &part, kind, 2, e));
        const bool sequence = kind[1].value.type == APR_META_OBJECT;
        APR_TRY(apr_take_members(v, &kind[sequence].value, id, 1, e));
        if (sequence && (behind || !apr_bytes_is(text_of(&id[0].value), "A")))
            return refuse(e, "TemplateProcessing has another place than one for a text");
        behind = behind || sequence;
        if (!sequence)
            APR_TRY(add_named(v, &m[1].value, text_of(&id[0].value), behind ? &a->behind : ids, e));
    }
}

static enum apr_code take_template(struct apr_around *a, struct apr_vocabulary *v, const struct apr_value *processor, struct apr_error *e)
{
    struct apr_member m[] = { { .key = "single" }, { .key = "special_tokens" } };
    struct apr_ids ids = { 0 };
    APR_TRY(apr_take_members(v, processor, m, 2, e));
    enum apr_code code = take_parts(a, v, m, &ids, e);
    if (code == APR_OK)
        code = put_before(a, &ids, e);
    apr_ids_free(&ids);
    return code;
}

/* "cls": ["[CLS]", 101], "sep": ["[SEP]", 102] */
static enum apr_code take_pair(struct apr_around *a, struct apr_vocabulary *v, const struct apr_value *processor, struct apr_error *e)
{
    struct apr_member m[] = { { .key = "cls" }, { .key = "sep" } };
    struct apr_ids ids = { 0 };
    APR_TRY(apr_take_members(v, processor, m, 2, e));
    for (size_t i = 0; i < 2; i++) {
        struct apr_walk w;
        struct apr_value text, id = { .type = APR_META_ANY };
        bool more;
        if (m[i].value.type != APR_META_ARRAY)
            return refuse(e, "has no pair of a token and its id");
        APR_TRY(apr_walk_in(&w, m[i].value.text, 0, '[', e));
        APR_TRY(step(v, &w, &text, &more, e));
        if (more)
            APR_TRY(step(v, &w, &id, &more, e));
        enum apr_code code = add_number(&id, i == 0 ? &ids : &a->behind, e);
        if (code == APR_OK && i == 0)
            code = put_before(a, &ids, e);
        apr_ids_free(&ids);
        APR_TRY(code);
    }
    return APR_OK;
}

static enum apr_code take(struct apr_around *a, struct apr_vocabulary *v, const struct apr_value *processor, unsigned levels,
                          struct apr_error *e)
{
    struct apr_member m[] = { { .key = "type" }, { .key = "processors" } };
    struct apr_walk w;
    struct apr_value inner;
    bool more = true;
    APR_TRY(apr_take_members(v, processor, m, 2, e));
    const struct apr_bytes type = text_of(&m[0].value);
    if (apr_bytes_is(type, "TemplateProcessing"))
        return take_template(a, v, processor, e);
    if (apr_bytes_is(type, "BertProcessing") || apr_bytes_is(type, "RobertaProcessing"))
        return take_pair(a, v, processor, e);
    if (apr_bytes_is(type, "ByteLevel"))
        return APR_OK; /* it moves offsets */
    if (!apr_bytes_is(type, "Sequence") || m[1].value.type != APR_META_ARRAY || levels == 0)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "post_processor %s is not known", APR_QUOTED(type));
    APR_TRY(apr_walk_in(&w, m[1].value.text, 0, '[', e));
    for (;;) {
        APR_TRY(step(v, &w, &inner, &more, e));
        if (!more)
            return APR_OK;
        APR_TRY(take(a, v, &inner, levels - 1, e));
    }
}

enum apr_code apr_around_json(struct apr_around *a, struct apr_vocabulary *v, struct apr_error *e)
{
    const struct apr_value whole = { .type = APR_META_OBJECT, .encoding = APR_JSON, .text = v->post_processor };
    return v->post_processor.n == 0 ? APR_OK : take(a, v, &whole, DEPTH, e);
}

/* ---- roles ----------------------------------------------------------------------------------------------------------- */

/* The token of a role, or the one of that number where none is named, as far as there is one; NONE. */
static uint32_t token_for(const struct apr_vocabulary *v, enum apr_special_role role, uint32_t otherwise)
{
    uint32_t id;
    if (apr_vocabulary_special(v, role, &id))
        return id;
    return otherwise != NONE && apr_vocabulary_token(v, otherwise) != NULL ? otherwise : NONE;
}

static enum apr_code put(struct apr_ids *ids, uint32_t id, bool wanted, struct apr_error *e)
{
    return wanted && id != NONE ? apr_ids_add(ids, id, e) : APR_OK;
}

static bool chosen(enum apr_choice choice, bool unsaid) { return choice == APR_UNSAID ? unsaid : choice == APR_YES; }

enum apr_code apr_around_files(struct apr_around *a, const struct apr_vocabulary *v, struct apr_error *e)
{
    const uint32_t cls = token_for(v, APR_CLS, NONE), sep = token_for(v, APR_SEP, NONE);
    const bool pair = v->kind != APR_VOCABULARY_SPM && cls != NONE && sep != NONE;
    const bool llama = v->kind == APR_VOCABULARY_SPM, t5 = v->kind == APR_VOCABULARY_UNIGRAM;
    APR_TRY(put(&a->before, pair ? cls : token_for(v, APR_BOS, NONE), chosen(v->add_bos, pair || llama), e));
    return put(&a->behind, pair ? sep : token_for(v, APR_EOS, NONE), chosen(v->add_eos, pair || t5), e);
}

enum apr_code apr_around_keys(struct apr_around *a, const struct apr_vocabulary *v, const struct apr_pre *pre, struct apr_error *e)
{
    const bool no_ids = pre != NULL && (pre->no_bos || apr_bytes_is(v->model, "gemma4"));
    switch (v->kind) {
    case APR_VOCABULARY_SPM:
        APR_TRY(put(&a->before, token_for(v, APR_BOS, 1), chosen(v->add_bos, true), e));
        return put(&a->behind, token_for(v, APR_EOS, 2), chosen(v->add_eos, false), e);
    case APR_VOCABULARY_WORDPIECE: /* whatever the keys say */
        APR_TRY(put(&a->before, token_for(v, APR_BOS, 101), true, e));
        return put(&a->behind, token_for(v, APR_SEP, 102), true, e);
    case APR_VOCABULARY_UNIGRAM:
        APR_TRY(put(&a->before, token_for(v, APR_BOS, NONE), chosen(v->add_bos, false), e));
        return put(&a->behind, token_for(v, APR_EOS, 1), chosen(v->add_eos, true), e);
    default:
        APR_TRY(put(&a->before, token_for(v, APR_BOS, no_ids ? NONE : 11),
                    (pre != NULL && pre->whole_lines) || chosen(v->add_bos, pre != NULL && pre->add_bos), e));
        return put(&a->behind, token_for(v, APR_EOS, no_ids && !pre->no_bos ? NONE : 11), chosen(v->add_eos, false), e);
    }
}
