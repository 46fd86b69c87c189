/* SPDX-License-Identifier: Apache-2.0 */
/* Embedding: rows, repeated rows in the gradient, padding, errors. */
#include "support/op_check.h"

#include <stdlib.h>

static light_tensor *apply(light_step *s, light_tensor **in, const void *user)
{
    return light_embedding_op(s, in[0], in[1], *(const int64_t *)user);
}

static void rows_by_index(void **state)
{
    enum { ROWS = 5, WIDTH = 3 };
    double w[ROWS * WIDTH], index[] = {4, 0, 2, 2, 4, 4}, expected[6 * WIDTH];
    int64_t padding = -1;
    light_shape shapes[] = {LIGHT_SHAPE(6), LIGHT_SHAPE(2, 3), LIGHT_SHAPE(1, 2, 3)};

    (void)state;
    spread_values(w, ROWS * WIDTH, -2, 2, 1);
    for (int i = 0; i < 6 * WIDTH; i++) expected[i] = w[(int)index[i / WIDTH] * WIDTH + i % WIDTH];
    for (int k = 0; k < 3; k++) {
        op_check check = {.name = "embedding",
                          .apply = apply,
                          .user = &padding,
                          .count = 2,
                          .in = {{.shape = LIGHT_SHAPE(ROWS, WIDTH), .values = w},
                                 {.shape = shapes[k], .values = index, .dtype = k ? LIGHT_I64 : LIGHT_I32}},
                          .out = shapes[k],
                          .expected = expected};
        check.out.dims[check.out.ndim++] = WIDTH;
        check_op(&check);
    }
}

static void padding_gets_no_gradient(void **state)
{
    const double w[6] = {1, 2, 3, 4, 5, 6}, ones[6] = {1, 1, 1, 1, 1, 1}, index[3] = {2, 1, 2};
    const double expected[6] = {0, 0, 1, 1, 0, 0};
    light_tensor *weight, *indices, *y, *gy;
    light_step *s;

    (void)state;
    weight = new_from_doubles(LIGHT_SHAPE(3, 2), LIGHT_F32, w);
    indices = new_from_doubles(LIGHT_SHAPE(3), LIGHT_I32, index);
    gy = new_from_doubles(LIGHT_SHAPE(3, 2), LIGHT_F32, ones);
    light_set_requires_grad(weight, true);
    assert_int_equal(light_step_new(&s, .seed = 1), LIGHT_OK);
    assert_int_equal(light_step_begin(s), LIGHT_OK);
    y = light_embedding_op(s, weight, indices, 2);
    assert_int_equal(light_backward_from(s, y, gy), LIGHT_OK);
    assert_values(light_grad(weight), expected, 0);
    light_step_free(s);
    light_tensor_free(weight);
    light_tensor_free(indices);
    light_tensor_free(gy);
}

/* Many uses of a row are summed in f32, so that 16 bits lose nothing on the way. */
static void long_sums(void **state)
{
    enum { USES = 3000 };
    double w[1] = {0}, index[USES] = {0}, ones[USES], uses = USES;
    int64_t padding = -1;
    light_tensor *weight, *indices, *gy, *y;
    light_step *s;

    (void)state;
    for (int i = 0; i < USES; i++) ones[i] = 1;
    weight = new_from_doubles(LIGHT_SHAPE(1, 1), LIGHT_BF16, w);
    indices = new_from_doubles(LIGHT_SHAPE(USES), LIGHT_I64, index);
    gy = new_from_doubles(LIGHT_SHAPE(USES, 1), LIGHT_BF16, ones);
    light_set_requires_grad(weight, true);
    assert_int_equal(light_step_new(&s, .seed = 1), LIGHT_OK);
    assert_int_equal(light_step_begin(s), LIGHT_OK);
    y = light_embedding_op(s, weight, indices, padding);
    assert_int_equal(light_backward_from(s, y, gy), LIGHT_OK);
    assert_values(light_grad(weight), &uses, dtype_epsilon(LIGHT_BF16) / 2);
    light_step_free(s);
    light_tensor_free(weight);
    light_tensor_free(indices);
    light_tensor_free(gy);
}

/* The gradient of `rows` rows from `uses` of them, twice, against sums that are exact in f32. */
static void check_uses(int64_t uses, int64_t rows, int64_t width, int64_t padding)
{
    double *index = new_doubles(uses), *g = new_doubles(uses * width), *sums = new_doubles(rows * width);
    double *zeros = new_doubles(rows * width);
    light_tensor *weight, *indices, *gy;
    light_step *s;

    for (int64_t i = 0; i < uses; i++)
        index[i] = (double)(i * i * 31 % 1009 % rows * (rows / 1009 + 1) % rows);
    for (int64_t i = 0; i < uses * width; i++) g[i] = (double)(i * 37 % 17 - 8);
    for (int64_t i = 0; i < uses * width; i++) {
        int64_t row = (int64_t)index[i / width];
        if (row != padding) sums[row * width + i % width] += g[i];
    }
    weight = new_from_doubles(LIGHT_SHAPE(rows, width), LIGHT_F32, zeros);
    indices = new_from_doubles(LIGHT_SHAPE(uses), LIGHT_I32, index);
    gy = new_from_doubles(LIGHT_SHAPE(uses, width), LIGHT_F32, g);
    light_set_requires_grad(weight, true);
    assert_int_equal(light_step_new(&s, .seed = 1), LIGHT_OK);
    for (int time = 1; time <= 2; time++) {
        assert_int_equal(light_step_begin(s), LIGHT_OK);
        assert_int_equal(light_backward_from(s, light_embedding_op(s, weight, indices, padding), gy),
                         LIGHT_OK);
        for (int64_t i = 0; time == 2 && i < rows * width; i++) sums[i] *= 2;
        assert_values(light_grad(weight), sums, 0);
    }
    light_step_free(s);
    light_tensor_free(weight);
    light_tensor_free(indices);
    light_tensor_free(gy);
    free(index);
    free(g);
    free(sums);
    free(zeros);
}

/* A few rows that are used often, many that are used rarely; widths in and out of step with vectors. */
static void uses_of_tables(void **state)
{
    (void)state;
    check_uses(5000, 1, 3, -1);
    check_uses(5000, 7, 8, 2);
    check_uses(300, 1000, 5, -1);
    check_uses(600, 70000, 4, 1009);
}

static void same_bits_for_all_threads(void **state)
{
    enum { ROWS = 90, WIDTH = 300, USES = 400 };
    double *w = malloc(ROWS * WIDTH * sizeof *w), index[USES];
    int64_t padding = -1;
    op_check check = {.name = "embedding",
                      .apply = apply,
                      .user = &padding,
                      .count = 2,
                      .in = {{.shape = LIGHT_SHAPE(ROWS, WIDTH), .values = w},
                             {.shape = LIGHT_SHAPE(USES), .values = index, .dtype = LIGHT_I64}},
                      .out = LIGHT_SHAPE(USES, WIDTH)};

    (void)state;
    assert_non_null(w);
    rough_values(w, ROWS * WIDTH, 2);
    for (int i = 0; i < USES; i++) index[i] = i * i % 53;
    check_op_threads(&check);
    free(w);
}

static void check_index_error(double index, const char *on_host, const char *on_gpu)
{
    light_step *s = new_step();
    light_tensor *indices = from_doubles(s, LIGHT_SHAPE(2), LIGHT_I64, (double[]){0, index});
    light_embedding_op(s, light_zeros(s, LIGHT_SHAPE(3, 2), LIGHT_F32), indices, -1);
    assert_index_error(s, on_host, on_gpu);
    light_step_free(s);
}

static void wrong_arguments(void **state)
{
    double w[6] = {0}, index[] = {0, 0};
    int64_t padding = -1;
    op_check check = {.name = "embedding",
                      .apply = apply,
                      .user = &padding,
                      .count = 2,
                      .in = {{.shape = LIGHT_SHAPE(3, 2), .values = w},
                             {.shape = LIGHT_SHAPE(2), .values = index, .dtype = LIGHT_I64}}};

    (void)state;
    check_index_error(3, "embedding: index 1 is 3; the table has 3 rows, 0 to 2",
                      "EMBEDDING: index 3 is out of range, there are 3");
    check_index_error(-1, "index 1 is -1", "EMBEDDING: index -1 is out of range, there are 3");
    padding = 3;
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_ARGUMENT, "padding_idx 3");
    padding = -1;
    check.in[1].dtype = LIGHT_F32;
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_DTYPE, "f32");
    check.in[0].shape = LIGHT_SHAPE(6);
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_SHAPE, "[6]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_by_index),
        cmocka_unit_test(padding_gets_no_gradient),
        cmocka_unit_test(long_sums),
        cmocka_unit_test(uses_of_tables),
        cmocka_unit_test(same_bits_for_all_threads),
        cmocka_unit_test(wrong_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
