/* Which of many words occur in a text. */
#ifndef APR_WORDS_H
#define APR_WORDS_H

#include "base/core.h"

/* The words are views that must outlive it. Free with apr_words_free. */
struct apr_words;
APR_MUST_CHECK enum apr_code apr_words_new(struct apr_words **w, const struct apr_bytes *word, size_t n, struct apr_error *e);
void apr_words_free(struct apr_words *w);

/* Calls found for each word that occurs in the text, once, by its number; equal words by rising number, until found says false of one of
 * them. *work grows with the steps taken: about as many as the text has bytes, times the logarithm of the number of words. One thread at
 * a time. */
typedef bool apr_words_fn(void *ctx, size_t i);
void apr_words_find(struct apr_words *w, struct apr_bytes text, apr_words_fn *found, void *ctx, uint64_t *work);

#endif
