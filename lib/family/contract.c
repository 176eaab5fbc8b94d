#include "family/contract.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/bytes.h"

#define MOST_NAME 64 /* bytes of a family's */

/* ---- complaints --------------------------------------------------------------------------------------------------- */

unsigned apr_contract_line(const struct apr_contract *c, const struct apr_yaml *at)
{
    return c->included != 0 ? c->included : at->line;
}

enum apr_code apr_contract_fault(const struct apr_contract *c, const struct apr_yaml *at, const char *what, struct apr_bytes word)
{
    return apr_fail(c->e, APR_ECORRUPT, APR_NOWHERE, "line %u: family %.*s: %s %s", apr_contract_line(c, at),
                    APR_PRINTED(c->f->name), what, APR_QUOTED(word));
}

/* Is it one of the words, which blanks part, and which? */
static bool is_one_of(const char *words, struct apr_bytes word, unsigned *which)
{
    *which = 0;
    for (const char *end; *words != 0; words = *end == 0 ? end : end + 1, ++*which) {
        end = strchrnul(words, ' ');
        if (apr_bytes_equal(word, (struct apr_bytes){ (const unsigned char *)words, (size_t)(end - words) }))
            return true;
    }
    return false;
}

enum apr_code apr_contract_keys(const struct apr_contract *c, const struct apr_yaml *map, const char *words)
{
    unsigned which;
    if (map->kind != APR_YAML_MAP)
        return apr_contract_fault(c, map, "a map should stand here, not", map->text);
    for (const struct apr_yaml *k = map->child; k != NULL; k = k->next)
        if (!is_one_of(words, k->key, &which))
            return apr_contract_fault(c, k, "unknown key", k->key);
    return APR_OK;
}

enum apr_code apr_contract_list(const struct apr_contract *c, const struct apr_yaml *at, size_t most)
{
    return at->kind == APR_YAML_LIST && at->n <= most ? APR_OK : apr_contract_fault(c, at, "no list, or too long a one:", at->key);
}

/* ---- what stands there -------------------------------------------------------------------------------------------- */

enum apr_code apr_contract_word(const struct apr_contract *c, const struct apr_yaml *at, struct apr_bytes *out)
{
    if (at == NULL)
        return APR_OK;
    if (at->kind != APR_YAML_SCALAR || at->text.n == 0)
        return apr_contract_fault(c, at, "a word should stand here, in", at->key);
    *out = apr_arena_copy(&c->f->arena, at->text);
    return out->at == NULL ? apr_no_memory(c->e) : APR_OK;
}

enum apr_code apr_contract_choice(const struct apr_contract *c, const struct apr_yaml *at, const char *what, const char *words,
                                  unsigned *out)
{
    if (at == NULL || (at->kind == APR_YAML_SCALAR && is_one_of(words, at->text, out)))
        return APR_OK;
    return apr_contract_fault(c, at, what, at->text);
}

enum apr_code apr_contract_number(const struct apr_contract *c, const struct apr_yaml *at, double *out)
{
    char *end = NULL;
    if (at == NULL)
        return APR_OK;
    *out = strtod((const char *)at->text.at, &end);
    return at->text.n > 0 && *end == 0 ? APR_OK : apr_contract_fault(c, at, "no number:", at->text);
}

static enum apr_code read_word(const struct apr_contract *c, const struct apr_yaml *at, void *out) { return apr_contract_word(c, at, out); }

enum apr_code apr_contract_all(const struct apr_contract *c, const struct apr_yaml *at, enum apr_yaml_kind kind, size_t size,
                               apr_contract_read_fn *read, void *array, size_t *n)
{
    if (at == NULL)
        return APR_OK;
    if (kind == APR_YAML_LIST)
        APR_TRY(apr_contract_list(c, at, SIZE_MAX));
    else if (at->kind != kind)
        return apr_contract_fault(c, at, "a map should stand here, in", at->key);
    char *element = apr_arena_alloc(&c->f->arena, at->n * size);
    if (element == NULL)
        return apr_no_memory(c->e);
    memcpy(array, &element, sizeof element);
    for (const struct apr_yaml *k = at->child; k != NULL; k = k->next)
        APR_TRY(read(c, k, element + size * (*n)++));
    return APR_OK;
}

enum apr_code apr_contract_words(const struct apr_contract *c, const struct apr_yaml *list, struct apr_words *out)
{
    return apr_contract_all(c, list, APR_YAML_LIST, sizeof *out->word, read_word, &out->word, &out->n);
}

enum apr_code apr_contract_several(const struct apr_contract *c, const struct apr_yaml *at, size_t most, struct apr_words *out)
{
    if (at == NULL || at->kind != APR_YAML_SCALAR) {
        if (at != NULL)
            APR_TRY(apr_contract_list(c, at, most));
        return apr_contract_words(c, at, out);
    }
    struct apr_bytes *word = apr_arena_alloc(&c->f->arena, sizeof *word);
    if (word == NULL)
        return apr_no_memory(c->e);
    *out = (struct apr_words){ word, 1 };
    return apr_contract_word(c, at, word);
}

enum apr_code apr_contract_dim(const struct apr_contract *c, const struct apr_yaml *at, struct apr_bytes name, const struct apr_dim **out)
{
    *out = apr_family_dim(c->f, name);
    return *out == NULL ? apr_contract_fault(c, at, "no dim is called", name) : APR_OK;
}

/* ---- expressions -------------------------------------------------------------------------------------------------- */

/* What a name in an expression may be beside a dim: `layer`; that, or what stands under `layers`; those, or a term above. */
enum more_names { ONLY_DIMS, AND_LAYER, AND_LAYERS, AND_TERMS };

/* The first name that is nothing. */
struct names_check {
    const struct apr_family *f;
    enum more_names          more;
    struct apr_bytes         unknown;
};

static bool is_dim(void *ctx, struct apr_bytes name)
{
    struct names_check *check = ctx;
    bool yes = apr_family_dim(check->f, name) != NULL || (check->more != ONLY_DIMS && apr_bytes_is(name, "layer"));
    for (unsigned i = 0; i < APR_NTERMS && check->more == AND_TERMS && !yes; i++)
        yes = check->f->term[i] != NULL && apr_bytes_is(name, apr_term_words[i]);
    if (!yes)
        check->unknown = name;
    return yes;
}

/* "tensors.ROLE" names a role. */
static bool is_path(void *ctx, struct apr_bytes path)
{
    struct names_check *check = ctx;
    struct apr_bytes role;
    const bool yes = !apr_path_role(path, &role) || apr_family_role(check->f, role) != NULL;
    if (!yes)
        check->unknown = role;
    return yes;
}

static enum apr_code own(const struct apr_contract *c, struct apr_expr *x, unsigned line)
{
    struct apr_family *f = c->f;
    struct apr_owned_expr *more = apr_grown(f->owned, &f->owned_room, f->nowned, 64, sizeof *more);
    if (more == NULL) {
        apr_expr_free(x);
        return apr_no_memory(c->e);
    }
    f->owned = more;
    f->owned[f->nowned++] = (struct apr_owned_expr){ x, line };
    return APR_OK;
}

static enum apr_code read_expression(const struct apr_contract *c, const struct apr_yaml *at, enum more_names more,
                                     struct apr_expr **out)
{
    struct apr_error why;
    struct apr_bytes text;
    struct names_check check = { .f = c->f, .more = more };
    if (at == NULL)
        return APR_OK;
    APR_TRY(apr_contract_word(c, at, &text));
    if (more >= AND_LAYERS)
        APR_TRY(apr_contract_spell_layers(c, at, &text));
    const enum apr_code code = apr_expr_new(out, text, &why);
    if (code == APR_ENOMEM)
        return apr_no_memory(c->e);
    if (code != APR_OK)
        return apr_fail(c->e, APR_ECORRUPT, APR_NOWHERE, "line %u: family %.*s: %s", apr_contract_line(c, at),
                        APR_PRINTED(c->f->name), why.text);
    APR_TRY(own(c, *out, apr_contract_line(c, at)));
    apr_expr_names(*out, is_dim, &check);
    return check.unknown.at == NULL ? APR_OK : apr_contract_fault(c, at, "no dim above this line is called", check.unknown);
}

enum apr_code apr_contract_expression(const struct apr_contract *c, const struct apr_yaml *at, struct apr_expr **out)
{
    return read_expression(c, at, ONLY_DIMS, out);
}

static bool is_one(void *ctx, struct apr_bytes word)
{
    (void)word;
    *(bool *)ctx = true;
    return false;
}

static struct apr_result no_value(void *ctx, struct apr_bytes name)
{
    (void)ctx, (void)name;
    return (struct apr_result){ 0 };
}

/* Does it name nothing, so that what it comes to is known before any model is? */
static bool is_literal(const struct apr_expr *x, struct apr_result *value)
{
    bool names = x == NULL;
    if (!names) {
        apr_expr_names(x, is_one, &names);
        apr_expr_paths(x, is_one, &names);
        apr_expr_values(x, is_one, &names);
    }
    if (!names)
        *value = apr_expr_value(x, &(struct apr_scope){ .value = no_value });
    return !names;
}

enum apr_code apr_contract_size(const struct apr_contract *c, const struct apr_yaml *at, uint64_t least, struct apr_expr **out)
{
    struct apr_result r;
    uint64_t n;
    APR_TRY(apr_contract_expression(c, at, out));
    if (!is_literal(*out, &r) || (apr_expr_size(*out, &(struct apr_scope){ .value = no_value }, &n) && n >= least))
        return APR_OK;
    return apr_contract_fault(c, at, least > 0 ? "no size above 0:" : "no size:", at->text);
}

enum apr_code apr_contract_factor(const struct apr_contract *c, const struct apr_yaml *at, bool scales, struct apr_expr **out)
{
    struct apr_result r;
    APR_TRY(apr_contract_expression(c, at, out));
    if (!is_literal(*out, &r) || (r.known && r.text.at == NULL && isfinite((float)r.number) && ((float)r.number != 0 || !scales)))
        return APR_OK;
    return apr_contract_fault(c, at, scales ? "no number in F32, or 0, by which nothing is multiplied:" : "no number in F32:", at->text);
}

enum apr_code apr_contract_layered(const struct apr_contract *c, const struct apr_yaml *at, struct apr_expr **out)
{
    return read_expression(c, at, AND_LAYERS, out);
}

enum apr_code apr_contract_layer(const struct apr_contract *c, const struct apr_yaml *at, struct apr_expr **out)
{
    return read_expression(c, at, AND_LAYER, out);
}

enum apr_code apr_contract_term(const struct apr_contract *c, const struct apr_yaml *at, struct apr_expr **out)
{
    return read_expression(c, at, AND_TERMS, out);
}

/* Every tensors.ROLE names a role. */
static enum apr_code check_paths(const struct apr_contract *c)
{
    for (size_t i = 0; i < c->f->nowned; i++) {
        struct names_check check = { .f = c->f };
        const struct apr_yaml at = { .line = c->f->owned[i].line };
        apr_expr_paths(c->f->owned[i].expr, is_path, &check);
        apr_expr_values(c->f->owned[i].expr, is_path, &check);
        if (check.unknown.at != NULL)
            return apr_contract_fault(c, &at, "no role is called", check.unknown);
    }
    return APR_OK;
}

/* ---- names -------------------------------------------------------------------------------------------------------- */

static enum apr_code read_detect(const struct apr_contract *c, const struct apr_yaml *detect)
{
    static const char *const key[] = { "architectures", "model_types", "gguf", "tensors", "without" }; /* as enum apr_detect */
    if (detect == NULL)
        return APR_OK;
    APR_TRY(apr_contract_keys(c, detect, "architectures model_types gguf tensors without"));
    for (unsigned i = 0; i < APR_NDETECT; i++)
        APR_TRY(apr_contract_words(c, apr_yaml_get(detect, key[i]), &c->f->detect[i]));
    return APR_OK;
}

static enum apr_code read_rename(const struct apr_contract *c, const struct apr_yaml *at, void *out)
{
    const struct apr_yaml *from = apr_yaml_get(at, "from"), *to = apr_yaml_get(at, "to");
    struct apr_rename *r = out;
    APR_TRY(apr_contract_keys(c, at, "from to"));
    if (from == NULL || to == NULL)
        return apr_contract_fault(c, at, "it lacks", apr_text(from == NULL ? "from" : "to"));
    APR_TRY(apr_contract_word(c, from, &r->from));
    return apr_contract_word(c, to, &r->to);
}

/* {prefix, unless: [...]} */
static enum apr_code read_prefix(const struct apr_contract *c, const struct apr_yaml *at, struct apr_bytes *prefix,
                                 struct apr_words *unless)
{
    if (at == NULL)
        return APR_OK;
    APR_TRY(apr_contract_keys(c, at, "prefix unless"));
    if (apr_yaml_get(at, "prefix") == NULL)
        return apr_contract_fault(c, at, "it lacks", apr_text("prefix"));
    APR_TRY(apr_contract_word(c, apr_yaml_get(at, "prefix"), prefix));
    return apr_contract_words(c, apr_yaml_get(at, "unless"), unless);
}

static enum apr_code read_names(const struct apr_contract *c, const struct apr_yaml *names)
{
    struct apr_cleaning *to = &c->f->cleaning;
    if (names == NULL)
        return APR_OK;
    APR_TRY(apr_contract_keys(c, names, "remove strip_prefix add_prefix write_prefix rename further"));
    APR_TRY(apr_contract_words(c, apr_yaml_get(names, "remove"), &to->remove));
    APR_TRY(apr_contract_words(c, apr_yaml_get(names, "strip_prefix"), &to->strip_prefix));
    APR_TRY(read_prefix(c, apr_yaml_get(names, "add_prefix"), &to->prefix, &to->unless));
    APR_TRY(read_prefix(c, apr_yaml_get(names, "write_prefix"), &to->write_prefix, &to->write_unless));
    return apr_contract_all(c, apr_yaml_get(names, "rename"), APR_YAML_LIST, sizeof *to->rename, read_rename, &to->rename, &to->nrename);
}

/* Layers that are counted anew; after the dims, one of which says where they begin. */
static enum apr_code read_further(const struct apr_contract *c, const struct apr_yaml *at)
{
    const struct apr_yaml *from = apr_yaml_get(at, "from"), *to = apr_yaml_get(at, "to"), *by = apr_yaml_get(at, "by");
    struct apr_cleaning *how = &c->f->cleaning;
    if (at == NULL)
        return APR_OK;
    APR_TRY(apr_contract_keys(c, at, "from to by"));
    if (from == NULL || to == NULL || by == NULL || from->text.n == 0 || from->text.n > MOST_NAME || to->text.n > MOST_NAME)
        return apr_contract_fault(c, at, "from, to and by are two beginnings of names and a dim:", apr_text("further"));
    APR_TRY(apr_contract_word(c, from, &how->further_from));
    APR_TRY(apr_contract_word(c, to, &how->further_to));
    return apr_contract_dim(c, by, by->text, &how->further_by);
}

/* Cuts a glob behind every {DIM}. */
static enum apr_code read_skip(const struct apr_contract *c, const struct apr_yaml *at, void *out)
{
    struct apr_skip *s = out;
    struct apr_bytes left;
    size_t braces = 0;
    APR_TRY(apr_contract_word(c, at, &left));
    for (size_t i = 0; i < left.n; i++)
        braces += left.at[i] == '{';
    s->span = apr_arena_alloc(&c->f->arena, (braces + 1) * sizeof *s->span);
    if (s->span == NULL)
        return apr_no_memory(c->e);
    while (left.n > 0) {
        struct apr_skip_span *p = &s->span[s->n++];
        p->text = (struct apr_bytes){ left.at, strcspn((const char *)left.at, "{") };
        left = (struct apr_bytes){ left.at + p->text.n, left.n - p->text.n };
        if (left.n == 0)
            break;
        const struct apr_bytes name = { left.at + 1, strcspn((const char *)left.at + 1, "}") };
        APR_TRY(apr_contract_dim(c, at, name, &p->dim));
        const size_t taken = apr_min(name.n + 2, left.n);
        left = (struct apr_bytes){ left.at + taken, left.n - taken };
    }
    return APR_OK;
}

/* ---- test vectors ------------------------------------------------------------------------------------------------- */

static enum apr_code read_given(const struct apr_contract *c, const struct apr_yaml *at, void *out)
{
    struct apr_given *g = out;
    APR_TRY(apr_contract_dim(c, at, at->key, &g->dim));
    g->value.known = true;
    return g->dim->text ? apr_contract_word(c, at, &g->value.text) : apr_contract_number(c, at, &g->value.number);
}

static enum apr_code read_vector(const struct apr_contract *c, const struct apr_yaml *at, void *out)
{
    const struct apr_yaml *name = apr_yaml_get(at, "model"), *dims = apr_yaml_get(at, "dims"), *elements = apr_yaml_get(at, "elements");
    struct apr_vector *v = out;
    double number;
    APR_TRY(apr_contract_keys(c, at, "model dims config elements"));
    APR_TRY(apr_contract_word(c, apr_yaml_get(at, "config"), &v->config));
    if (name == NULL || dims == NULL || elements == NULL)
        return apr_contract_fault(c, at, "a check needs model, dims and", apr_text("elements"));
    APR_TRY(apr_contract_word(c, name, &v->model));
    APR_TRY(apr_contract_number(c, elements, &number));
    v->elements = strtoull((const char *)elements->text.at, NULL, 10); /* beyond 2^53 too */
    return apr_contract_all(c, dims, APR_YAML_MAP, sizeof *v->given, read_given, &v->given, &v->ngiven);
}

/* ---- the whole ---------------------------------------------------------------------------------------------------- */

static enum apr_code read_contract(const struct apr_contract *c)
{
    struct apr_family *f = c->f;
    const struct apr_yaml *root = c->root, *name = apr_yaml_get(root, "family"), *schema = apr_yaml_get(root, "schema");
    const bool named = name != NULL && name->text.n > 0 && name->text.n <= MOST_NAME;
    if (named)
        APR_TRY(apr_contract_word(c, name, &f->name));
    APR_TRY(apr_contract_keys(c, root, "schema family title detect names skip buffers dims layers tensors generated kv hf_config apr "
                              "tokenizer forward checks"));
    if (!named)
        return apr_contract_fault(c, name == NULL ? root : name, "it has no name, or too long a one:", apr_text("family"));
    if (schema == NULL || !apr_bytes_is(schema->text, "apr-family/1"))
        return apr_contract_fault(c, schema == NULL ? root : schema, "its schema should be apr-family/1, not",
                                  schema == NULL ? apr_text("") : schema->text);
    APR_TRY(read_detect(c, apr_yaml_get(root, "detect")));
    APR_TRY(read_names(c, apr_yaml_get(root, "names")));
    APR_TRY(apr_contract_read_dims(c, apr_yaml_get(root, "dims")));
    APR_TRY(apr_contract_check_layers(c));
    APR_TRY(read_further(c, apr_yaml_get(apr_yaml_get(root, "names"), "further")));
    APR_TRY(apr_contract_read_roles(c, apr_yaml_get(root, "tensors"), apr_yaml_get(root, "generated")));
    APR_TRY(apr_contract_all(c, apr_yaml_get(root, "skip"), APR_YAML_LIST, sizeof *f->skip, read_skip, &f->skip, &f->nskip));
    APR_TRY(apr_contract_all(c, apr_yaml_get(root, "buffers"), APR_YAML_LIST, sizeof *f->buffer, read_skip, &f->buffer, &f->nbuffer));
    APR_TRY(apr_contract_read_metadata(c));
    APR_TRY(apr_contract_read_forward(c));
    APR_TRY(apr_contract_all(c, apr_yaml_get(root, "checks"), APR_YAML_LIST, sizeof *f->vector, read_vector, &f->vector, &f->nvector));
    return check_paths(c);
}

enum apr_code apr_family_parse(struct apr_family **out, const char *file, struct apr_bytes text, struct apr_error *e)
{
    struct apr_family *f = *out = calloc(1, sizeof *f);
    struct apr_yaml_document *document;
    if (f == NULL)
        return apr_no_memory(e);
    f->file = file;
    f->name = apr_text("?");
    enum apr_code code = apr_yaml_parse(&document, text, e);
    if (code == APR_OK) {
        code = read_contract(&(struct apr_contract){ .f = f, .root = apr_yaml_root(document), .e = e });
        apr_yaml_free(document);
    }
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
    for (size_t i = 0; i < f->nowned; i++)
        apr_expr_free(f->owned[i].expr);
    free(f->owned);
    apr_arena_free(&f->arena);
    free(f);
}
