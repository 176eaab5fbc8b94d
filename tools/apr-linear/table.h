/* A table in CSV: which of its columns are what, and its rows as numbers. */
#ifndef APR_LINEAR_TABLE_H
#define APR_LINEAR_TABLE_H

#include "base/arena.h"
#include "csv.h"
#include "number.h"
#include "ui/cli.h"

#define TABLE_MOST_COLUMNS (1u << 20)
#define TABLE_NONE         SIZE_MAX

/* What the command line says of a table. */
struct table_wish {
    const char      *target, *delimiter;
    struct apr_texts drop;
    unsigned         header;  /* index into "auto|yes|no" */
    unsigned         missing; /* index into "error|drop" */
};

/* Rows of `width` fields.
 *   name     of each column, or NULL: there is no header
 *   target   the column that is told from the others, or TABLE_NONE
 *   feature  of each column: the feature that it is, or TABLE_NONE
 *   keeps    a row with a field that is no number is left out, not refused */
struct table {
    unsigned char     delimiter;
    size_t            width, target, nfeature;
    struct apr_bytes *name;
    size_t           *feature;
    bool              keeps;
    struct apr_arena *arena;
};

/* One character that may part fields, or a word for a tab. */
bool table_is_delimiter(const char *word);

/* What a model says of the columns that it takes: how many features, of which the target is none, and n of their names. All 0: there is no
 * model, and the target is a column. */
struct table_names {
    size_t                  inputs, n;
    const struct apr_bytes *name;
};

/* What parts the fields of the first row. */
unsigned char table_delimiter(struct csv c, const struct table_wish *w);

/* Reads the header, if there is one, or looks at the first row without taking it: *c then stands at the first row of numbers. Sets all
 * but target, feature and nfeature. A first row that holds the names of a model in their order is a header too, whatever they look like. */
APR_MUST_CHECK enum apr_code table_begin(struct table *t, struct csv *c, const struct table_wish *w, const struct table_names *names,
                                         struct apr_error *e);
void table_end(struct table *t);

/* Sets target: the column that the wish names, or else the last. APR_EARG names one that is not there, or there twice. */
APR_MUST_CHECK enum apr_code table_find_target(struct table *t, const struct table_wish *w, struct apr_error *e);

/* Makes a feature of each column that is neither the target nor dropped. */
APR_MUST_CHECK enum apr_code table_all_features(struct table *t, const struct table_wish *w, struct apr_error *e);

/* Of a table whose features are named: no column that is to be dropped is needed, or taken for the target unasked. APR_EARG: one is, or is not
 * there. */
APR_MUST_CHECK enum apr_code table_leave_drops(struct table *t, const struct table_wish *w, struct apr_error *e);

/* Each of n names is a column: APR_EARG names one that is missing, or there twice. */
APR_MUST_CHECK enum apr_code table_features_named(struct table *t, const struct apr_bytes *name, size_t n, struct apr_error *e);

/* Is the wish "--target 3", a column by its number? */
bool table_by_number(const char *target, uint64_t *n);

/* The row at c: its features into x, its target as it stands there (an empty one where there is none). *left_out: it has a field that is no
 * number, of a table that keeps. e names line and column. */
APR_MUST_CHECK enum apr_code table_row(const struct table *t, struct csv *c, double *x, struct csv_field *target, bool *left_out,
                                       struct apr_error *e);

/* Says that a field of a column is no finite number, or nothing. */
enum apr_code table_no_number(const struct table *t, uint64_t line, size_t column, struct apr_bytes text, struct apr_error *e);

#endif
