/* The readers of a vocabulary, each of one kind of bytes, and what they put it together with. Bytes must live as long as v. */
#ifndef APR_VOCABULARY_READ_H
#define APR_VOCABULARY_READ_H

#include "token/vocabulary.h"

/* Above any real vocabulary by a factor of 10; what holds more is APR_ELIMIT. */
#define APR_MOST_TOKENS ((uint64_t)1 << 22)
#define APR_MOST_MERGES ((uint64_t)1 << 23)

/* ---- readers -------------------------------------------------------------------------------------------------------- */

APR_MUST_CHECK enum apr_code apr_read_tokenizer_json(struct apr_vocabulary *v, struct apr_bytes text, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_read_sentencepiece(struct apr_vocabulary *v, struct apr_bytes wire, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_read_vocab_json(struct apr_vocabulary *v, struct apr_bytes text, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_read_vocab_txt(struct apr_vocabulary *v, struct apr_bytes text, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_read_merges_txt(struct apr_vocabulary *v, struct apr_bytes text, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_read_metadata(struct apr_vocabulary *v, const struct apr_meta *meta, struct apr_error *e);

/* What goes with any of them in a folder: tokens that are added ({"text": id}; {"id": {"content", ...}}), to an indexed vocabulary which is
 * then to be put in order; the flags and the roles of tokenizer_config.json or special_tokens_map.json, as far as none is named yet;
 * a template in a file of its own, which is UTF-8 of at most APR_MOST_CONFIG; templates ("..." or [{"name", "template"}, ...]). */
APR_MUST_CHECK enum apr_code apr_read_added_tokens(struct apr_vocabulary *v, const struct apr_value *object, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_read_roles(struct apr_vocabulary *v, const struct apr_value *config, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_read_template_file(struct apr_vocabulary *v, struct apr_bytes name, struct apr_bytes text,
                                                   struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_read_templates(struct apr_vocabulary *v, const struct apr_value *templates, struct apr_error *e);

/* What tokenizer.json's normalizer does to letters. */
APR_MUST_CHECK enum apr_code apr_read_normalizer(struct apr_vocabulary *v, struct apr_error *e);

/* After all of them: what tokenizer.json's post-processor puts around a text says add_bos and its like, where nothing else did. */
APR_MUST_CHECK enum apr_code apr_read_post_processor(struct apr_vocabulary *v, struct apr_error *e);

/* ---- putting it together -------------------------------------------------------------------------------------------- */

APR_MUST_CHECK enum apr_code apr_put_token(struct apr_vocabulary *v, struct apr_bytes text, uint64_t id, enum apr_token_type type,
                                           double score, struct apr_error *e);

/* The same for a list without an order, where the last of equal texts counts. */
APR_MUST_CHECK enum apr_code apr_put_keyed(struct apr_vocabulary *v, struct apr_bytes text, uint64_t id, enum apr_token_type type,
                                           struct apr_error *e);

/* A token that is added to the model's: it may be one of them already. */
APR_MUST_CHECK enum apr_code apr_put_added(struct apr_vocabulary *v, struct apr_bytes text, uint64_t id, unsigned flags,
                                           struct apr_error *e);

/* Puts the tokens in order of their ids; of equal ones the last counts. */
APR_MUST_CHECK enum apr_code apr_order_tokens(struct apr_vocabulary *v, struct apr_error *e);

/* "left right", parted at the first blank from position 1 on; or the two parts. */
APR_MUST_CHECK enum apr_code apr_put_spelled_merge(struct apr_vocabulary *v, struct apr_bytes spelled, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_put_merge(struct apr_vocabulary *v, struct apr_bytes left, struct apr_bytes right, struct apr_error *e);
void apr_put_bad_merge(struct apr_vocabulary *v, struct apr_bytes spelled);

/* word: "bos". Nothing when the role has that id already. At most 256 are kept. */
APR_MUST_CHECK enum apr_code apr_put_special(struct apr_vocabulary *v, struct apr_bytes word, uint64_t id, bool implied,
                                             struct apr_error *e);

/* In the place of one of that name. At most 256 are kept. */
APR_MUST_CHECK enum apr_code apr_put_template(struct apr_vocabulary *v, struct apr_bytes name, struct apr_bytes text, struct apr_error *e);

/* ---- JSON ----------------------------------------------------------------------------------------------------------- */

/* One member that is wanted of an object; value.type is APR_META_ANY when it is not there. The last of equal keys counts. All else in it is
 * checked, and so is an array or object that is wanted, unless the caller is to walk it.
 *   must  what it is (s string, b boolean, u count, [ list, { object), then n where it may be null, ! where it may not be absent. Another
 *         one is a fault of v, and stays. NULL: it may be anything */
struct apr_member {
    const char      *key;
    bool             walked;
    const char      *must;
    struct apr_value value;
};
APR_MUST_CHECK enum apr_code apr_take_members(struct apr_vocabulary *v, const struct apr_value *object, struct apr_member *member,
                                              size_t n, struct apr_error *e);

/* A member that is not what it must be, "list": the first is noted. spelled may be empty. */
void apr_put_odd(struct apr_vocabulary *v, const char *key, const char *wants, struct apr_bytes spelled);

/* The elements of an array, "left right" or ["left", "right"]; of anything else none. */
APR_MUST_CHECK enum apr_code apr_take_merges(struct apr_vocabulary *v, const struct apr_value *merges, struct apr_error *e);

/* The number, of whatever type; 0 for what is none. */
double apr_number(const struct apr_value *v);

/* A whole file that must be one object, which is checked. */
APR_MUST_CHECK enum apr_code apr_take_object(struct apr_vocabulary *v, struct apr_bytes text, struct apr_value *object,
                                             struct apr_error *e);

#endif
