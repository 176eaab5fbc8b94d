#include "share.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "files/source.h"
#include "model/findings.h"
#include "values/dtype.h"

static const char *const large[] = { "tensors", "findings", "metadata", "measured", NULL };
static const struct apr_share_kind kind = { "apr-inspect", "apr-inspect/1", large };
static const char *const severities[] = { [APR_INFO] = "info", [APR_WARNING] = "warning", [APR_FAULT] = "error" };
static const char *const types[] = { "F16", "BF16" };

/* ---- writing -------------------------------------------------------------------------------------------------------- */

/* Exactly, whatever it is: JSON has no infinity. */
static void write_double(struct apr_out *j, const char *key, double v)
{
    char text[64];
    snprintf(text, sizeof text, "%a", v);
    apr_out_text(j, key, text);
}

static void write_moments(struct apr_out *j, const struct moments *m)
{
    uint64_t magnitude[MAGNITUDES];
    for (unsigned k = 0; k < MAGNITUDES; k++)
        magnitude[k] = m->magnitude[k];
    apr_out_open(j, NULL, '{');
    apr_out_bytes(j, "name", m->name);
    write_double(j, "mean", m->mean);
    write_double(j, "std", m->std);
    write_double(j, "most", m->most);
    apr_out_bool(j, "usable", m->usable);
    apr_out_bool(j, "vector", m->vector);
    apr_out_bool(j, "made", m->made);
    apr_out_counts(j, "magnitude", magnitude, MAGNITUDES);
    apr_out_close(j, '}');
}

static void write_census(struct apr_out *j, const struct role *r, const struct census *c)
{
    apr_out_open(j, NULL, '{');
    apr_out_bytes(j, "name", r->name);
    apr_out_open(j, "classes", '[');
    for (size_t i = 0; i < c->n; i++) {
        apr_out_count(j, NULL, c->at[i].class);
        apr_out_count(j, NULL, c->at[i].n);
    }
    apr_out_close(j, ']');
    apr_out_close(j, '}');
}

static void write_measured(struct apr_out *j, const struct measured *m)
{
    apr_out_open(j, "measured", '{');
    apr_out_open(j, "tensors", '[');
    for (size_t i = 0; i < m->n; i++)
        if (m->moments[i].weights)
            write_moments(j, &m->moments[i]);
    apr_out_close(j, ']');
    apr_out_open(j, "roles", '[');
    for (size_t i = 0; i < m->roles.n; i++)
        if (m->census[i].n > 0)
            write_census(j, &m->roles.at[i], &m->census[i]);
    apr_out_close(j, ']');
    apr_out_close(j, '}');
}

/* What all shares of a run agree on: the model, the tensors that are chosen, by whose contract they are judged, and what was asked for. */
static struct apr_digest plan_of(const struct inspection *x)
{
    const struct options *const o = x->o;
    const unsigned char asked[] = { o->stats, o->hash, o->check == CHECK_ALL, o->full };
    struct apr_digest d = apr_share_plan(x->opened);
    d = apr_digest_fold(d, apr_digest_of((struct apr_bytes){ asked, sizeof asked }));
    d = apr_digest_fold(d, apr_digest_of((struct apr_bytes){ (const unsigned char *)x->chosen, x->m->ntensor * sizeof *x->chosen }));
    return apr_digest_fold(d, apr_digest_of(x->family_name.n > 0 ? x->family_name : apr_text("-")));
}

void write_share(struct apr_out *j, const struct inspection *x)
{
    const struct options *const o = x->o;
    if (x->measured != NULL)
        write_measured(j, x->measured);
    apr_share_begin(j, o->part, o->nparts, plan_of(x));
    apr_out_bool(j, "stats", o->stats);
    apr_out_bool(j, "hash", o->hash);
    apr_out_bool(j, "check", o->check == CHECK_ALL);
    apr_out_bool(j, "full", o->full);
    apr_out_bool(j, "filtered", o->filtered);
    apr_out_real(j, "held", x->measured == NULL ? 0 : x->measured->held);
    apr_out_text(j, "held_by", x->measured == NULL ? types[0] : x->measured->type);
    apr_out_close(j, '}');
}

/* ---- what members must be ------------------------------------------------------------------------------------------- */

static const struct apr_member top_members[] = {
    { "files", APR_MEMBER_LIST }, { "format", APR_MEMBER_TEXT }, { "format_version", APR_MEMBER_TEXT, true },
    { "family", APR_MEMBER_TEXT, true }, { "architecture", APR_MEMBER_TEXT, true }, { "parameters", APR_MEMBER_COUNT },
    { "tensor_count", APR_MEMBER_COUNT }, { "tensor_bytes", APR_MEMBER_COUNT }, { "bits_per_weight", APR_MEMBER_REAL },
    { "dtypes", APR_MEMBER_LIST },
};
static const struct apr_member file_members[] = { { "path", APR_MEMBER_TEXT }, { "size", APR_MEMBER_COUNT } };
static const struct apr_member partition_members[] = {
    { "stats", APR_MEMBER_BOOL }, { "hash", APR_MEMBER_BOOL }, { "check", APR_MEMBER_BOOL }, { "full", APR_MEMBER_BOOL },
    { "filtered", APR_MEMBER_BOOL }, { "held", APR_MEMBER_REAL }, { "held_by", APR_MEMBER_WORD, false, false, types, 2 },
};
static const struct apr_member line_members[] = {
    { "name", APR_MEMBER_TEXT }, { "dtype", APR_MEMBER_TEXT }, { "shape", APR_MEMBER_SHAPE }, { "file", APR_MEMBER_COUNT },
    { "offset", APR_MEMBER_COUNT }, { "size", APR_MEMBER_COUNT }, { "tied", APR_MEMBER_BOOL, false, true },
    { "parts", APR_MEMBER_LIST, false, true },
};
static const struct apr_member stats_members[] = {
    { "count", APR_MEMBER_COUNT }, { "min", APR_MEMBER_REAL }, { "max", APR_MEMBER_REAL }, { "mean", APR_MEMBER_REAL },
    { "std", APR_MEMBER_REAL }, { "rms", APR_MEMBER_REAL }, { "zero_count", APR_MEMBER_COUNT }, { "nan_count", APR_MEMBER_COUNT },
    { "inf_count", APR_MEMBER_COUNT }, { "p1", APR_MEMBER_REAL }, { "p5", APR_MEMBER_REAL }, { "p25", APR_MEMBER_REAL },
    { "p50", APR_MEMBER_REAL }, { "p75", APR_MEMBER_REAL }, { "p95", APR_MEMBER_REAL }, { "p99", APR_MEMBER_REAL },
    { "percentiles_exact", APR_MEMBER_BOOL }, { "kurtosis", APR_MEMBER_REAL }, { "histogram", APR_MEMBER_COUNTS },
};
static const struct apr_member hash_members[] = { { "hash", APR_MEMBER_DIGEST }, { "value_hash", APR_MEMBER_DIGEST, true } };
static const struct apr_member finding_members[] = {
    { "stage", APR_MEMBER_COUNT }, { "severity", APR_MEMBER_WORD, false, false, severities, APR_FAULT + 1 }, { "code", APR_MEMBER_TEXT },
    { "tensor", APR_MEMBER_TEXT, true }, { "text", APR_MEMBER_TEXT },
};
static const struct apr_member moments_members[] = {
    { "name", APR_MEMBER_TEXT }, { "mean", APR_MEMBER_TEXT }, { "std", APR_MEMBER_TEXT }, { "most", APR_MEMBER_TEXT },
    { "usable", APR_MEMBER_BOOL }, { "vector", APR_MEMBER_BOOL }, { "made", APR_MEMBER_BOOL }, { "magnitude", APR_MEMBER_COUNTS },
};
static const struct apr_member role_members[] = { { "name", APR_MEMBER_TEXT }, { "classes", APR_MEMBER_COUNTS } };

/* ---- walking -------------------------------------------------------------------------------------------------------- */

typedef enum apr_code element_fn(void *ctx, const json_t *json, const struct apr_item *item, struct apr_error *e);

/* Loads the elements of a list one by one; a text that is not there has none. */
static enum apr_code each_of(const struct share *p, const struct apr_item *list, element_fn *take, void *ctx, struct apr_error *e)
{
    struct apr_walk w;
    struct apr_item item;
    bool more = true;
    if (list->value.at == NULL)
        return APR_OK;
    enum apr_code code = apr_walk_in(&w, list->value, list->value_at, '[', e);
    while (code == APR_OK) {
        json_t *json = NULL;
        code = apr_walk_next(&w, &item, &more, e);
        if (code == APR_OK && !more)
            return apr_source_intact(p->base.s, e);
        if (code == APR_OK)
            code = apr_json_load(&json, item.value, item.value_at, e);
        if (code == APR_OK)
            code = take(ctx, json, &item, e);
        json_decref(json);
    }
    apr_error_in(e, p->base.s->path);
    return code;
}

/* A fault of an element, at its first byte: "WHAT NAME: there is no sound KEY". */
static enum apr_code wrong_element(const struct apr_item *item, const char *what, const json_t *json, const char *key, struct apr_error *e)
{
    const json_t *const name = json_object_get(json, "name");
    return apr_fail(e, APR_ECORRUPT, item->value_at, "%s %s: there is no sound %s", what,
                    APR_QUOTED(apr_text(json_is_string(name) ? json_string_value(name) : "without a name")), key);
}

/* ---- rows ----------------------------------------------------------------------------------------------------------- */

struct taking {
    const struct share *p;
    shared_row_fn      *row;
    moments_fn         *moments;
    void               *ctx;
    unsigned            first, last;
    struct findings    *findings;
    struct apr_arena  **names;
    struct apr_bytes    role;
    uint64_t           *of;
};

static const char *dtype_of(const json_t *json)
{
    const char *const name = apr_member_text(json, "dtype");
    for (size_t i = 0; i < APR_NDTYPES; i++)
        if (strcmp(apr_dtypes[i].name, name) == 0)
            return apr_dtypes[i].name;
    return NULL;
}

struct listed listed_part(const json_t *part)
{
    const json_t *const shape = json_object_get(part, "shape");
    struct listed l = { .name = apr_member_bytes(part, "name"), .dtype = dtype_of(part), .ndim = (unsigned)json_array_size(shape),
                        .file = apr_member_count(part, "file"), .offset = apr_member_count(part, "offset"),
                        .size = apr_member_count(part, "size"), .tied = json_is_true(json_object_get(part, "tied")) };
    for (unsigned i = 0; i < l.ndim; i++)
        l.dim[i] = (uint64_t)json_integer_value(json_array_get(shape, i));
    return l;
}

static const char *wrong_line(const json_t *json)
{
    const char *const key = apr_members_wrong(json, line_members, APR_LENGTH(line_members));
    return key == NULL && dtype_of(json) == NULL ? "dtype" : key;
}

static struct apr_stats read_stats(const json_t *json)
{
    const json_t *const histogram = json_object_get(json, "histogram");
    struct apr_stats s = { .count = apr_member_count(json, "count"), .zeros = apr_member_count(json, "zero_count"),
                           .nans = apr_member_count(json, "nan_count"), .infs = apr_member_count(json, "inf_count"),
                           .min = apr_member_real(json, "min"), .max = apr_member_real(json, "max"),
                           .mean = apr_member_real(json, "mean"), .std = apr_member_real(json, "std"), .rms = apr_member_real(json, "rms"),
                           .kurtosis = apr_member_real(json, "kurtosis"),
                           .exact = json_is_true(json_object_get(json, "percentiles_exact")) };
    for (size_t i = 0; i < APR_NPERCENTILES; i++)
        s.percentile[i] = apr_member_real(json, stats_members[9 + i].name);
    for (size_t i = 0; i < APR_SPARK_BINS; i++)
        s.spark[i] = (uint64_t)json_integer_value(json_array_get(histogram, i));
    return s;
}

/* Of a row whose line is sound; the key that is not, or NULL. */
static const char *read_found(const struct share *p, const json_t *json, struct scanned *found)
{
    const bool decoded = json_object_get(json, "error") == NULL;
    const char *key = NULL;
    *found = (struct scanned){ .decodable = decoded };
    if (p->stats && decoded) {
        key = apr_members_wrong(json, stats_members, APR_LENGTH(stats_members));
        if (key == NULL && json_array_size(json_object_get(json, "histogram")) != APR_SPARK_BINS)
            key = "histogram";
        if (key == NULL)
            found->stats = read_stats(json);
    }
    if (key == NULL && p->hash) {
        key = apr_members_wrong(json, hash_members, APR_LENGTH(hash_members));
        found->decodable = json_is_string(json_object_get(json, "value_hash"));
        if (key == NULL && p->stats && found->decodable != decoded)
            key = "value_hash";
        if (key == NULL && !apr_digest_read(apr_member_bytes(json, "hash"), &found->hash))
            key = "hash";
        if (key == NULL && found->decodable && !apr_digest_read(apr_member_bytes(json, "value_hash"), &found->value_hash))
            key = "value_hash";
    }
    return key;
}

static enum apr_code take_row(void *taking, const json_t *json, const struct apr_item *item, struct apr_error *e)
{
    const struct taking *t = taking;
    const json_t *const parts = json_object_get(json, "parts");
    struct shared_row row = { .text = item->value, .parts = parts };
    const char *key = wrong_line(json);
    for (size_t i = 0; key == NULL && i < json_array_size(parts); i++)
        key = wrong_line(json_array_get(parts, i)) == NULL ? NULL : "parts";
    if (key == NULL)
        key = read_found(t->p, json, &row.found);
    if (key != NULL)
        return wrong_element(item, "tensor", json, key, e);
    row.line = listed_part(json);
    return t->row(t->ctx, &row, e);
}

enum apr_code share_rows(const struct share *p, shared_row_fn *take, void *ctx, struct apr_error *e)
{
    return each_of(p, &p->base.large[SHARE_TENSORS], take_row, &(struct taking){ .p = p, .row = take, .ctx = ctx }, e);
}

/* ---- findings ------------------------------------------------------------------------------------------------------- */

/* The table's row for a finding that it can hold, or NULL. */
static const struct apr_finding *finding_row(const json_t *json)
{
    const struct apr_finding *f = apr_findings;
    const unsigned severity = apr_word_index(json_object_get(json, "severity"), severities, APR_FAULT + 1);
    while (f->code != NULL && strcmp(f->code, apr_member_text(json, "code")) != 0)
        f++;
    return f->code != NULL && f->stage == apr_member_count(json, "stage") && severity >= f->mild && severity <= f->severity ? f : NULL;
}

static enum apr_code take_finding(void *taking, const json_t *json, const struct apr_item *item, struct apr_error *e)
{
    const struct taking *t = taking;
    const char *key = apr_members_wrong(json, finding_members, APR_LENGTH(finding_members));
    const struct apr_finding *const f = key == NULL ? finding_row(json) : NULL;
    if (f == NULL)
        return wrong_element(item, "finding", json, key == NULL ? "code" : key, e);
    if (f->stage < t->first || f->stage > t->last)
        return APR_OK;
    const struct apr_bytes name = apr_member_bytes(json, "tensor");
    const struct apr_bytes tensor = apr_arena_copy(t->names, name.at == NULL ? apr_text("") : name);
    const unsigned severity = apr_word_index(json_object_get(json, "severity"), severities, APR_FAULT + 1);
    if (tensor.at == NULL)
        return apr_no_memory(e);
    return add_finding_as(t->findings, (enum apr_severity)severity, f->code, tensor, e, "%s", apr_member_text(json, "text"));
}

enum apr_code share_findings(const struct share *p, unsigned first, unsigned last, struct findings *into, struct apr_arena **names,
                             struct apr_error *e)
{
    struct taking t = { .p = p, .first = first, .last = last, .findings = into, .names = names };
    return each_of(p, &p->base.large[SHARE_FINDINGS], take_finding, &t, e);
}

/* ---- what was measured ---------------------------------------------------------------------------------------------- */

static bool read_double(const json_t *json, const char *key, double *v)
{
    const char *const text = apr_member_text(json, key);
    char *end;
    *v = strtod(text, &end);
    return end != text && *end == 0;
}

static enum apr_code take_moments(void *taking, const json_t *json, const struct apr_item *item, struct apr_error *e)
{
    const struct taking *t = taking;
    const char *key = apr_members_wrong(json, moments_members, APR_LENGTH(moments_members));
    const json_t *const magnitude = json_object_get(json, "magnitude");
    struct moments m = { .weights = true };
    if (key == NULL && !(read_double(json, "mean", &m.mean) && read_double(json, "std", &m.std) && read_double(json, "most", &m.most)))
        key = "number";
    if (key == NULL && json_array_size(magnitude) != MAGNITUDES)
        key = "magnitude";
    if (key != NULL)
        return wrong_element(item, "measured tensor", json, key, e);
    m.name = apr_member_bytes(json, "name");
    m.usable = json_is_true(json_object_get(json, "usable"));
    m.vector = json_is_true(json_object_get(json, "vector"));
    m.made = json_is_true(json_object_get(json, "made"));
    for (size_t k = 0; k < MAGNITUDES; k++)
        m.magnitude[k] = (uint32_t)apr_min(UINT32_MAX, (uint64_t)json_integer_value(json_array_get(magnitude, k)));
    return t->moments(t->ctx, &m, e);
}

static enum apr_code each_measured(const struct share *p, const char *what, element_fn *take, struct taking *t, struct apr_error *e)
{
    struct apr_item list;
    if (p->base.large[SHARE_MEASURED].value.at == NULL)
        return APR_OK;
    APR_TRY(apr_member_find(&p->base.large[SHARE_MEASURED], what, &list, e));
    return each_of(p, &list, take, t, e);
}

enum apr_code share_moments(const struct share *p, moments_fn *take, void *ctx, struct apr_error *e)
{
    return each_measured(p, "tensors", take_moments, &(struct taking){ .p = p, .moments = take, .ctx = ctx }, e);
}

/* A class and how often it occurs, in turn. */
static enum apr_code take_role(void *taking, const json_t *json, const struct apr_item *item, struct apr_error *e)
{
    const struct taking *t = taking;
    const char *const key = apr_members_wrong(json, role_members, APR_LENGTH(role_members));
    const json_t *const classes = json_object_get(json, "classes");
    bool sound = key == NULL && json_array_size(classes) % 2 == 0;
    for (size_t i = 0; sound && i < json_array_size(classes); i += 2)
        sound = json_integer_value(json_array_get(classes, i)) < CLASSES;
    if (!sound)
        return wrong_element(item, "role", json, key == NULL ? "classes" : key, e);
    if (t->of == NULL || !apr_bytes_equal(apr_member_bytes(json, "name"), t->role))
        return APR_OK;
    for (size_t i = 0; i < json_array_size(classes); i += 2)
        t->of[json_integer_value(json_array_get(classes, i))] += (uint64_t)json_integer_value(json_array_get(classes, i + 1));
    return APR_OK;
}

enum apr_code share_classes(const struct share *p, struct apr_bytes role, uint64_t of[CLASSES], struct apr_error *e)
{
    return each_measured(p, "roles", take_role, &(struct taking){ .p = p, .role = role, .of = of }, e);
}

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

static enum apr_code count_row(void *share, const struct shared_row *row, struct apr_error *e)
{
    (void)row, (void)e;
    ((struct share *)share)->ntensor++;
    return APR_OK;
}

static enum apr_code no_moments(void *ctx, const struct moments *m, struct apr_error *e)
{
    (void)ctx, (void)m, (void)e;
    return APR_OK;
}

static enum apr_code check_members(struct share *p, struct apr_error *e)
{
    const json_t *const top = p->base.top, *const partition = json_object_get(top, "partition");
    const struct apr_bytes metadata = p->base.large[SHARE_METADATA].value;
    const char *key = apr_members_wrong(top, top_members, APR_LENGTH(top_members));
    if (key == NULL)
        key = apr_members_wrong(partition, partition_members, APR_LENGTH(partition_members));
    if (key == NULL)
        key = apr_members_wrong_in(json_object_get(top, "files"), file_members, APR_LENGTH(file_members));
    if (key != NULL)
        return apr_share_wrong(&p->base, "it has no sound ", key, e);
    p->stats = json_is_true(json_object_get(partition, "stats"));
    p->hash = json_is_true(json_object_get(partition, "hash"));
    p->check = json_is_true(json_object_get(partition, "check"));
    p->full = json_is_true(json_object_get(partition, "full"));
    p->filtered = json_is_true(json_object_get(partition, "filtered"));
    const bool there[] = { p->stats || p->hash, p->check, true, p->check };
    for (unsigned i = 0; i < APR_LENGTH(there); i++)
        if (there[i] != (p->base.large[i].value.at != NULL))
            return apr_share_wrong(&p->base, "it has no sound ", large[i], e);
    return apr_json_check(metadata, p->base.large[SHARE_METADATA].value_at, e);
}

enum apr_code read_share(struct share *p, const char *path, const struct apr_run *r, struct apr_error *e)
{
    *p = (struct share){ 0 };
    enum apr_code code = apr_share_open(&p->base, &kind, path, r, e);
    if (code == APR_OK)
        code = check_members(p, e);
    if (code == APR_OK)
        code = share_rows(p, count_row, p, e);
    if (code == APR_OK)
        code = share_findings(p, 1, 0, NULL, NULL, e);
    if (code == APR_OK)
        code = share_moments(p, no_moments, NULL, e);
    if (code == APR_OK)
        code = share_classes(p, (struct apr_bytes){ 0 }, NULL, e);
    if (code != APR_OK)
        apr_error_in(e, path);
    return code;
}
