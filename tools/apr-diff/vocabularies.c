/* Whether two models read a text as the same tokens: how many there are, what they are, how they merge, which are special. */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "config.h"
#include "model/format.h"
#include "model/meta.h"
#include "token/vocabulary.h"

static bool begins(struct apr_bytes text, const char *word) { return apr_bytes_begin(text, apr_text(word)); }

/* ---- where they stand ----------------------------------------------------------------------------------------------- */

/* The key of GGUF's that the metadata has, else the reference's. */
static struct apr_bytes key_in(const struct apr_model *m, const char *gguf, const char *reference)
{
    return apr_text(apr_meta_find(&m->meta, gguf) != NULL ? gguf : reference);
}

static struct apr_bytes file_of(const struct apr_vocabulary *v)
{
    static const char *const files[] = { [APR_FROM_TOKENIZER_JSON] = "tokenizer.json", [APR_FROM_SENTENCEPIECE] = "tokenizer.model",
                                         [APR_FROM_VOCAB_JSON] = "vocab.json", [APR_FROM_VOCAB_TXT] = "vocab.txt" };
    return (size_t)v->from < APR_LENGTH(files) && files[v->from] != NULL ? apr_text(files[v->from]) : (struct apr_bytes){ 0 };
}

static struct stated tokens_of(const struct config_side *s, const struct apr_vocabulary *v)
{
    return (struct stated){ .file = file_of(v), .key = v->from == APR_FROM_METADATA
                                                           ? key_in(s->model, "tokenizer.ggml.tokens", "tokenizer.vocabulary")
                                                           : apr_text("vocab") };
}

static struct stated merges_of(const struct config_side *s, const struct apr_vocabulary *v)
{
    return (struct stated){ .file = file_of(v), .key = v->from == APR_FROM_METADATA
                                                           ? key_in(s->model, "tokenizer.ggml.merges", "tokenizer.merges")
                                                           : apr_text("merges") };
}

/* ---- tokens --------------------------------------------------------------------------------------------------------- */

#define BLANK "\xe2\x96\x81" /* U+2581, SentencePiece's space */

/* A WordPiece vocabulary in GGUF's spelling marks what begins a word, in HuggingFace's ("##") what continues one. */
static bool marks_beginnings(const struct apr_vocabulary *v)
{
    bool yes = false;
    for (size_t i = 0; v->kind == APR_VOCABULARY_WORDPIECE && !yes && i < v->ntoken; i++)
        yes = begins(v->token[i].text, BLANK);
    return yes;
}

/* A token stands for its text, or fills a place that the embedding has and the tokenizer does not. */
static bool fills(const struct apr_token *t)
{
    char padding[2][32];
    if (t == NULL || t->type == APR_TOKEN_UNUSED)
        return true;
    snprintf(padding[0], sizeof padding[0], "[PAD%u]", t->id);
    snprintf(padding[1], sizeof padding[1], "<|pad_%u|>", t->id);
    return apr_bytes_is(t->text, padding[0]) || apr_bytes_is(t->text, padding[1]) ||
           begins(t->text, BLANK "[PAD");
}

/* Without what fills places at the end, and is not called the same on the other side. */
static uint64_t length_of(const struct apr_vocabulary *v, const struct apr_vocabulary *other)
{
    for (size_t n = v->ntoken; n > 0; n--) {
        const struct apr_token *t = &v->token[n - 1], *o = apr_vocabulary_token(other, t->id);
        if (!fills(t) || (!fills(o) && apr_bytes_equal(t->text, o->text)))
            return (uint64_t)t->id + 1;
    }
    return 0;
}

static struct apr_bytes behind(struct apr_bytes text, size_t n) { return (struct apr_bytes){ text.at + n, text.n - n }; }

/* The same texts, but for blanks: a converter writes the U+2581 of a token that was added as one. */
static bool same_blanks(struct apr_bytes a, struct apr_bytes b)
{
    while (a.n > 0 && b.n > 0) {
        const size_t x = begins(a, BLANK) ? 3 : a.at[0] == ' ', y = begins(b, BLANK) ? 3 : b.at[0] == ' ';
        if ((x > 0) != (y > 0) || (x == 0 && a.at[0] != b.at[0]))
            return false;
        a = behind(a, x > 0 ? x : 1);
        b = behind(b, y > 0 ? y : 1);
    }
    return a.n == b.n;
}

/* hf continues a word behind "##"; gguf begins one behind U+2581, but for special tokens. */
static bool same_piece(const struct apr_token *hf, const struct apr_token *gguf)
{
    if (apr_bytes_equal(hf->text, gguf->text))
        return !begins(hf->text, "##") || gguf->type == APR_TOKEN_CONTROL;
    if (begins(gguf->text, BLANK))
        return apr_bytes_equal(hf->text, behind(gguf->text, 3));
    return begins(hf->text, "##") && apr_bytes_equal(behind(hf->text, 2), gguf->text);
}

/* turned: 0 both are spelled in one way, else the number of the side that marks beginnings, from 1. */
static bool same_token(const struct apr_token *a, const struct apr_token *b, unsigned turned)
{
    if (fills(a) && fills(b))
        return true;
    if (a == NULL || b == NULL)
        return false;
    if (turned > 0)
        return turned == 1 ? same_piece(b, a) : same_piece(a, b);
    return apr_bytes_equal(a->text, b->text) || same_blanks(a->text, b->text);
}

static enum apr_code spell_token(struct config_work *w, const struct apr_token *t, struct apr_bytes *json)
{
    return t == NULL ? APR_OK : spell_string(w->c, t->text, json, w->e);
}

static enum apr_code compare_tokens(struct config_work *w, const struct apr_vocabulary v[2])
{
    const uint64_t length[] = { length_of(&v[0], &v[1]), length_of(&v[1], &v[0]) }, shorter = apr_min(length[0], length[1]);
    const bool mark[] = { marks_beginnings(&v[0]), marks_beginnings(&v[1]) };
    const unsigned turned = mark[0] == mark[1] ? 0 : mark[0] ? 1 : 2;
    struct stated side[] = { tokens_of(&w->side[0], &v[0]), tokens_of(&w->side[1], &v[1]) };
    uint64_t first = UINT64_MAX, n = 0;
    char name[80];
    if (shorter == 0)
        return APR_OK;
    for (uint64_t id = 0; id < shorter; id++)
        if (!same_token(apr_vocabulary_token(&v[0], id), apr_vocabulary_token(&v[1], id), turned) && n++ == 0)
            first = id;
    if (length[0] != length[1]) {
        APR_TRY(spell_count(w->c, length[0], &side[0].value, w->e));
        APR_TRY(spell_count(w->c, length[1], &side[1].value, w->e));
        APR_TRY(tell_config(w->c, "tokens", &side[0], &side[1], w->e));
    }
    if (n == 0)
        return APR_OK;
    snprintf(name, sizeof name, "token %llu (the first of %llu)", (unsigned long long)first, (unsigned long long)n);
    for (int i = 0; i < 2; i++) {
        side[i].value = (struct apr_bytes){ 0 };
        APR_TRY(spell_token(w, apr_vocabulary_token(&v[i], first), &side[i].value));
    }
    return tell_config(w->c, name, &side[0], &side[1], w->e);
}

/* ---- merges --------------------------------------------------------------------------------------------------------- */

/* A GGUF writes a space within a part as U+0120. */
static bool same_part(struct apr_bytes a, struct apr_bytes b)
{
    while (a.n > 0 && b.n > 0) {
        const size_t x = begins(a, "\xc4\xa0") ? 2 : 1, y = begins(b, "\xc4\xa0") ? 2 : 1;
        const bool blank = (x == 2 || a.at[0] == ' ') && (y == 2 || b.at[0] == ' ');
        if (!blank && a.at[0] != b.at[0])
            return false;
        a = behind(a, blank ? x : 1);
        b = behind(b, blank ? y : 1);
    }
    return a.n == b.n;
}

static enum apr_code spell_merge(struct config_work *w, const struct apr_merge *m, struct apr_bytes *json)
{
    unsigned char *text = apr_arena_alloc(&w->c->arena, m->left.n + m->right.n + 1);
    if (text == NULL)
        return apr_no_memory(w->e);
    if (m->left.n > 0)
        memcpy(text, m->left.at, m->left.n);
    text[m->left.n] = ' ';
    if (m->right.n > 0)
        memcpy(text + m->left.n + 1, m->right.at, m->right.n);
    return spell_string(w->c, (struct apr_bytes){ text, m->left.n + m->right.n + 1 }, json, w->e);
}

/* A vocabulary with scores needs none, so both must have some. */
static enum apr_code compare_merges(struct config_work *w, const struct apr_vocabulary v[2])
{
    const size_t shorter = (size_t)apr_min(v[0].nmerge, v[1].nmerge);
    struct stated side[] = { merges_of(&w->side[0], &v[0]), merges_of(&w->side[1], &v[1]) };
    char name[48];
    size_t first = 0;
    if (shorter == 0)
        return APR_OK;
    while (first < shorter && same_part(v[0].merge[first].left, v[1].merge[first].left) &&
           same_part(v[0].merge[first].right, v[1].merge[first].right))
        first++;
    if (v[0].nmerge != v[1].nmerge) {
        APR_TRY(spell_count(w->c, v[0].nmerge, &side[0].value, w->e));
        APR_TRY(spell_count(w->c, v[1].nmerge, &side[1].value, w->e));
        APR_TRY(tell_config(w->c, "merges", &side[0], &side[1], w->e));
    }
    if (first == shorter)
        return APR_OK;
    snprintf(name, sizeof name, "merge %zu", first);
    for (int i = 0; i < 2; i++)
        APR_TRY(spell_merge(w, &v[i].merge[first], &side[i].value));
    return tell_config(w->c, name, &side[0], &side[1], w->e);
}

/* ---- special tokens ------------------------------------------------------------------------------------------------- */

/* The one of a role: what the tokenizer names, else what the model's configuration implies. */
static const struct apr_special *special_of(const struct apr_vocabulary *v, enum apr_special_role role)
{
    for (size_t k = 0; k < 2 * v->nspecial; k++) {
        const struct apr_special *s = &v->special[k % v->nspecial];
        if (s->role == role && s->implied == (k >= v->nspecial) && (v->ntoken == 0 || apr_vocabulary_token(v, s->id) != NULL))
            return s;
    }
    return NULL;
}

static enum apr_code special_stated(struct config_work *w, int i, const struct apr_special *s, struct stated *out)
{
    const struct apr_model *m = w->side[i].model;
    char gguf[128], reference[128];
    snprintf(gguf, sizeof gguf, "tokenizer.ggml.%.*s_token_id", (int)apr_min(s->word.n, 80), (const char *)s->word.at);
    snprintf(reference, sizeof reference, "tokenizer.%.*s_token_id", (int)apr_min(s->word.n, 80), (const char *)s->word.at);
    const char *const key = !m->format->config ? (const char *)key_in(m, gguf, reference).at : strchr(reference, '.') + 1;
    *out = (struct stated){ .key = apr_arena_copy(&w->c->arena, apr_text(key)) };
    if (out->key.at == NULL)
        return apr_no_memory(w->e);
    if (m->format->config)
        out->file = apr_text(s->implied ? "config.json" : "tokenizer_config.json");
    if (m->format->config && !s->implied)
        out->key.n -= sizeof "_id" - 1;
    return spell_count(w->c, s->id, &out->value, w->e);
}

static enum apr_code compare_special(struct config_work *w, const struct apr_vocabulary v[2])
{
    static const char *const names[APR_NROLES] = {
        [APR_BOS] = "bos token", [APR_EOS] = "eos token", [APR_UNK] = "unknown token", [APR_SEP] = "sep token", [APR_PAD] = "pad token",
        [APR_CLS] = "cls token", [APR_MASK] = "mask token", [APR_EOT] = "eot token", [APR_EOM] = "eom token",
        [APR_FIM_PRE] = "fim prefix token", [APR_FIM_SUF] = "fim suffix token", [APR_FIM_MID] = "fim middle token",
        [APR_FIM_PAD] = "fim pad token", [APR_FIM_REP] = "fim rep token", [APR_FIM_SEP] = "fim sep token",
    };
    for (unsigned role = 0; role < APR_NROLES; role++) {
        const struct apr_special *s[] = { special_of(&v[0], role), special_of(&v[1], role) };
        struct stated side[2];
        if (s[0] == NULL || s[1] == NULL || s[0]->id == s[1]->id)
            continue;
        for (int i = 0; i < 2; i++)
            APR_TRY(special_stated(w, i, s[i], &side[i]));
        APR_TRY(tell_config(w->c, names[role], &side[0], &side[1], w->e));
    }
    return APR_OK;
}

/* ---- templates ------------------------------------------------------------------------------------------------------ */

/* The line that begins at `at`, or the rest of one. */
static struct apr_bytes line_at(struct apr_bytes text, size_t at)
{
    while (at > 0 && text.at[at - 1] != '\n')
        at--;
    const struct apr_bytes rest = behind(text, at);
    const unsigned char *end = rest.n == 0 ? NULL : memchr(rest.at, '\n', rest.n);
    return (struct apr_bytes){ rest.at, end == NULL ? rest.n : (size_t)(end - rest.at) };
}

static enum apr_code compare_chat(struct config_work *w, const struct apr_vocabulary v[2])
{
    const struct apr_bytes text[] = { apr_vocabulary_chat(&v[0], "default"), apr_vocabulary_chat(&v[1], "default") };
    struct stated side[2] = { 0 };
    size_t at = 0;
    if (text[0].n == 0 || text[1].n == 0 || apr_bytes_equal(text[0], text[1]))
        return APR_OK;
    while (at < text[0].n && at < text[1].n && text[0].at[at] == text[1].at[at])
        at++;
    for (int i = 0; i < 2; i++) {
        const bool folder = w->side[i].model->format->config;
        side[i].file = folder ? apr_text("tokenizer_config.json") : (struct apr_bytes){ 0 };
        side[i].key = folder ? apr_text("chat_template") : key_in(w->side[i].model, "tokenizer.chat_template", "chat_template");
        APR_TRY(spell_string(w->c, line_at(text[i], at), &side[i].value, w->e));
    }
    return tell_config(w->c, "chat template, where it first differs:", &side[0], &side[1], w->e);
}

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

static enum apr_code compare_read(struct config_work *w, const struct apr_vocabulary v[2])
{
    APR_TRY(compare_tokens(w, v));
    APR_TRY(compare_merges(w, v));
    APR_TRY(compare_special(w, v));
    return w->o->metadata ? compare_chat(w, v) : APR_OK;
}

enum apr_code compare_vocabularies(struct config_work *w)
{
    struct apr_vocabulary v[2] = { 0 };
    enum apr_code code = apr_vocabulary_read(&v[0], w->side[0].model, &w->o->cli.run, w->e);
    if (code == APR_OK)
        code = apr_vocabulary_read(&v[1], w->side[1].model, &w->o->cli.run, w->e);
    if (code == APR_OK)
        code = compare_read(w, v);
    apr_vocabulary_end(&v[0]);
    apr_vocabulary_end(&v[1]);
    return code;
}
