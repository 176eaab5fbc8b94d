#include "model_said.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/memstream.h"
#include "base/table.h"
#include "model/meta.h"
#include "ui/report.h"

#define LOGISTIC "logistic_regression"
#define LINEAR   "linear_regression"
#define MOST_CLASSES 1000000u /* as many as a file may name: each is kept in memory */

enum apr_code linear_class_spell(struct linear_class *c, struct apr_bytes text, struct apr_arena **a, struct apr_error *e)
{
    char *json;
    size_t n;
    FILE *const to = apr_memstream(&json, &n);
    if (to == NULL)
        return apr_no_memory(e);
    apr_out_bytes(&(struct apr_out){ .to = to }, NULL, text);
    const bool whole = fclose(to) == 0;
    c->text = apr_arena_copy(a, text);
    c->json = whole ? apr_arena_copy(a, (struct apr_bytes){ (const unsigned char *)json, n }) : (struct apr_bytes){ 0 };
    free(json);
    return c->json.at == NULL || c->text.at == NULL ? apr_no_memory(e) : APR_OK;
}

/* A class is a number as it is spelled, or a text. */
static enum apr_code put_class(struct linear_model *m, const struct apr_value *v, struct linear_class *to, struct apr_table *seen,
                               struct apr_error *e)
{
    const bool text = v->type == APR_META_STRING;
    double number;
    if ((!text && !apr_meta_number(v, &number)) || v->type == APR_META_BOOL || (text && !apr_is_utf8(v->text)))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "classes: expected texts or numbers, found %s", apr_meta_type_word(v->type));
    if (text)
        APR_TRY(linear_class_spell(to, v->text, &m->arena, e));
    else
        to->text = to->json = apr_arena_copy(&m->arena, v->text);
    bool fresh = true;
    if (to->text.at == NULL || apr_table_put(seen, to->text, &fresh) == NULL)
        return apr_no_memory(e);
    return fresh ? APR_OK : apr_fail(e, APR_EARG, APR_NOWHERE, "classes: %s stands twice", APR_QUOTED(to->text));
}

static enum apr_code put_feature(struct linear_model *m, const struct apr_value *v, struct apr_bytes *to, struct apr_error *e)
{
    if (v->type != APR_META_STRING || !apr_is_utf8(v->text))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "features: expected names, found %s", apr_meta_type_word(v->type));
    *to = apr_arena_copy(&m->arena, v->text);
    bool fresh;
    union apr_table_value *const at = to->at == NULL ? NULL : apr_table_put(&m->by_name, *to, &fresh);
    if (at == NULL)
        return apr_no_memory(e);
    if (!fresh)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "features: %s stands twice", APR_QUOTED(*to));
    at->number = (uint64_t)(to - m->feature);
    return APR_OK;
}

/* The array at a key, which has `n` elements; NULL: there is none, or an empty one. */
static enum apr_code find_array(const struct apr_meta *meta, const char *key, size_t n, const struct apr_value **v, struct apr_error *e)
{
    *v = apr_meta_find(meta, key);
    if (*v == NULL || (*v)->type == APR_META_NULL)
        *v = NULL;
    if (*v == NULL)
        return APR_OK;
    if ((*v)->type != APR_META_ARRAY)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%s: expected an array, found %s", key, apr_meta_type_word((*v)->type));
    const uint64_t have = apr_meta_length(*v);
    if (have == 0)
        *v = NULL;
    if (have != 0 && have != n)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%s: expected %zu, as many as the weights have %s, found %llu", key, n,
                        key[0] == 'c' ? "outputs for" : "inputs", (unsigned long long)have);
    return APR_OK;
}

static enum apr_code read_features(struct linear_model *m, const struct apr_meta *meta, struct apr_error *e)
{
    const struct apr_value *v;
    APR_TRY(find_array(meta, "features", m->inputs, &v, e));
    if (v == NULL)
        return APR_OK;
    m->feature = calloc(m->inputs, sizeof *m->feature);
    if (m->feature == NULL)
        return apr_no_memory(e);
    struct apr_elements walk = apr_elements_of(v);
    struct apr_value item;
    enum apr_code code = APR_OK;
    while (code == APR_OK && m->nfeature < m->inputs && apr_elements_next(&walk, &item))
        code = put_feature(m, &item, &m->feature[m->nfeature++], e);
    return apr_elements_done(&walk, code, e);
}

/* 0, 1, ...: of a model that says none. */
static enum apr_code number_classes(struct linear_model *m, size_t n, struct apr_error *e)
{
    for (; m->nclass < n; m->nclass++) {
        const struct apr_bytes text = apr_arena_format(&m->arena, "%zu", m->nclass);
        if (text.at == NULL)
            return apr_no_memory(e);
        m->class[m->nclass] = (struct linear_class){ text, text };
    }
    return APR_OK;
}

static enum apr_code read_classes(struct linear_model *m, const struct apr_meta *meta, struct apr_error *e)
{
    const size_t n = m->outputs == 1 ? 2 : m->outputs;
    const struct apr_value *v;
    if (n > MOST_CLASSES)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "%zu classes, expected at most %u", n, MOST_CLASSES);
    m->class = calloc(n, sizeof *m->class);
    if (m->class == NULL)
        return apr_no_memory(e);
    APR_TRY(find_array(meta, "classes", n, &v, e));
    if (v == NULL)
        return number_classes(m, n, e);
    struct apr_elements walk = apr_elements_of(v);
    struct apr_table seen = { 0 };
    struct apr_value item;
    enum apr_code code = APR_OK;
    while (code == APR_OK && m->nclass < n && apr_elements_next(&walk, &item))
        code = put_class(m, &item, &m->class[m->nclass++], &seen, e);
    apr_table_free(&seen);
    return apr_elements_done(&walk, code, e);
}

/* Classes or numbers? Words of its own come first; without any, several outputs are classes. */
static enum apr_code choose_kind(struct linear_model *m, const struct apr_meta *meta, enum linear_as as, struct apr_error *e)
{
    static const struct {
        const char *key, *word;
        bool        logistic;
    } words[] = { { "model_type", LOGISTIC, true }, { "model_type", LINEAR, false },
                  { "architecture", "LogisticRegression", true }, { "architecture", "LinearRegression", false } };
    const struct apr_value *const classes = apr_meta_find(meta, "classes");
    const bool named = classes != NULL && classes->type == APR_META_ARRAY && apr_meta_length(classes) > 0;
    bool logistic = m->outputs > 1 || as == LINEAR_AS_LOGISTIC || named, said = false;
    for (size_t i = 0; i < APR_LENGTH(words) && !said; i++)
        if (apr_bytes_is(apr_meta_string(meta, words[i].key), words[i].word)) {
            logistic = words[i].logistic;
            said = true;
        }
    if (!said && !named && (as == LINEAR_AS_LINEAR || m->outputs == 1))
        logistic = as == LINEAR_AS_LOGISTIC;
    m->model_type = logistic ? LOGISTIC : LINEAR;
    if (logistic)
        return read_classes(m, meta, e);
    return m->outputs == 1 ? APR_OK : apr_fail(e, APR_EARG, APR_NOWHERE, "it gives %zu numbers for a row, expected one", m->outputs);
}

enum apr_code linear_read_said(struct linear_model *m, const struct apr_meta *meta, enum linear_as as, struct apr_error *e)
{
    APR_TRY(choose_kind(m, meta, as, e));
    return read_features(m, meta, e);
}
