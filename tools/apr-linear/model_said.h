/* What a linear model's metadata says of it. Of model.c alone. */
#ifndef APR_LINEAR_MODEL_SAID_H
#define APR_LINEAR_MODEL_SAID_H

#include "model.h"

/* Sets model_type, classes and features of one whose inputs and outputs are known. */
APR_MUST_CHECK enum apr_code linear_read_said(struct linear_model *m, const struct apr_meta *meta, enum linear_as as, struct apr_error *e);

#endif
