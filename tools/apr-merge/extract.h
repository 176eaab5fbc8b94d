/* An adapter of what one model has over another. */
#ifndef APR_MERGE_EXTRACT_H
#define APR_MERGE_EXTRACT_H

#include "merge.h"
#include "svd.h"

/* Writes what the second operand has over the first, as PEFT has it, into the folder that o names. Returns the exit code. */
int extract_lora(struct options *o);

/* A tensor that both models have.
 *   name    as the class of the model spells it
 *   square  the sum of the squares of the differences */
struct parameter {
    const struct apr_wish *base, *tuned;
    struct apr_bytes       name;
    size_t                 module;
    bool                   linear, turned;
    double                 square;
};

/* What its tensors' names begin with.
 *   linear   its weight, that of a linear layer, or NONE
 *   low      what the adapter has for that, where there is something
 *   differs  one of its other tensors does
 *   saved    all of it goes into the adapter */
struct module {
    struct apr_bytes name;
    size_t           linear;
    struct low_rank  low;
    bool             differs, saved;
};

struct extraction {
    struct options       *o;
    struct config         config;
    struct named          named[2];
    struct model         *model;
    struct parameter     *parameter;
    struct module        *module;
    size_t                n, nmodule;
    struct apr_table      by_name; /* of each module: its number */
    struct apr_team      *team;
    struct apr_conversion conversion;
    struct apr_bytes      text; /* adapter_config.json */
    uint64_t              rank; /* the highest */
    bool                  turned, biased;
    size_t                embedding; /* of a model whose head that is, where it is saved; else NONE */
    struct apr_bytes      head;      /* what the class calls the head then, without ".weight" */
    struct apr_arena     *arena;
};

/* extract_write.c: puts what was found into the plan, with adapter_config.json beside it. What was written, or why not: the exit code. */
APR_MUST_CHECK enum apr_code plan_adapter(struct extraction *x, struct apr_error *e);
int answer_extracted(const struct extraction *x, const struct apr_error *why);

#endif
