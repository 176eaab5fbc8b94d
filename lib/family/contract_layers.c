/* What differs by layer: names for expressions over `layer`, which stand for them wherever `layer` is known. */
#include "family/contract.h"

#include <string.h>

#include "base/arena.h"
#include "base/bytes.h"

static bool is_letter(unsigned char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

static bool is_of_name(unsigned char c) { return is_letter(c) || (c >= '0' && c <= '9') || c == '.'; }

/* The end of what begins at `at`: a name with its dots, a string with its quotes, else one byte. */
static size_t end_of_word(struct apr_bytes text, size_t at)
{
    size_t end = at + 1;
    if (text.at[at] == '\'') {
        while (end < text.n && text.at[end] != '\'')
            end++;
        return end + (end < text.n);
    }
    while (is_of_name(text.at[at]) && end < text.n && is_of_name(text.at[end]))
        end++;
    return end;
}

struct spelling {
    unsigned char byte[APR_EXPR_BYTES];
    size_t        n;
};

static bool put(struct spelling *s, struct apr_bytes word)
{
    if (word.n > sizeof s->byte - s->n)
        return false;
    memcpy(s->byte + s->n, word.at, word.n);
    s->n += word.n;
    return true;
}

static const struct apr_yaml *layers_called(const struct apr_contract *c, struct apr_bytes word)
{
    const struct apr_yaml *k = apr_yaml_get(c->root, "layers");
    for (k = k == NULL ? NULL : k->child; k != NULL && !apr_bytes_equal(k->key, word);)
        k = k->next;
    return k;
}

enum apr_code apr_contract_spell_layers(const struct apr_contract *c, const struct apr_yaml *at, struct apr_bytes *text)
{
    struct spelling s = { .n = 0 };
    bool fits = true, any = false;
    for (size_t i = 0, end; i < text->n && fits; i = end) {
        end = end_of_word(*text, i);
        const struct apr_bytes word = { text->at + i, end - i };
        const struct apr_yaml *const of = layers_called(c, word);
        any = any || of != NULL;
        fits = of == NULL ? put(&s, word) : put(&s, apr_text("(")) && put(&s, of->text) && put(&s, apr_text(")"));
    }
    if (any && !fits)
        return apr_contract_fault(c, at, "with what stands under `layers` it is too long:", *text);
    if (!any)
        return APR_OK;
    *text = apr_arena_copy(&c->f->arena, (struct apr_bytes){ s.byte, s.n });
    return text->at == NULL ? apr_no_memory(c->e) : APR_OK;
}

/* Each is an expression by itself, of dims and `layer`, and its name no dim's. */
enum apr_code apr_contract_check_layers(const struct apr_contract *c)
{
    const struct apr_yaml *const layers = apr_yaml_get(c->root, "layers");
    if (layers == NULL)
        return APR_OK;
    if (layers->kind != APR_YAML_MAP)
        return apr_contract_fault(c, layers, "a map should stand here, not", layers->text);
    for (const struct apr_yaml *k = layers->child; k != NULL; k = k->next) {
        struct apr_expr *x;
        if (apr_family_dim(c->f, k->key) != NULL || apr_bytes_is(k->key, "layer"))
            return apr_contract_fault(c, k, "that name is taken:", k->key);
        APR_TRY(apr_contract_layer(c, k, &x));
    }
    return APR_OK;
}
