#include "remote_world.h"

#include <stdio.h>

struct test_bytes tensors(size_t header, size_t n, unsigned char last)
{
    struct test_bytes b = { 0 };
    char text[256];
    const int length = snprintf(text, sizeof text, "{\"w\":{\"dtype\":\"F32\",\"shape\":[%zu],\"data_offsets\":[0,%zu]}}", n, 4 * n);
    test_integer(&b, header, 8);
    test_text(&b, text);
    for (size_t i = (size_t)length; i < header; i++)
        test_text(&b, " ");
    for (size_t i = 0; i < n; i++)
        test_floats(&b, &(float){ (float)i }, 1);
    b.at[b.n - 1] = last;
    return b;
}

void fresh_cache(void)
{
    static unsigned n;
    char name[32];
    snprintf(name, sizeof name, "cache-%u", n++);
    setenv("XDG_CACHE_HOME", test_path(name), 1);
}

struct test_server *server;

int begin_world(void **state)
{
    (void)state;
    static const char *const unset[] = { "HF_TOKEN", "HF_HOME", "HF_TOKEN_PATH", "http_proxy", "https_proxy", "all_proxy", "ALL_PROXY" };
    for (size_t i = 0; i < APR_LENGTH(unset); i++)
        unsetenv(unset[i]);
    setenv("HOME", test_folder(), 1);
    server = test_server(NULL);
    setenv("HF_ENDPOINT", test_server_root(server), 1);
    test_server_folder(server, "/apr/qwen2/resolve/main/", "fixtures/qwen2/");
    test_server_folder(server, "/fixtures/", "fixtures/");
    struct test_bytes b = tensors(3 * MIB, MIB, 0);
    test_server_file(server, "/large.safetensors", b.at, b.n);
    test_free(&b);
    b = tensors(100, 64, 0);
    test_server_file(server, "/small.safetensors", b.at, b.n);
    test_free(&b);
    return 0;
}

int begin_test(void **state)
{
    (void)state;
    test_server_how(server, NULL);
    test_server_forget(server);
    unsetenv("HF_TOKEN");
    fresh_cache();
    return 0;
}

const char *at_server(const char *path)
{
    static char url[8][600];
    static unsigned n;
    char *const out = url[n++ % 8];
    snprintf(out, 600, "%s%s", test_server_root(server), path);
    return out;
}
