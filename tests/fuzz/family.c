/* Any bytes as a family's contract, to which a model of its names is bound. */
#include "fuzz.h"

#include <string.h>

#include "family/chain.h"
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
        char *const name = names[m.ntensor];
        const size_t n = known->n == 0 ? 0 : apr_role_spell(known->word[0], i % 3, 1, name, APR_NAME_ROOM);
        if (n > 0)
            tensor[m.ntensor++] = (struct apr_tensor){ .name = { (const unsigned char *)name, n }, .dtype = &apr_dtypes[APR_F32], .ndim = 2,
                                                       .dim = { 8, 8 }, .count = 64 };
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

/* ---- transforms ----------------------------------------------------------------------------------------------------- */

#define MOST_WALKED 20000u

/* Every dim is some small number. */
static struct apr_result small_number(void *ctx, struct apr_bytes name)
{
    (void)ctx;
    return (struct apr_result){ .known = true, .number = 1 + name.at[0] % 12 };
}

static struct apr_result says_nothing(void *ctx, struct apr_bytes path)
{
    (void)ctx, (void)path;
    return (struct apr_result){ 0 };
}

static bool has_nothing(void *ctx, struct apr_bytes path)
{
    (void)ctx, (void)path;
    return false;
}

/* The chains of a role on both sides, and the shape between them. */
struct chains {
    struct apr_transform hf[APR_MAX_STEPS], gguf[APR_MAX_STEPS];
    size_t               nhf, ngguf;
    uint64_t             dim[APR_MAX_DIMS];
    unsigned             ndim;
};

static bool shape_of(const struct chains *c, const struct apr_transform *t, size_t n, uint64_t part, uint64_t *count)
{
    uint64_t dim[APR_MAX_DIMS];
    unsigned ndim = c->ndim;
    memcpy(dim, c->dim, sizeof dim);
    if (!apr_transform_shape(t, n, part, dim, &ndim))
        return false;
    *count = 1;
    for (unsigned i = 0; i < ndim; i++)
        if (!apr_mul(*count, dim[i], count))
            return false;
    return true;
}

/* One side's tensors, `n` of them at most, seen from part `number` of the other: every element has a place, and the way back leads
 * to it. */
static void walk(const struct chains *c, const struct apr_transform *to, size_t nto, const struct apr_transform *from, size_t nfrom,
                 uint64_t number, uint64_t n)
{
    struct apr_view v = apr_view_of(NULL, (size_t)n, number);
    struct apr_error e;
    uint64_t count, behind;
    if (!shape_of(c, to, nto, number, &count) || count > MOST_WALKED || apr_view_back(&v, to, nto, c->dim, c->ndim, &e) != APR_OK ||
        apr_view_forth(&v, from, nfrom, c->dim, c->ndim, &e) != APR_OK)
        return;
    for (uint64_t i = 0; i < count; i++) {
        const struct apr_place p = apr_view_place(&v, i);
        struct apr_view again = apr_view_of(NULL, UINT32_MAX, p.part);
        fuzz_expect(p.run > 0 && p.stride > 0);
        for (unsigned k = 0; k < v.nvalue; k++)
            fuzz_expect(apr_view_change(&v, k, i).run > 0);
        if (p.part == n)
            continue;
        fuzz_expect(shape_of(c, from, nfrom, p.part, &behind) && p.index + (apr_min(p.run, count - i) - 1) * p.stride < behind);
        if (apr_view_back(&again, from, nfrom, c->dim, c->ndim, &e) != APR_OK ||
            apr_view_forth(&again, to, nto, c->dim, c->ndim, &e) != APR_OK)
            continue;
        const struct apr_place back = apr_view_place(&again, p.index);
        fuzz_expect(back.part == number && back.index == i);
    }
}

static void take_role(const struct apr_role *r)
{
    const struct apr_scope scope = { .value = small_number, .has = has_nothing, .path = says_nothing };
    struct chains c = { .ndim = r->ndim };
    char text[64] = "";
    for (unsigned i = 0; i < r->ndim; i++)
        if (!apr_expr_size(r->dim[i], &scope, &c.dim[i]))
            return;
    if (!apr_role_chain(r, false, &scope, c.hf, &c.nhf) || !apr_role_chain(r, true, &scope, c.gguf, &c.ngguf))
        return;
    apr_chain_spell(c.gguf, c.ngguf, APR_ALL_PARTS, true, text, sizeof text);
    fuzz_expect(strlen(text) < sizeof text);
    const uint64_t experts = apr_role_stacked(r) ? apr_min(c.gguf[0].n[0], 8) : r->known[APR_HF].n;
    for (uint64_t k = 0; k < r->known[APR_GGUF].n; k++)
        walk(&c, c.gguf, c.ngguf, c.hf, c.nhf, k, experts);
    for (uint64_t k = 0; k < experts; k++)
        walk(&c, c.hf, c.nhf, c.gguf, c.ngguf, k, r->known[APR_GGUF].n);
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
    for (size_t i = 0; i < f->nrole; i++) {
        fuzz_expect(apr_family_role(f, f->role[i].name) != NULL);
        take_role(&f->role[i]);
    }
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
