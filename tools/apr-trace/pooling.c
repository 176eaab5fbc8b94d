/* Of an encoder: one vector of all positions. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "model/hf_config.h"
#include "model/side.h"
#include "trace.h"

enum pooling { POOL_NONE, POOL_MEAN, POOL_CLS, POOL_LAST, POOL_RANK, NPOOLINGS }; /* GGUF's numbers */

/* sentence-transformers says it in a file of its own; *n stays what it is where that says nothing. */
static enum apr_code read_side(const struct trace *t, unsigned *n, struct apr_error *e)
{
    static const char name[] = "1_Pooling/config.json";
    static const char *const mode[] = { NULL, "pooling_mode_mean_tokens", "pooling_mode_cls_token", "pooling_mode_lasttoken" };
    struct apr_side side = { 0 };
    struct apr_hf_config *c = NULL;
    enum apr_code code = apr_side_of(&side, t->engine.m, &t->o->cli.run, e);
    const struct apr_bytes text = code == APR_OK ? apr_side_get(&side, name) : (struct apr_bytes){ 0 };
    if (text.n > 0)
        code = apr_side_in(&side, name, apr_hf_config_new(&c, text, e), e);
    for (unsigned i = 1; c != NULL && i < APR_LENGTH(mode); i++) {
        double on;
        if (apr_hf_config_number(c, apr_text(mode[i]), &on) && on != 0) {
            *n = i;
            break;
        }
    }
    apr_hf_config_free(c);
    apr_side_end(&side);
    return code;
}

static enum apr_code find_pooling(const struct trace *t, unsigned *n, struct apr_error *e)
{
    double number;
    *n = POOL_MEAN;
    APR_TRY(read_side(t, n, e));
    if (apr_binding_number(t->engine.binding, apr_text("pooling_type"), &number) && number >= 0 && number < NPOOLINGS)
        *n = (unsigned)number;
    return APR_OK;
}

static void mean_of(const struct trace *t, float *out)
{
    const uint64_t n = t->engine.net->hidden, rows = positions_of(t);
    for (uint64_t i = 0; i < n; i++) {
        double sum = 0;
        for (uint64_t p = 0; p < rows; p++)
            sum += apr_sequence_final(t->sequence, p)[i];
        out[i] = (float)(sum / (double)rows);
    }
}

/* Roles of classifiers: cls, cls_output ... What the labels come out of is behind the dense layer that the first may be. */
bool is_classifier(const struct trace *t, struct apr_bytes *head)
{
    static const char stem[] = "cls";
    bool found = false;
    for (size_t i = 0; i < t->engine.m->ntensor; i++) {
        const struct apr_tensor *const x = &t->engine.m->tensor[i];
        struct apr_meaning meaning;
        if (x->ndim < 2 || !apr_binding_meaning(t->engine.binding, x, 0, &meaning))
            continue;
        const struct apr_bytes role = meaning.role->name;
        if (role.n < sizeof stem - 1 || memcmp(role.at, stem, sizeof stem - 1) != 0 || (found && apr_bytes_is(role, stem)))
            continue;
        found = true;
        *head = x->name;
    }
    return found;
}

enum apr_code pool(const struct trace *t, const char **pooling, float **vector, struct apr_error *e)
{
    static const char *const words[NPOOLINGS] = { "none", "mean", "cls", "last", "rank" };
    const uint64_t n = t->engine.net->hidden;
    unsigned kind;
    *vector = NULL;
    APR_TRY(find_pooling(t, &kind, e));
    *pooling = words[kind];
    if (kind == POOL_NONE || kind == POOL_RANK)
        return APR_OK;
    *vector = malloc(n * sizeof **vector);
    if (*vector == NULL)
        return apr_no_memory(e);
    if (kind == POOL_MEAN)
        mean_of(t, *vector);
    else
        memcpy(*vector, apr_sequence_final(t->sequence, kind == POOL_CLS ? 0 : positions_of(t) - 1), n * sizeof **vector);
    return APR_OK;
}
