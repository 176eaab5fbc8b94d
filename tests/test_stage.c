/* lib/model/stage.c: the names of a trace, taken apart and put into the order in which a forward pass computes them. */
#include "support.h"

#include <stdio.h>

#include "base/bytes.h"
#include "model/stage.h"

static void names_are_taken_apart(void **state)
{
    (void)state;
    static const struct { const char *name; uint32_t layer; const char *stage; } rows[] = {
        { "layer-0/embedding", 0, "embedding" },
        { "layer-31/ffn_out", 31, "ffn_out" },
        { "layer-007/x", 7, "x" },
        { "layer-4294967294/x", 4294967294u, "x" },
        { "layer-4294967295/x", APR_WHOLE_MODEL, "layer-4294967295/x" },  /* no such layer */
        { "layer-9999999999/x", APR_WHOLE_MODEL, "layer-9999999999/x" },
        { "layer-18446744073709551617/x", APR_WHOLE_MODEL, "layer-18446744073709551617/x" },
        { "layer-1/a/b", 1, "a/b" },
        { "layer-1/", 1, "" },
        { "layer-1", APR_WHOLE_MODEL, "layer-1" },
        { "layer-/x", APR_WHOLE_MODEL, "layer-/x" },
        { "layer-", APR_WHOLE_MODEL, "layer-" },
        { "layer-+1/x", APR_WHOLE_MODEL, "layer-+1/x" },
        { "layer--1/x", APR_WHOLE_MODEL, "layer--1/x" },
        { "Layer-1/x", APR_WHOLE_MODEL, "Layer-1/x" },
        { "lm_head", APR_WHOLE_MODEL, "lm_head" },
        { "", APR_WHOLE_MODEL, "" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        uint32_t layer = 0;
        struct apr_bytes stage = { 0 };
        apr_stage_split(apr_text(rows[i].name), &layer, &stage);
        if (layer != rows[i].layer || !apr_bytes_equal(stage, apr_text(rows[i].stage)))
            fail_msg("%s: layer %u, stage %s", rows[i].name, layer, APR_QUOTED(stage));
    }
}

static void stages_stand_in_computation_order(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "layer-0/embedding", "layer-0/attn_norm", "layer-0/qkv_matmul", "layer-0/qkv_bias", "layer-0/q_post_rope", "layer-0/k_post_rope",
        "layer-0/attn_scores", "layer-0/attn_softmax", "layer-0/attention", "layer-0/attn_out", "layer-0/post_attn_residual",
        "layer-0/ffn_norm", "layer-0/ffn_gate", "layer-0/ffn_up", "layer-0/ffn_silu", "layer-0/ffn_swigl", "layer-0/ffn_out",
        "layer-0/post_ffn_residual", "layer-0/a stranger", "layer-0/another", "layer-1/embedding", "layer-2/attn_norm",
        "layer-10/attn_norm", "final_norm", "lm_head", "a stranger", "layer-x/attn_norm",
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        for (size_t k = 0; k < APR_LENGTH(rows); k++) {
            const int order = apr_stage_compare(apr_text(rows[i]), apr_text(rows[k]));
            if ((order > 0) - (order < 0) != (i > k) - (i < k))
                fail_msg("%s against %s: %d", rows[i], rows[k], order);
        }
}

static void experts_are_routed_before_they_compute(void **state)
{
    (void)state;
    assert_true(apr_stage_rank(apr_text("ffn_norm")) < apr_stage_rank(apr_text("moe_router")));
    assert_true(apr_stage_rank(apr_text("moe_router")) < apr_stage_rank(apr_text("moe_router_indices")));
    assert_true(apr_stage_rank(apr_text("moe_router_indices")) < apr_stage_rank(apr_text("moe_ffn_out")));
    assert_true(apr_stage_rank(apr_text("moe_ffn_out")) < apr_stage_rank(apr_text("ffn_out")));
}

static void an_alias_shares_the_place(void **state)
{
    (void)state;
    assert_int_equal(apr_stage_rank(apr_text("layer_output")), apr_stage_rank(apr_text("post_ffn_residual")));
    assert_true(apr_stage_rank(apr_text("layer_output")) < apr_stage_rank(apr_text("final_norm")));
    assert_int_equal(apr_stage_rank(apr_text("embedding")), 0);
    assert_int_equal(apr_stage_rank(apr_text("no such stage")), apr_stage_rank(apr_text("")));
    assert_true(apr_stage_rank(apr_text("lm_head")) < apr_stage_rank(apr_text("no such stage")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_taken_apart),
        cmocka_unit_test(stages_stand_in_computation_order),
        cmocka_unit_test(experts_are_routed_before_they_compute),
        cmocka_unit_test(an_alias_shares_the_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
