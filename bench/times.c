/* Times whole commands against each other: one round to warm up, then all in turn, round by round. The first is the one that the
 * others, and with --baseline all of them, are held against.
 *
 *     times [OPTION]... NAME=COMMAND...     a COMMAND is for sh, and fails unless it exits with 0 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "rounds.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double in_seconds(struct timeval t) { return (double)t.tv_sec + 1e-6 * (double)t.tv_usec; }

static void become(const char *command)
{
    const int nothing = open("/dev/null", O_RDWR);
    if (nothing >= 0 && dup2(nothing, STDIN_FILENO) == STDIN_FILENO && dup2(nothing, STDOUT_FILENO) == STDOUT_FILENO)
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    _exit(127);
}

static double run(struct bench_job *job)
{
    struct rusage used;
    int status;
    const double begin = now();
    const pid_t child = fork();
    if (child == 0)
        become(job->what);
    if (child < 0 || wait4(child, &status, 0, &used) != child)
        return -1;
    const double took = now() - begin;
    if (status != 0) {
        const bool left = WIFEXITED(status);
        fprintf(stderr, "%s: %s %d\n", job->name, left ? "exit" : "signal", left ? WEXITSTATUS(status) : WTERMSIG(status));
        return -1;
    }
    job->cpu = in_seconds(used.ru_utime) + in_seconds(used.ru_stime);
    if (job->peak < 1024 * (double)used.ru_maxrss)
        job->peak = 1024 * (double)used.ru_maxrss;
    return took;
}

static void print(const struct bench_settings *s, const struct bench_job *job, const struct bench_job *first)
{
    char line[BENCH_ART], bins[BENCH_ART];
    if (job->n == 0)
        return;
    const struct bench_summary t = bench_summarize(job->sample, job->n);
    bench_sparkline(job->sample, job->n, line);
    bench_histogram(job->sample, job->n, bins);
    printf("%s\n    %.4f s, 95 %% sure within %.4f .. %.4f; p95 %.4f; cpu %.2f s; peak %.0f MiB\n", job->name, t.median, t.low,
           t.high, t.p95, job->cpu, job->peak / (1 << 20));
    printf("    %zu runs %s   %.4f %s %.4f\n", job->n, line, t.least, bins, t.most);
    if (job != first && first->n > 0)
        bench_print_verdict(job, first->name, first->sample, first->n);
    bench_print_against_baseline(s, job);
}

int main(int argc, char **argv)
{
    struct bench_settings s = { .rounds = 21, .seconds = 20 };
    const int first = bench_parse(&s, argc, argv, "NAME=COMMAND...");
    const size_t n = first < 0 ? 0 : (size_t)(argc - first);
    struct bench_job *const job = calloc(n + 1, sizeof *job);
    bool good = job != NULL && n > 0;
    if (first >= 0 && n == 0)
        fprintf(stderr, "%s: NAME=COMMAND is wanted\n", argv[0]);
    for (size_t i = 0; good && i < n; i++) {
        const char *const text = argv[(size_t)first + i], *const equals = strchr(text, '=');
        good = equals != NULL && equals > text;
        if (!good)
            fprintf(stderr, "%s: NAME=COMMAND is wanted\n", text);
        else
            snprintf(job[i].name, sizeof job[i].name, "%.*s", (int)(equals - text), text), job[i].what = equals + 1;
    }
    if (good) {
        bench_measure(&s, job, n, run);
        for (size_t i = 0; i < n; i++) {
            print(&s, &job[i], job);
            good &= !job[i].failed;
        }
        good &= bench_keep(&s, job, n);
    }
    json_decref(s.earlier);
    free(job);
    return good ? 0 : 2;
}
