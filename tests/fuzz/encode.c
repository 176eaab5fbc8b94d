/* Any tokenizer.json and any text behind it, after a byte of 0; or any GGUF, and a text that hurts. */
#include "fuzz.h"

#include "model/open.h"
#include "token/encode_parts.h"
#include "token/vocabulary_read.h"

static const char hurts[] = "<s>I'LL  say\n\n 12345 \xE4\xB8\xAD\xE6\x96\x87 caf\xC3\xA9 e\xCC\x81\xFF\x80 <|endoftext|>\t\r\n x  ";

/* An id is a token's, a spelling is there to be read. */
static void encode(struct apr_encoder *x, struct apr_bytes text)
{
    for (int special = 0; special < 2; special++) {
        struct apr_error e = { .at = APR_NOWHERE };
        struct apr_ids ids = { 0 };
        unsigned seen = 0;
        const enum apr_code code = apr_encode(x, text, special == 1, &ids, &e);
        if (code != APR_OK)
            fuzz_expect_error(code, &e);
        for (size_t i = 0; i < ids.n && code == APR_OK; i++) {
            const struct apr_bytes s = apr_token_spelling(x, ids.id[i]);
            for (size_t k = 0; k < s.n; k++)
                seen += s.at[k];
        }
        fuzz_expect(seen < UINT32_MAX);
        apr_ids_free(&ids);
    }
}

static void as_json(struct apr_bytes json, struct apr_bytes text)
{
    struct apr_error e = { .at = APR_NOWHERE };
    struct apr_vocabulary v = { 0 };
    struct apr_encoder *x = NULL;
    enum apr_code code = apr_read_tokenizer_json(&v, json, &e);
    if (code == APR_OK)
        code = apr_encoder_of(&x, &v, &e);
    else
        apr_vocabulary_end(&v);
    if (code == APR_OK)
        encode(x, text);
    else
        fuzz_expect_error(code, &e);
    apr_encoder_free(x);
}

static void as_gguf(const uint8_t *bytes, size_t n)
{
    const struct apr_run run = fuzz_run();
    struct apr_error e = { .at = APR_NOWHERE };
    struct apr_model *m;
    struct apr_encoder *x = NULL;
    if (apr_open(&m, fuzz_file(bytes, n), &run, &e) != APR_OK)
        return;
    const enum apr_code code = apr_encoder_new(&x, m, &run, &e);
    if (code == APR_OK)
        encode(x, apr_text(hurts));
    else
        fuzz_expect_error(code, &e);
    apr_encoder_free(x);
    apr_close(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    const uint8_t *const end = n == 0 ? NULL : memchr(bytes, 0, n);
    const size_t length = end == NULL ? n : (size_t)(end - bytes);
    if (n > 0 && bytes[0] == '{')
        as_json((struct apr_bytes){ bytes, length }, end == NULL ? apr_text(hurts) : (struct apr_bytes){ end + 1, n - length - 1 });
    else
        as_gguf(bytes, n);
    return 0;
}
