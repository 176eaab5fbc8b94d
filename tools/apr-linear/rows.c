#include "rows.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "data.h"
#include "files/source.h"
#include "model/model.h"
#include "model/open.h"

#define PART      ((size_t)64 << 10) /* bytes of a table */
#define BATCH     ((size_t)1 << 20)
#define BATCH_OUT ((size_t)4 << 20)  /* of answers to a batch, about */
#define MOST_ROW  ((size_t)256 << 20)

/* ---- bytes ---------------------------------------------------------------------------------------------------------- */

/* Fills the room behind what is there: all of it from a file, what has come from a pipe. */
static enum apr_code fill(struct rows *r, struct apr_error *e)
{
    memmove(r->text, r->text + r->at, r->n - r->at);
    r->n -= r->at;
    r->at = 0;
    while (r->n < r->room && !r->over) {
        const ssize_t got = read(r->fd, r->text + r->n, r->room - r->n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return apr_fail(e, APR_EIO, r->seen, "cannot be read: %s", strerror(errno));
        r->over = got == 0;
        r->n += (size_t)got;
        r->seen += (uint64_t)got;
        if (!r->regular)
            break;
    }
    return APR_OK;
}

static enum apr_code grow(struct rows *r, size_t room, struct apr_error *e)
{
    if (room > MOST_ROW)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "line %llu: a row of more than %zu MiB", (unsigned long long)r->line, MOST_ROW >> 20);
    unsigned char *const grown = realloc(r->text, room);
    if (grown == NULL)
        return apr_no_memory(e);
    r->text = grown;
    r->room = room;
    return APR_OK;
}

/* As many whole rows as there are, at least one, but for the end. *end: behind them. */
static enum apr_code want_rows(struct rows *r, unsigned char delimiter, const unsigned char **end, struct apr_error *e)
{
    for (;;) {
        uint64_t lines;
        const unsigned char *const from = r->text + r->at, *const all = r->text + r->n;
        *end = r->over ? all : csv_last_row(from, all, delimiter, &lines);
        if (*end > from || r->over)
            return APR_OK;
        if (r->n - r->at == r->room)
            APR_TRY(grow(r, 2 * r->room, e));
        APR_TRY(fill(r, e));
    }
}

/* ---- columns -------------------------------------------------------------------------------------------------------- */

static enum apr_code no_fit(size_t have, const struct linear_model *m, struct apr_error *e)
{
    return apr_fail(e, APR_EARG, APR_NOWHERE, "the data have %zu columns, the model takes %zu features%s", have, m->inputs,
                    have == 1 ? " (--delimiter says what parts fields)" : "");
}

/* Both have names: the target is the column that the wish names, or the last one where that is no feature. */
static enum apr_code match_names(struct rows *r, const struct table_wish *w, const struct linear_model *m, struct apr_error *e)
{
    APR_TRY(table_features_named(&r->t, m->feature, m->nfeature, e));
    APR_TRY(table_find_target(&r->t, w, e));
    if (w->target != NULL && r->t.feature[r->t.target] != TABLE_NONE)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--target %s: it is a feature of the model", w->target);
    if (w->target == NULL && r->t.feature[r->t.target] != TABLE_NONE)
        r->t.target = TABLE_NONE;
    return table_leave_drops(&r->t, w, e);
}

static enum apr_code match_numbers(struct rows *r, const struct table_wish *w, const struct linear_model *m, struct apr_error *e)
{
    struct table *const t = &r->t;
    if (w->target != NULL)
        APR_TRY(table_find_target(t, w, e));
    APR_TRY(table_all_features(t, w, e));
    if (w->target == NULL && t->nfeature == m->inputs + 1 && t->feature[t->width - 1] != TABLE_NONE) {
        t->target = t->width - 1; /* one column more than the model has features */
        t->feature[t->target] = TABLE_NONE;
        t->nfeature--;
    }
    return t->nfeature == m->inputs ? APR_OK : no_fit(t->width, m, e);
}

static enum apr_code open_table(struct rows *r, const struct table_wish *w, const struct linear_model *m, struct apr_error *e)
{
    struct csv c = { r->text, r->text + r->n, 0, 1 };
    const unsigned char *end;
    APR_TRY(want_rows(r, table_delimiter(c, w), &end, e));
    c = (struct csv){ r->text + r->at, end, 0, 1 };
    const struct table_names names = { m->inputs, m->nfeature, m->feature };
    APR_TRY(table_begin(&r->t, &c, w, &names, e));
    r->at = (size_t)(c.at - r->text);
    r->line = c.line;
    APR_TRY(m->nfeature > 0 && r->t.name != NULL ? match_names(r, w, m, e) : match_numbers(r, w, m, e));
    r->has_target = r->t.target != TABLE_NONE;
    return APR_OK;
}

/* ---- arrays --------------------------------------------------------------------------------------------------------- */

static enum apr_code copy_all(struct rows *r, int to, struct apr_error *e)
{
    do {
        APR_TRY(apr_write_all(to, r->text, r->n, e));
        r->at = r->n;
        APR_TRY(fill(r, e));
    } while (r->n > 0);
    return APR_OK;
}

/* The whole of it, of which some was read: a file is opened anew, a pipe is copied into one. */
static enum apr_code open_whole(struct rows *r, const struct apr_run *run, struct apr_error *e)
{
    if (r->regular && (r->fd != STDIN_FILENO || lseek(r->fd, r->began, SEEK_SET) >= 0))
        return apr_source_open(&r->source, r->path, run, e);
    const int copy = apr_temporary(run, e);
    if (copy < 0)
        return e->code;
    enum apr_code code = copy_all(r, copy, e);
    if (code == APR_OK)
        code = apr_source_of(&r->source, copy, r->path, e);
    close(copy);
    return code;
}

static enum apr_code open_tensors(struct rows *r, const struct apr_run *run, struct apr_error *e)
{
    struct apr_source *const s = r->source;
    r->source = NULL;
    r->target = TABLE_NONE;
    APR_TRY(array_open_tensors(&r->data, s, run, e));
    APR_TRY(array_of(&r->x, r->data, "X", run, e));
    r->y_apart = apr_model_find(r->data, apr_text("y")) != NULL;
    return r->y_apart ? array_of(&r->y, r->data, "y", run, e) : APR_OK;
}

static enum apr_code open_npy(struct rows *r, const struct table_wish *w, const char *target_file, size_t inputs, const struct apr_run *run,
                              struct apr_error *e)
{
    APR_TRY(array_of_npy(&r->x, r->source, run, e));
    APR_TRY(data_array_target(w, r->x.p, &r->target, e));
    r->y_apart = target_file != NULL;
    if (r->y_apart || (w->target == NULL && r->x.p == inputs))
        r->target = TABLE_NONE;
    return r->y_apart ? array_open_npy(&r->y, target_file, run, e) : APR_OK;
}

static enum apr_code open_array(struct rows *r, const struct table_wish *w, const char *target_file, const struct linear_model *m,
                                const struct apr_run *run, struct apr_error *e)
{
    const bool npy = data_is_npy((struct apr_bytes){ r->text, r->n });
    r->is_array = true;
    r->t.keeps = w->missing == 1;
    if (!npy)
        APR_TRY(data_tensors_wish(w, target_file, e));
    APR_TRY(open_whole(r, run, e));
    APR_TRY(npy ? open_npy(r, w, target_file, m->inputs, run, e) : open_tensors(r, run, e));
    if (r->y_apart && (r->y.n != r->x.n || r->y.p != 1))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "the target is [%zu, %zu], the data have %zu rows", r->y.n, r->y.p, r->x.n);
    r->has_target = r->y_apart || r->target != TABLE_NONE;
    return r->x.p == m->inputs + (r->target != TABLE_NONE) ? APR_OK : no_fit(r->x.p, m, e);
}

/* ---- opening -------------------------------------------------------------------------------------------------------- */

static enum apr_code open_any(struct rows *r, const struct table_wish *w, const char *target_file, const struct linear_model *m,
                              const struct apr_run *run, struct apr_error *e)
{
    struct stat st;
    r->fd = strcmp(r->path, "-") == 0 ? STDIN_FILENO : open(r->path, O_RDONLY | O_CLOEXEC);
    if (r->fd < 0 || fstat(r->fd, &st) != 0)
        return apr_fail(e, APR_EIO, APR_NOWHERE, "cannot be opened: %s", strerror(errno));
    if (S_ISDIR(st.st_mode))
        return apr_fail(e, APR_EIO, APR_NOWHERE, "is a folder");
    r->regular = S_ISREG(st.st_mode);
    r->size = (uint64_t)st.st_size;
    r->began = r->regular ? lseek(r->fd, 0, SEEK_CUR) : 0; /* of standard input some may have been read */
    r->size -= apr_min(r->size, (uint64_t)r->began);
    APR_TRY(grow(r, BATCH, e));
    while (r->n < 9 && !r->over)
        APR_TRY(fill(r, e));
    const struct apr_bytes start = { r->text, r->n };
    APR_TRY(data_is_foreign(start, e));
    if (data_is_npy(start) || data_is_safetensors(start))
        return open_array(r, w, target_file, m, run, e);
    if (target_file != NULL)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--target-file goes with a NumPy array: a table has its target in a column");
    return open_table(r, w, m, e);
}

enum apr_code rows_open(struct rows *r, const char *path, const struct table_wish *w, const char *target_file, const struct linear_model *m,
                        size_t out_bytes, const struct apr_run *run, struct apr_error *e)
{
    *r = (struct rows){ .path = path, .fd = -1, .line = 1 };
    const enum apr_code code = open_any(r, w, target_file, m, run, e);
    const size_t rows = BATCH_OUT / (out_bytes + 1) / ROWS_MOST_PARTS; /* of a part, so that their answers fit */
    r->most = rows < 1 ? 1 : rows > 1024 ? 1024 : rows;
    r->most_parts = (size_t)apr_min(ROWS_MOST_PARTS, BATCH_OUT / (out_bytes + 1) + 1);
    r->part_bytes = PART;
    if (!r->is_array && r->most * r->t.width < PART)
        r->part_bytes = r->most * r->t.width;
    if (code != APR_OK)
        apr_error_in(e, strcmp(path, "-") == 0 ? "standard input" : path);
    return code;
}

void rows_close(struct rows *r)
{
    if (r->fd > STDIN_FILENO)
        close(r->fd);
    array_close(&r->y);
    apr_close(r->data);
    apr_source_close(r->source);
    table_end(&r->t);
    free(r->text);
    r->text = NULL;
    r->data = NULL;
    r->source = NULL;
    r->fd = -1;
}

/* ---- batches -------------------------------------------------------------------------------------------------------- */

static void cut_array(struct rows *r)
{
    for (r->npart = 0; r->npart < (r->most_parts + 3) / 4 && r->next < r->x.n; r->npart++) {
        const uint64_t n = apr_min(apr_min(r->most, array_block(r->x.p)), r->x.n - r->next);
        r->part[r->npart] = (struct rows_part){ .first = r->next, .n = n, .line = r->next + 1 };
        r->next += n;
    }
}

/* Parts of whole rows, up to `end`. */
static void cut_text(struct rows *r, const unsigned char *end)
{
    const unsigned char *from = r->text + r->at;
    for (r->npart = 0; r->npart < r->most_parts && from < end; r->npart++) {
        struct rows_part *const p = &r->part[r->npart];
        *p = (struct rows_part){ .from = from, .end = from, .line = r->line };
        for (size_t n = r->part_bytes; p->end == from; n *= 2) {
            const bool all = n >= (size_t)(end - from);
            p->end = csv_last_row(from, all ? end : from + n, r->t.delimiter, &p->lines);
            if (all && p->end < end)
                p->end = end; /* the last row has no end */
        }
        from = p->end;
        r->line += p->lines;
    }
    r->at = (size_t)(from - r->text);
}

enum apr_code rows_next(struct rows *r, struct apr_error *e)
{
    const unsigned char *end;
    if (r->is_array) {
        cut_array(r);
        return APR_OK;
    }
    APR_TRY(want_rows(r, r->t.delimiter, &end, e));
    cut_text(r, end);
    return APR_OK;
}

enum apr_code rows_end(const struct rows *r, enum apr_code code, struct apr_error *e)
{
    struct stat st;
    if (r->is_array) {
        APR_TRY(r->data != NULL ? apr_model_unchanged(r->data, e) : apr_source_intact(r->source, e));
        if (r->y.source != NULL)
            APR_TRY(apr_source_intact(r->y.source, e));
        return code;
    }
    const bool changed = r->regular && fstat(r->fd, &st) == 0 && (uint64_t)st.st_size != r->size + (uint64_t)r->began;
    if (changed || (r->regular && code == APR_OK && r->seen != r->size))
        return apr_fail(e, APR_EIO, APR_NOWHERE, "changed while it was read: it had %llu bytes, %llu were read", (unsigned long long)r->size,
                        (unsigned long long)r->seen);
    return code;
}
