/* lib/forward/judge.h, perplexity.h: figures are numpy's, of fixtures/judged.py. */
#include "support.h"

#include <math.h>
#include <stdio.h>

#include "base/bytes.h"
#include "family/bind.h"
#include "forward/perplexity.h"
#include "model/model.h"
#include "model/open.h"

#define BF16 "fixtures/qwen2-bf16.gguf"
#define Q4_0 "fixtures/qwen2-q4_0.gguf"
#define WINDOW 16

static struct test_bytes figures; /* fixtures/judged.txt, NUL-terminated */

static void expect_near(const char *what, double got, double wanted, double relative, double absolute)
{
    if (!(fabs(got - wanted) <= relative * fabs(wanted) + absolute))
        fail_msg("%s is %.17g, numpy has %.17g", what, got, wanted);
}

static double figure(const char *name)
{
    const char *at = (const char *)figures.at;
    for (const size_t n = strlen(name); at != NULL; at = strchr(at, '\n'), at += at != NULL)
        if (strncmp(at, name, n) == 0 && at[n] == ' ')
            return strtod(at + n, NULL);
    fail_msg("there is no figure %s", name);
    return 0;
}

/* The n numbers behind *at, which moves on. */
static void numbers(const char **at, double *x, size_t n)
{
    char *end;
    for (size_t i = 0; i < n; i++, *at = end) {
        x[i] = strtod(*at, &end);
        assert_ptr_not_equal(end, *at);
    }
}

static const char *line_of(const char *from, const char *name)
{
    const char *const at = strstr(from, name);
    return at == NULL ? NULL : at + strlen(name);
}

/* ---- rows and what they add up to ----------------------------------------------------------------------------------- */

static void probabilities_and_divergence_of_rows_are_numpys(void **state)
{
    (void)state;
    size_t nrow = 0;
    for (const char *at = (const char *)figures.at; (at = line_of(at, "\nrow ")) != NULL; nrow++, at--) {
        double head[5], logit[200];
        float x[200];
        struct apr_row p, q;
        uint64_t odd;
        numbers(&at, head, 5);
        const size_t n = (size_t)head[0], token = (size_t)head[1];
        numbers(&at, logit, 2 * n);
        for (size_t i = 0; i < 2 * n; i++)
            x[i] = (float)logit[i];
        assert_true(apr_row_of(x, n, &p, &odd) && apr_row_of(x + n, n, &q, &odd));
        assert_int_equal(p.best, (uint64_t)head[2]);
        expect_near("log p", apr_row_log(&p, token), head[3], 1e-14, 1e-15);
        expect_near("a divergence", apr_row_divergence(&p, &q, n), head[4], 1e-12, 1e-14);
        assert_true(apr_row_divergence(&p, &p, n) == 0);
        assert_true(apr_row_divergence(&q, &p, n) >= 0);
    }
    assert_int_equal(nrow, 6);
}

static void a_logit_that_is_no_finite_number_is_found(void **state)
{
    (void)state;
    static const float odd[] = { NAN, INFINITY, -INFINITY };
    for (size_t i = 0; i < APR_LENGTH(odd); i++) {
        float x[20] = { 1, -2, 3 };
        struct apr_row row;
        uint64_t at = 0;
        x[17] = x[19] = odd[i];
        assert_false(apr_row_of(x, 20, &row, &at));
        assert_int_equal(at, 17);
        assert_true(apr_row_of(x, 17, &row, &at));
        assert_int_equal(row.best, 2);
    }
}

static void of_equal_logits_the_first_is_the_best_and_all_are_as_likely(void **state)
{
    (void)state;
    float x[64];
    struct apr_row row;
    uint64_t odd;
    for (size_t i = 0; i < 64; i++)
        x[i] = -1e30f;
    assert_true(apr_row_of(x, 64, &row, &odd));
    assert_int_equal(row.best, 0);
    expect_near("log p", apr_row_log(&row, 63), -log(64), 1e-15, 0);
}

static void percentiles_lie_between_values(void **state)
{
    (void)state;
    double x[37];
    const char *at = line_of((const char *)figures.at, "\nnumbers ");
    numbers(&at, x, 37);
    size_t n = 0;
    for (; (at = line_of(at, "percentile ")) != NULL; n++) {
        double v[2];
        numbers(&at, v, 2);
        expect_near("a percentile", apr_percentile(x, 37, v[0]), v[1], 1e-14, 0);
    }
    assert_int_equal(n, 6);
    assert_true(apr_percentile(x, 1, 0.999) == x[0]);
}

static void one_token_has_no_error(void **state)
{
    (void)state;
    double x = 0.25, delta = -0.5;
    const struct apr_perplexity p = apr_perplexity_of(&x, 1);
    const struct apr_divergence d = apr_divergence_of(&x, &delta, 1, 1);
    assert_true(p.count == 1 && p.mean == 0.25 && isnan(p.error));
    expect_near("the perplexity", p.value, exp(0.25), 1e-15, 0);
    assert_true(d.mean == 0.25 && d.median == 0.25 && d.p99_9 == 0.25 && d.max == 0.25 && d.same_top == 1 && isnan(d.mean_error));
    assert_true(d.mean_delta_p == -0.5 && d.rms_delta_p == 0.5);
}

/* ---- a model -------------------------------------------------------------------------------------------------------- */

struct judge {
    struct apr_families *families;
    struct apr_model    *m;
    struct apr_binding  *b;
    struct apr_net      *net;
};

static struct judge opened(const char *path)
{
    struct judge j = { 0 };
    struct apr_error e = { 0 };
    const struct apr_family *f;
    if (apr_families_new(&j.families, &e) != APR_OK || apr_open(&j.m, path, test_run_with(1), &e) != APR_OK ||
        apr_family_said(j.families, j.m, &f, &e) != APR_OK || apr_bind(&j.b, f, j.m, NULL, &e) != APR_OK ||
        apr_net_new(&j.net, apr_kernels_for(APR_SCALAR), j.m, j.b, &e) != APR_OK)
        fail_msg("%s: %s", path, e.text);
    return j;
}

static void closed(struct judge *j)
{
    apr_net_free(j->net);
    apr_binding_free(j->b);
    apr_close(j->m);
    apr_families_free(j->families);
}

static size_t read_ids(uint32_t *id, size_t room)
{
    struct test_bytes b = test_load("fixtures/judged.ids");
    size_t n = 0;
    test_zeros(&b, 1);
    for (char *at = (char *)b.at, *end; n < room; n++, at = end) {
        id[n] = (uint32_t)strtoul(at, &end, 10);
        if (end == at)
            break;
    }
    test_free(&b);
    return n;
}

static void expect_perplexity(const char *of, const struct apr_perplexity *p)
{
    char name[32];
    const struct { const char *key; double got; } row[] = {
        { "count", (double)p->count }, { "mean", p->mean }, { "value", p->value }, { "error", p->error } };
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        snprintf(name, sizeof name, "%s.%s", of, row[i].key);
        expect_near(name, row[i].got, figure(name), 1e-6, 0);
    }
}

/* Activations are floats here, and doubles there. */
static void expect_divergence(const struct apr_divergence *d)
{
    const struct { const char *key; double got; } row[] = {
        { "kld.mean", d->mean }, { "kld.mean_error", d->mean_error }, { "kld.median", d->median }, { "kld.max", d->max },
        { "kld.p90", d->p90 }, { "kld.p95", d->p95 }, { "kld.p99", d->p99 }, { "kld.p99_9", d->p99_9 }, { "kld.same_top", d->same_top },
        { "kld.mean_delta_p", d->mean_delta_p }, { "kld.rms_delta_p", d->rms_delta_p } };
    for (size_t i = 0; i < APR_LENGTH(row); i++)
        expect_near(row[i].key, row[i].got, figure(row[i].key), 1e-4, 1e-9);
}

static enum apr_code run(const struct judge *own, const struct judge *base, unsigned threads, struct apr_importance *im,
                         struct apr_judgement *found, struct apr_error *e)
{
    static const uint32_t bos = 0;
    static uint32_t id[200];
    struct apr_team *team;
    const struct apr_windows w = { .id = id, .bos = &bos, .n = read_ids(id, 200), .length = WINDOW };
    APR_TRY(apr_windows_check(&w, own->net, e));
    APR_TRY(apr_team_new(&team, threads, e));
    const enum apr_code code = apr_judge(&(struct apr_judging){ own->net, base == NULL ? NULL : base->net, team, w, im, NULL }, found, e);
    apr_team_free(team);
    return code;
}

static struct apr_judgement judged(const struct judge *own, const struct judge *base, unsigned threads, struct apr_importance *im)
{
    struct apr_error e;
    struct apr_judgement found = { 0 };
    if (run(own, base, threads, im, &found, &e) != APR_OK)
        fail_msg("%s", e.text);
    return found;
}

static void refused_run(const struct judge *own, const struct judge *base, const char *words)
{
    struct apr_error e = { 0 };
    struct apr_judgement found;
    assert_int_equal(run(own, base, 2, NULL, &found, &e), APR_EARG);
    if (strstr(e.text, words) == NULL)
        fail_msg("expected \"%s\": %s", words, e.text);
}

static void a_model_and_how_far_another_is_from_it_are_judged_as_numpy_judges_them(void **state)
{
    (void)state;
    struct judge base = opened(BF16), own = opened(Q4_0);
    const struct apr_judgement found = judged(&own, &base, 1, NULL);
    expect_perplexity("bf16", &found.base);
    expect_perplexity("q4_0", &found.own);
    expect_divergence(&found.from_base);
    closed(&own);
    closed(&base);
}

static void a_model_is_not_far_from_itself(void **state)
{
    (void)state;
    struct judge own = opened(BF16), base = opened("fixtures/qwen2");
    const struct apr_judgement found = judged(&own, &base, 1, NULL);
    assert_true(found.from_base.max == 0 && found.from_base.same_top == 1 && found.from_base.rms_delta_p == 0);
    closed(&own);
    closed(&base);
}

static void importance_of_a_run_is_numpys(void **state)
{
    (void)state;
    struct judge own = opened(BF16);
    struct apr_error e;
    struct apr_importance *im;
    struct apr_model *got, *wanted;
    assert_int_equal(apr_importance_new(&im, own.net, &e), APR_OK);
    judged(&own, NULL, 1, im);
    assert_int_equal(apr_importance_write(im, test_path("i.gguf"), "fixtures/judged.ids", 9, WINDOW, test_run_with(1), &e), APR_OK);
    apr_importance_free(im);
    assert_int_equal(apr_open(&got, test_path("i.gguf"), test_run_with(1), &e), APR_OK);
    assert_int_equal(apr_open(&wanted, "fixtures/judged.imatrix.gguf", test_run_with(1), &e), APR_OK);
    assert_int_equal(got->ntensor, wanted->ntensor);
    assert_int_equal(got->meta.n, wanted->meta.n);
    for (size_t i = 0; i < got->ntensor; i++) {
        const struct apr_tensor *const a = &got->tensor[i], *const b = &wanted->tensor[i];
        assert_true(apr_bytes_equal(a->name, b->name) && a->count == b->count);
        for (uint64_t k = 0; k < a->count; k++) {
            float x, y;
            memcpy(&x, a->data.at + 4 * k, 4);
            memcpy(&y, b->data.at + 4 * k, 4);
            expect_near((const char *)a->name.at, (double)x, (double)y, 2e-6, 0);
        }
    }
    apr_close(got);
    apr_close(wanted);
    closed(&own);
}

static void threads_change_no_bit(void **state)
{
    (void)state;
    struct judge base = opened(BF16), own = opened(Q4_0);
    const struct apr_judgement one = judged(&own, &base, 1, NULL), three = judged(&own, &base, 3, NULL);
    assert_memory_equal(&one, &three, sizeof one);
    closed(&own);
    closed(&base);
}

/* Row 5 of the head begins with a NaN; in the other the last token's. */
static void a_logit_that_is_no_number_is_named_with_its_place(void **state)
{
    (void)state;
    static const struct { const char *name; uint64_t row; } bad[] = { { "own.gguf", 5 }, { "base.gguf", 95 } };
    struct judge whole = opened(BF16), broken[2];
    const struct apr_tensor *const head = apr_model_find(whole.m, apr_text("output.weight"));
    for (size_t i = 0; i < 2; i++) {
        struct test_bytes b = test_load(BF16);
        b.at[apr_tensor_offset(whole.m, head) + bad[i].row * 128] = 0xC0;
        b.at[apr_tensor_offset(whole.m, head) + bad[i].row * 128 + 1] = 0x7F;
        broken[i] = opened(test_file(bad[i].name, b.at, b.n));
        test_free(&b);
    }
    refused_run(&broken[0], NULL, "in window 1 of 9, at position 8, the logit of token 5 is NaN");
    refused_run(&whole, &broken[1], "in window 1 of 9, at position 8, the logit of token 95 by the other model is NaN");
    closed(&broken[0]);
    closed(&broken[1]);
    closed(&whole);
}

static void what_is_no_window_is_refused_with_the_numbers(void **state)
{
    (void)state;
    static uint32_t id[300];
    static const uint32_t large = 96;
    struct judge own = opened(BF16);
    struct apr_error e;
    const struct { struct apr_windows w; const char *words; } row[] = {
        { { id, NULL, 300, 1 }, "a window of 1 foretells no token: it takes 3 at least" },
        { { id, NULL, 300, 0 }, "a window of 0" },
        { { id, NULL, 300, 129 }, "a window of 129 tokens is longer than the model's context of 128" },
        { { id, NULL, 0, 128 }, "0 tokens are too few: two windows of 128 take 256, and two of the shortest 6" },
        { { id, NULL, 3, 3 }, "3 tokens are too few" },
        { { id, NULL, 255, 128 }, "255 tokens are too few for two windows of 128, which take 256; they would do for --window 127" },
        { { id, &large, 299, 16 }, "BOS is 96, and the model has 96 tokens" },
        { { id, NULL, 299, 16 }, NULL },
        { { id, NULL, 300, 16 }, "token 299 of the text is 96, and the model has 96" },
    };
    id[299] = 96;
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        e.text[0] = 0;
        assert_int_equal(apr_windows_check(&row[i].w, own.net, &e), row[i].words == NULL ? APR_OK : APR_EARG);
        if (row[i].words != NULL && strstr(e.text, row[i].words) == NULL)
            fail_msg("expected \"%s\": %s", row[i].words, e.text);
    }
    assert_int_equal(apr_windows_length(own.net), 128);
    closed(&own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probabilities_and_divergence_of_rows_are_numpys),
        cmocka_unit_test(a_logit_that_is_no_finite_number_is_found),
        cmocka_unit_test(of_equal_logits_the_first_is_the_best_and_all_are_as_likely),
        cmocka_unit_test(percentiles_lie_between_values),
        cmocka_unit_test(one_token_has_no_error),
        cmocka_unit_test(a_model_and_how_far_another_is_from_it_are_judged_as_numpy_judges_them),
        cmocka_unit_test(a_model_is_not_far_from_itself),
        cmocka_unit_test(importance_of_a_run_is_numpys),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(a_logit_that_is_no_number_is_named_with_its_place),
        cmocka_unit_test(what_is_no_window_is_refused_with_the_numbers),
    };
    figures = test_load("fixtures/judged.txt");
    test_zeros(&figures, 1);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_free(&figures);
    return failed;
}
