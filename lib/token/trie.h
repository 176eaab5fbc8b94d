/* Which of many texts does a text begin with? */
#ifndef APR_TRIE_H
#define APR_TRIE_H

#include "base/core.h"

/* Nodes by rising distance from the root, which is 0; those below a node stand together, in the order of their bytes.
 *   first  of each node, and of one behind the last: the first of those below it
 *   byte   that leads to it
 *   value  of the text that ends there, or APR_NO_VALUE
 *   top    the node below the root for each byte, or 0 */
struct apr_trie {
    uint32_t      *first, *value;
    unsigned char *byte;
    size_t         n, room;
    uint32_t       top[256];
};
#define APR_NO_VALUE UINT32_MAX

/* Longer texts would make a text that is full of them slow to look through; no published vocabulary has any of a quarter of it. */
#define APR_LONGEST_IN_TRIE 1024

/* Of texts with their values; no text is empty, and of equal ones the last counts. The list is sorted. APR_ELIMIT: one is too long. Begin
 * with zeros, end with apr_trie_free. */
struct apr_trie_text {
    struct apr_bytes text;
    uint32_t         value;
};
APR_MUST_CHECK enum apr_code apr_trie_make(struct apr_trie *t, struct apr_trie_text *text, size_t n, struct apr_error *e);
void apr_trie_free(struct apr_trie *t);

/* The node below `at` to which the byte leads, or 0. */
uint32_t apr_trie_step(const struct apr_trie *t, uint32_t at, unsigned char byte);

/* Bytes of the longest text that `text` begins with, and its value; 0: none. */
size_t apr_trie_longest(const struct apr_trie *t, struct apr_bytes text, uint32_t *value);

#endif
