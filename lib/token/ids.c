#include "token/ids.h"

#include "base/bytes.h"
#include "files/source.h"

#define MOST_IDS ((size_t)1 << 24) /* a hundred times the longest context */

static bool is_blank(unsigned char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

struct apr_bytes apr_next_word(struct apr_bytes text, size_t *at)
{
    size_t end = *at;
    while (end < text.n && text.at[end] != ',' && !is_blank(text.at[end]))
        end++;
    const struct apr_bytes word = { text.at + *at, end - *at };
    *at = end;
    return word;
}

size_t apr_skip_blanks(struct apr_bytes text, size_t at)
{
    while (at < text.n && is_blank(text.at[at]))
        at++;
    return at;
}

size_t apr_digits(struct apr_bytes text, uint64_t *n)
{
    size_t i = 0;
    bool large = false;
    for (*n = 0; i < text.n && text.at[i] >= '0' && text.at[i] <= '9'; i++)
        large |= !apr_mul(*n, 10, n) || !apr_add(*n, (uint64_t)(text.at[i] - '0'), n);
    *n = large ? UINT64_MAX : *n;
    return i;
}

/* Digits alone, and below `rows`. */
static enum apr_code read_id(struct apr_bytes word, uint64_t rows, uint64_t where, uint32_t *id, struct apr_error *e)
{
    uint64_t v;
    if (word.n == 0)
        return apr_fail(e, APR_EARG, where, "a token id is missing beside a comma");
    if (apr_digits(word, &v) < word.n)
        return apr_fail(e, APR_EARG, where, "%s is no token id", APR_QUOTED(word));
    if (v >= rows || v > UINT32_MAX)
        return apr_fail(e, APR_EARG, where, "token %s is past the vocabulary, which ends at %llu", APR_QUOTED(word),
                        (unsigned long long)rows - 1);
    *id = (uint32_t)v;
    return APR_OK;
}

enum apr_code apr_ids_read(struct apr_ids *ids, struct apr_bytes text, uint64_t rows, bool in_file, struct apr_error *e)
{
    size_t at = apr_skip_blanks(text, 0);
    bool more = at < text.n;
    while (more) {
        const uint64_t where = in_file ? at : APR_NOWHERE;
        uint32_t id;
        APR_TRY(read_id(apr_next_word(text, &at), rows, where, &id, e));
        if (ids->n == MOST_IDS)
            return apr_fail(e, APR_ELIMIT, where, "more than %zu token ids", MOST_IDS);
        APR_TRY(apr_ids_add(ids, id, e));
        at = apr_skip_blanks(text, at);
        const bool comma = at < text.n && text.at[at] == ',';
        at = comma ? apr_skip_blanks(text, at + 1) : at;
        more = comma || at < text.n;
    }
    return ids->n > 0 ? APR_OK : apr_fail(e, APR_EARG, APR_NOWHERE, "there are no token ids in it");
}

enum apr_code apr_ids_of_file(struct apr_ids *ids, const char *path, uint64_t rows, const struct apr_run *r, struct apr_error *e)
{
    struct apr_source *s = NULL;
    enum apr_code code = apr_source_open(&s, path, r, e);
    if (code == APR_OK)
        code = apr_source_end(s, apr_ids_read(ids, s->map, rows, true, e), e);
    if (code != APR_OK)
        apr_error_in(e, path);
    return code;
}
