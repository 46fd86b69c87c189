/* SPDX-License-Identifier: Apache-2.0 */
/* Checks an operation: values against a reference in double, gradients against finite differences, on all floating
 * dtypes and on inputs that lie in memory in several ways. */
#ifndef LIGHT_TESTS_OP_CHECK_H
#define LIGHT_TESTS_OP_CHECK_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <light/ops.h>

#define OP_MAX_IN 6

typedef struct op_input {
    light_shape shape;
    double low, high;     /* values are spread over [low, high]; both 0: [-2, 2] */
    const double *values; /* instead: row-major; those of floating inputs should be exact in bf16 */
    light_dtype dtype;    /* default: the dtype that is under test */
    bool absent;          /* NULL is passed */
    bool constant;        /* asks for no gradient */
    bool row_major;       /* is always contiguous */
} op_input;

typedef struct op_check {
    const char *name;
    light_tensor *(*apply)(light_step *s, light_tensor **in, const void *user);
    /* Row-major doubles in and out; NULL: values are not checked. */
    void (*reference)(const double *const *in, double *out, const void *user);
    const void *user;
    op_input in[OP_MAX_IN];
    int count; /* of inputs; 0: 1 */
    light_shape out;
    light_dtype out_dtype; /* default: the dtype under test */
    int64_t terms;         /* of the longest sum in it: the tolerance grows with its square root */
    double factor;         /* of the tolerance, in units of epsilon; 0: 8 */
    double grad_factor;    /* the same for gradients; 0: 32 */
    double size; /* magnitude that errors are relative to; 0: 1. Values above it count by themselves */
    bool no_grad;
    bool only_wide; /* f64 and f32 only */
} op_check;

void check_op(const op_check *check);

/* A step for tests; fails the test when it cannot be had. */
light_step *new_step(void);
/* Fails the test, with the message, unless the step has not failed. */
void assert_step_ok(const light_step *s);
/* The step has failed with this status, and the text contains `part`. */
void assert_step_failed(const light_step *s, light_status status, const char *part);
/* A tensor of the step from row-major doubles. */
light_tensor *from_doubles(light_step *s, light_shape shape, light_dtype dtype, const double *values);
/* All elements, row-major, into `values`. */
void read_doubles(const light_tensor *t, double *values);
/* Compares t with row-major doubles; `tolerance` is relative to max(1, |expected|). */
void assert_values(const light_tensor *t, const double *expected, double tolerance);
/* Pseudo-random numbers in [low, high], exact in bf16. */
void spread_values(double *values, int64_t n, double low, double high, uint64_t seed);
double dtype_epsilon(light_dtype dtype);

#endif
