/* The one line on stderr, and the only clock of the library. */
#include "ui/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "ui/report.h"

#define SILENT   1.0  /* seconds before the first line: short work shows nothing */
#define INTERVAL 0.1  /* seconds between lines, and before the first of who always wants to see them */
#define WIDEST   40   /* columns of a bar */
#define SHORTEST 5
#define MOST     240  /* columns of a line */

struct apr_progress {
    bool        always;
    const char *what, *unit;   /* unit NULL: bytes */
    uint64_t    total, done, of;
    double      start, last;   /* seconds */
    int         drawn;         /* columns to be erased */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct apr_progress *apr_progress_new(bool always)
{
    struct apr_progress *const p = always || isatty(STDERR_FILENO) ? calloc(1, sizeof *p) : NULL;
    if (p)
        p->always = always;
    return p;
}

void apr_progress_begin(struct apr_progress *p, const char *what, uint64_t bytes)
{
    if (!p)
        return;
    apr_progress_end(p);
    *p = (struct apr_progress){ .always = p->always, .what = what, .total = bytes, .start = now() };
}

void apr_progress_unit(struct apr_progress *p, const char *unit, uint64_t of)
{
    if (!p)
        return;
    p->unit = unit;
    p->of = of ? of : 1;
}

static int columns(void)
{
    struct winsize size;
    const int n = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
    return n - 1 < MOST ? n - 1 : MOST;  /* the last column would wrap on some terminals */
}

/* "0:04 left", "1:02:03 left"; nothing when nobody would wait for it. */
static void spell_left(double seconds, char out[32])
{
    *out = '\0';
    if (seconds >= 100 * 3600)
        return;
    const unsigned s = (unsigned)(seconds + 0.5);
    if (s < 3600)
        snprintf(out, 32, "  %u:%02u left", s / 60, s % 60);
    else
        snprintf(out, 32, "  %u:%02u:%02u left", s / 3600, s / 60 % 60, s % 60);
}

/* "3.1 GB/s", "12.3 tokens/s" */
static void spell_rate(const struct apr_progress *p, double rate, char out[64])
{
    char size[32];
    if (p->unit == NULL)
        snprintf(out, 64, "%s/s", apr_spell_size((uint64_t)rate, size));
    else
        snprintf(out, 64, "%.3g %s/s", rate / (double)p->of, p->unit);
}

/* | comparing  [#####.....]  52 %  3.1 GB/s  0:04 left |: the bar takes what the words leave. */
static void draw(struct apr_progress *p, double t)
{
    const double rate = (double)p->done / (t - p->start);
    const uint64_t done = apr_min(p->done, p->total);
    const double part = p->total ? (double)done / (double)p->total : 1;
    const int width = columns();
    char speed[64], left[32], words[128], bar[WIDEST + 8] = "", line[MOST + 1];

    spell_left(rate > 0 ? (double)(p->total - done) / rate : 1e9, left);
    spell_rate(p, rate, speed);
    snprintf(words, sizeof words, "%3u %%  %s%s", (unsigned)(part * 100), speed, left);
    int room = width - (int)strlen(p->what) - (int)strlen(words) - (int)strlen("  []  ");
    room = room < WIDEST ? room : WIDEST;
    if (room >= SHORTEST) {
        const int full = (int)(part * room);
        memset(bar, '.', sizeof bar);
        memset(bar + 1, '#', (size_t)full);
        bar[0] = '[';
        strcpy(bar + 1 + room, "]  ");
    }
    snprintf(line, (size_t)width + 1, "%s  %s%s", p->what, bar, words);
    const int drawn = (int)strlen(line);
    fprintf(stderr, "\r%s%*s", line, p->drawn > drawn ? p->drawn - drawn : 0, "");
    p->drawn = p->drawn > drawn ? p->drawn : drawn;
    p->last = t;
}

void apr_progress_add(struct apr_progress *p, uint64_t bytes)
{
    if (!p)
        return;
    p->done += bytes;
    const double t = now();
    if (t - p->start >= (p->always ? INTERVAL : SILENT) && t - p->last >= INTERVAL)
        draw(p, t);
}

void apr_progress_end(struct apr_progress *p)
{
    if (!p || !p->drawn)
        return;
    fprintf(stderr, "\r%*s\r", p->drawn, "");
    p->drawn = 0;
}

void apr_progress_free(struct apr_progress *p)
{
    apr_progress_end(p);
    free(p);
}
