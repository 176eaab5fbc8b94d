/* Any bytes as a family's contract, to which a model of its names is bound. */
#include "fuzz.h"

#include <string.h>

#include "family/missing.h"
#include "files/source.h"
#include "model/format.h"

#define MOST_TENSORS  64
#define MOST_ELEMENTS 16

/* Lists and numbers under names that the seeds ask for. */
static const char config[] =
    "{\"num_hidden_layers\": 3, \"hidden_size\": 8, \"num_attention_heads\": [2, null, 4], \"num_key_value_heads\": [0, 2, 1],"
    " \"layer_types\": [\"full_attention\", \"linear_attention\"], \"rope\": {\"sections\": [1, 2.5]}, \"eps\": 1e-5, \"window\": 4}";

static bool count_missing(void *n, const struct apr_meaning *what, struct apr_bytes name)
{
    fuzz_expect(what->role != NULL && name.n < APR_NAME_ROOM);
    return ++*(unsigned *)n < 1000;
}

static void touch_entry(const struct apr_binding *b, const struct apr_kv *k)
{
    const struct apr_statement s = apr_binding_states(b, k);
    uint64_t n = 0;
    for (uint64_t i = 0; i < s.n && i < MOST_ELEMENTS; i++)
        apr_statement_element(b, &s, i);
    if (apr_binding_length(b, &k->value, &n))
        for (uint64_t i = 0; i < n && i < MOST_ELEMENTS; i++)
            apr_binding_element(b, &k->value, i);
}

/* Tensors with the names of its roles, in the checkpoint's spelling or in a GGUF's. */
static void bind_model(const struct apr_family *f, bool gguf)
{
    static char names[MOST_TENSORS][APR_NAME_ROOM];
    struct apr_tensor tensor[MOST_TENSORS] = { { .count = 0 } };
    struct apr_source of = { .map = apr_text(config), .path = "config.json" };
    struct apr_model m = { .tensor = tensor, .config = gguf ? NULL : &of };
    struct apr_binding *b;
    struct apr_error e;
    unsigned missing = 0;
    for (size_t i = 0; m.format == NULL; i++)
        if (strcmp(apr_formats[i]->name, gguf ? "gguf" : "safetensors") == 0)
            m.format = apr_formats[i];
    for (size_t i = 0; i < f->nrole && m.ntensor < MOST_TENSORS; i++) {
        const struct apr_words *const known = &f->role[i].known[gguf ? APR_GGUF : APR_HF];
        const size_t n = known->n == 0 ? 0 : apr_role_spell(known->word[0], i % 3, 1, names[m.ntensor], APR_NAME_ROOM);
        if (n > 0)
            tensor[m.ntensor++] = (struct apr_tensor){ .name = { (const unsigned char *)names[m.ntensor], n }, .dtype = &apr_dtypes[APR_F32],
                                                       .ndim = 2, .dim = { 8, 8 }, .count = 64 };
    }
    const enum apr_code code = apr_bind(&b, f, &m, NULL, &e);
    if (code != APR_OK) {
        fuzz_expect_error(code, &e);
        return;
    }
    for (size_t i = 0; i < f->nrole; i++)
        for (uint64_t layer = 0; layer < 4; layer++)
            fuzz_expect(!apr_binding_in_layer(b, &f->role[i], layer, false) || apr_binding_in_layer(b, &f->role[i], layer, true));
    for (size_t i = 0; i < f->nkv; i++)
        touch_entry(b, &f->kv[i]);
    apr_binding_missing(b, apr_binding_spoken(b, &m), 4, count_missing, &missing);
    apr_binding_free(b);
}

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
    bind_model(f, false);
    bind_model(f, true);
    apr_family_free(f);
    return 0;
}
