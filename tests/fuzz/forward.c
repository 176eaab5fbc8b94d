/* Any bytes as a model that runs: what it gives for a text is the same however the text is cut. */
#include "fuzz.h"

#include <string.h>

#include "forward/forward.h"
#include "model/model.h"
#include "model/open.h"

#define TOKENS 3

/* What runs, as far as it has come. */
struct running {
    struct apr_model    *m;
    struct apr_binding  *b;
    struct apr_net      *net;
    struct apr_team     *team;
    struct apr_sequence *s;
    float               *logits[2];
};

static enum apr_code start(struct running *x, struct apr_families *all, const struct apr_run *run, struct apr_error *e)
{
    const struct apr_family *f;
    APR_TRY(apr_family_said(all, x->m, &f, e));
    if (f == NULL)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "no family");
    APR_TRY(apr_bind(&x->b, f, x->m, NULL, e));
    APR_TRY(apr_net_new(&x->net, run->kernels, x->m, x->b, e));
    APR_TRY(apr_team_new(&x->team, run->threads, e));
    for (unsigned i = 0; i < 2; i++)
        fuzz_expect((x->logits[i] = calloc(x->net->vocab + 1, sizeof *x->logits[i])) != NULL);
    return apr_sequence_new(&x->s, x->net, x->team, TOKENS, e);
}

static enum apr_code run_text(struct running *x, struct apr_error *e)
{
    static const uint32_t id[TOKENS] = { 0, 1, 2 };
    APR_TRY(apr_sequence_run(x->s, id, TOKENS, NULL, e));
    APR_TRY(apr_sequence_logits(x->s, TOKENS - 1, 1, NULL, x->logits[0], e));
    apr_sequence_clear(x->s);
    APR_TRY(apr_sequence_run(x->s, id, 1, NULL, e));
    APR_TRY(apr_sequence_run(x->s, id + 1, TOKENS - 1, NULL, e));
    APR_TRY(apr_sequence_logits(x->s, TOKENS - 2, 1, NULL, x->logits[1], e));
    fuzz_expect(memcmp(x->logits[0], x->logits[1], x->net->vocab * sizeof(float)) == 0);
    return APR_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static struct apr_families *all;
    struct running x = { 0 };
    const struct apr_run run = fuzz_run();
    struct apr_error e;
    if (all == NULL)
        fuzz_expect(apr_families_new(&all, &e) == APR_OK);
    enum apr_code code = apr_open(&x.m, fuzz_file(bytes, n), &run, &e);
    if (code == APR_OK)
        code = start(&x, all, &run, &e);
    if (code == APR_OK)
        code = run_text(&x, &e);
    if (code != APR_OK)
        fuzz_expect_error(code, &e);
    free(x.logits[0]);
    free(x.logits[1]);
    apr_sequence_free(x.s);
    apr_team_free(x.team);
    apr_net_free(x.net);
    apr_binding_free(x.b);
    apr_close(x.m);
    return 0;
}
