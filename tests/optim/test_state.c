/* SPDX-License-Identifier: Apache-2.0 */
/* What a checkpoint takes out of an optimizer, put into another one, makes both go on with the same bits. */
#include "optim/optimizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

typedef struct {
    light_module base;
    light_tensor *a, *b;
} net;

static light_status net_init(light_module *self)
{
    net *m = (net *)self;
    LIGHT_TRY(light_add_parameter(self, &m->a, "a", LIGHT_SHAPE(3, 5), LIGHT_INIT_UNIFORM(-1, 1)));
    return light_add_parameter(self, &m->b, "b", LIGHT_SHAPE(7), LIGHT_INIT_UNIFORM(-1, 1));
}

static const light_module_vtable net_vtable = {LIGHT_MODULE(net), .init = net_init};

static net *make(void)
{
    net *m = (net *)light_module_new(&net_vtable);
    assert_int_equal(light_module_build(&m->base, 1), LIGHT_OK);
    return m;
}

static bool is_a(const light_parameter *p, void *user)
{
    return (p->name[0] == 'a') == *(bool *)user;
}

static light_optimizer *make_optimizer(net *m)
{
    bool yes = true, no = false;
    light_optimizer *opt =
        light_adamw(light_parameters_where(&m->base, is_a, &yes), .lr = 0.1, .amsgrad = true);
    assert_int_equal(light_optimizer_add_group(opt, light_parameters_where(&m->base, is_a, &no), .lr = 0.2),
                     LIGHT_OK);
    return opt;
}

static void train(net *m, light_optimizer *opt, int from, int to)
{
    for (int step = from; step < to; step++) {
        light_tensor *all[] = {m->a, m->b};
        for (int which = 0; which < 2; which++) {
            float g[15];
            for (int i = 0; i < 15; i++) g[i] = sinf((float)(step * 31 + i * 7 + which));
            assert_int_equal(light_tensor_write(all[which]->grad, LIGHT_F32, g, sizeof g), LIGHT_OK);
            all[which]->grad_fresh = which == 1 && step == 1; /* b misses a step */
        }
        assert_int_equal(light_optimizer_step_now(opt, NULL), LIGHT_OK);
    }
}

static void copy(light_tensor *to, const light_tensor *from)
{
    float values[15];
    assert_int_equal(light_tensor_read(from, LIGHT_F32, values, sizeof values), LIGHT_OK);
    assert_int_equal(light_tensor_write(to, LIGHT_F32, values, sizeof values), LIGHT_OK);
}

static void expect_same(const light_tensor *a, const light_tensor *b)
{
    float x[15], y[15];
    assert_int_equal(light_tensor_read(a, LIGHT_F32, x, sizeof x), LIGHT_OK);
    assert_int_equal(light_tensor_read(b, LIGHT_F32, y, sizeof y), LIGHT_OK);
    assert_memory_equal(x, y, (size_t)light_numel(a) * sizeof *x);
}

static void test_round_trip(void **state)
{
    (void)state;
    net *m = make(), *n = make();
    light_optimizer *one = make_optimizer(m), *two = make_optimizer(n);
    train(m, one, 0, 4);
    assert_int_equal(light_optimizer_set_lr(one, 1, 0.05), LIGHT_OK);

    light_state *numbers = light_state_new();
    assert_int_equal(light_optimizer_save(one, numbers), LIGHT_OK);
    copy(n->a, m->a);
    copy(n->b, m->b);
    light_optimizer_state from, to;
    int64_t count = 0;
    for (; light_optimizer_state_at(one, count, &from); count++) {
        assert_true(light_shape_equal(light_shape_of(&from.tensor), light_shape_of(from.parameter->tensor)));
        assert_true(light_optimizer_find_state(two, from.parameter->path, from.name, &to));
        copy(&to.tensor, &from.tensor);
    }
    assert_int_equal(count, 6); /* three of each parameter */
    assert_int_equal(light_optimizer_load(two, numbers), LIGHT_OK);
    light_state_free(numbers);

    assert_int_equal(two->groups[0].entries[0].steps, 4);
    assert_int_equal(two->groups[1].entries[0].steps, 3);
    assert_true(light_optimizer_lr(two, 1) == 0.05);
    train(m, one, 4, 8);
    train(n, two, 4, 8);
    expect_same(m->a, n->a);
    expect_same(m->b, n->b);
    light_optimizer_free(one);
    light_optimizer_free(two);
    light_module_free(&m->base);
    light_module_free(&n->base);
}

static void test_names(void **state)
{
    (void)state;
    net *m = make();
    light_optimizer *opt = light_rmsprop(light_parameters(&m->base), .momentum = 0.9);
    light_optimizer_state item;
    const char *want[][2] = {
        {"a", "square_avg"}, {"a", "momentum_buffer"}, {"b", "square_avg"}, {"b", "momentum_buffer"}};
    int64_t i = 0;
    for (; light_optimizer_state_at(opt, i, &item); i++) {
        assert_string_equal(item.parameter->path, want[i][0]);
        assert_string_equal(item.name, want[i][1]);
    }
    assert_int_equal(i, 4);
    assert_false(light_optimizer_find_state(opt, "a", "grad_avg", &item));
    assert_false(light_optimizer_find_state(opt, "c", "square_avg", &item));
    light_optimizer_free(opt);

    opt = light_sgd(light_parameters(&m->base)); /* has no state at all */
    assert_false(light_optimizer_state_at(opt, 0, &item));
    light_optimizer_free(opt);
    light_module_free(&m->base);
}

static void test_state_of_another_optimizer(void **state)
{
    (void)state;
    net *m = make();
    light_optimizer *sgd = light_sgd(light_parameters(&m->base)), *adamw = make_optimizer(m);
    light_state *numbers = light_state_new();
    assert_int_equal(light_optimizer_save(sgd, numbers), LIGHT_OK);
    assert_int_not_equal(light_optimizer_load(adamw, numbers), LIGHT_OK);
    assert_non_null(
        strstr(light_error_message(), "the state is of sgd with 1 groups, the optimizer is adamw with 2"));
    light_state_free(numbers);
    numbers = light_state_new();
    assert_int_not_equal(light_optimizer_load(adamw, numbers), LIGHT_OK);
    assert_true(light_optimizer_lr(adamw, 0) == 0.1); /* left alone */
    light_state_free(numbers);
    light_optimizer_free(sgd);
    light_optimizer_free(adamw);
    light_module_free(&m->base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_state_of_another_optimizer),
    };
    return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}
