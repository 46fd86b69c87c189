/* SPDX-License-Identifier: Apache-2.0 */
/* The vectorised f32 functions against libm in double, over their whole range. */
#include "cpu/vec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

typedef struct function {
    const char *name;
    float (*fast)(float x);
    double (*exact)(double x);
    float low, high;
    double units; /* of the last place */
} function;

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static const function functions[] = {
    {"exp", light_vec_exp_f32, exp, -103, 88.7f, 2},  {"log", light_vec_log_f32, log, 1e-38f, 1e38f, 2},
    {"log", light_vec_log_f32, log, 0.5f, 2, 2},      {"log1p", light_vec_log1p_f32, log1p, 0, 4, 3},
    {"expm1", light_vec_expm1_f32, expm1, -20, 1, 4}, {"tanh", light_vec_tanh_f32, tanh, -10, 10, 2.5},
    {"erf", light_vec_erf_f32, erf, -5, 5, 2.5},      {"sigmoid", light_vec_sigmoid_f32, sigmoid, -80, 80, 3},
};

/* The distance to the next larger float, also for denormal numbers. */
static double unit_of(double y)
{
    int exponent;
    frexp(y, &exponent);
    return ldexp(1, (exponent < -125 ? -125 : exponent) - 24);
}

static void close_to_libm(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        const function *f = &functions[i];
        for (int k = 0; k <= 200000; k++) {
            /* Half of the arguments evenly, half close to 0 or to the lower bound. */
            double t = k / 200000.0, x = k % 2 ? f->low + t * ((double)f->high - f->low)
                                               : f->low + (f->high - f->low) * pow(t, 40);
            if (k % 4 == 0 && f->low < 0) x = f->high * pow(t, 40);
            float at = (float)x;
            double expected = f->exact((double)at), got = (double)f->fast(at);
            if (fabs(got - expected) > f->units * unit_of(expected))
                fail_msg("%s(%.9g) is %.9g instead of %.9g: %.2f units", f->name, (double)at, got, expected,
                         fabs(got - expected) / unit_of(expected));
        }
    }
}

static void at_the_ends(void **state)
{
    (void)state;
    assert_true(light_vec_exp_f32(-INFINITY) == 0 && light_vec_exp_f32(-200) == 0);
    assert_true(isinf(light_vec_exp_f32(89)) && isinf(light_vec_exp_f32(INFINITY)));
    assert_true(light_vec_exp_f32(-103) > 0);
    assert_true(light_vec_log_f32(0) == -INFINITY && light_vec_log_f32(INFINITY) == INFINITY);
    assert_true(isnan(light_vec_log_f32(-1)));
    assert_true(fabsf(light_vec_log_f32(1e-44f) - logf(1e-44f)) < 1e-4f);
    assert_true(light_vec_log1p_f32(INFINITY) == INFINITY);
    assert_true(light_vec_tanh_f32(INFINITY) == 1 && light_vec_tanh_f32(-INFINITY) == -1);
    assert_true(light_vec_erf_f32(INFINITY) == 1 && light_vec_erf_f32(-INFINITY) == -1);
    assert_true(light_vec_sigmoid_f32(-INFINITY) == 0 && light_vec_sigmoid_f32(INFINITY) == 1);
    assert_true(light_vec_expm1_f32(-INFINITY) == -1);
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        assert_true(isnan(functions[i].fast(NAN)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(close_to_libm), cmocka_unit_test(at_the_ends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
