/* The header of a NumPy array:
 * | 93 "NUMPY" | u8 major: 1, 2, 3 | u8 minor | u16 length, from major 2 on u32 | that many bytes of header | values |
 * The header is a Python dict and blanks: {'descr': '<f4', 'fortran_order': False, 'shape': (12, 256), } */
#ifndef APR_NPY_H
#define APR_NPY_H

#include "base/cursor.h"

/* dim is as the header says it, whatever the order of the elements: with `fortran` columns lie first. at: where the dict begins. */
struct apr_npy {
    const struct apr_dtype *dtype;
    bool                    swapped, fortran;
    unsigned                ndim;
    uint64_t                dim[APR_MAX_DIMS], at;
};

bool apr_npy_probe(struct apr_bytes start);

/* Reads it from the start of a file; the cursor then stands at the values. How many there are is not looked at. */
APR_MUST_CHECK enum apr_code apr_npy_read(struct apr_npy *npy, struct apr_cursor *c, struct apr_error *e);

#endif
