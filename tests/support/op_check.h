/* SPDX-License-Identifier: Apache-2.0 */
/* Checks an operation: values against a reference in double, gradients against finite differences, on all floating
 * dtypes, on inputs that lie in memory in several ways, with any number of threads. It works on test_device().
 *
 * Tolerances. dtype_epsilon is the distance from 1 to the next number (2^-7 for bf16); one rounding errs by half of it
 * at most, the unit roundoff (2^-8). Values and gradients may be wrong by `factor` epsilons times the square root of
 * `terms`. 16-bit tensors are computed on in f32, so theirs have two roundings at the end: one epsilon. */
#ifndef LIGHT_TESTS_OP_CHECK_H
#define LIGHT_TESTS_OP_CHECK_H

#include "support/tensors.h"

#define OP_MAX_IN  6
#define OP_COUNTER 3 /* of the step, for what is random */

typedef enum op_layout { OP_ROW_MAJOR, OP_CHANNELS_LAST, OP_GAPS, OP_TRANSPOSED, OP_LAYOUTS } op_layout;

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
    /* Row-major doubles in and out. Or `expected` has the values; both NULL: they are not checked. */
    void (*reference)(const double *const *in, double *out, const void *user);
    const double *expected;
    const void *user;
    op_input in[OP_MAX_IN];
    int count; /* of inputs; 0: 1 */
    light_shape out;
    light_dtype out_dtype; /* default: the dtype under test */
    int64_t terms;         /* of the longest sum in it: the tolerance grows with its square root */
    double factor;         /* of the tolerance, in units of epsilon; 0: 8 */
    double grad_factor;    /* the same for gradients; 0: 16 */
    double size;      /* magnitude that errors are relative to; 0: 1. Values above it count by themselves */
    unsigned layouts; /* bit i: the ith op_layout is tried; 0: all */
    bool no_grad;
    bool only_wide; /* f64 and f32 only */
} op_check;

void check_op(const op_check *check);
/* Values and gradients in f32 have the same bits for 1, 2 and 3 threads, in the first of `layouts`. Inputs should be
 * rough_values, whose sums round, so that the order of summation shows. */
void check_op_threads(const op_check *check);
/* The operation must fail, with `text` in its message. */
void check_op_fails(const op_check *check, light_dtype dtype, light_status status, const char *text);

#endif
