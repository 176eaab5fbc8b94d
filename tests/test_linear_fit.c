/* apr-linear fit and predict, as programs, on Fisher's irises. Expected numbers are scikit-learn 1.8's and numpy 2.4's. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include <jansson.h>

#define LINEAR "apr-linear"
static const char iris[] = "fixtures/iris.csv";

static json_t *answer_of(struct test_answer *a, int exit)
{
    if (a->exit != exit)
        fail_msg("exit %d: %s", a->exit, (const char *)a->err.at);
    json_t *const j = json_loadb((const char *)a->out.at, a->out.n, 0, NULL);
    assert_non_null(j);
    return j;
}

static void expect_near(const char *what, double got, double want, double by)
{
    if (!(fabs(got - want) <= by))
        fail_msg("%s: %.12g, not %.12g", what, got, want);
}

static double number(const json_t *j, const char *key) { return json_number_value(json_object_get(j, key)); }
static double weight(const json_t *j, size_t k, size_t i) { return json_number_value(json_array_get(json_array_get(json_object_get(j, "weights"), k), i)); }
static double bias(const json_t *j, size_t k) { return json_number_value(json_array_get(json_object_get(j, "bias"), k)); }

/* ---- fit ------------------------------------------------------------------------------------------------------------- */

static void a_softmax_is_the_one_that_scikit_learn_finds(void **state)
{
    (void)state;
    static const double w[3][4] = {
        { -0.4158304946751836, 0.8238623281493974, -2.246510818388712, -0.9491902265563515 },
        { 0.4383990398330066, -0.3478819335368385, -0.14864965739410851, -0.781726948355997 },
        { -0.022568545157823017, -0.4759803946125589, 2.3951604757828204, 1.7309171749123486 },
    }, b[3] = { 9.064408951367477, 2.1619158697147833, -11.226324821082262 };
    struct test_answer a = test_tool(LINEAR, "fit", iris, test_path("soft.apr"), "--l2=0.01", "--json", NULL);
    json_t *const j = answer_of(&a, 0);
    for (size_t k = 0; k < 3; k++) {
        for (size_t i = 0; i < 4; i++)
            expect_near("weight", weight(j, k, i), w[k][i], 2e-6);
        expect_near("bias", bias(j, k), b[k], 1e-5);
    }
    expect_near("score", number(json_object_get(j, "train"), "score"), 146 / 150., 1e-15);
    expect_near("log loss", number(json_object_get(j, "train"), "log_loss"), 0.1407599977644461, 1e-7);
    assert_true(json_is_true(json_object_get(j, "converged")));
    json_decref(j);
    test_answer_free(&a);
}

/* petal_width of the three others. */
static void squares_are_those_of_numpy_and_ridge_that_of_scikit_learn(void **state)
{
    (void)state;
    static const struct {
        const char *l2;
        double      w[3], b;
    } rows[] = {
        { "--l2=0", { -0.20726607375742603, 0.2228285438609297, 0.5240831147784288 }, -0.24030738911225907 },
        { "--l2=0.1", { -0.0030719415352858962, 0.04437593291002749, 0.4085090657172569 }, -0.45356537614452264 },
    };
    for (size_t r = 0; r < APR_LENGTH(rows); r++) {
        struct test_answer a = test_tool(LINEAR, "fit", iris, test_path("squares.apr"), "--target=petal_width", "--drop=species", "--model=linear",
                                         rows[r].l2, "--json", "--force", NULL);
        json_t *const j = answer_of(&a, 0);
        for (size_t i = 0; i < 3; i++)
            expect_near("weight", weight(j, 0, i), rows[r].w[i], 1e-12);
        expect_near("bias", bias(j, 0), rows[r].b, 1e-12);
        if (r == 0)
            expect_near("RMSE", number(json_object_get(j, "train"), "rmse"), 0.1893902086650325, 1e-12);
        json_decref(j);
        test_answer_free(&a);
    }
}

/* y = 1 + a + 2 b with a third column that is a + b and a fourth that is 7: of all solutions (1 - t, 2 - t, t), t = 1 is the shortest. */
static void columns_that_depend_on_others_get_the_shortest_solution(void **state)
{
    (void)state;
    static const char text[] = "0,0,0,7,1\n1,0,1,7,2\n0,1,1,7,3\n1,1,2,7,4\n2,1,3,7,5\n5,-3,2,7,0\n";
    struct test_answer a = test_tool(LINEAR, "fit", test_file("dependent.csv", text, strlen(text)), test_path("dependent.apr"), "--model=linear", "--json", NULL);
    json_t *const j = answer_of(&a, 0);
    static const double w[] = { 0, 1, 1, 0 };
    for (size_t i = 0; i < 4; i++)
        expect_near("weight", weight(j, 0, i), w[i], 1e-12);
    expect_near("bias", bias(j, 0), 1, 1e-12);
    json_decref(j);
    test_answer_free(&a);
}

/* Rank 4: what is left behind the fifth row is rounding of rounding, down to what no quotient has room for. Of numpy's lstsq on the columns
 * about their means. */
static void more_columns_than_rows_get_the_shortest_solution(void **state)
{
    (void)state;
    static const char *const y[] = { "1.5", "-2", "0.25", "3", "7" };
    struct test_bytes text = { 0 };
    char field[32];
    for (unsigned i = 0; i < 5; i++) {
        for (unsigned k = 0; k < 130; k++)
            test_put(&text, field, (size_t)snprintf(field, sizeof field, "%.3f,", ((int)((i * 37 + k * k * 11 + i * i * k * 5) % 97) - 48) / 8.));
        test_put(&text, field, (size_t)snprintf(field, sizeof field, "%s\n", y[i]));
    }
    struct test_answer a = test_tool(LINEAR, "fit", test_file("wide.csv", text.at, text.n), test_path("wide.apr"), "--model=linear", "--json", NULL);
    json_t *const j = answer_of(&a, 0);
    double square = 0;
    for (size_t i = 0; i < 130; i++)
        square += weight(j, 0, i) * weight(j, 0, i);
    expect_near("weight 0", weight(j, 0, 0), -0.0019310822965823427, 1e-14);
    expect_near("weight 64", weight(j, 0, 64), 0.02454616736902504, 1e-14);
    expect_near("weight 129", weight(j, 0, 129), -0.011160885156055143, 1e-14);
    expect_near("length", sqrt(square), 0.1810571097722987, 1e-14);
    expect_near("bias", bias(j, 0), 1.9851516226782189, 1e-13);
    json_decref(j);
    test_answer_free(&a);
    test_free(&text);
}

/* The mean of ten times 0.1 is not 0.1, where it is summed up. */
static void a_column_of_one_value_has_no_weight(void **state)
{
    (void)state;
    struct test_bytes text = { 0 };
    char row[32];
    for (unsigned i = 0; i < 10; i++)
        test_put(&text, row, (size_t)snprintf(row, sizeof row, "0.1,%.1f\n", 0.1 + 0.7 * i));
    const char *const data = test_file("constant.csv", text.at, text.n);
    for (unsigned i = 0; i < 2; i++) {
        struct test_answer a = test_tool(LINEAR, "fit", data, test_path("constant.apr"), "--force", "--json", i == 0 ? "--l2=0" : "--standardize", NULL);
        json_t *const j = answer_of(&a, 0);
        expect_near("weight", weight(j, 0, 0), 0, 0);
        expect_near("bias", bias(j, 0), 3.25, 1e-14);
        json_decref(j);
        test_answer_free(&a);
    }
    test_free(&text);
}

static void expect_same(const char *a, const char *b)
{
    struct test_bytes x = test_load(a), y = test_load(b);
    assert_int_equal(x.n, y.n);
    assert_memory_equal(x.at, y.at, x.n);
    test_free(&x);
    test_free(&y);
}

/* Times of a second apart, as seconds since 1970. The numbers are numpy's, by Newton's method on the same less 1.6e9. */
static void times_are_learned_from_as_well_as_small_numbers(void **state)
{
    (void)state;
    struct test_bytes text = { 0 };
    char row[64];
    for (unsigned i = 0; i < 40; i++)
        test_put(&text, row, (size_t)snprintf(row, sizeof row, "%u,%u,%d\n", 1600000000 + i * 37 % 11, i * 11 % 23, i * i % 7 > 2));
    struct test_answer a = test_tool(LINEAR, "fit", test_file("times.csv", text.at, text.n), test_path("times.apr"), "--json", "--l2=0.01", NULL);
    json_t *const j = answer_of(&a, 0);
    assert_true(json_is_true(json_object_get(j, "converged")));
    expect_near("weight of time", weight(j, 0, 0), 0.175799044344742, 1e-7);
    expect_near("weight", weight(j, 0, 1), -0.010207050486993519, 1e-7);
    expect_near("bias at 1.6e9", bias(j, 0) + 1.6e9 * weight(j, 0, 0), -1.77372684230509, 1e-6);
    expect_near("loss", number(j, "loss"), 0.5584714486231015, 1e-12);
    json_decref(j);
    test_answer_free(&a);
    test_free(&text);
}

static void threads_and_instructions_change_no_byte(void **state)
{
    (void)state;
    struct test_bytes text = { 0 };
    char row[256];
    for (unsigned i = 0; i < 6000; i++) {
        int n = 0;
        for (unsigned k = 0; k < 19; k++)
            n += snprintf(row + n, sizeof row - (size_t)n, "%d.%u,", (int)test_random(20) - 10, (unsigned)test_random(100));
        test_put(&text, row, (size_t)n);
        test_text(&text, i % 7 < test_random(7) ? "0\n" : i % 2 ? "1\n" : "2\n");
    }
    const char *const data = test_file("same.csv", text.at, text.n);
    static const char *const ways[][2] = { { "--model=logistic", "--max-iter=20" }, { "--optimizer=gd", "--lr=0.001" }, { "--model=linear", "--standardize" } };
    for (size_t i = 0; i < APR_LENGTH(ways); i++) {
        struct test_answer a = test_tool(LINEAR, "fit", data, test_path("one.apr"), ways[i][0], ways[i][1], "--dtype=f64", "--force", "-j1", "--isa=scalar", NULL);
        struct test_answer b = test_tool(LINEAR, "fit", data, test_path("many.apr"), ways[i][0], ways[i][1], "--dtype=f64", "--force", "-j5", NULL);
        assert_true(a.exit == 0 && b.exit == 0);
        expect_same(test_path("one.apr"), test_path("many.apr"));
        test_answer_free(&a);
        test_answer_free(&b);
    }
    test_free(&text);
}

static void a_plane_between_the_classes_is_no_optimum(void **state)
{
    (void)state;
    static const char text[] = "-2,0\n-1,0\n1,1\n2,1\n";
    struct test_answer a = test_tool(LINEAR, "fit", test_file("apart.csv", text, strlen(text)), test_path("apart.apr"), "--json", NULL);
    json_t *const j = answer_of(&a, 0);
    assert_true(json_is_false(json_object_get(j, "converged")));
    assert_true(test_says(&a.err, "--l2"));
    json_decref(j);
    test_answer_free(&a);
}

static void what_makes_no_sense_is_refused_and_nothing_is_written(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        { "--l2=-1", "--l2" },        { "--lr=0.1", "--optimizer gd" }, { "--seed=1", "--seed" },   { "--cv=1", "--cv" },
        { "--test-fraction=1", "0 and 1" }, { "--max-iter=0", "--max-iter" }, { "--target=nobody", "nobody" }, { "--target=6", "1 to 5" },
        { "--drop=specie", "species" }, { "--delimiter=ab", "one character" }, { "--model=linear", "\"setosa\"" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_answer a = test_tool(LINEAR, "fit", iris, test_path("none.apr"), rows[i][0], NULL);
        assert_int_equal(a.exit, 2);
        if (!test_says(&a.err, rows[i][1]) || access(test_path("none.apr"), F_OK) == 0)
            fail_msg("%s: %s", rows[i][0], (const char *)a.err.at);
        test_answer_free(&a);
    }
}

/* What is likely meant otherwise is done as the page says, and told. */
static void what_may_be_meant_otherwise_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *text, *option, *words;
        int         exit;
    } rows[] = {
        { "0,1,target\n1,2,0\n3,1,1\n4,4,0\n", "--l2=1", "--header yes", 0 },
        { "1,2,no\n3,1,yes\n4,4,no\n5,1,yes\n", "--l2=1", "", 0 },
        { "1,2,0\n1,2,1\n30,1,1\n30,4,0\n", "--optimizer=gd", "a smaller --lr", 0 },
        { "1;2;0\n3;1;1\n", "--l2=1", "--delimiter", 2 },
        { "3,1,1\n1,\"2,5\",0\n", "--l2=1", "--drop a column", 2 },
        { "\x1f\x8b\x08 1,2\n", "--l2=1", "gzip", 2 },
        { "PK\x03\x04 1,2\n", "--l2=1", "zip", 2 },
        { "\xff\xfe""1,2\n", "--l2=1", "UTF-16", 2 },
        { "PAR1,2\n", "--l2=1", "Parquet", 2 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *const data = test_file("meant.csv", rows[i].text, strlen(rows[i].text));
        struct test_answer a = test_tool(LINEAR, "fit", data, test_path("meant.apr"), "--force", "--model=logistic", rows[i].option, NULL);
        assert_int_equal(a.exit, rows[i].exit);
        if (*rows[i].words == 0 ? a.err.n != 0 : !test_says(&a.err, rows[i].words))
            fail_msg("row %zu: %s", i, (const char *)a.err.at);
        test_answer_free(&a);
    }
}

static void a_header_of_numbers_is_known_by_the_model(void **state)
{
    (void)state;
    static const char text[] = "0,1,target\n1,2,0\n3,1,1\n4,4,0\n";
    const char *const data = test_file("numbers.csv", text, strlen(text)), *const model = test_path("numbers.apr");
    struct test_answer a = test_tool(LINEAR, "fit", data, model, "--model=logistic", "--l2=1", "--header=yes", "--quiet", NULL);
    assert_int_equal(a.exit, 0);
    test_answer_free(&a);
    a = test_tool(LINEAR, "predict", model, test_file("asked.csv", "0,1\n1,2\n", 8), NULL);
    assert_string_equal((const char *)a.out.at, "prediction\n0\n");
    test_answer_free(&a);
}

/* The last row alone is kept at seed 1, the first and the last at seed 3, by the page's hash: one class, to be told from nothing. */
static void rows_held_back_leave_two_classes(void **state)
{
    (void)state;
    static const char text[] = "0,1,0\n2,3,0\n4,5,0\n6,7,1\n";
    const char *const data = test_file("few.csv", text, strlen(text));
    struct test_answer a = test_tool(LINEAR, "fit", data, test_path("few.apr"), "--test-fraction=0.5", "--l2=0.1", "--seed=1", NULL);
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "of one class, \"1\""));
    test_answer_free(&a);
    a = test_tool(LINEAR, "fit", data, test_path("few.apr"), "--test-fraction=0.5", "--l2=0.1", "--seed=3", NULL);
    assert_int_equal(a.exit, 0);
    test_answer_free(&a);
}

static void neither_a_file_nor_the_data_is_replaced_unasked(void **state)
{
    (void)state;
    const char *const mine = test_file("mine.apr", "mine", 4), *const data = test_file("own.csv", "1,0\n2,1\n3,0\n", 12);
    struct test_answer a = test_tool(LINEAR, "fit", data, mine, NULL);
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "--force"));
    test_answer_free(&a);
    a = test_tool(LINEAR, "fit", data, data, "--force", NULL);
    assert_int_equal(a.exit, 2);
    test_answer_free(&a);
    struct test_bytes left = test_load(data);
    assert_int_equal(left.n, 12);
    test_free(&left);
    a = test_tool(LINEAR, "fit", data, "/dev/null", NULL); /* which nothing can replace */
    assert_int_equal(a.exit, 0);
    test_answer_free(&a);
    struct test_answer dash = test_tool(LINEAR, "fit", data, "-", NULL), named = test_tool(LINEAR, "fit", data, "/dev/stdout", NULL);
    assert_int_equal(dash.out.n, named.out.n);
    assert_memory_equal(dash.out.at, named.out.at, dash.out.n);
    test_answer_free(&dash);
    test_answer_free(&named);
}

/* ---- predict -------------------------------------------------------------------------------------------------------- */

static void fit_iris(void)
{
    struct test_answer a = test_tool(LINEAR, "fit", iris, test_path("iris.apr"), "--l2=0.01", "--force", NULL);
    assert_int_equal(a.exit, 0);
    test_answer_free(&a);
}

static void chances_are_those_of_scikit_learn(void **state)
{
    (void)state;
    static const struct {
        unsigned line;
        double   p[3];
    } rows[] = {
        { 1, { 0.9753140113617149, 0.02468585460556182, 1.3403272313011884e-07 } },
        { 71, { 0.003812832444666134, 0.44470864829869705, 0.5514785192566367 } },
        { 150, { 0.0009683942714999685, 0.2679065536659411, 0.7311250520625588 } },
    };
    fit_iris();
    struct test_answer a = test_tool(LINEAR, "predict", test_path("iris.apr"), iris, "--proba", NULL);
    assert_int_equal(a.exit, 0);
    char *line = strtok((char *)a.out.at, "\n");
    assert_string_equal(line, "prediction,p_setosa,p_versicolor,p_virginica");
    for (unsigned i = 1, k = 0; (line = strtok(NULL, "\n")) != NULL; i++) {
        double p[3];
        if (k == APR_LENGTH(rows) || i != rows[k].line)
            continue;
        assert_int_equal(sscanf(strchr(line, ','), ",%lf,%lf,%lf", &p[0], &p[1], &p[2]), 3);
        for (unsigned c = 0; c < 3; c++)
            expect_near("chance", p[c], rows[k].p[c], 1e-6);
        k++;
    }
    test_answer_free(&a);
}

/* One bit of a weight: the answer would be any. */
static void a_model_that_is_not_as_it_was_written_does_not_answer(void **state)
{
    (void)state;
    fit_iris();
    struct test_bytes whole = test_load(test_path("iris.apr"));
    whole.at[whole.n - 40] ^= 0x80;
    struct test_answer a = test_tool(LINEAR, "predict", test_file("bit.apr", whole.at, whole.n), iris, NULL);
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "CRC"));
    test_answer_free(&a);
    test_free(&whole);
}

static void columns_are_found_by_name_and_a_missing_one_is_named(void **state)
{
    (void)state;
    static const char turned[] = "petal_width,id,petal_length,sepal_width,sepal_length\n0.2,\"a, b\",1.4,3.5,5.1\n", less[] = "petal_width,petal_length,sepal_width\n1,2,3\n";
    fit_iris();
    struct test_answer a = test_tool(LINEAR, "predict", test_path("iris.apr"), test_file("turned.csv", turned, strlen(turned)), NULL);
    assert_string_equal((const char *)a.out.at, "prediction\nsetosa\n");
    test_answer_free(&a);
    a = test_tool(LINEAR, "predict", test_path("iris.apr"), test_file("less.csv", less, strlen(less)), NULL);
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "sepal_length"));
    test_answer_free(&a);
}

static void a_feature_is_one_column_and_nothing_else(void **state)
{
    (void)state;
    static const char twice[] = "petal_width,petal_length,sepal_width,sepal_length,sepal_width\n1,2,3,4,5\n";
    static const char *const rows[][2] = {
        { "--target=sepal_width", "it is a feature" }, { "--drop=sepal_width", "it is a feature" }, { "--drop=specie", "species" },
    };
    fit_iris();
    struct test_answer a = test_tool(LINEAR, "predict", test_path("iris.apr"), test_file("twice.csv", twice, strlen(twice)), NULL);
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "\"sepal_width\": two columns"));
    test_answer_free(&a);
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        a = test_tool(LINEAR, "predict", test_path("iris.apr"), iris, rows[i][0], NULL);
        assert_int_equal(a.exit, 2);
        assert_true(test_says(&a.err, rows[i][1]));
        test_answer_free(&a);
    }
    a = test_tool(LINEAR, "predict", test_path("iris.apr"), iris, "--drop=species", NULL);
    assert_int_equal(a.exit, 0);
    test_answer_free(&a);
}

static void a_pipe_is_answered_and_scored(void **state)
{
    (void)state;
    static const char text[] = "5.1,3.5,1.4,0.2,setosa\n6.3,3.3,6,2.5,virginica\n6.3,3.3,6,2.5,setosa\n";
    struct test_bytes in = { 0 };
    test_text(&in, text);
    fit_iris();
    struct test_answer a = test_tool_in(&in, LINEAR, "predict", test_path("iris.apr"), "--json", "--score", NULL);
    assert_int_equal(a.exit, 0);
    assert_non_null(strstr((const char *)a.out.at, "{\"prediction\":\"setosa\"}\n{\"prediction\":\"virginica\"}\n{\"prediction\":\"virginica\"}\n{\"score\":0.666"));
    test_answer_free(&a);
    test_text(&in, "1,2,x,4,setosa\n");
    a = test_tool_in(&in, LINEAR, "predict", test_path("iris.apr"), NULL);
    assert_int_equal(a.exit, 2);
    assert_string_equal((const char *)a.out.at, "prediction\nsetosa\nvirginica\nvirginica\n");
    assert_true(test_says(&a.err, "line 4, column 3: \"x\""));
    test_answer_free(&a);
    test_free(&in);
}

/* Classes and features go along, and come back. */
static void a_model_answers_alike_in_any_format(void **state)
{
    (void)state;
    static const char *const names[] = { "iris.safetensors", "iris.gguf", "iris-back.apr" };
    fit_iris();
    struct test_answer want = test_tool(LINEAR, "predict", test_path("iris.apr"), iris, "--proba", NULL);
    const char *from = test_path("iris.apr");
    for (size_t i = 0; i < APR_LENGTH(names); i++) {
        struct test_answer a = test_tool("apr-convert", from, test_path(names[i]), NULL);
        assert_int_equal(a.exit, 0);
        test_answer_free(&a);
        from = test_path(names[i]);
        a = test_tool(LINEAR, "predict", from, iris, "--proba", NULL);
        assert_string_equal((const char *)a.out.at, (const char *)want.out.at);
        test_answer_free(&a);
    }
    test_answer_free(&want);
}

/* A file that loses its end while it is read: what is told is that, not what stands where it ended. */
static void a_table_that_is_cut_while_it_is_read_is_told(void **state)
{
    (void)state;
    struct test_bytes text = { 0 };
    for (unsigned i = 0; i < 3000000; i++)
        test_text(&text, i % 2 ? "1.5,2.5,1\n" : "0.5,2,0\n");
    const char *const data = test_file("cut.csv", text.at, text.n);
    char command[1024];
    snprintf(command, sizeof command, "(sleep 0.01; truncate -s 999990 %s) & exec " APR_BUILD "/" LINEAR " fit %s %s 2>%s", data, data,
             test_path("cut.apr"), test_path("cut.err"));
    const int status = system(command);
    struct test_bytes err = test_load(test_path("cut.err"));
    test_put(&err, "", 1);
    if (status != 0 && !test_says(&err, "while it was read")) /* before or behind that it is whole */
        fail_msg("%s", (const char *)err.at);
    test_free(&err);
    test_free(&text);
}

static void what_a_model_says_of_itself_is_enough_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *edit, *words;
    } rows[] = {
        { "--unset=architecture", NULL }, /* model_type says it too */
        { "--set=classes=json:[\"a\",\"a\",\"b\"]", "\"a\" stands twice" },
        { "--set=classes=json:[\"a\",\"b\"]", "expected 3" },
        { "--set=features=json:[\"a\",\"b\",\"c\",\"a\"]", "\"a\" stands twice" },
    };
    fit_iris();
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_answer a = test_tool("apr-convert", test_path("iris.apr"), test_path("said.apr"), rows[i].edit, "--force", NULL);
        assert_int_equal(a.exit, 0);
        test_answer_free(&a);
        a = test_tool(LINEAR, "predict", test_path("said.apr"), iris, NULL);
        assert_int_equal(a.exit, rows[i].words == NULL ? 0 : 2);
        assert_true(rows[i].words == NULL || test_says(&a.err, rows[i].words));
        test_answer_free(&a);
    }
}

static void rows_without_a_target_are_not_scored(void **state)
{
    (void)state;
    static const char *const missing[] = { "", "nan" };
    fit_iris();
    for (size_t i = 0; i < APR_LENGTH(missing); i++) {
        struct test_bytes in = { 0 };
        test_text(&in, "5.1,3.5,1.4,0.2,setosa\n5.1,3.5,1.4,0.2,");
        test_text(&in, missing[i]);
        test_text(&in, "\n");
        struct test_answer a = test_tool_in(&in, LINEAR, "predict", test_path("iris.apr"), "--score", "--missing=drop", NULL);
        assert_int_equal(a.exit, 0);
        assert_string_equal((const char *)a.out.at, "prediction\nsetosa\n");
        assert_true(test_says(&a.err, "1 rows: accuracy 1,") && test_says(&a.err, "1 rows left out"));
        test_answer_free(&a);
        a = test_tool_in(&in, LINEAR, "predict", test_path("iris.apr"), "--score", NULL);
        assert_int_equal(a.exit, 2);
        assert_true(test_says(&a.err, "line 2, column 5: "));
        test_answer_free(&a);
        a = test_tool_in(&in, LINEAR, "predict", test_path("iris.apr"), NULL);
        assert_string_equal((const char *)a.out.at, "prediction\nsetosa\nsetosa\n");
        test_answer_free(&a);
        test_free(&in);
    }
    static const char head[] = "sepal_length,sepal_width,petal_length,petal_width,species\n";
    struct test_answer a = test_tool(LINEAR, "predict", test_path("iris.apr"), test_file("head.csv", head, strlen(head)), "--score", NULL);
    assert_int_equal(a.exit, 0);
    assert_true(test_says(&a.err, "0 rows: there is nothing to score"));
    test_answer_free(&a);
    a = test_tool(LINEAR, "predict", "-", NULL);
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "share standard input"));
    test_answer_free(&a);
}

/* As long as it likes, and a row longer than what is read at once. */
static void rows_of_any_number_and_length_are_answered_in_order(void **state)
{
    (void)state;
    struct test_bytes text = { 0 };
    char row[64];
    test_text(&text, "note,petal_width,petal_length,sepal_width,sepal_length\n");
    for (unsigned i = 0; i < 90000; i++) {
        if (i == 500)
            for (size_t k = 0, at = test_zeros(&text, 3 << 20); k < 3 << 20; k++)
                text.at[at + k] = 'x';
        test_put(&text, row, (size_t)snprintf(row, sizeof row, i % 3 ? ",0.2,1.4,3.5,5.1\n" : "\"a\n\"\"\",2.5,6.0,3.3,6.3\n"));
    }
    fit_iris();
    const char *const data = test_file("long.csv", text.at, text.n);
    struct test_answer one = test_tool(LINEAR, "predict", test_path("iris.apr"), data, "-j1", "--proba", NULL);
    struct test_answer many = test_tool(LINEAR, "predict", test_path("iris.apr"), data, "-j4", "--isa=scalar", "--proba", NULL);
    assert_int_equal(one.exit, 0);
    assert_int_equal(many.exit, 0);
    assert_int_equal(one.out.n, many.out.n);
    assert_memory_equal(one.out.at, many.out.at, one.out.n);
    test_answer_free(&one);
    test_answer_free(&many);
    test_free(&text);
}

/* A NumPy array of doubles, n rows of p. */
static struct test_bytes npy_of(const double *x, unsigned n, unsigned p)
{
    struct test_bytes b = { 0 };
    char head[118];
    memset(head, ' ', sizeof head);
    head[snprintf(head, sizeof head, "{'descr': '<f8', 'fortran_order': False, 'shape': (%u, %u), }", n, p)] = ' ';
    test_put(&b, "\x93NUMPY\1\0", 8);
    test_integer(&b, sizeof head, 2);
    test_put(&b, head, sizeof head);
    test_put(&b, x, (size_t)n * p * sizeof *x);
    return b;
}

/* y = 1 + 2 a - b, with y before a and b, from a file and from a pipe. */
static void an_array_is_asked_as_it_was_learned_from(void **state)
{
    (void)state;
    static const double rows[] = { 1, 0, 0, 3, 1, 0, 0.5, 0, 0.5, 7, 4, 2, NAN, 1, 1, 2, NAN, 1 };
    struct test_bytes b = npy_of(rows, 6, 3);
    const char *const data = test_file("front.npy", b.at, b.n), *const model = test_path("front.apr");
    struct test_answer a = test_tool_in(&b, LINEAR, "fit", "-", model, "--target=1", "--model=linear", "--missing=drop", "--dtype=f64", NULL);
    assert_int_equal(a.exit, 0);
    test_answer_free(&a);
    a = test_tool(LINEAR, "predict", model, data, "--target=1", "--score", "--missing=drop", NULL);
    assert_int_equal(a.exit, 0);
    assert_true(test_says(&a.err, "4 rows: R2 1,") && test_says(&a.err, "2 rows left out"));
    struct test_answer piped = test_tool_in(&b, LINEAR, "predict", model, "--target=1", "--score", "--missing=drop", NULL);
    assert_string_equal((const char *)a.out.at, (const char *)piped.out.at);
    test_answer_free(&piped);
    test_answer_free(&a);
    a = test_tool(LINEAR, "predict", model, data, "--target=1", NULL); /* the row whose target is no number has features */
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "row 6, column 2: nan"));
    unsigned lines = 0;
    for (size_t i = 0; i < a.out.n; i++)
        lines += a.out.at[i] == '\n';
    assert_int_equal(lines, 6);
    test_answer_free(&a);
    a = test_tool(LINEAR, "predict", model, data, "--header=yes", NULL);
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "--header"));
    test_answer_free(&a);
    test_free(&b);
}

static void a_target_of_its_own_is_not_replaced(void **state)
{
    (void)state;
    static const double x[] = { 1, 2, 3, 4 }, y[] = { 0, 1, 0, 1 };
    struct test_bytes b = npy_of(x, 4, 1), c = npy_of(y, 4, 1);
    const char *const data = test_file("x.npy", b.at, b.n), *const target = test_file("y.npy", c.at, c.n);
    struct test_answer a = test_tool(LINEAR, "fit", data, target, "--target-file", target, "--force", NULL);
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "it is an input"));
    test_answer_free(&a);
    test_free(&b);
    test_free(&c);
}

/* 80 MB, of which each row is read once. */
static void an_array_takes_no_memory_but_its_numbers(void **state)
{
    (void)state;
    const bool sanitized = strcmp(APR_BUILD, "build/release") != 0; /* whose shadow is resident too */
    enum { ROWS = 200000, COLUMNS = 50 };
    double *const x = malloc(sizeof *x * ROWS * COLUMNS);
    assert_non_null(x);
    for (size_t i = 0; i < (size_t)ROWS * COLUMNS; i++)
        x[i] = (double)(int)test_random(2000) / 8;
    struct test_bytes b = npy_of(x, ROWS, COLUMNS);
    free(x);
    const char *const data = test_file("large.npy", b.at, b.n), *const model = test_path("large.apr");
    test_free(&b); /* a child's peak begins with ours */
    struct test_answer a = test_tool(LINEAR, "fit", data, model, "--model=linear", "--optimizer=gd", "--max-iter=1", "--lr=1e-9", "-j2", NULL);
    assert_int_equal(a.exit, 0);
    if (!sanitized)
        assert_true(a.peak < (uint64_t)ROWS * COLUMNS * 8 + (10u << 20));
    test_answer_free(&a);
    a = test_tool(LINEAR, "predict", model, data, "-j2", NULL);
    assert_int_equal(a.exit, 0);
    if (!sanitized)
        assert_true(a.peak < 16u << 20);
    test_answer_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_softmax_is_the_one_that_scikit_learn_finds),
        cmocka_unit_test(squares_are_those_of_numpy_and_ridge_that_of_scikit_learn),
        cmocka_unit_test(columns_that_depend_on_others_get_the_shortest_solution),
        cmocka_unit_test(more_columns_than_rows_get_the_shortest_solution),
        cmocka_unit_test(a_column_of_one_value_has_no_weight),
        cmocka_unit_test(times_are_learned_from_as_well_as_small_numbers),
        cmocka_unit_test(threads_and_instructions_change_no_byte),
        cmocka_unit_test(a_plane_between_the_classes_is_no_optimum),
        cmocka_unit_test(what_makes_no_sense_is_refused_and_nothing_is_written),
        cmocka_unit_test(what_may_be_meant_otherwise_is_told),
        cmocka_unit_test(a_header_of_numbers_is_known_by_the_model),
        cmocka_unit_test(a_model_that_is_not_as_it_was_written_does_not_answer),
        cmocka_unit_test(rows_held_back_leave_two_classes),
        cmocka_unit_test(neither_a_file_nor_the_data_is_replaced_unasked),
        cmocka_unit_test(chances_are_those_of_scikit_learn),
        cmocka_unit_test(columns_are_found_by_name_and_a_missing_one_is_named),
        cmocka_unit_test(a_feature_is_one_column_and_nothing_else),
        cmocka_unit_test(a_pipe_is_answered_and_scored),
        cmocka_unit_test(a_model_answers_alike_in_any_format),
        cmocka_unit_test(what_a_model_says_of_itself_is_enough_or_refused),
        cmocka_unit_test(rows_without_a_target_are_not_scored),
        cmocka_unit_test(rows_of_any_number_and_length_are_answered_in_order),
        cmocka_unit_test(an_array_is_asked_as_it_was_learned_from),
        cmocka_unit_test(a_target_of_its_own_is_not_replaced),
        cmocka_unit_test(an_array_takes_no_memory_but_its_numbers),
        cmocka_unit_test(a_table_that_is_cut_while_it_is_read_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
