/* An adapter of what one model has over another. */
#ifndef APR_MERGE_EXTRACT_H
#define APR_MERGE_EXTRACT_H

#include "merge.h"

/* Writes what the second operand has over the first, as PEFT has it, into the folder that o names. Returns the exit code. */
int extract_lora(struct options *o);

#endif
