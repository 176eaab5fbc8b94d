/* A checkpoint's index: which shard holds which tensor. model.safetensors.index.json, or the manifest of a sharded APR. */
#ifndef APR_SHARD_INDEX_H
#define APR_SHARD_INDEX_H

#include "base/core.h"

struct apr_shard_index;

/* Is this the beginning of a JSON text, as an index is? (A SafeTensors header has 8 bytes before it.) */
bool apr_is_shard_index(struct apr_bytes file);

/* Reads s; names live in m's arena or s's map, so both must outlive the index. Shard names are plain file names, each once, in byte
 * order. The caller frees it with apr_shard_index_free, also after a failure. */
APR_MUST_CHECK enum apr_code apr_shard_index_read(struct apr_shard_index **index, struct apr_model *m, const struct apr_source *s, struct apr_error *e);
void apr_shard_index_free(struct apr_shard_index *index);

size_t apr_shard_index_nshard(const struct apr_shard_index *index);
struct apr_bytes apr_shard_index_shard(const struct apr_shard_index *index, size_t i);

/* For a shard that is not there: the error that names the index, the shard and a tensor it should hold. Returns its code. */
enum apr_code apr_shard_index_explain(const struct apr_shard_index *index, size_t shard, const struct apr_source *s, struct apr_error *e);

/* After all shards were read, in order, into m: every tensor of the index is in its shard, and no shard has another one. */
APR_MUST_CHECK enum apr_code apr_shard_index_check(const struct apr_shard_index *index, const struct apr_model *m, const struct apr_source *s,
                                             struct apr_error *e);

#endif
