/* The parts of apr-diff. */
#ifndef APR_DIFF_H
#define APR_DIFF_H

#include "base/arena.h"
#include "base/core.h"
#include "base/hash.h"
#include "family/bind.h"
#include "flow/selection.h"
#include "tolerance.h"
#include "ui/cli.h"
#include "ui/report.h"

/* ---- what the user wants -------------------------------------------------------------------------------------------- */

enum sort_key { SORT_NAME, SORT_COSINE, SORT_RMSE, SORT_MAX };

struct options {
    struct apr_cli       cli;
    struct apr_selection selection;
    struct bounds        bounds;        /* where no rule matches */
    struct rules         rules;
    uint64_t             limit, top, rows;
    uint64_t             worst;         /* 0: all rows, in their order */
    bool                 failed, summary;
    uint64_t             part, nparts;  /* the part-th of nparts, from 1; 0 of 0: all */
    bool                 structure, metadata, subset, merge, jsonl, no_transpose, transpose_aware, raw_codes;
    unsigned             sort;
    bool                 discover;
    const char          *draft;         /* the contract to write of what was discovered, or NULL */
    const char          *html;          /* the page to write, or NULL */
    const char          *tolerances;    /* the file that rules come from, or NULL */
    const char          *stage_map;     /* the file that says which names are which stages, or an embedded map; NULL: the usual one */
};

/* ---- what belongs to what ------------------------------------------------------------------------------------------- */

/* A tensor of A and what it is compared with: b as it lies or, through a family, B's tensors of the same role in A's order.
 *   name       of its row: a's, but that of b for a placeholder of a head that A does not have
 *   b          the first of B's tensors
 *   view       NULL: b as it lies; else `own` is how a's own values change, and dim the shape that both have then
 *   part       npart of B's tensors that p->view does not have, as where the two do not fit
 *   before     elements of A before the first that is compared; left_out: rows that only one side has
 *   transform  the transforms between the two, "rope_permute"; NULL for none
 *   problem    why the two cannot be compared although they belong together, or NULL */
struct pair {
    const struct apr_tensor *a, *b;
    struct apr_bytes         name;
    const struct apr_view   *view, *own;
    const struct apr_tensor *const *part;
    size_t                   npart;
    uint64_t                 dim[APR_MAX_DIMS], before, left_out;
    unsigned                 ndim;
    const char              *transform, *problem;
};

/* The parts of B that some element of a lies in: n of them from the pointer on. */
const struct apr_tensor *const *parts_met(const struct pair *p, size_t *n);

/* An unmatched tensor that does not fail the verdict, and why not. */
struct excuse {
    struct apr_bytes name;
    bool             of_b;
    const char      *reason;
};
extern const char *const excuse_words[]; /* all reasons; NULL-terminated */

/* Why the absence of a match for a tensor of a model is excused, or NULL. b: of it, or NULL; gguf: the other model is one. */
const char *excuse_of(const struct apr_model *m, const struct apr_binding *b, const struct apr_tensor *t, bool gguf);

/* codes: what is compared are codes, since that is wished for, or they are not understood. */
struct models {
    const struct apr_model *a, *b;
    bool                    codes;
};

/* Twins in byte order of A's names, and what has none, likewise in order. Views into the models. */
struct match {
    struct pair             *pair;
    struct apr_bytes        *only_a, *only_b;
    struct excuse           *excused;   /* those of A, then those of B, in order */
    size_t                   npair, nonly_a, nonly_b, nexcused;
    bool                     unmatched; /* a tensor without a twin fails the verdict */
    struct apr_bytes         unknown;   /* a class that a model names and no contract knows; empty when a family was found */
    unsigned                 unknown_of; /* which of the two names it */
    const char              *note;      /* what a reader must know of the numbers, or NULL */
    const struct apr_family *either[2]; /* two families that the names fit and that disagree; NULL when it is clear */
    struct apr_binding      *binding[2];
    struct apr_arena        *arena;     /* what pairs point to */
    struct apr_digest        plan;      /* of a share: what all of them agree on */
};

/* Pairs by name, or through the models' family; filtered, limited and partitioned as the options say. APR_EARG when a filter matches
 * nothing. Free with free_match. */
APR_MUST_CHECK enum apr_code match_models(struct match *m, const struct options *o, const struct models *models, struct apr_error *e);
void free_match(struct match *m);

/* ---- one compared tensor -------------------------------------------------------------------------------------------- */

/* Sums over all finite pairs, counts over all pairs. max_at is an index in A. */
struct sums {
    double   ab, aa, bb, d, dd, max;
    uint64_t max_at, identical, small, medium, large, nonfinite;
};

/* An element that differs; diff is infinite where one side is not finite. */
struct worst {
    uint64_t index;
    double   a, b, diff;
};

/* The blocks around an element of a merged row, as JSON, or empty. */
struct worst_blocks {
    struct apr_bytes a, b;
};

struct worst_row {
    uint64_t row, nonfinite;
    double   rmse, max, cosine;
};

enum layout { LAYOUT_SAME, LAYOUT_REVERSED, LAYOUT_TRANSPOSED, LAYOUT_RESHAPED, LAYOUT_INCOMPATIBLE };
/* The bounds that a row may break, a bit each, in the order in which a report names them. */
enum failure { FAILED_COSINE, FAILED_SCALE, FAILED_SQNR, FAILED_MAX_ABS, FAILED_RMSE, FAILED_NONFINITE, FAILED_SHAPE, FAILED_LAYOUT, FAILED_VALUES,
               NFAILURES };

enum status { STATUS_IDENTICAL, STATUS_NEARLY, STATUS_SMALL, STATUS_MEDIUM, STATUS_LARGE, STATUS_CRITICAL, STATUS_TRANSPOSED, NSTATUS };

/* A row of the report. A quantity that does not exist is NAN. top and rows are valid only while it is being taken. */
struct row {
    struct apr_bytes        name, name_b;
    uint64_t                dim_a[APR_MAX_DIMS], dim_b[APR_MAX_DIMS];
    unsigned                ndim_a, ndim_b;
    const char             *dtype_a, *dtype_b, *transform;
    const char             *error, *problem;           /* why values could not be decoded; why the two do not fit; or NULL */
    enum layout             layout;
    enum status             status;
    struct sums             sums;
    uint64_t                count;                     /* elements */
    double                  cosine, cosine_linear, cosine_transposed, rmse, mean, sqnr, norm_ratio;
    unsigned                failed;                    /* bits of enum failure */
    bool                    pass, ignored, below;      /* below: under its cosine bound */
    const struct pair      *pair;                      /* NULL for a row of a merged share, which has top as JSON in top_raw */
    struct apr_bytes        top_raw, parts_raw[2];     /* so are parts_a, parts_b; empty where it had none */
    uint64_t                left_out;                  /* rows that only one side has */
    const struct worst     *top;
    const struct worst_blocks *blocks;                 /* of a merged share's top */
    size_t                  ntop;
    const struct worst_row *rows;
    size_t                  nrows;
};

/* Were values compared at all? */
static inline bool was_compared(const struct row *r) { return r->layout != LAYOUT_INCOMPATIBLE && r->error == NULL; }

typedef enum apr_code row_fn(void *ctx, const struct row *row, struct apr_error *e);

/* Compares all pairs and hands the rows to `take` on this thread, in order. */
APR_MUST_CHECK enum apr_code models_unchanged(const struct models *models, struct apr_error *e); /* to be asked before the verdict */
APR_MUST_CHECK enum apr_code compare_pairs(const struct options *o, const struct models *models, const struct pair *pair, size_t npair,
                                           row_fn *take, void *ctx, struct apr_error *e);

double cosine_of(const struct sums *s);

/* ---- metadata ------------------------------------------------------------------------------------------------------- */

/* One metadata key of either model; the value of the side that lacks it is NULL. */
struct key_pair {
    struct apr_bytes        key;
    const struct apr_value *a, *b;
};

/* All keys of both, by name; *n of them. The caller frees it with free; NULL when memory is out. */
struct key_pair *pair_keys(const struct apr_meta *a, const struct apr_meta *b, size_t *n);

/* A key whose values differ. a, b: as JSON; of two arrays, their elements at `first`, where they first differ, empty on the side that has
 * none. type_a, type_b: the words of --metadata. ndiffer: elements of two arrays. */
struct key_difference {
    struct apr_bytes key, type_a, type_b, a, b;
    bool             arrays;
    uint64_t         first, ndiffer, length_a, length_b;
};

/* How the metadata of two models differs; all of it lives in the arena. Free with free_metadata. */
struct metadata {
    struct key_difference *difference;
    struct apr_bytes      *only_a, *only_b;
    size_t                 ndifference, nonly_a, nonly_b;
    uint64_t               identical;
    struct apr_arena      *arena;
};
APR_MUST_CHECK enum apr_code compare_metadata(struct metadata *d, const struct apr_meta *a, const struct apr_meta *b, struct apr_error *e);
void free_metadata(struct metadata *d);

/* As a member of a report, {} for NULL; for people. */
void write_metadata(struct apr_out *j, const char *key, const struct metadata *d);
void print_metadata(const struct metadata *d);

/* ---- what changes a forward pass ------------------------------------------------------------------------------------- */

/* What a side states. file: beside the model, empty for metadata; key: empty where the contract's default counts; value: as JSON, empty
 * for none. */
struct stated {
    struct apr_bytes file, key, value;
};
struct config_difference {
    struct apr_bytes name; /* for people: "rope base" */
    struct stated    side[2];
};

/* Begin with zeros; texts live in the arena. Free with free_config. */
struct config {
    struct config_difference *difference;
    size_t                    n, room;
    struct apr_arena         *arena;
};
APR_MUST_CHECK enum apr_code compare_config(struct config *c, const struct options *o, const struct apr_model *a, const struct apr_model *b,
                                            struct apr_error *e);
void free_config(struct config *c);

/* As a member of a report; for people. */
void write_config(struct apr_out *j, const char *key, const struct config *c);
void print_config(const struct config *c);

/* ---- output --------------------------------------------------------------------------------------------------------- */

extern const char *const layout_words[LAYOUT_INCOMPATIBLE + 1];
extern const char *const status_words[NSTATUS];
extern const char *const failure_words[NFAILURES];

/* What a report is about. unmatched: a tensor without a twin fails the verdict, or config that differs. */
struct subject {
    const char          *model_a, *model_b, *format_a, *format_b;
    bool                 unmatched;
    const struct config *config;
};

/* What the rows add up to. min_cosine is NAN while there is none; names are copies. first_error: of a row, NULL while there is none. */
struct summary {
    uint64_t    compared, count[NSTATUS], below, failed;
    double      min_cosine;
    char       *min_name, *error_name;
    const char *first_error;
};

struct page;
struct discovery;

/* A report being written to stdout, as text, JSON or JSON Lines, and into a page. */
struct output {
    const struct options *o;
    struct subject        subject;
    struct apr_out        json;
    struct apr_report     report, page_report; /* of the page: while there is one */
    struct summary        sum;
    struct text_row      *kept;        /* text rows that wait to be sorted */
    size_t                nkept, room;
    struct page          *page;        /* or NULL */
};

/* A failure is that of the page; the report is then to be ended with fail_report. */
APR_MUST_CHECK enum apr_code begin_report(struct output *out, const struct options *o, const struct subject *subject, struct apr_error *e);

/* A row_fn. */
enum apr_code report_row(void *output, const struct row *row, struct apr_error *e);

/* Ends the report; found, metadata: or NULL. Returns the exit code. */
int end_report(struct output *out, const struct match *m, const struct discovery *found, const struct metadata *metadata);

/* Does the report say Pass, as far as it has come? */
bool passes(const struct output *out);

/* A row as an object of out->o's keys, whose brackets are written by others; as text. */
void write_row(struct apr_out *j, const struct options *o, const struct row *r);
void print_row(FILE *to, const struct options *o, const struct row *r);
void print_columns(const struct options *o); /* the line above rows */

/* A name and the end of the line, behind `at` columns; below them where it would be too long. */
void print_behind(const struct options *o, size_t at, struct apr_bytes name);

/* The block of a side that holds an element of A: false where the type has none, or it is not little-endian. */
bool find_block(const struct row *r, uint64_t index, bool of_b, const struct apr_tensor **t, const unsigned char **block);

/* Closes what apr_memstream opened; false when memory was out: then *text, which began as NULL, may still be NULL. */
bool close_text(FILE *to, char *const *text);

/* Names under a key, and one a line behind a word. */
void write_names(struct apr_out *j, const char *key, const struct apr_bytes *name, size_t n);
void print_names(const char *what, const struct apr_bytes *name, size_t n);

/* Ends a report that failed: the JSON object is closed with the error as its last key, and it is told on stderr. Returns the exit code. */
int fail_report(struct output *out, const struct apr_error *e);

/* For a failure before any report began: {"schema": ..., "error": ...} with --json, and stderr. Returns the exit code. */
int fail_early(const struct options *o, const char *schema, const struct apr_error *e);

/* ---- the page (--html) ----------------------------------------------------------------------------------------------- */

/* Begins the page at o->html. *page is to be freed with free_page, after a failure too; without end_page nothing remains of it. */
APR_MUST_CHECK enum apr_code begin_page(struct page **page, const struct options *o, const struct subject *subject, struct apr_error *e);
void free_page(struct page *page); /* NULL is nothing */

/* Where the report goes that the page holds, as JSON; its rows are given to page_row too. */
struct apr_out *page_data(struct page *page);
APR_MUST_CHECK enum apr_code page_row(struct page *page, const struct row *r, struct apr_error *e);

/* Writes the rest and puts the page into its place. why: the error the report ends with, or NULL. */
APR_MUST_CHECK enum apr_code end_page(struct page *page, const struct output *out, const struct match *m, bool pass, const struct apr_error *why,
                                      struct apr_error *e);

/* ---- other reports -------------------------------------------------------------------------------------------------- */

/* Each returns the exit code. */
int diff_structure(struct options *o, const struct apr_model *a, const struct apr_model *b);
int diff_traces(struct options *o, const struct apr_model *a, const struct apr_model *b);
int merge_shares(struct options *o);

#endif
