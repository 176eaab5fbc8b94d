/* apr-linear predict: a row of answers for each row of data. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/fmath.h"
#include "base/memstream.h"
#include "base/table.h"
#include "flow/team.h"
#include "linear.h"
#include "model/open.h"
#include "rows.h"
#include "ui/cli.h"
#include "ui/report.h"

struct options {
    struct apr_cli    cli;
    struct table_wish table;
    const char       *target_file;
    unsigned          as;
    bool              as_given, proba, score;
};

/* What a row adds to the score: whether it is right, and its loss; of numbers the target and the residual. */
struct mark {
    double right, loss;
};

/* Answers to one part of a batch. */
struct answers {
    char         *text;
    size_t        n, nmark, mark_room, left_out;
    struct mark  *mark;
    enum apr_code code;
};

/* Sums in the order of the rows, whoever answered them. mean, squares: of the target, running (B. P. Welford, 1962). */
struct total {
    uint64_t n, left_out;
    double   right, loss, mean, squares, rss;
};

struct prediction {
    const struct options *o;
    struct linear_model  *m;
    struct rows           rows;
    struct apr_team      *team;
    double               *number; /* of each class that is one, else NaN */
    struct answers        answers[ROWS_MOST_PARTS];
    struct apr_error     *error; /* of each part */
    struct total          total;
};

/* ---- a row ---------------------------------------------------------------------------------------------------------- */

/* A field of CSV, in quotes where it needs them. */
static void put_field(FILE *to, const char *before, struct apr_bytes text)
{
    bool plain = text.n > 0;
    for (size_t i = 0; i < text.n; i++)
        plain &= text.at[i] != ',' && text.at[i] != '"' && text.at[i] != '\n' && text.at[i] != '\r';
    if (plain) {
        fputs(before, to);
        fwrite(text.at, 1, text.n, to);
        return;
    }
    fprintf(to, "\"%s", before);
    for (size_t i = 0; i < text.n; i++) {
        if (text.at[i] == '"')
            putc('"', to);
        putc(text.at[i], to);
    }
    putc('"', to);
}

static void put_number(FILE *to, double v)
{
    char text[32];
    fputs(isfinite(v) ? apr_spell_real(v, text) : isnan(v) ? "nan" : v > 0 ? "inf" : "-inf", to);
}

static void put_csv(const struct prediction *p, FILE *to, double z, size_t best, const double *chance)
{
    const struct linear_model *const m = p->m;
    if (m->nclass == 0)
        put_number(to, z);
    else
        put_field(to, "", m->class[best].text);
    for (size_t k = 0; p->o->proba && k < m->nclass; k++) {
        putc(',', to);
        put_number(to, chance[k]);
    }
    putc('\n', to);
}

static void put_json(const struct prediction *p, FILE *to, double z, size_t best, const double *chance)
{
    const struct linear_model *const m = p->m;
    struct apr_out o = { .to = to };
    apr_out_open(&o, NULL, '{');
    if (m->nclass == 0)
        apr_out_real(&o, "prediction", z);
    else
        apr_out_raw(&o, "prediction", m->class[best].json);
    if (p->o->proba) {
        apr_out_open(&o, "probabilities", '{');
        for (size_t k = 0; k < m->nclass; k++) {
            apr_out_key(&o, m->class[k].text);
            apr_out_real(&o, NULL, chance[k]);
        }
        apr_out_close(&o, '}');
    }
    apr_out_close(&o, '}');
    apr_out_line(&o);
}

/* The class that a target names, as it stands or as a number; nclass when it is none. */
static size_t class_of(const struct prediction *p, struct apr_bytes text, bool is_number, double v)
{
    for (size_t k = 0; k < p->m->nclass; k++)
        if ((text.at != NULL && apr_bytes_equal(text, p->m->class[k].text)) || (is_number && p->number[k] == v))
            return k;
    return p->m->nclass;
}

/* What the loss of z is where `own` is right: from z, as the chance itself may be rounded to 0. */
static double loss_of(const struct linear_model *m, const double *z, size_t own)
{
    double top = z[0], sum = 0;
    if (m->outputs == 1) {
        const double wrong = own == 1 ? -z[0] : z[0];
        return (wrong > 0 ? wrong : 0) + apr_log1p(apr_exp(-fabs(wrong)));
    }
    for (size_t k = 1; k < m->outputs; k++)
        top = z[k] > top ? z[k] : top;
    for (size_t k = 0; k < m->outputs; k++)
        sum += apr_exp(z[k] - top);
    return apr_log(sum) + (top - z[own]);
}

static enum apr_code add_mark(struct answers *a, struct mark mark, struct apr_error *e)
{
    struct mark *const grown = apr_grown(a->mark, &a->mark_room, a->nmark, 256, sizeof *grown);
    if (grown == NULL)
        return apr_no_memory(e);
    a->mark = grown;
    a->mark[a->nmark++] = mark;
    return APR_OK;
}

/* The target of a row as text, or where text.at is NULL as a number. *left_out: there is none, in a table that keeps. */
static enum apr_code score_row(const struct prediction *p, struct answers *a, uint64_t line, struct apr_bytes text, double v, const double *z,
                               size_t best, bool *left_out, struct apr_error *e)
{
    const enum number_kind kind = text.at == NULL ? NUMBER_FINITE : number_read(text, &v);
    const bool is_number = kind == NUMBER_FINITE, classes = p->m->nclass > 0;
    const size_t own = classes ? class_of(p, text, is_number, v) : 0;
    char spelled[32];
    if (classes ? own == p->m->nclass && kind == NUMBER_NONE : !is_number) {
        *left_out = p->rows.t.keeps;
        return *left_out ? APR_OK : table_no_number(&p->rows.t, line, p->rows.t.target, text, e);
    }
    if (!classes)
        return add_mark(a, (struct mark){ v, z[0] - v }, e);
    if (own == p->m->nclass)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%s %llu: the target %s is none of the model's classes", p->rows.is_array ? "row" : "line",
                        (unsigned long long)line, APR_QUOTED(text.at != NULL ? text : apr_text(isfinite(v) ? apr_spell_real(v, spelled) : "nan")));
    return add_mark(a, (struct mark){ best == own, loss_of(p->m, z, own) }, e);
}

/* ---- a part --------------------------------------------------------------------------------------------------------- */

/* x, z and the chances of one row. */
struct room {
    double *x, *z, *chance;
};

static enum apr_code answer(const struct prediction *p, struct answers *a, FILE *to, const struct room *room, uint64_t line,
                            struct apr_bytes text, double target, struct apr_error *e)
{
    size_t best = 0;
    linear_answer(p->m, room->x, room->z);
    if (p->m->nclass > 0)
        best = linear_choose(p->m, room->z, p->o->proba ? room->chance : NULL);
    bool left_out = false;
    if (p->o->score)
        APR_TRY(score_row(p, a, line, text, target, room->z, best, &left_out, e));
    a->left_out += left_out;
    if (!left_out)
        (p->o->cli.json ? put_json : put_csv)(p, to, room->z[0], best, room->chance);
    return APR_OK;
}

static enum apr_code answer_text(const struct prediction *p, const struct rows_part *part, struct answers *a, FILE *to,
                                 const struct room *room, struct apr_error *e)
{
    struct csv c = { part->from, part->end, p->rows.t.delimiter, part->line };
    while (csv_row(&c)) {
        struct csv_field target;
        bool left_out;
        const uint64_t line = c.line;
        APR_TRY(table_row(&p->rows.t, &c, room->x, &target, &left_out, e));
        if (left_out) {
            a->left_out++;
            continue;
        }
        unsigned char *const plain = target.doubled && p->o->score ? malloc(target.text.n) : NULL;
        if (target.doubled && p->o->score && plain == NULL)
            return apr_no_memory(e);
        const struct apr_bytes text = plain != NULL ? csv_text(&target, plain) : target.text;
        const enum apr_code code = answer(p, a, to, room, line, text.at != NULL ? text : apr_text(""), 0, e);
        free(plain);
        APR_TRY(code);
    }
    return APR_OK;
}

static bool is_finite(const double *x, size_t n)
{
    bool finite = true;
    for (size_t i = 0; i < n; i++)
        finite &= isfinite(x[i]) != 0;
    return finite;
}

/* n rows of p + 1 numbers each: the features, and where it is asked for the target. e NULL: they may be no numbers. */
static enum apr_code read_block(const struct prediction *p, size_t first, size_t n, double *x, struct apr_error *e)
{
    const struct rows *const r = &p->rows;
    const size_t width = p->m->inputs + 1;
    struct apr_window window = { .most = (size_t)2 << 20 };
    enum apr_code code = array_rows_but(&r->x, &window, first, n, r->target, x, width, e);
    for (size_t i = 0; i < n; i++)
        x[i * width + width - 1] = 0;
    if (code == APR_OK && p->o->score)
        code = array_rows(r->y_apart ? &r->y : &r->x, &window, first, n, r->y_apart ? 0 : r->target, 1, x + width - 1, width, e);
    apr_window_drop(&window);
    return code;
}

static enum apr_code answer_array(const struct prediction *p, const struct rows_part *part, struct answers *a, FILE *to,
                                  const struct room *room, struct apr_error *e)
{
    const size_t width = p->m->inputs + 1;
    double *const x = malloc((size_t)part->n * width * sizeof *x);
    enum apr_code code = x == NULL ? apr_no_memory(e) : read_block(p, (size_t)part->first, (size_t)part->n, x, NULL);
    for (size_t i = 0; i < part->n && code == APR_OK; i++) {
        const struct room row = { x + i * width, room->z, room->chance };
        if (is_finite(row.x, width))
            code = answer(p, a, to, &row, part->first + i + 1, (struct apr_bytes){ 0 }, row.x[width - 1], e);
        else if (p->rows.t.keeps)
            a->left_out++;
        else
            code = read_block(p, (size_t)part->first + i, 1, row.x, e); /* says which number it is */
    }
    free(x);
    return code;
}

static enum apr_code answer_part(struct prediction *p, size_t i, struct apr_error *e)
{
    struct answers *const a = &p->answers[i];
    const size_t n = p->m->inputs + p->m->outputs + p->m->nclass;
    double *const x = malloc(n * sizeof *x);
    FILE *const to = x == NULL ? NULL : apr_memstream(&a->text, &a->n);
    const struct room room = { x, x + p->m->inputs, x + p->m->inputs + p->m->outputs };
    enum apr_code code = to == NULL ? apr_no_memory(e) : APR_OK;
    a->nmark = a->left_out = 0;
    if (code == APR_OK)
        code = (p->rows.is_array ? answer_array : answer_text)(p, &p->rows.part[i], a, to, &room, e);
    if (to != NULL && fclose(to) != 0 && code == APR_OK)
        code = apr_no_memory(e);
    free(x);
    return code;
}

static void part_task(void *ctx, size_t i, unsigned worker)
{
    struct prediction *const p = ctx;
    (void)worker;
    p->error[i] = (struct apr_error){ 0 };
    p->answers[i].text = NULL;
    p->answers[i].code = answer_part(p, i, &p->error[i]);
}

/* ---- all of them ----------------------------------------------------------------------------------------------------- */

static void add_up(struct prediction *p, const struct answers *a)
{
    struct total *const t = &p->total;
    t->left_out += a->left_out;
    for (size_t i = 0; i < a->nmark; i++) {
        const struct mark *const k = &a->mark[i];
        t->n++;
        if (p->m->nclass > 0) {
            t->right += k->right;
            t->loss += k->loss;
            continue;
        }
        const double d = k->right - t->mean;
        t->mean += d / (double)t->n;
        t->squares += d * (k->right - t->mean);
        t->rss += k->loss * k->loss;
    }
}

/* What was answered before a fault is written. */
static enum apr_code take_batch(struct prediction *p, struct apr_error *e)
{
    enum apr_code code = APR_OK;
    for (size_t i = 0; i < p->rows.npart; i++) {
        struct answers *const a = &p->answers[i];
        if (code == APR_OK && a->text != NULL)
            fwrite(a->text, 1, a->n, stdout);
        if (code == APR_OK && a->code != APR_OK) {
            *e = p->error[i];
            code = a->code;
        }
        if (code == APR_OK)
            add_up(p, a);
        free(a->text);
        a->text = NULL;
    }
    if (!p->rows.regular)
        fflush(stdout); /* whoever asks by a pipe may wait for the answer */
    return code;
}

static void put_header(const struct prediction *p)
{
    fputs("prediction", stdout);
    for (size_t k = 0; p->o->proba && k < p->m->nclass; k++) {
        putchar(',');
        put_field(stdout, "p_", p->m->class[k].text);
    }
    putchar('\n');
}

static enum apr_code answer_all(struct prediction *p, struct apr_error *e)
{
    if (!p->o->cli.json)
        put_header(p);
    for (;;) {
        APR_TRY(rows_next(&p->rows, e));
        if (p->rows.npart == 0)
            return APR_OK;
        apr_team_do(p->team, p->rows.npart, part_task, p);
        APR_TRY(take_batch(p, e));
        if (ferror(stdout))
            return APR_OK; /* nobody reads on, or the disk is full: apr_cli_finish says which */
    }
}

/* About as many bytes as an answer takes. */
static size_t answer_bytes(const struct prediction *p)
{
    size_t n = 32;
    for (size_t k = 0; k < p->m->nclass; k++)
        n += p->o->proba ? 32 + p->m->class[k].text.n : 0;
    return n;
}

static void read_numbers(struct prediction *p)
{
    for (size_t k = 0; k < p->m->nclass; k++)
        if (number_read(p->m->class[k].text, &p->number[k]) != NUMBER_FINITE)
            p->number[k] = NAN;
}

static void tell_score(const struct prediction *p)
{
    const struct total *const t = &p->total;
    const bool classes = p->m->nclass > 0;
    const double n = (double)t->n, score = classes ? t->right / n : t->squares > 0 ? 1 - t->rss / t->squares : NAN,
                 loss = classes ? t->loss / n : sqrt(t->rss / n);
    if (!p->o->cli.json) {
        fflush(stdout);
        if (t->n == 0)
            fputs("apr-linear: 0 rows: there is nothing to score\n", stderr);
        else
            fprintf(stderr, "apr-linear: %llu rows: %s %.6g, %s %.6g\n", (unsigned long long)t->n, classes ? "accuracy" : "R2", score,
                classes ? "log loss" : "RMSE", loss);
        return;
    }
    struct apr_out o = { .to = stdout };
    apr_out_open(&o, NULL, '{');
    apr_out_real(&o, "score", score);
    apr_out_real(&o, classes ? "log_loss" : "rmse", loss);
    apr_out_count(&o, "rows", t->n);
    apr_out_close(&o, '}');
    apr_out_line(&o);
}

static enum apr_code predict(struct prediction *p, struct apr_error *e)
{
    const struct options *const o = p->o;
    const char *const data = o->cli.noperand > 1 ? o->cli.operand[1] : "-";
    const enum linear_as as = !o->as_given ? LINEAR_AS_SAID : o->as == 0 ? LINEAR_AS_LINEAR : LINEAR_AS_LOGISTIC;
    APR_TRY(linear_load(&p->m, o->cli.operand[0], as, &o->cli.run, e));
    if (p->m->nclass == 0 && o->proba)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--proba: the model answers with numbers, it has no classes (--as logistic)");
    p->number = malloc((p->m->nclass + 1) * sizeof *p->number);
    p->error = malloc(ROWS_MOST_PARTS * sizeof *p->error);
    if (p->number == NULL || p->error == NULL)
        return apr_no_memory(e);
    read_numbers(p);
    APR_TRY(rows_open(&p->rows, data, &o->table, o->target_file, p->m, answer_bytes(p), &o->cli.run, e));
    if (o->score && !p->rows.has_target)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--score: the data have no target; --target names it");
    APR_TRY(apr_team_new(&p->team, p->rows.regular && p->rows.size < ((uint64_t)128 << 10) ? 1 : o->cli.run.threads, e));
    const enum apr_code code = rows_end(&p->rows, answer_all(p, e), e);
    if (code != APR_OK)
        apr_error_in(e, strcmp(data, "-") == 0 ? "standard input" : data);
    return code;
}

static int end(struct prediction *p, enum apr_code code, const struct apr_error *e)
{
    const struct options *const o = p->o;
    if (code == APR_OK && o->score)
        tell_score(p);
    if (code == APR_OK && p->total.left_out > 0 && !o->cli.quiet)
        fprintf(stderr, "apr-linear: %llu rows left out\n", (unsigned long long)p->total.left_out);
    if (code != APR_OK && o->cli.json) {
        struct apr_out out = { .to = stdout };
        apr_out_open(&out, NULL, '{');
        apr_out_error(&out, e);
        apr_out_close(&out, '}');
        apr_out_line(&out);
    }
    return code == APR_OK ? APR_EXIT_YES : apr_cli_fail(&o->cli, e);
}

static int run(struct options *o)
{
    struct apr_error e = { 0 };
    if (o->cli.noperand != 1 && o->cli.noperand != 2)
        return apr_cli_usage(&o->cli, "needs a model, and perhaps data, got %zu", o->cli.noperand);
    if (strcmp(o->cli.operand[0], "-") == 0 && (o->cli.noperand == 1 || strcmp(o->cli.operand[1], "-") == 0))
        return apr_cli_usage(&o->cli, "the model and the data would share standard input");
    if (o->table.delimiter != NULL && !table_is_delimiter(o->table.delimiter))
        return apr_cli_usage(&o->cli, "--delimiter is one character, no quote and no end of a line, or \\t");
    struct prediction *const p = calloc(1, sizeof *p);
    if (p == NULL)
        return apr_cli_fail(&o->cli, (apr_no_memory(&e), &e));
    p->o = o;
    p->rows.fd = -1;
    const enum apr_code code = predict(p, &e);
    const int exit_code = end(p, code, &e);
    apr_team_free(p->team);
    rows_close(&p->rows);
    linear_free(p->m);
    for (size_t i = 0; i < ROWS_MOST_PARTS; i++)
        free(p->answers[i].mark);
    free(p->number);
    free(p->error);
    free(p);
    return exit_code;
}

int predict_main(int argc, char **argv)
{
    struct options o = { 0 };
    const struct apr_option option[] = {
        { "--proba", APR_OPTION_FLAG, &o.proba, NULL, "the probability of each class as well" },
        { "--score", APR_OPTION_FLAG, &o.score, NULL, "hold the answers against the target, and tell how good they are" },
        { "--as", APR_OPTION_CHOICE, &o.as, "linear|logistic", "what a model of one output is that does not say it", .given = &o.as_given },
        { "--target", APR_OPTION_TEXT, &o.table.target, "NAME|N", "the column that is the target; default: the last, where it is no feature" },
        { "--target-file", APR_OPTION_INPUT, &o.target_file, "FILE.npy", "the target, of data that are a NumPy array", .needs = "--score", .files = "npy" },
        { "--drop", APR_OPTION_LIST, &o.table.drop, "NAME", "a column that is not looked at; repeatable" },
        { "--header", APR_OPTION_CHOICE, &o.table.header, "auto|yes|no", "the first row names the columns" },
        { "--delimiter", APR_OPTION_TEXT, &o.table.delimiter, "C", "what parts fields" },
        { "--missing", APR_OPTION_CHOICE, &o.table.missing, "error|drop", "rows with a field that is no finite number; drop gives them no answer" },
    };
    o.cli = (struct apr_cli){
        .tool = "apr-linear",
        .synopsis = "predict MODEL [DATA]",
        .about = "Answers each row of the data with a row: CSV with the columns prediction and, with --proba, p_CLASS, or with --json an object a line. "
                 "DATA is CSV, a NumPy array or SafeTensors (X), by default standard input.",
        .example = { "apr-linear predict iris.apr flowers.csv --proba", "head -n 3 flowers.csv | apr-linear predict iris.apr --json" },
        .option = option,
        .noption = APR_LENGTH(option),
        .files = "apr gguf safetensors csv tsv npy",
    };
    int exit_code = apr_cli_parse(&o.cli, argc, argv);
    if (exit_code < 0)
        exit_code = run(&o);
    return apr_cli_finish(&o.cli, exit_code);
}
