/* Metadata for people, one value raw, and both as JSON. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/memstream.h"
#include "base/nearest.h"
#include "files/source.h"
#include "inspect.h"
#include "model/meta.h"
#include "values/dtype.h"

#define WIDTH 80
#define LONGEST_PATH 128 /* of those that a misspelt one is held against */
#define SHORT 16 /* elements of an array that are shown without --full */

/* ---- spelling ------------------------------------------------------------------------------------------------------- */

const char *spell_float(double v, char buffer[32])
{
    if (!isfinite(v)) {
        snprintf(buffer, 32, "%s", isnan(v) ? "nan" : v < 0 ? "-inf" : "inf");
        return buffer;
    }
    if (v == trunc(v) && fabs(v) < 1e9) {
        snprintf(buffer, 32, "%.0f", v);
        return buffer;
    }
    for (int digits = 6; digits <= 9; digits++)
        if (snprintf(buffer, 32, "%.*g", digits, v) < 32 && strtof(buffer, NULL) == (float)v)
            break;
    return buffer;
}

/* A scalar, without quotes. */
static void put_scalar(FILE *to, const struct apr_value *v)
{
    char buffer[32];
    switch (v->type) {
    case APR_META_U8: case APR_META_U16: case APR_META_U32: case APR_META_U64:
        fprintf(to, "%llu", (unsigned long long)v->u);
        break;
    case APR_META_I8: case APR_META_I16: case APR_META_I32: case APR_META_I64:
        fprintf(to, "%lld", (long long)v->i);
        break;
    case APR_META_F32:
        fputs(spell_float(v->f, buffer), to);
        break;
    case APR_META_F64:
        if (v->encoding == APR_JSON && v->text.n > 0)
            fwrite(v->text.at, 1, v->text.n, to);
        else
            fputs(isfinite(v->f) ? apr_spell_real(v->f, buffer) : spell_float(v->f, buffer), to);
        break;
    case APR_META_BOOL:
        fputs(v->b ? "true" : "false", to);
        break;
    case APR_META_STRING: case APR_META_ARRAY: case APR_META_OBJECT:
        if (v->text.n > 0)
            fwrite(v->text.at, 1, v->text.n, to);
        break;
    case APR_META_NULL: case APR_META_ANY:
        fputs("null", to);
        break;
    }
}

static struct apr_bytes head_of(struct apr_bytes s, size_t columns, bool *cut)
{
    size_t n = 0;
    for (size_t at = 0; at < s.n; at = n) {
        const size_t step = apr_utf8_length(s.at + at, s.n - at);
        n += step > 0 ? step : 1;
        if (apr_columns((struct apr_bytes){ s.at, n }) > columns) {
            *cut = true;
            return (struct apr_bytes){ s.at, at };
        }
    }
    return s;
}

static void print_array(FILE *to, const struct apr_value *v, size_t columns)
{
    struct apr_elements w = apr_elements_of(v);
    struct apr_value element;
    size_t used = 1;
    bool more = apr_elements_next(&w, &element), any = false;
    putc('[', to);
    for (; more && used < columns; more = apr_elements_next(&w, &element)) {
        fputs(any ? ", " : "", to);
        any = true;
        print_value(to, &element, 24);
        used += 2 + (element.type == APR_META_STRING ? apr_min(apr_columns(element.text), 24) : 6);
    }
    fputs(more ? ", ...]" : "]", to);
    apr_elements_end(&w);
}

/* An object without the blanks between its words; as it stands where there is no memory for that. */
static void print_object(FILE *to, struct apr_bytes json, size_t columns)
{
    char *text = NULL;
    size_t n = 0;
    bool cut = false;
    FILE *const compact = apr_memstream(&text, &n);
    if (compact != NULL) {
        apr_out_raw(&(struct apr_out){ .to = compact }, NULL, json);
        if (fclose(compact) == 0 && text != NULL)
            json = (struct apr_bytes){ (const unsigned char *)text, n };
    }
    apr_print_bytes(to, head_of(json, columns, &cut));
    fputs(cut ? "..." : "", to);
    free(text);
}

void print_value(FILE *to, const struct apr_value *v, size_t columns)
{
    bool cut = false;
    if (v->type == APR_META_ARRAY && columns > 24) {
        print_array(to, v, columns);
    } else if (v->type == APR_META_ARRAY) {
        fputs("[...]", to);
    } else if (v->type == APR_META_OBJECT) {
        print_object(to, v->text, columns);
    } else if (v->type == APR_META_STRING) {
        apr_print_bytes(to, head_of(v->text, columns, &cut));
        fputs(cut ? "..." : "", to);
    } else {
        put_scalar(to, v);
    }
}

const char *file_type_of(struct apr_bytes key, const struct apr_value *v)
{
    return apr_bytes_is(key, "general.file_type") && v->type == APR_META_U32 ? apr_ggml_file_type(v->u) : NULL;
}

/* ---- a list of entries ---------------------------------------------------------------------------------------------- */

/* With --full, all elements of an array, one a line, and strings to their end. */
static void print_full(const struct apr_value *v)
{
    struct apr_elements w = apr_elements_of(v);
    struct apr_value element;
    for (uint64_t i = 0; apr_elements_next(&w, &element); i++) {
        printf("\n    %llu: ", (unsigned long long)i);
        print_value(stdout, &element, SIZE_MAX);
    }
    apr_elements_end(&w);
}

static void print_entries(const struct inspection *x, const struct apr_meta *meta)
{
    const bool colour = x->o->cli.colour, full = x->o->full;
    size_t width = 0;
    for (size_t i = 0; i < meta->n; i++)
        width = apr_columns(meta->entry[i].key) > width ? apr_columns(meta->entry[i].key) : width;
    width = width > WIDTH / 2 ? WIDTH / 2 : width;
    for (size_t i = 0; i < meta->n; i++) {
        const struct apr_value *v = &meta->entry[i].value;
        const size_t columns = apr_columns(meta->entry[i].key);
        char type[32];
        apr_print_bytes(stdout, meta->entry[i].key);
        printf("%*s", columns < width ? (int)(width - columns) : 0, "");
        if (v->type == APR_META_ARRAY)
            snprintf(type, sizeof type, "%s[%llu]", apr_meta_type_word(v->element), (unsigned long long)apr_meta_length(v));
        else
            snprintf(type, sizeof type, "%s", apr_meta_type_word(v->type));
        printf("  %s%-11s%s ", apr_style(colour, APR_DIM), type, apr_style(colour, APR_PLAIN));
        if (v->type == APR_META_ARRAY && full)
            print_full(v);
        else
            print_value(stdout, v, full ? SIZE_MAX : width + 14 + 16 < WIDTH ? WIDTH - width - 14 : 16);
        if (file_type_of(meta->entry[i].key, v) != NULL)
            printf("  (%s)", file_type_of(meta->entry[i].key, v));
        putchar('\n');
    }
}

int show_metadata(struct inspection *x)
{
    struct apr_meta config;
    struct apr_error e;
    if (config_metadata(x, &config, &e) != APR_OK)
        return apr_cli_fail(&x->o->cli, &e);
    print_entries(x, &x->m->meta);
    if (config.n > 0)
        printf("%s%sconfig.json%s\n", x->m->meta.n > 0 ? "\n" : "", apr_style(x->o->cli.colour, APR_BOLD),
               apr_style(x->o->cli.colour, APR_PLAIN));
    print_entries(x, &config);
    free(config.entry);
    return APR_EXIT_YES;
}

static void write_entries(struct apr_out *j, const char *key, const struct apr_meta *meta, bool full)
{
    apr_out_open(j, key, '{');
    for (size_t i = 0; i < meta->n; i++) {
        apr_out_key(j, meta->entry[i].key);
        apr_out_value(j, NULL, &meta->entry[i].value, full ? UINT64_MAX : SHORT);
    }
    apr_out_close(j, '}');
}

enum apr_code write_metadata(struct apr_out *j, const struct inspection *x, struct apr_error *e)
{
    struct apr_meta config = { 0 };
    write_entries(j, "metadata", &x->m->meta, x->o->full);
    if (!x->o->metadata || x->m->config == NULL)
        return APR_OK;
    const enum apr_code code = config_metadata(x, &config, e);
    write_entries(j, "config", &config, x->o->full);
    free(config.entry);
    return code;
}

/* ---- one value ------------------------------------------------------------------------------------------------------ */

/* The member at a dotted path in an object; its text lives as long as the model. */
static bool find_member(const struct inspection *x, const struct apr_value *object, const char *path, struct apr_value *v)
{
    const size_t n = strcspn(path, ".");
    struct apr_elements w = apr_elements_of(object);
    bool found = false;
    if (object->type == APR_META_OBJECT)
        while (!found && apr_elements_next(&w, v))
            found = w.key.n == n && memcmp(w.key.at, path, n) == 0;
    if (found && v->type == APR_META_STRING) {
        v->text = apr_arena_copy(&x->m->arena, v->text);
        found = v->text.at != NULL;
    }
    apr_elements_end(&w);
    return found && (path[n] == 0 || find_member(x, v, path + n + 1, v));
}

/* A key as it is; else a path through objects, of which the first key may have dots of its own. */
static bool find_in(const struct inspection *x, const struct apr_meta *meta, const char *key, struct apr_value *v)
{
    const struct apr_value *at = apr_meta_find(meta, key);
    if (at != NULL) {
        *v = *at;
        return true;
    }
    for (size_t i = 0; i < meta->n; i++) {
        const struct apr_bytes first = meta->entry[i].key;
        if (strlen(key) > first.n + 1 && key[first.n] == '.' && memcmp(key, first.at, first.n) == 0 &&
            find_member(x, &meta->entry[i].value, key + first.n + 1, v))
            return true;
    }
    return false;
}

/* The members of the object that the path leads to but for its last part, as paths, are tried. */
static void try_members(const struct inspection *x, const struct apr_meta *meta, const char *key, struct apr_nearest *near)
{
    const char *const dot = strrchr(key, '.');
    const size_t n = dot == NULL || strlen(key) > LONGEST_PATH ? 0 : (size_t)(dot - key);
    char path[2 * LONGEST_PATH + 2];
    struct apr_value object, member;
    memcpy(path, key, n);
    path[n] = 0;
    if (n == 0 || !find_in(x, meta, path, &object) || object.type != APR_META_OBJECT)
        return;
    struct apr_elements w = apr_elements_of(&object);
    while (apr_elements_next(&w, &member)) {
        snprintf(path + n, sizeof path - n, ".%.*s", (int)apr_min(w.key.n, LONGEST_PATH), (const char *)w.key.at);
        const struct apr_bytes kept = apr_arena_copy(&x->m->arena, apr_text(path));
        if (kept.at != NULL)
            apr_nearest_try(near, kept);
    }
    apr_elements_end(&w);
}

/* The value of a metadata key, or at a path into objects of it; else of config.json. near: what may have been meant when there is none. */
static enum apr_code find_value(const struct inspection *x, const char *key, struct apr_value *v, bool *found, struct apr_nearest *near,
                                struct apr_error *e)
{
    struct apr_meta config;
    APR_TRY(config_metadata(x, &config, e));
    *near = apr_nearest_to(apr_text(key));
    *found = find_in(x, &x->m->meta, key, v) || find_in(x, &config, key, v);
    if (!*found) {
        try_members(x, &x->m->meta, key, near);
        try_members(x, &config, key, near);
    }
    for (size_t i = 0; !*found && i < x->m->meta.n + config.n; i++)
        apr_nearest_try(near, i < x->m->meta.n ? x->m->meta.entry[i].key : config.entry[i - x->m->meta.n].key);
    free(config.entry);
    return APR_OK;
}

/* As it is into a file or a pipe; a terminal gets lines and tabs, but no other control characters. */
static void put_raw(const struct apr_value *v)
{
    const bool terminal = isatty(STDOUT_FILENO) != 0;
    const struct apr_bytes s = v->text;
    if (!terminal || (v->type != APR_META_STRING && v->type != APR_META_OBJECT && v->type != APR_META_ARRAY)) {
        put_scalar(stdout, v);
    } else {
        for (size_t i = 0, begin = 0; i <= s.n; i++)
            if (i == s.n || s.at[i] == '\n' || s.at[i] == '\t') {
                apr_print_bytes(stdout, (struct apr_bytes){ s.at + begin, i - begin });
                if (i < s.n)
                    putchar(s.at[i]);
                begin = i + 1;
            }
    }
    putchar('\n');
}

static void print_raw(const struct apr_value *v)
{
    struct apr_value element;
    if (v->type != APR_META_ARRAY) {
        put_raw(v);
        return;
    }
    struct apr_elements w = apr_elements_of(v);
    while (apr_elements_next(&w, &element))
        if (element.type == APR_META_ARRAY && element.encoding != APR_JSON) {
            apr_out_value(&(struct apr_out){ .to = stdout }, NULL, &element, UINT64_MAX);
            putchar('\n');
        } else {
            put_raw(&element);
        }
    apr_elements_end(&w);
}

static void tell_absent(const struct inspection *x, const char *key, const struct apr_nearest *near)
{
    struct apr_error e;
    if (near->best.n > 0)
        apr_fail(&e, APR_EARG, APR_NOWHERE, "there is no key %s (did you mean %s?)", APR_QUOTED(apr_text(key)), APR_QUOTED(near->best));
    else
        apr_fail(&e, APR_EARG, APR_NOWHERE, "there is no key %s", APR_QUOTED(apr_text(key)));
    apr_error_in(&e, x->path);
    apr_cli_fail(&x->o->cli, &e);
}

int show_value(struct inspection *x)
{
    int exit_code = APR_EXIT_YES;
    for (size_t i = 0; i < x->o->get.n; i++) {
        struct apr_value v;
        struct apr_nearest near;
        struct apr_error e;
        bool found;
        if (find_value(x, x->o->get.text[i], &v, &found, &near, &e) != APR_OK)
            return apr_cli_fail(&x->o->cli, &e);
        if (found)
            print_raw(&v);
        else
            tell_absent(x, x->o->get.text[i], &near);
        exit_code = found ? exit_code : APR_EXIT_NO;
    }
    return exit_code;
}

static enum apr_code write_one(struct apr_out *j, const char *name, const struct inspection *x, const char *key, bool *all,
                               struct apr_error *e)
{
    struct apr_value v = { .type = APR_META_NULL };
    struct apr_nearest near;
    bool found;
    APR_TRY(find_value(x, key, &v, &found, &near, e));
    apr_out_open(j, name, '{');
    apr_out_text(j, "key", key);
    apr_out_text(j, "type", found ? apr_meta_type_word(v.type) : NULL);
    if (!found)
        v = (struct apr_value){ .type = APR_META_NULL };
    apr_out_value(j, "value", &v, UINT64_MAX);
    apr_out_close(j, '}');
    *all &= found;
    return APR_OK;
}

/* One key as an object; of several, a list of them. */
enum apr_code write_value(struct apr_out *j, const struct inspection *x, bool *found, struct apr_error *e)
{
    const struct apr_texts *get = &x->o->get;
    *found = true;
    if (get->n == 1)
        return write_one(j, "get", x, get->text[0], found, e);
    apr_out_open(j, "get", '[');
    for (size_t i = 0; i < get->n; i++)
        APR_TRY(write_one(j, NULL, x, get->text[i], found, e));
    apr_out_close(j, ']');
    return APR_OK;
}
