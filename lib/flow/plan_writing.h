/* A plan being written, for plan_write.c and its neighbours. */
#ifndef APR_PLAN_WRITING_H
#define APR_PLAN_WRITING_H

#include "base/hash.h"
#include "files/sinks.h"
#include "flow/frames.h"
#include "flow/pass.h"
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
 *   hashed    digests are wanted: to verify, or for a log
 *   replaces  the folder holds a model
 *   left      the reader of a pipe left
 *   logged    of each piece; NULL: nothing is resumed */
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
    bool                  verify, hashed, replaces, left;
    struct apr_logged    *logged;
};

/* What a thread has for itself. */
struct apr_writer {
    struct apr_packer *packer;
    unsigned char      packed[APR_PIECE + APR_PIECE / 128 + 1024]; /* what apr_frame_most says at most */
    struct apr_maker   maker;
};
/* plan_others.c: where one shard of a plan is written alone, those of other jobs that are there already, and the index, are of the same plan:
 * the input did not change in between. APR_EARG names one that is not; with force it is removed. `still`: once more when this shard is
 * there, as others may have come meanwhile; then it is taken back. Compressed shards are not looked at. */
APR_MUST_CHECK enum apr_code apr_writing_others(const struct apr_plan *p, struct apr_error *e);
APR_MUST_CHECK enum apr_code apr_writing_others_still(const struct apr_plan *p, struct apr_error *e);

/* Each piece by itself: of writing and of reading back. */
struct apr_cut apr_writing_cut(void *writing, size_t segment, unsigned mode);
void apr_writer_enter(void *writing, void *writer);
void apr_writer_leave(void *writing, void *writer);

/* What the log of a partial file says of a piece. */
struct apr_logged {
    uint64_t            piece; /* 1 + its number in the file; 0: nothing */
    struct apr_digest   digest;
    struct apr_rounding rounding;
    uint64_t            check;
};

/* Reads the logs of all files, and begins those anew that are of another plan. */
APR_MUST_CHECK enum apr_code apr_writing_resume(struct apr_writing *w, struct apr_error *e);

/* Is piece i there, as the log says? Its bytes are in t->maker.out then. */
bool apr_writing_has(const struct apr_writing *w, const struct apr_segment *s, uint64_t i, struct apr_writer *t);

/* It is there from now on. */
APR_MUST_CHECK enum apr_code apr_writing_note(struct apr_writing *w, const struct apr_segment *s, uint64_t i,
                                              const struct apr_digest *digest, const struct apr_rounding *rounding, struct apr_error *e);

/* Bytes of a compressed file that stand before its frames. */
#define APR_UNPACKED 64u

/* Reads all of it back and holds it against the plan and the digests. */
APR_MUST_CHECK enum apr_code apr_writing_verify(struct apr_writing *w, struct apr_error *e);

#endif
