/* lib/model/mistake.h: what is no model is named for what it is, with what to type. */
#include "base/bytes.h"
#include "model/mistake.h"
#include "support.h"

#include <stdio.h>
#include <unistd.h>

#define BYTES(s) { (const unsigned char *)(s), sizeof(s) - 1 }

static void files_are_named_for_what_they_are(void **state)
{
    (void)state;
    static const struct {
        struct apr_bytes file;
        const char      *words;
    } rows[] = {
        { BYTES(""), "is empty" },
        { BYTES("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1503300328\n"), "a Git LFS pointer to 1503300328 bytes that are not here: git lfs pull" },
        { BYTES("version https://git-lfs.github.com/spec/v1\n"), "a Git LFS pointer to 0 bytes" },
        { BYTES(" \n<!DOCTYPE html>"), "an HTML page" },
        { BYTES("<HTML>"), "an HTML page" },
        { BYTES("<!doctype htm"), "is no SafeTensors, GGUF, APR, APRT or NumPy file: it has 13 bytes and begins with 3c 21 64 6f 63 74 79 70" },
        { BYTES("PK\3\4archive/data.pkl"), "PyTorch" },
        { BYTES("\x80\2}q\0."), "Python pickle" },
        { BYTES("\x1F\x8B\x08"), "gzip" },
        { BYTES("\x28\xB5\x2F\xFD"), "zstd" },
        { BYTES("tjgg\3\0\0\0"), "ggjt" },
        { BYTES("lmgg"), "GGML" },
        { BYTES("hello"), "it has 5 bytes and begins with 68 65 6c 6c 6f" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_error e;
        assert_int_equal(apr_no_model_file("m", rows[i].file, &e), APR_ECORRUPT);
        if (strstr(e.text, rows[i].words) == NULL)
            fail_msg("row %zu: %s", i, e.text);
    }
}

static void folders_say_what_they_hold(void **state)
{
    (void)state;
    static const struct {
        const char *folder, *file[8], *words;
    } rows[] = {
        { "one", { "README.md", "tiny-q8_0.gguf" }, "holds tiny-q8_0.gguf, which is a model of its own: name the file" },
        { "two", { "b.gguf", "a.gguf" }, "name one of a.gguf, b.gguf" },
        { "pipe", { "model_index.json", "x.safetensors" }, "a diffusers pipeline (model_index.json)" },
        { "loose", { "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors" },
          "holds shards without model.safetensors.index.json, which is to be fetched too: model-00001-of-00002.safetensors, model-00002-of-00002.safetensors" },
        { "many", { "1.apr", "2.apr", "3.apr", "4.apr", "5.apr", "6.apr", "7.apr" }, "1.apr, 2.apr, 3.apr, 4.apr, 5.apr, 6.apr and 1 more" },
        { "none", { "README.md" }, "nor the stages of a trace; it holds README.md" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_error e;
        for (size_t k = 0; k < APR_LENGTH(rows[i].file) && rows[i].file[k] != NULL; k++) {
            char path[256];
            snprintf(path, sizeof path, "%s/%s", rows[i].folder, rows[i].file[k]);
            test_file(path, "x", 1);
        }
        assert_int_equal(apr_no_model_folder(test_path(rows[i].folder), &e), APR_EIO);
        if (strstr(e.text, rows[i].words) == NULL)
            fail_msg("%s: %s", rows[i].folder, e.text);
    }
}

static void what_is_not_there_is_explained(void **state)
{
    (void)state;
    struct apr_error e;
    test_file("cache/model.gguf", "x", 1);
    apr_fail(&e, APR_EIO, APR_NOWHERE, "cannot open");
    apr_explain_absent(test_path("cache/modle.gguf"), &e);
    assert_non_null(strstr(e.text, "did you mean \"model.gguf\"?"));
    assert_int_equal(symlink("../blobs/9c9c", test_path("cache/snapshot")), 0);
    apr_explain_absent(test_path("cache/snapshot"), &e);
    assert_non_null(strstr(e.text, "is a link to \"../blobs/9c9c\", which is not there"));
    apr_fail(&e, APR_EIO, APR_NOWHERE, "cannot open");
    apr_explain_absent(test_path("nowhere/at/all"), &e);
    assert_string_equal(e.text, "cannot open");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_named_for_what_they_are),
        cmocka_unit_test(folders_say_what_they_hold),
        cmocka_unit_test(what_is_not_there_is_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
