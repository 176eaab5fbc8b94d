/* What the tests share: temporary files, bytes put together by hand, running a tool. Tests run from the top of the tree. */
#ifndef APR_TESTS_SUPPORT_H
#define APR_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#undef test_free /* cmocka has a macro of that name */

#include "base/core.h"

/* A growing run of bytes. Every put returns where it began. Free with test_free. Little-endian, unless big is set. */
struct test_bytes {
    unsigned char *at;
    size_t         n, room;
    bool           big;
};
size_t test_put(struct test_bytes *b, const void *bytes, size_t n);
size_t test_text(struct test_bytes *b, const char *text);              /* without its terminator */
size_t test_integer(struct test_bytes *b, uint64_t v, unsigned width); /* 1, 2, 4 or 8 bytes */
size_t test_zeros(struct test_bytes *b, size_t n);
size_t test_align(struct test_bytes *b, size_t to);                    /* zeros up to a multiple */
size_t test_floats(struct test_bytes *b, const float *v, size_t n);
void   test_free(struct test_bytes *b);

/* This program's temporary folder (made at first use, removed with all in it at exit). */
const char *test_folder(void);

/* Writes a file there (sub-folders are made) and returns its path, which stays valid until exit. */
const char *test_file(const char *name, const void *bytes, size_t n);
const char *test_path(const char *name);                               /* the path alone */

/* A file of that text (which ends with a 0), in which the first `find` behind `after`, both in it, is `replace`. */
const char *test_edited(const char *name, const char *text, const char *after, const char *find, const char *replace);

/* A whole file; fails the test when there is none. */
struct test_bytes test_load(const char *path);

/* A run with one thread and scalar kernels, for apr_open and the like. */
const struct apr_run *test_run_with(unsigned threads);

/* A number below n, of a row of numbers that is the same at every run. */
uint64_t test_random(uint64_t n);

/* Runs build/MODE/TOOL with the arguments (NULL-terminated), stdin empty; out and err are NUL-terminated. A signal or more than 60 s
 * fails the test. Free with test_free. */
struct test_answer {
    int               exit;
    uint64_t          peak;  /* bytes it had resident at most */
    struct test_bytes out, err;
};
struct test_answer test_tool(const char *tool, ...);
struct test_answer test_tool_in(const struct test_bytes *standard_input, const char *tool, ...);
void               test_answer_free(struct test_answer *a);

/* True when text occurs in the NUL-terminated bytes. */
bool test_says(const struct test_bytes *b, const char *text);

/* The model that lies there; fails the test when it does not open. */
struct apr_model *test_opened(const char *path);

/* Opens the bytes as a file called name and expects: the code; when it is not APR_OK the offset `at` (APR_NOWHERE: any), and
 * `words` in the text. Returns the model on APR_OK. Messages of a failed expectation name `what`. */
struct apr_model *test_open(const char *what, const char *name, const struct test_bytes *b, enum apr_code code, uint64_t at,
                            const char *words);

#endif
