#include "ui/share.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "files/source.h"
#include "model/model.h"
#include "ui/cli.h"
#include "ui/report.h"

#define MOST_SHARES 1000000u
#define SAMPLES     1024
#define STRETCH     4096

/* ---- cutting -------------------------------------------------------------------------------------------------------- */

bool apr_cli_share(const char *text, uint64_t *k, uint64_t *n)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    *k = strtoull(text, &end, 10);
    if (*end != '/' || end[1] < '0' || end[1] > '9')
        return false;
    *n = strtoull(end + 1, &end, 10);
    return *end == 0 && *k >= 1 && *k <= *n && *n <= MOST_SHARES;
}

uint64_t apr_share_of(uint64_t before, uint64_t total, uint64_t n) { return (uint64_t)((unsigned __int128)before * n / total) + 1; }

static void fold(struct apr_digest *d, const void *bytes, size_t n)
{
    *d = apr_digest_fold(*d, apr_digest_of((struct apr_bytes){ bytes, n }));
}

static void fold_number(struct apr_digest *d, uint64_t n) { *d = apr_digest_fold(*d, (struct apr_digest){ 0, n }); }

/* Where the first tensor of a file begins; its end when it has none. */
static uint64_t first_data(const struct apr_model *m, unsigned file)
{
    const struct apr_bytes map = m->file[file]->map;
    uint64_t first = map.n;
    for (size_t i = 0; i < m->ntensor; i++)
        if (m->tensor[i].file == file && m->tensor[i].data.n > 0)
            first = apr_min(first, apr_tensor_offset(m, &m->tensor[i]));
    return first;
}

static void fold_index(struct apr_digest *d, const struct apr_model *m)
{
    for (size_t i = 0; i < m->ntensor; i++) {
        const struct apr_tensor *t = &m->tensor[i];
        fold(d, t->name.at, t->name.n);
        fold(d, t->dtype->name, strlen(t->dtype->name));
        for (unsigned k = 0; k < t->ndim; k++)
            fold_number(d, t->dim[k]);
        fold_number(d, t->file);
        fold_number(d, apr_tensor_offset(m, t));
        fold_number(d, t->data.n);
    }
}

struct apr_digest apr_share_plan(const struct apr_model *m)
{
    struct apr_digest d = { 0, m->ntensor };
    const struct apr_source *const beside[] = { m->config, m->quant_config };
    uint64_t total = 0;
    for (size_t i = 0; i < m->nfile; i++)
        total += m->file[i]->map.n;
    const uint64_t step = total / SAMPLES > STRETCH ? total / SAMPLES : STRETCH;
    for (size_t i = 0; i < APR_LENGTH(beside); i++)
        if (beside[i] != NULL)
            fold(&d, beside[i]->map.at, beside[i]->map.n);
    fold_index(&d, m);
    for (unsigned i = 0; i < m->nfile; i++) {
        const struct apr_bytes map = m->file[i]->map;
        const uint64_t header = first_data(m, i);
        fold_number(&d, map.n);
        if (map.n > 0)
            fold(&d, map.at, (size_t)header);
        for (uint64_t at = header; at < map.n; at += step)
            fold(&d, map.at + at, (size_t)apr_min(STRETCH, map.n - at));
    }
    return d;
}

void apr_share_begin(struct apr_out *j, uint64_t number, uint64_t of, struct apr_digest plan)
{
    char hex[33];
    apr_out_open(j, "partition", '{');
    apr_out_count(j, "number", number);
    apr_out_count(j, "of", of);
    apr_out_text(j, "plan", apr_digest_spell(plan, hex));
}

/* ---- members -------------------------------------------------------------------------------------------------------- */

uint64_t apr_member_count(const json_t *object, const char *key)
{
    const json_int_t n = json_integer_value(json_object_get(object, key));
    return n < 0 ? 0 : (uint64_t)n;
}

double apr_member_real(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

const char *apr_member_text(const json_t *object, const char *key) { return json_string_value(json_object_get(object, key)); }

struct apr_bytes apr_member_bytes(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    return (struct apr_bytes){ (const unsigned char *)json_string_value(v), json_string_length(v) };
}

unsigned apr_word_index(const json_t *v, const char *const *words, unsigned n)
{
    unsigned i = 0;
    while (i < n && (!json_is_string(v) || strcmp(json_string_value(v), words[i]) != 0))
        i++;
    return i;
}

static bool is_count(const json_t *v) { return json_is_integer(v) && json_integer_value(v) >= 0; }

static bool is_digest(const json_t *v)
{
    struct apr_digest d;
    const struct apr_bytes text = { (const unsigned char *)json_string_value(v), json_string_length(v) };
    return json_is_string(v) && apr_digest_read(text, &d);
}

/* Is it a list of at most so many values, each of that kind? */
static bool is_of_kind(const json_t *v, const struct apr_member *m, enum apr_member_kind kind);

static bool is_list_of(const json_t *v, size_t most, const struct apr_member *m, enum apr_member_kind kind)
{
    bool fine = json_is_array(v) && json_array_size(v) <= most;
    for (size_t i = 0; fine && i < json_array_size(v); i++)
        fine = is_of_kind(json_array_get(v, i), m, kind);
    return fine;
}

static bool is_of_kind(const json_t *v, const struct apr_member *m, enum apr_member_kind kind)
{
    switch (kind) {
    case APR_MEMBER_TEXT:   return json_is_string(v);
    case APR_MEMBER_BOOL:   return json_is_boolean(v);
    case APR_MEMBER_COUNT:  return is_count(v);
    case APR_MEMBER_REAL:   return json_is_number(v) || json_is_null(v);
    case APR_MEMBER_SHAPE:  return is_list_of(v, APR_MAX_DIMS, m, APR_MEMBER_COUNT);
    case APR_MEMBER_COUNTS: return is_list_of(v, SIZE_MAX, m, APR_MEMBER_COUNT);
    case APR_MEMBER_NAMES:  return is_list_of(v, SIZE_MAX, m, APR_MEMBER_TEXT);
    case APR_MEMBER_OBJECT: return json_is_object(v);
    case APR_MEMBER_LIST:   return json_is_array(v);
    case APR_MEMBER_WORD:   return apr_word_index(v, m->words, m->nwords) < m->nwords;
    case APR_MEMBER_WORDS:  return is_list_of(v, m->nwords, m, APR_MEMBER_WORD);
    case APR_MEMBER_DIGEST: return is_digest(v);
    }
    return false;
}

const char *apr_members_wrong(const json_t *object, const struct apr_member *member, size_t n)
{
    if (!json_is_object(object))
        return "object";
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_object_get(object, member[i].name);
        const bool fine = v == NULL ? member[i].absent : (json_is_null(v) && member[i].null) || is_of_kind(v, &member[i], member[i].kind);
        if (!fine)
            return member[i].name;
    }
    return NULL;
}

const char *apr_members_wrong_in(const json_t *list, const struct apr_member *member, size_t n)
{
    const char *wrong = NULL;
    for (size_t i = 0; wrong == NULL && i < json_array_size(list); i++)
        wrong = apr_members_wrong(json_array_get(list, i), member, n);
    return wrong;
}

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

enum apr_code apr_member_find(const struct apr_item *object, const char *word, struct apr_item *found, struct apr_error *e)
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

/* ---- shares --------------------------------------------------------------------------------------------------------- */

enum apr_code apr_share_wrong(const struct apr_share *p, const char *why, const char *key, struct apr_error *e)
{
    apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "is no JSON of %s --partition: %s%s", p->kind->tool, why, key);
    apr_error_in(e, p->s->path);
    return APR_ECORRUPT;
}

/* The index of the large member that an item is, or how many there are. */
static unsigned large_index(const struct apr_share *p, const struct apr_item *item)
{
    unsigned i = 0;
    while (p->kind->large[i] != NULL && !key_is(item, p->kind->large[i]))
        i++;
    return i;
}

static enum apr_code add_member(struct apr_share *p, const struct apr_item *item, struct apr_error *e)
{
    json_t *key, *value;
    APR_TRY(apr_json_load(&key, item->key, item->key_at, e));
    enum apr_code code = apr_json_load(&value, item->value, item->value_at, e);
    if (code == APR_OK && json_object_set_new(p->top, json_string_value(key), value) != 0)
        code = apr_no_memory(e);
    json_decref(key);
    return code;
}

static enum apr_code read_members(struct apr_share *p, struct apr_error *e)
{
    struct apr_walk w;
    struct apr_item item;
    bool more = true;
    APR_TRY(apr_json_load(&p->top, apr_text("{}"), 0, e));
    APR_TRY(apr_walk_in(&w, p->s->map, 0, '{', e));
    for (;;) {
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            return apr_walk_end(&w, e);
        const unsigned large = large_index(p, &item);
        if (p->kind->large[large] != NULL)
            p->large[large] = item;
        else
            APR_TRY(add_member(p, &item, e));
    }
}

static const struct apr_member partition_members[] = {
    { "number", APR_MEMBER_COUNT }, { "of", APR_MEMBER_COUNT }, { "plan", APR_MEMBER_DIGEST },
};

static enum apr_code check_partition(struct apr_share *p, struct apr_error *e)
{
    const json_t *const partition = json_object_get(p->top, "partition");
    const char *const schema = apr_member_text(p->top, "schema");
    if (json_object_get(p->top, "error") != NULL)
        return apr_share_wrong(p, "that run failed", "", e);
    if (schema == NULL || strcmp(schema, p->kind->schema) != 0)
        return apr_share_wrong(p, "its schema is not ", p->kind->schema, e);
    p->number = apr_member_count(partition, "number");
    p->of = apr_member_count(partition, "of");
    if (apr_members_wrong(partition, partition_members, APR_LENGTH(partition_members)) != NULL || p->number == 0 || p->number > p->of)
        return apr_share_wrong(p, "it has no partition number", "", e);
    return APR_OK;
}

enum apr_code apr_share_open(struct apr_share *p, const struct apr_share_kind *kind, const char *path, const struct apr_run *r,
                             struct apr_error *e)
{
    *p = (struct apr_share){ .kind = kind };
    enum apr_code code = apr_source_open(&p->s, path, r, e);
    if (code == APR_OK) {
        p->all = (struct apr_item){ .value = p->s->map };
        code = read_members(p, e);
    }
    if (code == APR_OK)
        code = check_partition(p, e);
    if (code != APR_OK)
        apr_error_in(e, path);
    return code;
}

enum apr_code apr_share_join(struct apr_share *p, const struct apr_share *other, struct apr_error *e)
{
    const char *key;
    json_t *own;
    json_object_foreach(other->top, key, own) {
        const json_t *const same = json_object_get(p->top, key);
        if (same != NULL && same != own && json_equal(same, own) && json_object_set(p->top, key, own) != 0)
            return apr_no_memory(e);
    }
    return APR_OK;
}

void apr_share_close(struct apr_share *p)
{
    json_decref(p->top);
    apr_source_close(p->s);
}

/* ---- all of them ---------------------------------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
    const struct apr_share *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

static bool same_value(const json_t *a, const json_t *b) { return a == NULL || b == NULL ? a == b : json_equal(a, b); }

static enum apr_code misfit(const struct apr_share *p, struct apr_error *e)
{
    apr_error_in(e, p->s->path);
    return e->code;
}

/* Part `due` of `of` should stand here; before: the part before it, or NULL. */
static enum apr_code check_number(const struct apr_share *p, const struct apr_share *before, uint64_t due, uint64_t of, struct apr_error *e)
{
    const unsigned long long number = p->number, all = p->of;
    if (p->of == of && p->number == due)
        return APR_OK;
    if (p->of != of)
        apr_fail(e, APR_EARG, APR_NOWHERE, "is part %llu of %llu, others are of %llu: the parts are of different runs", number, all,
                 (unsigned long long)of);
    else if (before != NULL && p->number == before->number)
        apr_fail(e, APR_EARG, APR_NOWHERE, "is part %llu of %llu, which was given twice", number, all);
    else
        apr_fail(e, APR_EARG, APR_NOWHERE, "is part %llu of %llu, but part %llu was not given", number, all, (unsigned long long)due);
    return misfit(p, e);
}

static enum apr_code check_same(const struct apr_share *p, const struct apr_share *first, const char *const *keys, struct apr_error *e)
{
    for (; *keys != NULL; keys++)
        if (!same_value(json_object_get(p->top, *keys), json_object_get(first->top, *keys))) {
            apr_fail(e, APR_EARG, APR_NOWHERE, "its %s is not that of %s: the parts are of different runs", *keys, first->s->path);
            return misfit(p, e);
        }
    const json_t *const its = json_object_get(p->top, "partition"), *const firsts = json_object_get(first->top, "partition");
    if (strcmp(apr_member_text(its, "plan"), apr_member_text(firsts, "plan")) == 0)
        return APR_OK;
    apr_fail(e, APR_EARG, APR_NOWHERE, "its plan is not that of %s: other options, or the input changed between the two jobs",
             first->s->path);
    return misfit(p, e);
}

enum apr_code apr_shares_fit(void *share, size_t n, size_t size, const char *const *keys, struct apr_error *e)
{
    const struct apr_share *const first = share, *const last = (const void *)((const char *)share + (n - 1) * size);
    qsort(share, n, size, by_number);
    for (size_t i = 0; i < n; i++) {
        const struct apr_share *const p = (const void *)((const char *)share + i * size);
        const struct apr_share *const before = i == 0 ? NULL : (const void *)((const char *)p - size);
        APR_TRY(check_number(p, before, i + 1, first->of, e));
        APR_TRY(check_same(p, first, keys, e));
    }
    return check_number(last, NULL, n == last->of ? n : n + 1, last->of, e);
}
