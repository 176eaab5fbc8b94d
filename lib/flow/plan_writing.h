/* A plan being written, for plan_write.c and plan_verify.c. */
#ifndef APR_PLAN_WRITING_H
#define APR_PLAN_WRITING_H

#include "base/hash.h"
#include "files/sinks.h"
#include "flow/frames.h"
#include "flow/plan_pieces.h"

/* One file of the plan.
 *   sink    NULL: it is not written
 *   crc     of all bytes before its tail, so far
 *   out     how many bytes went into it from front to back, where it is written so
 *   tail    of its format: as it was written
 *   base    the number of its first piece */
struct apr_written {
    struct apr_sink  *sink;
    uint32_t          crc;
    uint64_t          out, base;
    struct apr_frames frames;
    unsigned char     tail[16];
};

/*   digest    of each piece as it was made
 *   scale     of each tensor, where some dtype has one for all of a tensor; else NULL
 *   rounding  of each tensor that is lossy or had values replaced; NULL: there is none
 *   packer    of the thread that takes
 *   left      the reader of a pipe left */
struct apr_writing {
    struct apr_plan      *p;
    const struct apr_run *r;
    struct apr_segments   segments;
    struct apr_written   *file;
    struct apr_digest    *digest;
    float                *scale;
    struct apr_rounding  *rounding;
    struct apr_packer    *packer;
    struct apr_sinks     *sinks;
    bool                  verify, left;
};

/* What a thread has for itself. */
struct apr_writer {
    struct apr_packer *packer;
    unsigned char      packed[APR_PIECE + APR_PIECE / 128 + 1024]; /* what apr_frame_most says at most */
    struct apr_maker   maker;
};
void apr_writer_enter(void *writing, void *writer);
void apr_writer_leave(void *writing, void *writer);

/* Bytes of a compressed file that stand before its frames. */
#define APR_UNPACKED 64u

/* Reads all of it back and holds it against the plan and the digests. */
APR_MUST_CHECK enum apr_code apr_writing_verify(struct apr_writing *w, struct apr_error *e);

#endif
