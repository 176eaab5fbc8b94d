/* The module tree: names taken apart at dots (in a trace at slashes), numbers in order, a module's tensors added up. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "inspect.h"
#include "model/format.h"
#include "values/dtype.h"

#define LEVELS 12u /* the last part takes the rest of the name; a JSON level is an object in an array */
#define WIDEST 48u /* columns of the names */

struct leaf {
    const struct apr_tensor *t;
    struct apr_bytes         part[LEVELS];
    unsigned                 nparts;
};

/* The chosen tensors in the order of the tree: a node is a run of leaves that share their first parts. */
struct tree {
    const struct inspection *x;
    struct leaf             *leaf;
    size_t                   n;
    size_t                   width;  /* columns of the widest name with its indent */
    unsigned                 depth;  /* of nodes that are shown */
};

struct node {
    size_t   begin, end;
    unsigned level;          /* parts that its name has */
};

/* ---- building ------------------------------------------------------------------------------------------------------- */

static void split(struct leaf *l, char separator)
{
    const struct apr_bytes name = l->t->name;
    size_t begin = 0;
    for (size_t i = 0; i <= name.n; i++)
        if (i == name.n || (name.at[i] == (unsigned char)separator && l->nparts + 1 < LEVELS)) {
            l->part[l->nparts++] = (struct apr_bytes){ name.at + begin, i - begin };
            begin = i + 1;
        }
}

static bool is_number(struct apr_bytes s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.at[i] < '0' || s.at[i] > '9')
            return false;
    return s.n > 0;
}

/* Numbers by value, before words; words by their bytes. */
static int compare_parts(struct apr_bytes a, struct apr_bytes b)
{
    const bool x = is_number(a), y = is_number(b);
    if (x != y)
        return x ? -1 : 1;
    if (!x)
        return apr_bytes_compare(a, b);
    struct apr_bytes p = a, q = b;
    while (p.n > 1 && *p.at == '0')
        p = (struct apr_bytes){ p.at + 1, p.n - 1 };
    while (q.n > 1 && *q.at == '0')
        q = (struct apr_bytes){ q.at + 1, q.n - 1 };
    if (p.n != q.n)
        return p.n < q.n ? -1 : 1;
    const int order = apr_bytes_compare(p, q);
    return order != 0 ? order : apr_bytes_compare(a, b);
}

static int compare(const void *a, const void *b)
{
    const struct leaf *x = a, *y = b;
    for (unsigned i = 0; i < x->nparts && i < y->nparts; i++) {
        const int order = compare_parts(x->part[i], y->part[i]);
        if (order != 0)
            return order;
    }
    return (x->nparts > y->nparts) - (x->nparts < y->nparts);
}

static enum apr_code build(struct tree *tree, const struct inspection *x, struct apr_error *e)
{
    const struct apr_model *m = x->m;
    const char separator = m->format->trace ? '/' : '.';
    *tree = (struct tree){ .x = x, .depth = x->o->depth > 0 && x->o->depth < LEVELS ? (unsigned)x->o->depth : LEVELS };
    tree->leaf = malloc((m->ntensor + 1) * sizeof *tree->leaf);
    if (tree->leaf == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < m->ntensor; i++)
        if (is_chosen(x, &m->tensor[i])) {
            tree->leaf[tree->n] = (struct leaf){ .t = &m->tensor[i] };
            split(&tree->leaf[tree->n++], separator);
        }
    qsort(tree->leaf, tree->n, sizeof *tree->leaf, compare);
    return APR_OK;
}

/* The child of n that begins with leaf `begin`. */
static struct node child_at(const struct tree *tree, const struct node *n, size_t begin)
{
    struct node child = { begin, begin + 1, n->level + 1 };
    while (child.end < n->end && apr_bytes_equal(tree->leaf[child.end].part[n->level], tree->leaf[begin].part[n->level]))
        child.end++;
    return child;
}

/* A tensor may bear the name of the node itself; it is the first then. */
static const struct apr_tensor *own_tensor(const struct tree *tree, const struct node *n)
{
    return tree->leaf[n->begin].nparts == n->level ? tree->leaf[n->begin].t : NULL;
}

static struct apr_bytes name_of(const struct tree *tree, const struct node *n) { return tree->leaf[n->begin].part[n->level - 1]; }

static bool has_children(const struct tree *tree, const struct node *n)
{
    return n->level < tree->depth && n->end - n->begin > (own_tensor(tree, n) != NULL);
}

/* A module of one tensor is shown with it, as one line: "lm_head.weight". */
static bool is_line(const struct tree *tree, const struct node *n) { return n->end - n->begin == 1 || !has_children(tree, n); }

static struct apr_bytes line_name(const struct tree *tree, const struct node *n)
{
    const struct leaf *l = &tree->leaf[n->begin];
    const struct apr_bytes part = name_of(tree, n), last = l->part[l->nparts - 1];
    return n->end - n->begin == 1 ? (struct apr_bytes){ part.at, (size_t)(last.at + last.n - part.at) } : part;
}

/* Where the children of n begin. */
static size_t first_child(const struct tree *tree, const struct node *n)
{
    return n->begin + (n->level > 0 && own_tensor(tree, n) != NULL);
}

/* ---- adding up ------------------------------------------------------------------------------------------------------ */

struct sum {
    uint64_t elements, bytes;
    bool     has[APR_NDTYPES];
};

static struct sum sum_of(const struct tree *tree, const struct node *n)
{
    struct sum s = { 0 };
    for (size_t i = n->begin; i < n->end; i++) {
        s.elements += tree->leaf[i].t->count;
        s.bytes += stored_bytes(tree->leaf[i].t);
        s.has[apr_dtype_id(stored_dtype(tree->leaf[i].t))] = true;
    }
    return s;
}

/* ---- text ----------------------------------------------------------------------------------------------------------- */

static void measure(struct tree *tree, const struct node *n)
{
    const size_t columns = n->level == 0 ? 0 : 2 * (n->level - 1) + apr_columns(line_name(tree, n));
    tree->width = columns > tree->width ? columns : tree->width;
    if (n->level > 0 && is_line(tree, n))
        return;
    for (size_t i = first_child(tree, n); i < n->end;) {
        const struct node child = child_at(tree, n, i);
        measure(tree, &child);
        i = child.end;
    }
}

static void print_node(const struct tree *tree, const struct node *n)
{
    const struct sum s = sum_of(tree, n);
    const struct apr_bytes name = line_name(tree, n);
    const struct apr_tensor *only = n->end - n->begin == 1 ? tree->leaf[n->begin].t : NULL;
    const struct apr_tensor *own = only != NULL ? only : own_tensor(tree, n);
    const bool colour = tree->x->o->cli.colour;
    const size_t columns = 2 * (n->level - 1) + apr_columns(name), width = tree->width > WIDEST ? WIDEST : tree->width;
    char count[32], bytes[32], shape[176];
    printf("%*s%s", 2 * (int)(n->level - 1), "", apr_style(colour && only == NULL, APR_BOLD));
    apr_print_bytes(stdout, name);
    printf("%s%*s", apr_style(colour && only == NULL, APR_PLAIN), columns < width ? (int)(width - columns) : 0, "");
    printf(" %8s %9s ", spell_count(s.elements, count), apr_spell_size(s.bytes, bytes));
    const char *comma = " ";
    for (size_t i = 0; i < APR_NDTYPES; i++)
        if (s.has[i]) {
            printf("%s%s", comma, apr_dtypes[i].name);
            comma = ", ";
        }
    if (own != NULL)
        printf(" %s", apr_spell_shape(own->dim, own->ndim, shape));
    if (only == NULL)
        printf("  %s%zu tensors%s", apr_style(colour, APR_DIM), n->end - n->begin, apr_style(colour, APR_PLAIN));
    putchar('\n');
}

static void print_children(const struct tree *tree, const struct node *n)
{
    for (size_t i = first_child(tree, n); i < n->end;) {
        const struct node child = child_at(tree, n, i);
        print_node(tree, &child);
        if (!is_line(tree, &child))
            print_children(tree, &child);
        i = child.end;
    }
}

int show_tree(struct inspection *x)
{
    struct tree tree;
    struct apr_error e;
    if (build(&tree, x, &e) != APR_OK)
        return apr_cli_fail(&x->o->cli, &e);
    const struct node root = { 0, tree.n, 0 };
    measure(&tree, &root);
    print_children(&tree, &root);
    free(tree.leaf);
    return APR_EXIT_YES;
}

/* ---- JSON ----------------------------------------------------------------------------------------------------------- */

static void write_children(struct apr_out *j, const char *key, const struct tree *tree, const struct node *n)
{
    apr_out_open(j, key, '[');
    for (size_t i = first_child(tree, n); i < n->end;) {
        const struct node child = child_at(tree, n, i);
        const struct sum s = sum_of(tree, &child);
        const struct apr_tensor *own = own_tensor(tree, &child);
        apr_out_open(j, NULL, '{');
        apr_out_bytes(j, "name", name_of(tree, &child));
        if (own != NULL) {
            apr_out_bytes(j, "tensor", own->name);
            apr_out_counts(j, "shape", own->dim, own->ndim);
        }
        apr_out_count(j, "tensor_count", child.end - child.begin);
        apr_out_count(j, "parameters", s.elements);
        apr_out_count(j, "tensor_bytes", s.bytes);
        apr_out_open(j, "dtypes", '[');
        for (size_t d = 0; d < APR_NDTYPES; d++)
            if (s.has[d])
                apr_out_text(j, NULL, apr_dtypes[d].name);
        apr_out_close(j, ']');
        if (has_children(tree, &child))
            write_children(j, "children", tree, &child);
        apr_out_close(j, '}');
        i = child.end;
    }
    apr_out_close(j, ']');
}

enum apr_code write_tree(struct apr_out *j, const struct inspection *x, struct apr_error *e)
{
    struct tree tree;
    APR_TRY(build(&tree, x, e));
    const struct node root = { 0, tree.n, 0 };
    write_children(j, "tree", &tree, &root);
    free(tree.leaf);
    return APR_OK;
}
