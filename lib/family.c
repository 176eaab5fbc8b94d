#include "family.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "source.h"

/* ---- complaints ----------------------------------------------------------------------------------------------------- */

/* The reader of one contract. */
struct contract {
    struct apr_family *f;
    struct apr_error  *e;
};

static enum apr_code complain(const struct contract *c, const struct apr_yaml *at, const char *what, struct apr_bytes word)
{
    return apr_fail(c->e, APR_ECORRUPT, APR_NOWHERE, "line %u: family %.*s: %s %s", at->line, (int)c->f->name.n, (const char *)c->f->name.at, what,
                    APR_QUOTED(word));
}

/* Every key of the map is one of the words. */
static enum apr_code known_keys(const struct contract *c, const struct apr_yaml *map, const char *words)
{
    if (map->kind != APR_YAML_MAP)
        return complain(c, map, "a map should stand here, not", map->text);
    for (const struct apr_yaml *k = map->child; k != NULL; k = k->next) {
        const char *found = words;
        while ((found = strstr(found, (const char *)k->key.at)) != NULL &&
               ((found > words && found[-1] != ' ') || (found[k->key.n] != ' ' && found[k->key.n] != 0)))
            found++;
        if (found == NULL || k->key.n == 0)
            return complain(c, k, "unknown key", k->key);
    }
    return APR_OK;
}

static enum apr_code scalar(const struct contract *c, const struct apr_yaml *at, struct apr_bytes *out)
{
    if (at->kind != APR_YAML_SCALAR)
        return complain(c, at, "a plain value should stand here, in", at->key);
    *out = at->text;
    return APR_OK;
}

static enum apr_code expression(const struct contract *c, const struct apr_yaml *at, struct apr_expr **out)
{
    struct apr_error why;
    struct apr_bytes text;
    APR_TRY(scalar(c, at, &text));
    if (apr_expr_new(out, text, &why) == APR_OK)
        return APR_OK;
    if (why.code == APR_ENOMEM)
        return apr_no_memory(c->e);
    return apr_fail(c->e, APR_ECORRUPT, APR_NOWHERE, "line %u: family %.*s: %s: %s", at->line, (int)c->f->name.n, (const char *)c->f->name.at,
                    APR_QUOTED(text), why.text);
}

/* A scalar, or a list of them, of at most `most`. */
static enum apr_code scalars(const struct contract *c, const struct apr_yaml *at, struct apr_bytes *out, unsigned most, unsigned *n)
{
    *n = 0;
    if (at->kind == APR_YAML_SCALAR) {
        *n = 1;
        return scalar(c, at, out);
    }
    if (at->kind != APR_YAML_LIST || at->n > most)
        return complain(c, at, "too long or no list:", at->key);
    for (const struct apr_yaml *k = at->child; k != NULL; k = k->next)
        APR_TRY(scalar(c, k, &out[(*n)++]));
    return APR_OK;
}

static enum apr_code expressions(const struct contract *c, const struct apr_yaml *at, struct apr_expr **out, unsigned most, unsigned *n)
{
    if (at->kind != APR_YAML_LIST || at->n > most)
        return complain(c, at, "too long or no list:", at->key);
    for (const struct apr_yaml *k = at->child; k != NULL; k = k->next, ++*n)
        APR_TRY(expression(c, k, &out[*n]));
    return APR_OK;
}

/* ---- dims ----------------------------------------------------------------------------------------------------------- */

static enum apr_code read_dims(const struct contract *c, const struct apr_yaml *dims)
{
    if (dims == NULL || dims->kind != APR_YAML_MAP)
        return complain(c, apr_yaml_root(c->f->document), "a map is missing:", apr_text("dims"));
    c->f->dim = calloc(dims->n + 1, sizeof *c->f->dim);
    if (c->f->dim == NULL)
        return apr_no_memory(c->e);
    for (const struct apr_yaml *k = dims->child; k != NULL; k = k->next) {
        struct apr_dim *d = &c->f->dim[c->f->ndim++];
        d->name = k->key;
        d->line = k->line;
        if (k->kind == APR_YAML_SCALAR) {
            APR_TRY(expression(c, k, &d->value));
            continue;
        }
        APR_TRY(known_keys(c, k, "keys default type"));
        const struct apr_yaml *keys = apr_yaml_get(k, "keys"), *value = apr_yaml_get(k, "default"), *type = apr_yaml_get(k, "type");
        if (keys != NULL)
            APR_TRY(scalars(c, keys, d->key, APR_LENGTH(d->key), &d->nkey));
        if (value != NULL)
            APR_TRY(expression(c, value, &d->value));
        if (type != NULL && !apr_bytes_equal(type->text, apr_text("int")) && !apr_bytes_equal(type->text, apr_text("float")) &&
            !apr_bytes_equal(type->text, apr_text("str")))
            return complain(c, type, "unknown type", type->text);
        d->text = type != NULL && apr_bytes_equal(type->text, apr_text("str"));
    }
    return APR_OK;
}

static struct apr_dim *find_dim(const struct apr_family *f, struct apr_bytes name)
{
    for (size_t i = 0; i < f->ndim; i++)
        if (apr_bytes_equal(f->dim[i].name, name))
            return &f->dim[i];
    return NULL;
}

/* ---- tensors -------------------------------------------------------------------------------------------------------- */

/* The parameters of each op, by their keys, in the order of apr_transform.n; a list fills all of it. */
static const struct {
    const char *key[3];
    bool        list;
} op_parameters[APR_NOPS] = {
    [APR_OP_ROPE_PERMUTE] = { { "heads" }, false },
    [APR_OP_QKV_NEOX] = { { "heads" }, false },
    [APR_OP_QKV_FALCON] = { { "heads", "kv_heads" }, false },
    [APR_OP_STACK] = { { "count" }, false },
    [APR_OP_SPLIT_ROWS] = { { "parts" }, true },
    [APR_OP_SPLIT_COLS] = { { "parts" }, true },
    [APR_OP_MLA_SPLIT] = { { "heads", "nope", "v" }, false },
    [APR_OP_ROWS] = { { "from", "count" }, false },
    [APR_OP_SQUEEZE] = { { "dim" }, false },
    [APR_OP_UNSQUEEZE] = { { "dim" }, false },
    [APR_OP_RESHAPE] = { { "shape" }, true },
};

static enum apr_code read_transform(const struct contract *c, const struct apr_yaml *at, struct apr_role_transform *t)
{
    APR_TRY(known_keys(c, at, "op heads kv_heads count parts nope v from dim shape value"));
    const struct apr_yaml *op = apr_yaml_get(at, "op"), *value = apr_yaml_get(at, "value");
    if (op == NULL || (t->op = apr_op_named(op->text)) == APR_NOPS)
        return complain(c, at, "unknown op", op == NULL ? apr_text("") : op->text);
    if (t->op == APR_OP_ADD) {
        if (value == NULL || value->kind != APR_YAML_SCALAR)
            return complain(c, at, "op add needs", apr_text("value"));
        t->value = strtod((const char *)value->text.at, NULL);
    }
    for (unsigned i = 0; i < 3 && op_parameters[t->op].key[i] != NULL; i++) {
        const struct apr_yaml *p = apr_yaml_get(at, op_parameters[t->op].key[i]);
        if (p == NULL)
            return complain(c, at, "the op lacks", apr_text(op_parameters[t->op].key[i]));
        if (op_parameters[t->op].list)
            APR_TRY(expressions(c, p, t->n, APR_MAX_PARTS, &t->nn));
        else
            APR_TRY(expression(c, p, &t->n[t->nn++]));
    }
    return APR_OK;
}

static enum apr_code read_transforms(const struct contract *c, const struct apr_yaml *at, struct apr_role *r)
{
    if (at->kind == APR_YAML_MAP) {
        r->ntransform = 1;
        return read_transform(c, at, &r->transform[0]);
    }
    if (at->kind != APR_YAML_LIST || at->n > APR_MAX_STEPS)
        return complain(c, at, "too long or no list:", at->key);
    for (const struct apr_yaml *k = at->child; k != NULL; k = k->next)
        APR_TRY(read_transform(c, k, &r->transform[r->ntransform++]));
    return APR_OK;
}

static enum apr_code read_role(const struct contract *c, const struct apr_yaml *at, bool generated)
{
    static const char *const known_key[APR_NDIALECTS] = { "hf", "gguf", "apr" };
    struct apr_role *r = &c->f->role[c->f->nrole++];
    const struct apr_yaml *name = apr_yaml_get(at, "role"), *shape = apr_yaml_get(at, "shape"), *v;
    r->line = at->line;
    r->generated = generated;
    APR_TRY(known_keys(c, at, generated ? "role gguf shape dtype op key when" : "role hf gguf shape transform dtype optional when layers apr apr_split fallback"));
    if (name == NULL || shape == NULL)
        return complain(c, at, "a tensor needs role and shape; it has", name == NULL ? apr_text("no role") : name->text);
    APR_TRY(scalar(c, name, &r->name));
    APR_TRY(expressions(c, shape, r->dim, APR_MAX_DIMS, &r->ndim));
    for (unsigned d = 0; d < APR_NDIALECTS; d++)
        if ((v = apr_yaml_get(at, known_key[d])) != NULL)
            APR_TRY(scalars(c, v, r->known[d], APR_MAX_PARTS, &r->nknown[d]));
    if (!generated && r->nknown[APR_HF] != 1)
        return complain(c, at, "a tensor has one hf name; look at", r->name);
    if ((v = apr_yaml_get(at, "transform")) != NULL)
        APR_TRY(read_transforms(c, v, r));
    if ((v = apr_yaml_get(at, "apr_split")) != NULL)
        APR_TRY(expressions(c, v, r->split, APR_MAX_PARTS, &r->nsplit));
    if ((v = apr_yaml_get(at, "dtype")) != NULL && !(r->f32 = apr_bytes_equal(v->text, apr_text("f32"))))
        return complain(c, v, "unknown dtype", v->text);
    if ((v = apr_yaml_get(at, "optional")) != NULL)
        APR_TRY(expression(c, v, &r->optional));
    if ((v = apr_yaml_get(at, "when")) != NULL)
        APR_TRY(expression(c, v, &r->when));
    unsigned nlayers = 0;
    if ((v = apr_yaml_get(at, "layers")) != NULL)
        APR_TRY(expressions(c, v, r->layers, APR_LENGTH(r->layers), &nlayers));
    if ((v = apr_yaml_get(at, "fallback")) != NULL)
        APR_TRY(scalar(c, v, &r->fallback));
    if (nlayers == 1 || r->nsplit != (r->nknown[APR_REFERENCE] > 1 ? r->nknown[APR_REFERENCE] : r->nsplit))
        return complain(c, at, "layers takes from, to and maybe a step, apr_split one for each apr name; look at", r->name);
    return APR_OK;
}

static enum apr_code read_roles(const struct contract *c, const struct apr_yaml *tensors, const struct apr_yaml *generated)
{
    if (tensors == NULL || tensors->kind != APR_YAML_LIST)
        return complain(c, apr_yaml_root(c->f->document), "a list is missing:", apr_text("tensors"));
    if (generated != NULL && generated->kind != APR_YAML_LIST)
        return complain(c, generated, "no list:", generated->key);
    c->f->role = calloc(tensors->n + (generated == NULL ? 0 : generated->n) + 1, sizeof *c->f->role);
    if (c->f->role == NULL)
        return apr_no_memory(c->e);
    for (const struct apr_yaml *k = tensors->child; k != NULL; k = k->next)
        APR_TRY(read_role(c, k, false));
    for (const struct apr_yaml *k = generated == NULL ? NULL : generated->child; k != NULL; k = k->next)
        APR_TRY(read_role(c, k, true));
    return APR_OK;
}

static enum apr_code read_names(const struct contract *c)
{
    const struct apr_yaml *names = c->f->names, *renames = apr_yaml_get(names, "rename"), *add = apr_yaml_get(names, "add_prefix");
    if (names == NULL)
        return APR_OK;
    APR_TRY(known_keys(c, names, "remove strip_prefix add_prefix rename"));
    if (add != NULL)
        APR_TRY(known_keys(c, add, "prefix unless"));
    for (const struct apr_yaml *k = renames == NULL ? NULL : renames->child; k != NULL; k = k->next) {
        const struct apr_yaml *from = apr_yaml_get(k, "from"), *to = apr_yaml_get(k, "to");
        if (c->f->nrename == APR_LENGTH(c->f->rename) || from == NULL || to == NULL)
            return complain(c, k, "too many renames, or one without from and to, in", renames->key);
        c->f->rename[c->f->nrename++] = (struct apr_rename){ from->text, to->text };
    }
    return APR_OK;
}

/* ---- checks over the whole ------------------------------------------------------------------------------------------ */

struct names_check {
    const struct apr_family *f;
    size_t                   ndim;
    struct apr_bytes         stranger;
};

static bool is_dim(void *ctx, struct apr_bytes name)
{
    struct names_check *check = ctx;
    const struct apr_dim *d = find_dim(check->f, name);
    if (d != NULL && d < check->f->dim + check->ndim)
        return true;
    check->stranger = name;
    return false;
}

/* Every name in x is one of the first ndim dims. */
static enum apr_code names_are_dims(const struct contract *c, size_t ndim, const struct apr_expr *x, unsigned line, const char *what)
{
    struct names_check check = { c->f, ndim, { 0 } };
    if (x != NULL)
        apr_expr_names(x, is_dim, &check);
    if (check.stranger.at == NULL)
        return APR_OK;
    const struct apr_yaml at = { .line = line };
    return complain(c, &at, what, check.stranger);
}

static enum apr_code role_names_are_dims(const struct contract *c, const struct apr_role *r)
{
    static const char what[] = "is no dim:";
    const size_t n = c->f->ndim;
    for (unsigned i = 0; i < r->ndim; i++)
        APR_TRY(names_are_dims(c, n, r->dim[i], r->line, what));
    for (unsigned i = 0; i < r->ntransform; i++)
        for (unsigned k = 0; k < r->transform[i].nn; k++)
            APR_TRY(names_are_dims(c, n, r->transform[i].n[k], r->line, what));
    for (unsigned i = 0; i < r->nsplit; i++)
        APR_TRY(names_are_dims(c, n, r->split[i], r->line, what));
    for (unsigned i = 0; i < APR_LENGTH(r->layers); i++)
        APR_TRY(names_are_dims(c, n, r->layers[i], r->line, what));
    APR_TRY(names_are_dims(c, n, r->optional, r->line, what));
    return names_are_dims(c, n, r->when, r->line, what);
}

const struct apr_role *apr_family_role(const struct apr_family *f, struct apr_bytes name)
{
    for (size_t i = 0; i < f->nrole; i++)
        if (apr_bytes_equal(f->role[i].name, name))
            return &f->role[i];
    return NULL;
}

static bool share_a_name(const struct apr_role *a, const struct apr_role *b, struct apr_bytes *name)
{
    for (unsigned d = 0; d < APR_REFERENCE; d++)
        for (unsigned x = 0; x < a->nknown[d]; x++)
            for (unsigned y = 0; y < b->nknown[d]; y++)
                if (apr_bytes_equal(a->known[d][x], b->known[d][y])) {
                    *name = a->known[d][x];
                    return true;
                }
    return false;
}

static enum apr_code check_whole(const struct contract *c)
{
    struct apr_family *f = c->f;
    for (size_t i = 0; i < f->ndim; i++) /* a dim needs only those above it, so there are no circles */
        APR_TRY(names_are_dims(c, i, f->dim[i].value, f->dim[i].line, "is no dim above this one:"));
    for (size_t i = 0; i < f->nrole; i++) {
        const struct apr_role *r = &f->role[i];
        const struct apr_yaml at = { .line = r->line };
        APR_TRY(role_names_are_dims(c, r));
        if (r->fallback.n > 0 && apr_family_role(f, r->fallback) == NULL)
            return complain(c, &at, "its fallback is no role:", r->fallback);
        for (size_t k = 0; k < i; k++) {
            struct apr_bytes shared = { 0 };
            if (apr_bytes_equal(r->name, f->role[k].name))
                return complain(c, &at, "two tensors of one role,", r->name);
            if ((r->when == NULL || f->role[k].when == NULL) && share_a_name(r, &f->role[k], &shared))
                return complain(c, &at, "two roles of one name, and not both have a `when`:", shared);
        }
    }
    return APR_OK;
}

static enum apr_code read_contract(const struct contract *c)
{
    const struct apr_yaml *root = apr_yaml_root(c->f->document), *name = apr_yaml_get(root, "family"), *schema = apr_yaml_get(root, "schema");
    if (name != NULL)
        c->f->name = name->text;
    APR_TRY(known_keys(c, root, "schema family title detect names skip dims tensors generated kv hf_config apr tokenizer checks"));
    if (schema == NULL || !apr_bytes_equal(schema->text, apr_text("apr-family/1")))
        return complain(c, root, "its schema should be apr-family/1, not", schema == NULL ? apr_text("") : schema->text);
    if (c->f->name.n == 0)
        return complain(c, root, "it has no name:", apr_text("family"));
    c->f->detect = apr_yaml_get(root, "detect");
    c->f->names = apr_yaml_get(root, "names");
    c->f->skip = apr_yaml_get(root, "skip");
    c->f->kv = apr_yaml_get(root, "kv");
    c->f->checks = apr_yaml_get(root, "checks");
    APR_TRY(read_names(c));
    APR_TRY(read_dims(c, apr_yaml_get(root, "dims")));
    APR_TRY(read_roles(c, apr_yaml_get(root, "tensors"), apr_yaml_get(root, "generated")));
    return check_whole(c);
}

enum apr_code apr_family_parse(struct apr_family **out, const char *file, struct apr_bytes text, struct apr_error *e)
{
    struct apr_family *f = *out = calloc(1, sizeof *f);
    const struct contract c = { f, e };
    if (f == NULL)
        return apr_no_memory(e);
    f->file = file;
    f->name = apr_text("?");
    enum apr_code code = apr_yaml_parse(&f->document, text, e);
    if (code == APR_OK)
        code = read_contract(&c);
    if (code != APR_OK) {
        apr_error_in(e, file);
        apr_family_free(f);
        *out = NULL;
    }
    return code;
}

void apr_family_free(struct apr_family *f)
{
    if (f == NULL)
        return;
    for (size_t i = 0; i < f->ndim; i++)
        apr_expr_free(f->dim[i].value);
    for (size_t i = 0; i < f->nrole; i++) {
        struct apr_role *r = &f->role[i];
        for (unsigned k = 0; k < APR_MAX_DIMS; k++)
            apr_expr_free(r->dim[k]);
        for (unsigned k = 0; k < APR_MAX_STEPS; k++)
            for (unsigned p = 0; p < APR_MAX_PARTS; p++)
                apr_expr_free(r->transform[k].n[p]);
        for (unsigned k = 0; k < APR_MAX_PARTS; k++)
            apr_expr_free(r->split[k]);
        for (unsigned k = 0; k < APR_LENGTH(r->layers); k++)
            apr_expr_free(r->layers[k]);
        apr_expr_free(r->optional);
        apr_expr_free(r->when);
    }
    free(f->dim);
    free(f->role);
    apr_yaml_free(f->document);
    free(f);
}

size_t apr_role_spell(struct apr_bytes pattern, uint64_t layer, uint64_t expert, char *out, size_t room)
{
    size_t n = 0;
    for (size_t i = 0; i < pattern.n;) {
        char digits[24];
        const char *piece = (const char *)pattern.at + i;
        size_t length = 1, taken = 1;
        if (pattern.n - i >= 3 && piece[0] == '{' && piece[2] == '}' && (piece[1] == 'L' || piece[1] == 'X')) {
            length = (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)(piece[1] == 'L' ? layer : expert));
            piece = digits;
            taken = 3;
        }
        if (n + length >= room)
            return 0;
        memcpy(out + n, piece, length);
        n += length;
        i += taken;
    }
    out[n] = 0;
    return n;
}

/* ---- test vectors --------------------------------------------------------------------------------------------------- */

size_t apr_family_nchecks(const struct apr_family *f) { return f->checks == NULL ? 0 : f->checks->n; }

/* Dims as a test vector gives them, the rest by default and formula: each once, as it needs only those above it. */
struct vector {
    const struct apr_family *f;
    struct apr_result       *value;
};

static struct apr_result vector_value(void *ctx, struct apr_bytes name)
{
    const struct vector *v = ctx;
    const struct apr_dim *d = find_dim(v->f, name);
    return d == NULL ? (struct apr_result){ 0 } : v->value[d - v->f->dim];
}

static bool vector_has(void *ctx, struct apr_bytes path)
{
    (void)ctx, (void)path;
    return false;
}

static void fill_vector(const struct vector *v, const struct apr_yaml *dims)
{
    const struct apr_scope scope = { vector_value, vector_has, (void *)(uintptr_t)v };
    for (size_t i = 0; i < v->f->ndim; i++) {
        const struct apr_yaml *given = dims->child;
        while (given != NULL && !apr_bytes_equal(given->key, v->f->dim[i].name))
            given = given->next;
        if (given == NULL && v->f->dim[i].value != NULL)
            v->value[i] = apr_expr_value(v->f->dim[i].value, &scope);
        else if (given != NULL && v->f->dim[i].text)
            v->value[i] = (struct apr_result){ true, 0, given->text };
        else if (given != NULL)
            v->value[i] = (struct apr_result){ true, strtod((const char *)given->text.at, NULL), { 0 } };
    }
}

static bool contains(struct apr_bytes text, const char *word) { return memmem(text.at, text.n, word, strlen(word)) != NULL; }

static uint64_t layers_of(const struct apr_role *r, const struct apr_scope *scope)
{
    const struct apr_result n = scope->value(scope->ctx, apr_text("N"));
    uint64_t from = 0, to = n.known ? (uint64_t)n.number : 0, step = 1;
    if (!contains(r->known[APR_HF][0], "{L}"))
        return 1;
    if (r->layers[0] != NULL && (!apr_expr_size(r->layers[0], scope, &from) || !apr_expr_size(r->layers[1], scope, &to)))
        return 0;
    if (r->layers[2] != NULL && (!apr_expr_size(r->layers[2], scope, &step) || step == 0))
        return 0;
    return to > from ? (to - from + step - 1) / step : 0;
}

/* Adds the elements of one role; false when a size cannot be worked out. */
static bool add_elements(const struct apr_role *r, const struct apr_scope *scope, uint64_t *total)
{
    uint64_t n = 1, size;
    for (unsigned d = 0; d < r->ndim; d++, n *= size)
        if (!apr_expr_size(r->dim[d], scope, &size))
            return false;
    for (unsigned t = 0; t < r->ntransform; t++)
        if (r->transform[t].op == APR_OP_STACK) {
            if (!apr_expr_size(r->transform[t].n[0], scope, &size))
                return false;
            n *= size;
        }
    *total += n * layers_of(r, scope);
    return true;
}

bool apr_family_check(const struct apr_family *f, size_t i, struct apr_bytes *model, uint64_t *expected, uint64_t *actual)
{
    const struct apr_yaml *check = f->checks->child;
    for (; i > 0; i--)
        check = check->next;
    const struct apr_yaml *name = apr_yaml_get(check, "model"), *dims = apr_yaml_get(check, "dims"), *elements = apr_yaml_get(check, "elements");
    struct vector v = { f, calloc(f->ndim + 1, sizeof *v.value) };
    bool fine = name != NULL && dims != NULL && elements != NULL && v.value != NULL;
    if (fine) {
        const struct apr_scope scope = { vector_value, vector_has, &v };
        *model = name->text;
        *expected = strtoull((const char *)elements->text.at, NULL, 10);
        *actual = 0;
        fill_vector(&v, dims);
        for (size_t k = 0; fine && k < f->nrole; k++) {
            const struct apr_role *r = &f->role[k];
            const bool there = !r->generated && (r->when == NULL || apr_expr_true(r->when, &scope, false));
            if (there && (r->optional == NULL || !apr_expr_true(r->optional, &scope, false)))
                fine = add_elements(r, &scope, actual);
        }
    }
    free(v.value);
    return fine;
}

/* ---- all of them ---------------------------------------------------------------------------------------------------- */

/* Made from families/ at build time; a row without a name ends it. */
struct embedded {
    const char *file, *text;
};
extern const struct embedded apr_embedded_families[];

struct apr_families {
    struct apr_family **family;   /* the user's, then the embedded, NULL until wanted */
    size_t              nown, n;
    struct apr_source **source;   /* of the user's */
};

enum apr_code apr_families_new(struct apr_families **all, struct apr_error *e)
{
    size_t n = 0;
    while (apr_embedded_families[n].file != NULL)
        n++;
    *all = calloc(1, sizeof **all);
    if (*all != NULL)
        (*all)->family = calloc(n + 1, sizeof *(*all)->family);
    if (*all == NULL || (*all)->family == NULL) {
        free(*all);
        *all = NULL;
        return apr_no_memory(e);
    }
    (*all)->n = n;
    return APR_OK;
}

void apr_families_free(struct apr_families *all)
{
    if (all == NULL)
        return;
    for (size_t i = 0; i < all->n; i++)
        apr_family_free(all->family[i]);
    for (size_t i = 0; i < all->nown; i++)
        apr_source_close(all->source[i]);
    free(all->family);
    free(all->source);
    free(all);
}

enum apr_code apr_families_add(struct apr_families *all, const char *path, const struct apr_run *r, struct apr_error *e)
{
    struct apr_source *s;
    struct apr_family *f;
    APR_TRY(apr_source_open(&s, path, r, e));
    struct apr_family **family = realloc(all->family, (all->n + 2) * sizeof *family);
    if (family != NULL)
        all->family = family;
    struct apr_source **source = family == NULL ? NULL : realloc(all->source, (all->nown + 1) * sizeof *source);
    if (source != NULL)
        all->source = source;
    const enum apr_code code = source == NULL ? apr_no_memory(e) : apr_family_parse(&f, s->path, s->map, e);
    if (code != APR_OK) {
        apr_source_close(s);
        return code;
    }
    memmove(all->family + all->nown + 1, all->family + all->nown, (all->n - all->nown) * sizeof *all->family);
    all->family[all->nown] = f;
    all->source[all->nown++] = s;
    all->n++;
    return APR_OK;
}

enum apr_code apr_families_get(struct apr_families *all, size_t i, const struct apr_family **f, struct apr_error *e)
{
    *f = NULL;
    if (i >= all->n)
        return APR_OK;
    const struct embedded *text = i < all->nown ? NULL : &apr_embedded_families[i - all->nown];
    if (all->family[i] == NULL)
        APR_TRY(apr_family_parse(&all->family[i], text->file, apr_text(text->text), e));
    *f = all->family[i];
    return APR_OK;
}

enum apr_code apr_families_find(struct apr_families *all, const char *key, struct apr_bytes word, const struct apr_family **f, struct apr_error *e)
{
    for (size_t i = 0; i < all->n; i++) {
        /* most contracts need no parsing to see that they do not hold the word */
        if (i >= all->nown && memmem(apr_embedded_families[i - all->nown].text, strlen(apr_embedded_families[i - all->nown].text), word.at, word.n) == NULL)
            continue;
        APR_TRY(apr_families_get(all, i, f, e));
        const struct apr_yaml *list = apr_yaml_get((*f)->detect, key);
        for (const struct apr_yaml *k = list == NULL ? NULL : list->child; k != NULL; k = k->next)
            if (apr_bytes_equal(k->text, word))
                return APR_OK;
    }
    *f = NULL;
    return APR_OK;
}
