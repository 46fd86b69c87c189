/* SPDX-License-Identifier: Apache-2.0 */
/* matmul and linear against loops in double: batches, broadcasting, transposed and repeated inputs, one-dim arguments. */
#include "support/opcheck.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define MOST 4096

typedef struct product_case {
    bool linear, bias;
    bool transpose_a, transpose_b; /* the input is given with its last two dims swapped */
} product_case;

static light_tensor *apply(light_step *s, light_tensor **in, void *context)
{
    const product_case *c = context;
    if (c->linear) return light_linear_op(s, in[0], in[1], c->bias ? in[2] : NULL);
    light_tensor *a = c->transpose_a ? light_transpose(s, in[0], -1, -2) : in[0];
    light_tensor *b = c->transpose_b ? light_transpose(s, in[1], -1, -2) : in[1];
    return light_matmul(s, a, b);
}

/* Element [.., i, j] of x with the batch index of the output, broadcast. */
static double at(const double *x, light_shape shape, light_shape out, int64_t batch, int64_t i, int64_t j,
                 bool swap)
{
    int64_t offset = 0, step = 1;
    int64_t index[LIGHT_MAX_DIMS];
    for (int d = out.ndim - 3; d >= 0; d--) {
        index[d] = batch % out.dims[d];
        batch /= out.dims[d];
    }
    int64_t row = swap ? j : i, column = swap ? i : j;
    for (int d = shape.ndim - 1; d >= 0; d--) {
        int od = d + out.ndim - shape.ndim;
        int64_t k = d == shape.ndim - 1   ? column
                    : d == shape.ndim - 2 ? row
                    : shape.dims[d] == 1  ? 0
                                          : index[od];
        offset += k * step;
        step *= shape.dims[d];
    }
    return x[offset];
}

static void check_matmul(light_shape a, light_shape b, light_shape out, bool ta, bool tb)
{
    static double x[MOST], y[MOST], z[MOST];
    int64_t n = light_shape_numel(out), m = out.dims[out.ndim - 2], columns = out.dims[out.ndim - 1];
    int64_t inner = a.dims[a.ndim - (ta ? 2 : 1)];
    opcheck_fill(x, light_shape_numel(a), 1);
    opcheck_fill(y, light_shape_numel(b), 2);
    for (int64_t e = 0; e < n; e++) {
        int64_t batch = e / (m * columns), i = e / columns % m, j = e % columns;
        z[e] = 0;
        for (int64_t k = 0; k < inner; k++)
            z[e] += at(x, a, out, batch, i, k, ta) * at(y, b, out, batch, k, j, tb);
    }
    product_case c = {.transpose_a = ta, .transpose_b = tb};
    opcheck check = {
        .fn = apply,
        .context = &c,
        .n = 2,
        .slack = 48,
        .in = {{.shape = a, .values = x, .grad = true}, {.shape = b, .values = y, .grad = true}}};
    opcheck_all(&check, z, n);
}

static void matrices(void **state)
{
    (void)state;
    check_matmul(LIGHT_SHAPE(3, 5), LIGHT_SHAPE(5, 4), LIGHT_SHAPE(3, 4), false, false);
    check_matmul(LIGHT_SHAPE(5, 3), LIGHT_SHAPE(5, 4), LIGHT_SHAPE(3, 4), true, false);
    check_matmul(LIGHT_SHAPE(3, 5), LIGHT_SHAPE(4, 5), LIGHT_SHAPE(3, 4), false, true);
    check_matmul(LIGHT_SHAPE(5, 3), LIGHT_SHAPE(4, 5), LIGHT_SHAPE(3, 4), true, true);
    check_matmul(LIGHT_SHAPE(1, 1), LIGHT_SHAPE(1, 1), LIGHT_SHAPE(1, 1), false, false);
    check_matmul(LIGHT_SHAPE(7, 17), LIGHT_SHAPE(17, 19), LIGHT_SHAPE(7, 19), false, false);
}

static void batches(void **state)
{
    (void)state;
    check_matmul(LIGHT_SHAPE(2, 3, 5), LIGHT_SHAPE(2, 5, 4), LIGHT_SHAPE(2, 3, 4), false, false);
    check_matmul(LIGHT_SHAPE(2, 3, 5), LIGHT_SHAPE(5, 4), LIGHT_SHAPE(2, 3, 4), false, false);
    check_matmul(LIGHT_SHAPE(3, 5), LIGHT_SHAPE(2, 5, 4), LIGHT_SHAPE(2, 3, 4), false, false);
    check_matmul(LIGHT_SHAPE(2, 1, 3, 5), LIGHT_SHAPE(4, 5, 2), LIGHT_SHAPE(2, 4, 3, 2), false, false);
    check_matmul(LIGHT_SHAPE(2, 5, 3), LIGHT_SHAPE(2, 4, 5), LIGHT_SHAPE(2, 3, 4), true, true);
}

static void linear_layers(void **state)
{
    static double x[MOST], w[MOST], b[16], y[MOST];
    const int64_t rows = 6, in = 9, out = 7;
    (void)state;
    opcheck_fill(x, rows * in, 3);
    opcheck_fill(w, out * in, 4);
    opcheck_fill(b, out, 5);
    for (int bias = 0; bias < 2; bias++) {
        for (int64_t r = 0; r < rows; r++)
            for (int64_t o = 0; o < out; o++) {
                y[r * out + o] = bias ? b[o] : 0;
                for (int64_t k = 0; k < in; k++) y[r * out + o] += x[r * in + k] * w[o * in + k];
            }
        product_case c = {.linear = true, .bias = bias};
        opcheck check = {.fn = apply,
                         .context = &c,
                         .n = 3,
                         .slack = 48,
                         .in = {{.shape = LIGHT_SHAPE(2, 3, in), .values = x, .grad = true},
                                {.shape = LIGHT_SHAPE(out, in), .values = w, .grad = true},
                                {.shape = LIGHT_SHAPE(out), .values = b, .grad = bias}}};
        opcheck_all(&check, y, rows * out);
    }
}

static light_tensor *apply_vectors(light_step *s, light_tensor **in, void *context)
{
    (void)context;
    return light_matmul(s, in[0], in[1]);
}

static void one_dim_arguments(void **state)
{
    static const double v[] = {1, 2, 3}, m[] = {1, 0, 2, -1, 3, 0.5};
    static const double dot[] = {14}, row[] = {1 + 4 + 9, 0 - 2 + 1.5},
                        column[] = {1 * 1 + 2 * 0 + 3 * 2, -1 + 6 + 1.5};
    (void)state;
    opcheck check = {.fn = apply_vectors,
                     .n = 2,
                     .in = {{.shape = LIGHT_SHAPE(3), .values = v, .grad = true},
                            {.shape = LIGHT_SHAPE(3), .values = v, .grad = true}}};
    opcheck_all(&check, dot, 1);
    check.in[1] = (opcheck_input){.shape = LIGHT_SHAPE(3, 2), .values = m, .grad = true};
    const double expected[] = {1 * 1 + 2 * 2 + 3 * 3, 1 * 0 + 2 * -1 + 3 * 0.5};
    assert_true(row[0] == expected[0] && row[1] == expected[1]);
    opcheck_all(&check, expected, 2);
    check.in[0] = (opcheck_input){.shape = LIGHT_SHAPE(2, 3), .values = m, .grad = true};
    check.in[1] = (opcheck_input){.shape = LIGHT_SHAPE(3), .values = v, .grad = true};
    opcheck_all(&check, column, 2);
}

static light_tensor *square(light_step *s, light_tensor **in, void *context)
{
    (void)context;
    return light_matmul(s, in[0], in[0]);
}

static void a_matrix_by_itself(void **state)
{
    static double x[9], y[9];
    (void)state;
    opcheck_fill(x, 9, 6);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            y[i * 3 + j] = 0;
            for (int k = 0; k < 3; k++) y[i * 3 + j] += x[i * 3 + k] * x[k * 3 + j];
        }
    opcheck check = {
        .fn = square, .n = 1, .slack = 32, .in = {{.shape = LIGHT_SHAPE(3, 3), .values = x, .grad = true}}};
    opcheck_all(&check, y, 9);
}

static void bits_do_not_depend_on_threads(void **state)
{
    double *x = malloc(2 * 300 * 200 * sizeof *x), *w = malloc(120 * 200 * sizeof *w);
    (void)state;
    assert_true(x && w);
    opcheck_fill_rough(x, 2 * 300 * 200, 7);
    opcheck_fill_rough(w, 120 * 200, 8);
    product_case c = {.linear = true};
    opcheck check = {.fn = apply,
                     .context = &c,
                     .n = 2,
                     .in = {{.shape = LIGHT_SHAPE(2, 300, 200), .values = x, .grad = true},
                            {.shape = LIGHT_SHAPE(120, 200), .values = w, .grad = true}}};
    opcheck_threads(&check);
    free(x);
    free(w);
}

static void bad_shapes(void **state)
{
    static double x[64];
    (void)state;
    product_case c = {0}, l = {.linear = true};
    opcheck check = {
        .fn = apply,
        .context = &c,
        .n = 2,
        .in = {{.shape = LIGHT_SHAPE(2, 3), .values = x}, {.shape = LIGHT_SHAPE(4, 2), .values = x}}};
    opcheck_fails(&check, LIGHT_F32, LIGHT_ERR_SHAPE,
                  "matmul: shapes [2, 3] and [4, 2]: 3 columns do not meet 4 rows");
    check.in[0].shape = LIGHT_SHAPE(3, 2, 4);
    check.in[1].shape = LIGHT_SHAPE(2, 4, 2);
    opcheck_fails(&check, LIGHT_F32, LIGHT_ERR_SHAPE,
                  "batch dims of [3, 2, 4] and [2, 4, 2] do not fit together");
    check.in[1].dtype = LIGHT_F64;
    opcheck_fails(&check, LIGHT_F32, LIGHT_ERR_DTYPE, "dtypes f32 and f64 differ");
    opcheck linear = {
        .fn = apply,
        .context = &l,
        .n = 2,
        .in = {{.shape = LIGHT_SHAPE(2, 3), .values = x}, {.shape = LIGHT_SHAPE(4, 5), .values = x}}};
    opcheck_fails(&linear, LIGHT_F32, LIGHT_ERR_SHAPE,
                  "linear: input [2, 3] has 3 features, weight [4, 5] takes 5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matrices),           cmocka_unit_test(batches),
        cmocka_unit_test(linear_layers),      cmocka_unit_test(one_dim_arguments),
        cmocka_unit_test(a_matrix_by_itself), cmocka_unit_test(bits_do_not_depend_on_threads),
        cmocka_unit_test(bad_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
