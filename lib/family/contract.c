/* Reading a contract, and all that can be found wrong with one before a model is seen. */
#include "family/contract.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define MOST_NAME 64 /* bytes of a family's */

/* ---- complaints --------------------------------------------------------------------------------------------------- */

enum apr_code apr_contract_fault(const struct apr_contract *c, const struct apr_yaml *at, const char *what, struct apr_bytes word)
{
    return apr_fail(c->e, APR_ECORRUPT, APR_NOWHERE, "line %u: family %.*s: %s %s", at->line, (int)c->f->name.n,
                    (const char *)c->f->name.at, what, APR_QUOTED(word));
}

/* Is it one of the words, which blanks part? */
static bool is_one_of(const char *words, struct apr_bytes word)
{
    for (const char *end; *words != 0; words = *end == 0 ? end : end + 1) {
        end = strchrnul(words, ' ');
        if (apr_bytes_equal(word, (struct apr_bytes){ (const unsigned char *)words, (size_t)(end - words) }))
            return true;
    }
    return false;
}

enum apr_code apr_contract_keys(const struct apr_contract *c, const struct apr_yaml *map, const char *words)
{
    if (map->kind != APR_YAML_MAP)
        return apr_contract_fault(c, map, "a map should stand here, not", map->text);
    for (const struct apr_yaml *k = map->child; k != NULL; k = k->next)
        if (!is_one_of(words, k->key))
            return apr_contract_fault(c, k, "unknown key", k->key);
    return APR_OK;
}

enum apr_code apr_contract_list(const struct apr_contract *c, const struct apr_yaml *at, size_t most)
{
    return at->kind == APR_YAML_LIST && at->n <= most ? APR_OK : apr_contract_fault(c, at, "no list, or too long a one:", at->key);
}

enum apr_code apr_contract_word(const struct apr_contract *c, const struct apr_yaml *at, struct apr_bytes *out)
{
    if (at->kind != APR_YAML_SCALAR || at->text.n == 0)
        return apr_contract_fault(c, at, "a word should stand here, in", at->key);
    *out = at->text;
    return APR_OK;
}

enum apr_code apr_contract_choice(const struct apr_contract *c, const struct apr_yaml *at, const char *what, const char *words)
{
    return at->kind == APR_YAML_SCALAR && is_one_of(words, at->text) ? APR_OK : apr_contract_fault(c, at, what, at->text);
}

enum apr_code apr_contract_several(const struct apr_contract *c, const struct apr_yaml *at, struct apr_bytes *out, unsigned most,
                                   unsigned *n)
{
    *n = 0;
    if (at->kind == APR_YAML_SCALAR) {
        *n = 1;
        return apr_contract_word(c, at, out);
    }
    APR_TRY(apr_contract_list(c, at, most));
    for (const struct apr_yaml *k = at->child; k != NULL; k = k->next)
        APR_TRY(apr_contract_word(c, k, &out[(*n)++]));
    return APR_OK;
}

enum apr_code apr_contract_words(const struct apr_contract *c, const struct apr_yaml *list)
{
    struct apr_bytes word;
    if (list == NULL)
        return APR_OK;
    APR_TRY(apr_contract_list(c, list, SIZE_MAX));
    for (const struct apr_yaml *k = list->child; k != NULL; k = k->next)
        APR_TRY(apr_contract_word(c, k, &word));
    return APR_OK;
}

/* ---- expressions -------------------------------------------------------------------------------------------------- */

struct dims_check {
    const struct apr_family *f;
    struct apr_bytes         unknown;
};

static bool is_dim(void *ctx, struct apr_bytes name)
{
    struct dims_check *check = ctx;
    const bool yes = apr_family_dim(check->f, name) != NULL;
    if (!yes)
        check->unknown = name;
    return yes;
}

enum apr_code apr_contract_expression(const struct apr_contract *c, const struct apr_yaml *at, struct apr_expr **out)
{
    struct apr_error why;
    struct apr_bytes text;
    struct dims_check check = { c->f, { 0 } };
    APR_TRY(apr_contract_word(c, at, &text));
    if (apr_expr_new(out, text, &why) != APR_OK)
        return why.code == APR_ENOMEM ? apr_no_memory(c->e)
                                      : apr_fail(c->e, APR_ECORRUPT, APR_NOWHERE, "line %u: family %.*s: %s", at->line, (int)c->f->name.n,
                                                 (const char *)c->f->name.at, why.text);
    apr_expr_names(*out, is_dim, &check);
    if (check.unknown.at == NULL)
        return APR_OK;
    const enum apr_code code = apr_contract_fault(c, at, "no dim above this line is called", check.unknown);
    apr_expr_free(*out);
    *out = NULL;
    return code;
}

/* An expression that others will want; NULL is none. */
static enum apr_code sound_expression(const struct apr_contract *c, const struct apr_yaml *at)
{
    struct apr_expr *x;
    if (at == NULL)
        return APR_OK;
    APR_TRY(apr_contract_expression(c, at, &x));
    apr_expr_free(x);
    return APR_OK;
}

/* Every has(tensors.ROLE) in the document names a role. */
static enum apr_code has_roles(const struct apr_contract *c, const struct apr_yaml *at)
{
    static const char tensors[] = "has(tensors.";
    const char *word = (const char *)at->text.at;
    while (at->kind == APR_YAML_SCALAR && (word = strstr(word, tensors)) != NULL) {
        word += sizeof tensors - 1;
        const struct apr_bytes role = { (const unsigned char *)word, strcspn(word, " )") };
        if (apr_family_role(c->f, role) == NULL)
            return apr_contract_fault(c, at, "has() asks for no role:", role);
    }
    for (const struct apr_yaml *k = at->child; k != NULL; k = k->next)
        APR_TRY(has_roles(c, k));
    return APR_OK;
}

/* ---- what is not for tensors -------------------------------------------------------------------------------------- */

static enum apr_code read_names(const struct apr_contract *c, const struct apr_yaml *names)
{
    const struct apr_yaml *renames = apr_yaml_get(names, "rename"), *add = apr_yaml_get(names, "add_prefix"),
                           *prefix = apr_yaml_get(add, "prefix");
    struct apr_bytes word;
    if (names == NULL)
        return APR_OK;
    APR_TRY(apr_contract_keys(c, names, "remove strip_prefix add_prefix rename"));
    APR_TRY(apr_contract_words(c, apr_yaml_get(names, "remove")));
    APR_TRY(apr_contract_words(c, apr_yaml_get(names, "strip_prefix")));
    if (add != NULL) {
        APR_TRY(apr_contract_keys(c, add, "prefix unless"));
        if (prefix == NULL)
            return apr_contract_fault(c, add, "it lacks", apr_text("prefix"));
        APR_TRY(apr_contract_word(c, prefix, &word));
        APR_TRY(apr_contract_words(c, apr_yaml_get(add, "unless")));
    }
    if (renames != NULL)
        APR_TRY(apr_contract_list(c, renames, APR_LENGTH(c->f->rename)));
    for (const struct apr_yaml *k = renames == NULL ? NULL : renames->child; k != NULL; k = k->next) {
        const struct apr_yaml *from = apr_yaml_get(k, "from"), *to = apr_yaml_get(k, "to");
        struct apr_rename *r = &c->f->rename[c->f->nrename++];
        APR_TRY(apr_contract_keys(c, k, "from to"));
        if (from == NULL || to == NULL)
            return apr_contract_fault(c, k, "it lacks", apr_text(from == NULL ? "from" : "to"));
        APR_TRY(apr_contract_word(c, from, &r->from));
        APR_TRY(apr_contract_word(c, to, &r->to));
    }
    return APR_OK;
}

/* Every {NAME} in a glob is a dim. */
static enum apr_code sound_skip(const struct apr_contract *c, const struct apr_yaml *skip)
{
    APR_TRY(apr_contract_words(c, skip));
    for (const struct apr_yaml *k = skip == NULL ? NULL : skip->child; k != NULL; k = k->next)
        for (const char *s = strchr((const char *)k->text.at, '{'); s != NULL; s = strchr(s, '{')) {
            const struct apr_bytes name = { (const unsigned char *)s + 1, strcspn(s + 1, "}") };
            s += 1 + name.n;
            if (apr_family_dim(c->f, name) == NULL)
                return apr_contract_fault(c, k, "no dim is called", name);
        }
    return APR_OK;
}

static enum apr_code sound_key(const struct apr_contract *c, const struct apr_yaml *at)
{
    static const char *const word[] = { "gguf", "computed", "hf", "apr", "fills" }, *const x[] = { "expr", "default", "when" };
    const struct apr_yaml *type = apr_yaml_get(at, "type"), *from = apr_yaml_get(at, "from"), *fills = apr_yaml_get(at, "fills"), *v;
    struct apr_bytes path[8], text;
    unsigned npath;
    APR_TRY(apr_contract_keys(c, at, "gguf type expr from const computed default when hf apr fills"));
    if (type == NULL || apr_yaml_get(at, "gguf") == NULL)
        return apr_contract_fault(c, at, "a key needs gguf and type; look at", at->child == NULL ? at->text : at->child->text);
    APR_TRY(apr_contract_choice(c, type, "unknown type", "u32 i32 f32 bool str arr_u32 arr_i32 arr_f32 arr_bool arr_str"));
    for (size_t i = 0; i < APR_LENGTH(word); i++)
        if ((v = apr_yaml_get(at, word[i])) != NULL)
            APR_TRY(apr_contract_word(c, v, &text));
    for (size_t i = 0; i < APR_LENGTH(x); i++)
        APR_TRY(sound_expression(c, apr_yaml_get(at, x[i])));
    if (from != NULL)
        APR_TRY(apr_contract_several(c, from, path, APR_LENGTH(path), &npath));
    if (fills != NULL && apr_family_dim(c->f, fills->text) == NULL)
        return apr_contract_fault(c, fills, "no dim is called", fills->text);
    if (!apr_yaml_get(at, "expr") + !from + !apr_yaml_get(at, "const") + !apr_yaml_get(at, "computed") != 3)
        return apr_contract_fault(c, at, "one of expr, from, const and computed gives the value of", apr_yaml_get(at, "gguf")->text);
    return APR_OK;
}

static enum apr_code sound_keys(const struct apr_contract *c, const struct apr_yaml *list)
{
    if (list == NULL)
        return APR_OK;
    APR_TRY(apr_contract_list(c, list, SIZE_MAX));
    for (const struct apr_yaml *k = list->child; k != NULL; k = k->next)
        APR_TRY(sound_key(c, k));
    return APR_OK;
}

/* A list of {when, set}. */
static enum apr_code sound_settings(const struct apr_contract *c, const struct apr_yaml *list)
{
    if (list == NULL)
        return APR_OK;
    APR_TRY(apr_contract_list(c, list, SIZE_MAX));
    for (const struct apr_yaml *k = list->child; k != NULL; k = k->next) {
        const struct apr_yaml *set = apr_yaml_get(k, "set");
        APR_TRY(apr_contract_keys(c, k, "when set"));
        APR_TRY(sound_expression(c, apr_yaml_get(k, "when")));
        if (set == NULL || set->kind != APR_YAML_MAP)
            return apr_contract_fault(c, k, "a map is missing:", apr_text("set"));
        for (const struct apr_yaml *v = set->child; v != NULL; v = v->next)
            APR_TRY(v->kind == APR_YAML_MAP ? apr_contract_keys(c, v, "computed")
                    : v->kind == APR_YAML_LIST ? apr_contract_words(c, v) : APR_OK);
    }
    return APR_OK;
}

static enum apr_code sound_apr(const struct apr_contract *c, const struct apr_yaml *apr)
{
    const struct apr_yaml *rope = apr_yaml_get(apr, "rope_type"), *set = apr_yaml_get(apr, "set");
    if (apr == NULL)
        return APR_OK;
    APR_TRY(apr_contract_keys(c, apr, "rope_type set"));
    if (rope != NULL)
        APR_TRY(apr_contract_keys(c, rope, "gguf_order hf_order"));
    for (const struct apr_yaml *k = set == NULL ? NULL : set->child; k != NULL; k = k->next)
        APR_TRY(sound_expression(c, k));
    return APR_OK;
}

static enum apr_code sound_tokenizer(const struct apr_contract *c, const struct apr_yaml *tokenizer)
{
    const struct apr_yaml *order = apr_yaml_get(tokenizer, "order"), *normalizer = apr_yaml_get(tokenizer, "normalizer");
    struct apr_bytes word;
    if (tokenizer == NULL)
        return APR_OK;
    APR_TRY(apr_contract_keys(c, tokenizer, "order kv_first overrides normalizer"));
    APR_TRY(apr_contract_words(c, order));
    for (const struct apr_yaml *k = order == NULL ? NULL : order->child; k != NULL; k = k->next)
        APR_TRY(apr_contract_choice(c, k, "unknown kind of tokenizer", "spm_model spm_json bpe wordpiece unigram"));
    if (normalizer != NULL)
        APR_TRY(apr_contract_word(c, normalizer, &word));
    APR_TRY(sound_keys(c, apr_yaml_get(tokenizer, "kv_first")));
    return sound_settings(c, apr_yaml_get(tokenizer, "overrides"));
}

static enum apr_code sound_checks(const struct apr_contract *c, const struct apr_yaml *checks)
{
    if (checks == NULL)
        return APR_OK;
    APR_TRY(apr_contract_list(c, checks, SIZE_MAX));
    for (const struct apr_yaml *k = checks->child; k != NULL; k = k->next) {
        const struct apr_yaml *dims = apr_yaml_get(k, "dims");
        APR_TRY(apr_contract_keys(c, k, "model dims elements"));
        if (apr_yaml_get(k, "model") == NULL || dims == NULL || apr_yaml_get(k, "elements") == NULL)
            return apr_contract_fault(c, k, "a check needs model, dims and", apr_text("elements"));
        for (const struct apr_yaml *d = dims->child; d != NULL; d = d->next)
            if (apr_family_dim(c->f, d->key) == NULL)
                return apr_contract_fault(c, d, "no dim is called", d->key);
    }
    return APR_OK;
}

static enum apr_code read_contract(const struct apr_contract *c)
{
    struct apr_family *f = c->f;
    const struct apr_yaml *root = apr_yaml_root(f->document), *name = apr_yaml_get(root, "family"), *schema = apr_yaml_get(root, "schema");
    if (name != NULL && name->text.n > 0 && name->text.n <= MOST_NAME)
        f->name = name->text;
    APR_TRY(apr_contract_keys(c, root, "schema family title detect names skip dims tensors generated kv hf_config apr tokenizer checks"));
    if (name == NULL || f->name.at != name->text.at)
        return apr_contract_fault(c, name == NULL ? root : name, "it has no name, or too long a one:", apr_text("family"));
    if (schema == NULL || !apr_bytes_is(schema->text, "apr-family/1"))
        return apr_contract_fault(c, schema == NULL ? root : schema, "its schema should be apr-family/1, not",
                                  schema == NULL ? apr_text("") : schema->text);
    f->detect = apr_yaml_get(root, "detect");
    f->names = apr_yaml_get(root, "names");
    f->skip = apr_yaml_get(root, "skip");
    f->kv = apr_yaml_get(root, "kv");
    f->checks = apr_yaml_get(root, "checks");
    if (f->detect != NULL)
        APR_TRY(apr_contract_keys(c, f->detect, "architectures model_types gguf tensors"));
    for (const struct apr_yaml *k = f->detect == NULL ? NULL : f->detect->child; k != NULL; k = k->next)
        APR_TRY(apr_contract_words(c, k));
    APR_TRY(read_names(c, f->names));
    APR_TRY(apr_contract_read_dims(c, apr_yaml_get(root, "dims")));
    APR_TRY(apr_contract_read_roles(c, apr_yaml_get(root, "tensors"), apr_yaml_get(root, "generated")));
    APR_TRY(sound_skip(c, f->skip));
    APR_TRY(sound_keys(c, f->kv));
    APR_TRY(sound_settings(c, apr_yaml_get(root, "hf_config")));
    APR_TRY(sound_apr(c, apr_yaml_get(root, "apr")));
    APR_TRY(sound_tokenizer(c, apr_yaml_get(root, "tokenizer")));
    APR_TRY(sound_checks(c, f->checks));
    return has_roles(c, root);
}

enum apr_code apr_family_parse(struct apr_family **out, const char *file, struct apr_bytes text, struct apr_error *e)
{
    struct apr_family *f = *out = calloc(1, sizeof *f);
    const struct apr_contract c = { f, e };
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
