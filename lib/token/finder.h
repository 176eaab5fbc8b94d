/* Tokens that stand in a text as they are spelled: special ones, and those that are added to a vocabulary. */
#ifndef APR_FINDER_H
#define APR_FINDER_H

#include "token/encode_parts.h"

/* What is looked for. flags: of APR_TOKEN_SPECIAL, SINGLE_WORD, LSTRIP, RSTRIP. */
struct apr_wanted {
    struct apr_bytes        text;
    const struct apr_token *token;
    unsigned                flags;
};

/* The texts must outlive it. As HuggingFace does: the leftmost, of those the longest, over UTF-8. As llama.cpp does: the longest of all
 * first, wherever it stands. Free with apr_finder_free. */
struct apr_finder;
APR_MUST_CHECK enum apr_code apr_finder_new(struct apr_finder **f, const struct apr_wanted *wanted, size_t n, bool leftmost,
                                            struct apr_error *e);
void apr_finder_free(struct apr_finder *f);

/* The text from one end to the other but for blanks that a token takes with it: tokens, and (token NULL) what is between them, never empty.
 * Begin with zeros, free `at` with free. */
struct apr_found_list {
    struct apr_found {
        size_t                  from, to;
        const struct apr_token *token;
    }     *at;
    size_t n, room;
};

/* Puts what is found in the place of what is there. special: also those with APR_TOKEN_SPECIAL. */
APR_MUST_CHECK enum apr_code apr_finder_run(struct apr_finder *f, struct apr_bytes text, bool special, struct apr_found_list *list,
                                            struct apr_error *e);

#endif
