/* --partition and --merge: work cut into shares whose JSON, put together, is what one run would have said. A share is a file like any
 * other: nothing in it is believed. */
#ifndef APR_SHARE_H
#define APR_SHARE_H

#include "base/hash.h"
#include "model/json.h"

/* ---- cutting -------------------------------------------------------------------------------------------------------- */

/* The share, from 1 on, of an item before which `before` of `total` bytes lie: where it begins when all are cut into n equal lengths. */
uint64_t apr_share_of(uint64_t before, uint64_t total, uint64_t n);

/* A digest of what shares of a model agree on: files, config, the index of tensors, every byte before the first of them, and of the rest
 * at most 1,024 stretches of 4 KiB, evenly spread: all of a model of up to 4 MiB. So a model that was written anew between two jobs is
 * told, at a cost that does not grow with it. */
struct apr_digest apr_share_plan(const struct apr_model *m);

/* ---- what members must be ------------------------------------------------------------------------------------------- */

/* TEXT   a string           COUNT   an integer, 0 or more      SHAPE   up to 8 counts     COUNTS  any number of them
 * BOOL   true or false      REAL    a number or null           OBJECT                     LIST    anything in it
 * NAMES  strings            WORD    one of `words`             WORDS   some of them       DIGEST  32 hex digits */
enum apr_member_kind { APR_MEMBER_TEXT, APR_MEMBER_BOOL, APR_MEMBER_COUNT, APR_MEMBER_REAL, APR_MEMBER_SHAPE, APR_MEMBER_COUNTS,
                       APR_MEMBER_NAMES, APR_MEMBER_OBJECT, APR_MEMBER_LIST, APR_MEMBER_WORD, APR_MEMBER_WORDS, APR_MEMBER_DIGEST };

/* A member that must be there; null: or may be null; absent: or may be absent. */
struct apr_member {
    const char          *name;
    enum apr_member_kind kind;
    bool                 null, absent;
    const char *const   *words;
    unsigned             nwords;
};

/* The first member that is not as it must be, or NULL; "object" when it is none. The same of each object of a list, also NULL when there
 * is no list. */
const char *apr_members_wrong(const json_t *object, const struct apr_member *member, size_t n);
const char *apr_members_wrong_in(const json_t *list, const struct apr_member *member, size_t n);

/* The index of a string among words, n when it is none of them. */
unsigned apr_word_index(const json_t *v, const char *const *words, unsigned n);

/* Members of an object that has been checked. */
uint64_t apr_member_count(const json_t *object, const char *key);        /* 0 when it is none */
double apr_member_real(const json_t *object, const char *key);           /* NAN for null */
const char *apr_member_text(const json_t *object, const char *key);      /* NULL when it is none */
struct apr_bytes apr_member_bytes(const json_t *object, const char *key);

/* The member of that key in an object's text, the last where there are several, however it is spelled; found->value.at is NULL when there
 * is none. */
APR_MUST_CHECK enum apr_code apr_member_find(const struct apr_item *object, const char *word, struct apr_item *found, struct apr_error *e);

/* ---- shares --------------------------------------------------------------------------------------------------------- */

/* Whose they are.
 *   large  members that stay text, of which a share may have many megabytes; NULL-terminated */
struct apr_share_kind {
    const char        *tool, *schema;
    const char *const *large;
};
#define APR_SHARE_LARGE 4 /* at most */

/* One share. Free with apr_share_close.
 *   top     its members but the large ones
 *   large   those, in the order of their names in kind; value.at NULL: there is none
 *   number, of, plan  which share, of how many, of what: its member "partition" */
struct apr_share {
    const struct apr_share_kind *kind;
    struct apr_source *s;
    json_t            *top;
    struct apr_item    all, large[APR_SHARE_LARGE];
    uint64_t           number, of;
};

/* Opens it: its schema is `kind`'s, no run that failed wrote it, it has a partition. Messages name the file. */
APR_MUST_CHECK enum apr_code apr_share_open(struct apr_share *p, const struct apr_share_kind *kind, const char *path,
                                            const struct apr_run *r, struct apr_error *e);
void apr_share_close(struct apr_share *p);

/* Lets p hold what it has in common with another share together with it: what all of a thousand shares say is there once. */
APR_MUST_CHECK enum apr_code apr_share_join(struct apr_share *p, const struct apr_share *other, struct apr_error *e);

/* "FILE: is no JSON of TOOL --partition: WHY KEY" */
enum apr_code apr_share_wrong(const struct apr_share *p, const char *why, const char *key, struct apr_error *e);

/* Of `n` shares of `size` bytes each, which begin with a struct apr_share: puts them in order; all are there, each once, all of one plan
 * and of one value at each of the keys (NULL-terminated). */
APR_MUST_CHECK enum apr_code apr_shares_fit(void *share, size_t n, size_t size, const char *const *keys, struct apr_error *e);

/* Writes the member "partition" of a share, open, for more members to follow: number, of, plan. */
struct apr_out;
void apr_share_begin(struct apr_out *j, uint64_t number, uint64_t of, struct apr_digest plan);

#endif
