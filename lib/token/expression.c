/* PCRE2 interprets: no memory is executable, and steps are the same everywhere. Its classes are those of its Unicode version. */
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "token/expression_parts.h"

#include "base/bytes.h"

#define MOST_TEXT   65536u              /* bytes of an expression */
#define MOST_CODE   (1u << 20)          /* bytes that it compiles to */
#define MOST_FRAMES (1u << 20)          /* KiB of what a match may come back to */
#define FEW_STEPS   1024u               /* that a match may take without being counted */
#define FREE_STEPS  ((uint64_t)1 << 24) /* that all of them may take, and for each byte of a text: */
#define BYTE_STEPS  256u

/* left     steps that may be taken yet
 *   first  a bit for each byte that a match may begin with; NULL: any */
struct apr_expression {
    pcre2_code          *code;
    pcre2_match_context *context;
    pcre2_match_data    *data;
    uint64_t             left;
    const uint8_t       *first;
};

/* ---- compiling ------------------------------------------------------------------------------------------------------- */

static enum apr_code compile(struct apr_expression *x, struct apr_bytes spelled, uint32_t options, struct apr_bytes text,
                             struct apr_error *e)
{
    int fault;
    size_t at, bytes = 0;
    unsigned char why[160];
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (context == NULL)
        return apr_no_memory(e);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    x->code = pcre2_compile(spelled.at, spelled.n, options | PCRE2_UTF | PCRE2_UCP | PCRE2_NO_AUTO_CAPTURE | PCRE2_NEVER_BACKSLASH_C,
                            &fault, &at, context);
    pcre2_compile_context_free(context);
    if (x->code == NULL && (fault == PCRE2_ERROR_NOMEMORY || fault == PCRE2_ERROR_HEAP_FAILED))
        return apr_no_memory(e);
    if (x->code == NULL) {
        pcre2_get_error_message(fault, why, sizeof why);
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "the expression %s is not understood: %s", APR_QUOTED(text), (char *)why);
    }
    pcre2_pattern_info(x->code, PCRE2_INFO_SIZE, &bytes);
    pcre2_pattern_info(x->code, PCRE2_INFO_FIRSTBITMAP, &x->first);
    return bytes <= MOST_CODE ? APR_OK
                              : apr_fail(e, APR_ELIMIT, APR_NOWHERE, "the expression %s compiles to %zu bytes, more than %u",
                                         APR_QUOTED(text), bytes, MOST_CODE);
}

static enum apr_code make(struct apr_expression *x, struct apr_bytes text, bool huggingface, struct apr_error *e)
{
    struct apr_made spelled = { 0 };
    enum apr_code code = APR_OK;
    if (text.n > MOST_TEXT)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "an expression of %zu bytes, more than %u", text.n, MOST_TEXT);
    if (!apr_is_utf8(text))
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "the expression %s is no UTF-8", APR_QUOTED(text));
    if (huggingface)
        code = apr_spell_expression(&spelled, text, e);
    if (code == APR_OK)
        code = compile(x, huggingface ? (struct apr_bytes){ spelled.at, spelled.n } : text,
                       huggingface ? PCRE2_MULTILINE : PCRE2_DOLLAR_ENDONLY, text, e);
    free(spelled.at);
    if (code != APR_OK)
        return code;
    x->context = pcre2_match_context_create(NULL);
    x->data = pcre2_match_data_create(1, NULL);
    if (x->context == NULL || x->data == NULL)
        return apr_no_memory(e);
    pcre2_set_heap_limit(x->context, MOST_FRAMES);
    x->left = FREE_STEPS;
    return APR_OK;
}

enum apr_code apr_expression_new(struct apr_expression **out, struct apr_bytes text, bool huggingface, struct apr_error *e)
{
    struct apr_expression *x = *out = calloc(1, sizeof *x);
    if (x == NULL)
        return apr_no_memory(e);
    const enum apr_code code = make(x, text.n == 0 ? apr_text("") : text, huggingface, e);
    if (code != APR_OK) {
        apr_expression_free(x);
        *out = NULL;
    }
    return code;
}

void apr_expression_free(struct apr_expression *x)
{
    if (x == NULL)
        return;
    pcre2_match_data_free(x->data);
    pcre2_match_context_free(x->context);
    pcre2_code_free(x->code);
    free(x);
}

/* ---- matching -------------------------------------------------------------------------------------------------------- */

/* At one place. Few steps are not counted; who takes them all tries again with more, and is counted what was tried in vain. */
static int match_at(struct apr_expression *x, struct apr_bytes text, size_t at)
{
    for (uint64_t most = FEW_STEPS;; most *= 16) {
        pcre2_set_match_limit(x->context, most > UINT32_MAX ? UINT32_MAX : (uint32_t)most);
        const int found = pcre2_match(x->code, text.at, text.n, at, PCRE2_ANCHORED | PCRE2_NO_UTF_CHECK, x->data, x->context);
        if (found != PCRE2_ERROR_MATCHLIMIT || x->left < most)
            return found;
        x->left -= most;
    }
}

enum apr_code apr_expression_next(struct apr_expression *x, struct apr_bytes text, size_t from, size_t *begin, size_t *end, bool *found,
                                  struct apr_error *e)
{
    *found = false;
    if (from == 0)
        x->left += BYTE_STEPS * (uint64_t)text.n;
    if (text.at == NULL)
        text.at = (const unsigned char *)"";
    for (size_t at = from, step; at <= text.n; at += step) {
        step = at == text.n ? 1 : apr_utf8_length(text.at + at, text.n - at);
        if (x->first != NULL && (at == text.n || !(x->first[text.at[at] / 8] >> text.at[at] % 8 & 1)))
            continue;
        const int n = match_at(x, text, at);
        if (n == PCRE2_ERROR_NOMATCH)
            continue;
        if (n == PCRE2_ERROR_NOMEMORY)
            return apr_no_memory(e);
        if (n < 0)
            return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "an expression of the tokenizer takes more steps than are accepted");
        *begin = at;
        *end = pcre2_get_ovector_pointer(x->data)[1];
        *found = true;
        return APR_OK;
    }
    return APR_OK;
}
