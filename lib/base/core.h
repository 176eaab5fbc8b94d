/* The nouns of the project, and nothing that does anything. */
#ifndef APR_CORE_H
#define APR_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define APR_MUST_CHECK   __attribute__((warn_unused_result))
#define APR_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* A range of bytes that someone else owns. */
struct apr_bytes {
    const unsigned char *at;
    size_t               n;
};

/* n keys with their values (lib/base/table.h). */
struct apr_table {
    struct apr_table_entry *entry;
    struct apr_table_slot  *slot;
    size_t                  n, room, nslot;
};

/* ---- errors -------------------------------------------------------------------------------------------------------- */

enum apr_code {
    APR_OK,
    APR_EIO,          /* the system refused: open, map, read, write, thread */
    APR_ECORRUPT,     /* the file breaks a rule of its format */
    APR_EUNSUPPORTED, /* sound as far as seen, but of a kind that is not read */
    APR_ELIMIT,       /* larger or deeper than is accepted from a file */
    APR_ENOMEM,
    APR_EARG,         /* the caller's wish makes no sense for this model */
};

#define APR_NOWHERE UINT64_MAX

/* What went wrong. text and file hold only what may be shown (apr_shown_length), so they can be printed anywhere.
 *   at       byte offset in file, or APR_NOWHERE
 *   finding  what a checker calls it ("gguf.dup_name", lib/model/findings.c), NULL when it is no word about a file
 *   tensor   the name of the one that it is about, as it is, or empty: there is none, or the name is longer
 *   file     the path as the user would know it, "" while nobody has said */
struct apr_error {
    enum apr_code code;
    const char   *finding;
    uint64_t      at;
    size_t        tensor_bytes;
    unsigned char tensor[256];
    char          file[768];
    char          text[768];
};

/* Forwards a failure when there is nothing to undo. */
#define APR_TRY(call)                             \
    do {                                          \
        const enum apr_code apr_try_code = (call);\
        if (apr_try_code != APR_OK)               \
            return apr_try_code;                  \
    } while (0)

/* Fills e, returns code. The text is formatted, then made printable. */
enum apr_code apr_fail(struct apr_error *e, enum apr_code code, uint64_t at, const char *format, ...) APR_PRINTF(4, 5);

/* The same about a tensor: the text is `tensor "NAME"` with what the format gives right behind it, and e knows the name. */
enum apr_code apr_fail_tensor(struct apr_error *e, enum apr_code code, uint64_t at, struct apr_bytes name, const char *format, ...)
    APR_PRINTF(5, 6);

/* Returns code. When that is a fault of the file which has no name yet, it gets this one: the innermost call names it. */
enum apr_code apr_found(enum apr_code code, struct apr_error *e, const char *finding);

/* APR_ENOMEM with a text. */
enum apr_code apr_no_memory(struct apr_error *e);

/* Says which file e is about, unless that is said already. */
void apr_error_in(struct apr_error *e, const char *path);

/* "io", "corrupt", "unsupported", "limit", "memory", "argument": the code's word in JSON. */
const char *apr_code_word(enum apr_code code);

/* A name for a message: in double quotes, what may not be shown as \xNN, cut with "..." when long.
 *   apr_fail(e, APR_ECORRUPT, at, "tensor %s has ...", APR_QUOTED(t->name)) */
struct apr_quoted {
    char text[176];
};
const char *apr_quote(struct apr_quoted *q, struct apr_bytes name);
#define APR_QUOTED(name) apr_quote(&(struct apr_quoted){ "" }, (name))

/* The length of the well-formed UTF-8 character at s (n bytes are left), 0 when it is none. */
size_t apr_utf8_length(const unsigned char *s, size_t n);

/* That length when the character may be shown to a person as it is; 0 for bad UTF-8 and for what commands a terminal or turns the
 * direction of writing: C0, DEL, C1, line and paragraph separators, the bidirectional marks, embeddings, overrides and isolates. All that
 * was read from somewhere and is printed asks here, and prints byte by byte as \xNN (in JSON: as \u) what may not be shown. */
size_t apr_shown_length(const unsigned char *s, size_t n);

/* ---- dtypes -------------------------------------------------------------------------------------------------------- */

enum apr_dtype_id {
    APR_F64, APR_F32, APR_F16, APR_BF16,
    APR_I64, APR_I32, APR_I16, APR_I8, APR_U64, APR_U32, APR_U16, APR_U8, APR_BOOL, APR_C64,
    APR_F8_E4M3, APR_F8_E5M2, APR_F8_E4M3FNUZ, APR_F8_E5M2FNUZ, APR_F8_E8M0, APR_F6_E2M3, APR_F6_E3M2, APR_F4,
    APR_Q4_0, APR_Q4_1, APR_Q5_0, APR_Q5_1, APR_Q8_0, APR_Q8_1,
    APR_Q2_K, APR_Q3_K, APR_Q4_K, APR_Q5_K, APR_Q6_K, APR_Q8_K,
    APR_IQ1_S, APR_IQ1_M, APR_IQ2_XXS, APR_IQ2_XS, APR_IQ2_S, APR_IQ3_XXS, APR_IQ3_S, APR_IQ4_NL, APR_IQ4_XS,
    APR_TQ1_0, APR_TQ2_0, APR_MXFP4, APR_NVFP4, APR_Q1_0, APR_Q2_0,
    APR_APR_Q4, APR_APR_Q8,
    APR_FP8_TENSOR, APR_FP8_CHANNEL, APR_FP8_GROUP, APR_FP8_BLOCK, APR_INT8_TENSOR, APR_INT8_CHANNEL, APR_INT8_GROUP, APR_INT8_BLOCK,
    APR_BNB_INT8, APR_NF4, APR_FP4, APR_GPTQ2, APR_GPTQ3, APR_GPTQ4, APR_GPTQ8, APR_AWQ4,
    APR_CT_INT2, APR_CT_INT3, APR_CT_INT4, APR_CT_INT5, APR_CT_INT6, APR_CT_INT7, APR_CT_INT8,
    APR_MLX2, APR_MLX3, APR_MLX4, APR_MLX5, APR_MLX6, APR_MLX8,
    APR_NDTYPES,
};

enum apr_field_kind { APR_FIELD_U8, APR_FIELD_I8, APR_FIELD_U16, APR_FIELD_I16, APR_FIELD_U32, APR_FIELD_F16, APR_FIELD_F32 };

/* One field of a block: n values of one kind, from byte `at` of the block. */
struct apr_field {
    const char         *name;
    enum apr_field_kind kind;
    uint16_t            at, n;
};
#define APR_MAX_FIELDS 6

/* What the numbers are: all that is no integer is real. */
enum apr_kind { APR_REAL, APR_SIGNED, APR_UNSIGNED, APR_BOOLEAN };

struct apr_kernels;
enum apr_isa { APR_SCALAR, APR_NEON, APR_AVX2, APR_AVX512, APR_NISA };

/* A row of the dtype table (lib/values/dtype.c). Plain types have block 1 and the field list { "", kind, 0, 1 } or none.
 *   block, bytes  elements of a block, and its bytes
 *   head          bytes before the first block, once per tensor (APR_Q8: its f32 scale)
 *   flat          blocks run over the whole tensor; else each row (the last dimension) holds whole blocks
 *   wide          values need a double: decode_wide, not decode
 *   native        they are stored as the floats, or doubles, that decoding gives
 *   ncode         256 or 65536 when each element is a code of one or two bytes, whose lower half rises or falls in value, and so does
 *                 the upper half; else 0
 *   pair          an element is two numbers of this dtype (the parts of a complex one); else NULL
 *   packed        a kind of weight that the hub's checkpoints hold as several tensors (values/packed.h), in no file a type: it has no
 *                 ids, no kernels, and a block says nothing of its bytes
 *   decoded       packed, and a GGUF gets its values unasked, as from llama.cpp's converter
 *   ggml, apr     id in a GGUF, dtype byte in an APR file, -1 when it has none
 *   safetensors   name there, NULL when it has none */
struct apr_dtype {
    const char      *name;
    uint16_t         block, bytes;
    uint8_t          head;
    bool             flat, wide, native, packed, decoded;
    enum apr_kind    kind;
    uint32_t         ncode;
    int16_t          ggml, apr;
    const char      *safetensors;
    struct apr_field field[APR_MAX_FIELDS];
    const struct apr_dtype *pair;
    void           (*init)(struct apr_kernels *, enum apr_isa);
};

extern const struct apr_dtype apr_dtypes[APR_NDTYPES];

/* ---- tensors, models ----------------------------------------------------------------------------------------------- */

#define APR_MAX_DIMS 8

struct apr_computation;
struct apr_packed;
struct apr_source;
struct apr_format;

/* One tensor as stored. It owns nothing: name and data point into the model and live as long as it does.
 *   dim      slowest first, so a linear layer is [out, in] in every format (GGUF's order is turned round on reading)
 *   count    elements, the product of dim; 1 for a scalar (ndim 0)
 *   row      elements after which a fresh block begins: count, but dim[ndim - 1] where rows are padded to whole blocks
 *   data     dtype's encoding of count elements, row-major; NOT aligned: load with memcpy or loadu, never through a cast
 *   file     index of the file it lies in
 *   swapped  multi-byte fields are big-endian
 *   tied     an APR placeholder: data and dtype are those of the embedding it is tied to
 *   packed   NULL: it is stored as it is. Else data are codes, and this says what stands for values with them (values/packed.h); row is
 *            what one row of codes gives. Who compares or copies stored bytes asks for it first
 *   computed NULL: a file holds it. Else nothing is stored and data is empty: its values are made where an input reads them
 *            (flow/computed.h); dtype is what they are to be */
struct apr_tensor {
    struct apr_bytes        name;
    const struct apr_dtype *dtype;
    unsigned                ndim, file;
    uint64_t                dim[APR_MAX_DIMS];
    uint64_t                count, row;
    struct apr_bytes        data;
    bool                    swapped, tied;
    const struct apr_packed *packed;
    const struct apr_computation *computed;
};

/* Something a reader accepted but a checker will want to hear of. code is stable ("gguf.gap"); text is printable. */
enum apr_severity { APR_INFO, APR_WARNING, APR_FAULT };
struct apr_note {
    enum apr_severity severity;
    unsigned          stage;  /* enum apr_stage, lib/model/findings.h */
    const char       *code;
    struct apr_bytes  tensor; /* or empty */
    unsigned          file;
    uint64_t          at;
    const char       *text;
};

enum apr_meta_type {          /* the first 13 are GGUF's ids */
    APR_META_U8, APR_META_I8, APR_META_U16, APR_META_I16, APR_META_U32, APR_META_I32, APR_META_F32, APR_META_BOOL,
    APR_META_STRING, APR_META_ARRAY, APR_META_U64, APR_META_I64, APR_META_F64,
    APR_META_NULL, APR_META_OBJECT, APR_META_ANY, /* JSON only; ANY is the element type of its arrays */
};
enum apr_encoding { APR_GGUF_LE, APR_GGUF_BE, APR_JSON };

/* One metadata value. Integers of all widths stand in u (unsigned) or i (signed), both floats in f.
 *   text      STRING: its bytes, decoded. ARRAY, OBJECT: as encoded, for apr_elements. JSON numbers: as spelled; else empty
 *   element,
 *   n         ARRAY: the type of its elements and their number (APR_META_ANY and counted when asked, for JSON: see apr_meta_length) */
struct apr_value {
    enum apr_meta_type type, element;
    enum apr_encoding  encoding;
    union {
        uint64_t u;
        int64_t  i;
        double   f;
        bool     b;
    };
    uint64_t         n;
    struct apr_bytes text;
};

struct apr_meta_entry {
    struct apr_bytes key;
    struct apr_value value;
};

/* Metadata in file order; views into the model. */
struct apr_meta {
    struct apr_meta_entry *entry;
    size_t                 n, room;
};

/* One open model: its maps, its tensors in file order, its metadata. Close with apr_close. */
struct apr_model {
    const struct apr_format *format;
    const char              *version;  /* "2.0", "3"; "" where the format has none */
    struct apr_source      **file;
    size_t                   nfile;
    struct apr_source       *config;   /* config.json beside a checkpoint, or NULL */
    struct apr_source       *quant_config; /* hf_quant_config.json likewise */
    struct apr_tensor       *tensor;
    size_t                   ntensor, tensor_room;
    bool                     partial;  /* tensors whose data is not all in the file are left out and counted, the first named: */
    size_t                   ncut;
    uint64_t                 cut_bytes;
    struct apr_bytes         first_cut;
    struct apr_meta          meta;
    struct apr_note         *note;
    size_t                   nnote, note_room;
    struct apr_arena        *arena;
    struct apr_table         by_name;  /* of each tensor: its index */
};

/* ---- running ------------------------------------------------------------------------------------------------------- */

struct apr_progress;
struct apr_remote;

/* What a tool hands down: how to run, never what to compute. */
struct apr_run {
    unsigned                  threads;  /* at least 1 */
    const struct apr_kernels *kernels;
    struct apr_progress      *progress; /* or NULL */
    const char               *tmpdir;   /* where spooled and inflated bytes go, in unlinked files; NULL: memory */
    struct apr_remote        *remote;   /* how addresses are read (files/remote.h), or NULL: they are not */
};

/* ---- sizes --------------------------------------------------------------------------------------------------------- */

/* *out = a * b, a + b, a rounded up to a multiple of `to`; false when it does not fit 64 bits. */
static inline bool apr_mul(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool apr_add(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_add_overflow(a, b, out); }
static inline bool apr_round_up(uint64_t a, uint64_t to, uint64_t *out)
{
    uint64_t up;
    if (!apr_add(a, to - 1, &up))
        return false;
    *out = up / to * to;
    return true;
}

static inline uint64_t apr_min(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t apr_ceil(uint64_t a, uint64_t b) { return a / b + (a % b != 0); }

#define APR_LENGTH(array) (sizeof(array) / sizeof(array)[0])

#endif
