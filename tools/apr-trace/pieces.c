/* How the tokenizer has cut the prompt. */
#include <stdio.h>

#include "base/bytes.h"
#include "trace.h"

#define MOST_SHOWN 64u /* tokens of a line: a few lines of a terminal */

static bool has_pieces(const struct trace *t) { return t->o->prompt != NULL && t->engine.encoder != NULL && t->ids.n > 0; }

void write_pieces(struct apr_out *j, const struct trace *t)
{
    if (!has_pieces(t))
        return;
    apr_out_open(j, "pieces", '[');
    for (size_t i = 0; i < t->ids.n; i++)
        apr_out_bytes(j, NULL, apr_token_spelling(t->engine.encoder, t->ids.id[i]));
    apr_out_close(j, ']');
}

void print_pieces(const struct trace *t)
{
    if (!has_pieces(t) || t->o->cli.json || t->o->cli.quiet)
        return;
    const size_t n = apr_min(t->ids.n, MOST_SHOWN);
    printf("%s%zu token%s:", apr_style(t->o->cli.colour, APR_DIM), t->ids.n, t->ids.n == 1 ? "" : "s");
    for (size_t i = 0; i < n; i++)
        printf(" %lu %s", (unsigned long)t->ids.id[i], APR_QUOTED(apr_token_spelling(t->engine.encoder, t->ids.id[i])));
    printf("%s%s\n", n < t->ids.n ? " ..." : "", apr_style(t->o->cli.colour, APR_PLAIN));
}
