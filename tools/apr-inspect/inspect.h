/* The parts of apr-inspect. */
#ifndef APR_INSPECT_H
#define APR_INSPECT_H

#include "base/core.h"
#include "base/hash.h"
#include "family/bind.h"
#include "family/kind.h"
#include "family/packing.h"
#include "flow/selection.h"
#include "model/hf_config.h"
#include "ui/cli.h"
#include "ui/report.h"
#include "values/packed.h"
#include "values/stats.h"

/* ---- what the user wants -------------------------------------------------------------------------------------------- */

enum check_kind { CHECK_NONE, CHECK_ALL, CHECK_FAST };

struct options {
    struct apr_cli       cli;
    struct apr_selection selection;
    bool                 tensors, metadata, full, stats, hash, tree, tokenizer, hex, blocks, textconv, partial;
    enum check_kind      check;
    struct apr_texts     get;
    const char          *tensor, *slice, *html, *manifest, *verify; /* NULL: not asked for */
    uint64_t             depth;                                            /* of the tree; 0: all */
    const char          *partition;
    uint64_t             part, nparts;  /* the part-th of nparts, from 1; 0 of 0: all */
    bool                 merge, filtered; /* filtered: some of the tensors are no model */
};

/* ---- a model under inspection --------------------------------------------------------------------------------------- */

/* One thing that is wrong, or worth a word. stage 1..10 (cli.md 3.1). code is stable ("gguf.gap") and listed in docs/findings.md. */
struct finding {
    enum apr_severity severity;
    unsigned          stage;
    const char       *code;
    struct apr_bytes  tensor;  /* or empty */
    const char       *text;    /* printable */
};

struct findings {
    struct finding   *at;
    size_t            n, room;
    struct apr_arena *arena; /* of the texts */
};

struct inspection {
    const struct options    *o;
    const char              *path;
    struct apr_model        *m;        /* as it is without packing, where there is any */
    struct apr_model        *opened;   /* as it is stored */
    enum apr_model_kind      kind;
    struct apr_bytes         family_name; /* empty: not known */
    const struct apr_family *family;   /* NULL: not known, or not asked for */
    struct apr_packing      *packing;  /* NULL: the weights are stored as they are */
    struct apr_binding      *binding;  /* of m; NULL: not known, or not asked for */
    struct apr_hf_config       *config;   /* of config.json; NULL: there is none, or config_error says what is wrong with it */
    struct apr_error         config_error;
    struct findings          findings;
    bool                    *chosen;   /* of the model's tensors: those that --filter leaves */
    bool                    *mine;     /* of those, with --partition: those of this share; else NULL */
    struct measured         *measured; /* of a share, by check_values, or NULL */
};

/* Opens the model at path and finds its family; binds it where an option asks for that. Close it with end_inspection, after a failure
 * too. */
APR_MUST_CHECK enum apr_code begin_inspection(struct inspection *x, const struct options *o, const char *path, struct apr_error *e);
void end_inspection(struct inspection *x);

/* What the file itself says it is: general.architecture, config.json's architectures or model_type, APR's hf_architecture. Or empty. */
struct apr_bytes architecture_of(const struct inspection *x);

/* "2.0"; "" where the format has no version. */
static inline const char *version_of(const struct apr_model *m) { return m->version == NULL ? "" : m->version; }

/* What the file itself has for a tensor: for a placeholder no bytes, which APR calls F32; for a packed one codes and what undoes them. */
static inline uint64_t stored_bytes(const struct apr_tensor *t) { return t->tied ? 0 : t->packed != NULL ? t->packed->bytes : t->data.n; }
static inline const struct apr_dtype *stored_dtype(const struct apr_tensor *t) { return t->tied ? &apr_dtypes[APR_F32] : t->dtype; }

/* The members of config.json as metadata, free at->entry; none when it is absent or broken. */
APR_MUST_CHECK enum apr_code config_metadata(const struct inspection *x, struct apr_meta *config, struct apr_error *e);

/* Adds a finding, which the table knows; the text is formatted and made printable, and names the
 * tensor first where it does not name it. */
APR_MUST_CHECK enum apr_code add_finding(struct findings *f, const char *code, struct apr_bytes tensor, struct apr_error *e,
                                         const char *format, ...) APR_PRINTF(5, 6);

/* One whose severity depends on the case, within what the table says. */
APR_MUST_CHECK enum apr_code add_finding_as(struct findings *f, enum apr_severity severity, const char *code, struct apr_bytes tensor,
                                            struct apr_error *e, const char *format, ...) APR_PRINTF(6, 7);
void free_findings(struct findings *f);

/* Is the model's tensor chosen by --filter? */
bool is_chosen(const struct inspection *x, const struct apr_tensor *t);

/* And does this run read it? A share has some of them. */
bool is_mine(const struct inspection *x, const struct apr_tensor *t);

/* ---- scan.c: everything that reads tensor data, in one pass, in parallel, rows in the order of the file's index ------ */

/* What one tensor was found to be. stats and hash are filled when they were asked for. */
struct scanned {
    const struct apr_tensor *t;
    struct apr_stats         stats;
    struct apr_digest        hash, value_hash;
    bool                     decodable;
};

typedef enum apr_code scan_fn(void *ctx, const struct scanned *row, struct apr_error *e);

enum { SCAN_STATS = 1, SCAN_HASH = 2 };

/* Reads the chosen tensors and calls take for each, on this thread, in the model's order. */
APR_MUST_CHECK enum apr_code scan_tensors(const struct inspection *x, unsigned what, scan_fn *take, void *ctx, struct apr_error *e);

/* ---- check.c: the ten stages ----------------------------------------------------------------------------------------- */

/* Runs the stages that o->check asks for and adds what it finds, worst first nowhere: in order of stage. */
APR_MUST_CHECK enum apr_code check_model(struct inspection *x, struct apr_error *e);

/* For a file that could not be opened: the finding that its error amounts to (stage and code from what the error says). */
APR_MUST_CHECK enum apr_code finding_of_error(struct findings *f, const struct apr_error *why, struct apr_error *e);

/* ---- show.c and its neighbours: each returns the exit code ----------------------------------------------------------- */

int print_partial(const struct inspection *x);  /* --partial: how much is there; 1 when that is not all */
int show_overview(struct inspection *x);   /* with no option; one screen */
int show_json(struct inspection *x);       /* --json with anything: one object */
int show_tensors(struct inspection *x);    /* --tensors, --stats, --hash as text */
int show_metadata(struct inspection *x);
int show_value(struct inspection *x);      /* --get */
int show_tree(struct inspection *x);
int show_tokenizer(struct inspection *x);
int show_tensor(struct inspection *x);     /* --tensor [--slice] [--hex] [--blocks] */
int show_findings(struct inspection *x);   /* --check as text; 1 when a finding is a fault */
int print_findings(const struct options *o, const struct findings *f); /* the same of findings that were made */
int show_textconv(struct inspection *x);   /* --textconv */
/* The same of what is no model, since git gives up a whole diff for one exit code. */
int show_unreadable(const struct options *o, const char *path, const struct apr_error *why);
int write_manifest(struct inspection *x);  /* --manifest */
int verify_manifest(struct inspection *x); /* --verify */
int write_page(struct inspection *x);      /* --html */

/* For a model that could not be opened: {"schema", "files", "findings" (with --check), "error"}, and the error on stderr. */
int fail_json(struct inspection *x, struct apr_error *why);

/* For what goes wrong before any model is looked at. */
int fail_run(const struct options *o, struct apr_error *e);

/* Is there a hash of the model? Some of its tensors are no model. */
bool has_model_hash(const struct options *o);

/* ---- merge.c: --merge, of which the operands are shares; returns the exit code ------------------------------------------ */

int merge_shares(struct options *o);

/* ---- members of the JSON object ------------------------------------------------------------------------------------- */

/* Opens the object with what is known of any file; all that x->o asks for; one row of "tensors". */
struct apr_report begin_object(struct apr_out *j, const struct inspection *x);
APR_MUST_CHECK enum apr_code write_members(struct apr_out *j, struct inspection *x, int *exit_code, struct apr_error *e);
void write_row(struct apr_out *j, const struct inspection *x, const struct scanned *row);

int write_findings(struct apr_out *j, const struct findings *f); /* "findings"; 1 when one is a fault */
APR_MUST_CHECK enum apr_code write_tensors(struct apr_out *j, struct inspection *x, struct apr_error *e);
APR_MUST_CHECK enum apr_code write_tree(struct apr_out *j, const struct inspection *x, struct apr_error *e);
APR_MUST_CHECK enum apr_code write_tokenizer(struct apr_out *j, const struct inspection *x, struct apr_error *e);
APR_MUST_CHECK enum apr_code write_tensor(struct apr_out *j, const struct inspection *x, struct apr_error *e);   /* --tensor */
APR_MUST_CHECK enum apr_code write_value(struct apr_out *j, const struct inspection *x, bool *found, struct apr_error *e); /* --get */
APR_MUST_CHECK enum apr_code write_metadata(struct apr_out *j, const struct inspection *x, struct apr_error *e);

/* ---- for people ----------------------------------------------------------------------------------------------------- */

/* 1344768 -> "1.34M": three digits and k, M, B (billion), T. */
const char *spell_count(uint64_t n, char buffer[32]);

/* The shortest spelling of a float that reads back. */
const char *spell_float(double v, char buffer[32]);

/* What the number at general.file_type stands for; NULL for any other key or number. */
const char *file_type_of(struct apr_bytes key, const struct apr_value *v);

/* One value in at most about `columns` columns, made safe; longer ones end in "...". */
void print_value(FILE *to, const struct apr_value *v, size_t columns);

#endif
