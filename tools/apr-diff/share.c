#include "share.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "files/source.h"

static const char *const large[] = { "results", NULL };
static const struct apr_share_kind kind = { "apr-diff", "apr-diff/1", large };

/* ---- what keys must hold -------------------------------------------------------------------------------------------- */

static const char *const side_words[] = { "a", "b" };

const char *share_excuse(const json_t *word)
{
    unsigned n = 0;
    while (excuse_words[n] != NULL)
        n++;
    return excuse_words[apr_word_index(word, excuse_words, n)];
}

static const struct apr_member row_keys[] = {
    { "name", APR_MEMBER_TEXT }, { "name_b", APR_MEMBER_TEXT }, { "shape_a", APR_MEMBER_SHAPE },
    { "shape_b", APR_MEMBER_SHAPE }, { "dtype_a", APR_MEMBER_TEXT }, { "dtype_b", APR_MEMBER_TEXT },
    { "layout", APR_MEMBER_WORD, false, false, layout_words, LAYOUT_INCOMPATIBLE + 1 }, { "transform", APR_MEMBER_TEXT, true }, { "element_count", APR_MEMBER_COUNT },
    { "identical_count", APR_MEMBER_COUNT }, { "small_diff_count", APR_MEMBER_COUNT },
    { "medium_diff_count", APR_MEMBER_COUNT }, { "large_diff_count", APR_MEMBER_COUNT },
    { "nonfinite_mismatch", APR_MEMBER_COUNT }, { "mean_diff", APR_MEMBER_REAL }, { "max_diff", APR_MEMBER_REAL },
    { "max_diff_index", APR_MEMBER_COUNT, true }, { "rmse", APR_MEMBER_REAL }, { "cosine_similarity", APR_MEMBER_REAL },
    { "sqnr_db", APR_MEMBER_REAL }, { "cosine_linear", APR_MEMBER_REAL }, { "cosine_transposed", APR_MEMBER_REAL },
    { "status", APR_MEMBER_WORD, false, false, status_words, NSTATUS }, { "pass", APR_MEMBER_BOOL }, { "ignored", APR_MEMBER_BOOL, false, true },
    { "error", APR_MEMBER_TEXT, false, true }, { "problem", APR_MEMBER_TEXT, false, true }, { "top", APR_MEMBER_LIST, false, true },
    { "rows", APR_MEMBER_LIST, false, true }, { "norm_ratio", APR_MEMBER_REAL, false, true }, { "rows_left_out", APR_MEMBER_COUNT, false, true },
    { "parts_a", APR_MEMBER_NAMES, false, true }, { "parts_b", APR_MEMBER_NAMES, false, true }, { "failed", APR_MEMBER_WORDS, false, true, failure_words, NFAILURES },
};
static const struct apr_member top_keys[] = {
    { "index", APR_MEMBER_COUNT }, { "a", APR_MEMBER_REAL }, { "b", APR_MEMBER_REAL },
    { "abs_diff", APR_MEMBER_REAL }, { "block_a", APR_MEMBER_OBJECT, false, true }, { "block_b", APR_MEMBER_OBJECT, false, true },
};
static const struct apr_member worst_row_keys[] = {
    { "row", APR_MEMBER_COUNT }, { "rmse", APR_MEMBER_REAL }, { "max_diff", APR_MEMBER_REAL },
    { "cosine_similarity", APR_MEMBER_REAL }, { "nonfinite_mismatch", APR_MEMBER_COUNT },
};
static const struct apr_member summary_keys[] = {
    { "schema", APR_MEMBER_TEXT }, { "model_a", APR_MEMBER_TEXT }, { "model_b", APR_MEMBER_TEXT },
    { "format_a", APR_MEMBER_TEXT }, { "format_b", APR_MEMBER_TEXT }, { "only_in_a", APR_MEMBER_NAMES },
    { "only_in_b", APR_MEMBER_NAMES }, { "tensors_compared", APR_MEMBER_COUNT },
    { "identical_count", APR_MEMBER_COUNT }, { "nearly_identical_count", APR_MEMBER_COUNT },
    { "small_count", APR_MEMBER_COUNT }, { "medium_count", APR_MEMBER_COUNT }, { "large_count", APR_MEMBER_COUNT },
    { "critical_count", APR_MEMBER_COUNT }, { "transposed_count", APR_MEMBER_COUNT },
    { "min_cosine", APR_MEMBER_REAL }, { "threshold", APR_MEMBER_REAL }, { "below_threshold_count", APR_MEMBER_COUNT },
    { "verdict", APR_MEMBER_TEXT }, { "metadata", APR_MEMBER_OBJECT }, { "excused", APR_MEMBER_LIST, false, true },
    { "note", APR_MEMBER_TEXT, false, true }, { "partition", APR_MEMBER_OBJECT },
    { "config", APR_MEMBER_LIST },
};
static const struct apr_member excuse_keys[] = { { "side", APR_MEMBER_WORD, false, false, side_words, 2 }, { "name", APR_MEMBER_TEXT },
                                          { "reason", APR_MEMBER_TEXT } };
static const struct apr_member partition_keys[] = {
    { "unmatched_fails", APR_MEMBER_BOOL },
};
static const struct apr_member metadata_keys[] = {
    { "differences", APR_MEMBER_LIST, false, true }, { "only_in_a", APR_MEMBER_NAMES, false, true }, { "only_in_b", APR_MEMBER_NAMES, false, true },
    { "identical_count", APR_MEMBER_COUNT, false, true },
};
static const struct apr_member difference_keys[] = {
    { "key", APR_MEMBER_TEXT }, { "type_a", APR_MEMBER_TEXT }, { "type_b", APR_MEMBER_TEXT },
    { "first_difference", APR_MEMBER_COUNT, false, true }, { "difference_count", APR_MEMBER_COUNT, false, true },
    { "length_a", APR_MEMBER_COUNT, false, true }, { "length_b", APR_MEMBER_COUNT, false, true },
};

static const struct apr_member config_keys[] = {
    { "name", APR_MEMBER_TEXT }, { "file_a", APR_MEMBER_TEXT, true }, { "key_a", APR_MEMBER_TEXT, true },
    { "file_b", APR_MEMBER_TEXT, true }, { "key_b", APR_MEMBER_TEXT, true },
};

/* ---- rows ----------------------------------------------------------------------------------------------------------- */

/* What a row borrows. */
struct room {
    struct worst        *top;
    struct worst_blocks *blocks;
    struct worst_row    *rows;
};

static void read_shape(const json_t *list, uint64_t *dim, unsigned *ndim)
{
    *ndim = (unsigned)json_array_size(list);
    for (unsigned i = 0; i < *ndim; i++)
        dim[i] = (uint64_t)json_integer_value(json_array_get(list, i));
}

static unsigned read_failures(const json_t *list)
{
    unsigned failed = 0;
    for (size_t i = 0; i < json_array_size(list); i++)
        failed |= 1u << apr_word_index(json_array_get(list, i), failure_words, NFAILURES);
    return failed;
}

/* A row that has been checked, as it was, but for what --top and --rows gave it. */
static void read_numbers(struct row *r, const json_t *json)
{
    const double max = apr_member_real(json, "max_diff");
    *r = (struct row){
        .name = apr_member_bytes(json, "name"), .name_b = apr_member_bytes(json, "name_b"), .dtype_a = apr_member_text(json, "dtype_a"),
        .dtype_b = apr_member_text(json, "dtype_b"), .transform = apr_member_text(json, "transform"), .error = apr_member_text(json, "error"),
        .problem = apr_member_text(json, "problem"), .count = apr_member_count(json, "element_count"), .cosine = apr_member_real(json, "cosine_similarity"),
        .cosine_linear = apr_member_real(json, "cosine_linear"), .cosine_transposed = apr_member_real(json, "cosine_transposed"),
        .rmse = apr_member_real(json, "rmse"), .mean = apr_member_real(json, "mean_diff"), .sqnr = apr_member_real(json, "sqnr_db"),
        .left_out = apr_member_count(json, "rows_left_out"), .norm_ratio = apr_member_real(json, "norm_ratio"), .failed = read_failures(json_object_get(json, "failed")),
        .pass = json_is_true(json_object_get(json, "pass")), .ignored = json_is_true(json_object_get(json, "ignored")),
    };
    r->layout = (enum layout)apr_word_index(json_object_get(json, "layout"), layout_words, LAYOUT_INCOMPATIBLE + 1);
    r->status = (enum status)apr_word_index(json_object_get(json, "status"), status_words, NSTATUS);
    r->sums = (struct sums){ .identical = apr_member_count(json, "identical_count"), .small = apr_member_count(json, "small_diff_count"),
                             .medium = apr_member_count(json, "medium_diff_count"), .large = apr_member_count(json, "large_diff_count"),
                             .nonfinite = apr_member_count(json, "nonfinite_mismatch"), .max = isnan(max) ? INFINITY : max,
                             .max_at = apr_member_count(json, "max_diff_index") };
    read_shape(json_object_get(json, "shape_a"), r->dim_a, &r->ndim_a);
    read_shape(json_object_get(json, "shape_b"), r->dim_b, &r->ndim_b);
}

/* A fault of what the row holds, at its first byte: "row N, TENSOR: WHY KEY". */
static enum apr_code wrong_row(const struct apr_item *item, uint64_t number, const json_t *json, const char *why, const char *key,
                               struct apr_error *e)
{
    const char *name = json_is_string(json_object_get(json, "name")) ? apr_member_text(json, "name") : "without a name";
    return apr_fail(e, APR_ECORRUPT, item->value_at, "row %llu, %s: %s %s", (unsigned long long)number, APR_QUOTED(apr_text(name)), why, key);
}

/* Every pair of values is counted once, in one of five counts. */
static bool counts_add_up(const struct row *r)
{
    const uint64_t counted[] = { r->sums.identical, r->sums.small, r->sums.medium, r->sums.large, r->sums.nonfinite };
    uint64_t sum = 0;
    for (size_t i = 0; i < APR_LENGTH(counted); i++)
        if (!apr_add(sum, counted[i], &sum))
            return false;
    return sum == (was_compared(r) ? r->count : 0);
}

static enum apr_code check_row(const struct apr_item *item, uint64_t number, const json_t *json, struct row *r, struct apr_error *e)
{
    const char *key = apr_members_wrong(json, row_keys, APR_LENGTH(row_keys));
    const struct {
        const char       *name;
        const struct apr_member *key;
        size_t            n;
    } lists[] = { { "top", top_keys, APR_LENGTH(top_keys) }, { "rows", worst_row_keys, APR_LENGTH(worst_row_keys) } };
    if (!json_is_object(json) || key != NULL)
        return wrong_row(item, number, json, "there is none, or none of its kind:", key == NULL ? "object" : key, e);
    for (size_t l = 0; l < APR_LENGTH(lists); l++) {
        key = apr_members_wrong_in(json_object_get(json, lists[l].name), lists[l].key, lists[l].n);
        if (key != NULL)
            return wrong_row(item, number, json, lists[l].name, key, e);
    }
    read_numbers(r, json);
    if (json_object_get(json, "failed") != NULL && r->pass != (r->failed == 0))
        return wrong_row(item, number, json, "it does not bear out its", "pass", e);
    return counts_add_up(r) ? APR_OK : wrong_row(item, number, json, "its counts do not add up to", "element_count", e);
}

static enum apr_code read_top(struct row *r, const json_t *list, const struct apr_item *row, struct room *room, struct apr_error *e)
{
    struct apr_item text, element, block;
    struct apr_walk w;
    bool more = true;
    r->ntop = json_array_size(list);
    APR_TRY(apr_member_find(row, "parts_a", &text, e));
    r->parts_raw[0] = text.value;
    APR_TRY(apr_member_find(row, "parts_b", &text, e));
    r->parts_raw[1] = text.value;
    r->top = room->top = malloc((r->ntop + 1) * sizeof *room->top);
    r->blocks = room->blocks = malloc((r->ntop + 1) * sizeof *room->blocks);
    if (room->top == NULL || room->blocks == NULL)
        return apr_no_memory(e);
    if (list == NULL)
        return APR_OK;
    APR_TRY(apr_member_find(row, "top", &text, e));
    r->top_raw = text.value;
    APR_TRY(apr_walk_in(&w, text.value, text.value_at, '[', e));
    for (size_t i = 0; i < r->ntop; i++) {
        const json_t *x = json_array_get(list, i);
        room->top[i] = (struct worst){ apr_member_count(x, "index"), apr_member_real(x, "a"), apr_member_real(x, "b"), apr_member_real(x, "abs_diff") };
        APR_TRY(apr_walk_next(&w, &element, &more, e));
        APR_TRY(apr_member_find(&element, "block_a", &block, e));
        room->blocks[i].a = block.value;
        APR_TRY(apr_member_find(&element, "block_b", &block, e));
        room->blocks[i].b = block.value;
    }
    return APR_OK;
}

static enum apr_code read_worst_rows(struct row *r, const json_t *list, struct room *room, struct apr_error *e)
{
    if (list == NULL)
        return APR_OK;
    r->nrows = json_array_size(list);
    r->rows = room->rows = malloc((r->nrows + 1) * sizeof *room->rows);
    if (room->rows == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < r->nrows; i++) {
        const json_t *x = json_array_get(list, i);
        room->rows[i] = (struct worst_row){ apr_member_count(x, "row"), apr_member_count(x, "nonfinite_mismatch"), apr_member_real(x, "rmse"),
                                            apr_member_real(x, "max_diff"), apr_member_real(x, "cosine_similarity") };
    }
    return APR_OK;
}

/* One row, by its text. */
static enum apr_code take_row(const struct apr_item *item, uint64_t number, row_fn *take, void *ctx, struct apr_error *e)
{
    json_t *json;
    struct row row;
    struct room room = { 0 };
    APR_TRY(apr_json_load(&json, item->value, item->value_at, e));
    enum apr_code code = check_row(item, number, json, &row, e);
    if (code == APR_OK)
        code = read_top(&row, json_object_get(json, "top"), item, &room, e);
    if (code == APR_OK)
        code = read_worst_rows(&row, json_object_get(json, "rows"), &room, e);
    if (code == APR_OK)
        code = take(ctx, &row, e);
    free(room.top);
    free(room.blocks);
    free(room.rows);
    json_decref(json);
    return code;
}

enum apr_code share_rows(const struct share *p, row_fn *take, void *ctx, struct apr_error *e)
{
    struct apr_walk w;
    struct apr_item item;
    bool more = true;
    enum apr_code code = apr_walk_in(&w, p->base.large[0].value, p->base.large[0].value_at, '[', e);
    for (uint64_t number = 0; code == APR_OK; number++) {
        code = apr_walk_next(&w, &item, &more, e);
        if (code == APR_OK && !more)
            return apr_source_intact(p->base.s, e);
        if (code == APR_OK)
            code = take_row(&item, number, take, ctx, e);
    }
    apr_error_in(e, p->base.s->path);
    return code;
}

/* ---- the summary ---------------------------------------------------------------------------------------------------- */

static enum apr_code check_metadata(const struct share *p, struct apr_error *e)
{
    const json_t *metadata = json_object_get(p->base.top, "metadata");
    const char *key = apr_members_wrong(metadata, metadata_keys, APR_LENGTH(metadata_keys));
    if (key == NULL)
        key = apr_members_wrong_in(json_object_get(metadata, "differences"), difference_keys, APR_LENGTH(difference_keys));
    return key == NULL ? APR_OK : apr_share_wrong(&p->base, "its metadata has no sound ", key, e);
}

static enum apr_code check_excused(const struct share *p, struct apr_error *e)
{
    const json_t *const list = json_object_get(p->base.top, "excused");
    const char *key = apr_members_wrong_in(list, excuse_keys, APR_LENGTH(excuse_keys));
    for (size_t i = 0; key == NULL && i < json_array_size(list); i++)
        key = share_excuse(json_object_get(json_array_get(list, i), "reason")) == NULL ? "reason" : NULL;
    return key == NULL ? APR_OK : apr_share_wrong(&p->base, "its excused have no sound ", key, e);
}

static enum apr_code check_config(const struct share *p, struct apr_error *e)
{
    const json_t *list = json_object_get(p->base.top, "config");
    const char *key = NULL;
    for (size_t i = 0; key == NULL && i < json_array_size(list); i++) {
        const json_t *d = json_array_get(list, i);
        key = !json_is_object(d) || json_object_get(d, "a") == NULL || json_object_get(d, "b") == NULL
                  ? "a, b"
                  : apr_members_wrong(d, config_keys, APR_LENGTH(config_keys));
    }
    return key == NULL ? APR_OK : apr_share_wrong(&p->base, "its config has no sound ", key, e);
}

static enum apr_code check_keys(struct share *p, struct apr_error *e)
{
    const json_t *const top = p->base.top;
    if (apr_members_wrong(json_object_get(top, "partition"), partition_keys, APR_LENGTH(partition_keys)) != NULL)
        return apr_share_wrong(&p->base, "it has no partition number", "", e);
    const char *key = apr_members_wrong(top, summary_keys, APR_LENGTH(summary_keys));
    if (key != NULL)
        return apr_share_wrong(&p->base, "its summary has no sound ", key, e);
    if (p->base.large[0].value.n == 0)
        return apr_share_wrong(&p->base, "it has no results", "", e);
    APR_TRY(apr_member_find(&p->base.all, "metadata", &p->metadata, e));
    APR_TRY(apr_member_find(&p->base.all, "config", &p->config, e));
    APR_TRY(check_excused(p, e));
    APR_TRY(check_metadata(p, e));
    return check_config(p, e);
}

/* What the rows of a share add up to. */
struct tally {
    uint64_t count[NSTATUS], rows, failed;
};

static enum apr_code count_row(void *ctx, const struct row *r, struct apr_error *e)
{
    struct tally *t = ctx;
    (void)e;
    t->rows++;
    t->count[r->status]++;
    t->failed += !r->pass;
    return APR_OK;
}

static enum apr_code check_rows(struct share *p, struct apr_error *e)
{
    struct tally t = { 0 };
    APR_TRY(share_rows(p, count_row, &t, e));
    const struct {
        const char *key;
        uint64_t    n;
    } sums[] = {
        { "tensors_compared", t.rows }, { "identical_count", t.count[STATUS_IDENTICAL] + t.count[STATUS_NEARLY] },
        { "nearly_identical_count", t.count[STATUS_NEARLY] }, { "small_count", t.count[STATUS_SMALL] },
        { "medium_count", t.count[STATUS_MEDIUM] }, { "large_count", t.count[STATUS_LARGE] },
        { "critical_count", t.count[STATUS_CRITICAL] }, { "transposed_count", t.count[STATUS_TRANSPOSED] },
    };
    for (size_t i = 0; i < APR_LENGTH(sums); i++)
        if (apr_member_count(p->base.top, sums[i].key) != sums[i].n)
            return apr_share_wrong(&p->base, "its rows do not add up to its ", sums[i].key, e);
    if (apr_member_count(p->base.top, "below_threshold_count") > t.rows)
        return apr_share_wrong(&p->base, "its rows do not add up to its ", "below_threshold_count", e);
    const bool unmatched = json_is_true(json_object_get(json_object_get(p->base.top, "partition"), "unmatched_fails"));
    if (strcmp(apr_member_text(p->base.top, "verdict"), t.failed == 0 && !unmatched ? "Pass" : "Fail") != 0)
        return apr_share_wrong(&p->base, "its rows do not bear out its ", "verdict", e);
    return APR_OK;
}

enum apr_code read_share(struct share *p, const char *path, const struct apr_run *r, struct apr_error *e)
{
    *p = (struct share){ 0 };
    enum apr_code code = apr_share_open(&p->base, &kind, path, r, e);
    if (code == APR_OK)
        code = check_keys(p, e);
    if (code == APR_OK)
        code = check_rows(p, e);
    if (code != APR_OK)
        apr_error_in(e, path);
    return code;
}

/* ---- its metadata --------------------------------------------------------------------------------------------------- */

static struct apr_bytes *read_names(struct metadata *d, const json_t *list, size_t *n)
{
    struct apr_bytes *name = apr_arena_alloc(&d->arena, (json_array_size(list) + 1) * sizeof *name);
    for (*n = 0; name != NULL && *n < json_array_size(list); ++*n)
        name[*n] = (struct apr_bytes){ (const unsigned char *)json_string_value(json_array_get(list, *n)), json_string_length(json_array_get(list, *n)) };
    return name;
}

/* json: what text says. */
static enum apr_code read_difference(struct key_difference *k, const json_t *json, const struct apr_item *text, struct apr_error *e)
{
    struct apr_item a, b;
    APR_TRY(apr_member_find(text, "a", &a, e));
    APR_TRY(apr_member_find(text, "b", &b, e));
    *k = (struct key_difference){
        .key = apr_member_bytes(json, "key"), .type_a = apr_member_bytes(json, "type_a"), .type_b = apr_member_bytes(json, "type_b"), .a = a.value, .b = b.value,
        .arrays = json_object_get(json, "length_a") != NULL, .first = apr_member_count(json, "first_difference"),
        .ndiffer = apr_member_count(json, "difference_count"), .length_a = apr_member_count(json, "length_a"), .length_b = apr_member_count(json, "length_b"),
    };
    return APR_OK;
}

static enum apr_code read_differences(const struct share *p, struct metadata *d, const json_t *list, struct apr_error *e)
{
    struct apr_item text, difference;
    struct apr_walk w;
    bool more = true;
    if (list == NULL)
        return APR_OK;
    APR_TRY(apr_member_find(&p->metadata, "differences", &text, e));
    APR_TRY(apr_walk_in(&w, text.value, text.value_at, '[', e));
    for (; d->ndifference < json_array_size(list); d->ndifference++) {
        APR_TRY(apr_walk_next(&w, &difference, &more, e));
        APR_TRY(read_difference(&d->difference[d->ndifference], json_array_get(list, d->ndifference), &difference, e));
    }
    return APR_OK;
}

enum apr_code share_metadata(const struct share *p, struct metadata *into, const struct metadata **d, struct apr_error *e)
{
    const json_t *metadata = json_object_get(p->base.top, "metadata"), *list = json_object_get(metadata, "differences");
    *into = (struct metadata){ .identical = apr_member_count(metadata, "identical_count") };
    *d = json_object_size(metadata) == 0 ? NULL : into;
    into->difference = apr_arena_alloc(&into->arena, (json_array_size(list) + 1) * sizeof *into->difference);
    into->only_a = read_names(into, json_object_get(metadata, "only_in_a"), &into->nonly_a);
    into->only_b = read_names(into, json_object_get(metadata, "only_in_b"), &into->nonly_b);
    if (into->difference == NULL || into->only_a == NULL || into->only_b == NULL)
        return apr_no_memory(e);
    return read_differences(p, into, list, e);
}

/* ---- its config ----------------------------------------------------------------------------------------------------- */

static enum apr_code read_side(struct stated *s, const json_t *json, const struct apr_item *text, const char *const key[3], struct apr_error *e)
{
    struct apr_item value;
    APR_TRY(apr_member_find(text, key[2], &value, e));
    *s = (struct stated){ apr_member_bytes(json, key[0]), apr_member_bytes(json, key[1]),
                          json_is_null(json_object_get(json, key[2])) ? (struct apr_bytes){ 0 } : value.value };
    return APR_OK;
}

enum apr_code share_config(const struct share *p, struct config *into, struct apr_error *e)
{
    static const char *const keys[2][3] = { { "file_a", "key_a", "a" }, { "file_b", "key_b", "b" } };
    const json_t *list = json_object_get(p->base.top, "config");
    struct apr_item text;
    struct apr_walk w;
    bool more = true;
    into->difference = calloc(json_array_size(list) + 1, sizeof *into->difference);
    if (into->difference == NULL)
        return apr_no_memory(e);
    APR_TRY(apr_walk_in(&w, p->config.value, p->config.value_at, '[', e));
    for (; into->n < json_array_size(list); into->n++) {
        const json_t *json = json_array_get(list, into->n);
        APR_TRY(apr_walk_next(&w, &text, &more, e));
        into->difference[into->n].name = apr_member_bytes(json, "name");
        for (int i = 0; i < 2; i++)
            APR_TRY(read_side(&into->difference[into->n].side[i], json, &text, keys[i], e));
    }
    return APR_OK;
}
