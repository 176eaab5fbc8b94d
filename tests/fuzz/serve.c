/* Any bytes as a request's body, through the handler, without a socket: | 0: /predict, else /predict/batch | the body |. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "../linear_server.h"
#include "model/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static struct server s;
    struct apr_error e;
    struct reply r;
    if (n == 0)
        return 0;
    if (s.catalog.now == NULL)
        linear_server_begin(&s);
    const char *const path = bytes[0] % 2 ? "/predict/batch" : "/predict";
    const struct request q = { .method = "POST", .path = path, .has_length = true, .length = n - 1 };
    server_handle(&s, &q, (struct apr_bytes){ bytes + 1, n - 1 }, &r);
    fuzz_expect(r.text != NULL && r.code >= 200 && r.code < 500 && strcmp(r.type, "application/json") == 0);
    fuzz_expect(apr_json_check((struct apr_bytes){ (const unsigned char *)r.text, r.n }, 0, &e) == APR_OK);
    fuzz_expect((strncmp(r.text, "{\"error\":", 9) == 0) == (r.code != 200));
    if (r.code == 200) /* only JSON is answered */
        fuzz_expect(apr_json_check((struct apr_bytes){ bytes + 1, n - 1 }, 0, &e) == APR_OK);
    free(r.text);
    return 0;
}
