/* Which of a checkpoint's files make its tokenizer. */
#include "token/tokenizer_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/memstream.h"

#define REALIGNED "sentencepiece.bpe.model"

/* Ways to take a tokenizer, of each the files in the order in which they are tried. named: only where the family asks for this kind, as T5
 * does, whose tokenizer.json does not say what happens to blanks. */
static const struct way {
    enum apr_tokenizer_source  as;
    const char                *file;
    enum apr_vocabulary_source from;
    enum apr_vocabulary_kind   kind; /* that tokenizer.json must be of */
    bool                       named;
} ways[] = {
    { APR_SPM_MODEL, "tokenizer.model", APR_FROM_SENTENCEPIECE, APR_VOCABULARY_NONE, false },
    { APR_SPM_JSON, "tokenizer.json", APR_FROM_TOKENIZER_JSON, APR_VOCABULARY_SPM, false },
    { APR_BPE, "tokenizer.json", APR_FROM_TOKENIZER_JSON, APR_VOCABULARY_BPE, false },
    { APR_BPE, "vocab.json", APR_FROM_VOCAB_JSON, APR_VOCABULARY_NONE, false },
    { APR_WORDPIECE, "tokenizer.json", APR_FROM_TOKENIZER_JSON, APR_VOCABULARY_WORDPIECE, false },
    { APR_WORDPIECE, "vocab.txt", APR_FROM_VOCAB_TXT, APR_VOCABULARY_NONE, false },
    { APR_UNIGRAM, REALIGNED, APR_FROM_SENTENCEPIECE, APR_VOCABULARY_NONE, false },
    { APR_UNIGRAM, "spiece.model", APR_FROM_SENTENCEPIECE, APR_VOCABULARY_NONE, true },
    { APR_UNIGRAM, "tokenizer.json", APR_FROM_TOKENIZER_JSON, APR_VOCABULARY_UNIGRAM, false },
    { APR_UNIGRAM, "spiece.model", APR_FROM_SENTENCEPIECE, APR_VOCABULARY_NONE, false },
    { APR_GEMMA4, "tokenizer.json", APR_FROM_TOKENIZER_JSON, APR_VOCABULARY_SPM, true },
};

bool apr_tokenizer_files_any(const struct apr_side *side)
{
    for (size_t i = 0; i < APR_LENGTH(ways); i++)
        if (side != NULL && apr_side_get(side, ways[i].file).at != NULL)
            return true;
    return false;
}

/* ---- tokenizer_config.json ------------------------------------------------------------------------------------------- */

enum apr_code apr_tokenizer_member(struct apr_tokenizer_files *f, const char *key, struct apr_value *out, struct apr_error *e)
{
    struct apr_member m[] = { { .key = key } };
    *out = (struct apr_value){ .type = APR_META_ANY };
    if (f->config.type != APR_META_OBJECT)
        return APR_OK;
    APR_TRY(apr_take_members(&f->scratch, &f->config, m, 1, e));
    if (m[0].value.type != APR_META_NULL)
        *out = m[0].value;
    return APR_OK;
}

enum apr_code apr_tokenizer_member_text(struct apr_tokenizer_files *f, const char *key, struct apr_bytes *out, struct apr_error *e)
{
    struct apr_value v;
    struct apr_member content[] = { { .key = "content" } };
    *out = (struct apr_bytes){ 0 };
    APR_TRY(apr_tokenizer_member(f, key, &v, e));
    APR_TRY(apr_take_members(&f->scratch, &v, content, 1, e));
    if (v.type == APR_META_OBJECT)
        v = content[0].value;
    if (v.type == APR_META_STRING)
        *out = v.text;
    return APR_OK;
}

static enum apr_code read_config(struct apr_tokenizer_files *f, struct apr_error *e)
{
    const struct apr_bytes text = apr_side_get(f->side, "tokenizer_config.json");
    if (text.at == NULL)
        return APR_OK;
    return apr_side_in(f->side, "tokenizer_config.json", apr_take_object(&f->scratch, text, &f->config, e), e);
}

/* ---- the vocabulary -------------------------------------------------------------------------------------------------- */

/* Tokens that are added go by other ids than its own. */
static enum apr_code read_realigned(struct apr_tokenizer_files *f, struct apr_error *e)
{
    f->v = &f->of_other;
    f->realigned = true;
    return apr_side_in(f->side, REALIGNED, apr_read_sentencepiece(&f->of_other, apr_side_get(f->side, REALIGNED), e), e);
}

/* Takes the first way that leads to one of this kind. */
static enum apr_code take(struct apr_tokenizer_files *f, enum apr_tokenizer_source as, bool named, struct apr_error *e)
{
    for (size_t i = 0; i < APR_LENGTH(ways) && f->v == NULL; i++) {
        const struct way *const w = &ways[i];
        if (w->as != as || (w->named && !named) || apr_side_get(f->side, w->file).at == NULL)
            continue;
        if (strcmp(w->file, REALIGNED) == 0) {
            APR_TRY(read_realigned(f, e));
        } else if (w->from != APR_FROM_TOKENIZER_JSON) {
            APR_TRY(apr_vocabulary_side(&f->of_other, f->side, w->from, e));
            f->v = &f->of_other;
        } else if (f->json != NULL && f->json->kind == w->kind) {
            f->v = f->json;
        }
        if (f->v != NULL)
            f->as = as;
    }
    return APR_OK;
}

/* Those that the family names come first, in its order, then any that is there. One that says it is GPT-2's is a BPE, whatever else lies
 * there. */
static enum apr_code choose(struct apr_tokenizer_files *f, const struct apr_tokenizer *t, struct apr_error *e)
{
    struct apr_bytes class;
    APR_TRY(apr_tokenizer_member_text(f, "tokenizer_class", &class, e));
    if (apr_bytes_is(class, "GPT2Tokenizer"))
        APR_TRY(take(f, APR_BPE, false, e));
    const struct apr_tokenizer_rules *const rules = t->b == NULL ? NULL : &apr_binding_family(t->b)->tokenizer;
    for (unsigned i = 0; rules != NULL && i < rules->norder && f->v == NULL; i++)
        APR_TRY(take(f, rules->order[i], true, e));
    for (unsigned as = 0; as < APR_NTOKENIZERS && f->v == NULL; as++)
        APR_TRY(take(f, (enum apr_tokenizer_source)as, false, e));
    return APR_OK;
}

enum apr_code apr_tokenizer_files_read(struct apr_tokenizer_files *f, const struct apr_tokenizer *t, struct apr_error *e)
{
    f->side = t->side;
    f->as = APR_NTOKENIZERS;
    APR_TRY(read_config(f, e));
    if (apr_side_get(f->side, "tokenizer.json").at != NULL) {
        APR_TRY(apr_vocabulary_side(&f->of_json, f->side, APR_FROM_TOKENIZER_JSON, e));
        f->json = &f->of_json;
    }
    return choose(f, t, e);
}

void apr_tokenizer_files_end(struct apr_tokenizer_files *f)
{
    apr_vocabulary_end(&f->of_json);
    apr_vocabulary_end(&f->of_other);
    apr_vocabulary_end(&f->scratch);
    *f = (struct apr_tokenizer_files){ 0 };
}

/* ---- JSON into memory ------------------------------------------------------------------------------------------------ */

enum apr_code apr_text_begin(struct apr_text_made *m, struct apr_error *e)
{
    *m = (struct apr_text_made){ 0 };
    m->out.to = apr_memstream(&m->at, &m->n);
    return m->out.to == NULL ? apr_no_memory(e) : APR_OK;
}

enum apr_code apr_text_end(struct apr_text_made *m, struct apr_arena **a, struct apr_bytes *text, struct apr_error *e)
{
    const bool lost = ferror(m->out.to) != 0, closed = fclose(m->out.to) == 0;
    *text = lost || !closed ? (struct apr_bytes){ 0 } : apr_arena_copy(a, (struct apr_bytes){ (const unsigned char *)m->at, m->n });
    free(m->at);
    return text->at == NULL ? apr_no_memory(e) : APR_OK;
}

const char *apr_spell_float(float v, char buffer[32])
{
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(buffer, 32, "%.*g", digits, (double)v);
        if (strtof(buffer, NULL) == v)
            break;
    }
    if (strpbrk(buffer, ".e") == NULL)
        strcat(buffer, ".0"); /* a number that is real, and -0 stays what it is */
    return buffer;
}
