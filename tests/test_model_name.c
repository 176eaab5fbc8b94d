/* lib/family/model_name.h: what the name of a model says of it. */
#include <string.h>

#include "base/bytes.h"
#include "family/model_name.h"
#include "support.h"

static bool same(struct apr_bytes a, const char *b) { return b == NULL ? a.at == NULL : a.at != NULL && apr_bytes_is(a, b); }

/* As gguf-py takes them apart. */
static void a_name_is_taken_apart_as_the_converter_of_llama_cpp_does(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t    elements;
        const char *part[APR_NAME_NPARTS - 1]; /* organization, base, finetune, version, size */
    } rows[] = {
        { "Qwen/Qwen2.5-0.5B-Instruct", 494032768, { "Qwen", "Qwen2.5", "Instruct", NULL, "0.5B" } },
        { "Qwen2.5-0.5B-Instruct", 1345792, { NULL, "Qwen2.5", "0.5b-Instruct", NULL, NULL } },
        { "Mistral-7B-Instruct-v0.3", UINT64_C(7248023552), { NULL, "Mistral", "Instruct", "v0.3", "7B" } },
        { "Mixtral-8x7B-v0.1", UINT64_C(46702792704), { NULL, "Mixtral", NULL, "v0.1", "8x7B" } },
        { "Mixtral-8x7B-v0.1", 1345792, { NULL, "Mixtral", NULL, "v0.1", "8x7B" } },
        { "Meta-Llama-3.1-8B-Instruct", UINT64_C(8030261248), { NULL, "Meta-Llama-3.1", "Instruct", NULL, "8B" } },
        { "meta-llama/Llama-2-7b-hf", 0, { "meta-llama", "Llama-2", "hf", NULL, "7B" } },
        { "SmolLM2-135M", 134515008, { NULL, "SmolLM2", NULL, NULL, "135M" } },
        { "gemma-3-270m-it", 268098176, { NULL, "gemma-3", "it", NULL, "270M" } },
        { "Phi-3.5-mini-instruct", UINT64_C(3821079552), { NULL, "Phi-3.5", "instruct", NULL, "mini" } },
        { "Phi-3-small-7B", 0, { NULL, "Phi-3-small", NULL, NULL, "7B" } },
        { "DeepSeek-R1-Distill-Qwen-1.5B", 1777088000, { NULL, "DeepSeek-R1-Distill-Qwen", NULL, NULL, "1.5B" } },
        { "Qwen3-30B-A3B-Instruct-2507", UINT64_C(30532122624), { NULL, "Qwen3", "Instruct", "2507", "30B-A3B" } },
        { "Qwen3-30B-A3B-Instruct-2507", 1345792, { NULL, "Qwen3", "30b-Instruct", "2507", "A3B" } },
        { "all-MiniLM-L6-v2", 22713216, { NULL, "all-MiniLM-L6", NULL, "v2", NULL } },
        { "nomic-embed-text-v1.5", 136731648, { NULL, "nomic-embed-text", NULL, "v1.5", NULL } },
        { "bge-small-en-v1.5", 33360000, { NULL, "bge", "en", "v1.5", "small" } },
        { "OLMo-2-1124-7B", UINT64_C(7298617344), { NULL, "OLMo-2-1124", NULL, NULL, "7B" } },
        { "stablelm-2-1_6b", 1644515328, { NULL, "stablelm-2", NULL, NULL, "1.6B" } },
        { "bloom-7b1", UINT64_C(7069016064), { NULL, "bloom", NULL, NULL, "7.1B" } },
        { "bloom-7b1", 1345792, { NULL, "bloom", "7.1b", NULL, NULL } },
        { "internlm2-1_8b", 0, { NULL, "internlm2", NULL, NULL, "1.8B" } },
        { "Llama-4-Scout-17B-16E-Instruct", 0, { NULL, "Llama-4-Scout", "16E-Instruct", NULL, "17B" } },
        { "Llama-3.2-3B-Instruct-Q4_K_M-GGUF", 0, { NULL, "Llama-3.2", "Instruct-GGUF", NULL, "3B" } },
        { "Llama-3.2-3B-bf16", 0, { NULL, "Llama-3.2", NULL, NULL, "3B" } },
        { "Qwen2-0.5B-Instruct-lora-adapter", 0, { NULL, "Qwen2", "Instruct-lora-adapter", NULL, "0.5B" } },
        { "mistral-7b-sft-iter1", 0, { NULL, "mistral", "sft", "iter1", "7B" } },
        { "foo-2024-07-01", 0, { NULL, "foo", NULL, "2024-07-01", NULL } },
        { "foo-v1-bar", 0, { NULL, NULL, NULL, NULL, NULL } },
        { "foo-v1-bar-v2", 0, { NULL, "foo-v1-bar", NULL, "v2", NULL } },
        { "v1-v2", 0, { NULL, NULL, NULL, "v1-v2", NULL } },
        { "foo-7B-v1-chat-v2-bar-v3", 0, { NULL, "foo", "chat-bar", "v1-v2-v3", "7B" } },
        { "foo-7b-13B-7B", 0, { NULL, "foo", NULL, NULL, "7B-13B" } },
        { "foo-XXL", 0, { NULL, "foo", NULL, NULL, "XXL" } },
        { "foo-iq2_xxs", 0, { NULL, NULL, NULL, NULL, NULL } },
        { "foo-4bit", 0, { NULL, "foo", "4bit", NULL, NULL } },
        { "7b-foo", 0, { NULL, NULL, "7b-foo", NULL, NULL } },
        { "chat-7B", 0, { NULL, "chat", NULL, NULL, "7B" } },
        { "llama", 0, { NULL, NULL, NULL, NULL, NULL } },
        { "foo--chat-", 0, { NULL, "foo", "chat", NULL, NULL } },
        { "---", 0, { NULL, NULL, NULL, NULL, NULL } },
        { "foo-7.5b1", UINT64_C(7000000000), { NULL, "foo", NULL, NULL, "7.5.1B" } },
        { "foo-7..5B", 0, { NULL, "foo", "7..5B", NULL, NULL } },
        { "foo-0B", 1, { NULL, "foo", "0b", NULL, NULL } },
        { "foo-7B", UINT64_C(3733333333), { NULL, "foo", "7b", NULL, NULL } },
        { "foo-7B", UINT64_C(3733333334), { NULL, "foo", NULL, NULL, "7B" } },
        { "foo-7B", UINT64_C(56000000000), { NULL, "foo", NULL, NULL, "7B" } },
        { "foo-7B", UINT64_C(56000000001), { NULL, "foo", "7b", NULL, NULL } },
        { "./foo-7B", 0, { NULL, "foo", NULL, NULL, "7B" } },
        { "/foo-7B", 0, { "", "foo", NULL, NULL, "7B" } },
        { "foo/", 0, { "foo", NULL, NULL, NULL, NULL } },
        { "a/b/c-7B", 0, { "a", "b/c", NULL, NULL, "7B" } },
        { "Some Model-7B", 0, { NULL, NULL, NULL, NULL, NULL } },
        { "", 0, { NULL, NULL, NULL, NULL, NULL } },
        { "\xe6\xa8\xa1\xe5\x9e\x8b" "-7B", 0, { NULL, "\xe6\xa8\xa1\xe5\x9e\x8b", NULL, NULL, "7B" } },
        { "\xf0\x9f\x9a\x80" "-7B", 0, { NULL, NULL, "\xf0\x9f\x9a\x80", NULL, "7B" } },
        { "caf\xc3\xa9" "-v1", 0, { NULL, "caf\xc3\xa9", NULL, "v1", NULL } },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_arena *arena = NULL;
        struct apr_model_name m;
        struct apr_error e;
        assert_int_equal(apr_model_name_read(&m, &arena, apr_text(rows[i].name), rows[i].elements, &e), APR_OK);
        for (size_t k = 0; k < APR_LENGTH(rows[i].part); k++)
            if (!same(m.part[k + 1], rows[i].part[k]))
                fail_msg("%s: %.*s, not %s", rows[i].name, APR_PRINTED(m.part[k + 1]),
                         rows[i].part[k] == NULL ? "nothing" : rows[i].part[k]);
        apr_arena_free(&arena);
    }
}

static void what_stands_behind_the_owner_is_the_name(void **state)
{
    (void)state;
    static const char *const rows[][2] = { { "meta-llama/Llama-2-7b-hf", "Llama-2-7b-hf" }, { "llama", "llama" }, { "a/b/c", "b/c" },
                                           { "../llama", "llama" }, { "Some Model/7B", "Some Model/7B" }, { "a/", "" }, { "", "" } };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_arena *arena = NULL;
        struct apr_model_name m;
        struct apr_error e;
        assert_int_equal(apr_model_name_read(&m, &arena, apr_text(rows[i][0]), 0, &e), APR_OK);
        assert_true(same(m.part[APR_NAME_WHOLE], rows[i][1]));
        apr_arena_free(&arena);
    }
}

/* As gguf-py writes them, but for letters beyond ASCII. */
static void small_words_of_a_title_get_a_capital(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        { "meta-llama", "Meta Llama" },       { "Llama-2-7b-chat-hf", "Llama 2 7b Chat Hf" }, { "SmolLM2-135M", "SmolLM2 135M" },
        { "nomic-embed-v1.5", "Nomic Embed v1.5" }, { "foo-v1.x-v-v2", "Foo V1.X V v2" }, { "-a--b-", "A B" }, { "b/it's_c", "B/It'S_C" },
        { " a\tb  c\n", "A B C" }, { "---", "" }, { "", "" }, { "caf\xc3\xa9s", "Caf\xc3\xa9s" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_arena *arena = NULL;
        struct apr_bytes title;
        struct apr_error e;
        assert_int_equal(apr_model_title(&title, &arena, apr_text(rows[i][0]), &e), APR_OK);
        if (!apr_bytes_is(title, rows[i][1]))
            fail_msg("%s: %.*s", rows[i][0], APR_PRINTED(title));
        apr_arena_free(&arena);
    }
}

static void a_name_of_many_parts_stays_within_bounds(void **state)
{
    (void)state;
    static const char *const parts[] = { "-", "9", "a-", "7B-", "1-", "x1.", "\xc3\xa9-", "7b1-8b2-" };
    static char name[5000];
    for (size_t i = 0; i < APR_LENGTH(parts); i++)
        for (size_t n = 4000; n < sizeof name - 8; n += 96) {
            struct apr_arena *arena = NULL;
            struct apr_model_name m;
            struct apr_error e;
            const size_t step = strlen(parts[i]), whole = n - n % step;
            for (size_t k = 0; k < whole; k += step)
                memcpy(name + k, parts[i], step);
            assert_int_equal(apr_model_name_read(&m, &arena, (struct apr_bytes){ (unsigned char *)name, whole }, 1, &e), APR_OK);
            assert_true(whole <= 4096 || (m.part[APR_NAME_FINETUNE].at == NULL && m.part[APR_NAME_SIZE].at == NULL));
            apr_arena_free(&arena);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_is_taken_apart_as_the_converter_of_llama_cpp_does),
        cmocka_unit_test(what_stands_behind_the_owner_is_the_name),
        cmocka_unit_test(small_words_of_a_title_get_a_capital),
        cmocka_unit_test(a_name_of_many_parts_stays_within_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
