/* apr-linear serve: requests through the handler. */
#include "support.h"

#include <stdio.h>

#include "linear_server.h"

static struct server server;

static int begin(void **state)
{
    (void)state;
    linear_server_begin(&server);
    return 0;
}

static int end(void **state)
{
    (void)state;
    linear_server_end(&server);
    return 0;
}

/* One request, and what must come back. says: parts of the answer, in their order; "" for no more of them. */
struct asked {
    const char *method, *path, *body;
    unsigned    code;
    const char *says[4];
};

static void ask(const struct asked *a)
{
    struct request q = { .method = a->method, .path = a->path };
    struct reply r;
    const struct apr_bytes body = { (const unsigned char *)(a->body == NULL ? "" : a->body), a->body == NULL ? 0 : strlen(a->body) };
    q.has_length = a->body != NULL;
    q.length = body.n;
    server_handle(&server, &q, body, &r);
    assert_non_null(r.text);
    if (r.code != a->code)
        fail_msg("%s %s %s: code %u, expected is %u: %s", a->method, a->path, a->body, r.code, a->code, r.text);
    const char *at = r.text;
    for (size_t i = 0; i < APR_LENGTH(a->says) && a->says[i] != NULL; i++) {
        at = strstr(at, a->says[i]);
        if (at == NULL)
            fail_msg("%s %s %s: expected %s in %s", a->method, a->path, a->body, a->says[i], r.text);
    }
    free(r.text);
}

/* Probabilities: scipy.special.softmax([1, 2, 0.5]). */
static void rows_are_answered_by_place_and_by_name(void **state)
{
    (void)state;
    static const struct asked all[] = {
        { "POST", "/predict", "{\"features\":[1,2]}", 200, { "{\"prediction\":\"b\\\"\",\"latency_ms\":", "\"model_version\":\"aaaa" } },
        { "POST", "/predict", " { \"features\" : { \"height\" : 2e0 , \"wi\\u0064th\" : 1.0 } } ", 200, { "\"prediction\":\"b\\\"\"" } },
        { "POST", "/predict", "{\"features\":[-1,-2]}", 200, { "{\"prediction\":3," } },
        { "POST", "/predict", "{\"features\":[7,7]}", 200, { "{\"prediction\":\"a\"," } },
        { "POST", "/predict", "{\"options\":{\"return_probabilities\":true},\"features\":[1,2],\"more\":[{}]}", 200,
          { "\"prediction\":\"b\\\"\",\"probabilities\":[0.2312238", ",0.6285317", ",0.1402443" } },
        { "POST", "/predict", "{\"features\":[3,-0.5],\"model\":\"sum\"}", 200, { "{\"prediction\":2.75,\"latency_ms\"" } },
        { "POST", "/predict", "{\"features\":[ 0.3e1 ,\n-5E-1 ],\"model\":\"sum\"}", 200, { "{\"prediction\":2.75,\"latency_ms\"" } },
        { "POST", "/predict/batch", "{\"instances\":[[1,2],{\"width\":9,\"height\":2}]}", 200,
          { "{\"predictions\":[{\"prediction\":\"b\\\"\"},{\"prediction\":\"a\"}],\"count\":2,\"latency_ms\":" } },
        { "POST", "/predict/batch", "{\"model\":\"sum\",\"instances\":[]}", 200, { "{\"predictions\":[],\"count\":0," } },
    };
    for (size_t i = 0; i < APR_LENGTH(all); i++)
        ask(&all[i]);
}

static void what_is_refused_says_why(void **state)
{
    (void)state;
    static const struct asked all[] = {
        { "POST", "/predict", "", 400, { "\"code\":\"bad_json\"" } },
        { "POST", "/predict", "{", 400, { "bad_json" } },
        { "POST", "/predict", "{\"features\":[1,2]} x", 400, { "bad_json" } },
        { "POST", "/predict", "{\"features\":[1,NaN]}", 400, { "bad_json" } },
        { "POST", "/predict", "{\"features\":[1,2],\"x\":tru}", 400, { "bad_json" } },
        { "POST", "/predict", "{\"features\":[01,2]}", 400, { "bad_json" } },
        { "POST", "/predict", "{\"features\":[1.,2]}", 400, { "bad_json" } },
        { "POST", "/predict", "{\"features\":[.5,2]}", 400, { "bad_json" } },
        { "POST", "/predict", "{\"features\":[+1,2]}", 400, { "bad_json" } },
        { "POST", "/predict", "{\"features\":[1,2,]}", 400, { "bad_json" } },
        { "POST", "/predict", "{\"features\":[1 2]}", 400, { "bad_json" } },
        { "POST", "/predict", "{\"features\":[1,2],\"model\":\"\xff\"}", 400, { "bad_json" } },
        { "POST", "/predict", "[1,2]", 422, { "bad_request" } },
        { "POST", "/predict", "{}", 422, { "\\\"features\\\" is missing" } },
        { "POST", "/predict", "{\"features\":7}", 422, { "bad_request" } },
        { "POST", "/predict", "{\"features\":[1,2],\"features\":[1,2]}", 422, { "features stands twice" } },
        { "POST", "/predict", "{\"features\":[1]}", 422, { "wrong_feature_count", "expected 2 features, found 1" } },
        { "POST", "/predict", "{\"features\":[1,2,3]}", 422, { "expected 2 features, found 3" } },
        { "POST", "/predict", "{\"features\":[1,\"2\"]}", 422, { "bad_value", "feature 1" } },
        { "POST", "/predict", "{\"features\":[1,true]}", 422, { "bad_value" } },
        { "POST", "/predict", "{\"features\":[1,1e999]}", 422, { "not_finite", "1e999" } },
        { "POST", "/predict", "{\"features\":[1.7e308,1.7e308],\"model\":\"sum\"}", 422, { "no_finite_answer" } },
        { "POST", "/predict", "{\"features\":{\"width\":1}}", 422, { "missing_feature", "height" } },
        { "POST", "/predict", "{\"features\":{\"depth\":1}}", 422, { "unknown_feature", "depth" } },
        { "POST", "/predict", "{\"features\":{\"width\":1,\"width\":2,\"height\":1}}", 422, { "width", "twice" } },
        { "POST", "/predict", "{\"features\":{\"width\":1},\"model\":\"sum\"}", 422, { "knows no names" } },
        { "POST", "/predict", "{\"features\":[1,2],\"options\":[]}", 422, { "options" } },
        { "POST", "/predict", "{\"features\":[1,2],\"options\":{\"return_probabilities\":1}}", 422, { "return_probabilities" } },
        { "POST", "/predict", "{\"features\":[1,2],\"model\":\"none\"}", 404, { "unknown_model", "none" } },
        { "POST", "/predict", "{\"features\":[1,2],\"model\":null}", 422, { "model" } },
        { "POST", "/predict/batch", "{\"instances\":[[1,2],[3]]}", 422, { "instance 1: expected 2 features, found 1" } },
        { "POST", "/predict/batch", "{\"instances\":{}}", 422, { "instances" } },
        { "POST", "/predict", NULL, 411, { "length_required" } },
        { "GET", "/predict", NULL, 405, { "method_not_allowed" } },
        { "DELETE", "/health", NULL, 405, { "method_not_allowed" } },
        { "GET", "/none\x1b", NULL, 404, { "not_found", "\\\\x1b" } },
    };
    for (size_t i = 0; i < APR_LENGTH(all); i++)
        ask(&all[i]);
}

static void heads_are_enough_to_refuse(void **state)
{
    (void)state;
    const struct {
        struct request q;
        unsigned       code;
        bool           at_once, closes;
    } all[] = {
        { { "POST", "/predict", "text/csv", .has_length = true, .length = 3 }, 415, false, false },
        { { "POST", "/predict", "application/jsonx", .has_length = true, .length = 3 }, 415, false, false },
        { { "POST", "/predict", NULL, "gzip", .has_length = true, .length = 3 }, 415, false, false },
        { { "POST", "/predict", NULL, .has_length = true, .length = 4097 }, 413, true, true },
        { { "POST", "/predict", NULL, .has_length = true, .length = 3, .unclear = true }, 400, true, true },
        { { "GET", "/health", NULL, .has_length = true, .length = 3, .unclear = true }, 400, true, true },
        { { "POST", "/predict", NULL, .crowded = true, .has_length = true, .length = 3 }, 503, true, true },
        { { "GET", "/health", NULL, .crowded = true }, 503, true, true },
    };
    bool at_once;
    struct reply r;
    for (size_t i = 0; i < APR_LENGTH(all); i++) {
        assert_true(server_refuses(&server, &all[i].q, &r, &at_once));
        assert_int_equal(r.code, all[i].code);
        assert_int_equal(at_once, all[i].at_once);
        assert_int_equal(r.closes, all[i].closes);
        free(r.text);
    }
    const struct request charset = { "POST", "/predict", "Application/JSON; charset=utf-8", "identity", .has_length = true, .length = 3 };
    assert_false(server_refuses(&server, &charset, &r, &at_once));
}

static void a_batch_has_ten_thousand_rows_at_most(void **state)
{
    (void)state;
    struct test_bytes body = { 0 };
    server.most_body = 1 << 20;
    test_text(&body, "{\"model\":\"sum\",\"instances\":[[1,2]");
    for (unsigned i = 1; i < 10000; i++)
        test_text(&body, ",[1,2]");
    const size_t n = body.n;
    test_put(&body, "]}", 3);
    ask(&(struct asked){ "POST", "/predict/batch", (const char *)body.at, 200, { "\"count\":10000" } });
    body.n = n;
    test_put(&body, ",[1,2]]}", 9);
    ask(&(struct asked){ "POST", "/predict/batch", (const char *)body.at, 413, { "too_many_instances" } });
    test_free(&body);
    server.most_body = 4096;
}

static void the_others_tell_what_is_served(void **state)
{
    (void)state;
    ask(&(struct asked){ "GET", "/health", NULL, 200, { "{\"status\":\"ok\"}" } });
    ask(&(struct asked){ "GET", "/ready", NULL, 200, { "{\"status\":\"ready\",\"models\":2}" } });
    ask(&(struct asked){ "GET", "/models", NULL, 200,
        { "{\"models\":[{\"name\":\"kinds\",\"model_type\":\"logistic_regression\",\"inputs\":2,\"outputs\":3,"
          "\"classes\":[\"a\",\"b\\\"\",3],"
          "\"features\":[\"width\",\"height\"],\"version\":\"aaaa", "\"name\":\"sum\"", "\"classes\":[],\"features\":[]" } });
    atomic_store(&server.draining, true);
    ask(&(struct asked){ "GET", "/ready", NULL, 503, { "draining" } });
    ask(&(struct asked){ "GET", "/health", NULL, 200, { "ok" } });
    atomic_store(&server.draining, false);
}

static void what_is_counted_is_told(void **state)
{
    (void)state;
    linear_server_end(&server);
    linear_server_begin(&server);
    ask(&(struct asked){ "POST", "/predict", "{\"features\":[1,2]}", 200, { NULL } });
    ask(&(struct asked){ "POST", "/predict/batch", "{\"model\":\"sum\",\"instances\":[[1,2],[3,4]]}", 200, { NULL } });
    ask(&(struct asked){ "POST", "/predict", "{\"features\":[1]}", 422, { NULL } });
    metrics_begin_request(&server.metrics);
    metrics_begin_request(&server.metrics);
    metrics_end_request(&server.metrics, ON_PREDICT, 200, 40000);
    ask(&(struct asked){ "GET", "/metrics", NULL, 200,
        { "\napr_requests_total{endpoint=\"/predict\",code=\"200\"} 1\n",
          "{le=\"2.5e-05\"} 0\napr_request_duration_seconds_bucket{le=\"5e-05\"} 1\n",
          "{le=\"+Inf\"} 1\napr_request_duration_seconds_sum 4e-05\napr_request_duration_seconds_count 1\n",
          "\napr_predictions_total{model=\"kinds\"} 1\napr_predictions_total{model=\"sum\"} 2\n" } });
    ask(&(struct asked){ "GET", "/metrics", NULL, 200,
        { "\napr_in_flight 1\n", "\napr_errors_total{kind=\"wrong_feature_count\"} 1\n", "\nprocess_resident_memory_bytes ",
          "\nprocess_start_time_seconds 1.5\n" } });
}

static void count_told(void *ctx, const struct apr_error *e)
{
    ++*(unsigned *)ctx;
    assert_true(strstr(e->file, "nowhere") != NULL);
}

static void standard_input_is_not_read_again(void **state)
{
    (void)state;
    static const char *const path[] = { "-", "nowhere.apr" };
    unsigned told = 0;
    server.catalog.path = path;
    server.catalog.run = test_run_with(1);
    catalog_renew(&server.catalog, count_told, &told);
    assert_int_equal(told, 1);
    ask(&(struct asked){ "GET", "/ready", NULL, 200, { "\"models\":2" } });
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_answered_by_place_and_by_name),
        cmocka_unit_test(what_is_refused_says_why),
        cmocka_unit_test(heads_are_enough_to_refuse),
        cmocka_unit_test(a_batch_has_ten_thousand_rows_at_most),
        cmocka_unit_test(the_others_tell_what_is_served),
        cmocka_unit_test(what_is_counted_is_told),
        cmocka_unit_test(standard_input_is_not_read_again),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
