/* Model families: what a checkpoint's tensors are for, what they are called in each dialect, and how they change between them. A
 * contract is a YAML file, families/NAME.yaml (docs/families.md); all of them are embedded, users may add their own. */
#ifndef APR_FAMILY_H
#define APR_FAMILY_H

#include "base/core.h"
#include "family/expr.h"
#include "family/rows.h"
#include "family/yaml.h"

/* Whose names: HuggingFace, GGUF, or those that the reference program writes into APR files for some families. */
enum apr_dialect { APR_HF, APR_GGUF, APR_REFERENCE, APR_NDIALECTS };

#define APR_MAX_NUMBERS 4    /* in a name, {L} and {X} among them */
#define APR_NAME_ROOM   1024 /* bytes of a name, and one more */

/* A transform whose parameters are still expressions. */
struct apr_role_transform {
    enum apr_op      op;
    struct apr_expr *n[APR_MAX_PARTS];
    unsigned         nn;
    double           value;
};

/* One tensor entry of a contract. optional, when: NULL means never, always. Roles that exclude each other by `when` may share names. */
struct apr_role {
    struct apr_bytes          name;
    unsigned                  line;
    struct apr_bytes          known[APR_NDIALECTS][APR_MAX_PARTS]; /* its names, {L} the layer, {X} the expert; several where it is split */
    unsigned                  nknown[APR_NDIALECTS];
    struct apr_expr          *dim[APR_MAX_DIMS];                   /* HuggingFace side, of one tensor */
    unsigned                  ndim;
    struct apr_role_transform transform[APR_MAX_STEPS];
    unsigned                  ntransform;
    struct apr_expr          *split[APR_MAX_PARTS];                /* apr_split */
    unsigned                  nsplit;
    struct apr_expr          *optional, *when, *layers[3];         /* layers: from, to, step */
    struct apr_bytes          fallback;                            /* the role that a converter copies when this one is absent */
    bool                      f32, generated;
};

struct apr_dim {
    struct apr_bytes name;
    unsigned         line;
    bool             text;                /* type: str */
    struct apr_bytes key[8];              /* config paths */
    unsigned         nkey;
    struct apr_expr *value;               /* default, or the formula */
};

struct apr_rename {
    struct apr_bytes from, to;
};

/* A contract. Everything in it is a view into its YAML document. */
struct apr_family {
    struct apr_bytes          name;
    const char               *file;
    struct apr_yaml_document *document;
    struct apr_dim           *dim;
    size_t                    ndim;
    struct apr_role          *role;
    size_t                    nrole;
    const struct apr_yaml    *detect, *names, *skip, *kv, *checks;
    struct apr_rename         rename[16];
    unsigned                  nrename;
};

/* Parses and checks a contract: schema, known keys, unique roles and names, ops and their parameters, every name in an expression a dim
 * above it, every has(tensors.ROLE) a role. Messages name the file and "line N". `file` must outlive it; free with apr_family_free. */
APR_MUST_CHECK enum apr_code apr_family_parse(struct apr_family **f, const char *file, struct apr_bytes text, struct apr_error *e);
void apr_family_free(struct apr_family *f);

/* The dim, the role of that name, or NULL. */
const struct apr_dim *apr_family_dim(const struct apr_family *f, struct apr_bytes name);
const struct apr_role *apr_family_role(const struct apr_family *f, struct apr_bytes name);

/* The number of test vectors, and one of them: the model's name, the elements it must have and those the contract gives. False when
 * a size cannot be worked out. */
size_t apr_family_nchecks(const struct apr_family *f);
bool apr_family_check(const struct apr_family *f, size_t i, struct apr_bytes *model, uint64_t *expected, uint64_t *actual);

/* All contracts: the embedded ones, parsed when first wanted, and the user's. Not for several threads. */
struct apr_families;
APR_MUST_CHECK enum apr_code apr_families_new(struct apr_families **all, struct apr_error *e);
void apr_families_free(struct apr_families *all);

/* Adds a contract file; it comes before the embedded ones. */
APR_MUST_CHECK enum apr_code apr_families_add(struct apr_families *all, const char *path, const struct apr_run *r, struct apr_error *e);

/* Number i of them, in order; *f is NULL behind the last. */
APR_MUST_CHECK enum apr_code apr_families_get(struct apr_families *all, size_t i, const struct apr_family **f, struct apr_error *e);

/* The first whose detect list `key` ("architectures", "model_types", "gguf") holds `word`; *f is NULL when none does. */
APR_MUST_CHECK enum apr_code apr_families_find(struct apr_families *all, const char *key, struct apr_bytes word,
                                               const struct apr_family **f, struct apr_error *e);

/* name into `room` bytes with {L} and {X} filled in; the length, or 0 when it does not fit. */
size_t apr_role_spell(struct apr_bytes pattern, uint64_t layer, uint64_t expert, char *out, size_t room);

#endif
