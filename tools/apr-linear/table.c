#include "table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/nearest.h"
#include "base/table.h"

/* ---- messages ------------------------------------------------------------------------------------------------------- */

/* `column "height"`, or `column 2`. */
static const char *column_word(const struct table *t, size_t column, char word[200])
{
    if (t->name != NULL && column < t->width)
        snprintf(word, 200, "column %s", APR_QUOTED(t->name[column]));
    else
        snprintf(word, 200, "column %zu", column + 1);
    return word;
}

enum apr_code table_no_number(const struct table *t, uint64_t line, size_t column, struct apr_bytes text, struct apr_error *e)
{
    char word[200];
    return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "line %llu, %s: %s%s; --missing drop leaves such rows out, --drop a column", (unsigned long long)line,
                    column_word(t, column, word), text.n == 0 ? "nothing stands there" : APR_QUOTED(text),
                    text.n == 0 ? "" : " is no finite number");
}

static enum apr_code no_width(const struct table *t, uint64_t line, size_t n, bool more, struct apr_error *e)
{
    return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "line %llu has %s%zu fields, not %zu as the first row", (unsigned long long)line,
                    more ? "more than " : "", more ? t->width : n, t->width);
}

static enum apr_code no_field(const struct table *t, uint64_t line, size_t column, enum csv_after after, struct apr_error *e)
{
    char word[200];
    return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "line %llu, %s: %s", (unsigned long long)line, column_word(t, column, word),
                    after == CSV_OPEN ? "its quotes do not end" : "something follows its closing quote");
}

/* ---- columns -------------------------------------------------------------------------------------------------------- */

bool table_by_number(const char *target, uint64_t *n)
{
    *n = 0;
    for (const char *s = target; *s != 0; s++)
        if (*s < '0' || *s > '9' || !apr_mul(*n, 10, n) || !apr_add(*n, (uint64_t)(*s - '0'), n))
            return false;
    return *target != 0;
}

static bool is_tab(const char *word) { return strcmp(word, "\\t") == 0 || strcmp(word, "tab") == 0; }

bool table_is_delimiter(const char *word) { return is_tab(word) || (strlen(word) == 1 && strchr("\"\r\n", *word) == NULL); }

/* The byte order mark. */
static void skip_mark(struct csv *c)
{
    if (c->end - c->at >= 3 && memcmp(c->at, "\xEF\xBB\xBF", 3) == 0)
        c->at += 3;
}

unsigned char table_delimiter(struct csv c, const struct table_wish *w)
{
    if (w->delimiter != NULL)
        return is_tab(w->delimiter) ? '\t' : (unsigned char)*w->delimiter;
    skip_mark(&c);
    csv_row(&c);
    const unsigned char *const end = memchr(c.at, '\n', (size_t)(c.end - c.at));
    const size_t n = (size_t)((end == NULL ? c.end : end) - c.at);
    return memchr(c.at, '\t', n) != NULL && memchr(c.at, ',', n) == NULL ? '\t' : ',';
}

static enum apr_code count_columns(struct table *t, struct csv c, struct apr_error *e)
{
    struct csv_field f;
    const uint64_t line = c.line;
    enum csv_after after = CSV_FIELD;
    for (t->width = 0; after == CSV_FIELD; t->width++) {
        if (t->width == TABLE_MOST_COLUMNS)
            return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "line %llu has more than %u fields", (unsigned long long)line, TABLE_MOST_COLUMNS);
        after = csv_next(&c, &f);
        if (after != CSV_FIELD && after != CSV_ROW)
            return no_field(t, line, t->width, after, e);
    }
    return APR_OK;
}

/* Is a field of the first row text, other than the target's? */
static bool has_words(const struct table *t, struct csv c, size_t target)
{
    struct csv_field f;
    double v;
    for (size_t i = 0; i < t->width; i++) {
        csv_next(&c, &f);
        if (i != target && number_read(f.text, &v) == NUMBER_TEXT)
            return true;
    }
    return false;
}

/* Do the names, which may look like numbers, stand in the first row, in their order, perhaps among others? */
static bool has_names(const struct table *t, struct csv c, const struct table_names *names)
{
    size_t found = 0;
    for (size_t i = 0; i < t->width && found < names->n; i++) {
        struct csv_field f;
        csv_next(&c, &f);
        found += apr_bytes_equal(f.text, names->name[found]);
    }
    return names->n > 0 && found == names->n;
}

static enum apr_code read_names(struct table *t, struct csv *c, struct apr_error *e)
{
    const uint64_t line = c->line;
    t->name = calloc(t->width, sizeof *t->name);
    if (t->name == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < t->width; i++) {
        struct csv_field f;
        csv_next(c, &f);
        unsigned char *const room = apr_arena_alloc(&t->arena, f.text.n + 1);
        if (room == NULL)
            return apr_no_memory(e);
        const struct apr_bytes text = csv_text(&f, room);
        memmove(room, text.at, text.n);
        t->name[i] = (struct apr_bytes){ room, text.n };
        if (!apr_is_utf8(t->name[i]) || memchr(room, 0, text.n) != NULL)
            return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "line %llu, column %zu: the name %s is not UTF-8, or has a NUL",
                            (unsigned long long)line, i + 1, APR_QUOTED(t->name[i]));
    }
    return APR_OK;
}

enum apr_code table_begin(struct table *t, struct csv *c, const struct table_wish *w, const struct table_names *names, struct apr_error *e)
{
    uint64_t n = 0;
    const bool named = w->target != NULL && !table_by_number(w->target, &n);
    t->delimiter = c->delimiter = table_delimiter(*c, w);
    skip_mark(c);
    t->keeps = w->missing == 1;
    t->target = TABLE_NONE;
    if (!csv_row(c))
        return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "there is no row in it");
    APR_TRY(count_columns(t, *c, e));
    const size_t target = n > 0 ? (size_t)apr_min(n - 1, t->width) : t->width == names->inputs ? t->width : t->width - 1;
    if (w->header == 1 || (w->header == 0 && (named || has_words(t, *c, target) || has_names(t, *c, names))))
        return read_names(t, c, e);
    return APR_OK;
}

void table_end(struct table *t)
{
    free(t->name);
    free(t->feature);
    apr_arena_free(&t->arena);
}

/* The next column of that name, from `from` on, or TABLE_NONE. */
static size_t next_named(const struct table *t, struct apr_bytes name, size_t from)
{
    for (size_t i = from; t->name != NULL && i < t->width; i++)
        if (apr_bytes_equal(t->name[i], name))
            return i;
    return TABLE_NONE;
}

static enum apr_code no_column(const struct table *t, const char *what, struct apr_bytes name, struct apr_error *e)
{
    struct apr_nearest near = apr_nearest_to(name);
    if (t->name == NULL)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%s%s: the data has no header, so its columns have no names (--header yes)", what,
                        APR_QUOTED(name));
    for (size_t i = 0; i < t->width; i++)
        apr_nearest_try(&near, t->name[i]);
    return apr_fail(e, APR_EARG, APR_NOWHERE, "%s%s: there is no such column%s%s%s", what, APR_QUOTED(name), near.best.n > 0 ? " (did you mean " : "",
                    near.best.n > 0 ? APR_QUOTED(near.best) : "", near.best.n > 0 ? "?)" : "");
}

static enum apr_code named_twice(const char *what, struct apr_bytes name, struct apr_error *e)
{
    return apr_fail(e, APR_EARG, APR_NOWHERE, "%s%s: two columns have that name", what, APR_QUOTED(name));
}

enum apr_code table_find_target(struct table *t, const struct table_wish *w, struct apr_error *e)
{
    uint64_t n;
    t->target = t->width - 1;
    if (w->target == NULL)
        return APR_OK;
    const struct apr_bytes name = apr_text(w->target);
    const bool by_number = table_by_number(w->target, &n);
    if (by_number && n > 0 && n <= t->width) {
        t->target = (size_t)n - 1;
        return APR_OK;
    }
    t->target = next_named(t, name, 0);
    if (t->target != TABLE_NONE)
        return next_named(t, name, t->target + 1) == TABLE_NONE ? APR_OK : named_twice("--target ", name, e);
    if (!by_number)
        return no_column(t, "--target ", name, e);
    return apr_fail(e, APR_EARG, APR_NOWHERE, "--target %s: the data has %zu columns, 1 to %zu", w->target, t->width, t->width);
}

static enum apr_code no_features(struct table *t, struct apr_error *e)
{
    t->feature = malloc(t->width * sizeof *t->feature);
    for (size_t i = 0; t->feature != NULL && i < t->width; i++)
        t->feature[i] = TABLE_NONE;
    t->nfeature = 0;
    return t->feature == NULL ? apr_no_memory(e) : APR_OK;
}

/* Calls drop for each column that the wish drops: NULL, or what it is that cannot go. */
typedef const char *drop_fn(struct table *t, const struct table_wish *w, size_t column);
static enum apr_code drop_each(struct table *t, const struct table_wish *w, drop_fn *drop, struct apr_error *e)
{
    for (size_t i = 0; i < w->drop.n; i++) {
        const struct apr_bytes name = apr_text(w->drop.text[i]);
        size_t column = next_named(t, name, 0);
        if (column == TABLE_NONE)
            return no_column(t, "--drop ", name, e);
        for (; column != TABLE_NONE; column = next_named(t, name, column + 1)) {
            const char *const what = drop(t, w, column);
            if (what != NULL)
                return apr_fail(e, APR_EARG, APR_NOWHERE, "--drop %s: it is %s", APR_QUOTED(name), what);
        }
    }
    return APR_OK;
}

static const char *drop_feature(struct table *t, const struct table_wish *w, size_t column)
{
    (void)w;
    t->feature[column] = TABLE_NONE;
    return column == t->target ? "the target" : NULL;
}

/* The features are the model's; a target that is only the last column may go. */
static const char *drop_other(struct table *t, const struct table_wish *w, size_t column)
{
    const bool target = column == t->target;
    if (t->feature[column] != TABLE_NONE || (target && w->target != NULL))
        return target ? "the target" : "a feature of the model";
    t->target = target ? TABLE_NONE : t->target;
    return NULL;
}

enum apr_code table_all_features(struct table *t, const struct table_wish *w, struct apr_error *e)
{
    APR_TRY(no_features(t, e));
    for (size_t i = 0; i < t->width; i++)
        t->feature[i] = i != t->target ? 0 : TABLE_NONE;
    APR_TRY(drop_each(t, w, drop_feature, e));
    for (size_t i = 0; i < t->width; i++)
        if (t->feature[i] != TABLE_NONE)
            t->feature[i] = t->nfeature++;
    if (t->nfeature == 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "there is no column to learn from, but for the target%s",
                        t->width == 1 ? ": rows have one field alone (--delimiter says what parts fields)" : "");
    return APR_OK;
}

enum apr_code table_leave_drops(struct table *t, const struct table_wish *w, struct apr_error *e) { return drop_each(t, w, drop_other, e); }

/* Of each name: 1 + the column that has it, or TWICE. */
#define TWICE UINT64_MAX
static enum apr_code index_names(const struct table *t, struct apr_table *by_name, struct apr_error *e)
{
    for (size_t i = 0; i < t->width; i++) {
        bool fresh;
        union apr_table_value *const v = apr_table_put(by_name, t->name[i], &fresh);
        if (v == NULL)
            return apr_no_memory(e);
        v->number = fresh ? i + 1 : TWICE;
    }
    return APR_OK;
}

enum apr_code table_features_named(struct table *t, const struct apr_bytes *name, size_t n, struct apr_error *e)
{
    static const char what[] = "the model's feature ";
    struct apr_table by_name = { 0 };
    APR_TRY(no_features(t, e));
    enum apr_code code = index_names(t, &by_name, e);
    for (size_t i = 0; i < n && code == APR_OK; i++) {
        const union apr_table_value *const v = apr_table_find(&by_name, name[i]);
        if (v == NULL)
            code = no_column(t, what, name[i], e);
        else if (v->number == TWICE)
            code = named_twice(what, name[i], e);
        else
            t->feature[v->number - 1] = i;
    }
    t->nfeature = n;
    apr_table_free(&by_name);
    return code;
}

/* ---- rows ----------------------------------------------------------------------------------------------------------- */

/* The usual field: a number, and then the delimiter or the line's end. */
static bool take_plain(struct csv *c, double *v, enum csv_after *after)
{
    const unsigned char *const s = number_take(c->at, c->end, v);
    if (s == NULL || s == c->end)
        return false;
    if (*s == c->delimiter) {
        *after = CSV_FIELD;
    } else if (*s == '\n') {
        *after = CSV_ROW;
        c->line++;
    } else {
        return false;
    }
    c->at = s + 1;
    return true;
}

enum apr_code table_row(const struct table *t, struct csv *c, double *x, struct csv_field *target, bool *left_out, struct apr_error *e)
{
    enum csv_after after = CSV_FIELD;
    *target = (struct csv_field){ 0 };
    *left_out = false;
    const uint64_t row = c->line;
    size_t i = 0;
    for (; after == CSV_FIELD && i < t->width; i++) {
        struct csv_field f;
        const size_t feature = t->feature[i];
        if (feature != TABLE_NONE && take_plain(c, &x[feature], &after))
            continue;
        const uint64_t line = c->line;
        after = csv_next(c, &f);
        if (after == CSV_OPEN || after == CSV_BEHIND)
            return no_field(t, line, i, after, e);
        if (feature != TABLE_NONE && number_read(f.text, &x[feature]) != NUMBER_FINITE) {
            if (!t->keeps)
                return table_no_number(t, line, i, f.text, e);
            *left_out = true;
        }
        if (i == t->target)
            *target = f;
    }
    return after == CSV_ROW && i == t->width ? APR_OK : no_width(t, row, i, after == CSV_FIELD, e);
}
