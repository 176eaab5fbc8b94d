/* What will be written: layouts, keys, shards, checksums and frames. */
#include "plans.h"

#include <stdio.h>
#include <unistd.h>

#include <libdeflate.h>
#include <zstd.h>

#include "base/bytes.h"
#include "model/meta.h"
#include "model/model.h"
#include "model/open.h"
#include "values/dtype.h"

/* ---- layouts -------------------------------------------------------------------------------------------------------------- */

static void a_file_of_other_peoples_libraries_comes_back_byte_for_byte(void **state)
{
    (void)state;
    static const struct { const char *path, *format; } rows[] = {
        { "fixtures/qwen2-q8_0.gguf", "gguf" },
        { "fixtures/qwen2-q4_0.gguf", "gguf" },
        { "fixtures/qwen2-bf16.gguf", "gguf" },
        { "fixtures/qwen2/model-00001-of-00003.safetensors", "safetensors" },
        { "fixtures/qwen2/model-00002-of-00003.safetensors", "safetensors" },
        { "fixtures/qwen2/model-00003-of-00003.safetensors", "safetensors" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *const out = test_path("back");
        unlink(out);
        convert((struct apr_plan){ 0 }, rows[i].path, rows[i].format, out);
        expect_same_file(out, rows[i].path);
    }
}

static void every_way_round_the_tensors_are_the_same(void **state)
{
    (void)state;
    convert((struct apr_plan){ 0 }, "fixtures/qwen2", "apr", test_path("round.apr"));
    expect_same_model(test_path("round.apr"), "fixtures/qwen2");
    convert((struct apr_plan){ 0 }, test_path("round.apr"), "gguf", test_path("round.gguf"));
    expect_same_model(test_path("round.gguf"), "fixtures/qwen2");
    convert((struct apr_plan){ 0 }, test_path("round.gguf"), "safetensors", test_path("round.safetensors"));
    expect_same_model(test_path("round.safetensors"), "fixtures/qwen2");
    convert((struct apr_plan){ 0 }, "fixtures/qwen2-q8_0.gguf", "apr", test_path("blocks.apr"));
    expect_same_model(test_path("blocks.apr"), "fixtures/qwen2-q8_0.gguf");
    convert((struct apr_plan){ 0 }, test_path("blocks.apr"), "gguf", test_path("blocks.gguf"));
    expect_same_model(test_path("blocks.gguf"), "fixtures/qwen2-q8_0.gguf");
}

static void big_endian_tensors_are_turned_round(void **state)
{
    (void)state;
    convert((struct apr_plan){ 0 }, "fixtures/qwen2-big-endian.gguf", "gguf", test_path("little.gguf"));
    struct apr_model *const a = test_opened("fixtures/qwen2-big-endian.gguf"), *const b = test_opened(test_path("little.gguf"));
    for (size_t i = 0; i < a->ntensor; i++) {
        float x[APR_STRETCH], y[APR_STRETCH];
        const size_t n = (size_t)apr_min(a->tensor[i].count, APR_STRETCH);
        assert_false(b->tensor[i].swapped);
        apr_read_floats(apr_kernels_for(APR_SCALAR), &a->tensor[i], 0, n, x);
        apr_read_floats(apr_kernels_for(APR_SCALAR), &b->tensor[i], 0, n, y);
        assert_memory_equal(x, y, n * sizeof *x);
    }
    for (size_t i = 0; i < a->meta.n; i++)
        assert_true(apr_value_equal(&a->meta.entry[i].value, &b->meta.entry[i].value));
    apr_close(a);
    apr_close(b);
}

/* Tensors that the target's mapping can share with the source's blocks lie in their blocks as in those. */
static void data_begins_where_it_can_be_shared(void **state)
{
    (void)state;
    const char *const source = big("shared.safetensors");
    struct test_bytes b = test_load(source);
    const size_t before = b.n - 4800000;
    test_free(&b);
    convert((struct apr_plan){ 0 }, source, "safetensors", test_path("shares.safetensors"));
    expect_same_model(test_path("shares.safetensors"), source);
    struct apr_model *const m = test_opened(test_path("shares.safetensors"));
    assert_int_equal(before % 8 == 0, apr_tensor_offset(m, &m->tensor[0]) % 4096 == before % 4096);
    apr_close(m);
}

static void what_a_format_does_not_hold_is_refused_by_name(void **state)
{
    (void)state;
    static const char long_name[] = "a name of more than sixty-three bytes, which llama.cpp does not load";
    static const struct {
        const char *format; enum apr_dtype_id dtype; const char *name; unsigned ndim; uint64_t dim[6]; const char *words;
    } rows[] = {
        { "gguf", APR_F8_E4M3, "w", 1, { 4 }, "F8_E4M3 [4], cannot be written: GGUF has no such type; --type" },
        { "gguf", APR_U8, "w", 1, { 4 }, "--drop" },
        { "gguf", APR_F32, "w", 5, { 1, 1, 1, 1, 1 }, "at most 4 dimensions" },
        { "gguf", APR_F32, long_name, 1, { 4 }, "63 bytes" },
        { "gguf", APR_Q8_0, "w", 2, { 2, 33 }, "whole blocks" },
        { "gguf", APR_APR_Q4, "w", 1, { 32 }, "APR_Q4" },
        { "apr", APR_Q8_K, "w", 1, { 256 }, "Q8_K [256], cannot be written: no reader of APR knows that type; --type" },
        { "apr", APR_F8_E5M2, "w", 1, { 4 }, "--type" },
        { "apr", APR_U16, "w", 1, { 4 }, "--drop" },
        { "safetensors", APR_Q4_K, "w", 1, { 256 }, "Q4_K [256], cannot be written: SafeTensors has no such type; --type" },
        { "safetensors", APR_F32, "__metadata__", 1, { 4 }, "--rename" },
        { "safetensors", APR_F32, "w", 2, { UINT64_MAX, 2 }, "no file holds" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_plan p = { .format = format(rows[i].format), .out = "x" };
        struct apr_planned t = { .name = apr_text(rows[i].name), .dtype = &apr_dtypes[rows[i].dtype], .ndim = rows[i].ndim,
                                 .how = APR_ENCODE };
        struct apr_error e;
        memcpy(t.dim, rows[i].dim, sizeof rows[i].dim);
        if (apr_plan_add(&p, &t, &e) == APR_OK || strstr(e.text, rows[i].words) == NULL)
            fail_msg("%zu: \"%s\" is not in: %s", i, rows[i].words, e.text);
        apr_plan_end(&p);
    }
}

static struct apr_planned zeros(const char *name, uint64_t n)
{
    static const float values[4096];
    return (struct apr_planned){ .name = apr_text(name), .dtype = &apr_dtypes[APR_F32], .ndim = 1, .dim = { n }, .how = APR_GENERATE,
                                 .values = values };
}

static void keys_of_every_type_are_written(void **state)
{
    (void)state;
    static const unsigned char big_endian[] = { 0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFE };
    struct apr_plan p = { .format = format("gguf"), .out = test_path("keys.gguf") };
    const struct apr_value value[] = {
        { .type = APR_META_U8, .u = 255 }, { .type = APR_META_I8, .i = -128 }, { .type = APR_META_U16, .u = 65535 },
        { .type = APR_META_I16, .i = -5 },
        { .type = APR_META_U32, .u = UINT32_MAX }, { .type = APR_META_I32, .i = INT32_MIN }, { .type = APR_META_F32, .f = 0.5 },
        { .type = APR_META_BOOL, .b = true }, { .type = APR_META_STRING, .text = { (const unsigned char *)"", 0 } },
        { .type = APR_META_U64, .u = UINT64_MAX }, { .type = APR_META_I64, .i = INT64_MIN }, { .type = APR_META_F64, .f = 0.1 },
        { .type = APR_META_ARRAY, .element = APR_META_I32, .encoding = APR_GGUF_BE, .n = 2, .text = { big_endian, sizeof big_endian } },
        { .type = APR_META_ARRAY, .element = APR_META_F32, .encoding = APR_JSON, .text = { (const unsigned char *)"[1, 0.5, -2]", 12 } },
        { .type = APR_META_ARRAY, .element = APR_META_STRING, .encoding = APR_JSON,
          .text = { (const unsigned char *)"[\"a\", \"\\u00e9\"]", 15 } },
        { .type = APR_META_ARRAY, .element = APR_META_BOOL, .encoding = APR_JSON, .text = { (const unsigned char *)"[true,false]", 12 } },
    };
    struct apr_error e;
    for (size_t i = 0; i < APR_LENGTH(value); i++) {
        char key[16];
        snprintf(key, sizeof key, "key.%c", 'a' + (char)i);
        assert_int_equal(apr_draft_put(&p.meta, apr_text(key), &value[i], &e), APR_OK);
    }
    const struct apr_planned t = zeros("w", 3);
    assert_int_equal(apr_plan_add(&p, &t, &e), APR_OK);
    if (write_plan(&p, test_run_with(1), &e) != APR_OK)
        fail_msg("%s", e.text);
    struct apr_model *const m = test_opened(p.out);
    for (size_t i = 0; i < 13; i++)
        assert_true(apr_value_equal(&m->meta.entry[i].value, &value[i]));
    static const unsigned char floats[] = { 0, 0, 0x80, 0x3F, 0, 0, 0, 0x3F, 0, 0, 0, 0xC0 };
    static const unsigned char texts[] = "\1\0\0\0\0\0\0\0a\2\0\0\0\0\0\0\0\303\251";
    assert_int_equal(m->meta.entry[13].value.text.n, sizeof floats);
    assert_memory_equal(m->meta.entry[13].value.text.at, floats, sizeof floats);
    assert_int_equal(m->meta.entry[14].value.text.n, sizeof texts - 1);
    assert_memory_equal(m->meta.entry[14].value.text.at, texts, sizeof texts - 1);
    assert_memory_equal(m->meta.entry[15].value.text.at, "\1\0", 2);
    apr_close(m);
    apr_plan_end(&p);
}

static void values_that_gguf_does_not_hold_are_refused_with_their_key(void **state)
{
    (void)state;
    const struct apr_value value[] = {
        { .type = APR_META_NULL },
        { .type = APR_META_OBJECT, .encoding = APR_JSON, .text = { (const unsigned char *)"{}", 2 } },
        { .type = APR_META_ARRAY, .element = APR_META_ANY, .encoding = APR_JSON, .text = { (const unsigned char *)"[1]", 3 } },
        { .type = APR_META_ARRAY, .element = APR_META_U8, .encoding = APR_JSON, .text = { (const unsigned char *)"[256]", 5 } },
        { .type = APR_META_ARRAY, .element = APR_META_I8, .encoding = APR_JSON, .text = { (const unsigned char *)"[-129]", 6 } },
        { .type = APR_META_ARRAY, .element = APR_META_STRING, .encoding = APR_JSON, .text = { (const unsigned char *)"[1]", 3 } },
        { .type = APR_META_ARRAY, .element = APR_META_ARRAY, .encoding = APR_GGUF_LE },
    };
    for (size_t i = 0; i < APR_LENGTH(value); i++) {
        struct apr_plan p = { .format = format("gguf"), .out = test_path("refused.gguf") };
        struct apr_error e;
        assert_int_equal(apr_draft_put(&p.meta, apr_text("a.key"), &value[i], &e), APR_OK);
        assert_int_equal(apr_plan_place(&p, &e), APR_EUNSUPPORTED);
        assert_non_null(strstr(e.text, "a.key"));
        apr_plan_end(&p);
    }
}

static void texts_that_json_does_not_hold_are_refused_with_their_key(void **state)
{
    (void)state;
    static const unsigned char bad[] = "a\xFF", list[] = "\1\0\0\0\0\0\0\0a\1\0\0\0\0\0\0\0\xFF";
    const struct apr_value value[] = {
        { .type = APR_META_STRING, .text = { bad, 2 } },
        { .type = APR_META_ARRAY, .element = APR_META_STRING, .encoding = APR_GGUF_LE, .n = 2, .text = { list, sizeof list - 1 } },
    };
    for (size_t i = 0; i < APR_LENGTH(value); i++) {
        struct apr_plan p = { .format = format("apr"), .out = test_path("refused.apr") };
        struct apr_planned t = zeros("", 3);
        struct apr_error e;
        t.name = (struct apr_bytes){ bad, 2 };
        assert_int_equal(apr_plan_add(&p, &t, &e), APR_EARG);
        assert_int_equal(apr_draft_put(&p.meta, apr_text("a.key"), &value[i], &e), APR_OK);
        assert_int_equal(apr_plan_place(&p, &e), APR_EUNSUPPORTED);
        assert_non_null(strstr(e.text, "a.key"));
        apr_plan_end(&p);
    }
}

static void an_alignment_is_honoured_also_in_later_shards(void **state)
{
    (void)state;
    static const uint32_t alignment[] = { 8, 64, 16384 };
    for (size_t i = 0; i < APR_LENGTH(alignment); i++)
        for (unsigned shards = 1; shards <= 2; shards++) {
            struct apr_plan p = { .format = format("gguf"), .out = test_path("aligned.gguf"), .nshard = shards, .force = true };
            const struct apr_planned t[] = { zeros("a", 3), zeros("b", 4096), zeros("c", 5) };
            struct apr_error e;
            assert_int_equal(apr_draft_u32(&p.meta, "general.alignment", alignment[i], &e), APR_OK);
            for (size_t k = 0; k < APR_LENGTH(t); k++)
                assert_int_equal(apr_plan_add(&p, &t[k], &e), APR_OK);
            if (write_plan(&p, test_run_with(2), &e) != APR_OK)
                fail_msg("%s", e.text);
            struct apr_model *const m = test_opened(p.file[0].path);
            assert_int_equal(m->ntensor, 3);
            for (size_t k = 0; k < m->ntensor; k++)
                assert_int_equal(apr_tensor_offset(m, &m->tensor[k]) % alignment[i], 0);
            for (size_t k = 0; k < m->nnote; k++)
                assert_string_equal(m->note[k].code, "gguf.no_architecture");
            apr_close(m);
            apr_plan_end(&p);
        }
}

/* ---- shards --------------------------------------------------------------------------------------------------------------- */

static void shards_are_one_model(void **state)
{
    (void)state;
    static const struct { const char *from, *format, *out, *open; unsigned n; } rows[] = {
        { "fixtures/qwen2-q8_0.gguf", "gguf", "s.gguf", "s-00002-of-00003.gguf", 3 },
        { "fixtures/qwen2", "apr", "s.apr", "s-00004-of-00004.apr", 4 },
        { "fixtures/qwen2", "safetensors", "s.safetensors", "s.safetensors.index.json", 2 },
        { "fixtures/qwen2", "safetensors", "sharded/", "sharded", 5 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        convert((struct apr_plan){ .nshard = rows[i].n }, rows[i].from, rows[i].format, test_path(rows[i].out));
        expect_same_model(test_path(rows[i].open), rows[i].from);
        char one[64];
        snprintf(one, sizeof one, "one.%s", rows[i].format);
        unlink(test_path(one));
        convert((struct apr_plan){ .nshard = 1 }, test_path(rows[i].open), rows[i].format, test_path(one));
        expect_same_model(test_path(one), rows[i].from);
    }
}

/* n tensors of those sizes (in elements) in a plan. */
static void sized(struct apr_plan *p, const uint64_t *n, size_t count)
{
    static const char names[] = "a\0b\0c\0d\0e\0f\0g\0h";
    struct apr_error e;
    p->format = format("gguf");
    p->out = "m.gguf";
    for (size_t i = 0; i < count; i++) {
        const struct apr_planned t = zeros(names + 2 * i, n[i]);
        assert_int_equal(apr_plan_add(p, &t, &e), APR_OK);
    }
}

static void shards_are_cut_by_size_or_evenly(void **state)
{
    (void)state;
    static const struct { uint64_t n[8]; size_t count; uint64_t limit; unsigned nshard; size_t want[8]; size_t nwant; } rows[] = {
        { { 10, 10, 10, 10 }, 4, 80, 0, { 2, 2 }, 2 },
        { { 10, 10, 10, 10 }, 4, 79, 0, { 1, 1, 1, 1 }, 4 },
        { { 10, 100, 10, 10 }, 4, 80, 0, { 1, 1, 2 }, 3 },
        { { 10, 10 }, 2, 8000, 0, { 2 }, 1 },
        { { 100, 10 }, 2, 4, 0, { 1, 1 }, 2 },
        { { 10, 10, 10, 10, 10, 10 }, 6, 0, 3, { 2, 2, 2 }, 3 },
        { { 100, 1, 1, 1, 1 }, 5, 0, 4, { 1, 1, 2, 1 }, 4 },
        { { 1, 1, 1, 1, 100 }, 5, 0, 2, { 4, 1 }, 2 },
        { { 1, 2, 3, 4, 5, 6, 7, 8 }, 8, 0, 3, { 4, 2, 2 }, 3 },
        { { 10, 10 }, 2, 0, 2, { 1, 1 }, 2 },
        { { 1, 100, 10, 10, 10, 10, 10, 10 }, 8, 0, 4, { 1, 1, 3, 3 }, 4 }, /* a large one is no reason for small ones to crowd */
        { { 10, 10, 10, 10, 10, 10, 100, 1 }, 8, 0, 4, { 4, 2, 1, 1 }, 4 },
        { { 50, 50, 10, 90, 10, 90 }, 6, 0, 3, { 2, 2, 2 }, 3 }, /* 60 of the first would be nearer, and leave too much */
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_plan p = { .shard_bytes = rows[i].limit, .nshard = rows[i].nshard };
        struct apr_error e;
        sized(&p, rows[i].n, rows[i].count);
        assert_int_equal(apr_plan_place(&p, &e), APR_OK);
        if (p.nfile != rows[i].nwant)
            fail_msg("row %zu: %zu files", i, p.nfile);
        for (size_t k = 0; k < p.nfile; k++)
            if (p.file[k].n != rows[i].want[k])
                fail_msg("row %zu: %zu tensors in shard %zu", i, p.file[k].n, k);
        assert_string_equal(p.file[0].path, p.nfile == 1 ? "m.gguf" : p.nfile == 2 ? "m-00001-of-00002.gguf" :
                                            p.nfile == 3 ? "m-00001-of-00003.gguf" : "m-00001-of-00004.gguf");
        apr_plan_end(&p);
    }
    struct apr_plan p = { .nshard = 3 };
    struct apr_error e;
    sized(&p, (const uint64_t[]){ 1, 1 }, 2);
    assert_int_equal(apr_plan_place(&p, &e), APR_EARG);
    assert_non_null(strstr(e.text, "3 shards of 2 tensors"));
    apr_plan_end(&p);
}

static void shares_of_many_jobs_are_the_files_of_one(void **state)
{
    (void)state;
    convert((struct apr_plan){ .nshard = 3 }, "fixtures/qwen2", "safetensors", test_path("whole/"));
    for (unsigned k = 3; k > 0; k--) {
        convert((struct apr_plan){ .nshard = 3, .only = k }, "fixtures/qwen2", "safetensors", test_path("jobs/"));
        assert_int_equal(files_in("jobs"), k > 1 ? 4 - k : 4);
    }
    static const char *const name[] = { "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                                        "model-00003-of-00003.safetensors",
                                        "model.safetensors.index.json" };
    for (size_t i = 0; i < APR_LENGTH(name); i++) {
        char a[64], b[64];
        snprintf(a, sizeof a, "whole/%s", name[i]);
        snprintf(b, sizeof b, "jobs/%s", name[i]);
        expect_same_file(test_path(a), test_path(b));
    }
}

/* ---- checksums and frames ------------------------------------------------------------------------------------------------- */

static uint32_t u32(const unsigned char *at) { return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24; }

static void a_compressed_file_is_plain_zstd_with_a_seek_table(void **state)
{
    (void)state;
    const char *const source = big("zstd.safetensors");
    convert((struct apr_plan){ 0 }, source, "apr", test_path("plain.apr"));
    convert((struct apr_plan){ .zstd = 3 }, source, "apr", test_path("zstd.apr"));
    expect_same_model(test_path("zstd.apr"), source);
    struct test_bytes plain = test_load(test_path("plain.apr")), packed = test_load(test_path("zstd.apr"));
    unsigned char *const out = malloc(plain.n);
    const uint32_t frames = u32(packed.at + packed.n - 9);
    assert_true(frames > 5);
    assert_int_equal(packed.at[packed.n - 5], 0);
    assert_int_equal(u32(packed.at + packed.n - 4), 0x8F92EAB1);
    const size_t table = packed.n - 17 - 8 * (size_t)frames;
    assert_int_equal(u32(packed.at + table), 0x184D2A5E);
    assert_int_equal(u32(packed.at + table + 4), 9 + 8 * frames);
    size_t at = 64, done = 64;
    for (uint32_t i = 0; i < frames; i++) {
        const uint32_t n = u32(packed.at + table + 8 + 8 * i), m = u32(packed.at + table + 12 + 8 * i);
        assert_int_equal(ZSTD_decompress(out, plain.n, packed.at + at, n), m);
        assert_true(done + m <= plain.n);
        if (memcmp(out, plain.at + done, i + 1 == frames ? 0 : m) != 0)
            fail_msg("frame %u is not what stands in the plain file", i);
        at += n;
        done += m;
    }
    assert_int_equal(at, table);
    assert_int_equal(done, plain.n);
    /* the checksum is that of the plain bytes behind the header as it is stored */
    assert_int_equal(u32(out), libdeflate_crc32(libdeflate_crc32(0, packed.at, 64), plain.at + 64, plain.n - 68));
    free(out);
    test_free(&plain);
    test_free(&packed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_of_other_peoples_libraries_comes_back_byte_for_byte),
        cmocka_unit_test(every_way_round_the_tensors_are_the_same),
        cmocka_unit_test(big_endian_tensors_are_turned_round),
        cmocka_unit_test(data_begins_where_it_can_be_shared),
        cmocka_unit_test(what_a_format_does_not_hold_is_refused_by_name),
        cmocka_unit_test(keys_of_every_type_are_written),
        cmocka_unit_test(values_that_gguf_does_not_hold_are_refused_with_their_key),
        cmocka_unit_test(texts_that_json_does_not_hold_are_refused_with_their_key),
        cmocka_unit_test(an_alignment_is_honoured_also_in_later_shards),
        cmocka_unit_test(shards_are_one_model),
        cmocka_unit_test(shards_are_cut_by_size_or_evenly),
        cmocka_unit_test(shares_of_many_jobs_are_the_files_of_one),
        cmocka_unit_test(a_compressed_file_is_plain_zstd_with_a_seek_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
