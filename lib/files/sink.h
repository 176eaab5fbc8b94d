/* A file that appears whole or not at all. */
#ifndef APR_SINK_H
#define APR_SINK_H

#include <stdio.h>

#include "base/core.h"

/* Write to `to`; end it with apr_replace_end or apr_replace_drop. */
struct apr_replacement {
    FILE *to;
    char *target, *part; /* private; part is NULL for a device or a pipe, which is written as it is */
};

/* Begins a file beside path, whose place it will take; a link is followed. e names path. */
APR_MUST_CHECK enum apr_code apr_replace_begin(struct apr_replacement *r, const char *path, struct apr_error *e);

/* On disk, then in place. After a failure path is what it was, and nothing is left. */
APR_MUST_CHECK enum apr_code apr_replace_end(struct apr_replacement *r, struct apr_error *e);
void apr_replace_drop(struct apr_replacement *r);

#endif
