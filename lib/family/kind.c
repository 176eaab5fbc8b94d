#include "family/kind.h"

#include <string.h>

#include "base/bytes.h"
#include "files/address.h"
#include "files/source.h"
#include "model/format.h"
#include "model/meta.h"

static enum apr_model_kind kind_of_gguf(const struct apr_model *m)
{
    static const struct {
        const char   *key, *word;
        enum apr_model_kind kind;
    } row[] = { { "general.type", "adapter", APR_KIND_ADAPTER },      { "general.type", "mmproj", APR_KIND_PROJECTOR },
                { "general.type", "imatrix", APR_KIND_IMATRIX },      { "general.architecture", "controlvector", APR_KIND_ADAPTER },
                { "general.architecture", "clip", APR_KIND_PROJECTOR } };
    for (size_t i = 0; i < APR_LENGTH(row); i++)
        if (apr_bytes_is(apr_meta_string(&m->meta, row[i].key), row[i].word))
            return row[i].kind;
    const bool words = apr_meta_find(&m->meta, "tokenizer.ggml.tokens") != NULL;
    return m->ntensor == 0 && words ? APR_KIND_VOCABULARY : APR_KIND_MODEL;
}

static bool has_factor(struct apr_bytes name)
{
    static const char *const factor[] = { "lora_", "lokr_", "hada_w", "oft_" };
    for (size_t k = 0; k < APR_LENGTH(factor); k++)
        if (apr_bytes_have(name, factor[k]))
            return true;
    return false;
}

/* PEFT's name for the file, or low-rank factors in most of the names. A model that brings its own has its base layers too. */
static bool is_adapter(const struct apr_model *m)
{
    const char *path = m->nfile == 0 ? "" : m->file[0]->path;
    size_t left = m->ntensor - m->ntensor / 2; /* so many names without a factor, and most have none */
    if (strncmp(path + apr_folder_length(path), "adapter_model", strlen("adapter_model")) == 0)
        return true;
    for (size_t i = 0; i < m->ntensor; i++)
        if (!has_factor(m->tensor[i].name) && --left == 0)
            return false;
    for (size_t i = 0; i < m->ntensor; i++)
        if (apr_bytes_have(m->tensor[i].name, ".base_layer."))
            return false;
    return m->ntensor > 0;
}

enum apr_model_kind apr_model_kind(const struct apr_model *m)
{
    if (m->format->trace)
        return APR_KIND_TRACE;
    if (m->format->own_names)
        return kind_of_gguf(m);
    return is_adapter(m) ? APR_KIND_ADAPTER : APR_KIND_MODEL;
}

const char *apr_model_kind_text(enum apr_model_kind kind)
{
    static const char *const text[] = { "a model", "an adapter", "a projector of another modality", "a vocabulary", "an importance matrix", "a trace" };
    return text[kind];
}
