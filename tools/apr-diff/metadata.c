#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "diff.h"
#include "model/json.h"
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

/* Entries by key, without the keys that only tell shards apart; of twins the last alone. */
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

/* ---- JSON ----------------------------------------------------------------------------------------------------------- */

/* Two arrays: lengths, the first index that differs, how many do, and both elements there. */
static void write_array_difference(struct apr_out *j, const struct apr_value *a, const struct apr_value *b)
{
    struct apr_elements wa = apr_elements_of(a), wb = apr_elements_of(b);
    struct apr_value x, y;
    uint64_t index = 0, ndiffer = 0, na = 0, nb = 0;
    for (;; index++) {
        const bool more_a = apr_elements_next(&wa, &x), more_b = apr_elements_next(&wb, &y);
        na += more_a;
        nb += more_b;
        if (!more_a && !more_b)
            break;
        if (more_a && more_b && apr_value_equal(&x, &y))
            continue;
        if (ndiffer++ == 0) {
            apr_out_count(j, "first_difference", index);
            if (more_a)
                apr_out_value(j, "a", &x, 16);
            if (more_b)
                apr_out_value(j, "b", &y, 16);
        }
    }
    apr_out_count(j, "difference_count", ndiffer);
    apr_out_count(j, "length_a", na);
    apr_out_count(j, "length_b", nb);
    apr_elements_end(&wa);
    apr_elements_end(&wb);
}

static void write_difference(struct apr_out *j, struct apr_bytes key, const struct apr_value *a, const struct apr_value *b)
{
    apr_out_open(j, NULL, '{');
    apr_out_bytes(j, "key", key);
    apr_out_text(j, "type_a", apr_meta_type_word(a->type));
    apr_out_text(j, "type_b", apr_meta_type_word(b->type));
    if (a->type == APR_META_ARRAY && b->type == APR_META_ARRAY) {
        write_array_difference(j, a, b);
    } else {
        apr_out_value(j, "a", a, 16);
        apr_out_value(j, "b", b, 16);
    }
    apr_out_close(j, '}');
}

static bool differs(const struct key_pair *p) { return p->a != NULL && p->b != NULL && !apr_value_equal(p->a, p->b); }

static void write_metadata(struct apr_out *j, const struct key_pair *pair, size_t n)
{
    uint64_t equal = n;
    apr_out_open(j, NULL, '{');
    apr_out_open(j, "differences", '[');
    for (size_t i = 0; i < n; i++)
        if (differs(&pair[i]))
            write_difference(j, pair[i].key, pair[i].a, pair[i].b);
    apr_out_close(j, ']');
    for (int b = 0; b < 2; b++) {
        apr_out_open(j, b ? "only_in_b" : "only_in_a", '[');
        for (size_t i = 0; i < n; i++)
            if ((b ? pair[i].a : pair[i].b) == NULL)
                apr_out_bytes(j, NULL, pair[i].key);
        apr_out_close(j, ']');
    }
    for (size_t i = 0; i < n; i++)
        equal -= differs(&pair[i]) || pair[i].a == NULL || pair[i].b == NULL;
    apr_out_count(j, "identical_count", equal);
    apr_out_close(j, '}');
}

enum apr_code compare_metadata(char **json, const struct apr_meta *a, const struct apr_meta *b, struct apr_error *e)
{
    size_t n, size;
    struct key_pair *pair = pair_keys(a, b, &n);
    FILE *to = pair == NULL ? NULL : open_memstream(json, &size);
    if (to == NULL) {
        free(pair);
        return apr_no_memory(e);
    }
    write_metadata(&(struct apr_out){ .to = to }, pair, n);
    free(pair);
    return close_text(to, json) ? APR_OK : apr_no_memory(e);
}

/* ---- text ----------------------------------------------------------------------------------------------------------- */

/* Members of a difference, as they are spelled. */
enum member { MEMBER_KEY, MEMBER_TYPE_A, MEMBER_TYPE_B, MEMBER_A, MEMBER_B, MEMBER_FIRST, MEMBER_COUNT, MEMBER_LENGTH_A, MEMBER_LENGTH_B,
              NMEMBER };
static const char *const member_words[NMEMBER] = { "\"key\"", "\"type_a\"", "\"type_b\"", "\"a\"", "\"b\"", "\"first_difference\"",
                                                   "\"difference_count\"", "\"length_a\"", "\"length_b\"" };

static void print_unquoted(struct apr_bytes quoted)
{
    if (quoted.n >= 2)
        apr_print_bytes(stdout, (struct apr_bytes){ quoted.at + 1, quoted.n - 2 });
}

static void print_labelled(const char *label, struct apr_bytes json)
{
    fputs(label, stdout);
    apr_print_bytes(stdout, json);
}

/* A value, and its type where that is the difference. */
static void print_side(const struct apr_bytes *member, enum member value, enum member type)
{
    print_labelled("", member[value].n > 0 ? member[value] : apr_text("nothing"));
    if (!apr_bytes_equal(member[MEMBER_TYPE_A], member[MEMBER_TYPE_B])) {
        fputs(" (", stdout);
        print_unquoted(member[type]);
        putchar(')');
    }
}

static enum apr_code print_difference(const struct apr_item *difference, struct apr_error *e)
{
    struct apr_bytes member[NMEMBER] = { 0 };
    struct apr_walk w;
    struct apr_item item;
    bool more;
    APR_TRY(apr_walk_in(&w, difference->value, difference->value_at, '{', e));
    for (;;) {
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            break;
        for (unsigned i = 0; i < NMEMBER; i++)
            if (apr_bytes_equal(item.key, apr_text(member_words[i])))
                member[i] = item.value;
    }
    fputs("metadata ", stdout);
    print_unquoted(member[MEMBER_KEY]);
    if (member[MEMBER_FIRST].n > 0) {
        print_labelled(": elements that differ: ", member[MEMBER_COUNT]);
        print_labelled(" (lengths ", member[MEMBER_LENGTH_A]);
        print_labelled(", ", member[MEMBER_LENGTH_B]);
        print_labelled("), the first at ", member[MEMBER_FIRST]);
    }
    fputs(": ", stdout);
    print_side(member, MEMBER_A, MEMBER_TYPE_A);
    fputs(" against ", stdout);
    print_side(member, MEMBER_B, MEMBER_TYPE_B);
    putchar('\n');
    return APR_OK;
}

static enum apr_code print_member(const struct apr_item *member, struct apr_error *e)
{
    const bool differences = apr_bytes_equal(member->key, apr_text("\"differences\""));
    const bool in_a = apr_bytes_equal(member->key, apr_text("\"only_in_a\""));
    struct apr_walk w;
    struct apr_item item;
    bool more;
    if (!differences && !in_a && !apr_bytes_equal(member->key, apr_text("\"only_in_b\"")))
        return APR_OK;
    APR_TRY(apr_walk_in(&w, member->value, member->value_at, '[', e));
    for (;;) {
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            return APR_OK;
        if (differences) {
            APR_TRY(print_difference(&item, e));
        } else {
            fputs(in_a ? "metadata only in A  " : "metadata only in B  ", stdout);
            print_unquoted(item.value);
            putchar('\n');
        }
    }
}

enum apr_code print_metadata(struct apr_bytes json, struct apr_error *e)
{
    struct apr_walk w;
    struct apr_item item;
    bool more = true;
    APR_TRY(apr_walk_in(&w, json, 0, '{', e));
    for (;;) {
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            return APR_OK;
        APR_TRY(print_member(&item, e));
    }
}
