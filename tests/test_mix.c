/* lib/family/mix.h, preset.h: which dtype each tensor gets under a preset, against what llama-quantize says of small models. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "family/mix.h"
#include "support.h"
#include "values/dtype.h"

static void a_preset_is_known_by_its_name_its_alias_and_its_number(void **state)
{
    (void)state;
    static const struct {
        const char *word, *name;
    } rows[] = {
        { "Q4_K_M", "Q4_K_M" }, { "q4_k_m", "Q4_K_M" }, { "Q4_K", "Q4_K_M" }, { "q3_k", "Q3_K_M" }, { "Q5_k", "Q5_K_M" },
        { "iq2_s", "IQ2_S" },   { "Q2_K", "Q2_K" },     { "15", "Q4_K_M" },   { "0", "F32" },       { "7", "Q8_0" },
        { "41", "Q2_0" },       { "COPY", NULL },       { "NVFP4", NULL },    { "39", NULL },       { "4", NULL },
        { "33", NULL },         { "Q6_K_M", NULL },     { "MXFP4", NULL },    { "", NULL },         { "015", NULL },
        { "1x", NULL },         { "-1", NULL },         { "Q4_K_M ", NULL },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        const struct apr_preset *p = apr_preset_of(rows[i].word);
        if ((p == NULL) != (rows[i].name == NULL) || (p != NULL && strcmp(p->name, rows[i].name) != 0))
            fail_msg("\"%s\" is %s", rows[i].word, p == NULL ? "none" : p->name);
    }
}

static void each_preset_has_the_name_of_its_file_type(void **state)
{
    (void)state;
    size_t n = 0;
    for (const struct apr_preset *p; (p = apr_preset_at(n)) != NULL; n++) {
        assert_string_equal(apr_ggml_file_type(p->file_type), p->name);
        assert_ptr_equal(apr_preset_of(p->name), p);
        assert_true(n == 0 || apr_preset_at(n - 1)->file_type < p->file_type);
    }
    assert_int_equal(n, 35);
}

/* ---- what llama-quantize says --------------------------------------------------------------------------------------- */

/* A model of the fixture: its tensors in the order in which they are told, each block's together. */
static struct {
    struct apr_mix   mix;
    char             architecture[32], name[1024][64];
    uint64_t         dim[1024][3];
    struct apr_mixed tensor[1024];
    size_t           n;
} model;

static const struct apr_dtype *dtype_named(const char *word, size_t n)
{
    for (const struct apr_dtype *d = apr_dtypes; d < apr_dtypes + APR_NDTYPES; d++)
        if (strlen(d->name) == n && memcmp(d->name, word, n) == 0)
            return d;
    fail_msg("no dtype %s", word);
    return NULL;
}

static void begin_model(const char *line)
{
    memset(&model, 0, sizeof model);
    struct apr_mix *m = &model.mix;
    const int n = sscanf(line, "model %31s blocks %u heads %u %u experts %u", model.architecture, &m->nblock, &m->nhead, &m->nhead_kv,
                         &m->nexpert);
    assert_int_equal(n, 5);
    m->architecture = apr_text(model.architecture);
}

static void add(const char *name, const uint64_t dim[3], unsigned ndim)
{
    const size_t i = model.n++;
    assert_true(i < APR_LENGTH(model.tensor) && strlen(name) < sizeof model.name[i]);
    strcpy(model.name[i], name);
    memcpy(model.dim[i], dim, sizeof model.dim[i]);
    model.tensor[i] = (struct apr_mixed){ .name = apr_text(model.name[i]), .ndim = ndim, .dim = model.dim[i], .from = &apr_dtypes[APR_F32],
                                          .has_importance = true };
}

/* "has blk.attn_q.weight 2 256" */
static void add_tensors(const char *line)
{
    char name[32], text[64];
    uint64_t dim[3] = { 0 };
    const int ndim = sscanf(line, "has %31s %" SCNu64 " %" SCNu64 " %" SCNu64, name, &dim[0], &dim[1], &dim[2]) - 1;
    assert_true(ndim > 0);
    if (strncmp(name, "blk.", 4) != 0) {
        add(name, dim, (unsigned)ndim);
        return;
    }
    for (unsigned i = 0; i < model.mix.nblock; i++) {
        snprintf(text, sizeof text, "blk.%u.%s", i, name + 4);
        add(text, dim, (unsigned)ndim);
    }
}

/* The fixture's rules are texts that stand in a name. */
static void add_rule(const char *rule)
{
    const char *to = strchr(rule, '=');
    assert_non_null(to);
    for (size_t i = 0; i < model.n; i++) {
        struct apr_mixed *t = &model.tensor[i];
        if (t->ruled == NULL && memmem(t->name.at, t->name.n, rule, (size_t)(to - rule)) != NULL)
            t->ruled = dtype_named(to + 1, strlen(to + 1));
    }
}

static void set_options(char *words)
{
    char *rest;
    struct apr_mix *m = &model.mix;
    m->pure = m->imatrix = m->leave_output = false;
    m->output = m->embedding = NULL;
    for (size_t i = 0; i < model.n; i++)
        model.tensor[i].ruled = NULL;
    m->preset = apr_preset_of(strtok_r(words, " ", &rest));
    assert_non_null(m->preset);
    for (const char *word; (word = strtok_r(NULL, " ", &rest)) != NULL;)
        if (strncmp(word, "rule:", 5) == 0)
            add_rule(word + 5);
        else if (strncmp(word, "output:", 7) == 0)
            m->output = dtype_named(word + 7, strlen(word + 7));
        else if (strncmp(word, "embedding:", 10) == 0)
            m->embedding = dtype_named(word + 10, strlen(word + 10));
        else
            *(strcmp(word, "pure") == 0 ? &m->pure : strcmp(word, "imatrix") == 0 ? &m->imatrix : &m->leave_output) = true;
}

/* "0-1,4,7": is it one of those? */
static bool in_ranges(const char *ranges, unsigned block)
{
    unsigned from, to;
    int n = 0;
    for (const char *at = ranges; *at != '\0' && *at != ' '; at += *at == ',') {
        assert_int_equal(sscanf(at, "%u%n", &from, &n), 1);
        at += n;
        to = from;
        if (*at == '-') {
            assert_int_equal(sscanf(at + 1, "%u%n", &to, &n), 1);
            at += n + 1;
        }
        if (block >= from && block <= to)
            return true;
    }
    return false;
}

/* What " NAME=TYPE[/BLOCKS] ..." says of a tensor. */
static const struct apr_dtype *told(const char *line, const struct apr_mixed *t)
{
    unsigned block = 0;
    int behind = 0;
    const char *own = (const char *)t->name.at;
    const bool inside = sscanf(own, "blk.%u.%n", &block, &behind) == 1 && behind > 0;
    char name[64];
    const size_t n = (size_t)snprintf(name, sizeof name, " %s%s=", inside ? "blk." : "", own + (inside ? behind : 0));
    for (const char *at = line; (at = strstr(at, name)) != NULL; at += n) {
        const size_t length = strcspn(at + n, "/ ");
        if (at[n + length] != '/' || in_ranges(at + n + length + 1, block))
            return dtype_named(at + n, length);
    }
    return &apr_dtypes[t->ndim == 1 ? APR_F32 : model.mix.preset->dtype];
}

static void expect_line(char *line)
{
    struct apr_error e = { 0 };
    char *answer = strstr(line, ": "), *const colon = answer != NULL ? answer : strrchr(line, ':'), shown[512];
    assert_non_null(colon);
    snprintf(shown, sizeof shown, "%s %s", model.architecture, line);
    *colon = '\0';
    set_options(line);
    for (size_t i = model.n; i > 1; i--) { /* in any order */
        const size_t k = test_random(i);
        const struct apr_mixed swapped = model.tensor[i - 1];
        model.tensor[i - 1] = model.tensor[k];
        model.tensor[k] = swapped;
    }
    const bool refused = strcmp(colon + 1, " refused") == 0;
    const enum apr_code code = apr_mix_choose(&model.mix, model.tensor, model.n, &e);
    if (code != (refused ? APR_EARG : APR_OK))
        fail_msg("%s: code %d %s", shown, code, code == APR_OK ? "" : e.text);
    for (size_t i = 0; !refused && i < model.n; i++) {
        const struct apr_mixed *t = &model.tensor[i];
        if (t->dtype != told(colon + 1, t))
            fail_msg("%s: %s is %s, expected %s", shown, (const char *)t->name.at, t->dtype->name, told(colon + 1, t)->name);
    }
}

static void every_tensor_gets_the_dtype_that_llama_quantize_gives_it(void **state)
{
    (void)state;
    struct test_bytes b = test_load("fixtures/mixes.txt");
    test_integer(&b, 0, 1);
    size_t lines = 0;
    char *rest;
    for (char *line = strtok_r((char *)b.at, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, "model ", 6) == 0)
            begin_model(line);
        else if (strncmp(line, "has ", 4) == 0)
            add_tensors(line);
        else {
            expect_line(line);
            lines++;
        }
    }
    assert_true(lines > 300);
    test_free(&b);
}

/* ---- around it ------------------------------------------------------------------------------------------------------ */

static void names_stand_by_block_then_by_bytes(void **state)
{
    (void)state;
    static const char *const names[] = { "blk.x.weight", "enc.blk.0.weight", "output.weight", "output_norm.weight", "token_embd.weight",
                                         "blk.0.attn_k.weight", "blk.0.attn_norm.weight", "blk.2.attn_k.bias", "blk.2.attn_k.weight",
                                         "blk.10.attn_k.weight", "blk.99999999999999999999.attn_k.weight" };
    for (size_t i = 0; i < APR_LENGTH(names); i++)
        for (size_t k = 0; k < APR_LENGTH(names); k++) {
            const int order = apr_mix_order(apr_text(names[i]), apr_text(names[k]));
            assert_int_equal((order > 0) - (order < 0), (i > k) - (i < k));
        }
}

static void a_refusal_names_the_tensor_the_dtype_the_preset_and_what_is_missing(void **state)
{
    (void)state;
    static const struct {
        const char *preset;
        bool        imatrix, has;
        uint64_t    dim[4];
        const char *text;
    } rows[] = {
        { "IQ2_XXS", false, false, { 1, 1, 2, 256 }, "tensor \"blk.0.x.weight\" becomes IQ2_XXS (preset IQ2_XXS), which needs an importance matrix: --imatrix FILE gives one" },
        { "Q2_K_S", false, true, { 1, 1, 2, 256 }, "tensor \"blk.0.x.weight\" becomes Q2_K (preset Q2_K_S), which needs an importance matrix: --imatrix FILE gives one" },
        { "IQ2_S", true, false, { 1, 1, 2, 256 },
          "tensor \"blk.0.x.weight\" becomes IQ2_XS (preset IQ2_S), and the imatrix has no entry for it" },
        { "Q1_0", false, false, { 1, 1, 2, 192 },
          "tensor \"blk.0.x.weight\" has rows of 192 elements, no whole blocks of Q1_0 (128), and there is no dtype in its place "
          "(preset Q1_0)" },
        { "Q8_0", false, false, { 2, 1, 2, 256 },
          "tensor \"blk.0.x.weight\" has 4 dimensions: only matrices and stacks of them become Q8_0 (preset Q8_0)" },
        { "IQ2_XXS", true, true, { 1, 1, 2, 256 }, NULL },
        { "IQ2_XXS", false, false, { 1, 1, 2, 250 }, NULL }, /* F16 */
        { "F32", false, false, { 2, 2, 2, 250 }, NULL },     /* as it was */
        { "Q8_0", false, false, { 1, 2, 2, 250 }, NULL },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct apr_error e = { 0 };
        const struct apr_mix m = { .preset = apr_preset_of(rows[i].preset), .architecture = apr_text("llama"), .nblock = 1,
                                   .imatrix = rows[i].imatrix };
        struct apr_mixed t = { .name = apr_text("blk.0.x.weight"), .ndim = 4, .dim = rows[i].dim, .from = &apr_dtypes[APR_F32],
                               .has_importance = rows[i].has };
        assert_int_equal(apr_mix_choose(&m, &t, 1, &e), rows[i].text == NULL ? APR_OK : APR_EARG);
        if (rows[i].text != NULL)
            assert_string_equal(e.text, rows[i].text);
    }
}

/* llama-quantize writes such blocks and then finds them broken. */
static void an_option_whose_blocks_do_not_fit_is_refused(void **state)
{
    (void)state;
    struct apr_error e;
    const uint64_t dim[] = { 3, 288 };
    struct apr_mix m = { .preset = apr_preset_of("Q4_K_M"), .architecture = apr_text("llama"), .nblock = 1 };
    struct apr_mixed t[] = { { .name = apr_text("output.weight"), .ndim = 2, .dim = dim, .from = &apr_dtypes[APR_F32] },
                             { .name = apr_text("token_embd.weight"), .ndim = 2, .dim = dim, .from = &apr_dtypes[APR_F32] } };
    m.output = m.embedding = &apr_dtypes[APR_Q5_1];
    assert_int_equal(apr_mix_choose(&m, t, 2, &e), APR_OK);
    m.embedding = &apr_dtypes[APR_Q4_K];
    assert_int_equal(apr_mix_choose(&m, t, 2, &e), APR_EARG);
    assert_non_null(strstr(e.text, "tensor \"token_embd.weight\" has rows of 288 elements, no whole blocks of Q4_K (256)"));
    m.output = &apr_dtypes[APR_Q4_K];
    assert_int_equal(apr_mix_choose(&m, t, 2, &e), APR_EARG);
    assert_non_null(strstr(e.text, "tensor \"output.weight\""));
}

static void blocks_that_are_carried_over_want_an_imatrix_but_no_entry(void **state)
{
    (void)state;
    struct apr_error e;
    const uint64_t dim[] = { 2, 256 };
    struct apr_mix m = { .preset = apr_preset_of("IQ2_XXS"), .architecture = apr_text("llama"), .nblock = 1, .imatrix = true };
    struct apr_mixed t = { .name = apr_text("blk.0.x.weight"), .ndim = 2, .dim = dim, .from = &apr_dtypes[APR_IQ2_XXS] };
    assert_int_equal(apr_mix_choose(&m, &t, 1, &e), APR_OK);
    assert_true(t.needs_importance && t.dtype == t.from);
    m.imatrix = false;
    assert_int_equal(apr_mix_choose(&m, &t, 1, &e), APR_EARG);
    t.name = apr_text("blk.0.x_norm.weight");
    assert_int_equal(apr_mix_choose(&m, &t, 1, &e), APR_OK);
    assert_true(!t.needs_importance && t.dtype == t.from);
}

static struct apr_value number(uint32_t n) { return (struct apr_value){ .type = APR_META_U32, .u = n }; }

static void what_a_mix_asks_of_a_model_stands_in_its_keys(void **state)
{
    (void)state;
    const struct apr_value heads = { .type = APR_META_ARRAY, .element = APR_META_U32, .encoding = APR_GGUF_LE, .n = 2,
                                     .text = { (const unsigned char *)"\x08\0\0\0\x04\0\0\0", 8 } };
    struct apr_meta_entry entry[] = {
        { apr_text("general.architecture"), { .type = APR_META_STRING, .text = apr_text("nanbeige") } },
        { apr_text("nanbeige.block_count"), number(22) },
        { apr_text("nanbeige.attention.head_count"), heads },
        { apr_text("nanbeige.expert_count"), number(4) },
        { apr_text("nanbeige.num_loops"), number(2) },
        { apr_text("nanbeige.nextn_predict_layers"), number(1) },
        { apr_text("nanbeige.attention.head_count_kv"), number(2) },
    };
    struct apr_meta meta = { .entry = entry, .n = APR_LENGTH(entry) };
    struct apr_mix m = { .nblock = 1 };
    apr_mix_read(&m, &meta);
    assert_true(apr_bytes_is(m.architecture, "nanbeige"));
    assert_int_equal(m.nblock, 44);
    assert_int_equal(m.npredict, 1);
    assert_int_equal(m.nhead, 8);
    assert_int_equal(m.nhead_kv, 2);
    assert_int_equal(m.nexpert, 4);
    meta.n = 3;
    apr_mix_read(&m, &meta);
    assert_int_equal(m.nblock, 22);
    assert_int_equal(m.nhead_kv, 8);
    assert_int_equal(m.nexpert, 0);
    meta.n = 0;
    apr_mix_read(&m, &meta);
    assert_true(m.architecture.n == 0 && m.nblock == 0 && m.nhead == 0 && m.nhead_kv == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_preset_is_known_by_its_name_its_alias_and_its_number),
        cmocka_unit_test(each_preset_has_the_name_of_its_file_type),
        cmocka_unit_test(every_tensor_gets_the_dtype_that_llama_quantize_gives_it),
        cmocka_unit_test(names_stand_by_block_then_by_bytes),
        cmocka_unit_test(a_refusal_names_the_tensor_the_dtype_the_preset_and_what_is_missing),
        cmocka_unit_test(an_option_whose_blocks_do_not_fit_is_refused),
        cmocka_unit_test(blocks_that_are_carried_over_want_an_imatrix_but_no_entry),
        cmocka_unit_test(what_a_mix_asks_of_a_model_stands_in_its_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
