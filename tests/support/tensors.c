/* SPDX-License-Identifier: Apache-2.0 */
/* See tensors.h. */
#include "support/tensors.h"

#include "base/philox.h"
#include "tensor/device.h"
#include "tensor/tensor.h"

#include <stdlib.h>
#include <string.h>

double dtype_epsilon(light_dtype dtype)
{
    switch (dtype) {
    case LIGHT_F64: return 0x1p-52;
    case LIGHT_F32: return 0x1p-23;
    case LIGHT_BF16: return 0x1p-7;
    case LIGHT_F16: return 0x1p-10;
    default: return 0;
    }
}

static double to_bf16(double value)
{
    int exponent;
    double mantissa = frexp(value, &exponent);
    return ldexp(nearbyint(mantissa * 256), exponent - 8);
}

static void random_bits(uint64_t seed, int64_t i, uint32_t bits[4])
{
    light_philox_at((const uint32_t[2]){(uint32_t)seed, 77}, (uint64_t)i, 0, bits);
}

void spread_values(double *values, int64_t n, double low, double high, uint64_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits[4];
        random_bits(seed, i, bits);
        values[i] = to_bf16(low + (high - low) * light_uniform_double(bits[0], bits[1]));
    }
}

void distinct_values(double *values, int64_t n, uint64_t seed)
{
    assert_true(n <= 256);
    for (int64_t i = 0; i < n; i++) values[i] = (double)i / 16;
    for (int64_t i = n - 1; i > 0; i--) {
        uint32_t bits[4];
        random_bits(seed, i, bits);
        int64_t j = bits[0] % (i + 1);
        double swap = values[i];
        values[i] = values[j];
        values[j] = swap;
    }
}

void rough_values(double *values, int64_t n, uint64_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits[4];
        random_bits(seed, i, bits);
        values[i] = (bits[0] >> 1) * 0x1p-29 - 2;
    }
}

void assert_light_ok(light_status status)
{
    if (status != LIGHT_OK) fail_msg("%s", light_error_message());
}

light_step *new_step(void)
{
    light_step *s;
    assert_light_ok(light_step_new(&s, .device = test_device(), .seed = 5));
    assert_light_ok(light_step_begin(s));
    return s;
}

void assert_step_ok(const light_step *s)
{
    assert_light_ok(light_step_status(s));
}

void assert_step_failed(const light_step *s, light_status status, const char *part)
{
    assert_int_equal(light_step_status(s), status);
    if (!strstr(light_error_message(), part))
        fail_msg("\"%s\" does not contain \"%s\"", light_error_message(), part);
}

void assert_index_error(const light_step *s, const char *on_host, const char *on_gpu)
{
    light_device *device = test_device();
    if (strncmp(light_device_name(device), "cuda", 4)) {
        assert_step_failed(s, LIGHT_ERR_ARGUMENT, on_host);
        return;
    }
    light_status status = light_step_status(s);
    if (status == LIGHT_OK) status = device->backend->synchronize(device);
    assert_int_equal(status, LIGHT_ERR_ARGUMENT);
    if (!strstr(light_error_message(), on_gpu))
        fail_msg("\"%s\" does not contain \"%s\"", light_error_message(), on_gpu);
}

void write_doubles(light_tensor *t, const double *values)
{
    assert_light_ok(light_tensor_write(t, LIGHT_F64, values, (size_t)t->numel * sizeof *values));
}

light_tensor *from_doubles(light_step *s, light_shape shape, light_dtype dtype, const double *values)
{
    light_tensor *t = light_zeros(s, shape, dtype);
    assert_non_null(t);
    write_doubles(t, values);
    return t;
}

light_tensor *new_from_doubles(light_shape shape, light_dtype dtype, const double *values)
{
    light_tensor *t;
    assert_light_ok(light_tensor_new(&t, shape, dtype, test_device()));
    write_doubles(t, values);
    return t;
}

void read_doubles(const light_tensor *t, double *values)
{
    assert_light_ok(light_tensor_read(t, LIGHT_F64, values, (size_t)light_numel(t) * sizeof *values));
}

double *new_doubles(int64_t n)
{
    double *values = calloc((size_t)(n ? n : 1), sizeof *values);
    assert_non_null(values);
    return values;
}

double *all_doubles(const light_tensor *t)
{
    double *values = new_doubles(light_numel(t));
    read_doubles(t, values);
    return values;
}

bool nearly(double got, double expected, double tolerance)
{
    if (isnan(expected)) return isnan(got);
    if (got == expected) return true;
    return fabs(got - expected) <= tolerance;
}

void assert_values(const light_tensor *t, const double *expected, double tolerance)
{
    assert_non_null(t);
    double *got = all_doubles(t);
    for (int64_t i = 0; i < t->numel; i++)
        if (!nearly(got[i], expected[i], tolerance * fmax(1, fabs(expected[i]))))
            fail_msg("element %lld is %.17g instead of %.17g", (long long)i, got[i], expected[i]);
    free(got);
}
