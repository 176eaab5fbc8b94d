/* Plans that carry a model as it is, and looks at what came of them. For the tests of lib/flow/plan*.c. */
#ifndef APR_TESTS_PLANS_H
#define APR_TESTS_PLANS_H

#include "support.h"

#include "flow/plan.h"
#include "model/format.h"

const struct apr_format *format(const char *name);

/* Fills a plan that carries every tensor as it is, and keys where both sides are of one format. out ends in '/': a folder. */
enum apr_code carry(struct apr_plan *p, const struct apr_model *m, const char *to, const char *out, struct apr_error *e);

/* Places and writes it, verified. */
enum apr_code write_plan(struct apr_plan *p, const struct apr_run *r, struct apr_error *e);

/* All of it with a file or folder, on top of what the plan says already; the plan is ended. The second fails the test when it fails. */
enum apr_code convert_with(struct apr_plan *p, const char *from, const char *to, const char *out, const struct apr_run *r,
                           struct apr_error *e);
void convert(struct apr_plan p, const char *from, const char *to, const char *out);

void expect_same_file(const char *a, const char *b);

/* The same tensors, by name, bit for bit; and nothing that the reader finds worth a word but that the fixtures say little of themselves. */
void expect_same_model(const char *got, const char *want);

/* How many files and folders are in a folder of this test; those of a temporary name too. */
size_t files_in(const char *folder);

/* Paths of SafeTensors files with one tensor "w", [rows, cols]; big: 4.8 MB of F32, all finite. */
const char *one_tensor(const char *name, const char *dtype, unsigned width, uint64_t rows, uint64_t cols, const void *data);
const char *big(const char *name);
unsigned char *random_bytes(size_t n); /* free with free */

#endif
