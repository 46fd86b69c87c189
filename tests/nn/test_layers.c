/* SPDX-License-Identifier: Apache-2.0 */
/* The smaller shipped modules: shapes and names of their parameters, results in simple cases, gradients in f64. */
#include <light/light.h>

#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "nn/reference.h"

static void build(light_module *root, light_dtype dtype)
{
    root->dtype = dtype;
    if (light_module_build(root, 1) != LIGHT_OK) fail_msg("%s", light_error_message());
}

/* "weight[2, 3] bias[2]" of a module, buffers in parentheses. */
static void expect_parameters(light_module *root, const char *want)
{
    char text[512] = "", shape[256];
    for (light_parameter *p = light_next_parameter(root, NULL); p; p = light_next_parameter(root, p)) {
        light_shape_format(light_shape_of(p->tensor), shape, sizeof shape);
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s%s%s%s", text[0] ? " " : "",
                 p->is_buffer ? "(" : "", p->path, shape, p->is_buffer ? ")" : "");
    }
    assert_string_equal(text, want);
}

static light_tensor *image_loss(light_step *s, light_module *root)
{
    double x[2 * 4 * 5 * 3];
    fill_wave(x, 120, 0);
    return weighted_sum(s, light_forward(s, root, light_from_host(s, LIGHT_SHAPE(2, 4, 5, 3), LIGHT_F64, x)));
}

static light_tensor *rows_loss(light_step *s, light_module *root)
{
    double x[5 * 6];
    fill_wave(x, 30, 0);
    return weighted_sum(s, light_forward(s, root, light_from_host(s, LIGHT_SHAPE(5, 6), LIGHT_F64, x)));
}

static void test_linear(void **state)
{
    (void)state;
    light_linear m = {0};
    assert_int_equal(light_linear_init(&m, NULL, "", .in_features = 6, .out_features = 3), LIGHT_OK);
    build(&m.base, LIGHT_F64);
    expect_parameters(&m.base, "weight[3, 6] bias[3]");
    double x[30], *w = parameter(&m.base, "weight"), *b = parameter(&m.base, "bias");
    fill_wave(x, 30, 0);
    light_step *s = new_step();
    double *y =
        read_tensor(s, light_forward(s, &m.base, light_from_host(s, LIGHT_SHAPE(5, 6), LIGHT_F64, x)));
    for (int r = 0; r < 5; r++)
        for (int o = 0; o < 3; o++) {
            double sum = b[o];
            for (int i = 0; i < 6; i++) sum += x[r * 6 + i] * w[o * 6 + i];
            assert_near(y[r * 3 + o], sum, 16 * DBL_EPSILON);
        }
    free(w);
    free(b);
    free(y);
    light_step_free(s);
    check_gradients(&m.base, rows_loss);
    light_module_free(&m.base);

    m = (light_linear){0};
    assert_int_equal(light_linear_init(&m, NULL, "", .in_features = 6, .out_features = 3, .bias = LIGHT_OFF),
                     LIGHT_OK);
    build(&m.base, LIGHT_F64);
    expect_parameters(&m.base, "weight[3, 6]");
    check_gradients(&m.base, rows_loss);
    light_module_free(&m.base);
}

static void expect_output(light_module *root, light_shape in, light_shape out)
{
    light_step *s = new_step();
    light_tensor *y = light_forward(s, root, light_zeros(s, in, LIGHT_F64));
    if (!y) fail_msg("%s", light_error_message());
    assert_true(light_shape_equal(light_shape_of(y), out));
    light_step_free(s);
}

static void test_conv2d(void **state)
{
    (void)state;
    light_conv2d m = {0};
    assert_int_equal(light_conv2d_init(&m, NULL, "", .in_channels = 4, .out_channels = 6, .kernel_hw = {3, 2},
                                       .stride = 2, .padding_hw = {1, 0}, .groups = 2),
                     LIGHT_OK);
    build(&m.base, LIGHT_F64);
    expect_parameters(&m.base, "weight[6, 2, 3, 2] bias[6]");
    expect_output(&m.base, LIGHT_SHAPE(2, 4, 5, 3), LIGHT_SHAPE(2, 6, 3, 1));
    check_gradients(&m.base, image_loss);
    light_module_free(&m.base);
}

static void test_conv_transpose2d(void **state)
{
    (void)state;
    light_conv_transpose2d m = {0};
    assert_int_equal(light_conv_transpose2d_init(&m, NULL, "", .in_channels = 4, .out_channels = 6,
                                                 .kernel = 3, .stride = 2, .padding = 1, .output_padding = 1,
                                                 .groups = 2),
                     LIGHT_OK);
    build(&m.base, LIGHT_F64);
    expect_parameters(&m.base, "weight[4, 3, 3, 3] bias[6]");
    double largest = 0, *w = parameter(&m.base, "weight");
    for (int i = 0; i < 108; i++) largest = fmax(largest, fabs(w[i]));
    assert_true(largest <= 1 / sqrt(27) && largest > 0.9 / sqrt(27));
    free(w);
    expect_output(&m.base, LIGHT_SHAPE(2, 4, 5, 3), LIGHT_SHAPE(2, 6, 10, 6));
    check_gradients(&m.base, image_loss);
    light_module_free(&m.base);
}

static void test_batch_norm(void **state)
{
    (void)state;
    light_batch_norm m = {0};
    assert_int_equal(light_batch_norm_init(&m, NULL, "", .features = 4), LIGHT_OK);
    build(&m.base, LIGHT_F64);
    expect_parameters(&m.base,
                      "weight[4] bias[4] (running_mean[4]) (running_var[4]) (num_batches_tracked[])");
    double x[120], batches;
    fill_wave(x, 120, 0);
    light_step *s = new_step();
    double *y =
        read_tensor(s, light_forward(s, &m.base, light_from_host(s, LIGHT_SHAPE(2, 4, 5, 3), LIGHT_F64, x)));
    double *running_mean = parameter(&m.base, "running_mean"),
           *running_var = parameter(&m.base, "running_var");
    for (int c = 0; c < 4; c++) {
        double mean = 0, var = 0;
        for (int n = 0; n < 2; n++)
            for (int i = 0; i < 15; i++) mean += x[(n * 4 + c) * 15 + i] / 30;
        for (int n = 0; n < 2; n++)
            for (int i = 0; i < 15; i++) var += pow(x[(n * 4 + c) * 15 + i] - mean, 2) / 30;
        assert_near(y[c * 15], (x[c * 15] - mean) / sqrt(var + 1e-5), 32 * FLT_EPSILON);
        assert_near(running_mean[c], 0.1 * mean, 4 * FLT_EPSILON);
        assert_near(running_var[c], 0.9 + 0.1 * var * 30 / 29, 4 * FLT_EPSILON);
    }
    free(y);
    assert_int_equal(light_item(m.num_batches_tracked, &batches), LIGHT_OK);
    assert_true(batches == 1);

    light_eval(&m.base); /* by the running statistics, which stay */
    assert_int_equal(light_step_begin(s), LIGHT_OK);
    y = read_tensor(s, light_forward(s, &m.base, light_from_host(s, LIGHT_SHAPE(2, 4, 5, 3), LIGHT_F64, x)));
    assert_near(y[0], (x[0] - running_mean[0]) / sqrt(running_var[0] + 1e-5), 16 * FLT_EPSILON);
    free(y);
    assert_int_equal(light_item(m.num_batches_tracked, &batches), LIGHT_OK);
    assert_true(batches == 1);
    free(running_mean);
    free(running_var);
    light_step_free(s);
    light_module_free(&m.base);
}

static void test_layer_norm(void **state)
{
    (void)state;
    light_layer_norm m = {0};
    assert_int_equal(light_layer_norm_init(&m, NULL, "", .features = 6), LIGHT_OK);
    build(&m.base, LIGHT_F64);
    expect_parameters(&m.base, "weight[6] bias[6]");
    scatter_parameters(&m.base);
    check_gradients(&m.base, rows_loss);
    light_module_free(&m.base);

    m = (light_layer_norm){0};
    assert_int_equal(light_layer_norm_init(&m, NULL, "", .shape = LIGHT_SHAPE(5, 3), .bias = LIGHT_OFF),
                     LIGHT_OK);
    build(&m.base, LIGHT_F64);
    expect_parameters(&m.base, "weight[5, 3]");
    check_gradients(&m.base, image_loss);
    light_module_free(&m.base);
}

static void test_rms_norm(void **state)
{
    (void)state;
    light_rms_norm m = {0};
    assert_int_equal(light_rms_norm_init(&m, NULL, "", .features = 6), LIGHT_OK);
    build(&m.base, LIGHT_F64);
    expect_parameters(&m.base, "weight[6]");
    double x[6], squares = 0;
    fill_wave(x, 6, 0);
    for (int i = 0; i < 6; i++) squares += x[i] * x[i];
    light_step *s = new_step();
    double *y =
        read_tensor(s, light_forward(s, &m.base, light_from_host(s, LIGHT_SHAPE(1, 6), LIGHT_F64, x)));
    for (int i = 0; i < 6; i++) assert_near(y[i], x[i] / sqrt(squares / 6 + DBL_EPSILON), 16 * DBL_EPSILON);
    free(y);
    light_step_free(s);
    check_gradients(&m.base, rows_loss);
    light_module_free(&m.base);
}

static void test_group_norm(void **state)
{
    (void)state;
    light_group_norm m = {0};
    assert_int_equal(light_group_norm_init(&m, NULL, "", .groups = 2, .channels = 4), LIGHT_OK);
    build(&m.base, LIGHT_F64);
    expect_parameters(&m.base, "weight[4] bias[4]");
    check_gradients(&m.base, image_loss);
    light_module_free(&m.base);

    m = (light_group_norm){0};
    assert_int_equal(light_group_norm_init(&m, NULL, "", .groups = 3, .channels = 4), LIGHT_OK);
    assert_int_equal(light_module_build(&m.base, 1), LIGHT_ERR_ARGUMENT);
    assert_string_equal(light_error_message(), "group_norm: 3 groups do not divide 4 channels");
    light_module_free(&m.base);
}

static light_tensor *embedding_loss(light_step *s, light_module *root)
{
    const int64_t index[] = {3, 1, 3, 0};
    return weighted_sum(s, light_forward(s, root, light_from_host(s, LIGHT_SHAPE(2, 2), LIGHT_I64, index)));
}

static void test_embedding(void **state)
{
    (void)state;
    light_embedding m = {0};
    assert_int_equal(light_embedding_init(&m, NULL, "", .rows = 5, .width = 3), LIGHT_OK);
    build(&m.base, LIGHT_F64);
    expect_parameters(&m.base, "weight[5, 3]");
    check_gradients(&m.base, embedding_loss);
    light_module_free(&m.base);

    m = (light_embedding){0};
    assert_int_equal(light_embedding_init(&m, NULL, "", .rows = 5, .width = 3, .padding_idx = 3), LIGHT_OK);
    build(&m.base, LIGHT_F64);
    light_step *s = new_step();
    assert_int_equal(light_backward(s, embedding_loss(s, &m.base)), LIGHT_OK);
    double *w = parameter(&m.base, "weight"), *g = read_tensor(s, light_grad(m.weight));
    for (int i = 0; i < 3; i++) {
        assert_true(w[9 + i] == 0);
        assert_true(g[9 + i] == 0);
        assert_true(g[i] != 0);
    }
    free(w);
    free(g);
    light_step_free(s);
    light_module_free(&m.base);
}

typedef struct {
    light_module base;
    light_sequential net;
    light_linear first, last;
    light_dropout_layer dropout;
} mlp;

static light_status mlp_init(light_module *self)
{
    mlp *m = (mlp *)self;
    LIGHT_TRY(light_sequential_init(&m->net, self, "net"));
    LIGHT_TRY(light_linear_init(&m->first, &m->net.base, NULL, .in_features = 6, .out_features = 4));
    LIGHT_TRY(light_sequential_add_function(&m->net, light_relu));
    LIGHT_TRY(light_dropout_layer_init(&m->dropout, &m->net.base, NULL));
    return light_linear_init(&m->last, &m->net.base, NULL, .in_features = 4, .out_features = 2);
}

static light_tensor *mlp_forward(light_module *self, light_step *s, light_tensor *x)
{
    return light_forward(s, &((mlp *)self)->net.base, x);
}

static void test_sequential(void **state)
{
    (void)state;
    const light_module_vtable vtable = {LIGHT_MODULE(mlp), .init = mlp_init, .forward = mlp_forward};
    mlp *m = (mlp *)light_module_new(&vtable);
    build(&m->base, LIGHT_F64);
    expect_parameters(&m->base, "net.0.weight[4, 6] net.0.bias[4] net.3.weight[2, 4] net.3.bias[2]");
    assert_true(m->dropout.options.p == 0.5);
    light_eval(&m->base);
    check_gradients(&m->base, rows_loss);

    light_step *s = new_step();
    double x[30];
    fill_wave(x, 30, 0);
    light_tensor *in = light_from_host(s, LIGHT_SHAPE(5, 6), LIGHT_F64, x);
    double *a = read_tensor(s, light_forward(s, &m->base, in));
    double *b =
        read_tensor(s, light_forward(s, &m->last.base, light_relu(s, light_forward(s, &m->first.base, in))));
    assert_memory_equal(a, b, 10 * sizeof *a);
    free(a);
    free(b);
    light_step_free(s);
    light_module_free(&m->base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),           cmocka_unit_test(test_conv2d),
        cmocka_unit_test(test_conv_transpose2d), cmocka_unit_test(test_batch_norm),
        cmocka_unit_test(test_layer_norm),       cmocka_unit_test(test_rms_norm),
        cmocka_unit_test(test_group_norm),       cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_sequential),
    };
    return cmocka_run_group_tests_name("layers", tests, NULL, NULL);
}
