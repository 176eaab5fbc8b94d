#include "model/mistake.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/nearest.h"
#include "files/address.h"

/* ---- files ---------------------------------------------------------------------------------------------------------- */

/* How such a file begins, and what it is. Numbers of formats of old are little-endian, so their letters stand the other way round. */
static const struct {
    const char *start;
    size_t      n;
    const char *words;
} kinds[] = {
    { "PK\3\4", 4, "is a zip archive, as PyTorch writes its pickled checkpoints: convert it to SafeTensors first" },
    { "\x80\2", 2, "is a Python pickle, as PyTorch once wrote its checkpoints: convert it to SafeTensors first" },
    { "\x1F\x8B", 2, "is compressed with gzip: unpack it first (gunzip)" },
    { "\x28\xB5\x2F\xFD", 4, "is compressed with zstd: unpack it first (unzstd)" },
    { "\xFD" "7zXZ", 5, "is compressed with xz: unpack it first (unxz)" },
    { "BZh", 3, "is compressed with bzip2: unpack it first (bunzip2)" },
    { "tjgg", 4, "is a GGML file of old (ggjt), from before GGUF: convert the model's own checkpoint again" },
    { "lmgg", 4, "is a GGML file of old (ggml), from before GGUF: convert the model's own checkpoint again" },
    { "fmgg", 4, "is a GGML file of old (ggmf), from before GGUF: convert the model's own checkpoint again" },
    { "algg", 4, "is a LoRA of old GGML (ggla), from before GGUF: convert the adapter again" },
    { "\x89HDF\r\n", 6, "is an HDF5 file, as Keras writes its weights: convert it to SafeTensors first" },
};

static bool begins(struct apr_bytes file, const char *with, size_t n) { return file.n >= n && memcmp(file.at, with, n) == 0; }

static bool is_page(struct apr_bytes file)
{
    static const char *const tag[] = { "<!doctype html", "<html" };
    while (file.n > 0 && (*file.at == ' ' || *file.at == '\n' || *file.at == '\r' || *file.at == '\t'))
        file = (struct apr_bytes){ file.at + 1, file.n - 1 };
    for (size_t i = 0; i < APR_LENGTH(tag); i++)
        if (file.n >= strlen(tag[i]) && strncasecmp((const char *)file.at, tag[i], strlen(tag[i])) == 0)
            return true;
    return false;
}

/* "size 1503300328" of a Git LFS pointer, 0 when it has none. */
static unsigned long long pointed_bytes(struct apr_bytes file)
{
    char text[1024];
    const size_t n = (size_t)apr_min(file.n, sizeof text - 1);
    memcpy(text, file.at, n);
    text[n] = 0;
    const char *size = strstr(text, "\nsize ");
    return size == NULL ? 0 : strtoull(size + 6, NULL, 10);
}

enum apr_code apr_no_such_file(struct apr_bytes file, const char *wanted, struct apr_error *e)
{
    static const char pointer[] = "version https://git-lfs";
    char start[3 * 8 + 1] = "";
    if (file.n == 0)
        return apr_fail(e, APR_ECORRUPT, 0, "is empty");
    if (begins(file, pointer, sizeof pointer - 1))
        return apr_fail(e, APR_ECORRUPT, 0, "is a Git LFS pointer to %llu bytes that are not here: git lfs pull fetches them", pointed_bytes(file));
    if (is_page(file))
        return apr_fail(e, APR_ECORRUPT, 0, "is an HTML page, perhaps of a login or an error, instead of what it links to: download it again");
    for (size_t i = 0; i < APR_LENGTH(kinds); i++)
        if (begins(file, kinds[i].start, kinds[i].n))
            return apr_fail(e, APR_ECORRUPT, 0, "%s", kinds[i].words);
    for (size_t i = 0; i < file.n && i < 8; i++)
        snprintf(start + 3 * i, 4, " %02x", file.at[i]);
    return apr_fail(e, APR_ECORRUPT, 0, "is no %s: it has %zu bytes and begins with%s", wanted, file.n, start);
}

enum apr_code apr_no_model_file(const char *path, struct apr_bytes file, struct apr_error *e)
{
    if (apr_is_address(path) && is_page(file))
        return apr_fail(e, APR_ECORRUPT, 0, "is an HTML page; a model of the hub is hf://OWNER/NAME[/PATH], and the address of a folder "
                        "ends in \"/\"");
    return apr_no_such_file(file, "SafeTensors, GGUF, APR, APRT or NumPy file", e);
}

/* ---- folders -------------------------------------------------------------------------------------------------------- */

#define MOST_SHOWN 6
#define NO_MODEL   "holds neither model.safetensors nor model.safetensors.index.json nor the stages of a trace"

/* Names of a folder, in byte order; the caller frees each and the array. Without memory or leave to read it: none. */
static size_t list(const char *folder, struct dirent ***entry)
{
    const int n = scandir(folder, entry, NULL, alphasort);
    if (n < 0)
        *entry = NULL;
    return n < 0 ? 0 : (size_t)n;
}

static void free_list(struct dirent **entry, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(entry[i]);
    free(entry);
}

static bool ends(const char *name, const char *with)
{
    const size_t n = strlen(name), m = strlen(with);
    return n >= m && strcmp(name + n - m, with) == 0;
}

/* The names that end so, as "a, b and 3 more", into text; how many there are. */
static size_t name_those(struct dirent *const *entry, size_t nentry, const char *with, char *text, size_t room)
{
    size_t n = 0, at = 0;
    for (size_t i = 0; i < nentry; i++)
        if (*entry[i]->d_name != '.' && ends(entry[i]->d_name, with) && n++ < MOST_SHOWN && at < room)
            at += (size_t)snprintf(text + at, room - at, "%s%s", n > 1 ? ", " : "", entry[i]->d_name);
    if (n > MOST_SHOWN && at < room)
        snprintf(text + at, room - at, " and %zu more", n - MOST_SHOWN);
    return n;
}

enum apr_code apr_no_model_folder(const char *folder, struct apr_error *e)
{
    static const struct {
        const char *suffix, *one, *many;
    } kinds_of_file[] = {
        { "model_index.json", "is a diffusers pipeline (%s): name the folder of one of its models", "is a diffusers pipeline (%s)" },
        { ".gguf", "holds %s, which is a model of its own: name the file", "holds several models, or one in several files: name one of %s" },
        { ".apr", "holds %s, which is a model of its own: name the file", "holds several models: name one of %s" },
        { ".safetensors", "holds %s under a name of its own: name the file", "holds shards without model.safetensors.index.json, which is to be fetched too: %s" },
        { ".bin", "holds %s, but no model that is read: a PyTorch checkpoint is to be converted to SafeTensors first",
          "holds %s, but no model that is read: a PyTorch checkpoint is to be converted to SafeTensors first" },
    };
    struct dirent **entry;
    const size_t nentry = list(folder, &entry);
    char names[512] = "";
    enum apr_code code = APR_OK;
    for (size_t i = 0; code == APR_OK && i < APR_LENGTH(kinds_of_file); i++) {
        const size_t n = name_those(entry, nentry, kinds_of_file[i].suffix, names, sizeof names);
        if (n > 0)
            code = apr_fail(e, APR_EIO, APR_NOWHERE, n == 1 ? kinds_of_file[i].one : kinds_of_file[i].many, names);
    }
    if (code == APR_OK && name_those(entry, nentry, "", names, sizeof names) > 0)
        code = apr_fail(e, APR_EIO, APR_NOWHERE, NO_MODEL "; it holds %s", names);
    free_list(entry, nentry);
    return code != APR_OK ? code : apr_fail(e, APR_EIO, APR_NOWHERE, NO_MODEL);
}

/* ---- what is not there ---------------------------------------------------------------------------------------------- */

void apr_explain_absent(const char *path, struct apr_error *e)
{
    char target[512];
    const ssize_t n = readlink(path, target, sizeof target - 1);
    if (n > 0) {
        target[n] = 0;
        apr_fail(e, APR_EIO, APR_NOWHERE, "is a link to %s, which is not there: a download that was broken off or cleaned away; fetch it again",
                 APR_QUOTED(apr_text(target)));
        return;
    }
    const char *slash = strrchr(path, '/'), *name = slash == NULL ? path : slash + 1;
    char *folder = slash == NULL ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
    struct apr_nearest near = apr_nearest_to(apr_text(name));
    struct dirent **entry;
    const size_t nentry = folder == NULL ? 0 : list(folder, &entry);
    for (size_t i = 0; i < nentry; i++)
        apr_nearest_try(&near, apr_text(entry[i]->d_name));
    if (near.best.n > 0)
        apr_fail(e, APR_EIO, APR_NOWHERE, "cannot open: %s (did you mean %s?)", strerror(ENOENT), APR_QUOTED(near.best));
    if (folder != NULL)
        free_list(entry, nentry);
    free(folder);
}
