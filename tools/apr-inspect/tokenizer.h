/* What a tokenizer is made of, whatever holds it. */
#ifndef APR_INSPECT_TOKENIZER_H
#define APR_INSPECT_TOKENIZER_H

#include "inspect.h"

#define ENDS         8u  /* first and last tokens that are shown */
#define MOST_SPECIAL 64u

/* role: "bos" or empty. */
struct token {
    uint64_t         id;
    struct apr_bytes text, role;
    bool             known; /* text was found */
};

enum file { TOKENIZER, CONFIG, TEMPLATE, NFILES };

/* Texts live in the model's arena or in the files. control: tokens marked so; size: the highest id + 1. */
struct tokenizer {
    struct apr_model  *m;
    struct apr_source *file[NFILES];
    struct apr_bytes   model, pre, chat_template;
    uint64_t           size, merges, control;
    struct token       special[MOST_SPECIAL], first[ENDS], last[ENDS];
    size_t             nspecial;
    bool               found;
};

/* Reads x's tokenizer; end_tokenizer also after a failure. */
APR_MUST_CHECK enum apr_code read_tokenizer(struct tokenizer *k, const struct inspection *x, struct apr_error *e);
void end_tokenizer(struct tokenizer *k);

#endif
