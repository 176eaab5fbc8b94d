#include "serve_mhd.h"

#include <dlfcn.h>
#include <string.h>

#define LIBRARY "libmicrohttpd.so.12"

struct mhd mhd;

/* A function's address has the size of data's here, though C does not say so. */
static bool find(void *library, const char *name, void *to)
{
    void *const at = dlsym(library, name);
    memcpy(to, &at, sizeof at);
    return at != NULL;
}

enum apr_code load_mhd(struct apr_error *e)
{
    void *const library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return apr_fail(e, APR_EIO, APR_NOWHERE, "to serve takes " LIBRARY ": %s", dlerror());
#define FIND(name)                                      \
    if (!find(library, #name, &mhd.name))               \
        return apr_fail(e, APR_EIO, APR_NOWHERE, LIBRARY " has no " #name);
    MHD_FUNCTIONS(FIND)
#undef FIND
    return APR_OK;
}
