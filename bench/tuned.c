/* Makes what a fine-tuning could have left: a copy of a SafeTensors file whose values, in BF16, have moved a little, each by noise of a
 * tenth of the deviation that bench/pair.c gives weights. usage: tuned FROM TO SEED */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT_ONCE 65536u

static uint64_t state;

/* Roughly normal with deviation 0.002. */
static float noise(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    const float sum = (float)(state & 0xFFFF) + (float)(state >> 16 & 0xFFFF) + (float)(state >> 32 & 0xFFFF) + (float)(state >> 48);
    return (sum - 131070.0f) * (0.002f / 37837.0f);
}

/* To the nearest, of a finite number. */
static uint16_t moved(uint16_t b)
{
    uint32_t bits = (uint32_t)b << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    x += noise();
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static void fail(const char *what)
{
    perror(what);
    exit(2);
}

/* | u64 length | a header of so many bytes | values | */
static void copy_header(FILE *from, FILE *to)
{
    uint64_t left;
    unsigned char part[4096];
    if (fread(&left, sizeof left, 1, from) != 1 || fwrite(&left, sizeof left, 1, to) != 1)
        fail("tuned: length of the header");
    for (size_t n; left > 0; left -= n) {
        n = left < sizeof part ? (size_t)left : sizeof part;
        if (fread(part, 1, n, from) != n || fwrite(part, 1, n, to) != n)
            fail("tuned: header");
    }
}

int main(int argc, char **argv)
{
    static uint16_t value[AT_ONCE];
    if (argc != 4) {
        fprintf(stderr, "usage: tuned FROM TO SEED\n");
        return 2;
    }
    FILE *const from = fopen(argv[1], "rb"), *const to = fopen(argv[2], "wb");
    if (from == NULL || to == NULL)
        fail(from == NULL ? argv[1] : argv[2]);
    state = 0x9E3779B97F4A7C15 * (strtoull(argv[3], NULL, 10) + 1);
    copy_header(from, to);
    for (size_t n; (n = fread(value, sizeof *value, AT_ONCE, from)) > 0;) {
        for (size_t i = 0; i < n; i++)
            value[i] = moved(value[i]);
        if (fwrite(value, sizeof *value, n, to) != n)
            fail(argv[2]);
    }
    if (ferror(from) != 0)
        fail(argv[1]);
    fclose(from);
    if (fclose(to) != 0)
        fail(argv[2]);
    return 0;
}
