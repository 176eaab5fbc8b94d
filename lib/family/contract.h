/* Reading a contract: what lib/family/contract.c and lib/roles.c share. All messages begin with "line N: family NAME: ". */
#ifndef APR_CONTRACT_H
#define APR_CONTRACT_H

#include "family/family.h"

struct apr_contract {
    struct apr_family *f;
    struct apr_error  *e;
};

/* A fault in the line of `at`: what is wrong, and the word it is wrong with. Returns its code. */
enum apr_code apr_contract_fault(const struct apr_contract *c, const struct apr_yaml *at, const char *what, struct apr_bytes word);

/* `at` is a map all of whose keys are among the words (blanks part them), a list of at most `most`, a list of words (or NULL), one of
 * the words given. */
APR_MUST_CHECK enum apr_code apr_contract_keys(const struct apr_contract *c, const struct apr_yaml *at, const char *words);
APR_MUST_CHECK enum apr_code apr_contract_list(const struct apr_contract *c, const struct apr_yaml *at, size_t most);
APR_MUST_CHECK enum apr_code apr_contract_words(const struct apr_contract *c, const struct apr_yaml *at);
APR_MUST_CHECK enum apr_code apr_contract_choice(const struct apr_contract *c, const struct apr_yaml *at, const char *what,
                                                 const char *words);

/* A scalar; a scalar or a list of at most `most`, *n of them. */
APR_MUST_CHECK enum apr_code apr_contract_word(const struct apr_contract *c, const struct apr_yaml *at, struct apr_bytes *out);
APR_MUST_CHECK enum apr_code apr_contract_several(const struct apr_contract *c, const struct apr_yaml *at, struct apr_bytes *out,
                                                  unsigned most, unsigned *n);

/* An expression whose names are dims that have been read: so a dim needs only those above it, and there are no circles. The caller
 * frees it with apr_expr_free. */
APR_MUST_CHECK enum apr_code apr_contract_expression(const struct apr_contract *c, const struct apr_yaml *at, struct apr_expr **out);

/* Fills f->dim and f->role from the document. */
APR_MUST_CHECK enum apr_code apr_contract_read_dims(const struct apr_contract *c, const struct apr_yaml *dims);
APR_MUST_CHECK enum apr_code apr_contract_read_roles(const struct apr_contract *c, const struct apr_yaml *tensors,
                                                     const struct apr_yaml *generated);

#endif
