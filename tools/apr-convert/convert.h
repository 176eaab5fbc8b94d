/* apr-convert: what its parts share. */
#ifndef APR_CONVERT_H
#define APR_CONVERT_H

#include "convert/conversion.h"
#include "ui/report.h"

/* The table of choices of --target-bpw and --target-size as text and JSON. */
void print_aim(const struct apr_conversion *c);
void write_aim(struct apr_out *j, const struct apr_conversion *c);

/* A name, and blanks up to `width` columns, of which there are 64 at most. */
void print_name(struct apr_bytes name, size_t width);

/* What was done, or with --dry-run what would be; why: or NULL. Returns the exit code. */
int report(struct apr_conversion *c, const struct apr_error *why);

#endif
