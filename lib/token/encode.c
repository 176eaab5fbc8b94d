/* Text to tokens: special tokens are found in it, what is between them is normalized, cut, and handed to a model piece by piece. */
#include "token/encode.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "model/format.h"
#include "model/meta.h"
#include "token/around.h"
#include "token/finder.h"
#include "token/vocabulary_read.h"

/* ---- ids ------------------------------------------------------------------------------------------------------------- */

enum apr_code apr_ids_add(struct apr_ids *ids, uint32_t id, struct apr_error *e)
{
    uint32_t *const more = apr_grown(ids->id, &ids->room, ids->n, 64, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    ids->id = more;
    ids->id[ids->n++] = id;
    return APR_OK;
}

void apr_ids_free(struct apr_ids *ids)
{
    free(ids->id);
    *ids = (struct apr_ids){ 0 };
}

/* ---- the encoder ----------------------------------------------------------------------------------------------------- */

/* pre          of a byte-level BPE as llama.cpp has it, else NULL
 *   split      NULL: the model cuts
 *   verbatim   what stands in a text as it is; normal: what is looked for once it is normalized
 *   plain      of each token, by its place: it is spelled as it stands
 *   left       bytes that may yet be made of what is under way
 *   valid ...  room for texts on their way */
struct apr_encoder {
    struct apr_vocabulary         v;
    struct apr_side               side;
    enum apr_manner               manner;
    const struct apr_pre         *pre;
    const struct apr_token_model *model;
    void                         *state;
    struct apr_normalizer        *normalizer;
    struct apr_split             *split;
    struct apr_finder            *verbatim, *normal;
    struct apr_found_list         found, within;
    struct apr_around             around;
    unsigned char                *plain;
    size_t                        left;
    struct apr_made               valid, normalized, escaped;
};

enum apr_code apr_token_model_begin(const struct apr_token_model *model, void **state, struct apr_vocabulary *v, enum apr_manner manner,
                                    struct apr_error *e)
{
    *state = calloc(1, model->state_bytes);
    if (*state == NULL)
        return apr_no_memory(e);
    const enum apr_code code = model->begin(*state, v, manner, e);
    if (code != APR_OK) {
        apr_token_model_end(model, *state);
        *state = NULL;
    }
    return code;
}

void apr_token_model_end(const struct apr_token_model *model, void *state)
{
    if (state == NULL)
        return;
    model->end(state);
    free(state);
}

void apr_encoder_free(struct apr_encoder *x)
{
    if (x == NULL)
        return;
    apr_token_model_end(x->model, x->state);
    apr_normalizer_free(x->normalizer);
    apr_split_free(x->split);
    apr_finder_free(x->verbatim);
    apr_finder_free(x->normal);
    apr_around_end(&x->around);
    free(x->found.at);
    free(x->within.at);
    free(x->plain);
    free(x->valid.at);
    free(x->normalized.at);
    free(x->escaped.at);
    apr_vocabulary_end(&x->v);
    apr_side_end(&x->side);
    free(x);
}

/* n bytes were made. Nothing is left of a file's steps that make ever more of a text, or more of each part of it. */
static enum apr_code spend(struct apr_encoder *x, size_t n, struct apr_error *e)
{
    if (n >= x->left)
        return apr_made_too_much(e);
    x->left -= n;
    return APR_OK;
}

/* `normalized` becomes the text as it is normalized. */
static enum apr_code normalize(struct apr_encoder *x, struct apr_bytes text, struct apr_error *e)
{
    APR_TRY(apr_normalize(x->normalizer, text, x->left, &x->normalized, e));
    return spend(x, x->normalized.n, e);
}

/* ---- which tokens are looked for ------------------------------------------------------------------------------------- */

/* Room for all tokens; the caller frees it. */
static struct apr_wanted *room_for_tokens(const struct apr_encoder *x) { return malloc((x->v.ntoken + 1) * sizeof(struct apr_wanted)); }

static size_t bytes_of_tokens(const struct apr_vocabulary *v)
{
    size_t n = 0;
    for (size_t i = 0; i < v->ntoken; i++)
        n += v->token[i].text.n;
    return n;
}

/* Added tokens; normalized: those that are looked for in normalized text, as they are then. */
static enum apr_code find_added(struct apr_encoder *x, bool normalized, struct apr_finder **f, struct apr_error *e)
{
    size_t n = 0;
    enum apr_code code = APR_OK;
    struct apr_wanted *const wanted = room_for_tokens(x);
    if (wanted == NULL)
        return apr_no_memory(e);
    x->left = apr_most_made(bytes_of_tokens(&x->v));
    for (size_t i = 0; i < x->v.ntoken && code == APR_OK; i++) {
        const struct apr_token *const t = &x->v.token[i];
        const bool known = t->flags & APR_TOKEN_ADDED || (x->manner == APR_AS_SENTENCEPIECE && t->type == APR_TOKEN_CONTROL);
        const bool late = x->normalizer != NULL && t->flags & APR_TOKEN_NORMALIZED;
        struct apr_bytes text = t->text;
        if (!known || late != normalized)
            continue;
        if (late) {
            code = normalize(x, text, e);
            text = apr_arena_copy(&x->v.arena, (struct apr_bytes){ x->normalized.at, x->normalized.n });
            if (code == APR_OK && text.at == NULL)
                code = apr_no_memory(e);
        }
        wanted[n++] = (struct apr_wanted){ text, t, t->flags | (t->type == APR_TOKEN_CONTROL ? APR_TOKEN_SPECIAL : 0u) };
    }
    if (code == APR_OK)
        code = apr_finder_new(f, wanted, n, true, e);
    free(wanted);
    return code;
}

/* What llama.cpp takes a token for, whatever its type. */
enum attribute { CONTROL = 1, USER = 2, UNKNOWN = 4, LSTRIP = 8, RSTRIP = 16 };

static unsigned char *attribute_of(const struct apr_encoder *x, unsigned char *all, const char *text)
{
    const struct apr_token *const t = apr_vocabulary_find(&x->v, apr_text(text));
    return t == NULL ? NULL : &all[t - x->v.token];
}

/* Of these the first of each line that the vocabulary has, unless the file names one in that role. */
static const struct {
    enum apr_special_role role;
    const char           *text[8];
} infills[] = {
    { APR_FIM_PRE, { "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<\uff5cfim\u2581begin\uff5c>", "<PRE>", "\u2581<PRE>",
                     "<|code_prefix|>", "<|prefix|>" } },
    { APR_FIM_SUF, { "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<\uff5cfim\u2581hole\uff5c>", "<SUF>", "\u2581<SUF>",
                     "<|code_suffix|>", "<|suffix|>" } },
    { APR_FIM_MID, { "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<\uff5cfim\u2581end\uff5c>", "<MID>", "\u2581<MID>",
                     "<|code_middle|>", "<|middle|>" } },
    { APR_FIM_PAD, { "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]" } },
    { APR_FIM_REP, { "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>" } },
    { APR_FIM_SEP, { "<|file_sep|>" } },
};

static void mark_infills(const struct apr_encoder *x, unsigned char *all)
{
    uint32_t id;
    for (size_t i = 0; i < APR_LENGTH(infills); i++) {
        unsigned char *first = NULL;
        for (size_t k = 0; k < APR_LENGTH(infills[i].text) && infills[i].text[k] != NULL; k++) {
            unsigned char *const at = attribute_of(x, all, infills[i].text[k]);
            first = first == NULL || (at != NULL && at < first) ? at : first;
        }
        if (first != NULL && !apr_vocabulary_special(&x->v, infills[i].role, &id))
            *first |= CONTROL;
    }
}

/* Tokens that end a text are special by their names, and four of one family are not. */
static void mark_by_name(const struct apr_encoder *x, unsigned char *all)
{
    static const char *const ends[] = {
        "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>", "<|endoftext|>", "</s>",
        "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>",
        "<\uff5cend\u2581of\u2581sentence\uff5c>", "[e~[",
    };
    static const char *const user[] = { "<|channel|>", "<|message|>", "<|start|>", "<|constrain|>" };
    for (size_t i = 0; i < APR_LENGTH(ends); i++)
        if (attribute_of(x, all, ends[i]) != NULL)
            *attribute_of(x, all, ends[i]) |= CONTROL;
    for (size_t i = 0; i < APR_LENGTH(user); i++)
        if (attribute_of(x, all, user[i]) != NULL)
            *attribute_of(x, all, user[i]) = USER;
    const bool call = attribute_of(x, all, "<|call|>") != NULL || attribute_of(x, all, "<|calls|>") != NULL;
    const bool more = attribute_of(x, all, "<|return|>") != NULL || attribute_of(x, all, "<|flush|>") != NULL;
    if (call && more && attribute_of(x, all, "<|end|>") != NULL)
        *attribute_of(x, all, "<|end|>") = USER;
    if ((attribute_of(x, all, "<|tool_response>") != NULL) && attribute_of(x, all, "</s>") != NULL)
        *attribute_of(x, all, "</s>") = 0;
}

/* Is one of the words in the text, in letters of any case? */
static bool names_any(struct apr_bytes text, const char *const *word, size_t n)
{
    char small[256];
    const size_t length = apr_min(text.n, sizeof small - 1);
    for (size_t i = 0; i < length; i++)
        small[i] = text.at[i] == 0 ? ' ' : (char)tolower(text.at[i]);
    small[length] = 0;
    for (size_t i = 0; i < n; i++)
        if (strstr(small, word[i]) != NULL)
            return true;
    return false;
}

/* Blanks that a token takes with it: a GGUF does not say, so llama.cpp goes by the model's name. */
static void mark_blanks(const struct apr_encoder *x, const struct apr_meta *meta, unsigned char *all)
{
    static const char *const jina[] = { "jina-v2-de", "jina-v2-es", "jina-v2-code" }, *const moe[] = { "nomic-bert-moe", "jina-bert-v3" };
    static const char *const phi[] = { "phi-3", "phi3" }, *const modern[] = { "modern-bert" };
    static const char *const no_phi[] = { "<unk>", "<s>", "<|endoftext|>" };
    const struct apr_bytes name = apr_meta_string(meta, "general.name");
    const bool masks = names_any(x->v.pre, jina, 3) || names_any(apr_meta_string(meta, "general.architecture"), moe, 2);
    const char *const mask = masks ? "<mask>" : names_any(name, modern, 1) ? "[MASK]" : NULL;
    if (mask != NULL && attribute_of(x, all, mask) != NULL)
        *attribute_of(x, all, mask) |= LSTRIP;
    if (masks || !names_any(name, phi, 2))
        return;
    for (size_t i = 0; i < x->v.ntoken; i++)
        all[i] |= all[i] != 0 ? RSTRIP : 0;
    for (size_t i = 0; i < APR_LENGTH(no_phi); i++)
        if (attribute_of(x, all, no_phi[i]) != NULL)
            *attribute_of(x, all, no_phi[i]) &= (unsigned char)~RSTRIP;
}

/* Without types the tokens that have a role are special ones. */
static void mark_types(const struct apr_encoder *x, bool gguf, unsigned char *all)
{
    for (size_t i = 0; i < x->v.ntoken; i++) {
        const unsigned type = x->v.token[i].type;
        all[i] = type == APR_TOKEN_CONTROL ? CONTROL : type == APR_TOKEN_USER ? USER : type == APR_TOKEN_UNKNOWN ? UNKNOWN : 0;
    }
    for (size_t i = 0; i < x->v.nspecial && !gguf && !x->v.has_types; i++) {
        const struct apr_token *const t = apr_vocabulary_token(&x->v, x->v.special[i].id);
        if (t != NULL)
            all[t - x->v.token] |= CONTROL;
    }
}

static enum apr_code find_typed(struct apr_encoder *x, const struct apr_meta *gguf, struct apr_error *e)
{
    size_t n = 0;
    struct apr_wanted *const wanted = room_for_tokens(x);
    if (wanted == NULL)
        return apr_no_memory(e);
    mark_types(x, gguf != NULL, x->plain);
    mark_infills(x, x->plain);
    mark_by_name(x, x->plain);
    if (gguf != NULL)
        mark_blanks(x, gguf, x->plain);
    for (size_t i = 0; i < x->v.ntoken; i++) {
        const unsigned is = x->plain[i];
        const unsigned flags = (is & (CONTROL | UNKNOWN) ? APR_TOKEN_SPECIAL : 0u) | (is & LSTRIP ? APR_TOKEN_LSTRIP : 0u) |
                               (is & RSTRIP ? APR_TOKEN_RSTRIP : 0u);
        if (is & (CONTROL | USER | UNKNOWN))
            wanted[n++] = (struct apr_wanted){ x->v.token[i].text, &x->v.token[i], flags };
    }
    const enum apr_code code = apr_finder_new(&x->verbatim, wanted, n, false, e);
    free(wanted);
    return code;
}

/* ---- making it ------------------------------------------------------------------------------------------------------- */

/* A tokenizer.json's BPE is one, whether it falls back on bytes or not; and so is Gemma 4's. */
static const struct apr_token_model *model_for(const struct apr_encoder *x)
{
    switch (x->v.kind) {
    case APR_VOCABULARY_BPE:       return &apr_model_bpe;
    case APR_VOCABULARY_SPM:       return x->manner == APR_AS_HUGGINGFACE ? &apr_model_bpe : &apr_model_spm;
    case APR_VOCABULARY_UNIGRAM:   return &apr_model_unigram;
    case APR_VOCABULARY_WORDPIECE: return &apr_model_wordpiece;
    case APR_VOCABULARY_OTHER:     return apr_bytes_is(x->v.model, "gemma4") ? &apr_model_bpe : NULL;
    default:                       return NULL;
    }
}

/* The name that an APR has no word for is GPT-2's, a GGUF's llama.cpp's default. */
static enum apr_code find_pre(struct apr_encoder *x, bool gguf, struct apr_error *e)
{
    if (apr_bytes_is(x->v.model, "gemma4"))
        x->v.pre = apr_text("gemma4");
    if (x->v.pre.n == 0 && !gguf)
        x->v.pre = apr_text("gpt-2");
    x->pre = apr_pre_named(x->v.pre);
    return x->pre != NULL ? APR_OK
                          : apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "pre-tokenizer %s is not known", APR_QUOTED(x->v.pre));
}

static enum apr_code set_up_json(struct apr_encoder *x, struct apr_error *e)
{
    APR_TRY(apr_normalizer_new(&x->normalizer, &x->v, e));
    APR_TRY(apr_split_json(&x->split, &x->v, x->v.pre_tokenizer, e));
    APR_TRY(apr_around_json(&x->around, &x->v, e));
    APR_TRY(find_added(x, false, &x->verbatim, e));
    return x->normalizer == NULL ? APR_OK : find_added(x, true, &x->normal, e);
}

static enum apr_code set_up_files(struct apr_encoder *x, struct apr_error *e)
{
    if (x->model == &apr_model_bpe) /* vocab.json and merges.txt are of the time of GPT-2 */
        APR_TRY(apr_split_named(&x->split, apr_pre_named(apr_text("gpt-2")), e));
    APR_TRY(apr_around_files(&x->around, &x->v, e));
    return find_added(x, false, &x->verbatim, e);
}

static enum apr_code set_up_keys(struct apr_encoder *x, const struct apr_meta *gguf, struct apr_error *e)
{
    if (x->model == &apr_model_bpe) {
        APR_TRY(find_pre(x, gguf != NULL, e));
        APR_TRY(apr_split_named(&x->split, x->pre, e));
    }
    APR_TRY(apr_around_keys(&x->around, &x->v, x->pre, e));
    return find_typed(x, gguf, e);
}

/* What the reader left out would be other tokens: a vocabulary that is not whole is none. */
static enum apr_code refuse_faults(const struct apr_vocabulary *v, struct apr_error *e)
{
    const struct apr_vocabulary_faults *const f = &v->faults;
    if (f->unreadable > 0)
        return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "%llu of %llu tokens are no text with an id below 4294967295, the first is %s",
                        (unsigned long long)f->unreadable, (unsigned long long)f->listed, APR_QUOTED(f->unreadable_text));
    if (f->bad_merges > 0)
        return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "%llu of %llu merges are not two parts, the first is %s",
                        (unsigned long long)f->bad_merges, (unsigned long long)(v->nmerge + f->bad_merges), APR_QUOTED(f->bad_merge));
    if (f->odd == NULL)
        return APR_OK;
    if (f->odd_text.n == 0)
        return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "\"%s\" of the tokenizer is no %s", f->odd, f->odd_wants);
    return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "\"%s\" of the tokenizer is no %s: %s", f->odd, f->odd_wants,
                    APR_QUOTED(f->odd_text));
}

static enum apr_code set_up(struct apr_encoder *x, const struct apr_meta *gguf, struct apr_error *e)
{
    APR_TRY(refuse_faults(&x->v, e));
    if (x->v.ntoken == 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "the model has no tokenizer");
    APR_TRY(apr_vocabulary_index(&x->v, e));
    x->manner = x->v.from == APR_FROM_TOKENIZER_JSON ? APR_AS_HUGGINGFACE
              : x->v.from == APR_FROM_METADATA       ? APR_AS_LLAMA_CPP
                                                     : APR_AS_SENTENCEPIECE;
    x->model = model_for(x);
    x->plain = calloc(x->v.ntoken, 1);
    if (x->plain == NULL)
        return apr_no_memory(e);
    if (x->model == NULL)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "tokenizer %s is of no kind that is known", APR_QUOTED(x->v.model));
    APR_TRY(x->manner == APR_AS_HUGGINGFACE ? set_up_json(x, e)
            : x->manner == APR_AS_LLAMA_CPP ? set_up_keys(x, gguf, e)
                                            : set_up_files(x, e));
    for (size_t i = 0; i < x->v.ntoken && x->manner != APR_AS_LLAMA_CPP; i++)
        x->plain[i] = x->v.token[i].type == APR_TOKEN_CONTROL || x->v.token[i].flags & APR_TOKEN_ADDED;
    APR_TRY(refuse_faults(&x->v, e)); /* those that were found in its pipeline */
    return apr_token_model_begin(x->model, &x->state, &x->v, x->manner, e);
}

/* An APR has the files of a checkpoint within it, or keys. */
static enum apr_code read_vocabulary(struct apr_encoder *x, const struct apr_model *m, const struct apr_run *r, struct apr_error *e)
{
    static const char *const holders[] = { "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt" };
    bool carried = false;
    if (m->format->config || m->format->own_names)
        return apr_vocabulary_read(&x->v, m, r, e);
    APR_TRY(apr_side_of(&x->side, m, r, e));
    for (size_t i = 0; i < APR_LENGTH(holders); i++)
        carried = carried || apr_side_get(&x->side, holders[i]).at != NULL;
    return carried ? apr_vocabulary_side(&x->v, &x->side, APR_FROM_NOTHING, e) : apr_vocabulary_read(&x->v, m, r, e);
}

static enum apr_code finish(struct apr_encoder **x, enum apr_code code)
{
    if (code != APR_OK) {
        apr_encoder_free(*x);
        *x = NULL;
    }
    return code;
}

enum apr_code apr_encoder_new(struct apr_encoder **x, const struct apr_model *m, const struct apr_run *r, struct apr_error *e)
{
    *x = calloc(1, sizeof **x);
    if (*x == NULL)
        return apr_no_memory(e);
    enum apr_code code = read_vocabulary(*x, m, r, e);
    if (code == APR_OK)
        code = set_up(*x, m->format->own_names ? &m->meta : NULL, e);
    return finish(x, code);
}

enum apr_code apr_encoder_of(struct apr_encoder **x, struct apr_vocabulary *v, struct apr_error *e)
{
    *x = calloc(1, sizeof **x);
    if (*x == NULL) {
        apr_vocabulary_end(v);
        return apr_no_memory(e);
    }
    (*x)->v = *v;
    *v = (struct apr_vocabulary){ 0 };
    return finish(x, set_up(*x, NULL, e));
}

/* ---- encoding -------------------------------------------------------------------------------------------------------- */

/* Text without special tokens, normalized: cut, and encoded piece by piece. */
static enum apr_code encode_text(struct apr_encoder *x, struct apr_bytes text, unsigned where, struct apr_ids *ids, struct apr_error *e)
{
    const struct apr_cut_text *cut;
    size_t begin = 0;
    if (x->split == NULL) {
        const size_t before = ids->n;
        APR_TRY(x->model->encode(x->state, text, where, ids, e));
        return spend(x, ids->n - before, e);
    }
    APR_TRY(apr_split_run(x->split, text, where & APR_AT_START, x->left, &cut, e));
    APR_TRY(spend(x, cut->text.n, e));
    for (size_t i = 0; i < cut->n; begin = cut->end[i++]) {
        const struct apr_bytes piece = { cut->text.at + begin, cut->end[i] - begin };
        APR_TRY(x->model->encode(x->state, piece, i == 0 ? where : 0, ids, e));
    }
    return APR_OK;
}

/* Blanks become U+2581. */
static enum apr_code escape(struct apr_encoder *x, struct apr_bytes *text, struct apr_error *e)
{
    size_t from = 0;
    x->escaped.n = 0;
    for (size_t i = 0; i < text->n; i++)
        if (text->at[i] == ' ') {
            APR_TRY(apr_made_add(&x->escaped, (struct apr_bytes){ text->at + from, i - from }, e));
            APR_TRY(apr_made_add(&x->escaped, apr_text("\u2581"), e));
            from = i + 1;
        }
    APR_TRY(apr_made_add(&x->escaped, (struct apr_bytes){ text->at + from, text->n - from }, e));
    *text = (struct apr_bytes){ x->escaped.at, x->escaped.n };
    return APR_OK;
}

/* Does nothing come of the text's first character when it is normalized? Then what is left does not begin where the text does: a blank is
 * not put before it by those that put one before a text. */
static enum apr_code loses_first(struct apr_encoder *x, struct apr_bytes text, bool *yes, struct apr_error *e)
{
    unsigned char two[5];
    size_t n;
    struct apr_made alone = { 0 };
    apr_character(text.at, text.n, &n);
    memcpy(two, text.at, n);
    two[n] = 'x';
    enum apr_code code = apr_normalize(x->normalizer, apr_text("x"), x->left, &alone, e);
    if (code == APR_OK)
        code = apr_normalize(x->normalizer, (struct apr_bytes){ two, n + 1 }, x->left, &x->normalized, e);
    *yes = apr_bytes_equal((struct apr_bytes){ alone.at, alone.n }, (struct apr_bytes){ x->normalized.at, x->normalized.n });
    free(alone.at);
    return code;
}

/* What stands between two tokens of a text, or at its ends. */
static enum apr_code encode_between(struct apr_encoder *x, struct apr_bytes text, bool special, unsigned where, struct apr_ids *ids,
                                    struct apr_error *e)
{
    bool lost = false;
    if (x->manner != APR_AS_HUGGINGFACE && x->split != NULL) {
        if (x->pre != NULL && x->pre->escape)
            APR_TRY(escape(x, &text, e));
        APR_TRY(apr_valid(text, &x->valid, &text, e));
    }
    if (x->normalizer == NULL)
        return encode_text(x, text, where, ids, e);
    if (where & APR_AT_START && apr_bytes_have(x->v.pre_tokenizer, "\"first\"")) {
        APR_TRY(loses_first(x, text, &lost, e));
        where &= lost ? ~(unsigned)APR_AT_START : where;
    }
    APR_TRY(normalize(x, text, e));
    text = (struct apr_bytes){ x->normalized.at, x->normalized.n };
    APR_TRY(apr_finder_run(x->normal, text, special, &x->within, e));
    for (size_t i = 0; i < x->within.n; i++) {
        const struct apr_found *const f = &x->within.at[i];
        if (f->token != NULL)
            APR_TRY(apr_ids_add(ids, f->token->id, e));
        else
            APR_TRY(encode_text(x, (struct apr_bytes){ text.at + f->from, f->to - f->from }, f->from == 0 ? where : 0, ids, e));
    }
    return APR_OK;
}

static enum apr_code encode_all(struct apr_encoder *x, struct apr_bytes text, bool special, struct apr_ids *ids, struct apr_error *e)
{
    if (x->manner == APR_AS_HUGGINGFACE)
        APR_TRY(apr_valid(text, &x->valid, &text, e));
    APR_TRY(apr_finder_run(x->verbatim, text, special, &x->found, e));
    for (size_t i = 0; i < x->found.n; i++) {
        const struct apr_found *const f = &x->found.at[i];
        const unsigned where = (f->from == 0 ? APR_AT_START : 0u) | (i > 0 && f[-1].token != NULL ? APR_AFTER_TOKEN : 0u);
        if (f->token != NULL)
            APR_TRY(apr_ids_add(ids, f->token->id, e));
        else
            APR_TRY(encode_between(x, (struct apr_bytes){ text.at + f->from, f->to - f->from }, special, where, ids, e));
    }
    return APR_OK;
}

enum apr_code apr_encode(struct apr_encoder *x, struct apr_bytes text, bool special, struct apr_ids *ids, struct apr_error *e)
{
    x->left = apr_most_made(text.n);
    for (size_t i = 0; i < x->around.before.n; i++)
        APR_TRY(apr_ids_add(ids, x->around.before.id[i], e));
    APR_TRY(encode_all(x, text, special, ids, e));
    for (size_t i = 0; i < x->around.behind.n; i++)
        APR_TRY(apr_ids_add(ids, x->around.behind.id[i], e));
    return APR_OK;
}

/* ---- asking ---------------------------------------------------------------------------------------------------------- */

struct apr_bytes apr_token_spelling(struct apr_encoder *x, uint64_t id)
{
    const struct apr_token *const t = apr_vocabulary_token(&x->v, id);
    if (t == NULL)
        return (struct apr_bytes){ 0 };
    return x->plain[t - x->v.token] ? t->text : x->model->spelling(x->state, t);
}

bool apr_encoder_adds_bos(const struct apr_encoder *x, uint32_t *id)
{
    if (x->around.before.n > 0)
        *id = x->around.before.id[0];
    return x->around.before.n > 0;
}

const struct apr_vocabulary *apr_encoder_vocabulary(const struct apr_encoder *x) { return &x->v; }
