/* Random chains of transforms, and what they make of arrays, by plain loops written from the formulas. For the tests of lib/family/rows.h
 * and of what reads through its views. */
#ifndef APR_TESTS_CHAINS_H
#define APR_TESTS_CHAINS_H

#include "support.h"

#include "family/rows.h"

/* A number from..to; all of them follow from the seed. */
extern uint64_t seed;
uint64_t any(uint64_t from, uint64_t to);

/* Arrays of one side. An element is the number that it has on the HuggingFace side: tensor * count + index; NONE: it has none there. */
#define NONE UINT32_MAX
struct side {
    size_t n;
    struct array {
        uint64_t dim[APR_MAX_DIMS], count;
        unsigned ndim;
        uint32_t *id;
    } a[APR_MAX_PARTS];
};
void side_free(struct side *s);

/* n arrays of that shape, each element its own number. */
struct side huggingface(size_t n, const uint64_t *dim, unsigned ndim);

/* What the chain makes of nhf of them. */
struct side formulas(const struct apr_transform *t, size_t n, size_t nhf, const uint64_t *dim, unsigned ndim);

/* A chain of one op, or with others that go with it, and the shape that it is for. cols: what all columns are multiples of. */
struct chain {
    struct apr_transform t[APR_MAX_STEPS];
    size_t               n, nhf;
    uint64_t             dim[APR_MAX_DIMS];
    unsigned             ndim;
};
struct chain random_chain(enum apr_op op, uint64_t cols);

/* A view of the parts along the chain, forth or back. */
struct apr_view view_of(const struct apr_tensor *const *part, size_t npart, uint64_t first, const struct chain *c, bool forth);

/* A side as tensors of one dtype with random values, in a file. */
struct stored {
    struct apr_source       *s;
    struct apr_model         m;
    struct apr_tensor        t[APR_MAX_PARTS];
    const struct apr_tensor *part[APR_MAX_PARTS];
    size_t                   n;
};
struct stored *store(const struct side *side, const struct apr_dtype *d);
void stored_free(struct stored *s);

#endif
