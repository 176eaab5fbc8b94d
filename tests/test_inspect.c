/* apr-inspect as its users run it: what it shows, as text and as JSON. */
#include "support.h"

#include <jansson.h>

#include <math.h>
#include <stdio.h>

#define TINY "fixtures/qwen2-q4_0.gguf"

/* ---- models put together by hand ------------------------------------------------------------------------------------ */

/* A SafeTensors file of F32: header is its JSON, the values are 0, 1, 2, ... */
static const char *counting(const char *name, const char *header, size_t nvalues)
{
    struct test_bytes b = { 0 };
    float v[64];
    assert_true(nvalues <= APR_LENGTH(v));
    for (size_t i = 0; i < nvalues; i++)
        v[i] = (float)i;
    test_integer(&b, strlen(header), 8);
    test_text(&b, header);
    test_floats(&b, v, nvalues);
    const char *path = test_file(name, b.at, b.n);
    test_free(&b);
    return path;
}

static const char *cube(void)
{
    return counting("cube.safetensors", "{\"t\":{\"dtype\":\"F32\",\"shape\":[2,3,4],\"data_offsets\":[0,96]}}", 24);
}

static void put_string(struct test_bytes *b, const char *s)
{
    test_integer(b, strlen(s), 8);
    test_text(b, s);
}

/* A GGUF without tensors. */
static const char *metadata_only(const char *name, void (*put)(struct test_bytes *b), unsigned nkeys)
{
    struct test_bytes b = { 0 };
    test_text(&b, "GGUF");
    test_integer(&b, 3, 4);
    test_integer(&b, 0, 8);
    test_integer(&b, nkeys, 8);
    put(&b);
    test_align(&b, 32);
    const char *path = test_file(name, b.at, b.n);
    test_free(&b);
    return path;
}

enum { GGUF_U32 = 4, GGUF_F32 = 6, GGUF_STRING = 8, GGUF_ARRAY = 9, GGUF_U64 = 10 };

static void put_every_kind(struct test_bytes *b)
{
    put_string(b, "x.text");
    test_integer(b, GGUF_STRING, 4);
    put_string(b, "a \"b\"");
    put_string(b, "x.big");
    test_integer(b, GGUF_U64, 4);
    test_integer(b, (UINT64_C(1) << 63) + 1, 8);
    put_string(b, "x.real");
    test_integer(b, GGUF_F32, 4);
    test_floats(b, (const float[]){ 1e-5f }, 1);
    put_string(b, "x.words");
    test_integer(b, GGUF_ARRAY, 4);
    test_integer(b, GGUF_STRING, 4);
    test_integer(b, 2, 8);
    put_string(b, "one");
    put_string(b, "two words");
    put_string(b, "x.many");
    test_integer(b, GGUF_ARRAY, 4);
    test_integer(b, GGUF_U32, 4);
    test_integer(b, 20, 8);
    for (unsigned i = 0; i < 20; i++)
        test_integer(b, i, 4);
}

static void put_evil(struct test_bytes *b)
{
    put_string(b, "general.name");
    test_integer(b, GGUF_STRING, 4);
    put_string(b, "a\033[2Jb\007c");
    put_string(b, "tokenizer.chat_template");
    test_integer(b, GGUF_STRING, 4);
    put_string(b, "{{ 7 * 191 }}\033[31m");
}

/* ---- asking --------------------------------------------------------------------------------------------------------- */

static void expect_says(const char *what, const struct test_answer *a, int code, const char *words)
{
    if (a->exit != code || !test_says(&a->out, words))
        print_error("%s: exit %d, expected %d and \"%s\" in:\n%s%s", what, a->exit, code, words, (const char *)a->out.at,
                    (const char *)a->err.at);
    assert_int_equal(a->exit, code);
    assert_true(test_says(&a->out, words));
}

/* ---- the overview --------------------------------------------------------------------------------------------------- */

/* FP8 of one block under a long name. */
static const char *packed(void)
{
    static const char config[] = "{\"quantization_config\": {\n \"quant_method\": \"fp8\",\n \"weight_block_size\": [2, 2]}}";
    test_file("packed/config.json", config, sizeof config - 1);
    counting("packed/model.safetensors",
             "{\"model.layers.10.mlp.experts.127.gate_up_proj_of_many.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[2,2],\"data_offsets\":[0,4]},"
             "\"model.layers.10.mlp.experts.127.gate_up_proj_of_many.weight_scale_inv\":{\"dtype\":\"F32\",\"shape\":[1,1],"
             "\"data_offsets\":[4,8]},\"n\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}", 3);
    return test_path("packed");
}

static void a_list_has_columns_as_wide_as_what_they_hold(void **state)
{
    (void)state;
    struct test_answer a = test_tool("apr-inspect", packed(), "--tensors", "--full", NULL);
    assert_string_equal((const char *)a.out.at,
                        "tensor                                                                   dtype      shape   offset  size\n"
                        "model.layers.10.mlp.experts.127.gate_up_proj_of_many.weight              FP8_BLOCK  [2, 2]     303     8\n"
                        "  model.layers.10.mlp.experts.127.gate_up_proj_of_many.weight            F8_E4M3    [2, 2]     303     4\n"
                        "  model.layers.10.mlp.experts.127.gate_up_proj_of_many.weight_scale_inv  F32        [1, 1]     307     4\n"
                        "n                                                                        F32        [1]        311     4\n");
    test_answer_free(&a);
}

static void a_filter_finds_what_a_weight_is_stored_in(void **state)
{
    (void)state;
    struct test_answer a = test_tool("apr-inspect", packed(), "--tensors", "--filter", "scale_inv", NULL);
    expect_says("by a part's name", &a, 0, "gate_up_proj_of_many.weight  FP8_BLOCK  [2, 2]");
    assert_false(test_says(&a.out, "\nn "));
    test_answer_free(&a);
    a = test_tool("apr-inspect", packed(), "--tensors", "--filter", "qweight", NULL);
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "no tensor matches --filter \"qweight\""));
    test_answer_free(&a);
}

static void an_object_is_one_line_and_its_members_are_near(void **state)
{
    (void)state;
    struct test_answer a = test_tool("apr-inspect", packed(), "--metadata", "--full", NULL);
    expect_says("compact", &a, 0, "{\"quant_method\":\"fp8\",\"weight_block_size\":[2,2]}\n");
    test_answer_free(&a);
    a = test_tool("apr-inspect", packed(), "--get", "quantization_config.quant_methods", NULL);
    assert_int_equal(a.exit, 1);
    assert_true(test_says(&a.err, "(did you mean \"quantization_config.quant_method\"?)"));
    test_answer_free(&a);
    a = test_tool("apr-inspect", packed(), "--tensor", "experts", NULL);
    assert_true(test_says(&a.err, "(did you mean \"model.layers.10.mlp.experts.127.gate_up_proj_of_many.weight\"?)"));
    test_answer_free(&a);
}

static void the_overview_says_what_a_model_is(void **state)
{
    (void)state;
    static const struct {
        const char *path, *word[6];
    } rows[] = {
        { TINY, { "gguf 3", "qwen2", "Q4_0", "attention", "Tiny Qwen2", "4.71" } },
        { "fixtures/qwen2", { "safetensors", "Qwen2ForCausalLM", "BF16", "in 3 files", "hidden size     64", "74,304" } },
        { "fixtures/qwen2.apr", { "apr 2.0", "qwen2", "BF16", "feed-forward", "rope base", "norms" } },
        { "fixtures/trace", { "aprt", "F32", "in 9 files", "2,144", "dtype", "32.00" } },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_answer a = test_tool("apr-inspect", rows[i].path, NULL);
        for (size_t k = 0; k < APR_LENGTH(rows[i].word); k++)
            expect_says(rows[i].path, &a, 0, rows[i].word[k]);
        test_answer_free(&a);
    }
}

static void several_models_follow_each_other(void **state)
{
    (void)state;
    struct test_answer a = test_tool("apr-inspect", TINY, "fixtures/qwen2.apr", NULL);
    expect_says("text", &a, 0, "\n\nfixtures/qwen2.apr\n");
    test_answer_free(&a);
    a = test_tool("apr-inspect", "--json", TINY, "fixtures/qwen2.apr", NULL);
    expect_says("JSON", &a, 0, "}\n{\"schema\":\"apr-inspect/1\"");
    test_answer_free(&a);
    a = test_tool("apr-inspect", "--json", "/nowhere", TINY, NULL);
    expect_says("a missing one", &a, 2, "\"text\":\"cannot open: No such file or directory\"}}\n{\"schema\"");
    test_answer_free(&a);
}

static void a_key_of_the_config_that_stands_twice_is_shown_once(void **state)
{
    (void)state;
    struct test_bytes model = { 0 };
    test_integer(&model, 2, 8);
    test_text(&model, "{}");
    test_file("twice/model.safetensors", model.at, model.n);
    const char *const config = "{\"n_layer\": 3, \"b\": {\"n_layer\": 9}, \"n_layer\": 4, \"c\": 1, \"b\": 2}";
    test_file("twice/config.json", config, strlen(config));
    struct test_answer a = test_tool("apr-inspect", test_path("twice"), "--metadata", "--json", NULL);
    expect_says("config.json", &a, 0, "\"config\":{\"n_layer\":4,\"c\":1,\"b\":2}");
    test_answer_free(&a);
    test_free(&model);
}

static void a_broken_config_is_told_and_stops_nothing(void **state)
{
    (void)state;
    test_file("broken/config.json", "{\"hidden_size\": 3, ", 19);
    counting("broken/model.safetensors", "{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 1);
    struct test_answer a = test_tool("apr-inspect", test_path("broken"), NULL);
    expect_says("overview", &a, 0, "error config.json: ");
    test_answer_free(&a);
}

/* ---- metadata ------------------------------------------------------------------------------------------------------- */

static void one_value_is_printed_raw(void **state)
{
    (void)state;
    static const struct {
        const char *key, *out;
        int         code;
    } rows[] = {
        { "x.text", "a \"b\"\n", 0 }, { "x.big", "9223372036854775809\n", 0 }, { "x.real", "1e-05\n", 0 },
        { "x.words", "one\ntwo words\n", 0 }, { "x.none", "", 1 },
    };
    const char *path = metadata_only("every.gguf", put_every_kind, 5);
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_answer a = test_tool("apr-inspect", path, "--get", rows[i].key, NULL);
        assert_int_equal(a.exit, rows[i].code);
        assert_string_equal((const char *)a.out.at, rows[i].out);
        test_answer_free(&a);
    }
    struct test_answer a = test_tool("apr-inspect", "fixtures/qwen2", "--get", "num_hidden_layers", NULL);
    expect_says("config.json", &a, 0, "2\n");
    test_answer_free(&a);
}

static void long_arrays_are_cut_unless_they_are_wanted_whole(void **state)
{
    (void)state;
    const char *path = metadata_only("every.gguf", put_every_kind, 5);
    struct test_answer a = test_tool("apr-inspect", path, "--json", NULL);
    expect_says("cut", &a, 0, "\"x.many\":{\"type\":\"u32\",\"len\":20,\"first\":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]}");
    test_answer_free(&a);
    a = test_tool("apr-inspect", path, "--json", "--metadata", "--full", NULL);
    expect_says("whole", &a, 0, "\"x.many\":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19]");
    test_answer_free(&a);
    a = test_tool("apr-inspect", path, "--metadata", "--full", NULL);
    expect_says("whole text", &a, 0, "\n    19: 19\n");
    test_answer_free(&a);
}

static void control_characters_never_reach_the_terminal(void **state)
{
    (void)state;
    static const char *const option[] = { "--quiet", "--metadata", "--tokenizer", "--tree" };
    const char *path = metadata_only("evil.gguf", put_evil, 2);
    for (size_t i = 0; i < APR_LENGTH(option); i++) {
        struct test_answer a = test_tool("apr-inspect", path, option[i], NULL);
        assert_int_equal(a.exit, 0);
        assert_null(strpbrk((const char *)a.out.at, "\033\007"));
        assert_false(test_says(&a.out, "1337"));
        test_answer_free(&a);
    }
}

/* ---- the tree ------------------------------------------------------------------------------------------------------- */

static void numbers_are_in_order_and_a_name_that_is_a_prefix_keeps_its_children(void **state)
{
    (void)state;
    const char *path = counting("tree.safetensors",
                                "{\"h.10.w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                                "\"h.9.w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]},"
                                "\"a.b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]},"
                                "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[12,20]}}", 5);
    struct test_answer a = test_tool("apr-inspect", path, "--tree", NULL);
    assert_string_equal((const char *)a.out.at, "a             3      12 B  F32 [2]  2 tensors\n"
                                                "  b           1       4 B  F32 [1]\n"
                                                "h             2       8 B  F32  2 tensors\n"
                                                "  9.w         1       4 B  F32 [1]\n"
                                                "  10.w        1       4 B  F32 [1]\n");
    test_answer_free(&a);
    a = test_tool("apr-inspect", path, "--tree", "--depth", "1", "--json", NULL);
    expect_says("JSON", &a, 0, "\"tree\":[{\"name\":\"a\",\"tensor\":\"a\",\"shape\":[2],\"tensor_count\":2,\"parameters\":3,"
                               "\"tensor_bytes\":12,\"dtypes\":[\"F32\"]},{\"name\":\"h\",\"tensor_count\":2,");
    test_answer_free(&a);
}

/* ---- one tensor ----------------------------------------------------------------------------------------------------- */

static void slices_are_numpys(void **state)
{
    (void)state;
    static const struct {
        const char *slice, *json;
    } rows[] = {
        { "1,2,3", "\"values\":23}" },
        { "0,1", "\"values\":[4,5,6,7]}" },
        { "-1,:,0", "\"values\":[12,16,20]}" },
        { ":,-1:,1:3", "\"values\":[[[9,10]],[[21,22]]]}" },
        { "1:1", "\"slice\":[[1,1],[0,3],[0,4]],\"values\":[]}" },
        { "0:1,:2,-2:", "\"values\":[[[2,3],[6,7]]]}" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_answer a = test_tool("apr-inspect", cube(), "--json", "--tensor", "t", "--slice", rows[i].slice, NULL);
        expect_says(rows[i].slice, &a, 0, rows[i].json);
        test_answer_free(&a);
    }
}

/* 2^53 + 1 is no double; neither are its neighbours but every second. */
static void integers_of_64_bits_are_printed_to_the_last_digit(void **state)
{
    (void)state;
    static const struct {
        const char *dtype, *text, *json;
    } rows[] = {
        { "I64", " 9007199254740993 -9223372036854775808           -1\n", "\"values\":[9007199254740993,-9223372036854775808,-1]}" },
        { "U64", " 9007199254740993 9223372036854775808 18446744073709551615\n",
          "\"values\":[9007199254740993,9223372036854775808,18446744073709551615]}" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_bytes b = { 0 };
        char header[80];
        snprintf(header, sizeof header, "{\"t\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,24]}}", rows[i].dtype);
        test_integer(&b, strlen(header), 8);
        test_text(&b, header);
        test_integer(&b, (UINT64_C(1) << 53) + 1, 8);
        test_integer(&b, UINT64_C(1) << 63, 8);
        test_integer(&b, UINT64_MAX, 8);
        const char *path = test_file("integers.safetensors", b.at, b.n);
        struct test_answer a = test_tool("apr-inspect", path, "--tensor", "t", NULL);
        expect_says(rows[i].dtype, &a, 0, rows[i].text);
        test_answer_free(&a);
        a = test_tool("apr-inspect", path, "--json", "--tensor", "t", "--slice", ":", NULL);
        expect_says(rows[i].dtype, &a, 0, rows[i].json);
        test_answer_free(&a);
        test_free(&b);
    }
}

static void rows_without_values_are_not_gone_through(void **state)
{
    (void)state;
    static const struct {
        const char *header, *slice, *place;
    } rows[] = {
        { "{\"t\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,0],\"data_offsets\":[0,0]}}", ":",
          "\n[0:4611686018427387904, 0:0]\n" },
        { "{\"t\":{\"dtype\":\"I64\",\"shape\":[2147483648,0,1073741824],\"data_offsets\":[0,0]}}", "5:,:,7",
          "\n[5:2147483648, 0:0, 7]\n" },
        { "{\"t\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}", ":", "\n[0:0]\n" },
        { "{\"t\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}", ":,1:1", "\n[0:2, 1:1]\n" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const char *path = counting("empty.safetensors", rows[i].header, i == 3 ? 6 : 0);
        struct test_answer a = test_tool("apr-inspect", path, "--tensor", "t", "--slice", rows[i].slice, NULL);
        expect_says(rows[i].place, &a, 0, rows[i].place);
        test_answer_free(&a);
        a = test_tool("apr-inspect", path, "--json", "--tensor", "t", "--slice", rows[i].slice, NULL);
        expect_says(rows[i].place, &a, 0, "\"values\":[]}");
        test_answer_free(&a);
    }
}

static void a_slice_that_leaves_the_tensor_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *slice, *why;
    } rows[] = {
        { "2", "dimension 0 has 2" }, { "0:3", "dimension 0 has 2" }, { ":,-4:", "dimension 1 has 3" }, { "1:0", "dimension 0 has 2" },
        { "", "dimension 0 has 2" }, { "0,x", "dimension 1 has 3" }, { "0,0,0,0", "only 3 dimensions" },
        { "99999999999999999999:", "dimension 0 has 2" }, { "0,", "dimension 1 has 3" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_answer a = test_tool("apr-inspect", cube(), "--tensor", "t", "--slice", rows[i].slice, NULL);
        assert_int_equal(a.exit, 2);
        assert_true(test_says(&a.err, rows[i].why));
        test_answer_free(&a);
    }
}

static void bytes_and_blocks_are_sliced_too(void **state)
{
    (void)state;
    static const struct {
        const char *how, *slice, *words;
        int         code;
    } rows[] = {
        { "--hex", "4:8", "  00 00 80 3f " , 0 },
        { "--hex", "97:", "", 2 },
        { "--blocks", "0", "", 2 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_answer a = test_tool("apr-inspect", cube(), "--tensor", "t", rows[i].how, "--slice", rows[i].slice, NULL);
        expect_says(rows[i].slice, &a, rows[i].code, rows[i].words);
        test_answer_free(&a);
    }
    struct test_answer a = test_tool("apr-inspect", TINY, "--tensor", "blk.0.attn_q.weight", "--blocks", "--slice", "1:2", "--json", NULL);
    expect_says("a block of Q4_0", &a, 0,
                "\"blocks\":[{\"block\":1,\"element\":32,\"offset\":5426,\"d\":-0.00604248046875,\"qs\":[154,42,201,");
    test_answer_free(&a);
}

/* ---- the tokenizer -------------------------------------------------------------------------------------------------- */

static void put_text(const char *name, const char *text) { test_file(name, text, strlen(text)); }

static void the_tokenizer_of_a_folder_is_read(void **state)
{
    (void)state;
    counting("hf/model.safetensors", "{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 1);
    put_text("hf/tokenizer.json", "{\"added_tokens\":[{\"id\":3,\"content\":\"<\\u001b>\",\"special\":true}],\"model\":{\"type\":\"BPE\","
                                  "\"vocab\":{\"b\":1,\"a\":0,\"\\\"\":2},\"merges\":[\"a b\"]}}");
    put_text("hf/tokenizer_config.json", "{\"eos_token\":{\"content\":\"<\\u001b>\"},\"chat_template\":\"{{ 1 }}\"}");
    struct test_answer a = test_tool("apr-inspect", test_path("hf"), "--tokenizer", "--json", NULL);
    expect_says("JSON", &a, 0, "\"tokenizer\":{\"model\":\"BPE\",\"pre\":null,\"size\":4,\"merges\":1,\"control\":1,\"special\":[{\"id\":3,"
                               "\"text\":\"<\\u001b>\",\"role\":\"eos\"}],\"first\":[{\"id\":0,\"text\":\"a\"},{\"id\":1,\"text\":\"b\"},"
                               "{\"id\":2,\"text\":\"\\\"\"},{\"id\":3,\"text\":\"<\\u001b>\"}]");
    test_answer_free(&a);
    a = test_tool("apr-inspect", test_path("hf"), "--tokenizer", NULL);
    expect_says("text", &a, 0, "       3  <\\x1b>  eos\n");
    expect_says("text", &a, 0, "chat template (7 bytes, not rendered)\n  {{ 1 }}\n");
    test_answer_free(&a);
    a = test_tool("apr-inspect", TINY, "--tokenizer", NULL);
    expect_says("none", &a, 0, "no tokenizer\n");
    test_answer_free(&a);
}

/* ---- the check ------------------------------------------------------------------------------------------------------ */

static void a_check_ends_with_its_verdict(void **state)
{
    (void)state;
    static const char header[] = "{\"t\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    struct test_bytes b = { 0 };
    test_integer(&b, sizeof header - 1, 8);
    test_text(&b, header);
    test_floats(&b, (const float[]){ 1, (float)NAN }, 2);
    const char *path = test_file("nan.safetensors", b.at, b.n);
    test_free(&b);
    struct test_answer a = test_tool("apr-inspect", path, "--check", NULL);
    expect_says("a NaN", &a, 1, "error    7 ");
    expect_says("a NaN", &a, 1, "\nnot sound, 1 error");
    test_answer_free(&a);
    a = test_tool("apr-inspect", path, "--check=fast", NULL);
    expect_says("its header", &a, 0, "sound  (stages 1 to 6; no tensor data was read)\n");
    test_answer_free(&a);
    a = test_tool("apr-inspect", TINY, "--check", NULL);
    expect_says("a sound model", &a, 0, "\nsound, 1 warning\n");
    test_answer_free(&a);
}

/* ---- usage ---------------------------------------------------------------------------------------------------------- */

static void an_optional_argument_never_takes_the_next_word(void **state)
{
    (void)state;
    struct test_answer a = test_tool("apr-inspect", "--json", "--check", TINY, NULL);
    expect_says("alone", &a, 0, "\"findings\":[");
    test_answer_free(&a);
    a = test_tool("apr-inspect", "--json", "--check=fast", TINY, NULL);
    expect_says("with a word", &a, 0, "\"findings\":[");
    test_answer_free(&a);
    a = test_tool("apr-inspect", "--check=sometimes", TINY, NULL);
    assert_int_equal(a.exit, 2);
    assert_true(test_says(&a.err, "--check takes nothing or one of =fast, not \"sometimes\""));
    test_answer_free(&a);
    a = test_tool("apr-inspect", "--help", NULL);
    expect_says("help", &a, 0, "  --check[=fast] ");
    test_answer_free(&a);
}

static void options_that_make_no_sense_are_usage(void **state)
{
    (void)state;
    static const char *const rows[][4] = {
        { NULL }, { TINY, "--slice", "0", NULL }, { TINY, "--hex", NULL }, { TINY, "--filter", "re:(", NULL },
        { TINY, TINY, "--html=x", NULL },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_answer a = test_tool("apr-inspect", rows[i][0], rows[i][1], rows[i][2], rows[i][3], NULL);
        assert_int_equal(a.exit, 2);
        assert_true(test_says(&a.err, "usage: apr-inspect"));
        test_answer_free(&a);
    }
}

/* At every length a file either has its index whole, and so many tensors, or says that it has not. */
static void a_file_cut_short_says_how_much_of_it_is_there(void **state)
{
    (void)state;
    static const char *const files[] = { "fixtures/qwen2.apr", "fixtures/qwen2-q8_0.gguf", "fixtures/qwen2/model-00002-of-00003.safetensors" };
    for (size_t f = 0; f < APR_LENGTH(files); f++) {
        struct test_bytes whole = test_load(files[f]);
        long long before = -1;
        for (size_t n = 16; n <= whole.n; n += n < whole.n && n + 3001 > whole.n ? whole.n - n : 3001) {
            const char *const path = test_file("cut", whole.at, n);
            struct test_answer a = test_tool("apr-inspect", "--json", "--partial", path, NULL);
            json_t *const json = json_loads((const char *)a.out.at, 0, NULL), *const partial = json_object_get(json, "partial");
            const long long tensors = json_integer_value(json_object_get(partial, "tensors")), there = json_integer_value(json_object_get(partial, "whole"));
            assert_non_null(json);
            if (a.exit == 2) {
                assert_int_equal(before, -1); /* once the index is there, it is there */
            } else {
                assert_true(there >= before && there == json_integer_value(json_object_get(json, "tensor_count")));
                assert_int_equal(a.exit, there < tensors);
                assert_int_equal(json_is_null(json_object_get(partial, "first_cut")), there == tensors);
                before = there;
            }
            if (n == whole.n)
                assert_int_equal(a.exit, 0);
            json_decref(json);
            test_answer_free(&a);
        }
        test_free(&whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_cut_short_says_how_much_of_it_is_there),
        cmocka_unit_test(a_list_has_columns_as_wide_as_what_they_hold),
        cmocka_unit_test(a_filter_finds_what_a_weight_is_stored_in),
        cmocka_unit_test(an_object_is_one_line_and_its_members_are_near),
        cmocka_unit_test(the_overview_says_what_a_model_is),
        cmocka_unit_test(several_models_follow_each_other),
        cmocka_unit_test(a_key_of_the_config_that_stands_twice_is_shown_once),
        cmocka_unit_test(a_broken_config_is_told_and_stops_nothing),
        cmocka_unit_test(one_value_is_printed_raw),
        cmocka_unit_test(long_arrays_are_cut_unless_they_are_wanted_whole),
        cmocka_unit_test(control_characters_never_reach_the_terminal),
        cmocka_unit_test(numbers_are_in_order_and_a_name_that_is_a_prefix_keeps_its_children),
        cmocka_unit_test(slices_are_numpys),
        cmocka_unit_test(integers_of_64_bits_are_printed_to_the_last_digit),
        cmocka_unit_test(rows_without_values_are_not_gone_through),
        cmocka_unit_test(a_slice_that_leaves_the_tensor_is_refused),
        cmocka_unit_test(bytes_and_blocks_are_sliced_too),
        cmocka_unit_test(the_tokenizer_of_a_folder_is_read),
        cmocka_unit_test(a_check_ends_with_its_verdict),
        cmocka_unit_test(an_optional_argument_never_takes_the_next_word),
        cmocka_unit_test(options_that_make_no_sense_are_usage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
