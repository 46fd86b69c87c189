/* SPDX-License-Identifier: Apache-2.0 */
/* matmul and linear against loops in double: batches, broadcasting, transposed and repeated inputs, one-dim arguments. */
#include "support/op_check.h"

#include <stdlib.h>

#define MOST 4096

typedef struct product_case {
    bool linear, bias;
    bool transpose_a, transpose_b; /* the input is given with its last two dims swapped */
} product_case;

static light_tensor *apply(light_step *s, light_tensor **in, const void *user)
{
    const product_case *c = user;
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
    spread_values(x, light_shape_numel(a), -2, 2, 1);
    spread_values(y, light_shape_numel(b), -2, 2, 2);
    for (int64_t e = 0; e < n; e++) {
        int64_t batch = e / (m * columns), i = e / columns % m, j = e % columns;
        z[e] = 0;
        for (int64_t k = 0; k < inner; k++)
            z[e] += at(x, a, out, batch, i, k, ta) * at(y, b, out, batch, k, j, tb);
    }
    product_case c = {.transpose_a = ta, .transpose_b = tb};
    op_check check = {.name = "matmul",
                      .apply = apply,
                      .user = &c,
                      .count = 2,
                      .in = {{.shape = a, .values = x}, {.shape = b, .values = y}},
                      .out = out,
                      .expected = z};
    check_op(&check);
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
    spread_values(x, rows * in, -2, 2, 3);
    spread_values(w, out * in, -2, 2, 4);
    spread_values(b, out, -2, 2, 5);
    for (int bias = 0; bias < 2; bias++) {
        for (int64_t r = 0; r < rows; r++)
            for (int64_t o = 0; o < out; o++) {
                y[r * out + o] = bias ? b[o] : 0;
                for (int64_t k = 0; k < in; k++) y[r * out + o] += x[r * in + k] * w[o * in + k];
            }
        product_case c = {.linear = true, .bias = bias};
        op_check check = {.name = "matmul",
                          .apply = apply,
                          .user = &c,
                          .count = 3,
                          .in = {{.shape = LIGHT_SHAPE(2, 3, in), .values = x},
                                 {.shape = LIGHT_SHAPE(out, in), .values = w},
                                 {.shape = LIGHT_SHAPE(out), .values = b, .constant = !bias}},
                          .out = LIGHT_SHAPE(2, 3, out),
                          .expected = y};
        check_op(&check);
    }
}

static light_tensor *apply_vectors(light_step *s, light_tensor **in, const void *user)
{
    (void)user;
    return light_matmul(s, in[0], in[1]);
}

static void one_dim_arguments(void **state)
{
    static const double v[] = {1, 2, 3}, m[] = {1, 0, 2, -1, 3, 0.5};
    static const double dot[] = {14}, row[] = {1 + 4 + 9, 0 - 2 + 1.5},
                        column[] = {1 * 1 + 2 * 0 + 3 * 2, -1 + 6 + 1.5};
    (void)state;
    op_check check = {.name = "matmul",
                      .apply = apply_vectors,
                      .count = 2,
                      .in = {{.shape = LIGHT_SHAPE(3), .values = v}, {.shape = LIGHT_SHAPE(3), .values = v}},
                      .expected = dot};
    check_op(&check);
    check.in[1] = (op_input){.shape = LIGHT_SHAPE(3, 2), .values = m};
    const double expected[] = {1 * 1 + 2 * 2 + 3 * 3, 1 * 0 + 2 * -1 + 3 * 0.5};
    assert_true(row[0] == expected[0] && row[1] == expected[1]);
    check.out = LIGHT_SHAPE(2);
    check.expected = expected;
    check_op(&check);
    check.in[0] = (op_input){.shape = LIGHT_SHAPE(2, 3), .values = m};
    check.in[1] = (op_input){.shape = LIGHT_SHAPE(3), .values = v};
    check.expected = column;
    check_op(&check);
}

static light_tensor *square(light_step *s, light_tensor **in, const void *user)
{
    (void)user;
    return light_matmul(s, in[0], in[0]);
}

static void a_matrix_by_itself(void **state)
{
    static double x[9], y[9];
    (void)state;
    spread_values(x, 9, -2, 2, 6);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            y[i * 3 + j] = 0;
            for (int k = 0; k < 3; k++) y[i * 3 + j] += x[i * 3 + k] * x[k * 3 + j];
        }
    op_check check = {.name = "matmul",
                      .apply = square,
                      .count = 1,
                      .in = {{.shape = LIGHT_SHAPE(3, 3), .values = x}},
                      .out = LIGHT_SHAPE(3, 3),
                      .expected = y};
    check_op(&check);
}

static void bits_do_not_depend_on_threads(void **state)
{
    double *x = malloc(2 * 300 * 200 * sizeof *x), *w = malloc(120 * 200 * sizeof *w);
    (void)state;
    assert_true(x && w);
    rough_values(x, 2 * 300 * 200, 7);
    rough_values(w, 120 * 200, 8);
    product_case c = {.linear = true};
    op_check check = {.name = "matmul",
                      .apply = apply,
                      .user = &c,
                      .count = 2,
                      .in = {{.shape = LIGHT_SHAPE(2, 300, 200), .values = x},
                             {.shape = LIGHT_SHAPE(120, 200), .values = w}},
                      .out = LIGHT_SHAPE(2, 300, 120)};
    check_op_threads(&check);
    free(x);
    free(w);
}

static void bad_shapes(void **state)
{
    static double x[64];
    (void)state;
    product_case c = {0}, l = {.linear = true};
    op_check check = {
        .name = "matmul",
        .apply = apply,
        .user = &c,
        .count = 2,
        .in = {{.shape = LIGHT_SHAPE(2, 3), .values = x}, {.shape = LIGHT_SHAPE(4, 2), .values = x}}};
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_SHAPE,
                   "matmul: shapes [2, 3] and [4, 2]: 3 columns do not meet 4 rows");
    check.in[0].shape = LIGHT_SHAPE(3, 2, 4);
    check.in[1].shape = LIGHT_SHAPE(2, 4, 2);
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_SHAPE,
                   "batch dims of [3, 2, 4] and [2, 4, 2] do not fit together");
    check.in[1].dtype = LIGHT_F64;
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_DTYPE, "dtypes f32 and f64 differ");
    op_check linear = {
        .name = "matmul",
        .apply = apply,
        .user = &l,
        .count = 2,
        .in = {{.shape = LIGHT_SHAPE(2, 3), .values = x}, {.shape = LIGHT_SHAPE(4, 5), .values = x}}};
    check_op_fails(&linear, LIGHT_F32, LIGHT_ERR_SHAPE,
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
