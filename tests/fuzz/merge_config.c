/* Any bytes as a configuration of apr-merge, of which then every parameter is asked for. */
#include "fuzz.h"

#include <string.h>

#include "../../tools/apr-merge/merge.h"

static void ask(const struct apr_yaml *const *level, size_t n)
{
    static const double at[] = { 0, 0.3, 1 };
    double value;
    for (enum param p = 0; p < NPARAMS; p++)
        for (size_t i = 0; i < APR_LENGTH(at); i++)
            (void)parameter_at(level, n, p, apr_text("model.layers.3.mlp.up_proj.weight"), at[i], &value);
}

static void touch(const struct config *c)
{
    fuzz_expect(c->method != NULL && c->nslice > 0 && c->nmodel > 0 && c->nmodel <= MOST_MODELS);
    for (size_t i = 0; i < c->nslice; i++) {
        const struct slice *const s = &c->slice[i];
        fuzz_expect(s->npart > 0 && (s->base == NONE || s->base < c->nmodel));
        for (size_t k = 0; k < s->npart; k++) {
            const struct apr_yaml *const level[] = { s->part[k].parameters, s->parameters, c->level[0], c->level[1] };
            fuzz_expect(s->part[k].model < c->nmodel && (s->part[k].whole || s->part[k].from < s->part[k].to));
            ask(level, APR_LENGTH(level));
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    for (unsigned strict = 0; strict < 2; strict++) {
        struct options o = { .strict = strict, .c.cli.run = fuzz_run() };
        struct config c = { .path = "fuzz/merge.yml", .folder = { (const unsigned char *)"fuzz/", 5 } };
        struct apr_error e;
        unsigned char *const text = malloc(n + 1);
        fuzz_expect(text != NULL);
        if (n > 0)
            memcpy(text, bytes, n);
        const enum apr_code code = config_read(&c, &o, (struct apr_bytes){ text, n }, &e);
        free(text);
        if (code == APR_OK) {
            touch(&c);
        } else {
            fuzz_expect_error(code, &e);
            fuzz_expect(strncmp(e.text, "line ", 5) == 0 && strcmp(e.file, "fuzz/merge.yml") == 0);
        }
        config_end(&c);
    }
    return 0;
}
