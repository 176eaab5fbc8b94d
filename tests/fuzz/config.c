/* Any bytes as a config.json, asked for what families ask. */
#include "fuzz.h"

#include <math.h>

#include "model/hf_config.h"

static const char *const paths[] = {
    "architectures.0", "model_type", "hidden_size", "rope_scaling.rope_type", "rope_parameters.full_attention.rope_theta",
    "layer_types.1", "eos_token_id", "",
    ".", "a..b", "architectures.99999999999999999999", "text_config.model_type",
};

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct apr_hf_config *c;
    struct apr_error e;
    const enum apr_code code = apr_hf_config_new(&c, (struct apr_bytes){ bytes, n }, &e);
    if (code != APR_OK) {
        fuzz_expect_error(code, &e);
        fuzz_expect(c == NULL);
        return 0;
    }
    for (size_t i = 0; i < APR_LENGTH(paths); i++) {
        double number = 0;
        struct apr_bytes text = { 0 };
        const struct apr_bytes path = apr_text(paths[i]);
        const bool is_number = apr_hf_config_number(c, path, &number), is_text = apr_hf_config_string(c, path, &text);
        fuzz_expect(!(is_number && is_text) && (!(is_number || is_text) || apr_hf_config_has(c, path)) && isfinite(number));
    }
    apr_hf_config_free(c);
    return 0;
}
