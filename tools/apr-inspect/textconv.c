/* --textconv: a model as text for git diff: what differs stands on a line of its own, and nothing else moves. */
#include <stdlib.h>
#include <string.h>

#include "files/source.h"
#include "inspect.h"
#include "model/format.h"
#include "model/meta.h"
#include "model/model.h"

#define MOST_OF_POINTER 1024 /* bytes that Git LFS allows one */
#define SHORT 16 /* elements of an array that are spelled out; of a longer one its digest tells */

struct line {
    const struct apr_tensor *t;
    struct apr_digest        hash;
};

/* hashed: of what lies behind an address the data is not fetched for their sake. */
struct lines {
    struct line            *at;
    size_t                  n;
    bool                    hashed;
    struct apr_model_digest model;
};

static enum apr_code keep_line(void *ctx, const struct scanned *row, struct apr_error *e)
{
    struct lines *l = ctx;
    (void)e;
    l->at[l->n++] = (struct line){ row->t, row->hash };
    apr_model_digest_add(&l->model, row->t, row->hash);
    return APR_OK;
}

static enum apr_code take_lines(struct lines *l, const struct inspection *x, struct apr_error *e)
{
    uint64_t missing = 0;
    for (size_t i = 0; i < x->opened->nfile; i++)
        missing += apr_source_missing(x->opened->file[i]);
    l->hashed = missing == 0;
    if (l->hashed)
        return scan_tensors(x, SCAN_HASH, keep_line, l, e);
    for (size_t i = 0; i < x->m->ntensor; i++)
        if (is_chosen(x, &x->m->tensor[i]))
            l->at[l->n++] = (struct line){ .t = &x->m->tensor[i] };
    return APR_OK;
}

static int by_name(const void *x, const void *y)
{
    return apr_bytes_compare(((const struct line *)x)->t->name, ((const struct line *)y)->t->name);
}

static int by_key(const void *x, const void *y)
{
    return apr_bytes_compare(((const struct apr_meta_entry *)x)->key, ((const struct apr_meta_entry *)y)->key);
}

static void print_metadata(const struct apr_meta_entry *entry)
{
    const struct apr_value *v = &entry->value;
    char digits[33];
    apr_print_bytes(stdout, entry->key);
    printf("  %s  ", apr_meta_type_word(v->type));
    if (v->type == APR_META_ARRAY && apr_meta_length(v) > SHORT) {
        printf("%llu elements  %s\n", (unsigned long long)apr_meta_length(v), apr_digest_spell(apr_digest_of(v->text), digits));
        return;
    }
    struct apr_out out = { .to = stdout };
    apr_out_value(&out, NULL, v, SHORT);
    putchar('\n');
}

static void print_lines(const struct inspection *x, const struct apr_meta_entry *meta, const struct lines *l)
{
    char digits[33], shape[176];
    const char *const version = version_of(x->m);
    printf("format  %s%s%s\n", x->m->format->name, *version != 0 ? " " : "", version);
    if (l->hashed)
        printf("model  %s\n", apr_digest_spell(apr_model_digest_end(&l->model), digits));
    puts("");
    for (size_t i = 0; i < x->m->meta.n; i++)
        print_metadata(&meta[i]);
    puts("");
    for (size_t i = 0; i < l->n; i++) {
        const struct apr_tensor *t = l->at[i].t;
        apr_print_bytes(stdout, t->name);
        printf("  %s %s", t->dtype->name, apr_spell_shape(t->dim, t->ndim, shape));
        if (l->hashed)
            printf("  %s", apr_digest_spell(l->at[i].hash, digits));
        puts("");
    }
}

/* Sorted, so that a file which was written anew in another order shows what changed and not what moved. */
int show_textconv(struct inspection *x)
{
    const struct apr_meta *meta = &x->m->meta;
    struct lines l = { .at = malloc((x->m->ntensor + 1) * sizeof *l.at) };
    struct apr_meta_entry *sorted = malloc((meta->n + 1) * sizeof *sorted);
    struct apr_error e;
    enum apr_code code = l.at == NULL || sorted == NULL ? apr_no_memory(&e) : take_lines(&l, x, &e);
    if (code == APR_OK) {
        if (meta->n > 0)
            memcpy(sorted, meta->entry, meta->n * sizeof *sorted);
        qsort(sorted, meta->n, sizeof *sorted, by_key);
        qsort(l.at, l.n, sizeof *l.at, by_name);
        print_lines(x, sorted, &l);
    }
    free(l.at);
    free(sorted);
    if (code == APR_OK)
        return APR_EXIT_YES;
    apr_error_in(&e, x->path);
    return apr_cli_fail(&x->o->cli, &e);
}

/* The text of a Git LFS pointer is what git shows without us; false for any other file. */
static bool print_pointer(const struct options *o, const char *path)
{
    static const char start[] = "version https://git-lfs";
    struct apr_source *s;
    struct apr_error ignored;
    if (apr_source_open(&s, path, &o->cli.run, &ignored) != APR_OK)
        return false;
    const bool yes = s->map.n >= sizeof start - 1 && memcmp(s->map.at, start, sizeof start - 1) == 0;
    struct apr_bytes rest = { s->map.at, yes ? (size_t)apr_min(s->map.n, MOST_OF_POINTER) : 0 };
    while (rest.n > 0) {
        const unsigned char *const end = memchr(rest.at, '\n', rest.n);
        const size_t n = end == NULL ? rest.n : (size_t)(end - rest.at);
        apr_print_bytes(stdout, (struct apr_bytes){ rest.at, n });
        putchar('\n');
        rest = (struct apr_bytes){ rest.at + n + (end != NULL), rest.n - n - (end != NULL) };
    }
    apr_source_close(s);
    return yes;
}

/* Without the file's name, which git makes up anew each time. */
int show_unreadable(const struct options *o, const char *path, const struct apr_error *why)
{
    if (print_pointer(o, path))
        return APR_EXIT_YES;
    printf("cannot be read: ");
    if (why->at != APR_NOWHERE)
        printf("at byte %llu: ", (unsigned long long)why->at);
    puts(why->text);
    return APR_EXIT_YES;
}
