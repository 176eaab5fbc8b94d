#include "flow/wish.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/table.h"
#include "family/chain.h"
#include "family/llama3.h"
#include "family/missing.h"
#include "family/stored.h"
#include "model/format.h"
#include "model/model.h"
#include "ui/report.h"

#define MOST_LAYERS 65536u
#define MOST_FACTORS 65536u

/* What the wishes are made with.
 *   order  the model's tensors as they are taken
 *   seen   of each role and layer, how many of its parts were met */
struct wishing {
    struct apr_wishes        *w;
    const struct apr_kernels *k;
    const struct apr_model   *m;
    const struct apr_binding *b;
    enum apr_dialect          to;
    apr_spare_fn             *spare;
    void                     *ctx;
    struct apr_error         *e;
    uint32_t                 *order;
    struct apr_table          seen;
    const struct apr_tensor **part;
};

/* What the model says of one of its family's sizes. */
static bool number(const struct wishing *g, const char *name, double *v) { return apr_binding_number(g->b, apr_text(name), v); }

static struct apr_bytes family_name(const struct wishing *g) { return apr_binding_family(g->b)->name; }

void apr_wishes_end(struct apr_wishes *w)
{
    free(w->wish);
    free(w->left);
    apr_arena_free(&w->arena);
    *w = (struct apr_wishes){ 0 };
}

static enum apr_code add(struct wishing *g, const struct apr_wish *x, const struct apr_input *in)
{
    struct apr_wish *const grown = apr_grown(g->w->wish, &g->w->room, g->w->n, 256, sizeof *grown);
    if (grown == NULL)
        return apr_no_memory(g->e);
    g->w->wish = grown;
    grown[g->w->n] = *x;
    grown[g->w->n].count = 1;
    for (unsigned i = 0; i < x->ndim; i++)
        if (!apr_mul(grown[g->w->n].count, x->dim[i], &grown[g->w->n].count))
            return apr_fail_tensor(g->e, APR_ELIMIT, APR_NOWHERE, x->name, ": its shape has more than 2^64 elements");
    grown[g->w->n].in = apr_input_keep(&g->w->arena, in);
    if (grown[g->w->n].in == NULL)
        return apr_no_memory(g->e);
    g->w->n++;
    return APR_OK;
}

enum apr_code apr_wishes_leave_out(struct apr_wishes *w, struct apr_bytes name, const char *reason, struct apr_error *e)
{
    struct apr_left_out *const grown = apr_grown(w->left, &w->left_room, w->nleft, 64, sizeof *grown);
    if (grown == NULL)
        return apr_no_memory(e);
    w->left = grown;
    grown[w->nleft++] = (struct apr_left_out){ name, reason };
    return APR_OK;
}

/* Text that was made here, into the wishes' memory. */
static enum apr_code keep(struct wishing *g, const char *text, struct apr_bytes *kept)
{
    *kept = apr_arena_copy(&g->w->arena, apr_text(text));
    return kept->at == NULL ? apr_no_memory(g->e) : APR_OK;
}

/* ---- names ---------------------------------------------------------------------------------------------------------- */

/* A name of the role in the target, with the prefix that its class writes. */
static enum apr_code spell(struct wishing *g, const struct apr_role *role, unsigned part, uint32_t layer, uint32_t expert,
                           struct apr_bytes *name)
{
    const struct apr_cleaning *const how = &apr_binding_family(g->b)->cleaning;
    char text[2 * APR_NAME_ROOM];
    size_t before = 0;
    const struct apr_bytes pattern = role->known[g->to].word[part];
    bool plain = g->to != APR_HF || how->write_prefix.n == 0 || how->write_prefix.n > APR_NAME_ROOM;
    for (size_t i = 0; i < how->write_unless.n && !plain; i++)
        plain = pattern.n >= how->write_unless.word[i].n &&
                memcmp(pattern.at, how->write_unless.word[i].at, how->write_unless.word[i].n) == 0;
    if (!plain) {
        before = how->write_prefix.n;
        memcpy(text, how->write_prefix.at, before);
    }
    const struct apr_meaning what = { .role = role, .layer = layer, .expert = expert, .dialect = g->to, .part = part };
    if (apr_binding_spell(g->b, &what, text + before, APR_NAME_ROOM) == 0)
        return apr_fail(g->e, APR_ELIMIT, APR_NOWHERE, "family %.*s: a name of role %.*s is too long", APR_PRINTED(family_name(g)),
                        APR_PRINTED(role->name));
    return keep(g, text, name);
}

/* "a", "a.{0-7}.b" where only one number tells them apart, else "a + b". */
static enum apr_code describe_parts(struct wishing *g, const struct apr_tensor *const *part, size_t n, struct apr_bytes *from)
{
    const struct apr_bytes a = part[0]->name, z = part[n - 1]->name;
    char text[1024];
    size_t same = 0, tail = 0;
    if (n == 1) {
        *from = a;
        return APR_OK;
    }
    while (same < a.n && same < z.n && a.at[same] == z.at[same])
        same++;
    while (tail < a.n - same && tail < z.n - same && a.at[a.n - 1 - tail] == z.at[z.n - 1 - tail])
        tail++;
    const struct apr_bytes low = { a.at + same, a.n - same - tail }, high = { z.at + same, z.n - same - tail };
    bool number = low.n > 0 && high.n > 0;
    for (size_t i = 0; i < low.n + high.n && number; i++)
        number = strchr("0123456789", i < low.n ? low.at[i] : high.at[i - low.n]) != NULL;
    if (number) {
        snprintf(text, sizeof text, "%.*s{%.*s-%.*s}%.*s", (int)apr_min(same, 300), (const char *)a.at, APR_PRINTED(low), APR_PRINTED(high),
                 (int)apr_min(tail, 300), (const char *)a.at + a.n - tail);
        return keep(g, text, from);
    }
    size_t at = 0;
    for (size_t i = 0; i < n && at + 1 < sizeof text; i++) {
        const int more = snprintf(text + at, sizeof text - at, "%s%.*s", i > 0 ? " + " : "", (int)apr_min(part[i]->name.n, 200),
                                  (const char *)part[i]->name.at);
        at += more < 0 ? 0 : (size_t)more;
    }
    return keep(g, text, from);
}

/* ---- one role of one layer ------------------------------------------------------------------------------------------ */

/* A role in a layer, as it is stored and as it is wished for. */
struct task {
    struct apr_stored    of; /* its parts are in the wishes' memory */
    struct apr_transform chain_to[APR_MAX_STEPS];
    size_t               nto;
    const char          *transform;
};

/* "rope_permute(4)" of output number `number`, or of all, from HuggingFace's side on; NULL: as it is. */
static enum apr_code describe_chains(struct wishing *g, const struct task *t, uint64_t number, const char **transform)
{
    char text[512] = "";
    struct apr_bytes kept;
    if (g->to == APR_HF)
        apr_chain_spell(t->chain_to, t->nto, number, true, text, sizeof text);
    apr_chain_spell(t->of.chain, t->of.nchain, APR_ALL_PARTS, true, text, sizeof text);
    if (g->to != APR_HF)
        apr_chain_spell(t->chain_to, t->nto, number, true, text, sizeof text);
    *transform = NULL;
    if (text[0] == 0)
        return APR_OK;
    APR_TRY(keep(g, text, &kept));
    *transform = (const char *)kept.at;
    return APR_OK;
}

/* Is something done to some of its outputs that is not to all? */
static bool parts_differ(const struct task *t)
{
    return t->nto > 0 && t->chain_to[t->nto - 1].only > 0;
}

static enum apr_code check_part(const struct wishing *g, const struct task *t, size_t number)
{
    const struct apr_tensor *const has = t->of.part[number];
    uint64_t dim[APR_MAX_DIMS];
    unsigned ndim;
    char stored[176], wanted[176];
    if (!apr_stored_shape(&t->of, number, dim, &ndim))
        return apr_fail_tensor(g->e, APR_EARG, APR_NOWHERE, has->name,
                               ": the shape %s that family %.*s gives its role does not go through %s",
                               apr_spell_shape(t->of.dim, t->of.ndim, wanted), APR_PRINTED(family_name(g)), t->transform);
    if (apr_same_shape(dim, ndim, has->dim, has->ndim))
        return APR_OK;
    return apr_fail_tensor(g->e, APR_EARG, APR_NOWHERE, has->name,
                           " has the shape %s, family %.*s wants %s; --keep-names carries it as it is",
                           apr_spell_shape(has->dim, has->ndim, stored), APR_PRINTED(family_name(g)), apr_spell_shape(dim, ndim, wanted));
}

#define DEEPEST_DIM 32u /* of dims that are worked out of others */

/* The dim that an expression lacks: where it is worked out of others, or they are its default, the one of those. */
struct lack {
    const struct wishing *g;
    const struct apr_dim *dim;
    unsigned              depth;
};

static bool is_there(void *lack, struct apr_bytes name)
{
    struct lack *const l = lack;
    const struct apr_dim *const d = apr_family_dim(apr_binding_family(l->g->b), name);
    double v;
    if (d == NULL || d->text || apr_binding_number(l->g->b, name, &v))
        return true;
    l->dim = d;
    if (d->value != NULL && l->depth++ < DEEPEST_DIM)
        apr_expr_names(d->value, is_there, l);
    return false;
}

/* " (A, num_attention_heads in config.json)" for a message: which of a role's sizes nothing tells. Empty where none can be named. */
static const char *spell_lack(const struct wishing *g, const struct apr_role *role, char *text, size_t room)
{
    struct lack l = { .g = g };
    uint64_t n;
    for (unsigned i = 0; i < role->ndim && l.dim == NULL; i++)
        if (!apr_binding_size(g->b, role->dim[i], &n))
            apr_expr_names(role->dim[i], is_there, &l);
    *text = 0;
    if (l.dim != NULL && l.dim->key.n > 0)
        snprintf(text, room, " (%.*s, %.*s in config.json)", APR_PRINTED(l.dim->name), APR_PRINTED(l.dim->key.word[0]));
    else if (l.dim != NULL)
        snprintf(text, room, " (%.*s)", APR_PRINTED(l.dim->name));
    return text;
}

static enum apr_code prepare(struct wishing *g, struct task *t)
{
    struct apr_error why;
    char lack[256];
    const bool told = apr_binding_shape(g->b, t->of.role, t->of.dim, &t->of.ndim);
    const bool chained = apr_binding_chain(g->b, t->of.role, t->of.dialect, t->of.chain, &t->of.nchain, &why) == APR_OK &&
                         apr_binding_chain(g->b, t->of.role, g->to, t->chain_to, &t->nto, &why) == APR_OK;
    double value;
    if (!told && apr_binding_no_size(g->b, t->of.role, &value))
        return apr_fail_tensor(g->e, APR_EARG, APR_NOWHERE, t->of.part[0]->name,
                               ": a size of role %.*s of family %.*s comes to %.17g, which is none",
                               APR_PRINTED(t->of.role->name), APR_PRINTED(family_name(g)), value);
    if (!told && (!chained || t->of.nchain > 0))
        return apr_fail_tensor(g->e, APR_EARG, APR_NOWHERE, t->of.part[0]->name,
                               ": a size of role %.*s of family %.*s is in no metadata%s: --config FILE gives one",
                               APR_PRINTED(t->of.role->name), APR_PRINTED(family_name(g)), spell_lack(g, t->of.role, lack, sizeof lack));
    if (!chained) {
        *g->e = why;
        return why.code;
    }
    if (!told)
        apr_stored_take_shape(&t->of);
    APR_TRY(describe_chains(g, t, APR_ALL_PARTS, &t->transform));
    for (size_t i = 0; i < t->of.n; i++)
        APR_TRY(check_part(g, t, i));
    return APR_OK;
}

static enum apr_code transform_fault(const struct wishing *g, const struct task *t, const struct apr_error *why)
{
    return apr_fail_tensor(g->e, why->code, APR_NOWHERE, t->of.part[0]->name, ": %s; --keep-names carries it as it is", why->text);
}

/* Output number `number` of the task: an expert, a part of a split. */
static enum apr_code wish_part(struct wishing *g, const struct task *t, uint64_t number)
{
    struct apr_wish x = { .role = t->of.role, .transform = t->transform };
    struct apr_view view;
    struct apr_error why;
    const unsigned part = g->to == APR_HF && !apr_role_joined(t->of.role) ? 0 : (unsigned)number;
    if (parts_differ(t))
        APR_TRY(describe_chains(g, t, number, &x.transform));
    if (!apr_stored_other_shape(&t->of, t->chain_to, t->nto, number, x.dim, &x.ndim))
        return apr_fail_tensor(g->e, APR_EARG, APR_NOWHERE, t->of.part[0]->name, ": its shape does not go through %s", t->transform);
    if (apr_stored_view(&t->of, t->chain_to, t->nto, number, &view, &why) != APR_OK)
        return transform_fault(g, t, &why);
    APR_TRY(spell(g, t->of.role, part, t->of.layer, (uint32_t)number, &x.name));
    APR_TRY(describe_parts(g, t->of.part, t->of.n, &x.from));
    const struct apr_input in = apr_input_through(g->k, g->m, &view, x.dim, x.ndim);
    return add(g, &x, &in);
}

static enum apr_code wish_role(struct wishing *g, struct task *t)
{
    uint64_t n = g->to == APR_HF && !apr_role_joined(t->of.role) ? 1 : t->of.role->known[g->to].n;
    APR_TRY(prepare(g, t));
    if (g->to == APR_HF && apr_role_stacked(t->of.role) && !apr_binding_size(g->b, t->of.role->transform[0].n[0], &n))
        n = 0;
    for (uint64_t i = 0; i < n && i < APR_MOST_PARTS; i++)
        APR_TRY(wish_part(g, t, i));
    return APR_OK;
}

/* ---- tensors one by one --------------------------------------------------------------------------------------------- */

/* place: "family", or what of the family has no room for a role that it knows. */
static enum apr_code unknown_tensor(const struct wishing *g, const struct apr_tensor *t, const char *place)
{
    return apr_fail_tensor(g->e, APR_EARG, APR_NOWHERE, t->name,
                           " has no place in %s %.*s; --drop leaves it out, --keep-names carries all as they are",
                           place, APR_PRINTED(family_name(g)));
}

/* The count of parts of that role and layer that were met, this one included. */
static enum apr_code count_part(struct wishing *g, const struct apr_meaning *s, uint64_t *seen)
{
    const size_t role = (size_t)(s->role - apr_binding_family(g->b)->role);
    bool fresh;
    union apr_table_value *const count = apr_table_put(&g->seen, apr_table_integer((uint64_t)role << 32 | s->layer), &fresh);
    if (count == NULL)
        return apr_no_memory(g->e);
    *seen = ++count->number;
    return APR_OK;
}

/* Is it of a layer that a GGUF would not have, by what the checkpoint says of itself? */
static bool is_beyond(const struct wishing *g, const struct apr_meaning *s)
{
    const uint64_t layers = s->role->layered && g->to == APR_GGUF && s->dialect != APR_GGUF ? apr_binding_layers(g->b, s->role) : 0;
    return layers > 0 && s->layer >= layers;
}

static enum apr_code as_it_is(struct wishing *g, const struct apr_tensor *t)
{
    struct apr_wish x = { .name = t->name, .from = t->name, .ndim = t->ndim };
    const struct apr_tensor **const part = apr_arena_alloc(&g->w->arena, sizeof *part);
    if (part == NULL)
        return apr_no_memory(g->e);
    *part = t;
    memcpy(x.dim, t->dim, sizeof x.dim);
    const struct apr_view view = apr_view_of(part, 1, 0);
    const struct apr_input in = apr_input_through(g->k, g->m, &view, x.dim, x.ndim);
    return add(g, &x, &in);
}

static enum apr_code take_tensor(struct wishing *g, const struct apr_tensor *t)
{
    struct apr_meaning s;
    struct task task = { 0 };
    uint64_t seen = 0;
    const char *reason = NULL;
    APR_TRY(g->spare(g->ctx, t->name, &reason, g->e));
    if (reason == NULL && t->tied)
        reason = "tied";
    if (reason == NULL && g->b != NULL && g->to == APR_GGUF && apr_binding_skips(g->b, t))
        reason = "skipped by contract";
    if (reason != NULL)
        return apr_wishes_leave_out(g->w, t->name, reason, g->e);
    if (g->b == NULL)
        return as_it_is(g, t);
    if (!apr_binding_meaning(g->b, t, 0, &s))
        return unknown_tensor(g, t, "family");
    if (s.role->generated)
        return as_it_is(g, t);
    if (s.role->in_key && g->to == APR_GGUF)
        return apr_wishes_leave_out(g->w, t->name, "kept as a key", g->e);
    if (s.role->known[g->to].n == 0 || is_beyond(g, &s))
        return unknown_tensor(g, t, g->to == APR_GGUF ? "a GGUF of family" : "family");
    if (g->to == APR_GGUF && s.dialect != APR_GGUF && apr_binding_is_copy(g->b, &s, t))
        return apr_wishes_leave_out(g->w, t->name, "equal to the embedding", g->e);
    if (g->to == APR_GGUF && apr_binding_is_second(g->b, &s, t))
        return apr_wishes_leave_out(g->w, t->name, "there under another name", g->e);
    APR_TRY(count_part(g, &s, &seen));
    if (s.dialect != apr_binding_dialect(g->b, s.role, s.layer))
        return apr_fail_tensor(g->e, APR_EARG, APR_NOWHERE, t->name, " is there in two dialects; --drop leaves one out");
    APR_TRY(apr_stored_find(&task.of, g->b, s.role, s.layer, g->part, &g->w->arena, g->e));
    return task.of.n == 0 || seen < task.of.n ? APR_OK : wish_role(g, &task);
}

/* What a converter writes where the model has none of its own: the head that is the embedding. */
static enum apr_code take_fallbacks(struct wishing *g)
{
    const struct apr_family *const f = apr_binding_family(g->b);
    for (size_t i = 0; i < f->nrole && g->to == APR_GGUF; i++) {
        const struct apr_role *const r = &f->role[i], *const other = apr_family_role(f, r->fallback);
        struct task task = { 0 };
        uint64_t n;
        if (other == NULL || r->layered || apr_binding_dialect(g->b, r, 0) != APR_NDIALECTS ||
            (r->when != NULL && (!apr_binding_size(g->b, r->when, &n) || n == 0)))
            continue;
        APR_TRY(apr_stored_find(&task.of, g->b, other, 0, g->part, &g->w->arena, g->e));
        if (task.of.n != 1 || task.of.dialect == APR_GGUF)
            continue;
        task.of.role = r;
        APR_TRY(wish_role(g, &task));
    }
    return APR_OK;
}

/* ---- generated ones ------------------------------------------------------------------------------------------------- */

/* Llama 3's scaling of the rotary frequencies (families.md 3), in f32. */
static enum apr_code llama3_factors(struct wishing *g, float *out, uint64_t n)
{
    struct apr_llama3 s;
    if (!apr_binding_llama3(g->b, &s))
        return apr_fail(g->e, APR_EARG, APR_NOWHERE, "the rope scaling of type llama3 lacks one of its numbers");
    for (uint64_t i = 0; i < n; i++)
        out[i] = apr_llama3_factor(&s, i);
    return APR_OK;
}

static enum apr_code listed_factors(struct wishing *g, const struct apr_role *role, float *out, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        double v = 0;
        bool found = false;
        for (size_t k = 0; k < role->list.n && !found; k++) {
            char path[256];
            snprintf(path, sizeof path, "%.*s.%llu", (int)apr_min(role->list.word[k].n, 200), (const char *)role->list.word[k].at,
                     (unsigned long long)i);
            found = number(g, path, &v);
        }
        if (!found)
            return apr_fail(g->e, APR_EARG, APR_NOWHERE, "config.json has no element %llu of %.*s, of which %llu are wanted", (unsigned long long)i,
                            APR_PRINTED(role->list.word[0]), (unsigned long long)n);
        out[i] = (float)v;
    }
    return APR_OK;
}

static enum apr_code elements(struct wishing *g, const struct apr_role *role, float *out, uint64_t n)
{
    const struct apr_formula each = { .origin = APR_OF_EACH, .expr = role->each };
    for (uint64_t i = 0; i < n; i++) {
        const struct apr_result r = apr_binding_element(g->b, &each, i);
        if (!r.known || r.text.at != NULL)
            return apr_fail(g->e, APR_EARG, APR_NOWHERE, "nothing tells element %llu of the generated %.*s",
                            (unsigned long long)i, APR_PRINTED(role->name));
        out[i] = (float)r.number;
    }
    return APR_OK;
}

static enum apr_code generate(struct wishing *g, const struct apr_role *role)
{
    struct apr_wish x = { .role = role };
    uint64_t n = 1;
    if (!apr_binding_shape(g->b, role, x.dim, &x.ndim))
        return apr_fail(g->e, APR_EARG, APR_NOWHERE, "a size of the generated %.*s is in no metadata: --config FILE gives one",
                        APR_PRINTED(role->name));
    for (unsigned i = 0; i < x.ndim; i++)
        if (!apr_mul(n, x.dim[i], &n) || n > MOST_FACTORS)
            return apr_fail(g->e, APR_ELIMIT, APR_NOWHERE, "the generated %.*s would have more than %u elements",
                            APR_PRINTED(role->name), MOST_FACTORS);
    float *const values = apr_arena_alloc(&g->w->arena, (size_t)n * sizeof *values + 1);
    if (values == NULL)
        return apr_no_memory(g->e);
    APR_TRY(role->generated == APR_OF_ELEMENTS   ? elements(g, role, values, n)
            : role->generated == APR_CONFIG_LIST ? listed_factors(g, role, values, n)
                                                 : llama3_factors(g, values, n));
    APR_TRY(spell(g, role, 0, 0, 0, &x.name));
    x.values = values;
    return add(g, &x, &(struct apr_input){ 0 });
}

/* A tensor of each layer, of what a GGUF has as a list in a key. */
static enum apr_code unfold(struct wishing *g, const struct apr_kv *k)
{
    const struct apr_role *const role = apr_family_role(apr_binding_family(g->b), k->value.word.word[0]);
    const uint64_t layers = apr_min(apr_binding_layers(g->b, NULL), MOST_LAYERS);
    for (uint64_t i = 0; i < layers && apr_binding_dialect(g->b, role, (uint32_t)i) == APR_NDIALECTS; i++) {
        struct apr_wish x = { .role = role };
        char path[256];
        double v;
        float *const value = apr_arena_alloc(&g->w->arena, sizeof *value);
        snprintf(path, sizeof path, "%.*s.%llu", APR_PRINTED(k->key), (unsigned long long)i);
        if (value == NULL || !apr_binding_shape(g->b, role, x.dim, &x.ndim))
            return apr_no_memory(g->e);
        if (!number(g, path + k->own, &v))
            return apr_fail(g->e, APR_EARG, APR_NOWHERE, "%s is in no metadata, and family %.*s has a tensor of it", path,
                            APR_PRINTED(family_name(g)));
        *value = (float)v;
        x.values = value;
        APR_TRY(spell(g, role, 0, (uint32_t)i, 0, &x.name));
        APR_TRY(add(g, &x, &(struct apr_input){ 0 }));
    }
    return APR_OK;
}

static enum apr_code unfold_all(struct wishing *g)
{
    const struct apr_family *const f = apr_binding_family(g->b);
    for (size_t i = 0; i < f->nkv && g->to == APR_HF && g->m->format->own_names; i++)
        if (f->kv[i].value.origin == APR_OF_ROLE)
            APR_TRY(unfold(g, &f->kv[i]));
    return APR_OK;
}

/* A GGUF that has them keeps its own. */
static enum apr_code generate_all(struct wishing *g)
{
    const struct apr_family *const f = apr_binding_family(g->b);
    for (size_t i = 0; i < f->nrole && g->to == APR_GGUF; i++)
        if (apr_binding_generates(g->b, &f->role[i]) && apr_binding_dialect(g->b, &f->role[i], 0) == APR_NDIALECTS)
            APR_TRY(generate(g, &f->role[i]));
    return APR_OK;
}

/* ---- what is missing ------------------------------------------------------------------------------------------------ */

struct miss {
    struct wishing *g;
    enum apr_code   code;
};

static bool miss(void *ctx, const struct apr_meaning *s, struct apr_bytes name)
{
    struct miss *const x = ctx;
    struct wishing *const g = x->g;
    const char *reason = NULL;
    x->code = g->spare(g->ctx, name, &reason, g->e);
    if (x->code == APR_OK && reason == NULL)
        x->code = apr_fail_tensor(g->e, APR_EARG, APR_NOWHERE, name, " is not there; family %.*s needs it as %.*s; --keep-names goes by no family",
                                  APR_PRINTED(family_name(g)), APR_PRINTED(s->role->name));
    return x->code == APR_OK;
}

static enum apr_code check_missing(struct wishing *g)
{
    struct miss x = { g, APR_OK };
    struct apr_meaning s;
    const uint64_t said = apr_binding_layers(g->b, NULL);
    uint64_t layers = 0;
    for (size_t i = 0; i < g->m->ntensor; i++)
        if (apr_binding_meaning(g->b, &g->m->tensor[i], 0, &s) && s.role->layered && s.layer >= layers)
            layers = s.layer + (uint64_t)1;
    if (said > 0)
        layers = said;
    apr_binding_missing(g->b, apr_binding_spoken(g->b, g->m), apr_min(layers, MOST_LAYERS), miss, &x);
    return x.code;
}

/* ---- the order ------------------------------------------------------------------------------------------------------ */

static int by_file_and_name(const void *a, const void *b, void *model)
{
    const struct apr_model *const m = model;
    const struct apr_tensor *const x = &m->tensor[*(const uint32_t *)a], *const y = &m->tensor[*(const uint32_t *)b];
    return x->file != y->file ? (x->file > y->file) - (x->file < y->file) : apr_bytes_compare(x->name, y->name);
}

/* An APR lists its tensors by name, whatever they lie like. */
static int by_place(const void *a, const void *b, void *model)
{
    const struct apr_model *const m = model;
    const uint32_t i = *(const uint32_t *)a, k = *(const uint32_t *)b;
    const struct apr_tensor *const x = &m->tensor[i], *const y = &m->tensor[k];
    const uintptr_t at = (uintptr_t)x->data.at, other = (uintptr_t)y->data.at;
    return x->file != y->file ? (x->file > y->file) - (x->file < y->file) : at != other ? (at > other) - (at < other) : (i > k) - (i < k);
}

static enum apr_code put_in_order(struct wishing *g)
{
    const size_t n = g->m->ntensor;
    g->order = malloc((n + 1) * sizeof *g->order);
    g->part = malloc(APR_MOST_PARTS * sizeof *g->part);
    if (g->order == NULL || g->part == NULL)
        return apr_no_memory(g->e);
    for (size_t i = 0; i < n; i++)
        g->order[i] = (uint32_t)i;
    if (g->m->format->config && g->to == APR_GGUF)
        qsort_r(g->order, n, sizeof *g->order, by_file_and_name, (void *)(uintptr_t)g->m);
    if (!g->m->format->config && !g->m->format->own_names)
        qsort_r(g->order, n, sizeof *g->order, by_place, (void *)(uintptr_t)g->m);
    return APR_OK;
}

static enum apr_code wish_all(struct wishing *g)
{
    APR_TRY(put_in_order(g));
    if (g->b != NULL)
        APR_TRY(generate_all(g));
    if (g->b != NULL)
        APR_TRY(unfold_all(g));
    for (size_t i = 0; i < g->m->ntensor; i++)
        APR_TRY(take_tensor(g, &g->m->tensor[g->order[i]]));
    if (g->b == NULL)
        return APR_OK;
    APR_TRY(take_fallbacks(g));
    return check_missing(g);
}

enum apr_code apr_wishes_of(struct apr_wishes *w, const struct apr_kernels *k, const struct apr_model *m, const struct apr_binding *b,
                            enum apr_dialect dialect, apr_spare_fn *spare, void *ctx, struct apr_error *e)
{
    struct wishing g = { .w = w, .k = k, .m = m, .b = b, .to = dialect, .spare = spare, .ctx = ctx, .e = e };
    const enum apr_code code = wish_all(&g);
    apr_table_free(&g.seen);
    free(g.order);
    free(g.part);
    return code;
}
