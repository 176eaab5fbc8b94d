#include "bind.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "config.h"
#include "format.h"
#include "meta.h"
#include "model.h"
#include "source.h"

#define MAX_NUMBERS 4 /* in one name */
#define NAME_ROOM   1024

/* A name of a role with every number as '#', and what each number must be. */
struct known_name {
    char                  *text;
    size_t                 n;
    const struct apr_role *role;
    enum apr_dialect       dialect;
    unsigned               piece, nnumber;
    char                   kind[MAX_NUMBERS]; /* 'L', 'X', or '=' with the value beside it */
    uint32_t               number[MAX_NUMBERS];
};

struct seated {
    struct apr_seat seat;
    uint32_t        tensor;
};

struct apr_binding {
    const struct apr_family *family;
    const struct apr_model  *model;
    struct apr_config       *config;
    struct apr_result       *value;    /* of family->dim */
    struct seated           *seated;   /* candidates of tensor i: first[i] .. first[i + 1] */
    size_t                  *first;
    size_t                   nseated, seated_room;
    uint32_t                *slot;     /* open-addressed: hash of a seat -> index in seated, + 1 */
    size_t                   nslot;
    bool                    *present;  /* of family->role: some tensor may be for it */
    struct known_name       *known;
    size_t                   nknown;
    uint32_t                *name_slot;
    size_t                   nname_slot;
    bool                     informed; /* the model says something about itself */
    bool                     gguf_order; /* tensors under the reference's names lie as in a GGUF */
};

const struct apr_family *apr_binding_family(const struct apr_binding *b) { return b->family; }

/* ---- names ---------------------------------------------------------------------------------------------------------- */

static bool ends_part(struct apr_bytes s, size_t i) { return i == s.n || s.at[i] == '.' || s.at[i] == '/'; }

/* Copies a name with its all-digit parts (and {L}, {X}) as '#'; the numbers into k. False when it has too many, or is too long. */
static bool generalise(struct apr_bytes s, char *out, struct known_name *k)
{
    size_t n = 0;
    k->nnumber = 0;
    for (size_t i = 0; i < s.n;) {
        size_t end = i;
        uint64_t number = 0;
        while (!ends_part(s, end))
            end++;
        bool digits = end > i && end - i < 10;
        for (size_t j = i; digits && j < end; j++) {
            digits = s.at[j] >= '0' && s.at[j] <= '9';
            number = 10 * number + (uint64_t)(s.at[j] - '0');
        }
        const bool hole = end - i == 3 && s.at[i] == '{' && s.at[i + 2] == '}';
        if ((digits || hole) && k->nnumber == MAX_NUMBERS)
            return false;
        if (n + (end - i) + 2 > NAME_ROOM)
            return false;
        if (digits || hole) {
            k->kind[k->nnumber] = hole ? (char)s.at[i + 1] : '=';
            k->number[k->nnumber++] = digits ? (uint32_t)number : 0;
            out[n++] = '#';
        } else {
            memcpy(out + n, s.at + i, end - i);
            n += end - i;
        }
        if (end < s.n)
            out[n++] = (char)s.at[end++];
        i = end;
    }
    k->n = n;
    return true;
}

/* The names of a family as a hash table; names that differ in a fixed number only share a slot's run. */
static size_t name_start(const struct apr_binding *b, const char *text, size_t n) { return (size_t)XXH3_64bits(text, n) & (b->nname_slot - 1); }

static enum apr_code learn_names(struct apr_binding *b, struct apr_error *e)
{
    const struct apr_family *f = b->family;
    size_t n = 0;
    char text[NAME_ROOM];
    for (size_t i = 0; i < f->nrole; i++)
        for (unsigned d = 0; d < APR_NDIALECTS; d++)
            n += f->role[i].nknown[d];
    b->nname_slot = 64;
    while (b->nname_slot < 2 * n)
        b->nname_slot *= 2;
    b->known = calloc(n + 1, sizeof *b->known);
    b->name_slot = calloc(b->nname_slot, sizeof *b->name_slot);
    if (b->known == NULL || b->name_slot == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < f->nrole; i++)
        for (unsigned d = 0; d < APR_NDIALECTS; d++)
            for (unsigned p = 0; p < f->role[i].nknown[d]; p++) {
                struct known_name *k = &b->known[b->nknown];
                if (!generalise(f->role[i].known[d][p], text, k))
                    continue;
                k->role = &f->role[i];
                k->dialect = (enum apr_dialect)d;
                k->piece = p;
                k->text = malloc(k->n + 1);
                if (k->text == NULL)
                    return apr_no_memory(e);
                memcpy(k->text, text, k->n);
                size_t slot = name_start(b, text, k->n);
                while (b->name_slot[slot] != 0)
                    slot = (slot + 1) & (b->nname_slot - 1);
                b->name_slot[slot] = (uint32_t)++b->nknown;
            }
    return APR_OK;
}

static enum apr_code add_seat(struct apr_binding *b, size_t tensor, const struct apr_seat *seat, struct apr_error *e)
{
    if (b->nseated == b->seated_room) {
        const size_t room = b->seated_room == 0 ? b->model->ntensor + 64 : 2 * b->seated_room;
        struct seated *more = realloc(b->seated, room * sizeof *more);
        if (more == NULL)
            return apr_no_memory(e);
        b->seated = more;
        b->seated_room = room;
    }
    b->seated[b->nseated++] = (struct seated){ *seat, (uint32_t)tensor };
    return APR_OK;
}

/* Adds every seat that the name has in the dialect. */
static enum apr_code add_seats(struct apr_binding *b, size_t tensor, struct apr_bytes name, enum apr_dialect dialect, struct apr_error *e)
{
    char text[NAME_ROOM];
    struct known_name found;
    if (!generalise(name, text, &found))
        return APR_OK;
    for (size_t slot = name_start(b, text, found.n); b->name_slot[slot] != 0; slot = (slot + 1) & (b->nname_slot - 1)) {
        const struct known_name *k = &b->known[b->name_slot[slot] - 1];
        struct apr_seat seat = { .role = k->role, .dialect = dialect, .piece = k->piece };
        bool fits = k->dialect == dialect && k->n == found.n && memcmp(k->text, text, k->n) == 0;
        for (unsigned i = 0; fits && i < k->nnumber; i++) {
            if (k->kind[i] == 'L')
                seat.layer = found.number[i];
            else if (k->kind[i] == 'X')
                seat.expert = found.number[i];
            else
                fits = k->number[i] == found.number[i];
        }
        if (fits)
            APR_TRY(add_seat(b, tensor, &seat, e));
    }
    return APR_OK;
}

static bool begins(struct apr_bytes s, struct apr_bytes with) { return s.n >= with.n && memcmp(s.at, with.at, with.n) == 0; }

static bool ends(struct apr_bytes s, struct apr_bytes with) { return s.n >= with.n && memcmp(s.at + s.n - with.n, with.at, with.n) == 0; }

/* A HuggingFace name as the contract spells it, into out (NAME_ROOM). */
static struct apr_bytes clean_name(const struct apr_family *f, struct apr_bytes name, char *out)
{
    struct apr_bytes s = { (const unsigned char *)out, name.n };
    const struct apr_yaml *add = apr_yaml_get(f->names, "add_prefix"), *k;
    if (name.n >= NAME_ROOM)
        return name;
    memcpy(out, name.at, name.n);
    for (k = apr_yaml_get(f->names, "remove"), k = k == NULL ? NULL : k->child; k != NULL; k = k->next) {
        char *at;
        while (k->text.n > 0 && (at = memmem(out, s.n, k->text.at, k->text.n)) != NULL) {
            const size_t before = (size_t)(at - out);
            memmove(at, at + k->text.n, s.n - before - k->text.n);
            s.n -= k->text.n;
        }
    }
    for (k = apr_yaml_get(f->names, "strip_prefix"), k = k == NULL ? NULL : k->child; k != NULL; k = k->next)
        if (begins(s, k->text)) {
            memmove(out, out + k->text.n, s.n - k->text.n);
            s.n -= k->text.n;
            break;
        }
    for (unsigned i = 0; i < f->nrename; i++)
        if (ends(s, f->rename[i].from) && s.n - f->rename[i].from.n + f->rename[i].to.n < NAME_ROOM) {
            s.n -= f->rename[i].from.n;
            memcpy(out + s.n, f->rename[i].to.at, f->rename[i].to.n);
            s.n += f->rename[i].to.n;
            break;
        }
    if (add != NULL) {
        const struct apr_bytes prefix = apr_yaml_get(add, "prefix")->text;
        bool needs = s.n + prefix.n < NAME_ROOM;
        const struct apr_yaml *unless = apr_yaml_get(add, "unless");
        for (k = unless == NULL ? NULL : unless->child; k != NULL; k = k->next)
            needs &= !begins(s, k->text);
        if (needs) {
            memmove(out + prefix.n, out, s.n);
            memcpy(out, prefix.at, prefix.n);
            s.n += prefix.n;
        }
    }
    return s;
}

static bool is_skipped(const struct apr_family *f, struct apr_bytes name)
{
    char text[NAME_ROOM];
    bool yes = false;
    if (name.n >= NAME_ROOM || f->skip == NULL)
        return false;
    memcpy(text, name.at, name.n);
    text[name.n] = 0;
    for (const struct apr_yaml *k = f->skip->child; !yes && k != NULL; k = k->next)
        yes = fnmatch((const char *)k->text.at, text, 0) == 0;
    return yes;
}

/* A name is sought as HuggingFace's, then GGUF's, then the reference's; a GGUF holds only its own. */
static enum apr_code take_seat(struct apr_binding *b, size_t tensor, struct apr_error *e)
{
    char room[NAME_ROOM];
    const struct apr_bytes name = b->model->tensor[tensor].name;
    const size_t before = b->nseated;
    const bool gguf_only = strcmp(b->model->format->name, "gguf") == 0;
    if (!gguf_only)
        APR_TRY(add_seats(b, tensor, clean_name(b->family, name, room), APR_HF, e));
    if (b->nseated == before)
        APR_TRY(add_seats(b, tensor, name, APR_GGUF, e));
    if (b->nseated == before && !gguf_only)
        APR_TRY(add_seats(b, tensor, name, APR_REFERENCE, e));
    return APR_OK;
}

/* ---- seats ---------------------------------------------------------------------------------------------------------- */

static size_t seat_start(const struct apr_binding *b, const struct apr_seat *s)
{
    const uint64_t key[] = { (uint64_t)(s->role - b->family->role), s->layer, s->expert, s->dialect, s->piece };
    return (size_t)XXH3_64bits(key, sizeof key) & (b->nslot - 1);
}

static bool same_seat(const struct apr_seat *a, const struct apr_seat *b)
{
    return a->role == b->role && a->layer == b->layer && a->expert == b->expert && a->dialect == b->dialect && a->piece == b->piece;
}

static size_t seat_slot(const struct apr_binding *b, const struct apr_seat *s)
{
    size_t slot = seat_start(b, s);
    while (b->slot[slot] != 0 && !same_seat(&b->seated[b->slot[slot] - 1].seat, s))
        slot = (slot + 1) & (b->nslot - 1);
    return slot;
}

static enum apr_code take_seats(struct apr_binding *b, struct apr_error *e)
{
    const struct apr_model *m = b->model;
    b->first = calloc(m->ntensor + 1, sizeof *b->first);
    b->present = calloc(b->family->nrole + 1, sizeof *b->present);
    if (b->first == NULL || b->present == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < m->ntensor; i++) {
        b->first[i] = b->nseated;
        APR_TRY(take_seat(b, i, e));
    }
    b->first[m->ntensor] = b->nseated;
    b->nslot = 64;
    while (b->nslot < 2 * b->nseated)
        b->nslot *= 2;
    b->slot = calloc(b->nslot, sizeof *b->slot);
    if (b->slot == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < b->nseated; i++) {
        const size_t slot = seat_slot(b, &b->seated[i].seat);
        b->present[b->seated[i].seat.role - b->family->role] |= !m->tensor[b->seated[i].tensor].tied;
        if (b->slot[slot] == 0) /* two spellings of one name: the first has the seat */
            b->slot[slot] = (uint32_t)i + 1;
    }
    return APR_OK;
}

bool apr_binding_seat(const struct apr_binding *b, const struct apr_tensor *t, size_t i, struct apr_seat *seat)
{
    const size_t tensor = (size_t)(t - b->model->tensor);
    if (b->first[tensor] + i >= b->first[tensor + 1])
        return false;
    *seat = b->seated[b->first[tensor] + i].seat;
    return true;
}

const struct apr_tensor *apr_binding_find(const struct apr_binding *b, const struct apr_seat *seat)
{
    const uint32_t number = b->slot[seat_slot(b, seat)];
    return number == 0 ? NULL : &b->model->tensor[b->seated[number - 1].tensor];
}

enum apr_dialect apr_binding_dialect(const struct apr_binding *b, const struct apr_role *role, uint32_t layer)
{
    struct apr_seat seat = { .role = role, .layer = layer };
    for (seat.dialect = 0; seat.dialect < APR_NDIALECTS; seat.dialect++)
        if (apr_binding_find(b, &seat) != NULL)
            break;
    return seat.dialect;
}

static bool is_stacked(const struct apr_role *r)
{
    return r->ntransform > 0 && r->transform[r->ntransform - 1].op == APR_OP_STACK;
}

size_t apr_binding_parts(const struct apr_binding *b, const struct apr_role *role, uint32_t layer, const struct apr_tensor **part, size_t room)
{
    struct apr_seat seat = { .role = role, .layer = layer, .dialect = apr_binding_dialect(b, role, layer) };
    uint64_t n = 1;
    if (seat.dialect == APR_NDIALECTS)
        return 0;
    if (seat.dialect != APR_HF || !is_stacked(role))
        n = seat.dialect == APR_HF ? 1 : role->nknown[seat.dialect];
    else if (!apr_binding_size(b, role->transform[role->ntransform - 1].n[0], &n))
        return 0;
    if (n > room)
        return 0;
    for (size_t i = 0; i < n; i++) {
        if (seat.dialect == APR_HF)
            seat.expert = (uint32_t)i;
        else
            seat.piece = (unsigned)i;
        part[i] = apr_binding_find(b, &seat);
        if (part[i] == NULL)
            return 0;
    }
    return (size_t)n;
}

/* ---- sizes ---------------------------------------------------------------------------------------------------------- */

static const struct apr_dim *find_dim(const struct apr_family *f, struct apr_bytes name)
{
    for (size_t i = 0; i < f->ndim; i++)
        if (apr_bytes_equal(f->dim[i].name, name))
            return &f->dim[i];
    return NULL;
}

static struct apr_result dim_value(void *ctx, struct apr_bytes name)
{
    const struct apr_binding *b = ctx;
    const struct apr_dim *d = find_dim(b->family, name);
    return d == NULL ? (struct apr_result){ 0 } : b->value[d - b->family->dim];
}

/* "tensors.ROLE": does the model have a tensor for it? Else a path in config.json. */
static bool has_path(void *ctx, struct apr_bytes path)
{
    const struct apr_binding *b = ctx;
    static const char tensors[] = "tensors.";
    const size_t n = sizeof tensors - 1;
    if (path.n <= n || memcmp(path.at, tensors, n) != 0)
        return apr_config_has(b->config, path);
    const struct apr_role *role = apr_family_role(b->family, (struct apr_bytes){ path.at + n, path.n - n });
    return role != NULL && b->present[role - b->family->role];
}

static struct apr_scope scope_of(const struct apr_binding *b) { return (struct apr_scope){ dim_value, has_path, (void *)(uintptr_t)b }; }

static bool number_of(const struct apr_value *v, double *out)
{
    if (v == NULL)
        return false;
    switch (v->type) {
    case APR_META_U8: case APR_META_U16: case APR_META_U32: case APR_META_U64:
        *out = (double)v->u;
        return true;
    case APR_META_I8: case APR_META_I16: case APR_META_I32: case APR_META_I64:
        *out = (double)v->i;
        return true;
    case APR_META_F32: case APR_META_F64:
        *out = v->f;
        return true;
    case APR_META_BOOL:
        *out = v->b;
        return true;
    default:
        return false;
    }
}

static struct apr_result result_of(const struct apr_value *v)
{
    double number;
    if (number_of(v, &number))
        return (struct apr_result){ true, number, { 0 } };
    if (v != NULL && v->type == APR_META_STRING)
        return (struct apr_result){ true, 0, v->text };
    return (struct apr_result){ 0 };
}

/* The contract's key with {a} as the architecture's name. */
static const struct apr_value *gguf_value(const struct apr_model *m, struct apr_bytes key)
{
    char text[256];
    const struct apr_bytes a = apr_meta_string(&m->meta, "general.architecture");
    const bool own = key.n > 3 && memcmp(key.at, "{a}", 3) == 0;
    const int n = snprintf(text, sizeof text, "%.*s%.*s", own ? (int)apr_min(a.n, 100) : 0, (const char *)a.at, (int)(key.n - (own ? 3 : 0)),
                           (const char *)key.at + (own ? 3 : 0));
    return n > 0 && (size_t)n < sizeof text ? apr_meta_find(&m->meta, text) : NULL;
}

/* What config.json or the metadata says of a dim. */
static struct apr_result said_value(const struct apr_binding *b, const struct apr_dim *d)
{
    struct apr_result r = { 0 };
    for (unsigned i = 0; i < d->nkey && !r.known; i++)
        r.known = d->text ? apr_config_string(b->config, d->key[i], &r.text) : apr_config_number(b->config, d->key[i], &r.number);
    for (const struct apr_yaml *k = b->family->kv == NULL ? NULL : b->family->kv->child; k != NULL && !r.known; k = k->next) {
        const struct apr_yaml *x = apr_yaml_get(k, "fills"), *gguf = apr_yaml_get(k, "gguf"), *apr = apr_yaml_get(k, "apr");
        if (x == NULL)
            x = apr_yaml_get(k, "expr");
        if (x == NULL || !apr_bytes_equal(x->text, d->name))
            continue;
        if (gguf != NULL)
            r = result_of(gguf_value(b->model, gguf->text));
        if (!r.known && apr != NULL)
            r = result_of(apr_meta_find(&b->model->meta, (const char *)apr->text.at));
    }
    return r;
}

/* Does the role's shape stand as it is in this dialect (but for a leading stack)? */
static bool keeps_shape(const struct apr_role *r)
{
    for (unsigned i = 0; i < r->ntransform; i++)
        if (r->transform[i].op != APR_OP_ROPE_PERMUTE && r->transform[i].op != APR_OP_ADD && r->transform[i].op != APR_OP_STACK)
            return false;
    return true;
}

/* Sizes that stand alone in the shape of a tensor whose role is clear. */
static void learn_shapes(struct apr_binding *b, bool *learnt)
{
    for (size_t i = 0; i < b->nseated; i++) {
        const struct apr_seat *s = &b->seated[i].seat;
        const struct apr_tensor *t = &b->model->tensor[b->seated[i].tensor];
        const struct apr_role *r = s->role;
        const bool clear = b->first[b->seated[i].tensor + 1] - b->first[b->seated[i].tensor] == 1;
        const bool as_is = s->dialect == APR_HF || (s->dialect == APR_GGUF && keeps_shape(r) && r->nknown[APR_GGUF] == 1);
        const unsigned skip = s->dialect == APR_GGUF && is_stacked(r);
        if (!clear || r->generated || !as_is || t->ndim != r->ndim + skip)
            continue;
        for (unsigned d = 0; d < r->ndim; d++) {
            struct apr_bytes name;
            const struct apr_dim *dim = apr_expr_is_name(r->dim[d], &name) ? find_dim(b->family, name) : NULL;
            if (dim == NULL || learnt[dim - b->family->dim])
                continue;
            learnt[dim - b->family->dim] = true;
            b->value[dim - b->family->dim] = (struct apr_result){ true, (double)t->dim[d + skip], { 0 } };
        }
    }
}

/* Puts the candidates whose `when` does not hold behind the others. */
static void order_candidates(struct apr_binding *b)
{
    const struct apr_scope scope = scope_of(b);
    for (size_t t = 0; t < b->model->ntensor; t++)
        for (size_t i = b->first[t], kept = i; i < b->first[t + 1]; i++) {
            const struct apr_role *r = b->seated[i].seat.role;
            if (r->when == NULL || apr_expr_true(r->when, &scope, true)) {
                const struct seated likely = b->seated[i];
                b->seated[i] = b->seated[kept];
                b->seated[kept++] = likely;
            }
        }
}

static enum apr_code find_sizes(struct apr_binding *b, const struct apr_binding *other, struct apr_error *e)
{
    const struct apr_family *f = b->family;
    const struct apr_scope scope = scope_of(b);
    bool *learnt = calloc(f->ndim + 1, sizeof *learnt);
    b->value = calloc(f->ndim + 1, sizeof *b->value);
    if (learnt == NULL || b->value == NULL) {
        free(learnt);
        return apr_no_memory(e);
    }
    learn_shapes(b, learnt);
    for (size_t i = 0; i < f->ndim; i++) {
        struct apr_result said = said_value(b, &f->dim[i]);
        if (!said.known && learnt[i])
            said = b->value[i];
        if (!said.known && !b->informed && other != NULL && other->family == f)
            said = other->value[i];
        if (!said.known && f->dim[i].value != NULL)
            said = apr_expr_value(f->dim[i].value, &scope);
        if (!said.known && other != NULL && other->family == f)
            said = other->value[i];
        b->value[i] = said;
    }
    free(learnt);
    return APR_OK;
}

bool apr_binding_size(const struct apr_binding *b, const struct apr_expr *x, uint64_t *n)
{
    const struct apr_scope scope = scope_of(b);
    return apr_expr_size(x, &scope, n);
}

bool apr_binding_shape(const struct apr_binding *b, const struct apr_role *role, uint64_t *dim, unsigned *ndim)
{
    *ndim = role->ndim;
    for (unsigned i = 0; i < role->ndim; i++)
        if (!apr_binding_size(b, role->dim[i], &dim[i]))
            return false;
    return true;
}

bool apr_binding_may_tie(const struct apr_binding *b)
{
    const struct apr_role *head = apr_family_role(b->family, apr_text("output"));
    const struct apr_scope scope = scope_of(b);
    return head != NULL && head->optional != NULL && (b->config == NULL || apr_expr_true(head->optional, &scope, true));
}

bool apr_binding_tied(const struct apr_binding *b)
{
    const struct apr_role *head = apr_family_role(b->family, apr_text("output")), *embedding = apr_family_role(b->family, apr_text("token_embd"));
    return apr_binding_may_tie(b) && apr_binding_dialect(b, head, 0) == APR_NDIALECTS && embedding != NULL &&
           apr_binding_dialect(b, embedding, 0) != APR_NDIALECTS;
}

/* ---- chains --------------------------------------------------------------------------------------------------------- */

static enum apr_code unknown_size(const struct apr_binding *b, const struct apr_role *role, struct apr_error *e)
{
    return apr_fail(e, APR_EARG, APR_NOWHERE, "family %.*s: a size that role %.*s needs is in no metadata (%s, line %u)", (int)b->family->name.n,
                    (const char *)b->family->name.at, (int)role->name.n, (const char *)role->name.at, b->family->file, role->line);
}

/* How a tensor under the reference's names comes from the HuggingFace one: cut along the side that the sizes add up to. */
static enum apr_code reference_chain(const struct apr_binding *b, const struct apr_role *role, struct apr_transform *out, size_t *n, struct apr_error *e)
{
    if (role->nsplit == 0)
        return APR_OK;
    struct apr_transform *t = &out[*n];
    uint64_t dim[APR_MAX_DIMS], total = 0;
    unsigned ndim;
    *t = (struct apr_transform){ .op = APR_OP_SPLIT_COLS, .nn = role->nsplit };
    for (unsigned i = 0; i < role->nsplit; i++, total += t->n[i - 1])
        if (!apr_binding_size(b, role->split[i], &t->n[i]))
            return unknown_size(b, role, e);
    if (!apr_binding_shape(b, role, dim, &ndim))
        return unknown_size(b, role, e);
    if (ndim == 2 && (b->gguf_order || dim[1] != total))
        t->op = APR_OP_SPLIT_ROWS;
    ++*n;
    return APR_OK;
}

enum apr_code apr_binding_chain(const struct apr_binding *b, const struct apr_role *role, enum apr_dialect dialect,
                                struct apr_transform out[APR_MAX_STEPS], size_t *n, struct apr_error *e)
{
    *n = 0;
    if (dialect == APR_HF)
        return APR_OK;
    for (unsigned i = 0; i < role->ntransform && (dialect == APR_GGUF || b->gguf_order); i++) {
        const struct apr_role_transform *t = &role->transform[i];
        struct apr_transform *to = &out[(*n)++];
        *to = (struct apr_transform){ .op = t->op, .nn = t->nn, .value = t->value };
        for (unsigned k = 0; k < t->nn; k++)
            if (!apr_binding_size(b, t->n[k], &to->n[k]))
                return unknown_size(b, role, e);
    }
    return dialect == APR_REFERENCE && *n < APR_MAX_STEPS ? reference_chain(b, role, out, n, e) : APR_OK;
}

/* Under the reference's names a Conv1D matrix may lie as HuggingFace or as GGUF has it; one that is no square tells for all. */
static void find_order(struct apr_binding *b)
{
    for (size_t i = 0; i < b->nseated; i++) {
        const struct apr_role *r = b->seated[i].seat.role;
        const struct apr_tensor *t = &b->model->tensor[b->seated[i].tensor];
        uint64_t dim[APR_MAX_DIMS];
        unsigned ndim;
        if (b->seated[i].seat.dialect != APR_REFERENCE || r->ntransform == 0 || r->transform[0].op != APR_OP_TRANSPOSE || r->nsplit > 0)
            continue;
        if (t->ndim != 2 || t->dim[0] == t->dim[1] || !apr_binding_shape(b, r, dim, &ndim))
            continue;
        b->gguf_order = t->dim[0] == dim[1] && t->dim[1] == dim[0];
        return;
    }
}

/* ---- binding -------------------------------------------------------------------------------------------------------- */

static enum apr_code read_config(const struct apr_model *m, struct apr_config **config, struct apr_error *e)
{
    *config = NULL;
    if (m->config == NULL)
        return APR_OK;
    const enum apr_code code = apr_config_new(config, m->config->map, e);
    if (code != APR_OK)
        apr_error_in(e, m->config->path);
    return code;
}

enum apr_code apr_bind(struct apr_binding **out, const struct apr_family *f, const struct apr_model *m, const struct apr_binding *other, struct apr_error *e)
{
    struct apr_binding *b = *out = calloc(1, sizeof *b);
    if (b == NULL)
        return apr_no_memory(e);
    b->family = f;
    b->model = m;
    b->informed = m->config != NULL || apr_meta_find(&m->meta, "general.architecture") != NULL || apr_meta_find(&m->meta, "architecture") != NULL;
    enum apr_code code = read_config(m, &b->config, e);
    if (code == APR_OK)
        code = learn_names(b, e);
    if (code == APR_OK)
        code = take_seats(b, e);
    if (code == APR_OK)
        code = find_sizes(b, other, e);
    if (code == APR_OK) {
        find_order(b);
        order_candidates(b);
    }
    if (code != APR_OK) {
        apr_binding_free(b);
        *out = NULL;
    }
    return code;
}

void apr_binding_free(struct apr_binding *b)
{
    if (b == NULL)
        return;
    for (size_t i = 0; i < b->nknown; i++)
        free(b->known[i].text);
    free(b->known);
    free(b->name_slot);
    free(b->seated);
    free(b->first);
    free(b->present);
    free(b->slot);
    free(b->value);
    apr_config_free(b->config);
    free(b);
}

/* ---- which family --------------------------------------------------------------------------------------------------- */

static enum apr_code family_of_config(struct apr_families *all, const struct apr_config *c, const struct apr_family **f, struct apr_error *e)
{
    struct apr_bytes word;
    char class[128];
    if (apr_config_string(c, apr_text("architectures.0"), &word))
        return apr_families_find(all, "architectures", word, f, e);
    if (apr_config_has(c, apr_text("ssm_cfg"))) {
        if (!apr_config_string(c, apr_text("ssm_cfg.layer"), &word))
            word = apr_text("Mamba");
        snprintf(class, sizeof class, "%.*sForCausalLM", (int)apr_min(word.n, 64), (const char *)word.at);
        return apr_families_find(all, "architectures", apr_text(class), f, e);
    }
    if (apr_config_string(c, apr_text("model_type"), &word))
        return apr_families_find(all, "model_types", word, f, e);
    return APR_OK;
}

enum apr_code apr_family_said(struct apr_families *all, const struct apr_model *m, const struct apr_family **f, struct apr_error *e)
{
    static const struct {
        const char *key, *list;
    } words[] = { { "general.architecture", "gguf" }, { "hf_architecture", "architectures" }, { "hf_model_type", "model_types" },
                  { "architecture", "model_types" }, { "architecture", "gguf" } };
    struct apr_config *config;
    *f = NULL;
    APR_TRY(read_config(m, &config, e));
    enum apr_code code = config == NULL ? APR_OK : family_of_config(all, config, f, e);
    apr_config_free(config);
    for (size_t i = 0; code == APR_OK && *f == NULL && i < APR_LENGTH(words); i++) {
        const struct apr_bytes word = apr_meta_string(&m->meta, words[i].key);
        if (word.n > 0)
            code = apr_families_find(all, words[i].list, word, f, e);
    }
    return code;
}

/* Are all tensors seated? */
static enum apr_code fits(const struct apr_family *f, const struct apr_model *m, bool *yes, struct apr_error *e)
{
    struct apr_binding *b;
    APR_TRY(apr_bind(&b, f, m, NULL, e));
    *yes = m->ntensor > 0;
    for (size_t i = 0; *yes && i < m->ntensor; i++)
        *yes = b->first[i] < b->first[i + 1] || is_skipped(f, m->tensor[i].name);
    apr_binding_free(b);
    return APR_OK;
}

/* Do two families that know all of m's names change its tensors alike? */
static bool agree(const struct apr_family *x, const struct apr_family *y)
{
    for (size_t i = 0; i < x->nrole; i++)
        for (size_t k = 0; k < y->nrole; k++) {
            const struct apr_role *a = &x->role[i], *b = &y->role[k];
            if (a->nknown[APR_HF] == 0 || b->nknown[APR_HF] == 0 || !apr_bytes_equal(a->known[APR_HF][0], b->known[APR_HF][0]))
                continue;
            if (a->ntransform != b->ntransform)
                return false;
            for (unsigned t = 0; t < a->ntransform; t++)
                if (a->transform[t].op != b->transform[t].op)
                    return false;
        }
    return true;
}

enum apr_code apr_family_guessed(struct apr_families *all, const struct apr_model *m, const struct apr_family **f, const struct apr_family *either[2],
                                 struct apr_error *e)
{
    const struct apr_family *candidate;
    *f = either[0] = either[1] = NULL;
    for (size_t i = 0;; i++) {
        bool yes;
        APR_TRY(apr_families_get(all, i, &candidate, e));
        if (candidate == NULL)
            return APR_OK;
        APR_TRY(fits(candidate, m, &yes, e));
        if (!yes)
            continue;
        if (either[0] == NULL)
            *f = either[0] = candidate;
        else if (!agree(either[0], candidate)) {
            either[1] = candidate;
            *f = NULL;
            return APR_OK;
        }
    }
}
