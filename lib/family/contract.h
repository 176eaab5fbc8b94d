/* Compiling a contract: what the parts of the compiler share. All messages begin with "line N: family NAME: ". */
#ifndef APR_CONTRACT_H
#define APR_CONTRACT_H

#include "family/family.h"
#include "family/yaml.h"

/* All memory is the family's, so that nothing need be freed on the way.
 *   root      the whole document
 *   included  0; while an include is read, its line in the contract: what is wrong there is told of that line */
struct apr_contract {
    struct apr_family     *f;
    const struct apr_yaml *root;
    struct apr_error      *e;
    unsigned               included;
};
unsigned apr_contract_line(const struct apr_contract *c, const struct apr_yaml *at);

/* A fault in the line of `at`: what is wrong, and the word it is wrong with. Returns its code. */
enum apr_code apr_contract_fault(const struct apr_contract *c, const struct apr_yaml *at, const char *what, struct apr_bytes word);

/* `at` is a map all of whose keys are among the words (blanks part them), a list of at most `most`. */
APR_MUST_CHECK enum apr_code apr_contract_keys(const struct apr_contract *c, const struct apr_yaml *at, const char *words);
APR_MUST_CHECK enum apr_code apr_contract_list(const struct apr_contract *c, const struct apr_yaml *at, size_t most);

/* What stands at `at`, copied; where that is NULL, *out stays as it is: a scalar; one of the words, by its number; a number; a list of
 * scalars; a scalar or a list of at most `most`. */
APR_MUST_CHECK enum apr_code apr_contract_word(const struct apr_contract *c, const struct apr_yaml *at, struct apr_bytes *out);
APR_MUST_CHECK enum apr_code apr_contract_choice(const struct apr_contract *c, const struct apr_yaml *at, const char *what,
                                                 const char *words, unsigned *out);
APR_MUST_CHECK enum apr_code apr_contract_number(const struct apr_contract *c, const struct apr_yaml *at, double *out);
APR_MUST_CHECK enum apr_code apr_contract_words(const struct apr_contract *c, const struct apr_yaml *at, struct apr_words *out);
APR_MUST_CHECK enum apr_code apr_contract_several(const struct apr_contract *c, const struct apr_yaml *at, size_t most,
                                                  struct apr_words *out);

/* An expression whose names are dims that have been read: so a dim needs only those above it, and there are no circles. One that is asked
 * in layers may name `layer` as well and what stands under `layers`, a term of the forward pass those and the terms above it; what stands
 * under `layers` itself only dims and `layer`. */
APR_MUST_CHECK enum apr_code apr_contract_expression(const struct apr_contract *c, const struct apr_yaml *at, struct apr_expr **out);
APR_MUST_CHECK enum apr_code apr_contract_layered(const struct apr_contract *c, const struct apr_yaml *at, struct apr_expr **out);
APR_MUST_CHECK enum apr_code apr_contract_layer(const struct apr_contract *c, const struct apr_yaml *at, struct apr_expr **out);
APR_MUST_CHECK enum apr_code apr_contract_term(const struct apr_contract *c, const struct apr_yaml *at, struct apr_expr **out);

/* The same for a size, at least that, and for a number that is added or, scales, multiplied by: what names nothing is looked at now. */
APR_MUST_CHECK enum apr_code apr_contract_size(const struct apr_contract *c, const struct apr_yaml *at, uint64_t least, struct apr_expr **out);
APR_MUST_CHECK enum apr_code apr_contract_factor(const struct apr_contract *c, const struct apr_yaml *at, bool scales, struct apr_expr **out);

/* A list of at most `most` sizes, added to n in `out`. */
APR_MUST_CHECK enum apr_code apr_contract_sizes(const struct apr_contract *c, const struct apr_yaml *at, uint64_t least,
                                                struct apr_expr **out, unsigned most, unsigned *n);

/* contract_layers.c: the text with the expressions of `layers` in the place of their names; and a check of those, once the dims are
 * known. */
APR_MUST_CHECK enum apr_code apr_contract_spell_layers(const struct apr_contract *c, const struct apr_yaml *at, struct apr_bytes *text);
APR_MUST_CHECK enum apr_code apr_contract_check_layers(const struct apr_contract *c);

/* A dim that the word of `at` must be. */
APR_MUST_CHECK enum apr_code apr_contract_dim(const struct apr_contract *c, const struct apr_yaml *at, struct apr_bytes name,
                                              const struct apr_dim **out);

/* Each child of a list, or of a map where that is the kind, through `read` into an array of elements of that size, whose address goes to
 * *array (a pointer to their type); nothing for NULL. */
typedef enum apr_code apr_contract_read_fn(const struct apr_contract *c, const struct apr_yaml *at, void *out);
APR_MUST_CHECK enum apr_code apr_contract_all(const struct apr_contract *c, const struct apr_yaml *at, enum apr_yaml_kind kind, size_t size,
                                              apr_contract_read_fn *read, void *array, size_t *n);

/* The transforms of a role, one or a list; whether they go together, in the order in which they stand; and how many tensors they make on
 * the GGUF side. */
APR_MUST_CHECK enum apr_code apr_contract_read_transforms(const struct apr_contract *c, const struct apr_yaml *at, struct apr_role *r);
APR_MUST_CHECK enum apr_code apr_contract_sound_transforms(const struct apr_contract *c, const struct apr_yaml *at,
                                                           const struct apr_role *r);
unsigned apr_contract_outputs(const struct apr_role *r);

/* Fill f->dim and f->role; f->kv, hf_config, apr and tokenizer; f->term and runs. */
APR_MUST_CHECK enum apr_code apr_contract_read_dims(const struct apr_contract *c, const struct apr_yaml *dims);
APR_MUST_CHECK enum apr_code apr_contract_read_roles(const struct apr_contract *c, const struct apr_yaml *tensors,
                                                     const struct apr_yaml *generated);
APR_MUST_CHECK enum apr_code apr_contract_read_metadata(const struct apr_contract *c);
APR_MUST_CHECK enum apr_code apr_contract_read_forward(const struct apr_contract *c);

#endif
