/* Discovery: tensors that no name pairs, paired by what they hold. First every tensor is held against every other of as many elements, by
 * a sketch of all of it in its order; what is left, row by row and column by column. What is found is a chain of the transforms that
 * contracts have, and measured through them. */
#ifndef APR_DIFF_DISCOVER_H
#define APR_DIFF_DISCOVER_H

#include <math.h>
#include <stdio.h>

#include "base/arena.h"
#include "diff.h"

#define LEAST_EVIDENCE 32u /* elements below which equal values say nothing */
#define SKETCH         16u /* numbers of a sketch */

/* What is known of a run of values, in one pass: value i, times its sign, is added to lane i % SKETCH of the sketch. Two runs that differ
 * by some noise differ in their sketches by as much noise, and two that have nothing in common by about their lengths. Values that are
 * not finite count as 0. */
struct signature {
    double lane[SKETCH], sum, square, max;
};

/* A tensor without a pair. dim: its shape without dims of 1; count is never less than LEAST_EVIDENCE. used: it was found. */
struct item {
    const struct apr_tensor *t;
    bool                     of_b, used;
    unsigned                 ndim;
    uint64_t                 dim[APR_MAX_DIMS];
    struct signature         whole;
};

/* What was found: the tensors `from`, in the order of their parts, become the tensors `to` by these steps, as a contract says it of a
 * checkpoint's and a GGUF's.
 *   flipped  from is of B
 *   doubt    it is not measured yet
 *   tied     one of the two is a head that the other side does not have: its embedding is it
 *   ab .. bb its sums over all elements that pair */
enum tied { TIED_NOT, TIED_TO, TIED_FROM };
struct finding {
    struct item        **from, **to;
    size_t               nfrom, nto;
    bool                 flipped, doubt;
    enum tied            tied;
    struct apr_transform step[APR_MAX_STEPS];
    unsigned             nstep;
    double               ab, aa, bb, cosine;
};

struct discovery {
    const struct options *o;
    const struct models  *models;
    const struct match   *match;
    struct item          *item; /* A's, then B's, each in the order of their names */
    size_t                nitem;
    struct finding       *finding;
    size_t                nfinding, room;
    float                *sign; /* see discover_sketch.c */
    int                   gguf; /* the side that alone is a GGUF: 0, 1; -1: neither, or both */
    struct apr_arena     *arena;
};

/* How near two sketches of length 1 are that mean the same: in files without loss; where values were rounded to 16 bits; then at cosines
 * from 0.999 down to the threshold, so a lower one finds first what a higher one does. 0 behind the last round. */
#define NEAR_ROUNDED 0.01 /* F16 and BF16 round by up to 2^-9 of a value */
double nearness(const struct discovery *d, unsigned round);

/* What a factor may be off, measured by what is so near. */
static inline double factor_slack(double near) { return fmin(fmax(near, 1e-4), 0.2); }

/* Finds, for what m left without a pair. Free with free_discovery, after a failure too. */
APR_MUST_CHECK enum apr_code discover(struct discovery *d, const struct options *o, const struct models *models, const struct match *m,
                                      struct apr_error *e);
void free_discovery(struct discovery *d);

/* As a member of a report; for people (discover_output.c). */
void write_discovery(struct apr_out *j, const struct discovery *d);
void print_discovery(const struct discovery *d);

/* Writes the contract of what was found, and of the pairs that names made, to o->draft; nothing where nothing was found. What no contract
 * can say is told on stderr (discover_draft.c). */
APR_MUST_CHECK enum apr_code write_draft(struct discovery *d, struct apr_error *e);

/* The shape of what a contract gives the shape of, and the chain, as members of a role (discover_transforms.c). */
void put_body(FILE *to, const struct finding *f);

/* The pairs that names made, other than equal ones, as findings: *n of them, in the arena. untold: those that no contract says
 * (discover_known.c). */
struct untold {
    const struct pair **pair;
    size_t              n;
};
APR_MUST_CHECK enum apr_code known_findings(struct discovery *d, struct finding **f, size_t *n, struct untold *untold, struct apr_error *e);

/* ---- sketches (discover_sketch.c) ------------------------------------------------------------------------------------- */

/* Elements [first, first + count) of a tensor of A or B, and their signature. negated: of log(-x), which undoes -exp. */
struct stretch {
    const struct item *item;
    uint64_t           first, count;
    bool               negated;
    struct signature   signature;
};
APR_MUST_CHECK enum apr_code prepare_sketches(struct discovery *d, struct apr_error *e);
APR_MUST_CHECK enum apr_code sketch_stretches(const struct discovery *d, struct stretch *s, size_t n, struct apr_error *e);

/* The mean of a run of values and how far they are from it (root of the mean square); the sketch of what they are beyond the mean, of
 * length about 1. False where they are all one value. */
struct shape {
    double mean, deviation;
    float  lane[SKETCH];
};
/* Its length, were there one element. */
static inline double norm_of(const struct shape *s) { return sqrt(s->mean * s->mean + s->deviation * s->deviation); }
bool shape_of(const struct discovery *d, const struct signature *s, uint64_t count, struct shape *out);

/* Rows of an item, or its columns (turned): slabs times rows of width elements, each with its sketch of length about 1 and its norm; those
 * of view v are number v.first and on. */
struct view {
    struct item *item;
    bool         turned;
    uint64_t     slabs, rows, width, first;
};
APR_MUST_CHECK enum apr_code sketch_rows(const struct discovery *d, const struct view *v, size_t n, float (*lane)[SKETCH], float *norm,
                                         struct apr_error *e);

/* ---- classes (discover_classes.c) ------------------------------------------------------------------------------------- */

/* A key is twice what points must share, and 1 more of those of B. */
static inline uint64_t class_key(uint64_t shared, bool of_b) { return 2 * shared + of_b; }
static inline bool is_of_b(uint64_t key) { return key & 1; }

/* The square of a distance. */
static inline double distance_of(const float *x, const float *y)
{
    double sum = 0;
    for (size_t l = 0; l < SKETCH; l++) {
        const double d = (double)x[l] - (double)y[l];
        sum += d * d;
    }
    return sum;
}

/* What is put into classes: sketches, their keys, and, or NULL, groups of points that follow each other, which have much in common with
 * points of A, or little. */
struct points {
    const float   (*lane)[SKETCH];
    const uint64_t *key;
    const uint32_t *group;
};

/* Points of one key, but for its side, that are near each other get one number, counted from 0. */
APR_MUST_CHECK enum apr_code classify(const struct points *p, size_t n, double near, uint32_t *class, uint32_t *nclass,
                                      struct apr_error *e);

/* For each point of B the nearest of `point`, npoint points of A, which are put into another order: no farther than `near`; UINT32_MAX:
 * none (discover_nearest.c). */
APR_MUST_CHECK enum apr_code find_nearest(const struct points *p, size_t n, uint32_t *point, size_t npoint, double near, uint32_t *nearest,
                                          struct apr_error *e);

/* ---- rules (discover_rules.c) ----------------------------------------------------------------------------------------- */

/* Strings of classes: in each of `slabs` slabs, n of s and n of t. rough: more of them may be wrong. */
struct strings {
    const uint32_t *s, *t;
    size_t          n, slabs;
    bool            rough;
};

/* The rule by which t's rows (columns: cols) are those of s in another order, one step or none; false when there is none. */
APR_MUST_CHECK enum apr_code order_rule(struct discovery *d, const struct strings *x, bool cols, struct apr_transform *step,
                                        unsigned *nstep, bool *found, struct apr_error *e);

/* The rule that takes G groups of parts apart, when t begins with whole parts: sizes of a group's parts into step. */
bool find_groups(const uint32_t *place, size_t n, struct apr_transform *step);

/* Where rows of s stand, sorted by class.
 *   skip[i]  so many rows of the class that begins at entry i are taken */
struct placed {
    uint32_t class, at;
};
struct places {
    const uint32_t *s;
    size_t          ns;
    struct placed  *row;
    bool           *taken;
    uint32_t       *skip;
};

/* Takes for each of t's n rows a place in s; UINT32_MAX: there is none, or none is left. Of equal rows those that follow each other are
 * preferred. They may be left again. Free with end_places, after a failure too. */
APR_MUST_CHECK enum apr_code begin_places(struct places *p, const uint32_t *s, size_t ns, struct apr_error *e);
void take_places(struct places *p, const uint32_t *t, size_t n, uint32_t *place);
void leave_places(struct places *p, const uint32_t *place, size_t n);
void end_places(struct places *p);

/* ---- the steps -------------------------------------------------------------------------------------------------------- */

APR_MUST_CHECK enum apr_code discover_same(struct discovery *d, struct apr_error *e);    /* discover_same.c */
APR_MUST_CHECK enum apr_code discover_rows(struct discovery *d, struct apr_error *e);    /* discover_rows.c */
APR_MUST_CHECK enum apr_code discover_vectors(struct discovery *d, struct apr_error *e); /* discover_vectors.c */

/* Adds a finding; its items count as used. from, to: n pointers, copied. steps may be added to *f, which stays where it is until the next
 * is added. */
APR_MUST_CHECK enum apr_code add_finding(struct discovery *d, struct item *const *from, size_t nfrom, struct item *const *to, size_t nto,
                                         struct finding **f, struct apr_error *e);

/* Measures what is in doubt and drops what does not hold; its items are free again. (discover_measure.c) */
APR_MUST_CHECK enum apr_code measure_findings(struct discovery *d, struct apr_error *e);

/* Do its steps lead from the shapes there are to those there are? */
bool finding_fits(const struct finding *f);

/* The shape that the steps begin with: of the first tensor, or of all that are joined. Its number of dims; 0 where they do not fit. */
unsigned whole_shape(const struct finding *f, uint64_t dim[APR_MAX_DIMS]);

/* Which of the two sides a finding's `from` is by rights: that which is no GGUF. `natural` where neither is. */
static inline bool from_is_b(const struct discovery *d, bool natural) { return d->gguf < 0 ? natural : d->gguf == 0; }

/* Adds steps that give a tensor another shape, if it is another. */
bool add_reshape(struct finding *f, const uint64_t *from, unsigned nfrom, const uint64_t *to, unsigned nto);

/* The shortest number within a part `slack` of x. */
double shortest(double x, double slack);

/* How well the numbers in two names fit each other: 2 the first are equal, 1 some are, or there are none. */
unsigned names_fit(struct apr_bytes a, struct apr_bytes b);

#endif
