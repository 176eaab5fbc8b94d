/* --perplexity: the text, as tokens; what a model makes of it. And the judging as a whole. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "files/source.h"
#include "judgement.h"
#include "model/model.h"

#define MOST_IDS ((size_t)1 << 28) /* of a text: 1 GiB of them */

/* ---- ids that stand in a file --------------------------------------------------------------------------------------- */

static bool is_gap(unsigned char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ',' || c == '[' || c == ']'; }
static bool is_digit(unsigned char c) { return c >= '0' && c <= '9'; }

/* Nothing but whole numbers, and white space, commas and brackets between them: as people and programs print lists. */
static bool is_numbers(struct apr_bytes text)
{
    bool any = false, within = false;
    for (size_t i = 0; i < text.n; i++) {
        const bool digit = is_digit(text.at[i]), sign = text.at[i] == '-' && !within && i + 1 < text.n && is_digit(text.at[i + 1]);
        if (!digit && !sign && !is_gap(text.at[i]))
            return false;
        within = digit || sign;
        any |= digit;
    }
    return any;
}

/* The number at *at, which moves behind it; one that is negative or too large is UINT64_MAX. */
static uint64_t take_number(struct apr_bytes text, size_t *at)
{
    const bool negative = text.at[*at] == '-';
    uint64_t v;
    *at += negative;
    *at += apr_digits((struct apr_bytes){ text.at + *at, text.n - *at }, &v);
    return negative ? UINT64_MAX : v;
}

static enum apr_code take_ids(struct apr_bytes text, uint64_t vocab, struct apr_ids *ids, struct apr_error *e)
{
    uint64_t line = 1;
    for (size_t at = 0; at < text.n;) {
        if (is_gap(text.at[at])) {
            line += text.at[at++] == '\n';
            continue;
        }
        const size_t from = at;
        const uint64_t id = take_number(text, &at);
        if (id >= vocab || id > UINT32_MAX)
            return apr_fail(e, APR_EARG, from, "line %" PRIu64 ": %s is no token: the model has %" PRIu64, line,
                            APR_QUOTED(((struct apr_bytes){ text.at + from, at - from })), vocab);
        if (ids->n == MOST_IDS)
            return apr_fail(e, APR_ELIMIT, from, "line %" PRIu64 ": more than %zu tokens", line, MOST_IDS);
        APR_TRY(apr_ids_add(ids, (uint32_t)id, e));
    }
    return APR_OK;
}

/* ---- a text --------------------------------------------------------------------------------------------------------- */

/* Without the newline that ends it, as llama.cpp's tools read a file. */
static enum apr_code take_text(struct trace *t, struct judgement *g, struct apr_bytes text, struct apr_error *e)
{
    const unsigned char *const nul = memchr(text.at, 0, text.n);
    if (nul != NULL)
        return apr_fail(e, APR_EARG, (uint64_t)(nul - text.at), "a NUL stands here: it is no text");
    text.n -= text.at[text.n - 1] == '\n';
    APR_TRY(need_encoder_for(&t->engine, t->o, "--perplexity takes a file of ids, too", e));
    return apr_encode(t->engine.encoder, text, false, &g->ids, e);
}

static enum apr_code take_file(struct trace *t, struct judgement *g, struct apr_bytes text, struct apr_error *e)
{
    if (text.n == 0)
        return APR_OK;
    return is_numbers(text) ? take_ids(text, t->engine.net->vocab, &g->ids, e) : take_text(t, g, text, e);
}

/* Ids need no tokenizer, but if there is one it says what a window begins with. */
static enum apr_code find_bos(struct trace *t, struct judgement *g, struct apr_error *e)
{
    APR_TRY(try_encoder(&t->engine, t->o, e));
    g->has_bos = t->engine.encoder != NULL && apr_encoder_adds_bos(t->engine.encoder, &g->bos);
    return APR_OK;
}

static enum apr_code read_text(struct trace *t, struct judgement *g, struct apr_error *e)
{
    const struct judging *const j = &t->o->judging;
    struct apr_source *s = NULL;
    enum apr_code code = apr_source_open(&s, j->perplexity, &t->o->cli.run, e);
    if (code == APR_OK)
        code = apr_source_end(s, take_file(t, g, s->map, e), e);
    if (code == APR_OK)
        code = find_bos(t, g, e);
    if (code == APR_OK) {
        g->window = (struct apr_windows){ .id = g->ids.id, .bos = g->has_bos ? &g->bos : NULL, .n = g->ids.n,
                                          .length = j->window_given ? j->window : apr_windows_length(t->engine.net) };
        code = apr_windows_check(&g->window, t->engine.net, e);
    }
    if (code != APR_OK)
        apr_error_in(e, j->perplexity);
    return code;
}

enum apr_code judge_text(struct trace *t, struct judgement *g, struct apr_error *e)
{
    const struct judging *const j = &t->o->judging;
    APR_TRY(apr_foretells(t->engine.net, e));
    APR_TRY(read_text(t, g, e));
    if (j->kld != NULL)
        APR_TRY(open_base(t, g, e));
    if (j->imatrix != NULL)
        APR_TRY(need_importance(t, g, e));
    APR_TRY(apr_judge(&(struct apr_judging){ .net = t->engine.net, .base = g->base.net, .team = t->team, .windows = g->window,
                                             .importance = g->importance, .progress = t->o->cli.run.progress },
                      &g->found, e));
    if (j->kld != NULL)
        APR_TRY(apr_model_unchanged(g->base.m, e));
    g->judged = true;
    return APR_OK;
}

/* ---- the judging ---------------------------------------------------------------------------------------------------- */

struct judgement *judgement_of(struct trace *t)
{
    if (t->judgement == NULL)
        t->judgement = calloc(1, sizeof *t->judgement);
    return t->judgement;
}

enum apr_code judge(struct trace *t, struct apr_error *e)
{
    struct judgement *const g = judgement_of(t);
    if (g == NULL)
        return apr_no_memory(e);
    if (t->o->judging.perplexity != NULL)
        APR_TRY(judge_text(t, g, e));
    const bool stopped = t->o->judging.perplexity == NULL && t->nonfinite.found; /* half a run has no importance */
    return t->o->judging.imatrix != NULL && !stopped ? write_importance(t, g, e) : APR_OK;
}

void end_judging(struct trace *t)
{
    if (t->judgement == NULL)
        return;
    apr_ids_free(&t->judgement->ids);
    apr_importance_free(t->judgement->importance);
    close_engine(&t->judgement->base);
    free(t->judgement);
    t->judgement = NULL;
}

void write_judgement(struct apr_out *j, const struct trace *t)
{
    const struct judgement *const g = t->judgement;
    if (g != NULL && g->judged) {
        apr_out_real(j, "perplexity", g->found.own.value);
        apr_out_real(j, "perplexity_error", g->found.own.error);
        apr_out_real(j, "mean_nll", g->found.own.mean);
        apr_out_count(j, "tokens_counted", g->found.own.count);
        apr_out_count(j, "windows", apr_windows_count(&g->window));
        apr_out_count(j, "window", g->window.length);
        if (g->has_bos)
            apr_out_count(j, "window_bos", g->bos);
        else
            apr_out_null(j, "window_bos");
        if (g->base.net != NULL)
            write_divergence(j, g);
    }
    if (g != NULL && g->written) {
        apr_out_open(j, "imatrix", '{');
        apr_out_text(j, "file", t->o->judging.imatrix);
        apr_out_count(j, "matrices", g->nmatrix);
        apr_out_count(j, "chunks", g->chunks);
        apr_out_count(j, "chunk_size", g->chunk_size);
        apr_out_close(j, '}');
    }
}

void print_judgement(const struct trace *t)
{
    const struct judgement *const g = t->judgement;
    if (g != NULL && g->judged) {
        printf("perplexity       %.6g +- %.3g\n", g->found.own.value, g->found.own.error);
        printf("mean -log p      %.6g over %" PRIu64 " tokens, in %" PRIu64 " windows of %" PRIu64, g->found.own.mean, g->found.own.count,
               apr_windows_count(&g->window), g->window.length);
        if (g->has_bos)
            printf(" that begin with BOS, %" PRIu32, g->bos);
        putchar('\n');
        if (g->base.net != NULL)
            print_divergence(g);
    }
    if (g != NULL && g->written) {
        printf("importance       of %zu matrices, by %" PRIu64 " run%s of %" PRIu64 " tokens: ", g->nmatrix, g->chunks,
               g->chunks == 1 ? "" : "s", g->chunk_size);
        apr_print_text(stdout, t->o->judging.imatrix);
        putchar('\n');
    }
}
