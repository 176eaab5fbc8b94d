/* Any bytes as an address, as a Content-Range, and as the beginning of a file whose header has an end. */
#include "fuzz.h"

#include <string.h>

#include "files/address.h"
#include "model/format.h"

static void as_address(const char *text)
{
    struct apr_error e;
    char *url;
    const enum apr_code code = apr_address_url(&url, text, "https://e/", &e);
    if (code != APR_OK)
        fuzz_expect_error(code, &e);
    else
        fuzz_expect(apr_origin_length(url) > 0 && strpbrk(url, " \n\r") == NULL);
    if (code == APR_OK && strncmp(text, "hf://", 5) == 0)
        fuzz_expect(apr_same_origin(url, "https://e") && strstr(url, "/../") == NULL && strpbrk(url, "?#") == NULL);
    free(url);
    char *const path = apr_beside(text, apr_text(text));
    fuzz_expect(path != NULL && apr_folder_length(path) <= apr_path_length(path) && apr_path_length(path) <= strlen(path));
    if (*text != 0 && apr_is_folder_address(text))
        fuzz_expect(apr_is_address(text));
    free(path);
}

static void as_headers(struct apr_bytes start)
{
    static const uint64_t longer[] = { 0, 1, 1 << 20, UINT64_C(1) << 40 };
    for (const struct apr_format *const *f = apr_formats; *f != NULL; f++)
        for (size_t i = 0; i < APR_LENGTH(longer) && (*f)->header != NULL; i++) {
            const uint64_t size = start.n + longer[i], n = (*f)->header(start, size);
            fuzz_expect(n == APR_HEADER_ALL || n <= size || n <= start.n + 100000008);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct apr_content_range r;
    char *const text = strndup((const char *)bytes, n);
    fuzz_expect(text != NULL);
    as_address(text);
    if (apr_content_range_read((struct apr_bytes){ bytes, n }, &r))
        fuzz_expect(r.first <= r.end && r.end <= r.total);
    as_headers((struct apr_bytes){ bytes, n });
    free(text);
    return 0;
}
