/* A compiled expression's nodes: what reading one (expr.c) and working one out (expr_value.c) share. */
#ifndef APR_EXPR_PARTS_H
#define APR_EXPR_PARTS_H

#include "family/expr.h"

enum op {
    NUMBER, STRING, NAME, HAS, LENGTH, VALUE,
    AT, HAS_AT, LETTER, FIND,                                             /* of a path and operands */
    AND, OR, IF, FIRST,                                                   /* which operands are needed, they find out */
    NEGATIVE, NOT, FLOOR, CEIL, SQRT, LN, EXP, NORMAL, QUANTILE,
    EQ, NE, LT, LE, GT, GE, ADD, SUB, MUL, DIV, MOD, MIN, MAX, FIRST_BINARY = EQ,
};

/* kid: indices of the operands, all below the node's own. text: of names and paths as spelled, of STRING without its quotes. */
struct node {
    enum op          op;
    uint16_t         kid[3];
    double           number;
    struct apr_bytes text;
};

/* The nodes, leaves in the order of the text; the last one is the root. */
struct apr_expr {
    uint16_t    n;
    struct node node[];
};

#endif
