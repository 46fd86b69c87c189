/* SPDX-License-Identifier: Apache-2.0 */
/* Random tensors, ranges, constants. */
#include "support/op_check.h"

#include "base/philox.h"
#include "cpu/once/team.h"
#include "tensor/device.h"

#include <stdlib.h>
#include <string.h>

enum { MANY = 100000 };

static double *values_of(const light_tensor *t)
{
    double *values = malloc((size_t)light_numel(t) * sizeof *values);
    assert_non_null(t);
    assert_non_null(values);
    read_doubles(t, values);
    return values;
}

static double mean_power(const double *x, int64_t n, double center, int power)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += pow(x[i] - center, power);
    return sum / (double)n;
}

static void uniform(void **state)
{
    static const light_dtype dtypes[] = {LIGHT_F64, LIGHT_F32, LIGHT_F16, LIGHT_BF16};
    (void)state;
    light_step *s = new_step();
    for (int d = 0; d < 4; d++) {
        double *x = values_of(light_rand(s, LIGHT_SHAPE(MANY), dtypes[d]));
        double grain = dtypes[d] == LIGHT_BF16 ? 0x1p-9 : 0; /* half of the distance of two values */
        for (int i = 0; i < MANY; i++) assert_true(x[i] >= 0 && x[i] < 1);
        /* Six standard deviations of the mean and of the variance. */
        assert_true(fabs(mean_power(x, MANY, 0, 1) + grain - 0.5) < 6 * sqrt(1 / 12.0 / MANY));
        assert_true(fabs(mean_power(x, MANY, 0.5, 2) - 1 / 12.0) <
                    6 * sqrt(1 / 180.0 / MANY) + grain * grain * 2);
        free(x);
    }
    assert_step_ok(s);
    light_step_free(s);
}

static void normal(void **state)
{
    static const light_dtype dtypes[] = {LIGHT_F64, LIGHT_F32, LIGHT_F16, LIGHT_BF16};
    (void)state;
    light_step *s = new_step();
    for (int d = 0; d < 4; d++) {
        double *x = values_of(light_randn(s, LIGHT_SHAPE(MANY), dtypes[d])), products = 0;
        int within = 0;
        for (int i = 0; i < MANY; i++) within += fabs(x[i]) < 1;
        for (int i = 0; i + 1 < MANY; i++) products += x[i] * x[i + 1];
        assert_true(fabs(mean_power(x, MANY, 0, 1)) < 6 / sqrt(MANY));
        assert_true(fabs(mean_power(x, MANY, 0, 2) - 1) < 6 * sqrt(2.0 / MANY) + 0x1p-12);
        assert_true(fabs(mean_power(x, MANY, 0, 4) - 3) < 6 * sqrt(96.0 / MANY));
        assert_true(fabs(within / (double)MANY - erf(sqrt(0.5))) < 6 * 0.47 / sqrt(MANY) + 0x1p-8);
        assert_true(fabs(products / MANY) < 6 / sqrt(MANY));
        free(x);
    }
    assert_step_ok(s);
    light_step_free(s);
}

static void whole_numbers(void **state)
{
    static const light_dtype dtypes[] = {LIGHT_I64, LIGHT_I32, LIGHT_F32};
    int counts[7];
    (void)state;
    light_step *s = new_step();
    for (int d = 0; d < 3; d++) {
        double *x = values_of(light_randint(s, -3, 4, LIGHT_SHAPE(MANY), dtypes[d]));
        memset(counts, 0, sizeof counts);
        for (int i = 0; i < MANY; i++) {
            assert_true(x[i] >= -3 && x[i] < 4 && x[i] == trunc(x[i]));
            counts[(int)x[i] + 3]++;
        }
        for (int k = 0; k < 7; k++) assert_true(abs(counts[k] - MANY / 7) < 6 * sqrt(MANY / 7.0));
        free(x);
    }
    double *wide = values_of(light_randint(s, 0, (int64_t)1 << 50, LIGHT_SHAPE(1000), LIGHT_I64));
    int odd = 0;
    for (int i = 0; i < 1000; i++) odd += (int64_t)wide[i] & 1;
    assert_true(abs(odd - 500) < 6 * 16);
    free(wide);
    assert_step_ok(s);
    light_randint(s, 3, 3, LIGHT_SHAPE(2), LIGHT_I64);
    assert_step_failed(s, LIGHT_ERR_ARGUMENT, "randint: no numbers in [3, 3)");
    light_step_begin(s);
    light_rand(s, LIGHT_SHAPE(2), LIGHT_I32);
    assert_step_failed(s, LIGHT_ERR_DTYPE, "rand: i32 was asked for");
    light_step_free(s);
}

/* The same seed, step and call give the same numbers, whatever the shape and the threads; another call gives others. */
static void repeats_by_key(void **state)
{
    static float first[2][MANY], again[2][MANY], other[MANY];
    int most = light_team_size();
    (void)state;
    for (int threads = 1; threads <= 3; threads += 2) {
        light_step *s = new_step();
        light_set_num_threads(threads);
        for (int k = 0; k < 2; k++) {
            light_tensor *x = k ? light_randn(s, LIGHT_SHAPE(MANY / 10, 10), LIGHT_F32)
                                : light_rand(s, LIGHT_SHAPE(MANY), LIGHT_F32);
            assert_int_equal(
                light_tensor_read(x, LIGHT_F32, threads == 1 ? first[k] : again[k], sizeof first[k]),
                LIGHT_OK);
        }
        assert_int_equal(
            light_tensor_read(light_rand(s, LIGHT_SHAPE(MANY), LIGHT_F32), LIGHT_F32, other, sizeof other),
            LIGHT_OK);
        assert_memory_not_equal(first[0], other, sizeof other);
        light_step_begin(s);
        assert_int_equal(
            light_tensor_read(light_rand(s, LIGHT_SHAPE(MANY), LIGHT_F32), LIGHT_F32, other, sizeof other),
            LIGHT_OK);
        assert_memory_not_equal(first[0], other, sizeof other);
        light_step_free(s);
    }
    assert_memory_equal(first, again, sizeof first);
    light_set_num_threads(most);
}

/* The fast normal numbers are those of base/philox within rounding. */
static void agrees_with_philox(void **state)
{
    const uint64_t rng[2] = {0x123456789abcdef0u, 42};
    const uint32_t key[2] = {(uint32_t)rng[0], (uint32_t)(rng[0] >> 32)};
    static float x[4096], u[4096];
    (void)state;
    light_device *device = test_device();
    const light_kernel random = device->backend->kernels[LIGHT_KERNEL_RANDOM];
    light_tensor *t;
    assert_int_equal(light_tensor_new(&t, LIGHT_SHAPE(4096), LIGHT_F32, device), LIGHT_OK);
    const light_random_attrs normal_attrs = {LIGHT_RANDOM_NORMAL, 0, 1},
                             uniform_attrs = {LIGHT_RANDOM_UNIFORM, 0, 1};
    const light_kernel_args args = {.device = device, .out = {t}, .attrs = &normal_attrs, .rng = rng};
    assert_int_equal(random(&args), LIGHT_OK);
    assert_int_equal(light_tensor_read(t, LIGHT_F32, x, sizeof x), LIGHT_OK);
    const light_kernel_args more = {.device = device, .out = {t}, .attrs = &uniform_attrs, .rng = rng};
    assert_int_equal(random(&more), LIGHT_OK);
    assert_int_equal(light_tensor_read(t, LIGHT_F32, u, sizeof u), LIGHT_OK);
    light_tensor_free(t);
    for (int i = 0; i < 4096; i += 4) {
        uint32_t bits[4];
        float expected[4];
        light_philox_at(key, (uint64_t)i / 4, rng[1], bits);
        light_normal(bits[0], bits[1], expected);
        light_normal(bits[2], bits[3], expected + 2);
        for (int k = 0; k < 4; k++) {
            assert_true(fabsf(x[i + k] - expected[k]) <= 1e-6f * fmaxf(1, fabsf(expected[k])));
            assert_true(u[i + k] == light_uniform(bits[k]));
        }
    }
}

static void constants_and_ranges(void **state)
{
    static const light_dtype dtypes[] = {LIGHT_F64, LIGHT_F32, LIGHT_BF16, LIGHT_F16,
                                         LIGHT_I64, LIGHT_I32, LIGHT_U8};
    (void)state;
    light_step *s = new_step();
    for (int d = 0; d < 7; d++) {
        assert_values(light_full(s, LIGHT_SHAPE(3), 7, dtypes[d]), (double[]){7, 7, 7}, 0);
        assert_values(light_arange(s, 1, 8, 3, dtypes[d]), (double[]){1, 4, 7}, 0);
    }
    assert_values(light_arange(s, 5, 0, -2, LIGHT_I32), (double[]){5, 3, 1}, 0);
    assert_values(light_arange(s, 0, 1, 0.25, LIGHT_DTYPE_DEFAULT), (double[]){0, 0.25, 0.5, 0.75}, 0);
    assert_int_equal(light_numel(light_arange(s, 3, 3, 1, LIGHT_F32)), 0);
    assert_int_equal(light_dtype_of(light_ones(s, LIGHT_SCALAR, LIGHT_DTYPE_DEFAULT)), LIGHT_F32);
    const float host[] = {1, 2, 3, 4};
    light_tensor *x = light_from_host(s, LIGHT_SHAPE(2, 2), LIGHT_F32, host);
    assert_ptr_not_equal(light_data(x), host);
    assert_values(x, (double[]){1, 2, 3, 4}, 0);
    assert_step_ok(s);
    light_arange(s, 0, 5, -1, LIGHT_F32);
    assert_step_failed(s, LIGHT_ERR_ARGUMENT, "arange: no way from 0 to 5 by steps of -1");
    light_step_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uniform),
        cmocka_unit_test(normal),
        cmocka_unit_test(whole_numbers),
        cmocka_unit_test(repeats_by_key),
        cmocka_unit_test(agrees_with_philox),
        cmocka_unit_test(constants_and_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
