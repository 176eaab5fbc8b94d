/* Models of names, shapes and metadata alone, without a file, and the embedded families. For the tests of lib/family. */
#ifndef APR_TESTS_BARE_MODEL_H
#define APR_TESTS_BARE_MODEL_H

#include "family/bind.h"
#include "files/source.h"

struct model {
    struct apr_model  m;
    struct apr_source config;
};

/* Of that format, with nothing in it; free with model_end. Texts and names must stay. */
void model_begin(struct model *m, const char *format);
void model_end(struct model *m);
void model_config(struct model *m, const char *text); /* its config.json */
struct apr_value *model_key(struct model *m, const char *key); /* a key more, to be filled */
void model_string(struct model *m, const char *key, const char *text);
void model_number(struct model *m, const char *key, uint64_t n);
void model_real(struct model *m, const char *key, double v);
void model_tensor(struct model *m, const char *name, uint64_t d0, uint64_t d1, uint64_t d2); /* dims end with 0 */

/* All families, for the time of a group of tests; one of them. */
extern struct apr_families *all;
int open_families(void **state);
int close_families(void **state);
const struct apr_family *family(const char *name);

#endif
