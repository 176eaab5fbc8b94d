#include "token/finder.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "token/expression_parts.h"
#include "token/trie.h"

/* wanted  the longer ones first, unless leftmost
 *   seen  of each, the last text in which it stands
 *   word  matches a character of a word; NULL when nobody asks */
struct apr_finder {
    struct apr_wanted     *wanted;
    uint64_t              *seen, texts;
    size_t                 n;
    bool                   leftmost;
    struct apr_trie        trie;
    struct apr_expression *word;
    struct apr_found_list  next;
};

static enum apr_code put(struct apr_found_list *list, size_t from, size_t to, const struct apr_token *token, struct apr_error *e)
{
    struct apr_found *const more = apr_grown(list->at, &list->room, list->n, 64, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    list->at = more;
    list->at[list->n++] = (struct apr_found){ from, to, token };
    return APR_OK;
}

static enum apr_code put_text(struct apr_found_list *list, size_t from, size_t to, struct apr_error *e)
{
    return from < to ? put(list, from, to, NULL, e) : APR_OK;
}

/* ---- making it ------------------------------------------------------------------------------------------------------- */

static int longer_first(const void *a, const void *b)
{
    const struct apr_wanted *x = a, *y = b;
    if (x->text.n != y->text.n)
        return x->text.n < y->text.n ? 1 : -1;
    return (x->token->id > y->token->id) - (x->token->id < y->token->id);
}

static enum apr_code make_trie(struct apr_finder *f, struct apr_error *e)
{
    struct apr_trie_text *const text = malloc((f->n + 1) * sizeof *text);
    if (text == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < f->n; i++)
        text[i] = (struct apr_trie_text){ f->wanted[i].text, (uint32_t)i };
    const enum apr_code code = apr_trie_make(&f->trie, text, f->n, e);
    free(text);
    return code;
}

static enum apr_code make(struct apr_finder *f, const struct apr_wanted *wanted, size_t n, struct apr_error *e)
{
    bool words = false;
    f->wanted = malloc((n + 1) * sizeof *f->wanted);
    f->seen = calloc(n + 1, sizeof *f->seen);
    if (f->wanted == NULL || f->seen == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < n; i++)
        if (wanted[i].text.n > 0) {
            f->wanted[f->n++] = wanted[i];
            words = words || (f->leftmost && wanted[i].flags & APR_TOKEN_SINGLE_WORD);
        }
    if (!f->leftmost)
        qsort(f->wanted, f->n, sizeof *f->wanted, longer_first);
    if (words)
        APR_TRY(apr_expression_new(&f->word, apr_text("\\A[" APR_RUST_WORD "]"), false, e));
    return make_trie(f, e);
}

enum apr_code apr_finder_new(struct apr_finder **out, const struct apr_wanted *wanted, size_t n, bool leftmost, struct apr_error *e)
{
    struct apr_finder *const f = *out = calloc(1, sizeof *f);
    if (f == NULL)
        return apr_no_memory(e);
    f->leftmost = leftmost;
    const enum apr_code code = make(f, wanted, n, e);
    if (code != APR_OK) {
        apr_finder_free(f);
        *out = NULL;
    }
    return code;
}

void apr_finder_free(struct apr_finder *f)
{
    if (f == NULL)
        return;
    free(f->wanted);
    free(f->seen);
    free(f->next.at);
    apr_trie_free(&f->trie);
    apr_expression_free(f->word);
    free(f);
}

/* ---- leftmost, longest ----------------------------------------------------------------------------------------------- */

/* Where the character begins that ends before `at`, which is not the beginning. */
static size_t one_back(struct apr_bytes text, size_t at)
{
    do
        at--;
    while (at > 0 && (text.at[at] & 0xC0) == 0x80);
    return at;
}

static enum apr_code in_word(struct apr_finder *f, struct apr_bytes text, size_t at, bool *yes, struct apr_error *e)
{
    size_t begin, end, n;
    apr_character(text.at + at, text.n - at, &n);
    return apr_expression_next(f->word, (struct apr_bytes){ text.at + at, n }, 0, &begin, &end, yes, e);
}

/* Does no word go on over an end of it? */
static enum apr_code stands_alone(struct apr_finder *f, struct apr_bytes text, size_t from, size_t to, bool *yes, struct apr_error *e)
{
    bool before = false, behind = false;
    if (from > 0)
        APR_TRY(in_word(f, text, one_back(text, from), &before, e));
    if (to < text.n)
        APR_TRY(in_word(f, text, to, &behind, e));
    *yes = !before && !behind;
    return APR_OK;
}

static size_t before_blanks(struct apr_bytes text, size_t at, size_t least)
{
    size_t n;
    while (at > least && apr_is_space(apr_character(text.at + one_back(text, at), text.n - one_back(text, at), &n)))
        at = one_back(text, at);
    return at;
}

static size_t behind_blanks(struct apr_bytes text, size_t at)
{
    size_t n;
    while (at < text.n && apr_is_space(apr_character(text.at + at, text.n - at, &n)))
        at += n;
    return at;
}

/* A match that is not wanted is passed over whole. *taken: up to where the text is told. */
static enum apr_code take_match(struct apr_finder *f, struct apr_bytes text, bool special, size_t from, size_t to, uint32_t which,
                                struct apr_found_list *list, size_t *taken, struct apr_error *e)
{
    const struct apr_wanted *const w = &f->wanted[which];
    bool alone = true;
    if (!special && w->flags & APR_TOKEN_SPECIAL)
        return APR_OK;
    if (w->flags & APR_TOKEN_SINGLE_WORD)
        APR_TRY(stands_alone(f, text, from, to, &alone, e));
    if (!alone)
        return APR_OK;
    if (w->flags & APR_TOKEN_LSTRIP)
        from = before_blanks(text, from, *taken);
    if (w->flags & APR_TOKEN_RSTRIP)
        to = behind_blanks(text, to);
    APR_TRY(put_text(list, *taken, from, e));
    *taken = to;
    return put(list, from, to, w->token, e);
}

static enum apr_code run_leftmost(struct apr_finder *f, struct apr_bytes text, bool special, struct apr_found_list *list,
                                  struct apr_error *e)
{
    size_t taken = 0;
    for (size_t i = 0, n; i < text.n; i += n) {
        uint32_t which;
        n = f->trie.n == 0 ? 0 : apr_trie_longest(&f->trie, (struct apr_bytes){ text.at + i, text.n - i }, &which);
        if (n > 0)
            APR_TRY(take_match(f, text, special, i, i + n, which, list, &taken, e));
        else
            n = 1;
    }
    return put_text(list, taken, text.n, e);
}

/* ---- the longest of all first ---------------------------------------------------------------------------------------- */

static bool is_blank(unsigned char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* Puts the stretch from..to of the text, the token found in it wherever it stands. */
static enum apr_code find_in(const struct apr_wanted *w, struct apr_bytes text, size_t from, size_t to, struct apr_found_list *list,
                             struct apr_error *e)
{
    while (from < to) {
        const unsigned char *const at = memmem(text.at + from, to - from, w->text.at, w->text.n);
        if (at == NULL)
            break;
        const size_t begin = (size_t)(at - text.at);
        size_t before = begin;
        while (w->flags & APR_TOKEN_LSTRIP && before > from && is_blank(text.at[before - 1]))
            before--;
        APR_TRY(put_text(list, from, before, e));
        APR_TRY(put(list, begin, begin + w->text.n, w->token, e));
        from = begin + w->text.n;
        while (w->flags & APR_TOKEN_RSTRIP && from < to && is_blank(text.at[from]))
            from++;
    }
    return put_text(list, from, to, e);
}

/* Notes which of them stand in the text. */
static void note_seen(struct apr_finder *f, struct apr_bytes text)
{
    f->texts++;
    for (size_t i = 0; i < text.n; i++)
        for (size_t k = i, at = f->trie.top[text.at[i]]; at != 0; at = ++k < text.n ? apr_trie_step(&f->trie, (uint32_t)at, text.at[k]) : 0)
            if (f->trie.value[at] != APR_NO_VALUE)
                f->seen[f->trie.value[at]] = f->texts;
}

static enum apr_code run_longest(struct apr_finder *f, struct apr_bytes text, bool special, struct apr_found_list *list,
                                 struct apr_error *e)
{
    if (f->trie.n > 0)
        note_seen(f, text);
    APR_TRY(put_text(list, 0, text.n, e));
    for (size_t i = 0; i < f->n; i++) {
        const struct apr_wanted *const w = &f->wanted[i];
        if (f->seen[i] != f->texts || (!special && w->flags & APR_TOKEN_SPECIAL))
            continue;
        f->next.n = 0;
        for (size_t k = 0; k < list->n; k++)
            if (list->at[k].token != NULL)
                APR_TRY(put(&f->next, list->at[k].from, list->at[k].to, list->at[k].token, e));
            else
                APR_TRY(find_in(w, text, list->at[k].from, list->at[k].to, &f->next, e));
        const struct apr_found_list done = *list;
        *list = f->next;
        f->next = done;
    }
    return APR_OK;
}

enum apr_code apr_finder_run(struct apr_finder *f, struct apr_bytes text, bool special, struct apr_found_list *list, struct apr_error *e)
{
    list->n = 0;
    return f->leftmost ? run_leftmost(f, text, special, list, e) : run_longest(f, text, special, list, e);
}
