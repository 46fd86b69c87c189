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

static void wrong_arguments(void **state)
{
    double w[6] = {0}, index[] = {0, 3};
    int64_t padding = -1;
    op_check check = {.name = "embedding",
                      .apply = apply,
                      .user = &padding,
                      .count = 2,
                      .in = {{.shape = LIGHT_SHAPE(3, 2), .values = w},
                             {.shape = LIGHT_SHAPE(2), .values = index, .dtype = LIGHT_I64}}};

    (void)state;
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_ARGUMENT,
                   "embedding: index 1 is 3; the table has 3 rows, 0 to 2");
    index[1] = -1;
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_ARGUMENT, "index 1 is -1");
    index[1] = 0;
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
        cmocka_unit_test(rows_by_index),   cmocka_unit_test(padding_gets_no_gradient),
        cmocka_unit_test(long_sums),       cmocka_unit_test(same_bits_for_all_threads),
        cmocka_unit_test(wrong_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
