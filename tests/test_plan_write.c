/* How a plan is written: the same bytes everywhere, values, verification, and that nothing is ever there by halves. */
#include "plans.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "files/sink.h"
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

/* Where no file system has files without a name. */
static bool without_nameless;

int openat(int folder, const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    const mode_t mode = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(more, mode_t) : 0;
    va_end(more);
    if (without_nameless && (flags & O_TMPFILE) == O_TMPFILE) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return fault(SYSTEM, EMFILE) ? -1 : (int)syscall(SYS_openat, folder, path, flags, mode);
}

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

static long sent_at; /* a signal comes before the renameat of that number */

int renameat(int from, const char *path, int to, const char *name)
{
    if (sent_at > 0 && --sent_at == 0)
        kill(getpid(), SIGTERM);
    return (int)syscall(SYS_renameat2, from, path, to, name, 0);
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
        { "U8", APR_U8, 1 }, { "F16", APR_F16, 2 }, { "BF16", APR_BF16, 2 }, { "F32", APR_F32, 4 }, { "F64", APR_F64, 8 },
        { "I64", APR_I64, 8 },
    };
    const uint64_t h = 700, w = 1013;
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const unsigned width = rows[i].width;
        unsigned char *const data = random_bytes(h * w * width);
        struct apr_model *const m = test_opened(one_tensor("turn.safetensors", rows[i].dtype, width, h, w, data));
        const struct apr_tensor *const part[] = { &m->tensor[0] };
        const struct apr_transform turn = { .op = APR_OP_TRANSPOSE };
        struct apr_view v = apr_view_of(part, 1, 0);
        struct apr_error e;
        assert_int_equal(apr_view_back(&v, &turn, 1, m->tensor[0].dim, 2, &e), APR_OK);
        struct apr_plan p = { .format = format("safetensors"), .out = test_path("turned.safetensors"), .force = true };
        const struct apr_input in = apr_input_through(apr_kernels_for(APR_SCALAR), m, &v, (const uint64_t[]){ w, h }, 2);
        const struct apr_planned t = { .name = apr_text("w"), .dtype = &apr_dtypes[rows[i].id], .ndim = 2, .dim = { w, h },
                                       .how = APR_BLOCKS,
                                       .in = &in };
        assert_int_equal(apr_plan_add(&p, &t, &e), APR_OK);
        if (write_plan(&p, test_run_with(2), &e) != APR_OK)
            fail_msg("%s", e.text);
        struct apr_model *const got = test_opened(p.out);
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
static enum apr_code encode(const char *source, enum apr_dtype_id id, const struct apr_kernels *k, bool turned, bool nan_to_zero,
                            struct apr_planned *told, struct apr_error *e)
{
    struct apr_model *const m = test_opened(source);
    const struct apr_tensor *const part[] = { &m->tensor[0] };
    const struct apr_transform turn = { .op = APR_OP_TRANSPOSE };
    struct apr_run r = *test_run_with(3);
    struct apr_view v = apr_view_of(part, 1, 0);
    const uint64_t dim[] = { m->tensor[0].dim[turned], m->tensor[0].dim[!turned] };
    struct apr_plan p = { .format = format("apr"), .out = test_path("encoded.apr"), .force = true, .nan_to_zero = nan_to_zero };
    r.kernels = k;
    enum apr_code code = turned ? apr_view_back(&v, &turn, 1, m->tensor[0].dim, 2, e) : APR_OK;
    const struct apr_input in = apr_input_through(k, m, &v, dim, 2);
    const struct apr_planned t = { .name = apr_text("w"), .dtype = &apr_dtypes[id], .ndim = 2, .dim = { dim[0], dim[1] },
                                   .how = APR_ENCODE, .lossy = true,
                                   .in = &in };
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
        struct apr_model *const m = test_opened(test_path("encoded.apr"));
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
    if (encode(one_tensor("scale.safetensors", "F32", 4, 1000, 500, x), APR_APR_Q8, apr_kernels_for(APR_SCALAR), false, false, &told,
               &e) != APR_OK)
        fail_msg("%s", e.text);
    struct apr_model *const m = test_opened(test_path("encoded.apr"));
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

/* The largest of a block is named, whichever of its values came back infinite first. F16 and BF16 overflow, as converters have it, and then
 * there is no number that tells how far off they are. */
static void what_a_scale_cannot_hold_is_refused_and_what_overflows_is_counted(void **state)
{
    (void)state;
    static const struct { enum apr_dtype_id to; bool wide; double v; const char *words; } rows[] = {
        { APR_Q8_0, false, 1e9, "is too large for Q8_0; --type bf16" },   { APR_Q4_0, false, -1e9, "is too large for Q4_0" },
        { APR_APR_Q4, false, 1e9, "is too large for" },
        { APR_Q8_0, true, 1e9, "is too large for Q8_0" },                 { APR_Q8_0, true, 1e300, "is too large for Q8_0; without --type" },
        { APR_APR_Q8, true, -1e300, "is too large for" },                 { APR_F32, true, 1e300, "is too large for F32; without --type" },
        { APR_Q8_0, false, 1e5, NULL },                                   { APR_F32, true, 1e30, NULL },
        { APR_F16, false, 1e9, "" },                                      { APR_F16, true, 1e300, "" },
        { APR_BF16, false, 3.4e38, "" },                                  { APR_BF16, true, -1e300, "" },
    };
    const struct apr_kernels *const k = apr_kernels_for(APR_SCALAR);
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        for (unsigned zero = 0; zero < 2; zero++) {
            static float x[40 * 512];
            static double wide[40 * 512];
            struct apr_planned told;
            struct apr_error e = { .text = "" };
            for (size_t j = 0; j < APR_LENGTH(x); j++) {
                wide[j] = (double)((int)(j % 100) - 50) / 8;
                wide[j] = j == 33 * 512 + 300 ? rows[i].v : wide[j];
                x[j] = (float)wide[j];
            }
            const char *const source = one_tensor("large.safetensors", rows[i].wide ? "F64" : "F32", rows[i].wide ? 8 : 4, 40, 512,
                                                  rows[i].wide ? (void *)wide : (void *)x);
            const enum apr_code code = encode(source, rows[i].to, k, false, zero, &told, &e);
            const bool refused = rows[i].words != NULL && rows[i].words[0] != 0, over = rows[i].words != NULL && !refused;
            if (code != (refused ? APR_EARG : APR_OK) || (refused && strstr(e.text, rows[i].words) == NULL) ||
                (refused && strstr(e.text, "row 33, column 300") == NULL))
                fail_msg("row %zu: %s", i, e.text);
            if (!refused && (told.overflowed != over || (over ? !isnan(told.rmse) || !isnan(told.cosine) : isnan(told.rmse) || isnan(told.cosine))))
                fail_msg("row %zu: %llu overflowed, rmse %g, cosine %g", i, (unsigned long long)told.overflowed, told.rmse, told.cosine);
        }
}

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
#define NNEW (APR_LENGTH(targets) - 1)

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
        for (size_t i = 0; i < 2 * NNEW; i += kind == SYSTEM ? 1 : 2)
            for (fails_at = 1;; fails_at++) {
                struct apr_error e = { .text = "" };
                prepare_target();
                const char *const out = test_path(targets[i / 2].out);
                without_nameless = i % 2;
                calls = 0;
                counted = (enum call)kind;
                const enum apr_code code = side_by_side(i / 2, out, test_run_with(1), &e);
                counted = NONE;
                if (calls < fails_at) {
                    assert_int_equal(code, APR_OK);
                    break;
                }
                if (code != APR_OK && (files_in("end/t") != 1 || e.text[0] == 0))
                    fail_msg("%s, %s call %ld: %zu files are left (%s)", targets[i / 2].what, kind == SYSTEM ? "system" : "memory",
                             fails_at, files_in("end/t") - 1, e.text);
                if (code == APR_OK)
                    expect_same_model(out, "fixtures/qwen2");
            }
    without_nameless = false;
}

static void clean_up(int number)
{
    apr_sink_abandon();
    signal(number, SIG_DFL);
    raise(number);
}

/* A run that gets a signal after a while; whether it was before its end. */
static bool ended_by(int number, size_t i, long nanoseconds)
{
    const char *const out = test_path(targets[i].out);
    int status;
    const pid_t pid = fork();
    if (pid == 0) {
        struct apr_error e;
        signal(SIGTERM, clean_up);
        _exit(side_by_side(i, out, test_run_with(2), &e) == APR_OK ? 0 : 1);
    }
    nanosleep(&(struct timespec){ .tv_nsec = nanoseconds }, NULL);
    kill(pid, number);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status);
}

static void ended_at_any_moment_a_new_target_is_whole_or_not_there(void **state)
{
    (void)state;
    unsigned died = 0;
    for (size_t i = 0; i < 4 * NNEW; i++)
        for (long n = 0; n < 24; n++) {
            const char *const out = test_path(targets[i / 4].out);
            const bool killed = i % 2 == 0;
            without_nameless = i / 2 % 2;
            prepare_target();
            died += ended_by(killed ? SIGKILL : SIGTERM, i / 4, n * 500000);
            const bool there = access(out, F_OK) == 0;
            if (there)
                expect_same_model(out, "fixtures/qwen2");
            if (!killed && files_in("end/t") != 1u + there)
                fail_msg("%s, a signal after %ld us: %zu files are left", targets[i / 4].what, n * 500, files_in("end/t") - 1 - there);
        }
    without_nameless = false;
    assert_true(died > 10);
}

/* In a folder that is there each file is the old one or the new one. */
static void killed_at_any_moment_the_files_of_a_folder_are_whole(void **state)
{
    (void)state;
    for (long n = 0; n < 24; n++) {
        prepare_target();
        convert((struct apr_plan){ .nshard = 3 }, "fixtures/qwen2", "safetensors", test_path("end/t/first/"));
        char command[512];
        snprintf(command, sizeof command, "cp '%s'/* '%s'", test_path("end/t/first"), test_path("end/t/old"));
        assert_int_equal(system(command), 0);
        ended_by(SIGKILL, NNEW, n * 300000);
        for (unsigned k = 1; k <= 3; k++) {
            char name[64];
            snprintf(name, sizeof name, "end/t/old/model-0000%u-of-00003.safetensors", k);
            if (access(test_path(name), F_OK) == 0)
                apr_close(test_opened(test_path(name)));
            snprintf(name, sizeof name, "end/t/old/model-0000%u-of-00002.safetensors", k);
            if (access(test_path(name), F_OK) == 0)
                apr_close(test_opened(test_path(name)));
        }
    }
}

/* Shards in a folder, and files side by side. */
static void a_signal_while_a_set_takes_its_places_waits_for_the_last(void **state)
{
    (void)state;
    static const char *const format[] = { "safetensors", "gguf" }, *const out[] = { "signal/t/", "signal/t/out.gguf" };
    static const char *const source[] = { "fixtures/qwen2", "fixtures/qwen2-q8_0.gguf" };
    test_file("signal/want1/x", "", 0);
    convert((struct apr_plan){ .nshard = 3 }, source[0], format[0], test_path("signal/want0/"));
    convert((struct apr_plan){ .nshard = 3 }, source[1], format[1], test_path("signal/want1/out.gguf"));
    for (long n = 1; n <= 8; n++) {
        char command[1024];
        int status;
        const size_t i = (size_t)n % 2;
        snprintf(command, sizeof command, "cd '%s/signal' && rm -rf t && cp -r want%zu t && for i in t/*-of-*; do echo old >$i; done", test_folder(), i);
        assert_int_equal(system(command), 0);
        const pid_t pid = fork();
        if (pid == 0) {
            struct apr_plan p = { .nshard = 3, .force = true };
            struct apr_error e;
            signal(SIGTERM, clean_up);
            sent_at = (n + 1) / 2;
            _exit(convert_with(&p, source[i], format[i], test_path(out[i]), test_run_with(2), &e) == APR_OK ? 0 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) || (i == 1 && n > 6)); /* three files, or four with the index */
        snprintf(command, sizeof command, "cd '%s/signal' && diff -r want%zu t >diff", test_folder(), i);
        if (system(command) != 0)
            fail_msg("a signal before rename %ld of %s leaves a mix", (n + 1) / 2, format[i]);
    }
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
        const enum apr_code code = convert_with(&p, source, i < 2 ? "apr" : "safetensors",
                                                test_path(i < 2 ? "limit/out.apr" : "limit/new/"), test_run_with(2), &e);
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

static void small_files_of_a_replaced_model_go_with_it(void **state)
{
    (void)state;
    static const struct { const char *name; bool stays; } rows[] = {
        { "chat_template.jinja", false }, { "merges.txt", false }, { "vocab.json", false }, { "special_tokens_map.json", false },
        { "generation_config.json", false }, { "1_Pooling/config.json", false }, { "additional_chat_templates/rag.jinja", false },
        { "config.json", true }, { "README.md", true }, { "LICENSE", true }, { "notes.txt", true }, { "additional_chat_templates/notes", true },
    };
    for (unsigned i = 0; i < 4; i++) {
        const bool model = i & 1, part = i & 2; /* a model is there; a part of one is written */
        char name[80], command[512];
        struct apr_plan p = { .force = true, .nshard = 2, .only = part ? 1 : 0 };
        struct apr_error e;
        snprintf(command, sizeof command, "rm -rf '%s'", test_path("beside"));
        assert_int_equal(system(command), 0);
        for (size_t k = 0; k < APR_LENGTH(rows); k++) {
            snprintf(name, sizeof name, "beside/%s", rows[k].name);
            test_file(name, "old", 3);
        }
        const char *const away = test_file("beside-away/rag.jinja", "theirs", 6);
        if (model)
            test_file("beside/model.safetensors", "old", 3);
        if (i == 1) { /* what a link leads to is not of the folder */
            snprintf(command, sizeof command, "cd '%s' && rm -r 1_Pooling && ln -s ../beside-away 1_Pooling && echo > ../beside-away/config.json",
                     test_path("beside"));
            assert_int_equal(system(command), 0);
        }
        assert_int_equal(apr_side_put(&p.side, "config.json", apr_text("{}"), &e), APR_OK);
        if (convert_with(&p, "fixtures/qwen2", "safetensors", test_path("beside/"), test_run_with(1), &e) != APR_OK)
            fail_msg("%s: %s", e.file, e.text);
        for (size_t k = 0; k < APR_LENGTH(rows); k++) {
            snprintf(name, sizeof name, "beside/%s", rows[k].name);
            const bool stays = rows[k].stays || !model || part || (i == 1 && k == 5);
            if ((access(test_path(name), F_OK) == 0) != stays)
                fail_msg("%s %s (%u)", rows[k].name, stays ? "is gone" : "stays", i);
        }
        assert_int_equal(access(away, F_OK), 0);
    }
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
    struct apr_model *const m = test_opened(source);
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

/* The source shrinks when all of it has been read; what is verified then has the names of the source, which are zeros by now. */
static void a_source_that_is_cut_off_meanwhile_is_named_and_not_the_target(void **state)
{
    (void)state;
    static const char *const change[] = { "shrinks", "its values are no numbers any more" };
    for (unsigned i = 0; i < APR_LENGTH(change); i++) {
        const char *const source = big("shrinks.safetensors");
        struct test_bytes b = test_load(source);
        struct apr_model *const m = test_opened(source);
        struct apr_plan p = { .force = true };
        struct apr_error e = { .text = "" };
        assert_int_equal(carry(&p, m, "apr", test_path("shrunk.apr"), &e), APR_OK);
        assert_int_equal(apr_plan_place(&p, &e), APR_OK);
        bool verified;
        if (i == 0)
            p.tensor[0].name = apr_text("another"); /* as it reads where the pages are lost */
        else
            p.tensor[0].dtype = &apr_dtypes[APR_Q8_0];
        if (i == 1) {
            p.tensor[0].how = APR_ENCODE;
            memset(b.at + b.n / 2, 0xFF, 64);
        }
        const int fd = open(source, O_WRONLY | (i == 0 ? O_APPEND : 0));
        assert_int_equal(syscall(SYS_write, fd, b.at, b.n), b.n);
        close(fd);
        assert_int_equal(apr_plan_write(&p, test_run_with(1), true, &verified, &e), APR_EIO);
        if (strstr(e.file, "shrinks.safetensors") == NULL)
            fail_msg("%s: %s: %s", change[i], e.file, e.text);
        assert_int_not_equal(access(test_path("shrunk.apr"), F_OK), 0);
        apr_plan_end(&p);
        apr_close(m);
        test_free(&b);
    }
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
    const char *const source = big("resume.safetensors");
    const char *const out = test_path("resume/out.apr"), *const partial = test_path("resume/out.apr.apr-partial");
    convert((struct apr_plan){ 0 }, source, "apr", test_path("resume.apr"));
    test_file("resume/other", "", 0);
    bool begun = false;
    for (fails_at = 1; fails_at < 16; fails_at++) { /* the system has no more room, later every time */
        counted = SYSTEM;
        calls = 0;
        const enum apr_code code = go_on(source, out);
        counted = NONE;
        if (code == APR_OK && begun)
            break;
        if (code == APR_OK) /* there was another way to begin */
            unlink(out);
        begun |= access(partial, F_OK) == 0;
        assert_int_not_equal(access(out, F_OK), 0);
        assert_int_equal(access(partial, F_OK), begun ? 0 : -1);
    }
    assert_true(begun);
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

/* Whatever lies where the partial file and its log go, and is none of ours, stays as it was. */
static void what_no_run_left_is_not_gone_on_with(void **state)
{
    (void)state;
    static const char *const make[] = { "ln -s ../goal '%s'", "ln ../goal '%s'", "mkfifo '%s'", "mkdir '%s'", "cp ../in.safetensors '%s'",
                                        "ln ../in.safetensors '%s'" };
    static const char *const names[] = { "out.apr.apr-partial", "out.apr.apr-partial.log" };
    const char *const source = big("others/in.safetensors"), *const goal = test_file("others/goal", "theirs", 6);
    struct test_bytes before = test_load(source);
    for (size_t i = 0; i < 2 * APR_LENGTH(make); i++) {
        const char *const name = names[i % 2];
        char word[200], command[512], path[200];
        snprintf(path, sizeof path, "others/here/%s", name);
        snprintf(word, sizeof word, make[i / 2], name);
        snprintf(command, sizeof command, "cd '%s/others' && rm -rf here && mkdir here && cd here && %s", test_folder(), word);
        assert_int_equal(system(command), 0);
        const bool input = i / 2 == 4; /* the input itself has that name */
        assert_int_equal(go_on(input ? test_path(path) : source, test_path("others/here/out.apr")), APR_EARG);
        assert_int_not_equal(access(test_path("others/here/out.apr"), F_OK), 0);
        assert_int_equal(files_in("others/here"), 1);
        struct test_bytes after = test_load(input ? test_path(path) : source), kept = test_load(goal);
        assert_int_equal(after.n, before.n);
        assert_memory_equal(after.at, before.at, before.n);
        assert_string_equal((const char *)kept.at, "theirs");
        test_free(&after);
        test_free(&kept);
    }
    test_free(&before);
}

static void a_log_longer_than_its_plan_is_begun_anew_and_not_read(void **state)
{
    (void)state;
    const char *const source = big("longer.safetensors"), *const out = test_path("longer/out.apr");
    convert((struct apr_plan){ 0 }, source, "apr", test_path("longer.apr"));
    const char *const log = test_file("longer/out.apr.apr-partial.log", "", 0);
    const struct rlimit before = { RLIM_INFINITY, RLIM_INFINITY }, small = { (rlim_t)64 << 30, RLIM_INFINITY };
    assert_int_equal(truncate(log, (off_t)100 << 30), 0);
    if (OWN_MEMORY)
        assert_int_equal(setrlimit(RLIMIT_AS, &small), 0);
    const enum apr_code code = go_on(source, out);
    if (OWN_MEMORY)
        assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(code, APR_OK);
    expect_same_file(out, test_path("longer.apr"));
    assert_int_equal(files_in("longer"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_threads_and_any_cpu_write_the_same),
        cmocka_unit_test(a_pipe_gets_the_bytes_of_a_file),
        cmocka_unit_test(a_reader_who_leaves_is_no_failure_and_a_full_device_is),
        cmocka_unit_test(transposed_elements_keep_every_bit),
        cmocka_unit_test(rows_that_are_no_whole_blocks_are_filled_up_with_zeros),
        cmocka_unit_test(one_scale_is_that_of_the_largest_value),
        cmocka_unit_test(what_is_not_finite_is_refused_with_its_place_or_becomes_0),
        cmocka_unit_test(what_a_scale_cannot_hold_is_refused_and_what_overflows_is_counted),
        cmocka_unit_test(a_byte_that_reads_back_wrong_leaves_no_file),
        cmocka_unit_test(whatever_fails_leaves_nothing_of_a_new_target),
        cmocka_unit_test(ended_at_any_moment_a_new_target_is_whole_or_not_there),
        cmocka_unit_test(killed_at_any_moment_the_files_of_a_folder_are_whole),
        cmocka_unit_test(a_signal_while_a_set_takes_its_places_waits_for_the_last),
        cmocka_unit_test(a_limit_of_size_leaves_nothing),
        cmocka_unit_test(what_is_there_is_replaced_only_when_told),
        cmocka_unit_test(small_files_of_a_replaced_model_go_with_it),
        cmocka_unit_test(an_input_is_never_written),
        cmocka_unit_test(a_source_that_changes_meanwhile_leaves_no_file),
        cmocka_unit_test(a_source_that_is_cut_off_meanwhile_is_named_and_not_the_target),
        cmocka_unit_test(a_run_that_ended_is_gone_on_with_and_nobody_sees_a_difference),
        cmocka_unit_test(what_is_of_another_plan_is_begun_anew),
        cmocka_unit_test(what_no_run_left_is_not_gone_on_with),
        cmocka_unit_test(a_log_longer_than_its_plan_is_begun_anew_and_not_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
