/* A model bound to its family: what each of its tensors is for, and the sizes that the contract speaks of. */
#ifndef APR_BIND_H
#define APR_BIND_H

#include "family/names.h"

struct apr_binding;
struct apr_hf_config;

/* The family that the model's own words name: config.json's architectures, general.architecture, APR metadata. *f is NULL when it says
 * nothing, or names one nobody knows. */
APR_MUST_CHECK enum apr_code apr_family_said(struct apr_families *all, const struct apr_model *m, const struct apr_family **f,
                                             struct apr_error *e);

/* Its name alone, for which no contract is parsed; empty for none. It lives as long as `all`. */
APR_MUST_CHECK enum apr_code apr_family_said_name(const struct apr_families *all, const struct apr_model *m, struct apr_bytes *name,
                                                  struct apr_error *e);

/* The class or architecture that the model itself names: config.json's architectures or model_type, general.architecture, APR's words. Or
 * empty. It lives as long as both; config: the model's own, or NULL. */
struct apr_bytes apr_class_said(const struct apr_model *m, const struct apr_hf_config *config);

/* Does the model name any class or architecture, in its own words or in those that it carries? Then it is not guessed at. */
APR_MUST_CHECK enum apr_code apr_names_a_class(const struct apr_model *m, bool *yes, struct apr_error *e);

/* The family whose names fit all tensors and give one a real role, for models that say nothing: a class that nobody knows is no other
 * family's. Where several fit and disagree on how tensors change between dialects, the one counts whose shapes the tensors have; where
 * that leaves it open, *f is NULL and the two are named in *either. */
APR_MUST_CHECK enum apr_code apr_family_guessed(struct apr_families *all, const struct apr_model *m, const struct apr_family **f,
                                                const struct apr_family *either[2], struct apr_error *e);

/* Binds. Sizes come from config.json, metadata and shapes; from what `other`, if not NULL, was told (a bare SafeTensors file beside a
 * GGUF); then from the contract's defaults. The model must outlive it, `other` need not. The caller frees it with apr_binding_free. */
APR_MUST_CHECK enum apr_code apr_bind(struct apr_binding **b, const struct apr_family *f, const struct apr_model *m,
                                      const struct apr_binding *other, struct apr_error *e);
void apr_binding_free(struct apr_binding *b);

const struct apr_family *apr_binding_family(const struct apr_binding *b);

/* What t may be for, candidate number i: false behind the last, and for an unknown one at once. Only roles that share names give more
 * than one; the first is the likeliest. */
bool apr_binding_meaning(const struct apr_binding *b, const struct apr_tensor *t, size_t i, struct apr_meaning *meaning);

/* Does the contract drop t (`skip`)? It may have a meaning all the same. */
bool apr_binding_skips(const struct apr_binding *b, const struct apr_tensor *t);

/* Is it a buffer of the contract's (`buffers`), in which what is not finite is meant? */
bool apr_binding_is_buffer(const struct apr_binding *b, const struct apr_tensor *t);

/* The tensor with that meaning, or NULL. */
const struct apr_tensor *apr_binding_find(const struct apr_binding *b, const struct apr_meaning *meaning);

/* The dialect in which the model holds a role, by the tensors it has; APR_NDIALECTS when it has none of them. */
enum apr_dialect apr_binding_dialect(const struct apr_binding *b, const struct apr_role *role, uint32_t layer);

/* Is the role in that layer? As far as `where` says; `otherwise` where nothing tells what that asks for. */
bool apr_binding_in_layer(const struct apr_binding *b, const struct apr_role *role, uint64_t layer, bool otherwise);

/* A name of the role as the model's dialect spells it, into `room` bytes; the length, or 0 when it does not fit. */
size_t apr_binding_spell(const struct apr_binding *b, const struct apr_meaning *what, char *out, size_t room);

/* All tensors that together are the role in that layer, in order (experts, parts of a split); *n of them, 0 when one is missing. At most
 * `room`; NULL-free. */
size_t apr_binding_parts(const struct apr_binding *b, const struct apr_role *role, uint32_t layer, const struct apr_tensor **part,
                         size_t room);

/* May the model's head be its embedding? False when its config.json says that it is not; true where the contract knows no head. And is it
 * the embedding: does the model store none of its own? */
bool apr_binding_may_tie(const struct apr_binding *b);
bool apr_binding_tied(const struct apr_binding *b);

/* Is a tensor of that meaning, byte for byte, the one in whose stead a converter leaves it out? */
bool apr_binding_is_copy(const struct apr_binding *b, const struct apr_meaning *s, const struct apr_tensor *t);

/* Is t a second spelling: has another tensor, of the same bytes, that meaning already (T5's embeddings under all of their names)? */
bool apr_binding_is_second(const struct apr_binding *b, const struct apr_meaning *s, const struct apr_tensor *t);

/* Is a dim told by the model, or by the one beside it, in words or in a shape, or worked out of others, so that it is no default? */
bool apr_binding_told(const struct apr_binding *b, struct apr_bytes dim);

/* Does a size or a condition (or NULL: none does) rest on a default of the contract's, in a model that states nothing of itself? A class may
 * leave out of config.json what is its default; a file that has none says nothing by it. And any size of the role's shape or transforms? */
bool apr_binding_guesses(const struct apr_binding *b, const struct apr_expr *x);
bool apr_binding_guesses_role(const struct apr_binding *b, const struct apr_role *role);

/* Does a size of the role's shape or transforms come to a number that is none, negative, broken or too large, and to which? */
bool apr_binding_no_size(const struct apr_binding *b, const struct apr_role *role, double *value);

/* The value of a size; false when it is not known. */
bool apr_binding_size(const struct apr_binding *b, const struct apr_expr *x, uint64_t *n);

/* What is no size: rms_norm_eps, rope_theta, rope.scaling.factor, hidden_act ... False when nothing tells it, or it is of the other kind.
 *   name  a dim; a GGUF key without its architecture; the path in config.json or the APR key that goes with it; any of these, a dot and a
 *         number: that element of a list
 * The value is that of config.json or of the metadata, else the contract's default or constant. */
bool apr_binding_number(const struct apr_binding *b, struct apr_bytes name, double *out);
bool apr_binding_text(const struct apr_binding *b, struct apr_bytes name, struct apr_bytes *out);
struct apr_result apr_binding_word(const struct apr_binding *b, struct apr_bytes name); /* of either kind */

/* Where a path of config.json stands, or a key of the metadata, spelled as it is; *value is not known where that is neither a number nor a
 * text. */
enum apr_standing { APR_STANDS_NOWHERE, APR_STANDS_IN_CONFIG, APR_STANDS_IN_METADATA };
enum apr_standing apr_binding_stands(const struct apr_binding *b, struct apr_bytes path, struct apr_result *value);

/* Does a list stand at the path or the key, or at what goes with it, and what is its largest number? */
bool apr_binding_listed(const struct apr_binding *b, struct apr_bytes path, double *largest);

/* has(path): "tensors.ROLE", a path in config.json, a key of the metadata. */
bool apr_binding_has(const struct apr_binding *b, struct apr_bytes path);

/* What a model states of an entry of its family's kv; of a dim, by config.json.
 *   value   as a GGUF has it: what is stated, else what the contract has for a model that does not, if anything
 *   list    the array that stands in metadata instead, or NULL
 *   n       elements of that, or of the list that config.json comes to; 0: it is none
 *   each    what gives those of config.json; NULL: they stand there, at `key`
 *   key     where it stands: the path in config.json, the key of the metadata; empty when it is not stated
 *   wanted  the contract has the entry in a GGUF of this model; always so of what metadata states */
struct apr_statement {
    struct apr_result       value;
    const struct apr_value *list;
    struct apr_bytes        key;
    bool                    wanted;
    uint64_t                n;
    const struct apr_formula *each;
};
struct apr_statement apr_binding_states(const struct apr_binding *b, const struct apr_kv *k);
struct apr_statement apr_binding_states_dim(const struct apr_binding *b, const struct apr_dim *d);

/* Element i of what is stated: of a scalar the scalar. Not known behind the last. */
struct apr_result apr_statement_element(const struct apr_binding *b, const struct apr_statement *s, uint64_t i);

/* For those that write metadata: does a condition hold (NULL: always)? The value of a formula; not known for lists and for what only code
 * can work out. The value of an entry as a GGUF, or as config.json, has it; not known where the contract wants none. The keys that the
 * model carries of another format (family/gguf_kv.h), tokenizer.* left out. */
bool apr_binding_holds(const struct apr_binding *b, const struct apr_expr *when);
struct apr_result apr_binding_formula(const struct apr_binding *b, const struct apr_formula *f);
struct apr_result apr_binding_value(const struct apr_binding *b, const struct apr_kv *k, bool gguf);

/* Of a formula that comes to a list (each, or the paths of one in config.json or in metadata): its length, false where nothing tells it;
 * element i. */
bool apr_binding_length(const struct apr_binding *b, const struct apr_formula *f, uint64_t *n);
struct apr_result apr_binding_element(const struct apr_binding *b, const struct apr_formula *f, uint64_t i);
const struct apr_meta *apr_binding_carried(const struct apr_binding *b);

/* The numbers of Llama 3's scaling that stand for the tensor of its factors, of the dims theta, rope_factor, rope_low, rope_high, rope_orig
 * and D; false where one is not known or cannot be meant. */
struct apr_llama3;
bool apr_binding_llama3(const struct apr_binding *b, struct apr_llama3 *s);

/* Has a GGUF of this model the tensor, which only a converter makes (role->generated)? */
bool apr_binding_generates(const struct apr_binding *b, const struct apr_role *role);

/* The shape the contract gives the role on the HuggingFace side (of one tensor); false when a size is not known. */
bool apr_binding_shape(const struct apr_binding *b, const struct apr_role *role, uint64_t *dim, unsigned *ndim);

/* The same of a tensor of that meaning, in its dialect; false too when it has no chain. */
bool apr_binding_meant_shape(const struct apr_binding *b, const struct apr_meaning *s, uint64_t *dim, unsigned *ndim);

/* The chain from the HuggingFace side to the dialect; *n of them. APR_EARG names the size that is missing. */
APR_MUST_CHECK enum apr_code apr_binding_chain(const struct apr_binding *b, const struct apr_role *role, enum apr_dialect dialect,
                                               struct apr_transform out[APR_MAX_STEPS], size_t *n, struct apr_error *e);

#endif
