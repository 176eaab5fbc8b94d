/* Which method of packing config.json names, and whether anything here reads that. */
#include <jansson.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "family/packing_said.h"

/* What a key may say, where other tensors would come of anything else; NULL ends the words. A key that is absent, null or empty says nothing.
 *   told  in front of a word that is not known */
struct words {
    const char *key, *told;
    const char *word[12];
};

static const struct words method_words = { "quant_method", "",
    { "fp8", "fbgemm_fp8", "modelopt", "modelopt_fp4", "compressed-tensors", "gptq", "awq", "bitsandbytes", "mxfp4", "finegrained_fp8", "auto-round" } };
static const struct words other_method_words = { "quant_method", "", { "compressed_tensors", "mlx", "modelopt_fp8", "modelopt_mixed" } };
static const struct words gptq_words = { "checkpoint_format", "gptq ", { "gptq", "gptq_v2" } };
static const struct words awq_words = { "version", "awq ", { "gemm" } };
static const struct words mode_words = { "mode", "mode ", { "affine", "mxfp4", "nvfp4" } };
static const struct words algorithm_words = { "quant_algo", "quant_algo ",
    { "FP8", "FP8_PER_CHANNEL_PER_TOKEN", "FP8_PB_WO", "FP8_PB_REAL_QUANT", "NVFP4", "W4A16_NVFP4", "MXFP4", "MIXED_PRECISION" } };
static const struct words format_words = { "format", "format ",
    { "dense", "int-quantized", "float-quantized", "naive-quantized", "pack-quantized", "nvfp4-pack-quantized", "mxfp4-pack-quantized",
      "mixed-precision" } };
static const struct words sparse_words = { "format", "format ", { "dense" } };
static const struct words type_words = { "type", "type ", { "int", "float" } };
static const struct words strategy_words = { "strategy", "strategy ", { "tensor", "channel", "group", "block", "tensor_group" } };

static bool is_known(const struct words *w, const char *word)
{
    for (size_t i = 0; i < APR_LENGTH(w->word) && w->word[i] != NULL; i++)
        if (strcasecmp(word, w->word[i]) == 0)
            return true;
    return false;
}

/* The text of what is not known, after `before` and what the words have in front; false: all is. What should be a word and is none is not known either. */
static bool is_strange(const json_t *object, const struct words *w, const char *before, struct apr_error *text)
{
    const json_t *const value = json_object_get(object, w->key);
    const char *const word = json_string_value(value);
    if (value == NULL || json_is_null(value) || (word != NULL && (*word == 0 || is_known(w, word))))
        return false;
    apr_fail(text, APR_OK, APR_NOWHERE, "%s%s%s", before, w->told, word == NULL ? "that is no word" : word);
    return true;
}

/* compressed-tensors' groups, and the sparsity that may stand beside them. */
static bool groups_are_strange(const json_t *object, struct apr_error *text)
{
    json_t *const groups = json_object_get(object, "config_groups");
    const char *key;
    json_t *group;
    if (is_strange(object, &format_words, "compressed-tensors ", text) ||
        is_strange(json_object_get(object, "sparsity_config"), &sparse_words, "compressed-tensors sparsity_config ", text))
        return true;
    if (groups != NULL && !json_is_null(groups) && !json_is_object(groups)) {
        apr_fail(text, APR_OK, APR_NOWHERE, "compressed-tensors config_groups that are no object");
        return true;
    }
    json_object_foreach(groups, key, group) {
        char before[160];
        struct apr_error path;
        const json_t *const weights = json_object_get(group, "weights");
        apr_fail(&path, APR_OK, APR_NOWHERE, "compressed-tensors config_groups %.80s ", key);
        memcpy(before, path.text, sizeof before - 1);
        before[sizeof before - 1] = 0;
        if (is_strange(group, &format_words, before, text) || is_strange(weights, &type_words, before, text) ||
            is_strange(weights, &strategy_words, before, text))
            return true;
    }
    return false;
}

static bool names_strange(const json_t *object, const char *method, struct apr_error *text)
{
    if (!is_known(&other_method_words, method) && is_strange(object, &method_words, "", text)) {
        apr_fail(text, APR_OK, APR_NOWHERE, "%s", *method == 0 ? "a quant_method that is no word" : method);
        return true;
    }
    if (strcmp(method, "gptq") == 0)
        return is_strange(object, &gptq_words, "", text);
    if (strcmp(method, "awq") == 0)
        return is_strange(object, &awq_words, "", text);
    if (strncmp(method, "compressed", 10) == 0)
        return groups_are_strange(object, text);
    if (*method == 0 || strncmp(method, "modelopt", 8) == 0)
        return is_strange(object, &algorithm_words, "", text) || is_strange(object, &mode_words, "", text);
    return false;
}

enum apr_code apr_said_method(struct apr_said_method *s, struct apr_arena **a, const struct apr_hf_config *config, struct apr_error *e)
{
    const json_t *const object = apr_said_section(config);
    const char *const word = json_string_value(json_object_get(object, "quant_method")), *const method = word == NULL ? "" : word;
    struct apr_error text;
    *s = (struct apr_said_method){ .word = apr_text(method) };
    if (object == NULL || !names_strange(object, method, &text))
        return APR_OK;
    s->unknown = (const char *)apr_arena_copy(a, apr_text(text.text)).at;
    return s->unknown == NULL ? apr_no_memory(e) : APR_OK;
}
