#include "family/model_name.h"

#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "base/regex.h"

#define LONGEST 4096u /* bytes; a path has no more */

static bool is_lower(unsigned char c) { return c >= 'a' && c <= 'z'; }
static bool is_upper(unsigned char c) { return c >= 'A' && c <= 'Z'; }
static bool is_digit(unsigned char c) { return c >= '0' && c <= '9'; }
static unsigned char lower(unsigned char c) { return is_upper(c) ? (unsigned char)(c - 'A' + 'a') : c; }
static unsigned char upper(unsigned char c) { return is_lower(c) ? (unsigned char)(c - 'a' + 'A') : c; }

static bool is_word(struct apr_bytes s, const char *word)
{
    size_t i = 0;
    while (i < s.n && word[i] != 0 && lower(s.at[i]) == (unsigned char)word[i])
        i++;
    return i == s.n && word[i] == 0;
}

static bool is_one_of(struct apr_bytes s, const char *const *words)
{
    while (*words != NULL && !is_word(s, *words))
        words++;
    return *words != NULL;
}

/* ---- scanning -------------------------------------------------------------------------------------------------------- */

/* Those called past_ return where it ends, or `at` when it does not stand there. */

static size_t past_digits(struct apr_bytes s, size_t at)
{
    while (at < s.n && is_digit(s.at[at]))
        at++;
    return at;
}

static size_t past_letter(struct apr_bytes s, size_t at, const char *letters)
{
    return at < s.n && s.at[at] != 0 && strchr(letters, lower(s.at[at])) != NULL ? at + 1 : at;
}

static size_t past_prefix(struct apr_bytes s, size_t at, const char *prefix)
{
    const size_t n = strlen(prefix);
    return s.n - at >= n && is_word((struct apr_bytes){ s.at + at, n }, prefix) ? at + n : at;
}

/* ".5" */
static size_t past_fraction(struct apr_bytes s, size_t at, const char *points)
{
    const size_t point = past_letter(s, at, points), end = past_digits(s, point);
    return point > at && end > point ? end : at;
}

/* "3", "v0.1", "iter2" */
static bool is_version(struct apr_bytes s, size_t marked)
{
    size_t at = past_digits(s, marked), end;
    if (at == marked)
        return false;
    while ((end = past_fraction(s, at, ".")) > at)
        at = end;
    return at == s.n;
}

static bool is_any_version(struct apr_bytes s)
{
    const size_t v = past_letter(s, 0, "v");
    return is_version(s, v > 0 ? v : past_prefix(s, 0, "iter"));
}

/* "Q4_K_M", "IQ1_S", "bf16": how values are stored. */
static bool is_encoding(struct apr_bytes s)
{
    static const char *const floats[] = { "f16", "f32", "fp16", "fp32", "bf16", "bf32", "bfp16", "bfp32", NULL };
    const size_t i = past_letter(s, 0, "i"), q = past_letter(s, i, "q");
    size_t at = q + 1;
    if (is_one_of(s, floats))
        return true;
    if (q == i || q >= s.n || !is_digit(s.at[q]))
        return false;
    while (at + 1 < s.n && s.at[at] == '_' && (is_digit(s.at[at + 1]) || is_lower(lower(s.at[at + 1])) || s.at[at + 1] == '_'))
        at += 2;
    return at == s.n;
}

/* ---- sizes ----------------------------------------------------------------------------------------------------------- */

/* "7B", "1_5b", "7b1", "8x7B", "A3B". *measured: it is a plain number of elements, which can be compared with those that there are. */
static bool is_size(struct apr_bytes s, bool *measured)
{
    const size_t digits = past_digits(s, 0), times = digits > 0 ? past_letter(s, digits, "x") : 0;
    const size_t active = past_letter(s, 0, "a");
    const size_t begin = active > 0 ? active : times > digits ? times : 0, whole = past_digits(s, begin);
    const size_t number = past_fraction(s, whole, "._"), unit = past_letter(s, number, "kmbt");
    *measured = begin == 0;
    return whole > begin && unit > number && (unit == s.n || (unit + 1 == s.n && is_digit(s.at[unit])));
}

/* As it is written: "1_5b" -> "1.5B", "7b1" -> "7.1B". */
static struct apr_bytes spell_size(struct apr_arena **a, struct apr_bytes s)
{
    unsigned char *const to = apr_arena_alloc(a, s.n + 2);
    size_t n = s.n;
    if (to == NULL)
        return (struct apr_bytes){ 0 };
    for (size_t i = 0; i < n; i++)
        to[i] = s.at[i] == '_' ? '.' : s.at[i];
    if (is_digit(to[n - 1])) {
        to[n] = to[n - 2];
        to[n - 2] = '.';
        n++;
    }
    to[n - 1] = upper(to[n - 1]);
    return (struct apr_bytes){ to, n };
}

/* Of "7.1B"; negative when it has two points. */
static double elements_of(struct apr_bytes size)
{
    static const char units[] = "KMBT";
    double v = 0, scale = 1;
    unsigned points = 0;
    for (size_t i = 0; i + 1 < size.n; i++) {
        if (!is_digit(size.at[i])) {
            points++;
            continue;
        }
        v = 10 * v + (size.at[i] - '0');
        scale *= points > 0 ? 10 : 1;
    }
    for (const char *u = units; u <= strchr(units, size.at[size.n - 1]); u++)
        v *= 1000;
    return points > 1 ? -1 : v / scale;
}

/* From an eighth of the elements that there are to fifteen eighths. */
static bool is_near(struct apr_bytes size, uint64_t elements)
{
    const double named = elements_of(size), room = (double)(elements - elements / 8 - (elements % 8 != 0));
    return elements == 0 || named < 0 || fabs(named - (double)elements) <= room;
}

/* ---- the parts of a name --------------------------------------------------------------------------------------------- */

enum kind { WORD, BASE, VERSION, ENCODING, SIZE, SIZE_WORD, TUNING };

struct part {
    struct apr_bytes text;
    enum kind        kind;
};

struct parts {
    struct part *part;
    size_t       n;
};

static enum apr_code split(struct parts *p, struct apr_arena **a, struct apr_bytes name, struct apr_error *e)
{
    p->part = apr_arena_alloc(a, (name.n / 2 + 1) * sizeof *p->part);
    if (p->part == NULL)
        return apr_no_memory(e);
    for (size_t i = 0, end; i < name.n; i = end + 1) {
        for (end = i; end < name.n && name.at[end] != '-';)
            end++;
        if (end > i)
            p->part[p->n++].text = (struct apr_bytes){ name.at + i, end - i };
    }
    return APR_OK;
}

/* What a size beside the elements that there are makes of its part. */
static enum apr_code take_size(struct part *p, struct apr_arena **a, bool measured, uint64_t elements, struct apr_error *e)
{
    p->text = spell_size(a, p->text);
    if (p->text.at == NULL)
        return apr_no_memory(e);
    p->kind = SIZE;
    if (!measured || is_near(p->text, elements))
        return APR_OK;
    p->kind = TUNING;
    unsigned char *const unit = (unsigned char *)(uintptr_t)p->text.at + p->text.n - 1;
    *unit = lower(*unit);
    return APR_OK;
}

/* The first part is the name of something, whatever it looks like; only versions and encodings are known there. */
static enum apr_code classify(struct part *p, struct apr_arena **a, bool first, uint64_t elements, struct apr_error *e)
{
    static const char *const sizes[] = { "small", "mini", "medium", "large", "xl", "xxl", NULL };
    static const char *const tunings[] = { "chat", "instruct", "vision", "lora", NULL };
    bool measured;
    if (is_any_version(p->text))
        p->kind = VERSION;
    else if (is_encoding(p->text))
        p->kind = ENCODING;
    else if (!first && is_size(p->text, &measured))
        return take_size(p, a, measured, elements, e);
    else if (!first && is_one_of(p->text, sizes))
        p->kind = SIZE_WORD;
    else if (!first && is_one_of(p->text, tunings))
        p->kind = TUNING;
    return APR_OK;
}

/* "small" is a size only where no number is one. */
static void settle_sizes(struct parts *p)
{
    bool numbers = false;
    for (size_t i = 0; i < p->n; i++)
        numbers = numbers || p->part[i].kind == SIZE;
    for (size_t i = 0; i < p->n; i++)
        if (p->part[i].kind == SIZE_WORD)
            p->part[i].kind = numbers ? WORD : SIZE;
}

static enum apr_code begins_with_letter(struct apr_bytes s, bool *yes, struct apr_error *e)
{
    static const char letter[] = "^\\p{L}";
    struct apr_regex *x;
    uint64_t work = 10000; /* steps, far more than it takes */
    size_t first = 1;
    *yes = is_lower(lower(s.at[0]));
    if (s.at[0] < 0x80)
        return APR_OK;
    while (first < s.n && (s.at[first] & 0xc0) == 0x80)
        first++;
    APR_TRY(apr_regex_new(&x, apr_text(letter), e));
    const enum apr_code code = apr_regex_matches(x, (struct apr_bytes){ s.at, first }, &work, yes, e);
    apr_regex_free(x);
    return code;
}

/* The base: words and versions up to the first part that is something else, but for versions that end the name. Other words are what it
 * was tuned to. */
static enum apr_code settle_words(struct parts *p, struct apr_error *e)
{
    bool letter = true;
    size_t n = 0, end;
    while (n < p->n && letter && (p->part[n].kind == WORD || p->part[n].kind == VERSION)) {
        if (p->part[n].kind == WORD)
            APR_TRY(begins_with_letter(p->part[n].text, &letter, e));
        n += letter;
    }
    for (end = n; n == p->n && end > 0 && p->part[end - 1].kind == VERSION;)
        end--;
    for (size_t i = 0; i < p->n; i++)
        if (i < end)
            p->part[i].kind = BASE;
        else if (p->part[i].kind == WORD)
            p->part[i].kind = TUNING;
    return APR_OK;
}

static bool stands_before(const struct parts *p, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (p->part[k].kind == p->part[i].kind && apr_bytes_equal(p->part[k].text, p->part[i].text))
            return true;
    return false;
}

/* Those of one kind with '-' between; a size only once. at is NULL, and n 0, when there are none. */
static enum apr_code join(struct apr_bytes *to, struct apr_arena **a, const struct parts *p, enum kind kind, struct apr_error *e)
{
    size_t n = 0;
    for (size_t i = 0; i < p->n; i++)
        n += p->part[i].kind == kind ? p->part[i].text.n + 1 : 0;
    if (n == 0)
        return APR_OK;
    unsigned char *const at = apr_arena_alloc(a, n);
    if (at == NULL)
        return apr_no_memory(e);
    *to = (struct apr_bytes){ at, 0 };
    for (size_t i = 0; i < p->n; i++) {
        if (p->part[i].kind != kind || (kind == SIZE && stands_before(p, i)))
            continue;
        if (to->n > 0)
            at[to->n++] = '-';
        memcpy(at + to->n, p->part[i].text.at, p->part[i].text.n);
        to->n += p->part[i].text.n;
    }
    return APR_OK;
}

/* ---- names ----------------------------------------------------------------------------------------------------------- */

/* "owner/name"; a folder above is no owner. */
static void part_owner(struct apr_model_name *m, struct apr_bytes name)
{
    const unsigned char *const slash = name.n == 0 ? NULL : memchr(name.at, '/', name.n);
    m->part[APR_NAME_WHOLE] = name;
    if (slash == NULL)
        return;
    m->part[APR_NAME_WHOLE] = (struct apr_bytes){ slash + 1, (size_t)(name.at + name.n - slash) - 1 };
    if (name.at[0] != '.')
        m->part[APR_NAME_ORGANIZATION] = (struct apr_bytes){ name.at, (size_t)(slash - name.at) };
}

enum apr_code apr_model_name_read(struct apr_model_name *m, struct apr_arena **a, struct apr_bytes name, uint64_t elements,
                                  struct apr_error *e)
{
    struct parts p = { 0 };
    *m = (struct apr_model_name){ .part[APR_NAME_WHOLE] = name };
    if (name.n == 0 || memchr(name.at, ' ', name.n) != NULL)
        return APR_OK;
    part_owner(m, name);
    if (m->part[APR_NAME_WHOLE].n > LONGEST)
        return APR_OK;
    APR_TRY(split(&p, a, m->part[APR_NAME_WHOLE], e));
    for (size_t i = 0; i < p.n; i++)
        APR_TRY(classify(&p.part[i], a, i == 0, elements, e));
    settle_sizes(&p);
    APR_TRY(settle_words(&p, e));
    APR_TRY(join(&m->part[APR_NAME_FINETUNE], a, &p, TUNING, e));
    APR_TRY(join(&m->part[APR_NAME_VERSION], a, &p, VERSION, e));
    APR_TRY(join(&m->part[APR_NAME_SIZE], a, &p, SIZE, e));
    const bool parted = m->part[APR_NAME_FINETUNE].n > 0 || m->part[APR_NAME_VERSION].n > 0 || m->part[APR_NAME_SIZE].n > 0;
    return parted ? join(&m->part[APR_NAME_BASE], a, &p, BASE, e) : APR_OK; /* what is all base is just a name */
}

/* ---- titles ---------------------------------------------------------------------------------------------------------- */

static bool is_blank(unsigned char c) { return c == '-' || c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f); }

/* A word that may be capitalised: small letters, but no number and no version. */
static bool is_plain(struct apr_bytes word)
{
    bool letters = false;
    for (size_t i = 0; i < word.n; i++) {
        letters = letters || is_lower(word.at[i]);
        if (is_upper(word.at[i]))
            return false;
    }
    return letters && !is_digit(word.at[0]) && !(word.at[0] == 'v' && is_version(word, 1));
}

static bool is_letter(unsigned char c) { return is_lower(lower(c)) || c >= 0x80; }

enum apr_code apr_model_title(struct apr_bytes *title, struct apr_arena **a, struct apr_bytes name, struct apr_error *e)
{
    unsigned char *const to = apr_arena_alloc(a, name.n + 1);
    size_t n = 0, end;
    if (to == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < name.n; i = end + 1) {
        for (end = i; end < name.n && !is_blank(name.at[end]);)
            end++;
        if (end == i)
            continue;
        if (n > 0)
            to[n++] = ' ';
        const bool plain = is_plain((struct apr_bytes){ name.at + i, end - i });
        for (size_t k = i; k < end; k++)
            to[n++] = plain && (k == i || !is_letter(name.at[k - 1])) ? upper(name.at[k]) : name.at[k];
    }
    *title = (struct apr_bytes){ to, n };
    return APR_OK;
}
