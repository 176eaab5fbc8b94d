/* A config.json being made: what goes into it (translate_config.c), and what is made of one that is there (translate_hf.c). */
#ifndef APR_TRANSLATE_CONFIG_H
#define APR_TRANSLATE_CONFIG_H

#include "family/translate_parts.h"
#include "files/source.h"
#include "model/model.h"

/* A model as a config.json alone describes it. */
struct apr_config_alone {
    struct apr_model    model;
    struct apr_source   config;
    struct apr_binding *b;
};

/* A config.json being made.
 *   keys    those of the GGUF that the source is or was; empty when it is none
 *   text    config.json, beginning with the one that the source carries
 *   into    before each path of a config.json that is being made; NULL: one that is there has them where it has them
 *   like    the carried config alone
 *   arena   of all texts; it becomes the files' */
struct apr_config_work {
    const struct apr_translation *t;
    struct apr_draft              keys;
    struct apr_bytes              text;
    const char                   *into;
    struct apr_config_alone       like;
    struct apr_arena            **arena;
    struct apr_error             *e;
};

/* Puts JSON, or a value, at a path, within text_config where there is one; that place, spelled in `room` if need be. */
APR_MUST_CHECK enum apr_code apr_config_put(struct apr_config_work *w, const char *path, struct apr_bytes json);
APR_MUST_CHECK enum apr_code apr_config_put_value(struct apr_config_work *w, const char *path, const struct apr_value *v);
const char *apr_config_inner(struct apr_config_work *w, const char *path, char room[300]);

/* A whole one, as the contract has it, into w->text. */
APR_MUST_CHECK enum apr_code apr_config_make(struct apr_config_work *w);

/* What PyTorch calls it; NULL: nothing. */
const char *apr_config_dtype(const struct apr_dtype *d);

#endif
