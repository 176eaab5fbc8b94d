/* Any bytes as a recipe, as an option of a rule, and its lines as names that a recipe is written of, which is read again. */
#include "fuzz.h"

#include <string.h>
#include <strings.h>

#include "convert/recipe.h"

#define MOST_NAMES 64

static const struct apr_dtype *type_named(const void *ctx, const char *word)
{
    (void)ctx;
    for (size_t i = 0; i < APR_NDTYPES; i++)
        if (strcasecmp(apr_dtypes[i].name, word) == 0)
            return &apr_dtypes[i];
    return NULL;
}

static struct apr_recipe empty(void) { return (struct apr_recipe){ .type = type_named }; }

/* Asks for each name; what it finds is one of the rules, which then has matched. False once matching has taken too long. */
static bool ask(struct apr_recipe *r, struct apr_bytes name)
{
    const struct apr_recipe_rule *rule;
    struct apr_error e;
    const enum apr_code code = apr_recipe_find(r, name, apr_text("blk.0.ffn_up.weight"), &rule, &e);
    if (code != APR_OK) {
        fuzz_expect_error(code, &e);
        return false;
    }
    if (rule == NULL)
        return true;
    fuzz_expect(rule >= r->rule && rule < r->rule + r->n && rule->used > 0);
    fuzz_expect(!apr_recipe_idle(r, (size_t)(rule - r->rule), &e));
    return true;
}

static void touch_rules(struct apr_bytes text)
{
    struct apr_recipe r = empty();
    struct apr_error e;
    const enum apr_code code = apr_recipe_read(&r, "fuzz", text, &e);
    if (code != APR_OK) {
        fuzz_expect_error(code, &e);
        fuzz_expect(strncmp(e.text, "line ", 5) == 0 && strstr(e.text, ", column ") != NULL && strcmp(e.file, "fuzz") == 0);
    }
    fuzz_expect(r.n == apr_patterns_count(r.match));
    if (code == APR_OK && ask(&r, apr_text("model.layers.0.mlp.up_proj.weight")) && ask(&r, apr_text("")) && r.n > 0)
        ask(&r, apr_patterns_text(r.match, 0));
    apr_recipe_free(&r);
}

static void touch_option(struct apr_bytes text)
{
    struct apr_recipe r = empty();
    struct apr_error e;
    char *const option = strndup((const char *)text.at, text.n);
    fuzz_expect(option != NULL);
    const enum apr_code code = apr_recipe_add(&r, option, &e);
    fuzz_expect(r.n == (code == APR_OK));
    if (code != APR_OK)
        fuzz_expect_error(code, &e);
    free(option);
    apr_recipe_free(&r);
}

static size_t split(struct apr_bytes text, struct apr_recipe_line line[MOST_NAMES])
{
    size_t n = 0;
    while (text.n > 0 && n < MOST_NAMES) {
        const unsigned char *const end = memchr(text.at, '\n', text.n);
        const size_t length = end == NULL ? text.n : (size_t)(end - text.at), taken = length + (end != NULL);
        line[n] = (struct apr_recipe_line){ { text.at, length }, n % 3 == 0 ? NULL : &apr_dtypes[n % APR_NDTYPES] };
        text = (struct apr_bytes){ text.at + taken, text.n - taken };
        n++;
    }
    return n;
}

/* Each name has the dtype that it was written with: a name that stands twice that of the first. */
static void touch_names(struct apr_bytes names)
{
    struct apr_recipe_line line[MOST_NAMES];
    struct apr_recipe r = empty();
    struct apr_bytes text;
    struct apr_error e;
    const struct apr_recipe_rule *rule;
    const size_t n = split(names, line);
    const enum apr_code code = apr_recipe_write(&text, "", line, n, &e);
    if (code != APR_OK) {
        fuzz_expect_error(code, &e);
        return;
    }
    fuzz_expect(apr_recipe_read(&r, "fuzz", text, &e) == APR_OK && r.n == n);
    for (size_t i = 0; i < n; i++) {
        fuzz_expect(apr_recipe_find(&r, line[i].name, (struct apr_bytes){ 0 }, &rule, &e) == APR_OK && rule != NULL);
        const size_t k = (size_t)(rule - r.rule);
        fuzz_expect(k <= i && apr_bytes_equal(line[k].name, line[i].name) && rule->dtype == line[k].dtype);
    }
    free((void *)(uintptr_t)text.at);
    apr_recipe_free(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    const struct apr_bytes text = { bytes, n };
    touch_rules(text);
    touch_option(text);
    touch_names(text);
    return 0;
}
