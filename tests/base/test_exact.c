/* SPDX-License-Identifier: Apache-2.0 */
/* Sums without rounding, against sums that are known, and against themselves in other orders. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/exact.h"

static uint64_t state = 88172645463325252u;

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* Any finite double, of all exponents. */
static double any_double(void)
{
    double value;
    do {
        uint64_t bits = next();
        memcpy(&value, &bits, sizeof value);
    } while (!isfinite(value));
    return value;
}

static double sum_of(const double *values, int n)
{
    light_exact_sum sum = {0};
    for (int i = 0; i < n; i++) light_exact_add(&sum, values[i]);
    return light_exact_value(&sum);
}

static void assert_same(double a, double b)
{
    if (memcmp(&a, &b, sizeof a)) fail_msg("%a is not %a", a, b);
}

static void one_term_comes_back(void **unused)
{
    const double values[] = {0,       1,        -1,        0.1,        -0.1,        DBL_MAX,     -DBL_MAX,
                             DBL_MIN, -DBL_MIN, 0x1p-1074, -0x1p-1074, 0x1.8p-1073, 0x1.fp-1023, 0x1p-1022};
    (void)unused;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) assert_same(sum_of(&values[i], 1), values[i]);
    for (int i = 0; i < 100000; i++) {
        double value = any_double();
        if (value != 0) assert_same(sum_of(&value, 1), value);
    }
}

/* The sum of two doubles is rounded by the processor in the same way. */
static void two_terms_are_rounded_to_the_nearest(void **unused)
{
    (void)unused;
    for (int i = 0; i < 200000; i++) {
        double values[2] = {any_double(), any_double()};
        if (i % 2) { /* of about the same size, and halfway between two doubles now and then */
            values[0] = ldexp((double)(next() >> 11), 0);
            values[1] = ldexp((double)(int64_t)(next() >> 40), i % 64 - 60);
        }
        double expected = values[0] + values[1];
        if (expected != 0) assert_same(sum_of(values, 2), expected);
    }
}

static void terms_that_cancel_leave_what_is_small(void **unused)
{
    (void)unused;
    assert_same(sum_of((double[]){1e300, 1, -1e300}, 3), 1);
    assert_same(sum_of((double[]){DBL_MAX, DBL_MAX, 0x1p-1074, -DBL_MAX, -DBL_MAX}, 5), 0x1p-1074);
    assert_same(sum_of((double[]){DBL_MAX, DBL_MAX, -DBL_MAX}, 3), DBL_MAX);
    assert_same(sum_of((double[]){DBL_MAX, DBL_MAX}, 2), (double)INFINITY);
    assert_same(sum_of((double[]){0.5, -0.5}, 2), 0);
    /* Half of the last digit, and a bit more that is far away. */
    assert_same(sum_of((double[]){1, 0x1p-53}, 2), 1);
    assert_same(sum_of((double[]){1, 0x1p-53, 0x1p-1000}, 3), 1 + 0x1p-52);
    assert_same(sum_of((double[]){-1, -0x1p-53, -0x1p-1000}, 3), -1 - 0x1p-52);
    assert_same(sum_of((double[]){1 + 0x1p-52, 0x1p-53}, 2), 1 + 0x1p-51);
    assert_same(sum_of((double[]){1 + 0x1p-52, 0x1p-53, -0x1p-1000}, 3), 1 + 0x1p-52);
    /* 1 - 2^-54 and 2^-54 less: across a power of two. */
    assert_same(sum_of((double[]){1, -0x1p-54}, 2), 1);
    assert_same(sum_of((double[]){1, -0x1p-54, -0x1p-1074}, 3), 1 - 0x1p-53);
}

static void order_and_split_do_not_matter(void **unused)
{
    enum { N = 1000 };
    double values[N];
    (void)unused;
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < N; i++)
            values[i] = round % 2 ? any_double() : ldexp((double)(int64_t)next(), -70);
        double expected = sum_of(values, N);
        for (int i = N - 1; i > 0; i--) {
            int j = (int)(next() % (uint64_t)(i + 1));
            double swap = values[i];
            values[i] = values[j];
            values[j] = swap;
        }
        light_exact_sum parts[7] = {0}, all = {0};
        for (int i = 0; i < N; i++) light_exact_add(&parts[next() % 7], values[i]);
        for (int p = 6; p >= 0; p--) light_exact_add_sum(&all, &parts[p]);
        assert_same(light_exact_value(&all), expected);
        assert_same(sum_of(values, N), expected);
    }
}

static void what_is_no_number_stays(void **unused)
{
    const double inf = (double)INFINITY;
    (void)unused;
    assert_same(sum_of((double[]){1, inf, 2}, 3), inf);
    assert_same(sum_of((double[]){1, -inf, DBL_MAX}, 3), -inf);
    assert_true(isnan(sum_of((double[]){inf, -inf}, 2)));
    assert_true(isnan(sum_of((double[]){1, (double)NAN, inf}, 3)));
    light_exact_sum a = {0}, b = {0};
    light_exact_add(&a, inf);
    light_exact_add(&b, -inf);
    light_exact_add_sum(&a, &b);
    assert_true(isnan(light_exact_value(&a)));
}

/* Carries of a long row of terms of both signs. */
static void many_terms_do_not_overflow(void **unused)
{
    light_exact_sum sum = {0};
    (void)unused;
    for (int i = 0; i < 3000000; i++) light_exact_add(&sum, 0x1.fffffffffffffp+20);
    sum.terms = (INT64_C(1) << 30) - 1; /* the next one brings carries upwards */
    light_exact_add(&sum, -0x1.fffffffffffffp+20);
    assert_int_equal(sum.terms, 0);
    for (int i = 0; i < 2999998; i++) light_exact_add(&sum, -0x1.fffffffffffffp+20);
    assert_same(light_exact_value(&sum), 0x1.fffffffffffffp+20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_term_comes_back),
        cmocka_unit_test(two_terms_are_rounded_to_the_nearest),
        cmocka_unit_test(terms_that_cancel_leave_what_is_small),
        cmocka_unit_test(order_and_split_do_not_matter),
        cmocka_unit_test(what_is_no_number_stays),
        cmocka_unit_test(many_terms_do_not_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
