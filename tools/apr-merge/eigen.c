/* Eigenvectors of a small symmetric matrix: Householder's tridiagonalization, then QR steps with Wilkinson's shift (G. Golub, C. Van Loan,
 * "Matrix computations", 8.3). */
#include "eigen.h"

#include <math.h>
#include <string.h>

/* ---- vectors -------------------------------------------------------------------------------------------------------- */

typedef double eight __attribute__((vector_size(64)));

double dot_of(const double *a, const double *b, size_t n)
{
    eight sum = { 0 }, x, y;
    double v[8], rest = 0;
    for (; n >= 8; n -= 8, a += 8, b += 8) {
        memcpy(&x, a, sizeof x);
        memcpy(&y, b, sizeof y);
        sum += x * y;
    }
    for (size_t i = 0; i < n; i++)
        rest += a[i] * b[i];
    memcpy(v, &sum, sizeof v);
    return (((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))) + rest;
}

void add_to(double *y, double a, const double *x, size_t n)
{
    eight u, v;
    for (; n >= 8; n -= 8, x += 8, y += 8) {
        memcpy(&u, x, sizeof u);
        memcpy(&v, y, sizeof v);
        v += a * u;
        memcpy(y, &v, sizeof v);
    }
    for (size_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

/* ---- eigenvectors of a small symmetric matrix ------------------------------------------------------------------------ */

/* a (n x n, undone) becomes diagonal d, with e beside it; row k of a is the reflection that did it, its factor at k. */
static void tridiagonalize(double *a, size_t n, double *d, double *e, double *w)
{
    for (size_t k = 0; k + 1 < n; k++) {
        double *const v = a + k * n + k + 1, length = sqrt(dot_of(v, v, n - k - 1));
        const size_t m = n - k - 1;
        d[k] = a[k * n + k];
        e[k] = v[0] > 0 ? -length : length;
        v[0] -= e[k];
        const double square = dot_of(v, v, m), by = m == 1 || square == 0 ? 0 : 2 / square;
        a[k * n + k] = by;
        if (by == 0)
            e[k] += v[0];
        for (size_t i = 0; i < m && by != 0; i++)
            w[i] = by * dot_of(a + (k + 1 + i) * n + k + 1, v, m);
        if (by != 0)
            add_to(w, -by / 2 * dot_of(w, v, m), v, m);
        for (size_t i = 0; i < m && by != 0; i++) {
            add_to(a + (k + 1 + i) * n + k + 1, -v[i], w, m);
            add_to(a + (k + 1 + i) * n + k + 1, -w[i], v, m);
        }
    }
    d[n - 1] = a[n * n - 1];
}

/* The product of all reflections: rows that the steps below turn into eigenvectors. */
static void gather(double *a, size_t n, double *rows)
{
    for (size_t i = 0; i < n; i++)
        rows[i * n + i] = 1;
    for (size_t k = n - 1; k-- > 0;)
        for (size_t i = k + 1; i < n && a[k * n + k] != 0; i++) {
            double *const row = rows + i * n + k + 1, *const v = a + k * n + k + 1;
            add_to(row, -a[k * n + k] * dot_of(row, v, n - k - 1), v, n - k - 1);
        }
}

static void rotate(double *x, double *y, double c, double s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const double u = x[i], v = y[i];
        x[i] = c * u + s * v;
        y[i] = c * v - s * u;
    }
}

/* One step from `low` to `high`, which hang together. */
static void qr_step(double *d, double *e, size_t low, size_t high, double *rows, size_t n)
{
    const double half = (d[high - 1] - d[high]) / 2, last = e[high - 1], root = sqrt(half * half + last * last);
    double x = d[low] - (d[high] - last * last / (half + (half < 0 ? -root : root))), z = e[low];
    for (size_t k = low; k < high; k++) {
        const double r = sqrt(x * x + z * z), c = r > 0 ? x / r : 1, s = r > 0 ? z / r : 0;
        const double one = d[k], two = d[k + 1], off = e[k];
        if (k > low)
            e[k - 1] = r;
        d[k] = c * c * one + 2 * c * s * off + s * s * two;
        d[k + 1] = s * s * one - 2 * c * s * off + c * c * two;
        e[k] = c * s * (two - one) + (c * c - s * s) * off;
        if (k + 1 < high) {
            x = e[k];
            z = s * e[k + 1];
            e[k + 1] *= c;
        }
        if (rows != NULL)
            rotate(rows + k * n, rows + (k + 1) * n, c, s, n);
    }
}

void eigen(double *a, size_t n, double *d, double *rows, double *work)
{
    double *const e = work;
    size_t high = n - 1, steps = 60 * n; /* two or three for each value are usual */
    tridiagonalize(a, n, d, e, work + n);
    if (rows != NULL)
        gather(a, n, rows);
    while (high > 0 && steps-- > 0) {
        size_t low = high;
        while (low > 0 && fabs(e[low - 1]) > 0x1p-53 * (fabs(d[low - 1]) + fabs(d[low])))
            low--;
        if (low == high)
            high--;
        else
            qr_step(d, e, low, high, rows, n);
    }
}
