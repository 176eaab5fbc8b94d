#include "linear_server.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/table.h"

static void *copy_of(const void *from, size_t n)
{
    void *const to = malloc(n);
    if (to == NULL)
        abort();
    return memcpy(to, from, n);
}

static struct served *served(const char *name, const char *type, size_t outputs, const float *weight, const double *bias)
{
    struct served *s = calloc(1, sizeof *s);
    if (s == NULL || (s->m = calloc(1, sizeof *s->m)) == NULL)
        abort();
    s->users = 1;
    s->m->name = name;
    s->m->model_type = type;
    s->m->inputs = 2;
    s->m->outputs = outputs;
    s->m->weight = copy_of(weight, 2 * outputs * sizeof *weight);
    s->m->bias = copy_of(bias, outputs * sizeof *bias);
    s->m->kernels = apr_kernels_for(APR_SCALAR);
    memset(s->m->version, 'a', 32);
    return s;
}

static struct served *kinds(void)
{
    const struct linear_class class[] = { { apr_text("a"), apr_text("\"a\"") }, { apr_text("b\""), apr_text("\"b\\\"\"") },
                                          { apr_text("3"), apr_text("3") } };
    const struct apr_bytes feature[] = { apr_text("width"), apr_text("height") };
    struct served *s = served("kinds", "logistic_regression", 3, (const float[]){ 1, 0, 0, 1, 0, 0 }, (const double[]){ 0, 0, 0.5 });
    s->m->class = copy_of(class, sizeof class);
    s->m->nclass = APR_LENGTH(class);
    s->m->feature = copy_of(feature, sizeof feature);
    s->m->nfeature = APR_LENGTH(feature);
    for (size_t i = 0; i < APR_LENGTH(feature); i++) {
        bool fresh;
        union apr_table_value *const at = apr_table_put(&s->m->by_name, feature[i], &fresh);
        if (at == NULL)
            abort();
        at->number = i;
    }
    return s;
}

void linear_server_begin(struct server *s)
{
    *s = (struct server){ .most_body = 4096, .metrics.started = 1.5 };
    pthread_mutex_init(&s->catalog.lock, NULL);
    s->catalog.n = 2;
    s->catalog.now = calloc(1, sizeof *s->catalog.now);
    s->metrics.predictions = calloc(2, sizeof *s->metrics.predictions);
    if (s->catalog.now == NULL || s->metrics.predictions == NULL)
        abort();
    *s->catalog.now = (struct roll){ .users = 1, .n = 2, .model = calloc(2, sizeof(struct served *)) };
    if (s->catalog.now->model == NULL)
        abort();
    s->catalog.now->model[0] = kinds();
    s->catalog.now->model[1] = served("sum", "linear_regression", 1, (const float[]){ 1, 1 }, (const double[]){ 0.25 });
}

void linear_server_end(struct server *s)
{
    catalog_end(&s->catalog);
    free(s->metrics.predictions);
}
