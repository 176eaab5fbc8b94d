#include "files/inflate.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/cursor.h"

#define WINDOW_LOG 27           /* what zstd itself takes without being asked */
#define BUFFER     (128u << 10) /* bytes: one zstd block */
#define DROP       (4u << 20)   /* bytes of input after which their pages are let go */

/*   packed   a view of the source; begins `header` bytes into the file
 *   size     bytes in fd so far; for LZ4 they are `total` at the end
 *   hint     what zstd said last: 0 between frames */
struct apr_inflater {
    struct apr_bytes packed, view;
    size_t           header;
    enum apr_packing packing;
    int              fd;
    uint64_t         size, total;
    ZSTD_DStream    *zstd;
    ZSTD_inBuffer    in;
    size_t           hint, dropped;
    unsigned char    buffer[BUFFER];
};

static enum apr_code zstd_fails(const struct apr_inflater *f, size_t result, struct apr_error *e)
{
    const uint64_t at = f->header + f->in.pos;
    switch (ZSTD_getErrorCode(result)) {
    case ZSTD_error_memory_allocation:
        return apr_no_memory(e);
    case ZSTD_error_frameParameter_windowTooLarge:
        return apr_fail(e, APR_ELIMIT, at, "a zstd frame wants a window of more than %u MiB", 1u << (WINDOW_LOG - 20));
    default:
        return apr_fail(e, APR_ECORRUPT, at, "the zstd stream is broken after %llu decoded bytes: %s",
                        (unsigned long long)(f->size - f->header), ZSTD_getErrorName(result));
    }
}

static enum apr_code zstd_to(struct apr_inflater *f, uint64_t n, struct apr_error *e)
{
    while (f->size < n && (f->in.pos < f->in.size || f->hint != 0)) {
        ZSTD_outBuffer out = { f->buffer, (size_t)apr_min(BUFFER, n - f->size), 0 };
        const size_t before = f->in.pos;
        const size_t hint = ZSTD_decompressStream(f->zstd, &out, &f->in);
        if (ZSTD_isError(hint))
            return zstd_fails(f, hint, e);
        if (out.pos == 0 && f->in.pos == before)
            return apr_fail(e, APR_ECORRUPT, f->header + f->in.pos, "the file ends inside a zstd frame, after %llu decoded bytes",
                            (unsigned long long)(f->size - f->header));
        f->hint = hint;
        APR_TRY(apr_write_all(f->fd, f->buffer, out.pos, e));
        f->size += out.pos;
        if (f->in.pos - f->dropped >= DROP) {
            apr_drop_behind(f->packed, (struct apr_bytes){ f->packed.at + f->dropped, f->in.pos - f->dropped });
            f->dropped = f->in.pos;
        }
    }
    return APR_OK;
}

/* Each step starts over: an LZ4 block keeps no state, and its callers take two steps. The room is claimed before it is mapped,
 * as a full disk would otherwise be a SIGBUS. */
static enum apr_code lz4_to(struct apr_inflater *f, uint64_t n, struct apr_error *e)
{
    const uint64_t size = apr_min(n, f->total);
    if (size <= f->size)
        return APR_OK;
    const int no = posix_fallocate(f->fd, 0, (off_t)size);
    if (no != 0)
        return apr_fail(e, APR_EIO, APR_NOWHERE, "no room for %llu unpacked bytes: %s", (unsigned long long)size, strerror(no));
    char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
    if (map == MAP_FAILED)
        return apr_fail(e, APR_EIO, APR_NOWHERE, "cannot map %llu unpacked bytes: %s", (unsigned long long)size, strerror(errno));

    const char *block = (const char *)f->packed.at + 4;
    const int stored = (int)(f->packed.n - 4), wanted = (int)(size - f->header);
    const int got = size == f->total ? LZ4_decompress_safe(block, map + f->header, stored, wanted)
                                     : LZ4_decompress_safe_partial(block, map + f->header, stored, wanted, wanted);
    munmap(map, size);
    if (got != wanted)
        return apr_fail(e, APR_ECORRUPT, f->header + 4, "the LZ4 block is broken: %d of its %llu bytes can be decoded", got < 0 ? 0 : got,
                        (unsigned long long)(f->total - f->header));
    f->size = size;
    return APR_OK;
}

static enum apr_code start_zstd(struct apr_inflater *f, struct apr_error *e)
{
    f->in = (ZSTD_inBuffer){ f->packed.at, f->packed.n, 0 };
    f->zstd = ZSTD_createDStream();
    if (f->zstd == NULL || ZSTD_isError(ZSTD_DCtx_setParameter(f->zstd, ZSTD_d_windowLogMax, WINDOW_LOG)))
        return apr_no_memory(e);
    return APR_OK;
}

static enum apr_code start_lz4(struct apr_inflater *f, struct apr_error *e)
{
    struct apr_cursor c = apr_cursor_on(f->packed);
    const uint32_t size = apr_u32(&c);
    if (c.bad)
        return apr_fail(e, APR_ECORRUPT, f->header, "the file ends before the size of its LZ4 block");
    if (size > (uint64_t)apr_left(&c) * 255 + 64)    /* a length byte of 255 is the most that one byte can stand for */
        return apr_fail(e, APR_ECORRUPT, f->header, "%zu bytes of LZ4 cannot decode to the %u promised", apr_left(&c), size);
    if (size > LZ4_MAX_INPUT_SIZE || apr_left(&c) > INT_MAX)
        return apr_fail(e, APR_ELIMIT, f->header, "an LZ4 block of %u bytes is larger than LZ4 can decode", size);
    f->total = f->header + size;
    return APR_OK;
}

enum apr_code apr_inflate_new(struct apr_inflater **made, const struct apr_source *s, size_t header, enum apr_packing packing,
                              const struct apr_run *r, struct apr_error *e)
{
    *made = NULL;
    if (s->map.n < header)
        return apr_fail(e, APR_ECORRUPT, s->map.n, "the file ends inside its header of %zu bytes", header);
    struct apr_inflater *f = calloc(1, sizeof *f);
    if (f == NULL)
        return apr_no_memory(e);
    f->header = header;
    f->packing = packing;
    f->packed = (struct apr_bytes){ s->map.at + header, s->map.n - header };
    f->fd = -1;
    enum apr_code code = packing == APR_PACKED_ZSTD ? start_zstd(f, e) : start_lz4(f, e);
    if (code == APR_OK && (f->fd = apr_temporary(r, e)) < 0)
        code = e->code;
    if (code == APR_OK)
        code = apr_write_all(f->fd, s->map.at, header, e);
    if (code != APR_OK) {
        apr_inflate_free(f);
        return code;
    }
    f->size = header;
    *made = f;
    return APR_OK;
}

static void forget_view(struct apr_inflater *f)
{
    if (f->view.n != 0)
        munmap((void *)(uintptr_t)f->view.at, f->view.n);
    f->view = (struct apr_bytes){ 0 };
}

enum apr_code apr_inflate_to(struct apr_inflater *f, uint64_t n, struct apr_error *e)
{
    forget_view(f);
    return f->packing == APR_PACKED_ZSTD ? zstd_to(f, n, e) : lz4_to(f, n, e);
}

enum apr_code apr_inflate_view(struct apr_inflater *f, struct apr_bytes *view, struct apr_error *e)
{
    forget_view(f);
    void *map = mmap(NULL, f->size, PROT_READ, MAP_SHARED, f->fd, 0);
    if (map == MAP_FAILED)
        return apr_fail(e, APR_EIO, APR_NOWHERE, "cannot map %llu unpacked bytes: %s", (unsigned long long)f->size, strerror(errno));
    *view = f->view = (struct apr_bytes){ map, f->size };
    return APR_OK;
}

enum apr_code apr_inflate_into(struct apr_inflater *f, struct apr_source *s, struct apr_error *e)
{
    forget_view(f);
    const int fd = f->fd;
    f->fd = -1;
    return apr_source_replace(s, fd, f->size, e);
}

void apr_inflate_free(struct apr_inflater *f)
{
    if (f == NULL)
        return;
    forget_view(f);
    ZSTD_freeDStream(f->zstd);
    if (f->fd >= 0)
        close(f->fd);
    free(f);
}
