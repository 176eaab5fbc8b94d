/* What will be written, and how it is: layouts, shards, pieces, verification, and that nothing is ever there by halves. */
#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <libdeflate.h>
#include <zstd.h>

#include "base/bytes.h"
#include "base/crc32.h"
#include "files/sink.h"
#include "flow/plan.h"
#include "model/format.h"
#include "model/meta.h"
#include "model/model.h"
#include "model/open.h"
#include "values/dtype.h"

/* ---- a stand-in for the system: call number fails_at of those that are counted fails -------------------------------------- */

enum call { NONE, SYSTEM, MEMORY, DAMAGE };
static enum call counted;
static long      fails_at;
static _Atomic long calls;

static bool fault(enum call kind, int why)
{
    if (kind != counted || ++calls != fails_at)
        return false;
    errno = why;
    return true;
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at)
{
    unsigned char wrong = 0;
    if (fault(SYSTEM, ENOSPC))
        return -1;
    if (n == 0 || !fault(DAMAGE, 0))
        return syscall(SYS_pwrite64, fd, bytes, n, at);
    wrong = (unsigned char)(*(const unsigned char *)bytes ^ 1); /* the disk says that it was written */
    return syscall(SYS_pwrite64, fd, &wrong, 1, at) + (n > 1 ? syscall(SYS_pwrite64, fd, (const char *)bytes + 1, n - 1, at + 1) : 0);
}

int fsync(int fd) { return fault(SYSTEM, EIO) ? -1 : (int)syscall(SYS_fsync, fd); }
int mkdirat(int fd, const char *path, mode_t mode) { return fault(SYSTEM, EACCES) ? -1 : (int)syscall(SYS_mkdirat, fd, path, mode); }
int fallocate(int fd, int mode, off_t at, off_t n) { return fault(SYSTEM, ENOSPC) ? -1 : (int)syscall(SYS_fallocate, fd, mode, at, n); }

int linkat(int from, const char *path, int to, const char *name, int flags)
{
    return fault(SYSTEM, EACCES) ? -1 : (int)syscall(SYS_linkat, from, path, to, name, flags);
}

int renameat2(int from, const char *path, int to, const char *name, unsigned flags)
{
    return fault(SYSTEM, EACCES) ? -1 : (int)syscall(SYS_renameat2, from, path, to, name, flags);
}

#ifdef __SANITIZE_ADDRESS__
#define OWN_MEMORY 0
#elif defined __SANITIZE_THREAD__
#define OWN_MEMORY 0
#else
#define OWN_MEMORY 1
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t n);
void *malloc(size_t n) { return fault(MEMORY, ENOMEM) ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t size) { return fault(MEMORY, ENOMEM) ? NULL : __libc_calloc(n, size); }
void *realloc(void *old, size_t n) { return fault(MEMORY, ENOMEM) ? NULL : __libc_realloc(old, n); }
#endif

/* ---- plans ---------------------------------------------------------------------------------------------------------------- */

static const struct apr_format *format(const char *name)
{
    const struct apr_format *const *f = apr_formats;
    while (strcmp((*f)->name, name) != 0)
        f++;
    return *f;
}

static struct apr_model *opened(const char *path)
{
    struct apr_model *m;
    struct apr_error e;
    if (apr_open(&m, path, test_run_with(1), &e) != APR_OK)
        fail_msg("%s: %s", e.file, e.text);
    return m;
}

/* A plan that carries every tensor as it is; keys where both sides are of one format. */
static enum apr_code carry(struct apr_plan *p, const struct apr_model *m, const char *to, const char *out, struct apr_error *e)
{
    p->format = format(to);
    p->out = out;
    p->folder = out[strlen(out) - 1] == '/';
    for (size_t i = 0; m->format == p->format && i < m->meta.n; i++)
        APR_TRY(apr_draft_put(&p->meta, m->meta.entry[i].key, &m->meta.entry[i].value, e));
    for (size_t i = 0; i < m->ntensor; i++) {
        const struct apr_tensor *const t = &m->tensor[i];
        struct apr_planned one = { .name = t->name, .from = t->name, .dtype = t->dtype, .ndim = t->ndim, .how = APR_COPY,
                                   .in = apr_input_of(apr_kernels_for(APR_SCALAR), m, t) };
        memcpy(one.dim, t->dim, sizeof one.dim);
        APR_TRY(apr_plan_add(p, &one, e));
    }
    return APR_OK;
}

static enum apr_code write_plan(struct apr_plan *p, const struct apr_run *r, struct apr_error *e)
{
    bool verified;
    APR_TRY(apr_plan_place(p, e));
    APR_TRY(apr_plan_write(p, r, true, &verified, e));
    return APR_OK;
}

/* Converts a file as it is, with what the plan says already. */
static enum apr_code convert_with(struct apr_plan *p, const char *from, const char *to, const char *out, const struct apr_run *r, struct apr_error *e)
{
    struct apr_model *const m = opened(from);
    enum apr_code code = carry(p, m, to, out, e);
    if (code == APR_OK)
        code = write_plan(p, r, e);
    apr_plan_end(p);
    apr_close(m);
    return code;
}

static void convert(struct apr_plan p, const char *from, const char *to, const char *out)
{
    struct apr_error e;
    if (convert_with(&p, from, to, out, test_run_with(2), &e) != APR_OK)
        fail_msg("%s to %s: %s: %s", from, out, e.file, e.text);
}

/* Two texts that fail_msg can show. */
static void expect_same_file(const char *a, const char *b)
{
    struct test_bytes x = test_load(a), y = test_load(b);
    if (x.n != y.n || memcmp(x.at, y.at, x.n) != 0)
        fail_msg("%s (%zu bytes) and %s (%zu) differ", a, x.n, b, y.n);
    test_free(&x);
    test_free(&y);
}

/* The same tensors, by name, bit for bit; and nothing that our own reader finds worth a word, but what `but` begins with. */
static void expect_same_model(const char *got, const char *want)
{
    struct apr_model *const a = opened(got), *const b = opened(want);
    assert_int_equal(a->ntensor, b->ntensor);
    for (size_t i = 0; i < b->ntensor; i++) {
        const struct apr_tensor *const t = &b->tensor[i], *const u = apr_model_find(a, t->name);
        if (u == NULL || u->dtype != t->dtype || u->ndim != t->ndim || memcmp(u->dim, t->dim, sizeof t->dim) != 0 || u->data.n != t->data.n ||
            memcmp(u->data.at, t->data.at, t->data.n) != 0)
            fail_msg("%s: tensor %.*s is not that of %s", got, APR_PRINTED(t->name), want);
    }
    for (size_t i = 0; i < a->nnote; i++)
        if (strcmp(a->note[i].code, "gguf.no_architecture") != 0 && strcmp(a->note[i].code, "gguf.no_quantization_version") != 0)
            fail_msg("%s: %s: %s", got, a->note[i].code, a->note[i].text);
    apr_close(a);
    apr_close(b);
}

/* How many files and folders are in a folder; those of a temporary name too. */
static size_t files_in(const char *folder)
{
    size_t n = 0;
    DIR *const d = opendir(test_path(folder));
    for (const struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;)
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    if (d != NULL)
        closedir(d);
    return n;
}

/* One SafeTensors tensor of that dtype, [rows, cols], and its bytes: a sequence of random numbers. */
static const char *one_tensor(const char *name, const char *dtype, unsigned width, uint64_t rows, uint64_t cols, const void *data)
{
    struct test_bytes b = { 0 };
    char json[160];
    const uint64_t n = rows * cols * width;
    snprintf(json, sizeof json, "{\"w\":{\"dtype\":\"%s\",\"shape\":[%llu,%llu],\"data_offsets\":[0,%llu]}}", dtype, (unsigned long long)rows,
             (unsigned long long)cols, (unsigned long long)n);
    test_integer(&b, strlen(json), 8);
    test_text(&b, json);
    test_put(&b, data, n);
    const char *const path = test_file(name, b.at, b.n);
    test_free(&b);
    return path;
}

static unsigned char *random_bytes(size_t n)
{
    unsigned char *const at = malloc(n);
    for (size_t i = 0; i < n; i++)
        at[i] = (unsigned char)test_random(256);
    return at;
}

/* 4.8 MB of F32 that are finite, in pieces. */
static const char *big(const char *name)
{
    float *const x = malloc(1200 * 1000 * sizeof *x);
    for (size_t i = 0; i < 1200 * 1000; i++)
        x[i] = (float)test_random(2000) / 7 - 100;
    const char *const path = one_tensor(name, "F32", 4, 1200, 1000, x);
    free(x);
    return path;
}

/* ---- layouts -------------------------------------------------------------------------------------------------------------- */

static void a_file_of_other_peoples_libraries_comes_back_byte_for_byte(void **state)
{
    (void)state;
    static const struct { const char *path, *format; } rows[] = {
        { "fixtures/qwen2-q8_0.gguf", "gguf" },
        { "fixtures/qwen2-q4_0.gguf", "gguf" },
        { "fixtures/qwen2-bf16.gguf", "gguf" },
        { "fixtures/qwen2/model-00001-of-00003.safetensors", "safetensors" },
        { "fixtures/qwen2/model-00002-of-00003.safetensors", "safetensors" },
        { "fixtures/qwen2/model-00003-of-00003.safetensors", "safetensors" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *const out = test_path("back");
        unlink(out);
        convert((struct apr_plan){ 0 }, rows[i].path, rows[i].format, out);
        expect_same_file(out, rows[i].path);
    }
}

static void every_way_round_the_tensors_are_the_same(void **state)
{
    (void)state;
    convert((struct apr_plan){ 0 }, "fixtures/qwen2", "apr", test_path("round.apr"));
    expect_same_model(test_path("round.apr"), "fixtures/qwen2");
    convert((struct apr_plan){ 0 }, test_path("round.apr"), "gguf", test_path("round.gguf"));
    expect_same_model(test_path("round.gguf"), "fixtures/qwen2");
    convert((struct apr_plan){ 0 }, test_path("round.gguf"), "safetensors", test_path("round.safetensors"));
    expect_same_model(test_path("round.safetensors"), "fixtures/qwen2");
    convert((struct apr_plan){ 0 }, "fixtures/qwen2-q8_0.gguf", "apr", test_path("blocks.apr"));
    expect_same_model(test_path("blocks.apr"), "fixtures/qwen2-q8_0.gguf");
    convert((struct apr_plan){ 0 }, test_path("blocks.apr"), "gguf", test_path("blocks.gguf"));
    expect_same_model(test_path("blocks.gguf"), "fixtures/qwen2-q8_0.gguf");
}

static void big_endian_tensors_are_turned_round(void **state)
{
    (void)state;
    convert((struct apr_plan){ 0 }, "fixtures/qwen2-big-endian.gguf", "gguf", test_path("little.gguf"));
    struct apr_model *const a = opened("fixtures/qwen2-big-endian.gguf"), *const b = opened(test_path("little.gguf"));
    for (size_t i = 0; i < a->ntensor; i++) {
        float x[APR_STRETCH], y[APR_STRETCH];
        const size_t n = (size_t)apr_min(a->tensor[i].count, APR_STRETCH);
        assert_false(b->tensor[i].swapped);
        apr_read_floats(apr_kernels_for(APR_SCALAR), &a->tensor[i], 0, n, x);
        apr_read_floats(apr_kernels_for(APR_SCALAR), &b->tensor[i], 0, n, y);
        assert_memory_equal(x, y, n * sizeof *x);
    }
    for (size_t i = 0; i < a->meta.n; i++)
        assert_true(apr_value_equal(&a->meta.entry[i].value, &b->meta.entry[i].value));
    apr_close(a);
    apr_close(b);
}

/* Tensors that the target's mapping can share with the source's blocks lie in their blocks as in those. */
static void data_begins_where_it_can_be_shared(void **state)
{
    (void)state;
    const char *const source = big("shared.safetensors");
    struct test_bytes b = test_load(source);
    const size_t before = b.n - 4800000;
    test_free(&b);
    convert((struct apr_plan){ 0 }, source, "safetensors", test_path("shares.safetensors"));
    expect_same_model(test_path("shares.safetensors"), source);
    struct apr_model *const m = opened(test_path("shares.safetensors"));
    assert_int_equal(before % 8 == 0, apr_tensor_offset(m, &m->tensor[0]) % 4096 == before % 4096);
    apr_close(m);
}

static void what_a_format_does_not_hold_is_refused_by_name(void **state)
{
    (void)state;
    static const char long_name[] = "a name of more than sixty-three bytes, which llama.cpp does not load";
    static const struct { const char *format; enum apr_dtype_id dtype; const char *name; unsigned ndim; uint64_t dim[6]; const char *words; } rows[] = {
        { "gguf", APR_F8_E4M3, "w", 1, { 4 }, "F8_E4M3 [4], cannot be written: GGUF has no such type; --type" },
        { "gguf", APR_U8, "w", 1, { 4 }, "--type" },
        { "gguf", APR_F32, "w", 5, { 1, 1, 1, 1, 1 }, "at most 4 dimensions" },
        { "gguf", APR_F32, long_name, 1, { 4 }, "63 bytes" },
        { "gguf", APR_Q8_0, "w", 2, { 2, 33 }, "whole blocks" },
        { "gguf", APR_APR_Q4, "w", 1, { 32 }, "APR_Q4" },
        { "apr", APR_Q8_K, "w", 1, { 256 }, "Q8_K [256], cannot be written: no reader of APR knows that type; --type" },
        { "apr", APR_F8_E5M2, "w", 1, { 4 }, "--type" },
        { "apr", APR_U16, "w", 1, { 4 }, "--type" },
        { "safetensors", APR_Q4_K, "w", 1, { 256 }, "Q4_K [256], cannot be written: SafeTensors has no such type; --type" },
        { "safetensors", APR_F32, "__metadata__", 1, { 4 }, "--rename" },
        { "safetensors", APR_F32, "w", 2, { UINT64_MAX, 2 }, "no file holds" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_plan p = { .format = format(rows[i].format), .out = "x" };
        struct apr_planned t = { .name = apr_text(rows[i].name), .dtype = &apr_dtypes[rows[i].dtype], .ndim = rows[i].ndim, .how = APR_ENCODE };
        struct apr_error e;
        memcpy(t.dim, rows[i].dim, sizeof rows[i].dim);
        if (apr_plan_add(&p, &t, &e) == APR_OK || strstr(e.text, rows[i].words) == NULL)
            fail_msg("%zu: \"%s\" is not in: %s", i, rows[i].words, e.text);
        apr_plan_end(&p);
    }
}

static struct apr_planned zeros(const char *name, uint64_t n)
{
    static const float values[4096];
    return (struct apr_planned){ .name = apr_text(name), .dtype = &apr_dtypes[APR_F32], .ndim = 1, .dim = { n }, .how = APR_GENERATE, .values = values };
}

static void keys_of_every_type_are_written(void **state)
{
    (void)state;
    static const unsigned char big_endian[] = { 0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFE };
    struct apr_plan p = { .format = format("gguf"), .out = test_path("keys.gguf") };
    const struct apr_value value[] = {
        { .type = APR_META_U8, .u = 255 }, { .type = APR_META_I8, .i = -128 }, { .type = APR_META_U16, .u = 65535 }, { .type = APR_META_I16, .i = -5 },
        { .type = APR_META_U32, .u = UINT32_MAX }, { .type = APR_META_I32, .i = INT32_MIN }, { .type = APR_META_F32, .f = 0.5 },
        { .type = APR_META_BOOL, .b = true }, { .type = APR_META_STRING, .text = { (const unsigned char *)"", 0 } },
        { .type = APR_META_U64, .u = UINT64_MAX }, { .type = APR_META_I64, .i = INT64_MIN }, { .type = APR_META_F64, .f = 0.1 },
        { .type = APR_META_ARRAY, .element = APR_META_I32, .encoding = APR_GGUF_BE, .n = 2, .text = { big_endian, sizeof big_endian } },
        { .type = APR_META_ARRAY, .element = APR_META_F32, .encoding = APR_JSON, .text = { (const unsigned char *)"[1, 0.5, -2]", 12 } },
        { .type = APR_META_ARRAY, .element = APR_META_STRING, .encoding = APR_JSON, .text = { (const unsigned char *)"[\"a\", \"\\u00e9\"]", 15 } },
        { .type = APR_META_ARRAY, .element = APR_META_BOOL, .encoding = APR_JSON, .text = { (const unsigned char *)"[true,false]", 12 } },
    };
    struct apr_error e;
    for (size_t i = 0; i < APR_LENGTH(value); i++) {
        char key[16];
        snprintf(key, sizeof key, "key.%c", 'a' + (char)i);
        assert_int_equal(apr_draft_put(&p.meta, apr_text(key), &value[i], &e), APR_OK);
    }
    const struct apr_planned t = zeros("w", 3);
    assert_int_equal(apr_plan_add(&p, &t, &e), APR_OK);
    if (write_plan(&p, test_run_with(1), &e) != APR_OK)
        fail_msg("%s", e.text);
    struct apr_model *const m = opened(p.out);
    for (size_t i = 0; i < 13; i++)
        assert_true(apr_value_equal(&m->meta.entry[i].value, &value[i]));
    static const unsigned char floats[] = { 0, 0, 0x80, 0x3F, 0, 0, 0, 0x3F, 0, 0, 0, 0xC0 }, texts[] = "\1\0\0\0\0\0\0\0a\2\0\0\0\0\0\0\0\303\251";
    assert_int_equal(m->meta.entry[13].value.text.n, sizeof floats);
    assert_memory_equal(m->meta.entry[13].value.text.at, floats, sizeof floats);
    assert_int_equal(m->meta.entry[14].value.text.n, sizeof texts - 1);
    assert_memory_equal(m->meta.entry[14].value.text.at, texts, sizeof texts - 1);
    assert_memory_equal(m->meta.entry[15].value.text.at, "\1\0", 2);
    apr_close(m);
    apr_plan_end(&p);
}

static void values_that_gguf_does_not_hold_are_refused_with_their_key(void **state)
{
    (void)state;
    const struct apr_value value[] = {
        { .type = APR_META_NULL },
        { .type = APR_META_OBJECT, .encoding = APR_JSON, .text = { (const unsigned char *)"{}", 2 } },
        { .type = APR_META_ARRAY, .element = APR_META_ANY, .encoding = APR_JSON, .text = { (const unsigned char *)"[1]", 3 } },
        { .type = APR_META_ARRAY, .element = APR_META_U8, .encoding = APR_JSON, .text = { (const unsigned char *)"[256]", 5 } },
        { .type = APR_META_ARRAY, .element = APR_META_I8, .encoding = APR_JSON, .text = { (const unsigned char *)"[-129]", 6 } },
        { .type = APR_META_ARRAY, .element = APR_META_STRING, .encoding = APR_JSON, .text = { (const unsigned char *)"[1]", 3 } },
        { .type = APR_META_ARRAY, .element = APR_META_ARRAY, .encoding = APR_GGUF_LE },
    };
    for (size_t i = 0; i < APR_LENGTH(value); i++) {
        struct apr_plan p = { .format = format("gguf"), .out = test_path("refused.gguf") };
        struct apr_error e;
        assert_int_equal(apr_draft_put(&p.meta, apr_text("a.key"), &value[i], &e), APR_OK);
        assert_int_equal(apr_plan_place(&p, &e), APR_EUNSUPPORTED);
        assert_non_null(strstr(e.text, "a.key"));
        apr_plan_end(&p);
    }
}

static void an_alignment_is_honoured_also_in_later_shards(void **state)
{
    (void)state;
    static const uint32_t alignment[] = { 8, 64, 16384 };
    for (size_t i = 0; i < APR_LENGTH(alignment); i++)
        for (unsigned shards = 1; shards <= 2; shards++) {
            struct apr_plan p = { .format = format("gguf"), .out = test_path("aligned.gguf"), .nshard = shards, .force = true };
            const struct apr_planned t[] = { zeros("a", 3), zeros("b", 4096), zeros("c", 5) };
            struct apr_error e;
            assert_int_equal(apr_draft_u32(&p.meta, "general.alignment", alignment[i], &e), APR_OK);
            for (size_t k = 0; k < APR_LENGTH(t); k++)
                assert_int_equal(apr_plan_add(&p, &t[k], &e), APR_OK);
            if (write_plan(&p, test_run_with(2), &e) != APR_OK)
                fail_msg("%s", e.text);
            struct apr_model *const m = opened(p.file[0].path);
            assert_int_equal(m->ntensor, 3);
            for (size_t k = 0; k < m->ntensor; k++)
                assert_int_equal(apr_tensor_offset(m, &m->tensor[k]) % alignment[i], 0);
            for (size_t k = 0; k < m->nnote; k++)
                assert_string_equal(m->note[k].code, "gguf.no_architecture");
            apr_close(m);
            apr_plan_end(&p);
        }
}

/* ---- shards --------------------------------------------------------------------------------------------------------------- */

static void shards_are_one_model(void **state)
{
    (void)state;
    static const struct { const char *from, *format, *out, *open; unsigned n; } rows[] = {
        { "fixtures/qwen2-q8_0.gguf", "gguf", "s.gguf", "s-00002-of-00003.gguf", 3 },
        { "fixtures/qwen2", "apr", "s.apr", "s-00004-of-00004.apr", 4 },
        { "fixtures/qwen2", "safetensors", "s.safetensors", "s.safetensors.index.json", 2 },
        { "fixtures/qwen2", "safetensors", "sharded/", "sharded", 5 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        convert((struct apr_plan){ .nshard = rows[i].n }, rows[i].from, rows[i].format, test_path(rows[i].out));
        expect_same_model(test_path(rows[i].open), rows[i].from);
        char one[64];
        snprintf(one, sizeof one, "one.%s", rows[i].format);
        unlink(test_path(one));
        convert((struct apr_plan){ .nshard = 1 }, test_path(rows[i].open), rows[i].format, test_path(one));
        expect_same_model(test_path(one), rows[i].from);
    }
}

/* n tensors of those sizes (in elements) in a plan. */
static void sized(struct apr_plan *p, const uint64_t *n, size_t count)
{
    static const char names[] = "a\0b\0c\0d\0e\0f\0g\0h";
    struct apr_error e;
    p->format = format("gguf");
    p->out = "m.gguf";
    for (size_t i = 0; i < count; i++) {
        const struct apr_planned t = zeros(names + 2 * i, n[i]);
        assert_int_equal(apr_plan_add(p, &t, &e), APR_OK);
    }
}

static void shards_are_cut_by_size_or_evenly(void **state)
{
    (void)state;
    static const struct { uint64_t n[8]; size_t count; uint64_t limit; unsigned nshard; size_t want[8]; size_t nwant; } rows[] = {
        { { 10, 10, 10, 10 }, 4, 80, 0, { 2, 2 }, 2 },
        { { 10, 10, 10, 10 }, 4, 79, 0, { 1, 1, 1, 1 }, 4 },
        { { 10, 100, 10, 10 }, 4, 80, 0, { 1, 1, 2 }, 3 },
        { { 10, 10 }, 2, 8000, 0, { 2 }, 1 },
        { { 100, 10 }, 2, 4, 0, { 1, 1 }, 2 },
        { { 10, 10, 10, 10, 10, 10 }, 6, 0, 3, { 2, 2, 2 }, 3 },
        { { 100, 1, 1, 1, 1 }, 5, 0, 4, { 1, 2, 1, 1 }, 4 },
        { { 1, 1, 1, 1, 100 }, 5, 0, 2, { 4, 1 }, 2 },
        { { 1, 2, 3, 4, 5, 6, 7, 8 }, 8, 0, 3, { 5, 2, 1 }, 3 },
        { { 10, 10 }, 2, 0, 2, { 1, 1 }, 2 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_plan p = { .shard_bytes = rows[i].limit, .nshard = rows[i].nshard };
        struct apr_error e;
        sized(&p, rows[i].n, rows[i].count);
        assert_int_equal(apr_plan_place(&p, &e), APR_OK);
        if (p.nfile != rows[i].nwant)
            fail_msg("row %zu: %zu files", i, p.nfile);
        for (size_t k = 0; k < p.nfile; k++)
            if (p.file[k].n != rows[i].want[k])
                fail_msg("row %zu: %zu tensors in shard %zu", i, p.file[k].n, k);
        assert_string_equal(p.file[0].path, p.nfile == 1 ? "m.gguf" : p.nfile == 2 ? "m-00001-of-00002.gguf" :
                                            p.nfile == 3 ? "m-00001-of-00003.gguf" : "m-00001-of-00004.gguf");
        apr_plan_end(&p);
    }
    struct apr_plan p = { .nshard = 3 };
    struct apr_error e;
    sized(&p, (const uint64_t[]){ 1, 1 }, 2);
    assert_int_equal(apr_plan_place(&p, &e), APR_EARG);
    assert_non_null(strstr(e.text, "3 shards of 2 tensors"));
    apr_plan_end(&p);
}

static void shares_of_many_jobs_are_the_files_of_one(void **state)
{
    (void)state;
    convert((struct apr_plan){ .nshard = 3 }, "fixtures/qwen2", "safetensors", test_path("whole/"));
    for (unsigned k = 3; k > 0; k--) {
        convert((struct apr_plan){ .nshard = 3, .only = k }, "fixtures/qwen2", "safetensors", test_path("jobs/"));
        assert_int_equal(files_in("jobs"), k > 1 ? 4 - k : 4);
    }
    static const char *const name[] = { "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors",
                                        "model.safetensors.index.json" };
    for (size_t i = 0; i < APR_LENGTH(name); i++) {
        char a[64], b[64];
        snprintf(a, sizeof a, "whole/%s", name[i]);
        snprintf(b, sizeof b, "jobs/%s", name[i]);
        expect_same_file(test_path(a), test_path(b));
    }
}

/* ---- checksums and frames ------------------------------------------------------------------------------------------------- */

static void checksums_of_parts_are_joined(void **state)
{
    (void)state;
    unsigned char *const at = random_bytes(70000);
    for (unsigned i = 0; i < 1000; i++) {
        const size_t n = (size_t)test_random(i < 500 ? 70 : 70000), cut = n == 0 ? 0 : (size_t)test_random(n + 1);
        const uint32_t a = libdeflate_crc32(0, at, cut), b = libdeflate_crc32(0, at + cut, n - cut);
        assert_int_equal(apr_crc32_join(a, b, n - cut), libdeflate_crc32(0, at, n));
    }
    free(at);
}

static uint32_t u32(const unsigned char *at) { return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24; }

static void a_compressed_file_is_plain_zstd_with_a_seek_table(void **state)
{
    (void)state;
    const char *const source = big("zstd.safetensors");
    convert((struct apr_plan){ 0 }, source, "apr", test_path("plain.apr"));
    convert((struct apr_plan){ .zstd = 3 }, source, "apr", test_path("zstd.apr"));
    expect_same_model(test_path("zstd.apr"), source);
    struct test_bytes plain = test_load(test_path("plain.apr")), packed = test_load(test_path("zstd.apr"));
    unsigned char *const out = malloc(plain.n);
    const uint32_t frames = u32(packed.at + packed.n - 9);
    assert_true(frames > 5);
    assert_int_equal(packed.at[packed.n - 5], 0);
    assert_int_equal(u32(packed.at + packed.n - 4), 0x8F92EAB1);
    const size_t table = packed.n - 17 - 8 * (size_t)frames;
    assert_int_equal(u32(packed.at + table), 0x184D2A5E);
    assert_int_equal(u32(packed.at + table + 4), 9 + 8 * frames);
    size_t at = 64, done = 64;
    for (uint32_t i = 0; i < frames; i++) {
        const uint32_t n = u32(packed.at + table + 8 + 8 * i), m = u32(packed.at + table + 12 + 8 * i);
        assert_int_equal(ZSTD_decompress(out, plain.n, packed.at + at, n), m);
        assert_true(done + m <= plain.n);
        if (memcmp(out, plain.at + done, i + 1 == frames ? 0 : m) != 0)
            fail_msg("frame %u is not what stands in the plain file", i);
        at += n;
        done += m;
    }
    assert_int_equal(at, table);
    assert_int_equal(done, plain.n);
    /* the checksum is that of the plain bytes behind the header as it is stored */
    assert_int_equal(u32(out), libdeflate_crc32(libdeflate_crc32(0, packed.at, 64), plain.at + 64, plain.n - 68));
    free(out);
    test_free(&plain);
    test_free(&packed);
}

/* ---- the same bytes ------------------------------------------------------------------------------------------------------- */

static void any_number_of_threads_and_any_cpu_write_the_same(void **state)
{
    (void)state;
    static const enum apr_isa isa[] = { APR_SCALAR, APR_AVX2, APR_AVX512 };
    const char *const source = big("threads.safetensors");
    struct apr_error e;
    for (int level = 0; level <= 1; level++) {
        const char *const first = test_path(level ? "first.zstd.apr" : "first.apr"), *const out = test_path("other.apr");
        convert((struct apr_plan){ .zstd = level }, source, "apr", first);
        for (unsigned threads = 1; threads <= 7; threads += 3)
            for (size_t i = 0; i < APR_LENGTH(isa); i++) {
                struct apr_run r = *test_run_with(threads);
                struct apr_plan p = { .zstd = level, .force = true };
                if (!apr_isa_has(isa[i]))
                    continue;
                r.kernels = apr_kernels_for(isa[i]);
                assert_int_equal(convert_with(&p, source, "apr", out, &r, &e), APR_OK);
                expect_same_file(out, first);
            }
    }
}

static void a_pipe_gets_the_bytes_of_a_file(void **state)
{
    (void)state;
    const char *const source = big("pipe.safetensors"), *const got = test_path("piped");
    convert((struct apr_plan){ 0 }, source, "apr", test_path("piped.apr"));
    char path[64];
    int ends[2], status;
    assert_int_equal(pipe(ends), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        struct apr_plan p = { 0 };
        struct apr_error e;
        close(ends[0]);
        snprintf(path, sizeof path, "/dev/fd/%d", ends[1]);
        _exit(convert_with(&p, source, "apr", path, test_run_with(2), &e) == APR_OK ? 0 : 1);
    }
    close(ends[1]);
    static char part[65536];
    FILE *const f = fopen(got, "w");
    for (ssize_t n; (n = read(ends[0], part, sizeof part)) > 0;)
        fwrite(part, 1, (size_t)n, f);
    fclose(f);
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    expect_same_file(got, test_path("piped.apr"));
}

static void a_reader_who_leaves_is_no_failure_and_a_full_device_is(void **state)
{
    (void)state;
    const char *const source = big("left.safetensors");
    struct apr_plan p = { 0 }, q = { 0 };
    struct apr_error e;
    char path[64];
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    snprintf(path, sizeof path, "/dev/fd/%d", ends[1]);
    void (*const before)(int) = signal(SIGPIPE, SIG_IGN);
    assert_int_equal(convert_with(&p, source, "apr", path, test_run_with(2), &e), APR_OK);
    signal(SIGPIPE, before);
    close(ends[1]);
    assert_int_equal(convert_with(&q, source, "apr", "/dev/full", test_run_with(2), &e), APR_EIO);
    assert_non_null(strstr(e.text, "No space left"));
}

/* ---- elements in another order, values ------------------------------------------------------------------------------------ */

static void transposed_elements_keep_every_bit(void **state)
{
    (void)state;
    static const struct { const char *dtype; enum apr_dtype_id id; unsigned width; } rows[] = {
        { "U8", APR_U8, 1 }, { "F16", APR_F16, 2 }, { "BF16", APR_BF16, 2 }, { "F32", APR_F32, 4 }, { "F64", APR_F64, 8 }, { "I64", APR_I64, 8 },
    };
    const uint64_t h = 700, w = 1013;
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const unsigned width = rows[i].width;
        unsigned char *const data = random_bytes(h * w * width);
        struct apr_model *const m = opened(one_tensor("turn.safetensors", rows[i].dtype, width, h, w, data));
        const struct apr_tensor *const part[] = { &m->tensor[0] };
        const struct apr_transform turn = { .op = APR_OP_TRANSPOSE };
        struct apr_view v = apr_view_of(part, 1, 0);
        struct apr_error e;
        assert_int_equal(apr_view_back(&v, &turn, 1, m->tensor[0].dim, 2, &e), APR_OK);
        struct apr_plan p = { .format = format("safetensors"), .out = test_path("turned.safetensors"), .force = true };
        const struct apr_planned t = { .name = apr_text("w"), .dtype = &apr_dtypes[rows[i].id], .ndim = 2, .dim = { w, h }, .how = APR_BLOCKS,
                                       .in = apr_input_through(apr_kernels_for(APR_SCALAR), m, &v, (const uint64_t[]){ w, h }, 2) };
        assert_int_equal(apr_plan_add(&p, &t, &e), APR_OK);
        if (write_plan(&p, test_run_with(2), &e) != APR_OK)
            fail_msg("%s", e.text);
        struct apr_model *const got = opened(p.out);
        for (uint64_t k = 0; k < h * w; k++)
            if (memcmp(got->tensor[0].data.at + (k % w * h + k / w) * width, data + k * width, width) != 0)
                fail_msg("%s: element %llu", rows[i].dtype, (unsigned long long)k);
        apr_close(got);
        apr_plan_end(&p);
        apr_close(m);
        free(data);
    }
}

/* An encoder for the test: codes are the values themselves, and the scale of each block is 1. */
static void plain_q8(const float *x, size_t n, unsigned char *out)
{
    for (; n >= 32; n -= 32, x += 32, out += 34) {
        out[0] = 0;
        out[1] = 0x3C;
        for (unsigned i = 0; i < 32; i++)
            out[2 + i] = (unsigned char)(int)x[i];
    }
}

static struct apr_kernels with_encoder(void)
{
    struct apr_kernels k = *apr_kernels_for(APR_SCALAR);
    k.encode[APR_Q8_0] = plain_q8;
    return k;
}

/* w as [out dims] of that dtype in an APR, through k. */
static enum apr_code encode(const char *source, enum apr_dtype_id id, const struct apr_kernels *k, bool turned, bool nan_to_zero, struct apr_planned *told,
                            struct apr_error *e)
{
    struct apr_model *const m = opened(source);
    const struct apr_tensor *const part[] = { &m->tensor[0] };
    const struct apr_transform turn = { .op = APR_OP_TRANSPOSE };
    struct apr_run r = *test_run_with(3);
    struct apr_view v = apr_view_of(part, 1, 0);
    const uint64_t dim[] = { m->tensor[0].dim[turned], m->tensor[0].dim[!turned] };
    struct apr_plan p = { .format = format("apr"), .out = test_path("encoded.apr"), .force = true, .nan_to_zero = nan_to_zero };
    r.kernels = k;
    enum apr_code code = turned ? apr_view_back(&v, &turn, 1, m->tensor[0].dim, 2, e) : APR_OK;
    const struct apr_planned t = { .name = apr_text("w"), .dtype = &apr_dtypes[id], .ndim = 2, .dim = { dim[0], dim[1] }, .how = APR_ENCODE, .lossy = true,
                                   .in = apr_input_through(k, m, &v, dim, 2) };
    if (code == APR_OK)
        code = apr_plan_add(&p, &t, e);
    if (code == APR_OK)
        code = write_plan(&p, &r, e);
    *told = p.tensor[0];
    apr_plan_end(&p);
    apr_close(m);
    return code;
}

static void rows_that_are_no_whole_blocks_are_filled_up_with_zeros(void **state)
{
    (void)state;
    const struct apr_kernels k = with_encoder();
    float *const x = malloc(900 * 70 * sizeof *x);
    struct apr_planned told;
    struct apr_error e;
    for (size_t i = 0; i < 900 * 70; i++)
        x[i] = (float)((int)(i % 251) - 125) + 0.25f;
    const char *const source = one_tensor("rows.safetensors", "F32", 4, 900, 70, x);
    for (unsigned turned = 0; turned < 2; turned++) {
        if (encode(source, APR_Q8_0, &k, turned, false, &told, &e) != APR_OK)
            fail_msg("%s", e.text);
        struct apr_model *const m = opened(test_path("encoded.apr"));
        const struct apr_tensor *const t = &m->tensor[0];
        const uint64_t h = t->dim[0], w = t->dim[1], blocks = (w + 31) / 32;
        assert_int_equal(t->data.n, h * blocks * 34);
        for (uint64_t i = 0; i < h * blocks * 32; i++) {
            const uint64_t row = i / (blocks * 32), col = i % (blocks * 32);
            const int8_t got = (int8_t)t->data.at[(row * blocks + col / 32) * 34 + 2 + col % 32];
            const int want = col >= w ? 0 : (int)x[turned ? col * 70 + row : row * 70 + col];
            if (got != want)
                fail_msg("row %llu, column %llu: %d, not %d", (unsigned long long)row, (unsigned long long)col, got, want);
        }
        double dd = 0, ab = 0, aa = 0, bb = 0;
        for (size_t i = 0; i < 900 * 70; i++) {
            const double a = (double)x[i], b = (double)(int)x[i];
            dd += (a - b) * (a - b);
            ab += a * b;
            aa += a * a;
            bb += b * b;
        }
        assert_true(fabs(told.rmse - sqrt(dd / (900 * 70))) < 1e-12);
        assert_true(fabs(told.cosine - ab / sqrt(aa * bb)) < 1e-12);
        apr_close(m);
    }
    free(x);
}

static void one_scale_is_that_of_the_largest_value(void **state)
{
    (void)state;
    float *const x = malloc(1000 * 500 * sizeof *x);
    struct apr_planned told;
    struct apr_error e;
    for (size_t i = 0; i < 1000 * 500; i++)
        x[i] = (float)((int)(i % 127) - 63) / 2;
    x[499999] = -254;
    if (encode(one_tensor("scale.safetensors", "F32", 4, 1000, 500, x), APR_APR_Q8, apr_kernels_for(APR_SCALAR), false, false, &told, &e) != APR_OK)
        fail_msg("%s", e.text);
    struct apr_model *const m = opened(test_path("encoded.apr"));
    float scale;
    memcpy(&scale, m->tensor[0].data.at, sizeof scale);
    assert_true(scale == 2);
    for (size_t i = 0; i < 1000 * 500; i++) /* halves go away from zero */
        assert_int_equal((int8_t)m->tensor[0].data.at[4 + i], (int)round((double)x[i] / 2));
    apr_close(m);
    free(x);
}

static void what_is_not_finite_is_refused_with_its_place_or_becomes_0(void **state)
{
    (void)state;
    const struct apr_kernels k = with_encoder();
    float *const x = malloc(3000 * 128 * sizeof *x);
    struct apr_planned told;
    struct apr_error e;
    for (size_t i = 0; i < 3000 * 128; i++)
        x[i] = (float)(i % 100);
    x[2500 * 128 + 7] = NAN;
    x[2700 * 128 + 9] = -INFINITY;
    const char *const source = one_tensor("nan.safetensors", "F32", 4, 3000, 128, x);
    unlink(test_path("encoded.apr"));
    assert_int_equal(encode(source, APR_Q8_0, &k, false, false, &told, &e), APR_EARG);
    assert_non_null(strstr(e.text, "tensor \"w\": row 2500, column 7 is NaN"));
    assert_int_not_equal(access(test_path("encoded.apr"), F_OK), 0);
    assert_int_equal(encode(source, APR_Q8_0, &k, false, true, &told, &e), APR_OK);
    assert_int_equal(told.nan, 2);
    free(x);
}

/* ---- nothing by halves ---------------------------------------------------------------------------------------------------- */

static void a_byte_that_reads_back_wrong_leaves_no_file(void **state)
{
    (void)state;
    const char *const source = big("wrong.safetensors");
    test_file("wrong/other", "", 0);
    for (fails_at = 1;; fails_at++) {
        struct apr_plan p = { 0 };
        struct apr_error e = { .text = "" };
        counted = DAMAGE;
        calls = 0;
        const enum apr_code code = convert_with(&p, source, "apr", test_path("wrong/out.apr"), test_run_with(1), &e);
        counted = NONE;
        if (calls < fails_at) {
            assert_int_equal(code, APR_OK);
            break;
        }
        if (code == APR_OK || files_in("wrong") != 1)
            fail_msg("write %ld is damaged: code %d, %zu files", fails_at, code, files_in("wrong"));
        assert_non_null(strstr(e.file, "wrong/out.apr"));
    }
    assert_true(fails_at > 6);
}

/* A plan for each target that can be left by halves. */
static const struct { const char *what, *out; unsigned shards; bool force; } targets[] = {
    { "a file", "end/t/out.safetensors", 0, false },
    { "a new folder", "end/t/new/", 0, false },
    { "a new folder of shards", "end/t/new/", 3, false },
    { "a folder that is there", "end/t/old/", 2, true },
};

static void prepare_target(void)
{
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s'; mkdir -p '%s/old'", test_path("end"), test_path("end/t"));
    assert_int_equal(system(command), 0);
}

static enum apr_code side_by_side(size_t i, const char *out, const struct apr_run *r, struct apr_error *e)
{
    struct apr_plan p = { .nshard = targets[i].shards, .force = targets[i].force };
    struct apr_model *m = NULL;
    enum apr_code code = APR_OK;
    if (out[strlen(out) - 1] == '/')
        code = apr_side_put(&p.side, "config.json", apr_text("{}"), e);
    if (code == APR_OK && p.side.n > 0)
        code = apr_side_put(&p.side, "1_Pooling/config.json", apr_text("{}"), e);
    if (code == APR_OK)
        code = apr_open(&m, "fixtures/qwen2", r, e);
    if (code == APR_OK)
        code = carry(&p, m, "safetensors", out, e);
    if (code == APR_OK)
        code = write_plan(&p, r, e);
    apr_plan_end(&p);
    apr_close(m);
    return code;
}

static void whatever_fails_leaves_nothing_of_a_new_target(void **state)
{
    (void)state;
    for (int kind = SYSTEM; kind <= (OWN_MEMORY ? MEMORY : SYSTEM); kind++)
        for (size_t i = 0; i < APR_LENGTH(targets) - 1; i++)
            for (fails_at = 1;; fails_at++) {
                struct apr_error e = { .text = "" };
                prepare_target();
                const char *const out = test_path(targets[i].out);
                calls = 0;
                counted = (enum call)kind;
                const enum apr_code code = side_by_side(i, out, test_run_with(1), &e);
                counted = NONE;
                if (calls < fails_at) {
                    assert_int_equal(code, APR_OK);
                    break;
                }
                if (code != APR_OK && (files_in("end/t") != 1 || e.text[0] == 0))
                    fail_msg("%s, %s call %ld: %zu files are left (%s)", targets[i].what, kind == SYSTEM ? "system" : "memory", fails_at,
                             files_in("end/t") - 1, e.text);
                if (code == APR_OK)
                    expect_same_model(test_path(targets[i].out), "fixtures/qwen2");
            }
}

/* A run that is killed after a while; whether it was before its end. */
static bool killed(size_t i, long nanoseconds, int how)
{
    const char *const out = test_path(targets[i].out);
    int status;
    const pid_t pid = fork();
    if (pid == 0) {
        struct apr_error e;
        _exit(side_by_side(i, out, test_run_with(2), &e) == APR_OK ? 0 : 1);
    }
    nanosleep(&(struct timespec){ .tv_nsec = nanoseconds }, NULL);
    kill(pid, how);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status);
}

static void killed_at_any_moment_a_new_target_is_whole_or_not_there(void **state)
{
    (void)state;
    unsigned died = 0;
    for (size_t i = 0; i < APR_LENGTH(targets) - 1; i++)
        for (long n = 0; n < 60; n++) {
            prepare_target();
            died += killed(i, n * 300000, SIGKILL);
            const char *const out = test_path(targets[i].out);
            if (access(out, F_OK) == 0)
                expect_same_model(out, "fixtures/qwen2");
        }
    assert_true(died > 10);
}

static void a_limit_of_size_leaves_nothing(void **state)
{
    (void)state;
    const char *const source = big("limit.safetensors");
    struct rlimit before;
    void (*const handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    test_file("limit/other", "", 0);
    for (unsigned i = 0; i < 3; i++) {
        struct apr_plan p = { .zstd = i == 1 ? 1 : 0 };
        struct apr_error e;
        const struct rlimit small = { 1000000, before.rlim_max };
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        const enum apr_code code = convert_with(&p, source, i < 2 ? "apr" : "safetensors", test_path(i < 2 ? "limit/out.apr" : "limit/new/"), test_run_with(2), &e);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(code, APR_EIO);
        assert_non_null(strstr(e.text, "File too large"));
        assert_int_equal(files_in("limit"), 1);
    }
    signal(SIGXFSZ, handler);
}

static void what_is_there_is_replaced_only_when_told(void **state)
{
    (void)state;
    struct apr_plan p = { 0 }, q = { 0 }, r = { .nshard = 2 };
    struct apr_error e;
    const char *const file = test_file("there.apr", "old", 3);
    assert_int_equal(convert_with(&p, "fixtures/qwen2", "apr", file, test_run_with(1), &e), APR_EARG);
    assert_non_null(strstr(e.text, "--force"));
    convert((struct apr_plan){ .nshard = 3 }, "fixtures/qwen2", "safetensors", test_path("there/"));
    test_file("there/notes.txt", "mine", 4);
    assert_int_equal(convert_with(&q, "fixtures/qwen2", "safetensors", test_path("there/"), test_run_with(1), &e), APR_EARG);
    assert_int_equal(convert_with(&r, "fixtures/qwen2", "safetensors", test_path("there/"), test_run_with(1), &e), APR_EARG);
    assert_non_null(strstr(e.text, "--force"));
    convert((struct apr_plan){ .force = true }, "fixtures/qwen2", "safetensors", test_path("there/"));
    assert_int_equal(files_in("there"), 2); /* the old shards and their index are gone */
    expect_same_model(test_path("there"), "fixtures/qwen2");
    convert((struct apr_plan){ .force = true, .nshard = 2 }, "fixtures/qwen2", "safetensors", test_path("there/"));
    assert_int_equal(files_in("there"), 4);
    expect_same_model(test_path("there"), "fixtures/qwen2");
}

static void an_input_is_never_written(void **state)
{
    (void)state;
    const char *const source = big("input.safetensors");
    struct apr_plan p = { .force = true }, q = { .force = true };
    struct apr_error e;
    assert_int_equal(convert_with(&p, source, "safetensors", source, test_run_with(1), &e), APR_EARG);
    assert_non_null(strstr(e.text, "being read"));
    convert((struct apr_plan){ .nshard = 2 }, "fixtures/qwen2", "safetensors", test_path("input/"));
    assert_int_equal(convert_with(&q, test_path("input"), "safetensors", test_path("input/"), test_run_with(1), &e), APR_EARG);
    expect_same_model(test_path("input"), "fixtures/qwen2");
}

static void a_source_that_changes_meanwhile_leaves_no_file(void **state)
{
    (void)state;
    const char *const source = big("changes.safetensors");
    struct apr_model *const m = opened(source);
    struct apr_plan p = { 0 };
    struct apr_error e;
    assert_int_equal(carry(&p, m, "apr", test_path("changed.apr"), &e), APR_OK);
    const int fd = open(source, O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, "x", 1), 1);
    close(fd);
    assert_int_equal(write_plan(&p, test_run_with(1), &e), APR_EIO);
    assert_int_not_equal(access(test_path("changed.apr"), F_OK), 0);
    apr_plan_end(&p);
    apr_close(m);
}

/* ---- going on ------------------------------------------------------------------------------------------------------------- */

static enum apr_code go_on(const char *source, const char *out)
{
    struct apr_plan p = { .resume = true };
    struct apr_error e;
    return convert_with(&p, source, "apr", out, test_run_with(2), &e);
}

static void a_run_that_ended_is_gone_on_with_and_nobody_sees_a_difference(void **state)
{
    (void)state;
    const char *const source = big("resume.safetensors"), *const out = test_path("resume/out.apr"), *const partial = test_path("resume/out.apr.apr-partial");
    convert((struct apr_plan){ 0 }, source, "apr", test_path("resume.apr"));
    test_file("resume/other", "", 0);
    for (fails_at = 3; fails_at < 9; fails_at++) { /* the disk is full, later every time; before, there was room for it */
        counted = SYSTEM;
        calls = 0;
        const enum apr_code code = go_on(source, out);
        counted = NONE;
        if (code == APR_OK)
            break;
        assert_int_not_equal(access(out, F_OK), 0);
        assert_int_equal(access(partial, F_OK), 0);
        assert_int_equal(files_in("resume"), 3);
    }
    const int fd = open(partial, O_RDWR);
    if (fd >= 0) { /* what somebody spoiled is written again */
        assert_int_equal(syscall(SYS_pwrite64, fd, "spoiled", 7, 5000), 7);
        close(fd);
        assert_int_equal(go_on(source, out), APR_OK);
    }
    expect_same_file(out, test_path("resume.apr"));
    assert_int_equal(files_in("resume"), 2);
}

static void what_is_of_another_plan_is_begun_anew(void **state)
{
    (void)state;
    const char *const source = big("anew.safetensors"), *const out = test_path("anew/out.apr");
    convert((struct apr_plan){ 0 }, source, "apr", test_path("anew.apr"));
    test_file("anew/out.apr.apr-partial", "something else", 14);
    test_file("anew/out.apr.apr-partial.log", "no log at all, but longer than a digest", 39);
    assert_int_equal(go_on(source, out), APR_OK);
    expect_same_file(out, test_path("anew.apr"));
    assert_int_equal(files_in("anew"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_of_other_peoples_libraries_comes_back_byte_for_byte),
        cmocka_unit_test(every_way_round_the_tensors_are_the_same),
        cmocka_unit_test(big_endian_tensors_are_turned_round),
        cmocka_unit_test(data_begins_where_it_can_be_shared),
        cmocka_unit_test(what_a_format_does_not_hold_is_refused_by_name),
        cmocka_unit_test(keys_of_every_type_are_written),
        cmocka_unit_test(values_that_gguf_does_not_hold_are_refused_with_their_key),
        cmocka_unit_test(an_alignment_is_honoured_also_in_later_shards),
        cmocka_unit_test(shards_are_one_model),
        cmocka_unit_test(shards_are_cut_by_size_or_evenly),
        cmocka_unit_test(shares_of_many_jobs_are_the_files_of_one),
        cmocka_unit_test(checksums_of_parts_are_joined),
        cmocka_unit_test(a_compressed_file_is_plain_zstd_with_a_seek_table),
        cmocka_unit_test(any_number_of_threads_and_any_cpu_write_the_same),
        cmocka_unit_test(a_pipe_gets_the_bytes_of_a_file),
        cmocka_unit_test(a_reader_who_leaves_is_no_failure_and_a_full_device_is),
        cmocka_unit_test(transposed_elements_keep_every_bit),
        cmocka_unit_test(rows_that_are_no_whole_blocks_are_filled_up_with_zeros),
        cmocka_unit_test(one_scale_is_that_of_the_largest_value),
        cmocka_unit_test(what_is_not_finite_is_refused_with_its_place_or_becomes_0),
        cmocka_unit_test(a_byte_that_reads_back_wrong_leaves_no_file),
        cmocka_unit_test(whatever_fails_leaves_nothing_of_a_new_target),
        cmocka_unit_test(killed_at_any_moment_a_new_target_is_whole_or_not_there),
        cmocka_unit_test(a_limit_of_size_leaves_nothing),
        cmocka_unit_test(what_is_there_is_replaced_only_when_told),
        cmocka_unit_test(an_input_is_never_written),
        cmocka_unit_test(a_source_that_changes_meanwhile_leaves_no_file),
        cmocka_unit_test(a_run_that_ended_is_gone_on_with_and_nobody_sees_a_difference),
        cmocka_unit_test(what_is_of_another_plan_is_begun_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
