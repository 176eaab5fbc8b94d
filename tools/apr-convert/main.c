#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/nearest.h"
#include "convert.h"
#include "files/sink.h"
#include "files/source.h"
#include "in_place.h"
#include "ui/progress.h"
#include "ui/remote.h"
#include "model/format.h"
#include "model/inputs.h"
#include "values/dtype.h"

#define MOST_SHARDS 65535u
#define BARE_ROOM 32
#define BEST_LEVEL 19 /* of zstd, above which decoders need much memory */
#define MOST_TRIES 3   /* of a plan for a size */

/* ---- the target ----------------------------------------------------------------------------------------------------- */

static const struct apr_format *format_named(const char *name)
{
    for (size_t i = 0; apr_formats[i] != NULL; i++)
        if (apr_formats[i]->rule != NULL && strcasecmp(apr_formats[i]->name, name) == 0)
            return apr_formats[i];
    return NULL;
}

static const struct apr_format *format_of_suffix(const char *path)
{
    const size_t n = strlen(path);
    for (size_t i = 0; apr_formats[i] != NULL; i++) {
        const size_t suffix = apr_formats[i]->rule == NULL ? n + 1 : strlen(apr_formats[i]->suffix);
        if (suffix < n && strcasecmp(path + n - suffix, apr_formats[i]->suffix) == 0)
            return apr_formats[i];
    }
    return NULL;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Is it standard output, or another descriptor that the shell has opened? */
static bool is_stream(const char *path)
{
    struct apr_target place = { .stream = -1, .folder = -1 };
    struct apr_error ignored;
    const bool stream = apr_target_find(&place, path, &ignored) == APR_OK && place.stream >= 0;
    apr_target_free(&place);
    return stream;
}

/* -1: go on. A checkpoint goes into a folder where OUT is one, ends in a slash, or has no suffix of a file. */
static int choose_target(struct conversion *c)
{
    struct options *const o = c->o;
    const char *const out = o->cli.operand[1];
    const size_t n = strlen(out);
    const bool stream = is_stream(out), slash = n > 0 && out[n - 1] == '/', folder = !stream && (slash || is_folder(out));
    const struct apr_format *const suffix = format_of_suffix(out), *const hf = format_named("safetensors");
    c->format = o->to != NULL ? format_named(o->to) : folder ? hf : suffix;
    if (c->format == NULL && o->to != NULL)
        return apr_cli_usage(&o->cli, "--to takes apr, safetensors or gguf, not %s", APR_QUOTED(apr_text(o->to)));
    if (c->format == NULL)
        return apr_cli_usage(&o->cli, "%s does not tell the format: --to apr, safetensors or gguf does", APR_QUOTED(apr_text(out)));
    c->folder = c->format == hf && !stream && (folder || suffix == NULL);
    c->dialect = c->format->own_names ? APR_GGUF : APR_HF;
    if (folder && !c->folder)
        return apr_cli_usage(&o->cli, "%s is a folder, where a file is wanted", APR_QUOTED(apr_text(out)));
    if (o->zstd > 0 && strcmp(c->format->name, "apr") != 0)
        return apr_cli_usage(&o->cli, "--compress: only APR files are compressed, not %s", c->format->title);
    if (stream && (o->shards > 0 || o->shard_size > 0))
        return apr_cli_usage(&o->cli, "standard output takes one file, no shards");
    if (stream && o->cli.json && !o->dry_run)
        return apr_cli_usage(&o->cli, "the file and --json would share standard output");
    if (stream && !o->dry_run && isatty(STDOUT_FILENO))
        return apr_cli_usage(&o->cli, "standard output is a terminal, which is no place for a model");
    o->cli.taken = (stream && !o->dry_run) || (o->write_recipe != NULL && strcmp(o->write_recipe, "-") == 0);
    return -1;
}

/* The partial file that is named must be what a run to this target leaves. */
static int check_partial(const struct options *o)
{
    const char *const out = o->cli.operand[1], *const from = o->partial;
    const size_t n = strlen(out);
    if (from == NULL || (strncmp(from, out, n) == 0 && strcmp(from + n, ".apr-partial") == 0))
        return -1;
    return apr_cli_usage(&o->cli, "--keep-going-from: a run to %s leaves %s.apr-partial, not %s", APR_QUOTED(apr_text(out)), out, APR_QUOTED(apr_text(from)));
}

static enum apr_code refused(const char *path, const char *why, struct apr_error *e)
{
    apr_fail(e, APR_EARG, APR_NOWHERE, "%s", why);
    apr_error_in(e, path);
    return APR_EARG;
}

/* Is the file one that an option names? */
static bool is_read(const struct options *o, const struct stat *file)
{
    const char *const path[] = { o->config, o->edits.chat_template, o->imatrix, o->recipe_path };
    struct stat st;
    for (size_t i = 0; i < APR_LENGTH(path); i++)
        if (path[i] != NULL && stat(path[i], &st) == 0 && st.st_dev == file->st_dev && st.st_ino == file->st_ino)
            return true;
    return false;
}

/* Never onto an input, and onto anything else only by --force. */
static enum apr_code check_target(const struct conversion *c, struct apr_error *e)
{
    const struct options *const o = c->o;
    const char *const in = o->cli.operand[0], *const out = o->cli.operand[1];
    struct apr_target place = { .stream = -1, .folder = -1 };
    struct stat target, source;
    if (c->folder)
        return stat(out, &target) == 0 && stat(in, &source) == 0 && target.st_dev == source.st_dev && target.st_ino == source.st_ino
                   ? refused(out, "cannot be written: it is the input", e)
                   : APR_OK;
    enum apr_code code = apr_target_find(&place, out, e);
    const bool file = code == APR_OK && place.stream < 0 && place.exists && S_ISREG(place.st.st_mode);
    if (file && (apr_use_of(&place.st, in, is_folder(in)) >= APR_PART || is_read(o, &place.st)))
        code = refused(out, "cannot be written: it is an input", e);
    else if (file && !o->force && !o->dry_run)
        code = refused(out, "is there already: --force replaces it", e);
    else if (file)
        code = apr_rewrite_pending(out, e);
    apr_target_free(&place);
    return code;
}

/* ---- options -------------------------------------------------------------------------------------------------------- */

/* The N of --shards may stand there too. */
static bool read_partition(struct options *o)
{
    return apr_cli_share(o->partition, &o->part, &o->nparts) && o->nparts <= MOST_SHARDS && (o->shards == 0 || o->shards == o->nparts);
}

/* "zstd", "zstd:LEVEL" */
static bool read_compression(struct options *o)
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

static int unknown_type(const struct options *o, const char *option, const char *word)
{
    char text[512];
    size_t n = 0;
    for (size_t i = 0; i < APR_NDTYPES; i++)
        if (written_dtype(o, apr_dtypes[i].name) != NULL && n < sizeof text)
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
static int unknown_preset(const struct options *o)
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
static int read_preset(struct options *o)
{
    const struct apr_dtype *const own = written_dtype(o, o->quantize);
    if (own != &apr_dtypes[APR_APR_Q4] && own != &apr_dtypes[APR_APR_Q8])
        o->preset = apr_preset_of(o->quantize);
    else if (o->leave_output || o->output_type != NULL || o->embedding_type != NULL || o->imatrix != NULL)
        return apr_cli_usage(&o->cli, "--quantize %s is one dtype for all matrices: it knows no imatrix, and no other dtype for output and embedding",
                             o->quantize);
    else
        o->dtype = own;
    if (o->preset != NULL && !apr_is_quantized(&apr_dtypes[o->preset->dtype]) && (o->tensor_types.n > 0 || o->recipe_path != NULL))
        return apr_cli_usage(&o->cli, "--quantize %s knows no rules, as llama-quantize has it; --type %s does", o->preset->name,
                             o->preset->name);
    return o->dtype != NULL || o->preset != NULL ? -1 : unknown_preset(o);
}

/* The dtype that an option names, if it is given. */
static int read_dtype(const struct options *o, const char *option, const char *word, const struct apr_dtype **d)
{
    *d = word == NULL ? NULL : written_dtype(o, word);
    return word == NULL || *d != NULL ? -1 : unknown_type(o, option, word);
}

static int read_types(struct options *o)
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

static int check_usage(struct options *o)
{
    if (o->in_place || o->recover)
        return o->cli.noperand == 1 ? -1 : apr_cli_usage(&o->cli, "%s takes one file, got %zu", o->in_place ? "--in-place" : "--recover", o->cli.noperand);
    if (o->cli.noperand != 2)
        return apr_cli_usage(&o->cli, "needs a model and a target, got %zu", o->cli.noperand);
    if ((o->sized && o->shard_size == 0) || (o->counted && o->shards == 0))
        return apr_cli_usage(&o->cli, "%s takes more than 0", o->sized ? "--shard-size" : "--shards");
    if ((o->priced && !(o->target_bpw > 0)) || (o->sized_target && o->target_size == 0))
        return apr_cli_usage(&o->cli, "%s takes more than 0", o->priced ? "--target-bpw" : "--target-size");
    if (o->compress != NULL && !read_compression(o))
        return apr_cli_usage(&o->cli, "--compress takes zstd or zstd:1 to zstd:%d, not %s", BEST_LEVEL, APR_QUOTED(apr_text(o->compress)));
    if (o->partition != NULL && !read_partition(o))
        return apr_cli_usage(&o->cli, "--partition needs K/N with 1 <= K <= N, and the N of --shards, not %s", APR_QUOTED(apr_text(o->partition)));
    if (o->shards > MOST_SHARDS)
        return apr_cli_usage(&o->cli, "--shards goes up to %u", MOST_SHARDS);
    return read_types(o);
}

static const struct apr_dtype *type_of_rule(const void *ctx, const char *word) { return written_dtype(ctx, word); }

/* The rules of the command line, then those of the file. */
static int add_rules(struct options *o, struct apr_error *e)
{
    o->recipe.type = type_of_rule;
    o->recipe.ctx = o;
    for (size_t i = 0; i < o->tensor_types.n; i++) {
        const enum apr_code code = recipe_add(&o->recipe, o->tensor_types.text[i], e);
        if (code != APR_OK)
            return code == APR_EARG ? apr_cli_usage(&o->cli, "%s", e->text) : apr_cli_fail(&o->cli, e);
    }
    if (o->recipe_path == NULL || recipe_open(&o->recipe, o->recipe_path, &o->cli.run, e) == APR_OK)
        return -1;
    struct conversion none = { .o = o };
    return report(&none, e);
}

/* ---- converting ----------------------------------------------------------------------------------------------------- */

static enum apr_code begin_plan(struct conversion *c, struct apr_error *e)
{
    const struct options *const o = c->o;
    struct apr_plan *const p = &c->plan;
    p->format = c->format;
    p->folder = c->folder;
    p->out = o->cli.operand[1];
    p->force = o->force;
    p->nan_to_zero = o->nan_to_zero;
    p->resume = o->resume || o->partial != NULL;
    p->shard_bytes = o->shard_size;
    p->nshard = (unsigned)(o->nparts > 0 ? o->nparts : o->shards);
    p->only = (unsigned)o->part;
    p->zstd = o->zstd;
    if (!c->folder || p->out[strlen(p->out) - 1] == '/')
        return APR_OK;
    p->out = (const char *)apr_arena_format(&p->arena, "%s/", p->out).at;
    return p->out == NULL ? apr_no_memory(e) : APR_OK;
}

static enum apr_code open_imatrix(struct conversion *c, struct apr_error *e)
{
    if (c->o->imatrix == NULL)
        return APR_OK;
    const enum apr_code code = apr_imatrix_open(&c->imatrix, c->o->imatrix, &c->o->cli.run, e);
    if (code != APR_OK)
        apr_error_in(e, c->o->imatrix);
    return code;
}

/* All that is known before any data is written. */
static enum apr_code plan_all(struct conversion *c, struct apr_error *e)
{
    APR_TRY(begin_plan(c, e));
    APR_TRY(plan_tensors(c, e));
    APR_TRY(plan_metadata(c, e));
    return apr_plan_place(&c->plan, e);
}

static enum apr_code same_place(const char *path, const struct apr_target *recipe, struct apr_error *e)
{
    struct apr_target place = { .stream = -1, .folder = -1 };
    enum apr_code code = apr_target_find(&place, path, e);
    if (code == APR_OK && apr_target_same(recipe, &place))
        code = apr_fail(e, APR_EARG, APR_NOWHERE, "cannot be written: the model goes there");
    apr_target_free(&place);
    return code;
}

/* A recipe in the place of what else is written would be gone. What is there is replaced by --force alone. */
static enum apr_code check_recipe(const struct conversion *c, struct apr_error *e)
{
    const char *const path = c->o->write_recipe;
    struct apr_target recipe = { .stream = -1, .folder = -1 };
    if (path == NULL)
        return APR_OK;
    enum apr_code code = apr_target_find(&recipe, path, e);
    for (size_t i = 0; i < c->plan.nfile && code == APR_OK; i++)
        code = same_place(c->plan.file[i].path, &recipe, e);
    if (code == APR_OK && c->plan.resume && strncmp(path, c->plan.out, strlen(c->plan.out)) == 0 && strstr(path, ".apr-partial") != NULL)
        code = apr_fail(e, APR_EARG, APR_NOWHERE, "cannot be written: an interrupted run would be there");
    if (code == APR_OK && recipe.stream < 0 && recipe.exists && S_ISREG(recipe.st.st_mode) && !c->o->force)
        code = apr_fail(e, APR_EARG, APR_NOWHERE, "is there already: --force replaces it");
    apr_target_free(&recipe);
    if (code != APR_OK)
        apr_error_in(e, path);
    return code;
}

/* How much of the one planned file is no tensor. The last tensor is not filled up in every format. */
static uint64_t overhead_of(const struct apr_plan *p)
{
    uint64_t overhead = p->file[0].size;
    for (size_t i = 0; i < p->ntensor; i++)
        overhead -= (i + 1 < p->ntensor ? p->tensor[i + 1].at : p->file[0].data) - p->tensor[i].at;
    return overhead;
}

static void forget_plan(struct conversion *c)
{
    apr_plan_end(&c->plan);
    free(c->aim.tensor);
    c->aim.tensor = NULL;
    c->head = c->quantized = false;
    c->bytes = c->elements = c->expert_elements = c->nexpert = 0;
}

/* What is no tensor is known from a plan in which each stays as it is. The header may say more when they do not: then it is planned again. */
static enum apr_code plan_to_size(struct conversion *c, struct apr_error *e)
{
    c->plain = true;
    APR_TRY(plan_all(c, e));
    c->plain = false;
    for (int tries = 0; tries < MOST_TRIES; tries++) {
        c->overhead = overhead_of(&c->plan);
        forget_plan(c);
        APR_TRY(plan_all(c, e));
        c->aim.reached = (double)c->plan.file[0].size;
        if (c->plan.file[0].size <= c->o->target_size)
            return APR_OK;
    }
    return apr_fail(e, APR_EARG, APR_NOWHERE, "the file would have %llu bytes, not %llu", (unsigned long long)c->plan.file[0].size,
                    (unsigned long long)c->o->target_size);
}

static enum apr_code convert(struct conversion *c, struct apr_error *e)
{
    APR_TRY(check_target(c, e));
    APR_TRY(open_sources(c, e));
    APR_TRY(open_imatrix(c, e));
    APR_TRY(c->o->target_size > 0 ? plan_to_size(c, e) : plan_all(c, e));
    APR_TRY(check_recipe(c, e));
    if (c->o->dry_run)
        return APR_OK;
    const enum apr_code code = apr_plan_write(&c->plan, &c->o->cli.run, !c->o->no_verify, &c->verified, e);
    apr_progress_end(c->o->cli.run.progress);
    return code == APR_OK ? save_recipe(c, e) : code;
}

static int convert_model(struct options *o)
{
    struct conversion c = { .o = o };
    struct apr_error e;
    int exit_code = choose_target(&c);
    if (exit_code >= 0)
        return exit_code;
    exit_code = check_partial(o);
    if (exit_code >= 0)
        return exit_code;
    const enum apr_code code = convert(&c, &e);
    if (code != APR_OK)
        apr_error_in(&e, o->cli.operand[0]);
    exit_code = report(&c, code == APR_OK ? NULL : &e);
    apr_plan_end(&c.plan);
    apr_imatrix_close(c.imatrix);
    free(c.aim.tensor);
    close_sources(&c);
    return exit_code;
}

/* ---- in place ------------------------------------------------------------------------------------------------------- */

static void tell_recovery(const struct options *o, enum apr_recovery done)
{
    static const char *const words[] = { "no edit was interrupted", "an interrupted edit was finished", "an interrupted edit was undone" };
    if (!o->cli.quiet && (done != APR_NOTHING_LEFT || o->recover))
        printf("%s\n", words[done]);
}

static void write_in_place(const struct options *o, const struct in_place *done)
{
    static const char *const words[] = { NULL, "finished", "undone" };
    struct apr_out out = { .to = stdout };
    struct apr_report r = { .out = &out, .schema = "apr-convert/1" };
    apr_report_begin(&r);
    apr_out_text(&out, "input", o->cli.operand[0]);
    apr_out_text(&out, "recovered", words[done->recovered]);
    if (!o->recover) {
        apr_out_bool(&out, "written", done->written);
        apr_out_count(&out, "header_bytes", done->header);
        apr_out_count(&out, "inserted_bytes", done->inserted);
    }
    apr_report_end(&r, NULL);
}

static int fail_in_place(const struct options *o, struct apr_error *e)
{
    struct conversion c = { .o = (struct options *)(uintptr_t)o };
    apr_error_in(e, o->cli.operand[0]);
    return report(&c, e);
}

static int change_in_place(const struct options *o)
{
    const char *const path = o->cli.operand[0];
    struct in_place done = { 0 };
    struct apr_error e;
    if (o->recover) {
        if (recover_in_place(path, &done.recovered, &e) != APR_OK)
            return fail_in_place(o, &e);
    } else if (!have_edits(&o->edits)) {
        return apr_cli_usage(&o->cli, "--in-place: nothing to change; --set, --unset, --chat-template and --rename do");
    } else if (edit_in_place(path, &o->edits, &o->cli.run, &done, &e) != APR_OK) {
        return fail_in_place(o, &e);
    }
    if (o->cli.json)
        write_in_place(o, &done);
    else
        tell_recovery(o, done.recovered);
    return APR_EXIT_YES;
}

/* ---- the whole ------------------------------------------------------------------------------------------------------ */

/* The target is no input, though it stands among the operands. */
static enum apr_code check_outputs(struct options *o, struct apr_error *e)
{
    const size_t n = o->cli.noperand;
    o->cli.noperand = n > 1 ? 1 : n;
    const enum apr_code code = apr_cli_outputs(&o->cli, e);
    o->cli.noperand = n;
    return code;
}

static int run(struct options *o)
{
    struct conversion none = { .o = o };
    struct apr_error e;
    int exit_code = check_usage(o);
    if (exit_code < 0)
        exit_code = apr_cli_patterns(&o->cli, "--drop", &o->drops, &o->drop);
    if (exit_code < 0)
        exit_code = apr_cli_patterns(&o->cli, "--keep", &o->keeps, &o->keep);
    if (exit_code < 0)
        exit_code = add_rules(o, &e);
    if (exit_code >= 0)
        return exit_code;
    enum apr_code code = check_outputs(o, &e);
    if (code == APR_OK)
        code = apr_selection_families(&o->selection, &o->cli.run, &e);
    if (code != APR_OK)
        return report(&none, &e);
    return o->in_place || o->recover ? change_in_place(o) : convert_model(o);
}

#define NOT_IN_PLACE                                                                                                                       \
    "--to --type --quantize --compress --shard-size --shards --no-shard --partition --drop --keep --graft --tokenizer --config --family "  \
    "--keep-names --dry-run --force --no-verify --resume --keep-going-from --pure --pre --nan-to-zero --allow-requantize --imatrix --tensor-type "  \
    "--recipe --write-recipe --target-bpw --target-size --leave-output --output-tensor-type --token-embedding-type"

int main(int argc, char **argv)
{
    struct options o = { 0 };
    const struct apr_option option[] = {
        { "--to", APR_OPTION_TEXT, &o.to, "FORMAT", "apr, safetensors or gguf; default: as the target's suffix says", .offer = offer_format },
        { "--type", APR_OPTION_TEXT, &o.type, "T", "dtype of the matrices: f32 f16 bf16 q8_0 ..., auto for the first 16-bit one met",
          .instead = "--dequantize --dtype --outtype", .offer = offer_type },
        { "--pure", APR_OPTION_FLAG, &o.pure, NULL, "--type holds of vectors and norms too; --quantize gives all matrices one dtype", .needs = "--type --quantize" },
        { "--quantize", APR_OPTION_TEXT, &o.quantize, "PRESET", "a mix of llama-quantize: Q4_K_M IQ4_XS ...; apr_q4, apr_q8 of APR's own", .against = "--type",
          .offer = offer_preset },
        { "--imatrix", APR_OPTION_INPUT, &o.imatrix, "FILE", "importance of columns (GGUF or legacy .dat), for blocks that take it",
          .needs = "--type --quantize --tensor-type --recipe --target-bpw --target-size", .files = "gguf dat" },
        { "--tensor-type", APR_OPTION_LIST, &o.tensor_types, "PATTERN=T", "dtype of the tensors whose name matches; the first that matches counts; repeatable",
          .named = APR_NAMED_TENSOR },
        { "--recipe", APR_OPTION_INPUT, &o.recipe_path, "FILE", "YAML: a list of {match: PATTERN, type: T}, after those of --tensor-type", .files = "yaml yml" },
        { "--write-recipe", APR_OPTION_OUTPUT, &o.write_recipe, "FILE", "the dtype of each tensor, for --recipe", .needs = "--target-size --target-bpw --quantize",
          .against = "--rename --dry-run", .files = "yaml yml" },
        { "--target-bpw", APR_OPTION_REAL, &o.target_bpw, "F", "types by measured error, so that all tensors have F bits per weight", .given = &o.priced,
          .against = "--type --quantize --target-size" },
        { "--target-size", APR_OPTION_SIZE, &o.target_size, "N", "the same, so that the file has at most N bytes", .given = &o.sized_target,
          .against = "--type --quantize --compress --shards --shard-size --partition" },
        { "--leave-output", APR_OPTION_FLAG, &o.leave_output, NULL, "output.weight stays what it is", .against = "--output-tensor-type", .needs = "--quantize --target-bpw --target-size" },
        { "--output-tensor-type", APR_OPTION_TEXT, &o.output_type, "T", "dtype of output.weight", .needs = "--quantize --target-bpw --target-size", .offer = offer_type_of_rule },
        { "--token-embedding-type", APR_OPTION_TEXT, &o.embedding_type, "T", "dtype of token_embd.weight", .needs = "--quantize --target-bpw --target-size",
          .offer = offer_type_of_rule },
        { "--allow-requantize", APR_OPTION_FLAG, &o.allow_requantize, NULL, "quantized tensors may be quantized again",
          .needs = "--type --quantize --tensor-type --recipe --target-bpw --target-size" },
        { "--nan-to-zero", APR_OPTION_FLAG, &o.nan_to_zero, NULL, "values that are not finite become 0 in blocks; else they are refused",
          .needs = "--type --quantize --tensor-type --recipe --target-bpw --target-size" },
        { "--compress", APR_OPTION_TEXT, &o.compress, "zstd[:LEVEL]", "APR: independent frames with a seek table", .offer = offer_compression },
        { "--shard-size", APR_OPTION_SIZE, &o.shard_size, "N", "shards of at most N bytes of tensors", .given = &o.sized,
          .against = "--shards --partition" },
        { "--shards", APR_OPTION_COUNT, &o.shards, "N", "N shards, as even as whole tensors allow", .given = &o.counted },
        { "--no-shard", APR_OPTION_FLAG, &o.no_shard, NULL, "one file, which is what is written without an option",
          .against = "--shard-size --shards --partition" },
        { "--partition", APR_OPTION_TEXT, &o.partition, "K/N", "only the K-th of N shards, every byte as one run writes it" },
        { "--rename", APR_OPTION_LIST, &o.edits.rename, "A=B", "tensor A of the target is called B; repeatable", .named = APR_NAMED_TENSOR },
        { "--drop", APR_OPTION_LIST, &o.drops, "PATTERN", "not the tensors whose name, in either dialect, matches; repeatable", .named = APR_NAMED_TENSOR },
        { "--keep", APR_OPTION_LIST, &o.keeps, "PATTERN", "only those whose name matches; repeatable", .named = APR_NAMED_TENSOR },
        { "--graft", APR_OPTION_LIST, &o.grafts, "FILE:PATTERN", "tensors that match come from FILE; repeatable", .files = APR_MODELS },
        { "--set", APR_OPTION_LIST, &o.edits.set, "KEY=TYPE:VALUE", "metadata: u8 i8 ... f64, bool, str; repeatable", .named = APR_NAMED_KEY },
        { "--unset", APR_OPTION_LIST, &o.edits.unset, "KEY", "takes a key of the metadata out; repeatable", .named = APR_NAMED_KEY },
        { "--tokenizer", APR_OPTION_TEXT, &o.tokenizer, "DIR", "the tokenizer's files are those of DIR", .files = "/" },
        { "--config", APR_OPTION_INPUT, &o.config, "FILE", "stands for the source's config.json", .files = "json" },
        { "--chat-template", APR_OPTION_INPUT, &o.edits.chat_template, "FILE", "the chat template is FILE", .files = "jinja txt" },
        { "--pre", APR_OPTION_TEXT, &o.pre, "NAME", "what llama.cpp calls the pre-tokenizer" },
        { "--family", APR_OPTION_TEXT, &o.family, "NAME", "the model's family, which else the model tells" },
        { APR_SELECTION_FAMILY(&o.selection) },
        { "--keep-names", APR_OPTION_FLAG, &o.keep_names, NULL, "no renaming, no transforms: tensors as they are" },
        { "--dry-run", APR_OPTION_FLAG, &o.dry_run, NULL, "prints the plan and writes nothing" },
        { "--force", APR_OPTION_FLAG, &o.force, NULL, "replaces a file that is there; never an input" },
        { "--no-verify", APR_OPTION_FLAG, &o.no_verify, NULL, "does not read the result back", .against = "--dry-run" },
        { "--resume", APR_OPTION_FLAG, &o.resume, NULL, "goes on where a run with this option was interrupted", .against = "--dry-run" },
        { "--keep-going-from", APR_OPTION_TEXT, &o.partial, "PARTIAL", "the same, where PARTIAL is what that run left", .against = "--resume", .files = "part" },
        { "--in-place", APR_OPTION_FLAG, &o.in_place, NULL, "IN alone: --set, --unset, --chat-template, --rename change its header where it is",
          .against = NOT_IN_PLACE },
        { "--recover", APR_OPTION_FLAG, &o.recover, NULL, "IN alone: finishes or undoes an edit in place that was interrupted",
          .against = NOT_IN_PLACE " --in-place --set --unset --chat-template --rename" },
        APR_REMOTE_OPTIONS(&o.cli),
    };
    o.cli = (struct apr_cli){
        .tool = "apr-convert",
        .synopsis = "IN OUT",
        .about = "Converts a model between APR, SafeTensors and GGUF. Without an option every tensor keeps its dtype and every value; what has no place in "
                 "the target is an error, never lost in silence. A target that is a folder is a HuggingFace checkpoint.",
        .example = { "apr-convert model/ new.gguf --type auto", "apr-convert model-q8_0.gguf new/ --type bf16",
          "apr-convert --in-place model.gguf --chat-template chat.jinja" },
        .option = option,
        .noption = APR_LENGTH(option),
        .brief = "converts language models between APR, SafeTensors and GGUF",
        .files = APR_MODELS,
        .file = apr_model_files,
        .environment = apr_remote_environment,
    };
    int exit_code = apr_cli_parse(&o.cli, argc, argv);
    if (exit_code < 0)
        exit_code = run(&o);
    apr_selection_free(&o.selection);
    apr_patterns_free(o.drop);
    apr_patterns_free(o.keep);
    recipe_free(&o.recipe);
    return apr_cli_finish(&o.cli, exit_code);
}
