/* The files that a run writes, held against each other and against those that it reads, before it begins. */
#include "ui/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/glob.h"
#include "files/address.h"
#include "files/sink.h"
#include "model/inputs.h"

/* An option that names a file to be written.
 *   matrix  it is an importance matrix
 *   aside   its name is no part of a model's: importance.gguf beside model.gguf */
struct output {
    const char      *option, *path;
    bool             matrix, aside;
    struct apr_target place;
    enum apr_content  content; /* of what is there */
};

static enum apr_code refused(const char *path, struct apr_error *e, const char *format, ...) APR_PRINTF(3, 4);
static enum apr_code refused(const char *path, struct apr_error *e, const char *format, ...)
{
    char why[512];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    apr_fail(e, APR_EARG, APR_NOWHERE, "cannot be written: %s", why);
    apr_error_in(e, strcmp(path, "-") == 0 ? "standard output" : path);
    return APR_EARG;
}

/* What these tools made, or nothing. */
static bool is_ours(enum apr_content c) { return c == APR_CONTENT_OURS || c == APR_CONTENT_IMATRIX || c == APR_CONTENT_EMPTY; }

/* Is what is there read, when the run is given `path`? model: with all files of the model that it stands for. */
static enum apr_code check_input(const struct output *out, const char *path, bool model, struct apr_error *e)
{
    switch (apr_use_of(&out->place.st, path, model)) {
    case APR_READ:
        return refused(out->path, e, "it is an input");
    case APR_PART:
        if (out->aside && is_ours(out->content))
            break;
        return refused(out->path, e, "by its name it is a part of the model %s", APR_QUOTED(apr_text(path)));
    case APR_BESIDE:
        if (!is_ours(out->content))
            return refused(out->path, e, "it lies in %s, which is read, and is no page or manifest", APR_QUOTED(apr_text(path)));
        break;
    case APR_UNUSED:
        break;
    }
    return APR_OK;
}

/* A file in the folder of the operand before it, which has been looked through for that one. */
static bool is_beside_last(const struct apr_cli *c, size_t i)
{
    struct stat a, b;
    const char *const path = c->operand[i], *const last = i == 0 ? "-" : c->operand[i - 1];
    const size_t n = apr_folder_length(path);
    return strcmp(last, "-") != 0 && n == apr_folder_length(last) && memcmp(path, last, n) == 0 && stat(path, &a) == 0 &&
           stat(last, &b) == 0 && !S_ISDIR(a.st_mode) && !S_ISDIR(b.st_mode);
}

/* Operands stand for models, what options name for one file. */
static enum apr_code check_inputs(const struct apr_cli *c, const struct output *out, bool models, struct apr_error *e)
{
    for (size_t i = 0; i < c->noperand; i++)
        APR_TRY(check_input(out, c->operand[i], models && !is_beside_last(c, i), e));
    for (size_t i = 0; i < c->noption; i++) {
        const struct apr_option *const o = &c->option[i];
        const struct apr_texts *const list = o->kind == APR_OPTION_INPUTS ? o->to : NULL;
        const char *const path = o->kind == APR_OPTION_INPUT ? *(const char **)o->to : NULL;
        for (size_t k = 0; list != NULL && k < list->n; k++)
            APR_TRY(check_input(out, list->text[k], false, e));
        if (path != NULL)
            APR_TRY(check_input(out, path, false, e));
    }
    return APR_OK;
}

/* A device is none of anybody's files. */
static bool is_file(const struct apr_target *t) { return t->exists && !S_ISCHR(t->st.st_mode); }

static enum apr_code check_output(const struct apr_cli *c, struct output *out, struct apr_error *e)
{
    APR_TRY(apr_target_find(&out->place, out->path, e));
    for (size_t i = 0; i < c->noperand && out->place.stream < 0 && !out->place.exists && !out->aside; i++)
        if (apr_would_be_part(out->place.folder, out->place.name, c->operand[i]))
            return refused(out->path, e, "by its name it would be a part of the model %s", APR_QUOTED(apr_text(c->operand[i])));
    if (!is_file(&out->place))
        return APR_OK;
    APR_TRY(check_inputs(c, out, false, e));
    out->content = apr_content_of(out->path, &c->run);
    if (out->content == APR_CONTENT_MODEL)
        return refused(out->path, e, "it holds a model");
    APR_TRY(check_inputs(c, out, true, e));
    if (out->matrix && S_ISREG(out->place.st.st_mode) && out->content != APR_CONTENT_IMATRIX && out->content != APR_CONTENT_EMPTY)
        return refused(out->path, e, "it is there already, and no importance matrix");
    return APR_OK;
}

/* The shell has opened it already: it may lie in a model's folder, under a name that says nothing. Where it is an input or a part of one,
 * nothing at all is written to it. */
static enum apr_code check_stdout(struct apr_cli *c, struct output *out, struct apr_error *e)
{
    APR_TRY(apr_target_find(&out->place, out->path, e));
    out->content = APR_CONTENT_OURS;
    const enum apr_code code = is_file(&out->place) ? check_inputs(c, out, true, e) : APR_OK;
    c->json &= code == APR_OK;
    return code;
}

/* out[0] is stdout. */
static enum apr_code check_pairs(struct apr_cli *c, const struct output *out, size_t n, struct apr_error *e)
{
    for (size_t i = 1; i < n; i++) {
        const bool answer = out[i].place.stream == STDOUT_FILENO;
        for (size_t k = answer; k < i; k++)
            if (apr_target_same(&out[i].place, &out[k].place))
                return refused(out[i].path, e, "%s and %s would share it", out[i].option, k == 0 ? "standard output" : out[k].option);
        if (answer && c->json)
            return refused("-", e, "%s and --json would share it", out[i].option);
        c->taken |= answer;
    }
    return APR_OK;
}

static bool is_output(const struct apr_option *o)
{
    const bool is_path = o->kind == APR_OPTION_OUTPUT || o->kind == APR_OPTION_IMATRIX || o->kind == APR_OPTION_MAYBE_OUTPUT;
    return is_path && *(const char **)o->to != NULL;
}

/* A GGUF that is none of several. */
static bool is_no_shard(const char *path) { return apr_glob_is("*.gguf", path) && !apr_glob_is("*-of-*", path); }

enum apr_code apr_cli_outputs(struct apr_cli *c, struct apr_error *e)
{
    struct output *const out = calloc(c->noption + 1, sizeof *out);
    size_t n = 1;
    if (out == NULL)
        return apr_no_memory(e);
    out[0].path = "-";
    enum apr_code code = check_stdout(c, &out[0], e);
    for (size_t i = 0; code == APR_OK && i < c->noption; i++)
        if (is_output(&c->option[i])) {
            out[n].option = c->option[i].name;
            out[n].path = *(const char **)c->option[i].to;
            out[n].matrix = c->option[i].kind == APR_OPTION_IMATRIX;
            out[n].aside = out[n].matrix && is_no_shard(out[n].path);
            code = check_output(c, &out[n++], e);
        }
    if (code == APR_OK)
        code = check_pairs(c, out, n, e);
    for (size_t i = 0; i < n; i++)
        apr_target_free(&out[i].place);
    free(out);
    return code;
}
