/* Makes a pair of models of real size: a BF16 checkpoint of Qwen2's shapes in one SafeTensors file, and a GGUF of the same weights in
 * Q4_K. The weights are noise from a fixed seed; the Q4_K has one scale and one minimum a superblock, which costs as much to decode as
 * any. usage: pair FOLDER [LAYERS HIDDEN FEED_FORWARD VOCABULARY], default 28 3584 18944 152064: 7.6 billion parameters */
#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD     128u /* size of an attention head */
#define GROUP    7u   /* query heads a key head */
#define WIDTH    (2 * HEAD * GROUP) /* the hidden size is a multiple of: whole heads, whole superblocks */
#define NAME     96
#define ROW_MOST 32768u
#define Q4_K     12u
#define F32      0u

struct shape {
    char     hf[NAME], gguf[NAME];
    uint64_t rows, cols; /* rows 0: a vector */
};

static struct shape *shapes;
static size_t        nshape;

static void add(const char *hf, const char *gguf, int layer, uint64_t rows, uint64_t cols)
{
    struct shape *s = &shapes[nshape++];
    if (layer < 0) {
        snprintf(s->hf, NAME, "%s", hf);
        snprintf(s->gguf, NAME, "%s", gguf);
    } else {
        snprintf(s->hf, NAME, "model.layers.%d.%s", layer, hf);
        snprintf(s->gguf, NAME, "blk.%d.%s", layer, gguf);
    }
    s->rows = rows;
    s->cols = cols;
}

static void make_shapes(int layers, uint64_t h, uint64_t f, uint64_t v)
{
    const uint64_t kv = h / HEAD / GROUP * HEAD;
    shapes = calloc((size_t)layers * 12 + 3, sizeof *shapes);
    if (shapes == NULL)
        exit(2);
    add("model.embed_tokens.weight", "token_embd.weight", -1, v, h);
    for (int i = 0; i < layers; i++) {
        add("input_layernorm.weight", "attn_norm.weight", i, 0, h);
        add("self_attn.q_proj.weight", "attn_q.weight", i, h, h);
        add("self_attn.q_proj.bias", "attn_q.bias", i, 0, h);
        add("self_attn.k_proj.weight", "attn_k.weight", i, kv, h);
        add("self_attn.k_proj.bias", "attn_k.bias", i, 0, kv);
        add("self_attn.v_proj.weight", "attn_v.weight", i, kv, h);
        add("self_attn.v_proj.bias", "attn_v.bias", i, 0, kv);
        add("self_attn.o_proj.weight", "attn_output.weight", i, h, h);
        add("post_attention_layernorm.weight", "ffn_norm.weight", i, 0, h);
        add("mlp.gate_proj.weight", "ffn_gate.weight", i, f, h);
        add("mlp.up_proj.weight", "ffn_up.weight", i, f, h);
        add("mlp.down_proj.weight", "ffn_down.weight", i, h, f);
    }
    add("model.norm.weight", "output_norm.weight", -1, 0, h);
    add("lm_head.weight", "output.weight", -1, v, h);
}

/* ---- values --------------------------------------------------------------------------------------------------------- */

static uint64_t state = 0x9E3779B97F4A7C15;

/* Roughly normal with deviation 0.02, as BF16. */
static uint16_t weight(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    const float sum = (float)(state & 0xFFFF) + (float)(state >> 16 & 0xFFFF) + (float)(state >> 32 & 0xFFFF) + (float)(state >> 48);
    const float x = (sum - 131070.0f) * (0.02f / 37837.0f);
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static float widened(uint16_t b)
{
    const uint32_t bits = (uint32_t)b << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* binary16 of an ordinary positive number, cut off. */
static uint16_t half(float x)
{
    int e;
    const float m = frexpf(x, &e);
    return e < -13 ? 0 : (uint16_t)((e + 14) << 10 | (int)(m * 2048 - 1024));
}

static float from_half(uint16_t h) { return ldexpf((float)(1024 + (h & 1023)), (h >> 10) - 25); }

/* | f16 d | f16 dmin | 12: 6-bit scales and minima, all 63 | 128: nibble pairs | */
static void pack(const uint16_t *w, unsigned char *block)
{
    float most = 1e-4f;
    for (int i = 0; i < 256; i++)
        most = fmaxf(most, fabsf(widened(w[i])));
    const uint16_t d = half(most * 2 / 15 / 63), dmin = half(most / 63);
    memcpy(block, &d, 2);
    memcpy(block + 2, &dmin, 2);
    memset(block + 4, 0xFF, 12);
    const float scale = from_half(d) * 63, low = from_half(dmin) * 63;
    for (int g = 0; g < 4; g++)
        for (int i = 0; i < 32; i++) {
            int q[2];
            for (int k = 0; k < 2; k++) {
                q[k] = (int)((widened(w[64 * g + 32 * k + i]) + low) / scale + 0.5f);
                q[k] = q[k] < 0 ? 0 : q[k] > 15 ? 15 : q[k];
            }
            block[16 + 32 * g + i] = (unsigned char)(q[0] | q[1] << 4);
        }
}

/* ---- files ---------------------------------------------------------------------------------------------------------- */

static uint64_t count_of(const struct shape *s) { return (s->rows == 0 ? 1 : s->rows) * s->cols; }
static uint64_t packed_bytes(const struct shape *s) { return s->rows == 0 ? 4 * s->cols : count_of(s) / 256 * 144; }

static void put(FILE *f, const void *bytes, size_t n)
{
    if (fwrite(bytes, 1, n, f) != n) {
        perror("pair");
        exit(2);
    }
}

static void put_integer(FILE *f, uint64_t v, size_t width) { put(f, &v, width); }

static void put_text(FILE *f, const char *s)
{
    put_integer(f, strlen(s), 8);
    put(f, s, strlen(s));
}

static void put_zeros(FILE *f, uint64_t n)
{
    while (n-- > 0)
        put(f, "", 1);
}

static void checkpoint_head(FILE *f)
{
    char *text = NULL;
    size_t n = 0;
    uint64_t at = 0;
    FILE *to = open_memstream(&text, &n);
    for (size_t i = 0; i < nshape; i++) {
        const struct shape *s = &shapes[i];
        fprintf(to, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[", i == 0 ? "{" : ",", s->hf);
        if (s->rows > 0)
            fprintf(to, "%" PRIu64 ",", s->rows);
        fprintf(to, "%" PRIu64 "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", s->cols, at, at + 2 * count_of(s));
        at += 2 * count_of(s);
    }
    fputc('}', to);
    fclose(to);
    put_integer(f, (n + 7) / 8 * 8, 8);
    put(f, text, n);
    for (; n % 8 != 0; n++)
        put(f, " ", 1);
    free(text);
}

static void gguf_head(FILE *f, uint64_t layers, uint64_t h, uint64_t ff)
{
    const struct {
        const char *key;
        uint64_t    value;
    } kv[] = {
        { "qwen2.block_count", layers }, { "qwen2.context_length", 32768 }, { "qwen2.embedding_length", h },
        { "qwen2.feed_forward_length", ff }, { "qwen2.attention.head_count", h / HEAD },
        { "qwen2.attention.head_count_kv", h / HEAD / GROUP }, { "general.file_type", 15 },
    };
    uint64_t at = 0;
    put(f, "GGUF", 4);
    put_integer(f, 3, 4);
    put_integer(f, nshape, 8);
    put_integer(f, sizeof kv / sizeof *kv + 1, 8);
    put_text(f, "general.architecture");
    put_integer(f, 8, 4);
    put_text(f, "qwen2");
    for (size_t i = 0; i < sizeof kv / sizeof *kv; i++) {
        put_text(f, kv[i].key);
        put_integer(f, 4, 4);
        put_integer(f, kv[i].value, 4);
    }
    for (size_t i = 0; i < nshape; i++) {
        const struct shape *s = &shapes[i];
        put_text(f, s->gguf);
        put_integer(f, s->rows == 0 ? 1 : 2, 4);
        put_integer(f, s->cols, 8);
        if (s->rows > 0)
            put_integer(f, s->rows, 8);
        put_integer(f, s->rows == 0 ? F32 : Q4_K, 4);
        put_integer(f, at, 8);
        at += (packed_bytes(s) + 31) / 32 * 32;
    }
    put_zeros(f, (uint64_t)(-ftell(f) & 31));
}

static void put_tensor(FILE *checkpoint, FILE *gguf, const struct shape *s)
{
    static uint16_t row[ROW_MOST];
    static float wide[ROW_MOST];
    static unsigned char packed[ROW_MOST / 256 * 144];
    for (uint64_t r = 0; r < (s->rows == 0 ? 1 : s->rows); r++) {
        for (uint64_t i = 0; i < s->cols; i++) {
            row[i] = weight();
            wide[i] = widened(row[i]);
        }
        put(checkpoint, row, 2 * s->cols);
        for (uint64_t i = 0; s->rows > 0 && i < s->cols; i += 256)
            pack(row + i, packed + i / 256 * 144);
        if (s->rows == 0)
            put(gguf, wide, 4 * s->cols);
        else
            put(gguf, packed, s->cols / 256 * 144);
    }
    put_zeros(gguf, (32 - packed_bytes(s) % 32) % 32);
}

static FILE *create(const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (f == NULL) {
        perror(path);
        exit(2);
    }
    return f;
}

int main(int argc, char **argv)
{
    const char *const standard[] = { "28", "3584", "18944", "152064" };
    uint64_t n[4];
    if (argc != 2 && argc != 6) {
        fprintf(stderr, "usage: pair FOLDER [LAYERS HIDDEN FEED_FORWARD VOCABULARY]\n");
        return 2;
    }
    for (int i = 0; i < 4; i++)
        n[i] = strtoull(argc == 6 ? argv[i + 2] : standard[i], NULL, 10);
    if (n[0] > 1000 || n[1] == 0 || n[1] % WIDTH != 0 || n[2] % 256 != 0 || n[1] > ROW_MOST || n[2] > ROW_MOST) {
        fprintf(stderr, "pair: HIDDEN is a multiple of %u, FEED_FORWARD of 256, both up to %u\n", WIDTH, ROW_MOST);
        return 2;
    }
    make_shapes((int)n[0], n[1], n[2], n[3]);
    FILE *checkpoint = create(argv[1], "model.safetensors"), *gguf = create(argv[1], "model-q4_k.gguf");
    checkpoint_head(checkpoint);
    gguf_head(gguf, n[0], n[1], n[2]);
    for (size_t i = 0; i < nshape; i++)
        put_tensor(checkpoint, gguf, &shapes[i]);
    return fclose(checkpoint) != 0 || fclose(gguf) != 0 ? 2 : 0;
}
