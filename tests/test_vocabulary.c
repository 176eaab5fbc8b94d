#include "support.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include "token/vocabulary_read.h"

#include "base/bytes.h"
#include "model/json.h"
#include "model/open.h"

#define FOLDER "fixtures/vocabulary/"

/* ---- the same tokenizer from everywhere ------------------------------------------------------------------------------ */

/* scores, types: the source has them. A tokenizer.json has a special token where SentencePiece has the unknown one. */
static const struct published {
    const char                *name, *folder;
    enum apr_vocabulary_source wanted;
    enum apr_vocabulary_kind   kind;
    bool                       scores, gguf;
} published[] = {
    { "spm", FOLDER "spm/", APR_FROM_TOKENIZER_JSON, APR_VOCABULARY_SPM, false, false },
    { "spm", FOLDER "spm/", APR_FROM_SENTENCEPIECE, APR_VOCABULARY_SPM, true, false },
    { "spm", FOLDER "spm.gguf", APR_FROM_METADATA, APR_VOCABULARY_SPM, true, true },
    { "unigram", FOLDER "unigram/", APR_FROM_TOKENIZER_JSON, APR_VOCABULARY_UNIGRAM, true, false },
    { "unigram", FOLDER "unigram/", APR_FROM_SENTENCEPIECE, APR_VOCABULARY_UNIGRAM, true, false },
    { "unigram", FOLDER "unigram.gguf", APR_FROM_METADATA, APR_VOCABULARY_UNIGRAM, true, true },
    { "bpe", FOLDER "bpe/", APR_FROM_TOKENIZER_JSON, APR_VOCABULARY_BPE, false, false },
    { "bpe", FOLDER "bpe/", APR_FROM_VOCAB_JSON, APR_VOCABULARY_BPE, false, false },
    { "bpe", FOLDER "bpe.gguf", APR_FROM_METADATA, APR_VOCABULARY_BPE, false, true },
    { "wordpiece", FOLDER "wordpiece/", APR_FROM_TOKENIZER_JSON, APR_VOCABULARY_WORDPIECE, false, false },
    { "wordpiece", FOLDER "wordpiece/", APR_FROM_VOCAB_TXT, APR_VOCABULARY_WORDPIECE, false, false },
    { "wordpiece", FOLDER "wordpiece.gguf", APR_FROM_METADATA, APR_VOCABULARY_WORDPIECE, false, true },
};

static struct apr_model *read_published(const struct published *p, struct apr_vocabulary *v)
{
    struct apr_error e;
    struct apr_model *m = NULL;
    enum apr_code code = APR_OK;
    *v = (struct apr_vocabulary){ 0 };
    if (p->gguf)
        code = apr_open(&m, p->folder, test_run_with(1), &e);
    if (code == APR_OK)
        code = p->gguf ? apr_vocabulary_read(v, m, test_run_with(1), &e)
                       : apr_vocabulary_folder(v, p->folder, p->wanted, test_run_with(1), &e);
    if (code == APR_OK)
        code = apr_vocabulary_index(v, &e);
    if (code != APR_OK)
        fail_msg("%s: %s", p->folder, e.text);
    if (v->from != p->wanted || v->kind != p->kind || v->has_scores != p->scores)
        fail_msg("%s: from %d, kind %d, scores %d", p->folder, v->from, v->kind, v->has_scores);
    return m;
}

/* A GGUF spells the beginning of a word where vocab.txt spells its middle. */
static bool same_text(const struct published *p, const struct apr_token *t, struct apr_bytes text)
{
    if (!p->gguf || p->kind != APR_VOCABULARY_WORDPIECE || t->type == APR_TOKEN_CONTROL)
        return apr_bytes_equal(t->text, text);
    if (text.n > 2 && memcmp(text.at, "##", 2) == 0)
        return apr_bytes_equal(t->text, (struct apr_bytes){ text.at + 2, text.n - 2 });
    return t->text.n > 3 && memcmp(t->text.at, "\u2581", 3) == 0 &&
           apr_bytes_equal((struct apr_bytes){ t->text.at + 3, t->text.n - 3 }, text);
}

static void expect_token(const struct published *p, const struct apr_vocabulary *v, char *line)
{
    char *at = line;
    const uint64_t id = strtoull(at, &at, 10);
    unsigned type = (unsigned)strtoul(at, &at, 10);
    const uint32_t bits = (uint32_t)strtoul(at, &at, 16);
    const struct apr_bytes text = apr_text(at + 1);
    const struct apr_token *t = apr_vocabulary_token(v, id);
    if (type == APR_TOKEN_UNKNOWN && p->wanted == APR_FROM_TOKENIZER_JSON)
        type = APR_TOKEN_CONTROL;
    if (t == NULL || t->type != type || !same_text(p, t, text))
        fail_msg("%s: %s: type %d, text %s", p->folder, line, t == NULL ? -1 : t->type, t == NULL ? "" : APR_QUOTED(t->text));
    if (p->scores && memcmp(&(float){ (float)t->score }, &bits, sizeof bits) != 0)
        fail_msg("%s: %s: score %g", p->folder, line, t->score);
    if (apr_vocabulary_find(v, t->text) != t)
        fail_msg("%s: %s is not found by its text", p->folder, line);
}

static void every_source_has_the_tokens_that_the_libraries_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(published); i++) {
        char path[64];
        struct apr_vocabulary v;
        struct apr_model *m = read_published(&published[i], &v);
        snprintf(path, sizeof path, FOLDER "%s.tokens", published[i].name);
        struct test_bytes expected = test_load(path);
        test_put(&expected, "", 1);
        uint64_t n = 0;
        for (char *line = strtok((char *)expected.at, "\n"); line != NULL; line = strtok(NULL, "\n"), n++)
            expect_token(&published[i], &v, line);
        assert_int_equal(v.ntoken, n);
        assert_int_equal(v.size, n);
        assert_int_equal(v.faults.unreadable + v.faults.shared + v.faults.again + v.faults.bad_merges, 0);
        test_free(&expected);
        apr_vocabulary_end(&v);
        apr_close(m);
    }
}

static void every_source_has_the_same_merges(void **state)
{
    (void)state;
    struct apr_vocabulary first, v;
    struct apr_model *none = read_published(&published[6], &first);
    assert_null(none);
    assert_int_equal(first.nmerge, 44);
    for (size_t i = 7; i <= 8; i++) {
        struct apr_model *m = read_published(&published[i], &v);
        assert_int_equal(v.nmerge, first.nmerge);
        for (size_t k = 0; k < v.nmerge; k++) {
            assert_true(apr_bytes_equal(v.merge[k].left, first.merge[k].left));
            assert_true(apr_bytes_equal(v.merge[k].right, first.merge[k].right));
            assert_non_null(apr_vocabulary_join(&v, &v.merge[k]));
        }
        apr_vocabulary_end(&v);
        apr_close(m);
    }
    apr_vocabulary_end(&first);
}

static void every_source_names_the_special_tokens(void **state)
{
    (void)state;
    static const struct {
        const char           *name;
        enum apr_special_role role;
        uint32_t              id;
        bool                  gguf; /* has a key for it */
    } rows[] = {
        { "spm", APR_UNK, 0, true },       { "spm", APR_BOS, 1, true },       { "spm", APR_EOS, 2, true },
        { "unigram", APR_UNK, 0, true },   { "unigram", APR_BOS, 1, true },   { "unigram", APR_EOS, 2, true },
        { "unigram", APR_PAD, 3, true },   { "bpe", APR_BOS, 300, true },     { "bpe", APR_EOS, 300, true },
        { "wordpiece", APR_PAD, 0, true }, { "wordpiece", APR_UNK, 1, true }, { "wordpiece", APR_CLS, 2, false },
        { "wordpiece", APR_SEP, 3, true }, { "wordpiece", APR_MASK, 4, true },
    };
    for (size_t i = 0; i < APR_LENGTH(published); i++) {
        struct apr_vocabulary v;
        struct apr_model *m = read_published(&published[i], &v);
        for (size_t k = 0; k < APR_LENGTH(rows); k++) {
            uint32_t id = UINT32_MAX;
            if (strcmp(rows[k].name, published[i].name) != 0 || (published[i].gguf && !rows[k].gguf))
                continue;
            if (!apr_vocabulary_special(&v, rows[k].role, &id) || id != rows[k].id)
                fail_msg("%s: role %d is %u, expected %u", published[i].folder, rows[k].role, id, rows[k].id);
        }
        assert_true(apr_bytes_is(apr_vocabulary_chat(&v, "default"), "{% for m in messages %}{{ m.content }}\n{% endfor %}"));
        apr_vocabulary_end(&v);
        apr_close(m);
    }
}

/* ---- bytes of every kind --------------------------------------------------------------------------------------------- */

typedef enum apr_code read_fn(struct apr_vocabulary *v, struct apr_bytes text, struct apr_error *e);

#define BYTES(s) { (const unsigned char *)(s), sizeof(s) - 1 }
#define VOCAB(s) BYTES("{\"model\":{\"vocab\":{" s "}}}")

/* What comes of them: the code and the finding, or so many tokens, ids, merges and faults. */
static const struct {
    const char      *what;
    read_fn         *read;
    struct apr_bytes text;
    enum apr_code    code;
    const char      *finding;
    size_t           ntoken;
    uint64_t         size;
    size_t           nmerge;
    uint64_t         unreadable, shared, again, bad_merges;
} hostile[] = {
    { "an id of a billion", apr_read_tokenizer_json, VOCAB("\"a\":0,\"b\":1000000000"), APR_OK, 0, 2, 1000000001, 0, 0, 0, 0, 0 },
    { "ids that are none", apr_read_tokenizer_json, VOCAB("\"a\":-1,\"b\":1.5,\"c\":\"2\",\"d\":4294967295,\"e\":null,\"f\":[0],\"g\":0"),
      APR_OK, 0, 1, 1, 0, 6, 0, 0, 0 },
    { "an id beyond 64 bits", apr_read_tokenizer_json, VOCAB("\"a\":18446744073709551616"), APR_OK, 0, 0, 0, 0, 1, 0, 0, 0 },
    { "holes", apr_read_tokenizer_json, VOCAB("\"a\":7,\"b\":3"), APR_OK, 0, 2, 8, 0, 0, 0, 0, 0 },
    { "one id for two", apr_read_tokenizer_json, VOCAB("\"a\":1,\"b\":1,\"c\":0"), APR_OK, 0, 2, 2, 0, 0, 1, 0, 0 },
    { "one text for two ids", apr_read_tokenizer_json, VOCAB("\"a\":9,\"a\":1"), APR_OK, 0, 1, 2, 0, 0, 0, 1, 0 },
    { "a NUL, no text", apr_read_tokenizer_json, VOCAB("\"\\u0000\":0,\"\":1"), APR_OK, 0, 2, 2, 0, 0, 0, 0, 0 },
    { "the model twice", apr_read_tokenizer_json, BYTES("{\"model\":{\"vocab\":{\"a\":0}},\"model\":{\"vocab\":{\"b\":0,\"c\":1}}}"),
      APR_OK, 0, 2, 2, 0, 0, 0, 0, 0 },
    { "no vocabulary", apr_read_tokenizer_json, BYTES("{\"model\":{\"vocab\":7,\"merges\":{}}}"), APR_OK, 0, 0, 0, 0, 0, 0, 0, 0 },
    { "a model that is a list", apr_read_tokenizer_json, BYTES("{\"model\":[],\"added_tokens\":{}}"), APR_OK, 0, 0, 0, 0, 0, 0, 0, 0 },
    { "pieces that are none", apr_read_tokenizer_json,
      BYTES("{\"model\":{\"vocab\":[[\"a\",-1.5],[],[1,2],\"b\",{\"a\":1},[\"c\"],[\"d\",\"x\",[0]]]}}"), APR_OK, 0, 1, 1, 0, 6, 0, 0, 0 },
    { "merges that are none", apr_read_tokenizer_json,
      BYTES("{\"model\":{\"merges\":[\"a b\",\"ab\",\"\",\" a\",\"a \",[\"a\"],[\"a\",\"b\"],[\"a\",\"\"],"
            "[\"a\",\"b\",\"c\"],[\"a\",1],{},5]}}"),
      APR_OK, 0, 0, 0, 2, 0, 0, 0, 10 },
    { "tokens that are added", apr_read_tokenizer_json,
      BYTES("{\"added_tokens\":[{\"id\":1,\"content\":\"x\"},{\"id\":0,\"content\":\"a\"},{\"id\":-1,\"content\":\"y\"},{\"id\":3},[],7],"
            "\"model\":{\"vocab\":{\"a\":0,\"b\":1}}}"), APR_OK, 0, 2, 2, 0, 1, 1, 0, 0 },
    { "an array", apr_read_tokenizer_json, BYTES("[]"), APR_ECORRUPT, "vocab.syntax", 0, 0, 0, 0, 0, 0, 0 },
    { "nothing", apr_read_tokenizer_json, BYTES(""), APR_ECORRUPT, "vocab.syntax", 0, 0, 0, 0, 0, 0, 0 },
    { "no end", apr_read_tokenizer_json, BYTES("{\"model\":{\"vocab\":{\"a\":0"), APR_ECORRUPT, "vocab.syntax", 0, 0, 0, 0, 0, 0, 0 },
    { "more behind the end", apr_read_tokenizer_json, BYTES("{} x"), APR_ECORRUPT, "vocab.syntax", 0, 0, 0, 0, 0, 0, 0 },
    { "a comma too many", apr_read_tokenizer_json, VOCAB("\"a\":0,"), APR_ECORRUPT, "vocab.syntax", 0, 0, 0, 0, 0, 0, 0 },
    { "half a surrogate", apr_read_tokenizer_json, VOCAB("\"\\ud800\":0"), APR_ECORRUPT, "vocab.syntax", 0, 0, 0, 0, 0, 0, 0 },
    { "no UTF-8", apr_read_tokenizer_json, VOCAB("\"\xff\":0"), APR_ECORRUPT, "vocab.syntax", 0, 0, 0, 0, 0, 0, 0 },
    { "no UTF-8 elsewhere", apr_read_tokenizer_json,
      BYTES("{\"decoder\":{\"a\":[\"\xff\"]}}"), APR_ECORRUPT, "vocab.syntax", 0, 0, 0, 0, 0, 0, 0 },
    { "no JSON in a list of tokens", apr_read_tokenizer_json,
      BYTES("{\"model\":{\"vocab\":{\"a\":[}]}}}"), APR_ECORRUPT, "vocab.syntax", 0, 0, 0, 0, 0, 0, 0 },
    { "no JSON in a merge", apr_read_tokenizer_json,
      BYTES("{\"model\":{\"merges\":[[\"a\",\"b\",{\"x\"}]]}}"), APR_ECORRUPT, "vocab.syntax", 0, 0, 0, 0, 0, 0, 0 },

    { "vocab.json out of order", apr_read_vocab_json, BYTES("{\"a\":5,\"b\":1,\"c\":1,\"b\":7}"), APR_OK, 0, 3, 8, 0, 0, 0, 1, 0 },
    { "any bytes in pieces", apr_read_sentencepiece, BYTES("\n\4\n\2\0\xff\n\2\n\0"), APR_OK, 0, 2, 2, 0, 0, 0, 0, 0 },
    { "a piece without fields", apr_read_sentencepiece, BYTES("\n\0"), APR_OK, 0, 1, 1, 0, 0, 0, 0, 0 },
    { "a type that is none", apr_read_sentencepiece, BYTES("\n\5\n\1a\x18\x63"), APR_OK, 0, 1, 1, 0, 0, 0, 0, 0 },
    { "unknown fields", apr_read_sentencepiece,
      BYTES("\x50\1\x51" "12345678" "\x52\1x\x55" "1234" "\n\0"), APR_OK, 0, 1, 1, 0, 0, 0, 0, 0 },
    { "a group", apr_read_sentencepiece, BYTES("\x53\x53\x50\1\x54\x54\n\0"), APR_OK, 0, 1, 1, 0, 0, 0, 0, 0 },
    { "a group without an end", apr_read_sentencepiece, BYTES("\n\0\x53"), APR_ECORRUPT, "vocab.syntax", 1, 1, 0, 0, 0, 0, 0 },
    { "an end without a group", apr_read_sentencepiece, BYTES("\n\0\x54\n\0"), APR_ECORRUPT, "vocab.syntax", 1, 1, 0, 0, 0, 0, 0 },
    { "no piece", apr_read_sentencepiece, BYTES(""), APR_ECORRUPT, "vocab.syntax", 0, 0, 0, 0, 0, 0, 0 },
    { "a piece beyond the end", apr_read_sentencepiece, BYTES("\n\x7f" "a"), APR_ECORRUPT, "vocab.syntax", 0, 0, 0, 0, 0, 0, 0 },
    { "a text beyond its piece", apr_read_sentencepiece, BYTES("\n\3\n\2a" "bcd"), APR_ECORRUPT, "vocab.syntax", 1, 1, 0, 0, 0, 0, 0 },
    { "a length of 2^63", apr_read_sentencepiece,
      BYTES("\n\x80\x80\x80\x80\x80\x80\x80\x80\x80\1"), APR_ECORRUPT, "vocab.syntax", 0, 0, 0, 0, 0, 0, 0 },
    { "a number of eleven bytes", apr_read_sentencepiece,
      BYTES("\n\0\x50\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\1"), APR_ECORRUPT, "vocab.syntax", 1, 1, 0, 0, 0, 0, 0 },
    { "the field 0", apr_read_sentencepiece, BYTES("\n\0\0\0"), APR_ECORRUPT, "vocab.syntax", 1, 1, 0, 0, 0, 0, 0 },
    { "the wire type 7", apr_read_sentencepiece, BYTES("\n\0\x57"), APR_ECORRUPT, "vocab.syntax", 1, 1, 0, 0, 0, 0, 0 },

    { "lines", apr_read_vocab_txt, BYTES("a\r\n\nb\0c\n\xff"), APR_OK, 0, 4, 4, 0, 0, 0, 0, 0 },
    { "no line", apr_read_vocab_txt, BYTES(""), APR_OK, 0, 0, 0, 0, 0, 0, 0, 0 },
    { "a line twice", apr_read_vocab_txt, BYTES("a\na\n"), APR_OK, 0, 2, 2, 0, 0, 0, 1, 0 },
    { "merges in lines", apr_read_merges_txt, BYTES("#version: 0.2\na b\r\n\nab\n# x\n#version: 1\n"), APR_OK, 0, 0, 0, 3, 0, 0, 0, 1 },
};

static void any_bytes_are_read_or_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(hostile); i++) {
        struct apr_vocabulary v = { 0 };
        struct apr_error e = { .finding = NULL };
        const enum apr_code code = hostile[i].read(&v, hostile[i].text, &e);
        if (code != hostile[i].code || (code != APR_OK && strcmp(e.finding, hostile[i].finding) != 0))
            fail_msg("%s: code %d, %s", hostile[i].what, code, code == APR_OK ? "" : e.text);
        if (code == APR_OK && (v.ntoken != hostile[i].ntoken || v.size != hostile[i].size || v.nmerge != hostile[i].nmerge))
            fail_msg("%s: %zu tokens, size %llu, %zu merges", hostile[i].what, v.ntoken, (unsigned long long)v.size, v.nmerge);
        const struct apr_vocabulary_faults *f = &v.faults;
        if (code == APR_OK && (f->unreadable != hostile[i].unreadable || f->shared != hostile[i].shared || f->again != hostile[i].again ||
                               f->bad_merges != hostile[i].bad_merges))
            fail_msg("%s: unreadable %d, shared %d, again %d, bad merges %d", hostile[i].what, (int)f->unreadable, (int)f->shared,
                     (int)f->again, (int)f->bad_merges);
        apr_vocabulary_end(&v);
    }
}

static void expect_text(const struct apr_vocabulary *v, uint64_t id, const char *text, unsigned type)
{
    const struct apr_token *t = apr_vocabulary_token(v, id);
    assert_non_null(t);
    assert_string_equal(APR_QUOTED(t->text), APR_QUOTED(apr_text(text)));
    assert_int_equal(t->type, type);
    assert_ptr_equal(apr_vocabulary_find(v, t->text), t);
}

static void the_last_of_two_counts(void **state)
{
    (void)state;
    static const char text[] = "{\"model\":{\"vocab\":{\"a\":9,\"b\":1,\"c\":1,\"a\":0,\"d\":2}},\"added_tokens\":["
                               "{\"id\":2,\"content\":\"<s>\",\"special\":true},{\"id\":1,\"content\":\"c\",\"lstrip\":true}]}";
    struct apr_vocabulary v = { 0 };
    struct apr_error e;
    assert_int_equal(apr_read_tokenizer_json(&v, apr_text(text), &e), APR_OK);
    assert_int_equal(v.ntoken, 3);
    expect_text(&v, 0, "a", APR_TOKEN_NORMAL);
    expect_text(&v, 1, "c", APR_TOKEN_USER);
    expect_text(&v, 2, "<s>", APR_TOKEN_CONTROL);
    assert_int_equal(v.token[1].flags, APR_TOKEN_ADDED | APR_TOKEN_OWN | APR_TOKEN_LSTRIP);
    assert_null(apr_vocabulary_find(&v, apr_text("b")));
    assert_null(apr_vocabulary_token(&v, 9));
    apr_vocabulary_end(&v);
}

static void too_many_tokens_are_refused_not_held(void **state)
{
    (void)state;
    const size_t n = APR_MOST_TOKENS + 1;
    struct apr_vocabulary v = { 0 };
    struct apr_error e;
    char *lines = malloc(n);
    assert_non_null(lines);
    memset(lines, '\n', n);
    assert_int_equal(apr_read_vocab_txt(&v, (struct apr_bytes){ (unsigned char *)lines, n }, &e), APR_ELIMIT);
    assert_string_equal(e.finding, "vocab.large");
    assert_int_equal(v.ntoken, APR_MOST_TOKENS);
    apr_vocabulary_end(&v);
    free(lines);
}

static void deep_nesting_is_refused(void **state)
{
    (void)state;
    char text[4096];
    struct apr_vocabulary v = { 0 };
    struct apr_error e;
    size_t n = (size_t)snprintf(text, sizeof text, "{\"post_processor\":");
    memset(text + n, '[', 200);
    memset(text + n + 200, ']', 200);
    strcpy(text + n + 400, "}");
    assert_int_equal(apr_read_tokenizer_json(&v, apr_text(text), &e), APR_ELIMIT);
    apr_vocabulary_end(&v);
}

/* ---- folders --------------------------------------------------------------------------------------------------------- */

static void put(const char *folder, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    test_file(path, text, strlen(text));
}

static enum apr_code read_folder(const char *folder, struct apr_vocabulary *v, struct apr_error *e)
{
    char path[256];
    snprintf(path, sizeof path, "%s/", test_path(folder));
    *v = (struct apr_vocabulary){ 0 };
    return apr_vocabulary_folder(v, path, APR_FROM_NOTHING, test_run_with(1), e);
}

static void roles_come_from_the_tokenizer_then_from_the_model(void **state)
{
    (void)state;
    struct apr_vocabulary v;
    struct apr_error e;
    uint32_t id;
    put("roles", "tokenizer.json", "{\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"d\":3},\"unk_token\":\"d\"}}");
    put("roles", "tokenizer_config.json", "{\"bos_token\":\"a\",\"eos_token\":{\"content\":\"b\"},\"pad_token\":\"none\"}");
    put("roles", "special_tokens_map.json", "{\"bos_token\":\"c\",\"sep_token\":{\"content\":\"c\"}}");
    put("roles", "config.json", "{\"bos_token_id\":2,\"pad_token_id\":3,\"x\":NaN}");
    put("roles", "generation_config.json", "{\"eos_token_id\":[1,3,-1,2.5]}");
    assert_int_equal(read_folder("roles", &v, &e), APR_OK);
    static const struct {
        enum apr_special_role role;
        uint32_t              id;
    } rows[] = { { APR_BOS, 0 }, { APR_EOS, 1 }, { APR_PAD, 3 }, { APR_SEP, 2 }, { APR_UNK, 3 } };
    for (size_t i = 0; i < APR_LENGTH(rows); i++)
        if (!apr_vocabulary_special(&v, rows[i].role, &id) || id != rows[i].id)
            fail_msg("role %d is %u, not %u", rows[i].role, id, rows[i].id);
    assert_false(apr_vocabulary_special(&v, APR_CLS, &id));
    unsigned ends = 0;
    for (size_t i = 0; i < v.nspecial; i++)
        ends += v.special[i].role == APR_EOS && (v.special[i].id == 1 || v.special[i].id == 3);
    assert_int_equal(ends, 2);
    apr_vocabulary_end(&v);
}

static void what_stands_around_a_text_sets_the_flags(void **state)
{
    (void)state;
    static const struct {
        const char     *config, *single, *pair;
        enum apr_choice bos, eos, sep;
    } rows[] = {
        { "{}", "A", "AB", APR_UNSAID, APR_UNSAID, APR_UNSAID },
        { "{}", "sA", "sAB", APR_YES, APR_UNSAID, APR_UNSAID },
        { "{}", "sAe", "sAeBe", APR_YES, APR_YES, APR_NO },
        { "{}", "sAe", "sAeeBe", APR_YES, APR_YES, APR_YES },
        { "{}", "sA", "sAeB", APR_YES, APR_UNSAID, APR_YES },
        { "{}", "xA", "xAxB", APR_NO, APR_UNSAID, APR_NO },
        { "{\"add_bos_token\":false,\"add_eos_token\":true}", "sA", "sAB", APR_NO, APR_YES, APR_UNSAID },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char folder[32], text[2048];
        struct apr_vocabulary v;
        struct apr_error e;
        size_t n = (size_t)snprintf(text, sizeof text, "{\"post_processor\":{\"type\":\"Sequence\",\"processors\":["
                                    "{\"type\":\"ByteLevel\"},{\"type\":\"TemplateProcessing\",\"single\":[");
        for (size_t k = 0; k < 2; k++) {
            for (const char *part = k == 0 ? rows[i].single : rows[i].pair; *part != 0; part++)
                n += (size_t)snprintf(text + n, sizeof text - n, "{\"%s\":{\"id\":\"%c\",\"type_id\":0}}%s",
                                      *part < 'a' ? "Sequence" : "SpecialToken", *part, part[1] == 0 ? "" : ",");
            n += (size_t)snprintf(text + n, sizeof text - n, k == 0 ? "],\"pair\":[" : "]}]},");
        }
        snprintf(text + n, sizeof text - n, "\"model\":{\"vocab\":{\"s\":0,\"e\":1,\"x\":2}}}");
        snprintf(folder, sizeof folder, "flags-%zu", i);
        put(folder, "tokenizer.json", text);
        put(folder, "tokenizer_config.json", rows[i].config);
        put(folder, "special_tokens_map.json", "{\"bos_token\":\"s\",\"eos_token\":\"e\"}");
        if (read_folder(folder, &v, &e) != APR_OK)
            fail_msg("row %zu: %s", i, e.text);
        if (v.add_bos != rows[i].bos || v.add_eos != rows[i].eos || v.add_sep != rows[i].sep)
            fail_msg("row %zu: bos %d, eos %d, sep %d", i, v.add_bos, v.add_eos, v.add_sep);
        apr_vocabulary_end(&v);
    }
}

static void what_a_normalizer_does_to_letters_is_told(void **state)
{
    (void)state;
    static const struct {
        const char     *normalizer;
        enum apr_choice lowercase, strip_accents;
    } rows[] = {
        { "null", APR_UNSAID, APR_UNSAID },
        { "{\"type\":\"NFC\"}", APR_UNSAID, APR_UNSAID },
        { "{\"type\":\"Lowercase\"}", APR_YES, APR_UNSAID },
        { "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFD\"},{\"type\":\"StripAccents\"},7]}", APR_UNSAID, APR_YES },
        { "{\"type\":\"BertNormalizer\",\"lowercase\":true,\"strip_accents\":null}", APR_YES, APR_UNSAID },
        { "{\"type\":\"BertNormalizer\",\"lowercase\":false,\"strip_accents\":true}", APR_NO, APR_YES },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        char text[256];
        struct apr_vocabulary v = { 0 };
        struct apr_error e;
        snprintf(text, sizeof text, "{\"normalizer\":%s}", rows[i].normalizer);
        assert_int_equal(apr_read_tokenizer_json(&v, apr_text(text), &e), APR_OK);
        assert_int_equal(apr_read_normalizer(&v, &e), APR_OK);
        if (v.lowercase != rows[i].lowercase || v.strip_accents != rows[i].strip_accents)
            fail_msg("%s: lowercase %d, strip accents %d", text, v.lowercase, v.strip_accents);
        apr_vocabulary_end(&v);
    }
}

static void templates_have_names(void **state)
{
    (void)state;
    struct apr_vocabulary v;
    struct apr_error e;
    put("chat", "tokenizer_config.json", "{\"chat_template\":[{\"name\":\"default\",\"template\":\"1\"},"
                                         "{\"name\":\"tool\",\"template\":\"2\"},{\"name\":3},7]}");
    assert_int_equal(read_folder("chat", &v, &e), APR_OK);
    assert_true(apr_bytes_is(apr_vocabulary_chat(&v, "default"), "1"));
    assert_true(apr_bytes_is(apr_vocabulary_chat(&v, "tool"), "2"));
    assert_int_equal(v.nchat, 2);
    apr_vocabulary_end(&v);
    put("chat", "chat_template.jinja", "3");
    assert_int_equal(read_folder("chat", &v, &e), APR_OK);
    assert_true(apr_bytes_is(apr_vocabulary_chat(&v, "default"), "3"));
    assert_int_equal(v.nchat, 2);
    apr_vocabulary_end(&v);
    put("chat-2", "chat_template.json", "{\"chat_template\":\"4\"}");
    assert_int_equal(read_folder("chat-2", &v, &e), APR_OK);
    assert_true(apr_bytes_is(apr_vocabulary_chat(&v, "default"), "4"));
    assert_int_equal(v.from, APR_FROM_NOTHING);
    apr_vocabulary_end(&v);
}

static void merges_may_lie_beside(void **state)
{
    (void)state;
    struct apr_vocabulary v;
    struct apr_error e;
    put("beside", "tokenizer.json", "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"aa\":1}}}");
    put("beside", "merges.txt", "#version: 0.2\na a\n");
    assert_int_equal(read_folder("beside", &v, &e), APR_OK);
    assert_int_equal(v.nmerge, 1);
    assert_int_equal(apr_vocabulary_join(&v, &v.merge[0])->id, 1);
    apr_vocabulary_end(&v);
}

static void a_broken_file_is_named_and_nothing_of_it_kept(void **state)
{
    (void)state;
    static const char *const file[] = { "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json" };
    for (size_t i = 0; i < APR_LENGTH(file); i++) {
        char folder[32];
        struct apr_vocabulary v;
        struct apr_error e;
        snprintf(folder, sizeof folder, "broken-%zu", i);
        put(folder, "tokenizer.json", "{\"model\":{\"vocab\":{\"a\":0}}}");
        put(folder, file[i], "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[}}");
        assert_int_equal(read_folder(folder, &v, &e), APR_ECORRUPT);
        assert_non_null(strstr(e.file, file[i]));
        assert_int_equal(v.ntoken, i == 0 ? 0 : 1);
        apr_vocabulary_end(&v);
    }
}

static void a_file_that_is_none_is_told_and_a_system_that_fails_is_no_word_about_it(void **state)
{
    (void)state;
    struct apr_vocabulary v;
    struct apr_error e;
    struct rlimit before, none;
    put("pipe", "vocab.txt", "a\n");
    assert_int_equal(mkfifo(test_path("pipe/tokenizer_config.json"), 0600), 0);
    assert_int_equal(read_folder("pipe", &v, &e), APR_EIO);
    assert_string_equal(e.finding, "vocab.unreadable");
    assert_int_equal(v.ntoken, 1);
    apr_vocabulary_end(&v);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){ 3, before.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    const enum apr_code code = read_folder("pipe", &v, &e);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(code, APR_EIO);
    assert_null(e.finding);
    apr_vocabulary_end(&v);
}

/* ---- metadata -------------------------------------------------------------------------------------------------------- */

static void the_keys_of_an_apr_file_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *key, *json;
    } rows[] = {
        { "tokenizer.model_type", "\"BPE\"" },          { "tokenizer.pre_type", "\"qwen2\"" },
        { "gguf.kv", "{\"general.name\":{\"t\":\"string\",\"v\":\"x\"},\"tokenizer.ggml.eos_token_id\":{\"t\":\"u32\",\"v\":3},"
                     "\"tokenizer.ggml.scores\":{\"t\":\"arr\",\"v\":[0.5,-1]},\"tokenizer.ggml.bos_token_id\":{\"t\":\"u32\",\"v\":0},"
                     "\"tokenizer.ggml.pre\":7,\"tokenizer.ggml.add_eos_token\":{\"v\":true}}" },
        { "tokenizer.vocabulary", "[\"a\",\"\\u0120b\",7,\"ab\"]" }, { "tokenizer.merges", "[\"a b\",\"ab\"]" },
        { "tokenizer.token_type", "[1,3,1,4,1,1]" },
        { "tokenizer.bos_token_id", "1" },              { "tokenizer.padding_token_id", "99" },
        { "tokenizer.add_bos_token", "false" },         { "chat_template", "\"{{ 1 }}\"" },
    };
    struct apr_model m = { 0 };
    struct apr_vocabulary v = { 0 };
    struct apr_meta_entry entry[APR_LENGTH(rows)];
    struct apr_error e;
    uint32_t id;
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        entry[i].key = apr_text(rows[i].key);
        assert_int_equal(apr_json_value(&m, apr_text(rows[i].json), 0, &entry[i].value, &e), APR_OK);
    }
    assert_int_equal(apr_read_metadata(&v, &(struct apr_meta){ entry, APR_LENGTH(rows), 0 }, &e), APR_OK);
    assert_int_equal(apr_vocabulary_index(&v, &e), APR_OK);
    assert_int_equal(v.kind, APR_VOCABULARY_BPE);
    assert_int_equal(v.size, 4);
    assert_int_equal(v.ntoken, 3);
    assert_int_equal(v.faults.unreadable, 1);
    expect_text(&v, 1, "\u0120b", APR_TOKEN_CONTROL);
    expect_text(&v, 3, "ab", APR_TOKEN_USER);
    assert_true(v.token[0].score == 0.5f && v.token[1].score == -1.0f && v.token[2].score == 0);
    assert_int_equal(v.nmerge + v.faults.bad_merges, 2);
    assert_true(apr_vocabulary_special(&v, APR_BOS, &id) && id == 1);
    assert_false(apr_vocabulary_special(&v, APR_PAD, &id));
    assert_true(apr_vocabulary_special(&v, APR_EOS, &id) && id == 3);
    assert_int_equal(v.add_bos, APR_NO);
    assert_int_equal(v.add_eos, APR_YES);
    assert_true(apr_bytes_is(apr_vocabulary_chat(&v, "default"), "{{ 1 }}"));
    assert_true(apr_bytes_is(v.pre, "qwen2"));
    apr_vocabulary_end(&v);
    apr_arena_free(&m.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_source_has_the_tokens_that_the_libraries_name),
        cmocka_unit_test(every_source_has_the_same_merges),
        cmocka_unit_test(every_source_names_the_special_tokens),
        cmocka_unit_test(any_bytes_are_read_or_refused),
        cmocka_unit_test(the_last_of_two_counts),
        cmocka_unit_test(too_many_tokens_are_refused_not_held),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(roles_come_from_the_tokenizer_then_from_the_model),
        cmocka_unit_test(what_stands_around_a_text_sets_the_flags),
        cmocka_unit_test(what_a_normalizer_does_to_letters_is_told),
        cmocka_unit_test(templates_have_names),
        cmocka_unit_test(merges_may_lie_beside),
        cmocka_unit_test(a_broken_file_is_named_and_nothing_of_it_kept),
        cmocka_unit_test(a_file_that_is_none_is_told_and_a_system_that_fails_is_no_word_about_it),
        cmocka_unit_test(the_keys_of_an_apr_file_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
