/* Digests: of bytes against published ones, of models against the same model in other files. */
#include "support.h"

#include <stdio.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "model/model.h"

static struct apr_digest digest_of(const char *text) { return apr_digest_of(apr_text(text)); }

static void digests_are_those_of_xxhash_and_can_be_read_back(void **state)
{
    (void)state;
    static const struct { const char *text, *spelled; } row[] = {
        { "", "99aa06d3014798d86001c324468d497f" },
        { "a", "a96faf705af16834e6c632b61e964e1f" },
        { "abc", "06b05ab6733a618578af5f94892f3950" },
    };
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        char digits[33];
        struct apr_digest back;
        assert_string_equal(apr_digest_spell(digest_of(row[i].text), digits), row[i].spelled);
        assert_true(apr_digest_read(apr_text(digits), &back) && apr_digest_equal(back, digest_of(row[i].text)));
    }
}

static void what_is_no_digest_is_not_read(void **state)
{
    (void)state;
    static const char *const text[] = { "", "99aa06d3014798d86001c324468d497", "99aa06d3014798d86001c324468d497f0",
                                        "99AA06d3014798d86001c324468d497f", "99aa06d3014798d8 001c324468d497f" };
    struct apr_digest d;
    for (size_t i = 0; i < APR_LENGTH(text); i++)
        assert_false(apr_digest_read(apr_text(text[i]), &d));
}

static void folding_knows_the_order(void **state)
{
    (void)state;
    const struct apr_digest a = digest_of("a"), b = digest_of("b");
    assert_false(apr_digest_equal(apr_digest_fold(a, b), apr_digest_fold(b, a)));
    assert_false(apr_digest_equal(apr_digest_fold(a, b), apr_digest_fold(a, a)));
}

static void dtype_and_shape_and_head_are_part_of_a_tensors_digest(void **state)
{
    (void)state;
    static const unsigned char bytes[] = { 0, 0, 0x80, 0x3f, 1 }, others[] = { 0, 0, 0, 0x3f, 1 };
    const struct apr_tensor row[] = {
        { .dtype = &apr_dtypes[APR_F16], .ndim = 2, .dim = { 2, 3 } },
        { .dtype = &apr_dtypes[APR_BF16], .ndim = 2, .dim = { 2, 3 } },
        { .dtype = &apr_dtypes[APR_F16], .ndim = 2, .dim = { 3, 2 } },
        { .dtype = &apr_dtypes[APR_F16], .ndim = 3, .dim = { 2, 3, 1 } },
        { .dtype = &apr_dtypes[APR_F16], .ndim = 0 },
        { .dtype = &apr_dtypes[APR_APR_Q8], .ndim = 1, .dim = { 1 }, .data = { bytes, 5 } },
        { .dtype = &apr_dtypes[APR_APR_Q8], .ndim = 1, .dim = { 1 }, .data = { others, 5 } },
    };
    for (size_t i = 0; i < APR_LENGTH(row); i++)
        for (size_t j = 0; j < i; j++)
            assert_false(apr_digest_equal(apr_digest_stored(&row[i]), apr_digest_stored(&row[j])));
    assert_true(apr_digest_equal(apr_digest_values(&row[0]), apr_digest_values(&row[1])));
    assert_false(apr_digest_equal(apr_digest_values(&row[0]), apr_digest_values(&row[2])));
}

static void a_models_digest_is_blind_to_order_and_to_tied_placeholders(void **state)
{
    (void)state;
    const struct apr_tensor x = { .name = apr_text("x") }, y = { .name = apr_text("y") }, tied = { .name = apr_text("z"), .tied = true };
    const struct apr_digest a = digest_of("a"), b = digest_of("b");
    struct apr_model_digest one = { .n = 0 }, two = { .n = 0 }, swapped = { .n = 0 }, twice = { .n = 0 };
    apr_model_digest_add(&one, &x, a);
    apr_model_digest_add(&one, &y, b);
    apr_model_digest_add(&two, &y, b);
    apr_model_digest_add(&two, &tied, a);
    apr_model_digest_add(&two, &x, a);
    apr_model_digest_add(&swapped, &x, b);
    apr_model_digest_add(&swapped, &y, a);
    apr_model_digest_add(&twice, &x, a);
    assert_true(apr_digest_equal(apr_model_digest_end(&one), apr_model_digest_end(&two)));
    assert_false(apr_digest_equal(apr_model_digest_end(&one), apr_model_digest_end(&swapped)));
    assert_false(apr_digest_equal(apr_model_digest_end(&one), apr_model_digest_end(&twice)));
}

/* The 32 digits behind a key of --hash --json; its first occurrence. */
static void find_hash(const char *path, const char *key, char digits[33])
{
    struct test_answer a = test_tool("apr-inspect", path, "--hash", "--json", NULL);
    const char *const at = strstr((const char *)a.out.at, key);
    if (a.exit != 0 || at == NULL)
        fail_msg("%s: exit %d, %s", path, a.exit, (const char *)a.out.at);
    snprintf(digits, 33, "%.32s", at + strlen(key));
    test_answer_free(&a);
}

static void expect_hashes(const char *a, const char *b, const char *key, bool same)
{
    char x[33], y[33];
    find_hash(a, key, x);
    find_hash(b, key, y);
    if ((strcmp(x, y) == 0) != same)
        fail_msg("%s and %s: %s%s, %s", a, b, key, x, y);
}

static void one_model_has_one_hash_in_every_container(void **state)
{
    (void)state;
    static const struct { const char *a, *b; bool same; } row[] = {
        { "fixtures/qwen2", "fixtures/qwen2.apr", true },
        { "fixtures/qwen2", "fixtures/qwen2-zstd.apr", true },
        { "fixtures/qwen2-q8_0.gguf", "fixtures/split/qwen2-00002-of-00003.gguf", true },
        { "fixtures/qwen2-q8_0.gguf", "fixtures/qwen2-q4_0.gguf", false },
    };
    for (size_t i = 0; i < APR_LENGTH(row); i++)
        expect_hashes(row[i].a, row[i].b, "\"model_hash\":\"", row[i].same);
}

/* More than one part of a unit, and a piece that is not full. */
#define MANY (2 * 65536 + 4096 + 77)

/* A GGUF of one tensor: values 1 + i % 3 as F16 or F32, or as Q8_0 blocks with such scales. */
static const char *gguf(const char *name, bool big, enum apr_dtype_id dtype)
{
    struct test_bytes b = { .big = big };
    const uint64_t count = dtype == APR_Q8_0 ? MANY / 32 * 32 : MANY;
    test_text(&b, "GGUF");
    test_integer(&b, 3, 4);
    test_integer(&b, 1, 8);
    test_integer(&b, 0, 8);
    test_integer(&b, 1, 8);
    test_text(&b, "t");
    test_integer(&b, 1, 4);
    test_integer(&b, count, 8);
    test_integer(&b, (uint64_t)apr_dtypes[dtype].ggml, 4);
    test_integer(&b, 0, 8);
    test_align(&b, 32);
    for (uint64_t i = 0; i < count; i += dtype == APR_Q8_0 ? 32 : 1) {
        static const uint16_t half[] = { 0x3c00, 0x4000, 0x4200 };
        static const uint32_t single[] = { 0x3f800000, 0x40000000, 0x40400000 };
        test_integer(&b, dtype == APR_F32 ? single[i % 3] : half[i % 3], dtype == APR_F32 ? 4 : 2);
        for (uint64_t k = 0; dtype == APR_Q8_0 && k < 32; k++)
            test_integer(&b, (i + k) % 100, 1);
    }
    test_align(&b, 32);
    const char *const path = test_file(name, b.at, b.n);
    test_free(&b);
    return path;
}

static void byte_order_is_no_matter_and_values_hash_alike_in_every_type(void **state)
{
    (void)state;
    static const char stored[] = "\"hash\":\"", values[] = "\"value_hash\":\"";
    const char *const little = gguf("f16.gguf", false, APR_F16), *const big = gguf("f16-big.gguf", true, APR_F16);
    expect_hashes(little, big, stored, true);
    expect_hashes(little, big, values, true);
    const char *const wide = gguf("f32.gguf", false, APR_F32), *const wide_big = gguf("f32-big.gguf", true, APR_F32);
    expect_hashes(little, wide, stored, false);
    expect_hashes(little, wide, values, true);
    expect_hashes(wide, wide_big, values, true);
    const char *const blocks = gguf("q8_0.gguf", false, APR_Q8_0), *const blocks_big = gguf("q8_0-big.gguf", true, APR_Q8_0);
    expect_hashes(blocks, blocks_big, stored, true);
    expect_hashes(blocks, blocks_big, values, true);
}

static void a_manifest_says_which_tensors_are_others(void **state)
{
    (void)state;
    const char *const manifest = test_path("qwen2.manifest");
    struct test_answer a = test_tool("apr-inspect", "fixtures/qwen2", "--manifest", manifest, NULL);
    assert_int_equal(a.exit, 0);
    test_answer_free(&a);
    a = test_tool("apr-inspect", "fixtures/qwen2.apr", "--verify", manifest, NULL);
    assert_int_equal(a.exit, 0);
    assert_true(test_says(&a.out, "27 the same, 0 changed, 0 missing, 0 new"));
    test_answer_free(&a);

    struct test_bytes text = test_load(manifest);
    char *const name = strstr((char *)text.at, "model.norm.weight"), *const hash = strstr((char *)text.at, "\"hash\":\"");
    assert_true(name != NULL && hash != NULL);
    name[0] = 'n';
    hash[8] = hash[8] == '0' ? '1' : '0';
    a = test_tool("apr-inspect", "fixtures/qwen2", "--verify", test_file("edited.manifest", text.at, text.n), NULL);
    assert_int_equal(a.exit, 1);
    assert_true(test_says(&a.out, "(stored otherwise, same values)\n"));
    assert_true(test_says(&a.out, "new      model.norm.weight\n"));
    assert_true(test_says(&a.out, "missing  nodel.norm.weight\n"));
    assert_true(test_says(&a.out, "25 the same, 1 changed, 1 missing, 1 new"));
    test_answer_free(&a);
    a = test_tool("apr-inspect", "fixtures/qwen2", "--json", "--verify", test_path("edited.manifest"), "--filter", "layers", NULL);
    assert_true(test_says(&a.out, "\"missing\":0,\"new\":0"));
    test_answer_free(&a);
    test_free(&text);
}

static void what_is_no_manifest_is_told_with_its_byte(void **state)
{
    (void)state;
    static const struct { const char *text, *why; } row[] = {
        { "hello\n", "none: at byte 0: " },
        { "{}", "has no \"schema\"" },
        { "{\"schema\":\"apr-manifest/2\",\"tensors\":[]}", "has no \"schema\"" },
        { "{\"schema\":\"apr-manifest/1\"}", "has no tensors" },
        { "{\"schema\":\"apr-manifest/1\",\"tensors\":[{\"name\":\"x\"}]}", "none: at byte 38: a tensor without a hash" },
        { "{\"schema\":\"apr-manifest/1\",\"tensors\":[{\"hash\":\"99aa06d3014798d86001c324468d497f\"}]}", "without a name" },
        { "{\"schema\":\"apr-manifest/1\",\"tensors\":[{\"name\":\"x\",\"hash\":\"99aa06d3014798d86001c324468d497f\"},"
          "{\"name\":\"x\",\"hash\":\"99aa06d3014798d86001c324468d497f\"}]}", "names the tensor \"x\" twice" },
        { "{\"schema\":\"apr-manifest/1\",\"tensors\":[]} x", "at byte " },
    };
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        const char *const path = test_file("none", row[i].text, strlen(row[i].text));
        struct test_answer a = test_tool("apr-inspect", "fixtures/qwen2", "--verify", path, NULL);
        if (a.exit != 2 || !test_says(&a.err, row[i].why))
            fail_msg("%s: exit %d, %s", row[i].text, a.exit, (const char *)a.err.at);
        assert_int_equal(a.out.n, 0);
        test_answer_free(&a);
    }
}

/* xxhash.xxh3_64_intdigest(name, seed), and of index.to_bytes(8, "little") with that as its seed. */
static void draws_are_those_of_xxhash_by_name_and_index(void **state)
{
    (void)state;
    static const struct { const char *name; uint64_t seed, index, key, number; } row[] = {
        { "", 0, 0, 0x2d06800538d394c2, 0xf0a390d5a40e58df },
        { "", 0, 1, 0x2d06800538d394c2, 0x34f08d873e5ce238 },
        { "", 0, 1099511627783, 0x2d06800538d394c2, 0x59d3360f5e07997d },
        { "model.layers.0.mlp.up_proj.weight", 0, 0, 0x8c0770f3a9a241e2, 0xb215a345d5355f08 },
        { "model.layers.0.mlp.up_proj.weight", 0, 1, 0x8c0770f3a9a241e2, 0xe96f63623e7a3d03 },
        { "model.layers.0.mlp.up_proj.weight", 0, 1099511627783, 0x8c0770f3a9a241e2, 0x2114d8295a17ebed },
        { "blk.0.ffn_up.weight", UINT64_MAX, 0, 0xf1e7dc020e229afd, 0xca44a468f0964216 },
        { "blk.0.ffn_up.weight", UINT64_MAX, 1, 0xf1e7dc020e229afd, 0xe2b80db55cf60f93 },
        { "blk.0.ffn_up.weight", UINT64_MAX, 1099511627783, 0xf1e7dc020e229afd, 0x68a1892c0996c97c },
        { "blk.0.ffn_up.weight", 3, 0, 0x12adc237c46d5a65, 0xc186f4d38b9a16bb },
        { "blk.0.ffn_up.weight", 3, 1, 0x12adc237c46d5a65, 0x8d42bf80592cabdc },
        { "blk.0.ffn_up.weight", 3, 1099511627783, 0x12adc237c46d5a65, 0xc381f4548bd64e04 },
    };
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        assert_int_equal(apr_draw_key(apr_text(row[i].name), row[i].seed), row[i].key);
        assert_int_equal(apr_draw(row[i].key, row[i].index), row[i].number);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_are_those_of_xxhash_and_can_be_read_back),
        cmocka_unit_test(what_is_no_digest_is_not_read),
        cmocka_unit_test(draws_are_those_of_xxhash_by_name_and_index),
        cmocka_unit_test(folding_knows_the_order),
        cmocka_unit_test(dtype_and_shape_and_head_are_part_of_a_tensors_digest),
        cmocka_unit_test(a_models_digest_is_blind_to_order_and_to_tied_placeholders),
        cmocka_unit_test(one_model_has_one_hash_in_every_container),
        cmocka_unit_test(byte_order_is_no_matter_and_values_hash_alike_in_every_type),
        cmocka_unit_test(a_manifest_says_which_tensors_are_others),
        cmocka_unit_test(what_is_no_manifest_is_told_with_its_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
