/* SPDX-License-Identifier: Apache-2.0 */
/* Loss scaling against the same written down in double: which steps are skipped, what the scale is after each, and how
 * many steps each parameter has had, which Adam's bias correction depends on. */
#include "optim/clip.h"
#include "optim/scaler.h"

#include <light/light.h>

#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "support/device.h"
#include "support/near.h"

enum { A = 15, B = 7 };

typedef struct net {
    light_module base;
    light_tensor *a, *b;
} net;

static light_status net_init(light_module *self)
{
    net *m = (net *)self;
    LIGHT_TRY(light_add_parameter(self, &m->a, "a", LIGHT_SHAPE(3, 5), LIGHT_INIT_UNIFORM(-1, 1)));
    return light_add_parameter(self, &m->b, "b", LIGHT_SHAPE(B), LIGHT_INIT_UNIFORM(-1, 1));
}

static const light_module_vtable net_vtable = {LIGHT_MODULE(net), .init = net_init};
static net *m;
static light_step *s;
static light_optimizers *optimizers;
static light_scaler *scaler;

static int setup(void **state)
{
    (void)state;
    m = (net *)light_module_new(&net_vtable);
    if (!m || light_module_build(&m->base, 1) != LIGHT_OK) return -1;
    if (light_optimizers_new(&optimizers) != LIGHT_OK) return -1;
    return light_step_new(&s, .seed = 1) == LIGHT_OK && light_step_begin(s) == LIGHT_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    light_scaler_free(scaler);
    scaler = NULL;
    light_optimizers_free(optimizers);
    light_step_free(s);
    light_module_free(&m->base);
    return 0;
}

static light_optimizer *add(light_parameter_set set)
{
    assert_int_equal(light_optimizers_add(optimizers, light_adamw(set, .lr = 0.01), NULL), LIGHT_OK);
    return optimizers->entries[optimizers->n - 1].optimizer;
}

static void scale_losses(bool shared)
{
    assert_int_equal(light_scaler_new(&scaler, optimizers, test_device(), shared), LIGHT_OK);
    s->grad_scale = &scaler->scale;
}

static double scale_now(void)
{
    double scale;
    assert_int_equal(light_scaler_read(scaler, &scale), LIGHT_OK);
    return scale;
}

static void set_grad(light_tensor *t, const double *g, double times)
{
    double scaled[A];
    for (int64_t i = 0; i < t->numel; i++) scaled[i] = g[i] * times;
    assert_int_equal(light_tensor_write(t->grad, LIGHT_F64, scaled, sizeof scaled), LIGHT_OK);
    t->grad_fresh = false;
}

/* A step as the trainer does it. */
static void step(int i)
{
    light_tensor *factor;
    assert_int_equal(light_scaler_check(scaler, s, i, NULL), LIGHT_OK);
    assert_int_equal(light_scaler_factor(scaler, s, &factor), LIGHT_OK);
    assert_int_equal(light_optimizer_step_now(optimizers->entries[i].optimizer, factor), LIGHT_OK);
}

/* ---- the reference ---------------------------------------------------------- */

typedef struct reference {
    double p[A], m[A], v[A];
    int n, t;
} reference;

static void read_into(reference *r, const light_tensor *t)
{
    r->n = (int)t->numel;
    assert_int_equal(light_tensor_read(t, LIGHT_F64, r->p, sizeof r->p), LIGHT_OK);
}

static void adamw(reference *r, const double *g)
{
    r->t++;
    for (int i = 0; i < r->n; i++) {
        r->p[i] *= 1 - 0.01 * 0.01;
        r->m[i] = 0.9 * r->m[i] + 0.1 * g[i];
        r->v[i] = 0.999 * r->v[i] + 0.001 * g[i] * g[i];
        double m_hat = r->m[i] / (1 - pow(0.9, r->t)), v_hat = r->v[i] / (1 - pow(0.999, r->t));
        r->p[i] -= 0.01 * m_hat / (sqrt(v_hat) + 1e-8);
    }
}

static void compare(const light_tensor *t, const reference *r, int steps)
{
    double p[A];
    assert_int_equal(light_tensor_read(t, LIGHT_F64, p, sizeof p), LIGHT_OK);
    /* A step rounds the parameter once, and an update of at most about 0.01 a few times. */
    for (int i = 0; i < r->n; i++) assert_near(p[i], r->p[i], (1 + steps) * FLT_EPSILON * 2);
}

static void steps_are_those_of_the_reference(void **state)
{
    (void)state;
    light_optimizer *optimizer = add(light_parameters(&m->base));
    scale_losses(false);
    scaler->attrs.growth_interval = 5;
    reference a = {0}, b = {0};
    read_into(&a, m->a);
    read_into(&b, m->b);
    double scale = 65536;
    int good = 0, skipped = 0;
    for (int k = 0; k < 400; k++) {
        double ga[A], gb[B];
        float before[A], after[A];
        bool found = k % 7 == 3 || k % 31 < 2, with_b = k > 20 && k / 25 % 3 != 1;
        assert_int_equal(light_step_begin(s), LIGHT_OK);
        for (int i = 0; i < A; i++) ga[i] = (double)(float)sin(k * 0.3 + i);
        for (int i = 0; i < B; i++) gb[i] = (double)(float)cos(k * 0.7 + i);
        set_grad(m->a, ga, scale);
        set_grad(m->b, gb, scale);
        m->b->grad_fresh = !with_b;
        float bad = k % 2 ? INFINITY : NAN;
        light_tensor *last = with_b ? m->b : m->a;
        if (found) device_write(test_device(), (float *)last->grad->data + last->numel - 1, &bad, sizeof bad);
        assert_int_equal(light_tensor_read(m->a, LIGHT_F32, before, sizeof before), LIGHT_OK);
        step(0);
        assert_int_equal(light_scaler_update(scaler, s), LIGHT_OK);

        assert_int_equal(light_tensor_read(m->a, LIGHT_F32, after, sizeof after), LIGHT_OK);
        assert_int_equal(memcmp(before, after, sizeof before) == 0, found);
        if (found) {
            skipped++, good = 0, scale /= 2;
        } else {
            adamw(&a, ga);
            if (with_b) adamw(&b, gb);
            if (++good == 5) good = 0, scale *= 2;
        }
        assert_true(scale_now() == scale);
        compare(m->a, &a, k);
        compare(m->b, &b, k);
    }
    assert_true(skipped > 50 && a.t == 400 - skipped && b.t < a.t);
    assert_int_equal(light_optimizer_settle(optimizer), LIGHT_OK);
    assert_int_equal(optimizer->groups[0].entries[0].steps, a.t);
    assert_int_equal(optimizer->groups[0].entries[1].steps, b.t);
}

/* ---- the host ---------------------------------------------------------------- */

static int transfers;

static light_status count_transfer(light_device *device, void *to, const void *from, size_t bytes,
                                   light_copy_kind kind)
{
    (void)device, (void)kind;
    transfers++;
    memcpy(to, from, bytes);
    return LIGHT_OK;
}

/* A device whose memory the host can only see through `copy`. */
static void a_step_waits_for_no_answer_from_the_device(void **state)
{
    light_backend backend = light_cpu_backend;
    light_device device = *light_device_cpu();
    double g[A];
    (void)state;
    if (!test_device()->is_host) skip(); /* it plays a device of its own */
    backend.copy = count_transfer;
    device.backend = &backend;
    device.is_host = false;
    light_optimizer *optimizer = add(light_parameters(&m->base));
    optimizer->device = &device;
    assert_int_equal(light_scaler_new(&scaler, optimizers, &device, false), LIGHT_OK);
    optimizer->device = light_device_cpu();
    s->grad_scale = &scaler->scale;
    for (int k = 0; k < 60; k++) {
        assert_int_equal(light_step_begin(s), LIGHT_OK);
        for (int i = 0; i < A; i++) g[i] = k % 7 == 3 ? (double)INFINITY : cos(k + i);
        set_grad(m->a, g, 1024);
        set_grad(m->b, g, 1024);
        m->b->grad_fresh = k < 30;
        step(0);
        assert_int_equal(light_scaler_update(scaler, s), LIGHT_OK);
        /* In the first step, and where b joins in: what was skipped so far is taken off. */
        assert_int_equal(transfers > 0, k == 0 || k == 30);
        transfers = 0;
    }
    assert_int_equal(light_optimizer_settle(optimizer), LIGHT_OK);
    assert_int_equal(transfers, 2);
    assert_int_equal(optimizer->groups[0].entries[0].steps, 60 - 9);
    assert_int_equal(optimizer->groups[0].entries[1].steps, 30 - 5);
    light_scaler_free(scaler);
    scaler = NULL;
}

/* ---- several optimizers ------------------------------------------------------ */

static bool is_a(const light_parameter *p, void *user)
{
    return (p->name[0] == 'a') == (user == NULL);
}

static void one_optimizer_skips_and_the_other_goes_on(void **state)
{
    static int other;
    const double ones[A] = {1, 1, 1}, bad[A] = {(double)INFINITY};
    (void)state;
    light_optimizer *first = add(light_parameters_where(&m->base, is_a, NULL));
    light_optimizer *second = add(light_parameters_where(&m->base, is_a, &other));
    scale_losses(true);
    reference a = {0}, b = {0};
    read_into(&a, m->a);
    read_into(&b, m->b);
    for (int k = 0; k < 6; k++) {
        assert_int_equal(light_step_begin(s), LIGHT_OK);
        set_grad(m->a, k < 3 ? bad : ones, scale_now());
        set_grad(m->b, ones, scale_now());
        step(0);
        step(1);
        if (k == 0) { /* twice before the update: now its gradients are good */
            set_grad(m->a, ones, 65536);
            step(0);
            adamw(&a, ones);
        }
        assert_true(scale_now() == ldexp(65536, -(k < 3 ? k : 3))); /* the same for all steps of a batch */
        assert_int_equal(light_scaler_update(scaler, s), LIGHT_OK);
        assert_true(scale_now() == ldexp(65536, -(k < 3 ? k + 1 : 3)));
        if (k >= 3) adamw(&a, ones);
        adamw(&b, ones);
        compare(m->a, &a, k);
        compare(m->b, &b, k);
    }
    assert_int_equal(light_optimizer_settle(first), LIGHT_OK);
    assert_int_equal(light_optimizer_settle(second), LIGHT_OK);
    assert_int_equal(first->groups[0].entries[0].steps, 4);
    assert_int_equal(second->groups[0].entries[0].steps, 6);
}

/* ---- state --------------------------------------------------------------------- */

static void state_comes_back(void **state)
{
    const double bad[A] = {(double)NAN};
    double scale, tracker;
    (void)state;
    add(light_parameters(&m->base));
    scale_losses(false);
    set_grad(m->a, bad, 1);
    step(0);
    assert_int_equal(light_scaler_update(scaler, s), LIGHT_OK);
    for (int k = 0; k < 3; k++) {
        set_grad(m->a, (double[A]){1}, 1);
        step(0);
        assert_int_equal(light_scaler_update(scaler, s), LIGHT_OK);
    }
    light_state *saved = light_state_new(), *again = light_state_new();
    assert_int_equal(light_scaler_save(scaler, saved), LIGHT_OK);
    light_scaler_free(scaler);
    scaler = NULL;
    scale_losses(true);
    assert_int_equal(light_scaler_load(scaler, saved), LIGHT_OK);
    assert_int_equal(light_scaler_save(scaler, again), LIGHT_OK);
    assert_int_equal(light_state_get_double(again, "scale", &scale), LIGHT_OK);
    assert_int_equal(light_state_get_double(again, "growth_tracker", &tracker), LIGHT_OK);
    assert_true(scale == 32768 && tracker == 3);
    light_state_free(saved);
    light_state_free(again);
}

/* ---- who begins a backward, and who clips -------------------------------------- */

static void read_grad(const light_tensor *t, double g[A])
{
    assert_int_equal(light_tensor_read(t->grad, LIGHT_F64, g, A * sizeof *g), LIGHT_OK);
}

static void backward_begins_with_the_scale(void **state)
{
    double plain[A], scaled[A];
    (void)state;
    add(light_parameters(&m->base));
    for (int way = 0; way < 3; way++) {
        for (int with = 0; with < 2; with++) {
            if (with) scale_losses(false);
            assert_int_equal(light_step_begin(s), LIGHT_OK);
            light_grad_zero(m->a);
            light_tensor *y = light_square(s, m->a);
            if (way == 0)
                light_backward(s, light_sum(s, y, LIGHT_ALL, false));
            else if (way == 1)
                light_backward_weighted(s, light_sum(s, y, LIGHT_ALL, true), 0.25);
            else
                light_backward_from(s, y, light_full(s, LIGHT_SHAPE(3, 5), 3, LIGHT_F32));
            assert_int_equal(light_step_status(s), LIGHT_OK);
            read_grad(m->a, with ? scaled : plain);
        }
        for (int i = 0; i < A; i++) assert_true(plain[i] != 0 && scaled[i] == 65536 * plain[i]);
        s->grad_scale = NULL;
        light_scaler_free(scaler);
        scaler = NULL;
    }
}

/* Gradients and limits that come out as without the scale, to the bit: it is a power of two. */
static void clipping_by_hand_knows_the_scale(void **state)
{
    double g[A], plain[A], scaled[A], norms[2];
    (void)state;
    add(light_parameters(&m->base));
    for (int i = 0; i < A; i++) g[i] = sin(i + 1);
    for (int way = 0; way < 2; way++) {
        for (int with = 0; with < 2; with++) {
            light_tensor *norm = NULL;
            if (with) scale_losses(false);
            assert_int_equal(light_step_begin(s), LIGHT_OK);
            set_grad(m->a, g, with ? 65536 : 1);
            if (way == 0)
                norm = light_clip_grad_norm(s, light_parameters(&m->base), 0.5);
            else
                light_clip_grad_value(s, light_parameters(&m->base), 0.25);
            assert_int_equal(light_step_status(s), LIGHT_OK);
            if (norm) assert_int_equal(light_item(norm, &norms[with]), LIGHT_OK);
            read_grad(m->a, with ? scaled : plain);
        }
        assert_true(way == 1 || norms[0] == norms[1]);
        for (int i = 0; i < A; i++) assert_true(fabs(plain[i]) < fabs(g[i]) || way == 1);
        for (int i = 0; i < A; i++) assert_true(scaled[i] == 65536 * plain[i]);
        s->grad_scale = NULL;
        light_scaler_free(scaler);
        scaler = NULL;
    }
}

static void clipping_values_does_not_hide_an_overflow(void **state)
{
    const double g[A] = {1, (double)INFINITY, 2};
    float before[A], after[A];
    (void)state;
    add(light_parameters(&m->base));
    scale_losses(false);
    set_grad(m->a, g, 1);
    assert_int_equal(light_tensor_read(m->a, LIGHT_F32, before, sizeof before), LIGHT_OK);
    light_clip_grad_value(s, light_parameters(&m->base), 0.25);
    assert_int_equal(light_step_status(s), LIGHT_OK);
    step(0);
    assert_int_equal(light_tensor_read(m->a, LIGHT_F32, after, sizeof after), LIGHT_OK);
    assert_memory_equal(before, after, sizeof before);
    assert_int_equal(light_scaler_update(scaler, s), LIGHT_OK);
    assert_true(scale_now() == 32768);
}

static void the_optimizers_factor_takes_the_scale_away(void **state)
{
    double g[A], norm[2], factor[2];
    (void)state;
    light_optimizer *optimizer = add(light_parameters(&m->base));
    for (int i = 0; i < A; i++) g[i] = cos(i);
    for (int with = 0; with < 2; with++) {
        light_tensor *n, *f;
        if (with) scale_losses(false);
        set_grad(m->a, g, with ? 65536 : 1);
        assert_int_equal(light_grad_norm_factor(s, optimizer, 0.5, &n, &f), LIGHT_OK);
        assert_int_equal(light_item(n, &norm[with]), LIGHT_OK);
        assert_int_equal(light_item(f, &factor[with]), LIGHT_OK);
    }
    assert_true(norm[1] == norm[0] && factor[0] < 1 && factor[1] * 65536 == factor[0]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(steps_are_those_of_the_reference),
        TEST(a_step_waits_for_no_answer_from_the_device),
        TEST(one_optimizer_skips_and_the_other_goes_on),
        TEST(state_comes_back),
        TEST(backward_begins_with_the_scale),
        TEST(clipping_by_hand_knows_the_scale),
        TEST(clipping_values_does_not_hide_an_overflow),
        TEST(the_optimizers_factor_takes_the_scale_away),
    };
    return cmocka_run_group_tests_name("scaler", tests, NULL, NULL);
}
