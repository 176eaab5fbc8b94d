/* What the judging parts of apr-trace know of each other. */
#ifndef APR_TRACE_JUDGEMENT_H
#define APR_TRACE_JUDGEMENT_H

#include "forward/perplexity.h"
#include "trace.h"

/*   ids, bos     the text of --perplexity; has_bos: *bos begins each window. window: its length
 *   base         the model of --kld
 *   importance   NULL: none is wanted yet; nmatrix: entries that were written
 *   judged, written  what is there to be told */
struct judgement {
    struct apr_ids         ids;
    uint32_t               bos;
    bool                   has_bos, judged, written;
    struct apr_windows     window;
    struct engine          base;
    struct apr_importance *importance;
    size_t                 nmatrix;
    uint64_t               chunks, chunk_size;
    struct apr_judgement   found;
};

/* The one of a trace, made when first asked for; NULL: no memory. */
struct judgement *judgement_of(struct trace *t);

/* perplexity.c: reads the text, cuts it into windows, runs them. */
APR_MUST_CHECK enum apr_code judge_text(struct trace *t, struct judgement *g, struct apr_error *e);

/* kld.c: opens the other model, which must have as many tokens. */
APR_MUST_CHECK enum apr_code open_base(struct trace *t, struct judgement *g, struct apr_error *e);
void write_divergence(struct apr_out *j, const struct judgement *g);
void print_divergence(const struct judgement *g);

/* imatrix.c: begins to count, writes what was counted. */
APR_MUST_CHECK enum apr_code need_importance(struct trace *t, struct judgement *g, struct apr_error *e);
APR_MUST_CHECK enum apr_code write_importance(struct trace *t, struct judgement *g, struct apr_error *e);

#endif
