/* Rows to text or JSON: spelling numbers, escaping strings, putting commas. */
#include "ui/report.h"

#include <assert.h>
#include <float.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/meta.h"

#define SHOWN_OF_LONG_ARRAYS 16

/* ---- JSON ---------------------------------------------------------------------------------------------------------- */

static size_t write_bytes(FILE *to, const unsigned char *from, size_t n)
{
    if (n)
        fwrite(from, 1, n, to);
    return n;
}

/* A character of a JSON string that does not stand for itself, at s; returns how many bytes it takes. */
static size_t write_escape(FILE *to, const unsigned char *s, size_t n)
{
    static const char named[] = "\bb\ff\nn\rr\tt\"\"\\\\"; /* a byte, and what follows the backslash that stands for it */
    const size_t length = apr_utf8_length(s, n);
    const char *name = memchr(named, *s, sizeof named - 1);
    if (length == 0)
        fputs("\xEF\xBF\xBD", to);
    else if (length == 1 && name != NULL)
        fprintf(to, "\\%c", name[1]);
    else
        fprintf(to, "\\u%04x", length == 1 ? *s : length == 2 ? (s[0] & 0x1Fu) << 6 | (s[1] & 0x3Fu)
                                                           : (s[0] & 0xFu) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu));
    return length == 0 ? 1 : length;
}

/* Runs of bytes that stand for themselves are written at once. */
static void write_string(FILE *to, struct apr_bytes s)
{
    size_t run = 0, i = 0;

    putc('"', to);
    while (i < s.n) {
        const size_t length = apr_shown_length(&s.at[i], s.n - i);
        if (length && s.at[i] != '"' && s.at[i] != '\\') {
            i += length;
            continue;
        }
        write_bytes(to, &s.at[run], i - run);
        run = i += write_escape(to, &s.at[i], s.n - i);
    }
    if (run < s.n)
        write_bytes(to, &s.at[run], s.n - run);
    putc('"', to);
}

/* What stands before a value: a comma unless it is the first here, and its key. */
static void before(struct apr_out *o, const char *key)
{
    if (o->comma[o->depth])
        putc(',', o->to);
    o->comma[o->depth] = true;
    if (key) {
        write_string(o->to, (struct apr_bytes){ (const unsigned char *)key, strlen(key) });
        putc(':', o->to);
    }
}

void apr_out_open(struct apr_out *o, const char *key, char bracket)
{
    assert(o->depth + 1 < APR_OUT_DEPTH);
    before(o, key);
    putc(bracket, o->to);
    o->comma[++o->depth] = false;
}

void apr_out_close(struct apr_out *o, char bracket)
{
    assert(o->depth);
    o->depth--;
    putc(bracket, o->to);
}

void apr_out_key(struct apr_out *o, struct apr_bytes key)
{
    before(o, NULL);
    write_string(o->to, key);
    putc(':', o->to);
    o->comma[o->depth] = false;
}

void apr_out_bytes(struct apr_out *o, const char *key, struct apr_bytes s)
{
    before(o, key);
    write_string(o->to, s);
}

void apr_out_hex(struct apr_out *o, const char *key, struct apr_bytes s)
{
    before(o, key);
    fputc('"', o->to);
    for (size_t i = 0; i < s.n; i++)
        fprintf(o->to, "%02x", s.at[i]);
    fputc('"', o->to);
}

void apr_out_text(struct apr_out *o, const char *key, const char *s)
{
    if (s)
        apr_out_bytes(o, key, (struct apr_bytes){ (const unsigned char *)s, strlen(s) });
    else
        apr_out_null(o, key);
}

void apr_out_real(struct apr_out *o, const char *key, double v)
{
    char spelled[32];
    before(o, key);
    fputs(isfinite(v) ? apr_spell_real(v, spelled) : "null", o->to);
}

void apr_out_count(struct apr_out *o, const char *key, uint64_t v)
{
    before(o, key);
    fprintf(o->to, "%" PRIu64, v);
}

void apr_out_int(struct apr_out *o, const char *key, int64_t v)
{
    before(o, key);
    fprintf(o->to, "%" PRId64, v);
}

void apr_out_bool(struct apr_out *o, const char *key, bool v)
{
    before(o, key);
    fputs(v ? "true" : "false", o->to);
}

void apr_out_null(struct apr_out *o, const char *key)
{
    before(o, key);
    fputs("null", o->to);
}

/* White space between tokens goes: a line of JSON Lines stays one line. So does what a string holds and may not be shown. */
void apr_out_raw(struct apr_out *o, const char *key, struct apr_bytes json)
{
    bool quoted = false, escaped = false;

    before(o, key);
    for (size_t i = 0; i < json.n;) {
        const unsigned char byte = json.at[i];
        const size_t length = byte < 0x80 && byte != 0x7F ? 1 : apr_shown_length(&json.at[i], json.n - i);
        if (byte == '"' && !escaped)
            quoted = !quoted;
        escaped = byte == '\\' && !escaped;
        if (length == 0)
            i += write_escape(o->to, &json.at[i], json.n - i);
        else if (quoted || (byte != ' ' && byte != '\t' && byte != '\n' && byte != '\r'))
            i += write_bytes(o->to, &json.at[i], length);
        else
            i++;
    }
}

void apr_out_counts(struct apr_out *o, const char *key, const uint64_t *v, size_t n)
{
    apr_out_open(o, key, '[');
    for (size_t i = 0; i < n; i++)
        apr_out_count(o, NULL, v[i]);
    apr_out_close(o, ']');
}

static void elements(struct apr_out *o, const char *key, const struct apr_value *array, uint64_t n, uint64_t most)
{
    struct apr_elements w = apr_elements_of(array);
    struct apr_value v;

    apr_out_open(o, key, '[');
    for (uint64_t i = 0; i < n && apr_elements_next(&w, &v); i++)
        apr_out_value(o, NULL, &v, most);
    apr_out_close(o, ']');
    apr_elements_end(&w);
}

static void array_value(struct apr_out *o, const char *key, const struct apr_value *v, uint64_t most)
{
    const uint64_t n = apr_meta_length(v);

    if (o->depth + 3 >= APR_OUT_DEPTH) {    /* room for {"first":[...]}: nesting is the file's choice */
        apr_out_null(o, key);
    } else if (most && n > most) {
        apr_out_open(o, key, '{');
        apr_out_text(o, "type", apr_meta_type_word(v->element));
        apr_out_count(o, "len", n);
        elements(o, "first", v, SHOWN_OF_LONG_ARRAYS, most);
        apr_out_close(o, '}');
    } else if (v->encoding == APR_JSON) {
        apr_out_raw(o, key, v->text);
    } else {
        elements(o, key, v, n, most);
    }
}

void apr_out_value(struct apr_out *o, const char *key, const struct apr_value *v, uint64_t most)
{
    const bool spelled = v->encoding == APR_JSON && v->text.n;  /* numbers keep the file's spelling, and so every digit */

    switch (v->type) {
    case APR_META_U8: case APR_META_U16: case APR_META_U32: case APR_META_U64:
        if (spelled)
            apr_out_raw(o, key, v->text);
        else
            apr_out_count(o, key, v->u);
        break;
    case APR_META_I8: case APR_META_I16: case APR_META_I32: case APR_META_I64:
        if (spelled)
            apr_out_raw(o, key, v->text);
        else
            apr_out_int(o, key, v->i);
        break;
    case APR_META_F32: case APR_META_F64:
        if (spelled)
            apr_out_raw(o, key, v->text);
        else
            apr_out_real(o, key, v->f);
        break;
    case APR_META_BOOL:
        apr_out_bool(o, key, v->b);
        break;
    case APR_META_STRING:
        apr_out_bytes(o, key, v->text);
        break;
    case APR_META_ARRAY:
        array_value(o, key, v, most);
        break;
    case APR_META_OBJECT:
        apr_out_raw(o, key, v->text);
        break;
    case APR_META_NULL: case APR_META_ANY:
        apr_out_null(o, key);
        break;
    }
}

void apr_out_error(struct apr_out *o, const struct apr_error *e)
{
    apr_out_open(o, "error", '{');
    apr_out_text(o, "code", apr_code_word(e->code));
    if (e->at == APR_NOWHERE)
        apr_out_null(o, "at");
    else
        apr_out_count(o, "at", e->at);
    apr_out_text(o, "text", e->text);
    apr_out_close(o, '}');
}

void apr_out_line(struct apr_out *o)
{
    putc('\n', o->to);
    o->comma[0] = false;
}

/* ---- a report ------------------------------------------------------------------------------------------------------ */

static void write_subject(struct apr_report *r)
{
    apr_out_open(r->out, NULL, '{');
    apr_out_text(r->out, "schema", r->schema);
    if (r->subject != NULL)
        r->subject(r->out, r->about);
}

void apr_report_begin(struct apr_report *r)
{
    r->summed = r->rows == NULL;
    if (!r->lines)
        write_subject(r);
    if (!r->lines && r->rows != NULL)
        apr_out_open(r->out, r->rows, '[');
}

void apr_report_row(struct apr_report *r) { apr_out_open(r->out, NULL, '{'); }

void apr_report_row_end(struct apr_report *r)
{
    apr_out_close(r->out, '}');
    if (r->lines)
        apr_out_line(r->out);
}

void apr_report_sum(struct apr_report *r)
{
    r->summed = true;
    if (r->lines)
        write_subject(r);
    else
        apr_out_close(r->out, ']');
}

/* Nothing else in the object says which file it is. */
static void write_error(const struct apr_report *r, const struct apr_error *why)
{
    struct apr_error about, named = *why;
    apr_fail(&about, APR_OK, APR_NOWHERE, "-");
    if (r->file != NULL)
        apr_error_in(&about, r->file);
    if (r->file != NULL && *why->file != 0 && strcmp(why->file, about.file) != 0)
        apr_fail(&named, why->code, why->at, "%s: %s", why->file, why->text);
    apr_out_error(r->out, &named);
}

void apr_report_end(struct apr_report *r, const struct apr_error *why)
{
    if (!r->summed)
        apr_report_sum(r);
    if (why != NULL)
        write_error(r, why);
    apr_out_close(r->out, '}');
    apr_out_line(r->out);
}

/* ---- numbers ------------------------------------------------------------------------------------------------------- */

/* A normal double that has a spelling of 15 digits or fewer gives it back at %.15g; a subnormal has fewer bits, so fewer digits. */
const char *apr_spell_real(double v, char buffer[32])
{
    if (v == 0)                             /* -0 too: its sign says nothing to a reader of reports */
        return strcpy(buffer, "0");
    const locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0), users = uselocale(plain);
    for (int digits = fabs(v) < DBL_MIN ? 1 : 15; digits <= 17; digits++)
        if (snprintf(buffer, 32, "%.*g", digits, v) < 32 && strtod(buffer, NULL) == v)
            break;
    uselocale(users);
    if (plain)
        freelocale(plain);
    return buffer;
}

/* ---- text for people ----------------------------------------------------------------------------------------------- */

void apr_print_bytes(FILE *to, struct apr_bytes s)
{
    for (size_t i = 0; i < s.n;) {
        const size_t length = apr_shown_length(&s.at[i], s.n - i);
        if (length)
            fwrite(&s.at[i], 1, length, to);
        else
            fprintf(to, "\\x%02x", s.at[i]);
        i += length ? length : 1;
    }
}

void apr_print_text(FILE *to, const char *s) { apr_print_bytes(to, (struct apr_bytes){ (const unsigned char *)s, strlen(s) }); }

size_t apr_columns(struct apr_bytes s)
{
    size_t columns = 0;
    for (size_t i = 0; i < s.n;) {
        const size_t length = apr_shown_length(&s.at[i], s.n - i);
        columns += length ? 1 : strlen("\\xNN");
        i += length ? length : 1;
    }
    return columns;
}

const char *apr_spell_shape(const uint64_t *dim, unsigned ndim, char buffer[176])
{
    size_t n = 0;
    buffer[n++] = '[';
    for (unsigned i = 0; i < ndim && n < 150; i++)     /* 8 dimensions of 20 digits would be too long, but have no 64-bit product */
        n += (size_t)snprintf(buffer + n, 176 - n, "%s%" PRIu64, i ? ", " : "", dim[i]);
    strcpy(buffer + n, "]");
    return buffer;
}

/* n / unit, half rounded up. */
static uint64_t rounded(uint64_t n, uint64_t unit) { return n / unit + (n % unit >= unit - unit / 2); }

const char *apr_spell_size(uint64_t n, char buffer[32])
{
    static const char *const word[] = { "B", "kB", "MB", "GB", "TB", "PB", "EB" };
    uint64_t unit = 1;
    unsigned w = 0;

    for (; rounded(n, unit) >= 1000; w++)   /* 999,500 is 1.0 MB, not 1000 kB */
        unit *= 1000;
    const uint64_t tenths = unit > 1 ? rounded(n, unit / 10) : 0;
    if (tenths && tenths < 1000)
        snprintf(buffer, 32, "%" PRIu64 ".%" PRIu64 " %s", tenths / 10, tenths % 10, word[w]);
    else
        snprintf(buffer, 32, "%" PRIu64 " %s", rounded(n, unit), word[w]);
    return buffer;
}

const char *apr_style(bool colour, enum apr_style s)
{
    static const char *const escape[] = {
        [APR_PLAIN] = "\033[0m", [APR_BOLD] = "\033[1m", [APR_DIM] = "\033[2m",
        [APR_RED] = "\033[31m", [APR_GREEN] = "\033[32m", [APR_YELLOW] = "\033[33m",
    };
    return colour ? escape[s] : "";
}
