/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of modules share: parameters as doubles, and gradients against finite differences. The modules are built
 * in f64. cmocka.h comes first. */
#ifndef LIGHT_TESTS_NN_REFERENCE_H
#define LIGHT_TESTS_NN_REFERENCE_H

#include <light/light.h>

#include <stdio.h>
#include <stdlib.h>

#include "support/near.h"

/* The values of a parameter, for the caller to free. */
static inline double *parameter(light_module *root, const char *path)
{
    light_parameter *p = light_find_parameter(root, path);
    if (!p) fail_msg("there is no %s", path);
    size_t bytes = (size_t)light_numel(p->tensor) * sizeof(double);
    double *values = malloc(bytes);
    assert_int_equal(light_tensor_read(p->tensor, LIGHT_F64, values, bytes), LIGHT_OK);
    return values;
}

/* Gives all parameters numbers that differ, biases and weights of norms included. */
static inline void scatter_parameters(light_module *root)
{
    int seed = 0;
    for (light_parameter *p = light_next_parameter(root, NULL); p; p = light_next_parameter(root, p)) {
        if (p->is_buffer) continue;
        int64_t n = light_numel(p->tensor);
        double *values = malloc((size_t)n * sizeof *values);
        for (int64_t i = 0; i < n; i++) values[i] = 0.6 * sin(1.3 * (double)i + 2.1 * seed + 0.4);
        assert_int_equal(light_tensor_write(p->tensor, LIGHT_F64, values, (size_t)n * sizeof *values),
                         LIGHT_OK);
        free(values);
        seed++;
    }
}

static inline void fill_wave(double *values, int64_t n, double phase)
{
    for (int64_t i = 0; i < n; i++) values[i] = sin(0.9 * (double)i + phase);
}

static inline light_step *new_step(void)
{
    light_step *s;
    if (light_step_new(&s, .seed = 1) != LIGHT_OK || light_step_begin(s) != LIGHT_OK)
        fail_msg("%s", light_error_message());
    return s;
}

static inline double *read_tensor(light_step *s, light_tensor *t)
{
    if (!t) fail_msg("%s (%d)", light_error_message(), (int)light_step_status(s));
    size_t bytes = (size_t)light_numel(t) * sizeof(double);
    double *values = malloc(bytes);
    assert_int_equal(light_tensor_read(t, LIGHT_F64, values, bytes), LIGHT_OK);
    return values;
}

/* A sum with different weights, so that every element of y counts. */
static inline light_tensor *weighted_sum(light_step *s, light_tensor *y)
{
    if (!y) fail_msg("%s", light_error_message());
    int64_t n = light_numel(y);
    double *w = malloc((size_t)n * sizeof *w);
    fill_wave(w, n, 0.3);
    light_tensor *weights = light_from_host(s, light_shape_of(y), LIGHT_F64, w);
    free(w);
    return light_sum(s, light_mul(s, y, weights), LIGHT_ALL, false);
}

typedef light_tensor *(*loss_fn)(light_step *s, light_module *root);

static inline double loss_value(light_module *root, loss_fn loss)
{
    light_step *s = new_step();
    double value;
    if (light_item(loss(s, root), &value) != LIGHT_OK) fail_msg("%s", light_error_message());
    light_step_free(s);
    return value;
}

/* Every parameter's gradient against central differences, in f64. */
static inline void check_gradients(light_module *root, loss_fn loss)
{
    const double h = 1e-5;
    light_step *s = new_step();
    light_tensor *l = loss(s, root);
    if (light_backward(s, l) != LIGHT_OK) fail_msg("%s", light_error_message());
    light_step_free(s);
    for (light_parameter *p = light_next_parameter(root, NULL); p; p = light_next_parameter(root, p)) {
        if (p->is_buffer) continue;
        size_t bytes = (size_t)light_numel(p->tensor) * sizeof(double);
        double *values = parameter(root, p->path), *grad = malloc(bytes);
        if (!light_grad(p->tensor)) fail_msg("%s has no gradient", p->path);
        assert_int_equal(light_tensor_read(light_grad(p->tensor), LIGHT_F64, grad, bytes), LIGHT_OK);
        for (int64_t i = 0; i < light_numel(p->tensor); i++) {
            double sides[2], was = values[i];
            for (int side = 0; side < 2; side++) {
                values[i] = side ? was + h : was - h;
                assert_int_equal(light_tensor_write(p->tensor, LIGHT_F64, values, bytes), LIGHT_OK);
                sides[side] = loss_value(root, loss);
            }
            values[i] = was;
            double want = (sides[1] - sides[0]) / (2 * h);
            if (fabs(grad[i] - want) > 1e-7 * (1 + fabs(want)))
                fail_msg("%s[%lld]: gradient %.12g, differences give %.12g", p->path, (long long)i, grad[i],
                         want);
        }
        assert_int_equal(light_tensor_write(p->tensor, LIGHT_F64, values, bytes), LIGHT_OK);
        free(values);
        free(grad);
        light_grad_zero(p->tensor);
    }
}

#endif
