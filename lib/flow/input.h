/* A wished-for tensor: what a tool reads, wherever and however it is stored. */
#ifndef APR_INPUT_H
#define APR_INPUT_H

#include "base/arena.h"
#include "family/rows.h"
#include "flow/window.h"
#include "values/chunk.h"

/* One or many stored tensors seen through a view. It may be copied, and lives as long as the model and the view's parts do. Complex
 * numbers that lie as they are stored are pairs of reals: the shape has one more dim of 2.
 *   one        the only part, where view.part is NULL: see apr_input_part
 *   dim        of the shape that is wished for; count elements, in nrow rows of ncol (a vector is one row)
 *   decodable  of all parts; wide: some value needs a double
 *   whole      integers of 64 bits, of which a double does not hold all: apr_input_whole gives them as they are
 *   plain      the only part as it is stored, not packed; strided: rows lie along a part's columns, so it is read by tiles
 *   half       false when made: what a transform makes of a value is rounded to F16 each time, as a converter does that works in F16 */
struct apr_input {
    const struct apr_kernels *k;
    const struct apr_model   *m;
    struct apr_tensor         one;
    unsigned                  ndim;
    uint64_t                  dim[APR_MAX_DIMS];
    uint64_t                  count, nrow, ncol;
    bool                      decodable, wide, whole, plain, strided, half;
    struct apr_view           view; /* last, for apr_input_keep */
};

/* A tensor as it is stored. */
struct apr_input apr_input_of(const struct apr_kernels *k, const struct apr_model *m, const struct apr_tensor *t);

/* The tensors of a view, in the order and of the shape that it gives them. Borrows the view's array of parts if there are several. */
struct apr_input apr_input_through(const struct apr_kernels *k, const struct apr_model *m, const struct apr_view *v, const uint64_t *dim,
                                   unsigned ndim);

/* As much of it as it has, for one of very many: steps and value ops that it has not are not there, so it is read through the pointer and
 * never copied whole. NULL when memory is out. */
struct apr_input *apr_input_keep(struct apr_arena **a, const struct apr_input *in);

/* Gives it another shape of as many elements. */
void apr_input_reshape(struct apr_input *in, const uint64_t *dim, unsigned ndim);

static inline const struct apr_tensor *apr_input_part(const struct apr_input *in, uint64_t i)
{
    return in->view.part == NULL ? &in->one : in->view.part[i];
}

/* What follows reads by way of a window of the calling thread, which lets go of pages; without one (NULL) none are let go. */

/* Elements [first, first + n), n <= APR_STRETCH, as floats (when it is not wide) or as doubles. Of a decodable input. */
void apr_input_floats(const struct apr_input *in, struct apr_window *w, uint64_t first, size_t n, float *out);
void apr_input_doubles(const struct apr_input *in, struct apr_window *w, uint64_t first, size_t n, double *out);

/* Any number of them as floats, wide ones rounded. */
void apr_input_all_floats(const struct apr_input *in, struct apr_window *w, uint64_t first, uint64_t n, float *out);

/* The same of an input marked whole: the integers, little-endian. */
void apr_input_whole(const struct apr_input *in, struct apr_window *w, uint64_t first, size_t n, uint64_t *out);

/* Elements [first, first + n) as blocks of the parts' dtype, without its head: bit for bit as stored, but in little-endian order. False,
 * and out undefined, where they are no whole blocks, the parts' dtypes differ, or a transform changes values. */
bool apr_input_blocks(const struct apr_input *in, struct apr_window *w, uint64_t first, uint64_t n, void *out);

/* h rows (at most APR_TILE) of wide columns (at most APR_STRETCH), from (row, col) on, into h x wide. */
#define APR_TILE 256u
void apr_input_tile_floats(const struct apr_input *in, struct apr_window *w, uint64_t row, size_t h, uint64_t col, size_t wide, float *out);
void apr_input_tile_doubles(const struct apr_input *in, struct apr_window *w, uint64_t row, size_t h, uint64_t col, size_t wide, double *out);
void apr_input_tile_whole(const struct apr_input *in, struct apr_window *w, uint64_t row, size_t h, uint64_t col, size_t wide, uint64_t *out);

/* The same of blocks that are one element each, of 1, 2, 4 or 8 bytes: bit for bit as stored, but little-endian. False as apr_input_blocks,
 * and for other widths. */
bool apr_input_tile_blocks(const struct apr_input *in, struct apr_window *w, uint64_t row, size_t h, uint64_t col, size_t wide, void *out);

/* For those who know what they look at, in the file's byte order: the bytes that hold elements [first, first + n) of a part, and bytes
 * [from, from + n) behind the head of the only part, as far as there are so many. They count as read. */
struct apr_bytes apr_input_touch(const struct apr_input *in, struct apr_window *w, uint64_t part, uint64_t first, uint64_t n);
struct apr_bytes apr_input_stored(const struct apr_input *in, struct apr_window *w, uint64_t from, size_t n);

#endif
