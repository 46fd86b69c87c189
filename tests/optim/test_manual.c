/* SPDX-License-Identifier: Apache-2.0 */
/* Manual optimization: toggling, steps through the trainer's hooks, failures that stay in the step. */
#include "optim/optimizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

typedef struct {
    light_module base;
    light_tensor *g, *shared, *d, *frozen;
} net;

static light_status net_init(light_module *self)
{
    net *m = (net *)self;
    LIGHT_TRY(light_add_parameter(self, &m->g, "g", LIGHT_SHAPE(2), LIGHT_INIT_ONES));
    LIGHT_TRY(light_add_parameter(self, &m->shared, "gd", LIGHT_SHAPE(2), LIGHT_INIT_ONES));
    LIGHT_TRY(light_add_parameter(self, &m->d, "d", LIGHT_SHAPE(2), LIGHT_INIT_ONES));
    return light_add_parameter(self, &m->frozen, "d_frozen", LIGHT_SHAPE(2), LIGHT_INIT_ONES);
}

static const light_module_vtable net_vtable = {LIGHT_MODULE(net), .init = net_init};

static bool named_with(const light_parameter *p, void *letter)
{
    return strchr(p->name, *(const char *)letter);
}

typedef struct {
    net *m;
    light_optimizers *list;
    light_optimizer *g, *d;
    light_step *s;
} fixture;

static int setup(void **state)
{
    static fixture f;
    f.m = (net *)light_module_new(&net_vtable);
    if (!f.m || light_module_build(&f.m->base, 1) != LIGHT_OK) return -1;
    light_set_requires_grad(f.m->frozen, false);
    if (light_optimizers_new(&f.list) != LIGHT_OK) return -1;
    f.g = light_sgd(light_parameters_where(&f.m->base, named_with, "g"), .lr = 1);
    f.d = light_sgd(light_parameters_where(&f.m->base, named_with, "d"), .lr = 1);
    if (light_optimizers_add(f.list, f.g, NULL) != LIGHT_OK) return -1;
    if (light_optimizers_add(f.list, f.d, NULL) != LIGHT_OK) return -1;
    *state = &f;
    return light_step_new(&f.s, .seed = 1) == LIGHT_OK && light_step_begin(f.s) == LIGHT_OK ? 0 : -1;
}

static int teardown(void **state)
{
    fixture *f = *state;
    light_step_free(f->s);
    light_optimizers_free(f->list);
    light_module_free(&f->m->base);
    return 0;
}

static void expect_flags(const net *m, bool g, bool shared, bool d)
{
    assert_int_equal(light_requires_grad(m->g), g);
    assert_int_equal(light_requires_grad(m->shared), shared);
    assert_int_equal(light_requires_grad(m->d), d);
    assert_false(light_requires_grad(m->frozen)); /* never thawed by a toggle */
}

static void test_toggling(void **state)
{
    fixture *f = *state;
    light_toggle_optimizer(f->s, f->g);
    expect_flags(f->m, true, true, false);
    light_untoggle_optimizer(f->s, f->g);
    expect_flags(f->m, true, true, true);
    light_toggle_optimizer(f->s, f->d);
    expect_flags(f->m, false, true, true);
    light_toggle_optimizer(f->s, f->g);
    assert_int_equal(light_step_status(f->s), LIGHT_ERR_STATE);
    light_untoggle_optimizer(f->s, f->d); /* also after a failure */
    expect_flags(f->m, true, true, true);
}

typedef struct {
    int before, after, zero;
    light_status result;
} counts;

static light_status before_step(void *user, light_step *s, light_optimizer *optimizer, light_tensor **factor)
{
    (void)s;
    (void)optimizer;
    (void)factor;
    counts *c = user;
    c->before++;
    return c->result == LIGHT_OK ? LIGHT_OK : light_fail(c->result, "stopped by the hook");
}

static light_status after_step(void *user, light_step *s, light_optimizer *optimizer)
{
    (void)s;
    (void)optimizer;
    ((counts *)user)->after++;
    return LIGHT_OK;
}

static light_status before_zero(void *user, light_step *s, light_optimizer *optimizer)
{
    (void)s;
    (void)optimizer;
    ((counts *)user)->zero++;
    return LIGHT_OK;
}

static float first(const light_tensor *t)
{
    float v[2];
    assert_int_equal(light_tensor_read(t, LIGHT_F32, v, sizeof v), LIGHT_OK);
    return v[0];
}

static void test_steps_pass_the_hooks(void **state)
{
    fixture *f = *state;
    counts c = {0};
    const light_optimizer_hooks hooks = {
        .user = &c, .before_step = before_step, .after_step = after_step, .before_zero_grad = before_zero};
    f->g->hooks = &hooks;
    float grad[2] = {0.25F, 0.25F};
    assert_int_equal(light_tensor_write(f->m->g->grad, LIGHT_F32, grad, sizeof grad), LIGHT_OK);
    f->m->g->grad_fresh = false;
    light_optimizer_step(f->s, f->g);
    assert_true(first(f->m->g) == 0.75F);
    assert_int_equal(c.before, 1);
    assert_int_equal(c.after, 1);
    light_zero_grad(f->s, f->g);
    assert_int_equal(c.zero, 1);
    assert_null(light_grad(f->m->g));

    c.result = LIGHT_ERR_USER;
    f->m->g->grad_fresh = false;
    light_optimizer_step(f->s, f->g);
    assert_true(first(f->m->g) == 0.75F);
    assert_int_equal(c.after, 1);
    assert_int_equal(light_step_status(f->s), LIGHT_ERR_USER);
    /* After the failure nothing happens any more, also with an optimizer that could not be had. */
    light_optimizer_step(f->s, f->g);
    light_zero_grad(f->s, f->g);
    light_optimizer_step(f->s, NULL);
    assert_int_equal(c.before, 2);
    assert_int_equal(c.zero, 1);
    f->g->hooks = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_toggling, setup, teardown),
        cmocka_unit_test_setup_teardown(test_steps_pass_the_hooks, setup, teardown),
    };
    return cmocka_run_group_tests_name("manual", tests, NULL, NULL);
}
