/* What a tokenizer.json's normalizer and post-processor do, as far as flags say it. */
#include "token/vocabulary_read.h"

#include "base/bytes.h"
#include "model/json.h"

#define DEPTH 8u /* of processors in a list of processors */

/* The parts of one template: a special token's text, or NULL-at for a sequence. More than fit are none of ours. */
#define PARTS 16u
struct parts {
    struct apr_bytes token[PARTS];
    size_t           n;
};

/* [{"SpecialToken": {"id": "<s>", ...}}, {"Sequence": {"id": "A", ...}}, ...] */
static enum apr_code take_parts(struct apr_vocabulary *v, const struct apr_value *list, struct parts *parts, struct apr_error *e)
{
    struct apr_walk w;
    struct apr_item item;
    bool more = list->type == APR_META_ARRAY;
    parts->n = 0;
    if (more)
        APR_TRY(apr_walk_in(&w, list->text, 0, '[', e));
    while (more) {
        struct apr_value part;
        struct apr_member special[] = { { .key = "SpecialToken" } }, id[] = { { .key = "id" } };
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            break;
        APR_TRY(apr_json_checked(&v->arena, item.value, 0, &part, e));
        APR_TRY(apr_take_members(v, &part, special, 1, e));
        APR_TRY(apr_take_members(v, &special[0].value, id, 1, e));
        if (parts->n < PARTS)
            parts->token[parts->n] = id[0].value.type == APR_META_STRING ? id[0].value.text : (struct apr_bytes){ 0 };
        parts->n++;
    }
    return APR_OK;
}

static bool is_role(const struct apr_vocabulary *v, struct apr_bytes text, enum apr_special_role role)
{
    const struct apr_token *t = text.at == NULL ? NULL : apr_vocabulary_find(v, text);
    uint32_t id;
    return t != NULL && apr_vocabulary_special(v, role, &id) && id == t->id;
}

static void settle(enum apr_choice *choice, bool yes)
{
    if (*choice == APR_UNSAID)
        *choice = yes ? APR_YES : APR_NO;
}

/* What stands between the two texts of a pair: one separator that nothing else follows at the end, or two. */
static void settle_between(struct apr_vocabulary *v, const struct parts *pair, bool leading, bool trailing)
{
    size_t first = leading ? 1 : 0, end = pair->n - (trailing ? 1 : 0), a = first, b;
    while (a < end && pair->token[a].at != NULL)
        a++;
    for (b = a + 1; b < end && pair->token[b].at != NULL;)
        b++;
    if (b >= end || b == a + 1)
        return;
    const struct apr_bytes one = pair->token[a + 1], two = pair->token[a + 2];
    const bool separates = is_role(v, one, APR_SEP) || is_role(v, one, APR_EOS);
    const bool twice = b - a == 3 && (is_role(v, two, APR_SEP) || is_role(v, two, APR_EOS));
    settle(&v->add_sep, (separates && !trailing) || twice);
}

static enum apr_code take_template(struct apr_vocabulary *v, const struct apr_value *processor, struct apr_error *e)
{
    struct apr_member m[] = { { .key = "single" }, { .key = "pair" } };
    struct parts one, two;
    APR_TRY(apr_take_members(v, processor, m, 2, e));
    APR_TRY(take_parts(v, &m[0].value, &one, e));
    APR_TRY(take_parts(v, &m[1].value, &two, e));
    if (one.n < 2 || one.n > PARTS || two.n > PARTS)
        return APR_OK;
    const bool leading = one.token[0].at != NULL, trailing = one.token[one.n - 1].at != NULL;
    if (leading)
        settle(&v->add_bos, is_role(v, one.token[0], APR_BOS) || is_role(v, one.token[0], APR_CLS));
    if (trailing)
        settle(&v->add_eos, true);
    if (two.n > 0)
        settle_between(v, &two, leading, trailing);
    return APR_OK;
}

/* ---- parts of a pipeline --------------------------------------------------------------------------------------------- */

typedef enum apr_code take_fn(struct apr_vocabulary *v, const struct apr_value *part, struct apr_bytes type, struct apr_error *e);

/* Hands a part to take, and those of a Sequence, which stand under `key`. */
static enum apr_code each_part(struct apr_vocabulary *v, const struct apr_value *part, const char *key, unsigned levels, take_fn *take,
                               struct apr_error *e)
{
    struct apr_member m[] = { { .key = "type" }, { .key = key } };
    struct apr_walk w;
    struct apr_item item;
    APR_TRY(apr_take_members(v, part, m, 2, e));
    if (m[0].value.type == APR_META_STRING)
        APR_TRY(take(v, part, m[0].value.text, e));
    bool more = m[1].value.type == APR_META_ARRAY && levels > 0;
    if (more)
        APR_TRY(apr_walk_in(&w, m[1].value.text, 0, '[', e));
    while (more) {
        struct apr_value inner;
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            break;
        APR_TRY(apr_json_checked(&v->arena, item.value, 0, &inner, e));
        APR_TRY(each_part(v, &inner, key, levels - 1, take, e));
    }
    return APR_OK;
}

static enum apr_code each_of(struct apr_vocabulary *v, struct apr_bytes pipeline, const char *key, take_fn *take, struct apr_error *e)
{
    const struct apr_value whole = { .type = APR_META_OBJECT, .encoding = APR_JSON, .text = pipeline };
    return pipeline.n == 0 ? APR_OK : each_part(v, &whole, key, DEPTH, take, e);
}

static enum apr_code take_processor(struct apr_vocabulary *v, const struct apr_value *part, struct apr_bytes type, struct apr_error *e)
{
    if (apr_bytes_is(type, "TemplateProcessing"))
        return take_template(v, part, e);
    if (apr_bytes_is(type, "RobertaProcessing")) {
        settle(&v->add_bos, true);
        settle(&v->add_eos, true);
        settle(&v->add_sep, true);
    }
    return APR_OK;
}

enum apr_code apr_read_post_processor(struct apr_vocabulary *v, struct apr_error *e)
{
    return each_of(v, v->post_processor, "processors", take_processor, e);
}

static enum apr_code take_normalizer(struct apr_vocabulary *v, const struct apr_value *part, struct apr_bytes type, struct apr_error *e)
{
    struct apr_member m[] = { { .key = "lowercase" }, { .key = "strip_accents" } };
    if (apr_bytes_is(type, "Lowercase"))
        settle(&v->lowercase, true);
    if (apr_bytes_is(type, "StripAccents"))
        settle(&v->strip_accents, true);
    if (!apr_bytes_is(type, "BertNormalizer"))
        return APR_OK;
    APR_TRY(apr_take_members(v, part, m, 2, e));
    if (m[0].value.type == APR_META_BOOL)
        settle(&v->lowercase, m[0].value.b);
    if (m[1].value.type == APR_META_BOOL)
        settle(&v->strip_accents, m[1].value.b);
    return APR_OK;
}

enum apr_code apr_read_normalizer(struct apr_vocabulary *v, struct apr_error *e)
{
    return each_of(v, v->normalizer, "normalizers", take_normalizer, e);
}
