#include "support.h"

#include <libdeflate.h>
#include <lz4.h>
#include <zstd.h>

#include "base/bytes.h"
#include "files/source.h"
#include "model/format.h"
#include "model/meta.h"
#include "model/open.h"

/* ---- files by hand ------------------------------------------------------------------------------------------------- */

enum { F32 = 0, BF16 = 30, APR_Q8_BYTE = 129, ROW_MAJOR = 1 << 10 };

struct part {
    const char *name;
    uint8_t     byte, ndim;
    uint64_t    dim[3];
    size_t      size;
};

static void put_at(struct test_bytes *b, size_t at, uint64_t v, unsigned width)
{
    for (unsigned i = 0; i < width; i++)
        b->at[at + i] = (unsigned char)(v >> 8 * i);
}

static void renew_header_crc(struct test_bytes *b)
{
    put_at(b, 40, libdeflate_crc32(libdeflate_crc32(0, b->at, 40), b->at + 44, 20), 4);
}

/* Metadata, parts in their order, data in the same order counting up from 0; no footer. */
static struct test_bytes without_footer(const char *metadata, unsigned flags, const struct part *part, size_t n)
{
    struct test_bytes b = { 0 };
    test_put(&b, "APR\0\2", 6);
    test_integer(&b, flags, 2);
    test_integer(&b, n, 4);
    test_integer(&b, 64, 8);
    test_integer(&b, strlen(metadata), 4);
    test_zeros(&b, 40);
    test_text(&b, metadata);
    test_align(&b, 64);
    put_at(&b, 24, b.n, 8);
    uint64_t offset = 0;
    for (size_t i = 0; i < n; i++) {
        test_integer(&b, strlen(part[i].name), 2);
        test_text(&b, part[i].name);
        test_integer(&b, part[i].byte, 1);
        test_integer(&b, part[i].ndim, 1);
        for (unsigned k = 0; k < part[i].ndim; k++)
            test_integer(&b, part[i].dim[k], 8);
        test_integer(&b, offset, 8);
        test_integer(&b, part[i].size, 8);
        offset += (part[i].size + 63) / 64 * 64;
    }
    test_align(&b, 64);
    put_at(&b, 32, b.n, 8);
    for (uint64_t i = 0; i < offset; i++)
        test_integer(&b, i * 37 % 251, 1);
    renew_header_crc(&b);
    return b;
}

static void put_footer(struct test_bytes *b)
{
    test_integer(b, libdeflate_crc32(0, b->at, b->n), 4);
}

/* Offsets that the tables below count on: metadata 64, index 128, its entries 128, 165, 194, data 256, footer 512. */
static const struct part three[] = { { "a", F32, 2, { 4, 8 }, 128 }, { "b", BF16, 1, { 10 }, 20 }, { "c", APR_Q8_BYTE, 1, { 6 }, 10 } };
enum { ENTRY_A = 128, ENTRY_B = 165, ENTRY_C = 194, DATA = 256, END = 512 };

static struct test_bytes good_with(unsigned flags)
{
    struct test_bytes b = without_footer("{\"name\": \"x\"}", flags, three, APR_LENGTH(three));
    put_footer(&b);
    return b;
}

static struct test_bytes good(void) { return good_with(ROW_MAJOR); }

static const struct apr_note *note_called(const struct apr_model *m, const char *code)
{
    for (size_t i = 0; i < m->nnote; i++)
        if (strcmp(m->note[i].code, code) == 0)
            return &m->note[i];
    return NULL;
}

/* ---- good files ---------------------------------------------------------------------------------------------------- */

static void expect_three(const char *what, const struct apr_model *m, const struct test_bytes *plain)
{
    static const enum apr_dtype_id dtype[] = { APR_F32, APR_BF16, APR_APR_Q8 };
    static const size_t at[] = { 0, 128, 192 };
    if (m->ntensor != 3)
        fail_msg("%s: %zu tensors", what, m->ntensor);
    for (size_t i = 0; i < 3; i++) {
        const struct apr_tensor *t = &m->tensor[i];
        if (!apr_bytes_equal(t->name, apr_text(three[i].name)) || t->dtype != &apr_dtypes[dtype[i]] || t->ndim != three[i].ndim ||
            memcmp(t->dim, three[i].dim, sizeof three[i].dim) != 0 || t->data.n != three[i].size || t->row != t->count ||
            memcmp(t->data.at, plain->at + DATA + at[i], t->data.n) != 0)
            fail_msg("%s: tensor %s is not as written", what, three[i].name);
    }
    assert_true(apr_bytes_is(apr_meta_string(&m->meta, "name"), "x"));
    assert_string_equal(m->version, "2.0");
}

static void every_tensor_is_where_its_entry_says(void **state)
{
    (void)state;
    struct test_bytes b = good();
    struct apr_model *m = test_open("a good file", "good.apr", &b, APR_OK, 0, NULL);
    struct apr_error e;
    expect_three("a good file", m, &b);
    assert_int_equal(m->nnote, 0);
    assert_int_equal(m->format->verify(m, m->file[0], &e), APR_OK);
    apr_close(m);
    test_free(&b);
}

/* Each row: a byte, a shape and a size, and what they can only mean. */
static void a_dtype_byte_is_told_by_the_size_it_comes_with(void **state)
{
    (void)state;
    static const struct {
        struct part       part;
        enum apr_dtype_id dtype;
        uint64_t          row;
    } rows[] = {
        { { "t", 0, 0, { 0 }, 4 }, APR_F32, 1 },
        { { "t", 1, 1, { 5 }, 10 }, APR_F16, 5 },
        { { "t", 2, 2, { 3, 32 }, 54 }, APR_Q4_0, 96 },
        { { "t", 3, 2, { 3, 32 }, 768 }, APR_F64, 96 },
        { { "t", 3, 2, { 3, 32 }, 60 }, APR_Q4_1, 96 },
        { { "t", 4, 1, { 3 }, 12 }, APR_I32, 3 },
        { { "t", 5, 1, { 3 }, 24 }, APR_I64, 3 },
        { { "t", 6, 2, { 3, 32 }, 96 }, APR_I8, 96 },
        { { "t", 6, 2, { 3, 32 }, 66 }, APR_Q5_0, 96 },
        { { "t", 7, 2, { 3, 32 }, 96 }, APR_U8, 96 },
        { { "t", 7, 2, { 3, 32 }, 72 }, APR_Q5_1, 96 },
        { { "t", 8, 2, { 3, 32 }, 54 }, APR_APR_Q4, 96 },
        { { "t", 8, 2, { 3, 32 }, 102 }, APR_Q8_0, 96 },
        { { "t", 9, 2, { 3, 32 }, 100 }, APR_APR_Q8, 96 },
        { { "t", 9, 1, { 32 }, 36 }, APR_APR_Q8, 32 },
        { { "t", 10, 1, { 256 }, 84 }, APR_Q2_K, 256 },
        { { "t", 11, 1, { 256 }, 110 }, APR_Q3_K, 256 },
        { { "t", 13, 1, { 256 }, 176 }, APR_Q5_K, 256 },
        { { "t", 16, 1, { 256 }, 66 }, APR_IQ2_XXS, 256 },
        { { "t", 17, 1, { 256 }, 74 }, APR_IQ2_XS, 256 },
        { { "whole rows", 12, 2, { 3, 512 }, 6 * 144 }, APR_Q4_K, 1536 },
        { { "padded rows", 12, 2, { 3, 896 }, 12 * 144 }, APR_Q4_K, 896 },
        { { "flat, the last block partial", 12, 2, { 3, 896 }, 11 * 144 }, APR_Q4_K, 2688 },
        { { "short padded rows", 14, 2, { 5, 320 }, 10 * 210 }, APR_Q6_K, 320 },
        { { "three dimensions are flat", 14, 3, { 1, 5, 320 }, 7 * 210 }, APR_Q6_K, 1600 },
        { { "t", 128, 1, { 33 }, 36 }, APR_APR_Q4, 33 },
        { { "t", 129, 1, { 6 }, 10 }, APR_APR_Q8, 6 },
        { { "empty", 129, 2, { 0, 6 }, 0 }, APR_APR_Q8, 0 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_bytes b = without_footer("{}", 0x20, &rows[i].part, 1);
        struct apr_model *m = test_open(apr_dtypes[rows[i].dtype].name, "dtype.apr", &b, APR_OK, 0, NULL);
        const struct apr_tensor *t = m->tensor;
        if (t->dtype != &apr_dtypes[rows[i].dtype] || t->row != rows[i].row || t->data.n != rows[i].part.size)
            fail_msg("byte %u, %zu bytes (%s): %s, row %zu", rows[i].part.byte, rows[i].part.size, rows[i].part.name, t->dtype->name,
                     (size_t)t->row);
        apr_close(m);
        test_free(&b);
    }
}

static void a_placeholder_is_the_embedding_wherever_that_stands(void **state)
{
    (void)state;
    static const struct {
        const char   *what;
        struct part   part[2];
        size_t        n, tied;
        enum apr_code code;
        const char   *words;
    } rows[] = {
        { "the embedding behind it", { { "lm_head.weight", F32, 2, { 4, 8 }, 0 }, { "model.embed_tokens.weight", 1, 2, { 4, 8 }, 64 } },
          2, 0, APR_OK, NULL },
        { "the embedding before it", { { "a.embed_tokens.weight", 1, 2, { 4, 8 }, 64 }, { "lm_head.weight", F32, 2, { 4, 8 }, 0 } },
          2, 1, APR_OK, NULL },
        { "GGUF names", { { "output.weight", F32, 2, { 4, 8 }, 0 }, { "token_embd.weight", 1, 2, { 4, 8 }, 64 } },
          2, 0, APR_OK, NULL },
        { "another shape", { { "lm_head.weight", F32, 2, { 8, 4 }, 0 }, { "wte.weight", 1, 2, { 4, 8 }, 64 } },
          2, 0, APR_ECORRUPT, "another shape" },
        { "no embedding's name", { { "lm_head.weight", F32, 2, { 4, 8 }, 0 }, { "xembed_tokens.weight", 1, 2, { 4, 8 }, 64 } },
          2, 0, APR_ECORRUPT, "no embedding" },
        { "two placeholders", { { "lm_head.weight", F32, 2, { 4, 8 }, 0 }, { "wte.weight", F32, 2, { 4, 8 }, 0 } },
          2, 0, APR_ECORRUPT, "no embedding" },
        { "alone", { { "lm_head.weight", F32, 2, { 4, 8 }, 0 } },
          1, 0, APR_ECORRUPT, "no embedding" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_bytes b = without_footer("{}", ROW_MAJOR, rows[i].part, rows[i].n);
        struct apr_model *m = test_open(rows[i].what, "tied.apr", &b, rows[i].code, 128, rows[i].words);
        if (m != NULL) {
            const struct apr_tensor *t = &m->tensor[rows[i].tied], *other = &m->tensor[1 - rows[i].tied];
            if (!t->tied || other->tied || t->dtype != other->dtype || t->data.at != other->data.at || t->data.n != 64 ||
                note_called(m, "apr.placeholder") == NULL || note_called(m, "apr.overlap") != NULL)
                fail_msg("%s: not tied", rows[i].what);
        }
        apr_close(m);
        test_free(&b);
    }
}

static void of_metadata_keys_that_stand_twice_the_last_counts(void **state)
{
    (void)state;
    struct test_bytes b = without_footer("{\"name\": \"x\", \"layers\": 7, \"n\\u0061me\": \"y\"}", ROW_MAJOR, three, 3);
    struct apr_model *m = test_open("twins", "twins.apr", &b, APR_OK, 0, NULL);
    uint64_t layers = 0;
    assert_int_equal(m->meta.n, 2);
    assert_true(apr_bytes_is(apr_meta_string(&m->meta, "name"), "y"));
    assert_true(apr_meta_unsigned(&m->meta, "layers", &layers) && layers == 7);
    assert_non_null(note_called(m, "apr.metadata_twice"));
    apr_close(m);
    test_free(&b);
}

static void any_shard_opens_the_whole(void **state)
{
    (void)state;
    struct test_bytes first = without_footer("{\"sharding\": {\"shard_count\": 2, \"shard_index\": 0}}", ROW_MAJOR | 0x10, three, 2);
    struct test_bytes second = without_footer("{\"sharding\": {\"shard_count\": 2, \"shard_index\": 1}}", ROW_MAJOR | 0x10, three + 2, 1);
    struct test_bytes stray = without_footer("{\"sharding\": {\"shard_count\": 2, \"shard_index\": 2}}", ROW_MAJOR | 0x10, three, 2);
    test_file("m-00001-of-00002.apr", first.at, first.n);
    struct apr_model *m = test_open("the second shard", "m-00002-of-00002.apr", &second, APR_OK, 0, NULL);
    assert_int_equal(m->nfile, 2);
    assert_int_equal(m->ntensor, 3);
    assert_int_equal(m->tensor[2].file, 1);
    assert_int_equal(m->meta.n, 1);
    assert_null(note_called(m, "apr.metadata_twice"));
    apr_close(m);
    assert_null(test_open("no shard of two", "s-00002-of-00002.apr", &stray, APR_ECORRUPT, APR_NOWHERE, "shard 2 of 2"));
    test_free(&first);
    test_free(&second);
    test_free(&stray);
}

/* ---- packed files -------------------------------------------------------------------------------------------------- */

/* Two frames with a skippable one between them, or the size and one block. */
static struct test_bytes packed(const struct test_bytes *plain, bool zstd)
{
    struct test_bytes b = { 0 };
    const unsigned char *body = plain->at + 64;
    const size_t n = plain->n - 64, room = ZSTD_compressBound(n) + (size_t)LZ4_compressBound((int)n);
    char *scratch = malloc(room);
    assert_non_null(scratch);
    test_put(&b, plain->at, 64);
    if (zstd) {
        test_put(&b, scratch, ZSTD_compress(scratch, room, body, 100, 3));
        test_integer(&b, 0x184D2A50, 4);
        test_integer(&b, 3, 4);
        test_zeros(&b, 3);
        test_put(&b, scratch, ZSTD_compress(scratch, room, body + 100, n - 100, 3));
    } else {
        test_integer(&b, n, 4);
        test_put(&b, scratch, (size_t)LZ4_compress_default((const char *)body, scratch, (int)n, (int)room));
    }
    free(scratch);
    return b;
}

static void a_packed_file_is_read_as_what_it_unpacks_to(void **state)
{
    (void)state;
    for (unsigned flag = 1; flag <= 2; flag++)
        for (unsigned flagged_later = 0; flagged_later <= 1; flagged_later++) {
            struct test_bytes plain = good_with(flagged_later ? ROW_MAJOR : ROW_MAJOR | flag);
            if (flagged_later) {
                put_at(&plain, 6, ROW_MAJOR | flag, 2);
                renew_header_crc(&plain);
            }
            struct test_bytes b = packed(&plain, flag == 2);
            const char *what = flag == 2 ? "zstd" : "LZ4";
            struct apr_model *m = test_open(what, "packed.apr", &b, APR_OK, 0, NULL);
            struct apr_error e;
            expect_three(what, m, &plain);
            assert_int_equal(m->file[0]->stored, b.n);
            assert_int_equal(m->nnote, 0);
            assert_int_equal(m->format->verify(m, m->file[0], &e), APR_OK);
            apr_close(m);
            test_free(&b);
            test_free(&plain);
        }
}

static void a_flag_over_plain_bytes_is_noted(void **state)
{
    (void)state;
    for (unsigned flag = 1; flag <= 2; flag++) {
        struct test_bytes b = good_with(ROW_MAJOR | flag);
        struct apr_model *m = test_open("plain", "plain.apr", &b, APR_OK, 0, NULL);
        expect_three("plain", m, &b);
        assert_non_null(note_called(m, "apr.plain"));
        apr_close(m);
        test_free(&b);
    }
}

/* A good file changed before it is packed: by bytes behind its end, or at one place. */
static void a_packed_file_that_breaks_a_promise_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char   *what;
        size_t        more, at;
        uint64_t      value;
        unsigned      width;
        enum apr_code code;
        uint64_t      error_at;
        const char   *words;
    } rows[] = {
        { "a wrong footer", 0, END, 7, 4, APR_ECORRUPT, END, "CRC" },
        { "flipped data", 0, DATA, 99, 1, APR_ECORRUPT, END, "CRC" },
        { "a byte too many", 1, 0, 'A', 1, APR_ECORRUPT, 64, "unpacks to more" },
        { "a bomb", 1 << 22, 0, 'A', 1, APR_ECORRUPT, 64, "unpacks to more" },
        { "data beyond what is unpacked", 0, 32, 1024, 8, APR_ECORRUPT, 64, "unpacks to 516 bytes" },
        { "data far beyond", 0, 32, 1ULL << 40, 8, APR_ELIMIT, 32, "compressed" },
        { "a tensor beyond the end", 0, ENTRY_C + 13, 4096, 8, APR_ECORRUPT, ENTRY_C, "past the end" },
        { "both flags", 0, 6, 3, 2, APR_ECORRUPT, 6, "both" },
    };
    for (unsigned flag = 1; flag <= 2; flag++)
        for (size_t i = 0; i < APR_LENGTH(rows); i++) {
            struct test_bytes plain = good_with(ROW_MAJOR | flag);
            test_zeros(&plain, rows[i].more);
            put_at(&plain, rows[i].at, rows[i].value, rows[i].width);
            renew_header_crc(&plain);
            struct test_bytes b = packed(&plain, flag == 2);
            assert_null(test_open(rows[i].what, "bomb.apr", &b, rows[i].code, rows[i].error_at, rows[i].words));
            test_free(&b);
            test_free(&plain);
        }
}

/* ---- odd and broken files ------------------------------------------------------------------------------------------ */

/* Each row: a good file with a value put at one place, and what must come back. The header's CRC is renewed unless it is the value. */
static void broken_files_are_named_not_followed(void **state)
{
    (void)state;
    static const struct {
        const char   *what;
        size_t        at;
        uint64_t      value;
        unsigned      width;
        enum apr_code code;
        uint64_t      error_at;
        const char   *words;
    } rows[] = {
        { "version 1 of the container", 3, 'N', 1, APR_EUNSUPPORTED, 0, "APRN" },
        { "the Whisper layout", 3, '1', 1, APR_EUNSUPPORTED, 0, "APR1" },
        { "an unknown magic", 3, 'X', 1, APR_EUNSUPPORTED, 3, "0x58" },
        { "version 3", 4, 3, 1, APR_EUNSUPPORTED, 4, "version 3.0" },
        { "a wrong header CRC", 40, 0x12345678, 4, APR_ECORRUPT, 40, "says 12345678" },
        { "encrypted", 6, 4, 2, APR_EUNSUPPORTED, 6, "encrypted" },
        { "column-major", 6, 1 << 11, 2, APR_EUNSUPPORTED, 6, "column-major" },
        { "one tensor too many", 8, 4, 4, APR_ECORRUPT, 223, "name order" },
        { "more tensors than bytes", 8, UINT32_MAX, 4, APR_ECORRUPT, 8, "can hold 6" },
        { "metadata in the header", 12, 63, 8, APR_ECORRUPT, 12, "metadata" },
        { "metadata that wraps", 12, UINT64_MAX, 8, APR_ECORRUPT, 12, "metadata" },
        { "no metadata", 20, 0, 4, APR_ECORRUPT, 64, "object" },
        { "half the metadata", 20, 9, 4, APR_ECORRUPT, APR_NOWHERE, "JSON" },
        { "metadata into the data", 20, 256, 4, APR_ECORRUPT, 12, "metadata" },
        { "too much metadata", 20, UINT32_MAX, 4, APR_ELIMIT, 20, "metadata" },
        { "metadata that is an array", 64, '[', 1, APR_ECORRUPT, 64, "object" },
        { "an index in the header", 24, 20, 8, APR_ECORRUPT, 24, "index" },
        { "an index in the data", 24, 300, 8, APR_ECORRUPT, 24, "index" },
        { "data in the index", 32, 192, 8, APR_ECORRUPT, ENTRY_B, "runs past" },
        { "data beyond the file", 32, 4096, 8, APR_ECORRUPT, 32, "4096" },
        { "an index of JSON", ENTRY_A, 0x22227B5B, 4, APR_EUNSUPPORTED, ENTRY_A, "JSON" },
        { "a name longer than the index", ENTRY_A, 65535, 2, APR_ECORRUPT, ENTRY_A, "runs past" },
        { "255 dimensions", ENTRY_A + 4, 255, 1, APR_ECORRUPT, ENTRY_A, "runs past" },
        { "9 dimensions", ENTRY_A + 4, 9, 1, APR_ELIMIT, ENTRY_A, "9 dim" },
        { "dtype 15", ENTRY_A + 3, 15, 1, APR_EUNSUPPORTED, ENTRY_A, "tensor \"a\": dtype byte 15" },
        { "dtype 200", ENTRY_A + 3, 200, 1, APR_EUNSUPPORTED, ENTRY_A, "dtype byte 200" },
        { "no meaning of dtype 3", ENTRY_A + 3, 3, 1, APR_ECORRUPT, ENTRY_A, "F64 or Q4_1" },
        { "no meaning of dtype 8", ENTRY_A + 3, 8, 1, APR_ECORRUPT, ENTRY_A, "APR_Q4 or Q8_0" },
        { "a byte too few", ENTRY_A + 29, 127, 8, APR_ECORRUPT, ENTRY_A, "127 bytes" },
        { "a size beyond 2^63", ENTRY_A + 29, UINT64_MAX, 8, APR_ECORRUPT, ENTRY_A, "beyond any file" },
        { "an offset that wraps", ENTRY_A + 21, UINT64_MAX - 127, 8, APR_ECORRUPT, ENTRY_A, "beyond any file" },
        { "a shape that overflows", ENTRY_A + 5, 1ULL << 61, 8, APR_ECORRUPT, ENTRY_A, "F32" },
        { "a tensor past the end", ENTRY_C + 13, 4096, 8, APR_ECORRUPT, ENTRY_C, "past the end" },
        { "a name twice", ENTRY_B + 2, 'a', 1, APR_ECORRUPT, ENTRY_B, "twice" },
        { "names out of order", ENTRY_B + 2, 'A', 1, APR_ECORRUPT, ENTRY_B, "\"A\" stands behind \"a\"" },
        { "a name that is no UTF-8", ENTRY_C + 2, 0xFF, 1, APR_ECORRUPT, ENTRY_C, "UTF-8" },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_bytes b = good();
        put_at(&b, rows[i].at, rows[i].value, rows[i].width);
        if (rows[i].at != 40)
            renew_header_crc(&b);
        assert_null(test_open(rows[i].what, "broken.apr", &b, rows[i].code, rows[i].error_at, rows[i].words));
        test_free(&b);
    }
}

static void a_file_cut_anywhere_before_its_padding_is_refused(void **state)
{
    (void)state;
    for (size_t n = 3; n < DATA + 202; n++) {
        struct test_bytes b = good();
        b.n = n;
        assert_null(test_open("cut", "cut.apr", &b, APR_ECORRUPT, APR_NOWHERE, ""));
        test_free(&b);
    }
}

/* Each row: a good file with a value put at one place and another length, readable with a note. */
static void odd_files_are_read_with_a_note(void **state)
{
    (void)state;
    static const struct {
        const char       *code;
        enum apr_severity severity;
        size_t            n, at;
        uint64_t          value;
        unsigned          width;
    } rows[] = {
        { "apr.footer.absent", APR_INFO, END, 0, 'A', 1 },
        { "apr.unpadded", APR_FAULT, END - 50, 0, 'A', 1 },
        { "apr.unpadded", APR_FAULT, END - 54, 0, 'A', 1 },
        { "apr.trailing", APR_FAULT, END + 2, 0, 'A', 1 },
        { "apr.trailing", APR_FAULT, END + 9, 0, 'A', 1 },
        { "apr.flags", APR_WARNING, END + 4, 6, 0xF000, 2 },
        { "apr.reserved", APR_WARNING, END + 4, 60, 1, 1 },
        { "apr.align", APR_FAULT, END + 4, 32, DATA - 8, 8 },
        { "apr.align", APR_FAULT, END + 4, ENTRY_B + 13, 130, 8 },
        { "apr.overlap", APR_FAULT, END + 4, ENTRY_B + 13, 64, 8 },
        { "apr.gap", APR_WARNING, END + 4, ENTRY_B + 13, 64, 8 },
        { "apr.control_name", APR_FAULT, END + 4, ENTRY_C + 2, 0x7F, 1 },
    };
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_bytes b = good();
        if (rows[i].n > b.n)
            test_zeros(&b, rows[i].n - b.n);
        b.n = rows[i].n;
        put_at(&b, rows[i].at, rows[i].value, rows[i].width);
        renew_header_crc(&b);
        struct apr_model *m = test_open(rows[i].code, "odd.apr", &b, APR_OK, 0, NULL);
        const struct apr_note *note = note_called(m, rows[i].code);
        if (note == NULL || note->severity != rows[i].severity)
            fail_msg("%s: not noted, or not so", rows[i].code);
        apr_close(m);
        test_free(&b);
    }
}

static void a_wrong_footer_is_found_by_verify_alone(void **state)
{
    (void)state;
    struct test_bytes b = good();
    b.at[END] ^= 1;
    struct apr_model *m = test_open("a wrong footer", "footer.apr", &b, APR_OK, 0, NULL);
    struct apr_error e;
    assert_int_equal(m->format->verify(m, m->file[0], &e), APR_ECORRUPT);
    assert_int_equal(e.at, END);
    apr_close(m);
    test_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tensor_is_where_its_entry_says),
        cmocka_unit_test(a_dtype_byte_is_told_by_the_size_it_comes_with),
        cmocka_unit_test(a_placeholder_is_the_embedding_wherever_that_stands),
        cmocka_unit_test(of_metadata_keys_that_stand_twice_the_last_counts),
        cmocka_unit_test(any_shard_opens_the_whole),
        cmocka_unit_test(a_packed_file_is_read_as_what_it_unpacks_to),
        cmocka_unit_test(a_flag_over_plain_bytes_is_noted),
        cmocka_unit_test(a_packed_file_that_breaks_a_promise_is_refused),
        cmocka_unit_test(broken_files_are_named_not_followed),
        cmocka_unit_test(a_file_cut_anywhere_before_its_padding_is_refused),
        cmocka_unit_test(odd_files_are_read_with_a_note),
        cmocka_unit_test(a_wrong_footer_is_found_by_verify_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
