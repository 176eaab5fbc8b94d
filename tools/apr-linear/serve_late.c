#include "serve_late.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST       256u      /* at a time */
#define READ_BYTES 65536u    /* at once */
#define READS      64u       /* of one socket in one look */

struct late {
    struct late *next;
    int          socket;
    uint64_t     end;
};

void late_begin(struct lates *g)
{
    *g = (struct lates){ 0 };
    pthread_mutex_init(&g->lock, NULL);
}

static void drop(struct late *l)
{
    close(l->socket);
    free(l);
}

void late_end(struct lates *g)
{
    while (g->first != NULL) {
        struct late *const l = g->first;
        g->first = l->next;
        drop(l);
    }
    pthread_mutex_destroy(&g->lock);
}

void late_add(struct lates *g, int socket, uint64_t end)
{
    struct late *const l = malloc(sizeof *l);
    if (l == NULL)
        return;
    *l = (struct late){ .socket = fcntl(socket, F_DUPFD_CLOEXEC, 0), .end = end };
    pthread_mutex_lock(&g->lock);
    const bool taken = l->socket >= 0 && g->n < MOST;
    if (taken) {
        l->next = g->first;
        g->first = l;
        g->n++;
        shutdown(l->socket, SHUT_WR);
    }
    pthread_mutex_unlock(&g->lock);
    if (taken)
        return;
    if (l->socket >= 0)
        close(l->socket);
    free(l);
}

/* Has the client ended? Nothing of what is read is kept: it does not even leave the kernel. */
static bool has_ended(const struct late *l)
{
    static unsigned char nothing[READ_BYTES];
    for (unsigned i = 0; i < READS; i++) {
        const ssize_t n = recv(l->socket, nothing, sizeof nothing, MSG_TRUNC | MSG_DONTWAIT);
        if (n < 0)
            return errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR;
        if (n == 0)
            return true;
    }
    return false;
}

bool late_look(struct lates *g, uint64_t now)
{
    pthread_mutex_lock(&g->lock);
    for (struct late **at = &g->first; *at != NULL;) {
        struct late *const l = *at;
        if (now < l->end && !has_ended(l)) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        g->n--;
        drop(l);
    }
    const bool any = g->n > 0;
    pthread_mutex_unlock(&g->lock);
    return any;
}
