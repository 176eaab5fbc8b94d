/* The one static program: it is the tool that its own name says, or else its first word. Tables of libraries that few runs need lie in it
 * packed, and are unpacked into their place when they are first asked for (packaging/static.sh). */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include <zstd.h>

#include "base/bytes.h"
#include "base/nearest.h"
#include "family/family.h"
#include "token/split.h"
#include "ui/page.h"
#include "values/kernels/init.h"

#include "packed.h"

/* What stands in the place of functions that no tool calls: old forms of zstd, all of which are refused by this error of a prefix, and the
 * compiler of PCRE2. */
size_t apr_absent(void);
size_t apr_absent(void) { return (size_t)-10; }

/* ---- tables --------------------------------------------------------------------------------------------------------- */

/* Unpacks a table into its place, which the linker has left empty. */
static void unpack(unsigned char *to, size_t room, const unsigned char *packed, size_t n)
{
    if (ZSTD_decompress(to, room, packed, n) != room)
        abort();
}

#define TABLE(name)                                                                                                                \
    extern unsigned char apr_packed_##name[];                                                                                      \
    static void unpack_##name(void) { unpack(apr_packed_##name, sizeof_##name, packed_##name, sizeof packed_##name); }             \
    static void need_##name(void)                                                                                                  \
    {                                                                                                                              \
        static pthread_once_t once = PTHREAD_ONCE_INIT;                                                                            \
        pthread_once(&once, unpack_##name);                                                                                        \
    }
TABLE(families)
TABLE(expressions)
TABLE(style)
TABLE(script)
TABLE(grids)
TABLE(unicode)
TABLE(properties)

/* A function that is called by way of here: its table first. static.sh sees to it that no other one leads to a table. */
#define BY_WAY(table, type, name, parameters, arguments)                                                                           \
    type __real_##name parameters;                                                                                                 \
    type __wrap_##name parameters;                                                                                                 \
    type __wrap_##name parameters                                                                                                  \
    {                                                                                                                              \
        need_##table();                                                                                                            \
        return __real_##name arguments;                                                                                            \
    }
BY_WAY(families, enum apr_code, apr_families_new, (struct apr_families **all, struct apr_error *e), (all, e))
BY_WAY(expressions, const struct apr_pre *, apr_pre_named, (struct apr_bytes name), (name))
BY_WAY(style, enum apr_code, apr_page_begin, (struct apr_page *p, const char *path, const char *title, struct apr_error *e),
       (p, path, title, e))
BY_WAY(script, enum apr_code, apr_page_end, (struct apr_page *p, const char *script, struct apr_error *e), (p, script, e))
BY_WAY(grids, void, apr_iq_init, (struct apr_kernels *k, enum apr_isa isa), (k, isa))
BY_WAY(unicode, utf8proc_category_t, utf8proc_category, (utf8proc_int32_t c), (c))
BY_WAY(unicode, const utf8proc_property_t *, utf8proc_get_property, (utf8proc_int32_t c), (c))
BY_WAY(unicode, utf8proc_int32_t, utf8proc_tolower, (utf8proc_int32_t c), (c))
BY_WAY(unicode, utf8proc_bool, utf8proc_grapheme_break_stateful,
       (utf8proc_int32_t a, utf8proc_int32_t b, utf8proc_int32_t *state), (a, b, state))
BY_WAY(unicode, utf8proc_ssize_t, utf8proc_normalize_utf32, (utf8proc_int32_t *at, utf8proc_ssize_t n, utf8proc_option_t how), (at, n, how))
BY_WAY(unicode, utf8proc_ssize_t, utf8proc_decompose_char,
       (utf8proc_int32_t c, utf8proc_int32_t *to, utf8proc_ssize_t room, utf8proc_option_t how, int *last), (c, to, room, how, last))
BY_WAY(properties, pcre2_code *, pcre2_compile_8,
       (PCRE2_SPTR text, PCRE2_SIZE n, uint32_t how, int *fault, PCRE2_SIZE *at, pcre2_compile_context *x), (text, n, how, fault, at, x))

/* ---- tools ---------------------------------------------------------------------------------------------------------- */

#define TOOL(name, brief) int apr_##name##_main(int argc, char **argv);
APR_TOOLS
#undef TOOL

static const struct tool {
    const char *name, *brief;
    int       (*main)(int argc, char **argv);
} tools[] = {
#define TOOL(name, brief) { #name, brief, apr_##name##_main },
    APR_TOOLS
#undef TOOL
};

/* "diff", "apr-diff" and what ends with "/apr-diff"; NULL: none. */
static const struct tool *tool_called(const char *word)
{
    const char *const slash = strrchr(word, '/'), *name = slash == NULL ? word : slash + 1;
    name += strncmp(name, "apr-", 4) == 0 ? 4 : 0;
    for (size_t i = 0; i < APR_LENGTH(tools); i++)
        if (strcmp(tools[i].name, name) == 0)
            return &tools[i];
    return NULL;
}

static int list_tools(void)
{
    printf("usage: apr TOOL [ARGUMENT]...\n\nTools:\n");
    for (size_t i = 0; i < APR_LENGTH(tools); i++)
        printf("  %-10s%s\n", tools[i].name, tools[i].brief);
    printf("\napr TOOL --help says what one does; a link or copy of this program called apr-TOOL is that tool.\n");
    return fflush(stdout) == 0 ? 0 : 2;
}

static int no_tool(const char *word)
{
    struct apr_nearest near = apr_nearest_to(apr_text(word));
    for (size_t i = 0; i < APR_LENGTH(tools); i++)
        apr_nearest_try(&near, apr_text(tools[i].name));
    fprintf(stderr, "apr: there is no tool %s", APR_QUOTED(apr_text(word)));
    if (near.best.n > 0)
        fprintf(stderr, " (did you mean %.*s?)", APR_PRINTED(near.best));
    fprintf(stderr, "; apr alone lists them\n");
    return 2;
}

int main(int argc, char **argv)
{
    const struct tool *const own = argc > 0 ? tool_called(argv[0]) : NULL;
    if (own != NULL)
        return own->main(argc, argv);
    const struct tool *const asked = argc > 1 ? tool_called(argv[1]) : NULL;
    if (asked != NULL)
        return asked->main(argc - 1, argv + 1);
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return list_tools();
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
        return printf("apr %s\n", APR_VERSION) > 0 && fflush(stdout) == 0 ? 0 : 2;
    return no_tool(argv[1]);
}
