/* Any bytes as the journal beside a file: whatever it says, only what the file shows to be old or new bytes is written over, and nothing
 * behind its head and its tail. */
#include "fuzz.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/hash.h"
#include "files/journal.h"

enum { HEAD = 512, SIZE = 16384, HASHED_AT = 16, NEW_HEAD_AT = 32, TAIL_AT = 40, FIXED = 56, DIGEST = 16 };

static char folder[] = "/tmp/apr-fuzz-XXXXXX", file[64], journal[80];

static void remove_all(void)
{
    unlink(file);
    unlink(journal);
    rmdir(folder);
}

static void put(const char *path, const uint8_t *bytes, size_t n)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    fuzz_expect(fd >= 0 && write(fd, bytes, n) == (ssize_t)n && close(fd) == 0);
}

/* With the checksum that is right for it, or nothing would come further than that. */
static void put_journal(const uint8_t *bytes, size_t n)
{
    uint8_t *const own = malloc(n + 1);
    fuzz_expect(own != NULL);
    if (n > 0)
        memcpy(own, bytes, n);
    if (n >= FIXED + DIGEST) {
        const struct apr_digest d = apr_digest_of((struct apr_bytes){ own + HASHED_AT, n - HASHED_AT - DIGEST });
        for (unsigned i = 0; i < 8; i++) {
            own[n - 16 + i] = (uint8_t)(d.high >> 8 * i);
            own[n - 8 + i] = (uint8_t)(d.low >> 8 * i);
        }
    }
    put(journal, own, n);
    free(own);
}

static uint64_t u64_at(const uint8_t *bytes)
{
    uint64_t v = 0;
    for (unsigned i = 8; i-- > 0;)
        v = v << 8 | bytes[i];
    return v;
}

/* A head, and data without a zero behind it. */
static uint8_t byte_at(size_t i) { return i < HEAD ? (uint8_t)"old header"[i % 10] : (uint8_t)((i * 31 + i / 251) | 1); }

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static uint8_t before[SIZE], after[2 * SIZE];
    enum apr_recovery done;
    struct apr_error e = { .at = APR_NOWHERE };
    struct stat st;
    if (file[0] == 0) {
        fuzz_expect(mkdtemp(folder) != NULL && atexit(remove_all) == 0);
        snprintf(file, sizeof file, "%s/m", folder);
        snprintf(journal, sizeof journal, "%s.apr-journal", file);
    }
    for (size_t i = 0; i < SIZE; i++)
        before[i] = byte_at(i);
    put(file, before, SIZE);
    put_journal(bytes, n);
    const enum apr_code code = apr_rewrite_recover(file, &done, &e);
    const int fd = open(file, O_RDONLY);
    fuzz_expect(fd >= 0 && fstat(fd, &st) == 0);
    const ssize_t got = read(fd, after, sizeof after);
    close(fd);
    if (code != APR_OK)
        fuzz_expect_error(code, &e);
    else
        fuzz_expect(access(journal, F_OK) != 0);
    fuzz_expect(got == SIZE);
    const bool finished = code == APR_OK && done == APR_FINISHED;
    const uint64_t head = finished ? u64_at(bytes + NEW_HEAD_AT) : 0, tail = finished ? u64_at(bytes + TAIL_AT) : 0;
    fuzz_expect(head + tail <= SIZE && memcmp(before + head, after + head, SIZE - (size_t)(head + tail)) == 0);
    return 0;
}
