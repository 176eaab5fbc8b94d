/* lib/flow/threshold.c: takes what numpy's stable argsort takes, of one tensor or many, on any threads. */
#include "support.h"

#include <assert.h>
#include <math.h>

#include "flow/threshold.h"
#include "values/chunk.h"

/* ---- scores --------------------------------------------------------------------------------------------------------- */

/* Of 24 bits; 16 values; integers of 8 bits, whose lower halves are 0; as the first, but higher where a sample is taken. */
enum { FINE, FEW, WHOLE, MISLEADING };

static float drawn(unsigned kind, uint64_t i)
{
    uint32_t h = (uint32_t)i * 2654435761u + 12345u;
    h = (h ^ h >> 15) * 2246822519u;
    h ^= h >> 13;
    const float fine = (float)((double)(h >> 8) / 16777216 - 0.5);
    if (kind == MISLEADING)
        return fine + (i % 65536 < 256 ? 2.0f : 0);
    return kind == FINE ? fine : kind == FEW ? (float)(h >> 28) / 8 - 1 : (float)(h >> 24) - 128;
}

/* Scores of tensors that lie one behind the other: drawn ones, or those at `given`. */
struct scores {
    unsigned     kind;
    const float *given;
    uint64_t     begin[8];
};

static enum apr_code score(void *ctx, size_t tensor, uint64_t first, size_t n, void *scratch, float *out, struct apr_error *e)
{
    const struct scores *const s = ctx;
    (void)scratch;
    (void)e;
    assert(n <= APR_STRETCH);
    for (size_t i = 0; i < n; i++)
        out[i] = s->given != NULL ? s->given[s->begin[tensor] + first + i] : drawn(s->kind, s->begin[tensor] + first + i);
    return APR_OK;
}

/* What is taken of all: how many, the first and last of them, their sum. */
struct taken {
    uint64_t n, first, last, sum;
};

static struct taken taken_by(const struct apr_cutoff *c, const struct scores *s, const struct apr_scored *tensor, size_t ntensor)
{
    struct taken t = { 0, UINT64_MAX, 0, 0 };
    for (size_t k = 0; k < ntensor; k++)
        for (uint64_t i = 0; i < tensor[k].count; i++) {
            const uint64_t at = s->begin[k] + i;
            if (!apr_cutoff_takes(&c[k * APR_MOST_RANKS], s->given != NULL ? s->given[at] : drawn(s->kind, at), i))
                continue;
            t.n++;
            t.first = apr_min(t.first, at);
            t.last = at;
            t.sum += at;
        }
    return t;
}

/* Lays `count` scores out as tensors that end at the places given. */
static size_t lay_out(struct scores *s, struct apr_scored *tensor, const uint64_t *end)
{
    size_t n = 0;
    for (uint64_t begin = 0; end[n] != 0; begin = end[n++]) {
        s->begin[n] = begin;
        tensor[n] = (struct apr_scored){ { (const unsigned char *)"t", 1 }, end[n] - begin };
    }
    return n;
}

/* ---- tests ---------------------------------------------------------------------------------------------------------- */

#define N 200003u

/* np.flatnonzero of what np.argsort(x, kind="stable")[:k] takes, of x or of -x: first, last and sum. */
static const struct { unsigned kind; uint64_t k; bool highest; uint64_t first, last, sum; } numpy[] = {
        { 0, 1, false, 157710, 157710, 157710 },
        { 0, 1, true, 10632, 10632, 10632 },
        { 0, 2, false, 97563, 157710, 255273 },
        { 0, 2, true, 10632, 175664, 186296 },
        { 0, 1000, false, 285, 199289, 102988617 },
        { 0, 1000, true, 92, 199677, 101895010 },
        { 0, 66666, false, 0, 200002, 6681825101 },
        { 0, 66666, true, 1, 199991, 6667982754 },
        { 0, 100001, false, 0, 200002, 10010338280 },
        { 0, 100001, true, 1, 199999, 9990006409 },
        { 0, 200002, false, 0, 200002, 20000489371 },
        { 0, 200002, true, 0, 200002, 20000342293 },
        { 1, 1, false, 0, 0, 0 },
        { 1, 1, true, 1, 1, 1 },
        { 1, 2, false, 0, 20, 20 },
        { 1, 2, true, 1, 8, 9 },
        { 1, 1000, false, 0, 15911, 7897088 },
        { 1, 1000, true, 1, 15645, 7659686 },
        { 1, 66666, false, 0, 200002, 6390100414 },
        { 1, 66666, true, 1, 199991, 6391416508 },
        { 1, 100001, false, 0, 200002, 9986640304 },
        { 1, 100001, true, 1, 199999, 9966444440 },
        { 1, 200002, false, 0, 200002, 20000300037 },
        { 1, 200002, true, 0, 200002, 20000300062 },
        { 2, 1, false, 285, 285, 285 },
        { 2, 1, true, 92, 92, 92 },
        { 2, 2, false, 285, 408, 693 },
        { 2, 2, true, 92, 174, 266 },
        { 2, 1000, false, 241, 199289, 85597339 },
        { 2, 1000, true, 92, 199677, 84413414 },
        { 2, 66666, false, 0, 200002, 6672905097 },
        { 2, 66666, true, 1, 199991, 6659413139 },
        { 2, 100001, false, 0, 200002, 9993830315 },
        { 2, 100001, true, 1, 199999, 9973163698 },
        { 2, 200002, false, 0, 200002, 20000300326 },
        { 2, 200002, true, 0, 200002, 20000300714 },
};

static void what_numpy_takes_is_taken_of_one_tensor_and_of_many(void **state)
{
    (void)state;
    static const uint64_t ends[][7] = { { N }, { 1, 65536, 65537, 65537, 150000, N }, { 131072, N } };
    for (size_t i = 0; i < APR_LENGTH(numpy) * APR_LENGTH(ends) * 2; i++) {
        const size_t row = i / 2 % APR_LENGTH(numpy), how = i / 2 / APR_LENGTH(numpy);
        struct scores s = { .kind = numpy[row].kind };
        struct apr_scored tensor[8];
        struct apr_cutoff cutoff[8 * APR_MOST_RANKS];
        const size_t n = lay_out(&s, tensor, ends[how]);
        struct apr_contest contest = { .n = n, .rank = { { numpy[row].k, numpy[row].highest } }, .nrank = 1 };
        const struct apr_thresholds t = { .tensor = tensor, .ntensor = n, .contest = &contest, .ncontest = 1, .ctx = &s, .score = score,
                                          .cutoff = cutoff };
        struct apr_error e;
        assert_int_equal(apr_thresholds_find(&t, test_run_with(i % 2 == 0 ? 1 : 5), &e), APR_OK);
        const struct taken got = taken_by(cutoff, &s, tensor, n);
        if (got.n != numpy[row].k || got.first != numpy[row].first || got.last != numpy[row].last || got.sum != numpy[row].sum)
            fail_msg("kind %u, k %llu, layout %zu: %llu taken from %llu to %llu", numpy[row].kind, (unsigned long long)numpy[row].k, how,
                     (unsigned long long)got.n, (unsigned long long)got.first, (unsigned long long)got.last);
        assert_int_equal(contest.count, N);
    }
}

/* Of so many scores a sample is looked at first. In pairs: k from below, k from above. */
#define MANY 1300003u
static const struct { unsigned kind; uint64_t k; bool highest; uint64_t first, last, sum; } many[] = {
    { 0, 1, false, 157710, 157710, 157710 },
    { 0, 1, true, 1135170, 1135170, 1135170 },
    { 0, 70000, false, 0, 1299983, 45589756178 },
    { 0, 70000, true, 1, 1299996, 45304392670 },
    { 0, 650001, false, 0, 1299998, 422821388086 },
    { 0, 650001, true, 1, 1300002, 422181017255 },
    { 0, 1300000, false, 0, 1300002, 845000569325 },
    { 0, 1300000, true, 0, 1300002, 845002103339 },
    { 1, 1, false, 0, 0, 0 },
    { 1, 1, true, 1, 1, 1 },
    { 1, 70000, false, 0, 1122082, 39356944743 },
    { 1, 70000, true, 1, 1117884, 38971254041 },
    { 1, 650001, false, 0, 1299992, 422668489286 },
    { 1, 650001, true, 1, 1300002, 422032754424 },
    { 1, 1300000, false, 0, 1300002, 844999350055 },
    { 1, 1300000, true, 0, 1300002, 844999350093 },
    { 2, 1, false, 285, 285, 285 },
    { 2, 1, true, 92, 92, 92 },
    { 2, 70000, false, 0, 1299983, 44985139705 },
    { 2, 70000, true, 1, 1299996, 44687455995 },
    { 2, 650001, false, 0, 1299998, 422675200558 },
    { 2, 650001, true, 1, 1300002, 422039049088 },
    { 2, 1300000, false, 0, 1300002, 844999352887 },
    { 2, 1300000, true, 0, 1300002, 844999352528 },
    { 3, 1, false, 157710, 157710, 157710 },
    { 3, 1, true, 393297, 393297, 393297 },
    { 3, 70000, false, 264, 1299983, 45613838270 },
    { 3, 70000, true, 0, 1299996, 45210181806 },
    { 3, 650001, false, 257, 1299998, 422938200442 },
    { 3, 650001, true, 0, 1300002, 422063955752 },
    { 3, 1300000, false, 0, 1300002, 845002332221 },
    { 3, 1300000, true, 0, 1300002, 845002103339 },
};

static void large_contests_are_decided_by_way_of_a_sample(void **state)
{
    (void)state;
    static const uint64_t ends[][5] = { { MANY }, { 1, 65537, 1000000, MANY } };
    for (size_t i = 0; i < APR_LENGTH(many) * APR_LENGTH(ends); i++) {
        const size_t row = i / 2 % (APR_LENGTH(many) / 2) * 2, how = i / APR_LENGTH(many);
        struct scores s = { .kind = many[row].kind };
        struct apr_scored tensor[8];
        struct apr_cutoff cutoff[8 * APR_MOST_RANKS];
        const size_t n = lay_out(&s, tensor, ends[how]);
        struct apr_contest contest = { .n = n, .rank = { { many[row].k, false }, { many[row].k, true } }, .nrank = 2 };
        const struct apr_thresholds t = { .tensor = tensor, .ntensor = n, .contest = &contest, .ncontest = 1, .ctx = &s, .score = score,
                                          .cutoff = cutoff };
        struct apr_run run = *test_run_with(i % 2 == 0 ? 1 : 5);
        struct apr_error e;
        run.kernels = i % 2 == 0 ? apr_kernels_for(APR_SCALAR) : run.kernels;
        assert_int_equal(apr_thresholds_find(&t, &run, &e), APR_OK);
        for (unsigned r = 0; r < 2; r++) {
            const struct taken got = taken_by(cutoff + r, &s, tensor, n);
            if (got.n != many[row + r].k || got.first != many[row + r].first || got.last != many[row + r].last ||
                got.sum != many[row + r].sum)
                fail_msg("kind %u, k %llu, layout %zu, rank %u: %llu taken from %llu to %llu", many[row].kind,
                         (unsigned long long)many[row].k, how, r, (unsigned long long)got.n, (unsigned long long)got.first,
                         (unsigned long long)got.last);
        }
    }
}

static void a_row_in_hand_is_cut_as_numpy_does(void **state)
{
    (void)state;
    float *const x = malloc(N * sizeof *x);
    assert_non_null(x);
    for (size_t row = 0; row < APR_LENGTH(numpy); row++) {
        for (size_t i = 0; i < N; i++)
            x[i] = drawn(numpy[row].kind, i);
        const struct scores s = { .given = x };
        const struct apr_scored tensor = { .count = N };
        const struct apr_cutoff c[APR_MOST_RANKS] = { apr_cutoff_of(x, N, numpy[row].k, numpy[row].highest) };
        const struct taken got = taken_by(c, &s, &tensor, 1);
        assert_int_equal(got.n, numpy[row].k);
        assert_int_equal(got.first, numpy[row].first);
        assert_int_equal(got.last, numpy[row].last);
        assert_int_equal(got.sum, numpy[row].sum);
    }
    free(x);
}

/* Of few scores, both ways: which are taken, as bits. */
static void extremes_are_ranked_and_equals_go_by_index(void **state)
{
    (void)state;
    static const struct { float x[6]; size_t n; uint64_t k; bool highest; unsigned taken; } row[] = {
        { { 1, 1, 1, 1, 1, 1 }, 6, 2, false, 0x03 },
        { { 1, 1, 1, 1, 1, 1 }, 6, 2, true, 0x03 },
        { { 1, 1, 1, 1, 1, 1 }, 6, 0, false, 0 },
        { { 1, 1, 1, 1, 1, 1 }, 6, 6, true, 0x3f },
        { { 1, 1, 1, 1, 1, 1 }, 6, UINT64_MAX, false, 0x3f },
        { { 0.0f, -0.0f, 0.0f, -0.0f, 1, -1 }, 6, 3, false, 0x23 },
        { { -0.0f, 0.0f, -0.0f, 0.0f, 1, -1 }, 6, 2, true, 0x11 },
        { { INFINITY, -INFINITY, 3e38f, -3e38f, 1e-45f, 0 }, 6, 2, false, 0x0a },
        { { INFINITY, -INFINITY, 3e38f, -3e38f, 1e-45f, 0 }, 6, 3, true, 0x15 },
        { { 1e-45f, 0, 2e-45f, -1e-45f, 0, 0 }, 6, 2, false, 0x0a },
        { { 7 }, 1, 1, false, 1 },
        { { 7 }, 1, 0, true, 0 },
        { { 7 }, 0, 3, false, 0 },
    };
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        struct scores s = { .given = row[i].x };
        const struct apr_scored tensor = { .count = row[i].n };
        struct apr_cutoff found[APR_MOST_RANKS] = { { 0 } };
        struct apr_contest contest = { .n = 1, .rank = { { row[i].k, row[i].highest } }, .nrank = 1 };
        const struct apr_thresholds t = { .tensor = &tensor, .ntensor = 1, .contest = &contest, .ncontest = 1, .ctx = &s, .score = score,
                                          .cutoff = found };
        struct apr_error e;
        assert_int_equal(apr_thresholds_find(&t, test_run_with(1), &e), APR_OK);
        const struct apr_cutoff hand = apr_cutoff_of(row[i].x, row[i].n, row[i].k, row[i].highest);
        bool marked[6] = { false };
        apr_cutoff_mark(found, row[i].x, 0, row[i].n, marked);
        for (size_t k = 0; k < row[i].n; k++)
            if (apr_cutoff_takes(found, row[i].x[k], k) != (row[i].taken >> k & 1) || marked[k] != (row[i].taken >> k & 1) ||
                apr_cutoff_takes(&hand, row[i].x[k], k) != (row[i].taken >> k & 1))
                fail_msg("row %zu, element %zu", i, k);
    }
}

static void the_ranks_of_many_contests_do_not_meet(void **state)
{
    (void)state;
    struct scores s = { .kind = FEW };
    struct apr_scored tensor[8];
    struct apr_cutoff cutoff[8 * APR_MOST_RANKS];
    const size_t n = lay_out(&s, tensor, (const uint64_t[]){ 70000, 70001, 140000, N, 0 });
    struct apr_contest contest[] = {
        { .first = 0, .n = 1, .rank = { { 1000, true }, { 35000, false } }, .nrank = 2 },
        { .first = 1, .n = 1, .rank = { { 1, false }, { 0, false } }, .nrank = 2 },
        { .first = 2, .n = 2, .rank = { { 130002, false }, { 40000, true } }, .nrank = 2 },
    };
    const struct apr_thresholds t = { .tensor = tensor, .ntensor = n, .contest = contest, .ncontest = 3, .ctx = &s, .score = score,
                                      .cutoff = cutoff };
    struct apr_error e;
    assert_int_equal(apr_thresholds_find(&t, test_run_with(3), &e), APR_OK);
    for (size_t c = 0; c < 3; c++)
        for (unsigned r = 0; r < APR_MOST_RANKS; r++) {
            const struct apr_scored *const of = &tensor[contest[c].first];
            struct scores there = s;
            memmove(there.begin, s.begin + contest[c].first, 2 * sizeof *there.begin);
            assert_int_equal(taken_by(cutoff + contest[c].first * APR_MOST_RANKS + r, &there, of, contest[c].n).n,
                             apr_min(contest[c].rank[r].k, contest[c].count));
        }
}

/* Half of those that are not 0. */
static void choose_half(void *ctx, size_t i, struct apr_contest *c)
{
    (void)ctx;
    (void)i;
    c->rank[0] = (struct apr_rank){ (c->count - c->zeros) / 2, true };
}

static void a_rank_may_be_chosen_when_zeros_are_counted(void **state)
{
    (void)state;
    static float x[100000];
    struct scores s = { .given = x };
    const struct apr_scored tensor = { .count = APR_LENGTH(x) };
    struct apr_cutoff cutoff[APR_MOST_RANKS];
    struct apr_contest contest = { .n = 1, .nrank = 1 };
    struct apr_error e;
    for (size_t i = 0; i < APR_LENGTH(x); i++)
        x[i] = i % 4 == 0 ? i % 8 == 0 ? 0.0f : -0.0f : (float)i;
    const struct apr_thresholds t = { .tensor = &tensor, .ntensor = 1, .contest = &contest, .ncontest = 1, .ctx = &s, .score = score,
                                      .choose = choose_half, .cutoff = cutoff };
    assert_int_equal(apr_thresholds_find(&t, test_run_with(2), &e), APR_OK);
    assert_int_equal(contest.zeros, 25000);
    assert_int_equal(taken_by(cutoff, &s, &tensor, 1).n, 37500);
    assert_int_equal(taken_by(cutoff, &s, &tensor, 1).first, 50001);
}

static void what_is_no_number_is_refused_by_name_and_what_needs_no_rank_is_not_read(void **state)
{
    (void)state;
    static float x[100000];
    struct scores s = { .given = x };
    const struct apr_scored tensor = { { (const unsigned char *)"blk.0", 5 }, APR_LENGTH(x) };
    struct apr_cutoff cutoff[APR_MOST_RANKS];
    struct apr_contest contest = { .n = 1, .rank = { { 5, false } }, .nrank = 1 };
    struct apr_error e;
    x[70001] = NAN;
    x[99999] = -NAN;
    const struct apr_thresholds t = { .tensor = &tensor, .ntensor = 1, .contest = &contest, .ncontest = 1, .ctx = &s, .score = score,
                                      .cutoff = cutoff };
    for (unsigned threads = 1; threads < 4; threads++) {
        assert_int_equal(apr_thresholds_find(&t, test_run_with(threads), &e), APR_EARG);
        assert_string_equal(e.text, "tensor \"blk.0\": the score of element 70001 is NaN");
    }
    struct apr_run run = *test_run_with(2);
    for (run.kernels = apr_kernels_for(APR_SCALAR);; run.kernels = test_run_with(2)->kernels) {
        static float large[2000000];
        const struct scores of = { .given = large };
        const struct apr_scored all = { tensor.name, APR_LENGTH(large) };
        struct apr_thresholds many_of_them = t;
        many_of_them.tensor = &all;
        many_of_them.ctx = (void *)(uintptr_t)&of;
        large[1000003] = -NAN;
        assert_int_equal(apr_thresholds_find(&many_of_them, &run, &e), APR_EARG);
        assert_string_equal(e.text, "tensor \"blk.0\": the score of element 1000003 is NaN");
        if (run.kernels == test_run_with(2)->kernels)
            break;
    }
    contest.rank[0].k = 100000;
    assert_int_equal(apr_thresholds_find(&t, test_run_with(2), &e), APR_OK);
    assert_true(apr_cutoff_takes(cutoff, 1, 99999));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_numpy_takes_is_taken_of_one_tensor_and_of_many),
        cmocka_unit_test(large_contests_are_decided_by_way_of_a_sample),
        cmocka_unit_test(a_row_in_hand_is_cut_as_numpy_does),
        cmocka_unit_test(extremes_are_ranked_and_equals_go_by_index),
        cmocka_unit_test(the_ranks_of_many_contests_do_not_meet),
        cmocka_unit_test(a_rank_may_be_chosen_when_zeros_are_counted),
        cmocka_unit_test(what_is_no_number_is_refused_by_name_and_what_needs_no_rank_is_not_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
