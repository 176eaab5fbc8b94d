#include "support.h"

#include <stdio.h>

#include "model/meta.h"
#include "model/model.h"
#include "model/open.h"

/* ---- files by hand ------------------------------------------------------------------------------------------------- */

enum { F32 = 0, Q8_0 = 8, Q4_K = 12 };

static size_t put_string(struct test_bytes *b, const char *text)
{
    const size_t at = test_integer(b, strlen(text), 8);
    test_text(b, text);
    return at;
}

static size_t put_key(struct test_bytes *b, const char *name, enum apr_meta_type type)
{
    const size_t at = put_string(b, name);
    test_integer(b, type, 4);
    return at;
}

static void put_integer_key(struct test_bytes *b, const char *name, enum apr_meta_type type, uint64_t v)
{
    put_key(b, name, type);
    test_integer(b, v, apr_meta_width(type));
}

static void put_header(struct test_bytes *b, uint32_t version, uint64_t ntensors, uint64_t nkeys)
{
    test_text(b, "GGUF");
    test_integer(b, version, 4);
    test_integer(b, ntensors, 8);
    test_integer(b, nkeys, 8);
}

/* Dims fastest first, as they stand in the file; none from the first 0 on. */
static size_t put_tensor(struct test_bytes *b, const char *name, uint64_t d0, uint64_t d1, uint32_t type, uint64_t offset)
{
    const size_t at = put_string(b, name);
    const uint32_t ndim = d0 == 0 ? 0 : d1 == 0 ? 1 : 2;
    test_integer(b, ndim, 4);
    if (ndim > 0)
        test_integer(b, d0, 8);
    if (ndim > 1)
        test_integer(b, d1, 8);
    test_integer(b, type, 4);
    test_integer(b, offset, 8);
    return at;
}

/* Three tensors: their names, where their data lies, and the bytes of the data section. */
struct layout {
    const char *name[3];
    uint64_t    offset[3];
    size_t      data;
};
static const struct layout plain = { { "a", "b", "c" }, { 0, 512, 640 }, 800 };

enum place { NOWHERE, VERSION, NTENSORS, NKEYS, ARCH, ARCH_TYPE, ARCH_VALUE, EXTRA, A, A_NDIM, A_DIM, A_TYPE, B, B_OFFSET, C, C_NAME,
             C_ROW, C_DIM, C_TYPE, C_OFFSET, INFO_END, DATA, DATA_C, NPLACES };

/* general.architecture, then nextra keys that are ready in extra, then the tensors a F32 [4, 32], b F32 [32], c Q8_0 [2, 64]. */
static struct test_bytes three(const struct layout *l, const struct test_bytes *extra, uint64_t nextra, bool big, size_t at[NPLACES])
{
    struct test_bytes b = { .big = big };
    put_header(&b, 3, 3, 1 + nextra);
    at[VERSION] = 4, at[NTENSORS] = 8, at[NKEYS] = 16;
    at[ARCH] = put_key(&b, "general.architecture", APR_META_STRING);
    at[ARCH_TYPE] = b.n - 4;
    at[ARCH_VALUE] = put_string(&b, "none");
    at[EXTRA] = test_put(&b, extra->at, extra->n);
    at[A] = put_tensor(&b, l->name[0], 32, 4, F32, l->offset[0]);
    at[A_NDIM] = b.n - 32, at[A_DIM] = b.n - 28, at[A_TYPE] = b.n - 12;
    at[B] = put_tensor(&b, l->name[1], 32, 0, F32, l->offset[1]);
    at[B_OFFSET] = b.n - 8;
    at[C] = put_tensor(&b, l->name[2], 64, 2, Q8_0, l->offset[2]);
    at[C_NAME] = at[C] + 8, at[C_ROW] = b.n - 28, at[C_DIM] = b.n - 20, at[C_TYPE] = b.n - 12, at[C_OFFSET] = b.n - 8;
    at[INFO_END] = b.n;
    test_align(&b, 32);
    at[DATA] = b.n, at[DATA_C] = b.n + l->offset[2];
    for (size_t i = 0; i < l->data; i++)
        test_integer(&b, i * 37 % 251, 1);
    return b;
}

static void patch(struct test_bytes *b, size_t at, uint64_t v, unsigned width)
{
    struct test_bytes new = { .big = b->big };
    test_integer(&new, v, width);
    memcpy(b->at + at, new.at, width);
    test_free(&new);
}

static const struct apr_note *note(const struct apr_model *m, const char *code)
{
    for (size_t i = 0; i < m->nnote; i++)
        if (strcmp(m->note[i].code, code) == 0)
            return &m->note[i];
    return NULL;
}

static const struct test_bytes nothing = { 0 };

/* ---- what is read -------------------------------------------------------------------------------------------------- */

static void tensors_are_views_with_their_shape_turned_round(void **state)
{
    (void)state;
    for (int big = 0; big < 2; big++) {
        size_t at[NPLACES];
        struct test_bytes b = three(&plain, &nothing, 0, big, at);
        struct apr_model *m = test_open(big ? "big" : "little", "good.gguf", &b, APR_OK, 0, NULL);
        assert_string_equal(m->version, "3");
        assert_int_equal(m->ntensor, 3);
        const struct apr_tensor *c = apr_model_find(m, apr_text("c"));
        assert_non_null(c);
        assert_ptr_equal(c->dtype, &apr_dtypes[APR_Q8_0]);
        assert_int_equal(c->ndim, 2);
        assert_int_equal(c->dim[0], 2);
        assert_int_equal(c->dim[1], 64);
        assert_int_equal(c->count, 128);
        assert_int_equal(c->data.n, 4 * 34);
        assert_int_equal(apr_tensor_offset(m, c), at[DATA_C]);
        assert_memory_equal(c->data.at, b.at + at[DATA_C], c->data.n);
        assert_int_equal(c->swapped, big);
        assert_true(apr_bytes_is(apr_meta_string(&m->meta, "general.architecture"), "none"));
        assert_int_equal(note(m, "gguf.big_endian") != NULL, big);
        assert_int_equal(m->nnote, 1 + big); /* no general.quantization_version */
        apr_close(m);
        test_free(&b);
    }
}

static void every_value_type_is_read_in_both_byte_orders(void **state)
{
    static const struct { enum apr_meta_type type; uint64_t bits; int64_t i; double f; } scalar[] = {
        { APR_META_U8, 0xFE, 0xFE, 0 },          { APR_META_I8, 0xFE, -2, 0 },
        { APR_META_U16, 0xFEDC, 0xFEDC, 0 },     { APR_META_I16, 0xFFFD, -3, 0 },
        { APR_META_U32, 0xFEDCBA98, 0xFEDCBA98, 0 }, { APR_META_I32, 0xFFFFFFFC, -4, 0 },
        { APR_META_F32, 0x3FC00000, 0, 1.5 },    { APR_META_F64, 0xC004000000000000, 0, -2.5 },
        { APR_META_U64, 1ull << 62, 1ll << 62, 0 }, { APR_META_I64, (uint64_t)-5, -5, 0 },
    };
    (void)state;
    for (int big = 0; big < 2; big++) {
        struct test_bytes extra = { .big = big };
        char name[32];
        for (size_t i = 0; i < APR_LENGTH(scalar); i++) {
            snprintf(name, sizeof name, "one.%zu", i);
            put_integer_key(&extra, name, scalar[i].type, scalar[i].bits);
            snprintf(name, sizeof name, "list.%zu", i);
            put_key(&extra, name, APR_META_ARRAY);
            test_integer(&extra, scalar[i].type, 4);
            test_integer(&extra, 3, 8);
            for (int k = 0; k < 3; k++)
                test_integer(&extra, scalar[i].bits, apr_meta_width(scalar[i].type));
        }
        put_integer_key(&extra, "yes", APR_META_BOOL, 1);
        put_key(&extra, "words", APR_META_ARRAY);
        test_integer(&extra, APR_META_STRING, 4);
        test_integer(&extra, 2, 8);
        put_string(&extra, "");
        put_string(&extra, "last");
        put_key(&extra, "empty", APR_META_ARRAY);
        test_integer(&extra, APR_META_I32, 4);
        test_integer(&extra, 0, 8);

        size_t at[NPLACES];
        struct test_bytes b = three(&plain, &extra, 2 * APR_LENGTH(scalar) + 3, big, at);
        struct apr_model *m = test_open("values", "values.gguf", &b, APR_OK, 0, NULL);
        for (size_t i = 0; i < 2 * APR_LENGTH(scalar); i++) {
            const size_t k = i / 2;
            struct apr_value v = m->meta.entry[1 + i].value;
            if (i % 2 == 1) {
                assert_int_equal(v.type, APR_META_ARRAY);
                assert_int_equal(v.n, 3);
                struct apr_elements w = apr_elements_of(&v);
                for (int step = 0; step < 3; step++)
                    assert_true(apr_elements_next(&w, &v));
                apr_elements_end(&w);
            }
            assert_int_equal(v.type, scalar[k].type);
            if (v.type == APR_META_F32 || v.type == APR_META_F64)
                assert_true(v.f == scalar[k].f);
            else
                assert_true(v.i == scalar[k].i);
        }
        assert_true(apr_meta_find(&m->meta, "yes")->b);
        struct apr_elements w = apr_elements_of(apr_meta_find(&m->meta, "words"));
        struct apr_value v;
        assert_true(apr_elements_next(&w, &v) && v.text.n == 0);
        assert_true(apr_elements_next(&w, &v) && apr_bytes_is(v.text, "last"));
        assert_false(apr_elements_next(&w, &v));
        apr_elements_end(&w);
        assert_int_equal(apr_meta_find(&m->meta, "empty")->n, 0);
        apr_close(m);
        test_free(&b);
        test_free(&extra);
    }
}

static void scalars_and_empty_tensors_are_tensors(void **state)
{
    (void)state;
    struct test_bytes b = { 0 };
    put_header(&b, 2, 2, 0);
    put_tensor(&b, "scalar", 0, 0, F32, 0);
    put_tensor(&b, "empty", 64, 1, Q8_0, 32);
    patch(&b, b.n - 20, 0, 8);
    test_align(&b, 32);
    test_zeros(&b, 32);
    struct apr_model *m = test_open("scalar", "scalar.gguf", &b, APR_OK, 0, NULL);
    assert_string_equal(m->version, "2");
    assert_int_equal(m->tensor[0].ndim, 0);
    assert_int_equal(m->tensor[0].count, 1);
    assert_int_equal(m->tensor[0].data.n, 4);
    assert_int_equal(m->tensor[1].count, 0);
    assert_int_equal(m->tensor[1].dim[1], 64);
    assert_int_equal(m->tensor[1].data.n, 0);
    assert_non_null(note(m, "gguf.no_architecture"));
    apr_close(m);
    test_free(&b);
}

/* ---- what is refused ----------------------------------------------------------------------------------------------- */

static void broken_files_are_named_not_followed(void **state)
{
    static const struct {
        const char   *what;
        enum place    field;
        unsigned      width;
        uint64_t      v;
        enum apr_code code;
        enum place    at;
        const char   *words;
    } row[] = {
        { "version 0", VERSION, 4, 0, APR_ECORRUPT, VERSION, "version 0, expected 2 or 3" },
        { "version 1", VERSION, 4, 1, APR_EUNSUPPORTED, VERSION, "version 1" },
        { "version 4", VERSION, 4, 4, APR_EUNSUPPORTED, VERSION, "version 4, expected 2 or 3" },
        { "big-endian version 128", VERSION, 4, 1u << 31, APR_EUNSUPPORTED, VERSION, "version 128 (big-endian)" },
        { "a tensor too many", NTENSORS, 8, 4, APR_ECORRUPT, NOWHERE, "" },
        { "2^40 tensors", NTENSORS, 8, 1ull << 40, APR_ECORRUPT, NTENSORS, "promises 1099511627776 tensors" },
        { "2^64 / 24 tensors", NTENSORS, 8, 0x0AAAAAAAAAAAAAAB, APR_ECORRUPT, NTENSORS, "tensors, the" },
        { "-1 tensors", NTENSORS, 8, UINT64_MAX, APR_ECORRUPT, NTENSORS, "tensors, the" },
        { "a key too many", NKEYS, 8, 2, APR_ECORRUPT, NOWHERE, "" },
        { "2^63 keys", NKEYS, 8, 1ull << 63, APR_ECORRUPT, NKEYS, "keys, the" },
        { "an empty key", ARCH, 8, 0, APR_ECORRUPT, ARCH, "key 1 of 1 has an empty name" },
        { "a key of 2^64 - 1 bytes", ARCH, 8, UINT64_MAX, APR_ECORRUPT, ARCH, "a name of 18446744073709551615 bytes" },
        { "a value of type 13", ARCH_TYPE, 4, 13, APR_ECORRUPT, ARCH_TYPE, "\"general.architecture\": a value of type 13" },
        { "a string of 2^63 bytes", ARCH_VALUE, 8, 1ull << 63, APR_ECORRUPT, ARCH_VALUE, "a string of 9223372036854775808 bytes" },
        { "a name of 2^30 bytes", C, 8, 1u << 30, APR_ECORRUPT, C, "tensor 3 of 3: its entry, with a name of 1073741824 bytes" },
        { "a name twice", C_NAME, 1, 'a', APR_ECORRUPT, C, "\"a\"" },
        { "5 dimensions", A_NDIM, 4, 5, APR_ECORRUPT, A_NDIM, "\"a\" has 5 dimensions, expected 4 at most" },
        { "a negative dimension", A_DIM, 8, UINT64_MAX, APR_ECORRUPT, A_DIM, "a dimension of 18446744073709551615" },
        { "a shape beyond 64 bits", A_DIM, 8, 1ull << 62, APR_ECORRUPT, A, "64 bits" },
        { "a size beyond 64 bits", C_DIM, 8, (1ull << 59) + 1, APR_ECORRUPT, C, "\"c\"" },
        { "type 4", A_TYPE, 4, 4, APR_EUNSUPPORTED, A_TYPE, "\"a\": GGML type 4, Q4_2, was removed" },
        { "type 99", A_TYPE, 4, 99, APR_EUNSUPPORTED, A_TYPE, "\"a\": GGML type 99 is not known" },
        { "type 2^31", A_TYPE, 4, 1u << 31, APR_EUNSUPPORTED, A_TYPE, "2147483648" },
        { "half a block in a row", C_ROW, 8, 33, APR_ECORRUPT, C, "\"c\": a row of 33 elements, expected whole Q8_0 blocks of 32" },
        { "a Q4_K row of 64", C_TYPE, 4, Q4_K, APR_ECORRUPT, C, "Q4_K blocks of 256" },
        { "an offset between", B_OFFSET, 8, 520, APR_ECORRUPT, B_OFFSET, "\"b\": offset 520, expected a multiple of the alignment, 32" },
        { "an offset past the end", C_OFFSET, 8, 1024, APR_ECORRUPT, C, "past the end of the file" },
        { "an offset that wraps", C_OFFSET, 8, UINT64_MAX - 31, APR_ECORRUPT, C, "past the end of the file" },
        { "one tensor in another", C_OFFSET, 8, 608, APR_ECORRUPT, NOWHERE, "\"c\" begins at byte" },
        { "two tensors on one place", B_OFFSET, 8, 0, APR_ECORRUPT, DATA, "inside tensor \"b\"" },
    };
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        size_t at[NPLACES];
        struct test_bytes b = three(&plain, &nothing, 0, false, at);
        patch(&b, at[row[i].field], row[i].v, row[i].width);
        test_open(row[i].what, "broken.gguf", &b, row[i].code, row[i].at == NOWHERE ? APR_NOWHERE : at[row[i].at], row[i].words);
        test_free(&b);
    }
}

/* A key added to a good file. `at` counts from the key's entry, -1: not looked at. */
static void broken_keys_are_named_not_followed(void **state)
{
    enum { U32 = APR_META_U32, I32, BOOL = APR_META_BOOL, STR, ARR, U64, F64 = APR_META_F64 };
    static const struct {
        const char   *what, *name;
        uint32_t      type;
        struct { uint64_t v; unsigned width; } part[4];
        enum apr_code code;
        int           at;
        const char   *words;
    } row[] = {
        { "a key twice", "general.architecture", U32, { { 1, 4 } }, APR_ECORRUPT, 0,
          "\"general.architecture\" stands twice, first at byte 24" },
        { "a type of 2^32 - 1", "x", UINT32_MAX, { { 0, 8 } }, APR_ECORRUPT, 9, "type 4294967295" },
        { "an array of type 13", "x", ARR, { { 13, 4 }, { 0, 8 } }, APR_ECORRUPT, 13, "an array of type 13" },
        { "2^62 numbers", "x", ARR, { { U32, 4 }, { 1ull << 62, 8 } }, APR_ECORRUPT, 13, "an array of 4611686018427387904 u32 of 4 bytes" },
        { "a size that wraps to 8", "x", ARR, { { F64, 4 }, { (1ull << 61) + 1, 8 } }, APR_ECORRUPT, 13, "f64 of 8 bytes" },
        { "2^40 booleans", "x", ARR, { { BOOL, 4 }, { 1ull << 40, 8 } }, APR_ECORRUPT, 13, "bool" },
        { "2^40 strings", "x", ARR, { { STR, 4 }, { 1ull << 40, 8 } }, APR_ECORRUPT, 13, "str of 8 bytes at least" },
        { "2^40 empty arrays", "x", ARR, { { ARR, 4 }, { 1ull << 40, 8 } }, APR_ECORRUPT, 13, "arr of 12 bytes at least" },
        { "a string in an array that is too long", "x", ARR, { { STR, 4 }, { 1, 8 }, { 1u << 20, 8 } }, APR_ECORRUPT, 25, "1048576" },
        { "alignment 0", "general.alignment", U32, { { 0, 4 } }, APR_ECORRUPT, 0, "general.alignment is 0, expected a power of two" },
        { "alignment 24", "general.alignment", U32, { { 24, 4 } }, APR_ECORRUPT, 0, "24" },
        { "alignment u64", "general.alignment", U64, { { 32, 8 } }, APR_ECORRUPT, 0, "of type u64, expected u32" },
        { "alignment [32]", "general.alignment", ARR, { { U32, 4 }, { 1, 8 }, { 32, 4 } }, APR_ECORRUPT, 0, "of type arr" },
        { "alignment 2^30", "general.alignment", U32, { { 1u << 30, 4 } }, APR_ECORRUPT, -1, "\"b\": offset 512" },
        { "split.count as text", "split.count", STR, { { 0, 8 } }, APR_ECORRUPT, 0, "split.count, of type str" },
        { "split.no -1", "split.no", I32, { { UINT32_MAX, 4 } }, APR_ECORRUPT, 0, "split.no, of type i32" },
        { "no split.no", "split.count", U32, { { 2, 4 } }, APR_ECORRUPT, -1, "split.no is 0 (absent)" },
        { "2^17 shards", "split.count", U32, { { 1u << 17, 4 } }, APR_ELIMIT, 0, "131072" },
    };
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        struct test_bytes extra = { 0 };
        size_t at[NPLACES];
        put_key(&extra, row[i].name, row[i].type);
        for (size_t k = 0; k < APR_LENGTH(row[i].part); k++)
            test_integer(&extra, row[i].part[k].v, row[i].part[k].width);
        struct test_bytes b = three(&plain, &extra, 1, false, at);
        test_open(row[i].what, "broken.gguf", &b, row[i].code, row[i].at < 0 ? APR_NOWHERE : at[EXTRA] + (size_t)row[i].at, row[i].words);
        test_free(&b);
        test_free(&extra);
    }
}

static void arrays_in_arrays_have_a_bottom(void **state)
{
    static const struct { unsigned depth; enum apr_code code; } row[] = {
        { 1, APR_OK }, { 2, APR_OK }, { 16, APR_OK }, { 17, APR_ELIMIT }, { 20000, APR_ELIMIT },
    };
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        struct test_bytes extra = { 0 };
        size_t at[NPLACES];
        put_key(&extra, "x.deep", APR_META_ARRAY);
        for (unsigned k = 1; k <= row[i].depth; k++) {
            test_integer(&extra, k < row[i].depth ? APR_META_ARRAY : APR_META_U32, 4);
            test_integer(&extra, 1, 8);
        }
        test_integer(&extra, 7, 4);
        struct test_bytes b = three(&plain, &extra, 1, false, at);
        struct apr_model *m = test_open("nested", "nested.gguf", &b, row[i].code, APR_NOWHERE, "\"x.deep\": arrays in arrays");
        if (m != NULL)
            assert_int_equal(note(m, "gguf.nested_array") != NULL, row[i].depth > 1);
        apr_close(m);
        test_free(&b);
        test_free(&extra);
    }
}

static void a_file_cut_anywhere_is_refused(void **state)
{
    (void)state;
    size_t at[NPLACES];
    struct test_bytes b = three(&plain, &nothing, 0, false, at);
    const size_t whole = at[DATA_C] + 4 * 34;
    for (b.n = 4; b.n < whole; b.n++)
        test_open("cut", "cut.gguf", &b, APR_ECORRUPT, APR_NOWHERE, b.n < at[DATA] ? NULL : "past the end of the file");
    b.n = at[DATA] - 1;
    test_open("no header padding", "cut.gguf", &b, APR_ECORRUPT, at[INFO_END], "the data section begins at byte");
    b.n = whole;
    struct apr_model *m = test_open("no padding", "cut.gguf", &b, APR_OK, 0, NULL);
    assert_int_equal(note(m, "gguf.padding")->at, whole);
    apr_close(m);
    test_free(&b);
}

/* An alignment that moves the data behind the end of the file, with offsets it allows. */
static void a_huge_alignment_leads_nowhere(void **state)
{
    (void)state;
    struct test_bytes b = { 0 };
    put_header(&b, 3, 1, 1);
    put_integer_key(&b, "general.alignment", APR_META_U32, 1u << 31);
    put_tensor(&b, "a", 8, 0, F32, 0);
    const size_t end = b.n;
    test_align(&b, 32);
    test_zeros(&b, 32);
    test_open("2^31", "far.gguf", &b, APR_ECORRUPT, end, "the data section begins at byte 2147483648");
    test_free(&b);
}

/* ---- what is noted ------------------------------------------------------------------------------------------------- */

static void oddities_of_the_layout_are_noted(void **state)
{
    static const char long_name[] = "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn";
    static const struct { const char *code; enum apr_severity severity; struct layout layout; const char *tensor; } row[] = {
        { "gguf.gap", APR_WARNING, { { "a", "b", "c" }, { 0, 512, 704 }, 864 }, "c" },
        { "gguf.gap", APR_WARNING, { { "a", "b", "c" }, { 32, 544, 672 }, 832 }, "a" },
        { "gguf.order", APR_WARNING, { { "a", "b", "c" }, { 128, 0, 640 }, 800 }, "a" },
        { "gguf.trailing", APR_WARNING, { { "a", "b", "c" }, { 0, 512, 640 }, 801 }, "" },
        { "gguf.padding", APR_INFO, { { "a", "b", "c" }, { 0, 512, 640 }, 799 }, "" },
        { "gguf.long_name", APR_WARNING, { { "a", long_name, "c" }, { 0, 512, 640 }, 800 }, long_name },
        { "gguf.control_name", APR_FAULT, { { "a", "b", "\x1b[31mc" }, { 0, 512, 640 }, 800 }, "\x1b[31mc" },
    };
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        size_t at[NPLACES];
        struct test_bytes b = three(&row[i].layout, &nothing, 0, false, at);
        struct apr_model *m = test_open(row[i].code, "odd.gguf", &b, APR_OK, 0, NULL);
        const struct apr_note *n = note(m, row[i].code);
        assert_non_null(n);
        assert_int_equal(n->severity, row[i].severity);
        assert_true(apr_bytes_equal(n->tensor, apr_text(row[i].tensor)));
        assert_int_equal(m->nnote, 2);
        apr_close(m);
        test_free(&b);
    }
}

static void oddities_of_the_keys_are_noted(void **state)
{
    static const struct { const char *code; enum apr_severity severity; const char *name; enum apr_meta_type type; uint64_t v; } row[] = {
        { "gguf.bool", APR_WARNING, "x", APR_META_BOOL, 7 },
        { "gguf.bad_key", APR_FAULT, "x.\xc0\xaf", APR_META_U32, 1 },
        { "gguf.bad_key", APR_FAULT, "x\n", APR_META_U32, 1 },
        { "gguf.key_style", APR_INFO, "X.y", APR_META_U32, 1 },
        { "gguf.alignment", APR_WARNING, "general.alignment", APR_META_U32, 4 },
    };
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        struct test_bytes extra = { 0 };
        size_t at[NPLACES];
        put_integer_key(&extra, "general.quantization_version", APR_META_U32, 2);
        put_integer_key(&extra, row[i].name, row[i].type, row[i].v);
        struct test_bytes b = three(&plain, &extra, 2, false, at);
        test_zeros(&b, 32);
        struct apr_model *m = test_open(row[i].code, "odd.gguf", &b, APR_OK, 0, NULL);
        assert_non_null(note(m, row[i].code));
        assert_int_equal(note(m, row[i].code)->severity, row[i].severity);
        assert_null(note(m, "gguf.no_quantization_version"));
        apr_close(m);
        test_free(&b);
        test_free(&extra);
    }
    struct test_bytes extra = { 0 };
    size_t at[NPLACES];
    put_key(&extra, "x", APR_META_STRING);
    put_string(&extra, "\xff\xfe");
    struct test_bytes b = three(&plain, &extra, 1, false, at);
    struct apr_model *m = test_open("bad UTF-8", "odd.gguf", &b, APR_OK, 0, NULL);
    assert_int_equal(note(m, "gguf.bad_utf8")->at, at[EXTRA] + 13);
    apr_close(m);
    test_free(&b);
    test_free(&extra);
}

/* ---- many, and split ----------------------------------------------------------------------------------------------- */

static void a_hundred_thousand_keys_stay_quick_and_unique(void **state)
{
    (void)state;
    enum { N = 100000 };
    struct test_bytes extra = { 0 };
    size_t at[NPLACES];
    char name[32];
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "key.%d", i);
        put_integer_key(&extra, name, APR_META_U8, (uint64_t)i & 0xFF);
    }
    struct test_bytes b = three(&plain, &extra, N, false, at);
    struct apr_model *m = test_open("many", "many.gguf", &b, APR_OK, 0, NULL);
    assert_int_equal(m->meta.n, N + 1);
    apr_close(m);
    test_free(&b);
    const size_t last = put_key(&extra, "key.77", APR_META_U8);
    test_integer(&extra, 0, 1);
    b = three(&plain, &extra, N + 1, false, at);
    test_open("one twice", "many.gguf", &b, APR_ECORRUPT, at[EXTRA] + last, "\"key.77\" stands twice");
    test_free(&b);
    test_free(&extra);
}

/* Types of the split keys; 0 (U8, which none has): left out. tensor NULL: none. */
static struct test_bytes shard_of_types(const char *tensor, uint64_t no, uint64_t count, uint64_t total, bool first, const unsigned type[3])
{
    static const char *const key[] = { "split.no", "split.count", "split.tensors.count" };
    const uint64_t value[] = { no, count, total };
    struct test_bytes b = { 0 };
    put_header(&b, 3, tensor != NULL, (first ? 5 : 4) - (uint64_t)(type[0] == 0) - (type[1] == 0) - (type[2] == 0));
    if (first) {
        put_key(&b, "general.architecture", APR_META_STRING);
        put_string(&b, "none");
    }
    for (size_t i = 0; i < APR_LENGTH(key); i++)
        if (type[i] != 0)
            put_integer_key(&b, key[i], type[i], value[i]);
    put_integer_key(&b, "general.alignment", APR_META_U32, first ? 64 : 32);
    if (tensor == NULL)
        return b;
    put_tensor(&b, tensor, 8, 0, F32, 0);
    test_align(&b, first ? 64 : 32);
    test_zeros(&b, first ? 64 : 32);
    return b;
}

static const unsigned split_types[3] = { APR_META_U16, APR_META_U16, APR_META_I32 };

static struct test_bytes shard(const char *tensor, uint64_t no, uint64_t count, uint64_t total, bool first)
{
    return shard_of_types(tensor, no, count, total, first, split_types);
}

/* Its types are exact for llama.cpp; what they say is clear all the same, so the model is read. */
static void split_keys_of_other_types_are_read_and_noted(void **state)
{
    static const struct {
        const char *what, *first, *second;
        unsigned    type[3];
        const char *code, *words;
    } row[] = {
        { "as they should be", "a", "b", { APR_META_U16, APR_META_U16, APR_META_I32 }, NULL, NULL },
        { "a first file without tensors", NULL, "b", { APR_META_U16, APR_META_U16, APR_META_I32 }, NULL, NULL },
        { "a number of 32 bits", "a", "b", { APR_META_U32, APR_META_U16, APR_META_I32 }, "gguf.split_type", "split.no is of type u32, expected u16" },
        { "a number with a sign", "a", "b", { APR_META_I16, APR_META_U16, APR_META_I32 }, "gguf.split_type", "split.no is of type i16" },
        { "a count of 64 bits", "a", "b", { APR_META_U16, APR_META_U64, APR_META_I32 }, "gguf.split_type", "split.count is of type u64" },
        { "a total of 64 bits", "a", "b", { APR_META_U16, APR_META_U16, APR_META_U64 }, "gguf.split_type", "expected i32" },
        { "a total without a sign", "a", "b", { APR_META_U16, APR_META_U16, APR_META_U32 }, "gguf.split_type", "expected i32" },
        { "no total", "a", "b", { APR_META_U16, APR_META_U16, 0 }, "gguf.split_missing", "has no split.tensors.count" },
        { "an empty second file", "a", NULL, { APR_META_U16, APR_META_U16, APR_META_I32 }, "gguf.split_empty", "no tensors" },
    };
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        const uint64_t total = (row[i].first != NULL) + (uint64_t)(row[i].second != NULL);
        struct test_bytes one = shard_of_types(row[i].first, 0, 2, total, true, row[i].type);
        struct test_bytes two = shard_of_types(row[i].second, 1, 2, total, false, row[i].type);
        test_file("t-00001-of-00002.gguf", one.at, one.n);
        struct apr_model *m = test_open(row[i].what, "t-00002-of-00002.gguf", &two, APR_OK, APR_NOWHERE, NULL);
        assert_int_equal(m->ntensor, total);
        const struct apr_note *n = row[i].code == NULL ? NULL : note(m, row[i].code);
        if (row[i].code == NULL ? m->nnote != 0 : n == NULL || n->severity != APR_FAULT || strstr(n->text, row[i].words) == NULL)
            fail_msg("%s: %s", row[i].what, m->nnote > 0 ? m->note[0].text : "no note");
        apr_close(m);
        test_free(&one);
        test_free(&two);
    }
}

static void shards_make_one_model(void **state)
{
    static const struct { const char *what, *tensor; uint64_t first_no, no, count, total; enum apr_code code; const char *words; } row[] = {
        { "sound", "b", 0, 1, 2, 2, APR_OK, NULL },
        { "another total", "b", 0, 1, 2, 3, APR_OK, NULL },
        { "one tensor in both", "a", 0, 1, 2, 2, APR_ECORRUPT, "\"a\"" },
        { "both the second", "b", 1, 1, 2, 2, APR_ECORRUPT, "split.no is 1 in the first shard" },
        { "both the first", "b", 0, 0, 2, 2, APR_ECORRUPT, NULL },
        { "of two sets", "b", 0, 1, 9, 2, APR_ECORRUPT, NULL },
    };
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        struct test_bytes one = shard("a", row[i].first_no, 2, row[i].total, true);
        struct test_bytes two = shard(row[i].tensor, row[i].no, row[i].count, row[i].total, false);
        test_file("m-00001-of-00002.gguf", one.at, one.n);
        struct apr_model *m = test_open(row[i].what, "m-00002-of-00002.gguf", &two, row[i].code, APR_NOWHERE, row[i].words);
        if (m != NULL) {
            assert_int_equal(m->nfile, 2);
            assert_int_equal(m->ntensor, 2);
            assert_int_equal(m->meta.n, 5);
            assert_int_equal(m->tensor[1].file, 1);
            assert_int_equal(note(m, "gguf.split_total") != NULL, row[i].total != 2);
            assert_null(note(m, "gguf.no_architecture"));
        }
        apr_close(m);
        test_free(&one);
        test_free(&two);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_views_with_their_shape_turned_round),
        cmocka_unit_test(every_value_type_is_read_in_both_byte_orders),
        cmocka_unit_test(scalars_and_empty_tensors_are_tensors),
        cmocka_unit_test(broken_files_are_named_not_followed),
        cmocka_unit_test(broken_keys_are_named_not_followed),
        cmocka_unit_test(arrays_in_arrays_have_a_bottom),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(a_huge_alignment_leads_nowhere),
        cmocka_unit_test(oddities_of_the_layout_are_noted),
        cmocka_unit_test(oddities_of_the_keys_are_noted),
        cmocka_unit_test(a_hundred_thousand_keys_stay_quick_and_unique),
        cmocka_unit_test(shards_make_one_model),
        cmocka_unit_test(split_keys_of_other_types_are_read_and_noted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
