/* What <math.h> has and rounds as it likes, out of + - * / and integers alone: libm's bits change with the CPU and the release, these do
 * not. Each is within one unit in the last place of the correctly rounded double over its whole range, and mostly is that double; zeros
 * keep their sign, NaN gives NaN, subnormal numbers are numbers. Round to nearest is expected. */
#ifndef APR_FMATH_H
#define APR_FMATH_H

double apr_exp(double x);   /* inf above 709.78, 0 below -745.13 */
double apr_exp2(double x);  /* exact for integers; inf from 1024 on, 0 from -1075 down */
double apr_log(double x);   /* this and log10: -inf for 0, NaN below 0, inf for inf */
double apr_log10(double x); /* exact for powers of ten */
double apr_log1p(double x); /* log(1 + x): -inf for -1, NaN below */
double apr_sin(double x);   /* this and cos: radians of any size; NaN for inf */
double apr_cos(double x);
double apr_tanh(double x);
double apr_erf(double x);

/* In floats, bit by bit as PyTorch has it on x86, for every x between -87.33 and 87.33 (beyond, 47,391 floats of 2.4 million have the next
 * one there): one in a hundred is not the nearest, but as much as 0.56 units away. inf above 88.72, 0 below -103.97. */
float apr_exp_float(float x);

#endif
