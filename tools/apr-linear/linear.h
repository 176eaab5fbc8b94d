/* The verbs of apr-linear, each a command line of its own: argv[0] is the verb. They return the exit code. */
#ifndef APR_LINEAR_H
#define APR_LINEAR_H

int fit_main(int argc, char **argv);
int predict_main(int argc, char **argv);
int serve_main(int argc, char **argv);

#endif
