#include "share.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "files/source.h"

/* ---- values --------------------------------------------------------------------------------------------------------- */

uint64_t share_count(const json_t *object, const char *key)
{
    const json_int_t n = json_integer_value(json_object_get(object, key));
    return n < 0 ? 0 : (uint64_t)n;
}

double share_real(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

const char *share_text(const json_t *object, const char *key) { return json_string_value(json_object_get(object, key)); }

static struct apr_bytes bytes_of(const json_t *v) { return (struct apr_bytes){ (const unsigned char *)json_string_value(v), json_string_length(v) }; }

struct apr_bytes share_bytes(const json_t *object, const char *key) { return bytes_of(json_object_get(object, key)); }

/* ---- what keys must hold -------------------------------------------------------------------------------------------- */

/* TEXT   a string           COUNT   an integer, 0 or more      SHAPE   up to 8 counts     NAMES  strings    LAYOUT, STATUS  one of our words; FAILURES  some
 * BOOL   true or false      REAL    a number or null           OBJECT                     LIST   anything in it */
enum kind { KIND_TEXT, KIND_BOOL, KIND_COUNT, KIND_REAL, KIND_SHAPE, KIND_NAMES, KIND_OBJECT, KIND_LIST, KIND_LAYOUT, KIND_STATUS, KIND_FAILURES, KIND_SIDE, KIND_EXCUSE };

/* A key that must be there; `null`: or may be null; `absent`: or may be absent. */
struct key {
    const char *name;
    enum kind   kind;
    bool        null, absent;
};

static bool is_count(const json_t *v) { return json_is_integer(v) && json_integer_value(v) >= 0; }

static bool is_list_of(const json_t *v, size_t most, bool (*is)(const json_t *))
{
    bool fine = json_is_array(v) && json_array_size(v) <= most;
    for (size_t i = 0; fine && i < json_array_size(v); i++)
        fine = is(json_array_get(v, i));
    return fine;
}

static bool is_string(const json_t *v) { return json_is_string(v); }

/* The index of a string among words, n when it is none of them. */
static unsigned word_index(const json_t *v, const char *const *words, unsigned n)
{
    unsigned i = 0;
    while (i < n && (!json_is_string(v) || strcmp(json_string_value(v), words[i]) != 0))
        i++;
    return i;
}

static const char *const side_words[] = { "a", "b" };

const char *share_excuse(const json_t *word)
{
    unsigned n = 0;
    while (excuse_words[n] != NULL)
        n++;
    return excuse_words[word_index(word, excuse_words, n)];
}

static bool is_failure(const json_t *v) { return word_index(v, failure_words, NFAILURES) < NFAILURES; }

static bool is_of_kind(const json_t *v, enum kind kind)
{
    switch (kind) {
    case KIND_TEXT:   return json_is_string(v);
    case KIND_BOOL:   return json_is_boolean(v);
    case KIND_COUNT:  return is_count(v);
    case KIND_REAL:   return json_is_number(v) || json_is_null(v);
    case KIND_SHAPE:  return is_list_of(v, APR_MAX_DIMS, is_count);
    case KIND_NAMES:  return is_list_of(v, SIZE_MAX, is_string);
    case KIND_OBJECT: return json_is_object(v);
    case KIND_LIST:   return json_is_array(v);
    case KIND_LAYOUT: return word_index(v, layout_words, LAYOUT_INCOMPATIBLE + 1) <= LAYOUT_INCOMPATIBLE;
    case KIND_STATUS: return word_index(v, status_words, NSTATUS) < NSTATUS;
    case KIND_SIDE:   return word_index(v, side_words, 2) < 2;
    case KIND_EXCUSE: return share_excuse(v) != NULL;
    case KIND_FAILURES: return is_list_of(v, NFAILURES, is_failure);
    }
    return false;
}

/* The first key that is not as it must be, or NULL. */
static const char *wrong_key(const json_t *object, const struct key *key, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_object_get(object, key[i].name);
        const bool fine = v == NULL ? key[i].absent : (json_is_null(v) && key[i].null) || is_of_kind(v, key[i].kind);
        if (!fine)
            return key[i].name;
    }
    return NULL;
}

/* The same of each object of a list; NULL also when there is no list. */
static const char *wrong_key_in(const json_t *list, const struct key *key, size_t n)
{
    const char *wrong = NULL;
    for (size_t i = 0; wrong == NULL && i < json_array_size(list); i++)
        wrong = wrong_key(json_array_get(list, i), key, n);
    return wrong;
}

static const struct key row_keys[] = {
    { "name", KIND_TEXT, false, false }, { "name_b", KIND_TEXT, false, false }, { "shape_a", KIND_SHAPE, false, false },
    { "shape_b", KIND_SHAPE, false, false }, { "dtype_a", KIND_TEXT, false, false }, { "dtype_b", KIND_TEXT, false, false },
    { "layout", KIND_LAYOUT, false, false }, { "transform", KIND_TEXT, true, false }, { "element_count", KIND_COUNT, false, false },
    { "identical_count", KIND_COUNT, false, false }, { "small_diff_count", KIND_COUNT, false, false },
    { "medium_diff_count", KIND_COUNT, false, false }, { "large_diff_count", KIND_COUNT, false, false },
    { "nonfinite_mismatch", KIND_COUNT, false, false }, { "mean_diff", KIND_REAL, false, false }, { "max_diff", KIND_REAL, false, false },
    { "max_diff_index", KIND_COUNT, true, false }, { "rmse", KIND_REAL, false, false }, { "cosine_similarity", KIND_REAL, false, false },
    { "sqnr_db", KIND_REAL, false, false }, { "cosine_linear", KIND_REAL, false, false }, { "cosine_transposed", KIND_REAL, false, false },
    { "status", KIND_STATUS, false, false }, { "pass", KIND_BOOL, false, false }, { "ignored", KIND_BOOL, false, true },
    { "error", KIND_TEXT, false, true }, { "problem", KIND_TEXT, false, true }, { "top", KIND_LIST, false, true },
    { "rows", KIND_LIST, false, true }, { "norm_ratio", KIND_REAL, false, true }, { "rows_left_out", KIND_COUNT, false, true },
    { "parts_a", KIND_NAMES, false, true }, { "parts_b", KIND_NAMES, false, true }, { "failed", KIND_FAILURES, false, true },
};
static const struct key top_keys[] = {
    { "index", KIND_COUNT, false, false }, { "a", KIND_REAL, false, false }, { "b", KIND_REAL, false, false },
    { "abs_diff", KIND_REAL, false, false }, { "block_a", KIND_OBJECT, false, true }, { "block_b", KIND_OBJECT, false, true },
};
static const struct key worst_row_keys[] = {
    { "row", KIND_COUNT, false, false }, { "rmse", KIND_REAL, false, false }, { "max_diff", KIND_REAL, false, false },
    { "cosine_similarity", KIND_REAL, false, false }, { "nonfinite_mismatch", KIND_COUNT, false, false },
};
static const struct key summary_keys[] = {
    { "schema", KIND_TEXT, false, false }, { "model_a", KIND_TEXT, false, false }, { "model_b", KIND_TEXT, false, false },
    { "format_a", KIND_TEXT, false, false }, { "format_b", KIND_TEXT, false, false }, { "only_in_a", KIND_NAMES, false, false },
    { "only_in_b", KIND_NAMES, false, false }, { "tensors_compared", KIND_COUNT, false, false },
    { "identical_count", KIND_COUNT, false, false }, { "nearly_identical_count", KIND_COUNT, false, false },
    { "small_count", KIND_COUNT, false, false }, { "medium_count", KIND_COUNT, false, false }, { "large_count", KIND_COUNT, false, false },
    { "critical_count", KIND_COUNT, false, false }, { "transposed_count", KIND_COUNT, false, false },
    { "min_cosine", KIND_REAL, false, false }, { "threshold", KIND_REAL, false, false }, { "below_threshold_count", KIND_COUNT, false, false },
    { "verdict", KIND_TEXT, false, false }, { "metadata", KIND_OBJECT, false, false }, { "excused", KIND_LIST, false, true },
    { "note", KIND_TEXT, false, true }, { "partition", KIND_OBJECT, false, false },
    { "config", KIND_LIST, false, false },
};
static const struct key excuse_keys[] = { { "side", KIND_SIDE, false, false }, { "name", KIND_TEXT, false, false },
                                          { "reason", KIND_EXCUSE, false, false } };
static const struct key partition_keys[] = {
    { "number", KIND_COUNT, false, false }, { "of", KIND_COUNT, false, false }, { "unmatched_fails", KIND_BOOL, false, false },
};
static const struct key metadata_keys[] = {
    { "differences", KIND_LIST, false, true }, { "only_in_a", KIND_NAMES, false, true }, { "only_in_b", KIND_NAMES, false, true },
    { "identical_count", KIND_COUNT, false, true },
};
static const struct key difference_keys[] = {
    { "key", KIND_TEXT, false, false }, { "type_a", KIND_TEXT, false, false }, { "type_b", KIND_TEXT, false, false },
    { "first_difference", KIND_COUNT, false, true }, { "difference_count", KIND_COUNT, false, true },
    { "length_a", KIND_COUNT, false, true }, { "length_b", KIND_COUNT, false, true },
};

static const struct key config_keys[] = {
    { "name", KIND_TEXT, false, false }, { "file_a", KIND_TEXT, true, false }, { "key_a", KIND_TEXT, true, false },
    { "file_b", KIND_TEXT, true, false }, { "key_b", KIND_TEXT, true, false },
};

/* ---- walking -------------------------------------------------------------------------------------------------------- */

/* Is the member's key that word, however it is spelled? */
static bool key_is(const struct apr_item *member, const char *word)
{
    const size_t n = strlen(word);
    if (memchr(member->key.at, '\\', member->key.n) == NULL)
        return member->key.n == n + 2 && memcmp(member->key.at + 1, word, n) == 0;
    json_t *key;
    struct apr_error never;
    if (apr_json_load(&key, member->key, member->key_at, &never) != APR_OK)
        return false;
    const bool yes = strcmp(json_string_value(key), word) == 0;
    json_decref(key);
    return yes;
}

/* The last member of that key in an object's text; *found.at NULL when it has none. */
static enum apr_code find_member(const struct apr_item *object, const char *word, struct apr_item *found, struct apr_error *e)
{
    struct apr_walk w;
    struct apr_item member;
    bool more = true;
    *found = (struct apr_item){ 0 };
    APR_TRY(apr_walk_in(&w, object->value, object->value_at, '{', e));
    for (;;) {
        APR_TRY(apr_walk_next(&w, &member, &more, e));
        if (!more)
            return APR_OK;
        if (key_is(&member, word))
            *found = member;
    }
}

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
        failed |= 1u << word_index(json_array_get(list, i), failure_words, NFAILURES);
    return failed;
}

/* A row that has been checked, as it was, but for what --top and --rows gave it. */
static void read_numbers(struct row *r, const json_t *json)
{
    const double max = share_real(json, "max_diff");
    *r = (struct row){
        .name = share_bytes(json, "name"), .name_b = share_bytes(json, "name_b"), .dtype_a = share_text(json, "dtype_a"),
        .dtype_b = share_text(json, "dtype_b"), .transform = share_text(json, "transform"), .error = share_text(json, "error"),
        .problem = share_text(json, "problem"), .count = share_count(json, "element_count"), .cosine = share_real(json, "cosine_similarity"),
        .cosine_linear = share_real(json, "cosine_linear"), .cosine_transposed = share_real(json, "cosine_transposed"),
        .rmse = share_real(json, "rmse"), .mean = share_real(json, "mean_diff"), .sqnr = share_real(json, "sqnr_db"),
        .left_out = share_count(json, "rows_left_out"), .norm_ratio = share_real(json, "norm_ratio"), .failed = read_failures(json_object_get(json, "failed")),
        .pass = json_is_true(json_object_get(json, "pass")), .ignored = json_is_true(json_object_get(json, "ignored")),
    };
    r->layout = (enum layout)word_index(json_object_get(json, "layout"), layout_words, LAYOUT_INCOMPATIBLE + 1);
    r->status = (enum status)word_index(json_object_get(json, "status"), status_words, NSTATUS);
    r->sums = (struct sums){ .identical = share_count(json, "identical_count"), .small = share_count(json, "small_diff_count"),
                             .medium = share_count(json, "medium_diff_count"), .large = share_count(json, "large_diff_count"),
                             .nonfinite = share_count(json, "nonfinite_mismatch"), .max = isnan(max) ? INFINITY : max,
                             .max_at = share_count(json, "max_diff_index") };
    read_shape(json_object_get(json, "shape_a"), r->dim_a, &r->ndim_a);
    read_shape(json_object_get(json, "shape_b"), r->dim_b, &r->ndim_b);
}

/* A fault of what the row holds, at its first byte: "row N, TENSOR: WHY KEY". */
static enum apr_code wrong_row(const struct apr_item *item, uint64_t number, const json_t *json, const char *why, const char *key,
                               struct apr_error *e)
{
    const char *name = json_is_string(json_object_get(json, "name")) ? share_text(json, "name") : "without a name";
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
    const char *key = wrong_key(json, row_keys, APR_LENGTH(row_keys));
    const struct {
        const char       *name;
        const struct key *key;
        size_t            n;
    } lists[] = { { "top", top_keys, APR_LENGTH(top_keys) }, { "rows", worst_row_keys, APR_LENGTH(worst_row_keys) } };
    if (!json_is_object(json) || key != NULL)
        return wrong_row(item, number, json, "there is none, or none of its kind:", key == NULL ? "object" : key, e);
    for (size_t l = 0; l < APR_LENGTH(lists); l++) {
        key = wrong_key_in(json_object_get(json, lists[l].name), lists[l].key, lists[l].n);
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
    APR_TRY(find_member(row, "parts_a", &text, e));
    r->parts_raw[0] = text.value;
    APR_TRY(find_member(row, "parts_b", &text, e));
    r->parts_raw[1] = text.value;
    r->top = room->top = malloc((r->ntop + 1) * sizeof *room->top);
    r->blocks = room->blocks = malloc((r->ntop + 1) * sizeof *room->blocks);
    if (room->top == NULL || room->blocks == NULL)
        return apr_no_memory(e);
    if (list == NULL)
        return APR_OK;
    APR_TRY(find_member(row, "top", &text, e));
    r->top_raw = text.value;
    APR_TRY(apr_walk_in(&w, text.value, text.value_at, '[', e));
    for (size_t i = 0; i < r->ntop; i++) {
        const json_t *x = json_array_get(list, i);
        room->top[i] = (struct worst){ share_count(x, "index"), share_real(x, "a"), share_real(x, "b"), share_real(x, "abs_diff") };
        APR_TRY(apr_walk_next(&w, &element, &more, e));
        APR_TRY(find_member(&element, "block_a", &block, e));
        room->blocks[i].a = block.value;
        APR_TRY(find_member(&element, "block_b", &block, e));
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
        room->rows[i] = (struct worst_row){ share_count(x, "row"), share_count(x, "nonfinite_mismatch"), share_real(x, "rmse"),
                                            share_real(x, "max_diff"), share_real(x, "cosine_similarity") };
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
    enum apr_code code = apr_walk_in(&w, p->results, p->results_at, '[', e);
    for (uint64_t number = 0; code == APR_OK; number++) {
        code = apr_walk_next(&w, &item, &more, e);
        if (code == APR_OK && !more)
            return apr_source_intact(p->s, e);
        if (code == APR_OK)
            code = take_row(&item, number, take, ctx, e);
    }
    apr_error_in(e, p->s->path);
    return code;
}

/* ---- the summary ---------------------------------------------------------------------------------------------------- */

static enum apr_code not_a_share(const struct share *p, const char *why, const char *key, struct apr_error *e)
{
    apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "is no JSON of apr-diff --partition: %s%s", why, key);
    apr_error_in(e, p->s->path);
    return APR_ECORRUPT;
}

static enum apr_code read_keys(struct share *p, struct apr_error *e)
{
    struct apr_walk w;
    struct apr_item item;
    bool more = true;
    APR_TRY(apr_json_load(&p->top, apr_text("{}"), 0, e));
    APR_TRY(apr_walk_in(&w, p->s->map, 0, '{', e));
    for (;;) {
        json_t *key, *value;
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            return apr_walk_end(&w, e);
        if (key_is(&item, "results")) {
            p->results = item.value;
            p->results_at = item.value_at;
            continue;
        }
        if (key_is(&item, "metadata"))
            p->metadata = item;
        if (key_is(&item, "config"))
            p->config = item;
        APR_TRY(apr_json_load(&key, item.key, item.key_at, e));
        enum apr_code code = apr_json_load(&value, item.value, item.value_at, e);
        if (code == APR_OK && json_object_set_new(p->top, json_string_value(key), value) != 0)
            code = apr_no_memory(e);
        json_decref(key);
        APR_TRY(code);
    }
}

static enum apr_code check_metadata(const struct share *p, struct apr_error *e)
{
    const json_t *metadata = json_object_get(p->top, "metadata");
    const char *key = wrong_key(metadata, metadata_keys, APR_LENGTH(metadata_keys));
    if (key == NULL)
        key = wrong_key_in(json_object_get(metadata, "differences"), difference_keys, APR_LENGTH(difference_keys));
    return key == NULL ? APR_OK : not_a_share(p, "its metadata has no sound ", key, e);
}

static enum apr_code check_excused(const struct share *p, struct apr_error *e)
{
    const char *key = wrong_key_in(json_object_get(p->top, "excused"), excuse_keys, APR_LENGTH(excuse_keys));
    return key == NULL ? APR_OK : not_a_share(p, "its excused have no sound ", key, e);
}

static enum apr_code check_config(const struct share *p, struct apr_error *e)
{
    const json_t *list = json_object_get(p->top, "config");
    const char *key = NULL;
    for (size_t i = 0; key == NULL && i < json_array_size(list); i++) {
        const json_t *d = json_array_get(list, i);
        key = !json_is_object(d) || json_object_get(d, "a") == NULL || json_object_get(d, "b") == NULL
                  ? "a, b"
                  : wrong_key(d, config_keys, APR_LENGTH(config_keys));
    }
    return key == NULL ? APR_OK : not_a_share(p, "its config has no sound ", key, e);
}

static enum apr_code check_keys(struct share *p, struct apr_error *e)
{
    if (json_object_get(p->top, "error") != NULL)
        return not_a_share(p, "that run failed", "", e);
    if (json_object_get(p->top, "schema") != NULL && !json_is_string(json_object_get(p->top, "schema")))
        return not_a_share(p, "its schema is not apr-diff/1", "", e);
    if (share_text(p->top, "schema") == NULL || strcmp(share_text(p->top, "schema"), "apr-diff/1") != 0)
        return not_a_share(p, "its schema is not apr-diff/1", "", e);
    const json_t *partition = json_object_get(p->top, "partition");
    if (!json_is_object(partition) || wrong_key(partition, partition_keys, APR_LENGTH(partition_keys)) != NULL)
        return not_a_share(p, "it has no partition number", "", e);
    const char *key = wrong_key(p->top, summary_keys, APR_LENGTH(summary_keys));
    if (key != NULL)
        return not_a_share(p, "its summary has no sound ", key, e);
    p->number = share_count(partition, "number");
    p->of = share_count(partition, "of");
    if (p->number == 0 || p->number > p->of)
        return not_a_share(p, "it has no partition number", "", e);
    if (p->results.n == 0)
        return not_a_share(p, "it has no results", "", e);
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
        if (share_count(p->top, sums[i].key) != sums[i].n)
            return not_a_share(p, "its rows do not add up to its ", sums[i].key, e);
    if (share_count(p->top, "below_threshold_count") > t.rows)
        return not_a_share(p, "its rows do not add up to its ", "below_threshold_count", e);
    const bool unmatched = json_is_true(json_object_get(json_object_get(p->top, "partition"), "unmatched_fails"));
    if (strcmp(share_text(p->top, "verdict"), t.failed == 0 && !unmatched ? "Pass" : "Fail") != 0)
        return not_a_share(p, "its rows do not bear out its ", "verdict", e);
    return APR_OK;
}

enum apr_code read_share(struct share *p, const char *path, const struct apr_run *r, struct apr_error *e)
{
    *p = (struct share){ 0 };
    enum apr_code code = apr_source_open(&p->s, path, r, e);
    if (code == APR_OK)
        code = read_keys(p, e);
    if (code == APR_OK)
        code = check_keys(p, e);
    if (code == APR_OK)
        code = check_rows(p, e);
    if (code != APR_OK)
        apr_error_in(e, path);
    return code;
}

void free_share(struct share *p)
{
    json_decref(p->top);
    apr_source_close(p->s);
}

/* ---- its metadata --------------------------------------------------------------------------------------------------- */

static struct apr_bytes *read_names(struct metadata *d, const json_t *list, size_t *n)
{
    struct apr_bytes *name = apr_arena_alloc(&d->arena, (json_array_size(list) + 1) * sizeof *name);
    for (*n = 0; name != NULL && *n < json_array_size(list); ++*n)
        name[*n] = bytes_of(json_array_get(list, *n));
    return name;
}

/* json: what text says. */
static enum apr_code read_difference(struct key_difference *k, const json_t *json, const struct apr_item *text, struct apr_error *e)
{
    struct apr_item a, b;
    APR_TRY(find_member(text, "a", &a, e));
    APR_TRY(find_member(text, "b", &b, e));
    *k = (struct key_difference){
        .key = share_bytes(json, "key"), .type_a = share_bytes(json, "type_a"), .type_b = share_bytes(json, "type_b"), .a = a.value, .b = b.value,
        .arrays = json_object_get(json, "length_a") != NULL, .first = share_count(json, "first_difference"),
        .ndiffer = share_count(json, "difference_count"), .length_a = share_count(json, "length_a"), .length_b = share_count(json, "length_b"),
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
    APR_TRY(find_member(&p->metadata, "differences", &text, e));
    APR_TRY(apr_walk_in(&w, text.value, text.value_at, '[', e));
    for (; d->ndifference < json_array_size(list); d->ndifference++) {
        APR_TRY(apr_walk_next(&w, &difference, &more, e));
        APR_TRY(read_difference(&d->difference[d->ndifference], json_array_get(list, d->ndifference), &difference, e));
    }
    return APR_OK;
}

enum apr_code share_metadata(const struct share *p, struct metadata *into, const struct metadata **d, struct apr_error *e)
{
    const json_t *metadata = json_object_get(p->top, "metadata"), *list = json_object_get(metadata, "differences");
    *into = (struct metadata){ .identical = share_count(metadata, "identical_count") };
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
    APR_TRY(find_member(text, key[2], &value, e));
    *s = (struct stated){ share_bytes(json, key[0]), share_bytes(json, key[1]),
                          json_is_null(json_object_get(json, key[2])) ? (struct apr_bytes){ 0 } : value.value };
    return APR_OK;
}

enum apr_code share_config(const struct share *p, struct config *into, struct apr_error *e)
{
    static const char *const keys[2][3] = { { "file_a", "key_a", "a" }, { "file_b", "key_b", "b" } };
    const json_t *list = json_object_get(p->top, "config");
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
        into->difference[into->n].name = share_bytes(json, "name");
        for (int i = 0; i < 2; i++)
            APR_TRY(read_side(&into->difference[into->n].side[i], json, &text, keys[i], e));
    }
    return APR_OK;
}
