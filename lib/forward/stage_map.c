#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/nearest.h"
#include "family/yaml.h"
#include "files/source.h"
#include "forward/stage_map_parts.h"

#define MOST_LINES    1000 /* each is held against each name */
#define MOST_PREFIXES 64
#define MOST_IGNORED  1000

/* ---- names ---------------------------------------------------------------------------------------------------------- */

static const char mark[] = "{L}";

static bool has_side(struct apr_bytes name) { return apr_bytes_end(name, apr_text(":in")) || apr_bytes_end(name, apr_text(":out")); }

enum apr_code apr_foreign_plain(const struct apr_stage_map *map, struct apr_arena **arena, struct apr_bytes *name, struct apr_error *e)
{
    size_t longest = 0;
    for (size_t i = 0; i < map->nprefix; i++)
        if (map->prefix[i].n > longest && name->n >= map->prefix[i].n && memcmp(name->at, map->prefix[i].at, map->prefix[i].n) == 0)
            longest = map->prefix[i].n;
    *name = (struct apr_bytes){ name->at + longest, name->n - longest };
    if (has_side(*name))
        return APR_OK;
    *name = apr_arena_format(arena, "%.*s:out", APR_PRINTED(*name));
    return name->at == NULL ? apr_no_memory(e) : APR_OK;
}

/* A number as it is spelled, without a zero before it. */
static bool read_layer(struct apr_bytes digits, uint32_t *layer)
{
    uint64_t n = 0;
    if (digits.n == 0 || digits.n > 9 || (digits.n > 1 && digits.at[0] == '0'))
        return false;
    for (size_t i = 0; i < digits.n; i++) {
        if (digits.at[i] < '0' || digits.at[i] > '9')
            return false;
        n = 10 * n + (uint64_t)(digits.at[i] - '0');
    }
    *layer = (uint32_t)n;
    return true;
}

bool apr_foreign_matches(const struct apr_foreign_name *p, struct apr_bytes name, uint32_t *layer)
{
    const size_t around = p->before.n + p->after.n;
    *layer = 0;
    if (!p->layered)
        return apr_bytes_equal(p->before, name);
    if (name.n <= around || memcmp(name.at, p->before.at, p->before.n) != 0 ||
        memcmp(name.at + name.n - p->after.n, p->after.at, p->after.n) != 0)
        return false;
    return read_layer((struct apr_bytes){ name.at + p->before.n, name.n - around }, layer);
}

size_t apr_foreign_spell(const struct apr_foreign_name *p, uint32_t layer, const char *end, char *out, size_t room)
{
    char digits[16] = "";
    if (p->layered)
        snprintf(digits, sizeof digits, "%u", layer);
    if (p->before.n + p->after.n >= room)
        return 0;
    const int n = snprintf(out, room, "%.*s%s%.*s%s", APR_PRINTED(p->before), digits, APR_PRINTED(p->after), end);
    return n > 0 && (size_t)n < room ? (size_t)n : 0;
}

/* ---- reading a map -------------------------------------------------------------------------------------------------- */

static enum apr_code complain(const struct apr_yaml *at, const char *what, struct apr_bytes word, struct apr_error *e)
{
    return apr_fail(e, APR_EARG, APR_NOWHERE, "line %u: %s%s%s", at->value_line, what, word.at == NULL ? "" : " ",
                    word.at == NULL ? "" : APR_QUOTED(word));
}

static const struct apr_bytes nothing;

static enum apr_code take_name(struct apr_stage_map *map, const struct apr_yaml *v, bool side, struct apr_foreign_name *name,
                               struct apr_error *e)
{
    if (v->kind != APR_YAML_SCALAR || v->text.n == 0 || v->text.n > 1000)
        return complain(v, "expected a name", nothing, e);
    const struct apr_bytes text = apr_arena_format(&map->arena, "%.*s%s", APR_PRINTED(v->text), side && !has_side(v->text) ? ":out" : "");
    if (text.at == NULL)
        return apr_no_memory(e);
    const unsigned char *const at = memmem(text.at, text.n, mark, sizeof mark - 1);
    *name = (struct apr_foreign_name){ .before = text, .after = { text.at + text.n, 0 }, .layered = at != NULL };
    if (at != NULL) {
        name->before.n = (size_t)(at - text.at);
        name->after = (struct apr_bytes){ at + sizeof mark - 1, text.n - name->before.n - (sizeof mark - 1) };
    }
    if (memchr(name->before.at, '{', name->before.n) != NULL || memchr(name->after.at, '{', name->after.n) != NULL)
        return complain(v, "of braces a name may have {L}, once, not", v->text, e);
    return APR_OK;
}

/* One value, or a list of them. */
static size_t length_of(const struct apr_yaml *v) { return v->kind == APR_YAML_LIST ? v->n : 1; }
static const struct apr_yaml *first_of(const struct apr_yaml *v) { return v->kind == APR_YAML_LIST ? v->child : v; }
static const struct apr_yaml *next_of(const struct apr_yaml *list, const struct apr_yaml *v) { return list == v ? NULL : v->next; }

static enum apr_code take_names(struct apr_stage_map *map, const struct apr_yaml *v, bool side, struct apr_foreign_names *names,
                                struct apr_error *e)
{
    if (length_of(v) == 0 || length_of(v) > APR_MAX_FOREIGN)
        return complain(v, "expected a name, or up to 8 in a list", nothing, e);
    for (const struct apr_yaml *one = first_of(v); one != NULL; one = next_of(v, one))
        APR_TRY(take_name(map, one, side, &names->name[names->n++], e));
    return APR_OK;
}

static enum apr_code take_stage(const struct apr_yaml *v, unsigned *stage, struct apr_error *e)
{
    if (v->kind != APR_YAML_SCALAR)
        return complain(v, "expected a stage", nothing, e);
    *stage = apr_stage_rank(v->text);
    if (*stage < APR_NSTAGES)
        return APR_OK;
    struct apr_nearest near = apr_nearest_to(v->text);
    for (unsigned i = 0; i < APR_NSTAGES; i++)
        apr_nearest_try(&near, apr_text(apr_stage_name(i)));
    return apr_fail(e, APR_EARG, APR_NOWHERE, "line %u: %s is no stage%s%s", v->value_line, APR_QUOTED(v->text),
                    near.best.n > 0 ? "; did you mean " : "", near.best.n > 0 ? APR_QUOTED(near.best) : "");
}

static enum apr_code take_split(const struct apr_yaml *v, struct apr_map_line *line, struct apr_error *e)
{
    if (v->kind != APR_YAML_LIST || v->n < 2 || v->n > APR_MAX_FOREIGN)
        return complain(v, "split: expected a list of 2 to 8 stages", nothing, e);
    for (const struct apr_yaml *one = v->child; one != NULL; one = one->next)
        APR_TRY(take_stage(one, &line->stage[line->nstage++], e));
    return APR_OK;
}

static enum apr_code take_key(struct apr_stage_map *map, const struct apr_yaml *v, struct apr_map_line *line, struct apr_error *e)
{
    if (apr_bytes_is(v->key, "stage")) {
        line->nstage = 1;
        return take_stage(v, &line->stage[0], e);
    }
    if (apr_bytes_is(v->key, "split"))
        return take_split(v, line, e);
    if (apr_bytes_is(v->key, "either"))
        return take_stage(v, &line->either, e);
    if (apr_bytes_is(v->key, "from"))
        return take_names(map, v, true, &line->from, e);
    if (apr_bytes_is(v->key, "when"))
        return take_names(map, v, false, &line->when, e);
    if (apr_bytes_is(v->key, "unless"))
        return take_names(map, v, false, &line->unless, e);
    return complain(v, "a line of stages has stage or split, from, either, when and unless, but not", v->key, e);
}

/* Stages of the whole model, and the one before all layers. */
static bool is_single(unsigned stage)
{
    return stage == APR_STAGE_EMBEDDING || stage == APR_STAGE_FINAL_NORM || stage == APR_STAGE_LM_HEAD;
}

static bool has_layered(const struct apr_foreign_names *names)
{
    for (unsigned i = 0; i < names->n; i++)
        if (names->name[i].layered)
            return true;
    return false;
}

/* All names of a layer's stage have an {L}, those of a single one have none. */
static enum apr_code check_line(const struct apr_map_line *line, const struct apr_yaml *at, struct apr_error *e)
{
    if (line->nstage == 0 || line->from.n == 0)
        return complain(at, "expected a line of {stage: STAGE, from: NAME}", nothing, e);
    const bool single = is_single(line->stage[0]);
    if (line->either < APR_NSTAGES && (line->nstage > 1 || is_single(line->either) != single))
        return complain(at, "either: one stage, of the same kind, stands beside stage", nothing, e);
    for (unsigned i = 1; i < line->nstage; i++)
        if (is_single(line->stage[i]) != single)
            return complain(at, "split: a layer's stages and the model's do not come of one tensor", nothing, e);
    for (unsigned i = 0; i < line->from.n; i++)
        if (line->from.name[i].layered == single)
            return complain(at, single ? "{L} in a name of a stage that is not of each layer:" : "no {L} in a name of a layer's stage:",
                            apr_text(apr_stage_name(line->stage[0])), e);
    if (single && (has_layered(&line->when) || has_layered(&line->unless)))
        return complain(at, "{L} in a condition of a stage that is not of each layer:", apr_text(apr_stage_name(line->stage[0])), e);
    return APR_OK;
}

static enum apr_code take_lines(struct apr_stage_map *map, const struct apr_yaml *list, struct apr_error *e)
{
    if (list->kind != APR_YAML_LIST || list->n > MOST_LINES)
        return complain(list, "stages: expected a list of at most 1000 lines", nothing, e);
    map->line = calloc(list->n + 1, sizeof *map->line);
    if (map->line == NULL)
        return apr_no_memory(e);
    for (const struct apr_yaml *one = list->child; one != NULL; one = one->next) {
        struct apr_map_line *const line = &map->line[map->nline++];
        *line = (struct apr_map_line){ .line = one->value_line, .either = APR_NSTAGES };
        if (one->kind != APR_YAML_MAP)
            return complain(one, "expected a line of {stage: STAGE, from: NAME}", nothing, e);
        if (apr_yaml_get(one, "stage") != NULL && apr_yaml_get(one, "split") != NULL)
            return complain(one, "stage and split exclude each other", nothing, e);
        for (const struct apr_yaml *v = one->child; v != NULL; v = v->next)
            APR_TRY(take_key(map, v, line, e));
        APR_TRY(check_line(line, one, e));
    }
    return APR_OK;
}

static enum apr_code take_prefixes(struct apr_stage_map *map, const struct apr_yaml *v, struct apr_error *e)
{
    if (length_of(v) > MOST_PREFIXES || v->kind == APR_YAML_MAP)
        return complain(v, "prefix: expected texts, at most 64", nothing, e);
    map->prefix = calloc(length_of(v) + 1, sizeof *map->prefix);
    if (map->prefix == NULL)
        return apr_no_memory(e);
    for (const struct apr_yaml *one = first_of(v); one != NULL; one = next_of(v, one)) {
        if (one->kind != APR_YAML_SCALAR || one->text.n == 0)
            return complain(one, "prefix: expected a text", nothing, e);
        map->prefix[map->nprefix] = apr_arena_copy(&map->arena, one->text);
        if (map->prefix[map->nprefix++].at == NULL)
            return apr_no_memory(e);
    }
    return APR_OK;
}

static enum apr_code take_ignored(struct apr_stage_map *map, const struct apr_yaml *v, struct apr_error *e)
{
    if (length_of(v) > MOST_IGNORED || v->kind == APR_YAML_MAP)
        return complain(v, "ignore: expected names, at most 1000", nothing, e);
    for (const struct apr_yaml *one = first_of(v); one != NULL; one = next_of(v, one)) {
        if (one->kind != APR_YAML_SCALAR || one->text.n == 0 || one->text.n > 1000)
            return complain(one, "ignore: expected a name", nothing, e);
        const struct apr_bytes text = apr_arena_format(&map->arena, "%.*s%s", APR_PRINTED(one->text), has_side(one->text) ? "" : ":out");
        if (text.at == NULL)
            return apr_no_memory(e);
        APR_TRY(apr_patterns_add_glob(&map->ignore, text, e));
    }
    return APR_OK;
}

/* A map of three keys, or only the list of one. */
static enum apr_code take_map(struct apr_stage_map *map, const struct apr_yaml *root, struct apr_error *e)
{
    if (root->kind == APR_YAML_LIST)
        return take_lines(map, root, e);
    if (apr_yaml_get(root, "stages") == NULL)
        return complain(root, "expected stages: and a list of {stage: STAGE, from: NAME}", nothing, e);
    for (const struct apr_yaml *v = root->child; v != NULL; v = v->next) {
        if (apr_bytes_is(v->key, "stages"))
            APR_TRY(take_lines(map, v, e));
        else if (apr_bytes_is(v->key, "prefix"))
            APR_TRY(take_prefixes(map, v, e));
        else if (apr_bytes_is(v->key, "ignore"))
            APR_TRY(take_ignored(map, v, e));
        else
            return complain(v, "a map has stages, prefix and ignore, but not", v->key, e);
    }
    return APR_OK;
}

enum apr_code apr_stage_map_parse(struct apr_stage_map **map, struct apr_bytes text, struct apr_error *e)
{
    struct apr_yaml_document *d;
    *map = NULL;
    APR_TRY(apr_yaml_parse(&d, text, e));
    struct apr_stage_map *const made = calloc(1, sizeof *made);
    const enum apr_code code = made == NULL ? apr_no_memory(e) : take_map(made, apr_yaml_root(d), e);
    apr_yaml_free(d);
    if (code == APR_OK)
        *map = made;
    else
        apr_stage_map_free(made);
    return code;
}

void apr_stage_map_free(struct apr_stage_map *map)
{
    if (map == NULL)
        return;
    apr_patterns_free(map->ignore);
    apr_arena_free(&map->arena);
    free(map->prefix);
    free(map->line);
    free(map);
}

/* ---- where maps come from ------------------------------------------------------------------------------------------- */

/* Made from maps/ at build time; a row without a name ends it. */
extern const struct embedded {
    const char *file, *text;
} apr_embedded_maps[];

static const struct embedded *embedded_map(const char *name)
{
    char file[64];
    snprintf(file, sizeof file, "maps/%.40s.yaml", name);
    const struct embedded *m = apr_embedded_maps;
    while (m->file != NULL && strcmp(m->file, file) != 0)
        m++;
    return m->file == NULL ? NULL : m;
}

enum apr_code apr_stage_map_open(struct apr_stage_map **map, const char *name, const struct apr_run *r, struct apr_error *e)
{
    const struct embedded *const known = embedded_map(name == NULL ? "transformers" : name);
    struct apr_source *s = NULL;
    *map = NULL;
    if (known != NULL)
        return apr_stage_map_parse(map, apr_text(known->text), e);
    APR_TRY(apr_source_open(&s, name, r, e));
    const enum apr_code code = apr_stage_map_parse(map, s->map, e);
    if (code != APR_OK)
        apr_error_in(e, name);
    const enum apr_code end = apr_source_end(s, code, e);
    if (end != APR_OK) {
        apr_stage_map_free(*map);
        *map = NULL;
    }
    return end;
}
