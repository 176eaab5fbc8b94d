/* lib/files/source.c: how bytes get into memory, and what happens when the file under them changes. */
#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files/source.h"
#include "model/model.h"
#include "model/open.h"

static struct test_bytes some_bytes(size_t n)
{
    struct test_bytes b = { 0 };
    for (size_t i = 0; i < n; i++)
        test_integer(&b, i * 37 % 251, 1);
    return b;
}

static struct apr_source *opened(const char *path, const struct apr_run *r)
{
    struct apr_source *s;
    struct apr_error e;
    if (apr_source_open(&s, path, r, &e) != APR_OK)
        fail_msg("%s: %s", path, e.text);
    return s;
}

static void expect_bytes(const struct apr_source *s, const void *at, size_t n)
{
    assert_int_equal(s->map.n, n);
    assert_int_equal(s->stored, n);
    assert_memory_equal(s->map.at, at, n);
    assert_int_equal(s->lost, 0);
}

/* A run whose temporary files go to a folder of their own, which is empty whenever somebody looks. */
static const struct apr_run *spooling(void)
{
    static struct apr_run run;
    run = *test_run_with(1);
    run.tmpdir = test_path("spool");
    assert_true(mkdir(run.tmpdir, 0777) == 0 || errno == EEXIST);
    return &run;
}

static size_t open_descriptors(void)
{
    size_t n = 0;
    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void expect_nothing_in(const char *folder)
{
    DIR *const d = opendir(folder);
    assert_non_null(d);
    for (const struct dirent *entry; (entry = readdir(d)) != NULL;)
        if (entry->d_name[0] != '.')
            fail_msg("%s was left in %s", entry->d_name, folder);
    closedir(d);
}

/* ---- opening ------------------------------------------------------------------------------------------------------- */

static void a_file_is_mapped_as_it_is(void **state)
{
    (void)state;
    static const size_t sizes[] = { 0, 1, 4095, 4096, 4097, 300000 };
    test_folder();
    const size_t before = open_descriptors();
    for (size_t i = 0; i < APR_LENGTH(sizes); i++) {
        struct test_bytes b = some_bytes(sizes[i]);
        char *path = strdup(test_file("file", sizes[i] ? b.at : (const void *)"", sizes[i]));
        struct apr_source *s = opened(path, test_run_with(1));
        memset(path, '?', strlen(path));
        assert_string_equal(s->path, test_path("file"));
        assert_non_null(s->map.at);
        expect_bytes(s, b.at, sizes[i]);
        apr_source_close(s);
        free(path);
        test_free(&b);
    }
    apr_source_close(NULL);
    assert_int_equal(open_descriptors(), before);
}

static void what_cannot_be_opened_is_told(void **state)
{
    (void)state;
    test_file("folder/file", "x", 1);
    const struct { const char *path, *words; } rows[] = {
        { test_path("nothing"), "cannot open: No such file or directory" },
        { test_path("folder"), "is a folder" },
        { test_path("folder/file/deeper"), "Not a directory" },
        { "", "No such file or directory" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_source *s = (void *)&i;
        struct apr_error e;
        assert_int_equal(apr_source_open(&s, rows[i].path, test_run_with(1), &e), APR_EIO);
        assert_null(s);
        assert_int_equal(e.code, APR_EIO);
        assert_true(e.at == APR_NOWHERE);
        assert_string_equal(e.file, rows[i].path);
        if (strstr(e.text, rows[i].words) == NULL)
            fail_msg("%s: %s", rows[i].path, e.text);
    }
}

static const char *linked(const char *name, const char *to)
{
    const char *const path = test_path(name);
    assert_int_equal(symlink(to, path), 0);
    return path;
}

static const char *special(const char *name, mode_t mode)
{
    const char *const path = test_path(name);
    assert_int_equal(mknod(path, mode | 0600, 0), 0);
    return path;
}

static void only_a_regular_file_is_read_beside_another(void **state)
{
    (void)state;
    const char *const long_one = test_file("beside/long", "1234567890", 10);
    assert_int_equal(truncate(long_one, (off_t)1 << 31), 0);                 /* 2 GiB of nothing */
    const struct { const char *path; enum apr_code code; const char *words; } rows[] = {
        { special("beside/pipe", S_IFIFO), APR_EIO, "is a pipe, not a file" },       /* which nobody writes */
        { special("beside/socket", S_IFSOCK), APR_EIO, "is a socket, not a file" },
        { test_path("beside"), APR_EIO, "is a folder, not a file" },
        { linked("beside/zeros", "/dev/zero"), APR_EIO, "is a device, not a file" },
        { linked("beside/to pipe", "pipe"), APR_EIO, "is a pipe, not a file" },
        { linked("beside/itself", "itself"), APR_EIO, "Too many levels of symbolic links" },
        { linked("beside/nowhere", "../blobs/\033[31m"), APR_EIO, "is a link to \"../blobs/\\x1b[31m\", which is not there" },
        { long_one, APR_ELIMIT, "has 2147483648 bytes, of such a file at most 10 are read" },
        { test_file("beside/eleven", "12345678901", 11), APR_ELIMIT, "has 11 bytes, of such a file at most 10 are read" },
    };
    const size_t before = open_descriptors();
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_source *s = (void *)&i;
        struct apr_error e;
        assert_int_equal(apr_source_sidecar(&s, rows[i].path, 10, test_run_with(1), &e), rows[i].code);
        assert_null(s);
        assert_string_equal(e.file, rows[i].path);
        if (strstr(e.text, rows[i].words) == NULL)
            fail_msg("%s: %s", rows[i].path, e.text);
    }
    assert_int_equal(open_descriptors(), before);
}

static void a_file_beside_another_may_be_absent_or_behind_links(void **state)
{
    (void)state;
    const char *const whole = test_file("blobs/ten", "1234567890", 10);
    const struct { const char *path; bool there; } rows[] = {
        { whole, true },
        { linked("to whole", whole), true },
        { linked("to link", "to whole"), true },
        { test_path("blobs/nothing"), false },
        { test_path("no folder/nothing"), false },
        { test_path("blobs/ten/deeper"), false },
        { "", false },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_source *s = (void *)&i;
        struct apr_error e;
        assert_int_equal(apr_source_sidecar(&s, rows[i].path, 10, test_run_with(1), &e), APR_OK);
        assert_int_equal(s != NULL, rows[i].there);
        if (s != NULL)
            expect_bytes(s, "1234567890", 10);
        apr_source_close(s);
    }
}

/* ---- pipes and standard input -------------------------------------------------------------------------------------- */

struct feed {
    int               fd;       /* or -1: opens path */
    const char       *path;
    struct test_bytes bytes;
};

static void *feed(void *argument)
{
    const struct feed *f = argument;
    const int fd = f->fd >= 0 ? f->fd : open(f->path, O_WRONLY | O_CLOEXEC);
    for (size_t at = 0; fd >= 0 && at < f->bytes.n;) {
        const ssize_t n = write(fd, f->bytes.at + at, f->bytes.n - at);
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    if (fd >= 0)
        close(fd);
    return NULL;
}

static const size_t piped_sizes[] = { 0, 1, 262143, 262144, 1000000 };

static void a_pipe_is_copied_into_a_file_without_a_name(void **state)
{
    (void)state;
    const char *const path = test_path("pipe");
    const size_t before = open_descriptors();
    assert_int_equal(mkfifo(path, 0600), 0);
    for (size_t i = 0; i < APR_LENGTH(piped_sizes); i++) {
        struct feed f = { -1, path, some_bytes(piped_sizes[i]) };
        pthread_t writer;
        assert_int_equal(pthread_create(&writer, NULL, feed, &f), 0);
        struct apr_source *s = opened(path, spooling());
        pthread_join(writer, NULL);
        expect_bytes(s, f.bytes.at, f.bytes.n);
        assert_string_equal(s->path, path);
        assert_int_equal(open_descriptors(), before);
        expect_nothing_in(spooling()->tmpdir);
        apr_source_close(s);
        test_free(&f.bytes);
    }
}

/* Puts fd in the place of standard input; returns what was there, for the next call. */
static int swap_stdin(int fd)
{
    const int before = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    assert_true(before >= 0);
    assert_int_equal(dup2(fd, STDIN_FILENO), STDIN_FILENO);
    close(fd);
    return before;
}

static void standard_input_may_be_a_pipe(void **state)
{
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(piped_sizes); i++) {
        int ends[2];
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        struct feed f = { ends[1], NULL, some_bytes(piped_sizes[i]) };
        const int before = swap_stdin(ends[0]);
        pthread_t writer;
        assert_int_equal(pthread_create(&writer, NULL, feed, &f), 0);
        struct apr_source *s = opened("-", spooling());
        pthread_join(writer, NULL);
        close(swap_stdin(before));
        assert_string_equal(s->path, "-");
        expect_bytes(s, f.bytes.at, f.bytes.n);
        expect_nothing_in(spooling()->tmpdir);
        apr_source_close(s);
        test_free(&f.bytes);
    }
}

static void standard_input_may_be_a_file_read_up_to_somewhere(void **state)
{
    (void)state;
    struct test_bytes b = some_bytes(10000);
    const char *const path = test_file("stdin", b.at, b.n);
    static const off_t from[] = { 0, 1, 4096, 10000 };
    for (size_t i = 0; i < APR_LENGTH(from); i++) {
        const int fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_int_equal(lseek(fd, from[i], SEEK_SET), from[i]);
        const int before = swap_stdin(fd);
        struct apr_source *s = opened("-", spooling());
        assert_true(fcntl(STDIN_FILENO, F_GETFD) >= 0);
        close(swap_stdin(before));
        expect_bytes(s, b.at + from[i], b.n - (size_t)from[i]);
        apr_source_close(s);
    }
    test_free(&b);
}

/* ---- temporary files ----------------------------------------------------------------------------------------------- */

static void temporary_files_have_no_name(void **state)
{
    (void)state;
    struct apr_error e;
    struct stat st;
    const int fd = apr_temporary(spooling(), &e);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_nlink, 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    expect_nothing_in(spooling()->tmpdir);
    close(fd);
}

static void without_any_folder_memory_is_one(void **state)
{
    (void)state;
    struct apr_run run = *test_run_with(1);
    struct apr_error e;
    run.tmpdir = NULL;
    const int fd = apr_temporary(&run, &e);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "x", 1), 1);
    close(fd);
}

static void a_temporary_folder_that_is_none_is_named(void **state)
{
    (void)state;
    char deep[6000];
    memset(deep, 'd', sizeof deep - 1);
    deep[sizeof deep - 1] = 0;
    const char *const rows[] = { test_path("no folder"), test_file("a file", "x", 1), "", deep };
    const char *const pipe_path = test_path("unread pipe");
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    const int held = open(pipe_path, O_RDWR | O_CLOEXEC);
    assert_true(held >= 0);
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_run run = *test_run_with(1);
        struct apr_error e = { .at = 0 };
        struct apr_source *s;
        run.tmpdir = rows[i];
        assert_int_equal(apr_temporary(&run, &e), -1);
        assert_int_equal(e.code, APR_EIO);
        assert_non_null(strstr(e.text, "cannot make a temporary file"));
        assert_int_equal(strncmp(e.file, rows[i], 700), 0);
        assert_int_equal(apr_source_open(&s, pipe_path, &run, &e), APR_EIO);
        assert_null(s);
    }
    close(held);
}

static void a_full_disk_is_told(void **state)
{
    (void)state;
    struct apr_error e;
    const int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(apr_write_all(fd, "x", 1, &e), APR_EIO);
    assert_non_null(strstr(e.text, "No space left on device"));
    assert_int_equal(apr_write_all(fd, "", 0, &e), APR_OK);
    close(fd);
    assert_int_equal(apr_write_all(-1, "x", 1, &e), APR_EIO);
}

static void a_map_is_replaced(void **state)
{
    (void)state;
    struct test_bytes b = some_bytes(50000);
    static const uint64_t sizes[] = { 50000, 1, 0 };
    for (size_t i = 0; i < APR_LENGTH(sizes); i++) {
        struct apr_source *s = opened(test_file("packed", "packed", 6), test_run_with(1));
        struct apr_error e;
        const int fd = apr_temporary(test_run_with(1), &e);
        void *const packed = (void *)(uintptr_t)s->map.at;
        assert_int_equal(apr_write_all(fd, b.at, b.n, &e), APR_OK);
        assert_int_equal(apr_source_replace(s, fd, sizes[i], &e), APR_OK);
        assert_int_equal(fcntl(fd, F_GETFD), -1);
        assert_int_equal(s->map.n, sizes[i]);
        assert_memory_equal(s->map.at, b.at, (size_t)sizes[i]);
        assert_int_equal(s->stored, 6);
        assert_int_equal(msync(packed, 6, MS_ASYNC), -1);         /* nothing is mapped there any more */
        apr_source_close(s);
    }
    test_free(&b);
}

static void a_map_stays_when_the_new_one_fails(void **state)
{
    (void)state;
    struct apr_source *s = opened(test_file("packed", "packed", 6), test_run_with(1));
    static const uint64_t sizes[] = { 6, UINT64_MAX, (uint64_t)1 << 62 };
    for (size_t i = 0; i < APR_LENGTH(sizes); i++) {
        struct apr_error e;
        const int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);   /* what cannot be read cannot be mapped */
        assert_int_not_equal(apr_source_replace(s, fd, sizes[i], &e), APR_OK);
        assert_int_equal(fcntl(fd, F_GETFD), -1);
        expect_bytes(s, "packed", 6);
    }
    apr_source_close(s);
}

/* ---- pages --------------------------------------------------------------------------------------------------------- */

static void letting_go_touches_nothing_outside(void **state)
{
    (void)state;
    enum { PART = 4 * 65536, LENGTH = PART - 5000 };
    struct test_bytes b = some_bytes(LENGTH);
    const int fd = open(test_file("middle", b.at, b.n), O_RDONLY | O_CLOEXEC);
    unsigned char *const all = mmap(NULL, 3 * PART, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(all != MAP_FAILED);
    memset(all, 0xA5, 3 * PART);
    assert_true(mmap(all + PART, LENGTH, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == all + PART);
    close(fd);
    const struct apr_bytes map = { all + PART, LENGTH };
    static const struct { size_t from, n; } rows[] = {
        { 0, LENGTH }, { 0, 0 }, { 0, 1 }, { LENGTH - 1, 1 }, { LENGTH, 0 }, { 4096, 8192 }, { 65535, 2 }, { 5, LENGTH - 5 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const struct apr_bytes range = { map.at + rows[i].from, rows[i].n };
        apr_drop_behind(map, range);
        assert_memory_equal(map.at, b.at, b.n);
        apr_drop_behind(map, map);
    }
    const struct apr_bytes before = { all, PART }, behind = { all + 2 * PART, PART }, none = { (const unsigned char *)"", 0 };
    apr_drop_behind(map, before);
    apr_drop_behind(map, behind);
    apr_drop_behind(none, none);
    apr_drop_behind(none, before);
    for (size_t i = 0; i < PART; i++)
        if (all[i] != 0xA5 || all[2 * PART + i] != 0xA5)
            fail_msg("byte %zu beside the map was dropped", i);
    munmap(all, 3 * PART);
    test_free(&b);
}

static void what_was_let_go_is_not_resident(void **state)
{
    (void)state;
    struct test_bytes b = some_bytes(64 << 16);
    struct apr_source *s = opened(test_file("large", b.at, b.n), test_run_with(1));
    unsigned long before, with, after;
    unsigned long *const read[] = { &before, &with, &after };
    for (size_t i = 0; i < 3; i++) {
        if (i == 1)
            assert_memory_equal(s->map.at, b.at, b.n);
        else
            apr_drop_behind(s->map, s->map);
        FILE *const f = fopen("/proc/self/statm", "r");
        assert_int_equal(fscanf(f, "%*u %*u %lu", read[i]), 1);   /* resident file pages */
        fclose(f);
    }
    const unsigned long pages = b.n / (unsigned long)sysconf(_SC_PAGESIZE);
    assert_true(with - before > pages / 2);
    assert_true(with - after > pages / 2);
    apr_source_close(s);
    test_free(&b);
}

/* ---- a file that shrinks ------------------------------------------------------------------------------------------- */

static void on_sigbus(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    if (!apr_source_patch(info->si_addr))
        _exit(98);
}

static void *read_all(void *argument)
{
    const struct apr_bytes *b = argument;
    uint64_t sum = 0;
    for (size_t i = 0; i < b->n; i++)
        sum += b->at[i];
    return (void *)(uintptr_t)sum;
}

static void a_file_that_shrinks_reads_as_zeros_and_is_told(void **state)
{
    (void)state;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), n = 16 * page;
    struct test_bytes b = { 0 };
    char header[128];
    snprintf(header, sizeof header, "{\"a\":{\"dtype\":\"U8\",\"shape\":[%zu],\"data_offsets\":[0,%zu]}}", n, n);
    test_integer(&b, strlen(header), 8);
    test_text(&b, header);
    const size_t data = b.n;
    for (size_t i = 0; i < n; i++)
        test_integer(&b, 1, 1);
    struct apr_model *m = test_open("shrinks", "shrinks.safetensors", &b, APR_OK, APR_NOWHERE, NULL);
    struct apr_model *other = test_open("stays", "stays.safetensors", &b, APR_OK, APR_NOWHERE, NULL);
    struct apr_error e;
    assert_int_equal(apr_model_intact(m, &e), APR_OK);

    struct sigaction bus = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO }, before;
    assert_int_equal(sigaction(SIGBUS, &bus, &before), 0);
    assert_int_equal(truncate(m->file[0]->path, (off_t)(4 * page)), 0);

    pthread_t thread[4];
    for (size_t i = 0; i < APR_LENGTH(thread); i++)
        assert_int_equal(pthread_create(&thread[i], NULL, read_all, &m->tensor[0].data), 0);
    for (size_t i = 0; i < APR_LENGTH(thread); i++) {
        void *sum;
        pthread_join(thread[i], &sum);
        assert_int_equal((uintptr_t)sum, 4 * page - data);
    }
    assert_int_equal(m->tensor[0].data.at[4 * page - data - 1], 1);
    assert_int_equal(m->tensor[0].data.at[4 * page - data], 0);
    apr_drop_behind(m->file[0]->map, m->file[0]->map);
    assert_int_equal((uintptr_t)read_all(&m->tensor[0].data), 4 * page - data);

    assert_int_equal(apr_model_intact(m, &e), APR_EIO);
    assert_string_equal(e.text, "the file shrank while it was read");
    assert_string_equal(e.file, m->file[0]->path);
    assert_int_equal(apr_model_intact(other, &e), APR_OK);
    assert_int_equal((uintptr_t)read_all(&other->tensor[0].data), n);
    sigaction(SIGBUS, &before, NULL);
    apr_close(m);
    apr_close(other);
    test_free(&b);
}

/* ---- a file that changes ------------------------------------------------------------------------------------------- */

static void shrink(const char *path)   { assert_int_equal(truncate(path, 4000), 0); } /* inside the page, so nothing faults */
static void grow(const char *path)     { assert_int_equal(truncate(path, 5000), 0); }
static void touch(const char *path)    { assert_int_equal(utimensat(AT_FDCWD, path, NULL, 0), 0); }
static void rename_it(const char *path){ assert_int_equal(rename(path, test_path("changes/elsewhere")), 0); }
static void link_it(const char *path)  { assert_int_equal(link(path, test_path("changes/second")), 0); }
static void chmod_it(const char *path) { assert_int_equal(chmod(path, 0400), 0); }
static void remove_it(const char *path){ assert_int_equal(unlink(path), 0); }
static void replace(const char *path)
{
    struct test_bytes b = some_bytes(4100);
    assert_int_equal(rename(test_file("changes/new", b.at, b.n), path), 0);
    test_free(&b);
}

static void rewrite(const char *path)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "!", 1, 4099), 1);
    close(fd);
}

static void nothing(const char *path) { (void)path; }

/* An old file, so that whatever is written now bears another time. */
static const char *old_file(const char *name)
{
    struct test_bytes b = some_bytes(4100);
    const char *const path = test_file(name, b.at, b.n);
    const struct timespec then[2] = { { .tv_sec = 1000000000 }, { .tv_sec = 1000000000, .tv_nsec = 1 } };
    assert_int_equal(utimensat(AT_FDCWD, path, then, 0), 0);
    test_free(&b);
    return path;
}

static const struct {
    void      (*change)(const char *path);
    const char *kept, *by_path; /* what is said with a descriptor, and without one; NULL: nothing */
} changes[] = {
    { nothing, NULL, NULL },
    { shrink, "the file shrank while it was read", "the file shrank while it was read" },
    { grow, "the file changed while it was read", "the file changed while it was read" },
    { rewrite, "the file changed while it was read", "the file changed while it was read" },
    { touch, "the file changed while it was read", "the file changed while it was read" },
    { link_it, NULL, NULL },
    { chmod_it, NULL, NULL },
    { rename_it, NULL, "cannot be asked whether it changed: No such file or directory" },
    { remove_it, NULL, "cannot be asked whether it changed: No such file or directory" },
    { replace, NULL, "another file took its place while it was read" },
};

static void a_file_that_changes_is_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * APR_LENGTH(changes); i++) {
        const char *const words = i % 2 ? changes[i / 2].by_path : changes[i / 2].kept;
        struct rlimit before;
        struct apr_error e = { .text = "" };
        const char *const path = old_file("changes/file");
        struct apr_source *s;
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
        const size_t open_before = open_descriptors();
        struct apr_source *many[16];
        if (i % 2) { /* half of 32 are kept, and then no more */
            assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 32, before.rlim_max }), 0);
            for (size_t k = 0; k < APR_LENGTH(many); k++)
                many[k] = opened(old_file("changes/other"), test_run_with(1));
        }
        s = opened(path, test_run_with(1));
        assert_int_equal(open_descriptors() - open_before, i % 2 ? 16 : 1);
        changes[i / 2].change(path);
        assert_int_equal(apr_source_intact(s, &e), words == NULL ? APR_OK : APR_EIO);
        if (words != NULL)
            assert_string_equal(e.text, words);
        assert_int_equal(apr_source_end(s, APR_ECORRUPT, &e), words == NULL ? APR_ECORRUPT : APR_EIO);
        for (size_t k = 0; i % 2 && k < APR_LENGTH(many); k++)
            assert_int_equal(apr_source_end(many[k], APR_OK, &e), APR_OK);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_int_equal(open_descriptors(), open_before);
        unlink(path);
        unlink(test_path("changes/elsewhere"));
        unlink(test_path("changes/second"));
    }
}

static void a_disk_that_fails_is_no_file_that_shrinks(void **state)
{
    (void)state;
    struct apr_source *s = opened(old_file("failing"), test_run_with(1));
    struct apr_error e;
    assert_true(apr_source_patch(s->map.at + 1));          /* as the handler does, though the page is within the file */
    assert_int_equal(apr_source_intact(s, &e), APR_EIO);
    assert_string_equal(e.text, "the disk failed while it was read: Input/output error");
    shrink(s->path);
    assert_int_equal(apr_source_intact(s, &e), APR_EIO);
    assert_string_equal(e.text, "the file shrank while it was read");
    apr_source_close(s);
}

static void a_copy_of_a_pipe_changes_for_nobody(void **state)
{
    (void)state;
    int ends[2];
    struct apr_error e;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(write(ends[1], "piped", 5), 5);
    close(ends[1]);
    const int before = swap_stdin(ends[0]);
    struct apr_source *s = opened("-", spooling());
    close(swap_stdin(before));
    assert_int_equal(apr_source_intact(s, &e), APR_OK);
    assert_int_equal(apr_source_end(s, APR_OK, &e), APR_OK);
    assert_int_equal(apr_source_end(NULL, APR_ELIMIT, &e), APR_ELIMIT);
}

/* ---- under a tool -------------------------------------------------------------------------------------------------- */

/* Waits until somebody opens `pipe`, which the tool does when its model is open, changes a file of that, and lets the tool go on. */
struct meddler {
    const char              *pipe, *file;
    void                   (*change)(const char *path);
    const struct test_bytes *bytes;
};

static void *meddle(void *argument)
{
    const struct meddler *m = argument;
    const int fd = open(m->pipe, O_WRONLY | O_CLOEXEC);
    m->change(m->file);
    if (fd < 0 || write(fd, m->bytes->at, m->bytes->n) != (ssize_t)m->bytes->n)
        fail_msg("%s is not read", m->pipe);
    close(fd);
    return NULL;
}

static void age(const char *path)
{
    const struct timespec then[2] = { { .tv_sec = 1000000000 }, { .tv_sec = 1000000000 } };
    assert_int_equal(utimensat(AT_FDCWD, path, then, 0), 0);
}

static void cut_the_last_byte(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size - 1), 0);
}

static void an_answer_about_a_file_that_changed_is_none(void **state)
{
    (void)state;
    struct test_bytes b = { 0 };
    const char *const header = "{\"a\":{\"dtype\":\"U8\",\"shape\":[5000],\"data_offsets\":[0,5000]}}";
    test_integer(&b, strlen(header), 8);
    test_text(&b, header);
    for (size_t i = 0; i < 5000; i++)
        test_integer(&b, 1, 1);
    const char *const model = test_file("meddled/model.safetensors", b.at, b.n), *const folder = test_path("meddled");
    const char *const config = test_file("meddled/config.json", "{}", 2), *const pipe_path = test_path("meddler");
    struct test_answer a = test_tool("apr-inspect", folder, "--manifest", test_path("manifest"), NULL);
    struct test_bytes manifest = test_load(test_path("manifest"));
    static const char *const views[][5] = { { "apr-diff" }, { "apr-diff", "--json" }, { "apr-diff", "--structure" }, { "apr-inspect", "--verify" } };
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    for (size_t i = 0; i < 3 * APR_LENGTH(views); i++) {
        const char *const *view = views[i / 3], *const option = view[1] == NULL ? "--quiet" : view[1];
        const bool verify = strcmp(view[0], "apr-inspect") == 0;
        void (*const change[])(const char *) = { nothing, cut_the_last_byte, cut_the_last_byte };
        struct meddler m = { pipe_path, i % 3 == 1 ? model : config, change[i % 3], verify ? &manifest : &b };
        pthread_t thread;
        age(test_file("meddled/model.safetensors", b.at, b.n));
        age(test_file("meddled/config.json", "{}", 2));
        assert_int_equal(pthread_create(&thread, NULL, meddle, &m), 0);
        struct test_answer got = verify ? test_tool(view[0], folder, option, pipe_path, NULL) : test_tool(view[0], option, folder, pipe_path, NULL);
        pthread_join(thread, NULL);
        if (got.exit != (i % 3 == 0 ? 0 : 2) || (i % 3 != 0 && (!test_says(&got.err, m.file) || !test_says(&got.err, "the file shrank"))))
            fail_msg("%s %s, change %zu: exit %d: %s%s", view[0], option, i % 3, got.exit, (const char *)got.out.at, (const char *)got.err.at);
        if (i % 3 != 0 && test_says(&got.out, "\"verdict\""))
            fail_msg("%s %s: a verdict: %s", view[0], option, (const char *)got.out.at);
        test_answer_free(&got);
    }
    test_answer_free(&a);
    test_free(&manifest);
    test_free(&b);
}

static void an_address_of_nobody_is_not_patched(void **state)
{
    (void)state;
    struct apr_source *empty = opened(test_file("empty", "", 0), test_run_with(1));
    struct apr_source *s = opened(test_file("one", "1", 1), test_run_with(1));
    int mine = 7;
    assert_false(apr_source_patch(&mine));
    assert_false(apr_source_patch(NULL));
    assert_false(apr_source_patch(empty->map.at));
    assert_false(apr_source_patch(s->map.at - 1));
    assert_false(apr_source_patch(s->map.at + 1));
    assert_int_equal(mine, 7);
    expect_bytes(s, "1", 1);
    apr_source_close(s);
    apr_source_close(empty);
}

static void sources_close_in_any_order(void **state)
{
    (void)state;
    static const unsigned orders[][3] = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 } };
    for (size_t i = 0; i < APR_LENGTH(orders); i++) {
        struct apr_source *s[3];
        for (size_t k = 0; k < 3; k++)
            s[k] = opened(test_file("again", "again", 5), test_run_with(1));
        for (size_t k = 0; k < 3; k++) {
            void *const at = (void *)(uintptr_t)s[orders[i][k]]->map.at;
            expect_bytes(s[orders[i][k]], "again", 5);
            apr_source_close(s[orders[i][k]]);
            assert_int_equal(msync(at, 5, MS_ASYNC), -1);
            assert_false(apr_source_patch(at));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_mapped_as_it_is),
        cmocka_unit_test(what_cannot_be_opened_is_told),
        cmocka_unit_test(only_a_regular_file_is_read_beside_another),
        cmocka_unit_test(a_file_beside_another_may_be_absent_or_behind_links),
        cmocka_unit_test(a_pipe_is_copied_into_a_file_without_a_name),
        cmocka_unit_test(standard_input_may_be_a_pipe),
        cmocka_unit_test(standard_input_may_be_a_file_read_up_to_somewhere),
        cmocka_unit_test(temporary_files_have_no_name),
        cmocka_unit_test(without_any_folder_memory_is_one),
        cmocka_unit_test(a_temporary_folder_that_is_none_is_named),
        cmocka_unit_test(a_full_disk_is_told),
        cmocka_unit_test(a_map_is_replaced),
        cmocka_unit_test(a_map_stays_when_the_new_one_fails),
        cmocka_unit_test(letting_go_touches_nothing_outside),
        cmocka_unit_test(what_was_let_go_is_not_resident),
        cmocka_unit_test(a_file_that_shrinks_reads_as_zeros_and_is_told),
        cmocka_unit_test(a_file_that_changes_is_told),
        cmocka_unit_test(a_disk_that_fails_is_no_file_that_shrinks),
        cmocka_unit_test(a_copy_of_a_pipe_changes_for_nobody),
        cmocka_unit_test(an_answer_about_a_file_that_changed_is_none),
        cmocka_unit_test(an_address_of_nobody_is_not_patched),
        cmocka_unit_test(sources_close_in_any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
