/* lib/convert/aim.c: a target is met, with no larger an error than one type of that size has, or refused with what can be had. */
#include "plans.h"

#include <math.h>

#include "convert/aim.h"
#include "base/bytes.h"
#include "model/model.h"
#include "model/open.h"
#include "values/dtype.h"

#define MODEL "fixtures/qwen2-bf16.gguf" /* rows of 64 and 96 */
#define MOST_TENSORS 64

struct aim {
    struct apr_model    *m;
    struct apr_input     in[MOST_TENSORS];
    struct apr_aim_tensor tensor[MOST_TENSORS];
    struct apr_aim        t;
};

static void begin(struct aim *a)
{
    const struct apr_kernels *const k = apr_kernels_for(APR_SCALAR);
    *a = (struct aim){ .m = test_opened(MODEL), .t = { .allowed = UINT64_MAX, .alignment = 32 } };
    assert_true(a->m->ntensor <= MOST_TENSORS);
    a->t.tensor = a->tensor;
    a->t.ntensor = a->m->ntensor;
    for (size_t i = 0; i < a->m->ntensor; i++) {
        const struct apr_tensor *const t = &a->m->tensor[i];
        a->in[i] = apr_input_of(k, a->m, t);
        a->tensor[i] = (struct apr_aim_tensor){ .name = t->name, .in = &a->in[i], .kept = t->dtype, .kept_bytes = t->data.n,
                                               .count = t->count, .fixed = t->ndim < 2 };
    }
}

static void choose(struct aim *a, unsigned threads)
{
    struct apr_error e;
    if (apr_aim_choose(&a->t, test_run_with(threads), &e) != APR_OK)
        fail_msg("%g bits, %llu bytes: %s", a->t.bpw, (unsigned long long)a->t.size, e.text);
}

/* Bytes of a GGUF with the chosen types, as a plan lays it out; those of the tensors without padding. */
static uint64_t file_size(const struct aim *a, bool chosen)
{
    struct apr_plan p = { .format = format("gguf"), .out = test_path("sized.gguf") };
    struct apr_error e;
    for (size_t i = 0; i < a->m->meta.n; i++)
        assert_int_equal(apr_draft_put(&p.meta, a->m->meta.entry[i].key, &a->m->meta.entry[i].value, &e), APR_OK);
    for (size_t i = 0; i < a->t.ntensor; i++) {
        struct apr_planned one = { .name = a->tensor[i].name, .dtype = chosen ? a->tensor[i].chosen.dtype : a->tensor[i].kept,
                                   .ndim = a->in[i].ndim, .how = APR_ENCODE, .in = &a->in[i] };
        memcpy(one.dim, a->in[i].dim, sizeof one.dim);
        assert_int_equal(apr_plan_add(&p, &one, &e), APR_OK);
    }
    if (apr_plan_place(&p, &e) != APR_OK)
        fail_msg("%s", e.text);
    const uint64_t size = p.file[0].size;
    apr_plan_end(&p);
    return size;
}

static uint64_t overhead_of(const struct aim *a)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < a->t.ntensor; i++)
        sum += (a->tensor[i].kept_bytes + 31) / 32 * 32;
    return file_size(a, false) - sum;
}

/* The sum of what each tensor says of itself is what is said of all. */
static void expect_sound(const struct aim *a)
{
    uint64_t bytes = 0;
    double error = 0;
    for (size_t i = 0; i < a->t.ntensor; i++) {
        const struct apr_aim_tensor *const x = &a->tensor[i];
        bytes += x->chosen.bytes;
        error += x->chosen.error.weighted;
        assert_true(!x->fixed || (x->chosen.dtype == x->kept && x->less.dtype == NULL && x->more.dtype == NULL));
        assert_true(x->less.dtype == NULL || (x->less.bytes < x->chosen.bytes && x->less.error.weighted > x->chosen.error.weighted));
        assert_true(x->more.dtype == NULL || (x->more.bytes > x->chosen.bytes && x->more.error.weighted < x->chosen.error.weighted));
    }
    assert_int_equal(a->t.bytes, bytes);
    assert_true(fabs(a->t.error - error) <= 1e-12 * error && a->t.bound <= a->t.error);
}

static void bits_per_weight_are_met_within_a_percent_and_not_exceeded(void **state)
{
    (void)state;
    static const double bpw[] = { 3.5, 4.5, 5, 5.5, 6.25, 7.1, 8.5, 10, 12 };
    double last = INFINITY;
    for (size_t i = 0; i < APR_LENGTH(bpw); i++) {
        static struct aim a;
        begin(&a);
        a.t.bpw = bpw[i];
        choose(&a, 2);
        expect_sound(&a);
        if (a.t.reached > bpw[i] || a.t.reached < 0.99 * bpw[i] || a.t.error >= last)
            fail_msg("%g bits: %g, error %g (of fewer bits %g)", bpw[i], a.t.reached, a.t.error, last);
        last = a.t.error;
        apr_close(a.m);
    }
}

static void a_file_is_no_larger_than_asked_for(void **state)
{
    (void)state;
    static const unsigned percent[] = { 27, 30, 40, 55, 99, 100, 150 };
    for (size_t i = 0; i < APR_LENGTH(percent); i++) {
        static struct aim a;
        begin(&a);
        a.t.overhead = overhead_of(&a);
        a.t.size = file_size(&a, false) * percent[i] / 100;
        choose(&a, 2);
        expect_sound(&a);
        assert_int_equal((uint64_t)a.t.reached, file_size(&a, true));
        if (file_size(&a, true) > a.t.size || (percent[i] <= 100 && (double)file_size(&a, true) < 0.97 * (double)a.t.size))
            fail_msg("%u %%: %llu of %llu bytes", percent[i], (unsigned long long)file_size(&a, true), (unsigned long long)a.t.size);
        assert_true(percent[i] < 100 || a.t.error == 0);
        apr_close(a.m);
    }
}

/* At the size that all matrices have in one type, with importance and without. */
static void no_single_type_of_that_size_is_better(void **state)
{
    (void)state;
    static const enum apr_dtype_id one[] = { APR_IQ4_NL, APR_Q4_1, APR_Q5_0, APR_Q5_1, APR_Q8_0 };
    static float importance[MOST_TENSORS][96];
    for (size_t i = 0; i < APR_LENGTH(one) * 2; i++) {
        static struct aim a;
        const struct apr_dtype *const d = &apr_dtypes[one[i / 2]];
        struct apr_trial trial[MOST_TENSORS];
        struct apr_tried tried[MOST_TENSORS];
        struct apr_error e;
        uint64_t bytes = 0, elements = 0;
        double single = 0;
        begin(&a);
        for (size_t j = 0; j < a.t.ntensor; j++) {
            struct apr_aim_tensor *const x = &a.tensor[j];
            for (size_t c = 0; c < 96; c++)
                importance[j][c] = (float)(1 + test_random(1000)) / 100;
            x->importance = i % 2 == 1 && !x->fixed ? importance[j] : NULL;
            trial[j] = (struct apr_trial){ .name = x->name, .in = x->in, .importance = x->importance, .dtypes = !x->fixed };
            bytes += x->fixed ? x->kept_bytes : x->count / d->block * d->bytes;
            elements += x->count;
        }
        const struct apr_trials trials = { .trial = trial, .ntrial = a.t.ntensor, .dtype = &d, .ndtype = 1, .tried = tried };
        assert_int_equal(apr_trials_run(&trials, test_run_with(1), &e), APR_OK);
        for (size_t j = 0; j < a.t.ntensor; j++)
            single += a.tensor[j].fixed ? 0 : tried[j].weighted;
        a.t.bpw = 8 * (double)bytes / (double)elements * (1 + 1e-12);
        choose(&a, 1);
        if (a.t.error > single)
            fail_msg("%s: error %g, alone %g", d->name, a.t.error, single);
        apr_close(a.m);
    }
}

static void what_is_not_allowed_or_fixed_is_not_chosen(void **state)
{
    (void)state;
    static struct aim a;
    begin(&a);
    a.t.bpw = 7;
    a.t.allowed = 1ull << APR_Q8_0 | 1ull << APR_Q4_1;
    a.tensor[0].fixed = true;
    choose(&a, 1);
    for (size_t i = 0; i < a.t.ntensor; i++) {
        const struct apr_dtype *const d = a.tensor[i].chosen.dtype;
        assert_true(d == a.tensor[i].kept || (i > 0 && (d == &apr_dtypes[APR_Q8_0] || d == &apr_dtypes[APR_Q4_1])));
    }
    apr_close(a.m);
}

static void what_nothing_reaches_is_refused_with_what_can_be_had(void **state)
{
    (void)state;
    static const struct { double bpw; uint64_t size; const char *words; } row[] = {
        { 0.5, 0, "0.5 bits per weight: the least is " },
        { 40, 0, "the most is " },
        { 0, 1000, "at most 1000 bytes: the smallest has " },
    };
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        static struct aim a;
        struct apr_error e;
        begin(&a);
        a.t.bpw = row[i].bpw;
        a.t.size = row[i].size;
        assert_int_equal(apr_aim_choose(&a.t, test_run_with(1), &e), APR_EARG);
        if (strstr(e.text, row[i].words) == NULL)
            fail_msg("\"%s\" is not in: %s", row[i].words, e.text);
        apr_close(a.m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_per_weight_are_met_within_a_percent_and_not_exceeded),
        cmocka_unit_test(a_file_is_no_larger_than_asked_for),
        cmocka_unit_test(no_single_type_of_that_size_is_better),
        cmocka_unit_test(what_is_not_allowed_or_fixed_is_not_chosen),
        cmocka_unit_test(what_nothing_reaches_is_refused_with_what_can_be_had),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
