/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel MATMUL: strides, broadcasts, batches and dtypes reach the products as they should. Values are multiples of
 * 1/32 in [-1, 1] and sums are short, so f32 and f64 have to be exact. */
#include "support/tensors.h"

#include "autograd/op.h"

#include <stdlib.h>
#include <string.h>

static uint32_t random_state = 1;

static double random_value(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (double)((int)((random_state >> 8) % 65) - 32) / 32;
}

/* A tensor whose dims lie in memory in the order `order` (outermost first; NULL: row-major); dims in `repeat` have stride
 * 0. `gap` elements are left between neighbours of the innermost dim. */
typedef struct layout {
    const int *order;
    uint32_t repeat;
    int64_t gap;
} layout;

static light_tensor *new_tensor(light_step *s, light_dtype dtype, light_shape shape, layout l)
{
    int64_t strides[LIGHT_MAX_DIMS] = {0}, step = 1 + l.gap;
    for (int i = shape.ndim - 1; i >= 0; i--) {
        const int d = l.order ? l.order[i] : i;
        strides[d] = l.repeat >> d & 1 ? 0 : step;
        if (strides[d]) step *= shape.dims[d];
    }
    double *values = new_doubles(step);
    for (int64_t i = 0; i < step; i++) values[i] = random_value();
    light_tensor *memory = from_doubles(s, LIGHT_SHAPE(step), dtype, values);
    free(values);
    light_tensor *t = light_step_view(s, memory, shape, strides, 0);
    assert_non_null(t);
    return t;
}

/* y, row-major doubles, becomes what the kernel has to make of it; a and b have the batch dims of y. */
static void reference(const light_tensor *a, const light_tensor *b, const light_tensor *bias, double alpha,
                      bool accumulate, light_shape shape, double *y)
{
    double *pa = all_doubles(a), *pb = all_doubles(b), *c = bias ? all_doubles(bias) : NULL;
    const int64_t m = shape.dims[shape.ndim - 2], n = shape.dims[shape.ndim - 1],
                  k = a->shape[shape.ndim - 1], count = light_shape_numel(shape);
    for (int64_t e = 0; e < count; e++) {
        const int64_t j = e % n, i = e / n % m, z = e / (n * m);
        double sum = 0;
        for (int64_t p = 0; p < k; p++) sum += pa[(z * m + i) * k + p] * pb[(z * k + p) * n + j];
        y[e] = alpha * sum + (c ? c[j] : 0) + (accumulate ? y[e] : 0);
    }
    free(pa), free(pb), free(c);
}

/* A number of 16 bits was rounded `roundings` times, when it was at most 16. */
static void check_numbers(const light_tensor *t, const double *want, int roundings)
{
    double *got = all_doubles(t), rounding = 0;
    if (light_dtype_size((light_dtype)t->dtype) == 2)
        rounding = roundings * dtype_epsilon((light_dtype)t->dtype) / 2;
    for (int64_t i = 0; i < t->numel; i++)
        if (!nearly(got[i], want[i], rounding * 16)) /* no part of the sum is larger */
            fail_msg("%s [%d]: %.9g instead of %.9g", light_dtype_name((light_dtype)t->dtype), (int)i, got[i],
                     want[i]);
    free(got);
}

/* A result is rounded once, or, where bias, product and sum go one after the other, three times. */
static void check_matmul(light_step *s, light_tensor *a, light_tensor *b, light_tensor *bias, light_tensor *y,
                         double alpha, bool accumulate)
{
    const light_matmul_attrs attrs = {.alpha = alpha};
    double *want = all_doubles(y);
    reference(a, b, bias, alpha, accumulate, light_shape_of(y), want);
    assert_light_ok(
        LIGHT_RUN(s, MATMUL, .in = {a, b, bias}, .out = {y}, .accumulate = accumulate, .attrs = &attrs));
    check_numbers(y, want, bias || accumulate ? 3 : 1);
    free(want);
}

static void check_sums(light_step *s, light_tensor *a, light_tensor *b, light_tensor *y, light_tensor *sums,
                       uint32_t accumulate)
{
    const int64_t m = a->shape[0], k = a->shape[1];
    double *terms = all_doubles(a), *want = all_doubles(y), *want_sums = all_doubles(sums);
    reference(a, b, NULL, 1, accumulate & 1, light_shape_of(y), want);
    for (int64_t i = 0; i < m; i++) {
        double sum = 0;
        for (int64_t p = 0; p < k; p++) sum += terms[i * k + p];
        want_sums[i] = sum + (accumulate & 2 ? want_sums[i] : 0);
    }
    assert_light_ok(LIGHT_RUN(s, MATMUL, .in = {a, b}, .out = {y, sums}, .accumulate = accumulate));
    check_numbers(y, want, accumulate & 1 ? 3 : 1);
    check_numbers(sums, want_sums, accumulate & 2 ? 3 : 1);
    free(terms), free(want), free(want_sums);
}

/* Dtypes of a and b, and of y. */
static const light_dtype dtypes[][2] = {{LIGHT_F32, LIGHT_F32},   {LIGHT_F64, LIGHT_F64},
                                        {LIGHT_BF16, LIGHT_BF16}, {LIGHT_F16, LIGHT_F16},
                                        {LIGHT_BF16, LIGHT_F32},  {LIGHT_F16, LIGHT_F32}};
static const int orders[][4] = {{0, 1, 2, 3}, {0, 1, 3, 2}, {0, 2, 1, 3},
                                {2, 3, 0, 1}, {1, 0, 3, 2}, {3, 1, 0, 2}};
enum { DTYPES = 6, ORDERS = 6, B0 = 2, B1 = 3, M = 5, N = 4, K = 6 };

/* All orders of dims in memory, for all dtypes, with and without bias and accumulation. */
static void strides(void **state)
{
    (void)state;
    for (int flags = 0; flags < 4 * DTYPES; flags++) {
        const light_dtype in = dtypes[flags / 4][0], out = dtypes[flags / 4][1];
        light_step *s = new_step();
        for (int i = 0; i < ORDERS * ORDERS * ORDERS; i++) {
            /* every combination once in f32, every third one, another for every dtype, in the others */
            if (flags >= 4 && (i + flags) % 3) continue;
            light_tensor *a = new_tensor(s, in, LIGHT_SHAPE(B0, B1, M, K), (layout){orders[i % 6], 0, 0});
            light_tensor *b = new_tensor(s, in, LIGHT_SHAPE(B0, B1, K, N), (layout){orders[i / 6 % 6], 0, 0});
            light_tensor *y = new_tensor(s, out, LIGHT_SHAPE(B0, B1, M, N), (layout){orders[i / 36], 0, 0});
            light_tensor *bias = flags & 1 ? new_tensor(s, in, LIGHT_SHAPE(N), (layout){0}) : NULL;
            check_matmul(s, a, b, bias, y, flags & 1 ? 1 : 0.5, flags & 2);
        }
        light_step_free(s);
    }
}

/* No dim has neighbours that lie side by side: everything goes through copies. */
static void gaps(void **state)
{
    (void)state;
    for (int flags = 0; flags < 16; flags++) {
        light_step *s = new_step();
        for (int d = 0; d < DTYPES; d++) {
            const light_dtype in = dtypes[d][0], out = dtypes[d][1];
            const layout plain = {0}, gap = {NULL, 0, 1};
            light_tensor *a = new_tensor(s, in, LIGHT_SHAPE(B1, M, K), flags & 1 ? gap : plain);
            light_tensor *b = new_tensor(s, in, LIGHT_SHAPE(B1, K, N), flags & 2 ? gap : plain);
            light_tensor *y = new_tensor(s, out, LIGHT_SHAPE(B1, M, N), flags & 4 ? gap : plain);
            light_tensor *bias = d % 2 ? NULL : new_tensor(s, in, LIGHT_SHAPE(N), plain);
            check_matmul(s, a, b, bias, y, 1, flags & 8);
        }
        light_step_free(s);
    }
}

/* Any dim of a and of b repeated; those of the matrices too. */
static void broadcasts(void **state)
{
    (void)state;
    for (uint32_t repeat = 0; repeat < 256; repeat++) {
        light_step *s = new_step();
        const light_dtype dtype = dtypes[repeat % 4][0];
        light_tensor *a = new_tensor(s, dtype, LIGHT_SHAPE(B0, B1, M, K), (layout){.repeat = repeat & 15});
        light_tensor *b = new_tensor(s, dtype, LIGHT_SHAPE(B0, B1, K, N), (layout){.repeat = repeat >> 4});
        light_tensor *y = new_tensor(s, dtype, LIGHT_SHAPE(B0, B1, M, N), (layout){0});
        check_matmul(s, a, b, NULL, y, 1, false);
        light_step_free(s);
    }
}

/* Rows, columns, single numbers, and sums over nothing, which leave the bias or zero. */
static void small_and_empty(void **state)
{
    (void)state;
    static const int64_t sizes[] = {0, 1, 3};
    for (int i = 0; i < 27 * DTYPES * 4; i++) {
        const int64_t m = sizes[i % 3], n = sizes[i / 3 % 3], k = sizes[i / 9 % 3];
        const int flags = i / 27 % 4, d = i / 108;
        const int swapped[] = {0, 2, 1};
        light_step *s = new_step();
        const layout l = {flags & 2 ? swapped : NULL, 0, 0};
        light_tensor *a = new_tensor(s, dtypes[d][0], LIGHT_SHAPE(2, m, k), l);
        light_tensor *b = new_tensor(s, dtypes[d][0], LIGHT_SHAPE(2, k, n), l);
        light_tensor *y = new_tensor(s, dtypes[d][1], LIGHT_SHAPE(2, m, n), l);
        light_tensor *bias = flags & 1 ? new_tensor(s, dtypes[d][0], LIGHT_SHAPE(n), (layout){0}) : NULL;
        check_matmul(s, a, b, bias, y, 1, false);
        check_matmul(s, a, b, bias, y, 1, true);
        check_matmul(s, a, b, bias, y, 0, false);
        light_step_free(s);
    }
}

/* One matrix for a whole batch; two dims; more than a tile of any kind. */
static void larger(void **state)
{
    (void)state;
    for (int d = 0; d < DTYPES; d++)
        for (int flags = 0; flags < 8; flags++) {
            const int swapped[] = {1, 0};
            const layout a_is = {flags & 1 ? swapped : NULL, 0, 0}, b_is = {flags & 2 ? swapped : NULL, 0, 0};
            light_step *s = new_step();
            light_tensor *a = new_tensor(s, dtypes[d][0], LIGHT_SHAPE(37, 67), a_is);
            light_tensor *b = new_tensor(s, dtypes[d][0], LIGHT_SHAPE(67, 45), b_is);
            light_tensor *y = new_tensor(s, dtypes[d][1], LIGHT_SHAPE(37, 45), (layout){0});
            check_matmul(s, a, b, NULL, y, 0.125, flags & 4);
            a = new_tensor(s, dtypes[d][0], LIGHT_SHAPE(4, 9, 11), (layout){0});
            b = new_tensor(s, dtypes[d][0], LIGHT_SHAPE(4, 11, 8), (layout){.repeat = 1});
            y = new_tensor(s, dtypes[d][1], LIGHT_SHAPE(4, 9, 8), (layout){0});
            check_matmul(s, a, b, NULL, y, 1, flags & 4);
            light_step_free(s);
        }
}

/* The sums of a's rows: of either order in memory, of y's dtype or f32, written and added. Also where operands are copied,
 * y lies by columns, or there is nothing to multiply. */
static void sums_of_rows(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{37, 45, 29}, {5, 1, 6}, {1, 4, 6}, {5, 4, 0}, {5, 0, 6}, {0, 4, 6}};
    const int swapped[] = {1, 0};
    for (int i = 0; i < 6 * DTYPES * 16; i++) {
        const int64_t m = sizes[i % 6][0], n = sizes[i % 6][1], k = sizes[i % 6][2];
        const int flags = i / 6 % 16, d = i / 96;
        const light_dtype in = dtypes[d][0], out = dtypes[d][1];
        const layout plain = {0}, turned = {swapped, 0, 0}, gap = {NULL, 0, 1};
        light_step *s = new_step();
        light_tensor *a = new_tensor(s, in, LIGHT_SHAPE(m, k), flags & 1 ? turned : plain);
        light_tensor *b = new_tensor(s, in, LIGHT_SHAPE(k, n), flags == 15 ? gap : plain);
        light_tensor *y = new_tensor(s, out, LIGHT_SHAPE(m, n), (flags & 3) == 3 ? turned : plain);
        light_tensor *sums =
            new_tensor(s, flags & 4 && in != LIGHT_F64 ? LIGHT_F32 : out, LIGHT_SHAPE(m), plain);
        check_sums(s, a, b, y, sums, (uint32_t)(flags & 8 ? 3 : flags & 2));
        light_step_free(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strides),         cmocka_unit_test(gaps),   cmocka_unit_test(broadcasts),
        cmocka_unit_test(small_and_empty), cmocka_unit_test(larger), cmocka_unit_test(sums_of_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
