/* --kld: how far the model is from another one. */
#include <inttypes.h>
#include <stdio.h>

#include "base/bytes.h"
#include "judgement.h"

static enum apr_code check_vocabulary(const struct trace *t, const struct judgement *g, struct apr_error *e)
{
    const uint64_t own = t->engine.net->vocab, base = g->base.net->vocab;
    if (own == base)
        return APR_OK;
    return apr_fail(e, APR_EARG, APR_NOWHERE, "it has %" PRIu64 " tokens, --kld %s has %" PRIu64
                    ": what they foretell is not the same thing", own, APR_QUOTED(apr_text(g->base.path)), base);
}

/* Equally many are not the same yet. Tokens of no text of their own, bytes and those that a converter adds or fills up with, are spelled as
 * each format has them, and left out. */
static bool is_plain(const struct apr_encoder *x, uint64_t id)
{
    const struct apr_token *const token = apr_vocabulary_token(apr_encoder_vocabulary(x), id);
    return token != NULL && token->type == APR_TOKEN_NORMAL && token->flags == 0 && token->text.n > 0;
}

static enum apr_code compare_tokens(struct trace *t, struct judgement *g, struct apr_error *e)
{
    APR_TRY(try_encoder(&t->engine, t->o, e));
    APR_TRY(try_encoder(&g->base, t->o, e));
    struct apr_encoder *const own = t->engine.encoder, *const base = g->base.encoder;
    for (uint64_t id = 0; own != NULL && base != NULL && id < t->engine.net->vocab; id++) {
        if (!is_plain(own, id) || !is_plain(base, id))
            continue;
        const struct apr_bytes here = apr_token_spelling(own, id), there = apr_token_spelling(base, id);
        if (!apr_bytes_equal(here, there))
            return apr_fail(e, APR_EARG, APR_NOWHERE, "token %" PRIu64 " is %s, in --kld %s it is %s: what they foretell is not the same "
                            "thing", id, APR_QUOTED(here), APR_QUOTED(apr_text(g->base.path)), APR_QUOTED(there));
    }
    return APR_OK;
}

enum apr_code open_base(struct trace *t, struct judgement *g, struct apr_error *e)
{
    APR_TRY(open_engine(&g->base, t->o, t->o->judging.kld, true, e));
    enum apr_code code = apr_foretells(g->base.net, e);
    if (code == APR_OK) {
        APR_TRY(check_vocabulary(t, g, e));
        APR_TRY(compare_tokens(t, g, e));
        code = apr_windows_check(&g->window, g->base.net, e);
    }
    if (code != APR_OK)
        apr_error_in(e, g->base.path);
    return code;
}

void write_divergence(struct apr_out *j, const struct judgement *g)
{
    const struct apr_divergence *const d = &g->found.from_base;
    apr_out_open(j, "kld", '{');
    apr_out_text(j, "base", g->base.path);
    apr_out_real(j, "base_perplexity", g->found.base.value);
    apr_out_real(j, "base_perplexity_error", g->found.base.error);
    apr_out_real(j, "mean", d->mean);
    apr_out_real(j, "mean_error", d->mean_error);
    apr_out_real(j, "median", d->median);
    apr_out_real(j, "p90", d->p90);
    apr_out_real(j, "p95", d->p95);
    apr_out_real(j, "p99", d->p99);
    apr_out_real(j, "p99_9", d->p99_9);
    apr_out_real(j, "max", d->max);
    apr_out_real(j, "same_top", d->same_top);
    apr_out_real(j, "mean_delta_p", d->mean_delta_p);
    apr_out_real(j, "rms_delta_p", d->rms_delta_p);
    apr_out_close(j, '}');
}

void print_divergence(const struct judgement *g)
{
    const struct apr_divergence *const d = &g->found.from_base;
    printf("its perplexity   %.6g +- %.3g  of ", g->found.base.value, g->found.base.error);
    apr_print_text(stdout, g->base.path);
    printf("\nKL divergence    %.6g +- %.3g  from it: median %.6g, largest %.6g\n", d->mean, d->mean_error, d->median, d->max);
    printf("percentiles      90: %.6g  95: %.6g  99: %.6g  99.9: %.6g\n", d->p90, d->p95, d->p99, d->p99_9);
    printf("same best token  %.3f %%\n", 100 * d->same_top);
    printf("right token's p  %+.4f %% in the mean, %.4f %% rms\n", 100 * d->mean_delta_p, 100 * d->rms_delta_p);
}
