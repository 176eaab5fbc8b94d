#include "ui/remote.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "files/address.h"
#include "files/remote.h"
#include "ui/progress.h"

#define HUB        "https://huggingface.co"
#define MOST_TOKEN 1024 /* bytes */

/* Where things are, as the environment has it; "" for a path that it does not tell. */
struct places {
    char cache[4096], home_of_hub[4096], token[4096];
    char secret[MOST_TOKEN + 2];
};

static const char *variable(const char *name)
{
    const char *const value = getenv(name);
    return value != NULL && *value != 0 ? value : NULL;
}

/* "A/B" where it fits, else "". */
static void put_path(char out[4096], const char *a, const char *b)
{
    if (a == NULL || *a == 0 || (size_t)snprintf(out, 4096, "%s/%s", a, b) >= 4096)
        *out = 0;
}

static void find_places(struct places *p)
{
    const char *const xdg = variable("XDG_CACHE_HOME"), *const hub = variable("HF_HOME"), *const token = variable("HF_TOKEN_PATH");
    char caches[4096] = "";
    if (xdg != NULL && xdg[0] == '/') /* else it is to be ignored, says its specification */
        snprintf(caches, sizeof caches, "%s", xdg);
    else
        put_path(caches, variable("HOME"), ".cache");
    put_path(p->cache, caches, "apr-tools");
    if (hub != NULL)
        snprintf(p->home_of_hub, sizeof p->home_of_hub, "%s", hub);
    else
        put_path(p->home_of_hub, caches, "huggingface");
    if (token != NULL)
        snprintf(p->token, sizeof p->token, "%s", token);
    else
        put_path(p->token, p->home_of_hub, "token");
}

/* Without the blanks around it, into p->secret; false when there is none, or it is none: it goes into a header line. */
static bool take_token(struct places *p, const char *text, size_t n)
{
    while (n > 0 && (unsigned char)text[n - 1] <= ' ')
        n--;
    while (n > 0 && (unsigned char)text[0] <= ' ') {
        text++;
        n--;
    }
    if (n == 0 || n > MOST_TOKEN)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] <= ' ' || (unsigned char)text[i] >= 0x7F)
            return false;
    memcpy(p->secret, text, n);
    p->secret[n] = 0;
    return true;
}

static bool is_blank(const char *text)
{
    while (*text != 0 && (unsigned char)*text <= ' ')
        text++;
    return *text == 0;
}

/* Of the variable, else of the file where the hub's own programs keep it; where it stood, or NULL. *wrong: the variable holds something and
 * it is none. */
static const char *find_token(struct places *p, bool *wrong)
{
    const char *const said = variable("HF_TOKEN");
    char text[MOST_TOKEN + 2];
    *wrong = said != NULL && !is_blank(said) && !take_token(p, said, strlen(said));
    if (*p->secret != 0)
        return "HF_TOKEN";
    const int fd = *p->token == 0 ? -1 : open(p->token, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    const ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
    if (fd >= 0)
        close(fd);
    return n > 0 && take_token(p, text, (size_t)n) ? p->token : NULL;
}

static void begin(void *progress, uint64_t bytes) { apr_progress_begin(progress, "fetching", bytes); }
static void add(void *progress, uint64_t bytes) { apr_progress_add(progress, bytes); }

/* What is wrong with HF_ENDPOINT; NULL: nothing. */
static const char *wrong_endpoint(const char *url)
{
    const size_t origin = apr_origin_length(url);
    if (memchr(url, '@', origin == 0 ? strlen(url) : origin) != NULL)
        return "HF_ENDPOINT has a name or password in it, which would be seen in lists and files: HF_TOKEN is for what is secret";
    if (origin == 0)
        return "HF_ENDPOINT is no http address";
    for (const char *c = url; *c != 0; c++)
        if ((unsigned char)*c <= ' ' || *c == 0x7F || strchr("?#\\", *c) != NULL)
            return "HF_ENDPOINT has a blank, a control character, a backslash, a query or a fragment in it";
    return NULL;
}

static int new_remote(struct apr_cli *c)
{
    struct places p = { .secret = "" };
    struct apr_error e;
    find_places(&p);
    bool no_token;
    const char *const endpoint = variable("HF_ENDPOINT"), *const from = find_token(&p, &no_token);
    const struct apr_remote_options o = {
        .endpoint = endpoint != NULL ? endpoint : HUB, .token = from == NULL ? NULL : p.secret, .token_from = from,
        .token_place = *p.token != 0 ? p.token : "a file that HF_TOKEN_PATH names", .cache = c->no_cache || *p.cache == 0 ? NULL : p.cache,
        .download = c->download, .begin = begin, .add = add, .ctx = c->run.progress,
    };
    const char *const wrong = no_token ? "HF_TOKEN holds no token: one is printable, without blanks, and of 1024 bytes at most"
                                       : wrong_endpoint(o.endpoint);
    enum apr_code code = wrong != NULL ? apr_fail(&e, APR_EARG, APR_NOWHERE, "%s", wrong) : apr_remote_new(&c->run.remote, &o, &e);
    explicit_bzero(p.secret, sizeof p.secret);
    e.file[0] = 0;
    return code == APR_OK ? -1 : apr_cli_fail(c, &e);
}

/* Does the option name a model at an address? */
static bool names_an_address(const struct apr_option *o)
{
    if ((o->kind != APR_OPTION_INPUT && o->kind != APR_OPTION_TEXT) || o->files == NULL || strcmp(o->files, APR_MODELS) != 0)
        return false;
    const char *const path = *(const char *const *)o->to;
    return path != NULL && apr_is_address(path);
}

int apr_remote_settle(struct apr_cli *c)
{
    bool any = false, takes = false;
    for (size_t i = 0; i < c->noperand; i++)
        any |= apr_is_address(c->operand[i]);
    for (size_t i = 0; i < c->noption; i++) {
        any |= names_an_address(&c->option[i]);
        takes |= c->option[i].to == &c->download;
    }
    if (any && takes)
        return new_remote(c);
    if (c->download || c->no_cache)
        return apr_cli_usage(c, "%s has no effect without a model at an address", c->download ? "--download" : "--no-cache");
    return -1;
}

void apr_remote_tell(const struct apr_cli *c)
{
    if (!c->verbose || c->json || c->run.remote == NULL)
        return;
    apr_progress_end(c->run.progress);
    fprintf(stderr, "%s: %llu bytes fetched\n", c->tool, (unsigned long long)apr_remote_fetched(c->run.remote));
}
