/* Vectors, and the eigenvectors of small symmetric matrices, in one order of sums at any level of instructions. */
#ifndef APR_MERGE_EIGEN_H
#define APR_MERGE_EIGEN_H

#include <stddef.h>

/* The sum of a[i] * b[i], in eight lanes: element i goes to lane i % 8. y += a x. */
double dot_of(const double *a, const double *b, size_t n);
void add_to(double *y, double a, const double *x, size_t n);

/* Eigenvalues of a, n x n, which is undone, into d, in no order; eigenvectors into the rows of `rows`, zeros before, unless that is NULL.
 * work: 2 n numbers. */
void eigen(double *a, size_t n, double *d, double *rows, double *work);

#endif
