#include "model/format.h"

extern const struct apr_format apr_gguf, apr_apr, apr_aprt, apr_npy, apr_safetensors;

const struct apr_format *const apr_formats[] = { &apr_gguf, &apr_apr, &apr_aprt, &apr_npy, &apr_safetensors, NULL };
