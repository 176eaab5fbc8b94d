#include "data.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/table.h"
#include "files/source.h"
#include "model/model.h"
#include "model/npy.h"
#include "model/open.h"
#include "ui/report.h"

#define FEW_CLASSES  20    /* that many integers are classes, where nobody says what the target is */
#define MOST_CLASSES 10000

bool data_is_npy(struct apr_bytes start) { return apr_npy_probe(start); }

enum apr_code data_is_foreign(struct apr_bytes start, struct apr_error *e)
{
    static const struct {
        const char *begin, *words;
    } foreign[] = {
        { "\x1f\x8b", "gzip: gzip -dc gives what is in it" },
        { "\x28\xb5\x2f\xfd", "zstd: zstd -dc gives what is in it" },
        { "PK\x03\x04", "a zip archive (xlsx, npz): rows are CSV, or an array of .npy" },
        { "PAR1", "Parquet: rows are CSV, or an array of .npy" },
        { "\xff\xfe", "UTF-16: iconv -f utf-16 -t utf-8 gives UTF-8" },
        { "\xfe\xff", "UTF-16: iconv -f utf-16 -t utf-8 gives UTF-8" },
        { "GGUF", "a model, no data" },
        { "APR", "a model, no data" },
    };
    for (size_t i = 0; i < APR_LENGTH(foreign); i++) {
        const struct apr_bytes begin = apr_text(foreign[i].begin);
        if (start.n > begin.n && memcmp(start.at, begin.at, begin.n) == 0 && (begin.at[0] != 'A' || start.at[3] == 0))
            return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "is %s", foreign[i].words);
    }
    return APR_OK;
}

/* | u64 length of the header | '{' ...: no table has a NUL in its first 8 bytes. */
bool data_is_safetensors(struct apr_bytes start) { return start.n > 8 && start.at[7] == 0 && start.at[8] == '{'; }

void data_free(struct data *d)
{
    free(d->x);
    free(d->y);
    free(d->class);
    free(d->name);
    apr_source_close(d->source);
    apr_source_close(d->target_source);
    apr_close(d->model);
    apr_arena_free(&d->arena);
    *d = (struct data){ 0 };
}

/* ---- classes -------------------------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static uint64_t bits_of(double v)
{
    uint64_t bits;
    v += 0.0; /* one zero */
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

/* The distinct values of the target, at most `most`: how many, most + 1 when there are more; `integers`: they are. */
static enum apr_code distinct(const struct data *d, size_t most, struct apr_table *t, bool *integers, struct apr_error *e)
{
    *integers = true;
    for (size_t i = 0; i < d->n && t->n <= most; i++) {
        bool fresh;
        if (apr_table_put(t, apr_table_integer(bits_of(d->y[i])), &fresh) == NULL)
            return apr_no_memory(e);
        *integers &= d->y[i] == floor(d->y[i]);
    }
    return APR_OK;
}

static enum apr_code too_many(struct apr_error *e)
{
    return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "the target has more than %d classes: --model linear takes it for a number", MOST_CLASSES);
}

static enum apr_code name_number(struct data *d, size_t i, double v, struct apr_error *e)
{
    char text[32];
    const struct apr_bytes word = apr_arena_copy(&d->arena, apr_text(apr_spell_real(v, text)));
    d->class[i] = (struct linear_class){ word, word };
    return word.at == NULL ? apr_no_memory(e) : APR_OK;
}

/* y becomes the number of its value among the distinct ones. */
static enum apr_code number_classes(struct data *d, const struct apr_table *seen, double *value, struct apr_error *e)
{
    for (size_t i = 0, k = 0; i < d->n && k < seen->n; i++) {
        union apr_table_value *const v = apr_table_find(seen, apr_table_integer(bits_of(d->y[i])));
        if (v->number == 0) {
            v->number = 1;
            value[k++] = d->y[i] + 0.0;
        }
    }
    qsort(value, seen->n, sizeof *value, by_value);
    for (size_t i = 0; i < seen->n; i++) {
        apr_table_find(seen, apr_table_integer(bits_of(value[i])))->number = i;
        APR_TRY(name_number(d, i, value[i], e));
    }
    for (size_t i = 0; i < d->n; i++)
        d->y[i] = (double)apr_table_find(seen, apr_table_integer(bits_of(d->y[i])))->number;
    d->nclass = seen->n;
    return APR_OK;
}

static enum apr_code class_numbers(struct data *d, enum learn learn, struct apr_error *e)
{
    struct apr_table seen = { 0 };
    bool integers;
    const size_t most = learn == LEARN_AUTO ? FEW_CLASSES : MOST_CLASSES;
    enum apr_code code = learn == LEARN_LINEAR ? APR_OK : distinct(d, most, &seen, &integers, e);
    const bool classes = learn == LEARN_LOGISTIC || (learn == LEARN_AUTO && seen.n <= most && integers);
    if (code == APR_OK && classes && seen.n > most)
        code = too_many(e);
    if (code == APR_OK && classes) {
        double *const value = malloc((seen.n + 1) * sizeof *value);
        d->class = calloc(seen.n + 1, sizeof *d->class);
        code = value == NULL || d->class == NULL ? apr_no_memory(e) : number_classes(d, &seen, value, e);
        free(value);
    }
    apr_table_free(&seen);
    return code;
}

/* ---- classes that are words ------------------------------------------------------------------------------------------ */

static uint64_t line_of(const struct data *d, uint64_t at)
{
    uint64_t line = 1;
    for (uint64_t i = 0; i < at; i++)
        line += d->source->map.at[i] == '\n';
    return line;
}

/* The target that begins at an offset of the source: a view of it, or where quotes are doubled of the arena. */
static enum apr_code word_at(struct data *d, const struct table *t, uint64_t at, struct apr_bytes *word, struct apr_error *e)
{
    struct csv c = { d->source->map.at + at, d->source->map.at + d->source->map.n, t->delimiter, 1 };
    struct csv_field f;
    unsigned char *room = NULL;
    csv_next(&c, &f);
    if (f.doubled && (room = apr_arena_alloc(&d->arena, f.text.n)) == NULL)
        return apr_no_memory(e);
    *word = csv_text(&f, room);
    if (!apr_is_utf8(*word) || memchr(word->at, 0, word->n) != NULL)
        return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "line %llu: the target %s is not UTF-8, or has a NUL", (unsigned long long)line_of(d, at),
                        APR_QUOTED(*word));
    return APR_OK;
}

static int by_bytes(const void *a, const void *b)
{
    return apr_bytes_compare(((const struct linear_class *)a)->text, ((const struct linear_class *)b)->text);
}

/* Puts each word into `seen`, and into y the order in which it came. */
static enum apr_code gather(struct data *d, const struct table *t, struct apr_table *seen, struct apr_error *e)
{
    for (size_t i = 0; i < d->n; i++) {
        struct apr_bytes word;
        uint64_t at;
        double number;
        bool fresh;
        memcpy(&at, &d->y[i], sizeof at);
        APR_TRY(word_at(d, t, at, &word, e));
        if (i == 0 || d->doubtful)
            d->doubtful = t->name == NULL && d->n > 1 && (number_read(word, &number) == NUMBER_TEXT) == (i == 0);
        union apr_table_value *const v = apr_table_put(seen, word, &fresh);
        if (v == NULL)
            return apr_no_memory(e);
        if (fresh && seen->n > MOST_CLASSES)
            return too_many(e);
        v->number = fresh ? seen->n - 1 : v->number;
        d->y[i] = (double)v->number;
    }
    return APR_OK;
}

static enum apr_code sort_words(struct data *d, const struct apr_table *seen, size_t *place, struct apr_error *e)
{
    for (size_t i = 0; i < seen->n; i++)
        d->class[i] = (struct linear_class){ .text = seen->entry[i].key };
    qsort(d->class, seen->n, sizeof *d->class, by_bytes);
    for (size_t i = 0; i < seen->n; i++)
        place[apr_table_find(seen, d->class[i].text)->number] = i;
    for (size_t i = 0; i < d->n; i++)
        d->y[i] = (double)place[(size_t)d->y[i]];
    for (size_t i = 0; i < seen->n; i++)
        APR_TRY(linear_class_spell(&d->class[i], d->class[i].text, &d->arena, e));
    d->nclass = seen->n;
    return APR_OK;
}

static enum apr_code class_words(struct data *d, const struct table *t, struct apr_error *e)
{
    struct apr_table seen = { 0 };
    enum apr_code code = gather(d, t, &seen, e);
    if (code == APR_OK) {
        size_t *const place = malloc((seen.n + 1) * sizeof *place);
        d->class = calloc(seen.n + 1, sizeof *d->class);
        code = place == NULL || d->class == NULL ? apr_no_memory(e) : sort_words(d, &seen, place, e);
        free(place);
    }
    apr_table_free(&seen);
    return code;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------- */

static enum apr_code keep_names(struct data *d, const struct table *t, struct apr_error *e)
{
    if (t->name == NULL)
        return APR_OK;
    d->name = calloc(d->p, sizeof *d->name);
    if (d->name == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < t->width; i++)
        if (t->feature[i] != TABLE_NONE) {
            d->name[t->feature[i]] = apr_arena_copy(&d->arena, t->name[i]);
            if (d->name[t->feature[i]].at == NULL)
                return apr_no_memory(e);
        }
    struct apr_table seen = { 0 };
    bool fresh = true;
    for (size_t i = 0; i < d->p && fresh; i++) {
        const bool there = apr_table_put(&seen, d->name[i], &fresh) != NULL;
        if (!there || !fresh) {
            apr_table_free(&seen);
            return !there ? apr_no_memory(e) : apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "two columns have the name %s", APR_QUOTED(d->name[i]));
        }
    }
    apr_table_free(&seen);
    return APR_OK;
}

static enum apr_code read_table(struct data *d, const struct data_wish *w, const struct apr_run *r, struct apr_error *e)
{
    struct table t = { 0 };
    bool text = false;
    enum apr_code code = data_read_csv(d, w, r, &text, &t, e);
    if (code == APR_OK)
        code = keep_names(d, &t, e);
    if (code == APR_OK)
        code = text ? class_words(d, &t, e) : class_numbers(d, w->learn, e);
    table_end(&t);
    return code;
}

static enum apr_code read_any(struct data *d, const struct data_wish *w, const struct apr_run *r, struct apr_error *e)
{
    APR_TRY(apr_source_open(&d->source, w->path, r, e));
    APR_TRY(data_is_foreign(d->source->map, e));
    const bool arrays = data_is_npy(d->source->map) || data_is_safetensors(d->source->map);
    if (!arrays && w->target_file != NULL)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--target-file goes with a NumPy array: a table has its target in a column");
    APR_TRY(arrays ? data_read_arrays(d, w, r, e) : read_table(d, w, r, e));
    if (arrays)
        APR_TRY(class_numbers(d, w->learn, e));
    if (d->n == 0)
        return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, d->left_out > 0 ? "no row is left: each has a field that is no number" : "there is no row to learn from");
    if (d->nclass == 1)
        return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "all rows are of one class, %s: there is nothing to tell apart", APR_QUOTED(d->class[0].text));
    return APR_OK;
}

/* The word of whoever read a file that changed under it is worth nothing. */
static enum apr_code check_unchanged(const struct data *d, enum apr_code code, struct apr_error *e)
{
    if (d->model != NULL)
        APR_TRY(apr_model_unchanged(d->model, e));
    if (d->source != NULL)
        APR_TRY(apr_source_intact(d->source, e));
    if (d->target_source != NULL)
        APR_TRY(apr_source_intact(d->target_source, e));
    return code;
}

enum apr_code data_read(struct data *d, const struct data_wish *w, const struct apr_run *r, struct apr_error *e)
{
    *d = (struct data){ 0 };
    const enum apr_code code = check_unchanged(d, read_any(d, w, r, e), e);
    if (code != APR_OK)
        apr_error_in(e, w->path);
    return code;
}
