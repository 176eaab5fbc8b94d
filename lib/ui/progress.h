/* One line on stderr that says how far it is: bar, rate, time left. Drawn by the thread that takes results, after a second (`always`: after
 * a tenth of one), at most ten times a second; gone without trace at the end. */
#ifndef APR_PROGRESS_H
#define APR_PROGRESS_H

#include "base/core.h"

/* NULL, which every function here takes as "none", when it should not be shown: `always` false and stderr no terminal. */
struct apr_progress *apr_progress_new(bool always);
void apr_progress_begin(struct apr_progress *p, const char *what, uint64_t bytes); /* total bytes to read */
void apr_progress_unit(struct apr_progress *p, const char *unit, uint64_t of); /* what is added is no bytes: `of` make one "tokens" */
void apr_progress_add(struct apr_progress *p, uint64_t bytes);
void apr_progress_end(struct apr_progress *p);                                     /* erases the line */
void apr_progress_free(struct apr_progress *p);

#endif
