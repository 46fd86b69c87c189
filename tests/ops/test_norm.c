/* SPDX-License-Identifier: Apache-2.0 */
/* Norms against their formulas in double: both layouts, all dtypes, training and evaluation. */
#include "support/op_check.h"

#include <stdlib.h>
#include <string.h>

#define EPS 1e-3

typedef struct norm_case {
    enum { BATCH, BATCH_FIXED, LAYER, RMS, GROUP } kind;
    bool plain; /* neither weight nor bias */
    int64_t groups;
    int ndim;
    light_tensor *running[2]; /* batch norm; NULL: none */
} norm_case;

static light_tensor *apply(light_step *s, light_tensor **in, const void *user)
{
    const norm_case *c = user;
    light_tensor *w = c->plain ? NULL : in[1], *b = c->plain ? NULL : in[2];

    switch (c->kind) {
    case BATCH: return light_batch_norm_op(s, in[0], w, b, c->running[0], c->running[1], true, 0.25, EPS);
    case BATCH_FIXED:
        return light_batch_norm_op(s, in[0], w, b, c->running[0], c->running[1], false, 0.25, EPS);
    case LAYER: return light_layer_norm_op(s, in[0], c->ndim, w, b, EPS);
    case RMS: return light_rms_norm_op(s, in[0], c->ndim, w, EPS);
    default: return light_group_norm_op(s, in[0], c->groups, w, b, EPS);
    }
}

/* The group of elements that element i shares statistics with, and its place among the parameters. */
static int64_t group_of(const norm_case *c, light_shape shape, int64_t i, int64_t *parameter)
{
    int64_t pixels = 1, row = 1, channels = shape.dims[1];

    for (int d = 2; d < shape.ndim; d++) pixels *= shape.dims[d];
    for (int d = shape.ndim - c->ndim; d < shape.ndim; d++) row *= shape.dims[d];
    *parameter = i / pixels % channels;
    switch (c->kind) {
    case BATCH:
    case BATCH_FIXED: return *parameter;
    case GROUP: return i / pixels / (channels / c->groups);
    default: *parameter = i % row; return i / row;
    }
}

static void reference(const norm_case *c, light_shape shape, const double *x, const double *w,
                      const double *b, const double *fixed, double *y)
{
    int64_t n = light_shape_numel(shape), parameter;

    for (int64_t i = 0; i < n; i++) {
        int64_t group = group_of(c, shape, i, &parameter), place = parameter, other;
        double sum = 0, squares = 0, count = 0, mean, var;
        for (int64_t j = 0; j < n; j++) {
            if (group_of(c, shape, j, &other) != group) continue;
            sum += x[j];
            count++;
        }
        mean = c->kind == RMS ? 0 : sum / count;
        for (int64_t j = 0; j < n; j++)
            if (group_of(c, shape, j, &other) == group) squares += (x[j] - mean) * (x[j] - mean);
        var = squares / count;
        if (c->kind == BATCH_FIXED) {
            mean = fixed[place];
            var = fixed[shape.dims[1] + place];
        }
        y[i] = (x[i] - mean) / sqrt(var + EPS);
        if (!c->plain) y[i] = y[i] * w[place] + (c->kind == RMS ? 0 : b[place]);
    }
}

static void check_case(norm_case c, light_shape shape)
{
    int64_t n = light_shape_numel(shape);
    light_shape parameters = LIGHT_SHAPE(shape.dims[1]);
    double *x = malloc((size_t)n * 4 * sizeof *x), *w = x + n, *b = x + 2 * n, *y = x + 3 * n,
           fixed[64] = {0};

    assert_non_null(x);
    if (c.kind == LAYER || c.kind == RMS) {
        parameters.ndim = c.ndim;
        for (int d = 0; d < c.ndim; d++) parameters.dims[d] = shape.dims[shape.ndim - c.ndim + d];
    }
    spread_values(x, n, -2, 2, 21);
    spread_values(w, light_shape_numel(parameters), -2, 2, 22);
    spread_values(b, light_shape_numel(parameters), -2, 2, 23);
    if (c.kind == BATCH_FIXED) {
        spread_values(fixed, shape.dims[1], -2, 2, 24);
        for (int64_t i = 0; i < shape.dims[1]; i++) fixed[shape.dims[1] + i] = 0.5 + (double)i / 4;
        for (int i = 0; i < 2; i++) {
            c.running[i] = new_from_doubles(parameters, LIGHT_F32, fixed + i * shape.dims[1]);
        }
    }
    reference(&c, shape, x, w, b, fixed, y);
    op_check check = {.name = "norm",
                      .apply = apply,
                      .user = &c,
                      .count = 3,
                      .in = {{.shape = shape, .values = x},
                             {.shape = parameters, .values = w, .constant = c.plain},
                             {.shape = parameters, .values = b, .constant = c.plain || c.kind == RMS}},
                      .out = shape,
                      .expected = y};
    check_op(&check);
    for (int i = 0; i < 2; i++) light_tensor_free(c.running[i]);
    free(x);
}

static void batch_norms(void **state)
{
    (void)state;
    for (int kind = BATCH; kind <= BATCH_FIXED; kind++) {
        check_case((norm_case){.kind = kind}, LIGHT_SHAPE(3, 5, 2, 3));
        check_case((norm_case){.kind = kind, .plain = true}, LIGHT_SHAPE(2, 3, 4, 1));
        check_case((norm_case){.kind = kind}, LIGHT_SHAPE(6, 4));
        check_case((norm_case){.kind = kind}, LIGHT_SHAPE(2, 3, 5));
        check_case((norm_case){.kind = kind}, LIGHT_SHAPE(1, 1, 2, 2));
        check_case((norm_case){.kind = kind}, LIGHT_SHAPE(2, 8, 3, 2)); /* channels of 16 bytes */
    }
}

static void group_norms(void **state)
{
    (void)state;
    check_case((norm_case){.kind = GROUP, .groups = 2}, LIGHT_SHAPE(2, 6, 2, 3));
    check_case((norm_case){.kind = GROUP, .groups = 1}, LIGHT_SHAPE(2, 4, 2, 2));
    check_case((norm_case){.kind = GROUP, .groups = 4, .plain = true}, LIGHT_SHAPE(2, 4, 3, 2));
    check_case((norm_case){.kind = GROUP, .groups = 2}, LIGHT_SHAPE(3, 8));
    check_case((norm_case){.kind = GROUP, .groups = 2}, LIGHT_SHAPE(1, 4, 5));
}

static void row_norms(void **state)
{
    (void)state;
    for (int kind = LAYER; kind <= RMS; kind++) {
        check_case((norm_case){.kind = kind, .ndim = 1}, LIGHT_SHAPE(3, 7));
        check_case((norm_case){.kind = kind, .ndim = 2}, LIGHT_SHAPE(2, 3, 4));
        check_case((norm_case){.kind = kind, .ndim = 1, .plain = true}, LIGHT_SHAPE(2, 2, 5));
        check_case((norm_case){.kind = kind, .ndim = 1}, LIGHT_SHAPE(1, 9));
        check_case((norm_case){.kind = kind, .ndim = 3}, LIGHT_SHAPE(2, 2, 3, 2));
    }
}

/* Sums of them are exact, whatever their order. */
static void sixteenths(double *x, int64_t n, uint64_t seed)
{
    spread_values(x, n, -2, 2, seed);
    for (int64_t i = 0; i < n; i++) x[i] = nearbyint(x[i] * 16) / 16;
}

/* More rows, channels and columns than the blocks that the kernels work in; values only. */
static void large_shapes(void **state)
{
    struct {
        norm_case c;
        light_shape shape;
    } cases[] = {
        {{.kind = BATCH, .plain = true}, LIGHT_SHAPE(9, 70, 6, 1)},
        {{.kind = BATCH, .plain = true}, LIGHT_SHAPE(2, 2, 30, 20)},
        {{.kind = GROUP, .groups = 2, .plain = true}, LIGHT_SHAPE(2, 66, 3, 2)},
        {{.kind = LAYER, .ndim = 1, .plain = true}, LIGHT_SHAPE(2, 1100)},
        {{.kind = RMS, .ndim = 1, .plain = true}, LIGHT_SHAPE(2, 1100)},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t n = light_shape_numel(cases[i].shape);
        double *x = malloc((size_t)n * 2 * sizeof *x);
        op_check check = {.name = "norm",
                          .apply = apply,
                          .user = &cases[i].c,
                          .count = 1,
                          .in = {{.shape = cases[i].shape, .values = x}},
                          .out = cases[i].shape,
                          .expected = x + n,
                          .factor = 16,
                          .no_grad = true};

        assert_non_null(x);
        sixteenths(x, n, 31);
        reference(&cases[i].c, cases[i].shape, x, NULL, NULL, NULL, x + n);
        check_op(&check);
        free(x);
    }
}

/* A variance beside a mean 1000 times the deviation: sums of squares would lose it. */
static void mean_far_from_zero(void **state)
{
    enum { N = 4, C = 3, P = 50 };
    double *x = malloc(N * C * P * 2 * sizeof *x), *y = x + N * C * P;
    norm_case kinds[] = {{.kind = BATCH, .plain = true},
                         {.kind = LAYER, .plain = true, .ndim = 2},
                         {.kind = GROUP, .plain = true, .groups = 3}};

    (void)state;
    assert_non_null(x);
    sixteenths(x, N * C * P, 41);
    for (int i = 0; i < N * C * P; i++) x[i] += 1024; /* still exact in f32 */
    for (int k = 0; k < 3; k++) {
        reference(&kinds[k], LIGHT_SHAPE(N, C, P, 1), x, NULL, NULL, NULL, y);
        for (int last = 0; last < 2; last++) {
            light_shape shape = LIGHT_SHAPE(N, C, P, 1);
            light_step *s;
            light_tensor *t, *in[1];

            if (kinds[k].kind == LAYER) kinds[k].ndim = 3;
            if (kinds[k].kind == LAYER) reference(&kinds[k], shape, x, NULL, NULL, NULL, y);
            in[0] = t = new_from_doubles(shape, LIGHT_F32, x);
            assert_int_equal(light_step_new(&s, .inference = true), LIGHT_OK);
            assert_int_equal(light_step_begin(s), LIGHT_OK);
            assert_values(apply(s, in, &kinds[k]), y, 2e-4);
            light_step_free(s);
            light_tensor_free(t);
        }
    }
    free(x);
}

/* Without parameters, or with them in the layout that libraries take. */
static void check_running(bool plain)
{
    enum { C = 8, P = 4, N = 2 };
    const light_shape shape = LIGHT_SHAPE(N, C, P / 2, 2);
    double x[N * C * P], w[C], b[C], before[2][C] = {{1, 2, 3, 0, -1}, {4, 5, 6, 1, 2, 3, 0.5, 8}},
                                     after[2][C], y[N * C * P];
    norm_case c = {.kind = BATCH, .plain = plain};
    op_check check = {.name = "norm",
                      .apply = apply,
                      .user = &c,
                      .count = plain ? 1 : 3,
                      .in = {{.shape = shape, .values = x},
                             {.shape = LIGHT_SHAPE(C), .values = w},
                             {.shape = LIGHT_SHAPE(C), .values = b}},
                      .layouts = 1u << (plain ? OP_ROW_MAJOR : OP_CHANNELS_LAST),
                      .out = shape,
                      .expected = y,
                      .no_grad = true};

    spread_values(x, N * C * P, -2, 2, 51);
    spread_values(w, C, -2, 2, 52);
    spread_values(b, C, -2, 2, 53);
    reference(&c, shape, x, w, b, NULL, y);
    for (int i = 0; i < 2; i++) c.running[i] = new_from_doubles(LIGHT_SHAPE(C), LIGHT_F64, before[i]);
    check_op(&check); /* four dtypes: four updates */
    for (int k = 0; k < 2; k++) {
        for (int ch = 0; ch < C; ch++) {
            double sum = 0, squares = 0;
            after[k][ch] = before[k][ch];
            for (int i = 0; i < N * P; i++) sum += x[(i / P * C + ch) * P + i % P];
            for (int i = 0; i < N * P; i++)
                squares += pow(x[(i / P * C + ch) * P + i % P] - sum / (N * P), 2);
            for (int update = 0; update < 4; update++)
                after[k][ch] = 0.75 * after[k][ch] + 0.25 * (k ? squares / (N * P - 1) : sum / (N * P));
        }
        assert_values(c.running[k], after[k], 1e-6);
    }
    for (int i = 0; i < 2; i++) light_tensor_free(c.running[i]);
}

static void running_statistics(void **state)
{
    (void)state;
    check_running(true);
    check_running(false);
}

static void same_bits_for_all_threads(void **state)
{
    enum { N = 6, C = 70, H = 11, W = 13, COUNT = N * C * H * W };
    double *x = malloc((COUNT + 2 * W * H * C) * sizeof *x), *w = x + COUNT, *b = w + W * H * C;
    norm_case kinds[] = {
        {.kind = BATCH}, {.kind = GROUP, .groups = 7}, {.kind = LAYER, .ndim = 1}, {.kind = RMS, .ndim = 1}};

    (void)state;
    assert_non_null(x);
    rough_values(x, COUNT + 2 * W * H * C, 61);
    for (int k = 0; k < 4; k++) {
        light_shape parameters = k < 2 ? LIGHT_SHAPE(C) : LIGHT_SHAPE(W);
        for (int last = 0; last < 2; last++) {
            op_check check = {.name = "norm",
                              .apply = apply,
                              .user = &kinds[k],
                              .count = 3,
                              .in = {{.shape = LIGHT_SHAPE(N, C, H, W), .values = x},
                                     {.shape = parameters, .values = w},
                                     {.shape = parameters, .values = b, .constant = k == 3}},
                              .layouts = 1u << (last ? OP_CHANNELS_LAST : OP_ROW_MAJOR),
                              .out = LIGHT_SHAPE(N, C, H, W)};
            check_op_threads(&check);
        }
    }
    free(x);
}

static light_tensor *apply_transposed(light_step *s, light_tensor **in, const void *user)
{
    light_tensor *moved[3] = {light_permute(s, in[0], LIGHT_DIMS(1, 0)), in[1], in[2]};

    return apply(s, moved, user);
}

static void strided_input(void **state)
{
    double x[12], transposed[12], w[3], b[3], y[12];

    (void)state;
    spread_values(x, 12, -2, 2, 71);
    spread_values(w, 3, -2, 2, 72);
    spread_values(b, 3, -2, 2, 73);
    for (int i = 0; i < 12; i++) transposed[i] = x[i % 3 * 4 + i / 3];
    for (int kind = BATCH; kind <= GROUP; kind++) {
        norm_case c = {.kind = kind, .ndim = 1, .groups = 1};
        if (kind == BATCH_FIXED) continue;
        reference(&c, LIGHT_SHAPE(4, 3), transposed, w, b, NULL, y);
        op_check check = {.name = "norm",
                          .apply = apply_transposed,
                          .user = &c,
                          .count = 3,
                          .in = {{.shape = LIGHT_SHAPE(3, 4), .values = x},
                                 {.shape = LIGHT_SHAPE(3), .values = w},
                                 {.shape = LIGHT_SHAPE(3), .values = b, .constant = kind == RMS}},
                          .out = LIGHT_SHAPE(4, 3),
                          .expected = y};
        check_op(&check);
    }
}

static void wrong_arguments(void **state)
{
    double x[12] = {0};
    norm_case c = {.kind = LAYER, .ndim = 1};
    op_check check = {.name = "norm",
                      .apply = apply,
                      .user = &c,
                      .count = 3,
                      .in = {{.shape = LIGHT_SHAPE(3, 4), .values = x},
                             {.shape = LIGHT_SHAPE(3), .values = x},
                             {.shape = LIGHT_SHAPE(4), .values = x}}};

    (void)state;
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_SHAPE,
                   "layer_norm: weight must be floating [4] for an input [3, 4]");
    c.ndim = 3;
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_SHAPE, "last 3 dims");
    c = (norm_case){.kind = GROUP, .plain = true, .groups = 3};
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_ARGUMENT, "4 channels cannot be cut into 3 groups");
    c = (norm_case){.kind = BATCH_FIXED, .plain = true};
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_ARGUMENT, "running_mean and running_var");
    c = (norm_case){.kind = BATCH, .plain = true};
    check.in[0].shape = LIGHT_SHAPE(1, 4);
    check_op_fails(&check, LIGHT_F32, LIGHT_ERR_SHAPE, "more than one value per channel");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch_norms),
        cmocka_unit_test(group_norms),
        cmocka_unit_test(row_norms),
        cmocka_unit_test(large_shapes),
        cmocka_unit_test(mean_far_from_zero),
        cmocka_unit_test(running_statistics),
        cmocka_unit_test(same_bits_for_all_threads),
        cmocka_unit_test(strided_input),
        cmocka_unit_test(wrong_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
