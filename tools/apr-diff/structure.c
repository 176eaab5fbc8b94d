#include <stdlib.h>
#include <string.h>

#include "diff.h"
#include "base/memstream.h"
#include "files/remote.h"
#include "files/source.h"
#include "model/format.h"
#include "model/meta.h"
#include "model/model.h"

enum category { CATEGORY_FORMAT, CATEGORY_METADATA, CATEGORY_TENSOR, CATEGORY_QUANTIZATION, CATEGORY_SIZE, NCATEGORY };
static const char *const category_words[NCATEGORY] = { "format", "metadata", "tensor", "quantization", "size" };
static const char *const type_words[NCATEGORY] = { "format", "data", "data", "dtype", "size" };

struct structure {
    const struct options *o;
    struct apr_out        json;
    struct apr_report     report;
    const struct apr_model *a, *b;
    uint64_t              count[NCATEGORY];
    bool                  out_of_memory;
};

/* One difference; the texts are complete. */
static void differ(struct structure *s, enum category category, const char *prefix, struct apr_bytes name, const char *suffix,
                   const char *a, const char *b)
{
    char *field = NULL;
    size_t n = 0;
    FILE *to = apr_memstream(&field, &n);
    s->count[category]++;
    if (to != NULL) {
        fputs(prefix, to);
        fwrite(name.at, 1, name.n, to);
        fputs(suffix, to);
    }
    s->out_of_memory |= to == NULL || !close_text(to, &field);
    const struct apr_bytes whole = { (const unsigned char *)field, n };
    if (s->o->cli.json) {
        apr_report_row(&s->report);
        apr_out_bytes(&s->json, "field", whole);
        apr_out_text(&s->json, "file1_value", a);
        apr_out_text(&s->json, "file2_value", b);
        apr_out_text(&s->json, "category", category_words[category]);
        apr_out_text(&s->json, "type", type_words[category]);
        apr_report_row_end(&s->report);
    } else {
        apr_print_bytes(stdout, whole);
        fputs(": ", stdout);
        apr_print_bytes(stdout, apr_text(a));
        fputs(" against ", stdout);
        apr_print_bytes(stdout, apr_text(b));
        putchar('\n');
    }
    free(field);
}

static void differ_text(struct structure *s, enum category category, const char *field, const char *a, const char *b)
{
    if (strcmp(a, b) != 0)
        differ(s, category, field, apr_text(""), "", a, b);
}

static void differ_count(struct structure *s, enum category category, const char *field, uint64_t a, uint64_t b)
{
    char x[24], y[24];
    snprintf(x, sizeof x, "%llu", (unsigned long long)a);
    snprintf(y, sizeof y, "%llu", (unsigned long long)b);
    differ_text(s, category, field, x, y);
}

/* ---- what a model says of itself ------------------------------------------------------------------------------------ */

static uint64_t file_size(const struct apr_model *m)
{
    uint64_t n = 0;
    for (size_t i = 0; i < m->nfile; i++)
        n += m->file[i]->stored;
    return n;
}

static uint64_t parameters(const struct apr_model *m)
{
    uint64_t n = 0;
    for (size_t i = 0; i < m->ntensor; i++)
        n += m->tensor[i].count;
    return n;
}

static void architecture(const struct apr_model *m, char *out, size_t room)
{
    static const char *const keys[] = { "general.architecture", "architecture", "model_type" };
    struct apr_bytes name = { 0 };
    for (size_t i = 0; name.n == 0 && i < APR_LENGTH(keys); i++)
        name = apr_meta_string(&m->meta, keys[i]);
    snprintf(out, room, "%.*s", name.n == 0 ? 7 : (int)apr_min(name.n, room - 1), name.n == 0 ? "unknown" : (const char *)name.at);
}

/* The dtype of most weights, leaving out biases and norms. */
static const char *quantization(const struct apr_model *m)
{
    uint64_t count[APR_NDTYPES] = { 0 };
    size_t best = 0;
    for (size_t i = 0; i < m->ntensor; i++) {
        const struct apr_tensor *t = &m->tensor[i];
        if (!apr_bytes_have(t->name, "bias") && !apr_bytes_have(t->name, "norm") && !apr_bytes_have(t->name, "ln_"))
            count[t->dtype - apr_dtypes] += t->count;
    }
    for (size_t i = 1; i < APR_NDTYPES; i++)
        if (count[i] > count[best])
            best = i;
    return count[best] == 0 ? "unknown" : apr_dtypes[best].name;
}

/* ---- metadata ------------------------------------------------------------------------------------------------------- */

#define VALUE_BYTES 50

/* A value in words, cut at 50 bytes (between characters) where that shortens it; the caller frees it. */
static char *value_text(const struct apr_value *v)
{
    char *text = NULL;
    size_t n = 0;
    if (v == NULL)
        return strdup("(missing)");
    FILE *to = apr_memstream(&text, &n);
    if (to == NULL)
        return NULL;
    if (v->type == APR_META_STRING) {
        fwrite(v->text.at, 1, v->text.n, to);
    } else {
        struct apr_out j = { .to = to };
        apr_out_value(&j, NULL, v, 16);
    }
    if (!close_text(to, &text)) {
        free(text);
        return NULL;
    }
    if (n > VALUE_BYTES + 3) {
        size_t cut = VALUE_BYTES;
        while (cut > 0 && ((unsigned char)text[cut] & 0xC0) == 0x80)
            cut--;
        memcpy(text + cut, "...", 4);
    }
    return text;
}

static void metadata_difference(struct structure *s, struct apr_bytes key, const struct apr_value *a, const struct apr_value *b)
{
    char *x = value_text(a), *y = value_text(b);
    s->out_of_memory |= x == NULL || y == NULL;
    differ(s, CATEGORY_METADATA, "metadata.", key, "", x == NULL ? "" : x, y == NULL ? "" : y);
    free(x);
    free(y);
}

static enum apr_code compare_keys(struct structure *s, const struct apr_model *a, const struct apr_model *b, struct apr_error *e)
{
    size_t n;
    struct key_pair *pair = pair_keys(&a->meta, &b->meta, &n);
    if (pair == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < n; i++)
        if (pair[i].a == NULL || pair[i].b == NULL || !apr_value_equal(pair[i].a, pair[i].b))
            metadata_difference(s, pair[i].key, pair[i].a, pair[i].b);
    free(pair);
    return APR_OK;
}

/* ---- tensors -------------------------------------------------------------------------------------------------------- */

static void one_sided(struct structure *s, const struct apr_tensor *t, bool in_a)
{
    char text[256], shape[176];
    snprintf(text, sizeof text, "%s %s", apr_spell_shape(t->dim, t->ndim, shape), t->dtype->name);
    differ(s, CATEGORY_TENSOR, "tensor.", t->name, "", in_a ? text : "(missing)", in_a ? "(missing)" : text);
}

static void compare_tensors(struct structure *s, const struct pair *p)
{
    char shape_a[176], shape_b[400];
    apr_spell_shape(p->a->dim, p->a->ndim, shape_a);
    apr_spell_shape(p->b->dim, p->b->ndim, shape_b);
    const bool other_dtype = p->a->dtype != p->b->dtype;
    if (strcmp(shape_a, shape_b) != 0 && p->view == NULL) {
        if (!apr_bytes_equal(p->a->name, p->b->name)) {
            const size_t n = strlen(shape_b);
            struct apr_quoted name;
            apr_quote(&name, p->b->name);
            snprintf(shape_b + n, sizeof shape_b - n, " (mapped: %.*s)", (int)strlen(name.text) - 2, name.text + 1);
        }
        differ(s, other_dtype ? CATEGORY_QUANTIZATION : CATEGORY_TENSOR, "tensor.", p->a->name, ".shape", shape_a, shape_b);
    }
    if (other_dtype)
        differ(s, CATEGORY_QUANTIZATION, "tensor.", p->a->name, ".dtype", p->a->dtype->name, p->b->dtype->name);
}

static enum apr_code compare_all(struct structure *s, const struct apr_model *a, const struct apr_model *b, const struct match *m,
                                 struct apr_error *e)
{
    char x[64], y[64];
    architecture(a, x, sizeof x);
    architecture(b, y, sizeof y);
    differ_text(s, CATEGORY_FORMAT, "format", a->format->title, b->format->title);
    differ_count(s, CATEGORY_SIZE, "file_size", file_size(a), file_size(b));
    differ_count(s, CATEGORY_SIZE, "total_params", parameters(a), parameters(b));
    differ_text(s, CATEGORY_METADATA, "architecture", x, y);
    differ_text(s, CATEGORY_QUANTIZATION, "quantization", quantization(a), quantization(b));
    differ_count(s, CATEGORY_TENSOR, "tensor_count", a->ntensor, b->ntensor);
    APR_TRY(compare_keys(s, a, b, e));
    for (size_t i = 0; i < m->npair; i++)
        compare_tensors(s, &m->pair[i]);
    for (size_t i = 0; i < m->nonly_a; i++)
        one_sided(s, apr_model_find(a, m->only_a[i]), true);
    for (size_t i = 0; i < m->nonly_b; i++)
        one_sided(s, apr_model_find(b, m->only_b[i]), false);
    return s->out_of_memory ? apr_no_memory(e) : APR_OK;
}

static void write_subject(struct apr_out *j, const void *about)
{
    const struct structure *s = about;
    apr_out_text(j, "file1", s->o->cli.operand[0]);
    apr_out_text(j, "file2", s->o->cli.operand[1]);
    apr_out_text(j, "format1", s->a->format->title);
    apr_out_text(j, "format2", s->b->format->title);
}

static void write_totals(struct structure *s, uint64_t total)
{
    struct apr_out *j = &s->json;
    apr_out_bool(j, "identical", total == 0);
    apr_out_count(j, "difference_count", total);
    apr_out_count(j, "structural_diffs", s->count[CATEGORY_FORMAT] + s->count[CATEGORY_METADATA] + s->count[CATEGORY_TENSOR]);
    apr_out_open(j, "category_counts", '{');
    for (unsigned i = 0; i < NCATEGORY; i++)
        apr_out_count(j, category_words[i], s->count[i]);
    apr_out_close(j, '}');
}

int diff_structure(struct options *o, const struct apr_model *a, const struct apr_model *b)
{
    struct structure s = { .o = o, .json.to = stdout, .a = a, .b = b };
    struct match m;
    struct apr_error e;
    uint64_t total = 0;
    enum apr_code code = match_models(&m, o, &(struct models){ a, b, false }, &e);
    if (code != APR_OK) {
        apr_error_in(&e, o->cli.operand[0]);
        return fail_early(o, "apr-structure/1", &e);
    }
    s.report = (struct apr_report){ .out = &s.json, .schema = "apr-structure/1", .rows = "differences", .subject = write_subject, .about = &s,
                                    .lines = o->jsonl };
    if (o->cli.json)
        apr_report_begin(&s.report);
    code = compare_all(&s, a, b, &m, &e);
    if (code == APR_OK)
        code = models_unchanged(&(struct models){ a, b }, &e);
    for (unsigned i = 0; i < NCATEGORY; i++)
        total += s.count[i];
    if (o->cli.json) {
        apr_report_sum(&s.report);
        write_totals(&s, total);
        if (o->cli.verbose)
            apr_out_count(&s.json, "fetched_bytes", apr_remote_fetched(o->cli.run.remote));
        apr_report_end(&s.report, code == APR_OK ? NULL : &e);
    } else if (code == APR_OK && total == 0) {
        puts("the same structure");
    }
    free_match(&m);
    if (code != APR_OK)
        return apr_cli_fail(&o->cli, &e);
    return total == 0 ? APR_EXIT_YES : APR_EXIT_NO;
}
