/* A server of apr-linear without a socket, whose models are put together by hand. */
#ifndef APR_TESTS_LINEAR_SERVER_H
#define APR_TESTS_LINEAR_SERVER_H

#include "../tools/apr-linear/serve.h"

/* Two models: "kinds", of the inputs width and height, with the classes "a", "b\"" and 3, softmax over (width, height, 0) and biases
 * (0, 0, 0.5); "sum", of two inputs without names, whose answer is their sum and 0.25. Bodies of at most 4096 bytes. Ends with the process'
 * memory, or with linear_server_end. */
void linear_server_begin(struct server *s);
void linear_server_end(struct server *s);

#endif
