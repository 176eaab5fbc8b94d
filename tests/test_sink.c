/* Files that appear whole or not at all. */
#include "support.h"

#include <fcntl.h>
#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files/sink.h"

static size_t files_beside(const char *pattern)
{
    glob_t found;
    glob(test_path(pattern), 0, NULL, &found);
    const size_t n = found.gl_pathc;
    globfree(&found);
    return n;
}

static void expect_content(const char *path, const char *wanted)
{
    struct test_bytes b = test_load(path);
    assert_string_equal((const char *)b.at, wanted);
    test_free(&b);
}

static void what_was_there_stays_until_the_end(void **state)
{
    (void)state;
    const char *const path = test_file("kept/file", "old", 3);
    struct apr_replacement r;
    struct apr_error e;
    assert_int_equal(apr_replace_begin(&r, path, &e), APR_OK);
    fputs("new", r.to);
    fflush(r.to);
    expect_content(path, "old");
    assert_int_equal(apr_replace_end(&r, &e), APR_OK);
    expect_content(path, "new");
    assert_int_equal(apr_replace_begin(&r, path, &e), APR_OK);
    fputs("newer", r.to);
    apr_replace_drop(&r);
    expect_content(path, "new");
    assert_int_equal(files_beside("kept/*"), 1);
}

static void a_link_leads_to_the_file_and_stays_a_link(void **state)
{
    (void)state;
    struct apr_replacement r;
    struct apr_error e;
    struct stat st;
    const char *const goal = test_file("links/goal", "old", 3), *const from = test_path("links/link");
    assert_int_equal(symlink("goal", from), 0);
    assert_int_equal(apr_replace_begin(&r, from, &e), APR_OK);
    fputs("new", r.to);
    assert_int_equal(apr_replace_end(&r, &e), APR_OK);
    assert_int_equal(lstat(from, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    expect_content(goal, "new");
}

static void a_device_is_written_not_replaced(void **state)
{
    (void)state;
    struct apr_replacement r;
    struct apr_error e;
    struct stat st;
    assert_int_equal(apr_replace_begin(&r, "/dev/null", &e), APR_OK);
    fputs("new", r.to);
    assert_int_equal(apr_replace_end(&r, &e), APR_OK);
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode));
}

static void what_cannot_be_written_is_told_with_its_path(void **state)
{
    (void)state;
    struct apr_replacement r;
    struct apr_error e;
    assert_int_equal(apr_replace_begin(&r, test_path("nowhere/file"), &e), APR_EIO);
    assert_non_null(strstr(e.file, "nowhere/file"));
    assert_non_null(strstr(e.text, "No such file"));
    assert_int_equal(apr_replace_begin(&r, "/dev/full", &e), APR_OK);
    fputs("new", r.to);
    assert_int_equal(apr_replace_end(&r, &e), APR_EIO);
    assert_non_null(strstr(e.text, "No space left"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_there_stays_until_the_end),
        cmocka_unit_test(a_link_leads_to_the_file_and_stays_a_link),
        cmocka_unit_test(a_device_is_written_not_replaced),
        cmocka_unit_test(what_cannot_be_written_is_told_with_its_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
