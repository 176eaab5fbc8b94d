/* A model, its family, and the net that runs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "family/kind.h"

#include "files/source.h"
#include "model/format.h"
#include "model/hf_config.h"
#include "model/open.h"
#include "trace.h"

static enum apr_code no_family(const struct apr_model *m, const struct apr_hf_config *config, const struct apr_family *const either[2],
                               struct apr_error *e)
{
    const struct apr_bytes word = apr_class_said(m, config);
    if (m->format->config && m->config == NULL)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "there is no config.json beside it, which says what model it is");
    if (either[1] != NULL)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "its names fit the families %.*s and %.*s, and it does not say which it is",
                        APR_PRINTED(either[0]->name), APR_PRINTED(either[1]->name));
    if (word.n > 0)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "no contract knows %s, so there is no forward pass of it: --family-file takes one "
                        "of your own", APR_QUOTED(word));
    return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "it does not say what model it is");
}

/* With the names of those that have one. */
static enum apr_code check_runs(const struct engine *x, const struct options *o, struct apr_error *e)
{
    char names[640] = ""; /* of the 768 bytes that an error has */
    const struct apr_family *f;
    if (x->family->runs)
        return APR_OK;
    for (size_t i = 0, n = 0; n < sizeof names; i++) {
        APR_TRY(apr_families_get(o->selection.families, i, &f, e));
        if (f == NULL)
            break;
        if (f->runs)
            n += (size_t)snprintf(names + n, sizeof names - n, " %.*s", APR_PRINTED(f->name));
    }
    return apr_fail(e, APR_EARG, APR_NOWHERE, "family %.*s has no forward pass; these have:%s", APR_PRINTED(x->family->name), names);
}

static enum apr_code find_family(struct engine *x, const struct options *o, const struct apr_hf_config *config, struct apr_error *e)
{
    const struct apr_family *either[2] = { 0 };
    const enum apr_model_kind kind = apr_model_kind(x->m);
    if (kind != APR_KIND_MODEL)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "it is %s, which does not run", apr_model_kind_text(kind));
    APR_TRY(apr_packing_sure(x->packing, "an unpacked checkpoint of it runs, or a GGUF", e));
    APR_TRY(apr_family_said(o->selection.families, x->m, &x->family, e));
    if (x->family == NULL)
        APR_TRY(apr_family_guessed(o->selection.families, x->m, &x->family, either, e));
    return x->family != NULL ? check_runs(x, o, e) : no_family(x->m, config, either, e);
}

static enum apr_code put_together(struct engine *x, const struct options *o, struct apr_error *e)
{
    struct apr_hf_config *config = NULL;
    if (x->m->config != NULL && apr_hf_config_new(&config, x->m->config->map, e) != APR_OK) {
        apr_error_in(e, x->m->config->path);
        return e->code;
    }
    const enum apr_code code = find_family(x, o, config, e);
    apr_hf_config_free(config);
    APR_TRY(code);
    APR_TRY(apr_bind(&x->binding, x->family, x->m, NULL, e));
    return apr_net_new(&x->net, o->cli.run.kernels, x->m, x->binding, e);
}

enum apr_code open_engine(struct engine *x, const struct options *o, const char *path, bool runs, struct apr_error *e)
{
    *x = (struct engine){ .path = path };
    enum apr_code code = apr_open(&x->opened, path, &o->cli.run, e);
    x->m = x->opened;
    if (code == APR_OK)
        code = apr_packing_open(&x->packing, x->m, e);
    if (x->packing != NULL)
        x->m = apr_packing_view(x->packing);
    if (code == APR_OK && runs)
        code = put_together(x, o, e);
    if (code != APR_OK)
        apr_error_in(e, path);
    return code;
}

enum apr_code need_encoder(struct engine *x, const struct options *o, struct apr_error *e)
{
    if (x->encoder != NULL)
        return APR_OK;
    const enum apr_code code = apr_encoder_new(&x->encoder, x->m, &o->cli.run, e);
    if (code != APR_OK)
        apr_error_in(e, x->path);
    return code;
}

enum apr_code need_encoder_for(struct engine *x, const struct options *o, const char *instead, struct apr_error *e)
{
    const enum apr_code code = need_encoder(x, o, e);
    if (code != APR_EARG)
        return code;
    apr_fail(e, code, APR_NOWHERE, "the model has no tokenizer: %s", instead);
    apr_error_in(e, x->path);
    return code;
}

enum apr_code try_encoder(struct engine *x, const struct options *o, struct apr_error *e)
{
    const enum apr_code code = need_encoder(x, o, e);
    return code == APR_EIO || code == APR_ENOMEM ? code : APR_OK;
}

void close_engine(struct engine *x)
{
    apr_encoder_free(x->encoder);
    apr_net_free(x->net);
    apr_binding_free(x->binding);
    apr_packing_free(x->packing);
    apr_close(x->opened);
}
