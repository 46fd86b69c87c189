/* SPDX-License-Identifier: Apache-2.0 */
/* Gradient clipping by norm and by value, as the trainer does it and by hand; exact sums of squares. */
#include "autograd/step.h"
#include "base/exact.h"
#include "optim/clip.h"
#include "optim/optimizer.h"

#include <light/light.h>

#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/near.h"
#include "support/tensors.h"

#define N 1003

typedef struct {
    light_module base;
    light_tensor *a, *b, *unused;
} net;

static light_status net_init(light_module *self)
{
    net *m = (net *)self;
    LIGHT_TRY(light_add_parameter(self, &m->a, "a", LIGHT_SHAPE(17, 59), LIGHT_INIT_ZEROS));
    LIGHT_TRY(light_add_parameter(self, &m->unused, "unused", LIGHT_SHAPE(5), LIGHT_INIT_ZEROS));
    return light_add_parameter(self, &m->b, "b", LIGHT_SHAPE(N), LIGHT_INIT_ZEROS);
}

static const light_module_vtable net_vtable = {LIGHT_MODULE(net), .init = net_init};
static net *m;
static light_step *s;

static int setup(void **state)
{
    (void)state;
    m = (net *)light_module_new(&net_vtable);
    if (!m || light_module_build(&m->base, 1) != LIGHT_OK) return -1;
    return light_step_new(&s, .seed = 1) == LIGHT_OK && light_step_begin(s) == LIGHT_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    light_step_free(s);
    light_module_free(&m->base);
    return 0;
}

static float gradient(int which, int i)
{
    return sinf((float)i * 0.7F + (float)which) * (which ? 2 : 0.01F);
}

/* Returns the norm. */
static double set_grads(void)
{
    light_tensor *all[] = {m->a, m->b};
    float g[N];
    double sum = 0;
    for (int which = 0; which < 2; which++) {
        for (int i = 0; i < N; i++) {
            g[i] = gradient(which, i);
            sum += (double)g[i] * g[i];
        }
        assert_int_equal(light_tensor_write(all[which]->grad, LIGHT_F32, g, sizeof g), LIGHT_OK);
        all[which]->grad_fresh = false;
    }
    light_grad_zero(m->unused);
    /* What a parameter without gradient has in memory must not count. */
    float junk[5] = {1e9F, 1e9F, 1e9F, 1e9F, 1e9F};
    assert_int_equal(light_tensor_write(m->unused->grad, LIGHT_F32, junk, sizeof junk), LIGHT_OK);
    return sqrt(sum);
}

static double item(const light_tensor *t)
{
    double value;
    if (light_item(t, &value) != LIGHT_OK) fail_msg("%s", light_error_message());
    return value;
}

static void test_the_factor_of_the_trainer(void **state)
{
    (void)state;
    double want = set_grads();
    light_optimizer *opt = light_sgd(light_parameters(&m->base), .lr = 1);
    light_tensor *norm, *factor;
    assert_int_equal(light_grad_norm_factor(s, opt, 0.5, &norm, &factor), LIGHT_OK);
    assert_near(item(norm), want, 1e-12 * want);
    assert_near(item(factor), 0.5 / (want + 1e-6), FLT_EPSILON);
    assert_int_equal(light_dtype_of(factor), LIGHT_F32);

    /* The step applies it: the parameters, zero before, are minus the clipped gradients. */
    assert_int_equal(light_optimizer_step_now(opt, factor), LIGHT_OK);
    float p[N];
    double sum = 0;
    light_tensor *all[] = {m->a, m->b};
    for (int which = 0; which < 2; which++) {
        assert_int_equal(light_tensor_read(all[which], LIGHT_F32, p, sizeof p), LIGHT_OK);
        for (int i = 0; i < N; i++) sum += (double)p[i] * p[i];
        assert_int_equal(light_init_parameter(&m->base, which ? "b" : "a", LIGHT_INIT_ZEROS), LIGHT_OK);
    }
    assert_near(sqrt(sum), 0.5, 0.5 * 4 * FLT_EPSILON);

    assert_int_equal(light_grad_norm_factor(s, opt, 1e6, NULL, &factor), LIGHT_OK);
    assert_true(item(factor) == 1);
    light_optimizer_free(opt);
}

static void test_by_norm_in_place(void **state)
{
    (void)state;
    double want = set_grads();
    light_tensor *norm = light_clip_grad_norm(s, light_parameters(&m->base), 0.25);
    if (!norm) fail_msg("%s", light_error_message());
    assert_near(item(norm), want, 1e-12 * want);
    float g[N];
    assert_int_equal(light_tensor_read(light_grad(m->b), LIGHT_F32, g, sizeof g), LIGHT_OK);
    double factor = 0.25 / (want + 1e-6);
    for (int i = 0; i < N; i++) assert_near(g[i], gradient(1, i) * factor, 2 * factor * 2 * FLT_EPSILON);
    assert_near(item(light_clip_grad_norm(s, light_parameters(&m->base), 0.25)), 0.25,
                0.25 * 4 * FLT_EPSILON);

    set_grads(); /* short enough already: nothing changes */
    assert_non_null(light_clip_grad_norm(s, light_parameters(&m->base), 1e6));
    assert_int_equal(light_tensor_read(light_grad(m->b), LIGHT_F32, g, sizeof g), LIGHT_OK);
    for (int i = 0; i < N; i++) assert_true(g[i] == gradient(1, i));
}

static void test_by_value(void **state)
{
    (void)state;
    float g[N];
    light_optimizer *opt = light_sgd(light_parameters(&m->base));
    for (int by_hand = 0; by_hand < 2; by_hand++) {
        set_grads();
        if (by_hand)
            light_clip_grad_value(s, light_parameters(&m->base), 0.75);
        else
            assert_int_equal(light_grad_clamp(opt, 0.75), LIGHT_OK);
        assert_int_equal(light_step_status(s), LIGHT_OK);
        assert_int_equal(light_tensor_read(light_grad(m->b), LIGHT_F32, g, sizeof g), LIGHT_OK);
        for (int i = 0; i < N; i++) assert_true(g[i] == fmaxf(fminf(gradient(1, i), 0.75F), -0.75F));
        assert_int_equal(light_tensor_read(light_grad(m->a), LIGHT_F32, g, sizeof g), LIGHT_OK);
        for (int i = 0; i < N; i++) assert_true(g[i] == gradient(0, i));
    }
    light_optimizer_free(opt);
}

static void test_no_gradients_have_no_norm(void **state)
{
    (void)state;
    light_grad_zero(m->a);
    light_grad_zero(m->b);
    light_grad_zero(m->unused);
    light_tensor *norm = light_clip_grad_norm(s, light_parameters(&m->base), 1);
    assert_true(item(norm) == 0);
}

static void test_bad_limits(void **state)
{
    (void)state;
    assert_null(light_clip_grad_norm(s, light_parameters(&m->base), 0));
    assert_int_equal(light_step_status(s), LIGHT_ERR_ARGUMENT);
    assert_int_equal(light_step_begin(s), LIGHT_OK);
    light_clip_grad_value(s, light_parameters(&m->base), -1);
    assert_int_equal(light_step_status(s), LIGHT_ERR_ARGUMENT);
    assert_non_null(strstr(light_error_message(), "clip_grad_value: value is -1"));
    assert_int_equal(light_step_begin(s), LIGHT_OK);
}

/* ---- exactly -------------------------------------------------------------- */

/* What the kernel says of the elements [0, n) taken in `parts` parts, cut between groups of 64 bytes. */
static double exact_squares(light_tensor *t, int64_t parts)
{
    light_tensor *limbs = light_full(s, LIGHT_SHAPE(LIGHT_EXACT_SIZE), 3, LIGHT_I64);
    light_tensor *out = light_zeros(s, LIGHT_SCALAR, LIGHT_F64);
    int64_t n = t->numel, group = 64 / (int64_t)light_dtype_size(light_dtype_of(t));
    double value;
    for (int64_t p = 0; p < parts; p++) {
        int64_t from = n * p / parts / group * group,
                to = p == parts - 1 ? n : n * (p + 1) / parts / group * group;
        light_tensor part = *t;
        part.data += from * (int64_t)light_dtype_size(light_dtype_of(t));
        light_tensor_set_shape(&part, LIGHT_SHAPE(to - from));
        assert_light_ok(LIGHT_RUN(s, EXACT_SQUARES, .in = {&part}, .out = {limbs}, .accumulate = p > 0));
    }
    assert_light_ok(LIGHT_RUN(s, EXACT_VALUE, .in = {limbs}, .out = {out}));
    assert_light_ok(light_tensor_read(out, LIGHT_F64, &value, sizeof value));
    return value;
}

/* The same by the book: squares in f64, groups of 64 bytes as trees of halves, those without rounding. */
static double squares_by_the_book(const double *x, int64_t n, int64_t group)
{
    light_exact_sum sum = {0};
    for (int64_t at = 0; at < n; at += group) {
        double square[32] = {0};
        for (int64_t i = 0; i < group && at + i < n; i++) square[i] = x[at + i] * x[at + i];
        for (int64_t half = group / 2; half > 0; half /= 2)
            for (int64_t i = 0; i < half; i++) square[i] += square[i + half];
        light_exact_sum_add(&sum, square[0]);
    }
    return light_exact_value(sum.limbs);
}

/* Several blocks; numbers of very different sizes, as far as the dtype goes. */
static void test_exact_squares_on_any_device(void **state)
{
    static const light_dtype dtypes[] = {LIGHT_F64, LIGHT_F32, LIGHT_BF16, LIGHT_F16};
    enum { MANY = 20011 };
    double *x = new_doubles(MANY);
    (void)state;
    for (int i = 0; i < MANY; i++) x[i] = sin(i) * exp2(i % 29 - 14);
    for (size_t d = 0; d < 4; d++) {
        light_tensor *t = from_doubles(s, LIGHT_SHAPE(MANY), dtypes[d], x);
        double *rounded = all_doubles(t);
        double want = squares_by_the_book(rounded, MANY, 64 / (int64_t)light_dtype_size(dtypes[d]));
        assert_true(want > 0);
        for (int64_t parts = 1; parts <= 4; parts++) assert_true(exact_squares(t, parts) == want);
        free(rounded);
    }
    free(x);
}

static void test_exact_squares_of_what_is_not_finite(void **state)
{
    double x[40] = {1, 2, 3};
    (void)state;
    x[37] = INFINITY;
    assert_true(exact_squares(from_doubles(s, LIGHT_SHAPE(40), LIGHT_F32, x), 2) == INFINITY);
    x[3] = NAN;
    assert_true(isnan(exact_squares(from_doubles(s, LIGHT_SHAPE(40), LIGHT_F32, x), 2)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_factor_of_the_trainer),
        cmocka_unit_test(test_by_norm_in_place),
        cmocka_unit_test(test_by_value),
        cmocka_unit_test(test_no_gradients_have_no_norm),
        cmocka_unit_test(test_bad_limits),
        cmocka_unit_test(test_exact_squares_on_any_device),
        cmocka_unit_test(test_exact_squares_of_what_is_not_finite),
    };
    return cmocka_run_group_tests_name("clip", tests, setup, teardown);
}
