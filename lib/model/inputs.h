/* Which files a run reads, so that none is written onto. */
#ifndef APR_INPUTS_H
#define APR_INPUTS_H

#include <sys/stat.h>

#include "base/core.h"

/* What a file is to a run that is given a path to read.
 *   BESIDE  it lies in the folder that is read, and its name says nothing
 *   PART    it lies there or beside the file, and its name is that of a part of a model: shards, index, config.json, tokenizer
 *   READ    the path leads to it */
enum apr_use { APR_UNUSED, APR_BESIDE, APR_PART, APR_READ };

/* model: the path stands for all files of a model, else for one file. "-" is standard input. Looks at names only, reads nothing. */
enum apr_use apr_use_of(const struct stat *file, const char *path, bool model);

/* Would a new file of that name, in the open folder, be taken for a part of the model at path, a folder or a file? */
bool apr_would_be_part(int folder, const char *name, const char *path);

/* What the content of the file at path says. What cannot be read says nothing.
 *   MODEL  a file of a format, or the index of shards
 *   OURS   a page, a manifest, a report as these tools make them, which a newer one may replace
 *   IMATRIX  an importance matrix, likewise
 *   EMPTY  nothing at all */
enum apr_content { APR_CONTENT_OTHER, APR_CONTENT_MODEL, APR_CONTENT_OURS, APR_CONTENT_IMATRIX, APR_CONTENT_EMPTY };
enum apr_content apr_content_of(const char *path, const struct apr_run *r);

#endif
