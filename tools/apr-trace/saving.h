/* What the parts of apr-trace that write files know of each other. */
#ifndef APR_TRACE_SAVING_H
#define APR_TRACE_SAVING_H

#include "trace.h"

struct apr_sinks;

#define APRT_MAGIC "APRT"
#define NPY_MAGIC  "\x93NUMPY"

/* e names the path: "cannot be written: why"; errno. */
enum apr_code refuse_place(const char *path, const char *why, struct apr_error *e);
enum apr_code saving_failed(const char *path, struct apr_error *e);

/* Something may be there: what is read is never replaced, nor what is no trace. An APRT file is; an array of F32, which may be anybody's,
 * and stored bytes (raw) are where --force says so. of_model: the model is a folder. */
APR_MUST_CHECK enum apr_code check_place(const struct trace *t, const char *path, bool of_model, bool raw, struct apr_error *e);

/* What is in a folder that is there, before anything is computed: stages that the run replaces, as above, and those that it does not write.
 * A trace of two runs would tell of neither, so APR_EARG names the first. With --force they are removed when all else is in place, but
 * never what others may have made. */
APR_MUST_CHECK enum apr_code check_earlier(struct trace *t, const char *folder, bool of_model, struct apr_error *e);
APR_MUST_CHECK enum apr_code remove_earlier(struct trace *t, const char *folder, struct apr_sinks *sinks, struct apr_error *e);

/* Layers that were removed leave folders behind in which there is nothing. */
void remove_empty(const char *folder);

#endif
