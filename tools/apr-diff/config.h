/* How config.c and vocabularies.c put what differs together. */
#ifndef APR_DIFF_CONFIG_H
#define APR_DIFF_CONFIG_H

#include "diff.h"
#include "model/hf_config.h"

struct config_side {
    const struct apr_model *model;
    struct apr_binding     *binding; /* or NULL */
    struct apr_hf_config   *config;  /* or NULL */
};

struct config_work {
    struct config        *c;
    const struct options *o;
    struct config_side    side[2];
    struct apr_error     *e;
};

/* Adds a difference, unless it is there. All of it is copied. */
APR_MUST_CHECK enum apr_code tell_config(struct config *c, const char *name, const struct stated *a, const struct stated *b,
                                         struct apr_error *e);

/* As JSON, in the arena. */
APR_MUST_CHECK enum apr_code spell_string(struct config *c, struct apr_bytes text, struct apr_bytes *json, struct apr_error *e);
APR_MUST_CHECK enum apr_code spell_count(struct config *c, uint64_t n, struct apr_bytes *json, struct apr_error *e);

/* Tokens, merges, special ids; with --metadata templates. */
APR_MUST_CHECK enum apr_code compare_vocabularies(struct config_work *w);

#endif
