/* Other first bytes for a large file, in place: at a cost that does not grow with the file, and whatever ends the process. */
#ifndef APR_JOURNAL_H
#define APR_JOURNAL_H

#include "base/core.h"

/* What is to be written.
 *   size                of the file as it is
 *   old_head, new_head  its first bytes. new_head may be longer, by whole blocks of the file system: they are inserted before the file, so
 *                       that all behind old_head moves by as much and is not copied (ext4, XFS)
 *   old_tail, new_tail  its last bytes, as many as before, APR_MOST_TAIL at most; or none */
struct apr_rewrite {
    uint64_t         size;
    struct apr_bytes old_head, new_head, old_tail, new_tail;
};
#define APR_MOST_HEAD ((uint64_t)256 << 20)
#define APR_MOST_TAIL 64

/* What an insertion must be a multiple of in the file system of path; a power of two. */
uint64_t apr_rewrite_unit(const char *path);

/* Writes it. The inode stays, links are followed; only a regular file that may be written, that no open source reads and nobody else
 * rewrites. Until all is on disk FILE.apr-journal lies beside it. APR_EUNSUPPORTED: the file system inserts nothing; nothing was changed.
 * After any other failure the file is as it was too, or the text says that the journal is still needed. */
APR_MUST_CHECK enum apr_code apr_rewrite(const char *path, const struct apr_rewrite *w, struct apr_error *e);

/* Ends what was begun, or takes it back, when a journal lies beside the file; *done says which. Only bytes that the file itself shows to
 * be the old ones, the new ones or a mixture of both are written over: a journal that does not belong to it is refused. */
enum apr_recovery { APR_NOTHING_LEFT, APR_FINISHED, APR_UNDONE };
APR_MUST_CHECK enum apr_code apr_rewrite_recover(const char *path, enum apr_recovery *done, struct apr_error *e);

/* APR_EIO when a journal lies beside the file: it may be half of each then, and nobody should read it. A system call or two. */
APR_MUST_CHECK enum apr_code apr_rewrite_pending(const char *path, struct apr_error *e);

#endif
