/* lib/flow/wish.h: a model's tensors as another dialect has them. Models are names and shapes alone. */
#include "support.h"

#include <stdio.h>

#include "bare_model.h"
#include "base/bytes.h"
#include "flow/wish.h"
#include "values/kernels.h"

/* ---- models --------------------------------------------------------------------------------------------------------- */

struct row { const char *name; uint64_t d0, d1, d2; };

/* Up to the first row without a name. */
static void put_rows(struct model *m, const struct row *row)
{
    for (; row->name != NULL; row++)
        model_tensor(m, row->name, row->d0, row->d1, row->d2);
}

#define CONFIG(more) \
    "{\"hidden_size\": 8, \"intermediate_size\": 12, \"num_hidden_layers\": 1, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, " \
    "\"vocab_size\": 10, \"max_position_embeddings\": 32" more "}"

static const struct row llama_hf[] = {
    { "model.embed_tokens.weight", 10, 8 }, { "model.norm.weight", 8 }, { "lm_head.weight", 10, 8 },
    { "model.layers.0.input_layernorm.weight", 8 }, { "model.layers.0.post_attention_layernorm.weight", 8 },
    { "model.layers.0.self_attn.q_proj.weight", 8, 8 }, { "model.layers.0.self_attn.k_proj.weight", 4, 8 },
    { "model.layers.0.self_attn.v_proj.weight", 4, 8 }, { "model.layers.0.self_attn.o_proj.weight", 8, 8 },
    { "model.layers.0.mlp.gate_proj.weight", 12, 8 }, { "model.layers.0.mlp.up_proj.weight", 12, 8 },
    { "model.layers.0.mlp.down_proj.weight", 8, 12 }, { NULL },
};

static void begin_llama(struct model *m, const char *config)
{
    model_begin(m, "safetensors");
    model_config(m, config);
    put_rows(m, llama_hf);
}

static void rename_tensor(struct model *m, const char *from, const char *to)
{
    for (size_t i = 0; i < m->m.ntensor; i++)
        if (apr_bytes_is(m->m.tensor[i].name, from))
            m->m.tensor[i].name = apr_text(to);
}

static void remove_tensor(struct model *m, const char *name)
{
    size_t n = 0;
    for (size_t i = 0; i < m->m.ntensor; i++)
        if (!apr_bytes_is(m->m.tensor[i].name, name))
            m->m.tensor[n++] = m->m.tensor[i];
    m->m.ntensor = n;
}

/* ---- wishing -------------------------------------------------------------------------------------------------------- */

/* ctx: the name of one that stays behind, or NULL. */
static enum apr_code spare_one(void *ctx, struct apr_bytes name, const char **reason, struct apr_error *e)
{
    (void)e;
    *reason = ctx != NULL && apr_bytes_is(name, ctx) ? "spared" : NULL;
    return APR_OK;
}

struct asked {
    struct apr_wishes   w;
    struct apr_binding *b;
};

/* A contract of our own, which is meant by "toy". */
static struct apr_family *toy;

static void begin_toy(const char *text)
{
    struct apr_error e;
    if (apr_family_parse(&toy, "toy.yaml", apr_text(text), &e) != APR_OK)
        fail_msg("%s", e.text);
}

static enum apr_code ask(struct asked *x, const struct model *m, const char *name, enum apr_dialect to, const char *spared,
                         struct apr_error *e)
{
    *x = (struct asked){ .b = NULL };
    if (name != NULL && apr_bind(&x->b, strcmp(name, "toy") == 0 ? toy : family(name), &m->m, NULL, e) != APR_OK)
        fail_msg("%s: %s", name, e->text);
    return apr_wishes_of(&x->w, test_run_with(1)->kernels, &m->m, x->b, to, spare_one, (void *)(uintptr_t)spared, e);
}

static struct asked wish_for(const struct model *m, const char *name, enum apr_dialect to, const char *spared)
{
    struct apr_error e = { .at = APR_NOWHERE };
    struct asked x;
    if (ask(&x, m, name, to, spared, &e) != APR_OK)
        fail_msg("%s", e.text);
    return x;
}

static void end(struct asked *x)
{
    apr_wishes_end(&x->w);
    apr_binding_free(x->b);
}

static void refused(const char *what, const struct model *m, const char *name, enum apr_dialect to, const char *const *words)
{
    struct apr_error e = { .at = APR_NOWHERE };
    struct asked x;
    if (ask(&x, m, name, to, NULL, &e) != APR_EARG)
        fail_msg("%s: was not refused", what);
    for (; *words != NULL; words++)
        if (strstr(e.text, *words) == NULL)
            fail_msg("%s: \"%s\" is not in: %s", what, *words, e.text);
    end(&x);
}
#define REFUSED(what, m, name, to, ...) refused(what, m, name, to, (const char *const[]){ __VA_ARGS__, NULL })

static const struct apr_wish *find(const struct asked *x, const char *name)
{
    for (size_t i = 0; i < x->w.n; i++)
        if (apr_bytes_is(x->w.wish[i].name, name))
            return &x->w.wish[i];
    fail_msg("no wish is called %s", name);
    return NULL;
}

/* "[8, 12] model.x rope_permute(2)", the transform only when there is one. */
static void is(const struct asked *x, const char *name, const char *want)
{
    const struct apr_wish *const w = find(x, name);
    char got[500];
    size_t n = 0;
    for (unsigned i = 0; i < w->ndim; i++)
        n += (size_t)snprintf(got + n, sizeof got - n, "%s%llu", i == 0 ? "[" : ", ", (unsigned long long)w->dim[i]);
    snprintf(got + n, sizeof got - n, "] %.*s%s%s", APR_PRINTED(w->from), w->transform == NULL ? "" : " ", w->transform == NULL ?
             "" : w->transform);
    if (strcmp(got, want) != 0)
        fail_msg("%s is %s, not %s", name, got, want);
}

/* Element e of the wish lies there. */
static void lies(const struct asked *x, const char *name, uint64_t e, uint64_t part, uint64_t index)
{
    const struct apr_place p = apr_view_place(&find(x, name)->in->view, e);
    if (p.part != part || p.index != index)
        fail_msg("element %llu of %s is %llu of part %llu, not %llu of %llu", (unsigned long long)e, name, (unsigned long long)p.index,
                 (unsigned long long)p.part, (unsigned long long)index, (unsigned long long)part);
}

/* ---- names, shapes, places ------------------------------------------------------------------------------------------ */

/* Rows 0 1 2 3 of a head, halves, become the pairs 0 2 1 3. */
static void a_checkpoint_gets_the_names_and_row_orders_of_a_gguf(void **state)
{
    (void)state;
    struct model m;
    begin_llama(&m, CONFIG());
    struct asked x = wish_for(&m, "llama", APR_GGUF, NULL);
    assert_int_equal(x.w.n, 12);
    assert_int_equal(x.w.nleft, 0);
    assert_true(apr_bytes_is(x.w.wish[0].name, "output.weight")); /* "lm_head" comes before "model" */
    is(&x, "token_embd.weight", "[10, 8] model.embed_tokens.weight");
    is(&x, "blk.0.attn_q.weight", "[8, 8] model.layers.0.self_attn.q_proj.weight rope_permute(2)");
    is(&x, "blk.0.attn_k.weight", "[4, 8] model.layers.0.self_attn.k_proj.weight rope_permute(1)");
    is(&x, "blk.0.ffn_down.weight", "[8, 12] model.layers.0.mlp.down_proj.weight");
    lies(&x, "blk.0.attn_q.weight", 1 * 8 + 3, 0, 2 * 8 + 3);
    lies(&x, "blk.0.attn_q.weight", 6 * 8, 0, 5 * 8);
    lies(&x, "blk.0.attn_v.weight", 9, 0, 9);
    end(&x);
    model_end(&m);
}

static void a_gguf_gets_the_names_and_row_orders_of_a_checkpoint(void **state)
{
    (void)state;
    static const struct row rows[] = {
        { "token_embd.weight", 10, 8 }, { "output_norm.weight", 8 }, { "rope_freqs.weight", 2 }, { "blk.0.attn_norm.weight", 8 },
        { "blk.0.ffn_norm.weight", 8 }, { "blk.0.attn_q.weight", 8, 8 }, { "blk.0.attn_k.weight", 4, 8 }, { "blk.0.attn_v.weight", 4, 8 },
        { "blk.0.attn_output.weight", 8, 8 }, { "blk.0.ffn_gate_inp.weight", 3, 8 }, { "blk.0.ffn_gate_exps.weight", 3, 12, 8 },
        { "blk.0.ffn_up_exps.weight", 3, 12, 8 }, { "blk.0.ffn_down_exps.weight", 3, 8, 12 }, { NULL },
    };
    struct model m;
    model_begin(&m, "gguf");
    model_string(&m, "general.architecture", "llama");
    static const struct { const char *key; uint64_t n; } keys[] = {
        { "llama.block_count", 1 }, { "llama.embedding_length", 8 }, { "llama.feed_forward_length", 12 },
        { "llama.attention.head_count", 2 },
        { "llama.attention.head_count_kv", 1 }, { "llama.context_length", 32 }, { "llama.expert_count", 3 }, { "llama.vocab_size", 10 },
    };
    for (size_t i = 0; i < APR_LENGTH(keys); i++)
        model_number(&m, keys[i].key, keys[i].n);
    put_rows(&m, rows);
    struct asked x = wish_for(&m, "llama", APR_HF, "rope_freqs.weight");
    assert_int_equal(x.w.n, 9 + 9);
    assert_int_equal(x.w.nleft, 1);
    is(&x, "model.layers.0.self_attn.q_proj.weight", "[8, 8] blk.0.attn_q.weight rope_permute(2)");
    is(&x, "model.layers.0.block_sparse_moe.experts.2.w1.weight", "[12, 8] blk.0.ffn_gate_exps.weight stack(3)");
    is(&x, "model.layers.0.block_sparse_moe.experts.1.w2.weight", "[8, 12] blk.0.ffn_down_exps.weight stack(3)");
    lies(&x, "model.layers.0.self_attn.q_proj.weight", 2 * 8 + 3, 0, 1 * 8 + 3);
    lies(&x, "model.layers.0.block_sparse_moe.experts.2.w1.weight", 5, 0, 2 * 96 + 5);
    end(&x);
    model_end(&m);
}

static void experts_become_one_stack(void **state)
{
    (void)state;
    static const struct row experts[] = {
        { "model.layers.0.block_sparse_moe.gate.weight", 2, 8 },
        { "model.layers.0.block_sparse_moe.experts.0.w1.weight", 12, 8 }, { "model.layers.0.block_sparse_moe.experts.1.w1.weight", 12, 8 },
        { "model.layers.0.block_sparse_moe.experts.0.w2.weight", 8, 12 }, { "model.layers.0.block_sparse_moe.experts.1.w2.weight", 8, 12 },
        { "model.layers.0.block_sparse_moe.experts.0.w3.weight", 12, 8 }, { "model.layers.0.block_sparse_moe.experts.1.w3.weight", 12, 8 },
        { NULL },
    };
    struct model m;
    begin_llama(&m, CONFIG(", \"num_local_experts\": 2"));
    remove_tensor(&m, "model.layers.0.mlp.gate_proj.weight");
    remove_tensor(&m, "model.layers.0.mlp.up_proj.weight");
    remove_tensor(&m, "model.layers.0.mlp.down_proj.weight");
    put_rows(&m, experts);
    struct asked x = wish_for(&m, "llama", APR_GGUF, NULL);
    assert_int_equal(x.w.n, 13);
    is(&x, "blk.0.ffn_up_exps.weight", "[2, 12, 8] model.layers.0.block_sparse_moe.experts.{0-1}.w3.weight stack(2)");
    lies(&x, "blk.0.ffn_up_exps.weight", 96 + 7, 1, 7);
    end(&x);
    remove_tensor(&m, "model.layers.0.block_sparse_moe.experts.1.w3.weight");
    REFUSED("a missing expert", &m, "llama", APR_GGUF, "experts.1.w3.weight", "is not there", "llama");
    model_end(&m);
}

static const struct row gpt2_hf[] = {
    { "wte.weight", 10, 8 }, { "wpe.weight", 32, 8 }, { "ln_f.weight", 8 }, { "ln_f.bias", 8 }, { "h.0.ln_1.weight", 8 },
    { "h.0.ln_1.bias", 8 },
    { "h.0.ln_2.weight", 8 }, { "h.0.ln_2.bias", 8 }, { "h.0.attn.c_attn.weight", 8, 24 }, { "h.0.attn.c_attn.bias", 24 },
    { "h.0.attn.c_proj.weight", 8, 8 }, { "h.0.attn.c_proj.bias", 8 }, { "h.0.mlp.c_fc.weight", 8, 32 }, { "h.0.mlp.c_fc.bias", 32 },
    { "h.0.mlp.c_proj.weight", 32, 8 }, { "h.0.mlp.c_proj.bias", 8 }, { "h.0.attn.bias", 1, 1, 32 }, { NULL },
};

#define GPT2 "{\"n_embd\": 8, \"n_layer\": 1, \"n_head\": 2, \"n_positions\": 32, \"vocab_size\": 10}"

static void matrices_that_lie_the_other_way_are_turned_and_masks_stay_behind(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m, "safetensors");
    model_config(&m, GPT2);
    put_rows(&m, gpt2_hf);
    struct asked x = wish_for(&m, "gpt2", APR_GGUF, NULL);
    assert_int_equal(x.w.n, 16);
    is(&x, "blk.0.attn_qkv.weight", "[24, 8] h.0.attn.c_attn.weight transpose");
    lies(&x, "blk.0.attn_qkv.weight", 5 * 8 + 3, 0, 3 * 24 + 5);
    assert_int_equal(x.w.nleft, 1);
    assert_true(apr_bytes_is(x.w.left[0].name, "h.0.attn.bias"));
    assert_string_equal(x.w.left[0].reason, "skipped by contract");
    end(&x);
    model_end(&m);
}

/* Which the class of the checkpoint writes, but not before its head. */
static void a_checkpoint_s_names_begin_as_its_class_writes_them(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m, "apr");
    model_config(&m, GPT2);
    put_rows(&m, gpt2_hf);
    model_tensor(&m, "lm_head.weight", 10, 8, 0);
    remove_tensor(&m, "h.0.attn.bias");
    struct asked x = wish_for(&m, "gpt2", APR_HF, NULL);
    is(&x, "transformer.h.0.mlp.c_fc.weight", "[8, 32] h.0.mlp.c_fc.weight");
    is(&x, "lm_head.weight", "[10, 8] lm_head.weight");
    end(&x);
    model_end(&m);
}

/* The reference program stores q, k and v of GPT-2 apart, cut by columns. */
static void parts_of_the_reference_program_are_put_together(void **state)
{
    (void)state;
    static const struct row rows[] = {
        { "model.layers.0.self_attn.q_proj.weight", 8, 8 }, { "model.layers.0.self_attn.k_proj.weight", 8, 8 },
        { "model.layers.0.self_attn.v_proj.weight", 8, 8 }, { NULL },
    };
    struct model m;
    model_begin(&m, "apr");
    model_config(&m, GPT2);
    put_rows(&m, gpt2_hf);
    remove_tensor(&m, "h.0.attn.bias");
    remove_tensor(&m, "h.0.attn.c_attn.weight");
    put_rows(&m, rows);
    struct asked x = wish_for(&m, "gpt2", APR_HF, NULL);
    is(&x, "transformer.h.0.attn.c_attn.weight",
       "[8, 24] model.layers.0.self_attn.q_proj.weight + model.layers.0.self_attn.k_proj.weight + "
       "model.layers.0.self_attn.v_proj.weight split_cols(8,8,8)");
    lies(&x, "transformer.h.0.attn.c_attn.weight", 2 * 24 + 8 + 3, 1, 2 * 8 + 3);
    end(&x);
    x = wish_for(&m, "gpt2", APR_GGUF, NULL);
    lies(&x, "blk.0.attn_qkv.weight", 19 * 8 + 2, 2, 2 * 8 + 3);
    end(&x);
    model_end(&m);
}

/* ---- parts that go their own way ------------------------------------------------------------------------------------ */

static const char toy_contract[] =
    "schema: apr-family/1\n"
    "family: toy\n"
    "dims: {A: 4, K: 2, D: 4, P: 8}\n"
    "tensors:\n"
    "  - {role: qkv, hf: \"m.{L}.qkv\", gguf: [\"b.{L}.q\", \"b.{L}.k\", \"b.{L}.v\"], shape: [(A + 2 * K) * D, 3],\n"
    "     transform: [{op: ungroup, groups: K, parts: [A / K * D, D, D]},\n"
    "       {op: split_rows, parts: [A * D, K * D, K * D], then: [{op: rope_permute, heads: A}, [{op: rope_permute, heads: K}], []]}]}\n"
    "  - {role: gu, hf: [\"m.{L}.g\", \"m.{L}.u\"], gguf: \"b.{L}.gu\", shape: [6, 2],\n"
    "     transform: [{op: concat_rows, parts: [4, 2]}, {op: regroup, groups: 2, size: 1}]}\n"
    "  - {role: embd, hf: m.e, gguf: e, shape: [5, 2], transform: [{op: scale, by: \"1 / A\"}, {op: pad_rows, count: P}]}\n"
    "  - {role: ssm, hf: m.s, gguf: s, shape: [6], transform: {op: scale, by: [0.5, D], parts: [2, 4]}, optional: 1}\n"
    "  - {role: turned, hf: m.t, gguf: t, shape: [2, 6], transform: {op: order_cols, rows: [2, 0, 1], size: 2}, optional: 1}\n";

static const struct row toy_hf[] = { { "m.0.qkv", 32, 3 }, { "m.0.g", 4, 2 }, { "m.0.u", 2, 2 },
                                      { "m.e", 5, 2 }, { "m.s", 6 }, { "m.t", 2, 6 }, { NULL } };
static const struct row toy_gguf[] = { { "b.0.q", 16, 3 }, { "b.0.k", 8, 3 }, { "b.0.v", 8, 3 },
                                        { "b.0.gu", 6, 2 }, { "e", 8, 2 }, { "s", 6 }, { NULL } };

/* Group 1 of 16 rows has q from row 16 on, k from 24, v from 28; a head of 4 rows has its halves as pairs. */
static void parts_of_a_split_go_their_own_way_and_names_are_put_together(void **state)
{
    (void)state;
    struct model m;
    begin_toy(toy_contract);
    model_begin(&m, "safetensors");
    put_rows(&m, toy_hf);
    struct asked x = wish_for(&m, "toy", APR_GGUF, NULL);
    assert_int_equal(x.w.n, 7);
    is(&x, "b.0.q", "[16, 3] m.0.qkv ungroup(2,8,4,4)+split_rows(16,8,8)+rope_permute(4)");
    is(&x, "b.0.k", "[8, 3] m.0.qkv ungroup(2,8,4,4)+split_rows(16,8,8)+rope_permute(2)");
    is(&x, "b.0.v", "[8, 3] m.0.qkv ungroup(2,8,4,4)+split_rows(16,8,8)");
    is(&x, "b.0.gu", "[6, 2] m.0.g + m.0.u concat_rows(4,2)+regroup(2,1)");
    is(&x, "e", "[8, 2] m.e scale(0.25)+pad_rows(8)");
    is(&x, "s", "[6] m.s scale(0.5,4)");
    is(&x, "t", "[2, 6] m.t order_cols(2,0,1 of 2)");
    lies(&x, "b.0.q", 9 * 3 + 1, 0, 18 * 3 + 1); /* head 2, its second row: of group 1 row 2 */
    lies(&x, "b.0.k", 6 * 3, 0, 25 * 3);         /* head 1, its third row */
    lies(&x, "b.0.v", 6 * 3, 0, 30 * 3);
    lies(&x, "b.0.gu", 3 * 2, 1, 0);             /* rows 0 3 1 4 2 5, of which two are u's */
    lies(&x, "b.0.gu", 4 * 2 + 1, 0, 2 * 2 + 1);
    lies(&x, "e", 4 * 2, 0, 4 * 2);
    lies(&x, "e", 5 * 2, 1, 5 * 2);
    lies(&x, "t", 6 + 1, 0, 6 + 5);
    end(&x);
    remove_tensor(&m, "m.0.u");
    REFUSED("a missing part", &m, "toy", APR_GGUF, "m.0.u", "is not there", "gu");
    model_end(&m);
    apr_family_free(toy);
}

static void what_was_put_together_comes_apart(void **state)
{
    (void)state;
    struct model m;
    begin_toy(toy_contract);
    model_begin(&m, "gguf");
    put_rows(&m, toy_gguf);
    struct asked x = wish_for(&m, "toy", APR_HF, NULL);
    assert_int_equal(x.w.n, 5);
    is(&x, "m.0.qkv", "[32, 3] b.0.q + b.0.k + b.0.v ungroup(2,8,4,4)+split_rows(16,8,8)[rope_permute(4);rope_permute(2);]");
    is(&x, "m.0.g", "[4, 2] b.0.gu concat_rows(4,2)+regroup(2,1)");
    is(&x, "m.0.u", "[2, 2] b.0.gu concat_rows(4,2)+regroup(2,1)");
    is(&x, "m.e", "[5, 2] e scale(0.25)+pad_rows(8)");
    lies(&x, "m.0.qkv", 18 * 3 + 1, 0, 9 * 3 + 1);
    lies(&x, "m.0.qkv", 25 * 3, 1, 6 * 3);
    lies(&x, "m.0.qkv", 30 * 3, 2, 6 * 3);
    lies(&x, "m.0.u", 0, 0, 3 * 2);
    lies(&x, "m.0.g", 2 * 2 + 1, 0, 4 * 2 + 1);
    end(&x);
    model_end(&m);
    apr_family_free(toy);
}

/* ---- what others do not have ---------------------------------------------------------------------------------------- */

/* The factors are those of transformers' function for rope_type "llama3": its frequencies without scaling over those with it. */
static void frequencies_that_a_converter_makes_are_made(void **state)
{
    (void)state;
    static const float want[8] = { 1, 1, 1, 1, 2.6945302486419678f, 8, 8, 8 };
    struct model m;
    model_begin(&m, "safetensors");
    model_config(&m, CONFIG(", \"head_dim\": 16, \"rope_theta\": 500000.0, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, "
                            "\"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192}"));
    put_rows(&m, llama_hf);
    static const struct row wider[] = { { "model.layers.0.self_attn.q_proj.weight", 32, 8 },
                                        { "model.layers.0.self_attn.k_proj.weight", 16, 8 },
                                        { "model.layers.0.self_attn.v_proj.weight", 16, 8 },
                                            { "model.layers.0.self_attn.o_proj.weight", 8, 32 }, { NULL } };
    for (size_t i = 0; wider[i].name != NULL; i++)
        remove_tensor(&m, wider[i].name);
    put_rows(&m, wider);
    struct asked x = wish_for(&m, "llama", APR_GGUF, NULL);
    const struct apr_wish *const made = &x.w.wish[0];
    assert_true(apr_bytes_is(made->name, "rope_freqs.weight"));
    assert_int_equal(made->count, 8);
    assert_int_equal(made->from.n, 0);
    for (size_t i = 0; i < 8; i++)
        if (made->values[i] < want[i] * (1 - 1e-6f) || made->values[i] > want[i] * (1 + 1e-6f))
            fail_msg("factor %zu is %.9g, not %.9g", i, (double)made->values[i], (double)want[i]);
    end(&x);
    x = wish_for(&m, "llama", APR_HF, NULL); /* which config.json says there */
    assert_int_equal(x.w.n, 12);
    end(&x);
    model_end(&m);
}

static void listed_factors_are_those_of_the_configuration(void **state)
{
    (void)state;
    static const char *const list[] = { "[1.5, 2]", "[1.5]" };
    for (size_t i = 0; i < APR_LENGTH(list); i++) {
        struct model m;
        char config[1000];
        snprintf(config, sizeof config,
                 CONFIG(", \"rope_scaling\": {\"type\": \"longrope\", \"long_factor\": %s, \"short_factor\": [1, 1.25]}"), list[i]);
        begin_llama(&m, config);
        if (i == 1) {
            REFUSED("too few", &m, "llama", APR_GGUF, "no element 1", "long_factor", "2 are wanted");
        } else {
            struct asked x = wish_for(&m, "llama", APR_GGUF, NULL);
            assert_float_equal(find(&x, "rope_factors_long.weight")->values[0], 1.5, 0);
            assert_float_equal(find(&x, "rope_factors_short.weight")->values[1], 1.25, 0);
            end(&x);
        }
        model_end(&m);
    }
}

static void a_head_that_is_the_embedding_is_written_where_a_converter_writes_it(void **state)
{
    (void)state;
    static const struct row rows[] = {
        { "gpt_neox.embed_in.weight", 10, 8 }, { "gpt_neox.final_layer_norm.weight", 8 }, { "gpt_neox.final_layer_norm.bias", 8 },
        { "gpt_neox.layers.0.input_layernorm.weight", 8 }, { "gpt_neox.layers.0.input_layernorm.bias", 8 },
        { "gpt_neox.layers.0.post_attention_layernorm.weight", 8 }, { "gpt_neox.layers.0.post_attention_layernorm.bias", 8 },
        { "gpt_neox.layers.0.attention.query_key_value.weight", 24, 8 }, { "gpt_neox.layers.0.attention.query_key_value.bias", 24 },
        { "gpt_neox.layers.0.attention.dense.weight", 8, 8 }, { "gpt_neox.layers.0.attention.dense.bias", 8 },
        { "gpt_neox.layers.0.mlp.dense_h_to_4h.weight", 12, 8 }, { "gpt_neox.layers.0.mlp.dense_h_to_4h.bias", 12 },
        { "gpt_neox.layers.0.mlp.dense_4h_to_h.weight", 8, 12 }, { "gpt_neox.layers.0.mlp.dense_4h_to_h.bias", 8 }, { NULL },
    };
    struct model m;
    model_begin(&m, "safetensors");
    model_config(&m, CONFIG(", \"tie_word_embeddings\": true"));
    put_rows(&m, rows);
    struct asked x = wish_for(&m, "gptneox", APR_GGUF, NULL);
    assert_int_equal(x.w.n, 16);
    is(&x, "output.weight", "[10, 8] gpt_neox.embed_in.weight");
    is(&x, "blk.0.attn_qkv.weight", "[24, 8] gpt_neox.layers.0.attention.query_key_value.weight qkv_neox(2)");
    lies(&x, "blk.0.attn_qkv.weight", 4 * 8, 0, 12 * 8); /* row 0 of q of head 1 */
    end(&x);
    model_end(&m);
}

/* ---- faults --------------------------------------------------------------------------------------------------------- */

static void what_does_not_fit_the_family_is_named_with_what_helps(void **state)
{
    (void)state;
    static const struct { const char *what, *without; struct row more; const char *words[4]; } rows[] = {
        { "unknown", "", { "model.layers.0.extra.weight", 8 }, { "model.layers.0.extra.weight", "llama", "--drop", "--keep-names" } },
        { "missing", "model.norm.weight", { NULL }, { "model.norm.weight", "is not there", "--keep-names" } },
        { "another shape", "model.norm.weight", { "model.norm.weight", 9 }, { "model.norm.weight", "[9]", "[8]", "--keep-names" } },
        { "two dialects", "", { "blk.0.attn_q.weight", 8, 8 }, { "two dialects", "--drop" } },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct model m;
        begin_llama(&m, CONFIG());
        remove_tensor(&m, rows[i].without);
        put_rows(&m, (const struct row[]){ rows[i].more, { NULL } });
        REFUSED(rows[i].what, &m, "llama", APR_GGUF, rows[i].words[0], rows[i].words[1], rows[i].words[2], rows[i].words[3]);
        model_end(&m);
    }
}

static void what_is_spared_is_neither_missed_nor_wished_for(void **state)
{
    (void)state;
    struct model m;
    begin_llama(&m, CONFIG());
    struct asked x = wish_for(&m, "llama", APR_GGUF, "model.norm.weight");
    assert_int_equal(x.w.n, 11);
    assert_string_equal(x.w.left[0].reason, "spared");
    end(&x);
    remove_tensor(&m, "model.norm.weight");
    x = wish_for(&m, "llama", APR_GGUF, "model.norm.weight");
    assert_int_equal(x.w.n, 11);
    end(&x);
    model_end(&m);
}

static void a_size_that_nothing_tells_is_asked_for(void **state)
{
    (void)state;
    struct model m;
    begin_llama(&m, "{\"num_hidden_layers\": 1}");
    REFUSED("no sizes", &m, "llama", APR_GGUF, "is in no metadata (A, num_attention_heads in config.json)", "--config");
    model_end(&m);
}

/* ---- without a family ----------------------------------------------------------------------------------------------- */

static void without_a_family_all_is_as_it_is(void **state)
{
    (void)state;
    struct model m;
    begin_llama(&m, CONFIG());
    rename_tensor(&m, "model.norm.weight", "any name");
    struct asked x = wish_for(&m, NULL, APR_HF, NULL);
    assert_int_equal(x.w.n, 12);
    for (size_t i = 0; i < x.w.n; i++) {
        assert_true(apr_bytes_equal(x.w.wish[i].name, m.m.tensor[i].name));
        assert_true(x.w.wish[i].in->plain && x.w.wish[i].transform == NULL);
    }
    end(&x);
    model_end(&m);
}

/* The activation of Apertus: numbers that a GGUF has in keys. */
static void values_in_keys_are_left_out_and_become_tensors_again(void **state)
{
    (void)state;
    static const char *const act[] = { "alpha_n", "alpha_p", "beta", "eps" };
    static const float half = 0.5f;
    static const struct row rows[] = {
        { "token_embd.weight", 10, 8 }, { "output_norm.weight", 8 }, { "output.weight", 10, 8 }, { "blk.0.attn_norm.weight", 8 },
        { "blk.0.attn_q.weight", 8, 8 }, { "blk.0.attn_k.weight", 4, 8 }, { "blk.0.attn_v.weight", 4, 8 },
        { "blk.0.attn_output.weight", 8, 8 }, { "blk.0.attn_q_norm.weight", 4 }, { "blk.0.attn_k_norm.weight", 4 },
        { "blk.0.ffn_norm.weight", 8 }, { "blk.0.ffn_up.weight", 12, 8 }, { "blk.0.ffn_down.weight", 8, 12 }, { NULL },
    };
    struct model m;
    char key[4][32];
    model_begin(&m, "gguf");
    model_string(&m, "general.architecture", "apertus");
    model_number(&m, "apertus.block_count", 1);
    put_rows(&m, rows);
    for (size_t i = 0; i < 4; i++) {
        snprintf(key[i], sizeof key[i], "xielu.%s", act[i]);
        *model_key(&m, key[i]) = (struct apr_value){ .type = APR_META_ARRAY, .element = APR_META_F32, .encoding = APR_GGUF_LE, .n = 1,
                                                     .text = { (const unsigned char *)&half, sizeof half } };
    }
    struct asked x = wish_for(&m, "apertus", APR_HF, NULL);
    assert_int_equal(x.w.n, 13 + 4);
    assert_true(apr_bytes_is(x.w.wish[1].name, "model.layers.0.mlp.act_fn.alpha_p") && x.w.wish[1].ndim == 1);
    assert_true(apr_bytes_is(x.w.wish[3].name, "model.layers.0.mlp.act_fn.eps") && x.w.wish[3].ndim == 0 && x.w.wish[3].values[0] == half);
    end(&x);
    model_end(&m);
    model_begin(&m, "safetensors");
    model_config(&m, CONFIG(""));
    model_tensor(&m, "model.layers.0.mlp.act_fn.alpha_p", 1, 0, 0);
    REFUSED("nothing but a number", &m, "apertus", APR_GGUF, "is not there", "", "");
    model_end(&m);
}

/* An APR's index is by name; what lies first is written first. */
static void tensors_of_an_apr_are_taken_as_they_lie(void **state)
{
    (void)state;
    static const unsigned char data[64];
    struct model m;
    model_begin(&m, "apr");
    put_rows(&m, (const struct row[]){ { "a", 4 }, { "b", 4 }, { "c", 4 }, { NULL } });
    for (size_t i = 0; i < 3; i++)
        m.m.tensor[i].data = (struct apr_bytes){ data + 16 * ((i + 2) % 3), 16 };
    struct asked x = wish_for(&m, NULL, APR_HF, NULL);
    assert_true(apr_bytes_is(x.w.wish[0].name, "b") && apr_bytes_is(x.w.wish[1].name, "c") && apr_bytes_is(x.w.wish[2].name, "a"));
    end(&x);
    model_end(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checkpoint_gets_the_names_and_row_orders_of_a_gguf),
        cmocka_unit_test(a_gguf_gets_the_names_and_row_orders_of_a_checkpoint),
        cmocka_unit_test(experts_become_one_stack),
        cmocka_unit_test(matrices_that_lie_the_other_way_are_turned_and_masks_stay_behind),
        cmocka_unit_test(a_checkpoint_s_names_begin_as_its_class_writes_them),
        cmocka_unit_test(values_in_keys_are_left_out_and_become_tensors_again),
        cmocka_unit_test(parts_of_the_reference_program_are_put_together),
        cmocka_unit_test(parts_of_a_split_go_their_own_way_and_names_are_put_together),
        cmocka_unit_test(what_was_put_together_comes_apart),
        cmocka_unit_test(frequencies_that_a_converter_makes_are_made),
        cmocka_unit_test(listed_factors_are_those_of_the_configuration),
        cmocka_unit_test(a_head_that_is_the_embedding_is_written_where_a_converter_writes_it),
        cmocka_unit_test(what_does_not_fit_the_family_is_named_with_what_helps),
        cmocka_unit_test(what_is_spared_is_neither_missed_nor_wished_for),
        cmocka_unit_test(a_size_that_nothing_tells_is_asked_for),
        cmocka_unit_test(without_a_family_all_is_as_it_is),
        cmocka_unit_test(tensors_of_an_apr_are_taken_as_they_lie),
    };
    return cmocka_run_group_tests(tests, open_families, close_families);
}
