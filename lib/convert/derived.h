/* A model made of another: other tensors, other sizes, everything else as that one says of itself. For merging, pruning. */
#ifndef APR_DERIVED_H
#define APR_DERIVED_H

#include "family/bind.h"
#include "files/source.h"
#include "model/model.h"

/* m is what apr_convert_options.model may be. It borrows all that it does not change from the model that it is made of, and the files of
 * others that were added, which must outlive it. Begin with apr_derived_begin, end with apr_derived_end, after a failure too.
 *   config  stands for m.config, where there is one */
struct apr_derived {
    struct apr_model   m;
    struct apr_source  config;
    struct apr_arena  *arena;
};
APR_MUST_CHECK enum apr_code apr_derived_begin(struct apr_derived *d, const struct apr_model *of, struct apr_error *e);
void apr_derived_end(struct apr_derived *d);

/* The files of another model, so that its tensors may be among these: *first is to be added to their `file`. */
APR_MUST_CHECK enum apr_code apr_derived_files(struct apr_derived *d, const struct apr_model *of, unsigned *first, struct apr_error *e);

/* A tensor, whole, by a name that no other has; name and what it points to must outlive the model. APR_EARG: the name is taken. */
APR_MUST_CHECK enum apr_code apr_derived_add(struct apr_derived *d, const struct apr_tensor *t, struct apr_error *e);

/* It has n rows of the vocabulary from now on: in config.json and in the metadata, wherever that is stated. b: the binding of the model
 * that it is made of. */
APR_MUST_CHECK enum apr_code apr_derived_vocabulary(struct apr_derived *d, const struct apr_binding *b, uint64_t n, struct apr_error *e);

/* It has n layers, number i being from[i] of those of the model that it is made of: so are their count and what config.json and metadata
 * say of layers, as far as its key is known for that: one of each (not where a layer is beyond them), how many from the first on, their
 * numbers. */
#define APR_MOST_LAYERS 65536u
APR_MUST_CHECK enum apr_code apr_derived_layers(struct apr_derived *d, const struct apr_binding *b, const uint32_t *from, size_t n,
                                                struct apr_error *e);

/* It has the values of what is packed in the model that it is made of (family/packing.h): config.json says nothing of codes any more. */
APR_MUST_CHECK enum apr_code apr_derived_unpacked(struct apr_derived *d, struct apr_error *e);

/* A key of config.json is there no more, of its inner configuration neither. */
APR_MUST_CHECK enum apr_code apr_derived_forget(struct apr_derived *d, const char *key, struct apr_error *e);

/* What config.json says at a path ("torch_dtype") becomes that JSON text; nothing where there is none. */
APR_MUST_CHECK enum apr_code apr_derived_config(struct apr_derived *d, const char *path, struct apr_bytes json, struct apr_error *e);

#endif
