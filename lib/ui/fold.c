#include "ui/fold.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/table.h"
#include "ui/report.h"

/* A step over a name: the number or the text at `at`, up to where the other begins. */
static bool next_piece(struct apr_bytes name, size_t *at, size_t *end, uint64_t *number)
{
    const bool fresh = *at == 0 || name.at[*at - 1] == '.' || name.at[*at - 1] == '/';
    *number = 0;
    for (*end = *at; fresh && *end < name.n && *end - *at < 10 && name.at[*end] >= '0' && name.at[*end] <= '9'; ++*end)
        *number = 10 * *number + (uint64_t)(name.at[*end] - '0');
    if (*end > *at && (*end == name.n || name.at[*end] == '.' || name.at[*end] == '/'))
        return true;
    do
        ++*end;
    while (*end < name.n && name.at[*end - 1] != '.' && name.at[*end - 1] != '/');
    return false;
}

/* The name with '#' for its numbers, in the arena; the numbers. NULL-at when memory is out. */
static struct apr_bytes generalise(struct apr_arena **arena, struct apr_bytes name, uint64_t number[APR_FOLD_NUMBERS], unsigned *nnumber)
{
    unsigned char *out = apr_arena_alloc(arena, name.n + 1);
    size_t n = 0;
    *nnumber = 0;
    for (size_t at = 0, end; out != NULL && at < name.n; at = end) {
        uint64_t value;
        if (next_piece(name, &at, &end, &value) && *nnumber < APR_FOLD_NUMBERS) {
            number[(*nnumber)++] = value;
            out[n++] = '#';
        } else {
            memcpy(out + n, name.at + at, end - at);
            n += end - at;
        }
    }
    return (struct apr_bytes){ out, n };
}

static void widen(struct apr_fold *f, struct apr_bytes name, const uint64_t *number, unsigned nnumber)
{
    if (f->n++ == 0)
        f->first = name;
    for (unsigned i = 0; i < nnumber; i++) {
        f->low[i] = f->n == 1 || number[i] < f->low[i] ? number[i] : f->low[i];
        f->high[i] = f->n == 1 || number[i] > f->high[i] ? number[i] : f->high[i];
    }
}

bool apr_fold_names(const struct apr_bytes *name, size_t n, struct apr_fold **group, size_t *ngroup)
{
    struct apr_table table = { 0 };
    struct apr_arena *arena = NULL;
    *ngroup = 0;
    *group = calloc(n + 1, sizeof **group);
    bool fine = *group != NULL;
    for (size_t i = 0; fine && i < n; i++) {
        uint64_t number[APR_FOLD_NUMBERS];
        unsigned nnumber;
        bool fresh;
        const struct apr_bytes general = generalise(&arena, name[i], number, &nnumber);
        union apr_table_value *v = general.at == NULL ? NULL : apr_table_put(&table, general, &fresh);
        fine = v != NULL;
        if (fine && fresh)
            v->number = (*ngroup)++;
        if (fine)
            widen(&(*group)[v->number], name[i], number, nnumber);
    }
    apr_table_free(&table);
    apr_arena_free(&arena);
    return fine;
}

void apr_fold_print(FILE *to, const struct apr_fold *f)
{
    unsigned nnumber = 0;
    for (size_t at = 0, end; at < f->first.n; at = end) {
        uint64_t value;
        const bool number = next_piece(f->first, &at, &end, &value) && nnumber < APR_FOLD_NUMBERS;
        if (number && f->low[nnumber] != f->high[nnumber])
            fprintf(to, "{%llu-%llu}", (unsigned long long)f->low[nnumber], (unsigned long long)f->high[nnumber]);
        else
            apr_print_bytes(to, (struct apr_bytes){ f->first.at + at, end - at });
        nnumber += number;
    }
}
