/* Tensors of one side alone that do not fail the verdict. */
#include <string.h>

#include "base/bytes.h"
#include "diff.h"
#include "model/model.h"

static const char generated[] = "generated", skipped[] = "skipped by contract", recomputed[] = "recomputed", tied[] = "tied";
const char *const excuse_words[] = { generated, skipped, recomputed, tied, NULL };

/* Has the model a weight beside that bias? Then it is a parameter, and no mask. */
static bool has_weight(const struct apr_model *m, struct apr_bytes name)
{
    char weight[APR_NAME_ROOM];
    const size_t stem = name.n - strlen("bias");
    if (stem + sizeof "weight" > sizeof weight)
        return true;
    memcpy(weight, name.at, stem);
    memcpy(weight + stem, "weight", sizeof "weight");
    return apr_model_find(m, apr_text(weight)) != NULL;
}

/* Buffers that every loader computes anew: angles of rotary embeddings, positions, the masks of old attention modules. */
static bool is_recomputed(const struct apr_model *m, struct apr_bytes name)
{
    static const char *const buffers[] = { ".inv_freq", ".cos_cached", ".sin_cached", "position_ids", ".attn.masked_bias", ".attention.masked_bias" };
    for (size_t i = 0; i < APR_LENGTH(buffers); i++)
        if (apr_bytes_end(name, apr_text(buffers[i])))
            return true;
    return (apr_bytes_end(name, apr_text(".attn.bias")) || apr_bytes_end(name, apr_text(".attention.bias"))) && !has_weight(m, name);
}

/* Has the model another tensor of the same bytes that is called the same, spelled otherwise? */
static bool is_spelled_twice(const struct apr_model *m, const struct apr_binding *b, const struct apr_tensor *t)
{
    struct apr_meaning s, other;
    bool twice = apr_binding_meaning(b, t, 0, &s) && apr_binding_is_second(b, &s, t);
    const bool first = !twice && apr_binding_meaning(b, t, 0, &s) && apr_binding_find(b, &s) == t;
    for (size_t i = 0; i < m->ntensor && first && !twice; i++)
        twice = m->tensor[i].count == t->count && apr_binding_meaning(b, &m->tensor[i], 0, &other) &&
                memcmp(&s, &other, sizeof s) == 0 && apr_binding_is_second(b, &other, &m->tensor[i]);
    return twice;
}

const char *excuse_of(const struct apr_model *m, const struct apr_binding *b, const struct apr_tensor *t, bool gguf)
{
    struct apr_meaning meaning;
    const bool known = b != NULL && apr_binding_meaning(b, t, 0, &meaning);
    if (t->tied || (known && (apr_binding_is_copy(b, &meaning, t) || is_spelled_twice(m, b, t))))
        return tied;
    /* one such name needs no family to be known */
    if (apr_bytes_is(t->name, "rope_freqs.weight") || (known && meaning.role->generated))
        return generated;
    if (is_recomputed(m, t->name))
        return recomputed;
    return gguf && ((known && meaning.role->in_key) || (b != NULL && apr_binding_skips(b, t))) ? skipped : NULL;
}
