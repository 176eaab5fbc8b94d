/* A shared library that is loaded when it is needed, so that who does not need it starts without it and what it brings along. */
#ifndef APR_LIBRARY_H
#define APR_LIBRARY_H

#include "base/core.h"

/* Loads the first of `names` (NULL-terminated) that is there; *library is never unloaded. APR_EUNSUPPORTED in a program that is linked
 * statically; `purpose` ("to serve", "to read an address") begins the message. */
APR_MUST_CHECK enum apr_code apr_library_load(void **library, const char *const *names, const char *purpose, struct apr_error *e);

/* Puts the address of a function into *to, a pointer to function; false when the library has none of that name. */
bool apr_library_find(void *library, const char *name, void *to);

#endif
