/* lib/ui/progress.h: what a terminal sees of it. */
#include "support.h"

#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ui/progress.h"

static void wait_ms(long ms)
{
    nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

/* What a child that tells `story` with stderr at ends[1] writes there. */
static struct test_bytes seen(void (*story)(void), const int ends[2])
{
    struct test_bytes b = { 0 };
    unsigned char part[4096];
    ssize_t n;
    int status;

    const pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        story();
        _exit(0);
    }
    assert_true(pid > 0);
    close(ends[1]);
    while ((n = read(ends[0], part, sizeof part)) > 0)     /* a terminal without writers ends with EIO */
        test_put(&b, part, (size_t)n);
    test_put(&b, "", 0);
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return b;
}

static struct test_bytes seen_on_terminal(unsigned short columns, void (*story)(void))
{
    int ends[2];
    assert_int_equal(openpty(&ends[0], &ends[1], NULL, NULL, &(struct winsize){ .ws_row = 24, .ws_col = columns }), 0);
    return seen(story, ends);
}

static struct test_bytes seen_in_pipe(void (*story)(void))
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    return seen(story, ends);
}

static void tell(bool always, long silence_ms)
{
    struct apr_progress *const p = apr_progress_new(always);
    apr_progress_begin(p, "comparing", 4000000000);
    apr_progress_add(p, 1000000000);
    wait_ms(silence_ms);
    for (int i = 0; i < 1000; i++)
        apr_progress_add(p, 1000000);
    apr_progress_end(p);
    apr_progress_free(p);
}

static void long_work(void) { tell(false, 1100); }
static void short_work(void) { tell(false, 100); }
static void long_work_always(void) { tell(true, 1100); }

static void more_than_was_promised(void)
{
    struct apr_progress *const p = apr_progress_new(true);
    static const uint64_t total[] = { 0, 1 };
    for (size_t i = 0; i < APR_LENGTH(total); i++) {
        apr_progress_begin(p, "x", total[i]);
        wait_ms(1010);
        apr_progress_add(p, 5000);
    }
    apr_progress_free(p);
}

static void work_in_other_units(void)
{
    struct apr_progress *const p = apr_progress_new(true);
    apr_progress_begin(p, "judging", 4000);
    apr_progress_unit(p, "tokens", 100);
    wait_ms(1010);
    apr_progress_add(p, 1000);
    apr_progress_free(p);
}

static size_t count(const struct test_bytes *b, char c)
{
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++)
        n += b->at[i] == c;
    return n;
}

static void the_line_says_how_far_and_goes_without_trace(void **state)
{
    (void)state;
    struct test_bytes b = seen_on_terminal(72, long_work);
    assert_memory_equal(b.at, "\rcomparing  [####", 16);
    assert_true(test_says(&b, "...]  "));
    assert_true(test_says(&b, " 25 %  "));
    assert_true(test_says(&b, "MB/s  0:0"));
    assert_true(test_says(&b, " left"));

    const char *const erase = strrchr((const char *)b.at, '\r');    /* | \r line | \r blanks | \r | */
    assert_string_equal(erase, "\r");
    const char *blanks = erase;
    while (blanks[-1] == ' ')
        blanks--;
    assert_int_equal(blanks[-1], '\r');
    const size_t drawn = strcspn((const char *)b.at + 1, "\r");
    assert_true(drawn < 72);
    assert_true((size_t)(erase - blanks) >= drawn);
    assert_true(count(&b, '\r') <= 5);                              /* a thousand steps in a moment are one line or two */
    assert_int_equal(count(&b, '\n'), 0);
    test_free(&b);
}

static void a_narrow_terminal_gets_what_fits(void **state)
{
    (void)state;
    static const unsigned short columns[] = { 1, 30 };
    for (size_t i = 0; i < APR_LENGTH(columns); i++) {
        struct test_bytes b = seen_on_terminal(columns[i], long_work);
        assert_true(strcspn((const char *)b.at + 1, "\r") < columns[i]);
        test_free(&b);
    }
}

static void short_work_and_pipes_stay_clean(void **state)
{
    (void)state;
    struct test_bytes quick = seen_on_terminal(80, short_work);
    struct test_bytes pipe_auto = seen_in_pipe(long_work), forced = seen_in_pipe(long_work_always);
    assert_int_equal(quick.n, 0);
    assert_int_equal(pipe_auto.n, 0);
    assert_true(test_says(&forced, "comparing  ["));
    test_free(&quick);
    test_free(&pipe_auto);
    test_free(&forced);
}

static void what_is_no_bytes_has_its_own_unit(void **state)
{
    (void)state;
    struct test_bytes b = seen_in_pipe(work_in_other_units);
    assert_true(test_says(&b, " 25 %  9."));
    assert_true(test_says(&b, " tokens/s  0:0"));
    assert_false(test_says(&b, "B/s"));
    test_free(&b);
}

static void a_wrong_total_ends_at_a_hundred(void **state)
{
    (void)state;
    struct test_bytes b = seen_in_pipe(more_than_was_promised);
    assert_true(test_says(&b, "100 %"));
    assert_true(test_says(&b, "0:00 left"));
    test_free(&b);
}

static void none_is_taken_as_none(void **state)
{
    (void)state;
    apr_progress_begin(NULL, "x", 1);
    apr_progress_add(NULL, 1);
    apr_progress_end(NULL);
    apr_progress_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_line_says_how_far_and_goes_without_trace),
        cmocka_unit_test(a_narrow_terminal_gets_what_fits),
        cmocka_unit_test(short_work_and_pipes_stay_clean),
        cmocka_unit_test(what_is_no_bytes_has_its_own_unit),
        cmocka_unit_test(a_wrong_total_ends_at_a_hundred),
        cmocka_unit_test(none_is_taken_as_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
