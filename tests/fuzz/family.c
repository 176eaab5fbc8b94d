/* Any bytes as a family's contract. */
#include "fuzz.h"

#include <string.h>

#include "family/family.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct apr_family *f;
    struct apr_error e;
    const enum apr_code code = apr_family_parse(&f, "fuzz", (struct apr_bytes){ bytes, n }, &e);
    if (code != APR_OK) {
        fuzz_expect_error(code, &e);
        fuzz_expect(f == NULL && strncmp(e.text, "line ", 5) == 0 && strcmp(e.file, "fuzz") == 0);
        return 0;
    }
    fuzz_expect(f->name.n > 0);
    for (size_t i = 0; i < f->nrole; i++)
        fuzz_expect(apr_family_role(f, f->role[i].name) != NULL);
    for (size_t i = 0; i < f->ndim; i++)
        fuzz_expect(apr_family_dim(f, f->dim[i].name) != NULL);
    for (size_t i = 0; i < f->nvector; i++) {
        uint64_t elements = 1;
        fuzz_expect(!apr_family_elements(f, &f->vector[i], &elements) || elements > 0);
    }
    for (size_t i = 0; i < f->nkv; i++) {
        char key[64];
        fuzz_expect(!apr_kv_spell(&f->kv[i], f->name, key, sizeof key) || strlen(key) < sizeof key);
    }
    apr_family_free(f);
    return 0;
}
