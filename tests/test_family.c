/* lib/family/family.h: the embedded contracts hold, and a contract that is wrong is refused with its family, line and word. */
#include "support.h"

#include <stdio.h>

#include "base/bytes.h"
#include "family/family.h"

static struct apr_families *all_families(void)
{
    struct apr_families *all;
    struct apr_error e;
    if (apr_families_new(&all, &e) != APR_OK)
        fail_msg("%s", e.text);
    return all;
}

static const struct apr_family *number(struct apr_families *all, size_t i)
{
    const struct apr_family *f;
    struct apr_error e;
    if (apr_families_get(all, i, &f, &e) != APR_OK)
        fail_msg("%s: %s", e.file, e.text);
    return f;
}

static const struct apr_family *found(struct apr_families *all, const char *key, const char *word)
{
    const struct apr_family *f;
    struct apr_error e;
    if (apr_families_find(all, key, apr_text(word), &f, &e) != APR_OK)
        fail_msg("%s: %s", e.file, e.text);
    return f;
}

static void every_embedded_contract_parses_and_is_called_like_its_file(void **state)
{
    (void)state;
    struct apr_families *all = all_families();
    size_t n = 0;
    for (const struct apr_family *f; (f = number(all, n)) != NULL; n++) {
        char file[128];
        snprintf(file, sizeof file, "families/%.*s.yaml", (int)f->name.n, (const char *)f->name.at);
        assert_string_equal(file, f->file);
    }
    assert_true(n >= 27);
    apr_families_free(all);
}

static void the_test_vectors_of_every_contract_hold(void **state)
{
    (void)state;
    struct apr_families *all = all_families();
    const struct apr_family *f;
    for (size_t i = 0; (f = number(all, i)) != NULL; i++) {
        if (apr_family_nchecks(f) == 0)
            fail_msg("%s has no checks", f->file);
        for (size_t k = 0; k < apr_family_nchecks(f); k++) {
            struct apr_bytes model = { 0 };
            uint64_t expected = 0, actual = 0;
            if (!apr_family_check(f, k, &model, &expected, &actual))
                fail_msg("%s: check %zu lacks a size", f->file, k + 1);
            if (actual != expected)
                fail_msg("%s: %.*s has %llu elements, the contract gives %llu", f->file, (int)model.n, (const char *)model.at,
                         (unsigned long long)expected, (unsigned long long)actual);
        }
    }
    apr_families_free(all);
}

static void no_word_is_claimed_by_two_contracts(void **state)
{
    (void)state;
    static const char *const key[] = { "architectures", "model_types", "gguf" };
    struct apr_families *all = all_families();
    const struct apr_family *f;
    for (size_t i = 0; (f = number(all, i)) != NULL; i++)
        for (size_t k = 0; k < APR_LENGTH(key); k++) {
            const struct apr_yaml *list = apr_yaml_get(f->detect, key[k]);
            for (const struct apr_yaml *w = list == NULL ? NULL : list->child; w != NULL; w = w->next)
                if (found(all, key[k], (const char *)w->text.at) != f)
                    fail_msg("%s: another family has %s too", f->file, (const char *)w->text.at);
        }
    apr_families_free(all);
}

static void families_are_found_by_what_models_call_themselves(void **state)
{
    (void)state;
    static const struct { const char *key, *word, *family; } rows[] = {
        { "architectures", "LlamaForCausalLM", "llama" }, { "architectures", "MixtralForCausalLM", "llama" },
        { "architectures", "GPT2LMHeadModel", "gpt2" },   { "architectures", "Qwen2MoeForCausalLM", "qwen2moe" },
        { "model_types", "mistral", "llama" },            { "model_types", "gemma3_text", "gemma3" },
        { "gguf", "nomic-bert-moe", "nomic-bert" },       { "gguf", "deepseek2", "deepseek2" },
        { "gguf", "lla", NULL },                          { "gguf", "LlamaForCausalLM", NULL },
        { "architectures", "OlmoForCausalLM", NULL },     { "architectures", "DeepseekForCausalLM", NULL },
        { "gguf", "", NULL },
    };
    struct apr_families *all = all_families();
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const struct apr_family *f = found(all, rows[i].key, rows[i].word);
        if (rows[i].family == NULL ? f != NULL : f == NULL || !apr_bytes_equal(f->name, apr_text(rows[i].family)))
            fail_msg("%s %s: %s", rows[i].key, rows[i].word, f == NULL ? "no family" : f->file);
    }
    apr_families_free(all);
}

/* ---- contracts that are wrong ------------------------------------------------------------------------------------- */

static const char good[] =
    "schema: apr-family/1\n" /* line 1 */
    "family: toy\n"
    "detect: {architectures: [Toy], model_types: [toy], gguf: [toy], tensors: [a.weight]}\n"
    "names: {remove: [x.], strip_prefix: [y.], add_prefix: {prefix: m., unless: [m.]}, rename: [{from: .g, to: .w}]}\n"
    "skip: [\"*.bias\", \"m.{N}.*\"]\n" /* line 5 */
    "dims:\n"
    "  N: {keys: [layers]}\n"
    "  H: {keys: [hidden, top.0.hidden], default: 2 * N, type: int}\n"
    "  tied: {keys: [tied], default: not has(tensors.out)}\n"
    "  G: 3 * H\n" /* line 10 */
    "  free: {}\n"
    "tensors:\n"
    "  - {role: in, hf: m.in.weight, gguf: in.weight, shape: [G, H]}\n"
    "  - {role: out, hf: m.out.weight, gguf: out.weight, shape: [G, H], optional: tied, fallback: in}\n"
    "  - {role: q, hf: \"m.{L}.q\", gguf: \"b.{L}.q\", shape: [H, H], transform: {op: rope_permute, heads: 2}}\n" /* 15 */
    "  - {role: x, hf: \"m.{L}.x.{X}\", gguf: \"b.{L}.x\", shape: [H, H], transform: [{op: stack, count: 4}],"
    " layers: [1, N, 2]}\n"
    "  - {role: s, hf: \"m.{L}.s\", gguf: [\"b.{L}.s\", \"b.{L}.t\"], shape: [2*H, H],"
    " transform: {op: split_rows, parts: [H, H]}}\n"
    "  - {role: n, hf: \"m.{L}.n\", gguf: \"b.{L}.n\", shape: [H], transform: {op: add, value: 1}, dtype: f32, when: H > 1,\n"
    "     apr: [\"r.{L}.n\", \"r.{L}.o\"], apr_split: [1, H - 1]}\n"
    "generated:\n" /* line 20 */
    "  - {role: f, gguf: f.weight, shape: [H/2], op: config_list, key: [a.b], when: H > 4}\n"
    "kv:\n"
    "  - {gguf: \"{a}.n\", type: u32, expr: N, hf: layers, apr: n, when: N > 0}\n"
    "  - {gguf: \"{a}.f\", type: f32, from: [p.q], default: 1, fills: free}\n"
    "hf_config:\n" /* line 25 */
    "  - {when: tied, set: {architectures: [Toy], dtype: {computed: main_dtype}}}\n"
    "apr: {rope_type: {gguf_order: 0, hf_order: 2}, set: {size: H}}\n"
    "tokenizer: {order: [bpe], normalizer: NFC, overrides: [{when: H > 1, set: {a: false}}]}\n"
    "checks:\n"
    "  - {model: small, dims: {N: 3, H: 8, tied: 1}, elements: 1336}\n"; /* line 30 */

/* The good contract with one piece of text put in the place of another. */
static struct test_bytes edited(const char *from, const char *to)
{
    struct test_bytes b = { 0 };
    const char *at = strstr(good, from);
    if (at == NULL)
        fail_msg("the contract does not hold: %s", from);
    test_put(&b, good, (size_t)(at - good));
    test_text(&b, to);
    test_text(&b, at + strlen(from));
    return b;
}

static void refused(const char *what, struct apr_bytes text, const char *line, const char *words)
{
    struct apr_family *f;
    struct apr_error e = { 0 };
    if (apr_family_parse(&f, "toy.yaml", text, &e) == APR_OK)
        fail_msg("%s: was taken", what);
    assert_null(f);
    assert_string_equal(e.file, "toy.yaml");
    if (strncmp(e.text, line, strlen(line)) != 0)
        fail_msg("%s: should be in %s: %s", what, line, e.text);
    if (strstr(e.text, words) == NULL)
        fail_msg("%s: \"%s\" is not in: %s", what, words, e.text);
}

static void a_wrong_contract_is_refused_with_family_line_and_word(void **state)
{
    (void)state;
    static const struct { const char *from, *to, *line, *words; } rows[] = {
        { "apr-family/1", "apr-family/2", "line 1: family toy", "apr-family/2" },
        { "family: toy", "title: toy", "line 1: ", "\"family\"" },
        { "skip:", "skips:", "line 5: family toy", "\"skips\"" },
        { "dims:", "sizes:", "line 6: family toy", "\"sizes\"" },
        { "[Toy], model", "[{a: b}], model", "line 3: family toy", "a word should stand" },
        { "gguf: [toy]", "gguf: toy", "line 3: family toy", "\"gguf\"" },
        { "gguf: [toy]", "gguff: [toy]", "line 3: family toy", "\"gguff\"" },
        { "prefix: m., ", "", "line 4: family toy", "\"prefix\"" },
        { "unless: [m.]", "unless: m.", "line 4: family toy", "\"unless\"" },
        { "{from: .g, to: .w}", "{from: .g}", "line 4: family toy", "\"to\"" },
        { "{from: .g, to: .w}", "{from: '', to: .w}", "line 4: family toy", "\"from\"" },
        { "remove: [x.]", "remove: ['']", "line 4: family toy", "a word should stand" },
        { "m.{N}.*", "m.{M}.*", "line 5: family toy", "\"M\"" },
        { "2 * N", "2 * G", "line 8: family toy", "\"G\"" },
        { "2 * N", "2 * H", "line 8: family toy", "\"H\"" },
        { "2 * N", "2 *", "line 8: family toy", "at character" },
        { "type: int", "type: real", "line 8: family toy", "\"real\"" },
        { "{keys: [layers]}", "{key: [layers]}", "line 7: family toy", "\"key\"" },
        { "tensors.out)", "tensors.outs)", "line 9: family toy", "\"outs\"" },
        { "3 * H", "3 * Q", "line 10: family toy", "\"Q\"" },
        { "shape: [G, H]}", "shape: [G, Hh]}", "line 13: family toy", "\"Hh\"" },
        { "shape: [G, H]}", "shapes: [G, H]}", "line 13: family toy", "\"shapes\"" },
        { "role: in, ", "", "line 13: family toy", "no role" },
        { "role: out", "role: in", "line 14: family toy", "\"in\"" },
        { "m.out.weight", "m.in.weight", "line 14: family toy", "\"m.in.weight\"" },
        { "gguf: out.weight", "gguf: in.weight", "line 14: family toy", "\"in.weight\"" },
        { "fallback: in", "fallback: inn", "line 14: family toy", "\"inn\"" },
        { "optional: tied", "optional: tide", "line 14: family toy", "\"tide\"" },
        { "rope_permute", "rope_permutes", "line 15: family toy", "\"rope_permutes\"" },
        { "heads: 2", "head: 2", "line 15: family toy", "\"head\"" },
        { "op: rope_permute, heads: 2", "op: rope_permute", "line 15: family toy", "\"heads\"" },
        { "op: rope_permute, heads", "op: transpose, heads", "line 15: family toy", "\"heads\"" },
        { "{op: rope_permute, heads: 2}", "[{op: rope_permute, heads: 2}, {op: stack, count: 2}]", "line 15: family toy",
          "stack comes first" },
        { "{op: rope_permute, heads: 2}", "[{op: split_rows, parts: [1]}, {op: transpose}]", "line 15: family toy", "split last" },
        { "{op: rope_permute, heads: 2}", "[{op: transpose}, {op: transpose}, {op: transpose}, {op: transpose}, {op: transpose}]",
          "line 15: family toy", "\"transform\"" },
        { "[{op: stack, count: 4}]", "[]", "line 16: family toy", "{X}" },
        { "m.{L}.x.{X}", "m.{L}.x", "line 16: family toy", "{X}" },
        { "b.{L}.x\"", "b.{L}.x.{X}\"", "line 16: family toy", "{X}" },
        { "b.{L}.x\"", "b.x\"", "line 16: family toy", "{L}" },
        { "b.{L}.x\"", "b.{L}x\"", "line 16: family toy", "braces" },
        { "b.{L}.x\"", "b.{K}.x\"", "line 16: family toy", "braces" },
        { "b.{L}.x\"", "b.{L}.0.1.2.3.x\"", "line 16: family toy", "numbers" },
        { "[1, N, 2]", "[1]", "line 16: family toy", "layers" },
        { "[1, N, 2]", "[1, N, 2, 3]", "line 16: family toy", "\"layers\"" },
        { "[\"b.{L}.s\", \"b.{L}.t\"]", "\"b.{L}.s\"", "line 17: family toy", "gguf names" },
        { "parts: [H, H]", "parts: H", "line 17: family toy", "\"parts\"" },
        { "value: 1", "value: one", "line 18: family toy", "\"one\"" },
        { ", value: 1", "", "line 18: family toy", "\"value\"" },
        { "dtype: f32", "dtype: f16", "line 18: family toy", "\"f16\"" },
        { "[1, H - 1]", "[H]", "line 18: family toy", "apr_split" },
        { "op: config_list, key: [a.b]", "op: config_list", "line 21: family toy", "\"key\"" },
        { "op: config_list", "op: invent", "line 21: family toy", "\"invent\"" },
        { "gguf: f.weight, ", "", "line 21: family toy", "one gguf name" },
        { "expr: N, hf", "expr: M, hf", "line 23: family toy", "\"M\"" },
        { "when: N > 0", "when: N >", "line 23: family toy", "at character" },
        { "type: u32", "type: u33", "line 23: family toy", "\"u33\"" },
        { "hf: layers", "hff: layers", "line 23: family toy", "\"hff\"" },
        { "expr: N, hf", "expr: N, const: 1, hf", "line 23: family toy", "one of expr" },
        { "fills: free", "fills: freed", "line 24: family toy", "\"freed\"" },
        { "when: tied", "when: tide", "line 26: family toy", "\"tide\"" },
        { "{computed: main_dtype}", "{compute: main_dtype}", "line 26: family toy", "\"compute\"" },
        { "gguf_order", "ggml_order", "line 27: family toy", "\"ggml_order\"" },
        { "{size: H}", "{size: Z}", "line 27: family toy", "\"Z\"" },
        { "order: [bpe]", "order: [bpa]", "line 28: family toy", "\"bpa\"" },
        { "overrides: [{when: H", "overrides: [{when: Z", "line 28: family toy", "\"Z\"" },
        { "H: 8, tied", "HH: 8, tied", "line 30: family toy", "\"HH\"" },
        { ", elements: 1336", "", "line 30: family toy", "\"elements\"" },
        { "dims:\n", "dims: []\ntitle:\n", "line 6: family toy", "\"dims\"" },
        { "tensors:\n", "tensors: &a\n", "line 1", "" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_bytes b = edited(rows[i].from, rows[i].to);
        char what[256];
        snprintf(what, sizeof what, "%s -> %s", rows[i].from, rows[i].to);
        refused(what, (struct apr_bytes){ b.at, b.n }, rows[i].line, rows[i].words);
        test_free(&b);
    }
}

static void a_right_one_is_taken(void **state)
{
    (void)state;
    struct apr_family *f;
    struct apr_error e;
    struct apr_bytes model;
    uint64_t expected, actual;
    if (apr_family_parse(&f, "toy.yaml", apr_text(good), &e) != APR_OK)
        fail_msg("%s", e.text);
    assert_int_equal(f->ndim, 5);
    assert_int_equal(f->nrole, 7);
    assert_non_null(apr_family_role(f, apr_text("x")));
    assert_null(apr_family_role(f, apr_text("y")));
    assert_non_null(apr_family_dim(f, apr_text("G")));
    assert_true(apr_family_check(f, 0, &model, &expected, &actual));
    assert_int_equal(actual, 24 * 8 + 3 * 8 * 8 + 4 * 8 * 8 + 3 * 16 * 8 + 3 * 8);
    apr_family_free(f);
}

static void roles_may_share_names_when_both_have_a_condition(void **state)
{
    (void)state;
    struct test_bytes b = edited("  - {role: q, ", "  - {role: q0, hf: \"m.{L}.q\", gguf: \"b.{L}.q\", shape: [H], when: H == 1}\n"
                                                   "  - {role: q, when: H > 1, ");
    struct apr_family *f;
    struct apr_error e;
    if (apr_family_parse(&f, "toy.yaml", (struct apr_bytes){ b.at, b.n }, &e) != APR_OK)
        fail_msg("%s", e.text);
    apr_family_free(f);
    test_free(&b);
}

/* ---- hostile ones ------------------------------------------------------------------------------------------------- */

static void hostile_contracts_end_soon(void **state)
{
    (void)state;
    static const char *const whole[] = { "", "[]", "{}", "a", "family: [x]\n", "schema: apr-family/1\nfamily: x\n", "\xff\xfe",
                                         "{a: {a: {a: [[[[[" };
    for (size_t i = 0; i < APR_LENGTH(whole); i++)
        refused(whole[i], apr_text(whole[i]), "line ", "");
    struct test_bytes b = { 0 };
    test_text(&b, "schema: apr-family/1\nfamily: big\ndims: {}\ntensors:\n");
    for (unsigned i = 0; i < 100000; i++) {
        char row[64];
        test_put(&b, row, (size_t)snprintf(row, sizeof row, "- {role: r%u, hf: h%u, shape: [1]}\n", i, i));
    }
    refused("100,000 roles", (struct apr_bytes){ b.at, b.n }, "line 4: family big", "\"tensors\"");
    b.n = 0;
    test_text(&b, "schema: apr-family/1\nfamily: ");
    for (unsigned i = 0; i < 100000; i++)
        test_text(&b, "long");
    refused("a long name", (struct apr_bytes){ b.at, b.n }, "line 2: family ?", "name");
    test_free(&b);
}

static void no_edit_of_a_byte_does_harm(void **state)
{
    (void)state;
    static const char bytes[] = "{}[]:,'\"-\n ?*&!|>%@#~\0\xff" "0aX";
    struct apr_error e;
    struct test_bytes b = { 0 };
    test_text(&b, good);
    for (size_t i = 0; i < b.n; i++)
        for (size_t k = i % 5; k < sizeof bytes - 1; k += 5) {
            const unsigned char was = b.at[i];
            struct apr_family *f;
            b.at[i] = (unsigned char)bytes[k];
            const enum apr_code code = apr_family_parse(&f, "toy.yaml", (struct apr_bytes){ b.at, b.n }, &e);
            for (size_t c = 0; code == APR_OK && c < apr_family_nchecks(f); c++) {
                struct apr_bytes model;
                uint64_t expected, actual;
                (void)apr_family_check(f, c, &model, &expected, &actual);
            }
            apr_family_free(f);
            b.at[i] = was;
        }
    test_free(&b);
}

/* ---- files of the user -------------------------------------------------------------------------------------------- */

static void a_file_of_the_user_comes_first(void **state)
{
    (void)state;
    struct apr_families *all = all_families();
    struct apr_error e;
    struct test_bytes b = edited("gguf: [toy]", "gguf: [toy, llama]");
    const char *path = test_file("mine.yaml", b.at, b.n);
    assert_string_equal((const char *)found(all, "gguf", "llama")->file, "families/llama.yaml");
    if (apr_families_add(all, path, test_run_with(1), &e) != APR_OK)
        fail_msg("%s", e.text);
    assert_string_equal(found(all, "gguf", "llama")->file, path);
    assert_string_equal(found(all, "architectures", "Toy")->file, path);
    assert_string_equal(found(all, "architectures", "LlamaForCausalLM")->file, "families/llama.yaml");
    assert_string_equal(number(all, 0)->file, path);
    assert_string_equal(number(all, 1)->file, "families/bert.yaml");
    apr_families_free(all);
    test_free(&b);
}

static void a_wrong_file_of_the_user_is_named(void **state)
{
    (void)state;
    struct apr_families *all = all_families();
    struct apr_error e = { 0 };
    const char *path = test_file("wrong.yaml", "family: x\nwrong: y\n", 19);
    assert_int_equal(apr_families_add(all, path, test_run_with(1), &e), APR_ECORRUPT);
    assert_string_equal(e.file, path);
    assert_non_null(strstr(e.text, "line 2: "));
    assert_int_equal(apr_families_add(all, test_path("absent.yaml"), test_run_with(1), &e), APR_EIO);
    assert_string_equal(number(all, 0)->file, "families/bert.yaml");
    apr_families_free(all);
}

static void names_are_spelled_with_their_numbers(void **state)
{
    (void)state;
    static const struct { const char *pattern; uint64_t layer, expert; const char *spelled; } rows[] = {
        { "a.{L}.b.{X}.c", 7, 12, "a.7.b.12.c" }, { "plain", 1, 2, "plain" }, { "{L}", UINT64_MAX, 0, "18446744073709551615" },
        { "{Y}.{L", 1, 2, "{Y}.{L" },             { "", 1, 2, "" },
    };
    char text[32];
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        assert_int_equal(apr_role_spell(apr_text(rows[i].pattern), rows[i].layer, rows[i].expert, text, sizeof text),
                         strlen(rows[i].spelled));
        assert_string_equal(text, rows[i].spelled);
    }
    assert_int_equal(apr_role_spell(apr_text("a.{L}"), 123, 0, text, 5), 0);
    assert_int_equal(apr_role_spell(apr_text("a.{L}"), 123, 0, text, 6), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_embedded_contract_parses_and_is_called_like_its_file),
        cmocka_unit_test(the_test_vectors_of_every_contract_hold),
        cmocka_unit_test(no_word_is_claimed_by_two_contracts),
        cmocka_unit_test(families_are_found_by_what_models_call_themselves),
        cmocka_unit_test(a_right_one_is_taken),
        cmocka_unit_test(a_wrong_contract_is_refused_with_family_line_and_word),
        cmocka_unit_test(roles_may_share_names_when_both_have_a_condition),
        cmocka_unit_test(hostile_contracts_end_soon),
        cmocka_unit_test(no_edit_of_a_byte_does_harm),
        cmocka_unit_test(a_file_of_the_user_comes_first),
        cmocka_unit_test(a_wrong_file_of_the_user_is_named),
        cmocka_unit_test(names_are_spelled_with_their_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
