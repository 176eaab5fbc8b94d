/* lib/base/memstream.h */
#include "support.h"

#include <stdio.h>
#include <sys/resource.h>

#include "base/memstream.h"

static void what_is_written_is_there_with_a_nul_behind_it(void **state)
{
    (void)state;
    char *text = NULL;
    size_t n;
    FILE *f = apr_memstream(&text, &n);
    assert_non_null(f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(n, 0);
    assert_string_equal(text, "");
    free(text);
    f = apr_memstream(&text, &n);
    for (unsigned i = 0; i < 100000; i++)
        fprintf(f, "%06u ", i);
    assert_int_equal(fflush(f), 0);
    assert_int_equal(n, 700000);
    putc('!', f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(n, 700001);
    assert_memory_equal(text + 7 * 99999, "099999 !", 9);
    free(text);
}

/* glibc's own stream says nothing, and has less in it. */
static void a_want_of_memory_is_told(void **state)
{
    (void)state;
    if (strcmp(APR_BUILD, "build/release") != 0)
        skip(); /* a sanitizer takes all addresses */
    static char block[1 << 20];
    struct rlimit old, little;
    char *text = NULL;
    size_t n;
    FILE *const f = apr_memstream(&text, &n);
    assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
    little = (struct rlimit){ .rlim_cur = 256 << 20, .rlim_max = old.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_AS, &little), 0);
    for (unsigned i = 0; i < 512; i++)
        fwrite(block, 1, sizeof block, f);
    const int failed = ferror(f), closed = fclose(f);
    assert_int_equal(setrlimit(RLIMIT_AS, &old), 0);
    assert_true(failed != 0 && closed == EOF);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_there_with_a_nul_behind_it),
        cmocka_unit_test(a_want_of_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
