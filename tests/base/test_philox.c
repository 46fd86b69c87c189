/* SPDX-License-Identifier: Apache-2.0 */
/* Philox against the known answers published with Random123, and what is made of its bits. */
#include "base/philox.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* "philox4x32 10" in the file kat_vectors of Random123. */
static void known_answers(void **state)
{
    static const struct {
        uint32_t counter[4], key[2], expected[4];
    } vectors[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        uint32_t out[4];
        light_philox4x32(vectors[i].key, vectors[i].counter, out);
        assert_memory_equal(out, vectors[i].expected, sizeof out);
    }
}

static void counter_from_index_and_stream(void **state)
{
    const uint32_t key[2] = {7, 9}, counter[4] = {0x55667788, 0x11223344, 0xddeeff00, 0x99aabbcc};
    uint32_t a[4], b[4];

    (void)state;
    light_philox4x32(key, counter, a);
    light_philox_at(key, 0x1122334455667788u, 0x99aabbccddeeff00u, b);
    assert_memory_equal(a, b, sizeof a);
}

static void uniform_ends(void **state)
{
    (void)state;
    assert_true(light_uniform(0) == 0.0f);
    assert_true(light_uniform(UINT32_MAX) == 1.0f - 0x1p-24f);
    assert_true(light_uniform_positive(0) == 0x1p-24f);
    assert_true(light_uniform_positive(UINT32_MAX) == 1.0f);
    assert_true(light_uniform_double(0, 0) == 0.0);
    assert_true(light_uniform_double(UINT32_MAX, UINT32_MAX) == 1.0 - 0x1p-53);
    assert_true(light_uniform_double(0x80000000u, 0) == 0.5);
    assert_true(light_uniform_double(0, 0x800) == 0x1p-53);
    assert_int_equal(light_uniform_below(0, 0, 10), 0);
    assert_int_equal(light_uniform_below(UINT32_MAX, UINT32_MAX, 10), 9);
    assert_int_equal(light_uniform_below(0x80000000u, 0, 10), 5);
}

/* Moments of n draws: each bound is about five standard errors. */
static void moments(void **state)
{
    enum { N = 200000 };
    uint32_t key[2];
    double uniform_sum = 0, sum = 0, squares = 0, cubes = 0, fourths = 0, product = 0, largest = 0;

    (void)state;
    light_rng_key(1, LIGHT_RNG_USER, 0, key);
    for (uint64_t i = 0; i < N / 2; i++) {
        uint32_t bits[4];
        float pair[2];
        light_philox_at(key, i, 0, bits);
        uniform_sum += light_uniform(bits[2]) + light_uniform(bits[3]);
        light_normal(bits[0], bits[1], pair);
        for (int k = 0; k < 2; k++) {
            double x = pair[k];
            sum += x;
            squares += x * x;
            cubes += x * x * x;
            fourths += x * x * x * x;
            largest = fmax(largest, fabs(x));
        }
        product += (double)pair[0] * pair[1];
    }
    assert_true(fabs(uniform_sum / N - 0.5) < 5 * sqrt(1.0 / 12 / N));
    assert_true(fabs(sum / N) < 5 * sqrt(1.0 / N));
    assert_true(fabs(squares / N - 1) < 5 * sqrt(2.0 / N));
    assert_true(fabs(cubes / N) < 5 * sqrt(15.0 / N));
    assert_true(fabs(fourths / N - 3) < 5 * sqrt(96.0 / N));
    assert_true(fabs(product / (N / 2)) < 5 * sqrt(1.0 / (N / 2)));
    assert_true(largest > 4 && largest < 6);
}

static void normal_from_known_uniforms(void **state)
{
    float f[2];
    double d[2];
    const uint32_t bits[4] = {0x80000000u, 0, 0x40000000u, 0}; /* 1 - 1/2 and 1/4: on the second axis */

    (void)state;
    light_normal(UINT32_MAX, 12345, f); /* the radius is zero */
    assert_true(f[0] == 0 && f[1] == 0);
    light_normal_double(bits, d);
    assert_true(fabs(d[0]) < 1e-15);
    assert_true(fabs(d[1] - sqrt(2 * log(2))) < 1e-15);
}

static void keys_differ(void **state)
{
    uint32_t keys[4][2];

    (void)state;
    light_rng_key(1, LIGHT_RNG_INIT, 0, keys[0]);
    light_rng_key(2, LIGHT_RNG_INIT, 0, keys[1]);
    light_rng_key(1, LIGHT_RNG_STEP, 0, keys[2]);
    light_rng_key(1, LIGHT_RNG_INIT, 1, keys[3]);
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < i; j++) assert_memory_not_equal(keys[i], keys[j], sizeof keys[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers), cmocka_unit_test(counter_from_index_and_stream),
        cmocka_unit_test(uniform_ends),  cmocka_unit_test(moments),
        cmocka_unit_test(keys_differ),   cmocka_unit_test(normal_from_known_uniforms),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
