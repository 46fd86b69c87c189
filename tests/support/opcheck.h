/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of an operation: values against a reference in double, gradients against finite differences, dtypes against
 * each other, threads against each other. Inputs are sixteenths, which every floating dtype holds exactly, so a
 * reference is the same for all of them. */
#ifndef LIGHT_TESTS_SUPPORT_OPCHECK_H
#define LIGHT_TESTS_SUPPORT_OPCHECK_H

#include <light/ops.h>

#define OPCHECK_MAX_INPUTS 8

typedef struct opcheck_input {
    light_shape shape;
    const double *values; /* row-major */
    light_dtype dtype;    /* LIGHT_DTYPE_DEFAULT: the floating dtype under test */
    bool grad;
    bool channels_last;
} opcheck_input;

/* The operation under test; the result may be of any shape. */
typedef light_tensor *(*opcheck_fn)(light_step *s, light_tensor **in, void *context);

typedef struct opcheck {
    opcheck_fn fn;
    void *context;
    int n;
    opcheck_input in[OPCHECK_MAX_INPUTS];
    double slack; /* tolerances are this many times the dtype's epsilon; 0 means 16 */
} opcheck;

/* Sixteenths in [-2, 2]; the same with all values distinct (n at most 256, in [0, 16)). */
void opcheck_fill(double *values, int64_t n, uint64_t seed);
void opcheck_fill_distinct(double *values, int64_t n, uint64_t seed);
/* Any numbers in [-2, 2): their sums round, so the order of summation shows. For opcheck_threads. */
void opcheck_fill_rough(double *values, int64_t n, uint64_t seed);

/* Values in every floating dtype against `expected`. */
void opcheck_values(const opcheck *check, const double *expected, int64_t n);
/* Gradients: f64 against finite differences, the other dtypes against f64, a second pass adds to the first. */
void opcheck_gradients(const opcheck *check);
/* Both for one layout after another: inputs marked channels_last as they are, and all row-major. */
void opcheck_all(const opcheck *check, const double *expected, int64_t n);
/* Values and gradients in f32 have the same bits for 1, 2 and 3 threads. */
void opcheck_threads(const opcheck *check);
/* The operation must fail, with `text` in its message. */
void opcheck_fails(const opcheck *check, light_dtype dtype, light_status status, const char *text);

/* |a - b| <= tolerance (1 + |b|), or both are NaN or equal infinities. */
void opcheck_near(double a, double b, double tolerance, const char *what, int64_t i);

#endif
