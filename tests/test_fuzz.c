/* Sound files with a few bytes changed, through the door of tests/fuzz/open.c. The same changes at every run. */
#include "support.h"

#include <libdeflate.h>
#include "model/open.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static const char *const seeds[] = {
    "fixtures/qwen2.apr", "fixtures/qwen2-zstd.apr", "fixtures/qwen2-q4_0.gguf", "fixtures/qwen2-big-endian.gguf",
    "fixtures/qwen2/model-00003-of-00003.safetensors", "fixtures/qwen2/model-00002-of-00003.safetensors", "fixtures/trace/lm_head.bin",
};

static void the_files_to_be_changed_are_sound(void **state)
{
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(seeds); i++) {
        struct test_bytes whole = test_load(seeds[i]);
        struct apr_model *const m = test_open(seeds[i], "seed", &whole, APR_OK, APR_NOWHERE, NULL);
        assert_true(m->ntensor > 0);
        apr_close(m);
        test_free(&whole);
    }
}

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint64_t random_below(uint64_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (random_state >> 16) % n;
}

/* Most changes go where headers and indices are. */
static size_t place(size_t n)
{
    const size_t near = n < 256 ? n : 256, start = n < 8192 ? n : 8192;
    switch (random_below(4)) {
    case 0:  return (size_t)random_below(near);
    case 1:  return (size_t)random_below(n);
    default: return (size_t)random_below(start);
    }
}

static void change(struct test_bytes *b)
{
    static const uint64_t edges[] = {
        0, 1, 0x7f, 0xff, 0xffff, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX, UINT64_MAX - 31, (uint64_t)1 << 62,
    };
    const size_t at = place(b->n), left = b->n - at;
    const size_t width = (size_t)1 << random_below(4);
    switch (random_below(6)) {
    case 0:
        b->at[at] ^= (unsigned char)(1u << random_below(8));
        break;
    case 1:
        b->at[at] = (unsigned char)random_below(256);
        break;
    case 2:
        b->at[at] = (unsigned char)"\"{}[],:0-9e\\"[random_below(12)];
        break;
    case 3:
        memcpy(b->at + at, &edges[random_below(APR_LENGTH(edges))], width < left ? width : left);
        break;
    case 4: {
        const size_t from = place(b->n), n = (size_t)random_below(64);
        if (from + n <= b->n && n <= left)
            memmove(b->at + at, b->at + from, n);
        break;
    }
    default:
        if (random_below(8) == 0)
            b->n = at;
    }
}

/* An APR header with a wrong checksum gets no further, so most of them are given the right one. */
static void mend(struct test_bytes *b)
{
    if (b->n < 64 || memcmp(b->at, "APR", 4) != 0 || random_below(8) == 0)
        return;
    unsigned char head[60];
    memcpy(head, b->at, 40);
    memcpy(head + 40, b->at + 44, 20);
    const uint32_t crc = libdeflate_crc32(0, head, sizeof head);
    for (unsigned i = 0; i < 4; i++)
        b->at[40 + i] = (unsigned char)(crc >> 8 * i);
}

static void changed_files_never_lead_a_reader_astray(void **state)
{
    (void)state;
    const int runs = strcmp(APR_BUILD, "build/release") == 0 ? 5000 : 250;
    for (size_t i = 0; i < APR_LENGTH(seeds); i++) {
        struct test_bytes whole = test_load(seeds[i]), b = { 0 };
        LLVMFuzzerTestOneInput(whole.at, whole.n);
        for (int run = 0; run < runs; run++) {
            b.n = 0;
            test_put(&b, whole.at, whole.n);
            for (uint64_t changes = 1 + random_below(4); changes > 0 && b.n > 0; changes--)
                change(&b);
            mend(&b);
            LLVMFuzzerTestOneInput(b.at, b.n);
        }
        test_free(&whole);
        test_free(&b);
    }
}

static void every_short_beginning_of_a_file_is_only_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < APR_LENGTH(seeds); i++) {
        struct test_bytes whole = test_load(seeds[i]);
        for (size_t n = 0; n < 300; n++)
            LLVMFuzzerTestOneInput(whole.at, n);
        test_free(&whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_files_to_be_changed_are_sound),
        cmocka_unit_test(changed_files_never_lead_a_reader_astray),
        cmocka_unit_test(every_short_beginning_of_a_file_is_only_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
