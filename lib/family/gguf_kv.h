/* The keys of a GGUF as JSON: {"key": {"t": tag, "v": value}, ...}, in order. An APR has them in its metadata, a SafeTensors file as a
 * string.
 *
 *   tag      u8 i8 u16 i16 u32 i32 u64 i64 f32 f64 bool str, and arr_ before any of these
 *   v        the value; integers of 64 bits whole, floats as the shortest decimal that is the same float
 *   hex      in its place for f32, f64 and their arrays, where one is not finite: the bits, 8 or 16 digits each, one after the other
 *   base64   for str and arr_str, where one is not UTF-8: of the bytes
 *   custom   {"t": "custom", "custom": "tokenizer.vocabulary", "len": n}: an array that stands in the APR's metadata under that name */
#ifndef APR_GGUF_KV_H
#define APR_GGUF_KV_H

#include "model/draft.h"

#define APR_KV_KEY    "gguf.kv"
#define APR_HF_PREFIX "hf." /* of what a GGUF carries for others */

/* All entries of meta, which have the types of a GGUF. by_name: the arrays of the tokenizer stand as "custom" where their types and values
 * are those that the APR's metadata can hold. APR_EUNSUPPORTED names a key whose array holds arrays. */
APR_MUST_CHECK enum apr_code apr_gguf_kv_write(struct apr_arena **a, const struct apr_meta *meta, bool by_name, struct apr_bytes *json,
                                               struct apr_error *e);

/* Puts the keys that a model carries in its metadata under APR_KV_KEY, an object or a string, into d; tokenizer.* too, or not. Nothing when
 * there are none, or the model is a GGUF. APR_ECORRUPT names the key that is not as above. */
APR_MUST_CHECK enum apr_code apr_gguf_kv_read(struct apr_draft *d, const struct apr_model *m, bool tokenizer, struct apr_error *e);

/* Puts what of an APR's metadata a SafeTensors file carries as one string (APR_FLAT_KEY), or a GGUF behind APR_HF_PREFIX, into d. */
APR_MUST_CHECK enum apr_code apr_flat_read(struct apr_draft *d, const struct apr_model *m, bool tokenizer, struct apr_error *e);

#endif
