/* apr-merge --extract-lora: what two models differ by as an adapter, against singular values that are known; applied, the model is back. */
#include "diff.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "model/model.h"
#include "model/open.h"
#include "values/chunk.h"

#define MERGE "apr-merge"
#define BASE  "fixtures/qwen2"
#define TUNED "fixtures/qwen2-q8_0.gguf"
#define SIDE  64u
#define UP    "model.layers.0.mlp.up_proj"

/* ---- matrices whose singular values are known ------------------------------------------------------------------------ */

/* Sylvester's matrix of Hadamard: its columns, over 8, are orthonormal. */
static double hadamard(unsigned i, unsigned j) { return __builtin_parity(i & j) ? -1 : 1; }

/* The sum over k < n of value(k) times column k of that matrix and, turned, column 5 k mod 64: of rank n, with those singular values. */
static void sum_up(double (*value)(unsigned), unsigned n, double d[SIDE * SIDE])
{
    for (unsigned i = 0; i < SIDE; i++)
        for (unsigned j = 0; j < SIDE; j++) {
            d[i * SIDE + j] = 0;
            for (unsigned k = 0; k < n; k++)
                d[i * SIDE + j] += value(k) * hadamard(i, k) * hadamard(j, 5 * k % SIDE) / SIDE;
        }
}

static double falling(unsigned k) { return 1.0 / (k + 1); }
static double level(unsigned k) { return k < 4 ? 2 : k < 60 ? 1 : 0; }

/* The share of the norm that is left behind the first n. */
static double left(double (*value)(unsigned), unsigned n)
{
    double all = 0, rest = 0;
    for (unsigned k = 0; k < SIDE; k++) {
        all += value(k) * value(k);
        rest += k < n ? 0 : value(k) * value(k);
    }
    return sqrt(rest / all);
}

/* A checkpoint of that one matrix; returns its path. */
static const char *one_matrix(const char *folder, const double *d)
{
    static float x[SIDE * SIDE];
    for (unsigned i = 0; i < SIDE * SIDE; i++)
        x[i] = (float)((double)i / 4096 + (d == NULL ? 0 : d[i]));
    return test_checkpoint(folder, "{}", &(struct test_tensor){ UP ".weight", "F32", "[64,64]", x, sizeof x }, 1);
}

/* ---- runs ----------------------------------------------------------------------------------------------------------- */

/* Into a new folder among the tests' files. */
static json_t *extracted(const char *base, const char *tuned, const char *out, const char *rank, const char *more)
{
    char path[300];
    snprintf(path, sizeof path, "%s/adapter_config.json", test_path(out));
    unlink(path);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", test_path(out));
    unlink(path);
    rmdir(test_path(out));
    return report_of(test_tool(MERGE, "--extract-lora", "--rank", rank, base, tuned, test_path(out), "--json", more, NULL), 0);
}

/* All values of all tensors. */
static void expect_same(const char *a, const char *b)
{
    static const char exact[] = "[{match: \"*\", max_abs: 0}]";
    expect_exit(test_tool(APR_DIFF, a, b, "--tolerances", test_file("exact.yaml", exact, sizeof exact - 1), NULL), 0, NULL);
}

static float *values_of(const struct apr_model *m, const char *name, uint64_t rows)
{
    const struct apr_tensor *const t = apr_model_find(m, apr_text(name));
    if (t == NULL || t->dim[0] != rows)
        fail_msg("%s is not there, or has not %u rows", name, (unsigned)rows);
    float *const x = malloc((size_t)t->count * sizeof *x);
    assert_non_null(x);
    for (uint64_t first = 0; first < t->count; first += APR_STRETCH)
        apr_read_floats(test_run_with(1)->kernels, t, first, (size_t)apr_min(APR_STRETCH, t->count - first), x + first);
    return x;
}

static const json_t *module_of(const json_t *report, const char *name)
{
    const json_t *row;
    size_t i;
    json_array_foreach(json_object_get(report, "modules"), i, row)
        if (strcmp(json_string_value(json_object_get(row, "name")), name) == 0)
            return row;
    fail_msg("%s is not in the report", name);
    return NULL;
}

/* What the factors leave of d, over its norm. */
static double left_by(const char *adapter, const double *d, unsigned rank)
{
    struct apr_model *const m = test_opened(adapter);
    float *const a = values_of(m, "base_model.model." UP ".lora_A.weight", rank);
    float *const b = values_of(m, "base_model.model." UP ".lora_B.weight", SIDE);
    double all = 0, rest = 0;
    for (unsigned i = 0; i < SIDE; i++)
        for (unsigned j = 0; j < SIDE; j++) {
            double x = d[i * SIDE + j];
            all += x * x;
            for (unsigned k = 0; k < rank; k++)
                x -= (double)b[i * rank + k] * (double)a[k * SIDE + j];
            rest += x * x;
        }
    free(a);
    free(b);
    apr_close(m);
    return sqrt(rest / all);
}

/* ---- tests ---------------------------------------------------------------------------------------------------------- */

static void the_best_of_a_rank_is_found_and_its_error_told(void **state)
{
    (void)state;
    static const struct { double (*value)(unsigned); unsigned n, rank, expected; const char *epsilon; } rows[] = {
        { falling, 64, 1, 1, NULL },  { falling, 64, 3, 3, NULL },           { falling, 64, 40, 40, NULL },
        { falling, 64, 63, 63, NULL }, { falling, 64, 64, 64, NULL },         { falling, 64, 1000, 64, NULL },
        { level, 60, 4, 4, NULL },     { level, 60, 20, 20, NULL },           { level, 60, 63, 60, NULL },
        { falling, 64, 64, 9, "--sv-epsilon=0.105" }, { level, 60, 64, 4, "--sv-epsilon=1.5" }, { level, 60, 2, 2, "--sv-epsilon=1.5" },
    };
    static double d[SIDE * SIDE];
    const char *const base = one_matrix("known-base", NULL);
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char rank[16];
        sum_up(rows[i].value, rows[i].n, d);
        snprintf(rank, sizeof rank, "%u", rows[i].rank);
        json_t *const r = extracted(base, one_matrix("known-tuned", d), "known", rank, rows[i].epsilon);
        const json_t *const row = module_of(r, UP);
        const double best = left(rows[i].value, rows[i].expected), told = json_real_value(json_object_get(row, "error"));
        const double got = left_by(test_path("known"), d, rows[i].expected);
        if (json_integer_value(json_object_get(row, "rank")) != rows[i].expected || fabs(told - best) > 1e-4 * best + 1e-5 ||
            fabs(got - best) > 1e-4 * best + 1e-5)
            fail_msg("%zu: rank %d, not %u; error %g is told, %g found, %g wanted", i,
                     (int)json_integer_value(json_object_get(row, "rank")), rows[i].expected, told, got, best);
        json_decref(r);
    }
}

/* Each matrix by another dialect's names and layout, norms and biases whole. */
static void at_full_rank_the_tuned_model_comes_back(void **state)
{
    (void)state;
    json_t *const r = extracted(BASE, TUNED, "whole", "4096", NULL);
    assert_true(json_is_true(json_object_get(r, "verified")));
    json_decref(r);
    expect_exit(test_tool(MERGE, "--method=passthrough", BASE, "--lora", test_path("whole"), test_path("back.gguf"), "--type=f32",
                          "--force", "--quiet", NULL), 0, NULL);
    expect_same(test_path("back.gguf"), TUNED);
}

static void the_bytes_are_the_same_on_any_threads_and_instructions(void **state)
{
    (void)state;
    static const char *const ways[] = { "--threads=1", "--threads=5", "--isa=scalar" };
    struct test_bytes first = { 0 };
    for (size_t i = 0; i < APR_LENGTH(ways); i++) {
        char path[300];
        json_decref(extracted(BASE, TUNED, "way", "5", ways[i]));
        snprintf(path, sizeof path, "%s/adapter_model.safetensors", test_path("way"));
        struct test_bytes b = test_load(path);
        if (i == 0)
            first = b;
        else if (b.n != first.n || memcmp(b.at, first.at, b.n) != 0)
            fail_msg("%s: other bytes", ways[i]);
        if (i > 0)
            test_free(&b);
    }
    test_free(&first);
}

/* A layer's weight [2, 2] and bias, a norm; the tuned one's by what was added to each. */
static const char *three_tensors(const char *folder, float weight, float bias, float norm)
{
    const float w[] = { 1 + weight, 2, 3, 4 + weight }, b[] = { 1, 2 + bias }, n[] = { 1 + norm, 1 };
    const struct test_tensor t[] = { { "model.layers.0.self_attn.q_proj.weight", "F32", "[2,2]", w, sizeof w },
                                     { "model.layers.0.self_attn.q_proj.bias", "F32", "[2]", b, sizeof b },
                                     { "model.norm.weight", "F32", "[2]", n, sizeof n } };
    return test_checkpoint(folder, "{}", t, APR_LENGTH(t));
}

static void what_is_no_linear_layer_is_saved_whole_where_it_differs(void **state)
{
    (void)state;
    static const struct { float weight, bias, norm; const char *names[4], *saved; } rows[] = {
        { 1, 0, 0, { "model.layers.0.self_attn.q_proj.lora_A.weight", "model.layers.0.self_attn.q_proj.lora_B.weight" }, NULL },
        { 1, 1, 0,
          { "model.layers.0.self_attn.q_proj.lora_A.weight", "model.layers.0.self_attn.q_proj.lora_B.weight",
            "model.layers.0.self_attn.q_proj.base_layer.bias" }, NULL },
        { 0, 1, 0, { "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.q_proj.bias" },
          "model.layers.0.self_attn.q_proj" },
        { 0, 0, 1, { "model.norm.weight" }, "model.norm" },
    };
    const char *const base = three_tensors("three-base", 0, 0, 0);
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *const tuned = three_tensors("three-tuned", rows[i].weight, rows[i].bias, rows[i].norm);
        json_t *const r = extracted(base, tuned, "three", "2", NULL);
        const json_t *const saved = json_object_get(r, "modules_to_save");
        struct apr_model *const m = test_opened(test_path("three"));
        size_t n = 0;
        for (; n < 4 && rows[i].names[n] != NULL; n++) {
            char name[128];
            snprintf(name, sizeof name, "base_model.model.%s", rows[i].names[n]);
            if (apr_model_find(m, apr_text(name)) == NULL)
                fail_msg("%zu: %s is not there", i, name);
        }
        assert_int_equal(m->ntensor, n);
        if (rows[i].saved == NULL ? !json_is_null(saved) : strcmp(json_string_value(json_array_get(saved, 0)), rows[i].saved) != 0)
            fail_msg("%zu: modules_to_save is not %s", i, rows[i].saved == NULL ? "null" : rows[i].saved);
        apr_close(m);
        json_decref(r);
        expect_exit(test_tool(MERGE, "--method=passthrough", base, "--lora", test_path("three"), test_path("three.safetensors"), "--force",
                              "--quiet", NULL), 0, NULL);
        expect_same(test_path("three.safetensors"), tuned);
    }
}

static void what_makes_no_sense_is_refused_by_name_and_nothing_is_written(void **state)
{
    (void)state;
    static float number[] = { 1, 2, NAN, 4 }, wide[] = { 1, 2, 3, 4, 5, 6 };
    const char *const base = three_tensors("wrong-base", 0, 0, 0), *const tuned = three_tensors("wrong-tuned", 1, 0, 0);
    struct test_tensor t = { "model.layers.0.self_attn.q_proj.weight", "F32", "[2,2]", number, sizeof number };
    char nan[256], good[256], other[256];
    snprintf(good, sizeof good, "%s", test_checkpoint("wrong-good", "{}", &(struct test_tensor){ t.name, "F32", "[2,2]", wide, 16 }, 1));
    snprintf(nan, sizeof nan, "%s", test_checkpoint("wrong-nan", "{}", &t, 1));
    snprintf(other, sizeof other, "%s", test_checkpoint("wrong-other", "{}", &(struct test_tensor){ t.name, "F32", "[3,2]", wide, 24 }, 1));
    const struct { const char *rank, *more, *base, *tuned, *word; } rows[] = {
        { "--rank=0", NULL, base, tuned, "--rank" },       { "--quiet", NULL, base, tuned, "--rank" },
        { "--rank=4097", NULL, base, tuned, "--rank" },    { "--rank=2", "--shards=2", base, tuned, "--shards" },
        { "--rank=2", "--partition=1/2", base, tuned, "--partition" }, { "--rank=2", "--type=q8_0", base, tuned, "--type" },
        { "--rank=2", NULL, base, base, "no other values" }, { "--rank=2", NULL, base, good, "q_proj.bias" },
        { "--rank=2", NULL, good, base, "q_proj.bias" },   { "--rank=2", NULL, good, other, "[3, 2]" },
        { "--rank=2", NULL, good, nan, "element 2 is NaN" }, { "--rank=2", NULL, nan, good, "element 2 is NaN" },
        { "--rank=2", NULL, BASE, "fixtures/deep", "family" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_answer a = test_tool(MERGE, "--extract-lora", rows[i].rank, rows[i].base, rows[i].tuned, test_path("wrong"),
                                         rows[i].more, NULL);
        if (a.exit != 2 || !test_says(&a.err, rows[i].word))
            fail_msg("%zu: exit %d, not with %s: %s", i, a.exit, rows[i].word, (const char *)a.err.at);
        test_answer_free(&a);
        assert_int_not_equal(access(test_path("wrong"), F_OK), 0);
    }
    expect_exit(test_tool(MERGE, "--extract-lora", "--rank=2", base, tuned, base, "--force", NULL), 2, "input");
    expect_exit(test_tool(MERGE, "--extract-lora", "--rank=2", base, tuned, test_path("wrong.safetensors"), NULL), 2, "folder");
    expect_exit(test_tool(MERGE, "--rank=2", "--method=linear", base, tuned, test_path("wrong"), NULL), 2, "--extract-lora");
}

static void an_adapter_is_replaced_by_force_and_a_model_beside_it_stays(void **state)
{
    (void)state;
    const char *const base = three_tensors("beside-base", 0, 0, 0), *const tuned = three_tensors("beside-tuned", 1, 0, 0);
    const char *const out = three_tensors("beside", 0, 0, 0);
    char model[300];
    snprintf(model, sizeof model, "%s/model.safetensors", out);
    expect_exit(test_tool(MERGE, "--extract-lora", "--rank=1", base, tuned, out, "--dry-run", NULL), 0, NULL);
    expect_exit(test_tool(MERGE, "--extract-lora", "--rank=1", base, tuned, out, NULL), 0, NULL);
    expect_exit(test_tool(MERGE, "--extract-lora", "--rank=1", base, tuned, out, NULL), 2, "--force");
    expect_exit(test_tool(MERGE, "--extract-lora", "--rank=1", base, tuned, out, "--force", NULL), 0, NULL);
    expect_same(model, base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_of_a_rank_is_found_and_its_error_told),
        cmocka_unit_test(at_full_rank_the_tuned_model_comes_back),
        cmocka_unit_test(the_bytes_are_the_same_on_any_threads_and_instructions),
        cmocka_unit_test(what_is_no_linear_layer_is_saved_whole_where_it_differs),
        cmocka_unit_test(what_makes_no_sense_is_refused_by_name_and_nothing_is_written),
        cmocka_unit_test(an_adapter_is_replaced_by_force_and_a_model_beside_it_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
