/* --tokenizer as text and as JSON. */
#include "inspect.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "token/vocabulary.h"

#define COLUMNS      48 /* of a token's text */
#define ENDS         8u /* first and last tokens that are shown */
#define MOST_SPECIAL 64u

/* A special token with its role, or without. */
struct shown {
    uint64_t         id;
    struct apr_bytes role;
};

struct tokenizer {
    struct apr_vocabulary v;
    uint64_t              control;
    struct shown          special[MOST_SPECIAL];
    size_t                nspecial, nmore; /* nmore: beyond the first MOST_SPECIAL */
};

static int by_id(const void *a, const void *b)
{
    const struct shown *x = a, *y = b;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return apr_bytes_compare(x->role, y->role);
}

static void add_special(struct tokenizer *k, uint64_t id, struct apr_bytes role)
{
    for (size_t i = 0; i < k->nspecial && role.n == 0; i++)
        if (k->special[i].id == id)
            return;
    if (k->nspecial == MOST_SPECIAL)
        k->nmore++;
    else
        k->special[k->nspecial++] = (struct shown){ id, role };
}

/* What the tokenizer itself names, then its control tokens. */
static enum apr_code read_tokenizer(struct tokenizer *k, const struct inspection *x, struct apr_error *e)
{
    const struct apr_vocabulary *v = &k->v;
    APR_TRY(apr_vocabulary_read(&k->v, x->m, &x->o->cli.run, e));
    for (size_t i = 0; i < v->nspecial; i++)
        if (!v->special[i].implied)
            add_special(k, v->special[i].id, v->special[i].word);
    for (size_t i = 0; i < v->ntoken; i++)
        if (v->token[i].type == APR_TOKEN_CONTROL) {
            k->control++;
            add_special(k, v->token[i].id, (struct apr_bytes){ 0 });
        }
    qsort(k->special, k->nspecial, sizeof *k->special, by_id);
    return APR_OK;
}

static uint64_t last_tokens(const struct apr_vocabulary *v) { return v->size > ENDS ? v->size - ENDS : 0; }

static uint64_t merges_of(const struct apr_vocabulary *v) { return v->nmerge + v->faults.bad_merges; }

/* ---- text ----------------------------------------------------------------------------------------------------------- */

static void print_token(const struct apr_token *t, uint64_t id, struct apr_bytes role)
{
    printf("  %8" PRIu64 "  ", id);
    if (t != NULL)
        print_value(stdout, &(struct apr_value){ .type = APR_META_STRING, .text = t->text }, COLUMNS);
    else
        fputs("(no such token)", stdout);
    if (role.n > 0) {
        fputs("  ", stdout);
        apr_print_bytes(stdout, role);
    }
    putchar('\n');
}

static void print_end(const char *title, const struct apr_vocabulary *v, uint64_t first)
{
    bool any = false;
    for (uint64_t id = first; id < first + ENDS; id++) {
        const struct apr_token *t = apr_vocabulary_token(v, id);
        if (t == NULL)
            continue;
        if (!any)
            puts(title);
        any = true;
        print_token(t, id, (struct apr_bytes){ 0 });
    }
}

static void print_template(struct apr_bytes s)
{
    size_t begin = 0;
    if (s.n == 0)
        return;
    printf("chat template (%zu bytes, not rendered)\n", s.n);
    for (size_t i = 0; i <= s.n; i++)
        if (i == s.n || s.at[i] == '\n') {
            fputs("  ", stdout);
            apr_print_bytes(stdout, (struct apr_bytes){ s.at + begin, i - begin });
            putchar('\n');
            begin = i + 1;
        }
}

static void print_tokenizer(const struct tokenizer *k)
{
    const struct apr_vocabulary *v = &k->v;
    if (!v->found) {
        puts("no tokenizer");
        return;
    }
    fputs("model    ", stdout);
    apr_print_bytes(stdout, v->model.n > 0 ? v->model : apr_text("not said"));
    if (v->pre.n > 0) {
        fputs("  (pre-tokenizer ", stdout);
        apr_print_bytes(stdout, v->pre);
        putchar(')');
    }
    printf("\ntokens   %" PRIu64 "\n", v->size);
    if (merges_of(v) > 0)
        printf("merges   %" PRIu64 "\n", merges_of(v));
    if (k->control > 0)
        printf("control  %" PRIu64 "\n", k->control);
    if (k->nspecial > 0)
        puts("special tokens");
    for (size_t i = 0; i < k->nspecial; i++)
        print_token(apr_vocabulary_token(v, k->special[i].id), k->special[i].id, k->special[i].role);
    if (k->nmore > 0)
        printf("  and %zu more\n", k->nmore);
    print_end("first tokens", v, 0);
    print_end("last tokens", v, last_tokens(v));
    print_template(apr_vocabulary_chat(v, "default"));
}

int show_tokenizer(struct inspection *x)
{
    struct tokenizer k = { 0 };
    struct apr_error e;
    const enum apr_code code = read_tokenizer(&k, x, &e);
    if (code == APR_OK)
        print_tokenizer(&k);
    apr_vocabulary_end(&k.v);
    if (code == APR_OK)
        return APR_EXIT_YES;
    apr_error_in(&e, x->path);
    return apr_cli_fail(&x->o->cli, &e);
}

/* ---- JSON ----------------------------------------------------------------------------------------------------------- */

static void write_text(struct apr_out *j, const char *key, struct apr_bytes s)
{
    if (s.n > 0)
        apr_out_bytes(j, key, s);
    else
        apr_out_null(j, key);
}

static void write_token(struct apr_out *j, const struct apr_token *t, uint64_t id, const struct apr_bytes *role)
{
    apr_out_open(j, NULL, '{');
    apr_out_count(j, "id", id);
    if (t != NULL)
        apr_out_bytes(j, "text", t->text);
    else
        apr_out_null(j, "text");
    if (role != NULL)
        write_text(j, "role", *role);
    apr_out_close(j, '}');
}

static void write_end(struct apr_out *j, const char *key, const struct apr_vocabulary *v, uint64_t first)
{
    apr_out_open(j, key, '[');
    for (uint64_t id = first; id < first + ENDS; id++) {
        const struct apr_token *t = apr_vocabulary_token(v, id);
        if (t != NULL)
            write_token(j, t, id, NULL);
    }
    apr_out_close(j, ']');
}

static void write_found(struct apr_out *j, const struct tokenizer *k)
{
    const struct apr_vocabulary *v = &k->v;
    apr_out_open(j, "tokenizer", '{');
    write_text(j, "model", v->model);
    write_text(j, "pre", v->pre);
    apr_out_count(j, "size", v->size);
    apr_out_count(j, "merges", merges_of(v));
    apr_out_count(j, "control", k->control);
    apr_out_open(j, "special", '[');
    for (size_t i = 0; i < k->nspecial; i++)
        write_token(j, apr_vocabulary_token(v, k->special[i].id), k->special[i].id, &k->special[i].role);
    apr_out_close(j, ']');
    write_end(j, "first", v, 0);
    write_end(j, "last", v, last_tokens(v));
    write_text(j, "chat_template", apr_vocabulary_chat(v, "default"));
    apr_out_close(j, '}');
}

enum apr_code write_tokenizer(struct apr_out *j, const struct inspection *x, struct apr_error *e)
{
    struct tokenizer k = { 0 };
    const enum apr_code code = read_tokenizer(&k, x, e);
    if (code == APR_OK && k.v.found)
        write_found(j, &k);
    else if (code == APR_OK)
        apr_out_null(j, "tokenizer");
    apr_vocabulary_end(&k.v);
    return code;
}
