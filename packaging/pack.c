/* pack NAME <FILE >HEADER: the file as an array packed_NAME, by zstd at its best, and its length as sizeof_NAME. */
#include <stdio.h>
#include <stdlib.h>
#include <zstd.h>

int main(int argc, char **argv)
{
    const size_t most = (size_t)16 << 20, room = ZSTD_compressBound(most);
    unsigned char *const raw = malloc(most), *const packed = malloc(room);
    if (argc != 2 || raw == NULL || packed == NULL)
        return 2;
    const size_t n = fread(raw, 1, most, stdin), size = ZSTD_compress(packed, room, raw, n, ZSTD_maxCLevel());
    if (n == 0 || n == most || ZSTD_isError(size)) {
        fprintf(stderr, "pack: the table %s has %zu bytes; was its object compiled with other flags? (rm -r build/static)\n", argv[1], n);
        return 2;
    }
    printf("enum { sizeof_%s = %zu };\nstatic const unsigned char packed_%s[] = {", argv[1], n, argv[1]);
    for (size_t i = 0; i < size; i++)
        printf("%s%u,", i % 32 == 0 ? "\n" : "", packed[i]);
    printf("\n};\n");
    free(raw);
    free(packed);
    return ferror(stdout) != 0 || fflush(stdout) != 0 ? 2 : 0;
}
