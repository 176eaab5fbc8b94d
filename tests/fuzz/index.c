/* Any bytes as the index of a checkpoint. */
#include "fuzz.h"

#include <string.h>

#include "base/arena.h"
#include "files/source.h"
#include "model/shard_index.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    const struct apr_run run = fuzz_run();
    struct apr_model m = { 0 };
    struct apr_shard_index *index = NULL;
    struct apr_source *s;
    struct apr_error e;
    fuzz_expect(apr_source_open(&s, fuzz_file(bytes, n), &run, &e) == APR_OK);
    const enum apr_code code = apr_shard_index_read(&index, &m, s, &e);
    if (code != APR_OK)
        fuzz_expect_error(code, &e);
    for (size_t i = 0; code == APR_OK && i < apr_shard_index_nshard(index); i++) {
        const struct apr_bytes shard = apr_shard_index_shard(index, i);
        fuzz_expect(shard.n > 0 && memchr(shard.at, '/', shard.n) == NULL && memchr(shard.at, 0, shard.n) == NULL);
        fuzz_expect(i == 0 || apr_bytes_compare(apr_shard_index_shard(index, i - 1), shard) < 0);
        fuzz_expect_error(apr_shard_index_explain(index, i, s, &e), &e);
    }
    if (code == APR_OK)
        fuzz_expect(apr_shard_index_check(index, &m, s, &e) != APR_OK || apr_shard_index_nshard(index) == 0);
    apr_shard_index_free(index);
    apr_arena_free(&m.arena);
    apr_source_close(s);
    return 0;
}
