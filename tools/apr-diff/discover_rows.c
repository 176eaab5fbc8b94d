/* Tensors that share rows or columns: moved about, transposed, parts of each other. Every row has a class, so a tensor is a string of
 * classes, and what became of it is read from the strings. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "discover_search.h"

#define MOST_ATOMS 1500000u /* rows and columns at a time: 72 bytes each */
#define LEAST_WIDTH 4u      /* elements of a row, below which very many rows tell nothing: */
#define MOST_NARROW 65536u
#define MOST_TWINS 8u       /* rows of a class on one side, above which they say nothing */

static void free_search(struct search *w)
{
    free(w->view);
    free(w->lane);
    free(w->norm);
    free(w->key);
    free(w->class);
    free(w->first);
    free(w->atom);
    free(w->of);
    free(w->edge);
    free(w->votes);
}

/* ---- views ---------------------------------------------------------------------------------------------------------- */

static struct view view_of(struct item *item, bool turned)
{
    const uint64_t *dim = item->dim + item->ndim - 2;
    return (struct view){ .item = item, .turned = turned, .slabs = item->t->count / (dim[0] * dim[1]), .rows = dim[turned],
                          .width = dim[!turned] };
}

/* Those of one side, as they lie before turned ones, as many as there is room for. */
static void add_views(struct search *w, bool of_b)
{
    const struct discovery *d = w->d;
    const size_t most = (size_t)MOST_ATOMS / 2 * (of_b ? 2 : 1);
    for (unsigned turned = 0; turned < 2; turned++)
        for (size_t i = 0; i < d->nitem; i++) {
            if (d->item[i].used || d->item[i].of_b != of_b || d->item[i].ndim < 2)
                continue;
            struct view v = view_of(&d->item[i], turned);
            v.first = w->natom;
            if (natoms(&v) > most - w->natom || (v.width < LEAST_WIDTH && natoms(&v) > MOST_NARROW))
                continue;
            w->view[w->nview++] = v;
            w->natom += (size_t)natoms(&v);
        }
}

static enum apr_code prepare(struct search *w, struct apr_error *e)
{
    w->view = malloc((2 * w->d->nitem + 1) * sizeof *w->view);
    if (w->view == NULL)
        return apr_no_memory(e);
    add_views(w, false);
    w->nb = w->nview;
    add_views(w, true);
    w->lane = malloc((w->natom + 1) * sizeof *w->lane);
    w->norm = malloc((w->natom + 1) * sizeof *w->norm);
    w->key = malloc((w->natom + 1) * sizeof *w->key);
    w->class = malloc((w->natom + 1) * sizeof *w->class);
    w->atom = malloc((w->natom + 1) * sizeof *w->atom);
    w->of = malloc((w->natom + 1) * sizeof *w->of);
    w->votes = calloc(w->nview + 1, sizeof *w->votes);
    if (w->lane == NULL || w->norm == NULL || w->key == NULL || w->class == NULL || w->atom == NULL || w->of == NULL || w->votes == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < w->nview; i++)
        for (uint64_t k = w->view[i].first; k < w->view[i].first + natoms(&w->view[i]); k++) {
            w->of[k] = (uint32_t)i;
            w->key[k] = class_key(w->view[i].width, w->view[i].item->of_b);
        }
    return sketch_rows(w->d, w->view, w->nview, w->lane, w->norm, e);
}

/* ---- edges ---------------------------------------------------------------------------------------------------------- */

/* Lists A's atoms by class; those of nothing but zeros tell nothing. */
static enum apr_code list_classes(struct search *w, struct apr_error *e)
{
    free(w->first);
    w->first = calloc((size_t)w->nclass + 2, sizeof *w->first);
    if (w->first == NULL)
        return apr_no_memory(e);
    const size_t na = w->nb < w->nview ? (size_t)w->view[w->nb].first : w->natom;
    for (size_t i = 0; i < na; i++)
        w->first[w->class[i] + 2] += w->norm[i] > 0;
    for (size_t k = 2; k < (size_t)w->nclass + 2; k++)
        w->first[k] += w->first[k - 1];
    for (size_t i = 0; i < na; i++)
        if (w->norm[i] > 0)
            w->atom[w->first[w->class[i] + 1]++] = (uint32_t)i;
    return APR_OK;
}

static uint64_t telling(const struct search *w, const struct view *v)
{
    uint64_t n = 0;
    for (uint64_t k = v->first; k < v->first + natoms(v); k++)
        n += w->norm[k] > 0;
    return n;
}

/* Adds the edges of a view of B. */
static enum apr_code add_edges(struct search *w, uint32_t b, uint32_t *touched, const uint64_t *tell, struct apr_error *e)
{
    const struct view *v = &w->view[b];
    size_t ntouched = 0;
    for (uint64_t k = v->first; k < v->first + natoms(v); k++) {
        const uint32_t first = w->first[w->class[k]], end = w->first[w->class[k] + 1];
        for (uint32_t i = first; w->norm[k] > 0 && i < end && end - first <= MOST_TWINS; i++) {
            const uint32_t a = w->of[w->atom[i]];
            if (i > first && a == w->of[w->atom[i - 1]])
                continue;
            if (w->votes[a]++ == 0)
                touched[ntouched++] = a;
        }
    }
    for (size_t i = 0; i < ntouched; i++) {
        const struct edge edge = { touched[i], b, w->votes[touched[i]] };
        w->votes[touched[i]] = 0;
        if (w->view[edge.a].item->used || v->item->used || 10 * edge.votes < (is_rough(w) ? 5 : 9) * apr_min(tell[edge.a], tell[b]))
            continue;
        struct edge *const more = apr_grown(w->edge, &w->room, w->nedge, 256, sizeof *more);
        if (more == NULL)
            return apr_no_memory(e);
        w->edge = more;
        w->edge[w->nedge++] = edge;
    }
    return APR_OK;
}

static enum apr_code find_edges(struct search *w, struct apr_error *e)
{
    uint32_t *touched = malloc((w->nview + 1) * sizeof *touched);
    uint64_t *tell = malloc((w->nview + 1) * sizeof *tell);
    enum apr_code code = touched == NULL || tell == NULL ? apr_no_memory(e) : list_classes(w, e);
    w->nedge = 0;
    for (size_t i = 0; code == APR_OK && i < w->nview; i++)
        tell[i] = telling(w, &w->view[i]);
    for (size_t b = w->nb; code == APR_OK && b < w->nview; b++)
        code = add_edges(w, (uint32_t)b, touched, tell, e);
    free(touched);
    free(tell);
    return code;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

/* Views as they lie first, then those whose numbers fit. */
static int by_likelihood(const void *p, const void *q, void *search)
{
    const struct view *const v = ((const struct search *)search)->view;
    const struct edge *const x = p, *const y = q;
    if (x->votes != y->votes)
        return x->votes > y->votes ? -1 : 1;
    const int turned_x = v[x->a].turned + v[x->b].turned, turned_y = v[y->a].turned + v[y->b].turned;
    if (turned_x != turned_y)
        return turned_x - turned_y;
    const unsigned fit_x = names_fit(v[x->a].item->t->name, v[x->b].item->t->name);
    const unsigned fit_y = names_fit(v[y->a].item->t->name, v[y->b].item->t->name);
    if (fit_x != fit_y)
        return fit_x > fit_y ? -1 : 1;
    return x->b != y->b ? (x->b > y->b) - (x->b < y->b) : (x->a > y->a) - (x->a < y->a);
}

enum apr_code discover_rows(struct discovery *d, struct apr_error *e)
{
    struct search w = { .d = d };
    enum apr_code code = prepare(&w, e);
    for (unsigned round = 0; code == APR_OK && w.nb > 0 && w.nb < w.nview && (w.near = nearness(d, round)) > 0; round++) {
        w.last = !(nearness(d, round + 1) > 0);
        code = classify(&(struct points){ (const float (*)[SKETCH])w.lane, w.key, w.of }, w.natom, w.near, w.class, &w.nclass, e);
        if (code == APR_OK)
            code = find_edges(&w, e);
        if (code == APR_OK && w.nedge > 0) {
            qsort_r(w.edge, w.nedge, sizeof *w.edge, by_likelihood, &w);
            code = pair_ones(&w, e);
        }
        if (code == APR_OK)
            code = pair_hubs(&w, e);
        if (code == APR_OK)
            code = measure_findings(d, e);
    }
    free_search(&w);
    return code;
}
