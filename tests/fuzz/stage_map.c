/* Any bytes as a map of foreign names, applied to some activations. */
#include "fuzz.h"

#include <string.h>

#include "base/bytes.h"
#include "forward/saved.h"
#include "model/model.h"
#include "model/open.h"
#include "model/stage.h"

static const char dump[] =
    "{\"model.layers.0.self_attn.q_proj:out\":{\"dtype\":\"F32\",\"shape\":[1,3,2],\"data_offsets\":[0,24]},"
    "\"model.layers.0.self_attn.k_proj:out\":{\"dtype\":\"F32\",\"shape\":[1,3,1],\"data_offsets\":[24,36]},"
    "\"model.layers.0.self_attn.v_proj:out\":{\"dtype\":\"F32\",\"shape\":[3,1],\"data_offsets\":[36,48]},"
    "\"model.layers.0.mlp.gate_up_proj\":{\"dtype\":\"F16\",\"shape\":[3,4],\"data_offsets\":[48,72]},"
    "\"model.layers.1.mlp:in\":{\"dtype\":\"F16\",\"shape\":[0,4],\"data_offsets\":[72,72]},"
    "\"model.layers.1:out\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[72,73]},"
    "\"layer-2/ffn_out\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[73,75]},"
    "\"logits\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[75,83]}}";

static bool has_every_other(void *ctx, uint32_t layer, unsigned stage)
{
    (void)ctx;
    return (layer + stage) % 2 != 0;
}

static struct apr_model *open_dump(const struct apr_run *run)
{
    struct apr_model *m;
    struct apr_error e;
    uint8_t bytes[8 + sizeof dump - 1 + 83];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i < 8 ? (sizeof dump - 1) >> 8 * i : i);
    memcpy(bytes + 8, dump, sizeof dump - 1);
    fuzz_expect(apr_open(&m, fuzz_file(bytes, sizeof bytes), run, &e) == APR_OK);
    return m;
}

static void touch(const struct apr_model *m)
{
    static volatile unsigned seen;
    struct apr_tensor view;
    for (size_t i = 0; i < m->ntensor; i++) {
        const struct apr_tensor *const t = &m->tensor[i];
        fuzz_expect(i == 0 || apr_stage_compare(m->tensor[i - 1].name, t->name) < 0);
        fuzz_expect(apr_model_find(m, t->name) == t);
        fuzz_expect(t->dtype->block > 1 || t->data.n == t->count * t->dtype->bytes);
        for (size_t k = 0; k < t->data.n; k++)
            seen += t->data.at[k];
        fuzz_expect(!apr_trace_last(t, 1, &view) || view.count == 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    const struct apr_run run = fuzz_run();
    struct apr_stage_map *map;
    struct apr_error e;
    enum apr_code code = apr_stage_map_parse(&map, (struct apr_bytes){ bytes, n }, &e);
    if (code != APR_OK) {
        fuzz_expect_error(code, &e);
        fuzz_expect(map == NULL && strncmp(e.text, "line ", 5) == 0);
        return 0;
    }
    struct apr_model *const m = open_dump(&run);
    code = apr_as_trace(m, map, &(struct apr_other_side){ has_every_other, NULL }, &e);
    if (code == APR_OK)
        touch(m);
    else
        fuzz_expect_error(code, &e);
    apr_close(m);
    apr_stage_map_free(map);
    return 0;
}
