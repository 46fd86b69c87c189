/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels MATMUL and CONV2D*: strides, broadcasts and batches reach the products as they should. */
#include "tensor/device.h"
#include "tensor/tensor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t random_state = 1;

static double random_value(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (double)((int)((random_state >> 8) % 65) - 32) / 32;
}

/* A tensor whose dims lie in memory in the order `order` (outermost first); dims in `repeat` have stride 0. */
static light_tensor *new_tensor(light_dtype dtype, int ndim, const int64_t *dims, const int *order,
                                uint32_t repeat)
{
    light_tensor *t = calloc(1, sizeof *t);
    assert_non_null(t);
    light_shape shape = {.ndim = ndim};
    memcpy(shape.dims, dims, (size_t)ndim * sizeof *dims);
    t->dtype = (uint8_t)dtype;
    light_tensor_set_shape(t, shape);
    int64_t step = 1;
    for (int i = ndim - 1; i >= 0; i--) {
        const int d = order ? order[i] : i;
        t->strides[d] = repeat >> d & 1 ? 0 : step;
        if (t->strides[d]) step *= dims[d];
    }
    light_tensor_refresh(t);
    t->data = malloc((size_t)(step + 1) * light_dtype_size(dtype));
    assert_non_null(t->data);
    for (int64_t i = 0; i < step; i++) {
        if (dtype == LIGHT_F64)
            ((double *)t->data)[i] = random_value();
        else
            ((float *)t->data)[i] = (float)random_value();
    }
    return t;
}

static void free_tensor(light_tensor *t)
{
    if (t) free(t->data);
    free(t);
}

static double at(const light_tensor *t, const int64_t *index)
{
    int64_t offset = 0;
    for (int d = 0; d < t->ndim; d++) offset += index[d] * t->strides[d];
    return t->dtype == LIGHT_F64 ? ((double *)t->data)[offset] : (double)((float *)t->data)[offset];
}

static void run(light_kernel_id id, const light_kernel_args *args)
{
    assert_int_equal(light_cpu_backend.kernels[id](args), LIGHT_OK);
}

static const int orders[][4] = {{0, 1, 2, 3}, {0, 1, 3, 2}, {0, 2, 1, 3},
                                {2, 3, 0, 1}, {1, 0, 3, 2}, {3, 1, 0, 2}};
enum { ORDERS = sizeof orders / sizeof *orders, B0 = 2, B1 = 3, M = 5, N = 4, K = 6 };

static void check_matmul(const light_tensor *a, const light_tensor *b, const light_tensor *bias,
                         light_tensor *y, double alpha, bool accumulate)
{
    static double before[B0 * B1 * M * N];
    int64_t i[4], n = 0;
    for (i[0] = 0; i[0] < B0; i[0]++)
        for (i[1] = 0; i[1] < B1; i[1]++)
            for (i[2] = 0; i[2] < M; i[2]++)
                for (i[3] = 0; i[3] < N; i[3]++) before[n++] = at(y, i);
    const light_matmul_attrs attrs = {.alpha = alpha};
    run(LIGHT_KERNEL_MATMUL, &(light_kernel_args){.device = light_device_cpu(),
                                                  .in = {a, b, bias},
                                                  .out = {y},
                                                  .accumulate = accumulate,
                                                  .attrs = &attrs});
    n = 0;
    for (i[0] = 0; i[0] < B0; i[0]++)
        for (i[1] = 0; i[1] < B1; i[1]++)
            for (i[2] = 0; i[2] < M; i[2]++)
                for (i[3] = 0; i[3] < N; i[3]++, n++) {
                    double sum = 0;
                    for (int64_t k = 0; k < K; k++)
                        sum +=
                            at(a, (int64_t[]){i[0], i[1], i[2], k}) * at(b, (int64_t[]){i[0], i[1], k, i[3]});
                    sum *= alpha;
                    if (bias) sum += at(bias, &i[3]);
                    if (accumulate) sum += before[n];
                    assert_true(fabs(at(y, i) - sum) < 64 * 0x1p-23); /* |sum| <= 8 */
                }
}

static void test_matmul_strides(void **state)
{
    (void)state;
    static const light_dtype dtypes[] = {LIGHT_F32, LIGHT_F64};
    for (int flags = 0; flags < 8; flags++)
        for (int oa = 0; oa < ORDERS; oa++)
            for (int ob = 0; ob < ORDERS; ob++)
                for (int oy = 0; oy < ORDERS; oy++) {
                    const light_dtype dtype = dtypes[flags & 1];
                    light_tensor *a = new_tensor(dtype, 4, (int64_t[]){B0, B1, M, K}, orders[oa], 0);
                    light_tensor *b = new_tensor(dtype, 4, (int64_t[]){B0, B1, K, N}, orders[ob], 0);
                    light_tensor *y = new_tensor(dtype, 4, (int64_t[]){B0, B1, M, N}, orders[oy], 0);
                    light_tensor *bias = flags & 2 ? new_tensor(dtype, 1, (int64_t[]){N}, NULL, 0) : NULL;
                    check_matmul(a, b, bias, y, flags & 2 ? 1 : 0.5, flags & 4);
                    free_tensor(a), free_tensor(b), free_tensor(y), free_tensor(bias);
                }
}

static void test_matmul_broadcasts(void **state)
{
    (void)state;
    for (uint32_t ra = 0; ra < 16; ra++)
        for (uint32_t rb = 0; rb < 16; rb++) {
            light_tensor *a = new_tensor(LIGHT_F32, 4, (int64_t[]){B0, B1, M, K}, NULL, ra);
            light_tensor *b = new_tensor(LIGHT_F32, 4, (int64_t[]){B0, B1, K, N}, NULL, rb);
            light_tensor *y = new_tensor(LIGHT_F32, 4, (int64_t[]){B0, B1, M, N}, NULL, 0);
            check_matmul(a, b, NULL, y, 1, false);
            free_tensor(a), free_tensor(b), free_tensor(y);
        }
}

/* Two dims, and an alpha of zero, which is not "the default" here. */
static void test_matmul_plain(void **state)
{
    (void)state;
    light_tensor *a = new_tensor(LIGHT_F32, 2, (int64_t[]){2, 3}, NULL, 0);
    light_tensor *b = new_tensor(LIGHT_F32, 2, (int64_t[]){3, 1}, NULL, 0);
    light_tensor *y = new_tensor(LIGHT_F32, 2, (int64_t[]){2, 1}, NULL, 0);
    light_matmul_attrs attrs = {.alpha = 2};
    const light_kernel_args args = {.device = light_device_cpu(), .in = {a, b}, .out = {y}, .attrs = &attrs};
    run(LIGHT_KERNEL_MATMUL, &args);
    for (int64_t i = 0; i < 2; i++) {
        double sum = 0;
        for (int64_t k = 0; k < 3; k++) sum += 2 * at(a, (int64_t[]){i, k}) * at(b, (int64_t[]){k, 0});
        assert_true(fabs(at(y, (int64_t[]){i, 0}) - sum) < 16 * 0x1p-23);
    }
    attrs.alpha = 0;
    run(LIGHT_KERNEL_MATMUL, &args);
    assert_true(at(y, (int64_t[]){0, 0}) == 0 && at(y, (int64_t[]){1, 0}) == 0);
    free_tensor(a), free_tensor(b), free_tensor(y);
}

/* Every kernel of a convolution against a sum that is written down anew; the passes themselves are tested in test_conv. */
static void test_conv2d_kernels(void **state)
{
    (void)state;
    enum { IMAGES = 2, C = 3, O = 4, H = 5, W = 6, OH = 3, OW = 3 };
    static const int nhwc[] = {0, 2, 3, 1};
    light_tensor *x = new_tensor(LIGHT_F32, 4, (int64_t[]){IMAGES, C, H, W}, nhwc, 0);
    light_tensor *y = new_tensor(LIGHT_F32, 4, (int64_t[]){IMAGES, O, OH, OW}, nhwc, 0);
    light_tensor *gx = new_tensor(LIGHT_F32, 4, (int64_t[]){IMAGES, C, H, W}, nhwc, 0);
    light_tensor *w = new_tensor(LIGHT_F32, 4, (int64_t[]){O, C, 3, 3}, NULL, 0);
    light_tensor *gw = new_tensor(LIGHT_F32, 4, (int64_t[]){O, C, 3, 3}, NULL, 0);
    light_tensor *b = new_tensor(LIGHT_F32, 1, (int64_t[]){O}, NULL, 0),
                 *gb = new_tensor(LIGHT_F32, 1, (int64_t[]){O}, NULL, 0);
    const light_conv2d_attrs attrs = {.stride = {2, 2}, .padding = {1, 1}, .dilation = {1, 1}, .groups = 1};
    light_device *cpu = light_device_cpu();
    const double old_gb = at(gb, (int64_t[]){1});
    run(LIGHT_KERNEL_CONV2D,
        &(light_kernel_args){.device = cpu, .in = {x, w, b}, .out = {y}, .attrs = &attrs});
    run(LIGHT_KERNEL_CONV2D_BACKWARD_DATA,
        &(light_kernel_args){.device = cpu, .in = {y, w}, .out = {gx}, .attrs = &attrs});
    run(LIGHT_KERNEL_CONV2D_BACKWARD_WEIGHT,
        &(light_kernel_args){.device = cpu, .in = {y, x}, .out = {gw, gb}, .accumulate = 2, .attrs = &attrs});

    double sum = at(b, (int64_t[]){1}); /* y[1, 1, 2, 2] */
    for (int64_t c = 0; c < C; c++)
        for (int64_t i = 0; i < 3; i++)
            for (int64_t j = 0; j < 3; j++)
                if (3 + i < H && 3 + j < W)
                    sum += at(x, (int64_t[]){1, c, 3 + i, 3 + j}) * at(w, (int64_t[]){1, c, i, j});
    assert_true(fabs(at(y, (int64_t[]){1, 1, 2, 2}) - sum) < 1e-5);
    double data = 0, weight = 0, bias = old_gb; /* gx[1, 2, 3, 4]; gw[1, 2, 0, 1]; gb[1] */
    for (int64_t o = 0; o < O; o++)
        for (int64_t i = 0; i < 3; i += 2)
            data += at(y, (int64_t[]){1, o, (4 - i) / 2, 2}) * at(w, (int64_t[]){o, 2, i, 1});
    for (int64_t n = 0; n < IMAGES; n++)
        for (int64_t h = 0; h < OH; h++)
            for (int64_t v = 0; v < OW; v++) {
                const double g = at(y, (int64_t[]){n, 1, h, v});
                bias += g;
                if (h > 0) weight += g * at(x, (int64_t[]){n, 2, 2 * h - 1, 2 * v});
            }
    assert_true(fabs(at(gx, (int64_t[]){1, 2, 3, 4}) - data) < 1e-4);
    assert_true(fabs(at(gw, (int64_t[]){1, 2, 0, 1}) - weight) < 1e-4);
    assert_true(fabs(at(gb, (int64_t[]){1}) - bias) < 1e-4);
    free_tensor(x), free_tensor(y), free_tensor(gx), free_tensor(w), free_tensor(gw), free_tensor(b),
        free_tensor(gb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matmul_strides),
        cmocka_unit_test(test_matmul_broadcasts),
        cmocka_unit_test(test_matmul_plain),
        cmocka_unit_test(test_conv2d_kernels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
