/* What a file format is to the rest: a row of functions. The rows are in formats/formats.c. */
#ifndef APR_FORMAT_H
#define APR_FORMAT_H

#include "base/core.h"

/* name   for people and JSON: "safetensors", "gguf", "apr", "aprt"
 *   title  as it spells itself: "SafeTensors"
 *   suffix what its shards end in: ".gguf"
 *   probe  does the file look like one? Looks at the first bytes only; `size` is the whole length
 *   header how many bytes from the start of a file of `size` bytes `read` looks at, as far as its first bytes tell: more than those when
 *          they do not tell all; it is asked again then. APR_HEADER_ALL: data too. NULL: its first bytes are enough
 *   read   adds tensors, metadata and notes of the newest file of m, which is s; called once for each shard. When it returns
 *          APR_OK each tensor's bytes lie in s->map. It may replace s->map (compressed files)
 *   shards how many files the model read so far says it consists of (1: just this one), and this one's number from 0; NULL: always 1
 *   config its checkpoints have a config.json beside them
 *   own_names  tensors and keys go by the format's own names (GGUF's dialect) and by no others
 *   trace  it holds what a forward pass saved, no weights; parts of a name are parted by '/'
 *   verify reads all of the stored bytes where the format has a checksum over them; NULL: it has none
 *   rule   how it places tensors: NULL for one that is not written
 *   layout the header of file number `file` of a plan whose tensors are placed, padding before the data included, of bytes that the
 *          caller frees. `at` is where the data would best begin, modulo 4096, APR_NOWHERE: no matter; a format may not care
 *   finish the tail behind the data: crc is the CRC-32 (zlib's) of all bytes before it. rule->tail bytes
 *   keys   what its metadata can hold; template_key: where the chat template stands, in each of them
 *   reheader  another header for a file whose data stays as it is (struct apr_reheader); NULL: not in place */
#define APR_HEADER_ALL UINT64_MAX

struct apr_plan;
struct apr_planned;

/* align  of each tensor, in bytes from the start of the data; NULL plan: the format's own. padded: zeros follow the last tensor as well
 * holds  can a tensor of that name, dtype and shape be stored? *why: what speaks against it, and the options that help, when it cannot
 * before the order in which tensors are written; NULL: as they were added */
struct apr_rule {
    uint64_t (*align)(const struct apr_plan *p);
    bool     padded;
    unsigned tail;
    bool   (*holds)(const struct apr_planned *t, const char **why);
    int    (*before)(const struct apr_planned *a, const struct apr_planned *b);
};

/* TYPED: GGUF's types. JSON: any of it. STRINGS: nothing else. */
enum apr_keys { APR_KEYS_TYPED, APR_KEYS_JSON, APR_KEYS_STRINGS };

/* A header for other metadata and other names of tensors, in front of data that is not touched.
 *   m, meta, name  one open file; its metadata as it is to be; of each of its tensors, in order, what it is to be called
 *   inserted       bytes that come before the file: its data begins so much later, at a multiple of `unit`
 * and what comes of it:
 *   room           bytes from the start of the file up to the data, now
 *   missing        bytes that the header has too many for room + inserted; 0: it is made
 *   header         room + inserted bytes, which the caller frees
 *   old_tail, tail what the file ends in now and what it is to end in: ntail bytes */
struct apr_reheader {
    const struct apr_model *m;
    const struct apr_meta  *meta;
    const struct apr_bytes *name;
    uint64_t                inserted;

    uint64_t         room, missing, unit;
    struct apr_bytes header;
    unsigned         ntail;
    unsigned char    old_tail[8], tail[8];
};

struct apr_format {
    const char   *name, *title, *suffix;
    bool          config, own_names, trace;
    bool          (*probe)(struct apr_bytes start, uint64_t size);
    uint64_t      (*header)(struct apr_bytes start, uint64_t size);
    enum apr_code (*read)(struct apr_model *m, struct apr_source *s, const struct apr_run *r, struct apr_error *e);
    enum apr_code (*shards)(const struct apr_model *m, unsigned *count, unsigned *number, struct apr_error *e);
    enum apr_code (*verify)(const struct apr_model *m, const struct apr_source *s, struct apr_error *e);
    const struct apr_rule *rule;
    enum apr_code (*layout)(const struct apr_plan *p, size_t file, uint64_t at, struct apr_bytes *header, struct apr_error *e);
    void          (*finish)(const struct apr_plan *p, size_t file, uint32_t crc, unsigned char *tail);
    enum apr_keys keys;
    const char   *template_key[2];
    enum apr_code (*reheader)(struct apr_reheader *h, struct apr_error *e);
};

/* NULL-terminated, in the order in which they are asked. */
extern const struct apr_format *const apr_formats[];

/* The one of that name, which there is. */
const struct apr_format *apr_format_called(const char *name);

#endif
