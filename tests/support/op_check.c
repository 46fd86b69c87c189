/* SPDX-License-Identifier: Apache-2.0 */
/* See op_check.h. */
#include "support/op_check.h"

#include "autograd/op.h"
#include "cpu/once/team.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- inputs ------------------------------------------------------------- */

static const char *const layout_names[] = {"row-major", "channels-last", "with gaps", "transposed"};

typedef struct setting {
    light_dtype dtype;
    op_layout layout;
} setting;

/* The memory in which a tensor of `shape` lies, and its strides there. */
static light_shape memory_of(light_shape shape, op_layout layout, int64_t *strides)
{
    light_shape memory = shape;
    int n = shape.ndim, last = n - 1, before = n - 2;
    if (layout == OP_GAPS && n) {
        memory.dims[last] *= 2;
        if (n > 1) memory.dims[before]++;
    } else if (layout == OP_TRANSPOSED && n > 1) {
        memory.dims[last] = shape.dims[before];
        memory.dims[before] = shape.dims[last];
    }
    int64_t step = 1;
    for (int d = last; d >= 0; d--) {
        strides[d] = step;
        step *= memory.dims[d];
    }
    if (layout == OP_GAPS && n) strides[last] = 2;
    if (layout == OP_TRANSPOSED && n > 1) {
        strides[before] = 1;
        strides[last] = memory.dims[last];
    }
    return memory;
}

/* A tensor with an owner that lies in memory in the given way; what is between its elements is NaN. */
static light_tensor *lay_out(light_shape shape, light_dtype dtype, op_layout layout)
{
    int64_t strides[LIGHT_MAX_DIMS];
    light_shape memory = memory_of(shape, layout, strides);
    light_tensor *t;
    assert_light_ok(light_tensor_new(&t, memory, dtype, test_device()));
    unsigned char *ones = malloc(t->storage->bytes + 1);
    assert_non_null(ones);
    memset(ones, 0xff, t->storage->bytes);
    device_write(test_device(), t->storage->data, ones, t->storage->bytes);
    free(ones);
    light_tensor_set_shape(t, shape);
    memcpy(t->strides, strides, (size_t)shape.ndim * sizeof *strides);
    light_tensor_refresh(t);
    if (layout == OP_CHANNELS_LAST && shape.ndim == 4) light_tensor_set_channels_last(t, shape);
    return t;
}

typedef struct problem {
    const op_check *check;
    int count;
    double *in[OP_MAX_IN], *weights, *expected, *grads[OP_MAX_IN];
    int64_t numel[OP_MAX_IN], out_numel;
} problem;

static bool differentiable(const op_check *check, int i)
{
    const op_input *input = &check->in[i];
    bool floating = input->dtype == LIGHT_DTYPE_DEFAULT || light_dtype_is_floating(input->dtype);
    return floating && !input->absent && !input->constant && !check->no_grad;
}

static op_layout first_layout(const op_check *check)
{
    return check->layouts ? (op_layout)__builtin_ctz(check->layouts) : OP_ROW_MAJOR;
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
    if (check->expected) memcpy(p.expected, check->expected, (size_t)p.out_numel * sizeof(double));
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

/* ---- a run -------------------------------------------------------------- */

typedef struct run {
    const problem *p;
    setting set;
    light_step *s;
    light_tensor *leaves[OP_MAX_IN]; /* NULL: absent */
} run;

static run start(const problem *p, setting set)
{
    run r = {.p = p, .set = set, .s = new_step()};
    for (int i = 0; i < p->count; i++) {
        const op_input *input = &p->check->in[i];
        if (input->absent) continue;
        r.leaves[i] = lay_out(input->shape, input->dtype ? input->dtype : set.dtype,
                              input->row_major ? OP_ROW_MAJOR : set.layout);
        write_doubles(r.leaves[i], p->in[i]);
        light_set_requires_grad(r.leaves[i], differentiable(p->check, i));
    }
    return r;
}

static void end(run *r)
{
    assert_step_ok(r->s);
    for (int i = 0; i < r->p->count; i++) light_tensor_free(r->leaves[i]);
    light_step_free(r->s);
}

/* Every pass has the random numbers of the first. alias: leaves come under other names. */
static light_tensor *apply(run *r, bool alias)
{
    const op_check *check = r->p->check;
    light_tensor *in[OP_MAX_IN];
    assert_light_ok(light_step_begin(r->s));
    light_step_set_counter(r->s, OP_COUNTER);
    for (int i = 0; i < r->p->count; i++)
        in[i] = alias && differentiable(check, i) ? light_alias(r->s, r->leaves[i]) : r->leaves[i];
    light_tensor *y = check->apply(r->s, in, check->user);
    if (!y) fail_msg("%s: %s", check->name, light_error_message());
    return y;
}

static void run_backward(run *r, light_tensor *y)
{
    light_tensor *w = from_doubles(r->s, light_shape_of(y), light_dtype_of(y), r->p->weights);
    if (light_backward_from(r->s, y, w) != LIGHT_OK)
        fail_msg("%s: %s", r->p->check->name, light_error_message());
}

static light_tensor *gradient(const run *r, int i)
{
    light_tensor *grad = light_grad(r->leaves[i]);
    if (!grad) fail_msg("%s: no gradient of input %d", r->p->check->name, i);
    return grad;
}

/* Fills the memory that the step will hand out with bytes that are NaN in every floating dtype. */
static void poison(run *r)
{
    int64_t numel = r->p->out_numel, bytes;
    for (int i = 0; i < r->p->count; i++) numel += 2 * r->p->numel[i] + 64;
    bytes = (1 << 16) + numel * 8 * 4;
    light_tensor *t = light_step_tensor(r->s, (light_spec){.dtype = LIGHT_U8, .shape = LIGHT_SHAPE(bytes)});
    unsigned char *ones = malloc((size_t)bytes);
    assert_true(t && ones);
    memset(ones, 0xff, (size_t)bytes);
    device_write(test_device(), t->data, ones, (size_t)bytes);
    free(ones);
}

/* What lies between the end of a tensor's memory and the next one's must have been left alone. */
static void check_guard(const op_check *check, const light_tensor *t)
{
    unsigned char guard[64];
    size_t bytes = t->storage->bytes, rest = (64 - bytes % 64) % 64;
    if (t->storage->block < 0) return;
    device_read(test_device(), (const char *)t->storage->data + bytes, guard, rest);
    for (size_t i = 0; i < rest; i++)
        if (guard[i] != 0xff) fail_msg("%s: wrote beyond its output", check->name);
}

static double tolerance(const op_check *check, light_dtype dtype, bool gradient)
{
    double factor = gradient ? (check->grad_factor > 0 ? check->grad_factor : 16)
                             : (check->factor > 0 ? check->factor : 8);
    double terms = check->terms > 1 ? (double)check->terms : 1;
    /* Only the roundings at the end count for 16-bit values; gradients may be added up from rounded ones. */
    if (dtype == LIGHT_BF16 || dtype == LIGHT_F16)
        return dtype_epsilon(dtype) * fmax(1, factor / 8) * (gradient ? sqrt(terms) : 1);
    return dtype_epsilon(dtype) * factor * sqrt(terms);
}

static void compare(const run *r, const char *what, const light_tensor *t, const double *expected,
                    bool gradient, double times)
{
    const op_check *check = r->p->check;
    double most = tolerance(check, (light_dtype)t->dtype, gradient) * times;
    double size = check->size > 0 ? check->size : 1, *got = all_doubles(t);
    for (int64_t i = 0; i < t->numel; i++) {
        double want = expected[i] * times;
        if (!nearly(got[i], want, most * fmax(size, fabs(want))))
            fail_msg("%s, %s, %s: %s %lld is %.17g instead of %.17g", check->name,
                     light_dtype_name(r->set.dtype), layout_names[r->set.layout], what, (long long)i, got[i],
                     want);
    }
    free(got);
}

static void check_output(const run *r, const light_tensor *y)
{
    const op_check *check = r->p->check;
    light_dtype dtype = check->out_dtype ? check->out_dtype : r->set.dtype;
    char a[256], b[256];
    if (!light_shape_equal(light_shape_of(y), check->out))
        fail_msg("%s: shape %s instead of %s", check->name,
                 light_shape_format(light_shape_of(y), a, sizeof a),
                 light_shape_format(check->out, b, sizeof b));
    if (light_dtype_of(y) != dtype)
        fail_msg("%s: dtype %s instead of %s", check->name, light_dtype_name(light_dtype_of(y)),
                 light_dtype_name(dtype));
    check_guard(check, y);
    if (check->reference || check->expected) compare(r, "value", y, r->p->expected, false, 1);
}

static void check_grads(const run *r, double times)
{
    for (int i = 0; i < r->p->count; i++) {
        char what[32];
        if (!differentiable(r->p->check, i)) continue;
        snprintf(what, sizeof what, "gradient %d at", i);
        compare(r, what, gradient(r, i), r->p->grads[i], true, times);
    }
}

static void check_inputs_unchanged(const run *r)
{
    for (int i = 0; i < r->p->count; i++) {
        if (!r->leaves[i]) continue;
        double *now = all_doubles(r->leaves[i]), half = dtype_epsilon(light_dtype_of(r->leaves[i])) / 2;
        for (int64_t k = 0; k < r->p->numel[i]; k++)
            if (!nearly(now[k], r->p->in[i][k], half * fabs(r->p->in[i][k])))
                fail_msg("%s, %s: input %d was changed", r->p->check->name, layout_names[r->set.layout], i);
        free(now);
    }
}

static void check_setting(const problem *p, setting set)
{
    run r = start(p, set);
    poison(&r);
    light_tensor *y = apply(&r, false);
    check_output(&r, y);
    check_inputs_unchanged(&r);
    if (!p->check->no_grad) {
        run_backward(&r, y);
        check_grads(&r, 1);
        /* Once more, through aliases, so that gradients are added up at both kinds of places. */
        run_backward(&r, apply(&r, true));
        check_grads(&r, 2);
    }
    end(&r);
}

/* ---- finite differences ------------------------------------------------- */

#define MOST_DIFFERENCES 256 /* of one input: more are sampled */

/* The sum of y by weights, with element k of input i at x. */
static double weighted_sum(run *r, int i, int64_t k, double x)
{
    const problem *p = r->p;
    double was = p->in[i][k], sum = 0;
    p->in[i][k] = x;
    write_doubles(r->leaves[i], p->in[i]);
    p->in[i][k] = was;
    double *values = all_doubles(apply(r, false));
    for (int64_t j = 0; j < p->out_numel; j++)
        if (p->weights[j] != 0) sum += p->weights[j] * values[j];
    free(values);
    return sum;
}

/* Errors of a central difference over h = 1e-5: h^2 / 6 times a third derivative, which is below 1e4 in these tests;
 * and both sums' roundings (a few hundred epsilons of their size) over 2 h. */
static void check_difference(run *r, int i, int64_t k)
{
    double x = r->p->in[i][k], h = 1e-5 * fmax(1, fabs(x));
    if (isinf(x)) { /* such as in a mask: it has no neighbours */
        assert_true(isfinite(r->p->grads[i][k]));
        return;
    }
    double above = weighted_sum(r, i, k, x + h), below = weighted_sum(r, i, k, x - h);
    double expected = (above - below) / (2 * h), got = r->p->grads[i][k];
    double noise = 1e-6 * fmax(1, fabs(expected)) + 0x1p-45 / h * fabs(above);
    if (!nearly(got, expected, noise))
        fail_msg("%s: gradient %d at %lld is %.12g, differences say %.12g", r->p->check->name, i,
                 (long long)k, got, expected);
}

/* Gradients in f64, which are what the other dtypes are compared with, against differences of the values. */
static void check_differences(const problem *p)
{
    run r = start(p, (setting){LIGHT_F64, first_layout(p->check)});
    run_backward(&r, apply(&r, false));
    for (int i = 0; i < p->count; i++) {
        if (!differentiable(p->check, i)) continue;
        read_doubles(gradient(&r, i), p->grads[i]);
        int64_t step = p->numel[i] > MOST_DIFFERENCES ? p->numel[i] / MOST_DIFFERENCES | 1 : 1;
        for (int64_t k = 0; k < p->numel[i]; k += step) check_difference(&r, i, k);
        write_doubles(r.leaves[i], p->in[i]);
    }
    end(&r);
}

/* ---- checks ------------------------------------------------------------- */

void check_op(const op_check *check)
{
    static const light_dtype dtypes[] = {LIGHT_F64, LIGHT_F32, LIGHT_BF16, LIGHT_F16};
    problem p = new_problem(check);
    if (!check->no_grad) check_differences(&p);
    for (int d = 0; d < (check->only_wide ? 2 : 4); d++)
        for (int l = 0; l < OP_LAYOUTS; l++)
            if (!check->layouts || check->layouts >> l & 1)
                check_setting(&p, (setting){dtypes[d], (op_layout)l});
    free_problem(&p);
}

/* Values and gradients with the team's present size; for the caller to free. */
static void compute(const problem *p, double **y, double **grads)
{
    run r = start(p, (setting){LIGHT_F32, first_layout(p->check)});
    light_tensor *out = apply(&r, false);
    assert_int_equal(light_numel(out), p->out_numel);
    *y = all_doubles(out);
    if (!p->check->no_grad) run_backward(&r, out);
    for (int i = 0; i < p->count; i++)
        grads[i] = differentiable(p->check, i) ? all_doubles(gradient(&r, i)) : NULL;
    end(&r);
}

void check_op_threads(const op_check *check)
{
    int before = light_team_size();
    double *first, *y, *first_grads[OP_MAX_IN], *grads[OP_MAX_IN];
    problem p = new_problem(check);
    light_set_num_threads(1);
    compute(&p, &first, first_grads);
    for (int threads = 2; threads <= 3; threads++) {
        light_set_num_threads(threads);
        compute(&p, &y, grads);
        assert_memory_equal(y, first, (size_t)p.out_numel * sizeof *y);
        free(y);
        for (int i = 0; i < p.count; i++) {
            if (grads[i]) assert_memory_equal(grads[i], first_grads[i], (size_t)p.numel[i] * sizeof(double));
            free(grads[i]);
        }
    }
    for (int i = 0; i < p.count; i++) free(first_grads[i]);
    free(first);
    free_problem(&p);
    light_set_num_threads(before);
}

void check_op_fails(const op_check *check, light_dtype dtype, light_status status, const char *text)
{
    problem p = new_problem(check);
    run r = start(&p, (setting){dtype, OP_ROW_MAJOR});
    assert_null(check->apply(r.s, r.leaves, check->user));
    assert_step_failed(r.s, status, text);
    assert_light_ok(light_step_begin(r.s));
    end(&r);
    free_problem(&p);
}
