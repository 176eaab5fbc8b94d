/* Any bytes as the keys of a GGUF in a SafeTensors file, as an APR's metadata there, and as a card. What is read is written and read
 * again. */
#include "fuzz.h"

#include "family/general.h"
#include "family/gguf_kv.h"
#include "model/format.h"
#include "model/meta.h"

static const struct apr_format *format(const char *name)
{
    size_t i = 0;
    while (strcmp(apr_formats[i]->name, name) != 0)
        i++;
    return apr_formats[i];
}

static enum apr_code carry(struct apr_draft *d, const char *key, struct apr_bytes text, struct apr_error *e)
{
    struct apr_meta_entry entry = { apr_text(key), { .type = APR_META_STRING, .encoding = APR_JSON, .text = text } };
    const struct apr_model m = { .format = format("safetensors"), .meta = { .entry = &entry, .n = 1, .room = 1 } };
    return strcmp(key, APR_KV_KEY) == 0 ? apr_gguf_kv_read(d, &m, true, e) : apr_flat_read(d, &m, true, e);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct apr_draft d = { 0 }, again = { 0 }, flat = { 0 }, general = { 0 };
    struct apr_arena *arena = NULL;
    struct apr_error e;
    struct apr_bytes json;
    const struct apr_bytes text = { bytes, n };
    const enum apr_code code = carry(&d, APR_KV_KEY, text, &e);
    if (code != APR_OK) {
        fuzz_expect_error(code, &e);
    } else {
        fuzz_expect(apr_gguf_kv_write(&arena, &d.meta, false, &json, &e) == APR_OK && carry(&again, APR_KV_KEY, json, &e) == APR_OK);
        fuzz_expect(again.meta.n == d.meta.n);
        for (size_t i = 0; i < d.meta.n; i++)
            fuzz_expect(apr_value_equal(&d.meta.entry[i].value, &again.meta.entry[i].value));
    }
    const enum apr_code other = carry(&flat, APR_FLAT_KEY, text, &e);
    if (other != APR_OK)
        fuzz_expect_error(other, &e);
    struct apr_side_file file = { apr_text("README.md"), text };
    const struct apr_side side = { .file = &file, .n = 1 };
    const struct apr_translation t = { .side = &side, .name = apr_text("Name") };
    fuzz_expect(apr_general_put(&general, &t, &e) == APR_OK);
    apr_arena_free(&arena);
    apr_draft_end(&d);
    apr_draft_end(&again);
    apr_draft_end(&flat);
    apr_draft_end(&general);
    return 0;
}
