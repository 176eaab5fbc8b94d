/* --manifest and --verify: the hashes of a model written down, and compared with. */
#include <stdlib.h>
#include <string.h>

#include "files/sink.h"
#include "files/source.h"
#include "inspect.h"
#include "model/json.h"
#include "model/model.h"

#define SCHEMA "apr-manifest/1"

static int fail(const struct inspection *x, const char *path, struct apr_error *e)
{
    apr_error_in(e, path);
    return apr_cli_fail(&x->o->cli, e);
}

/* ---- writing -------------------------------------------------------------------------------------------------------- */

struct writing {
    struct apr_out          out;
    struct apr_model_digest model;
};

/* A line for each tensor, so that line-wise tools can work on it. */
static enum apr_code write_entry(void *ctx, const struct scanned *row, struct apr_error *e)
{
    struct writing *w = ctx;
    struct apr_out *o = &w->out;
    char digits[33];
    (void)e;
    fputs(o->comma[o->depth] ? ",\n" : "\n", o->to);
    o->comma[o->depth] = false;
    apr_out_open(o, NULL, '{');
    apr_out_bytes(o, "name", row->t->name);
    apr_out_text(o, "dtype", row->t->dtype->name);
    apr_out_counts(o, "shape", row->t->dim, row->t->ndim);
    apr_out_text(o, "hash", apr_digest_spell(row->hash, digits));
    apr_out_text(o, "value_hash", row->decodable ? apr_digest_spell(row->value_hash, digits) : NULL);
    apr_out_close(o, '}');
    apr_model_digest_add(&w->model, row->t, row->hash);
    return APR_OK;
}

int write_manifest(struct inspection *x)
{
    struct apr_sink file;
    struct apr_error e;
    char digits[33];
    if (apr_sink_begin(&file, x->o->manifest, 0, &e) != APR_OK)
        return apr_cli_fail(&x->o->cli, &e);
    struct writing w = { .out = { .to = file.to } };
    apr_out_open(&w.out, NULL, '{');
    apr_out_text(&w.out, "schema", SCHEMA);
    apr_out_open(&w.out, "tensors", '[');
    if (scan_tensors(x, SCAN_HASH, write_entry, &w, &e) != APR_OK) {
        apr_sink_drop(&file);
        return fail(x, x->path, &e);
    }
    apr_out_close(&w.out, ']');
    if (x->o->selection.filter == NULL)
        apr_out_text(&w.out, "model_hash", apr_digest_spell(apr_model_digest_end(&w.model), digits));
    apr_out_close(&w.out, '}');
    apr_out_line(&w.out);
    return apr_sink_end(&file, &e) == APR_OK ? APR_EXIT_YES : apr_cli_fail(&x->o->cli, &e);
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

struct entry {
    struct apr_bytes  name;
    struct apr_digest hash, values;
    bool              has_values, seen;
};

struct manifest {
    struct entry *entry;
    size_t        n, room;
};

static int by_name(const void *x, const void *y)
{
    return apr_bytes_compare(((const struct entry *)x)->name, ((const struct entry *)y)->name);
}

static bool is_key(const struct apr_item *item, const char *quoted) { return apr_bytes_is(item->key, quoted); }

/* "0123..." with its quotes. */
static bool read_digest(struct apr_bytes value, struct apr_digest *d)
{
    return value.n == 34 && apr_digest_read((struct apr_bytes){ value.at + 1, 32 }, d);
}

static enum apr_code read_entry(struct manifest *f, struct apr_model *m, const struct apr_item *tensor, struct apr_error *e)
{
    struct apr_walk walk;
    struct apr_item item;
    struct entry entry = { .name = { 0 } };
    bool more, named = false, hashed = false;
    APR_TRY(apr_json_check(tensor->value, tensor->value_at, e));
    APR_TRY(apr_walk_in(&walk, tensor->value, tensor->value_at, '{', e));
    for (;;) {
        APR_TRY(apr_walk_next(&walk, &item, &more, e));
        if (!more)
            break;
        if (is_key(&item, "\"name\"")) {
            APR_TRY(apr_json_string(m, item.value, item.value_at, &entry.name, e));
            named = true;
        } else if (is_key(&item, "\"hash\"")) {
            hashed = read_digest(item.value, &entry.hash);
        } else if (is_key(&item, "\"value_hash\"")) {
            entry.has_values = read_digest(item.value, &entry.values);
        }
    }
    if (!named || !hashed)
        return apr_fail(e, APR_ECORRUPT, tensor->value_at, "a tensor without %s", named ? "a hash of 32 hex digits" : "a name");
    if (f->n == f->room) {
        const size_t room = 2 * f->room + 64;
        struct entry *const more_entries = realloc(f->entry, room * sizeof *more_entries);
        if (more_entries == NULL)
            return apr_no_memory(e);
        f->entry = more_entries;
        f->room = room;
    }
    f->entry[f->n++] = entry;
    return APR_OK;
}

static enum apr_code read_entries(struct manifest *f, struct apr_model *m, const struct apr_item *tensors, struct apr_error *e)
{
    struct apr_walk walk;
    struct apr_item item;
    bool more;
    APR_TRY(apr_walk_in(&walk, tensors->value, tensors->value_at, '[', e));
    for (;;) {
        APR_TRY(apr_walk_next(&walk, &item, &more, e));
        if (!more)
            return APR_OK;
        APR_TRY(read_entry(f, m, &item, e));
    }
}

static enum apr_code read_members(struct manifest *f, struct apr_model *m, struct apr_bytes text, struct apr_error *e)
{
    struct apr_walk walk;
    struct apr_item item;
    bool more, schema = false, tensors = false;
    APR_TRY(apr_walk_in(&walk, text, 0, '{', e));
    for (;;) {
        APR_TRY(apr_walk_next(&walk, &item, &more, e));
        if (!more)
            break;
        if (is_key(&item, "\"schema\""))
            schema = apr_bytes_is(item.value, "\"" SCHEMA "\"");
        if (is_key(&item, "\"tensors\"")) {
            tensors = true;
            APR_TRY(read_entries(f, m, &item, e));
        }
    }
    APR_TRY(apr_walk_end(&walk, e));
    if (!schema || !tensors)
        return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "has no %s", schema ? "tensors" : "\"schema\": \"" SCHEMA "\"");
    if (f->n > 0)
        qsort(f->entry, f->n, sizeof *f->entry, by_name);
    for (size_t i = 1; i < f->n; i++)
        if (apr_bytes_equal(f->entry[i - 1].name, f->entry[i].name))
            return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "names the tensor %s twice", APR_QUOTED(f->entry[i].name));
    return APR_OK;
}

/* ---- verifying ------------------------------------------------------------------------------------------------------ */

enum verdict { CHANGED, MISSING, NEW, NVERDICTS };
static const char *const verdict_word[NVERDICTS] = { "changed", "missing", "new" };

struct verifying {
    const struct inspection *x;
    struct manifest          f;
    struct apr_out          *json; /* or NULL: text */
    uint64_t                 of[NVERDICTS], same;
};

/* same_values: the bytes are others, the decoded values are not. */
static void tell(struct verifying *v, enum verdict verdict, struct apr_bytes name, bool same_values)
{
    v->of[verdict]++;
    if (v->json != NULL) {
        apr_out_open(v->json, NULL, '{');
        apr_out_bytes(v->json, "name", name);
        apr_out_text(v->json, "status", verdict_word[verdict]);
        if (verdict == CHANGED)
            apr_out_bool(v->json, "same_values", same_values);
        apr_out_close(v->json, '}');
        return;
    }
    printf("%-7s  ", verdict_word[verdict]);
    apr_print_bytes(stdout, name);
    puts(same_values ? "  (stored otherwise, same values)" : "");
}

static enum apr_code verify_row(void *ctx, const struct scanned *row, struct apr_error *e)
{
    struct verifying *v = ctx;
    const struct entry key = { .name = row->t->name };
    struct entry *const entry = v->f.n == 0 ? NULL : bsearch(&key, v->f.entry, v->f.n, sizeof key, by_name);
    (void)e;
    if (entry == NULL) {
        tell(v, NEW, row->t->name, false);
        return APR_OK;
    }
    entry->seen = true;
    if (apr_digest_equal(entry->hash, row->hash))
        v->same++;
    else
        tell(v, CHANGED, row->t->name, row->decodable && entry->has_values && apr_digest_equal(entry->values, row->value_hash));
    return APR_OK;
}

static enum apr_code tell_missing(struct verifying *v, struct apr_error *e)
{
    for (size_t i = 0; i < v->f.n; i++) {
        bool wanted = false;
        if (!v->f.entry[i].seen)
            APR_TRY(apr_patterns_want(v->x->o->selection.filter, v->f.entry[i].name, &wanted, e));
        if (wanted)
            tell(v, MISSING, v->f.entry[i].name, false);
    }
    return APR_OK;
}

static int verify(struct verifying *v)
{
    struct apr_out out = { .to = stdout };
    struct apr_report report = { .out = &out, .schema = "apr-verify/1", .rows = "tensors" };
    struct apr_error e;
    if (v->x->o->cli.json) {
        v->json = &out;
        apr_report_begin(&report);
    }
    enum apr_code code = scan_tensors(v->x, SCAN_HASH, verify_row, v, &e);
    if (code == APR_OK)
        code = tell_missing(v, &e);
    const bool same = v->of[CHANGED] + v->of[MISSING] + v->of[NEW] == 0;
    int exit_code = same ? APR_EXIT_YES : APR_EXIT_NO;
    if (code != APR_OK)
        exit_code = fail(v->x, v->x->path, &e);
    if (v->json != NULL) {
        apr_report_sum(&report);
        apr_out_count(&out, "same", v->same);
        for (unsigned i = 0; i < NVERDICTS; i++)
            apr_out_count(&out, verdict_word[i], v->of[i]);
        if (code == APR_OK)
            apr_out_bool(&out, "verified", same);
        apr_report_end(&report, code == APR_OK ? NULL : &e);
    } else if (code == APR_OK && !v->x->o->cli.quiet) {
        printf("%llu the same, %llu changed, %llu missing, %llu new\n", (unsigned long long)v->same, (unsigned long long)v->of[CHANGED],
               (unsigned long long)v->of[MISSING], (unsigned long long)v->of[NEW]);
    }
    return exit_code;
}

/* A manifest that cannot be read, before anything was said. */
static int fail_verify(const struct inspection *x, struct apr_error *e)
{
    struct apr_report r = { .out = &(struct apr_out){ .to = stdout }, .schema = "apr-verify/1" };
    if (x->o->cli.json) {
        apr_report_begin(&r);
        apr_report_end(&r, e);
    }
    return fail(x, x->o->verify, e);
}

int verify_manifest(struct inspection *x)
{
    struct verifying v = { .x = x };
    struct apr_source *s;
    struct apr_error e;
    int exit_code;
    if (apr_source_open(&s, x->o->verify, &x->o->cli.run, &e) != APR_OK)
        return fail_verify(x, &e);
    if (read_members(&v.f, x->m, s->map, &e) == APR_OK && apr_source_intact(s, &e) == APR_OK)
        exit_code = verify(&v);
    else
        exit_code = fail_verify(x, &e);
    free(v.f.entry);
    apr_source_close(s);
    return exit_code;
}
