/* exp and ln out of + - * / alone: libm's bits change with the CPU, these do not. Within one unit in the last place of double; rounded
 * to f32 by callers. */
#ifndef APR_FMATH_H
#define APR_FMATH_H

double apr_exp(double x); /* inf above 709.78, 0 below -745.13, NaN for NaN */
double apr_ln(double x);  /* -inf for 0, NaN below 0 and for NaN, inf for inf */

#endif
