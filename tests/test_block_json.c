/* Blocks taken apart: put together again by the formulas of the formats, they give what the decoder gives. */
#include "support.h"

#include <stdio.h>

#include <jansson.h>

#include "ui/block_json.h"
#include "values/dtype.h"

static uint64_t state = 88172645463325252;

static unsigned char noise(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned char)(state >> 32);
}

static json_t *parts_of(const struct apr_kernels *k, const struct apr_dtype *d, const unsigned char *block)
{
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    apr_out_block(&(struct apr_out){ .to = to }, NULL, k, d, block);
    fclose(to);
    json_t *parts = json_loads(text, 0, NULL);
    if (parts == NULL)
        fail_msg("%s: no JSON: %s", d->name, text);
    free(text);
    return parts;
}

static float number(const json_t *parts, const char *key, size_t i)
{
    const json_t *v = json_object_get(parts, key);
    return (float)json_number_value(json_is_array(v) ? json_array_get(v, i) : v);
}

/* value = (d * scale) * quant - dmin * min, each step in f32; without sub-blocks d * quant, plus m. */
static void parts_give_the_values_again(void **state_)
{
    (void)state_;
    static const struct {
        enum apr_dtype_id id;
        unsigned          half[2], sub; /* where binary16 fields lie that must be ordinary numbers */
    } types[] = { { APR_Q4_0, { 0 }, 0 },   { APR_Q4_1, { 0, 2 }, 0 },    { APR_Q5_0, { 0 }, 0 },     { APR_Q5_1, { 0, 2 }, 0 },
                  { APR_Q8_0, { 0 }, 0 },   { APR_IQ4_NL, { 0 }, 0 },     { APR_Q2_K, { 80, 82 }, 16 }, { APR_Q3_K, { 108 }, 16 },
                  { APR_Q4_K, { 0, 2 }, 32 }, { APR_Q5_K, { 0, 2 }, 32 }, { APR_Q6_K, { 208 }, 16 },  { APR_IQ4_XS, { 0 }, 32 },
                  { APR_Q1_0, { 0 }, 0 },   { APR_Q2_0, { 0 }, 0 },       { APR_TQ1_0, { 52 }, 0 },   { APR_TQ2_0, { 64 }, 0 },
                  { APR_APR_Q4, { 0 }, 0 } };
    const struct apr_kernels *k = apr_kernels_for(APR_SCALAR);
    for (size_t t = 0; t < APR_LENGTH(types); t++)
        for (int round = 0; round < 20; round++) {
            const struct apr_dtype *d = &apr_dtypes[types[t].id];
            unsigned char block[320];
            float values[256];
            for (size_t i = 0; i < d->bytes; i++)
                block[i] = noise();
            for (size_t i = 0; i < 2; i++)
                block[types[t].half[i] + 1] = (unsigned char)(0x20 | (block[types[t].half[i] + 1] & 0x8F));
            k->decode[types[t].id](NULL, block, d->block, values);
            json_t *const parts = parts_of(k, d, block);
            for (size_t i = 0; i < d->block; i++) {
                const size_t j = types[t].sub == 0 ? 0 : i / types[t].sub;
                const float scale = types[t].sub == 0 ? number(parts, json_object_get(parts, "d") ? "d" : "scale", 0)
                                                      : number(parts, "d", 0) * number(parts, "scales", j);
                const float low = json_object_get(parts, "mins") ? number(parts, "dmin", 0) * number(parts, "mins", j) : -number(parts, "m", 0);
                const float product = scale * number(parts, "quants", i), again = product - low;
                if (again != values[i])
                    fail_msg("%s, element %zu: %g from its parts, %g decoded", d->name, i, (double)again, (double)values[i]);
            }
            json_decref(parts);
        }
}

static void a_codebook_type_has_its_fields_as_they_are(void **state_)
{
    (void)state_;
    unsigned char block[66] = { 0x00, 0x3C, 7 };
    json_t *const parts = parts_of(apr_kernels_for(APR_SCALAR), &apr_dtypes[APR_IQ2_XXS], block);
    assert_true(number(parts, "d", 0) == 1);
    assert_null(json_object_get(parts, "quants"));
    assert_int_equal(strlen(json_string_value(json_object_get(parts, "hex"))), 2 * 66);
    json_decref(parts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_give_the_values_again),
        cmocka_unit_test(a_codebook_type_has_its_fields_as_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
