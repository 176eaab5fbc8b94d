/* A text goes through the steps one after the other; each reads the pieces of the one before and writes its own. */
#include "token/split.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "model/json.h"
#include "token/expression_parts.h"
#include "token/vocabulary_read.h"

#define DEPTH      8u  /* of Sequences in Sequences */
#define MOST_STEPS 64u

enum step_kind { CUT, BYTES, PREFIXED, META, LENGTH, GROUPS };
enum behavior { ISOLATED, REMOVED, CONTIGUOUS, WITH_PREVIOUS, WITH_NEXT };
enum scheme { ALWAYS, FIRST, NEVER };

/* CUT       at the matches of x, or at what is between them (invert)
 * BYTES     each byte becomes the character that stands for it
 * PREFIXED  a blank goes before a piece that begins with none
 * META      blanks become `mark`, which goes before a piece as the scheme says
 * LENGTH    every `length` characters
 * GROUPS    runs of digits, which x finds, in threes from the right; what is before a run goes with the first of them */
struct step {
    enum step_kind         kind;
    struct apr_expression *x;
    enum behavior          behavior;
    enum scheme            scheme;
    bool                   invert;
    uint64_t               length;
    struct apr_bytes       mark;
};

/* at_start: the first piece is where the whole text begins. */
struct apr_split {
    struct step        *step;
    size_t              n, room;
    struct apr_cut_text cut[2];
    bool                at_start;
};

/* ---- pieces ---------------------------------------------------------------------------------------------------------- */

void apr_cut_text_end(struct apr_cut_text *c)
{
    free(c->text.at);
    free(c->end);
    *c = (struct apr_cut_text){ 0 };
}

/* What was added to the text since the last piece is one, unless it is nothing. */
static enum apr_code end_piece(struct apr_cut_text *c, struct apr_error *e)
{
    if (c->text.n == (c->n == 0 ? 0 : c->end[c->n - 1]))
        return APR_OK;
    size_t *const more = apr_grown(c->end, &c->room, c->n, 256, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    c->end = more;
    c->end[c->n++] = c->text.n;
    return APR_OK;
}

static enum apr_code put_piece(struct apr_cut_text *c, struct apr_bytes piece, struct apr_error *e)
{
    APR_TRY(apr_made_add(&c->text, piece, e));
    return end_piece(c, e);
}

/* ---- matches --------------------------------------------------------------------------------------------------------- */

/* Takes what stands in a piece, from one end to the other: matches, and what is between them.
 *   open    what was taken last is a piece that may yet grow
 *   before  it was a match */
struct taking {
    struct apr_split    *split;
    const struct step   *step;
    struct apr_cut_text *to;
    bool                 open, before;
};

static enum apr_code close_piece(struct taking *t, struct apr_error *e)
{
    t->open = false;
    return end_piece(t->to, e);
}

static enum apr_code take(struct taking *t, struct apr_bytes part, bool match, struct apr_error *e)
{
    static const bool joins[][2][2] = { /* behavior; the one before is a match; this one is */
        [ISOLATED] = { { 0 } },
        [REMOVED] = { { 0 } },
        [CONTIGUOUS] = { { true, false }, { false, true } },
        [WITH_PREVIOUS] = { { false, true }, { false, false } },
        [WITH_NEXT] = { { false, false }, { true, false } },
    };
    match = match != t->step->invert;
    if (t->open && !joins[t->step->behavior][t->before][match])
        APR_TRY(close_piece(t, e));
    t->open = true;
    t->before = match;
    if (match && t->step->behavior == REMOVED) {
        t->split->at_start = t->split->at_start && t->to->text.n > 0;
        return APR_OK;
    }
    return apr_made_add(&t->to->text, part, e);
}

/* Hands all of the text to take: matches and what is between. An empty match right behind another one is none. */
static enum apr_code cut_piece(struct apr_split *s, const struct step *step, struct apr_bytes text, struct apr_cut_text *to,
                               struct apr_error *e)
{
    struct taking t = { .split = s, .step = step, .to = to };
    size_t taken = 0, from = 0, begin = 0, end = 0, last = SIZE_MAX;
    bool found = true;
    while (from <= text.n) {
        APR_TRY(apr_expression_next(step->x, text, from, &begin, &end, &found, e));
        if (!found)
            break;
        from = end;
        if (begin == end && end == last) {
            from += end == text.n ? 1 : apr_utf8_length(text.at + end, text.n - end);
            continue;
        }
        last = end;
        if (begin > taken)
            APR_TRY(take(&t, (struct apr_bytes){ text.at + taken, begin - taken }, false, e));
        APR_TRY(take(&t, (struct apr_bytes){ text.at + begin, end - begin }, true, e));
        taken = end;
    }
    if (taken < text.n)
        APR_TRY(take(&t, (struct apr_bytes){ text.at + taken, text.n - taken }, false, e));
    return close_piece(&t, e);
}

static size_t characters_in(struct apr_bytes text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++)
        n += (text.at[i] & 0xC0) != 0x80;
    return n;
}

/* The first n characters of the text become a piece. */
static enum apr_code put_characters(struct apr_cut_text *to, struct apr_bytes *text, uint64_t n, struct apr_error *e)
{
    size_t i = 0;
    for (; n > 0 && i < text->n; n--)
        i += apr_utf8_length(text->at + i, text->n - i);
    APR_TRY(put_piece(to, (struct apr_bytes){ text->at, i }, e));
    *text = (struct apr_bytes){ text->at + i, text->n - i };
    return APR_OK;
}

static enum apr_code group_digits(const struct step *step, struct apr_bytes text, struct apr_cut_text *to, struct apr_error *e)
{
    size_t taken = 0, begin, end;
    bool found = true;
    while (found) {
        APR_TRY(apr_expression_next(step->x, text, taken, &begin, &end, &found, e));
        if (!found)
            break;
        struct apr_bytes run = { text.at + begin, end - begin };
        APR_TRY(apr_made_add(&to->text, (struct apr_bytes){ text.at + taken, begin - taken }, e));
        if (characters_in(run) % 3 > 0)
            APR_TRY(put_characters(to, &run, characters_in(run) % 3, e));
        while (run.n > 0)
            APR_TRY(put_characters(to, &run, 3, e));
        taken = end;
    }
    return put_piece(to, (struct apr_bytes){ text.at + taken, text.n - taken }, e);
}

/* ---- other steps ----------------------------------------------------------------------------------------------------- */

static enum apr_code put_bytes(struct apr_bytes text, struct apr_cut_text *to, struct apr_error *e)
{
    for (size_t i = 0; i < text.n; i++)
        APR_TRY(apr_made_character(&to->text, apr_stand_in(text.at[i]), e));
    return end_piece(to, e);
}

static enum apr_code put_meta(struct apr_split *s, const struct step *step, struct apr_bytes text, struct apr_cut_text *to,
                              struct apr_error *e)
{
    const bool prefixed = step->scheme == ALWAYS || (step->scheme == FIRST && s->at_start && to->n == 0);
    if (prefixed && text.at[0] != ' ' && !apr_bytes_begin(text, step->mark))
        APR_TRY(apr_made_add(&to->text, step->mark, e));
    while (text.n > 0) {
        const unsigned char *const blank = memchr(text.at, ' ', text.n);
        const size_t n = blank == NULL ? text.n : (size_t)(blank - text.at);
        APR_TRY(apr_made_add(&to->text, (struct apr_bytes){ text.at, n }, e));
        if (blank != NULL)
            APR_TRY(apr_made_add(&to->text, step->mark, e));
        text = (struct apr_bytes){ text.at + n + (blank != NULL), text.n - n - (blank != NULL) };
    }
    return end_piece(to, e);
}

static enum apr_code do_step(struct apr_split *s, const struct step *step, struct apr_bytes text, struct apr_cut_text *to,
                             struct apr_error *e)
{
    switch (step->kind) {
    case CUT:    return cut_piece(s, step, text, to, e);
    case BYTES:  return put_bytes(text, to, e);
    case META:   return put_meta(s, step, text, to, e);
    case GROUPS: return group_digits(step, text, to, e);
    case PREFIXED:
        if (text.at[0] != ' ')
            APR_TRY(apr_made_add(&to->text, apr_text(" "), e));
        return put_piece(to, text, e);
    case LENGTH:
        while (text.n > 0)
            APR_TRY(put_characters(to, &text, step->length, e));
        return APR_OK;
    }
    return APR_OK;
}

enum apr_code apr_split_run(struct apr_split *s, struct apr_bytes text, bool at_start, size_t most, const struct apr_cut_text **cut,
                            struct apr_error *e)
{
    struct apr_cut_text *from = &s->cut[0], *to = &s->cut[1];
    from->text.n = from->n = 0;
    from->text.most = to->text.most = most;
    s->at_start = at_start;
    APR_TRY(put_piece(from, text, e));
    for (size_t k = 0; k < s->n; k++) {
        struct apr_cut_text *const done = from;
        size_t begin = 0;
        to->text.n = to->n = 0;
        for (size_t i = 0; i < from->n; begin = from->end[i++])
            APR_TRY(do_step(s, &s->step[k], (struct apr_bytes){ from->text.at + begin, from->end[i] - begin }, to, e));
        from = to;
        to = done;
    }
    *cut = from;
    return APR_OK;
}

/* ---- making it ------------------------------------------------------------------------------------------------------- */

void apr_split_free(struct apr_split *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->n; i++)
        apr_expression_free(s->step[i].x);
    free(s->step);
    apr_cut_text_end(&s->cut[0]);
    apr_cut_text_end(&s->cut[1]);
    free(s);
}

/* step is taken over, its expression too. */
static enum apr_code put_step(struct apr_split *s, const struct step *step, struct apr_error *e)
{
    struct step *const more = s->n == MOST_STEPS ? NULL : apr_grown(s->step, &s->room, s->n, 8, sizeof *more);
    if (more != NULL) {
        s->step = more;
        s->step[s->n++] = *step;
        return APR_OK;
    }
    apr_expression_free(step->x);
    return s->n < MOST_STEPS ? apr_no_memory(e)
                             : apr_fail(e, APR_ELIMIT, APR_NOWHERE, "the pre_tokenizer has more than %u steps", MOST_STEPS);
}

static enum apr_code put_cut(struct apr_split *s, struct apr_bytes expression, bool huggingface, struct step step, struct apr_error *e)
{
    APR_TRY(apr_expression_new(&step.x, expression, huggingface, e));
    return put_step(s, &step, e);
}

/* Its matches are single characters, or runs. */
static enum apr_code put_class(struct apr_split *s, const char *expression, enum behavior behavior, bool invert, struct apr_error *e)
{
    return put_cut(s, apr_text(expression), false, (struct step){ .kind = CUT, .behavior = behavior, .invert = invert }, e);
}

#define SIGN      "[!-/:-@\\[-`{-~\\p{P}]"
#define GPT2      "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

enum {
    TYPE, PARTS, PATTERN, BEHAVIOR, INVERT, USE_REGEX, ADD_PREFIX_SPACE, INDIVIDUAL, DELIMITER, REPLACEMENT, PREPEND_SCHEME, SPLITS,
    LENGTHS, NMEMBERS,
};

static struct apr_bytes text_of(const struct apr_value *v) { return v->type == APR_META_STRING ? v->text : (struct apr_bytes){ 0 }; }

static bool choice(const struct apr_value *v, bool unsaid) { return v->type == APR_META_BOOL ? v->b : unsaid; }

static enum apr_code behavior_of(struct apr_bytes word, enum behavior *behavior, struct apr_error *e)
{
    static const char *const words[] = { "Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext" };
    for (unsigned i = 0; i < APR_LENGTH(words); i++)
        if (apr_bytes_is(word, words[i])) {
            *behavior = (enum behavior)i;
            return APR_OK;
        }
    return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "the pre_tokenizer has an unknown behavior, %s", APR_QUOTED(word));
}

/* An expression that matches this text and no other. */
static enum apr_code put_escaped(struct apr_split *s, struct apr_bytes text, const struct step *step, struct apr_error *e)
{
    struct apr_made spelled = { 0 };
    enum apr_code code = apr_made_add(&spelled, apr_text("\\Q"), e);
    for (size_t i = 0; i < text.n && code == APR_OK; i++)
        code = apr_made_add(&spelled, text.at[i] == '\\' ? apr_text("\\E\\\\\\Q") : (struct apr_bytes){ text.at + i, 1 }, e);
    if (code == APR_OK)
        code = apr_made_add(&spelled, apr_text("\\E"), e);
    if (code == APR_OK)
        code = put_cut(s, (struct apr_bytes){ spelled.at, spelled.n }, false, *step, e);
    free(spelled.at);
    return code;
}

static enum apr_code put_split(struct apr_split *s, struct apr_vocabulary *scratch, const struct apr_member *m, struct apr_error *e)
{
    struct apr_member pattern[] = { { .key = "String", .must = "s" }, { .key = "Regex", .must = "s" } };
    struct step step = { .kind = CUT, .invert = choice(&m[INVERT].value, false) };
    APR_TRY(behavior_of(text_of(&m[BEHAVIOR].value), &step.behavior, e));
    APR_TRY(apr_take_members(scratch, &m[PATTERN].value, pattern, 2, e));
    if (pattern[1].value.type == APR_META_STRING)
        return put_cut(s, pattern[1].value.text, true, step, e);
    if (pattern[0].value.type == APR_META_STRING)
        return put_escaped(s, pattern[0].value.text, &step, e);
    return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "the pre_tokenizer splits by no pattern");
}

static enum apr_code put_byte_level(struct apr_split *s, const struct apr_member *m, struct apr_error *e)
{
    if (choice(&m[ADD_PREFIX_SPACE].value, true))
        APR_TRY(put_step(s, &(struct step){ .kind = PREFIXED }, e));
    if (choice(&m[USE_REGEX].value, true))
        APR_TRY(put_cut(s, apr_text(GPT2), true, (struct step){ .kind = CUT, .behavior = ISOLATED }, e));
    return put_step(s, &(struct step){ .kind = BYTES }, e);
}

static enum apr_code put_metaspace(struct apr_split *s, const struct apr_member *m, struct apr_error *e)
{
    const struct apr_bytes scheme = text_of(&m[PREPEND_SCHEME].value), mark = text_of(&m[REPLACEMENT].value);
    struct step step = { .kind = META, .mark = mark, .scheme = ALWAYS };
    if (apr_bytes_is(scheme, "never") || !choice(&m[ADD_PREFIX_SPACE].value, true))
        step.scheme = NEVER;
    else if (apr_bytes_is(scheme, "first"))
        step.scheme = FIRST;
    else if (scheme.n > 0 && !apr_bytes_is(scheme, "always"))
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "the pre_tokenizer Metaspace prepends in an unknown way, %s", APR_QUOTED(scheme));
    if (mark.n == 0 || apr_utf8_length(mark.at, mark.n) != mark.n)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "the pre_tokenizer Metaspace has no character to replace blanks by");
    APR_TRY(put_step(s, &step, e));
    return choice(&m[SPLITS].value, true) ? put_escaped(s, mark, &(struct step){ .kind = CUT, .behavior = WITH_NEXT }, e) : APR_OK;
}

static enum apr_code put_punctuation(struct apr_split *s, const struct apr_member *m, struct apr_error *e)
{
    enum behavior behavior = ISOLATED;
    if (m[BEHAVIOR].value.type == APR_META_STRING)
        APR_TRY(behavior_of(m[BEHAVIOR].value.text, &behavior, e));
    return put_class(s, SIGN, behavior, false, e);
}

static enum apr_code put_bert(struct apr_split *s, struct apr_error *e)
{
    APR_TRY(put_class(s, "[" APR_SPACES "]", REMOVED, false, e));
    return put_class(s, SIGN, ISOLATED, false, e);
}

static enum apr_code put_fixed(struct apr_split *s, const struct apr_member *m, struct apr_error *e)
{
    const uint64_t length = m[LENGTHS].value.type == APR_META_U64 ? m[LENGTHS].value.u : 5;
    if (length == 0)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "the pre_tokenizer FixedLength has a length of 0");
    return put_step(s, &(struct step){ .kind = LENGTH, .length = length }, e);
}

static enum apr_code put_type(struct apr_split *s, struct apr_vocabulary *scratch, const struct apr_member *m, struct apr_error *e)
{
    const struct apr_bytes type = text_of(&m[TYPE].value), delimiter = text_of(&m[DELIMITER].value);
    if (apr_bytes_is(type, "Split"))
        return put_split(s, scratch, m, e);
    if (apr_bytes_is(type, "ByteLevel"))
        return put_byte_level(s, m, e);
    if (apr_bytes_is(type, "Metaspace"))
        return put_metaspace(s, m, e);
    if (apr_bytes_is(type, "Digits"))
        return put_class(s, "\\p{N}", choice(&m[INDIVIDUAL].value, false) ? ISOLATED : CONTIGUOUS, false, e);
    if (apr_bytes_is(type, "Punctuation"))
        return put_punctuation(s, m, e);
    if (apr_bytes_is(type, "BertPreTokenizer"))
        return put_bert(s, e);
    if (apr_bytes_is(type, "Whitespace"))
        return put_class(s, "[" APR_RUST_WORD "]+|[^" APR_RUST_WORD APR_SPACES "]+", REMOVED, true, e);
    if (apr_bytes_is(type, "WhitespaceSplit"))
        return put_class(s, "[" APR_SPACES "]", REMOVED, false, e);
    if (apr_bytes_is(type, "CharDelimiterSplit") && delimiter.n > 0)
        return put_escaped(s, delimiter, &(struct step){ .kind = CUT, .behavior = REMOVED }, e);
    if (apr_bytes_is(type, "FixedLength"))
        return put_fixed(s, m, e);
    return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "pre_tokenizer %s is not known", APR_QUOTED(type));
}

static enum apr_code put_part(struct apr_split *s, struct apr_vocabulary *scratch, const struct apr_value *part, unsigned levels,
                              struct apr_error *e)
{
    struct apr_member m[NMEMBERS] = {
        { .key = "type", .must = "s" },
        { .key = "pretokenizers", .must = "[" },
        { .key = "pattern", .must = "{" },
        { .key = "behavior", .must = "s" },
        { .key = "invert", .must = "b" },
        { .key = "use_regex", .must = "b" },
        { .key = "add_prefix_space", .must = "bn" },
        { .key = "individual_digits", .must = "b" },
        { .key = "delimiter", .must = "s" },
        { .key = "replacement", .must = "s" },
        { .key = "prepend_scheme", .must = "sn" },
        { .key = "split", .must = "bn" },
        { .key = "length", .must = "u" },
    };
    struct apr_walk w;
    struct apr_item item;
    bool more = true;
    APR_TRY(apr_take_members(scratch, part, m, NMEMBERS, e));
    if (!apr_bytes_is(text_of(&m[TYPE].value), "Sequence"))
        return put_type(s, scratch, m, e);
    if (m[PARTS].value.type != APR_META_ARRAY || levels == 0)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "pre_tokenizer Sequence is no list, or stands in too many others");
    APR_TRY(apr_walk_in(&w, m[PARTS].value.text, 0, '[', e));
    for (;;) {
        struct apr_value inner;
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            return APR_OK;
        APR_TRY(apr_json_checked(&scratch->arena, item.value, 0, &inner, e));
        APR_TRY(put_part(s, scratch, &inner, levels - 1, e));
    }
}

static enum apr_code finish(struct apr_split **s, enum apr_code code)
{
    if (code != APR_OK) {
        apr_split_free(*s);
        *s = NULL;
    }
    return code;
}

enum apr_code apr_split_json(struct apr_split **s, struct apr_vocabulary *scratch, struct apr_bytes pre_tokenizer, struct apr_error *e)
{
    const struct apr_value whole = { .type = APR_META_OBJECT, .encoding = APR_JSON, .text = pre_tokenizer };
    *s = calloc(1, sizeof **s);
    if (*s == NULL)
        return apr_no_memory(e);
    return finish(s, pre_tokenizer.n == 0 ? APR_OK : put_part(*s, scratch, &whole, DEPTH, e));
}

static enum apr_code put_named(struct apr_split *s, const struct apr_pre *pre, struct apr_error *e)
{
    for (size_t i = 0; i < APR_MOST_PRE_STEPS && pre->step[i] != NULL; i++)
        if (strcmp(pre->step[i], APR_GROUPS_OF_DIGITS) == 0)
            APR_TRY(put_cut(s, apr_text("\\p{N}+"), false, (struct step){ .kind = GROUPS }, e));
        else
            APR_TRY(put_cut(s, apr_text(pre->step[i]), false, (struct step){ .kind = CUT, .behavior = ISOLATED }, e));
    return pre->no_bytes ? APR_OK : put_step(s, &(struct step){ .kind = BYTES }, e);
}

enum apr_code apr_split_named(struct apr_split **s, const struct apr_pre *pre, struct apr_error *e)
{
    *s = calloc(1, sizeof **s);
    if (*s == NULL)
        return apr_no_memory(e);
    return finish(s, put_named(*s, pre, e));
}
