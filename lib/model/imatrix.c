/* Two forms, all numbers little-endian:
 *   GGUF  tensors NAME.in_sum2 (F32, the sums of squares of each input column, matrix by matrix) and NAME.counts (F32, one a matrix: how
 *         many inputs were summed); keys imatrix.datasets, imatrix.chunk_count, imatrix.chunk_size
 *   .dat  | i32 entries | each: i32 n, n bytes of name | i32 calls | i32 n, n f32 of mean * calls | then, if anything,
 *         | i32 chunks  | i32 n, n bytes of dataset  | */
#include "model/imatrix.h"

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/cursor.h"
#include "base/emit.h"
#include "base/table.h"
#include "files/source.h"
#include "model/format.h"
#include "model/meta.h"
#include "model/mistake.h"
#include "model/open.h"

#define MOST_NAME    1024 /* bytes; ggml has room for 63 */
#define LEAST_ENTRY  17   /* bytes of a .dat: name and values of one each */
#define PIECE        4096 /* weights */

/* ---- numbers -------------------------------------------------------------------------------------------------------- */

static float float_at(const unsigned char *at, uint64_t i, bool swapped)
{
    const unsigned char *const b = at + 4 * i;
    const uint32_t little = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
    const uint32_t bits = swapped ? __builtin_bswap32(little) : little;
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* What sum i is divided by; 0: nothing was counted. A count is a whole number. */
static float divisor(const struct apr_imatrix_entry *x, uint64_t i)
{
    return x->count == NULL ? x->calls : roundf(float_at(x->count, i / (x->n / x->ncount), x->swapped));
}

void apr_imatrix_weights(const struct apr_imatrix_entry *x, uint64_t first, uint64_t n, float *out)
{
    const uint64_t ncol = x->n / x->ncount, last = first + n;
    for (uint64_t i = first; i < last;) {
        const float by = divisor(x, i);
        for (const uint64_t end = apr_min(last, (i / ncol + 1) * ncol); i < end; i++)
            out[i - first] = by > 0 ? float_at(x->sum, i, x->swapped) / by : 1;
    }
}

/* Where it stands in the file. */
static uint64_t offset_of(const struct apr_imatrix *im, const unsigned char *at) { return (uint64_t)(at - im->source->map.at); }

static enum apr_code wrong_number(const struct apr_imatrix *im, const struct apr_imatrix_entry *x, const char *what,
                                  const unsigned char *numbers, uint64_t i, struct apr_error *e)
{
    const float v = float_at(numbers, i, x->swapped);
    return apr_fail(e, APR_ECORRUPT, offset_of(im, numbers + 4 * i), "entry %s: %s %" PRIu64 " is %s", APR_QUOTED(x->name), what, i,
                    isnan(v) ? "NaN" : isinf(v) ? "infinite" : "negative");
}

static enum apr_code check_numbers(const struct apr_imatrix *im, const struct apr_imatrix_entry *x, struct apr_error *e)
{
    for (uint64_t i = 0; x->count != NULL && i < x->ncount; i++)
        if (!isfinite(float_at(x->count, i, x->swapped)))
            return wrong_number(im, x, "count", x->count, i, e);
    for (uint64_t i = 0; i < x->n; i++) {
        const float v = float_at(x->sum, i, x->swapped);
        if (!(v >= 0 && v <= FLT_MAX))
            return wrong_number(im, x, "sum", x->sum, i, e);
    }
    return APR_OK;
}

/* Of the name, and of the weights as little-endian floats. */
static struct apr_digest digest_of(const struct apr_imatrix_entry *x)
{
    float weight[PIECE];
    unsigned char bytes[4 * PIECE];
    struct apr_digest d = apr_digest_of(x->name);
    for (uint64_t first = 0; first < x->n; first += PIECE) {
        const size_t n = (size_t)apr_min(PIECE, x->n - first);
        apr_imatrix_weights(x, first, n, weight);
        for (size_t i = 0; i < n; i++) {
            uint32_t bits;
            memcpy(&bits, &weight[i], sizeof bits);
            apr_put_integer(bytes + 4 * i, bits, 4);
        }
        d = apr_digest_fold(d, apr_digest_of((struct apr_bytes){ bytes, 4 * n }));
    }
    return d;
}

/* ---- entries -------------------------------------------------------------------------------------------------------- */

static enum apr_code corrupt_entry(struct apr_bytes name, uint64_t at, const char *what, struct apr_error *e)
{
    return apr_fail(e, APR_ECORRUPT, at, "entry %s: %s", APR_QUOTED(name), what);
}

static enum apr_code add_entry(struct apr_imatrix *im, struct apr_imatrix_entry x, struct apr_error *e)
{
    struct apr_imatrix_entry *const more = apr_grown(im->entry, &im->room, im->nentry, 64, sizeof *more);
    if (more == NULL)
        return apr_no_memory(e);
    im->entry = more;
    im->entry[im->nentry++] = x;
    return APR_OK;
}

static int by_name(const void *a, const void *b)
{
    const struct apr_imatrix_entry *const x = a, *const y = b;
    const int order = apr_bytes_compare(x->name, y->name);
    return order != 0 ? order : (x->sum > y->sum) - (x->sum < y->sum);
}

/* Sorts the entries, looks at all their numbers, and lets the pages go again. */
static enum apr_code check_entries(struct apr_imatrix *im, struct apr_error *e)
{
    qsort(im->entry, im->nentry, sizeof *im->entry, by_name);
    for (size_t i = 0; i < im->nentry; i++) {
        const struct apr_imatrix_entry *const x = &im->entry[i];
        if (i > 0 && apr_bytes_equal(x->name, x[-1].name))
            return corrupt_entry(x->name, offset_of(im, x->name.at), "the name stands twice", e);
        APR_TRY(check_numbers(im, x, e));
        im->digest = apr_digest_fold(im->digest, digest_of(x));
        apr_drop_behind(im->source->map, (struct apr_bytes){ x->sum, (size_t)(4 * x->n) });
    }
    return APR_OK;
}

const struct apr_imatrix_entry *apr_imatrix_find(const struct apr_imatrix *im, struct apr_bytes name)
{
    size_t low = 0, high = im->nentry;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = apr_bytes_compare(im->entry[middle].name, name);
        if (order == 0)
            return &im->entry[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

enum apr_code apr_imatrix_of(const struct apr_imatrix *im, struct apr_bytes name, uint64_t ncol, uint64_t nmatrix,
                             const struct apr_imatrix_entry **x, struct apr_error *e)
{
    uint64_t wanted = 0;
    const bool fits = apr_mul(ncol, nmatrix, &wanted);
    const bool looked_up = apr_bytes_is(name, "token_embd.weight") || apr_bytes_is(name, "per_layer_token_embd.weight");
    *x = apr_imatrix_find(im, name);
    if (*x == NULL || (fits && (*x)->n == wanted))
        return APR_OK;
    const uint64_t n = (*x)->n;
    *x = NULL;
    if (looked_up)
        return APR_OK;
    apr_fail_tensor(e, APR_EARG, APR_NOWHERE, name, ": the importance matrix has %" PRIu64 " weights for it, expected %" PRIu64
                    " for %" PRIu64 " columns of %" PRIu64 " matri%s", n, wanted, ncol, nmatrix, nmatrix == 1 ? "x" : "ces");
    apr_error_in(e, im->source->path);
    return APR_EARG;
}

/* ---- GGUF ----------------------------------------------------------------------------------------------------------- */

static bool cut_suffix(struct apr_bytes *name, const char *suffix)
{
    const size_t n = strlen(suffix);
    if (name->n < n || memcmp(name->at + name->n - n, suffix, n) != 0)
        return false;
    name->n -= n;
    return true;
}

/* Takes in NAME.in_sum2 or NAME.counts; other tensors are nothing. place: of each name, its entry. */
static enum apr_code take_tensor(struct apr_imatrix *im, struct apr_table *place, const struct apr_tensor *t, struct apr_error *e)
{
    struct apr_bytes name = t->name;
    const uint64_t at = offset_of(im, t->name.at);
    const bool sums = cut_suffix(&name, ".in_sum2");
    if (!sums && !cut_suffix(&name, ".counts"))
        return APR_OK;
    if (name.n == 0 || t->dtype != &apr_dtypes[APR_F32] || t->count == 0)
        return apr_fail_tensor(e, APR_ECORRUPT, at, t->name, ": %" PRIu64 " values of type %s, expected some of F32 and a name before that",
                               t->count, t->dtype->name);
    bool fresh;
    union apr_table_value *const index = apr_table_put(place, name, &fresh);
    if (index == NULL)
        return apr_no_memory(e);
    if (fresh) {
        index->number = im->nentry;
        APR_TRY(add_entry(im, (struct apr_imatrix_entry){ .name = name, .swapped = t->swapped }, e));
    }
    struct apr_imatrix_entry *const x = &im->entry[index->number];
    *(sums ? &x->sum : &x->count) = t->data.at;
    *(sums ? &x->n : &x->ncount) = t->count;
    return APR_OK;
}

static enum apr_code check_pair(const struct apr_imatrix *im, const struct apr_imatrix_entry *x, struct apr_error *e)
{
    const uint64_t at = offset_of(im, x->name.at);
    if (x->sum == NULL || x->count == NULL)
        return corrupt_entry(x->name, at, x->sum == NULL ? "it has .counts, but no .in_sum2" : "it has .in_sum2, but no .counts", e);
    if (x->n % x->ncount != 0)
        return apr_fail(e, APR_ECORRUPT, at, "entry %s: %" PRIu64 " sums do not divide among %" PRIu64 " counts", APR_QUOTED(x->name), x->n,
                        x->ncount);
    return APR_OK;
}

static enum apr_code take_tensors(struct apr_imatrix *im, struct apr_error *e)
{
    struct apr_table place = { 0 };
    enum apr_code code = APR_OK;
    for (size_t i = 0; code == APR_OK && i < im->m->ntensor; i++)
        code = take_tensor(im, &place, &im->m->tensor[i], e);
    apr_table_free(&place);
    for (size_t i = 0; code == APR_OK && i < im->nentry; i++)
        code = check_pair(im, &im->entry[i], e);
    return code != APR_OK || im->nentry > 0 ? code : apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "is an importance matrix without entries");
}

/* The model has what llama-quantize wants of an importance matrix, or it is none. */
static enum apr_code check_keys(const struct apr_model *m, struct apr_error *e)
{
    static const char *const keys[] = { "imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size" };
    const struct apr_bytes type = apr_meta_string(&m->meta, "general.type"), kind = apr_meta_string(&m->meta, "general.architecture");
    size_t i = 0;
    while (i < APR_LENGTH(keys) && apr_meta_find(&m->meta, keys[i]) != NULL)
        i++;
    if (apr_bytes_is(type, "imatrix") && i < APR_LENGTH(keys))
        return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "is an importance matrix without the key %s", keys[i]);
    if (i == APR_LENGTH(keys) && (type.n == 0 || apr_bytes_is(type, "imatrix")))
        return APR_OK;
    return apr_fail(e, APR_EARG, APR_NOWHERE, "is a %s (%s%s%s), no importance matrix", m->format->trace ? "trace" : "model",
                    m->format->title, kind.n > 0 ? ", architecture " : "", kind.n > 0 ? APR_QUOTED(kind) : "");
}

static enum apr_code take_datasets(struct apr_imatrix *im, const struct apr_value *v, struct apr_error *e)
{
    struct apr_value text;
    if (v->type != APR_META_ARRAY || v->element != APR_META_STRING)
        return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "imatrix.datasets is no array of strings");
    im->dataset = calloc((size_t)v->n + 1, sizeof *im->dataset); /* v->n met the bytes of the file when it was read */
    if (im->dataset == NULL)
        return apr_no_memory(e);
    struct apr_elements w = apr_elements_of(v);
    while (im->ndataset < v->n && apr_elements_next(&w, &text))
        im->dataset[im->ndataset++] = text.text;
    return apr_elements_done(&w, APR_OK, e);
}

static enum apr_code read_model(struct apr_imatrix *im, struct apr_error *e)
{
    uint64_t chunks;
    APR_TRY(check_keys(im->m, e));
    APR_TRY(take_datasets(im, apr_meta_find(&im->m->meta, "imatrix.datasets"), e));
    if (!apr_meta_unsigned(&im->m->meta, "imatrix.chunk_count", &chunks) || chunks > INT32_MAX)
        return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "imatrix.chunk_count is no number of chunks");
    im->chunks = (uint32_t)chunks;
    return take_tensors(im, e);
}

/* ---- .dat ----------------------------------------------------------------------------------------------------------- */

/* An i32 that counts what follows, 0 when it is negative: none of them may be. */
static uint32_t take_count(struct apr_cursor *c)
{
    const uint32_t n = apr_u32(c);
    c->bad |= n > INT32_MAX;
    return c->bad ? 0 : n;
}

static bool take_name(struct apr_cursor *c, struct apr_bytes *name)
{
    const uint32_t n = take_count(c);
    *name = apr_take_bytes(c, n);
    return !c->bad && n > 0 && n <= MOST_NAME && apr_is_utf8(*name) && memchr(name->at, 0, n) == NULL;
}

static enum apr_code read_dat_entry(struct apr_imatrix *im, struct apr_cursor *c, uint32_t i, uint32_t count, struct apr_error *e)
{
    struct apr_imatrix_entry x = { .ncount = 1 };
    const size_t at = c->at;
    if (!take_name(c, &x.name))
        return apr_fail(e, APR_ECORRUPT, at, "entry %" PRIu32 " of %" PRIu32 " has no sound name", i + 1, count);
    const int32_t calls = (int32_t)apr_u32(c);
    x.n = take_count(c);
    x.sum = apr_take_bytes(c, 4 * x.n).at;
    x.calls = calls > 0 ? (float)calls : 1;
    if (c->bad)
        return corrupt_entry(x.name, at, "its values reach past the end of the file", e);
    if (x.n == 0)
        return corrupt_entry(x.name, at, "it has no values", e);
    return add_entry(im, x, e);
}

/* What stands behind the entries: nothing, chunks, or chunks and a dataset. */
static enum apr_code read_dat_tail(struct apr_imatrix *im, struct apr_cursor *c, struct apr_error *e)
{
    const size_t at = c->at;
    if (apr_left(c) == 0)
        return APR_OK;
    const int32_t chunks = (int32_t)apr_u32(c);
    const struct apr_bytes text = apr_left(c) == 0 ? (struct apr_bytes){ 0 } : apr_take_bytes(c, take_count(c));
    if (c->bad || apr_left(c) > 0)
        return apr_fail(e, APR_ECORRUPT, at, "behind its entries stands something else than chunks and a dataset");
    im->chunks = chunks > 0 ? (uint32_t)chunks : 0;
    if (text.n == 0)
        return APR_OK;
    im->dataset = calloc(1, sizeof *im->dataset);
    if (im->dataset == NULL)
        return apr_no_memory(e);
    im->dataset[im->ndataset++] = (struct apr_bytes){ text.at, strnlen((const char *)text.at, text.n) };
    return APR_OK;
}

/* The form has no mark of its own: it is one that begins with a possible number of entries and a sound name. */
static enum apr_code read_dat(struct apr_imatrix *im, struct apr_error *e)
{
    const struct apr_bytes file = im->source->map;
    struct apr_cursor c = apr_cursor_on(file), ahead;
    struct apr_bytes name;
    const uint32_t count = take_count(&c);
    ahead = c;
    if (count == 0 || count > apr_left(&c) / LEAST_ENTRY || !take_name(&ahead, &name))
        return apr_no_such_file(file, "importance matrix, neither as a GGUF nor as a .dat of old", e);
    for (uint32_t i = 0; i < count; i++)
        APR_TRY(read_dat_entry(im, &c, i, count, e));
    return read_dat_tail(im, &c, e);
}

/* ---- both ----------------------------------------------------------------------------------------------------------- */

static enum apr_code read_file(struct apr_imatrix *im, const char *path, const struct apr_run *r, struct apr_error *e)
{
    struct apr_source *s;
    struct stat st;
    const enum apr_code opened = apr_source_open(&s, path, r, e);
    if (opened == APR_EIO && stat(path, &st) != 0 && errno == ENOENT)
        apr_explain_absent(path, e);
    if (opened != APR_OK)
        return opened;
    const struct apr_bytes start = { s->map.at, (size_t)apr_min(s->map.n, 64) };
    const struct apr_format *const *f = apr_formats;
    while (*f != NULL && !(*f)->probe(start, s->map.n))
        f++;
    if (*f != NULL)
        APR_TRY(apr_open_source(&im->m, s, *f, r, e));
    im->source = s; /* the model's from now on, where there is one */
    return im->m != NULL ? read_model(im, e) : read_dat(im, e);
}

enum apr_code apr_imatrix_open(struct apr_imatrix **im, const char *path, const struct apr_run *r, struct apr_error *e)
{
    struct apr_error why;
    struct apr_imatrix *const x = *im = calloc(1, sizeof *x);
    if (x == NULL)
        return apr_no_memory(e);
    enum apr_code code = read_file(x, path, r, e);
    if (code == APR_OK)
        code = check_entries(x, e);
    if (x->source != NULL && apr_imatrix_unchanged(x, &why) != APR_OK) { /* what was found is no news about the file */
        *e = why;
        code = why.code;
    }
    if (code == APR_OK)
        return APR_OK;
    apr_error_in(e, path);
    apr_imatrix_close(x);
    *im = NULL;
    return code;
}

void apr_imatrix_close(struct apr_imatrix *im)
{
    if (im == NULL)
        return;
    if (im->m != NULL)
        apr_close(im->m);
    else
        apr_source_close(im->source);
    free(im->entry);
    free(im->dataset);
    free(im);
}

enum apr_code apr_imatrix_unchanged(const struct apr_imatrix *im, struct apr_error *e) { return apr_source_intact(im->source, e); }
