#include "family/gguf_kv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/bytes.h"
#include "base/memstream.h"
#include "family/spell.h"
#include "model/format.h"
#include "model/meta.h"
#include "model/side.h"
#include "ui/report.h"

static const struct {
    const char        *key, *name; /* of the GGUF; in the APR's metadata */
    enum apr_meta_type element;
} by_reference[] = {
    { "tokenizer.ggml.tokens", "tokenizer.vocabulary", APR_META_STRING },
    { "tokenizer.ggml.scores", "tokenizer.scores", APR_META_F32 },
    { "tokenizer.ggml.token_type", "tokenizer.token_type", APR_META_I32 },
    { "tokenizer.ggml.merges", "tokenizer.merges", APR_META_STRING },
};

static bool is_float(enum apr_meta_type t) { return t == APR_META_F32 || t == APR_META_F64; }

static bool is_signed(enum apr_meta_type t) { return t == APR_META_I8 || t == APR_META_I16 || t == APR_META_I32 || t == APR_META_I64; }

/* A float that is not finite, a string that is not UTF-8: JSON has no spelling for it. */
static bool unspeakable(const struct apr_value *v)
{
    return (is_float(v->type) && !isfinite(v->f)) || (v->type == APR_META_STRING && !apr_is_utf8(v->text));
}

static bool any_unspeakable(const struct apr_value *v)
{
    struct apr_elements w = apr_elements_of(v);
    struct apr_value element;
    bool any = false;
    while (!any && apr_elements_next(&w, &element))
        any = unspeakable(&element);
    apr_elements_end(&w);
    return any;
}

/* ---- writing -------------------------------------------------------------------------------------------------------- */

struct writer {
    struct apr_out    out;
    struct apr_arena *scratch;
    struct apr_error *e;
};

static void write_bits(FILE *to, const struct apr_value *v)
{
    uint64_t bits;
    uint32_t half;
    memcpy(&bits, &v->f, sizeof bits);
    memcpy(&half, &(float){ (float)v->f }, sizeof half);
    if (v->type == APR_META_F32)
        fprintf(to, "%08x", (unsigned)half);
    else
        fprintf(to, "%016llx", (unsigned long long)bits);
}

static void write_value(struct apr_out *o, const char *key, const struct apr_value *v)
{
    char text[APR_SPELL_ROOM];
    if (is_float(v->type))
        apr_out_raw(o, key, apr_text(v->type == APR_META_F32 ? apr_spell_f32(v->f, text) : apr_spell_f64(v->f, text)));
    else
        apr_out_value(o, key, v, 0);
}

static enum apr_code write_base64(struct writer *w, const char *key, struct apr_bytes text)
{
    const struct apr_bytes spelled = apr_base64_encode(&w->scratch, text);
    if (spelled.at == NULL)
        return apr_no_memory(w->e);
    apr_out_bytes(&w->out, key, spelled);
    return APR_OK;
}

static enum apr_code write_hex(struct writer *w, const struct apr_value *v)
{
    apr_out_key(&w->out, apr_text("hex"));
    FILE *const to = w->out.to;
    putc('"', to);
    struct apr_elements walk = apr_elements_of(v);
    struct apr_value element;
    if (v->type != APR_META_ARRAY)
        write_bits(to, v);
    else
        while (apr_elements_next(&walk, &element))
            write_bits(to, &element);
    putc('"', to);
    w->out.comma[w->out.depth] = true;
    return apr_elements_done(&walk, APR_OK, w->e);
}

static enum apr_code write_array(struct writer *w, const struct apr_value *v)
{
    const bool odd = any_unspeakable(v);
    struct apr_elements walk = apr_elements_of(v);
    struct apr_value element;
    enum apr_code code = APR_OK;
    if (odd && is_float(v->element))
        return write_hex(w, v);
    apr_out_open(&w->out, odd ? "base64" : "v", '[');
    while (code == APR_OK && apr_elements_next(&walk, &element)) {
        if (odd)
            code = write_base64(w, NULL, element.text);
        else
            write_value(&w->out, NULL, &element);
    }
    apr_out_close(&w->out, ']');
    return apr_elements_done(&walk, code, w->e);
}

static const char *name_of(const struct apr_meta_entry *entry)
{
    for (size_t i = 0; i < APR_LENGTH(by_reference); i++)
        if (apr_bytes_is(entry->key, by_reference[i].key))
            return entry->value.type == APR_META_ARRAY && entry->value.element == by_reference[i].element && !any_unspeakable(&entry->value)
                       ? by_reference[i].name : NULL;
    return NULL;
}

static enum apr_code write_entry(struct writer *w, const struct apr_meta_entry *entry, bool by_name)
{
    const struct apr_value *v = &entry->value;
    const char *const name = by_name ? name_of(entry) : NULL;
    const bool array = v->type == APR_META_ARRAY;
    char tag[16];
    enum apr_code code = APR_OK;
    if (array && v->element == APR_META_ARRAY)
        return apr_fail(w->e, APR_EUNSUPPORTED, APR_NOWHERE, "key %s: an array of arrays has no place there; --unset it",
                        APR_QUOTED(entry->key));
    snprintf(tag, sizeof tag, "%s%s", array ? "arr_" : "", apr_meta_type_word(array ? v->element : v->type));
    apr_out_key(&w->out, entry->key);
    apr_out_open(&w->out, NULL, '{');
    apr_out_text(&w->out, "t", name != NULL ? "custom" : tag);
    if (name != NULL) {
        apr_out_text(&w->out, "custom", name);
        apr_out_count(&w->out, "len", apr_meta_length(v));
    } else if (array) {
        code = write_array(w, v);
    } else if (!unspeakable(v)) {
        write_value(&w->out, "v", v);
    } else {
        code = v->type == APR_META_STRING ? write_base64(w, "base64", v->text) : write_hex(w, v);
    }
    apr_out_close(&w->out, '}');
    return code;
}

enum apr_code apr_gguf_kv_write(struct apr_arena **a, const struct apr_meta *meta, bool by_name, struct apr_bytes *json,
                                struct apr_error *e)
{
    char *text = NULL;
    size_t n = 0;
    struct writer w = { .out.to = apr_memstream(&text, &n), .e = e };
    enum apr_code code = APR_OK;
    if (w.out.to == NULL)
        return apr_no_memory(e);
    apr_out_open(&w.out, NULL, '{');
    for (size_t i = 0; i < meta->n && code == APR_OK; i++)
        code = write_entry(&w, &meta->entry[i], by_name);
    apr_out_close(&w.out, '}');
    apr_arena_free(&w.scratch);
    const enum apr_code spelled = apr_spelled(a, w.out.to, &text, &n, json, e);
    return code != APR_OK ? code : spelled;
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

struct reader {
    struct apr_draft       *d;
    const struct apr_model *m;
    struct apr_error       *e;
    struct apr_bytes        key;
};

static enum apr_code fault(const struct reader *r, const char *what)
{
    return apr_fail(r->e, APR_ECORRUPT, APR_NOWHERE, APR_KV_KEY ": key %s: %s", APR_QUOTED(r->key), what);
}

static bool type_of(struct apr_bytes word, enum apr_meta_type *type)
{
    for (*type = APR_META_U8; *type <= APR_META_F64; ++*type)
        if (*type != APR_META_ARRAY && apr_bytes_is(word, apr_meta_type_word(*type)))
            return true;
    return false;
}

static bool fits(uint64_t v, bool negative, enum apr_meta_type type)
{
    const unsigned bits = 8 * apr_meta_width(type);
    if (!is_signed(type))
        return !negative && (bits == 64 || v >> bits == 0);
    if (negative)
        return bits == 64 || (int64_t)v >= -(INT64_C(1) << (bits - 1));
    return v >> (bits - 1) == 0;
}

/* A JSON value as one of a GGUF's type; false when it is none. */
static bool convert(const struct apr_value *v, enum apr_meta_type type, struct apr_value *out)
{
    double number;
    *out = (struct apr_value){ .type = type };
    if (type == APR_META_STRING)
        out->text = v->text;
    if (type == APR_META_STRING || type == APR_META_BOOL) {
        out->b = type == APR_META_BOOL && v->b;
        return v->type == type;
    }
    if (v->type == APR_META_BOOL || !apr_meta_number(v, &number))
        return false;
    if (is_float(type)) {
        out->f = type == APR_META_F32 ? (double)(float)number : number;
        return isfinite(out->f);
    }
    out->u = v->u;
    return (v->type == APR_META_U64 || v->type == APR_META_I64) && fits(v->u, v->type == APR_META_I64, type);
}

/* The bits of one float, of which *text begins with; *text moves on. */
static bool take_bits(struct apr_bytes *text, enum apr_meta_type type, struct apr_value *out)
{
    const size_t digits = 2 * apr_meta_width(type);
    uint64_t bits = 0;
    float half;
    for (size_t i = 0; i < digits; i++) {
        static const char hex[] = "0123456789abcdef";
        const char *const at = i < text->n && text->at[i] != 0 ? strchr(hex, text->at[i]) : NULL;
        if (at == NULL)
            return false;
        bits = bits << 4 | (uint64_t)(at - hex);
    }
    *text = (struct apr_bytes){ text->at + digits, text->n - digits };
    *out = (struct apr_value){ .type = type };
    memcpy(&half, &(uint32_t){ (uint32_t)bits }, sizeof half);
    if (type == APR_META_F32)
        out->f = (double)half;
    else
        memcpy(&out->f, &bits, sizeof bits);
    return true;
}

static void append(struct apr_array *array, const struct apr_value *v)
{
    if (v->type == APR_META_STRING)
        apr_array_text(array, v->text);
    else if (is_float(v->type))
        apr_array_real(array, v->f);
    else
        apr_array_integer(array, v->type == APR_META_BOOL ? v->b : v->u);
}

/* What an entry has besides its tag. form: 'v', 'h'ex, 'b'ase64; 'c'ustom. */
struct form {
    struct apr_value value;
    char             kind;
};

static bool take_element(struct reader *r, const struct form *f, const struct apr_value *v, enum apr_meta_type type, struct apr_value *out)
{
    *out = (struct apr_value){ .type = type };
    if (f->kind != 'b')
        return convert(v, type, out);
    return type == APR_META_STRING && v->type == APR_META_STRING && apr_base64_decode(&r->d->arena, v->text, &out->text);
}

static enum apr_code read_array(struct reader *r, const struct form *f, enum apr_meta_type element)
{
    struct apr_array array = { .element = element };
    struct apr_elements w = apr_elements_of(&f->value);
    struct apr_value v, out;
    bool good = f->kind == 'h' ? is_float(element) && f->value.type == APR_META_STRING : f->value.type == APR_META_ARRAY;
    struct apr_bytes hex = f->value.text;
    while (good && f->kind == 'h' && hex.n > 0)
        if ((good = take_bits(&hex, element, &out)))
            append(&array, &out);
    while (good && f->kind != 'h' && apr_elements_next(&w, &v))
        if ((good = take_element(r, f, &v, element, &out)))
            append(&array, &out);
    const struct apr_bytes key = apr_arena_copy(&r->d->arena, r->key);
    enum apr_code code = !good ? fault(r, "its elements are not of its type") : key.at == NULL ? apr_no_memory(r->e) : APR_OK;
    code = apr_elements_done(&w, code, r->e);
    if (code == APR_OK)
        code = apr_draft_array(r->d, (const char *)key.at, &array, r->e);
    apr_array_drop(&array);
    return code;
}

static enum apr_code read_scalar(struct reader *r, const struct form *f, enum apr_meta_type type)
{
    struct apr_value out;
    struct apr_bytes hex = f->value.text;
    const bool good = f->kind == 'h' ? f->value.type == APR_META_STRING && is_float(type) && take_bits(&hex, type, &out) && hex.n == 0
                                     : take_element(r, f, &f->value, type, &out);
    if (!good)
        return fault(r, "its value is not of its type");
    if (type == APR_META_STRING)
        out.text = apr_arena_copy(&r->d->arena, out.text);
    return type == APR_META_STRING && out.text.at == NULL ? apr_no_memory(r->e) : apr_draft_put(r->d, r->key, &out, r->e);
}

/* The array that stands in the metadata under its own name. */
static enum apr_code read_custom(struct reader *r, struct apr_bytes name)
{
    for (size_t i = 0; i < APR_LENGTH(by_reference); i++) {
        const struct apr_value *const v = apr_bytes_is(name, by_reference[i].name) ? apr_meta_at(&r->m->meta, name) : NULL;
        if (v != NULL && v->type == APR_META_ARRAY)
            return read_array(r, &(struct form){ *v, 'v' }, by_reference[i].element);
    }
    return fault(r, "the array that it refers to is not there");
}

/* Copies what an entry holds, since the next step of a walk takes it away. */
static enum apr_code look_into(struct reader *r, const struct apr_value *entry, struct apr_bytes *tag, struct form *f)
{
    struct apr_elements w = apr_elements_of(entry);
    struct apr_value v;
    enum apr_code code = APR_OK;
    while (code == APR_OK && apr_elements_next(&w, &v)) {
        const bool is_tag = apr_bytes_is(w.key, "t"), is_value = apr_bytes_is(w.key, "v") || apr_bytes_is(w.key, "hex") ||
                   apr_bytes_is(w.key, "base64") || apr_bytes_is(w.key, "custom");
        if (!is_tag && !is_value)
            continue;
        struct apr_value copy = v;
        if (v.type == APR_META_STRING)
            copy.text = apr_arena_copy(&r->d->arena, v.text);
        if (v.type == APR_META_STRING && copy.text.at == NULL)
            code = apr_no_memory(r->e);
        else if (is_tag)
            *tag = v.type == APR_META_STRING ? copy.text : (struct apr_bytes){ 0 };
        else
            *f = (struct form){ copy, (char)w.key.at[0] };
    }
    return apr_elements_done(&w, code, r->e);
}

static enum apr_code read_entry(struct reader *r, const struct apr_value *entry)
{
    struct apr_bytes tag = { 0 };
    struct form f = { 0 };
    enum apr_meta_type type;
    if (entry->type != APR_META_OBJECT)
        return fault(r, "expected an object with \"t\"");
    APR_TRY(look_into(r, entry, &tag, &f));
    if (apr_bytes_is(tag, "custom"))
        return f.kind == 'c' ? read_custom(r, f.value.text) : fault(r, "expected \"custom\"");
    const bool array = tag.n > 4 && memcmp(tag.at, "arr_", 4) == 0;
    const struct apr_bytes word = array ? (struct apr_bytes){ tag.at + 4, tag.n - 4 } : tag;
    if (!type_of(word, &type))
        return fault(r, "its \"t\" is no type");
    if (f.kind == 0 || f.kind == 'c')
        return fault(r, "its value is missing");
    return array ? read_array(r, &f, type) : read_scalar(r, &f, type);
}

static bool is_tokenizer(struct apr_bytes key)
{
    static const char prefix[] = "tokenizer.";
    return key.n >= sizeof prefix && memcmp(key.at, prefix, sizeof prefix - 1) == 0;
}

static enum apr_code read_all(struct reader *r, const struct apr_value *object, bool tokenizer)
{
    struct apr_elements w = apr_elements_of(object);
    struct apr_value entry;
    enum apr_code code = APR_OK;
    while (code == APR_OK && apr_elements_next(&w, &entry)) {
        r->key = w.key;
        if (memchr(w.key.at, 0, w.key.n) != NULL)
            code = fault(r, "a key holds no NUL");
        else if (tokenizer || !is_tokenizer(w.key))
            code = read_entry(r, &entry);
    }
    return apr_elements_done(&w, code, r->e);
}

enum apr_code apr_gguf_kv_read(struct apr_draft *d, const struct apr_model *m, bool tokenizer, struct apr_error *e)
{
    const struct apr_value *const carried = m->format->own_names ? NULL : apr_meta_find(&m->meta, APR_KV_KEY);
    struct reader r = { .d = d, .m = m, .e = e };
    struct apr_value object;
    if (carried == NULL || (carried->type != APR_META_OBJECT && carried->type != APR_META_STRING))
        return APR_OK;
    if (carried->type == APR_META_OBJECT)
        return read_all(&r, carried, tokenizer);
    APR_TRY(apr_side_object(carried->text, &object, e));
    return read_all(&r, &object, tokenizer);
}

enum apr_code apr_flat_read(struct apr_draft *d, const struct apr_model *m, bool tokenizer, struct apr_error *e)
{
    const struct apr_bytes text = apr_meta_string(&m->meta, m->format->own_names ? APR_HF_PREFIX APR_FLAT_KEY : APR_FLAT_KEY);
    struct apr_value object, v;
    enum apr_code code = APR_OK;
    if (text.n == 0)
        return APR_OK;
    APR_TRY(apr_side_object(text, &object, e));
    struct apr_elements w = apr_elements_of(&object);
    while (code == APR_OK && apr_elements_next(&w, &v)) {
        if (!tokenizer && is_tokenizer(w.key))
            continue;
        if (v.type == APR_META_STRING)
            v.text = apr_arena_copy(&d->arena, v.text);
        code = v.type == APR_META_STRING && v.text.at == NULL ? apr_no_memory(e) : apr_draft_put(d, w.key, &v, e);
    }
    return apr_elements_done(&w, code, e);
}
