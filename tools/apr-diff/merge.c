/* --merge: the report that one run would have given, out of the JSON of its shares. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "files/source.h"
#include "share.h"

/* Keys that all shares of a run have, with the same value. */
static const char *const shared[] = { "model_a", "model_b", "format_a", "format_b", "threshold", "only_in_a", "only_in_b", "excused", "note",
                                     "metadata", "config", NULL };

/* The names at `key`, borrowed; the caller frees the array. */
static struct apr_bytes *names_at(const json_t *object, const char *key, size_t *n)
{
    const json_t *list = json_object_get(object, key);
    struct apr_bytes *name = malloc((json_array_size(list) + 1) * sizeof *name);
    *n = json_array_size(list);
    for (size_t i = 0; name != NULL && i < *n; i++)
        name[i] = (struct apr_bytes){ (const unsigned char *)json_string_value(json_array_get(list, i)),
                                      json_string_length(json_array_get(list, i)) };
    return name;
}

/* Those of a share that was checked, borrowed; false when memory is out. */
static bool read_excused(struct match *m, const json_t *list)
{
    m->excused = malloc((json_array_size(list) + 1) * sizeof *m->excused);
    for (; m->excused != NULL && m->nexcused < json_array_size(list); m->nexcused++) {
        const json_t *x = json_array_get(list, m->nexcused);
        m->excused[m->nexcused] = (struct excuse){ apr_member_bytes(x, "name"), strcmp(apr_member_text(x, "side"), "b") == 0,
                                                   share_excuse(json_object_get(x, "reason")) };
    }
    return m->excused != NULL;
}

/* The report of shares that were checked, in order. */
static int report_shares(struct options *o, const struct share *share, size_t n, const struct match *m, const struct metadata *metadata,
                         const struct config *config)
{
    const json_t *top = share[0].base.top, *partition = json_object_get(top, "partition");
    const struct subject subject = { apr_member_text(top, "model_a"), apr_member_text(top, "model_b"), apr_member_text(top, "format_a"),
                                     apr_member_text(top, "format_b"), json_is_true(json_object_get(partition, "unmatched_fails")),
                                     config };
    struct output out;
    struct apr_error e;
    o->bounds.cosine = apr_member_real(top, "threshold");
    enum apr_code code = begin_report(&out, o, &subject, &e);
    for (size_t i = 0; code == APR_OK && i < n; i++)
        code = share_rows(&share[i], report_row, &out, &e);
    out.sum.below = 0; /* the bounds of a row are not known here, only how many it broke */
    for (size_t i = 0; i < n; i++)
        out.sum.below += apr_member_count(share[i].base.top, "below_threshold_count");
    return code == APR_OK ? end_report(&out, m, NULL, metadata) : fail_report(&out, &e);
}

static int merge_all(struct options *o, struct share *share, size_t n)
{
    struct apr_error e;
    struct match m = { 0 };
    struct metadata own = { 0 };
    struct config config = { 0 };
    const struct metadata *metadata = NULL;
    enum apr_code code = APR_OK;
    for (size_t i = 0; code == APR_OK && i < n; i++) {
        code = read_share(&share[i], o->cli.operand[i], &o->cli.run, &e);
        if (code == APR_OK)
            code = apr_share_join(&share[i].base, &share[0].base, &e);
    }
    if (code == APR_OK)
        code = apr_shares_fit(share, n, sizeof *share, shared, &e);
    if (code == APR_OK) {
        m.note = apr_member_text(share[0].base.top, "note");
        m.only_a = names_at(share[0].base.top, "only_in_a", &m.nonly_a);
        m.only_b = names_at(share[0].base.top, "only_in_b", &m.nonly_b);
        code = !read_excused(&m, json_object_get(share[0].base.top, "excused")) || m.only_a == NULL || m.only_b == NULL ? apr_no_memory(&e) : share_metadata(&share[0], &own, &metadata, &e);
    }
    if (code == APR_OK)
        code = share_config(&share[0], &config, &e);
    const int exit_code = code == APR_OK ? report_shares(o, share, n, &m, metadata, &config) : fail_early(o, "apr-diff/1", &e);
    free_metadata(&own);
    free_config(&config);
    free_match(&m);
    return exit_code;
}

int merge_shares(struct options *o)
{
    const size_t n = o->cli.noperand;
    struct share *share = calloc(n, sizeof *share);
    struct apr_error e;
    if (share == NULL) {
        apr_no_memory(&e);
        return fail_early(o, "apr-diff/1", &e);
    }
    const int exit_code = merge_all(o, share, n);
    for (size_t i = 0; i < n; i++)
        apr_share_close(&share[i].base);
    free(share);
    return exit_code;
}
