/* What the options of a conversion say, and whether they make sense. */
#include "convert/conversion_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/nearest.h"
#include "values/dtype.h"

#define MOST_SHARDS 65535u
#define BARE_ROOM 32
#define BEST_LEVEL 19 /* of zstd, above which decoders need much memory */

/* The N of --shards may stand there too. */
static bool read_partition(struct apr_convert_options *o)
{
    return apr_cli_share(o->partition, &o->part, &o->nparts) && o->nparts <= MOST_SHARDS && (o->shards == 0 || o->shards == o->nparts);
}

/* "zstd", "zstd:LEVEL" */
static bool read_compression(struct apr_convert_options *o)
{
    char *end;
    if (strcmp(o->compress, "zstd") == 0) {
        o->zstd = 3;
        return true;
    }
    if (strncmp(o->compress, "zstd:", 5) != 0 || o->compress[5] < '0' || o->compress[5] > '9')
        return false;
    const unsigned long level = strtoul(o->compress + 5, &end, 10);
    o->zstd = level <= BEST_LEVEL ? (int)level : 0;
    return *end == 0 && o->zstd > 0;
}

static int unknown_type(const struct apr_convert_options *o, const char *option, const char *word)
{
    char text[512];
    size_t n = 0;
    for (size_t i = 0; i < APR_NDTYPES; i++)
        if (apr_written_dtype(o, apr_dtypes[i].name) != NULL && n < sizeof text)
            n += (size_t)snprintf(text + n, sizeof text - n, " %s", apr_dtypes[i].name);
    return apr_cli_usage(&o->cli, "%s: %s is none of those that are written:%s", option, APR_QUOTED(apr_text(word)), text);
}

/* Its letters and digits, as capitals. */
static struct apr_bytes bare_word(const char *word, char out[BARE_ROOM])
{
    size_t n = 0;
    for (; n < BARE_ROOM && *word != 0; word++)
        if (*word != '_' && *word != '-')
            out[n++] = (char)(*word >= 'a' && *word <= 'z' ? *word - 'a' + 'A' : *word);
    return (struct apr_bytes){ (const unsigned char *)out, n };
}

/* Near is a preset that a letter more or less makes of it, wherever the lines between them stand. */
static int unknown_preset(const struct apr_convert_options *o)
{
    char wanted[BARE_ROOM], bare[BARE_ROOM], text[512];
    struct apr_nearest near = apr_nearest_to(bare_word(o->quantize, wanted));
    const char *meant = NULL;
    size_t n = 0;
    near.distance = 2;
    for (size_t i = 0; apr_preset_at(i) != NULL; i++) {
        const char *const name = apr_preset_at(i)->name;
        const unsigned before = near.distance;
        apr_nearest_try(&near, bare_word(name, bare));
        meant = near.distance < before ? name : meant;
        n += n < sizeof text ? (size_t)snprintf(text + n, sizeof text - n, " %s", name) : 0;
    }
    if (meant != NULL)
        return apr_cli_usage(&o->cli, "--quantize: there is no preset %s; did you mean %s? There are:%s apr_q4 apr_q8",
                             APR_QUOTED(apr_text(o->quantize)), meant, text);
    return apr_cli_usage(&o->cli, "--quantize: there is no preset %s; there are:%s apr_q4 apr_q8", APR_QUOTED(apr_text(o->quantize)), text);
}

/* A preset, or one of APR's own schemes. */
static int read_preset(struct apr_convert_options *o)
{
    const struct apr_dtype *const own = apr_written_dtype(o, o->quantize);
    if (own != &apr_dtypes[APR_APR_Q4] && own != &apr_dtypes[APR_APR_Q8])
        o->preset = apr_preset_of(o->quantize);
    else if (o->leave_output || o->output_type != NULL || o->embedding_type != NULL || o->imatrix != NULL)
        return apr_cli_usage(&o->cli,
                             "--quantize %s is one dtype for all matrices: it knows no imatrix, and no other dtype for output and "
                             "embedding",
                             o->quantize);
    else
        o->dtype = own;
    if (o->preset != NULL && !apr_is_quantized(&apr_dtypes[o->preset->dtype]) && (o->tensor_types.n > 0 || o->recipe_path != NULL))
        return apr_cli_usage(&o->cli, "--quantize %s knows no rules, as llama-quantize has it; --type %s does", o->preset->name,
                             o->preset->name);
    return o->dtype != NULL || o->preset != NULL ? -1 : unknown_preset(o);
}

/* The dtype that an option names, if it is given. */
static int read_dtype(const struct apr_convert_options *o, const char *option, const char *word, const struct apr_dtype **d)
{
    *d = word == NULL ? NULL : apr_written_dtype(o, word);
    return word == NULL || *d != NULL ? -1 : unknown_type(o, option, word);
}

static int read_types(struct apr_convert_options *o)
{
    int exit_code = -1;
    o->automatic = o->type != NULL && strcmp(o->type, "auto") == 0;
    if (o->quantize != NULL)
        exit_code = read_preset(o);
    else if (!o->automatic)
        exit_code = read_dtype(o, "--type", o->type, &o->dtype);
    else
        o->dtype = &apr_dtypes[APR_F16];
    if (exit_code < 0)
        exit_code = read_dtype(o, "--output-tensor-type", o->output_type, &o->output_dtype);
    return exit_code < 0 ? read_dtype(o, "--token-embedding-type", o->embedding_type, &o->embedding_dtype) : exit_code;
}

static int check_usage(struct apr_convert_options *o)
{
    if ((o->sized && o->shard_size == 0) || (o->counted && o->shards == 0))
        return apr_cli_usage(&o->cli, "%s takes more than 0", o->sized ? "--shard-size" : "--shards");
    if ((o->priced && !(o->target_bpw > 0)) || (o->sized_target && o->target_size == 0))
        return apr_cli_usage(&o->cli, "%s takes more than 0", o->priced ? "--target-bpw" : "--target-size");
    if (o->compress != NULL && !read_compression(o))
        return apr_cli_usage(&o->cli, "--compress takes zstd or zstd:1 to zstd:%d, not %s", BEST_LEVEL, APR_QUOTED(apr_text(o->compress)));
    if (o->partition != NULL && !read_partition(o))
        return apr_cli_usage(&o->cli, "--partition needs K/N with 1 <= K <= N, and the N of --shards, not %s",
                             APR_QUOTED(apr_text(o->partition)));
    if (o->shards > MOST_SHARDS)
        return apr_cli_usage(&o->cli, "--shards goes up to %u", MOST_SHARDS);
    return read_types(o);
}

static const struct apr_dtype *type_of_rule(const void *ctx, const char *word) { return apr_written_dtype(ctx, word); }

static int add_rules(struct apr_convert_options *o)
{
    struct apr_error e;
    o->recipe.type = type_of_rule;
    o->recipe.ctx = o;
    for (size_t i = 0; i < o->tensor_types.n; i++) {
        const enum apr_code code = apr_recipe_add(&o->recipe, o->tensor_types.text[i], &e);
        if (code != APR_OK)
            return code == APR_EARG ? apr_cli_usage(&o->cli, "%s", e.text) : apr_cli_fail(&o->cli, &e);
    }
    return -1;
}

int apr_convert_usage(struct apr_convert_options *o)
{
    int exit_code = check_usage(o);
    if (exit_code < 0)
        exit_code = apr_cli_patterns(&o->cli, "--drop", &o->drops, &o->drop);
    if (exit_code < 0)
        exit_code = apr_cli_patterns(&o->cli, "--keep", &o->keeps, &o->keep);
    return exit_code < 0 ? add_rules(o) : exit_code;
}

enum apr_code apr_convert_recipe(struct apr_convert_options *o, struct apr_error *e)
{
    return o->recipe_path == NULL ? APR_OK : apr_recipe_open(&o->recipe, o->recipe_path, &o->cli.run, e);
}

void apr_convert_options_end(struct apr_convert_options *o)
{
    apr_selection_free(&o->selection);
    apr_patterns_free(o->drop);
    apr_patterns_free(o->keep);
    apr_recipe_free(&o->recipe);
}
