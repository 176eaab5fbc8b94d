/* A tokenizer's vocabulary, whatever holds it: tokenizer.json, a SentencePiece model, vocab.txt, vocab.json with merges.txt, the metadata
 * of a GGUF or of an APR file. Reading is lenient: what makes no sense is counted and left out, so that a checker can tell of it. */
#ifndef APR_VOCABULARY_H
#define APR_VOCABULARY_H

#include "base/core.h"
#include "model/side.h"

/* How text becomes tokens. SPM is SentencePiece's BPE: pieces with scores, or merges and tokens for bytes. */
enum apr_vocabulary_kind {
    APR_VOCABULARY_NONE, APR_VOCABULARY_BPE, APR_VOCABULARY_SPM, APR_VOCABULARY_UNIGRAM, APR_VOCABULARY_WORDPIECE, APR_VOCABULARY_RWKV,
    APR_VOCABULARY_OTHER, /* named, but of no kind that is known here */
};

/* What held it. */
enum apr_vocabulary_source {
    APR_FROM_NOTHING, APR_FROM_TOKENIZER_JSON, APR_FROM_SENTENCEPIECE, APR_FROM_VOCAB_JSON, APR_FROM_VOCAB_TXT, APR_FROM_METADATA,
};

/* The numbers are GGUF's and SentencePiece's. */
enum apr_token_type {
    APR_TOKEN_NORMAL = 1, APR_TOKEN_UNKNOWN, APR_TOKEN_CONTROL, APR_TOKEN_USER, APR_TOKEN_UNUSED, APR_TOKEN_BYTE,
};

/* Of a token that a HuggingFace file adds to its model's own. OWN: which has it as well; BARE: nothing but its text and id are told, as
 * in added_tokens.json. */
enum {
    APR_TOKEN_ADDED = 1, APR_TOKEN_SPECIAL = 2, APR_TOKEN_SINGLE_WORD = 4, APR_TOKEN_LSTRIP = 8, APR_TOKEN_RSTRIP = 16,
    APR_TOKEN_NORMALIZED = 32, APR_TOKEN_OWN = 64, APR_TOKEN_BARE = 128,
};

/* text is as the source spells it: byte-level BPE has its stand-ins for bytes, SentencePiece U+2581 for a space, WordPiece "##" before what
 * continues a word, or (from a GGUF) U+2581 before what begins one. Any bytes; it may be empty. */
struct apr_token {
    struct apr_bytes text;
    uint32_t         id;
    uint8_t          type, flags;
    double           score; /* 0 where the source has none; a float, but in a tokenizer.json */
};

struct apr_merge {
    struct apr_bytes left, right;
};

enum apr_special_role {
    APR_BOS, APR_EOS, APR_UNK, APR_SEP, APR_PAD, APR_CLS, APR_MASK, APR_EOT, APR_EOM,
    APR_FIM_PRE, APR_FIM_SUF, APR_FIM_MID, APR_FIM_PAD, APR_FIM_REP, APR_FIM_SEP,
    APR_NROLES,           /* and any other */
};

/* word     the role as the source calls it: "unk", "unknown"
 *   id       need be no token's
 *   implied  by the model itself, config.json or generation_config.json; else the tokenizer's files or keys name it */
struct apr_special {
    enum apr_special_role role;
    struct apr_bytes      word;
    uint64_t              id;
    bool                  implied;
};

/* The one without a name of its own is "default". */
struct apr_chat_template {
    struct apr_bytes name, text;
};

enum apr_choice { APR_UNSAID, APR_NO, APR_YES };

/* What was left out, or is odd.
 *   listed      entries of the list of tokens; `unreadable` of them are no text with an id below 2^32 - 1; the first has unreadable_text
 *   shared      tokens left out because a later one has their id
 *   again       tokens whose text stands there a second time, again_text is one; the last one counts. Set once the texts are indexed
 *   bad_merges  that are not two parts; the first as it is spelled
 *   odd         the first member, or key, that is not what it must be (a list, an object ...): its name, what it must be, and how it is
 *               spelled, which is empty where it is not there, or cannot be shown; or NULL */
struct apr_vocabulary_faults {
    uint64_t         listed, unreadable, shared, again, bad_merges;
    struct apr_bytes again_text, bad_merge, unreadable_text, odd_text;
    const char      *odd, *odd_wants;
};

#define APR_MOST_VOCABULARY_FILES 16

/* Begin with zeros. Texts are views into the model and the files, which stay open, or lie in the arena.
 *   found           there is something of a tokenizer, if only a template
 *   model, pre      as the source spells them: "BPE" or "gpt2"; the pre-tokenizer's name in a GGUF, its type in tokenizer.json; or empty
 *   size            the highest id + 1, or the length of the list
 *   token           by rising id, no id twice; ntoken is below size where ids are missing
 *   special         the first of a role is the one; more of it end a text too
 *   charsmap        SentencePiece's precompiled normalization
 *   normalizer ...  members of tokenizer.json as they are spelled, or empty
 *   prefix, suffix  marks of a token within a word ("##") and at its end ("</w>"), from tokenizer.json or vocab.txt
 *   unk_token       of a tokenizer.json's model: the text of the token for what it does not know, or empty
 *   longest_word    of a WordPiece: characters of a word, a longer one is unknown; 0: nothing is said
 *   escape_whitespaces, space_suffix  of SentencePiece: blanks become U+2581; the one that is added stands behind a text
 * From `file` on all is private. */
struct apr_vocabulary {
    enum apr_vocabulary_kind     kind;
    enum apr_vocabulary_source   from;
    bool                         found;
    struct apr_bytes             model, pre;
    uint64_t                     size, longest_word;
    struct apr_token            *token;
    struct apr_merge            *merge;
    struct apr_special          *special;
    struct apr_chat_template    *chat;
    size_t                       ntoken, nmerge, nspecial, nchat;
    bool                         has_scores, has_types, byte_fallback, ignore_merges, fuse_unk;
    enum apr_choice              add_bos, add_eos, add_sep, add_space_prefix, remove_extra_whitespaces, escape_whitespaces, space_suffix,
                                 lowercase, strip_accents;
    struct apr_bytes             charsmap, normalizer, pre_tokenizer, post_processor, decoder, prefix, suffix, unk_token;
    struct apr_vocabulary_faults faults;

    struct apr_source           *file[APR_MOST_VOCABULARY_FILES];
    size_t                       nfile, token_room, merge_room, special_room, chat_room, longest;
    struct apr_bytes             reading; /* the file under way */
    struct apr_arena            *arena;
    struct apr_table             by_text;
    unsigned char               *joined;
};

/* Reads a model's vocabulary: from its metadata, or from the files beside a checkpoint. Without any it is empty, which is no failure. A
 * failure names the file; v is then what had been read before it. The model must stay open. apr_vocabulary_end in any case. */
APR_MUST_CHECK enum apr_code apr_vocabulary_read(struct apr_vocabulary *v, const struct apr_model *m, const struct apr_run *r,
                                                 struct apr_error *e);

/* From the folder ("" or ending in '/'), and of several sources that one; APR_FROM_NOTHING takes the first that is there, in the order of
 * the enum. */
APR_MUST_CHECK enum apr_code apr_vocabulary_folder(struct apr_vocabulary *v, const char *folder, enum apr_vocabulary_source wanted,
                                                   const struct apr_run *r, struct apr_error *e);

/* The same from files at hand, which stay; messages name them as apr_side_in does. */
APR_MUST_CHECK enum apr_code apr_vocabulary_side(struct apr_vocabulary *v, const struct apr_side *side, enum apr_vocabulary_source wanted,
                                                 struct apr_error *e);
void apr_vocabulary_end(struct apr_vocabulary *v);

/* The token of that id, or NULL. */
const struct apr_token *apr_vocabulary_token(const struct apr_vocabulary *v, uint64_t id);

/* *id of the first special token of a role; false when there is none. */
bool apr_vocabulary_special(const struct apr_vocabulary *v, enum apr_special_role role, uint32_t *id);

/* The chat template of that name, or empty. */
struct apr_bytes apr_vocabulary_chat(const struct apr_vocabulary *v, const char *name);

/* Makes texts findable, and counts those that stand there twice; what is done already is not done again. */
APR_MUST_CHECK enum apr_code apr_vocabulary_index(struct apr_vocabulary *v, struct apr_error *e);

/* Of an indexed vocabulary: the token with that text; with the text of both parts, one after the other (one thread at a time). Or NULL. */
const struct apr_token *apr_vocabulary_find(const struct apr_vocabulary *v, struct apr_bytes text);
const struct apr_token *apr_vocabulary_join(struct apr_vocabulary *v, const struct apr_merge *parts);

#endif
