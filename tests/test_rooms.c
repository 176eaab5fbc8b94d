/* The house: a room of lib/ stands on the rooms below it and includes nothing from above; two doors lead to the disk. */
#include "support.h"

#include <glob.h>
#include <string.h>

/* From the ground up. A format stands on all of lib/; so does a tool, which never knows a format. */
static const char *const rooms[] = { "base", "files", "model", "values", "ui", "family", "token", "flow", "convert", "forward", "tools" };

static unsigned floor_of(const char *at, const char *path)
{
    for (unsigned i = 0; i < APR_LENGTH(rooms); i++) {
        const size_t n = strlen(rooms[i]);
        if (strncmp(at, rooms[i], n) == 0 && at[n] == '/')
            return i;
    }
    fail_msg("%s: %.40s is in no room", path, at);
    return 0;
}

static void climbs_nowhere(const char *path, unsigned floor)
{
    struct test_bytes source = test_load(path);
    test_put(&source, "", 1);
    static const char word[] = "\n#include \"";
    for (const char *at = (const char *)source.at; (at = strstr(at, word)) != NULL;) {
        at += sizeof word - 1;
        if (memchr(at, '/', strcspn(at, "\"")) == NULL)
            continue; /* its neighbour in a tool's folder */
        if (floor_of(at, path) > floor)
            fail_msg("%s includes %.*s, which is above it", path, (int)strcspn(at, "\""), at);
    }
    test_free(&source);
}

static void no_room_includes_upwards(void **state)
{
    (void)state;
    static const char *const pattern[] = { "lib/*/*.[ch]", "lib/*/*/*.[ch]", "lib/*/*/*/*.[ch]", "formats/*.[ch]", "tools/*/*.[ch]" };
    glob_t files;
    for (unsigned i = 0; i < APR_LENGTH(pattern); i++)
        assert_int_not_equal(glob(pattern[i], i > 0 ? GLOB_APPEND : 0, NULL, &files), GLOB_NOSPACE);
    assert_true(files.gl_pathc > 100);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        const char *path = files.gl_pathv[i];
        const bool format = strncmp(path, "formats/", 8) == 0, lib = strncmp(path, "lib/", 4) == 0;
        climbs_nowhere(path, format ? APR_LENGTH(rooms) - 2 : floor_of(lib ? path + 4 : path, path));
    }
    globfree(&files);
}

static void nothing_is_written_but_through_a_sink_or_under_a_journal(void **state)
{
    (void)state;
    static const char *const words[] = { " fopen(", "freopen(", "O_CREAT", " rename(", "renameat(", "mkstemp(" };
    glob_t files;
    assert_int_equal(glob("lib/*/*.c", 0, NULL, &files), 0);
    assert_int_not_equal(glob("formats/*.c", GLOB_APPEND, NULL, &files), GLOB_NOSPACE);
    assert_int_not_equal(glob("tools/*/*.c", GLOB_APPEND, NULL, &files), GLOB_NOSPACE);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        struct test_bytes source = test_load(files.gl_pathv[i]);
        test_put(&source, "", 1);
        const bool door = strncmp(files.gl_pathv[i], "lib/files/sink", 14) == 0 || strcmp(files.gl_pathv[i], "lib/files/journal.c") == 0;
        for (size_t k = 0; k < APR_LENGTH(words) && !door; k++)
            if (strstr((const char *)source.at, words[k]) != NULL)
                fail_msg("%s has %s", files.gl_pathv[i], words[k]);
        test_free(&source);
    }
    globfree(&files);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(no_room_includes_upwards), cmocka_unit_test(nothing_is_written_but_through_a_sink_or_under_a_journal) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
