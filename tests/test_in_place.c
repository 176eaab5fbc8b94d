/* Headers changed in place. This program is also the tool of its own walks: with arguments it does one edit and ends. */
#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <link.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../tools/apr-convert/in_place.h"
#include "base/bytes.h"
#include "files/source.h"
#include "model/meta.h"
#include "model/model.h"
#include "model/open.h"

static bool can_insert; /* does the file system of the tests' folder */

static const char *const kinds[][2] = {
    { "gguf", "fixtures/qwen2-q8_0.gguf" }, { "apr", "fixtures/qwen2.apr" },
    { "safetensors", "fixtures/qwen2/model-00001-of-00003.safetensors" },
    { "vocabulary", "fixtures/vocabulary/spm.gguf" }, { "shard", "fixtures/split/qwen2-00001-of-00003.gguf" },
};

/* ---- one edit --------------------------------------------------------------------------------------------------------- */

static enum apr_code edit_with(const char *path, const char *option, const char *word, struct in_place *out, struct apr_error *e)
{
    const struct apr_texts one = { &word, 1 };
    struct apr_edits x = { 0 };
    *(strcmp(option, "--set") == 0 ? &x.set : strcmp(option, "--unset") == 0 ? &x.unset : &x.rename) = one;
    if (strcmp(option, "--chat-template") == 0)
        x = (struct apr_edits){ .chat_template = word };
    *e = (struct apr_error){ .at = APR_NOWHERE };
    return edit_in_place(path, &x, test_run_with(1), out, e);
}

static struct in_place edited(const char *path, const char *option, const char *word)
{
    struct in_place out;
    struct apr_error e;
    if (edit_with(path, option, word, &out, &e) != APR_OK)
        fail_msg("%s %.60s: %s: %s", option, word, e.file, e.text);
    return out;
}

static void refused(const char *path, const char *option, const char *word, enum apr_code code, const char *says)
{
    struct test_bytes before = test_load(path), after;
    struct in_place out;
    struct apr_error e;
    const enum apr_code got = edit_with(path, option, word, &out, &e);
    after = test_load(path);
    if (got != code || strstr(e.text, says) == NULL)
        fail_msg("%s %.60s: code %d, \"%s\"; expected code %d and \"%s\"", option, word, got, got == APR_OK ? "" : e.text, code, says);
    assert_int_equal(after.n, before.n);
    assert_memory_equal(after.at, before.at, before.n);
    test_free(&before);
    test_free(&after);
}

/* A copy in a folder of its own. */
static const char *copy_of(const char *folder, const char *path)
{
    char name[256];
    struct test_bytes b = test_load(path);
    const char *const slash = strrchr(path, '/');
    snprintf(name, sizeof name, "%s/%s", folder, slash == NULL ? path : slash + 1);
    const char *const copy = test_file(name, b.at, b.n);
    test_free(&b);
    return copy;
}

static void alone_in_its_folder(const char *path)
{
    char folder[512];
    unsigned n = 0;
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    DIR *const d = opendir(folder);
    for (const struct dirent *entry; (entry = readdir(d)) != NULL;)
        n += entry->d_name[0] != '.' || strlen(entry->d_name) > 2;
    closedir(d);
    assert_int_equal(n, 1);
}

static struct apr_model *opened(const char *path)
{
    struct apr_model *m;
    struct apr_error e = { .at = APR_NOWHERE };
    if (apr_open_alone(&m, path, test_run_with(1), &e) != APR_OK)
        fail_msg("%s: %s", e.file, e.text);
    return m;
}

/* Everything but `key` is as it was; key is `value`, or absent when that is NULL. but: a tensor that has another name, and that name. */
static void same_but(const char *was, const char *is, const char *key, const char *value, const char *const but[2])
{
    struct apr_model *a = opened(was), *b = opened(is);
    struct apr_error e = { .at = APR_NOWHERE };
    assert_int_equal(a->ntensor, b->ntensor);
    for (size_t i = 0; i < a->ntensor; i++) {
        const struct apr_tensor *t = &a->tensor[i];
        const bool other = but != NULL && apr_bytes_is(t->name, but[0]);
        const struct apr_tensor *u = apr_model_find(b, other ? apr_text(but[1]) : t->name);
        assert_non_null(u);
        assert_true(t->dtype == u->dtype && t->ndim == u->ndim && t->data.n == u->data.n);
        assert_memory_equal(t->dim, u->dim, sizeof t->dim);
        assert_memory_equal(t->data.at, u->data.at, t->data.n);
    }
    for (size_t i = 0; i < a->meta.n; i++) {
        const struct apr_value *v = apr_meta_at(&b->meta, a->meta.entry[i].key);
        const bool other = apr_bytes_is(a->meta.entry[i].key, key) || apr_bytes_is(a->meta.entry[i].key, "general.padding");
        assert_true(other || (v != NULL && apr_value_equal(v, &a->meta.entry[i].value)));
    }
    const struct apr_value *v = apr_meta_find(&b->meta, key);
    assert_true(value == NULL ? v == NULL : v != NULL && apr_bytes_is(v->text, value));
    assert_true(b->meta.n <= a->meta.n + 3);
    assert_true(b->nnote <= a->nnote);
    if (b->format->verify != NULL)
        assert_int_equal(b->format->verify(b, b->file[0], &e), APR_OK); /* the CRC over the whole file */
    apr_close(a);
    apr_close(b);
}

static char *long_word(const char *before, size_t n)
{
    char *const word = malloc(strlen(before) + n + 1);
    strcpy(word, before);
    memset(word + strlen(before), 'd', n);
    word[strlen(before) + n] = 0;
    return word;
}

/* ---- tests ------------------------------------------------------------------------------------------------------------ */

static void a_key_grows_and_shrinks_and_nothing_else_changes(void **state)
{
    (void)state;
    for (size_t k = 0; k < APR_LENGTH(kinds); k++) {
        const char *const path = copy_of(kinds[k][0], kinds[k][1]);
        struct stat before, after;
        assert_int_equal(stat(path, &before), 0);
        static const size_t sizes[] = { 0, 1, 9000, 8999, 8967, 8965, 8960, 9001, 40, 300000, 7, 4096, 100, 0 };
        for (size_t i = 0; i < APR_LENGTH(sizes); i++) {
            char *const word = long_word("note=str:", sizes[i]);
            struct in_place out;
            struct apr_error e;
            const enum apr_code code = edit_with(path, "--set", word, &out, &e);
            if (code == APR_EUNSUPPORTED && !can_insert)
                assert_non_null(strstr(e.text, "bytes are missing"));
            else if (code != APR_OK)
                fail_msg("%s, %zu bytes: %s", path, sizes[i], e.text);
            else
                same_but(kinds[k][1], path, "note", word + strlen("note=str:"), NULL);
            alone_in_its_folder(path);
            free(word);
        }
        if (can_insert)
            edited(path, "--unset", "note");
        same_but(kinds[k][1], path, "note", NULL, NULL);
        assert_int_equal(stat(path, &after), 0);
        assert_true(before.st_ino == after.st_ino);
        assert_true(can_insert == (after.st_size > before.st_size));
    }
}

/* Every length of a header from the shortest to more than one alignment above it: what is too little for a string of padding is a u8's. */
static void no_length_of_a_header_is_in_the_way(void **state)
{
    (void)state;
    if (!can_insert)
        skip();
    const char *const path = copy_of("lengths", kinds[0][1]);
    for (size_t n = 5000; n-- > 4900;) {
        char *const word = long_word("note=str:", n);
        const struct in_place out = edited(path, "--set", word);
        assert_true(n == 4999 || out.inserted == 0);
        same_but(kinds[0][1], path, "note", word + strlen("note=str:"), NULL);
        free(word);
    }
}

static void values_have_their_types(void **state)
{
    (void)state;
    static const struct {
        const char        *word;
        enum apr_meta_type type;
        double             number;
    } rows[] = {
        { "x=u8:255", APR_META_U8, 255 }, { "x=i8:-128", APR_META_I8, -128 }, { "x=u16:65535", APR_META_U16, 65535 },
        { "x=i16:-32768", APR_META_I16, -32768 }, { "x=u32:4294967295", APR_META_U32, 4294967295 },
        { "x=i32:-2147483648", APR_META_I32, -2147483648.0 },
        { "x=u64:18446744073709551615", APR_META_U64, 18446744073709551615.0 },
        { "x=i64:-9223372036854775808", APR_META_I64, -9223372036854775808.0 },
        { "x=f32:1.5", APR_META_F32, 1.5 }, { "x=f64:-1e300", APR_META_F64, -1e300 },
        { "x=bool:true", APR_META_BOOL, 1 }, { "x=bool:false", APR_META_BOOL, 0 },
    };
    const char *const gguf = copy_of("types", kinds[0][1]), *const apr = copy_of("types-apr", kinds[1][1]);
    if (!can_insert)
        skip();
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        double number;
        edited(gguf, "--set", rows[i].word);
        struct apr_model *m = opened(gguf);
        assert_int_equal(apr_meta_find(&m->meta, "x")->type, rows[i].type);
        assert_true(apr_meta_number(apr_meta_find(&m->meta, "x"), &number) && number == rows[i].number);
        apr_close(m);
        edited(apr, "--set", rows[i].word);
        m = opened(apr);
        assert_true(apr_meta_number(apr_meta_find(&m->meta, "x"), &number) && number == rows[i].number);
        apr_close(m);
    }
    edited(apr, "--set", "x=json:{\"a\":[1,2]}");
    struct apr_model *m = opened(apr);
    assert_int_equal(apr_meta_find(&m->meta, "x")->type, APR_META_OBJECT);
    apr_close(m);
}

static void edits_without_sense_are_named(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        { "x=u32:-1", "no u32, from 0 to 4294967295" }, { "x=u8:256", "no u8" },
        { "x=i8:128", "no i8, from -128 to 127" }, { "x=i8:-129", "no i8" },
        { "x=u64:18446744073709551616", "no u64" }, { "x=i64:9223372036854775808", "no i64" }, { "x=u8:+1", "no u8" },
        { "x=u8: 1", "no u8" },
        { "x=u8:", "no u8" }, { "x=bool:maybe", "true or false" }, { "x=f32:1.5y", "no f32" }, { "x=f32:1e39", "no f32" },
        { "x=f64:1e999", "no f64" },
        { "x=f32:nan", "no f32" }, { "x=f32:", "no f32" }, { "x", "expected KEY=TYPE:VALUE" },
        { "x=1", "expected KEY=TYPE:VALUE" }, { "=u8:1", "expected KEY" },
        { "x=u33:1", "is none of u8" }, { "x=arr:1", "is none of u8" }, { "x=json:{}", "json is for APR" }, { "x=str:\xff", "no str" },
        { "a\nb=u8:1", "cannot be a key" }, { "general.alignment=u32:64", "not changed in place" },
        { "split.count=u16:2", "not changed in place" }, { "general.padding=str:x", "nobody else's" },
    };
    const char *const gguf = copy_of("bad", kinds[0][1]), *const apr = copy_of("bad-apr", kinds[1][1]);
    const char *const st = copy_of("bad-st", kinds[2][1]);
    for (size_t i = 0; i < APR_LENGTH(bad); i++)
        refused(gguf, "--set", bad[i][0], APR_EARG, bad[i][1]);
    refused(gguf, "--unset", "general.architecturf", APR_EARG, "did you mean \"general.architecture\"");
    refused(gguf, "--rename", "no.such=b", APR_EARG, "there is no tensor");
    refused(gguf, "--rename", "token_embd.weight", APR_EARG, "expected A=B");
    refused(gguf, "--rename", "token_embd.weight=output_norm.weight", APR_EARG, "would be called \"output_norm.weight\"");
    refused(gguf, "--rename", "token_embd.weight=0123456789012345678901234567890123456789012345678901234567890123", APR_EARG,
            "less than 64");
    refused(apr, "--set", "x=json:{", APR_EARG, "no JSON");
    refused(apr, "--set", "x=json:", APR_EARG, "no JSON");
    refused(st, "--set", "x=u8:1", APR_EARG, "strings alone: x=str:1");
    refused(st, "--rename", "model.embed_tokens.weight=__metadata__", APR_EARG, "cannot be called");
    refused(st, "--chat-template", test_file("template", "{{ x }}", 7), APR_EARG, "tokenizer_config.json");
    refused(gguf, "--chat-template", test_file("template-bad", "\xff", 1), APR_EARG, "UTF-8");
}

static void what_cannot_be_changed_in_place_says_so(void **state)
{
    (void)state;
    refused(copy_of("zstd", "fixtures/qwen2-zstd.apr"), "--set", "x=u8:1", APR_EUNSUPPORTED, "compressed");
    refused(copy_of("big", "fixtures/qwen2-big-endian.gguf"), "--set", "x=u8:1", APR_EUNSUPPORTED, "big-endian");
    refused(copy_of("split", "fixtures/split/qwen2-00002-of-00003.gguf"), "--set", "x=u8:1", APR_EARG, "keys stand in the first");
    refused(test_file("trace/norm.bin", "APRT\0\0\0\0\1\0\0\0\0\0\0\0", 16), "--set", "x=u8:1", APR_EUNSUPPORTED, "not changed in place");
    const char *const shard = copy_of("indexed", kinds[2][1]);
    copy_of("indexed", "fixtures/qwen2/model.safetensors.index.json");
    struct apr_model *m = opened(shard);
    char option[256];
    snprintf(option, sizeof option, "%.*s=other", APR_PRINTED(m->tensor[0].name));
    apr_close(m);
    refused(shard, "--rename", option, APR_EARG, "index beside it");
}

static void a_tensor_gets_another_name_and_keeps_its_place(void **state)
{
    (void)state;
    static const char *const from[] = { "blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight" };
    for (size_t k = 0; k < 3; k++) {
        const char *const path = copy_of("names", kinds[k][1]);
        struct apr_model *m = opened(path);
        const struct apr_tensor *t = apr_model_find(m, apr_text(from[k > 0]));
        char name[64], option[128];
        snprintf(name, sizeof name, "%.*s", APR_PRINTED((t == NULL ? &m->tensor[0] : t)->name));
        apr_close(m);
        snprintf(option, sizeof option, "%s=zz", name);
        edited(path, "--rename", option);
        same_but(kinds[k][1], path, "", NULL, (const char *const[2]){ name, "zz" });
        snprintf(option, sizeof option, "zz=%s", name);
        edited(path, "--rename", option);
        same_but(kinds[k][1], path, "", NULL, NULL);
    }
}

static void two_tensors_change_names(void **state)
{
    (void)state;
    const char *const path = copy_of("swap", kinds[0][1]);
    const char *words[] = { "blk.0.attn_q.weight=blk.0.attn_output.weight", "blk.0.attn_output.weight=blk.0.attn_q.weight" };
    const struct apr_edits x = { .rename = { words, 2 } };
    struct in_place out;
    struct apr_error e;
    assert_int_equal(edit_in_place(path, &x, test_run_with(1), &out, &e), APR_OK);
    struct apr_model *a = opened(kinds[0][1]), *b = opened(path);
    const struct apr_tensor *t = apr_model_find(a, apr_text("blk.0.attn_q.weight"));
    const struct apr_tensor *u = apr_model_find(b, apr_text("blk.0.attn_output.weight"));
    assert_int_equal(t->data.n, u->data.n);
    assert_memory_equal(t->data.at, u->data.at, t->data.n);
    assert_true(apr_tensor_offset(a, t) == apr_tensor_offset(b, u));
    apr_close(a);
    apr_close(b);
}

static void a_chat_template_goes_where_readers_look(void **state)
{
    (void)state;
    static const char words[] = "{% for m in messages %}\n\xe2\x82\xac{% endfor %}";
    const char *const template = test_file("chat", words, sizeof words - 1);
    for (size_t k = 0; can_insert && k < 2; k++) {
        const char *const path = copy_of("chat-in", kinds[k][1]);
        edited(path, "--chat-template", template);
        struct apr_model *m = opened(path);
        assert_true(apr_bytes_is(apr_meta_string(&m->meta, "tokenizer.chat_template"), words));
        assert_true(k == 0 || apr_bytes_is(apr_meta_string(&m->meta, "chat_template"), words));
        apr_close(m);
    }
}

static void a_link_is_followed_and_stays(void **state)
{
    (void)state;
    struct stat st;
    const char *const path = copy_of("linked", kinds[0][1]), *const link = test_path("link.gguf");
    assert_int_equal(symlink(path, link), 0);
    edited(link, "--set", "general.name=str:x");
    assert_true(lstat(link, &st) == 0 && S_ISLNK(st.st_mode));
    same_but(kinds[0][1], path, "general.name", "x", NULL);
    alone_in_its_folder(path);
}

static void a_file_that_is_read_or_changed_by_others_is_refused(void **state)
{
    (void)state;
    const char *const path = copy_of("busy", kinds[0][1]);
    const int fd = open(path, O_RDONLY);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    refused(path, "--set", "general.name=str:x", APR_EIO, "by another process");
    close(fd);
    struct apr_model *m = opened(path);
    refused(path, "--set", "general.name=str:x", APR_EIO, "being read");
    apr_close(m);
    edited(path, "--set", "general.name=str:x");
}

static void without_room_the_missing_bytes_are_named(void **state)
{
    (void)state;
    struct statfs disk;
    char folder[] = "/dev/shm/apr-XXXXXX", path[64];
    if (statfs("/dev/shm", &disk) != 0 || disk.f_type != 0x01021994 || mkdtemp(folder) == NULL)
        skip();
    snprintf(path, sizeof path, "%s/m.gguf", folder);
    struct test_bytes b = test_load(kinds[0][1]);
    FILE *const f = fopen(path, "w");
    assert_int_equal(fwrite(b.at, 1, b.n, f), b.n);
    fclose(f);
    test_free(&b);
    char *const word = long_word("note=str:", 100000);
    refused(path, "--set", word, APR_EUNSUPPORTED, "bytes are missing");
    alone_in_its_folder(path);
    free(word);
    unlink(path);
    rmdir(folder);
}

/* ---- sudden ends ------------------------------------------------------------------------------------------------------ */

static char preload[2048], self[1024];

static int note_runtime(struct dl_phdr_info *info, size_t size, void *path)
{
    (void)size;
    if (strstr(info->dlpi_name, "libasan.so") != NULL || strstr(info->dlpi_name, "libtsan.so") != NULL)
        *(const char **)path = info->dlpi_name;
    return 0;
}

/* Runs this program with the arguments, write number n failing; its exit code. */
static int run_failing(const char *how, unsigned n, bool *fired, const char *path, const char *option, const char *word)
{
    const char *const mark = test_path("fired");
    char number[16];
    int status = 0;
    unlink(mark);
    snprintf(number, sizeof number, "%u", n);
    const pid_t child = fork();
    if (child == 0) {
        setenv("APR_FAULT", "writes", 1);
        setenv("APR_FAULT_HOW", how, 1);
        setenv("APR_FAULT_AT", number, 1);
        setenv("APR_FAULT_MARK", mark, 1);
        setenv("LD_PRELOAD", preload, 1);
        execl(self, self, path, option, word, NULL);
        _exit(99);
    }
    assert_true(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
    *fired = access(mark, F_OK) == 0;
    return WEXITSTATUS(status);
}

static bool holds(const char *path, const struct test_bytes *want)
{
    struct test_bytes b = test_load(path);
    const bool same = b.n == want->n && memcmp(b.at, want->at, b.n) == 0;
    test_free(&b);
    return same;
}

/* After what happened: a journal is there and says so, or the file is sound; recovered, it is old or new, and alone. */
static void expect_old_or_new(const char *what, unsigned n, const char *path, const struct test_bytes *old, const struct test_bytes *new)
{
    struct apr_error e = { .at = APR_NOWHERE };
    enum apr_recovery done;
    struct apr_model *m;
    char journal[512];
    snprintf(journal, sizeof journal, "%s.apr-journal", path);
    const bool there = access(journal, F_OK) == 0;
    if (there) {
        assert_int_equal(apr_open(&m, path, test_run_with(1), &e), APR_EIO);
        assert_non_null(strstr(e.text, "apr-convert --recover"));
    } else if (!holds(path, old) && !holds(path, new)) {
        fail_msg("%s at %u: there is no journal, and the file is neither old nor new", what, n);
    }
    if (recover_in_place(path, &done, &e) != APR_OK)
        fail_msg("%s at %u: %s", what, n, e.text);
    assert_true(there == (done != APR_NOTHING_LEFT));
    if (!holds(path, old) && !holds(path, new))
        fail_msg("%s at %u: recovered, but neither old nor new", what, n);
    alone_in_its_folder(path);
}

static const struct scene {
    const char *what;
    unsigned    kind;
    size_t      grows;
} scenes[] = {
    { "gguf, in its room", 0, 0 }, { "gguf, grown", 0, 20000 }, { "apr, in its room", 1, 0 }, { "apr, grown", 1, 20000 },
    { "safetensors, grown", 2, 20000 },
};

static void every_write_fails_once(const char *how)
{
    for (size_t i = 0; i < APR_LENGTH(scenes); i++) {
        const struct scene *const s = &scenes[i];
        if (preload[0] == 0 || (s->grows > 0 && !can_insert))
            continue;
        struct test_bytes old = test_load(kinds[s->kind][1]), new;
        char *const word = s->grows > 0 ? long_word("note=str:", s->grows)
                                        : strdup(s->kind == 0 ? "general.name=str:x" : "architecture=str:x");
        const char *path = copy_of("walk", kinds[s->kind][1]);
        edited(path, "--set", word);
        new = test_load(path);
        assert_true((new.n > old.n) == (s->grows > 0));
        bool fired = true;
        unsigned n = 0;
        while (fired) {
            path = copy_of("walk", kinds[s->kind][1]);
            const int exit = run_failing(how, ++n, &fired, path, "--set", word);
            if (exit != (!fired ? 0 : strcmp(how, "killed") == 0 ? 137 : 2))
                fail_msg("%s, %s at %u: exit %d", s->what, how, n, exit);
            if (strcmp(how, "full") == 0 || strcmp(how, "broken") == 0)
                assert_true(!fired || holds(path, &old) || holds(path, &new)); /* it undoes what it began */
            expect_old_or_new(s->what, n, path, &old, &new);
        }
        assert_true(n > 7);
        unlink(path);
        test_free(&old);
        test_free(&new);
        free(word);
    }
}

static void a_kill_at_every_write_leaves_old_or_new(void **state) { (void)state; every_write_fails_once("killed"); }
static void a_full_disk_at_every_write_leaves_old_or_new(void **state) { (void)state; every_write_fails_once("full"); }
static void a_broken_disk_at_every_write_leaves_old_or_new(void **state) { (void)state; every_write_fails_once("broken"); }
static void a_disk_that_dies_at_every_write_leaves_old_or_new(void **state) { (void)state; every_write_fails_once("dead"); }

/* A recovery is killed, too, at each of its writes, for each state that a kill leaves. */
static void a_kill_while_recovering_leaves_old_or_new(void **state)
{
    (void)state;
    if (preload[0] == 0 || !can_insert)
        skip();
    struct test_bytes old = test_load(kinds[0][1]), new;
    char *const word = long_word("note=str:", 20000);
    const char *path = copy_of("again", kinds[0][1]);
    edited(path, "--set", word);
    new = test_load(path);
    bool fired = true, again = true;
    for (unsigned n = 1; fired; n++) {
        for (unsigned k = 1; again; k++) {
            path = copy_of("again", kinds[0][1]);
            run_failing("killed", n, &fired, path, "--set", word);
            run_failing("killed", k, &again, path, "--recover", "");
            expect_old_or_new("recovery", n * 100 + k, path, &old, &new);
        }
        again = true;
    }
    test_free(&old);
    test_free(&new);
    free(word);
}

/* ---- journals --------------------------------------------------------------------------------------------------------- */

/* The journal of an edit that grows, killed before write number n. */
static struct test_bytes journal_of(const char *path, unsigned n)
{
    bool fired;
    char name[512], *const word = long_word("note=str:", 20000);
    run_failing("killed", n, &fired, path, "--set", word);
    assert_true(fired);
    free(word);
    snprintf(name, sizeof name, "%s.apr-journal", path);
    return test_load(name);
}

static void leave(const char *path, const void *bytes, size_t n)
{
    FILE *const f = fopen(path, "w");
    assert_true(f != NULL && fwrite(bytes, 1, n, f) == n && fclose(f) == 0);
}

/* A torn journal was being written when the process ended: the file is as it was. One that was whole once and is damaged is no word. */
static void a_torn_journal_means_that_nothing_was_changed(void **state)
{
    (void)state;
    if (preload[0] == 0 || !can_insert)
        skip();
    const char *const path = copy_of("torn", kinds[0][1]), *const name = test_path("torn/qwen2-q8_0.gguf.apr-journal");
    struct test_bytes old = test_load(path), journal = journal_of(path, 4);
    enum apr_recovery done;
    struct apr_error e;
    for (size_t n = 0; n < journal.n; n += n < 64 ? 1 : 997) {
        leave(name, journal.at, n);
        assert_int_equal(recover_in_place(path, &done, &e), APR_OK);
        assert_true(done == APR_UNDONE && holds(path, &old));
        alone_in_its_folder(path);
    }
    journal.at[8] = 1; /* the step */
    journal.at[100] ^= 1;
    leave(name, journal.at, journal.n);
    assert_int_equal(recover_in_place(path, &done, &e), APR_EIO);
    assert_non_null(strstr(e.text, "damaged"));
    assert_true(holds(path, &old));
    test_free(&journal);
    test_free(&old);
}

static void a_journal_of_another_file_is_refused(void **state)
{
    (void)state;
    if (preload[0] == 0 || !can_insert)
        skip();
    const char *const path = copy_of("mine", kinds[0][1]), *const other = copy_of("other", "fixtures/qwen2-q4_0.gguf");
    const char *const name = test_path("other/qwen2-q4_0.gguf.apr-journal");
    struct test_bytes journal = journal_of(path, 4), old = test_load(other);
    enum apr_recovery done;
    struct apr_error e;
    leave(name, journal.at, journal.n);
    assert_int_equal(recover_in_place(other, &done, &e), APR_EIO);
    assert_non_null(strstr(e.text, "of another file"));
    assert_true(holds(other, &old));
    struct test_answer a = test_tool("apr-inspect", other, NULL);
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "apr-convert --recover"));
    test_answer_free(&a);
    unlink(name);
    test_free(&journal);
    test_free(&old);
}

/* What a power cut can leave of a shift of many extents: the last of them moved, the first not yet; or the size alone. */
static void a_shift_that_stopped_half_way_is_closed(void **state)
{
    (void)state;
    if (preload[0] == 0 || !can_insert)
        skip();
    for (unsigned i = 0; i < 32; i++) {
        const char *const *const kind = kinds[i / 16];
        const off_t at = 4096 * (off_t)(1 + i % 16), last = 65536;
        const char *const path = copy_of("half", kind[1]);
        struct test_bytes old = test_load(path), journal = journal_of(path, 4);
        char *const word = long_word("note=str:", 20000);
        enum apr_recovery done;
        struct apr_error e;
        const int fd = open(path, O_RDWR);
        assert_int_equal(at == last ? ftruncate(fd, (off_t)old.n + 20480) : fallocate(fd, 0x20 /* INSERT_RANGE */, at, 20480), 0);
        fsync(fd);
        close(fd);
        if (recover_in_place(path, &done, &e) != APR_OK)
            fail_msg("a shift down to byte %lld: %s", (long long)at, e.text);
        assert_true(done == APR_FINISHED || (done == APR_UNDONE && holds(path, &old)));
        edited(path, "--set", word);
        same_but(kind[1], path, "note", word + strlen("note=str:"), NULL);
        alone_in_its_folder(path);
        unlink(path);
        free(word);
        test_free(&old);
        test_free(&journal);
    }
}

/* ---- running ---------------------------------------------------------------------------------------------------------- */

static int find_out(void **state)
{
    (void)state;
    const char *runtime = "";
    char here[1024];
    dl_iterate_phdr(note_runtime, &runtime);
    const bool sanitized = strcmp(APR_BUILD, "build/release") != 0;
    if (getcwd(here, sizeof here) != NULL && (!sanitized || runtime[0] != 0))
        snprintf(preload, sizeof preload, "%s%s%s/%s/faults_shim.so", runtime, runtime[0] != 0 ? ":" : "", here, APR_BUILD);
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    const int fd = open(test_file("inserts", kinds, 40), O_RDWR);
    can_insert = ftruncate(fd, 8192) == 0 && fallocate(fd, 0x20, 0, 65536) == 0;
    close(fd);
    return n > 0 ? 0 : -1;
}

static int one_edit(char **argv)
{
    struct apr_error e = { .at = APR_NOWHERE };
    struct in_place out;
    enum apr_recovery done;
    const enum apr_code code = strcmp(argv[2], "--recover") == 0 ? recover_in_place(argv[1], &done, &e)
                                                                        : edit_with(argv[1], argv[2], argv[3], &out, &e);
    return code == APR_OK ? 0 : 2;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_grows_and_shrinks_and_nothing_else_changes),
        cmocka_unit_test(no_length_of_a_header_is_in_the_way),
        cmocka_unit_test(values_have_their_types),
        cmocka_unit_test(edits_without_sense_are_named),
        cmocka_unit_test(what_cannot_be_changed_in_place_says_so),
        cmocka_unit_test(a_tensor_gets_another_name_and_keeps_its_place),
        cmocka_unit_test(two_tensors_change_names),
        cmocka_unit_test(a_chat_template_goes_where_readers_look),
        cmocka_unit_test(a_link_is_followed_and_stays),
        cmocka_unit_test(a_file_that_is_read_or_changed_by_others_is_refused),
        cmocka_unit_test(without_room_the_missing_bytes_are_named),
        cmocka_unit_test(a_kill_at_every_write_leaves_old_or_new),
        cmocka_unit_test(a_full_disk_at_every_write_leaves_old_or_new),
        cmocka_unit_test(a_broken_disk_at_every_write_leaves_old_or_new),
        cmocka_unit_test(a_disk_that_dies_at_every_write_leaves_old_or_new),
        cmocka_unit_test(a_kill_while_recovering_leaves_old_or_new),
        cmocka_unit_test(a_torn_journal_means_that_nothing_was_changed),
        cmocka_unit_test(a_journal_of_another_file_is_refused),
        cmocka_unit_test(a_shift_that_stopped_half_way_is_closed),
    };
    return argc > 3 ? one_edit(argv) : cmocka_run_group_tests(tests, find_out, NULL);
}
