/* Tensors whose values no file holds: someone computes them where they are read. A model of such tensors (the first model's names, shapes
 * and metadata, the values of many) goes wherever a model goes that is read by way of inputs (flow/input.h), to be converted, too. */
#ifndef APR_COMPUTED_H
#define APR_COMPUTED_H

#include "flow/window.h"

/* What apr_tensor.computed points to; it must outlive the model. In such a tensor row is count, data is empty, file one of the model's.
 *   values  n elements, 1 to APR_STRETCH, from element `first` on: as doubles where the tensor's dtype is wide, else as floats. On any
 *           thread, and the same however a tensor is cut, up to the last bit. What it reads of the model's files, it tells the window,
 *           unless that is NULL. It cannot fail: what is wrong with what it met, it notes, for `sound`
 *   sound   NULL, or asked when all is read and before what was written becomes the target: an error stops that */
struct apr_computation {
    void (*values)(const struct apr_computation *c, struct apr_window *w, uint64_t first, size_t n, void *out);
    enum apr_code (*sound)(const struct apr_computation *c, struct apr_error *e);
};

#endif
