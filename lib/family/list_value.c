#include "family/list_value.h"

#include <math.h>

#include "base/bytes.h"
#include "base/memstream.h"
#include "family/spell.h"
#include "family/translate_parts.h"

#define MOST_ELEMENTS 65536

/* Texts where the first is one; else whole numbers where all are. */
static enum apr_meta_type looks_of(const struct apr_binding *b, const struct apr_formula *f, uint64_t n)
{
    bool whole = true;
    for (uint64_t i = 0; i < n && whole; i++) {
        const struct apr_result r = apr_binding_element(b, f, i);
        if (r.text.at != NULL)
            return APR_META_STRING;
        whole = r.number == floor(r.number) && fabs(r.number) < 0x1p53;
    }
    return whole ? APR_META_I64 : APR_META_F64;
}

static bool add_element(struct apr_array *a, const struct apr_result *r)
{
    struct apr_value v = { .f = r->number };
    const bool wide = a->element == APR_META_I64 || a->element == APR_META_F64;
    const bool whole = r->number == floor(r->number) && fabs(r->number) < 0x1p53;
    if (wide ? !r->known || r->text.at != NULL || !isfinite(r->number) || (a->element == APR_META_I64 && !whole)
             : !apr_value_of_type(r, a->element, &v))
        return false;
    if (a->element == APR_META_STRING)
        apr_array_text(a, v.text);
    else if (a->element == APR_META_F32 || a->element == APR_META_F64)
        apr_array_real(a, v.f);
    else
        apr_array_integer(a, wide ? (uint64_t)(int64_t)r->number : a->element == APR_META_BOOL ? v.b : v.u);
    return true;
}

static enum apr_code no_element(const struct apr_binding *b, const struct apr_array *a, const char *key, const struct apr_result *r,
                                uint64_t i, struct apr_error *e)
{
    const struct apr_family *const f = apr_binding_family(b);
    if (!r->known && !r->wrong)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "nothing tells element %llu of %s, which family %.*s needs (%s)",
                        (unsigned long long)i, key, APR_PRINTED(f->name), f->file);
    return apr_fail(e, APR_EARG, APR_NOWHERE, "%s is a list of type %s, which element %llu of the model's is not", key,
                    apr_meta_type_word(a->element), (unsigned long long)i);
}

enum apr_code apr_list_value(struct apr_arena **arena, const struct apr_binding *b, const struct apr_formula *f, enum apr_meta_type element,
                             const char *key, struct apr_value *v, struct apr_error *e)
{
    struct apr_array a = { .element = element };
    enum apr_code code = APR_OK;
    uint64_t n;
    *v = (struct apr_value){ .type = APR_META_NULL, .encoding = APR_JSON };
    if (!apr_binding_length(b, f, &n) || n == 0)
        return APR_OK;
    if (n > MOST_ELEMENTS)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "%s is a list of %llu elements, at most %d are written", key, (unsigned long long)n,
                        MOST_ELEMENTS);
    if (element == APR_META_NULL)
        a.element = looks_of(b, f, n);
    for (uint64_t i = 0; i < n && code == APR_OK; i++) {
        const struct apr_result r = apr_binding_element(b, f, i);
        if (!add_element(&a, &r))
            code = no_element(b, &a, key, &r, i, e);
    }
    const struct apr_bytes own = code == APR_OK ? apr_arena_copy(arena, (struct apr_bytes){ a.at, a.bytes }) : (struct apr_bytes){ 0 };
    if (code == APR_OK && (a.lost || own.at == NULL))
        code = apr_no_memory(e);
    if (code == APR_OK)
        *v = (struct apr_value){ .type = APR_META_ARRAY, .element = a.element, .encoding = APR_GGUF_LE, .n = a.n, .text = own };
    apr_array_drop(&a);
    return code;
}

enum apr_code apr_list_spell(struct apr_arena **arena, const struct apr_value *list, struct apr_bytes *json, struct apr_error *e)
{
    struct apr_elements w = apr_elements_of(list);
    struct apr_value v;
    char *text = NULL;
    size_t n = 0;
    FILE *const to = apr_memstream(&text, &n);
    if (to == NULL)
        return apr_no_memory(e);
    enum apr_code code = APR_OK;
    putc('[', to);
    for (size_t i = 0; code == APR_OK && apr_elements_next(&w, &v); i++) {
        code = apr_spell_value(arena, &v, json, e);
        if (code == APR_OK)
            fprintf(to, "%s%.*s", i == 0 ? "" : ", ", APR_PRINTED(*json));
    }
    code = apr_elements_done(&w, code, e);
    putc(']', to);
    const enum apr_code spelled = apr_spelled(arena, to, &text, &n, json, e);
    return code != APR_OK ? code : spelled;
}
