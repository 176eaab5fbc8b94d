/* lib/model/imatrix.h: importance matrices in llama.cpp's two forms. The quotients of the fixtures are numpy's; how counts are rounded, and
 * what a count of 0 means, is llama-quantize's. */
#include "support.h"

#include <math.h>
#include <stdio.h>

#include "base/bytes.h"
#include "model/imatrix.h"

#define GGUF_FILE "fixtures/qwen2.imatrix.gguf"
#define DAT_FILE  "fixtures/qwen2.imatrix.dat"

static struct apr_imatrix *opened(const char *path)
{
    struct apr_imatrix *im;
    struct apr_error e;
    if (apr_imatrix_open(&im, path, test_run_with(1), &e) != APR_OK)
        fail_msg("%s: %s", path, e.text);
    return im;
}

static void refused(const char *path, enum apr_code code, uint64_t at, const char *words)
{
    struct apr_imatrix *im;
    struct apr_error e = { 0 };
    const enum apr_code got = apr_imatrix_open(&im, path, test_run_with(1), &e);
    if (got != code || (at != APR_NOWHERE && e.at != at) || strstr(e.text, words) == NULL || strstr(e.file, path) == NULL)
        fail_msg("%s: expected %s at %llu, \"%s\"; got %s at %llu, %s: %s", path, apr_code_word(code), (unsigned long long)at, words,
                 apr_code_word(got), (unsigned long long)e.at, e.file, e.text);
    assert_null(im);
}

static void refused_bytes(const char *what, const struct test_bytes *b, enum apr_code code, uint64_t at, const char *words)
{
    refused(test_file(what, b->at, b->n), code, at, words);
}

/* ---- files ---------------------------------------------------------------------------------------------------------- */

struct tensor {
    const char *name;
    uint64_t    ncol, nrow;
    float       v[8];
    unsigned    type; /* 0: F32 */
};

static void put_string(struct test_bytes *b, const char *text)
{
    test_integer(b, strlen(text), 8);
    test_text(b, text);
}

/* What llama-quantize wants to find, unless it is `without`. */
static void put_keys(struct test_bytes *b, const char *without)
{
    static const char *const number[] = { "imatrix.chunk_count", "imatrix.chunk_size" };
    if (strcmp(without, "general.type") != 0) {
        put_string(b, "general.type");
        test_integer(b, APR_META_STRING, 4);
        put_string(b, "imatrix");
    }
    if (strcmp(without, "imatrix.datasets") != 0) {
        put_string(b, "imatrix.datasets");
        test_integer(b, APR_META_ARRAY, 4);
        test_integer(b, APR_META_STRING, 4);
        test_integer(b, 1, 8);
        put_string(b, "a.txt");
    }
    for (size_t i = 0; i < APR_LENGTH(number); i++) {
        if (strcmp(without, number[i]) == 0)
            continue;
        put_string(b, number[i]);
        test_integer(b, APR_META_U32, 4);
        test_integer(b, 9, 4);
    }
}

/* A GGUF; *data: where its data begins. */
static struct test_bytes gguf(const struct tensor *t, size_t n, const char *without, bool big, size_t *data)
{
    struct test_bytes b = { .big = big };
    size_t offset = 0;
    test_text(&b, "GGUF");
    test_integer(&b, 3, 4);
    test_integer(&b, n, 8);
    test_integer(&b, *without != 0 ? 3 : 4, 8);
    put_keys(&b, without);
    for (size_t i = 0; i < n; i++, offset += 32) {
        put_string(&b, t[i].name);
        test_integer(&b, 2, 4);
        test_integer(&b, t[i].ncol, 8);
        test_integer(&b, t[i].nrow, 8);
        test_integer(&b, t[i].type, 4);
        test_integer(&b, offset, 8);
    }
    *data = test_align(&b, 32);
    *data = b.n;
    for (size_t i = 0; i < n; i++) {
        if (t[i].type == 0)
            test_floats(&b, t[i].v, t[i].ncol * t[i].nrow);
        else
            test_zeros(&b, 2 * t[i].ncol * t[i].nrow);
        test_align(&b, 32);
    }
    return b;
}

static void put_dat_entry(struct test_bytes *b, const char *name, uint32_t calls, const float *v, uint32_t n)
{
    test_integer(b, strlen(name), 4);
    test_text(b, name);
    test_integer(b, calls, 4);
    test_integer(b, n, 4);
    test_floats(b, v, n);
}

static void holds(const struct apr_imatrix *im, const char *name, const float *wanted, size_t n)
{
    float got[8];
    const struct apr_imatrix_entry *const x = apr_imatrix_find(im, apr_text(name));
    assert_non_null(x);
    assert_int_equal(x->n, n);
    apr_imatrix_weights(x, 0, n, got);
    assert_memory_equal(got, wanted, n * sizeof *wanted);
}

/* ---- what is read --------------------------------------------------------------------------------------------------- */

static void both_forms_give_the_weights_that_numpy_gives(void **state)
{
    (void)state;
    struct apr_imatrix *const a = opened(GGUF_FILE), *const b = opened(DAT_FILE);
    float x[3 * 96], y[3 * 96];
    assert_int_equal(a->nentry, 17);
    assert_int_equal(b->nentry, 17);
    for (size_t i = 0; i < a->nentry; i++) {
        assert_true(apr_bytes_equal(a->entry[i].name, b->entry[i].name));
        assert_int_equal(a->entry[i].n, b->entry[i].n);
        apr_imatrix_weights(&a->entry[i], 0, a->entry[i].n, x);
        apr_imatrix_weights(&b->entry[i], 0, a->entry[i].n, y);
        assert_memory_equal(x, y, a->entry[i].n * sizeof *x);
        assert_ptr_equal(apr_imatrix_find(a, a->entry[i].name), &a->entry[i]);
    }
    assert_int_equal(apr_imatrix_find(a, apr_text("blk.1.ffn_down.weight"))->n, 96);
    assert_int_equal(apr_imatrix_find(a, apr_text("blk.0.ffn_up_exps.weight"))->ncount, 3);
    assert_null(apr_imatrix_find(a, apr_text("blk.1.ffn_down")));
    assert_null(apr_imatrix_find(a, apr_text("")));
    assert_true(apr_digest_equal(a->digest, b->digest));
    assert_int_equal(a->chunks, 4);
    assert_int_equal(b->chunks, 4);
    assert_int_equal(a->ndataset, 2);
    assert_int_equal(b->ndataset, 1);
    assert_true(apr_bytes_is(a->dataset[1], "second.txt"));
    assert_true(apr_bytes_is(b->dataset[0], "first.txt"));
    apr_imatrix_close(a);
    apr_imatrix_close(b);
    apr_imatrix_close(NULL);
}

static void pieces_are_cut_out_of_the_same_weights(void **state)
{
    (void)state;
    struct apr_imatrix *const im = opened(GGUF_FILE);
    const struct apr_imatrix_entry *const x = apr_imatrix_find(im, apr_text("blk.0.ffn_up_exps.weight"));
    float whole[192], piece[192];
    apr_imatrix_weights(x, 0, 192, whole);
    for (uint64_t first = 0; first <= 192; first += 13)
        for (uint64_t n = 0; n <= 192 - first; n += 11) {
            apr_imatrix_weights(x, first, n, piece);
            assert_memory_equal(piece, whole + first, n * sizeof *whole);
        }
    apr_imatrix_close(im);
}

/* As C's lround rounds; what was not counted weighs 1. */
static void counts_are_rounded_and_what_was_not_counted_weighs_one(void **state)
{
    (void)state;
    static const struct tensor t[] = {
        { "e.in_sum2", 1, 7, { 6, 6, 6, 6, 6, 6, 0 }, 0 }, { "e.counts", 1, 7, { 0.49f, 0.5f, 1.5f, 2.5f, 0, -3, 1 }, 0 },
        { "one.counts", 1, 1, { 4 }, 0 }, { "remark", 2, 1, { NAN, -1 }, 0 }, { "one.in_sum2", 2, 2, { 1, 2, 3, 4 }, 0 },
    };
    static const float e[] = { 1, 6, 3, 2, 1, 1, 0 }, one[] = { 0.25f, 0.5f, 0.75f, 1 };
    struct apr_digest digest[2];
    size_t data;
    for (unsigned big = 0; big < 2; big++) {
        struct test_bytes b = gguf(t, APR_LENGTH(t), "", big, &data);
        struct apr_imatrix *const im = opened(test_file("counts.gguf", b.at, b.n));
        assert_int_equal(im->nentry, 2);
        holds(im, "e", e, 7);
        holds(im, "one", one, 4);
        digest[big] = im->digest;
        apr_imatrix_close(im);
        test_free(&b);
    }
    assert_true(apr_digest_equal(digest[0], digest[1]));
}

static void a_dat_of_no_calls_holds_weights_as_they_are(void **state)
{
    (void)state;
    static const float v[] = { 1, 2.5f, 0 }, third[] = { 1 / 3.0f, 2.5f / 3.0f, 0 };
    static const uint32_t calls[] = { 0, (uint32_t)-5, 1, 3 };
    for (size_t i = 0; i < APR_LENGTH(calls); i++) {
        struct test_bytes b = { 0 };
        test_integer(&b, 1, 4);
        put_dat_entry(&b, "a", calls[i], v, 3);
        struct apr_imatrix *const im = opened(test_file("calls.dat", b.at, b.n));
        holds(im, "a", calls[i] == 3 ? third : v, 3);
        assert_int_equal(im->ndataset, 0);
        assert_int_equal(im->chunks, 0);
        apr_imatrix_close(im);
        test_free(&b);
    }
}

static void another_weight_or_name_is_another_digest(void **state)
{
    (void)state;
    static const struct { const char *name; float v[2]; } rows[] = {
        { "a", { 1, 2 } }, { "b", { 1, 2 } }, { "a", { 2, 1 } }, { "a", { 1, 0 } },
    };
    struct apr_digest digest[APR_LENGTH(rows)];
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_bytes b = { 0 };
        test_integer(&b, 1, 4);
        put_dat_entry(&b, rows[i].name, 1, rows[i].v, 2);
        struct apr_imatrix *const im = opened(test_file("digest.dat", b.at, b.n));
        digest[i] = im->digest;
        for (size_t k = 0; k < i; k++)
            assert_false(apr_digest_equal(digest[i], digest[k]));
        apr_imatrix_close(im);
        test_free(&b);
    }
}

static void an_entry_that_does_not_fit_names_its_tensor_and_both_lengths(void **state)
{
    (void)state;
    struct apr_imatrix *const im = opened(GGUF_FILE);
    const struct apr_imatrix_entry *x;
    struct apr_error e;
    const struct apr_bytes q = apr_text("blk.0.attn_q.weight"), experts = apr_text("blk.0.ffn_up_exps.weight");
    assert_int_equal(apr_imatrix_of(im, q, 64, 1, &x, &e), APR_OK);
    assert_ptr_equal(x, apr_imatrix_find(im, q));
    assert_int_equal(apr_imatrix_of(im, experts, 64, 3, &x, &e), APR_OK);
    assert_non_null(x);
    assert_int_equal(apr_imatrix_of(im, apr_text("blk.7.attn_q.weight"), 64, 1, &x, &e), APR_OK);
    assert_null(x);
    assert_int_equal(apr_imatrix_of(im, apr_text("token_embd.weight"), 63, 1, &x, &e), APR_OK);
    assert_null(x);
    assert_int_equal(apr_imatrix_of(im, apr_text("token_embd.weight"), 64, 1, &x, &e), APR_OK);
    assert_non_null(x);
    assert_int_equal(apr_imatrix_of(im, q, 96, 1, &x, &e), APR_EARG);
    assert_null(x);
    assert_string_equal(e.text, "tensor \"blk.0.attn_q.weight\": the importance matrix has 64 weights for it, expected 96 for 96 columns "
                                "of 1 matrix");
    assert_string_equal(e.file, GGUF_FILE);
    assert_int_equal(apr_imatrix_of(im, experts, 64, 4, &x, &e), APR_EARG);
    assert_non_null(strstr(e.text, "has 192 weights for it, expected 256 for 64 columns of 4 matrices"));
    assert_int_equal(apr_imatrix_of(im, experts, 64, 1, &x, &e), APR_EARG);
    assert_int_equal(apr_imatrix_of(im, experts, UINT64_MAX, 3, &x, &e), APR_EARG);
    apr_imatrix_close(im);
}

static void a_file_that_changes_meanwhile_is_told(void **state)
{
    (void)state;
    struct test_bytes b = test_load(DAT_FILE);
    struct apr_error e;
    const char *const path = test_file("changing.dat", b.at, b.n);
    struct apr_imatrix *const im = opened(path);
    assert_int_equal(apr_imatrix_unchanged(im, &e), APR_OK);
    test_file("changing.dat", b.at, b.n - 4);
    assert_int_equal(apr_imatrix_unchanged(im, &e), APR_EIO);
    assert_string_equal(e.file, path);
    apr_imatrix_close(im);
    test_free(&b);
}

/* ---- what is refused ------------------------------------------------------------------------------------------------ */

static void files_that_are_none_are_told_for_what_they_are(void **state)
{
    (void)state;
    refused("fixtures/qwen2-q8_0.gguf", APR_EARG, APR_NOWHERE, "is a model (GGUF, architecture \"qwen2\"), no importance matrix");
    refused("fixtures/qwen2/model-00001-of-00003.safetensors", APR_EARG, APR_NOWHERE, "is a model (SafeTensors), no importance matrix");
    refused("fixtures/qwen2-zstd.apr", APR_EARG, APR_NOWHERE, "is a model (APR), no importance matrix");
    refused("fixtures/trace/lm_head.bin", APR_EARG, APR_NOWHERE, "is a trace (APRT), no importance matrix");
    refused("fixtures/qwen2", APR_EIO, APR_NOWHERE, "is a folder");
    refused("fixtures/qwen2.imatrix.dad", APR_EIO, APR_NOWHERE, "did you mean \"qwen2.imatrix.dat\"?");
    refused("fixtures/README.md", APR_ECORRUPT, 0, "is no importance matrix, neither as a GGUF nor as a .dat of old: it has");
    refused(test_file("empty", "", 0), APR_ECORRUPT, 0, "is empty");
    refused(test_file("page", "<html>", 6), APR_ECORRUPT, 0, "is an HTML page");
    refused(test_file("zip", "PK\3\4", 4), APR_ECORRUPT, 0, "is a zip archive");
}

static void a_gguf_that_is_no_sound_one_is_named_not_followed(void **state)
{
    (void)state;
    static const struct { const char *what, *without; struct tensor t[3]; uint64_t at; const char *words; } rows[] = {
        { "no_datasets", "imatrix.datasets", { { "a.in_sum2", 1, 1, { 1 }, 0 }, { "a.counts", 1, 1, { 1 }, 0 } }, APR_NOWHERE,
          "without the key imatrix.datasets" },
        { "no_chunks", "imatrix.chunk_count", { { "a.in_sum2", 1, 1, { 1 }, 0 }, { "a.counts", 1, 1, { 1 }, 0 } }, APR_NOWHERE,
          "without the key imatrix.chunk_count" },
        { "no_entries", "", { { "a.weight", 1, 1, { 1 }, 0 } }, APR_NOWHERE, "without entries" },
        { "no_counts", "", { { "a.counts", 1, 1, { 1 }, 0 }, { "a.in_sum2", 1, 1, { 1 }, 0 }, { "b.in_sum2", 1, 1, { 1 }, 0 } },
          APR_NOWHERE, "entry \"b\": it has .in_sum2, but no .counts" },
        { "no_sums", "", { { "b.counts", 1, 1, { 1 }, 0 } }, APR_NOWHERE, "entry \"b\": it has .counts, but no .in_sum2" },
        { "no_name", "", { { ".counts", 1, 1, { 1 }, 0 } }, APR_NOWHERE, "tensor \".counts\"" },
        { "no_values", "", { { "a.in_sum2", 0, 1, { 1 }, 0 } }, APR_NOWHERE, "tensor \"a.in_sum2\": 0 values" },
        { "halves", "", { { "a.in_sum2", 1, 1, { 1 }, 1 } }, APR_NOWHERE, "of type F16, expected some of F32" },
        { "more_counts", "", { { "a.in_sum2", 3, 1, { 1 }, 0 }, { "a.counts", 1, 2, { 1 }, 0 } }, APR_NOWHERE,
          "entry \"a\": 3 sums do not divide among 2 counts" },
        { "many_counts", "", { { "a.in_sum2", 3, 1, { 1 }, 0 }, { "a.counts", 1, 6, { 1 }, 0 } }, APR_NOWHERE,
          "entry \"a\": 3 sums do not divide among 6 counts" },
        { "twice", "", { { "a.in_sum2", 1, 1, { 1 }, 0 }, { "a.in_sum2", 1, 1, { 1 }, 0 } }, APR_NOWHERE, "stands twice" },
        { "nan", "", { { "a.in_sum2", 3, 1, { 1, 2, NAN }, 0 }, { "a.counts", 1, 1, { 1 }, 0 } }, 8, "entry \"a\": sum 2 is NaN" },
        { "inf", "", { { "a.counts", 1, 1, { 1 }, 0 }, { "a.in_sum2", 3, 1, { 1, INFINITY, 1 }, 0 } }, 36,
          "entry \"a\": sum 1 is infinite" },
        { "negative", "", { { "a.in_sum2", 2, 1, { -0.0f, -1e-45f }, 0 }, { "a.counts", 1, 1, { 1 }, 0 } }, 4, "sum 1 is negative" },
        { "nan_count", "", { { "a.in_sum2", 1, 3, { 1, 1, 1 }, 0 }, { "a.counts", 1, 3, { 1, NAN, 1 }, 0 } }, 36,
          "entry \"a\": count 1 is NaN" },
        { "inf_count", "", { { "a.in_sum2", 1, 1, { 1 }, 0 }, { "a.counts", 1, 1, { INFINITY }, 0 } }, 32, "count 0 is infinite" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        size_t n = 0, data;
        while (n < 3 && rows[i].t[n].name != NULL)
            n++;
        struct test_bytes b = gguf(rows[i].t, n, rows[i].without, false, &data);
        refused_bytes(rows[i].what, &b, APR_ECORRUPT, rows[i].at == APR_NOWHERE ? APR_NOWHERE : data + rows[i].at, rows[i].words);
        test_free(&b);
    }
}

/* Entry "ab" of two values and entry "c" of one, then chunks and a dataset:
 *   0 count | 4 length | 8 "ab" | 10 calls | 14 n | 18 values | 26 length | 30 "c" | 31 calls | 35 n | 39 value |
 *   43 chunks | 47 length | 51 dataset */
static struct test_bytes small_dat(void)
{
    static const float v[] = { 1, 2 };
    struct test_bytes b = { 0 };
    test_integer(&b, 2, 4);
    put_dat_entry(&b, "ab", 3, v, 2);
    put_dat_entry(&b, "c", 3, v, 1);
    test_integer(&b, 7, 4);
    test_integer(&b, 4, 4);
    test_text(&b, "text");
    assert_int_equal(b.n, 55);
    return b;
}

static void a_dat_that_is_no_sound_one_is_named_not_followed(void **state)
{
    (void)state;
    static const struct { const char *what; size_t edit; const char *bytes; size_t n, at; const char *words; } rows[] = {
        { "no entries", 0, "\0\0\0\0", 4, 0, "is no importance matrix" },
        { "negative", 0, "\xff\xff\xff\xff", 4, 0, "is no importance matrix" },
        { "many", 0, "\4\0\0\0", 4, 0, "is no importance matrix" }, { "three", 0, "\3\0\0\0", 4, 43, "entry 3 of 3" },
        { "no name", 26, "\0\0\0\0", 4, 26, "entry 2 of 2 has no sound name" },
        { "long name", 4, "\xff\xff\xff\x7f", 4, 0, "is no importance matrix" },
        { "NUL", 9, "\0", 1, 0, "is no importance matrix" }, { "no text", 8, "\xff", 1, 0, "is no importance matrix" },
        { "many values", 14, "\xff\xff\xff\x7f", 4, 4, "entry \"ab\": its values reach past the end" },
        { "negative values", 14, "\xfe\xff\xff\xff", 4, 4, "entry \"ab\": its values reach past the end" },
        { "no values", 35, "\0\0\0\0", 4, 26, "entry \"c\": it has no values" },
        { "long second name", 26, "\0\1\0\0", 4, 26, "entry 2 of 2 has no sound name" },
        { "negative name", 26, "\xff\xff\xff\xff", 4, 26, "entry 2 of 2 has no sound name" },
        { "second NUL", 30, "\0", 1, 26, "entry 2 of 2 has no sound name" },
        { "nan", 22, "\0\0\xc0\x7f", 4, 22, "entry \"ab\": sum 1 is NaN" },
        { "inf", 39, "\0\0\x80\xff", 4, 39, "entry \"c\": sum 0 is infinite" },
        { "below", 18, "\1\0\0\x80", 4, 18, "entry \"ab\": sum 0 is negative" },
        { "long dataset", 47, "\5\0\0\0", 4, 43, "something else" }, { "short dataset", 47, "\3\0\0\0", 4, 43, "something else" },
        { "negative dataset", 47, "\xff\xff\xff\xff", 4, 43, "something else" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_bytes b = small_dat();
        memcpy(b.at + rows[i].edit, rows[i].bytes, rows[i].n);
        refused_bytes(rows[i].what, &b, APR_ECORRUPT, rows[i].at, rows[i].words);
        test_free(&b);
    }
}

static void a_name_twice_in_a_dat_is_refused(void **state)
{
    (void)state;
    static const float v[] = { 1, 2 };
    struct test_bytes b = { 0 };
    test_integer(&b, 3, 4);
    put_dat_entry(&b, "a", 1, v, 1);
    put_dat_entry(&b, "b", 1, v, 1);
    put_dat_entry(&b, "a", 1, v, 2);
    refused_bytes("twice.dat", &b, APR_ECORRUPT, 42, "entry \"a\": the name stands twice");
    test_free(&b);
}

static void a_text_ends_at_its_nul_and_chunks_are_never_negative(void **state)
{
    (void)state;
    struct test_bytes b = small_dat();
    memcpy(b.at + 43, "\xff\xff\xff\xff", 4);
    b.at[53] = 0;
    struct apr_imatrix *const im = opened(test_file("text.dat", b.at, b.n));
    assert_int_equal(im->chunks, 0);
    assert_int_equal(im->ndataset, 1);
    assert_true(apr_bytes_is(im->dataset[0], "te"));
    apr_imatrix_close(im);
    test_free(&b);
}

/* A .dat may end behind its entries, or behind its chunks; a GGUF's last tensor has 4 bytes, and 28 that belong to nothing. */
static void a_file_cut_anywhere_is_refused(void **state)
{
    (void)state;
    struct test_bytes dat = small_dat(), whole = test_load(GGUF_FILE);
    struct apr_imatrix *im;
    struct apr_error e;
    for (size_t n = 0; n < dat.n; n++) {
        const enum apr_code code = apr_imatrix_open(&im, test_file("cut.dat", dat.at, n), test_run_with(1), &e);
        if (code != (n == 43 || n == 47 ? APR_OK : APR_ECORRUPT))
            fail_msg("%zu bytes: %s", n, code == APR_OK ? "taken" : e.text);
        apr_imatrix_close(im);
    }
    for (size_t n = 0; n < whole.n - 28; n += n < 4000 ? 7 : 61) {
        const enum apr_code code = apr_imatrix_open(&im, test_file("cut.gguf", whole.at, n), test_run_with(1), &e);
        if (code != APR_ECORRUPT)
            fail_msg("%zu bytes: %s", n, code == APR_OK ? "taken" : e.text);
    }
    test_free(&dat);
    test_free(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_forms_give_the_weights_that_numpy_gives),
        cmocka_unit_test(pieces_are_cut_out_of_the_same_weights),
        cmocka_unit_test(counts_are_rounded_and_what_was_not_counted_weighs_one),
        cmocka_unit_test(a_dat_of_no_calls_holds_weights_as_they_are),
        cmocka_unit_test(another_weight_or_name_is_another_digest),
        cmocka_unit_test(an_entry_that_does_not_fit_names_its_tensor_and_both_lengths),
        cmocka_unit_test(a_file_that_changes_meanwhile_is_told),
        cmocka_unit_test(files_that_are_none_are_told_for_what_they_are),
        cmocka_unit_test(a_gguf_that_is_no_sound_one_is_named_not_followed),
        cmocka_unit_test(a_dat_that_is_no_sound_one_is_named_not_followed),
        cmocka_unit_test(a_name_twice_in_a_dat_is_refused),
        cmocka_unit_test(a_text_ends_at_its_nul_and_chunks_are_never_negative),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
