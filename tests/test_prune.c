/* apr-prune: takes what numpy takes, tells what numpy tells, leaves out layers as they are, and refuses by name. */
#include "convert.h"

#include "base/bytes.h"
#include "base/crc.h"
#include "model/model.h"
#include "model/open.h"
#include "values/chunk.h"

#define APR_PRUNE "apr-prune"
#define MODEL     "fixtures/qwen2-bf16.gguf"
#define IMATRIX   "fixtures/judged.imatrix.gguf"
#define DEEP      "fixtures/deep"

/* ---- runs ----------------------------------------------------------------------------------------------------------- */

#define MOST_WORDS 24

/* The words of a line, and before them those given up to NULL. */
static struct test_answer prune(const char *const *before, const char *line)
{
    static char text[1024];
    const char *w[MOST_WORDS] = { NULL };
    size_t n = 0;
    for (; before[n] != NULL; n++)
        w[n] = before[n];
    snprintf(text, sizeof text, "%s", line);
    for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " ")) {
        assert_true(n + 1 < MOST_WORDS);
        w[n++] = word;
    }
    return test_tool(APR_PRUNE, w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], w[10], w[11], w[12], w[13], w[14], w[15],
                     w[16], w[17], w[18], w[19], w[20], w[21], w[22], NULL);
}

/* The report of a run from `in` to a target among the tests' files. */
static json_t *pruned(const char *in, const char *out, const char *line)
{
    make_room(test_path(out));
    return report_of(prune((const char *const[]){ in, test_path(out), "--json", NULL }, line), 0);
}

static uint32_t crc_of_values(const struct apr_model *m, const char *name)
{
    const struct apr_tensor *const t = apr_model_find(m, apr_text(name));
    float x[APR_STRETCH];
    uint32_t crc = 0;
    assert_non_null(t);
    for (uint64_t first = 0; first < t->count; first += APR_STRETCH) {
        const size_t n = (size_t)apr_min(APR_STRETCH, t->count - first);
        apr_read_floats(test_run_with(1)->kernels, t, first, n, x);
        crc = apr_crc32_of(crc, (struct apr_bytes){ (const unsigned char *)x, n * sizeof *x });
    }
    return crc;
}

static const json_t *row_named(const json_t *report, const char *name)
{
    const json_t *const rows = at(report, "tensors");
    for (size_t i = 0; i < json_array_size(rows); i++)
        if (strcmp(text_of(json_array_get(rows, i), "name"), name) == 0)
            return json_array_get(rows, i);
    fail_msg("no row of %s", name);
    return NULL;
}

/* ---- scores and groups ---------------------------------------------------------------------------------------------- */

/* "blk.0.attn_q.weight 1472 0.98 0.16 cd3e6ab5" of fixtures/pruned.txt. */
static void expect_row(const char *what, const char *line, const json_t *report, const struct apr_model *m)
{
    char name[64];
    unsigned long zeros;
    unsigned crc;
    double kept, error;
    assert_int_equal(sscanf(line, "%63s %lu %lg %lg %x", name, &zeros, &kept, &error, &crc), 5);
    const json_t *const row = row_named(report, name);
    if (json_integer_value(at(row, "zeros")) != (json_int_t)zeros)
        fail_msg("%s: %s has %lld zeros, not %lu", what, name, (long long)json_integer_value(at(row, "zeros")), zeros);
    if (crc_of_values(m, name) != crc)
        fail_msg("%s: %s has other values", what, name);
    const double kept_there = json_number_value(at(row, "norm_kept")), error_there = json_number_value(at(row, "error"));
    if (fabs(kept_there - kept) > 1e-10 || fabs(error_there - error) > 1e-7)
        fail_msg("%s: %s: norm_kept %.17g, error %.17g", what, name, kept_there, error_there);
}

static void what_numpy_prunes_is_pruned(void **state)
{
    (void)state;
    FILE *const f = fopen("fixtures/pruned.txt", "r");
    char line[256], options[512] = "";
    json_t *report = NULL;
    struct apr_model *m = NULL;
    size_t n = 0;
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "--", 2) != 0) {
            expect_row(options, line, report, m);
            continue;
        }
        json_decref(report);
        apr_close(m);
        snprintf(options, sizeof options, "%s --imatrix " IMATRIX " --force --threads=%zu", line, 1 + n++ % 3);
        report = pruned(MODEL, "pruned.gguf", options);
        m = test_opened(test_path("pruned.gguf"));
    }
    assert_true(n > 20);
    json_decref(report);
    apr_close(m);
    fclose(f);
}

static void what_is_not_pruned_stays_bit_for_bit(void **state)
{
    (void)state;
    json_t *const report = pruned("fixtures/qwen2", "rest/", "--sparsity 0.5");
    struct apr_model *const a = test_opened("fixtures/qwen2"), *const b = test_opened(test_path("rest"));
    size_t same = 0;
    assert_int_equal(json_array_size(at(report, "tensors")), 14);
    assert_int_equal(a->ntensor, b->ntensor);
    for (size_t i = 0; i < a->ntensor; i++) {
        const struct apr_tensor *const t = apr_model_find(b, a->tensor[i].name);
        assert_non_null(t);
        assert_ptr_equal(t->dtype, a->tensor[i].dtype);
        same += apr_bytes_equal(t->data, a->tensor[i].data);
    }
    assert_int_equal(same, a->ntensor - 14);
    expect_same_bytes("fixtures/qwen2/config.json", test_path("rest/config.json"));
    json_decref(report);
    apr_close(a);
    apr_close(b);
}

static void the_same_bytes_come_of_any_threads_and_any_instructions(void **state)
{
    (void)state;
    static const char *const options[] = { "--sparsity 0.43 --scope model", "--pattern 2:4 --method wanda --imatrix " IMATRIX,
                                           "--method random --seed 9 --sparsity 0.2 --scope row", "--sparsity 0.5 --type q8_0" };
    for (size_t i = 0; i < APR_LENGTH(options); i++) {
        char a[256], b[256];
        snprintf(a, sizeof a, "%s --force --threads=1 --isa=scalar", options[i]);
        snprintf(b, sizeof b, "%s --force --threads=7", options[i]);
        json_decref(pruned(MODEL, "one.gguf", a));
        json_decref(pruned(MODEL, "seven.gguf", b));
        expect_same_bytes(test_path("one.gguf"), test_path("seven.gguf"));
    }
}

/* Rows in one dialect are rows in the other, in another order. */
static void a_checkpoint_and_its_gguf_lose_the_same(void **state)
{
    (void)state;
    static const char options[] = "--method wanda --sparsity 0.5 --imatrix " IMATRIX;
    json_decref(pruned("fixtures/qwen2", "alike/hf.gguf", options));
    json_decref(pruned(MODEL, "alike/gguf.gguf", options));
    json_decref(pruned("fixtures/qwen2.apr", "alike/apr.gguf", options));
    expect_identical(test_path("alike/hf.gguf"), test_path("alike/gguf.gguf"), 27);
    expect_identical(test_path("alike/apr.gguf"), test_path("alike/gguf.gguf"), 27);
}

/* GPT-2 stores [in, out] in a checkpoint, [out, in] in a GGUF. */
static void a_matrix_that_is_stored_the_other_way_round_loses_the_same(void **state)
{
    (void)state;
    static const char *const options[] = { "--sparsity 0.4 --scope row", "--pattern 2:4", "--sparsity 0.3 --method wanda",
                                           "--pattern 1:4 --method wanda",
                                           "--sparsity 0.3 --method wanda --scope tensor" };
    const char *const in = "fixtures/forward/gpt2", *const gguf = converted(in, "gpt2.gguf", NULL);
    const char *const imatrix = test_path("gpt2.imatrix.gguf");
    struct test_answer traced = test_tool("apr-trace", "-q", in, "--tokens=5,17,2,30,9,1,23,8", "--imatrix", imatrix, NULL);
    assert_int_equal(traced.exit, 0);
    test_answer_free(&traced);
    for (size_t i = 0; i < APR_LENGTH(options); i++) {
        char line[1024];
        snprintf(line, sizeof line, "%s --force --imatrix=%s", options[i], imatrix);
        json_t *const a = pruned(in, "turned/a.gguf", line), *const b = pruned(gguf, "turned/b.gguf", line);
        const json_t *const x = row_named(a, "transformer.h.1.mlp.c_proj.weight"), *const y = row_named(b, "blk.1.ffn_down.weight");
        expect_identical(test_path("turned/a.gguf"), test_path("turned/b.gguf"), 28);
        assert_true(fabs(json_number_value(at(x, "error")) - json_number_value(at(y, "error"))) < 1e-12);
        assert_int_equal(json_integer_value(at(x, "zeros")), json_integer_value(at(y, "zeros")));
        json_decref(a);
        json_decref(b);
    }
}

static void a_report_writes_nothing_and_tells_what_a_run_tells(void **state)
{
    (void)state;
    static const char options[] = "--pattern 4:8 --method wanda --imatrix " IMATRIX;
    json_t *const done = pruned(MODEL, "told/m.gguf", options);
    json_t *const told = report_of(prune((const char *const[]){ MODEL, "--report", "--json", NULL }, options), 0);
    assert_true(json_equal(at(done, "tensors"), at(told, "tensors")));
    assert_string_equal(text_of(done, "output"), test_path("told/m.gguf"));
    assert_true(json_is_true(at(done, "verified")) && json_is_false(at(told, "verified")));
    assert_true(json_is_null(json_object_get(told, "output")));
    json_t *const dry = pruned(MODEL, "told/dry.gguf", "--sparsity 0.5 --dry-run");
    assert_int_equal(json_array_size(at(dry, "tensors")), 14);
    assert_int_equal(files_in("told"), 1);
    json_decref(done);
    json_decref(told);
    json_decref(dry);
}

/* A Q8_0 of 0 is 0, so what goes stays away; but other values of its block move. */
static void blocks_are_widened_or_made_again_when_that_is_asked_for(void **state)
{
    (void)state;
    static const struct { const char *options, *dtype; } row[] = { { "--type f16", "F16" }, { "--allow-requantize", "Q8_0" } };
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        char options[128];
        snprintf(options, sizeof options, "--pattern 1:4 --force %s", row[i].options);
        json_t *const report = pruned("fixtures/qwen2-q8_0.gguf", "blocks.gguf", options);
        struct apr_model *const m = test_opened(test_path("blocks.gguf"));
        const struct apr_tensor *const t = apr_model_find(m, apr_text("blk.1.ffn_up.weight"));
        float x[APR_STRETCH];
        size_t zeros = 0;
        assert_string_equal(t->dtype->name, row[i].dtype);
        apr_read_floats(test_run_with(1)->kernels, t, 0, APR_STRETCH, x);
        for (size_t k = 0; k < APR_STRETCH; k++)
            zeros += x[k] == 0;
        assert_true(zeros >= APR_STRETCH / 4 * 3);
        json_decref(report);
        apr_close(m);
    }
}

static void stacks_of_experts_are_pruned_by_what_comes_in_at_each(void **state)
{
    (void)state;
    static const char options[] = "--sparsity 0.5 --scope row";
    json_decref(pruned("fixtures/forward/qwen2moe", "moe/a.gguf", options));
    json_decref(pruned(converted("fixtures/forward/qwen2moe", "moe/whole.gguf", NULL), "moe/b.gguf", options));
    struct apr_model *const m = test_opened(test_path("moe/b.gguf")), *const whole = test_opened(test_path("moe/whole.gguf"));
    expect_identical(test_path("moe/a.gguf"), test_path("moe/b.gguf"), m->ntensor);
    const struct apr_bytes router = apr_text("blk.0.ffn_gate_inp.weight");
    assert_true(apr_bytes_equal(apr_model_find(m, router)->data, apr_model_find(whole, router)->data));
    apr_close(m);
    apr_close(whole);
}

/* ---- layers --------------------------------------------------------------------------------------------------------- */

static uint64_t layers_of(const struct apr_model *m, const char *prefix)
{
    uint64_t n = 0;
    for (size_t i = 0; i < m->ntensor; i++) {
        const char *const name = (const char *)m->tensor[i].name.at;
        if (m->tensor[i].name.n > strlen(prefix) && memcmp(name, prefix, strlen(prefix)) == 0) {
            const uint64_t layer = strtoul(name + strlen(prefix), NULL, 10);
            n = layer + 1 > n ? layer + 1 : n;
        }
    }
    return n;
}

static void the_layers_that_stay_are_renumbered_and_stay_what_they_are(void **state)
{
    (void)state;
    static const char *const targets[] = { "short/", "short.gguf", "short.apr", "short.safetensors" };
    for (size_t i = 0; i < APR_LENGTH(targets); i++)
        json_decref(pruned(DEEP, targets[i], "--drop-layers 1..3"));
    expect_key(test_path("short.gguf"), "llama.block_count", "4");
    expect_key(test_path("short.apr"), "num_layers", "4");
    struct test_bytes config = test_load(test_path("short/config.json"));
    test_put(&config, "", 1);
    assert_true(test_says(&config, "\"num_hidden_layers\": 4"));
    test_free(&config);
    struct apr_model *const a = test_opened(DEEP), *const b = test_opened(test_path("short"));
    static const unsigned from[] = { 0, 3, 4, 5 };
    assert_int_equal(layers_of(b, "model.layers."), 4);
    for (unsigned i = 0; i < 4; i++) {
        char old[64], now[64];
        snprintf(old, sizeof old, "model.layers.%u.mlp.up_proj.weight", from[i]);
        snprintf(now, sizeof now, "model.layers.%u.mlp.up_proj.weight", i);
        assert_true(apr_bytes_equal(apr_model_find(a, apr_text(old))->data, apr_model_find(b, apr_text(now))->data));
    }
    apr_close(a);
    apr_close(b);
}

static void expect_sound(const char *model)
{
    struct test_answer a = test_tool("apr-inspect", "--check", model, NULL);
    if (a.exit != 0)
        fail_msg("%s: %s", model, (const char *)a.out.at);
    test_answer_free(&a);
}

static void layers_go_from_every_format_alike(void **state)
{
    (void)state;
    static const char *const in[] = { "deep.gguf", "deep.apr", "again.apr" };
    json_decref(pruned(DEEP, "want.gguf", "--drop-layers 2..5"));
    converted(converted(DEEP, in[0], NULL), in[2], NULL);
    converted(DEEP, in[1], NULL);
    for (size_t i = 0; i < APR_LENGTH(in); i++) {
        json_decref(pruned(test_path(in[i]), "got.gguf", "--drop-layers 2..5 --force"));
        expect_identical(test_path("want.gguf"), test_path("got.gguf"), 30);
        expect_key(test_path("got.gguf"), "llama.block_count", "3");
        json_decref(pruned(test_path(in[i]), "got.apr", "--drop-layers 2..5 --force"));
        expect_sound(test_path("got.apr"));
        expect_identical(test_path("want.gguf"), CONVERTED(test_path("got.apr"), "back.gguf", "--force"), 30);
    }
}

/* fixtures/deep/influence.txt: transformers, in double precision. */
static void the_layers_that_change_least_go(void **state)
{
    (void)state;
    json_t *const report = pruned(DEEP, "least/", "--drop-count 2 --by influence --tokens-file " DEEP "/tokens.txt");
    struct test_bytes text = test_load(DEEP "/influence.txt");
    test_put(&text, "", 1);
    char *at_text = (char *)text.at;
    for (size_t i = 0; i < 6; i++) {
        const double want = strtod(at_text, &at_text);
        const json_t *const got = json_array_get(at(report, "influence"), i);
        if (isnan(want) ? !json_is_null(got) : fabs(json_number_value(got) - want) > 1e-6)
            fail_msg("layer %zu: %.9g, not %.9g", i, json_number_value(got), want);
    }
    assert_int_equal(json_array_size(at(report, "layers_dropped")), 2);
    assert_int_equal(json_integer_value(json_array_get(at(report, "layers_dropped"), 0)), 2);
    assert_int_equal(json_integer_value(json_array_get(at(report, "layers_dropped"), 1)), 4);
    test_free(&text);
    json_decref(report);
}

/* Of Gemma 2 every second layer sees a window, which in a GGUF its number tells; of DeepSeek the first are dense, which a key counts. */
static void a_layer_that_would_be_of_another_kind_is_named(void **state)
{
    (void)state;
    text_file("kind/x", "");
    converted("fixtures/forward/gemma2", "gemma2.gguf", NULL);
    struct test_answer a = prune((const char *const[]){ test_path("gemma2.gguf"), test_path("kind/m.gguf"), NULL }, "--drop-layers 0..1");
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "layer 1 would become layer 0") && test_says(&a.err, "window"));
    assert_int_equal(files_in("kind"), 1);
    test_answer_free(&a);
    json_decref(pruned("fixtures/forward/gemma2", "gemma2/", "--drop-layers 0..1")); /* layer_types follow, but not into a GGUF */
    a = prune((const char *const[]){ "fixtures/forward/gemma2", test_path("kind/m.gguf"), NULL }, "--drop-layers 0..1");
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "layer 0 would be of another kind in a GGUF"));
    assert_int_equal(files_in("kind"), 1);
    test_answer_free(&a);
    json_decref(pruned("fixtures/forward/deepseek3", "deepseek/", "--drop-layers 0..1"));
    struct test_bytes config = test_load(test_path("deepseek/config.json"));
    test_put(&config, "", 1);
    assert_true(test_says(&config, "\"first_k_dense_replace\": 0") && test_says(&config, "\"num_hidden_layers\": 1"));
    test_free(&config);
}

/* ---- codes ---------------------------------------------------------------------------------------------------------- */

#define MOST_TENSORS 96

/* fixtures/deep, whose mlp.up_proj are codes of FP8 with a scale beside them, and with a tensor in each layer that no family knows. */
static const char *packed_deep(void)
{
    static struct test_tensor t[MOST_TENSORS];
    static char names[MOST_TENSORS][64], shapes[MOST_TENSORS][32];
    static unsigned char codes[6][32 * 16];
    static float scales[6], marks[6];
    struct apr_model *const m = test_opened(DEEP);
    size_t n = 0;
    for (size_t i = 0; i < m->ntensor; i++, n++) {
        const struct apr_tensor *const x = &m->tensor[i];
        snprintf(names[n], sizeof names[n], "%.*s", APR_PRINTED(x->name));
        snprintf(shapes[n], sizeof shapes[n], x->ndim == 2 ? "[%u,%u]" : "[%u]", (unsigned)x->dim[0], (unsigned)x->dim[1]);
        t[n] = (struct test_tensor){ names[n], "BF16", shapes[n], x->data.at, x->data.n };
        unsigned layer;
        if (strstr(names[n], "up_proj") == NULL || sscanf(names[n], "model.layers.%u.", &layer) != 1)
            continue;
        for (size_t k = 0; k < sizeof codes[layer]; k++)
            codes[layer][k] = (unsigned char)((k * 37 + layer * 11) % 0x70 + (k % 3 == 0 ? 0x80 : 0));
        scales[layer] = (float)(layer + 1) / 4;
        marks[layer] = (float)layer;
        t[n].dtype = "F8_E4M3";
        t[n].data = codes[layer];
        t[n].n = sizeof codes[layer];
        snprintf(names[n + 1], sizeof names[n + 1], "model.layers.%u.mlp.up_proj.weight_scale_inv", layer);
        snprintf(names[n + 2], sizeof names[n + 2], "model.layers.%u.mlp.mark", layer);
        t[n + 1] = (struct test_tensor){ names[n + 1], "F32", "[1,1]", &scales[layer], sizeof scales[layer] };
        t[n + 2] = (struct test_tensor){ names[n + 2], "F32", "[1]", &marks[layer], sizeof marks[layer] };
        n += 2;
    }
    struct test_bytes config = test_load(DEEP "/config.json");
    test_put(&config, "", 1);
    struct test_bytes said = { 0 };
    test_text(&said, "{\"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [128, 128]},");
    test_text(&said, (const char *)config.at + 1);
    test_put(&said, "", 1);
    const char *const folder = test_checkpoint("packed-deep", (const char *)said.at, t, n);
    test_free(&config);
    test_free(&said);
    apr_close(m);
    return folder;
}

static void what_is_of_a_layer_goes_with_it_by_its_name_alone(void **state)
{
    (void)state;
    static const char *const names[] = { "mlp.up_proj.weight", "mlp.up_proj.weight_scale_inv", "mlp.mark", "mlp.down_proj.weight" };
    static const unsigned from[] = { 0, 3, 4, 5 };
    json_decref(pruned(packed_deep(), "packed-short/", "--drop-layers 1..3"));
    struct apr_model *const a = test_opened(test_path("packed-deep")), *const b = test_opened(test_path("packed-short"));
    assert_int_equal(layers_of(b, "model.layers."), 4);
    for (unsigned i = 0; i < 4; i++)
        for (size_t k = 0; k < APR_LENGTH(names); k++) {
            char old[96], now[96];
            snprintf(old, sizeof old, "model.layers.%u.%s", from[i], names[k]);
            snprintf(now, sizeof now, "model.layers.%u.%s", i, names[k]);
            assert_non_null(apr_model_find(b, apr_text(now)));
            assert_true(apr_bytes_equal(apr_model_find(a, apr_text(old))->data, apr_model_find(b, apr_text(now))->data));
        }
    apr_close(a);
    apr_close(b);
}

static void what_is_packed_is_pruned_by_its_values(void **state)
{
    (void)state;
    static const char *const options[] = { "--sparsity 0.4 --scope row --type f32", "--sparsity 0.5 --scope model --type f32",
                                           "--pattern 2:4 --type f32", "--sparsity 0.5 --drop-layers 0..2 --type f32" };
    const char *const packed = packed_deep();
    CONVERTED(packed, "packed-values/", "--type=f32");
    for (size_t i = 0; i < APR_LENGTH(options); i++) {
        char again[128];
        snprintf(again, sizeof again, "%s --force", options[i]);
        json_decref(pruned(test_path("packed-values"), "packed-want/", again));
        json_decref(pruned(packed, "packed-got/", again));
        expect_same_bytes(test_path("packed-want/model.safetensors"), test_path("packed-got/model.safetensors"));
        struct test_bytes config = test_load(test_path("packed-got/config.json"));
        test_put(&config, "", 1);
        assert_false(test_says(&config, "quantization_config"));
        test_free(&config);
    }
    struct test_answer a = prune((const char *const[]){ packed, test_path("packed-not/"), NULL }, "--sparsity 0.5");
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "packed as FP8") && test_says(&a.err, "--type bf16"));
    test_answer_free(&a);
    json_t *const rest = pruned(packed, "packed-rest/", "--sparsity 0.5 --match down_proj"); /* the codes of others go on */
    assert_int_equal(json_array_size(at(rest, "tensors")), 6);
    json_decref(rest);
    struct apr_model *const m = test_opened(test_path("packed-rest"));
    assert_string_equal(apr_model_find(m, apr_text("model.layers.2.mlp.up_proj.weight"))->dtype->name, "F8_E4M3");
    apr_close(m);
}

/* ---- refusals ------------------------------------------------------------------------------------------------------- */

static void what_makes_no_sense_is_refused_by_name_and_nothing_is_left(void **state)
{
    (void)state;
    static const struct { const char *in, *options, *says; } row[] = {
        { MODEL, "", "--sparsity" },
        { MODEL, "--sparsity 0.5 --pattern 2:4", "--pattern" },
        { MODEL, "--sparsity 1.5", "1.5" },
        { MODEL, "--sparsity=-0.1", "-0.1" },
        { MODEL, "--sparsity nan", "nan" },
        { MODEL, "--pattern 5:4", "5:4" },
        { MODEL, "--pattern 4:4", "4:4" },
        { MODEL, "--pattern 0:4", "0:4" },
        { MODEL, "--pattern 2:4:8", "2:4:8" },
        { MODEL, "--pattern 2:18446744073709551620", "2:18446744073709551620" },
        { MODEL, "--pattern 1:5", "1:5" },
        { MODEL, "--pattern 2:4 --scope row", "--scope" },
        { MODEL, "--method wanda --sparsity 0.5", "--imatrix" },
        { MODEL, "--method wanda --sparsity 0.5 --imatrix fixtures/wide.imatrix.gguf", "imatrix" },
        { MODEL, "--sparsity 0.5 --imatrix " MODEL, "qwen2-bf16.gguf" },
        { MODEL, "--method mangitude --sparsity 0.5", "mangitude" },
        { MODEL, "--sparsity 0.5 --match nothing", "nothing" },
        { MODEL, "--sparsity 0.5 --skip nothing", "nothing" },
        { MODEL, "--sparsity 0.5 --match attn_norm", "attn_norm" },
        { MODEL, "--match ffn", "--sparsity" },
        { MODEL, "--sparsity 0.5 --method magnitude --seed 3", "--seed" },
        { MODEL, "--sparsity 0.5 --report --shards 2", "--report" },
        { MODEL, "--drop-layers 0..2", "0..2" },
        { MODEL, "--drop-layers 1..3", "0..2" },
        { MODEL, "--drop-layers 1", "A..B" },
        { MODEL, "--drop-layers 1..1", "1..1" },
        { MODEL, "--drop-count 1 --by influence", "--tokens-file" },
        { MODEL, "--drop-count 1 --tokens-file " DEEP "/tokens.txt", "0 layers between" },
        { DEEP, "--drop-count 5 --tokens-file " DEEP "/tokens.txt", "4 layers between" },
        { DEEP, "--drop-count 1 --tokens-file " DEEP "/config.json", "token id" },
        { "fixtures/qwen2-q8_0.gguf", "--sparsity 0.5", "--allow-requantize" },
        { "fixtures/forward/gpt2", "--pattern 3:7", "3:7" },
        { IMATRIX, "--sparsity 0.5", "importance matrix" },
        { "fixtures/trace", "--sparsity 0.5", "trace" },
    };
    text_file("refused/x", "");
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        struct test_answer a = prune((const char *const[]){ row[i].in, test_path("refused/m.gguf"), NULL }, row[i].options);
        if (a.exit != 2 || !test_says(&a.err, row[i].says) || files_in("refused") != 1)
            fail_msg("%s %s: exit %d, and \"%s\" is to be in: %s", row[i].in, row[i].options, a.exit, row[i].says, (const char *)a.err.at);
        test_answer_free(&a);
    }
}

static void what_is_no_number_is_named_with_its_place(void **state)
{
    (void)state;
    static float x[8 * 32];
    for (size_t i = 0; i < APR_LENGTH(x); i++)
        x[i] = (float)i;
    x[5 * 32 + 7] = NAN;
    const char *const path = test_one("nan.safetensors", "F32", "[8,32]", x, sizeof x);
    struct test_answer a = prune((const char *const[]){ path, test_path("refused/nan.safetensors"), NULL }, "--sparsity 0.5 --match t");
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "row 5, column 7 is NaN"));
    test_answer_free(&a);
    json_t *const cleaned = pruned(path, "cleaned.safetensors", "--sparsity 0.5 --match t --nan-to-zero --scope row");
    assert_int_equal(json_integer_value(at(cleaned, "tensors.0.zeros")), 8 * 16);
    json_decref(cleaned);
    x[5 * 32 + 7] = INFINITY;
    json_decref(pruned(test_one("inf.safetensors", "F32", "[8,32]", x, sizeof x), "inf.out.safetensors", "--sparsity 0.5 --match t"));
}

/* Of two matrices of one row, the first input of which is always 0. */
static void what_is_infinite_goes_where_nothing_comes_in(void **state)
{
    (void)state;
    static const float x[8] = { INFINITY, 1, 2, 3, 4, 5, 6, -INFINITY }, sums[4] = { 0, 1, 1, 1 };
    static const char *const options[] = { "--scope row", "--scope tensor" };
    struct test_bytes dat = { 0 };
    test_integer(&dat, 1, 4);
    test_integer(&dat, 19, 4);
    test_text(&dat, "blk.0.ffn_up.weight");
    test_integer(&dat, 1, 4);
    test_integer(&dat, 4, 4);
    test_floats(&dat, sums, 4);
    const char *const imatrix = test_file("zero.dat", dat.at, dat.n);
    const struct test_tensor t = { "model.layers.0.mlp.up_proj.weight", "F32", "[2,4]", x, sizeof x };
    const char *const path = test_safetensors("infinite.safetensors", &t, 1);
    for (size_t i = 0; i < APR_LENGTH(options); i++) {
        char line[256];
        snprintf(line, sizeof line, "--method wanda --sparsity 0.25 --match * --family llama --force --imatrix %s %s", imatrix, options[i]);
        json_decref(pruned(path, "infinite.out.safetensors", line));
        struct apr_model *const m = test_opened(test_path("infinite.out.safetensors"));
        const float want[8] = { 0, 1, 2, 3, 0, 5, 6, -INFINITY };
        assert_memory_equal(m->tensor[0].data.at, want, sizeof want);
        apr_close(m);
    }
    test_free(&dat);
}

/* Of doubles the lowest go that are the lowest as floats: of 1 and 1 + 2^-40 the first. What stays is the double. */
static void doubles_stay_doubles(void **state)
{
    (void)state;
    static const double x[8] = { 3, 1, 1 + 0x1p-40, -4, 5, 0.2, -0.3, 0.1 }, want[8] = { 3, 0, 1 + 0x1p-40, -4, 5, 0, 0, 0 };
    const char *const path = test_one("doubles.safetensors", "F64", "[2,4]", x, sizeof x);
    json_decref(pruned(path, "doubles.out.safetensors", "--sparsity 0.5 --match t"));
    struct apr_model *const m = test_opened(test_path("doubles.out.safetensors"));
    assert_string_equal(m->tensor[0].dtype->name, "F64");
    assert_memory_equal(m->tensor[0].data.at, want, sizeof want);
    apr_close(m);
}

static void nothing_is_written_onto_what_is_read(void **state)
{
    (void)state;
    const char *const model = copy_of(MODEL, "own/m.gguf"), *const imatrix = copy_of(IMATRIX, "own/i.gguf");
    const struct { const char *out, *options; } row[] = { { model, "--sparsity 0.5 --force" }, { imatrix, "--sparsity 0.5 --force" },
                                                          { imatrix, "--sparsity 0.5" } };
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        struct test_answer a = prune((const char *const[]){ model, row[i].out, "--imatrix", imatrix, NULL }, row[i].options);
        assert_int_equal(a.exit, 2);
        test_answer_free(&a);
    }
    expect_same_bytes(MODEL, model);
    expect_same_bytes(IMATRIX, imatrix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_numpy_prunes_is_pruned),
        cmocka_unit_test(what_is_not_pruned_stays_bit_for_bit),
        cmocka_unit_test(the_same_bytes_come_of_any_threads_and_any_instructions),
        cmocka_unit_test(a_checkpoint_and_its_gguf_lose_the_same),
        cmocka_unit_test(a_matrix_that_is_stored_the_other_way_round_loses_the_same),
        cmocka_unit_test(a_report_writes_nothing_and_tells_what_a_run_tells),
        cmocka_unit_test(blocks_are_widened_or_made_again_when_that_is_asked_for),
        cmocka_unit_test(stacks_of_experts_are_pruned_by_what_comes_in_at_each),
        cmocka_unit_test(the_layers_that_stay_are_renumbered_and_stay_what_they_are),
        cmocka_unit_test(layers_go_from_every_format_alike),
        cmocka_unit_test(the_layers_that_change_least_go),
        cmocka_unit_test(a_layer_that_would_be_of_another_kind_is_named),
        cmocka_unit_test(what_is_of_a_layer_goes_with_it_by_its_name_alone),
        cmocka_unit_test(what_is_packed_is_pruned_by_its_values),
        cmocka_unit_test(what_makes_no_sense_is_refused_by_name_and_nothing_is_left),
        cmocka_unit_test(what_is_no_number_is_named_with_its_place),
        cmocka_unit_test(what_is_infinite_goes_where_nothing_comes_in),
        cmocka_unit_test(doubles_stay_doubles),
        cmocka_unit_test(nothing_is_written_onto_what_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
