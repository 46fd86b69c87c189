/* SPDX-License-Identifier: Apache-2.0 */
/* The COMBINE kernel of every device: rows of each number up to 8, each of them apart or none, as the tree by the book. */
#include "strategies/trials.h"

static const int64_t N = 1501;

/* Rows in memory of the device, and one of them apart. */
static void combine(light_dtype dtype, light_combine how, int rows, int own, char *result)
{
    light_device *d = test_device();
    size_t bytes = light_dtype_size(dtype) * (size_t)N;
    void *x_data, *own_data;
    double *values = malloc((size_t)N * sizeof *values);
    char *row = malloc(bytes);
    assert_ok(d->backend->allocate(d, bytes * (size_t)rows, &x_data));
    assert_ok(d->backend->allocate(d, bytes, &own_data));
    for (int r = 0; r < rows; r++) {
        for (int64_t i = 0; i < N; i++) values[i] = number(dtype, r, i);
        convert(row, dtype, values, LIGHT_F64, N);
        device_write(d, r == own ? own_data : (char *)x_data + bytes * (size_t)r, row, bytes);
    }
    light_tensor x = {.data = x_data, .dtype = (uint8_t)dtype},
                 y = {.data = own_data, .dtype = (uint8_t)dtype};
    light_tensor_set_shape(&x, LIGHT_SHAPE(rows, N));
    light_tensor_set_shape(&y, LIGHT_SHAPE(N));
    light_combine_attrs attrs = {(int)how, own};
    light_kernel_args args = {.device = d, .in = {&x, own < 0 ? NULL : &y}, .out = {&y}, .attrs = &attrs};
    assert_ok(d->backend->kernels[LIGHT_KERNEL_COMBINE](&args));
    device_read(d, own_data, result, bytes);
    d->backend->release(d, x_data, bytes * (size_t)rows);
    d->backend->release(d, own_data, bytes);
    free(values);
    free(row);
}

static void check(light_dtype dtype, light_combine how, int rows, int own)
{
    char *result = malloc(8 * (size_t)N), *wanted = malloc(8 * (size_t)N);
    double *values = malloc((size_t)N * sizeof *values);
    light_collective call = {.dtype = dtype, .combine = how, .contributors = rows};
    combine(dtype, how, rows, own, result);
    for (int64_t i = 0; i < N; i++) values[i] = expected_combination(&call, rows, i);
    convert(wanted, dtype, values, LIGHT_F64, N);
    assert_memory_equal(result, wanted, light_dtype_size(dtype) * (size_t)N);
    free(result);
    free(wanted);
    free(values);
}

static void rows_are_a_tree(void **state)
{
    (void)state;
    for (int dtype = LIGHT_DTYPE_DEFAULT + 1; dtype < LIGHT_DTYPE_COUNT; dtype++)
        for (int how = dtype == LIGHT_BOOL; how <= LIGHT_COMBINE_MAX; how++)
            for (int rows = 1; rows <= MOST_RANKS; rows++)
                check((light_dtype)dtype, (light_combine)how, rows, (rows * 5 + how) % (rows + 1) - 1);
}

/* What is not a number wins, on either side. */
static void nan_is_least_and_greatest(void **state)
{
    float rows[2][3] = {{NAN, 1, 2}, {1, NAN, 3}}, y[3];
    light_device *d = test_device();
    void *data;
    (void)state;
    assert_ok(d->backend->allocate(d, sizeof rows + sizeof y, &data));
    for (int how = LIGHT_COMBINE_MIN; how <= LIGHT_COMBINE_MAX; how++) {
        device_write(d, data, rows, sizeof rows);
        light_tensor x = {.data = data, .dtype = LIGHT_F32},
                     out = {.data = (char *)data + sizeof rows, .dtype = LIGHT_F32};
        light_tensor_set_shape(&x, LIGHT_SHAPE(2, 3));
        light_tensor_set_shape(&out, LIGHT_SHAPE(3));
        light_combine_attrs attrs = {how, -1};
        light_kernel_args args = {.device = d, .in = {&x}, .out = {&out}, .attrs = &attrs};
        assert_ok(d->backend->kernels[LIGHT_KERNEL_COMBINE](&args));
        device_read(d, out.data, y, sizeof y);
        assert_true(isnan(y[0]) && isnan(y[1]) && y[2] == (how == LIGHT_COMBINE_MIN ? 2 : 3));
    }
    d->backend->release(d, data, sizeof rows + sizeof y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_a_tree),
        cmocka_unit_test(nan_is_least_and_greatest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
