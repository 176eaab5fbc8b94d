/* One tensor, and its values by slices. */
#include <ctype.h>
#include <string.h>

#include "values.h"

#include "base/nearest.h"
#include "model/fetch.h"
#include "model/model.h"
#include "values/chunk.h"
#include "values/dtype.h"

#define CORNER   8 /* rows of the window that is shown without --slice */
#define PER_LINE 6 /* values, and columns of that window */

/* ---- slices --------------------------------------------------------------------------------------------------------- */

static bool read_bound(const char **at, uint64_t dim, uint64_t otherwise, uint64_t *out)
{
    const bool below = **at == '-';
    const char *s = *at + below;
    uint64_t n = 0;
    *out = otherwise;
    if (!below && !isdigit((unsigned char)*s))
        return true;
    if (!isdigit((unsigned char)*s))
        return false;
    for (; isdigit((unsigned char)*s); s++)
        if (!apr_mul(n, 10, &n) || !apr_add(n, (uint64_t)(*s - '0'), &n))
            return false;
    *at = s;
    *out = below ? dim - n : n;
    return n <= dim;
}

/* One part, "A:B", "A:", ":B", ":" or "I"; negative numbers count from the end. */
static bool read_part(const char **at, uint64_t dim, uint64_t *from, uint64_t *to, bool *single)
{
    const char *begin = *at;
    if (!read_bound(at, dim, 0, from))
        return false;
    *single = **at != ':';
    if (*single) {
        *to = *from + 1;
        return *at > begin && *from < dim;
    }
    ++*at;
    return read_bound(at, dim, dim, to) && *from <= *to;
}

static enum apr_code read_slice(struct window *w, const char *text, const uint64_t *dim, unsigned ndim, struct apr_error *e)
{
    const char *at = text;
    for (unsigned i = 0; i < ndim; i++)
        w->to[i] = dim[i];
    for (unsigned i = 0; i < ndim; i++) {
        if (!read_part(&at, dim[i], &w->from[i], &w->to[i], &w->single[i]) || (*at != ',' && *at != 0))
            return apr_fail(e, APR_EARG, APR_NOWHERE, "--slice %s: dimension %u has %llu; a part is A:B or I within it",
                            APR_QUOTED(apr_text(text)), i, (unsigned long long)dim[i]);
        if (*at == 0)
            return APR_OK;
        at++;
    }
    return apr_fail(e, APR_EARG, APR_NOWHERE, "--slice %s: the tensor has only %u dimension%s", APR_QUOTED(apr_text(text)), ndim,
                    ndim == 1 ? "" : "s");
}

/* Without --slice: a corner of the last two dimensions. */
static void take_corner(struct window *w, const struct apr_tensor *t)
{
    for (unsigned i = 0; i < t->ndim; i++)
        w->to[i] = apr_min(t->dim[i], i + 1 == t->ndim ? PER_LINE : i + 2 == t->ndim ? CORNER : 1);
}

static enum apr_code take_window(struct view *v, struct apr_error *e)
{
    if (v->x->o->slice != NULL)
        return read_slice(&v->w, v->x->o->slice, v->in.dim, v->in.ndim, e);
    take_corner(&v->w, &v->in.one);
    return APR_OK;
}

enum apr_code take_run(const struct inspection *x, uint64_t n, uint64_t most, uint64_t *from, uint64_t *to, struct apr_error *e)
{
    struct window w = { .to = { apr_min(n, most) } };
    if (x->o->slice != NULL)
        APR_TRY(read_slice(&w, x->o->slice, &n, 1, e));
    *from = w.from[0];
    *to = w.to[0];
    return APR_OK;
}

static enum apr_code no_tensor(const struct inspection *x, struct apr_error *e)
{
    const struct apr_bytes name = apr_text(x->o->tensor);
    struct apr_nearest near = apr_nearest_to(name);
    for (size_t i = 0; i < x->m->ntensor; i++)
        apr_nearest_try(&near, x->m->tensor[i].name);
    if (near.best.n == 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "there is no tensor %s", APR_QUOTED(name));
    return apr_fail(e, APR_EARG, APR_NOWHERE, "there is no tensor %s (did you mean %s?)", APR_QUOTED(name), APR_QUOTED(near.best));
}

/* What it is made of is there, also behind an address. */
static enum apr_code fetch(const struct inspection *x, const struct apr_tensor *t, struct apr_error *e)
{
    size_t n = 0;
    const struct apr_tensor *const *const part = t->packed == NULL ? NULL : apr_packing_parts(x->packing, (size_t)(t - x->m->tensor), &n);
    for (size_t i = 0; i < n; i++)
        APR_TRY(apr_fetch_tensor(x->opened, part[i], e));
    return apr_fetch_tensor(x->opened, t, e);
}

static enum apr_code open_view(struct view *v, const struct inspection *x, struct apr_error *e)
{
    *v = (struct view){ .x = x, .stored = apr_model_find(x->m, apr_text(x->o->tensor)) };
    if (v->stored == NULL)
        v->stored = apr_model_find(x->opened, apr_text(x->o->tensor)); /* codes, or what is beside them */
    if (v->stored == NULL)
        return no_tensor(x, e);
    APR_TRY(fetch(x, v->stored, e));
    v->in = apr_input_of(x->o->cli.run.kernels, x->m, v->stored);
    return APR_OK;
}

/* ---- values --------------------------------------------------------------------------------------------------------- */

/* What comes before a number of a text. */
static void begin_number(struct printer *p)
{
    if (p->column > 0 && p->column % PER_LINE == 0)
        printf("\n  ");
    p->column++;
}

static void put_number(struct printer *p, double v)
{
    if (p->json != NULL) {
        apr_out_real(p->json, NULL, v);
        return;
    }
    begin_number(p);
    printf(p->whole ? " %12.0f" : " %12.6g", v);
}

static void put_integer(struct printer *p, uint64_t bits, bool is_signed)
{
    if (p->json == NULL)
        begin_number(p);
    if (p->json == NULL && is_signed)
        printf(" %12lld", (long long)(int64_t)bits);
    else if (p->json == NULL)
        printf(" %12llu", (unsigned long long)bits);
    else if (is_signed)
        apr_out_int(p->json, NULL, (int64_t)bits);
    else
        apr_out_count(p->json, NULL, bits);
}

void put_run(struct printer *p, const struct view *v, uint64_t first, uint64_t n)
{
    const bool whole = v->in.whole;
    double values[APR_STRETCH];
    uint64_t bits[APR_STRETCH];
    while (n > 0) {
        const size_t now = (size_t)apr_min(n, APR_STRETCH);
        if (whole)
            apr_input_whole(&v->in, NULL, first, now, bits);
        else
            apr_input_doubles(&v->in, NULL, first, now, values);
        for (size_t i = 0; i < now; i++)
            if (whole)
                put_integer(p, bits[i], v->in.one.dtype->kind == APR_SIGNED);
            else
                put_number(p, values[i]);
        first += now;
        n -= now;
    }
}

/* Which elements follow, for people, where those of dimensions before `level` are fixed: "[3, 0:8, 0:6]". */
static void put_place(const struct view *v, const uint64_t *at, unsigned level)
{
    putchar('[');
    for (unsigned i = 0; i < v->in.ndim; i++) {
        printf("%s%llu", i > 0 ? ", " : "", (unsigned long long)(i < level ? at[i] : v->w.from[i]));
        if (i >= level && !v->w.single[i])
            printf(":%llu", (unsigned long long)v->w.to[i]);
    }
    puts("]");
}

/* All of dimension `level` and below; base is the index of the element that `at` stands for. A matrix has one headline, but rows
 * that take several lines have their own. */
static void put_dimension(struct printer *p, const struct view *v, unsigned level, uint64_t base, uint64_t *at)
{
    const struct window *w = &v->w;
    const unsigned last = v->in.ndim - 1;
    const uint64_t n = w->to[level] - w->from[level];
    const bool nested = p->json != NULL && !w->single[level], wraps = w->to[last] - w->from[last] > PER_LINE;
    base *= v->in.dim[level];
    if (nested)
        apr_out_open(p->json, NULL, '[');
    if (p->json == NULL && level == (wraps || last == 0 ? last : last - 1))
        put_place(v, at, level);
    if (level == last) {
        fputs(p->json == NULL ? "  " : "", stdout);
        p->column = 0;
        put_run(p, v, base + w->from[level], n);
        fputs(p->json == NULL ? "\n" : "", stdout);
    } else {
        for (uint64_t i = w->from[level]; i < w->to[level]; i++) {
            at[level] = i;
            put_dimension(p, v, level + 1, base + i, at);
        }
    }
    if (nested)
        apr_out_close(p->json, ']');
}

static bool is_empty(const struct view *v)
{
    bool empty = false;
    for (unsigned i = 0; i < v->in.ndim; i++)
        empty |= v->w.from[i] == v->w.to[i];
    return empty;
}

/* Where there are no values there are no rows of them either: those could be 2^62. */
static void put_nothing(struct printer *p, const struct view *v)
{
    if (p->json == NULL) {
        put_place(v, NULL, 0);
    } else {
        apr_out_open(p->json, NULL, '[');
        apr_out_close(p->json, ']');
    }
}

static void put_values(struct printer *p, const struct view *v)
{
    uint64_t at[APR_MAX_DIMS] = { 0 };
    p->whole = v->in.one.dtype->kind != APR_REAL;
    if (is_empty(v))
        put_nothing(p, v);
    else if (v->in.ndim > 0)
        put_dimension(p, v, 0, 0, at);
    else
        put_run(p, v, 0, v->in.count);
    if (p->json == NULL && v->in.ndim == 0)
        putchar('\n');
}

static enum apr_code check_decodable(const struct view *v, struct apr_error *e)
{
    if (v->in.decodable)
        return APR_OK;
    return apr_fail_tensor(e, APR_EUNSUPPORTED, APR_NOWHERE, v->in.one.name, ": values of type %s are not decoded", v->in.one.dtype->name);
}

/* ---- the tensor ----------------------------------------------------------------------------------------------------- */

/* All that can be asked for wrongly, before anything is said. */
struct chosen {
    struct apr_bytes bytes;
    uint64_t         at, from_block, to_block;
};

static enum apr_code choose(struct view *v, const struct inspection *x, struct chosen *c, struct apr_error *e)
{
    const struct options *o = x->o;
    *c = (struct chosen){ 0 };
    APR_TRY(open_view(v, x, e));
    if (o->hex)
        APR_TRY(take_bytes(v, &c->bytes, &c->at, e));
    if (o->blocks)
        APR_TRY(take_blocks(v, &c->from_block, &c->to_block, e));
    if (o->hex || o->blocks)
        return APR_OK;
    APR_TRY(check_decodable(v, e));
    return take_window(v, e);
}

int show_tensor(struct inspection *x)
{
    const struct options *o = x->o;
    struct view v;
    struct chosen c;
    struct apr_error e;
    char shape[176], size[32];
    if (choose(&v, x, &c, &e) != APR_OK) {
        apr_error_in(&e, x->path);
        return apr_cli_fail(&o->cli, &e);
    }
    apr_print_bytes(stdout, v.stored->name);
    printf("  %s %s, %s at byte %llu\n", stored_dtype(v.stored)->name, apr_spell_shape(v.stored->dim, v.stored->ndim, shape),
           apr_spell_size(stored_bytes(v.stored), size), (unsigned long long)apr_tensor_offset(x->m, v.stored));
    if (o->hex)
        print_hex(c.bytes, c.at);
    if (o->blocks)
        put_blocks(NULL, &v, c.from_block, c.to_block);
    if (!o->hex && !o->blocks)
        put_values(&(struct printer){ 0 }, &v);
    return APR_EXIT_YES;
}

static void write_values(struct apr_out *j, const struct view *v)
{
    apr_out_open(j, "slice", '[');
    for (unsigned i = 0; i < v->in.ndim; i++)
        apr_out_counts(j, NULL, (uint64_t[]){ v->w.from[i], v->w.to[i] }, 2);
    apr_out_close(j, ']');
    apr_out_key(j, apr_text("values"));
    put_values(&(struct printer){ .json = j }, v);
}

enum apr_code write_tensor(struct apr_out *j, const struct inspection *x, struct apr_error *e)
{
    const struct options *o = x->o;
    struct view v;
    struct chosen c;
    APR_TRY(choose(&v, x, &c, e));
    apr_out_open(j, "tensor", '{');
    apr_out_bytes(j, "name", v.stored->name);
    apr_out_text(j, "dtype", stored_dtype(v.stored)->name);
    apr_out_counts(j, "shape", v.stored->dim, v.stored->ndim);
    if (o->hex) {
        apr_out_count(j, "offset", c.at);
        write_hex(j, c.bytes);
    }
    if (o->blocks)
        put_blocks(j, &v, c.from_block, c.to_block);
    if (!o->hex && !o->blocks)
        write_values(j, &v);
    apr_out_close(j, '}');
    return APR_OK;
}
