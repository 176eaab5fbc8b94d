/* How another program calls what flows between the stages: a YAML map from its names to ours (docs/apr-trace.md has the form). */
#ifndef APR_STAGE_MAP_H
#define APR_STAGE_MAP_H

#include "base/core.h"

/* A compiled map. One thread at a time. */
struct apr_stage_map;

/* Compiles a map and says what is wrong with it: unknown keys and stages, a layer's stage without {L} in its names, more than is
 * accepted. APR_EARG with a text that begins with "line N". On failure *map is NULL. The text may go; free with apr_stage_map_free, NULL
 * is nothing. */
APR_MUST_CHECK enum apr_code apr_stage_map_parse(struct apr_stage_map **map, struct apr_bytes text, struct apr_error *e);
void apr_stage_map_free(struct apr_stage_map *map);

/* The same of a file, or of an embedded one by its name: maps/transformers.yaml is "transformers", and NULL. */
APR_MUST_CHECK enum apr_code apr_stage_map_open(struct apr_stage_map **map, const char *name, const struct apr_run *r,
                                                struct apr_error *e);

#endif
