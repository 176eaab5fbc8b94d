/* lib/family/bind.h: what tensors are for in each dialect, and where sizes and other values come from. */
#include "support.h"

#include <stdio.h>

#include "bare_model.h"
#include "base/bytes.h"
#include "family/missing.h"
#include "family/terms.h"

static const struct apr_tensor *tensor(const struct model *m, const char *name)
{
    for (size_t i = 0; i < m->m.ntensor; i++)
        if (apr_bytes_is(m->m.tensor[i].name, name))
            return &m->m.tensor[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static struct apr_binding *bind(const char *name, const struct model *m, const struct apr_binding *other)
{
    struct apr_binding *b;
    struct apr_error e;
    if (apr_bind(&b, family(name), &m->m, other, &e) != APR_OK)
        fail_msg("%s", e.text);
    return b;
}

static const struct apr_role *role(const struct apr_binding *b, const char *name)
{
    const struct apr_role *r = apr_family_role(apr_binding_family(b), apr_text(name));
    if (r == NULL)
        fail_msg("no role %s", name);
    return r;
}

#define UNKNOWN UINT64_MAX

static uint64_t size(const struct apr_binding *b, const char *text)
{
    struct apr_expr *x;
    struct apr_error e;
    uint64_t n;
    if (apr_expr_new(&x, apr_text(text), &e) != APR_OK)
        fail_msg("%s", e.text);
    if (!apr_binding_size(b, x, &n))
        n = UNKNOWN;
    apr_expr_free(x);
    return n;
}

static void sizes_are(const char *what, const struct apr_binding *b, const char *const *text, const uint64_t *n)
{
    for (size_t i = 0; text[i] != NULL; i++)
        if (size(b, text[i]) != n[i])
            fail_msg("%s: %s is %lld, not %lld", what, text[i], (long long)size(b, text[i]), (long long)n[i]);
}

/* ---- meanings -------------------------------------------------------------------------------------------------------- */

static void a_name_says_role_layer_expert_and_part_in_each_dialect(void **state)
{
    (void)state;
    static const struct {
        const char *family, *format, *name, *role;
        uint32_t layer, expert;
        enum apr_dialect dialect;
        unsigned part;
    } rows[] = {
        { "llama", "safetensors", "model.layers.7.self_attn.q_proj.weight", "attn_q", 7, 0, APR_HF, 0 },
        { "llama", "safetensors", "layers.7.self_attn.q_proj.weight", "attn_q", 7, 0, APR_HF, 0 },
        { "llama", "safetensors", "language_model.model.layers.7.self_attn.q_proj.weight", "attn_q", 7, 0, APR_HF, 0 },
        { "llama", "safetensors", "lm_head.weight", "output", 0, 0, APR_HF, 0 },
        { "llama", "safetensors", "model.layers.31.block_sparse_moe.experts.6.w2.weight", "ffn_down_exps", 31, 6, APR_HF, 0 },
        { "llama", "safetensors", "blk.2.attn_k.weight", "attn_k", 2, 0, APR_GGUF, 0 },
        { "llama", "gguf", "blk.999999999.attn_k.weight", "attn_k", 999999999, 0, APR_GGUF, 0 },
        { "llama", "gguf", "rope_freqs.weight", "rope_freqs", 0, 0, APR_GGUF, 0 },
        { "llama", "gguf", "blk.1000000000.attn_k.weight", NULL, 0, 0, APR_GGUF, 0 },
        { "llama", "gguf", "blk.01.attn_k.weight", NULL, 0, 0, APR_GGUF, 0 },
        { "llama", "gguf", "blk..attn_k.weight", NULL, 0, 0, APR_GGUF, 0 },
        { "llama", "gguf", "blk.x.attn_k.weight", NULL, 0, 0, APR_GGUF, 0 },
        { "llama", "gguf", "blk.{L}.attn_k.bias.", NULL, 0, 0, APR_GGUF, 0 },
        { "llama", "gguf", "model.layers.7.self_attn.q_proj.weight", NULL, 0, 0, APR_GGUF, 0 },
        { "llama", "safetensors", "1.2.3.4.5.6.7", NULL, 0, 0, APR_HF, 0 },
        { "llama", "safetensors", "", NULL, 0, 0, APR_HF, 0 },
        { "gpt2", "safetensors", "transformer.h.3.attn.c_attn.weight", "attn_qkv", 3, 0, APR_HF, 0 },
        { "gpt2", "safetensors", "h.3.attn.c_attn.weight", "attn_qkv", 3, 0, APR_HF, 0 },
        { "gpt2", "apr", "h.3.attn.c_attn.weight", "attn_qkv", 3, 0, APR_HF, 0 },
        { "gpt2", "apr", "blk.3.attn_qkv.weight", "attn_qkv", 3, 0, APR_GGUF, 0 },
        { "gpt2", "apr", "model.layers.3.self_attn.k_proj.weight", "attn_qkv", 3, 0, APR_REFERENCE, 1 },
        { "gpt2", "apr", "model.layers.3.self_attn.v_proj.bias", "attn_qkv_bias", 3, 0, APR_REFERENCE, 2 },
        { "deepseek2", "gguf", "blk.1.attn_v_b.weight", "attn_kv_b", 1, 0, APR_GGUF, 1 },
        { "bert", "safetensors", "bert.embeddings.LayerNorm.gamma", "token_embd_norm", 0, 0, APR_HF, 0 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct model m;
        struct apr_meaning meaning;
        model_begin(&m, rows[i].format);
        model_tensor(&m, rows[i].name, 4, 4, 0);
        struct apr_binding *b = bind(rows[i].family, &m, NULL);
        const bool candidate = apr_binding_meaning(b, &m.m.tensor[0], 0, &meaning);
        if (candidate != (rows[i].role != NULL))
            fail_msg("%s in %s: candidate %d", rows[i].name, rows[i].family, candidate);
        if (candidate && (!apr_bytes_is(meaning.role->name, rows[i].role) || meaning.layer != rows[i].layer ||
                       meaning.expert != rows[i].expert ||
                       meaning.dialect != rows[i].dialect || meaning.part != rows[i].part))
            fail_msg("%s in %s: %.*s, layer %u, expert %u, dialect %d, part %u", rows[i].name, rows[i].family, (int)meaning.role->name.n,
                     (const char *)meaning.role->name.at, meaning.layer, meaning.expert, (int)meaning.dialect, meaning.part);
        if (candidate)
            assert_ptr_equal(apr_binding_find(b, &meaning), &m.m.tensor[0]);
        apr_binding_free(b);
        model_end(&m);
    }
}

/* Falcon 40B has two norms, and what others call attn_norm is its ln_mlp. */
static void of_roles_that_share_a_name_the_one_whose_condition_holds_is_first(void **state)
{
    (void)state;
    for (unsigned norms = 1; norms < 3; norms++) {
        struct model m;
        struct apr_meaning first, second;
        model_begin(&m, "gguf");
        model_string(&m, "general.architecture", "falcon");
        model_tensor(&m, "token_embd.weight", 9, 4, 0);
        model_tensor(&m, "blk.0.attn_norm.weight", 4, 0, 0);
        if (norms == 2)
            model_tensor(&m, "blk.0.attn_norm_2.weight", 4, 0, 0);
        struct apr_binding *b = bind("falcon", &m, NULL);
        const struct apr_tensor *t = tensor(&m, "blk.0.attn_norm.weight");
        assert_true(apr_binding_meaning(b, t, 0, &first) && apr_binding_meaning(b, t, 1, &second) && !apr_binding_meaning(b, t, 2, &first));
        assert_true(apr_binding_meaning(b, t, 0, &first));
        assert_ptr_equal(first.role, role(b, norms == 2 ? "attn_norm_mlp" : "attn_norm"));
        assert_ptr_equal(second.role, role(b, norms == 2 ? "attn_norm" : "attn_norm_mlp"));
        assert_ptr_equal(apr_binding_find(b, &first), t); /* whichever place they took, both are found */
        assert_ptr_equal(apr_binding_find(b, &second), t);
        apr_binding_free(b);
        model_end(&m);
    }
}

static void parts_are_complete_or_none(void **state)
{
    (void)state;
    const struct apr_tensor *part[8];
    struct model m, split;
    model_begin(&m, "safetensors");
    model_config(&m, "{\"num_local_experts\": 3}");
    model_tensor(&m, "model.layers.0.block_sparse_moe.experts.2.w1.weight", 6, 4, 0);
    model_tensor(&m, "model.layers.0.block_sparse_moe.experts.0.w1.weight", 6, 4, 0);
    model_tensor(&m, "model.layers.0.block_sparse_moe.experts.1.w1.weight", 6, 4, 0);
    model_tensor(&m, "model.layers.1.block_sparse_moe.experts.0.w1.weight", 6, 4, 0);
    model_tensor(&m, "model.layers.1.block_sparse_moe.experts.2.w1.weight", 6, 4, 0);
    struct apr_binding *b = bind("llama", &m, NULL);
    const struct apr_role *gate = role(b, "ffn_gate_exps");
    assert_int_equal(apr_binding_parts(b, gate, 0, part, 8), 3);
    assert_true(part[0] == &m.m.tensor[1] && part[1] == &m.m.tensor[2] && part[2] == &m.m.tensor[0]);
    assert_int_equal(apr_binding_parts(b, gate, 0, part, 2), 0);
    assert_int_equal(apr_binding_parts(b, gate, 1, part, 8), 0);
    assert_int_equal(apr_binding_parts(b, gate, 2, part, 8), 0);
    assert_int_equal(apr_binding_dialect(b, gate, 0), APR_HF);
    assert_int_equal(apr_binding_dialect(b, gate, 2), APR_NDIALECTS);
    apr_binding_free(b);
    model_end(&m);

    model_begin(&split, "apr");
    model_tensor(&split, "model.layers.0.self_attn.v_proj.weight", 4, 4, 0);
    model_tensor(&split, "model.layers.0.self_attn.q_proj.weight", 4, 4, 0);
    model_tensor(&split, "model.layers.0.self_attn.k_proj.weight", 4, 4, 0);
    model_tensor(&split, "model.layers.1.self_attn.q_proj.weight", 4, 4, 0);
    b = bind("gpt2", &split, NULL);
    const struct apr_role *qkv = role(b, "attn_qkv");
    assert_int_equal(apr_binding_parts(b, qkv, 0, part, 8), 3);
    assert_true(part[0] == &split.m.tensor[1] && part[1] == &split.m.tensor[2] && part[2] == &split.m.tensor[0]);
    assert_int_equal(apr_binding_parts(b, qkv, 1, part, 8), 0);
    assert_int_equal(apr_binding_dialect(b, qkv, 0), APR_REFERENCE);
    apr_binding_free(b);
    model_end(&split);
}

/* An E that a file invents makes no loop. */
static void a_hostile_number_of_experts_is_no_part(void **state)
{
    (void)state;
    const struct apr_tensor *part[8];
    struct model m;
    model_begin(&m, "safetensors");
    model_config(&m, "{\"num_local_experts\": 9007199254740991}");
    model_tensor(&m, "model.layers.0.block_sparse_moe.experts.0.w1.weight", 6, 4, 0);
    struct apr_binding *b = bind("llama", &m, NULL);
    assert_int_equal(apr_binding_parts(b, role(b, "ffn_gate_exps"), 0, part, 8), 0);
    apr_binding_free(b);
    model_end(&m);
}

/* DeepSeek's last layer predicts further tokens: "model.layers.{N}.*" is dropped. */
static void skip_globs_know_dims(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m, "safetensors");
    model_config(&m, "{\"num_hidden_layers\": 2}");
    model_tensor(&m, "model.layers.1.input_layernorm.weight", 4, 0, 0);
    model_tensor(&m, "model.layers.2.input_layernorm.weight", 4, 0, 0);
    model_tensor(&m, "model.layers.1.rotary_emb.inv_freq", 4, 0, 0);
    struct apr_binding *b = bind("deepseek2", &m, NULL);
    assert_false(apr_binding_skips(b, &m.m.tensor[0]));
    assert_true(apr_binding_skips(b, &m.m.tensor[1]));
    assert_true(apr_binding_skips(b, &m.m.tensor[2]));
    apr_binding_free(b);
    m.m.config = NULL;
    b = bind("deepseek2", &m, NULL);
    assert_false(apr_binding_skips(b, &m.m.tensor[1])); /* nobody says what N is */
    assert_true(apr_binding_skips(b, &m.m.tensor[2]));
    apr_binding_free(b);
    model_end(&m);
}

/* ---- sizes -------------------------------------------------------------------------------------------------------- */

static const char *const llama_sizes[] = { "A", "K", "D", "H", "N", "F", "V", "theta", NULL };

static void sizes_come_from_what_the_model_says(void **state)
{
    (void)state;
    struct model hf, gguf, apr;
    model_begin(&hf, "safetensors");
    model_config(&hf, "{\"num_attention_heads\": 8, \"num_key_value_heads\": 2, \"hidden_size\": 64, \"num_hidden_layers\": 3,"
                      " \"intermediate_size\": 96, \"vocab_size\": 50, \"rope_parameters\": {\"rope_theta\": 500000.0}}");
    struct apr_binding *b = bind("llama", &hf, NULL);
    sizes_are("config.json", b, llama_sizes, (const uint64_t[]){ 8, 2, 8, 64, 3, 96, 50, 500000 });
    apr_binding_free(b);

    model_begin(&gguf, "gguf");
    model_string(&gguf, "general.architecture", "llama");
    model_number(&gguf, "llama.attention.head_count", 8);
    model_number(&gguf, "llama.block_count", 3);
    model_number(&gguf, "llama.embedding_length", 64);
    model_number(&gguf, "qwen2.feed_forward_length", 99);
    model_tensor(&gguf, "token_embd.weight", 50, 64, 0);
    b = bind("llama", &gguf, NULL);
    sizes_are("GGUF", b, llama_sizes, (const uint64_t[]){ 8, 8, 8, 64, 3, UNKNOWN, 50, 10000 });
    apr_binding_free(b);

    model_begin(&apr, "apr");
    model_string(&apr, "architecture", "llama");
    model_number(&apr, "num_heads", 8);
    model_number(&apr, "num_kv_heads", 4);
    model_number(&apr, "hidden_size", 64);
    b = bind("llama", &apr, NULL);
    sizes_are("APR", b, llama_sizes, (const uint64_t[]){ 8, 4, 8, 64, UNKNOWN, UNKNOWN, UNKNOWN, 10000 });
    apr_binding_free(b);
    model_end(&hf);
    model_end(&gguf);
    model_end(&apr);
}

static void a_bare_file_learns_from_its_shapes_and_from_the_other(void **state)
{
    (void)state;
    struct model bare, gguf;
    model_begin(&bare, "safetensors");
    model_tensor(&bare, "model.embed_tokens.weight", 50, 64, 0);
    model_tensor(&bare, "model.layers.0.mlp.gate_proj.weight", 96, 64, 0);
    model_begin(&gguf, "gguf");
    model_string(&gguf, "general.architecture", "llama");
    model_number(&gguf, "llama.attention.head_count", 8);
    model_number(&gguf, "llama.attention.head_count_kv", 2);
    model_number(&gguf, "llama.feed_forward_length", 100);
    struct apr_binding *alone = bind("llama", &bare, NULL), *other = bind("llama", &gguf, NULL), *b = bind("llama", &bare, other);
    sizes_are("alone", alone, llama_sizes, (const uint64_t[]){ UNKNOWN, UNKNOWN, UNKNOWN, 64, UNKNOWN, 96, 50, 10000 });
    sizes_are("with the other", b, llama_sizes, (const uint64_t[]){ 8, 2, 8, 64, UNKNOWN, 96, 50, 10000 });
    apr_binding_free(other);
    apr_binding_free(alone);
    struct apr_binding *of_another = bind("qwen2", &gguf, NULL), *c = bind("llama", &bare, of_another);
    assert_int_equal(size(c, "A"), UNKNOWN);
    apr_binding_free(of_another);
    apr_binding_free(c);
    apr_binding_free(b);
    model_end(&bare);
    model_end(&gguf);
}

/* RoBERTa's GGUF lacks the first rows of the positions, which only config.json tells. */
static void what_one_model_is_told_counts_before_the_defaults_of_the_other(void **state)
{
    (void)state;
    static const char *const text[] = { "rows", "skipped", "kept", NULL };
    struct model hf, gguf;
    char config[] = "{\"model_type\": \"roberta\", \"max_position_embeddings\": 514, \"pad_token_id\": 1}";
    model_begin(&hf, "safetensors");
    model_config(&hf, config);
    model_begin(&gguf, "gguf");
    model_string(&gguf, "general.architecture", "bert");
    model_number(&gguf, "bert.context_length", 512);
    struct apr_binding *other = bind("bert", &hf, NULL), *b = bind("bert", &gguf, other);
    apr_binding_free(other);
    memset(config, 'x', sizeof config - 1); /* b keeps no view of it */
    sizes_are("RoBERTa", b, text, (const uint64_t[]){ 514, 2, 512 });
    assert_int_equal(size(b, "if(kind == 'roberta', 1, 0)"), 1);
    apr_binding_free(b);
    model_end(&hf);
    model_end(&gguf);
}

/* A classifier alone is cls.output in a GGUF that names its labels, else cls; an APR keeps their key and HuggingFace's name. */
static void a_classifier_is_called_by_what_a_gguf_said_of_its_labels(void **state)
{
    (void)state;
    static const struct {
        const char *format, *tensor, *labels, *config, *role;
    } rows[] = {
        { "gguf", "cls.weight", NULL, NULL, "cls_bare" },
        { "gguf", "cls.output.weight", "a", NULL, "cls_plain" },
        { "apr", "classifier.weight", "a", NULL, "cls_plain" },
        { "apr", "classifier.weight", NULL, NULL, "cls_bare" },
        { "safetensors", "classifier.weight", NULL, "{\"id2label\":{\"0\":\"a\"}}", "cls_plain" },
        { "safetensors", "classifier.weight", NULL, "{\"id2label\":{\"0\":\"LABEL_0\"}}", "cls_plain" },
        { "safetensors", "classifier.weight", NULL, "{\"id2label\":{\"0\":\"LABEL_0\",\"1\":\"LABEL_1\"}}", "cls_bare" },
        { "safetensors", "classifier.weight", NULL, "{\"id2label\":{\"0\":\"no\",\"1\":\"yes\"}}", "cls_plain" },
        { "safetensors", "classifier.weight", NULL, "{\"id2label\":{\"0\":\"LABEL_0\",\"1\":\"LABEL_1\",\"2\":\"LABEL_2\"}}", "cls_plain" },
        { "safetensors", "classifier.weight", NULL, "{}", "cls_bare" },
        { "safetensors", "classifier.dense.weight", NULL, "{}", "cls" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct model m;
        struct apr_meaning meaning;
        model_begin(&m, rows[i].format);
        if (rows[i].config != NULL)
            model_config(&m, rows[i].config);
        else
            model_string(&m, "general.architecture", "bert");
        if (rows[i].labels != NULL)
            model_string(&m, "bert.classifier.output_labels", rows[i].labels);
        model_tensor(&m, rows[i].tensor, 3, 32, 0);
        struct apr_binding *const b = bind("bert", &m, NULL);
        assert_true(apr_binding_meaning(b, m.m.tensor, 0, &meaning));
        if (!apr_bytes_is(meaning.role->name, rows[i].role))
            fail_msg("%zu: %s is %.*s", i, rows[i].tensor, APR_PRINTED(meaning.role->name));
        apr_binding_free(b);
        model_end(&m);
    }
}

static void formulas_come_before_shapes_and_rows_tell_their_number(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m, "gguf");
    model_string(&m, "general.architecture", "falcon");
    model_number(&m, "falcon.embedding_length", 64);
    model_tensor(&m, "blk.0.ffn_up.weight", 255, 64, 0);
    struct apr_binding *b = bind("falcon", &m, NULL);
    assert_int_equal(size(b, "F"), 256);
    apr_binding_free(b);
    model_end(&m);
    model_begin(&m, "gguf");
    model_string(&m, "general.architecture", "gemma3");
    model_tensor(&m, "token_embd.weight", 262144, 64, 0);
    b = bind("gemma3", &m, NULL);
    assert_int_equal(size(b, "T"), 262144);
    assert_int_equal(size(b, "V"), 262144);
    assert_int_equal(size(b, "A"), 8);
    apr_binding_free(b);
    model_end(&m);
}

static void conditions_see_tensors_metadata_and_configuration(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m, "gguf");
    model_string(&m, "general.architecture", "llama");
    model_tensor(&m, "output.weight", 50, 64, 0);
    model_tensor(&m, "rope_freqs.weight", 4, 0, 0);
    struct apr_binding *b = bind("llama", &m, NULL);
    static const struct { const char *text; uint64_t n; } rows[] = {
        { "has(tensors.output)", 1 }, { "has(tensors.token_embd)", 0 }, { "has(tensors.nothing)", 0 }, { "has(general.architecture)", 1 },
        { "has(general)", 0 }, { "has(tensors)", 0 }, { "tied", 0 }, { "if(rope_kind == 'llama3', 1, 0)", 1 }, { "attn_bias", 0 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        if (size(b, rows[i].text) != rows[i].n)
            fail_msg("%s", rows[i].text);
    apr_binding_free(b);
    model_end(&m);
}

static void hostile_values_are_not_known(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m, "gguf");
    model_string(&m, "general.architecture", "llama");
    model_string(&m, "llama.attention.head_count", "eight");
    *model_key(&m, "llama.embedding_length") = (struct apr_value){ .type = APR_META_F32, .f = __builtin_nan("") };
    *model_key(&m, "llama.feed_forward_length") = (struct apr_value){ .type = APR_META_I32, .i = -5 };
    *model_key(&m, "llama.block_count") = (struct apr_value){ .type = APR_META_F64, .f = 1e300 };
    struct apr_binding *b = bind("llama", &m, NULL);
    sizes_are("hostile", b, llama_sizes, (const uint64_t[]){ UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, 10000 });
    uint64_t dim[APR_MAX_DIMS];
    unsigned ndim;
    assert_false(apr_binding_shape(b, role(b, "attn_q"), dim, &ndim));
    apr_binding_free(b);
    model_end(&m);
}

/* ---- layers unlike each other --------------------------------------------------------------------------------------- */

/* Every third layer attends; it has key/value heads, the others a convolution. Both norms are called norm. */
static const char hybrid[] =
    "schema: apr-family/1\n"
    "family: hybrid\n"
    "dims:\n"
    "  N: {keys: [num_layers]}\n"
    "  H: {keys: [hidden_size]}\n"
    "  K: {keys: [kv_heads]}\n"
    "  first_kind: {default: \"first(at(layer_types, 0), 'none')\", type: str}\n"
    "  padded: \"first(at(sections, 3), 7)\"\n"
    "  scalar: value(hidden_size)\n"
    "tensors:\n"
    "  - {role: q, hf: \"l.{L}.q\", gguf: \"blk.{L}.q\", shape: [H], where: \"at(kv_heads, layer) > 0\"}\n"
    "  - {role: conv, hf: \"l.{L}.conv\", gguf: \"blk.{L}.conv\", shape: [H], where: \"at(kv_heads, layer) == 0\"}\n"
    "  - {role: attn_norm, hf: \"l.{L}.norm\", gguf: \"blk.{L}.norm\", shape: [H], where: \"at(kv_heads, layer) > 0\"}\n"
    "  - {role: conv_norm, hf: \"l.{L}.norm\", gguf: \"blk.{L}.norm\", shape: [2 * H], where: \"at(kv_heads, layer) == 0\"}\n"
    "kv:\n"
    "  - {gguf: \"{a}.block_count\", type: u32, expr: N}\n"
    "  - {gguf: \"{a}.embedding_length\", type: u32, expr: H}\n"
    "  - {gguf: \"{a}.attention.head_count_kv\", type: arr_i32, each: \"at(kv_heads, layer)\", hf: kv_heads, fills: K}\n";

static struct apr_binding *bind_hybrid(struct apr_family **f, const struct model *m)
{
    struct apr_binding *b;
    struct apr_error e;
    if (apr_family_parse(f, "hybrid.yaml", apr_text(hybrid), &e) != APR_OK || apr_bind(&b, *f, &m->m, NULL, &e) != APR_OK)
        fail_msg("%s", e.text);
    return b;
}

static bool note_missing(void *text, const struct apr_meaning *what, struct apr_bytes name)
{
    (void)what;
    snprintf((char *)text + strlen(text), 200 - strlen(text), "%.*s ", APR_PRINTED(name));
    return true;
}

/* The list of key/value heads: 0 2 0 4, or one number for all. */
static void hybrid_model(struct model *m, bool gguf, const struct apr_value *list)
{
    model_begin(m, gguf ? "gguf" : "safetensors");
    if (gguf) {
        model_string(m, "general.architecture", "hybrid");
        model_number(m, "hybrid.block_count", 4);
        model_number(m, "hybrid.embedding_length", 8);
        *model_key(m, "hybrid.attention.head_count_kv") = *list;
    } else {
        model_config(m, "{\"num_layers\": 4, \"hidden_size\": 8, \"kv_heads\": [0, 2, null, 4], \"layer_types\": [\"conv\"], "
                        "\"sections\": [1, 2]}");
    }
    model_tensor(m, gguf ? "blk.0.norm" : "l.0.norm", 16, 0, 0);
    model_tensor(m, gguf ? "blk.1.norm" : "l.1.norm", 8, 0, 0);
    model_tensor(m, gguf ? "blk.1.q" : "l.1.q", 8, 0, 0);
    model_tensor(m, gguf ? "blk.0.q" : "l.0.q", 8, 0, 0); /* where it should not be */
}

static void a_role_is_in_the_layers_in_which_its_condition_holds(void **state)
{
    (void)state;
    static const unsigned char numbers[16] = { 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 4 };
    const struct apr_value list = { .type = APR_META_ARRAY, .element = APR_META_I32, .n = 4, .text = { numbers, sizeof numbers } };
    for (int gguf = 0; gguf < 2; gguf++) {
        struct model m;
        struct apr_family *f;
        struct apr_meaning s;
        char missing[200] = "";
        hybrid_model(&m, gguf, &list);
        struct apr_binding *b = bind_hybrid(&f, &m);
        assert_true(apr_binding_meaning(b, &m.m.tensor[0], 0, &s) && !apr_binding_meaning(b, &m.m.tensor[0], 1, &s));
        assert_true(apr_binding_meaning(b, &m.m.tensor[0], 0, &s));
        assert_ptr_equal(s.role, role(b, "conv_norm"));
        assert_true(apr_binding_meaning(b, &m.m.tensor[1], 0, &s));
        assert_ptr_equal(s.role, role(b, "attn_norm"));
        assert_true(apr_binding_dialect(b, role(b, "attn_norm"), 0) == APR_NDIALECTS);
        assert_true(apr_binding_meaning(b, &m.m.tensor[3], 0, &s) && !apr_binding_in_layer(b, s.role, 0, true));
        assert_true(apr_binding_in_layer(b, s.role, 1, false) && apr_binding_in_layer(b, s.role, 9, true));
        assert_false(apr_binding_in_layer(b, s.role, 9, false));
        apr_binding_missing(b, gguf ? APR_GGUF : APR_HF, 4, note_missing, missing);
        assert_string_equal(missing, gguf ? "blk.3.q blk.0.conv blk.2.conv blk.3.norm blk.2.norm " : "l.3.q l.0.conv l.3.norm ");
        assert_int_equal(size(b, "K"), 4); /* the largest */
        assert_int_equal(size(b, "padded"), 7);
        assert_int_equal(size(b, "scalar"), 8);
        assert_int_equal(size(b, gguf ? "first_kind == 'none'" : "first_kind == 'conv'"), 1);
        apr_binding_free(b);
        apr_family_free(f);
        model_end(&m);
    }
}

/* What neither config.json nor metadata tells, shapes and names may: how a tensor lies, in which layers a role is. */
static const char by_shape[] =
    "schema: apr-family/1\n"
    "family: by_shape\n"
    "dims:\n"
    "  N: {keys: [num_layers], default: 22}\n"
    "  H: {keys: [hidden_size]}\n"
    "  F: {keys: [width], default: 4}\n"
    "  flat: {default: \"first(at(tensors.wide, 0) == H, 0)\"}\n"
    "layers:\n"
    "  attends: \"first(at(layer_types, layer) == 'attention', has(tensors.q, layer))\"\n"
    "tensors:\n"
    "  - {role: norm, hf: norm, gguf: norm, shape: [H]}\n"
    "  - {role: wide, hf: w, gguf: w, shape: [F, H], transform: {op: transpose}, when: not flat}\n"
    "  - {role: flat, hf: w, gguf: w, shape: [H, F], when: flat}\n"
    "  - {role: q, hf: \"l.{L}.q\", gguf: \"blk.{L}.q\", shape: [H], where: attends}\n"
    "  - {role: k, hf: \"l.{L}.k\", gguf: \"blk.{L}.k\", shape: [H], where: attends}\n"
    "  - {role: conv, hf: \"l.{L}.conv\", gguf: \"blk.{L}.conv\", shape: [F], where: not attends}\n"
    "  - {role: few, hf: \"l.{L}.few\", gguf: \"blk.{L}.few\", shape: [H], layers: [0, F]}\n"
    "  - {role: more, hf: \"l.{L}.more\", gguf: \"blk.{L}.more\", shape: [H], when: F > 3}\n";

static void what_no_word_tells_shapes_and_names_do(void **state)
{
    (void)state;
    for (int bare = 0; bare < 2; bare++) {
        struct model m;
        struct apr_family *f;
        struct apr_binding *b;
        struct apr_meaning s;
        struct apr_error e;
        char missing[200] = "";
        model_begin(&m, "safetensors");
        if (!bare)
            model_config(&m, "{\"hidden_size\": 8, \"layer_types\": [\"conv\", \"attention\"]}");
        model_tensor(&m, "norm", 8, 0, 0);
        model_tensor(&m, "w", 8, 3, 0);
        model_tensor(&m, "l.1.q", 8, 0, 0);
        assert_int_equal(apr_family_parse(&f, "by_shape.yaml", apr_text(by_shape), &e), APR_OK);
        assert_int_equal(apr_bind(&b, f, &m.m, NULL, &e), APR_OK);
        assert_true(apr_binding_meaning(b, &m.m.tensor[1], 0, &s));
        assert_ptr_equal(s.role, role(b, "flat"));
        assert_true(apr_binding_in_layer(b, role(b, "q"), 1, false) && !apr_binding_in_layer(b, role(b, "q"), 0, true));
        assert_true(apr_binding_told(b, apr_text("H")) && apr_binding_told(b, apr_text("flat")) && !apr_binding_told(b, apr_text("N")));
        assert_false(apr_binding_guesses_role(b, role(b, "norm")));
        assert_true(apr_binding_guesses_role(b, role(b, "conv")) == bare);
        apr_binding_missing(b, APR_HF, 2, note_missing, missing);
        assert_string_equal(missing, bare ? "l.1.k l.0.conv " : "l.1.k l.0.conv l.0.few l.1.few l.0.more l.1.more ");
        apr_binding_free(b);
        apr_family_free(f);
        model_end(&m);
    }
}

/* Two main layers, and behind them two that predict further tokens, which a checkpoint counts anew. */
static const char further[] =
    "schema: apr-family/1\n"
    "family: further\n"
    "names: {further: {from: mtp.l., to: l., by: main}}\n"
    "dims:\n"
    "  main: {keys: [num_layers], default: 2}\n"
    "  N: main + 2\n"
    "  H: {keys: [hidden_size], default: 8}\n"
    "tensors:\n"
    "  - {role: q, hf: \"l.{L}.q\", gguf: \"blk.{L}.q\", shape: [H]}\n"
    "  - {role: fc, hf: mtp.fc, gguf: \"blk.{L}.fc\", shape: [H], layers: [main, main + 1]}\n";

static void layers_that_are_counted_anew_stand_behind_the_others(void **state)
{
    (void)state;
    static const struct { const char *hf, *gguf; uint32_t layer; } rows[] = {
        { "l.0.q", "blk.0.q", 0 }, { "l.1.q", "blk.1.q", 1 }, { "mtp.l.0.q", "blk.2.q", 2 }, { "mtp.l.1.q", "blk.3.q", 3 },
        { "mtp.fc", "blk.2.fc", 2 },
    };
    for (int gguf = 0; gguf < 2; gguf++) {
        struct model m;
        struct apr_family *f;
        struct apr_binding *b;
        struct apr_error e;
        char missing[200] = "";
        model_begin(&m, gguf ? "gguf" : "safetensors");
        for (size_t i = 0; i < APR_LENGTH(rows); i++)
            model_tensor(&m, gguf ? rows[i].gguf : rows[i].hf, 8, 0, 0);
        if (apr_family_parse(&f, "further.yaml", apr_text(further), &e) != APR_OK || apr_bind(&b, f, &m.m, NULL, &e) != APR_OK)
            fail_msg("%s", e.text);
        for (size_t i = 0; i < APR_LENGTH(rows); i++) {
            struct apr_meaning s;
            char name[64];
            assert_true(apr_binding_meaning(b, &m.m.tensor[i], 0, &s));
            assert_int_equal(s.layer, rows[i].layer);
            s.dialect = APR_HF;
            assert_true(apr_binding_spell(b, &s, name, sizeof name) > 0);
            assert_string_equal(name, rows[i].hf);
            assert_int_equal(apr_binding_spell(b, &s, name, 4), 0);
            s.dialect = APR_GGUF;
            assert_true(apr_binding_spell(b, &s, name, sizeof name) > 0);
            assert_string_equal(name, rows[i].gguf);
        }
        apr_binding_missing(b, APR_HF, 4, note_missing, missing);
        assert_string_equal(missing, "");
        apr_binding_free(b);
        apr_family_free(f);
        model_end(&m);
    }
}

static void a_number_stands_for_a_list_of_it(void **state)
{
    (void)state;
    struct model m;
    struct apr_family *f;
    const struct apr_value number = { .type = APR_META_U32, .u = 3 };
    hybrid_model(&m, true, &number);
    struct apr_binding *b = bind_hybrid(&f, &m);
    for (unsigned layer = 0; layer < 4; layer++)
        assert_true(apr_binding_in_layer(b, role(b, "q"), layer, false) && !apr_binding_in_layer(b, role(b, "conv"), layer, true));
    assert_int_equal(size(b, "K"), 3);
    assert_int_equal(size(b, "at(attention.head_count_kv, 2) + at(hybrid.attention.head_count_kv, 9)"), 6);
    apr_binding_free(b);
    apr_family_free(f);
    model_end(&m);
}

/* Each names the one above twice: 2 to the power of 45 ways lead to the last. */
static void a_term_is_worked_out_once_however_often_it_is_named(void **state)
{
    (void)state;
    struct test_bytes text = { 0 };
    struct apr_family *f;
    struct apr_binding *b;
    struct apr_error e;
    struct model m;
    test_text(&text, "schema: apr-family/1\nfamily: terms\ndims:\n  H: 1\ntensors:\n  - {role: w, hf: w, shape: [H]}\nforward:\n");
    for (unsigned i = 0; i < APR_NTERMS; i++) {
        char line[128];
        snprintf(line, sizeof line, i == 0 ? "  %s: 1\n" : "  %s: %s + %s\n", apr_term_words[i], apr_term_words[i - (i > 0)],
                 apr_term_words[i - (i > 0)]);
        test_text(&text, line);
    }
    model_begin(&m, "safetensors");
    if (apr_family_parse(&f, "terms.yaml", (struct apr_bytes){ text.at, text.n }, &e) != APR_OK ||
        apr_bind(&b, f, &m.m, NULL, &e) != APR_OK)
        fail_msg("%s", e.text);
    const struct apr_result r = apr_term(b, APR_NTERMS - 1, 0);
    assert_true(r.known && r.number == (double)(UINT64_C(1) << (APR_NTERMS - 1)));
    apr_binding_free(b);
    apr_family_free(f);
    model_end(&m);
    test_free(&text);
}

/* ---- tied heads --------------------------------------------------------------------------------------------------- */

static void a_head_is_tied_where_none_is_stored_and_none_is_due(void **state)
{
    (void)state;
    static const struct { const char *what, *format, *config; bool embedding, head, tied; } rows[] = {
        { "a GGUF without", "gguf", NULL, true, false, true },
        { "a GGUF with", "gguf", NULL, true, true, false },
        { "a GGUF without both", "gguf", NULL, false, false, false },
        { "a checkpoint that says so", "safetensors", "{\"tie_word_embeddings\": true}", true, false, true },
        { "a checkpoint that stores it all the same", "safetensors", "{\"tie_word_embeddings\": true}", true, true, false },
        { "a checkpoint that denies it", "safetensors", "{\"tie_word_embeddings\": false}", true, false, false },
        { "a checkpoint that says nothing", "safetensors", "{}", true, false, true },
        { "a headless class", "safetensors", "{\"tie_word_embeddings\": false, \"architectures\": [\"LlamaModel\"]}", true, false, true },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct model m;
        model_begin(&m, rows[i].format);
        if (rows[i].config != NULL)
            model_config(&m, rows[i].config);
        if (rows[i].embedding)
            model_tensor(&m, rows[i].config == NULL ? "token_embd.weight" : "model.embed_tokens.weight", 50, 64, 0);
        if (rows[i].head)
            model_tensor(&m, rows[i].config == NULL ? "output.weight" : "lm_head.weight", 50, 64, 0);
        struct apr_binding *b = bind("llama", &m, NULL);
        if (apr_binding_tied(b) != rows[i].tied)
            fail_msg("%s", rows[i].what);
        apr_binding_free(b);
        model_end(&m);
    }
}

/* T5 has one embedding, and files that have it up to three times. */
static void of_two_spellings_of_the_same_bytes_the_first_counts(void **state)
{
    (void)state;
    static const unsigned char bytes[2][16] = { { 1 }, { 2 } };
    static const struct { const char *name; unsigned bytes; bool second; } rows[] = {
        { "decoder.embed_tokens.weight", 0, false },
        { "encoder.embed_tokens.weight", 0, true },
        { "shared.weight", 1, false },
        { "lm_head.weight", 0, false },
    };
    struct model m;
    struct apr_meaning meaning;
    model_begin(&m, "safetensors");
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        model_tensor(&m, rows[i].name, 2, 2, 0);
        m.m.tensor[i].data = (struct apr_bytes){ bytes[rows[i].bytes], 16 };
    }
    struct apr_binding *const b = bind("t5", &m, NULL);
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        assert_true(apr_binding_meaning(b, &m.m.tensor[i], 0, &meaning));
        if (apr_binding_is_second(b, &meaning, &m.m.tensor[i]) != rows[i].second)
            fail_msg("%s", rows[i].name);
    }
    apr_binding_free(b);
    model_end(&m);
}

/* ---- chains ------------------------------------------------------------------------------------------------------- */

/* "rope_permute 8; ..." */
static void chain_is(const struct apr_binding *b, const char *name, enum apr_dialect dialect, const char *expected)
{
    struct apr_transform t[APR_MAX_STEPS];
    struct apr_error e;
    char text[256] = "";
    size_t n;
    if (apr_binding_chain(b, role(b, name), dialect, t, &n, &e) != APR_OK)
        fail_msg("%s: %s", name, e.text);
    for (size_t i = 0; i < n; i++) {
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i > 0 ? "; " : "", apr_op_word(t[i].op));
        for (unsigned k = 0; k < t[i].nn; k++)
            snprintf(text + strlen(text), sizeof text - strlen(text), " %llu", (unsigned long long)t[i].n[k]);
    }
    assert_string_equal(text, expected);
}

static void chains_lead_to_each_dialect(void **state)
{
    (void)state;
    struct model m;
    model_begin(&m, "safetensors");
    model_config(&m, "{\"num_attention_heads\": 8, \"num_key_value_heads\": 2}");
    struct apr_binding *b = bind("llama", &m, NULL);
    chain_is(b, "attn_q", APR_HF, "");
    chain_is(b, "attn_q", APR_GGUF, "rope_permute 8");
    chain_is(b, "attn_k", APR_GGUF, "rope_permute 2");
    chain_is(b, "attn_v", APR_GGUF, "");
    apr_binding_free(b);
    m.m.config = NULL;
    struct apr_transform t[APR_MAX_STEPS];
    struct apr_error e;
    size_t n;
    b = bind("llama", &m, NULL);
    assert_int_equal(apr_binding_chain(b, role(b, "attn_q"), APR_GGUF, t, &n, &e), APR_EARG);
    assert_non_null(strstr(e.text, "attn_q"));
    assert_non_null(strstr(e.text, "families/llama.yaml"));
    apr_binding_free(b);
    model_end(&m);
}

/* The reference keeps Conv1D matrices as they come, but not those that it took from a GGUF: mlp.up_proj tells. */
static void the_references_gpt2_is_cut_the_way_it_lies(void **state)
{
    (void)state;
    for (unsigned turned = 0; turned < 2; turned++) {
        struct model m;
        model_begin(&m, "apr");
        model_number(&m, "hidden_size", 64);
        model_tensor(&m, "model.layers.0.self_attn.o_proj.weight", 64, 64, 0);
        model_tensor(&m, "model.layers.0.mlp.up_proj.weight", turned ? 256 : 64, turned ? 64 : 256, 0);
        struct apr_binding *b = bind("gpt2", &m, NULL);
        chain_is(b, "attn_qkv", APR_REFERENCE, turned ? "transpose; split_rows 64 64 64" : "split_cols 64 64 64");
        chain_is(b, "attn_qkv_bias", APR_REFERENCE, "split_cols 64 64 64");
        chain_is(b, "ffn_up", APR_REFERENCE, turned ? "transpose" : "");
        chain_is(b, "attn_qkv", APR_GGUF, "transpose");
        apr_binding_free(b);
        model_end(&m);
    }
}

/* ---- other values --------------------------------------------------------------------------------------------------- */

/* One value of one model. key: of its metadata, a text where value is NULL, else that number. wanted: the number as printed, or the text,
 * NULL when nothing tells it. */
struct told {
    const char *family, *format, *config, *key;
    double      number;
    const char *text, *name, *wanted;
};

static void is_told(const struct told *t)
{
    struct model m;
    double number;
    struct apr_bytes text;
    char spelled[64] = "";
    model_begin(&m, t->format);
    if (t->config != NULL)
        model_config(&m, t->config);
    if (strcmp(t->format, "gguf") == 0)
        model_string(&m, "general.architecture", t->family);
    if (t->text != NULL)
        model_string(&m, t->key, t->text);
    else if (t->key != NULL)
        model_real(&m, t->key, t->number);
    struct apr_binding *b = bind(t->family, &m, NULL);
    const bool is_number = apr_binding_number(b, apr_text(t->name), &number), is_text = apr_binding_text(b, apr_text(t->name), &text);
    if (is_number)
        snprintf(spelled, sizeof spelled, "%g", number);
    if (is_text)
        snprintf(spelled, sizeof spelled, "%.*s", (int)text.n, (const char *)text.at);
    if ((is_number || is_text) != (t->wanted != NULL) || (is_number && is_text) || strcmp(spelled, t->wanted == NULL ? "" : t->wanted) != 0)
        fail_msg("%s, %s: %s is \"%s\", not \"%s\"", t->family, t->format, t->name, spelled, t->wanted == NULL ? "" : t->wanted);
    apr_binding_free(b);
    model_end(&m);
}

static void numbers_and_texts_come_from_the_model_then_from_the_contract(void **state)
{
    (void)state;
    static const char yarn[] = "{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4}, \"hidden_act\": \"relu\"}",
                      su[] = "{\"rope_scaling\": {\"type\": \"su\"}}", eps[] = "{\"rms_norm_eps\": 0.25}";
    static const struct told rows[] = {
        { "qwen2", "safetensors", eps, NULL, 0, NULL, "rms_norm_eps", "0.25" },
        { "qwen2", "safetensors", eps, NULL, 0, NULL, "attention.layer_norm_rms_epsilon", "0.25" },
        { "qwen2", "gguf", NULL, "qwen2.attention.layer_norm_rms_epsilon", 0.5, NULL, "rms_norm_eps", "0.5" },
        { "qwen2", "apr", NULL, "rms_norm_eps", 0.125, NULL, "attention.layer_norm_rms_epsilon", "0.125" },
        { "qwen2", "safetensors", NULL, NULL, 0, NULL, "rms_norm_eps", "1e-06" },
        { "gpt2", "safetensors", "{\"layer_norm_epsilon\": 0.25}", NULL, 0, NULL, "rms_norm_eps", "0.25" }, /* what APR calls it */
        { "gemma2", "safetensors", "{\"attn_logit_softcapping\": 20}", NULL, 0, NULL, "attn_logit_softcapping", "20" },
        { "gemma2", "gguf", NULL, NULL, 0, NULL, "attn_logit_softcapping", "50" },
        { "qwen2", "gguf", NULL, "qwen2.rope.freq_base", 5000, NULL, "rope_theta", "5000" },
        { "qwen2", "gguf", NULL, "qwen2.rope.freq_base", 5000, NULL, "theta", "5000" },
        { "qwen2", "safetensors", yarn, NULL, 0, NULL, "rope.scaling.factor", "4" },
        { "qwen2", "safetensors", yarn, NULL, 0, NULL, "rope.scaling.type", "yarn" },
        { "qwen2", "safetensors", eps, NULL, 0, NULL, "rope.scaling.factor", NULL },
        { "qwen2", "safetensors", yarn, NULL, 0, NULL, "rope.scaling.yarn_beta_fast", NULL },
        { "llama", "safetensors", su, NULL, 0, NULL, "rope.scaling.type", "longrope" },           /* as a GGUF has it, */
        { "llama", "safetensors", su, NULL, 0, NULL, "rope_scaling.rope_type", "su" },            /* and as config.json */
        { "llama", "gguf", NULL, "llama.rope.scaling.type", 0, "longrope", "rope_scaling.rope_type", "longrope" },
        { "qwen2", "gguf", NULL, "qwen2.attention.key_length", 64, NULL, "head_dim", "64" },     /* has(head_dim) is for writing */
        { "falcon", "gguf", NULL, NULL, 0, NULL, "context_length", "2048" },
        { "falcon", "gguf", NULL, "falcon.context_length", 4096, NULL, "context_length", "4096" },
        { "qwen2", "safetensors", yarn, NULL, 0, NULL, "hidden_act", "relu" },
        { "qwen2", "gguf", NULL, NULL, 0, NULL, "hidden_act", "silu" },
        { "gptneox", "gguf", NULL, NULL, 0, NULL, "use_parallel_residual", "1" },
        { "qwen2", "gguf", NULL, "qwen2.rope.freq_base", 0, "high", "no such name", NULL },
        { "qwen2", "gguf", NULL, NULL, 0, NULL, "architectures", NULL },                         /* a list */
        { "qwen2", "gguf", NULL, NULL, 0, NULL, "general.file_type", NULL },                     /* for who writes to know */
        { "qwen2", "gguf", NULL, NULL, 0, NULL, "", NULL },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        is_told(&rows[i]);
}

/* ---- many tensors ------------------------------------------------------------------------------------------------- */

/* Minutes, if any of it were quadratic. */
static void a_hundred_thousand_tensors_bind(void **state)
{
    (void)state;
    enum { N = 100000 };
    struct model m;
    struct apr_meaning meaning;
    char (*name)[64] = malloc(N * sizeof *name);
    assert_non_null(name);
    model_begin(&m, "safetensors");
    for (unsigned i = 0; i < N; i++) {
        snprintf(name[i], sizeof name[i], i % 2 ? "model.layers.%u.self_attn.q_proj.weight" : "model.layers.%u.mlp.up_proj.weight", i / 2);
        model_tensor(&m, name[i], 4, 4, 0);
    }
    struct apr_binding *b = bind("llama", &m, NULL);
    for (unsigned i = 0; i < N; i++) {
        assert_true(apr_binding_meaning(b, &m.m.tensor[i], 0, &meaning) && meaning.layer == i / 2);
        assert_ptr_equal(apr_binding_find(b, &meaning), &m.m.tensor[i]);
    }
    apr_binding_free(b);
    model_end(&m);
    free(name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_says_role_layer_expert_and_part_in_each_dialect),
        cmocka_unit_test(of_roles_that_share_a_name_the_one_whose_condition_holds_is_first),
        cmocka_unit_test(parts_are_complete_or_none),
        cmocka_unit_test(a_hostile_number_of_experts_is_no_part),
        cmocka_unit_test(skip_globs_know_dims),
        cmocka_unit_test(sizes_come_from_what_the_model_says),
        cmocka_unit_test(a_bare_file_learns_from_its_shapes_and_from_the_other),
        cmocka_unit_test(what_one_model_is_told_counts_before_the_defaults_of_the_other),
        cmocka_unit_test(a_classifier_is_called_by_what_a_gguf_said_of_its_labels),
        cmocka_unit_test(formulas_come_before_shapes_and_rows_tell_their_number),
        cmocka_unit_test(conditions_see_tensors_metadata_and_configuration),
        cmocka_unit_test(hostile_values_are_not_known),
        cmocka_unit_test(a_role_is_in_the_layers_in_which_its_condition_holds),
        cmocka_unit_test(what_no_word_tells_shapes_and_names_do),
        cmocka_unit_test(layers_that_are_counted_anew_stand_behind_the_others),
        cmocka_unit_test(a_number_stands_for_a_list_of_it),
        cmocka_unit_test(a_term_is_worked_out_once_however_often_it_is_named),
        cmocka_unit_test(a_head_is_tied_where_none_is_stored_and_none_is_due),
        cmocka_unit_test(of_two_spellings_of_the_same_bytes_the_first_counts),
        cmocka_unit_test(chains_lead_to_each_dialect),
        cmocka_unit_test(the_references_gpt2_is_cut_the_way_it_lies),
        cmocka_unit_test(numbers_and_texts_come_from_the_model_then_from_the_contract),
        cmocka_unit_test(a_hundred_thousand_tensors_bind),
    };
    return cmocka_run_group_tests(tests, open_families, close_families);
}
