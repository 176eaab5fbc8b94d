/* The small files of a checkpoint, beside its weights: configuration, tokenizer, templates. An APR file carries them in its metadata, under
 * "hf.files": {"config.json": "its text", "tokenizer.model": {"base64": "..."}}. */
#ifndef APR_SIDE_H
#define APR_SIDE_H

#include "base/arena.h"
#include "base/core.h"

#define APR_SIDE_KEY "hf.files"
#define APR_FLAT_KEY "apr.metadata" /* a string of a SafeTensors file: an APR's metadata, as JSON */

/* Begin with zeros, end with apr_side_end. Texts are views into open files, the model or the arena.
 *   path  as the user would know it: that of the file, or "MODEL.apr: hf.files tokenizer.json"; NULL: it was put there */
struct apr_side {
    struct apr_side_file {
        struct apr_bytes name, text;
        const char      *path;
    }                  *file;
    size_t              n, room;
    struct apr_source **source; /* private, as all below */
    size_t              nsource, source_room;
    struct apr_arena   *arena;
};

/* Those of a checkpoint's folder, or those that an APR carries; none of any other model. Only names that are known are looked at
 * (apr_side_known), so none leads out of the folder. The model must stay open. */
APR_MUST_CHECK enum apr_code apr_side_of(struct apr_side *s, const struct apr_model *m, const struct apr_run *r, struct apr_error *e);

/* Adds those of a folder ("" or ending in '/') that are of a tokenizer, or all; each takes the place of one of its name. */
APR_MUST_CHECK enum apr_code apr_side_folder(struct apr_side *s, const char *folder, bool tokenizer, const struct apr_run *r,
                                             struct apr_error *e);

/* Adds one, in the place of one of its name; the name is copied, the text borrowed. Takes one out. */
APR_MUST_CHECK enum apr_code apr_side_put(struct apr_side *s, const char *name, struct apr_bytes text, struct apr_error *e);
void apr_side_remove(struct apr_side *s, const char *name);

/* Takes out all that are of a tokenizer, or all that are not. */
void apr_side_forget(struct apr_side *s, bool tokenizer);

/* The text of that name; at is NULL when there is none. */
struct apr_bytes apr_side_get(const struct apr_side *s, const char *name);

/* Returns code; a failure is said to be about the file of that name, by its path where it has one. */
enum apr_code apr_side_in(const struct apr_side *s, const char *name, enum apr_code code, struct apr_error *e);

/* The text of a file that the model itself carries, as above or in what it carries of an APR's metadata; in the arena. at is NULL when
 * there is none. */
APR_MUST_CHECK enum apr_code apr_side_carried(struct apr_arena **a, const struct apr_model *m, const char *name, struct apr_bytes *text,
                                              struct apr_error *e);

/* A string of metadata that holds a JSON object, checked and ready for apr_elements. */
APR_MUST_CHECK enum apr_code apr_side_object(struct apr_bytes text, struct apr_value *object, struct apr_error *e);

/* Is it the name of such a file ("config.json", "additional_chat_templates/rag.jinja")? */
bool apr_side_known(struct apr_bytes name);

/* Is it one of a tokenizer? */
bool apr_side_of_tokenizer(struct apr_bytes name);

/* An error when one of the files changed since it was opened. */
APR_MUST_CHECK enum apr_code apr_side_unchanged(const struct apr_side *s, struct apr_error *e);
void apr_side_end(struct apr_side *s);

#endif
