/* What an input (lib/flow/input.h) reads through the views of lib/family/rows.h, for random sizes: values, tiles, blocks. */
#include "chains.h"

#include <math.h>
#include <stdio.h>

#include "base/bytes.h"
#include "files/source.h"
#include "flow/input.h"
#include "values/dtype.h"

/* ---- reading ------------------------------------------------------------------------------------------------------ */

/* What the array should read as: the values of the stored side by their ids; 0 where none has them. */
static double *expected(const struct array *to, const struct side *from, const struct stored *s, size_t nid)
{
    const struct apr_kernels *k = apr_kernels_for(APR_SCALAR);
    double *by_id = calloc(nid + 1, sizeof *by_id), *out = calloc(to->count + 1, sizeof *out);
    assert_true(by_id != NULL && out != NULL);
    for (size_t p = 0; p < from->n; p++)
        for (uint64_t i = 0; i < from->a[p].count; i++)
            if (from->a[p].id[i] != NONE)
                apr_read_doubles(k, &s->t[p], i, 1, &by_id[from->a[p].id[i]]);
    for (uint64_t i = 0; i < to->count; i++)
        out[i] = to->id[i] == NONE ? 0 : by_id[to->id[i]];
    free(by_id);
    return out;
}

/* Blocks, when they are had, decode to what is wanted; of a type without blocks they are had always. */
static void blocks_are(const char *what, const struct apr_input *in, struct apr_window *w, uint64_t e, uint64_t n, const double *want)
{
    static unsigned char blocks[16 * APR_STRETCH];
    static float floats[APR_STRETCH];
    const struct apr_dtype *d = apr_input_part(in, 0)->dtype;
    if (!apr_input_blocks(in, w, e, n, blocks)) {
        if (d->block == 1 || (in->plain && e % d->block == 0 && n % d->block == 0))
            fail_msg("%s: elements %llu and on are no blocks", what, (unsigned long long)e);
        return;
    }
    assert_int_equal(n % d->block, 0);
    in->k->decode[apr_dtype_id(d)](blocks, blocks, n, floats);
    for (uint64_t i = 0; i < n; i++)
        if (floats[i] != (float)want[e + i])
            fail_msg("%s: in a block element %llu is %g, not %g", what, (unsigned long long)(e + i), (double)floats[i], want[e + i]);
}

static void reads_as(const char *what, const struct apr_view *v, const struct stored *s, const struct array *to, const double *want)
{
    static float floats[APR_STRETCH];
    static double doubles[APR_STRETCH];
    const struct apr_kernels *k = apr_kernels_for(apr_isa_best());
    const struct apr_input in = apr_input_through(k, &s->m, v, to->dim, to->ndim);
    struct apr_window window = { .most = (size_t)any(1, 4096) };
    const uint64_t block = s->t[0].dtype->block;
    for (uint64_t e = 0, n; e < to->count; e += n) {
        n = apr_min(to->count - e, any(1, 200));
        apr_input_floats(&in, &window, e, (size_t)n, floats);
        apr_input_doubles(&in, &window, e, (size_t)n, doubles);
        for (uint64_t i = 0; i < n; i++)
            if (floats[i] != (float)want[e + i] || doubles[i] != want[e + i])
                fail_msg("%s: element %llu reads as %g and %g, not %g", what, (unsigned long long)(e + i), (double)floats[i], doubles[i],
                         want[e + i]);
        const uint64_t whole = e / block * block;
        blocks_are(what, &in, &window, whole, apr_min(to->count - whole, block * any(1, 5)), want);
    }
    assert_int_equal(in.count, to->count);
    for (unsigned i = 0; i < 4; i++) {
        const uint64_t row = any(0, in.nrow - 1), col = any(0, in.ncol - 1), h = any(1, apr_min(in.nrow - row, 20)),
                       w = any(1, apr_min(in.ncol - col, 100));
        apr_input_tile_doubles(&in, &window, row, (size_t)h, col, (size_t)w, doubles);
        apr_input_tile_floats(&in, &window, row, (size_t)h, col, (size_t)w, floats);
        for (uint64_t y = 0; y < h; y++)
            for (uint64_t x = 0; x < w; x++) {
                const double value = want[(row + y) * in.ncol + col + x];
                if (doubles[y * w + x] != value || floats[y * w + x] != (float)value)
                    fail_msg("%s: row %llu, column %llu of a tile is %g, not %g", what, (unsigned long long)(row + y),
                             (unsigned long long)(col + x), doubles[y * w + x], value);
            }
    }
    apr_window_drop(&window);
}

static bool whole_blocks(const struct side *s, const struct apr_dtype *d)
{
    bool yes = true;
    for (size_t i = 0; i < s->n; i++)
        yes &= s->a[i].ndim > 0 && s->a[i].dim[s->a[i].ndim - 1] % d->block == 0;
    return yes;
}

static void inputs_follow_places_for_every_dtype(void **state)
{
    (void)state;
    static const enum apr_dtype_id dtype[] = { APR_F32, APR_F16, APR_Q8_0 };
    for (seed = 1; seed < 900; seed++) {
        const uint64_t start = seed;
        const struct apr_dtype *d = &apr_dtypes[dtype[any(0, 2)]];
        const struct chain c = random_chain((enum apr_op)any(0, APR_OP_RESHAPE), d->block);
        struct side hf = huggingface(c.nhf, c.dim, c.ndim), gguf = formulas(c.t, c.n, c.nhf, c.dim, c.ndim);
        const size_t nid = (size_t)(hf.n * hf.a[0].count);
        for (unsigned forth = 0; forth < 2; forth++) {
            const struct side *from = forth ? &gguf : &hf, *to = forth ? &hf : &gguf;
            if (!whole_blocks(from, d))
                continue;
            struct stored *s = store(from, d);
            for (size_t k = 0; k < to->n; k++) {
                const struct apr_view v = view_of(s->part, s->n, k, &c, forth);
                double *want = expected(&to->a[k], from, s, nid);
                reads_as(apr_op_word(c.t[0].op), &v, s, &to->a[k], want);
                free(want);
            }
            stored_free(s);
        }
        side_free(&hf);
        side_free(&gguf);
        seed = start;
    }
}

static void a_plain_view_gives_bytes(void **state)
{
    (void)state;
    seed = 1;
    struct side hf = huggingface(1, (const uint64_t[]){ 3, 64 }, 2);
    struct stored *s = store(&hf, &apr_dtypes[APR_Q8_0]);
    const struct apr_input in = apr_input_of(apr_kernels_for(APR_SCALAR), &s->m, &s->t[0]);
    struct apr_window window = { .most = 1000 };
    assert_true(in.plain && !in.strided);
    const struct apr_bytes b = apr_input_touch(&in, &window, 0, 64, 64);
    assert_ptr_equal(b.at, s->t[0].data.at + 2 * 34);
    assert_int_equal(b.n, 2 * 34);
    apr_window_drop(&window);
    stored_free(s);
    side_free(&hf);
}

/* ---- values ------------------------------------------------------------------------------------------------------- */

static const struct apr_transform plus_one = { .op = APR_OP_ADD, .by = { 1 } }, minus_exp = { .op = APR_OP_NEG_EXP };

static struct apr_input changed_by(const struct chain *c, const struct stored *s, bool forth)
{
    const struct apr_view v = view_of(s->part, 1, 0, c, forth);
    return apr_input_through(apr_kernels_for(APR_SCALAR), &s->m, &v, c->dim, c->ndim);
}

static void values_change_forwards_and_back_in_f32(void **state)
{
    (void)state;
    static const float w[] = { 0, -1, 1, 0.1f, -0.3f, 3.5f, 1e-9f };
    struct side side = huggingface(1, (const uint64_t[]){ 7 }, 1);
    struct stored *s = store(&side, &apr_dtypes[APR_F32]);
    const struct chain add = { .t = { plus_one }, .n = 1, .dim = { 7 }, .ndim = 1 },
                       exps = { .t = { minus_exp }, .n = 1, .dim = { 7 }, .ndim = 1 };
    const struct chain both = { .t = { plus_one, minus_exp }, .n = 2, .dim = { 7 }, .ndim = 1 };
    float copy[7], out[7];
    double doubles[7];
    memcpy(copy, w, sizeof w);
    s->t[0].data.at = (const unsigned char *)copy; /* no window: memory of our own is not let go of */
    struct apr_input in = changed_by(&add, s, false); /* HuggingFace's values in GGUF's place */
    assert_false(in.plain);
    assert_false(apr_input_blocks(&in, NULL, 0, 7, doubles));
    apr_input_floats(&in, NULL, 0, 7, out);
    apr_input_doubles(&in, NULL, 0, 7, doubles);
    for (size_t i = 0; i < 7; i++) {
        assert_true(out[i] == w[i] + 1.0f);
        assert_true(doubles[i] == (double)(w[i] + 1.0f));
    }
    in = changed_by(&exps, s, false);
    apr_input_floats(&in, NULL, 0, 7, out);
    for (size_t i = 0; i < 7; i++)
        assert_true(out[i] == (float)-exp((double)w[i]));
    in = changed_by(&both, s, false);
    float sum[7];
    apr_input_floats(&in, NULL, 0, 7, sum);
    for (size_t i = 0; i < 7; i++) /* in their order */
        assert_true(sum[i] == (float)-exp((double)(w[i] + 1.0f)));
    memcpy(copy, out, sizeof out);
    in = changed_by(&exps, s, true);
    apr_input_floats(&in, NULL, 0, 7, out);
    for (size_t i = 0; i < 7; i++)
        assert_true(fabsf(out[i] - w[i]) <= 1e-6f);
    in = changed_by(&add, s, true);
    apr_input_floats(&in, NULL, 0, 7, out);
    for (size_t i = 0; i < 7; i++)
        assert_true(out[i] == copy[i] - 1.0f);
    stored_free(s);
    side_free(&side);
}

/* Six rows of two columns in groups of 2, 3 and 1 rows, times 0.3, 0.7 and 1.1 as numpy has it in f32; in the order of the GGUF, which
 * regroups them before or behind that. */
static void rows_are_scaled_where_they_lie(void **state)
{
    (void)state;
    static const float w[] = { 1, 3, 7, -2.5f, 0.1f, 5 };
    static const float scaled[] = { 0.30000001192092896f, 0.9000000357627869f, 4.900000095367432f, -1.75f, 0.07000000029802322f, 5.5f };
    static const float again[] = { 1, 3, 7.000000476837158f, -2.5f, 0.10000000149011612f, 5 };
    static const unsigned row_of[] = { 0, 3, 1, 4, 2, 5 }; /* numpy: arange(6).reshape(2, 3).T */
    const struct apr_transform scale = { .op = APR_OP_SCALE, .nn = 3, .n = { 2, 3, 1 }, .by = { 0.3, 0.7, 1.1 } };
    const struct apr_transform moves = { .op = APR_OP_REGROUP, .nn = 3, .n = { 2, 1, 0 } };
    struct side side = huggingface(1, (const uint64_t[]){ 6, 2 }, 2);
    struct stored *s = store(&side, &apr_dtypes[APR_F32]);
    float copy[12], out[12], tile[12];
    double doubles[12];
    const struct chain c = { .t = { scale, moves }, .n = 2, .dim = { 6, 2 }, .ndim = 2 };
    s->t[0].data.at = (const unsigned char *)copy;
    for (size_t i = 0; i < 12; i++)
        copy[i] = w[i / 2];
    struct apr_input in = changed_by(&c, s, false);
    apr_input_floats(&in, NULL, 0, 12, out);
    apr_input_tile_floats(&in, NULL, 0, 6, 0, 2, tile);
    apr_input_doubles(&in, NULL, 1, 11, doubles);
    for (size_t i = 0; i < 12; i++) {
        assert_true(out[i] == scaled[row_of[i / 2]] && tile[i] == out[i]);
        assert_true(i == 0 || doubles[i - 1] == (double)out[i]);
    }
    memcpy(copy, out, sizeof out);
    in = changed_by(&c, s, true);
    apr_input_floats(&in, NULL, 0, 12, out);
    for (size_t i = 0; i < 12; i++)
        assert_true(out[i] == again[i / 2]);
    const struct chain after = { .t = { moves, scale }, .n = 2, .dim = { 6, 2 }, .ndim = 2 };
    for (size_t i = 0; i < 12; i++)
        copy[i] = w[i / 2];
    in = changed_by(&after, s, false);
    apr_input_floats(&in, NULL, 0, 12, out);
    for (size_t i = 0; i < 12; i++)
        assert_true(out[i] == w[row_of[i / 2]] * (i < 4 ? 0.3f : i < 10 ? 0.7f : 1.1f));
    stored_free(s);
    side_free(&side);
}

/* Of rows that are split one part alone is changed, and rows that are added are 0 whatever is done before. */
static void a_part_alone_is_changed_and_what_is_added_is_zero(void **state)
{
    (void)state;
    const struct apr_transform split = { .op = APR_OP_SPLIT_ROWS, .nn = 2, .n = { 2, 4 } };
    const struct apr_transform add = { .op = APR_OP_ADD, .only = 2, .by = { 10 } }, exps = { .op = APR_OP_NEG_EXP };
    const struct apr_transform pad = { .op = APR_OP_PAD_ROWS, .nn = 1, .n = { 8 } };
    struct side side = huggingface(1, (const uint64_t[]){ 6 }, 1);
    struct stored *s = store(&side, &apr_dtypes[APR_F32]);
    const struct chain parts = { .t = { split, add }, .n = 2, .dim = { 6 }, .ndim = 1 };
    const struct chain padded = { .t = { exps, pad }, .n = 2, .dim = { 6 }, .ndim = 1 };
    float w[6] = { 1, 2, 3, 4, 5, 6 }, out[8];
    const struct apr_kernels *k = apr_kernels_for(APR_SCALAR);
    s->t[0].data.at = (const unsigned char *)w;
    for (unsigned part = 0; part < 2; part++) {
        const struct apr_view v = view_of(s->part, 1, part, &parts, false);
        const struct apr_input in = apr_input_through(k, &s->m, &v, split.n + part, 1);
        apr_input_floats(&in, NULL, 0, (size_t)split.n[part], out);
        assert_int_equal(v.nvalue, part);
        for (unsigned i = 0; i < split.n[part]; i++)
            assert_true(out[i] == w[2 * part + i] + (part == 0 ? 0 : 10));
    }
    struct apr_view v = view_of(s->part, 1, 0, &padded, false);
    const struct apr_input in = apr_input_through(k, &s->m, &v, pad.n, 1);
    apr_input_floats(&in, NULL, 0, 8, out);
    for (unsigned i = 0; i < 8; i++)
        assert_true(out[i] == (i < 6 ? (float)-exp((double)w[i]) : 0));
    s->t[1] = s->t[0]; /* both parts again, whole: HuggingFace's is the sum less what was added to the second */
    s->t[0].count = s->t[0].row = s->t[0].dim[0] = 2;
    s->t[1].count = s->t[1].row = s->t[1].dim[0] = 4;
    s->t[1].data.at += 2 * sizeof *w;
    v = view_of((const struct apr_tensor *const[]){ &s->t[0], &s->t[1] }, 2, 0, &parts, true);
    const struct apr_input whole = apr_input_through(k, &s->m, &v, parts.dim, 1);
    apr_input_floats(&whole, NULL, 0, 6, out);
    for (unsigned i = 0; i < 6; i++)
        assert_true(out[i] == w[i] - (i < 2 ? 0 : 10));
    stored_free(s);
    side_free(&side);
}

static void scales_of_rows_are_exchanged_only_where_they_stand_first(void **state)
{
    (void)state;
    const struct apr_transform scale = { .op = APR_OP_SCALE, .nn = 2, .n = { 2, 4 }, .by = { 2, 3 } },
                               one = { .op = APR_OP_SCALE, .by = { 1 } };
    const struct apr_transform moves = { .op = APR_OP_REGROUP, .nn = 3, .n = { 2, 1, 0 } };
    const struct apr_transform first[] = { scale, moves }, last[] = { moves, scale };
    const uint64_t dim[APR_MAX_DIMS] = { 6, 2 };
    struct apr_error e;
    struct apr_view b = apr_view_of(NULL, 1, 0), own = b;
    assert_int_equal(apr_view_forth(&b, first, 2, dim, 2, &e), APR_OK);
    apr_view_exchange(&b, &own);
    assert_true(b.nvalue == 0 && own.nvalue == 1 && own.value[0].forward && own.value[0].at == 0);
    b = own = apr_view_of(NULL, 1, 0);
    assert_int_equal(apr_view_forth(&b, last, 2, dim, 2, &e), APR_OK);
    apr_view_exchange(&b, &own);
    assert_true(b.nvalue == 1 && own.nvalue == 0);
    b = apr_view_of(NULL, 1, 0); /* the step must stay that the scale stands behind */
    assert_int_equal(apr_view_back(&b, last, 2, dim, 2, &e), APR_OK);
    assert_int_equal(apr_view_forth(&b, first, 2, dim, 2, &e), APR_OK);
    assert_true(b.nstep == 2 && b.nvalue == 2);
    b = apr_view_of(NULL, 1, 0);
    assert_int_equal(apr_view_back(&b, &one, 1, dim, 2, &e), APR_OK);
    assert_true(apr_view_plain(&b));
}

static void exchange_compares_as_gguf_has_the_values(void **state)
{
    (void)state;
    const struct apr_transform both[] = { plus_one, minus_exp, { .op = APR_OP_ADD, .by = { 3 } } };
    const uint64_t dim[APR_MAX_DIMS] = { 7 };
    struct apr_error e;
    struct apr_view b = apr_view_of(NULL, 1, 0), own = { 0 };
    assert_int_equal(apr_view_forth(&b, both, 3, dim, 1, &e), APR_OK); /* A is HuggingFace's, B GGUF's */
    apr_view_exchange(&b, &own);
    assert_int_equal(b.nvalue, 0);
    assert_int_equal(own.nvalue, 3);
    for (unsigned i = 0; i < 3; i++) { /* done from the last one on */
        assert_true(own.value[i].forward);
        assert_int_equal(own.value[i].op, both[2 - i].op);
        assert_true(own.value[i].by[0] == both[2 - i].by[0]);
    }
    b = apr_view_of(NULL, 1, 0);
    own = b;
    assert_int_equal(apr_view_back(&b, both, 3, dim, 1, &e), APR_OK); /* the other way round B is made GGUF's */
    apr_view_exchange(&b, &own);
    assert_int_equal(b.nvalue, 3);
    assert_int_equal(own.nvalue, 0);
    assert_int_equal(apr_view_forth(&b, both, 3, dim, 1, &e), APR_OK); /* both GGUF's: nothing to do */
    assert_int_equal(b.nvalue, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inputs_follow_places_for_every_dtype),
        cmocka_unit_test(a_plain_view_gives_bytes),
        cmocka_unit_test(values_change_forwards_and_back_in_f32),
        cmocka_unit_test(rows_are_scaled_where_they_lie),
        cmocka_unit_test(a_part_alone_is_changed_and_what_is_added_is_zero),
        cmocka_unit_test(scales_of_rows_are_exchanged_only_where_they_stand_first),
        cmocka_unit_test(exchange_compares_as_gguf_has_the_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
