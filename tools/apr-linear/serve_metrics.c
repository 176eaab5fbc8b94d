#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "serve.h"
#include "ui/report.h"

static const unsigned codes[NCODES] = { 200, 400, 404, 405, 411, 413, 415, 422, 431, 500, 503, 0 };

static const char *const paths[NENDPOINTS] = { "/health", "/ready", "/predict", "/predict/batch", "/models", "/metrics", "other" };

/* Ends of the buckets, in seconds, and as they are written. */
static const struct {
    double      seconds;
    const char *word;
} bounds[NBUCKETS] = { { 10e-6, "1e-05" }, { 25e-6, "2.5e-05" }, { 50e-6, "5e-05" }, { 100e-6, "0.0001" }, { 250e-6, "0.00025" },
                       { 500e-6, "0.0005" }, { 1e-3, "0.001" }, { 2.5e-3, "0.0025" }, { 5e-3, "0.005" }, { 10e-3, "0.01" },
                       { 25e-3, "0.025" }, { 50e-3, "0.05" }, { 0.1, "0.1" }, { 0.25, "0.25" }, { 0.5, "0.5" }, { 1, "1" }, { 10, "10" },
                       { INFINITY, "+Inf" } };

void metrics_begin_request(struct metrics *m) { atomic_fetch_add_explicit(&m->in_flight, 1, memory_order_relaxed); }

static void count(_Atomic uint64_t *n, uint64_t more) { atomic_fetch_add_explicit(n, more, memory_order_relaxed); }

static uint64_t counted(_Atomic uint64_t *n) { return atomic_load_explicit(n, memory_order_relaxed); }

void metrics_end_request(struct metrics *m, enum endpoint at, unsigned code, uint64_t nanoseconds)
{
    unsigned c = 0, b = 0;
    while (codes[c] != code && codes[c] != 0)
        c++;
    while ((double)nanoseconds > bounds[b].seconds * 1e9)
        b++;
    count(&m->requests[at][c], 1);
    count(&m->bucket[b], 1);
    count(&m->nanoseconds, nanoseconds);
    atomic_fetch_sub_explicit(&m->in_flight, 1, memory_order_relaxed);
}

static void write_head(FILE *to, const char *name, const char *type, const char *help)
{
    fprintf(to, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* The value of a label: backslashes, quotes and ends of lines are escaped. */
static void write_label(FILE *to, const char *text)
{
    for (; *text != 0; text++) {
        if (*text == '\\' || *text == '"')
            putc('\\', to);
        if (*text == '\n')
            fputs("\\n", to);
        else
            putc(*text, to);
    }
}

static void write_requests(struct metrics *m, FILE *to)
{
    write_head(to, "apr_requests_total", "counter", "Requests answered, by endpoint and code.");
    for (unsigned at = 0; at < NENDPOINTS; at++)
        for (unsigned c = 0; c < NCODES; c++)
            if (counted(&m->requests[at][c]) > 0)
                fprintf(to, "apr_requests_total{endpoint=\"%s\",code=\"%u\"} %llu\n", paths[at], codes[c],
                        (unsigned long long)counted(&m->requests[at][c]));
}

static void write_durations(struct metrics *m, FILE *to)
{
    uint64_t n = 0;
    char text[32];
    write_head(to, "apr_request_duration_seconds", "histogram", "From a request's head to its answer.");
    for (unsigned b = 0; b < NBUCKETS; b++) {
        n += counted(&m->bucket[b]);
        fprintf(to, "apr_request_duration_seconds_bucket{le=\"%s\"} %llu\n", bounds[b].word, (unsigned long long)n);
    }
    fprintf(to, "apr_request_duration_seconds_sum %s\n", apr_spell_real((double)counted(&m->nanoseconds) / 1e9, text));
    fprintf(to, "apr_request_duration_seconds_count %llu\n", (unsigned long long)n);
}

static void write_predictions(struct metrics *m, const struct roll *models, FILE *to)
{
    write_head(to, "apr_predictions_total", "counter", "Rows answered, by model.");
    for (size_t i = 0; i < models->n; i++) {
        fputs("apr_predictions_total{model=\"", to);
        write_label(to, models->model[i]->m->name);
        fprintf(to, "\"} %llu\n", (unsigned long long)counted(&m->predictions[i]));
    }
}

static void write_faults(struct metrics *m, FILE *to)
{
    write_head(to, "apr_errors_total", "counter", "Requests refused, by the code in the answer.");
    for (unsigned f = FAULT_NONE + 1; f < NFAULTS; f++)
        if (counted(&m->faults[f]) > 0)
            fprintf(to, "apr_errors_total{kind=\"%s\"} %llu\n", fault_rows[f].word, (unsigned long long)counted(&m->faults[f]));
}

/* Of this process, in bytes: the second number of statm is pages. */
static unsigned long long resident(void)
{
    unsigned long long size, pages;
    char text[128];
    const int f = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    const ssize_t n = f < 0 ? -1 : read(f, text, sizeof text - 1);
    if (f >= 0)
        close(f);
    text[n > 0 ? n : 0] = 0;
    return sscanf(text, "%llu %llu", &size, &pages) == 2 ? pages * (unsigned long long)sysconf(_SC_PAGESIZE) : 0;
}

void write_metrics(struct metrics *m, const struct roll *models, FILE *to)
{
    char text[32];
    write_requests(m, to);
    write_durations(m, to);
    write_predictions(m, models, to);
    write_head(to, "apr_in_flight", "gauge", "Requests whose head has come and that have no answer yet.");
    fprintf(to, "apr_in_flight %lld\n", (long long)atomic_load_explicit(&m->in_flight, memory_order_relaxed));
    write_faults(m, to);
    write_head(to, "process_resident_memory_bytes", "gauge", "Resident memory.");
    fprintf(to, "process_resident_memory_bytes %llu\n", resident());
    write_head(to, "process_start_time_seconds", "gauge", "When the process began, in seconds since 1970.");
    fprintf(to, "process_start_time_seconds %s\n", apr_spell_real(m->started, text));
}
