/* Each door of tests/fuzz with the files that lie ready for it: whole, cut short, and with a few bytes changed, the same at every run. */
#include "support.h"

#include <glob.h>
#include <stdio.h>

#include <libdeflate.h>

#include "model/open.h"

/* FUZZ_TARGETS is that of tests/tests.mk: FUZZ(open) FUZZ(yaml) ... */
#define FUZZ(name) int fuzz_##name(const uint8_t *bytes, size_t n);
FUZZ_TARGETS
#undef FUZZ

static const struct target {
    const char *name;
    int       (*run)(const uint8_t *bytes, size_t n);
} targets[] = {
#define FUZZ(name) { #name, fuzz_##name },
    FUZZ_TARGETS
};

/* Calls make with each file that lies ready for a target, at least one. */
static void with_seeds(void (*make)(const struct target *t, const struct test_bytes *seed, size_t nseeds))
{
    for (size_t i = 0; i < APR_LENGTH(targets); i++) {
        char pattern[128];
        glob_t files;
        snprintf(pattern, sizeof pattern, "tests/fuzz/%s/*", targets[i].name);
        if (glob(pattern, 0, NULL, &files) != 0)
            fail_msg("%s: no file to begin with", pattern);
        for (size_t k = 0; k < files.gl_pathc; k++) {
            struct test_bytes seed = test_load(files.gl_pathv[k]);
            make(&targets[i], &seed, files.gl_pathc);
            test_free(&seed);
        }
        globfree(&files);
    }
}

/* ---- changes -------------------------------------------------------------------------------------------------------- */

/* Most changes go where headers and indices are. */
static size_t place(size_t n)
{
    const size_t near = n < 256 ? n : 256, start = n < 8192 ? n : 8192;
    switch (test_random(4)) {
    case 0:  return (size_t)test_random(near);
    case 1:  return (size_t)test_random(n);
    default: return (size_t)test_random(start);
    }
}

static void change(struct test_bytes *b)
{
    static const uint64_t edges[] = {
        0, 1, 0x7f, 0xff, 0xffff, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX, UINT64_MAX - 31, (uint64_t)1 << 62,
    };
    static const char marks[] = "\"{}[],:0-9e\\()<>=!;+*/'#&|%@? \n\t.aE\xc3\xff";
    const size_t at = place(b->n), left = b->n - at, width = (size_t)1 << test_random(4);
    switch (test_random(8)) {
    case 0:
        b->at[at] ^= (unsigned char)(1u << test_random(8));
        break;
    case 1:
        b->at[at] = (unsigned char)test_random(256);
        break;
    case 2:
    case 3:
        b->at[at] = (unsigned char)marks[test_random(sizeof marks)];
        break;
    case 4:
        memcpy(b->at + at, &edges[test_random(APR_LENGTH(edges))], width < left ? width : left);
        break;
    case 5: {
        const size_t from = place(b->n), n = (size_t)test_random(64);
        if (from + n <= b->n && n <= left)
            memmove(b->at + at, b->at + from, n);
        break;
    }
    case 6:
        memmove(b->at + at, b->at + at + 1, --b->n - at);
        break;
    default:
        if (test_random(8) == 0)
            b->n = at;
    }
}

/* An APR header with a wrong checksum gets no further, so most of them are given the right one. */
static void mend(struct test_bytes *b)
{
    if (b->n < 64 || memcmp(b->at, "APR", 4) != 0 || test_random(8) == 0)
        return;
    unsigned char head[60];
    memcpy(head, b->at, 40);
    memcpy(head + 40, b->at + 44, 20);
    const uint32_t crc = libdeflate_crc32(0, head, sizeof head);
    for (unsigned i = 0; i < 4; i++)
        b->at[40 + i] = (unsigned char)(crc >> 8 * i);
}

/* ---- tests ---------------------------------------------------------------------------------------------------------- */

static void run_changed(const struct target *t, const struct test_bytes *seed, size_t nseeds)
{
    const size_t waits = strcmp(t->name, "journal") == 0 ? 20 : 1; /* for the disk, at every run */
    const size_t runs = (strcmp(APR_BUILD, "build/release") == 0 ? 20000 : 1000) / nseeds / waits;
    struct test_bytes b = { 0 };
    t->run(seed->at, seed->n);
    for (size_t run = 0; run < runs; run++) {
        b.n = 0;
        test_put(&b, seed->at, seed->n);
        for (uint64_t changes = 1 + test_random(4); changes > 0 && b.n > 0; changes--)
            change(&b);
        mend(&b);
        t->run(b.at, b.n);
    }
    test_free(&b);
}

static void open_sound(const struct target *t, const struct test_bytes *seed, size_t nseeds)
{
    (void)nseeds;
    if (strcmp(t->name, "open") != 0)
        return;
    struct apr_model *const m = test_open("a model to be changed", "seed", seed, APR_OK, APR_NOWHERE, NULL);
    assert_true(m->ntensor > 0);
    apr_close(m);
}

static void the_models_to_be_changed_are_sound(void **state)
{
    (void)state;
    with_seeds(open_sound);
}

static void changed_files_lead_nobody_astray(void **state)
{
    (void)state;
    with_seeds(run_changed);
}

static void run_short(const struct target *t, const struct test_bytes *seed, size_t nseeds)
{
    (void)nseeds;
    for (size_t n = 0; n < 300 && n < seed->n; n++)
        t->run(seed->at, n);
}

static void every_short_beginning_of_a_file_is_read_or_refused(void **state)
{
    (void)state;
    with_seeds(run_short);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_models_to_be_changed_are_sound),
        cmocka_unit_test(changed_files_lead_nobody_astray),
        cmocka_unit_test(every_short_beginning_of_a_file_is_read_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
