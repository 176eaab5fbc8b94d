/* Any bytes as patterns, one a line, and behind an empty line as names. */
#include "fuzz.h"

#include <string.h>

#include "base/pattern.h"

static struct apr_bytes take_line(struct apr_bytes *text)
{
    const unsigned char *end = text->n == 0 ? NULL : memchr(text->at, '\n', text->n);
    const struct apr_bytes line = { text->at, end == NULL ? text->n : (size_t)(end - text->at) };
    const size_t taken = line.n + (end != NULL);
    *text = (struct apr_bytes){ text->at + taken, text->n - taken };
    return line;
}

static void add(struct apr_patterns **p, struct apr_bytes line)
{
    struct apr_error e;
    const size_t before = apr_patterns_count(*p);
    const enum apr_code code = line.at[0] == '=' ? apr_patterns_add_glob(p, line, &e) : apr_patterns_add(p, line, &e);
    if (code != APR_OK)
        fuzz_expect_error(code, &e);
    fuzz_expect(apr_patterns_count(*p) == before + (code == APR_OK));
}

/* The first is among those that match, and there is none when there are none. False once matching has taken too long. */
static bool ask(struct apr_patterns *p, struct apr_bytes name)
{
    struct apr_error e;
    size_t first = 0;
    bool yes = false;
    enum apr_code code = apr_patterns_first(p, name, &first, &e);
    fuzz_expect(code != APR_OK || first == APR_NO_PATTERN || first < apr_patterns_count(p));
    if (code == APR_OK)
        code = apr_patterns_want(p, name, &yes, &e);
    fuzz_expect(code != APR_OK || yes == (p == NULL || first != APR_NO_PATTERN));
    if (code == APR_OK)
        code = apr_patterns_note(p, name, &e);
    fuzz_expect(code != APR_OK || first == APR_NO_PATTERN || apr_patterns_noted(p, first));
    if (code != APR_OK)
        fuzz_expect_error(code, &e);
    return code == APR_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct apr_bytes text = { bytes, n }, line;
    struct apr_patterns *p = NULL;
    while (text.n > 0 && (line = take_line(&text)).n > 0)
        add(&p, line);
    while (ask(p, take_line(&text)) && text.n > 0)
        continue;
    apr_patterns_free(p);
    return 0;
}
