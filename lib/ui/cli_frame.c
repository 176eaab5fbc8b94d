/* What frames a run: signals, and the end of stdout. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "files/sink.h"
#include "files/source.h"
#include "ui/cli_table.h"

/* ---- signals ------------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t reader_left, pipes_ignored;

static void die_by(int number)
{
    apr_sink_abandon();
    signal(number, SIG_DFL);
    raise(number);
}

/* A mapped file that shrank, or a disk that failed: the lost pages read as zeros from here on, and apr_model_intact tells. */
static void on_sigbus(int number, siginfo_t *info, void *context)
{
    const int kept = errno;
    (void)context;
    if (info->si_code <= 0 || !apr_source_patch(info->si_addr))     /* si_code <= 0: somebody sent it */
        die_by(number);
    errno = kept;
}

/* Nobody reads on: the end, unless a file is being written, which is finished first. */
static void on_sigpipe(int number)
{
    reader_left = 1;
    if (!pipes_ignored && !apr_sink_pending())
        die_by(number);
}

static void handle(int number, void (*handler)(int))
{
    struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };
    sigfillset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

static void prepare_signals(void)
{
    static const int ends[] = { SIGHUP, SIGINT, SIGQUIT, SIGABRT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGXCPU, SIGVTALRM, SIGPROF, SIGIO };
    struct sigaction bus = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO }, now;

    sigemptyset(&bus.sa_mask);
    sigaction(SIGBUS, &bus, NULL);
    signal(SIGXFSZ, SIG_IGN);           /* a file size limit is a failing write, with its message */
    for (size_t i = 0; i < APR_LENGTH(ends); i++)
        if (sigaction(ends[i], NULL, &now) == 0 && now.sa_handler == SIG_DFL)   /* nohup stays what it is */
            handle(ends[i], die_by);
    pipes_ignored = sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
    handle(SIGPIPE, on_sigpipe);
}

/* ---- the frame of a run -------------------------------------------------------------------------------------------- */

/* stdout as a sink, which keeps errno of the first write that failed; and what stdio had in its place. */
static struct apr_sink answer;
static FILE           *plain;

enum apr_code apr_cli_begin_process(struct apr_error *e)
{
    static char buffer[64 << 10];

    prepare_signals();
    for (int fd = 0; fd <= 2; fd++)     /* a model file must not become a closed stdout: this one refuses writes */
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
            break;
    if (plain)
        return APR_OK;
    APR_TRY(apr_sink_begin(&answer, "-", 0, e));
    plain = stdout;
    stdout = answer.to;                 /* a variable like any other in the GNU C Library */
    setvbuf(stdout, buffer, isatty(STDOUT_FILENO) ? _IOLBF : _IOFBF, sizeof buffer);
    return APR_OK;
}

bool apr_cli_end_process(const struct apr_cli *c)
{
    struct apr_error e;
    if (!plain)
        return true;
    const bool whole = apr_sink_end(&answer, &e) == APR_OK;
    stdout = plain;
    plain = NULL;
    if (!whole)
        apr_cli_fail(c, &e);
    if (reader_left && !pipes_ignored)
        die_by(SIGPIPE);
    return whole && !reader_left;
}
