/* A load generator: POST requests of one body over some connections to a server of this machine, one at a time on each, and how long each
 * waited for its answer. While there is one connection it does not sleep: to be woken takes tens of microseconds on some virtual machines,
 * which are none of the server's.
 *   load PORT CONNECTIONS REQUESTS BODY [PATH]
 *   load echo 1 REQUESTS BODY    from a process that answers whatever comes: what loopback and waking up take */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/core.h"

#define MOST_CONNECTIONS 10000u
#define ANSWER_BYTES     65536u

struct peer {
    int      socket;
    uint64_t sent;   /* when, in nanoseconds */
    size_t   n, all; /* bytes of the answer that have come; all of them, 0 while its head has not */
    char     answer[ANSWER_BYTES];
};

struct load {
    char      request[ANSWER_BYTES];
    size_t    n;
    uint64_t  begun, done, wanted, lost;
    uint32_t *waited; /* nanoseconds of each */
};

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void give_up(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(2);
}

static int connected(uint16_t port)
{
    const struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    const int s = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (s < 0 || connect(s, (const struct sockaddr *)&a, sizeof a) != 0)
        give_up("connect");
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return s;
}

/* A process that answers one connection until that ends; its port. */
static uint16_t echo(void)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof a;
    const int listening = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (bind(listening, (const struct sockaddr *)&a, n) != 0 || listen(listening, 1) != 0 || getsockname(listening, (struct sockaddr *)&a, &n) != 0)
        give_up("listen");
    const pid_t child = fork();
    if (child < 0)
        give_up("fork");
    if (child == 0) {
        char any[ANSWER_BYTES];
        const int s = accept(listening, NULL, NULL);
        setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        while (recv(s, any, sizeof any, 0) > 0 && send(s, answer, sizeof answer - 1, MSG_NOSIGNAL) > 0)
            ;
        _exit(0);
    }
    close(listening);
    return ntohs(a.sin_port);
}

static void ask(struct load *l, struct peer *p)
{
    if (l->begun == l->wanted)
        return;
    l->begun++;
    p->n = p->all = 0;
    p->sent = now();
    if (send(p->socket, l->request, l->n, MSG_NOSIGNAL) != (ssize_t)l->n)
        give_up("send");
}

/* The length of the whole answer once its head is there. */
static size_t length_of(const struct peer *p)
{
    const char *const end = memmem(p->answer, p->n, "\r\n\r\n", 4), *const length = memmem(p->answer, p->n, "Content-Length: ", 16);
    return end == NULL || length == NULL ? 0 : (size_t)(end + 4 - p->answer) + strtoul(length + 16, NULL, 10);
}

static void take(struct load *l, struct peer *p)
{
    const ssize_t n = recv(p->socket, p->answer + p->n, ANSWER_BYTES - 1 - p->n, 0);
    if (n <= 0)
        give_up("recv");
    p->n += (size_t)n;
    p->answer[p->n] = 0;
    if (p->all == 0)
        p->all = length_of(p);
    if (p->all == 0 || p->n < p->all)
        return;
    l->waited[l->done++] = (uint32_t)apr_min(now() - p->sent, UINT32_MAX);
    l->lost += memcmp(p->answer, "HTTP/1.1 200 ", 13) != 0;
    ask(l, p);
}

static int rising(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double microseconds(const struct load *l, double share)
{
    return l->waited[(size_t)((double)(l->done - 1) * share)] / 1e3;
}

static void run(struct load *l, struct peer *peer, unsigned n, uint16_t port)
{
    struct epoll_event event[256];
    const int e = epoll_create1(0);
    for (unsigned i = 0; i < n; i++) {
        peer[i].socket = connected(port);
        event[0] = (struct epoll_event){ .events = EPOLLIN, .data.ptr = &peer[i] };
        if (epoll_ctl(e, EPOLL_CTL_ADD, peer[i].socket, event) != 0)
            give_up("epoll");
    }
    const uint64_t from = now();
    for (unsigned i = 0; i < n; i++)
        ask(l, &peer[i]);
    while (l->done < l->wanted) {
        const int ready = epoll_wait(e, event, 256, n == 1 ? 0 : 10000);
        if (ready < 0 || (ready == 0 && (n > 1 || now() - peer->sent > 10000000000u)))
            give_up("no answer in 10 s");
        for (int i = 0; i < ready; i++)
            take(l, event[i].data.ptr);
    }
    const double seconds = (double)(now() - from) / 1e9;
    qsort(l->waited, l->done, sizeof *l->waited, rising);
    printf("%u connections: %.0f requests a second; p50 %.1f us, p95 %.1f us, p99 %.1f us; %llu answered, %llu not with 200\n", n,
           (double)l->done / seconds, microseconds(l, 0.5), microseconds(l, 0.95), microseconds(l, 0.99), (unsigned long long)l->done,
           (unsigned long long)l->lost);
    for (unsigned i = 0; i < n; i++)
        close(peer[i].socket);
    close(e);
}

int main(int argc, char **argv)
{
    const unsigned n = argc > 4 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    struct load l = { .wanted = argc > 4 ? strtoull(argv[3], NULL, 10) : 0 };
    if (n == 0 || n > MOST_CONNECTIONS || l.wanted == 0 || strlen(argv[4]) > ANSWER_BYTES - 512) {
        fprintf(stderr, "load: expected PORT CONNECTIONS REQUESTS BODY [PATH], or echo 1 REQUESTS BODY\n");
        return 2;
    }
    l.n = (size_t)snprintf(l.request, sizeof l.request,
                           "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                           argc > 5 ? argv[5] : "/predict", strlen(argv[4]), argv[4]);
    struct peer *const peer = calloc(n, sizeof *peer);
    l.waited = malloc(l.wanted * sizeof *l.waited);
    if (peer == NULL || l.waited == NULL)
        give_up("memory");
    run(&l, peer, n, strcmp(argv[1], "echo") == 0 && n == 1 ? echo() : (uint16_t)strtoul(argv[1], NULL, 10));
    free(peer);
    free(l.waited);
    return l.lost > 0;
}
