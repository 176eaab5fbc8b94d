/* Tensors that play one part in all layers, and the sizes of their values. */
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define LEAST_EXPONENT (-152)
#define MOST_EXPONENT  127

unsigned magnitude_class(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    const int exponent = (int)(bits >> 52 & 0x7FF) - 1023;
    const int held = exponent < LEAST_EXPONENT ? LEAST_EXPONENT : exponent > MOST_EXPONENT ? MOST_EXPONENT : exponent;
    return (unsigned)(held - LEAST_EXPONENT) / 4;
}

double least_of_class(unsigned k) { return ldexp(1, 4 * (int)k + LEAST_EXPONENT); }

/* ---- grouping ------------------------------------------------------------------------------------------------------- */

/* name: the tensor's with each number as '#'. */
struct member {
    struct apr_bytes name;
    size_t           tensor;
};

/* "blk.12.ffn_up.weight" -> "blk.#.ffn_up.weight", in place; the new length. */
static size_t generalise(char *s, size_t n)
{
    size_t out = 0;
    for (size_t i = 0; i < n;) {
        size_t end = i;
        bool digits = true;
        for (; end < n && s[end] != '.' && s[end] != '/'; end++)
            digits &= s[end] >= '0' && s[end] <= '9';
        if (digits && end > i) {
            s[out++] = '#';
        } else {
            memmove(s + out, s + i, end - i);
            out += end - i;
        }
        if (end < n)
            s[out++] = s[end++];
        i = end;
    }
    return out;
}

static int by_name(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    const int order = apr_bytes_compare(x->name, y->name);
    return order != 0 ? order : (x->tensor > y->tensor) - (x->tensor < y->tensor);
}

static void part(struct roles *r, const struct member *member, size_t n)
{
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i; end < n && apr_bytes_equal(member[i].name, member[end].name); end++)
            r->tensor[end] = member[end].tensor;
        r->at[r->n++] = (struct role){ member[i].name, r->tensor + i, end - i };
    }
}

enum apr_code find_roles(struct roles *r, const struct moments *moments, size_t n, struct apr_error *e)
{
    size_t bytes = 1, nmember = 0;
    for (size_t i = 0; i < n; i++)
        bytes += moments[i].weights ? moments[i].name.n : 0;
    struct member *member = calloc(n + 1, sizeof *member);
    *r = (struct roles){ .at = calloc(n + 1, sizeof *r->at), .tensor = calloc(n + 1, sizeof *r->tensor), .names = malloc(bytes) };
    const bool room = member != NULL && r->names != NULL && r->at != NULL && r->tensor != NULL;
    char *at = r->names;
    for (size_t i = 0; room && i < n; i++) {
        const struct apr_bytes name = moments[i].name;
        if (!moments[i].weights)
            continue;
        memcpy(at, name.at, name.n);
        member[nmember++] = (struct member){ { (const unsigned char *)at, generalise(at, name.n) }, i };
        at += member[nmember - 1].name.n;
    }
    if (nmember > 0) {
        qsort(member, nmember, sizeof *member, by_name);
        part(r, member, nmember);
    }
    free(member);
    return room ? APR_OK : apr_no_memory(e);
}

void free_roles(struct roles *r)
{
    free(r->at);
    free(r->tensor);
    free(r->names);
}

/* ---- the middle of some numbers ------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_size);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}
