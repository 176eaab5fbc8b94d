/* What --set, --unset, --chat-template and --rename say, done to metadata and names. */
#ifndef APR_EDITS_H
#define APR_EDITS_H

#include "model/draft.h"
#include "model/format.h"
#include "ui/cli.h"

/* As the user wrote them.
 *   set            "KEY=TYPE:VALUE"; a TYPE is u8 i8 u16 i16 u32 i32 u64 i64 f32 f64 bool str, and json where the format has JSON
 *   unset          keys
 *   rename         "A=B"
 *   chat_template  a file, or NULL
 *   template_text  the template itself, in the place of such a file; or empty */
struct apr_edits {
    struct apr_texts set, unset, rename;
    const char      *chat_template;
    struct apr_bytes template_text;
};

/* Is there anything in it? */
bool apr_have_edits(const struct apr_edits *x);

/* Does --set, --unset, then --chat-template to metadata of that format. What makes no sense is APR_EARG, and names the option: a KEY that
 * is not there, a value outside of its type, a template for a format that has none. */
APR_MUST_CHECK enum apr_code apr_edit_metadata(struct apr_draft *d, const struct apr_edits *x, const struct apr_format *f,
                                               const struct apr_run *r, struct apr_error *e);

/* The text of a template's file, into the arena. */
APR_MUST_CHECK enum apr_code apr_read_template(struct apr_arena **arena, const char *path, const struct apr_run *r, struct apr_bytes *text,
                                               struct apr_error *e);

/* Renames: all at once, so that two can change places. APR_EARG: no name is A, or two would be the same. New names are views of the
 * options. */
APR_MUST_CHECK enum apr_code apr_edit_names(struct apr_bytes *name, size_t n, const struct apr_edits *x, struct apr_error *e);

#endif
