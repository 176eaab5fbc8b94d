/* What can be wrong with a file, or worth a word: the one table of it. Who finds something says its code alone. */
#ifndef APR_FINDINGS_H
#define APR_FINDINGS_H

#include "base/core.h"

/* Of a checker, as cli.md counts them. */
enum apr_stage {
    APR_STAGE_CONTAINER = 1, APR_STAGE_INDEX, APR_STAGE_EXTENTS, APR_STAGE_METADATA, APR_STAGE_CONTRACT, APR_STAGE_TOKENIZER,
    APR_STAGE_VALUES, APR_STAGE_DEGENERATE, APR_STAGE_DISTRIBUTION, APR_STAGE_ROUND_TRIP,
};

/* A row; docs/findings.md has the causes and is checked against the rest.
 *   code      never changes ("gguf.dup_name")
 *   severity  how bad it is; mild: at least, where that depends on the case
 *   refused   a file that has it cannot be opened
 *   remedy    what to do, for people */
struct apr_finding {
    const char       *code;
    enum apr_stage    stage;
    enum apr_severity severity, mild;
    bool              refused;
    const char       *remedy;
};

/* In the order of stages; a row without a code ends it. */
extern const struct apr_finding apr_findings[];

/* The row of a code that has one. */
const struct apr_finding *apr_finding_of(const char *code);

#endif
