#include "forward/sequence.h"

bool apr_stage_wanted(const struct apr_sequence *s, uint32_t layer, unsigned stage)
{
    const struct apr_observer *const o = s->observer;
    return o != NULL && o->wants != NULL && o->stage != NULL && o->wants(o->ctx, layer, stage);
}

static enum apr_code tell(struct apr_sequence *s, const struct apr_stage_values *v, struct apr_error *e)
{
    return apr_stage_wanted(s, v->layer, v->stage) ? s->observer->stage(s->observer->ctx, v, e) : APR_OK;
}

enum apr_code apr_stage_tell(struct apr_sequence *s, uint32_t layer, unsigned stage, const float *values, uint64_t width,
                             struct apr_error *e)
{
    const struct apr_stage_values v = { stage, layer, 2, { s->n, width }, s->seen, values };
    return tell(s, &v, e);
}

enum apr_code apr_stage_tell_heads(struct apr_sequence *s, uint32_t layer, unsigned stage, const float *values, struct apr_error *e)
{
    const struct apr_stage_values v = { stage, layer, 3, { s->net->heads, s->n, s->whole }, s->seen, values };
    return tell(s, &v, e);
}
