/* libcurl, loaded when an address is met: it brings some twenty libraries, which cost every start milliseconds. */
#ifndef APR_REMOTE_CURL_H
#define APR_REMOTE_CURL_H

#define CURL_DISABLE_TYPECHECK /* it makes macros of functions */
#include <curl/curl.h>

#include "base/core.h"

#define APR_CURL_FUNCTIONS(X)                                                                                                    \
    X(curl_global_init) X(curl_easy_init) X(curl_easy_cleanup) X(curl_easy_reset) X(curl_easy_setopt) X(curl_easy_perform)       \
    X(curl_easy_getinfo) X(curl_easy_strerror) X(curl_slist_append) X(curl_slist_free_all) X(curl_url) X(curl_url_cleanup)       \
    X(curl_url_set) X(curl_url_get) X(curl_free)

/* Its functions under their own names. */
struct apr_curl {
#define APR_CURL_MEMBER(name) __typeof__(&name) name;
    APR_CURL_FUNCTIONS(APR_CURL_MEMBER)
#undef APR_CURL_MEMBER
};

/* Filled by apr_curl_load, once, on the calling thread. */
extern struct apr_curl apr_curl;
APR_MUST_CHECK enum apr_code apr_curl_load(struct apr_error *e);

#endif
