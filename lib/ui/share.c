#include <stdlib.h>

#include "ui/cli.h"

#define MOST_SHARES 1000000u

bool apr_cli_share(const char *text, uint64_t *k, uint64_t *n)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    *k = strtoull(text, &end, 10);
    if (*end != '/' || end[1] < '0' || end[1] > '9')
        return false;
    *n = strtoull(end + 1, &end, 10);
    return *end == 0 && *k >= 1 && *k <= *n && *n <= MOST_SHARES;
}
