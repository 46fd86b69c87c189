/* SPDX-License-Identifier: Apache-2.0 */
/* Multi-head attention and the transformer block against loops in double, and their gradients. */
#include <light/light.h>

#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "nn/reference.h"

enum { N = 2, T = 3, S = 5, E = 4, HEADS = 2, D = E / HEADS, HIDDEN = 6 };

/* ---- references ----------------------------------------------------------- */

static void linear(const double *x, const double *w, const double *b, int rows, int in, int out, double *y)
{
    for (int r = 0; r < rows; r++)
        for (int o = 0; o < out; o++) {
            double sum = b ? b[o] : 0;
            for (int i = 0; i < in; i++) sum += x[r * in + i] * w[o * in + i];
            y[r * out + o] = sum;
        }
}

/* query [N, T, E], memory [N, s, E]; allowed [T, s] or NULL. */
static void attention(light_module *root, const char *prefix, const double *query, const double *key,
                      const double *value, int s, bool causal, const bool *allowed, double *y)
{
    char path[64];
    double *parts[4];
    const char *names[] = {"in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"};
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s%s", prefix, names[i]);
        parts[i] = parameter(root, path);
    }
    double q[N * T * E], k[N * S * E], v[N * S * E], mixed[N * T * E] = {0};
    linear(query, parts[0], parts[1], N * T, E, E, q);
    linear(key, parts[0] + E * E, parts[1] + E, N * s, E, E, k);
    linear(value, parts[0] + 2 * E * E, parts[1] + 2 * E, N * s, E, E, v);
    for (int n = 0; n < N; n++)
        for (int h = 0; h < HEADS; h++)
            for (int t = 0; t < T; t++) {
                double weights[S], sum = 0;
                for (int j = 0; j < s; j++) {
                    double score = 0;
                    for (int d = 0; d < D; d++)
                        score += q[(n * T + t) * E + h * D + d] * k[(n * s + j) * E + h * D + d];
                    bool seen = (!causal || j <= t) && (!allowed || allowed[t * s + j]);
                    sum += weights[j] = seen ? exp(score / sqrt(D)) : 0;
                }
                for (int j = 0; j < s; j++)
                    for (int d = 0; d < D; d++)
                        mixed[(n * T + t) * E + h * D + d] +=
                            weights[j] / sum * v[(n * s + j) * E + h * D + d];
            }
    linear(mixed, parts[2], parts[3], N * T, E, E, y);
    for (int i = 0; i < 4; i++) free(parts[i]);
}

static void layer_norm(light_module *root, const char *weight, const char *bias, const double *x, double *y)
{
    double *w = parameter(root, weight), *b = parameter(root, bias);
    for (int r = 0; r < N * T; r++) {
        double mean = 0, var = 0;
        for (int i = 0; i < E; i++) mean += x[r * E + i] / E;
        for (int i = 0; i < E; i++) var += (x[r * E + i] - mean) * (x[r * E + i] - mean) / E;
        for (int i = 0; i < E; i++) y[r * E + i] = (x[r * E + i] - mean) / sqrt(var + 1e-5) * w[i] + b[i];
    }
    free(w);
    free(b);
}

static void expect(light_step *s, light_tensor *t, const double *want, int64_t n, double tolerance)
{
    double *have = read_tensor(s, t);
    assert_int_equal(light_numel(t), n);
    for (int64_t i = 0; i < n; i++) assert_near(have[i], want[i], tolerance);
    free(have);
}

/* ---- attention ------------------------------------------------------------ */

static light_multihead_attention *make(bool causal)
{
    static light_multihead_attention m;
    m = (light_multihead_attention){0};
    assert_int_equal(
        light_multihead_attention_init(&m, NULL, "", .embed_dim = E, .heads = HEADS, .causal = causal),
        LIGHT_OK);
    m.base.dtype = LIGHT_F64;
    assert_int_equal(light_module_build(&m.base, 1), LIGHT_OK);
    scatter_parameters(&m.base);
    return &m;
}

static void test_self_attention(void **state)
{
    (void)state;
    double x[N * T * E], y[N * T * E];
    fill_wave(x, N * T * E, 0);
    for (int causal = 0; causal < 2; causal++) {
        light_multihead_attention *m = make(causal);
        light_step *s = new_step();
        light_tensor *out =
            light_forward(s, &m->base, light_from_host(s, LIGHT_SHAPE(N, T, E), LIGHT_F64, x));
        attention(&m->base, "", x, x, x, T, causal, NULL, y);
        expect(s, out, y, N * T * E, 64 * DBL_EPSILON);
        light_step_free(s);
        light_module_free(&m->base);
    }
}

static void test_cross_attention_with_a_mask(void **state)
{
    (void)state;
    double x[N * T * E], k[N * S * E], v[N * S * E], y[N * T * E];
    bool allowed[T * S];
    fill_wave(x, N * T * E, 0);
    fill_wave(k, N * S * E, 1);
    fill_wave(v, N * S * E, 2);
    for (int i = 0; i < T * S; i++) allowed[i] = i % 3 != 1;
    light_multihead_attention *m = make(false);
    light_step *s = new_step();
    light_tensor *out =
        light_multihead_attention_forward(s, m, light_from_host(s, LIGHT_SHAPE(N, T, E), LIGHT_F64, x),
                                          light_from_host(s, LIGHT_SHAPE(N, S, E), LIGHT_F64, k),
                                          light_from_host(s, LIGHT_SHAPE(N, S, E), LIGHT_F64, v),
                                          light_from_host(s, LIGHT_SHAPE(T, S), LIGHT_BOOL, allowed));
    attention(&m->base, "", x, k, v, S, false, allowed, y);
    expect(s, out, y, N * T * E, 64 * DBL_EPSILON);
    light_step_free(s);
    light_module_free(&m->base);
}

static light_tensor *loss(light_step *s, light_module *root)
{
    double x[N * T * E];
    fill_wave(x, N * T * E, 0);
    return weighted_sum(s, light_forward(s, root, light_from_host(s, LIGHT_SHAPE(N, T, E), LIGHT_F64, x)));
}

static light_tensor *cross_loss(light_step *s, light_module *root)
{
    double x[N * T * E], k[N * S * E];
    fill_wave(x, N * T * E, 0);
    fill_wave(k, N * S * E, 1);
    light_tensor *key = light_from_host(s, LIGHT_SHAPE(N, S, E), LIGHT_F64, k);
    return weighted_sum(s, light_multihead_attention_forward(
                               s, (light_multihead_attention *)root,
                               light_from_host(s, LIGHT_SHAPE(N, T, E), LIGHT_F64, x), key, key, NULL));
}

static void test_gradients_of_attention(void **state)
{
    (void)state;
    light_multihead_attention *m = make(true);
    check_gradients(&m->base, loss);
    light_module_free(&m->base);
    m = make(false);
    check_gradients(&m->base, cross_loss);
    light_module_free(&m->base);
}

static void test_first_values(void **state)
{
    (void)state;
    light_multihead_attention m = {0};
    assert_int_equal(light_multihead_attention_init(&m, NULL, "", .embed_dim = 24, .heads = 4), LIGHT_OK);
    assert_int_equal(light_module_build(&m.base, 1), LIGHT_OK);
    double largest = 0, *v = parameter(&m.base, "in_proj_weight");
    for (int i = 0; i < 3 * 24 * 24; i++) largest = fmax(largest, fabs(v[i]));
    assert_true(largest <= 0.25 && largest > 0.249); /* sqrt(6 / (3 24 + 24)) */
    free(v);
    v = parameter(&m.base, "out_proj.weight");
    largest = 0;
    for (int i = 0; i < 24 * 24; i++) largest = fmax(largest, fabs(v[i]));
    assert_true(largest <= 1 / sqrt(24) && largest > 0.99 / sqrt(24));
    free(v);
    const char *zeros[] = {"in_proj_bias", "out_proj.bias"};
    for (int i = 0; i < 2; i++) {
        v = parameter(&m.base, zeros[i]);
        for (int j = 0; j < 24; j++) assert_true(v[j] == 0);
        free(v);
    }
    light_module_free(&m.base);
}

static void test_bad_sizes(void **state)
{
    (void)state;
    light_multihead_attention m = {0};
    assert_int_equal(light_multihead_attention_init(&m, NULL, "", .embed_dim = 10, .heads = 4), LIGHT_OK);
    assert_int_equal(light_module_build(&m.base, 1), LIGHT_ERR_ARGUMENT);
    assert_non_null(strstr(light_error_message(), "multihead_attention: 4 heads do not divide embed_dim 10"));
    light_module_free(&m.base);

    light_multihead_attention *fine = make(false);
    light_step *s = new_step();
    assert_null(light_forward(s, &fine->base, light_zeros(s, LIGHT_SHAPE(2, 3, 5), LIGHT_F64)));
    assert_non_null(strstr(light_error_message(), "multihead_attention: input [2, 3, 5] must be [N, T, 4]"));
    light_step_free(s);
    light_module_free(&fine->base);
}

/* ---- the block ------------------------------------------------------------ */

static void feed_forward(light_module *root, const double *x, double *y)
{
    double *w1 = parameter(root, "linear1.weight"), *b1 = parameter(root, "linear1.bias");
    double *w2 = parameter(root, "linear2.weight"), *b2 = parameter(root, "linear2.bias");
    double hidden[N * T * HIDDEN];
    linear(x, w1, b1, N * T, E, HIDDEN, hidden);
    for (int i = 0; i < N * T * HIDDEN; i++) hidden[i] = 0.5 * hidden[i] * (1 + erf(hidden[i] / sqrt(2)));
    linear(hidden, w2, b2, N * T, HIDDEN, E, y);
    free(w1);
    free(b1);
    free(w2);
    free(b2);
}

static void add(double *x, const double *y)
{
    for (int i = 0; i < N * T * E; i++) x[i] += y[i];
}

static void test_transformer_block(void **state)
{
    (void)state;
    for (int norm_last = 0; norm_last < 2; norm_last++) {
        light_transformer_block m = {0};
        assert_int_equal(light_transformer_block_init(&m, NULL, "", .embed_dim = E, .heads = HEADS,
                                                      .hidden = HIDDEN, .causal = true,
                                                      .norm_last = norm_last),
                         LIGHT_OK);
        m.base.dtype = LIGHT_F64;
        assert_int_equal(light_module_build(&m.base, 1), LIGHT_OK);
        scatter_parameters(&m.base);

        double x[N * T * E], a[N * T * E], b[N * T * E];
        fill_wave(x, N * T * E, 0);
        light_step *s = new_step();
        light_tensor *out = light_forward(s, &m.base, light_from_host(s, LIGHT_SHAPE(N, T, E), LIGHT_F64, x));
        if (norm_last) {
            attention(&m.base, "self_attn.", x, x, x, T, true, NULL, a);
            add(x, a);
            layer_norm(&m.base, "norm1.weight", "norm1.bias", x, a);
            feed_forward(&m.base, a, b);
            add(a, b);
            layer_norm(&m.base, "norm2.weight", "norm2.bias", a, x);
        } else {
            layer_norm(&m.base, "norm1.weight", "norm1.bias", x, a);
            attention(&m.base, "self_attn.", a, a, a, T, true, NULL, b);
            add(x, b);
            layer_norm(&m.base, "norm2.weight", "norm2.bias", x, a);
            feed_forward(&m.base, a, b);
            add(x, b);
        }
        expect(s, out, x, N * T * E, 256 * DBL_EPSILON);
        light_step_free(s);
        check_gradients(&m.base, loss);
        light_module_free(&m.base);
    }
}

/* Dropout acts in train mode only. */
static void test_dropout_follows_the_mode(void **state)
{
    (void)state;
    light_transformer_block m = {0};
    assert_int_equal(
        light_transformer_block_init(&m, NULL, "", .embed_dim = E, .heads = HEADS, .dropout = 0.5), LIGHT_OK);
    assert_int_equal(light_module_build(&m.base, 1), LIGHT_OK);
    assert_int_equal(m.linear1.options.out_features, 4 * E);
    double *runs[4];
    for (int i = 0; i < 4; i++) {
        if (i == 2) light_eval(&m.base);
        light_step *s = new_step();
        light_step_set_counter(s, (uint64_t)i);
        runs[i] = read_tensor(s, light_forward(s, &m.base, light_ones(s, LIGHT_SHAPE(N, T, E), LIGHT_F32)));
        light_step_free(s);
    }
    assert_memory_not_equal(runs[0], runs[1], N * T * E * sizeof(double));
    assert_memory_equal(runs[2], runs[3], N * T * E * sizeof(double));
    for (int i = 0; i < 4; i++) free(runs[i]);
    light_module_free(&m.base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_self_attention),
        cmocka_unit_test(test_cross_attention_with_a_mask),
        cmocka_unit_test(test_gradients_of_attention),
        cmocka_unit_test(test_first_values),
        cmocka_unit_test(test_bad_sizes),
        cmocka_unit_test(test_transformer_block),
        cmocka_unit_test(test_dropout_follows_the_mode),
    };
    return cmocka_run_group_tests_name("attention", tests, NULL, NULL);
}
