/* Cutting CSV, RFC 4180, into rows and fields: lines end with LF or CRLF, a field may stand in quotes, a quote in it is doubled. A quote
 * within a field that does not begin with one is a character like any other. */
#ifndef APR_LINEAR_CSV_H
#define APR_LINEAR_CSV_H

#include "base/core.h"

/* A field. text is what stands between its quotes, if it has any, as it is; doubled: quotes in it are still two. */
struct csv_field {
    struct apr_bytes text;
    bool             quoted, doubled;
};

/* A walk over whole rows. line: of the file, 1 for the first, where the next field begins. */
struct csv {
    const unsigned char *at, *end;
    unsigned char        delimiter;
    uint64_t             line;
};

/* What stands behind a field: another one, the end of the row. OPEN: its quotes do not end. BEHIND: something follows them. */
enum csv_after { CSV_FIELD, CSV_ROW, CSV_OPEN, CSV_BEHIND };

/* The next field of the row; c is not at its end. c->at is then behind the delimiter, or the line's end. */
enum csv_after csv_next(struct csv *c, struct csv_field *f);

/* Steps over lines with nothing in them. False at the end of all rows. */
bool csv_row(struct csv *c);

/* Behind the last row that ends in [from, end), of rows that begin at `from`; `from` when none does. *lines: how many lines lie between. */
const unsigned char *csv_last_row(const unsigned char *from, const unsigned char *end, unsigned char delimiter, uint64_t *lines);

/* What a field says: into room for text.n bytes where it is doubled. */
struct apr_bytes csv_text(const struct csv_field *f, unsigned char *room);

#endif
