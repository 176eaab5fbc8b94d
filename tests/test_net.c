/* lib/forward/net.h: a model as a forward pass sees it, from any container, and what is wrong with one. Checkpoints are made of what their
 * contract wants of a config.json; the numbers of rotary positions are transformers' (modeling_rope_utils.py of 5.17). */
#include "support.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

#include "bare_model.h"
#include "base/bytes.h"
#include "family/missing.h"
#include "forward/forward.h"
#include "model/open.h"
#include "model/stage.h"

/* ---- memory that runs out --------------------------------------------------------------------------------------------- */

/* Counts down; the allocation that reaches 0 fails. */
static long allocations_left;

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define OWN_MEMORY 0
#else
#define OWN_MEMORY 1
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t n);

static bool fails(void)
{
    if (allocations_left == 0 || --allocations_left > 0)
        return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t n) { return fails() ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t size) { return fails() ? NULL : __libc_calloc(n, size); }
void *realloc(void *old, size_t n) { return fails() ? NULL : __libc_realloc(old, n); }
#endif

/* ---- checkpoints ------------------------------------------------------------------------------------------------------ */

#define SIZES "\"hidden_size\":16,\"intermediate_size\":24,\"num_hidden_layers\":2,\"num_attention_heads\":4,\"num_key_value_heads\":2," \
              "\"vocab_size\":10,\"max_position_embeddings\":32,\"tie_word_embeddings\":false"
#define LLAMA "{\"architectures\":[\"LlamaForCausalLM\"]," SIZES ",\"hidden_act\":\"silu\",\"rms_norm_eps\":1e-5}"
#define BERT "{\"architectures\":[\"BertModel\"],\"model_type\":\"bert\"," SIZES "}"
#define COHERE "{\"architectures\":[\"CohereForCausalLM\"]," SIZES ",\"logit_scale\":0.25}"
#define MIXTRAL "{\"architectures\":[\"MixtralForCausalLM\"]," SIZES ",\"num_local_experts\":3,\"num_experts_per_tok\":2}"

/* What of a checkpoint is not as its contract wants it.
 *   drop  a tensor that it has not; more: one that it has beside the others */
struct flaw {
    const char *drop, *more;
};

/* A checkpoint under way: its header and its data. */
struct checkpoint {
    const struct apr_binding *b;
    const struct flaw        *flaw;
    struct test_bytes         head, data;
};

static void put_tensor(struct checkpoint *c, struct apr_bytes name, const uint64_t *dim, unsigned ndim)
{
    char text[256];
    uint64_t count = 1;
    const size_t from = c->data.n;
    snprintf(text, sizeof text, "%s\"%.*s\":{\"dtype\":\"F32\",\"shape\":[", c->head.n > 1 ? "," : "", APR_PRINTED(name));
    test_text(&c->head, text);
    for (unsigned i = 0; i < ndim; i++, count *= dim[i - 1]) {
        snprintf(text, sizeof text, "%s%llu", i > 0 ? "," : "", (unsigned long long)dim[i]);
        test_text(&c->head, text);
    }
    for (uint64_t i = 0; i < count; i++)
        test_floats(&c->data, &(float){ (float)test_random(4096) / 2048 - 1 }, 1);
    snprintf(text, sizeof text, "],\"data_offsets\":[%zu,%zu]}", from, c->data.n);
    test_text(&c->head, text);
}

static bool put_wanted(void *ctx, const struct apr_meaning *what, struct apr_bytes name)
{
    struct checkpoint *c = ctx;
    uint64_t dim[APR_MAX_DIMS];
    unsigned ndim;
    if (!apr_binding_shape(c->b, what->role, dim, &ndim))
        fail_msg("%.*s has no shape", APR_PRINTED(name));
    if (c->flaw == NULL || c->flaw->drop == NULL || !apr_bytes_is(name, c->flaw->drop))
        put_tensor(c, name, dim, ndim);
    return true;
}

/* All that the family wants of the configuration `wanted`, beside a config.json that says `said`; the folder's path. */
static const char *write_checkpoint(const char *folder, const char *family_name, const char *wanted, const char *said,
                                    const struct flaw *flaw)
{
    struct model m;
    struct apr_binding *b;
    struct apr_error e;
    struct checkpoint c = { .flaw = flaw };
    struct test_bytes file = { 0 };
    char path[256];
    double layers;
    model_begin(&m, "safetensors");
    model_config(&m, wanted);
    if (apr_bind(&b, family(family_name), &m.m, NULL, &e) != APR_OK)
        fail_msg("%s: %s", family_name, e.text);
    c.b = b;
    test_text(&c.head, "{");
    apr_binding_missing(b, APR_HF, apr_binding_number(b, apr_text("N"), &layers) ? (uint64_t)layers : 0, put_wanted, &c);
    if (flaw != NULL && flaw->more != NULL)
        put_tensor(&c, apr_text(flaw->more), (uint64_t[]){ 4 }, 1);
    test_text(&c.head, "}");
    test_integer(&file, c.head.n, 8);
    test_put(&file, c.head.at, c.head.n);
    test_put(&file, c.data.at, c.data.n);
    snprintf(path, sizeof path, "%s/config.json", folder);
    test_file(path, said, strlen(said));
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    test_file(path, file.at, file.n);
    test_free(&c.head);
    test_free(&c.data);
    test_free(&file);
    apr_binding_free(b);
    model_end(&m);
    return test_path(folder);
}

/* ---- nets ------------------------------------------------------------------------------------------------------------- */

struct opened {
    struct apr_model   *m;
    struct apr_binding *b;
    struct apr_net     *n;
};

static enum apr_code try_open(struct opened *o, const char *path, struct apr_error *e)
{
    const struct apr_family *f = NULL, *either[2];
    *o = (struct opened){ 0 };
    if (apr_open(&o->m, path, test_run_with(1), e) != APR_OK || apr_family_said(all, o->m, &f, e) != APR_OK)
        fail_msg("%s: %s", path, e->text);
    if (f == NULL && apr_family_guessed(all, o->m, &f, either, e) != APR_OK)
        fail_msg("%s: %s", path, e->text);
    if (f == NULL || apr_bind(&o->b, f, o->m, NULL, e) != APR_OK)
        fail_msg("%s is bound to no family", path);
    return apr_net_new(&o->n, test_run_with(1)->kernels, o->m, o->b, e);
}

static struct opened open_net(const char *path)
{
    struct opened o;
    struct apr_error e;
    if (try_open(&o, path, &e) != APR_OK)
        fail_msg("%s: %s", path, e.text);
    return o;
}

static void close_net(struct opened *o)
{
    apr_net_free(o->n);
    apr_binding_free(o->b);
    apr_close(o->m);
}

/* ---- the same of two nets --------------------------------------------------------------------------------------------- */

static void same_floats(const char *what, const float *a, const float *b, uint64_t n)
{
    if ((a == NULL) != (b == NULL))
        fail_msg("%s: only one has it", what);
    if (a != NULL && memcmp(a, b, n * sizeof *a) != 0)
        fail_msg("%s: other values", what);
}

static void same_norm(const char *what, const struct apr_norm *a, const struct apr_norm *b)
{
    if (a->weight != NULL && a->n != b->n)
        fail_msg("%s: over %llu and %llu", what, (unsigned long long)a->n, (unsigned long long)b->n);
    same_floats(what, a->weight, b->weight, a->n);
    same_floats(what, a->bias, b->bias, a->n);
}

static void same_linear(const char *what, const struct apr_linear *a, const struct apr_linear *b)
{
    float x[128], y[128];
    if ((a->w.in == NULL) != (b->w.in == NULL) || a->w.nout != b->w.nout || a->w.nin != b->w.nin || a->w.nin > APR_LENGTH(x))
        fail_msg("%s: only one has it, or of another shape", what);
    for (uint64_t i = 0; i < a->w.nout; i++) {
        apr_input_floats(a->w.in, NULL, (a->w.first + i) * a->w.nin, (size_t)a->w.nin, x);
        apr_input_floats(b->w.in, NULL, (b->w.first + i) * b->w.nin, (size_t)b->w.nin, y);
        same_floats(what, x, y, a->w.nin);
    }
    same_floats(what, a->bias, b->bias, a->w.nout);
}

static void same_ffn(const char *what, const struct apr_ffn *a, const struct apr_ffn *b)
{
    same_linear(what, &a->gate, &b->gate);
    same_linear(what, &a->up, &b->up);
    same_linear(what, &a->down, &b->down);
}

static void same_experts(const char *what, const struct apr_experts *a, const struct apr_experts *b)
{
    if (a->n != b->n || a->used != b->used || a->sigmoid != b->sigmoid || a->normalized != b->normalized || a->scale != b->scale ||
        a->groups != b->groups || a->groups_used != b->groups_used || a->best_two != b->best_two)
        fail_msg("%s: experts chosen otherwise", what);
    same_linear(what, &a->router, &b->router);
    same_floats(what, a->score_bias, b->score_bias, a->n);
    for (uint64_t i = 0; i < a->n; i++)
        same_ffn(what, &a->expert[i], &b->expert[i]);
    same_ffn(what, &a->shared, &b->shared);
    same_linear(what, &a->shared_gate, &b->shared_gate);
}

static void same_layer(const char *what, const struct apr_layer *a, const struct apr_layer *b)
{
    const struct apr_norm *const norms[2] = { &a->attn_norm, &b->attn_norm };
    const struct apr_linear *const linears[2] = { &a->qkv, &b->qkv };
    for (size_t i = 0; i < 6; i++) /* attn_norm, q_norm, k_norm, post_attn_norm, ffn_norm, post_ffn_norm */
        same_norm(what, norms[0] + i, norms[1] + i);
    for (size_t i = 0; i < 5; i++) /* qkv, q, k, v, o */
        same_linear(what, linears[0] + i, linears[1] + i);
    same_linear(what, &a->latent.q_a, &b->latent.q_a);
    same_linear(what, &a->latent.q_b, &b->latent.q_b);
    same_linear(what, &a->latent.kv_a, &b->latent.kv_a);
    same_linear(what, &a->latent.kv_b, &b->latent.kv_b);
    same_norm(what, &a->latent.q_a_norm, &b->latent.q_a_norm);
    same_norm(what, &a->latent.kv_a_norm, &b->latent.kv_a_norm);
    same_ffn(what, &a->ffn, &b->ffn);
    same_experts(what, &a->experts, &b->experts);
    if (a->window != b->window || a->rope.n != b->rope.n || a->rope.skip != b->rope.skip || a->rope.adjacent != b->rope.adjacent)
        fail_msg("%s: another window, another rope", what);
    if (a->rope.n > 0 && memcmp(a->rope.freq, b->rope.freq, a->rope.n / 2 * sizeof *a->rope.freq) != 0)
        fail_msg("%s: heads turn otherwise", what);
}

static bool near(double a, double b) { return fabs(a - b) <= 1e-6 * fabs(b); } /* GGUF keeps floats */

static void same_net(const char *what, const struct apr_net *a, const struct apr_net *b)
{
    if (a->order != b->order || a->act != b->act || a->layer_norm != b->layer_norm || a->causal != b->causal || a->nlayer != b->nlayer ||
        a->hidden != b->hidden || a->vocab != b->vocab || a->heads != b->heads || a->kv_heads != b->kv_heads || a->head_k != b->head_k ||
        a->head_v != b->head_v || a->positions != b->positions || a->context != b->context)
        fail_msg("%s: other sizes, or another order", what);
    if (!near(a->eps, b->eps) || !near(a->attn_scale, b->attn_scale) || a->attn_cap != b->attn_cap || a->logit_cap != b->logit_cap ||
        a->embed_scale != b->embed_scale || !near(a->residual_scale, b->residual_scale) || !near(a->logit_scale, b->logit_scale))
        fail_msg("%s: other numbers", what);
    same_linear(what, &(struct apr_linear){ a->embedding, NULL }, &(struct apr_linear){ b->embedding, NULL });
    same_linear(what, &(struct apr_linear){ a->position, NULL }, &(struct apr_linear){ b->position, NULL });
    same_linear(what, &a->head, &b->head);
    same_norm(what, &a->embedding_norm, &b->embedding_norm);
    same_norm(what, &a->output_norm, &b->output_norm);
    for (uint64_t i = 0; i < a->nlayer; i++)
        same_layer(what, &a->layer[i], &b->layer[i]);
}

/* ---- tests ------------------------------------------------------------------------------------------------------------ */

static void a_net_is_the_same_from_every_container(void **state)
{
    (void)state;
    static const char *const paths[] = { "fixtures/qwen2-bf16.gguf", "fixtures/qwen2.apr", "fixtures/qwen2-zstd.apr" };
    char name[APR_NAME_ROOM];
    struct opened whole = open_net("fixtures/qwen2");
    const struct apr_net *const n = whole.n;
    assert_true(n->nlayer == 2 && n->hidden == 64 && n->vocab == 96 && n->heads == 4 && n->kv_heads == 2 && n->head_k == 16);
    assert_true(n->order == APR_ORDER_BEFORE && n->act == APR_SILU && n->causal && !n->layer_norm && !n->features && n->context == 128);
    assert_true(n->eps == 1e-6 && n->attn_scale == 0.25 && n->embed_scale == 1 && n->positions == 0 && n->position.in == NULL);
    assert_true(n->layer[1].rope.n == 16 && n->layer[1].rope.freq[0] == 1 && near(n->layer[1].rope.freq[4], 1e-3));
    assert_true(n->layer[0].q.bias != NULL && n->layer[0].o.bias == NULL && n->layer[0].ffn.gate.w.nout == 96);
    assert_true(apr_matrix_gguf_name(&n->layer[1].ffn.down.w, name));
    assert_string_equal(name, "blk.1.ffn_down.weight");
    assert_true(n->head.w.layer == APR_WHOLE_MODEL && n->layer[1].k.w.layer == 1);
    for (size_t i = 0; i < APR_LENGTH(paths); i++) {
        struct opened other = open_net(paths[i]);
        same_net(paths[i], n, other.n);
        close_net(&other);
    }
    close_net(&whole);
}

/* Rows of heads that a GGUF has in another order, blocks of q, k and v, norms less 1, experts one by one, transposed matrices. */
static void a_converted_checkpoint_makes_the_same_net(void **state)
{
    (void)state;
    static const struct { const char *family, *config; } rows[] = {
        { "llama", LLAMA },
        { "llama", MIXTRAL },
        { "qwen2moe", "{\"architectures\":[\"Qwen2MoeForCausalLM\"]," SIZES ",\"num_experts\":3,\"num_experts_per_tok\":2,"
                      "\"moe_intermediate_size\":12,\"shared_expert_intermediate_size\":20}" },
        { "gemma2", "{\"architectures\":[\"Gemma2ForCausalLM\"]," SIZES ",\"head_dim\":8,\"query_pre_attn_scalar\":8,"
                    "\"sliding_window\":4}" },
        { "gpt2", "{\"architectures\":[\"GPT2LMHeadModel\"],\"n_embd\":16,\"n_head\":4,\"n_layer\":2,\"n_positions\":32,\"n_ctx\":32,"
                  "\"vocab_size\":10}" },
        { "gptneox", "{\"architectures\":[\"GPTNeoXForCausalLM\"]," SIZES ",\"rotary_pct\":0.5,\"use_parallel_residual\":true}" },
        { "falcon", "{\"architectures\":[\"FalconForCausalLM\"],\"hidden_size\":16,\"num_hidden_layers\":2,\"num_attention_heads\":4,"
                    "\"num_kv_heads\":2,\"new_decoder_architecture\":true,\"vocab_size\":10,\"tie_word_embeddings\":true}" },
        { "phi3", "{\"architectures\":[\"Phi3ForCausalLM\"]," SIZES ",\"sliding_window\":8}" },
        { "granite", "{\"architectures\":[\"GraniteForCausalLM\"]," SIZES ",\"attention_multiplier\":0.1,\"embedding_multiplier\":3,"
                     "\"residual_multiplier\":0.5,\"logits_scaling\":2}" },
        { "deepseek2", "{\"architectures\":[\"DeepseekV3ForCausalLM\"]," SIZES ",\"n_routed_experts\":4,\"num_experts_per_tok\":2,"
                       "\"n_shared_experts\":1,\"moe_intermediate_size\":12,\"first_k_dense_replace\":1,\"q_lora_rank\":6,"
                       "\"kv_lora_rank\":7,"
                       "\"qk_rope_head_dim\":4,\"qk_nope_head_dim\":5,\"v_head_dim\":3,\"n_group\":2,\"topk_group\":1,"
                       "\"routed_scaling_factor\":2.5,\"scoring_func\":\"sigmoid\",\"norm_topk_prob\":true}" },
        { "bert", BERT },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char folder[32], target[32];
        static const char *const suffixes[] = { "gguf", "apr" };
        snprintf(folder, sizeof folder, "same%zu", i);
        struct opened whole = open_net(write_checkpoint(folder, rows[i].family, rows[i].config, rows[i].config, NULL));
        for (size_t k = 0; k < APR_LENGTH(suffixes); k++) {
            snprintf(target, sizeof target, "same%zu.%s", i, suffixes[k]);
            struct test_answer a = test_tool("apr-convert", "--type=f32", test_path(folder), test_path(target), NULL);
            if (a.exit != 0)
                fail_msg("%s: %s", rows[i].family, (const char *)a.err.at);
            test_answer_free(&a);
            struct opened other = open_net(test_path(target));
            same_net(rows[i].family, whole.n, other.n);
            close_net(&other);
        }
        close_net(&whole);
    }
}

static void what_a_family_is_shows_in_its_numbers(void **state)
{
    (void)state;
    struct opened o = open_net(write_checkpoint("gemma2", "gemma2", "{\"architectures\":[\"Gemma2ForCausalLM\"]," SIZES ",\"head_dim\":8}",
                               "{\"architectures\":[\"Gemma2ForCausalLM\"]," SIZES ",\"head_dim\":8,\"query_pre_attn_scalar\":64,"
                               "\"sliding_window\":4,\"attn_logit_softcapping\":40,\"final_logit_softcapping\":20}", NULL));
    assert_true(o.n->embed_scale == 4 && o.n->attn_scale == 0.125 && o.n->attn_cap == 40 && o.n->logit_cap == 20);
    assert_true(o.n->act == APR_GELU_TANH && o.n->layer[0].window == 4 && o.n->layer[1].window == 0);
    assert_true(o.n->layer[0].post_attn_norm.weight != NULL && o.n->layer[0].post_ffn_norm.weight != NULL);
    assert_true(o.n->head.w.in == o.n->embedding.in);
    close_net(&o);
    /* a term is called as the path is that it asks for */
    o = open_net(write_checkpoint("cohere", "command-r", COHERE, COHERE, NULL));
    assert_true(o.n->logit_scale == 0.25 && o.n->order == APR_ORDER_PARALLEL && o.n->layer_norm && o.n->layer[0].rope.adjacent);
    close_net(&o);
    o = open_net(write_checkpoint("mixtral", "llama", MIXTRAL, MIXTRAL, NULL));
    assert_true(o.n->layer[1].experts.n == 3 && o.n->layer[1].experts.used == 2 && o.n->layer[1].experts.normalized);
    assert_true(o.n->layer[1].experts.expert[2].up.w.first == 48 && o.n->layer[1].experts.expert[2].up.w.expert == 2);
    assert_true(o.n->layer[1].ffn.up.w.in == NULL && !o.n->layer[1].experts.sigmoid);
    close_net(&o);
    o = open_net(write_checkpoint("smollm3", "smollm3", "{\"architectures\":[\"SmolLM3ForCausalLM\"]," SIZES "}",
                                  "{\"architectures\":[\"SmolLM3ForCausalLM\"]," SIZES ",\"no_rope_layers\":[0,1]}", NULL));
    assert_true(o.n->layer[0].rope.n == 0 && o.n->layer[1].rope.n == 4);
    close_net(&o);
    o = open_net(write_checkpoint("bert", "bert", BERT, BERT, NULL));
    assert_true(o.n->order == APR_ORDER_AFTER && !o.n->causal && o.n->head.w.in == NULL && o.n->types.in != NULL && o.n->positions == 32);
    assert_true(o.n->act == APR_GELU && o.n->layer[0].attn_norm.bias != NULL && o.n->layer[0].ffn_norm.weight != NULL);
    close_net(&o);
}

static void frequencies_are_those_of_transformers(void **state)
{
    (void)state;
    static const struct { const char *scaling; double freq[8], scale; } rows[] = {
        { "{\"rope_type\":\"linear\",\"factor\":4}",
          { 0.25, 0.079056941, 0.0250000004, 0.00790569466, 0.00249999994, 0.000790569466, 0.000250000012, 7.90569466e-05 }, 1 },
        { "{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4,\"original_max_position_embeddings\":64}",
          { 1, 0.244384587, 0.0130422562, 0.00395284733, 0.00124999997, 0.000395284733, 0.000125000006, 3.95284733e-05 }, 1 },
        { "{\"rope_type\":\"yarn\",\"factor\":4,\"original_max_position_embeddings\":32}",
          { 1, 0.197642356, 0.0250000004, 0.00790569466, 0.00249999994, 0.000790569466, 0.000250000012, 7.90569466e-05 }, 1.13862943611 },
        { "{\"rope_type\":\"yarn\",\"factor\":4,\"original_max_position_embeddings\":32,\"attention_factor\":1.25,\"beta_fast\":16,"
          "\"beta_slow\":2,\"truncate\":false}",
          { 1, 0.079056941, 0.0250000004, 0.00790569466, 0.00249999994, 0.000790569466, 0.000250000012, 7.90569466e-05 }, 1.25 },
        { "{\"rope_type\":\"yarn\",\"factor\":4,\"original_max_position_embeddings\":32,\"mscale\":0.5,\"mscale_all_dim\":1.5}",
          { 1, 0.197642356, 0.0250000004, 0.00790569466, 0.00249999994, 0.000790569466, 0.000250000012, 7.90569466e-05 }, 0.885235227445 },
        { "{\"rope_type\":\"longrope\",\"original_max_position_embeddings\":64,\"short_factor\":[1.0,1.1,1.2,1.3,1.4,1.5,1.6,1.7],"
          "\"long_factor\":[1,2,3,4,5,6,7,8]}",
          { 1, 0.287479758, 0.0833333358, 0.0243252143, 0.00714285718, 0.00210818532, 0.000624999986, 0.000186016332 }, 1.22474487139 },
    };
    static const double stretched[] = { 1, 0.158113882, 0.0333333351, 0.00790569466, 0.00200000009, 0.00052704633, 0.000142857141,
                                        3.95284733e-05 };
    static const char config[] = "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":32,\"intermediate_size\":8,"
                                 "\"num_hidden_layers\":1,"
                                 "\"num_attention_heads\":2,\"vocab_size\":4,\"max_position_embeddings\":512,\"tie_word_embeddings\":true,"
                                 "\"%s\":%s}";
    for (size_t i = 0; i < 2 * APR_LENGTH(rows); i++) {
        char text[1024];
        snprintf(text, sizeof text, config, i % 2 == 0 ? "rope_parameters" : "rope_scaling", rows[i / 2].scaling);
        struct opened o = open_net(write_checkpoint("rope", "llama", text, text, NULL));
        const struct apr_rope *const r = &o.n->layer[0].rope;
        assert_true(r->n == 16 && !r->adjacent && near(r->scale, rows[i / 2].scale));
        for (size_t k = 0; k < 8; k++)
            if (!near(r->freq[k], rows[i / 2].freq[k]))
                fail_msg("%s: frequency %zu is %.9g", text, k, r->freq[k]);
        assert_int_equal(r->long_freq != NULL, i / 2 == 5);
        for (size_t k = 0; r->long_freq != NULL && k < 8; k++)
            assert_true(near(r->long_freq[k], stretched[k]) && r->original == 64 && r->long_scale == r->scale);
        close_net(&o);
    }
}

/* The configuration `wanted` with one piece of text put in the place of another. */
static void edit(const char *wanted, const char *from, const char *to, char out[1024])
{
    const char *const at = strstr(wanted, from);
    if (at == NULL)
        fail_msg("the configuration does not hold: %s", from);
    snprintf(out, 1024, "%.*s%s%s", (int)(at - wanted), wanted, to, at + strlen(from));
}

/* Where nothing says what context frequencies were trained for, transformers and llama.cpp take all that there is; where a number stands
 * beside the scaling and another in it, transformers takes the former. */
static void a_scaling_that_names_no_original_context_is_of_all_of_it(void **state)
{
    (void)state;
    static const char config[] = "{\"architectures\":[\"%s\"],\"model_type\":\"%s\",\"hidden_size\":32,\"intermediate_size\":8,"
                                 "\"num_hidden_layers\":1,\"num_attention_heads\":2,\"head_dim\":16,\"vocab_size\":4,"
                                 "\"max_position_embeddings\":%s,\"tie_word_embeddings\":true,"
                                 "\"rope_parameters\":{\"rope_theta\":10000,%s}}";
    static const struct { const char *family, *class, *type; } families[] = {
        { "llama", "LlamaForCausalLM", "llama" }, { "qwen2", "Qwen2ForCausalLM", "qwen2" }, { "smollm3", "SmolLM3ForCausalLM", "smollm3" },
    };
    static const struct { const char *without, *with; } rows[] = {
        { "\"rope_type\":\"yarn\",\"factor\":4", "\"rope_type\":\"yarn\",\"factor\":4,\"original_max_position_embeddings\":32" },
        { "\"rope_type\":\"llama3\",\"factor\":4,\"low_freq_factor\":1,\"high_freq_factor\":4",
          "\"rope_type\":\"llama3\",\"factor\":4,\"low_freq_factor\":1,\"high_freq_factor\":4,\"original_max_position_embeddings\":32" },
    };
    static const char *const contexts[][2] = { { "32", "512" }, { "512,\"original_max_position_embeddings\":32", "64" } };
    for (size_t i = 0; i < APR_LENGTH(families) * APR_LENGTH(rows) * APR_LENGTH(contexts); i++) {
        const size_t f = i / 4, row = i / 2 % 2, c = i % 2;
        char without[1024], with[1024];
        snprintf(without, sizeof without, config, families[f].class, families[f].type, contexts[c][0], rows[row].without);
        snprintf(with, sizeof with, config, families[f].class, families[f].type, contexts[c][1], rows[row].with);
        struct opened a = open_net(write_checkpoint("without", families[f].family, without, without, NULL));
        struct opened b = open_net(write_checkpoint("with", families[f].family, with, with, NULL));
        for (size_t k = 0; k < 8; k++)
            if (a.n->layer[0].rope.freq[k] != b.n->layer[0].rope.freq[k])
                fail_msg("%s: frequency %zu is %.9g", without, k, a.n->layer[0].rope.freq[k]);
        close_net(&a);
        close_net(&b);
    }
}

/* The last logits of a run of n tokens, the first of them in steps. */
static void last_logits(const struct apr_net *n, size_t ntoken, size_t step, float logits[10])
{
    struct apr_team *team;
    struct apr_sequence *s;
    struct apr_error e;
    uint32_t id[64];
    for (size_t i = 0; i < ntoken; i++)
        id[i] = (uint32_t)(i * i + 3 * i) % 10;
    if (apr_team_new(&team, 1, &e) != APR_OK || apr_sequence_new(&s, n, team, ntoken, &e) != APR_OK)
        fail_msg("%s", e.text);
    size_t count = 0;
    for (size_t at = 0; at < ntoken; at += count) {
        count = ntoken - at < step ? ntoken - at : step;
        if (apr_sequence_run(s, id + at, count, NULL, &e) != APR_OK)
            fail_msg("%s", e.text);
    }
    if (apr_sequence_logits(s, count - 1, 1, NULL, logits, &e) != APR_OK)
        fail_msg("%s", e.text);
    apr_sequence_free(s);
    apr_team_free(team);
}

/* transformers: of t positions more than the context of 32, the base is base (factor t / 32 - factor + 1) ^ (n / (n - 2)). */
static void a_dynamic_scaling_grows_with_the_text(void **state)
{
    (void)state;
    static const struct { size_t ntoken; const char *theta; } rows[] = {
        { 20, "10000" }, { 32, "10000" }, { 33, "11962.890625" }, { 40, "30625" }, { 64, "160000" }, /* of factor 3, heads of 4 */
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char scaled[1024], theta[1024], put[128];
        float grown[10], in_steps[10], wanted[10];
        edit(LLAMA, "\"hidden_act\"", "\"rope_scaling\":{\"rope_type\":\"dynamic\",\"factor\":3},\"hidden_act\"", scaled);
        snprintf(put, sizeof put, "\"rope_theta\":%s,\"hidden_act\"", rows[i].theta);
        edit(LLAMA, "\"hidden_act\"", put, theta);
        const char *const folder = write_checkpoint("dynamic", "llama", scaled, scaled, NULL);
        struct opened o = open_net(folder);
        last_logits(o.n, rows[i].ntoken, 64, grown);
        for (size_t step = 1; step < 40; step += 7) {
            last_logits(o.n, rows[i].ntoken, step, in_steps);
            assert_memory_equal(grown, in_steps, sizeof grown);
        }
        close_net(&o);
        test_file("dynamic/config.json", theta, strlen(theta));
        o = open_net(folder);
        last_logits(o.n, rows[i].ntoken, 64, wanted);
        for (size_t k = 0; k < 10; k++)
            assert_true(fabs((double)grown[k] - (double)wanted[k]) < 1e-5);
        close_net(&o);
    }
}

/* Mistral with layer_types is Ministral to transformers; Mixtral stays what it is. Qwen2 MoE begins with a window, Qwen2 ends with some. */
static void layers_have_the_windows_that_transformers_gives_them(void **state)
{
    (void)state;
    static const struct {
        const char *family, *config, *say;
        uint64_t    window[2];
    } rows[] = {
        { "llama", "{\"architectures\":[\"MistralForCausalLM\"]," SIZES "}", "\"sliding_window\":3", { 3, 3 } },
        { "llama", "{\"architectures\":[\"MistralForCausalLM\"]," SIZES "}",
          "\"sliding_window\":3,\"layer_types\":[\"full_attention\",\"sliding_attention\"]", { 0, 3 } },
        { "llama", MIXTRAL, "\"sliding_window\":3,\"layer_types\":[\"full_attention\",\"sliding_attention\"]", { 3, 3 } },
        { "qwen2", "{\"architectures\":[\"Qwen2ForCausalLM\"]," SIZES "}", "\"sliding_window\":3,\"use_sliding_window\":true", { 0, 0 } },
        { "qwen2", "{\"architectures\":[\"Qwen2ForCausalLM\"]," SIZES "}",
          "\"sliding_window\":3,\"use_sliding_window\":true,\"max_window_layers\":1", { 0, 3 } },
        { "qwen2moe", "{\"architectures\":[\"Qwen2MoeForCausalLM\"]," SIZES ",\"num_experts\":3,\"num_experts_per_tok\":2,"
                      "\"moe_intermediate_size\":12,\"shared_expert_intermediate_size\":20}",
          "\"sliding_window\":3,\"use_sliding_window\":true,\"max_window_layers\":2", { 3, 0 } },
        { "smollm3", "{\"architectures\":[\"SmolLM3ForCausalLM\"]," SIZES "}",
          "\"sliding_window\":3,\"use_sliding_window\":true,\"no_rope_layers\":[1,0]", { 0, 3 } },
        { "smollm3", "{\"architectures\":[\"SmolLM3ForCausalLM\"]," SIZES "}",
          "\"sliding_window\":3,\"layer_types\":[\"sliding_attention\",\"full_attention\"]", { 3, 0 } },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char said[1024], put[256];
        snprintf(put, sizeof put, "{%s,", rows[i].say);
        edit(rows[i].config, "{", put, said);
        struct opened o = open_net(write_checkpoint("window", rows[i].family, rows[i].config, said, NULL));
        if (o.n->layer[0].window != rows[i].window[0] || o.n->layer[1].window != rows[i].window[1])
            fail_msg("%s: windows of %d and %d", said, (int)o.n->layer[0].window, (int)o.n->layer[1].window);
        close_net(&o);
    }
}

/* What stands in rope_parameters comes before what stands beside it. */
static void rope_parameters_count_before_their_older_places(void **state)
{
    (void)state;
    static const struct { const char *family, *config, *say; uint64_t n; double second; } rows[] = { /* by a base of 100 */
        { "llama", LLAMA, "\"rope_theta\":5,\"rope_parameters\":{\"rope_theta\":100}", 4, 0.1 },
        { "llama", LLAMA, "\"rope_theta\":5,\"rope_scaling\":{\"rope_theta\":100}", 4, 0.1 },
        { "gptneox", "{\"architectures\":[\"GPTNeoXForCausalLM\"]," SIZES "}",
          "\"rotary_pct\":0.5,\"rotary_emb_base\":5,\"rope_parameters\":{\"rope_theta\":100,\"partial_rotary_factor\":1.0}", 4, 0.1 },
        { "phi2", "{\"architectures\":[\"PhiForCausalLM\"]," SIZES "}",
          "\"partial_rotary_factor\":0.5,\"rope_parameters\":{\"rope_theta\":100,\"partial_rotary_factor\":1.0}", 4, 0.1 },
        { "phi3", "{\"architectures\":[\"Phi3ForCausalLM\"]," SIZES "}",
          "\"partial_rotary_factor\":0.5,\"rope_parameters\":{\"rope_theta\":100,\"partial_rotary_factor\":1.0}", 4, 0.1 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char said[1024], put[256];
        snprintf(put, sizeof put, "{%s,", rows[i].say);
        edit(rows[i].config, "{", put, said);
        struct opened o = open_net(write_checkpoint("places", rows[i].family, rows[i].config, said, NULL));
        const struct apr_rope *const r = &o.n->layer[0].rope;
        if (r->n != rows[i].n || !near(r->freq[1], rows[i].second))
            fail_msg("%s: %d elements turn, the second by %g", said, (int)r->n, r->n > 2 ? r->freq[1] : 0);
        close_net(&o);
    }
}

static void a_classic_model_is_a_head_alone(void **state)
{
    (void)state;
    static const uint64_t shape[] = { 3, 4 };
    struct test_bytes file = { 0 };
    const char *const head = "{\"weight\":{\"dtype\":\"F32\",\"shape\":[3,4],\"data_offsets\":[0,48]},"
                             "\"bias\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[48,60]}}";
    test_integer(&file, strlen(head), 8);
    test_text(&file, head);
    test_zeros(&file, 60);
    struct opened o = open_net(test_file("linear.safetensors", file.at, file.n));
    assert_true(o.n->features && o.n->hidden == shape[1] && o.n->vocab == shape[0] && o.n->nlayer == 0 && o.n->head.bias != NULL);
    close_net(&o);
    test_free(&file);
}

static void what_is_wrong_with_a_model_is_named(void **state)
{
    (void)state;
    static const struct {
        const char   *wanted, *from, *to;
        struct flaw   flaw;
        enum apr_code code;
        const char   *words[2];
    } rows[] = {
        { LLAMA, "Llama", "Mamba", { 0 }, APR_EARG, { "family mamba has no forward pass" } },
        { LLAMA, "{", "{", { .drop = "model.layers.1.mlp.down_proj.weight" }, APR_EARG,
          { "model.layers.1.mlp.down_proj.weight", "is not there" } },
        { LLAMA, "{", "{", { .drop = "model.norm.weight" }, APR_EARG, { "model.norm.weight", "is not there" } },
        { MIXTRAL, "{", "{", { .drop = "model.layers.0.block_sparse_moe.experts.1.w2.weight" }, APR_EARG,
          { "experts.1.w2.weight", "is not there" } },
        { LLAMA, "{", "{", { .more = "model.layers.0.self_attn.q_norm.weight" }, APR_EARG, { "q_norm.weight", "has no place" } },
        { LLAMA, "_value_heads\":2", "_value_heads\":1", { 0 }, APR_EARG, { "k_proj.weight\" has the shape [8, 16]", "wants [4, 16]" } },
        { LLAMA, "\"num_attention_heads\":4,", "", { 0 }, APR_EARG, { "\"num_attention_heads\" in config.json", ".attention.head_count" } },
        { LLAMA, "n_heads\":4", "n_heads\":100000", { 0 }, APR_ELIMIT, { "`heads`", "more than 65536" } },
        { LLAMA, "n_heads\":4", "n_heads\":3", { 0 }, APR_EARG,
          { "`head_k` of family llama comes to 5.33333333", "\"hidden_size\" is 16, \"num_attention_heads\" is 3" } },
        { LLAMA, "e_heads\":2", "e_heads\":3", { 0 }, APR_EARG, { "4 heads of queries do not go into 3" } },
        { LLAMA, "n_layers\":2", "n_layers\":3", { 0 }, APR_EARG, { "model.layers.2.", "is not there" } },
        { LLAMA, "n_layers\":2", "n_layers\":1000000", { 0 }, APR_ELIMIT, { "`layers`" } },
        { LLAMA, "\"hidden_size\":16", "\"hidden_size\":1e30", { 0 }, APR_ELIMIT, { "`hidden`" } },
        { LLAMA, "24", "23", { 0 }, APR_EARG, { "_proj.weight", "wants [23, 16]" } },
        { LLAMA, "silu", "mish", { 0 }, APR_EUNSUPPORTED, { "activation \"mish\"" } },
        { LLAMA, "\"hidden_act\"", "\"rope_scaling\":{\"type\":\"odd\"},\"hidden_act\"", { 0 }, APR_EUNSUPPORTED,
          { "rope scaling \"odd\"" } },
        { LLAMA, "\"hidden_act\"", "\"rope_scaling\":{\"type\":\"linear\"},\"hidden_act\"", { 0 }, APR_EARG, { "has no \"factor\"" } },
        { LLAMA, "\"hidden_act\"", "\"rope_scaling\":{\"type\":\"yarn\"},\"hidden_act\"", { 0 }, APR_EARG, { "has no \"factor\"" } },
        { LLAMA, "\"hidden_act\"", "\"rope_scaling\":{\"type\":\"longrope\",\"short_factor\":[1]},\"hidden_act\"", { 0 }, APR_EARG,
          { "lists of factors" } },
        { LLAMA, "\"hidden_act\"", "\"rope_theta\":0,\"hidden_act\"", { 0 }, APR_EARG,
          { "`rope_base`", "where a number above 0 should stand" } },
        { LLAMA, "\"hidden_act\"", "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":-4},\"hidden_act\"", { 0 }, APR_EARG,
          { "\"rope_scaling.factor\"", "is -4, where a number above 0" } },
        { LLAMA, "\"hidden_act\"", "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2,\"beta_fast\":\"x\"},\"hidden_act\"", { 0 }, APR_EARG,
          { "\"rope_scaling.beta_fast\"", "is \"x\", where a number" } },
        { LLAMA, "\"hidden_act\"", "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2,\"mscale\":[]},\"hidden_act\"", { 0 }, APR_EARG,
          { "\"rope_scaling.mscale\"", "neither a number nor a text" } },
        { LLAMA, "\"hidden_act\"", "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":\"2\"},\"hidden_act\"", { 0 }, APR_EARG,
          { "\"rope_scaling.factor\" is \"2\"", "should be a number" } },
        { LLAMA, "\"hidden_act\"", "\"rope_scaling\":{\"type\":\"llama3\",\"factor\":2,\"low_freq_factor\":4},\"hidden_act\"", { 0 },
          APR_EARG, { "\"high_freq_factor\"", "not above" } },
        { LLAMA, "\"hidden_act\"", "\"rope_scaling\":{\"type\":\"longrope\",\"short_factor\":[1,-2]},\"hidden_act\"", { 0 }, APR_EARG,
          { "\"rope_scaling.short_factor.1\"", "is -2" } },
        { LLAMA, "\"hidden_act\"", "\"rope_scaling\":{\"type\":\"dynamic\"},\"hidden_act\"", { 0 }, APR_EARG,
          { "has no \"factor\"" } },
        { LLAMA, "\"hidden_act\"", "\"rope_scaling\":{\"type\":4},\"hidden_act\"", { 0 }, APR_EARG,
          { "\"rope_scaling.type\" is 4", "should be a text" } },
        { LLAMA, "\"hidden_act\"", "\"rope_theta\":\"10000\",\"hidden_act\"", { 0 }, APR_EARG,
          { "\"rope_theta\" is \"10000\"", "should be a number" } },
        { LLAMA, "\"hidden_act\"", "\"rope_theta\":-1,\"hidden_act\"", { 0 }, APR_EARG,
          { "`rope_base`", "\"rope_theta\" is -1" } },
        { LLAMA, "\"hidden_act\"", "\"head_dim\":[4],\"hidden_act\"", { 0 }, APR_EARG,
          { "\"head_dim\" is neither a number nor a text" } },
        { LLAMA, "\"hidden_act\"", "\"layer_types\":[\"full_attention\"],\"hidden_act\"", { 0 }, APR_EARG,
          { "\"layer_types\" should be a list of 2 words" } },
        { LLAMA, "\"hidden_act\"", "\"layer_types\":[\"full_attention\",\"full_attention\",\"full_attention\"],\"hidden_act\"", { 0 },
          APR_EARG, { "\"layer_types\" should be a list of 2 words" } },
        { LLAMA, "\"hidden_act\"", "\"layer_types\":[\"full_attention\",\"odd\"],\"hidden_act\"", { 0 }, APR_EARG,
          { "\"layer_types.1\" is \"odd\"" } },
        { LLAMA, "\"hidden_act\"", "\"layer_types\":\"full_attention\",\"hidden_act\"", { 0 }, APR_EARG,
          { "\"layer_types\" should be a list of 2 words" } },
        { LLAMA, "\"rms_norm_eps\":1e-5", "\"rms_norm_eps\":\"1e-5\"", { 0 }, APR_EARG,
          { "`eps` of family llama comes to a text", "\"rms_norm_eps\" is \"1e-5\"" } },
        { LLAMA, "\"rms_norm_eps\":1e-5", "\"rms_norm_eps\":[]", { 0 }, APR_EARG,
          { "\"rms_norm_eps\" is neither a number nor a text" } },
        { LLAMA, "\"rms_norm_eps\":1e-5", "\"rms_norm_eps\":-1", { 0 }, APR_EARG,
          { "`eps` of family llama comes to -1, where a number above 0", "\"rms_norm_eps\" is -1" } },
        { LLAMA, "\"hidden_act\":\"silu\"", "\"hidden_act\":7", { 0 }, APR_EARG,
          { "`act` of family llama comes to 7", "\"hidden_act\" is 7" } },
        { LLAMA, "\"num_attention_heads\":4", "\"num_attention_heads\":0", { 0 }, APR_EARG,
          { "`heads` of family llama comes to 0", "\"num_attention_heads\" is 0" } },
        { MIXTRAL, "per_tok\":2", "per_tok\":4", { 0 }, APR_EARG, { "4 of 3 experts" } },
        { MIXTRAL, "experts\":3", "experts\":2", { 0 }, APR_EARG, { "", "wants [2, 16]" } },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char said[1024];
        struct opened o;
        struct apr_error e = { 0 };
        edit(rows[i].wanted, rows[i].from, rows[i].to, said);
        const enum apr_code code = try_open(&o, write_checkpoint("wrong", "llama", rows[i].wanted, said, &rows[i].flaw), &e);
        assert_true((code == APR_OK) == (o.n != NULL));
        const bool named = strstr(e.text, rows[i].words[0]) != NULL && (rows[i].words[1] == NULL || strstr(e.text, rows[i].words[1]) != NULL);
        if (code != rows[i].code || !named)
            fail_msg("row %zu, %s: %d %s", i, said, code, e.text);
        close_net(&o);
    }
}

static void memory_may_run_out_at_any_time(void **state)
{
    (void)state;
    static const char config[] = "{\"architectures\":[\"MixtralForCausalLM\"]," SIZES ",\"num_local_experts\":3,\"num_experts_per_tok\":2,"
                                 "\"rope_scaling\":{\"type\":\"longrope\",\"original_max_position_embeddings\":16,\"short_factor\":[1,1],"
                                 "\"long_factor\":[2,2]}}";
    struct opened o = open_net(write_checkpoint("memory", "llama", config, config, NULL));
    enum apr_code code = OWN_MEMORY ? APR_ENOMEM : APR_OK;
    for (long at = 1; code != APR_OK; at++) {
        struct apr_net *n;
        struct apr_error e = { 0 };
        allocations_left = at;
        code = apr_net_new(&n, test_run_with(1)->kernels, o.m, o.b, &e);
        allocations_left = 0;
        assert_true((code == APR_OK) == (n != NULL) && at < 100000);
        if (code != APR_OK && code != APR_ENOMEM)
            fail_msg("allocation %ld: %d %s", at, code, e.text);
        apr_net_free(n);
    }
    close_net(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_net_is_the_same_from_every_container),
        cmocka_unit_test(a_converted_checkpoint_makes_the_same_net),
        cmocka_unit_test(what_a_family_is_shows_in_its_numbers),
        cmocka_unit_test(frequencies_are_those_of_transformers),
        cmocka_unit_test(a_scaling_that_names_no_original_context_is_of_all_of_it),
        cmocka_unit_test(a_dynamic_scaling_grows_with_the_text),
        cmocka_unit_test(layers_have_the_windows_that_transformers_gives_them),
        cmocka_unit_test(rope_parameters_count_before_their_older_places),
        cmocka_unit_test(a_classic_model_is_a_head_alone),
        cmocka_unit_test(what_is_wrong_with_a_model_is_named),
        cmocka_unit_test(memory_may_run_out_at_any_time),
    };
    return cmocka_run_group_tests(tests, open_families, close_families);
}
