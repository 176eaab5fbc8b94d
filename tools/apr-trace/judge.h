/* What judges a model by long texts: perplexity, divergence from another model, importance of columns. */
#ifndef APR_TRACE_JUDGE_H
#define APR_TRACE_JUDGE_H

#include "base/core.h"
#include "ui/cli.h"

struct trace;
struct judgement;
struct apr_matrix;
struct apr_out;

/* Its part of the command line, and the rows of the option table, a comma behind each. */
struct judging {
    const char *perplexity, *kld, *imatrix;
    uint64_t    window;
    bool        window_given;
};
#define JUDGING_OPTIONS(j) \
    { "--perplexity", APR_OPTION_INPUT, &(j)->perplexity, "FILE", "how well it foretells a text, or ids; windows as llama-perplexity's" }, \
    { "--window", APR_OPTION_COUNT, &(j)->window, "N", "tokens of a window; default 512, or the context where that is less", \
      .given = &(j)->window_given, .needs = "--perplexity" }, \
    { "--kld", APR_OPTION_INPUT, &(j)->kld, "MODEL", "how far it is from MODEL, token by token of that text", .needs = "--perplexity", .files = APR_MODELS }, \
    { "--imatrix", APR_OPTION_IMATRIX, &(j)->imatrix, "FILE", "write how much each column of its matrices counts there, or in the input", \
      .needs = "--perplexity --tokens --tokens-file --prompt", .against = "--greedy" },

/* Is anything of it asked for? */
static inline bool is_judging(const struct judging *j) { return j->perplexity != NULL || j->kld != NULL || j->imatrix != NULL; }

/* Does it, with t->engine open, net and team there. t->judgement is what it found; end_judging frees it, in any case. */
APR_MUST_CHECK enum apr_code judge(struct trace *t, struct apr_error *e);
void end_judging(struct trace *t);

/* The observer's product while the input runs, ctx a struct trace: is it wanted, and what it does. imatrix.c */
bool wants_products(const struct judging *j);
enum apr_code take_product(void *ctx, const struct apr_matrix *w, const float *x, size_t n, struct apr_error *e);

/* Its members of the JSON object, and its text; with nothing found there is nothing to say. */
void write_judgement(struct apr_out *j, const struct trace *t);
void print_judgement(const struct trace *t);

#endif
