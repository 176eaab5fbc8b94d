/* libmicrohttpd, loaded when it is needed: with the libraries that it brings (GnuTLS and eight more) it costs a start 2 ms and more, which
 * who fits or predicts shall not pay. */
#ifndef APR_LINEAR_SERVE_MHD_H
#define APR_LINEAR_SERVE_MHD_H

#include <microhttpd.h>

#include "base/core.h"

#define MHD_FUNCTIONS(X)                                                                                                         \
    X(MHD_start_daemon) X(MHD_stop_daemon) X(MHD_quiesce_daemon) X(MHD_get_connection_info) X(MHD_get_connection_values)         \
    X(MHD_create_response_from_buffer) X(MHD_add_response_header) X(MHD_queue_response) X(MHD_destroy_response)

/* Can this program load it at all? Where it cannot, nothing that serves is linked. */
#ifdef APR_STATIC
#define LOADS_MHD 0
#else
#define LOADS_MHD 1
#endif

/* Its functions under their own names. */
struct mhd {
#define MHD_MEMBER(name) __typeof__(&name) name;
    MHD_FUNCTIONS(MHD_MEMBER)
#undef MHD_MEMBER
};

/* Filled by load_mhd, before any thread is started. */
extern struct mhd mhd;
APR_MUST_CHECK enum apr_code load_mhd(struct apr_error *e);

#endif
