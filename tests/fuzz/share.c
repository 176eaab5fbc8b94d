/* Any bytes as the JSON of a --partition run. */
#include "fuzz.h"

#include <string.h>

#include "../../tools/apr-diff/share.h"

static enum apr_code touch_row(void *ctx, const struct row *r, struct apr_error *e)
{
    (void)e;
    fuzz_expect(r->name.at != NULL && r->status < NSTATUS && r->layout <= LAYOUT_INCOMPATIBLE);
    fuzz_expect(r->ndim_a <= APR_MAX_DIMS && r->ndim_b <= APR_MAX_DIMS);
    ++*(uint64_t *)ctx;
    return APR_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    const struct apr_run run = fuzz_run();
    const struct metadata *d = NULL;
    struct metadata own = { 0 };
    struct share share;
    struct apr_error e;
    uint64_t rows = 0;
    enum apr_code code = read_share(&share, fuzz_file(bytes, n), &run, &e);
    if (code != APR_OK) {
        fuzz_expect_error(code, &e);
    } else {
        fuzz_expect(share.base.number >= 1 && share.base.number <= share.base.of);
        fuzz_expect(share_rows(&share, touch_row, &rows, &e) == APR_OK && rows == apr_member_count(share.base.top, "tensors_compared"));
        code = share_metadata(&share, &own, &d, &e);
        fuzz_expect(code == APR_OK || e.text[0] != 0);
    }
    free_metadata(&own);
    apr_share_close(&share.base);
    return 0;
}
