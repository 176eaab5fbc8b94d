/* serve: options, the socket, and the signals. */
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <math.h>
#include <netdb.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "linear.h"
#include "serve_http.h"
#include "serve_log.h"
#include "serve_mhd.h"
#include "ui/cli.h"
#include "ui/report.h"

#define LOOK_NS        100000000 /* between two looks for those whose time is up */
#define SOON_NS        2000000   /* while a client sends what is not wanted */
#define DRAIN_SECONDS  5.0
#define OWN_DESCRIPTORS 64u      /* that are no connections, besides two a thread */
#define SPARE            256u    /* connections above the limit, which are told so */
#define MOST_CONNECTIONS 1000000u
#define OWN_BLOCK 262144 /* bytes */
#define MOST_BODY (UINT64_C(1) << 30)

struct options {
    struct apr_cli cli;
    const char    *host;
    uint64_t       port, most_body, most_connections;
    double         timeout;
    unsigned       as;
    bool           log;
};

/* ---- the socket ----------------------------------------------------------------------------------------------------- */

static int bound(const struct addrinfo *a, const char **what)
{
    const int on = 1, s = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    *what = "no socket";
    if (s < 0)
        return -1;
    *what = "it cannot be listened on";
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(s, a->ai_addr, a->ai_addrlen) == 0 && listen(s, SOMAXCONN) == 0)
        return s;
    const int why = errno;
    close(s);
    errno = why;
    return -1;
}

/* Of a host's addresses, the first that can be listened on. */
static enum apr_code listen_on(const struct options *o, int *s, struct apr_error *e)
{
    const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
    struct addrinfo *all;
    const char *what = "";
    char port[24];
    snprintf(port, sizeof port, "%" PRIu64, o->port);
    const int failed = getaddrinfo(o->host, port, &hints, &all);
    if (failed != 0)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "host %s: %s", APR_QUOTED(apr_text(o->host)), gai_strerror(failed));
    *s = -1;
    for (const struct addrinfo *a = all; a != NULL && *s < 0; a = a->ai_next)
        *s = bound(a, &what);
    freeaddrinfo(all);
    return *s >= 0 ? APR_OK : apr_fail(e, APR_EIO, APR_NOWHERE, "port %s of %s: %s: %s", port, o->host, what, strerror(errno));
}

/* Always said, for who starts it waits for it, and asked for port 0 to learn it here. */
static void tell_address(const struct options *o, int s)
{
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    char host[NI_MAXHOST] = "", port[NI_MAXSERV] = "";
    if (getsockname(s, (struct sockaddr *)&a, &n) == 0)
        getnameinfo((struct sockaddr *)&a, n, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    const bool six = strchr(host, ':') != NULL;
    fprintf(stderr, "%s: listening on http://%s%s%s:%s\n", o->cli.tool, six ? "[" : "", host, six ? "]" : "", port);
}

/* ---- running -------------------------------------------------------------------------------------------------------- */

/* Descriptors for all connections and those that are told that there are too many, as far as the process may have them. */
static void take_descriptors(const struct options *o, struct http_options *http)
{
    struct rlimit limit;
    http->most_connections = o->most_connections;
    http->spare = SPARE;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    const rlim_t own = OWN_DESCRIPTORS + 2 * (rlim_t)http->threads, wanted = own + o->most_connections + SPARE;
    if (limit.rlim_cur < wanted) {
        limit.rlim_cur = apr_min(limit.rlim_max, wanted);
        setrlimit(RLIMIT_NOFILE, &limit);
        getrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur >= wanted)
        return;
    const uint64_t room = limit.rlim_cur > own + 4 ? limit.rlim_cur - own : 4;
    http->spare = apr_min(room / 4, SPARE);
    http->most_connections = apr_min(o->most_connections, room - http->spare);
    if (!o->cli.quiet && http->most_connections < o->most_connections)
        fprintf(stderr, "%s: at most %llu connections: the process may have no more than %llu descriptors\n", o->cli.tool,
                (unsigned long long)http->most_connections, (unsigned long long)limit.rlim_cur);
}

static void tell_unread(void *ctx, const struct apr_error *e)
{
    const struct options *o = ctx;
    log_line("%s: %s: %s; what was read before is served on\n", o->cli.tool, e->file, e->text);
}

static void renew(struct options *o, struct server *s)
{
    const size_t n = catalog_renew(&s->catalog, tell_unread, o);
    malloc_trim(0);
    if (!o->cli.quiet)
        log_line("%s: %zu of %zu models were read again\n", o->cli.tool, n, s->catalog.n);
}

/* Until a signal ends it. */
static void wait_for_signals(struct options *o, struct server *s, struct http *h, const sigset_t *set)
{
    for (bool soon = false;;) {
        const int signal_number = sigtimedwait(set, NULL, &(struct timespec){ 0, soon ? SOON_NS : LOOK_NS });
        if (signal_number == SIGHUP)
            renew(o, s);
        else if (signal_number > 0)
            return;
        soon = http_look_round(h);
    }
}

static enum apr_code run(struct options *o, struct server *s, const sigset_t *set, struct apr_error *e)
{
    struct http_options http = { .threads = o->cli.run.threads, .timeout = o->timeout, .log = o->log };
    struct http *h;
    take_descriptors(o, &http);
    APR_TRY(load_mhd(e));
    APR_TRY(listen_on(o, &http.socket, e));
    enum apr_code code = http_begin(&h, s, &http, e);
    if (code == APR_OK) {
        tell_address(o, http.socket);
        wait_for_signals(o, s, h, set);
        atomic_store(&s->draining, true);
        http_drain(h, DRAIN_SECONDS);
    }
    http_end(h);
    return code;
}

/* Memory is taken from two heaps whatever the number of threads: more would keep what none of them needs. Large blocks are the system's own
 * and go back to it: left to itself, malloc would take the largest body that ever came for what is usual, and keep as much. */
static void be_frugal(void)
{
    mallopt(M_ARENA_MAX, 2);
    mallopt(M_MMAP_THRESHOLD, OWN_BLOCK);
    mallopt(M_TRIM_THRESHOLD, OWN_BLOCK);
}

/* Signals are waited for by this thread alone. */
static enum apr_code serve(struct options *o, struct apr_error *e)
{
    struct server s = { .catalog = { .path = o->cli.operand, .n = o->cli.noperand, .as = (enum linear_as)o->as, .run = &o->cli.run },
                        .most_body = o->most_body };
    struct timespec now;
    sigset_t set;
    if (!LOADS_MHD)
        return load_mhd(e); /* which says so */
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    be_frugal();
    clock_gettime(CLOCK_REALTIME, &now);
    s.metrics.started = (double)now.tv_sec + (double)(now.tv_nsec / 1000000) / 1000;
    s.metrics.predictions = calloc(s.catalog.n, sizeof *s.metrics.predictions);
    enum apr_code code = s.metrics.predictions == NULL ? apr_no_memory(e) : catalog_begin(&s.catalog, e);
    if (code == APR_OK)
        code = run(o, &s, &set, e);
    if (s.metrics.predictions != NULL)
        catalog_end(&s.catalog);
    free(s.metrics.predictions);
    return code;
}

static int check_usage(const struct options *o)
{
    if (o->cli.noperand == 0)
        return apr_cli_usage(&o->cli, "serve: expected a model");
    if (o->cli.json)
        return apr_cli_usage(&o->cli, "--json has no effect: what is served is JSON");
    if (o->port > 65535)
        return apr_cli_usage(&o->cli, "--port: expected at most 65535, got %" PRIu64, o->port);
    if (!(o->timeout > 0))
        return apr_cli_usage(&o->cli, "--timeout: expected more than 0 seconds");
    if (o->most_connections == 0 || o->most_connections > MOST_CONNECTIONS)
        return apr_cli_usage(&o->cli, "--max-connections: expected 1 to %u, got %" PRIu64, MOST_CONNECTIONS, o->most_connections);
    if (o->most_body == 0 || o->most_body > MOST_BODY)
        return apr_cli_usage(&o->cli, "--max-body: expected at most 1 GiB, and more than nothing");
    return -1;
}

int serve_main(int argc, char **argv)
{
    struct options o = { .host = "127.0.0.1", .port = 8080, .most_body = UINT64_C(8) << 20, .most_connections = 1000, .timeout = 10 };
    const struct apr_option option[] = {
        { "--host", APR_OPTION_TEXT, &o.host, "HOST", "the address to listen on; default: 127.0.0.1" },
        { "--port", APR_OPTION_COUNT, &o.port, "N", "and its port, 0 for one that is free; default: 8080" },
        { "--as", APR_OPTION_CHOICE, &o.as, "auto|linear|logistic", "what a model of one output is that says nothing; auto: a number" },
        { "--max-body", APR_OPTION_SIZE, &o.most_body, "SIZE", "bytes of a request's body; default: 8Mi" },
        { "--max-connections", APR_OPTION_COUNT, &o.most_connections, "N", "at a time, further ones are answered 503; default: 1000" },
        { "--timeout", APR_OPTION_REAL, &o.timeout, "SECONDS", "for a whole request; default: 10" },
        { "--access-log", APR_OPTION_FLAG, &o.log, NULL, "a line a request on stderr: method, path, code, bytes, microseconds" },
    };
    o.cli = (struct apr_cli){
        .tool = "apr-linear",
        .synopsis = "serve MODEL...",
        .about = "Answers over HTTP from linear models; where a request names none, the first is meant. SIGHUP: they are read again.",
        .example = { "apr-linear serve iris.apr --port 8080",
          "curl -s localhost:8080/predict -H 'Content-Type: application/json' -d '{\"features\":[5.1,3.5,1.4,0.2]}'" },
        .option = option,
        .noption = APR_LENGTH(option),
        .files = "apr gguf safetensors",
    };
    struct apr_error e;
    int exit_code = apr_cli_parse(&o.cli, argc, argv);
    if (exit_code < 0)
        exit_code = check_usage(&o);
    if (exit_code < 0)
        exit_code = serve(&o, &e) == APR_OK ? APR_EXIT_YES : apr_cli_fail(&o.cli, &e);
    return apr_cli_finish(&o.cli, exit_code);
}
