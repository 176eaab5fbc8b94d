/* --tokenizer as text and as JSON. */
#include <inttypes.h>

#include "base/bytes.h"
#include "tokenizer.h"

#define COLUMNS 48 /* of a token's text */

/* ---- text ----------------------------------------------------------------------------------------------------------- */

static void print_token(const struct token *t)
{
    printf("  %8" PRIu64 "  ", t->id);
    if (t->known)
        print_value(stdout, &(struct apr_value){ .type = APR_META_STRING, .text = t->text }, COLUMNS);
    else
        fputs("(no such token)", stdout);
    if (t->role.n > 0) {
        fputs("  ", stdout);
        apr_print_bytes(stdout, t->role);
    }
    putchar('\n');
}

static void print_ends(const char *title, const struct token *t)
{
    bool any = false;
    for (size_t i = 0; i < ENDS; i++) {
        if (!t[i].known)
            continue;
        if (!any)
            puts(title);
        any = true;
        print_token(&t[i]);
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
    if (!k->found) {
        puts("no tokenizer");
        return;
    }
    fputs("model    ", stdout);
    apr_print_bytes(stdout, k->model.n > 0 ? k->model : apr_text("not said"));
    if (k->pre.n > 0) {
        fputs("  (pre-tokenizer ", stdout);
        apr_print_bytes(stdout, k->pre);
        putchar(')');
    }
    printf("\ntokens   %" PRIu64 "\n", k->size);
    if (k->merges > 0)
        printf("merges   %" PRIu64 "\n", k->merges);
    if (k->control > 0)
        printf("control  %" PRIu64 "\n", k->control);
    if (k->nspecial > 0)
        puts("special tokens");
    for (size_t i = 0; i < k->nspecial; i++)
        print_token(&k->special[i]);
    print_ends("first tokens", k->first);
    print_ends("last tokens", k->last);
    print_template(k->chat_template);
}

int show_tokenizer(struct inspection *x)
{
    struct tokenizer k;
    struct apr_error e;
    const enum apr_code code = read_tokenizer(&k, x, &e);
    if (code == APR_OK)
        print_tokenizer(&k);
    end_tokenizer(&k);
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

static void write_tokens(struct apr_out *j, const char *key, const struct token *t, size_t n, bool roles)
{
    apr_out_open(j, key, '[');
    for (size_t i = 0; i < n; i++) {
        if (!roles && !t[i].known)
            continue;
        apr_out_open(j, NULL, '{');
        apr_out_count(j, "id", t[i].id);
        if (t[i].known)
            apr_out_bytes(j, "text", t[i].text);
        else
            apr_out_null(j, "text");
        if (roles)
            write_text(j, "role", t[i].role);
        apr_out_close(j, '}');
    }
    apr_out_close(j, ']');
}

enum apr_code write_tokenizer(struct apr_out *j, const struct inspection *x, struct apr_error *e)
{
    struct tokenizer k;
    const enum apr_code code = read_tokenizer(&k, x, e);
    if (code == APR_OK && !k.found) {
        apr_out_null(j, "tokenizer");
    } else if (code == APR_OK) {
        apr_out_open(j, "tokenizer", '{');
        write_text(j, "model", k.model);
        write_text(j, "pre", k.pre);
        apr_out_count(j, "size", k.size);
        apr_out_count(j, "merges", k.merges);
        apr_out_count(j, "control", k.control);
        write_tokens(j, "special", k.special, k.nspecial, true);
        write_tokens(j, "first", k.first, ENDS, false);
        write_tokens(j, "last", k.last, ENDS, false);
        write_text(j, "chat_template", k.chat_template);
        apr_out_close(j, '}');
    }
    end_tokenizer(&k);
    return code;
}
