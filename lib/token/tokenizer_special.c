/* Special tokens, flags and templates of a GGUF from a checkpoint's files. */
#include "token/tokenizer_parts.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "model/hf_config.h"
#include "model/json.h"

/* In the order in which they are looked for. */
static const struct {
    const char *word, *key; /* as HuggingFace and as GGUF call it; no key: it has none */
} kinds[] = {
    { "bos", "bos" }, { "eos", "eos" }, { "unk", "unknown" }, { "sep", "seperator" }, { "pad", "padding" },
    { "cls", NULL },  { "mask", "mask" }, { "eot", "eot" },   { "eom", "eom" },
};
enum { BOS, EOS, UNK, SEP, PAD, CLS, MASK, EOT, EOM, NKINDS };

/* What was found. text: of each kind; rank: when its flag was first set, from 1; 0: not at all */
struct specials {
    struct apr_draft           *d;
    struct apr_tokenizer_files *f;
    uint64_t                    most;
    struct apr_bytes            text[NKINDS];
    bool                        wanted[NKINDS], flag[NKINDS], has_id[NKINDS];
    unsigned                    rank[NKINDS], nrank, id_rank[NKINDS], nid;
    uint32_t                    id[NKINDS];
};

static void set_flag(struct specials *s, unsigned kind, bool yes)
{
    s->flag[kind] = yes;
    if (s->rank[kind] == 0)
        s->rank[kind] = ++s->nrank;
}

static void set_id(struct specials *s, unsigned kind, uint64_t id)
{
    if (s->has_id[kind] || id >= s->most)
        return;
    s->has_id[kind] = true;
    s->id[kind] = (uint32_t)id;
    s->id_rank[kind] = s->nid++;
}

static bool is_one(const struct specials *s, struct apr_bytes text, unsigned a, unsigned b)
{
    return text.n > 0 && (apr_bytes_equal(text, s->text[a]) || apr_bytes_equal(text, s->text[b]));
}

/* ---- the post-processor ---------------------------------------------------------------------------------------------- */

/* The parts of one template: a special token's text, or NULL-at with the letter of a sequence. More than fit are none of ours. */
#define PARTS 16u
struct template_parts {
    struct apr_bytes token[PARTS];
    char             sequence[PARTS];
    size_t           n;
};

static enum apr_code take_part(struct apr_vocabulary *scratch, const struct apr_value *part, struct template_parts *parts,
                               struct apr_error *e)
{
    struct apr_member m[] = { { .key = "SpecialToken" }, { .key = "Sequence" } };
    struct apr_member token[] = { { .key = "id" } }, sequence[] = { { .key = "id" } };
    APR_TRY(apr_take_members(scratch, part, m, 2, e));
    APR_TRY(apr_take_members(scratch, &m[0].value, token, 1, e));
    APR_TRY(apr_take_members(scratch, &m[1].value, sequence, 1, e));
    if (parts->n < PARTS && token[0].value.type == APR_META_STRING)
        parts->token[parts->n] = token[0].value.text;
    if (parts->n < PARTS && sequence[0].value.type == APR_META_STRING && sequence[0].value.text.n == 1)
        parts->sequence[parts->n] = (char)sequence[0].value.text.at[0];
    parts->n++;
    return APR_OK;
}

static enum apr_code take_parts(struct apr_vocabulary *scratch, const struct apr_value *list, struct template_parts *parts,
                                struct apr_error *e)
{
    struct apr_walk w;
    struct apr_item item;
    bool more = list->type == APR_META_ARRAY;
    *parts = (struct template_parts){ 0 };
    if (more)
        APR_TRY(apr_walk_in(&w, list->text, 0, '[', e));
    while (more) {
        struct apr_value part;
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            break;
        APR_TRY(apr_json_checked(&scratch->arena, item.value, 0, &part, e));
        APR_TRY(take_part(scratch, &part, parts, e));
    }
    return APR_OK;
}

/* What stands last ends a text; what did so before is then the end of a turn. */
static void take_last(struct specials *s, struct apr_bytes last)
{
    if (s->f->config.type == APR_META_OBJECT && !apr_bytes_equal(last, s->text[EOS])) {
        const unsigned other = !s->wanted[EOT] ? EOT : EOM;
        if (!s->wanted[other]) {
            s->wanted[other] = true;
            s->text[other] = s->text[EOS];
        }
    }
    s->text[EOS] = last;
    set_flag(s, EOS, true);
}

/* Between the two texts of a pair: a separator, unless one ends the pair as well, or two. */
static void take_between(struct specials *s, const struct template_parts *pair, struct apr_bytes first, struct apr_bytes last)
{
    size_t a = first.n > 0 && apr_bytes_equal(pair->token[0], first) ? 1 : 0, b = pair->n;
    if (b > a && last.n > 0 && apr_bytes_equal(pair->token[b - 1], last))
        b--;
    if (b < a + 3 || pair->sequence[a] != 'A' || pair->sequence[b - 1] != 'B')
        return;
    bool sep = is_one(s, pair->token[a + 1], SEP, EOS) && last.n == 0;
    if (b - a == 4)
        sep = sep || is_one(s, pair->token[a + 2], SEP, EOS);
    set_flag(s, SEP, sep);
    if (sep && s->text[SEP].n == 0)
        s->text[SEP] = s->text[EOS];
}

static enum apr_code take_template(struct specials *s, const struct apr_value *processor, struct apr_error *e)
{
    struct apr_vocabulary *const scratch = &s->f->scratch;
    struct apr_member m[] = { { .key = "single" }, { .key = "pair" } };
    struct template_parts one, two;
    struct apr_bytes first = { 0 }, last = { 0 };
    APR_TRY(apr_take_members(scratch, processor, m, 2, e));
    APR_TRY(take_parts(scratch, &m[0].value, &one, e));
    APR_TRY(take_parts(scratch, &m[1].value, &two, e));
    if (one.n > 1 && one.n <= PARTS) {
        first = one.token[0];
        last = one.token[one.n - 1];
    }
    if (first.n > 0 && s->f->config.type != APR_META_OBJECT)
        s->text[BOS] = first;
    if (first.n > 0)
        set_flag(s, BOS, is_one(s, first, BOS, CLS));
    if (last.n > 0)
        take_last(s, last);
    if (two.n > 0 && two.n <= PARTS)
        take_between(s, &two, first, last);
    return APR_OK;
}

/* ["</s>", 2] */
static enum apr_code first_text(struct apr_vocabulary *scratch, const struct apr_value *pair, struct apr_bytes *text, struct apr_error *e)
{
    struct apr_walk w;
    struct apr_item item;
    struct apr_value v;
    bool more;
    if (pair->type != APR_META_ARRAY || text->n > 0)
        return APR_OK;
    APR_TRY(apr_walk_in(&w, pair->text, 0, '[', e));
    APR_TRY(apr_walk_next(&w, &item, &more, e));
    if (!more)
        return APR_OK;
    APR_TRY(apr_json_checked(&scratch->arena, item.value, 0, &v, e));
    if (v.type == APR_META_STRING)
        *text = v.text;
    return APR_OK;
}

static enum apr_code take_processor(struct specials *s, const struct apr_value *processor, struct apr_error *e)
{
    struct apr_member m[] = { { .key = "type" }, { .key = "cls" }, { .key = "sep" } };
    APR_TRY(apr_take_members(&s->f->scratch, processor, m, APR_LENGTH(m), e));
    const struct apr_bytes type = m[0].value.type == APR_META_STRING ? m[0].value.text : (struct apr_bytes){ 0 };
    if (apr_bytes_is(type, "TemplateProcessing"))
        return take_template(s, processor, e);
    if (!apr_bytes_is(type, "RobertaProcessing"))
        return APR_OK;
    set_flag(s, BOS, true);
    set_flag(s, EOS, true);
    set_flag(s, SEP, true);
    APR_TRY(first_text(&s->f->scratch, &m[1].value, &s->text[CLS], e));
    return first_text(&s->f->scratch, &m[2].value, &s->text[SEP], e);
}

/* The processor itself, or each of a Sequence. */
static enum apr_code take_processors(struct specials *s, struct apr_error *e)
{
    struct apr_vocabulary *const scratch = &s->f->scratch;
    const struct apr_bytes spelled = s->f->json == NULL ? (struct apr_bytes){ 0 } : s->f->json->post_processor;
    const struct apr_value whole = { .type = APR_META_OBJECT, .encoding = APR_JSON, .text = spelled };
    struct apr_member m[] = { { .key = "processors" } };
    struct apr_walk w;
    struct apr_item item;
    bool more = true;
    if (spelled.n == 0)
        return APR_OK;
    APR_TRY(apr_take_members(scratch, &whole, m, 1, e));
    if (m[0].value.type != APR_META_ARRAY)
        return take_processor(s, &whole, e);
    APR_TRY(apr_walk_in(&w, m[0].value.text, 0, '[', e));
    for (;;) {
        struct apr_value processor;
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            return APR_OK;
        APR_TRY(apr_json_checked(&scratch->arena, item.value, 0, &processor, e));
        APR_TRY(take_processor(s, &processor, e));
    }
}

/* ---- tokenizer_config.json, config.json ------------------------------------------------------------------------------ */

static enum apr_code take_texts(struct specials *s, struct apr_error *e)
{
    char key[32];
    for (unsigned i = 0; i <= MASK; i++) {
        snprintf(key, sizeof key, "%s_token", kinds[i].word);
        APR_TRY(apr_tokenizer_member_text(s->f, key, &s->text[i], e));
        s->wanted[i] = true;
    }
    if (s->f->json == NULL)
        return APR_OK;
    if (s->text[BOS].n == 0)
        s->text[BOS] = s->text[CLS];
    if (s->text[EOS].n == 0)
        s->text[EOS] = s->text[SEP];
    return APR_OK;
}

/* The id that tokenizer.json gives an added token. */
static void find_id(struct specials *s, unsigned kind)
{
    const struct apr_vocabulary *const json = s->f->json;
    const struct apr_token *const t = json == NULL || s->text[kind].at == NULL ? NULL : apr_vocabulary_find(json, s->text[kind]);
    if (t != NULL && t->flags & APR_TOKEN_ADDED)
        set_id(s, kind, t->id);
}

static enum apr_code take_config_flags(struct specials *s, struct apr_error *e)
{
    char key[40];
    struct apr_value v;
    for (unsigned i = 0; i < NKINDS && s->f->config.type == APR_META_OBJECT; i++) {
        snprintf(key, sizeof key, "add_%s_token", kinds[i].word);
        if (!s->wanted[i])
            continue;
        APR_TRY(apr_tokenizer_member(s->f, key, &v, e));
        if (v.type == APR_META_BOOL)
            set_flag(s, i, v.b);
        find_id(s, i);
    }
    return APR_OK;
}

static enum apr_code take_config_ids(struct specials *s, struct apr_error *e)
{
    const struct apr_bytes text = apr_side_get(s->f->side, "config.json");
    struct apr_hf_config *config;
    char key[32];
    double id;
    if (text.at == NULL)
        return APR_OK;
    APR_TRY(apr_side_in(s->f->side, "config.json", apr_hf_config_new(&config, text, e), e));
    for (unsigned i = 0; i < NKINDS; i++) {
        snprintf(key, sizeof key, "%s_token_id", kinds[i].word);
        if (!s->wanted[i] || !apr_hf_config_number(config, apr_text(key), &id) || !(id >= 0 && id < (double)UINT32_MAX))
            continue;
        if (id == (double)(uint32_t)id)
            set_id(s, i, (uint64_t)id);
    }
    apr_hf_config_free(config);
    return APR_OK;
}

/* ---- templates ------------------------------------------------------------------------------------------------------- */

/* "rag-v2" -> "rag_v2" */
static void plain_name(struct apr_bytes name, char *out, size_t room)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    size_t n = 0;
    for (size_t i = 0; i < name.n && n + 1 < room; i++)
        if ((name.at[i] & 0xC0) != 0x80) /* a character of several bytes is one */
            out[n++] = memchr(good, name.at[i], sizeof good - 1) != NULL ? (char)name.at[i] : '_';
    out[n] = 0;
}

static enum apr_code put_templates(struct apr_draft *d, const struct apr_vocabulary *v, struct apr_error *e)
{
    struct apr_array names = { .element = APR_META_STRING };
    struct apr_bytes whole = { 0 };
    enum apr_code code = APR_OK;
    for (size_t i = 0; i < v->nchat && code == APR_OK; i++) {
        char name[128], key[192];
        plain_name(v->chat[i].name, name, sizeof name);
        snprintf(key, sizeof key, "tokenizer.chat_template.%s", name);
        if (strcmp(name, "default") == 0) {
            whole = v->chat[i].text;
        } else if (name[0] != 0) {
            if (apr_draft_find(d, apr_text(key)) == NULL)
                apr_array_text(&names, apr_text(name));
            code = apr_draft_text(d, key, v->chat[i].text, e);
        }
    }
    if (code == APR_OK && names.n > 0)
        code = apr_draft_array(d, "tokenizer.chat_templates", &names, e);
    apr_array_drop(&names);
    return code != APR_OK || whole.n == 0 ? code : apr_draft_text(d, "tokenizer.chat_template", whole, e);
}

static enum apr_code take_file(struct apr_vocabulary *v, const struct apr_side *side, const char *file, struct apr_bytes name,
                               struct apr_error *e)
{
    return apr_side_in(side, file, apr_read_template_file(v, name, apr_side_get(side, file), e), e);
}

/* "additional_chat_templates/rag.jinja" -> "rag" */
static enum apr_code take_additional(struct apr_vocabulary *v, const struct apr_side *side, struct apr_error *e)
{
    static const char before[] = "additional_chat_templates/", after[] = ".jinja";
    for (size_t i = 0; i < side->n; i++) {
        const struct apr_bytes name = side->file[i].name;
        char file[160];
        snprintf(file, sizeof file, "%.*s", APR_PRINTED(name));
        if (name.n > sizeof before + sizeof after - 2 && memcmp(name.at, before, sizeof before - 1) == 0)
            APR_TRY(take_file(v, side, file, (struct apr_bytes){ name.at + sizeof before - 1, name.n - sizeof before - sizeof after + 2 },
                              e));
    }
    return APR_OK;
}

/* tokenizer_config.json's own, else those in files of their own; a null there means none. */
static enum apr_code take_templates(struct apr_tokenizer_files *f, struct apr_vocabulary *into, struct apr_error *e)
{
    struct apr_member own[] = { { .key = "chat_template" } };
    struct apr_value object;
    if (f->config.type != APR_META_OBJECT)
        return APR_OK;
    APR_TRY(apr_take_members(&f->scratch, &f->config, own, 1, e));
    if (own[0].value.type != APR_META_ANY)
        return apr_read_templates(into, &own[0].value, e);
    const struct apr_bytes jinja = apr_side_get(f->side, "chat_template.jinja"), json = apr_side_get(f->side, "chat_template.json");
    if (jinja.at != NULL) {
        APR_TRY(take_file(into, f->side, "chat_template.jinja", apr_text("default"), e));
        return take_additional(into, f->side, e);
    }
    if (json.at == NULL)
        return APR_OK;
    APR_TRY(apr_side_in(f->side, "chat_template.json", apr_take_object(into, json, &object, e), e));
    APR_TRY(apr_take_members(into, &object, own, 1, e));
    return apr_read_templates(into, &own[0].value, e);
}

/* ---- all of it ------------------------------------------------------------------------------------------------------- */

static enum apr_code put_ids(const struct specials *s, struct apr_error *e)
{
    char key[64];
    for (unsigned rank = 0; rank < s->nid; rank++)
        for (unsigned i = 0; i < NKINDS; i++) {
            snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", kinds[i].key == NULL ? "" : kinds[i].key);
            if (s->has_id[i] && s->id_rank[i] == rank && kinds[i].key != NULL)
                APR_TRY(apr_draft_u32(s->d, key, s->id[i], e));
        }
    return APR_OK;
}

static enum apr_code put_flags(const struct specials *s, struct apr_error *e)
{
    char key[64];
    for (unsigned rank = 1; rank <= s->nrank; rank++)
        for (unsigned i = 0; i < NKINDS; i++) {
            const bool known = i == BOS || i == EOS || i == SEP;
            snprintf(key, sizeof key, "tokenizer.ggml.add_%s_token", kinds[i].word);
            if (known && s->rank[i] == rank)
                APR_TRY(apr_draft_bool(s->d, key, s->flag[i], e));
        }
    return APR_OK;
}

static enum apr_code put_normalizer(struct apr_draft *d, const struct apr_vocabulary *v, struct apr_error *e)
{
    if (v != NULL && v->lowercase != APR_UNSAID)
        APR_TRY(apr_draft_bool(d, "tokenizer.ggml.normalizer.lowercase", v->lowercase == APR_YES, e));
    if (v != NULL && v->strip_accents != APR_UNSAID)
        APR_TRY(apr_draft_bool(d, "tokenizer.ggml.normalizer.strip_accents", v->strip_accents == APR_YES, e));
    return APR_OK;
}

enum apr_code apr_put_specials(struct apr_draft *d, struct apr_tokenizer_files *f, uint64_t most, struct apr_error *e)
{
    struct specials s = { .d = d, .f = f, .most = most };
    struct apr_vocabulary templates = { 0 };
    APR_TRY(take_texts(&s, e));
    APR_TRY(take_processors(&s, e));
    APR_TRY(take_config_flags(&s, e));
    APR_TRY(take_config_ids(&s, e));
    APR_TRY(put_ids(&s, e));
    APR_TRY(put_flags(&s, e));
    enum apr_code code = take_templates(f, &templates, e);
    if (code == APR_OK)
        code = put_templates(d, &templates, e);
    apr_vocabulary_end(&templates);
    return code != APR_OK ? code : put_normalizer(d, f->json, e);
}
