/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors from and to doubles, numbers to fill them with, steps: what tests of operations begin and end with. All of it is
 * on test_device(). */
#ifndef LIGHT_TESTS_TENSORS_H
#define LIGHT_TESTS_TENSORS_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <light/ops.h>

#include "support/device.h"

/* Fails the test, with the message. */
void assert_light_ok(light_status status);

/* A step for tests; fails the test when it cannot be had. */
light_step *new_step(void);
/* Fails the test, with the message, unless the step has not failed. */
void assert_step_ok(const light_step *s);
/* The step has failed with this status, and the text contains `part`. */
void assert_step_failed(const light_step *s, light_status status, const char *part);
/* An index was out of range. A GPU says so when it gets there, with the index but not its position. */
void assert_index_error(const light_step *s, const char *on_host, const char *on_gpu);

/* A tensor of the step, and one for the caller to free, from row-major doubles. */
light_tensor *from_doubles(light_step *s, light_shape shape, light_dtype dtype, const double *values);
light_tensor *new_from_doubles(light_shape shape, light_dtype dtype, const double *values);
void write_doubles(light_tensor *t, const double *values);
/* All elements, row-major, into `values`; or for the caller to free. */
void read_doubles(const light_tensor *t, double *values);
double *all_doubles(const light_tensor *t);
/* n zeros, for the caller to free. */
double *new_doubles(int64_t n);

/* Compares t with row-major doubles; `tolerance` is relative to max(1, |expected|). */
void assert_values(const light_tensor *t, const double *expected, double tolerance);
/* Equal, or apart by no more than `tolerance`. NaN is near NaN. */
bool nearly(double got, double expected, double tolerance);
/* The distance from 1 to the next number: 2^-7 for bf16. */
double dtype_epsilon(light_dtype dtype);

/* Pseudo-random numbers in [low, high], exact in bf16. */
void spread_values(double *values, int64_t n, double low, double high, uint64_t seed);
/* All of them distinct by a sixteenth or more, exact in bf16; n at most 256. */
void distinct_values(double *values, int64_t n, uint64_t seed);
/* Numbers in [-2, 2) with 31 random bits. */
void rough_values(double *values, int64_t n, uint64_t seed);

#endif
