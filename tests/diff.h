/* What the tests of apr-diff share: small files, runs, and looking into the JSON of a report. */
#ifndef APR_TESTS_DIFF_H
#define APR_TESTS_DIFF_H

#include "support.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>

#define APR_DIFF "apr-diff"

/* A tensor of a SafeTensors file: dtype and shape as they are spelled there. */
struct test_tensor {
    const char *name, *dtype, *shape;
    const void *data;
    size_t      n; /* bytes */
};

/* A SafeTensors file; returns its path. */
static inline const char *test_safetensors(const char *file, const struct test_tensor *t, size_t n)
{
    struct test_bytes b = { 0 };
    char entry[512];
    size_t at = 0;
    test_zeros(&b, 8);
    test_text(&b, "{");
    for (size_t i = 0; i < n; i++) {
        snprintf(entry, sizeof entry, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}", i > 0 ? "," : "", t[i].name,
                 t[i].dtype, t[i].shape, at, at + t[i].n);
        test_text(&b, entry);
        at += t[i].n;
    }
    test_text(&b, "}");
    for (unsigned i = 0; i < 8; i++)
        b.at[i] = (unsigned char)((uint64_t)(b.n - 8) >> 8 * i);
    for (size_t i = 0; i < n; i++)
        test_put(&b, t[i].data, t[i].n);
    const char *const path = test_file(file, b.at, b.n);
    test_free(&b);
    return path;
}

/* A HuggingFace folder of that config.json; returns its path. */
static inline const char *test_checkpoint(const char *folder, const char *config, const struct test_tensor *t, size_t n)
{
    char file[128];
    snprintf(file, sizeof file, "%s/config.json", folder);
    test_file(file, config, strlen(config));
    snprintf(file, sizeof file, "%s/model.safetensors", folder);
    test_safetensors(file, t, n);
    return test_path(folder);
}

/* One tensor "t". */
static inline const char *test_one(const char *file, const char *dtype, const char *shape, const void *data, size_t n)
{
    return test_safetensors(file, &(struct test_tensor){ "t", dtype, shape, data, n }, 1);
}

/* Expects the exit code of an answer and frees it. */
static inline void expect_exit(struct test_answer a, int exit, const char *in_error)
{
    if (a.exit != exit || (in_error != NULL && !test_says(&a.err, in_error)))
        fail_msg("exit %d, not %d, or \"%s\" is not in: %s", a.exit, exit, in_error == NULL ? "" : in_error, (const char *)a.err.at);
    test_answer_free(&a);
}

/* The JSON of a run that ended with `exit`. The caller gives it back with json_decref; frees the answer. */
static inline json_t *report_of(struct test_answer a, int exit)
{
    json_error_t e;
    json_t *const report = json_loadb((const char *)a.out.at, a.out.n, 0, &e);
    if (a.exit != exit || report == NULL)
        fail_msg("exit %d, not %d, or no JSON (%s): %s%s", a.exit, exit, report == NULL ? e.text : "", (const char *)a.out.at,
                 (const char *)a.err.at);
    test_answer_free(&a);
    return report;
}

/* The member at a path like "results.0.top.1.index". */
static inline const json_t *at(const json_t *json, const char *path)
{
    const char *rest = path;
    while (json != NULL && *rest != 0) {
        char word[64];
        const size_t n = strcspn(rest, ".");
        snprintf(word, sizeof word, "%.*s", (int)n, rest);
        json = json_is_array(json) ? json_array_get(json, strtoul(word, NULL, 10)) : json_object_get(json, word);
        rest += n + (rest[n] == '.');
    }
    if (json == NULL)
        fail_msg("no \"%s\" in the report", path);
    return json;
}

/* A member as text: strings as they are, the rest as JSON. In one of four buffers, used in turn. */
static inline const char *text_of(const json_t *json, const char *path)
{
    static char buffer[4][2000];
    static unsigned turn;
    char *const text = buffer[turn++ % 4];
    const json_t *const v = at(json, path);
    char *const dump = json_is_string(v) ? NULL : json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
    snprintf(text, sizeof buffer[0], "%s", json_is_string(v) ? json_string_value(v) : dump);
    free(dump);
    return text;
}

static inline void expect_text(const char *what, const json_t *json, const char *path, const char *want)
{
    const char *const got = text_of(json, path);
    if (strcmp(got, want) != 0)
        fail_msg("%s: %s is %s, not %s", what, path, got, want);
}

/* Within 1e-12 of it, relatively. */
static inline void expect_near(const char *what, const json_t *json, const char *path, double want)
{
    const json_t *const v = at(json, path);
    const double got = json_number_value(v);
    if (!json_is_number(v) || !(fabs(got - want) <= 1e-12 * fabs(want)))
        fail_msg("%s: %s is %.17g, not %.17g", what, path, got, want);
}

#endif
