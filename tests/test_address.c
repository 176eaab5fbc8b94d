/* lib/files/address.c: paths that are addresses, and what a server says of ranges. */
#include "support.h"

#include "base/bytes.h"
#include "files/address.h"

static void addresses_of_the_hub_become_urls(void **state)
{
    (void)state;
    static const struct {
        const char *address, *url;
    } row[] = {
        { "hf://o/n", "https://e/o/n/resolve/main/" },
        { "hf://o/n/a b?#%/c.gguf", NULL },
        { "hf://o/n/a?#%/c.gguf", "https://e/o/n/resolve/main/a%3F%23%25/c.gguf" },
        { "hf://o/n@v1.0/x/y.gguf", "https://e/o/n/resolve/v1.0/x/y.gguf" },
        { "hf://o/n@refs/pr/1/y.gguf", "https://e/o/n/resolve/refs%2Fpr%2F1/y.gguf" },
        { "hf://o/n@refs/pr/1", "https://e/o/n/resolve/refs%2Fpr%2F1/" },
        { "hf://o/n/", "https://e/o/n/resolve/main/" },
        { "hf://o/n/sub/", "https://e/o/n/resolve/main/sub/" },
        { "hf://o", NULL }, { "hf://", NULL }, { "hf:///n", NULL }, { "hf://o/", NULL }, { "hf://../n", NULL }, { "hf://o/..", NULL },
        { "hf://o/n@", NULL }, { "hf://o/n/../../etc", NULL }, { "hf://o/n/a/../b", NULL },
        { "hf://o/n//b", NULL }, { "hf://o/n@../x", NULL },
        { "hf://o@e/n", NULL }, { "hf://o/n?x", NULL }, { "http://", NULL }, { "https:///x", NULL }, { "http://a b/", NULL },
        { "http://user:secret@h/x", NULL }, { "http://h/x\n", NULL }, { "http://h\\@e/x", NULL },
        { "HTTP://h/x?a@b", "HTTP://h/x?a@b" },
    };
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        struct apr_error e;
        char *url;
        const enum apr_code code = apr_address_url(&url, row[i].address, "https://e/", &e);
        if ((code == APR_OK) != (row[i].url != NULL) || (url != NULL && strcmp(url, row[i].url) != 0))
            fail_msg("%s: %s", row[i].address, url != NULL ? url : e.text);
        free(url);
    }
}

static void names_beside_an_address_stay_in_its_folder(void **state)
{
    (void)state;
    static const struct {
        const char *folder, *name, *path;
    } row[] = {
        { "a/b", "c", "a/b/c" }, { "a/b/", "c", "a/b/c" }, { "/", "c", "/c" }, { "a?b", "c#d", "a?b/c#d" },
        { "http://h/a/", "b?c=%2e#d e", "http://h/a/b%3Fc%3D%252e%23d%20e" }, { "http://h/a?x=/y", "b", "http://h/a/b" },
        { "hf://o/n", "b c", "hf://o/n/b c" },
    };
    static const struct {
        const char *path;
        size_t      n;
    } folder[] = { { "a/b", 2 }, { "a", 0 }, { "http://h/a/b?x=/c/d", 11 }, { "hf://o/n/b?c", 9 }, { "a?/b", 3 } };
    static const char *const folders[] = { "hf://o/n", "hf://o/n@v", "hf://o/n@refs/pr/1", "hf://o/n/a/", "http://h/a/", "http://h/a/?x" };
    static const char *const files[] = { "hf://o/n/a", "hf://o/n@v/a", "hf://o/n@refs/pr/1/a", "http://h/a", "http://h/a?x=/", "a/",
                                         "hf://o", "hf://o/", "hf://" };
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        char *const path = apr_beside(row[i].folder, apr_text(row[i].name));
        assert_string_equal(path, row[i].path);
        free(path);
    }
    for (size_t i = 0; i < APR_LENGTH(folder); i++)
        assert_int_equal(apr_folder_length(folder[i].path), folder[i].n);
    for (size_t i = 0; i < APR_LENGTH(folders); i++)
        assert_true(apr_is_folder_address(folders[i]));
    for (size_t i = 0; i < APR_LENGTH(files); i++)
        assert_false(apr_is_folder_address(files[i]));
}

static void origins_are_scheme_host_and_port(void **state)
{
    (void)state;
    assert_true(apr_same_origin("http://h:1/a", "HTTP://H:1?b"));
    assert_false(apr_same_origin("http://h:1/a", "http://h:2/a"));
    assert_false(apr_same_origin("http://h/a", "https://h/a"));
    assert_false(apr_same_origin("http://h/a", "http://h.evil/a"));
    assert_false(apr_same_origin("http:///a", "http:///a"));
}

static void content_ranges_are_read_strictly(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool        good;
        uint64_t    first, end, total;
    } row[] = {
        { "bytes 0-99/1000", true, 0, 100, 1000 }, { "bytes 5-5/6", true, 5, 6, 6 }, { "bytes 0-9/*", true, 0, 10, UINT64_MAX },
        { "bytes */1000", true, 0, 0, 1000 }, { "Bytes  0-0/1", true, 0, 1, 1 },
        { "bytes 9-5/10", false, 0, 0, 0 }, { "bytes 0-10/10", false, 0, 0, 0 }, { "bytes 0-9", false, 0, 0, 0 },
        { "bytes -9/10", false, 0, 0, 0 }, { "items 0-9/10", false, 0, 0, 0 }, { "bytes 0-9/10x", false, 0, 0, 0 }, { "", false, 0, 0, 0 },
        { "bytes 0-18446744073709551615/18446744073709551616", false, 0, 0, 0 }, { "bytes 0-9/99999999999999999999", false, 0, 0, 0 },
        { "bytes */*", false, 0, 0, 0 }, { "bytes 0x1-2/3", false, 0, 0, 0 },
    };
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        struct apr_content_range r;
        const bool good = apr_content_range_read(apr_text(row[i].text), &r);
        if (good != row[i].good || (good && (r.first != row[i].first || r.end != row[i].end || r.total != row[i].total)))
            fail_msg("%s", row[i].text);
    }
}

static void what_is_secret_in_an_address_is_in_no_message(void **state)
{
    (void)state;
    struct apr_error e;
    assert_int_equal(apr_address_check("http://me:hunter2@host/x.gguf", &e), APR_EARG);
    apr_error_in(&e, "http://me:hunter2@host/x.gguf");
    assert_string_equal(e.file, "http://...@host/x.gguf");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_of_the_hub_become_urls),
        cmocka_unit_test(names_beside_an_address_stay_in_its_folder),
        cmocka_unit_test(origins_are_scheme_host_and_port),
        cmocka_unit_test(content_ranges_are_read_strictly),
        cmocka_unit_test(what_is_secret_in_an_address_is_in_no_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
