/* What --target-bpw and --target-size chose: as a table, and as JSON. */
#include "convert.h"

#include <stdio.h>
#include <stdlib.h>

static double bits(const struct apr_aim_tensor *x, const struct apr_aim_option *o)
{
    return x->count == 0 ? 0 : 8 * (double)o->bytes / (double)x->count;
}

static void print_other(const char *word, const struct apr_aim_option *o)
{
    if (o->dtype != NULL)
        printf("  %s %-7s %-10.4g", word, o->dtype->name, o->error.weighted);
}

/* In llama-quantize's order, as the tensors lie in a GGUF. */
static int in_order(const void *a, const void *b)
{
    const struct apr_aim_tensor *const *const x = a, *const *const y = b;
    return apr_mix_order((*x)->name, (*y)->name);
}

/* "blk.0.ffn_up.weight  Q4_K     4.50 bits  error 12.3        smaller Q3_K    30.1        larger Q5_K    4.4" */
static void print_choices(const struct apr_aim *aim, const struct apr_aim_tensor **row)
{
    size_t n = 0, width = 0;
    for (size_t i = 0; i < aim->ntensor; i++)
        if (!aim->tensor[i].fixed) {
            row[n++] = &aim->tensor[i];
            width = aim->tensor[i].name.n > width ? aim->tensor[i].name.n : width;
        }
    qsort(row, n, sizeof *row, in_order);
    for (size_t i = 0; i < n; i++) {
        print_name(row[i]->name, width);
        printf("  %-7s %5.2f bits  error %-10.4g", row[i]->chosen.dtype->name, bits(row[i], &row[i]->chosen),
               row[i]->chosen.error.weighted);
        print_other("smaller", &row[i]->less);
        print_other("larger", &row[i]->more);
        putchar('\n');
    }
}

void print_aim(const struct apr_conversion *c)
{
    const struct apr_aim *const aim = &c->aim;
    const struct apr_aim_tensor **const row = calloc(aim->ntensor + 1, sizeof *row);
    if (row != NULL)
        print_choices(aim, row);
    free(row);
    if (aim->size > 0)
        printf("target: %.0f of %llu bytes", aim->reached, (unsigned long long)aim->size);
    else
        printf("target: %.4f of %g bits per weight", aim->reached, aim->bpw);
    printf("; error %.6g, %s (bound %.6g)\n", aim->error, aim->exact ? "exact: none is smaller" : "near the smallest", aim->bound);
}

static void write_option(struct apr_out *j, const char *key, const struct apr_aim_option *o)
{
    if (o->dtype == NULL) {
        apr_out_null(j, key);
        return;
    }
    apr_out_open(j, key, '{');
    apr_out_text(j, "dtype", o->dtype->name);
    apr_out_count(j, "bytes", o->bytes);
    apr_out_real(j, "error", o->error.weighted);
    apr_out_close(j, '}');
}

void write_aim(struct apr_out *j, const struct apr_conversion *c)
{
    const struct apr_aim *const aim = &c->aim;
    apr_out_open(j, "target", '{');
    apr_out_real(j, aim->size > 0 ? "size" : "bits_per_weight", aim->size > 0 ? (double)aim->size : aim->bpw);
    apr_out_real(j, "reached", aim->reached);
    apr_out_real(j, "error", aim->error);
    apr_out_real(j, "bound", aim->bound);
    apr_out_bool(j, "exact", aim->exact);
    apr_out_open(j, "choices", '[');
    for (size_t i = 0; i < aim->ntensor; i++) {
        if (aim->tensor[i].fixed)
            continue;
        apr_out_open(j, NULL, '{');
        apr_out_bytes(j, "name", aim->tensor[i].name);
        write_option(j, "chosen", &aim->tensor[i].chosen);
        write_option(j, "smaller", &aim->tensor[i].less);
        write_option(j, "larger", &aim->tensor[i].more);
        apr_out_close(j, '}');
    }
    apr_out_close(j, ']');
    apr_out_close(j, '}');
}
