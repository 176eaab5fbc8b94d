/* Any bytes as a NumPy array. */
#include "fuzz.h"

#include <string.h>

#include "files/source.h"
#include "model/format.h"
#include "model/open.h"

static const struct apr_format *npy(void)
{
    size_t i = 0;
    while (strcmp(apr_formats[i]->name, "npy") != 0)
        i++;
    return apr_formats[i];
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static volatile unsigned seen;
    const struct apr_run run = fuzz_run();
    struct apr_source *s;
    struct apr_model *m;
    struct apr_error e;
    fuzz_expect(apr_source_open(&s, fuzz_file(bytes, n), &run, &e) == APR_OK);
    const enum apr_code code = apr_open_source(&m, s, npy(), &run, &e);
    if (code != APR_OK) {
        fuzz_expect_error(code, &e);
        fuzz_expect(m == NULL);
        return 0;
    }
    const struct apr_tensor *const t = &m->tensor[0];
    fuzz_expect(m->ntensor == 1 && t->ndim <= APR_MAX_DIMS && t->data.n == t->count * t->dtype->bytes && t->data.n <= n);
    if (t->data.n > 0)
        seen += t->data.at[0] + t->data.at[t->data.n - 1];
    apr_close(m);
    return 0;
}
