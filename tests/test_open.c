/* lib/model/open.c, lib/model/shard_index.c: from a path to a model of one file or many, and whose fault it is when that fails. */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libdeflate.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files/source.h"
#include "model/format.h"
#include "model/model.h"
#include "model/open.h"
#include "model/shard_index.h"

#define INDEX "model.safetensors.index.json"
#define MAP(entries) "{\"weight_map\": {" entries "}}"

/* ---- files --------------------------------------------------------------------------------------------------------- */

static const char *in(const char *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return test_path(path);
}

static const char *put_file(const char *folder, const char *name, const struct test_bytes *b)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return test_file(path, b->n > 0 ? b->at : (const void *)"", b->n);
}

static const char *put_text(const char *folder, const char *name, const char *text)
{
    return put_file(folder, name, &(struct test_bytes){ .at = (unsigned char *)(uintptr_t)text, .n = strlen(text) });
}

static const char *copy(const char *from, const char *folder, const char *name)
{
    struct test_bytes b = test_load(from);
    const char *path = put_file(folder, name, &b);
    test_free(&b);
    return path;
}

/* A SafeTensors file of one-byte tensors with one-letter names. */
static struct test_bytes letters(const char *names)
{
    struct test_bytes header = { 0 }, b = { 0 };
    test_text(&header, "{");
    for (size_t i = 0; names[i] != 0; i++) {
        char entry[100];
        snprintf(entry, sizeof entry, "%s\"%c\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%zu,%zu]}", i ? "," : "", names[i], i,
                 i + 1);
        test_text(&header, entry);
    }
    test_text(&header, "}");
    test_integer(&b, header.n, 8);
    test_put(&b, header.at, header.n);
    test_text(&b, names);
    test_free(&header);
    return b;
}

static const char *put_letters(const char *folder, const char *name, const char *names)
{
    struct test_bytes b = letters(names);
    const char *path = put_file(folder, name, &b);
    test_free(&b);
    return path;
}

/* An APR file of F32 tensors of one element with one-letter names. */
static const char *put_apr(const char *folder, const char *name, const char *metadata, const char *names)
{
    struct test_bytes b = { 0 };
    test_put(&b, "APR\0\2\0\0\0", 8);
    test_integer(&b, strlen(names), 4);
    test_integer(&b, 64, 8);
    test_integer(&b, strlen(metadata), 4);
    test_zeros(&b, 40);
    test_text(&b, metadata);
    const uint64_t index = test_align(&b, 64) + (64 - strlen(metadata) % 64) % 64;
    for (size_t i = 0; names[i] != 0; i++) {
        test_integer(&b, 1, 2);
        test_put(&b, names + i, 1);
        test_integer(&b, 0, 1);
        test_integer(&b, 1, 1);
        test_integer(&b, 1, 8);
        test_integer(&b, 64 * i, 8);
        test_integer(&b, 4, 8);
    }
    test_align(&b, 64);
    const uint64_t data = b.n;
    test_zeros(&b, 64 * strlen(names));
    struct test_bytes offsets = { 0 };
    test_integer(&offsets, index, 8);
    test_integer(&offsets, data, 8);
    memcpy(b.at + 24, offsets.at, 16);
    const uint32_t crc = libdeflate_crc32(libdeflate_crc32(0, b.at, 40), b.at + 44, 20);
    memcpy(b.at + 40, &crc, 4);
    const char *path = put_file(folder, name, &b);
    test_free(&offsets);
    test_free(&b);
    return path;
}

/* ---- expectations -------------------------------------------------------------------------------------------------- */

/* Opens path and expects these tensors, one letter each, in this order. */
static struct apr_model *expect_letters(const char *path, size_t nfile, const char *names)
{
    struct apr_model *m;
    struct apr_error e;
    if (apr_open(&m, path, test_run_with(1), &e) != APR_OK)
        fail_msg("%s: %s: %s", path, e.file, e.text);
    assert_int_equal(m->nfile, nfile);
    assert_int_equal(m->ntensor, strlen(names));
    for (size_t i = 0; names[i] != 0; i++)
        if (!apr_bytes_equal(m->tensor[i].name, (struct apr_bytes){ (const unsigned char *)names + i, 1 }))
            fail_msg("%s: tensor %zu is %s, not %c", path, i, APR_QUOTED(m->tensor[i].name), names[i]);
    return m;
}

static void expect_failure(const char *what, const char *path, enum apr_code code, const char *file, uint64_t at,
                           const char *const words[4])
{
    struct apr_model *m = (void *)&at;
    struct apr_error e = { .at = 0 };
    const enum apr_code got = apr_open(&m, path, test_run_with(1), &e);
    if (got == APR_OK)
        fail_msg("%s: is opened", what);
    if (m != NULL)
        fail_msg("%s: a model in spite of the failure", what);
    if (got != code || e.code != code || (at != APR_NOWHERE && e.at != at) || strcmp(e.file, file) != 0)
        fail_msg("%s: %s at %" PRIu64 " (not %" PRIu64 ") of %s: %s", what, apr_code_word(got), e.at, at, e.file, e.text);
    for (size_t i = 0; i < 4 && words[i] != NULL; i++)
        if (strstr(e.text, words[i]) == NULL)
            fail_msg("%s: \"%s\" is not in: %s", what, words[i], e.text);
}

/* ---- one file ------------------------------------------------------------------------------------------------------ */

static void formats_are_known_by_content(void **state)
{
    (void)state;
    const struct { const char *path, *format; } rows[] = {
        { copy("fixtures/qwen2-q8_0.gguf", "content", "a.safetensors"), "gguf" },
        { copy("fixtures/qwen2.apr", "content", "b.gguf"), "apr" },
        { copy("fixtures/trace/lm_head.bin", "content", "c.apr"), "aprt" },
        { put_letters("content", "d.json", "a"), "safetensors" },
        { "fixtures/qwen2-zstd.apr", "apr" },
        { "fixtures/qwen2-big-endian.gguf", "gguf" },
        { "fixtures/qwen2/model-00002-of-00003.safetensors", "safetensors" },   /* a shard without its index is a model */
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_model *m;
        struct apr_error e;
        if (apr_open(&m, rows[i].path, test_run_with(1), &e) != APR_OK)
            fail_msg("%s: %s", rows[i].path, e.text);
        assert_string_equal(m->format->name, rows[i].format);
        assert_string_equal(m->file[0]->path, rows[i].path);
        assert_int_equal(m->nfile, 1);
        apr_close(m);
    }
}

static void other_files_are_no_models(void **state)
{
    (void)state;
    const struct { const char *path; enum apr_code code; uint64_t at; const char *words[4]; } rows[] = {
        { put_text("none", "empty", ""), APR_ECORRUPT, 0, { "is empty" } },
        { put_text("none", "short", "GG"), APR_ECORRUPT, 0, { "has 2 bytes and begins with 47 47" } },
        { put_text("none", "text", "Hello, world"), APR_ECORRUPT, 0, { "has 12 bytes and begins with 48 65 6c 6c 6f 2c 20 77" } },
        { put_text("none", "config.json", "{\"model_type\": \"qwen2\"}"), APR_ECORRUPT, APR_NOWHERE, { "no \"weight_map\"" } },
        { put_text("none", "list.json", "[1, 2, 3, 4]"), APR_ECORRUPT, 0, { "begins with 5b 31" } },
        { test_path("none/at all"), APR_EIO, APR_NOWHERE, { "cannot open" } },
        { test_path("none"), APR_EIO, APR_NOWHERE, { "neither model.safetensors nor " INDEX " nor the stages of a trace" } },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        expect_failure(rows[i].path, rows[i].path, rows[i].code, rows[i].path, rows[i].at, rows[i].words);
}

/* ---- a folder and its index ---------------------------------------------------------------------------------------- */

static void a_checkpoint_is_read_by_its_folder_or_its_index(void **state)
{
    (void)state;
    static const char *const paths[] = { "fixtures/qwen2", "fixtures/qwen2/", ("fixtures/qwen2/" INDEX) };
    for (size_t i = 0; i < APR_LENGTH(paths); i++) {
        struct apr_model *m;
        struct apr_error e;
        if (apr_open(&m, paths[i], test_run_with(1), &e) != APR_OK)
            fail_msg("%s: %s: %s", paths[i], e.file, e.text);
        assert_int_equal(m->nfile, 3);
        assert_string_equal(m->format->name, "safetensors");
        for (size_t k = 0; k < 3; k++) {
            char shard[100];
            snprintf(shard, sizeof shard, "fixtures/qwen2/model-%05zu-of-00003.safetensors", k + 1);
            assert_string_equal(m->file[k]->path, shard);
        }
        const struct apr_tensor *first = apr_model_find(m, apr_text("model.embed_tokens.weight"));
        const struct apr_tensor *last = apr_model_find(m, apr_text("lm_head.weight"));
        assert_non_null(first);
        assert_non_null(last);
        assert_int_equal(first->file, 0);
        assert_int_equal(last->file, 2);
        uint64_t bytes = 0;
        for (size_t k = 0; k < m->ntensor; k++)
            bytes += m->tensor[k].data.n;
        assert_int_equal(bytes, 148608);                          /* total_size in the index */
        apr_close(m);
    }
}

static void an_index_beside_the_current_folder_is_followed(void **state)
{
    (void)state;
    char before[4096];
    assert_non_null(getcwd(before, sizeof before));
    put_text("here", "i.json", "\n" MAP("\"a\": \"2\", \"b\": \"1\""));
    put_letters("here", "1", "b");
    put_letters("here", "2", "a");
    assert_int_equal(chdir(test_path("here")), 0);
    struct apr_model *m = expect_letters("i.json", 2, "ba");
    assert_string_equal(m->file[0]->path, "1");
    apr_close(m);
    assert_int_equal(chdir(before), 0);
}

static void one_file_wins_over_an_index(void **state)
{
    (void)state;
    put_text("both", INDEX, MAP("\"a\": \"nowhere\""));
    put_letters("both", "model.safetensors", "xy");
    apr_close(expect_letters(test_path("both"), 1, "xy"));
}

static void a_config_lies_beside_its_checkpoint(void **state)
{
    (void)state;
    put_text("configured", "config.json", "{\"a\": 1}");
    const struct { const char *path, *config; } rows[] = {
        { "fixtures/qwen2", "fixtures/qwen2/config.json" },
        { ("fixtures/qwen2/" INDEX), "fixtures/qwen2/config.json" },
        { "fixtures/qwen2/model-00002-of-00003.safetensors", "fixtures/qwen2/config.json" },
        { put_letters("configured", "model.safetensors", "a"), test_path("configured/config.json") },
        { copy("fixtures/qwen2-q8_0.gguf", "configured", "a.gguf"), NULL },     /* it has its own */
        { put_letters("bare", "model.safetensors", "a"), NULL },
        { test_path("bare"), NULL },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_model *m;
        struct apr_error e;
        if (apr_open(&m, rows[i].path, test_run_with(1), &e) != APR_OK)
            fail_msg("%s: %s: %s", rows[i].path, e.file, e.text);
        assert_int_equal(m->config != NULL, rows[i].config != NULL);
        if (m->config != NULL) {
            assert_string_equal(m->config->path, rows[i].config);
            assert_int_equal(m->config->map.at[0], '{');
        }
        apr_close(m);
    }
}

static void an_index_and_its_shards_agree_or_are_named(void **state)
{
    (void)state;
    /* The shards "1", "2", "3" hold these letters; NULL: it is not there. In the index, ^ (left out) marks where it must be at fault.
     * file: whose fault it is. */
    static const struct { const char *what, *index, *shard[3]; enum apr_code code; const char *file, *words[4]; } rows[] = {
        { "a missing shard", MAP("\"a\": \"1\", ^\"b\": \"2\", \"c\": \"2\""), { "a" }, APR_EIO, INDEX,
          { "tensor \"b\"", "shard \"2\"", "is not there" } },
        { "a tensor in the wrong shard", MAP("\"a\": \"1\", ^\"b\": \"1\", \"c\": \"2\""), { "a", "bc" }, APR_ECORRUPT, INDEX,
          { "tensor \"b\" should be in shard \"1\", but is in \"2\"" } },
        { "a tensor that its shard lacks", MAP("\"a\": \"1\", ^\"b\": \"2\", \"c\": \"2\""), { "a", "c" }, APR_ECORRUPT, INDEX,
          { "tensor \"b\" should be in shard \"2\", which does not hold it" } },
        { "a tensor without a name", MAP("\"a\": \"1\", \"c\": \"2\""), { "a", "bc" }, APR_ECORRUPT, INDEX,
          { "shard \"2\" holds tensor \"b\", which the index does not name" } },
        { "a tensor in two shards", MAP("\"a\": \"1\", \"b\": \"2\""), { "a", "ba" }, APR_ECORRUPT, "2", { "tensor \"a\"", "twice" } },
        { "a tensor named twice", MAP("\"a\": \"1\", \"b\": \"1\", ^\"a\": \"1\""), { "ab" }, APR_ECORRUPT, INDEX,
          { "tensor \"a\" twice" } },
        { "a tensor named twice, once escaped", MAP("\"a\": \"1\", ^\"\\u0061\": \"1\""), { "a" }, APR_ECORRUPT, INDEX, { "twice" } },
        { "the folder above", MAP("\"a\": ^\"../1\""), { "a" }, APR_ECORRUPT, INDEX, { "\"../1\" is no file name for a shard" } },
        { "an absolute path", MAP("\"a\": ^\"/etc/passwd\""), { "a" }, APR_ECORRUPT, INDEX, { "is no file name" } },
        { "a folder within", MAP("\"a\": ^\"x\\/1\""), { "a" }, APR_ECORRUPT, INDEX, { "is no file name" } },
        { "this folder", MAP("\"a\": ^\".\""), { "a" }, APR_ECORRUPT, INDEX, { "is no file name" } },
        { "dots", MAP("\"a\": ^\"..\""), { "a" }, APR_ECORRUPT, INDEX, { "is no file name" } },
        { "standard input", MAP("\"a\": ^\"-\""), { "a" }, APR_ECORRUPT, INDEX, { "is no file name" } },
        { "no file name", MAP("\"a\": ^\"\""), { "a" }, APR_ECORRUPT, INDEX, { "is no file name" } },
        { "a NUL", MAP("\"a\": ^\"1\\u0000\""), { "a" }, APR_ECORRUPT, INDEX, { "\"1\\x00\" is no file name" } },
        { "the index as a shard", MAP("\"a\": \"" INDEX "\""), { "a" }, APR_ECORRUPT, INDEX, { "is no SafeTensors" } },
        { "no weight_map", "{\"metadata\": {}}", { "a" }, APR_ECORRUPT, INDEX, { "no \"weight_map\"" } },
        { "an empty weight_map", MAP(""), { "a" }, APR_ECORRUPT, INDEX, { "names no tensor" } },
        { "a list for a weight_map", "{\"weight_map\": ^[\"a\"]}", { "a" }, APR_ECORRUPT, INDEX, { NULL } },
        { "null for a weight_map", "{\"weight_map\": ^null}", { "a" }, APR_ECORRUPT, INDEX, { NULL } },
        { "null for a shard", MAP("\"a\": ^null"), { "a" }, APR_ECORRUPT, INDEX, { NULL } },
        { "a number below zero", MAP("\"a\": ^-1"), { "a" }, APR_ECORRUPT, INDEX, { NULL } },
        { "an object for a shard", MAP("\"a\": ^{}"), { "a" }, APR_ECORRUPT, INDEX, { NULL } },
        { "half an index", "{\"weight_map\": {\"a\": \"1\"", { "a" }, APR_ECORRUPT, INDEX, { NULL } },
        { "more behind it", MAP("\"a\": \"1\"") " ^x", { "a" }, APR_ECORRUPT, INDEX, { NULL } },
        { "a number without shards", MAP("\"a\": ^0"), { "a" }, APR_ECORRUPT, INDEX, { "no list \"shards\"" } },
        { "a number too large", "{\"shards\": [{\"filename\": \"1\"}], \"weight_map\": {\"a\": 0, \"b\": ^1}}", { "ab" }, APR_ECORRUPT,
          INDEX, { "shard number 1, but \"shards\" has 1 entries" } },
        { "a huge number", "{\"shards\": [], \"weight_map\": {\"a\": ^18446744073709551615}}", { "a" }, APR_ECORRUPT, INDEX,
          { "has 0 entries" } },
        { "a shard without a file", "{\"weight_map\": {\"a\": 0}, \"shards\": [^{\"index\": 0}]}", { "a" }, APR_ECORRUPT, INDEX,
          { "shard number 0 has no \"filename\"" } },
        { "a number for a file", "{\"weight_map\": {\"a\": 0}, \"shards\": [{\"filename\": ^7}]}", { "a" }, APR_ECORRUPT, INDEX, { NULL } },
        { "a way out by number", "{\"weight_map\": {\"a\": ^0}, \"shards\": [{\"filename\": \"../1\"}]}", { "a" }, APR_ECORRUPT, INDEX,
          { "\"../1\" is no file name" } },
        { "shards that are no list", "{\"weight_map\": {\"a\": 0}, \"shards\": ^{\"filename\": \"1\"}}", { "a" }, APR_ECORRUPT, INDEX,
          { NULL } },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char folder[32];
        snprintf(folder, sizeof folder, "index-%zu", i);
        struct test_bytes index = { 0 };
        const char *mark = strchr(rows[i].index, '^');
        const uint64_t at = mark != NULL ? (uint64_t)(mark - rows[i].index) : APR_NOWHERE;
        test_put(&index, rows[i].index, mark != NULL ? (size_t)at : strlen(rows[i].index));
        test_text(&index, mark != NULL ? mark + 1 : "");
        put_file(folder, INDEX, &index);
        for (size_t k = 0; k < 3; k++)
            if (rows[i].shard[k] != NULL)
                put_letters(folder, (const char *[]){ "1", "2", "3" }[k], rows[i].shard[k]);
        expect_failure(rows[i].what, test_path(folder), rows[i].code, in(folder, rows[i].file), at, rows[i].words);
        expect_failure(rows[i].what, in(folder, INDEX), rows[i].code, in(folder, rows[i].file), at, rows[i].words);
        test_free(&index);
    }
}

static void a_broken_shard_is_named_itself(void **state)
{
    (void)state;
    const char *const index = MAP("\"a\": \"1\", \"b\": \"2\"");
    put_text("broken", INDEX, index);
    put_letters("broken", "1", "a");
    put_text("broken", "2", "no model");
    expect_failure("garbage", test_path("broken"), APR_ECORRUPT, in("broken", "2"), 0, (const char *[4]){ "is no SafeTensors" });
    put_text("folder", INDEX, index);
    put_letters("folder", "1", "a");
    put_letters("folder/2", "model.safetensors", "b");
    expect_failure("a folder", test_path("folder"), APR_EIO, in("folder", "2"), APR_NOWHERE, (const char *[4]){ "is a folder" });
    put_text("mixed", INDEX, index);
    put_letters("mixed", "1", "a");
    copy("fixtures/qwen2-q8_0.gguf", "mixed", "2");
    expect_failure("two formats", test_path("mixed"), APR_ECORRUPT, in("mixed", "2"), 0,
                   (const char *[4]){ "is a file of format gguf", in("mixed", "1"), "is of format safetensors" });
}

static void an_index_is_known_by_its_first_bytes(void **state)
{
    (void)state;
    static const struct { const char *bytes; size_t n; bool is; } rows[] = {
        { "", 0, false },
        { "{", 1, true },
        { "{}", 2, true },
        { " \t\r\n{\"", 6, true },
        { "            {\"", 14, true },
        { "     ", 5, false },
        { "[{}]", 4, false },
        { "\xef\xbb\xbf{}", 5, false },
        { "{\0\0\0\0\0\0\0{\"a\":{}}", 16, false },              /* SafeTensors, with a header of 123 bytes */
        { " {\0\0\0\0\0\0{\"a\":{}}", 16, false },
        { "{\"a\":1}\0", 8, false },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        if (apr_is_shard_index((struct apr_bytes){ (const unsigned char *)rows[i].bytes, rows[i].n }) != rows[i].is)
            fail_msg("row %zu", i);
}

static void a_manifest_names_its_shards_by_number(void **state)
{
    (void)state;
    static const char metadata[] = "{\"name\": \"x\"}";
    put_apr("manifest", "x-00001-of-00002.apr", metadata, "ac");
    put_apr("manifest", "x-00002-of-00002.apr", metadata, "b");
    put_text("manifest", "x.json",
             "{\"version\": \"2.0\", \"shard_count\": 2, \"weight_map\": {\"a\": 1, \"b\": 0, \"c\": 1}, \"shards\": ["
             "{\"index\": 0, \"filename\": \"x-00002-of-00002.apr\", \"tensors\": [\"b\"]},"
             "{\"filename\": \"x-0000\\u0031-of-00002.apr\", \"tensors\": [\"a\", {\"filename\": \"no\"}]}]}");
    struct apr_model *m = expect_letters(in("manifest", "x.json"), 2, "acb");
    assert_string_equal(m->format->name, "apr");
    apr_close(m);
}

static void a_large_manifest_is_read_in_one_pass(void **state)
{
    (void)state;
    enum { N = 30000 };
    struct test_bytes index = { 0 };
    char entry[64];
    test_text(&index, "{\"shards\": [");
    for (unsigned i = 0; i < N; i++)
        test_text(&index, i == 0 ? "{\"filename\":\"1\"}" : ",{\"filename\":\"1\"}");
    test_text(&index, "], \"weight_map\": {");
    for (unsigned i = 0; i < N; i++) {
        snprintf(entry, sizeof entry, "%s\"%u\":%d", i ? "," : "", i, N - 1);
        test_text(&index, entry);
    }
    test_text(&index, "}}");
    const char *path = put_file("large", "i.json", &index);
    put_letters("large", "1", "0");
    expect_failure("a large manifest", path, APR_ECORRUPT, path, APR_NOWHERE, (const char *[4]){ "tensor \"1\" should be in shard \"1\"" });
    test_free(&index);
}

/* ---- siblings by number -------------------------------------------------------------------------------------------- */

static void any_shard_of_a_split_stands_for_the_whole(void **state)
{
    (void)state;
    struct apr_model *whole;
    struct apr_error e;
    assert_int_equal(apr_open(&whole, "fixtures/qwen2-q8_0.gguf", test_run_with(1), &e), APR_OK);
    for (unsigned i = 1; i <= 3; i++) {
        char path[64];
        snprintf(path, sizeof path, "fixtures/split/qwen2-%05u-of-00003.gguf", i);
        struct apr_model *m;
        if (apr_open(&m, path, test_run_with(1), &e) != APR_OK)
            fail_msg("%s: %s: %s", path, e.file, e.text);
        assert_int_equal(m->nfile, 3);
        assert_string_equal(m->file[0]->path, "fixtures/split/qwen2-00001-of-00003.gguf");
        assert_string_equal(m->file[2]->path, "fixtures/split/qwen2-00003-of-00003.gguf");
        assert_int_equal(m->ntensor, whole->ntensor);
        for (size_t k = 0; k < m->ntensor; k++) {
            const struct apr_tensor *one = apr_model_find(whole, m->tensor[k].name);
            assert_non_null(one);
            assert_ptr_equal(one->dtype, m->tensor[k].dtype);
            assert_true(apr_bytes_equal(one->data, m->tensor[k].data));
        }
        apr_close(m);
    }
    apr_close(whole);
}

static void shards_of_apr_are_found_by_number_too(void **state)
{
    (void)state;
    const char *const shard[] = {
        put_apr("apr", "x-00001-of-00003.apr", "{\"sharding\": {\"shard_count\": 3, \"shard_index\": 0}}", "c"),
        put_apr("apr", "x-00002-of-00003.apr", "{\"sharding\": {\"shard_count\": 3, \"shard_index\": 1}}", "ab"),
        put_apr("apr", "x-00003-of-00003.apr", "{\"sharding\": {\"shard_count\": 3, \"shard_index\": 2}}", "d"),
    };
    for (size_t i = 0; i < 3; i++)
        apr_close(expect_letters(shard[i], 3, "cabd"));
}

static void shards_that_cannot_be_found_are_told(void **state)
{
    (void)state;
    static const char *const split[] = {
        "fixtures/split/qwen2-00001-of-00003.gguf", "fixtures/split/qwen2-00002-of-00003.gguf", "fixtures/split/qwen2-00003-of-00003.gguf",
    };
    static const char second[] = "{\"sharding\": {\"shard_count\": 3, \"shard_index\": 1}}";
    copy(split[0], "holes", "m-00001-of-00003.gguf");
    copy(split[2], "holes", "m-00003-of-00003.gguf");
    copy(split[0], "strange", "m-00002-of-00003.gguf");
    copy(split[1], "strange", "m-00001-of-00003.gguf");
    copy(split[0], "mixed", "m-00001-of-00003.gguf");
    put_letters("mixed", "m-00002-of-00003.gguf", "a");
    const struct { const char *what, *path, *file; enum apr_code code; const char *words[4]; } rows[] = {
        { "a hole", in("holes", "m-00001-of-00003.gguf"), NULL, APR_EIO, { "shard 2 of 3", "m-00002-of-00003.gguf\", is not there" } },
        { "a hole before", in("holes", "m-00003-of-00003.gguf"), NULL, APR_EIO,
          { "shard 2 of 3", "m-00002-of-00003.gguf\", is not there" } },
        { "no number", copy(split[1], "names", "m.gguf"), NULL, APR_ECORRUPT,
          { "is shard 2 of 3", "does not end in -00002-of-00003.gguf", "cannot be found" } },
        { "a number alone", copy(split[0], "names", "-00001-of-00003.gguf"), NULL, APR_EIO, { "shard 2 of 3", "is not there" } },
        { "another suffix", copy(split[0], "names", "m-00001-of-00003.bin"), NULL, APR_ECORRUPT, { "does not end in" } },
        { "a suffix behind", copy(split[0], "names", "m-00001-of-00003.gguf.part"), NULL, APR_ECORRUPT, { "does not end in" } },
        { "another count", copy(split[0], "names", "m-00001-of-00004.gguf"), NULL, APR_ECORRUPT, { "does not end in" } },
        { "another number", in("strange", "m-00002-of-00003.gguf"), NULL, APR_ECORRUPT, { "is shard 1 of 3", "-00001-of-00003.gguf" } },
        { "letters", copy(split[0], "names", "m-0000a-of-00003.gguf"), NULL, APR_ECORRUPT, { "does not end in" } },
        { "four digits", copy(split[0], "names", "m-0001-of-00003.gguf"), NULL, APR_ECORRUPT, { "does not end in" } },
        { "another format", in("mixed", "m-00001-of-00003.gguf"), in("mixed", "m-00002-of-00003.gguf"), APR_ECORRUPT,
          { "is a file of format safetensors", "of format gguf" } },
        { "a hole in APR", put_apr("holes", "x-00002-of-00003.apr", second, "a"), NULL, APR_EIO, { "shard 1 of 3" } },
        { "APR without a number", put_apr("names", "x.apr", second, "a"), NULL, APR_ECORRUPT, { "does not end in -00002-of-00003.apr" } },
        { "more than there can be", put_apr("names", "y.apr", "{\"sharding\": {\"shard_count\": 65537, \"shard_index\": 1}}", "a"), NULL,
          APR_ECORRUPT, { "shard 1 of 65537" } },
        { "a number beyond", put_apr("names", "z.apr", "{\"sharding\": {\"shard_count\": 3, \"shard_index\": 3}}", "a"), NULL, APR_ECORRUPT,
          { "shard 3 of 3" } },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        expect_failure(rows[i].what, rows[i].path, rows[i].code, rows[i].file != NULL ? rows[i].file : rows[i].path, APR_NOWHERE,
                       rows[i].words);
}

/* ---- traces -------------------------------------------------------------------------------------------------------- */

static const char *put_stage(const char *folder, const char *name, uint32_t layer)
{
    struct test_bytes b = { 0 };
    test_text(&b, "APRT");
    test_integer(&b, layer, 4);
    test_integer(&b, 1, 4);
    test_integer(&b, 0, 4);
    const char *path = put_file(folder, name, &b);
    test_free(&b);
    return path;
}

static void expect_stages(const char *path, const char *const *stages, size_t n)
{
    struct apr_model *m;
    struct apr_error e;
    if (apr_open(&m, path, test_run_with(1), &e) != APR_OK)
        fail_msg("%s: %s: %s", path, e.file, e.text);
    assert_string_equal(m->format->name, "aprt");
    assert_int_equal(m->nfile, n);
    assert_int_equal(m->ntensor, n);
    for (size_t i = 0; i < n; i++)
        if (!apr_bytes_equal(m->tensor[i].name, apr_text(stages[i])))
            fail_msg("%s: stage %zu is %s, not %s", path, i, APR_QUOTED(m->tensor[i].name), stages[i]);
    apr_close(m);
}

static void a_trace_is_read_in_computation_order(void **state)
{
    (void)state;
    static const char *const fixture[] = {
        "layer-0/embedding", "layer-0/attn_norm", "layer-0/attn_out", "layer-0/ffn_out", "layer-1/attn_norm", "layer-1/attn_out",
        "layer-1/ffn_out", "final_norm", "lm_head",
    };
    expect_stages("fixtures/trace", fixture, APR_LENGTH(fixture));
    expect_stages("fixtures/trace/layer-1", fixture + 4, 3);
    expect_stages("fixtures/trace/lm_head.bin", fixture + 8, 1);

    static const char *const made[] = { "layer-2/attn_norm", "layer-2/layer_output", "layer-10/attn_norm", "lm_head", "z" };
    put_stage("made", "layer-10/attn_norm.bin", 10);
    put_stage("made", "z.bin", UINT32_MAX);
    put_stage("made", "lm_head.bin", UINT32_MAX);
    put_stage("made", "layer-2/layer_output.bin", 2);
    put_stage("made", "layer-2/attn_norm.bin", 2);
    put_text("made", "layer-2/notes.txt", "no stage");
    put_text("made", "layer-2/layer-2/deeper.bin", "no stage");
    put_text("made", "layer-notes", "no folder");
    put_text("made", "other/stage.bin", "no stage");
    put_text("made", "config.json", "{}");
    put_text("made", ".bin", "no name");
    expect_stages(test_path("made"), made, APR_LENGTH(made));
}

/* Whatever order the folder lists them in. */
static void folders_of_one_layer_have_one_order(void **state)
{
    (void)state;
    static const char *const stages[] = {
        "layer-0/a", "layer-1/a", "layer-2/a", "layer-3/a", "layer-4/a", "layer-5/a", "layer-6/a", "layer-7/a",
    };
    static const char *const files[] = {
        "layer-00000003/a.bin", "layer-0000003/a.bin", "layer-000003/a.bin", "layer-00003/a.bin", "layer-0003/a.bin", "layer-003/a.bin",
        "layer-03/a.bin", "layer-3/a.bin",
    };
    for (size_t i = 0; i < APR_LENGTH(files); i++)
        put_stage("spelled", files[i], (uint32_t)i);
    expect_stages(test_path("spelled"), stages, APR_LENGTH(stages));
}

static void traces_without_stages_are_told(void **state)
{
    (void)state;
    const struct { const char *what, *folder, *file; enum apr_code code; const char *words[4]; } rows[] = {
        { "no stage", (put_text("t0", "layer-0/readme", ""), "t0"), "", APR_EIO, { "nor the stages of a trace" } },
        { "no trace", (put_text("t1", "pytorch_model.bin", "PK\3\4 weights"), "t1"), "/pytorch_model.bin", APR_ECORRUPT,
          { "PyTorch" } },
        { "half a stage", (put_text("t2", "layer-0/a.bin", "APRT..."), "t2"), "/layer-0/a.bin", APR_ECORRUPT, { NULL } },
        { "a folder of that name", (put_text("t3", "layer-0/a.bin/x", ""), "t3"), "/layer-0/a.bin", APR_EIO, { "is a folder" } },
        { "a model among stages", (put_stage("t4", "a.bin", 0), put_letters("t4", "b.bin", "x"), "t4"), "/b.bin", APR_ECORRUPT,
          { "is a file of format safetensors", "t4/a.bin is of format aprt" } },
        { "one stage twice", (put_stage("t5", "layer-0/a.bin", 1), put_stage("t5", "layer-1/a.bin", 1), "t5"), "/layer-1/a.bin",
          APR_ECORRUPT, { "tensor \"layer-1/a\"", "twice" } },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char file[64];
        snprintf(file, sizeof file, "%s%s", rows[i].folder, rows[i].file);
        expect_failure(rows[i].what, test_path(rows[i].folder), rows[i].code, test_path(file), APR_NOWHERE, rows[i].words);
    }
}

/* ---- what is no file ----------------------------------------------------------------------------------------------- */

/* Each kind of file that opening a model looks for by itself, as a pipe which nobody writes: it is named, and not waited for. */
static void what_is_looked_for_must_be_a_file(void **state)
{
    (void)state;
    const struct { const char *folder, *file, *opened; } rows[] = {
        { "f0", "model.safetensors", "" },
        { "f1", INDEX, "" },
        { (put_text("f2", INDEX, MAP("\"a\": \"1\", \"b\": \"2\"")), put_letters("f2", "1", "a"), "f2"), "2", "" },
        { (put_letters("f3", "model.safetensors", "a"), "f3"), "config.json", "" },
        { (put_letters("f4", "any.safetensors", "a"), "f4"), "config.json", "/any.safetensors" },
        { (copy("fixtures/split/qwen2-00001-of-00003.gguf", "f5", "q-00001-of-00003.gguf"), "f5"), "q-00002-of-00003.gguf",
          "/q-00001-of-00003.gguf" },
        { (put_stage("f6", "layer-0/a.bin", 0), "f6"), "layer-0/b.bin", "" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char opened[100];
        snprintf(opened, sizeof opened, "%s%s", rows[i].folder, rows[i].opened);
        assert_true(mkdir(test_path(rows[i].folder), 0777) == 0 || errno == EEXIST);
        const char *const path = in(rows[i].folder, rows[i].file);
        assert_int_equal(mkfifo(path, 0600), 0);
        expect_failure(rows[i].file, test_path(opened), APR_EIO, path, APR_NOWHERE, (const char *[4]){ "is a pipe, not a file" });
        assert_int_equal(unlink(path), 0);
        assert_int_equal(symlink("nowhere", path), 0);
        expect_failure(rows[i].file, test_path(opened), APR_EIO, path, APR_NOWHERE, (const char *[4]){ "is a link to \"nowhere\"" });
    }
}

static void an_index_and_a_config_have_a_greatest_length(void **state)
{
    (void)state;
    const struct { const char *folder, *file; off_t n; } rows[] = {
        { "g0", INDEX, ((off_t)256 << 20) + 1 },
        { (put_letters("g1", "model.safetensors", "a"), "g1"), "config.json", ((off_t)16 << 20) + 1 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *const path = put_text(rows[i].folder, rows[i].file, "{       ");
        assert_int_equal(truncate(path, rows[i].n), 0);
        expect_failure(rows[i].file, test_path(rows[i].folder), APR_ELIMIT, path, APR_NOWHERE, (const char *[4]){ "at most" });
    }
    expect_failure("an index that was named", in("g0", INDEX), APR_ELIMIT, in("g0", INDEX), APR_NOWHERE, (const char *[4]){ "at most" });
}

/* ---- standard input ------------------------------------------------------------------------------------------------ */

static int stdin_from(int fd)
{
    const int before = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    assert_true(before >= 0);
    assert_int_equal(dup2(fd, STDIN_FILENO), STDIN_FILENO);
    close(fd);
    return before;
}

static int pipe_of(const struct test_bytes *b)                    /* which fits a pipe */
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(write(ends[1], b->at, b->n), b->n);
    close(ends[1]);
    return ends[0];
}

static void a_dash_is_standard_input(void **state)
{
    (void)state;
    struct test_bytes sound = letters("abc"), split = test_load("fixtures/split/qwen2-00002-of-00003.gguf"), none = { 0 };
    test_put(&none, "", 0);
    int before = stdin_from(pipe_of(&sound));
    apr_close(expect_letters("-", 1, "abc"));
    expect_failure("read to its end", "-", APR_ECORRUPT, "-", 0, (const char *[4]){ "is empty" });
    close(stdin_from(pipe_of(&split)));
    expect_failure("one shard", "-", APR_ECORRUPT, "-", APR_NOWHERE, (const char *[4]){ "is shard 2 of 3", "cannot be found" });
    close(stdin_from(pipe_of(&none)));
    expect_failure("nothing", "-", APR_ECORRUPT, "-", 0, (const char *[4]){ "is empty" });
    close(stdin_from(open("fixtures/qwen2", O_RDONLY | O_CLOEXEC)));
    expect_failure("a folder", "-", APR_EIO, "-", APR_NOWHERE, (const char *[4]){ "is a folder" });
    close(stdin_from(before));
    test_free(&sound);
    test_free(&split);
    test_free(&none);
}

static void a_shard_alone_says_that_there_is_more(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        size_t      notes;
    } rows[] = { { "fixtures/qwen2/model-00002-of-00003.safetensors", 1 }, { "fixtures/qwen2", 0 }, { "fixtures/qwen2/" INDEX, 0 } };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_model *m;
        struct apr_error e;
        size_t n = 0;
        assert_int_equal(apr_open(&m, rows[i].path, test_run_with(1), &e), APR_OK);
        for (size_t k = 0; k < m->nnote; k++)
            n += strcmp(m->note[k].code, "index.beside") == 0;
        assert_int_equal(n, rows[i].notes);
        apr_close(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shard_alone_says_that_there_is_more),
        cmocka_unit_test(formats_are_known_by_content),
        cmocka_unit_test(other_files_are_no_models),
        cmocka_unit_test(a_checkpoint_is_read_by_its_folder_or_its_index),
        cmocka_unit_test(an_index_beside_the_current_folder_is_followed),
        cmocka_unit_test(one_file_wins_over_an_index),
        cmocka_unit_test(a_config_lies_beside_its_checkpoint),
        cmocka_unit_test(an_index_and_its_shards_agree_or_are_named),
        cmocka_unit_test(a_broken_shard_is_named_itself),
        cmocka_unit_test(an_index_is_known_by_its_first_bytes),
        cmocka_unit_test(a_manifest_names_its_shards_by_number),
        cmocka_unit_test(a_large_manifest_is_read_in_one_pass),
        cmocka_unit_test(any_shard_of_a_split_stands_for_the_whole),
        cmocka_unit_test(shards_of_apr_are_found_by_number_too),
        cmocka_unit_test(shards_that_cannot_be_found_are_told),
        cmocka_unit_test(a_trace_is_read_in_computation_order),
        cmocka_unit_test(folders_of_one_layer_have_one_order),
        cmocka_unit_test(traces_without_stages_are_told),
        cmocka_unit_test(what_is_looked_for_must_be_a_file),
        cmocka_unit_test(an_index_and_a_config_have_a_greatest_length),
        cmocka_unit_test(a_dash_is_standard_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
