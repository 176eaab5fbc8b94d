/* tokenizer.* of a GGUF. */
#include "token/tokenizer_parts.h"

#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "base/bytes.h"
#include "model/format.h"
#include "model/hf_config.h"
#include "model/json.h"
#include "model/meta.h"

/* What is under way. */
struct writing {
    struct apr_draft           *d;
    struct apr_tokenizer       *t;
    struct apr_tokenizer_files *f;
    struct apr_error           *e;
};

/* ---- the family's rules ---------------------------------------------------------------------------------------------- */

static const char *const source_words[] = { "spm_model", "spm_json", "bpe", "wordpiece", "unigram", "gemma4" };

static bool after(struct apr_bytes path, const char *before, struct apr_bytes *rest)
{
    const size_t n = strlen(before);
    *rest = (struct apr_bytes){ path.at + n, path.n - n };
    return path.n > n && memcmp(path.at, before, n) == 0;
}

/* A member of tokenizer_config.json; what is broken there has been told. */
static struct apr_value config_member(const struct writing *w, struct apr_bytes name)
{
    char key[64];
    struct apr_value v = { .type = APR_META_ANY };
    struct apr_error ignored;
    snprintf(key, sizeof key, "%.*s", APR_PRINTED(name));
    return apr_tokenizer_member(w->f, key, &v, &ignored) == APR_OK ? v : (struct apr_value){ .type = APR_META_ANY };
}

static struct apr_result value_of(void *ctx, struct apr_bytes name)
{
    const struct writing *const w = ctx;
    struct apr_result r = { 0 };
    r.known = apr_binding_number(w->t->b, name, &r.number) || apr_binding_text(w->t->b, name, &r.text);
    return r;
}

/* "tokenizer.add_space_prefix": does it put one? "tokenizer.spm_model": is that the source taken? "tokenizer.ggml.KEY": is that written by
 * now? */
static bool has(void *ctx, struct apr_bytes path)
{
    const struct writing *const w = ctx;
    struct apr_bytes rest;
    if (after(path, "tokenizer_config.", &rest))
        return config_member(w, rest).type != APR_META_ANY;
    if (apr_bytes_is(path, "tokenizer.add_space_prefix"))
        return w->f->v != NULL && w->f->v->add_space_prefix != APR_NO;
    if (after(path, "tokenizer.ggml.", &rest))
        return apr_draft_find(w->d, path) != NULL;
    if (after(path, "tokenizer.", &rest))
        return w->f->as != APR_NTOKENIZERS && apr_bytes_is(rest, source_words[w->f->as]);
    return value_of(ctx, path).known;
}

static bool holds(const struct writing *w, const struct apr_expr *when)
{
    const struct apr_scope scope = { value_of, has, (void *)(uintptr_t)w };
    return when == NULL || apr_expr_true(when, &scope, false);
}

static struct apr_value value_at(const struct apr_result *r)
{
    if (!r->known)
        return (struct apr_value){ .type = APR_META_ANY };
    if (r->text.at != NULL)
        return (struct apr_value){ .type = APR_META_STRING, .text = r->text };
    return (struct apr_value){ .type = APR_META_F64, .f = r->number };
}

/* Of a rule: what the tokenizer's configuration says, else the model's, else the constant. */
static struct apr_value formula_value(const struct writing *w, const struct apr_formula *f)
{
    const struct apr_scope scope = { value_of, has, (void *)(uintptr_t)w };
    struct apr_value v = { .type = APR_META_ANY };
    struct apr_bytes rest;
    if (f->origin == APR_OF_CONSTANT)
        return f->constant;
    if (f->origin == APR_OF_TOKEN) {
        const struct apr_token *const t = apr_vocabulary_find(w->f->v, f->word.word[0]);
        return t == NULL ? v : (struct apr_value){ .type = APR_META_U64, .u = t->id };
    }
    if (f->origin == APR_OF_EXPR)
        v = value_at(&(struct apr_result[]){ apr_expr_value(f->expr, &scope) }[0]);
    for (size_t i = 0; f->origin == APR_OF_CONFIG && i < f->word.n && v.type == APR_META_ANY; i++)
        if (after(f->word.word[i], "tokenizer_config.", &rest))
            v = config_member(w, rest);
        else
            v = value_at(&(struct apr_result[]){ value_of((void *)(uintptr_t)w, f->word.word[i]) }[0]);
    return v;
}

/* Puts it as that type; a value of another kind is none. */
static enum apr_code put_as(const struct writing *w, struct apr_bytes key, enum apr_meta_type type, const struct apr_value *v)
{
    double number;
    struct apr_value out = { .type = type };
    if (type == APR_META_STRING && v->type == APR_META_STRING) {
        char name[128];
        snprintf(name, sizeof name, "%.*s", APR_PRINTED(key));
        return apr_draft_text(w->d, name, v->text, w->e);
    }
    if (type == APR_META_STRING || type == APR_META_ARRAY || !apr_meta_number(v, &number))
        return APR_OK;
    if (type == APR_META_BOOL)
        out.b = number != 0;
    else if (type == APR_META_F32)
        out.f = (double)(float)number;
    else if (number >= (type == APR_META_U32 ? 0 : INT32_MIN) && number <= (type == APR_META_U32 ? UINT32_MAX : INT32_MAX))
        out.i = (int64_t)number;
    else
        return APR_OK;
    return apr_draft_put(w->d, key, &out, w->e);
}

static bool is_type_count(struct apr_bytes key) { return apr_bytes_is(key, "tokenizer.ggml.token_type_count"); }

/* The keys that come before all others; the number of token types of them, or all but that. */
static enum apr_code put_first(const struct writing *w, bool type_count)
{
    const struct apr_tokenizer_rules *const rules = w->t->b == NULL ? NULL : &apr_binding_family(w->t->b)->tokenizer;
    for (size_t i = 0; rules != NULL && i < rules->nfirst; i++) {
        const struct apr_kv *const k = &rules->first[i];
        if (is_type_count(k->key) != type_count || !holds(w, k->when))
            continue;
        const struct apr_scope scope = { value_of, has, (void *)(uintptr_t)w };
        struct apr_value v = formula_value(w, &k->value);
        if (v.type == APR_META_ANY && k->otherwise != NULL)
            v = value_at(&(struct apr_result[]){ apr_expr_value(k->otherwise, &scope) }[0]);
        APR_TRY(put_as(w, k->key, k->type, &v));
    }
    return APR_OK;
}

/* Ids are u32, flags what they are. Those that are sought by their text only fill what no file says. */
static enum apr_code put_overrides(const struct writing *w)
{
    const struct apr_tokenizer_rules *const rules = w->t->b == NULL ? NULL : &apr_binding_family(w->t->b)->tokenizer;
    for (size_t i = 0; rules != NULL && i < rules->noverride; i++)
        for (size_t k = 0; k < rules->override[i].n && holds(w, rules->override[i].when); k++) {
            const struct apr_setting *const s = &rules->override[i].set[k];
            const struct apr_value v = formula_value(w, &s->value);
            const bool plain = v.type == APR_META_BOOL || v.type == APR_META_STRING;
            if (s->value.origin == APR_OF_TOKEN && apr_draft_find(w->d, s->key) != NULL)
                continue;
            APR_TRY(put_as(w, s->key, plain ? v.type : APR_META_U32, &v));
        }
    return APR_OK;
}

/* ---- the pre-tokenizer ----------------------------------------------------------------------------------------------- */

/* The family's names for it whose conditions hold. */
static enum apr_code names_in_family(const struct writing *w, struct apr_pretoken_facts *facts)
{
    const struct apr_tokenizer_rules *const rules = w->t->b == NULL ? NULL : &apr_binding_family(w->t->b)->tokenizer;
    if (rules == NULL || rules->npre == 0)
        return APR_OK;
    struct apr_bytes *const name = apr_arena_alloc(&w->f->scratch.arena, rules->npre * sizeof *name);
    if (name == NULL)
        return apr_no_memory(w->e);
    for (size_t i = 0; i < rules->npre; i++)
        if (holds(w, rules->pre[i].when))
            name[facts->nfamily++] = rules->pre[i].name;
    facts->family = name;
    return APR_OK;
}

static enum apr_code recognise(const struct writing *w, const char **name)
{
    const struct apr_vocabulary *const v = w->f->v, *const json = w->f->json == w->f->v ? w->f->json : NULL;
    struct apr_pretoken_facts facts = { .v = v };
    struct apr_bytes cls;
    *name = NULL;
    if (json != NULL) {
        static const unsigned char none[] = "";
        facts.pre_tokenizer = json->pre_tokenizer.at != NULL ? json->pre_tokenizer : (struct apr_bytes){ none, 0 };
        facts.normalizer = json->normalizer;
        facts.ignore_merges = json->ignore_merges;
    }
    APR_TRY(apr_tokenizer_member_text(w->f, "cls_token", &cls, w->e));
    facts.cls = cls.n > 0;
    facts.bos = v->add_bos == APR_YES;
    APR_TRY(names_in_family(w, &facts));
    return apr_pretoken_name(&facts, &w->f->scratch, name, w->e);
}

/* The name that goes under tokenizer.ggml.pre. */
static enum apr_code put_pre(const struct writing *w)
{
    static const char key[] = "tokenizer.ggml.pre";
    const char *name = "default";
    if (w->t->pre != NULL)
        return apr_draft_text(w->d, key, apr_text(w->t->pre), w->e);
    if (w->f->as == APR_GEMMA4) /* the model says it */
        return APR_OK;
    if (w->f->as == APR_WORDPIECE)
        name = w->f->v->size == 21128 ? "bert-bge-large" : "jina-v2-en"; /* the Chinese vocabulary, or any other */
    if (w->f->as == APR_BPE) {
        APR_TRY(recognise(w, &name));
        w->t->unknown_pre = name == NULL;
        name = name == NULL ? "gpt-2" : name;
    }
    return apr_draft_text(w->d, key, apr_text(name), w->e);
}

/* ---- arrays ---------------------------------------------------------------------------------------------------------- */

static enum apr_code put_tokens(const struct writing *w, const struct apr_token_list *l)
{
    struct apr_array texts = { .element = APR_META_STRING }, scores = { .element = APR_META_F32 }, types = { .element = APR_META_I32 };
    enum apr_code code;
    for (uint64_t i = 0; i < l->n; i++) {
        apr_array_text(&texts, l->row[i].text);
        apr_array_real(&scores, (double)l->row[i].score);
        apr_array_integer(&types, l->row[i].type);
    }
    code = apr_draft_array(w->d, "tokenizer.ggml.tokens", &texts, w->e);
    if (code == APR_OK && (w->f->as == APR_SPM_MODEL || w->f->as == APR_SPM_JSON || w->f->as == APR_UNIGRAM || w->f->as == APR_GEMMA4))
        code = apr_draft_array(w->d, "tokenizer.ggml.scores", &scores, w->e);
    if (code == APR_OK)
        code = apr_draft_array(w->d, "tokenizer.ggml.token_type", &types, w->e);
    apr_array_drop(&texts);
    apr_array_drop(&scores);
    apr_array_drop(&types);
    return code;
}

/* A part, a space within it as U+0120. */
static size_t put_part(unsigned char *to, struct apr_bytes part)
{
    size_t n = 0;
    for (size_t i = 0; i < part.n; i++) {
        if (part.at[i] != ' ') {
            to[n++] = part.at[i];
            continue;
        }
        to[n++] = 0xC4;
        to[n++] = 0xA0;
    }
    return n;
}

static enum apr_code put_merges(const struct writing *w)
{
    const struct apr_vocabulary *const v = w->f->v;
    struct apr_array merges = { .element = APR_META_STRING };
    size_t longest = 0;
    for (size_t i = 0; i < v->nmerge; i++) {
        const size_t n = v->merge[i].left.n + v->merge[i].right.n;
        longest = n > longest ? n : longest;
    }
    unsigned char *const line = apr_arena_alloc(&w->f->scratch.arena, 2 * longest + 1);
    if (line == NULL)
        return apr_no_memory(w->e);
    for (size_t i = 0; i < v->nmerge; i++) {
        size_t n = put_part(line, v->merge[i].left);
        line[n++] = ' ';
        n += put_part(line + n, v->merge[i].right);
        apr_array_text(&merges, (struct apr_bytes){ line, n });
    }
    return v->nmerge == 0 ? APR_OK : apr_draft_array(w->d, "tokenizer.ggml.merges", &merges, w->e);
}

/* ---- Unigram --------------------------------------------------------------------------------------------------------- */

/* The map within tokenizer.json's normalizer: a member of it, or of one of a Sequence. */
static enum apr_code charsmap_in(const struct writing *w, const struct apr_value *normalizer, unsigned levels, struct apr_bytes *map)
{
    struct apr_member m[] = { { .key = "precompiled_charsmap" }, { .key = "normalizers" } };
    struct apr_walk walk;
    struct apr_item item;
    APR_TRY(apr_take_members(&w->f->scratch, normalizer, m, 2, w->e));
    if (m[0].value.type == APR_META_STRING && !apr_base64_decode(&w->f->scratch.arena, m[0].value.text, map))
        return apr_side_in(w->f->side, "tokenizer.json",
                           apr_fail(w->e, APR_ECORRUPT, APR_NOWHERE, "precompiled_charsmap is no base64"), w->e);
    bool more = m[1].value.type == APR_META_ARRAY && levels > 0 && map->n == 0;
    if (more)
        APR_TRY(apr_walk_in(&walk, m[1].value.text, 0, '[', w->e));
    while (more) {
        struct apr_value inner;
        APR_TRY(apr_walk_next(&walk, &item, &more, w->e));
        if (!more)
            break;
        APR_TRY(apr_json_checked(&w->f->scratch.arena, item.value, 0, &inner, w->e));
        APR_TRY(charsmap_in(w, &inner, levels - 1, map));
    }
    return APR_OK;
}

static enum apr_code find_charsmap(const struct writing *w, struct apr_bytes *map)
{
    const struct apr_value normalizer = { .type = APR_META_OBJECT, .encoding = APR_JSON, .text = w->f->v->normalizer };
    *map = w->f->v->charsmap;
    return map->n > 0 || normalizer.text.n == 0 ? APR_OK : charsmap_in(w, &normalizer, 4, map);
}

static enum apr_code put_choice(const struct writing *w, const char *key, const char *member, enum apr_choice model)
{
    struct apr_value v;
    APR_TRY(apr_tokenizer_member(w->f, member, &v, w->e));
    const bool yes = w->f->v->from == APR_FROM_SENTENCEPIECE ? model == APR_YES : v.type == APR_META_BOOL && v.b;
    return apr_draft_bool(w->d, key, yes, w->e);
}

static enum apr_code put_unigram(const struct writing *w)
{
    struct apr_bytes map;
    struct apr_array bytes = { .element = APR_META_U8 };
    APR_TRY(put_choice(w, "tokenizer.ggml.add_space_prefix", "add_prefix_space", w->f->v->add_space_prefix));
    APR_TRY(put_first(w, true));
    APR_TRY(put_choice(w, "tokenizer.ggml.remove_extra_whitespaces", "clean_up_tokenization_spaces", w->f->v->remove_extra_whitespaces));
    APR_TRY(find_charsmap(w, &map));
    for (size_t i = 0; i < map.n; i++)
        apr_array_integer(&bytes, map.at[i]);
    return map.n == 0 ? APR_OK : apr_draft_array(w->d, "tokenizer.ggml.precompiled_charsmap", &bytes, w->e);
}

/* ---- all of it ------------------------------------------------------------------------------------------------------- */

/* How many tokens the model's configuration speaks of; 0: of none. */
static enum apr_code wanted_size(const struct writing *w, uint64_t *n)
{
    struct apr_hf_config *config = NULL;
    const struct apr_bytes text = apr_side_get(w->t->side, "config.json");
    double size = 0;
    *n = 0;
    if (w->t->b == NULL || !apr_binding_number(w->t->b, apr_text("V"), &size)) {
        if (text.at != NULL)
            APR_TRY(apr_hf_config_new(&config, text, w->e));
        apr_hf_config_number(config, apr_text("vocab_size"), &size);
        apr_hf_config_free(config);
    }
    if (size >= 1 && size < 0x1p53)
        *n = (uint64_t)size;
    return APR_OK;
}

static bool is_word(const struct apr_value *v) { return v != NULL && v->type != APR_META_ARRAY; }

/* What our own member in tokenizer_config.json says of a GGUF that the files were made of: keys that it had or had not. */
static enum apr_code put_own(const struct writing *w)
{
    struct apr_value own;
    struct apr_member m[] = { { .key = "kv" }, { .key = "unset" } };
    APR_TRY(apr_tokenizer_member(w->f, APR_OWN_MEMBER, &own, w->e));
    APR_TRY(apr_take_members(&w->f->scratch, &own, m, 2, w->e));
    if (m[1].value.type == APR_META_ARRAY) {
        struct apr_elements each = apr_elements_of(&m[1].value);
        for (struct apr_value key; apr_elements_next(&each, &key);)
            if (key.type == APR_META_STRING && is_word(apr_draft_find(w->d, key.text)))
                apr_draft_remove(w->d, key.text);
        APR_TRY(apr_elements_done(&each, APR_OK, w->e));
    }
    if (m[0].value.type != APR_META_OBJECT)
        return APR_OK;
    APR_TRY(apr_restore_words(w->d, &m[0].value, w->e));
    w->t->unknown_pre = false;
    return w->t->pre == NULL ? APR_OK : apr_draft_text(w->d, "tokenizer.ggml.pre", apr_text(w->t->pre), w->e);
}

/* Without a family: does SentencePiece put a blank before a text? A reader thinks so unless it is told. */
static enum apr_code put_prefix(const struct writing *w)
{
    const struct apr_vocabulary *const v = w->f->v;
    const bool metaspace = apr_bytes_is(v->pre, "Metaspace") && !apr_bytes_have(v->pre_tokenizer, "\"never\"");
    const bool prefix = v->from == APR_FROM_SENTENCEPIECE ? v->add_space_prefix != APR_NO
                                                          : metaspace || apr_bytes_have(v->normalizer, "\"Prepend\"");
    return w->t->b != NULL || prefix ? APR_OK : apr_draft_bool(w->d, "tokenizer.ggml.add_space_prefix", false, w->e);
}

static enum apr_code put_all(const struct writing *w, const struct apr_token_list *l)
{
    static const char *const models[] = { "llama", "llama", "gpt2", "bert", "t5", "gemma4" };
    if (w->f->as == APR_WORDPIECE)
        APR_TRY(put_first(w, true));
    APR_TRY(put_first(w, false));
    APR_TRY(apr_draft_text(w->d, "tokenizer.ggml.model", apr_text(models[w->f->as]), w->e));
    APR_TRY(put_pre(w));
    APR_TRY(put_tokens(w, l));
    if (w->f->as == APR_UNIGRAM)
        APR_TRY(put_unigram(w));
    if (w->f->as == APR_BPE || w->f->as == APR_GEMMA4)
        APR_TRY(put_merges(w));
    APR_TRY(apr_put_specials(w->d, w->f, w->f->as == APR_BPE ? UINT32_MAX : l->n, w->e));
    APR_TRY(put_overrides(w));
    if (w->f->as == APR_BPE)
        APR_TRY(put_first(w, true));
    if (w->f->as == APR_SPM_MODEL || w->f->as == APR_SPM_JSON)
        APR_TRY(put_prefix(w));
    APR_TRY(put_own(w));
    return apr_carry_tokenizer(w->d, w->f, l, w->e);
}

enum apr_code apr_gguf_words_of(struct apr_draft *d, struct apr_tokenizer *t, struct apr_tokenizer_files *f, struct apr_error *e)
{
    const struct writing w = { d, t, f, e };
    APR_TRY(put_first(&w, true));
    APR_TRY(put_first(&w, false));
    APR_TRY(put_pre(&w));
    if (f->as == APR_UNIGRAM)
        APR_TRY(put_unigram(&w));
    APR_TRY(apr_put_specials(d, f, UINT32_MAX, e));
    APR_TRY(put_overrides(&w));
    return put_own(&w);
}

static enum apr_code from_files(struct apr_draft *d, struct apr_tokenizer *t, struct apr_error *e)
{
    struct apr_tokenizer_files f = { 0 };
    struct apr_token_list l = { 0 };
    const struct writing w = { d, t, &f, e };
    uint64_t n = 0;
    enum apr_code code = apr_tokenizer_files_read(&f, t, e);
    if (code == APR_OK)
        code = wanted_size(&w, &n);
    if (code == APR_OK && f.as == APR_NTOKENIZERS)
        code = apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "the tokenizer is of no kind that a GGUF holds: %s",
                        APR_QUOTED(f.json == NULL ? (struct apr_bytes){ 0 } : f.json->model));
    if (code == APR_OK)
        code = apr_tokens_of_files(&l, &f, n, t->rows, e);
    if (code == APR_OK)
        code = apr_take_own_tokens(&f, &l, e);
    if (code == APR_OK)
        code = put_all(&w, &l);
    apr_token_list_end(&l);
    apr_tokenizer_files_end(&f);
    return code;
}

/* Was it made of a GGUF? Then keys that it did not have are not made up. */
static bool was_gguf(const struct apr_binding *b)
{
    const struct apr_meta *const keys = apr_binding_carried(b);
    return keys != NULL && keys->n > 0;
}

enum apr_code apr_tokenizer_to_gguf(struct apr_draft *d, struct apr_tokenizer *t, const struct apr_run *r, struct apr_error *e)
{
    (void)r;
    t->unknown_pre = false;
    if (apr_tokenizer_files_any(t->side))
        return from_files(d, t, e);
    if (!t->m->format->config)
        APR_TRY(apr_gguf_keys_of(d, t, e));
    if (t->pre != NULL && apr_draft_find(d, apr_text("tokenizer.ggml.tokens")) != NULL)
        return apr_draft_text(d, "tokenizer.ggml.pre", apr_text(t->pre), e);
    const bool wanted = t->b != NULL && apr_binding_family(t->b)->tokenizer.norder > 0;
    const bool none = wanted && apr_draft_find(d, apr_text("tokenizer.ggml.model")) == NULL;
    return none && !was_gguf(t->b) ? apr_draft_text(d, "tokenizer.ggml.model", apr_text("none"), e) : APR_OK;
}
