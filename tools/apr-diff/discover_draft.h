/* A contract under way (discover_draft.c). */
#ifndef APR_DIFF_DISCOVER_DRAFT_H
#define APR_DIFF_DISCOVER_DRAFT_H

#include "base/table.h"
#include "discover.h"

#define MOST_ROLES 1024 /* of a contract */

/* A finding as a role: its names as they are written, in which layer it is one, and what else its role says. */
struct entry {
    struct apr_bytes key;      /* all its names with the holes */
    struct apr_bytes body;     /* shape and transform */
    struct apr_bytes hf, gguf; /* as YAML */
    const struct finding *f;
    uint32_t         layer;
    bool             layered;
    enum tied        tied;
};

/* Entries [first, first + n) that differ in their layer alone. */
struct draft_role {
    size_t first, n;
    char   name[96];
    bool   where, dropped;
};

struct draft {
    struct discovery  *d;
    struct finding    *finding; /* those of d, then those that names made */
    size_t             nfinding;
    struct entry      *entry;
    size_t             nentry;
    struct draft_role *role;
    size_t             nrole;
    uint64_t           layers; /* one more than the highest */
    struct apr_table   count;  /* of each key: how many findings may have it */
    struct apr_arena  *arena;
    struct apr_error  *e;
};

/* The words of a name between dots and slashes. number: of one that is a number, as contracts see it; else UINT32_MAX. */
struct word {
    size_t   at, n;
    uint32_t number;
};

#define MOST_WORDS 64

size_t words_of(struct apr_bytes s, struct word word[MOST_WORDS]);

/* Can it stand in a contract? */
bool is_plain_name(struct apr_bytes s);

/* Text between double quotes. */
void put_text(FILE *to, struct apr_bytes s);

/* Writes the file, whole or not at all (discover_contract.c). */
APR_MUST_CHECK enum apr_code write_contract(struct draft *w, const char *path);

#endif
