/* A table of tensors as text, wherever they are known from. */
#ifndef APR_INSPECT_LISTING_H
#define APR_INSPECT_LISTING_H

#include "inspect.h"

/* What a line says of a tensor. */
struct listed {
    struct apr_bytes name;
    const char      *dtype;
    unsigned         ndim;
    uint64_t         dim[APR_MAX_DIMS], file, offset, size;
    bool             tied;
};

/* How many columns each part of a line takes; alone: a name that is wider than its column has a line of its own. */
struct listing {
    size_t name, dtype, shape, file, offset, size;
    bool   alone;
};

/* Of a model of so many files; then room for each line, indented so far; then the name gets what a terminal leaves it. */
struct listing listing_of(size_t nfile);
void make_room(struct listing *l, const struct listed *t, unsigned indent);
void fit_room(struct listing *l, const struct options *o);

void print_file(size_t i, struct apr_bytes path); /* of several, before the header */
void print_header(const struct listing *l, const struct options *o);
void print_line(const struct listing *l, const struct listed *t, unsigned indent);

/* Statistics and hashes, as far as they are asked for. */
void print_scanned(const struct options *o, const struct scanned *row);
void print_model_hash(struct apr_digest d);

#endif
