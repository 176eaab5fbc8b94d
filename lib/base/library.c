#include "base/library.h"

#include <string.h>

#ifdef APR_STATIC

enum apr_code apr_library_load(void **library, const char *const *names, const char *purpose, struct apr_error *e)
{
    *library = NULL;
    return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "%s takes %s, which this program does not load, as it is static; the package apr-tools has one that does", purpose,
                    names[0]);
}

bool apr_library_find(void *library, const char *name, void *to)
{
    (void)library, (void)name, (void)to;
    return false;
}

#else

#include <dlfcn.h>

enum apr_code apr_library_load(void **library, const char *const *names, const char *purpose, struct apr_error *e)
{
    *library = NULL;
    for (size_t i = 0; *library == NULL && names[i] != NULL; i++)
        *library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return *library != NULL ? APR_OK : apr_fail(e, APR_EIO, APR_NOWHERE, "%s takes %s: %s", purpose, names[0], dlerror());
}

/* A function's address has the size of data's here, though C does not say so. */
bool apr_library_find(void *library, const char *name, void *to)
{
    void *const at = dlsym(library, name);
    memcpy(to, &at, sizeof at);
    return at != NULL;
}

#endif
