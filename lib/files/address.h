/* Paths that are addresses: http://, https://, and hf://OWNER/NAME[@REVISION][/PATH] of the hub. Text alone, no network. */
#ifndef APR_ADDRESS_H
#define APR_ADDRESS_H

#include "base/core.h"

/* Does it begin as one? */
bool apr_is_address(const char *path);

/* Is it that of a folder: one that ends in '/', or of the hub without a PATH? */
bool apr_is_folder_address(const char *path);

/* The folder that a path, of a file or an address, lies in: up to and with the last '/'; 0 bytes when it has none. What follows a '?' or
 * '#' is no part of an address' path. */
size_t apr_folder_length(const char *path);

/* Where the path ends, for names with numbers in them: at the '?' or '#' of an address, else at the end of the text. */
size_t apr_path_length(const char *path);

/* FOLDER/NAME, which the caller frees; NULL when memory is out. In an http address what is no letter, digit or "-._~/" of the name becomes
 * %XX, and the folder loses what follows a '?' or '#'. */
char *apr_beside(const char *folder, struct apr_bytes name);

/* What stands behind an address, which the caller frees: an http one as it is, one of the hub as endpoint/OWNER/NAME/resolve/REVISION/PATH.
 * APR_EARG: blanks, control characters, a password; names that the hub has not, or a ".." that would leave the repository. */
APR_MUST_CHECK enum apr_code apr_address_url(char **url, const char *path, const char *endpoint, struct apr_error *e);

/* The same of an address that others are put together from: is it one? */
APR_MUST_CHECK enum apr_code apr_address_check(const char *path, struct apr_error *e);

/* Scheme, host and port of an http address as written, in n bytes; 0 when there is no host. Two are the same when their bytes are, but for
 * upper case. */
size_t apr_origin_length(const char *url);
bool   apr_same_origin(const char *a, const char *b);

/* "bytes 0-99/1000", "bytes 0-99/" and a star, which is a total of APR_NOWHERE, "bytes" star "/1000", which has no bytes: first = end = 0.
 * False for all else: bytes that end before they begin, or beyond the total, numbers beyond 2^63. */
struct apr_content_range {
    uint64_t first, end, total;
};
bool apr_content_range_read(struct apr_bytes text, struct apr_content_range *r);

/* A decimal number below 2^63, and nothing else. */
bool apr_count_read(struct apr_bytes text, uint64_t *n);

#endif
