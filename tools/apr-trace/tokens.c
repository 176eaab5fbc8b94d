/* The input: ids as they are given, a text cut by the tokenizer, features. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "token/ids.h"
#include "trace.h"

/* ---- ids ------------------------------------------------------------------------------------------------------------ */

static enum apr_code read_ids_of_option(struct trace *t, struct apr_error *e)
{
    struct apr_error why;
    if (apr_ids_read(&t->ids, apr_text(t->o->tokens), t->engine.net->embedding.nout, false, &why) == APR_OK)
        return APR_OK;
    return apr_fail(e, why.code, APR_NOWHERE, "--tokens: %s", why.text);
}

static enum apr_code read_prompt(struct trace *t, struct apr_error *e)
{
    const uint64_t rows = t->engine.net->embedding.nout;
    APR_TRY(need_encoder_for(&t->engine, t->o, "--tokens and --tokens-file take ids", e));
    APR_TRY(apr_encode(t->engine.encoder, apr_text(t->o->prompt), !t->o->no_special, &t->ids, e));
    if (t->ids.n == 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--prompt: the tokenizer makes no token of it");
    for (size_t i = 0; i < t->ids.n; i++)
        if (t->ids.id[i] >= rows)
            return apr_fail(e, APR_EARG, APR_NOWHERE, "--prompt: the tokenizer gives token %lu, the embedding ends at %llu",
                            (unsigned long)t->ids.id[i], (unsigned long long)rows - 1);
    return APR_OK;
}

/* ---- features ------------------------------------------------------------------------------------------------------- */

/* A finite number, the whole word. */
static enum apr_code read_feature(struct apr_bytes word, float *x, struct apr_error *e)
{
    char text[64], *end;
    if (word.n > 0 && word.n < sizeof text) {
        memcpy(text, word.at, word.n);
        text[word.n] = 0;
        const double v = strtod(text, &end);
        *x = (float)v;
        if (strspn(text, "0123456789+-.eE") == word.n && *end == 0 && isfinite(*x))
            return APR_OK;
    }
    return apr_fail(e, APR_EARG, APR_NOWHERE, "--features: %s is no finite number", APR_QUOTED(word));
}

static enum apr_code read_features(struct trace *t, struct apr_error *e)
{
    const struct apr_bytes text = apr_text(t->o->features);
    const uint64_t want = t->engine.net->hidden;
    size_t at = 0, n = 0, most = 1;
    for (size_t i = 0; i < text.n; i++)
        most += text.at[i] == ',';
    t->feature = malloc(most * sizeof *t->feature);
    if (t->feature == NULL)
        return apr_no_memory(e);
    for (; n < most; at++) {
        at = apr_skip_blanks(text, at);
        APR_TRY(read_feature(apr_next_word(text, &at), &t->feature[n++], e));
        at = apr_skip_blanks(text, at);
        if (at < text.n && text.at[at] != ',')
            return apr_fail(e, APR_EARG, APR_NOWHERE, "--features are parted by commas");
    }
    if (n != want)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--features: %zu numbers, where the model takes %llu", n, (unsigned long long)want);
    t->nrow = 1;
    return APR_OK;
}

/* ---- all of them ---------------------------------------------------------------------------------------------------- */

enum apr_code read_input(struct trace *t, struct apr_error *e)
{
    const struct options *const o = t->o;
    const bool classic = t->engine.net->features;
    if (classic && o->features == NULL)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "it is a classic model, which takes no tokens: --features X,Y,... gives it %llu numbers",
                        (unsigned long long)t->engine.net->hidden);
    if (!classic && o->features != NULL)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--features are for classic models; this one takes tokens: --tokens, --tokens-file or "
                        "--prompt");
    if (classic)
        return read_features(t, e);
    return o->prompt != NULL ? read_prompt(t, e) : o->tokens != NULL ? read_ids_of_option(t, e)
                             : apr_ids_of_file(&t->ids, o->tokens_file, t->engine.net->embedding.nout, &o->cli.run, e);
}
