/* Any bytes as the metadata of an APR: a tokenizer in the files that it carries, in gguf.kv, in flat keys, to each dialect and back. */
#include "fuzz.h"

#include "model/format.h"
#include "model/json.h"
#include "model/model.h"
#include "token/tokenizer_write.h"

static void free_model(struct apr_model *m)
{
    free(m->meta.entry);
    apr_arena_free(&m->arena);
}

static enum apr_code read_members(struct apr_model *m, struct apr_bytes text, struct apr_error *e)
{
    struct apr_walk w;
    struct apr_item item;
    bool more;
    APR_TRY(apr_json_check(text, 0, e));
    APR_TRY(apr_walk_in(&w, text, 0, '{', e));
    for (;;) {
        struct apr_bytes key;
        struct apr_value v;
        APR_TRY(apr_walk_next(&w, &item, &more, e));
        if (!more)
            return APR_OK;
        APR_TRY(apr_json_text(&m->arena, item.key, item.key_at, &key, e));
        APR_TRY(apr_json_checked(&m->arena, item.value, 0, &v, e));
        APR_TRY(apr_model_meta(m, key, &v, e));
    }
}

static const struct apr_format *format_called(const char *name)
{
    const struct apr_format *const *f = apr_formats;
    while (strcmp((*f)->name, name) != 0)
        f++;
    return *f;
}

typedef enum apr_code to_draft_fn(struct apr_draft *d, struct apr_tokenizer *t, const struct apr_run *r, struct apr_error *e);

static void to_draft(const struct apr_model *m, const struct apr_side *side, to_draft_fn *to, const struct apr_run *r)
{
    struct apr_tokenizer t = { .m = m, .side = side };
    struct apr_draft d = { 0 };
    struct apr_error e = { .at = APR_NOWHERE };
    const enum apr_code code = to(&d, &t, r, &e);
    if (code != APR_OK)
        fuzz_expect_error(code, &e);
    apr_draft_end(&d);
}

/* The files of it, and what a GGUF made of those would be; the keys of it as a GGUF's, and the files of those. */
static void to_files(const struct apr_model *m, const struct apr_side *side, const struct apr_run *r, bool again)
{
    struct apr_tokenizer t = { .m = m, .side = side };
    struct apr_side files = { 0 };
    struct apr_error e = { .at = APR_NOWHERE };
    const enum apr_code code = apr_tokenizer_to_hf(&files, &t, r, &e);
    if (code != APR_OK)
        fuzz_expect_error(code, &e);
    else if (again)
        to_draft(m, &files, apr_tokenizer_to_gguf, r);
    apr_side_end(&files);
}

static void as_gguf(const struct apr_model *m, const struct apr_side *side, const struct apr_run *r)
{
    struct apr_tokenizer t = { .m = m, .side = side };
    struct apr_draft d = { 0 };
    struct apr_error e = { .at = APR_NOWHERE };
    const struct apr_side none = { 0 };
    if (apr_tokenizer_to_gguf(&d, &t, r, &e) == APR_OK) {
        const struct apr_model gguf = { .format = format_called("gguf"), .meta = d.meta };
        to_files(&gguf, &none, r, false);
        to_draft(&gguf, &none, apr_tokenizer_to_apr, r);
    }
    apr_draft_end(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct apr_model m = { .format = format_called("apr") };
    struct apr_side side = { 0 };
    struct apr_error e = { .at = APR_NOWHERE };
    const struct apr_run r = fuzz_run();
    if (read_members(&m, (struct apr_bytes){ bytes, n }, &e) == APR_OK && apr_side_of(&side, &m, &r, &e) == APR_OK) {
        const struct apr_side none = { 0 };
        to_draft(&m, &side, apr_tokenizer_to_apr, &r);
        to_files(&m, &side, &r, true);
        to_files(&m, &none, &r, true);
        as_gguf(&m, &side, &r);
        as_gguf(&m, &none, &r);
    }
    apr_side_end(&side);
    free_model(&m);
    return 0;
}
