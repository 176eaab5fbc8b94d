/* The contract of what was found, layers folded to {L} and experts to {X}. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/memstream.h"
#include "base/table.h"
#include "discover.h"
#include "family/family.h"
#include "files/sink.h"
#include "model/meta.h"
#include "model/model.h"
#include "ui/report.h"

#define MOST_ROLES 1024 /* of a contract */

/* A finding as a role: its names as they are written, in which layer it is one, and what else its role says. */
struct entry {
    struct apr_bytes key;      /* all its names with the holes */
    struct apr_bytes body;     /* shape and transform */
    struct apr_bytes hf, gguf; /* as YAML */
    const struct finding *f;
    uint32_t         layer;
    bool             layered, tied;
};

/* Entries [first, first + n) that differ in their layer alone. */
struct draft_role {
    size_t first, n;
    char   name[96];
    bool   where, dropped;
};

struct draft {
    struct discovery  *d;
    struct entry      *entry;
    size_t             nentry;
    struct draft_role *role;
    size_t             nrole;
    uint64_t           layers; /* one more than the highest */
    struct apr_table   count;  /* of each key: how many findings may have it */
    struct apr_arena  *arena;
    struct apr_error  *e;
};

/* ---- names ---------------------------------------------------------------------------------------------------------- */

/* The words of a name between dots and slashes. number: of one that is a number, as contracts see it; else UINT32_MAX. */
struct word {
    size_t   at, n;
    uint32_t number;
};

#define MOST_WORDS 64

static size_t words_of(struct apr_bytes s, struct word word[MOST_WORDS])
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

/* Can it stand in a contract, between double quotes? */
static bool is_plain_name(struct apr_bytes s)
{
    struct word word[MOST_WORDS];
    unsigned numbers = 0;
    for (size_t i = 0; i < s.n; i++)
        if (s.at[i] == '{' || s.at[i] == '}' || s.at[i] == '"' || s.at[i] == '\\')
            return false;
    for (size_t i = 0, n = words_of(s, word); i < n; i++)
        numbers += word[i].number != UINT32_MAX;
    return s.n > 0 && s.n + 8 < APR_NAME_ROOM && numbers <= APR_MAX_NUMBERS && apr_is_utf8(s) && !apr_has_control(s);
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
            fwrite(s.at + word[i].at, 1, word[i].n, to);
    }
    fputc('"', to);
}

static void put_names(FILE *to, struct item *const *list, size_t n, size_t layer, size_t expert)
{
    const bool several = n > 1 && expert == MOST_WORDS;
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

/* The word in which the names of a stack count from 0; MOST_WORDS: none. */
static size_t counting_word(struct item *const *list, size_t n)
{
    struct word word[MOST_WORDS], own[MOST_WORDS];
    const struct apr_bytes first = list[0]->t->name;
    const size_t nword = words_of(first, word);
    size_t found = MOST_WORDS;
    for (size_t at = 0; at < nword && found == MOST_WORDS; at++) {
        bool good = word[at].number == 0;
        for (size_t i = 0; i < n && good; i++) {
            const struct apr_bytes s = list[i]->t->name;
            good = words_of(s, own) == nword && own[at].number == i && memcmp(s.at, first.at, word[at].at) == 0;
            const size_t rest = word[at].at + word[at].n, mine = own[at].at + own[at].n;
            good = good && s.n - mine == first.n - rest && memcmp(s.at + mine, first.at + rest, first.n - rest) == 0;
        }
        if (good)
            found = at;
    }
    return found;
}

/* ---- transforms ----------------------------------------------------------------------------------------------------- */

static void put_counts(FILE *to, const char *key, const uint64_t *n, size_t count)
{
    fprintf(to, ", %s: [", key);
    for (size_t i = 0; i < count; i++)
        fprintf(to, "%s%llu", i > 0 ? ", " : "", (unsigned long long)n[i]);
    fputc(']', to);
}

static void put_keys(FILE *to, const struct apr_transform *t, const char *const *key, size_t n)
{
    for (size_t i = 0; i < n; i++)
        fprintf(to, ", %s: %llu", key[i], (unsigned long long)t->n[i]);
}

static void put_values(FILE *to, const struct apr_transform *t)
{
    char number[32];
    if (t->op == APR_OP_SCALE && t->nn > 0) {
        fputs(", by: [", to);
        for (unsigned i = 0; i < t->nn; i++)
            fprintf(to, "%s%s", i > 0 ? ", " : "", apr_spell_real(t->by[i], number));
        fputc(']', to);
        put_counts(to, "parts", t->n, t->nn);
    } else if (t->op == APR_OP_SCALE || t->op == APR_OP_ADD) {
        fprintf(to, ", %s: %s", t->op == APR_OP_ADD ? "value" : "by", apr_spell_real(t->by[0], number));
    }
}

static void put_transform(FILE *to, const struct apr_transform *t)
{
    static const char *const heads[] = { "heads", "kv_heads" }, *const latent[] = { "heads", "nope", "v" }, *const count[] = { "count" },
                      *const rows[] = { "from", "count" }, *const groups[] = { "groups", "size", "from" };
    fprintf(to, "{op: %s", apr_op_word(t->op));
    switch (t->op) {
    case APR_OP_ROPE_PERMUTE: case APR_OP_QKV_NEOX: put_keys(to, t, heads, 1); break;
    case APR_OP_QKV_FALCON: put_keys(to, t, heads, 2); break;
    case APR_OP_MLA_SPLIT: put_keys(to, t, latent, 3); break;
    case APR_OP_STACK: case APR_OP_PAD_ROWS: put_keys(to, t, count, 1); break;
    case APR_OP_ROWS: put_keys(to, t, rows, 2); break;
    case APR_OP_REGROUP: case APR_OP_REGROUP_COLS: put_keys(to, t, groups, t->n[2] > 0 ? 3 : 2); break;
    case APR_OP_UNGROUP:
        put_keys(to, t, groups, 1);
        put_counts(to, "parts", t->n + 1, t->nn - 1);
        break;
    case APR_OP_SPLIT_ROWS: case APR_OP_SPLIT_COLS: case APR_OP_CONCAT_ROWS: case APR_OP_CONCAT_COLS:
        put_counts(to, "parts", t->n, t->nn);
        break;
    case APR_OP_RESHAPE: put_counts(to, "shape", t->n, t->nn); break;
    case APR_OP_ORDER: case APR_OP_ORDER_COLS:
        fputs(", rows: [", to);
        for (unsigned i = 0; i < t->norder; i++)
            fprintf(to, "%s%u", i > 0 ? ", " : "", t->order[i]);
        fputc(']', to);
        put_keys(to, t, groups + 1, 0);
        fprintf(to, ", size: %llu", (unsigned long long)t->n[0]);
        break;
    default: put_values(to, t);
    }
}

/* The transforms behind a split, by parts. */
static unsigned put_then(FILE *to, const struct finding *f, unsigned i)
{
    const unsigned first = i;
    for (unsigned part = 1; i < f->nstep && part <= f->nto; part++) {
        fputs(part == 1 ? ", then: [" : ", ", to);
        fputc('[', to);
        for (bool more = false; i < f->nstep && f->step[i].only == part; i++, more = true) {
            fputs(more ? ", " : "", to);
            put_transform(to, &f->step[i]);
            fputc('}', to);
        }
        fputc(']', to);
        if (i == f->nstep)
            for (; part < f->nto; part++)
                fputs(", []", to);
    }
    fputs(i > first ? "]" : "", to);
    return i;
}

/* The shape of what a contract gives the shape of, and the chain. */
static void put_body(FILE *to, const struct finding *f)
{
    uint64_t dim[APR_MAX_DIMS];
    const unsigned ndim = whole_shape(f, dim);
    fputs(", shape: [", to);
    for (unsigned i = 0; i < ndim; i++)
        fprintf(to, "%s%llu", i > 0 ? ", " : "", (unsigned long long)dim[i]);
    fputc(']', to);
    if (f->nstep == 0)
        return;
    fputs(",\n     transform: [", to);
    for (unsigned i = 0; i < f->nstep;) {
        fputs(i > 0 ? ", " : "", to);
        put_transform(to, &f->step[i++]);
        if (i < f->nstep && f->step[i].only > 0)
            i = put_then(to, f, i);
        fputc('}', to);
    }
    fputc(']', to);
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

/* Calls for each pair of words that may be the layer's number, and for none where there is no such pair. */
typedef enum apr_code holes_fn(struct draft *w, struct finding *f, const struct holes *h, uint32_t layer, void *ctx);

static enum apr_code each_holes(struct draft *w, struct finding *f, holes_fn *call, void *ctx)
{
    struct word from[MOST_WORDS], to[MOST_WORDS];
    const size_t nfrom = words_of(f->from[0]->t->name, from), nto = words_of(f->to[0]->t->name, to);
    const bool stacked = f->nstep > 0 && f->step[0].op == APR_OP_STACK;
    struct holes h = { MOST_WORDS, MOST_WORDS, stacked ? counting_word(f->from, f->nfrom) : MOST_WORDS };
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

/* Can a contract say it? */
static bool is_drafted(const struct discovery *d, const struct finding *f)
{
    if (d->gguf >= 0 && f->flipped != (d->gguf == 0))
        return false;
    if (f->nstep > 0 && f->step[0].op == APR_OP_STACK && counting_word(f->from, f->nfrom) == MOST_WORDS)
        return false;
    for (size_t i = 0; i < f->nfrom; i++)
        if (!is_plain_name(f->from[i]->t->name))
            return false;
    for (size_t i = 0; i < f->nto; i++)
        if (!is_plain_name(f->to[i]->t->name))
            return false;
    return true;
}

static enum apr_code make_entries(struct draft *w)
{
    struct discovery *const d = w->d;
    const struct holes none = { MOST_WORDS, MOST_WORDS, MOST_WORDS };
    for (size_t i = 0; i < d->nfinding; i++)
        if (is_drafted(d, &d->finding[i]))
            APR_TRY(each_holes(w, &d->finding[i], count_key, NULL));
    for (size_t i = 0; i < d->nfinding; i++) {
        struct entry *const x = &w->entry[w->nentry];
        if (!is_drafted(d, &d->finding[i]))
            continue;
        *x = (struct entry){ .f = &d->finding[i] };
        w->nentry++;
        APR_TRY(each_holes(w, &d->finding[i], choose_key, x));
        APR_TRY(text_of(w, put_rest, &d->finding[i], &none, &x->body));
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
    const struct apr_bytes s = x->f->to[0]->t->name;
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
        if (o->dropped || (!hf && !gguf))
            continue;
        bool apart = x->layered && y->layered;
        for (size_t i = 0; i < r->n && apart; i++)
            for (size_t k = 0; k < o->n && apart; k++)
                apart = w->entry[r->first + i].layer != w->entry[o->first + k].layer;
        if (apart)
            r->where = o->where = true;
        else if (!gguf && x->f->to[0]->t->name.n == strlen("output.weight") && apr_bytes_is(x->f->to[0]->t->name, "output.weight"))
            x->tied = true;
        else
            r->dropped = true;
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
        if (w->nrole == MOST_ROLES)
            return apr_fail(w->e, APR_ELIMIT, APR_NOWHERE, "what was found would take more than %d roles", MOST_ROLES);
        struct draft_role *const r = &w->role[w->nrole++];
        *r = (struct draft_role){ .first = i, .n = end - i };
        name_role(w, r);
        part_roles(w, r);
    }
    return APR_OK;
}

/* ---- the file ------------------------------------------------------------------------------------------------------- */

static void put_role(FILE *to, const struct draft *w, const struct draft_role *r)
{
    const struct entry *const x = &w->entry[r->first];
    fprintf(to, "  - {role: %s, hf: ", r->name);
    if (x->tied)
        fputs("\"lm_head.weight\"", to);
    else
        fwrite(x->hf.at, 1, x->hf.n, to);
    fputs(", gguf: ", to);
    fwrite(x->gguf.at, 1, x->gguf.n, to);
    fwrite(x->body.at, 1, x->body.n, to);
    for (size_t i = 0; i < r->n && r->where; i++)
        fprintf(to, "%slayer == %u", i == 0 ? ",\n     where: \"" : " or ", w->entry[r->first + i].layer);
    fputs(r->where ? "\"" : "", to);
    fputs(x->tied || (x->layered && !r->where && r->n < w->layers) ? ", optional: 1}\n" : "}\n", to);
}

/* The file's name without its ending, as far as a family may be called that. */
static void put_family(FILE *to, const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash == NULL ? path : slash + 1;
    const size_t n = strcspn(name, ".");
    bool letters = n > 0 && n < 64;
    for (size_t i = 0; i < n; i++)
        letters &= (name[i] >= '0' && name[i] <= '9') || (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z') ||
                   (i > 0 && (name[i] == '-' || name[i] == '_'));
    fprintf(to, "%.*s", letters ? (int)n : 10, letters ? name : "discovered");
}

static void put_draft(FILE *to, const struct draft *w, const char *path)
{
    const struct discovery *const d = w->d;
    const struct apr_value *const arch =
        d->gguf < 0 ? NULL : apr_meta_find(d->gguf == 0 ? &d->models->a->meta : &d->models->b->meta, "general.architecture");
    fputs("# Found by value by apr-diff --discover. Sizes are those of the two models that it was found in.\n", to);
    fputs("schema: apr-family/1\nfamily: ", to);
    put_family(to, path);
    if (arch != NULL && arch->type == APR_META_STRING && is_plain_name(arch->text))
        fprintf(to, "\ndetect: {gguf: [\"%.*s\"]}", APR_PRINTED(arch->text));
    fprintf(to, "\n\ndims:\n  N: %llu\n\ntensors:\n", (unsigned long long)w->layers);
    for (size_t i = 0; i < w->nrole; i++)
        if (!w->role[i].dropped)
            put_role(to, w, &w->role[i]);
}

static enum apr_code write_file(const struct draft *w, const char *path)
{
    struct apr_sink sink = { 0 };
    APR_TRY(apr_sink_begin(&sink, path, 0, w->e));
    put_draft(sink.to, w, path);
    const enum apr_code code = apr_sink_end(&sink, w->e);
    if (code != APR_OK)
        apr_sink_drop(&sink);
    return code;
}

enum apr_code write_draft(struct discovery *d, struct apr_error *e)
{
    struct draft w = { .d = d, .e = e };
    w.entry = malloc((d->nfinding + 1) * sizeof *w.entry);
    w.role = malloc((MOST_ROLES + 1) * sizeof *w.role);
    enum apr_code code = w.entry == NULL || w.role == NULL ? apr_no_memory(e) : make_entries(&w);
    if (code == APR_OK)
        code = make_roles(&w);
    if (code == APR_OK && w.nentry > 0)
        code = write_file(&w, d->o->draft);
    else if (code != APR_OK)
        apr_error_in(e, d->o->draft);
    free(w.entry);
    free(w.role);
    apr_table_free(&w.count);
    apr_arena_free(&w.arena);
    return code;
}
