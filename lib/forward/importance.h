/* How much each column of each matrix has to do while a model runs: sums of squares of what it is multiplied by, as llama.cpp's tools count
 * them, and the file of them (model/imatrix.h reads it). */
#ifndef APR_IMPORTANCE_H
#define APR_IMPORTANCE_H

#include "forward/forward.h"

struct apr_importance;

/* Nothing is counted yet. The net must outlive it. Memory: a double for each column of each matrix that is multiplied. Free with
 * apr_importance_free; NULL is nothing. */
APR_MUST_CHECK enum apr_code apr_importance_new(struct apr_importance **im, const struct apr_net *net, struct apr_error *e);
void apr_importance_free(struct apr_importance *im);

/* Of an observer's product: n rows of x, w->nin columns, are about to be multiplied by w. Counted are the matrices of layers ("blk.0....")
 * and of those each tensor of a GGUF once: where w is a further part of one whose first part meets the same rows, it is passed over. So is
 * what llama.cpp multiplies in another order, and a GGUF therefore has in pieces: kv_b of latent attention.
 * APR_EARG names the matrix and the column when a value is no finite number, or its sum of squares no float. */
APR_MUST_CHECK enum apr_code apr_importance_add(struct apr_importance *im, const struct apr_matrix *w, const float *x, size_t n,
                                                struct apr_error *e);

/* Of how many tensors something was counted. */
size_t apr_importance_count(const struct apr_importance *im);

/* Writes it as a GGUF, as llama.cpp's does, names rising; a file that is there is replaced. Then only apr_importance_free may follow.
 *   dataset     what was read, or NULL
 *   chunks      how many runs, of chunk_size tokens each
 * APR_EARG when nothing was counted. */
APR_MUST_CHECK enum apr_code apr_importance_write(struct apr_importance *im, const char *path, const char *dataset, uint64_t chunks,
                                                  uint64_t chunk_size, const struct apr_run *r, struct apr_error *e);

#endif
