/* What judges a model by long texts: perplexity, divergence from another model, importance of columns. */
#ifndef APR_TRACE_JUDGE_H
#define APR_TRACE_JUDGE_H

#include "base/core.h"
#include "ui/cli.h"

struct trace;
struct judgement;
struct apr_out;

/* Its part of the command line, and the rows of the option table, a comma behind each. */
struct judging {
    const char *unused;
};
#define JUDGING_OPTIONS(j)

/* Is anything of it asked for? -1, or the exit code of what was told about its options. */
static inline bool is_judging(const struct judging *j) { return (void)j, false; }
static inline int check_judging(const struct apr_cli *c, struct judging *j) { return (void)c, (void)j, -1; }

/* Does it, with t->engine open, net and team there. t->judgement is what it found; end_judging frees it, in any case. */
static inline enum apr_code judge(struct trace *t, struct apr_error *e) { return (void)t, (void)e, APR_OK; }
static inline void end_judging(struct trace *t) { (void)t; }

/* Its members of the JSON object, and its text; with nothing found there is nothing to say. */
static inline void write_judgement(struct apr_out *j, const struct trace *t) { (void)j, (void)t; }
static inline void print_judgement(const struct trace *t) { (void)t; }

#endif
