/* Filling a model: what a format calls while it reads, and what anyone asks of it afterwards. One thread fills, any may ask. */
#ifndef APR_MODEL_H
#define APR_MODEL_H

#include "base/arena.h"
#include "base/bytes.h"
#include "base/core.h"

/* Sets t->count from dim, and *bytes to what dtype, dim and row imply; t->row 0 is taken as "unpadded" and set to count.
 * False when a product does not fit 64 bits; the product is taken left to right, as the formats do. */
bool apr_tensor_measure(struct apr_tensor *t, uint64_t *bytes);

/* Adds a tensor whose bytes are [offset, offset + size) of the newest file's map. Everything is checked here, once, for every
 * format: the name (UTF-8, no NUL, not there yet), count and byte size (no overflow), size against dtype and shape, bounds.
 * t->name must already live in the map or the arena; t->data, count and file are set here. In a partial model one that reaches past
 * the end of the file is counted instead.
 *   where  the byte offset of the index entry, for messages */
APR_MUST_CHECK enum apr_code apr_model_add(struct apr_model *m, const struct apr_tensor *t, uint64_t offset, uint64_t size,
                                           uint64_t where, struct apr_error *e);

/* Room for n tensors ahead, of which the caller knows that the file can hold them. Optional. */
APR_MUST_CHECK enum apr_code apr_model_expect(struct apr_model *m, size_t n, struct apr_error *e);

/* Appends key = value; the caller keeps keys unique where its format wants that (apr_meta_find). */
APR_MUST_CHECK enum apr_code apr_model_meta(struct apr_model *m, struct apr_bytes key, const struct apr_value *v, struct apr_error *e);

/* Notes something that was accepted; the table of findings knows the code. At most 1,000 are kept. Never fails: a note that finds no
 * memory is lost. */
void apr_model_note(struct apr_model *m, const char *code, struct apr_bytes tensor, uint64_t at, const char *format, ...) APR_PRINTF(5, 6);

/* Indices of the tensors of file number `file`, sorted by (begin, size); *n of them. The caller frees it with free.
 * NULL when memory is out (or n is 0). Formats look for gaps and overlaps with it. */
uint32_t *apr_model_by_offset(const struct apr_model *m, unsigned file, size_t *n);

/* The tensor of that name, or NULL. */
const struct apr_tensor *apr_model_find(const struct apr_model *m, struct apr_bytes name);

/* Where t's data begins in its file. */
uint64_t apr_tensor_offset(const struct apr_model *m, const struct apr_tensor *t);

/* An error when pages of a file of the model could not be read (zeros were read in their place), APR_OK else. Cheap: for each tensor. */
APR_MUST_CHECK enum apr_code apr_model_intact(const struct apr_model *m, struct apr_error *e);

/* The same, and when one of its files, config.json too, was changed (apr_source_intact): to be asked when all is read, before
 * the answer. */
APR_MUST_CHECK enum apr_code apr_model_unchanged(const struct apr_model *m, struct apr_error *e);

#endif
