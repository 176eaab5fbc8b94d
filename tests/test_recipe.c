/* lib/convert/recipe.h: rules of dtypes from the command line and from recipes, and recipes that are written. */
#include "support.h"

#include <stdio.h>
#include <strings.h>

#include "convert/recipe.h"
#include "base/bytes.h"

/* All dtypes but two, and "half". */
static const struct apr_dtype *type_named(const void *ctx, const char *word)
{
    assert_string_equal(ctx, "ctx");
    word = strcasecmp(word, "half") == 0 ? "f16" : word;
    for (size_t i = 0; i < APR_NDTYPES; i++)
        if (i != APR_Q8_1 && i != APR_Q8_K && strcasecmp(apr_dtypes[i].name, word) == 0)
            return &apr_dtypes[i];
    return NULL;
}

static struct apr_recipe empty(void) { return (struct apr_recipe){ .type = type_named, .ctx = "ctx" }; }

static void add(struct apr_recipe *r, const char *option)
{
    struct apr_error e;
    if (apr_recipe_add(r, option, &e) != APR_OK)
        fail_msg("%s: %s", option, e.text);
}

static void read_text(struct apr_recipe *r, struct apr_bytes text)
{
    struct apr_error e;
    if (apr_recipe_read(r, "r.yaml", text, &e) != APR_OK)
        fail_msg("%.*s: %s", APR_PRINTED(text), e.text);
}

static const struct apr_recipe_rule *found(struct apr_recipe *r, struct apr_bytes name, const char *gguf)
{
    const struct apr_recipe_rule *rule;
    struct apr_error e;
    if (apr_recipe_find(r, name, apr_text(gguf), &rule, &e) != APR_OK)
        fail_msg("%s", e.text);
    return rule;
}

/* The dtype's name; "copy", and "-" where no rule matches. */
static const char *type_of(struct apr_recipe *r, const char *name, const char *gguf)
{
    const struct apr_recipe_rule *const rule = found(r, apr_text(name), gguf);
    return rule == NULL ? "-" : rule->dtype == NULL ? APR_RECIPE_COPY : rule->dtype->name;
}

static void the_first_rule_that_matches_decides_and_the_command_line_comes_first(void **state)
{
    (void)state;
    struct apr_recipe r = empty();
    add(&r, "ffn_down=q6_k");
    add(&r, "blk.0.ffn_[gu]*=Q5_K");
    read_text(&r, apr_text("# remark\n- {match: 're:ffn_(up|down)', type: iq4_nl}\n- match: attn_?.weight\n  type: f32\n"
                           "- {type: COPY, match: \"attn\"}\n- {match: '*', type: half}\n"));
    static const struct { const char *name, *type; } rows[] = {
        { "blk.0.ffn_down.weight", "Q6_K" }, { "blk.0.ffn_up.weight", "Q5_K" }, { "blk.1.ffn_up.weight", "IQ4_NL" },
        { "attn_q.weight", "F32" }, { "blk.0.attn_q.weight", "copy" }, { "output.weight", "F16" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        assert_string_equal(type_of(&r, rows[i].name, ""), rows[i].type);
    assert_int_equal(r.n, 6);
    for (size_t i = 0; i < r.n; i++)
        assert_int_equal(r.rule[i].used, 1);
    assert_int_equal(r.rule[1].line, 0);
    assert_int_equal(r.rule[2].line, 2);
    assert_int_equal(r.rule[2].column, 3);
    assert_int_equal(r.rule[4].line, 5);
    apr_recipe_free(&r);
}

static void a_tensor_goes_by_its_own_name_and_by_that_of_a_gguf(void **state)
{
    (void)state;
    struct apr_recipe r = empty();
    add(&r, "blk.1.=q4_k");
    add(&r, "up_proj=q5_k");
    assert_string_equal(type_of(&r, "model.layers.1.mlp.up_proj.weight", "blk.1.ffn_up.weight"), "Q4_K");
    assert_string_equal(type_of(&r, "model.layers.2.mlp.up_proj.weight", "blk.2.ffn_up.weight"), "Q5_K");
    assert_string_equal(type_of(&r, "blk.1.ffn_up.weight", "blk.1.ffn_up.weight"), "Q4_K");
    assert_string_equal(type_of(&r, "model.norm.weight", ""), "-");
    apr_recipe_free(&r);
}

static void no_rules_decide_nothing(void **state)
{
    (void)state;
    struct apr_recipe r = empty();
    assert_string_equal(type_of(&r, "a", "b"), "-");
    read_text(&r, apr_text("[]"));
    assert_string_equal(type_of(&r, "a", "b"), "-");
    apr_recipe_free(&r);
}

static void the_last_equals_sign_parts_an_option(void **state)
{
    (void)state;
    struct apr_recipe r = empty();
    add(&r, "re:^a=b$=q8_0");
    assert_string_equal(type_of(&r, "a=b", ""), "Q8_0");
    apr_recipe_free(&r);
}

static void rules_that_match_nothing_are_told(void **state)
{
    (void)state;
    struct apr_recipe r = empty();
    struct apr_error e;
    add(&r, "ffn=f16");
    add(&r, "exps=f16");
    read_text(&r, apr_text("- {match: ffn_up, type: f32}\n\n- {match: 're:^x', type: f32}\n"));
    type_of(&r, "blk.0.ffn_up.weight", "");
    assert_false(apr_recipe_idle(&r, 0, &e));
    assert_true(apr_recipe_idle(&r, 1, &e));
    assert_string_equal(e.text, "--tensor-type: no tensor matches \"exps\"");
    assert_string_equal(e.file, "");
    assert_false(apr_recipe_idle(&r, 2, &e)); /* it matches, but another one came before */
    assert_int_equal(r.rule[2].used, 0);
    assert_true(apr_recipe_idle(&r, 3, &e));
    assert_string_equal(e.text, "line 3, column 3: no tensor matches \"re:^x\"");
    assert_string_equal(e.file, "r.yaml");
    apr_recipe_free(&r);
}

/* ---- what is refused ------------------------------------------------------------------------------------------------ */

static void an_option_that_makes_no_sense_is_named_with_what_is_near(void **state)
{
    (void)state;
    static const struct { const char *option, *text; } rows[] = {
        { "ffn_down", "--tensor-type \"ffn_down\": expected PATTERN=TYPE, as in ffn_down=q6_k" },
        { "=q6_k", "--tensor-type \"=q6_k\": the pattern is empty" },
        { "a=q6_kk", "--tensor-type \"a=q6_kk\": there is no type \"q6_kk\"; did you mean \"q6_k\"" },
        { "a=Q6K", "--tensor-type \"a=Q6K\": there is no type \"Q6K\"; did you mean \"q6_k\"" },
        { "a=copi", "--tensor-type \"a=copi\": there is no type \"copi\"; did you mean \"copy\"" },
        { "a=something", "--tensor-type \"a=something\": there is no type \"something\", only f64 f32 f16 bf16" },
        { "a=", "--tensor-type \"a=\": there is no type \"\"" }, { "re:(=f16", "--tensor-type \"re:(=f16\": pattern \"re:(\": missing" },
        { "a=\x1b[", "--tensor-type \"a=\\x1b[\": there is no type \"\\x1b[\"" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_recipe r = empty();
        struct apr_error e;
        assert_int_equal(apr_recipe_add(&r, rows[i].option, &e), APR_EARG);
        if (strncmp(e.text, rows[i].text, strlen(rows[i].text)) != 0)
            fail_msg("%s: %s", rows[i].option, e.text);
        assert_int_equal(r.n, 0);
        apr_recipe_free(&r);
    }
}

static void what_is_wrong_in_a_recipe_is_told_with_line_and_column(void **state)
{
    (void)state;
    static const struct { const char *yaml, *text; } rows[] = {
        { "- {match: ffn, type: q9_k}\n", "line 1, column 22: there is no type \"q9_k\"; did you mean \"q2_k\"" },
        { "- match: ffn\n  type:\n    q4_k_m\n", "line 3, column 5: there is no type \"q4_k_m\"; did you mean \"q4_k\"" },
        { "- match: ffn\n  tipe: q4_k\n", "line 2, column 3: unknown key \"tipe\"; did you mean \"type\"" },
        { "- match: ffn\n  type: q4_k\n  weight: 1\n", "line 3, column 3: unknown key \"weight\", expected match and type" },
        { "- {match: ffn, match: up, type: q4_k}", "line 1, column 16: a second key \"match\"" },
        { "- {match: a, type: f16}\n- {match: ffn}\n", "line 2, column 3: a rule without type" },
        { "-\n  type: f16\n", "line 2, column 3: a rule without match" }, { "- {}", "line 1, column 3: a rule without match" },
        { "- {match: '', type: f16}", "line 1, column 11: the pattern is empty" },
        { "- {match: 're:a{', type: 're:'}", "line 1, column 26: there is no type \"re:\"" },
        { "- {type: f16, match: 're:['}", "line 1, column 22: pattern \"re:[\": " },
        { "- {match: [a], type: f16}", "line 1, column 11: expected one word for \"match\"" },
        { "- {match: a, type: {f16: }}", "line 1, column 20: expected one word for \"type\"" },
        { "match: a\ntype: f16\n", "line 1, column 1: expected a list of rules" }, { "", "line 1, column 1: expected a list of rules" },
        { "- ffn=q4_k\n", "line 1, column 3: expected a rule, {match: PATTERN, type: TYPE}, not \"ffn=q4_k\"" },
        { "- [a]\n", "line 1, column 3: expected a rule" }, { "-\n", "line 1, column 2: expected a rule" },
        { "- &a {match: a, type: f16}\n- *a\n", "line 1, column 3: anchors are not accepted" },
        { "- *a\n", "line 1, column 3: aliases are not accepted" }, { "- {match: !!str a, type: f16}", "line 1, column 11: tags" },
        { "- {match: a, type: f16\n", "line 2, column 1: " }, { "- {match: \"\\0\", type: f16}", "line 1, column 11: a NUL" },
        { "[]\n---\n[]\n", "line 2, column 1: a second document" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_recipe r = empty();
        struct apr_error e = { 0 };
        const char *const path = test_file("wrong.yaml", rows[i].yaml, strlen(rows[i].yaml));
        assert_int_equal(apr_recipe_open(&r, path, test_run_with(1), &e), APR_EARG);
        if (strncmp(e.text, rows[i].text, strlen(rows[i].text)) != 0 || strcmp(e.file, path) != 0)
            fail_msg("%s\n%s: %s", rows[i].yaml, e.file, e.text);
        apr_recipe_free(&r);
    }
}

static void a_recipe_that_is_not_there_is_named(void **state)
{
    (void)state;
    struct apr_recipe r = empty();
    struct apr_error e = { 0 };
    assert_int_equal(apr_recipe_open(&r, test_path("absent.yaml"), test_run_with(1), &e), APR_EIO);
    assert_non_null(strstr(e.file, "absent.yaml"));
    apr_recipe_free(&r);
}

static void recipes_have_bounds(void **state)
{
    (void)state;
    static const struct { const char *piece; size_t n; const char *words; } rows[] = {
        { "- {match: a, type: f16}\n", 250000, NULL },
        { "- {match: a, type: f16}\n", 250001, "line 250001, column 11: more than 250000 rules" },
        { "- ", 1000, "more than 64 levels" }, { "# a comment\n", 1400000, "more than 16 MiB" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_recipe r = empty();
        struct test_bytes b = { 0 };
        struct apr_error e;
        for (size_t n = 0; n < rows[i].n; n++)
            test_text(&b, rows[i].piece);
        const enum apr_code code = apr_recipe_read(&r, "r.yaml", (struct apr_bytes){ b.at, b.n }, &e);
        if (code != (rows[i].words == NULL ? APR_OK : APR_EARG) || (code != APR_OK && strstr(e.text, rows[i].words) == NULL))
            fail_msg("%s: %s", rows[i].piece, code == APR_OK ? "taken" : e.text);
        apr_recipe_free(&r);
        test_free(&b);
    }
}

/* ---- what is written ------------------------------------------------------------------------------------------------ */

static void a_written_recipe_has_a_line_for_each_tensor(void **state)
{
    (void)state;
    const struct apr_recipe_line lines[] = {
        { apr_text("token_embd.weight"), &apr_dtypes[APR_Q8_0] }, { apr_text("blk.0.attn_q.weight"), &apr_dtypes[APR_IQ4_XS] },
        { apr_text("norm"), NULL }, { apr_text("a\nb\xc3\xa4"), &apr_dtypes[APR_APR_Q4] },
    };
    static const char wanted[] = "# Made for 4.5 bits a weight\n#\n# of \\x1b[model\n"
                                 "- {match: 're:^token_embd\\.weight$', type: q8_0}\n"
                                 "- {match: 're:^blk\\.0\\.attn_q\\.weight$', type: iq4_xs}\n"
                                 "- {match: 're:^norm$', type: copy}\n- {match: \"re:^a\\nb\\xE4$\", type: apr_q4}\n";
    struct apr_bytes text;
    struct apr_error e;
    assert_int_equal(apr_recipe_write(&text, "Made for 4.5 bits a weight\n\nof \x1b[model", lines, APR_LENGTH(lines), &e), APR_OK);
    if (text.n != sizeof wanted - 1 || memcmp(text.at, wanted, text.n) != 0)
        fail_msg("%.*s", APR_PRINTED(text));
    free((void *)(uintptr_t)text.at);
    assert_int_equal(apr_recipe_write(&text, "", NULL, 0, &e), APR_OK);
    assert_true(text.n == 3 && memcmp(text.at, "[]\n", 3) == 0);
    free((void *)(uintptr_t)text.at);
}

/* Reads back what is written of n names; each must have its own rule, and with a character more or less none. */
static void comes_back(const struct apr_recipe_line *line, size_t n)
{
    struct apr_recipe r = empty();
    struct apr_bytes text;
    struct apr_error e;
    if (apr_recipe_write(&text, "", line, n, &e) != APR_OK)
        fail_msg("%s", e.text);
    read_text(&r, text);
    assert_int_equal(r.n, n);
    for (size_t i = 0; i < n; i++) {
        const struct apr_recipe_rule *const rule = found(&r, line[i].name, "");
        if (rule != &r.rule[i] || rule->dtype != line[i].dtype || rule->used != 1)
            fail_msg("%s comes back as another one in\n%.*s", APR_QUOTED(line[i].name), APR_PRINTED(text));
    }
    free((void *)(uintptr_t)text.at);
    apr_recipe_free(&r);
}

static void hostile_names_come_back_as_they_were(void **state)
{
    (void)state;
    static const char *const names[] = {
        "", " ", "a", "A", "a.b", "aXb", "\\", "\\.", "^", "$", "a$", "[b]lk", "re:^a$", "*", "a*", "?", "(?R)", "\\d", "\\Q", "{2}", "a|b",
        "a+", "'", "\"", "it's", "- a", "a: b", "a:", "# a", "a # b", "%TAG", "%YAML 1.1", "---", "...", "&a", "*a", "!!str", "<<", "~",
        "null", "{", "}", "[", "]", ",", "\t", "a\tb", "\n", "a\n", "\na", "a\n\nb", "\r\n", "a \n b ", "\x01\x1f\x7f",
        "\xc2\x85", "\xe2\x80\xa8", "\xef\xbb\xbf", "\xef\xbb\xbf" "a", "\xc3\xa4", "\xe4\xb8\xad", "\xf0\x9f\x98\x80", "\xe2\x80\xae" "x",
        "a\xe2\x80\xa9%TAG", " a ", "@", "`", "=", "/", "\x1b[1m",
    };
    struct apr_recipe_line line[APR_LENGTH(names)];
    for (size_t i = 0; i < APR_LENGTH(names); i++)
        line[i] = (struct apr_recipe_line){ apr_text(names[i]), i % 3 == 0 ? NULL : &apr_dtypes[i % 3 == 1 ? APR_Q4_K : APR_MXFP4] };
    comes_back(line, APR_LENGTH(names));
    for (size_t i = 0; i < APR_LENGTH(names); i++)
        comes_back(&line[i], 1);
}

static void every_character_comes_back_as_it_was(void **state)
{
    (void)state;
    static unsigned char text[0x110000 / 64][256];
    static struct apr_recipe_line line[APR_LENGTH(text)];
    size_t n = 0, k = 0;
    for (unsigned c = 1; c < 0x110000; c++) {
        unsigned char *const at = text[n] + k;
        if (c >= 0xD800 && c < 0xE000)
            continue;
        const unsigned length = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        static const unsigned char first[] = { 0, 0, 0xC0, 0xE0, 0xF0 };
        for (unsigned i = 0; i < length; i++)
            at[i] = (unsigned char)((i == 0 ? first[length] : 0x80) | (c >> 6 * (length - 1 - i) & (i == 0 ? 0x7F : 0x3F)));
        k += length;
        if (c % 64 == 63) {
            line[n] = (struct apr_recipe_line){ { text[n], k }, &apr_dtypes[APR_Q4_K] };
            n++;
            k = 0;
        }
    }
    comes_back(line, n);
}

static void names_that_no_recipe_can_hold_are_told(void **state)
{
    (void)state;
    static unsigned char name[20000];
    struct apr_bytes text;
    struct apr_error e;
    memset(name, '.', sizeof name);
    const struct apr_recipe_line most = { { name, (APR_PATTERN_MOST - 5) / 2 }, NULL }, longer = { { name, most.name.n + 1 }, NULL };
    const struct apr_recipe_line lines[] = { { apr_text("a\xff"), NULL }, { { (const unsigned char *)"a\0b", 3 }, NULL } };
    comes_back(&most, 1);
    assert_int_equal(apr_recipe_write(&text, "", &longer, 1, &e), APR_ELIMIT);
    assert_int_equal(apr_recipe_write(&text, "", &lines[0], 1, &e), APR_EARG);
    assert_non_null(strstr(e.text, "tensor \"a\\xff\""));
    assert_int_equal(apr_recipe_write(&text, "", &lines[1], 1, &e), APR_EARG);
}

static void a_recipe_of_the_largest_model_comes_back(void **state)
{
    (void)state;
    static char name[90000][64];
    static struct apr_recipe_line line[90000];
    for (size_t i = 0; i < APR_LENGTH(line); i++) {
        snprintf(name[i], sizeof name[i], "model.layers.%zu.mlp.experts.%zu.down_proj.weight", i / 300, i % 300);
        line[i] = (struct apr_recipe_line){ apr_text(name[i]), &apr_dtypes[i % 2 == 0 ? APR_Q4_K : APR_Q6_K] };
    }
    comes_back(line, APR_LENGTH(line));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_rule_that_matches_decides_and_the_command_line_comes_first),
        cmocka_unit_test(a_tensor_goes_by_its_own_name_and_by_that_of_a_gguf),
        cmocka_unit_test(no_rules_decide_nothing),
        cmocka_unit_test(the_last_equals_sign_parts_an_option),
        cmocka_unit_test(rules_that_match_nothing_are_told),
        cmocka_unit_test(an_option_that_makes_no_sense_is_named_with_what_is_near),
        cmocka_unit_test(what_is_wrong_in_a_recipe_is_told_with_line_and_column),
        cmocka_unit_test(a_recipe_that_is_not_there_is_named),
        cmocka_unit_test(recipes_have_bounds),
        cmocka_unit_test(a_written_recipe_has_a_line_for_each_tensor),
        cmocka_unit_test(hostile_names_come_back_as_they_were),
        cmocka_unit_test(every_character_comes_back_as_it_was),
        cmocka_unit_test(names_that_no_recipe_can_hold_are_told),
        cmocka_unit_test(a_recipe_of_the_largest_model_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
