#include "serve_mhd.h"

#include "base/library.h"

#define LIBRARY "libmicrohttpd.so.12"

struct mhd mhd;

enum apr_code load_mhd(struct apr_error *e)
{
    static const char *const names[] = { LIBRARY, NULL };
    void *library;
    APR_TRY(apr_library_load(&library, names, "to serve", e));
#define FIND(name)                                      \
    if (!apr_library_find(library, #name, &mhd.name))   \
        return apr_fail(e, APR_EIO, APR_NOWHERE, LIBRARY " has no " #name);
    MHD_FUNCTIONS(FIND)
#undef FIND
    return APR_OK;
}
