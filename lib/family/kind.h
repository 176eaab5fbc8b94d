/* What a file is of, beside whole models: adapters, projectors, vocabularies, importance matrices. No family's contract holds of those. */
#ifndef APR_KIND_H
#define APR_KIND_H

#include "base/core.h"

enum apr_model_kind { APR_KIND_MODEL, APR_KIND_ADAPTER, APR_KIND_PROJECTOR, APR_KIND_VOCABULARY, APR_KIND_IMATRIX, APR_KIND_TRACE };

/* By general.type and general.architecture of a GGUF, by the file's name and the names of its tensors (PEFT's adapters). */
enum apr_model_kind apr_model_kind(const struct apr_model *m);

/* "an adapter", for a message. */
const char *apr_model_kind_text(enum apr_model_kind kind);

#endif
