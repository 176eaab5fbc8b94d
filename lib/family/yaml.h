/* A YAML document as a small tree with line numbers, over libyaml's events: block and flow maps, sequences, scalars. */
#ifndef APR_YAML_H
#define APR_YAML_H

#include "base/core.h"

enum apr_yaml_kind { APR_YAML_SCALAR, APR_YAML_LIST, APR_YAML_MAP };

/* One node. Of a map the children are values, each with its key. key and text hold no NUL, but one stands behind them.
 *   line, column              from 1, in characters: those of its key, where it has one
 *   value_line, value_column  where it begins itself
 *   key     {NULL, 0} outside maps
 *   text    "" of maps and lists
 *   quoted  a scalar in quotes, or a block scalar: text, whatever it looks like */
struct apr_yaml {
    enum apr_yaml_kind kind;
    unsigned           line, column, value_line, value_column;
    bool               quoted;
    struct apr_bytes   key, text;
    struct apr_yaml   *child, *next;
    size_t             n;          /* children */
};

/* A document and the memory of all its nodes. */
struct apr_yaml_document;

/* Parses one document; an empty text is an empty scalar. Lines that begin with % (directives), anchors, aliases, tags, merge keys, a
 * second document, a key twice in a map, more than 64 levels, 1,000,000 nodes or APR_YAML_MOST bytes are refused: APR_EARG, with a text
 * that begins with "line N, column M: ". The caller frees it with apr_yaml_free. The text may go when this returns. */
#define APR_YAML_MOST ((size_t)16 << 20)
APR_MUST_CHECK enum apr_code apr_yaml_parse(struct apr_yaml_document **d, struct apr_bytes text, struct apr_error *e);
void apr_yaml_free(struct apr_yaml_document *d); /* NULL is nothing */
const struct apr_yaml *apr_yaml_root(const struct apr_yaml_document *d);

/* The value of key in a map, or NULL (also when node is NULL or no map). */
const struct apr_yaml *apr_yaml_get(const struct apr_yaml *node, const char *key);

#endif
