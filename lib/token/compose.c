/* Unicode's forms, with the tables of utf8proc. What it does in one call takes time that grows with the square of a run of marks, and
 * four bytes for each of a text: here it is done stretch by stretch, from one ASCII character, with which no form begins or ends
 * before it, to the next. */
#include "token/encode_parts.h"

#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "base/bytes.h"

#define MOST_PARTS 32 /* of a character that is taken apart; U+FDFA has 18 */

/* The characters of one stretch; `spare` has the same room. */
struct stretch {
    int32_t *at, *spare;
    size_t   n, room;
};

static enum apr_code make_room(struct stretch *s, struct apr_error *e)
{
    if (s->room - s->n >= MOST_PARTS)
        return APR_OK;
    const size_t room = s->room < 64 ? 128 : 2 * s->room;
    int32_t *at = realloc(s->at, room * sizeof *at);
    if (at == NULL)
        return apr_no_memory(e);
    s->at = at;
    int32_t *spare = realloc(s->spare, room * sizeof *spare);
    if (spare == NULL)
        return apr_no_memory(e);
    s->spare = spare;
    s->room = room;
    return APR_OK;
}

static unsigned class_of(int32_t c) { return c < 0x300 ? 0 : (unsigned)utf8proc_get_property(c)->combining_class & 0xFF; }

/* Puts a run of marks, of which none is of class 0, in the order of their classes; those of one class keep theirs. */
static void order_run(int32_t *at, size_t n, int32_t *spare)
{
    size_t begin[257] = { 0 };
    for (size_t i = 0; i < n; i++)
        begin[class_of(at[i]) + 1]++;
    for (size_t i = 1; i < 257; i++)
        begin[i] += begin[i - 1];
    for (size_t i = 0; i < n; i++)
        spare[begin[class_of(at[i])]++] = at[i];
    memcpy(at, spare, n * sizeof *at);
}

static void order_marks(struct stretch *s)
{
    for (size_t i = 0, end; i < s->n; i = end) {
        bool ordered = true;
        unsigned last = class_of(s->at[i]);
        end = i + 1;
        if (last == 0)
            continue;
        for (unsigned next; end < s->n && (next = class_of(s->at[end])) != 0; end++, last = next)
            ordered = ordered && last <= next;
        if (!ordered)
            order_run(s->at + i, end - i, s->spare);
    }
}

/* Takes the characters up to the next ASCII one apart; *i is then there. */
static enum apr_code take_apart(struct stretch *s, enum apr_form form, struct apr_bytes text, size_t *i, struct apr_error *e)
{
    const utf8proc_option_t how = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (form == APR_NFKC || form == APR_NFKD ? UTF8PROC_COMPAT : 0);
    int last = 0;
    size_t step;
    s->n = 0;
    do {
        const int32_t c = (int32_t)apr_character(text.at + *i, text.n - *i, &step);
        APR_TRY(make_room(s, e));
        const utf8proc_ssize_t n = utf8proc_decompose_char(c, s->at + s->n, MOST_PARTS, how, &last);
        if (n > 0 && n <= MOST_PARTS)
            s->n += (size_t)n;
        else
            s->at[s->n++] = c;
        *i += step;
    } while (*i < text.n && text.at[*i] >= 0x80);
    order_marks(s);
    return APR_OK;
}

static enum apr_code put_stretch(struct stretch *s, enum apr_form form, struct apr_made *out, struct apr_error *e)
{
    if (form == APR_NFC || form == APR_NFKC) {
        const utf8proc_ssize_t n = utf8proc_normalize_utf32(s->at, (utf8proc_ssize_t)s->n, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        if (n >= 0)
            s->n = (size_t)n;
    }
    for (size_t i = 0; i < s->n; i++)
        APR_TRY(apr_made_character(out, (uint32_t)s->at[i], e));
    return APR_OK;
}

static enum apr_code compose(struct stretch *s, enum apr_form form, struct apr_bytes text, struct apr_made *out, struct apr_error *e)
{
    for (size_t i = 0; i < text.n;) {
        size_t end = i;
        while (end < text.n && text.at[end] < 0x80)
            end++;
        if (end < text.n && end > i)
            end--; /* the last one may take marks */
        APR_TRY(apr_made_add(out, (struct apr_bytes){ text.at + i, end - i }, e));
        i = end;
        if (i < text.n) {
            APR_TRY(take_apart(s, form, text, &i, e));
            APR_TRY(put_stretch(s, form, out, e));
        }
    }
    return APR_OK;
}

enum apr_code apr_compose(enum apr_form form, struct apr_bytes text, struct apr_made *out, struct apr_error *e)
{
    struct stretch s = { 0 };
    out->n = 0;
    const enum apr_code code = compose(&s, form, text, out, e);
    free(s.at);
    free(s.spare);
    return code;
}
