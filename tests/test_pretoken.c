/* lib/token/pretoken.c: llama.cpp's name for the way in which a tokenizer cuts a text. */
#include <stdio.h>

#include "bare_model.h"
#include "base/bytes.h"
#include "support.h"
#include "token/tokenizer_parts.h"

#define BY_WORD "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}"
#define DIGITS  "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true}," BY_WORD "]}"
#define RE3     "(?i:'s|'t|'re|'ve|'m|'ll|'d)" \
                "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*" \
                "|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define LLAMA   "{\"type\":\"Sequence\",\"pretokenizers\":[" \
                "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" RE3 "\"},\"behavior\":\"Isolated\"}," \
                "{\"type\":\"ByteLevel\",\"use_regex\":false}]}"

/* A tokenizer of three tokens: its pre_tokenizer, the text of token 1, of a family that calls it so. */
static const char *name_of(const char *pre_tokenizer, const char *token, const struct apr_bytes *family, size_t nfamily)
{
    struct apr_vocabulary v = { 0 }, scratch = { 0 };
    struct apr_error e;
    const char *name = "";
    char json[256];
    snprintf(json, sizeof json, "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"%s\":1,\"b\":2},\"merges\":[]}}", token);
    assert_int_equal(apr_read_tokenizer_json(&v, apr_text(json), &e), APR_OK);
    assert_int_equal(apr_vocabulary_index(&v, &e), APR_OK);
    const struct apr_pretoken_facts facts = { .v = &v, .family = family, .nfamily = nfamily, .pre_tokenizer = apr_text(pre_tokenizer),
                                              .normalizer = { (const unsigned char *)"", 0 } };
    assert_int_equal(apr_pretoken_name(&facts, &scratch, &name, &e), APR_OK);
    apr_vocabulary_end(&v);
    apr_vocabulary_end(&scratch);
    return name;
}

static void of_names_for_one_way_the_family_has_the_word(void **state)
{
    (void)state;
    static const struct {
        const char *pre_tokenizer, *token, *family[2], *name;
    } rows[] = {
        { BY_WORD, "x", { NULL, NULL }, "gpt-2" },
        { BY_WORD, "x", { "phi-2", NULL }, "phi-2" },
        { BY_WORD, "x", { "olmo", NULL }, "olmo" },
        { BY_WORD, "x", { "roberta-bpe", NULL }, "roberta-bpe" },
        { BY_WORD, "x", { "smollm", NULL }, "gpt-2" }, /* which cuts otherwise */
        { BY_WORD, "x", { "no such", "olmo" }, "olmo" },
        { DIGITS, "x", { NULL, NULL }, "starcoder" },
        { DIGITS, "x", { "refact", NULL }, "refact" },
        { DIGITS, "x", { "phi-2", NULL }, "starcoder" },
        { DIGITS, "x", { "smollm", "refact" }, "smollm" },
        { DIGITS, "<fim_prefix>", { "smollm", "refact" }, "refact" },
        { DIGITS, "<|im_start|>", { NULL, NULL }, "smollm" },
        { DIGITS, "<|im_start|>", { "starcoder", NULL }, "starcoder" },
        { DIGITS, "x", { "command-r", NULL }, "command-r" },
        { LLAMA, "x", { "glm4", NULL }, "glm4" },
        { LLAMA, "x", { "olmo", NULL }, "dbrx" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_bytes family[2];
        size_t n = 0;
        while (n < 2 && rows[i].family[n] != NULL) {
            family[n] = apr_text(rows[i].family[n]);
            n++;
        }
        const char *const name = name_of(rows[i].pre_tokenizer, rows[i].token, family, n);
        if (name == NULL || strcmp(name, rows[i].name) != 0)
            fail_msg("row %zu: %s, not %s", i, name == NULL ? "none" : name, rows[i].name);
    }
}

#define SPLIT(re)      "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" re "\"},\"behavior\":\"Isolated\",\"invert\":false}"
#define REMOVED(re)    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" re "\"},\"behavior\":\"Removed\",\"invert\":true}"
#define SINGLE_DIGITS  "{\"type\":\"Digits\",\"individual_digits\":true}"
#define RUNS_OF_DIGITS "{\"type\":\"Digits\",\"individual_digits\":false}"
#define MARKS_IN_A_ROW "{\"type\":\"Punctuation\",\"behavior\":\"Contiguous\"}"
#define BYTES          "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false}"
#define ALL(...)       "{\"type\":\"Sequence\",\"pretokenizers\":[" __VA_ARGS__ "]}"
#define UPPER          "[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]"
#define LOWER          "[\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]"
#define CASED(c)       "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?" UPPER "*" LOWER "+" c "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?" UPPER "+" LOWER "*" c "|"
#define PATHS          "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n/]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define O200K          CASED("(?i:'s|'t|'re|'ve|'m|'ll|'d)?") "\\\\p{N}{1,3}" PATHS
#define MARKED_WORDS   "[!\\\"#$%&'()*+,\\\\-./:;<=>?@\\\\[\\\\\\\\\\\\]^_`{|}~][A-Za-z]+"
#define EAST           SPLIT("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+")

/* The member pre_tokenizer as published files have it. */
static void published_pre_tokenizers_are_known(void **state)
{
    (void)state;
    static const struct {
        const char *model, *pre_tokenizer, *token, *name;
    } rows[] = {
        { "falcon-7b", ALL(MARKS_IN_A_ROW "," BY_WORD "," RUNS_OF_DIGITS "," SPLIT("[0-9][0-9][0-9]")), "x", "falcon" },
        { "deepseek-coder-6.7b",
          ALL(SPLIT("[\\r\\n]") "," SPLIT("\\\\s?\\\\p{L}+") "," SPLIT("\\\\s?\\\\p{P}+") "," EAST "," SINGLE_DIGITS "," BYTES), "x",
          "deepseek-coder" },
        { "DeepSeek-V2-Lite",
          ALL(SPLIT("[\\r\\n]") "," SPLIT("\\\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u01bc-\u01bf\uff21-\uff3a\uff41-\uff5a]+")
              "," SPLIT("\\\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+") "," SPLIT("\\\\s+$") "," EAST
              "," SINGLE_DIGITS "," BYTES), "x", "deepseek-llm" }, /* of letters it has 70 ranges more */
        { "DeepSeek-V3",
          ALL(SPLIT("\\\\p{N}{1,3}") "," SPLIT("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+")
              "," SPLIT(MARKED_WORDS "|[^\\r\\n\\\\p{L}\\\\p{P}\\\\p{S}]?[\\\\p{L}\\\\p{M}]+| ?[\\\\p{P}\\\\p{S}]+[\\r\\n]*"
                        "|\\\\s*[\\r\\n]+|\\\\s+(?!\\\\S)|\\\\s+") "," BYTES), "x", "deepseek-v3" },
        { "Mistral-Nemo", ALL(SPLIT(CASED("") "\\\\p{N}" PATHS) "," BYTES), "x", "tekken" },
        { "gpt-oss-20b", ALL(SPLIT(O200K) "," BYTES), "x", "gpt-4o" },
        { "MiniMax-M2", ALL(REMOVED(O200K) "," BYTES), "x", "gpt-4o" },
        { "Llama-4-Scout", ALL(SPLIT(O200K) "," BYTES), "<|header_start|>", "llama4" },
        { "OLMo-2", ALL(SPLIT(RE3) "," BYTES), "x", "dbrx" },
        { "granite-4.1", ALL(REMOVED(RE3) "," BYTES), "x", "dbrx" },
        { "SmolLM2", ALL(SINGLE_DIGITS "," BY_WORD), "<|im_start|>", "smollm" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *const name = name_of(rows[i].pre_tokenizer, rows[i].token, NULL, 0);
        if (name == NULL || strcmp(name, rows[i].name) != 0)
            fail_msg("%s: %s, not %s", rows[i].model, name == NULL ? "none" : name, rows[i].name);
    }
}

static void every_name_that_a_family_has_is_known(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        { "phi2", "phi-2" },          { "gptneox", "olmo" },  { "mamba", "olmo" },        { "mamba2", "olmo" }, { "bert", "roberta-bpe" },
        { "starcoder2", "starcoder" }, { "granite", "refact" }, { "llama", "smollm" },
        { "command-r", "command-r" },  { "cohere2", "command-r" },        { "exaone4", "exaone4" },       { "glm4", "glm4" },
        { "glm4moe", "glm4" },         { "minimax-m2", "minimax-m2" },    { "stablelm", "stablelm2" },    { "hunyuan-moe", "hunyuan" },
        { "seed_oss", "seed-coder" },  { "hunyuan-dense", "hunyuan-dense" }, { "bloom", "bloom" },        { "mpt", "mpt" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const struct apr_tokenizer_rules *const rules = &family(rows[i][0])->tokenizer;
        assert_true(rules->npre > 0 && apr_bytes_is(rules->pre[0].name, rows[i][1]));
        for (size_t k = 0; k < rules->npre; k++)
            assert_non_null(apr_pretoken_known(rules->pre[k].name));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_names_for_one_way_the_family_has_the_word),
        cmocka_unit_test(published_pre_tokenizers_are_known),
        cmocka_unit_test(every_name_that_a_family_has_is_known),
    };
    return cmocka_run_group_tests(tests, open_families, close_families);
}
