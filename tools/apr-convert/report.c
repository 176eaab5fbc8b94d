/* What was done, or would be: as text and as JSON. */
#include "convert.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "files/source.h"
#include "model/format.h"
#include "model/meta.h"
#include "values/packed.h"

/* ---- JSON ----------------------------------------------------------------------------------------------------------- */

static void write_subject(struct apr_out *j, const void *about)
{
    const struct apr_conversion *const c = about;
    apr_out_text(j, "input", c->o->in);
    apr_out_text(j, "output", c->o->out);
    apr_out_text(j, "format_from", c->source.m == NULL ? NULL : c->source.m->format->name);
    apr_out_text(j, "format_to", c->format == NULL ? NULL : c->format->name);
}

/* Is it in a file that this run writes? */
static bool is_ours(const struct apr_conversion *c, size_t shard) { return c->plan.only == 0 || shard + 1 == c->plan.only; }

/* "F16", of several "mixed". */
static const char *dtype_from(const struct apr_planned *t, char text[64])
{
    if (t->how == APR_GENERATE)
        return NULL;
    snprintf(text, 64, "%s", apr_input_part(t->in, 0)->dtype->name);
    for (size_t i = 1; i < t->in->view.npart; i++)
        if (apr_input_part(t->in, i)->dtype != apr_input_part(t->in, 0)->dtype) {
            snprintf(text, 64, "mixed");
            break;
        }
    return text;
}

static void write_row(struct apr_report *r, const struct apr_conversion *c, const struct apr_planned *t)
{
    static const char *const how[] = { "copy", "blocks", "encode", "generate" };
    char text[64];
    apr_report_row(r);
    if (t->from.n > 0)
        apr_out_bytes(r->out, "name_from", t->from);
    else
        apr_out_null(r->out, "name_from");
    apr_out_bytes(r->out, "name_to", t->name);
    apr_out_text(r->out, "dtype_from", dtype_from(t, text));
    apr_out_text(r->out, "dtype_to", t->dtype->name);
    apr_out_counts(r->out, "shape", t->dim, t->ndim);
    apr_out_text(r->out, "transform", t->transform);
    apr_out_text(r->out, "how", how[t->how]);
    apr_out_count(r->out, "bytes", t->bytes);
    if (c->plan.nfile > 1)
        apr_out_count(r->out, "shard", t->shard);
    if (t->lossy && !c->o->dry_run) {
        apr_out_real(r->out, "rmse", t->rmse);
        apr_out_real(r->out, "cosine", t->cosine);
        apr_out_real(r->out, "max_error", t->max_error);
    }
    if (t->overflowed > 0)
        apr_out_count(r->out, "overflowed", t->overflowed);
    if (t->nan > 0)
        apr_out_count(r->out, "nan_to_zero", t->nan);
    apr_report_row_end(r);
}

static void write_dropped(struct apr_out *j, const struct apr_wishes *w)
{
    apr_out_open(j, "dropped", '[');
    for (size_t i = 0; i < w->nleft; i++) {
        apr_out_open(j, NULL, '{');
        apr_out_bytes(j, "name", w->left[i].name);
        apr_out_text(j, "reason", w->left[i].reason);
        apr_out_close(j, '}');
    }
    apr_out_close(j, ']');
}

static uint64_t bytes_in(const struct apr_conversion *c)
{
    uint64_t n = 0;
    for (size_t i = 0; c->source.m != NULL && i < c->source.m->nfile; i++)
        n += c->source.m->file[i]->stored;
    return n;
}

/* Files beside a checkpoint that have no place in the target: in a GGUF some are keys of their own, others travel under hf.NAME. */
static bool is_left(const struct apr_conversion *c, const struct apr_side_file *f)
{
    static const char *const translated[] = { "config.json", "generation_config.json" };
    char key[256];
    if (c->folder || !(c->format->own_names || c->format->config))
        return false;
    for (size_t i = 0; i < APR_LENGTH(translated) && c->format->own_names; i++)
        if (apr_bytes_is(f->name, translated[i]))
            return false;
    snprintf(key, sizeof key, "hf.%.*s", APR_PRINTED(f->name));
    return !(c->format->own_names && (apr_side_of_tokenizer(f->name) || apr_draft_find(&c->plan.meta, apr_text(key)) != NULL));
}

static void write_left(struct apr_out *j, const struct apr_conversion *c)
{
    apr_out_open(j, "metadata_dropped", '[');
    for (size_t i = 0; i < c->side.n; i++)
        if (is_left(c, &c->side.file[i]))
            apr_out_bytes(j, NULL, c->side.file[i].name);
    for (size_t i = 0; i < c->o->edits.unset.n; i++)
        apr_out_text(j, NULL, c->o->edits.unset.text[i]);
    apr_out_close(j, ']');
}

/* What the readers accepted but found odd: an APR without a footer, gaps. */
static void write_notes(struct apr_out *j, const struct apr_model *m)
{
    apr_out_open(j, "notes", '[');
    for (size_t i = 0; i < m->nnote; i++) {
        apr_out_open(j, NULL, '{');
        apr_out_text(j, "code", m->note[i].code);
        apr_out_text(j, "text", m->note[i].text);
        apr_out_close(j, '}');
    }
    apr_out_close(j, ']');
}

static uint64_t planned_bytes(const struct apr_conversion *c)
{
    uint64_t n = 0;
    for (size_t i = 0; i < c->plan.nfile; i++)
        n += is_ours(c, i) ? c->plan.file[i].size : 0;
    return n;
}

/* How many values became 0 because they were not finite. */
static uint64_t replaced(const struct apr_conversion *c)
{
    uint64_t n = 0;
    for (size_t i = 0; i < c->plan.ntensor; i++)
        n += c->plan.tensor[i].nan;
    return n;
}

/* Of the tensors that this run writes. */
static double bits_per_weight(const struct apr_conversion *c)
{
    double bytes = 0, elements = 0;
    for (size_t i = 0; i < c->plan.ntensor; i++)
        if (is_ours(c, c->plan.tensor[i].shard)) {
            bytes += (double)c->plan.tensor[i].bytes;
            elements += (double)c->plan.tensor[i].count;
        }
    return elements > 0 ? 8 * bytes / elements : 0;
}

/* Of what they are made of. */
static double bits_before(const struct apr_conversion *c)
{
    double bytes = 0, elements = 0;
    for (size_t i = 0; i < c->source.m->ntensor; i++) {
        const struct apr_tensor *const t = &c->source.m->tensor[i];
        bytes += (double)(t->packed != NULL ? t->packed->bytes : t->data.n);
        elements += (double)c->source.m->tensor[i].count;
    }
    return elements > 0 ? 8 * bytes / elements : 0;
}

static void write_files(struct apr_out *j, const struct apr_conversion *c)
{
    apr_out_open(j, "files", '[');
    for (size_t i = 0; i < c->plan.nfile; i++)
        if (is_ours(c, i)) {
            apr_out_open(j, NULL, '{');
            apr_out_text(j, "path", c->plan.file[i].path);
            apr_out_count(j, "bytes", c->plan.file[i].size);
            apr_out_close(j, '}');
        }
    apr_out_close(j, ']');
}

static void write_json(const struct apr_conversion *c, const struct apr_error *why)
{
    struct apr_out out = { .to = stdout };
    struct apr_report r = { .out = &out, .schema = "apr-convert/1", .rows = "tensors", .subject = write_subject, .about = c };
    apr_report_begin(&r);
    for (size_t i = 0; i < c->plan.ntensor && why == NULL; i++)
        if (is_ours(c, c->plan.tensor[i].shard))
            write_row(&r, c, &c->plan.tensor[i]);
    apr_report_sum(&r);
    if (why == NULL) {
        write_dropped(&out, &c->source.wishes);
        write_left(&out, c);
        write_notes(&out, c->source.m);
        write_files(&out, c);
        if (c->o->dry_run)
            apr_out_bool(&out, "dry_run", true);
        apr_out_real(&out, "bits_per_weight", bits_per_weight(c));
        if (apr_is_quantizing(c->o))
            apr_out_count(&out, "fallbacks", c->fell_back);
        if (c->imatrix != NULL) {
            apr_out_open(&out, "imatrix", '{');
            apr_out_count(&out, "entries", c->imatrix->nentry);
            apr_out_count(&out, "tensors", c->weighable);
            apr_out_count(&out, "weighed", c->weighed);
            apr_out_close(&out, '}');
        }
        if (c->aim.tensor != NULL)
            write_aim(&out, c);
        if (c->o->preset != NULL)
            apr_out_text(&out, "preset", c->o->preset->name);
        if (c->o->nan_to_zero)
            apr_out_count(&out, "nan_to_zero", replaced(c));
        apr_out_count(&out, "bytes_in", bytes_in(c));
        apr_out_count(&out, "bytes_out", c->o->dry_run ? planned_bytes(c) : c->plan.bytes_out);
        apr_out_bool(&out, "verified", c->verified);
    }
    apr_report_end(&r, why);
}

/* ---- text ----------------------------------------------------------------------------------------------------------- */

#define NAME_WIDTH 64u /* beyond which a table's names stand out */

void print_name(struct apr_bytes name, size_t width)
{
    const size_t columns = apr_columns(name), most = width < NAME_WIDTH ? width : NAME_WIDTH;
    apr_print_bytes(stdout, name);
    printf("%*s", columns < most ? (int)(most - columns) : 0, "");
}

static void widen(size_t *width, size_t columns) { *width = columns > *width ? columns : *width; }

/* Columns of what the plan says of a tensor. */
struct plan_form {
    size_t name, dtype, shape, size;
};

static struct plan_form form_of(const struct apr_conversion *c)
{
    struct plan_form f = { 0 };
    char size[32], shape[176];
    for (size_t i = 0; i < c->plan.ntensor; i++) {
        const struct apr_planned *const t = &c->plan.tensor[i];
        if (!is_ours(c, t->shard))
            continue;
        widen(&f.name, apr_columns(t->name));
        widen(&f.dtype, strlen(t->dtype->name));
        widen(&f.shape, strlen(apr_spell_shape(t->dim, t->ndim, shape)));
        widen(&f.size, strlen(apr_spell_size(t->bytes, size)));
    }
    return f;
}

static void print_planned(const struct apr_planned *t, const struct plan_form *f)
{
    char text[64], size[32], shape[176];
    print_name(t->name, f->name);
    printf("  %-*s  %-*s  %*s  <- ", (int)f->dtype, t->dtype->name, (int)f->shape, apr_spell_shape(t->dim, t->ndim, shape), (int)f->size,
           apr_spell_size(t->bytes, size));
    if (t->how == APR_GENERATE)
        printf("generated");
    else
        apr_print_bytes(stdout, t->from);
    if (t->how != APR_GENERATE && strcmp(dtype_from(t, text), t->dtype->name) != 0)
        printf("  %s", text);
    if (t->transform != NULL)
        printf("  %s", t->transform);
    putchar('\n');
}

static void print_plan(const struct apr_conversion *c)
{
    const struct plan_form f = form_of(c);
    char size[32];
    for (size_t i = 0; i < c->plan.ntensor; i++)
        if (is_ours(c, c->plan.tensor[i].shard))
            print_planned(&c->plan.tensor[i], &f);
    for (size_t i = 0; i < c->plan.nfile; i++)
        if (is_ours(c, i)) {
            apr_print_text(stdout, c->plan.file[i].path);
            printf("  %s\n", apr_spell_size(c->plan.file[i].size, size));
        }
}

static bool is_rounded(const struct apr_conversion *c, const struct apr_planned *t)
{
    return is_ours(c, t->shard) && t->lossy && t->how != APR_GENERATE;
}

/* "blk.0.attn_q.weight  F16  -> Q4_K    4.50 bits  rmse 0.0012      cosine 0.999100  largest error 0.0049" */
static void print_rounded(const struct apr_conversion *c)
{
    char text[64];
    size_t width = 0, from = 0, to = 0;
    for (size_t i = 0; i < c->plan.ntensor; i++)
        if (is_rounded(c, &c->plan.tensor[i])) {
            widen(&width, apr_columns(c->plan.tensor[i].name));
            widen(&from, strlen(dtype_from(&c->plan.tensor[i], text)));
            widen(&to, strlen(c->plan.tensor[i].dtype->name));
        }
    for (size_t i = 0; i < c->plan.ntensor; i++) {
        const struct apr_planned *const t = &c->plan.tensor[i];
        if (!is_rounded(c, t))
            continue;
        print_name(t->name, width);
        printf("  %-*s -> %-*s  %5.2f bits  rmse %-10.4g  cosine %.6f  largest error %.4g\n", (int)from, dtype_from(t, text), (int)to,
               t->dtype->name, t->count == 0 ? 0 : 8 * (double)t->bytes / (double)t->count, t->rmse, t->cosine, t->max_error);
    }
}

/* What was asked for and could not be had everywhere. */
static void print_shortfalls(const struct apr_conversion *c)
{
    if (c->fell_back > 0)
        printf("%zu tensor%s rows that are no whole blocks of the preset's dtype, and got another\n", c->fell_back,
               c->fell_back == 1 ? " has" : "s have");
    if (c->imatrix != NULL)
        printf("importance: %zu of %zu tensors that take it have it\n", c->weighed, c->weighable);
}

static void print_dropped(const struct apr_conversion *c, FILE *to)
{
    const struct apr_wishes *const w = &c->source.wishes;
    for (size_t i = 0; i < w->nleft; i++) {
        fputs("left out  ", to);
        apr_print_bytes(to, w->left[i].name);
        fprintf(to, "  (%s)\n", w->left[i].reason);
    }
    for (size_t i = 0; i < c->side.n; i++)
        if (is_left(c, &c->side.file[i])) {
            fputs("not carried  ", to);
            apr_print_bytes(to, c->side.file[i].name);
            fputc('\n', to);
        }
}

enum outcome { AS_STORED, REARRANGED, EXACT, ROUNDED, GENERATED, NOUTCOMES };

static enum outcome outcome_of(const struct apr_planned *t)
{
    static const enum outcome of[] = { [APR_COPY] = AS_STORED, [APR_BLOCKS] = REARRANGED, [APR_ENCODE] = EXACT,
                                       [APR_GENERATE] = GENERATED };
    return t->how == APR_ENCODE && t->lossy ? ROUNDED : of[t->how];
}

/* Of the rounded ones the one that suffered most; NULL before they are written. */
static const struct apr_planned *worst_of(const struct apr_conversion *c)
{
    const struct apr_planned *worst = NULL;
    for (size_t i = 0; i < c->plan.ntensor && !c->o->dry_run; i++) {
        const struct apr_planned *const t = &c->plan.tensor[i];
        if (is_ours(c, t->shard) && outcome_of(t) == ROUNDED && isfinite(t->cosine) && (worst == NULL || t->cosine < worst->cosine))
            worst = t;
    }
    return worst;
}

/* "21 tensors, 2.7 MB: 12 as stored, 4 rearranged, 5 exact in another dtype; verified" */
static void print_summary(const struct apr_conversion *c)
{
    static const char *const words[NOUTCOMES] = { "as stored", "rearranged", "exact in another dtype", "rounded", "generated" };
    const struct apr_planned *const worst = worst_of(c);
    size_t n[NOUTCOMES] = { 0 }, all = 0, parts = 0;
    char size[32];
    for (size_t i = 0; i < c->plan.ntensor; i++)
        if (is_ours(c, c->plan.tensor[i].shard)) {
            n[outcome_of(&c->plan.tensor[i])]++;
            all++;
        }
    printf("%zu tensor%s, %s", all, all == 1 ? "" : "s", apr_spell_size(c->o->dry_run ? planned_bytes(c) : c->plan.bytes_out, size));
    for (size_t i = 0; i < NOUTCOMES; i++)
        if (n[i] > 0)
            printf("%s%zu %s", parts++ == 0 ? ": " : ", ", n[i], words[i]);
    if (worst != NULL) {
        printf(" (lowest cosine %.6g, ", worst->cosine);
        apr_print_bytes(stdout, worst->name);
        putchar(')');
    }
    if (apr_is_quantizing(c->o))
        printf("; %.2f bits per weight, %.2f before", bits_per_weight(c), bits_before(c));
    printf("%s\n", c->o->dry_run ? "; nothing was written" : c->verified ? "; verified" : "");
}

/* A line on stderr about the source. */
static void tell(const struct apr_conversion *c, const char *what)
{
    struct apr_error e;
    if (c->o->cli.quiet)
        return;
    apr_fail(&e, APR_OK, APR_NOWHERE, "%s", what);
    apr_error_in(&e, c->source.path);
    apr_cli_fail(&c->o->cli, &e);
}

static void tell_about_tokenizer(const struct apr_conversion *c)
{
    const bool made = c->format->own_names && !c->source.m->format->own_names;
    if (c->unknown_pre)
        tell(c, "its pre-tokenizer is none that llama.cpp has a name for: \"gpt-2\" is written, --pre NAME says otherwise");
    if (made && apr_bytes_is(apr_meta_string(&c->plan.meta.meta, "tokenizer.ggml.model"), "none"))
        tell(c, "there is no tokenizer beside it, so the GGUF takes no text: --tokenizer DIR gives one");
}

int report(struct apr_conversion *c, const struct apr_error *why)
{
    if (c->o->cli.json)
        write_json(c, why);
    if (why != NULL)
        return apr_cli_fail(&c->o->cli, why);
    if (c->untold)
        tell(c, "nothing says what model it is, so its tensors keep their names, which no engine knows in a GGUF: a config.json beside it, "
                "--config FILE or --family NAME tells");
    tell_about_tokenizer(c);
    if (c->o->cli.json || c->o->cli.taken)
        return APR_EXIT_YES;
    if (c->aim.tensor != NULL && !c->o->cli.quiet)
        print_aim(c);
    if (c->o->dry_run)
        print_plan(c);
    else if (apr_is_quantizing(c->o) && c->aim.tensor == NULL && !c->o->cli.quiet)
        print_rounded(c);
    if (!c->o->cli.quiet || c->o->dry_run) {
        print_dropped(c, stdout);
        print_shortfalls(c);
        print_summary(c);
    }
    return APR_EXIT_YES;
}
