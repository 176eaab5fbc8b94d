/* Texts with the tokens that other programs give them: fixtures/pieces, see pieces.py there. */
#ifndef APR_TESTS_TOKEN_VECTORS_H
#define APR_TESTS_TOKEN_VECTORS_H

#include "support.h"

#include "token/encode_parts.h"

#define PIECES "fixtures/pieces/"

/* Fills v, which is indexed, from a folder's source, or from a GGUF; then *m is the model, to be closed. */
void vectors_vocabulary(struct apr_vocabulary *v, struct apr_model **m, const char *path, enum apr_vocabulary_source from);

/* Every line of the file: the model gives these tokens. */
void vectors_expect(const char *file, const struct apr_token_model *model, enum apr_manner manner, const char *path,
                    enum apr_vocabulary_source from);

/* "48656c" -> its bytes; stops behind the last digit. Free with test_free. */
struct test_bytes vectors_bytes(const char **hex);

/* A vocabulary by hand: a NULL-terminated list of texts, normal ones, by id; the type of some may then be set. Indexed. */
void vectors_list(struct apr_vocabulary *v, enum apr_vocabulary_kind kind, const char *const *text);

/* The tokens of a text as "1 2 3", or what the failure says. A view until the next call. */
const char *vectors_ids(const struct apr_token_model *model, void *state, struct apr_bytes text);

#endif
