/* apr-inspect --partition and --merge: what shares say together is what one run says, byte for byte; shares that lie, or do not belong
 * together, are named by file and row. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "support.h"

#define TOOL  "apr-inspect"
#define MOST  5    /* shares */
#define LAYERS 12
#define SIDE  16
#define VIEWS 3    /* options of a run, at most */

/* Share k of n as a file of its own. */
static const char *share(const char *const option[VIEWS], const char *model, unsigned k, unsigned n)
{
    char partition[32], file[32];
    snprintf(partition, sizeof partition, "--partition=%u/%u", k, n);
    snprintf(file, sizeof file, "share-%u-of-%u.json", k, n);
    struct test_answer answer = test_tool(TOOL, partition, model, option[0], option[1], option[2], NULL);
    if (answer.exit > 1)
        fail_msg("%s: %s", partition, (const char *)answer.err.at);
    const char *const path = test_file(file, answer.out.at, answer.out.n);
    test_answer_free(&answer);
    return path;
}

/* ---- one answer ------------------------------------------------------------------------------------------------------ */

static void expect_one_answer(const char *const option[VIEWS], const char *model)
{
    static const unsigned count[] = { 1, 2, MOST };
    for (size_t c = 0; c < APR_LENGTH(count); c++) {
        const char *part[MOST] = { NULL };
        for (unsigned k = 0; k < count[c]; k++)
            part[count[c] - 1 - k] = share(option, model, k + 1, count[c]);
        for (int json = 0; json < 2; json++) {
            const char *const form = json ? "--json" : "--color=never";
            struct test_answer whole = test_tool(TOOL, form, model, option[0], option[1], option[2], NULL);
            struct test_answer merged = test_tool(TOOL, form, "--merge", part[0], part[1], part[2], part[3], part[4], NULL);
            if (merged.exit != whole.exit || merged.out.n != whole.out.n || memcmp(merged.out.at, whole.out.at, whole.out.n) != 0)
                fail_msg("%s %s: %u shares say something else: exit %d, %s", model, form, count[c], merged.exit, (const char *)merged.err.at);
            test_answer_free(&whole);
            test_answer_free(&merged);
        }
    }
}

static void merged_shares_are_the_bytes_of_one_run(void **state)
{
    (void)state;
    static const char *const models[] = { "fixtures/qwen2", "fixtures/qwen2-q4_0.gguf", "fixtures/qwen2-zstd.apr", "fixtures/qwen2.apr",
                                          "fixtures/split/qwen2-00001-of-00003.gguf" };
    static const char *const views[][VIEWS] = { { "--stats", NULL }, { "--hash", "--full", NULL }, { "--check", NULL },
                                                { "--stats", "--hash", "--check" }, { "--hash", "--filter=norm", "--check" } };
    for (size_t m = 0; m < APR_LENGTH(models); m++)
        for (size_t v = 0; v < APR_LENGTH(views); v++)
            expect_one_answer(views[v], models[m]);
}

/* Layers whose tensors are judged only beside each other: one with a huge value, two that are louder, one of zeros, one with a NaN. */
static const char *troubled(const char *file)
{
    struct test_bytes header = { 0 }, data = { 0 }, all = { 0 };
    char entry[200];
    test_text(&header, "{");
    for (unsigned l = 0; l < LAYERS; l++) {
        const size_t begin = data.n;
        for (unsigned i = 0; i < SIDE * SIDE; i++) {
            const float v = (float)test_random(2001) * 1e-6f - 1e-3f, loud = l == 2 || l == 5 ? 60 * v : v;
            const float odd = i == 7 && l == 3 ? 5e4f : i == 9 && l == 8 ? NAN : loud;
            test_floats(&data, &(float){ l == 6 ? 0 : odd }, 1);
        }
        snprintf(entry, sizeof entry, "%s\"layers.%u.up_proj.weight\":{\"dtype\":\"F32\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]}", l == 0 ? "" : ",", l,
                 SIDE, SIDE, begin, data.n);
        test_text(&header, entry);
    }
    test_text(&header, "}");
    while (header.n % 8 != 0)
        test_text(&header, " ");
    test_integer(&all, header.n, 8);
    test_put(&all, header.at, header.n);
    test_put(&all, data.at, data.n);
    const char *const path = test_file(file, all.at, all.n);
    test_free(&header);
    test_free(&data);
    test_free(&all);
    return path;
}

static void tensors_of_several_shares_are_judged_together(void **state)
{
    (void)state;
    static const char *const check[VIEWS] = { "--check", NULL };
    static const char *const codes[] = { "values.range", "values.nonfinite", "values.zero", "layers.outlier" };
    const char *const model = troubled("troubled.safetensors");
    struct test_answer whole = test_tool(TOOL, "--check", model, NULL);
    for (size_t i = 0; i < APR_LENGTH(codes); i++)
        if (!test_says(&whole.out, codes[i]))
            fail_msg("no %s in %s", codes[i], (const char *)whole.out.at);
    test_answer_free(&whole);
    expect_one_answer(check, model);
}

static void a_share_is_the_same_at_any_thread_count_and_holds_its_tensors_alone(void **state)
{
    (void)state;
    static const char *const plain[VIEWS] = { "--check", "--hash", NULL }, *const other[VIEWS] = { "--check", "--hash", "--threads=3" };
    struct test_bytes one = test_load(share(plain, "fixtures/qwen2", 2, 5)), three = test_load(share(other, "fixtures/qwen2", 2, 5));
    assert_int_equal(one.n, three.n);
    assert_memory_equal(one.at, three.at, one.n);
    assert_false(test_says(&one, "\"name\":\"model.layers.1.self_attn.v_proj.weight\""));
    test_free(&one);
    test_free(&three);
}

/* ---- no answer ------------------------------------------------------------------------------------------------------- */

static void expect_refused(struct test_answer answer, const char *words)
{
    if (answer.exit != 2 || answer.out.n > 0 || !test_says(&answer.err, words))
        fail_msg("%s: exit %d: %s", words, answer.exit, (const char *)answer.err.at);
    test_answer_free(&answer);
}

static void shares_that_do_not_belong_together_are_refused(void **state)
{
    (void)state;
    static const char *const hash[VIEWS] = { "--hash", NULL }, *const stats[VIEWS] = { "--stats", NULL };
    struct test_bytes model = test_load("fixtures/qwen2-q8_0.gguf");
    const char *const copy = test_file("copy.gguf", model.at, model.n), *const one = share(hash, copy, 1, 2);
    const char *const alone = share(hash, copy, 1, 1), *const third = share(hash, copy, 3, 3);
    expect_refused(test_tool(TOOL, "--merge", NULL), "--merge needs");
    expect_refused(test_tool(TOOL, "--merge", "fixtures/none.json", NULL), "none.json");
    expect_refused(test_tool(TOOL, "--merge", one, NULL), "is part 1 of 2, but part 2 was not given");
    expect_refused(test_tool(TOOL, "--merge", one, one, NULL), "is part 1 of 2, which was given twice");
    expect_refused(test_tool(TOOL, "--merge", one, third, NULL), "is part 3 of 3, others are of 2");
    expect_refused(test_tool(TOOL, "--merge", third, third, third, NULL), "is part 3 of 3, but part 1 was not given");
    expect_refused(test_tool(TOOL, "--merge", alone, one, NULL), "is part 1 of 2, others are of 1");
    expect_refused(test_tool(TOOL, "--merge", one, share(stats, copy, 2, 2), NULL), "its plan is not that of");
    expect_refused(test_tool(TOOL, "--merge", one, share(hash, "fixtures/qwen2.apr", 2, 2), NULL), "its files is not that of");
    model.at[model.n - 1] ^= 1;
    test_file("copy.gguf", model.at, model.n);
    expect_refused(test_tool(TOOL, "--merge", one, share(hash, copy, 2, 2), NULL), "the input changed between the two jobs");
    test_free(&model);
}

/* Share k of 2 of the troubled model with the first `find` behind `after` as `replace`, in a file of that name. */
static const char *edited(const char *file, const char *model, unsigned k, const char *after, const char *find, const char *replace)
{
    static const char *const all[VIEWS] = { "--stats", "--hash", "--check" };
    struct test_bytes whole = test_load(share(all, model, k, 2));
    test_integer(&whole, 0, 1);
    const char *const path = test_edited(file, (const char *)whole.at, after, find, replace);
    test_free(&whole);
    return path;
}

static void a_share_that_lies_is_refused_by_file_and_row(void **state)
{
    (void)state;
    static const struct {
        const char *after, *find, *replace, *words;
    } rows[] = {
        { "{", "\"apr-inspect/1\"", "\"apr-diff/1\"", "its schema is not apr-inspect/1" },
        { "{", "\"files\":[{", "\"files\":[7,{", "it has no sound object" },
        { "\"files\"", "\"format\":", "\"form\":", "it has no sound format" },
        { "\"files\"", "\"metadata\":", "\"meta\":", "it has no sound metadata" },
        { "\"metadata\"", "\"tensors\":", "\"tensor\":", "it has no sound tensors" },
        { "\"metadata\"", "\"tensors\":[", "\"tensors\":[7,", "tensor \"without a name\": there is no sound object" },
        { "\"tensors\"", "\"dtype\":\"F32\"", "\"dtype\":\"F31\"", "up_proj.weight\": there is no sound dtype" },
        { "\"tensors\"", "\"shape\":[", "\"shape\":[1,1,1,1,1,1,1,", "there is no sound shape" },
        { "\"tensors\"", "\"offset\":", "\"offset\":-", "there is no sound offset" },
        { "\"tensors\"", "\"rms\":", "\"rms\":\"\",\"r\":", "there is no sound rms" },
        { "\"tensors\"", "\"histogram\":[", "\"histogram\":[1,", "there is no sound histogram" },
        { "\"tensors\"", "\"hash\":\"", "\"hash\":\"x", "there is no sound hash" },
        { "\"tensors\"", "\"value_hash\":\"", "\"value_hash\":null,\"v\":\"", "there is no sound value_hash" },
        { "\"tensors\":[", "{\"name\":\"layers.", "{\"name\":\"a\",\"dtype\":\"F32\",\"shape\":[],\"file\":0,\"offset\":0,\"size\":0,\"error\":\"\","
          "\"hash\":\"00000000000000000000000000000000\",\"value_hash\":null},{\"name\":\"layers.", "not its tensor_count" },
        { "\"findings\"", "\"severity\":\"", "\"severity\":\"dis", "there is no sound severity" },
        { "\"findings\"", "\"code\":\"", "\"code\":\"x", "there is no sound code" },
        { "\"findings\"", "\"stage\":", "\"stage\":1", "there is no sound code" },
        { "\"measured\"", "\"std\":\"", "\"std\":\"far", "there is no sound number" },
        { "\"measured\"", "\"magnitude\":[", "\"magnitude\":[1,", "there is no sound magnitude" },
        { "\"roles\"", "\"classes\":[", "\"classes\":[32768,", "there is no sound classes" },
        { "\"roles\"", "\"classes\":[", "\"classes\":[7,", "there is no sound classes" },
        { "\"partition\"", "\"check\":true", "\"check\":false", "it has no sound findings" },
        { "\"partition\"", "\"held_by\":\"", "\"held_by\":\"I", "it has no sound held_by" },
        { "\"partition\"", "\"plan\":\"", "\"plan\":\"x", "it has no partition number" },
        { "\"partition\"", "\"number\":", "\"number\":9", "it has no partition number" },
        { "\"partition\"", "}}", "},\"error\":{}}", "that run failed" },
        { "\"partition\"", "}}", "}", "JSON: " },
    };
    const char *const model = troubled("troubled.safetensors");
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        for (unsigned liar = 1; liar <= 2; liar++) {
            const char *const lying = edited("liar.json", model, liar, rows[i].after, rows[i].find, rows[i].replace);
            const char *const honest = edited("other.json", model, 3 - liar, "{", "{", "{");
            struct test_answer answer = test_tool(TOOL, "--merge", lying, honest, NULL);
            if (answer.exit != 2 || answer.out.n > 0 || !test_says(&answer.err, rows[i].words) || !test_says(&answer.err, ".json: "))
                fail_msg("%s: exit %d: %s", rows[i].replace, answer.exit, (const char *)answer.err.at);
            test_answer_free(&answer);
        }
}

/* One with all tensors, the others with none, and a list in each that takes 128 KiB of memory. */
static void a_thousand_shares_hold_once_what_all_of_them_say(void **state)
{
    (void)state;
    static const char *const hash[VIEWS] = { "--hash", NULL };
    struct test_bytes one = test_load(share(hash, "fixtures/qwen2-q8_0.gguf", 1, 1));
    test_integer(&one, 0, 1);
    const char *const text = (const char *)one.at, *const rows = strstr(text, "\"tensors\":["), *const end = strstr(rows, "],\"partition\"");
    const char *const tail = strstr(end, ",\"plan\"");
    char folder[4096], path[4200], command[9000];
    snprintf(folder, sizeof folder, "%s", test_path("thousand"));
    assert_int_equal(mkdir(folder, 0700), 0);
    for (unsigned k = 1; k <= 1000; k++) {
        snprintf(path, sizeof path, "%s/%u", folder, k);
        FILE *const f = fopen(path, "w");
        fprintf(f, "%.*s", (int)((k == 1 ? end : rows + 11) - text), text);
        fprintf(f, "],\"common\":[1");
        for (unsigned i = 0; i < 2000; i++)
            fprintf(f, ",1");
        fprintf(f, "],\"partition\":{\"number\":%u,\"of\":1000%s", k, tail);
        assert_int_equal(fclose(f), 0);
    }
    snprintf(command, sizeof command, "%s/apr-inspect --merge %s/* >%s 2>&1", APR_BUILD, folder, test_path("merged"));
    if (system(command) != 0)
        fail_msg("%s", (const char *)test_load(test_path("merged")).at);
    test_free(&one);
}

static void a_name_of_a_share_commands_no_terminal(void **state)
{
    (void)state;
    const char *const model = troubled("troubled.safetensors"), *const odd = "\"name\":\"\\u001b[31mlayers.";
    struct test_answer answer = test_tool(TOOL, "--color=never", "--merge", edited("odd.json", model, 1, "\"tensors\":[", "\"name\":\"layers.", odd),
                                          edited("other.json", model, 2, "{", "{", "{"), NULL);
    assert_int_not_equal(answer.exit, 2);
    assert_null(memchr(answer.out.at, 0x1b, answer.out.n));
    assert_true(test_says(&answer.out, "\\x1b[31mlayers."));
    test_answer_free(&answer);
}

static void a_partition_is_k_of_n_of_what_reads_data(void **state)
{
    (void)state;
    static const struct {
        const char *partition, *option, *words;
    } rows[] = {
        { "--partition=0/3", "--stats", "--partition needs K/N" },       { "--partition=4/3", "--stats", "--partition needs K/N" },
        { "--partition=1", "--stats", "--partition needs K/N" },         { "--partition=", "--stats", "--partition needs K/N" },
        { "--partition=1/2x", "--stats", "--partition needs K/N" },      { "--partition=1/2", "--quiet", "has no effect without --stats, --hash or --check" },
        { "--partition=1/2", "--check=fast", "headers alone" },          { "--partition=1/2", "--tree", "--partition" },
        { "--partition=1/2", "--merge", "--partition" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_answer answer = test_tool(TOOL, rows[i].option, rows[i].partition, "fixtures/qwen2", NULL);
        if (answer.exit != 2 || !test_says(&answer.err, rows[i].words))
            fail_msg("%s %s: exit %d: %s", rows[i].partition, rows[i].option, answer.exit, (const char *)answer.err.at);
        test_answer_free(&answer);
    }
    expect_refused(test_tool(TOOL, "--stats", "--partition=1/2", "fixtures/qwen2", "fixtures/qwen2.apr", NULL), "--partition takes one model");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merged_shares_are_the_bytes_of_one_run),
        cmocka_unit_test(tensors_of_several_shares_are_judged_together),
        cmocka_unit_test(a_share_is_the_same_at_any_thread_count_and_holds_its_tensors_alone),
        cmocka_unit_test(shares_that_do_not_belong_together_are_refused),
        cmocka_unit_test(a_share_that_lies_is_refused_by_file_and_row),
        cmocka_unit_test(a_thousand_shares_hold_once_what_all_of_them_say),
        cmocka_unit_test(a_name_of_a_share_commands_no_terminal),
        cmocka_unit_test(a_partition_is_k_of_n_of_what_reads_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
