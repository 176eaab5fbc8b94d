#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "diff.h"
#include "base/memstream.h"
#include "model/meta.h"

static bool is_split_key(struct apr_bytes key)
{
    return key.n > 6 && memcmp(key.at, "split.", 6) == 0;
}

static int by_key(const void *a, const void *b)
{
    const struct apr_meta_entry *x = *(const struct apr_meta_entry *const *)a, *y = *(const struct apr_meta_entry *const *)b;
    const int order = apr_bytes_compare(x->key, y->key);
    return order != 0 ? order : (x > y) - (x < y);
}

/* Entries by key, without the keys that only tell shards apart; of equal keys the last alone. */
static const struct apr_meta_entry **sorted(const struct apr_meta *meta, size_t *n)
{
    const struct apr_meta_entry **entry = malloc((meta->n + 1) * sizeof *entry);
    size_t kept = 0;
    *n = 0;
    if (entry == NULL)
        return NULL;
    for (size_t i = 0; i < meta->n; i++)
        if (!is_split_key(meta->entry[i].key))
            entry[(*n)++] = &meta->entry[i];
    qsort(entry, *n, sizeof *entry, by_key);
    for (size_t i = 0; i < *n; i++)
        if (i + 1 == *n || !apr_bytes_equal(entry[i]->key, entry[i + 1]->key))
            entry[kept++] = entry[i];
    *n = kept;
    return entry;
}

struct key_pair *pair_keys(const struct apr_meta *a, const struct apr_meta *b, size_t *n)
{
    size_t na, nb, i = 0, k = 0;
    const struct apr_meta_entry **x = sorted(a, &na), **y = sorted(b, &nb);
    struct key_pair *pair = x == NULL || y == NULL ? NULL : malloc((na + nb + 1) * sizeof *pair);
    *n = 0;
    while (pair != NULL && (i < na || k < nb)) {
        const int order = i == na ? 1 : k == nb ? -1 : apr_bytes_compare(x[i]->key, y[k]->key);
        pair[(*n)++] = (struct key_pair){ order <= 0 ? x[i]->key : y[k]->key, order <= 0 ? &x[i]->value : NULL,
                                          order >= 0 ? &y[k]->value : NULL };
        i += order <= 0;
        k += order >= 0;
    }
    free(x);
    free(y);
    return pair;
}

/* ---- comparing ------------------------------------------------------------------------------------------------------ */

#define MOST_SHOWN 16 /* elements of an array that are spelled out */

/* The value as JSON, in the arena; empty for NULL. */
static enum apr_code spell(struct metadata *d, const struct apr_value *v, struct apr_bytes *out, struct apr_error *e)
{
    char *text = NULL;
    size_t n = 0;
    *out = (struct apr_bytes){ 0 };
    if (v == NULL)
        return APR_OK;
    FILE *to = apr_memstream(&text, &n);
    if (to == NULL)
        return apr_no_memory(e);
    apr_out_value(&(struct apr_out){ .to = to }, NULL, v, MOST_SHOWN);
    if (close_text(to, &text))
        *out = apr_arena_copy(&d->arena, (struct apr_bytes){ (const unsigned char *)text, n });
    free(text);
    return out->at == NULL ? apr_no_memory(e) : APR_OK;
}

/* Two arrays: lengths, the first index that differs, how many do, and both elements there. */
static enum apr_code compare_arrays(struct metadata *d, struct key_difference *k, const struct apr_value *a, const struct apr_value *b,
                                    struct apr_error *e)
{
    struct apr_elements wa = apr_elements_of(a), wb = apr_elements_of(b);
    struct apr_value x, y;
    enum apr_code code = APR_OK;
    k->arrays = true;
    for (uint64_t index = 0; code == APR_OK; index++) {
        const bool more_a = apr_elements_next(&wa, &x), more_b = apr_elements_next(&wb, &y);
        k->length_a += more_a;
        k->length_b += more_b;
        if (!more_a && !more_b)
            break;
        if ((more_a && more_b && apr_value_equal(&x, &y)) || k->ndiffer++ > 0)
            continue;
        k->first = index;
        code = spell(d, more_a ? &x : NULL, &k->a, e);
        if (code == APR_OK)
            code = spell(d, more_b ? &y : NULL, &k->b, e);
    }
    apr_elements_end(&wa);
    apr_elements_end(&wb);
    return code;
}

static enum apr_code add_difference(struct metadata *d, const struct key_pair *p, struct apr_error *e)
{
    struct key_difference *k = &d->difference[d->ndifference++];
    *k = (struct key_difference){ .key = p->key, .type_a = apr_text(apr_meta_type_word(p->a->type)),
                                  .type_b = apr_text(apr_meta_type_word(p->b->type)) };
    if (p->a->type == APR_META_ARRAY && p->b->type == APR_META_ARRAY)
        return compare_arrays(d, k, p->a, p->b, e);
    APR_TRY(spell(d, p->a, &k->a, e));
    return spell(d, p->b, &k->b, e);
}

enum apr_code compare_metadata(struct metadata *d, const struct apr_meta *a, const struct apr_meta *b, struct apr_error *e)
{
    size_t n;
    struct key_pair *pair = pair_keys(a, b, &n);
    enum apr_code code = APR_OK;
    *d = (struct metadata){ 0 };
    d->difference = apr_arena_alloc(&d->arena, (n + 1) * sizeof *d->difference);
    d->only_a = apr_arena_alloc(&d->arena, (n + 1) * sizeof *d->only_a);
    d->only_b = apr_arena_alloc(&d->arena, (n + 1) * sizeof *d->only_b);
    if (pair == NULL || d->difference == NULL || d->only_a == NULL || d->only_b == NULL)
        code = apr_no_memory(e);
    for (size_t i = 0; code == APR_OK && i < n; i++) {
        if (pair[i].b == NULL)
            d->only_a[d->nonly_a++] = pair[i].key;
        else if (pair[i].a == NULL)
            d->only_b[d->nonly_b++] = pair[i].key;
        else if (apr_value_equal(pair[i].a, pair[i].b))
            d->identical++;
        else
            code = add_difference(d, &pair[i], e);
    }
    free(pair);
    return code;
}

void free_metadata(struct metadata *d) { apr_arena_free(&d->arena); }

/* ---- JSON ----------------------------------------------------------------------------------------------------------- */

static void write_side(struct apr_out *j, const char *key, struct apr_bytes json)
{
    if (json.n > 0)
        apr_out_raw(j, key, json);
}

static void write_difference(struct apr_out *j, const struct key_difference *k)
{
    apr_out_open(j, NULL, '{');
    apr_out_bytes(j, "key", k->key);
    apr_out_bytes(j, "type_a", k->type_a);
    apr_out_bytes(j, "type_b", k->type_b);
    if (k->arrays && k->ndiffer > 0)
        apr_out_count(j, "first_difference", k->first);
    write_side(j, "a", k->a);
    write_side(j, "b", k->b);
    if (k->arrays) {
        apr_out_count(j, "difference_count", k->ndiffer);
        apr_out_count(j, "length_a", k->length_a);
        apr_out_count(j, "length_b", k->length_b);
    }
    apr_out_close(j, '}');
}

void write_metadata(struct apr_out *j, const char *key, const struct metadata *d)
{
    apr_out_open(j, key, '{');
    if (d != NULL) {
        apr_out_open(j, "differences", '[');
        for (size_t i = 0; i < d->ndifference; i++)
            write_difference(j, &d->difference[i]);
        apr_out_close(j, ']');
        write_names(j, "only_in_a", d->only_a, d->nonly_a);
        write_names(j, "only_in_b", d->only_b, d->nonly_b);
        apr_out_count(j, "identical_count", d->identical);
    }
    apr_out_close(j, '}');
}

/* ---- text ----------------------------------------------------------------------------------------------------------- */

/* A value, and its type where that is the difference. */
static void print_side(const struct key_difference *k, struct apr_bytes json, struct apr_bytes type)
{
    apr_print_bytes(stdout, json.n > 0 ? json : apr_text("nothing"));
    if (!apr_bytes_equal(k->type_a, k->type_b)) {
        fputs(" (", stdout);
        apr_print_bytes(stdout, type);
        putchar(')');
    }
}

static void print_difference(const struct key_difference *k)
{
    fputs("metadata ", stdout);
    apr_print_bytes(stdout, k->key);
    if (k->arrays && k->ndiffer > 0)
        printf(": elements that differ: %llu (lengths %llu, %llu), the first at %llu", (unsigned long long)k->ndiffer,
               (unsigned long long)k->length_a, (unsigned long long)k->length_b, (unsigned long long)k->first);
    fputs(": ", stdout);
    print_side(k, k->a, k->type_a);
    fputs(" against ", stdout);
    print_side(k, k->b, k->type_b);
    putchar('\n');
}

void print_metadata(const struct metadata *d)
{
    for (size_t i = 0; d != NULL && i < d->ndifference; i++)
        print_difference(&d->difference[i]);
    if (d != NULL) {
        print_names("metadata only in A", d->only_a, d->nonly_a);
        print_names("metadata only in B", d->only_b, d->nonly_b);
    }
}
