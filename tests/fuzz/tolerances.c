/* Any bytes as a tolerance file, and its patterns against some names. */
#include "fuzz.h"

#include <math.h>
#include <string.h>

#include "../../tools/apr-diff/tolerance.h"

static const char *const names[] = { "model.layers.0.self_attn.q_proj.weight", "blk.17.ffn_up.weight", "lm_head.weight", "\xc3\xa4", "" };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static const struct bounds otherwise = { .cosine = 0.999, .max_abs = INFINITY, .rmse = INFINITY };
    const struct bounds *found;
    struct rules r;
    struct apr_error e;
    enum apr_code code = read_rules(&r, "fuzz", (struct apr_bytes){ bytes, n }, &otherwise, &e);
    if (code != APR_OK) {
        fuzz_expect_error(code, &e);
        fuzz_expect(strncmp(e.text, "line ", 5) == 0 && strcmp(e.file, "fuzz") == 0);
        free_rules(&r);
        return 0;
    }
    for (size_t i = 0; code == APR_OK && i < APR_LENGTH(names); i++) {
        code = find_rule(&r, apr_text(names[i]), apr_text(names[0]), &found, &e);
        fuzz_expect(code != APR_OK || found == NULL || !isnan(found->cosine));
        if (code == APR_OK)
            code = apr_patterns_note(r.match, apr_text(names[i]), &e);
    }
    fuzz_expect(code == APR_OK || (code == APR_ELIMIT && e.text[0] != 0));
    free_rules(&r);
    return 0;
}
