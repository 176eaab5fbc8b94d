/* Weights that the hub's checkpoints hold as codes, with scales and what else undoes them in tensors beside them: what stands where, and
 * the values, decoded row by row from the map. Who makes one checks that all of it fits (family/packing.h); nothing is checked here. */
#ifndef APR_PACKED_H
#define APR_PACKED_H

#include "values/kernels.h"

/* A stored tensor that helps; data.at NULL: there is none. */
struct apr_packed_part {
    const struct apr_dtype *dtype;
    struct apr_bytes        data;
    unsigned                file;
};

/* How codes lie.
 *   VALUES   each is a value of its own dtype, row by row
 *   STREAM   bits along a row, low bits first, in bytes or little-endian words of 32; nibbles_turned: the high nibble comes first
 *   DOWN     words of 32 bits whose codes follow each other along the columns, words of one column `stride` bytes apart (GPTQ)
 *   EIGHTS   a word for eight rows of one column, in the order 0 2 4 6 1 3 5 7 (AWQ)
 *   BLOCKS   blocks of a GGUF, whose values are multiplied by the factor */
enum apr_packed_form { APR_PACKED_VALUES, APR_PACKED_STREAM, APR_PACKED_DOWN, APR_PACKED_EIGHTS, APR_PACKED_BLOCKS };

/* Where the zero of a group stands.
 *   SAME    all have `zero`
 *   VALUES  in `zeros`, as scales do
 *   ALONG   in `zeros`, a row of codes for each group, along the rows of the weight; `zero` is added
 *   DOWN    in `zeros`, words whose codes follow each other along the rows, a column for each group
 *   EIGHTS  in `zeros`, a row of words for each group, as the codes of EIGHTS */
enum apr_zero_form { APR_ZERO_SAME, APR_ZERO_VALUES, APR_ZERO_ALONG, APR_ZERO_DOWN, APR_ZERO_EIGHTS };

/* The value of a code is, in f32 and in this order,
 *     (code - zero) * scale * factor    or    code * scale + bias    or    level[code] * scale * factor
 * with / in the place of the last * where it divides. Row r of a matrix and column c have the scale
 *     r / group_rows * scale_down + group(c) * scale_along,  group(c) = index == NULL ? c / group_columns : index[c]
 * of the matrix' own scales_per_matrix ones. Nested scales are themselves codes of 8 bits:
 *     nested_level[code] * nested.scale[i / nested_block] + nested_offset
 *   nrow, ncol  of one matrix; of blocks that go over rows nrow is 1
 *   stride      bytes from one row (STREAM, VALUES) or word (DOWN, EIGHTS) to the next
 *   per_word    codes of a word of 32 bits that has bits left over; 0: codes follow each other without gaps
 *   factor      nfactor of them, one or one a matrix; none: it is not there
 *   input       as factor, but of the activations that the weight is multiplied by: they change no value
 *   level       NULL: codes are integers
 *   bytes       of all stored tensors that it is made of
 *   serial      of no other weight; 0: it is not known */
struct apr_packed {
    enum apr_packed_form    form;
    unsigned                bits, per_word;
    bool                    nibbles_turned;
    const struct apr_dtype *code;
    uint64_t                nrow, ncol, stride, matrix_bytes;
    struct apr_packed_part  scale, bias, zeros, index;
    uint64_t                group_rows, group_columns, scale_down, scale_along, scales_per_matrix;
    enum apr_zero_form      zero_form;
    float                   zero;
    uint64_t                ngroup;
    const float            *level;
    const float            *factor;
    uint64_t                nfactor;
    const float            *input;
    uint64_t                ninput;
    bool                    divides;
    struct apr_packed_part  nested;
    const float            *nested_level;
    uint64_t                nested_block;
    float                   nested_offset;
    uint64_t                bytes, serial;
};

/* n values from element `first` on, all of one row of codes (t->row). Any thread. */
void apr_unpack_floats(const struct apr_kernels *k, const struct apr_tensor *t, uint64_t first, size_t n, float *out);

/* n values times the factor of the matrix in which element `first` lies, which all of them do. */
void apr_packed_scale(const struct apr_packed *p, uint64_t first, size_t n, float *x);

/* The bytes of codes for elements [first, first + n): all of the tensor where they do not lie together. */
struct apr_bytes apr_packed_codes(const struct apr_tensor *t, uint64_t first, uint64_t n);

/* The bytes of scales for those elements, or more; empty where they are scattered. */
struct apr_bytes apr_packed_scales(const struct apr_tensor *t, uint64_t first, uint64_t n);

/* Can it be given as blocks of its dtype (MXFP4, NVFP4), which have no factor? And n elements as such blocks: whole ones, of one row. */
bool apr_packed_has_blocks(const struct apr_tensor *t);
void apr_packed_blocks(const struct apr_tensor *t, uint64_t first, uint64_t n, unsigned char *out);

/* The levels of E2M1, for codes of 4 bits. */
extern const float apr_fp4_level[16];

#endif
