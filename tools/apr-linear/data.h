/* What is learned from: a matrix of features and a target. */
#ifndef APR_LINEAR_DATA_H
#define APR_LINEAR_DATA_H

#include "flow/team.h"
#include "model.h"
#include "table.h"

enum learn { LEARN_AUTO, LEARN_LOGISTIC, LEARN_LINEAR };

struct data_wish {
    struct table_wish table;
    const char       *path, *target_file;
    enum learn        learn;
};

/* n rows of p features.
 *   x      row-major
 *   y      of each row the target, or the number of its class
 *   class  nclass of them in their order; 0: the target is a number to be met
 *   name   of each feature, or NULL
 *   left_out  rows that had a field that is no number */
struct data {
    size_t               n, p, nclass;
    double              *x, *y;
    struct linear_class *class;
    struct apr_bytes    *name;
    uint64_t             left_out;
    bool                 doubtful; /* there is no header, and the first target is the one that is text */
    struct apr_source   *source, *target_source; /* these, or the model, stay open, so that nothing is written in their place */
    struct apr_model    *model;
    struct apr_arena    *arena;
};

/* Reads all of it. e names the file, and line and column where there are any. Free with data_free, after a failure too. */
APR_MUST_CHECK enum apr_code data_read(struct data *d, const struct data_wish *w, const struct apr_run *r, struct apr_error *e);
void data_free(struct data *d);

/* What data_read does by kind: the matrix, and the target as numbers or, where *text is set, as pointers into the source, one a row (as an
 * integer of as many bits), each where a field begins. */
APR_MUST_CHECK enum apr_code data_read_csv(struct data *d, const struct data_wish *w, const struct apr_run *r, bool *text, struct table *t,
                                           struct apr_error *e);
APR_MUST_CHECK enum apr_code data_read_arrays(struct data *d, const struct data_wish *w, const struct apr_run *r, struct apr_error *e);

/* The column of an array that is its target, the last where nothing is said. APR_EARG: what is said has no effect on arrays. */
APR_MUST_CHECK enum apr_code data_array_target(const struct table_wish *w, size_t columns, size_t *target, struct apr_error *e);

/* APR_EARG: of the tensors X and y something is said that is true of tables. */
APR_MUST_CHECK enum apr_code data_tensors_wish(const struct table_wish *w, const char *target_file, struct apr_error *e);

/* A NumPy array by its first bytes; a SafeTensors file. */
bool data_is_npy(struct apr_bytes start);
bool data_is_safetensors(struct apr_bytes start);

/* Refuses what its first bytes tell to be no table and no array that is read, by name, with what helps. */
APR_MUST_CHECK enum apr_code data_is_foreign(struct apr_bytes start, struct apr_error *e);

#endif
