/* The file of a draft: roles, what the models call themselves, what is skipped. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "discover_draft.h"
#include "files/sink.h"
#include "model/format.h"
#include "model/hf_config.h"
#include "model/meta.h"
#include "model/model.h"

/* The layers of entries, in runs. */
static void put_where(FILE *to, const struct entry *x, size_t n)
{
    fputs(",\n     where: \"", to);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && x[end].layer == x[end - 1].layer + 1; end++) {}
        fputs(i > 0 ? " or " : "", to);
        if (end == i + 1)
            fprintf(to, "layer == %u", x[i].layer);
        else
            fprintf(to, "(layer >= %u and layer <= %u)", x[i].layer, x[end - 1].layer);
    }
    fputc('"', to);
}

static void put_role(FILE *to, const struct draft *w, const struct draft_role *r)
{
    const struct entry *const x = &w->entry[r->first];
    fprintf(to, "  - {role: %s, hf: ", r->name);
    if (x->tied == TIED_TO)
        fputs("\"lm_head.weight\"", to);
    else
        fwrite(x->hf.at, 1, x->hf.n, to);
    fputs(", gguf: ", to);
    if (x->tied == TIED_FROM)
        fputs("\"output.weight\"", to);
    else
        fwrite(x->gguf.at, 1, x->gguf.n, to);
    fwrite(x->body.at, 1, x->body.n, to);
    if (r->where)
        put_where(to, x, r->n);
    fputs(x->tied != TIED_NOT || (x->layered && !r->where && r->n < w->layers) ? ", optional: 1}\n" : "}\n", to);
}

/* The file's name without its ending, as far as a family may be called that. */
static void put_family(FILE *to, const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash == NULL ? path : slash + 1;
    const size_t n = strcspn(name, ".");
    bool letters = n > 0 && n < 64;
    for (size_t i = 0; i < n; i++)
        letters &= (name[i] >= '0' && name[i] <= '9') || (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z') ||
                   (i > 0 && (name[i] == '-' || name[i] == '_'));
    fprintf(to, "%.*s", letters ? (int)n : 10, letters ? name : "discovered");
}

/* A word by which a model calls itself: in config.json or its metadata, under the first of these that is there. */
static struct apr_bytes word_said(const struct apr_model *m, const struct apr_hf_config *c, const char *const path[3])
{
    struct apr_bytes word = { 0 };
    if (path[0] != NULL && apr_hf_config_string(c, apr_text(path[0]), &word))
        return word;
    for (unsigned i = 1; i < 3 && word.n == 0 && path[i] != NULL; i++)
        word = apr_meta_string(&m->meta, path[i]);
    return word;
}

/* What the models call themselves, so that both are taken for the contract's. */
static enum apr_code put_detect(FILE *to, const struct draft *w)
{
    static const struct {
        const char *list, *path[3];
        bool        gguf;
    } words[] = { { "architectures", { "architectures.0", "hf_architecture", NULL }, false },
                  { "model_types", { "model_type", "hf_model_type", "architecture" }, false },
                  { "gguf", { NULL, "general.architecture", NULL }, true } };
    const struct apr_model *const model[] = { w->d->models->a, w->d->models->b };
    struct apr_hf_config *config[2] = { NULL };
    enum apr_code code = apr_hf_config_of(&config[0], model[0], w->e);
    const char *before = "\ndetect: {";
    if (code == APR_OK)
        code = apr_hf_config_of(&config[1], model[1], w->e);
    for (size_t k = 0; code == APR_OK && k < APR_LENGTH(words); k++) {
        struct apr_bytes said[2] = { { 0 } };
        unsigned n = 0;
        for (unsigned i = 0; i < 2; i++) {
            if (model[i]->format->own_names == words[k].gguf)
                said[i] = word_said(model[i], config[i], words[k].path);
            if (!is_plain_name(said[i]) || (i == 1 && apr_bytes_equal(said[0], said[1])))
                continue;
            if (n++ == 0)
                fprintf(to, "%s%s: [\"", before, words[k].list);
            else
                fputs(", \"", to);
            put_text(to, said[i]);
            fputc('"', to);
            before = ", ";
        }
        fputs(n > 0 ? "]" : "", to);
    }
    fputs(before[0] == ',' ? "}" : "", to);
    apr_hf_config_free(config[0]);
    apr_hf_config_free(config[1]);
    return code;
}

/* A name as a glob. any: numbers between dots are any; what a glob or a contract cannot hold is any character. */
static size_t glob_of(struct apr_bytes s, bool any, char *out)
{
    struct word word[MOST_WORDS];
    const size_t n = words_of(s, word);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        const bool star = any && word[i].number != UINT32_MAX;
        if (i > 0)
            out[at++] = (char)s.at[word[i].at - 1];
        if (star)
            out[at++] = '*';
        for (size_t k = word[i].at; k < word[i].at + word[i].n && !star; k++) {
            const unsigned char c = s.at[k];
            const bool plain = c > ' ' && c < 0x7F && strchr("{}*?[]\\\"", c) == NULL;
            if (plain || c < 0x80 || c >= 0xC0) /* one for a character of several bytes */
                out[at++] = plain ? (char)c : '?';
        }
    }
    return at;
}

/* The globs of names, each once, as a list of the contract. */
struct globs {
    struct apr_table seen;
    FILE            *to;
    bool             any;
};

static enum apr_code put_glob(struct draft *w, struct globs *g, struct apr_bytes name)
{
    char *const text = malloc(name.n + 1);
    const size_t n = text == NULL ? 0 : glob_of(name, g->any, text);
    const struct apr_bytes glob = apr_arena_copy(&w->arena, (struct apr_bytes){ (const unsigned char *)text, n });
    bool fresh;
    const bool first = g->seen.n == 0;
    free(text);
    if (text == NULL || glob.at == NULL || apr_table_put(&g->seen, glob, &fresh) == NULL)
        return apr_no_memory(w->e);
    if (fresh)
        fprintf(g->to, "%s  - \"%.*s\"\n", first ? "\nskip:\n" : "", APR_PRINTED(glob));
    return APR_OK;
}

static enum apr_code list_known(const struct draft *w, struct apr_table *known)
{
    bool fresh;
    for (size_t r = 0; r < w->nrole; r++)
        for (size_t i = 0; i < w->role[r].n && !w->role[r].dropped; i++) {
            const struct finding *const f = w->entry[w->role[r].first + i].f;
            for (size_t k = 0; k < f->nfrom + f->nto; k++)
                if (apr_table_put(known, (k < f->nfrom ? f->from[k] : f->to[k - f->nfrom])->t->name, &fresh) == NULL)
                    return apr_no_memory(w->e);
        }
    return APR_OK;
}

/* Of two checkpoints none tells what it is, so the contract has to know all that A holds: what is in no role is skipped. */
static enum apr_code put_rest_of_a(FILE *to, struct draft *w)
{
    const struct apr_model *const a = w->d->models->a;
    struct apr_table known = { 0 };
    struct globs globs = { .to = to, .any = true };
    enum apr_code code = list_known(w, &known);
    for (size_t i = 0; code == APR_OK && i < a->ntensor; i++)
        if (apr_table_find(&known, a->tensor[i].name) == NULL)
            code = put_glob(w, &globs, a->tensor[i].name);
    apr_table_free(&known);
    apr_table_free(&globs.seen);
    return code;
}

/* What a converter leaves out and what it makes, as the contract says that the models have now. A checkpoint of no class is known by its
 * names: the contract has all of them that were excused. */
static enum apr_code put_excused(FILE *to, struct draft *w)
{
    const struct match *const m = w->d->match;
    const bool of_b = w->d->gguf == 0;
    struct globs globs = { .to = to };
    enum apr_code code = APR_OK;
    for (size_t i = 0; code == APR_OK && i < m->nexcused; i++)
        if (m->excused[i].of_b == of_b)
            code = put_glob(w, &globs, m->excused[i].name);
    apr_table_free(&globs.seen);
    for (size_t i = 0, n = 0; code == APR_OK && i < m->nexcused; i++) {
        const struct apr_model *const gguf = of_b ? w->d->models->a : w->d->models->b;
        const struct apr_tensor *const t = apr_model_find(gguf, m->excused[i].name);
        if (m->excused[i].of_b == of_b || strcmp(m->excused[i].reason, "generated") != 0 || t == NULL || !is_plain_name(t->name))
            continue;
        fprintf(to, "%s  - {role: generated_%zu, gguf: \"", n == 0 ? "\ngenerated:\n" : "", n);
        put_text(to, t->name);
        fprintf(to, "\", shape: [%llu], dtype: f32, op: llama3_rope_factors}\n", (unsigned long long)t->count);
        n++;
    }
    return code;
}

static enum apr_code put_draft(FILE *to, struct draft *w, const char *path)
{
    fputs("# Found by value by apr-diff --discover. Sizes are those of the two models that it was found in.\n", to);
    fputs("schema: apr-family/1\nfamily: ", to);
    put_family(to, path);
    APR_TRY(put_detect(to, w));
    fprintf(to, "\n\ndims:\n  N: %llu\n\ntensors:\n", (unsigned long long)w->layers);
    for (size_t i = 0; i < w->nrole; i++)
        if (!w->role[i].dropped)
            put_role(to, w, &w->role[i]);
    return w->d->gguf < 0 ? put_rest_of_a(to, w) : put_excused(to, w);
}

enum apr_code write_contract(struct draft *w, const char *path)
{
    struct apr_sink sink = { 0 };
    APR_TRY(apr_sink_begin(&sink, path, 0, w->e));
    enum apr_code code = put_draft(sink.to, w, path);
    if (code == APR_OK)
        code = apr_sink_end(&sink, w->e);
    if (code != APR_OK)
        apr_sink_drop(&sink);
    return code;
}
