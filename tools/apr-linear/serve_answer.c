/* From a request to its answer, without a socket. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "base/memstream.h"
#include "model/json.h"
#include "serve.h"
#include "ui/report.h"

#define MOST_INSTANCES 10000u
#define MOST_NUMBERS   1000000u /* in an answer: probabilities of all instances */

#define JSON_TYPE "application/json"

const struct fault_row fault_rows[NFAULTS] = {
    [FAULT_NONE] = { "none", 200 },
    [FAULT_JSON] = { "bad_json", 400 },
    [FAULT_FRAMING] = { "bad_framing", 400 },
    [FAULT_PATH] = { "not_found", 404 },
    [FAULT_MODEL] = { "unknown_model", 404 },
    [FAULT_METHOD] = { "method_not_allowed", 405 },
    [FAULT_LENGTH] = { "length_required", 411 },
    [FAULT_BODY] = { "body_too_large", 413 },
    [FAULT_INSTANCES] = { "too_many_instances", 413 },
    [FAULT_ANSWER] = { "answer_too_large", 413 },
    [FAULT_TYPE] = { "unsupported_media_type", 415 },
    [FAULT_REQUEST] = { "bad_request", 422 },
    [FAULT_COUNT] = { "wrong_feature_count", 422 },
    [FAULT_NAME] = { "unknown_feature", 422 },
    [FAULT_MISSING] = { "missing_feature", 422 },
    [FAULT_VALUE] = { "bad_value", 422 },
    [FAULT_FINITE] = { "not_finite", 422 },
    [FAULT_RESULT] = { "no_finite_answer", 422 },
    [FAULT_MEMORY] = { "out_of_memory", 500 },
    [FAULT_DRAINING] = { "draining", 503 },
    [FAULT_CONNECTIONS] = { "too_many_connections", 503 },
};

/* What is put together for one request. */
struct work {
    struct server        *s;
    const struct request *q;
    struct apr_bytes      body;
    struct roll          *models;
    struct apr_out        out;
    struct complaint      why;
    struct timespec       began;
};

/* ---- replies -------------------------------------------------------------------------------------------------------- */

static bool begin_text(struct reply *r, FILE **to)
{
    *to = apr_memstream(&r->text, &r->n);
    return *to != NULL;
}

static void drop_text(struct reply *r)
{
    free(r->text);
    r->text = NULL;
    r->n = 0;
}

static void end_text(struct reply *r, FILE *to)
{
    if (fclose(to) != 0)
        drop_text(r);
}

/* {"error":{"code":...,"message":...}} */
static void refuse(struct server *s, const struct complaint *why, struct reply *r)
{
    FILE *to;
    drop_text(r);
    atomic_fetch_add_explicit(&s->metrics.faults[why->fault], 1, memory_order_relaxed);
    r->code = fault_rows[why->fault].code;
    r->type = JSON_TYPE;
    if (!begin_text(r, &to))
        return;
    struct apr_out o = { .to = to };
    apr_out_open(&o, NULL, '{');
    apr_out_open(&o, "error", '{');
    apr_out_text(&o, "code", fault_rows[why->fault].word);
    apr_out_text(&o, "message", why->text);
    apr_out_close(&o, '}');
    apr_out_close(&o, '}');
    apr_out_line(&o);
    end_text(r, to);
}

/* ---- predictions ---------------------------------------------------------------------------------------------------- */

/* Room for one row on its way. */
struct row {
    double        *x, *z, *p;
    unsigned char *seen;
};

static bool begin_row(struct row *row, const struct linear_model *m, struct complaint *c)
{
    const size_t bytes = (m->inputs + m->outputs + m->nclass) * sizeof(double) + m->inputs;
    row->x = aligned_alloc(64, (bytes + 63) / 64 * 64); /* lines of the cache, which a kernel loads whole */
    if (row->x == NULL)
        return complain(c, FAULT_MEMORY, "out of memory");
    row->z = row->x + m->inputs;
    row->p = row->z + m->outputs;
    row->seen = (unsigned char *)(row->p + m->nclass);
    return true;
}

/* The members of an answer to one row. */
static bool put_prediction(struct work *w, const struct linear_model *m, struct apr_bytes features, bool probabilities, struct row *row)
{
    struct apr_out *o = &w->out;
    if (!read_features(m, features, row->x, row->seen, &w->why))
        return false;
    linear_answer(m, row->x, row->z);
    for (size_t i = 0; i < m->outputs; i++)
        if (!isfinite(row->z[i]))
            return complain(&w->why, FAULT_RESULT, "the answer is no finite number: features are too large");
    if (m->nclass == 0) {
        apr_out_real(o, "prediction", row->z[0]);
        return true;
    }
    const size_t best = linear_choose(m, row->z, probabilities ? row->p : NULL);
    apr_out_raw(o, "prediction", m->class[best].json);
    if (!probabilities)
        return true;
    apr_out_open(o, "probabilities", '[');
    for (size_t i = 0; i < m->nclass; i++)
        apr_out_real(o, NULL, row->p[i]);
    apr_out_close(o, ']');
    return true;
}

/* In whole microseconds. */
static void put_latency(struct work *w)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const int64_t ns = (now.tv_sec - w->began.tv_sec) * 1000000000 + (now.tv_nsec - w->began.tv_nsec);
    apr_out_real(&w->out, "latency_ms", (double)((ns + 500) / 1000) / 1000);
}

/* The model of that name, or the first; its number. */
static bool choose_model(struct work *w, const struct wishes *wishes, size_t *number)
{
    *number = 0;
    if (!wishes->has_model)
        return true;
    for (size_t i = 0; i < w->models->n; i++)
        if (apr_bytes_is(wishes->model, w->models->model[i]->m->name)) {
            *number = i;
            return true;
        }
    return complain(&w->why, FAULT_MODEL, "there is no model %s", APR_QUOTED(wishes->model));
}

static void count_predictions(struct work *w, size_t model, size_t n)
{
    atomic_fetch_add_explicit(&w->s->metrics.predictions[model], n, memory_order_relaxed);
}

static bool put_one(struct work *w, const struct wishes *wishes, size_t number, struct row *row)
{
    const struct linear_model *m = w->models->model[number]->m;
    if (!put_prediction(w, m, wishes->features, wishes->probabilities, row))
        return false;
    put_latency(w);
    apr_out_text(&w->out, "model_version", m->version);
    count_predictions(w, number, 1);
    return true;
}

static bool put_instance(struct work *w, const struct linear_model *m, const struct apr_item *item, bool probabilities, size_t i,
                         struct row *row)
{
    apr_out_open(&w->out, NULL, '{');
    if (!put_prediction(w, m, item->value, probabilities, row)) {
        char text[sizeof w->why.text];
        memcpy(text, w->why.text, sizeof text);
        return complain(&w->why, w->why.fault, "instance %zu: %.460s", i, text);
    }
    apr_out_close(&w->out, '}');
    return true;
}

static bool put_instances(struct work *w, const struct linear_model *m, const struct wishes *wishes, size_t *n, struct row *row)
{
    const size_t numbers = wishes->probabilities ? m->nclass : 0;
    struct apr_error e;
    struct apr_walk walk;
    struct apr_item item;
    bool more;
    if (apr_walk_in(&walk, wishes->features, 0, '[', &e) != APR_OK)
        return complain(&w->why, FAULT_REQUEST, "instances: expected an array, found %s", APR_QUOTED(wishes->features));
    for (*n = 0;; ++*n) {
        if (apr_walk_next(&walk, &item, &more, &e) != APR_OK)
            return complain(&w->why, FAULT_JSON, "instances: %s", e.text);
        if (!more)
            return true;
        if (*n == MOST_INSTANCES)
            return complain(&w->why, FAULT_INSTANCES, "more than %u instances", MOST_INSTANCES);
        if (numbers > 0 && *n >= MOST_NUMBERS / numbers)
            return complain(&w->why, FAULT_ANSWER, "more than %u probabilities", MOST_NUMBERS);
        if (!put_instance(w, m, &item, wishes->probabilities, *n, row))
            return false;
    }
}

static bool put_batch(struct work *w, const struct wishes *wishes, size_t number, struct row *row)
{
    const struct linear_model *m = w->models->model[number]->m;
    size_t n;
    apr_out_open(&w->out, "predictions", '[');
    if (!put_instances(w, m, wishes, &n, row))
        return false;
    apr_out_close(&w->out, ']');
    apr_out_count(&w->out, "count", n);
    put_latency(w);
    apr_out_text(&w->out, "model_version", m->version);
    count_predictions(w, number, n);
    return true;
}

/* What is said about a text that is no JSON at all comes before what is said about its content. A number too large for a double is JSON,
 * though jansson takes it for none. */
static bool prefer_json(struct work *w)
{
    struct apr_error e;
    const enum fault fault = w->why.fault;
    if (fault == FAULT_JSON || fault == FAULT_MEMORY || fault == FAULT_FINITE || apr_json_check(w->body, 0, &e) == APR_OK)
        return false;
    return complain(&w->why, e.code == APR_ENOMEM ? FAULT_MEMORY : FAULT_JSON, "the body is no JSON: at byte %llu: %s",
                    (unsigned long long)(e.at == APR_NOWHERE ? 0 : e.at), e.text);
}

static bool predict(struct work *w, const char *key, bool (*put)(struct work *, const struct wishes *, size_t, struct row *))
{
    struct wishes wishes = { 0 };
    struct row row = { 0 };
    size_t number;
    bool good = read_wishes(&wishes, w->body, key, &w->why) && choose_model(w, &wishes, &number) &&
                begin_row(&row, w->models->model[number]->m, &w->why) && put(w, &wishes, number, &row);
    free(row.x);
    apr_arena_free(&wishes.arena);
    return good || prefer_json(w);
}

static bool answer_predict(struct work *w) { return predict(w, "features", put_one); }

static bool answer_batch(struct work *w) { return predict(w, "instances", put_batch); }

/* ---- the others ----------------------------------------------------------------------------------------------------- */

static bool answer_health(struct work *w)
{
    apr_out_text(&w->out, "status", "ok");
    return true;
}

static bool answer_ready(struct work *w)
{
    apr_out_text(&w->out, "status", "ready");
    apr_out_count(&w->out, "models", w->models->n);
    return true;
}

static void put_model(struct apr_out *o, const struct linear_model *m)
{
    apr_out_open(o, NULL, '{');
    apr_out_text(o, "name", m->name);
    apr_out_text(o, "model_type", m->model_type);
    apr_out_count(o, "inputs", m->inputs);
    apr_out_count(o, "outputs", m->outputs);
    apr_out_open(o, "classes", '[');
    for (size_t i = 0; i < m->nclass; i++)
        apr_out_raw(o, NULL, m->class[i].json);
    apr_out_close(o, ']');
    apr_out_open(o, "features", '[');
    for (size_t i = 0; i < m->nfeature; i++)
        apr_out_bytes(o, NULL, m->feature[i]);
    apr_out_close(o, ']');
    apr_out_text(o, "version", m->version);
    apr_out_close(o, '}');
}

static bool answer_models(struct work *w)
{
    apr_out_open(&w->out, "models", '[');
    for (size_t i = 0; i < w->models->n; i++)
        put_model(&w->out, w->models->model[i]->m);
    apr_out_close(&w->out, ']');
    return true;
}

/* ---- endpoints ------------------------------------------------------------------------------------------------------ */

/* answer: writes the members of an object; NULL: /metrics, which is none. */
static const struct {
    const char *path, *allow;
    bool      (*answer)(struct work *w);
} endpoints[ON_NONE] = {
    [ON_HEALTH] = { "/health", "GET, HEAD", answer_health },
    [ON_READY] = { "/ready", "GET, HEAD", answer_ready },
    [ON_PREDICT] = { "/predict", "POST", answer_predict },
    [ON_BATCH] = { "/predict/batch", "POST", answer_batch },
    [ON_MODELS] = { "/models", "GET, HEAD", answer_models },
    [ON_METRICS] = { "/metrics", "GET, HEAD", NULL },
};

static enum endpoint find_endpoint(const char *path)
{
    unsigned at = 0;
    while (at < ON_NONE && strcmp(endpoints[at].path, path) != 0)
        at++;
    return (enum endpoint)at;
}

static bool is_post(enum endpoint at) { return at == ON_PREDICT || at == ON_BATCH; }

static bool is_allowed(enum endpoint at, const char *method)
{
    return is_post(at) ? strcmp(method, "POST") == 0 : strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

/* Its parameters, a charset, may follow; what says nothing is taken for JSON. */
static bool is_json_type(const char *type)
{
    const size_t n = type == NULL ? 0 : strcspn(type, "; \t");
    return type == NULL || (n == strlen(JSON_TYPE) && strncasecmp(type, JSON_TYPE, n) == 0);
}

static bool check_head(struct server *s, const struct request *q, struct reply *r, struct complaint *c, bool *at_once)
{
    const struct apr_bytes path = apr_text(q->path), method = apr_text(q->method);
    *at_once = r->closes = true;
    if (q->crowded)
        return complain(c, FAULT_CONNECTIONS, "there are too many connections");
    if (q->unclear)
        return complain(c, FAULT_FRAMING, "where the body ends: expected one Content-Length, or Transfer-Encoding: chunked");
    if (atomic_load(&s->draining) && (r->at == ON_READY || is_post(r->at)))
        return complain(c, FAULT_DRAINING, "the server is ending");
    *at_once = r->closes = q->length > s->most_body;
    if (r->at == ON_NONE)
        return complain(c, FAULT_PATH, "there is nothing at %s", APR_QUOTED(path));
    if (!is_allowed(r->at, q->method)) {
        r->allow = endpoints[r->at].allow;
        return complain(c, FAULT_METHOD, "%s is not for %s", APR_QUOTED(path), APR_QUOTED(method));
    }
    if (is_post(r->at) && !q->has_length) {
        *at_once = true;
        return complain(c, FAULT_LENGTH, "there is no Content-Length");
    }
    if (q->length > s->most_body)
        return complain(c, FAULT_BODY, "a body of %llu bytes, at most %llu are taken", (unsigned long long)q->length,
                        (unsigned long long)s->most_body);
    if (is_post(r->at) && !is_json_type(q->type))
        return complain(c, FAULT_TYPE, "expected " JSON_TYPE ", found %s", APR_QUOTED(apr_text(q->type)));
    if (is_post(r->at) && q->coding != NULL && strcasecmp(q->coding, "identity") != 0)
        return complain(c, FAULT_TYPE, "a body is taken as it is, not as %s", APR_QUOTED(apr_text(q->coding)));
    return true;
}

bool server_refuses(struct server *s, const struct request *q, struct reply *r, bool *at_once)
{
    struct complaint why;
    *r = (struct reply){ .at = find_endpoint(q->path), .code = 200 };
    if (check_head(s, q, r, &why, at_once))
        return false;
    refuse(s, &why, r);
    return true;
}

static bool answer_metrics(struct work *w)
{
    write_metrics(&w->s->metrics, w->models, w->out.to);
    return true;
}

static bool answer_object(struct work *w, enum endpoint at)
{
    apr_out_open(&w->out, NULL, '{');
    if (!endpoints[at].answer(w))
        return false;
    apr_out_close(&w->out, '}');
    apr_out_line(&w->out);
    return true;
}

void server_answers(struct server *s, const struct request *q, struct apr_bytes body, bool whole, struct reply *r)
{
    struct work w = { .s = s, .q = q, .body = body };
    FILE *to;
    *r = (struct reply){ .at = find_endpoint(q->path), .code = 200, .type = JSON_TYPE, .closes = atomic_load(&s->draining) };
    clock_gettime(CLOCK_MONOTONIC, &w.began);
    if (!whole) {
        complain(&w.why, FAULT_BODY, "at most %llu bytes of body are taken", (unsigned long long)s->most_body);
        refuse(s, &w.why, r);
        return;
    }
    if (!begin_text(r, &to))
        return;
    w.out.to = to;
    w.models = catalog_hold(&s->catalog);
    const bool good = r->at == ON_METRICS ? answer_metrics(&w) : answer_object(&w, r->at);
    catalog_let_go(&s->catalog, w.models);
    end_text(r, to);
    if (r->at == ON_METRICS)
        r->type = "text/plain; version=0.0.4; charset=utf-8";
    if (!good)
        refuse(s, &w.why, r);
}

void server_handle(struct server *s, const struct request *q, struct apr_bytes body, struct reply *r)
{
    bool at_once;
    if (!server_refuses(s, q, r, &at_once))
        server_answers(s, q, body, body.n <= s->most_body, r);
}
