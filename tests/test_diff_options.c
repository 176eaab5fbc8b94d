/* apr-diff: what is compared, what passes, and the forms in which it is told. */
#include "diff.h"

/* ---- models -------------------------------------------------------------------------------------------------------- */

static const float ones[] = { 1, 1, 1, 1 }, off_by_little[] = { 1, 1, 1, 1.001953125f }, off_by_more[] = { 1, 1, 1, 1.25f },
                   negated[] = { -1, -1, -1, -1 };

#define FLOATS(name, values) { name, "F32", "[4]", values, sizeof ones }

static const char *left(void)
{
    static const struct test_tensor t[] = { FLOATS("alpha", ones), FLOATS("alpha2", ones), FLOATS("beta", ones), FLOATS("gamma", ones) };
    return test_safetensors("left", t, APR_LENGTH(t));
}

/* From equal to opposite, in an order that is not that of the names. */
static const char *right(void)
{
    static const struct test_tensor t[] = { FLOATS("gamma", negated), FLOATS("beta", ones), FLOATS("alpha2", off_by_more),
                                            FLOATS("alpha", off_by_little) };
    return test_safetensors("right", t, APR_LENGTH(t));
}

/* Names of the rows, each with a space behind it. */
static const char *row_names(const json_t *report)
{
    static char names[400];
    size_t n = 0, i;
    json_t *row;
    names[0] = 0;
    json_array_foreach(at(report, "results"), i, row)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s ", text_of(row, "name"));
    return names;
}

/* ---- what is compared ---------------------------------------------------------------------------------------------- */

static void options_choose_the_tensors(void **state)
{
    (void)state;
    static const struct {
        const char *one, *two, *names;
        int         exit;
    } table[] = {
        { "--limit=0", "--values", "alpha alpha2 beta gamma ", 1 },
        { "--limit=1", "--transpose-aware", "alpha ", 0 },
        { "--limit=9", "--quiet", "alpha alpha2 beta gamma ", 1 },
        { "--filter=alpha", "--limit=0", "alpha alpha2 ", 1 },
        { "--filter=alpha?", "--limit=0", "alpha2 ", 1 },
        { "--filter=alph[a]", "--limit=0", "alpha ", 0 },
        { "--filter=re:^(beta|gamma)$", "--limit=1", "beta ", 0 },
        { "--filter=beta", "--filter=*2", "alpha2 beta ", 1 },
    };
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", left(), right(), table[i].one, table[i].two, NULL), table[i].exit);
        if (strcmp(row_names(r), table[i].names) != 0)
            fail_msg("%s %s: %s", table[i].one, table[i].two, row_names(r));
        json_decref(r);
    }
}

static void a_filter_knows_both_names(void **state)
{
    (void)state;
    static const char *const words[] = { "--filter=self_attn.q_proj.weight", "--filter=attn_q.weight" };
    for (size_t i = 0; i < APR_LENGTH(words); i++) {
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", words[i], "fixtures/qwen2", "fixtures/qwen2-bf16.gguf", NULL), 0);
        assert_string_equal(row_names(r), "model.layers.0.self_attn.q_proj.weight model.layers.1.self_attn.q_proj.weight ");
        expect_text(words[i], r, "results.1.name_b", "blk.1.attn_q.weight");
        json_decref(r);
    }
}

static void what_has_no_twin_is_listed_and_fails(void **state)
{
    (void)state;
    static const struct test_tensor less[] = { FLOATS("b", ones) };
    static const struct test_tensor more[] = { FLOATS("a", ones), FLOATS("b", ones), FLOATS("c", ones) };
    static const struct test_tensor freqs[] = { FLOATS("b", ones), FLOATS("rope_freqs.weight", ones) };
    const char *const a = test_safetensors("less", less, 1), *const b = test_safetensors("more", more, 3);
    const char *const generated = test_safetensors("freqs", freqs, 2);
    const char *const rules = test_file("rules", "- {match: re:a|c, ignore: true}\n", 32);
    const struct {
        const char *a, *b, *option, *only_a, *only_b;
        int         exit;
    } table[] = {
        { a, b, "--json", "[]", "[\"a\",\"c\"]", 1 },
        { b, a, "--json", "[\"a\",\"c\"]", "[]", 1 },
        { a, b, "--subset", "[]", "[\"a\",\"c\"]", 0 },
        { a, b, "--filter=b", "[]", "[]", 0 },
        { a, generated, "--json", "[]", "[\"rope_freqs.weight\"]", 0 },
        { a, b, "--tolerances", "[]", "[\"a\",\"c\"]", 0 },
    };
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        const char *const argument = strcmp(table[i].option, "--tolerances") == 0 ? rules : NULL;
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", table[i].a, table[i].b, table[i].option, argument, NULL), table[i].exit);
        expect_text(table[i].option, r, "only_in_a", table[i].only_a);
        expect_text(table[i].option, r, "only_in_b", table[i].only_b);
        expect_text(table[i].option, r, "verdict", table[i].exit == 0 ? "Pass" : "Fail");
        expect_text(table[i].option, r, "tensors_compared", "1");
        json_decref(r);
    }
}

/* ---- what passes --------------------------------------------------------------------------------------------------- */

/* alpha: max 2^-9; alpha2: max 0.25, cosine 4.25 / sqrt(4 * 4.5625) = 0.9948, norm ratio 1.0680, 10 log10(4 / 0.0625) = 18.06 dB; gamma: cosine -1. */
static void bounds_decide_what_passes(void **state)
{
    (void)state;
    static const struct {
        const char *what, *rules, *option, *pass;
        int         exit;
    } table[] = {
        { "nothing asked", "[]", "--json", "1010", 1 },
        { "a low floor", "[]", "--threshold=0.99", "1110", 1 },
        { "no floor", "[]", "--threshold=-1", "1111", 0 },
        { "a high floor", "[]", "--threshold=1", "0010", 1 },
        { "the largest difference", "[{match: gamma, ignore: true}]", "--max-abs=0.001", "0011", 1 },
        { "its very value", "[{match: alpha2, ignore: true}, {match: gamma, ignore: true}]", "--max-abs=0.001953125", "1111", 0 },
        { "the root mean square", "[{match: 're:2|gam', ignore: true}]", "--max-rmse=0.0009765625", "1111", 0 },
        { "less than that", "[{match: 're:2|gam', ignore: true}]", "--max-rmse=0.00097", "0111", 1 },
        { "the first rule that matches", "- {match: alpha, cosine: 0.5}\n- {match: '*', ignore: true}\n", "--threshold=1", "1111", 0 },
        { "not a later one", "- {match: '*', cosine: 0.5}\n- {match: gamma, ignore: true}\n", "--threshold=1", "1110", 1 },
        { "bounds by name", "- {match: gamma, cosine: -1, max_abs: 2}\n- {match: alpha2, cosine: 0, rmse: 0.125}\n", "--max-abs=1",
          "1111", 0 },
        { "scale by name", "[{match: gamma, ignore: true}, {match: alpha2, cosine: 0.99, scale: 0.069}]", "--max-scale=0.01", "1111", 0 },
        { "less than that", "[{match: gamma, ignore: true}, {match: alpha2, cosine: 0.99, scale: 0.067}]", "--max-scale=1", "1011", 1 },
        { "decibels", "[{match: gamma, ignore: true}, {match: alpha2, cosine: 0.99}]", "--min-sqnr=18", "1111", 0 },
        { "more than there are", "[{match: gamma, ignore: true}, {match: alpha2, cosine: 0.99}]", "--min-sqnr=18.1", "1011", 1 },
        { "decibels by name", "[{match: gamma, ignore: true}, {match: alpha2, cosine: 0.99, sqnr: 18}]", "--min-sqnr=40", "1111", 0 },
        { "bounds a rule leaves out", "- {match: gamma, cosine: -1}\n", "--max-abs=1", "1010", 1 },
    };
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        const char *const rules = test_file("rules.yaml", table[i].rules, strlen(table[i].rules));
        char pass[8] = "";
        size_t k;
        json_t *row;
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", left(), right(), "--tolerances", rules, table[i].option, NULL),
                                    table[i].exit);
        json_array_foreach(at(r, "results"), k, row)
            strcat(pass, json_is_true(at(row, "pass")) ? "1" : "0");
        if (strcmp(pass, table[i].pass) != 0)
            fail_msg("%s: %s pass, not %s", table[i].what, pass, table[i].pass);
        json_decref(r);
    }
}

static void a_rule_that_matches_no_tensor_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *rules, *option, *told;
    } table[] = {
        { "- {match: alpha}\n- {match: '*'}\n- {match: 're:^g.*a$'}\n- {match: gamma}\n", "--json", "" },
        { "- {match: alpha}\n\n- {match: delta}\n", "--json", "rules.yaml: line 3: no tensor matches \"delta\"\n" },
        { "- {match: '*'}\n- {match: 're:^eta'}\n", "--partition=1/4", "rules.yaml: line 2: no tensor matches \"re:^eta\"\n" },
        { "- {match: gamma}\n- {match: 'gam?'}\n", "--filter=alpha", "rules.yaml: line 2: no tensor matches \"gam?\"\n" },
        { "- {match: delta}\n", "--quiet", "" },
        { "[{match: a1}, {match: c2}, {match: a3}, {match: a4}, {match: a5}, {match: a6}, {match: a7}, {match: a8}, {match: a9}, "
          "{match: b1}, {match: b2}, {match: b3}]", "--json", "rules.yaml: no tensor matches 2 more of its rules\n" },
    };
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        const char *const rules = test_file("rules.yaml", table[i].rules, strlen(table[i].rules));
        struct test_answer a = test_tool(APR_DIFF, "--json", left(), right(), "--tolerances", rules, table[i].option, NULL);
        const size_t n = strlen(table[i].told);
        if (a.exit > 1 || (n == 0) != (a.err.n == 0) || a.err.n < n || strcmp((const char *)a.err.at + a.err.n - n, table[i].told) != 0)
            fail_msg("%s: exit %d, %s", table[i].rules, a.exit, (const char *)a.err.at);
        test_answer_free(&a);
    }
}

static void a_rule_whose_match_takes_too_long_is_no_answer(void **state)
{
    (void)state;
    static const struct test_tensor tensors[] = { FLOATS("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaacb", ones) };
    static const char text[] = "- {match: 're:^((a+)+)+b'}\n", said[] = "rules.yaml: pattern \"re:^((a+)+)+b\": the name \"aaaaa";
    const char *const model = test_safetensors("long", tensors, 1), *const rules = test_file("rules.yaml", text, sizeof text - 1);
    struct test_answer a = test_tool(APR_DIFF, "--json", model, model, "--tolerances", rules, NULL);
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, said));
    json_decref(report_of(a, 2));
    a = test_tool(APR_DIFF, "--json", model, model, "--filter=re:^((a+)+)+b", NULL);
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "pattern \"re:^((a+)+)+b\""));
    json_decref(report_of(a, 2));
    a = test_tool("apr-inspect", "--json", "--tensors", model, "--filter=re:^((a+)+)+b", NULL);
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "pattern \"re:^((a+)+)+b\""));
    json_decref(report_of(a, 2));
}

static void a_tolerance_file_is_wrong_at_a_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error;
    } table[] = {
        { "", "line 1: expected a list of rules" },
        { "match: a\n", "line 1: expected a list of rules" },
        { "- a\n", "line 1: expected a rule" },
        { "# bounds\n- cosine: 1\n", "line 2: a rule without match" },
        { "- match: a\n  cosine: much\n", "line 2: is no number: \"much\"" },
        { "- match: a\n  cosine: nan\n", "line 2: is no number" },
        { "- match: a\n\n  cosinus: 1\n", "line 3: unknown key \"cosinus\"" },
        { "- match: a\n  ignore: 1\n", "line 2: ignore must be true or false" },
        { "- {match: [a]}\n", "line 1: expected a plain value for \"match\"" },
        { "- {match: a}\n- {match: 're:('}\n", "line 2: pattern \"re:(\"" },
        { "- {match: ''}\n", "line 1: match is empty" },
        { "- {match: a\n", "line 2, column 1: " },
        { "- {match: a}\n---\n- {match: b}\n", "line 2, column 1: a second document" },
    };
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        const char *const rules = test_file("rules.yaml", table[i].text, strlen(table[i].text));
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", left(), left(), "--tolerances", rules, NULL), 2);
        if (strstr(text_of(r, "error.text"), table[i].error) == NULL)
            fail_msg("%s: %s", table[i].error, text_of(r, "error.text"));
        json_decref(r);
    }
}

/* ---- forms --------------------------------------------------------------------------------------------------------- */

static void text_is_sorted_worst_first_where_asked(void **state)
{
    (void)state;
    static const char *const by_name[] = { "\nalpha ", "\nalpha2 ", "\nbeta ", "\ngamma " };
    static const char *const worst_first[] = { "\ngamma ", "\nalpha2 ", "\nalpha ", "\nbeta " };
    static const struct {
        const char *option, *const *order;
    } table[] = {
        { "--sort=name", by_name }, { "--sort=cosine", worst_first }, { "--sort=rmse", worst_first }, { "--sort=max", worst_first },
    };
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        struct test_answer a = test_tool(APR_DIFF, left(), right(), table[i].option, NULL);
        const char *text = (const char *)a.out.at;
        for (size_t k = 0; k < 4; k++) {
            text = strstr(text, table[i].order[k]);
            if (text == NULL)
                fail_msg("%s:%s is not in its place", table[i].option, table[i].order[k]);
        }
        test_answer_free(&a);
    }
}

/* Rows of text, which begin with their names. */
static void expect_rows(const char *option, const char *more, const char *const *names)
{
    static const char *const all[] = { "\nalpha ", "\nalpha2 ", "\nbeta ", "\ngamma " };
    struct test_answer a = test_tool(APR_DIFF, left(), right(), option, more, NULL);
    const char *text = (const char *)a.out.at;
    unsigned wanted = 0, there = 0;
    for (; names[wanted] != NULL; wanted++) {
        text = strstr(text, names[wanted]);
        if (text == NULL)
            fail_msg("%s: %s is not in its place", option, names[wanted]);
    }
    for (unsigned i = 0; i < APR_LENGTH(all); i++)
        there += test_says(&a.out, all[i]);
    assert_int_equal(there, wanted);
    assert_true(test_says(&a.out, "verdict: Fail"));
    test_answer_free(&a);
}

static void text_shows_the_rows_that_are_asked_for(void **state)
{
    (void)state;
    expect_rows("--worst=2", NULL, (const char *const[]){ "\ngamma ", "\nalpha2 ", NULL });
    expect_rows("--worst=9", "--sort=max", (const char *const[]){ "\ngamma ", "\nalpha2 ", "\nalpha ", "\nbeta ", NULL });
    expect_rows("--failed", "--threshold=0.9999", (const char *const[]){ "\nalpha2 ", "\ngamma ", NULL });
    expect_rows("--summary", NULL, (const char *const[]){ NULL });
    expect_exit(test_tool(APR_DIFF, left(), right(), "--json", "--failed", NULL), 2, "--failed does not go with --json");
}

static void lines_of_jsonl_are_the_rows_and_the_summary(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b, *option, *list;
    } table[] = {
        { "fixtures/qwen2", "fixtures/qwen2-q4_0.gguf", "--top=1", "results" },
        { "fixtures/qwen2", "fixtures/qwen2-q4_0.gguf", "--structure", "differences" },
        { "fixtures/trace", "fixtures/trace-drift", "--top=1", "stages" },
    };
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        json_t *const whole = report_of(test_tool(APR_DIFF, "--json", table[i].option, table[i].a, table[i].b, NULL), 1);
        struct test_answer a = test_tool(APR_DIFF, "--jsonl", table[i].option, table[i].a, table[i].b, NULL);
        const char *line = (const char *)a.out.at;
        size_t k;
        json_t *row;
        json_array_foreach(at(whole, table[i].list), k, row) {
            json_t *const got = json_loadb(line, strcspn(line, "\n"), 0, NULL);
            if (!json_equal(got, row))
                fail_msg("%s: line %zu is not row %zu", table[i].list, k + 1, k);
            json_decref(got);
            line += strcspn(line, "\n") + 1;
        }
        json_t *const summary = json_loads(line, 0, NULL);
        json_object_del(whole, table[i].list);
        if (!json_equal(summary, whole))
            fail_msg("%s: the last line is not the summary: %s", table[i].list, line);
        json_decref(summary);
        json_decref(whole);
        test_answer_free(&a);
    }
}

/* A GGUF with one tensor and these keys. */
static const char *gguf_with(const char *file, bool other)
{
    struct test_bytes b = { 0 };
    const char *const names[] = { "x.same", "x.kind", other ? "x.new" : "x.gone", "x.list", "split.no" };
    test_text(&b, "GGUF");
    test_integer(&b, 3, 4);
    test_integer(&b, 1, 8);
    test_integer(&b, APR_LENGTH(names), 8);
    for (size_t i = 0; i < APR_LENGTH(names); i++) {
        const bool list = strcmp(names[i], "x.list") == 0;
        test_integer(&b, strlen(names[i]), 8);
        test_text(&b, names[i]);
        test_integer(&b, list ? 9 : other && i == 1 ? 5 : 4, 4); /* an array; an i32; else a u32 */
        if (list) {
            test_integer(&b, 4, 4);
            test_integer(&b, 100, 8);
        }
        for (unsigned k = 0; k < (list ? 100 : 1); k++)
            test_integer(&b, list ? 1000 + k + (other && (k == 57 || k == 80)) : strcmp(names[i], "split.no") == 0 ? other : 7, 4);
    }
    test_integer(&b, 1, 8);
    test_text(&b, "t");
    test_integer(&b, 1, 4);
    test_integer(&b, 4, 8);
    test_integer(&b, 0, 4);
    test_integer(&b, 0, 8);
    test_align(&b, 32);
    test_floats(&b, ones, 4);
    test_align(&b, 32);
    const char *const path = test_file(file, b.at, b.n);
    test_free(&b);
    return path;
}

static void metadata_is_compared_key_by_key_and_fails_nothing(void **state)
{
    (void)state;
    const char *const a = gguf_with("a.gguf", false), *const b = gguf_with("b.gguf", true);
    json_t *r = report_of(test_tool(APR_DIFF, "--json", "--metadata", a, b, NULL), 0);
    const json_t *const metadata = at(r, "metadata");
    assert_int_equal(json_array_size(at(metadata, "differences")), 2);
    expect_text("a type", metadata, "differences.0", "{\"key\":\"x.kind\",\"type_a\":\"u32\",\"type_b\":\"i32\",\"a\":7,\"b\":7}");
    expect_text("an array", metadata, "differences.1", "{\"key\":\"x.list\",\"type_a\":\"arr\",\"type_b\":\"arr\",\"first_difference\":57,"
                "\"a\":1057,\"b\":1058,\"difference_count\":2,\"length_a\":100,\"length_b\":100}");
    expect_text("one side", metadata, "only_in_a", "[\"x.gone\"]");
    expect_text("one side", metadata, "only_in_b", "[\"x.new\"]");
    expect_text("the rest", metadata, "identical_count", "1"); /* split.* tells shards apart, not models */
    json_decref(r);
    r = report_of(test_tool(APR_DIFF, "--json", a, b, NULL), 0);
    expect_text("not asked for", r, "metadata", "{}");
    json_decref(r);
    struct test_answer text = test_tool(APR_DIFF, "--metadata", a, b, NULL);
    assert_true(test_says(&text.out, "metadata x.kind: 7 (u32) against 7 (i32)\n"
                                     "metadata x.list: elements that differ: 2 (lengths 100, 100), the first at 57: 1057 against 1058\n"
                                     "metadata only in A  x.gone\nmetadata only in B  x.new\n"));
    test_answer_free(&text);
}

static void structure_reads_headers_and_is_honest(void **state)
{
    (void)state;
    static const struct test_tensor other_values[] = { FLOATS("alpha", negated), FLOATS("alpha2", ones), FLOATS("beta", ones),
                                                       FLOATS("gamma", ones) };
    static const struct test_tensor other_shapes[] = { FLOATS("alpha", ones), { "alpha2", "F32", "[2,2]", ones, sizeof ones },
                                                       { "beta", "I32", "[4]", ones, sizeof ones }, FLOATS("delta", ones) };
    json_t *r = report_of(test_tool(APR_DIFF, "--json", "--structure", left(), test_safetensors("values", other_values, 4), NULL), 0);
    expect_text("other values", r, "identical", "true");
    expect_text("other values", r, "differences", "[]");
    json_decref(r);
    const char *const shapes = test_safetensors("shapes", other_shapes, 4);
    r = report_of(test_tool(APR_DIFF, "--json", "--structure", "--filter=re:^[a-d]", left(), shapes, NULL), 1);
    static const char *const fields[] = { "file_size", "tensor.alpha2.shape", "tensor.beta.dtype", "tensor.delta" };
    assert_int_equal(json_array_size(at(r, "differences")), APR_LENGTH(fields));
    for (size_t i = 0; i < APR_LENGTH(fields); i++) {
        char path[40];
        snprintf(path, sizeof path, "differences.%zu.field", i);
        expect_text("other shapes", r, path, fields[i]);
    }
    expect_text("a dtype", r, "differences.2", "{\"field\":\"tensor.beta.dtype\",\"file1_value\":\"F32\",\"file2_value\":\"I32\","
                "\"category\":\"quantization\",\"type\":\"dtype\"}");
    json_decref(r);
}

/* ---- shares -------------------------------------------------------------------------------------------------------- */

static const char *share(const char *how, unsigned k, unsigned of, const char *a, const char *b)
{
    char share_of[24], file[24];
    snprintf(share_of, sizeof share_of, "%u/%u", k, of);
    snprintf(file, sizeof file, "part-%u", k);
    struct test_answer answer = test_tool(APR_DIFF, "--json", "--top=2", "--rows=1", how, "--partition", share_of, a, b, NULL);
    assert_true(answer.exit <= 1);
    const char *const path = test_file(file, answer.out.at, answer.out.n);
    test_answer_free(&answer);
    return path;
}

static void merged_shares_are_the_bytes_of_one_run(void **state)
{
    (void)state;
    static const char *const how[] = { "--limit=0", "--filter=q_proj", "--metadata", "--limit=7" };
    static const char *const forms[] = { "--json", "--jsonl", "--sort=max" };
    for (size_t h = 0; h < APR_LENGTH(how); h++)
        for (unsigned of = 1; of <= 3; of++) {
            const char *part[3] = { NULL };
            for (unsigned k = 1; k <= of; k++)
                part[of - k] = share(how[h], k, of, "fixtures/qwen2", "fixtures/qwen2-q4_0.gguf");
            for (size_t f = 0; f < APR_LENGTH(forms); f++) {
                struct test_answer whole = test_tool(APR_DIFF, "--top=2", "--rows=1", how[h], forms[f], "fixtures/qwen2",
                                                     "fixtures/qwen2-q4_0.gguf", NULL);
                struct test_answer merged = test_tool(APR_DIFF, "--merge", forms[f], part[0], part[1], part[2], NULL);
                if (merged.exit != whole.exit || merged.out.n != whole.out.n || memcmp(merged.out.at, whole.out.at, whole.out.n) != 0)
                    fail_msg("%s %s: %u shares say something else: %s", how[h], forms[f], of, (const char *)merged.err.at);
                test_answer_free(&whole);
                test_answer_free(&merged);
            }
        }
}

static void shares_that_do_not_belong_together_are_refused(void **state)
{
    (void)state;
    static const char broken[] = "{\"schema\":\"apr-diff/1\",\"partition\":{\"number\":1,\"of\":1},\"results\":[1]}";
    const char *const one = test_file("one", "x", 1), *const two = share("--limit=0", 2, 2, left(), right());
    const char *const first = share("--limit=0", 1, 2, left(), right()), *const whole = test_file("json", broken, sizeof broken - 1);
    expect_exit(test_tool(APR_DIFF, "--merge", NULL), 2, "--merge needs");
    expect_exit(test_tool(APR_DIFF, "--merge", one, NULL), 2, "one: at byte 0: ");
    expect_exit(test_tool(APR_DIFF, "--merge", whole, NULL), 2, "json: is no JSON of apr-diff --partition");
    expect_exit(test_tool(APR_DIFF, "--merge", first, NULL), 2, "is part 1 of 2, but part 2 was not given");
    expect_exit(test_tool(APR_DIFF, "--merge", first, first, NULL), 2, "is part 1 of 2");
    expect_exit(test_tool(APR_DIFF, "--merge", first, two, NULL), 1, NULL);
    expect_exit(test_tool(APR_DIFF, "--merge", first, share("--limit=0", 2, 2, left(), left()), NULL), 2, "its model_b is not that of");
}

/* ---- no answer ----------------------------------------------------------------------------------------------------- */

static void what_makes_no_sense_is_exit_2(void **state)
{
    (void)state;
    static const struct {
        const char *one, *two, *error;
    } table[] = {
        { "fixtures/qwen2", NULL, "needs two models, got 1" },
        { "--filter=zebra", "fixtures/qwen2", "fixtures/qwen2.apr: no tensor matches the filter" },
        { "--filter=re:(", "fixtures/qwen2", "--filter: " },
        { "--partition=0/2", "fixtures/qwen2", "--partition needs K/N" },
        { "--partition=3/2", "fixtures/qwen2", "--partition needs K/N" },
        { "--partition=1", "fixtures/qwen2", "--partition needs K/N" },
        { "--top=10001", "fixtures/qwen2", "go up to 10000" },
        { "--sort=size", "fixtures/qwen2", "--sort" },
        { "--family=llama", "fixtures/qwen2", "--family is short for --family-file: cannot open llama: " },
        { "fixtures/trace", "--json", "is no trace: of its " },
        { "fixtures/nowhere", "--json", "fixtures/nowhere: " },
        { "fixtures/README.md", "--json", "fixtures/README.md: " },
    };
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        struct test_answer a = test_tool(APR_DIFF, table[i].one, table[i].two == NULL ? NULL : "fixtures/qwen2.apr", table[i].two, NULL);
        const bool json = table[i].two != NULL && strcmp(table[i].two, "--json") == 0;
        if ((a.out.n > 0) != json || (json && strstr((const char *)a.out.at, "\"error\":{\"code\":") == NULL))
            fail_msg("%s: stdout is: %s", table[i].error, (const char *)a.out.at);
        expect_exit(a, 2, table[i].error);
    }
}

/* Only where both sides have some, and where it was not asked for. */
static void what_lacks_a_twin_is_told_of_discovery(void **state)
{
    (void)state;
    static const float v[4] = { 1, 2, 3, 4 };
    const struct test_tensor t[] = { { "t", "F32", "[4]", v, 16 }, { "u", "F32", "[4]", v, 16 }, { "w", "F32", "[4]", v, 16 } };
    const char *const one = test_safetensors("t.safetensors", t, 1), *const tu = test_safetensors("tu.safetensors", t, 2),
               *const uw = test_safetensors("uw.safetensors", t + 1, 2), *const words = "--discover looks for pairs";
    expect_exit(test_tool(APR_DIFF, tu, uw, NULL), 1, words);
    static const char *const without[] = { "--quiet", "--json", "--subset", "--discover" };
    for (size_t i = 0; i < APR_LENGTH(without); i++) {
        struct test_answer a = test_tool(APR_DIFF, tu, uw, without[i], NULL);
        assert_false(test_says(&a.err, words));
        test_answer_free(&a);
    }
    struct test_answer a = test_tool(APR_DIFF, one, tu, NULL);
    assert_false(test_says(&a.err, words));
    expect_exit(a, 1, NULL);
}

static void standard_input_is_a_model(void **state)
{
    (void)state;
    struct test_bytes apr = test_load("fixtures/qwen2-zstd.apr");
    expect_exit(test_tool_in(&apr, APR_DIFF, "-", "fixtures/qwen2", NULL), 0, NULL);
    expect_exit(test_tool_in(&apr, APR_DIFF, "fixtures/qwen2.apr", "-", NULL), 0, NULL);
    test_free(&apr);
}

/* Runs a shell line with the tool in $0; its exit status. */
static int shell(const char *line)
{
    char command[4096];
    snprintf(command, sizeof command, "sh -c '%s' %s/" APR_DIFF, line, APR_BUILD);
    const int status = system(command);
    return status < 0 ? status : status >> 8;
}

static void a_full_disk_is_told_and_a_closed_pipe_is_not(void **state)
{
    (void)state;
    assert_int_equal(shell("\"$0\" fixtures/qwen2 fixtures/qwen2.apr 2>&1 >/dev/full | grep -q \"standard output\""), 0);
    assert_int_equal(shell("\"$0\" fixtures/qwen2 fixtures/qwen2.apr >/dev/full 2>/dev/null"), 2);
    assert_int_equal(shell("test -z \"$( { \"$0\" --json fixtures/qwen2 fixtures/qwen2.apr | : ; } 2>&1 )\""), 0);
}

/* ---- rows of several parts ------------------------------------------------------------------------------------------ */

static const char parts_contract[] =
    "schema: apr-family/1\n"
    "family: toy\n"
    "dims: {N: 1}\n"
    "tensors:\n"
    "  - {role: qk, hf: \"m.{L}.qk\", gguf: [\"b.{L}.q\", \"b.{L}.k\"], shape: [4, 2],\n"
    "     transform: [{op: ungroup, groups: 2, parts: [1, 1]}, {op: split_rows, parts: [2, 2], then: [[], {op: scale, by: 2}]}]}\n"
    "  - {role: gu, hf: [\"m.{L}.g\", \"m.{L}.u\"], gguf: \"b.{L}.gu\", shape: [3, 2], transform: {op: concat_rows, parts: [1, 2]}}\n";

static const char *parts_family(void) { return test_file("toy.yaml", parts_contract, sizeof parts_contract - 1); }

static const char *joined(void)
{
    static const float qk[] = { 1, 2, 3, 4, 5, 6, 7, 8 }, g[] = { 9, 10 }, u[] = { 11, 12, 13, 14 };
    static const struct test_tensor t[] = { { "m.0.qk", "F32", "[4,2]", qk, sizeof qk }, { "m.0.g", "F32", "[1,2]", g, sizeof g },
                                            { "m.0.u", "F32", "[2,2]", u, sizeof u } };
    return test_safetensors("joined", t, APR_LENGTH(t));
}

static const char *apart(const char *shape_of_k)
{
    static const float q[] = { 1, 2, 5, 6 }, k[] = { 6, 8, 14, 16 }, gu[] = { 9, 10, 11, 12, 13, 14 };
    const struct test_tensor t[] = { { "b.0.q", "F32", "[2,2]", q, sizeof q }, { "b.0.k", "F32", shape_of_k, k, sizeof k },
                                     { "b.0.gu", "F32", "[3,2]", gu, sizeof gu } };
    return test_safetensors("apart", t, APR_LENGTH(t));
}

static void a_row_of_several_parts_names_all_of_them(void **state)
{
    (void)state;
    const char *const family = parts_family();
    json_t *r = report_of(test_tool(APR_DIFF, "--json", "--family-file", family, joined(), apart("[2,2]"), NULL), 0);
    assert_string_equal(row_names(r), "m.0.g m.0.qk m.0.u ");
    expect_text("the parts", r, "results.1.parts_b", "[\"b.0.q\",\"b.0.k\"]");
    expect_text("the transform", r, "results.1.transform", "ungroup(2,1,1)+split_rows[;scale(2)]");
    expect_text("a name of two", r, "results.2.parts_b", "[\"b.0.gu\"]");
    expect_text("its transform", r, "results.2.transform", "concat_rows");
    expect_text("the values", r, "results.1.max_diff", "0");
    json_decref(r);
    r = report_of(test_tool(APR_DIFF, "--json", "--family-file", family, apart("[2,2]"), joined(), NULL), 0);
    assert_string_equal(row_names(r), "b.0.gu b.0.k b.0.q ");
    expect_text("both names", r, "results.0.parts_b", "[\"m.0.g\",\"m.0.u\"]");
    expect_text("what its part goes through", r, "results.1.transform", "ungroup(2,1,1)+split_rows+scale(2)");
    expect_text("and the other", r, "results.2.transform", "ungroup(2,1,1)+split_rows");
    json_decref(r);
    r = report_of(test_tool(APR_DIFF, "--json", "--family-file", family, joined(), apart("[4,1]"), NULL), 1);
    expect_text("shapes that do not fit", r, "results.1.parts_b", "[\"b.0.q\",\"b.0.k\"]");
    expect_text("the one that does not", r, "results.1.name_b", "b.0.k");
    json_decref(r);
    const char *const rules = test_file("rules", "- {match: b.0.k, ignore: true}\n", 31);
    r = report_of(test_tool(APR_DIFF, "--json", "--family-file", family, joined(), apart("[4,1]"), "--tolerances", rules, NULL), 0);
    expect_text("a rule for a part", r, "results.1.ignored", "true");
    json_decref(r);
    struct test_answer a = test_tool(APR_DIFF, "--family-file", family, joined(), apart("[2,2]"), NULL);
    assert_true(a.exit == 0 && test_says(&a.out, "= b.0.q  + b.0.k"));
    test_answer_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_of_several_parts_names_all_of_them),
        cmocka_unit_test(options_choose_the_tensors),
        cmocka_unit_test(a_filter_knows_both_names),
        cmocka_unit_test(what_has_no_twin_is_listed_and_fails),
        cmocka_unit_test(bounds_decide_what_passes),
        cmocka_unit_test(a_rule_that_matches_no_tensor_is_told),
        cmocka_unit_test(a_rule_whose_match_takes_too_long_is_no_answer),
        cmocka_unit_test(a_tolerance_file_is_wrong_at_a_line),
        cmocka_unit_test(text_is_sorted_worst_first_where_asked),
        cmocka_unit_test(text_shows_the_rows_that_are_asked_for),
        cmocka_unit_test(lines_of_jsonl_are_the_rows_and_the_summary),
        cmocka_unit_test(metadata_is_compared_key_by_key_and_fails_nothing),
        cmocka_unit_test(structure_reads_headers_and_is_honest),
        cmocka_unit_test(merged_shares_are_the_bytes_of_one_run),
        cmocka_unit_test(shares_that_do_not_belong_together_are_refused),
        cmocka_unit_test(what_makes_no_sense_is_exit_2),
        cmocka_unit_test(what_lacks_a_twin_is_told_of_discovery),
        cmocka_unit_test(standard_input_is_a_model),
        cmocka_unit_test(a_full_disk_is_told_and_a_closed_pipe_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
