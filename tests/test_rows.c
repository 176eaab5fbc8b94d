/* lib/family/rows.h against plain loops written from the formulas, for random sizes: places, runs, chains of both sides. */
#include "chains.h"

#include <math.h>
#include <stdio.h>

#include "base/bytes.h"

/* ---- places ------------------------------------------------------------------------------------------------------- */

/* The view shows `to` (one array) by way of `from`: every element of every run; what from lacks is in no part. */
static void places_are_right(const char *what, const struct apr_view *v, const struct array *to, const struct side *from)
{
    for (uint64_t e = 0; e < to->count; e++) {
        const struct apr_place p = apr_view_place(v, e);
        assert_true(p.run > 0 && p.part <= from->n);
        for (uint64_t i = 0; i < p.run && e + i < to->count; i++) {
            const uint64_t index = p.index + i * p.stride;
            bool lost = true;
            if (p.part < from->n) {
                if (index >= from->a[p.part].count || from->a[p.part].id[index] != to->id[e + i])
                    fail_msg("%s: element %llu + %llu lies at %llu of part %llu", what, (unsigned long long)e, (unsigned long long)i,
                             (unsigned long long)index, (unsigned long long)p.part);
                continue;
            }
            for (size_t k = 0; lost && to->id[e + i] != NONE && k < from->n; k++)
                for (uint64_t j = 0; lost && j < from->a[k].count; j++)
                    lost = from->a[k].id[j] != to->id[e + i];
            if (!lost)
                fail_msg("%s: element %llu is said to be lost", what, (unsigned long long)(e + i));
        }
    }
}

static void both_ways_each_transform_is_its_formula(void **state)
{
    (void)state;
    for (seed = 1; seed < 4000; seed++) {
        const uint64_t start = seed;
        const enum apr_op op = (enum apr_op)any(0, APR_OP_RESHAPE);
        const struct chain c = random_chain(op, 1);
        struct side hf = huggingface(c.nhf, c.dim, c.ndim), gguf = formulas(c.t, c.n, c.nhf, c.dim, c.ndim);
        for (size_t k = 0; k < gguf.n; k++) {
            uint64_t dim[APR_MAX_DIMS];
            unsigned ndim = c.ndim;
            memcpy(dim, c.dim, sizeof dim);
            assert_true(apr_transform_shape(c.t, c.n, k, dim, &ndim));
            assert_int_equal(ndim, gguf.a[k].ndim);
            assert_memory_equal(dim, gguf.a[k].dim, ndim * sizeof *dim);
            const struct apr_view back = view_of(NULL, hf.n, k, &c, false);
            places_are_right(apr_op_word(op), &back, &gguf.a[k], &hf);
        }
        for (size_t k = 0; k < hf.n; k++) {
            const struct apr_view forth = view_of(NULL, gguf.n, k, &c, true);
            places_are_right(apr_op_word(op), &forth, &hf.a[k], &gguf);
        }
        side_free(&hf);
        side_free(&gguf);
        seed = start;
    }
}

/* Twelve rows, as numpy has them: reshape and swapaxes, slices put behind each other, rows by their numbers. */
static void twelve_rows_lie_as_numpy_lays_them(void **state)
{
    (void)state;
    const uint32_t order[] = { 2, 0, 1, 1, 2, 0 };
    const struct { struct apr_transform t; uint64_t gguf[12]; } rows[] = {
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 2, 3 } }, { 0, 1, 2, 6, 7, 8, 3, 4, 5, 9, 10, 11 } },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 3, 1 } }, { 0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11 } },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 6, 1 } }, { 0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11 } },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 2, 1, 4 } }, { 0, 1, 2, 3, 4, 8, 5, 9, 6, 10, 7, 11 } },
        { { .op = APR_OP_UNGROUP, .nn = 4, .n = { 2, 1, 3, 2 } }, { 0, 6, 1, 2, 3, 7, 8, 9, 4, 5, 10, 11 } },
        { { .op = APR_OP_ORDER, .nn = 1, .n = { 4 }, .norder = 3, .order = order }, { 8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6, 7 } },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        for (uint64_t cols = 1; cols < 4; cols += 2) {
            struct chain c = { .t = { rows[i].t }, .n = 1, .ndim = 2, .dim = { 12, cols } };
            const struct apr_view back = view_of(NULL, 1, 0, &c, false), forth = view_of(NULL, 1, 0, &c, true);
            for (uint64_t e = 0; e < 12 * cols; e++) {
                const uint64_t from = rows[i].gguf[e / cols] * cols + e % cols;
                assert_int_equal(apr_view_place(&back, e).index, from);
                assert_int_equal(apr_view_place(&forth, from).index, e);
            }
        }
}

/* So rows of blocks are moved whole, and many at a time. */
static void rows_that_stay_together_are_one_run(void **state)
{
    (void)state;
    const uint32_t order[] = { 1, 2, 3, 0, 3, 0, 1, 2 };
    const struct { struct apr_transform t; uint64_t e, run; } rows[] = {
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 2, 3 } }, 0, 3 * 64 },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 2, 3 } }, 70, 3 * 64 - 70 },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 2, 1, 8 } }, 0, 8 * 64 },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 1, 3 } }, 0, UINT64_MAX },
        { { .op = APR_OP_UNGROUP, .nn = 3, .n = { 2, 2, 4 } }, 0, 2 * 64 },
        { { .op = APR_OP_UNGROUP, .nn = 3, .n = { 2, 2, 4 } }, 4 * 64, 4 * 64 },
        { { .op = APR_OP_ORDER, .nn = 1, .n = { 3 }, .norder = 4, .order = order }, 0, 9 * 64 },
        { { .op = APR_OP_PAD_ROWS, .nn = 1, .n = { 16 } }, 0, 12 * 64 },
        { { .op = APR_OP_PAD_ROWS, .nn = 1, .n = { 16 } }, 12 * 64, 4 * 64 },
        { { .op = APR_OP_REGROUP_COLS, .nn = 3, .n = { 2, 8 } }, 8, 8 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const struct chain c = { .t = { rows[i].t }, .n = 1, .ndim = 2, .dim = { 12, 64 } };
        const struct apr_view back = view_of(NULL, 1, 0, &c, false);
        assert_int_equal(apr_view_place(&back, rows[i].e).run, rows[i].run);
    }
}

/* Forward and then the inverse: HuggingFace's order again, but for rows that were cut off. */
static void there_and_back_is_the_identity(void **state)
{
    (void)state;
    for (seed = 1; seed < 3000; seed++) {
        const uint64_t start = seed;
        struct chain c = random_chain((enum apr_op)any(0, APR_OP_RESHAPE), 1);
        struct side hf = huggingface(c.nhf, c.dim, c.ndim), gguf = formulas(c.t, c.n, c.nhf, c.dim, c.ndim);
        for (size_t k = 0; k < hf.n; k++) {
            struct apr_view v = view_of(NULL, hf.n, k, &c, true);
            struct apr_error e;
            if (c.n > 3 || apr_view_back(&v, c.t, c.n, c.dim, c.ndim, &e) != APR_OK)
                continue;
            for (uint64_t i = 0; i < hf.a[k].count; i++) {
                const struct apr_place p = apr_view_place(&v, i);
                if (p.part != hf.n || c.t[0].op != APR_OP_ROWS)
                    assert_true(p.part == k && p.index == i);
            }
        }
        for (size_t k = 0; k < gguf.n; k++) { /* the other way round nothing remains */
            struct apr_view v = view_of(NULL, gguf.n, k, &c, false);
            struct apr_error e;
            assert_int_equal(apr_view_forth(&v, c.t, c.n, c.dim, c.ndim, &e), APR_OK);
            assert_int_equal(v.nstep, 0);
            assert_true(apr_view_plain(&v) == (k == 0));
        }
        side_free(&hf);
        side_free(&gguf);
        seed = start;
    }
}

/* A's order through B's tensors: back along one chain, forth along another. */
static void chains_of_two_models_compose(void **state)
{
    (void)state;
    const struct apr_transform one[] = {
        { .op = APR_OP_ROPE_PERMUTE, .nn = 1, .n = { 2 } },        { .op = APR_OP_TRANSPOSE },
        { .op = APR_OP_QKV_NEOX, .nn = 1, .n = { 2 } },            { .op = APR_OP_QKV_FALCON, .nn = 2, .n = { 4, 1 } },
        { .op = APR_OP_SPLIT_ROWS, .nn = 3, .n = { 5, 6, 1 } },    { .op = APR_OP_SPLIT_COLS, .nn = 2, .n = { 4, 5 } },
        { .op = APR_OP_MLA_SPLIT, .nn = 3, .n = { 3, 3, 1 } },     { .op = APR_OP_ROWS, .nn = 2, .n = { 2, 7 } },
        { .op = APR_OP_RESHAPE, .nn = 3, .n = { 4, 3, 9 } },       { .op = APR_OP_STACK, .nn = 1, .n = { 1 } },
        { .op = APR_OP_REGROUP, .nn = 3, .n = { 2, 3, 0 } },       { .op = APR_OP_REGROUP, .nn = 3, .n = { 4, 1, 4 } },
        { .op = APR_OP_REGROUP_COLS, .nn = 3, .n = { 3, 1, 0 } },  { .op = APR_OP_UNGROUP, .nn = 4, .n = { 2, 1, 3, 2 } },
        { .op = APR_OP_PAD_ROWS, .nn = 1, .n = { 15 } },           { .op = APR_OP_CONCAT_ROWS, .nn = 2, .n = { 5, 7 } },
        { .op = APR_OP_CONCAT_COLS, .nn = 2, .n = { 8, 1 } },
        { .op = APR_OP_ORDER, .nn = 1, .n = { 4 }, .norder = 3, .order = (const uint32_t[]){ 2, 0, 1, 1, 2, 0 } },
        { .op = APR_OP_ORDER_COLS, .nn = 1, .n = { 3 }, .norder = 3, .order = (const uint32_t[]){ 1, 2, 0, 2, 0, 1 } },
    };
    const uint64_t dim[APR_MAX_DIMS] = { 12, 9 };
    for (size_t a = 0; a < APR_LENGTH(one); a++)
        for (size_t b = 0; b < APR_LENGTH(one); b++)
            for (unsigned turned = 0; turned < 2; turned++) {
                struct chain x = { .t = { one[a] }, .n = 1, .nhf = 1, .dim = { 12, 9 }, .ndim = 2 };
                struct chain y = { .t = { one[b] }, .n = 1, .nhf = 1, .dim = { 12, 9 }, .ndim = 2 };
                if (turned && one[b].op == APR_OP_RESHAPE)
                    y.t[y.n++] = one[1];
                struct side in_a = formulas(x.t, x.n, 1, dim, 2), in_b = formulas(y.t, y.n, 1, dim, 2);
                for (size_t k = 0; k < in_a.n; k++) {
                    struct apr_view v = view_of(NULL, in_b.n, k, &x, false);
                    struct apr_error e;
                    char what[64];
                    snprintf(what, sizeof what, "%s, then %s", apr_op_word(one[a].op), apr_op_word(one[b].op));
                    assert_int_equal(apr_view_forth(&v, y.t, y.n, dim, 2, &e), APR_OK);
                    places_are_right(what, &v, &in_a.a[k], &in_b);
                }
                side_free(&in_a);
                side_free(&in_b);
            }
}

/* ---- what does not fit -------------------------------------------------------------------------------------------- */

static void shapes_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const struct { struct apr_transform t; uint64_t dim[3]; unsigned ndim; } rows[] = {
        { { .op = APR_OP_ROPE_PERMUTE, .nn = 1, .n = { 0 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_ROPE_PERMUTE, .nn = 1, .n = { 3 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_ROPE_PERMUTE, .nn = 1, .n = { 4 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_ROPE_PERMUTE, .nn = 1, .n = { 1 } }, { 0 }, 0 },
        { { .op = APR_OP_TRANSPOSE }, { 4 }, 1 },                                 { { .op = APR_OP_TRANSPOSE }, { 0 }, 0 },
        { { .op = APR_OP_QKV_NEOX, .nn = 1, .n = { 0 } }, { 6, 4 }, 2 },
        { { .op = APR_OP_QKV_NEOX, .nn = 1, .n = { 4 } }, { 6, 4 }, 2 },
        { { .op = APR_OP_QKV_NEOX, .nn = 1, .n = { UINT64_MAX } }, { 6, 4 }, 2 },
        { { .op = APR_OP_QKV_FALCON, .nn = 2, .n = { 3, 2 } }, { 7, 4 }, 2 },
        { { .op = APR_OP_QKV_FALCON, .nn = 2, .n = { 2, 0 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_QKV_FALCON, .nn = 2, .n = { 0, 2 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_QKV_FALCON, .nn = 2, .n = { UINT64_MAX, 1 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_STACK, .nn = 1, .n = { 0 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_STACK, .nn = 1, .n = { 1ull << 62 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_SPLIT_ROWS, .nn = 2, .n = { 1, 2 } }, { 4, 4 }, 2 },     { { .op = APR_OP_SPLIT_ROWS, .nn = 0 }, { 4, 4 }, 2 },
        { { .op = APR_OP_SPLIT_ROWS, .nn = 2, .n = { UINT64_MAX, 5 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_SPLIT_COLS, .nn = 1, .n = { 4 } }, { 0 }, 0 },
        { { .op = APR_OP_MLA_SPLIT, .nn = 3, .n = { 2, 1, 2 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_MLA_SPLIT, .nn = 3, .n = { 1, 5, UINT64_MAX } }, { 4, 4 }, 2 },
        { { .op = APR_OP_MLA_SPLIT, .nn = 3, .n = { 0, 1, 2 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_MLA_SPLIT, .nn = 3, .n = { 1, 2, 2 } }, { 4 }, 1 },
        { { .op = APR_OP_ROWS, .nn = 2, .n = { 3, 2 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_ROWS, .nn = 2, .n = { 1, UINT64_MAX } }, { 4, 4 }, 2 },
        { { .op = APR_OP_ROWS, .nn = 2, .n = { 0, 0 } }, { 0 }, 0 },
        { { .op = APR_OP_SQUEEZE, .nn = 1, .n = { 1 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_SQUEEZE, .nn = 1, .n = { 2 } }, { 4, 1 }, 2 },
        { { .op = APR_OP_UNSQUEEZE, .nn = 1, .n = { 3 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_RESHAPE, .nn = 2, .n = { 4, 5 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_RESHAPE, .nn = 2, .n = { 1ull << 32, 1ull << 32 } }, { 0 }, 1 },
        { { .op = APR_OP_ADD }, { 1ull << 32, 1ull << 32 }, 2 },
        { { .op = APR_OP_ADD, .by = { INFINITY } }, { 4 }, 1 },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 0, 1, 0 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 1, 0, 0 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 2, 3, 0 } }, { 9, 4 }, 2 },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 2, 1, 5 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 1ull << 63, 2, 0 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_REGROUP, .nn = 3, .n = { 1, 1, 0 } }, { 0 }, 0 },
        { { .op = APR_OP_REGROUP_COLS, .nn = 3, .n = { 2, 1, 0 } }, { 4, 3 }, 2 },
        { { .op = APR_OP_UNGROUP, .nn = 1, .n = { 2 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_UNGROUP, .nn = 3, .n = { 2, 2, 0 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_UNGROUP, .nn = 3, .n = { 0, 2, 2 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_UNGROUP, .nn = 3, .n = { 2, 1, 2 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_UNGROUP, .nn = 3, .n = { 1, 5, UINT64_MAX } }, { 4, 4 }, 2 },
        { { .op = APR_OP_CONCAT_ROWS, .nn = 2, .n = { 1, 4 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_CONCAT_COLS, .nn = 2, .n = { 5, UINT64_MAX } }, { 4, 4 }, 2 },
        { { .op = APR_OP_PAD_ROWS, .nn = 1, .n = { 3 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_PAD_ROWS, .nn = 1, .n = { UINT64_MAX } }, { 4, 4 }, 2 },
        { { .op = APR_OP_ORDER, .nn = 1, .n = { 1 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_ORDER, .nn = 1, .n = { 0 }, .norder = 4 }, { 4, 4 }, 2 },
        { { .op = APR_OP_ORDER, .nn = 1, .n = { 1 }, .norder = 2 }, { 4, 4 }, 2 },
        { { .op = APR_OP_ORDER_COLS, .nn = 1, .n = { UINT64_MAX }, .norder = 2 }, { 4, 4 }, 2 },
        { { .op = APR_OP_SCALE, .by = { 0 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_SCALE, .by = { 1e-60 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_SCALE, .by = { NAN } }, { 4, 4 }, 2 },
        { { .op = APR_OP_SCALE, .by = { 1e39 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_SCALE, .nn = 2, .n = { 1, 2 }, .by = { 1, 2 } }, { 4, 4 }, 2 },
        { { .op = APR_OP_SCALE, .nn = 2, .n = { 2, 2 }, .by = { 1, 0 } }, { 4, 4 }, 2 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_view v = apr_view_of(NULL, 1, 0);
        struct apr_error e = { 0 };
        uint64_t dim[APR_MAX_DIMS] = { 0 };
        unsigned ndim = rows[i].ndim;
        memcpy(dim, rows[i].dim, sizeof rows[i].dim);
        if (apr_view_forth(&v, &rows[i].t, 1, dim, ndim, &e) != APR_EARG || strstr(e.text, apr_op_word(rows[i].t.op)) == NULL)
            fail_msg("row %zu, %s: %s", i, apr_op_word(rows[i].t.op), e.text);
        assert_int_equal(apr_view_back(&v, &rows[i].t, 1, dim, ndim, &e), APR_EARG);
        assert_false(apr_transform_shape(&rows[i].t, 1, 0, dim, &ndim));
    }
}

static void long_chains_are_refused(void **state)
{
    (void)state;
    static const struct apr_transform plus_one = { .op = APR_OP_ADD, .by = { 1 } };
    struct apr_transform t[APR_MAX_STEPS + 1], values[APR_MAX_STEPS];
    const uint64_t dim[APR_MAX_DIMS] = { 3, 3 };
    struct apr_view v = apr_view_of(NULL, 1, 0);
    struct apr_error e;
    for (size_t i = 0; i < APR_LENGTH(t); i++)
        t[i] = (struct apr_transform){ .op = APR_OP_TRANSPOSE };
    for (size_t i = 0; i < APR_LENGTH(values); i++)
        values[i] = plus_one;
    assert_int_equal(apr_view_forth(&v, t, APR_LENGTH(t), dim, 2, &e), APR_ELIMIT);
    assert_int_equal(apr_view_forth(&v, t, APR_MAX_STEPS, dim, 2, &e), APR_OK);
    assert_int_equal(apr_view_forth(&v, t, 1, dim, 2, &e), APR_ELIMIT);
    assert_int_equal(apr_view_forth(&v, values, APR_MAX_STEPS, dim, 2, &e), APR_OK);
    assert_int_equal(apr_view_forth(&v, &plus_one, 1, dim, 2, &e), APR_ELIMIT);
}

static void ops_have_names(void **state)
{
    (void)state;
    for (unsigned op = 0; op < APR_NOPS; op++)
        assert_int_equal(apr_op_named(apr_text(apr_op_word((enum apr_op)op))), op);
    assert_int_equal(apr_op_named(apr_text("")), APR_NOPS);
    assert_int_equal(apr_op_named(apr_text("stac")), APR_NOPS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ways_each_transform_is_its_formula),
        cmocka_unit_test(twelve_rows_lie_as_numpy_lays_them),
        cmocka_unit_test(rows_that_stay_together_are_one_run),
        cmocka_unit_test(there_and_back_is_the_identity),
        cmocka_unit_test(chains_of_two_models_compose),
        cmocka_unit_test(shapes_that_do_not_fit_are_refused),
        cmocka_unit_test(long_chains_are_refused),
        cmocka_unit_test(ops_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
