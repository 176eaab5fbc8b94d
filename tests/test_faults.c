/* Every system call of a run fails once, and every allocation that another does not stand for. */
#include "support.h"

#include <fnmatch.h>
#include <glob.h>
#include <jansson.h>
#include <link.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct scene {
    const char *tool, *what, *threads, *report, *option, *a, *b;
    bool        stdin_is_b;
    const char *more[3]; /* options behind b */
};

#define WIDE  "fixtures/wide.gguf"
#define SPLIT "fixtures/split/qwen2-00001-of-00003.gguf"

/* Of apr-convert, apr-prune and apr-merge: b is what it writes. Files without notes: one that finds no memory is lost (model/model.h). */
static char gguf[256], packed[256], folder[256], adapter[256], spoken[256], carried[256];

static char page_option[256] = "--html=", tolerances_option[256] = "--tolerances=", manifest_option[256] = "--manifest=";
static char trace_option[256] = "--save-tensor-dir=", reference_option[256] = "--compare=", map_option[256] = "--stage-map=";
static char share_file[2][256]; /* of a check of fixtures/qwen2-q4_0.gguf */
static char union_file[256]; /* a configuration that asks for a union of vocabularies */
static char rules_option[256] = "--recipe=", recipe_option[256] = "--write-recipe=";

static const struct scene scenes[] = {
    { "apr-diff", "a compressed APR against shards", "1", "--json", "--top=2", "fixtures/qwen2", "fixtures/qwen2-zstd.apr", false },
    { "apr-diff", "a split GGUF against a whole one", "1", "--json", "--metadata", SPLIT, "fixtures/qwen2-q4_0.gguf", false },
    { "apr-diff", "structure alone", "1", "--json", "--structure", "fixtures/qwen2", "fixtures/qwen2-bf16.gguf", false },
    { "apr-diff", "a filter", "1", "--json", "--filter=re:attn|norm", "fixtures/qwen2.apr", "fixtures/qwen2-q8_0.gguf", false },
    { "apr-diff", "rows, on two threads", "2", "--json", "--rows=2", "fixtures/qwen2.apr", "fixtures/qwen2-q8_0.gguf", false },
    { "apr-diff", "a sorted table", "1", "--color=never", "--sort=cosine", "fixtures/qwen2.apr", "fixtures/qwen2-q8_0.gguf", false },
    { "apr-diff", "standard input", "1", "--json", "--quiet", "fixtures/qwen2/model-00003-of-00003.safetensors", "-", true },
    { "apr-diff", "two traces on two threads", "2", "--json", "--quiet", "fixtures/trace", "fixtures/trace-drift", false },
    { "apr-diff", "arrays against a trace", "1", "--json", "--top=2", "fixtures/trace-npy", "fixtures/trace-drift", false },
    { "apr-diff", "another program's activations", "1", "--json", map_option, "fixtures/qwen2.activations.safetensors",
      "fixtures/qwen2.activations.safetensors", false },
    { "apr-diff", "a page", "1", "--json", page_option, "fixtures/qwen2", "fixtures/qwen2-q4_0.gguf", false },
    { "apr-diff", "tolerances", "1", "--json", tolerances_option, "fixtures/qwen2", "fixtures/qwen2-q4_0.gguf", false },
    { "apr-inspect", "an overview", "1", "--color=never", "--quiet", "fixtures/qwen2-zstd.apr", NULL, false },
    { "apr-inspect", "statistics on two threads", "2", "--json", "--stats", "fixtures/qwen2-q4_0.gguf", NULL, false },
    { "apr-inspect", "hashes", "1", "--json", "--hash", "fixtures/qwen2", NULL, false },
    { "apr-inspect", "a check", "1", "--json", "--check", "fixtures/qwen2-bf16.gguf", NULL, false },
    { "apr-inspect", "a check of a checkpoint", "2", "--color=never", "--check", "fixtures/qwen2", NULL, false },
    { "apr-inspect", "a share of a check", "2", "--partition=1/2", "--check", "fixtures/qwen2-bf16.gguf", NULL, false },
    { "apr-inspect", "shares put together", "1", "--color=never", "--merge", share_file[0], share_file[1], false },
    { "apr-inspect", "a manifest", "1", "--color=never", manifest_option, SPLIT, NULL, false },
    { "apr-inspect", "text for git", "1", "--color=never", "--textconv", "fixtures/qwen2.apr", NULL, false },
    { "apr-convert", "a checkpoint becomes a GGUF, on two threads", "2", "--json", "--type=q8_0", "fixtures/qwen2", gguf, false },
    { "apr-convert", "a GGUF becomes a compressed APR", "1", "--json", "--compress=zstd", "fixtures/qwen2-bf16.gguf", packed, false },
    { "apr-convert", "an APR becomes a checkpoint", "1", "--color=never", "--shards=2", "fixtures/qwen2-zstd.apr", folder, false },
    { "apr-convert", "a tokenizer goes into a GGUF", "1", "--json", "--resume", spoken, gguf, false },
    { "apr-convert", "a tokenizer comes out of an APR", "1", "--json", "--no-verify", carried, folder, false },
    { "apr-convert", "a plan", "1", "--color=never", "--dry-run", "fixtures/split/qwen2-00002-of-00003.gguf", packed, false },
    { "apr-convert", "a mix with importance and rules, on two threads", "2", "--json", "--quantize=Q4_K_M", WIDE, gguf, false,
      { "--imatrix=fixtures/wide.imatrix.gguf", rules_option, "--tensor-type=attn_k=iq2_s" } },
    { "apr-convert", "types for a target, of a checkpoint", "1", "--json", "--target-bpw=9", "fixtures/qwen2", gguf, false,
      { "--imatrix=fixtures/qwen2.imatrix.dat", recipe_option } },
    { "apr-trace", "stages are saved, and tokens follow", "1", "--json", "--tokens=1,2", "fixtures/qwen2", "--save-tensor=attn_norm,lm_head", false,
      { trace_option, "--greedy=2" } },
    { "apr-trace", "a trace is compared, on two threads", "2", "--color=never", "--tokens=1,2", "fixtures/qwen2-q8_0.gguf", "--stop-at-nan", false,
      { reference_option } },
    { "apr-trace", "weights are saved, on two threads", "2", "--json", "--save-weights=*", "fixtures/qwen2-q4_0.gguf", trace_option, false },
    { "apr-prune", "by importance, on two threads", "2", "--json", "--pattern=2:4", "fixtures/qwen2-bf16.gguf", gguf, false,
      { "--method=wanda", "--imatrix=fixtures/judged.imatrix.gguf" } },
    { "apr-prune", "by rank in the whole model", "1", "--json", "--sparsity=0.5", "fixtures/qwen2", folder, false, { "--scope=model" } },
    { "apr-prune", "layers by influence", "1", "--json", "--drop-count=2", "fixtures/deep", folder, false,
      { "--tokens-file=fixtures/deep/tokens.txt" } },
    { "apr-merge", "a union of vocabularies", "1", "--json", "--quiet", union_file, gguf, false },
    { "apr-merge", "an adapter is extracted, on two threads", "2", "--json", "fixtures/qwen2", "fixtures/qwen2-q8_0.gguf", adapter, false,
      { "--extract-lora", "--rank=2" } },
    { "apr-convert", "types for a size", "1", "--json", "--target-size=120k", WIDE, gguf, false, { "--resume" } },
};

/* Under a sanitizer its runtime must come before the shim, and then answers all allocations itself: only system calls fail
 * there. A runtime that is linked into the tool leaves nothing to preload before; then nothing fails. */
static char preload[2048];
static bool sanitized;

static int note_runtime(struct dl_phdr_info *info, size_t size, void *path)
{
    (void)size;
    if (strstr(info->dlpi_name, "libasan.so") != NULL || strstr(info->dlpi_name, "libtsan.so") != NULL)
        *(const char **)path = info->dlpi_name;
    return 0;
}

static int find_shim(void **state)
{
    (void)state;
    const char *runtime = "";
    sanitized = strcmp(APR_BUILD, "build/release") != 0;
    dl_iterate_phdr(note_runtime, &runtime);
    if (sanitized && runtime[0] == 0)
        return 0;
    char here[1024];
    if (getcwd(here, sizeof here) == NULL)
        return -1;
    snprintf(preload, sizeof preload, "%s%s%s/%s/faults_shim.so", runtime, runtime[0] != 0 ? ":" : "", here, APR_BUILD);
    return 0;
}

static bool converts(const struct scene *s)
{
    return strcmp(s->tool, "apr-convert") == 0 || strcmp(s->tool, "apr-prune") == 0 || strcmp(s->tool, "apr-merge") == 0;
}

/* What apr-convert, apr-merge, apr-prune or apr-trace wrote, whole, half or hidden. */
static void clear_target(void)
{
    static const char *const pattern[] = { "m/layer-?/*", "m/*", "m/.apr*", "m*", ".apr*" };
    for (size_t i = 0; i < APR_LENGTH(pattern); i++) {
        char path[300];
        glob_t all;
        snprintf(path, sizeof path, "%s/made/%s", test_folder(), pattern[i]);
        if (glob(path, 0, NULL, &all) == 0)
            for (size_t k = 0; k < all.gl_pathc; k++)
                remove(all.gl_pathv[k]);
        globfree(&all);
    }
}

static struct test_answer run(const struct scene *s)
{
    struct test_bytes in = { 0 };
    clear_target();
    if (s->stdin_is_b)
        in = test_load(s->a);
    const struct test_answer a = test_tool_in(&in, s->tool, s->report, s->option, "--threads", s->threads, s->a, s->b, s->more[0], s->more[1],
                                               s->more[2], NULL);
    test_free(&in);
    return a;
}

/* Runs with call number n failing; *fired tells whether there was one. */
static struct test_answer run_failing(const struct scene *s, const char *kind, unsigned n, bool *fired)
{
    char number[16];
    const char *const mark = test_path("fired");
    unlink(mark);
    snprintf(number, sizeof number, "%u", n);
    setenv("APR_FAULT", kind, 1);
    setenv("APR_FAULT_AT", number, 1);
    setenv("APR_FAULT_MARK", mark, 1);
    setenv("LD_PRELOAD", preload, 1);
    const struct test_answer a = run(s);
    unsetenv("LD_PRELOAD");
    *fired = access(mark, F_OK) == 0;
    return a;
}

/* A crash leaves run_failing half done. */
static int preload_nothing(void **state)
{
    (void)state;
    if (getenv("LD_PRELOAD") != NULL)
        print_error("that was with %s call %s failing\n", getenv("APR_FAULT"), getenv("APR_FAULT_AT"));
    return unsetenv("LD_PRELOAD");
}

/* Behind what the sound run says there, if it got so far. */
static bool one_line(const struct scene *s, const struct test_bytes *err, const struct test_bytes *sound)
{
    const size_t before = err->n > sound->n && sound->n > 0 && memcmp(err->at, sound->at, sound->n) == 0 ? sound->n : 0, n = strlen(s->tool);
    const char *const text = (const char *)err->at + before;
    return err->n > before && strchr(text, '\n') == text + err->n - before - 1 && strncmp(text, s->tool, n) == 0 && text[n] == ':';
}

static void expect_honest(const struct scene *s, const char *kind, unsigned n, const struct test_answer *sound,
                          const struct test_answer *got)
{
    if (got->exit == sound->exit && got->out.n == sound->out.n && memcmp(got->out.at, sound->out.at, got->out.n) == 0)
        return;
    if (got->exit != 2)
        fail_msg("%s, %s call %u fails: exit %d and another answer", s->what, kind, n, got->exit);
    if (!one_line(s, &got->err, &sound->err))
        fail_msg("%s, %s call %u fails: not one line on stderr: \"%s\"", s->what, kind, n, (const char *)got->err.at);
    if (strcmp(s->report, "--json") != 0 || got->out.n == 0)
        return;
    json_t *const json = json_loadb((const char *)got->out.at, got->out.n, 0, NULL);
    if (json == NULL)
        fail_msg("%s, %s call %u fails: the JSON is not closed: %s", s->what, kind, n, (const char *)got->out.at);
    json_decref(json);
}

static void expect_nothing_left(const struct scene *s, const char *kind, unsigned n)
{
    glob_t left;
    if (glob(test_path(".apr-*"), 0, NULL, &left) != GLOB_NOMATCH || glob(test_path("made/.apr-*"), 0, NULL, &left) != GLOB_NOMATCH)
        fail_msg("%s, %s call %u fails: %s is left", s->what, kind, n, left.gl_pathv[0]);
    globfree(&left);
}

/* What a conversion wrote, in one file; nothing for another run. */
static struct test_bytes target_of(const struct scene *s)
{
    char path[300];
    snprintf(path, sizeof path, "%s%s", s->b == NULL ? "" : s->b, s->b == folder ? "config.json"
             : s->b == adapter ? "adapter_model.safetensors" : "");
    return converts(s) && access(path, F_OK) == 0 ? test_load(path) : (struct test_bytes){ 0 };
}

/* A target is there, whole, when the run says so; else it is not there, but where only the last words could not be said. */
static void expect_all_or_nothing(const struct scene *s, const char *kind, unsigned n, const struct test_answer *got,
                                  const struct test_bytes *want)
{
    struct test_bytes has = target_of(s);
    if ((has.n > 0 || got->exit == 0) && (has.n != want->n || (has.n > 0 && memcmp(has.at, want->at, has.n) != 0)))
        fail_msg("%s, %s call %u fails: exit %d, and %s has %zu bytes, not %zu, or others", s->what, kind, n, got->exit, s->b, has.n,
                 want->n);
    test_free(&has);
}

/* The numbers of the calls that are to fail, 0 behind the last; NULL: all, until none is left. Most allocations of a run are for the families and alike: those fail
 * that come from a place for the first or the second time, wherever in the run that is; SLOW=1 makes it all. */
static unsigned *choose_calls(const struct scene *s, const char *kind)
{
    bool made_mark;
    if (strcmp(kind, "memory") != 0 || getenv("SLOW") != NULL)
        return NULL;
    setenv("APR_FAULT_PLACES", test_path("places"), 1);
    struct test_answer a = run_failing(s, kind, 0, &made_mark);
    unsetenv("APR_FAULT_PLACES");
    test_answer_free(&a);
    struct test_bytes lines = test_load(test_path("places"));
    unsigned *const calls = calloc(lines.n + 1, sizeof *calls);
    assert_true(made_mark && lines.n > 0 && calls != NULL);
    test_put(&lines, "", 1);
    size_t n = 0;
    for (char *at = (char *)lines.at; *at != 0; at++)
        calls[n++] = (unsigned)strtoul(at, &at, 10);
    test_free(&lines);
    return calls;
}

static void one_call_fails(const struct scene *s, const char *kind, unsigned n, const struct test_answer *sound,
                           const struct test_bytes *target, bool *fired)
{
    struct test_answer got = run_failing(s, kind, n, fired);
    expect_honest(s, kind, n, sound, &got);
    expect_nothing_left(s, kind, n);
    expect_all_or_nothing(s, kind, n, &got, target);
    test_answer_free(&got);
}

static void every_call_fails_once(const char *kind)
{
    for (size_t i = 0; i < APR_LENGTH(scenes); i++) {
        const struct scene *const s = &scenes[i];
        struct test_answer sound = run(s);
        if (sound.exit > 1)
            fail_msg("%s: %s", s->what, (const char *)sound.err.at);
        struct test_bytes target = target_of(s);
        unsigned *const chosen = choose_calls(s, kind);
        bool fired = true;
        for (size_t n = 0; chosen == NULL ? fired : chosen[n] > 0; n++)
            one_call_fails(s, kind, chosen == NULL ? (unsigned)n + 1 : chosen[n], &sound, &target, &fired);
        free(chosen);
        test_free(&target);
        test_answer_free(&sound);
    }
}

static void without_memory_the_answer_is_an_error(void **state)
{
    (void)state;
    if (sanitized)
        skip();
    every_call_fails_once("memory");
}

static void without_files_or_threads_the_answer_is_an_error(void **state)
{
    (void)state;
    if (preload[0] == 0)
        skip();
    every_call_fails_once("system");
}

/* Threads that cannot be started, all or all but some, are done without. */
static void fewer_threads_give_the_same_answer(void **state)
{
    (void)state;
    if (preload[0] == 0)
        skip();
    for (size_t i = 0; i < APR_LENGTH(scenes); i++) {
        struct scene s = scenes[i];
        s.threads = "8";
        struct test_answer sound = run(&s);
        bool fired = true;
        for (unsigned n = 1; fired && n < 8; n++) {
            struct test_answer got = run_failing(&s, "threads", n, &fired);
            if (got.exit != sound.exit || got.out.n != sound.out.n || memcmp(got.out.at, sound.out.at, got.out.n) != 0)
                fail_msg("%s without thread %u and on: exit %d and another answer", s.what, n, got.exit);
            test_answer_free(&got);
        }
        test_answer_free(&sound);
    }
}

/* A file of one F32 tensor of that many rows of 4,096, nothing but a hole. */
static const char *hole(const char *name, unsigned rows)
{
    struct test_bytes b = { 0 };
    char json[128];
    const uint64_t n = (uint64_t)rows * 16384;
    snprintf(json, sizeof json, "{\"w\":{\"dtype\":\"F32\",\"shape\":[%5u,4096],\"data_offsets\":[0,%9llu]}}", rows, (unsigned long long)n);
    test_integer(&b, strlen(json), 8);
    test_text(&b, json);
    const char *const path = test_file(name, b.at, b.n);
    assert_int_equal(truncate(path, (off_t)(b.n + n)), 0);
    test_free(&b);
    return path;
}

/* Sixteen times the work costs not one allocation more. */
static void the_work_allocates_nothing(void **state)
{
    (void)state;
    if (sanitized)
        skip();
    const char *const few[] = { hole("few.safetensors", 1024), hole("few-too.safetensors", 1024) };
    const char *const many[] = { hole("many.safetensors", 16384), hole("many-too.safetensors", 16384) };
    static const char *const option[][2] = { { "apr-diff", "--rows=2" }, { "apr-inspect", "--stats" }, { "apr-inspect", "--hash" },
                                             { "apr-inspect", "--check" } };
    for (size_t i = 0; i < APR_LENGTH(option); i++)
        for (unsigned threads = 1; threads <= 2; threads++) {
            off_t calls[2];
            for (unsigned k = 0; k < 2; k++) {
                const char *const *const file = k == 0 ? few : many;
                const struct scene s = { option[i][0], "", threads == 1 ? "1" : "2", "--json", option[i][1], file[0],
                                         i == 0 ? file[1] : NULL, false };
                bool made;
                struct test_answer a = run_failing(&s, "memory", 0, &made);
                struct stat st;
                assert_true(made && a.exit <= 1 && stat(test_path("fired"), &st) == 0);
                calls[k] = st.st_size;
                test_answer_free(&a);
            }
            if (calls[0] != calls[1])
                fail_msg("%s %s on %u threads: %lld allocations, %lld for 16 times the work", option[i][0], option[i][1], threads,
                         (long long)calls[0], (long long)calls[1]);
        }
}

/* What a shell says of a line in which apr-diff's stdout goes somewhere else. */
static void expect_shell(const char *line, const char *want)
{
    char text[1024] = "";
    FILE *const f = popen(line, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    pclose(f);
    if (fnmatch(want, text, 0) != 0)
        fail_msg("%s\nsays \"%s\", not \"%s\"", line, text, want);
}

#define DIFF APR_BUILD "/apr-diff --json fixtures/qwen2 fixtures/qwen2.apr"

static void a_full_disk_is_an_error_and_a_closed_pipe_is_silent(void **state)
{
    (void)state;
    expect_shell("exec 2>&1; " DIFF " >/dev/full; echo $?", "apr-diff: *\n2\n");
    expect_shell("exec 2>&1; { sleep 0.1; " DIFF "; } | :", "");
}

/* Options that name a file of this run. */
static int make_options(void **state)
{
    static const char rules[] = "- {match: attn_q, cosine: 0.9, ignore: true}\n- {match: '*norm.weight', max_abs: 1}\n"
                                "- {match: 're:^(lm|output).*[[:alpha:]]$', rmse: 1}\n";
    static const char stages[] = "{prefix: model., ignore: '*:in', stages: [{stage: ffn_out, from: 'layers.{L}.mlp'}, {stage: qkv_matmul, "
                                 "from: ['layers.{L}.self_attn.q_proj', 'layers.{L}.self_attn.k_proj']}]}";
    static const char types[] = "- {match: 're:ffn_(up|gate)', type: q5_k}\n- {match: blk.1.ffn_down, type: copy}\n";
    for (unsigned i = 0; i < 2; i++) {
        glob_t files;
        assert_int_equal(glob(i == 0 ? "fixtures/qwen2/*" : "fixtures/vocabulary/wordpiece/*", 0, NULL, &files), 0);
        for (size_t k = 0; k < files.gl_pathc; k++) {
            char name[256];
            struct test_bytes b = test_load(files.gl_pathv[k]);
            snprintf(name, sizeof name, "spoken%s", strrchr(files.gl_pathv[k], '/'));
            test_file(name, b.at, b.n);
            test_free(&b);
        }
        globfree(&files);
    }
    test_file("made/x", "", 0);
    strcat(gguf, test_path("made/m.gguf"));
    strcat(packed, test_path("made/m.apr"));
    strcat(folder, test_path("made/m/"));
    strcat(adapter, test_path("made/m/"));
    strcat(spoken, test_path("spoken"));
    strcat(carried, test_path("carried.apr"));
    struct test_answer a = test_tool("apr-convert", "--quiet", spoken, carried, NULL);
    assert_int_equal(a.exit, 0);
    test_answer_free(&a);
    strcat(page_option, test_path("page.html"));
    strcat(manifest_option, test_path("manifest"));
    strcat(tolerances_option, test_file("rules.yaml", rules, sizeof rules - 1));
    strcat(map_option, test_file("map.yaml", stages, sizeof stages - 1));
    for (unsigned k = 0; k < 2; k++) {
        const char *const partition[] = { "--partition=1/2", "--partition=2/2" }, *const name[] = { "share-1.json", "share-2.json" };
        struct test_answer share = test_tool("apr-inspect", partition[k], "--check", "--hash", "fixtures/qwen2-q4_0.gguf", NULL);
        strcat(share_file[k], test_file(name[k], share.out.at, share.out.n));
        test_answer_free(&share);
    }
    char here[1024], text[4096];
    assert_non_null(getcwd(here, sizeof here));
    snprintf(text, sizeof text, "merge_method: linear\ntokenizer_source: union\nparameters: {weight: 1}\nmodels:\n- model: %s/fixtures/union/a\n"
             "- model: %s/fixtures/union/b.gguf\n", here, here);
    strcat(union_file, test_file("union.yml", text, strlen(text)));
    strcat(rules_option, test_file("types.yaml", types, sizeof types - 1));
    strcat(recipe_option, test_path("made/m.yaml"));
    strcat(trace_option, test_path("made/m"));
    strcat(reference_option, test_path("reference"));
    char reference[300];
    snprintf(reference, sizeof reference, "--save-tensor-dir=%s", test_path("reference"));
    a = test_tool("apr-trace", "--quiet", "fixtures/qwen2", "--tokens=1,2", "--save-tensor=attn_norm,ffn_out", reference, NULL);
    assert_int_equal(a.exit, 0);
    test_answer_free(&a);
    return find_shim(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(without_memory_the_answer_is_an_error, preload_nothing),
        cmocka_unit_test_teardown(without_files_or_threads_the_answer_is_an_error, preload_nothing),
        cmocka_unit_test_teardown(fewer_threads_give_the_same_answer, preload_nothing),
        cmocka_unit_test_teardown(the_work_allocates_nothing, preload_nothing),
        cmocka_unit_test(a_full_disk_is_an_error_and_a_closed_pipe_is_silent),
    };
    return cmocka_run_group_tests(tests, make_options, NULL);
}
