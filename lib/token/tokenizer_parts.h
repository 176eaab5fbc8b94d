/* What tokenizers are put together with when they are written: the parts behind token/tokenizer_write.h. */
#ifndef APR_TOKENIZER_PARTS_H
#define APR_TOKENIZER_PARTS_H

#include "token/tokenizer_write.h"
#include "token/vocabulary_read.h"
#include "ui/report.h"

/* ---- a checkpoint's files, read (tokenizer_files.c) ------------------------------------------------------------------ */

/* Begin with zeros, end with apr_tokenizer_files_end.
 *   as      how they are taken, by the rules of the family and by what is there; APR_NTOKENIZERS: there is no vocabulary
 *   v       the vocabulary that is taken, json that of tokenizer.json (the same one, or another beside it); or NULL
 *   realigned  it is a SentencePiece model beside XLM-RoBERTa, whose ids HuggingFace moved
 *   config  tokenizer_config.json, of type OBJECT when it is there */
struct apr_tokenizer_files {
    const struct apr_side       *side;
    enum apr_tokenizer_source    as;
    struct apr_vocabulary       *v, *json;
    bool                         realigned;
    struct apr_value             config;
    struct apr_vocabulary        of_json, of_other, scratch;
};
APR_MUST_CHECK enum apr_code apr_tokenizer_files_read(struct apr_tokenizer_files *f, const struct apr_tokenizer *t, struct apr_error *e);
void apr_tokenizer_files_end(struct apr_tokenizer_files *f);

/* Has a side any file that holds a vocabulary? */
bool apr_tokenizer_files_any(const struct apr_side *side);

/* A member of tokenizer_config.json; its type is ANY when it is not there, or null. A text that stands there as such or as {"content"}. */
APR_MUST_CHECK enum apr_code apr_tokenizer_member(struct apr_tokenizer_files *f, const char *key, struct apr_value *out,
                                                  struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_tokenizer_member_text(struct apr_tokenizer_files *f, const char *key, struct apr_bytes *out,
                                                       struct apr_error *e);

/* ---- tokens (tokenizer_tokens.c) ------------------------------------------------------------------------------------- */

/* The tokens of a GGUF, by id. Texts are views or lie in the arena. */
struct apr_token_list {
    struct apr_token_row {
        struct apr_bytes text;
        float            score;
        uint8_t          type;
    }                *row;
    uint64_t          n;
    struct apr_arena *arena;
};

/* n: how many there are to be; 0: as many as the files have. rows as in apr_tokenizer. Free with apr_token_list_end. */
APR_MUST_CHECK enum apr_code apr_tokens_of_files(struct apr_token_list *l, const struct apr_tokenizer_files *f, uint64_t n, uint64_t rows,
                                                 struct apr_error *e);
void apr_token_list_end(struct apr_token_list *l);

/* APR_ELIMIT names the last token where its id asks for more padding than any vocabulary has tokens. */
APR_MUST_CHECK enum apr_code apr_tokens_bounded(const struct apr_vocabulary *v, struct apr_error *e);

/* ---- special tokens, flags, templates (tokenizer_special.c) ---------------------------------------------------------- */

/* Writes ids, add_*_token, chat templates and what the normalizer does to letters. most: ids from here on are left out. */
APR_MUST_CHECK enum apr_code apr_put_specials(struct apr_draft *d, struct apr_tokenizer_files *f, uint64_t most, struct apr_error *e);

/* ---- pre-tokenizers (pretoken.c) ------------------------------------------------------------------------------------- */

/* What is known of how a BPE's text is cut.
 *   pre_tokenizer, normalizer  as tokenizer.json spells them; empty: it has none, and pre_tokenizer NULL-at: there is no such file
 *   family                     names that the family's tokenizers have; the first that is one for this way of cutting is taken */
struct apr_pretoken_facts {
    const struct apr_vocabulary *v;
    const struct apr_bytes      *family;
    size_t                       nfamily;
    struct apr_bytes             pre_tokenizer, normalizer;
    bool                         ignore_merges, bos, cls;
};

/* The name by which llama.cpp knows it, or NULL. Only the arena of `scratch` is used. */
APR_MUST_CHECK enum apr_code apr_pretoken_name(const struct apr_pretoken_facts *facts, struct apr_vocabulary *scratch, const char **name,
                                               struct apr_error *e);

/* The way back. The name as it stands here, or NULL; what follows takes only such. Does it put a text into Unicode's composed form first?
 * Does it leave a word alone that is a token? The member pre_tokenizer of tokenizer.json. */
const char *apr_pretoken_known(struct apr_bytes name);
bool        apr_pretoken_composes(const char *name);
bool        apr_pretoken_ignores_merges(const char *name);
void        apr_pretoken_write(struct apr_out *out, const char *name);

/* ---- what travels under hf.* (tokenizer_carry.c) --------------------------------------------------------------------- */

#define APR_CARRIED_TOKENIZER "hf.tokenizer.json"
#define APR_CARRIED_CONFIG    "hf.tokenizer_config.json"
#define APR_CARRIED_MAP       "hf.special_tokens_map.json"

/* A member of tokenizer_config.json, of our own, where the files would say otherwise than the GGUF they were made of:
 * {"kv": {"tokenizer.ggml.pre": {"t": "str", "v": "llama-bpe"}}, "unset": ["tokenizer.ggml.add_bos_token"],
 *  "tokens": [[134, 5, -10000.0, "[PAD133]"]]}: id, type, score, text. */
#define APR_OWN_MEMBER "gguf"

/* The member "tokens" (tokenizer_own.c): written, and *any set, where some rows of the keys are not those of l, as the files give them;
 * taken into the list. */
APR_MUST_CHECK enum apr_code apr_write_own_tokens(struct apr_out *out, const struct apr_draft *keys, const struct apr_token_list *l,
                                                  bool *any, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_take_own_tokens(struct apr_tokenizer_files *f, struct apr_token_list *l, struct apr_error *e);

/* Puts what a GGUF has no keys for: tokenizer.json without its vocabulary, tokenizer_config.json without what its keys tell. */
APR_MUST_CHECK enum apr_code apr_carry_tokenizer(struct apr_draft *d, struct apr_tokenizer_files *f, const struct apr_token_list *l,
                                                 struct apr_error *e);

/* ---- merges (tokenizer_merges.c) ------------------------------------------------------------------------------------- */

/* Those of a SentencePiece vocabulary that is indexed, from the scores of its pieces: pairs of ids in the order in which they are made; *n
 * of them, to be freed with free. */
struct apr_id_pair {
    uint32_t left, right;
};
APR_MUST_CHECK enum apr_code apr_merges_of_scores(const struct apr_vocabulary *v, struct apr_id_pair **pair, size_t *n,
                                                  struct apr_error *e);

/* ---- JSON into memory ------------------------------------------------------------------------------------------------ */

/* A text being made; `out` writes to it. apr_text_end gives it to the arena and is called in any case: *text.at is NULL, and the code
 * APR_ENOMEM, when memory was out. */
struct apr_text_made {
    struct apr_out out;
    char          *at;
    size_t         n;
};
APR_MUST_CHECK enum apr_code apr_text_begin(struct apr_text_made *m, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_text_end(struct apr_text_made *m, struct apr_arena **a, struct apr_bytes *text, struct apr_error *e);

/* The shortest decimal spelling that reads back as the same f32. */
const char *apr_spell_float(float v, char buffer[32]);

/* ---- the keys of a GGUF (tokenizer_keys.c) --------------------------------------------------------------------------- */

/* tokenizer.* and hf.tokenizer* of a source that is no checkpoint, as a GGUF has them: its own, those that an APR keeps in gguf.kv, or
 * such as are made of an APR's flat keys. Sets t->unknown_pre. */
APR_MUST_CHECK enum apr_code apr_gguf_keys_of(struct apr_draft *d, struct apr_tokenizer *t, struct apr_error *e);

/* {key: {"t": type, "v": value}}: those of them that are a tokenizer's and no arrays. */
APR_MUST_CHECK enum apr_code apr_restore_words(struct apr_draft *d, const struct apr_value *kv, struct apr_error *e);

/* Of a checkpoint: all but the arrays of tokens: pre, special tokens, flags, templates alone (tokenizer_gguf.c). */
APR_MUST_CHECK enum apr_code apr_gguf_words_of(struct apr_draft *d, struct apr_tokenizer *t, struct apr_tokenizer_files *f,
                                               struct apr_error *e);

/* "tokenizer.ggml.X" or "tokenizer.X" for the role that a vocabulary calls "unk": "unknown"; NULL: a GGUF has no key for it. */
const char *apr_special_key(enum apr_special_role role);

#endif
