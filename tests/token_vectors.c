#include "token_vectors.h"

#include <stdio.h>

#include "base/bytes.h"
#include "model/open.h"
#include "token/vocabulary_read.h"

void vectors_vocabulary(struct apr_vocabulary *v, struct apr_model **m, const char *path, enum apr_vocabulary_source from)
{
    struct apr_error e;
    enum apr_code code = APR_OK;
    *v = (struct apr_vocabulary){ 0 };
    *m = NULL;
    if (from == APR_FROM_METADATA)
        code = apr_open(m, path, test_run_with(1), &e);
    if (code == APR_OK)
        code = from == APR_FROM_METADATA ? apr_vocabulary_read(v, *m, test_run_with(1), &e)
                                         : apr_vocabulary_folder(v, path, from, test_run_with(1), &e);
    if (code == APR_OK)
        code = apr_vocabulary_index(v, &e);
    if (code != APR_OK || v->from != from)
        fail_msg("%s: from %d: %s", path, v->from, e.text);
}

static int digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

struct test_bytes vectors_bytes(const char **hex)
{
    struct test_bytes b = { 0 };
    for (const char *at; digit(*(at = *hex)) >= 0; *hex += 2)
        test_integer(&b, (uint64_t)(digit(at[0]) << 4 | digit(at[1])), 1);
    return b;
}

const char *vectors_ids(const struct apr_token_model *model, void *state, struct apr_bytes text)
{
    static char said[65536];
    struct apr_ids ids = { 0 };
    struct apr_error e;
    size_t n = 0;
    const bool failed = text.n > 0 && model->encode(state, text, APR_AT_START, &ids, &e) != APR_OK;
    snprintf(said, sizeof said, "%s", failed ? e.text : "");
    for (size_t i = 0; i < ids.n && n < sizeof said - 16 && !failed; i++)
        n += (size_t)sprintf(said + n, "%s%u", i == 0 ? "" : " ", ids.id[i]);
    apr_ids_free(&ids);
    return said;
}

void vectors_expect(const char *file, const struct apr_token_model *model, enum apr_manner manner, const char *path,
                    enum apr_vocabulary_source from)
{
    struct apr_vocabulary v;
    struct apr_model *m;
    struct apr_error e;
    void *state;
    struct test_bytes lines = test_load(file);
    size_t n = 0;
    test_put(&lines, "", 1);
    vectors_vocabulary(&v, &m, path, from);
    if (apr_token_model_begin(model, &state, &v, manner, &e) != APR_OK)
        fail_msg("%s: %s", path, e.text);
    for (char *line = (char *)lines.at, *end; *line != 0; line = end + 1, n++) {
        end = strchr(line, '\n');
        *end = 0;
        const char *at = line;
        struct test_bytes text = vectors_bytes(&at);
        const char *got = vectors_ids(model, state, (struct apr_bytes){ text.at, text.n });
        if (strcmp(got, at + 1) != 0)
            fail_msg("%s: %.*s: %s, expected %s", file, (int)(at - line), line, got, at + 1);
        test_free(&text);
    }
    assert_true(n > 50);
    apr_token_model_end(model, state);
    apr_vocabulary_end(&v);
    apr_close(m);
    test_free(&lines);
}

void vectors_list(struct apr_vocabulary *v, enum apr_vocabulary_kind kind, const char *const *text)
{
    struct apr_error e;
    *v = (struct apr_vocabulary){ .kind = kind };
    for (uint64_t id = 0; text[id] != NULL; id++)
        assert_int_equal(apr_put_token(v, apr_text(text[id]), id, APR_TOKEN_NORMAL, -(double)id, &e), APR_OK);
    assert_int_equal(apr_vocabulary_index(v, &e), APR_OK);
}
