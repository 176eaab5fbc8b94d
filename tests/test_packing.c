/* lib/family/packing.h: which tensors are codes and which undo them, by the layouts that each method's own library writes. */
#include "bare_model.h"
#include "base/table.h"
#include "family/packing.h"
#include "model/hf_config.h"
#include "model/model.h"
#include "support.h"
#include "values/dtype.h"

#define MOST 7

/* A linear layer of 64 rows and 128 columns as it is stored, codes first. */
static const struct row {
    const char *method, *config;
    struct stored {
        const char       *name;
        enum apr_dtype_id dtype;
        uint64_t          dim[3];
        const char       *data;
    } tensor[MOST];
} rows[] = {
    { "FP8", "{}", { { "m.weight", APR_F8_E4M3, { 64, 128 }, 0 }, { "m.weight_scale_inv", APR_F32, { 1, 1 }, 0 } } },
    { "FP8", "{}", { { "m.weight", APR_I8, { 64, 128 }, 0 }, { "m.weight_scale", APR_BF16, { 64, 1 }, 0 }, { "m.input_scale", APR_F32, { 1 }, 0 } } },
    { "GPTQ", "{}", { { "m.qweight", APR_I32, { 16, 64 }, 0 }, { "m.qzeros", APR_I32, { 4, 8 }, 0 }, { "m.scales", APR_F16, { 4, 64 }, 0 },
                      { "m.g_idx", APR_I32, { 128 }, 0 } } },
    { "GPTQ", "{\"quantization_config\":{\"bits\":8}}",
      { { "m.qweight", APR_I32, { 32, 64 }, 0 }, { "m.qzeros", APR_I32, { 4, 16 }, 0 }, { "m.scales", APR_F16, { 4, 64 }, 0 } } },
    { "AWQ", "{}", { { "m.qweight", APR_I32, { 128, 8 }, 0 }, { "m.qzeros", APR_I32, { 4, 8 }, 0 }, { "m.scales", APR_F16, { 4, 64 }, 0 } } },
    { "int8", "{}", { { "m.weight", APR_I8, { 64, 128 }, 0 }, { "m.SCB", APR_F32, { 64 }, 0 }, { "m.weight_format", APR_U8, { 1 }, 0 } } },
    { "nf4", "{}", { { "m.weight", APR_U8, { 4096, 1 }, 0 }, { "m.weight.absmax", APR_F32, { 128 }, 0 }, { "m.weight.quant_map", APR_F32, { 16 }, 0 },
                     { "m.weight.quant_state.bitsandbytes__nf4", APR_U8, { 19 }, "{\"shape\":[64, 128]}" } } },
    { "compressed-tensors", "{}", { { "m.weight_packed", APR_I32, { 64, 16 }, 0 }, { "m.weight_scale", APR_BF16, { 64, 4 }, 0 },
                                    { "m.weight_shape", APR_I64, { 2 }, "\x40\0\0\0\0\0\0\0\x80\0\0\0\0\0\0\0" } } },
    { "NVFP4", "{}", { { "m.weight_packed", APR_U8, { 64, 64 }, 0 }, { "m.weight_scale", APR_F8_E4M3, { 64, 8 }, 0 },
                       { "m.weight_global_scale", APR_F32, { 1 }, 0 }, { "m.input_global_scale", APR_F32, { 1 }, 0 } } },
    { "NVFP4", "{}", { { "m.weight", APR_U8, { 64, 64 }, 0 }, { "m.weight_scale", APR_F8_E4M3, { 64, 8 }, 0 },
                       { "m.weight_scale_2", APR_F32, { 1 }, 0 }, { "m.input_scale", APR_F32, { 1 }, 0 } } },
    { "MLX", "{\"quantization\":{\"group_size\":32,\"bits\":4}}",
      { { "m.weight", APR_U32, { 64, 16 }, 0 }, { "m.scales", APR_F16, { 64, 4 }, 0 }, { "m.biases", APR_F16, { 64, 4 }, 0 } } },
    { "FP8", "{}", { { "m.weight", APR_NVFP4, { 64, 128 }, 0 }, { "m.scale", APR_F32, { 1 }, 0 }, { "m.input_scale", APR_F32, { 1 }, 0 } } },
};

/* A tensor that is found by its name, with data of its own when there are any. */
static void put(struct model *m, const struct stored *s)
{
    uint64_t bytes;
    bool fresh;
    model_tensor(m, s->name, s->dim[0], s->dim[1], s->dim[2]);
    struct apr_tensor *t = &m->m.tensor[m->m.ntensor - 1];
    t->dtype = &apr_dtypes[s->dtype];
    assert_true(apr_tensor_measure(t, &bytes));
    t->data = (struct apr_bytes){ (const unsigned char *)s->data, s->data == NULL ? 0 : (size_t)bytes };
    apr_table_put(&m->m.by_name, t->name, &fresh)->number = m->m.ntensor - 1;
}

static void each_method_is_known_by_its_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_packing *p;
        struct apr_hf_config *config;
        struct apr_error e;
        struct model m;
        const char *method;
        model_begin(&m, "safetensors");
        for (size_t k = 0; k < MOST && rows[i].tensor[k].name != NULL; k++)
            put(&m, &rows[i].tensor[k]);
        put(&m, &(struct stored){ "norm.weight", APR_F32, { 64 }, NULL });
        assert_int_equal(apr_hf_config_new(&config, apr_text(rows[i].config), &e), APR_OK);
        assert_int_equal(apr_packing_of(&p, &m.m, config, &e), APR_OK);
        if (p == NULL)
            fail_msg("row %zu: %s is not known", i, rows[i].method);
        const struct apr_tensor *t = &apr_packing_view(p)->tensor[0];
        if (!apr_bytes_is(t->name, "m.weight") || t->ndim != 2 || t->dim[0] != 64 || t->dim[1] != 128 || t->count != 8192)
            fail_msg("row %zu, %s: %.*s of [%d, %d]", i, rows[i].method, APR_PRINTED(t->name), (int)t->dim[0], (int)t->dim[1]);
        assert_int_equal(apr_packing_count(p, &method), 1);
        if (strstr(method, rows[i].method) == NULL)
            fail_msg("row %zu: %s, expected %s", i, method, rows[i].method);
        for (size_t k = 0; k < m.m.ntensor; k++) {
            assert_int_equal(apr_packing_codes(p, k), k == 0);
            assert_int_equal(apr_packing_helps(p, k), k > 0 && k + 1 < m.m.ntensor);
        }
        apr_packing_free(p);
        apr_hf_config_free(config);
        apr_table_free(&m.m.by_name);
        model_end(&m);
    }
}

/* Stacked experts: blocks of 16 bytes are 32 codes of the last dimension. */
static void stacked_blocks_have_the_shape_of_their_weight(void **state)
{
    (void)state;
    struct apr_packing *p;
    struct apr_error e;
    struct model m;
    model_begin(&m, "safetensors");
    put(&m, &(struct stored){ "experts.down_proj_blocks", APR_U8, { 4, 32, 2 }, NULL });
    m.m.tensor[0].ndim = 4;
    m.m.tensor[0].dim[3] = 16;
    put(&m, &(struct stored){ "experts.down_proj_scales", APR_U8, { 4, 32, 2 }, NULL });
    assert_int_equal(apr_packing_of(&p, &m.m, NULL, &e), APR_OK);
    const struct apr_tensor *t = &apr_packing_view(p)->tensor[0];
    assert_true(apr_bytes_is(t->name, "experts.down_proj"));
    assert_int_equal(t->ndim, 3);
    assert_int_equal(t->dim[2], 64);
    apr_packing_free(p);
    apr_table_free(&m.m.by_name);
    model_end(&m);
}

static void what_stands_alone_helps_nothing(void **state)
{
    (void)state;
    struct apr_packing *p;
    struct apr_error e;
    struct model m;
    model_begin(&m, "safetensors");
    put(&m, &(struct stored){ "m.weight", APR_F32, { 64, 128 }, NULL });
    put(&m, &(struct stored){ "m.weight_scale", APR_F32, { 1 }, NULL });
    put(&m, &(struct stored){ "n.g_idx", APR_I32, { 128 }, NULL });
    assert_int_equal(apr_packing_of(&p, &m.m, NULL, &e), APR_OK);
    assert_null(p);
    apr_table_free(&m.m.by_name);
    model_end(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_method_is_known_by_its_names),
        cmocka_unit_test(stacked_blocks_have_the_shape_of_their_weight),
        cmocka_unit_test(what_stands_alone_helps_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
