/* What of a model's files is there when they lie behind an address: their headers when it is opened by apr_open_headers, all of them by any
 * other way; more on demand. Of files of this machine all is there, and all of this does nothing. */
#ifndef APR_FETCH_H
#define APR_FETCH_H

#include "base/core.h"

/* The header of s, which is of that format, is there. */
APR_MUST_CHECK enum apr_code apr_fetch_header(const struct apr_format *format, struct apr_source *s, struct apr_error *e);

/* All data of all files is there. APR_EARG: it would take so many bytes, and nobody has said --download. */
APR_MUST_CHECK enum apr_code apr_fetch_all(const struct apr_model *m, struct apr_error *e);

/* The data of one tensor as it is stored is there, and of a packed one that of its codes. */
APR_MUST_CHECK enum apr_code apr_fetch_tensor(const struct apr_model *m, const struct apr_tensor *t, struct apr_error *e);

#endif
