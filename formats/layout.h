/* How the formats are written: the columns rule, layout and finish, each of a format in x_layout.c. */
#ifndef APR_FORMATS_LAYOUT_H
#define APR_FORMATS_LAYOUT_H

#include <stdio.h>

#include "model/format.h"

extern const struct apr_rule apr_gguf_rule, apr_apr_rule, apr_safetensors_rule;

enum apr_code apr_gguf_layout(const struct apr_plan *p, size_t file, uint64_t at, struct apr_bytes *header, struct apr_error *e);
enum apr_code apr_apr_layout(const struct apr_plan *p, size_t file, uint64_t at, struct apr_bytes *header, struct apr_error *e);
void          apr_apr_finish(const struct apr_plan *p, size_t file, uint32_t crc, unsigned char *tail);
enum apr_code apr_safetensors_layout(const struct apr_plan *p, size_t file, uint64_t at, struct apr_bytes *header, struct apr_error *e);

/* A string, a key with its value as a GGUF has them. APR_EUNSUPPORTED: GGUF holds no such value. */
void apr_gguf_put_string(FILE *to, struct apr_bytes s);
APR_MUST_CHECK enum apr_code apr_gguf_put_key(FILE *to, struct apr_bytes key, const struct apr_value *v, struct apr_error *e);

/* APR_EUNSUPPORTED with the key when it or a text in its value is not UTF-8, which JSON does not hold. */
enum apr_code apr_fits_json(const struct apr_meta_entry *entry, struct apr_error *e);

/* The type of GGML that an APR may hold under its own id, for which a reader or writer is in the field, or NULL. */
const struct apr_dtype *apr_apr_ggml(uint8_t byte);

#endif
