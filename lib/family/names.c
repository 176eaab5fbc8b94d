#include "family/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/pattern.h"
#include "base/table.h"
#include "model/format.h"

/* A name of a role with every number as '#', what each number must be, and the next of the same text. */
struct known_name {
    size_t                 n;
    struct known_name     *next;
    const struct apr_role *role;
    enum apr_dialect       dialect;
    unsigned               part, nnumber;
    char                   kind[APR_MAX_NUMBERS]; /* 'L', 'X', or '=' with the value beside it */
    uint32_t               number[APR_MAX_NUMBERS];
};

/* further: its layer is one of those that are counted anew. */
struct candidate {
    struct apr_meaning meaning;
    uint32_t           tensor;
    bool               further;
};

struct apr_names {
    const struct apr_family *family;
    const struct apr_model  *model;
    struct candidate           *candidate;    /* candidates of tensor i: first[i] .. first[i + 1] */
    size_t                  *first;
    size_t                   n, room;
    struct apr_table         tensor;    /* of each meaning: the tensor that has it */
    bool                    *present;   /* of family->role: some tensor may be for it */
    struct apr_patterns     *skip;      /* its globs, as far as their dims are known; those of buffers first */
    size_t                   nbuffer;   /* of these */
    bool                    *skipped, *buffer; /* of the model's tensors */
    struct apr_table         known;     /* of each text: the first name of it */
    struct apr_arena        *arena;
};

/* ---- names -------------------------------------------------------------------------------------------------------- */

static bool ends_part(struct apr_bytes s, size_t i) { return i == s.n || s.at[i] == '.' || s.at[i] == '/'; }

/* A number as it stands in names: up to nine digits, no zero before others. */
static bool is_number(const unsigned char *at, size_t n, uint32_t *number)
{
    *number = 0;
    for (size_t i = 0; i < n && i < 10; i++) {
        if (at[i] < '0' || at[i] > '9')
            return false;
        *number = 10 * *number + (uint32_t)(at[i] - '0');
    }
    return n > 0 && n < 10 && (n == 1 || at[0] != '0');
}

/* Copies a name with its numbers (and {L}, {X}) as '#'; the numbers into k. False when it has too many, or is too long. */
static bool generalise(struct apr_bytes s, char *out, struct known_name *k)
{
    k->n = k->nnumber = 0;
    if (s.n >= APR_NAME_ROOM)
        return false;
    for (size_t i = 0, end; i < s.n; i = end) {
        uint32_t number;
        for (end = i; !ends_part(s, end);)
            end++;
        const bool hole = end - i == 3 && s.at[i] == '{' && s.at[i + 2] == '}', digits = is_number(s.at + i, end - i, &number);
        if ((digits || hole) && k->nnumber == APR_MAX_NUMBERS)
            return false;
        if (digits || hole) {
            k->kind[k->nnumber] = hole ? (char)s.at[i + 1] : '=';
            k->number[k->nnumber++] = number;
            out[k->n++] = '#';
        } else {
            memcpy(out + k->n, s.at + i, end - i);
            k->n += end - i;
        }
        if (end < s.n)
            out[k->n++] = (char)s.at[end++];
    }
    return true;
}

static enum apr_code learn_name(struct apr_names *s, const struct apr_role *role, enum apr_dialect dialect, unsigned part,
                                struct apr_error *e)
{
    char text[APR_NAME_ROOM];
    bool fresh;
    struct known_name *k = apr_arena_alloc(&s->arena, sizeof *k);
    if (k == NULL)
        return apr_no_memory(e);
    if (!generalise(role->known[dialect].word[part], text, k))
        return APR_OK; /* cannot be: the contract was checked */
    k->role = role;
    k->dialect = dialect;
    k->part = part;
    const struct apr_bytes key = apr_arena_copy(&s->arena, (struct apr_bytes){ (const unsigned char *)text, k->n });
    union apr_table_value *first = key.at == NULL ? NULL : apr_table_put(&s->known, key, &fresh);
    if (first == NULL)
        return apr_no_memory(e);
    struct known_name *last = first->pointer;
    while (last != NULL && last->next != NULL)
        last = last->next;
    *(last == NULL ? (struct known_name **)&first->pointer : &last->next) = k;
    return APR_OK;
}

static enum apr_code learn_names(struct apr_names *s, struct apr_error *e)
{
    const struct apr_family *f = s->family;
    for (size_t i = 0; i < f->nrole; i++)
        for (unsigned d = 0; d < APR_NDIALECTS; d++)
            for (unsigned p = 0; p < f->role[i].known[d].n; p++)
                APR_TRY(learn_name(s, &f->role[i], (enum apr_dialect)d, p, e));
    return APR_OK;
}

static size_t remove_all(char *s, size_t n, struct apr_bytes word)
{
    for (char *at; (at = memmem(s, n, word.at, word.n)) != NULL; n -= word.n)
        memmove(at, at + word.n, n - (size_t)(at - s) - word.n);
    return n;
}

static size_t add_prefix(const struct apr_cleaning *how, char *s, size_t n)
{
    const struct apr_bytes name = { (const unsigned char *)s, n }, prefix = how->prefix;
    bool needs = n + prefix.n < APR_NAME_ROOM;
    for (size_t i = 0; i < how->unless.n; i++)
        needs &= !apr_bytes_begin(name, how->unless.word[i]);
    if (!needs || prefix.n == 0)
        return n;
    memmove(s + prefix.n, s, n);
    memcpy(s, prefix.at, prefix.n);
    return n + prefix.n;
}

struct apr_bytes apr_family_spelling(const struct apr_family *f, struct apr_bytes name, char *out)
{
    const struct apr_cleaning *how = &f->cleaning;
    struct apr_bytes s = { (const unsigned char *)out, name.n };
    if (name.n >= APR_NAME_ROOM)
        return name;
    memcpy(out, name.at, name.n);
    for (size_t i = 0; i < how->remove.n; i++)
        s.n = remove_all(out, s.n, how->remove.word[i]);
    for (size_t i = 0; i < how->strip_prefix.n; i++)
        if (apr_bytes_begin(s, how->strip_prefix.word[i])) {
            const size_t n = how->strip_prefix.word[i].n;
            memmove(out, out + n, s.n - n);
            s.n -= n;
            break;
        }
    s.n = add_prefix(how, out, s.n);
    for (size_t i = 0; i < how->nrename; i++) {
        const struct apr_rename *r = &how->rename[i];
        if (apr_bytes_end(s, r->from) && s.n - r->from.n + r->to.n < APR_NAME_ROOM) {
            s.n -= r->from.n;
            memcpy(out + s.n, r->to.at, r->to.n);
            s.n += r->to.n;
            break;
        }
    }
    return s;
}

/* ---- skipping ----------------------------------------------------------------------------------------------------- */

/* The glob with its dims as their values, into out (APR_NAME_ROOM); false while one is not known. */
static bool fill_glob(const struct apr_skip *skip, const struct apr_scope *scope, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < skip->n; i++) {
        const struct apr_skip_span *p = &skip->span[i];
        if (n + p->text.n >= APR_NAME_ROOM)
            return false;
        memcpy(out + n, p->text.at, p->text.n);
        n += p->text.n;
        if (p->dim == NULL)
            break;
        const struct apr_result v = scope->value(scope->ctx, p->dim->name);
        if (!v.known || v.text.at != NULL || !(v.number >= 0 && v.number < 0x1p53) || APR_NAME_ROOM - n < 24)
            return false;
        n += (size_t)snprintf(out + n, APR_NAME_ROOM - n, "%.0f", v.number);
    }
    out[n] = 0;
    return true;
}

static enum apr_code learn_globs(struct apr_names *s, const struct apr_skip *skip, size_t n, const struct apr_scope *scope,
                                 struct apr_error *e)
{
    char glob[APR_NAME_ROOM];
    for (size_t i = 0; i < n && !s->model->format->own_names; i++)
        if (fill_glob(&skip[i], scope, glob))
            APR_TRY(apr_patterns_add_glob(&s->skip, apr_text(glob), e));
    return APR_OK;
}

static enum apr_code learn_skips(struct apr_names *s, const struct apr_scope *scope, struct apr_error *e)
{
    apr_patterns_free(s->skip);
    s->skip = NULL;
    APR_TRY(learn_globs(s, s->family->buffer, s->family->nbuffer, scope, e));
    s->nbuffer = s->skip == NULL ? 0 : apr_patterns_count(s->skip);
    return learn_globs(s, s->family->skip, s->family->nskip, scope, e);
}

static enum apr_code find_skipped(struct apr_names *s, size_t tensor, struct apr_error *e)
{
    char room[APR_NAME_ROOM];
    size_t first;
    if (s->skip == NULL)
        return APR_OK;
    const struct apr_bytes name = apr_family_spelling(s->family, s->model->tensor[tensor].name, room);
    APR_TRY(apr_patterns_first(s->skip, name, &first, e));
    s->skipped[tensor] = first != APR_NO_PATTERN && name.n < APR_NAME_ROOM;
    s->buffer[tensor] = s->skipped[tensor] && first < s->nbuffer;
    return APR_OK;
}

bool apr_names_skips(const struct apr_names *s, const struct apr_tensor *t) { return s->skipped[t - s->model->tensor]; }
bool apr_names_buffer(const struct apr_names *s, const struct apr_tensor *t) { return s->buffer[t - s->model->tensor]; }

/* ---- meanings -------------------------------------------------------------------------------------------------------- */

static enum apr_code add_meaning(struct apr_names *s, size_t tensor, const struct apr_meaning *meaning, struct apr_error *e)
{
    struct candidate *more = apr_grown(s->candidate, &s->room, s->n, s->model->ntensor + 64, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    s->candidate = more;
    s->candidate[s->n++] = (struct candidate){ *meaning, (uint32_t)tensor, false };
    s->present[meaning->role - s->family->role] |= !s->model->tensor[tensor].tied;
    return APR_OK;
}

/* Does the found name, all of whose text is that of k, have k's numbers? Then the meaning is filled. */
static bool take_numbers(const struct known_name *k, const struct known_name *found, struct apr_meaning *meaning)
{
    *meaning = (struct apr_meaning){ .role = k->role, .dialect = k->dialect, .part = k->part };
    for (unsigned i = 0; i < k->nnumber; i++) {
        if (k->kind[i] == 'L')
            meaning->layer = found->number[i];
        else if (k->kind[i] == 'X')
            meaning->expert = found->number[i];
        else if (k->number[i] != found->number[i])
            return false;
    }
    return true;
}

/* Adds every meaning that the name has in the dialect. */
static enum apr_code add_meanings(struct apr_names *s, size_t tensor, struct apr_bytes name, enum apr_dialect dialect, struct apr_error *e)
{
    char text[APR_NAME_ROOM];
    struct known_name found;
    struct apr_meaning meaning;
    if (!generalise(name, text, &found))
        return APR_OK;
    const union apr_table_value *first = apr_table_find(&s->known, (struct apr_bytes){ (const unsigned char *)text, found.n });
    for (const struct known_name *k = first == NULL ? NULL : first->pointer; k != NULL; k = k->next)
        if (k->dialect == dialect && take_numbers(k, &found, &meaning))
            APR_TRY(add_meaning(s, tensor, &meaning, e));
    return APR_OK;
}

/* The same for one of a layer that is counted anew. */
static enum apr_code add_further(struct apr_names *s, size_t tensor, struct apr_bytes name, struct apr_error *e)
{
    const struct apr_cleaning *const how = &s->family->cleaning;
    char text[APR_NAME_ROOM];
    const size_t before = s->n;
    if (how->further_by == NULL || !apr_bytes_begin(name, how->further_from) ||
        name.n - how->further_from.n + how->further_to.n >= APR_NAME_ROOM)
        return APR_OK;
    const size_t rest = name.n - how->further_from.n;
    memcpy(text, how->further_to.at, how->further_to.n);
    memcpy(text + how->further_to.n, name.at + how->further_from.n, rest);
    APR_TRY(add_meanings(s, tensor, (struct apr_bytes){ (const unsigned char *)text, how->further_to.n + rest }, APR_HF, e));
    for (size_t i = before; i < s->n; i++)
        s->candidate[i].further = true;
    return APR_OK;
}

/* A name is sought as HuggingFace's, then GGUF's, then the reference's; a GGUF holds only its own. */
static enum apr_code read_name(struct apr_names *s, size_t tensor, struct apr_error *e)
{
    char room[APR_NAME_ROOM];
    const struct apr_bytes name = s->model->tensor[tensor].name;
    const size_t before = s->n;
    const bool gguf_only = s->model->format->own_names;
    if (!gguf_only) {
        const struct apr_bytes spelled = apr_family_spelling(s->family, name, room);
        APR_TRY(add_further(s, tensor, spelled, e));
        APR_TRY(add_meanings(s, tensor, spelled, APR_HF, e));
    }
    if (s->n == before)
        APR_TRY(add_meanings(s, tensor, name, APR_GGUF, e));
    if (s->n == before && !gguf_only)
        APR_TRY(add_meanings(s, tensor, name, APR_REFERENCE, e));
    return APR_OK;
}

static struct apr_bytes key_of(const struct apr_meaning *meaning)
{
    _Static_assert(sizeof *meaning == sizeof meaning->role + 2 * sizeof meaning->layer + sizeof meaning->dialect + sizeof meaning->part,
                   "a meaning is its own key, so nothing stands between its fields");
    return (struct apr_bytes){ (const unsigned char *)meaning, sizeof *meaning };
}

/* The layer in which a HuggingFace name stands for one of a GGUF: of those that are counted anew so many more; of a name without any
 * the first that the role has. */
static uint32_t layer_of(const struct candidate *c, const struct apr_dim *by, const struct apr_scope *scope)
{
    const struct apr_meaning *const m = &c->meaning;
    uint64_t first = 0;
    if (c->further) {
        const struct apr_result r = scope->value(scope->ctx, by->name);
        return r.known && r.text.at == NULL && r.number >= 0 && r.number < 0x1p31 && m->layer < INT32_MAX ? m->layer + (uint32_t)r.number
                                                                                                          : m->layer;
    }
    if (m->dialect != APR_HF || !m->role->layered || m->role->layers[0] == NULL ||
        apr_bytes_have(m->role->known[APR_HF].word[m->part], "{L}"))
        return m->layer;
    return apr_expr_size(m->role->layers[0], scope, &first) && first < INT32_MAX ? (uint32_t)first : m->layer;
}

/* Of several candidates those that are not in their layer go; one that is the only one stays. */
static void drop_absent(struct apr_names *s, const struct apr_scope *scope)
{
    size_t kept = 0;
    for (size_t t = 0, i = 0; t < s->model->ntensor; t++) {
        const size_t first = kept, end = s->first[t + 1];
        for (size_t left = end - i; i < end; i++) {
            const struct apr_meaning *const m = &s->candidate[i].meaning;
            if (left > 1 && !apr_role_in_layer(m->role, scope, m->layer, true))
                left--;
            else
                s->candidate[kept++] = s->candidate[i];
        }
        s->first[t] = first;
    }
    s->first[s->model->ntensor] = s->n = kept;
}

/* Puts the candidates whose `when` does not hold behind the others. */
static void order_candidates(struct apr_names *s, const struct apr_scope *scope)
{
    drop_absent(s, scope);
    for (size_t t = 0; t < s->model->ntensor; t++)
        for (size_t i = s->first[t], kept = i; s->first[t + 1] - s->first[t] > 1 && i < s->first[t + 1]; i++) {
            const struct candidate likely = s->candidate[i];
            if (likely.meaning.role->when != NULL && !apr_expr_true(likely.meaning.role->when, scope, true))
                continue;
            memmove(&s->candidate[kept + 1], &s->candidate[kept], (i - kept) * sizeof likely);
            s->candidate[kept++] = likely;
        }
}

/* Puts the tensor of each meaning that a candidate has into the table. */
static enum apr_code learn_tensors(struct apr_names *s, struct apr_error *e)
{
    apr_table_free(&s->tensor);
    if (!apr_table_expect(&s->tensor, s->n))
        return apr_no_memory(e);
    for (size_t i = 0; i < s->n; i++) {
        bool fresh;
        union apr_table_value *tensor = apr_table_put(&s->tensor, key_of(&s->candidate[i].meaning), &fresh);
        if (tensor == NULL)
            return apr_no_memory(e);
        if (fresh) /* of two spellings of one name the first has the meaning */
            tensor->number = s->candidate[i].tensor;
    }
    return APR_OK;
}

/* What `where` asks for may be whether a layer has a tensor, so all are learnt first. */
enum apr_code apr_names_order(struct apr_names *s, const struct apr_scope *scope, struct apr_error *e)
{
    for (size_t i = 0; i < s->n; i++)
        s->candidate[i].meaning.layer = layer_of(&s->candidate[i], s->family->cleaning.further_by, scope);
    APR_TRY(learn_tensors(s, e));
    order_candidates(s, scope);
    APR_TRY(learn_tensors(s, e));
    APR_TRY(learn_skips(s, scope, e));
    for (size_t i = 0; i < s->model->ntensor; i++)
        APR_TRY(find_skipped(s, i, e));
    return APR_OK;
}

static struct apr_result nothing_known(void *ctx, struct apr_bytes name)
{
    (void)ctx, (void)name;
    return (struct apr_result){ 0 };
}

/* picky: *out stays NULL when a tensor is unknown to the family. */
static enum apr_code read_names(struct apr_names **out, const struct apr_family *f, const struct apr_model *m, bool picky,
                                struct apr_error *e)
{
    const struct apr_scope nothing = { .value = nothing_known };
    struct apr_names *s = calloc(1, sizeof *s);
    *out = NULL;
    if (s == NULL)
        return apr_no_memory(e);
    s->family = f;
    s->model = m;
    s->first = calloc(m->ntensor + 1, sizeof *s->first);
    s->present = calloc(f->nrole + 1, sizeof *s->present);
    s->skipped = calloc(m->ntensor + 1, sizeof *s->skipped);
    s->buffer = calloc(m->ntensor + 1, sizeof *s->buffer);
    const bool room = s->first != NULL && s->present != NULL && s->skipped != NULL && s->buffer != NULL;
    enum apr_code code = room ? learn_names(s, e) : apr_no_memory(e);
    if (code == APR_OK && picky)
        code = learn_skips(s, &nothing, e);
    bool fits = true;
    for (size_t i = 0; code == APR_OK && fits && i < m->ntensor; i++) {
        code = read_name(s, i, e);
        s->first[i + 1] = s->n;
        if (code == APR_OK && picky && s->first[i] == s->n)
            code = find_skipped(s, i, e);
        fits = !picky || s->first[i] < s->n || s->skipped[i];
    }
    if (code == APR_OK && fits)
        *out = s;
    else
        apr_names_free(s);
    return code;
}

enum apr_code apr_names_new(struct apr_names **s, const struct apr_family *f, const struct apr_model *m, struct apr_error *e)
{
    return read_names(s, f, m, false, e);
}

enum apr_code apr_names_fit(struct apr_names **s, const struct apr_family *f, const struct apr_model *m, struct apr_error *e)
{
    return read_names(s, f, m, true, e);
}

void apr_names_free(struct apr_names *s)
{
    if (s == NULL)
        return;
    apr_table_free(&s->known);
    apr_table_free(&s->tensor);
    apr_arena_free(&s->arena);
    free(s->candidate);
    free(s->first);
    free(s->present);
    apr_patterns_free(s->skip);
    free(s->skipped);
    free(s->buffer);
    free(s);
}

size_t apr_names_of(const struct apr_names *s, const struct apr_tensor *t)
{
    const size_t tensor = (size_t)(t - s->model->tensor);
    return s->first[tensor + 1] - s->first[tensor];
}

const struct apr_meaning *apr_names_get(const struct apr_names *s, const struct apr_tensor *t, size_t i)
{
    return i < apr_names_of(s, t) ? &s->candidate[s->first[t - s->model->tensor] + i].meaning : NULL;
}

const struct apr_tensor *apr_names_find(const struct apr_names *s, const struct apr_meaning *meaning)
{
    const union apr_table_value *tensor = apr_table_find(&s->tensor, key_of(meaning));
    return tensor == NULL ? NULL : &s->model->tensor[tensor->number];
}

bool apr_names_present(const struct apr_names *s, const struct apr_role *role) { return s->present[role - s->family->role]; }

const struct apr_tensor *apr_names_first(const struct apr_names *s, const struct apr_role *role, enum apr_dialect dialect)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct candidate *const c = &s->candidate[i];
        if (c->meaning.role == role && c->meaning.dialect == dialect && !s->model->tensor[c->tensor].tied)
            return &s->model->tensor[c->tensor];
    }
    return NULL;
}

bool apr_names_named(const struct apr_names *s, const struct apr_tensor *t, struct apr_bytes name)
{
    char room[APR_NAME_ROOM];
    return apr_bytes_equal(apr_family_spelling(s->family, t->name, room), name);
}
