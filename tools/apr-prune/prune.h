/* The parts of apr-prune. */
#ifndef APR_PRUNE_H
#define APR_PRUNE_H

#include "convert/conversion.h"
#include "convert/derived.h"
#include "family/packing.h"
#include "flow/computed.h"
#include "flow/threshold.h"
#include "model/imatrix.h"

/* ---- what the user wants -------------------------------------------------------------------------------------------- */

enum method { MAGNITUDE, WANDA, RANDOM };
enum scope { ROW, TENSOR, ROLE, MODEL };

#define MOST_NEIGHBOURS 256u /* of a pattern */

/* The command line.
 *   method, scope   indices into their words; scope is set when it is not given
 *   stay, of        of --pattern; of 0: none
 *   drop_from, drop_to  of --drop-layers; both 0: not given */
struct options {
    struct apr_convert_options to;
    unsigned                   method, scope, by;
    bool                       scope_given, seeded, sparse, counted, report;
    double                     sparsity;
    const char                *pattern, *imatrix, *drop_layers, *tokens_file;
    uint64_t                   stay, of, seed, drop_count, drop_from, drop_to;
    struct apr_texts           matches, skips;
    struct apr_patterns       *match, *skip;
};

static inline bool zeroes(const struct options *o) { return o->sparse || o->pattern != NULL; }
static inline bool drops(const struct options *o) { return o->drop_layers != NULL || o->counted; }

/* ---- a matrix that is pruned ---------------------------------------------------------------------------------------- */

/* Which of a row's elements become zero: a cutoff (flow/threshold.h) in half the room. */
struct row_cut {
    uint32_t key, end;
};

/* What pruning does to a matrix: zeros afterwards; sums of squares of all elements and of those that stay, and with importance, each times
 * the root mean square of its input, of all and of those that go. */
struct damage {
    uint64_t zeros;
    double   all, kept, weighed, lost;
};

/*   computation  first: what the tensor is computed from in the pruned model
 *   t, before    the tensor as its class has it; what stands for it in the source
 *   gguf         its name in a GGUF, which an importance matrix goes by; its own where nothing tells
 *   group        the number of what it is for: those of a role compete in it
 *   high         rows of each matrix of a stack
 *   turned       stored as [in, out]: an input is a row, and what the options call a row is a column
 *   rms          of each input of each matrix of the stack: root mean squares; NULL: there are none
 *   key          of its random numbers
 *   cutoff, row  which elements go: of the whole, or of each row; neither where a pattern tells */
struct matrix {
    struct apr_computation   computation;
    const struct options    *o;
    const struct apr_tensor *t, *before;
    struct apr_input         in;
    struct apr_bytes         gguf;
    size_t                   group;
    uint64_t                 nrow, ncol, high, key;
    bool                     turned;
    const float             *rms;
    struct apr_cutoff        cutoff;
    struct row_cut          *row;
    struct damage            damage;
};

/* Inputs of each of its matrices, and outputs of all. */
static inline uint64_t inputs_of(const struct matrix *x) { return x->turned ? x->high : x->ncol; }
static inline uint64_t outputs_of(const struct matrix *x) { return x->turned ? x->nrow / x->high * x->ncol : x->nrow; }

/* ---- a run ---------------------------------------------------------------------------------------------------------- */

/*   opened     the model as it is stored; packing: what undoes its codes, or NULL; m: what it is without them
 *   source     of both the one that the pruned model is made of
 *   binding    NULL: no family tells of it
 *   matrix     in the model's order; groups: of what they are for, a number; prefixes: of names of layers, up to the number
 *   gone       of each of nlayer layers: it is dropped; NULL: none is. ngone of them
 *   influence  of each layer, NAN for the first; NULL: not measured
 *   pruned     the model of what is left; borrows m */
struct pruning {
    struct options        *o;
    struct apr_model      *opened, *m, *source;
    struct apr_packing    *packing;
    struct apr_binding    *binding;
    struct apr_imatrix    *imatrix;
    struct matrix         *matrix;
    size_t                 nmatrix;
    struct apr_table       groups, prefixes;
    uint32_t               nlayer, ngone;
    bool                  *gone;
    double                *influence;
    struct apr_derived     pruned;
    struct apr_conversion  conversion;
    struct apr_arena      *arena;
    bool                   written;
};

/* choose.c: which matrices, and what is known of each. APR_EARG names a pattern that matches none, a matrix that cannot be pruned so. */
APR_MUST_CHECK enum apr_code choose_matrices(struct pruning *p, struct apr_error *e);

/* importance.c: gives each matrix the root mean squares of its inputs; wanda wants them of all. */
APR_MUST_CHECK enum apr_code read_importance(struct pruning *p, struct apr_error *e);

/* score.c: scores of n <= APR_STRETCH elements at x, which are those from `first` on. And the values that are left of them: n elements,
 * floats, or doubles of a wide input. */
void score_elements(const struct matrix *x, const float *value, uint64_t first, size_t n, float *score);
void pruned_values(const struct apr_computation *c, struct apr_window *w, uint64_t first, size_t n, void *out);

/* Which of n elements become zero: those that lie from `first` on, of which value has the values. In whole groups where a pattern tells,
 * but for turned ones, whose neighbours are read. */
void find_zeros(const struct matrix *x, struct apr_window *w, const float *value, uint64_t first, size_t n, bool *zero);

/* Elements of a group that lie side by side; 1: there are no such groups. */
static inline uint64_t group_length(const struct matrix *x) { return x->o->of > 0 && !x->turned ? x->o->of : 1; }

/* With --nan-to-zero what is not finite becomes 0. */
void clean_numbers(const struct matrix *x, float *value, size_t n);

/* turned.c: finds the cutoffs of all columns of matrices that are turned. Which of n elements with these scores those take; which a pattern
 * takes. */
APR_MUST_CHECK enum apr_code rank_turned(struct pruning *p, struct apr_error *e);
void zeros_of_columns(const struct matrix *x, const float *score, uint64_t first, size_t n, bool *zero);
void zeros_by_turned_pattern(const struct matrix *x, struct apr_window *w, const float *score, uint64_t first, size_t n, bool *zero);

/* The same; then APR_EARG names the row and column of a value that is NaN. */
APR_MUST_CHECK enum apr_code check_numbers(const struct matrix *x, float *value, uint64_t first, size_t n, struct apr_error *e);

/* measure.c: finds what goes, group by group, and what that does to each matrix. */
APR_MUST_CHECK enum apr_code find_cutoffs(struct pruning *p, struct apr_error *e);
APR_MUST_CHECK enum apr_code measure_damage(struct pruning *p, struct apr_error *e);

/* layers.c: which layers go. */
APR_MUST_CHECK enum apr_code choose_layers(struct pruning *p, struct apr_error *e);

/* influence.c: how much each layer changes what goes through it. */
APR_MUST_CHECK enum apr_code measure_influence(struct pruning *p, struct apr_error *e);

/* left.c: the model of what is left. kinds.c: APR_EARG, or APR_EUNSUPPORTED, when its layers, by their new numbers, would not be what they
 * were. */
APR_MUST_CHECK enum apr_code make_pruned(struct pruning *p, struct apr_error *e);
APR_MUST_CHECK enum apr_code check_layers(struct pruning *p, struct apr_error *e);

/* The new number of a layer that stays. */
static inline uint32_t new_layer(const struct pruning *p, uint32_t layer)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < layer; i++)
        n += !p->gone[i];
    return n;
}

/* report.c: what was done, or would be; why: or NULL. Returns the exit code. */
int report(const struct pruning *p, const struct apr_error *why);

#endif
