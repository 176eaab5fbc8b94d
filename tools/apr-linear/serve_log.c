#include "serve_log.h"

#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"

#define PATIENCE_MS  100   /* that a reader who was there a moment ago may take */
#define METHOD_BYTES 16u
#define PATH_BYTES   512u
#define LINE_BYTES   3072u /* below what a pipe that is ready takes whole */

static struct {
    pthread_mutex_t lock;
    bool            stuck;
    uint64_t        lost; /* lines */
} log_of = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* What has failed takes a line too, and loses it. */
static bool takes_more(void)
{
    struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
    return poll(&p, 1, log_of.stuck ? 0 : PATIENCE_MS) != 0;
}

static void put(const char *text, size_t n)
{
    pthread_mutex_lock(&log_of.lock);
    log_of.stuck = !takes_more();
    if (log_of.stuck) {
        log_of.lost++;
    } else {
        if (log_of.lost > 0)
            fprintf(stderr, "apr-linear: %llu lines were left out here: nobody read them\n", (unsigned long long)log_of.lost);
        log_of.lost = 0;
        fwrite(text, 1, n, stderr);
    }
    pthread_mutex_unlock(&log_of.lock);
}

void log_line(const char *format, ...)
{
    char text[LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    const int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (n > 0)
        put(text, apr_min((size_t)n, sizeof text - 1));
}

/* text behind n bytes of `to`: four bytes for one at most, of `most`. Returns the length. */
static size_t put_shown(char *to, size_t n, const char *text, size_t most)
{
    const size_t length = strnlen(text, most - 1);
    for (size_t i = 0; i < length;) {
        const size_t shown = text[i] == ' ' ? 0 : apr_shown_length((const unsigned char *)text + i, length - i);
        if (shown > 0)
            memcpy(to + n, text + i, shown);
        else
            snprintf(to + n, 5, "\\x%02x", (unsigned char)text[i]);
        n += shown > 0 ? shown : 4;
        i += shown > 0 ? shown : 1;
    }
    return n;
}

void log_request(const char *method, const char *path, unsigned code, size_t bytes, uint64_t ns)
{
    char text[LINE_BYTES];
    size_t n = put_shown(text, 0, method, METHOD_BYTES);
    text[n++] = ' ';
    n = put_shown(text, n, path, PATH_BYTES);
    n += (size_t)snprintf(text + n, 96, " %u %zu %llu\n", code, bytes, (unsigned long long)ns / 1000);
    put(text, n);
}
