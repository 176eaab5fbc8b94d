/* Rows to text or JSON, streamed. Nothing is kept: what is said is written to a stdio stream. Write errors are found at the end
 * (apr_cli_finish asks ferror). */
#ifndef APR_REPORT_H
#define APR_REPORT_H

#include <stdio.h>

#include "base/core.h"

#define APR_OUT_DEPTH 32

/* A JSON text being written: compact, UTF-8, one value after the other. Commas and colons are put by these functions. */
struct apr_out {
    FILE    *to;
    unsigned depth;
    bool     comma[APR_OUT_DEPTH];  /* something stands before, at this depth */
};

/* key is NULL inside arrays and at the top. */
void apr_out_open(struct apr_out *o, const char *key, char bracket);            /* '{' or '[' */
void apr_out_close(struct apr_out *o, char bracket);                            /* '}' or ']' */
void apr_out_bytes(struct apr_out *o, const char *key, struct apr_bytes s);     /* a string; bad UTF-8: U+FFFD, what is not shown: \\u */
void apr_out_hex(struct apr_out *o, const char *key, struct apr_bytes s);       /* a string of two lower-case digits a byte */
void apr_out_text(struct apr_out *o, const char *key, const char *s);           /* likewise; NULL gives null */
void apr_out_real(struct apr_out *o, const char *key, double v);                /* shortest spelling that reads back; null unless finite */
void apr_out_count(struct apr_out *o, const char *key, uint64_t v);
void apr_out_int(struct apr_out *o, const char *key, int64_t v);
void apr_out_bool(struct apr_out *o, const char *key, bool v);
void apr_out_null(struct apr_out *o, const char *key);
void apr_out_raw(struct apr_out *o, const char *key, struct apr_bytes json);    /* JSON text as it is */
void apr_out_counts(struct apr_out *o, const char *key, const uint64_t *v, size_t n); /* an array, e.g. a shape */
void apr_out_key(struct apr_out *o, struct apr_bytes key);                      /* a key from a file; a value with key NULL follows */
void apr_out_value(struct apr_out *o, const char *key, const struct apr_value *v, uint64_t most); /* metadata; arrays longer than
                      `most` elements as {"type","len","first":[16 elements]} */
void apr_out_error(struct apr_out *o, const struct apr_error *e);               /* "error": {"code", "at" (or null), "text"} */
void apr_out_line(struct apr_out *o);                                           /* ends a line (top level): JSON Lines, or the end */

/* ---- a report ------------------------------------------------------------------------------------------------------ */

/* One object: "schema", what it is about, its rows under a key, what they add up to, and last its "error" where there is one. As JSON
 * Lines each row is a line of its own, and the object without rows the last.
 *   rows     the key of the rows; NULL: it has none
 *   subject  writes the members behind the schema; or NULL. about is handed to it
 *   file     what it is about: the text of an error about another file begins with that one's name. NULL: no text does */
struct apr_report {
    struct apr_out *out;
    const char     *schema, *rows;
    void          (*subject)(struct apr_out *o, const void *about);
    const void     *about;
    const char     *file;
    bool            lines;
    bool            summed; /* private: the rows are complete */
};
void apr_report_begin(struct apr_report *r);
void apr_report_row(struct apr_report *r);                                      /* members of a row follow on r->out, then */
void apr_report_row_end(struct apr_report *r);
void apr_report_sum(struct apr_report *r);                                      /* members of the object follow */
void apr_report_end(struct apr_report *r, const struct apr_error *why);         /* why: or NULL; also right behind rows, for a failure */

/* The shortest decimal spelling that strtod reads back as v; v is finite. */
const char *apr_spell_real(double v, char buffer[32]);

/* ---- text for people ----------------------------------------------------------------------------------------------- */

/* Text from a file made safe for a terminal: what may not be shown as \xNN. */
void apr_print_bytes(FILE *to, struct apr_bytes s);

void apr_print_text(FILE *to, const char *s); /* likewise */

/* Columns it takes on a terminal after that escaping; a UTF-8 character counts as one. */
size_t apr_columns(struct apr_bytes s);

/* "[256, 512]", "[]" into buffer; returns it. */
const char *apr_spell_shape(const uint64_t *dim, unsigned ndim, char buffer[176]);

/* 1234567 -> "1.2 MB"; decimal units, three digits. */
const char *apr_spell_size(uint64_t n, char buffer[32]);

enum apr_style { APR_PLAIN, APR_BOLD, APR_DIM, APR_RED, APR_GREEN, APR_YELLOW };
/* Escape sequence that begins a style (APR_PLAIN ends it), or "" when colour is off. */
const char *apr_style(bool colour, enum apr_style s);

#endif
