/* The answer as JSON, and which of its two forms it has. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/emit.h"
#include "trace.h"

#define TOP 5 /* where --top says nothing */

/* ---- JSON ----------------------------------------------------------------------------------------------------------- */

static void write_ids(struct apr_out *j, const char *key, const struct apr_ids *ids)
{
    apr_out_open(j, key, '[');
    for (size_t i = 0; i < ids->n; i++)
        apr_out_count(j, NULL, ids->id[i]);
    apr_out_close(j, ']');
}

static void write_subject(struct apr_out *j, const void *about)
{
    const struct trace *const t = about;
    apr_out_text(j, "model", t->o->cli.noperand > 0 ? t->o->cli.operand[0] : NULL);
    if (t->engine.family != NULL)
        apr_out_bytes(j, "family", t->engine.family->name);
    else
        apr_out_null(j, "family");
    write_ids(j, "tokens", &t->ids);
    write_pieces(j, t);
    if (t->feature == NULL || t->nrow == 0)
        return;
    apr_out_open(j, "features", '[');
    for (uint64_t i = 0; i < t->engine.net->hidden; i++)
        apr_out_real(j, NULL, (double)t->feature[i]);
    apr_out_close(j, ']');
}

static void write_place(struct apr_out *j, uint32_t layer, unsigned stage)
{
    if (layer == APR_WHOLE_MODEL)
        apr_out_text(j, "layer", "whole-model");
    else
        apr_out_count(j, "layer", layer);
    apr_out_text(j, "stage", apr_stage_name(stage));
}

static void write_index(struct apr_out *j, const char *key, uint64_t index)
{
    if (index == APR_NOWHERE)
        apr_out_null(j, key);
    else
        apr_out_count(j, key, index);
}

static void write_failures(struct apr_out *j, const struct stage_row *r)
{
    apr_out_open(j, "failed", '[');
    if (r->unlike)
        apr_out_text(j, NULL, "cosine");
    if (r->scaled)
        apr_out_text(j, NULL, "scale");
    if (r->mismatches > 0)
        apr_out_text(j, NULL, "nonfinite");
    if (!r->compared)
        apr_out_text(j, NULL, "shape");
    apr_out_close(j, ']');
}

/* What apr-diff says of two traces, by the same names. */
static void write_comparison(struct apr_out *j, const struct stage_row *r)
{
    apr_out_real(j, "cosine_sim", r->compared ? r->cosine : NAN);
    apr_out_real(j, "norm_ratio", r->compared ? r->ratio : NAN);
    apr_out_real(j, "max_abs_diff", r->compared ? r->max_diff : NAN);
    write_index(j, "max_abs_diff_index", r->index);
    apr_out_real(j, "rms_diff", r->compared ? r->rms_diff : NAN);
    apr_out_count(j, "nonfinite_mismatch", r->mismatches);
    apr_out_count(j, "nonfinite_in_reference", r->nonfinite_there);
    if (!r->compared)
        apr_out_counts(j, "shape_in_reference", r->other_dim, r->other_ndim);
    if (r->other != r->count)
        apr_out_count(j, "count_in_reference", r->other);
    apr_out_bool(j, "equal", r->exact);
    apr_out_bool(j, "pass", r->same);
    write_failures(j, r);
}

static void write_stage(struct apr_out *j, const struct stage_row *r)
{
    char text[33];
    write_place(j, r->layer, r->stage);
    apr_out_counts(j, "shape", r->dim, r->ndim);
    apr_out_count(j, "count", r->count);
    apr_out_real(j, "min", r->min);
    apr_out_real(j, "max", r->max);
    apr_out_real(j, "mean", r->mean);
    apr_out_real(j, "std", r->std);
    apr_out_real(j, "rms", r->rms);
    apr_out_count(j, "nan_count", r->nan);
    apr_out_count(j, "inf_count", r->inf);
    apr_out_count(j, "zero_count", r->zero);
    apr_out_text(j, "file", r->file);
    apr_out_text(j, "hash", apr_digest_spell(r->hash, text));
    if (r->in_reference)
        write_comparison(j, r);
}

static void write_names(struct apr_out *j, const char *key, const struct trace *t,
                        bool (*next)(const struct trace *, size_t *, struct apr_bytes *))
{
    struct apr_bytes name;
    apr_out_open(j, key, '[');
    for (size_t i = 0; next(t, &i, &name);)
        apr_out_bytes(j, NULL, name);
    apr_out_close(j, ']');
}

static void write_tally(struct apr_out *j, const struct trace *t)
{
    const struct tally c = tally_of(t);
    apr_out_count(j, "stages_compared", c.compared);
    apr_out_count(j, "stages_equal", c.exact);
    apr_out_count(j, "stages_differing", c.differing);
    if (c.lowest == NULL) {
        apr_out_null(j, "lowest_cosine");
        return;
    }
    apr_out_open(j, "lowest_cosine", '{');
    write_place(j, c.lowest->layer, c.lowest->stage);
    apr_out_real(j, "cosine_sim", c.lowest->cosine);
    apr_out_close(j, '}');
}

static void write_divergence(struct apr_out *j, const struct trace *t)
{
    const struct stage_row *const r = first_divergence(t);
    if (r == NULL) {
        apr_out_null(j, "first_divergence");
    } else {
        apr_out_open(j, "first_divergence", '{');
        write_place(j, r->layer, r->stage);
        write_index(j, "index", r->index);
        apr_out_close(j, '}');
    }
    write_tally(j, t);
    apr_out_real(j, "threshold", t->o->threshold);
    write_names(j, "only_in_reference", t, only_in_reference);
    write_names(j, "only_here", t, only_here);
}

static void write_nonfinite(struct apr_out *j, const struct nonfinite *f)
{
    if (!f->found) {
        apr_out_null(j, "first_nonfinite");
        return;
    }
    apr_out_open(j, "first_nonfinite", '{');
    write_place(j, f->layer, f->stage);
    apr_out_count(j, "position", f->position);
    apr_out_count(j, "index", f->index);
    apr_out_text(j, "value", spell_nonfinite(f->value));
    apr_out_text(j, "culprit", f->culprit[0] == 0 ? NULL : f->culprit);
    apr_out_close(j, '}');
}

/* A text, or of one that is no UTF-8, as a piece of a character, the bytes too. */
static void write_bytes(struct apr_out *j, const char *key, const char *key_bytes, struct apr_bytes text)
{
    size_t i = 0, n;
    apr_out_bytes(j, key, text);
    while (i < text.n && (n = apr_utf8_length(text.at + i, text.n - i)) > 0)
        i += n;
    if (i < text.n)
        apr_out_hex(j, key_bytes, text);
}

static uint64_t count_where(const float *x, uint64_t n, bool (*is)(float))
{
    uint64_t found = 0;
    for (uint64_t i = 0; i < n; i++)
        found += is(x[i]);
    return found;
}

static bool is_nan(float v) { return isnan(v); }
static bool is_infinite(float v) { return isinf(v); }

static enum apr_code write_logits(struct apr_out *j, struct trace *t, struct apr_error *e)
{
    const uint64_t vocab = t->engine.net->vocab, best = best_logit(t->logits, vocab);
    struct top top;
    APR_TRY(find_top(t, &top, e));
    apr_out_open(j, "logits", '{');
    apr_out_count(j, "vocab_size", vocab);
    write_index(j, "argmax", isnan(t->logits[best]) ? APR_NOWHERE : best);
    apr_out_count(j, "nan_count", count_where(t->logits, vocab, is_nan));
    apr_out_count(j, "inf_count", count_where(t->logits, vocab, is_infinite));
    apr_out_open(j, "top_k", '[');
    for (uint64_t i = 0; i < top.n; i++) {
        apr_out_open(j, NULL, '{');
        apr_out_count(j, "token_id", top.id[i]);
        apr_out_real(j, "logit", (double)t->logits[top.id[i]]);
        if (top.encoder != NULL)
            write_bytes(j, "text", "bytes", apr_token_spelling(top.encoder, top.id[i]));
        apr_out_close(j, '}');
    }
    apr_out_close(j, ']');
    apr_out_close(j, '}');
    free(top.id);
    return APR_OK;
}

static enum apr_code write_embedding(struct apr_out *j, const struct trace *t, struct apr_error *e)
{
    const char *pooling;
    float *vector;
    struct apr_bytes head;
    APR_TRY(pool(t, &pooling, &vector, e));
    apr_out_open(j, "embedding", '{');
    apr_out_text(j, "pooling", pooling);
    if (is_classifier(t, &head)) {
        apr_out_text(j, "head", "ignored");
        apr_out_bytes(j, "head_tensor", head);
    }
    if (vector == NULL)
        apr_out_null(j, "values");
    else
        apr_out_open(j, "values", '[');
    for (uint64_t i = 0; vector != NULL && i < t->engine.net->hidden; i++)
        apr_out_real(j, NULL, (double)vector[i]);
    if (vector != NULL)
        apr_out_close(j, ']');
    apr_out_close(j, '}');
    free(vector);
    return APR_OK;
}

static enum apr_code write_greedy(struct apr_out *j, const struct trace *t, struct apr_error *e)
{
    struct apr_emit text;
    struct apr_bytes all;
    write_ids(j, "greedy", &t->greedy);
    apr_out_bool(j, "greedy_ended", t->ended);
    if (t->engine.encoder == NULL)
        return APR_OK;
    APR_TRY(apr_emit_begin(&text, e));
    for (size_t i = 0; i < t->greedy.n; i++)
        apr_emit_bytes(text.to, apr_token_spelling(t->engine.encoder, t->greedy.id[i]));
    APR_TRY(apr_emit_end(&text, &all, e));
    write_bytes(j, "greedy_text", "greedy_bytes", all);
    free((void *)(uintptr_t)all.at);
    return APR_OK;
}

static enum apr_code write_sum(struct apr_out *j, struct trace *t, struct apr_error *e)
{
    enum apr_code code = APR_OK;
    apr_report_sum(&t->report);
    if (t->comparing != NULL)
        write_divergence(j, t);
    if (t->o->stop_at_nan)
        write_nonfinite(j, &t->nonfinite);
    if (t->o->greedy_given)
        code = write_greedy(j, t, e);
    if (code == APR_OK && t->logits != NULL)
        code = write_logits(j, t, e);
    if (code == APR_OK && is_pooled(t))
        code = write_embedding(j, t, e);
    apr_out_open(j, "saved", '[');
    for (size_t i = 0; i < t->saved.n; i++)
        apr_out_text(j, NULL, t->saved.path[i]);
    apr_out_close(j, ']');
    write_judgement(j, t);
    return code;
}

/* ---- both ----------------------------------------------------------------------------------------------------------- */

bool is_pooled(const struct trace *t)
{
    return t->sequence != NULL && t->engine.net->head.w.in == NULL && !t->nonfinite.found && positions_of(t) > 0;
}

enum apr_code find_top(struct trace *t, struct top *top, struct apr_error *e)
{
    *top = (struct top){ .n = apr_min(t->o->top == TOP_UNSAID ? TOP : t->o->top, t->engine.net->vocab) };
    top->id = malloc((top->n + 1) * sizeof *top->id);
    if (top->id == NULL)
        return apr_no_memory(e);
    best_logits(t->logits, t->engine.net->vocab, top->n, top->id);
    const enum apr_code code = top->n > 0 && !t->engine.net->features ? try_encoder(&t->engine, t->o, e) : APR_OK;
    if (code == APR_OK)
        top->encoder = t->engine.encoder;
    else
        free(top->id);
    return code;
}

void begin_report(struct trace *t)
{
    t->json = (struct apr_out){ .to = stdout };
    t->report = (struct apr_report){ .out = &t->json, .schema = "apr-trace/1", .rows = "stages", .subject = write_subject, .about = t,
                                     .file = t->o->cli.noperand > 0 ? t->o->cli.operand[0] : NULL, .lines = t->o->jsonl };
    t->begun = true;
    if (t->o->cli.json)
        apr_report_begin(&t->report);
}

void report_stage(struct trace *t, const struct stage_row *r)
{
    if (!t->o->cli.json) {
        print_stage(t, r);
        return;
    }
    apr_report_row(&t->report);
    write_stage(&t->json, r);
    apr_report_row_end(&t->report);
}

/* An answer of NaN looks like one. An infinity alone may be meant: of tokens that never come. */
static void tell_nonfinite(const struct trace *t, const float *x, uint64_t n, const char *what)
{
    struct apr_error note;
    const uint64_t bad = x == NULL ? 0 : count_where(x, n, is_nan);
    if (bad == 0 || t->o->cli.quiet)
        return;
    apr_fail(&note, APR_OK, APR_NOWHERE, "of %" PRIu64 " %s %" PRIu64 " %s no number%s", n, what, bad, bad == 1 ? "is" : "are",
             t->o->stop_at_nan ? "" : ": --stop-at-nan finds where they begin");
    apr_error_in(&note, t->engine.path);
    apr_cli_fail(&t->o->cli, &note);
}

static void tell_bad_answer(const struct trace *t)
{
    const struct apr_net *const net = t->engine.net;
    if (t->logits != NULL)
        tell_nonfinite(t, t->logits, net->vocab, "logits");
    else if (is_pooled(t))
        tell_nonfinite(t, apr_sequence_final(t->sequence, 0), net->hidden * positions_of(t), "values of the last layer");
}

int end_report(struct trace *t, const struct apr_error *why)
{
    struct apr_error e;
    if (!t->begun)
        begin_report(t);
    if (why == NULL && (t->o->cli.json ? write_sum(&t->json, t, &e) : print_summary(t, &e)) != APR_OK)
        why = &e;
    if (t->o->cli.json)
        apr_report_end(&t->report, why);
    if (why != NULL)
        return apr_cli_fail(&t->o->cli, why);
    tell_bad_answer(t);
    return t->nonfinite.found || first_divergence(t) != NULL ? APR_EXIT_NO : APR_EXIT_YES;
}
