#include "family/general.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "family/spell.h"
#include "family/yaml.h"
#include "model/format.h"
#include "model/hf_config.h"
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

/* ---- names ---------------------------------------------------------------------------------------------------------- */

static bool is_lower(unsigned char c) { return c >= 'a' && c <= 'z'; }
static bool is_upper(unsigned char c) { return c >= 'A' && c <= 'Z'; }
static bool is_digit(unsigned char c) { return c >= '0' && c <= '9'; }

/* A word that may be capitalised: small letters, but no number and no version. */
static bool is_plain(const unsigned char *word, size_t n)
{
    bool lower = false;
    for (size_t i = 0; i < n; i++) {
        lower = lower || is_lower(word[i]);
        if (is_upper(word[i]))
            return false;
    }
    return lower && !is_digit(word[0]) && !(word[0] == 'v' && n > 1 && is_digit(word[1]));
}

/* "meta-llama" -> "Meta Llama". */
static struct apr_bytes title(struct apr_arena **a, struct apr_bytes id)
{
    const struct apr_bytes copy = apr_arena_copy(a, id);
    unsigned char *const at = (unsigned char *)(uintptr_t)copy.at;
    for (size_t i = 0, end; copy.at != NULL && i < id.n; i = end + 1) {
        for (end = i; end < id.n && at[end] != '-' && at[end] != ' ';)
            end++;
        const bool plain = end > i && is_plain(at + i, end - i);
        for (size_t k = i; plain && k < end; k++)
            if (is_lower(at[k]) && (k == i || !(is_lower(at[k - 1]) || is_upper(at[k - 1]))))
                at[k] = (unsigned char)(at[k] - 'a' + 'A');
        if (end < id.n)
            at[end] = ' ';
    }
    return copy;
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

/* A word, or the words of a list parted by commas. */
static struct apr_bytes word_of(struct apr_arena **a, const struct apr_yaml *at)
{
    struct apr_bytes words = { 0 };
    if (at == NULL || at->kind == APR_YAML_MAP)
        return words;
    if (at->kind == APR_YAML_SCALAR)
        return at->text;
    for (const struct apr_yaml *k = at->child; k != NULL; k = k->next)
        if (k->kind == APR_YAML_SCALAR)
            words = apr_arena_format(a, "%.*s%s%.*s", APR_PRINTED(words), words.n > 0 ? "," : "", APR_PRINTED(k->text));
    return words;
}

struct apr_bytes apr_general_license(struct apr_arena **a, const struct apr_side *side)
{
    struct apr_yaml_document *card;
    struct apr_error e;
    struct apr_bytes license = { 0 };
    if (read_card(side, &card, &e) != APR_OK || card == NULL)
        return license;
    license = word_of(a, apr_yaml_get(apr_yaml_root(card), "license"));
    if (license.n > 0)
        license = apr_arena_copy(a, license);
    apr_yaml_free(card);
    return license;
}

static enum apr_code put_text(struct apr_draft *d, const char *key, struct apr_bytes text, struct apr_error *e)
{
    return text.n == 0 || !apr_is_utf8(text) ? APR_OK : apr_draft_text(d, key, text, e);
}

/* Of the card's keys the first that is there. */
static enum apr_code put_card_word(struct apr_draft *d, const struct apr_yaml *card, const char *key, const char *const from[3],
                                   struct apr_error *e)
{
    struct apr_bytes word = { 0 };
    for (int i = 0; i < 3 && from[i] != NULL && word.n == 0; i++)
        word = word_of(&d->arena, apr_yaml_get(card, from[i]));
    return put_text(d, key, word, e);
}

#define MOST_ORIGINS 64

/* What an id of the hub, or an address, says of a model or a data set. */
static enum apr_code put_origin(struct apr_draft *d, const char *what, unsigned i, struct apr_bytes id, struct apr_error *e)
{
    static const char hub[] = "https://huggingface.co/";
    const bool address = apr_bytes_have(id, "://"), on_hub = id.n > sizeof hub && memcmp(id.at, hub, sizeof hub - 1) == 0;
    char key[96];
    struct apr_bytes name = on_hub ? (struct apr_bytes){ id.at + sizeof hub - 1, id.n - sizeof hub + 1 } : id;
    const unsigned char *const slash = memchr(name.at, '/', name.n);
    struct apr_bytes owner = { 0 };
    if (slash != NULL) {
        owner = (struct apr_bytes){ name.at, (size_t)(slash - name.at) };
        name = (struct apr_bytes){ slash + 1, name.n - owner.n - 1 };
    }
    if ((!address || on_hub) && memchr(name.at, '/', name.n) == NULL) {
        snprintf(key, sizeof key, "general.%s.%u.name", what, i);
        APR_TRY(put_text(d, key, title(&d->arena, name), e));
        snprintf(key, sizeof key, "general.%s.%u.organization", what, i);
        APR_TRY(put_text(d, key, title(&d->arena, owner), e));
    }
    snprintf(key, sizeof key, "general.%s.%u.repo_url", what, i);
    if (address)
        return put_text(d, key, id, e);
    return owner.n == 0 ? APR_OK : put_text(d, key, apr_arena_format(&d->arena, "%s%.*s", hub, APR_PRINTED(id)), e);
}

static enum apr_code put_origins(struct apr_draft *d, const struct apr_yaml *list, const char *what, struct apr_error *e)
{
    char key[64];
    if (list == NULL || list->kind == APR_YAML_MAP || (list->kind == APR_YAML_SCALAR && list->text.n == 0))
        return APR_OK;
    const size_t n = list->kind == APR_YAML_SCALAR ? 1 : (size_t)apr_min(list->n, MOST_ORIGINS);
    const struct apr_yaml *k = list->kind == APR_YAML_SCALAR ? list : list->child;
    if (n == 0)
        return APR_OK;
    snprintf(key, sizeof key, "general.%s.count", what);
    APR_TRY(apr_draft_u32(d, key, (uint32_t)n, e));
    for (unsigned i = 0; i < n; i++, k = k->next)
        if (k->kind == APR_YAML_SCALAR && k->text.n > 0)
            APR_TRY(put_origin(d, what, i, k->text, e));
    return APR_OK;
}

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

static enum apr_code put_card(struct apr_draft *d, const struct apr_translation *t, const struct apr_yaml *card, struct apr_error *e)
{
    static const struct {
        const char *key, *from[3];
    } words[] = {
        { "general.author", { "author", "model_author", "model_creator" } },
        { "general.version", { "version", "model_version", NULL } },
        { "general.organization", { "organization", "model_organization", NULL } },
        { "general.finetune", { "finetune", "model_finetune", NULL } },
        { "general.basename", { "basename", "model_basename", NULL } },
        { "general.description", { "description", "model_description", NULL } },
        { "general.size_label", { "size_label", "model_size_label", NULL } },
        { "general.license", { "license", NULL, NULL } },
        { "general.license.name", { "license_name", NULL, NULL } },
        { "general.license.link", { "license_link", NULL, NULL } },
        { "general.source.url", { "url", "model_url", NULL } },
        { "general.source.doi", { "doi", "model_doi", NULL } },
        { "general.source.uuid", { "uuid", "model_uuid", NULL } },
        { "general.source.repo_url", { "repo_url", "model_repo_url", NULL } },
    };
    static const char *const tags[] = { "tags", "pipeline_tag", NULL }, *const languages[] = { "language", "languages", NULL };
    const struct apr_yaml *const base = apr_yaml_get(card, "base_model"), *const sets = apr_yaml_get(card, "datasets");
    char label[48];
    for (size_t i = 0; i < APR_LENGTH(words); i++) {
        if (t->elements > 0 && strcmp(words[i].key, "general.size_label") == 0)
            APR_TRY(apr_draft_text(d, words[i].key, apr_text(apr_size_label(t->elements, t->expert_elements, t->nexpert, label)), e));
        APR_TRY(put_card_word(d, card, words[i].key, words[i].from, e));
    }
    APR_TRY(put_origins(d, base != NULL ? base : apr_yaml_get(card, "base_models"), "base_model", e));
    APR_TRY(put_origins(d, sets != NULL ? sets : apr_yaml_get(card, "dataset"), "dataset", e));
    APR_TRY(put_words(d, card, "general.tags", tags, e));
    return put_words(d, card, "general.languages", languages, e);
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
    if (code != APR_OK)
        apr_error_in(e, "generation_config.json");
    return code;
}

enum apr_code apr_general_put(struct apr_draft *d, const struct apr_translation *t, struct apr_error *e)
{
    static const char *const name[] = { "name", "model_name", NULL };
    struct apr_yaml_document *card;
    APR_TRY(apr_draft_text(d, "general.type", apr_text("model"), e));
    APR_TRY(put_sampling(d, t->side, e));
    APR_TRY(read_card(t->side, &card, e));
    const struct apr_yaml *const root = card == NULL ? NULL : apr_yaml_root(card);
    const bool apr = t->m != NULL && !t->m->format->own_names && !t->m->format->config;
    const struct apr_bytes own = apr ? apr_meta_string(&t->m->meta, "name") : (struct apr_bytes){ 0 };
    enum apr_code code = put_text(d, "general.name", own.n > 0 ? own : t->name, e);
    if (code == APR_OK)
        code = put_card_word(d, root, "general.name", name, e);
    if (code == APR_OK)
        code = put_card(d, t, root, e);
    apr_yaml_free(card);
    return code;
}
