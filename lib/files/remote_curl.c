#include "files/remote_curl.h"

#include "base/library.h"

struct apr_curl apr_curl;

static enum apr_code load(struct apr_error *e)
{
    static const char *const names[] = { "libcurl.so.4", "libcurl-gnutls.so.4", NULL };
    void *library;
    APR_TRY(apr_library_load(&library, names, "to read an address", e));
#define FIND(name)                                          \
    if (!apr_library_find(library, #name, &apr_curl.name))  \
        return apr_fail(e, APR_EIO, APR_NOWHERE, "libcurl has no " #name ": it is too old");
    APR_CURL_FUNCTIONS(FIND)
#undef FIND
    if (apr_curl.curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return apr_fail(e, APR_EIO, APR_NOWHERE, "libcurl does not begin");
    return APR_OK;
}

enum apr_code apr_curl_load(struct apr_error *e)
{
    static bool loaded;
    APR_TRY(loaded ? APR_OK : load(e));
    loaded = true;
    return APR_OK;
}
