/* SPDX-License-Identifier: Apache-2.0 */
/* The keyed permutation: a bijection for every length, another one for every epoch, and no visible order. */
#include "base/permutation.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void check_bijection(uint64_t n, uint64_t seed, uint64_t epoch)
{
    light_permutation p = light_permutation_new(n, seed, epoch);
    bool *seen = calloc(n, 1);

    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = light_permutation_at(&p, i);
        assert_true(at < n);
        assert_false(seen[at]);
        seen[at] = true;
    }
    free(seen);
}

static void bijective(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 300; n++) check_bijection(n, n, 3);
    for (uint64_t n = 1000; n < 300000; n = n * 2 + 7) check_bijection(n, 42, n);
    check_bijection(60000, 1, 0);
    check_bijection(65536, 1, 0);
    check_bijection(65537, 1, 0);
}

static void huge_lengths_stay_inside(void **state)
{
    const uint64_t n = ((uint64_t)1 << 62) - 12345;
    light_permutation p = light_permutation_new(n, 9, 9);
    uint64_t largest = 0;

    (void)state;
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t at = light_permutation_at(&p, i);
        assert_true(at < n);
        if (at > largest) largest = at;
    }
    assert_true(largest > n / 100 * 98); /* the upper 2 % missed a thousand times: 2e-9 */
}

static uint64_t same_places(uint64_t n, uint64_t seed_a, uint64_t epoch_a, uint64_t seed_b, uint64_t epoch_b)
{
    light_permutation a = light_permutation_new(n, seed_a, epoch_a),
                      b = light_permutation_new(n, seed_b, epoch_b);
    uint64_t same = 0;

    for (uint64_t i = 0; i < n; i++) same += light_permutation_at(&a, i) == light_permutation_at(&b, i);
    return same;
}

/* Two random permutations agree in one place on average, Poisson distributed. */
static void seeds_and_epochs_differ(void **state)
{
    (void)state;
    assert_int_equal(same_places(10000, 1, 5, 1, 5), 10000);
    assert_true(same_places(10000, 1, 5, 1, 6) < 12);
    assert_true(same_places(10000, 1, 5, 2, 5) < 12);
    assert_true(same_places(10000, 1, 0, (uint64_t)1 << 40, 0) < 12);
}

/* Chi-square over all n! orders of a few elements; bounds at about 1e-6. */
static void small_orders_are_equally_likely(void **state)
{
    enum { TRIES = 24000 };
    static const double bounds[] = {[2] = 24, [3] = 37, [4] = 74};

    (void)state;
    for (uint64_t n = 2; n <= 4; n++) {
        int counts[256] = {0}, orders = 1;
        for (uint64_t epoch = 0; epoch < TRIES; epoch++) {
            light_permutation p = light_permutation_new(n, 7, epoch);
            unsigned code = 0;
            for (uint64_t i = 0; i < n; i++) code = code * 4 + (unsigned)light_permutation_at(&p, i);
            counts[code]++;
        }
        for (uint64_t i = 2; i <= n; i++) orders *= (int)i;
        double expected = (double)TRIES / orders, chi = 0;
        int seen = 0;
        for (int i = 0; i < 256; i++) {
            if (counts[i] == 0) continue;
            seen++;
            chi += (counts[i] - expected) * (counts[i] - expected) / expected;
        }
        assert_int_equal(seen, orders);
        assert_true(chi < bounds[n]);
    }
}

/* Where each element of a length that is no power of two goes, over many epochs; 36 * 36 cells. */
static void places_are_equally_likely(void **state)
{
    enum { N = 37, EPOCHS = 7400 };
    static int counts[N][N];
    double chi = 0, expected = (double)EPOCHS / N;

    (void)state;
    for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) {
        light_permutation p = light_permutation_new(N, 11, epoch);
        for (uint64_t i = 0; i < N; i++) counts[i][light_permutation_at(&p, i)]++;
    }
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) chi += (counts[i][j] - expected) * (counts[i][j] - expected) / expected;
    }
    double freedom = (N - 1.0) * (N - 1.0);
    assert_true(fabs(chi - freedom) < 5 * sqrt(2 * freedom));
}

/* Neighbours, and an element's own place, tell nothing: correlations within five standard errors. */
static void no_order_left(void **state)
{
    enum { N = 50000 };

    (void)state;
    for (uint64_t epoch = 0; epoch < 4; epoch++) {
        light_permutation p = light_permutation_new(N, 3, epoch);
        double place = 0, next = 0, middle = (N - 1) / 2.0, variance = ((double)N * N - 1) / 12;
        for (uint64_t i = 0; i < N; i++) {
            double x = (double)light_permutation_at(&p, i) - middle;
            place += x * ((double)i - middle);
            next += x * ((double)light_permutation_at(&p, (i + 1) % N) - middle);
        }
        assert_true(fabs(place / N / variance) < 5 / sqrt(N));
        assert_true(fabs(next / N / variance) < 5 / sqrt(N));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bijective),
        cmocka_unit_test(huge_lengths_stay_inside),
        cmocka_unit_test(seeds_and_epochs_differ),
        cmocka_unit_test(small_orders_are_equally_likely),
        cmocka_unit_test(places_are_equally_likely),
        cmocka_unit_test(no_order_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
