/* The tokens of a GGUF from a checkpoint's vocabulary: texts, scores and types as the converter of llama.cpp gives them. */
#include "token/tokenizer_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define LOWER_ONE_EIGHTH_BLOCK "\xe2\x96\x81" /* U+2581, SentencePiece's space */

#define PADDING_SCORE (-10000.0f)
#define ADDED_SCORE   (-1000.0f)
#define UNREACHED     (-1e9f) /* of a piece that no merge makes */
#define XLMR_MASK     250001u /* of the published XLM-RoBERTa, whose SentencePiece model lacks it */

void apr_token_list_end(struct apr_token_list *l)
{
    free(l->row);
    apr_arena_free(&l->arena);
    *l = (struct apr_token_list){ 0 };
}

/* ---- the list -------------------------------------------------------------------------------------------------------- */

/* All of it padding, "[PAD7]". */
static enum apr_code begin(struct apr_token_list *l, uint64_t n, float score, struct apr_error *e)
{
    if (n > APR_MOST_TOKENS)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "a vocabulary of %llu tokens; %llu is the most that is written", (unsigned long long)n,
                        (unsigned long long)APR_MOST_TOKENS);
    l->row = malloc((n + 1) * sizeof *l->row);
    if (l->row == NULL)
        return apr_no_memory(e);
    for (; l->n < n; l->n++)
        l->row[l->n] = (struct apr_token_row){ .score = score, .type = APR_TOKEN_UNUSED };
    return APR_OK;
}

/* Gives padding its texts, where nothing else came. */
static enum apr_code name_padding(struct apr_token_list *l, struct apr_error *e)
{
    for (uint64_t i = 0; i < l->n; i++) {
        if (l->row[i].text.at != NULL)
            continue;
        l->row[i].text = apr_arena_format(&l->arena, "[PAD%llu]", (unsigned long long)i);
        if (l->row[i].text.at == NULL)
            return apr_no_memory(e);
    }
    return APR_OK;
}

/* An empty text is a text. */
static struct apr_bytes there(struct apr_bytes text)
{
    return text.at != NULL ? text : (struct apr_bytes){ (const unsigned char *)"", 0 };
}

static void put(struct apr_token_list *l, uint64_t id, struct apr_bytes text, float score, enum apr_token_type type)
{
    l->row[id] = (struct apr_token_row){ there(text), score, (uint8_t)type };
}

/* ---- added tokens ---------------------------------------------------------------------------------------------------- */

static bool framed(struct apr_bytes text, const char *before, const char *after)
{
    const size_t n = strlen(before), tail = strlen(after);
    return text.n >= n + tail && memcmp(text.at, before, n) == 0 && memcmp(text.at + text.n - tail, after, tail) == 0;
}

/* Tokens that are special by their looks, whatever their file says. */
static bool looks_special(struct apr_bytes text)
{
    static const char *const whole[] = { "<pad>", "<mask>", "<2mass>", "[@BOS@]" };
    for (size_t i = 0; i < APR_LENGTH(whole); i++)
        if (apr_bytes_is(text, whole[i]))
            return true;
    return framed(text, "<|", "|>") || framed(text, "<\xef\xbd\x9c", "\xef\xbd\x9c>") || framed(text, "<unused", ">");
}

/* U+2581 becomes a space. */
static enum apr_code plain_spaces(struct apr_token_list *l, struct apr_bytes *text, struct apr_error *e)
{
    const size_t mark = sizeof LOWER_ONE_EIGHTH_BLOCK - 1;
    size_t n = 0;
    if (!apr_bytes_have(*text, LOWER_ONE_EIGHTH_BLOCK))
        return APR_OK;
    unsigned char *const own = apr_arena_alloc(&l->arena, text->n + 1);
    if (own == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < text->n;) {
        const bool space = text->n - i >= mark && memcmp(text->at + i, LOWER_ONE_EIGHTH_BLOCK, mark) == 0;
        own[n++] = space ? ' ' : text->at[i];
        i += space ? mark : 1;
    }
    *text = (struct apr_bytes){ own, n };
    return APR_OK;
}

static enum apr_code put_added(struct apr_token_list *l, const struct apr_token *t, float score, struct apr_error *e)
{
    struct apr_bytes text = t->text;
    const bool bare = t->flags & APR_TOKEN_BARE, control = t->flags & APR_TOKEN_SPECIAL || (!bare && looks_special(text));
    if (!control && !bare)
        APR_TRY(plain_spaces(l, &text, e));
    put(l, t->id, text, score, control ? APR_TOKEN_CONTROL : APR_TOKEN_USER);
    return APR_OK;
}

/* ---- kinds ----------------------------------------------------------------------------------------------------------- */

static enum apr_code fill_bpe(struct apr_token_list *l, const struct apr_vocabulary *v, struct apr_error *e)
{
    for (size_t i = 0; i < v->ntoken; i++) {
        const struct apr_token *const t = &v->token[i];
        if (t->flags & APR_TOKEN_ADDED)
            APR_TRY(put_added(l, t, 0, e));
        else
            put(l, t->id, t->text, 0, APR_TOKEN_NORMAL);
    }
    return APR_OK;
}

/* What begins a word is marked, where HuggingFace marks what goes on with one. */
static enum apr_code mark_words(struct apr_token_list *l, const struct apr_vocabulary *v, struct apr_error *e)
{
    const size_t mark = sizeof LOWER_ONE_EIGHTH_BLOCK - 1;
    for (uint64_t i = 0; i < l->n; i++) {
        struct apr_bytes *const text = &l->row[i].text;
        if (l->row[i].type == APR_TOKEN_CONTROL)
            continue;
        if (v->prefix.n > 0 && text->n >= v->prefix.n && memcmp(text->at, v->prefix.at, v->prefix.n) == 0) {
            *text = (struct apr_bytes){ text->at + v->prefix.n, text->n - v->prefix.n };
            continue;
        }
        unsigned char *const own = apr_arena_alloc(&l->arena, text->n + mark);
        if (own == NULL)
            return apr_no_memory(e);
        memcpy(own, LOWER_ONE_EIGHTH_BLOCK, mark);
        memcpy(own + mark, text->at, text->n);
        *text = (struct apr_bytes){ own, text->n + mark };
    }
    return APR_OK;
}

/* tokenizer.json's added tokens fill what neither the model nor tokenizer_config.json has. */
static enum apr_code fill_gaps(struct apr_token_list *l, const struct apr_vocabulary *json, struct apr_error *e)
{
    for (size_t i = 0; json != NULL && i < json->ntoken; i++) {
        const struct apr_token *const t = &json->token[i];
        if (t->flags & APR_TOKEN_ADDED && t->id < l->n && l->row[t->id].text.at == NULL)
            APR_TRY(put_added(l, t, ADDED_SCORE, e));
    }
    return APR_OK;
}

/* Pieces that the model's user defined are normal here. */
static enum apr_code fill_spm(struct apr_token_list *l, const struct apr_tokenizer_files *f, struct apr_error *e)
{
    for (size_t i = 0; i < f->v->ntoken && f->v->token[i].id < l->n; i++) {
        const struct apr_token *const t = &f->v->token[i];
        if (t->flags & APR_TOKEN_ADDED)
            APR_TRY(put_added(l, t, ADDED_SCORE, e));
        else
            put(l, t->id, t->text, (float)t->score, t->type == APR_TOKEN_USER ? APR_TOKEN_NORMAL : (enum apr_token_type)t->type);
    }
    return fill_gaps(l, f->json, e);
}

/* Pieces of a tokenizer.json have no scores: the earlier a merge makes one the higher it is, and what is one character comes after all of
 * them. */
static enum apr_code score_pieces(struct apr_token_list *l, struct apr_vocabulary *v, struct apr_error *e)
{
    float next = -1;
    APR_TRY(apr_vocabulary_index(v, e));
    for (size_t i = 0; i < v->nmerge; i++) {
        const struct apr_token *const t = apr_vocabulary_join(v, &v->merge[i]);
        if (t != NULL && l->row[t->id].score == UNREACHED)
            l->row[t->id].score = next--;
    }
    for (uint64_t i = 0; i < l->n; i++) {
        const struct apr_bytes text = l->row[i].text;
        if (l->row[i].score == UNREACHED && text.n > 0 && apr_utf8_length(text.at, text.n) == text.n)
            l->row[i].score = next--;
    }
    return APR_OK;
}

static enum apr_code fill_spm_json(struct apr_token_list *l, struct apr_vocabulary *v, struct apr_error *e)
{
    uint32_t unknown = UINT32_MAX;
    apr_vocabulary_special(v, APR_UNK, &unknown);
    for (size_t i = 0; i < v->ntoken; i++) {
        const struct apr_token *const t = &v->token[i];
        if (t->flags & APR_TOKEN_ADDED)
            APR_TRY(put_added(l, t, ADDED_SCORE, e));
        else if (t->type == APR_TOKEN_BYTE)
            put(l, t->id, t->text, 0, APR_TOKEN_BYTE);
        else
            put(l, t->id, t->text, t->id == unknown ? 0 : UNREACHED, t->id == unknown ? APR_TOKEN_UNKNOWN : APR_TOKEN_NORMAL);
    }
    return score_pieces(l, v, e);
}

/* Words of a turn that Gemma 4 shows, whatever its files say. */
static bool is_shown(struct apr_bytes text)
{
    static const char *const shown[] = { "<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>",
                                         "<|\"|>" };
    for (size_t i = 0; i < APR_LENGTH(shown); i++)
        if (apr_bytes_is(text, shown[i]))
            return true;
    return false;
}

/* No piece has a score: merges say how a text is cut. Of added tokens only those behind the model's own are the user's. */
static void fill_gemma4(struct apr_token_list *l, const struct apr_vocabulary *v)
{
    uint32_t last = 0;
    for (size_t i = 0; i < v->ntoken; i++)
        last = v->token[i].flags & APR_TOKEN_ADDED ? last : v->token[i].id;
    for (size_t i = 0; i < v->ntoken && v->token[i].id < l->n; i++) {
        const struct apr_token *const t = &v->token[i];
        const bool special = (t->flags & APR_TOKEN_SPECIAL) && !is_shown(t->text),
                   users = is_shown(t->text) || (t->flags & APR_TOKEN_ADDED && t->id > last);
        put(l, t->id, t->text, ADDED_SCORE, t->type == APR_TOKEN_BYTE ? APR_TOKEN_BYTE
                                            : special                 ? APR_TOKEN_CONTROL
                                            : users                   ? APR_TOKEN_USER
                                                                      : APR_TOKEN_NORMAL);
    }
}

/* A SentencePiece model beside XLM-RoBERTa: HuggingFace puts four tokens before its pieces, which lack the first three and the last. */
static enum apr_code realign(struct apr_token_list *l, struct apr_error *e)
{
    static const char *const first[] = { "<s>", "<pad>", "</s>", "<unk>" };
    APR_TRY(name_padding(l, e));
    for (uint64_t i = l->n; i-- > APR_LENGTH(first);)
        l->row[i] = l->row[i - 1];
    for (uint64_t i = 0; i < APR_LENGTH(first) && i < l->n; i++)
        put(l, i, apr_text(first[i]), 0, i == 3 ? APR_TOKEN_UNKNOWN : APR_TOKEN_CONTROL);
    if (l->n > XLMR_MASK)
        put(l, XLMR_MASK, apr_text("<mask>"), 0, APR_TOKEN_CONTROL);
    return APR_OK;
}

static enum apr_code fill_unigram(struct apr_token_list *l, const struct apr_tokenizer_files *f, struct apr_error *e)
{
    const struct apr_vocabulary *const v = f->v;
    const bool model = v->from == APR_FROM_SENTENCEPIECE;
    uint32_t unknown = UINT32_MAX;
    apr_vocabulary_special(v, APR_UNK, &unknown);
    for (size_t i = 0; i < v->ntoken && v->token[i].id < l->n; i++) {
        const struct apr_token *const t = &v->token[i];
        enum apr_token_type type = t->flags & APR_TOKEN_ADDED   ? t->flags & APR_TOKEN_SPECIAL ? APR_TOKEN_CONTROL : APR_TOKEN_USER
                                   : t->type == APR_TOKEN_USER ? APR_TOKEN_NORMAL
                                                               : (enum apr_token_type)t->type;
        if (!model && t->id == unknown)
            type = APR_TOKEN_UNKNOWN;
        put(l, t->id, t->text, (float)t->score, type);
    }
    return f->realigned ? realign(l, e) : fill_gaps(l, f->json, e);
}

/* ---- all of them ----------------------------------------------------------------------------------------------------- */

enum apr_code apr_tokens_bounded(const struct apr_vocabulary *v, struct apr_error *e)
{
    if (v->size <= APR_MOST_TOKENS || v->ntoken == 0)
        return APR_OK;
    const struct apr_token *const last = &v->token[v->ntoken - 1];
    return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "token %s has id %u, and a vocabulary of at most %llu tokens is written; there are %llu",
                    APR_QUOTED(last->text), (unsigned)last->id, (unsigned long long)APR_MOST_TOKENS, (unsigned long long)v->ntoken);
}

/* A token that has no room. Those that are added to a SentencePiece's own are dropped there, as llama.cpp does. */
static enum apr_code fits(const struct apr_tokenizer_files *f, uint64_t n, uint64_t rows, struct apr_error *e)
{
    const bool pieces = f->as == APR_SPM_MODEL || f->v->from == APR_FROM_SENTENCEPIECE;
    const uint64_t room = rows != 0 && rows < n ? rows : n;
    size_t own = f->v->ntoken;
    while (pieces && own > 0 && (f->v->token[own - 1].flags & APR_TOKEN_ADDED) != 0)
        own--;
    const struct apr_token *const last = own == 0 ? NULL : &f->v->token[own - 1];
    if (last == NULL || last->id < room)
        return APR_OK;
    return apr_fail(e, APR_EARG, APR_NOWHERE, "token %s has id %u, and %s %llu: the tokenizer is of another model "
                    "(--tokenizer DIR takes that of DIR)", APR_QUOTED(last->text), (unsigned)last->id,
                    rows != 0 && rows < n ? "the rows of the embedding are" : "vocab_size in config.json is", (unsigned long long)room);
}

enum apr_code apr_tokens_of_files(struct apr_token_list *l, const struct apr_tokenizer_files *f, uint64_t n, uint64_t rows,
                                  struct apr_error *e)
{
    if (n == 0)
        n = f->v->size > rows ? f->v->size : rows;
    APR_TRY(fits(f, n, rows, e));
    if ((f->as == APR_UNIGRAM && n < f->v->size) || f->as == APR_GEMMA4)
        n = f->v->size;
    if (rows != 0 && n > rows)
        n = rows;
    if (n >= f->v->size)
        APR_TRY(apr_tokens_bounded(f->v, e));
    const bool scores = f->as == APR_SPM_MODEL || f->as == APR_SPM_JSON || f->as == APR_UNIGRAM;
    APR_TRY(begin(l, n, scores ? PADDING_SCORE : 0, e));
    switch (f->as) {
    case APR_SPM_MODEL: APR_TRY(fill_spm(l, f, e)); break;
    case APR_SPM_JSON:  APR_TRY(fill_spm_json(l, f->v, e)); break;
    case APR_UNIGRAM:   APR_TRY(fill_unigram(l, f, e)); break;
    case APR_GEMMA4:    fill_gemma4(l, f->v); break;
    default:            APR_TRY(fill_bpe(l, f->v, e));
    }
    APR_TRY(name_padding(l, e));
    return f->as == APR_WORDPIECE ? mark_words(l, f->v, e) : APR_OK;
}
