/* Files that appear whole or not at all, and never in the place of one that is being read. */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "files/sink.h"
#include "files/sinks.h"
#include "files/source.h"

/* ---- a stand-in for the system -------------------------------------------------------------------------------------- */

static bool     without_nameless;                   /* the file system has no files without a name */
static uint64_t numbers[4];                         /* what the machine calls random, in turn; none: as it likes */
static size_t   nnumbers, number;

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
    return (int)syscall(SYS_openat, folder, path, flags, mode);
}

static const char *appears; /* a file that somebody makes just before another is put in place */

static void let_appear(void)
{
    if (appears != NULL)
        test_file(appears, "theirs", 6);
    appears = NULL;
}

int linkat(int from, const char *path, int to, const char *name, int flags)
{
    let_appear();
    return (int)syscall(SYS_linkat, from, path, to, name, flags);
}

static bool without_noreplace; /* the file system renames only over what is there */

int renameat2(int from, const char *path, int to, const char *name, unsigned flags)
{
    let_appear();
    if (without_noreplace && flags != 0) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_renameat2, from, path, to, name, flags);
}

ssize_t getrandom(void *to, size_t n, unsigned flags)
{
    if (nnumbers == 0)
        return syscall(SYS_getrandom, to, n, flags);
    memcpy(to, &numbers[number++ % nnumbers], n);
    return (ssize_t)n;
}

/* ---- what is there -------------------------------------------------------------------------------------------------- */

/* Of a sub-folder; with those that begin with a dot. */
static size_t files_in(const char *folder)
{
    char pattern[64];
    size_t n = 0;
    glob_t found;
    for (unsigned dots = 0; dots < 2; dots++) {
        snprintf(pattern, sizeof pattern, "%s/%s", folder, dots ? ".[!.]*" : "*");
        glob(test_path(pattern), 0, NULL, &found);
        n += found.gl_pathc;
        globfree(&found);
    }
    return n;
}

static void expect_content(const char *path, const char *wanted)
{
    struct test_bytes b = test_load(path);
    assert_string_equal((const char *)b.at, wanted);
    test_free(&b);
}

static void expect_mode(const char *path, mode_t mode)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    if ((st.st_mode & 07777) != mode)
        fail_msg("%s: mode %o, not %o", path, st.st_mode & 07777, mode);
}

static void write_file(const char *path, const char *text)
{
    struct apr_sink s;
    struct apr_error e;
    if (apr_sink_begin(&s, path, 0, &e) != APR_OK)
        fail_msg("%s: %s", e.file, e.text);
    fputs(text, s.to);
    if (apr_sink_end(&s, &e) != APR_OK)
        fail_msg("%s: %s", e.file, e.text);
}

/* Every test of a whole file twice: with files without a name, and where there are none. */
static bool other_way(void)
{
    without_nameless = !without_nameless;
    return without_nameless;
}

/* ---- tests ---------------------------------------------------------------------------------------------------------- */

static void what_was_there_stays_until_the_end(void **state)
{
    (void)state;
    do {
        const char *const path = test_file("kept/file", "old", 3);
        struct apr_sink s;
        struct apr_error e;
        assert_int_equal(apr_sink_begin(&s, path, 0, &e), APR_OK);
        fputs("new", s.to);
        fflush(s.to);
        expect_content(path, "old");
        assert_int_equal(files_in("kept"), without_nameless ? 2 : 1);
        assert_int_equal(apr_sink_end(&s, &e), APR_OK);
        expect_content(path, "new");
        assert_int_equal(apr_sink_begin(&s, path, 0, &e), APR_OK);
        fputs("newer", s.to);
        apr_sink_drop(&s);
        expect_content(path, "new");
        assert_int_equal(files_in("kept"), 1);
    } while (other_way());
}

static void a_link_leads_to_the_file_and_stays_a_link(void **state)
{
    (void)state;
    static const struct { const char *link, *to, *file; } rows[] = {
        { "links/link", "goal", "links/goal" },
        { "links/dangling", "nobody", "links/nobody" },
        { "links/far", "../goals/./new", "goals/new" },
        { "links/second", "third", "goals/third" },
    };
    struct stat st;
    test_file("links/goal", "old", 3);
    test_file("goals/other", "", 0);
    assert_int_equal(symlink("../goals/third", test_path("links/third")), 0);
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *const from = test_path(rows[i].link);
        assert_int_equal(symlink(rows[i].to, from), 0);
        write_file(from, "new");
        assert_int_equal(lstat(from, &st), 0);
        assert_true(S_ISLNK(st.st_mode));
        expect_content(test_path(rows[i].file), "new");
    }
}

static void a_new_file_gets_the_umasks_mode_and_a_replaced_one_keeps_its_own(void **state)
{
    (void)state;
    static const mode_t modes[] = { 0600, 0640, 0664, 0755, 0200, 0666 };
    const mode_t before = umask(027);
    do {
        const char *const path = test_path("modes");
        unlink(path);
        write_file(path, "new");
        expect_mode(path, 0640);
        for (size_t i = 0; i < APR_LENGTH(modes); i++) {
            assert_int_equal(chmod(path, modes[i]), 0);
            write_file(path, "newer");
            expect_mode(path, modes[i]);
        }
        struct stat st;
        if (chown(path, 12345, 23456) == 0) { /* root may */
            write_file(path, "newest");
            assert_int_equal(stat(path, &st), 0);
            assert_int_equal(st.st_uid, 12345);
            assert_int_equal(st.st_gid, 23456);
        }
    } while (other_way());
    umask(before);
}

static void devices_and_streams_are_written_as_they_are(void **state)
{
    (void)state;
    struct stat st;
    char name[32], got[8] = "";
    int ends[2];
    write_file("/dev/null", "new");
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode));
    assert_int_equal(pipe(ends), 0);
    snprintf(name, sizeof name, "/dev/fd/%d", ends[1]);
    write_file(name, "one");
    write_file(name, "two"); /* it is still open */
    assert_int_equal(read(ends[0], got, 6), 6);
    assert_string_equal(got, "onetwo");
    close(ends[0]);
    void (*const before)(int) = signal(SIGPIPE, SIG_IGN);
    write_file(name, "a reader who left is no failure");
    signal(SIGPIPE, before);
    close(ends[1]);
}

static void a_pipe_that_does_not_wait_is_waited_for(void **state)
{
    (void)state;
    static char text[1 << 20], part[4096];
    char name[32];
    int ends[2], status;
    memset(text, 'x', sizeof text - 1);
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        size_t n = 0;
        close(ends[1]);
        fcntl(ends[0], F_SETFL, 0);
        usleep(50000);
        for (ssize_t got; (got = read(ends[0], part, sizeof part)) > 0;)
            n += (size_t)got;
        _exit(n == sizeof text - 1 ? 0 : 1);
    }
    snprintf(name, sizeof name, "/dev/fd/%d", ends[1]);
    write_file(name, text);
    close(ends[0]);
    close(ends[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void what_cannot_be_written_is_told_with_its_path(void **state)
{
    (void)state;
    static const struct { const char *path, *words; } rows[] = {
        { "nowhere/file", "nowhere\": No such file" },
        { "refused/", "it is a folder" },
        { "refused/folder", "it is a folder" },
        { "refused/.", "it is a folder" },
        { "refused/file/x", "refused/file\": Not a directory" },
        { "refused/loop", "Too many levels" },
        { "refused/lost", "away\": No such file" },
    };
    struct apr_sink s;
    struct apr_error e;
    test_file("refused/file", "", 0);
    assert_int_equal(mkdir(test_path("refused/folder"), 0777), 0);
    assert_int_equal(symlink("loop", test_path("refused/loop")), 0);
    assert_int_equal(symlink("away/file", test_path("refused/lost")), 0);
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        assert_int_equal(apr_sink_begin(&s, test_path(rows[i].path), 0, &e), APR_EIO);
        assert_non_null(strstr(e.file, rows[i].path));
        if (strstr(e.text, rows[i].words) == NULL)
            fail_msg("%s: \"%s\" is not in: %s", rows[i].path, rows[i].words, e.text);
        apr_sink_drop(&s);
    }
    assert_int_equal(apr_sink_begin(&s, "", 0, &e), APR_EARG);
    char name[300];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = 0;
    assert_int_equal(apr_sink_begin(&s, test_path(name), 0, &e), APR_EIO);
    assert_non_null(strstr(e.text, "too long"));
    assert_int_equal(files_in("refused"), 4);
}

/* In a process of its own, which is a user who may little. */
static void expect_refusal(const char *path, const char *words)
{
    int status;
    const pid_t pid = fork();
    if (pid == 0) {
        struct apr_sink s;
        struct apr_error e = { .text = "" };
        const bool humble = geteuid() != 0 || (setgid(65534) == 0 && setuid(65534) == 0);
        const bool refused = apr_sink_begin(&s, path, 0, &e) == APR_EIO && strstr(e.file, path) != NULL && strstr(e.text, words) != NULL;
        fprintf(stderr, "%s", humble && refused ? "" : e.text);
        _exit(humble && refused ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void a_folder_or_file_that_may_not_be_written_is_told_at_once(void **state)
{
    (void)state;
    const char *const kept = test_file("closed/kept", "old", 3), *const locked = test_file("open/locked", "old", 3);
    assert_int_equal(chmod(test_folder(), 0755), 0);
    assert_int_equal(chmod(kept, 0666), 0);
    assert_int_equal(chmod(locked, 0444), 0);
    assert_int_equal(chmod(test_path("closed"), 0555), 0);
    assert_int_equal(chmod(test_path("open"), 0777), 0);
    expect_refusal(kept, "its folder");
    expect_refusal(test_path("closed/new"), "Permission denied");
    expect_refusal(locked, "Permission denied");
    assert_int_equal(chmod(test_path("closed"), 0755), 0);
}

static void a_full_disk_says_so_and_the_first_reason_counts(void **state)
{
    (void)state;
    struct apr_sink s;
    struct apr_error e;
    assert_int_equal(apr_sink_begin(&s, "/dev/full", 0, &e), APR_OK);
    for (unsigned i = 0; i < 100000; i++)
        fputs("more than a buffer", s.to);
    errno = EIO; /* long after */
    assert_int_equal(apr_sink_end(&s, &e), APR_EIO);
    assert_string_equal(e.text, "cannot be written: No space left on device");

    const char *const path = test_file("limit/file", "old", 3);
    struct rlimit before, small;
    void (*const handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    do {
        small = (struct rlimit){ 1000, before.rlim_max };
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        assert_int_equal(apr_sink_begin(&s, path, 0, &e), APR_OK);
        for (unsigned i = 0; i < 100000; i++)
            fputs("more than a buffer", s.to);
        const enum apr_code code = apr_sink_end(&s, &e);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(code, APR_EIO);
        assert_string_equal(e.text, "cannot be written: File too large");
        expect_content(path, "old");
        assert_int_equal(files_in("limit"), 1);
    } while (other_way());
    signal(SIGXFSZ, handler);
}

static void room_is_asked_for_before_anything_is_written(void **state)
{
    (void)state;
    struct apr_sink s;
    struct apr_error e;
    const char *const path = test_file("room/file", "old", 3);
    do {
        assert_int_equal(apr_sink_begin(&s, path, (uint64_t)1 << 60, &e), APR_EIO);
        assert_true(strstr(e.text, "No space left") != NULL || strstr(e.text, "too large") != NULL);
        expect_content(path, "old");
        assert_int_equal(files_in("room"), 1);
    } while (other_way());
}

static void bytes_go_to_known_places_in_any_order(void **state)
{
    (void)state;
    do {
        struct apr_sink s;
        struct apr_error e;
        struct stat st;
        const char *const path = test_path("places");
        assert_int_equal(apr_sink_begin(&s, path, 1 << 20, &e), APR_OK);
        fputs("head", s.to);
        assert_int_equal(apr_sink_write_at(&s, 9, "tail", 4, &e), APR_OK);
        assert_int_equal(fflush(s.to), 0);
        assert_int_equal(apr_sink_write_at(&s, 4, "-and-", 5, &e), APR_OK);
        assert_int_equal(apr_sink_end(&s, &e), APR_OK);
        expect_content(path, "head-and-tail");
        assert_int_equal(stat(path, &st), 0);
        assert_true(st.st_blocks <= 64); /* the room that was not needed is given back */
        assert_int_equal(apr_sink_begin(&s, path, 0, &e), APR_OK);
        assert_int_equal(apr_sink_write_at(&s, INT64_MAX, "x", 1, &e), APR_EIO);
        assert_int_equal(apr_sink_end(&s, &e), APR_EIO);
        expect_content(path, "head-and-tail");
    } while (other_way());
    struct apr_sink s;
    struct apr_error e;
    assert_int_equal(apr_sink_begin(&s, "/dev/null", 0, &e), APR_OK);
    assert_int_equal(apr_sink_write_at(&s, 0, "x", 1, &e), APR_EARG);
    apr_sink_drop(&s);
}

static void a_file_that_is_being_read_is_never_written(void **state)
{
    (void)state;
    static const char *const names[] = { "read/file", "read/link", "read/hard", "read/./file" };
    const char *const path = test_file("read/file", "old", 3), *const later = test_file("read/later", "old", 3);
    struct apr_source *s;
    struct apr_sink sink;
    struct apr_error e;
    assert_int_equal(symlink("file", test_path("read/link")), 0);
    assert_int_equal(link(path, test_path("read/hard")), 0);
    assert_int_equal(apr_source_open(&s, path, test_run_with(1), &e), APR_OK);
    for (size_t i = 0; i < APR_LENGTH(names); i++) {
        assert_int_equal(apr_sink_begin(&sink, test_path(names[i]), 0, &e), APR_EARG);
        assert_non_null(strstr(e.text, "being read"));
    }
    apr_source_close(s);
    assert_int_equal(apr_sink_begin(&sink, later, 0, &e), APR_OK);
    fputs("new", sink.to);
    assert_int_equal(apr_source_open(&s, later, test_run_with(1), &e), APR_OK); /* after it was begun */
    assert_int_equal(apr_sink_end(&sink, &e), APR_EARG);
    apr_source_close(s);
    expect_content(path, "old");
    expect_content(later, "old");
    assert_int_equal(files_in("read"), 4);
}

static void two_names_of_one_file_are_known_as_such(void **state)
{
    (void)state;
    static const struct { const char *a, *b; bool same; } rows[] = {
        { "same/file", "same/file", true }, { "same/file", "same/../same/file", true }, { "same/file", "same/link", true },
        { "same/file", "same/hard", true }, { "same/file", "same/other", false }, { "same/new", "same/new", true },
        { "same/new", "same/./new", true }, { "same/new", "same/dangling", true }, { "same/new", "same/newer", false },
        { "same/new", "same/file", false }, { "same/new", "new", false }, { "-", "/dev/stdout", true }, { "-", "same/new", false },
        { "/dev/null", "/dev/null", false },
    };
    test_file("same/other", "", 0);
    const char *const path = test_file("same/file", "", 0);
    assert_int_equal(symlink("file", test_path("same/link")), 0);
    assert_int_equal(symlink("../same/new", test_path("same/dangling")), 0);
    assert_int_equal(link(path, test_path("same/hard")), 0);
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_target a, b;
        struct apr_error e;
        const bool outside = rows[i].a[0] == '-' || rows[i].a[0] == '/', both = outside && rows[i].b[0] == '/';
        assert_int_equal(apr_target_find(&a, outside ? rows[i].a : test_path(rows[i].a), &e), APR_OK);
        assert_int_equal(apr_target_find(&b, both ? rows[i].b : test_path(rows[i].b), &e), APR_OK);
        if (apr_target_same(&a, &b) != rows[i].same || apr_target_same(&b, &a) != rows[i].same)
            fail_msg("%s and %s", rows[i].a, rows[i].b);
        apr_target_free(&a);
        apr_target_free(&b);
    }
}

static struct apr_sink *add_file(struct apr_sinks *s, const char *path, bool force)
{
    struct apr_sink *sink;
    struct apr_error e;
    if (apr_sinks_add(s, path, 0, force, &sink, &e) != APR_OK)
        fail_msg("%s: %s", e.file, e.text);
    fputs("new", sink->to);
    return sink;
}

/* Long before its end, and in the last moment; in files of their own and in a folder that is there. */
static void what_appears_meanwhile_is_replaced_only_by_force(void **state)
{
    (void)state;
    test_file("meanwhile/other", "old", 3);
    for (unsigned i = 0; i < 32; i++) {
        const bool force = i & 1, late = i & 2, folder = i & 4;
        struct apr_sinks *s;
        struct apr_error e;
        without_nameless = i & 8;
        without_noreplace = i & 16;
        assert_int_equal(apr_sinks_begin(&s, folder ? test_path("meanwhile/") : NULL, false, &e), APR_OK);
        const char *const file = test_path("meanwhile/file");
        add_file(s, file, force);
        if (late)
            appears = "meanwhile/file";
        else
            test_file("meanwhile/file", "theirs", 6);
        const enum apr_code code = apr_sinks_end(s, &e);
        assert_int_equal(code, force ? APR_OK : APR_EARG);
        if (!force)
            assert_string_equal(e.text, "cannot be written: it appeared meanwhile; --force replaces it");
        apr_sinks_drop(s);
        appears = NULL;
        assert_int_equal(files_in("meanwhile"), 2);
        if (!force || !late || !without_nameless) /* a plain rename has no hook */
            expect_content(file, force ? "new" : "theirs");
        assert_int_equal(unlink(file), 0);
    }
    without_nameless = without_noreplace = false;
}

static void when_one_of_a_set_has_no_place_none_takes_its_own(void **state)
{
    (void)state;
    struct apr_sinks *s;
    struct apr_error e;
    test_file("set/other", "old", 3);
    assert_int_equal(apr_sinks_begin(&s, test_path("set/"), false, &e), APR_OK);
    add_file(s, test_path("set/first"), false);
    add_file(s, test_path("set/second"), false);
    test_file("set/second", "theirs", 6);
    assert_int_equal(apr_sinks_end(s, &e), APR_EARG);
    assert_non_null(strstr(e.file, "second"));
    apr_sinks_drop(s);
    expect_content(test_path("set/second"), "theirs");
    assert_int_equal(files_in("set"), 2);
}

/* Of one that is there, and of one that both would make. */
static void a_folder_is_of_one_set_at_a_time(void **state)
{
    (void)state;
    struct apr_sinks *a, *b;
    struct apr_error e;
    test_file("one/other", "old", 3);
    assert_int_equal(apr_sinks_begin(&a, test_path("one/"), false, &e), APR_OK);
    assert_int_equal(apr_sinks_begin(&b, test_path("one/"), false, &e), APR_EARG);
    assert_string_equal(e.text, "cannot be written: another run is writing there");
    apr_sinks_drop(b);
    assert_int_equal(apr_sinks_begin(&b, test_path("one/"), true, &e), APR_OK); /* shards of one target */
    apr_sinks_drop(b);
    apr_sinks_drop(a);
    assert_int_equal(apr_sinks_begin(&a, test_path("one/"), false, &e), APR_OK);
    apr_sinks_drop(a);
    for (unsigned i = 0; i < 2; i++) {
        char folder[256];
        snprintf(folder, sizeof folder, "new%u/file", i);
        const char *const file = test_path(folder);
        char path[4096];
        snprintf(path, sizeof path, "%.*s", (int)(strlen(file) - strlen("file")), file);
        without_noreplace = i == 1;
        assert_int_equal(apr_sinks_begin(&a, path, false, &e), APR_OK);
        assert_int_equal(apr_sinks_begin(&b, path, false, &e), APR_OK);
        add_file(a, file, true);
        add_file(b, file, true);
        assert_int_equal(apr_sinks_end(a, &e), APR_OK);
        assert_int_equal(apr_sinks_end(b, &e), APR_EARG);
        assert_string_equal(e.text, "cannot be written: another run is writing there");
        apr_sinks_drop(a);
        apr_sinks_drop(b);
    }
    without_noreplace = false;
}

static void what_others_left_is_stepped_over(void **state)
{
    (void)state;
    const char *const left = test_file("litter/.apr-00000000000000aa.part", "left over", 9), *const path = test_path("litter/file");
    do {
        nnumbers = 2;
        number = 0;
        numbers[0] = 0xAA;
        numbers[1] = 0xBB;
        write_file(path, "new");
        write_file(path, "newer");
        nnumbers = 0;
        expect_content(path, "newer");
        expect_content(left, "left over");
        assert_int_equal(files_in("litter"), 2);
    } while (other_way());
}

static void an_end_in_the_midst_of_several_files_leaves_none_of_them(void **state)
{
    (void)state;
    const char *const path = test_file("midst/file", "old", 3);
    do {
        const pid_t pid = fork();
        int status;
        if (pid == 0) {
            struct apr_sink s[3];
            struct apr_error e;
            bool good = !apr_sink_pending();
            for (unsigned i = 0; i < 3; i++) {
                good &= apr_sink_begin(&s[i], i == 0 ? path : test_path(i == 1 ? "midst/new" : "midst/other"), 0, &e) == APR_OK;
                fputs("new", s[i].to);
                fflush(s[i].to);
            }
            good &= apr_sink_end(&s[1], &e) == APR_OK && apr_sink_pending();
            apr_sink_abandon(); /* as a handler would */
            _exit(good ? 0 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        expect_content(path, "old");
        expect_content(test_path("midst/new"), "new");
        assert_int_equal(files_in("midst"), 2);
    } while (other_way());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_there_stays_until_the_end),
        cmocka_unit_test(a_link_leads_to_the_file_and_stays_a_link),
        cmocka_unit_test(a_new_file_gets_the_umasks_mode_and_a_replaced_one_keeps_its_own),
        cmocka_unit_test(devices_and_streams_are_written_as_they_are),
        cmocka_unit_test(a_pipe_that_does_not_wait_is_waited_for),
        cmocka_unit_test(what_cannot_be_written_is_told_with_its_path),
        cmocka_unit_test(a_folder_or_file_that_may_not_be_written_is_told_at_once),
        cmocka_unit_test(a_full_disk_says_so_and_the_first_reason_counts),
        cmocka_unit_test(room_is_asked_for_before_anything_is_written),
        cmocka_unit_test(bytes_go_to_known_places_in_any_order),
        cmocka_unit_test(a_file_that_is_being_read_is_never_written),
        cmocka_unit_test(two_names_of_one_file_are_known_as_such),
        cmocka_unit_test(what_appears_meanwhile_is_replaced_only_by_force),
        cmocka_unit_test(when_one_of_a_set_has_no_place_none_takes_its_own),
        cmocka_unit_test(a_folder_is_of_one_set_at_a_time),
        cmocka_unit_test(what_others_left_is_stepped_over),
        cmocka_unit_test(an_end_in_the_midst_of_several_files_leaves_none_of_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
