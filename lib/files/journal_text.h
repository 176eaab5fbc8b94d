/* The text of a journal (journal.h), and what a file says to it: bytes in, an answer out; nothing is read or written here. */
#ifndef APR_JOURNAL_TEXT_H
#define APR_JOURNAL_TEXT_H

#include "files/journal.h"

/* What it holds.
 *   whole  the file had no holes before: a hole in it is then an insertion's
 *   step   1: whatever was to be inserted is, and the new head is being written */
struct apr_journal {
    struct apr_rewrite w;
    bool               whole;
    uint64_t           step;
};

#define APR_JOURNAL_STEP_AT 8 /* where the step stands, a little-endian u64 that the checksum leaves out */
#define APR_JOURNAL_MOST    (56 + 2 * (APR_MOST_HEAD + APR_MOST_TAIL) + 16)

static inline uint64_t apr_rewrite_inserted(const struct apr_rewrite *w) { return w->new_head.n - w->old_head.n; }

/* Is it something that can be done? All sizes fit each other then. */
bool apr_rewrite_sensible(const struct apr_rewrite *w);

/* Its bytes, which the caller frees; at is NULL when memory is out. */
struct apr_bytes apr_journal_spell(const struct apr_journal *j);

/* The other way round; all of j are views of text. False: it is not whole, or damaged; j->step is good all the same, 0 when it is
 * missing. */
bool apr_journal_parse(struct apr_journal *j, struct apr_bytes text);

/* What a file says of itself.
 *   FOREIGN    it is not the journal's, or was changed since
 *   AS_IT_WAS  nothing was changed, or all was taken back
 *   TORN       a shift of its bytes stopped before it came to the head
 *   SHIFTED    whole but for the new head; WRITTEN: that was being written, or taken back
 * size: of the file; now: its first bytes, as many as the old head has when that is the old size, else as the new one; tail: its last. */
enum apr_journal_state { APR_FOREIGN, APR_AS_IT_WAS, APR_TORN, APR_SHIFTED, APR_WRITTEN };
enum apr_journal_state apr_journal_state_of(const struct apr_journal *j, uint64_t size, const unsigned char *now,
                                            const unsigned char *tail);

#endif
