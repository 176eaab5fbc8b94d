#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "diff.h"
#include "files/source.h"
#include "model/json.h"

/* The JSON of one --partition run. Strings are borrowed from `top`, rows stay in the text. */
struct part {
    struct apr_source *s;
    json_t            *top;      /* all keys but "results" */
    struct apr_bytes   results, metadata;
    uint64_t           results_at, number, of;
};

static enum apr_code not_a_part(const struct part *p, const char *why, struct apr_error *e)
{
    apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "is no JSON of apr-diff --partition: %s", why);
    apr_error_in(e, p->s->path);
    return APR_ECORRUPT;
}

static uint64_t count_at(const json_t *object, const char *key)
{
    const json_int_t n = json_integer_value(json_object_get(object, key));
    return n < 0 ? 0 : (uint64_t)n;
}

static double real_at(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static const char *text_at(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s == NULL ? "" : s;
}

static struct apr_bytes name_at(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    return (struct apr_bytes){ (const unsigned char *)json_string_value(v), json_string_length(v) };
}

/* Keys that all parts of a run have, with the same value. */
static const char *const shared[] = { "model_a", "model_b", "format_a", "format_b", "threshold", "only_in_a", "only_in_b", "metadata" };

static enum apr_code read_part(struct part *p, const char *path, const struct apr_run *r, struct apr_error *e)
{
    struct apr_walk w;
    struct apr_item item;
    bool more = true;
    APR_TRY(apr_source_open(&p->s, path, r, e));
    APR_TRY(apr_json_load(&p->top, apr_text("{}"), 0, e));
    APR_TRY(apr_walk_in(&w, p->s->map, 0, '{', e));
    for (;;) {
        json_t *key, *value;
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            break;
        if (apr_bytes_equal(item.key, apr_text("\"results\""))) {
            p->results = item.value;
            p->results_at = item.value_at;
            continue;
        }
        if (apr_bytes_equal(item.key, apr_text("\"metadata\"")))
            p->metadata = item.value;
        APR_TRY(apr_json_load(&key, item.key, item.key_at, e));
        enum apr_code code = apr_json_load(&value, item.value, item.value_at, e);
        if (code == APR_OK && json_object_set_new(p->top, json_string_value(key), value) != 0)
            code = apr_no_memory(e);
        json_decref(key);
        APR_TRY(code);
    }
    APR_TRY(apr_walk_end(&w, e));
    const json_t *partition = json_object_get(p->top, "partition");
    p->number = count_at(partition, "number");
    p->of = count_at(partition, "of");
    if (strcmp(text_at(p->top, "schema"), "apr-diff/1") != 0)
        return not_a_part(p, "its schema is not apr-diff/1", e);
    if (json_object_get(p->top, "error") != NULL)
        return not_a_part(p, "that run failed", e);
    if (p->number == 0 || p->number > p->of)
        return not_a_part(p, "it has no partition number", e);
    if (p->results.n == 0)
        return not_a_part(p, "it has no results", e);
    for (size_t k = 0; k < APR_LENGTH(shared); k++)
        if (json_object_get(p->top, shared[k]) == NULL)
            return not_a_part(p, "a key of the summary is missing", e);
    return APR_OK;
}

static int by_number(const void *a, const void *b)
{
    const struct part *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

/* Every part once, all of one comparison. */
static enum apr_code check_parts(const struct part *part, size_t n, struct apr_error *e)
{
    for (size_t i = 0; i < n; i++) {
        if (part[i].of != n || part[i].number != i + 1) {
            apr_fail(e, APR_EARG, APR_NOWHERE, "is part %llu of %llu, but %zu parts were given and part %zu of them should stand here",
                     (unsigned long long)part[i].number, (unsigned long long)part[i].of, n, i + 1);
            apr_error_in(e, part[i].s->path);
            return APR_EARG;
        }
        for (size_t k = 0; k < APR_LENGTH(shared); k++)
            if (!json_equal(json_object_get(part[i].top, shared[k]), json_object_get(part[0].top, shared[k]))) {
                apr_fail(e, APR_EARG, APR_NOWHERE, "its %s is not that of %s: the parts are of different runs", shared[k], part[0].s->path);
                apr_error_in(e, part[i].s->path);
                return APR_EARG;
            }
    }
    return APR_OK;
}

/* ---- rows ----------------------------------------------------------------------------------------------------------- */

static void read_shape(const json_t *list, uint64_t *dim, unsigned *ndim)
{
    *ndim = (unsigned)apr_min(json_array_size(list), APR_MAX_DIMS);
    for (unsigned i = 0; i < *ndim; i++)
        dim[i] = (uint64_t)json_integer_value(json_array_get(list, i));
}

static unsigned word_index(const char *word, const char *const *words, unsigned n)
{
    unsigned i = 0;
    while (i + 1 < n && strcmp(word, words[i]) != 0)
        i++;
    return i;
}

/* A row as it was; what it borrows lives as long as json and the two arrays. */
static void read_row(struct row *r, const json_t *json, struct worst *top, struct worst_row *rows)
{
    const json_t *list_top = json_object_get(json, "top"), *list_rows = json_object_get(json, "rows");
    const double max = real_at(json, "max_diff");
    *r = (struct row){
        .name = name_at(json, "name"), .name_b = name_at(json, "name_b"), .dtype_a = text_at(json, "dtype_a"),
        .dtype_b = text_at(json, "dtype_b"), .error = json_string_value(json_object_get(json, "error")), .transform = json_string_value(json_object_get(json, "transform")),
                       .problem = json_string_value(json_object_get(json, "problem")),
        .count = count_at(json, "element_count"), .cosine = real_at(json, "cosine_similarity"),
        .cosine_linear = real_at(json, "cosine_linear"), .cosine_transposed = real_at(json, "cosine_transposed"),
        .rmse = real_at(json, "rmse"), .mean = real_at(json, "mean_diff"), .sqnr = real_at(json, "sqnr_db"),
        .pass = json_is_true(json_object_get(json, "pass")), .ignored = json_is_true(json_object_get(json, "ignored")),
        .top = top, .ntop = json_array_size(list_top), .rows = rows, .nrows = json_array_size(list_rows),
    };
    r->layout = (enum layout)word_index(text_at(json, "layout"), layout_words, LAYOUT_INCOMPATIBLE + 1);
    r->status = (enum status)word_index(text_at(json, "status"), status_words, NSTATUS);
    r->sums = (struct sums){ .identical = count_at(json, "identical_count"), .small = count_at(json, "small_diff_count"),
                             .medium = count_at(json, "medium_diff_count"), .large = count_at(json, "large_diff_count"),
                             .nonfinite = count_at(json, "nonfinite_mismatch"), .max = isnan(max) ? INFINITY : max,
                             .max_at = count_at(json, "max_diff_index") };
    read_shape(json_object_get(json, "shape_a"), r->dim_a, &r->ndim_a);
    read_shape(json_object_get(json, "shape_b"), r->dim_b, &r->ndim_b);
    for (size_t i = 0; i < r->ntop; i++) {
        const json_t *x = json_array_get(list_top, i);
        top[i] = (struct worst){ count_at(x, "index"), real_at(x, "a"), real_at(x, "b"), real_at(x, "abs_diff") };
    }
    for (size_t i = 0; i < r->nrows; i++) {
        const json_t *x = json_array_get(list_rows, i);
        rows[i] = (struct worst_row){ count_at(x, "row"), count_at(x, "nonfinite_mismatch"), real_at(x, "rmse"), real_at(x, "max_diff"),
                                      real_at(x, "cosine_similarity") };
    }
}

/* ---- the whole ------------------------------------------------------------------------------------------------------ */

/* The text of a row's "top", which is carried over as it is. */
static enum apr_code find_top(const struct apr_item *row, struct apr_bytes *top, struct apr_error *e)
{
    struct apr_walk w;
    struct apr_item item;
    bool more = true;
    APR_TRY(apr_walk_in(&w, row->value, row->value_at, '{', e));
    for (;;) {
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            return APR_OK;
        if (apr_bytes_equal(item.key, apr_text("\"top\"")))
            *top = item.value;
    }
}

static enum apr_code report_rows(struct output *out, struct options *o, const struct part *p, struct apr_error *e)
{
    struct apr_walk w;
    struct apr_item item;
    bool more;
    APR_TRY(apr_walk_in(&w, p->results, p->results_at, '[', e));
    for (;;) {
        json_t *json;
        struct row row;
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            return APR_OK;
        APR_TRY(apr_json_load(&json, item.value, item.value_at, e));
        struct worst *top = malloc((json_array_size(json_object_get(json, "top")) + 1) * sizeof *top);
        struct worst_row *rows = malloc((json_array_size(json_object_get(json, "rows")) + 1) * sizeof *rows);
        enum apr_code code = top == NULL || rows == NULL ? apr_no_memory(e) : APR_OK;
        if (code == APR_OK) {
            read_row(&row, json, top, rows);
            code = find_top(&item, &row.top_raw, e);
        }
        if (code == APR_OK) {
            o->top = json_object_get(json, "top") != NULL;
            o->rows = json_object_get(json, "rows") != NULL;
            code = report_row(out, &row, e);
        }
        free(top);
        free(rows);
        json_decref(json);
        APR_TRY(code);
    }
}

/* The names at `key`, borrowed; the caller frees the array. */
static struct apr_bytes *names_at(const json_t *object, const char *key, size_t *n)
{
    const json_t *list = json_object_get(object, key);
    struct apr_bytes *name = malloc((json_array_size(list) + 1) * sizeof *name);
    *n = json_array_size(list);
    for (size_t i = 0; name != NULL && i < *n; i++) {
        const json_t *v = json_array_get(list, i);
        name[i] = (struct apr_bytes){ (const unsigned char *)json_string_value(v), json_string_length(v) };
    }
    return name;
}

static int merge_all(struct options *o, struct part *part, size_t n)
{
    struct apr_error e;
    struct output out;
    struct match m = { 0 };
    int exit_code;
    enum apr_code code = APR_OK;
    for (size_t i = 0; code == APR_OK && i < n; i++) {
        code = read_part(&part[i], o->cli.operand[i], &o->cli.run, &e);
        if (code != APR_OK)
            apr_error_in(&e, o->cli.operand[i]);
    }
    if (code == APR_OK) {
        qsort(part, n, sizeof *part, by_number);
        code = check_parts(part, n, &e);
    }
    if (code == APR_OK) {
        m.only_a = names_at(part[0].top, "only_in_a", &m.nonly_a);
        m.only_b = names_at(part[0].top, "only_in_b", &m.nonly_b);
        code = m.only_a == NULL || m.only_b == NULL ? apr_no_memory(&e) : APR_OK;
    }
    if (code != APR_OK) {
        exit_code = fail_early(o, "apr-diff/1", &e);
    } else {
        const json_t *top = part[0].top;
        const struct subject subject = { text_at(top, "model_a"), text_at(top, "model_b"), text_at(top, "format_a"),
                                         text_at(top, "format_b"),
                                         json_is_true(json_object_get(json_object_get(top, "partition"), "unmatched_fails")) };
        o->bounds.cosine = real_at(top, "threshold");
        code = begin_report(&out, o, &subject, &e);
        for (size_t i = 0; code == APR_OK && i < n; i++)
            code = report_rows(&out, o, &part[i], &e);
        out.sum.below = 0;
        for (size_t i = 0; i < n; i++)
            out.sum.below += count_at(part[i].top, "below_threshold_count");
        exit_code = code == APR_OK ? end_report(&out, &m, part[0].metadata) : fail_report(&out, &e);
    }
    free_match(&m);
    return exit_code;
}

int merge_parts(struct options *o)
{
    const size_t n = o->cli.noperand;
    struct part *part = calloc(n, sizeof *part);
    struct apr_error e;
    if (part == NULL) {
        apr_no_memory(&e);
        return fail_early(o, "apr-diff/1", &e);
    }
    const int exit_code = merge_all(o, part, n);
    for (size_t i = 0; i < n; i++) {
        json_decref(part[i].top);
        apr_source_close(part[i].s);
    }
    free(part);
    return exit_code;
}
