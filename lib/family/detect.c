/* Which family a model is of. */
#include "family/bind.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "family/gguf_kv.h"
#include "model/hf_config.h"
#include "model/meta.h"

/* ---- what a model says -------------------------------------------------------------------------------------------- */

static size_t family_of_config(const struct apr_families *all, const struct apr_hf_config *c)
{
    struct apr_bytes word;
    char class[128];
    if (apr_hf_config_string(c, apr_text("architectures.0"), &word))
        return apr_families_seek(all, APR_DETECT_ARCHITECTURES, word, NULL);
    if (apr_hf_config_has(c, apr_text("ssm_cfg"))) {
        if (!apr_hf_config_string(c, apr_text("ssm_cfg.layer"), &word))
            word = apr_text("Mamba");
        snprintf(class, sizeof class, "%.*sForCausalLM", (int)apr_min(word.n, 64), (const char *)word.at);
        return apr_families_seek(all, APR_DETECT_ARCHITECTURES, apr_text(class), NULL);
    }
    if (apr_hf_config_string(c, apr_text("model_type"), &word))
        return apr_families_seek(all, APR_DETECT_MODEL_TYPES, word, NULL);
    return APR_NO_FAMILY;
}

/* The number of the family that it says it is of. */
static enum apr_code seek_said(const struct apr_families *all, const struct apr_model *m, size_t *number, struct apr_error *e)
{
    static const struct {
        const char     *key;
        enum apr_detect list;
    } words[] = { { "general.architecture", APR_DETECT_GGUF }, { "hf_architecture", APR_DETECT_ARCHITECTURES },
                  { "hf_model_type", APR_DETECT_MODEL_TYPES }, { "architecture", APR_DETECT_MODEL_TYPES },
                  { "architecture", APR_DETECT_GGUF }, { "model_type", APR_DETECT_MODEL_TYPES } };
    struct apr_hf_config *config;
    struct apr_draft carried = { 0 };
    APR_TRY(apr_hf_config_of(&config, m, e));
    enum apr_code code = APR_OK;
    *number = config == NULL ? APR_NO_FAMILY : family_of_config(all, config);
    apr_hf_config_free(config);
    if (*number == APR_NO_FAMILY)
        code = apr_flat_read(&carried, m, false, e);
    if (code == APR_OK && *number == APR_NO_FAMILY)
        code = apr_gguf_kv_read(&carried, m, false, e);
    for (size_t i = 0; code == APR_OK && *number == APR_NO_FAMILY && i < 2 * APR_LENGTH(words); i++) {
        const struct apr_bytes word = apr_meta_string(i % 2 == 0 ? &m->meta : &carried.meta, words[i / 2].key);
        *number = word.n == 0 ? APR_NO_FAMILY : apr_families_seek(all, words[i / 2].list, word, m);
    }
    apr_draft_end(&carried);
    return code;
}

enum apr_code apr_family_said(struct apr_families *all, const struct apr_model *m, const struct apr_family **f, struct apr_error *e)
{
    size_t number;
    *f = NULL;
    APR_TRY(seek_said(all, m, &number, e));
    return apr_families_get(all, number, f, e);
}

enum apr_code apr_family_said_name(const struct apr_families *all, const struct apr_model *m, struct apr_bytes *name, struct apr_error *e)
{
    size_t number;
    *name = (struct apr_bytes){ 0 };
    APR_TRY(seek_said(all, m, &number, e));
    *name = apr_families_name(all, number);
    return APR_OK;
}

struct apr_bytes apr_class_said(const struct apr_model *m, const struct apr_hf_config *config)
{
    static const char *const path[] = { "architectures.0", "model_type" };
    static const char *const key[] = { "general.architecture", "hf_architecture", "architecture", "model_type" };
    struct apr_bytes word;
    for (size_t i = 0; i < APR_LENGTH(path); i++)
        if (apr_hf_config_string(config, apr_text(path[i]), &word))
            return word;
    for (size_t i = 0; i < APR_LENGTH(key); i++) {
        word = apr_meta_string(&m->meta, key[i]);
        if (word.n > 0)
            return word;
    }
    return (struct apr_bytes){ 0 };
}

/* What it carries of a GGUF or an APR that it once was. */
static enum apr_code carries_a_class(const struct apr_model *m, bool *yes, struct apr_error *e)
{
    static const char *const key[] = { "general.architecture", "hf_architecture", "architecture", "model_type" };
    struct apr_draft carried = { 0 };
    enum apr_code code = apr_flat_read(&carried, m, false, e);
    if (code == APR_OK)
        code = apr_gguf_kv_read(&carried, m, false, e);
    for (size_t i = 0; i < APR_LENGTH(key); i++)
        *yes |= apr_meta_string(&carried.meta, key[i]).n > 0;
    apr_draft_end(&carried);
    return code;
}

enum apr_code apr_names_a_class(const struct apr_model *m, bool *yes, struct apr_error *e)
{
    struct apr_hf_config *config;
    APR_TRY(apr_hf_config_of(&config, m, e));
    *yes = apr_class_said(m, config).n > 0;
    apr_hf_config_free(config);
    return *yes ? APR_OK : carries_a_class(m, yes, e);
}

/* ---- what its names tell ------------------------------------------------------------------------------------------ */

/* Is one of the tensors that the family wants to see there? */
static bool is_detected(const struct apr_family *f, const struct apr_names *s, const struct apr_model *m)
{
    const struct apr_words *wanted = &f->detect[APR_DETECT_TENSORS];
    bool yes = wanted->n == 0;
    for (size_t k = 0; !yes && k < wanted->n; k++)
        for (size_t i = 0; !yes && i < m->ntensor; i++)
            yes = apr_names_named(s, &m->tensor[i], wanted->word[k]);
    return yes;
}

/* Is a tensor there that the family knows and does not drop? */
static bool has_role(const struct apr_names *s, const struct apr_model *m)
{
    size_t i = 0;
    while (i < m->ntensor && apr_names_of(s, &m->tensor[i]) == 0)
        i++;
    return i < m->ntensor;
}

/* *s is NULL when the family does not fit. */
static enum apr_code take_fitting(struct apr_names **s, const struct apr_family *f, const struct apr_model *m, struct apr_error *e)
{
    APR_TRY(apr_names_fit(s, f, m, e));
    if (*s != NULL && (!has_role(*s, m) || !is_detected(f, *s, m))) {
        apr_names_free(*s);
        *s = NULL;
    }
    return APR_OK;
}

static bool same_names(const struct apr_role *a, const struct apr_role *b, enum apr_dialect d)
{
    bool same = a->known[d].n == b->known[d].n;
    for (size_t i = 0; same && i < a->known[d].n; i++)
        same = apr_bytes_equal(a->known[d].word[i], b->known[d].word[i]);
    return same;
}

/* Do both families mean the same by t, if they know it: the same names, the same transforms? */
static bool agree(const struct apr_names *x, const struct apr_names *y, const struct apr_tensor *t)
{
    const struct apr_meaning *a = apr_names_get(x, t, 0), *b = apr_names_get(y, t, 0);
    if (a == NULL || b == NULL)
        return a == b;
    bool same = same_names(a->role, b->role, APR_HF) && same_names(a->role, b->role, APR_GGUF) &&
                a->role->ntransform == b->role->ntransform;
    for (unsigned i = 0; same && i < a->role->ntransform; i++)
        same = a->role->transform[i].op == b->role->transform[i].op;
    return same;
}

/* Holds a family that fits against the first that did; false when they disagree. */
static bool agree_on_all(const struct apr_names *x, const struct apr_names *y, const struct apr_model *m)
{
    size_t i = 0;
    while (i < m->ntensor && agree(x, y, &m->tensor[i]))
        i++;
    return i == m->ntensor;
}

/* Can t have the role's shape, as far as that is known? Of a split or changed one only the whole can be asked. */
static bool may_have_shape(const struct apr_binding *b, const struct apr_meaning *s, const struct apr_tensor *t)
{
    uint64_t dim[APR_MAX_DIMS], n;
    unsigned ndim = 0;
    if (s->dialect == APR_HF && s->role->known[APR_HF].n == 1 && s->role->ndim != t->ndim)
        return false;
    for (unsigned d = 0; s->dialect == APR_HF && s->role->known[APR_HF].n == 1 && d < t->ndim; d++)
        if (apr_binding_size(b, s->role->dim[d], &n) && n != t->dim[d])
            return false;
    return !apr_binding_meant_shape(b, s, dim, &ndim) || apr_same_shape(dim, ndim, t->dim, t->ndim);
}

/* Do the shapes of the model's tensors contradict the family that knows their names? */
static enum apr_code shapes_contradict(const struct apr_family *f, const struct apr_model *m, bool *yes, struct apr_error *e)
{
    struct apr_binding *b;
    struct apr_meaning s;
    *yes = false;
    APR_TRY(apr_bind(&b, f, m, NULL, e));
    for (size_t i = 0; i < m->ntensor && !*yes; i++) {
        bool fits = !apr_binding_meaning(b, &m->tensor[i], 0, &s) || apr_binding_skips(b, &m->tensor[i]);
        for (size_t k = 0; !fits && apr_binding_meaning(b, &m->tensor[i], k, &s); k++)
            fits = may_have_shape(b, &s, &m->tensor[i]);
        *yes = !fits;
    }
    apr_binding_free(b);
    return APR_OK;
}

/* Of two families that know all names and mean different things by them: those which the shapes contradict go. */
static enum apr_code choose(const struct apr_model *m, const struct apr_family *pair[2], struct apr_error *e)
{
    bool wrong[2];
    for (int i = 0; i < 2; i++)
        APR_TRY(shapes_contradict(pair[i], m, &wrong[i], e));
    if (wrong[1] && !wrong[0])
        pair[1] = NULL;
    if (wrong[0] && !wrong[1]) {
        pair[0] = pair[1];
        pair[1] = NULL;
    }
    return APR_OK;
}

enum apr_code apr_family_guessed(struct apr_families *all, const struct apr_model *m, const struct apr_family **f,
                                 const struct apr_family *either[2], struct apr_error *e)
{
    const struct apr_family *candidate;
    struct apr_names *first = NULL, *s;
    enum apr_code code = APR_OK;
    bool named;
    *f = either[0] = either[1] = NULL;
    APR_TRY(apr_names_a_class(m, &named, e));
    if (named)
        return APR_OK;
    for (size_t i = 0; code == APR_OK && apr_families_name(all, i).n > 0 && either[1] == NULL; i++) {
        if (!apr_families_may_fit(all, i, m))
            continue;
        code = apr_families_get(all, i, &candidate, e);
        if (code == APR_OK)
            code = take_fitting(&s, candidate, m, e);
        if (code != APR_OK || s == NULL)
            continue;
        if (first == NULL) {
            either[0] = candidate;
            first = s;
            continue;
        }
        if (!agree_on_all(first, s, m)) {
            either[1] = candidate;
            code = choose(m, either, e);
        }
        if (either[0] == candidate) {
            apr_names_free(first);
            first = s;
        } else {
            apr_names_free(s);
        }
    }
    apr_names_free(first);
    if (code == APR_OK && either[1] == NULL)
        *f = either[0];
    return code;
}
