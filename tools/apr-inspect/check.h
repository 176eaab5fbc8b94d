/* The stages of --check (cli.md 3.1), a file for a few of each. Every function adds what it finds to x->findings. */
#ifndef APR_INSPECT_CHECK_H
#define APR_INSPECT_CHECK_H

#include "inspect.h"

struct apr_input;
struct apr_source;
struct apr_window;

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
void merge_blocks(struct block_tally *into, const struct block_tally *b);

/* ---- check_roles.c: tensors that play one part in all layers ----------------------------------------------------------- */

#define MAGNITUDES 70 /* classes of a magnitude, each of four powers of two, from 2^-152 on */

/* Of a tensor's finite values.
 *   name       borrowed
 *   most       the largest magnitude
 *   magnitude  of a sample of those that are not 0: how many are of each class
 *   weights    a tensor of weights that has values; usable: and its moments say something
 *   made       a converter makes it, in F32 whatever the model is stored in */
struct moments {
    struct apr_bytes name;
    double   mean, std, most;
    uint32_t magnitude[MAGNITUDES];
    bool     weights, usable, vector, made;
};

unsigned magnitude_class(double v); /* of a finite one that is not 0 */
double least_of_class(unsigned k);

/* The tensors of weights of one role: names that differ in their numbers alone, each of which is a # in the role's name. */
struct role {
    struct apr_bytes name;
    const size_t    *tensor; /* in the order of the file */
    size_t           n;
};
struct roles {
    struct role *at;
    size_t       n, *tensor;
    char        *names;
};

/* Of the n tensors that have moments. Roles stand in the order of their names. Free with free_roles, after a failure too. */
APR_MUST_CHECK enum apr_code find_roles(struct roles *r, const struct moments *moments, size_t n, struct apr_error *e);
void free_roles(struct roles *r);

double median(double *v, size_t n); /* sorts v; n > 0 */

/* ---- check_tally.c: the values of a piece of a tensor --------------------------------------------------------------------- */

/* What is known of some values of a tensor.
 *   n, mean, squares  of the finite ones: their number, mean and sum of squared distances from it
 *   first_bad         the first that is NaN or infinite
 *   dead, first_dead  rows that are as good as zero, but for that of the padding token; tail: those behind the last of the `live` others
 *   magnitude         of a sample (struct moments) */
struct tally {
    uint64_t           n, zeros, nans, infs, first_bad, live, dead, first_dead, tail;
    double             mean, squares, min, max;
    uint32_t           magnitude[MAGNITUDES];
    struct block_tally blocks;
};

/* A tensor to look at, in pieces of `piece` elements, which are whole rows where rows are looked at (`row` long, else 0). */
struct job {
    const struct apr_tensor *t;
    uint64_t                 npiece, piece, row;
};

/* Of one piece; padding: of rows, the one that may be of zeros. Any thread. */
struct tally tally_piece(const struct job *j, uint64_t padding, const struct apr_input *in, struct apr_window *w, uint64_t piece);

/* Adds t, of what follows in the tensor. */
void merge_tally(struct tally *into, const struct tally *t);

/* ---- check_census.c: how often each magnitude occurs --------------------------------------------------------------------- */

/* A magnitude's float without its sign and its lower 16 bits; a BF16 is told whole. */
#define CLASSES 32768

/* Counts the finite values of [begin, end) that are not 0. Any thread. */
void count_classes(const struct apr_input *in, struct apr_window *w, uint64_t begin, uint64_t end, uint64_t of[CLASSES]);

/* The class in the middle of those that were counted, as its least magnitude. */
double middle_of_classes(const uint64_t of[CLASSES]);

/* The median magnitude of a role's values that are not 0, by a pass over them; inspection: a struct inspection. */
APR_MUST_CHECK enum apr_code middle_of_role(void *inspection, const struct role *r, double *middle, struct apr_error *e);

/* Of a role's values: the classes that occur, rising. Begin with zeros; the caller frees at. */
struct census {
    struct counted {
        uint32_t class;
        uint64_t n;
    } *at;
    size_t n;
};
APR_MUST_CHECK enum apr_code add_to_census(struct census *c, const uint64_t of[CLASSES], struct apr_error *e);

/* ---- check_together.c: what is said of tensors only in the company of others ----------------------------------------------- */

/* All tensors' moments, wherever they come from.
 *   held, type  the type most weights are stored in, when that has 16 bits, and the largest number it holds; 0 when there is none
 *   middle      the median magnitude of a role's values that are not 0 */
struct judging {
    struct findings      *findings;
    const struct moments *moments;
    size_t                n;
    double                held;
    const char           *type;
    enum apr_code       (*middle)(void *ctx, const struct role *r, double *middle, struct apr_error *e);
    void                 *ctx;
};

/* The rest of stage 7; `degenerate`, the findings of stage 8; stage 9; `round_trip`, those of stage 10. */
APR_MUST_CHECK enum apr_code judge_together(const struct judging *j, struct findings *degenerate, struct findings *round_trip,
                                            struct apr_error *e);

/* Adds more's findings and frees more, after a failure too. */
APR_MUST_CHECK enum apr_code append_findings(struct findings *into, struct findings *more, struct apr_error *e);

/* Of stage 7: magnitudes that no weight has. */
APR_MUST_CHECK enum apr_code check_magnitudes(const struct judging *j, const struct roles *r, struct apr_error *e);

/* Stage 9. */
APR_MUST_CHECK enum apr_code check_layers(const struct judging *j, const struct roles *r, struct apr_error *e);

/* ---- a share's tensors, for --merge to judge together ---------------------------------------------------------------------- */

/* Of the tensors of the model; censuses: of each of the roles that those of the share have. */
struct measured {
    struct moments *moments;
    size_t          n;
    struct roles    roles;
    struct census  *census;
    double          held;
    const char     *type;
};
void free_measured(struct measured *m);

#endif
