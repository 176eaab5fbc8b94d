/* A table into a matrix: cut into stretches of whole rows, which threads read at once, each to where its rows belong. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "data.h"
#include "files/source.h"

#define STRETCH ((size_t)1 << 20)
#define SMALL   ((size_t)256 << 10) /* bytes that one thread reads sooner than two begin */

/* Whole rows. row: the first of them among all, with room for `room`; n of them were read, left_out were not. */
struct stretch {
    const unsigned char *from, *end;
    uint64_t             line, lines;
    size_t               row, room, n, left_out;
    bool                 worded; /* a target is no number */
    enum apr_code        code;
};

struct reading {
    struct data         *d;
    const struct table  *t;
    struct apr_bytes     map;
    struct stretch      *stretch;
    size_t               n, room;
    bool                 text, numbers; /* targets are texts; must be numbers */
    size_t               failed; /* the lowest stretch that failed, or n */
    struct apr_error    *e;
    struct apr_error    *error;  /* of each worker, with the stretch that it is of */
    size_t              *of;
};

/* ---- stretches ------------------------------------------------------------------------------------------------------ */

static enum apr_code add(struct reading *r, const struct stretch *s)
{
    struct stretch *const grown = apr_grown(r->stretch, &r->room, r->n, 64, sizeof *grown);
    if (grown == NULL)
        return apr_no_memory(r->e);
    r->stretch = grown;
    r->stretch[r->n++] = *s;
    return APR_OK;
}

/* The end of the stretch that begins at `from`: as many whole rows as STRETCH holds, but at least one. */
static const unsigned char *end_of(const unsigned char *from, const unsigned char *end, unsigned char delimiter, uint64_t *lines)
{
    for (size_t n = STRETCH; n < (size_t)(end - from); n *= 2) {
        const unsigned char *const last = csv_last_row(from, from + n, delimiter, lines);
        if (last > from)
            return last;
    }
    csv_last_row(from, end, delimiter, lines);
    ++*lines; /* the last one may have no end */
    return end;
}

static enum apr_code cut(struct reading *r, const struct csv *c)
{
    struct stretch s = { .from = c->at, .line = c->line };
    uint64_t rows = 0;
    for (; s.from < c->end; s.from = s.end) {
        s.end = end_of(s.from, c->end, c->delimiter, &s.lines);
        s.row = (size_t)rows;
        s.room = (size_t)apr_min(s.lines, (uint64_t)(s.end - s.from) / r->t->width + 1); /* a field takes a byte, with what parts it */
        APR_TRY(add(r, &s));
        s.line += s.lines;
        rows += s.room;
        if (r->map.n > 4 * STRETCH)
            apr_drop_behind(r->map, (struct apr_bytes){ s.from, (size_t)(s.end - s.from) });
    }
    return APR_OK;
}

/* ---- rows ----------------------------------------------------------------------------------------------------------- */

/* The target of a row; *left_out where it is missing and the table keeps. */
static enum apr_code take_target(struct reading *r, struct stretch *s, const struct csv_field *f, uint64_t line, double *y, bool *left_out,
                                 struct apr_error *e)
{
    const enum number_kind kind = number_read(f->text, y);
    if (kind == NUMBER_NONE || (kind == NUMBER_TEXT && r->numbers)) {
        *left_out = true;
        return r->t->keeps ? APR_OK : table_no_number(r->t, line, r->t->target, f->text, e);
    }
    s->worded |= kind == NUMBER_TEXT;
    if (r->text) {
        const uint64_t at = (uint64_t)(f->text.at - f->quoted - r->map.at);
        memcpy(y, &at, sizeof at);
    }
    return APR_OK;
}

static enum apr_code read_rows(struct reading *r, struct stretch *s, struct apr_error *e)
{
    struct csv c = { s->from, s->end, r->t->delimiter, s->line };
    while (csv_row(&c)) {
        struct csv_field f;
        bool left_out;
        const size_t row = s->row + s->n;
        const uint64_t line = c.line;
        if (s->n == s->room) {  /* fields of nothing: the row is too short */
            double *const spare = malloc((r->t->nfeature + 1) * sizeof *spare);
            const enum apr_code code = spare == NULL ? apr_no_memory(e) : table_row(r->t, &c, spare, &f, &left_out, e);
            free(spare);
            return code == APR_OK ? apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "line %llu: more rows than lines", (unsigned long long)line) : code;
        }
        APR_TRY(table_row(r->t, &c, r->d->x + row * r->d->p, &f, &left_out, e));
        if (!left_out)
            APR_TRY(take_target(r, s, &f, line, &r->d->y[row], &left_out, e));
        if (s->worded && !r->text)
            return APR_OK;
        s->n += !left_out;
        s->left_out += left_out;
    }
    return APR_OK;
}

static void read_stretch(void *ctx, size_t i, unsigned worker)
{
    struct reading *const r = ctx;
    struct stretch *const s = &r->stretch[i];
    struct apr_error e = { 0 };
    s->n = s->left_out = 0;
    s->worded = false;
    s->code = read_rows(r, s, &e);
    if (s->code != APR_OK && i < r->of[worker]) {
        r->error[worker] = e;
        r->of[worker] = i;
    }
    if (r->map.n > 4 * STRETCH)
        apr_drop_behind(r->map, (struct apr_bytes){ s->from, (size_t)(s->end - s->from) });
}

/* The error of the lowest stretch, whichever thread had it. */
static enum apr_code first_error(struct reading *r, unsigned workers)
{
    size_t low = r->n;
    for (unsigned i = 0; i < workers; i++)
        if (r->of[i] < low) {
            low = r->of[i];
            *r->e = r->error[i];
        }
    return low == r->n ? APR_OK : r->e->code;
}

static bool any_worded(const struct reading *r)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->stretch[i].worded)
            return true;
    return false;
}

static enum apr_code read_all(struct reading *r, struct apr_team *team)
{
    const unsigned workers = apr_team_size(team);
    for (unsigned i = 0; i < workers; i++)
        r->of[i] = r->n;
    apr_team_do(team, r->n, read_stretch, r);
    return first_error(r, workers);
}

/* Rows that were left out leave no gaps. */
static void close_up(struct reading *r)
{
    struct data *const d = r->d;
    for (size_t i = 0; i < r->n; i++) {
        const struct stretch *const s = &r->stretch[i];
        if (d->n != s->row) {
            memmove(d->x + d->n * d->p, d->x + s->row * d->p, s->n * d->p * sizeof *d->x);
            memmove(d->y + d->n, d->y + s->row, s->n * sizeof *d->y);
        }
        d->n += s->n;
        d->left_out += s->left_out;
    }
}

static enum apr_code take_room(struct reading *r, unsigned workers)
{
    struct data *const d = r->d;
    const struct stretch *const last = r->n > 0 ? &r->stretch[r->n - 1] : NULL;
    const uint64_t rows = last == NULL ? 0 : (uint64_t)last->row + last->room;
    uint64_t bytes;
    if (!apr_mul(rows + 1, d->p, &bytes) || !apr_mul(bytes, sizeof *d->x, &bytes) || bytes > SIZE_MAX / 2)
        return apr_no_memory(r->e);
    d->x = malloc((size_t)bytes);
    d->y = malloc((size_t)(rows + 1) * sizeof *d->y);
    r->error = malloc(workers * sizeof *r->error);
    r->of = malloc(workers * sizeof *r->of);
    return d->x == NULL || d->y == NULL || r->error == NULL || r->of == NULL ? apr_no_memory(r->e) : APR_OK;
}

static enum apr_code read_matrix(struct reading *r, const struct csv *c, struct apr_team *team, bool *text)
{
    APR_TRY(cut(r, c));
    APR_TRY(take_room(r, apr_team_size(team)));
    APR_TRY(read_all(r, team));
    if (any_worded(r)) {
        *text = r->text = true;
        APR_TRY(read_all(r, team));
    }
    close_up(r);
    return APR_OK;
}

enum apr_code data_read_csv(struct data *d, const struct data_wish *w, const struct apr_run *run, bool *text, struct table *t,
                            struct apr_error *e)
{
    const struct apr_bytes map = d->source->map;
    struct csv c = { map.at, map.at + map.n, 0, 1 };
    struct apr_team *team;
    APR_TRY(table_begin(t, &c, &w->table, &(struct table_names){ 0 }, e));
    APR_TRY(table_find_target(t, &w->table, e));
    APR_TRY(table_all_features(t, &w->table, e));
    d->p = t->nfeature;
    APR_TRY(apr_team_new(&team, map.n < SMALL ? 1 : run->threads, e));
    struct reading r = { .d = d, .t = t, .map = map, .numbers = w->learn == LEARN_LINEAR, .e = e };
    const enum apr_code code = read_matrix(&r, &c, team, text);
    apr_team_free(team);
    free(r.stretch);
    free(r.error);
    free(r.of);
    return code;
}
