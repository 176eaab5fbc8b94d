#include "flow/frames.h"

#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/bytes.h"
#include "base/emit.h"

#define SKIPPABLE   0x184D2A5Eu
#define SEEKABLE    0x8F92EAB1u
#define MOST_FRAMES 0x8000000u /* of the format */

struct apr_packer {
    ZSTD_CCtx *pack;
    ZSTD_DCtx *unpack;
};

void apr_packer_free(struct apr_packer *k)
{
    if (k == NULL)
        return;
    ZSTD_freeCCtx(k->pack);
    ZSTD_freeDCtx(k->unpack);
    free(k);
}

struct apr_packer *apr_packer_new(int level)
{
    struct apr_packer *const k = calloc(1, sizeof *k);
    if (k == NULL)
        return NULL;
    k->pack = ZSTD_createCCtx();
    k->unpack = ZSTD_createDCtx();
    if (k->pack == NULL || k->unpack == NULL || ZSTD_isError(ZSTD_CCtx_setParameter(k->pack, ZSTD_c_compressionLevel, level))) {
        apr_packer_free(k);
        return NULL;
    }
    return k;
}

size_t apr_frame_most(size_t n) { return ZSTD_compressBound(n); }

enum apr_code apr_frame_pack(struct apr_packer *k, const void *bytes, size_t n, void *out, size_t *packed, struct apr_error *e)
{
    if (k == NULL)
        return apr_no_memory(e);
    *packed = ZSTD_compress2(k->pack, out, apr_frame_most(n), bytes, n);
    if (!ZSTD_isError(*packed))
        return APR_OK;
    if (ZSTD_getErrorCode(*packed) == ZSTD_error_memory_allocation)
        return apr_no_memory(e);
    return apr_fail(e, APR_EIO, APR_NOWHERE, "zstd fails: %s", ZSTD_getErrorName(*packed));
}

enum apr_code apr_frame_unpack(struct apr_packer *k, const void *frame, size_t packed, void *out, size_t n, struct apr_error *e)
{
    if (k == NULL)
        return apr_no_memory(e);
    const size_t got = ZSTD_decompressDCtx(k->unpack, out, n, frame, packed);
    if (ZSTD_isError(got) && ZSTD_getErrorCode(got) == ZSTD_error_memory_allocation)
        return apr_no_memory(e);
    if (got != n)
        return apr_fail(e, APR_ECORRUPT, APR_NOWHERE, "a zstd frame does not decode to its %zu bytes", n);
    return APR_OK;
}

enum apr_code apr_frames_add(struct apr_frames *f, size_t packed, size_t plain, struct apr_error *e)
{
    struct apr_frame *const grown = apr_grown(f->at, &f->room, f->n, 64, sizeof *grown);
    if (grown == NULL)
        return apr_no_memory(e);
    f->at = grown;
    if (f->n == MOST_FRAMES)
        return apr_fail(e, APR_ELIMIT, APR_NOWHERE, "more zstd frames than their table holds");
    const uint64_t begin = f->n == 0 ? 0 : f->at[f->n - 1].begin + f->at[f->n - 1].packed;
    f->at[f->n++] = (struct apr_frame){ begin, (uint32_t)packed, (uint32_t)plain };
    return APR_OK;
}

/* | u32 skippable | u32 bytes that follow | u32 packed, u32 plain | ... | u32 frames | u8 0 | u32 seekable | */
enum apr_code apr_frames_table(const struct apr_frames *f, struct apr_bytes *table, struct apr_error *e)
{
    struct apr_emit m;
    APR_TRY(apr_emit_begin(&m, e));
    apr_emit_integer(m.to, SKIPPABLE, 4);
    apr_emit_integer(m.to, 8 * f->n + 9, 4);
    for (size_t i = 0; i < f->n; i++) {
        apr_emit_integer(m.to, f->at[i].packed, 4);
        apr_emit_integer(m.to, f->at[i].plain, 4);
    }
    apr_emit_integer(m.to, f->n, 4);
    apr_emit_integer(m.to, 0, 1);
    apr_emit_integer(m.to, SEEKABLE, 4);
    return apr_emit_end(&m, table, e);
}
