/* Tensors as they are stored, decoded to F32 or byte by byte. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/nearest.h"
#include "files/source.h"
#include "flow/pass.h"
#include "model/model.h"
#include "trace.h"
#include "values/dtype.h"

#define PIECE APR_CHUNK            /* elements of a piece */
#define RAW_PIECE (PIECE * 4u)     /* bytes of one */

/* The tensors that are saved, and the file of the one under way. */
struct weights {
    struct trace             *t;
    const struct apr_tensor **tensor;
    size_t                    n;
    struct saved_file        *file;
};

struct scratch {
    struct apr_window window;
};

/* ---- names ---------------------------------------------------------------------------------------------------------- */

/* A tensor's name as that of a file: what leads into another folder, and what may not be shown, as %XX; '%' too, so that no two become
 * one. */
static char *file_name(struct apr_bytes name, const char *suffix)
{
    static const char digit[] = "0123456789ABCDEF";
    char *const out = malloc(3 * name.n + strlen(suffix) + 1);
    size_t n = 0, shown;
    for (size_t i = 0; out != NULL && i < name.n; i += shown) {
        const unsigned char c = name.at[i];
        shown = c == '/' || c == '%' || (c == '.' && i == 0) ? 0 : apr_shown_length(name.at + i, name.n - i);
        if (shown > 0) {
            memcpy(out + n, name.at + i, shown);
            n += shown;
            continue;
        }
        out[n++] = '%';
        out[n++] = digit[c >> 4];
        out[n++] = digit[c & 15];
        shown = 1;
    }
    if (out != NULL)
        strcpy(out + n, suffix);
    return out;
}

/* Bytes are those of the tensors as they are stored. */
static const struct apr_model *model_of(const struct trace *t) { return t->o->raw ? t->engine.opened : t->engine.m; }

/* ---- which ---------------------------------------------------------------------------------------------------------- */

static enum apr_code check_patterns(const struct weights *w, struct apr_error *e)
{
    const struct apr_patterns *const p = w->t->o->weight;
    const struct apr_model *const m = model_of(w->t);
    for (size_t i = 0; i < apr_patterns_count(p); i++) {
        if (apr_patterns_noted(p, i))
            continue;
        struct apr_nearest near = apr_nearest_to(apr_patterns_text(p, i));
        for (size_t k = 0; k < m->ntensor; k++)
            apr_nearest_try(&near, m->tensor[k].name);
        if (near.best.n > 0)
            return apr_fail(e, APR_EARG, APR_NOWHERE, "--save-weights %s matches no tensor (did you mean %s?)",
                            APR_QUOTED(apr_patterns_text(p, i)), APR_QUOTED(near.best));
        return apr_fail(e, APR_EARG, APR_NOWHERE, "--save-weights %s matches no tensor", APR_QUOTED(apr_patterns_text(p, i)));
    }
    return APR_OK;
}

/* A stage of the same run may have a tensor's name. */
static enum apr_code check_tensor(const struct trace *t, const struct apr_tensor *x, struct apr_error *e)
{
    if (!t->o->raw && !apr_input_of(t->o->cli.run.kernels, t->engine.m, x).decodable)
        return apr_fail_tensor(e, APR_EUNSUPPORTED, APR_NOWHERE, x->name, " is stored in %s, which is not decoded: --raw saves its bytes",
                               x->dtype->name);
    if (!t->o->raw && saves_stages(t->o) && t->o->format == FORMAT_NPY && apr_stage_rank(x->name) < APR_NSTAGES)
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, x->name, " has the name of a stage, and both would be saved in one file");
    return APR_OK;
}

/* A placeholder for what is tied to the embedding is left out. */
static enum apr_code choose(struct weights *w, struct apr_error *e)
{
    const struct apr_tensor *tied = NULL;
    struct trace *const t = w->t;
    const struct apr_model *const m = model_of(t);
    w->tensor = malloc((m->ntensor + 1) * sizeof *w->tensor);
    if (w->tensor == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < m->ntensor; i++) {
        bool yes;
        APR_TRY(apr_patterns_note(t->o->weight, m->tensor[i].name, e));
        APR_TRY(apr_patterns_want(t->o->weight, m->tensor[i].name, &yes, e));
        if (!yes)
            continue;
        tied = m->tensor[i].tied ? &m->tensor[i] : tied;
        if (m->tensor[i].tied)
            continue;
        APR_TRY(check_tensor(t, &m->tensor[i], e));
        w->tensor[w->n++] = &m->tensor[i];
    }
    APR_TRY(check_patterns(w, e));
    return w->n > 0 || tied == NULL ? APR_OK
                                    : apr_fail_tensor(e, APR_EARG, APR_NOWHERE, tied->name,
                                                      " is tied to the embedding, and has no values of its own");
}

/* ---- the pass ------------------------------------------------------------------------------------------------------- */

static struct apr_input input_of(const struct weights *w, size_t i)
{
    return apr_input_of(w->t->o->cli.run.kernels, w->t->engine.m, w->tensor[i]);
}

static uint64_t in_pieces(uint64_t n, uint64_t piece) { return n / piece + (n % piece > 0); }

static struct apr_cut cut(void *ctx, size_t i, unsigned mode)
{
    const struct weights *const w = ctx;
    const uint64_t bytes = w->tensor[i]->data.n;
    (void)mode;
    return (struct apr_cut){ w->t->o->raw ? in_pieces(bytes, RAW_PIECE) : in_pieces(input_of(w, i).count, PIECE), 1, APR_ALONE, bytes };
}

static void copy_bytes(const struct weights *w, const struct apr_pieces *p, struct scratch *own, void *result)
{
    const struct apr_tensor *const x = w->tensor[p->input];
    const uint64_t first = p->first * RAW_PIECE;
    const struct apr_bytes b = { x->data.at + first, (size_t)apr_min(x->data.n - first, RAW_PIECE) };
    apr_window_touch(&own->window, w->t->engine.m->file[x->file]->map, b);
    memcpy(result, b.at, b.n);
}

static enum apr_code make(void *ctx, const struct apr_pieces *p, void *scratch, void *result, struct apr_error *e)
{
    const struct weights *const w = ctx;
    struct scratch *const own = scratch;
    float *const out = result;
    (void)e;
    if (w->t->o->raw) {
        copy_bytes(w, p, own, result);
        apr_window_rest(&own->window);
        return APR_OK;
    }
    const struct apr_input in = input_of(w, p->input);
    const uint64_t first = p->first * PIECE;
    apr_input_all_floats(&in, &own->window, first, apr_min(in.count - first, PIECE), out);
    apr_window_rest(&own->window);
    return APR_OK;
}

static enum apr_code begin_weight(struct weights *w, size_t i, struct apr_error *e)
{
    const struct apr_tensor *const x = w->tensor[i];
    const struct apr_input in = input_of(w, i);
    const bool raw = w->t->o->raw;
    const char *path;
    uint64_t bytes = x->data.n;
    if (!raw && !apr_mul(in.count, sizeof(float), &bytes))
        return apr_fail_tensor(e, APR_ELIMIT, APR_NOWHERE, x->name, " is too large");
    char *const name = file_name(x->name, raw ? ".raw" : ".npy");
    if (name == NULL)
        return apr_no_memory(e);
    const enum apr_code code = begin_file(w->t, name, raw, bytes, &w->file, &path, e);
    free(name);
    APR_TRY(code);
    return raw ? APR_OK : put_npy_header(w->file, in.dim, in.ndim, e);
}

static enum apr_code take(void *ctx, const struct apr_pieces *p, const void *result, struct apr_error *e)
{
    struct weights *const w = ctx;
    const bool raw = w->t->o->raw;
    const uint64_t all = raw ? w->tensor[p->input]->data.n : input_of(w, p->input).count, piece = raw ? RAW_PIECE : PIECE;
    if (p->first == 0)
        APR_TRY(begin_weight(w, p->input, e));
    return put_bytes(w->file, result, (size_t)apr_min(all - p->first * piece, piece) * (raw ? 1 : sizeof(float)), e);
}

static enum apr_code done(void *ctx, struct apr_pass *pass, size_t i, struct apr_error *e)
{
    struct weights *const w = ctx;
    (void)pass;
    if (cut(w, i, 0).npiece == 0)
        APR_TRY(begin_weight(w, i, e));
    return apr_model_intact(w->t->engine.m, e);
}

static void enter(void *ctx, void *scratch)
{
    const struct weights *const w = ctx;
    ((struct scratch *)scratch)->window = apr_window_of(&w->t->o->cli.run);
}

static void leave(void *ctx, void *scratch)
{
    (void)ctx;
    apr_window_drop(&((struct scratch *)scratch)->window);
}

enum apr_code save_weights(struct trace *t, struct apr_error *e)
{
    struct weights w = { .t = t };
    enum apr_code code = choose(&w, e);
    const struct apr_job job = { .what = "saving", .ctx = &w, .ninput = w.n, .result = PIECE * sizeof(float),
                                 .scratch = sizeof(struct scratch), .cut = cut,
                                 .make = make, .take = take, .done = done, .enter = enter, .leave = leave };
    if (code == APR_OK)
        code = apr_pass(&t->o->cli.run, &job, e);
    free(w.tensor);
    return code;
}
