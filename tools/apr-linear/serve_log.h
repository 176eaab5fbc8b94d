/* What the server says on stderr while it serves, a line at a time. Where nobody reads (a pipe that is full, a terminal that was stopped),
 * no one is held up for it: the line is left out, and how many were is said when there is room again. Any thread. */
#ifndef APR_LINEAR_SERVE_LOG_H
#define APR_LINEAR_SERVE_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "base/core.h"

/* A line, with its end. */
void log_line(const char *format, ...) APR_PRINTF(1, 2);

/* METHOD PATH CODE BYTES MICROSECONDS; what may not be shown, and blanks, as \xNN. Of a path 511 bytes at most are shown. */
void log_request(const char *method, const char *path, unsigned code, size_t bytes, uint64_t ns);

#endif
