#include "family/general.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "family/gguf_kv.h"
#include "family/model_name.h"
#include "family/spell.h"
#include "family/yaml.h"
#include "model/format.h"
#include "model/hf_config.h"
#include "model/json.h"
#include "model/json_edit.h"
#include "model/meta.h"

/* ---- size ----------------------------------------------------------------------------------------------------------- */

static const char *round_count(double n, char text[24])
{
    static const struct {
        double      unit;
        const char *suffix;
    } units[] = { { 1e12, "T" }, { 1e9, "B" }, { 1e6, "M" }, { 1e3, "K" } };
    size_t i = 0;
    while (i + 1 < APR_LENGTH(units) && n <= units[i].unit)
        i++;
    const double scaled = n / units[i].unit;
    const int digits = scaled < 0.5 ? 0 : scaled < 9.5 ? 1 : 2;
    snprintf(text, 24, "%.*f%s", 2 - digits, scaled, units[i].suffix);
    return text;
}

const char *apr_size_label(uint64_t elements, uint64_t expert_elements, uint64_t experts, char text[48])
{
    char count[24];
    if (experts == 0)
        snprintf(text, 48, "%s", round_count((double)elements, count));
    else
        snprintf(text, 48, "%llux%s", (unsigned long long)experts,
                 round_count((double)(elements - expert_elements) + (double)expert_elements / (double)experts, count));
    return text;
}

/* ---- the front matter ----------------------------------------------------------------------------------------------- */

/* Between two lines of "---" at the start of a text; empty when there is none. */
static struct apr_bytes front_matter(struct apr_bytes text)
{
    static const char fence[] = "---";
    if (text.n < 4 || memcmp(text.at, fence, 3) != 0 || (text.at[3] != '\n' && text.at[3] != '\r'))
        return (struct apr_bytes){ 0 };
    const unsigned char *at = memchr(text.at, '\n', text.n), *const end = text.at + text.n;
    const unsigned char *const begin = at == NULL ? end : at + 1;
    for (at = begin; at < end;) {
        const unsigned char *const line = memchr(at, '\n', (size_t)(end - at)), *const next = line == NULL ? end : line + 1;
        if (next - at >= 3 && memcmp(at, fence, 3) == 0)
            return (struct apr_bytes){ begin, (size_t)(at - begin) };
        at = next;
    }
    return (struct apr_bytes){ 0 };
}

static enum apr_code read_card(const struct apr_side *side, struct apr_yaml_document **card, struct apr_error *e)
{
    struct apr_error why;
    const struct apr_bytes text = side == NULL ? (struct apr_bytes){ 0 } : front_matter(apr_side_get(side, "README.md"));
    *card = NULL;
    const enum apr_code code = text.n == 0 ? APR_OK : apr_yaml_parse(card, text, &why);
    return code == APR_ENOMEM ? apr_no_memory(e) : APR_OK;
}

static bool is_null(const struct apr_yaml *at)
{
    static const char *const nulls[] = { "", "~", "null", "Null", "NULL" };
    bool yes = at == NULL;
    for (size_t i = 0; i < APR_LENGTH(nulls) && !yes; i++)
        yes = at->kind == APR_YAML_SCALAR && !at->quoted && apr_bytes_is(at->text, nulls[i]);
    return yes;
}

/* A word, or the words of a list parted by commas; at is NULL when there is none. */
static enum apr_code word_of(struct apr_bytes *word, struct apr_arena **a, const struct apr_yaml *at, struct apr_error *e)
{
    *word = (struct apr_bytes){ 0 };
    if (is_null(at) || at->kind == APR_YAML_MAP)
        return APR_OK;
    if (at->kind == APR_YAML_SCALAR)
        *word = at->text;
    for (const struct apr_yaml *k = at->child; k != NULL; k = k->next) {
        if (k->kind != APR_YAML_SCALAR)
            continue;
        *word = apr_arena_format(a, "%.*s%s%.*s", APR_PRINTED(*word), word->n > 0 ? "," : "", APR_PRINTED(k->text));
        if (word->at == NULL)
            return apr_no_memory(e);
    }
    return APR_OK;
}

struct apr_bytes apr_general_license(struct apr_arena **a, const struct apr_side *side)
{
    struct apr_yaml_document *card;
    struct apr_error e;
    struct apr_bytes license = { 0 };
    if (read_card(side, &card, &e) != APR_OK || card == NULL)
        return license;
    if (word_of(&license, a, apr_yaml_get(apr_yaml_root(card), "license"), &e) == APR_OK && license.n > 0)
        license = apr_arena_copy(a, license);
    apr_yaml_free(card);
    return license;
}

static enum apr_code put_text(struct apr_draft *d, const char *key, struct apr_bytes text, struct apr_error *e)
{
    return text.n == 0 || !apr_is_utf8(text) ? APR_OK : apr_draft_text(d, key, text, e);
}

/* Of the card's keys the first that says something, be it that there is none ("name: ''"). */
static enum apr_code card_word(struct apr_bytes *word, struct apr_arena **a, const struct apr_yaml *card, const char *const from[3],
                               struct apr_error *e)
{
    *word = (struct apr_bytes){ 0 };
    for (int i = 0; i < 3 && from[i] != NULL && word->at == NULL; i++)
        APR_TRY(word_of(word, a, apr_yaml_get(card, from[i]), e));
    return APR_OK;
}

/* ---- where a model comes from ---------------------------------------------------------------------------------------- */

#define MOST_ORIGINS 64
#define HUB          "https://huggingface.co/"

/* What stands behind the prefix; at is NULL when that is not in front. */
static struct apr_bytes behind(struct apr_bytes s, const char *prefix)
{
    const size_t n = strlen(prefix);
    return s.n >= n && memcmp(s.at, prefix, n) == 0 ? (struct apr_bytes){ s.at + n, s.n - n } : (struct apr_bytes){ 0 };
}

static bool is_address(struct apr_bytes id)
{
    return behind(id, "https://").at != NULL || behind(id, "http://").at != NULL || behind(id, "ssh://").at != NULL;
}

/* "owner/name" of an address on the hub; at is NULL when it is none. */
static struct apr_bytes hub_name(struct apr_bytes address)
{
    const struct apr_bytes tls = behind(address, HUB), name = tls.at != NULL ? tls : behind(address, "http://huggingface.co/");
    const unsigned char *const slash = name.n == 0 ? NULL : memchr(name.at, '/', name.n);
    const size_t owner = slash == NULL ? 0 : (size_t)(slash - name.at);
    const bool one = owner > 0 && owner + 1 < name.n && memchr(slash + 1, '/', name.n - owner - 1) == NULL;
    return one ? name : (struct apr_bytes){ 0 };
}

struct origin {
    struct apr_draft *d;
    const char       *what; /* "base_model", "dataset" */
    unsigned          i;
};

static enum apr_code put_of_origin(const struct origin *o, const char *key, struct apr_bytes text, struct apr_error *e)
{
    char path[96];
    snprintf(path, sizeof path, "general.%s.%u.%s", o->what, o->i, key);
    return put_text(o->d, path, text, e);
}

static enum apr_code put_titled(const struct origin *o, const char *key, struct apr_bytes name, struct apr_error *e)
{
    struct apr_bytes title;
    if (name.n == 0)
        return APR_OK;
    APR_TRY(apr_model_title(&title, &o->d->arena, name, e));
    return put_of_origin(o, key, title, e);
}

/* What an id of the hub, or an address, says of a model or a data set. */
static enum apr_code put_id(const struct origin *o, struct apr_bytes id, struct apr_error *e)
{
    const bool address = is_address(id);
    const struct apr_bytes name = address ? hub_name(id) : id;
    struct apr_model_name said = { 0 };
    if (!apr_is_utf8(id))
        return APR_OK;
    if (name.at != NULL)
        APR_TRY(apr_model_name_read(&said, &o->d->arena, name, 0, e));
    APR_TRY(put_titled(o, "name", said.part[APR_NAME_WHOLE], e));
    APR_TRY(put_of_origin(o, "version", said.part[APR_NAME_VERSION], e));
    APR_TRY(put_titled(o, "organization", said.part[APR_NAME_ORGANIZATION], e));
    if (address)
        return put_of_origin(o, "repo_url", id, e);
    if (said.part[APR_NAME_ORGANIZATION].at == NULL)
        return APR_OK;
    const struct apr_bytes url = apr_arena_format(&o->d->arena, HUB "%.*s", APR_PRINTED(id));
    return url.at == NULL ? apr_no_memory(e) : put_of_origin(o, "repo_url", url, e);
}

/* Or the card spells it out. */
static enum apr_code put_origin(const struct origin *o, const struct apr_yaml *at, struct apr_error *e)
{
    static const char *const keys[] = { "name", "author", "version", "organization", "description", "url", "doi", "uuid", "repo_url" };
    struct apr_bytes word;
    if (at->kind == APR_YAML_SCALAR)
        return is_null(at) ? APR_OK : put_id(o, at->text, e);
    for (size_t i = 0; at->kind == APR_YAML_MAP && i < APR_LENGTH(keys); i++) {
        APR_TRY(word_of(&word, &o->d->arena, apr_yaml_get(at, keys[i]), e));
        APR_TRY(put_of_origin(o, keys[i], word, e));
    }
    return APR_OK;
}

/* Under the first of the keys that the card has. */
static enum apr_code put_origins(struct apr_draft *d, const struct apr_yaml *card, const char *const from[3], const char *what,
                                 struct apr_error *e)
{
    char key[64];
    const struct apr_yaml *list = NULL, *k;
    for (int i = 0; i < 3 && list == NULL; i++)
        list = apr_yaml_get(card, from[i]);
    if (list == NULL)
        return APR_OK;
    const bool one = list->kind == APR_YAML_SCALAR, none = is_null(list) || list->kind == APR_YAML_MAP;
    const size_t n = none ? 0 : one ? 1 : (size_t)apr_min(list->n, MOST_ORIGINS);
    snprintf(key, sizeof key, "general.%s.count", what);
    APR_TRY(apr_draft_u32(d, key, (uint32_t)n, e));
    k = one ? list : list->child;
    for (unsigned i = 0; i < n; i++, k = k->next)
        APR_TRY(put_origin(&(struct origin){ d, what, i }, k, e));
    return APR_OK;
}

/* ---- the card -------------------------------------------------------------------------------------------------------- */

static void append_words(struct apr_array *a, const struct apr_yaml *at)
{
    if (at == NULL || at->kind == APR_YAML_MAP)
        return;
    if (at->kind == APR_YAML_SCALAR && apr_is_utf8(at->text) && at->text.n > 0)
        apr_array_text(a, at->text);
    for (const struct apr_yaml *k = at->child; k != NULL; k = k->next)
        if (k->kind == APR_YAML_SCALAR && apr_is_utf8(k->text))
            apr_array_text(a, k->text);
}

static enum apr_code put_words(struct apr_draft *d, const struct apr_yaml *card, const char *key, const char *const from[3],
                               struct apr_error *e)
{
    struct apr_array a = { .element = APR_META_STRING };
    for (int i = 0; i < 3 && from[i] != NULL; i++)
        append_words(&a, apr_yaml_get(card, from[i]));
    if (a.n == 0 && !a.lost)
        return APR_OK;
    return apr_draft_array(d, key, &a, e);
}

/* What the card, else a name, else what is counted says of the model. */
static enum apr_code put_said(struct apr_draft *d, const struct apr_translation *t, const struct apr_yaml *card,
                              const struct apr_model_name *name, struct apr_error *e)
{
    static const struct {
        const char        *key, *from[3];
        enum apr_name_part part; /* APR_NAME_NPARTS: no name says it */
    } words[] = {
        { "general.name", { "name", "model_name", NULL }, APR_NAME_WHOLE },
        { "general.author", { "author", "model_author", "model_creator" }, APR_NAME_NPARTS },
        { "general.version", { "version", "model_version", NULL }, APR_NAME_VERSION },
        { "general.organization", { "organization", "model_organization", NULL }, APR_NAME_ORGANIZATION },
        { "general.finetune", { "finetune", "model_finetune", NULL }, APR_NAME_FINETUNE },
        { "general.basename", { "basename", "model_basename", "model_type" }, APR_NAME_BASE },
        { "general.description", { "description", "model_description", NULL }, APR_NAME_NPARTS },
        { "general.size_label", { "size_label", "model_size_label", NULL }, APR_NAME_SIZE },
        { "general.license", { "license", NULL, NULL }, APR_NAME_NPARTS },
        { "general.license.name", { "license_name", NULL, NULL }, APR_NAME_NPARTS },
        { "general.license.link", { "license_link", NULL, NULL }, APR_NAME_NPARTS },
        { "general.source.url", { "url", "model_url", NULL }, APR_NAME_NPARTS },
        { "general.source.doi", { "doi", "model_doi", NULL }, APR_NAME_NPARTS },
        { "general.source.uuid", { "uuid", "model_uuid", NULL }, APR_NAME_NPARTS },
        { "general.source.repo_url", { "repo_url", "model_repo_url", NULL }, APR_NAME_NPARTS },
    };
    char label[48];
    for (size_t i = 0; i < APR_LENGTH(words); i++) {
        struct apr_bytes word;
        APR_TRY(card_word(&word, &d->arena, card, words[i].from, e));
        if (word.at == NULL && words[i].part != APR_NAME_NPARTS)
            word = name->part[words[i].part];
        if (word.at == NULL && words[i].part == APR_NAME_SIZE && t->elements > 0)
            word = apr_text(apr_size_label(t->elements, t->expert_elements, t->nexpert, label));
        APR_TRY(put_text(d, words[i].key, word, e));
    }
    return APR_OK;
}

static enum apr_code put_lists(struct apr_draft *d, const struct apr_yaml *card, struct apr_error *e)
{
    static const char *const tags[] = { "tags", "pipeline_tag", NULL }, *const languages[] = { "languages", "language", NULL },
                      *const bases[] = { "base_model", "base_models", "base_model_sources" },
                      *const sets[] = { "datasets", "dataset", "dataset_sources" };
    APR_TRY(put_origins(d, card, bases, "base_model", e));
    APR_TRY(put_origins(d, card, sets, "dataset", e));
    APR_TRY(put_words(d, card, "general.tags", tags, e));
    return put_words(d, card, "general.languages", languages, e);
}

/* ---- the name -------------------------------------------------------------------------------------------------------- */

/* What `name` says and what was said before it does not. */
static enum apr_code add_name(struct apr_model_name *said, struct apr_arena **a, const struct apr_translation *t, struct apr_bytes name,
                              struct apr_error *e)
{
    static const enum apr_name_part titled[] = { APR_NAME_WHOLE, APR_NAME_ORGANIZATION };
    struct apr_model_name m;
    if (name.at == NULL || !apr_is_utf8(name))
        return APR_OK;
    APR_TRY(apr_model_name_read(&m, a, name, t->elements, e));
    for (size_t i = 0; i < APR_LENGTH(titled); i++)
        if (m.part[titled[i]].at != NULL)
            APR_TRY(apr_model_title(&m.part[titled[i]], a, m.part[titled[i]], e));
    for (size_t i = 0; i < APR_NAME_NPARTS; i++)
        if (said->part[i].at == NULL)
            said->part[i] = m.part[i];
    return APR_OK;
}

/* config.json's _name_or_path; at is NULL when it is none, or the path of a folder somewhere. */
static enum apr_code configured_name(struct apr_bytes *name, struct apr_arena **a, const struct apr_translation *t, struct apr_error *e)
{
    const struct apr_bytes config = t->side == NULL || t->config == NULL ? (struct apr_bytes){ 0 } : apr_side_get(t->side, "config.json");
    const struct apr_bytes quoted = config.n == 0 ? config : apr_json_find(config, "_name_or_path");
    unsigned slashes = 0;
    *name = (struct apr_bytes){ 0 };
    if (quoted.n == 0 || quoted.at[0] != '"')
        return APR_OK;
    APR_TRY(apr_json_text(a, quoted, 0, name, e));
    for (size_t i = 0; i < name->n; i++)
        slashes += name->at[i] == '/';
    if (slashes > 1)
        *name = (struct apr_bytes){ 0 };
    return APR_OK;
}

/* What the model's names say of it. An APR's own name is as it should be; what came from a GGUF has in its keys what is to be said. */
static enum apr_code read_names(struct apr_model_name *said, struct apr_arena **a, const struct apr_translation *t, struct apr_error *e)
{
    const bool apr = t->m != NULL && !t->m->format->own_names && !t->m->format->config;
    const struct apr_bytes own = apr ? apr_meta_string(&t->m->meta, "name") : (struct apr_bytes){ 0 };
    struct apr_bytes configured;
    *said = (struct apr_model_name){ 0 };
    if (own.n > 0)
        said->part[APR_NAME_WHOLE] = own;
    APR_TRY(configured_name(&configured, a, t, e));
    APR_TRY(add_name(said, a, t, configured, e));
    APR_TRY(add_name(said, a, t, own.n > 0 ? own : t->name, e));
    for (size_t i = APR_NAME_WHOLE + 1; i < APR_NAME_NPARTS; i++)
        if (t->m != NULL && apr_meta_find(&t->m->meta, APR_KV_KEY) != NULL)
            said->part[i] = (struct apr_bytes){ 0 };
    return APR_OK;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

static enum apr_code put_number(struct apr_draft *d, const char *key, bool whole, double v, struct apr_error *e)
{
    if (!whole)
        return apr_draft_f32(d, key, v, e);
    if (!(v >= INT32_MIN && v <= INT32_MAX) || v != (double)(int32_t)v)
        return APR_OK;
    return apr_draft_put(d, apr_text(key), &(struct apr_value){ .type = APR_META_I32, .i = (int32_t)v }, e);
}

static enum apr_code put_sampling(struct apr_draft *d, const struct apr_side *side, struct apr_error *e)
{
    static const struct {
        const char *from, *key;
        bool        whole;
    } settings[] = {
        { "top_k", "general.sampling.top_k", true },
        { "top_p", "general.sampling.top_p", false },
        { "min_p", "general.sampling.min_p", false },
        { "xtc_probability", "general.sampling.xtc_probability", false },
        { "xtc_threshold", "general.sampling.xtc_threshold", false },
        { "temperature", "general.sampling.temp", false },
        { "penalty_last_n", "general.sampling.penalty_last_n", true },
        { "penalty_repeat", "general.sampling.penalty_repeat", false },
        { "mirostat", "general.sampling.mirostat", true },
        { "mirostat_tau", "general.sampling.mirostat_tau", false },
        { "mirostat_eta", "general.sampling.mirostat_eta", false },
    };
    const struct apr_bytes text = side == NULL ? (struct apr_bytes){ 0 } : apr_side_get(side, "generation_config.json");
    struct apr_hf_config *c = NULL;
    struct apr_bytes sequence;
    double v;
    enum apr_code code = text.n == 0 ? APR_OK : apr_hf_config_new(&c, text, e);
    if (code == APR_OK && apr_hf_config_string(c, apr_text("sequence"), &sequence))
        code = put_text(d, "general.sampling.sequence", sequence, e);
    for (size_t i = 0; code == APR_OK && i < APR_LENGTH(settings); i++)
        if (apr_hf_config_number(c, apr_text(settings[i].from), &v))
            code = put_number(d, settings[i].key, settings[i].whole, v, e);
    apr_hf_config_free(c);
    return side == NULL ? code : apr_side_in(side, "generation_config.json", code, e);
}

enum apr_code apr_general_put(struct apr_draft *d, const struct apr_translation *t, struct apr_error *e)
{
    struct apr_yaml_document *card;
    struct apr_model_name name;
    APR_TRY(apr_draft_text(d, "general.type", apr_text("model"), e));
    APR_TRY(put_sampling(d, t->side, e));
    APR_TRY(read_names(&name, &d->arena, t, e));
    APR_TRY(read_card(t->side, &card, e));
    const struct apr_yaml *const root = card == NULL ? NULL : apr_yaml_root(card);
    enum apr_code code = put_said(d, t, root, &name, e);
    if (code == APR_OK)
        code = put_lists(d, root, e);
    apr_yaml_free(card);
    return code;
}
