/* serve: what its parts share. All of it but serve_http.c and serve.c knows no socket. */
#ifndef APR_LINEAR_SERVE_H
#define APR_LINEAR_SERVE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "model.h"

/* ---- models --------------------------------------------------------------------------------------------------------- */

/* The models as they are served at one time. Who answers holds a roll, so that a request sees one only, whatever is read meanwhile. */
struct roll {
    unsigned        users;
    size_t          n;
    struct served **model;
};

/* A model of one roll or several. */
struct served {
    unsigned             users;
    struct linear_model *m;
};

struct catalog {
    pthread_mutex_t       lock;
    struct roll          *now;
    const char *const    *path; /* n of them; model i of every roll is read there */
    size_t                n;
    enum linear_as        as;
    const struct apr_run *run;
};

/* Loads all models; two of one name are refused. Free with catalog_end, also after a failure. */
APR_MUST_CHECK enum apr_code catalog_begin(struct catalog *c, struct apr_error *e);
void catalog_end(struct catalog *c);

/* Reads all models again and serves them from now on; of those that cannot be read, tell(ctx, e) is called and the old one stays, as
 * that of standard input does, which is gone, or a terminal that would be waited for. Returns how many were read. One thread at a time. */
typedef void catalog_tell_fn(void *ctx, const struct apr_error *e);
size_t catalog_renew(struct catalog *c, catalog_tell_fn *tell, void *ctx);

/* The roll of now, until it is let go. Any thread. */
struct roll *catalog_hold(struct catalog *c);
void catalog_let_go(struct catalog *c, struct roll *r);

/* ---- counting ------------------------------------------------------------------------------------------------------- */

enum endpoint { ON_HEALTH, ON_READY, ON_PREDICT, ON_BATCH, ON_MODELS, ON_METRICS, ON_NONE, NENDPOINTS };

/* What an error is called, and its code. */
enum fault {
    FAULT_NONE, FAULT_JSON, FAULT_FRAMING, FAULT_PATH, FAULT_MODEL, FAULT_METHOD, FAULT_LENGTH, FAULT_BODY, FAULT_INSTANCES, FAULT_ANSWER,
    FAULT_TYPE, FAULT_REQUEST, FAULT_COUNT, FAULT_NAME, FAULT_MISSING, FAULT_VALUE, FAULT_FINITE, FAULT_RESULT,
    FAULT_MEMORY, FAULT_DRAINING, FAULT_CONNECTIONS, NFAULTS,
};
struct fault_row {
    const char *word;
    unsigned    code;
};
extern const struct fault_row fault_rows[NFAULTS];

#define NCODES   12u /* 200, each that a fault may have, 431, and 0 for no answer */
#define NBUCKETS 18u /* of request durations, the last without an end */

/* Counted by any thread. predictions: one a model. */
struct metrics {
    _Atomic uint64_t  requests[NENDPOINTS][NCODES], faults[NFAULTS], bucket[NBUCKETS], nanoseconds;
    _Atomic int64_t   in_flight;
    _Atomic uint64_t *predictions;
    double            started; /* seconds of the epoch */
};
void metrics_begin_request(struct metrics *m);
void metrics_end_request(struct metrics *m, enum endpoint at, unsigned code, uint64_t nanoseconds);

/* ---- answering ------------------------------------------------------------------------------------------------------ */

struct server {
    struct catalog catalog;
    struct metrics metrics;
    uint64_t       most_body;
    _Atomic bool   draining;
};

/* What is known of a request when its head has come.
 *   path        without host and query
 *   coding      how the body is encoded, NULL: as it is
 *   has_length  it says how long its body is, or sends it in chunks
 *   unclear     where its body ends is told in two ways, or in one that is not known here
 *   crowded     there are more connections than there may be
 *   length      what it says that its body has */
struct request {
    const char *method, *path, *type, *coding;
    bool        has_length, unclear, crowded;
    uint64_t    length;
};

/* text: the caller frees it with free; NULL when memory is out. allow: methods, or NULL. closes: the connection shall not be kept. */
struct reply {
    enum endpoint at;
    unsigned      code;
    const char   *type, *allow;
    char         *text;
    size_t        n;
    bool          closes;
};

/* Is the request answered before its body is looked at? *at_once: it need not even come. */
bool server_refuses(struct server *s, const struct request *q, struct reply *r, bool *at_once);

/* Answers one that is not refused. whole: false where the body was longer than it may be. Any thread. */
void server_answers(struct server *s, const struct request *q, struct apr_bytes body, bool whole, struct reply *r);

/* Both. */
void server_handle(struct server *s, const struct request *q, struct apr_bytes body, struct reply *r);

/* ---- between the parts ---------------------------------------------------------------------------------------------- */

/* Why a request is refused. */
struct complaint {
    enum fault fault;
    char       text[512];
};
/* Says why; returns false. */
bool complain(struct complaint *c, enum fault fault, const char *format, ...) APR_PRINTF(3, 4);

/* A body taken apart: views into it. features: of /predict, the array or object; of /predict/batch, all of them. */
struct wishes {
    struct apr_bytes  features, model;
    bool              has_model, probabilities;
    struct apr_arena *arena;
};
bool read_wishes(struct wishes *w, struct apr_bytes body, const char *key, struct complaint *c);

/* One row of numbers by place or by name into x, m->inputs of them; seen: as many bytes to work with. */
bool read_features(const struct linear_model *m, struct apr_bytes text, double *x, unsigned char *seen, struct complaint *c);

/* The text of /metrics into `to`. */
void write_metrics(struct metrics *m, const struct roll *models, FILE *to);

#endif
