/* What will be written: tensors with dtype, shape, place and how each comes about, metadata, shards, files beside. All of it is known
 * before any data is read. */
#ifndef APR_PLAN_H
#define APR_PLAN_H

#include "flow/input.h"
#include "model/draft.h"
#include "model/side.h"

/* How the bytes of a tensor come about.
 *   COPY      they are the stored ones
 *   BLOCKS    stored blocks or elements in another order; no value is looked at
 *   ENCODE    the values, encoded
 *   GENERATE  values that no source holds */
enum apr_how { APR_COPY, APR_BLOCKS, APR_ENCODE, APR_GENERATE };

/* One tensor of the target.
 *   from       names of what it is made of, for the report; none for one that is generated
 *   row        elements after which a fresh block begins, as in apr_tensor
 *   bytes      as stored in the target, without padding
 *   shard, at  its file, and where it begins behind that file's header: set by apr_plan_place
 *   in         what it is read from, borrowed; all zero or NULL for one that is generated
 *   values     of GENERATE: count of them; wide: doubles in their stead, where dtype needs them
 *   transform  "rope_permute(4)", or NULL
 *   importance of ENCODE into blocks, or NULL: of each column (dim[ndim - 1]) of each matrix (dim[ndim - 2] rows), one matrix after the
 *              other, where a matrix has fewer rows than the tensor; borrowed
 *   lossy      values are rounded: rmse, cosine and the largest error are then measured while writing
 *              by apr_plan_write: NaN when finite values became infinite
 *   against    of a lossy one: what is written is measured against this input, of as many elements, in the place of `in`; or NULL
 *   nan        of ENCODE into blocks: how many non-finite values became 0 (--nan-to-zero)
 *   overflowed how many finite values became infinite: F16 and BF16 alone, all others are refused */
struct apr_planned {
    struct apr_bytes        name, from;
    const struct apr_dtype *dtype;
    unsigned                ndim;
    uint64_t                dim[APR_MAX_DIMS], count, row, bytes;
    unsigned                shard;
    uint64_t                at;
    enum apr_how            how;
    const struct apr_input *in, *against;
    const float            *values, *importance;
    const double           *wide;
    const char             *transform;
    bool                    lossy;
    double                  rmse, cosine, max_error;
    uint64_t                nan, overflowed;
};

/* How many numbers are the importance of a tensor of that shape. */
static inline uint64_t apr_planned_importance(const struct apr_planned *t)
{
    uint64_t n = t->ndim == 0 ? 0 : t->dim[t->ndim - 1];
    for (unsigned i = 0; i + 2 < t->ndim; i++)
        n *= t->dim[i];
    return n;
}

/* One file of the target: header, data, tail.
 *   path    where it goes, "-" is stdout
 *   header  its bytes, padding before the data included
 *   first, n  its tensors, which stand side by side in the plan
 *   data, tail, size  bytes of the data section (padding included), of what follows it, of all */
struct apr_planned_file {
    const char      *path;
    struct apr_bytes header;
    size_t           first, n;
    uint64_t         data, tail, size;
};

/* An index of shards: where it goes, its text. */
struct apr_planned_index {
    const char      *path; /* NULL: there is none */
    struct apr_bytes text;
};

/* Begin with zeros and the first part filled, end with apr_plan_end.
 *   format, meta  of the target. GGUF: its keys; APR: its keys; SafeTensors: __metadata__, all of them strings
 *   side          files that are written beside the weights (SafeTensors in a folder)
 *   out           as the user named it; folder: a checkpoint in a folder, out ends in '/'. With force the small files of a model that is
 *                 there go with its weights, but for README.md and LICENSE
 *   adapter       what goes into the folder is no model but an adapter: adapter_model.safetensors; the files of a model there stay
 *   shard_bytes   most bytes of tensors in a shard; nshard: how many shards. 0: not asked for; not both
 *   only          write file number `only` - 1 alone; 0: all
 *   resume        a file under way is OUT.apr-partial, and stays when the run ends early; what a run before has written of it is kept. Not
 *                 for standard output and compressed files. based_on: what else its bytes depend on (an importance matrix), or NULL
 *   zstd          level of compression; 0: none
 *   unsynced      its files, as in struct apr_sink
 *   file, index   set by apr_plan_place: the files of tensors, and the index of shards
 *   nan_to_zero   non-finite values become 0 where blocks are encoded; else they are refused with tensor, row and column */
struct apr_plan {
    const struct apr_format *format;
    struct apr_draft         meta;
    struct apr_side          side;
    const char              *out, *based_on;
    bool                     folder, adapter, force, nan_to_zero, resume, unsynced;
    uint64_t                 shard_bytes;
    unsigned                 nshard, only;
    int                      zstd;
    struct apr_planned      *tensor;
    size_t                   ntensor, room;
    struct apr_planned_file *file;
    size_t                   nfile;
    struct apr_planned_index index;
    struct apr_arena        *arena;
    struct apr_table         names;     /* private: of each tensor */
    uint64_t                 bytes_out; /* set by apr_plan_write: of all files that were written */
};
void apr_plan_end(struct apr_plan *p);

/* Adds a tensor; name, dtype, ndim, dim, how and in or values are given, the rest follows from them. Texts and values are borrowed.
 * APR_EUNSUPPORTED names the tensor, the dtype and the options that help when the format does not hold it. */
APR_MUST_CHECK enum apr_code apr_plan_add(struct apr_plan *p, const struct apr_planned *t, struct apr_error *e);

/* When all tensors, keys and side files are there: puts tensors in the order of the format, cuts shards, finds every place, makes the
 * headers. Names the files: STEM-00001-of-0000N.EXT where there are shards, model.safetensors and an index in a folder. */
APR_MUST_CHECK enum apr_code apr_plan_place(struct apr_plan *p, struct apr_error *e);

/* Writes all of it, on r->threads threads: the same bytes whatever they are. Nothing is there after a failure, and each file is whole or as
 * it was whatever ends the run. lossy tensors get their rmse and cosine. */
APR_MUST_CHECK enum apr_code apr_plan_write(struct apr_plan *p, const struct apr_run *r, bool verify, bool *verified, struct apr_error *e);

#endif
