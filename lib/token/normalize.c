/* The normalizer of a tokenizer.json: steps, each of which makes a text of a text. */
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/bytes.h"
#include "model/json.h"
#include "token/charsmap.h"
#include "token/encode_parts.h"
#include "token/letters.h"
#include "token/vocabulary_read.h"

#define DEPTH      8u /* of Sequences in Sequences */
#define MOST_STEPS 64

/* from, to, x: of Replace (x, or from alone); to: of Prepend. left, right: of Strip. */
struct step {
    enum apr_code        (*run)(const struct step *s, struct apr_bytes text, struct apr_made *out, struct apr_error *e);
    enum apr_form          form;
    struct apr_bytes       from, to;
    struct apr_expression *x;
    bool                   left, right;
    struct apr_charsmap   *map;
};

struct apr_normalizer {
    struct step     step[MOST_STEPS];
    size_t          n;
    struct apr_made spare;
};

/* ---- character by character ------------------------------------------------------------------------------------------ */

/* What becomes of c: false when it stays, else the n characters of `to`. */
struct change {
    uint32_t to[3];
    size_t   n;
};
typedef bool change_fn(uint32_t c, struct change *change);

static enum apr_code each(struct apr_bytes text, change_fn *change, struct apr_made *out, struct apr_error *e)
{
    size_t kept = 0, step;
    for (size_t i = 0; i < text.n; i += step) {
        struct change what = { .n = 0 };
        if (!change(apr_character(text.at + i, text.n - i, &step), &what))
            continue;
        APR_TRY(apr_made_add(out, (struct apr_bytes){ text.at + kept, i - kept }, e));
        for (size_t k = 0; k < what.n; k++)
            APR_TRY(apr_made_character(out, what.to[k], e));
        kept = i + step;
    }
    return apr_made_add(out, (struct apr_bytes){ text.at + kept, text.n - kept }, e);
}

static bool becomes(struct change *change, uint32_t c)
{
    change->to[0] = c;
    change->n = 1;
    return true;
}

/* The one letter that has two for one, without regard to what follows, is U+0130. */
static bool lower(uint32_t c, struct change *change)
{
    if (c == 0x130) {
        *change = (struct change){ { 'i', 0x307 }, 2 };
        return true;
    }
    const uint32_t small = apr_lower(c);
    return small != c && becomes(change, small);
}

static bool strip_marks(uint32_t c, struct change *change)
{
    (void)change;
    return c >= 0x300 && apr_letter_class(c) == 'M';
}

static bool strip_nonspacing(uint32_t c, struct change *change)
{
    (void)change;
    return apr_is_nonspacing(c) && !apr_is_young(c);
}

/* Category C goes, but for three that are blanks, and those that are unassigned, or were then. */
static bool clean(uint32_t c, struct change *change)
{
    if (c == '\t' || c == '\n' || c == '\r')
        return becomes(change, ' ');
    if (c == 0xFFFD || (apr_letter_class(c) == 'C' && !apr_is_unassigned(c) && !apr_is_young(c)))
        return true;
    return c != ' ' && apr_is_space(c) && becomes(change, ' ');
}

static bool part_ideographs(uint32_t c, struct change *change)
{
    *change = (struct change){ { ' ', c, ' ' }, 3 };
    return apr_is_ideograph(c);
}

/* The rules of a normalization of its own, for machine translation. */
static bool nmt(uint32_t c, struct change *change)
{
    static const uint32_t blank[] = { 0x9, 0xA, 0xC, 0xD, 0x1680, 0x200B, 0x200C, 0x200D, 0x200E, 0x200F,
                                      0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD };
    for (size_t i = 0; i < APR_LENGTH(blank); i++)
        if (c == blank[i])
            return becomes(change, ' ');
    return (c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F;
}

#define EACH(name, change)                                                                                                        \
    static enum apr_code name(const struct step *s, struct apr_bytes text, struct apr_made *out, struct apr_error *e)             \
    {                                                                                                                             \
        (void)s;                                                                                                                  \
        return each(text, change, out, e);                                                                                        \
    }
EACH(run_lower, lower)
EACH(run_strip_marks, strip_marks)
EACH(run_strip_nonspacing, strip_nonspacing)
EACH(run_clean, clean)
EACH(run_part_ideographs, part_ideographs)
EACH(run_nmt, nmt)

/* ---- whole texts ----------------------------------------------------------------------------------------------------- */

static enum apr_code run_form(const struct step *s, struct apr_bytes text, struct apr_made *out, struct apr_error *e)
{
    return apr_compose(s->form, text, out, e);
}

static enum apr_code run_prepend(const struct step *s, struct apr_bytes text, struct apr_made *out, struct apr_error *e)
{
    if (text.n > 0)
        APR_TRY(apr_made_add(out, s->to, e));
    return apr_made_add(out, text, e);
}

static enum apr_code run_strip(const struct step *s, struct apr_bytes text, struct apr_made *out, struct apr_error *e)
{
    size_t step;
    while (s->left && text.n > 0 && apr_is_space(apr_character(text.at, text.n, &step)))
        text = (struct apr_bytes){ text.at + step, text.n - step };
    for (size_t i = text.n; s->right && i > 0;) {
        do
            i--;
        while (i > 0 && (text.at[i] & 0xC0) == 0x80);
        if (!apr_is_space(apr_character(text.at + i, text.n - i, &step)))
            break;
        text.n = i;
    }
    return apr_made_add(out, text, e);
}

static enum apr_code run_replace(const struct step *s, struct apr_bytes text, struct apr_made *out, struct apr_error *e)
{
    size_t at = 0;
    for (const unsigned char *found; at < text.n; at = (size_t)(found - text.at) + s->from.n) {
        found = memmem(text.at + at, text.n - at, s->from.at, s->from.n);
        if (found == NULL)
            break;
        APR_TRY(apr_made_add(out, (struct apr_bytes){ text.at + at, (size_t)(found - text.at) - at }, e));
        APR_TRY(apr_made_add(out, s->to, e));
    }
    return apr_made_add(out, (struct apr_bytes){ text.at + at, text.n - at }, e);
}

/* A match of nothing right behind a match is none. */
static enum apr_code run_replace_matches(const struct step *s, struct apr_bytes text, struct apr_made *out, struct apr_error *e)
{
    size_t kept = 0, from = 0, step = 0;
    bool after_match = false;
    while (from <= text.n) {
        size_t begin, end;
        bool found;
        APR_TRY(apr_expression_next(s->x, text, from, &begin, &end, &found, e));
        if (!found)
            break;
        if (begin < end || begin > kept || !after_match) {
            APR_TRY(apr_made_add(out, (struct apr_bytes){ text.at + kept, begin - kept }, e));
            APR_TRY(apr_made_add(out, s->to, e));
            kept = end;
            after_match = true;
        }
        step = 1;
        if (begin == end && end < text.n)
            (void)apr_character(text.at + end, text.n - end, &step);
        from = begin < end ? end : end + step;
    }
    return apr_made_add(out, (struct apr_bytes){ text.at + kept, text.n - kept }, e);
}

/* ---- a precompiled charsmap ------------------------------------------------------------------------------------------ */

/* The first grapheme: a character with all that belongs to it. */
static size_t grapheme(struct apr_bytes text)
{
    int32_t state = 0;
    size_t n, step;
    uint32_t c = apr_character(text.at, text.n, &n);
    while (n < text.n) {
        if (c != '\r' && c < 0x80 && text.at[n] < 0x80)
            break;
        const uint32_t next = apr_character(text.at + n, text.n - n, &step);
        if (apr_ends_grapheme(c, next, &state))
            break;
        c = next;
        n += step;
    }
    return n;
}

/* What is a run of the map with its first characters is taken whole for what stands for them: so do tokenizers, though SentencePiece does
 * not. Longer graphemes are looked at character by character. */
static enum apr_code map_grapheme(const struct apr_charsmap *map, struct apr_bytes g, struct apr_made *out, struct apr_error *e)
{
    struct apr_mapped m = { 0 };
    if (g.n < 6)
        APR_TRY(apr_charsmap_find(map, g, true, &m, e));
    if (m.n > 0)
        return apr_made_add(out, m.to, e);
    for (size_t i = 0, step; i < g.n; i += step) {
        (void)apr_character(g.at + i, g.n - i, &step);
        const struct apr_bytes c = { g.at + i, step };
        APR_TRY(apr_charsmap_find(map, c, true, &m, e));
        APR_TRY(apr_made_add(out, m.n > 0 ? m.to : c, e));
    }
    return APR_OK;
}

static enum apr_code run_charsmap(const struct step *s, struct apr_bytes text, struct apr_made *out, struct apr_error *e)
{
    for (size_t i = 0, n; i < text.n; i += n) {
        n = grapheme((struct apr_bytes){ text.at + i, text.n - i });
        APR_TRY(map_grapheme(s->map, (struct apr_bytes){ text.at + i, n }, out, e));
    }
    return APR_OK;
}

/* ---- bytes ----------------------------------------------------------------------------------------------------------- */

static enum apr_code run_bytes(const struct step *s, struct apr_bytes text, struct apr_made *out, struct apr_error *e)
{
    (void)s;
    for (size_t i = 0; i < text.n; i++)
        APR_TRY(apr_made_character(out, apr_stand_in(text.at[i]), e));
    return APR_OK;
}

/* ---- reading --------------------------------------------------------------------------------------------------------- */

enum { TYPE, PARTS, PREPEND, PATTERN, CONTENT, LEFT, RIGHT, CHARSMAP, CLEAN, CHINESE, ACCENTS, LOWERCASE, NMEMBERS };

struct reading {
    struct apr_normalizer *n;
    struct apr_vocabulary *v;
};

static enum apr_code add(struct reading *r, struct step step, struct apr_error *e)
{
    if (r->n->n == MOST_STEPS) {
        apr_expression_free(step.x);
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "the normalizer of the tokenizer has more than %d steps", MOST_STEPS);
    }
    r->n->step[r->n->n++] = step;
    return APR_OK;
}

static struct apr_bytes text_of(const struct apr_member *m)
{
    return m->value.type == APR_META_STRING ? m->value.text : (struct apr_bytes){ 0 };
}

/* A type that cannot do without it. */
static void need(struct reading *r, const struct apr_member *m, const char *wants)
{
    if (m->value.type == APR_META_ANY)
        apr_put_odd(r->v, m->key, wants, (struct apr_bytes){ 0 });
}

static bool is_true(const struct apr_member *m) { return m->value.type == APR_META_BOOL && m->value.b; }

static enum apr_code add_replace(struct reading *r, const struct apr_member *m, struct apr_error *e)
{
    struct apr_member p[] = { { .key = "String", .must = "s" }, { .key = "Regex", .must = "s" } };
    struct step step = { .run = run_replace, .to = text_of(&m[CONTENT]) };
    need(r, &m[CONTENT], "string");
    APR_TRY(apr_take_members(r->v, &m[PATTERN].value, p, 2, e));
    step.from = text_of(&p[0]);
    const struct apr_bytes regex = text_of(&p[1]);
    if (step.from.n == 0 && regex.n == 0)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "the normalizer Replace of the tokenizer has no pattern that is known");
    if (step.from.n == 0) {
        if (apr_bytes_have(step.to, "$"))
            return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "the normalizer Replace of the tokenizer puts in parts of what it found: %s",
                            APR_QUOTED(step.to));
        step.run = run_replace_matches;
        APR_TRY(apr_expression_new(&step.x, regex, true, e));
    }
    return add(r, step, e);
}

static enum apr_code add_charsmap(struct reading *r, const struct apr_member *m, struct apr_error *e)
{
    struct step step = { .run = run_charsmap };
    struct apr_bytes bytes;
    if (!apr_base64_decode(&r->v->arena, text_of(&m[CHARSMAP]), &bytes))
        return bytes.at == NULL && text_of(&m[CHARSMAP]).n == 0 ? APR_OK
             : apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "the precompiled charsmap of the tokenizer is no base64");
    step.map = apr_arena_alloc(&r->v->arena, sizeof *step.map);
    if (step.map == NULL)
        return apr_no_memory(e);
    APR_TRY(apr_charsmap_on(step.map, bytes, e));
    return add(r, step, e);
}

/* clean_text, handle_chinese_chars, strip_accents (null: as lowercase), lowercase: in this order, whatever order they stand in. */
static enum apr_code add_bert(struct reading *r, const struct apr_member *m, struct apr_error *e)
{
    const bool strip = m[ACCENTS].value.type == APR_META_BOOL ? m[ACCENTS].value.b : is_true(&m[LOWERCASE]);
    if (is_true(&m[CLEAN]))
        APR_TRY(add(r, (struct step){ .run = run_clean }, e));
    if (is_true(&m[CHINESE]))
        APR_TRY(add(r, (struct step){ .run = run_part_ideographs }, e));
    if (strip) {
        APR_TRY(add(r, (struct step){ .run = run_form, .form = APR_NFD }, e));
        APR_TRY(add(r, (struct step){ .run = run_strip_nonspacing }, e));
    }
    return is_true(&m[LOWERCASE]) ? add(r, (struct step){ .run = run_lower }, e) : APR_OK;
}

static enum apr_code add_prepend(struct reading *r, const struct apr_member *m, struct apr_error *e)
{
    need(r, &m[PREPEND], "string");
    return add(r, (struct step){ .run = run_prepend, .to = text_of(&m[PREPEND]) }, e);
}

static enum apr_code add_strip(struct reading *r, const struct apr_member *m, struct apr_error *e)
{
    need(r, &m[LEFT], "boolean");
    need(r, &m[RIGHT], "boolean");
    return add(r, (struct step){ .run = run_strip, .left = is_true(&m[LEFT]), .right = is_true(&m[RIGHT]) }, e);
}

/* Types that have something to be read, and those that are one step. */
static const struct {
    const char *type;
    enum apr_code (*add)(struct reading *r, const struct apr_member *m, struct apr_error *e);
    struct step step;
} types[] = {
    { "Prepend", add_prepend, { 0 } },
    { "Replace", add_replace, { 0 } },
    { "Strip", add_strip, { 0 } },
    { "Precompiled", add_charsmap, { 0 } },
    { "BertNormalizer", add_bert, { 0 } },
    { "NFC", NULL, { .run = run_form, .form = APR_NFC } },
    { "NFD", NULL, { .run = run_form, .form = APR_NFD } },
    { "NFKC", NULL, { .run = run_form, .form = APR_NFKC } },
    { "NFKD", NULL, { .run = run_form, .form = APR_NFKD } },
    { "Lowercase", NULL, { .run = run_lower } },
    { "StripAccents", NULL, { .run = run_strip_marks } },
    { "Nmt", NULL, { .run = run_nmt } },
    { "ByteLevel", NULL, { .run = run_bytes } },
};

static enum apr_code read_part(struct reading *r, const struct apr_value *part, unsigned levels, struct apr_error *e);

static enum apr_code read_parts(struct reading *r, const struct apr_value *list, unsigned levels, struct apr_error *e)
{
    struct apr_walk w;
    struct apr_item item;
    bool more;
    if (list->type != APR_META_ARRAY) {
        apr_put_odd(r->v, "normalizers", "list", list->text);
        return APR_OK;
    }
    if (levels == 0)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "the normalizer of the tokenizer has more than %u sequences in one another", DEPTH);
    APR_TRY(apr_walk_in(&w, list->text, 0, '[', e));
    for (;;) {
        struct apr_value inner;
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            return APR_OK;
        APR_TRY(apr_json_checked(&r->v->arena, item.value, 0, &inner, e));
        APR_TRY(read_part(r, &inner, levels - 1, e));
    }
}

static enum apr_code read_part(struct reading *r, const struct apr_value *part, unsigned levels, struct apr_error *e)
{
    struct apr_member m[NMEMBERS] = {
        { .key = "type", .must = "s" },
        { .key = "normalizers", .must = "[" },
        { .key = "prepend", .must = "s" },
        { .key = "pattern", .must = "{" },
        { .key = "content", .must = "s" },
        { .key = "strip_left", .must = "b" },
        { .key = "strip_right", .must = "b" },
        { .key = "precompiled_charsmap", .must = "sn" },
        { .key = "clean_text", .must = "b" },
        { .key = "handle_chinese_chars", .must = "b" },
        { .key = "strip_accents", .must = "bn" },
        { .key = "lowercase", .must = "b" },
    };
    APR_TRY(apr_take_members(r->v, part, m, NMEMBERS, e));
    const struct apr_bytes type = text_of(&m[TYPE]);
    if (apr_bytes_is(type, "Sequence"))
        return read_parts(r, &m[PARTS].value, levels, e);
    for (size_t i = 0; i < APR_LENGTH(types); i++)
        if (apr_bytes_is(type, types[i].type))
            return types[i].add != NULL ? types[i].add(r, m, e) : add(r, types[i].step, e);
    return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "the normalizer %s of the tokenizer is not known", APR_QUOTED(type));
}

enum apr_code apr_normalizer_new(struct apr_normalizer **n, struct apr_vocabulary *v, struct apr_error *e)
{
    const struct apr_value whole = { .type = APR_META_OBJECT, .encoding = APR_JSON, .text = v->normalizer };
    *n = NULL;
    if (v->normalizer.n == 0)
        return APR_OK;
    struct reading r = { calloc(1, sizeof *r.n), v };
    if (r.n == NULL)
        return apr_no_memory(e);
    const enum apr_code code = read_part(&r, &whole, DEPTH, e);
    if (code != APR_OK || r.n->n == 0) {
        apr_normalizer_free(r.n);
        return code;
    }
    *n = r.n;
    return APR_OK;
}

void apr_normalizer_free(struct apr_normalizer *n)
{
    if (n == NULL)
        return;
    for (size_t i = 0; i < n->n; i++)
        apr_expression_free(n->step[i].x);
    free(n->spare.at);
    free(n);
}

static void swap(struct apr_made *a, struct apr_made *b)
{
    const struct apr_made was = *a;
    *a = *b;
    *b = was;
}

enum apr_code apr_normalize(struct apr_normalizer *n, struct apr_bytes text, size_t most, struct apr_made *out, struct apr_error *e)
{
    n->spare.most = out->most = most;
    for (size_t i = 0; i < n->n; i++) {
        n->spare.n = 0;
        text.at = text.n == 0 ? (const unsigned char *)"" : text.at;
        APR_TRY(n->step[i].run(&n->step[i], text, &n->spare, e));
        swap(&n->spare, out);
        text = (struct apr_bytes){ out->at, out->n };
    }
    return APR_OK;
}
