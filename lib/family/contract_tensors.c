/* The dims and the tensors of a contract. */
#include "family/contract.h"

#include <string.h>

#include "base/arena.h"
#include "base/bytes.h"

#define MOST_DIMS  1024
#define MOST_KEYS  8    /* of one dim, of a list that is generated */
#define MOST_ROLES 1024 /* pairs of them are compared */

/* ---- dims --------------------------------------------------------------------------------------------------------- */

static enum apr_code read_dim(const struct apr_contract *c, const struct apr_yaml *at, struct apr_dim *d)
{
    unsigned type = 0;
    d->name = apr_arena_copy(&c->f->arena, at->key);
    if (d->name.at == NULL)
        return apr_no_memory(c->e);
    d->line = at->line;
    if (at->kind == APR_YAML_SCALAR)
        return apr_contract_expression(c, at, &d->value);
    APR_TRY(apr_contract_keys(c, at, "keys default type"));
    APR_TRY(apr_contract_several(c, apr_yaml_get(at, "keys"), MOST_KEYS, &d->key));
    APR_TRY(apr_contract_choice(c, apr_yaml_get(at, "type"), "unknown type", "int float str", &type));
    d->real = type == 1;
    d->text = type == 2;
    return apr_contract_expression(c, apr_yaml_get(at, "default"), &d->value);
}

enum apr_code apr_contract_read_dims(const struct apr_contract *c, const struct apr_yaml *dims)
{
    if (dims == NULL || dims->kind != APR_YAML_MAP || dims->n > MOST_DIMS)
        return apr_contract_fault(c, dims == NULL ? c->root : dims, "no map, or too large a one:", apr_text("dims"));
    c->f->dim = apr_arena_alloc(&c->f->arena, dims->n * sizeof *c->f->dim);
    if (c->f->dim == NULL)
        return apr_no_memory(c->e);
    for (const struct apr_yaml *k = dims->child; k != NULL; k = k->next, c->f->ndim++)
        APR_TRY(read_dim(c, k, &c->f->dim[c->f->ndim]));
    return APR_OK;
}

/* ---- tensors ------------------------------------------------------------------------------------------------------ */

/* {L} and {X} stand alone between dots, and there are few numbers in a name. */
static enum apr_code sound_name(const struct apr_contract *c, const struct apr_yaml *at, struct apr_bytes name)
{
    const char *s = (const char *)name.at;
    unsigned numbers = 0;
    for (size_t n; *s != 0; s += n + (s[n] != 0)) {
        n = strcspn(s, "./");
        const bool hole = n == 3 && (memcmp(s, "{L}", n) == 0 || memcmp(s, "{X}", n) == 0);
        if (!hole && memchr(s, '{', n) != NULL)
            return apr_contract_fault(c, at, "{L} and {X} stand between dots, and nothing else does so in braces:", name);
        numbers += hole || (n > 0 && strspn(s, "0123456789") == n);
    }
    if (numbers > APR_MAX_NUMBERS || name.n >= APR_NAME_ROOM)
        return apr_contract_fault(c, at, "a name too long, or with too many numbers:", name);
    return APR_OK;
}

static enum apr_code read_known(const struct apr_contract *c, const struct apr_yaml *at, struct apr_role *r)
{
    static const char *const key[APR_NDIALECTS] = { "hf", "gguf", "apr" };
    for (unsigned d = 0; d < APR_NDIALECTS; d++) {
        const struct apr_yaml *v = apr_yaml_get(at, key[d]);
        APR_TRY(apr_contract_several(c, v, APR_MAX_PARTS, &r->known[d]));
        for (size_t i = 0; i < r->known[d].n; i++) {
            APR_TRY(sound_name(c, v, r->known[d].word[i]));
            r->layered |= apr_bytes_have(r->known[d].word[i], "{L}");
        }
    }
    return APR_OK;
}

/* What its names and its transforms say of each other. */
static enum apr_code sound_role(const struct apr_contract *c, const struct apr_yaml *at, const struct apr_role *r)
{
    const struct apr_words *hf = &r->known[APR_HF], *gguf = &r->known[APR_GGUF], *reference = &r->known[APR_REFERENCE];
    if (hf->n == 0 || (hf->n != 1 && !apr_role_joined(r)))
        return apr_contract_fault(c, at, "a tensor has one hf name; look at", r->name);
    if (apr_role_joined(r) && hf->n != r->transform[0].nn)
        return apr_contract_fault(c, at, "as many hf names as the concatenation has parts; look at", r->name);
    APR_TRY(apr_contract_sound_transforms(c, at, r));
    if (apr_role_stacked(r) != apr_bytes_have(hf->word[0], "{X}"))
        return apr_contract_fault(c, at, "{X} in the hf name and the op stack go together; look at", r->name);
    if (gguf->n > 0 && gguf->n != apr_contract_outputs(r))
        return apr_contract_fault(c, at, "as many gguf names as the transform has parts; look at", r->name);
    for (unsigned d = 0; d < APR_NDIALECTS; d++)
        for (size_t i = 0; i < r->known[d].n; i++) {
            const bool single = d == APR_HF && r->layers[0] != NULL; /* of the first of `layers` */
            if (apr_bytes_have(r->known[d].word[i], "{L}") != r->layered && !single)
                return apr_contract_fault(c, at, "{L} stands in all names of a tensor, or in none:", r->known[d].word[i]);
            if (d != APR_HF && apr_bytes_have(r->known[d].word[i], "{X}"))
                return apr_contract_fault(c, at, "{X} belongs into the hf name only:", r->known[d].word[i]);
        }
    if (reference->n > 1 ? r->nsplit != reference->n : r->nsplit > 0)
        return apr_contract_fault(c, at, "apr_split has one number for each apr name; look at", r->name);
    return APR_OK;
}

static enum apr_code read_role(const struct apr_contract *c, const struct apr_yaml *at, struct apr_role *r)
{
    const struct apr_yaml *shape = apr_yaml_get(at, "shape"), *name = apr_yaml_get(at, "role"), *dtype = apr_yaml_get(at, "dtype");
    unsigned which;
    r->line = at->line;
    if (name == NULL || shape == NULL)
        return apr_contract_fault(c, at, "a tensor needs role and shape; it has", name == NULL ? apr_text("no role") : name->text);
    APR_TRY(apr_contract_word(c, name, &r->name));
    APR_TRY(apr_contract_sizes(c, shape, 1, r->dim, APR_MAX_DIMS, &r->ndim));
    APR_TRY(read_known(c, at, r));
    APR_TRY(apr_contract_choice(c, dtype, "unknown dtype", "f32", &which));
    r->f32 = dtype != NULL;
    return apr_contract_expression(c, apr_yaml_get(at, "when"), &r->when);
}

static enum apr_code read_tensor(const struct apr_contract *c, const struct apr_yaml *at, struct apr_role *r)
{
    const struct apr_yaml *transform = apr_yaml_get(at, "transform"), *split = apr_yaml_get(at, "apr_split"),
                           *layers = apr_yaml_get(at, "layers");
    unsigned nlayers = 0;
    APR_TRY(apr_contract_keys(c, at, "role hf gguf shape transform dtype optional when where layers apr apr_split fallback unless_equal"));
    APR_TRY(read_role(c, at, r));
    if (transform != NULL)
        APR_TRY(apr_contract_read_transforms(c, transform, r));
    if (split != NULL)
        APR_TRY(apr_contract_sizes(c, split, 1, r->split, APR_MAX_PARTS, &r->nsplit));
    APR_TRY(apr_contract_expression(c, apr_yaml_get(at, "optional"), &r->optional));
    APR_TRY(apr_contract_layered(c, apr_yaml_get(at, "where"), &r->where));
    if (r->where != NULL && !r->layered)
        return apr_contract_fault(c, at, "`where` is for tensors of layers; look at", r->name);
    APR_TRY(apr_contract_word(c, apr_yaml_get(at, "fallback"), &r->fallback));
    APR_TRY(apr_contract_word(c, apr_yaml_get(at, "unless_equal"), &r->unless_equal));
    if (layers != NULL)
        APR_TRY(apr_contract_sizes(c, layers, 0, r->layers, APR_LENGTH(r->layers), &nlayers));
    if (layers != NULL && nlayers < 2)
        return apr_contract_fault(c, layers, "layers takes from, to and maybe a step; look at", r->name);
    return sound_role(c, at, r);
}

static enum apr_code read_generated(const struct apr_contract *c, const struct apr_yaml *at, struct apr_role *r)
{
    const struct apr_yaml *op = apr_yaml_get(at, "op"), *key = apr_yaml_get(at, "key"), *each = apr_yaml_get(at, "each");
    unsigned which = 0;
    APR_TRY(apr_contract_keys(c, at, "role gguf shape dtype op key each when"));
    APR_TRY(read_role(c, at, r));
    if (op == NULL || r->known[APR_GGUF].n != 1)
        return apr_contract_fault(c, at, "what is generated has an op and one gguf name; look at", r->name);
    APR_TRY(apr_contract_choice(c, op, "unknown op", "llama3_rope_factors config_list each", &which));
    r->generated = (enum apr_generator)(which + 1);
    if (r->generated == APR_CONFIG_LIST && key == NULL)
        return apr_contract_fault(c, op, "the op lacks", apr_text("key"));
    if (r->generated == APR_OF_ELEMENTS && each == NULL)
        return apr_contract_fault(c, op, "the op lacks", apr_text("each"));
    APR_TRY(apr_contract_layered(c, each, &r->each));
    return apr_contract_several(c, key, MOST_KEYS, &r->list);
}

static bool share_a_name(const struct apr_role *a, const struct apr_role *b, struct apr_bytes *name)
{
    for (unsigned d = 0; d < APR_REFERENCE; d++)
        for (size_t i = 0; i < a->known[d].n; i++)
            if (apr_words_hold(&b->known[d], a->known[d].word[i])) {
                *name = a->known[d].word[i];
                return true;
            }
    return false;
}

static bool is_conditional(const struct apr_role *r) { return r->when != NULL || r->where != NULL; }

static enum apr_code unlike_others(const struct apr_contract *c, const struct apr_role *r)
{
    const struct apr_yaml at = { .line = r->line };
    struct apr_bytes shared = { 0 };
    if (r->fallback.n > 0 && apr_family_role(c->f, r->fallback) == NULL)
        return apr_contract_fault(c, &at, "its fallback is no role:", r->fallback);
    if (r->unless_equal.n > 0 && apr_family_role(c->f, r->unless_equal) == NULL)
        return apr_contract_fault(c, &at, "unless_equal is no role:", r->unless_equal);
    for (const struct apr_role *other = c->f->role; other < r; other++) {
        if (apr_bytes_equal(r->name, other->name))
            return apr_contract_fault(c, &at, "two tensors of one role,", r->name);
        if ((!is_conditional(r) || !is_conditional(other)) && share_a_name(r, other, &shared))
            return apr_contract_fault(c, &at, "two roles of one name, and not both have a `when` or a `where`:", shared);
    }
    return APR_OK;
}

enum apr_code apr_contract_read_roles(const struct apr_contract *c, const struct apr_yaml *tensors, const struct apr_yaml *generated)
{
    if (tensors == NULL)
        return apr_contract_fault(c, c->root, "a list is missing:", apr_text("tensors"));
    APR_TRY(apr_contract_list(c, tensors, MOST_ROLES));
    if (generated != NULL)
        APR_TRY(apr_contract_list(c, generated, MOST_ROLES));
    c->f->role = apr_arena_alloc(&c->f->arena, (tensors->n + (generated == NULL ? 0 : generated->n)) * sizeof *c->f->role);
    if (c->f->role == NULL)
        return apr_no_memory(c->e);
    for (const struct apr_yaml *k = tensors->child; k != NULL; k = k->next)
        APR_TRY(read_tensor(c, k, &c->f->role[c->f->nrole++]));
    for (const struct apr_yaml *k = generated == NULL ? NULL : generated->child; k != NULL; k = k->next)
        APR_TRY(read_generated(c, k, &c->f->role[c->f->nrole++]));
    for (size_t i = 0; i < c->f->nrole; i++)
        APR_TRY(unlike_others(c, &c->f->role[i]));
    return APR_OK;
}
