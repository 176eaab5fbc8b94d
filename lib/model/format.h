/* What a file format is to the rest: a row of functions. The rows are in formats/formats.c. */
#ifndef APR_FORMAT_H
#define APR_FORMAT_H

#include "base/core.h"

/* name   for people and JSON: "safetensors", "gguf", "apr", "aprt"
 *   title  as it spells itself: "SafeTensors"
 *   suffix what its shards end in: ".gguf"
 *   probe  does the file look like one? Looks at the first bytes only; `size` is the whole length
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
 *   finish the tail behind the data: crc is the CRC-32 (zlib's) of all bytes before it. rule->tail bytes */
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

struct apr_format {
    const char   *name, *title, *suffix;
    bool          config, own_names, trace;
    bool          (*probe)(struct apr_bytes start, uint64_t size);
    enum apr_code (*read)(struct apr_model *m, struct apr_source *s, const struct apr_run *r, struct apr_error *e);
    enum apr_code (*shards)(const struct apr_model *m, unsigned *count, unsigned *number, struct apr_error *e);
    enum apr_code (*verify)(const struct apr_model *m, const struct apr_source *s, struct apr_error *e);
    const struct apr_rule *rule;
    enum apr_code (*layout)(const struct apr_plan *p, size_t file, uint64_t at, struct apr_bytes *header, struct apr_error *e);
    void          (*finish)(const struct apr_plan *p, size_t file, uint32_t crc, unsigned char *tail);
};

/* NULL-terminated, in the order in which they are asked. */
extern const struct apr_format *const apr_formats[];

#endif
