#include "model/npy.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"

#define MAGIC       "\x93NUMPY"
#define MAGIC_BYTES 6u
#define MOST_HEADER (64u << 10) /* one that can be read has some 100 bytes */

bool apr_npy_probe(struct apr_bytes start) { return start.n >= MAGIC_BYTES && memcmp(start.at, MAGIC, MAGIC_BYTES) == 0; }

/* The header while it is read. base: of its first byte, in the file. */
struct header {
    struct apr_bytes  text;
    size_t            at;
    uint64_t          base;
    struct apr_error *e;

    const struct apr_dtype *dtype;
    bool                    swapped, fortran, has_order, has_shape;
    unsigned                ndim;
    uint64_t                dim[APR_MAX_DIMS];
};

/* ---- words of Python ------------------------------------------------------------------------------------------------ */

static enum apr_code expected(struct header *h, const char *what)
{
    const struct apr_bytes rest = { h->text.at + h->at, (size_t)apr_min(h->text.n - h->at, 24) };
    return apr_fail(h->e, APR_ECORRUPT, h->base + h->at, "the header: expected %s, found %s", what,
                    rest.n == 0 ? "its end" : APR_QUOTED(rest));
}

static void skip_blanks(struct header *h)
{
    while (h->at < h->text.n && memchr(" \t\r\n\f", h->text.at[h->at], 5) != NULL)
        h->at++;
}

/* Steps over the character, if it comes next. */
static bool take(struct header *h, char c)
{
    skip_blanks(h);
    const bool there = h->at < h->text.n && h->text.at[h->at] == (unsigned char)c;
    h->at += there;
    return there;
}

static bool take_word(struct header *h, const char *word)
{
    skip_blanks(h);
    const size_t n = strlen(word);
    const bool there = h->text.n - h->at >= n && memcmp(h->text.at + h->at, word, n) == 0;
    h->at += there ? n : 0;
    return there;
}

/* A string without escapes, which no key and no dtype needs. */
static bool take_string(struct header *h, struct apr_bytes *s)
{
    skip_blanks(h);
    const unsigned char *const start = h->text.at + h->at;
    if (h->at == h->text.n || (*start != '\'' && *start != '"'))
        return false;
    const unsigned char *const end = memchr(start + 1, *start, h->text.n - h->at - 1);
    if (end == NULL || memchr(start, '\\', (size_t)(end - start)) != NULL)
        return false;
    *s = (struct apr_bytes){ start + 1, (size_t)(end - start - 1) };
    h->at += (size_t)(end - start) + 1;
    return true;
}

/* A decimal number; Python 2 wrote an L behind it. */
static bool take_number(struct header *h, uint64_t *n)
{
    skip_blanks(h);
    const size_t start = h->at;
    *n = 0;
    for (; h->at < h->text.n && h->text.at[h->at] >= '0' && h->text.at[h->at] <= '9'; h->at++)
        if (!apr_mul(*n, 10, n) || !apr_add(*n, h->text.at[h->at] - (uint64_t)'0', n))
            return false;
    if (h->at == start)
        return false;
    h->at += h->at < h->text.n && h->text.at[h->at] == 'L';
    return true;
}

/* ---- the three entries ---------------------------------------------------------------------------------------------- */

static const struct {
    const char       *name;
    enum apr_dtype_id id;
} dtypes[] = {
    { "f8", APR_F64 }, { "f4", APR_F32 }, { "f2", APR_F16 }, { "i8", APR_I64 }, { "i4", APR_I32 }, { "i2", APR_I16 }, { "i1", APR_I8 },
    { "u8", APR_U64 }, { "u4", APR_U32 }, { "u2", APR_U16 }, { "u1", APR_U8 },  { "b1", APR_BOOL },
};

static enum apr_code no_dtype(struct header *h, uint64_t at, struct apr_bytes word)
{
    const bool object = word.n == 2 && word.at[1] == 'O', raw = word.n == 3 && memcmp(word.at + 1, "V2", 2) == 0;
    apr_fail(h->e, APR_EUNSUPPORTED, at, "descr %s: %s", APR_QUOTED(word),
             object ? "Python objects, pickled: save numbers"
             : raw  ? "two bytes of a type that NumPy does not have, perhaps bfloat16: save it as float32"
                    : "read are f2, f4, f8, i1 to i8, u1 to u8 and b1, in either byte order");
    return apr_found(APR_EUNSUPPORTED, h->e, "npy.dtype");
}

static enum apr_code read_descr(struct header *h)
{
    struct apr_bytes word;
    skip_blanks(h);
    const uint64_t at = h->base + h->at;
    if (h->at < h->text.n && h->text.at[h->at] == '[') {
        apr_fail(h->e, APR_EUNSUPPORTED, at, "descr is a list: elements of several fields are not read");
        return apr_found(APR_EUNSUPPORTED, h->e, "npy.dtype");
    }
    if (!take_string(h, &word))
        return expected(h, "descr, a string");
    if (word.n != 3 || memchr("<>|=", word.at[0], 4) == NULL)
        return no_dtype(h, at, word);
    for (size_t i = 0; i < APR_LENGTH(dtypes); i++)
        if (memcmp(word.at + 1, dtypes[i].name, 2) == 0)
            h->dtype = &apr_dtypes[dtypes[i].id];
    if (h->dtype == NULL)
        return no_dtype(h, at, word);
    h->swapped = word.at[0] == '>' && h->dtype->bytes > 1;
    return APR_OK;
}

static enum apr_code read_order(struct header *h)
{
    h->fortran = take_word(h, "True");
    h->has_order = h->fortran || take_word(h, "False");
    return h->has_order ? APR_OK : expected(h, "fortran_order, True or False");
}

static enum apr_code read_shape(struct header *h)
{
    uint64_t n;
    if (!take(h, '('))
        return expected(h, "shape, numbers in parentheses");
    for (bool comma = true; !take(h, ')'); comma = take(h, ',')) {
        if (!comma || !take_number(h, &n))
            return expected(h, "a number of shape");
        if (h->ndim == APR_MAX_DIMS)
            return apr_fail(h->e, APR_EUNSUPPORTED, h->base + h->at, "shape: more than %d dimensions", APR_MAX_DIMS);
        h->dim[h->ndim++] = n;
    }
    h->has_shape = true;
    return APR_OK;
}

static enum apr_code read_entry(struct header *h)
{
    struct apr_bytes key;
    skip_blanks(h);
    const uint64_t at = h->base + h->at;
    if (!take_string(h, &key) || !take(h, ':'))
        return expected(h, "an entry, 'key': value");
    const bool descr = apr_bytes_is(key, "descr"), order = apr_bytes_is(key, "fortran_order"), shape = apr_bytes_is(key, "shape");
    if (!descr && !order && !shape)
        return apr_fail(h->e, APR_ECORRUPT, at, "the header: %s is none of descr, fortran_order and shape", APR_QUOTED(key));
    if ((descr && h->dtype != NULL) || (order && h->has_order) || (shape && h->has_shape))
        return apr_fail(h->e, APR_ECORRUPT, at, "the header: %s stands twice", APR_QUOTED(key));
    return descr ? read_descr(h) : order ? read_order(h) : read_shape(h);
}

static enum apr_code read_dict(struct header *h)
{
    if (!take(h, '{'))
        return expected(h, "'{'");
    for (bool comma = true; !take(h, '}'); comma = take(h, ',')) {
        if (!comma)
            return expected(h, "',' or '}'");
        APR_TRY(read_entry(h));
    }
    skip_blanks(h);
    if (h->at < h->text.n)
        return expected(h, "nothing but blanks behind the dict");
    if (h->dtype == NULL || !h->has_order || !h->has_shape)
        return apr_fail(h->e, APR_ECORRUPT, h->base, "the header has no %s",
                        h->dtype == NULL ? "descr" : !h->has_order ? "fortran_order" : "shape");
    return APR_OK;
}

/* ---- the header ----------------------------------------------------------------------------------------------------- */

static enum apr_code read_header(struct header *h, struct apr_cursor *c)
{
    apr_take_bytes(c, MAGIC_BYTES);
    const unsigned major = apr_u8(c), minor = apr_u8(c);
    if (!c->bad && (major < 1 || major > 3 || minor != 0))
        return apr_fail(h->e, APR_EUNSUPPORTED, MAGIC_BYTES, "version %u.%u; 1.0, 2.0 and 3.0 are read", major, minor);
    const uint32_t n = major == 1 ? apr_u16(c) : apr_u32(c);
    const size_t left = apr_left(c);
    if (c->bad)
        return apr_fail(h->e, APR_ECORRUPT, c->of.n, "the file ends within the length of its header");
    if (n > MOST_HEADER)
        return apr_fail(h->e, APR_ELIMIT, MAGIC_BYTES + 2, "a header of %u bytes, at most %u are read", n, MOST_HEADER);
    h->base = c->at;
    h->text = apr_take_bytes(c, n);
    if (c->bad)
        return apr_fail(h->e, APR_ECORRUPT, MAGIC_BYTES + 2, "a header of %u bytes is promised, only %zu follow", n, left);
    return read_dict(h);
}

enum apr_code apr_npy_read(struct apr_npy *npy, struct apr_cursor *c, struct apr_error *e)
{
    struct header h = { .e = e };
    APR_TRY(apr_found(read_header(&h, c), e, "npy.header"));
    *npy = (struct apr_npy){ .dtype = h.dtype, .swapped = h.swapped, .fortran = h.fortran, .ndim = h.ndim, .at = h.base };
    memcpy(npy->dim, h.dim, sizeof npy->dim);
    return APR_OK;
}
