/* Threads that stay: for work that comes in thousands of small helpings, each a matter of microseconds, where a pass (flow/pass.h) would
 * start threads anew. */
#ifndef APR_TEAM_H
#define APR_TEAM_H

#include "base/core.h"

struct apr_team;

/* threads - 1 of them, or as many as can be started, wait for work beside the calling one. Free with apr_team_free. */
APR_MUST_CHECK enum apr_code apr_team_new(struct apr_team **t, unsigned threads, struct apr_error *e);
void apr_team_free(struct apr_team *t);

/* How many work at once, the calling thread included. */
unsigned apr_team_size(const struct apr_team *t);

/* Calls task(ctx, i, worker) for every i < n, each on whichever thread is free, and returns when all are done. Tasks write what no other
 * task reads or writes. worker < apr_team_size: for what each thread has for itself. No call within a call; one caller at a time. */
typedef void apr_task_fn(void *ctx, size_t i, unsigned worker);
void apr_team_do(struct apr_team *t, size_t n, apr_task_fn *task, void *ctx);

/* Memory of a worker's own, at least n bytes aligned to 64, kept until the team is freed; what it held is lost when it grows. To be asked
 * for between two helpings, for all workers at once: false when memory is out. */
bool apr_team_room(struct apr_team *t, size_t n);
void *apr_team_scratch(struct apr_team *t, unsigned worker);

/* The same of the team's own, which all see: NULL when memory is out. It and the scratch serve apr_matrices_times: who holds something
 * there does not multiply meanwhile. */
void *apr_team_common(struct apr_team *t, size_t n);

#endif
