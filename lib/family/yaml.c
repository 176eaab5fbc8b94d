#include "family/yaml.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "base/arena.h"
#include "base/bytes.h"

#define MOST_LEVELS 64
#define MOST_NODES  1000000

struct apr_yaml_document {
    struct apr_yaml  *root;
    struct apr_arena *arena;
};

/* From 1, columns in characters. */
struct place {
    unsigned line, column;
};

/* open: the maps and lists around the next node, and where each one's next child is linked. */
struct builder {
    yaml_parser_t             parser;
    yaml_event_t              event;
    struct apr_yaml_document *d;
    struct apr_error         *e;
    struct {
        struct apr_yaml  *node;
        struct apr_yaml **link;
    } open[MOST_LEVELS];
    unsigned         depth;
    struct place     key_place;
    size_t           nodes;
    bool             keyed; /* key is read, its value comes next */
    struct apr_bytes key;
};

APR_PRINTF(3, 4) static enum apr_code complain(const struct builder *b, struct place at, const char *format, ...)
{
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    return apr_fail(b->e, APR_EARG, APR_NOWHERE, "line %u, column %u: %s", at.line, at.column, what);
}

static struct place place_of_mark(yaml_mark_t mark)
{
    return (struct place){ (unsigned)mark.line + 1, (unsigned)mark.column + 1 };
}

static struct place here(const struct builder *b)
{
    return place_of_mark(b->event.start_mark);
}

/* ---- nodes --------------------------------------------------------------------------------------------------------- */

/* The scalar at hand, with a terminator. */
static enum apr_code take_text(struct builder *b, struct apr_bytes *text)
{
    const size_t n = b->event.data.scalar.length;
    if (memchr(b->event.data.scalar.value, 0, n) != NULL)
        return complain(b, here(b), "a NUL character in a text");
    *text = apr_arena_copy(&b->d->arena, (struct apr_bytes){ b->event.data.scalar.value, n });
    return text->at == NULL ? apr_no_memory(b->e) : APR_OK;
}

/* Takes the node at hand as a key, where one is due. */
static enum apr_code take_key(struct builder *b, bool *taken)
{
    *taken = b->depth > 0 && b->open[b->depth - 1].node->kind == APR_YAML_MAP && !b->keyed;
    if (!*taken)
        return APR_OK;
    if (b->event.type != YAML_SCALAR_EVENT)
        return complain(b, here(b), "a map or a list as a key");
    APR_TRY(take_text(b, &b->key));
    if (apr_bytes_is(b->key, "<<") && b->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
        return complain(b, here(b), "merge keys (<<) are not accepted");
    b->key_place = here(b);
    b->keyed = true;
    return APR_OK;
}

/* Hangs an empty node where the next one belongs. */
static enum apr_code add(struct builder *b, enum apr_yaml_kind kind, struct apr_yaml **node)
{
    if (++b->nodes > MOST_NODES)
        return complain(b, here(b), "more than %d nodes", MOST_NODES);
    struct apr_yaml *const fresh = apr_arena_alloc(&b->d->arena, sizeof *fresh);
    if (fresh == NULL)
        return apr_no_memory(b->e);
    const struct place value = here(b), at = b->keyed ? b->key_place : value;
    *fresh = (struct apr_yaml){ .kind = kind, .line = at.line, .column = at.column, .value_line = value.line, .value_column = value.column,
                                .text = apr_text("") };
    if (b->keyed)
        fresh->key = b->key;
    b->keyed = false;
    if (b->depth == 0) {
        b->d->root = fresh;
    } else {
        *b->open[b->depth - 1].link = fresh;
        b->open[b->depth - 1].link = &fresh->next;
        b->open[b->depth - 1].node->n++;
    }
    *node = fresh;
    return APR_OK;
}

static enum apr_code add_scalar(struct builder *b)
{
    struct apr_yaml *node;
    APR_TRY(add(b, APR_YAML_SCALAR, &node));
    node->quoted = b->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    return take_text(b, &node->text);
}

static enum apr_code open_container(struct builder *b, enum apr_yaml_kind kind)
{
    struct apr_yaml *node;
    if (b->depth == MOST_LEVELS)
        return complain(b, here(b), "more than %d levels deep", MOST_LEVELS);
    APR_TRY(add(b, kind, &node));
    b->open[b->depth].node = node;
    b->open[b->depth++].link = &node->child;
    return APR_OK;
}

static bool before(const struct apr_yaml *x, const struct apr_yaml *y)
{
    return x->line != y->line ? x->line < y->line : x->column < y->column;
}

static int compare_keys(const void *a, const void *b)
{
    const struct apr_yaml *const x = *(const struct apr_yaml *const *)a, *const y = *(const struct apr_yaml *const *)b;
    const int order = apr_bytes_compare(x->key, y->key);
    return order != 0 ? order : before(x, y) ? -1 : before(y, x);
}

/* By sorting, since a map may have a million keys. */
static enum apr_code refuse_twins(struct builder *b, const struct apr_yaml *map)
{
    if (map->n < 2)
        return APR_OK;
    const struct apr_yaml **const sorted = malloc(map->n * sizeof(const struct apr_yaml *)), *second = NULL;
    if (sorted == NULL)
        return apr_no_memory(b->e);
    size_t n = 0;
    for (const struct apr_yaml *child = map->child; child != NULL; child = child->next)
        sorted[n++] = child;
    qsort(sorted, n, sizeof *sorted, compare_keys);
    for (size_t i = 1; i < n; i++)
        if (apr_bytes_equal(sorted[i - 1]->key, sorted[i]->key) && (second == NULL || before(sorted[i], second)))
            second = sorted[i];
    free(sorted);
    return second == NULL ? APR_OK
                          : complain(b, (struct place){ second->line, second->column }, "a second key %s", APR_QUOTED(second->key));
}

/* ---- events -------------------------------------------------------------------------------------------------------- */

/* The reader of characters knows the byte where it failed, but not the line. */
static struct place place_of_byte(struct apr_bytes text, size_t at)
{
    struct place p = { 1, 1 };
    for (size_t i = 0; i < at && i < text.n; i++) {
        const bool ends = text.at[i] == '\n', begins = (text.at[i] & 0xC0) != 0x80; /* a line, a character */
        p = (struct place){ p.line + ends, ends ? 1 : p.column + begins };
    }
    return p;
}

/* Does a line begin at i? libyaml breaks them at NEL, LS and PS too. */
static bool begins_line(struct apr_bytes text, size_t i)
{
    static const char *const before[] = { "\n", "\r", "\xc2\x85", "\xe2\x80\xa8", "\xe2\x80\xa9", "\xef\xbb\xbf" };
    for (size_t k = 0; k < APR_LENGTH(before); k++)
        if (strlen(before[k]) <= i && memcmp(text.at + i - strlen(before[k]), before[k], strlen(before[k])) == 0)
            return true;
    return i == 0;
}

/* libyaml compares each %TAG with all before it, so none may reach it. */
static enum apr_code refuse_directives(const struct builder *b, struct apr_bytes text)
{
    const unsigned char *at = text.at;
    while (text.n > 0 && (at = memchr(at, '%', text.n - (size_t)(at - text.at))) != NULL) {
        const size_t i = (size_t)(at++ - text.at);
        if (begins_line(text, i))
            return complain(b, place_of_byte(text, i), "a line begins with %%: directives are not accepted");
    }
    return APR_OK;
}

static enum apr_code next(struct builder *b, struct apr_bytes text)
{
    yaml_event_delete(&b->event);
    if (yaml_parser_parse(&b->parser, &b->event))
        return APR_OK;
    memset(&b->event, 0, sizeof b->event);
    const yaml_parser_t *const p = &b->parser;
    if (p->error == YAML_MEMORY_ERROR)
        return apr_no_memory(b->e);
    const struct place at = p->error == YAML_READER_ERROR ? place_of_byte(text, p->problem_offset) : place_of_mark(p->problem_mark);
    return complain(b, at, "%s", p->problem == NULL ? "is no YAML" : p->problem);
}

/* What every node begins with. *key tells that it was a key. */
static enum apr_code begin(struct builder *b, const yaml_char_t *anchor, const yaml_char_t *tag, bool *key)
{
    if (anchor != NULL)
        return complain(b, here(b), "anchors are not accepted: &%s", (const char *)anchor);
    if (tag != NULL)
        return complain(b, here(b), "tags are not accepted: %s", (const char *)tag);
    return take_key(b, key);
}

static enum apr_code handle(struct builder *b)
{
    const yaml_event_t *const event = &b->event;
    bool key = false;
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        return b->d->root == NULL ? APR_OK : complain(b, here(b), "a second document");
    case YAML_ALIAS_EVENT:
        return complain(b, here(b), "aliases are not accepted: *%s", (const char *)event->data.alias.anchor);
    case YAML_SCALAR_EVENT:
        APR_TRY(begin(b, event->data.scalar.anchor, event->data.scalar.tag, &key));
        return key ? APR_OK : add_scalar(b);
    case YAML_SEQUENCE_START_EVENT:
        APR_TRY(begin(b, event->data.sequence_start.anchor, event->data.sequence_start.tag, &key));
        return open_container(b, APR_YAML_LIST);
    case YAML_MAPPING_START_EVENT:
        APR_TRY(begin(b, event->data.mapping_start.anchor, event->data.mapping_start.tag, &key));
        return open_container(b, APR_YAML_MAP);
    case YAML_SEQUENCE_END_EVENT:
        b->depth--;
        return APR_OK;
    case YAML_MAPPING_END_EVENT:
        return refuse_twins(b, b->open[--b->depth].node);
    default:
        return APR_OK;
    }
}

/* An empty text is an empty scalar, as "---" alone is. */
static enum apr_code build(struct builder *b, struct apr_bytes text)
{
    APR_TRY(refuse_directives(b, text));
    do {
        APR_TRY(next(b, text));
        APR_TRY(handle(b));
    } while (b->event.type != YAML_STREAM_END_EVENT);
    return b->d->root == NULL ? add(b, APR_YAML_SCALAR, &b->d->root) : APR_OK;
}

enum apr_code apr_yaml_parse(struct apr_yaml_document **d, struct apr_bytes text, struct apr_error *e)
{
    *d = NULL;
    if (text.n > APR_YAML_MOST)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "line 1, column 1: a YAML text of more than %zu MiB", APR_YAML_MOST >> 20);
    if (text.n >= 3 && memcmp(text.at, "\xef\xbb\xbf", 3) == 0) /* the mark of UTF-8, which libyaml takes for a column */
        text = (struct apr_bytes){ text.at + 3, text.n - 3 };
    struct builder b = { .e = e, .d = calloc(1, sizeof *b.d) };
    if (b.d == NULL)
        return apr_no_memory(e);
    enum apr_code code;
    if (yaml_parser_initialize(&b.parser)) {
        yaml_parser_set_encoding(&b.parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&b.parser, text.n == 0 ? (const unsigned char *)"" : text.at, text.n);
        code = build(&b, text);
        yaml_event_delete(&b.event);
        yaml_parser_delete(&b.parser);
    } else {
        code = apr_no_memory(e);
    }
    if (code == APR_OK)
        *d = b.d;
    else
        apr_yaml_free(b.d);
    return code;
}

void apr_yaml_free(struct apr_yaml_document *d)
{
    if (d == NULL)
        return;
    apr_arena_free(&d->arena);
    free(d);
}

const struct apr_yaml *apr_yaml_root(const struct apr_yaml_document *d)
{
    return d->root;
}

const struct apr_yaml *apr_yaml_get(const struct apr_yaml *node, const char *key)
{
    if (node == NULL || node->kind != APR_YAML_MAP)
        return NULL;
    const struct apr_yaml *child = node->child;
    while (child != NULL && !apr_bytes_equal(child->key, apr_text(key)))
        child = child->next;
    return child;
}
