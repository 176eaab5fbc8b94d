/* --json: whatever was asked for, as one object. */
#include <math.h>

#include "files/remote.h"
#include "files/source.h"
#include "model/format.h"
#include "model/model.h"
#include "share.h"
#include "values/dtype.h"

static void write_name(struct apr_out *j, const char *key, struct apr_bytes s)
{
    if (s.n > 0)
        apr_out_bytes(j, key, s);
    else
        apr_out_null(j, key);
}

static void write_files(struct apr_out *j, const struct inspection *x)
{
    apr_out_open(j, "files", '[');
    for (size_t i = 0; i < (x->m == NULL ? 1 : x->m->nfile); i++) {
        apr_out_open(j, NULL, '{');
        apr_out_text(j, "path", x->m == NULL ? x->path : x->m->file[i]->path);
        if (x->m == NULL)
            apr_out_null(j, "size");
        else
            apr_out_count(j, "size", x->m->file[i]->stored);
        apr_out_close(j, '}');
    }
    apr_out_close(j, ']');
}

static void write_totals(struct apr_out *j, const struct inspection *x)
{
    const struct apr_model *m = x->m;
    struct {
        uint64_t tensors, elements, bytes;
    } of[APR_NDTYPES] = { 0 };
    uint64_t elements = 0, bytes = 0;
    for (size_t i = 0; i < m->ntensor; i++) {
        const struct apr_tensor *t = &m->tensor[i];
        const enum apr_dtype_id id = apr_dtype_id(stored_dtype(t));
        of[id].tensors++;
        of[id].elements += t->count;
        of[id].bytes += stored_bytes(t);
        elements += t->count;
        bytes += stored_bytes(t);
    }
    apr_out_count(j, "parameters", elements);
    apr_out_count(j, "tensor_count", m->ntensor);
    apr_out_count(j, "tensor_bytes", bytes);
    apr_out_real(j, "bits_per_weight", elements > 0 ? 8 * (double)bytes / (double)elements : NAN);
    apr_out_open(j, "dtypes", '[');
    for (size_t i = 0; i < APR_NDTYPES; i++) {
        if (of[i].tensors == 0)
            continue;
        apr_out_open(j, NULL, '{');
        apr_out_text(j, "dtype", apr_dtypes[i].name);
        apr_out_count(j, "tensors", of[i].tensors);
        apr_out_count(j, "elements", of[i].elements);
        apr_out_count(j, "bytes", of[i].bytes);
        apr_out_close(j, '}');
    }
    apr_out_close(j, ']');
}

int write_findings(struct apr_out *j, const struct findings *f)
{
    int exit_code = APR_EXIT_YES;
    static const char *const word[] = { [APR_INFO] = "info", [APR_WARNING] = "warning", [APR_FAULT] = "error" };
    apr_out_open(j, "findings", '[');
    for (size_t i = 0; i < f->n; i++) {
        apr_out_open(j, NULL, '{');
        apr_out_count(j, "stage", f->at[i].stage);
        apr_out_text(j, "severity", word[f->at[i].severity]);
        apr_out_text(j, "code", f->at[i].code);
        write_name(j, "tensor", f->at[i].tensor);
        apr_out_text(j, "text", f->at[i].text);
        apr_out_close(j, '}');
        exit_code = f->at[i].severity == APR_FAULT ? APR_EXIT_NO : exit_code;
    }
    apr_out_close(j, ']');
    return exit_code;
}

static enum apr_code write_check(struct apr_out *j, struct inspection *x, int *exit_code, struct apr_error *e)
{
    const enum apr_code code = check_model(x, e);
    const int told = write_findings(j, &x->findings);
    *exit_code = told > *exit_code ? told : *exit_code;
    return code;
}

static void write_subject(struct apr_out *j, const void *about) { write_files(j, about); }

struct apr_report begin_object(struct apr_out *j, const struct inspection *x)
{
    struct apr_report r = { .out = j, .schema = "apr-inspect/1", .subject = write_subject, .about = x };
    apr_report_begin(&r);
    return r;
}

static int end_object(struct apr_report *r, const struct inspection *x, enum apr_code code, int exit_code, struct apr_error *e)
{
    if (code != APR_OK)
        apr_error_in(e, x->path);
    apr_report_end(r, code == APR_OK ? NULL : e);
    return code == APR_OK ? exit_code : apr_cli_fail(&x->o->cli, e);
}

enum apr_code write_members(struct apr_out *j, struct inspection *x, int *exit_code, struct apr_error *e)
{
    const struct options *o = x->o;
    bool found;
    apr_out_text(j, "format", x->m->format->name);
    write_name(j, "format_version", apr_text(version_of(x->m)));
    write_name(j, "family", x->family_name);
    write_name(j, "architecture", architecture_of(x));
    write_totals(j, x);
    if (o->partial) {
        apr_out_open(j, "partial", '{');
        apr_out_count(j, "tensors", x->m->ntensor + x->m->ncut);
        apr_out_count(j, "whole", x->m->ntensor);
        apr_out_count(j, "cut_bytes", x->m->cut_bytes);
        write_name(j, "first_cut", x->m->first_cut);
        apr_out_close(j, '}');
        *exit_code = x->m->ncut > 0 ? APR_EXIT_NO : *exit_code;
    }
    APR_TRY(write_metadata(j, x, e));
    if (o->get.n > 0) {
        APR_TRY(write_value(j, x, &found, e));
        if (!found)
            *exit_code = APR_EXIT_NO;
    }
    if (o->tensors || o->stats || o->hash)
        APR_TRY(write_tensors(j, x, e));
    if (o->tensor != NULL)
        APR_TRY(write_tensor(j, x, e));
    if (o->tree)
        APR_TRY(write_tree(j, x, e));
    if (o->tokenizer)
        APR_TRY(write_tokenizer(j, x, e));
    if (o->check != CHECK_NONE)
        APR_TRY(write_check(j, x, exit_code, e));
    if (o->cli.verbose)
        apr_out_count(j, "fetched_bytes", apr_remote_fetched(o->cli.run.remote));
    if (o->nparts > 0)
        write_share(j, x);
    return apr_model_unchanged(x->m, e);
}

int show_json(struct inspection *x)
{
    struct apr_out j = { .to = stdout };
    struct apr_error e;
    int exit_code = APR_EXIT_YES;
    struct apr_report r = begin_object(&j, x);
    const enum apr_code code = write_members(&j, x, &exit_code, &e);
    return end_object(&r, x, code, exit_code, &e);
}

int fail_json(struct inspection *x, struct apr_error *why)
{
    struct apr_out j = { .to = stdout };
    struct apr_error e;
    struct apr_report r = begin_object(&j, x);
    if (x->o->check != CHECK_NONE && finding_of_error(&x->findings, why, &e) == APR_OK)
        write_findings(&j, &x->findings);
    return end_object(&r, x, why->code, APR_EXIT_NONE, why);
}
