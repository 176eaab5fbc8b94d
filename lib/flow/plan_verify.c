/* Reading back what was written: the header by the format's own reader, every piece by its digest. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "files/source.h"
#include "flow/plan_writing.h"
#include "model/format.h"
#include "model/meta.h"
#include "model/model.h"
#include "model/open.h"

static enum apr_code differs(const struct apr_planned_file *f, const struct apr_planned *t, const char *what, struct apr_error *e)
{
    if (t == NULL)
        apr_fail(e, APR_EIO, APR_NOWHERE, "what was written reads back otherwise: %s", what);
    else
        apr_fail_tensor(e, APR_EIO, APR_NOWHERE, t->name, " reads back otherwise than it was written: %s", what);
    apr_error_in(e, f->path);
    return APR_EIO;
}

/* ---- pieces --------------------------------------------------------------------------------------------------------- */

/* [from, to) of the file, decoded, into out. */
static enum apr_code read_piece(const struct apr_writing *w, const struct apr_segment *s, uint64_t i, uint64_t from, uint64_t to,
                                struct apr_writer *t, unsigned char *out, struct apr_error *e)
{
    const struct apr_written *const f = &w->file[s->file];
    if (w->p->zstd == 0)
        return apr_sink_read_at(f->sink, from, out, (size_t)(to - from), e);
    const struct apr_frame *const frame = &f->frames.at[s->base - f->base + i];
    const size_t before = from == 0 ? APR_UNPACKED : 0;
    APR_TRY(apr_sink_read_at(f->sink, 0, out, before, e));
    APR_TRY(apr_sink_read_at(f->sink, APR_UNPACKED + frame->begin, t->packed, frame->packed, e));
    return apr_frame_unpack(t->packer, t->packed, frame->packed, out + before, (size_t)(to - from) - before, e);
}

static enum apr_code make(void *ctx, const struct apr_pieces *p, void *scratch, void *result, struct apr_error *e)
{
    const struct apr_writing *const w = ctx;
    struct apr_writer *const t = scratch;
    const struct apr_segment *const s = &w->segments.at[p->input];
    uint64_t from, to;
    (void)result;
    apr_piece_range(w->p, s, p->first, &from, &to);
    APR_TRY(read_piece(w, s, p->first, from, to, t, t->maker.out, e));
    const struct apr_digest digest = apr_digest_of((struct apr_bytes){ t->maker.out, (size_t)(to - from) });
    if (apr_digest_equal(digest, w->digest[s->base + p->first]))
        return APR_OK;
    return differs(&w->p->file[s->file], s->begin == 0 ? NULL : &w->p->tensor[s->first], "its bytes have another digest", e);
}

static enum apr_code take(void *ctx, const struct apr_pieces *p, const void *result, struct apr_error *e)
{
    (void)ctx, (void)p, (void)result, (void)e;
    return APR_OK;
}

/* ---- the tail ------------------------------------------------------------------------------------------------------- */

static enum apr_code check_tail(const struct apr_writing *w, size_t file, struct apr_error *e)
{
    const struct apr_written *const f = &w->file[file];
    const struct apr_planned_file *const planned = &w->p->file[file];
    const unsigned n = w->p->format->rule->tail;
    unsigned char tail[sizeof f->tail], packed[128];
    if (n == 0)
        return APR_OK;
    if (w->p->zstd == 0) {
        APR_TRY(apr_sink_read_at(f->sink, planned->size - n, tail, n, e));
    } else {
        const struct apr_frame *const last = &f->frames.at[f->frames.n - 1];
        APR_TRY(apr_sink_read_at(f->sink, APR_UNPACKED + last->begin, packed, last->packed, e));
        APR_TRY(apr_frame_unpack(w->packer, packed, last->packed, tail, n, e));
    }
    return memcmp(tail, f->tail, n) == 0 ? APR_OK : differs(planned, NULL, "the checksum at its end", e);
}

/* ---- the header ----------------------------------------------------------------------------------------------------- */

static enum apr_code check_tensor(const struct apr_planned_file *f, const struct apr_model *m, const struct apr_planned *t,
                                  struct apr_error *e)
{
    const struct apr_tensor *const got = apr_model_find(m, t->name);
    if (got == NULL)
        return differs(f, t, "it is not there", e);
    if (got->dtype != t->dtype && t->bytes > 0)
        return differs(f, t, "another dtype", e);
    if (got->ndim != t->ndim || memcmp(got->dim, t->dim, t->ndim * sizeof *t->dim) != 0)
        return differs(f, t, "another shape", e);
    if (got->data.n != t->bytes || (t->bytes > 0 && apr_tensor_offset(m, got) != f->header.n + t->at) || got->row != t->row)
        return differs(f, t, "another place", e);
    return APR_OK;
}

/* A format that knows types gives values back as they are; JSON gives back texts at least. */
static enum apr_code check_key(const struct apr_plan *p, const struct apr_planned_file *f, const struct apr_model *m,
                               const struct apr_meta_entry *entry, struct apr_error *e)
{
    const struct apr_value *const v = &entry->value, *const got = apr_meta_at(&m->meta, entry->key);
    const bool typed = p->format->own_names && !(v->type == APR_META_ARRAY && v->encoding == APR_JSON);
    if (got == NULL || (typed || v->type == APR_META_STRING ? !apr_value_equal(v, got) : false)) {
        apr_fail(e, APR_EIO, APR_NOWHERE, "key %s reads back otherwise than it was written", APR_QUOTED(entry->key));
        apr_error_in(e, f->path);
        return APR_EIO;
    }
    return APR_OK;
}

/* Keys are all in the first file; of those that are about shards each has its own. */
static enum apr_code check_keys(const struct apr_plan *p, size_t file, const struct apr_model *m, struct apr_error *e)
{
    for (size_t i = 0; i < p->meta.meta.n && file == 0; i++) {
        const struct apr_meta_entry *const entry = &p->meta.meta.entry[i];
        const bool own = apr_bytes_is(entry->key, "sharding") || (entry->key.n > 6 && memcmp(entry->key.at, "split.", 6) == 0);
        if (!own)
            APR_TRY(check_key(p, &p->file[file], m, entry, e));
    }
    return APR_OK;
}

static enum apr_code check_model(const struct apr_plan *p, size_t file, const struct apr_model *m, struct apr_error *e)
{
    const struct apr_planned_file *const f = &p->file[file];
    if (m->ntensor != f->n)
        return differs(f, NULL, "the number of tensors", e);
    for (size_t i = 0; i < f->n; i++)
        APR_TRY(check_tensor(f, m, &p->tensor[f->first + i], e));
    return check_keys(p, file, m, e);
}

/* What a compressed file decodes to, as a file with the header alone: the rest, whose digests are right, is a hole. */
static enum apr_code unpack_header(const struct apr_writing *w, size_t file, struct apr_source **s, struct apr_error *e)
{
    const struct apr_planned_file *const f = &w->p->file[file];
    const int fd = apr_temporary(w->r, e);
    struct apr_writer *const t = fd < 0 ? NULL : calloc(1, sizeof *t);
    enum apr_code code = fd < 0 ? e->code : t == NULL ? apr_no_memory(e) : APR_OK;
    const struct apr_segment *header = w->segments.at;
    *s = NULL;
    while (header->file != file)
        header++;
    for (uint64_t i = 0; code == APR_OK && i < header->npiece; i++) {
        uint64_t from, to;
        apr_piece_range(w->p, header, i, &from, &to);
        t->packer = w->packer;
        code = read_piece(w, header, i, from, to, t, t->maker.out, e);
        if (code == APR_OK)
            code = apr_write_all(fd, t->maker.out, (size_t)(to - from), e);
    }
    if (code == APR_OK && ftruncate(fd, (off_t)f->size) != 0)
        code = apr_fail(e, APR_EIO, APR_NOWHERE, "cannot be read back in %s", w->r->tmpdir != NULL ? w->r->tmpdir : "memory");
    if (code == APR_OK)
        code = apr_source_of(s, fd, f->path, e);
    if (fd >= 0)
        close(fd);
    free(t);
    return code;
}

static enum apr_code check_header(const struct apr_writing *w, size_t file, struct apr_error *e)
{
    const struct apr_planned_file *const f = &w->p->file[file];
    struct apr_source *s;
    struct apr_model *m;
    APR_TRY(w->p->zstd != 0 ? unpack_header(w, file, &s, e) : apr_source_of(&s, w->file[file].sink->fd, f->path, e));
    enum apr_code code = apr_open_source(&m, s, w->p->format, w->r, e);
    if (code == APR_OK)
        code = check_model(w->p, file, m, e);
    apr_close(m);
    return code;
}

enum apr_code apr_writing_verify(struct apr_writing *w, struct apr_error *e)
{
    const struct apr_job job = { .what = "verifying", .ctx = w, .ninput = w->segments.n, .cut = apr_writing_cut, .make = make, .take = take,
                                 .scratch = sizeof(struct apr_writer), .enter = apr_writer_enter, .leave = apr_writer_leave };
    for (size_t i = 0; i < w->p->nfile; i++)
        if (w->file[i].sink != NULL) {
            APR_TRY(check_tail(w, i, e));
            APR_TRY(check_header(w, i, e));
        }
    return apr_pass(w->r, &job, e);
}
