/* What bind.c and bind_values.c share: a binding, and where its values stand. */
#ifndef APR_BIND_PARTS_H
#define APR_BIND_PARTS_H

#include "family/bind.h"
#include "model/draft.h"

struct apr_binding {
    const struct apr_family *family;
    const struct apr_model  *model;
    struct apr_hf_config       *config;
    struct apr_names        *names;
    struct apr_result       *value;      /* of family->dim */
    bool                    *told;       /* that value is what a model says or has, no default */
    bool                     states;     /* config.json or the metadata says any of them */
    struct apr_arena        *arena;      /* of texts that the other model was told */
    struct apr_draft         carried;    /* keys that the model carries of a GGUF, or of an APR, that it once was */
    bool                     gguf_order; /* tensors under the reference's names lie as in a GGUF */
};

/* How expressions are asked: names are dims, paths what the model itself has. */
struct apr_scope apr_bound_scope(const struct apr_binding *b);

/* The value of a dim, not known for what is none. */
struct apr_result apr_bound_dim(const struct apr_binding *b, struct apr_bytes name);

/* What config.json or the metadata says of a dim; of a list its largest number. */
struct apr_result apr_bound_said(const struct apr_binding *b, const struct apr_dim *d);

/* What the model has at a path of config.json, at a key of the metadata with or without its architecture, or at what goes with the path in
 * the contract's kv; no defaults. "LIST.7" is that element, of a scalar the scalar. Wrong: neither a number nor a text stands there. */
struct apr_result apr_bound_stored(const struct apr_binding *b, struct apr_bytes path);

#endif
