#include "plans.h"

#include <dirent.h>
#include <stdio.h>

#include "base/bytes.h"
#include "model/model.h"
#include "model/open.h"

const struct apr_format *format(const char *name)
{
    const struct apr_format *const *f = apr_formats;
    while (strcmp((*f)->name, name) != 0)
        f++;
    return *f;
}

/* A plan that carries every tensor as it is; keys where both sides are of one format. */
enum apr_code carry(struct apr_plan *p, const struct apr_model *m, const char *to, const char *out, struct apr_error *e)
{
    p->format = format(to);
    p->out = out;
    p->folder = out[strlen(out) - 1] == '/';
    for (size_t i = 0; m->format == p->format && i < m->meta.n; i++)
        APR_TRY(apr_draft_put(&p->meta, m->meta.entry[i].key, &m->meta.entry[i].value, e));
    for (size_t i = 0; i < m->ntensor; i++) {
        const struct apr_tensor *const t = &m->tensor[i];
        const struct apr_input in = apr_input_of(apr_kernels_for(APR_SCALAR), m, t);
        struct apr_planned one = { .name = t->name, .from = t->name, .dtype = t->dtype, .ndim = t->ndim, .how = APR_COPY,
                                   .in = apr_input_keep(&p->arena, &in) };
        if (one.in == NULL)
            return apr_no_memory(e);
        memcpy(one.dim, t->dim, sizeof one.dim);
        APR_TRY(apr_plan_add(p, &one, e));
    }
    return APR_OK;
}

enum apr_code write_plan(struct apr_plan *p, const struct apr_run *r, struct apr_error *e)
{
    bool verified;
    APR_TRY(apr_plan_place(p, e));
    APR_TRY(apr_plan_write(p, r, true, &verified, e));
    return APR_OK;
}

/* Converts a file as it is, with what the plan says already. */
enum apr_code convert_with(struct apr_plan *p, const char *from, const char *to, const char *out, const struct apr_run *r,
                           struct apr_error *e)
{
    struct apr_model *const m = test_opened(from);
    enum apr_code code = carry(p, m, to, out, e);
    if (code == APR_OK)
        code = write_plan(p, r, e);
    apr_plan_end(p);
    apr_close(m);
    return code;
}

void convert(struct apr_plan p, const char *from, const char *to, const char *out)
{
    struct apr_error e;
    if (convert_with(&p, from, to, out, test_run_with(2), &e) != APR_OK)
        fail_msg("%s to %s: %s: %s", from, out, e.file, e.text);
}

/* Two texts that fail_msg can show. */
void expect_same_file(const char *a, const char *b)
{
    struct test_bytes x = test_load(a), y = test_load(b);
    if (x.n != y.n || memcmp(x.at, y.at, x.n) != 0)
        fail_msg("%s (%zu bytes) and %s (%zu) differ", a, x.n, b, y.n);
    test_free(&x);
    test_free(&y);
}

/* The same tensors, by name, bit for bit; and nothing that our own reader finds worth a word, but what `but` begins with. */
void expect_same_model(const char *got, const char *want)
{
    struct apr_model *const a = test_opened(got), *const b = test_opened(want);
    assert_int_equal(a->ntensor, b->ntensor);
    for (size_t i = 0; i < b->ntensor; i++) {
        const struct apr_tensor *const t = &b->tensor[i], *const u = apr_model_find(a, t->name);
        if (u == NULL || u->dtype != t->dtype || u->ndim != t->ndim || memcmp(u->dim, t->dim, sizeof t->dim) != 0 ||
            u->data.n != t->data.n || memcmp(u->data.at, t->data.at, t->data.n) != 0)
            fail_msg("%s: tensor %.*s is not that of %s", got, APR_PRINTED(t->name), want);
    }
    for (size_t i = 0; i < a->nnote; i++)
        if (strcmp(a->note[i].code, "gguf.no_architecture") != 0 && strcmp(a->note[i].code, "gguf.no_quantization_version") != 0)
            fail_msg("%s: %s: %s", got, a->note[i].code, a->note[i].text);
    apr_close(a);
    apr_close(b);
}

/* How many files and folders are in a folder; those of a temporary name too. */
size_t files_in(const char *folder)
{
    size_t n = 0;
    DIR *const d = opendir(test_path(folder));
    for (const struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;)
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    if (d != NULL)
        closedir(d);
    return n;
}

/* One SafeTensors tensor of that dtype, [rows, cols], and its bytes: a sequence of random numbers. */
const char *one_tensor(const char *name, const char *dtype, unsigned width, uint64_t rows, uint64_t cols, const void *data)
{
    struct test_bytes b = { 0 };
    char json[160];
    const uint64_t n = rows * cols * width;
    snprintf(json, sizeof json, "{\"w\":{\"dtype\":\"%s\",\"shape\":[%llu,%llu],\"data_offsets\":[0,%llu]}}", dtype,
             (unsigned long long)rows,
             (unsigned long long)cols, (unsigned long long)n);
    test_integer(&b, strlen(json), 8);
    test_text(&b, json);
    test_put(&b, data, n);
    const char *const path = test_file(name, b.at, b.n);
    test_free(&b);
    return path;
}

unsigned char *random_bytes(size_t n)
{
    unsigned char *const at = malloc(n);
    for (size_t i = 0; i < n; i++)
        at[i] = (unsigned char)test_random(256);
    return at;
}

/* 4.8 MB of F32 that are finite, in pieces. */
const char *big(const char *name)
{
    float *const x = malloc(1200 * 1000 * sizeof *x);
    for (size_t i = 0; i < 1200 * 1000; i++)
        x[i] = (float)test_random(2000) / 7 - 100;
    const char *const path = one_tensor(name, "F32", 4, 1200, 1000, x);
    free(x);
    return path;
}
