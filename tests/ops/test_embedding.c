/* SPDX-License-Identifier: Apache-2.0 */
/* Embedding: rows, repeated rows in the gradient, padding, errors. */
#include "support/opcheck.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static light_tensor *apply(light_step *s, light_tensor **in, void *context)
{
    return light_embedding_op(s, in[0], in[1], *(const int64_t *)context);
}

static void rows_by_index(void **state)
{
    enum { ROWS = 5, WIDTH = 3 };
    double w[ROWS * WIDTH], index[] = {4, 0, 2, 2, 4, 4}, expected[6 * WIDTH];
    int64_t padding = -1;
    light_shape shapes[] = {LIGHT_SHAPE(6), LIGHT_SHAPE(2, 3), LIGHT_SHAPE(1, 2, 3)};

    (void)state;
    opcheck_fill(w, ROWS * WIDTH, 1);
    for (int i = 0; i < 6 * WIDTH; i++) expected[i] = w[(int)index[i / WIDTH] * WIDTH + i % WIDTH];
    for (int k = 0; k < 3; k++) {
        opcheck check = {.fn = apply,
                         .context = &padding,
                         .n = 2,
                         .in = {{.shape = LIGHT_SHAPE(ROWS, WIDTH), .values = w, .grad = true},
                                {.shape = shapes[k], .values = index, .dtype = k ? LIGHT_I64 : LIGHT_I32}}};
        opcheck_all(&check, expected, 6 * WIDTH);
    }
}

static void padding_gets_no_gradient(void **state)
{
    float w[6] = {1, 2, 3, 4, 5, 6}, g[6], ones[6] = {1, 1, 1, 1, 1, 1};
    const float expected[6] = {0, 0, 1, 1, 0, 0};
    int32_t index[3] = {2, 1, 2};
    light_tensor *weight, *indices, *y, *gy;
    light_step *s;

    (void)state;
    assert_int_equal(light_tensor_wrap(&weight, LIGHT_SHAPE(3, 2), LIGHT_F32, w), LIGHT_OK);
    assert_int_equal(light_tensor_wrap(&indices, LIGHT_SHAPE(3), LIGHT_I32, index), LIGHT_OK);
    assert_int_equal(light_tensor_wrap(&gy, LIGHT_SHAPE(3, 2), LIGHT_F32, ones), LIGHT_OK);
    light_set_requires_grad(weight, true);
    assert_int_equal(light_step_new(&s, .seed = 1), LIGHT_OK);
    assert_int_equal(light_step_begin(s), LIGHT_OK);
    y = light_embedding_op(s, weight, indices, 2);
    assert_int_equal(light_backward_from(s, y, gy), LIGHT_OK);
    assert_int_equal(light_tensor_read(light_grad(weight), LIGHT_F32, g, sizeof g), LIGHT_OK);
    for (int i = 0; i < 6; i++) assert_true(g[i] == expected[i]);
    light_step_free(s);
    light_tensor_free(weight);
    light_tensor_free(indices);
    light_tensor_free(gy);
}

/* Many uses of a row are summed in f32, so that 16 bits lose nothing on the way. */
static void long_sums(void **state)
{
    enum { USES = 3000 };
    double w[1] = {0}, *index = calloc(USES, sizeof *index);
    int64_t padding = -1;
    light_tensor *weight, *indices, *gy, *y;
    light_step *s;
    double g, ones[USES];

    (void)state;
    assert_non_null(index);
    for (int i = 0; i < USES; i++) ones[i] = 1;
    assert_int_equal(light_tensor_new(&weight, LIGHT_SHAPE(1, 1), LIGHT_BF16, NULL), LIGHT_OK);
    assert_int_equal(light_tensor_write(weight, LIGHT_F64, w, sizeof w), LIGHT_OK);
    assert_int_equal(light_tensor_new(&indices, LIGHT_SHAPE(USES), LIGHT_I64, NULL), LIGHT_OK);
    assert_int_equal(light_tensor_new(&gy, LIGHT_SHAPE(USES, 1), LIGHT_BF16, NULL), LIGHT_OK);
    assert_int_equal(light_tensor_write(gy, LIGHT_F64, ones, sizeof ones), LIGHT_OK);
    light_set_requires_grad(weight, true);
    assert_int_equal(light_step_new(&s, .seed = 1), LIGHT_OK);
    assert_int_equal(light_step_begin(s), LIGHT_OK);
    y = light_embedding_op(s, weight, indices, padding);
    assert_int_equal(light_backward_from(s, y, gy), LIGHT_OK);
    assert_int_equal(light_tensor_read(light_grad(weight), LIGHT_F64, &g, sizeof g), LIGHT_OK);
    opcheck_near(g, USES, 0x1p-8, "sum", 0);
    light_step_free(s);
    light_tensor_free(weight);
    light_tensor_free(indices);
    light_tensor_free(gy);
    free(index);
}

static void same_bits_for_all_threads(void **state)
{
    enum { ROWS = 90, WIDTH = 300, USES = 400 };
    double *w = malloc(ROWS * WIDTH * sizeof *w), index[USES];
    int64_t padding = -1;
    opcheck check = {.fn = apply,
                     .context = &padding,
                     .n = 2,
                     .in = {{.shape = LIGHT_SHAPE(ROWS, WIDTH), .values = w, .grad = true},
                            {.shape = LIGHT_SHAPE(USES), .values = index, .dtype = LIGHT_I64}}};

    (void)state;
    assert_non_null(w);
    opcheck_fill_rough(w, ROWS * WIDTH, 2);
    for (int i = 0; i < USES; i++) index[i] = i * i % 53;
    opcheck_threads(&check);
    free(w);
}

static void wrong_arguments(void **state)
{
    double w[6] = {0}, index[] = {0, 3};
    int64_t padding = -1;
    opcheck check = {.fn = apply,
                     .context = &padding,
                     .n = 2,
                     .in = {{.shape = LIGHT_SHAPE(3, 2), .values = w},
                            {.shape = LIGHT_SHAPE(2), .values = index, .dtype = LIGHT_I64}}};

    (void)state;
    opcheck_fails(&check, LIGHT_F32, LIGHT_ERR_ARGUMENT,
                  "embedding: index 1 is 3; the table has 3 rows, 0 to 2");
    index[1] = -1;
    opcheck_fails(&check, LIGHT_F32, LIGHT_ERR_ARGUMENT, "index 1 is -1");
    index[1] = 0;
    padding = 3;
    opcheck_fails(&check, LIGHT_F32, LIGHT_ERR_ARGUMENT, "padding_idx 3");
    padding = -1;
    check.in[1].dtype = LIGHT_F32;
    opcheck_fails(&check, LIGHT_F32, LIGHT_ERR_DTYPE, "f32");
    check.in[0].shape = LIGHT_SHAPE(6);
    opcheck_fails(&check, LIGHT_F32, LIGHT_ERR_SHAPE, "[6]");
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
