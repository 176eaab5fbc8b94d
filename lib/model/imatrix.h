/* Importance matrices: how much each column of a weight has to do, as llama.cpp's tools measure it. Its GGUF form and the older .dat. */
#ifndef APR_IMATRIX_H
#define APR_IMATRIX_H

#include "base/core.h"
#include "base/hash.h"

/* What there is about one weight tensor.
 *   name    of the tensor, as a GGUF calls it ("blk.0.attn_q.weight"); a view
 *   n       weights: the columns of each of its matrices (experts), one matrix after the other
 *   ncount  of so many counts each is of n / ncount weights; mostly one a matrix. The rest is private */
struct apr_imatrix_entry {
    struct apr_bytes     name;
    uint64_t             n, ncount;
    const unsigned char *sum, *count;
    float                calls;
    bool                 swapped;
};

/* An open importance matrix; read only, by any thread.
 *   entry    by rising names
 *   dataset  what it was measured on, in the file's order; texts as they stand there
 *   chunks   how many pieces of them were read, 0: it does not say
 *   digest   of all names and weights: the same in either form */
struct apr_imatrix {
    struct apr_imatrix_entry *entry;
    size_t                    nentry, room;
    struct apr_bytes         *dataset;
    size_t                    ndataset;
    uint32_t                  chunks;
    struct apr_digest         digest;
    struct apr_source        *source; /* private, as all below: the file, the model's where there is one */
    struct apr_model         *m;
};

/* Opens the file and reads all of it once. Refused: a file that is none (a model, for one), what is cut or says what does not fit, names
 * twice, sums that are negative or not finite, counts that are no numbers. Messages name the file, the entry and the place in it; on
 * failure *im is NULL. The memory that it takes grows with the number of entries, not with their length. Close with apr_imatrix_close;
 * NULL is nothing. */
APR_MUST_CHECK enum apr_code apr_imatrix_open(struct apr_imatrix **im, const char *path, const struct apr_run *r, struct apr_error *e);
void apr_imatrix_close(struct apr_imatrix *im);

/* The entry of a tensor by its GGUF name, or NULL. */
const struct apr_imatrix_entry *apr_imatrix_find(const struct apr_imatrix *im, struct apr_bytes name);

/* The same for a tensor of nmatrix matrices with ncol columns each: an entry of another length is APR_EARG, and names the tensor and both
 * lengths. But that of a token embedding, which is looked up and not multiplied, is none then, as llama.cpp has it. */
APR_MUST_CHECK enum apr_code apr_imatrix_of(const struct apr_imatrix *im, struct apr_bytes name, uint64_t ncol, uint64_t nmatrix,
                                            const struct apr_imatrix_entry **x, struct apr_error *e);

/* Weights [first, first + n) of an entry: sum / count, finite and never negative. 1 where nothing was counted; in the .dat form the sum
 * as it is. Those of matrix k begin at k * ncol. */
void apr_imatrix_weights(const struct apr_imatrix_entry *x, uint64_t first, uint64_t n, float *out);

/* An error when the file changed since it was opened, or could not be read: to be asked when all is read. */
APR_MUST_CHECK enum apr_code apr_imatrix_unchanged(const struct apr_imatrix *im, struct apr_error *e);

#endif
