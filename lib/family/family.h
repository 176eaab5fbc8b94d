/* Model families: what a checkpoint's tensors are for, what they are called in each dialect, how they change between them, and what its
 * metadata means. A contract is a YAML file, families/NAME.yaml (docs/families.md); all of them are embedded, users may add their own. */
#ifndef APR_FAMILY_H
#define APR_FAMILY_H

#include "base/core.h"
#include "family/expr.h"
#include "family/rows.h"

/* Whose names: HuggingFace, GGUF, or those that the reference program writes into APR files for some families. */
enum apr_dialect { APR_HF, APR_GGUF, APR_REFERENCE, APR_NDIALECTS };

#define APR_MAX_NUMBERS 4    /* in a name, {L} and {X} among them */
#define APR_NAME_ROOM   1024 /* bytes of a name, and one more */

/* Texts that a contract lists. */
struct apr_words {
    const struct apr_bytes *word;
    size_t                  n;
};
bool apr_words_hold(const struct apr_words *list, struct apr_bytes word);

/* ---- dims and tensors ----------------------------------------------------------------------------------------------- */

struct apr_dim {
    struct apr_bytes name;
    unsigned         line;
    bool             text, real; /* type: str, float */
    struct apr_words key;   /* config paths */
    struct apr_expr *value; /* default, or the formula */
};

/* A transform whose parameters are still expressions; NULL: 0. Those of `then` stand behind their split, part by part. */
struct apr_role_transform {
    enum apr_op      op;
    unsigned         nn, nby, only, norder;
    struct apr_expr *n[APR_MAX_PARTS], *by[APR_MAX_PARTS];
    const uint32_t  *order;
};

/* What makes a tensor that only a GGUF has: the factors of rope type llama3; a list in config.json, under one of role->list; role->each,
 * of which `layer` is the number of an element. */
enum apr_generator { APR_NOT_GENERATED, APR_LLAMA3_ROPE_FACTORS, APR_CONFIG_LIST, APR_OF_ELEMENTS };

/* One tensor entry of a contract. optional, when, where: NULL means never, always, in all layers. Roles that exclude each other by `when`
 * or `where` may share names. */
struct apr_role {
    struct apr_bytes          name;
    unsigned                  line;
    struct apr_words          known[APR_NDIALECTS];  /* its names, {L} the layer, {X} the expert; several where it is split */
    bool                      layered;               /* they have an {L} */
    struct apr_expr          *dim[APR_MAX_DIMS];     /* HuggingFace side, of one tensor; of all that are joined */
    unsigned                  ndim;
    struct apr_role_transform transform[APR_MAX_STEPS];
    unsigned                  ntransform;
    struct apr_expr          *split[APR_MAX_PARTS];  /* apr_split */
    unsigned                  nsplit;
    struct apr_expr          *optional, *when, *where, *layers[3]; /* where: in which of its layers; layers: from, to, step */
    struct apr_bytes          fallback;               /* the role that a converter copies when this one is absent */
    struct apr_bytes          unless_equal;           /* the role of which this one is no copy */
    bool                      f32;
    bool                      in_key;                /* a GGUF has its values, one of each layer, in a key (APR_OF_ROLE) */
    enum apr_generator        generated;
    struct apr_expr          *each;
    struct apr_words          list;
};

/* Is the first of its transforms a stack? A concatenation of several tensors of HuggingFace's, each of its own shape? */
bool apr_role_stacked(const struct apr_role *r);
bool apr_role_joined(const struct apr_role *r);

/* Is the role in that layer, as far as its `where` says? `otherwise` where that is not known. */
bool apr_role_in_layer(const struct apr_role *role, const struct apr_scope *scope, uint64_t layer, bool otherwise);

/* How HuggingFace names become those of the contract. rename: endings. write_prefix: what the class puts before names when it saves them,
 * unless they begin with one of write_unless. further_from: how names of layers begin that are counted anew behind the others; they are
 * those that begin with further_to, of so many layers more. */
struct apr_rename {
    struct apr_bytes from, to;
};
struct apr_cleaning {
    struct apr_words   remove, strip_prefix, unless; /* unless it begins with one of these it gets the prefix */
    struct apr_bytes   prefix, write_prefix;
    struct apr_words   write_unless;
    struct apr_rename *rename;
    size_t             nrename;
    struct apr_bytes   further_from, further_to;
    const struct apr_dim *further_by;
};

/* A glob of names that are dropped, in spans: each a text and behind it the value of a dim, NULL for none. */
struct apr_skip_span {
    struct apr_bytes      text;
    const struct apr_dim *dim;
};
struct apr_skip {
    struct apr_skip_span *span;
    size_t                 n;
};

/* ---- metadata ------------------------------------------------------------------------------------------------------- */

/* What only code can work out, of the model as it is written. */
enum apr_computed {
    APR_FILE_TYPE, APR_MAIN_DTYPE, APR_NO_OUTPUT_WEIGHT, APR_OUTPUT_LABELS, APR_POOLING_TYPE, APR_LLAMA3_FROM_ROPE_FREQS,
    APR_SLIDING_LAYERS, APR_TOKEN_EMBD_ROWS,
};

/* Where a value comes from. */
enum apr_origin { APR_OF_EXPR, APR_OF_CONFIG, APR_OF_CONSTANT, APR_OF_LIST, APR_OF_CODE, APR_OF_EACH, APR_OF_TOKEN, APR_OF_ROLE };
struct apr_formula {
    enum apr_origin   origin;
    struct apr_expr  *expr;     /* EACH: of an element, whose number from 0 is `layer` */
    struct apr_expr  *count;    /* EACH: how many */
    struct apr_words  word;     /* CONFIG: paths, the first that is there; LIST: its elements; TOKEN: its text, for its id; ROLE */
    struct apr_value  constant; /* a number, a boolean, a string */
    enum apr_computed code;
};

/* A key of the metadata, in both directions. Towards GGUF it is `key` with the value of the formula, else of `otherwise`, where `when`
 * holds. Back it is `hf` in config.json and `apr` in an APR header, and the value is that of the dim it fills, if any, else the key's own.
 *   key      without "{a}", which is the architecture, where `own` says that it begins with that
 *   element  of an ARRAY */
struct apr_kv {
    unsigned              line;
    bool                  own;
    struct apr_bytes      key, hf, apr;
    enum apr_meta_type    type, element;
    struct apr_formula    value;
    struct apr_expr      *otherwise, *when;
    const struct apr_dim *fills; /* `fills`, or the dim that is its whole expr */
};

/* What a config.json, an APR header, a tokenizer's metadata has beyond that, where `when` holds.
 *   type  of a number or of the elements; APR_META_NULL: by its looks */
struct apr_setting {
    struct apr_bytes   key;
    struct apr_formula value;
    enum apr_meta_type type;
};
struct apr_settings {
    struct apr_expr    *when;
    struct apr_setting *set;
    size_t              n;
};

/* order: the sources to be tried. normalizer: "NFC", or empty. pre: what llama.cpp calls the way in which they cut a text, where it has
 * several names for one way; the first counts that fits. */
enum apr_tokenizer_source { APR_SPM_MODEL, APR_SPM_JSON, APR_BPE, APR_WORDPIECE, APR_UNIGRAM, APR_GEMMA4, APR_NTOKENIZERS };
struct apr_tokenizer_rules {
    enum apr_tokenizer_source order[APR_NTOKENIZERS];
    unsigned                  norder;
    struct apr_bytes          normalizer;
    struct apr_pre_name {
        struct apr_bytes name;
        struct apr_expr *when;
    }                        *pre;
    struct apr_kv            *first;     /* keys before the others */
    size_t                    npre, nfirst, noverride;
    struct apr_settings      *override;
};

/* APR's rope_type where rows lie as in a GGUF, and as HuggingFace has them; -1 where the contract does not say. */
struct apr_rope_type {
    int gguf_order, hf_order;
};

/* What a forward pass is told (family/terms.h has what each term means). */
enum apr_term {
    APR_TERM_ONLY, APR_TERM_LAYERS, APR_TERM_HIDDEN, APR_TERM_HEADS, APR_TERM_KV_HEADS, APR_TERM_HEAD_K, APR_TERM_HEAD_V, APR_TERM_CONTEXT,
    APR_TERM_PARALLEL, APR_TERM_NORM_AFTER, APR_TERM_LAYER_NORM, APR_TERM_EPS, APR_TERM_ACT, APR_TERM_GATE_IN_UP, APR_TERM_CAUSAL,
    APR_TERM_HEAD, APR_TERM_FEATURES,
    APR_TERM_EMBED_SCALE, APR_TERM_RESIDUAL_SCALE, APR_TERM_LOGIT_SCALE, APR_TERM_LOGIT_CAP, APR_TERM_ATTN_SCALE, APR_TERM_ATTN_CAP,
    APR_TERM_SLIDES, APR_TERM_WINDOW, APR_TERM_TEMPERATURE, APR_TERM_TEMPERATURE_LENGTH, APR_TERM_LATENT_RANK,
    APR_TERM_ROPE_DIMS, APR_TERM_ROPE_SKIP, APR_TERM_ROPE_BASE, APR_TERM_ROPE_ADJACENT, APR_TERM_ROPE_KIND, APR_TERM_ROPE_FACTOR,
    APR_TERM_ROPE_ORIGINAL, APR_TERM_ROPE_MSCALE, APR_TERM_ROPE_MSCALE_ALL, APR_TERM_ROPE_SCALE,
    APR_TERM_EXPERTS, APR_TERM_EXPERTS_USED, APR_TERM_EXPERT_SIGMOID, APR_TERM_EXPERT_NORMALIZED, APR_TERM_EXPERT_SCALE,
    APR_TERM_EXPERT_GROUPS, APR_TERM_EXPERT_GROUPS_USED, APR_TERM_EXPERT_BEST_TWO,
    APR_NTERMS,
};
extern const char *const apr_term_words[APR_NTERMS];

/* A test vector: dims, and the elements that the model of that name has. */
struct apr_vector {
    struct apr_bytes model, config; /* JSON: what the paths that expressions ask for are looked up in; empty: nowhere */
    struct apr_given {
        const struct apr_dim *dim;
        struct apr_result     value;
    }       *given;
    size_t   ngiven;
    uint64_t elements;
};

/* ---- contracts ------------------------------------------------------------------------------------------------------ */

/* The words by which a model names its family; TENSORS: HuggingFace names, one of which must be there before the family is guessed.
 * WITHOUT: tensors, none of which may be there where the word is one of GGUF: of several families this one has it then. */
enum apr_detect {
    APR_DETECT_ARCHITECTURES, APR_DETECT_MODEL_TYPES, APR_DETECT_GGUF, APR_DETECT_TENSORS, APR_DETECT_WITHOUT, APR_NDETECT,
};

/* A contract, whole: nothing else of its YAML is left. */
struct apr_family {
    struct apr_bytes           name;
    const char                *file;
    struct apr_words           detect[APR_NDETECT];
    struct apr_cleaning        cleaning;
    struct apr_skip           *skip, *buffer; /* buffer: dropped too, and what is not finite in them is meant */
    struct apr_dim            *dim;
    struct apr_role           *role;
    struct apr_kv             *kv;        /* in writing order */
    struct apr_settings       *hf_config;
    struct apr_rope_type       rope_type;
    struct apr_settings        apr;
    struct apr_tokenizer_rules tokenizer;
    struct apr_expr           *term[APR_NTERMS]; /* of `forward`; NULL: not said */
    bool                       runs;             /* there is such a section */
    struct apr_vector         *vector;
    size_t                     nskip, nbuffer, ndim, nrole, nkv, nhf_config, nvector;
    struct apr_arena          *arena;     /* of all of that, but for the expressions */
    struct apr_owned_expr {
        struct apr_expr *expr;
        unsigned         line;
    }                         *owned;
    size_t                     nowned, owned_room;
};

/* Compiles a contract, and says what is wrong with it: schema, unknown keys, roles or names twice, ops and their parameters, a name in an
 * expression that is no dim above it, a has(tensors.ROLE) that is no role. Messages name the file and "line N". `file` must outlive it,
 * the text need not; free with apr_family_free. */
APR_MUST_CHECK enum apr_code apr_family_parse(struct apr_family **f, const char *file, struct apr_bytes text, struct apr_error *e);
void apr_family_free(struct apr_family *f);

/* The dim, the role of that name, or NULL. */
const struct apr_dim *apr_family_dim(const struct apr_family *f, struct apr_bytes name);
const struct apr_role *apr_family_role(const struct apr_family *f, struct apr_bytes name);

/* The elements that the contract gives the model of a test vector. False when a size cannot be worked out. */
bool apr_family_elements(const struct apr_family *f, const struct apr_vector *v, uint64_t *n);

/* All contracts: the embedded ones, parsed when first wanted, and the user's. Not for several threads. */
struct apr_families;
APR_MUST_CHECK enum apr_code apr_families_new(struct apr_families **all, struct apr_error *e);
void apr_families_free(struct apr_families *all);

/* Adds a contract file; it comes before the embedded ones. */
APR_MUST_CHECK enum apr_code apr_families_add(struct apr_families *all, const char *path, const struct apr_run *r, struct apr_error *e);

/* Number i of them, in order; *f is NULL behind the last. */
APR_MUST_CHECK enum apr_code apr_families_get(struct apr_families *all, size_t i, const struct apr_family **f, struct apr_error *e);

/* The name of number i, which need not be parsed for that; empty behind the last. */
struct apr_bytes apr_families_name(const struct apr_families *all, size_t i);

/* May number i know all tensors of the model, as far as can be told without parsing it? */
bool apr_families_may_fit(const struct apr_families *all, size_t i, const struct apr_model *m);

/* The number of the family whose list `detect` holds `word`, for which nothing is parsed, or APR_NO_FAMILY. Of several that a GGUF's word
 * may mean it is the first with a list `without` of whose tensors m has none, else the first that has no such list. m may be NULL. */
#define APR_NO_FAMILY SIZE_MAX
size_t apr_families_seek(const struct apr_families *all, enum apr_detect detect, struct apr_bytes word, const struct apr_model *m);

/* name into `room` bytes with {L} and {X} filled in; the length, or 0 when it does not fit. */
size_t apr_role_spell(struct apr_bytes pattern, uint64_t layer, uint64_t expert, char *out, size_t room);

/* The GGUF key of an entry, for that architecture, into `room` bytes with a terminator; false when it does not fit. */
bool apr_kv_spell(const struct apr_kv *k, struct apr_bytes architecture, char *out, size_t room);

#endif
