/* HTML pages: head, escaping, tables, and a file that appears whole or not at all. */
#include "page.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_NAMES 200

static const char css[] =
#include "lib/page.css.h"
    ;
static const char shared_script[] =
#include "lib/page.js.h"
    ;

/* ---- the file ------------------------------------------------------------------------------------------------------- */

static enum apr_code refused(const struct apr_page *p, int why, struct apr_error *e)
{
    apr_fail(e, APR_EIO, APR_NOWHERE, "cannot be written: %s", strerror(why));
    apr_error_in(e, p->target);
    return APR_EIO;
}

/* A device or a pipe cannot be replaced: it is written as it is, and p->part stays NULL. */
static enum apr_code open_part(struct apr_page *p, struct apr_error *e)
{
    struct stat st;
    const bool is_special = stat(p->target, &st) == 0 && !S_ISREG(st.st_mode);
    if (!is_special && asprintf(&p->part, "%s.%ld.part", p->target, (long)getpid()) < 0) {
        p->part = NULL;
        return apr_no_memory(e);
    }
    const int fd = is_special ? open(p->target, O_WRONLY | O_CLOEXEC) : open(p->part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        const int why = errno;
        free(p->part);
        p->part = NULL;
        return refused(p, why, e);
    }
    p->to = fdopen(fd, "w");
    if (p->to == NULL) {
        close(fd);
        return apr_no_memory(e);
    }
    return APR_OK;
}

/* The rename lasts once the folder it happened in is on disk. */
static void sync_folder(char *path)
{
    const int fd = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    fsync(fd);
    close(fd);
}

static void forget(struct apr_page *p)
{
    free(p->target);
    free(p->part);
    *p = (struct apr_page){ .to = NULL };
}

void apr_page_drop(struct apr_page *p)
{
    if (p->data.to != NULL)
        fclose(p->data.to);
    if (p->to != NULL)
        fclose(p->to);
    if (p->part != NULL)
        unlink(p->part);
    forget(p);
}

static enum apr_code put_in_place(struct apr_page *p, struct apr_error *e)
{
    errno = 0;
    bool good = fflush(p->to) == 0 && !ferror(p->to) && (p->part == NULL || fsync(fileno(p->to)) == 0);
    int why = errno;
    if (fclose(p->to) != 0 && good) {
        good = false;
        why = errno;
    }
    p->to = NULL;
    if (good && p->part != NULL && rename(p->part, p->target) != 0) {
        good = false;
        why = errno;
    }
    if (!good) {
        refused(p, why == 0 ? EIO : why, e);
        apr_page_drop(p);
        return APR_EIO;
    }
    if (p->part != NULL)
        sync_folder(p->part);
    forget(p);
    return APR_OK;
}

/* ---- the data ------------------------------------------------------------------------------------------------------- */

/* JSON has '<' only in strings; spelled \u003c it can begin no tag that ends the script element. */
static ssize_t write_data(void *cookie, const char *text, size_t n)
{
    FILE *to = cookie;
    for (size_t i = 0; i < n;) {
        const char *tag = memchr(text + i, '<', n - i);
        const size_t end = tag == NULL ? n : (size_t)(tag - text);
        fwrite(text + i, 1, end - i, to);
        if (tag != NULL)
            fputs("\\u003c", to);
        i = end + (tag != NULL);
    }
    return ferror(to) ? 0 : (ssize_t)n;
}

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n";

enum apr_code apr_page_begin(struct apr_page *p, const char *path, const char *title, struct apr_error *e)
{
    *p = (struct apr_page){ .target = realpath(path, NULL) }; /* a link's goal is replaced, not the link */
    if (p->target == NULL)
        p->target = strdup(path);
    enum apr_code code = p->target == NULL ? apr_no_memory(e) : open_part(p, e);
    if (code == APR_OK) {
        p->data.to = fopencookie(p->to, "w", (cookie_io_functions_t){ .write = write_data });
        code = p->data.to == NULL ? apr_no_memory(e) : APR_OK;
    }
    if (code != APR_OK) {
        apr_page_drop(p);
        return code;
    }
    fputs(head, p->to);
    fputs("<title>", p->to);
    apr_page_text(p, (struct apr_bytes){ (const unsigned char *)title, strlen(title) });
    fprintf(p->to, "</title>\n<style>\n%s</style>\n<script type=\"application/json\" id=\"data\">\n", css);
    return APR_OK;
}

void apr_page_body(struct apr_page *p)
{
    apr_out_line(&p->data);
    fclose(p->data.to); /* what it could not write, p->to remembers */
    p->data.to = NULL;
    fputs("</script>\n</head>\n<body>\n", p->to);
}

enum apr_code apr_page_end(struct apr_page *p, const char *script, struct apr_error *e)
{
    fprintf(p->to, "<script>\n%s%s</script>\n</body>\n</html>\n", shared_script, script);
    return put_in_place(p, e);
}

/* ---- the body ------------------------------------------------------------------------------------------------------- */

/* The length of the character at s if a page may have it as it is. Not: C0, DEL, C1, U+202A .. U+202E, U+2066 .. U+2069. */
static size_t harmless(const unsigned char *s, size_t n)
{
    if (*s < 0x20 || *s == 0x7F)
        return 0;
    const size_t length = apr_utf8_length(s, n);
    if (length == 2 && s[0] == 0xC2 && s[1] < 0xA0)
        return 0;
    const bool turns = length == 3 && s[0] == 0xE2 &&
                       ((s[1] == 0x80 && s[2] >= 0xAA && s[2] <= 0xAE) || (s[1] == 0x81 && s[2] >= 0xA6 && s[2] <= 0xA9));
    return turns ? 0 : length;
}

static const char *entity(unsigned char c)
{
    switch (c) {
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '&': return "&amp;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    default: return NULL;
    }
}

void apr_page_text(struct apr_page *p, struct apr_bytes s)
{
    for (size_t i = 0; i < s.n;) {
        const char *name = entity(s.at[i]);
        const size_t length = harmless(&s.at[i], s.n - i);
        if (name != NULL)
            fputs(name, p->to);
        else if (length > 0)
            fwrite(&s.at[i], 1, length, p->to);
        else
            fprintf(p->to, "\\x%02x", s.at[i]);
        i += length > 0 ? length : 1;
    }
}

void apr_page_fact(struct apr_page *p, const char *word) { fprintf(p->to, "<dt>%s</dt><dd>", word); }

void apr_page_table(struct apr_page *p, const char *id, const char *caption, const char *const *column, size_t n)
{
    fprintf(p->to, "<div class=\"scroll\" tabindex=\"0\"><table id=\"%s\" class=\"sortable\" aria-label=\"%s\">", id, id);
    if (*caption != 0)
        fprintf(p->to, "<caption>%s</caption>", caption);
    fputs("\n<thead><tr>", p->to);
    for (size_t i = 0; i < n; i++)
        fprintf(p->to, "<th scope=\"col\"%s>%s</th>", *column[i] == '#' ? " class=\"n\"" : "", column[i] + 1);
    fputs("</tr></thead>\n<tbody>\n", p->to);
}

void apr_page_real(struct apr_page *p, double v)
{
    char exact[32];
    if (isnan(v))
        fputs("<td class=\"n\">&ndash;</td>", p->to);
    else if (isinf(v))
        fprintf(p->to, "<td class=\"n\" data-v=\"%sInfinity\">%s&infin;</td>", v < 0 ? "-" : "", v < 0 ? "&minus;" : "");
    else
        fprintf(p->to, "<td class=\"n\" data-v=\"%s\">%.4g</td>", apr_spell_real(v, exact), v == 0 ? 0 : v);
}

void apr_page_count(struct apr_page *p, uint64_t v) { fprintf(p->to, "<td class=\"n\" data-v=\"%" PRIu64 "\">%" PRIu64 "</td>", v, v); }

void apr_page_size(struct apr_page *p, uint64_t v)
{
    char size[32];
    fprintf(p->to, "<td class=\"n\" data-v=\"%" PRIu64 "\">%s</td>", v, apr_spell_size(v, size));
}

void apr_page_names(struct apr_page *p, const char *heading, const struct apr_bytes *name, size_t n)
{
    if (n == 0)
        return;
    fprintf(p->to, "<h2>%s <span class=\"count\">%zu</span></h2>\n<ul class=\"names\">\n", heading, n);
    for (size_t i = 0; i < n && i < MOST_NAMES; i++) {
        fputs("<li>", p->to);
        apr_page_text(p, name[i]);
        fputs("</li>\n", p->to);
    }
    fputs("</ul>\n", p->to);
    if (n > MOST_NAMES)
        fprintf(p->to, "<p class=\"note\">and %zu more</p>\n", n - MOST_NAMES);
}
