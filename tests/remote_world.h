/* What tests of models at addresses begin with: a server with some models, an environment that knows of it, a cache that is empty. */
#ifndef APR_TESTS_REMOTE_WORLD_H
#define APR_TESTS_REMOTE_WORLD_H

#include "remote_server.h"

#define MIB   ((size_t)1 << 20)
#define TOKEN "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH"

/* It has /large.safetensors, 3 MiB of header and 4 MiB of data, /small.safetensors, the folder /fixtures/, and is the hub of apr/qwen2. */
extern struct test_server *server;

/* For a group of tests, and each of them: the server is a good one again and has been asked nothing. */
int begin_world(void **state);
int begin_test(void **state);

void        fresh_cache(void);
const char *at_server(const char *path); /* an address; the last eight are good */

/* SafeTensors with a header of so many bytes, a tensor "w" of n floats, whose i-th is i, and a last byte that tells two apart. */
struct test_bytes tensors(size_t header, size_t n, unsigned char last);

#endif
