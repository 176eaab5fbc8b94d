#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "serve.h"

/* ---- rolls ---------------------------------------------------------------------------------------------------------- */

static struct roll *new_roll(size_t n)
{
    struct roll *r = calloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    *r = (struct roll){ .users = 1, .n = n, .model = calloc(n, sizeof *r->model) };
    if (r->model != NULL)
        return r;
    free(r);
    return NULL;
}

static struct served *new_served(struct linear_model *m)
{
    struct served *s = malloc(sizeof *s);
    if (s != NULL)
        *s = (struct served){ 1, m };
    return s;
}

/* Its models go with the last roll that they are on. */
static void free_roll(struct roll *r)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->model[i] != NULL && --r->model[i]->users == 0) {
            linear_free(r->model[i]->m);
            free(r->model[i]);
        }
    free(r->model);
    free(r);
}

struct roll *catalog_hold(struct catalog *c)
{
    pthread_mutex_lock(&c->lock);
    struct roll *const r = c->now;
    r->users++;
    pthread_mutex_unlock(&c->lock);
    return r;
}

void catalog_let_go(struct catalog *c, struct roll *r)
{
    pthread_mutex_lock(&c->lock);
    if (--r->users == 0)
        free_roll(r);
    pthread_mutex_unlock(&c->lock);
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

static enum apr_code load(const struct catalog *c, size_t i, struct served **s, struct apr_error *e)
{
    struct linear_model *m;
    APR_TRY(linear_load(&m, c->path[i], c->as, c->run, e));
    *s = new_served(m);
    if (*s != NULL)
        return APR_OK;
    linear_free(m);
    return apr_no_memory(e);
}

/* Requests and metrics are UTF-8, and tell models by their names. */
static enum apr_code check_name(const struct catalog *c, size_t i, struct apr_error *e)
{
    const char *const name = c->now->model[i]->m->name;
    if (!apr_is_utf8(apr_text(name)))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "its name is no UTF-8: no request could name it");
    for (size_t k = 0; k < i; k++)
        if (strcmp(name, c->now->model[k]->m->name) == 0)
            return apr_fail(e, APR_EARG, APR_NOWHERE, "its name is that of another model, %s", APR_QUOTED(apr_text(c->path[k])));
    return APR_OK;
}

static enum apr_code check_names(const struct catalog *c, struct apr_error *e)
{
    for (size_t i = 0; i < c->n; i++) {
        const enum apr_code code = check_name(c, i, e);
        if (code == APR_OK)
            continue;
        apr_error_in(e, c->path[i]);
        return code;
    }
    return APR_OK;
}

enum apr_code catalog_begin(struct catalog *c, struct apr_error *e)
{
    pthread_mutex_init(&c->lock, NULL);
    c->now = new_roll(c->n);
    if (c->now == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < c->n; i++)
        APR_TRY(load(c, i, &c->now->model[i], e));
    return check_names(c, e);
}

void catalog_end(struct catalog *c)
{
    if (c->now != NULL)
        free_roll(c->now);
    pthread_mutex_destroy(&c->lock);
}

size_t catalog_renew(struct catalog *c, catalog_tell_fn *tell, void *ctx)
{
    struct roll *const next = new_roll(c->n), *old;
    struct apr_error e;
    size_t n = 0;
    if (next == NULL) {
        apr_no_memory(&e);
        tell(ctx, &e);
        return 0;
    }
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->path[i], "-") != 0 && load(c, i, &next->model[i], &e) != APR_OK)
            tell(ctx, &e);
        else
            n += next->model[i] != NULL;
    pthread_mutex_lock(&c->lock);
    old = c->now;
    for (size_t i = 0; i < c->n; i++)
        if (next->model[i] == NULL) {
            next->model[i] = old->model[i];
            old->model[i]->users++;
        }
    c->now = next;
    pthread_mutex_unlock(&c->lock);
    catalog_let_go(c, old);
    return n;
}
