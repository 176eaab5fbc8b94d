/* What completions offer as arguments of tools that write a model. */
#include <ctype.h>
#include <string.h>

#include "convert/conversion.h"
#include "model/format.h"
#include "values/kernels.h"

const char *apr_offer_format(size_t i)
{
    for (size_t k = 0; apr_formats[k] != NULL; k++)
        if (apr_formats[k]->rule != NULL && i-- == 0)
            return apr_formats[k]->name;
    return NULL;
}

/* The i-th that is written, in small letters as the pages have them. It stands until the next call. */
static const char *written_name(size_t i)
{
    static char name[32];
    const struct apr_convert_options o = { .cli.run.kernels = apr_kernels_for(APR_SCALAR) };
    size_t k = 0;
    for (; k < APR_NDTYPES && (apr_written_dtype(&o, apr_dtypes[k].name) == NULL || i-- > 0); k++)
        continue;
    for (size_t n = 0; k < APR_NDTYPES && n < sizeof name; n++) {
        name[n] = (char)tolower((unsigned char)apr_dtypes[k].name[n]);
        if (name[n] == 0)
            return name;
    }
    return NULL;
}

const char *apr_offer_type(size_t i) { return i == 0 ? "auto" : written_name(i - 1); }
const char *apr_offer_type_of_rule(size_t i) { return written_name(i); }

const char *apr_offer_preset(size_t i)
{
    static const char *const own[] = { "apr_q4", "apr_q8", NULL };
    size_t n = 0;
    while (apr_preset_at(n) != NULL)
        n++;
    return i < n ? apr_preset_at(i)->name : i - n < APR_LENGTH(own) ? own[i - n] : NULL;
}

const char *apr_offer_compression(size_t i) { return i == 0 ? "zstd" : NULL; }
