/* SPDX-License-Identifier: Apache-2.0 */
/* Exact sums: against integers and long sums whose result is known, in any order and any number of parts. */
#include "base/exact.h"
#include "base/philox.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static double sum_of(const double *x, int n)
{
    int64_t limbs[LIGHT_EXACT_SIZE] = {0};
    for (int i = 0; i < n; i++) light_exact_add(limbs, x[i]);
    return light_exact_value(limbs);
}

static void assert_same(double a, double b)
{
    assert_memory_equal(&a, &b, sizeof a);
}

static void test_single_numbers_come_back(void **state)
{
    const double x[] = {0,        1,      -1,      0.1,   -DBL_MAX, DBL_MAX, DBL_MIN,
                        -DBL_MIN, 5e-324, -5e-324, 1e300, 3e-310,   M_PI,    4503599627370497.0};
    (void)state;
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) assert_same(sum_of(&x[i], 1), x[i]);
}

static void test_nothing_is_lost(void **state)
{
    (void)state;
    assert_same(sum_of((double[]){1e308, 1, -1e308}, 3), 1);
    assert_same(sum_of((double[]){1e308, 5e-324, -1e308, 5e-324}, 4), 1e-323);
    assert_same(sum_of((double[]){DBL_MAX, DBL_MAX, -DBL_MAX}, 3),
                DBL_MAX); /* beyond the largest on the way */
    assert_same(sum_of((double[]){-1, 5e-324, 1}, 3), 5e-324);
    assert_same(sum_of((double[]){DBL_MAX, DBL_MAX}, 2), INFINITY);
}

static void test_rounds_to_nearest_even(void **state)
{
    const double one = 1, eps = DBL_EPSILON, tiny = 5e-324;
    (void)state;
    assert_same(sum_of((double[]){one, eps / 2}, 2), one);                 /* a tie, to even */
    assert_same(sum_of((double[]){one, eps / 2, tiny}, 3), one + eps);     /* above the tie by the least */
    assert_same(sum_of((double[]){one + eps, eps / 2}, 2), one + 2 * eps); /* a tie, to even */
    assert_same(sum_of((double[]){one + eps, eps / 2, -tiny}, 3), one + eps);
    assert_same(sum_of((double[]){-one, -eps / 2, -tiny}, 3), -one - eps);
}

static void test_what_is_not_finite_stays(void **state)
{
    (void)state;
    assert_same(sum_of((double[]){1, INFINITY, -5}, 3), INFINITY);
    assert_same(sum_of((double[]){1, -INFINITY, 5}, 3), -INFINITY);
    assert_true(isnan(sum_of((double[]){INFINITY, -INFINITY}, 2)));
    assert_true(isnan(sum_of((double[]){1, NAN}, 2)));
}

enum { MANY = 20000 };

/* Of all magnitudes and signs. */
static void fill(double *x)
{
    for (int i = 0; i < MANY; i++) {
        uint32_t r[4];
        light_philox_at((uint32_t[]){7, 0}, (uint64_t)i, 0, r);
        uint64_t bits = (uint64_t)r[0] << 32 | r[1];
        memcpy(&x[i], &bits, sizeof bits);
        if (!isfinite(x[i])) x[i] = 1.0 / (1 + i);
    }
}

static void test_order_and_parts_do_not_matter(void **state)
{
    static double x[MANY];
    (void)state;
    fill(x);
    double forward = sum_of(x, MANY);
    int64_t backward[LIGHT_EXACT_SIZE] = {0};
    for (int i = MANY - 1; i >= 0; i--) light_exact_add(backward, x[i]);
    assert_same(light_exact_value(backward), forward);
    for (int parts = 2; parts <= 7; parts++) {
        int64_t total[LIGHT_EXACT_SIZE] = {0};
        for (int p = 0; p < parts; p++) {
            int64_t part[LIGHT_EXACT_SIZE] = {0};
            for (int i = p; i < MANY; i += parts) light_exact_add(part, x[i]);
            if (p % 2) light_exact_carry(part);
            light_exact_merge(total, part);
        }
        assert_same(light_exact_value(total), forward);
    }
    for (int i = 0; i < MANY; i++) light_exact_add(backward, -x[i]);
    assert_same(light_exact_value(backward), 0);
}

/* Integers, whose sum is known. */
static void test_against_integers(void **state)
{
    int64_t limbs[LIGHT_EXACT_SIZE] = {0}, expected = 0;
    (void)state;
    for (int64_t i = 0; i < 100000; i++) {
        int64_t n = (i * 2654435761) % 1000003 - 500000;
        light_exact_add(limbs, (double)n);
        expected += n;
    }
    assert_same(light_exact_value(limbs), (double)expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_single_numbers_come_back),      cmocka_unit_test(test_nothing_is_lost),
        cmocka_unit_test(test_rounds_to_nearest_even),        cmocka_unit_test(test_what_is_not_finite_stays),
        cmocka_unit_test(test_order_and_parts_do_not_matter), cmocka_unit_test(test_against_integers)};
    return cmocka_run_group_tests_name("exact", tests, NULL, NULL);
}
