/* SPDX-License-Identifier: Apache-2.0 */
/* The tape: accumulation, sharing, detaching, in-place operations, lifetimes, hooks, recomputation, errors. */
#include "autograd/step.h"

#include "base/memory.h"

#include <light/ops.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

typedef struct fixture {
    light_step *s;
    light_tensor *w, *v; /* leaves of three elements */
} fixture;

static const double w_values[] = {1, -2, 3}, v_values[] = {0.5, 4, -1};

static light_tensor *leaf(const double *values)
{
    light_tensor *t;
    assert_int_equal(light_tensor_new(&t, LIGHT_SHAPE(3), LIGHT_F64, NULL), LIGHT_OK);
    assert_int_equal(light_tensor_write(t, LIGHT_F64, values, 3 * sizeof *values), LIGHT_OK);
    light_set_requires_grad(t, true);
    return t;
}

static int set_up(void **state)
{
    static fixture f;
    assert_int_equal(light_step_new(&f.s, .seed = 1), LIGHT_OK);
    assert_int_equal(light_step_begin(f.s), LIGHT_OK);
    f.w = leaf(w_values);
    f.v = leaf(v_values);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    light_step_free(f->s);
    light_tensor_free(f->w);
    light_tensor_free(f->v);
    return 0;
}

static void assert_grad(const light_tensor *t, double a, double b, double c)
{
    double g[3];
    assert_non_null(light_grad(t));
    assert_int_equal(light_tensor_read(light_grad(t), LIGHT_F64, g, sizeof g), LIGHT_OK);
    assert_true(g[0] == a && g[1] == b && g[2] == c);
}

static light_tensor *sum(light_step *s, light_tensor *x)
{
    return light_sum(s, x, LIGHT_ALL, false);
}

static void assert_failed(light_step *s, light_status status, const char *part)
{
    assert_int_equal(light_step_status(s), status);
    assert_non_null(strstr(light_error_message(), part));
}

static void gradients_add_up_until_they_are_zeroed(void **state)
{
    fixture *f = *state;
    assert_null(light_grad(f->w));
    for (int i = 1; i <= 3; i++) {
        light_step_begin(f->s);
        assert_int_equal(light_backward(f->s, sum(f->s, light_mul(f->s, f->w, f->v))), LIGHT_OK);
        assert_grad(f->w, i * 0.5, i * 4, i * -1);
    }
    light_grad_zero(f->w);
    assert_null(light_grad(f->w));
    light_step_begin(f->s);
    light_backward(f->s, sum(f->s, f->w));
    assert_grad(f->w, 1, 1, 1);
}

static void a_tensor_used_several_times(void **state)
{
    fixture *f = *state;
    light_step *s = f->s;
    /* y = w w + w, z = y + y + v y: dz/dw = (2 + v) (2 w + 1) */
    light_tensor *y = light_add(s, light_mul(s, f->w, f->w), f->w);
    light_tensor *z = light_add(s, light_add(s, y, y), light_mul(s, f->v, y));
    assert_int_equal(light_backward(s, sum(s, z)), LIGHT_OK);
    assert_grad(f->w, 2.5 * 3, 6 * -3, 1 * 7);
    assert_grad(f->v, 2, 2, 12);
}

static void shared_gradients_are_not_spoilt(void **state)
{
    fixture *f = *state;
    light_step *s = f->s;
    /* add hands one gradient to both sides; the second use of a then adds to its own only. */
    light_tensor *a = light_mul_scalar(s, f->w, 2), *b = light_mul_scalar(s, f->v, 3);
    light_tensor *c = light_add(s, light_mul(s, a, a), light_add(s, a, b));
    assert_int_equal(light_backward(s, sum(s, c)), LIGHT_OK);
    assert_grad(f->w, 2 * (1 + 4), 2 * (1 - 8), 2 * (1 + 12));
    assert_grad(f->v, 3, 3, 3);
}

static void a_repeated_gradient_is_not_added_to_in_place(void **state)
{
    fixture *f = *state;
    light_step *s = f->s;
    /* sum's gradient is one number seen three times (stride 0); the other use of y must not write into it. */
    light_tensor *y = light_mul_scalar(s, f->w, 1);
    light_tensor *loss = light_add(s, sum(s, light_mul(s, y, f->v)), sum(s, y));
    assert_int_equal(light_backward(s, loss), LIGHT_OK);
    assert_grad(f->w, 1.5, 5, 0);
}

static void detach_and_no_grad_stop_gradients(void **state)
{
    fixture *f = *state;
    light_step *s = f->s;
    light_tensor *y = light_mul(s, light_detach(s, f->w), f->v);
    bool was = light_set_grad_enabled(s, false);
    light_tensor *z = light_mul(s, f->w, f->w);
    light_set_grad_enabled(s, was);
    assert_false(light_requires_grad(z));
    assert_int_equal(light_backward(s, sum(s, light_add(s, y, z))), LIGHT_OK);
    assert_null(light_grad(f->w));
    assert_grad(f->v, 1, -2, 3);
}

static void frozen_leaves_get_nothing(void **state)
{
    fixture *f = *state;
    light_set_requires_grad(f->w, false);
    assert_int_equal(light_backward(f->s, sum(f->s, light_mul(f->s, f->w, f->v))), LIGHT_OK);
    assert_null(light_grad(f->w));
    assert_grad(f->v, 1, -2, 3);
}

static void in_place_operations(void **state)
{
    fixture *f = *state;
    light_step *s = f->s;
    light_tensor *x = light_mul(s, f->w, f->v), *y = light_relu_(s, x);
    assert_int_equal(light_backward(s, sum(s, y)), LIGHT_OK); /* w v = .5, -8, -3 */
    assert_grad(f->w, 0.5, 0, 0);
    light_step_begin(s);
    x = light_mul(s, f->w, f->v);
    light_relu_(s, x);
    assert_null(light_add(s, x, f->w));
    assert_failed(s, LIGHT_ERR_STATE, "overwritten by an operation in place");
    light_step_begin(s);
    x = light_exp(s, f->w); /* exp saves its output for its gradient */
    assert_null(light_relu_(s, x));
    assert_int_not_equal(light_step_status(s), LIGHT_OK);
}

static void released_tensors_say_so(void **state)
{
    fixture *f = *state;
    light_step *s = f->s;
    light_tensor *y = light_mul(s, f->w, f->v), *loss = sum(s, y);
    double value;
    assert_int_equal(light_backward(s, loss), LIGHT_OK);
    assert_int_equal(light_item(loss, &value), LIGHT_OK);
    assert_true(value == 0.5 - 8 - 3);
    assert_null(light_add(s, y, y));
    assert_failed(s, LIGHT_ERR_STATE, "released when backward passed it");
}

static void a_loss_has_one_backward(void **state)
{
    fixture *f = *state;
    light_step *s = f->s;
    for (int retain = 0; retain < 2; retain++) {
        light_step_begin(s);
        light_step_retain(s, retain);
        light_tensor *loss = sum(s, light_square(s, f->w));
        assert_int_equal(light_backward(s, loss), LIGHT_OK);
        assert_int_equal(light_backward(s, loss), LIGHT_ERR_STATE);
        assert_failed(s, LIGHT_ERR_STATE, "was used for backward before");
    }
}

static void retained_tensors_stay(void **state)
{
    fixture *f = *state;
    light_step *s = f->s;
    light_step_retain(s, true);
    /* Two losses over one tape, as manual optimization has them. */
    light_tensor *y = light_mul(s, f->w, f->v), *a = sum(s, light_square(s, f->w)), *b = sum(s, y);
    assert_int_equal(light_backward(s, a), LIGHT_OK);
    assert_grad(f->w, 2, -4, 6);
    assert_null(light_grad(f->v));
    assert_int_equal(light_backward(s, b), LIGHT_OK);
    assert_grad(f->w, 2.5, 0, 5);
    double value[3];
    assert_int_equal(light_tensor_read(y, LIGHT_F64, value, sizeof value), LIGHT_OK);
    assert_true(value[1] == -8);
}

static int hook_calls;
static double hook_saw[3];

static void note_hook(light_tensor *t, void *user)
{
    assert_ptr_equal(user, &hook_calls);
    hook_calls++;
    light_tensor_read(light_grad(t), LIGHT_F64, hook_saw, sizeof hook_saw);
}

static void hooks_come_once_with_the_whole_gradient(void **state)
{
    fixture *f = *state;
    light_step *s = f->s;
    hook_calls = 0;
    light_set_grad_hook(f->w, note_hook, &hook_calls);
    light_tensor *y = light_add(s, light_mul(s, f->w, f->w), light_mul(s, f->w, f->v));
    assert_int_equal(light_backward(s, sum(s, y)), LIGHT_OK);
    assert_int_equal(hook_calls, 1);
    assert_true(hook_saw[0] == 2.5 && hook_saw[1] == 0 && hook_saw[2] == 5);
}

static light_tensor *block(light_step *s, void *user, light_tensor **inputs, int n)
{
    (void)n;
    light_tensor *x = light_tanh(s, light_mul(s, inputs[0], user));
    return light_add(s, light_dropout(s, x, 0.5), light_mul(s, x, inputs[0]));
}

static void recomputed_equals_kept(void **state)
{
    fixture *f = *state;
    light_step *s = f->s;
    double kept[2][3], again[2][3];
    for (int recompute = 0; recompute < 2; recompute++) {
        light_step_set_counter(s, 7);
        light_step_begin(s);
        light_grad_zero(f->w);
        light_grad_zero(f->v);
        light_tensor *x = light_mul_scalar(s, f->w, 0.7), *noise = light_rand(s, LIGHT_SHAPE(3), LIGHT_F64);
        light_tensor *y = recompute ? light_recompute(s, block, f->v, &x, 1) : block(s, f->v, &x, 1);
        y = light_mul(s, light_dropout(s, y, 0.25), noise);
        assert_int_equal(light_backward(s, sum(s, y)), LIGHT_OK);
        double(*to)[3] = recompute ? again : kept;
        light_tensor_read(light_grad(f->w), LIGHT_F64, to[0], sizeof to[0]);
        light_tensor_read(light_grad(f->v), LIGHT_F64, to[1], sizeof to[1]);
    }
    assert_memory_equal(kept, again, sizeof kept);
}

static light_tensor *wide_block(light_step *s, void *user, light_tensor **inputs, int n)
{
    (void)user, (void)n;
    light_tensor *x = inputs[0];
    for (int i = 0; i < 8; i++) x = light_tanh(s, light_mul_scalar(s, x, 1.1));
    return x;
}

static size_t peak_of(bool recompute)
{
    light_step *s;
    light_tensor *w;
    assert_int_equal(light_step_new(&s, .seed = 1), LIGHT_OK);
    assert_int_equal(light_tensor_new(&w, LIGHT_SHAPE(1 << 16), LIGHT_F32, NULL), LIGHT_OK);
    light_set_requires_grad(w, true);
    light_step_begin(s);
    light_tensor *x = light_mul_scalar(s, w, 0.5);
    for (int i = 0; i < 4; i++)
        x = recompute ? light_recompute(s, wide_block, NULL, &x, 1) : wide_block(s, NULL, &x, 1);
    assert_int_equal(light_backward(s, sum(s, x)), LIGHT_OK);
    size_t peak = light_step_peak_bytes(s);
    light_step_free(s);
    light_tensor_free(w);
    return peak;
}

static void recomputing_saves_memory(void **state)
{
    (void)state;
    assert_true(peak_of(true) * 2 < peak_of(false));
}

static void everything_comes_back_after_backward(void **state)
{
    fixture *f = *state;
    light_step *s = f->s;
    light_tensor *loss = sum(s, light_tanh(s, light_mul(s, f->w, f->v)));
    assert_int_equal(light_backward(s, loss), LIGHT_OK);
    /* The loss, and the gradient of one it began with. */
    assert_true(light_step_bytes(s) <= 2 * 64);
}

static void losses_that_cannot_be(void **state)
{
    fixture *f = *state;
    light_step *s = f->s;
    assert_int_equal(light_backward(s, light_mul(s, f->w, f->v)), LIGHT_ERR_SHAPE);
    assert_non_null(strstr(light_error_message(), "the loss has shape [3], a scalar is needed"));
    light_step_begin(s);
    assert_int_equal(light_backward(s, light_ones(s, LIGHT_SCALAR, LIGHT_F32)), LIGHT_ERR_ARGUMENT);
    assert_non_null(strstr(light_error_message(), "depends on no parameter"));
    light_step_begin(s);
    assert_int_equal(light_backward(s, NULL), LIGHT_ERR_ARGUMENT);
}

static void the_first_error_stays(void **state)
{
    fixture *f = *state;
    light_step *s = f->s;
    light_tensor *bad = light_add(s, f->w, light_ones(s, LIGHT_SHAPE(4), LIGHT_F64));
    assert_null(bad);
    assert_null(light_mul(s, bad, f->w));
    assert_null(light_matmul(s, f->w, light_ones(s, LIGHT_SHAPE(7), LIGHT_F64)));
    assert_failed(s, LIGHT_ERR_SHAPE, "add: shapes [3] and [4] do not fit together");
    assert_int_equal(light_backward(s, bad), LIGHT_ERR_SHAPE);
    light_step_begin(s);
    assert_int_equal(light_step_status(s), LIGHT_OK);
}

static void tensors_of_another_step(void **state)
{
    fixture *f = *state;
    light_step *other;
    assert_int_equal(light_step_new(&other, .seed = 1), LIGHT_OK);
    light_step_begin(other);
    assert_null(light_add(other, light_ones(f->s, LIGHT_SHAPE(3), LIGHT_F64), f->w));
    assert_failed(other, LIGHT_ERR_STATE, "belongs to another step");
    light_step_free(other);
}

static void a_repeated_step_asks_nothing_of_the_heap(void **state)
{
    fixture *f = *state;
    light_step *s = f->s;
    void *address = NULL;
    light_memory_counters before = {0};
    for (int i = 0; i < 20; i++) {
        light_step_begin(s);
        light_tensor *y = light_tanh(s, light_mul(s, f->w, f->v));
        if (i == 2) before = light_memory_count();
        if (i > 1) assert_ptr_equal(light_data(y), address);
        address = light_data(y);
        assert_int_equal(light_backward(s, sum(s, y)), LIGHT_OK);
    }
    assert_int_equal(light_memory_count().calls, before.calls);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(gradients_add_up_until_they_are_zeroed),
        TEST(a_tensor_used_several_times),
        TEST(shared_gradients_are_not_spoilt),
        TEST(a_repeated_gradient_is_not_added_to_in_place),
        TEST(detach_and_no_grad_stop_gradients),
        TEST(frozen_leaves_get_nothing),
        TEST(in_place_operations),
        TEST(released_tensors_say_so),
        TEST(a_loss_has_one_backward),
        TEST(retained_tensors_stay),
        TEST(hooks_come_once_with_the_whole_gradient),
        TEST(recomputed_equals_kept),
        TEST(recomputing_saves_memory),
        TEST(everything_comes_back_after_backward),
        TEST(losses_that_cannot_be),
        TEST(the_first_error_stays),
        TEST(tensors_of_another_step),
        TEST(a_repeated_step_asks_nothing_of_the_heap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
