/* lib/family/packing.h: which tensors are codes and which undo them, by the layouts that each method's own library writes; and what values
 * they stand for, by the formulas of their libraries, element by element. */
#include "bare_model.h"
#include "base/table.h"
#include "family/packing.h"
#include "model/hf_config.h"
#include "model/model.h"
#include "support.h"
#include "values/chunk.h"
#include "values/dtype.h"
#include "values/packed.h"

#define MOST 7
#define OUT  64
#define IN   128

/* ---- models of one weight ------------------------------------------------------------------------------------------- */

struct stored {
    const char       *name;
    enum apr_dtype_id dtype;
    uint64_t          dim[4];
    const void       *data;
};

static unsigned char noise[OUT * IN * 4];

static const unsigned char *filled(void)
{
    uint32_t x = 12345;
    for (size_t i = 0; i < sizeof noise; i++) {
        x = x * 1664525u + 1013904223u;
        noise[i] = (unsigned char)(x >> 24);
    }
    return noise;
}

/* A tensor that is found by its name; without data of its own it holds noise. */
static void put(struct model *m, const struct stored *s)
{
    uint64_t bytes;
    bool fresh;
    model_tensor(m, s->name, s->dim[0], s->dim[1], s->dim[2]);
    struct apr_tensor *t = &m->m.tensor[m->m.ntensor - 1];
    if (s->dim[3] > 0) {
        t->ndim = 4;
        t->dim[3] = s->dim[3];
    }
    t->dtype = &apr_dtypes[s->dtype];
    assert_true(apr_tensor_measure(t, &bytes));
    assert_true(s->data != NULL || bytes <= sizeof noise);
    t->data = (struct apr_bytes){ s->data == NULL ? filled() : s->data, (size_t)bytes };
    apr_table_put(&m->m.by_name, t->name, &fresh)->number = m->m.ntensor - 1;
}

static void end(struct model *m)
{
    apr_table_free(&m->m.by_name);
    model_end(m);
}

static struct apr_packing *packing_of(const struct model *m, const char *config, struct apr_hf_config **c)
{
    struct apr_packing *p;
    struct apr_error e;
    assert_int_equal(apr_hf_config_new(c, apr_text(config), &e), APR_OK);
    assert_int_equal(apr_packing_of(&p, &m->m, *c, &e), APR_OK);
    return p;
}

/* ---- what is what ---------------------------------------------------------------------------------------------------- */

#define SHAPE_64_128 "\x40\0\0\0\0\0\0\0\x80\0\0\0\0\0\0\0"
#define STATE        "{\"shape\":[64, 128],\"blocksize\":64}"
#define NESTED       "{\"shape\":[64,128],\"blocksize\":64,\"nested_blocksize\":256,\"nested_offset\":0.5}"
#define CT(weights)  "{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"group_0\":{\"targets\":[\"Linear\"],\"weights\":{" weights "}}}}}"

static int32_t sequence[IN], shuffled[IN], none[IN];

/* A linear layer of 64 rows and 128 columns as it is stored, codes first. */
static const struct row {
    const char   *method, *kind, *config;
    struct stored tensor[MOST];
} rows[] = {
    { "FP8", "FP8_BLOCK", "{\"quantization_config\":{\"weight_block_size\":[48,100]}}",
      { { "m.weight", APR_F8_E4M3, { 64, 128 }, 0 }, { "m.weight_scale_inv", APR_F32, { 2, 2 }, 0 } } },
    { "FP8", "FP8_TENSOR", "{}", { { "m.weight", APR_F8_E5M2, { 64, 128 }, 0 }, { "m.weight_scale", APR_F32, { 1 }, 0 }, { "m.input_scale", APR_F32, { 1 }, 0 } } },
    { "FP8", "FP8_CHANNEL", "{}", { { "m.weight", APR_F8_E4M3, { 64, 128 }, 0 }, { "m.weight_scale", APR_BF16, { 64, 1 }, 0 } } },
    { "FP8", "FP8_GROUP", "{}", { { "m.weight", APR_F8_E4M3, { 64, 128 }, 0 }, { "m.weight_scale", APR_U8, { 64, 4 }, 0 } } },
    { "INT8", "INT8_CHANNEL", "{}", { { "m.weight", APR_I8, { 64, 128 }, 0 }, { "m.weight_scale", APR_BF16, { 64, 1 }, 0 }, { "m.input_scale", APR_F32, { 1 }, 0 } } },
    { "GPTQ", "GPTQ4", "{}", { { "m.qweight", APR_I32, { 16, 64 }, 0 }, { "m.qzeros", APR_I32, { 4, 8 }, 0 }, { "m.scales", APR_F16, { 4, 64 }, 0 },
                      { "m.g_idx", APR_I32, { 128 }, sequence } } },
    { "GPTQ", "GPTQ8", "{\"quantization_config\":{\"bits\":8}}",
      { { "m.qweight", APR_I32, { 32, 64 }, 0 }, { "m.qzeros", APR_I32, { 4, 16 }, 0 }, { "m.scales", APR_F16, { 4, 64 }, 0 } } },
    { "GPTQ", "GPTQ3", "{\"quantization_config\":{\"bits\":3,\"checkpoint_format\":\"gptq_v2\"}}",
      { { "m.qweight", APR_I32, { 12, 64 }, 0 }, { "m.qzeros", APR_I32, { 4, 6 }, 0 }, { "m.scales", APR_F16, { 4, 64 }, 0 },
        { "m.g_idx", APR_I32, { 128 }, shuffled } } },
    { "GPTQ", "GPTQ2", "{\"quantization_config\":{\"bits\":4,\"dynamic\":{\"+:^m$\":{\"bits\":2,\"group_size\":64}}}}",
      { { "m.qweight", APR_I32, { 8, 64 }, 0 }, { "m.qzeros", APR_I32, { 2, 4 }, 0 }, { "m.scales", APR_F16, { 2, 64 }, 0 } } },
    { "AWQ", "AWQ4", "{}", { { "m.qweight", APR_I32, { 128, 8 }, 0 }, { "m.qzeros", APR_I32, { 4, 8 }, 0 }, { "m.scales", APR_F16, { 4, 64 }, 0 } } },
    { "int8", "BNB_INT8", "{}", { { "m.weight", APR_I8, { 64, 128 }, 0 }, { "m.SCB", APR_F32, { 64 }, 0 }, { "m.weight_format", APR_U8, { 1 }, 0 } } },
    { "4 bits", "NF4", "{}", { { "m.weight", APR_U8, { 4096, 1 }, 0 }, { "m.weight.absmax", APR_F32, { 128 }, 0 }, { "m.weight.quant_map", APR_F32, { 16 }, 0 },
                     { "m.weight.quant_state.bitsandbytes__nf4", APR_U8, { sizeof STATE - 1 }, STATE } } },
    { "4 bits", "FP4", "{}", { { "m.weight", APR_BF16, { 2048, 1 }, 0 }, { "m.weight.absmax", APR_U8, { 128 }, 0 }, { "m.weight.quant_map", APR_F32, { 16 }, 0 },
                     { "m.weight.nested_absmax", APR_F32, { 1 }, 0 }, { "m.weight.nested_quant_map", APR_F32, { 256 }, 0 },
                     { "m.weight.quant_state.bitsandbytes__fp4", APR_U8, { sizeof NESTED - 1 }, NESTED } } },
    { "compressed-tensors", "CT_INT4", "{}", { { "m.weight_packed", APR_I32, { 64, 16 }, 0 }, { "m.weight_scale", APR_BF16, { 64, 4 }, 0 },
                                    { "m.weight_shape", APR_I64, { 2 }, SHAPE_64_128 } } },
    { "compressed-tensors", "CT_INT3", CT("\"num_bits\":3,\"group_size\":50,\"strategy\":\"group\""),
      { { "m.weight_packed", APR_I32, { 64, 13 }, 0 }, { "m.weight_scale", APR_F32, { 64, 3 }, 0 }, { "m.weight_shape", APR_I64, { 2 }, SHAPE_64_128 },
        { "m.weight_zero_point", APR_I32, { 7, 3 }, 0 } } },
    { "compressed-tensors", "CT_INT8", CT("\"num_bits\":8,\"group_size\":32,\"strategy\":\"group\""),
      { { "m.weight_packed", APR_I32, { 64, 32 }, 0 }, { "m.weight_scale", APR_F32, { 64, 4 }, 0 }, { "m.weight_shape", APR_I64, { 2 }, SHAPE_64_128 },
        { "m.weight_zero_point", APR_I32, { 16, 4 }, 0 }, { "m.weight_g_idx", APR_I32, { 128 }, shuffled } } },
    { "compressed-tensors", "CT_INT4", CT("\"num_bits\":4,\"group_size\":32,\"strategy\":\"group\""),
      { { "m.weight_packed", APR_I32, { 64, 16 }, 0 }, { "m.weight_scale", APR_BF16, { 64, 4 }, 0 }, { "m.weight_shape", APR_I64, { 2 }, SHAPE_64_128 },
        { "m.weight_g_idx", APR_I32, { 128 }, none } } },
    { "NVFP4", "NVFP4", "{}", { { "m.weight_packed", APR_U8, { 64, 64 }, 0 }, { "m.weight_scale", APR_F8_E4M3, { 64, 8 }, 0 },
                       { "m.weight_global_scale", APR_F32, { 1 }, 0 }, { "m.input_global_scale", APR_F32, { 1 }, 0 } } },
    { "NVFP4", "NVFP4", "{}", { { "m.weight", APR_U8, { 64, 64 }, 0 }, { "m.weight_scale", APR_F8_E4M3, { 64, 8 }, 0 },
                       { "m.weight_scale_2", APR_F32, { 1 }, 0 }, { "m.input_scale", APR_F32, { 1 }, 0 } } },
    { "MXFP4", "MXFP4", "{}", { { "m.weight_packed", APR_U8, { 64, 64 }, 0 }, { "m.weight_scale", APR_U8, { 64, 4 }, 0 } } },
    { "MLX", "MLX4", "{\"quantization\":{\"group_size\":32,\"bits\":4}}",
      { { "m.weight", APR_U32, { 64, 16 }, 0 }, { "m.scales", APR_F16, { 64, 4 }, 0 }, { "m.biases", APR_F16, { 64, 4 }, 0 } } },
    { "MLX", "MLX6", "{\"quantization\":{\"group_size\":32,\"bits\":4,\"m\":{\"group_size\":64,\"bits\":6}}}",
      { { "m.weight", APR_U32, { 64, 24 }, 0 }, { "m.scales", APR_BF16, { 64, 2 }, 0 }, { "m.biases", APR_BF16, { 64, 2 }, 0 } } },
    { "MLX", "MXFP4", "{\"quantization\":{\"group_size\":32,\"bits\":4,\"mode\":\"mxfp4\"}}",
      { { "m.weight", APR_U32, { 64, 16 }, 0 }, { "m.scales", APR_U8, { 64, 4 }, 0 } } },
    { "NVFP4", "NVFP4", "{}", { { "m.weight", APR_NVFP4, { 64, 128 }, 0 }, { "m.scale", APR_F32, { 1 }, 0 }, { "m.input_scale", APR_F32, { 1 }, 0 } } },
};

static void fill_indices(void)
{
    for (int32_t i = 0; i < IN; i++) {
        sequence[i] = i / 32;
        shuffled[i] = i * 7 % 4;
        none[i] = -1;
    }
}

static void build(struct model *m, const struct row *r)
{
    fill_indices();
    model_begin(m, "safetensors");
    for (size_t k = 0; k < MOST && r->tensor[k].name != NULL; k++)
        put(m, &r->tensor[k]);
    put(m, &(struct stored){ "norm.weight", APR_F32, { 64 }, NULL });
}

static void each_method_is_known_by_its_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const struct apr_packing_fault *fault;
        struct apr_hf_config *config;
        struct model m;
        const char *method;
        size_t nfault, n;
        build(&m, &rows[i]);
        struct apr_packing *const p = packing_of(&m, rows[i].config, &config);
        if (p == NULL)
            fail_msg("row %zu: %s is not known", i, rows[i].method);
        if ((nfault = apr_packing_faults(p, &fault)) > 0)
            fail_msg("row %zu, %s: %s", i, rows[i].kind, fault[0].text);
        const struct apr_model *const view = apr_packing_view(p);
        const struct apr_tensor *const t = apr_model_find(view, apr_text("m.weight"));
        if (t == NULL || t->ndim != 2 || t->dim[0] != OUT || t->dim[1] != IN || t->count != OUT * IN)
            fail_msg("row %zu, %s: not of its shape", i, rows[i].kind);
        assert_string_equal(t->dtype->name, rows[i].kind);
        assert_int_equal(view->ntensor, 2);
        assert_non_null(apr_model_find(view, apr_text("norm.weight")));
        assert_int_equal(apr_packing_count(p, &method), 1);
        if (strstr(method, rows[i].method) == NULL)
            fail_msg("row %zu: %s, expected %s", i, method, rows[i].method);
        assert_ptr_equal(apr_packing_parts(p, 0, &n)[0], &m.m.tensor[0]);
        assert_int_equal(n, m.m.ntensor - 1);
        assert_ptr_equal(apr_packing_parts(p, 1, &n)[0], &m.m.tensor[m.m.ntensor - 1]);
        assert_int_equal(n, 1);
        apr_packing_free(p);
        apr_hf_config_free(config);
        end(&m);
    }
}

/* ---- values ---------------------------------------------------------------------------------------------------------- */

static const struct apr_tensor *found(const struct model *m, const char *name) { return apr_model_find(&m->m, apr_text(name)); }

static float at(const struct model *m, const char *name, uint64_t i)
{
    float x;
    struct apr_tensor t = *found(m, name);
    if (t.dtype == &apr_dtypes[APR_U8])
        t.dtype = &apr_dtypes[APR_F8_E8M0];
    apr_read_floats(apr_kernels_for(APR_SCALAR), &t, i, 1, &x);
    return x;
}

static unsigned bits_at(const unsigned char *p, uint64_t bit, unsigned n)
{
    unsigned v = 0;
    for (unsigned i = 0; i < n; i++)
        v |= ((unsigned)p[(bit + i) / 8] >> (bit + i) % 8 & 1u) << i;
    return v;
}

static uint32_t word_at(const struct model *m, const char *name, uint64_t i)
{
    const unsigned char *const p = found(m, name)->data.at + 4 * i;
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static float fp4(unsigned code)
{
    static const float level[] = { 0, .5f, 1, 1.5f, 2, 3, 4, 6 };
    return code & 8 ? -level[code & 7] : level[code & 7];
}

typedef float formula(const struct model *m, unsigned o, unsigned i);

static float fp8_block(const struct model *m, unsigned o, unsigned i) { return at(m, "m.weight", o * IN + i) * at(m, "m.weight_scale_inv", o / 48 * 2 + i / 100); }
static float fp8_tensor(const struct model *m, unsigned o, unsigned i) { return at(m, "m.weight", o * IN + i) * at(m, "m.weight_scale", 0); }
static float channel(const struct model *m, unsigned o, unsigned i) { return at(m, "m.weight", o * IN + i) * at(m, "m.weight_scale", o); }
static float fp8_group(const struct model *m, unsigned o, unsigned i) { return at(m, "m.weight", o * IN + i) * at(m, "m.weight_scale", o * 4 + i / 32); }
static float bnb_int8(const struct model *m, unsigned o, unsigned i) { return at(m, "m.weight", o * IN + i) * at(m, "m.SCB", o) / 127; }

/* Words of whole codes along in, or, of 3 bits, 32 codes in three words. */
static float gptq(const struct model *m, unsigned o, unsigned i, unsigned bits, unsigned g, int one)
{
    const uint64_t bit = (uint64_t)i * bits;
    unsigned code = 0;
    for (unsigned k = 0; k < bits; k++)
        code |= (word_at(m, "m.qweight", (bit + k) / 32 * OUT + o) >> (bit + k) % 32 & 1u) << k;
    const unsigned zero = bits_at(found(m, "m.qzeros")->data.at + g * (OUT * bits / 8), (uint64_t)o * bits, bits);
    return (float)((int)code - ((int)zero + one)) * at(m, "m.scales", g * OUT + o);
}
static float gptq4(const struct model *m, unsigned o, unsigned i) { return gptq(m, o, i, 4, i / 32, 1); }
static float gptq8(const struct model *m, unsigned o, unsigned i) { return gptq(m, o, i, 8, i / 32, 1); }
static float gptq3(const struct model *m, unsigned o, unsigned i) { return gptq(m, o, i, 3, i * 7 % 4, 0); }
static float gptq2(const struct model *m, unsigned o, unsigned i) { return gptq(m, o, i, 2, i / 64, 1); }

static float awq(const struct model *m, unsigned o, unsigned i)
{
    static const unsigned place[8] = { 0, 4, 1, 5, 2, 6, 3, 7 };
    const unsigned shift = 4 * place[o % 8], g = i / 32;
    const int code = word_at(m, "m.qweight", i * (OUT / 8) + o / 8) >> shift & 15, zero = word_at(m, "m.qzeros", g * (OUT / 8) + o / 8) >> shift & 15;
    return (float)(code - zero) * at(m, "m.scales", g * OUT + o);
}

static float nf4(const struct model *m, unsigned o, unsigned i)
{
    const unsigned n = o * IN + i, byte = found(m, "m.weight")->data.at[n / 2];
    return at(m, "m.weight.quant_map", n % 2 ? byte & 15 : byte >> 4) * at(m, "m.weight.absmax", n / 64);
}
static float nested(const struct model *m, unsigned o, unsigned i)
{
    const unsigned n = o * IN + i, byte = found(m, "m.weight")->data.at[n / 2];
    const float absmax = at(m, "m.weight.nested_quant_map", found(m, "m.weight.absmax")->data.at[n / 64]) * at(m, "m.weight.nested_absmax", 0) + .5f;
    return at(m, "m.weight.quant_map", n % 2 ? byte & 15 : byte >> 4) * absmax;
}

static int ct_code(const struct model *m, unsigned o, unsigned i, unsigned bits, unsigned words)
{
    return (int)(word_at(m, "m.weight_packed", o * words + i / (32 / bits)) >> i % (32 / bits) * bits & ((1u << bits) - 1));
}
static float ct_int4(const struct model *m, unsigned o, unsigned i) { return (float)(ct_code(m, o, i, 4, 16) - 8) * at(m, "m.weight_scale", o * 4 + i / 32); }
static float ct_int3(const struct model *m, unsigned o, unsigned i)
{
    const int zero = word_at(m, "m.weight_zero_point", o / 10 * 3 + i / 50) >> o % 10 * 3 & 7;
    return (float)(ct_code(m, o, i, 3, 13) - zero) * at(m, "m.weight_scale", o * 3 + i / 50);
}
static float ct_int8(const struct model *m, unsigned o, unsigned i)
{
    const unsigned g = i * 7 % 4;
    const int zero = word_at(m, "m.weight_zero_point", o / 4 * 4 + g) >> o % 4 * 8 & 255;
    return (float)(ct_code(m, o, i, 8, 32) - zero) * at(m, "m.weight_scale", o * 4 + g);
}

static unsigned pair_at(const struct model *m, const char *name, unsigned o, unsigned i) { return bits_at(found(m, name)->data.at, (o * IN + i) * 4, 4); }
static float ct_nvfp4(const struct model *m, unsigned o, unsigned i)
{
    return fp4(pair_at(m, "m.weight_packed", o, i)) * at(m, "m.weight_scale", o * 8 + i / 16) / at(m, "m.weight_global_scale", 0);
}
static float nvfp4(const struct model *m, unsigned o, unsigned i)
{
    return fp4(pair_at(m, "m.weight", o, i)) * at(m, "m.weight_scale", o * 8 + i / 16) * at(m, "m.weight_scale_2", 0);
}
static float mxfp4(const struct model *m, unsigned o, unsigned i) { return fp4(pair_at(m, "m.weight_packed", o, i)) * at(m, "m.weight_scale", o * 4 + i / 32); }
static float mlx4(const struct model *m, unsigned o, unsigned i)
{
    return (float)pair_at(m, "m.weight", o, i) * at(m, "m.scales", o * 4 + i / 32) + at(m, "m.biases", o * 4 + i / 32);
}
static float mlx6(const struct model *m, unsigned o, unsigned i)
{
    return (float)bits_at(found(m, "m.weight")->data.at, (o * IN + i) * 6, 6) * at(m, "m.scales", o * 2 + i / 64) + at(m, "m.biases", o * 2 + i / 64);
}
static float mlx_mxfp4(const struct model *m, unsigned o, unsigned i) { return fp4(pair_at(m, "m.weight", o, i)) * at(m, "m.scales", o * 4 + i / 32); }
static float gguf(const struct model *m, unsigned o, unsigned i) { return at(m, "m.weight", o * IN + i) * at(m, "m.scale", 0); }

static formula *const formulas[] = { fp8_block, fp8_tensor, channel, fp8_group, channel, gptq4, gptq8, gptq3, gptq2, awq, bnb_int8, nf4, nested, ct_int4,
                                     ct_int3, ct_int8, ct_int4, ct_nvfp4, nvfp4, mxfp4, mlx4, mlx6, mlx_mxfp4, gguf };

static bool same(float a, float b) { return a == b || (a != a && b != b); }

/* Slices that begin and end anywhere, at every level of this machine. */
static void a_weight_stands_for_what_its_library_makes_of_it(void **state)
{
    (void)state;
    static float wanted[OUT * IN], got[APR_STRETCH];
    assert_int_equal(APR_LENGTH(formulas), APR_LENGTH(rows));
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_hf_config *config;
        struct model m;
        build(&m, &rows[i]);
        struct apr_packing *const p = packing_of(&m, rows[i].config, &config);
        const struct apr_tensor *const t = apr_model_find(apr_packing_view(p), apr_text("m.weight"));
        for (unsigned o = 0; o < OUT; o++)
            for (unsigned k = 0; k < IN; k++)
                wanted[o * IN + k] = formulas[i](&m, o, k);
        for (unsigned isa = 0; isa < APR_NISA; isa++)
            for (size_t first = 0, n = 1; apr_isa_has((enum apr_isa)isa) && first < t->count; first += n, n = (n * 5 + 3) % 700 + 1) {
                n = (size_t)apr_min(n, t->count - first);
                apr_read_floats(apr_kernels_for((enum apr_isa)isa), t, first, n, got);
                for (size_t k = 0; k < n; k++)
                    if (!same(got[k], wanted[first + k]))
                        fail_msg("%s (row %zu) at %zu, level %u: %g, expected %g", rows[i].kind, i, first + k, isa, (double)got[k],
                                 (double)wanted[first + k]);
            }
        apr_packing_free(p);
        apr_hf_config_free(config);
        end(&m);
    }
}

/* MXFP4 and NVFP4 as blocks of a GGUF, decoded as such, are the values but for the factor. */
static void codes_become_blocks_without_loss(void **state)
{
    (void)state;
    static unsigned char blocks[OUT * IN];
    static float wanted[APR_STRETCH], got[APR_STRETCH];
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_hf_config *config;
        struct model m;
        build(&m, &rows[i]);
        for (size_t k = 0; k < IN * OUT / 16; k++)
            noise[k] &= 0x7f; /* blocks have no signs for scales */
        struct apr_packing *const p = packing_of(&m, rows[i].config, &config);
        struct apr_tensor t = *apr_model_find(apr_packing_view(p), apr_text("m.weight"));
        struct apr_packed plain = *t.packed;
        if (!t.dtype->packed) {
            assert_true(apr_packed_has_blocks(&t));
            struct apr_tensor block = { .dtype = t.dtype, .count = t.count, .row = IN, .data = { blocks, sizeof blocks } };
            plain.nfactor = 0;
            t.packed = &plain;
            for (uint64_t first = 0; first < t.count; first += 1024)
                apr_read_blocks(&t, first, 1024, blocks + apr_blocks_bytes(&t, 0, first));
            for (uint64_t first = 0; first < t.count; first += APR_STRETCH) {
                apr_read_floats(apr_kernels_for(APR_SCALAR), &block, first, APR_STRETCH, got);
                apr_read_floats(apr_kernels_for(APR_SCALAR), &t, first, APR_STRETCH, wanted);
                for (size_t k = 0; k < APR_STRETCH; k++)
                    if (!same(got[k], wanted[k]) && wanted[k] == wanted[k]) /* NVFP4's 0x7f is a NaN here and 0 there */
                        fail_msg("row %zu, element %zu: %g, expected %g", i, (size_t)first + k, (double)got[k], (double)wanted[k]);
            }
        }
        apr_packing_free(p);
        apr_hf_config_free(config);
        end(&m);
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
    put(&m, &(struct stored){ "experts.down_proj_blocks", APR_U8, { 4, 32, 2, 16 }, NULL });
    put(&m, &(struct stored){ "experts.down_proj_scales", APR_U8, { 4, 32, 2 }, NULL });
    assert_int_equal(apr_packing_of(&p, &m.m, NULL, &e), APR_OK);
    const struct apr_tensor *t = &apr_packing_view(p)->tensor[0];
    assert_true(apr_bytes_is(t->name, "experts.down_proj"));
    assert_int_equal(t->ndim, 3);
    assert_int_equal(t->dim[2], 64);
    assert_string_equal(t->dtype->name, "MXFP4");
    apr_packing_free(p);
    end(&m);
}

/* ---- what does not fit ------------------------------------------------------------------------------------------------ */

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
    end(&m);
}

/* A helper less in each of its dimensions, of another type, or away: the weight stays as it is stored, and the reason has both names. */
static void helpers_that_do_not_fit_are_named(void **state)
{
    (void)state;
    static const char *const needless[] = { "input_scale", "input_global_scale", "weight_format", "g_idx", "zero", "weight_shape", "_scale_2", "global",
                                            "m.scale" };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        for (size_t k = 1; k < MOST && rows[i].tensor[k].name != NULL; k++) {
            bool needed = true;
            for (size_t w = 0; w < APR_LENGTH(needless); w++)
                needed &= strstr(rows[i].tensor[k].name, needless[w]) == NULL || strcmp(rows[i].tensor[k].name, "m.scales") == 0;
            for (unsigned d = 0; needed && d < 4 && rows[i].tensor[k].dim[d] > 1; d++) {
                const struct apr_packing_fault *fault;
                struct apr_hf_config *config;
                struct row bad = rows[i];
                struct model m;
                size_t n;
                bad.tensor[k].dim[d]--;
                build(&m, &bad);
                struct apr_packing *const p = packing_of(&m, bad.config, &config);
                assert_non_null(p);
                if (apr_packing_faults(p, &fault) != 1)
                    fail_msg("row %zu: %s less in dimension %u is no fault", i, bad.tensor[k].name, d);
                assert_non_null(strstr(fault[0].text, bad.tensor[0].name));
                assert_int_equal(apr_packing_view(p)->ntensor, m.m.ntensor);
                assert_null(apr_packing_parts(p, 0, &n)[0]->packed);
                apr_packing_free(p);
                apr_hf_config_free(config);
                end(&m);
            }
        }
}

static void indices_and_states_of_nonsense_are_named(void **state)
{
    (void)state;
    static int32_t index[IN];
    static const struct {
        const char *state, *text;
    } bad[] = {
        { "{\"shape\":[64,128],", "is no JSON" },      { "{\"shape\":[64,-1]} ", "says nothing" },   { "{\"shape\":[64,1e99]}", "says nothing" },
        { "{\"shape\":[64,256],\"blocksize\":64}", "bytes of codes" },  { "[1,2,3,4,5,6,7,8,9]", "is no JSON" },      { "{\"shape\":[1,2,3,4]}", "says nothing" },
        { "{\"shape\":[64,128]}", "blocksize" },       { "{\"shape\":[64,128],\"blocksize\":\"64\"}", "blocksize" },
    };
    const struct apr_packing_fault *fault;
    struct apr_packing *p;
    struct apr_error e;
    struct model m;
    for (int64_t value = -2; value <= 4; value += 6) {
        fill_indices();
        memcpy(index, sequence, sizeof index);
        index[77] = (int32_t)value;
        struct row r = rows[5];
        r.tensor[3].data = index;
        build(&m, &r);
        assert_int_equal(apr_packing_of(&p, &m.m, NULL, &e), APR_OK);
        assert_int_equal(apr_packing_faults(p, &fault), 1);
        assert_non_null(strstr(fault[0].text, "column 77"));
        assert_int_equal(apr_packing_understood(p, "look", &e), APR_ECORRUPT);
        apr_packing_free(p);
        end(&m);
    }
    for (size_t i = 0; i < APR_LENGTH(bad); i++) {
        struct row r = rows[11];
        r.tensor[3].data = bad[i].state;
        r.tensor[3].dim[0] = strlen(bad[i].state);
        build(&m, &r);
        assert_int_equal(apr_packing_of(&p, &m.m, NULL, &e), APR_OK);
        assert_int_equal(apr_packing_faults(p, &fault), 1);
        if (strstr(fault[0].text, bad[i].text) == NULL)
            fail_msg("%s: %s", bad[i].state, fault[0].text);
        apr_packing_free(p);
        end(&m);
    }
}

/* Codes, helpers and a config that asks for more, or for one of two: the weight stays as it is stored, and the text has what is missed. */
#define QC(members)   "{\"quantization_config\":{" members "}}"
#define GPTQ(members) QC("\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":32" members)
#define QWEIGHT       { "m.qweight", APR_I32, { 16, 64 }, NULL }, { "m.scales", APR_F16, { 4, 64 }, NULL }
#define QZEROS        { "m.qzeros", APR_I32, { 4, 8 }, NULL }
#define CT4           { "m.weight_packed", APR_I32, { 64, 16 }, NULL }, { "m.weight_scale", APR_F32, { 64, 4 }, NULL }, { "m.weight_shape", APR_I64, { 2 }, SHAPE_64_128 }
#define CT4_SAYS(more) CT("\"num_bits\":4,\"group_size\":32,\"strategy\":\"group\"" more)
#define FP8           { "m.weight", APR_F8_E4M3, { 64, 128 }, NULL }
#define INVERSE       { "m.weight_scale_inv", APR_F32, { 2, 4 }, NULL }
#define FP4           { "m.weight", APR_U8, { 64, 64 }, NULL }, { "m.weight_scale", APR_F8_E4M3, { 64, 8 }, NULL }
#define NESTED_NF4(json) { "m.weight", APR_U8, { 4096, 1 }, NULL }, { "m.weight.absmax", APR_U8, { 128 }, NULL }, { "m.weight.quant_map", APR_F32, { 16 }, NULL }, \
                         { "m.weight.nested_absmax", APR_F32, { 1 }, NULL }, { "m.weight.nested_quant_map", APR_F32, { 256 }, NULL }, \
                         { "m.weight.quant_state.bitsandbytes__nf4", APR_U8, { sizeof json - 1 }, json }
#define NF4_BEGINS    "{\"shape\":[64,128],\"blocksize\":64,\"nested_blocksize\":256"

static void what_the_config_asks_for_is_never_made_up(void **state)
{
    (void)state;
    static const struct {
        const char   *text, *config;
        struct stored tensor[MOST];
    } bad[] = {
        { "qzeros", GPTQ(",\"sym\":false"), { QWEIGHT } },
        { "qzeros", GPTQ(""), { QWEIGHT } },
        { "g_idx", GPTQ(",\"desc_act\":true"), { QWEIGHT, QZEROS } },
        { "qzeros", QC("\"quant_method\":\"awq\",\"zero_point\":true"), { { "m.qweight", APR_I32, { 128, 8 }, NULL }, { "m.scales", APR_F16, { 4, 64 }, NULL } } },
        { "weight_zero_point", CT4_SAYS(",\"symmetric\":false"), { CT4 } },
        { "weight_g_idx", CT4_SAYS(",\"actorder\":\"group\""), { CT4 } },
        { "_zero_point", CT("\"symmetric\":false"), { { "m.weight", APR_I8, { 64, 128 }, NULL }, { "m.weight_scale", APR_F32, { 64, 1 }, NULL } } },
        { "weight_scale_2", "{}", { FP4 } },
        { "weight_global_scale", "{}", { { "m.weight_packed", APR_U8, { 64, 64 }, NULL }, { "m.weight_scale", APR_F8_E4M3, { 64, 8 }, NULL } } },
        { "m.weight_scale_2", "{}", { FP4, { "m.weight_scale_2", APR_F32, { 1 }, NULL }, { "m.weight_global_scale", APR_F32, { 1 }, NULL } } },
        { "m.weight_scale_inv", "{}", { FP8, INVERSE, { "m.weight_scale", APR_F32, { 1 }, NULL } } },
        { "nothing beside it", QC("\"quant_method\":\"fp8\""), { FP8 } },
        { "nothing beside it", QC("\"quant_method\":\"bitsandbytes\""), { { "m.weight", APR_I8, { 64, 128 }, NULL } } },
        { "nothing beside it", QC("\"quant_algo\":\"NVFP4\""), { { "m.weight", APR_U8, { 64, 64 }, NULL }, { "m.weight_scale_2", APR_F32, { 1 }, NULL } } },
        { "nested_offset", "{}", { NESTED_NF4(NF4_BEGINS "}") } },
        { "nested_offset", "{}", { NESTED_NF4(NF4_BEGINS ",\"nested_offset\":\"0.5\"}") } },
        { "nested_offset", "{}", { NESTED_NF4(NF4_BEGINS ",\"nested_offset\":NaN}") } },
        { "nested_blocksize", "{}", { NESTED_NF4("{\"shape\":[64,128],\"blocksize\":64,\"nested_offset\":0.5}") } },
        { "weight_block_size [0,32]", QC("\"weight_block_size\":[0,32]"), { FP8, INVERSE } },
        { "weight_block_size [32]", QC("\"weight_block_size\":[32]"), { FP8, INVERSE } },
        { "[48, 100] (weight_block_size)", QC("\"weight_block_size\":[48,100]"), { FP8, INVERSE } },
        { "bits 0", QC("\"bits\":0"), { QWEIGHT, QZEROS } },
        { "bits -4", QC("\"bits\":-4"), { QWEIGHT, QZEROS } },
        { "group_size \"x\"", QC("\"group_size\":\"x\""), { QWEIGHT, QZEROS } },
        { "group_size -7", CT("\"num_bits\":4,\"group_size\":-7"), { CT4 } },
        { "num_bits 0", CT("\"num_bits\":0"), { CT4 } },
    };
    for (size_t i = 0; i < APR_LENGTH(bad); i++) {
        const struct apr_packing_fault *fault;
        struct apr_hf_config *config;
        struct row r = { .config = bad[i].config };
        struct model m;
        memcpy(r.tensor, bad[i].tensor, sizeof r.tensor);
        build(&m, &r);
        struct apr_packing *const p = packing_of(&m, r.config, &config);
        if (p == NULL || apr_packing_faults(p, &fault) != 1)
            fail_msg("row %zu: no fault", i);
        if (strstr(fault[0].text, bad[i].text) == NULL || strstr(fault[0].text, bad[i].tensor[0].name) == NULL)
            fail_msg("row %zu: %s, expected %s", i, fault[0].text, bad[i].text);
        apr_packing_free(p);
        apr_hf_config_free(config);
        end(&m);
    }
}

/* Without a config: what shapes alone tell is known, what else fits as well is a guess, which is said with what it is. */
static void what_shapes_leave_open_is_a_guess(void **state)
{
    (void)state;
    static const struct {
        const char   *kind, *guess, *config;
        struct stored tensor[MOST];
    } told[] = {
        { "GPTQ4", "gptq_v2", "{}", { QWEIGHT, QZEROS } },
        { "GPTQ4", NULL, GPTQ(""), { QWEIGHT, QZEROS } },
        { "GPTQ4", NULL, GPTQ(",\"sym\":true"), { QWEIGHT } },
        { "AWQ4", NULL, "{}", { { "m.qweight", APR_I32, { 128, 8 }, NULL }, { "m.qzeros", APR_I32, { 4, 8 }, NULL }, { "m.scales", APR_F16, { 4, 64 }, NULL } } },
        { "AWQ4", "24", "{}", { { "m.qweight", APR_I32, { 72, 8 }, NULL }, { "m.qzeros", APR_I32, { 3, 8 }, NULL }, { "m.scales", APR_F16, { 3, 64 }, NULL } } },
        { "MLX4", "2 bits in groups of 64", "{\"quantization\":[4]}",
          { { "m.weight", APR_U32, { 64, 16 }, NULL }, { "m.scales", APR_F16, { 64, 4 }, NULL }, { "m.biases", APR_F16, { 64, 4 }, NULL } } },
        { "MLX5", NULL, "{}", { { "m.weight", APR_U32, { 64, 20 }, NULL }, { "m.scales", APR_F16, { 64, 4 }, NULL }, { "m.biases", APR_F16, { 64, 4 }, NULL } } },
        { "MLX4", NULL, "{\"quantization\":{\"bits\":4}}",
          { { "m.weight", APR_U32, { 64, 16 }, NULL }, { "m.scales", APR_F16, { 64, 4 }, NULL }, { "m.biases", APR_F16, { 64, 4 }, NULL } } },
        { "FP8_BLOCK", NULL, "{}", { FP8, INVERSE } },
        { "FP8_BLOCK", "43", "{}", { { "m.weight", APR_F8_E4M3, { 86, 128 }, NULL }, INVERSE } },
    };
    for (size_t i = 0; i < APR_LENGTH(told); i++) {
        const struct apr_packing_fault *guess;
        struct apr_hf_config *config;
        struct apr_error e;
        struct row r = { .config = told[i].config };
        struct model m;
        memcpy(r.tensor, told[i].tensor, sizeof r.tensor);
        build(&m, &r);
        struct apr_packing *const p = packing_of(&m, r.config, &config);
        if (p == NULL || strcmp(apr_packing_view(p)->tensor[0].dtype->name, told[i].kind) != 0)
            fail_msg("row %zu: not %s", i, told[i].kind);
        const size_t n = apr_packing_guesses(p, &guess);
        if (n != (told[i].guess != NULL) || (n > 0 && strstr(guess[0].text, told[i].guess) == NULL))
            fail_msg("row %zu: %zu guesses: %s", i, n, n > 0 ? guess[0].text : "");
        assert_int_equal(apr_packing_understood(p, "", &e), APR_OK);
        assert_int_equal(apr_packing_sure(p, "", &e), n > 0 ? APR_EUNSUPPORTED : APR_OK);
        apr_packing_free(p);
        apr_hf_config_free(config);
        end(&m);
    }
}

/* Wherever they stand, and only where weights are packed. */
static void scales_of_activations_are_no_tensors_of_the_view(void **state)
{
    (void)state;
    struct apr_packing *p;
    struct apr_error e;
    struct model m;
    model_begin(&m, "safetensors");
    put(&m, &(struct stored){ "k_proj.weight", APR_F8_E4M3, { 64, 128 }, NULL });
    put(&m, &(struct stored){ "k_proj.weight_scale", APR_F32, { 1 }, NULL });
    put(&m, &(struct stored){ "k_proj.k_scale", APR_F32, { 1 }, NULL });
    put(&m, &(struct stored){ "attn.v_scale", APR_F32, { 1 }, NULL });
    put(&m, &(struct stored){ "head.output_scale", APR_F32, { 1 }, NULL });
    assert_int_equal(apr_packing_of(&p, &m.m, NULL, &e), APR_OK);
    assert_int_equal(apr_packing_view(p)->ntensor, 1);
    assert_false(apr_packing_is_spared(p, 1));
    assert_true(apr_packing_is_spared(p, 2));
    apr_packing_free(p);
    end(&m);
}

static void a_method_that_nobody_knows_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *config, *word;
    } named[] = { { "{\"quantization_config\":{\"quant_method\":\"hqq\"}}", "hqq" },
                  { "{\"quantization_config\":{\"quant_method\":\"awq\",\"version\":\"gemv\"}}", "awq gemv" },
                  { "{\"quantization_config\":{\"quant_method\":\"gptq\",\"checkpoint_format\":\"marlin\"}}", "gptq marlin" },
                  { QC("\"quant_method\":\"modelopt\",\"quant_algo\":\"W4A8_AWQ\""), "quant_algo W4A8_AWQ" },
                  { QC("\"group_size\":32,\"bits\":4,\"mode\":\"zonk\""), "mode zonk" },
                  { QC("\"quant_method\":\"compressed-tensors\",\"format\":\"marlin-24\""), "compressed-tensors format marlin-24" },
                  { QC("\"quant_method\":\"compressed-tensors\",\"sparsity_config\":{\"format\":\"sparse-24-bitmask\"}"),
                    "compressed-tensors sparsity_config format sparse-24-bitmask" },
                  { QC("\"quant_method\":\"compressed-tensors\",\"config_groups\":[1]"), "compressed-tensors config_groups that are no object" },
                  { QC("\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"g\":{\"format\":\"zonk\"}}"),
                    "compressed-tensors config_groups g format zonk" },
                  { CT("\"type\":\"complex\""), "compressed-tensors config_groups group_0 type complex" },
                  { CT("\"strategy\":\"weird\""), "compressed-tensors config_groups group_0 strategy weird" } };
    for (size_t i = 0; i < APR_LENGTH(named); i++) {
        struct apr_hf_config *config;
        struct apr_error e;
        struct model m;
        model_begin(&m, "safetensors");
        put(&m, &(struct stored){ "m.W_q", APR_U8, { 64, 64 }, NULL });
        put(&m, &(struct stored){ "m.qweight", APR_I32, { 16, 64 }, NULL });
        put(&m, &(struct stored){ "m.qzeros", APR_I32, { 4, 8 }, NULL });
        put(&m, &(struct stored){ "m.scales", APR_F16, { 4, 64 }, NULL });
        struct apr_packing *const p = packing_of(&m, named[i].config, &config);
        const char *method;
        assert_non_null(p);
        assert_int_equal(apr_packing_count(p, &method), 0);
        assert_int_equal(apr_packing_view(p)->ntensor, m.m.ntensor);
        assert_string_equal(apr_packing_unknown(p), named[i].word);
        assert_int_equal(apr_packing_understood(p, "", &e), APR_EUNSUPPORTED);
        apr_packing_free(p);
        apr_hf_config_free(config);
        end(&m);
    }
}

/* hf_quant_config.json beside a checkpoint counts where config.json has nothing of a method, and nothing is said where it is no JSON. */
static void the_file_beside_config_json_names_the_method(void **state)
{
    (void)state;
    static const char *const own = "{\"quantization_config\":{\"quant_method\":\"hqq\"}}", *const plain = "{\"model_type\":\"llama\"}";
    static const char *const other = "{\"quantization\":{\"quant_method\":\"aqlm\"}}";
    static const struct {
        const char *config, *beside, *word;
    } rows_of[] = { { plain, other, "aqlm" }, { own, other, "hqq" }, { plain, "{\"producer\":{}}", NULL }, { plain, "{", NULL }, { own, "{", "hqq" } };
    for (size_t i = 0; i < APR_LENGTH(rows_of); i++) {
        struct apr_source beside = { .map = apr_text(rows_of[i].beside), .path = "hf_quant_config.json" };
        struct apr_hf_config *config;
        struct model m;
        model_begin(&m, "safetensors");
        put(&m, &(struct stored){ "m.W_q", APR_U8, { 64, 64 }, NULL });
        m.m.quant_config = &beside;
        struct apr_packing *const p = packing_of(&m, rows_of[i].config, &config);
        assert_true((p != NULL) == (rows_of[i].word != NULL));
        if (p != NULL)
            assert_string_equal(apr_packing_unknown(p), rows_of[i].word);
        apr_packing_free(p);
        apr_hf_config_free(config);
        end(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_method_is_known_by_its_names),
        cmocka_unit_test(a_weight_stands_for_what_its_library_makes_of_it),
        cmocka_unit_test(codes_become_blocks_without_loss),
        cmocka_unit_test(stacked_blocks_have_the_shape_of_their_weight),
        cmocka_unit_test(what_stands_alone_helps_nothing),
        cmocka_unit_test(helpers_that_do_not_fit_are_named),
        cmocka_unit_test(indices_and_states_of_nonsense_are_named),
        cmocka_unit_test(what_the_config_asks_for_is_never_made_up),
        cmocka_unit_test(what_shapes_leave_open_is_a_guess),
        cmocka_unit_test(scales_of_activations_are_no_tensors_of_the_view),
        cmocka_unit_test(a_method_that_nobody_knows_is_named),
        cmocka_unit_test(the_file_beside_config_json_names_the_method),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
