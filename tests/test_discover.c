/* apr-diff --discover: what was done to tensors is found by their values, told, measured, and drafted as a contract. */
#include "diff.h"

#include <sys/stat.h>
#include <unistd.h>

#define ROWS 48u
#define COLS 64u
#define ALL  (ROWS * COLS)

/* Numbers that look random, another row of them for each seed. */
static void fill(float *x, size_t n, uint64_t seed)
{
    uint64_t s = seed * 0x9E3779B97F4A7C15u + 1;
    for (size_t i = 0; i < n; i++) {
        s = s * 6364136223846793005u + 1442695040888963407u;
        x[i] = (float)(int32_t)(s >> 32) * 0x1p-31f;
    }
}

/* Row j of out is row place(j) of in. */
static void move_rows(const float *in, float *out, size_t rows, size_t cols, size_t (*place)(size_t j))
{
    for (size_t j = 0; j < rows; j++)
        memcpy(out + j * cols, in + place(j) * cols, cols * sizeof *out);
}

static size_t by_heads(size_t j) { return j / 12 * 12 + j % 2 * 6 + j % 12 / 2; } /* reshape(4, 2, 6).swapaxes(1, 2) */
static size_t backwards(size_t j) { return ROWS - 1 - j; }
static size_t by_halves(size_t j) { return (j + ROWS / 2) % ROWS; }
static size_t by_neox(size_t j) { return j % 16 / 4 * 12 + j / 16 * 4 + j % 4; }     /* reshape(4, 3, 4).swapaxes(0, 1) */
static size_t by_groups(size_t j) { return j % 24 / 4 * 8 + j / 24 * 4 + j % 4; }    /* reshape(6, 2, 4).swapaxes(0, 1) */
static size_t anyhow(size_t j) { return j * 29 % ROWS; }

/* The finding that has that name on a side, or NULL. */
static const json_t *finding_of(const json_t *report, const char *side, const char *name)
{
    const json_t *const all = at(report, "discovered");
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *const names = json_object_get(json_array_get(all, i), side);
        for (size_t k = 0; k < json_array_size(names); k++)
            if (strcmp(json_string_value(json_array_get(names, k)), name) == 0)
                return json_array_get(all, i);
    }
    return NULL;
}

/* "x,y" of a list of names. */
static void expect_names(const json_t *found, const char *side, const char *want)
{
    char text[256] = "";
    const json_t *const names = json_object_get(found, side);
    for (size_t i = 0; i < json_array_size(names); i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i > 0 ? "," : "", json_string_value(json_array_get(names, i)));
    assert_string_equal(text, want);
}

/* One matrix against what was made of it, in both directions: the transform that is told. */
static void expect_told(const char *want, const float *a, const char *shape_a, const float *b, const char *shape_b)
{
    const char *const x = test_one("told_a", "F32", shape_a, a, ALL * sizeof *a);
    const char *const y = test_safetensors("told_b", &(struct test_tensor){ "u", "F32", shape_b, b, ALL * sizeof *b }, 1);
    for (unsigned back = 0; back < 2; back++) {
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", "--discover", back ? y : x, back ? x : y, NULL), 1);
        const json_t *const found = finding_of(r, back ? "names_b" : "names_a", "t");
        if (found == NULL)
            fail_msg("%s is not found, back %u", want == NULL ? "the same" : want, back);
        const char *const told = json_string_value(json_object_get(found, "transform"));
        if (want == NULL ? told != NULL : told == NULL || strcmp(told, want) != 0)
            fail_msg("told is %s, not %s, back %u", told == NULL ? "nothing" : told, want == NULL ? "nothing" : want, back);
        assert_true(fabs(json_number_value(json_object_get(found, "cosine")) - 1) < 1e-9);
        json_decref(r);
    }
}

static void an_order_of_rows_is_told_as_a_rule_alike_in_both_directions(void **state)
{
    (void)state;
    static const struct {
        size_t    (*place)(size_t);
        const char *told;
    } table[] = {
        { by_heads, "rope_permute(4)" }, { backwards, "reverse" }, { by_halves, "swap_halves" }, { by_neox, "qkv_neox(4)" },
        { by_groups, "regroup(2,4)" }, /* the way back has the lower number */
    };
    static float a[ALL], b[ALL];
    fill(a, ALL, 1);
    for (size_t i = 0; i < APR_LENGTH(table); i++) {
        move_rows(a, b, ROWS, COLS, table[i].place);
        expect_told(table[i].told, a, "[48,64]", b, "[48,64]");
    }
    memcpy(b, a, sizeof a);
    expect_told(NULL, a, "[48,64]", b, "[48,64]");
    expect_told(NULL, a, "[48,64]", b, "[3072]");
}

static void a_transpose_a_multiple_and_a_constant_are_found(void **state)
{
    (void)state;
    static float a[ALL], b[ALL];
    fill(a, ALL, 2);
    for (size_t i = 0; i < ALL; i++)
        b[i % COLS * ROWS + i / COLS] = a[i];
    expect_told("transpose", a, "[48,64]", b, "[64,48]");
    for (size_t i = 0; i < ALL; i++)
        b[i] = a[i] * 8;
    expect_told("scale(8)", a, "[48,64]", b, "[48,64]");
    for (size_t i = 0; i < ALL; i++)
        b[i] = a[i] + 1;
    expect_told("add(1)", a, "[48,64]", b, "[48,64]");
    move_rows(a, b, ROWS, COLS, anyhow);
    json_t *const r = report_of(test_tool(APR_DIFF, "--json", "--discover", test_one("any_a", "F32", "[48,64]", a, sizeof a),
                                          test_safetensors("any_b",
                                                           &(struct test_tensor){ "u", "F32", "[48,64]", b, sizeof b }, 1), NULL), 1);
    assert_non_null(strstr(json_string_value(json_object_get(finding_of(r, "names_a", "t"), "transform")), "order("));
    json_decref(r);
}

static void parts_are_named_in_their_order(void **state)
{
    (void)state;
    static float x[4][ALL], joined[2 * ALL], stacked[2 * ALL];
    for (size_t i = 0; i < 4; i++)
        fill(x[i], ALL, 3 + i);
    memcpy(joined, x[1], sizeof x[1]);
    memcpy(joined + ALL, x[0], sizeof x[0]);
    memcpy(stacked, x[3], sizeof x[3]);
    memcpy(stacked + ALL, x[2], sizeof x[2]);
    const struct test_tensor parts[] = { { "a0", "F32", "[48,64]", x[0], sizeof x[0] }, { "a1", "F32", "[48,64]", x[1], sizeof x[1] },
                                         { "a2", "F32", "[48,64]", x[2], sizeof x[2] }, { "a3", "F32", "[48,64]", x[3], sizeof x[3] } };
    const struct test_tensor whole[] = { { "b0", "F32", "[96,64]", joined, sizeof joined },
                                         { "b1", "F32", "[2,48,64]", stacked, sizeof stacked } };
    const char *const a = test_safetensors("parts", parts, 4), *const b = test_safetensors("whole", whole, 2);
    for (unsigned back = 0; back < 2; back++) {
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", "--discover", back ? b : a, back ? a : b, NULL), 1);
        const char *const own = back ? "names_b" : "names_a", *const other = back ? "names_a" : "names_b";
        expect_names(finding_of(r, other, "b0"), own, "a1,a0");
        expect_names(finding_of(r, other, "b1"), own, "a3,a2");
        expect_text("the join", finding_of(r, other, "b0"), "transform", "concat_rows(48,48)");
        expect_text("the stack", finding_of(r, other, "b1"), "transform", "stack(2)");
        json_decref(r);
    }
}

static void vectors_are_found_in_another_order_and_joined(void **state)
{
    (void)state;
    static float v[48], w[48], p[80];
    fill(v, 48, 8);
    move_rows(v, w, ROWS, 1, by_neox);
    fill(p, 80, 9);
    const struct test_tensor a[] = { { "a0", "F32", "[48]", v, sizeof v }, { "a1", "F32", "[32]", p, 128 },
                                     { "a2", "F32", "[48]", p + 32, 192 } };
    const struct test_tensor b[] = { { "b0", "F32", "[48]", w, sizeof w }, { "b1", "F32", "[80]", p, sizeof p } };
    json_t *const r = report_of(test_tool(APR_DIFF, "--json", "--discover",
                                          test_safetensors("va", a, 3), test_safetensors("vb", b, 2), NULL), 1);
    expect_text("the order", finding_of(r, "names_a", "a0"), "transform", "qkv_neox(4)");
    expect_names(finding_of(r, "names_b", "b1"), "names_a", "a1,a2");
    json_decref(r);
}

static void noise_is_measured_and_too_much_of_it_is_no_pair(void **state)
{
    (void)state;
    static float a[2][ALL], b[2][ALL], noise[ALL];
    double aa = 0, bb = 0, ab = 0;
    fill(a[0], ALL, 11);
    fill(a[1], ALL, 12);
    fill(noise, ALL, 13);
    for (size_t i = 0; i < ALL; i++) {
        b[0][i] = a[0][i] + 0.03f * noise[i];
        b[1][i] = a[1][i] + 0.3f * noise[i];
        aa += (double)a[0][i] * (double)a[0][i];
        bb += (double)b[0][i] * (double)b[0][i];
        ab += (double)a[0][i] * (double)b[0][i];
    }
    const struct test_tensor x[] = { { "a0", "F32", "[48,64]", a[0], sizeof a[0] }, { "a1", "F32", "[48,64]", a[1], sizeof a[1] } };
    const struct test_tensor y[] = { { "b0", "F32", "[48,64]", b[0], sizeof b[0] }, { "b1", "F32", "[48,64]", b[1], sizeof b[1] } };
    json_t *const r = report_of(test_tool(APR_DIFF, "--json", "--discover",
                                          test_safetensors("na", x, 2), test_safetensors("nb", y, 2), NULL), 1);
    assert_true(fabs(json_number_value(json_object_get(finding_of(r, "names_a", "a0"), "cosine")) - ab / sqrt(aa * bb)) < 1e-9);
    assert_null(finding_of(r, "names_a", "a1"));
    json_decref(r);
}

static void doubles_and_integers_are_found_too(void **state)
{
    (void)state;
    static double wide[2][ALL];
    static int32_t whole[2][ALL];
    static float x[ALL], y[ALL];
    fill(x, ALL, 40);
    for (size_t i = 0; i < ALL; i++)
        y[i % COLS * ROWS + i / COLS] = x[i];
    for (size_t i = 0; i < ALL; i++) {
        wide[0][i] = (double)x[i];
        wide[1][i] = (double)y[i];
        whole[0][i] = (int32_t)((double)x[i] * 1e6);
        whole[1][(ROWS - 1 - i / COLS) * COLS + i % COLS] = whole[0][i];
    }
    const struct test_tensor a[] = { { "a0", "F64", "[48,64]", wide[0], sizeof wide[0] },
                                     { "a1", "I32", "[48,64]", whole[0], sizeof whole[0] } };
    const struct test_tensor b[] = { { "b0", "F64", "[64,48]", wide[1], sizeof wide[1] },
                                     { "b1", "I32", "[48,64]", whole[1], sizeof whole[1] } };
    json_t *const r = report_of(test_tool(APR_DIFF, "--json", "--discover",
                                          test_safetensors("wa", a, 2), test_safetensors("wb", b, 2), NULL), 1);
    expect_text("doubles", finding_of(r, "names_a", "a0"), "transform", "transpose");
    expect_text("integers", finding_of(r, "names_a", "a1"), "transform", "reverse");
    json_decref(r);
}

static void a_lower_threshold_finds_no_less(void **state)
{
    (void)state;
    enum { N = 12 };
    static float x[N][ALL], y[N][ALL], noise[ALL];
    static char name[2 * N][8];
    struct test_tensor a[N], b[N];
    for (size_t i = 0; i < N; i++) { /* half of them in another order; the cosine is 0.9957 */
        fill(x[i], ALL, 50 + i);
        fill(noise, ALL, 70 + i);
        move_rows(x[i], y[i], ROWS, COLS, i % 2 == 0 ? by_heads : backwards);
        for (size_t k = 0; k < ALL; k++)
            y[i][k] = (i < N / 2 ? y[i][k] : x[i][k]) + 0.093f * noise[k];
        snprintf(name[i], sizeof *name, "a%zu", i);
        snprintf(name[N + i], sizeof *name, "b%zu", i);
        a[i] = (struct test_tensor){ name[i], "F32", "[48,64]", x[i], sizeof *x };
        b[i] = (struct test_tensor){ name[N + i], "F32", "[48,64]", y[i], sizeof *y };
    }
    const char *const p = test_safetensors("la", a, N), *const q = test_safetensors("lb", b, N);
    static const char *const threshold[] = { "0.995", "0.99", "0.95", "0.9", "0.8", "0" };
    for (size_t i = 0; i < 2 * APR_LENGTH(threshold); i++) {
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", "--discover", "--threshold", threshold[i / 2], i % 2 ? p : q,
                                              i % 2 ? q : p, NULL), 1);
        if (json_array_size(at(r, "discovered")) != N)
            fail_msg("%zu are found at %s", json_array_size(at(r, "discovered")), threshold[i / 2]);
        expect_text("the order", finding_of(r, i % 2 ? "names_a" : "names_b", "a0"), "transform", "rope_permute(4)");
        expect_text("the other", finding_of(r, i % 2 ? "names_a" : "names_b", "a1"), "transform", "reverse");
        json_decref(r);
    }
}

static void negative_multiples_are_found(void **state)
{
    (void)state;
    static const float times[] = { -1, -0.25f, -3 };
    static const char *const want[] = { "scale(-1)", "scale(-4)", "scale(-3)" }; /* of two directions that which makes it larger */
    static float x[3][ALL], y[3][ALL];
    struct test_tensor a[3], b[3];
    for (size_t i = 0; i < 3; i++) {
        fill(x[i], ALL, 90 + i);
        for (size_t k = 0; k < ALL; k++)
            y[i][k] = x[i][k] * times[i];
        a[i] = (struct test_tensor){ (const char *[]){ "a0", "a1", "a2" }[i], "F32", "[48,64]", x[i], sizeof *x };
        b[i] = (struct test_tensor){ (const char *[]){ "b0", "b1", "b2" }[i], "F32", "[48,64]", y[i], sizeof *y };
    }
    json_t *const r = report_of(test_tool(APR_DIFF, "--json", "--discover",
                                          test_safetensors("ga", a, 3), test_safetensors("gb", b, 3), NULL), 1);
    for (size_t i = 0; i < 3; i++)
        expect_text("the multiple", finding_of(r, "names_a", (const char *[]){ "a0", "a1", "a2" }[i]), "transform", want[i]);
    json_decref(r);
}

/* A GGUF of two F32 matrices of ROWS by COLS. */
static const char *two_in_a_gguf(const float *x, const float *y)
{
    static const char *const name[] = { "b0", "b1" };
    struct test_bytes b = { 0 };
    test_text(&b, "GGUF");
    test_integer(&b, 3, 4);
    test_integer(&b, 2, 8);
    test_integer(&b, 1, 8);
    test_integer(&b, strlen("general.architecture"), 8);
    test_text(&b, "general.architecture");
    test_integer(&b, 8, 4); /* a string */
    test_integer(&b, strlen("zork"), 8);
    test_text(&b, "zork");
    for (size_t i = 0; i < 2; i++) {
        test_integer(&b, 2, 8);
        test_text(&b, name[i]);
        test_integer(&b, 2, 4);
        test_integer(&b, COLS, 8);
        test_integer(&b, ROWS, 8);
        test_integer(&b, 0, 4); /* F32 */
        test_integer(&b, i * ALL * sizeof *x, 8);
    }
    test_align(&b, 32);
    test_floats(&b, x, ALL);
    test_floats(&b, y, ALL);
    const char *const path = test_file("two.gguf", b.at, b.n);
    test_free(&b);
    return path;
}

/* The rows of one part are rounded as a quantized type rounds them, those of the other are as they were. */
static void parts_of_unlike_precision_are_parts_of_one(void **state)
{
    (void)state;
    static float x[2 * ALL], rough[ALL], noise[ALL];
    fill(x, 2 * ALL, 95);
    fill(noise, ALL, 96);
    for (size_t i = 0; i < ALL; i++)
        rough[i] = x[ALL + i] + 0.04f * noise[i];
    json_t *const r = report_of(test_tool(APR_DIFF, "--json", "--discover", test_one("whole_a", "F32", "[96,64]", x, sizeof x),
                                          two_in_a_gguf(x, rough), NULL), 1);
    expect_names(finding_of(r, "names_a", "t"), "names_b", "b0,b1");
    expect_text("the split", finding_of(r, "names_a", "t"), "transform", "split_rows(48,48)");
    json_decref(r);
}

/* Among so many rows some are nearer to those of another tensor than to their own. */
static void rows_are_told_apart_in_much_noise(void **state)
{
    (void)state;
    enum { N = 6, HIGH = 1200, SIZE = HIGH * 48 };
    static float x[N][SIZE], y[N][SIZE], noise[SIZE];
    static char name[2 * N][8];
    struct test_tensor a[N], b[N];
    for (size_t i = 0; i < N; i++) { /* the cosine is 0.928 */
        fill(x[i], SIZE, 130 + i);
        fill(noise, SIZE, 140 + i);
        for (size_t j = 0; j < HIGH; j++)
            memcpy(y[i] + j * 48, x[i] + (i % 2 == 0 ? HIGH - 1 - j : by_heads(j)) * 48, 48 * sizeof *noise);
        for (size_t k = 0; k < SIZE; k++)
            y[i][k] += 0.4f * noise[k];
        snprintf(name[i], sizeof *name, "a%zu", i);
        snprintf(name[N + i], sizeof *name, "b%zu", i);
        a[i] = (struct test_tensor){ name[i], "F32", "[1200,48]", x[i], sizeof *x };
        b[i] = (struct test_tensor){ name[N + i], "F32", "[1200,48]", y[i], sizeof *y };
    }
    json_t *const r = report_of(test_tool(APR_DIFF, "--json", "--discover", "--threshold", "0.9",
                                          test_safetensors("ra", a, N), test_safetensors("rb", b, N), NULL), 1);
    for (size_t i = 0; i < N; i++)
        expect_text("the order", finding_of(r, "names_a", name[i]), "transform", i % 2 == 0 ? "reverse" : "rope_permute(100)");
    json_decref(r);
}

static void very_many_parts_are_joined(void **state)
{
    (void)state;
    enum { N = 3000, PART = 4 * 12 };
    static float x[N * PART];
    static char name[N][16];
    static struct test_tensor a[N];
    char option[512];
    fill(x, N * PART, 97);
    const char *const draft = test_path("many.yaml");
    snprintf(option, sizeof option, "--discover=%s", draft);
    for (size_t i = 0; i < N; i++) {
        snprintf(name[i], sizeof *name, "part.%zu.w", i);
        a[i] = (struct test_tensor){ name[i], "F32", "[4,12]", x + i * PART, PART * sizeof *x };
    }
    for (size_t n = 9; n <= N; n += N - 9) {
        char shape[32];
        snprintf(shape, sizeof shape, "[%zu,12]", 4 * n);
        const char *const p = test_safetensors("pa", a, n), *const q = test_one("pb", "F32", shape, x, n * PART * sizeof *x);
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", option, p, q, NULL), 1);
        snprintf(shape, sizeof shape, "stack(%zu)", n);
        expect_text("the join", finding_of(r, "names_b", "t"), "transform", shape);
        json_decref(r);
        expect_exit(test_tool(APR_DIFF, "--family-file", draft, p, q, NULL), 0, NULL);
    }
}

static void few_elements_or_one_value_are_no_evidence(void **state)
{
    (void)state;
    static float few[31], zeros[ALL], ones[64];
    fill(few, 31, 14);
    for (size_t i = 0; i < 64; i++)
        ones[i] = 1;
    const struct test_tensor a[] = { { "a0", "F32", "[31]", few, sizeof few }, { "a1", "F32", "[48,64]", zeros, sizeof zeros },
                                     { "a2", "F32", "[64]", ones, 256 } };
    const struct test_tensor b[] = { { "b0", "F32", "[31]", few, sizeof few }, { "b1", "F32", "[48,64]", zeros, sizeof zeros },
                                     { "b2", "F32", "[64]", ones, 256 } };
    json_t *const r = report_of(test_tool(APR_DIFF, "--json", "--discover",
                                          test_safetensors("ea", a, 3), test_safetensors("eb", b, 3), NULL), 1);
    assert_int_equal(json_array_size(at(r, "discovered")), 0);
    json_decref(r);
}

static void models_that_share_nothing_have_no_contract(void **state)
{
    (void)state;
    static float a[ALL], b[ALL];
    fill(a, ALL, 15);
    fill(b, ALL, 16);
    char option[512];
    const char *const draft = test_path("nothing.yaml");
    snprintf(option, sizeof option, "--discover=%s", draft);
    const char *const x = test_one("sa", "F32", "[48,64]", a, sizeof a);
    const char *const y = test_safetensors("sb", &(struct test_tensor){ "u", "F32", "[48,64]", b, sizeof b }, 1);
    expect_exit(test_tool(APR_DIFF, option, x, y, NULL), 1, NULL);
    assert_int_not_equal(access(draft, F_OK), 0);
    snprintf(option, sizeof option, "--discover=%s", x);
    expect_exit(test_tool(APR_DIFF, option, x, y, NULL), 2, "it is an input");
    expect_exit(test_tool(APR_DIFF, "--discover", "--structure", x, y, NULL), 2, "--discover");
    expect_exit(test_tool(APR_DIFF, "--discover", "--partition", "1/2", x, y, NULL), 2, "--discover");
}

static void a_contract_of_what_was_found_pairs_by_name(void **state)
{
    (void)state;
    static float x[2][2][ALL], y[2][2][ALL];
    static char name[8][32];
    struct test_tensor a[4], b[4];
    char option[512];
    for (size_t i = 0; i < 4; i++) {
        float *const from = x[i / 2][i % 2], *const to = y[i / 2][i % 2];
        fill(from, ALL, 20 + i);
        move_rows(from, to, ROWS, COLS, i % 2 == 0 ? by_heads : anyhow);
        snprintf(name[i], sizeof *name, "net.%zu.%s", i / 2, i % 2 == 0 ? "q" : "v");
        snprintf(name[4 + i], sizeof *name, "blk.%zu.%s", i / 2, i % 2 == 0 ? "attn_q" : "attn_v");
        a[i] = (struct test_tensor){ name[i], "F32", "[48,64]", from, sizeof *x[0] };
        b[i] = (struct test_tensor){ name[4 + i], "F32", "[48,64]", to, sizeof *x[0] };
    }
    const char *const p = test_safetensors("ca", a, 4), *const q = test_safetensors("cb", b, 4), *const draft = test_path("mine.yaml");
    snprintf(option, sizeof option, "--discover=%s", draft);
    expect_exit(test_tool(APR_DIFF, option, p, q, NULL), 1, NULL);
    struct test_bytes text = test_load(draft);
    test_zeros(&text, 1);
    assert_true(test_says(&text, "net.{L}.q") && test_says(&text, "blk.{L}.attn_q") && test_says(&text, "{op: rope_permute, heads: 4}"));
    test_free(&text);
    expect_exit(test_tool(APR_DIFF, "--family-file", draft, p, q, NULL), 0, NULL);
    expect_exit(test_tool(APR_DIFF, "--family-file", draft, q, p, NULL), 0, NULL);
}

/* A file of the fixtures into a folder of the test's, with all `from` that it has spelled `to`, which is as long. */
static void copy_renamed(const char *folder, const char *name, const char *from, const char *to)
{
    char path[512];
    snprintf(path, sizeof path, "fixtures/%s", name);
    struct test_bytes b = test_load(path);
    for (unsigned char *at = b.at; (at = memmem(at, b.n - (size_t)(at - b.at), from, strlen(from))) != NULL; at += strlen(to))
        memcpy(at, to, strlen(to));
    snprintf(path, sizeof path, "%s/%s", folder, strrchr(name, '/') + 1);
    test_file(path, b.at, b.n);
    test_free(&b);
}

/* One name of a model that a contract knows, or its class too, is another: the draft has the pairs that names made as well. */
static void a_draft_has_the_pairs_that_names_made(void **state)
{
    (void)state;
    static const char *const file[] = { "qwen2/model-00001-of-00003.safetensors", "qwen2/model-00002-of-00003.safetensors",
                                        "qwen2/model-00003-of-00003.safetensors", "qwen2/model.safetensors.index.json" };
    char option[512], path[512];
    const char *const draft = test_path("part.yaml");
    snprintf(option, sizeof option, "--discover=%s", draft);
    for (unsigned unknown = 0; unknown < 2; unknown++) {
        const char *const name = unknown ? "part1" : "part0";
        snprintf(path, sizeof path, "%s", test_path(name));
        assert_int_equal(mkdir(path, 0755), 0);
        for (size_t i = 0; i < APR_LENGTH(file); i++)
            copy_renamed(name, file[i], "mlp.up_proj", "mlp.upwards");
        copy_renamed(name, "qwen2/config.json", "Qwen2ForCausalLM", unknown ? "Zork2ForCausalLM" : "Qwen2ForCausalLM");
        expect_exit(test_tool(APR_DIFF, option, path, "fixtures/qwen2-bf16.gguf", NULL), 1, NULL);
        for (unsigned back = 0; back < 2; back++) {
            json_t *const r = report_of(test_tool(APR_DIFF, "--json", "--family-file", draft, back ? "fixtures/qwen2-bf16.gguf" : path,
                                                  back ? path : "fixtures/qwen2-bf16.gguf", NULL), 0);
            assert_int_equal(json_array_size(at(r, "results")), 27);
            json_decref(r);
        }
        unlink(draft);
    }
}

/* Experts out of their order, names with quotes and line ends; what no contract can hold is told by name. */
static void what_cannot_be_drafted_is_told_by_name(void **state)
{
    (void)state;
    static float x[5][ALL], stacked[2 * ALL];
    for (size_t i = 0; i < 5; i++)
        fill(x[i], ALL, 110 + i);
    memcpy(stacked, x[1], sizeof *x);
    memcpy(stacked + ALL, x[0], sizeof *x);
    const struct test_tensor a[] = { { "e.0.w", "F32", "[48,64]", x[0], sizeof *x }, { "e.1.w", "F32", "[48,64]", x[1], sizeof *x },
                                     { "q\\\"q\\nq", "F32", "[48,64]", x[2], sizeof *x }, { "x.{L}.y", "F32", "[48,64]", x[3], sizeof *x },
                                     { "a.1.2.3.4.5", "F32", "[48,64]", x[4], sizeof *x } };
    const struct test_tensor b[] = { { "exps", "F32", "[2,48,64]", stacked, sizeof stacked }, { "z2", "F32", "[48,64]", x[2], sizeof *x },
                                     { "z3", "F32", "[48,64]", x[3], sizeof *x }, { "z4", "F32", "[48,64]", x[4], sizeof *x } };
    const char *const p = test_safetensors("ua", a, 5), *const q = test_safetensors("ub", b, 4), *const draft = test_path("told.yaml");
    char option[512];
    snprintf(option, sizeof option, "--discover=%s", draft);
    struct test_answer told = test_tool(APR_DIFF, option, p, q, NULL);
    test_zeros(&told.err, 1);
    assert_true(test_says(&told.err, "without \"x.{L}.y\", which is \"z3\": no contract can hold its name"));
    assert_true(test_says(&told.err, "without \"a.1.2.3.4.5\", which is \"z4\": no contract can hold its name"));
    assert_false(test_says(&told.err, "\"exps\"") || test_says(&told.err, "\"z2\""));
    test_answer_free(&told);
    for (unsigned back = 0; back < 2; back++) {
        json_t *const r = report_of(test_tool(APR_DIFF, "--json", "--family-file", draft, back ? q : p, back ? p : q, NULL), 1);
        assert_int_equal(json_array_size(at(r, back ? "only_in_b" : "only_in_a")), 2);
        assert_int_equal(json_array_size(at(r, back ? "only_in_a" : "only_in_b")), 2);
        json_decref(r);
    }
}

/* A multiple of what has a pair already cannot be in a contract, which would have two roles of one name. */
static void a_second_copy_is_told(void **state)
{
    (void)state;
    static float x[ALL], y[2][ALL];
    fill(x, ALL, 120);
    for (size_t i = 0; i < ALL; i++) {
        y[0][i] = 2 * x[i];
        y[1][i] = 4 * x[i];
    }
    const struct test_tensor b[] = { { "b2", "F32", "[48,64]", y[0], sizeof *y }, { "b4", "F32", "[48,64]", y[1], sizeof *y } };
    const char *const p = test_one("copy_a", "F32", "[48,64]", x, sizeof x), *const q = test_safetensors("copy_b", b, 2);
    char option[512];
    snprintf(option, sizeof option, "--discover=%s", test_path("copy.yaml"));
    expect_exit(test_tool(APR_DIFF, option, p, q, NULL), 1, "without \"t\", which is \"b4\": a part of it is in another role");
}

/* Very many tensors, a third of them alike, and rows all alike: nothing of it takes long, and any number of threads says the same. */
static void many_alike_take_no_longer_and_threads_change_nothing(void **state)
{
    (void)state;
    enum { N = 3000 };
    static float x[N + 1][36], rows[ALL];
    static char name[2 * N][16];
    static struct test_tensor a[N + 1], b[N + 1];
    fill(x[0], sizeof x / sizeof **x, 30);
    fill(rows, COLS, 31);
    for (size_t i = 1; i < ROWS; i++)
        memcpy(rows + i * COLS, rows, COLS * sizeof *rows);
    rows[100] = NAN;
    for (size_t i = 0; i < N; i++) {
        snprintf(name[i], sizeof *name, "a%zu", i);
        snprintf(name[N + i], sizeof *name, "b%zu", i);
        a[i] = (struct test_tensor){ name[i], "F32", "[6,6]", i % 3 == 0 ? x[0] : x[i], sizeof *x };
        b[i] = (struct test_tensor){ name[N + i], "F32", "[6,6]", i % 3 == 1 ? x[0] : x[i + 1], sizeof *x };
    }
    a[N] = (struct test_tensor){ "rows", "F32", "[48,64]", rows, sizeof rows };
    b[N] = (struct test_tensor){ "more", "F32", "[48,64]", rows, sizeof rows };
    const char *const p = test_safetensors("ma", a, N + 1), *const q = test_safetensors("mb", b, N + 1);
    struct test_answer one = test_tool(APR_DIFF, "--json", "--discover", "-j", "1", p, q, NULL);
    struct test_answer four = test_tool(APR_DIFF, "--json", "--discover", "-j", "4", p, q, NULL);
    assert_int_equal(one.out.n, four.out.n);
    assert_memory_equal(one.out.at, four.out.at, one.out.n);
    test_answer_free(&four);
    json_t *const r = report_of(one, 1);
    assert_true(json_array_size(at(r, "discovered")) >= N / 3);
    json_decref(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_order_of_rows_is_told_as_a_rule_alike_in_both_directions),
        cmocka_unit_test(a_transpose_a_multiple_and_a_constant_are_found),
        cmocka_unit_test(parts_are_named_in_their_order),
        cmocka_unit_test(vectors_are_found_in_another_order_and_joined),
        cmocka_unit_test(noise_is_measured_and_too_much_of_it_is_no_pair),
        cmocka_unit_test(doubles_and_integers_are_found_too),
        cmocka_unit_test(a_lower_threshold_finds_no_less),
        cmocka_unit_test(negative_multiples_are_found),
        cmocka_unit_test(parts_of_unlike_precision_are_parts_of_one),
        cmocka_unit_test(rows_are_told_apart_in_much_noise),
        cmocka_unit_test(very_many_parts_are_joined),
        cmocka_unit_test(few_elements_or_one_value_are_no_evidence),
        cmocka_unit_test(models_that_share_nothing_have_no_contract),
        cmocka_unit_test(a_contract_of_what_was_found_pairs_by_name),
        cmocka_unit_test(a_draft_has_the_pairs_that_names_made),
        cmocka_unit_test(what_cannot_be_drafted_is_told_by_name),
        cmocka_unit_test(a_second_copy_is_told),
        cmocka_unit_test(many_alike_take_no_longer_and_threads_change_nothing),
    };
    return cmocka_run_group_tests_name("discover", tests, NULL, NULL);
}
