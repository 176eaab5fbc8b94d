/* Where a conversion goes: format, dialect and place of the target, by the options and its name. */
#include "convert/conversion_parts.h"

#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files/journal.h"
#include "files/sink.h"
#include "files/source.h"
#include "model/format.h"
#include "model/inputs.h"

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

/* The partial file that is named must be what a run to this target leaves. */
static int check_partial(const struct apr_convert_options *o)
{
    const char *const out = o->out, *const from = o->partial;
    const size_t n = strlen(out);
    if (from == NULL || (strncmp(from, out, n) == 0 && strcmp(from + n, ".apr-partial") == 0))
        return -1;
    return apr_cli_usage(&o->cli, "--keep-going-from: a run to %s leaves %s.apr-partial, not %s", APR_QUOTED(apr_text(out)), out,
                         APR_QUOTED(apr_text(from)));
}

/* A checkpoint goes into a folder where OUT is one, ends in a slash, or has no suffix of a file. */
int apr_conversion_target(struct apr_conversion *c)
{
    struct apr_convert_options *const o = c->o;
    const char *const out = o->out;
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
    return check_partial(o);
}

static enum apr_code refused(const char *path, const char *why, struct apr_error *e)
{
    apr_fail(e, APR_EARG, APR_NOWHERE, "%s", why);
    apr_error_in(e, path);
    return APR_EARG;
}

/* Is the file one that an option names? */
static bool is_read(const struct apr_convert_options *o, const struct stat *file)
{
    const char *const path[] = { o->config, o->edits.chat_template, o->imatrix, o->recipe_path };
    struct stat st;
    for (size_t i = 0; i < APR_LENGTH(path); i++)
        if (path[i] != NULL && stat(path[i], &st) == 0 && st.st_dev == file->st_dev && st.st_ino == file->st_ino)
            return true;
    return false;
}

static bool is_same(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static bool is_part(const struct stat *file, const char *model) { return apr_use_of(file, model, is_folder(model)) >= APR_PART; }

static bool is_other(const struct apr_convert_options *o, const char *out)
{
    bool same = false;
    for (size_t i = 0; i < o->nother; i++)
        same |= is_same(out, o->other[i]);
    return same;
}

static bool is_part_of_other(const struct apr_convert_options *o, const struct stat *file)
{
    bool part = false;
    for (size_t i = 0; i < o->nother; i++)
        part |= is_part(file, o->other[i]);
    return part;
}

/* Never onto an input, and onto anything else only by --force. */
enum apr_code apr_conversion_free_to(const struct apr_conversion *c, struct apr_error *e)
{
    const struct apr_convert_options *const o = c->o;
    const char *const in = o->in, *const out = o->out;
    struct apr_target place = { .stream = -1, .folder = -1 };
    if (c->folder)
        return is_same(out, in) || is_other(o, out) ? refused(out, "cannot be written: it is the input", e) : APR_OK;
    enum apr_code code = apr_target_find(&place, out, e);
    const bool file = code == APR_OK && place.stream < 0 && place.exists && S_ISREG(place.st.st_mode);
    if (file && (is_part(&place.st, in) || is_part_of_other(o, &place.st) || is_read(o, &place.st)))
        code = refused(out, "cannot be written: it is an input", e);
    else if (file && !o->force && !o->dry_run)
        code = refused(out, "is there already: --force replaces it", e);
    else if (file)
        code = apr_rewrite_pending(out, e);
    apr_target_free(&place);
    return code;
}
