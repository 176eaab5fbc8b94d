/* Matching two models: which tensor goes with which (match.c), and how the two of a pair lie in each other (match_pair.c). */
#ifndef APR_MATCH_H
#define APR_MATCH_H

#include "base/table.h"
#include "diff.h"
#include "family/bind.h"

#define MOST_TENSORS_OF_A_ROLE 4096 /* experts */

/* What matching two models takes. binding is NULL while no family is known. */
struct matching {
    struct match         *m;
    const struct options *o;
    const struct apr_model *model[2];
    struct apr_binding   *binding[2];
    unsigned             *taken;        /* of B's tensors: by how many of A */
    struct apr_table      spelled;      /* B's tensors by their names as the family spells them; filled at its first use */
    const struct apr_tensor **part;     /* room for MOST_TENSORS_OF_A_ROLE, what t is compared with */
    struct apr_error     *e;
};

/* Is a name of either side wanted: a, or one of B's n tensors? */
APR_MUST_CHECK enum apr_code wanted(const struct matching *w, struct apr_bytes a, const struct apr_tensor *const *part, size_t n,
                                    bool *yes);

/* Takes w->part, `n` of B's tensors, as what t is compared with; *p is NULL when neither name is wanted. */
APR_MUST_CHECK enum apr_code begin_pair(struct matching *w, const struct apr_tensor *t, size_t n, struct pair **p);

/* The pair has the shape of t, of which a view is then made. */
void have_shape(struct pair *p, const struct apr_tensor *t);

/* The embedding or the head: a token that only one side knows has rows on that side alone, behind all others. Those that both have are
 * compared: *yes. */
bool is_vocabulary(const struct apr_role *role);
APR_MUST_CHECK enum apr_code share_rows_of(struct matching *w, struct pair *p, bool *yes);

/* Of two stacks of one name, which one side has as codes (flow/turned.h) and the other as values, B's is looked at the other way round. */
APR_MUST_CHECK enum apr_code turn_stack(struct matching *w, struct pair *p);

/* Pairs t of A with B's tensors of the role, when B has them all, or, of two checkpoints, experts that one side has fused and the other one
 * by one; *found says so. */
APR_MUST_CHECK enum apr_code pair_role(struct matching *w, const struct apr_tensor *t, const struct apr_meaning *meaning,
                                       const struct apr_role *role, bool *found);
APR_MUST_CHECK enum apr_code pair_experts(struct matching *w, const struct apr_tensor *t, const struct apr_meaning *meaning, bool *found);

#endif
