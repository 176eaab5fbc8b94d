/* lib/family/expr.h: what sizes and conditions of family contracts come to. */
#include "support.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>

#include "base/bytes.h"
#include "family/expr.h"

/* The names that expressions below may use; any other is not known. */
static const struct { const char *name, *text; double number; } dims[] = {
    { "A", NULL, 32 },         { "K", NULL, 8 },           { "H", NULL, 2048 },      { "E", NULL, 0 },         { "zero", NULL, 0 },
    { "one", NULL, 1 },        { "half", NULL, 0.5 },      { "nan", NULL, NAN },     { "infinite", NULL, INFINITY },
    { "kind", "llama3", 0 },   { "empty", "", 0 },         { "or_", NULL, 5 },       { "notes", NULL, 6 },     { "min", NULL, 7 },
    { "rope.base", NULL, 500 }, { "list.0", NULL, 11 },    { "list.3", NULL, 14 },   { "types.3", "sliding", 0 },
    { "endless.0", NULL, -INFINITY },
};

static struct apr_result dim_value(void *ctx, struct apr_bytes name)
{
    unsigned *const asked = ctx;
    if (asked != NULL)
        (*asked)++;
    for (size_t i = 0; i < APR_LENGTH(dims); i++)
        if (apr_bytes_equal(name, apr_text(dims[i].name)))
            return (struct apr_result){ .known = true, .number = dims[i].number,
                                        .text = dims[i].text == NULL ? (struct apr_bytes){ 0 } : apr_text(dims[i].text) };
    return (struct apr_result){ 0 };
}

static bool has_path(void *ctx, struct apr_bytes path)
{
    (void)ctx;
    return apr_bytes_is(path, "rope_scaling.factor") || apr_bytes_is(path, "list.1") || apr_bytes_is(path, "top");
}

static const struct apr_scope scope = { dim_value, has_path, NULL };

static struct apr_expr *compile(const char *text)
{
    struct apr_expr *x;
    struct apr_error e;
    if (apr_expr_new(&x, apr_text(text), &e) != APR_OK)
        fail_msg("%s: %s", text, e.text);
    return x;
}

#define UNKNOWN NAN

static void expressions_come_to_what_they_say(void **state)
{
    (void)state;
    static const struct { const char *text; double value; } rows[] = {
        { "7", 7 }, { " 0.00001 ", 0.00001 }, { "1e3", 1000 }, { "2.5E-1", 0.25 }, { "007", 7 }, { "1.", 1 },
        { "18446744073709551616", 0x1p64 },
        { "H / A", 64 }, { "A*H/A", 2048 }, { "3*H", 6144 }, { "(A + 2*K)*(H/A)", 3072 }, { "H-A-K", 2008 }, { "H/A/K", 8 },
        { "H/(A/K)", 512 },
        { "1 + 2 * 3", 7 }, { "(1 + 2) * 3", 9 }, { "2 - 3 - 4", -5 }, { "7 / 2", 3.5 }, { "-A", -32 }, { "--A", 32 }, { "2 - -3", 5 },
        { "-A + 1", -31 }, { "-2 * 3", -6 }, { "-(2 + 3)", -5 }, { "or_ + notes + min", 18 }, { "not_a_name", UNKNOWN },
        { "A == 32", 1 }, { "A != 32", 0 }, { "A < K", 0 }, { "A <= 32", 1 }, { "A > K", 1 }, { "A >= 33", 0 }, { "A<=K+24", 1 },
        { "1 + (2 == 2)", 2 },
        { "E == 0", 1 }, { "E > 0", 0 }, { "one and E == 0", 1 }, { "not E", 1 }, { "not not A", 1 }, { "not A == 32", 0 }, { "not(A)", 0 },
        { "1 or 0 and 0", 1 }, { "(1 or 0) and 0", 0 }, { "0 or 5", 1 }, { "2 and 3", 1 }, { "not 0 and 0", 0 }, { "0 and not 0 or 1", 1 },
        { "kind == 'llama3'", 1 }, { "kind != 'llama3'", 0 }, { "kind == 'yarn' or kind == 'llama3'", 1 }, { "'a' == 'b'", 0 },
        { "'' == empty", 1 },
        { "'\xc3\xa4' == '\xc3\xa4'", 1 }, { "'a' == 'ab'", 0 },
        { "floor(2.5)", 2 }, { "floor(-2.5)", -3 }, { "ceil(2.5)", 3 }, { "ceil(H/30)", 69 }, { "min(A, K)", 8 }, { "max(A,K)", 32 },
        { "sqrt(H*2)", 64 },
        { "ln(1)", 0 }, { "exp(0)", 1 }, { "if(E > 0, 1, 2)", 2 }, { "if(one, A, K)", 32 }, { "floor(half*H)/A", 32 },
        { "min(min(A, K), 3)", 3 },
        { "has(list, 1)", 1 }, { "has(list, A - 31)", 1 }, { "has(list, 2)", 0 }, { "has(list, nothing)", UNKNOWN },
        { "has(list, -1)", UNKNOWN }, { "has(rope_scaling.factor)", 1 }, { "has( top )", 1 }, { "has(rope_scaling.other)", 0 }, { "not has(x.y.z)", 1 },
        { "if (has(top), A, u)", 32 },
        { "mod(7, 3)", 1 }, { "mod(6, 3)", 0 }, { "mod(-1, 3)", 2 }, { "mod(7.5, 2)", 1.5 }, { "mod(A, K) == 0", 1 }, { "mod(1, 0)", UNKNOWN },
        { "first(A, K)", 32 }, { "first(u, K)", 8 }, { "first(u, u)", UNKNOWN }, { "first(at(list, 9), first(u, 3))", 3 },
        { "first(1 / 0, 3)", UNKNOWN }, { "first(kind + 1, 3)", UNKNOWN },
        { "value(rope.base)", 500 }, { "value( A ) + 1", 33 }, { "value(rope.other)", UNKNOWN }, { "first(value(x.y), 2)", 2 },
        { "at(list, 0)", 11 }, { "at( list , A - 29 ) + 1", 15 }, { "at(list, 1)", UNKNOWN }, { "at(list, -1)", UNKNOWN },
        { "at(list, 0.5)", UNKNOWN }, { "at(list, u)", UNKNOWN }, { "at(list, kind)", UNKNOWN }, { "at(list, 1e300)", UNKNOWN },
        { "at(types, at(list, 3) - 11) == 'sliding'", 1 }, { "first(at(types, 9) == 'sliding', 5)", 5 },
        /* not known, or of no sense */
        { "u", UNKNOWN }, { "u + 1", UNKNOWN }, { "not u", UNKNOWN }, { "u == u", UNKNOWN }, { "1 / 0", UNKNOWN }, { "0 / 0", UNKNOWN },
        { "A / (K - 8)", UNKNOWN }, { "nan", UNKNOWN }, { "infinite", UNKNOWN }, { "1e308 * 10", UNKNOWN }, { "sqrt(-1)", UNKNOWN },
        { "ln(0)", UNKNOWN },
        { "ln(-1)", UNKNOWN }, { "kind + 1", UNKNOWN }, { "-kind", UNKNOWN }, { "not kind", UNKNOWN }, { "kind < 'm'", UNKNOWN },
        { "kind == 3", UNKNOWN },
        { "3 != kind", UNKNOWN }, { "if(kind, 1, 2)", UNKNOWN }, { "min(kind, 1)", UNKNOWN }, { "kind and 1", UNKNOWN },
        { "floor(kind)", UNKNOWN },
        /* only the operands that decide are needed */
        { "u and 0", 0 }, { "0 and u", 0 }, { "u and 1", UNKNOWN }, { "1 and u", UNKNOWN }, { "u or 1", 1 }, { "1 or u", 1 },
        { "u or 0", UNKNOWN },
        { "kind or 1", 1 }, { "if(u, 1, 1)", UNKNOWN }, { "if(1, 2, u)", 2 }, { "if(0, u, 3)", 3 }, { "if(1, u, 3)", UNKNOWN },
        { "zero and 1 / 0", 0 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_expr *x = compile(rows[i].text);
        const struct apr_result r = apr_expr_value(x, &scope);
        const bool right = isnan(rows[i].value) ? !r.known : r.known && r.text.at == NULL && r.number == rows[i].value;
        if (!right)
            fail_msg("%s: %s, %.17g", rows[i].text, r.known ? "known" : "not known", r.number);
        apr_expr_free(x);
    }
}

static void what_cannot_be_meant_is_not_as_good_as_absent(void **state)
{
    (void)state;
    static const struct { const char *text; bool wrong; } rows[] = {
        { "u", false }, { "u + 1", false }, { "at(list, 9)", false }, { "first(u, u)", false }, { "u == 'a'", false },
        { "if(u, 1, 2)", false }, { "u and 1", false }, { "kind + u", false },
        { "1 / 0", true }, { "sqrt(-1)", true }, { "kind + 1", true }, { "kind == 3", true }, { "at(list, kind)", true },
        { "at(list, -1)", true }, { "if(kind, 1, 2)", true }, { "1 and kind", true }, { "first(1 / 0, 2)", true }, { "u and kind", true }, { "-(1 / 0) + u", true },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_expr *x = compile(rows[i].text);
        const struct apr_result r = apr_expr_value(x, &scope);
        if (r.known || r.wrong != rows[i].wrong)
            fail_msg("%s: %s", rows[i].text, r.known ? "known" : r.wrong ? "wrong" : "not known");
        apr_expr_free(x);
    }
}

static void a_text_comes_out_as_it_went_in(void **state)
{
    (void)state;
    static const char *const rows[][2] = { { "'none'", "none" }, { "kind", "llama3" }, { "if(1, 'x y', 2)", "x y" }, { "''", "" },
    { "(empty)", "" } };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_expr *x = compile(rows[i][0]);
        const struct apr_result r = apr_expr_value(x, &scope);
        assert_true(r.known && r.text.at != NULL);
        assert_true(apr_bytes_equal(r.text, apr_text(rows[i][1])));
        apr_expr_free(x);
    }
}

static void ln_is_that_of_the_c_library_to_the_last_bits(void **state)
{
    (void)state;
    for (double v = 1e-300; v < 1e300; v *= 1.37) {
        char text[64];
        snprintf(text, sizeof text, "ln(%.17g)", v);
        struct apr_expr *x = compile(text);
        const double got = apr_expr_value(x, &scope).number, want = log(v);
        if (fabs(got - want) > 4e-16 * fabs(want))
            fail_msg("%s: %.17g, not %.17g", text, got, want);
        apr_expr_free(x);
    }
}

/* The quantiles are those of torch.distributions.normal.Normal(0, 1).icdf in F32. */
static void a_normal_distribution_is_asked_both_ways(void **state)
{
    (void)state;
    static const struct { const char *text; double value; } rows[] = {
        { "quantile(0.95)", 0x1.a5152p+0 }, { "quantile(0.9)", 0x1.4813c2p+0 }, { "quantile(0.5)", 0 },
        { "quantile(0.999)", 0x1.8b8cdcp+1 },
        { "quantile(0.001)", -0x1.8b8cdcp+1 }, { "quantile(0)", -INFINITY }, { "quantile(one)", INFINITY }, { "normal(0)", 0.5 },
        { "normal(at(endless, 0))", 0 }, { "floor(normal(quantile(0.95)) * 1000000 + 0.5)", 950000 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_expr *x = compile(rows[i].text);
        const struct apr_result r = apr_expr_value(x, &scope);
        if (!r.known || r.number != rows[i].value)
            fail_msg("%s: %a, not %a", rows[i].text, r.number, rows[i].value);
        apr_expr_free(x);
    }
    struct apr_expr *x = compile("quantile(1.5)");
    assert_true(apr_expr_value(x, &scope).wrong);
    apr_expr_free(x);
}

static bool has_three(void *ctx, struct apr_bytes path)
{
    (void)ctx;
    return apr_bytes_is(path, "a.b") || apr_bytes_is(path, "a.b.0") || apr_bytes_is(path, "a.b.1") || apr_bytes_is(path, "a.b.2") ||
           apr_bytes_is(path, "none");
}

static void a_list_has_a_length(void **state)
{
    (void)state;
    static const struct { const char *text; double value; } rows[] = { { "length(a.b)", 3 }, { "length(none)", 0 }, { "length(a)", NAN },
        { "first(length(a), 7)", 7 } };
    const struct apr_scope lists = { dim_value, has_three, NULL };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_expr *x = compile(rows[i].text);
        const struct apr_result r = apr_expr_value(x, &lists);
        if (r.known == isnan(rows[i].value) || (r.known && r.number != rows[i].value))
            fail_msg("%s: %g", rows[i].text, r.number);
        apr_expr_free(x);
    }
}

static void a_size_is_a_whole_number_below_2_to_the_53(void **state)
{
    (void)state;
    static const struct { const char *text; bool yes; uint64_t n; } rows[] = {
        { "0", true, 0 }, { "H/A", true, 64 }, { "9007199254740991", true, 9007199254740991 }, { "-0", true, 0 }, { "K > 3", true, 1 },
        { "9007199254740992", false, 0 }, { "A - 33", false, 0 }, { "7/2", false, 0 }, { "u", false, 0 }, { "kind", false, 0 },
        { "1/0", false, 0 }, { "1e300", false, 0 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_expr *x = compile(rows[i].text);
        uint64_t n = 0;
        if (apr_expr_size(x, &scope, &n) != rows[i].yes || n != rows[i].n)
            fail_msg("%s: %llu", rows[i].text, (unsigned long long)n);
        apr_expr_free(x);
    }
}

static void a_condition_that_is_not_known_is_what_the_caller_says(void **state)
{
    (void)state;
    static const struct { const char *text; bool without, with; } rows[] = {
        { "E == 0", true, true }, { "E", false, false }, { "0.25", true, true }, { "u", false, true }, { "kind", false, true },
        { "1/0 == 1", false, true },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_expr *x = compile(rows[i].text);
        if (apr_expr_true(x, &scope, false) != rows[i].without || apr_expr_true(x, &scope, true) != rows[i].with)
            fail_msg("%s", rows[i].text);
        apr_expr_free(x);
    }
}

static void operands_that_do_not_matter_are_not_asked_for(void **state)
{
    (void)state;
    static const struct { const char *text; unsigned asked; } rows[] = {
        { "zero and A", 1 }, { "one and A", 2 }, { "one or A", 1 }, { "zero or A", 2 }, { "if(one, A, K)", 2 }, { "if(u, A, K)", 1 },
        { "A + K", 2 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        unsigned asked = 0;
        struct apr_expr *x = compile(rows[i].text);
        apr_expr_value(x, &(struct apr_scope){ dim_value, has_path, &asked });
        if (asked != rows[i].asked)
            fail_msg("%s asks %u times", rows[i].text, asked);
        apr_expr_free(x);
    }
}

static bool append_name(void *text, struct apr_bytes name)
{
    snprintf((char *)text + strlen(text), 100 - strlen(text), "%.*s ", (int)name.n, (const char *)name.at);
    return !apr_bytes_is(name, "stop");
}

static void names_are_told_in_order_and_one_alone_is_known_as_such(void **state)
{
    (void)state;
    static const struct { const char *text, *names; bool one; } rows[] = {
        { "H", "H ", true }, { "(( H ))", "H ", true }, { "-H", "H ", false }, { "A*D + A", "A D A ", false }, { "12", "", false },
        { "'H'", "", false },
        { "has(a.b) and not c", "c ", false }, { "if(c, a + b, min(d, 'e'))", "c a b d ", false }, { "a + stop + b", "a stop ", false },
        { "has(H)", "", false },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char names[100] = "";
        struct apr_bytes name = { 0 };
        struct apr_expr *x = compile(rows[i].text);
        apr_expr_names(x, append_name, names);
        assert_string_equal(names, rows[i].names);
        assert_int_equal(apr_expr_is_name(x, &name), rows[i].one);
        assert_int_equal(name.n, rows[i].one);
        apr_expr_free(x);
    }
}

static void paths_are_told_apart_from_names(void **state)
{
    (void)state;
    static const struct { const char *text, *has, *values; } rows[] = {
        { "A + K", "", "" }, { "has(a.b)", "a.b ", "" }, { "first(A, 1) + value(a.b)", "", "a.b " },
        { "if(has(c), at(list, value(d.e)), 0)", "c ", "d.e list " },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char has[100] = "", values[100] = "";
        struct apr_expr *x = compile(rows[i].text);
        apr_expr_paths(x, append_name, has);
        apr_expr_values(x, append_name, values);
        assert_string_equal(has, rows[i].has);
        assert_string_equal(values, rows[i].values);
        apr_expr_free(x);
    }
}

static struct apr_result path_value(void *ctx, struct apr_bytes path)
{
    (void)ctx;
    return (struct apr_result){ .known = apr_bytes_is(path, "A") || apr_bytes_is(path, "A.2"), .number = 100 };
}

/* What is called A may be a dim, and a path another thing of that name. */
static void in_a_layer_its_number_has_a_name_and_paths_keep_their_own(void **state)
{
    (void)state;
    static const struct { const char *text; double plain, in_layer; } rows[] = {
        { "layer", UNKNOWN, 2 }, { "layer + A", UNKNOWN, 34 }, { "value(A)", 100, 100 }, { "at(A, layer) + A", UNKNOWN, 132 },
        { "at(A, 1)", UNKNOWN, UNKNOWN }, { "value(layer)", UNKNOWN, UNKNOWN }, { "has(top) and mod(layer, 2) == 0", UNKNOWN, 1 },
    };
    const struct apr_scope paths = { dim_value, has_path, NULL, path_value };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_expr *x = compile(rows[i].text);
        const struct apr_result plain = apr_expr_value(x, &paths), in = apr_expr_in_layer(x, &paths, 2);
        if (plain.known == isnan(rows[i].plain) || in.known == isnan(rows[i].in_layer) || (plain.known && plain.number != rows[i].plain) ||
            (in.known && in.number != rows[i].in_layer))
            fail_msg("%s: %g, in the layer %g", rows[i].text, plain.known ? plain.number : NAN, in.known ? in.number : NAN);
        apr_expr_free(x);
    }
}

static void faults_are_told_with_their_place(void **state)
{
    (void)state;
    static const struct { const char *text; unsigned at; const char *words; } rows[] = {
        { "", 1, "expected a value, but the expression ends" }, { "  ", 3, "expected a value" }, { "H /", 4, "but the expression ends" },
        { "H / / 2", 5, "expected a value, found \"/\"" }, { "H A", 3, "expected an operator or the end, found \"A\"" },
        { "2H", 2, "found \"H\"" },
        { "1e+", 2, "found \"e\"" }, { "0x10", 2, "found \"x10\"" }, { "1.2.3", 4, "found \".\"" }, { ".5", 1, "found \".\"" },
        { "(1 + 2", 7, "expected an operator or ')', but the expression ends" }, { "1 + 2)", 6, "found \")\"" },
        { "()", 2, "expected a value" },
        { "kind == 'llama3", 9, "a string without an end" }, { "'", 1, "a string without an end" }, { "a = b", 3, "found \"=\"" },
        { "a && b", 3, "found \"&\"" },
        { "!a", 1, "found \"!\"" }, { "a < b < c", 7, "comparisons do not chain" },
        { "a == b and c < d <= e", 18, "comparisons do not chain" },
        { "a + not b", 5, "expected a value, found \"not\"" }, { "and", 1, "found \"and\"" }, { "a or", 5, "but the expression ends" },
        { "or b", 1, "found \"or\"" },
        { "cos(1)", 1, "no function is called \"cos\"" }, { "1 + A (2)", 5, "no function is called \"A\"" },
        { "min(1)", 6, "expected ',', found \")\"" },
        { "min(1, 2, 3)", 9, "expected an operator or ')', found \",\"" }, { "floor()", 7, "expected a value" },
        { "if(1, 2)", 8, "expected ','" },
        { "mod(1)", 6, "expected ','" }, { "first(1)", 8, "expected ','" }, { "value()", 7, "expected a name" }, { "value('a')", 7, "expected a name" },
        { "at(list)", 8, "expected ',', found \")\"" }, { "at(list,)", 9, "expected a value" }, { "at(, 1)", 4, "expected a name" },
        { "at(list, 1, 2)", 11, "expected an operator or ')'" },
        { "has()", 5, "expected a name" }, { "has('a')", 5, "expected a name" }, { "has(a.)", 7, "expected a name" },
        { "has(a . b)", 7, "found \".\"" },
        { "has(a + b)", 7, "found \"+\"" }, { "rope.theta", 5, "found \".\"" }, { "1e999", 1, "1e999 is no finite number" },
        { "1111111111111111111111111111111111111111111111111111111111111111", 1, "a number of more than 63 digits" },
        { "'\xc3\xa4\xc3\xb6' == \xc3\xbc", 9, "found \"\xc3\xbc\"" }, { "'\xc3\xa4' + \xff", 7, "found \"\\xff\"" },
        { "a\tb\n\x01", 3, "found \"b\"" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_expr *x;
        struct apr_error e;
        char place[32];
        snprintf(place, sizeof place, "at character %u: ", rows[i].at);
        const enum apr_code code = apr_expr_new(&x, apr_text(rows[i].text), &e);
        if (code != APR_EARG || x != NULL || strstr(e.text, place) == NULL || strstr(e.text, rows[i].words) == NULL)
            fail_msg("%s: %d %s", rows[i].text, code, code == APR_OK ? "" : e.text);
    }
}

/* n times before, then middle, then n times after. */
static struct test_bytes nest(const char *before, const char *middle, const char *after, unsigned n)
{
    struct test_bytes b = { 0 };
    for (unsigned i = 0; i < n; i++)
        test_text(&b, before);
    test_text(&b, middle);
    for (unsigned i = 0; i < n; i++)
        test_text(&b, after);
    return b;
}

static void depth_and_length_have_an_end(void **state)
{
    (void)state;
    static const struct { const char *before, *middle, *after; unsigned most; const char *words; } rows[] = {
        { "(", "1", ")", 64, "more than 64 levels deep" },     { "-", "1", "", 64, "more than 64 levels deep" },
        { "not ", "1", "", 64, "more than 64 levels deep" },   { "floor(", "1", ")", 64, "more than 64 levels deep" },
        { "1+(", "1", ")", 64, "more than 64 levels deep" },   { "", "1", "+1", 511, "more than 1024 bytes" },
        { "1<2 and ", "1", "", 127, "more than 1024 bytes" },  { "", "1", " ", 1023, "more than 1024 bytes" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        for (unsigned more = 0; more < 2; more++) {
            struct test_bytes b = nest(rows[i].before, rows[i].middle, rows[i].after, rows[i].most + more);
            struct apr_expr *x;
            struct apr_error e;
            const enum apr_code code = apr_expr_new(&x, (struct apr_bytes){ b.at, b.n }, &e);
            if (code != (more ? APR_EARG : APR_OK) || (more && strstr(e.text, rows[i].words) == NULL))
                fail_msg("%.40s...: %d %s", (const char *)b.at, code, code == APR_OK ? "" : e.text);
            assert_true(more || apr_expr_value(x, &scope).known);
            apr_expr_free(x);
            test_free(&b);
        }
}

static void text_ends_where_it_ends(void **state)
{
    (void)state;
    static const unsigned char text[] = "A*2345'x'";
    for (size_t n = 0; n < sizeof text; n++) {
        unsigned char *const exact = malloc(n + (n == 0));
        memcpy(exact, text, n);
        struct apr_expr *x;
        struct apr_error e;
        const bool sound = n == 1 || (n > 2 && n < 7);
        assert_int_equal(apr_expr_new(&x, (struct apr_bytes){ exact, n }, &e), sound ? APR_OK : APR_EARG);
        apr_expr_free(x);
        free(exact);
    }
    struct apr_expr *x;
    struct apr_error e;
    assert_int_equal(apr_expr_new(&x, (struct apr_bytes){ 0 }, &e), APR_EARG);
    assert_int_equal(apr_expr_new(&x, (struct apr_bytes){ text, sizeof text }, &e), APR_EARG);
}

static void *evaluate_often(void *x)
{
    for (int i = 0; i < 1000; i++)
        if (apr_expr_value(x, &scope).number != 3072)
            return x;
    return NULL;
}

static void one_expression_serves_many_threads(void **state)
{
    (void)state;
    struct apr_expr *x = compile("if(has(top), (A + 2*K)*(H/A), u)");
    pthread_t thread[4];
    for (size_t i = 0; i < APR_LENGTH(thread); i++)
        assert_int_equal(pthread_create(&thread[i], NULL, evaluate_often, x), 0);
    for (size_t i = 0; i < APR_LENGTH(thread); i++) {
        void *wrong;
        pthread_join(thread[i], &wrong);
        assert_null(wrong);
    }
    apr_expr_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expressions_come_to_what_they_say),
        cmocka_unit_test(what_cannot_be_meant_is_not_as_good_as_absent),
        cmocka_unit_test(a_text_comes_out_as_it_went_in),
        cmocka_unit_test(ln_is_that_of_the_c_library_to_the_last_bits),
        cmocka_unit_test(a_size_is_a_whole_number_below_2_to_the_53),
        cmocka_unit_test(a_condition_that_is_not_known_is_what_the_caller_says),
        cmocka_unit_test(operands_that_do_not_matter_are_not_asked_for),
        cmocka_unit_test(names_are_told_in_order_and_one_alone_is_known_as_such),
        cmocka_unit_test(paths_are_told_apart_from_names),
        cmocka_unit_test(a_normal_distribution_is_asked_both_ways),
        cmocka_unit_test(a_list_has_a_length),
        cmocka_unit_test(in_a_layer_its_number_has_a_name_and_paths_keep_their_own),
        cmocka_unit_test(faults_are_told_with_their_place),
        cmocka_unit_test(depth_and_length_have_an_end),
        cmocka_unit_test(text_ends_where_it_ends),
        cmocka_unit_test(one_expression_serves_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
