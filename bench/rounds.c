#include "rounds.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define SCHEMA "apr-bench/1"
#define SURE   0.01 /* p below which a difference is one */
#define DRIFT  0.05 /* by so much of its time a machine itself changes from one run to the next */

/* ---- settings ------------------------------------------------------------------------------------------------------- */

static json_t *runs_of(const char *path)
{
    json_error_t why;
    json_t *const all = json_load_file(path, 0, &why), *const runs = json_incref(json_object_get(all, "runs"));
    if (runs == NULL)
        fprintf(stderr, "%s: %s\n", path, all == NULL ? why.text : "no \"runs\" of " SCHEMA);
    json_decref(all);
    return runs;
}

int bench_parse(struct bench_settings *s, int argc, char **argv, const char *operands)
{
    static const struct option known[] = { { "rounds", required_argument, NULL, 'r' }, { "seconds", required_argument, NULL, 's' },
                                           { "json", required_argument, NULL, 'j' }, { "save-baseline", required_argument, NULL, 'w' },
                                           { "baseline", required_argument, NULL, 'b' }, { 0 } };
    int option;
    bool good = true;
    while ((option = getopt_long(argc, argv, "+", known, NULL)) != -1)
        switch (option) {
        case 'r': s->rounds = (unsigned)strtoul(optarg, NULL, 10); break;
        case 's': s->seconds = strtod(optarg, NULL); break;
        case 'j': s->json = optarg; break;
        case 'w': s->save_baseline = optarg; break;
        case 'b': s->baseline = optarg; break;
        default: good = false;
        }
    if (!good || s->rounds < BENCH_LEAST || s->rounds > BENCH_MOST || !(s->seconds > 0)) {
        fprintf(stderr, "usage: %s [--rounds %u..%u] [--seconds S] [--json FILE] [--save-baseline FILE] [--baseline FILE] %s\n", argv[0],
                BENCH_LEAST, BENCH_MOST, operands);
        return -1;
    }
    if (s->baseline != NULL && (s->earlier = runs_of(s->baseline)) == NULL)
        return -1;
    return optind;
}

/* ---- measuring ------------------------------------------------------------------------------------------------------ */

static double spent(const struct bench_job *job)
{
    double sum = 0;
    for (size_t i = 0; i < job->n; i++)
        sum += job->sample[i];
    return sum;
}

void bench_measure(const struct bench_settings *s, struct bench_job *job, size_t n, bench_once_fn *once)
{
    for (unsigned round = 0; round <= s->rounds; round++)
        for (struct bench_job *j = job; j < job + n; j++) {
            if (j->failed || (j->n >= BENCH_LEAST && spent(j) >= s->seconds))
                continue;
            const double seconds = once(j);
            j->failed = seconds < 0;
            if (round > 0 && !j->failed)
                j->sample[j->n++] = seconds;
        }
}

/* ---- comparing ------------------------------------------------------------------------------------------------------ */

static void print_verdict(const struct bench_job *job, const char *than, const double *earlier, size_t n, double least)
{
    const struct bench_test test = bench_mann_whitney(job->sample, job->n, earlier, n);
    const double now = bench_summarize(job->sample, job->n).median, then = bench_summarize(earlier, n).median;
    if (test.p >= SURE || fabs(now / then - 1) <= least)
        printf("    no difference from %s (%.3f of its time, p %.2g)\n", than, now / then, test.p);
    else if (now < then)
        printf("    faster than %s: %.3f of its time, %.2f times as fast (p %.2g)\n", than, now / then, then / now, test.p);
    else
        printf("    slower than %s: %.3f times its time (p %.2g)\n", than, now / then, test.p);
}

void bench_print_verdict(const struct bench_job *job, const char *than, const double *other, size_t n)
{
    print_verdict(job, than, other, n, 0);
}

void bench_print_against_baseline(const struct bench_settings *s, const struct bench_job *job)
{
    const json_t *const kept = json_object_get(json_object_get(s->earlier, job->name), "seconds");
    double earlier[BENCH_MOST];
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(kept) && n < BENCH_MOST; i++)
        earlier[n++] = json_number_value(json_array_get(kept, i));
    if (n > 0 && job->n > 0)
        print_verdict(job, "the baseline", earlier, n, DRIFT);
}

/* ---- keeping -------------------------------------------------------------------------------------------------------- */

static json_t *as_json(const struct bench_job *job)
{
    const struct bench_summary s = bench_summarize(job->sample, job->n);
    json_t *const run = json_pack("{s:f, s:f, s:f, s:f, s:[]}", "median", s.median, "p95", s.p95, "low", s.low, "high", s.high, "seconds");
    json_t *const seconds = json_object_get(run, "seconds");
    for (size_t i = 0; i < job->n; i++)
        json_array_append_new(seconds, json_real(job->sample[i]));
    if (job->cpu > 0)
        json_object_set_new(run, "cpu_seconds", json_real(job->cpu));
    if (job->peak > 0)
        json_object_set_new(run, "peak_bytes", json_integer((json_int_t)job->peak));
    return run;
}

static bool keep_in(const char *path, const struct bench_job *job, size_t n)
{
    json_t *all = json_load_file(path, 0, NULL);
    if (json_object_get(all, "runs") == NULL) {
        json_decref(all);
        all = json_pack("{s:s, s:{}}", "schema", SCHEMA, "runs");
    }
    for (const struct bench_job *j = job; j < job + n; j++)
        if (j->n > 0)
            json_object_set_new(json_object_get(all, "runs"), j->name, as_json(j));
    const bool kept = json_dump_file(all, path, JSON_REAL_PRECISION(9)) == 0;
    json_decref(all);
    if (!kept)
        fprintf(stderr, "%s: cannot be written\n", path);
    return kept;
}

bool bench_keep(const struct bench_settings *s, const struct bench_job *job, size_t n)
{
    const bool kept = s->json == NULL || keep_in(s->json, job, n);
    return (s->save_baseline == NULL || keep_in(s->save_baseline, job, n)) && kept;
}
