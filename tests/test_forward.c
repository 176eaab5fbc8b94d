/* lib/forward/forward.h: stages are those of transformers (fixtures/forward.py); their bytes depend on the model and the tokens alone. */
#include "support.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/cpu.h"
#include "forward/forward.h"
#include "model/model.h"
#include "model/open.h"
#include "values/kernels.h"

/* ---- models ---------------------------------------------------------------------------------------------------------- */

struct opened {
    struct apr_model    *m;
    struct apr_families *all;
    struct apr_binding  *b;
    struct apr_net      *net;
    struct apr_team     *team;
};

static void expect_ok(enum apr_code code, const struct apr_error *e)
{
    if (code != APR_OK)
        fail_msg("%s", e->text);
}

static struct opened open_with(const char *path, unsigned threads, enum apr_isa isa)
{
    struct opened o = { 0 };
    struct apr_error e;
    const struct apr_family *f;
    const struct apr_run r = { .threads = threads, .kernels = apr_kernels_for(isa), .tmpdir = "/tmp" };
    expect_ok(apr_open(&o.m, path, &r, &e), &e);
    expect_ok(apr_families_new(&o.all, &e), &e);
    expect_ok(apr_family_said(o.all, o.m, &f, &e), &e);
    assert_non_null(f);
    expect_ok(apr_bind(&o.b, f, o.m, NULL, &e), &e);
    expect_ok(apr_net_new(&o.net, r.kernels, o.m, o.b, &e), &e);
    expect_ok(apr_team_new(&o.team, threads, &e), &e);
    return o;
}

static struct opened open_model(const char *path) { return open_with(path, 1, APR_SCALAR); }

static void close_model(struct opened *o)
{
    apr_team_free(o->team);
    apr_net_free(o->net);
    apr_binding_free(o->b);
    apr_families_free(o->all);
    apr_close(o->m);
}

static const uint32_t tokens[] = { 3, 17, 29, 4, 4, 11, 23, 8, 30, 2, 19, 5 };
#define NTOKEN APR_LENGTH(tokens)

static const char *const decoders[] = {
    "fixtures/qwen2", "fixtures/forward/gemma2", "fixtures/forward/gpt2", "fixtures/forward/phi2", "fixtures/forward/phi3",
    "fixtures/forward/qwen2moe", "fixtures/forward/olmo2", "fixtures/forward/deepseek3",
};
#define BERT "fixtures/forward/bert"

/* ---- traces ---------------------------------------------------------------------------------------------------------- */

/* Stages as they come, their values side by side. rows: those that products had, of experts and of others. */
#define MOST_STAGES 64
struct trace {
    struct told {
        uint32_t layer;
        unsigned stage, ndim;
        uint64_t dim[3];
        size_t   at, n;
    }                 told[MOST_STAGES];
    size_t            ntold, expert_rows, other_rows;
    struct test_bytes values, logits;
    unsigned          only; /* this stage, or all: APR_NSTAGES */
};

static bool wants(void *ctx, uint32_t layer, unsigned stage)
{
    const struct trace *const t = ctx;
    (void)layer;
    return t->only == APR_NSTAGES || t->only == stage;
}

static enum apr_code see(void *ctx, const struct apr_stage_values *s, struct apr_error *e)
{
    struct trace *const t = ctx;
    (void)e;
    if (t->ntold == MOST_STAGES)
        return APR_ELIMIT;
    struct told *const to = &t->told[t->ntold++];
    *to = (struct told){ s->layer, s->stage, s->ndim, { s->dim[0], s->dim[1], s->dim[2] }, t->values.n / sizeof(float), 1 };
    for (unsigned i = 0; i < s->ndim; i++)
        to->n *= s->dim[i];
    test_floats(&t->values, s->values, to->n);
    return APR_OK;
}

static enum apr_code count(void *ctx, const struct apr_matrix *w, const float *x, size_t n, struct apr_error *e)
{
    struct trace *const t = ctx;
    (void)x;
    (void)e;
    *(strstr((const char *)w->role->name.at, "_exps") != NULL ? &t->expert_rows : &t->other_rows) += n;
    return APR_OK;
}

/* All tokens in runs of `step`, logits of each position. */
static struct trace trace_in_steps(const struct opened *o, size_t step, unsigned only)
{
    struct trace t = { .only = only };
    const struct apr_observer observer = { &t, wants, see, count };
    struct apr_sequence *s;
    struct apr_error e;
    float *const logits = calloc(NTOKEN * (o->net->vocab + 1), sizeof *logits);
    assert_non_null(logits);
    expect_ok(apr_sequence_new(&s, o->net, o->team, NTOKEN, &e), &e);
    for (size_t i = 0; i < NTOKEN; i += step) {
        const size_t n = NTOKEN - i < step ? NTOKEN - i : step;
        expect_ok(apr_sequence_run(s, tokens + i, n, &observer, &e), &e);
        if (o->net->head.w.in == NULL)
            continue;
        expect_ok(apr_sequence_logits(s, 0, n, NULL, logits, &e), &e);
        test_floats(&t.logits, logits, n * o->net->vocab);
    }
    free(logits);
    apr_sequence_free(s);
    return t;
}

static struct trace trace_all(const struct opened *o) { return trace_in_steps(o, NTOKEN, APR_NSTAGES); }

static void free_trace(struct trace *t)
{
    test_free(&t->values);
    test_free(&t->logits);
}

static const float *values_of(const struct trace *t, const struct told *told)
{
    return (const float *)(const void *)t->values.at + told->at;
}

/* The values of a stage; *n of them. NULL when it was not told. */
static const float *stage_of(const struct trace *t, struct apr_bytes name, size_t *n)
{
    uint32_t layer;
    struct apr_bytes stage;
    apr_stage_split(name, &layer, &stage);
    if (apr_stage_rank(stage) == APR_STAGE_LM_HEAD) {
        *n = t->logits.n / sizeof(float);
        return (const float *)(const void *)t->logits.at;
    }
    for (size_t i = 0; i < t->ntold; i++)
        if (t->told[i].layer == layer && t->told[i].stage == apr_stage_rank(stage)) {
            *n = t->told[i].n;
            return values_of(t, &t->told[i]);
        }
    return NULL;
}

/* ---- what is computed ------------------------------------------------------------------------------------------------ */

static void stage_is_near(const char *model, const struct trace *t, const struct apr_tensor *want)
{
    size_t n = 0;
    const float *const got = stage_of(t, want->name, &n);
    double most = 0, far = 0;
    if (got == NULL || n != want->count)
        fail_msg("%s: %.*s has %zu values, not %" PRIu64, model, (int)want->name.n, (const char *)want->name.at, n, want->count);
    for (size_t i = 0; i < n; i++) {
        float x;
        memcpy(&x, want->data.at + i * sizeof x, sizeof x);
        most = fmax(most, fabs((double)x));
        far = fmax(far, fabs((double)x - got[i]));
    }
    if (!(far <= 4e-6 * most))
        fail_msg("%s: %.*s is off by %g of %g", model, (int)want->name.n, (const char *)want->name.at, far, most);
}

static void every_stage_is_that_of_transformers(void **state)
{
    (void)state;
    static const struct {
        const char *model, *activations;
    } rows[] = {
        { "fixtures/qwen2", "fixtures/forward/qwen2.safetensors" },
        { "fixtures/qwen2-bf16.gguf", "fixtures/forward/qwen2.safetensors" },
        { "fixtures/qwen2.apr", "fixtures/forward/qwen2.safetensors" },
        { "fixtures/forward/gemma2", "fixtures/forward/gemma2/activations.safetensors" },
        { "fixtures/forward/gpt2", "fixtures/forward/gpt2/activations.safetensors" },
        { "fixtures/forward/phi2", "fixtures/forward/phi2/activations.safetensors" },
        { "fixtures/forward/phi3", "fixtures/forward/phi3/activations.safetensors" },
        { "fixtures/forward/qwen2moe", "fixtures/forward/qwen2moe/activations.safetensors" },
        { "fixtures/forward/olmo2", "fixtures/forward/olmo2/activations.safetensors" },
        { "fixtures/forward/deepseek3", "fixtures/forward/deepseek3/activations.safetensors" },
        { BERT, BERT "/activations.safetensors" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct opened o = open_model(rows[i].model);
        struct apr_model *want;
        struct apr_error e;
        expect_ok(apr_open_alone(&want, rows[i].activations, test_run_with(1), &e), &e);
        struct trace t = trace_all(&o);
        for (size_t k = 0; k < want->ntensor; k++)
            if (!apr_bytes_is(want->tensor[k].name, "input_ids"))
                stage_is_near(rows[i].model, &t, &want->tensor[k]);
        free_trace(&t);
        apr_close(want);
        close_model(&o);
    }
}

/* Those of layer 1. */
static void a_family_has_its_own_stages_in_computation_order(void **state)
{
    (void)state;
    static const struct {
        const char *model, *stages;
    } rows[] = {
        { "fixtures/qwen2", "attn_norm qkv_matmul qkv_bias q_post_rope k_post_rope attn_scores attn_softmax attention attn_out "
                            "post_attn_residual ffn_norm ffn_gate ffn_up ffn_silu ffn_swigl ffn_out post_ffn_residual " },
        { "fixtures/forward/gpt2", "attn_norm qkv_matmul qkv_bias attn_scores attn_softmax attention attn_out post_attn_residual ffn_norm "
                                   "ffn_up ffn_silu ffn_out post_ffn_residual " },
        { "fixtures/forward/phi2", "attn_norm qkv_matmul qkv_bias q_post_rope k_post_rope attn_scores attn_softmax attention attn_out "
                                   "ffn_up ffn_silu ffn_out post_ffn_residual " },
        { "fixtures/forward/qwen2moe", "attn_norm qkv_matmul qkv_bias q_post_rope k_post_rope attn_scores attn_softmax attention attn_out "
                                       "post_attn_residual ffn_norm moe_router moe_router_indices moe_ffn_out ffn_out post_ffn_residual " },
        { "fixtures/forward/olmo2", "qkv_matmul q_post_rope k_post_rope attn_scores attn_softmax attention attn_out post_attn_residual "
                                    "ffn_gate ffn_up ffn_silu ffn_swigl ffn_out post_ffn_residual " },
        { BERT, "qkv_matmul qkv_bias attn_scores attn_softmax attention attn_out post_attn_residual ffn_norm ffn_up ffn_silu ffn_out "
                "post_ffn_residual " },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct opened o = open_model(rows[i].model);
        struct trace t = trace_all(&o);
        char stages[1024] = "";
        for (size_t k = 0; k < t.ntold; k++)
            if (t.told[k].layer == 1) {
                strcat(stages, apr_stage_name(t.told[k].stage));
                strcat(stages, " ");
            }
        assert_string_equal(stages, rows[i].stages);
        assert_int_equal(t.told[0].stage, APR_STAGE_EMBEDDING);
        for (size_t k = 1; k < t.ntold; k++)
            assert_true(t.told[k].layer > t.told[k - 1].layer ||
                        (t.told[k].layer == t.told[k - 1].layer && t.told[k].stage > t.told[k - 1].stage));
        free_trace(&t);
        close_model(&o);
    }
}

/* Gemma 2: five positions in layer 0, all in layer 1. */
static void what_a_position_does_not_see_scores_and_weighs_nothing(void **state)
{
    (void)state;
    struct opened o = open_model("fixtures/forward/gemma2");
    struct trace t = trace_all(&o);
    for (size_t k = 0; k < t.ntold; k++) {
        const struct told *const s = &t.told[k];
        if (s->stage != APR_STAGE_ATTN_SCORES && s->stage != APR_STAGE_ATTN_SOFTMAX)
            continue;
        assert_true(s->ndim == 3 && s->dim[0] == 4 && s->dim[1] == NTOKEN && s->dim[2] == NTOKEN);
        const float *x = values_of(&t, s);
        for (size_t row = 0; row < s->dim[0] * NTOKEN; row++, x += NTOKEN) {
            double sum = 0;
            for (size_t j = 0, p = row % NTOKEN; j < NTOKEN; j++) {
                const bool seen = j <= p && (s->layer == 1 || p - j < 5);
                assert_true(seen == (x[j] != 0));
                sum += x[j];
            }
            assert_true(s->stage == APR_STAGE_ATTN_SCORES || fabs(sum - 1) < 1e-6);
        }
    }
    free_trace(&t);
    close_model(&o);
}

static void an_observer_sees_what_each_matrix_multiplies(void **state)
{
    (void)state;
    struct opened o = open_model("fixtures/forward/qwen2moe");
    struct trace t = trace_all(&o);
    /* Two experts of three matrices a position; q, k, v, o, the router, the shared expert's three and its gate. */
    assert_int_equal(t.expert_rows, 2 * NTOKEN * 2 * 3);
    assert_int_equal(t.other_rows, 2 * NTOKEN * 9);
    free_trace(&t);
    t = trace_in_steps(&o, NTOKEN, APR_STAGE_FFN_NORM);
    assert_int_equal(t.ntold, 2);
    free_trace(&t);
    close_model(&o);
}

/* ---- the same bytes -------------------------------------------------------------------------------------------------- */

static void same_bytes(const char *what, const struct test_bytes *a, const struct test_bytes *b)
{
    if (a->n != b->n || (a->n > 0 && memcmp(a->at, b->at, a->n) != 0))
        fail_msg("%s: other bytes", what);
}

static void tokens_one_by_one_give_the_bytes_of_a_run_of_all(void **state)
{
    (void)state;
    static const size_t steps[] = { 1, 5, NTOKEN - 1 };
    for (size_t i = 0; i < APR_LENGTH(decoders); i++) {
        struct opened o = open_model(decoders[i]);
        struct trace whole = trace_in_steps(&o, NTOKEN, APR_STAGE_FINAL_NORM);
        const bool lengthens = o.net->layer[0].rope.long_freq != NULL;
        for (size_t k = 0; k < APR_LENGTH(steps); k++) {
            struct trace t = trace_in_steps(&o, steps[k], APR_STAGE_FINAL_NORM);
            /* Where heads turn otherwise in a long text, what was told of its first tokens was told of a short one. */
            const size_t skip = lengthens ? (NTOKEN - 1) * o.net->vocab * sizeof(float) : 0;
            assert_int_equal(t.logits.n, whole.logits.n);
            if (memcmp(t.logits.at + skip, whole.logits.at + skip, whole.logits.n - skip) != 0)
                fail_msg("%s: other logits in steps of %zu", decoders[i], steps[k]);
            if (!lengthens)
                same_bytes(decoders[i], &t.values, &whole.values);
            free_trace(&t);
        }
        free_trace(&whole);
        close_model(&o);
    }
}

static void a_cleared_sequence_begins_anew(void **state)
{
    (void)state;
    struct opened o = open_model("fixtures/forward/phi3");
    struct apr_sequence *s;
    struct apr_error e;
    float first[32], again[32];
    expect_ok(apr_sequence_new(&s, o.net, o.team, NTOKEN, &e), &e);
    expect_ok(apr_sequence_run(s, tokens, 4, NULL, &e), &e);
    expect_ok(apr_sequence_logits(s, 3, 1, NULL, first, &e), &e);
    expect_ok(apr_sequence_run(s, tokens + 4, NTOKEN - 4, NULL, &e), &e);
    apr_sequence_clear(s);
    expect_ok(apr_sequence_run(s, tokens, 4, NULL, &e), &e);
    expect_ok(apr_sequence_logits(s, 3, 1, NULL, again, &e), &e);
    assert_memory_equal(first, again, sizeof first);
    apr_sequence_free(s);
    close_model(&o);
}

static void threads_and_isa_change_no_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i <= APR_LENGTH(decoders); i++) {
        const char *const path = i < APR_LENGTH(decoders) ? decoders[i] : BERT;
        struct opened o = open_model(path);
        struct trace one = trace_all(&o);
        close_model(&o);
        for (unsigned isa = 0; isa < APR_NISA; isa++)
            for (unsigned threads = 1; threads <= 3 && apr_isa_has((enum apr_isa)isa); threads++) {
                o = open_with(path, threads, (enum apr_isa)isa);
                struct trace t = trace_all(&o);
                same_bytes(path, &t.values, &one.values);
                same_bytes(path, &t.logits, &one.logits);
                free_trace(&t);
                close_model(&o);
            }
        free_trace(&one);
    }
}

/* GPT-2 with an infinite embedding of position 5: what comes before is what it was, what comes after is the one NaN. */
static void a_value_that_is_no_number_is_not_seen_before_its_position(void **state)
{
    (void)state;
    struct opened o = open_model("fixtures/forward/gpt2");
    struct test_bytes file = test_load("fixtures/forward/gpt2/model.safetensors"), config = test_load("fixtures/forward/gpt2/config.json");
    const struct apr_tensor *const wpe = apr_model_find(o.m, apr_text("transformer.wpe.weight"));
    const float infinite = INFINITY, quiet = NAN;
    assert_non_null(wpe);
    memcpy(file.at + apr_tensor_offset(o.m, wpe) + (5 * wpe->dim[1] + 3) * sizeof infinite, &infinite, sizeof infinite);
    test_file("wild/config.json", config.at, config.n);
    test_file("wild/model.safetensors", file.at, file.n);
    struct opened wild = open_model(test_path("wild"));
    struct trace a = trace_all(&o), b = trace_all(&wild);
    const size_t row = (size_t)o.net->vocab * sizeof(float);
    assert_memory_equal(a.logits.at, b.logits.at, 5 * row);
    for (size_t i = 5 * row; i < b.logits.n; i += sizeof quiet)
        assert_memory_equal(b.logits.at + i, &quiet, sizeof quiet);
    free_trace(&a);
    free_trace(&b);
    test_free(&file);
    test_free(&config);
    close_model(&o);
    close_model(&wild);
}

/* ---- what is refused ------------------------------------------------------------------------------------------------- */

static void what_makes_no_sense_is_refused_with_its_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *model;
        uint64_t    room;
        size_t      before, n;
        uint32_t    id;
        const char *words;
    } rows[] = {
        { "fixtures/qwen2", 9, 0, 2, 96, "token 96 at position 1 is none of the vocabulary's 96" },
        { "fixtures/qwen2", 9, 3, 2, UINT32_MAX, "token 4294967295 at position 4 is none of the vocabulary's 96" },
        { "fixtures/qwen2", 9, 0, 0, 0, "no token" },
        { "fixtures/qwen2", 9, 4, 6, 1, "6 tokens behind 4 are more than the 9 that there is room for" },
        { "fixtures/forward/gpt2", 99, 0, 17, 1, "17 tokens behind 0 are more than the model's 16 positions" },
        { BERT, 9, 4, 1, 1, "1 tokens cannot follow 4" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct opened o = open_model(rows[i].model);
        struct apr_sequence *s;
        struct apr_error e;
        uint32_t id[20] = { 0 };
        expect_ok(apr_sequence_new(&s, o.net, o.team, rows[i].room, &e), &e);
        if (rows[i].before > 0)
            expect_ok(apr_sequence_run(s, id, rows[i].before, NULL, &e), &e);
        if (rows[i].n > 0)
            id[rows[i].n - 1] = rows[i].id;
        assert_int_equal(apr_sequence_run(s, id, rows[i].n, NULL, &e), APR_EARG);
        if (strstr(e.text, rows[i].words) == NULL)
            fail_msg("%s: \"%s\" does not say \"%s\"", rows[i].model, e.text, rows[i].words);
        apr_sequence_free(s);
        close_model(&o);
    }
}

static void logits_are_those_of_a_head_and_of_rows_that_were_run(void **state)
{
    (void)state;
    struct opened o = open_model("fixtures/qwen2"), bert = open_model(BERT);
    struct apr_sequence *s;
    struct apr_error e;
    float y[96], x[64];
    expect_ok(apr_sequence_new(&s, o.net, o.team, 4, &e), &e);
    expect_ok(apr_sequence_run(s, tokens, 3, NULL, &e), &e);
    assert_int_equal(apr_sequence_logits(s, 3, 1, NULL, y, &e), APR_EARG);
    assert_int_equal(apr_sequence_logits(s, 1, UINT64_MAX, NULL, y, &e), APR_EARG);
    assert_int_equal(apr_sequence_features(s, x, 1, &e), APR_EARG);
    apr_sequence_free(s);
    expect_ok(apr_sequence_new(&s, bert.net, bert.team, 4, &e), &e);
    expect_ok(apr_sequence_run(s, tokens, 3, NULL, &e), &e);
    assert_int_equal(apr_sequence_logits(s, 0, 1, NULL, y, &e), APR_EARG);
    assert_non_null(strstr(e.text, "no head"));
    apr_sequence_free(s);
    close_model(&o);
    close_model(&bert);
}

static void a_room_without_end_is_no_memory(void **state)
{
    (void)state;
    struct opened o = open_model("fixtures/qwen2");
    struct apr_sequence *s;
    struct apr_error e;
    assert_int_equal(apr_sequence_new(&s, o.net, o.team, UINT64_MAX, &e), APR_ENOMEM);
    close_model(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_stage_is_that_of_transformers),
        cmocka_unit_test(a_family_has_its_own_stages_in_computation_order),
        cmocka_unit_test(what_a_position_does_not_see_scores_and_weighs_nothing),
        cmocka_unit_test(an_observer_sees_what_each_matrix_multiplies),
        cmocka_unit_test(tokens_one_by_one_give_the_bytes_of_a_run_of_all),
        cmocka_unit_test(a_cleared_sequence_begins_anew),
        cmocka_unit_test(threads_and_isa_change_no_byte),
        cmocka_unit_test(a_value_that_is_no_number_is_not_seen_before_its_position),
        cmocka_unit_test(what_makes_no_sense_is_refused_with_its_numbers),
        cmocka_unit_test(logits_are_those_of_a_head_and_of_rows_that_were_run),
        cmocka_unit_test(a_room_without_end_is_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
