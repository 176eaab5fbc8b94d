/* Lists in metadata: those that a contract's formulas come to, and how JSON spells one. */
#ifndef APR_LIST_VALUE_H
#define APR_LIST_VALUE_H

#include "base/arena.h"
#include "family/bind.h"

/* The list that a formula comes to (apr_binding_length), as an array of a GGUF in the arena. element: the type of its elements;
 * APR_META_NULL: by their looks, that of whole numbers, of numbers or of texts. v->type is APR_META_NULL where nothing tells the list, or
 * it has no elements. APR_EARG names the key and the element that nothing tells, or that is not of the type. */
APR_MUST_CHECK enum apr_code apr_list_value(struct apr_arena **a, const struct apr_binding *b, const struct apr_formula *f,
                                            enum apr_meta_type element, const char *key, struct apr_value *v, struct apr_error *e);

/* An array as JSON, each element as apr_spell_value has it. */
APR_MUST_CHECK enum apr_code apr_list_spell(struct apr_arena **a, const struct apr_value *list, struct apr_bytes *json,
                                            struct apr_error *e);

#endif
