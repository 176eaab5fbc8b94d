/* What the tests of apr-trace share: runs, and what they save. */
#ifndef APR_TESTS_TRACE_H
#define APR_TESTS_TRACE_H

#include "convert.h"

#define APR_TRACE "apr-trace"

/* The JSON of a run of fixtures/qwen2 over these tokens that ended with `exit`; more: words up to NULL, at most eight. */
#define TOKENS "--tokens=5,17,42,3"
static inline json_t *traced(const char *model, int exit, const char *const *more)
{
    const char *w[8] = { NULL };
    for (size_t i = 0; more[i] != NULL; i++)
        w[i] = more[i];
    return report_of(test_tool(APR_TRACE, "--json", model, w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], NULL), exit);
}
#define TRACED(model, exit, ...) traced(model, exit, (const char *const[]){ __VA_ARGS__, NULL })

/* "--save-tensor-dir=" with a folder of the tests, in one of four buffers. */
static inline const char *into(const char *folder)
{
    static char text[4][4096];
    static unsigned turn;
    char *const to = text[turn++ % 4];
    snprintf(to, sizeof text[0], "--save-tensor-dir=%s", test_path(folder));
    return to;
}

/* The values of an APRT of a trace, whose header must say this layer and fit the file. Free with test_free; *n of them. */
static inline struct test_bytes saved_values(const char *path, uint32_t layer, float **values, size_t *n)
{
    struct test_bytes b = test_load(test_path(path));
    uint32_t head[2];
    assert_true(b.n >= 12 && memcmp(b.at, "APRT", 4) == 0);
    memcpy(head, b.at + 4, sizeof head);
    if (head[0] != layer || b.n != 12 + 4 * (size_t)head[1])
        fail_msg("%s: layer %u, %u values, %zu bytes", path, head[0], head[1], b.n);
    *n = head[1];
    *values = (float *)(void *)(b.at + 12);
    return b;
}

#endif
