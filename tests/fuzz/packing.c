/* Any checkpoint with any config.json: what is packed by the names of its tensors either fits, and all of it is decoded, or is a fault with a
 * text. The bytes are | u16 length of config.json | config.json | a SafeTensors file |. */
#include "fuzz.h"

#include "family/packing.h"
#include "model/hf_config.h"
#include "model/open.h"
#include "values/chunk.h"
#include "values/packed.h"

static void read_all(const struct apr_tensor *t)
{
    static float value[APR_STRETCH];
    static unsigned char blocks[APR_STRETCH * 4];
    const struct apr_kernels *const k = apr_kernels_for(apr_isa_best());
    for (uint64_t first = 0; first < t->count && first < 64 * APR_STRETCH; first += 1000)
        apr_read_floats(k, t, first, (size_t)apr_min(1000, t->count - first), value);
    if (t->count > 0)
        apr_read_floats(k, t, t->count - 1, 1, value);
    if (!t->dtype->packed && apr_packed_has_blocks(t) && t->count >= t->dtype->block)
        apr_read_blocks(t, t->count - t->dtype->block, t->dtype->block, blocks);
    for (uint64_t first = 0; first < t->count && first < 1 << 20; first += 777) {
        const struct apr_bytes b = apr_element_bytes(t, first, 1), s = apr_packed_scales(t, first, 1);
        fuzz_expect(b.at >= t->data.at && b.n <= t->data.n && (size_t)(b.at - t->data.at) <= t->data.n - b.n);
        fuzz_expect(s.n == 0 || (s.at >= t->packed->scale.data.at && s.n <= t->packed->scale.data.n));
    }
}

static void look(struct apr_packing *p)
{
    const struct apr_packing_fault *fault;
    const size_t nfault = apr_packing_faults(p, &fault);
    const struct apr_model *const view = apr_packing_view(p);
    for (size_t i = 0; i < nfault; i++)
        fuzz_expect(fault[i].text[0] != 0 && fault[i].tensor.n > 0);
    for (size_t i = 0; i < view->ntensor; i++) {
        size_t n;
        fuzz_expect(apr_packing_parts(p, i, &n)[0] != NULL && n > 0);
        if (view->tensor[i].packed != NULL)
            read_all(&view->tensor[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    const struct apr_run run = fuzz_run();
    struct apr_hf_config *config = NULL;
    struct apr_packing *p;
    struct apr_model *m;
    struct apr_error e;
    const size_t length = n < 2 ? 0 : apr_min(n - 2, bytes[0] | (size_t)bytes[1] << 8);
    if (n < 2 || apr_open(&m, fuzz_file(bytes + 2 + length, n - 2 - length), &run, &e) != APR_OK)
        return 0;
    if (apr_hf_config_new(&config, (struct apr_bytes){ bytes + 2, length }, &e) != APR_OK)
        config = NULL;
    const enum apr_code code = apr_packing_of(&p, m, config, &e);
    if (code != APR_OK)
        fuzz_expect_error(code, &e);
    else if (p != NULL)
        look(p);
    apr_packing_free(p);
    apr_hf_config_free(config);
    apr_close(m);
    return 0;
}
