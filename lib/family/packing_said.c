#include "family/packing_said.h"

#include <jansson.h>
#include <string.h>

#include "base/bytes.h"
#include "base/regex.h"
#include "family/packing.h"
#include "model/hf_config.h"

/* ---- reading -------------------------------------------------------------------------------------------------------- */

const char *const apr_packing_keys[] = { "quantization_config", "quantization", "compression_config", NULL };

const struct json_t *apr_said_section(const struct apr_hf_config *c)
{
    for (size_t i = 0; apr_packing_keys[i] != NULL; i++) {
        const json_t *const found = apr_hf_config_json(c, apr_text(apr_packing_keys[i]));
        if (json_is_object(found))
            return found;
    }
    return NULL;
}

bool apr_said_any(const struct apr_hf_config *config) { return apr_said_section(config) != NULL; }

static const char *word_at(const json_t *object, const char *key)
{
    const char *const word = json_string_value(json_object_get(object, key));
    return word == NULL ? "" : word;
}

static void is_wrong(struct apr_said *s, const char *key, const json_t *value)
{
    if (s->wrong == NULL) {
        s->wrong = key;
        s->value = value;
    }
}

/* A count that can be meant, or 0 where there is none; -1, "all of a row", is 0 too where that is a size of groups. */
static uint64_t count_at(const json_t *object, const char *key, bool group, struct apr_said *s)
{
    const json_t *const value = json_object_get(object, key);
    const double n = json_number_value(value);
    if (value == NULL || json_is_null(value) || (group && json_is_number(value) && n == -1))
        return 0;
    if (n >= 1 && n <= (double)UINT32_MAX && n == (double)(uint64_t)n)
        return (uint64_t)n;
    is_wrong(s, key, value);
    return 0;
}

static void block_at(const json_t *object, const char *key, struct apr_said *s)
{
    const json_t *const pair = json_object_get(object, key);
    if (pair == NULL || json_is_null(pair))
        return;
    for (size_t i = 0; i < 2; i++) {
        const json_int_t n = json_integer_value(json_array_get(pair, i));
        s->block[i] = n > 0 && n <= UINT32_MAX ? (uint64_t)n : 0;
    }
    s->strategy = APR_STRATEGY_BLOCK;
    if (s->block[0] == 0 || s->block[1] == 0 || json_array_size(pair) != 2)
        is_wrong(s, key, pair);
}

static enum apr_strategy strategy_at(const json_t *weights)
{
    static const struct {
        const char       *word;
        enum apr_strategy is;
    } known[] = { { "tensor", APR_STRATEGY_TENSOR },     { "channel", APR_STRATEGY_CHANNEL },      { "group", APR_STRATEGY_GROUP },
                  { "block", APR_STRATEGY_BLOCK },       { "tensor_group", APR_STRATEGY_GROUP } };
    for (size_t i = 0; i < APR_LENGTH(known); i++)
        if (strcmp(word_at(weights, "strategy"), known[i].word) == 0)
            return known[i].is;
    return APR_STRATEGY_ANY;
}

/* One of compressed-tensors' groups. "actorder" is false, true or a word, of which two sort columns before they are packed. */
static struct apr_said group_said(const json_t *group)
{
    const json_t *const weights = json_object_get(group, "weights"), *const order = json_object_get(weights, "actorder");
    const char *const word = word_at(weights, "actorder");
    struct apr_said s = { .strategy = strategy_at(weights), .any = true };
    s.bits = (unsigned)apr_min(count_at(weights, "num_bits", false, &s), 99);
    s.group = count_at(weights, "group_size", true, &s);
    s.zeros = json_is_false(json_object_get(weights, "symmetric"));
    s.order = json_is_true(order) || strcmp(word, "group") == 0 || strcmp(word, "dynamic") == 0;
    block_at(weights, "block_structure", &s);
    if (s.strategy == APR_STRATEGY_BLOCK && s.block[0] == 0)
        s.strategy = APR_STRATEGY_ANY;
    return s;
}

/* What it says of zeros and of the order of columns: "sym" and "desc_act" are GPTQ's, "zero_point" AWQ's. */
static void sides_at(const json_t *object, struct apr_said *s)
{
    const json_t *const sym = json_object_get(object, "sym"), *const zero = json_object_get(object, "zero_point");
    const json_t *const order = json_object_get(object, "desc_act");
    if (json_is_boolean(sym) || json_is_boolean(zero)) {
        s->zeros = json_is_false(sym) || json_is_true(zero);
        s->no_zeros = !s->zeros;
    }
    if (json_is_boolean(order))
        s->order = json_is_true(order);
}

/* What stands in one object for all, or, after what is said for all, for some modules. */
static struct apr_said plain_said(const json_t *object, struct apr_said s)
{
    const uint64_t bits = count_at(object, "bits", false, &s), group = count_at(object, "group_size", true, &s);
    const char *const method = word_at(object, "quant_method"), *const mode = word_at(object, "mode");
    s.bits = bits > 0 ? (unsigned)apr_min(bits, 99) : s.bits;
    if (json_object_get(object, "group_size") != NULL)
        s.group = group;
    s.any |= object != NULL;
    s.awq |= strcmp(method, "awq") == 0 || strstr(word_at(object, "packing_format"), "awq") != NULL;
    s.gptq |= strcmp(method, "gptq") == 0 || strstr(word_at(object, "packing_format"), "gptq") != NULL;
    s.v2 |= strcmp(word_at(object, "checkpoint_format"), "gptq_v2") == 0;
    s.floats = strcmp(mode, "nvfp4") == 0 ? 16 : strcmp(mode, "mxfp4") == 0 ? 32 : s.floats;
    sides_at(object, &s);
    block_at(object, "weight_block_size", &s);
    return s;
}

/* ---- which is meant ------------------------------------------------------------------------------------------------- */

/* Does the expression match at the start of the name? One that is none, or takes too long, does not. */
static bool expression_matches(const char *text, struct apr_bytes module)
{
    struct apr_regex *x;
    struct apr_error ignored;
    uint64_t work = 100000;
    bool yes = false;
    char anchored[512];
    const size_t n = strlen(text);
    if (n + 6 > sizeof anchored)
        return false;
    memcpy(anchored, "^(?:", 4);
    memcpy(anchored + 4, text, n);
    memcpy(anchored + 4 + n, ")", 2);
    if (apr_regex_new(&x, apr_text(anchored), &ignored) != APR_OK)
        return false;
    if (apr_regex_matches(x, module, &work, &yes, &ignored) != APR_OK)
        yes = false;
    apr_regex_free(x);
    return yes;
}

/* How well a target names the module: 2 by its name, 1 by the class of layers that it may be, 0 not at all. */
static unsigned match_target(const char *target, struct apr_bytes module)
{
    const size_t n = strlen(target);
    if (strncmp(target, "re:", 3) == 0)
        return expression_matches(target + 3, module) ? 2 : 0;
    if (strchr(target, '.') == NULL && n > 0 && target[0] >= 'A' && target[0] <= 'Z')
        return 1;
    return n > 0 && n <= module.n && memcmp(module.at + module.n - n, target, n) == 0 ? 2 : 0;
}

static unsigned match_group(const json_t *group, struct apr_bytes module)
{
    const json_t *const targets = json_object_get(group, "targets");
    unsigned best = 0;
    for (size_t i = 0; i < json_array_size(targets) && i < 256; i++) {
        const char *const target = json_string_value(json_array_get(targets, i));
        const unsigned how = target == NULL ? 0 : match_target(target, module);
        best = how > best ? how : best;
    }
    return best;
}

static size_t groups_said(const json_t *groups, struct apr_bytes module, struct apr_said *said, size_t most)
{
    const bool one = json_object_size(groups) == 1; /* whatever it is for, nothing else may be meant */
    size_t n = 0;
    for (unsigned how = one ? 1 : 3; how-- > 0;) {
        const char *key;
        json_t *group;
        json_object_foreach((json_t *)(uintptr_t)groups, key, group)
            if (n < most && (one || match_group(group, module) == how))
                said[n++] = group_said(group);
    }
    return n;
}

/* GPTQ's "dynamic": "+:EXPRESSION", "EXPRESSION" or "-:EXPRESSION" to what is otherwise for the modules that match. */
static size_t dynamic_said(const json_t *dynamic, struct apr_said all, struct apr_bytes module, struct apr_said *said, size_t most)
{
    const char *key;
    json_t *value;
    size_t n = 0;
    json_object_foreach((json_t *)(uintptr_t)dynamic, key, value)
        if (n < most && key[0] != '-' && json_is_object(value) && expression_matches(strncmp(key, "+:", 2) == 0 ? key + 2 : key, module))
            said[n++] = plain_said(value, all);
    return n;
}

/* A member that is called as the module is; prefixes that only one of the two has ("language_model.") are no difference. */
static const json_t *member_of(const json_t *object, struct apr_bytes module)
{
    for (size_t i = 0; i < module.n; i++)
        if (i == 0 || module.at[i - 1] == '.') {
            const json_t *const found = json_object_getn(object, (const char *)module.at + i, module.n - i);
            if (json_is_object(found))
                return found;
        }
    return NULL;
}

size_t apr_said_of(const struct apr_hf_config *config, struct apr_bytes module, struct apr_said *said, size_t most)
{
    const json_t *const object = apr_said_section(config), *const groups = json_object_get(object, "config_groups");
    const json_t *const own = member_of(object, module);
    const struct apr_said all = plain_said(object, (struct apr_said){ 0 });
    size_t n = 0;
    if (own != NULL)
        said[n++] = plain_said(own, all);
    n += dynamic_said(json_object_get(object, "dynamic"), all, module, said + n, most - n);
    if (n == 0)
        n = groups_said(groups, module, said, most);
    if (n == 0)
        said[n++] = all;
    return n;
}
