/* apr-convert --quantize: whole files as llama-quantize writes them, and what is said around them. */
#include "convert.h"

#include "base/hash.h"

/* ---- llama-quantize's files ----------------------------------------------------------------------------------------- */

/* One line of fixtures/presets.txt: XXH3-128 of the file, or "refused". */
struct wanted {
    char preset[16], imatrix[16], hash[33];
};

static void expect_file(const struct wanted *w)
{
    const bool refused = strcmp(w->hash, "refused") == 0, with = strcmp(w->imatrix, "-") != 0;
    const char *const out = test_path("q.gguf");
    unlink(out);
    struct test_answer a = test_tool(APR_CONVERT, "fixtures/wide.gguf", out, "--quantize", w->preset, with ? "--imatrix" : NULL,
                                     "fixtures/wide.imatrix.gguf", NULL);
    if (a.exit != (refused ? 2 : 0))
        fail_msg("%s %s: exit %d: %s", w->preset, w->imatrix, a.exit, (const char *)a.err.at);
    test_answer_free(&a);
    if (refused) {
        assert_int_equal(access(out, F_OK), -1);
        return;
    }
    char hex[33];
    struct test_bytes file = test_load(out);
    const struct apr_digest d = apr_digest_of((struct apr_bytes){ file.at, file.n });
    if (strcmp(apr_digest_spell(d, hex), w->hash) != 0)
        fail_msg("%s %s: the file's hash is %s, not %s", w->preset, w->imatrix, hex, w->hash);
    test_free(&file);
}

static void every_preset_gives_the_file_that_llama_quantize_gives(void **state)
{
    (void)state;
    struct wanted w;
    FILE *const f = fopen("fixtures/presets.txt", "r");
    size_t n = 0;
    assert_non_null(f);
    for (; fscanf(f, "%15s %15s %32s", w.preset, w.imatrix, w.hash) == 3; n++)
        expect_file(&w);
    assert_int_equal(n, 68);
    fclose(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_preset_gives_the_file_that_llama_quantize_gives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
