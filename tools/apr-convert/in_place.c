#include "in_place.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "files/source.h"
#include "model/meta.h"
#include "model/model.h"
#include "model/open.h"

/* One edit. h.header and old are ours. */
struct work {
    const char         *path;
    struct apr_model   *m;
    struct apr_draft    meta;
    struct apr_bytes   *name;
    struct apr_reheader h;
    struct apr_bytes    old;
    uint64_t            size, missing; /* missing: bytes for which there was no room */
    const char         *suffix;
};

static void end(struct work *w)
{
    apr_close(w->m);
    apr_draft_end(&w->meta);
    free(w->name);
    free((void *)(uintptr_t)w->h.header.at);
    free((void *)(uintptr_t)w->old.at);
}

/* ---- what is wished for --------------------------------------------------------------------------------------------- */

static enum apr_code wish(struct work *w, const struct apr_edits *x, const struct apr_run *r, struct apr_error *e)
{
    const struct apr_model *m = w->m;
    if (m->format->reheader == NULL)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "a file of format %s is not changed in place", m->format->name);
    for (size_t i = 0; i < m->meta.n; i++)
        APR_TRY(apr_draft_put(&w->meta, m->meta.entry[i].key, &m->meta.entry[i].value, e));
    w->name = malloc((m->ntensor + 1) * sizeof *w->name);
    if (w->name == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < m->ntensor; i++)
        w->name[i] = m->tensor[i].name;
    APR_TRY(apr_edit_metadata(&w->meta, x, m->format, r, e));
    return apr_edit_names(w->name, m->ntensor, x, e);
}

/* ---- the header ----------------------------------------------------------------------------------------------------- */

static enum apr_code make_header(struct work *w, struct apr_error *e)
{
    struct apr_reheader *const h = &w->h;
    const struct apr_bytes map = w->m->file[0]->map;
    uint64_t unit = apr_rewrite_unit(w->path);
    *h = (struct apr_reheader){ .m = w->m, .meta = &w->meta.meta, .name = w->name };
    APR_TRY(w->m->format->reheader(h, e));
    unit = unit > h->unit ? unit : h->unit; /* powers of two */
    for (w->missing = h->missing; h->missing > 0;) {
        if (!apr_round_up(h->inserted + h->missing, unit, &h->inserted) || h->inserted > APR_MOST_HEAD)
            return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "its header has no room for %llu bytes more, and they are too many to be inserted",
                            (unsigned long long)w->missing);
        APR_TRY(w->m->format->reheader(h, e));
    }
    unsigned char *const old = malloc((size_t)h->room + 1);
    if (old == NULL)
        return apr_no_memory(e);
    w->old = (struct apr_bytes){ memcpy(old, map.at, (size_t)h->room), (size_t)h->room };
    w->size = map.n;
    return APR_OK;
}

/* ---- reading it back ------------------------------------------------------------------------------------------------ */

static enum apr_code not_read_back(const char *what, struct apr_error *e)
{
    return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "the new header does not read back as it should (%.400s), so nothing was changed",
                    what);
}

static bool same_tensor(const struct work *w, const struct apr_tensor *a, const struct apr_model *now, struct apr_bytes name)
{
    const struct apr_tensor *const b = apr_model_find(now, name);
    return b != NULL && a->dtype == b->dtype && a->ndim == b->ndim && memcmp(a->dim, b->dim, sizeof a->dim) == 0 && a->row == b->row &&
           a->data.n == b->data.n && a->tied == b->tied && apr_tensor_offset(w->m, a) + w->h.inserted == apr_tensor_offset(now, b);
}

static enum apr_code compare(const struct work *w, const struct apr_model *now, struct apr_error *e)
{
    const struct apr_meta *want = &w->meta.meta;
    bool same = now->format == w->m->format && now->ntensor == w->m->ntensor;
    for (size_t i = 0; i < w->m->ntensor && same; i++)
        same = same_tensor(w, &w->m->tensor[i], now, w->name[i]);
    if (!same)
        return not_read_back("another tensor", e);
    for (size_t i = 0, k = 0; i < want->n; i++) {
        const bool padding = apr_bytes_is(want->entry[i].key, "general.padding");
        if (padding)
            continue;
        if (k >= now->meta.n || !apr_bytes_equal(want->entry[i].key, now->meta.entry[k].key) ||
            !apr_value_equal(&want->entry[i].value, &now->meta.entry[k].value))
            return not_read_back("another key", e);
        k++;
    }
    return APR_OK;
}

/* The new header at the start of a file of the new size that is a hole and no more: readers look at nothing else. */
static enum apr_code check_header(const struct work *w, const struct apr_run *r, struct apr_error *e)
{
    const int fd = memfd_create("header", MFD_CLOEXEC);
    struct apr_model *now = NULL;
    struct apr_error why = { .at = APR_NOWHERE };
    char path[32];
    const struct apr_bytes header = w->h.header;
    if (fd < 0 || ftruncate(fd, (off_t)(w->size + w->h.inserted)) != 0 || pwrite(fd, header.at, header.n, 0) != (ssize_t)header.n) {
        const int error = errno;
        if (fd >= 0)
            close(fd);
        return apr_fail(e, APR_EIO, APR_NOWHERE, "no room to read the new header back: %s", strerror(error));
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    enum apr_code code = apr_open_alone(&now, path, r, &why);
    code = code == APR_OK ? compare(w, now, e) : not_read_back(why.text, e);
    apr_close(now);
    close(fd);
    return code;
}

/* ---- the edit ------------------------------------------------------------------------------------------------------- */

static enum apr_code prepare(struct work *w, const struct apr_edits *x, const struct apr_run *r, struct apr_error *e)
{
    APR_TRY(apr_open_alone(&w->m, w->path, r, e));
    w->suffix = w->m->format->suffix;
    enum apr_code code = wish(w, x, r, e);
    if (code == APR_OK)
        code = make_header(w, e);
    if (code == APR_OK)
        code = check_header(w, r, e);
    if (code == APR_OK)
        code = apr_model_unchanged(w->m, e);
    if (code != APR_OK)
        apr_error_in(e, w->path);
    apr_close(w->m); /* nobody may have it mapped when it moves */
    w->m = NULL;
    return code;
}

static enum apr_code explain_room(const struct work *w, struct apr_error *e)
{
    const struct apr_error why = *e;
    apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "its header has room for %llu bytes, %llu bytes are missing, and %s; apr-convert FILE "
             "NEW%s with the same options writes another file",
             (unsigned long long)w->h.room, (unsigned long long)w->missing, why.text, w->suffix);
    apr_error_in(e, w->path);
    return APR_EUNSUPPORTED;
}

static enum apr_code write_header(struct work *w, struct in_place *out, struct apr_error *e)
{
    const struct apr_reheader *const h = &w->h;
    const struct apr_rewrite rewrite = { .size = w->size, .old_head = w->old, .new_head = h->header, .old_tail = { h->old_tail, h->ntail },
                                         .new_tail = { h->tail, h->ntail } };
    out->header = h->header.n;
    if (apr_bytes_equal(w->old, h->header))
        return APR_OK;
    const enum apr_code code = apr_rewrite(w->path, &rewrite, e);
    if (code == APR_EUNSUPPORTED && h->inserted > 0)
        return explain_room(w, e);
    out->inserted = h->inserted;
    out->written = code == APR_OK;
    return code;
}

enum apr_code edit_in_place(const char *path, const struct apr_edits *x, const struct apr_run *r, struct in_place *out, struct apr_error *e)
{
    struct work w = { .path = path };
    *out = (struct in_place){ .recovered = APR_NOTHING_LEFT };
    APR_TRY(apr_rewrite_recover(path, &out->recovered, e));
    enum apr_code code = prepare(&w, x, r, e);
    if (code == APR_OK)
        code = write_header(&w, out, e);
    end(&w);
    return code;
}

enum apr_code recover_in_place(const char *path, enum apr_recovery *done, struct apr_error *e)
{
    APR_TRY(apr_rewrite_recover(path, done, e));
    if (*done != APR_NOTHING_LEFT || access(path, F_OK) == 0)
        return APR_OK;
    apr_fail(e, APR_EIO, APR_NOWHERE, "there is nothing to recover: %s", strerror(errno));
    apr_error_in(e, path);
    return APR_EIO;
}
