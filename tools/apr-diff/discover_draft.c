/* The contract of what was found, layers folded to {L} and experts to {X}. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/memstream.h"
#include "discover_draft.h"
#include "family/family.h"
#include "model/model.h"
#include "ui/report.h"

/* ---- names ---------------------------------------------------------------------------------------------------------- */

size_t words_of(struct apr_bytes s, struct word word[MOST_WORDS])
{
    size_t nword = 0;
    for (size_t i = 0; i <= s.n && nword < MOST_WORDS; i++) {
        struct word *const w = &word[nword++];
        *w = (struct word){ i, 0, 0 };
        bool digits = true;
        for (; i < s.n && s.at[i] != '.' && s.at[i] != '/'; i++, w->n++) {
            digits &= s.at[i] >= '0' && s.at[i] <= '9' && w->n < 9;
            w->number = w->number * 10 + (s.at[i] & 15);
        }
        if (!digits || w->n == 0 || (w->n > 1 && s.at[w->at] == '0'))
            w->number = UINT32_MAX;
    }
    return nword;
}

bool is_plain_name(struct apr_bytes s)
{
    struct word word[MOST_WORDS];
    unsigned numbers = 0;
    for (size_t i = 0; i < s.n; i++)
        if (s.at[i] == '{' || s.at[i] == 0)
            return false;
    for (size_t i = 0, n = words_of(s, word); i < n; i++)
        numbers += word[i].number != UINT32_MAX;
    return s.n > 0 && s.n + 8 < APR_NAME_ROOM && numbers <= APR_MAX_NUMBERS && apr_is_utf8(s);
}

void put_text(FILE *to, struct apr_bytes s)
{
    for (size_t i = 0; i < s.n; i++) {
        const unsigned char c = s.at[i];
        const bool hidden = c < ' ' || c == 0x7F || (c == 0xC2 && i + 1 < s.n && s.at[i + 1] < 0xA0); /* U+0080 to U+009F */
        if (hidden)
            fprintf(to, "\\x%02X", c == 0xC2 ? s.at[++i] : c);
        else
            fprintf(to, "%s%c", c == '"' || c == '\\' ? "\\" : "", c);
    }
}

/* Word w of all names is the number of the layer, word x of the expert; MOST_WORDS: none is. */
struct holes {
    size_t layer_from, layer_to, expert;
};

static void put_name(FILE *to, struct apr_bytes s, size_t layer, size_t expert)
{
    struct word word[MOST_WORDS];
    const size_t n = words_of(s, word);
    fputc('"', to);
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            fputc(s.at[word[i].at - 1], to);
        if (i == layer || i == expert)
            fputs(i == layer ? "{L}" : "{X}", to);
        else
            put_text(to, (struct apr_bytes){ s.at + word[i].at, word[i].n });
    }
    fputc('"', to);
}

static void put_names(FILE *to, struct item *const *list, size_t n, size_t layer, size_t expert)
{
    const bool several = n > 1 && expert == MOST_WORDS; /* of a stack {X} stands for all */
    fputs(several ? "[" : "", to);
    for (size_t i = 0; i < (several ? n : 1); i++) {
        fputs(i > 0 ? ", " : "", to);
        put_name(to, list[i]->t->name, layer, expert);
    }
    fputs(several ? "]" : "", to);
}

/* Is word `at` of every name that number? Of a name of one word it is no layer. */
static bool all_have(struct item *const *list, size_t n, size_t at, uint32_t number)
{
    struct word word[MOST_WORDS];
    for (size_t i = 0; i < n; i++)
        if (words_of(list[i]->t->name, word) <= at || word[at].number != number)
            return false;
    return true;
}

/* The word in which the names of a stack count from 0, in any order; MOST_WORDS: none. taken: room for n. */
static size_t counting_word(struct item *const *list, size_t n, bool *taken)
{
    struct word word[MOST_WORDS], own[MOST_WORDS];
    const struct apr_bytes first = list[0]->t->name;
    const size_t nword = words_of(first, word);
    for (size_t at = 0; at < nword; at++) {
        const size_t rest = word[at].at + word[at].n;
        bool good = word[at].number < n;
        memset(taken, 0, n);
        for (size_t i = 0; i < n && good; i++) {
            const struct apr_bytes s = list[i]->t->name;
            good = words_of(s, own) == nword && own[at].at == word[at].at && own[at].number < n && !taken[own[at].number] &&
                   memcmp(s.at, first.at, word[at].at) == 0;
            const size_t mine = good ? own[at].at + own[at].n : 0;
            good = good && s.n - mine == first.n - rest && memcmp(s.at + mine, first.at + rest, first.n - rest) == 0;
            taken[good ? own[at].number : 0] = true;
        }
        if (good)
            return at;
    }
    return MOST_WORDS;
}

static bool is_stack(const struct finding *f) { return f->nstep > 0 && f->step[0].op == APR_OP_STACK; }

/* Puts steps behind the first; false where there is no room. */
static bool insert_steps(struct finding *f, const struct apr_transform *step, unsigned n)
{
    if (f->nstep + n > APR_MAX_STEPS)
        return false;
    memmove(f->step + 1 + n, f->step + 1, (f->nstep - 1) * sizeof *f->step);
    memcpy(f->step + 1, step, n * sizeof *step);
    f->nstep += n;
    return true;
}

static struct apr_transform shape_step(const uint64_t *dim, unsigned n)
{
    struct apr_transform t = { .op = APR_OP_RESHAPE, .nn = n };
    memcpy(t.n, dim, n * sizeof *dim);
    return t;
}

/* A contract stacks experts by their numbers: what lies in another order is put into that behind it. */
static enum apr_code order_stack(struct draft *w, struct finding *f, size_t word, bool *good)
{
    const struct apr_tensor *const t = f->from[0]->t;
    const size_t n = f->nfrom;
    uint32_t *const order = apr_arena_alloc(&w->arena, 2 * n * sizeof *order);
    struct item **const from = apr_arena_alloc(&w->arena, n * sizeof *from);
    struct word own[MOST_WORDS];
    bool ordered = true;
    if (order == NULL || from == NULL)
        return apr_no_memory(w->e);
    for (size_t i = 0; i < n; i++) {
        words_of(f->from[i]->t->name, own);
        order[i] = own[word].number;
        order[n + order[i]] = (uint32_t)i;
        from[order[i]] = f->from[i];
        ordered &= order[i] == i;
    }
    f->from = from;
    uint64_t dim[APR_MAX_DIMS] = { n };
    memcpy(dim + 1, t->dim, (APR_MAX_DIMS - 1) * sizeof *dim);
    const struct apr_transform step[] = { shape_step((const uint64_t[]){ n, t->count }, 2),
                                          { .op = APR_OP_ORDER, .nn = 1, .n = { 1 }, .norder = (unsigned)n, .order = order },
                                          shape_step(dim, t->ndim + 1) };
    *good = ordered || (n <= APR_MAX_ORDER && t->ndim < APR_MAX_DIMS && insert_steps(f, step, APR_LENGTH(step)));
    return APR_OK;
}

/* A stack whose names do not count is a join that is given another shape, where it is one of a few. */
static bool join_stack(struct finding *f)
{
    const struct apr_tensor *const t = f->from[0]->t;
    uint64_t dim[APR_MAX_DIMS] = { f->nfrom };
    struct apr_transform join = { .op = APR_OP_CONCAT_ROWS, .nn = (unsigned)f->nfrom };
    if (f->nfrom > APR_MAX_PARTS || t->ndim == 0 || t->ndim > 2)
        return false;
    for (size_t i = 0; i < f->nfrom; i++)
        join.n[i] = t->dim[0];
    memcpy(dim + 1, t->dim, t->ndim * sizeof *dim);
    const struct apr_transform shape = shape_step(dim, t->ndim + 1);
    f->step[0] = join;
    return insert_steps(f, &shape, 1);
}

static enum apr_code say_stack(struct draft *w, struct finding *f, bool *good)
{
    bool *const taken = calloc(f->nfrom + 1, sizeof *taken);
    const size_t word = taken == NULL ? MOST_WORDS : counting_word(f->from, f->nfrom, taken);
    free(taken);
    if (taken == NULL)
        return apr_no_memory(w->e);
    if (word != MOST_WORDS)
        return order_stack(w, f, word, good);
    *good = join_stack(f);
    return APR_OK;
}

/* ---- entries -------------------------------------------------------------------------------------------------------- */

typedef void put_fn(FILE *to, const struct finding *f, const struct holes *h);

static void put_hf(FILE *to, const struct finding *f, const struct holes *h) { put_names(to, f->from, f->nfrom, h->layer_from, h->expert); }
static void put_gguf(FILE *to, const struct finding *f, const struct holes *h) { put_names(to, f->to, f->nto, h->layer_to, MOST_WORDS); }
static void put_rest(FILE *to, const struct finding *f, const struct holes *h) { (void)h; put_body(to, f); }
static void put_key(FILE *to, const struct finding *f, const struct holes *h)
{
    put_hf(to, f, h);
    fputs(" > ", to);
    put_gguf(to, f, h);
}

/* What a function writes, as text that lives as long as the draft. */
static enum apr_code text_of(struct draft *w, put_fn *put, const struct finding *f, const struct holes *h, struct apr_bytes *out)
{
    char *text = NULL;
    size_t n = 0;
    FILE *const to = apr_memstream(&text, &n);
    if (to == NULL)
        return apr_no_memory(w->e);
    put(to, f, h);
    const bool good = close_text(to, &text);
    *out = good ? apr_arena_copy(&w->arena, (struct apr_bytes){ (const unsigned char *)text, n }) : (struct apr_bytes){ 0 };
    free(text);
    return out->at == NULL ? apr_no_memory(w->e) : APR_OK;
}

/* The word that counts in a stack that is in order, 0 first. */
static size_t counted_word(const struct finding *f)
{
    struct word first[MOST_WORDS], second[MOST_WORDS];
    const size_t n = words_of(f->from[0]->t->name, first);
    words_of(f->from[f->nfrom > 1]->t->name, second);
    for (size_t i = 0; i < n; i++)
        if (first[i].number == 0 && second[i].number == (f->nfrom > 1))
            return i;
    return MOST_WORDS;
}

/* Calls for each pair of words that may be the layer's number, and for none where there is no such pair. */
typedef enum apr_code holes_fn(struct draft *w, struct finding *f, const struct holes *h, uint32_t layer, void *ctx);

static enum apr_code each_holes(struct draft *w, struct finding *f, holes_fn *call, void *ctx)
{
    struct word from[MOST_WORDS], to[MOST_WORDS];
    const size_t nfrom = words_of(f->from[0]->t->name, from), nto = words_of(f->to[0]->t->name, to);
    struct holes h = { MOST_WORDS, MOST_WORDS, is_stack(f) ? counted_word(f) : MOST_WORDS };
    bool some = false;
    for (size_t i = 0; i < nfrom; i++)
        for (size_t k = 0; k < nto; k++) {
            if (i == h.expert || from[i].number == UINT32_MAX || from[i].number != to[k].number ||
                !all_have(f->from, f->nfrom, i, from[i].number) || !all_have(f->to, f->nto, k, to[k].number))
                continue;
            some = true;
            APR_TRY(call(w, f, &(struct holes){ i, k, h.expert }, from[i].number, ctx));
        }
    return some ? APR_OK : call(w, f, &h, 0, ctx);
}

static enum apr_code count_key(struct draft *w, struct finding *f, const struct holes *h, uint32_t layer, void *ctx)
{
    struct apr_bytes key;
    bool fresh;
    (void)layer, (void)ctx;
    APR_TRY(text_of(w, put_key, f, h, &key));
    union apr_table_value *const v = apr_table_put(&w->count, key, &fresh);
    if (v == NULL)
        return apr_no_memory(w->e);
    v->number = fresh ? 1 : v->number + 1;
    return APR_OK;
}

/* Keeps the key that most findings may have. */
static enum apr_code choose_key(struct draft *w, struct finding *f, const struct holes *h, uint32_t layer, void *ctx)
{
    struct entry *const best = ctx;
    struct apr_bytes key;
    APR_TRY(text_of(w, put_key, f, h, &key));
    const union apr_table_value *const v = apr_table_find(&w->count, key), *const was = apr_table_find(&w->count, best->key);
    if (v == NULL || (was != NULL && was->number >= v->number))
        return APR_OK;
    best->key = key;
    best->layered = h->layer_from != MOST_WORDS;
    best->layer = layer;
    APR_TRY(text_of(w, put_hf, f, h, &best->hf));
    return text_of(w, put_gguf, f, h, &best->gguf);
}

/* Tells on stderr what the contract does not have. */
static void tell_left_out(const struct draft *w, const struct apr_tensor *a, const struct apr_tensor *b, const char *why)
{
    struct apr_error e;
    apr_fail(&e, APR_OK, APR_NOWHERE, "without %s, which is %s: %s", APR_QUOTED(a->name), APR_QUOTED(b->name), why);
    apr_error_in(&e, w->d->o->draft);
    apr_cli_fail(&w->d->o->cli, &e);
}

static void leave_out(const struct draft *w, const struct finding *f, const char *why)
{
    tell_left_out(w, (f->flipped ? f->to : f->from)[0]->t, (f->flipped ? f->from : f->to)[0]->t, why);
}

/* Makes of the finding what a contract can say; *why it cannot, or NULL. */
static enum apr_code make_sayable(struct draft *w, struct finding *f, const char **why)
{
    const struct discovery *const d = w->d;
    bool good = true;
    *why = NULL;
    if (d->gguf >= 0 && f->flipped != (d->gguf == 0))
        *why = "it goes from the GGUF to the checkpoint";
    for (size_t i = 0; i < f->nfrom; i++)
        if (!is_plain_name(f->from[i]->t->name))
            *why = "no contract can hold its name";
    for (size_t i = 0; i < f->nto; i++)
        if (!is_plain_name(f->to[i]->t->name))
            *why = "no contract can hold the name of what it becomes";
    if (*why == NULL && is_stack(f))
        APR_TRY(say_stack(w, f, &good));
    if (!good)
        *why = "the names of the tensors that are stacked do not count from 0";
    return APR_OK;
}

/* Gathers what can be said. */
static enum apr_code gather_findings(struct draft *w, struct untold *untold)
{
    struct discovery *const d = w->d;
    struct finding *known;
    size_t nknown;
    const char *why;
    APR_TRY(known_findings(d, &known, &nknown, untold, w->e));
    w->finding = apr_arena_alloc(&w->arena, (d->nfinding + nknown + 1) * sizeof *w->finding);
    if (w->finding == NULL)
        return apr_no_memory(w->e);
    for (size_t i = 0; i < d->nfinding + nknown; i++) {
        struct finding *const f = &w->finding[w->nfinding];
        *f = i < d->nfinding ? d->finding[i] : known[i - d->nfinding];
        APR_TRY(make_sayable(w, f, &why));
        if (why != NULL)
            leave_out(w, f, why);
        w->nfinding += why == NULL;
    }
    for (size_t i = 0; i < untold->n; i++)
        tell_left_out(w, untold->pair[i]->a, untold->pair[i]->b, "they are paired in a way that no draft has");
    return APR_OK;
}

static enum apr_code make_entries(struct draft *w)
{
    const struct holes none = { MOST_WORDS, MOST_WORDS, MOST_WORDS };
    w->entry = malloc((w->nfinding + 1) * sizeof *w->entry);
    if (w->entry == NULL)
        return apr_no_memory(w->e);
    for (size_t i = 0; i < w->nfinding; i++)
        APR_TRY(each_holes(w, &w->finding[i], count_key, NULL));
    for (size_t i = 0; i < w->nfinding; i++) {
        struct entry *const x = &w->entry[w->nentry];
        *x = (struct entry){ .f = &w->finding[i], .tied = w->finding[i].tied };
        w->nentry++;
        APR_TRY(each_holes(w, &w->finding[i], choose_key, x));
        APR_TRY(text_of(w, put_rest, &w->finding[i], &none, &x->body));
        if (x->layered && x->layer >= w->layers)
            w->layers = (uint64_t)x->layer + 1;
    }
    return APR_OK;
}

/* ---- roles ---------------------------------------------------------------------------------------------------------- */

static int by_role(const void *p, const void *q)
{
    const struct entry *const x = p, *const y = q;
    const int key = apr_bytes_compare(x->gguf, y->gguf), hf = key != 0 ? key : apr_bytes_compare(x->hf, y->hf);
    const int body = hf != 0 ? hf : apr_bytes_compare(x->body, y->body);
    return body != 0 ? body : (x->layer > y->layer) - (x->layer < y->layer);
}

/* "attn_q" of "blk.{L}.attn_q.weight", "attn_q_bias". */
static void name_role(struct draft *w, struct draft_role *r)
{
    const struct entry *const x = &w->entry[r->first];
    const struct apr_bytes s = x->tied == TIED_FROM ? apr_text("output") : x->f->to[0]->t->name;
    struct word word[MOST_WORDS];
    const size_t n = words_of(s, word);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        const struct apr_bytes own = { s.at + word[i].at, word[i].n };
        const bool last = i + 1 == n && n > 1;
        const bool hides = word[i].number != UINT32_MAX || apr_bytes_is(own, "blk") || (last && apr_bytes_is(own, "weight"));
        for (size_t k = 0; k < word[i].n && !hides && at + 16 < sizeof r->name; k++) {
            const unsigned char c = s.at[word[i].at + k];
            const bool letter = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
            if (k == 0 && at > 0)
                r->name[at++] = '_';
            r->name[at++] = letter ? (char)c : '_';
        }
    }
    if (at == 0)
        r->name[at++] = 't';
    size_t same = 1, length = at;
    r->name[at] = 0;
    for (size_t i = 0; i < (size_t)(r - w->role); i++)
        if (strcmp(w->role[i].name, r->name) == 0) {
            snprintf(r->name + length, sizeof r->name - length, "_%zu", ++same);
            i = SIZE_MAX; /* from the first on */
        }
}

/* Do two findings have a tensor in common, or names that a contract would take for one? */
static bool share(struct item *const *a, size_t na, struct item *const *b, size_t nb)
{
    for (size_t i = 0; i < na; i++)
        for (size_t k = 0; k < nb; k++)
            if (a[i] == b[k])
                return true;
    return false;
}

/* A role that shares a name with one before it is told apart by layers, or left out. A head that is the embedding has no name of its
 * own. */
static void part_roles(struct draft *w, struct draft_role *r)
{
    struct entry *const x = &w->entry[r->first];
    for (struct draft_role *o = w->role; o < r; o++) {
        struct entry *const y = &w->entry[o->first];
        const bool hf = apr_bytes_equal(x->hf, y->hf) || share(x->f->from, x->f->nfrom, y->f->from, y->f->nfrom);
        const bool gguf = apr_bytes_equal(x->gguf, y->gguf) || share(x->f->to, x->f->nto, y->f->to, y->f->nto);
        if (o->dropped || r->dropped || (!hf && !gguf))
            continue;
        bool apart = x->layered && y->layered;
        for (size_t i = 0; i < r->n && apart; i++)
            for (size_t k = 0; k < o->n && apart; k++)
                apart = w->entry[r->first + i].layer != w->entry[o->first + k].layer;
        if (x->tied != TIED_NOT || y->tied != TIED_NOT)
            continue; /* it gets a name of its own */
        if (apart)
            r->where = o->where = true;
        else if (!gguf && apr_bytes_is(x->f->to[0]->t->name, "output.weight"))
            x->tied = TIED_TO;
        else if (!gguf && apr_bytes_is(y->f->to[0]->t->name, "output.weight"))
            y->tied = TIED_TO;
        else {
            r->dropped = true;
            for (size_t i = 0; i < r->n; i++)
                leave_out(w, w->entry[r->first + i].f, "a part of it is in another role");
        }
    }
}

static enum apr_code make_roles(struct draft *w)
{
    if (w->nentry > 0)
        qsort(w->entry, w->nentry, sizeof *w->entry, by_role);
    for (size_t i = 0, end; i < w->nentry; i = end) {
        const struct entry *const x = &w->entry[i];
        for (end = i + 1; end < w->nentry && x->layered && apr_bytes_equal(w->entry[end].key, x->key) &&
             apr_bytes_equal(w->entry[end].body, x->body);)
            end++;
        if (w->nrole == MOST_ROLES) {
            leave_out(w, x->f, "it has as many roles as one may have");
            continue;
        }
        struct draft_role *const r = &w->role[w->nrole++];
        *r = (struct draft_role){ .first = i, .n = end - i };
        name_role(w, r);
        part_roles(w, r);
    }
    return APR_OK;
}

enum apr_code write_draft(struct discovery *d, struct apr_error *e)
{
    struct draft w = { .d = d, .e = e };
    struct untold untold;
    if (d->nfinding == 0)
        return APR_OK;
    w.role = malloc((MOST_ROLES + 1) * sizeof *w.role);
    enum apr_code code = w.role == NULL ? apr_no_memory(e) : gather_findings(&w, &untold);
    if (code == APR_OK)
        code = make_entries(&w);
    if (code == APR_OK)
        code = make_roles(&w);
    if (code == APR_OK && w.nentry > 0)
        code = write_contract(&w, d->o->draft);
    else if (code != APR_OK)
        apr_error_in(e, d->o->draft);
    free(w.entry);
    free(w.role);
    apr_table_free(&w.count);
    apr_arena_free(&w.arena);
    return code;
}
