/* Measuring several things in turn, round by round, so that whatever else the machine does falls on all of them; and keeping what was
 * measured, so that a later run can be held against it. Kept: {"schema": "apr-bench/1", "runs": {NAME: {"median", "p95", "low", "high",
 * "seconds": [...]}}}, with "cpu_seconds" and "peak_bytes" where they are known. */
#ifndef APR_BENCH_ROUNDS_H
#define APR_BENCH_ROUNDS_H

#include <jansson.h>
#include <stdbool.h>

#include "statistics.h"

/* Something that is measured. `what` is for the function that does it; cpu and peak it may set. */
struct bench_job {
    char        name[96];
    const void *what;
    double      sample[BENCH_MOST]; /* seconds */
    size_t      n;
    double      cpu, peak;          /* seconds of all threads the last time, most bytes resident; 0: not known */
    bool        failed;
};

/* Does it once; seconds, or a negative number when it failed. A failed job is not done again. */
typedef double bench_once_fn(struct bench_job *job);

struct bench_settings {
    unsigned    rounds;
    double      seconds;                     /* a job that has had so much rests, but never before BENCH_LEAST rounds */
    const char *json, *save_baseline, *baseline;
    json_t     *earlier;                     /* the baseline's runs, or NULL */
};
#define BENCH_LEAST 6u /* rounds without which Mann-Whitney could never be sure */

/* Reads [--rounds N] [--seconds S] [--json FILE] [--save-baseline FILE] [--baseline FILE]; returns the index of the first operand, or -1
 * after saying on stderr what is wrong. `operands` is for the usage line. */
int bench_parse(struct bench_settings *s, int argc, char **argv, const char *operands);

/* One round that does not count, then the others. */
void bench_measure(const struct bench_settings *s, struct bench_job *job, size_t n, bench_once_fn *once);

/* A line: faster, slower or no difference from n other samples of the same run, by how much, and how sure that is. */
void bench_print_verdict(const struct bench_job *job, const char *than, const double *other, size_t n);

/* The same against the baseline, where a twentieth is no difference yet; nothing where that has no such job. */
void bench_print_against_baseline(const struct bench_settings *s, const struct bench_job *job);

/* Puts the jobs into the files that the settings name, beside what else they hold. False after a message. */
bool bench_keep(const struct bench_settings *s, const struct bench_job *job, size_t n);

#endif
