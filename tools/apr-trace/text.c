/* The answer for people. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "trace.h"

/* ---- stages --------------------------------------------------------------------------------------------------------- */

static const char *style(const struct trace *t, enum apr_style s) { return apr_style(t->o->cli.colour, s); }

static const char *spell_layer(uint32_t layer, char text[16])
{
    snprintf(text, 16, layer == APR_WHOLE_MODEL ? "-" : "%lu", (unsigned long)layer);
    return text;
}

static void print_head(const struct trace *t)
{
    if (t->comparing != NULL)
        printf("layer  %-18s  %-16s  %12s  %12s\n", "stage", "shape", "cosine", "max diff");
    else
        printf("layer  %-18s  %-16s  %12s  %12s  %12s  %12s\n", "stage", "shape", "min", "max", "mean", "std");
}

/* Is a scale what is to be said? */
static bool is_plainly_scaled(const struct stage_row *r) { return r->scaled && !(fabs(r->ratio - 1) < 0.0005); }

/* "1.5 times as large" */
static void print_ratio(const struct stage_row *r)
{
    if (!(r->ratio > 0))
        printf("all zero %s", r->ratio == 0 ? "here" : "there");
    else
        printf("%.4g times as large", r->ratio);
}

static void print_numbers(const struct trace *t, const struct stage_row *r)
{
    if (isnan(r->cosine))
        printf("%12s  %12s", "-", "-");
    else
        printf("%12.9f  %12.6g", r->cosine, r->max_diff);
    printf("  %s%s%s", style(t, r->same ? APR_GREEN : APR_RED), r->same ? "same" : "differs", style(t, APR_PLAIN));
    if (is_plainly_scaled(r)) {
        printf(": ");
        print_ratio(r);
    }
}

static void print_compared(const struct trace *t, const struct stage_row *r)
{
    char shape[176];
    if (!r->in_reference)
        printf("%12s  %12s  only here", "-", "-");
    else if (r->compared)
        print_numbers(t, r);
    else if (r->other != r->count)
        printf("%12s  %12s  %s%" PRIu64 " values there%s", "-", "-", style(t, APR_RED), r->other, style(t, APR_PLAIN));
    else
        printf("%12s  %12s  %s%s there%s", "-", "-", style(t, APR_RED), apr_spell_shape(r->other_dim, r->other_ndim, shape),
               style(t, APR_PLAIN));
    if (r->mismatches > 0)
        printf("  nonfinite mismatch: %" PRIu64, r->mismatches);
}

/* A table of which the first row brings the head. */
void print_stage(const struct trace *t, const struct stage_row *r)
{
    char layer[16], shape[176];
    if (t->o->cli.quiet)
        return;
    if (t->nstage == 1)
        print_head(t);
    printf("%5s  %-18s  %-16s  ", spell_layer(r->layer, layer), apr_stage_name(r->stage), apr_spell_shape(r->dim, r->ndim, shape));
    if (t->comparing != NULL)
        print_compared(t, r);
    else
        printf("%12.6g  %12.6g  %12.6g  %12.6g", r->min, r->max, r->mean, r->std);
    if (r->nan > 0)
        printf("  nan: %" PRIu64, r->nan);
    if (r->inf > 0)
        printf("  inf: %" PRIu64, r->inf);
    putchar('\n');
}

/* "layer 1, stage ffn_gate", "stage lm_head" */
static void print_place(uint32_t layer, unsigned stage)
{
    if (layer != APR_WHOLE_MODEL)
        printf("layer %lu, ", (unsigned long)layer);
    printf("stage %s", apr_stage_name(stage));
}

/* ---- the other trace ------------------------------------------------------------------------------------------------ */

static void print_names(const char *what, const struct trace *t, bool (*next)(const struct trace *, size_t *, struct apr_bytes *))
{
    struct apr_bytes name;
    for (size_t i = 0; next(t, &i, &name);) {
        printf("%s  ", what);
        apr_print_bytes(stdout, name);
        putchar('\n');
    }
}

/* foreign: another program's sums have other roundings, so nothing is meant by their being equal. */
static void print_agreement(const struct tally *c, bool foreign)
{
    printf("no divergence: %" PRIu64 " stage%s the same, ", c->compared, c->compared == 1 ? " is" : "s are");
    if (c->exact == c->compared)
        printf("%s", "equal in every value\n");
    else if (c->lowest == NULL)
        printf("%" PRIu64 " of them equal in every value\n", c->exact);
    else {
        printf("%" PRIu64 " of them equal in every value; lowest cosine %.9f at ", c->exact, c->lowest->cosine);
        print_place(c->lowest->layer, c->lowest->stage);
        printf("%s\n", foreign ? "" : " (--threshold 1 names the first that differs at all)");
    }
}

/* What the first stage that differs differs by. */
static void print_difference(const struct stage_row *r)
{
    char here[176], there[176];
    const bool other_tokens = r->stage == APR_STAGE_EMBEDDING && r->cosine < 0.999;
    if (r->index != APR_NOWHERE)
        printf(", index %" PRIu64, r->index);
    if (!r->compared && r->count != r->other)
        printf(": %" PRIu64 " values here, %" PRIu64 " there: a trace of other tokens or positions?", r->count, r->other);
    else if (!r->compared)
        printf(": %s here, %s there", apr_spell_shape(r->dim, r->ndim, here), apr_spell_shape(r->other_dim, r->other_ndim, there));
    else if (r->mismatches > 0)
        printf(": of %" PRIu64 " values %" PRIu64 " are not finite here, %" PRIu64 " there", r->count, r->nan + r->inf, r->nonfinite_there);
    else
        printf(": cosine %.9f, ", r->cosine);
    if (is_plainly_scaled(r) && r->mismatches == 0) {
        print_ratio(r);
        printf(", ");
    }
    if (r->compared && r->mismatches == 0)
        printf("largest difference %.6g%s", r->max_diff, other_tokens ? ": a trace of other tokens?" : "");
}

static void print_comparison(const struct trace *t)
{
    const struct stage_row *const r = first_divergence(t);
    const struct tally c = tally_of(t);
    if (!t->o->cli.quiet) {
        print_names("only in the reference", t, only_in_reference);
        print_names("only here", t, only_here);
    }
    if (r == NULL) {
        print_agreement(&c, is_foreign_reference(t));
        return;
    }
    printf("first divergence: ");
    print_place(r->layer, r->stage);
    print_difference(r);
    printf("; %" PRIu64 " of %" PRIu64 " stages differ%s\n", c.differing, c.compared, c.differing == 1 ? "s" : "");
}

/* ---- what is not finite --------------------------------------------------------------------------------------------- */

static void print_nonfinite(const struct trace *t)
{
    const struct nonfinite *const f = &t->nonfinite;
    if (!f->found) {
        printf("all values are finite\n");
        return;
    }
    print_place(f->layer, f->stage);
    printf(": %s at position %" PRIu64 ", index %" PRIu64, spell_nonfinite(f->value), f->position, f->index);
    if (f->culprit[0] != 0)
        printf(": %s", f->culprit);
    putchar('\n');
}

/* ---- tokens --------------------------------------------------------------------------------------------------------- */

/* A token's text in quotes, on one line. */
static void print_quoted(struct apr_bytes text)
{
    putchar('"');
    for (size_t i = 0; i < text.n; i++) {
        const unsigned char c = text.at[i];
        const char *const escape = c == '\n' ? "\\n" : c == '\t' ? "\\t" : c == '\r' ? "\\r" : c == '"' ? "\\\"" : NULL;
        size_t run = 1;
        while (escape == NULL && i + run < text.n && strchr("\n\t\r\"", text.at[i + run]) == NULL)
            run++;
        if (escape != NULL)
            fputs(escape, stdout);
        else
            apr_print_bytes(stdout, (struct apr_bytes){ text.at + i, run });
        i += run - 1;
    }
    putchar('"');
}

static enum apr_code print_top(struct trace *t, struct apr_error *e)
{
    struct top top;
    APR_TRY(find_top(t, &top, e));
    printf("%8s  %12s%s\n", t->engine.net->features ? "output" : "token", "logit", top.encoder != NULL ? "  text" : "");
    for (uint64_t i = 0; i < top.n; i++) {
        printf("%8" PRIu64 "  %12.6f", top.id[i], (double)t->logits[top.id[i]]);
        if (top.encoder != NULL) {
            printf("  ");
            print_quoted(apr_token_spelling(top.encoder, top.id[i]));
        }
        putchar('\n');
    }
    free(top.id);
    return APR_OK;
}

/* How many bytes at the end begin a character that is not all there. */
static size_t half_character(const unsigned char *s, size_t n)
{
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        const unsigned char c = s[n - back];
        if (c < 0x80)
            return 0;
        if (c >= 0xC2)
            return back < (c >= 0xF0 ? 4u : c >= 0xE0 ? 3u : 2u) ? back : 0;
    }
    return 0;
}

/* Lines and tabs as they are. */
static void print_text(const unsigned char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t run = 0;
        while (i + run < n && s[i + run] != '\n' && s[i + run] != '\t')
            run++;
        apr_print_bytes(stdout, (struct apr_bytes){ s + i, run });
        i += run;
        if (i < n)
            putchar(s[i++]);
    }
}

/* What begins a character that another token may end waits for it. */
static void print_piece(struct trace *t, struct apr_bytes piece)
{
    size_t i = 0;
    while (t->nhalf > 0 && i < piece.n) {
        t->half[t->nhalf++] = piece.at[i++];
        const size_t half = half_character(t->half, t->nhalf);
        print_text(t->half, t->nhalf - half);
        memmove(t->half, t->half + t->nhalf - half, half);
        t->nhalf = half;
    }
    const size_t n = piece.n - i, half = half_character(piece.at + i, n);
    print_text(piece.at + i, n - half);
    if (half > 0)
        memcpy(t->half + t->nhalf, piece.at + piece.n - half, half);
    t->nhalf += half;
}

void print_greedy_token(struct trace *t, uint32_t id)
{
    if (t->o->cli.json)
        return;
    if (t->engine.encoder == NULL)
        printf("%s%lu", t->greedy.n > 1 ? " " : "", (unsigned long)id);
    else
        print_piece(t, apr_token_spelling(t->engine.encoder, id));
    if (isatty(STDOUT_FILENO))
        fflush(stdout);
}

void end_greedy_text(struct trace *t)
{
    if (t->o->cli.json || t->greedy.n == 0)
        return;
    print_text(t->half, t->nhalf);
    t->nhalf = 0;
    putchar('\n');
    if (!t->o->cli.quiet)
        printf("%s%zu token%s%s%s\n", style(t, APR_DIM), t->greedy.n, t->greedy.n == 1 ? "" : "s",
               t->ended ? ", the last of which ends the text" : "", style(t, APR_PLAIN));
}

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

static enum apr_code print_embedding(const struct trace *t, struct apr_error *e)
{
    const char *pooling;
    float *vector;
    struct apr_bytes head;
    double square = 0;
    APR_TRY(pool(t, &pooling, &vector, e));
    for (uint64_t i = 0; vector != NULL && i < t->engine.net->hidden; i++)
        square += (double)vector[i] * (double)vector[i];
    if (vector == NULL)
        printf("no embedding: pooling is \"%s\"\n", pooling);
    else
        printf("embedding: %" PRIu64 " values, pooled by \"%s\" of %" PRIu64 " positions, norm %.6g\n", t->engine.net->hidden, pooling,
               positions_of(t), sqrt(square));
    if (is_classifier(t, &head)) {
        printf("not its labels: the classifier's head, ");
        apr_print_bytes(stdout, head);
        printf(", is ignored\n");
    }
    free(vector);
    return APR_OK;
}

static void print_saved(const struct trace *t)
{
    printf("%zu file%s in ", t->saved.n, t->saved.n == 1 ? "" : "s");
    apr_print_text(stdout, saving_folder(t));
    putchar('\n');
}

enum apr_code print_summary(struct trace *t, struct apr_error *e)
{
    const struct options *const o = t->o;
    const bool asked = o->save_tensor != NULL || o->compare != NULL || o->stop_at_nan || o->greedy_given || o->weights.n > 0 ||
        is_judging(&o->judging);
    if (t->saved.n > 0 && !o->cli.quiet)
        print_saved(t);
    if (o->stop_at_nan)
        print_nonfinite(t);
    if (t->comparing != NULL)
        print_comparison(t);
    if (t->logits != NULL && (!asked || o->top != TOP_UNSAID))
        APR_TRY(print_top(t, e));
    if (is_pooled(t) && !asked)
        APR_TRY(print_embedding(t, e));
    print_judgement(t);
    return APR_OK;
}
