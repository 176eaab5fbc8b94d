/* --in-place and --recover: the header of a file itself, changed where it stands. */
#ifndef APR_CONVERT_IN_PLACE_H
#define APR_CONVERT_IN_PLACE_H

#include "convert/edits.h"
#include "files/journal.h"

/* What came of it.
 *   recovered  of an edit before this one, which had been interrupted
 *   header     bytes before the data, now
 *   inserted   of them, how many came with this edit
 *   written    false: all was as it is wished for already */
struct in_place {
    enum apr_recovery recovered;
    uint64_t          header, inserted;
    bool              written;
};

/* Does the edits to the one file at path (a shard, too), at a cost that grows with its header alone; its data is neither read nor copied.
 * The new header is made and read back before anything is touched. APR_EUNSUPPORTED says how many bytes are missing when they find no room
 * and the file system cannot insert any. No source of the file may be open. */
APR_MUST_CHECK enum apr_code edit_in_place(const char *path, const struct apr_edits *x, const struct apr_run *r, struct in_place *out,
                                           struct apr_error *e);

/* Ends or takes back what an interrupted edit left. */
APR_MUST_CHECK enum apr_code recover_in_place(const char *path, enum apr_recovery *done, struct apr_error *e);

#endif
