#include "model/shard_index.h"

#include <stdlib.h>
#include <string.h>

#include "files/source.h"
#include "model/json.h"
#include "model/model.h"

struct place {
    struct apr_bytes tensor, file;
    uint64_t         at;
};

struct apr_shard_index {
    struct place     *place; /* sorted by tensor */
    size_t            nplace, room;
    struct apr_bytes *shard; /* sorted, each once */
    size_t            nshard;
    struct apr_bytes *listed; /* a manifest's shards by number */
    size_t            nlisted, listed_room;
};

bool apr_is_shard_index(struct apr_bytes file)
{
    size_t i = 0;
    while (i < file.n && (file.at[i] == ' ' || file.at[i] == '\t' || file.at[i] == '\r' || file.at[i] == '\n'))
        i++;
    const bool json = i < file.n && file.at[i] == '{';
    /* the length before a SafeTensors header may begin with '{' or a space too, but then zeros follow */
    return json && memchr(file.at, 0, (size_t)apr_min(file.n, 8)) == NULL;
}

void apr_shard_index_free(struct apr_shard_index *index)
{
    if (index == NULL)
        return;
    free(index->place);
    free(index->shard);
    free(index->listed);
    free(index);
}

size_t apr_shard_index_nshard(const struct apr_shard_index *index) { return index->nshard; }
struct apr_bytes apr_shard_index_shard(const struct apr_shard_index *index, size_t i) { return index->shard[i]; }

static int by_tensor(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return apr_bytes_compare(x->tensor, y->tensor);
}

static int by_tensor_and_place(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    const int order = by_tensor(x, y);
    return order != 0 ? order : (x->at > y->at) - (x->at < y->at);
}

static int by_bytes(const void *a, const void *b)
{
    return apr_bytes_compare(*(const struct apr_bytes *)a, *(const struct apr_bytes *)b);
}

/* A shard's name must stay in the folder of its index, and not mean standard input. */
static enum apr_code check_shard_name(struct apr_bytes name, uint64_t at, struct apr_error *e)
{
    static const char *const special[] = { "", ".", "..", "-" };
    bool bad = false;
    for (size_t i = 0; i < APR_LENGTH(special); i++)
        bad |= apr_bytes_is(name, special[i]);
    if (bad || memchr(name.at, '/', name.n) != NULL || memchr(name.at, 0, name.n) != NULL)
        return apr_fail(e, APR_ECORRUPT, at, "%s is no file name for a shard", APR_QUOTED(name));
    return APR_OK;
}

static enum apr_code add_place(struct apr_shard_index *index, struct place p, struct apr_error *e)
{
    struct place *more = apr_grown(index->place, &index->room, index->nplace, 256, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    index->place = more;
    index->place[index->nplace++] = p;
    return APR_OK;
}

static enum apr_code add_listed(struct apr_shard_index *index, struct apr_bytes name, struct apr_error *e)
{
    struct apr_bytes *more = apr_grown(index->listed, &index->listed_room, index->nlisted, 16, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    index->listed = more;
    index->listed[index->nlisted++] = name;
    return APR_OK;
}

/* The file names in a manifest's "shards": [{"filename": ...}, ...]. */
static enum apr_code list_shards(struct apr_shard_index *index, struct apr_model *m, const struct apr_item *shards, struct apr_error *e)
{
    struct apr_walk list, fields;
    struct apr_item entry, field;
    bool more;
    APR_TRY(apr_walk_in(&list, shards->value, shards->value_at, '[', e));
    for (;;) {
        struct apr_bytes name = { 0 };
        APR_TRY(apr_walk_next(&list, &entry, &more, e));
        if (!more)
            return APR_OK;
        APR_TRY(apr_walk_in(&fields, entry.value, entry.value_at, '{', e));
        for (;;) {
            APR_TRY(apr_walk_next(&fields, &field, &more, e));
            if (!more)
                break;
            if (apr_bytes_is(field.key, "\"filename\""))
                APR_TRY(apr_json_string(m, field.value, field.value_at, &name, e));
        }
        if (name.at == NULL)
            return apr_fail(e, APR_ECORRUPT, entry.value_at, "shard number %zu has no \"filename\"", index->nlisted);
        APR_TRY(add_listed(index, name, e));
    }
}

static enum apr_code listed_shard(struct apr_shard_index *index, struct apr_model *m, const struct apr_item *shards, uint64_t n, uint64_t at,
                                  struct apr_bytes *name, struct apr_error *e)
{
    if (shards->value.at == NULL)
        return apr_fail(e, APR_ECORRUPT, at, "a shard by number, but there is no list \"shards\"");
    if (index->listed == NULL)
        APR_TRY(list_shards(index, m, shards, e));
    if (n >= index->nlisted)
        return apr_fail(e, APR_ECORRUPT, at, "shard number %llu, but \"shards\" has %zu entries", (unsigned long long)n, index->nlisted);
    *name = index->listed[n];
    return APR_OK;
}

static enum apr_code read_places(struct apr_shard_index *index, struct apr_model *m, const struct apr_item *map, const struct apr_item *shards,
                                 struct apr_error *e)
{
    struct apr_walk w;
    struct apr_item item;
    bool more;
    APR_TRY(apr_walk_in(&w, map->value, map->value_at, '{', e));
    for (;;) {
        struct place p = { .at = 0 };
        uint64_t number;
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            return APR_OK;
        p.at = item.key_at;
        APR_TRY(apr_json_string(m, item.key, item.key_at, &p.tensor, e));
        if (apr_json_plain(item.value, &number))
            APR_TRY(listed_shard(index, m, shards, number, item.value_at, &p.file, e));
        else
            APR_TRY(apr_json_string(m, item.value, item.value_at, &p.file, e));
        APR_TRY(check_shard_name(p.file, item.value_at, e));
        APR_TRY(add_place(index, p, e));
    }
}

static enum apr_code sort_places(struct apr_shard_index *index, struct apr_error *e)
{
    if (index->nplace == 0)
        return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "its weight_map names no tensor");
    index->shard = malloc(index->nplace * sizeof *index->shard);
    if (index->shard == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < index->nplace; i++)
        index->shard[i] = index->place[i].file;
    qsort(index->shard, index->nplace, sizeof *index->shard, by_bytes);
    for (size_t i = 0; i < index->nplace; i++)
        if (index->nshard == 0 || !apr_bytes_equal(index->shard[index->nshard - 1], index->shard[i]))
            index->shard[index->nshard++] = index->shard[i];
    qsort(index->place, index->nplace, sizeof *index->place, by_tensor_and_place);
    for (size_t i = 1; i < index->nplace; i++)
        if (apr_bytes_equal(index->place[i - 1].tensor, index->place[i].tensor))
            return apr_fail(e, APR_ECORRUPT, index->place[i].at, "its weight_map names tensor %s twice",
                            APR_QUOTED(index->place[i].tensor));
    return APR_OK;
}

static enum apr_code read_index(struct apr_shard_index *index, struct apr_model *m, const struct apr_source *s, struct apr_error *e)
{
    struct apr_walk w;
    struct apr_item item, map = { 0 }, shards = { 0 };
    bool more = true;
    if (s->map.n > APR_MOST_INDEX)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "has %zu bytes, of an index at most %zu are read", s->map.n, (size_t)APR_MOST_INDEX);
    APR_TRY(apr_walk_in(&w, s->map, 0, '{', e));
    for (;;) {
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            break;
        if (apr_bytes_is(item.key, "\"weight_map\""))
            map = item;
        else if (apr_bytes_is(item.key, "\"shards\""))
            shards = item;
        else
            APR_TRY(apr_json_check(item.value, item.value_at, e));
    }
    APR_TRY(apr_walk_end(&w, e));
    if (map.value.at == NULL)
        return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "is JSON with no \"weight_map\", so neither a model nor an index of one: name the folder that it lies in, or fetch the model itself");
    APR_TRY(read_places(index, m, &map, &shards, e));
    return sort_places(index, e);
}

enum apr_code apr_shard_index_read(struct apr_shard_index **out, struct apr_model *m, const struct apr_source *s, struct apr_error *e)
{
    *out = calloc(1, sizeof **out);
    return *out == NULL ? apr_no_memory(e) : apr_found(read_index(*out, m, s, e), e, "index.syntax");
}

enum apr_code apr_shard_index_explain(const struct apr_shard_index *index, size_t shard, const struct apr_source *s, struct apr_error *e)
{
    const struct place *p = index->place;
    while (!apr_bytes_equal(p->file, index->shard[shard]))
        p++;
    apr_fail_tensor(e, APR_EIO, p->at, p->tensor, " should be in shard %s, which is not there", APR_QUOTED(p->file));
    apr_error_in(e, s->path);
    e->finding = "index.missing_shard";
    return APR_EIO;
}

enum apr_code apr_shard_index_check(const struct apr_shard_index *index, const struct apr_model *m, const struct apr_source *s, struct apr_error *e)
{
    enum apr_code code = APR_OK;
    for (size_t i = 0; code == APR_OK && i < m->ntensor; i++) {
        const struct apr_tensor *t = &m->tensor[i];
        const struct apr_bytes in = index->shard[t->file];
        const struct place key = { .tensor = t->name };
        const struct place *p = bsearch(&key, index->place, index->nplace, sizeof *index->place, by_tensor);
        if (p == NULL)
            code = apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "shard %s holds tensor %s, which the index does not name", APR_QUOTED(in),
                            APR_QUOTED(t->name));
        else if (!apr_bytes_equal(p->file, in))
            code = apr_fail_tensor(e, APR_ECORRUPT, p->at, t->name, " should be in shard %s, but is in %s",
                            APR_QUOTED(p->file), APR_QUOTED(in));
    }
    for (size_t i = 0; code == APR_OK && i < index->nplace; i++) {
        const struct place *p = &index->place[i];
        if (apr_model_find(m, p->tensor) == NULL)
            code = apr_fail_tensor(e, APR_ECORRUPT, p->at, p->tensor, " should be in shard %s, which does not hold it",
                            APR_QUOTED(p->file));
    }
    if (code != APR_OK)
        apr_error_in(e, s->path);
    return apr_found(code, e, "index.shards");
}
