/* Any bytes as the normalizer of a tokenizer.json, and behind an empty line as the text it is for. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "model/json.h"
#include "token/encode_parts.h"

static void run(struct apr_normalizer *n, struct apr_bytes text)
{
    struct apr_made valid = { 0 }, out = { 0 };
    struct apr_bytes utf8;
    struct apr_error e;
    enum apr_code code = apr_valid(text, &valid, &utf8, &e);
    if (code == APR_OK)
        code = apr_normalize(n, utf8, apr_most_made(utf8.n), &out, &e);
    if (code != APR_OK)
        fuzz_expect_error(code, &e);
    else
        fuzz_expect(apr_is_utf8((struct apr_bytes){ out.at, out.n }) && out.n <= apr_most_made(utf8.n));
    free(valid.at);
    free(out.at);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    const uint8_t *end = n == 0 ? NULL : memmem(bytes, n, "\n\n", 2);
    const size_t json = end == NULL ? n : (size_t)(end - bytes), text = end == NULL ? n : json + 2;
    struct apr_vocabulary v = { .normalizer = { bytes, json } };
    struct apr_normalizer *x = NULL;
    struct apr_error e;
    if (json == 0 || bytes[0] != '{' || apr_json_check(v.normalizer, 0, &e) != APR_OK)
        return 0;
    const enum apr_code code = apr_normalizer_new(&x, &v, &e);
    if (code != APR_OK)
        fuzz_expect_error(code, &e);
    else if (x != NULL)
        run(x, (struct apr_bytes){ bytes + text, n - text });
    apr_normalizer_free(x);
    apr_vocabulary_end(&v);
    return 0;
}
