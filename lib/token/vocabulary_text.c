/* Vocabularies of lines: vocab.txt, merges.txt; templates that are files. */
#include "token/vocabulary_read.h"

#include <string.h>

#include "base/bytes.h"
#include "files/source.h"

/* The next line, without its end of LF or CR LF; false behind the last. */
static bool next_line(struct apr_bytes *rest, struct apr_bytes *line)
{
    if (rest->n == 0)
        return false;
    const unsigned char *end = memchr(rest->at, '\n', rest->n);
    const size_t n = end == NULL ? rest->n : (size_t)(end - rest->at), step = end == NULL ? n : n + 1;
    *line = (struct apr_bytes){ rest->at, n > 0 && rest->at[n - 1] == '\r' ? n - 1 : n };
    *rest = (struct apr_bytes){ rest->at + step, rest->n - step };
    return true;
}

/* A token a line, by id. */
enum apr_code apr_read_vocab_txt(struct apr_vocabulary *v, struct apr_bytes text, struct apr_error *e)
{
    struct apr_bytes line;
    v->from = APR_FROM_VOCAB_TXT;
    v->kind = APR_VOCABULARY_WORDPIECE;
    v->model = apr_text("WordPiece");
    v->prefix = apr_text("##");
    v->found = true;
    while (next_line(&text, &line))
        APR_TRY(apr_put_token(v, line, v->faults.listed++, APR_TOKEN_NORMAL, 0, e));
    return apr_vocabulary_index(v, e);
}

/* A merge a line, the first to be made first, perhaps behind "#version: 0.2". */
enum apr_code apr_read_merges_txt(struct apr_vocabulary *v, struct apr_bytes text, struct apr_error *e)
{
    static const char version[] = "#version";
    struct apr_bytes line;
    for (bool first = true; next_line(&text, &line); first = false) {
        if (line.n == 0 || (first && line.n >= sizeof version - 1 && memcmp(line.at, version, sizeof version - 1) == 0))
            continue;
        APR_TRY(apr_put_spelled_merge(v, line, e));
    }
    return APR_OK;
}

enum apr_code apr_read_template_file(struct apr_vocabulary *v, struct apr_bytes name, struct apr_bytes text, struct apr_error *e)
{
    if (text.n > APR_MOST_CONFIG)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "%zu bytes of a chat template, at most %zu are read", text.n, (size_t)APR_MOST_CONFIG);
    for (size_t i = 0, step; i < text.n; i += step) {
        step = apr_utf8_length(text.at + i, text.n - i);
        if (step == 0)
            return apr_found(apr_fail(e, APR_ECORRUPT, i, "is no chat template: it is not UTF-8"), e, "vocab.syntax");
    }
    return apr_put_template(v, name, text, e);
}
