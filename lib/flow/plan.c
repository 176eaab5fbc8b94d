#include "flow/plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/emit.h"
#include "base/table.h"
#include "files/source.h"
#include "model/format.h"
#include "model/model.h"
#include "ui/report.h"
#include "values/dtype.h"

#define PAGE       4096u
#define WORTH      65536u /* bytes of a tensor for which it is worth where it lies */
#define MOST_FILES 99999u /* five digits */

void apr_plan_end(struct apr_plan *p)
{
    for (size_t i = 0; i < p->nfile; i++)
        free((void *)(uintptr_t)p->file[i].header.at);
    free((void *)(uintptr_t)p->index.text.at);
    free(p->file);
    free(p->tensor);
    apr_table_free(&p->names);
    apr_draft_end(&p->meta);
    apr_side_end(&p->side);
    apr_arena_free(&p->arena);
    *p = (struct apr_plan){ 0 };
}

/* ---- adding --------------------------------------------------------------------------------------------------------- */

/* Rows of a matrix that are no whole blocks are padded, but of a tensor that is copied they are as they were. */
static uint64_t row_of(const struct apr_planned *t)
{
    const struct apr_tensor *const from = &t->in->one;
    if (t->how == APR_COPY)
        return from->row != from->count ? from->row : 0;
    return !t->dtype->flat && t->ndim == 2 && t->dim[1] % t->dtype->block != 0 ? t->dim[1] : 0;
}

static enum apr_code refuse(const struct apr_planned *t, const char *why, struct apr_error *e)
{
    char shape[176];
    return apr_fail_tensor(e, APR_EUNSUPPORTED, APR_NOWHERE, t->name, ", %s %s, cannot be written: %s", t->dtype->name,
                           apr_spell_shape(t->dim, t->ndim, shape), why);
}

enum apr_code apr_plan_add(struct apr_plan *p, const struct apr_planned *given, struct apr_error *e)
{
    static const struct apr_input none;
    struct apr_planned t = *given;
    struct apr_tensor shape = { .dtype = t.dtype, .ndim = t.ndim };
    const char *why;
    bool fresh;
    t.in = t.in == NULL ? &none : t.in;
    shape.row = row_of(&t);
    memcpy(shape.dim, t.dim, sizeof shape.dim);
    if (!apr_tensor_measure(&shape, &t.bytes) || t.bytes > INT64_MAX)
        return apr_fail_tensor(e, APR_ELIMIT, APR_NOWHERE, t.name, ": no file holds so many elements");
    t.count = shape.count;
    t.row = shape.row;
    if (!apr_is_utf8(t.name) || memchr(t.name.at, 0, t.name.n) != NULL)
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, t.name, ": such a name is not UTF-8, or has a NUL");
    if (!p->format->rule->holds(&t, &why))
        return refuse(&t, why, e);
    if (t.how == APR_COPY && t.in->one.data.n != t.bytes)
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, t.name, ": %zu bytes are stored, %" PRIu64 " would be written", t.in->one.data.n,
                               t.bytes);
    struct apr_planned *const grown = apr_grown(p->tensor, &p->room, p->ntensor, 256, sizeof *grown);
    if (grown == NULL)
        return apr_no_memory(e);
    p->tensor = grown;
    if (apr_table_put(&p->names, t.name, &fresh) == NULL)
        return apr_no_memory(e);
    if (!fresh)
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, t.name, " would be written twice");
    p->tensor[p->ntensor++] = t;
    return APR_OK;
}

/* ---- shards --------------------------------------------------------------------------------------------------------- */

/* How many tensors from `first` on go into a file of `limit` bytes: one at least. Of those that are left, `others` are kept back. */
static size_t run_of(const struct apr_plan *p, size_t first, uint64_t limit, size_t others)
{
    uint64_t sum = 0;
    size_t n = 0;
    while (first + n < p->ntensor - others && (n == 0 || p->tensor[first + n].bytes <= limit - apr_min(sum, limit)))
        sum += p->tensor[first + n++].bytes;
    return n;
}

/* How many files that makes, at most `most` + 1 of them. */
static size_t files_of(const struct apr_plan *p, uint64_t limit, size_t most)
{
    size_t n = 0;
    for (size_t first = 0; first < p->ntensor && n <= most; n++)
        first += run_of(p, first, limit, 0);
    return n;
}

/* The least limit that makes do with n files. */
static uint64_t even_limit(const struct apr_plan *p, size_t n)
{
    uint64_t low = 0, high = 0;
    for (size_t i = 0; i < p->ntensor; i++) {
        low = p->tensor[i].bytes > low ? p->tensor[i].bytes : low;
        high += p->tensor[i].bytes;
    }
    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        if (files_of(p, middle, n) <= n)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Where each file begins when they are filled to the limit from the last one on: a file in front that ends before leaves too much. */
static void fill_from_behind(struct apr_plan *p, uint64_t limit)
{
    for (size_t i = p->nfile, end = p->ntensor; i-- > 0; end = p->file[i].first) {
        uint64_t sum = 0;
        size_t first = end;
        while (first > i && (first == end || p->tensor[first - 1].bytes <= limit - apr_min(sum, limit)))
            sum += p->tensor[--first].bytes;
        p->file[i].first = first;
    }
}

/* How many tensors from `first` on go into file i, where `left` bytes go into it and those behind it: as near to an even share of them as
 * the limit and the others, which were filled from behind, allow. */
static size_t even_run(const struct apr_plan *p, size_t i, size_t first, uint64_t limit, uint64_t left)
{
    const size_t most = run_of(p, first, limit, p->nfile - 1 - i), due = p->file[i + 1].first, least = due > first ? due - first : 1;
    const uint64_t share = left / (p->nfile - i);
    uint64_t sum = 0;
    size_t n = 0;
    while (n < most && (n < least || sum + p->tensor[first + n].bytes / 2 <= share))
        sum += p->tensor[first + n++].bytes;
    return n;
}

static enum apr_code count_files(struct apr_plan *p, uint64_t *limit, struct apr_error *e)
{
    *limit = p->shard_bytes > 0 ? p->shard_bytes : UINT64_MAX;
    p->nfile = p->shard_bytes > 0 && p->ntensor > 0 ? files_of(p, *limit, MOST_FILES) : 1;
    if (p->nshard > 1) {
        if (p->nshard > p->ntensor)
            return apr_fail(e, APR_EARG, APR_NOWHERE, "%u shards of %zu tensors: none of them may be empty", p->nshard, p->ntensor);
        *limit = even_limit(p, p->nshard);
        p->nfile = p->nshard;
    }
    if (p->nfile > MOST_FILES)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "more than %u shards", MOST_FILES);
    if (p->zstd != 0 && p->format->finish == NULL)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%s is not compressed", p->format->title);
    if (p->only > p->nfile)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "shard %u is to be written, of %zu", p->only, p->nfile);
    return APR_OK;
}

static int in_order_of_format(const void *a, const void *b, void *plan)
{
    const struct apr_plan *const p = plan;
    return p->format->rule->before(a, b);
}

/* Places behind the header. The sum of what was measured tensor by tensor may not fit. */
static enum apr_code place_tensors(struct apr_plan *p, struct apr_planned_file *f, size_t number, struct apr_error *e)
{
    const struct apr_rule *const rule = p->format->rule;
    const uint64_t align = rule->align(p);
    uint64_t end = 0;
    if (rule->before != NULL && f->n > 0)
        qsort_r(&p->tensor[f->first], f->n, sizeof *p->tensor, in_order_of_format, p);
    for (size_t i = 0; i < f->n; i++) {
        struct apr_planned *const t = &p->tensor[f->first + i];
        t->shard = (unsigned)number;
        if (!apr_round_up(end, align, &t->at) || !apr_add(t->at, t->bytes, &end) || end > INT64_MAX)
            return apr_fail_tensor(e, APR_ELIMIT, APR_NOWHERE, t->name, " would end beyond any file");
    }
    f->data = rule->padded && !apr_round_up(end, align, &end) ? INT64_MAX : end;
    f->tail = rule->tail;
    return APR_OK;
}

static enum apr_code cut(struct apr_plan *p, struct apr_error *e)
{
    uint64_t limit;
    const enum apr_code code = count_files(p, &limit, e);
    p->file = code == APR_OK ? calloc(p->nfile, sizeof *p->file) : NULL;
    if (p->file == NULL) {
        p->nfile = 0;
        return code == APR_OK ? apr_no_memory(e) : code;
    }
    uint64_t left = 0;
    for (size_t i = 0; i < p->ntensor; i++)
        left += p->tensor[i].bytes;
    if (p->nshard > 1)
        fill_from_behind(p, limit);
    for (size_t i = 0, first = 0; i < p->nfile; first += p->file[i++].n) {
        struct apr_planned_file *const f = &p->file[i];
        f->first = first;
        f->n = i + 1 == p->nfile ? p->ntensor - first : p->nshard > 1 ? even_run(p, i, first, limit, left) : run_of(p, first, limit, 0);
        for (size_t k = 0; k < f->n; k++)
            left -= p->tensor[first + k].bytes;
        APR_TRY(place_tensors(p, f, i, e));
    }
    return APR_OK;
}

/* ---- names ---------------------------------------------------------------------------------------------------------- */

/* How much of `out` stands before the numbers: all but the suffix. */
static int stem_of(const struct apr_plan *p)
{
    const size_t n = strlen(p->out), suffix = strlen(p->format->suffix);
    return (int)(n > suffix && strcmp(p->out + n - suffix, p->format->suffix) == 0 ? n - suffix : n);
}

static enum apr_code name_files(struct apr_plan *p, struct apr_error *e)
{
    const char *const suffix = p->format->suffix, *const model = !p->folder ? "" : p->adapter ? "adapter_model" : "model";
    const int stem = stem_of(p);
    if (p->nfile > 1 && strcmp(p->out, "-") == 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%zu shards do not go into standard output", p->nfile);
    for (size_t i = 0; i < p->nfile; i++) {
        struct apr_bytes path = apr_text(p->out);
        if (p->nfile > 1)
            path = apr_arena_format(&p->arena, "%.*s%s-%05zu-of-%05zu%s", stem, p->out, model, i + 1, p->nfile, suffix);
        else if (p->folder)
            path = apr_arena_format(&p->arena, "%s%s%s", p->out, model, suffix);
        if (path.at == NULL)
            return apr_no_memory(e);
        p->file[i].path = (const char *)path.at;
    }
    if (p->nfile == 1 || !p->format->config)
        return APR_OK;
    const struct apr_bytes path = apr_arena_format(&p->arena, "%.*s%s%s.index.json", stem, p->out, model, suffix);
    p->index.path = (const char *)path.at;
    return path.at == NULL ? apr_no_memory(e) : APR_OK;
}

/* ---- the index of shards -------------------------------------------------------------------------------------------- */

static void put_text(FILE *to, struct apr_bytes s)
{
    struct apr_out o = { .to = to };
    apr_out_bytes(&o, NULL, s);
}

static int by_name(const void *a, const void *b)
{
    return apr_bytes_compare((*(const struct apr_planned *const *)a)->name, (*(const struct apr_planned *const *)b)->name);
}

static const char *name_in(const char *path)
{
    const char *const slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

/* Indented by 2, tensors by name, as the hub's library writes it. */
static void put_index(FILE *to, const struct apr_plan *p, const struct apr_planned *const *order)
{
    uint64_t bytes = 0, elements = 0;
    for (size_t i = 0; i < p->ntensor; i++) {
        bytes += p->tensor[i].bytes;
        elements += p->tensor[i].count;
    }
    fprintf(to, "{\n  \"metadata\": {\n    \"total_parameters\": %" PRIu64 ",\n", elements);
    fprintf(to, "    \"total_size\": %" PRIu64 "\n  },\n  \"weight_map\": {", bytes);
    for (size_t i = 0; i < p->ntensor; i++) {
        fputs(i == 0 ? "\n    " : ",\n    ", to);
        put_text(to, order[i]->name);
        fputs(": ", to);
        put_text(to, apr_text(name_in(p->file[order[i]->shard].path)));
    }
    fputs("\n  }\n}\n", to);
}

static enum apr_code make_index(struct apr_plan *p, struct apr_error *e)
{
    struct apr_emit m = { 0 };
    const struct apr_planned **const order = malloc((p->ntensor + 1) * sizeof *order);
    enum apr_code code = order == NULL ? apr_no_memory(e) : apr_emit_begin(&m, e);
    if (code == APR_OK) {
        for (size_t i = 0; i < p->ntensor; i++)
            order[i] = &p->tensor[i];
        qsort(order, p->ntensor, sizeof *order, by_name);
        put_index(m.to, p, order);
        code = apr_emit_end(&m, &p->index.text, e);
    }
    apr_emit_drop(&m);
    free(order);
    return code;
}

/* ---- headers -------------------------------------------------------------------------------------------------------- */

/* Where the data should begin, modulo a page, so that most bytes that are copied lie in the target as they lie in the source: then they
 * can be shared. APR_NOWHERE: no tensor of a size worth it is copied. */
static uint64_t wanted_at(const struct apr_plan *p, const struct apr_planned_file *f, uint64_t vote[PAGE])
{
    uint64_t best = APR_NOWHERE;
    memset(vote, 0, PAGE * sizeof *vote);
    for (size_t i = 0; i < f->n; i++) {
        const struct apr_planned *const t = &p->tensor[f->first + i];
        const struct apr_source *const s = t->how == APR_COPY && t->bytes >= WORTH ? t->in->m->file[t->in->one.file] : NULL;
        if (s != NULL && s->stored == s->map.n)
            vote[(apr_tensor_offset(t->in->m, &t->in->one) - t->at) % PAGE] += t->bytes;
    }
    for (uint64_t i = 0; i < PAGE; i++)
        if (vote[i] > (best == APR_NOWHERE ? 0 : vote[best]))
            best = i;
    return best;
}

static enum apr_code make_headers(struct apr_plan *p, struct apr_error *e)
{
    uint64_t *const vote = malloc(PAGE * sizeof *vote);
    enum apr_code code = vote == NULL ? apr_no_memory(e) : APR_OK;
    for (size_t i = 0; code == APR_OK && i < p->nfile; i++) {
        struct apr_planned_file *const f = &p->file[i];
        code = p->format->layout(p, i, wanted_at(p, f, vote), &f->header, e);
        f->size = f->header.n + f->data + f->tail;
    }
    free(vote);
    return code;
}

enum apr_code apr_plan_place(struct apr_plan *p, struct apr_error *e)
{
    APR_TRY(cut(p, e));
    APR_TRY(name_files(p, e));
    if (p->index.path != NULL)
        APR_TRY(make_index(p, e));
    return make_headers(p, e);
}
