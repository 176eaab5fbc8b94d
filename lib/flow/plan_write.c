#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc.h"
#include "files/source.h"
#include "flow/computed.h"
#include "flow/plan_writing.h"
#include "model/format.h"
#include "model/model.h"
#include "values/dtype.h"

/* What becomes of a piece. Of a file that is written from front to back, data are its bytes. */
struct result {
    uint32_t            crc;
    struct apr_digest   digest;
    struct apr_rounding rounding;
    size_t              n;
    bool                kept; /* it was there from a run before */
    unsigned char       data[];
};

#define SHARED_UNIT 4096u /* blocks of file systems that share them */

void apr_writer_enter(void *writing, void *writer)
{
    const struct apr_writing *const w = writing;
    struct apr_writer *const t = writer;
    t->maker.window = apr_window_of(w->r);
    t->packer = w->p->zstd != 0 ? apr_packer_new(w->p->zstd) : NULL;
}

void apr_writer_leave(void *writing, void *writer)
{
    struct apr_writer *const t = writer;
    (void)writing;
    apr_window_drop(&t->maker.window);
    apr_packer_free(t->packer);
}

static bool is_stream(const struct apr_writing *w, const struct apr_written *f) { return w->p->zstd != 0 || f->sink->stray == NULL; }

struct apr_cut apr_writing_cut(void *ctx, size_t input, unsigned mode)
{
    const struct apr_writing *const w = ctx;
    const struct apr_segment *const s = &w->segments.at[input];
    (void)mode;
    return (struct apr_cut){ .npiece = s->npiece, .run = 1, .elements = APR_ALONE, .bytes = s->end - s->begin };
}

/* ---- making --------------------------------------------------------------------------------------------------------- */

/* Bytes that lie in the source as they will in the target, [from, to) of the file. */
struct same {
    struct apr_bytes         bytes, map;
    const struct apr_source *source;
    uint64_t                 from, to;
};

/* Is the piece nothing but a range of the source? */
static bool is_same(const struct apr_writing *w, const struct apr_segment *s, uint64_t i, struct same *x)
{
    const struct apr_planned *const t = &w->p->tensor[s->first];
    apr_piece_range(w->p, s, i, &x->from, &x->to);
    if (s->n != 1 || s->step != 0 || !apr_is_verbatim(t) || x->to > s->begin + t->bytes)
        return false;
    x->source = t->in->m->file[t->in->one.file];
    x->map = x->source->map;
    x->bytes = (struct apr_bytes){ t->in->one.data.at + (x->from - s->begin), (size_t)(x->to - x->from) };
    return true;
}

/* The descriptor of a source whose map is what is in the file. */
static int file_of(const struct apr_source *s) { return s->stored == s->map.n ? s->fd : -1; }

/* Shares what whole blocks hold, and writes the rest. */
static bool share(struct apr_sink *sink, const struct same *x, struct apr_error *e, enum apr_code *code)
{
    const uint64_t source = (uint64_t)(x->bytes.at - x->map.at), begin = (x->from + SHARED_UNIT - 1) / SHARED_UNIT * SHARED_UNIT,
                   end = x->to / SHARED_UNIT * SHARED_UNIT;
    if ((source - x->from) % SHARED_UNIT != 0 || begin >= end ||
        !apr_sink_share_at(sink, begin, file_of(x->source), source + (begin - x->from), end - begin))
        return false;
    *code = apr_sink_write_at(sink, x->from, x->bytes.at, (size_t)(begin - x->from), e);
    if (*code == APR_OK)
        *code = apr_sink_write_at(sink, end, x->bytes.at + (end - x->from), (size_t)(x->to - end), e);
    return true;
}

/* Where no checksum and no digest is wanted, nobody here has to see the bytes. Else they are in the cache when they are written, and a copy
 * by the system is no faster. */
static enum apr_code write_same(const struct apr_writing *w, const struct apr_written *f, const struct same *x, struct apr_writer *t,
                                struct result *r, struct apr_error *e)
{
    const bool crc = w->p->format->rule->tail > 0, seen = crc || w->hashed;
    enum apr_code code = APR_OK;
    const bool shared = share(f->sink, x, e, &code);
    if (!shared && !seen && apr_sink_copy_at(f->sink, x->from, file_of(x->source), (uint64_t)(x->bytes.at - x->map.at), x->bytes.n))
        return APR_OK;
    apr_window_touch(&t->maker.window, x->map, x->bytes);
    r->crc = crc ? apr_crc32_of(0, x->bytes) : 0;
    if (w->hashed)
        r->digest = apr_digest_of(x->bytes);
    return shared ? code : apr_sink_write_at(f->sink, x->from, x->bytes.at, x->bytes.n, e);
}

/* As a frame, but for what stands before all frames. */
static enum apr_code pack(const struct apr_segment *s, uint64_t i, const struct apr_maker *m, size_t n, struct apr_packer *packer,
                          struct result *r, struct apr_error *e)
{
    const size_t before = s->begin == 0 && i == 0 ? APR_UNPACKED : 0;
    memcpy(r->data, m->out, before);
    APR_TRY(apr_frame_pack(packer, m->out + before, n - before, r->data + before, &r->n, e));
    r->n += before;
    return APR_OK;
}

/* What a run before has written, and t has read. */
static void take_over(const struct apr_writing *w, const struct apr_segment *s, uint64_t i, const struct apr_writer *t, struct result *r)
{
    const struct apr_logged *const x = &w->logged[s->base + i];
    uint64_t from, to;
    apr_piece_range(w->p, s, i, &from, &to);
    r->crc = w->p->format->rule->tail > 0 ? apr_crc32_of(0, (struct apr_bytes){ t->maker.out, (size_t)(to - from) }) : 0;
    r->digest = x->digest;
    r->rounding = x->rounding;
    r->kept = true;
}

static enum apr_code make_piece(struct apr_writing *w, const struct apr_segment *s, uint64_t i, struct apr_writer *t, struct result *r,
                                struct apr_error *e)
{
    const struct apr_written *const f = &w->file[s->file];
    struct same same;
    uint64_t from, to;
    if (apr_writing_has(w, s, i, t)) {
        take_over(w, s, i, t, r);
        return APR_OK;
    }
    if (is_same(w, s, i, &same) && !is_stream(w, f))
        return write_same(w, f, &same, t, r, e);
    apr_piece_range(w->p, s, i, &from, &to);
    APR_TRY(apr_piece_make(w->p, w->r->kernels, s, i, w->scale, &t->maker, &r->rounding, e));
    const struct apr_bytes b = { t->maker.out, (size_t)(to - from) };
    r->crc = w->p->format->rule->tail > 0 ? apr_crc32_of(0, b) : 0;
    if (w->hashed)
        r->digest = apr_digest_of(b);
    if (!is_stream(w, f))
        return apr_sink_write_at(f->sink, from, b.at, b.n, e);
    if (w->p->zstd != 0)
        return pack(s, i, &t->maker, b.n, t->packer, r, e);
    memcpy(r->data, b.at, b.n);
    r->n = b.n;
    return APR_OK;
}

static enum apr_code make(void *ctx, const struct apr_pieces *p, void *scratch, void *result, struct apr_error *e)
{
    struct apr_writing *const w = ctx;
    struct apr_writer *const t = scratch;
    const struct apr_segment *const s = &w->segments.at[p->input];
    const struct apr_written *const f = &w->file[s->file];
    struct result *const r = result;
    uint64_t from, to;
    *r = (struct result){ 0 };
    const enum apr_code code = make_piece(w, s, p->first, t, r, e);
    apr_window_rest(&t->maker.window);
    if (code != APR_OK || is_stream(w, f))
        return code;
    apr_piece_range(w->p, s, p->first, &from, &to);
    apr_sink_flush_at(f->sink, from, to - from);
    return APR_OK;
}

/* ---- taking --------------------------------------------------------------------------------------------------------- */

static enum apr_code put(struct apr_writing *w, struct apr_written *f, const void *bytes, size_t n, struct apr_error *e)
{
    const uint64_t at = f->out;
    f->out += n;
    if (f->sink->stray != NULL) {
        APR_TRY(apr_sink_write_at(f->sink, at, bytes, n, e));
        apr_sink_flush_at(f->sink, at, n);
        return APR_OK;
    }
    if (fwrite(bytes, 1, n, f->sink->to) == n && f->sink->why == 0)
        return APR_OK;
    APR_TRY(apr_sink_sync(f->sink, e));
    w->left = true; /* which is no failure, but nothing is left to do */
    return apr_fail(e, APR_EIO, APR_NOWHERE, "the reader left");
}

static void note_rounding(struct apr_writing *w, const struct apr_segment *s, const struct apr_rounding *x)
{
    if (w->rounding == NULL || s->n != 1)
        return;
    struct apr_rounding *const sum = &w->rounding[s->first];
    sum->ab += x->ab;
    sum->aa += x->aa;
    sum->bb += x->bb;
    sum->dd += x->dd;
    sum->max = x->max > sum->max ? x->max : sum->max;
    sum->n += x->n;
    sum->nan += x->nan;
    sum->overflowed += x->overflowed;
}

static enum apr_code take(void *ctx, const struct apr_pieces *p, const void *result, struct apr_error *e)
{
    struct apr_writing *const w = ctx;
    const struct apr_segment *const s = &w->segments.at[p->input];
    struct apr_written *const f = &w->file[s->file];
    const struct result *const r = result;
    uint64_t from, to;
    apr_piece_range(w->p, s, p->first, &from, &to);
    if (w->p->format->rule->tail > 0)
        f->crc = apr_crc32_joined(f->crc, r->crc, to - from);
    if (w->verify)
        w->digest[s->base + p->first] = r->digest;
    if (w->logged != NULL && !r->kept)
        APR_TRY(apr_writing_note(w, s, p->first, &r->digest, &r->rounding, e));
    note_rounding(w, s, &r->rounding);
    if (w->p->zstd != 0) {
        const size_t before = from == 0 ? APR_UNPACKED : 0;
        APR_TRY(apr_frames_add(&f->frames, r->n - before, (size_t)(to - from) - before, e));
    }
    return r->n > 0 ? put(w, f, r->data, r->n, e) : APR_OK;
}

/* The tail as a frame of its own, then the table of frames. */
static enum apr_code end_frames(struct apr_writing *w, struct apr_written *f, size_t n, struct apr_error *e)
{
    unsigned char frame[128];
    struct apr_bytes table;
    size_t packed;
    if (n > 0) {
        APR_TRY(apr_frame_pack(w->packer, f->tail, n, frame, &packed, e));
        APR_TRY(apr_frames_add(&f->frames, packed, n, e));
        APR_TRY(put(w, f, frame, packed, e));
    }
    APR_TRY(apr_frames_table(&f->frames, &table, e));
    const enum apr_code code = put(w, f, table.at, table.n, e);
    free((void *)(uintptr_t)table.at);
    return code;
}

/* Behind the last segment of a file comes its tail. */
static enum apr_code done(void *ctx, struct apr_pass *pass, size_t input, struct apr_error *e)
{
    struct apr_writing *const w = ctx;
    const size_t file = w->segments.at[input].file;
    struct apr_written *const f = &w->file[file];
    const struct apr_planned_file *const planned = &w->p->file[file];
    const unsigned n = w->p->format->rule->tail;
    (void)pass;
    if (input + 1 < w->segments.n && w->segments.at[input + 1].file == file)
        return APR_OK;
    if (n > 0)
        w->p->format->finish(w->p, file, f->crc, f->tail);
    if (w->p->zstd != 0)
        return end_frames(w, f, n, e);
    if (n == 0)
        return APR_OK;
    return is_stream(w, f) ? put(w, f, f->tail, n, e) : apr_sink_write_at(f->sink, planned->size - n, f->tail, n, e);
}

static enum apr_code write_tensors(struct apr_writing *w, struct apr_error *e)
{
    bool streams = false;
    for (size_t i = 0; i < w->p->nfile; i++)
        streams |= w->file[i].sink != NULL && is_stream(w, &w->file[i]);
    const struct apr_job job = {
        .what = "writing", .ctx = w, .ninput = w->segments.n, .cut = apr_writing_cut, .make = make, .take = take, .done = done,
        .result = sizeof(struct result) + (streams ? APR_UNPACKED + apr_frame_most(APR_PIECE) : 0), .scratch = sizeof(struct apr_writer),
        .enter = apr_writer_enter, .leave = apr_writer_leave,
    };
    return apr_pass(w->r, &job, e);
}

/* ---- one scale for a tensor ----------------------------------------------------------------------------------------- */

static bool wants_scale(const struct apr_planned *t) { return t->dtype->head > 0 && (t->how == APR_ENCODE || t->how == APR_GENERATE); }

static struct apr_cut scale_cut(void *ctx, size_t input, unsigned mode)
{
    const struct apr_writing *const w = ctx;
    const struct apr_segment *const s = &w->segments.at[input];
    return s->n == 1 && wants_scale(&w->p->tensor[s->first]) ? apr_writing_cut(ctx, input, mode) : (struct apr_cut){ .run = 1, .elements = APR_ALONE };
}

static enum apr_code scale_make(void *ctx, const struct apr_pieces *p, void *scratch, void *result, struct apr_error *e)
{
    struct apr_writing *const w = ctx;
    struct apr_writer *const t = scratch;
    const enum apr_code code = apr_piece_largest(w->p, &w->segments.at[p->input], p->first, &t->maker, result, e);
    apr_window_rest(&t->maker.window);
    return code;
}

static enum apr_code scale_take(void *ctx, const struct apr_pieces *p, const void *result, struct apr_error *e)
{
    struct apr_writing *const w = ctx;
    float *const largest = &w->scale[w->segments.at[p->input].first], x;
    (void)e;
    memcpy(&x, result, sizeof x);
    *largest = x > *largest ? x : *largest;
    return APR_OK;
}

static enum apr_code find_scales(struct apr_writing *w, struct apr_error *e)
{
    bool wanted = false;
    for (size_t i = 0; i < w->p->ntensor; i++)
        wanted |= wants_scale(&w->p->tensor[i]);
    if (!wanted)
        return APR_OK;
    const struct apr_job job = { .what = "measuring", .ctx = w, .ninput = w->segments.n, .cut = scale_cut, .make = scale_make,
                                 .take = scale_take, .result = sizeof(float), .scratch = sizeof(struct apr_writer),
                                 .enter = apr_writer_enter, .leave = apr_writer_leave };
    w->scale = calloc(w->p->ntensor, sizeof *w->scale);
    if (w->scale == NULL)
        return apr_no_memory(e);
    APR_TRY(apr_pass(w->r, &job, e));
    for (size_t i = 0; i < w->p->ntensor; i++) {
        w->scale[i] /= 127;
        if (w->scale[i] == 0)
            w->scale[i] = 1;
    }
    return APR_OK;
}

/* ---- files ---------------------------------------------------------------------------------------------------------- */

static const char *name_in(const struct apr_plan *p, const char *path) { return path + strlen(p->out); }

/* "model-00001-of-00002.safetensors", whatever the numbers. */
static bool is_shard(const char *name, const char *suffix)
{
    static const char shape[] = "model-00000-of-00000";
    size_t i = 0;
    while (shape[i] != 0 && (shape[i] == '0' ? name[i] >= '0' && name[i] <= '9' : name[i] == shape[i]))
        i++;
    return shape[i] == 0 && strcmp(name + i, suffix) == 0;
}

/* Is it one of the files that all jobs of the plan write together? */
static bool is_planned(const struct apr_plan *p, const char *name)
{
    for (size_t i = 0; i < p->nfile; i++)
        if (strcmp(name, name_in(p, p->file[i].path)) == 0)
            return true;
    return p->index.path != NULL && strcmp(name, name_in(p, p->index.path)) == 0;
}

static bool is_weights(const struct apr_plan *p, const char *name)
{
    if (p->adapter)
        return is_planned(p, name);
    return is_shard(name, p->format->suffix) || strcmp(name, "model.safetensors") == 0 || strcmp(name, "model.safetensors.index.json") == 0;
}

/* Is it one of the small files that belong to one model alone? What is written for people stays. */
static bool is_old_side(const struct apr_plan *p, const char *name)
{
    const struct apr_bytes text = apr_text(name);
    bool old = apr_side_known(text) && !apr_bytes_is(text, "README.md") && !apr_bytes_is(text, "LICENSE");
    for (size_t i = 0; i < p->side.n && old; i++)
        old = !apr_bytes_is(p->side.file[i].name, name);
    return old;
}

typedef enum apr_code visit_fn(struct apr_writing *w, const char *name, struct apr_error *e);

/* The name of each file in the folder p->out + sub (of its own, not what a link leads to). */
static enum apr_code each_name(struct apr_writing *w, const char *sub, visit_fn *visit, struct apr_error *e)
{
    const struct apr_bytes path = apr_arena_format(&w->p->arena, "%s%s", w->p->out, sub);
    const int fd = path.at == NULL ? -1 : open((const char *)path.at, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (*sub == 0 ? 0 : O_NOFOLLOW));
    DIR *const d = fd < 0 ? NULL : fdopendir(fd);
    enum apr_code code = path.at == NULL ? apr_no_memory(e) : APR_OK;
    char name[2 * NAME_MAX];
    if (d == NULL && fd >= 0)
        close(fd);
    for (const struct dirent *entry; d != NULL && code == APR_OK && (entry = readdir(d)) != NULL;)
        if (snprintf(name, sizeof name, "%s%s%s", sub, *sub == 0 ? "" : "/", entry->d_name) < (int)sizeof name)
            code = visit(w, name, e);
    if (d != NULL)
        closedir(d);
    return code;
}

/* Weights in the folder that will not be of the model any more. */
static enum apr_code note_weights(struct apr_writing *w, const char *name, struct apr_error *e)
{
    const struct apr_plan *const p = w->p;
    if (!is_weights(p, name))
        return APR_OK;
    w->replaces = true;
    if (is_planned(p, name) && (p->force || p->only > 0))
        return APR_OK;
    if (p->force)
        return apr_sinks_remove(w->sinks, name, e);
    apr_fail(e, APR_EARG, APR_NOWHERE, "cannot be written: the folder holds a model, %s; --force replaces it", APR_QUOTED(apr_text(name)));
    apr_error_in(e, p->out);
    return APR_EARG;
}

static enum apr_code note_side(struct apr_writing *w, const char *name, struct apr_error *e)
{
    return is_old_side(w->p, name) ? apr_sinks_remove(w->sinks, name, e) : APR_OK;
}

/* What is of the model that was there: its tokenizer would be taken for the new one's. Who writes a part of the model does not know what
 * others write. */
static enum apr_code note_old(struct apr_writing *w, struct apr_error *e)
{
    static const char *const folders[] = { "", "1_Pooling", "additional_chat_templates" };
    APR_TRY(each_name(w, "", note_weights, e));
    for (size_t i = 0; i < APR_LENGTH(folders) && w->replaces && w->p->force && w->p->only == 0 && !w->p->adapter; i++)
        APR_TRY(each_name(w, folders[i], note_side, e));
    return APR_OK;
}

static enum apr_code add_text(struct apr_writing *w, const char *path, struct apr_bytes text, struct apr_error *e)
{
    struct apr_sink *sink;
    APR_TRY(apr_sinks_add(w->sinks, path, text.n, w->p->force, &sink, e));
    if (text.n > 0)
        fwrite(text.at, 1, text.n, sink->to);
    w->p->bytes_out += text.n;
    return APR_OK;
}

/* config.json, by which a folder is known as a checkpoint, comes last. */
static enum apr_code add_side(struct apr_writing *w, bool config, struct apr_error *e)
{
    const struct apr_side *const side = &w->p->side;
    for (size_t i = 0; i < side->n; i++) {
        if (apr_bytes_is(side->file[i].name, "config.json") != config)
            continue;
        const struct apr_bytes path = apr_arena_format(&w->p->arena, "%s%.*s", w->p->out, APR_PRINTED(side->file[i].name));
        if (path.at == NULL)
            return apr_no_memory(e);
        APR_TRY(add_text(w, (const char *)path.at, side->file[i].text, e));
    }
    return APR_OK;
}

static enum apr_code begin_files(struct apr_writing *w, struct apr_error *e)
{
    struct apr_plan *const p = w->p;
    APR_TRY(apr_sinks_begin(&w->sinks, p->folder ? p->out : NULL, p->only > 0, e));
    if (apr_sinks_exists(w->sinks))
        APR_TRY(note_old(w, e));
    for (size_t i = 0; i < p->nfile; i++) {
        if (p->only != 0 && p->only != i + 1)
            continue;
        APR_TRY(apr_sinks_add(w->sinks, p->file[i].path, p->zstd == 0 ? p->file[i].size : 0, p->force, &w->file[i].sink, e));
        w->file[i].sink->unsynced = p->unsynced;
        if (p->resume)
            APR_TRY(apr_sinks_keep(w->sinks, w->file[i].sink, e));
    }
    if (p->only > 1)
        return APR_OK;
    if (p->index.path != NULL)
        APR_TRY(add_text(w, p->index.path, p->index.text, e));
    if (!p->folder)
        return APR_OK;
    APR_TRY(add_side(w, false, e));
    return add_side(w, true, e);
}

/* ---- the end -------------------------------------------------------------------------------------------------------- */

/* Was what a tensor is computed from fit for it? */
static enum apr_code check_computed(const struct apr_input *in, struct apr_error *e)
{
    for (size_t i = 0; i < in->view.npart; i++) {
        const struct apr_computation *const c = apr_input_part(in, i)->computed;
        if (c != NULL && c->sound != NULL)
            APR_TRY(c->sound(c, e));
    }
    return APR_OK;
}

/* Everything that was read is as it was. Models are few. */
static enum apr_code check_sources(const struct apr_plan *p, struct apr_error *e)
{
    const struct apr_model *asked[16];
    size_t n = 0;
    for (size_t i = 0; i < p->ntensor; i++) {
        const struct apr_model *const m = p->tensor[i].in->m;
        size_t k = 0;
        APR_TRY(check_computed(p->tensor[i].in, e));
        while (k < n && asked[k] != m)
            k++;
        if (m == NULL || k < n)
            continue;
        APR_TRY(apr_model_unchanged(m, e));
        if (n < APR_LENGTH(asked))
            asked[n++] = m;
    }
    return apr_side_unchanged(&p->side, e);
}

static void tell_rounding(struct apr_writing *w)
{
    for (size_t i = 0; w->rounding != NULL && i < w->p->ntensor; i++) {
        struct apr_planned *const t = &w->p->tensor[i];
        const struct apr_rounding *const x = &w->rounding[i];
        t->nan = x->nan;
        t->overflowed = x->overflowed;
        if (!t->lossy)
            continue;
        t->rmse = x->overflowed > 0 ? NAN : x->n == 0 ? 0 : sqrt(x->dd / (double)x->n);
        t->cosine = x->overflowed > 0 ? NAN : apr_cosine(x->ab, x->aa, x->bb);
        t->max_error = x->overflowed > 0 ? NAN : x->max;
    }
}

static enum apr_code prepare(struct apr_writing *w, struct apr_error *e)
{
    struct apr_plan *const p = w->p;
    bool rounds = false;
    for (size_t i = 0; i < p->ntensor; i++)
        rounds |= p->tensor[i].lossy || apr_is_quantized(p->tensor[i].dtype);
    p->bytes_out = 0;
    w->file = calloc(p->nfile, sizeof *w->file);
    w->rounding = rounds ? calloc(p->ntensor, sizeof *w->rounding) : NULL;
    w->packer = p->zstd != 0 ? apr_packer_new(p->zstd) : NULL;
    if (w->file == NULL || (rounds && w->rounding == NULL) || (p->zstd != 0 && w->packer == NULL))
        return apr_no_memory(e);
    APR_TRY(apr_segments_of(&w->segments, p, e));
    for (size_t i = w->segments.n; i-- > 0;)
        w->file[w->segments.at[i].file].base = w->segments.at[i].base;
    return APR_OK;
}

static enum apr_code write_all(struct apr_writing *w, bool *verified, struct apr_error *e)
{
    struct apr_plan *const p = w->p;
    if (p->resume && p->zstd != 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "a compressed file is written in one go: it cannot be resumed");
    APR_TRY(prepare(w, e));
    APR_TRY(apr_writing_others(p, e));
    APR_TRY(begin_files(w, e));
    for (size_t i = 0; i < p->nfile; i++)
        w->verify &= w->file[i].sink == NULL || w->file[i].sink->stray != NULL;
    w->digest = w->verify ? calloc((size_t)w->segments.npiece + 1, sizeof *w->digest) : NULL;
    if (w->verify && w->digest == NULL)
        return apr_no_memory(e);
    if (p->resume)
        APR_TRY(apr_writing_resume(w, e));
    enum apr_code code = find_scales(w, e);
    if (code == APR_OK)
        code = write_tensors(w, e);
    if (w->left)
        return APR_OK;
    if (code == APR_OK && w->verify)
        code = apr_writing_verify(w, e);
    APR_TRY(check_sources(p, e)); /* of one that changed no verdict counts, not even that on what was written: names may lie in it */
    APR_TRY(code);
    for (size_t i = 0; i < p->nfile; i++)
        if (w->file[i].sink != NULL)
            p->bytes_out += is_stream(w, &w->file[i]) ? w->file[i].out : p->file[i].size;
    APR_TRY(apr_sinks_end(w->sinks, e));
    APR_TRY(apr_writing_others_still(p, e));
    tell_rounding(w);
    *verified = w->verify;
    return APR_OK;
}

enum apr_code apr_plan_write(struct apr_plan *p, const struct apr_run *r, bool verify, bool *verified, struct apr_error *e)
{
    struct apr_writing w = { .p = p, .r = r, .verify = verify, .hashed = verify || p->resume };
    *verified = false;
    const enum apr_code code = write_all(&w, verified, e);
    apr_sinks_drop(w.sinks);
    for (size_t i = 0; w.file != NULL && i < p->nfile; i++)
        free(w.file[i].frames.at);
    free(w.file);
    free(w.digest);
    free(w.scale);
    free(w.logged);
    free(w.rounding);
    free(w.segments.at);
    apr_packer_free(w.packer);
    return code;
}
