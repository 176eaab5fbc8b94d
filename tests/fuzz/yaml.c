/* Any bytes as a YAML text: parse it, walk the tree, and compile each scalar as an expression. */
#include "fuzz.h"

#include <math.h>
#include <string.h>

#include "family/yaml.h"

#include "family/expr.h"

/* Names are as many as their letters, so that every branch is taken by somebody. */
static struct apr_result length_of(void *ctx, struct apr_bytes name)
{
    (void)ctx;
    return (struct apr_result){ .known = name.n != 3, .number = (double)name.n, .text = name.n == 4 ? name : (struct apr_bytes){ 0 } };
}

static bool is_short(void *ctx, struct apr_bytes path)
{
    (void)ctx;
    return path.n < 8;
}

static bool is_inside(void *text, struct apr_bytes name)
{
    const struct apr_bytes *const t = text;
    fuzz_expect(name.n > 0 && name.at >= t->at && name.at + name.n <= t->at + t->n);
    return true;
}

static void touch_expression(struct apr_bytes text)
{
    const struct apr_scope scope = { length_of, is_short, NULL };
    struct apr_error e;
    struct apr_expr *x;
    struct apr_bytes name;
    uint64_t size;
    if (apr_expr_new(&x, text, &e) != APR_OK) {
        fuzz_expect(x == NULL && e.code == APR_EARG && e.text[0] != 0);
        return;
    }
    const struct apr_result r = apr_expr_value(x, &scope);
    fuzz_expect(!r.known || r.text.at != NULL || isfinite(r.number));
    fuzz_expect(!apr_expr_size(x, &scope, &size) || (double)size == r.number);
    fuzz_expect(r.known || apr_expr_true(x, &scope, true) != apr_expr_true(x, &scope, false));
    fuzz_expect(!apr_expr_is_name(x, &name) || name.n <= text.n);
    apr_expr_names(x, is_inside, &text);
    apr_expr_free(x);
}

static void touch_tree(const struct apr_yaml *node, unsigned depth)
{
    fuzz_expect(depth < 64 && node->line > 0);
    fuzz_expect(strlen((const char *)node->text.at) == node->text.n);
    touch_expression(node->text);
    size_t n = 0;
    for (const struct apr_yaml *child = node->child; child != NULL; child = child->next, n++) {
        touch_tree(child, depth + (child->kind != APR_YAML_SCALAR));
        fuzz_expect((node->kind == APR_YAML_MAP) == (child->key.at != NULL));
    }
    fuzz_expect(n == node->n);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    const struct apr_bytes text = { bytes, n };
    struct apr_yaml_document *d;
    struct apr_error e;
    if (apr_yaml_parse(&d, text, &e) == APR_OK)
        touch_tree(apr_yaml_root(d), 0);
    else
        fuzz_expect(d == NULL && e.code == APR_EARG && strncmp(e.text, "line ", 5) == 0);
    apr_yaml_free(d);
    touch_expression(text);
    return 0;
}
