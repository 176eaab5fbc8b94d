/* Elements of a tensor, whatever its blocks, padding and byte order. */
#ifndef APR_CHUNK_H
#define APR_CHUNK_H

#include "values/kernels.h"

#define APR_CHUNK 65536u /* elements; sums are taken per chunk and merged by index */
#define APR_STRETCH 4096u  /* elements decoded at a time: two sides fit L1 */

/* Can its values be decoded by this table? */
bool apr_decodable(const struct apr_kernels *k, const struct apr_tensor *t);

/* Elements [first, first + n) as floats, or as doubles; first + n <= t->count, n <= APR_STRETCH. Not for tensors marked wide / any
 * decodable tensor. Any thread. */
void apr_read_floats(const struct apr_kernels *k, const struct apr_tensor *t, uint64_t first, size_t n, float *out);
void apr_read_doubles(const struct apr_kernels *k, const struct apr_tensor *t, uint64_t first, size_t n, double *out);

/* The bytes that hold elements [first, first + n): whole blocks; of a packed tensor its codes, all where those do not lie together. */
struct apr_bytes apr_element_bytes(const struct apr_tensor *t, uint64_t first, uint64_t n);

/* Blocks of the dtype that have elements [first, first + n), in bytes. */
uint64_t apr_blocks_bytes(const struct apr_tensor *t, uint64_t first, uint64_t n);

/* Those blocks as they are, but little-endian; a packed tensor's as they would be in a GGUF, where it has any (apr_packed_has_blocks). */
void apr_read_blocks(const struct apr_tensor *t, uint64_t first, uint64_t n, void *out);

/* Whole blocks of a tensor marked swapped, turned round to little-endian: as many bytes into out. */
void apr_turn_blocks(const struct apr_tensor *t, struct apr_bytes blocks, unsigned char *out);

#endif
