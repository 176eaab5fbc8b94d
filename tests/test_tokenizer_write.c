#include "support.h"

#include <stdio.h>

#include "bare_model.h"
#include "token/tokenizer_parts.h"

#include "base/bytes.h"
#include "files/source.h"
#include "model/json.h"
#include "model/meta.h"
#include "model/open.h"

#define FOLDER "fixtures/vocabulary/"

/* ---- making ---------------------------------------------------------------------------------------------------------- */

static void check(enum apr_code code, const struct apr_error *e)
{
    if (code != APR_OK)
        fail_msg("%s: %s", e->file, e->text);
}

typedef enum apr_code to_draft_fn(struct apr_draft *d, struct apr_tokenizer *t, const struct apr_run *r, struct apr_error *e);

/* The keys of a source of that format. */
static struct apr_draft keys_of(const char *format, const struct apr_meta *meta, const struct apr_side *side, to_draft_fn *to)
{
    struct model m;
    struct apr_draft d = { 0 };
    struct apr_error e = { .at = APR_NOWHERE };
    model_begin(&m, format);
    struct apr_model source = { .format = m.m.format };
    if (meta != NULL)
        source.meta = *meta;
    struct apr_tokenizer t = { .m = &source, .side = side };
    check(to(&d, &t, test_run_with(1), &e), &e);
    return d;
}

static struct apr_side files_of(const struct apr_meta *meta)
{
    struct model m;
    struct apr_side files = { 0 };
    struct apr_error e = { .at = APR_NOWHERE };
    const struct apr_side none = { 0 };
    model_begin(&m, "gguf");
    const struct apr_model gguf = { .format = m.m.format, .meta = *meta };
    struct apr_tokenizer t = { .m = &gguf, .side = &none };
    check(apr_tokenizer_to_hf(&files, &t, test_run_with(1), &e), &e);
    return files;
}

static void put(struct apr_side *s, const char *name, const char *text)
{
    struct apr_error e;
    check(apr_side_put(s, name, apr_text(text), &e), &e);
}

static struct apr_side folder(const char *path)
{
    struct apr_side s = { 0 };
    struct apr_error e;
    check(apr_side_folder(&s, path, true, test_run_with(1), &e), &e);
    return s;
}

/* ---- comparing ------------------------------------------------------------------------------------------------------- */

static struct apr_bytes spelled(const struct apr_draft *d, struct apr_arena **a, const char *but)
{
    struct apr_text_made m;
    struct apr_bytes text;
    struct apr_error e;
    check(apr_text_begin(&m, &e), &e);
    for (size_t i = 0; i < d->meta.n; i++) {
        const struct apr_meta_entry *const k = &d->meta.entry[i];
        if (k->value.type == APR_META_ARRAY || apr_bytes_have(k->key, but))
            continue;
        fprintf(m.out.to, "%.*s %s ", (int)k->key.n - 10, (const char *)k->key.at + 10, apr_meta_type_word(k->value.type));
        apr_out_value(&(struct apr_out){ .to = m.out.to }, NULL, &k->value, UINT64_MAX);
        putc('\n', m.out.to);
    }
    check(apr_text_end(&m, a, &text, &e), &e);
    return text;
}

/* Its keys that are no arrays, one a line without "tokenizer.". */
static void expect_words(const char *what, const struct apr_draft *d, const char *but, const char *words)
{
    struct apr_arena *a = NULL;
    const struct apr_bytes text = spelled(d, &a, but);
    if (!apr_bytes_is(text, words))
        fail_msg("%s: expected\n%s\ngot\n%.*s", what, words, APR_PRINTED(text));
    apr_arena_free(&a);
}

static void expect_same(const char *what, const struct apr_meta *meta, const struct apr_draft *d, const char *key)
{
    const struct apr_value *const want = apr_meta_find(meta, key), *const got = apr_draft_find(d, apr_text(key));
    if (want == NULL || got == NULL || !apr_value_equal(want, got))
        fail_msg("%s: %s differs", what, key);
}

static const struct apr_value *at(const struct apr_draft *d, const char *key)
{
    const struct apr_value *const v = apr_draft_find(d, apr_text(key));
    if (v == NULL)
        fail_msg("no key %s", key);
    return v;
}

/* Element number i of an array of numbers. */
static double number_at(const struct apr_value *array, size_t i)
{
    struct apr_elements each = apr_elements_of(array);
    struct apr_value v = { .type = APR_META_ANY };
    for (size_t k = 0; k <= i; k++)
        assert_true(apr_elements_next(&each, &v));
    apr_elements_end(&each);
    return apr_number(&v);
}

static void expect_text(const struct apr_value *array, size_t i, const char *text)
{
    struct apr_elements each = apr_elements_of(array);
    struct apr_value v = { .type = APR_META_ANY };
    for (size_t k = 0; k <= i; k++)
        assert_true(apr_elements_next(&each, &v));
    if (!apr_bytes_is(v.text, text))
        fail_msg("element %zu: expected %s, got %s", i, text, APR_QUOTED(v.text));
    apr_elements_end(&each);
}

static struct apr_model *open_gguf(const char *name)
{
    char path[128];
    struct apr_model *m = NULL;
    struct apr_error e;
    snprintf(path, sizeof path, FOLDER "%s.gguf", name);
    check(apr_open(&m, path, test_run_with(1), &e), &e);
    return m;
}

/* ---- files to keys --------------------------------------------------------------------------------------------------- */

/* The rows that tokenizers and sentencepiece gave are those that gguf-py was given. */
static void files_become_the_tokens_of_the_gguf_beside_them(void **state)
{
    static const struct {
        const char *name, *key[4];
    } made[] = {
        { "bpe", { "tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens", "tokenizer.ggml.merges" } },
        { "wordpiece", { "tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type" } },
        { "spm", { "tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens", "tokenizer.ggml.scores" } },
        { "unigram", { "tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens", "tokenizer.ggml.scores" } },
    };
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(made); i++) {
        char path[64];
        snprintf(path, sizeof path, FOLDER "%s/", made[i].name);
        struct apr_side side = folder(path);
        if (strcmp(made[i].name, "spm") == 0) /* whose user's token has the score -1000 of those that are added */
            apr_side_remove(&side, "tokenizer.json");
        struct apr_draft d = keys_of("safetensors", NULL, &side, apr_tokenizer_to_gguf);
        struct apr_model *const m = open_gguf(made[i].name);
        for (size_t k = 0; k < 4; k++)
            expect_same(made[i].name, &m->meta, &d, made[i].key[k]);
        apr_close(m);
        apr_draft_end(&d);
        apr_side_end(&side);
    }
}

#define BPE(post) \
    "{\"added_tokens\":[{\"id\":3,\"content\":\"<|end|>\",\"special\":false},{\"id\":5,\"content\":\"<s>\",\"special\":true}," \
    "{\"id\":6,\"content\":\"a\xe2\x96\x81z\",\"special\":false}]," \
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"post_processor\":" post "," \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[[\"a\",\"b\"],[\"a \",\"b\"]]}}"
#define SPECIAL(t) "{\"SpecialToken\":{\"id\":\"" t "\",\"type_id\":0}}"
#define TEXT(t)    "{\"Sequence\":{\"id\":\"" t "\",\"type_id\":0}}"
#define TEMPLATE(single, pair) "{\"type\":\"TemplateProcessing\",\"single\":[" single "],\"pair\":[" pair "]}"

/* Missing ids are padding; added tokens are special by their flag or by their looks, else the user's. */
static void tokens_have_texts_and_types_of_llama_cpp(void **state)
{
    static const double types[] = { 1, 1, 1, 3, 5, 3, 4, 5 };
    struct apr_side side = { 0 };
    (void)state;
    put(&side, "tokenizer.json", BPE("null"));
    put(&side, "config.json", "{\"vocab_size\":8}");
    struct apr_draft d = keys_of("safetensors", NULL, &side, apr_tokenizer_to_gguf);
    for (size_t i = 0; i < APR_LENGTH(types); i++)
        assert_true(number_at(at(&d, "tokenizer.ggml.token_type"), i) == types[i]);
    expect_text(at(&d, "tokenizer.ggml.tokens"), 4, "[PAD4]");
    expect_text(at(&d, "tokenizer.ggml.tokens"), 6, "a z");
    expect_text(at(&d, "tokenizer.ggml.merges"), 0, "a b");
    expect_text(at(&d, "tokenizer.ggml.merges"), 1, "a\u0120 b");
    apr_draft_end(&d);
    apr_side_end(&side);
}

static void a_token_beyond_the_vocabulary_is_named_with_the_option_that_helps(void **state)
{
    struct apr_side side = { 0 };
    struct apr_draft d = { 0 };
    struct apr_error e = { .at = APR_NOWHERE };
    struct model m;
    (void)state;
    put(&side, "tokenizer.json", BPE("null"));
    put(&side, "config.json", "{\"vocab_size\":6}");
    model_begin(&m, "safetensors");
    struct apr_tokenizer t = { .m = &m.m, .side = &side };
    assert_int_equal(apr_tokenizer_to_gguf(&d, &t, test_run_with(1), &e), APR_EARG);
    assert_non_null(strstr(e.text, "has id 6, and vocab_size in config.json is 6"));
    assert_non_null(strstr(e.text, "--tokenizer"));
    put(&side, "config.json", "{}");
    t.rows = 5;
    assert_int_equal(apr_tokenizer_to_gguf(&d, &t, test_run_with(1), &e), APR_EARG);
    assert_non_null(strstr(e.text, "rows"));
    apr_draft_end(&d);
    apr_side_end(&side);
}

/* It would make a list of padding that no machine holds. */
static void a_token_of_an_id_beyond_all_vocabularies_is_named(void **state)
{
    static to_draft_fn *const ways[] = { apr_tokenizer_to_gguf, apr_tokenizer_to_apr };
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(ways); i++) {
        struct apr_side side = { 0 };
        struct apr_draft d = { 0 };
        struct apr_error e = { .at = APR_NOWHERE };
        struct model m;
        put(&side, "tokenizer.json", "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1000000000},\"merges\":[]}}");
        model_begin(&m, "safetensors");
        struct apr_tokenizer t = { .m = &m.m, .side = &side };
        assert_int_equal(ways[i](&d, &t, test_run_with(1), &e), APR_ELIMIT);
        assert_non_null(strstr(e.text, "token \"b\" has id 1000000000, and a vocabulary of at most 4194304"));
        apr_draft_end(&d);
        apr_side_end(&side);
    }
}

/* Half a million runs of all tokens are a small text and much work, unless each token is of one. */
static void runs_of_added_tokens_that_lie_over_one_another_are_left_out(void **state)
{
    struct apr_model *const m = open_gguf("bpe");
    struct apr_draft d = { 0 };
    struct apr_error e;
    struct test_bytes runs = { 0 };
    (void)state;
    test_text(&runs, "{\"model\":{\"type\":\"BPE\",\"vocab\":null},\"added_tokens\":[[1,4294967295,2]");
    for (unsigned i = 0; i < 500000; i++)
        test_text(&runs, ",[0,4294967295,0]");
    test_text(&runs, "]}");
    for (size_t k = 0; k < m->meta.n; k++)
        check(apr_draft_put(&d, m->meta.entry[k].key, &m->meta.entry[k].value, &e), &e);
    const struct apr_value carried = { .type = APR_META_STRING, .text = { runs.at, runs.n } };
    check(apr_draft_put(&d, apr_text(APR_CARRIED_TOKENIZER), &carried, &e), &e);
    struct apr_side files = files_of(&d.meta);
    assert_true(apr_bytes_have(apr_side_get(&files, "tokenizer.json"), "{\"id\":1,\"content\""));
    assert_false(apr_bytes_have(apr_side_get(&files, "tokenizer.json"), "{\"id\":0,\"content\""));
    test_free(&runs);
    apr_side_end(&files);
    apr_draft_end(&d);
    apr_close(m);
}

/* What families.md says of special tokens, case by case. */
static void special_tokens_and_flags_come_from_where_llama_cpp_takes_them(void **state)
{
    static const struct {
        const char *what, *post, *config, *model, *words;
    } cases[] = {
        { "config.json alone", "null", NULL, "{\"bos_token_id\":1,\"eos_token_id\":[2],\"pad_token_id\":-1}", "ggml.bos_token_id u32 1\n" },
        { "the tokenizer's before the model's", "null", "{\"bos_token\":\"<s>\",\"add_eos_token\":true}",
          "{\"bos_token_id\":1,\"eos_token_id\":2}", "ggml.bos_token_id u32 5\nggml.eos_token_id u32 2\nggml.add_eos_token bool true\n" },
        { "a token that is not added has no id", "null", "{\"bos_token\":\"ab\"}", "{}", "" },
        { "cls and sep stand in", "null", "{\"cls_token\":\"<s>\",\"sep_token\":{\"content\":\"<|end|>\"}}", "{}",
          "ggml.bos_token_id u32 5\nggml.eos_token_id u32 3\nggml.seperator_token_id u32 3\n" },
        { "what leads", TEMPLATE(SPECIAL("<s>") "," TEXT("A"), TEXT("A") "," TEXT("B")), "{\"bos_token\":\"<s>\"}", "{}",
          "ggml.bos_token_id u32 5\nggml.add_bos_token bool true\n" },
        { "what leads and is neither", TEMPLATE(SPECIAL("<x>") "," TEXT("A"), ""), "{\"bos_token\":\"<s>\"}", "{}",
          "ggml.bos_token_id u32 5\nggml.add_bos_token bool false\n" },
        { "what ends takes the place of what did", TEMPLATE(TEXT("A") "," SPECIAL("<|end|>"), ""), "{\"eos_token\":\"<s>\"}", "{}",
          "ggml.eos_token_id u32 3\nggml.eot_token_id u32 5\nggml.add_eos_token bool true\n" },
        { "between two texts", TEMPLATE(SPECIAL("<s>") "," TEXT("A") "," SPECIAL("<|end|>"),
          SPECIAL("<s>") "," TEXT("A") "," SPECIAL("<|end|>") "," TEXT("B") "," SPECIAL("<|end|>")),
          "{\"cls_token\":\"<s>\",\"sep_token\":\"<|end|>\"}", "{}",
          "ggml.bos_token_id u32 5\nggml.eos_token_id u32 3\nggml.seperator_token_id u32 3\n"
          "ggml.add_bos_token bool true\nggml.add_eos_token bool true\nggml.add_sep_token bool false\n" },
        { "RoBERTa", "{\"type\":\"RobertaProcessing\",\"sep\":[\"<|end|>\",3],\"cls\":[\"<s>\",5]}", "{}", "{}",
          "ggml.seperator_token_id u32 3\nggml.add_bos_token bool true\nggml.add_eos_token bool true\nggml.add_sep_token bool true\n" },
        { "of several", "{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"}," TEMPLATE(SPECIAL("<s>") "," TEXT("A"), "") "]}",
          "{\"bos_token\":\"<s>\",\"add_bos_token\":false}", "{}", "ggml.bos_token_id u32 5\nggml.add_bos_token bool false\n" },
    };
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(cases); i++) {
        struct apr_side side = { 0 };
        char text[2048], words[512];
        static const char mark[] = "\"post_processor\":null";
        const char *const whole = BPE("null"), *const place = strstr(whole, mark);
        snprintf(text, sizeof text, "%.*s\"post_processor\":%s%s", (int)(place - whole), whole, cases[i].post, place + sizeof mark - 1);
        put(&side, "tokenizer.json", text);
        put(&side, "config.json", cases[i].model);
        if (cases[i].config != NULL)
            put(&side, "tokenizer_config.json", cases[i].config);
        struct apr_draft d = keys_of("safetensors", NULL, &side, apr_tokenizer_to_gguf);
        snprintf(words, sizeof words, "ggml.model str \"gpt2\"\n%s", cases[i].words);
        apr_draft_remove(&d, apr_text("tokenizer.ggml.pre"));
        apr_draft_remove(&d, apr_text(APR_CARRIED_TOKENIZER));
        apr_draft_remove(&d, apr_text(APR_CARRIED_CONFIG));
        expect_words(cases[i].what, &d, "tokenizer.ggml.pre", words);
        apr_draft_end(&d);
        apr_side_end(&side);
    }
}

static void templates_have_their_order_and_their_names(void **state)
{
    static const struct {
        const char *what, *file[3], *text[3], *words;
    } cases[] = {
        { "no configuration, no template", { "chat_template.jinja" }, { "x" }, "" },
        { "a file of its own", { "tokenizer_config.json", "chat_template.jinja" }, { "{}", "x\n" }, "chat_template str \"x\\n\"\n" },
        { "the configuration's first", { "tokenizer_config.json", "chat_template.jinja" }, { "{\"chat_template\":\"c\"}", "x" },
          "chat_template str \"c\"\n" },
        { "null is none", { "tokenizer_config.json", "chat_template.jinja" }, { "{\"chat_template\":null}", "x" }, "" },
        { "the oldest", { "tokenizer_config.json", "chat_template.json" }, { "{}", "{\"chat_template\":\"o\"}" }, "chat_template str \"o\"\n" },
        { "several", { "tokenizer_config.json" },
          { "{\"chat_template\":[{\"name\":\"default\",\"template\":\"d\"},{\"name\":\"tool-use\",\"template\":\"t\"}]}" },
          "chat_template.tool_use str \"t\"\nchat_template str \"d\"\n" },
        { "more files", { "tokenizer_config.json", "chat_template.jinja", "additional_chat_templates/rag.jinja" }, { "{}", "x", "r" },
          "chat_template.rag str \"r\"\nchat_template str \"x\"\n" },
    };
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(cases); i++) {
        struct apr_side side = { 0 };
        put(&side, "tokenizer.json", BPE("null"));
        for (size_t k = 0; k < 3 && cases[i].file[k] != NULL; k++)
            put(&side, cases[i].file[k], cases[i].text[k]);
        struct apr_draft d = keys_of("safetensors", NULL, &side, apr_tokenizer_to_gguf);
        apr_draft_remove(&d, apr_text(APR_CARRIED_TOKENIZER));
        apr_draft_remove(&d, apr_text(APR_CARRIED_CONFIG));
        expect_words(cases[i].what, &d, "tokenizer.ggml", cases[i].words);
        if (i == 5)
            expect_text(at(&d, "tokenizer.chat_templates"), 0, "tool_use");
        apr_draft_end(&d);
        apr_side_end(&side);
    }
}

/* ---- pre-tokenizers -------------------------------------------------------------------------------------------------- */

#define LEVEL(regex) "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":" regex "}"
#define SPLIT(re)    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" re "\"},\"behavior\":\"Isolated\",\"invert\":false}"
#define ALL(parts)   "{\"type\":\"Sequence\",\"pretokenizers\":[" parts "]}"
#define LLAMA_3                                                                                                          \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*" \
    "|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define QWEN_2                                                                                                           \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*" \
    "|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"

/* As published files have them. */
static void pre_tokenizers_are_recognised_by_what_they_do(void **state)
{
    static const struct {
        const char *pre_tokenizer, *normalizer, *name;
        bool        ignore_merges, bos, cls;
    } cases[] = {
        { LEVEL("true"), "", "gpt-2", false, false, false },
        { LEVEL("true"), "{\"type\":\"NFC\"}", "olmo", false, false, false },
        { LEVEL("true"), "", "roberta-bpe", false, false, true },
        { LEVEL("false"), "", NULL, false, false, false },
        { "{\"type\":\"ByteLevel\"}", "", "gpt-2", false, false, false },
        { ALL(SPLIT(LLAMA_3) "," LEVEL("false")), "", "llama-bpe", true, true, false },
        { ALL(SPLIT(LLAMA_3) "," LEVEL("false")), "", "smaug-bpe", true, false, false },
        { ALL(SPLIT(LLAMA_3) "," LEVEL("false")), "", "dbrx", false, false, false },
        { ALL(SPLIT(QWEN_2) "," LEVEL("false")), "{\"type\":\"NFC\"}", "qwen2", false, false, false },
        { ALL("{\"type\":\"Digits\",\"individual_digits\":true}," LEVEL("true")), "", "starcoder", false, false, false },
        { ALL("{\"type\":\"Punctuation\",\"behavior\":\"Contiguous\"}," LEVEL("true")
              ",{\"type\":\"Digits\",\"individual_digits\":false}," SPLIT("[0-9][0-9][0-9]")), "", "falcon", false, false, false },
        { ALL(ALL(SPLIT("[\\r\\n]") "," SPLIT("\\\\s?\\\\p{L}+") "," SPLIT("\\\\s?\\\\p{P}+")) "," SPLIT("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+")
              ",{\"type\":\"Digits\",\"individual_digits\":true}," LEVEL("false")), "", "deepseek-coder", false, false, false },
        { ALL(SPLIT("x") "," LEVEL("false")), "", NULL, false, false, false },
        { "{\"type\":\"Whitespace\"}", "", NULL, false, false, false },
        { "", "", NULL, false, false, false },
    };
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(cases); i++) {
        struct apr_vocabulary v = { 0 }, scratch = { 0 };
        struct apr_error e;
        const char *name;
        const struct apr_pretoken_facts facts = {
            .v = &v, .pre_tokenizer = apr_text(cases[i].pre_tokenizer), .normalizer = apr_text(cases[i].normalizer),
            .ignore_merges = cases[i].ignore_merges, .bos = cases[i].bos, .cls = cases[i].cls,
        };
        check(apr_pretoken_name(&facts, &scratch, &name, &e), &e);
        if ((name == NULL) != (cases[i].name == NULL) || (name != NULL && strcmp(name, cases[i].name) != 0))
            fail_msg("%s: %s instead of %s", cases[i].pre_tokenizer, name, cases[i].name);
        apr_vocabulary_end(&v);
        apr_vocabulary_end(&scratch);
    }
}

/* A GGUF with any name has it again after the way through files, be it known or not. */
static void a_pre_tokenizer_survives_the_way_to_files_and_back(void **state)
{
    static const char *const names[] = { "llama-bpe", "smaug-bpe", "falcon3", "pixtral", "tekken", "qwen2", "deepseek-r1-qwen", "gpt-2", "phi-2",
                                         "olmo", "mpt", "roberta-bpe", "dbrx", "gpt-4o", "llama4", "starcoder", "refact", "smollm", "falcon",
                                         "deepseek-v3", "deepseek-coder", "deepseek-llm", "of-tomorrow" };
    (void)state;
    struct apr_model *const m = open_gguf("bpe");
    for (size_t i = 0; i < APR_LENGTH(names); i++) {
        struct apr_draft d = { 0 };
        struct apr_error e;
        for (size_t k = 0; k < m->meta.n; k++)
            check(apr_draft_put(&d, m->meta.entry[k].key, &m->meta.entry[k].value, &e), &e);
        check(apr_draft_text(&d, "tokenizer.ggml.pre", apr_text(names[i]), &e), &e);
        struct apr_side files = files_of(&d.meta);
        struct apr_draft back = keys_of("safetensors", NULL, &files, apr_tokenizer_to_gguf);
        expect_same(names[i], &d.meta, &back, "tokenizer.ggml.pre");
        apr_draft_end(&back);
        apr_draft_end(&d);
        apr_side_end(&files);
    }
    apr_close(m);
}

/* ---- keys to files --------------------------------------------------------------------------------------------------- */

static void a_gguf_survives_the_way_to_files_and_back(void **state)
{
    static const char *const names[] = { "bpe", "spm", "wordpiece", "unigram" };
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(names); i++) {
        struct apr_model *const m = open_gguf(names[i]);
        struct apr_side files = files_of(&m->meta);
        struct apr_draft back = keys_of("safetensors", NULL, &files, apr_tokenizer_to_gguf);
        for (size_t k = 0; k < m->meta.n; k++) {
            const struct apr_bytes key = m->meta.entry[k].key;
            if (apr_bytes_have(key, "tokenizer."))
                expect_same(names[i], &m->meta, &back, (const char *)apr_arena_copy(&back.arena, key).at);
        }
        apr_draft_end(&back);
        apr_side_end(&files);
        apr_close(m);
    }
}

/* The array with another element at some places. */
static void change(struct apr_draft *d, const char *key, const struct apr_meta *meta, const size_t at[2], const char *text, double number)
{
    const struct apr_value *const list = apr_meta_find(meta, key);
    struct apr_elements each = apr_elements_of(list);
    struct apr_array a = { .element = list->element };
    struct apr_error e;
    struct apr_value v;
    for (size_t i = 0; apr_elements_next(&each, &v); i++) {
        const bool here = i == at[0] || i == at[1];
        if (list->element == APR_META_STRING)
            apr_array_text(&a, here ? apr_text(text) : v.text);
        else if (list->element == APR_META_F32)
            apr_array_real(&a, here ? number : v.f);
        else
            apr_array_integer(&a, (uint64_t)(here ? number : apr_number(&v)));
    }
    apr_elements_end(&each);
    check(apr_draft_array(d, key, &a, &e), &e);
    apr_array_drop(&a);
}

/* Padding of another id, of which there may be two; types and scores for which the files have no place. */
static void odd_tokens_survive_the_way_to_files_and_back(void **state)
{
    static const char *const names[] = { "bpe", "spm", "wordpiece", "unigram" };
    static const char *const keys[] = { "tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.scores" };
    static const size_t twice[] = { 40, 41 };
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(names); i++) {
        struct apr_model *const m = open_gguf(names[i]);
        struct apr_draft d = { 0 };
        struct apr_error e;
        for (size_t k = 0; k < m->meta.n; k++)
            check(apr_draft_put(&d, m->meta.entry[k].key, &m->meta.entry[k].value, &e), &e);
        for (size_t k = 0; k < APR_LENGTH(keys); k++)
            if (apr_draft_find(&d, apr_text(keys[k])) != NULL)
                change(&d, keys[k], &m->meta, twice, "[PAD39]", k == 1 ? APR_TOKEN_UNUSED : -7.25);
        struct apr_side files = files_of(&d.meta);
        struct apr_draft back = keys_of("safetensors", NULL, &files, apr_tokenizer_to_gguf);
        for (size_t k = 0; k < APR_LENGTH(keys); k++)
            if (apr_draft_find(&d, apr_text(keys[k])) != NULL)
                expect_same(names[i], &d.meta, &back, keys[k]);
        apr_draft_end(&back);
        apr_side_end(&files);
        apr_draft_end(&d);
        apr_close(m);
    }
}

/* Every member but where the vocabulary comes from a SentencePiece model, whose scores a tokenizer.json has not. */
static void files_survive_the_way_to_a_gguf_and_back(void **state)
{
    static const char *const names[] = { "bpe", "wordpiece", "unigram" }, *const files[] = { "tokenizer.json", "tokenizer_config.json" };
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(names); i++) {
        char path[64];
        snprintf(path, sizeof path, FOLDER "%s/", names[i]);
        struct apr_side side = folder(path);
        struct apr_draft d = keys_of("safetensors", NULL, &side, apr_tokenizer_to_gguf);
        struct apr_side back = files_of(&d.meta);
        for (size_t k = 0; k < APR_LENGTH(files); k++) {
            struct apr_error e;
            json_t *want, *got;
            check(apr_json_load(&want, apr_side_get(&side, files[k]), 0, &e), &e);
            check(apr_json_load(&got, apr_side_get(&back, files[k]), 0, &e), &e);
            json_object_del(got, APR_OWN_MEMBER);
            if (i == 1) { /* it is made again with all its flags */
                json_object_del(want, "added_tokens_decoder");
                json_object_del(got, "added_tokens_decoder");
            }
            if (!json_equal(want, got) && !(k == 0 && i == 2)) /* floats of a list are shortest spellings of the same f32 */
                fail_msg("%s%s: %.*s", path, files[k], APR_PRINTED(apr_side_get(&back, files[k])));
            json_decref(want);
            json_decref(got);
        }
        apr_side_end(&back);
        apr_draft_end(&d);
        apr_side_end(&side);
    }
}

/* SentencePiece's own rule on a vocabulary as small as can be. */
static void merges_are_found_in_scores(void **state)
{
    static const struct {
        const char *text;
        float       score;
    } pieces[] = { { "a", -9 }, { "b", -9 }, { "ab", -1 }, { "aba", -0.0f }, { "ba", -1 }, { "\u2581", -9 }, { "\u2581a", 0 } };
    static const struct apr_id_pair want[] = { { 0, 4 }, { 2, 0 }, { 5, 0 }, { 0, 1 }, { 1, 0 } };
    struct apr_vocabulary v = { 0 };
    struct apr_id_pair *pair;
    struct apr_error e;
    size_t n;
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(pieces); i++)
        check(apr_put_token(&v, apr_text(pieces[i].text), i, APR_TOKEN_NORMAL, pieces[i].score, &e), &e);
    check(apr_vocabulary_index(&v, &e), &e);
    check(apr_merges_of_scores(&v, &pair, &n, &e), &e);
    assert_int_equal(n, APR_LENGTH(want));
    for (size_t i = 0; i < n; i++)
        if (pair[i].left != want[i].left || pair[i].right != want[i].right)
            fail_msg("merge %zu: %u %u", i, (unsigned)pair[i].left, (unsigned)pair[i].right);
    free(pair);
    apr_vocabulary_end(&v);
}

/* ---- APR ------------------------------------------------------------------------------------------------------------- */

static void put_json(struct model *m, const char *key, const char *json)
{
    struct apr_arena *none = NULL;
    struct apr_error e;
    check(apr_json_checked(&none, apr_text(json), 0, model_key(m, key), &e), &e);
}

static void flat_keys_hold_tokens_by_their_ids(void **state)
{
    (void)state;
    struct apr_side side = { 0 };
    put(&side, "tokenizer.json", BPE("null"));
    put(&side, "tokenizer_config.json", "{\"bos_token\":\"<s>\",\"add_bos_token\":true,\"chat_template\":\"x\"}");
    struct apr_draft d = keys_of("safetensors", NULL, &side, apr_tokenizer_to_apr);
    expect_text(at(&d, "tokenizer.vocabulary"), 2, "ab");
    expect_text(at(&d, "tokenizer.vocabulary"), 3, "<|end|>");
    expect_text(at(&d, "tokenizer.vocabulary"), 4, "[PAD4]");
    expect_text(at(&d, "tokenizer.merges"), 0, "a b");
    expect_words("flat", &d, "none", "model_type str \"BPE\"\nvocab_size u32 7\npre_type str \"gpt-2\"\nbos_token_id u32 5\n"
                 "add_bos_token bool true\nchat_template str \"x\"\n");
    apr_draft_end(&d);
    apr_side_end(&side);
    struct apr_model *const m = open_gguf("spm");
    d = keys_of("gguf", &m->meta, NULL, apr_tokenizer_to_apr);
    for (size_t i = 0; i < 300; i++)
        assert_true((float)number_at(at(&d, "tokenizer.scores"), i) == (float)number_at(apr_meta_find(&m->meta, "tokenizer.ggml.scores"), i));
    expect_text(at(&d, "tokenizer.vocabulary"), 3, "<user>");
    apr_draft_end(&d);
    apr_close(m);
}

static void the_keys_of_a_gguf_are_restored_with_their_types(void **state)
{
    struct model m;
    struct apr_error e = { .at = APR_NOWHERE };
    struct apr_draft d;
    (void)state;
    model_begin(&m, "apr");
    put_json(&m, "tokenizer.vocabulary", "[\"a\",\"b\"]");
    put_json(&m, "tokenizer.scores", "[-1.5,-0.0]");
    put_json(&m, "gguf.kv", "{\"general.name\":{\"t\":\"str\",\"v\":\"x\"},\"tokenizer.ggml.model\":{\"t\":\"str\",\"v\":\"llama\"},"
             "\"tokenizer.ggml.tokens\":{\"t\":\"custom\",\"custom\":\"tokenizer.vocabulary\",\"len\":2},"
             "\"tokenizer.ggml.scores\":{\"t\":\"custom\",\"custom\":\"tokenizer.scores\",\"len\":2},"
             "\"tokenizer.ggml.token_type\":{\"t\":\"arr_i32\",\"v\":[1,-3]},\"tokenizer.x\":{\"t\":\"u64\",\"v\":18446744073709551615},"
             "\"tokenizer.y\":{\"t\":\"i8\",\"v\":-7},\"tokenizer.z\":{\"t\":\"f32\",\"v\":2},\"tokenizer.s\":{\"t\":\"str\",\"v\":{\"base64\":\"/w==\"}}}");
    d = keys_of("apr", &m.m.meta, NULL, apr_tokenizer_to_gguf);
    assert_int_equal(d.meta.n, 8);
    expect_text(at(&d, "tokenizer.ggml.tokens"), 1, "b");
    assert_int_equal(at(&d, "tokenizer.ggml.scores")->element, APR_META_F32);
    assert_true(number_at(at(&d, "tokenizer.ggml.scores"), 0) == -1.5);
    assert_true(number_at(at(&d, "tokenizer.ggml.token_type"), 1) == -3);
    assert_int_equal(at(&d, "tokenizer.x")->u, UINT64_MAX);
    assert_int_equal(at(&d, "tokenizer.y")->i, -7);
    assert_int_equal(at(&d, "tokenizer.z")->type, APR_META_F32);
    assert_memory_equal(at(&d, "tokenizer.s")->text.at, "\xff", 2);
    apr_draft_end(&d);
    model_end(&m);
    static const char *const broken[] = {
        "{\"tokenizer.a\":{\"t\":\"u32\",\"v\":\"x\"}}", "{\"tokenizer.a\":{\"t\":\"what\",\"v\":1}}", "{\"tokenizer.a\":{\"t\":\"arr_i32\",\"v\":3}}",
        "{\"tokenizer.a\":{\"t\":\"custom\",\"custom\":\"tokenizer.merges\",\"len\":1}}", "{\"tokenizer.a\":{\"t\":\"arr_str\",\"v\":[1]}}",
        "{\"tokenizer.a\":{\"t\":\"custom\",\"custom\":\"tokenizer.vocabulary\",\"len\":3}}", "{\"tokenizer.a\":{\"t\":\"str\",\"v\":{\"base64\":\"!\"}}}",
    };
    for (size_t i = 0; i < APR_LENGTH(broken); i++) {
        model_begin(&m, "apr");
        put_json(&m, "tokenizer.vocabulary", "[\"a\",\"b\"]");
        put_json(&m, "gguf.kv", broken[i]);
        struct apr_tokenizer t = { .m = &m.m };
        d = (struct apr_draft){ 0 };
        if (apr_tokenizer_to_gguf(&d, &t, test_run_with(1), &e) != APR_ECORRUPT || strstr(e.text, "tokenizer.a") == NULL)
            fail_msg("%s: %s", broken[i], e.text);
        apr_draft_end(&d);
        model_end(&m);
    }
}

/* What the reference program writes has neither files nor gguf.kv. */
static void flat_keys_alone_become_those_of_a_gguf(void **state)
{
    struct model m;
    (void)state;
    model_begin(&m, "apr");
    put_json(&m, "tokenizer.vocabulary", "[\"[PAD]\",\"[UNK]\",\"in\",\"##g\"]");
    model_string(&m, "tokenizer.model_type", "WordPiece");
    model_number(&m, "tokenizer.unknown_token_id", 1);
    model_number(&m, "tokenizer.padding_token_id", 0);
    struct apr_draft d = keys_of("apr", &m.m.meta, NULL, apr_tokenizer_to_gguf);
    expect_text(at(&d, "tokenizer.ggml.tokens"), 0, "[PAD]");
    expect_text(at(&d, "tokenizer.ggml.tokens"), 2, "\u2581in");
    expect_text(at(&d, "tokenizer.ggml.tokens"), 3, "g");
    expect_words("flat", &d, "none", "ggml.model str \"bert\"\nggml.pre str \"jina-v2-en\"\nggml.unknown_token_id u32 1\n"
                 "ggml.padding_token_id u32 0\n");
    apr_draft_end(&d);
    model_end(&m);
}

static void floats_are_spelled_as_short_as_they_read_back(void **state)
{
    static const struct {
        float       v;
        const char *spelled;
    } cases[] = { { 0, "0.0" }, { -0.0f, "-0.0" }, { 1, "1.0" }, { -1000, "-1e+03" }, { 0.1f, "0.1" }, { -2.3301f, "-2.3301" }, { 16777216, "16777216.0" },
                  { 1e-45f, "1e-45" } };
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(cases); i++) {
        char buffer[32];
        assert_string_equal(apr_spell_float(cases[i].v, buffer), cases[i].spelled);
    }
}

/* ---- broken files ---------------------------------------------------------------------------------------------------- */

/* What the way to a GGUF says of the file. */
static struct apr_error refusal(const struct apr_side *side, enum apr_code code)
{
    struct model m;
    struct apr_draft d = { 0 };
    struct apr_error e = { .at = APR_NOWHERE };
    model_begin(&m, "safetensors");
    struct apr_tokenizer t = { .m = &m.m, .side = side };
    assert_int_equal(apr_tokenizer_to_gguf(&d, &t, test_run_with(1), &e), code);
    apr_draft_end(&d);
    return e;
}

static void a_broken_file_is_named_by_its_path_or_by_what_carries_it(void **state)
{
    static const char *const names[] = { "tokenizer.model", "tokenizer.json", "sentencepiece.bpe.model", "vocab.json" };
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(names); i++) {
        char where[64], path[512], said[512], json[96];
        snprintf(where, sizeof where, "broken%zu/%s", i, names[i]);
        test_file(where, "\xff", 1);
        snprintf(path, sizeof path, "%.*s", (int)(strlen(test_path(where)) - strlen(names[i])), test_path(where));
        struct apr_side side = folder(path);
        const struct apr_error e = refusal(&side, APR_ECORRUPT);
        if (strcmp(e.file, test_path(where)) != 0)
            fail_msg("%s is called %s", test_path(where), e.file);
        apr_side_end(&side);

        struct model m;
        struct apr_error why;
        struct apr_source apr = { .path = test_path("m.apr") }, *file[] = { &apr };
        model_begin(&m, "apr");
        snprintf(json, sizeof json, "{\"%s\":{\"base64\":\"/w==\"}}", names[i]);
        put_json(&m, "hf.files", json);
        m.m.file = file;
        m.m.nfile = 1;
        check(apr_side_of(&side, &m.m, test_run_with(1), &why), &why);
        const struct apr_error carried = refusal(&side, APR_ECORRUPT);
        snprintf(said, sizeof said, "%s: hf.files %s", apr.path, names[i]);
        if (strcmp(carried.file, said) != 0)
            fail_msg("%s is called %s", said, carried.file);
        apr_side_end(&side);
        model_end(&m);
    }
}

static void a_template_that_is_not_utf8_is_refused_where_it_is_read(void **state)
{
    static const char *const names[] = { "chat_template.jinja", "additional_chat_templates/rag.jinja" };
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(names); i++) {
        struct apr_side side = { 0 };
        put(&side, "tokenizer.json", BPE("null"));
        put(&side, "tokenizer_config.json", "{}");
        put(&side, "chat_template.jinja", "{{ messages }}");
        put(&side, names[i], "{{ m\xc3\xbc }}\xe2\x82");
        const struct apr_error e = refusal(&side, APR_ECORRUPT);
        assert_string_equal(e.file, names[i]);
        assert_true(e.at == 9);
        assert_non_null(strstr(e.text, "not UTF-8"));
        apr_side_end(&side);
    }
}

static void a_template_as_long_as_no_template_is_refused(void **state)
{
    struct apr_side side = { 0 };
    struct apr_error e;
    const size_t n = APR_MOST_CONFIG + 1;
    unsigned char *const text = calloc(n, 1);
    (void)state;
    put(&side, "tokenizer.json", BPE("null"));
    put(&side, "tokenizer_config.json", "{}");
    check(apr_side_put(&side, "chat_template.jinja", (struct apr_bytes){ text, n }, &e), &e);
    assert_string_equal(refusal(&side, APR_ELIMIT).file, "chat_template.jinja");
    apr_side_end(&side);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_become_the_tokens_of_the_gguf_beside_them),
        cmocka_unit_test(tokens_have_texts_and_types_of_llama_cpp),
        cmocka_unit_test(a_token_beyond_the_vocabulary_is_named_with_the_option_that_helps),
        cmocka_unit_test(a_token_of_an_id_beyond_all_vocabularies_is_named),
        cmocka_unit_test(runs_of_added_tokens_that_lie_over_one_another_are_left_out),
        cmocka_unit_test(special_tokens_and_flags_come_from_where_llama_cpp_takes_them),
        cmocka_unit_test(templates_have_their_order_and_their_names),
        cmocka_unit_test(pre_tokenizers_are_recognised_by_what_they_do),
        cmocka_unit_test(a_pre_tokenizer_survives_the_way_to_files_and_back),
        cmocka_unit_test(a_gguf_survives_the_way_to_files_and_back),
        cmocka_unit_test(odd_tokens_survive_the_way_to_files_and_back),
        cmocka_unit_test(files_survive_the_way_to_a_gguf_and_back),
        cmocka_unit_test(merges_are_found_in_scores),
        cmocka_unit_test(flat_keys_hold_tokens_by_their_ids),
        cmocka_unit_test(the_keys_of_a_gguf_are_restored_with_their_types),
        cmocka_unit_test(flat_keys_alone_become_those_of_a_gguf),
        cmocka_unit_test(a_broken_file_is_named_by_its_path_or_by_what_carries_it),
        cmocka_unit_test(a_template_that_is_not_utf8_is_refused_where_it_is_read),
        cmocka_unit_test(a_template_as_long_as_no_template_is_refused),
        cmocka_unit_test(floats_are_spelled_as_short_as_they_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
