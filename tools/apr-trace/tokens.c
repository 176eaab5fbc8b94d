/* The input: ids as they are given, a text cut by the tokenizer, features. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "files/source.h"
#include "trace.h"

#define MOST_IDS ((size_t)1 << 24) /* a hundred times the longest context */

/* ---- ids ------------------------------------------------------------------------------------------------------------ */

static bool is_blank(unsigned char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/* The next word of a list that ends at ',' or a blank; `at` goes to where it begins, and behind it. */
static struct apr_bytes next_word(struct apr_bytes text, size_t *at)
{
    size_t end = *at;
    while (end < text.n && text.at[end] != ',' && !is_blank(text.at[end]))
        end++;
    const struct apr_bytes word = { text.at + *at, end - *at };
    *at = end;
    return word;
}

static size_t skip_blanks(struct apr_bytes text, size_t at)
{
    while (at < text.n && is_blank(text.at[at]))
        at++;
    return at;
}

size_t read_digits(struct apr_bytes text, uint64_t *n)
{
    size_t i = 0;
    bool large = false;
    for (*n = 0; i < text.n && text.at[i] >= '0' && text.at[i] <= '9'; i++)
        large |= !apr_mul(*n, 10, n) || !apr_add(*n, (uint64_t)(text.at[i] - '0'), n);
    *n = large ? UINT64_MAX : *n;
    return i;
}

/* Digits alone, and below `rows`. */
static enum apr_code read_id(struct apr_bytes word, uint64_t rows, uint64_t where, uint32_t *id, struct apr_error *e)
{
    uint64_t v;
    if (word.n == 0)
        return apr_fail(e, APR_EARG, where, "a token id is missing beside a comma");
    if (read_digits(word, &v) < word.n)
        return apr_fail(e, APR_EARG, where, "%s is no token id", APR_QUOTED(word));
    if (v >= rows || v > UINT32_MAX)
        return apr_fail(e, APR_EARG, where, "token %s is past the vocabulary, which ends at %llu", APR_QUOTED(word),
                        (unsigned long long)rows - 1);
    *id = (uint32_t)v;
    return APR_OK;
}

/* Ids parted by a comma, with or without blanks around it, or by blanks. in_file: messages say at which byte. */
static enum apr_code read_ids(struct trace *t, struct apr_bytes text, bool in_file, struct apr_error *e)
{
    const uint64_t rows = t->engine.net->embedding.nout;
    size_t at = skip_blanks(text, 0);
    bool more = at < text.n;
    while (more) {
        const uint64_t where = in_file ? at : APR_NOWHERE;
        uint32_t id;
        APR_TRY(read_id(next_word(text, &at), rows, where, &id, e));
        if (t->ids.n == MOST_IDS)
            return apr_fail(e, APR_ELIMIT, where, "more than %zu token ids", MOST_IDS);
        APR_TRY(apr_ids_add(&t->ids, id, e));
        at = skip_blanks(text, at);
        const bool comma = at < text.n && text.at[at] == ',';
        at = comma ? skip_blanks(text, at + 1) : at;
        more = comma || at < text.n;
    }
    return t->ids.n > 0 ? APR_OK : apr_fail(e, APR_EARG, APR_NOWHERE, "there are no token ids in it");
}

static enum apr_code read_ids_of_file(struct trace *t, struct apr_error *e)
{
    const char *const path = t->o->tokens_file;
    struct apr_source *s = NULL;
    enum apr_code code = apr_source_open(&s, path, &t->o->cli.run, e);
    if (code == APR_OK)
        code = apr_source_end(s, read_ids(t, s->map, true, e), e);
    if (code != APR_OK)
        apr_error_in(e, path);
    return code;
}

static enum apr_code read_ids_of_option(struct trace *t, struct apr_error *e)
{
    struct apr_error why;
    if (read_ids(t, apr_text(t->o->tokens), false, &why) == APR_OK)
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
        at = skip_blanks(text, at);
        APR_TRY(read_feature(next_word(text, &at), &t->feature[n++], e));
        at = skip_blanks(text, at);
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
    return o->prompt != NULL ? read_prompt(t, e) : o->tokens != NULL ? read_ids_of_option(t, e) : read_ids_of_file(t, e);
}
