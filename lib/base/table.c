#include "base/table.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#define FEWEST 32

/* Open-addressed, at most half of the slots are taken, a power of two of them. The entries lie apart, in order: what is asked for in the
 * order it was put is near, and a slot is small. hash: its lower half, which also is where the search begins. */
struct apr_table_slot {
    uint32_t hash, number; /* of the entry, from 1 */
};

static const unsigned char integer; /* its address is that of every integer key, the length is the key */

struct apr_bytes apr_table_integer(uint64_t number)
{
    _Static_assert(sizeof(size_t) == sizeof number, "an integer key stands where a length does");
    return (struct apr_bytes){ &integer, number };
}

static bool same_key(struct apr_bytes a, struct apr_bytes b)
{
    if (a.n != b.n || a.at == &integer || b.at == &integer)
        return a.n == b.n && a.at == b.at;
    return a.n == 0 || memcmp(a.at, b.at, a.n) == 0;
}

static uint32_t hash_of(struct apr_bytes key)
{
    return (uint32_t)(key.at == &integer ? XXH3_64bits(&key.n, sizeof key.n) : XXH3_64bits(key.at, key.n));
}

/* The slot of a key, or the free one where it goes. */
static struct apr_table_slot *slot_of(const struct apr_table *t, struct apr_bytes key, uint32_t hash)
{
    size_t i = hash & (t->nslot - 1);
    while (t->slot[i].number != 0 && (t->slot[i].hash != hash || !same_key(t->entry[t->slot[i].number - 1].key, key)))
        i = (i + 1) & (t->nslot - 1);
    return &t->slot[i];
}

union apr_table_value *apr_table_find(const struct apr_table *t, struct apr_bytes key)
{
    const uint32_t number = t->n == 0 ? 0 : slot_of(t, key, hash_of(key))->number;
    return number == 0 ? NULL : &t->entry[number - 1].value;
}

static bool grow_slots(struct apr_table *t, size_t nslot)
{
    struct apr_table_slot *slot = calloc(nslot, sizeof *slot);
    if (slot == NULL)
        return false;
    for (size_t i = 0; i < t->nslot; i++) {
        size_t at = t->slot[i].hash & (nslot - 1);
        while (t->slot[i].number != 0 && slot[at].number != 0)
            at = (at + 1) & (nslot - 1);
        if (t->slot[i].number != 0)
            slot[at] = t->slot[i];
    }
    free(t->slot);
    t->slot = slot;
    t->nslot = nslot;
    return true;
}

bool apr_table_expect(struct apr_table *t, size_t n)
{
    size_t room = t->room == 0 ? FEWEST : t->room;
    if (n <= t->room)
        return true;
    if (n > UINT32_MAX / 2)
        return false;
    while (room < n)
        room *= 2;
    struct apr_table_entry *more = realloc(t->entry, room * sizeof *more);
    if (more == NULL)
        return false;
    t->entry = more;
    if (!grow_slots(t, 2 * room))
        return false;
    t->room = room;
    return true;
}

union apr_table_value *apr_table_put(struct apr_table *t, struct apr_bytes key, bool *fresh)
{
    if (!apr_table_expect(t, t->n + 1))
        return NULL;
    const uint32_t hash = hash_of(key);
    struct apr_table_slot *slot = slot_of(t, key, hash);
    *fresh = slot->number == 0;
    if (*fresh) {
        t->entry[t->n] = (struct apr_table_entry){ .key = key };
        *slot = (struct apr_table_slot){ hash, (uint32_t)++t->n };
    }
    return &t->entry[slot->number - 1].value;
}

void apr_table_free(struct apr_table *t)
{
    free(t->entry);
    free(t->slot);
    *t = (struct apr_table){ 0 };
}
