#include "support.h"

#include <stdio.h>

#include <libdeflate.h>

#include "base/bytes.h"
#include "model/json.h"
#include "model/open.h"
#include "token/encode_parts.h"

#define FOLDER "fixtures/encode/"

/* ---- vectors --------------------------------------------------------------------------------------------------------- */

#define MOST_TEXTS 128
static struct apr_bytes texts[MOST_TEXTS];
static size_t ntexts;
static struct apr_arena *arena;
static struct test_bytes text_file;

/* The next line without its end, or NULL. */
static char *line_of(char **at)
{
    char *const line = *at, *const end = line == NULL ? NULL : strchr(line, '\n');
    if (end == NULL)
        return NULL;
    *end = 0;
    *at = end + 1;
    return line;
}

static char *load_lines(const char *name, struct test_bytes *b)
{
    char path[128];
    snprintf(path, sizeof path, FOLDER "%s", name);
    *b = test_load(path);
    test_put(b, "", 1);
    return (char *)b->at;
}

/* A text is a string of JSON, or "hex ff00". */
static int load_texts(void **state)
{
    struct apr_error e;
    char *at = load_lines("texts.txt", &text_file);
    (void)state;
    for (char *line; (line = line_of(&at)) != NULL && ntexts < MOST_TEXTS; ntexts++) {
        if (line[0] == '"') {
            if (apr_json_text(&arena, apr_text(line), 0, &texts[ntexts], &e) != APR_OK)
                return -1;
            continue;
        }
        const size_t n = strlen(line + 4) / 2;
        unsigned char *bytes = apr_arena_alloc(&arena, n + 1);
        for (size_t i = 0; i < n; i++)
            bytes[i] = (unsigned char)strtoul((char[]){ line[4 + 2 * i], line[5 + 2 * i], 0 }, NULL, 16);
        texts[ntexts] = (struct apr_bytes){ bytes, n };
    }
    return ntexts > 80 ? 0 : -1;
}

static int drop_texts(void **state)
{
    (void)state;
    apr_arena_free(&arena);
    test_free(&text_file);
    return 0;
}

/* ---- encoders -------------------------------------------------------------------------------------------------------- */

struct opened {
    struct apr_model   *m;
    struct apr_encoder *x;
};

static enum apr_code try_open(const char *path, struct opened *o, struct apr_error *e)
{
    *o = (struct opened){ 0 };
    enum apr_code code = apr_open(&o->m, path, test_run_with(1), e);
    return code == APR_OK ? apr_encoder_new(&o->x, o->m, test_run_with(1), e) : code;
}

static void close_it(struct opened *o)
{
    apr_encoder_free(o->x);
    apr_close(o->m);
}

static struct opened open_it(const char *what, const char *path)
{
    struct apr_error e;
    struct opened o;
    if (try_open(path, &o, &e) != APR_OK)
        fail_msg("%s: %s", what, e.text);
    return o;
}

/* A checkpoint with that tokenizer.json and one weight. */
static const char *folder_with(const char *name, const char *tokenizer, size_t n)
{
    static const char header[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
    char path[160];
    struct test_bytes weights = { 0 };
    test_integer(&weights, sizeof header - 1, 8);
    test_text(&weights, header);
    test_zeros(&weights, 4);
    snprintf(path, sizeof path, "%s/model.safetensors", name);
    test_file(path, weights.at, weights.n);
    test_free(&weights);
    snprintf(path, sizeof path, "%s/tokenizer.json", name);
    test_file(path, tokenizer, n);
    return test_path(name);
}

/* members: those of a tokenizer.json but for its model, as an object. */
static const char *folder_of(const char *name, const char *model, const char *members)
{
    char path[128];
    struct test_bytes json = { 0 };
    snprintf(path, sizeof path, FOLDER "%s.json", model);
    struct test_bytes own = test_load(path);
    test_put(&json, members, strlen(members) - 1);
    test_text(&json, strlen(members) > 2 ? ",\"model\":" : "\"model\":");
    test_put(&json, own.at, own.n);
    test_text(&json, "}");
    const char *const folder = folder_with(name, (const char *)json.at, json.n);
    test_free(&own);
    test_free(&json);
    return folder;
}

/* The GGUF with another name of a pre-tokenizer: | n | key | 8, a string | n | value |. */
static const char *gguf_with(const char *name, const char *model)
{
    static const char key[] = "tokenizer.ggml.pre";
    char path[128];
    struct test_bytes made = { 0 };
    snprintf(path, sizeof path, FOLDER "%s.gguf", model);
    struct test_bytes b = test_load(path);
    const unsigned char *const at = memmem(b.at, b.n, key, sizeof key - 1);
    assert_non_null(at);
    const size_t before = (size_t)(at - b.at) + sizeof key - 1 + 4;
    test_put(&made, b.at, before);
    test_integer(&made, strlen(name), 8);
    test_text(&made, name);
    test_put(&made, b.at + before + 8 + 1, b.n - before - 8 - 1);
    while (made.n % 32 != 0)
        test_zeros(&made, 1);
    snprintf(path, sizeof path, "%s-%s.gguf", model, name);
    const char *const file = test_file(path, made.at, made.n);
    test_free(&b);
    test_free(&made);
    return file;
}

/* CRC-32 of "1 2 3". */
static unsigned crc_of(const struct apr_ids *ids)
{
    struct test_bytes b = { 0 };
    char number[16];
    for (size_t i = 0; i < ids->n; i++) {
        snprintf(number, sizeof number, "%s%u", i == 0 ? "" : " ", (unsigned)ids->id[i]);
        test_text(&b, number);
    }
    const unsigned crc = libdeflate_crc32(0, b.at, b.n);
    test_free(&b);
    return crc;
}

static unsigned encoded(const struct opened *o, struct apr_bytes text, bool special)
{
    struct apr_error e;
    struct apr_ids ids = { 0 };
    if (apr_encode(o->x, text, special, &ids, &e) != APR_OK)
        fail_msg("%s", e.text);
    const unsigned crc = crc_of(&ids);
    apr_ids_free(&ids);
    return crc;
}

/* "crc" or "crc/crc" for each text. */
static void expect_crcs(const char *what, const struct opened *o, char *crcs)
{
    for (size_t i = 0; *crcs != 0; i++, crcs += *crcs == ' ') {
        const unsigned special = (unsigned)strtoul(crcs, &crcs, 16);
        const unsigned plain = *crcs == '/' ? (unsigned)strtoul(crcs + 1, &crcs, 16) : special;
        assert_true(i < ntexts);
        if (encoded(o, texts[i], true) != special || encoded(o, texts[i], false) != plain)
            fail_msg("%s: text %zu, %s, becomes other ids", what, i, APR_QUOTED(texts[i]));
    }
}

static void ids_are_those_of_the_tokenizers_library(void **state)
{
    struct test_bytes file;
    char *at = load_lines("huggingface.txt", &file), *line;
    (void)state;
    while ((line = line_of(&at)) != NULL) {
        char *const model = strchr(line, ' '), *const members = line_of(&at), *const crcs = line_of(&at);
        *model = 0;
        struct opened o = open_it(line, folder_of(line, model + 1, members));
        expect_crcs(line, &o, crcs);
        close_it(&o);
    }
    test_free(&file);
}

static void ids_are_those_of_llama_cpp(void **state)
{
    struct test_bytes file;
    char *at = load_lines("llama_cpp.txt", &file), *line;
    (void)state;
    while ((line = line_of(&at)) != NULL) {
        char *const model = strchr(line, ' '), *const crcs = line_of(&at);
        *model = 0;
        struct opened o = open_it(line, gguf_with(line, model + 1));
        expect_crcs(line, &o, crcs);
        close_it(&o);
    }
    test_free(&file);
}

static void an_apr_that_carries_the_files_gives_the_ids_of_the_checkpoint(void **state)
{
    static const char *const files[] = { "config.json", "model.safetensors.index.json", "model-00001-of-00003.safetensors",
                                         "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors" };
    static const char members[] = "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"use_regex\":true}}";
    (void)state;
    folder_of("whole", "bytes", members);
    remove(test_path("whole/model.safetensors"));
    for (size_t i = 0; i < APR_LENGTH(files); i++) {
        char from[128], to[128];
        snprintf(from, sizeof from, "fixtures/qwen2/%s", files[i]);
        snprintf(to, sizeof to, "whole/%s", files[i]);
        struct test_bytes b = test_load(from);
        test_file(to, b.at, b.n);
        test_free(&b);
    }
    struct test_answer a = test_tool("apr-convert", "--force", test_path("whole"), test_path("whole.apr"), NULL);
    if (a.exit != 0)
        fail_msg("%s", (char *)a.err.at);
    struct opened folder = open_it("the checkpoint", test_path("whole")), apr = open_it("the APR", test_path("whole.apr"));
    for (size_t i = 0; i < ntexts; i++)
        assert_int_equal(encoded(&apr, texts[i], true), encoded(&folder, texts[i], true));
    close_it(&folder);
    close_it(&apr);
    test_answer_free(&a);
}

/* ---- spelling -------------------------------------------------------------------------------------------------------- */

static void spellings_put_together_are_the_text(void **state)
{
    struct apr_error e;
    (void)state;
    for (size_t which = 0; which < 2; which++) {
        struct opened o = which == 0 ? open_it("a folder", folder_of("spelled", "bytes", "{\"pre_tokenizer\":{\"type\":\"ByteLevel\","
                                                                                          "\"add_prefix_space\":false}}"))
                                     : open_it("a GGUF", gguf_with("gpt-2", "bytes"));
        for (size_t i = 0; i < ntexts; i++) {
            struct apr_ids ids = { 0 };
            struct test_bytes b = { 0 };
            if (!apr_is_utf8(texts[i]))
                continue;
            assert_int_equal(apr_encode(o.x, texts[i], true, &ids, &e), APR_OK);
            for (size_t k = 0; k < ids.n; k++) {
                const struct apr_bytes s = apr_token_spelling(o.x, ids.id[k]);
                test_put(&b, s.at, s.n);
            }
            if (!apr_bytes_equal((struct apr_bytes){ b.at, b.n }, texts[i]))
                fail_msg("text %zu is spelled otherwise", i);
            apr_ids_free(&ids);
            test_free(&b);
        }
        assert_int_equal(apr_token_spelling(o.x, 1000000).n, 0);
        close_it(&o);
    }
}

static void a_bos_that_is_put_before_a_text_is_told(void **state)
{
    uint32_t id = 77;
    (void)state;
    struct opened gpt = open_it("gpt-2", gguf_with("gpt-2", "bytes")), llama = open_it("llama-bpe", gguf_with("llama-bpe", "bytes"));
    assert_false(apr_encoder_adds_bos(gpt.x, &id));
    assert_true(apr_encoder_adds_bos(llama.x, &id));
    assert_int_equal(id, 1);
    close_it(&gpt);
    close_it(&llama);
}

/* ---- what is refused ------------------------------------------------------------------------------------------------- */

static void what_is_not_known_is_named(void **state)
{
    static const struct {
        const char *members, *says;
    } rows[] = {
        { "{\"pre_tokenizer\":{\"type\":\"Fancy\"}}", "Fancy" },
        { "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"UnicodeScripts\"}]}}", "UnicodeScripts" },
        { "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a\"},\"behavior\":\"Isolated\"}}", "parenthesis" },
        { "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{Nothing}\"},\"behavior\":\"Isolated\"}}", "Nothing" },
        { "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a)\\\\1\"},\"behavior\":\"Isolated\"}}", "escape" },
        { "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Scattered\"}}", "Scattered" },
        { "{\"post_processor\":{\"type\":\"Fancy\"}}", "Fancy" },
        { "{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<x>\"}}]}}", "<x>" },
        { "{\"normalizer\":{\"type\":\"Fancy\"}}", "Fancy" },
    };
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_error e;
        struct opened o;
        const enum apr_code code = try_open(folder_of("unknown", "bytes", rows[i].members), &o, &e);
        if (code != APR_EUNSUPPORTED || strstr(e.text, rows[i].says) == NULL)
            fail_msg("row %zu: code %d, %s", i, code, e.text);
        close_it(&o);
    }
}

static void a_pre_tokenizer_of_no_known_name_is_named(void **state)
{
    struct apr_error e;
    struct opened o;
    (void)state;
    assert_int_equal(try_open(gguf_with("fancy", "bytes"), &o, &e), APR_EUNSUPPORTED);
    assert_non_null(strstr(e.text, "\"fancy\""));
    close_it(&o);
}

static void a_model_without_a_tokenizer_has_no_encoder(void **state)
{
    struct apr_error e;
    struct opened o;
    (void)state;
    assert_int_equal(try_open("fixtures/qwen2", &o, &e), APR_EARG);
    close_it(&o);
}

/* Each of these the tokenizers library refuses too; without what is refused a text would be other tokens. */
static void a_tokenizer_of_which_something_would_be_left_out_is_refused(void **state)
{
#define BPE(vocab, merges) "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2" vocab "},\"merges\":" merges "}}"
#define WITH(members)      "{" members ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}"
#define PIECES(vocab)      "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":" vocab "}}"
    static const struct {
        const char *json, *says;
    } rows[] = {
        { BPE(",\"c\":-1", "[]"), "1 of 4 tokens are no text with an id below 4294967295, the first is \"c\"" },
        { BPE(",\"c\":1.5", "[]"), "\"c\"" },
        { BPE(",\"c\":\"3\"", "[]"), "\"c\"" },
        { BPE(",\"c\":null", "[]"), "\"c\"" },
        { BPE(",\"c\":4294967301", "[]"), "\"c\"" },
        { BPE("", "null"), "\"merges\" of the tokenizer is no list" },
        { BPE("", "{}"), "\"merges\" of the tokenizer is no list: \"{}\"" },
        { BPE("", "[\"a b\",[\"a\"]]"), "1 of 2 merges are not two parts, the first is \"[\"a\"]\"" },
        { BPE("", "[[\"a\",\"b\",\"ab\"]]"), "merges" },
        { BPE("", "[[1,2]]"), "merges" },
        { BPE("", "[7]"), "the first is \"7\"" },
        { BPE("", "[\"ab\"]"), "the first is \"ab\"" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}}}", "\"merges\"" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":[[\"a\",0]],\"merges\":[]}}", "\"vocab\" of the tokenizer is no object" },
        { "{\"model\":5}", "\"model\" of the tokenizer is no object: \"5\"" },
        { WITH("\"pre_tokenizer\":\"x\""), "\"pre_tokenizer\" of the tokenizer is no object" },
        { WITH("\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"use_regex\":5}"), "\"use_regex\" of the tokenizer is no boolean" },
        { WITH("\"normalizer\":5"), "\"normalizer\"" },
        { WITH("\"normalizer\":{\"type\":\"Sequence\"}"), "\"normalizers\" of the tokenizer is no list" },
        { WITH("\"normalizer\":{\"type\":\"Prepend\"}"), "\"prepend\" of the tokenizer is no string" },
        { WITH("\"post_processor\":[]"), "\"post_processor\"" },
        { WITH("\"decoder\":true"), "\"decoder\"" },
        { WITH("\"added_tokens\":{}"), "\"added_tokens\" of the tokenizer is no list" },
        { WITH("\"added_tokens\":[{}]"), "\"content\" of the tokenizer is no string" },
        { WITH("\"added_tokens\":[{\"id\":-5,\"content\":\"<s>\"}]"), "\"<s>\"" },
        { WITH("\"added_tokens\":[{\"id\":5,\"content\":\"<s>\",\"special\":1}]"), "\"special\" of the tokenizer is no boolean" },
        { PIECES("{\"a\":0}"), "\"vocab\" of the tokenizer is no list" },
        { PIECES("[[\"a\",-1],[\"b\"]]"), "1 of 2 tokens" },
        { PIECES("[[\"a\",\"x\"]]"), "1 of 1 tokens" },
    };
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_error e = { .text = "" };
        struct opened o;
        const enum apr_code code = try_open(folder_with("not-whole", rows[i].json, strlen(rows[i].json)), &o, &e);
        if (code != APR_ECORRUPT || strstr(e.text, rows[i].says) == NULL)
            fail_msg("%s: code %d, %s", rows[i].json, code, e.text);
        close_it(&o);
    }
    static const char *const sound[] = { WITH("\"normalizer\":null,\"pre_tokenizer\":null,\"post_processor\":null,\"decoder\":null"),
                                         BPE(",\"c\":4294967294", "[[\"a\",\"b\"]]") };
    for (size_t i = 0; i < APR_LENGTH(sound); i++) {
        struct opened o = open_it(sound[i], folder_with("whole", sound[i], strlen(sound[i])));
        close_it(&o);
    }
}

/* The GGUF with a key's array (| key | 9, an array | type | n | elements |) changed. */
static const char *gguf_changed(const char *key, void change(struct test_bytes *b, size_t array))
{
    struct test_bytes b = test_load(FOLDER "bytes.gguf"), made = { 0 };
    const unsigned char *const at = memmem(b.at, b.n, key, strlen(key));
    assert_non_null(at);
    test_put(&made, b.at, b.n);
    change(&made, (size_t)(at - b.at) + strlen(key));
    while (made.n % 32 != 0)
        test_zeros(&made, 1);
    const char *const file = test_file("changed.gguf", made.at, made.n);
    test_free(&b);
    test_free(&made);
    return file;
}

static void lose_blank(struct test_bytes *b, size_t array) { *(char *)memchr(b->at + array + 16, ' ', 64) = '_'; }

static void lose_element(struct test_bytes *b, size_t array)
{
    b->at[array + 8] -= 1;
    memmove(b->at + array + 16, b->at + array + 20, b->n - array - 20);
    b->n -= 4;
}

static void a_gguf_of_which_something_would_be_left_out_is_refused(void **state)
{
    static const struct {
        const char *key;
        void      (*change)(struct test_bytes *b, size_t array);
        const char *says;
    } rows[] = {
        { "tokenizer.ggml.merges", lose_blank, "merges are not two parts" },
        { "tokenizer.ggml.token_type", lose_element, "is no list of a number for each token" },
    };
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_error e = { .text = "" };
        struct opened o;
        const enum apr_code code = try_open(gguf_changed(rows[i].key, rows[i].change), &o, &e);
        if (code != APR_ECORRUPT || strstr(e.text, rows[i].says) == NULL)
            fail_msg("%s: code %d, %s", rows[i].key, code, e.text);
        close_it(&o);
    }
}

/* ---- sizes ----------------------------------------------------------------------------------------------------------- */

static enum apr_code encode_run(const struct opened *o, unsigned char c, size_t n, size_t *nids, struct apr_error *e)
{
    struct apr_ids ids = { 0 };
    unsigned char *const text = malloc(n);
    memset(text, c, n);
    const enum apr_code code = apr_encode(o->x, (struct apr_bytes){ text, n }, true, &ids, e);
    *nids = ids.n;
    apr_ids_free(&ids);
    free(text);
    return code;
}

static void long_runs_take_time_in_proportion(void **state)
{
    static const char *const names[] = { "gpt-2", "llama-bpe", "deepseek-llm", "gpt-4o" };
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(names); i++) {
        struct opened o = open_it(names[i], gguf_with(names[i], "bytes"));
        for (const char *c = " a\nA7="; *c != 0; c++) { /* the square of it would take hours */
            struct apr_error e;
            size_t n;
            if (encode_run(&o, (unsigned char)*c, 300000, &n, &e) != APR_OK || n < 1000 || n > 300001)
                fail_msg("%s: %zu ids of a run of '%c': %s", names[i], n, *c, e.text);
        }
        close_it(&o);
    }
}

static void an_expression_that_never_ends_is_a_limit(void **state)
{
    static const char members[] = "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?:a|aa)*b\"},"
                                  "\"behavior\":\"Isolated\"}}";
    struct apr_error e;
    size_t n;
    (void)state;
    struct opened o = open_it("a bad expression", folder_of("endless", "bytes", members));
    assert_int_equal(encode_run(&o, 'a', 5000, &n, &e), APR_ELIMIT);
    close_it(&o);
}

static void steps_that_make_a_text_ever_longer_are_a_limit(void **state)
{
    struct test_bytes members = { 0 };
    struct apr_error e;
    size_t n;
    (void)state;
    test_text(&members, "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[");
    for (size_t i = 0; i < 20; i++)
        test_text(&members, i == 0 ? "{\"type\":\"ByteLevel\"}" : ",{\"type\":\"ByteLevel\"}");
    test_put(&members, "]}}", 4);
    struct opened o = open_it("many steps", folder_of("longer", "bytes", (const char *)members.at));
    assert_int_equal(encode_run(&o, 0xC3, 1000, &n, &e), APR_ELIMIT);
    close_it(&o);
    test_free(&members);
}

/* Eight steps, each of which puts `more` bytes in the place of one, or before a text. */
static const char *growing(const char *name, const char *step, size_t more)
{
    struct test_bytes members = { 0 };
    test_text(&members, "{\"added_tokens\":[{\"id\":9999,\"content\":\"~!~\",\"special\":true}],");
    test_text(&members, "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[");
    for (size_t i = 0; i < 8; i++) {
        test_text(&members, i == 0 ? "" : ",");
        test_text(&members, step);
        for (size_t c = 0; c < more; c++)
            test_text(&members, "a");
        test_text(&members, "\"}");
    }
    test_put(&members, "]}}", 4);
    const char *const folder = folder_of(name, "bytes", (const char *)members.at);
    test_free(&members);
    return folder;
}

/* Also in the parts between special tokens, none of which is long alone. */
static void normalizers_that_make_a_text_ever_longer_are_a_limit(void **state)
{
    static const struct {
        const char   *step;
        size_t        more;
        const char   *text;
        enum apr_code code;
    } rows[] = {
        { "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"", 100, "aaaa", APR_ELIMIT },
        { "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"", 1, "aaaa", APR_OK },
        { "{\"type\":\"Prepend\",\"prepend\":\"", 3000, "x", APR_OK },
        { "{\"type\":\"Prepend\",\"prepend\":\"", 3000, "x~!~x~!~x~!~x", APR_ELIMIT },
        { "{\"type\":\"Prepend\",\"prepend\":\"", 70000, "x", APR_ELIMIT },
    };
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_error e = { .text = "" };
        struct apr_ids ids = { 0 };
        struct opened o = open_it(rows[i].step, growing("growing", rows[i].step, rows[i].more));
        const enum apr_code code = apr_encode(o.x, apr_text(rows[i].text), true, &ids, &e);
        if (code != rows[i].code || (code != APR_OK && strstr(e.text, "makes more of a text") == NULL))
            fail_msg("row %zu: code %d, %s", i, code, e.text);
        apr_ids_free(&ids);
        close_it(&o);
    }
}

/* ---- expressions ----------------------------------------------------------------------------------------------------- */

/* What Oniguruma matches first, as the tokenizers library splits by it. */
static void expressions_match_what_oniguruma_matches(void **state)
{
    static const struct {
        const char *expression, *text, *match;
    } rows[] = {
        { "\\s+$", "a  \nb", "  " },
        { "(?i:'s)", "a'\u017fb", "'\u017f" },
        { "(?i:k)", "a\u212ab", "\u212a" },
        { "\\h+", "xxaf09gg", "af09" },
        { "\\v", "a\x0c\x0b", "\x0b" },
        { "\\R", "a\r\nb", "\r\n" },
        { "a{,2}c", "aaac", "aac" },
        { "a{1,2}+", "baaaaab", "aaaaa" },
        { "[a-z&&[^m]]+", "mabmcd", "ab" },
        { "[^a-z&&[^m]]+", "abm1", "m1" },
        { "\\p{^L}+", "ab12", "12" },
        { "\\p{Letter}+", "1ab", "ab" },
        { "\\p{Han}+", "ab\u6f22\u5b57cd", "\u6f22\u5b57" },
        { "[[:punct:]]+", "a$+!b", "$+!" },
        { "\\w+", " a_b\u203fc\u00b2\u00e9\u0301-", "a_b\u203fc\u00b2\u00e9\u0301" },
        { "\\d+", "a12\u0663\u00b2", "12\u0663" },
        { "[^\\S\\n]+", "a\n\t b", "\t " },
        { "[a[bc]]+", "xabcx", "abc" },
        { "(?m:.)", "\n", "\n" },
        { "\\u00e9|\\x41", "a\u00e9", "\u00e9" },
        { "[\\]\\-a]+", "x]-a", "]-a" },
        { "a++b", "aab", "aab" },
        { "{x}", "a{x}", "{x}" },
        { "\\bb", "abb b", "b" },
    };
    struct apr_error e;
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_expression *x;
        size_t begin = 0, end = 0;
        bool found = false;
        if (apr_expression_new(&x, apr_text(rows[i].expression), true, &e) != APR_OK ||
            apr_expression_next(x, apr_text(rows[i].text), 0, &begin, &end, &found, &e) != APR_OK)
            fail_msg("%s: %s", rows[i].expression, e.text);
        if (!found || !apr_bytes_is((struct apr_bytes){ (const unsigned char *)rows[i].text + begin, end - begin }, rows[i].match))
            fail_msg("%s matches %zu to %zu of %s", rows[i].expression, begin, end, rows[i].text);
        apr_expression_free(x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_those_of_the_tokenizers_library),
        cmocka_unit_test(ids_are_those_of_llama_cpp),
        cmocka_unit_test(an_apr_that_carries_the_files_gives_the_ids_of_the_checkpoint),
        cmocka_unit_test(spellings_put_together_are_the_text),
        cmocka_unit_test(a_bos_that_is_put_before_a_text_is_told),
        cmocka_unit_test(what_is_not_known_is_named),
        cmocka_unit_test(a_pre_tokenizer_of_no_known_name_is_named),
        cmocka_unit_test(a_model_without_a_tokenizer_has_no_encoder),
        cmocka_unit_test(a_tokenizer_of_which_something_would_be_left_out_is_refused),
        cmocka_unit_test(a_gguf_of_which_something_would_be_left_out_is_refused),
        cmocka_unit_test(long_runs_take_time_in_proportion),
        cmocka_unit_test(an_expression_that_never_ends_is_a_limit),
        cmocka_unit_test(steps_that_make_a_text_ever_longer_are_a_limit),
        cmocka_unit_test(normalizers_that_make_a_text_ever_longer_are_a_limit),
        cmocka_unit_test(expressions_match_what_oniguruma_matches),
    };
    return cmocka_run_group_tests(tests, load_texts, drop_texts);
}
