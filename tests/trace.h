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

/* A folder with fixtures/forward/qwen2moe, of which n values of that tensor, from `element` on, are times `factor` (NAN: NAN). Tokens of
 * it: MOE_TOKENS. */
#define MOE        "fixtures/forward/qwen2moe"
#define MOE_TOKENS "--tokens=1,5,9,3"
static inline const char *damaged(const char *folder, const char *tensor, size_t element, size_t n, float factor)
{
    char path[512], key[256];
    struct test_bytes b = test_load(MOE "/model.safetensors");
    const size_t header = b.at[0] | (size_t)b.at[1] << 8 | (size_t)b.at[2] << 16;
    snprintf(key, sizeof key, "\"%s\":", tensor);
    const char *const entry = memmem(b.at + 8, header, key, strlen(key));
    assert_non_null(entry);
    const char *const offsets = strstr(entry, "\"data_offsets\":[");
    unsigned char *const at = b.at + 8 + header + strtoul(offsets + strlen("\"data_offsets\":["), NULL, 10) + 4 * element;
    for (size_t i = 0; i < n; i++) {
        float v;
        memcpy(&v, at + 4 * i, sizeof v);
        v *= factor;
        memcpy(at + 4 * i, &v, sizeof v);
    }
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    test_file(path, b.at, b.n);
    test_free(&b);
    snprintf(path, sizeof path, "%s/config.json", folder);
    copy_of(MOE "/config.json", path);
    return test_path(folder);
}

/* "--compare=" with a folder of the tests. */
static inline const char *against(const char *folder)
{
    static char text[4096];
    snprintf(text, sizeof text, "--compare=%s", test_path(folder));
    return text;
}

/* A copy of fixtures/qwen2, whose 96 tokens become '!' to '~', a blank's stand-in and "the"; of two letters, each takes the other's id. */
static inline const char *spoken(const char *folder, char a, char b)
{
    const char *const path = checkpoint(folder, NULL);
    char json[4096], name[512];
    size_t n = (size_t)snprintf(json, sizeof json, "{\"added_tokens\":[],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\","
                                "\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true},\"post_processor\":null,\"decoder\":"
                                "{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"\304\240\":94,\"th\":95");
    for (char c = '!'; c <= '~'; c++)
        n += (size_t)snprintf(json + n, sizeof json - n, ",\"%s%c\":%d", c == '"' || c == '\\' ? "\\" : "",
                              c == a ? b : c == b ? a : c, c - '!');
    snprintf(json + n, sizeof json - n, "},\"merges\":[\"t h\"]}}");
    snprintf(name, sizeof name, "%s/tokenizer.json", folder);
    text_file(name, json);
    return path;
}

#endif
