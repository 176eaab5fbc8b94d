/* The JSON of one --partition run: written, and read back by --merge. */
#ifndef APR_INSPECT_SHARE_H
#define APR_INSPECT_SHARE_H

#include "check.h"
#include "listing.h"
#include "ui/share.h"

/* Members of a share's object behind those that every object has: "measured", of --check, and "partition". */
void write_share(struct apr_out *j, const struct inspection *x);

/* ---- reading -------------------------------------------------------------------------------------------------------- */

enum { SHARE_TENSORS, SHARE_FINDINGS, SHARE_METADATA, SHARE_MEASURED }; /* its large members */

struct share {
    struct apr_share base;
    bool             stats, hash, check, full, filtered; /* what was asked for */
    uint64_t         ntensor;                            /* rows it has */
};

/* Opens it and checks it whole: its members, every row, every finding, what was measured. Messages name the file and the row. Close base
 * with apr_share_close, after a failure too. */
APR_MUST_CHECK enum apr_code read_share(struct share *p, const char *path, const struct apr_run *r, struct apr_error *e);

/* A row of "tensors": its text, what a line says of it, its packed tensors' parts as JSON (or NULL), what was found. Valid until the
 * function it is handed to returns. */
struct shared_row {
    struct apr_bytes text;
    struct listed    line;
    const json_t    *parts;
    struct scanned   found;
    bool             tied;
};
typedef enum apr_code shared_row_fn(void *ctx, const struct shared_row *row, struct apr_error *e);
APR_MUST_CHECK enum apr_code share_rows(const struct share *p, shared_row_fn *take, void *ctx, struct apr_error *e);

/* What a line says of a part. */
struct listed listed_part(const json_t *part);

/* Adds those of its findings that are of stages [first, last]; the tensors' names go into the arena. */
APR_MUST_CHECK enum apr_code share_findings(const struct share *p, unsigned first, unsigned last, struct findings *into,
                                            struct apr_arena **names, struct apr_error *e);

/* Hands out the moments of its tensors; names live until the function returns. */
typedef enum apr_code moments_fn(void *ctx, const struct moments *m, struct apr_error *e);
APR_MUST_CHECK enum apr_code share_moments(const struct share *p, moments_fn *take, void *ctx, struct apr_error *e);

/* Adds how often each class occurs among its values of the role. */
APR_MUST_CHECK enum apr_code share_classes(const struct share *p, struct apr_bytes role, uint64_t of[CLASSES], struct apr_error *e);

#endif
