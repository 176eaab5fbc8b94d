/* The usual mistakes: files and folders that are no model, named for what they are, with what to do about it. */
#ifndef APR_MISTAKE_H
#define APR_MISTAKE_H

#include "base/core.h"

/* The fault of the file at that path, which no format knows: a Git LFS pointer, a page, an archive, a pickle, an older format, nothing at
 * all; else its first bytes. Always APR_ECORRUPT. */
enum apr_code apr_no_model_file(const char *path, struct apr_bytes file, struct apr_error *e);

/* The same where something else is wanted: "is no <wanted>: it has ..." of one that is nothing known. */
enum apr_code apr_no_such_file(struct apr_bytes file, const char *wanted, struct apr_error *e);

/* The fault of a folder without a model: what it holds, and what to type. APR_EIO. */
enum apr_code apr_no_model_folder(const char *folder, struct apr_error *e);

/* Why a path does not open that is not there: a link to nothing, or the nearest name that is; e has the words "cannot open" then. Leaves
 * e alone when there is nothing to say. */
void apr_explain_absent(const char *path, struct apr_error *e);

#endif
