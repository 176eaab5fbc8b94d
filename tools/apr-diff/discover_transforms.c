/* The shape and the transforms of a finding, as a contract says them. */
#include <stdio.h>

#include "discover.h"
#include "ui/report.h"

static void put_counts(FILE *to, const char *key, const uint64_t *n, size_t count)
{
    fprintf(to, ", %s: [", key);
    for (size_t i = 0; i < count; i++)
        fprintf(to, "%s%llu", i > 0 ? ", " : "", (unsigned long long)n[i]);
    fputc(']', to);
}

static void put_keys(FILE *to, const struct apr_transform *t, const char *const *key, size_t n)
{
    for (size_t i = 0; i < n; i++)
        fprintf(to, ", %s: %llu", key[i], (unsigned long long)t->n[i]);
}

static void put_values(FILE *to, const struct apr_transform *t)
{
    char number[32];
    if (t->op == APR_OP_SCALE && t->nn > 0) {
        fputs(", by: [", to);
        for (unsigned i = 0; i < t->nn; i++)
            fprintf(to, "%s%s", i > 0 ? ", " : "", apr_spell_real(t->by[i], number));
        fputc(']', to);
        put_counts(to, "parts", t->n, t->nn);
    } else if (t->op == APR_OP_SCALE || t->op == APR_OP_ADD) {
        fprintf(to, ", %s: %s", t->op == APR_OP_ADD ? "value" : "by", apr_spell_real(t->by[0], number));
    }
}

static void put_transform(FILE *to, const struct apr_transform *t)
{
    static const char *const heads[] = { "heads", "kv_heads" }, *const latent[] = { "heads", "nope", "v" }, *const count[] = { "count" },
                      *const rows[] = { "from", "count" }, *const groups[] = { "groups", "size", "from" }, *const dims[] = { "dim" };
    fprintf(to, "{op: %s", apr_op_word(t->op));
    switch (t->op) {
    case APR_OP_ROPE_PERMUTE: case APR_OP_QKV_NEOX: put_keys(to, t, heads, 1); break;
    case APR_OP_QKV_FALCON: put_keys(to, t, heads, 2); break;
    case APR_OP_MLA_SPLIT: put_keys(to, t, latent, 3); break;
    case APR_OP_STACK: case APR_OP_PAD_ROWS: put_keys(to, t, count, 1); break;
    case APR_OP_ROWS: put_keys(to, t, rows, 2); break;
    case APR_OP_REGROUP: case APR_OP_REGROUP_COLS: put_keys(to, t, groups, t->n[2] > 0 ? 3 : 2); break;
    case APR_OP_UNGROUP:
        put_keys(to, t, groups, 1);
        put_counts(to, "parts", t->n + 1, t->nn - 1);
        break;
    case APR_OP_SPLIT_ROWS: case APR_OP_SPLIT_COLS: case APR_OP_CONCAT_ROWS: case APR_OP_CONCAT_COLS:
        put_counts(to, "parts", t->n, t->nn);
        break;
    case APR_OP_RESHAPE: put_counts(to, "shape", t->n, t->nn); break;
    case APR_OP_ORDER: case APR_OP_ORDER_COLS:
        fputs(", rows: [", to);
        for (unsigned i = 0; i < t->norder; i++)
            fprintf(to, "%s%u", i > 0 ? ", " : "", t->order[i]);
        fputc(']', to);
        put_keys(to, t, groups + 1, 0);
        fprintf(to, ", size: %llu", (unsigned long long)t->n[0]);
        break;
    case APR_OP_SQUEEZE: case APR_OP_UNSQUEEZE: put_keys(to, t, dims, 1); break;
    default: put_values(to, t);
    }
}

/* The transforms behind a split, by parts. */
static unsigned put_then(FILE *to, const struct finding *f, unsigned i)
{
    const unsigned first = i;
    for (unsigned part = 1; i < f->nstep && part <= f->nto; part++) {
        fputs(part == 1 ? ", then: [" : ", ", to);
        fputc('[', to);
        for (bool more = false; i < f->nstep && f->step[i].only == part; i++, more = true) {
            fputs(more ? ", " : "", to);
            put_transform(to, &f->step[i]);
            fputc('}', to);
        }
        fputc(']', to);
        if (i == f->nstep)
            for (; part < f->nto; part++)
                fputs(", []", to);
    }
    fputs(i > first ? "]" : "", to);
    return i;
}

/* The shape of what a contract gives the shape of, and the chain. */
void put_body(FILE *to, const struct finding *f)
{
    uint64_t dim[APR_MAX_DIMS];
    const unsigned ndim = whole_shape(f, dim);
    fputs(", shape: [", to);
    for (unsigned i = 0; i < ndim; i++)
        fprintf(to, "%s%llu", i > 0 ? ", " : "", (unsigned long long)dim[i]);
    fputc(']', to);
    if (f->nstep == 0)
        return;
    fputs(",\n     transform: [", to);
    for (unsigned i = 0; i < f->nstep;) {
        fputs(i > 0 ? ", " : "", to);
        put_transform(to, &f->step[i++]);
        if (i < f->nstep && f->step[i].only > 0)
            i = put_then(to, f, i);
        fputc('}', to);
    }
    fputc(']', to);
}
