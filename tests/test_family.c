/* lib/family/family.h: the embedded contracts hold, and a contract that is wrong is refused with its family, line and word. */
#include "support.h"

#include <stdio.h>

#include "base/bytes.h"
#include "family/family.h"
#include "model/format.h"
#include "model/meta.h"

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

static const struct apr_family *found(struct apr_families *all, enum apr_detect list, const char *word)
{
    return number(all, apr_families_seek(all, list, apr_text(word), NULL));
}

/* docs/families.md names them in one sentence, each between backquotes. */
static void the_families_that_run_are_those_of_the_page(void **state)
{
    (void)state;
    struct apr_families *all = all_families();
    struct test_bytes page = test_load("docs/families.md");
    test_zeros(&page, 1);
    char *const from = strstr((char *)page.at, "A forward pass, for `apr-trace`, have"), *to = from == NULL ? NULL : strstr(from, ": those");
    assert_non_null(to);
    *to = '\0';
    for (size_t i = 0; number(all, i) != NULL; i++) {
        char name[64];
        const struct apr_family *const f = number(all, i);
        snprintf(name, sizeof name, "`%.*s`", APR_PRINTED(f->name));
        if (f->runs != (strstr(from, name) != NULL))
            fail_msg("%s %s, and the page says otherwise", name, f->runs ? "has a pass" : "has none");
    }
    test_free(&page);
    apr_families_free(all);
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

/* Every word of its `detect` finds it, or one before it that lists the word as well; and a model of its tensors may be of it. */
static void what_is_known_of_a_contract_before_it_is_parsed_is_what_it_says(void **state)
{
    (void)state;
    struct apr_families *const parsed = all_families(), *const all = all_families();
    const struct apr_family *f;
    for (size_t i = 0; (f = number(parsed, i)) != NULL; i++) {
        assert_true(apr_bytes_equal(apr_families_name(all, i), f->name));
        for (enum apr_detect d = 0; d <= APR_DETECT_GGUF; d++)
            for (size_t k = 0; k < f->detect[d].n; k++) {
                const size_t first = apr_families_seek(all, d, f->detect[d].word[k], NULL);
                const bool without = d == APR_DETECT_GGUF && f->detect[APR_DETECT_WITHOUT].n > 0;
                if (first != i && !(first < i && apr_words_hold(&number(parsed, first)->detect[d], f->detect[d].word[k])) && !without)
                    fail_msg("%s: %.*s", f->file, APR_PRINTED(f->detect[d].word[k]));
            }
        for (size_t k = 0; k < f->nrole; k++)
            for (unsigned d = 0; d < APR_NDIALECTS; d++)
                for (size_t w = 0; w < f->role[k].known[d].n; w++) {
                    char name[APR_NAME_ROOM];
                    const size_t n = apr_role_spell(f->role[k].known[d].word[w], 17, 3, name, sizeof name);
                    struct apr_tensor t = { .name = { (const unsigned char *)name, n } };
                    const struct apr_model m = { .tensor = &t, .ntensor = 1, .format = apr_formats[0] };
                    if (!apr_families_may_fit(all, i, &m))
                        fail_msg("%s: %s", f->file, name);
                }
    }
    assert_int_equal(apr_families_name(all, 1000).n, 0);
    assert_true(apr_families_seek(all, APR_DETECT_GGUF, apr_text("llama "), NULL) == APR_NO_FAMILY);
    assert_true(apr_families_seek(all, APR_DETECT_GGUF, apr_text("lam"), NULL) == APR_NO_FAMILY);
    assert_true(apr_families_seek(all, APR_DETECT_GGUF, apr_text(""), NULL) == APR_NO_FAMILY);
    apr_families_free(parsed);
    apr_families_free(all);
}

static void the_test_vectors_of_every_contract_hold(void **state)
{
    (void)state;
    struct apr_families *all = all_families();
    const struct apr_family *f;
    for (size_t i = 0; (f = number(all, i)) != NULL; i++) {
        if (f->nvector == 0)
            fail_msg("%s has no checks", f->file);
        for (size_t k = 0; k < f->nvector; k++) {
            const struct apr_vector *v = &f->vector[k];
            uint64_t n = 0;
            if (!apr_family_elements(f, v, &n))
                fail_msg("%s: check %zu lacks a size", f->file, k + 1);
            if (n != v->elements)
                fail_msg("%s: %.*s has %llu elements, the contract gives %llu", f->file, (int)v->model.n, (const char *)v->model.at,
                         (unsigned long long)v->elements, (unsigned long long)n);
        }
    }
    apr_families_free(all);
}

static void no_word_is_claimed_by_two_contracts(void **state)
{
    (void)state;
    struct apr_families *all = all_families();
    const struct apr_family *f;
    for (size_t i = 0; (f = number(all, i)) != NULL; i++)
        for (unsigned list = 0; list < APR_DETECT_TENSORS; list++)
            for (size_t k = 0; k < f->detect[list].n && (list != APR_DETECT_GGUF || f->detect[APR_DETECT_WITHOUT].n == 0); k++) {
                const char *word = (const char *)f->detect[list].word[k].at;
                if (found(all, (enum apr_detect)list, word) != f)
                    fail_msg("%s: another family has %s too", f->file, word);
            }
    apr_families_free(all);
}

static void families_are_found_by_what_models_call_themselves(void **state)
{
    (void)state;
    static const struct { enum apr_detect list; const char *word, *family; } rows[] = {
        { APR_DETECT_ARCHITECTURES, "LlamaForCausalLM", "llama" }, { APR_DETECT_ARCHITECTURES, "MixtralForCausalLM", "llama" },
        { APR_DETECT_ARCHITECTURES, "GPT2LMHeadModel", "gpt2" },   { APR_DETECT_ARCHITECTURES, "Qwen2MoeForCausalLM", "qwen2moe" },
        { APR_DETECT_MODEL_TYPES, "mistral", "llama" },            { APR_DETECT_MODEL_TYPES, "gemma3_text", "gemma3" },
        { APR_DETECT_GGUF, "nomic-bert-moe", "nomic-bert" },       { APR_DETECT_GGUF, "deepseek2", "deepseek2" },
        { APR_DETECT_GGUF, "lla", NULL },                          { APR_DETECT_GGUF, "LlamaForCausalLM", NULL },
        { APR_DETECT_ARCHITECTURES, "BaichuanForCausalLM", NULL }, { APR_DETECT_ARCHITECTURES, "DeepseekForCausalLM", NULL },
        { APR_DETECT_GGUF, "", NULL },
    };
    struct apr_families *all = all_families();
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const struct apr_family *f = found(all, rows[i].list, rows[i].word);
        if (rows[i].family == NULL ? f != NULL : f == NULL || !apr_bytes_is(f->name, rows[i].family))
            fail_msg("%s: %s", rows[i].word, f == NULL ? "no family" : f->file);
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
    "tokenizer: {order: [bpe], normalizer: NFC, overrides: [{when: H > 1, set: {a: false, b: {token: <end>}}}]}\n"
    "checks:\n"
    "  - {model: small, dims: {N: 3, H: 8, tied: 1}, elements: 1336}\n" /* line 30 */
    "forward:\n"
    "  layers: N\n"
    "  hidden: H\n"
    "  heads: first(value(heads.n), 2)\n"
    "  eps: 1e-6\n" /* line 35 */
    "  act: \"'silu'\"\n"
    "  slides: at(layer_types, layer) == 'sliding' or mod(layer, 2) == 0\n"
    "  window: if(slides, 2 * N, 0)\n";

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

static void terms_of_the_forward_pass_stand_where_they_belong(void **state)
{
    (void)state;
    struct apr_family *f;
    struct apr_error e;
    struct apr_bytes name;
    assert_int_equal(apr_family_parse(&f, "toy.yaml", apr_text(good), &e), APR_OK);
    assert_true(f->runs);
    assert_true(apr_expr_is_name(f->term[APR_TERM_LAYERS], &name) && apr_bytes_is(name, "N"));
    assert_non_null(f->term[APR_TERM_SLIDES]);
    assert_null(f->term[APR_TERM_EXPERTS]);
    apr_family_free(f);
    struct test_bytes b = edited("forward:\n", "title: x\n#");
    b.n = (size_t)((unsigned char *)strstr((char *)b.at, "#") - b.at);
    assert_int_equal(apr_family_parse(&f, "toy.yaml", (struct apr_bytes){ b.at, b.n }, &e), APR_OK);
    assert_false(f->runs);
    apr_family_free(f);
    test_free(&b);
}

#define PERMUTE    "{op: rope_permute, heads: 2}"
#define IN_LINE_15 "line 15: family toy"

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
        { "skip:", "buffers: [\"m.{M}\"]\nskip:", "line 5: family toy", "\"M\"" },
        { "skip:", "buffers: 5\nskip:", "line 5: family toy", "\"buffers\"" },
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
        { "op: rope_permute, heads", "op: rope_premute, heads", "line 15: family toy", "where rope_permute may be meant" },
        { "{op: rope_permute, heads: 2}", "[{op: rope_permute, heads: 2}, {op: stack, count: 2}]", "line 15: family toy",
          "stack comes first" },
        { "{op: rope_permute, heads: 2}", "[{op: split_rows, parts: [1]}, {op: transpose}]", "line 15: family toy", "split last" },
        { "{op: rope_permute, heads: 2}",
          "[{op: transpose}, {op: transpose}, {op: transpose}, {op: transpose}, {op: transpose}, {op: transpose}, {op: transpose}]",
          "line 15: family toy", "\"transform\"" },
        { PERMUTE, "{op: regroup, groups: 2}", IN_LINE_15, "\"size\"" },
        { "shape: [G, H]}", "shape: [1152921504606846976, H]}", "line 13: family toy", "no size above 0: \"1152921504606846976\"" },
        { "shape: [G, H]}", "shape: [0-4, H]}", "line 13: family toy", "\"0-4\"" },
        { "shape: [G, H]}", "shape: [5 / 2, H]}", "line 13: family toy", "\"5 / 2\"" },
        { "heads: 2", "heads: 0", IN_LINE_15, "no size above 0: \"0\"" },
        { "heads: 2", "heads: 'two'", IN_LINE_15, "\"two\"" },
        { PERMUTE, "{op: order_cols, rows: [1, 0], size: 0}", IN_LINE_15, "no size above 0: \"0\"" },
        { PERMUTE, "{op: regroup, groups: 2, size: 2, from: 0 - 4}", IN_LINE_15, "no size: \"0 - 4\"" },
        { PERMUTE, "{op: scale, by: 0}", IN_LINE_15, "by which nothing is multiplied: \"0\"" },
        { PERMUTE, "{op: scale, by: [1, 1e-320], parts: [8, 8]}", IN_LINE_15, "\"1e-320\"" },
        { PERMUTE, "{op: scale, by: 1 / 0}", IN_LINE_15, "\"1 / 0\"" },
        { PERMUTE, "{op: add, value: 1e300}", IN_LINE_15, "no number in F32: \"1e300\"" },
        { PERMUTE, "{op: regroup, groups: 2, size: 1, m: 3}", IN_LINE_15, "\"m\"" },
        { PERMUTE, "{op: ungroup, groups: 2}", IN_LINE_15, "\"parts\"" },
        { PERMUTE, "{op: ungroup, groups: 2, parts: [1, 2, 3, 4, 5, 6, 7, 8]}", IN_LINE_15, "too long" },
        { PERMUTE, "{op: pad_rows}", IN_LINE_15, "\"count\"" },
        { PERMUTE, "{op: pad_rows, count: 2, then: []}", IN_LINE_15, "\"then\"" },
        { PERMUTE, "{op: order}", IN_LINE_15, "\"rows\"" },
        { PERMUTE, "{op: order, rows: 3}", IN_LINE_15, "\"rows\"" },
        { PERMUTE, "{op: order, rows: [0, 2, 2]}", IN_LINE_15, "stands twice in an order: \"2\"" },
        { PERMUTE, "{op: order, rows: [0, 3, 2]}", IN_LINE_15, "not \"3\"" },
        { PERMUTE, "{op: order, rows: [0, -1]}", IN_LINE_15, "not \"-1\"" },
        { PERMUTE, "{op: order_cols, rows: [1, H]}", IN_LINE_15, "not \"H\"" },
        { PERMUTE, "{op: scale}", IN_LINE_15, "\"by\"" },
        { PERMUTE, "{op: scale, by: [1, 2]}", IN_LINE_15, "\"parts\"" },
        { PERMUTE, "{op: scale, by: [1, 2], parts: [H]}", IN_LINE_15, "not as many parts" },
        { PERMUTE, "{op: scale, by: [], parts: []}", IN_LINE_15, "not as many parts" },
        { PERMUTE, "{op: scale, by: 2, parts: [H]}", IN_LINE_15, "need a list" },
        { PERMUTE, "{op: scale, by: Q}", IN_LINE_15, "\"Q\"" },
        { PERMUTE, "{op: concat_rows, parts: [1, 2]}", IN_LINE_15, "as many hf names" },
        { PERMUTE, "[{op: transpose}, {op: concat_rows, parts: [1]}]", IN_LINE_15, "comes first" },
        { "hf: \"m.{L}.q\"", "hf: [\"m.{L}.q\", \"m.{L}.r\"]", IN_LINE_15, "one hf name" },
        { "hf: \"m.{L}.q\"", "hf: []", IN_LINE_15, "hf name" },
        { "{op: split_rows, parts: [H, H]}", "{op: split_rows, parts: [H, H], then: [[], [], []]}", "line 17: family toy", "\"then\"" },
        { "{op: split_rows, parts: [H, H]}", "{op: split_rows, parts: [H, H], then: [{op: split_rows, parts: [1]}]}", "line 17: family toy",
          "behind a split there is no \"split_rows\"" },
        { "{op: split_rows, parts: [H, H]}", "{op: split_rows, parts: [H, H], then: [{op: stack, count: 1}]}", "line 17: family toy",
          "\"stack\"" },
        { "{op: split_rows, parts: [H, H]}", "{op: split_rows, parts: [H, H], then: {op: transpose}}", "line 17: family toy", "\"then\"" },
        { "{op: split_rows, parts: [H, H]}", "{op: split_rows, parts: [H, H], then: [transpose]}", "line 17: family toy", "no list" },
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
        { "op: config_list, key: [a.b]", "op: each", "line 21: family toy", "\"each\"" },
        { "op: config_list, key: [a.b]", "op: each, each: layer + M", "line 21: family toy", "\"M\"" },
        { "op: config_list", "op: invent", "line 21: family toy", "\"invent\"" },
        { "gguf: f.weight, ", "", "line 21: family toy", "one gguf name" },
        { "expr: N, hf", "expr: M, hf", "line 23: family toy", "\"M\"" },
        { "when: N > 0", "when: N >", "line 23: family toy", "at character" },
        { "type: u32", "type: u33", "line 23: family toy", "\"u33\"" },
        { "hf: layers", "hff: layers", "line 23: family toy", "\"hff\"" },
        { "expr: N, hf", "expr: N, const: 1, hf", "line 23: family toy", "one of expr" },
        { "expr: N, hf", "const: -1, hf", "line 23: family toy", "\"-1\"" },
        { "expr: N, hf", "const: 0.5, hf", "line 23: family toy", "\"0.5\"" },
        { "expr: N, hf", "const: many, hf", "line 23: family toy", "\"many\"" },
        { "expr: N, hf", "computed: magic, hf", "line 23: family toy", "\"magic\"" },
        { "type: u32, expr: N", "include: rope_scaling, expr: N", "line 23: family toy", "\"gguf\"" },
        { "{gguf: \"{a}.n\", type: u32, expr: N, hf: layers, apr: n, when: N > 0}", "{include: ../llama}", "line 23: family toy",
          "\"../llama\"" },
        { "{gguf: \"{a}.f\", type: f32, from: [p.q], default: 1, fills: free}", "{include: rope_scaling}", "line 24: family toy",
          "\"rope_kind\"" },
        { "kv:\n", "kv:\n  - {include: a}\n  - {include: a}\n  - {include: a}\n  - {include: a}\n  - {include: a}\n"
                  "  - {include: a}\n  - {include: a}\n  - {include: a}\n  - {include: a}\n", "line 22: family toy", "\"kv\"" },
        { "fills: free", "fills: freed", "line 24: family toy", "\"freed\"" },
        { "when: tied", "when: tide", "line 26: family toy", "\"tide\"" },
        { "{computed: main_dtype}", "{compute: main_dtype}", "line 26: family toy", "\"compute\"" },
        { "{computed: main_dtype}", "{computed: main_type}", "line 26: family toy", "\"main_type\"" },
        { "set: {architectures: [Toy], dtype: {computed: main_dtype}}", "set: [Toy]", "line 26: family toy", "\"set\"" },
        { "gguf_order: 0", "gguf_order: two", "line 27: family toy", "\"two\"" },
        { "gguf_order", "ggml_order", "line 27: family toy", "\"ggml_order\"" },
        { "{size: H}", "{size: Z}", "line 27: family toy", "\"Z\"" },
        { "order: [bpe]", "order: [bpa]", "line 28: family toy", "\"bpa\"" },
        { "overrides: [{when: H", "overrides: [{when: Z", "line 28: family toy", "\"Z\"" },
        { "H: 8, tied", "HH: 8, tied", "line 30: family toy", "\"HH\"" },
        { "{N: 3, H: 8, tied: 1}", "[N]", "line 30: family toy", "\"dims\"" },
        { "H: 8", "H: eight", "line 30: family toy", "\"eight\"" },
        { ", elements: 1336", "", "line 30: family toy", "\"elements\"" },
        { "dims:\n", "dims: []\ntitle:\n", "line 6: family toy", "\"dims\"" },
        { "2 * N, type", "layer, type", "line 8: family toy", "\"layer\"" },
        { "when: H > 1,", "where: layers > 1,", "line 18: family toy", "\"layers\"" },
        { "optional: tied", "where: layer > 0", "line 14: family toy", "`where`" },
        { "type: u32, expr: N", "type: arr_u32, expr: N", "line 23: family toy", "arr_" },
        { "type: u32, expr: N", "type: u32, each: N", "line 23: family toy", "arr_" },
        { "type: u32, expr: N", "type: u32, count: 2, expr: N", "line 23: family toy", "arr_" },
        { "type: u32, expr: N", "type: arr_u32, count: 2, from: n", "line 23: family toy", "arr_" },
        { "type: u32, expr: N", "type: arr_u32, each: Z", "line 23: family toy", "\"Z\"" },
        { "type: u32, expr: N", "type: arr_u32, each: 1, count: layer", "line 23: family toy", "\"layer\"" },
        { "{computed: main_dtype}", "{each: Z}", "line 26: family toy", "\"Z\"" },
        { "{computed: main_dtype}", "{each: layer, type: u32}", "line 26: family toy", "\"u32\"" },
        { "{computed: main_dtype}", "{expr: layer}", "line 26: family toy", "\"layer\"" },
        { "{computed: main_dtype}", "{expr: 1, count: 2}", "line 26: family toy", "\"count\"" },
        { "{computed: main_dtype}", "{count: 2}", "line 26: family toy", "each" },
        { "forward:\n", "forward: [a]\ntitle:\n", "line 31: family toy", "a map should stand" },
        { "{gguf: \"{a}.n\", type: u32, expr: N,", "{gguf: \"{a}.n\", type: arr_f32, role: q,", "line 23: family toy",
          "without a gguf name" },
        { "  hidden: H", "  hiden: H", "line 33: family toy", "\"hiden\"" },
        { "  hidden: H\n", "", "line 3", "\"hidden\"" },
        { "  hidden: H", "  hidden: [H]", "line 33: family toy", "a word should stand" },
        { "  hidden: H", "  hidden: Q", "line 33: family toy", "\"Q\"" },
        { "  hidden: H", "  hidden: has(tensors.outs)", "line 33: family toy", "\"outs\"" },
        { "heads.n), 2)", "heads.n), 2", "line 34: family toy", "at character" },
        { "  slides: at", "  slides: slides + at", "line 37: family toy", "\"slides\"" },
        { "  slides: at", "  slides: window + at", "line 37: family toy", "\"window\"" },
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
    uint64_t n;
    if (apr_family_parse(&f, "toy.yaml", apr_text(good), &e) != APR_OK)
        fail_msg("%s", e.text);
    assert_int_equal(f->ndim, 5);
    assert_int_equal(f->nrole, 7);
    assert_non_null(apr_family_role(f, apr_text("x")));
    assert_null(apr_family_role(f, apr_text("y")));
    assert_non_null(apr_family_dim(f, apr_text("G")));
    assert_true(apr_family_elements(f, &f->vector[0], &n));
    assert_int_equal(n, 24 * 8 + 3 * 8 * 8 + 4 * 8 * 8 + 3 * 16 * 8 + 3 * 8);
    apr_family_free(f);
}

static bool list_is(const struct apr_words *list, const char *first, const char *second)
{
    const char *const word[] = { first, second };
    size_t n = 0;
    while (n < 2 && n < list->n && word[n] != NULL && apr_bytes_is(list->word[n], word[n]))
        n++;
    return n == list->n && (n == 2 || word[n] == NULL);
}

static void all_of_a_contract_stands_in_structs_when_its_text_is_gone(void **state)
{
    (void)state;
    struct apr_family *f;
    struct apr_error e;
    struct test_bytes b = { 0 };
    test_text(&b, good);
    assert_int_equal(apr_family_parse(&f, "toy.yaml", (struct apr_bytes){ b.at, b.n }, &e), APR_OK);
    memset(b.at, 'x', b.n);
    test_free(&b);
    assert_true(list_is(&f->detect[APR_DETECT_ARCHITECTURES], "Toy", NULL) && list_is(&f->detect[APR_DETECT_TENSORS], "a.weight", NULL));
    assert_true(list_is(&f->cleaning.remove, "x.", NULL) && list_is(&f->cleaning.unless, "m.", NULL));
    assert_true(apr_bytes_is(f->cleaning.prefix, "m.") && f->cleaning.nrename == 1 && apr_bytes_is(f->cleaning.rename[0].to, ".w"));
    assert_true(f->nskip == 2 && f->skip[0].n == 1 && apr_bytes_is(f->skip[0].span[0].text, "*.bias") && !f->skip[0].span[0].dim);
    assert_true(f->skip[1].n == 2 && apr_bytes_is(f->skip[1].span[0].text, "m.") && f->skip[1].span[0].dim == &f->dim[0]);
    assert_true(apr_bytes_is(f->skip[1].span[1].text, ".*") && f->skip[1].span[1].dim == NULL);
    assert_true(list_is(&f->dim[1].key, "hidden", "top.0.hidden") && apr_bytes_is(f->dim[1].name, "H"));
    assert_true(list_is(&f->role[4].known[APR_GGUF], "b.{L}.s", "b.{L}.t") && f->role[4].layered && !f->role[0].layered);
    assert_true(apr_role_stacked(&f->role[3]) && !apr_role_stacked(&f->role[4]));
    assert_true(f->role[6].generated == APR_CONFIG_LIST && list_is(&f->role[6].list, "a.b", NULL));
    apr_family_free(f);
}

static void the_metadata_of_a_contract_leads_both_ways(void **state)
{
    (void)state;
    struct apr_family *f;
    struct apr_error e;
    char key[16];
    struct test_bytes b = edited("  - {gguf: \"{a}.f\"", "  - {gguf: general.x, type: arr_f32, computed: pooling_type}\n"
                                                       "  - {gguf: \"{a}.c\", type: i32, const: -3, apr: c}\n"
                                                       "  - {gguf: \"{a}.f\"");
    assert_int_equal(apr_family_parse(&f, "toy.yaml", (struct apr_bytes){ b.at, b.n }, &e), APR_OK);
    test_free(&b);
    const struct apr_kv *n = &f->kv[0], *x = &f->kv[1], *c = &f->kv[2], *p = &f->kv[3];
    assert_int_equal(f->nkv, 4);
    assert_true(n->own && n->type == APR_META_U32 && n->value.origin == APR_OF_EXPR && n->fills == &f->dim[0] && n->when != NULL);
    assert_true(apr_bytes_is(n->hf, "layers") && apr_bytes_is(n->apr, "n") && apr_kv_spell(n, apr_text("toy"), key, sizeof key));
    assert_string_equal(key, "toy.n");
    assert_false(apr_kv_spell(n, apr_text("toy"), key, 5));
    assert_true(!x->own && x->type == APR_META_ARRAY && x->element == APR_META_F32 && x->value.code == APR_POOLING_TYPE);
    assert_true(c->value.origin == APR_OF_CONSTANT && c->value.constant.type == APR_META_I32 && c->value.constant.i == -3 && !c->fills);
    assert_true(p->value.origin == APR_OF_CONFIG && list_is(&p->value.word, "p.q", NULL) && p->fills == &f->dim[4] && p->otherwise);
    const struct apr_settings *s = &f->hf_config[0], *o = &f->tokenizer.override[0];
    assert_true(f->nhf_config == 1 && s->when != NULL && s->n == 2 && apr_bytes_is(s->set[1].key, "dtype"));
    assert_true(s->set[0].value.origin == APR_OF_LIST && list_is(&s->set[0].value.word, "Toy", NULL));
    assert_true(s->set[1].value.origin == APR_OF_CODE && s->set[1].value.code == APR_MAIN_DTYPE);
    assert_true(f->rope_type.gguf_order == 0 && f->rope_type.hf_order == 2 && f->apr.n == 1 && f->apr.set[0].value.expr != NULL);
    assert_true(f->tokenizer.norder == 1 && f->tokenizer.order[0] == APR_BPE && apr_bytes_is(f->tokenizer.normalizer, "NFC"));
    assert_true(o->n == 2 && o->set[0].value.constant.type == APR_META_BOOL && !o->set[0].value.constant.b);
    assert_true(o->set[1].value.origin == APR_OF_TOKEN && apr_bytes_is(o->set[1].value.word.word[0], "<end>"));
    assert_true(f->nvector == 1 && f->vector[0].elements == 1336 && f->vector[0].ngiven == 3 && f->vector[0].given[1].value.number == 8);
    apr_family_free(f);
}

static void entries_are_included_where_they_are_named(void **state)
{
    (void)state;
    struct apr_family *f;
    struct apr_error e;
    struct test_bytes b = edited("  free: {}\n", "  free: {}\n  rope_kind: {type: str}\n"), all = { 0 };
    test_zeros(&b, 1);
    char *const at = strstr((char *)b.at, "  - {gguf: \"{a}.f\"");
    test_put(&all, b.at, (size_t)(at - (char *)b.at));
    test_text(&all, "  - {include: rope_scaling}\n");
    test_text(&all, at);
    if (apr_family_parse(&f, "toy.yaml", (struct apr_bytes){ all.at, all.n }, &e) != APR_OK)
        fail_msg("%s", e.text);
    test_free(&b);
    test_free(&all);
    assert_int_equal(f->nkv, 9);
    assert_true(apr_bytes_is(f->kv[0].key, ".n") && apr_bytes_is(f->kv[8].key, ".f"));
    assert_true(apr_bytes_is(f->kv[1].key, ".rope.scaling.type") && f->kv[1].fills == &f->dim[5] && f->kv[1].line == 25);
    assert_true(apr_bytes_is(f->kv[7].key, ".rope.scaling.yarn_beta_slow") && apr_bytes_is(f->kv[7].hf, "rope_scaling.beta_slow"));
    apr_family_free(f);
}

/* As YAML has it, and as JSON would. */
static void constants_are_what_they_look_like(void **state)
{
    (void)state;
    static const struct { const char *spelled; enum apr_meta_type type; double number; } rows[] = {
        { "false", APR_META_BOOL, 0 },      { "true", APR_META_BOOL, 1 }, { "5", APR_META_U64, 5 },
        { "-5", APR_META_I64, -5 },         { "0.5", APR_META_F64, 0.5 }, { "1e300", APR_META_F64, 1e300 },
        { "'true'", APR_META_STRING, 0 },   { "'5'", APR_META_STRING, 0 }, { "silu", APR_META_STRING, 0 },
        { "infinity", APR_META_STRING, 0 }, { "''", APR_META_STRING, 0 }, { "\"H\"", APR_META_STRING, 0 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char set[64];
        double number = 0;
        struct apr_family *f;
        struct apr_error e;
        snprintf(set, sizeof set, "set: {a: %s, b", rows[i].spelled);
        struct test_bytes b = edited("set: {a: false, b", set);
        assert_int_equal(apr_family_parse(&f, "toy.yaml", (struct apr_bytes){ b.at, b.n }, &e), APR_OK);
        const struct apr_value *v = &f->tokenizer.override[0].set[0].value.constant;
        if (v->type != rows[i].type || apr_meta_number(v, &number) != (v->type != APR_META_STRING) || number != rows[i].number)
            fail_msg("%s is of type %s, %g", rows[i].spelled, apr_meta_type_word(v->type), number);
        apr_family_free(f);
        test_free(&b);
    }
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
            uint64_t n;
            for (size_t c = 0; code == APR_OK && c < f->nvector; c++)
                (void)apr_family_elements(f, &f->vector[c], &n);
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
    const char *path = test_file("mine.yaml", b.at, b.n), *first = number(all, 0)->file;
    assert_string_equal((const char *)found(all, APR_DETECT_GGUF, "llama")->file, "families/llama.yaml");
    if (apr_families_add(all, path, test_run_with(1), &e) != APR_OK)
        fail_msg("%s", e.text);
    assert_string_equal(found(all, APR_DETECT_GGUF, "llama")->file, path);
    assert_string_equal(found(all, APR_DETECT_ARCHITECTURES, "Toy")->file, path);
    assert_string_equal(found(all, APR_DETECT_ARCHITECTURES, "LlamaForCausalLM")->file, "families/llama.yaml");
    assert_string_equal(number(all, 0)->file, path);
    assert_string_equal(number(all, 1)->file, first);
    apr_families_free(all);
    test_free(&b);
}

static void a_wrong_file_of_the_user_is_named(void **state)
{
    (void)state;
    struct apr_families *all = all_families();
    struct apr_error e = { 0 };
    const char *path = test_file("wrong.yaml", "family: x\nwrong: y\n", 19), *first = number(all, 0)->file;
    assert_int_equal(apr_families_add(all, path, test_run_with(1), &e), APR_ECORRUPT);
    assert_string_equal(e.file, path);
    assert_non_null(strstr(e.text, "line 2: "));
    assert_int_equal(apr_families_add(all, test_path("absent.yaml"), test_run_with(1), &e), APR_EIO);
    assert_string_equal(number(all, 0)->file, first);
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
        cmocka_unit_test(the_families_that_run_are_those_of_the_page),
        cmocka_unit_test(what_is_known_of_a_contract_before_it_is_parsed_is_what_it_says),
        cmocka_unit_test(the_test_vectors_of_every_contract_hold),
        cmocka_unit_test(no_word_is_claimed_by_two_contracts),
        cmocka_unit_test(families_are_found_by_what_models_call_themselves),
        cmocka_unit_test(a_right_one_is_taken),
        cmocka_unit_test(all_of_a_contract_stands_in_structs_when_its_text_is_gone),
        cmocka_unit_test(the_metadata_of_a_contract_leads_both_ways),
        cmocka_unit_test(entries_are_included_where_they_are_named),
        cmocka_unit_test(constants_are_what_they_look_like),
        cmocka_unit_test(terms_of_the_forward_pass_stand_where_they_belong),
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
