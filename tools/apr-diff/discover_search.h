/* A search by rows and columns, under way (discover_rows.c). */
#ifndef APR_DIFF_DISCOVER_SEARCH_H
#define APR_DIFF_DISCOVER_SEARCH_H

#include "discover.h"

/* A view of B and one of A that share `votes` rows. */
struct edge {
    uint32_t a, b;
    uint64_t votes;
};

/*   last  of the rounds: rows that are left over may be cut off, since no coarser look will find where they are */
struct search {
    struct discovery *d;
    bool              last;
    struct view      *view;
    size_t            nview, nb;     /* nb: the first view of B */
    float           (*lane)[SKETCH], *norm;
    uint64_t         *key;
    uint32_t         *class, nclass;
    size_t            natom;
    uint32_t         *first, *atom;  /* A's atoms by class */
    uint32_t         *of;            /* of each atom: its view */
    struct edge      *edge;
    size_t            nedge, room;
    uint64_t         *votes;         /* of each view */
    double            near;
};

static inline uint64_t natoms(const struct view *v) { return v->slabs * v->rows; }

/* Are rows so noisy that some of them may be nearer to others than to their own? */
static inline bool is_rough(const struct search *w) { return w->near > NEAR_ROUNDED; }

/* The classes of a view's rows. */
static inline const uint32_t *string_of(const struct search *w, const struct view *v) { return w->class + v->first; }

/* The shape without dims of 1 that a view's item has, or would have with as many rows as that. */
void shape_of_view(const struct view *v, uint64_t rows, uint64_t dim[3], unsigned *ndim);

/* Add steps, as long as there is room for them. */
bool add_step(struct finding *f, enum apr_op op);
bool add_rule(struct finding *f, const struct apr_transform *rule, unsigned n);

/* Adds what makes of s, seen as that view is, what t is: a rule of rows or columns, and the turning that there is. */
bool add_rule_between(struct finding *f, const struct view *s, const struct view *t, const struct apr_transform *rule, unsigned nrule);

/* Takes the newest finding back; its items are free. */
void drop_finding(struct discovery *d);

/* Views of which each row of one is a row of the other (discover_pairs.c). */
APR_MUST_CHECK enum apr_code pair_ones(struct search *w, struct apr_error *e);

/* One tensor of which several, or one, are parts (discover_hubs.c). */
APR_MUST_CHECK enum apr_code pair_hubs(struct search *w, struct apr_error *e);

#endif
