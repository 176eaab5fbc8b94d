/* The stages of --check (cli.md 3.1), a file for a few of each. Every function adds what it finds to x->findings. */
#ifndef APR_INSPECT_CHECK_H
#define APR_INSPECT_CHECK_H

#include "inspect.h"

struct apr_source;

static const struct apr_bytes no_tensor = { 0 };

/* Of findings that may be as many as tensors or tokens, so many are told one by one. */
#define MOST_ALIKE 100

APR_MUST_CHECK enum apr_code check_index(struct inspection *x, struct apr_error *e);     /* 3: index.json against shards */
APR_MUST_CHECK enum apr_code check_metadata(struct inspection *x, struct apr_error *e);  /* 4 */
APR_MUST_CHECK enum apr_code check_contract(struct inspection *x, struct apr_error *e);  /* 5 */
APR_MUST_CHECK enum apr_code check_tokenizer(struct inspection *x, struct apr_error *e); /* 6 */
APR_MUST_CHECK enum apr_code check_values(struct inspection *x, struct apr_error *e);    /* 7 to 10: one pass over the data */

/* Is it a model of weights, not a trace or an importance matrix? */
bool has_weights(const struct inspection *x);

/* ---- check_blocks.c: a block seen without decoding it ----------------------------------------------------------------- */

/* Of some blocks, those whose scale is no finite number, those with a code that no encoder writes, and those that come back as other
 * bytes when their values are encoded again; and the first of each. field: where the first bad scale stands. */
struct block_tally {
    uint64_t    bad, first_bad, foreign, first_foreign, loose, first_loose;
    const char *field;
};

uint64_t block_count(const struct apr_tensor *t);

/* Adds blocks [first, end) of t. Any thread. */
void tally_blocks(const struct apr_tensor *t, uint64_t first, uint64_t end, struct block_tally *b);
void merge_tally(struct block_tally *into, const struct block_tally *b);

/* ---- check_roles.c: tensors that play one part in all layers ----------------------------------------------------------- */

#define MAGNITUDES 70 /* classes of a magnitude, each of four powers of two, from 2^-152 on */

/* Of a tensor's finite values.
 *   most       the largest magnitude
 *   magnitude  of a sample of those that are not 0: how many are of each class
 *   weights    a tensor of weights that has values; usable: and its moments say something */
struct moments {
    double   mean, std, most;
    uint32_t magnitude[MAGNITUDES];
    bool     weights, usable, vector;
};

unsigned magnitude_class(double v); /* of a finite one that is not 0 */
double least_of_class(unsigned k);

/* The tensors of weights of one role: names that differ in their numbers alone. */
struct role {
    const size_t *tensor; /* in the order of the file */
    size_t        n;
};
struct roles {
    struct role *at;
    size_t       n, *tensor;
};

/* moments: one for each tensor of the model. Roles stand in the order of their names. Free with free_roles, after a failure too. */
APR_MUST_CHECK enum apr_code find_roles(struct roles *r, const struct apr_model *m, const struct moments *moments, struct apr_error *e);
void free_roles(struct roles *r);

double median(double *v, size_t n); /* sorts v; n > 0 */

/* Of stage 7: magnitudes that no weight has. */
APR_MUST_CHECK enum apr_code check_magnitudes(struct inspection *x, const struct roles *r, const struct moments *moments, struct apr_error *e);

/* Stage 9. */
APR_MUST_CHECK enum apr_code check_layers(struct inspection *x, const struct roles *r, const struct moments *moments, struct apr_error *e);

#endif
