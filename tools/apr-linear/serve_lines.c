#include "serve_lines.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define IDLE_SECONDS 60.0 /* that a connection may be kept without a request */
#define PATIENCE     4u   /* looks until a connection of which nothing more is taken must have gone */
#define REST_NS      UINT64_C(250000000) /* that a drain gives a connection after its last answer: its next request may be on the way */

void lines_begin(struct lines *all, uint64_t most)
{
    *all = (struct lines){ .most = most };
    pthread_mutex_init(&all->lock, NULL);
}

void lines_end(struct lines *all) { pthread_mutex_destroy(&all->lock); }

struct line *line_take(struct lines *all, int socket)
{
    struct line *const l = calloc(1, sizeof *l);
    if (l == NULL)
        return NULL;
    l->socket = socket;
    atomic_store(&l->since, now_ns());
    pthread_mutex_lock(&all->lock);
    l->after = all->first;
    if (all->first != NULL)
        all->first->before = l;
    all->first = l;
    l->crowded = ++all->n > all->most;
    pthread_mutex_unlock(&all->lock);
    return l;
}

void line_drop(struct lines *all, struct line *l)
{
    pthread_mutex_lock(&all->lock);
    if (l->before != NULL)
        l->before->after = l->after;
    else
        all->first = l->after;
    if (l->after != NULL)
        l->after->before = l->before;
    all->n--;
    pthread_mutex_unlock(&all->lock);
    free(l->body);
    free(l);
}

bool line_is_unread(const struct line *l)
{
    int n;
    return atomic_load(&l->stage) != CUT && (l->early || (ioctl(l->socket, FIONREAD, &n) == 0 && n > 0));
}

/* ---- time ----------------------------------------------------------------------------------------------------------- */

static void cut(struct line *l)
{
    shutdown(l->socket, SHUT_RDWR);
    atomic_store(&l->stage, CUT);
}

/* Has something come since the last answer? The kernel knows when the last byte came, in its ticks, and, but an old one, how many
 * there were. */
static bool has_begun(const struct line *l, uint64_t idle_ns)
{
    struct tcp_info info;
    socklen_t n = sizeof info;
    if (getsockopt(l->socket, IPPROTO_TCP, TCP_INFO, &info, &n) != 0)
        return false;
    if (!atomic_load(&l->answered))
        return n < offsetof(struct tcp_info, tcpi_bytes_received) + sizeof info.tcpi_bytes_received || info.tcpi_bytes_received > 0;
    return (info.tcpi_last_data_recv + 20) * UINT64_C(1000000) < idle_ns;
}

/* Nothing more is taken from it: MHD reads what has come, answers where that is a request, and closes it. It is not to be relied on to find
 * out alone that a client ended its half: an end that comes with the bytes before it is one event, and it reads once. */
static void end_input(struct line *l)
{
    if (l->ended++ == 0)
        shutdown(l->socket, SHUT_RD);
}

static bool is_hung_up(const struct line *l)
{
    struct pollfd p = { .fd = l->socket, .events = POLLRDHUP };
    return poll(&p, 1, 0) == 1 && (p.revents & POLLRDHUP) != 0;
}

static void look_at(struct line *l, uint64_t now, double timeout)
{
    const unsigned stage = atomic_load(&l->stage);
    const uint64_t since = atomic_load(&l->since), ns = now > since ? now - since : 0;
    const double most = stage != IDLE || l->crowded || timeout > IDLE_SECONDS ? timeout : IDLE_SECONDS;
    unsigned idle = IDLE;
    if (stage == CUT)
        return;
    if ((double)ns > most * 1e9) {
        cut(l);
    } else if (l->ended == 0 && is_hung_up(l)) {
        end_input(l);
    } else if (stage == IDLE && has_begun(l, ns)) {
        atomic_store(&l->since, now);
        atomic_compare_exchange_strong(&l->stage, &idle, BEGUN);
    }
}

void lines_look(struct lines *all, uint64_t now, double timeout)
{
    pthread_mutex_lock(&all->lock);
    for (struct line *l = all->first; l != NULL; l = l->after)
        look_at(l, now, timeout);
    pthread_mutex_unlock(&all->lock);
}

size_t lines_end_idle(struct lines *all, uint64_t now)
{
    pthread_mutex_lock(&all->lock);
    for (struct line *l = all->first; l != NULL; l = l->after)
        if (atomic_load(&l->stage) < HEAD && now > atomic_load(&l->since) + REST_NS) {
            end_input(l);
            if (l->ended > PATIENCE)
                cut(l);
        }
    const size_t n = all->n;
    pthread_mutex_unlock(&all->lock);
    return n;
}
