/* Any bytes as the files of a tokenizer: what begins with '{' is JSON, with the tag of a field protobuf, all else lines. */
#include "fuzz.h"

#include "token/vocabulary_read.h"

/* Where what was read goes, so that no read is optimised away. */
static volatile unsigned seen;

static void touch(struct apr_bytes b)
{
    if (b.n != 0)
        seen += b.at[0] + b.at[b.n - 1];
}

/* What the header promises of a vocabulary that was read. */
static void touch_vocabulary(struct apr_vocabulary *v, struct apr_error *e)
{
    fuzz_expect(apr_vocabulary_index(v, e) == APR_OK);
    for (size_t i = 0; i < v->ntoken; i++) {
        const struct apr_token *t = &v->token[i], *same = apr_vocabulary_find(v, t->text);
        touch(t->text);
        fuzz_expect(i == 0 || t->id > t[-1].id);
        fuzz_expect(t->id < v->size && t->type >= APR_TOKEN_NORMAL && t->type <= APR_TOKEN_BYTE);
        fuzz_expect(apr_vocabulary_token(v, t->id) == t);
        fuzz_expect(same != NULL && apr_bytes_equal(same->text, t->text));
    }
    for (size_t i = 0; i < v->nmerge; i++) {
        fuzz_expect(v->merge[i].left.n > 0 && v->merge[i].right.n > 0);
        touch(v->merge[i].left);
        touch(v->merge[i].right);
        seen += apr_vocabulary_join(v, &v->merge[i]) != NULL;
    }
    for (size_t i = 0; i < v->nspecial; i++)
        touch(v->special[i].word);
    touch(v->charsmap);
    touch(v->pre_tokenizer);
}

typedef enum apr_code read_fn(struct apr_vocabulary *v, struct apr_bytes text, struct apr_error *e);

static void read_with(read_fn *read, struct apr_bytes text)
{
    struct apr_vocabulary v = { 0 };
    struct apr_error e = { .at = APR_NOWHERE };
    const enum apr_code code = read(&v, text, &e);
    if (code == APR_OK && apr_read_normalizer(&v, &e) == APR_OK && apr_read_post_processor(&v, &e) == APR_OK)
        touch_vocabulary(&v, &e);
    fuzz_expect(code == APR_OK || (e.code == code && e.text[0] != 0 && (e.at == APR_NOWHERE || e.at <= text.n)));
    apr_vocabulary_end(&v);
}

/* As tokenizer_config.json and added_tokens.json. */
static enum apr_code read_config(struct apr_vocabulary *v, struct apr_bytes text, struct apr_error *e)
{
    struct apr_value object;
    struct apr_member m[] = { { .key = "chat_template" }, { .key = "added_tokens_decoder" } };
    APR_TRY(apr_take_object(v, text, &object, e));
    APR_TRY(apr_read_added_tokens(v, &object, e));
    APR_TRY(apr_take_members(v, &object, m, APR_LENGTH(m), e));
    APR_TRY(apr_read_templates(v, &m[0].value, e));
    APR_TRY(apr_read_added_tokens(v, &m[1].value, e));
    APR_TRY(apr_order_tokens(v, e));
    return apr_read_roles(v, &object, e);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static read_fn *const json[] = { apr_read_tokenizer_json, apr_read_vocab_json, read_config };
    static read_fn *const lines[] = { apr_read_vocab_txt, apr_read_merges_txt };
    const struct apr_bytes text = { bytes, n };
    if (n > 0 && bytes[0] == '{')
        for (size_t i = 0; i < APR_LENGTH(json); i++)
            read_with(json[i], text);
    else if (n > 0 && (bytes[0] == '\n' || bytes[0] == 0x12 || bytes[0] == 0x1A))
        read_with(apr_read_sentencepiece, text);
    else
        for (size_t i = 0; i < APR_LENGTH(lines); i++)
            read_with(lines[i], text);
    return 0;
}
