/* apr-convert --target-bpw, --target-size, and what holds of every quantized file: the same bytes however it is made. */
#include "quantize.h"

#include "base/cpu.h"

/* ---- targets -------------------------------------------------------------------------------------------------------- */

/* Without importance a choice's error is the sum of the squares that rmse is the mean of. */
static void expect_choices(const json_t *r, bool weighted)
{
    const json_t *const choice = at(r, "target.choices");
    double sum = 0;
    for (size_t i = 0; i < json_array_size(choice); i++) {
        const json_t *const x = json_array_get(choice, i), *const row = row_of(r, json_string_value(at(x, "name")));
        const double error = json_number_value(at(x, "chosen.error")), rmse = json_number_value(json_object_get(row, "rmse")),
                     n = json_number_value(at(row, "shape.0")) * json_number_value(at(row, "shape.1"));
        expect_text("the choice", x, "chosen.dtype", text_of(row, "dtype_to"));
        expect_text("the choice", x, "chosen.bytes", text_of(row, "bytes"));
        if (!weighted && fabs(error - rmse * rmse * n) > 1e-9 * error)
            fail_msg("%s: error %g, but rmse %g of %g elements", json_string_value(at(x, "name")), error, rmse, n);
        sum += error;
    }
    expect_near("target", r, "target.error", sum);
    assert_true(json_number_value(at(r, "target.bound")) <= json_number_value(at(r, "target.error")));
}

static void bits_per_weight_are_met(void **state)
{
    (void)state;
    static const struct { const char *in, *option, *imatrix; double bpw; } rows[] = {
        { WIDE, "--target-bpw=4.25", NULL, 4.25 },       { WIDE, "--target-bpw=4.25", WIDE_IMATRIX, 4.25 },
        { WIDE, "--target-bpw=3", WIDE_IMATRIX, 3 },     { WIDE, "--target-bpw=9.5", NULL, 9.5 },
        { "fixtures/qwen2", "--target-bpw=6", NULL, 6 }, { "fixtures/qwen2.apr", "--target-bpw=6", OWN_IMATRIX, 6 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        json_t *const r = REPORTED(rows[i].in, "met.gguf", "--force", rows[i].option, rows[i].imatrix);
        const double got = json_number_value(at(r, "bits_per_weight"));
        if (got > rows[i].bpw || got < 0.99 * rows[i].bpw)
            fail_msg("%s %s: %g", rows[i].in, rows[i].option, got);
        expect_near(rows[i].option, r, "target.bits_per_weight", rows[i].bpw);
        expect_near(rows[i].option, r, "target.reached", got);
        expect_choices(r, rows[i].imatrix != NULL);
        json_decref(r);
    }
}

static void a_file_is_no_larger_than_its_target(void **state)
{
    (void)state;
    static const struct { const char *in, *out, *option, *imatrix; off_t size; } rows[] = {
        { WIDE, "sized.gguf", "--target-size=80k", NULL, 80000 },
        { WIDE, "sized.gguf", "--target-size=60k", WIDE_IMATRIX, 60000 },
        { WIDE, "sized.gguf", "--target-size=100Ki", NULL, 102400 },
        { "fixtures/qwen2", "sized.gguf", "--target-size=50k", OWN_IMATRIX, 50000 },
        { "fixtures/qwen2-bf16.gguf", "sized.apr", "--target-size=57028", NULL, 57028 }, /* whose header grows with the choice, to 57092 */
        { "fixtures/qwen2-bf16.gguf", "sized.apr", "--target-size=57210", NULL, 57210 },
    };
    struct stat st;
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        json_t *const r = REPORTED(rows[i].in, rows[i].out, "--force", rows[i].option, rows[i].imatrix);
        assert_int_equal(stat(test_path(rows[i].out), &st), 0);
        if (st.st_size > rows[i].size || (double)st.st_size < 0.97 * (double)rows[i].size)
            fail_msg("%s %s: %lld bytes", rows[i].in, rows[i].option, (long long)st.st_size);
        expect_near(rows[i].option, r, "target.size", (double)rows[i].size);
        expect_near(rows[i].option, r, "target.reached", (double)st.st_size);
        expect_choices(r, rows[i].imatrix != NULL);
        json_decref(r);
    }
}

static void the_table_names_the_choices_and_what_was_beside_them(void **state)
{
    (void)state;
    struct test_answer a = test_tool(APR_CONVERT, WIDE, test_path("table.gguf"), "--target-bpw=5", NULL);
    assert_int_equal(a.exit, 0);
    assert_true(test_says(&a.out, "blk.0.attn_q.weight  ") && test_says(&a.out, " bits  error ") && test_says(&a.out, "  smaller "));
    assert_true(test_says(&a.out, "  larger ") && test_says(&a.out, " of 5 bits per weight; error ") && test_says(&a.out, "(bound "));
    test_answer_free(&a);
    a = test_tool(APR_CONVERT, WIDE, test_path("table.gguf"), "--force", "--target-size=80k", "--quiet", NULL);
    assert_int_equal(a.exit, 0);
    assert_int_equal(a.out.n, 0);
    test_answer_free(&a);
}

static void choices_go_by_the_names_that_are_written(void **state)
{
    (void)state;
    json_t *const r = REPORTED(WIDE, "renamed.gguf", "--target-bpw=5", "--rename=blk.1.ffn_up.weight=blk.1.ffn_over.weight");
    expect_choices(r, false);
    json_decref(r);
}

static void a_target_that_nothing_reaches_is_refused_with_what_can_be_had(void **state)
{
    (void)state;
    const char *const out = test_path("beyond/m.gguf"), *const recipe = test_path("beyond/r.yaml");
    text_file("beyond/x", "");
    REFUSED("beyond", (WIDE, out, "--target-bpw=1", "--write-recipe", recipe), "no choice of types", "the least is 3.03",
            "the most is 16.2");
    REFUSED("beyond", (WIDE, out, "--target-bpw=40"), "no choice of types");
    REFUSED("beyond", (WIDE, out, "--target-size=20k"), "at most 20000 bytes", "the smallest has");
    REFUSED("beyond", (WIDE, out, "--target-size=0"), "--target-size", "more than 0");
    REFUSED("beyond", (WIDE, out, "--target-bpw=0"), "--target-bpw", "more than 0");
    REFUSED("beyond", (WIDE, out, "--target-bpw=nan"), "--target-bpw");
    REFUSED("beyond", (WIDE, out, "--target-bpw=4", "--target-size=80k"), "--target-size", "--target-bpw");
    REFUSED("beyond", (WIDE, out, "--target-bpw=4", "--quantize=Q4_0"), "--target-bpw", "--quantize");
    REFUSED("beyond", (WIDE, out, "--target-bpw=4", "--type=q4_0"), "--target-bpw", "--type");
    REFUSED("beyond", (WIDE, out, "--target-size=80k", "--shards=2"), "--target-size", "--shards");
    REFUSED("beyond", (WIDE, out, "--write-recipe", recipe), "--write-recipe", "--target-bpw");
}

/* ---- recipes -------------------------------------------------------------------------------------------------------- */

static void a_recipe_that_was_written_gives_the_file_again(void **state)
{
    (void)state;
    static const struct { const char *in, *option, *imatrix; } rows[] = {
        { WIDE, "--target-bpw=4.5", NULL },            { WIDE, "--target-bpw=3.2", WIDE_IMATRIX },
        { WIDE, "--target-size=90k", WIDE_IMATRIX },   { "fixtures/qwen2", "--target-bpw=5", NULL },
        { "fixtures/qwen2", "--target-size=60k", OWN_IMATRIX },
    };
    char option[300];
    const char *const recipe = test_path("again.yaml");
    snprintf(option, sizeof option, "--recipe=%s", recipe);
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *const with = rows[i].imatrix == NULL ? "--quiet" : rows[i].imatrix;
        const char *const out = CONVERTED(rows[i].in, "first.gguf", "--force", rows[i].option, with, "--write-recipe", recipe);
        expect_same_bytes(out, CONVERTED(rows[i].in, "again.gguf", "--force", option, with));
    }
    const char *const mix = CONVERTED(WIDE, "first.gguf", "--force", "--quantize=Q3_K_L", WIDE_IMATRIX, "--write-recipe", recipe);
    expect_identical(mix, CONVERTED(WIDE, "again.gguf", "--force", option, WIDE_IMATRIX), 30); /* whose file type is guessed */
}

static void a_dry_run_writes_no_model_and_tells_what_a_run_does(void **state)
{
    (void)state;
    static const char *const option[] = { "--quantize=Q4_K_M", "--target-bpw=5", "--target-size=80k" };
    text_file("dry/x", "");
    for (size_t i = 0; i < APR_LENGTH(option); i++) {
        json_t *const plan = REPORTED(WIDE, "dry/m.gguf", option[i], WIDE_IMATRIX, "--dry-run");
        assert_int_equal(files_in("dry"), 1);
        json_t *const done = REPORTED(WIDE, "wet.gguf", "--force", option[i], WIDE_IMATRIX);
        assert_true(i == 0 || json_equal(at(plan, "target"), at(done, "target")));
        expect_text(option[i], plan, "bytes_out", text_of(done, "bytes_out"));
        expect_text(option[i], plan, "bits_per_weight", text_of(done, "bits_per_weight"));
        for (size_t k = 0; k < json_array_size(at(done, "tensors")); k++)
            expect_text(option[i], json_array_get(at(plan, "tensors"), k), "dtype_to",
                        text_of(json_array_get(at(done, "tensors"), k), "dtype_to"));
        json_decref(plan);
        json_decref(done);
    }
}

/* ---- the same bytes ------------------------------------------------------------------------------------------------- */

/* Two tensors of a few pieces each, and their importance as an option. */
static const char *large_model(char imatrix[300])
{
    enum { ROWS = 600, COLUMNS = 512 };
    static float v[2][ROWS * COLUMNS];
    static const struct importance x[] = { { "blk.0.attn_v.weight", COLUMNS, 0.5f }, { "blk.0.ffn_up.weight", COLUMNS, 3 } };
    struct test_tensor t[2];
    for (size_t i = 0; i < 2; i++) {
        for (size_t k = 0; k < ROWS * COLUMNS; k++)
            v[i][k] = (float)((double)test_random(8001) / 4000 - 1) / (float)(1 + k % 7);
        t[i] = (struct test_tensor){ x[i].name, "F32", "[600,512]", v[i], sizeof v[i] };
    }
    imatrix_of("large.dat", x, 2, imatrix);
    return test_safetensors("large.safetensors", t, 2);
}

static void threads_and_instructions_change_no_byte(void **state)
{
    (void)state;
    char large_imatrix[300];
    const char *const large = large_model(large_imatrix);
    const struct { const char *in, *option, *imatrix; } rows[] = {
        { WIDE, "--quantize=Q4_K_M", NULL },   { WIDE, "--quantize=Q3_K_S", WIDE_IMATRIX }, { WIDE, "--quantize=IQ2_XS", WIDE_IMATRIX },
        { WIDE, "--target-bpw=4", NULL },      { WIDE, "--target-bpw=3", WIDE_IMATRIX },    { WIDE, "--quantize=IQ4_NL", WIDE_IMATRIX },
        { large, "--tensor-type=blk=q4_k", NULL }, { large, "--tensor-type=blk=q6_k", large_imatrix },
        { large, "--target-bpw=9", large_imatrix },
    };
    static const char *const threads[] = { "--threads=1", "--threads=2", "--threads=5" };
    static const enum apr_isa isas[] = { APR_SCALAR, APR_AVX2, APR_AVX512, APR_NEON };
    char isa[32];
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *const names = rows[i].in == large ? "--keep-names" : "--quiet";
        const char *const with = rows[i].imatrix == NULL ? "--quiet" : rows[i].imatrix;
        const char *const one = CONVERTED(rows[i].in, "one.gguf", "--force", rows[i].option, names, with, "--threads=1", "--isa=scalar");
        for (size_t k = 0; k < APR_LENGTH(isas); k++)
            for (size_t n = 0; n < APR_LENGTH(threads) && apr_isa_has(isas[k]); n++) {
                snprintf(isa, sizeof isa, "--isa=%s", apr_isa_word(isas[k]));
                if (n == k % 2 || isas[k] == apr_isa_best())
                    expect_same_bytes(one, CONVERTED(rows[i].in, "other.gguf", "--force", rows[i].option, names, with, threads[n], isa));
            }
    }
}

/* ---- in parts ------------------------------------------------------------------------------------------------------- */

static void a_part_is_the_shard_that_one_run_writes(void **state)
{
    (void)state;
    static const struct { const char *option, *imatrix; } rows[] = {
        { "--quantize=Q4_K_M", NULL }, { "--quantize=IQ3_M", WIDE_IMATRIX }, { "--target-bpw=4.5", WIDE_IMATRIX },
    };
    char part[32], whole[64], alone[64], kept[512];
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *const with = rows[i].imatrix == NULL ? "--quiet" : rows[i].imatrix;
        CONVERTED(WIDE, "shards/m.gguf", "--force", rows[i].option, with, "--shards=3");
        for (unsigned k = 1; k <= 3; k++) {
            snprintf(part, sizeof part, "--partition=%u/3", k);
            snprintf(whole, sizeof whole, "shards/m-%05u-of-00003.gguf", k);
            snprintf(alone, sizeof alone, "alone/m-%05u-of-00003.gguf", k);
            CONVERTED(WIDE, "alone/m.gguf", "--force", rows[i].option, with, part);
            assert_int_equal(files_in("alone"), 1);
            snprintf(kept, sizeof kept, "%s", test_path(whole));
            expect_same_bytes(kept, test_path(alone));
            unlink(test_path(alone));
        }
    }
}

static void a_run_that_was_killed_goes_on_with_resume(void **state)
{
    (void)state;
    static const char *const option[] = { "--quantize=Q4_K_M", "--target-bpw=9" };
    if (!has_shim())
        skip();
    for (size_t i = 0; i < APR_LENGTH(option); i++) {
        const char *const whole = CONVERTED(WIDE, "unkilled.gguf", "--force", option[i], WIDE_IMATRIX);
        const char *const out = test_path("ended/m.gguf");
        make_room(out);
        bool killed = true;
        unsigned n;
        for (n = 1; killed; n++) {
            unlink(out);
            killed = killed_at(n, (const char *const[]){ WIDE, out, "--resume", option[i], WIDE_IMATRIX });
            if (killed && access(out, F_OK) != 0)
                CONVERTED(WIDE, "ended/m.gguf", "--resume", option[i], WIDE_IMATRIX);
            expect_same_bytes(whole, out);
        }
        assert_int_equal(files_in("ended"), 1);
        assert_true(n > 8);
    }
}

/* Under the same path, so that not even the header tells them apart. */
static void another_importance_matrix_starts_anew(void **state)
{
    (void)state;
    if (!has_shim())
        skip();
    static const struct importance x[] = { { "blk.0.attn_q.weight", 256, 1 }, { "blk.0.ffn_down.weight", 512, 2 } };
    static const struct importance y[] = { { "blk.0.attn_q.weight", 256, 90 }, { "blk.0.ffn_down.weight", 512, 0 } };
    const char *const out = test_path("switched/m.gguf");
    char imatrix[300];
    imatrix_of("switched.dat", y, 2, imatrix);
    const char *const whole = CONVERTED(WIDE, "unswitched.gguf", "--quantize=Q4_K_M", imatrix);
    bool killed = true;
    make_room(out);
    for (unsigned n = 1; killed; n++) {
        unlink(out);
        imatrix_of("switched.dat", x, 2, imatrix);
        killed = killed_at(n, (const char *const[]){ WIDE, out, "--resume", "--quantize=Q4_K_M", imatrix });
        if (!killed || access(out, F_OK) == 0)
            continue;
        imatrix_of("switched.dat", y, 2, imatrix);
        CONVERTED(WIDE, "switched/m.gguf", "--resume", "--quantize=Q4_K_M", imatrix);
        expect_same_bytes(whole, out);
    }
    assert_int_equal(files_in("switched"), 1);
}

/* ---- inputs --------------------------------------------------------------------------------------------------------- */

static void no_input_is_written_and_no_recipe_onto_the_target(void **state)
{
    (void)state;
    const char *const model = copy_of(WIDE, "kept/in.gguf"), *const matrix = copy_of("fixtures/wide.imatrix.gguf", "kept/im.gguf"),
        *const rules = text_file("kept/r.gguf", "- {match: attn_q, type: q8_0}\n"), *const out = test_path("target/m.gguf"),
        *const same = test_path("target/../target/m.gguf");
    make_room(out);
    const struct { const char *file, *word[6], *says; } rows[] = {
        { matrix, { model, matrix, "--force", "--quantize=Q4_0", "--imatrix", matrix }, "cannot be written: it is an input" },
        { rules, { model, rules, "--force", "--recipe", rules }, "cannot be written: it is an input" },
        { matrix, { model, out, "--quantize=Q4_0", "--write-recipe", matrix }, "cannot be written" },
        { rules, { model, out, "--recipe", rules, "--quantize=Q4_0", "--write-recipe=" }, "cannot be written" },
        { model, { model, out, "--target-bpw=5", "--write-recipe", model }, "cannot be written" },
        { model, { model, out, "--target-bpw=5", "--write-recipe", same }, "cannot be written: the model goes there" },
        { model, { model, "-", "--to=gguf", "--target-bpw=5", "--write-recipe=-" }, "cannot be written: the model goes there" },
    };
    char option[300];
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *const *const w = rows[i].word, *last = w[5];
        if (last != NULL && strcmp(last, "--write-recipe=") == 0) {
            snprintf(option, sizeof option, "--write-recipe=%s", rules);
            last = option;
        }
        struct test_bytes before = test_load(rows[i].file), after;
        struct test_answer a = test_tool(APR_CONVERT, w[0], w[1], w[2], w[3], w[4], last, NULL);
        after = test_load(rows[i].file);
        if (a.exit != 2 || a.out.n != 0 || !test_says(&a.err, rows[i].says) || before.n != after.n ||
            memcmp(before.at, after.at, before.n) != 0 || files_in("kept") != 3)
            fail_msg("row %zu: exit %d, %zu bytes on stdout, %zu files: %s", i, a.exit, a.out.n, files_in("kept"), (const char *)a.err.at);
        test_free(&before);
        test_free(&after);
        test_answer_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_per_weight_are_met),
        cmocka_unit_test(a_file_is_no_larger_than_its_target),
        cmocka_unit_test(the_table_names_the_choices_and_what_was_beside_them),
        cmocka_unit_test(choices_go_by_the_names_that_are_written),
        cmocka_unit_test(a_target_that_nothing_reaches_is_refused_with_what_can_be_had),
        cmocka_unit_test(a_recipe_that_was_written_gives_the_file_again),
        cmocka_unit_test(a_dry_run_writes_no_model_and_tells_what_a_run_does),
        cmocka_unit_test(threads_and_instructions_change_no_byte),
        cmocka_unit_test(a_part_is_the_shard_that_one_run_writes),
        cmocka_unit_test(a_run_that_was_killed_goes_on_with_resume),
        cmocka_unit_test(another_importance_matrix_starts_anew),
        cmocka_unit_test(no_input_is_written_and_no_recipe_onto_the_target),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
