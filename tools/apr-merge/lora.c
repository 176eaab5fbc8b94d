#include "lora.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/regex.h"
#include "base/table.h"
#include "family/kind.h"
#include "flow/pass.h"
#include "model/format.h"
#include "model/json.h"
#include "model/meta.h"
#include "model/open.h"
#include "values/dtype.h"

#define MOST_WORK ((uint64_t)1 << 32) /* steps of all patterns */

/* What adapter_config.json, or a GGUF's keys, say. rank 0: nothing. ranks, alphas: of modules, by expressions for the end of their names */
struct said {
    bool           gguf, root, turned;
    double         alpha, rank, scale;
    const json_t  *alphas, *ranks;
    uint64_t       work;
};

/* What an adapter has for one tensor of the model. */
struct found {
    const struct apr_tensor *a, *b, *target, *base, *saved;
    bool                     embedding;
};

/* ---- its configuration ---------------------------------------------------------------------------------------------- */

static bool is_absent(const json_t *value) { return value == NULL || json_is_null(value); }

static enum apr_code take_number(const json_t *config, const char *key, double *value, struct apr_error *e)
{
    const json_t *const said = json_object_get(config, key);
    if (said != NULL && !json_is_number(said))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%s is no number", key);
    *value = said != NULL ? json_number_value(said) : *value;
    return APR_OK;
}

static enum apr_code take_flag(const json_t *config, const char *key, bool *yes, struct apr_error *e)
{
    const json_t *const said = json_object_get(config, key);
    if (!is_absent(said) && !json_is_boolean(said))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%s is neither true nor false", key);
    *yes = json_is_true(said);
    return APR_OK;
}

/* {"q_proj": 16, ...} */
static enum apr_code take_patterns(const json_t *config, const char *key, const json_t **patterns, struct apr_error *e)
{
    const json_t *const said = json_object_get(config, key);
    const char *pattern;
    json_t *value;
    bool numbers = is_absent(said) || json_is_object(said);
    json_object_foreach((json_t *)(uintptr_t)said, pattern, value)
        numbers &= json_is_number(value);
    if (!numbers)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%s is no map of expressions to numbers", key);
    *patterns = said;
    return APR_OK;
}

static enum apr_code read_config(struct said *s, const json_t *config, struct apr_error *e)
{
    const json_t *const type = json_object_get(config, "peft_type");
    if (!json_is_object(config) || (json_object_get(config, "lora_alpha") == NULL && json_object_get(config, "r") == NULL))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "it has no lora_alpha");
    if (!is_absent(type) && (!json_is_string(type) || strcmp(json_string_value(type), "LORA") != 0))
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE, "an adapter of type %s, not LORA",
                        json_is_string(type) ? APR_QUOTED(apr_text(json_string_value(type))) : "that is no text");
    APR_TRY(take_number(config, "r", &s->rank, e));
    if (json_object_get(config, "r") != NULL && !(s->rank >= 1))
        return apr_fail(e, APR_EARG, APR_NOWHERE, "r is a rank of 1 or more, not %g", s->rank);
    s->alpha = s->rank;
    APR_TRY(take_number(config, "lora_alpha", &s->alpha, e));
    APR_TRY(take_flag(config, "use_rslora", &s->root, e));
    APR_TRY(take_flag(config, "fan_in_fan_out", &s->turned, e));
    APR_TRY(take_patterns(config, "rank_pattern", &s->ranks, e));
    return take_patterns(config, "alpha_pattern", &s->alphas, e);
}

/* The folder's adapter_config.json; the caller gives *config back. */
static enum apr_code open_config(struct said *s, const char *path, json_t **config, const struct apr_run *r, struct apr_error *e)
{
    struct apr_source *file;
    APR_TRY(apr_source_sidecar(&file, path, APR_MOST_CONFIG, r, e));
    if (file == NULL) {
        apr_fail(e, APR_EARG, APR_NOWHERE, "there is no such file, which says how an adapter is scaled");
        apr_error_in(e, path);
        return APR_EARG;
    }
    enum apr_code code = apr_json_load_last(config, file->map, 0, e);
    if (code == APR_OK)
        code = read_config(s, *config, e);
    if (code != APR_OK)
        apr_error_in(e, path);
    return apr_source_end(file, code, e);
}

static enum apr_code say(struct said *s, struct lora *l, json_t **config, const struct apr_run *r, struct apr_error *e)
{
    double alpha;
    s->gguf = l->m->format->own_names;
    s->work = MOST_WORK;
    if (s->gguf) {
        const struct apr_value *const v = apr_meta_find(&l->m->meta, "adapter.lora.alpha");
        if (v == NULL || !apr_meta_number(v, &alpha) || !isfinite(alpha))
            return apr_fail(e, APR_EARG, APR_NOWHERE, "it has no adapter.lora.alpha%s", v == NULL ? "" : " that is a number");
        s->alpha = alpha;
        return APR_OK;
    }
    const char *const file = l->m->file[0]->path, *const slash = strrchr(file, '/');
    const struct apr_bytes path = apr_arena_format(&l->arena, "%.*sadapter_config.json", slash == NULL ? 0 : (int)(slash - file) + 1, file);
    return path.at == NULL ? apr_no_memory(e) : open_config(s, (const char *)path.at, config, r, e);
}

/* Does the expression match the end of the module's name, from a dot on? */
static enum apr_code ends_in(struct said *s, struct apr_arena **a, const char *pattern, struct apr_bytes module, bool *yes,
                             struct apr_error *e)
{
    const struct apr_bytes whole = apr_arena_format(a, "^(?:.*\\.)?(?:%s)$", pattern);
    struct apr_regex *x;
    if (whole.at == NULL)
        return apr_no_memory(e);
    APR_TRY(apr_regex_new(&x, whole, e));
    const enum apr_code code = apr_regex_matches(x, module, &s->work, yes, e);
    apr_regex_free(x);
    return code;
}

/* What the first expression that fits says of a module; value stays where none does. */
static enum apr_code ask_patterns(struct said *s, struct apr_arena **a, const json_t *patterns, struct apr_bytes module, double *value,
                                  struct apr_error *e)
{
    const char *key;
    json_t *said;
    bool yes = false;
    json_object_foreach((json_t *)(uintptr_t)patterns, key, said) {
        struct apr_error why;
        const enum apr_code code = yes ? APR_OK : ends_in(s, a, key, module, &yes, &why);
        if (code != APR_OK)
            return apr_fail(e, code, APR_NOWHERE, "its expression %s: %s", APR_QUOTED(apr_text(key)), why.text);
        if (!yes)
            continue;
        *value = json_number_value(said);
        return APR_OK;
    }
    return APR_OK;
}

static enum apr_code factor_of(struct said *s, struct apr_arena **a, struct apr_bytes module, uint64_t rank, double *factor,
                               struct apr_error *e)
{
    double alpha = s->alpha, said = s->rank;
    APR_TRY(ask_patterns(s, a, s->ranks, module, &said, e));
    APR_TRY(ask_patterns(s, a, s->alphas, module, &alpha, e));
    if (said > 0 && said != (double)rank)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "%s has rank %llu, adapter_config.json says %g", APR_QUOTED(module),
                        (unsigned long long)rank, said);
    *factor = s->scale * alpha / (s->root ? sqrt((double)rank) : (double)rank);
    return APR_OK;
}

/* ---- its tensors ---------------------------------------------------------------------------------------------------- */

enum role { ROLE_A, ROLE_B, ROLE_TARGET, ROLE_BASE, ROLE_SAVED };

/* "NAME.base_layer.weight" is NAME.weight, "NAME.base_layer.bias" its bias, as the adapter found or changed them. */
static bool is_inner(struct apr_bytes name, char room[APR_NAME_ROOM], struct apr_bytes *module)
{
    static const char inner[] = ".base_layer.";
    const size_t n = sizeof inner - 1;
    const unsigned char *const at = memmem(name.at, name.n, inner, n);
    if (at == NULL || name.n - n + 1 > APR_NAME_ROOM)
        return false;
    const size_t before = (size_t)(at - name.at) + 1;
    memcpy(room, name.at, before);
    memcpy(room + before, at + n, name.n - n + 1 - before);
    *module = (struct apr_bytes){ (const unsigned char *)room, name.n - n + 1 };
    return true;
}

/* What a tensor of an adapter is, and for which of the model: its name is put together in `room`. */
static enum role role_of(struct apr_bytes name, bool gguf, bool *embedding, char room[APR_NAME_ROOM], struct apr_bytes *module)
{
    static const struct { const char *suffix; bool gguf, embedding; enum role role; } rows[] = {
        { ".lora_A.weight", false, false, ROLE_A }, { ".lora_B.weight", false, false, ROLE_B }, { ".lora_embedding_A", false, true,
                                                                                                  ROLE_A },
        { ".lora_embedding_B", false, true, ROLE_B }, { ".lora_magnitude_vector.weight", false, false, ROLE_TARGET },
        { ".lora_magnitude_vector", false, false, ROLE_TARGET },
        { ".weight.lora_a", true, false, ROLE_A }, { ".weight.lora_b", true, false, ROLE_B },
    };
    static const char prefix[] = "base_model.model.";
    if (!gguf && name.n > sizeof prefix && memcmp(name.at, prefix, sizeof prefix - 1) == 0)
        name = (struct apr_bytes){ name.at + sizeof prefix - 1, name.n - (sizeof prefix - 1) };
    *module = name;
    *embedding = false;
    if (!gguf && is_inner(name, room, module))
        return ROLE_BASE;
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const struct apr_bytes suffix = apr_text(rows[i].suffix);
        if (rows[i].gguf != gguf || !apr_bytes_end(name, suffix) || name.n - suffix.n + 8 > APR_NAME_ROOM)
            continue;
        memcpy(room, name.at, name.n - suffix.n);
        memcpy(room + (name.n - suffix.n), ".weight", 7);
        *module = (struct apr_bytes){ (const unsigned char *)room, name.n - suffix.n + 7 };
        *embedding = rows[i].embedding;
        return rows[i].role;
    }
    return ROLE_SAVED;
}

static enum apr_code note(struct found *f, enum role role, bool embedding, const struct apr_tensor *t, struct apr_error *e)
{
    const struct apr_tensor **const place[] = { [ROLE_A] = &f->a, [ROLE_B] = &f->b, [ROLE_TARGET] = &f->target, [ROLE_BASE] = &f->base,
                                                [ROLE_SAVED] = &f->saved };
    if (*place[role] != NULL)
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, t->name, " is there twice");
    *place[role] = t;
    f->embedding |= embedding;
    return APR_OK;
}

/* The head of a model that has none of its own, saved beside the embedding that it is. */
static bool is_tied_head(const struct model *m, const struct lora *l, const struct apr_tensor *t)
{
    bool same = false;
    for (size_t i = 0; i < l->m->ntensor && !same && m->binding != NULL && apr_binding_tied(m->binding); i++) {
        const struct apr_tensor *const other = &l->m->tensor[i];
        same = other != t && other->dtype == t->dtype && apr_bytes_equal(other->data, t->data);
    }
    return same;
}

/* Sorts the adapter's tensors by those of the model that they are for. */
static enum apr_code sort_out(const struct model *m, const struct lora *l, const struct apr_table *by_name, bool gguf,
                              struct found *found, struct apr_error *e)
{
    char room[APR_NAME_ROOM], spelled[APR_NAME_ROOM];
    struct apr_bytes module;
    bool embedding;
    for (size_t i = 0; i < l->m->ntensor; i++) {
        const struct apr_tensor *const t = &l->m->tensor[i];
        const enum role role = role_of(t->name, gguf, &embedding, room, &module);
        const struct apr_bytes name = m->family == NULL || gguf ? module : apr_family_spelling(m->family, module, spelled);
        const union apr_table_value *const at = apr_table_find(by_name, name);
        if (at == NULL && role == ROLE_SAVED && is_tied_head(m, l, t))
            continue;
        if (at == NULL || (role == ROLE_SAVED && apr_bytes_have(t->name, "lora_")))
            return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, t->name, " of the adapter belongs to no tensor of %s", m->said->path);
        APR_TRY(note(&found[at->number], role, embedding, t, e));
    }
    return APR_OK;
}

static enum apr_code index_names(const struct model *m, struct lora *l, bool gguf, struct apr_table *by_name, struct apr_error *e)
{
    char room[APR_NAME_ROOM];
    bool fresh;
    for (size_t i = 0; i < l->wishes.n; i++) {
        const struct apr_bytes own = l->wishes.wish[i].name;
        const struct apr_bytes name = m->family == NULL || gguf ? own : apr_arena_copy(&l->arena, apr_family_spelling(m->family, own,
                                                                                                                      room));
        union apr_table_value *const at = name.at == NULL ? NULL : apr_table_put(by_name, name, &fresh);
        if (at == NULL)
            return apr_no_memory(e);
        if (fresh)
            at->number = i;
    }
    return APR_OK;
}

/* ---- values --------------------------------------------------------------------------------------------------------- */

static double product(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Elements [col, col + n) of row `row` of B A, n <= APR_STRETCH, times the factor, are added to x. */
static void add_product(const struct adapted *t, struct apr_window *w, uint64_t row, uint64_t col, size_t n, double *x)
{
    double one[MOST_RANK], many[APR_STRETCH];
    const size_t rank = (size_t)t->rank;
    if (!t->turned) {
        apr_input_doubles(t->b, w, row * rank, rank, one);
        for (size_t k = 0; k < rank; k++) {
            apr_input_doubles(t->a, w, k * t->ncol + col, n, many);
            for (size_t i = 0; i < n; i++)
                x[i] += t->factor * one[k] * many[i];
        }
        return;
    }
    for (size_t k = 0; k < rank; k++)
        apr_input_doubles(t->a, w, k * t->nrow + row, 1, &one[k]);
    for (size_t i = 0; i < n; i++) {
        apr_input_doubles(t->b, w, (col + i) * rank, rank, many);
        x[i] += t->factor * product(one, many, rank);
    }
}

/* Elements of one row, before DoRA. */
static void adapted_row(const struct adapted *t, struct apr_window *w, uint64_t row, uint64_t col, size_t n, double *x)
{
    apr_input_doubles(t->w, w, row * t->ncol + col, n, x);
    if (t->rank > 0)
        add_product(t, w, row, col, n, x);
}

static void adapted_values(const struct apr_computation *c, struct apr_window *w, uint64_t first, size_t n, void *out)
{
    const struct adapted *const t = (const struct adapted *)(const void *)c;
    double x[APR_STRETCH];
    for (size_t at = 0, now; at < n; at += now) {
        const uint64_t row = t->ncol == 0 ? 0 : (first + at) / t->ncol, col = (first + at) - row * t->ncol;
        now = (size_t)apr_min(n - at, t->ncol - col);
        adapted_row(t, w, row, col, now, x + at);
        for (size_t i = 0; t->by != NULL && i < now; i++)
            x[at + i] *= t->by[t->turned ? col + i : row];
    }
    if (t->wide)
        memcpy(out, x, n * sizeof *x);
    else
        for (size_t i = 0; i < n; i++)
            ((float *)out)[i] = (float)x[i];
}

/* ---- making --------------------------------------------------------------------------------------------------------- */

static struct apr_input *input_of(struct lora *l, const struct apr_kernels *k, const struct apr_tensor *t)
{
    const struct apr_input in = apr_input_of(k, l->m, t);
    return t == NULL ? NULL : apr_input_keep(&l->arena, &in);
}

/* The factors fit each other and the matrix. */
static enum apr_code check_pair(const struct apr_wish *x, const struct found *f, bool turned, struct apr_error *e)
{
    const struct apr_tensor *const a = f->a, *const b = f->b;
    if (a == NULL || b == NULL)
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, (a != NULL ? a : b != NULL ? b : f->target)->name,
                               " of the adapter has no counterpart lora_%c", a == NULL ? 'A' : 'B');
    const uint64_t out = x->ndim == 2 ? x->dim[turned] : 0, in = x->ndim == 2 ? x->dim[!turned] : 0;
    if (x->ndim == 2 && a->ndim == 2 && b->ndim == 2 && a->dim[1] == in && b->dim[0] == out && a->dim[0] == b->dim[1] && a->dim[0] > 0 &&
        a->dim[0] <= MOST_RANK)
        return APR_OK;
    return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, a->name, " and its lora_B do not fit %s of the model, or each other",
                           APR_QUOTED(x->name));
}

/* What stands in the tensor's place has its shape. */
static enum apr_code check_shape(const struct apr_wish *x, const struct apr_tensor *t, struct apr_error *e)
{
    if (t == NULL || (t->ndim == x->ndim && memcmp(t->dim, x->dim, x->ndim * sizeof *x->dim) == 0))
        return APR_OK;
    return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, t->name, " of the adapter has not the shape of %s", APR_QUOTED(x->name));
}

static enum apr_code take_pair(struct said *s, struct lora *l, const struct apr_kernels *k, const struct apr_wish *x,
                               const struct found *f, struct adapted *t,
                               struct apr_error *e)
{
    const struct apr_bytes weight = apr_text(".weight");
    const struct apr_bytes module = { x->name.at, x->name.n - (apr_bytes_end(x->name, weight) ? weight.n : 0) };
    t->turned = f->embedding || s->turned;
    APR_TRY(check_pair(x, f, t->turned, e));
    t->rank = f->a->dim[0];
    t->a = input_of(l, k, f->a);
    t->b = input_of(l, k, f->b);
    if (t->a == NULL || t->b == NULL)
        return apr_no_memory(e);
    if (!t->a->decodable || !t->b->decodable)
        return apr_fail_tensor(e, APR_EUNSUPPORTED, APR_NOWHERE, f->a->name, ": its values are not decoded");
    APR_TRY(factor_of(s, &l->arena, module, t->rank, &t->factor, e));
    if (f->target == NULL)
        return APR_OK;
    if (f->target->count != f->b->dim[0])
        return apr_fail_tensor(e, APR_EARG, APR_NOWHERE, f->target->name, " of the adapter has not one number for each row");
    t->target = input_of(l, k, f->target);
    t->by = f->b->dim[0] > SIZE_MAX / sizeof *t->by ? NULL : apr_arena_alloc(&l->arena, (size_t)f->b->dim[0] * sizeof *t->by);
    return t->target == NULL || t->by == NULL ? apr_no_memory(e) : APR_OK;
}

const struct apr_dtype *float_of(const struct apr_wish *x)
{
    const struct apr_dtype *const d = apr_stored_dtype_of(x->in);
    return d != NULL && d->kind == APR_REAL && d->block == 1 && !d->packed ? d : &apr_dtypes[x->ndim < 2 ? APR_F32 : APR_F16];
}

/* The model's tensor with what the adapter has for it. */
static enum apr_code adapt(struct said *s, struct lora *l, const struct apr_kernels *k, const struct apr_wish *x, const struct found *f,
                           struct apr_tensor *out,
                           struct apr_error *e)
{
    struct adapted *const t = l->tensor[l->ntensor] = apr_arena_alloc(&l->arena, sizeof *t);
    const struct apr_tensor *const instead = f->saved != NULL ? f->saved : f->base;
    if (t == NULL)
        return apr_no_memory(e);
    l->ntensor++;
    *t = (struct adapted){ .c = { .values = adapted_values }, .w = x->in, .nrow = x->in->nrow, .ncol = x->in->ncol, .name = x->name };
    APR_TRY(check_shape(x, instead, e));
    if (instead != NULL)
        t->w = input_of(l, k, instead);
    if (t->w == NULL)
        return apr_no_memory(e);
    if (!t->w->decodable)
        return apr_fail_tensor(e, APR_EUNSUPPORTED, APR_NOWHERE, x->name, ": its values are not decoded");
    if (f->a != NULL || f->b != NULL || f->target != NULL)
        APR_TRY(take_pair(s, l, k, x, f, t, e));
    *out = (struct apr_tensor){ .name = x->name, .dtype = float_of(x), .ndim = x->ndim, .count = x->count, .row = x->count,
                                .computed = &t->c };
    memcpy(out->dim, x->dim, sizeof out->dim);
    t->wide = out->dtype->wide;
    return APR_OK;
}

static bool is_touched(const struct found *f)
{
    return f->a != NULL || f->b != NULL || f->target != NULL || f->base != NULL || f->saved != NULL;
}

static enum apr_code add_all(struct said *s, struct lora *l, const struct apr_kernels *k, const struct found *found, struct apr_error *e)
{
    unsigned first;
    if (l->m != NULL)
        APR_TRY(apr_derived_files(&l->result, l->m, &first, e));
    l->tensor = apr_arena_alloc(&l->arena, (l->wishes.n + 1) * sizeof *l->tensor);
    if (l->tensor == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < l->wishes.n; i++) {
        const struct apr_wish *const x = &l->wishes.wish[i];
        struct apr_tensor t;
        if (x->values != NULL)
            continue;
        if (is_touched(&found[i]) || x->transform != NULL || x->in->view.npart != 1)
            APR_TRY(adapt(s, l, k, x, &found[i], &t, e));
        else
            t = *apr_input_part(x->in, 0);
        t.name = x->name;
        APR_TRY(apr_derived_add(&l->result, &t, e));
    }
    return APR_OK;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

static enum apr_code spare_nothing(void *ctx, struct apr_bytes name, const char **reason, struct apr_error *e)
{
    (void)ctx;
    (void)name;
    (void)e;
    *reason = NULL;
    return APR_OK;
}

static enum apr_code open_adapter(struct model *m, struct lora *l, const char *path, enum apr_dialect *to, const struct options *o,
                                  struct apr_error *e)
{
    const struct apr_run *const r = &o->c.cli.run;
    APR_TRY(apr_open(&l->m, path, r, e));
    if (apr_model_kind(l->m) != APR_KIND_ADAPTER)
        return apr_fail(e, APR_EARG, APR_NOWHERE, "it is no adapter of low rank");
    *to = l->m->format->own_names ? APR_GGUF : APR_HF;
    if (*to != m->dialect && m->binding == NULL)
        return apr_fail(e, APR_EUNSUPPORTED, APR_NOWHERE,
                        "the family of %s is not known, so its tensors are not found by the adapter's names", m->said->path);
    return apr_wishes_of(&l->wishes, r->kernels, m->m, *to != m->dialect ? m->binding : NULL, *to, spare_nothing, NULL, e);
}

static enum apr_code adapt_all(struct model *m, struct lora *l, struct said *s, const struct options *o, struct apr_error *e)
{
    struct found *const found = calloc(l->wishes.n + 1, sizeof *found);
    struct apr_table by_name = { 0 };
    enum apr_code code = found == NULL ? apr_no_memory(e) : index_names(m, l, s->gguf, &by_name, e);
    if (code == APR_OK && l->m != NULL)
        code = sort_out(m, l, &by_name, s->gguf, found, e);
    if (code == APR_OK) {
        l->began = true;
        code = apr_derived_begin(&l->result, m->m, e);
    }
    if (code == APR_OK)
        code = add_all(s, l, o->c.cli.run.kernels, found, e);
    apr_table_free(&by_name);
    free(found);
    return code;
}

/* From now on the model is what came of that. */
static enum apr_code become(struct model *m, struct lora *l, enum apr_dialect to, struct apr_error *e)
{
    struct apr_binding *const before = m->binding;
    m->m = &l->result.m;
    m->dialect = to;
    m->binding = NULL;
    const enum apr_code code = m->family == NULL ? APR_OK : apr_bind(&m->binding, m->family, m->m, before, e);
    apr_binding_free(before);
    return code;
}

static enum apr_code put_on(struct model *m, struct lora *l, const char *path, double scale, const struct options *o, struct apr_error *e)
{
    struct said s = { .scale = scale };
    json_t *config = NULL;
    enum apr_dialect to = APR_HF;
    enum apr_code code = open_adapter(m, l, path, &to, o, e);
    if (code == APR_OK)
        code = say(&s, l, &config, &o->c.cli.run, e);
    if (code == APR_OK)
        code = adapt_all(m, l, &s, o, e);
    json_decref(config);
    if (code != APR_OK) {
        apr_error_in(e, path);
        return code;
    }
    return become(m, l, to, e);
}

/* The same model in its own dialect again, after adapters that go by the other's names. */
static enum apr_code turn_back(struct model *m, struct lora *l, enum apr_dialect to, const struct options *o, struct apr_error *e)
{
    struct said none = { .work = MOST_WORK };
    APR_TRY(apr_wishes_of(&l->wishes, o->c.cli.run.kernels, m->m, m->binding, to, spare_nothing, NULL, e));
    APR_TRY(adapt_all(m, l, &none, o, e));
    return become(m, l, to, e);
}

enum apr_code put_loras_on(struct model *m, const struct options *o, struct apr_error *e)
{
    if (m->said->nlora == 0)
        return APR_OK;
    const enum apr_dialect own = m->dialect;
    m->lora = calloc(m->said->nlora + 1, sizeof *m->lora);
    if (m->lora == NULL)
        return apr_no_memory(e);
    for (size_t i = 0; i < m->said->nlora; i++)
        APR_TRY(put_on(m, &m->lora[m->nlora++], m->said->lora[i], m->said->scale[i], o, e));
    return m->dialect == own ? APR_OK : turn_back(m, &m->lora[m->nlora++], own, o, e);
}

void free_loras(struct model *m)
{
    for (size_t i = m->nlora; i-- > 0;) {
        struct lora *const l = &m->lora[i];
        if (l->began)
            apr_derived_end(&l->result);
        apr_wishes_end(&l->wishes);
        apr_close(l->m);
        apr_arena_free(&l->arena);
    }
    free(m->lora);
}

/* ---- DoRA ----------------------------------------------------------------------------------------------------------- */

/* Sums of squares of the rows [out], which of a turned matrix are columns; then what makes their roots the norms that are told. */
static void measure_norms(struct adapted *t, const struct apr_run *r)
{
    const uint64_t n = t->turned ? t->ncol : t->nrow;
    struct apr_window w = apr_window_of(r);
    double x[APR_STRETCH], target;
    memset(t->by, 0, (size_t)n * sizeof *t->by);
    for (uint64_t row = 0; row < t->nrow; row++)
        for (uint64_t col = 0, now; col < t->ncol; col += now) {
            now = apr_min(APR_STRETCH, t->ncol - col);
            adapted_row(t, &w, row, col, (size_t)now, x);
            for (size_t i = 0; i < now; i++)
                t->by[t->turned ? col + i : row] += x[i] * x[i];
        }
    for (uint64_t i = 0; i < n; i++) {
        apr_input_doubles(t->target, &w, i, 1, &target);
        t->by[i] = target / sqrt(t->by[i]);
    }
    apr_window_drop(&w);
}

struct norms {
    struct adapted      **t;
    const struct apr_run *r;
};

static struct apr_cut cut_norms(void *ctx, size_t input, unsigned mode)
{
    const struct adapted *const t = ((const struct norms *)ctx)->t[input];
    (void)mode;
    return (struct apr_cut){ .npiece = 1, .run = 1, .elements = APR_ALONE, .bytes = t->nrow * t->ncol };
}

static enum apr_code make_norms(void *ctx, const struct apr_pieces *p, void *scratch, void *result, struct apr_error *e)
{
    const struct norms *const g = ctx;
    (void)scratch;
    (void)result;
    (void)e;
    measure_norms(g->t[p->input], g->r);
    return APR_OK;
}

static enum apr_code take_norms(void *ctx, const struct apr_pieces *p, const void *result, struct apr_error *e)
{
    (void)ctx;
    (void)p;
    (void)result;
    (void)e;
    return APR_OK;
}

/* One adapter after the other: each rests on those before it. */
enum apr_code measure_loras(struct model *models, size_t n, const struct apr_run *r, struct apr_error *e)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < models[i].nlora; k++) {
            struct lora *const l = &models[i].lora[k];
            struct norms g = { apr_arena_alloc(&l->arena, (l->ntensor + 1) * sizeof(struct adapted *)), r };
            struct apr_job job = { .what = "measuring", .ctx = &g, .result = sizeof(double), .cut = cut_norms, .make = make_norms,
                                   .take = take_norms };
            if (g.t == NULL)
                return apr_no_memory(e);
            for (size_t j = 0; j < l->ntensor; j++)
                if (l->tensor[j]->by != NULL)
                    g.t[job.ninput++] = l->tensor[j];
            if (job.ninput > 0)
                APR_TRY(apr_pass(r, &job, e));
        }
    return APR_OK;
}
