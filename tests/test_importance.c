/* lib/forward/importance.h: what is counted of a run, and the file of it as model/imatrix.h reads it. Whole runs: test_judge.c. */
#include "support.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

#include "base/bytes.h"
#include "forward/importance.h"
#include "model/imatrix.h"
#include "model/inputs.h"
#include "model/open.h"

/* A net of one layer with two experts that have an `up` and a `down` of 3 and 2 columns, beside it some matrices. */
struct model {
    struct apr_bytes   name[6];
    struct apr_role    role[6];
    struct apr_ffn     expert[2];
    struct apr_layer   layer;
    struct apr_net     net;
    struct apr_matrix  q, head, latent;
    struct apr_input   in[6];
};
enum { UP, DOWN, Q, FUSED, HEAD, LATENT };

static void set(struct model *m, unsigned i, const char *gguf, bool layered)
{
    m->name[i] = apr_text(gguf);
    m->role[i].known[APR_GGUF] = (struct apr_words){ &m->name[i], 1 };
    m->role[i].layered = layered;
}

static struct apr_matrix matrix(struct model *m, unsigned i, uint64_t first, uint64_t nin, uint32_t expert)
{
    return (struct apr_matrix){ .in = &m->in[i], .role = &m->role[i], .first = first, .nout = 4, .nin = nin,
                                .layer = m->role[i].layered ? 0 : APR_WHOLE_MODEL, .expert = expert };
}

static void build(struct model *m)
{
    memset(m, 0, sizeof *m);
    set(m, UP, "blk.{L}.ffn_up_exps.weight", true);
    set(m, DOWN, "blk.{L}.ffn_down_exps.weight", true);
    set(m, Q, "blk.{L}.attn_q.weight", true);
    set(m, FUSED, "blk.{L}.ffn_up.weight", true);
    set(m, HEAD, "output.weight", false);
    set(m, LATENT, "blk.{L}.attn_k_b.weight", true);
    m->role[LATENT].transform[0].op = APR_OP_MLA_SPLIT;
    m->role[LATENT].ntransform = 1;
    for (uint32_t i = 0; i < 2; i++) {
        m->expert[i].up.w = matrix(m, UP, 4 * i, 3, i);
        m->expert[i].down.w = matrix(m, DOWN, 4 * i, 2, i);
    }
    m->q = matrix(m, Q, 0, 3, 0);
    m->head = matrix(m, HEAD, 0, 3, 0);
    m->latent = matrix(m, LATENT, 0, 3, 0);
    m->layer.experts.n = 2;
    m->layer.experts.expert = m->expert;
    m->net = (struct apr_net){ .nlayer = 1, .layer = &m->layer };
}

static struct apr_importance *begun(const struct model *m)
{
    struct apr_importance *im;
    struct apr_error e;
    assert_int_equal(apr_importance_new(&im, &m->net, &e), APR_OK);
    return im;
}

static void add(struct apr_importance *im, const struct apr_matrix *w, const float *x, size_t n)
{
    struct apr_error e;
    if (apr_importance_add(im, w, x, n, &e) != APR_OK)
        fail_msg("%s", e.text);
}

/* Writes and opens it. */
static struct apr_imatrix *written(struct apr_importance *im, const char *name, const char *dataset)
{
    struct apr_imatrix *read;
    struct apr_error e;
    const char *const path = test_path(name);
    if (apr_importance_write(im, path, dataset, 2, 7, test_run_with(2), &e) != APR_OK ||
        apr_imatrix_open(&read, path, test_run_with(1), &e) != APR_OK)
        fail_msg("%s: %s", name, e.text);
    apr_importance_free(im);
    return read;
}

static void holds(const struct apr_imatrix *im, const char *name, uint64_t ncount, const float *wanted, size_t n)
{
    float got[8];
    const struct apr_imatrix_entry *const x = apr_imatrix_find(im, apr_text(name));
    if (x == NULL || x->n != n || x->ncount != ncount)
        fail_msg("%s is not there, or not so long", name);
    apr_imatrix_weights(x, 0, n, got);
    for (size_t i = 0; i < n; i++)
        if (got[i] != wanted[i])
            fail_msg("%s: weight %zu is %g, not %g", name, i, (double)got[i], (double)wanted[i]);
}

static void columns_have_the_mean_of_their_squares_by_expert(void **state)
{
    (void)state;
    struct model m;
    build(&m);
    struct apr_importance *const im = begun(&m);
    static const float x[] = { 1, 2, 3, -3, 0, 1 }, y[] = { 1, 1, 5, 5 };
    add(im, &m.q, x, 2);
    add(im, &m.q, x + 3, 1);
    add(im, &m.q, x, 1);
    add(im, &m.expert[1].up.w, x, 2);
    add(im, &m.expert[1].down.w, y, 1);
    add(im, &m.expert[0].down.w, y + 2, 1);
    add(im, &m.expert[1].down.w, y + 2, 1);
    assert_int_equal(apr_importance_count(im), 3);
    struct apr_imatrix *const read = written(im, "a.gguf", "text.txt");
    holds(read, "blk.0.attn_q.weight", 1, (float[]){ 5, 2, 5 }, 3);
    holds(read, "blk.0.ffn_up_exps.weight", 2, (float[]){ 1, 1, 1, 5, 2, 5 }, 6); /* nothing came to expert 0: all count alike */
    holds(read, "blk.0.ffn_down_exps.weight", 2, (float[]){ 25, 25, 13, 13 }, 4);
    assert_int_equal(read->nentry, 3);
    assert_int_equal(read->chunks, 2);
    assert_int_equal(read->ndataset, 1);
    assert_true(apr_bytes_is(read->dataset[0], "text.txt"));
    apr_imatrix_close(read);
}

static void the_file_has_the_names_and_shapes_of_llama_cpp(void **state)
{
    (void)state;
    struct model m;
    struct apr_model *file;
    struct apr_error e;
    build(&m);
    struct apr_importance *const im = begun(&m);
    add(im, &m.expert[1].up.w, (float[]){ 1, 2, 3 }, 1);
    add(im, &m.expert[1].down.w, (float[]){ 1, 2 }, 1);
    add(im, &m.q, (float[]){ 1, 2, 3 }, 1);
    apr_imatrix_close(written(im, "b.gguf", NULL));
    assert_int_equal(apr_open(&file, test_path("b.gguf"), test_run_with(1), &e), APR_OK);
    static const struct { const char *name; unsigned ndim; uint64_t dim[2]; } wanted[] = {
        { "blk.0.attn_q.weight.in_sum2", 1, { 3 } }, { "blk.0.attn_q.weight.counts", 1, { 1 } },
        { "blk.0.ffn_down_exps.weight.in_sum2", 2, { 2, 2 } }, { "blk.0.ffn_down_exps.weight.counts", 2, { 2, 1 } },
        { "blk.0.ffn_up_exps.weight.in_sum2", 2, { 2, 3 } }, { "blk.0.ffn_up_exps.weight.counts", 2, { 2, 1 } },
    };
    assert_int_equal(file->ntensor, APR_LENGTH(wanted));
    for (size_t i = 0; i < APR_LENGTH(wanted); i++) {
        assert_true(apr_bytes_is(file->tensor[i].name, wanted[i].name));
        assert_int_equal(file->tensor[i].ndim, wanted[i].ndim);
        assert_memory_equal(file->tensor[i].dim, wanted[i].dim, sizeof wanted[i].dim);
    }
    apr_close(file);
}

static void sums_do_not_lose_what_a_float_would(void **state)
{
    (void)state;
    struct model m;
    build(&m);
    struct apr_importance *const im = begun(&m);
    static float x[3 * 1000];
    for (size_t i = 0; i < APR_LENGTH(x); i++)
        x[i] = i < 3 ? 4096 : 1; /* 2^24 and a thousand ones */
    add(im, &m.q, x, 1000);
    struct apr_imatrix *const read = written(im, "c.gguf", NULL);
    holds(read, "blk.0.attn_q.weight", 1, (float[]){ 16778215.0f / 1000, 16778215.0f / 1000, 16778215.0f / 1000 }, 3);
    apr_imatrix_close(read);
}

static void parts_of_a_tensor_count_once_and_heads_and_latents_not_at_all(void **state)
{
    (void)state;
    struct model m;
    build(&m);
    struct apr_importance *const im = begun(&m);
    const struct apr_matrix gate = matrix(&m, FUSED, 0, 3, 0), up = matrix(&m, FUSED, 4, 3, 0);
    static const float x[] = { 1, 2, 3 };
    for (unsigned i = 0; i < 3; i++) {
        add(im, &gate, x, 1);
        add(im, &up, x, 1);
    }
    add(im, &m.head, x, 1);
    add(im, &m.latent, x, 1);
    struct apr_imatrix *const read = written(im, "d.gguf", NULL);
    assert_int_equal(read->nentry, 1);
    holds(read, "blk.0.ffn_up.weight", 1, (float[]){ 1, 4, 9 }, 3);
    apr_imatrix_close(read);
}

static void what_is_no_number_is_named(void **state)
{
    (void)state;
    static const struct { float x[6]; const char *words; } row[] = {
        { { 1, 2, 3, 4, NAN, 6 }, "\"blk.0.attn_q.weight\": column 1 of what it is multiplied by is NaN" },
        { { 1, 2, -INFINITY, 4, 5, 6 }, "column 2 of what it is multiplied by is -inf" },
        { { FLT_MAX, 2, 3, 4, 5, 6 }, "the squares of its input column 0 add up to more than a float" },
    };
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        struct model m;
        struct apr_error e = { 0 };
        build(&m);
        struct apr_importance *const im = begun(&m);
        assert_int_equal(apr_importance_add(im, &m.q, row[i].x, 2, &e), APR_EARG);
        if (strstr(e.text, row[i].words) == NULL)
            fail_msg("%s", e.text);
        apr_importance_free(im);
    }
}

static void nothing_is_no_importance_and_leaves_no_file(void **state)
{
    (void)state;
    struct model m;
    struct apr_error e;
    build(&m);
    struct apr_importance *const im = begun(&m);
    assert_int_equal(apr_importance_write(im, test_path("none.gguf"), NULL, 1, 1, test_run_with(1), &e), APR_EARG);
    FILE *const f = fopen(test_path("none.gguf"), "r");
    assert_null(f);
    apr_importance_free(im);
}

static void a_newer_one_may_take_its_place(void **state)
{
    (void)state;
    struct model m;
    build(&m);
    for (unsigned i = 0; i < 2; i++) {
        struct apr_importance *const im = begun(&m);
        add(im, &m.q, (float[]){ 1, 2, 3, 3, 3, 3 }, 1 + i);
        apr_imatrix_close(written(im, "e.gguf", NULL));
    }
    assert_int_equal(apr_content_of(test_path("e.gguf"), test_run_with(1)), APR_CONTENT_IMATRIX);
    assert_int_equal(apr_content_of("fixtures/qwen2-q8_0.gguf", test_run_with(1)), APR_CONTENT_MODEL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_have_the_mean_of_their_squares_by_expert),
        cmocka_unit_test(the_file_has_the_names_and_shapes_of_llama_cpp),
        cmocka_unit_test(sums_do_not_lose_what_a_float_would),
        cmocka_unit_test(parts_of_a_tensor_count_once_and_heads_and_latents_not_at_all),
        cmocka_unit_test(what_is_no_number_is_named),
        cmocka_unit_test(nothing_is_no_importance_and_leaves_no_file),
        cmocka_unit_test(a_newer_one_may_take_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
