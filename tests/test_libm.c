/* The same bits on any CPU: no object of lib/, formats/ or tools/ asks for a function of libm that rounds. base/fmath.h has them. */
#include "support.h"

#include <dlfcn.h>
#include <glob.h>
#include <gnu/lib-names.h>
#include <stdio.h>

/* What has one right answer, which every libm gives: IEEE 754 wants it of the square root, fma and remainder; the rest moves bits. As
 * double, f stands for float and l for long double behind it. */
static const char *const exact[] = {
    "sqrt", "fma", "fabs", "floor", "ceil", "trunc", "rint", "nearbyint", "round", "roundeven", "lrint", "llrint", "lround", "llround",
    "fmin", "fmax", "fdim", "copysign", "nextafter", "frexp", "ldexp", "scalbn", "scalbln", "logb", "ilogb", "modf", "fmod", "remainder",
    "remquo", "nan", "finite", "isnan", "isinf", "__finite", "__isnan", "__isinf", "__signbit", "__fpclassify", "__issignaling",
};

static bool is_exact(const char *name)
{
    for (size_t i = 0; i < APR_LENGTH(exact); i++) {
        const size_t n = strlen(exact[i]);
        if (strncmp(name, exact[i], n) == 0 && (name[n] == 0 || ((name[n] == 'f' || name[n] == 'l') && name[n + 1] == 0)))
            return true;
    }
    return false;
}

/* True when the symbol is libm's own and not among the exact. */
static bool rounds(const char *name)
{
    static void *libm;
    if (libm == NULL)
        libm = dlopen(LIBM_SO, RTLD_NOW);
    if (libm == NULL)
        fail_msg("%s: %s", LIBM_SO, dlerror());
    void *const there = dlsym(libm, name); /* in what libm needs too, so ask whose it is */
    Dl_info owner;
    return there != NULL && dladdr(there, &owner) != 0 && strstr(owner.dli_fname, "/libm.so") != NULL && !is_exact(name);
}

/* The command `nm -A -u` over the object of every source there is; what lies in the build folder from older sources is not asked. */
static void put_command(struct test_bytes *command)
{
    static const char *const pattern[] = { "lib/*/*.c", "lib/*/*/*.c", "lib/*/*/*/*.c", "formats/*.c", "tools/*/*.c" };
    glob_t files;
    for (unsigned i = 0; i < APR_LENGTH(pattern); i++)
        assert_int_not_equal(glob(pattern[i], i > 0 ? GLOB_APPEND : 0, NULL, &files), GLOB_NOSPACE);
    assert_true(files.gl_pathc > 70);
    test_text(command, "nm -A -u");
    for (size_t i = 0; i < files.gl_pathc; i++) {
        char object[4096];
        snprintf(object, sizeof object, " %s/%.*so", APR_BUILD, (int)strlen(files.gl_pathv[i]) - 1, files.gl_pathv[i]);
        test_text(command, object);
    }
    globfree(&files);
}

static void nothing_calls_a_function_of_libm_that_rounds(void **state)
{
    (void)state;
    struct test_bytes command = { 0 };
    put_command(&command);
    FILE *const nm = popen((const char *)command.at, "r");
    char line[8192], object[4096], name[4096];
    unsigned symbols = 0, exacts = 0;
    assert_non_null(nm);
    while (fgets(line, sizeof line, nm) != NULL) {
        if (sscanf(line, "%4095[^:]: %*1[Uw] %4095s", object, name) != 2)
            fail_msg("nm says what is not understood: %s", line);
        if (rounds(name))
            fail_msg("%s needs %s, whose bits depend on the CPU: apr_%s is in base/fmath.h, or belongs there", object, name, name);
        symbols++;
        exacts += is_exact(name);
    }
    assert_int_equal(pclose(nm), 0); /* else nm said which object is not built */
    assert_true(symbols > 1000 && exacts > 0);
    test_free(&command);
}

static void functions_that_round_are_known(void **state)
{
    (void)state;
    static const char *const rounding[] = { "log10", "log10f", "expl", "pow", "sin", "sincos", "tanhf", "erfc", "cbrt", "hypot", "exp10",
                                            "lgamma_r", "cexp" },
                      *const others[] = { "sqrt", "sqrtf", "floorl", "ldexp", "fmod", "memcpy", "strtod", "apr_log10", "logarithm" };
    for (size_t i = 0; i < APR_LENGTH(rounding); i++)
        if (!rounds(rounding[i]))
            fail_msg("%s rounds", rounding[i]);
    for (size_t i = 0; i < APR_LENGTH(others); i++)
        if (rounds(others[i]))
            fail_msg("%s is no function of libm that rounds", others[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_calls_a_function_of_libm_that_rounds),
        cmocka_unit_test(functions_that_round_are_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
