/* Any bytes as a charsmap, and as the text it is for: | u16 bytes of the charsmap | the charsmap | the text |. */
#include "fuzz.h"

#include <string.h>

#include "token/charsmap.h"

static enum apr_code walk(const struct apr_charsmap *m, struct apr_bytes text, bool shortest, struct apr_error *e)
{
    while (text.n > 0) {
        struct apr_mapped found;
        APR_TRY(apr_charsmap_find(m, text, shortest, &found, e));
        fuzz_expect(found.n <= text.n);
        fuzz_expect(found.n == 0 || (apr_is_utf8(found.to) && memchr(found.to.at, 0, found.to.n) == NULL));
        const size_t step = found.n > 0 ? found.n : 1;
        text = (struct apr_bytes){ text.at + step, text.n - step };
    }
    return APR_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct apr_charsmap m;
    struct apr_error e;
    if (n < 2)
        return 0;
    const size_t size = (size_t)apr_min((uint64_t)bytes[0] | (uint64_t)bytes[1] << 8, n - 2);
    const struct apr_bytes text = { bytes + 2 + size, n - 2 - size };
    enum apr_code code = apr_charsmap_on(&m, (struct apr_bytes){ bytes + 2, size }, &e);
    if (code == APR_OK)
        code = walk(&m, text, false, &e);
    if (code == APR_OK)
        code = walk(&m, text, true, &e);
    if (code != APR_OK)
        fuzz_expect_error(code, &e);
    return 0;
}
