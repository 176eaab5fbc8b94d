/* Sockets that are closed before all was read that the client sends: closed at once, they would be reset, and the client, still sending,
 * may lose the answer that says why. So the rest is read and let go until the client ends, or the time is up. */
#ifndef APR_LINEAR_SERVE_LATE_H
#define APR_LINEAR_SERVE_LATE_H

#include <pthread.h>
#include <stdint.h>

#include "base/core.h"

struct late;
struct lates {
    pthread_mutex_t lock;
    struct late    *first;
    size_t          n;
};

void late_begin(struct lates *g);
void late_end(struct lates *g);

/* Keeps the connection of `socket`, which its owner closes now, until `end` (nanoseconds, as late_look's). Any thread. There are places
 * for a few hundred; without one, the connection is closed. */
void late_add(struct lates *g, int socket, uint64_t end);

/* Reads what has come, without waiting. Are there any left? */
bool late_look(struct lates *g, uint64_t now);

#endif
