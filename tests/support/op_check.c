/* SPDX-License-Identifier: Apache-2.0 */
/* See op_check.h. */
#include "support/op_check.h"

#include "autograd/op.h"
#include "base/philox.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- small things ------------------------------------------------------- */

double dtype_epsilon(light_dtype dtype)
{
    switch (dtype) {
    case LIGHT_F64: return 0x1p-52;
    case LIGHT_F32: return 0x1p-23;
    case LIGHT_BF16: return 0x1p-7;
    case LIGHT_F16: return 0x1p-10;
    default: return 0;
    }
}

static double to_bf16(double value)
{
    int exponent;
    double mantissa = frexp(value, &exponent);
    return ldexp(nearbyint(mantissa * 256), exponent - 8);
}

void spread_values(double *values, int64_t n, double low, double high, uint64_t seed)
{
    const uint32_t key[2] = {(uint32_t)seed, 77};
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits[4];
        light_philox_at(key, (uint64_t)i, 0, bits);
        values[i] = to_bf16(low + (high - low) * light_uniform_double(bits[0], bits[1]));
    }
}

light_step *new_step(void)
{
    light_step *s;
    assert_int_equal(light_step_new(&s, .seed = 5), LIGHT_OK);
    assert_int_equal(light_step_begin(s), LIGHT_OK);
    return s;
}

void assert_step_ok(const light_step *s)
{
    if (light_step_status(s) != LIGHT_OK) fail_msg("%s", light_error_message());
}

void assert_step_failed(const light_step *s, light_status status, const char *part)
{
    assert_int_equal(light_step_status(s), status);
    if (!strstr(light_error_message(), part))
        fail_msg("\"%s\" does not contain \"%s\"", light_error_message(), part);
}

light_tensor *from_doubles(light_step *s, light_shape shape, light_dtype dtype, const double *values)
{
    light_tensor *t = light_zeros(s, shape, dtype);
    assert_non_null(t);
    size_t bytes = (size_t)light_shape_numel(shape) * sizeof(double);
    assert_int_equal(light_tensor_write(t, LIGHT_F64, values, bytes), LIGHT_OK);
    return t;
}

void read_doubles(const light_tensor *t, double *values)
{
    size_t bytes = (size_t)light_numel(t) * sizeof(double);
    if (light_tensor_read(t, LIGHT_F64, values, bytes) != LIGHT_OK) fail_msg("%s", light_error_message());
}

static bool near(double got, double expected, double tolerance)
{
    if (isnan(expected)) return isnan(got);
    if (got == expected) return true;
    return fabs(got - expected) <= tolerance;
}

void assert_values(const light_tensor *t, const double *expected, double tolerance)
{
    assert_non_null(t);
    int64_t n = light_numel(t);
    double *got = malloc((size_t)(n ? n : 1) * sizeof *got);
    assert_non_null(got);
    read_doubles(t, got);
    for (int64_t i = 0; i < n; i++)
        if (!near(got[i], expected[i], tolerance * fmax(1, fabs(expected[i]))))
            fail_msg("element %lld is %.17g instead of %.17g", (long long)i, got[i], expected[i]);
    free(got);
}

/* ---- inputs ------------------------------------------------------------- */

typedef enum layout { ROW_MAJOR, CHANNELS_LAST, GAPS, TRANSPOSED, LAYOUTS } layout;
static const char *const layout_names[] = {"row-major", "channels-last", "with gaps", "transposed"};

typedef struct setting {
    light_dtype dtype;
    layout layout;
} setting;

/* The tensor of the step that holds `values` in the given way; what lies between its elements is NaN. */
static light_tensor *lay_out(light_step *s, const op_input *input, light_dtype dtype, layout layout,
                             const double *values)
{
    light_shape shape = input->shape, memory = shape;
    int64_t strides[LIGHT_MAX_DIMS];
    int n = shape.ndim;
    if (layout == CHANNELS_LAST && n == 4) {
        light_tensor *t = light_step_tensor(s, (light_spec){dtype, shape, true});
        assert_non_null(t);
        assert_int_equal(light_tensor_write(t, LIGHT_F64, values, (size_t)t->numel * 8), LIGHT_OK);
        return t;
    }
    if (layout == GAPS && n) {
        memory.dims[n - 1] *= 2;
        if (n > 1) memory.dims[n - 2]++;
    } else if (layout == TRANSPOSED && n > 1) {
        memory.dims[n - 1] = shape.dims[n - 2];
        memory.dims[n - 2] = shape.dims[n - 1];
    } else {
        return from_doubles(s, shape, dtype, values);
    }
    light_tensor *base = light_full(s, memory, light_dtype_is_floating(dtype) ? NAN : 0, dtype);
    assert_non_null(base);
    for (int d = 0; d < n; d++) strides[d] = base->strides[d];
    if (layout == GAPS) {
        strides[n - 1] = 2;
    } else {
        strides[n - 1] = base->strides[n - 2];
        strides[n - 2] = base->strides[n - 1];
    }
    light_tensor *t = light_step_view(s, base, shape, strides, 0);
    assert_non_null(t);
    assert_int_equal(light_tensor_write(t, LIGHT_F64, values, (size_t)t->numel * 8), LIGHT_OK);
    return t;
}

typedef struct problem {
    const op_check *check;
    int count;
    double *in[OP_MAX_IN], *weights, *expected, *grads[OP_MAX_IN];
    int64_t numel[OP_MAX_IN], out_numel;
} problem;

static bool differentiable(const op_input *input)
{
    bool floating = input->dtype == LIGHT_DTYPE_DEFAULT || light_dtype_is_floating(input->dtype);
    return floating && !input->absent && !input->constant;
}

static double *new_doubles(int64_t n)
{
    double *values = calloc((size_t)(n ? n : 1), sizeof *values);
    assert_non_null(values);
    return values;
}

static problem new_problem(const op_check *check)
{
    problem p = {.check = check, .count = check->count ? check->count : 1};
    for (int i = 0; i < p.count; i++) {
        const op_input *input = &check->in[i];
        bool plain = input->low == 0 && input->high == 0;
        p.numel[i] = light_shape_numel(input->shape);
        p.in[i] = new_doubles(p.numel[i]);
        p.grads[i] = new_doubles(p.numel[i]);
        if (input->values)
            memcpy(p.in[i], input->values, (size_t)p.numel[i] * sizeof(double));
        else
            spread_values(p.in[i], p.numel[i], plain ? -2 : input->low, plain ? 2 : input->high,
                          (uint64_t)i + 1);
    }
    p.out_numel = light_shape_numel(check->out);
    p.weights = new_doubles(p.out_numel);
    p.expected = new_doubles(p.out_numel);
    spread_values(p.weights, p.out_numel, -1, 1, 99);
    if (check->reference) check->reference((const double *const *)p.in, p.expected, check->user);
    return p;
}

static void free_problem(problem *p)
{
    for (int i = 0; i < p->count; i++) {
        free(p->in[i]);
        free(p->grads[i]);
    }
    free(p->weights);
    free(p->expected);
}

/* ---- one run ------------------------------------------------------------ */

/* Fills the memory that the step will hand out with bytes that are NaN in every floating dtype. */
static void poison(const problem *p, light_step *s)
{
    int64_t numel = p->out_numel, bytes;
    for (int i = 0; i < p->count; i++) numel += 2 * p->numel[i] + 64;
    bytes = (1 << 16) + numel * 8 * 4;
    light_tensor *t = light_step_tensor(s, (light_spec){.dtype = LIGHT_U8, .shape = LIGHT_SHAPE(bytes)});
    assert_non_null(t);
    memset(t->data, 0xff, (size_t)bytes);
    light_step_release(s, t);
}

/* What lies between the end of a tensor's memory and the next one's must have been left alone. */
static void check_guard(const op_check *check, const light_tensor *t)
{
    if (t->storage->block < 0) return;
    size_t bytes = t->storage->bytes;
    const unsigned char *memory = t->storage->data;
    for (size_t i = bytes; i < (bytes + 63) / 64 * 64; i++)
        if (memory[i] != 0xff) fail_msg("%s: wrote beyond its output", check->name);
}

static light_tensor *apply(const problem *p, light_step *s, setting set, light_tensor **leaves, bool alias)
{
    light_tensor *in[OP_MAX_IN] = {0};
    for (int i = 0; i < p->count; i++) {
        const op_input *input = &p->check->in[i];
        if (input->absent) continue;
        light_dtype dtype = input->dtype ? input->dtype : set.dtype;
        if (!leaves[i]) {
            leaves[i] = lay_out(s, input, dtype, input->row_major ? ROW_MAJOR : set.layout, p->in[i]);
            leaves[i]->storage->user_holds = false; /* it outlives a backward pass, as a parameter does */
            if (!p->check->no_grad && differentiable(input)) light_set_requires_grad(leaves[i], true);
        }
        in[i] = alias && differentiable(input) ? light_alias(s, leaves[i]) : leaves[i];
    }
    light_tensor *y = p->check->apply(s, in, p->check->user);
    if (!y) fail_msg("%s: %s", p->check->name, light_error_message());
    return y;
}

static void compare(const problem *p, setting set, const char *what, const light_tensor *t,
                    const double *expected, bool gradient, double times)
{
    const op_check *check = p->check;
    double factor = gradient ? (check->grad_factor > 0 ? check->grad_factor : 32)
                             : (check->factor > 0 ? check->factor : 8);
    double size = check->size > 0 ? check->size : 1, terms = check->terms > 1 ? (double)check->terms : 1;
    double epsilon = dtype_epsilon((light_dtype)t->dtype) * factor * sqrt(terms);
    /* 16-bit tensors are computed on in f32, so for values only their own rounding counts; gradients may be added up
     * from rounded ones. */
    if (t->dtype == LIGHT_BF16 || t->dtype == LIGHT_F16)
        epsilon = dtype_epsilon((light_dtype)t->dtype) * fmax(1, factor / 8) * (gradient ? sqrt(terms) : 1);
    double *got = new_doubles(t->numel);
    read_doubles(t, got);
    for (int64_t i = 0; i < t->numel; i++) {
        double want = expected[i] * times;
        if (!near(got[i], want, epsilon * times * fmax(size, fabs(want))))
            fail_msg("%s, %s, %s: %s %lld is %.17g instead of %.17g", check->name,
                     light_dtype_name(set.dtype), layout_names[set.layout], what, (long long)i, got[i], want);
    }
    free(got);
}

static void check_output(const problem *p, setting set, const light_tensor *y)
{
    const op_check *check = p->check;
    light_dtype dtype = check->out_dtype ? check->out_dtype : set.dtype;
    char a[256], b[256];
    if (!light_shape_equal(light_shape_of(y), check->out))
        fail_msg("%s: shape %s instead of %s", check->name,
                 light_shape_format(light_shape_of(y), a, sizeof a),
                 light_shape_format(check->out, b, sizeof b));
    if (light_dtype_of(y) != dtype)
        fail_msg("%s: dtype %s instead of %s", check->name, light_dtype_name(light_dtype_of(y)),
                 light_dtype_name(dtype));
    check_guard(check, y);
    if (check->reference) compare(p, set, "value", y, p->expected, false, 1);
}

static void run_backward(const problem *p, light_step *s, light_tensor *y)
{
    light_tensor *w = from_doubles(s, light_shape_of(y), light_dtype_of(y), p->weights);
    if (light_backward_from(s, y, w) != LIGHT_OK) fail_msg("%s: %s", p->check->name, light_error_message());
}

static void check_grads(const problem *p, setting set, light_tensor **leaves, double times)
{
    for (int i = 0; i < p->count; i++) {
        if (!differentiable(&p->check->in[i])) continue;
        light_tensor *grad = light_grad(leaves[i]);
        char what[32];
        snprintf(what, sizeof what, "gradient %d at", i);
        if (!grad) fail_msg("%s: no gradient of input %d", p->check->name, i);
        compare(p, set, what, grad, p->grads[i], true, times);
    }
}

static void check_inputs_unchanged(const problem *p, setting set, light_tensor **leaves)
{
    for (int i = 0; i < p->count; i++) {
        if (!leaves[i]) continue;
        double *now = new_doubles(p->numel[i]);
        read_doubles(leaves[i], now);
        light_dtype dtype = light_dtype_of(leaves[i]);
        for (int64_t k = 0; k < p->numel[i]; k++)
            if (!near(now[k], p->in[i][k], dtype_epsilon(dtype) * fabs(p->in[i][k])))
                fail_msg("%s, %s: input %d was changed", p->check->name, layout_names[set.layout], i);
        free(now);
    }
}

static void run(const problem *p, setting set)
{
    light_step *s = new_step();
    light_tensor *leaves[OP_MAX_IN] = {0};
    poison(p, s);
    light_tensor *y = apply(p, s, set, leaves, false);
    check_output(p, set, y);
    check_inputs_unchanged(p, set, leaves);
    if (!p->check->no_grad) {
        run_backward(p, s, y);
        check_grads(p, set, leaves, 1);
        /* Once more, through aliases, so that gradients are added up at both kinds of places. */
        run_backward(p, s, apply(p, s, set, leaves, true));
        check_grads(p, set, leaves, 2);
    }
    assert_step_ok(s);
    light_step_free(s);
}

/* ---- finite differences ------------------------------------------------- */

static double weighted_sum(problem *p)
{
    light_step *s = new_step();
    light_tensor *leaves[OP_MAX_IN] = {0};
    const setting set = {LIGHT_F64, ROW_MAJOR};
    double *values = new_doubles(p->out_numel), sum = 0;
    read_doubles(apply(p, s, set, leaves, false), values);
    for (int64_t i = 0; i < p->out_numel; i++)
        if (p->weights[i] != 0) sum += p->weights[i] * values[i];
    free(values);
    light_step_free(s);
    return sum;
}

/* Gradients in f64, which are what the other dtypes are compared with, against differences of the values. */
static void check_differences(problem *p)
{
    light_step *s = new_step();
    light_tensor *leaves[OP_MAX_IN] = {0};
    run_backward(p, s, apply(p, s, (setting){LIGHT_F64, ROW_MAJOR}, leaves, false));
    for (int i = 0; i < p->count; i++) {
        if (!differentiable(&p->check->in[i])) continue;
        light_tensor *grad = light_grad(leaves[i]);
        if (!grad) fail_msg("%s: no gradient of input %d", p->check->name, i);
        read_doubles(grad, p->grads[i]);
        int64_t step = p->numel[i] > 48 ? p->numel[i] / 48 : 1;
        for (int64_t k = 0; k < p->numel[i]; k += step) {
            double x = p->in[i][k], h = 1e-5 * fmax(1, fabs(x));
            p->in[i][k] = x + h;
            double above = weighted_sum(p);
            p->in[i][k] = x - h;
            double below = weighted_sum(p);
            p->in[i][k] = x;
            double expected = (above - below) / (2 * h);
            double noise = 1e-10 * (fabs(above) + 1) / h * 1e-2 + 2e-6 * fmax(1, fabs(expected));
            if (!near(p->grads[i][k], expected, noise))
                fail_msg("%s: gradient %d at %lld is %.12g, differences say %.12g", p->check->name, i,
                         (long long)k, p->grads[i][k], expected);
        }
    }
    assert_step_ok(s);
    light_step_free(s);
}

void check_op(const op_check *check)
{
    static const light_dtype dtypes[] = {LIGHT_F64, LIGHT_F32, LIGHT_BF16, LIGHT_F16};
    problem p = new_problem(check);
    if (!check->no_grad) check_differences(&p);
    for (int d = 0; d < (check->only_wide ? 2 : 4); d++)
        for (int l = 0; l < LAYOUTS; l++) run(&p, (setting){dtypes[d], (layout)l});
    free_problem(&p);
}
