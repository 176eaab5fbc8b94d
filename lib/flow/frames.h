/* zstd in independent frames, with the table of the public seekable format behind them. */
#ifndef APR_FRAMES_H
#define APR_FRAMES_H

#include "base/core.h"

/* What a thread packs or unpacks with; NULL when there was no memory for it. */
struct apr_packer;
struct apr_packer *apr_packer_new(int level);
void               apr_packer_free(struct apr_packer *k);

/* Most bytes that n bytes become. */
size_t apr_frame_most(size_t n);

/* One frame of n bytes; out has room for apr_frame_most(n). The same bytes on any thread. k may be NULL, which is no memory. */
APR_MUST_CHECK enum apr_code apr_frame_pack(struct apr_packer *k, const void *bytes, size_t n, void *out, size_t *packed,
                                            struct apr_error *e);

/* The n bytes of a frame. APR_ECORRUPT when it does not hold them. */
APR_MUST_CHECK enum apr_code apr_frame_unpack(struct apr_packer *k, const void *frame, size_t packed, void *out, size_t n,
                                              struct apr_error *e);

/* The frames of a file in order: where each begins behind those before it, how long it is, what it decodes to. Free at with free. */
struct apr_frames {
    struct apr_frame {
        uint64_t begin;
        uint32_t packed, plain;
    }     *at;
    size_t n, room;
};
APR_MUST_CHECK enum apr_code apr_frames_add(struct apr_frames *f, size_t packed, size_t plain, struct apr_error *e);

/* The table, a skippable frame; the caller frees it with free. */
APR_MUST_CHECK enum apr_code apr_frames_table(const struct apr_frames *f, struct apr_bytes *table, struct apr_error *e);

#endif
