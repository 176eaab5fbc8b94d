/* Which dtype a tensor gets: the rules of --tensor-type and of a recipe, in order. A recipe is a YAML list of
 * {match: PATTERN, type: TYPE}. */
#ifndef APR_RECIPE_H
#define APR_RECIPE_H

#include "base/pattern.h"

/* The dtype that a word names in either case, of those that can be written; NULL for none. */
typedef const struct apr_dtype *apr_recipe_type_fn(const void *ctx, const char *word);

/* The word for a tensor that stays as it is. */
#define APR_RECIPE_COPY "copy"

/* Rule i goes with pattern i.
 *   dtype         NULL: the tensor stays as it is
 *   line, column  in the recipe's file, from 1; 0: it was given by --tensor-type
 *   used          tensors that it decided
 *   spared        of those, how many were left alone: for the caller to count */
struct apr_recipe_rule {
    const struct apr_dtype *dtype;
    unsigned                line, column;
    uint64_t                used, spared;
};

/* Begin with { .type = ..., .ctx = ... }, add rules in the order in which they count, end with apr_recipe_free. One thread at a time.
 *   path  of the file; NULL: there is none */
struct apr_recipe {
    apr_recipe_type_fn     *type;
    const void             *ctx;
    const char             *path;
    struct apr_patterns    *match;
    struct apr_recipe_rule *rule;
    size_t                  n, room;
};
void apr_recipe_free(struct apr_recipe *r);

/* Adds a rule of the command line, "PATTERN=TYPE"; the last = parts them. APR_EARG names the option and the word that is wrong, and the
 * type that is nearest to one that is not there. */
APR_MUST_CHECK enum apr_code apr_recipe_add(struct apr_recipe *r, const char *option, struct apr_error *e);

/* Adds the rules of a recipe's text. Errors name file, line and column. path must live as long as the rules, the text need not. */
APR_MUST_CHECK enum apr_code apr_recipe_read(struct apr_recipe *r, const char *path, struct apr_bytes text, struct apr_error *e);

/* The same from the file. */
APR_MUST_CHECK enum apr_code apr_recipe_open(struct apr_recipe *r, const char *path, const struct apr_run *run, struct apr_error *e);

/* The first rule that matches a tensor by its name or by what a GGUF calls it (empty: it has no other name); NULL: none does. */
APR_MUST_CHECK enum apr_code apr_recipe_find(struct apr_recipe *r, struct apr_bytes name, struct apr_bytes gguf,
                                             const struct apr_recipe_rule **rule, struct apr_error *e);

/* Has rule i matched no name that was asked for? *why says so then, for apr_cli_fail. */
bool apr_recipe_idle(const struct apr_recipe *r, size_t i, struct apr_error *why);

/* A recipe that gives each of these tensors its dtype (NULL: as it is) and no other one, as text that the caller frees; read back it is
 * the same. remark: lines that come before it as a comment. APR_EARG, APR_ELIMIT: names, or their number, that no recipe can hold. */
struct apr_recipe_line {
    struct apr_bytes        name;
    const struct apr_dtype *dtype;
};
APR_MUST_CHECK enum apr_code apr_recipe_write(struct apr_bytes *text, const char *remark, const struct apr_recipe_line *line, size_t n,
                                              struct apr_error *e);

#endif
