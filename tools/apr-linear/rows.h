/* Rows without end: a table or array read from front to back, a batch at a time, in memory that does not grow with it. */
#ifndef APR_LINEAR_ROWS_H
#define APR_LINEAR_ROWS_H

#include <sys/types.h>

#include "array.h"
#include "model.h"
#include "table.h"

#define ROWS_MOST_PARTS 64

/* Rows that one thread reads: of a table text, of an array n rows from `first` on. line: of the first one. */
struct rows_part {
    const unsigned char *from, *end;
    uint64_t             line, lines, first, n;
};

/* An open table or array, and how its columns meet a model's.
 *   has_target  each row has one: t.target of a table; of an array y, or its column `target`, which is else TABLE_NONE */
struct rows {
    const char       *path;
    struct table      t;
    struct array      x, y;
    size_t            target;
    bool              is_array, has_target, y_apart;
    struct rows_part  part[ROWS_MOST_PARTS];
    size_t            npart;

    struct apr_source *source; /* private, as what follows */
    struct apr_model  *data;
    int                fd;
    unsigned char     *text;
    size_t             n, at, room, most, most_parts, part_bytes;
    uint64_t           line, seen, size, next;
    off_t              began;
    bool               over, regular;
};

/* Opens `path` ("-": standard input) and matches its columns with the model's features: by name where both have names, else by number.
 * out_bytes: what is written of a row, about. e names the file. End with rows_close, after a failure too. */
APR_MUST_CHECK enum apr_code rows_open(struct rows *r, const char *path, const struct table_wish *w, const char *target_file,
                                       const struct linear_model *m, size_t out_bytes, const struct apr_run *run, struct apr_error *e);
void rows_close(struct rows *r);

/* What came of reading: `code`, or APR_EIO when the file is not as long as it was when it was opened. */
APR_MUST_CHECK enum apr_code rows_end(const struct rows *r, enum apr_code code, struct apr_error *e);

/* The next batch into part[0 .. npart); npart is 0 at the end. Waits for no more than there is. */
APR_MUST_CHECK enum apr_code rows_next(struct rows *r, struct apr_error *e);

#endif
