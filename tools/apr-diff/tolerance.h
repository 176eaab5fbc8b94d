/* Bounds by name: the rules of a tolerance file. */
#ifndef APR_TOLERANCE_H
#define APR_TOLERANCE_H

#include "base/pattern.h"

/* Bounds a tensor must keep to pass; a bound that is not wanted is infinite.
 *   scale  how far the norm ratio may be from 1; NAN: what the cosine's floor allows for noise (scale_allowed) */
struct bounds {
    double cosine, scale, sqnr, max_abs, rmse;
    bool   ignore;
};

/* The scale of the bounds: told, or sqrt(2 (1 - cosine)). */
double scale_allowed(const struct bounds *b);

/* Rule i: the bounds of what pattern i of match matches, and its line. All zeros are no rules. path: what errors call the file, not
 * owned. */
struct rules {
    const char          *path;
    struct apr_patterns *match;
    struct bounds       *bounds;
    unsigned            *line;
};

/* Reads the YAML of a tolerance file; a bound that a rule leaves out is that of otherwise. Errors name the line. The rules are to be freed
 * with free_rules, after a failure too. */
APR_MUST_CHECK enum apr_code read_rules(struct rules *r, const char *path, struct apr_bytes text, const struct bounds *otherwise,
                                        struct apr_error *e);
void free_rules(struct rules *r);

/* The bounds of the first rule that matches either name, or NULL. */
APR_MUST_CHECK enum apr_code find_rule(const struct rules *r, struct apr_bytes name, struct apr_bytes name_b, const struct bounds **bounds,
                                       struct apr_error *e);

#endif
