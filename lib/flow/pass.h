/* Many inputs, in pieces, on any number of threads; results in one order. */
#ifndef APR_PASS_H
#define APR_PASS_H

#include "base/core.h"

struct apr_pass;

/* How an input is cut.
 *   npiece    how many pieces: whole rows, or elements where rows are longer. 0: there is nothing to do, only `done` is called
 *   run       how many of them are made in one go, as one unit of work with one result
 *   elements  inputs side by side with at most 1 Mi elements together share a unit; APR_ALONE: not this one
 *   bytes     of all pieces, for the progress line */
struct apr_cut {
    uint64_t npiece, run, elements, bytes;
};
#define APR_ALONE UINT64_MAX

/* Pieces [first, first + n) of an input: a run of them, or all that are left, or, of an input that shares its unit, all of them. mode is
 * 0 when the input is read for the first time, else what apr_pass_again was told. */
struct apr_pieces {
    size_t   input;
    unsigned mode;
    uint64_t first, n;
};

/* What is done. make is called on any thread and neither allocates nor prints; take and done are called on the thread that called
 * apr_pass.
 *   what      for the progress line
 *   result    bytes of a result, at most 1 MiB; shared: of one that shares its slot with up to 63 others, 0 when none may
 *   scratch   bytes that each thread has for itself; enter gets them ready, leave ends their use. Both or neither (NULL)
 *   cut       is called by any thread, of mode 0 for each input a few times: it should be cheap, and say the same every time
 *   make      makes a result, of which nothing is cleared
 *   take      gets the results of an input by rising piece, those of input i + 1 after all of input i, done included
 *   done      all of an input has been taken; it may read the input again (apr_pass_again). Or NULL */
struct apr_job {
    const char *what;
    void       *ctx;
    size_t      ninput, result, shared, scratch;
    struct apr_cut (*cut)(void *ctx, size_t input, unsigned mode);
    enum apr_code (*make)(void *ctx, const struct apr_pieces *p, void *scratch, void *result, struct apr_error *e);
    enum apr_code (*take)(void *ctx, const struct apr_pieces *p, const void *result, struct apr_error *e);
    enum apr_code (*done)(void *ctx, struct apr_pass *pass, size_t input, struct apr_error *e);
    void (*enter)(void *ctx, void *scratch);
    void (*leave)(void *ctx, void *scratch);
};

/* Does the job on r->threads threads, but no more than read at once (APR_MOST_READERS), or as many of them as can be started, or none:
 * then make and take alternate on this one. At most 2 * threads slots are live, and as many for what is read again. After a failure no
 * take follows; the failure returned is that of the lowest input and piece, so messages are as reproducible as numbers. */
APR_MUST_CHECK enum apr_code apr_pass(const struct apr_run *r, const struct apr_job *job, struct apr_error *e);

/* Called by done: makes the pieces of the input once more, as they are cut in that mode, ahead of all that waits, and takes them. The
 * other threads go on with later inputs meanwhile, as far as there are slots. */
APR_MUST_CHECK enum apr_code apr_pass_again(struct apr_pass *pass, size_t input, unsigned mode, struct apr_error *e);

#endif
