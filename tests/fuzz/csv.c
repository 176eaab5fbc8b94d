/* Any bytes as a table to learn from: | options | the table |. */
#include "fuzz.h"

#include <math.h>

#include "../../tools/apr-linear/data.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    const struct apr_run run = fuzz_run();
    struct apr_error e;
    struct data d;
    if (n == 0)
        return 0;
    const struct data_wish w = { .path = fuzz_file(bytes + 1, n - 1),
                                 .learn = (enum learn)(bytes[0] % 3),
                                 .table = { .header = bytes[0] / 4 % 3, .missing = bytes[0] / 16 % 2, .target = bytes[0] / 32 % 2 ? "1" : NULL } };
    const enum apr_code code = data_read(&d, &w, &run, &e);
    if (code != APR_OK) {
        fuzz_expect_error(code, &e);
        data_free(&d);
        return 0;
    }
    fuzz_expect(d.n > 0 && d.p > 0 && d.nclass != 1 && (d.nclass == 0 || w.learn != LEARN_LINEAR));
    for (size_t i = 0; i < d.n * d.p; i++)
        fuzz_expect(isfinite(d.x[i]));
    for (size_t i = 0; i < d.n; i++)
        fuzz_expect(isfinite(d.y[i]) && (d.nclass == 0 || (d.y[i] >= 0 && d.y[i] < (double)d.nclass)));
    for (size_t i = 0; i < d.nclass; i++)
        fuzz_expect(apr_is_utf8(d.class[i].text) && d.class[i].json.n > 0);
    data_free(&d);
    return 0;
}
