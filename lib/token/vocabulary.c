#include "token/vocabulary.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/table.h"
#include "files/source.h"
#include "token/vocabulary_read.h"

#define MOST_SPECIAL   256 /* ten times the roles that there are */
#define MOST_TEMPLATES 256

/* ---- asking --------------------------------------------------------------------------------------------------------- */

const struct apr_token *apr_vocabulary_token(const struct apr_vocabulary *v, uint64_t id)
{
    size_t low = 0, high = v->ntoken;
    if (id < v->ntoken && v->token[id].id == id)
        return &v->token[id]; /* no id is missing before it */
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (v->token[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < v->ntoken && v->token[low].id == id ? &v->token[low] : NULL;
}

bool apr_vocabulary_special(const struct apr_vocabulary *v, enum apr_special_role role, uint32_t *id)
{
    for (size_t k = 0; k < 2 * v->nspecial; k++) { /* the named ones first */
        const struct apr_special *s = &v->special[k % v->nspecial];
        if (s->role == role && s->implied == (k >= v->nspecial) && apr_vocabulary_token(v, s->id) != NULL) {
            *id = (uint32_t)s->id;
            return true;
        }
    }
    return false;
}

struct apr_bytes apr_vocabulary_chat(const struct apr_vocabulary *v, const char *name)
{
    for (size_t i = 0; i < v->nchat; i++)
        if (apr_bytes_is(v->chat[i].name, name))
            return v->chat[i].text;
    return (struct apr_bytes){ 0 };
}

const struct apr_token *apr_vocabulary_find(const struct apr_vocabulary *v, struct apr_bytes text)
{
    const union apr_table_value *at = apr_table_find(&v->by_text, text);
    return at == NULL ? NULL : &v->token[at->number];
}

const struct apr_token *apr_vocabulary_join(struct apr_vocabulary *v, const struct apr_merge *parts)
{
    const struct apr_bytes a = parts->left, b = parts->right;
    if (v->joined == NULL || a.n > v->longest || b.n > v->longest - a.n)
        return NULL;
    if (a.n > 0)
        memcpy(v->joined, a.at, a.n);
    if (b.n > 0)
        memcpy(v->joined + a.n, b.at, b.n);
    return apr_vocabulary_find(v, (struct apr_bytes){ v->joined, a.n + b.n });
}

/* ---- texts ---------------------------------------------------------------------------------------------------------- */

/* Token number i becomes the one with its text; *before is which it was, or i. */
static enum apr_code note_text(struct apr_vocabulary *v, size_t i, size_t *before, struct apr_error *e)
{
    bool fresh;
    union apr_table_value *at = apr_table_put(&v->by_text, v->token[i].text, &fresh);
    if (at == NULL)
        return apr_no_memory(e);
    *before = fresh ? i : at->number;
    at->number = i;
    return APR_OK;
}

static void note_again(struct apr_vocabulary *v, struct apr_bytes text)
{
    if (v->faults.again++ == 0)
        v->faults.again_text = text;
}

static enum apr_code index_texts(struct apr_vocabulary *v, bool counting, struct apr_error *e)
{
    apr_table_free(&v->by_text);
    if (!apr_table_expect(&v->by_text, v->ntoken))
        return apr_no_memory(e);
    for (size_t i = 0; i < v->ntoken; i++) {
        size_t before = i;
        APR_TRY(note_text(v, i, &before, e));
        if (before != i && counting)
            note_again(v, v->token[i].text);
    }
    return APR_OK;
}

enum apr_code apr_vocabulary_index(struct apr_vocabulary *v, struct apr_error *e)
{
    if (v->by_text.n == 0 && v->ntoken > 0)
        APR_TRY(index_texts(v, true, e));
    if (v->joined == NULL)
        v->joined = apr_arena_alloc(&v->arena, v->longest + 1);
    return v->joined == NULL ? apr_no_memory(e) : APR_OK;
}

/* ---- tokens --------------------------------------------------------------------------------------------------------- */

enum apr_code apr_put_token(struct apr_vocabulary *v, struct apr_bytes text, uint64_t id, enum apr_token_type type, double score,
                            struct apr_error *e)
{
    if (id >= UINT32_MAX) {
        if (v->faults.unreadable++ == 0)
            v->faults.unreadable_text = text;
        return APR_OK;
    }
    if (v->ntoken >= APR_MOST_TOKENS)
        return apr_found(apr_fail(e, APR_ELIMIT, APR_NOWHERE, "more than %llu tokens", (unsigned long long)APR_MOST_TOKENS), e,
                         "vocab.large");
    struct apr_token *more = apr_grown(v->token, &v->token_room, v->ntoken, 256, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    v->token = more;
    v->token[v->ntoken++] = (struct apr_token){ .text = text, .id = (uint32_t)id, .score = score, .type = (uint8_t)type };
    v->size = id >= v->size ? id + 1 : v->size;
    v->longest = text.n > v->longest ? text.n : v->longest;
    return APR_OK;
}

enum apr_code apr_put_keyed(struct apr_vocabulary *v, struct apr_bytes text, uint64_t id, enum apr_token_type type, struct apr_error *e)
{
    const size_t i = v->ntoken;
    size_t before = i;
    APR_TRY(apr_put_token(v, text, id, type, 0, e));
    if (v->ntoken == i)
        return APR_OK;
    APR_TRY(note_text(v, i, &before, e));
    if (before == i)
        return APR_OK;
    note_again(v, text);
    v->token[before].id = (uint32_t)id; /* the earlier one gives way */
    v->ntoken = i;
    union apr_table_value *at = apr_table_find(&v->by_text, text);
    at->number = before;
    return APR_OK;
}

enum apr_code apr_put_added(struct apr_vocabulary *v, struct apr_bytes text, uint64_t id, unsigned flags, struct apr_error *e)
{
    const enum apr_token_type type = flags & APR_TOKEN_SPECIAL ? APR_TOKEN_CONTROL : APR_TOKEN_USER;
    const union apr_table_value *at = apr_table_find(&v->by_text, text);
    size_t i = v->ntoken, before = i;
    unsigned own = 0;
    if (at != NULL && v->token[at->number].id == id) {
        i = at->number;
        own = v->token[i].flags & APR_TOKEN_ADDED ? v->token[i].flags & APR_TOKEN_OWN : APR_TOKEN_OWN;
    } else {
        APR_TRY(apr_put_token(v, text, id, type, 0, e));
        if (v->ntoken == i)
            return APR_OK;
        APR_TRY(note_text(v, i, &before, e));
    }
    v->token[i].type = (uint8_t)type;
    v->token[i].flags = (uint8_t)(flags | own | APR_TOKEN_ADDED);
    return APR_OK;
}

static int by_number(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Fills `sorted` from `order`, whose numbers are | id | place in v->token |; equal ids stand by rising place. */
static size_t take_sorted(struct apr_vocabulary *v, const uint64_t *order, struct apr_token *sorted)
{
    size_t n = 0;
    for (size_t i = 0; i < v->ntoken; i++) {
        const struct apr_token *t = &v->token[order[i] & UINT32_MAX];
        if (n > 0 && sorted[n - 1].id == t->id) {
            v->faults.shared++;
            n--;
        }
        sorted[n++] = *t;
    }
    return n;
}

static enum apr_code sort_tokens(struct apr_vocabulary *v, struct apr_error *e)
{
    uint64_t *order = malloc(v->ntoken * sizeof *order);
    struct apr_token *sorted = malloc(v->ntoken * sizeof *sorted);
    if (order == NULL || sorted == NULL) {
        free(order);
        free(sorted);
        return apr_no_memory(e);
    }
    for (size_t i = 0; i < v->ntoken; i++)
        order[i] = (uint64_t)v->token[i].id << 32 | i;
    qsort(order, v->ntoken, sizeof *order, by_number);
    const size_t n = take_sorted(v, order, sorted);
    free(order);
    free(v->token);
    v->token = sorted;
    v->token_room = v->ntoken;
    v->ntoken = n;
    return v->by_text.n > 0 ? index_texts(v, false, e) : APR_OK;
}

enum apr_code apr_order_tokens(struct apr_vocabulary *v, struct apr_error *e)
{
    size_t rising = 1;
    while (rising < v->ntoken && v->token[rising - 1].id < v->token[rising].id)
        rising++;
    if (rising < v->ntoken)
        APR_TRY(sort_tokens(v, e));
    v->size = v->ntoken == 0 ? 0 : (uint64_t)v->token[v->ntoken - 1].id + 1;
    return APR_OK;
}

/* ---- merges --------------------------------------------------------------------------------------------------------- */

enum apr_code apr_put_merge(struct apr_vocabulary *v, struct apr_bytes left, struct apr_bytes right, struct apr_error *e)
{
    if (v->nmerge >= APR_MOST_MERGES)
        return apr_found(apr_fail(e, APR_ELIMIT, APR_NOWHERE, "more than %llu merges", (unsigned long long)APR_MOST_MERGES), e,
                         "vocab.large");
    struct apr_merge *more = apr_grown(v->merge, &v->merge_room, v->nmerge, 256, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    v->merge = more;
    v->merge[v->nmerge++] = (struct apr_merge){ left, right };
    return APR_OK;
}

void apr_put_bad_merge(struct apr_vocabulary *v, struct apr_bytes spelled)
{
    if (v->faults.bad_merges++ == 0)
        v->faults.bad_merge = spelled;
}

void apr_put_odd(struct apr_vocabulary *v, const char *key, const char *wants, struct apr_bytes spelled)
{
    if (v->faults.odd != NULL)
        return;
    v->faults.odd = key;
    v->faults.odd_wants = wants;
    v->faults.odd_text = spelled;
}

enum apr_code apr_put_spelled_merge(struct apr_vocabulary *v, struct apr_bytes spelled, struct apr_error *e)
{
    const unsigned char *blank = spelled.n < 3 ? NULL : memchr(spelled.at + 1, ' ', spelled.n - 2);
    if (blank == NULL) {
        apr_put_bad_merge(v, spelled);
        return APR_OK;
    }
    const size_t left = (size_t)(blank - spelled.at);
    return apr_put_merge(v, (struct apr_bytes){ spelled.at, left }, (struct apr_bytes){ blank + 1, spelled.n - left - 1 }, e);
}

/* ---- special tokens, templates --------------------------------------------------------------------------------------- */

/* What HuggingFace's and GGUF's keys call them, older names last. */
static const struct {
    const char            *word;
    enum apr_special_role role;
} roles[] = {
    { "bos", APR_BOS },         { "eos", APR_EOS },         { "unk", APR_UNK },         { "unknown", APR_UNK },
    { "sep", APR_SEP },         { "seperator", APR_SEP },   { "separator", APR_SEP },   { "pad", APR_PAD },
    { "padding", APR_PAD },     { "cls", APR_CLS },         { "mask", APR_MASK },       { "eot", APR_EOT },
    { "eom", APR_EOM },         { "fim_pre", APR_FIM_PRE }, { "prefix", APR_FIM_PRE },  { "fim_suf", APR_FIM_SUF },
    { "suffix", APR_FIM_SUF },  { "fim_mid", APR_FIM_MID }, { "middle", APR_FIM_MID },  { "fim_pad", APR_FIM_PAD },
    { "fim_rep", APR_FIM_REP }, { "fim_sep", APR_FIM_SEP },
};

static enum apr_special_role role_of(struct apr_bytes word)
{
    for (size_t i = 0; i < APR_LENGTH(roles); i++)
        if (apr_bytes_is(word, roles[i].word))
            return roles[i].role;
    return APR_NROLES;
}

enum apr_code apr_put_special(struct apr_vocabulary *v, struct apr_bytes word, uint64_t id, bool implied, struct apr_error *e)
{
    const struct apr_special special = { role_of(word), word, id, implied };
    for (size_t i = 0; i < v->nspecial; i++)
        if (v->special[i].id == id && v->special[i].role == special.role && apr_bytes_equal(v->special[i].word, word)) {
            v->special[i].implied &= implied;
            return APR_OK;
        }
    if (v->nspecial == MOST_SPECIAL)
        return APR_OK;
    struct apr_special *more = apr_grown(v->special, &v->special_room, v->nspecial, 16, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    v->special = more;
    v->special[v->nspecial++] = special;
    return APR_OK;
}

enum apr_code apr_put_template(struct apr_vocabulary *v, struct apr_bytes name, struct apr_bytes text, struct apr_error *e)
{
    size_t i = 0;
    while (i < v->nchat && !apr_bytes_equal(v->chat[i].name, name))
        i++;
    if (i == MOST_TEMPLATES)
        return APR_OK;
    struct apr_chat_template *more = apr_grown(v->chat, &v->chat_room, v->nchat, 4, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    v->chat = more;
    v->chat[i] = (struct apr_chat_template){ name, text };
    v->nchat += i == v->nchat;
    v->found = true;
    return APR_OK;
}

void apr_vocabulary_end(struct apr_vocabulary *v)
{
    free(v->token);
    free(v->merge);
    free(v->special);
    free(v->chat);
    apr_table_free(&v->by_text);
    apr_arena_free(&v->arena);
    for (size_t i = 0; i < v->nfile; i++)
        apr_source_close(v->file[i]);
    *v = (struct apr_vocabulary){ 0 };
}
