#include "csv.h"

#include <string.h>

/* Behind the quotes that end at or after s, or NULL. */
static const unsigned char *closing(const unsigned char *s, const unsigned char *end, bool *doubled)
{
    while ((s = memchr(s, '"', (size_t)(end - s))) != NULL) {
        if (s + 1 == end || s[1] != '"')
            return s + 1;
        *doubled = true;
        s += 2;
    }
    return NULL;
}

static uint64_t lines_in(const unsigned char *s, const unsigned char *end)
{
    uint64_t n = 0;
    for (; (s = memchr(s, '\n', (size_t)(end - s))) != NULL; s++)
        n++;
    return n;
}

/* What stands at c->at, where a field has ended; steps over it. */
static enum csv_after after_field(struct csv *c)
{
    if (c->at == c->end)
        return CSV_ROW;
    if (*c->at == c->delimiter) {
        c->at++;
        return CSV_FIELD;
    }
    const bool carriage = *c->at == '\r' && (c->at + 1 == c->end || c->at[1] == '\n');
    if (!carriage && *c->at != '\n')
        return CSV_BEHIND;
    c->at += carriage;
    c->at += c->at < c->end;
    c->line++;
    return CSV_ROW;
}

static enum csv_after quoted(struct csv *c, struct csv_field *f)
{
    const unsigned char *const from = c->at + 1, *const behind = closing(from, c->end, &f->doubled);
    f->quoted = true;
    if (behind == NULL) {
        f->text = (struct apr_bytes){ from, (size_t)(c->end - from) };
        return CSV_OPEN;
    }
    f->text = (struct apr_bytes){ from, (size_t)(behind - 1 - from) };
    c->line += lines_in(from, behind);
    c->at = behind;
    return after_field(c);
}

enum csv_after csv_next(struct csv *c, struct csv_field *f)
{
    *f = (struct csv_field){ 0 };
    if (c->at < c->end && *c->at == '"')
        return quoted(c, f);
    const unsigned char *const from = c->at;
    while (c->at < c->end && *c->at != c->delimiter && *c->at != '\n')
        c->at++;
    const bool carriage = c->at > from && c->at[-1] == '\r' && (c->at == c->end || *c->at == '\n');
    f->text = (struct apr_bytes){ from, (size_t)(c->at - from) - carriage };
    return after_field(c);
}

bool csv_row(struct csv *c)
{
    for (; c->at < c->end; c->line++) {
        const size_t carriage = *c->at == '\r' && (c->at + 1 == c->end || c->at[1] == '\n');
        if (carriage == 0 && *c->at != '\n')
            return true;
        c->at += carriage;
        c->at += c->at < c->end;
    }
    return false;
}

const unsigned char *csv_last_row(const unsigned char *from, const unsigned char *end, unsigned char delimiter, uint64_t *lines)
{
    if (memchr(from, '"', (size_t)(end - from)) == NULL) {
        const unsigned char *const last = memrchr(from, '\n', (size_t)(end - from));
        *lines = last == NULL ? 0 : lines_in(from, last + 1);
        return last == NULL ? from : last + 1;
    }
    struct csv c = { from, end, delimiter, 0 };
    struct csv_field f;
    *lines = 0;
    while (c.at < end) {
        const enum csv_after after = csv_next(&c, &f);
        if (after == CSV_ROW && end[-1] == '\n' && c.at == end) {
            *lines = c.line;
            return end;
        }
        if (after == CSV_OPEN || c.at == end)
            return from;
        if (after == CSV_BEHIND)
            c.at++; /* whoever reads the row will say so */
        if (after == CSV_ROW) {
            from = c.at;
            *lines = c.line;
        }
    }
    return from;
}

struct apr_bytes csv_text(const struct csv_field *f, unsigned char *room)
{
    if (!f->doubled)
        return f->text;
    size_t n = 0;
    for (size_t i = 0; i < f->text.n; i++) {
        room[n++] = f->text.at[i];
        i += f->text.at[i] == '"' && i + 1 < f->text.n && f->text.at[i + 1] == '"';
    }
    return (struct apr_bytes){ room, n };
}
