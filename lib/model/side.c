#include "model/side.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/bytes.h"
#include "files/address.h"
#include "files/source.h"
#include "model/format.h"
#include "model/json.h"
#include "model/meta.h"

static const struct {
    const char *name;
    bool        tokenizer;
    uint64_t    most;
} known[] = {
    { "config.json", false, APR_MOST_CONFIG },
    { "generation_config.json", false, APR_MOST_CONFIG },
    { "hf_quant_config.json", false, APR_MOST_CONFIG },
    { "tokenizer.json", true, APR_MOST_TOKENIZER },
    { "tokenizer_config.json", true, APR_MOST_CONFIG },
    { "special_tokens_map.json", true, APR_MOST_CONFIG },
    { "added_tokens.json", true, APR_MOST_CONFIG },
    { "tokenizer.model", true, APR_MOST_VOCABULARY },
    { "spiece.model", true, APR_MOST_VOCABULARY },
    { "sentencepiece.bpe.model", true, APR_MOST_VOCABULARY },
    { "vocab.json", true, APR_MOST_VOCABULARY },
    { "vocab.txt", true, APR_MOST_VOCABULARY },
    { "merges.txt", true, APR_MOST_VOCABULARY },
    { "chat_template.jinja", true, APR_MOST_CONFIG },
    { "chat_template.json", true, APR_MOST_CONFIG },
    { "preprocessor_config.json", false, APR_MOST_CONFIG },
    { "processor_config.json", false, APR_MOST_CONFIG },
    { "modules.json", false, APR_MOST_CONFIG },
    { "sentence_bert_config.json", false, APR_MOST_CONFIG },
    { "config_sentence_transformers.json", false, APR_MOST_CONFIG },
    { "1_Pooling/config.json", false, APR_MOST_CONFIG },
    { "README.md", false, APR_MOST_CONFIG },
    { "LICENSE", false, APR_MOST_CONFIG },
};

#define TEMPLATES      "additional_chat_templates/"
#define MOST_TEMPLATES 256

static bool is_template(struct apr_bytes name)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    const size_t before = sizeof TEMPLATES - 1, after = sizeof ".jinja" - 1;
    if (name.n <= before + after || name.n > 128 || memcmp(name.at, TEMPLATES, before) != 0 || memcmp(name.at + name.n - after, ".jinja", after) != 0)
        return false;
    for (size_t i = before; i < name.n - after; i++)
        if (memchr(good, name.at[i], sizeof good - 1) == NULL)
            return false;
    return true;
}

/* Its row; APR_LENGTH(known) for a template or what is not known. */
static size_t row_of(struct apr_bytes name)
{
    size_t i = 0;
    while (i < APR_LENGTH(known) && !apr_bytes_is(name, known[i].name))
        i++;
    return i;
}

bool apr_side_known(struct apr_bytes name) { return row_of(name) < APR_LENGTH(known) || is_template(name); }

bool apr_side_of_tokenizer(struct apr_bytes name)
{
    const size_t row = row_of(name);
    return row < APR_LENGTH(known) ? known[row].tokenizer : is_template(name);
}

/* ---- the list ------------------------------------------------------------------------------------------------------- */

static struct apr_side_file *find(const struct apr_side *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++)
        if (apr_bytes_is(s->file[i].name, name))
            return &s->file[i];
    return NULL;
}

struct apr_bytes apr_side_get(const struct apr_side *s, const char *name)
{
    const struct apr_side_file *const f = find(s, name);
    return f == NULL ? (struct apr_bytes){ 0 } : f->text;
}

enum apr_code apr_side_put(struct apr_side *s, const char *name, struct apr_bytes text, struct apr_error *e)
{
    struct apr_side_file *f = find(s, name);
    if (text.at == NULL)
        text.at = (const unsigned char *)""; /* an empty file is there */
    if (f == NULL) {
        struct apr_side_file *const grown = apr_grown(s->file, &s->room, s->n, 16, sizeof *grown);
        if (grown == NULL)
            return apr_no_memory(e);
        s->file = grown;
        f = &grown[s->n];
        f->name = apr_arena_copy(&s->arena, apr_text(name));
        if (f->name.at == NULL)
            return apr_no_memory(e);
        s->n++;
    }
    f->text = text;
    f->path = NULL;
    return APR_OK;
}

/* The same with its path, which stays. */
static enum apr_code put_from(struct apr_side *s, const char *name, const char *path, struct apr_bytes text, struct apr_error *e)
{
    APR_TRY(apr_side_put(s, name, text, e));
    find(s, name)->path = path;
    return APR_OK;
}

enum apr_code apr_side_in(const struct apr_side *s, const char *name, enum apr_code code, struct apr_error *e)
{
    const struct apr_side_file *const f = find(s, name);
    if (code != APR_OK)
        apr_error_in(e, f == NULL || f->path == NULL ? name : f->path);
    return code;
}

void apr_side_remove(struct apr_side *s, const char *name)
{
    struct apr_side_file *const f = find(s, name);
    if (f != NULL)
        memmove(f, f + 1, (size_t)(s->file + --s->n - f) * sizeof *f);
}

void apr_side_forget(struct apr_side *s, bool tokenizer)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        if (apr_side_of_tokenizer(s->file[i].name) != tokenizer)
            s->file[n++] = s->file[i];
    s->n = n;
}

void apr_side_end(struct apr_side *s)
{
    for (size_t i = 0; i < s->nsource; i++)
        apr_source_close(s->source[i]);
    free(s->source);
    free(s->file);
    apr_arena_free(&s->arena);
    *s = (struct apr_side){ 0 };
}

enum apr_code apr_side_unchanged(const struct apr_side *s, struct apr_error *e)
{
    for (size_t i = 0; i < s->nsource; i++)
        APR_TRY(apr_source_intact(s->source[i], e));
    return APR_OK;
}

/* ---- of a folder ---------------------------------------------------------------------------------------------------- */

static enum apr_code add_file(struct apr_side *s, const char *folder, const char *name, uint64_t most, const struct apr_run *r, struct apr_error *e)
{
    struct apr_source *file;
    struct apr_source **const grown = apr_grown(s->source, &s->source_room, s->nsource, 16, sizeof *grown);
    if (grown == NULL)
        return apr_no_memory(e);
    s->source = grown;
    const struct apr_bytes path = apr_arena_format(&s->arena, "%s%s", folder, name);
    if (path.at == NULL)
        return apr_no_memory(e);
    APR_TRY(apr_source_sidecar(&file, (const char *)path.at, most, r, e));
    if (file == NULL)
        return APR_OK;
    s->source[s->nsource++] = file;
    return put_from(s, name, (const char *)path.at, file->map, e);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static enum apr_code add_templates(struct apr_side *s, const char *folder, const struct apr_run *r, struct apr_error *e)
{
    const struct apr_bytes path = apr_arena_format(&s->arena, "%s" TEMPLATES, folder);
    char *name[MOST_TEMPLATES];
    size_t n = 0;
    enum apr_code code = APR_OK;
    if (path.at == NULL)
        return apr_no_memory(e);
    DIR *const d = opendir((const char *)path.at);
    for (const struct dirent *entry; d != NULL && n < MOST_TEMPLATES && code == APR_OK && (entry = readdir(d)) != NULL;) {
        char full[sizeof TEMPLATES + sizeof entry->d_name];
        snprintf(full, sizeof full, TEMPLATES "%s", entry->d_name);
        name[n] = is_template(apr_text(full)) ? strdup(full) : NULL;
        if (name[n] != NULL)
            n++;
        else if (is_template(apr_text(full)))
            code = apr_no_memory(e);
    }
    if (d != NULL)
        closedir(d);
    qsort(name, n, sizeof *name, by_name);
    for (size_t i = 0; i < n && code == APR_OK; i++)
        code = add_file(s, folder, name[i], APR_MOST_CONFIG, r, e);
    while (n > 0)
        free(name[--n]);
    return code;
}

enum apr_code apr_side_folder(struct apr_side *s, const char *folder, bool tokenizer, const struct apr_run *r, struct apr_error *e)
{
    for (size_t i = 0; i < APR_LENGTH(known); i++)
        if (known[i].tokenizer || !tokenizer)
            APR_TRY(add_file(s, folder, known[i].name, known[i].most, r, e));
    return add_templates(s, folder, r, e);
}

/* ---- of an APR ------------------------------------------------------------------------------------------------------ */

/* {"base64": "..."}; anything else is left out. */
static enum apr_code add_binary(struct apr_side *s, const char *name, const char *path, const struct apr_value *object, struct apr_error *e)
{
    struct apr_elements w = apr_elements_of(object);
    struct apr_value v;
    struct apr_bytes bytes = { 0 };
    enum apr_code code = APR_OK;
    if (apr_elements_next(&w, &v) && apr_bytes_is(w.key, "base64") && v.type == APR_META_STRING)
        code = !apr_base64_decode(&s->arena, v.text, &bytes) ? apr_fail(e, APR_ECORRUPT, APR_NOWHERE, APR_SIDE_KEY ": %s cannot be decoded", name)
                                                             : put_from(s, name, path, bytes, e);
    return apr_elements_done(&w, code, e);
}

static enum apr_code add_carried(struct apr_side *s, const char *model, const struct apr_value *files, struct apr_error *e)
{
    struct apr_elements w = apr_elements_of(files);
    struct apr_value v;
    enum apr_code code = APR_OK;
    while (code == APR_OK && apr_elements_next(&w, &v)) {
        char name[160];
        if (!apr_side_known(w.key))
            continue;
        snprintf(name, sizeof name, "%.*s", APR_PRINTED(w.key));
        const char *const path = (const char *)apr_arena_format(&s->arena, "%s: " APR_SIDE_KEY " %s", model, name).at;
        if (path == NULL) {
            code = apr_no_memory(e);
        } else if (v.type == APR_META_STRING) {
            const struct apr_bytes own = apr_arena_copy(&s->arena, v.text);
            code = own.at == NULL ? apr_no_memory(e) : put_from(s, name, path, own, e);
        } else if (v.type == APR_META_OBJECT) {
            code = add_binary(s, name, path, &v, e);
        }
    }
    return apr_elements_done(&w, code, e);
}

enum apr_code apr_side_object(struct apr_bytes text, struct apr_value *object, struct apr_error *e)
{
    enum apr_code code = apr_json_check(text, 0, e);
    if (code == APR_OK)
        *object = (struct apr_value){ .type = APR_META_OBJECT, .element = APR_META_ANY, .encoding = APR_JSON, .text = text };
    struct apr_walk w;
    if (code == APR_OK)
        code = apr_walk_in(&w, text, 0, '{', e);
    if (code != APR_OK)
        e->at = APR_NOWHERE; /* it would be an offset in the string */
    return code;
}

/* "hf.files" of the model: its own, or that of the APR whose metadata it carries. type is APR_META_NULL when there is none. */
static enum apr_code carried_files(const struct apr_model *m, struct apr_value *files, struct apr_error *e)
{
    const struct apr_value *const own = m->format->own_names ? NULL : apr_meta_find(&m->meta, APR_SIDE_KEY);
    const struct apr_bytes flat = m->format->own_names ? (struct apr_bytes){ 0 } : apr_meta_string(&m->meta, APR_FLAT_KEY);
    struct apr_value object, v;
    *files = own != NULL && own->type == APR_META_OBJECT ? *own : (struct apr_value){ .type = APR_META_NULL };
    if (files->type == APR_META_OBJECT || flat.n == 0)
        return APR_OK;
    APR_TRY(apr_side_object(flat, &object, e));
    struct apr_elements w = apr_elements_of(&object);
    while (apr_elements_next(&w, &v))
        if (apr_bytes_is(w.key, APR_SIDE_KEY) && v.type == APR_META_OBJECT)
            *files = v;
    return apr_elements_done(&w, APR_OK, e);
}

enum apr_code apr_side_carried(struct apr_arena **a, const struct apr_model *m, const char *name, struct apr_bytes *text,
                               struct apr_error *e)
{
    struct apr_value files, v;
    *text = (struct apr_bytes){ 0 };
    APR_TRY(carried_files(m, &files, e));
    if (files.type != APR_META_OBJECT)
        return APR_OK;
    struct apr_elements w = apr_elements_of(&files);
    bool lost = false;
    while (!lost && apr_elements_next(&w, &v))
        if (apr_bytes_is(w.key, name) && v.type == APR_META_STRING) {
            *text = apr_arena_copy(a, v.text);
            lost = text->at == NULL;
        }
    return apr_elements_done(&w, lost ? apr_no_memory(e) : APR_OK, e);
}

enum apr_code apr_side_of(struct apr_side *s, const struct apr_model *m, const struct apr_run *r, struct apr_error *e)
{
    struct apr_value carried;
    APR_TRY(carried_files(m, &carried, e));
    const char *const path = m->nfile == 0 ? "-" : m->file[0]->path;
    if (carried.type == APR_META_OBJECT && (m->config == NULL || !m->format->config))
        return add_carried(s, path, &carried, e);
    if (!m->format->config)
        return APR_OK;
    if (strcmp(path, "-") == 0)
        return APR_OK;
    const struct apr_bytes folder = apr_arena_format(&s->arena, "%.*s", (int)apr_folder_length(path), path);
    return folder.at == NULL ? apr_no_memory(e) : apr_side_folder(s, (const char *)folder.at, false, r, e);
}
