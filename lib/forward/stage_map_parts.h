/* A compiled map of foreign names, for those who apply it. */
#ifndef APR_STAGE_MAP_PARTS_H
#define APR_STAGE_MAP_PARTS_H

#include "base/pattern.h"
#include "forward/stage_map.h"
#include "model/stage.h"

/* A foreign name in two texts around its {L}, the number of the layer; without one (layered false) all of it stands in `before`. */
struct apr_foreign_name {
    struct apr_bytes before, after;
    bool             layered;
};

/* Names of one line, at most so many. */
#define APR_MAX_FOREIGN 8
struct apr_foreign_names {
    struct apr_foreign_name name[APR_MAX_FOREIGN];
    unsigned                n;
};

/* One line.
 *   stage   from's tensors, side by side, are that one; cut into nstage > 1 equal parts along the last dimension they are all of these
 *   either  that stage instead, where the other side has it; APR_NSTAGES: there is none
 *   when    only where one of those is there; unless: only where none of those is. Of the same layer, at either side of the module where
 *           the name does not say ":in" or ":out" */
struct apr_map_line {
    unsigned                 line, stage[APR_MAX_FOREIGN], nstage, either;
    struct apr_foreign_names from, when, unless;
};

struct apr_stage_map {
    struct apr_bytes    *prefix; /* the longest that a name begins with is taken off */
    struct apr_map_line *line;   /* the first that fits makes a stage */
    size_t               nprefix, nline;
    struct apr_patterns *ignore; /* foreign names, whole */
    struct apr_arena    *arena;
};

/* The name without its prefix, and ":out" behind it where it has no side; *name is a view or a copy in the arena. */
APR_MUST_CHECK enum apr_code apr_foreign_plain(const struct apr_stage_map *map, struct apr_arena **arena, struct apr_bytes *name,
                                               struct apr_error *e);

/* Does a plain name match, and of which layer? *layer is 0 for one without {L}. */
bool apr_foreign_matches(const struct apr_foreign_name *pattern, struct apr_bytes name, uint32_t *layer);

/* The pattern of one layer, with `end` behind it, into `room` bytes; its length, or 0 when it does not fit. */
size_t apr_foreign_spell(const struct apr_foreign_name *pattern, uint32_t layer, const char *end, char *out, size_t room);

#endif
