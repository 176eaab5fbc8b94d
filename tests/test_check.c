/* apr-inspect --check: each finding with one planted fault, and nothing to say about what is sound. */
#include "support.h"

#include <float.h>
#include <glob.h>
#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <sys/stat.h>

#include "model/findings.h"

/* ---- a tiny llama --------------------------------------------------------------------------------------------------- */

enum { U32 = 4, I32 = 5, F32 = 6, STRING = 8, ARRAY = 9 };
enum { H = 32, V = 7 }; /* one head, one layer, all widths 32 */

/* A key, as text: numbers are spelled, an array's elements are parted by '|'. element: of an array. */
struct key {
    const char *name;
    unsigned    type, element;
    const char *value;
};

static const struct key keys[] = {
    { "general.architecture", STRING, 0, "llama" },
    { "llama.block_count", U32, 0, "1" },
    { "llama.context_length", U32, 0, "64" },
    { "llama.embedding_length", U32, 0, "32" },
    { "llama.feed_forward_length", U32, 0, "32" },
    { "llama.attention.head_count", U32, 0, "1" },
    { "llama.attention.head_count_kv", U32, 0, "1" },
    { "llama.attention.layer_norm_rms_epsilon", F32, 0, "0.00001" },
    { "llama.rope.freq_base", F32, 0, "10000" },
    { "tokenizer.ggml.model", STRING, 0, "gpt2" },
    { "tokenizer.ggml.tokens", ARRAY, STRING, "<s>|</s>|a|b|c|ab|abc" },
    { "tokenizer.ggml.token_type", ARRAY, I32, "3|3|1|1|1|1|1" },
    { "tokenizer.ggml.merges", ARRAY, STRING, "a b|ab c" },
    { "tokenizer.ggml.bos_token_id", U32, 0, "0" },
};

enum fill { NORMAL, ZEROS, CONSTANT, A_NAN, DEAD_ROW, PADDED, SPARSE, LOUD };

struct weight {
    const char *name;
    uint64_t    rows; /* 0: a vector of H */
    enum fill   fill;
};

static const struct weight weights[] = {
    { "token_embd.weight", V, NORMAL },          { "output_norm.weight", 0, NORMAL },       { "output.weight", V, NORMAL },
    { "blk.0.attn_norm.weight", 0, NORMAL },     { "blk.0.attn_q.weight", H, NORMAL },      { "blk.0.attn_k.weight", H, NORMAL },
    { "blk.0.attn_v.weight", H, NORMAL },        { "blk.0.attn_output.weight", H, NORMAL }, { "blk.0.ffn_norm.weight", 0, NORMAL },
    { "blk.0.ffn_gate.weight", H, NORMAL },      { "blk.0.ffn_up.weight", H, NORMAL },      { "blk.0.ffn_down.weight", H, NORMAL },
};

/* What is planted: a key put in the place of its namesake (value NULL: left out) or added, likewise a weight (dropped when `drop`). */
struct edit {
    struct key    key;
    struct weight weight;
    bool          drop;
};

static void put_string(struct test_bytes *b, const char *s, size_t n)
{
    test_integer(b, n, 8);
    test_put(b, s, n);
}

static void put_scalar(struct test_bytes *b, unsigned type, const char *s, size_t n)
{
    char text[64];
    if (type == STRING) {
        put_string(b, s, n);
        return;
    }
    snprintf(text, sizeof text, "%.*s", (int)n, s);
    const float real = strtof(text, NULL);
    if (type == F32)
        test_floats(b, &real, 1);
    else
        test_integer(b, strtoull(text, NULL, 10), 4);
}

static void put_key(struct test_bytes *b, const struct key *k)
{
    put_string(b, k->name, strlen(k->name));
    test_integer(b, k->type, 4);
    if (k->type != ARRAY) {
        put_scalar(b, k->type, k->value, strlen(k->value));
        return;
    }
    uint64_t n = 1;
    for (const char *s = k->value; *s != 0; s++)
        n += *s == '|';
    test_integer(b, k->element, 4);
    test_integer(b, n, 8);
    for (const char *s = k->value;; s++) {
        const size_t length = strcspn(s, "|");
        put_scalar(b, k->element, s, length);
        s += length;
        if (*s == 0)
            return;
    }
}

/* n floats around 0, the same at every run. */
static void put_values(struct test_bytes *b, size_t n, enum fill fill)
{
    static uint32_t seed = 1;
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        float v = ((float)(seed >> 8) / 8388608.0f - 1) / 8;
        if (fill == ZEROS || (fill == DEAD_ROW && i / H == 3) || (fill == PADDED && i / H >= V - 2) || (fill == SPARSE && i % 8 != 0))
            v = 0;
        if (fill == CONSTANT)
            v = 0.25f;
        if (fill == A_NAN && i == H + 4)
            v = NAN;
        test_floats(b, &(float){ fill == LOUD ? 50 * v : v }, 1);
    }
}

static void put_info(struct test_bytes *b, const char *name, uint64_t rows, uint64_t columns, unsigned type, uint64_t offset)
{
    put_string(b, name, strlen(name));
    test_integer(b, rows == 0 ? 1 : 2, 4);
    test_integer(b, columns, 8);
    if (rows != 0)
        test_integer(b, rows, 8);
    test_integer(b, type, 4);
    test_integer(b, offset, 8);
}

static void put_header(struct test_bytes *b, uint64_t ntensors, uint64_t nkeys)
{
    test_text(b, "GGUF");
    test_integer(b, 3, 4);
    test_integer(b, ntensors, 8);
    test_integer(b, nkeys, 8);
}

static size_t edited_keys(const struct edit *x, struct key out[APR_LENGTH(keys) + 1])
{
    size_t n = 0;
    bool placed = x->key.name == NULL;
    for (size_t i = 0; i < APR_LENGTH(keys); i++) {
        const bool hit = x->key.name != NULL && strcmp(keys[i].name, x->key.name) == 0;
        placed |= hit;
        if (!hit || x->key.value != NULL)
            out[n++] = hit ? x->key : keys[i];
    }
    if (!placed)
        out[n++] = x->key;
    return n;
}

static size_t edited_weights(const struct edit *x, struct weight out[APR_LENGTH(weights) + 1])
{
    size_t n = 0;
    bool placed = x->weight.name == NULL;
    for (size_t i = 0; i < APR_LENGTH(weights); i++) {
        const bool hit = x->weight.name != NULL && strcmp(weights[i].name, x->weight.name) == 0;
        placed |= hit;
        if (!hit || !x->drop)
            out[n++] = hit ? x->weight : weights[i];
    }
    if (!placed)
        out[n++] = x->weight;
    return n;
}

static const char *llama(const struct edit *x)
{
    struct test_bytes b = { 0 };
    struct key k[APR_LENGTH(keys) + 1];
    struct weight w[APR_LENGTH(weights) + 1];
    const size_t nkeys = edited_keys(x, k), nweights = edited_weights(x, w);
    uint64_t offset = 0;
    put_header(&b, nweights, nkeys);
    for (size_t i = 0; i < nkeys; i++)
        put_key(&b, &k[i]);
    for (size_t i = 0; i < nweights; i++) {
        put_info(&b, w[i].name, w[i].rows, H, 0, offset);
        offset += 4 * H * (w[i].rows == 0 ? 1 : w[i].rows);
    }
    test_align(&b, 32);
    for (size_t i = 0; i < nweights; i++)
        put_values(&b, H * (w[i].rows == 0 ? 1 : w[i].rows), w[i].fill);
    const char *path = test_file("llama.gguf", b.at, b.n);
    test_free(&b);
    return path;
}

/* ---- asking --------------------------------------------------------------------------------------------------------- */

/* Expects the exit code and, unless code is NULL, a finding with that code (and tensor, unless NULL); without code, none at all. */
static void expect(const char *what, const char *path, const char *check, int code, const char *finding, const char *tensor)
{
    char wanted[256];
    struct test_answer a = test_tool("apr-inspect", check, "--json", path, NULL);
    if (finding == NULL)
        snprintf(wanted, sizeof wanted, "\"findings\":[]");
    else
        snprintf(wanted, sizeof wanted, tensor == NULL ? "\"code\":\"%s\"," : "\"code\":\"%s\",\"tensor\":\"%s\"", finding, tensor);
    if (a.exit != code)
        fail_msg("%s: exit %d, expected %d: %s%s", what, a.exit, code, (const char *)a.out.at, (const char *)a.err.at);
    if (!test_says(&a.out, wanted))
        fail_msg("%s: no %s in %s", what, wanted, (const char *)a.out.at);
    test_answer_free(&a);
}

static void a_sound_model_has_nothing_to_be_found(void **state)
{
    (void)state;
    static const struct edit none = { .drop = false };
    expect("a tiny llama", llama(&none), "--check", 0, NULL, NULL);
    expect("a checkpoint", "fixtures/qwen2", "--check", 0, NULL, NULL);
}

/* Rows at the end fill a vocabulary up; that of the padding token is trained by nobody. */
static void rows_of_zeros_that_pad_are_no_dead_rows(void **state)
{
    (void)state;
    static const struct edit padded = { .weight = { "token_embd.weight", V, PADDED } };
    static const struct edit token = { .weight = { "token_embd.weight", V, DEAD_ROW },
                                       .key = { "tokenizer.ggml.padding_token_id", U32, 0, "3" } };
    static const struct edit other = { .weight = { "token_embd.weight", V, DEAD_ROW },
                                       .key = { "tokenizer.ggml.padding_token_id", U32, 0, "4" } };
    expect("rows at the end", llama(&padded), "--check", 0, NULL, NULL);
    expect("the padding token", llama(&token), "--check", 0, NULL, NULL);
    expect("another token", llama(&other), "--check", 0, "values.dead_rows", "token_embd.weight");
}

static void each_planted_fault_is_named(void **state)
{
    (void)state;
    static const char up[] = "blk.0.ffn_up.weight", embedding[] = "token_embd.weight";
    static const struct {
        const char *what;
        struct edit edit;
        int         exit;
        const char *code, *tensor;
    } rows[] = {
        { "no block_count", { .key = { "llama.block_count", U32, 0, NULL } }, 1, "meta.missing", NULL },
        { "an architecture that is a number", { .key = { "general.architecture", U32, 0, "7" } }, 1, "meta.type", NULL },
        { "a head_count that is a string", { .key = { "llama.attention.head_count", STRING, 0, "one" } }, 1, "meta.type", NULL },
        { "a head_count of 0", { .key = { "llama.attention.head_count", U32, 0, "0" } }, 1, "meta.value", NULL },
        { "a base that is NaN", { .key = { "llama.rope.freq_base", F32, 0, "nan" } }, 1, "meta.value", NULL },
        { "a base below 0", { .key = { "llama.rope.freq_base", F32, 0, "-1" } }, 1, "meta.value", NULL },
        { "heads shared unevenly", { .key = { "llama.attention.head_count_kv", U32, 0, "3" } }, 1, "meta.heads", NULL },
        { "a missing tensor", { .weight = { up, 0, NORMAL }, .drop = true }, 1, "contract.missing", up },
        { "a tensor of another shape", { .weight = { up, 16, NORMAL } }, 1, "contract.shape", up },
        { "a stranger", { .weight = { "blk.0.mystery.weight", 8, NORMAL } }, 1, "contract.stranger", "blk.0.mystery.weight" },
        { "a layer too many", { .weight = { "blk.1.ffn_up.weight", H, NORMAL } }, 1, "contract.stranger", "blk.1.ffn_up.weight" },
        { "layers that are not there", { .key = { "llama.block_count", U32, 0, "3" } }, 1, "contract.layers", NULL },
        { "a family nobody knows", { .key = { "general.architecture", STRING, 0, "nobody" } }, 0, "contract.unknown", NULL },
        { "an adapter, which has no keys of a model", { .key = { "general.type", STRING, 0, "adapter" } }, 0, "contract.unknown", NULL },
        { "a projector", { .key = { "general.type", STRING, 0, "mmproj" } }, 0, "contract.unknown", NULL },
        { "no tokens", { .key = { "tokenizer.ggml.tokens", ARRAY, 0, NULL } }, 1, "vocab.absent", NULL },
        { "tokens that are numbers", { .key = { "tokenizer.ggml.tokens", ARRAY, U32, "1|2" } }, 1, "vocab.type", NULL },
        { "fewer tokens than rows", { .key = { "tokenizer.ggml.tokens", ARRAY, STRING, "<s>|</s>|a|b|c|ab" } }, 1, "vocab.size", NULL },
        { "a token twice", { .key = { "tokenizer.ggml.tokens", ARRAY, STRING, "<s>|a|a|b|c|ab|abc" } }, 1, "vocab.duplicate", NULL },
        { "token types for some", { .key = { "tokenizer.ggml.token_type", ARRAY, I32, "3|3|1" } }, 1, "vocab.length", NULL },
        { "an id out of range", { .key = { "tokenizer.ggml.bos_token_id", U32, 0, "7" } }, 1, "vocab.special", NULL },
        { "an id that is a string", { .key = { "tokenizer.ggml.bos_token_id", STRING, 0, "<s>" } }, 1, "vocab.type", NULL },
        { "a merge of one part", { .key = { "tokenizer.ggml.merges", ARRAY, STRING, "a b|abc" } }, 1, "vocab.merge", NULL },
        { "a merge to no token", { .key = { "tokenizer.ggml.merges", ARRAY, STRING, "a b|b c" } }, 0, "vocab.merge_unknown", NULL },
        { "no merges", { .key = { "tokenizer.ggml.merges", ARRAY, 0, NULL } }, 1, "vocab.merges_absent", NULL },
        { "a NaN", { .weight = { up, H, A_NAN } }, 1, "values.nonfinite", up },
        { "a matrix of zeros", { .weight = { up, H, ZEROS } }, 1, "values.zero", up },
        { "a norm of zeros", { .weight = { "output_norm.weight", 0, ZEROS } }, 0, "values.zero", "output_norm.weight" },
        { "a constant matrix", { .weight = { up, H, CONSTANT } }, 1, "values.constant", up },
        { "a dead row", { .weight = { embedding, V, DEAD_ROW } }, 0, "values.dead_rows", embedding },
        { "a matrix mostly of zeros", { .weight = { up, H, SPARSE } }, 0, "values.sparse", up },
        { "an embedding mostly of zeros", { .weight = { embedding, V, SPARSE } }, 1, "values.sparse", embedding },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        expect(rows[i].what, llama(&rows[i].edit), "--check", rows[i].exit, rows[i].code, rows[i].tensor);
}

static void fast_reads_no_data(void **state)
{
    (void)state;
    static const struct edit nan = { .weight = { "blk.0.ffn_up.weight", H, A_NAN } };
    expect("a NaN", llama(&nan), "--check=fast", 0, NULL, NULL);
}

/* ---- blocks --------------------------------------------------------------------------------------------------------- */

/* A GGUF of one tensor of two rows of `columns`, of blocks of the byte `fill`, with bytes put into the second row. */
static const char *blocks(unsigned type, uint64_t columns, size_t row_bytes, unsigned char fill, size_t at, const char *patch, size_t n)
{
    struct test_bytes b = { 0 };
    put_header(&b, 1, 0);
    put_info(&b, "t", 2, columns, type, 0);
    test_align(&b, 32);
    const size_t begin = b.n;
    test_zeros(&b, 2 * row_bytes);
    memset(b.at + begin, fill, 2 * row_bytes);
    memcpy(b.at + begin + row_bytes + at, patch, n);
    const char *path = test_file("blocks.gguf", b.at, b.n);
    test_free(&b);
    return path;
}

static void scales_and_codes_of_blocks_are_seen_undecoded(void **state)
{
    (void)state;
    static const struct {
        const char   *what;
        unsigned      type;
        uint64_t      columns;
        size_t        bytes, at;
        unsigned char fill;
        const char   *patch;
        size_t        n;
        const char   *code;
    } rows[] = {
        { "Q8_0 with a scale of NaN", 8, 32, 34, 0, 1, "\x00\x7e", 2, "values.scale" },
        { "Q4_K with an infinite minimum", 12, 256, 144, 2, 1, "\x00\xfc", 2, "values.scale" },
        { "Q6_K with an infinite scale", 14, 256, 210, 208, 1, "\x00\x7c", 2, "values.scale" },
        { "MXFP4 with the exponent 255", 39, 32, 17, 0, 1, "\xff", 1, "values.scale" },
        { "NVFP4 with a scale of NaN", 40, 64, 36, 3, 1, "\x7f", 1, "values.scale" },
        { "IQ1_M with a scale put together to NaN", 29, 256, 56, 48, 1, "\x00\x10\x00\x00\x00\xc0\x00\x70", 8, "values.scale" },
        { "Q8_0 with the code -128", 8, 32, 34, 9, 1, "\x80", 1, "codec.foreign" },
        { "Q8_0 with a scale below 0", 8, 32, 34, 0, 1, "\x00\xbc", 2, "codec.foreign" },
        { "Q8_0 whose largest code is 1", 8, 32, 34, 4, 1, "\x00", 1, "codec.loose" },
        { "TQ1_0 with a byte between digits", 34, 256, 54, 0, 0, "\x01", 1, "codec.foreign" },
        { "TQ2_0 with a fourth level", 35, 256, 66, 0, 0, "\x30", 1, "codec.foreign" },
        { "Q2_0 with a fourth level", 42, 64, 18, 17, 0, "\xc0", 1, "codec.foreign" },
        { "Q8_K with a scale of NaN", 15, 256, 292, 0, 1, "\x00\x00\xc0\xff", 4, "values.scale" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *path = blocks(rows[i].type, rows[i].columns, rows[i].bytes, rows[i].fill, rows[i].at, rows[i].patch, rows[i].n);
        struct test_answer a = test_tool("apr-inspect", "--check", "--json", path, NULL);
        char wanted[64];
        snprintf(wanted, sizeof wanted, "\"code\":\"%s\",\"tensor\":\"t\"", rows[i].code);
        if (!test_says(&a.out, wanted))
            fail_msg("%s: no %s in %s", rows[i].what, wanted, (const char *)a.out.at);
        test_answer_free(&a);
    }
}

/* ---- SafeTensors ---------------------------------------------------------------------------------------------------- */

static const char *safetensors(const char *name, const char *header, const struct test_bytes *data)
{
    struct test_bytes b = { 0 };
    test_integer(&b, strlen(header), 8);
    test_text(&b, header);
    test_put(&b, data->at, data->n);
    const char *path = test_file(name, b.at, b.n);
    test_free(&b);
    return path;
}

/* Sixteen layers of NAME, `shape` of 256 elements; loud: layers that are fifty times as large; planted: the first value of layer 5, or 0.
 * Then a tensor of 20,000 zeros and ones of that type, when there is one, which makes it the model's. */
static const char *layers(const char *name, const char *shape, unsigned loud_from, unsigned loud_to, float planted, bool f16)
{
    struct test_bytes header = { 0 }, data = { 0 };
    char entry[160];
    for (unsigned i = 0; i < 16; i++) {
        const size_t at = data.n;
        snprintf(entry, sizeof entry, "%c\"layers.%u.%s\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}", i == 0 ? '{' : ',', i, name,
                 shape, data.n, data.n + 1024);
        test_text(&header, entry);
        put_values(&data, 256, i >= loud_from && i < loud_to ? LOUD : NORMAL);
        if (i == 5 && planted != 0)
            memcpy(data.at + at, &planted, sizeof planted);
    }
    if (f16) {
        snprintf(entry, sizeof entry, ",\"head.w\":{\"dtype\":\"F16\",\"shape\":[100,200],\"data_offsets\":[%zu,%zu]}", data.n, data.n + 40000);
        test_text(&header, entry);
        for (unsigned i = 0; i < 20000; i++)
            test_integer(&data, i % 3 == 0 ? 0 : 0x3C00, 2);
    }
    test_text(&header, "}");
    const char *path = safetensors("layers.safetensors", (const char *)header.at, &data);
    test_free(&header);
    test_free(&data);
    return path;
}

static void a_layer_unlike_its_siblings_stands_out(void **state)
{
    (void)state;
    static const struct {
        const char *what, *name, *shape;
        unsigned    from, to;
        const char *severity; /* of layer 9; NULL: nothing is said of it */
    } rows[] = {
        { "one layer is loud, which may be meant", "w", "[8,32]", 9, 10, "info" },
        { "two layers are loud", "w", "[8,32]", 9, 11, "warning" },
        { "half of the layers are", "w", "[8,32]", 8, 16, NULL },
        { "a bias differs by layer in sound models", "k.bias", "[256]", 9, 11, NULL },
        { "and so does a norm", "norm.weight", "[256]", 9, 10, NULL },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char wanted[160];
        struct test_answer a = test_tool("apr-inspect", "--check", "--json", layers(rows[i].name, rows[i].shape, rows[i].from, rows[i].to, 0, false), NULL);
        snprintf(wanted, sizeof wanted, "\"severity\":\"%s\",\"code\":\"layers.outlier\",\"tensor\":\"layers.9.%s\"",
                 rows[i].severity == NULL ? "" : rows[i].severity, rows[i].name);
        if (a.exit != 0 || test_says(&a.out, rows[i].severity == NULL ? "layers.outlier" : wanted) != (rows[i].severity != NULL) ||
            test_says(&a.out, "\"tensor\":\"layers.8."))
            fail_msg("%s: exit %d, %s", rows[i].what, a.exit, (const char *)a.out.at);
        test_answer_free(&a);
    }
}

/* The values are even over [-1/8, 1/8], so the median of their magnitudes is about 1/16. */
static void a_magnitude_that_no_weight_has_is_an_error(void **state)
{
    (void)state;
    static const struct {
        const char *what, *name, *shape;
        float       planted;
        bool        f16, found;
    } rows[] = {
        { "a hundred thousand", "w", "[8,32]", 1e5f, false, true },
        { "the largest float", "w", "[8,32]", -FLT_MAX, false, true },
        { "half of the limit", "w", "[8,32]", 3e4f, false, false },
        { "a bias of a hundred thousand", "bias", "[256]", 1e5f, false, false },
        { "a bias of ten million", "bias", "[256]", 1e7f, false, true },
        { "more than F16 holds, in a model of F16", "bias", "[256]", 65536, true, true },
        { "a mask in a model of F16", "mask", "[256]", 65536, true, false },
        { "what F16 holds", "bias", "[256]", 65504, true, false },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char tensor[32];
        const char *path = layers(rows[i].name, rows[i].shape, 0, 0, rows[i].planted, rows[i].f16);
        snprintf(tensor, sizeof tensor, "layers.5.%s", rows[i].name);
        if (rows[i].found)
            expect(rows[i].what, path, "--check", 1, "values.range", tensor);
        else
            expect(rows[i].what, path, "--check", 0, "contract.unknown", NULL);
    }
}

/* The first matrix is dropped by the contract of gemma3, as are its masks. */
static void a_matrix_of_zeros_is_told_though_the_contract_drops_it(void **state)
{
    (void)state;
    static const char header[] = "{\"vision_tower.w\":{\"dtype\":\"F32\",\"shape\":[8,8],\"data_offsets\":[0,256]},"
                                 "\"vision_tower.bias\":{\"dtype\":\"F32\",\"shape\":[64],\"data_offsets\":[256,512]},"
                                 "\"model.norm.weight\":{\"dtype\":\"F32\",\"shape\":[64],\"data_offsets\":[512,768]}}";
    static const char config[] = "{\"architectures\":[\"Gemma3ForConditionalGeneration\"]}";
    struct test_bytes data = { 0 };
    put_values(&data, 128, ZEROS);
    put_values(&data, 64, NORMAL);
    test_file("zeros/config.json", config, sizeof config - 1);
    const char *path = safetensors("zeros/model.safetensors", header, &data);
    expect("a zeroed matrix", path, "--check", 1, "values.zero", "vision_tower.w");
    test_free(&data);
}

/* A file of one header over the same few values; its folder is what is checked. */
static void expect_of_folder(const char *what, const char *name, const char *header, const char *code, const char *tensor)
{
    struct test_bytes data = { 0 };
    put_values(&data, 64, NORMAL);
    char folder[256];
    const char *path = safetensors(name, header, &data);
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    expect(what, folder, "--check", 0, code, tensor);
    test_free(&data);
}

/* GPT-NeoX masks scores with a buffer of -inf; infinity in a weight stays a fault, and so does a mask of another family. */
static void what_a_contract_calls_a_buffer_need_not_be_finite(void **state)
{
    (void)state;
    static const char mask[] = "gpt_neox.layers.0.attention.masked_bias", weight[] = "gpt_neox.layers.0.attention.dense.bias";
    const float infinite = -INFINITY;
    const struct { const char *tensor, *class; bool sound; } rows[] = {
        { mask, "GPTNeoXForCausalLM", true }, { weight, "GPTNeoXForCausalLM", false }, { mask, "LlamaForCausalLM", false },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_bytes data = { 0 };
        char header[400], config[128], folder[256];
        test_floats(&data, &infinite, 1);
        put_values(&data, H, NORMAL);
        snprintf(header, sizeof header,
                 "{\"%s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
                 "\"gpt_neox.final_layer_norm.weight\":{\"dtype\":\"F32\",\"shape\":[%d],\"data_offsets\":[4,%d]}}",
                 rows[i].tensor, (int)H, 4 + 4 * (int)H);
        snprintf(config, sizeof config, "{\"architectures\":[\"%s\"],\"num_hidden_layers\":1}", rows[i].class);
        snprintf(folder, sizeof folder, "%s", safetensors("masked/model.safetensors", header, &data));
        test_free(&data);
        test_file("masked/config.json", config, strlen(config));
        *strrchr(folder, '/') = 0;
        struct test_answer a = test_tool("apr-inspect", "--check", "--json", folder, NULL);
        if (test_says(&a.out, "\"values.nonfinite\"") == rows[i].sound)
            fail_msg("%s of %s: %s", rows[i].tensor, rows[i].class, (const char *)a.out.at);
        test_answer_free(&a);
    }
}

#define FACTOR(m, x, shape, from, to) "\"base_model.model.model.layers.0." m ".lora_" x ".weight\":{\"dtype\":\"F32\",\"shape\":" shape \
                                      ",\"data_offsets\":[" from "," to "]}"

static void what_is_no_whole_model_is_judged_by_itself(void **state)
{
    (void)state;
    static const char empty[] = "base_model.model.model.layers.0.q_proj.lora_A.weight";
    expect_of_folder("a sound adapter", "adapter-1/adapter_model.safetensors",
                     "{" FACTOR("q_proj", "A", "[4,8]", "0", "128") "," FACTOR("q_proj", "B", "[8,4]", "128", "256") "}", "contract.unknown", NULL);
    struct test_bytes none = { 0 };
    expect("an adapter without tensors", safetensors("adapter-2/adapter_model.safetensors", "{}", &none), "--check", 0, "adapter.empty", NULL);
    expect_of_folder("a factor without elements", "adapter-3/adapter_model.safetensors",
                     "{" FACTOR("q_proj", "A", "[0]", "0", "0") "," FACTOR("q_proj", "B", "[8,8]", "0", "256") "}", "adapter.empty", empty);
    expect_of_folder("a module without elements", "module/model.safetensors",
                     "{\"a.gone.weight\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},"
                     "\"a.here.weight\":{\"dtype\":\"F32\",\"shape\":[8,8],\"data_offsets\":[0,256]}}", "module.empty", "a.gone.weight");
    expect_of_folder("a vision tower alone", "tower/model.safetensors",
                     "{\"vision_model.post_layernorm.weight\":{\"dtype\":\"F32\",\"shape\":[64],\"data_offsets\":[0,256]}}",
                     "contract.unknown", NULL);
}

/* Both files hold a tensor w of 64 values; the index gives it to the shard. */
static void a_folder_of_two_models_is_ambiguous_unless_they_are_one(void **state)
{
    (void)state;
    static const char header[] = "{\"w\":{\"dtype\":\"F32\",\"shape\":[8,8],\"data_offsets\":[0,256]}}";
    static const char index[] = "{\"weight_map\":{\"w\":\"model-00001-of-00001.safetensors\"}}", own[] = "{\"weight_map\":{\"w\":\"model.safetensors\"}}";
    static const char gone[] = "{\"weight_map\":{\"w\":\"gone.safetensors\"}}";
    struct test_bytes data = { 0 }, other = { 0 };
    char folder[256], wanted[] = "\"index.ambiguous\",\"tensor\"";
    put_values(&data, 64, NORMAL);
    put_values(&other, 64, NORMAL);
    const char *path = safetensors("rivals/model.safetensors", header, &data);
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    test_file("rivals/model.safetensors.index.json", index, sizeof index - 1);
    expect("a shard that is gone", folder, "--check", 0, "index.ambiguous", NULL);
    safetensors("rivals/model-00001-of-00001.safetensors", header, &other);
    expect("other values", folder, "--check", 0, "index.ambiguous", "w");
    expect("the file itself is meant", path, "--check", 0, "contract.unknown", NULL);
    test_file("rivals/model.safetensors.index.json", gone, sizeof gone - 1);
    expect("a shard that never was, in a fast check", folder, "--check=fast", 0, "index.ambiguous", NULL);
    static const char *const sound[] = { own, index };
    safetensors("rivals/model-00001-of-00001.safetensors", header, &data);
    for (size_t i = 0; i < APR_LENGTH(sound); i++) {
        test_file("rivals/model.safetensors.index.json", sound[i], strlen(sound[i]));
        struct test_answer a = test_tool("apr-inspect", "--check", "--json", folder, NULL);
        if (test_says(&a.out, wanted) || test_says(&a.out, "index.ambiguous"))
            fail_msg("%s: %s", sound[i], (const char *)a.out.at);
        test_answer_free(&a);
    }
    test_free(&data);
    test_free(&other);
}

static void many_findings_of_one_code_share_a_line(void **state)
{
    (void)state;
    struct test_bytes header = { 0 }, data = { 0 };
    put_values(&data, 64, NORMAL);
    test_text(&header, "{\"whole.weight\":{\"dtype\":\"F32\",\"shape\":[64],\"data_offsets\":[0,256]}");
    for (unsigned i = 0; i < 24; i++) {
        char entry[128];
        snprintf(entry, sizeof entry, ",\"layers.%u.w\":{\"dtype\":\"F32\",\"shape\":[0,8],\"data_offsets\":[0,0]}", i);
        test_text(&header, entry);
    }
    test_text(&header, "}");
    const char *path = safetensors("many.safetensors", (const char *)header.at, &data);
    struct test_answer a = test_tool("apr-inspect", "--check", path, NULL);
    assert_true(test_says(&a.out, "module.empty  24 of these, the first: tensor \"layers.0.w\""));
    assert_false(test_says(&a.out, "layers.1.w"));
    assert_true(test_says(&a.out, "24 warnings"));
    test_answer_free(&a);
    a = test_tool("apr-inspect", "--check", "--json", path, NULL);
    assert_true(test_says(&a.out, "\"tensor\":\"layers.23.w\""));
    test_answer_free(&a);
    test_free(&header);
    test_free(&data);
}

/* Minutes, if any of it were quadratic. */
static void a_hundred_thousand_tensors_are_soon_checked(void **state)
{
    (void)state;
    enum { N = 100000 };
    struct test_bytes header = { 0 }, data = { 0 };
    for (unsigned i = 0; i < N; i++) {
        char entry[160];
        snprintf(entry, sizeof entry, "%c\"model.layers.%u.self_attn.q_proj.weight\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[%u,%u]}",
                 i == 0 ? '{' : ',', i, 4 * i, 4 * i + 4);
        test_text(&header, entry);
    }
    test_text(&header, "}");
    put_values(&data, N, NORMAL);
    expect("a hundred thousand layers", safetensors("layers-100000.safetensors", (const char *)header.at, &data), "--check", 0, "contract.unknown", NULL);
    test_free(&header);
    test_free(&data);
}

/* A checkpoint of one tensor with a file beside it. */
static void what_lies_beside_a_checkpoint_is_checked(void **state)
{
    (void)state;
    static const char config[] = "{\"architectures\":[\"LlamaForCausalLM\"],\"vocab_size\":4,\"hidden_size\":32,\"num_hidden_layers\":0,"
                                 "\"num_attention_heads\":\"two\",\"bos_token_id\":9}";
    static const char tokenizer[] = "{\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"c\":1,\"d\":5},\"merges\":[[\"a\",\"b\"],[\"a\"]]}}";
    static const char embedding[] = "{\"model.embed_tokens.weight\":{\"dtype\":\"F32\",\"shape\":[4,32],\"data_offsets\":[0,512]}}";
    static const struct {
        const char *file, *text, *code;
    } rows[] = {
        { "config.json", "{,}", "config.syntax" },
        { "config.json", "{}", "config.architecture" },
        { "config.json", config, "config.type" },
        { "config.json", config, "config.missing" },
        { "config.json", config, "meta.value" },
        { "config.json", config, "vocab.special" },
        { "tokenizer.json", "\xff\xfe", "vocab.syntax" },
        { "tokenizer.json", "[]", "vocab.syntax" },
        { "tokenizer.json", "{}", "vocab.absent" },
        { "tokenizer.json", tokenizer, "vocab.size" },
        { "tokenizer.json", tokenizer, "vocab.merge" },
        { "tokenizer.json", tokenizer, "vocab.merge_unknown" },
        { "tokenizer_config.json", "{\"a\":}", "vocab.syntax" },
    };
    struct test_bytes data = { 0 };
    put_values(&data, 4 * H, NORMAL);
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char name[64], beside[64], wanted[64];
        snprintf(name, sizeof name, "beside-%zu/model.safetensors", i);
        snprintf(beside, sizeof beside, "beside-%zu/%s", i, rows[i].file);
        snprintf(wanted, sizeof wanted, "\"code\":\"%s\"", rows[i].code);
        test_file(beside, rows[i].text, strlen(rows[i].text));
        const char *path = safetensors(name, embedding, &data);
        struct test_answer a = test_tool("apr-inspect", "--check", "--json", path, NULL);
        if (!test_says(&a.out, wanted))
            fail_msg("%s: no %s in %s%s", rows[i].text, wanted, (const char *)a.out.at, (const char *)a.err.at);
        test_answer_free(&a);
    }
    test_free(&data);
}

static void a_tokenizer_that_is_no_file_is_told(void **state)
{
    (void)state;
    static const char *const file[] = { "tokenizer.json", "tokenizer_config.json" };
    static const char one[] = "{\"norm\":{\"dtype\":\"F32\",\"shape\":[32],\"data_offsets\":[0,128]}}";
    struct test_bytes data = { 0 };
    put_values(&data, H, NORMAL);
    for (size_t i = 0; i < APR_LENGTH(file); i++) {
        char name[64], beside[64];
        snprintf(name, sizeof name, "pipe-%zu/model.safetensors", i);
        snprintf(beside, sizeof beside, "pipe-%zu/%s", i, file[i]);
        const char *const path = safetensors(name, one, &data);
        assert_int_equal(mkfifo(test_path(beside), 0600), 0);
        expect(file[i], path, "--check", 1, "vocab.unreadable", NULL);
        struct test_answer a = test_tool("apr-inspect", "--tokenizer", path, NULL);
        if (a.exit != 2 || !test_says(&a.err, file[i]) || !test_says(&a.err, "is a pipe, not a file"))
            fail_msg("exit %d: %s", a.exit, (const char *)a.err.at);
        test_answer_free(&a);
    }
    test_free(&data);
}

/* ---- what cannot be opened ------------------------------------------------------------------------------------------ */

static void a_file_that_cannot_be_opened_is_one_finding(void **state)
{
    (void)state;
    static const struct {
        const char *what, *header;
        size_t      nvalues;
        const char *code, *tensor;
    } rows[] = {
        { "no JSON", "{", 8, "st.syntax", NULL },
        { "a gap", "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[4,20]}}", 5, "st.gap", "a" },
        { "a hole at the end", "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", 5, "st.trailing", NULL },
        { "a gap before a name to be escaped", "{\"a\\\"b\\\\\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[4,20]}}", 5, "st.gap",
          "a\\\"b\\\\" },
        { "too short", "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", 3, "st.extent", "a" },
        { "an odd dtype", "{\"a\":{\"dtype\":\"F99\",\"shape\":[4],\"data_offsets\":[0,16]}}", 4, "st.dtype", "a" },
        { "a shape of another size", "{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,16]}}", 4, "st.shape", "a" },
        { "no dtype", "{\"a\":{\"shape\":[4],\"data_offsets\":[0,16]}}", 4, "st.entry", "a" },
        { "metadata of numbers", "{\"__metadata__\":{\"a\":1}}", 0, "st.metadata", NULL },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_bytes data = { 0 };
        test_text(&data, "");
        put_values(&data, rows[i].nvalues, NORMAL);
        expect(rows[i].what, safetensors("broken.safetensors", rows[i].header, &data), "--check", 2, rows[i].code, rows[i].tensor);
        test_free(&data);
    }
    static const struct {
        const char *good;
        size_t      at;
        const char *patch, *code;
    } edits[] = {
        { "fixtures/qwen2.apr", 0, "APRN", "apr.magic" },
        { "fixtures/qwen2.apr", 8, "\x07", "apr.header.crc" },
        { "fixtures/qwen2-q8_0.gguf", 4, "\x09", "gguf.header" },
        { "fixtures/qwen2-q8_0.gguf", 0, "hello", "file.format" },
    };
    for (size_t i = 0; i < APR_LENGTH(edits); i++) {
        struct test_bytes b = test_load(edits[i].good);
        memcpy(b.at + edits[i].at, edits[i].patch, strlen(edits[i].patch));
        expect(edits[i].good, test_file("edited", b.at, b.n), "--check", 2, edits[i].code, NULL);
        test_free(&b);
    }
    expect("no file", "no/such/file", "--check", 2, "file.unreadable", NULL);
}

static void a_wrong_footer_is_no_absent_one(void **state)
{
    (void)state;
    struct test_bytes b = test_load("fixtures/qwen2.apr");
    b.at[b.n - 1] ^= 0xFF;
    expect("a wrong footer", test_file("footer.apr", b.at, b.n), "--check", 1, "apr.footer.wrong", NULL);
    expect("a wrong footer, unseen", test_file("footer.apr", b.at, b.n), "--check=fast", 0, "vocab.absent", NULL);
    expect("no footer", test_file("footer.apr", b.at, b.n - 4), "--check", 0, "apr.footer.absent", NULL);
    test_free(&b);
}

/* ---- the page ------------------------------------------------------------------------------------------------------- */

/* Calls f for each code in the text that stands between two `quote` characters. */
static void each_code(const char *text, char quote, void (*f)(const char *code, void *ctx), void *ctx)
{
    char pattern[160];
    regex_t code;
    regmatch_t at[3];
    static const char prefix[] = "apr|gguf|st|aprt|npy|trace|index|file|tensor|meta|config|contract|vocab|values|layers|codec|adapter|module";
    snprintf(pattern, sizeof pattern, "%c((%s)(\\.[a-z_]+)+)%c", quote, prefix, quote);
    assert_int_equal(regcomp(&code, pattern, REG_EXTENDED), 0);
    for (; regexec(&code, text, APR_LENGTH(at), at, 0) == 0; text += at[0].rm_eo) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)(at[1].rm_eo - at[1].rm_so), text + at[1].rm_so);
        const char *dot = strrchr(name, '.');
        if (strcmp(dot, ".h") != 0 && strcmp(dot, ".json") != 0 && strcmp(dot, ".txt") != 0 && strcmp(name, "gguf.kv") != 0)
            f(name, ctx);
    }
    regfree(&code);
}

static void expect_in(const char *code, void *text)
{
    const struct test_bytes *b = text;
    char bare[80], quoted[80];
    snprintf(bare, sizeof bare, "`%s`", code);
    snprintf(quoted, sizeof quoted, "\"%s\"", code);
    if (!test_says(b, bare) && !test_says(b, quoted))
        fail_msg("%s stands on one side only: docs/findings.md, or the source", code);
}

static void every_code_is_on_the_page_and_none_other(void **state)
{
    (void)state;
    struct test_bytes page = test_load("docs/findings.md"), source = { 0 };
    glob_t files;
    assert_int_equal(glob("lib/*/*.c", 0, NULL, &files), 0);
    assert_int_equal(glob("formats/*.c", GLOB_APPEND, NULL, &files), 0);
    assert_int_equal(glob("tools/apr-inspect/check*.c", GLOB_APPEND, NULL, &files), 0);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        if (strcmp(files.gl_pathv[i], "lib/model/findings.c") == 0)
            continue; /* the table has them all: what of it is ever found? */
        struct test_bytes one = test_load(files.gl_pathv[i]);
        test_put(&source, one.at, one.n);
        test_free(&one);
    }
    each_code((const char *)source.at, '"', expect_in, &page);
    each_code((const char *)page.at, '`', expect_in, &source);
    globfree(&files);
    test_free(&page);
    test_free(&source);
}

static const struct apr_finding *in_table(const char *code, size_t n)
{
    const struct apr_finding *f = apr_findings;
    while (f->code != NULL && (strncmp(f->code, code, n) != 0 || f->code[n] != 0))
        f++;
    if (f->code == NULL)
        fail_msg("%.*s is not in the table", (int)n, code);
    return f;
}

/* "no open", or the words of all that a finding may be: "error, warning in APR". */
static void expect_severity(const struct apr_finding *f, const char *cell)
{
    static const char *const word[] = { [APR_INFO] = "info", [APR_WARNING] = "warning", [APR_FAULT] = "error" };
    bool right = f->refused == (strcmp(cell, "no open") == 0);
    for (enum apr_severity s = APR_INFO; s <= APR_FAULT && !f->refused; s++) {
        const bool said = strstr(cell, word[s]) != NULL;
        right &= s == f->severity || s == f->mild ? said : !said || (s > f->mild && s < f->severity);
    }
    if (!right)
        fail_msg("%s: the page says %s", f->code, cell);
}

static void the_page_says_what_the_table_says(void **state)
{
    (void)state;
    struct test_bytes page = test_load("docs/findings.md");
    size_t told = 0, rows = 0;
    unsigned stage = 0;
    for (char *rest = (char *)page.at, *line; (line = strsep(&rest, "\n")) != NULL;) {
        char *cell[4] = { 0 };
        if (strncmp(line, "## ", 3) == 0)
            stage = (unsigned)strtoul(line + 3, NULL, 10);
        if (strncmp(line, "| `", 3) != 0)
            continue;
        for (size_t i = 0; i < 4; i++) {
            cell[i] = line + (i == 0 ? 2 : 0);
            char *const end = strstr(cell[i], " |");
            assert_non_null(end);
            *end = 0;
            line = end + 3;
        }
        for (const char *at = cell[0]; (at = strchr(at, '`')) != NULL; told++) {
            const size_t n = strcspn(at + 1, "`");
            const struct apr_finding *f = in_table(at + 1, n);
            if (f->stage != (enum apr_stage)stage || strcmp(f->remedy, cell[3]) != 0)
                fail_msg("%s: stage %u, %s", f->code, f->stage, f->remedy);
            expect_severity(f, cell[1]);
            at += n + 2;
        }
    }
    for (const struct apr_finding *f = apr_findings; f->code != NULL; f++) {
        assert_ptr_equal(in_table(f->code, strlen(f->code)), f);
        rows++;
    }
    assert_int_equal(told, rows);
    test_free(&page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sound_model_has_nothing_to_be_found),
        cmocka_unit_test(rows_of_zeros_that_pad_are_no_dead_rows),
        cmocka_unit_test(what_a_contract_calls_a_buffer_need_not_be_finite),
        cmocka_unit_test(each_planted_fault_is_named),
        cmocka_unit_test(fast_reads_no_data),
        cmocka_unit_test(scales_and_codes_of_blocks_are_seen_undecoded),
        cmocka_unit_test(a_layer_unlike_its_siblings_stands_out),
        cmocka_unit_test(a_magnitude_that_no_weight_has_is_an_error),
        cmocka_unit_test(a_matrix_of_zeros_is_told_though_the_contract_drops_it),
        cmocka_unit_test(what_is_no_whole_model_is_judged_by_itself),
        cmocka_unit_test(a_folder_of_two_models_is_ambiguous_unless_they_are_one),
        cmocka_unit_test(a_hundred_thousand_tensors_are_soon_checked),
        cmocka_unit_test(many_findings_of_one_code_share_a_line),
        cmocka_unit_test(what_lies_beside_a_checkpoint_is_checked),
        cmocka_unit_test(a_tokenizer_that_is_no_file_is_told),
        cmocka_unit_test(a_file_that_cannot_be_opened_is_one_finding),
        cmocka_unit_test(a_wrong_footer_is_no_absent_one),
        cmocka_unit_test(every_code_is_on_the_page_and_none_other),
        cmocka_unit_test(the_page_says_what_the_table_says),
    };
    return cmocka_run_group_tests_name("check", tests, NULL, NULL);
}
