/* SPDX-License-Identifier: Apache-2.0 */
/* Reductions, softmax, and what goes along one dim. */
#include "support/op_check.h"

#include "cpu/once/team.h"

#include <stdlib.h>
#include <string.h>

/* ---- reductions --------------------------------------------------------- */

typedef enum kind { SUM, MEAN, VAR, MAX, MIN, LOGSUMEXP } kind;
static const char *const kind_names[] = {"sum", "mean", "var", "max", "min", "logsumexp"};

typedef struct reduction {
    kind kind;
    light_dims dims;
    bool keepdim;
    light_shape in, out;
    uint32_t mask;
} reduction;

static light_tensor *apply_reduction(light_step *s, light_tensor **in, const void *user)
{
    const reduction *r = user;
    switch (r->kind) {
    case SUM: return light_sum(s, in[0], r->dims, r->keepdim);
    case MEAN: return light_mean(s, in[0], r->dims, r->keepdim);
    case VAR: return light_var(s, in[0], r->dims, 1, r->keepdim);
    case MAX: return light_max(s, in[0], r->dims, r->keepdim);
    case MIN: return light_min(s, in[0], r->dims, r->keepdim);
    default: return light_logsumexp(s, in[0], r->dims, r->keepdim);
    }
}

/* Where element i of the input goes. */
static int64_t target_of(const reduction *r, int64_t i)
{
    int64_t target = 0, scale = 1;
    for (int d = r->in.ndim - 1; d >= 0; d--) {
        int64_t at = i % r->in.dims[d];
        i /= r->in.dims[d];
        if (r->mask >> d & 1) continue;
        target += at * scale;
        scale *= r->in.dims[d];
    }
    return target;
}

static void reference_reduction(const double *const *in, double *out, const void *user)
{
    const reduction *r = user;
    int64_t n = light_shape_numel(r->in), outs = light_shape_numel(r->out);
    double count = (double)n / (double)outs;
    double *center = calloc((size_t)outs, sizeof *center);
    assert_non_null(center);
    bool least = r->kind == MIN;
    for (int64_t o = 0; o < outs; o++) out[o] = r->kind >= MAX ? (least ? INFINITY : -INFINITY) : 0;
    for (int64_t i = 0; i < n; i++) {
        double *y = &out[target_of(r, i)], x = in[0][i];
        if (r->kind >= MAX)
            *y = least ? fmin(*y, x) : fmax(*y, x);
        else
            *y += x;
    }
    for (int64_t o = 0; o < outs; o++) {
        center[o] = r->kind == LOGSUMEXP ? out[o] : out[o] / count;
        if (r->kind == MEAN) out[o] = center[o];
        if (r->kind == VAR || r->kind == LOGSUMEXP) out[o] = 0;
    }
    for (int64_t i = 0; i < n; i++) {
        int64_t o = target_of(r, i);
        double x = in[0][i] - center[o];
        if (r->kind == VAR) out[o] += x * x / (count - 1);
        if (r->kind == LOGSUMEXP) out[o] += exp(x);
    }
    for (int64_t o = 0; r->kind == LOGSUMEXP && o < outs; o++) out[o] = center[o] + log(out[o]);
    free(center);
}

static void check_reduction(kind k, light_shape in, light_dims dims)
{
    for (int keepdim = 0; keepdim < 2; keepdim++) {
        reduction r = {.kind = k, .dims = dims, .keepdim = keepdim, .in = in};
        for (int i = 0; i < dims.n; i++)
            r.mask |= 1u << (dims.dims[i] < 0 ? dims.dims[i] + in.ndim : dims.dims[i]);
        if (dims.n == 0) r.mask = (1u << in.ndim) - 1;
        int64_t terms = 1;
        for (int d = 0; d < in.ndim; d++) {
            bool gone = r.mask >> d & 1;
            if (gone) terms *= in.dims[d];
            if (!gone || keepdim) r.out.dims[r.out.ndim++] = gone ? 1 : in.dims[d];
        }
        /* Distinct values: differences of extrema need them. */
        int64_t n = light_shape_numel(in);
        double *values = calloc((size_t)n, sizeof *values);
        assert_non_null(values);
        for (int64_t i = 0; i < n; i++) values[i] = (double)(i * 37 % n) / 64 - 1;
        check_op(&(op_check){.name = kind_names[k],
                             .apply = apply_reduction,
                             .reference = reference_reduction,
                             .user = &r,
                             .in = {{.shape = in, .values = k == MAX || k == MIN ? values : NULL}},
                             .out = r.out,
                             .terms = terms,
                             .grad_factor = 64});
        free(values);
    }
}

static void reductions(void **state)
{
    (void)state;
    for (kind k = SUM; k <= LOGSUMEXP; k++) {
        check_reduction(k, LIGHT_SHAPE(7), LIGHT_ALL);
        check_reduction(k, LIGHT_SHAPE(4, 3, 2, 5), LIGHT_ALL);
        check_reduction(k, LIGHT_SHAPE(4, 3, 2, 5), LIGHT_DIMS(0, 2, 3));
        check_reduction(k, LIGHT_SHAPE(4, 3, 2, 5), LIGHT_DIMS(1));
        check_reduction(k, LIGHT_SHAPE(4, 3, 2, 5), LIGHT_DIMS(-1, 0));
        check_reduction(k, LIGHT_SHAPE(6, 9), LIGHT_DIMS(0));
        check_reduction(k, LIGHT_SHAPE(6, 9), LIGHT_DIMS(1));
        if (k != VAR) check_reduction(k, LIGHT_SHAPE(5, 1), LIGHT_DIMS(1));
    }
    check_reduction(SUM, LIGHT_SCALAR, LIGHT_ALL);
}

/* More than one piece, strip and block. */
static void long_reductions(void **state)
{
    (void)state;
    for (kind k = SUM; k <= LOGSUMEXP; k++) {
        reduction r = {
            .kind = k, .in = LIGHT_SHAPE(3, 5000), .dims = LIGHT_DIMS(1), .out = LIGHT_SHAPE(3), .mask = 2};
        reduction c = {.kind = k,
                       .in = LIGHT_SHAPE(150, 601),
                       .dims = LIGHT_DIMS(0),
                       .out = LIGHT_SHAPE(601),
                       .mask = 1};
        op_check check = {.name = kind_names[k],
                          .apply = apply_reduction,
                          .reference = reference_reduction,
                          .user = &r,
                          .in = {{.shape = r.in}},
                          .out = r.out,
                          .terms = 5000,
                          .no_grad = true};
        check_op(&check);
        check.user = &c;
        check.in[0].shape = c.in;
        check.out = c.out;
        check.terms = 150;
        check_op(&check);
    }
}

/* Rows and columns that are cut into parts, lengths that are no multiple of anything, dims that lie apart. */
static void uneven_reductions(void **state)
{
    static const struct {
        light_shape in, out;
        light_dims dims;
        uint32_t mask;
    } cases[] = {
        {{2, {1, 40007}}, {1, {1}}, {1, {1}}, 2},         {{2, {9001, 5}}, {1, {5}}, {1, {0}}, 1},
        {{3, {2, 2048, 3}}, {1, {2048}}, {2, {0, 2}}, 5}, {{3, {40, 3, 100}}, {1, {3}}, {2, {0, 2}}, 5},
        {{2, {3000, 8}}, {1, {8}}, {1, {0}}, 1},
    };
    (void)state;
    for (kind k = SUM; k <= LOGSUMEXP; k++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            reduction r = {.kind = k,
                           .in = cases[i].in,
                           .out = cases[i].out,
                           .dims = cases[i].dims,
                           .mask = cases[i].mask};
            check_op(&(op_check){.name = kind_names[k],
                                 .apply = apply_reduction,
                                 .reference = reference_reduction,
                                 .user = &r,
                                 .in = {{.shape = r.in}},
                                 .out = r.out,
                                 .terms = light_shape_numel(r.in) / light_shape_numel(r.out),
                                 .layouts = 1u << OP_ROW_MAJOR | 1u << OP_GAPS,
                                 .no_grad = true});
        }
}

static void whole_numbers(void **state)
{
    (void)state;
    light_step *s = new_step();
    const double values[] = {5, -3, 9, 2, 9, -8};
    static const light_dtype dtypes[] = {LIGHT_I32, LIGHT_I64};
    for (int d = 0; d < 2; d++) {
        light_tensor *x = from_doubles(s, LIGHT_SHAPE(2, 3), dtypes[d], values);
        light_tensor *sum = light_sum(s, x, LIGHT_DIMS(1), false);
        assert_int_equal(light_dtype_of(sum), LIGHT_I64);
        assert_values(sum, (double[]){11, 3}, 0);
        light_tensor *most = light_max(s, x, LIGHT_DIMS(0), false);
        assert_int_equal(light_dtype_of(most), dtypes[d]);
        assert_values(most, (double[]){5, 9, 9}, 0);
        assert_values(light_min(s, x, LIGHT_ALL, false), (double[]){-8}, 0);
        assert_values(light_cumsum(s, x, 1), (double[]){5, 2, 11, 2, 11, 3}, 0);
    }
    light_tensor *flags = light_ones(s, LIGHT_SHAPE(1000), LIGHT_BOOL);
    assert_values(light_sum(s, flags, LIGHT_ALL, false), (double[]){1000}, 0);
    assert_step_ok(s);
    light_mean(s, flags, LIGHT_ALL, false);
    assert_step_failed(s, LIGHT_ERR_DTYPE, "mean: bool is not accepted");
    light_step_free(s);
}

static void nothing_and_infinity(void **state)
{
    (void)state;
    light_step *s = new_step();
    light_tensor *none = light_zeros(s, LIGHT_SHAPE(2, 0), LIGHT_F32);
    assert_values(light_sum(s, none, LIGHT_DIMS(1), false), (double[]){0, 0}, 0);
    assert_values(light_sum(s, none, LIGHT_ALL, false), (double[]){0}, 0);
    assert_values(light_mean(s, none, LIGHT_ALL, false), (double[]){NAN}, 0);
    assert_values(light_logsumexp(s, none, LIGHT_DIMS(1), false), (double[]){-INFINITY, -INFINITY}, 0);
    const double values[] = {-INFINITY, -INFINITY, 1, INFINITY, NAN, 2};
    light_tensor *x = from_doubles(s, LIGHT_SHAPE(3, 2), LIGHT_F32, values);
    assert_values(light_logsumexp(s, x, LIGHT_DIMS(1), false), (double[]){-INFINITY, INFINITY, NAN}, 0);
    assert_values(light_max(s, x, LIGHT_DIMS(1), false), (double[]){-INFINITY, INFINITY, NAN}, 0);
    assert_values(light_max(s, x, LIGHT_DIMS(0), false), (double[]){NAN, INFINITY}, 0);
    light_tensor *large = light_full(s, LIGHT_SHAPE(100), 1000, LIGHT_F32);
    assert_values(light_logsumexp(s, large, LIGHT_ALL, false), (double[]){1000 + log(100)}, 1e-6);
    assert_step_ok(s);
    light_max(s, none, LIGHT_DIMS(1), false);
    assert_step_failed(s, LIGHT_ERR_SHAPE, "max: no elements in shape [2, 0]");
    light_step_begin(s);
    light_sum(s, light_ones(s, LIGHT_SHAPE(2, 3), LIGHT_F32), LIGHT_DIMS(1, -1), false);
    assert_step_failed(s, LIGHT_ERR_ARGUMENT,
                       "sum: dim -1 of a tensor of shape [2, 3] is not there or named twice");
    light_step_free(s);
}

/* Equal extrema share the gradient, as torch.amax does. */
static void equal_extrema_share(void **state)
{
    (void)state;
    light_step *s = new_step();
    light_tensor *x = from_doubles(s, LIGHT_SHAPE(2, 4), LIGHT_F32, (double[]){1, 3, 3, 3, 2, 0, 0, 2});
    light_set_requires_grad(x, true);
    light_tensor *y = light_max(s, x, LIGHT_DIMS(1), false);
    assert_int_equal(light_backward_from(s, y, from_doubles(s, LIGHT_SHAPE(2), LIGHT_F32, (double[]){3, 4})),
                     LIGHT_OK);
    assert_values(light_grad(x), (double[]){0, 1, 1, 1, 2, 0, 0, 2}, 1e-6);
    light_step_free(s);
}

/* A sum of a million numbers that are all rounded is off by far less than naive adding would be. */
static void long_sums_are_accurate(void **state)
{
    (void)state;
    light_step *s = new_step();
    light_tensor *x = light_full(s, LIGHT_SHAPE(1000000), (double)0.1f, LIGHT_F32);
    assert_values(light_sum(s, x, LIGHT_ALL, false), (double[]){1e6 * (double)0.1f}, 0x1p-20);
    light_tensor *rows = light_reshape(s, x, LIGHT_SHAPE(500000, 2));
    double half = 5e5 * (double)0.1f;
    assert_values(light_sum(s, rows, LIGHT_DIMS(0), false), (double[]){half, half}, 0x1p-20);
    /* The variance does not suffer from a large mean. */
    light_tensor *noise = light_randn(s, LIGHT_SHAPE(100000), LIGHT_F32);
    double near, far;
    assert_int_equal(light_item(light_var(s, noise, LIGHT_ALL, 1, false), &near), LIGHT_OK);
    assert_int_equal(light_item(light_var(s, light_add_scalar(s, noise, 300), LIGHT_ALL, 1, false), &far),
                     LIGHT_OK);
    assert_true(fabs(near - far) < 1e-4);
    assert_step_ok(s);
    light_step_free(s);
}

/* The bits do not depend on the number of threads. */
static void same_bits_for_any_threads(void **state)
{
    enum { RESULTS = 6, ROOM = 4096 };
    static float first[RESULTS][ROOM], again[RESULTS][ROOM];
    int most = light_team_size();
    (void)state;
    for (int threads = 1; threads <= 4; threads++) {
        light_step *s = new_step();
        light_set_num_threads(threads);
        light_tensor *x = light_randn(s, LIGHT_SHAPE(64, 1000, 4), LIGHT_F32);
        light_tensor *results[RESULTS] = {light_sum(s, x, LIGHT_ALL, false),
                                          light_sum(s, x, LIGHT_DIMS(0, 1), false),
                                          light_var(s, x, LIGHT_DIMS(1), 1, false),
                                          light_logsumexp(s, x, LIGHT_DIMS(0), false),
                                          light_sum(s, light_softmax(s, x, 1), LIGHT_DIMS(0), false),
                                          light_sum(s, x, LIGHT_DIMS(1, 2), false)};
        for (int i = 0; i < RESULTS; i++) {
            float *to = threads == 1 ? first[i] : again[i];
            assert_int_equal(light_tensor_read(results[i], LIGHT_F32, to, sizeof first[i]), LIGHT_OK);
            if (threads > 1)
                assert_memory_equal(first[i], again[i], (size_t)light_numel(results[i]) * sizeof(float));
        }
        light_step_free(s);
    }
    light_set_num_threads(most);
}

/* ---- softmax ------------------------------------------------------------ */

typedef struct soft {
    bool log;
    int64_t outer, n, inner;
    int dim;
} soft;

static light_tensor *apply_soft(light_step *s, light_tensor **in, const void *user)
{
    const soft *f = user;
    return f->log ? light_log_softmax(s, in[0], f->dim) : light_softmax(s, in[0], f->dim);
}

static void reference_soft(const double *const *in, double *out, const void *user)
{
    const soft *f = user;
    for (int64_t o = 0; o < f->outer; o++) {
        for (int64_t i = 0; i < f->inner; i++) {
            double sum = 0;
            int64_t base = o * f->n * f->inner + i;
            for (int64_t k = 0; k < f->n; k++) sum += exp(in[0][base + k * f->inner]);
            for (int64_t k = 0; k < f->n; k++) {
                double x = in[0][base + k * f->inner];
                out[base + k * f->inner] = f->log ? x - log(sum) : exp(x) / sum;
            }
        }
    }
}

static void check_soft(light_shape shape, int dim, bool no_grad)
{
    for (int log = 0; log < 2; log++) {
        soft f = {.log = log, .outer = 1, .inner = 1, .dim = dim};
        int at = dim < 0 ? dim + shape.ndim : dim;
        f.n = shape.ndim ? shape.dims[at] : 1;
        for (int d = 0; d < shape.ndim; d++) {
            if (d < at) f.outer *= shape.dims[d];
            if (d > at) f.inner *= shape.dims[d];
        }
        check_op(&(op_check){.name = log ? "log_softmax" : "softmax",
                             .apply = apply_soft,
                             .reference = reference_soft,
                             .user = &f,
                             .in = {{.shape = shape, .low = -4, .high = 4}},
                             .out = shape,
                             .terms = f.n,
                             .no_grad = no_grad});
    }
}

static void softmaxes(void **state)
{
    (void)state;
    check_soft(LIGHT_SHAPE(5, 10), -1, false);
    check_soft(LIGHT_SHAPE(5, 10), 0, false);
    check_soft(LIGHT_SHAPE(2, 4, 3, 5), 1, false);
    check_soft(LIGHT_SHAPE(2, 4, 3, 5), 2, false);
    check_soft(LIGHT_SHAPE(3, 1), 1, false);
    check_soft(LIGHT_SHAPE(2, 1300), 1, true);
    check_soft(LIGHT_SHAPE(3, 1100), 0, true);
    check_soft(LIGHT_SHAPE(1, 20003), 1, true);
    check_soft(LIGHT_SHAPE(40000, 1), 0, true);
    light_step *s = new_step();
    light_tensor *x = from_doubles(s, LIGHT_SHAPE(2, 2), LIGHT_F32, (double[]){1000, 1000, -INFINITY, 0});
    assert_values(light_softmax(s, x, 1), (double[]){0.5, 0.5, 0, 1}, 1e-7);
    assert_values(light_log_softmax(s, x, 1), (double[]){-log(2), -log(2), -INFINITY, 0}, 1e-7);
    light_softmax(s, x, 2);
    assert_step_failed(s, LIGHT_ERR_ARGUMENT, "softmax: dim 2 of a tensor of shape [2, 2]");
    light_step_free(s);
}

/* Lines of several lengths, to and beyond what is held at once: gx = y (g - sum of g y), or g - exp(y) sum of g. */
static void gradients_of_long_lines(void **state)
{
    enum { LINES = 2, MOST = 20002 };
    static const int lengths[] = {33, 1000, 5001, 17000, MOST};
    static double values[LINES * MOST], g[LINES * MOST], y[LINES * MOST], expected[LINES * MOST];
    (void)state;
    light_step *s = new_step();
    for (int i = 0; i < 20; i++) {
        int n = lengths[i / 4], log = i / 2 % 2, dim = i % 2;
        light_shape shape = dim ? LIGHT_SHAPE(LINES, n) : LIGHT_SHAPE(n, LINES);
        light_step_begin(s);
        spread_values(values, LINES * n, -4, 4, 1);
        spread_values(g, LINES * n, -2, 2, 2);
        light_tensor *x = from_doubles(s, shape, LIGHT_F32, values);
        light_set_requires_grad(x, true);
        light_tensor *result = log ? light_log_softmax(s, x, dim) : light_softmax(s, x, dim);
        read_doubles(result, y);
        assert_int_equal(light_backward_from(s, result, from_doubles(s, shape, LIGHT_F32, g)), LIGHT_OK);
        for (int line = 0; line < LINES; line++) {
            double dot = 0;
            for (int k = 0; k < n; k++) {
                int at = dim ? line * n + k : k * LINES + line;
                dot += log ? g[at] : g[at] * y[at];
            }
            for (int k = 0; k < n; k++) {
                int at = dim ? line * n + k : k * LINES + line;
                expected[at] = log ? g[at] - exp(y[at]) * dot : y[at] * (g[at] - dot);
            }
        }
        assert_values(light_grad(x), expected, 32 * dtype_epsilon(LIGHT_F32));
    }
    assert_step_ok(s);
    light_step_free(s);
}

/* ---- along one dim ------------------------------------------------------ */

static light_tensor *apply_cumsum(light_step *s, light_tensor **in, const void *user)
{
    return light_cumsum(s, in[0], *(const int *)user);
}

static void reference_cumsum(const double *const *in, double *out, const void *user)
{
    int dim = *(const int *)user;
    for (int i = 0; i < 24; i++) {
        int step = dim == 0   ? 12
                   : dim == 1 ? 4
                              : 1,
            first = dim == 0   ? i < 12
                    : dim == 1 ? i % 12 < 4
                               : i % 4 == 0;
        out[i] = in[0][i] + (first ? 0 : out[i - step]);
    }
}

static void cumulative_sums(void **state)
{
    (void)state;
    for (int dim = 0; dim < 3; dim++)
        check_op(&(op_check){.name = "cumsum",
                             .apply = apply_cumsum,
                             .reference = reference_cumsum,
                             .user = &dim,
                             .in = {{.shape = LIGHT_SHAPE(2, 3, 4)}},
                             .out = LIGHT_SHAPE(2, 3, 4),
                             .terms = 4});
}

/* Lines that are cut into parts; whole numbers are exact. */
static void long_cumulative_sums(void **state)
{
    enum { N = 20011, LINES = 2 };
    static double values[N * LINES], expected[N * LINES];
    static const light_dtype dtypes[] = {LIGHT_I32, LIGHT_I64, LIGHT_U8, LIGHT_F64, LIGHT_F32};
    (void)state;
    light_step *s = new_step();
    for (int i = 0; i < N * LINES; i++) values[i] = i * 7 % 11;
    for (int d = 0; d < 10; d++) {
        int dim = d % 2;
        for (int i = 0; i < N * LINES; i++) {
            int before = dim ? (i % N ? i - 1 : -1) : i - LINES;
            expected[i] = values[i] + (before < 0 ? 0 : expected[before]);
        }
        light_shape shape = dim ? LIGHT_SHAPE(LINES, N) : LIGHT_SHAPE(N, LINES);
        assert_values(light_cumsum(s, from_doubles(s, shape, dtypes[d / 2], values), dim), expected, 0);
    }
    assert_step_ok(s);
    light_step_free(s);
}

static const double scores[] = {1, 5, 5, -2, 0, 3, 7, 7, -1, 2, 4, 6};

static light_tensor *apply_topk(light_step *s, light_tensor **in, const void *user)
{
    return light_topk(s, in[0], 3, *(const int *)user, NULL);
}

static void reference_topk(const double *const *in, double *out, const void *user)
{
    static const double rows[] = {5, 5, 1, 7, 7, 3, 6, 4, 2},
                        columns[] = {1, 5, 7, 7, 0, 4, 6, 6, -1, 3, 5, -2};
    (void)in;
    if (*(const int *)user == 1)
        memcpy(out, rows, sizeof rows);
    else
        memcpy(out, columns, sizeof columns);
}

static void largest_elements(void **state)
{
    int dim = 1;
    (void)state;
    check_op(&(op_check){.name = "topk",
                         .apply = apply_topk,
                         .reference = reference_topk,
                         .user = &dim,
                         .in = {{.shape = LIGHT_SHAPE(3, 4), .values = scores}},
                         .out = LIGHT_SHAPE(3, 3),
                         .no_grad = true});
    /* Differences cannot be taken where elements are equal. */
    static const double distinct[] = {1, 5, 4, -2, 0, 3, 7, 6, -1, 2, 4, 6};
    check_op(&(op_check){.name = "topk",
                         .apply = apply_topk,
                         .user = &dim,
                         .in = {{.shape = LIGHT_SHAPE(3, 4), .values = distinct}},
                         .out = LIGHT_SHAPE(3, 3)});
    light_step *s = new_step();
    light_tensor *indices, *x = from_doubles(s, LIGHT_SHAPE(3, 4), LIGHT_F32, scores);
    light_topk(s, x, 3, 1, &indices);
    assert_values(indices, (double[]){1, 2, 0, 2, 3, 1, 3, 2, 1}, 0);
    light_tensor *values = light_topk(s, x, 2, 0, &indices);
    assert_values(values, (double[]){1, 5, 7, 7, 0, 3, 5, 6}, 0);
    assert_values(indices, (double[]){0, 0, 1, 1, 1, 1, 0, 2}, 0);
    /* A k that needs a large heap. */
    light_tensor *many = light_randn(s, LIGHT_SHAPE(3, 1000), LIGHT_F32);
    light_tensor *sorted = light_topk(s, many, 1000, 1, &indices);
    assert_values(
        light_sum(s, light_lt(s, light_slice(s, sorted, 1, 0, 999, 1), light_slice(s, sorted, 1, 1, 1000, 1)),
                  LIGHT_ALL, false),
        (double[]){0}, 0);
    light_tensor *missing = light_sub(s, light_gather(s, many, 1, indices), sorted);
    assert_values(light_max(s, light_abs(s, missing), LIGHT_ALL, false), (double[]){0}, 0);
    assert_step_ok(s);
    light_topk(s, x, 5, 1, NULL);
    assert_step_failed(s, LIGHT_ERR_ARGUMENT, "topk: k is 5, dim 1 of [3, 4] has 4 elements");
    light_step_free(s);
}

/* Many equal elements: the first of them are taken, in every dtype. */
static void largest_of_many(void **state)
{
    enum { N = 3001, LINES = 2 };
    static const int64_t ks[] = {1, 5, 700, 1500, N};
    static const light_dtype dtypes[] = {LIGHT_F64, LIGHT_F32, LIGHT_BF16, LIGHT_F16,
                                         LIGHT_I64, LIGHT_I32, LIGHT_U8};
    static double values[N * LINES], expected[N * LINES];
    (void)state;
    light_step *s = new_step();
    for (int i = 0; i < N * LINES; i++) values[i] = i * 37 % 101;
    for (int i = 0; i < 35; i++) {
        int64_t k = ks[i / 7];
        light_tensor *indices, *x = from_doubles(s, LIGHT_SHAPE(LINES, N), dtypes[i % 7], values);
        for (int line = 0; line < LINES; line++) {
            int64_t found = 0;
            for (int value = 100; value >= 0; value--)
                for (int at = 0; at < N && found < k; at++)
                    if (values[line * N + at] == value) expected[line * k + found++] = at;
        }
        light_topk(s, x, k, 1, &indices);
        assert_values(indices, expected, 0);
    }
    light_tensor *bits = from_doubles(s, LIGHT_SHAPE(LINES, N), LIGHT_F32, values);
    assert_values(light_argmax(s, bits, 1), (double[]){expected[0], expected[N]}, 0);
    double least[LINES];
    for (int line = 0; line < LINES; line++) {
        least[line] = 0;
        while (values[line * N + (int)least[line]] != 0) least[line]++;
    }
    assert_values(light_argmin(s, bits, 1), least, 0);
    assert_step_ok(s);
    light_step_free(s);
}

static void positions_of_extrema(void **state)
{
    static const light_dtype dtypes[] = {LIGHT_F64, LIGHT_F32, LIGHT_BF16, LIGHT_I32, LIGHT_I64};
    (void)state;
    light_step *s = new_step();
    for (int d = 0; d < 5; d++) {
        light_tensor *x = from_doubles(s, LIGHT_SHAPE(3, 4), dtypes[d], scores);
        light_tensor *y = light_argmax(s, x, 1);
        assert_int_equal(light_dtype_of(y), LIGHT_I64);
        assert_values(y, (double[]){1, 2, 3}, 0);
        assert_values(light_argmin(s, x, -1), (double[]){3, 0, 0}, 0);
        assert_values(light_argmax(s, x, 0), (double[]){0, 0, 1, 1}, 0);
        assert_values(light_argmax(s, light_transpose(s, x, 0, 1), 0), (double[]){1, 2, 3}, 0);
    }
    light_tensor *odd = from_doubles(s, LIGHT_SHAPE(3), LIGHT_F32, (double[]){1, NAN, 2});
    assert_values(light_argmax(s, odd, 0), (double[]){1}, 0);
    assert_values(light_argmin(s, odd, 0), (double[]){1}, 0);
    light_tensor *zeros = from_doubles(s, LIGHT_SHAPE(2), LIGHT_F32, (double[]){-0.0, 0.0});
    assert_values(light_argmax(s, zeros, 0), (double[]){0}, 0);
    assert_step_ok(s);
    light_step_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reductions),
        cmocka_unit_test(long_reductions),
        cmocka_unit_test(uneven_reductions),
        cmocka_unit_test(whole_numbers),
        cmocka_unit_test(nothing_and_infinity),
        cmocka_unit_test(equal_extrema_share),
        cmocka_unit_test(long_sums_are_accurate),
        cmocka_unit_test(same_bits_for_any_threads),
        cmocka_unit_test(softmaxes),
        cmocka_unit_test(gradients_of_long_lines),
        cmocka_unit_test(cumulative_sums),
        cmocka_unit_test(long_cumulative_sums),
        cmocka_unit_test(largest_elements),
        cmocka_unit_test(largest_of_many),
        cmocka_unit_test(positions_of_extrema),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
