/* Rows of packed weights whose words stand in columns are read by way of tiles: they are what they are word by word. */
#include "support.h"

#include <stdlib.h>

#include "values/chunk.h"
#include "values/dtype.h"
#include "values/packed.h"

#define BYTES (2u << 20)

static unsigned char codes[BYTES], scales[BYTES], zeros[BYTES];
static int32_t index_of[4096];

/* Also such that the last tile overlaps the one before, and for which there is none. */
static const struct shape {
    uint64_t nrow, ncol, group;
} shapes[] = { { 200, 1100, 100 }, { 64, 4096, 32 }, { 128, 1024, 128 }, { 256, 96, 32 }, { 32, 512, 64 }, { 576, 640, 320 } };

static const struct made {
    enum apr_dtype_id    id;
    enum apr_packed_form form;
    unsigned             bits;
    enum apr_zero_form   zero_form;
    float                zero;
    bool                 by_index;
} made[] = {
    { APR_GPTQ2, APR_PACKED_DOWN, 2, APR_ZERO_ALONG, 1, false },  { APR_GPTQ3, APR_PACKED_DOWN, 3, APR_ZERO_ALONG, 0, false },
    { APR_GPTQ4, APR_PACKED_DOWN, 4, APR_ZERO_ALONG, 1, false },  { APR_GPTQ4, APR_PACKED_DOWN, 4, APR_ZERO_ALONG, 1, true },
    { APR_GPTQ8, APR_PACKED_DOWN, 8, APR_ZERO_SAME, 128, false }, { APR_AWQ4, APR_PACKED_EIGHTS, 4, APR_ZERO_EIGHTS, 8, false },
    { APR_AWQ4, APR_PACKED_EIGHTS, 4, APR_ZERO_SAME, 8, false },
};

static void fill(void)
{
    uint64_t x = 1;
    for (size_t i = 0; i < BYTES; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        codes[i] = (unsigned char)(x >> 24);
        zeros[i] = (unsigned char)(x >> 32);
        scales[i] = (unsigned char)(x >> 40 & 0x37);
    }
}

static struct apr_packed packed_of(const struct made *m, const struct shape *s)
{
    static uint64_t serial = UINT64_C(1) << 40;
    const uint64_t ngroup = apr_ceil(s->ncol, s->group), nrow = s->nrow;
    struct apr_packed p = { .form = m->form, .bits = m->bits, .nrow = nrow, .ncol = s->ncol, .group_rows = 1, .group_columns = s->group,
                            .ngroup = ngroup, .scale_down = 1, .scale_along = nrow, .zero_form = m->zero_form, .zero = m->zero,
                            .serial = serial++ };
    p.stride = m->form == APR_PACKED_DOWN ? nrow * 4 : nrow / 2;
    p.matrix_bytes = p.stride * (m->form == APR_PACKED_DOWN ? apr_ceil(s->ncol * m->bits, 32) : s->ncol);
    p.scale = (struct apr_packed_part){ &apr_dtypes[APR_F16], { scales + 2, BYTES - 2 }, 0 };
    p.zeros = (struct apr_packed_part){ &apr_dtypes[APR_I32], { zeros + 4, BYTES - 4 }, 0 };
    for (unsigned i = 0; i < 4096; i++)
        index_of[i] = (int32_t)((i * 2654435761u >> 8) % ngroup);
    if (m->by_index)
        p.index = (struct apr_packed_part){ &apr_dtypes[APR_I32], { (const unsigned char *)index_of, sizeof index_of }, 0 };
    return p;
}

/* The element that a walk begins with, n in all: in order, two halves of 64 rows by turns, backwards. */
static uint64_t begin_of(unsigned walk, uint64_t i, const struct apr_tensor *t)
{
    const uint64_t row = i / t->row, col = i % t->row, nrow = t->count / t->row;
    const uint64_t turned = row / 128 * 128 + 127 < nrow ? row / 128 * 128 + row % 2 * 64 + row % 128 / 2 : row;
    return (walk == 0 ? row : walk == 1 ? turned : nrow - 1 - row) * t->row + col;
}

static void expect_same(const struct apr_tensor *t, const struct apr_kernels *k, unsigned walk, size_t piece)
{
    static float got[APR_STRETCH], wanted[APR_STRETCH];
    struct apr_packed alone = *t->packed;
    struct apr_tensor single = *t;
    alone.serial = 0;
    single.packed = &alone;
    for (uint64_t i = 0, n; i < t->count; i += n) {
        n = apr_min(piece, walk == 0 ? t->count - i : t->row - i % t->row);
        const uint64_t first = begin_of(walk, i, t);
        apr_read_floats(k, t, first, (size_t)n, got);
        apr_read_floats(apr_kernels_for(APR_SCALAR), &single, first, (size_t)n, wanted);
        for (size_t j = 0; j < n; j++)
            if (memcmp(&got[j], &wanted[j], sizeof *got) != 0)
                fail_msg("%s of %llu x %llu, walk %u in pieces of %zu, level %u: element %llu is %g, expected %g", t->dtype->name,
                         (unsigned long long)alone.nrow, (unsigned long long)alone.ncol, walk, piece, (unsigned)k->isa,
                         (unsigned long long)(first + j), (double)got[j], (double)wanted[j]);
    }
}

static void a_row_read_with_its_neighbours_is_the_row_read_alone(void **state)
{
    (void)state;
    static const size_t pieces[] = { 4096, 1000, 128, 77 };
    fill();
    for (size_t i = 0; i < APR_LENGTH(made); i++)
        for (size_t s = 0; s < APR_LENGTH(shapes); s++)
            for (unsigned isa = 0; isa < APR_NISA; isa++) {
                const struct apr_packed p = packed_of(&made[i], &shapes[s]);
                const struct apr_tensor t = { .dtype = &apr_dtypes[made[i].id], .count = p.nrow * p.ncol, .row = p.ncol, .packed = &p,
                                              .data = { codes + 8, (size_t)p.matrix_bytes } };
                for (unsigned walk = 0; apr_isa_has((enum apr_isa)isa) && walk < 3; walk++)
                    expect_same(&t, apr_kernels_for((enum apr_isa)isa), walk, pieces[(i + s + walk) % 4]);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(a_row_read_with_its_neighbours_is_the_row_read_alone) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
