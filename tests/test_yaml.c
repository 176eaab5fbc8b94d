/* lib/family/yaml.h: the YAML of contracts, recipes and tolerances, and what is refused of the rest. */
#include "support.h"

#include <stdio.h>

#include "base/bytes.h"
#include "family/yaml.h"

static struct apr_yaml_document *parse(const char *text)
{
    struct apr_yaml_document *d;
    struct apr_error e;
    if (apr_yaml_parse(&d, apr_text(text), &e) != APR_OK)
        fail_msg("%s\n%s", text, e.text);
    return d;
}

/* {a: [b, "c"]} as {a:[b,"c"]}: what is quoted stands in double quotes again. */
static void spell(const struct apr_yaml *node, struct test_bytes *to)
{
    static const char *const around[][2] = {
        [APR_YAML_SCALAR] = { "", "" }, [APR_YAML_LIST] = { "[", "]" }, [APR_YAML_MAP] = { "{", "}" },
    };
    test_text(to, node->quoted ? "\"" : around[node->kind][0]);
    test_put(to, node->text.at, node->text.n);
    for (const struct apr_yaml *child = node->child; child != NULL; child = child->next) {
        test_put(to, child->key.at, child->key.n);
        test_text(to, node->kind == APR_YAML_MAP ? ":" : "");
        spell(child, to);
        test_text(to, child->next == NULL ? "" : ",");
    }
    test_text(to, node->quoted ? "\"" : around[node->kind][1]);
}

static void documents_become_trees(void **state)
{
    (void)state;
    static const struct { const char *text, *tree; } rows[] = {
        { "a", "a" }, { "", "" }, { "---", "" }, { "# only a remark\n", "" }, { "'a'", "\"a\"" }, { "\"a\\tb\"", "\"a\tb\"" },
        { "'it''s'", "\"it's\"" },
        { "[]", "[]" }, { "{}", "{}" }, { "[a, 'b', \"c\"]", "[a,\"b\",\"c\"]" }, { "- a\n- b\n", "[a,b]" },
        { "a: 1\nb: 2\n", "{a:1,b:2}" },
        { "a:\n  - {b: c, d: [e, f]}\n  - g\nh:\n", "{a:[{b:c,d:[e,f]},g],h:}" }, { "a: |\n  x\n  y\n", "{a:\"x\ny\n\"}" },
        { "a: x\n  y\n", "{a:x y}" },
        { "V: {keys: [vocab_size]}\nD: H / A\n", "{V:{keys:[vocab_size]},D:H / A}" }, { "when: E == 0", "{when:E == 0}" },
        { "{role: q, shape: [A*D, H],\n  transform: {op: rope_permute, heads: A}}",
          "{role:q,shape:[A*D,H],transform:{op:rope_permute,heads:A}}" },
        { "default: \"'none'\"", "{default:\"'none'\"}" }, { "{gguf: \"{a}.block_count\"}", "{gguf:\"{a}.block_count\"}" },
        { "skip: [\"*.attn.bias\"]", "{skip:[\"*.attn.bias\"]}" }, { "when: has(a.b)", "{when:has(a.b)}" }, { "\"<<\": 1", "{<<:1}" },
        { "? a\n: b", "{a:b}" },
        { "{a, b}", "{a:,b:}" }, { "[a: b]", "[{a:b}]" }, { "---\na\n...\n", "a" },
        { "a: 50%\nb%: [c%, \"%d\"]\n", "{a:50%,b%:[c%,\"%d\"]}" }, { "\xef\xbb\xbf" "a: b\nc: d\n", "{a:b,c:d}" },
        { "a: \xc3\xa4", "{a:\xc3\xa4}" },
        { "\r\na: b\r\nc: d\r\n", "{a:b,c:d}" }, { "'': 1", "{:1}" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_yaml_document *d = parse(rows[i].text);
        struct test_bytes tree = { 0 };
        spell(apr_yaml_root(d), &tree);
        test_text(&tree, "");
        assert_string_equal((const char *)tree.at, rows[i].tree);
        test_free(&tree);
        apr_yaml_free(d);
    }
}

static void nodes_know_their_place_and_maps_their_keys(void **state)
{
    (void)state;
    struct apr_yaml_document *d = parse("# a remark\nschema: x\ntensors:\n  - {role: a,\n     hf: b}\n"
                                        "  - role: c\n    shape:\n      [d]\nlast: 'e'\n");
    const struct apr_yaml *const root = apr_yaml_root(d), *const tensors = apr_yaml_get(root, "tensors");
    assert_int_equal(root->line, 2);
    assert_int_equal(root->n, 3);
    assert_int_equal(apr_yaml_get(root, "schema")->line, 2);
    assert_int_equal(tensors->line, 3);
    assert_int_equal(tensors->n, 2);
    assert_int_equal(tensors->child->line, 4);
    assert_int_equal(apr_yaml_get(tensors->child, "hf")->line, 5);
    assert_int_equal(apr_yaml_get(tensors->child->next, "shape")->line, 7);
    assert_int_equal(apr_yaml_get(tensors->child->next, "shape")->child->line, 8);
    const struct apr_yaml *const shape = apr_yaml_get(tensors->child->next, "shape"), *const hf = apr_yaml_get(tensors->child, "hf");
    assert_int_equal(hf->column, 6);
    assert_int_equal(hf->value_column, 10);
    assert_int_equal(shape->column, 5);
    assert_int_equal(shape->value_line, 8);
    assert_int_equal(shape->value_column, 7);
    assert_int_equal(shape->child->column, 8);
    assert_string_equal((const char *)apr_yaml_get(root, "last")->text.at, "e");
    assert_true(apr_yaml_get(root, "last")->quoted);
    assert_false(apr_yaml_get(root, "schema")->quoted);
    assert_null(apr_yaml_get(root, "las"));
    assert_null(apr_yaml_get(root, ""));
    assert_null(apr_yaml_get(tensors, "role"));
    assert_null(apr_yaml_get(apr_yaml_get(root, "none"), "role"));
    apr_yaml_free(d);
    apr_yaml_free(NULL);
}

static void the_tree_outlives_its_text(void **state)
{
    (void)state;
    char text[] = "a: bcd";
    struct apr_yaml_document *d = parse(text);
    memset(text, 'x', sizeof text - 1);
    assert_string_equal((const char *)apr_yaml_get(apr_yaml_root(d), "a")->text.at, "bcd");
    apr_yaml_free(d);
}

static void faults_are_told_with_their_line(void **state)
{
    (void)state;
#define T(text) { text, sizeof text - 1 }
    static const struct { struct { const char *at; size_t n; } text; unsigned line; const char *words; } rows[] = {
        { T("a: &x 1\n"), 1, "anchors are not accepted: &x" }, { T("- a\n- &x [b]\n"), 2, "anchors are not accepted" },
        { T("a: 1\nb: &m {c: d}\n"), 2, "anchors" }, { T("&k a: 1\n"), 1, "anchors" },
        { T("- a\n\n- *x\n"), 3, "aliases are not accepted: *x" },
        { T("a: !!str 1\n"), 1, "tags are not accepted" }, { T("- a\n- !new [b]\n"), 2, "tags are not accepted: !new" },
        { T("! {a: b}"), 1, "tags" },
        { T("a: 1\n<<: {b: 2}\n"), 2, "merge keys" }, { T("a\n---\nb\n"), 2, "a second document" },
        { T("a: 1\n...\n---\nb: 1\n"), 3, "a second document" },
        { T("a: 1\nb: 2\na: 3\n"), 3, "a second key \"a\"" }, { T("x: {c: 1, d: 2,\n  c: 3}\n"), 2, "a second key \"c\"" },
        { T("b: 1\na: 1\nb: 2\na: 2\nb: 3\n"), 3, "a second key \"b\"" }, { T("a: 1\n\"a\": 2\n"), 2, "a second key \"a\"" },
        { T("'': 1\n'': 2\n"), 2, "a second key \"\"" },
        { T("a: 1\n? [b]\n: 2\n"), 2, "a map or a list as a key" }, { T("{{a: b}: c}"), 1, "a map or a list as a key" },
        { T("a: \"x\\0y\"\n"), 1, "a NUL character" }, { T("\n\"\\0\": y\n"), 2, "a NUL character" },
        { T("a: b\nc: d\0e\n"), 2, "control characters" },
        { T("a: b\nc: \x01\n"), 2, "control characters" }, { T("a: b\n\nc: \xff\n"), 3, "invalid leading UTF-8" },
        { T("\xff\xfe" "a\0"), 1, "UTF-8" },
        { T("a: 'b\n"), 2, "" }, { T("a: \"b\n\n"), 3, "" }, { T("[a, b\n"), 2, "" }, { T("{a: b\n"), 2, "" },
        { T("a: b: c\n"), 1, "mapping values" },
        { T("a: b\n\tc: d\n"), 2, "" }, { T("a: [b]]\n"), 1, "" }, { T("a: b\n- c\n"), 2, "" }, { T("a:\n  b: 1\n c: 2\n"), 3, "" },
        { T("a: @b\n"), 1, "" },
        { T("%YAML 1.1\n---\na\n"), 1, "directives" }, { T("# a\n\n%TAG ! x\n---\na\n"), 3, "directives" },
        { T("a\n...\n%TAG ! x\n"), 3, "directives" },
        { T("a: 1\n%TAG ! x\n"), 2, "directives" }, { T("# a\r%TAG ! x\n"), 1, "directives" },
        { T("# a\xc2\x85%TAG ! x\n"), 1, "directives" },
        { T("# a\xe2\x80\xa8%TAG ! x\n"), 1, "directives" }, { T("\xef\xbb\xbf%TAG ! x\n"), 1, "directives" },
        { T("[a,\n%b]"), 2, "directives" },
    };
#undef T
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_yaml_document *d;
        struct apr_error e;
        char place[32];
        const int n = snprintf(place, sizeof place, "line %u, column ", rows[i].line);
        const enum apr_code code = apr_yaml_parse(&d, (struct apr_bytes){ (const unsigned char *)rows[i].text.at, rows[i].text.n }, &e);
        if (code != APR_EARG || d != NULL || strncmp(e.text, place, (size_t)n) != 0 || strstr(e.text, rows[i].words) == NULL)
            fail_msg("%s\n%d %s", rows[i].text.at, code, code == APR_OK ? "" : e.text);
    }
}

static void faults_are_told_with_their_column_in_characters(void **state)
{
    (void)state;
    static const struct { const char *text, *place; } rows[] = {
        { "a: &x 1\n", "line 1, column 4: anchors" }, { "- a\n- {\xc3\xa4: *x}\n", "line 2, column 7: aliases" },
        { "{\xc3\xa4: 1, \xc3\xa4: 2}", "line 1, column 8: a second key" }, { "a: b\nc: \xc3\xa4\x01\n", "line 2, column 5: control" },
        { "a: b\nc: d\xff\n", "line 2, column 5: invalid" }, { "a: b: c\n", "line 1, column 5: mapping" },
        { "# a\n  %TAG\n%TAG ! x\n", "line 3, column 1: a line begins" }, { "a:\n  !!str b", "line 2, column 3: tags" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_yaml_document *d;
        struct apr_error e;
        assert_int_equal(apr_yaml_parse(&d, apr_text(rows[i].text), &e), APR_EARG);
        if (strncmp(e.text, rows[i].place, strlen(rows[i].place)) != 0)
            fail_msg("%s\n%s", rows[i].text, e.text);
    }
}

static void bombs_are_refused(void **state)
{
    (void)state;
    static const struct { const char *before, *piece, *after; unsigned most; const char *words; } rows[] = {
        { "", "[", "", 63, "did not find expected" }, { "", "[", "", 1000000, "more than 64 levels deep" },
        { "", "{a: ", "", 100000, "more than 64 levels" },
        { "", "- ", "", 100000, "more than 64 levels deep" }, { "a: &a [x]\nb: ", "[*a, *a, ", "", 9, "anchors" },
        { "[", "[[]],", "]", 499999, NULL },
        { "[", "[[]],", "]", 500000, "more than 1000000 nodes" }, { "", "# a remark\n", "", 1525201, NULL },
        { "", "# a remark\n", "", 1525202, "more than 16 MiB" },
        { "a: ", "x", "\n", 1 << 20, NULL }, { "", "%TAG !a x\n", "--- []\n", 55000, "directives" }, { "", "x", ": 1\n", 5000, "line " },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_bytes b = { 0 };
        struct apr_yaml_document *d;
        struct apr_error e;
        test_text(&b, rows[i].before);
        for (unsigned n = 0; n < rows[i].most; n++)
            test_text(&b, rows[i].piece);
        test_text(&b, rows[i].after);
        const enum apr_code code = apr_yaml_parse(&d, (struct apr_bytes){ b.at, b.n }, &e);
        if (code != (rows[i].words == NULL ? APR_OK : APR_EARG) || (code != APR_OK && strstr(e.text, rows[i].words) == NULL))
            fail_msg("%.20s... %u times: %d %s", rows[i].piece, rows[i].most, code, code == APR_OK ? "" : e.text);
        apr_yaml_free(d);
        test_free(&b);
    }
}

/* A map of n keys that come in no order, the first of them once more behind them when asked for. */
static struct test_bytes many_keys(unsigned n, bool twin)
{
    struct test_bytes b = { 0 };
    for (unsigned i = 0; i < n + twin; i++) {
        char line[32];
        snprintf(line, sizeof line, "k%08x: %u\n", (i % n) * 2654435761u, i);
        test_text(&b, line);
    }
    return b;
}

static void a_map_of_very_many_keys_costs_no_square(void **state)
{
    (void)state;
    for (unsigned twin = 0; twin < 2; twin++) {
        struct test_bytes b = many_keys(100000, twin);
        struct apr_yaml_document *d;
        struct apr_error e;
        assert_int_equal(apr_yaml_parse(&d, (struct apr_bytes){ b.at, b.n }, &e), twin ? APR_EARG : APR_OK);
        if (twin)
            assert_string_equal(e.text, "line 100001, column 1: a second key \"k00000000\"");
        apr_yaml_free(d);
        test_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documents_become_trees),
        cmocka_unit_test(nodes_know_their_place_and_maps_their_keys),
        cmocka_unit_test(the_tree_outlives_its_text),
        cmocka_unit_test(faults_are_told_with_their_line),
        cmocka_unit_test(faults_are_told_with_their_column_in_characters),
        cmocka_unit_test(bombs_are_refused),
        cmocka_unit_test(a_map_of_very_many_keys_costs_no_square),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
