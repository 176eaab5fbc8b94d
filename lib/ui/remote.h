/* Operands that are addresses: the options that go with them, and what the environment says of the hub and of caches. */
#ifndef APR_UI_REMOTE_H
#define APR_UI_REMOTE_H

#include "ui/cli.h"

/* Rows for a tool's option table; c is its struct apr_cli. */
#define APR_REMOTE_OPTIONS(c)                                                                                                          \
    { "--download", APR_OPTION_FLAG, &(c)->download, NULL, "fetch all of a model at an address, where all of it is needed" },           \
    { "--no-cache", APR_OPTION_FLAG, &(c)->no_cache, NULL, "take nothing that was fetched before from the cache, and keep nothing" },   \
    { "--verbose", APR_OPTION_FLAG, &(c)->verbose, NULL, "say how many bytes were fetched" }

/* Sets c->run.remote where an operand, or a model that an option names, is an address and the tool has these options, and reads the
 * environment then: HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HOME, XDG_CACHE_HOME, HOME. -1 to go on, or the exit code: the fault has been
 * told. Called by apr_cli_parse. */
int apr_remote_settle(struct apr_cli *c);

/* With --verbose: how many bytes came in, on stderr. */
void apr_remote_tell(const struct apr_cli *c);

#endif
