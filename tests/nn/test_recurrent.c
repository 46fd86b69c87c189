/* SPDX-License-Identifier: Apache-2.0 */
/* LSTM and GRU against the formulas written as loops in double, and their gradients against finite differences. */
#include <light/light.h>

#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "nn/reference.h"

enum { T = 4, N = 2, I = 3, H = 2, LAYERS = 2 };

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* ---- the formulas --------------------------------------------------------- */

typedef struct {
    double *w_ih, *w_hh, *b_ih, *b_hh;
    int in;
} cell;

static cell cell_of(light_module *root, int layer, bool reverse, int in)
{
    cell c = {.in = in};
    const char *names[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
    double **slots[] = {&c.w_ih, &c.w_hh, &c.b_ih, &c.b_hh};
    for (int i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s_l%d%s", names[i], layer, reverse ? "_reverse" : "");
        *slots[i] = parameter(root, name);
    }
    return c;
}

static void cell_free(cell *c)
{
    free(c->w_ih);
    free(c->w_hh);
    free(c->b_ih);
    free(c->b_hh);
}

static double gate(const cell *c, int row, const double *x, const double *h, bool input)
{
    double sum = input ? c->b_ih[row] : c->b_hh[row];
    for (int i = 0; i < (input ? c->in : H); i++)
        sum += input ? c->w_ih[row * c->in + i] * x[i] : c->w_hh[row * H + i] * h[i];
    return sum;
}

static void lstm_step(const cell *c, const double *x, double *h, double *memory)
{
    double next[H];
    for (int j = 0; j < H; j++) {
        double z[4];
        for (int g = 0; g < 4; g++) z[g] = gate(c, g * H + j, x, h, true) + gate(c, g * H + j, x, h, false);
        memory[j] = sigmoid(z[1]) * memory[j] + sigmoid(z[0]) * tanh(z[2]);
        next[j] = sigmoid(z[3]) * tanh(memory[j]);
    }
    memcpy(h, next, sizeof next);
}

static void gru_step(const cell *c, const double *x, double *h)
{
    double next[H];
    for (int j = 0; j < H; j++) {
        double r = sigmoid(gate(c, j, x, h, true) + gate(c, j, x, h, false));
        double z = sigmoid(gate(c, H + j, x, h, true) + gate(c, H + j, x, h, false));
        double n = tanh(gate(c, 2 * H + j, x, h, true) + r * gate(c, 2 * H + j, x, h, false));
        next[j] = (1 - z) * n + z * h[j];
    }
    memcpy(h, next, sizeof next);
}

/* x [T, N, I]; h and c [layers directions, N, H] hold the states before and get those after; y [T, N, directions H]. */
static void reference(light_module *root, bool lstm, int layers, int directions, const double *x, double *h,
                      double *c, double *y)
{
    double in[T * N * 2 * H + T * N * I], out[T * N * 2 * H];
    int width = I;
    memcpy(in, x, T * N * I * sizeof *x);
    for (int layer = 0; layer < layers; layer++) {
        for (int d = 0; d < directions; d++) {
            cell weights = cell_of(root, layer, d == 1, width);
            for (int n = 0; n < N; n++) {
                double *state = h + ((layer * directions + d) * N + n) * H,
                       *memory = c + ((layer * directions + d) * N + n) * H;
                for (int i = 0; i < T; i++) {
                    int t = d ? T - 1 - i : i;
                    const double *now = in + (t * N + n) * width;
                    if (lstm)
                        lstm_step(&weights, now, state, memory);
                    else
                        gru_step(&weights, now, state);
                    memcpy(out + ((t * N + n) * directions + d) * H, state, H * sizeof *state);
                }
            }
            cell_free(&weights);
        }
        width = directions * H;
        memcpy(in, out, (size_t)(T * N * width) * sizeof *in);
    }
    memcpy(y, out, (size_t)(T * N * width) * sizeof *y);
}

/* ---- comparing ------------------------------------------------------------ */

static void expect(light_step *s, light_tensor *t, light_shape shape, const double *want)
{
    assert_true(t == NULL || light_shape_equal(light_shape_of(t), shape));
    double *have = read_tensor(s, t);
    for (int64_t i = 0; i < light_shape_numel(shape); i++) assert_near(have[i], want[i], 32 * DBL_EPSILON);
    free(have);
}

static void compare(bool lstm, int layers, bool bidirectional, bool batch_first, bool with_state)
{
    int directions = bidirectional ? 2 : 1, states = layers * directions;
    light_recurrent_options o = {.input_size = I,
                                 .hidden_size = H,
                                 .num_layers = layers,
                                 .bidirectional = bidirectional,
                                 .batch_first = batch_first};
    light_lstm of_lstm = {0};
    light_gru of_gru = {0};
    light_module *root = lstm ? &of_lstm.base : &of_gru.base;
    assert_int_equal(lstm ? light_lstm_init_with(&of_lstm, NULL, "", &o)
                          : light_gru_init_with(&of_gru, NULL, "", &o),
                     LIGHT_OK);
    root->dtype = LIGHT_F64;
    assert_int_equal(light_module_build(root, 1), LIGHT_OK);
    scatter_parameters(root);

    double x[T * N * I], turned[T * N * I], y[T * N * 2 * H], h[2 * LAYERS * N * H] = {0},
                                                                                 c[2 * LAYERS * N * H] = {0};
    fill_wave(x, T * N * I, 0);
    for (int t = 0; t < T; t++)
        for (int n = 0; n < N; n++) memcpy(turned + (n * T + t) * I, x + (t * N + n) * I, I * sizeof *x);
    if (with_state) {
        fill_wave(h, states * N * H, 1);
        fill_wave(c, states * N * H, 2);
    }
    light_step *s = new_step();
    light_shape state_shape = LIGHT_SHAPE(states, N, H);
    light_tensor *input = batch_first ? light_from_host(s, LIGHT_SHAPE(N, T, I), LIGHT_F64, turned)
                                      : light_from_host(s, LIGHT_SHAPE(T, N, I), LIGHT_F64, x);
    light_tensor *h0 = with_state ? light_from_host(s, state_shape, LIGHT_F64, h) : NULL;
    light_tensor *c0 = with_state ? light_from_host(s, state_shape, LIGHT_F64, c) : NULL;
    light_tensor *h_last = NULL, *c_last = NULL;
    light_tensor *output = lstm ? light_lstm_forward(s, &of_lstm, input, h0, c0, &h_last, &c_last)
                                : light_gru_forward(s, &of_gru, input, h0, &h_last);
    reference(root, lstm, layers, directions, x, h, c, y);
    if (batch_first) output = light_transpose(s, output, 0, 1);
    expect(s, output, LIGHT_SHAPE(T, N, directions * H), y);
    expect(s, h_last, state_shape, h);
    if (lstm) expect(s, c_last, state_shape, c);
    light_step_free(s);
    light_module_free(root);
}

static void test_lstm(void **state)
{
    (void)state;
    compare(true, 1, false, false, false);
    compare(true, 1, false, true, true);
    compare(true, LAYERS, true, true, true);
}

static void test_gru(void **state)
{
    (void)state;
    compare(false, 1, false, false, false);
    compare(false, 1, false, true, true);
    compare(false, LAYERS, true, true, true);
}

/* ---- gradients ------------------------------------------------------------ */

static light_tensor *loss(light_step *s, light_module *root)
{
    double x[T * N * I];
    fill_wave(x, T * N * I, 0);
    return weighted_sum(s, light_forward(s, root, light_from_host(s, LIGHT_SHAPE(T, N, I), LIGHT_F64, x)));
}

static void test_gradients(void **state)
{
    (void)state;
    light_recurrent_options o = {.input_size = I, .hidden_size = H, .num_layers = 2, .bidirectional = true};
    light_lstm lstm = {0};
    assert_int_equal(light_lstm_init_with(&lstm, NULL, "", &o), LIGHT_OK);
    lstm.base.dtype = LIGHT_F64;
    assert_int_equal(light_module_build(&lstm.base, 1), LIGHT_OK);
    scatter_parameters(&lstm.base);
    check_gradients(&lstm.base, loss);
    light_module_free(&lstm.base);

    light_gru gru = {0};
    assert_int_equal(light_gru_init_with(&gru, NULL, "", &o), LIGHT_OK);
    gru.base.dtype = LIGHT_F64;
    assert_int_equal(light_module_build(&gru.base, 1), LIGHT_OK);
    scatter_parameters(&gru.base);
    check_gradients(&gru.base, loss);
    light_module_free(&gru.base);
}

/* ---- names, shapes, errors -------------------------------------------------- */

static void test_parameters(void **state)
{
    (void)state;
    light_lstm m = {0};
    assert_int_equal(light_lstm_init(&m, NULL, "", .input_size = 5, .hidden_size = 16, .num_layers = 2,
                                     .bidirectional = true),
                     LIGHT_OK);
    assert_int_equal(light_module_build(&m.base, 1), LIGHT_OK);
    const char *suffixes[] = {"l0", "l0_reverse", "l1", "l1_reverse"};
    int n = 0;
    for (light_parameter *p = light_next_parameter(&m.base, NULL); p; p = light_next_parameter(&m.base, p)) {
        const char *prefixes[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
        char want[64];
        snprintf(want, sizeof want, "%s_%s", prefixes[n % 4], suffixes[n / 4]);
        assert_string_equal(p->path, want);
        double *v = parameter(&m.base, p->path), largest = 0;
        for (int64_t i = 0; i < light_numel(p->tensor); i++) largest = fmax(largest, fabs(v[i]));
        assert_true(largest <= 0.25 && largest > 0.2); /* 1 / sqrt(16), and not much less */
        free(v);
        n++;
    }
    assert_int_equal(n, 16);
    assert_true(light_shape_equal(light_shape_of(m.cells[2].weight_ih), LIGHT_SHAPE(64, 32)));
    light_module_free(&m.base);
}

static void test_shapes_that_do_not_fit(void **state)
{
    (void)state;
    light_gru m = {0};
    assert_int_equal(light_gru_init(&m, NULL, "", .input_size = 3, .hidden_size = 2, .batch_first = true,
                                    .bias = LIGHT_OFF),
                     LIGHT_OK);
    assert_int_equal(light_module_build(&m.base, 1), LIGHT_OK);
    assert_null(m.cells[0].bias_ih);
    light_step *s = new_step();
    assert_null(light_forward(s, &m.base, light_zeros(s, LIGHT_SHAPE(2, 4, 5), LIGHT_F32)));
    assert_int_equal(light_step_status(s), LIGHT_ERR_SHAPE);
    assert_non_null(strstr(light_error_message(), "gru: input [2, 4, 5] must be [N, T, 3]"));
    assert_int_equal(light_step_begin(s), LIGHT_OK);
    light_tensor *x = light_zeros(s, LIGHT_SHAPE(2, 4, 3), LIGHT_F32),
                 *h = light_zeros(s, LIGHT_SHAPE(1, 4, 2), LIGHT_F32);
    assert_null(light_gru_forward(s, &m, x, h, NULL));
    assert_non_null(strstr(light_error_message(), "gru: state h is [1, 4, 2], must be [1, 2, 2]"));
    light_step_free(s);
    light_module_free(&m.base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lstm),
        cmocka_unit_test(test_gru),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_shapes_that_do_not_fit),
    };
    return cmocka_run_group_tests_name("recurrent", tests, NULL, NULL);
}
