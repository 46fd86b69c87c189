/* SPDX-License-Identifier: Apache-2.0 */
/* Every optimizer over ten steps against its published formula, computed here in double; groups, skipped parameters,
 * options, and neighbouring parameters that go through the kernel together. */
#include "optim/optimizer.h"

#include "base/memory.h"
#include "nn/flat.h"

#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/near.h"

#define STEPS 10

/* ---- a module with three parameters of odd sizes ------------------------ */

typedef struct {
    light_module base;
    light_tensor *a, *b, *c;
} net;

static light_status net_init(light_module *self)
{
    net *m = (net *)self;
    LIGHT_TRY(light_add_parameter(self, &m->a, "a", LIGHT_SHAPE(5, 7), LIGHT_INIT_UNIFORM(-1, 1)));
    LIGHT_TRY(light_add_parameter(self, &m->b, "b", LIGHT_SHAPE(3), LIGHT_INIT_UNIFORM(-1, 1)));
    return light_add_parameter(self, &m->c, "c", LIGHT_SHAPE(2, 2, 9), LIGHT_INIT_UNIFORM(-1, 1));
}

static const light_module_vtable net_vtable = {LIGHT_MODULE(net), .init = net_init};
#define MOST 36

static net *make(light_dtype dtype)
{
    light_module *m = light_module_new(&net_vtable);
    assert_non_null(m);
    m->dtype = dtype;
    assert_int_equal(light_module_build(m, 3), LIGHT_OK);
    return (net *)m;
}

static void read(const light_tensor *t, double *to)
{
    assert_int_equal(light_tensor_read(t, LIGHT_F64, to, MOST * sizeof *to), LIGHT_OK);
}

/* The gradient as if backward had made it. */
static void set_grad(light_tensor *t, const double *values)
{
    assert_int_equal(light_tensor_write(t->grad, LIGHT_F64, values, (size_t)t->numel * sizeof *values),
                     LIGHT_OK);
    t->grad_fresh = false;
}

static double gradient(int step, int which, int64_t i)
{
    return sin(0.37 * (double)(i + 1) * (step + 1) + which) * (0.1 + 0.3 * which) + 0.05 * cos((double)i);
}

static void set_grads(net *m, int step)
{
    light_tensor *all[] = {m->a, m->b, m->c};
    double g[MOST];
    for (int which = 0; which < 3; which++) {
        for (int64_t i = 0; i < all[which]->numel; i++) g[i] = gradient(step, which, i);
        set_grad(all[which], g);
    }
}

/* ---- the formulas, one element at a time -------------------------------- */

typedef struct {
    double p, m, v, extra;
} element;

typedef void (*formula)(element *e, double g, int t, const light_optimizer_options *o);

static double decayed(const element *e, double g, const light_optimizer_options *o)
{
    return (o->maximize ? -g : g) + o->weight_decay * e->p;
}

static void sgd(element *e, double g, int t, const light_optimizer_options *o)
{
    g = decayed(e, g, o);
    if (o->momentum != 0) {
        e->m = t == 1 ? g : o->momentum * e->m + (1 - o->dampening) * g;
        g = o->nesterov ? g + o->momentum * e->m : e->m;
    }
    e->p -= o->lr * g;
}

static void adam_update(element *e, double g, int t, const light_optimizer_options *o)
{
    double b1 = o->betas[0], b2 = o->betas[1];
    e->m = b1 * e->m + (1 - b1) * g;
    e->v = b2 * e->v + (1 - b2) * g * g;
    double v = e->v;
    if (o->amsgrad) v = e->extra = fmax(e->extra, e->v);
    double m_hat = e->m / (1 - pow(b1, t)), v_hat = v / (1 - pow(b2, t));
    e->p -= o->lr * m_hat / (sqrt(v_hat) + o->eps);
}

static void adam(element *e, double g, int t, const light_optimizer_options *o)
{
    adam_update(e, decayed(e, g, o), t, o);
}

static void adamw(element *e, double g, int t, const light_optimizer_options *o)
{
    e->p *= 1 - o->lr * o->weight_decay;
    adam_update(e, o->maximize ? -g : g, t, o);
}

static void rmsprop(element *e, double g, int t, const light_optimizer_options *o)
{
    (void)t;
    g = decayed(e, g, o);
    e->v = o->alpha * e->v + (1 - o->alpha) * g * g;
    double v = e->v;
    if (o->centered) {
        e->extra = o->alpha * e->extra + (1 - o->alpha) * g;
        v -= e->extra * e->extra;
    }
    double d = g / (sqrt(v) + o->eps);
    if (o->momentum != 0) d = e->m = o->momentum * e->m + d;
    e->p -= o->lr * d;
}

static void adagrad(element *e, double g, int t, const light_optimizer_options *o)
{
    g = decayed(e, g, o);
    if (t == 1) e->v = o->initial_accumulator_value;
    e->v += g * g;
    e->p -= o->lr / (1 + (t - 1) * o->lr_decay) * g / (sqrt(e->v) + o->eps);
}

static void lion(element *e, double g, int t, const light_optimizer_options *o)
{
    (void)t;
    if (o->maximize) g = -g;
    e->p *= 1 - o->lr * o->weight_decay;
    double u = o->betas[0] * e->m + (1 - o->betas[0]) * g;
    e->p -= o->lr * ((u > 0) - (u < 0));
    e->m = o->betas[1] * e->m + (1 - o->betas[1]) * g;
}

/* `full`: the options with PyTorch's defaults written out. */
static void compare(light_optimizer *(*make_optimizer)(light_parameter_set, const light_optimizer_options *),
                    light_optimizer_options given, light_optimizer_options full, formula f, light_dtype dtype)
{
    net *m = make(dtype);
    light_tensor *all[] = {m->a, m->b, m->c};
    element e[3][MOST] = {{{0}}};
    double values[MOST];
    for (int which = 0; which < 3; which++) {
        read(all[which], values);
        for (int i = 0; i < all[which]->numel; i++) e[which][i].p = values[i];
    }
    light_optimizer *opt = make_optimizer(light_parameters(&m->base), &given);
    if (!opt) fail_msg("%s", light_error_message());
    double tolerance = (dtype == LIGHT_F64 ? DBL_EPSILON : FLT_EPSILON) * 64;
    for (int step = 0; step < STEPS; step++) {
        set_grads(m, step);
        assert_int_equal(light_optimizer_step_now(opt, NULL), LIGHT_OK);
        light_optimizer_zero_grad(opt);
        assert_null(light_grad(m->a));
        for (int which = 0; which < 3; which++) {
            read(all[which], values);
            for (int i = 0; i < all[which]->numel; i++) {
                /* The optimizer sees the gradient rounded to its dtype. */
                double g = gradient(step, which, i);
                f(&e[which][i], dtype == LIGHT_F64 ? g : (double)(float)g, step + 1, &full);
                if (fabs(values[i] - e[which][i].p) > tolerance)
                    fail_msg("%s step %d parameter %d element %d: %.9g, should be %.9g",
                             light_optimizer_name(opt), step, which, i, values[i], e[which][i].p);
            }
        }
    }
    light_optimizer_free(opt);
    light_module_free(&m->base);
}

static void both(light_optimizer *(*make_optimizer)(light_parameter_set, const light_optimizer_options *),
                 light_optimizer_options given, light_optimizer_options full, formula f)
{
    compare(make_optimizer, given, full, f, LIGHT_F32);
    compare(make_optimizer, given, full, f, LIGHT_F64);
}

#define OPTIONS(...) ((light_optimizer_options){__VA_ARGS__})

static void test_sgd(void **state)
{
    (void)state;
    both(light_sgd_with, OPTIONS(0), OPTIONS(.lr = 1e-3), sgd);
    light_optimizer_options o = {.lr = 0.1, .momentum = 0.9, .dampening = 0.2, .weight_decay = 0.01};
    both(light_sgd_with, o, o, sgd);
    o = OPTIONS(.lr = 0.1, .momentum = 0.9, .nesterov = true, .maximize = true);
    both(light_sgd_with, o, o, sgd);
}

static void test_adam(void **state)
{
    (void)state;
    light_optimizer_options full = {.lr = 1e-3, .betas = {0.9, 0.999}, .eps = 1e-8};
    both(light_adam_with, OPTIONS(0), full, adam);
    light_optimizer_options o = {.lr = 0.03,
                                 .betas = {0.8, 0.95},
                                 .eps = 1e-6,
                                 .weight_decay = 0.1,
                                 .amsgrad = true,
                                 .maximize = true};
    both(light_adam_with, o, o, adam);
}

static void test_adamw(void **state)
{
    (void)state;
    light_optimizer_options full = {.lr = 1e-3, .betas = {0.9, 0.999}, .eps = 1e-8, .weight_decay = 1e-2};
    both(light_adamw_with, OPTIONS(0), full, adamw);
    full.weight_decay = 0;
    full.betas[0] = 0;
    both(light_adamw_with, OPTIONS(.weight_decay = LIGHT_ZERO, .betas = {light_exactly(0)}), full, adamw);
    light_optimizer_options o = {
        .lr = 0.02, .betas = {0.85, 0.9}, .eps = 1e-7, .weight_decay = 0.3, .amsgrad = true};
    both(light_adamw_with, o, o, adamw);
}

static void test_rmsprop(void **state)
{
    (void)state;
    both(light_rmsprop_with, OPTIONS(0), OPTIONS(.lr = 1e-2, .alpha = 0.99, .eps = 1e-8), rmsprop);
    light_optimizer_options o = {
        .lr = 0.005, .alpha = 0.9, .eps = 1e-3, .weight_decay = 0.05, .momentum = 0.7};
    both(light_rmsprop_with, o, o, rmsprop);
    o.centered = true;
    both(light_rmsprop_with, o, o, rmsprop);
    o.momentum = 0;
    both(light_rmsprop_with, o, o, rmsprop);
}

static void test_adagrad(void **state)
{
    (void)state;
    both(light_adagrad_with, OPTIONS(0), OPTIONS(.lr = 1e-2, .eps = 1e-10), adagrad);
    light_optimizer_options o = {
        .lr = 0.1, .lr_decay = 0.05, .weight_decay = 0.02, .initial_accumulator_value = 0.5, .eps = 1e-6};
    both(light_adagrad_with, o, o, adagrad);
}

static void test_lion(void **state)
{
    (void)state;
    both(light_lion_with, OPTIONS(0), OPTIONS(.lr = 1e-4, .betas = {0.9, 0.99}), lion);
    light_optimizer_options o = {.lr = 0.01, .betas = {0.8, 0.95}, .weight_decay = 0.1, .maximize = true};
    both(light_lion_with, o, o, lion);
}

/* ---- what PyTorch 2.15 gave ---------------------------------------------- */

typedef struct {
    light_module base;
    light_tensor *p;
} three;

static light_status three_init(light_module *self)
{
    return light_add_parameter(self, &((three *)self)->p, "p", LIGHT_SHAPE(3), LIGHT_INIT_ZEROS);
}

static void expect_torch(light_optimizer *(*make_optimizer)(light_parameter_set,
                                                            const light_optimizer_options *),
                         light_optimizer_options o, double a, double b, double c)
{
    const light_module_vtable vtable = {LIGHT_MODULE(three), .init = three_init};
    const double start[] = {0.5, -1.25, 2.0}, want[] = {a, b, c};
    double g[3], have[3];
    three *m = (three *)light_module_new(&vtable);
    m->base.dtype = LIGHT_F64;
    assert_int_equal(light_module_build(&m->base, 1), LIGHT_OK);
    assert_int_equal(light_tensor_write(m->p, LIGHT_F64, start, sizeof start), LIGHT_OK);
    light_optimizer *opt = make_optimizer(light_parameters(&m->base), &o);
    assert_non_null(opt);
    for (int t = 0; t < 10; t++) {
        for (int i = 0; i < 3; i++) g[i] = 0.3 * (i + 1) * sin(1.0 * t + i) + 0.1;
        set_grad(m->p, g);
        assert_int_equal(light_optimizer_step_now(opt, NULL), LIGHT_OK);
    }
    assert_int_equal(light_tensor_read(m->p, LIGHT_F64, have, sizeof have), LIGHT_OK);
    for (int i = 0; i < 3; i++) assert_near(have[i], want[i], 64 * DBL_EPSILON);
    light_optimizer_free(opt);
    light_module_free(&m->base);
}

static void test_the_numbers_are_pytorchs(void **state)
{
    (void)state;
    expect_torch(light_sgd_with, OPTIONS(.lr = 0.1, .momentum = 0.9, .dampening = 0.1, .weight_decay = 0.01),
                 -0.07349411961614283, -2.00752236617144, 1.3905068561584113);
    expect_torch(light_sgd_with, OPTIONS(.lr = 0.1, .momentum = 0.9, .nesterov = true, .weight_decay = 0.01),
                 -0.22554464196972732, -2.1346597886847354, 1.3746479077359983);
    expect_torch(light_adam_with, OPTIONS(.lr = 0.1, .weight_decay = 0.01), -0.17524577641119887,
                 -1.741323689856046, 1.7066290990018982);
    expect_torch(light_adam_with, OPTIONS(.lr = 0.1, .betas = {0.8, 0.7}, .amsgrad = true),
                 -0.09322915250681482, -1.7049671068774068, 1.7663501862010373);
    expect_torch(light_adamw_with, OPTIONS(.lr = 0.1, .weight_decay = 0.1), -0.18558688920138508,
                 -1.614207934552364, 1.5543162932595422);
    expect_torch(light_adamw_with, OPTIONS(.lr = 0.1, .weight_decay = 0.1, .amsgrad = true, .maximize = true),
                 1.0899654197628923, -0.6467472529696465, 2.063212006775675);
    expect_torch(light_rmsprop_with, OPTIONS(.lr = 0.05, .weight_decay = 0.01), -1.29600648485556,
                 -2.223152213350259, 1.605310029401663);
    expect_torch(light_rmsprop_with, OPTIONS(.lr = 0.05, .momentum = 0.6, .centered = true, .alpha = 0.9),
                 -0.9609639796900915, -2.126791342356515, 1.6191814385728225);
    expect_torch(light_adagrad_with,
                 OPTIONS(.lr = 0.3, .lr_decay = 0.1, .weight_decay = 0.01, .initial_accumulator_value = 0.2),
                 -0.013367090614180656, -1.6890261525404942, 1.7802094338777583);
}

/* ---- factor, runs, skipping --------------------------------------------- */

static void test_the_factor_scales_gradients(void **state)
{
    (void)state;
    net *m = make(LIGHT_F32);
    double before[MOST], after[MOST];
    const float half = 0.5F;
    light_tensor *factor;
    assert_int_equal(light_tensor_new(&factor, LIGHT_SCALAR, LIGHT_F32, NULL), LIGHT_OK);
    assert_int_equal(light_tensor_write(factor, LIGHT_F32, &half, sizeof half), LIGHT_OK);
    light_optimizer *opt = light_sgd(light_parameters(&m->base), .lr = 0.25);
    set_grads(m, 0);
    read(m->c, before);
    assert_int_equal(light_optimizer_step_now(opt, factor), LIGHT_OK);
    read(m->c, after);
    for (int i = 0; i < 36; i++)
        assert_near(after[i], before[i] - 0.25 * 0.5 * gradient(0, 2, i), 4 * FLT_EPSILON);
    light_tensor_free(factor);
    light_optimizer_free(opt);
    light_module_free(&m->base);
}

static void test_neighbours_make_one_run(void **state)
{
    (void)state;
    net *m = make(LIGHT_F32);
    light_optimizer *opt = light_adam(light_parameters(&m->base));
    light_optimizer_run run;
    int64_t at = 0;
    assert_false(light_optimizer_next_run(&opt->groups[0], &at, &run)); /* no gradient is there yet */
    set_grads(m, 0);
    at = 0;
    assert_true(light_optimizer_next_run(&opt->groups[0], &at, &run));
    assert_int_equal(run.n, 3);
    assert_ptr_equal(run.value.data, m->a->data);
    assert_ptr_equal(run.grad.data, m->a->grad->data);
    assert_int_equal(run.value.numel, 48 + 16 + 36); /* 35 and 3 floats, each to the next 64 bytes */
    assert_false(light_optimizer_next_run(&opt->groups[0], &at, &run));

    light_grad_zero(m->b); /* splits the run */
    at = 0;
    assert_true(light_optimizer_next_run(&opt->groups[0], &at, &run));
    assert_int_equal(run.value.numel, 35);
    assert_true(light_optimizer_next_run(&opt->groups[0], &at, &run));
    assert_ptr_equal(run.value.data, m->c->data);
    assert_int_equal(run.first, 2);
    light_optimizer_free(opt);
    light_module_free(&m->base);
}

/* PyTorch: a parameter without gradient keeps its value, its state and its own count of steps. */
static void test_parameters_without_gradient_are_skipped(void **state)
{
    (void)state;
    net *m = make(LIGHT_F64);
    element e[3] = {{0}};
    double values[MOST], before[MOST];
    light_optimizer_options full = {.lr = 1e-3, .betas = {0.9, 0.999}, .eps = 1e-8, .weight_decay = 1e-2};
    read(m->b, before);
    for (int i = 0; i < 3; i++) e[i].p = before[i];
    light_optimizer *opt = light_adamw(light_parameters(&m->base));
    int t = 0;
    for (int step = 0; step < 6; step++) {
        set_grads(m, step);
        bool skip = step % 2 == 0;
        if (skip) light_grad_zero(m->b);
        assert_int_equal(light_optimizer_step_now(opt, NULL), LIGHT_OK);
        if (!skip) t++;
        read(m->b, values);
        for (int i = 0; i < 3; i++) {
            if (!skip) adamw(&e[i], gradient(step, 1, i), t, &full);
            assert_near(values[i], e[i].p, 64 * DBL_EPSILON);
        }
    }
    assert_int_equal(opt->groups[0].entries[1].steps, 3);
    assert_int_equal(opt->groups[0].entries[2].steps, 6);
    light_optimizer_free(opt);
    light_module_free(&m->base);
}

/* ---- groups and options ------------------------------------------------- */

static bool is_bias(const light_parameter *p, void *user)
{
    return (strcmp(p->name, "b") == 0) == *(bool *)user;
}

static void test_groups(void **state)
{
    (void)state;
    net *m = make(LIGHT_F64);
    bool yes = true, no = false;
    light_optimizer *opt = light_sgd(light_parameters_where(&m->base, is_bias, &no), .lr = 0.1,
                                     .momentum = 0.5, .weight_decay = 0.2);
    assert_int_equal(light_optimizer_add_group(opt, light_parameters_where(&m->base, is_bias, &yes),
                                               .lr = 0.3, .weight_decay = LIGHT_ZERO),
                     LIGHT_OK);
    assert_int_equal(light_optimizer_groups(opt), 2);
    assert_true(light_optimizer_lr(opt, 1) == 0.3);
    assert_true(isnan(light_optimizer_lr(opt, 2)));
    const light_optimizer_options *second = light_optimizer_hyperparameters(opt, 1);
    assert_true(second->momentum == 0.5); /* as in the first group */
    assert_true(second->weight_decay == 0);
    double a[MOST], b[MOST], values[MOST];
    read(m->a, a);
    read(m->b, b);
    set_grads(m, 0);
    assert_int_equal(light_optimizer_step_now(opt, NULL), LIGHT_OK);
    read(m->a, values);
    for (int i = 0; i < 35; i++)
        assert_near(values[i], a[i] - 0.1 * (gradient(0, 0, i) + 0.2 * a[i]), 16 * DBL_EPSILON);
    read(m->b, values);
    for (int i = 0; i < 3; i++) assert_near(values[i], b[i] - 0.3 * gradient(0, 1, i), 16 * DBL_EPSILON);

    assert_int_not_equal(light_optimizer_add_group(opt, light_parameters(&m->base), .lr = 1), LIGHT_OK);
    assert_non_null(strstr(light_error_message(), "'a' is in another group"));
    assert_int_equal(light_optimizer_groups(opt), 2);
    light_optimizer_free(opt);
    light_module_free(&m->base);
}

static void expect_refusal(light_optimizer *opt, const char *text)
{
    assert_null(opt);
    if (!strstr(light_error_message(), text)) fail_msg("'%s' is not in: %s", text, light_error_message());
}

static bool nothing(const light_parameter *p, void *user)
{
    (void)p;
    (void)user;
    return false;
}

static void test_bad_options(void **state)
{
    (void)state;
    net *m = make(LIGHT_F32);
    light_parameter_set all = light_parameters(&m->base);
    expect_refusal(light_sgd(all, .lr = -1), "sgd: lr is -1");
    expect_refusal(light_sgd(all, .lr = NAN), "sgd: lr is");
    expect_refusal(light_sgd(all, .eps = 1e-8), "sgd: eps is no option of it");
    expect_refusal(light_sgd(all, .nesterov = true), "nesterov needs a momentum");
    expect_refusal(light_adam(all, .betas = {1.0}), "adam: beta1 is 1");
    expect_refusal(light_adamw(all, .momentum = 0.9), "adamw: momentum is no option of it");
    expect_refusal(light_lion(light_parameters_where(&m->base, nothing, NULL)),
                   "lion: there is no parameter");
    light_module *unbuilt = light_module_new(&net_vtable);
    expect_refusal(light_sgd(light_parameters(unbuilt)), "has not been built");
    light_module_free(unbuilt);

    light_optimizer *opt = light_sgd(all);
    assert_int_equal(light_optimizer_set_lr(opt, 0, 0.5), LIGHT_OK);
    assert_true(light_optimizer_lr(opt, 0) == 0.5);
    assert_int_not_equal(light_optimizer_set_lr(opt, 1, 0.5), LIGHT_OK);
    assert_int_not_equal(light_optimizer_set_lr(opt, 0, NAN), LIGHT_OK);
    light_optimizer_free(opt);
    light_module_free(&m->base);
}

/* ---- lists -------------------------------------------------------------- */

static void test_the_list_owns_what_it_gets(void **state)
{
    (void)state;
    light_memory_counters before = light_memory_count();
    net *m = make(LIGHT_F32);
    light_optimizers *list;
    assert_int_equal(light_optimizers_new(&list), LIGHT_OK);
    assert_int_equal(light_optimizers_add(list, light_sgd(light_parameters(&m->base)), NULL), LIGHT_OK);
    assert_int_equal(light_optimizers_add(list, light_adam(light_parameters(&m->base)),
                                          light_exponential_schedule(.gamma = 0.5)),
                     LIGHT_OK);
    assert_int_equal(list->n, 2);
    assert_null(list->entries[0].schedule);

    /* A NULL optimizer passes its error on; a schedule that failed does too. */
    assert_int_not_equal(light_optimizers_add(list, light_sgd(light_parameters(&m->base), .lr = -1),
                                              light_step_schedule(.step_size = 1)),
                         LIGHT_OK);
    assert_non_null(strstr(light_error_message(), "lr is -1"));
    assert_int_not_equal(
        light_optimizers_add(list, light_sgd(light_parameters(&m->base)), light_step_schedule()), LIGHT_OK);
    assert_non_null(strstr(light_error_message(), "step schedule: step_size"));
    assert_int_equal(list->n, 2);
    light_optimizers_free(list);
    light_module_free(&m->base);
    assert_int_equal(light_memory_count().live, before.live);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    net *m = make(LIGHT_F32);
    light_memory_counters before = light_memory_count();
    for (int64_t n = 1;; n++) {
        light_optimizers *list = NULL;
        light_memory_fail_nth(n);
        light_status status = light_optimizers_new(&list);
        if (status == LIGHT_OK)
            status = light_optimizers_add(
                list, light_adam(light_parameters(&m->base)),
                light_warmup_schedule(.steps = 3, .then = light_step_schedule(.step_size = 1)));
        light_memory_fail_nth(0);
        light_optimizers_free(list);
        assert_int_equal(light_memory_count().live, before.live);
        if (status == LIGHT_OK) break;
        assert_true(n < 100);
        assert_non_null(strstr(light_error_message(), "memory"));
    }
    light_module_free(&m->base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sgd),
        cmocka_unit_test(test_adam),
        cmocka_unit_test(test_adamw),
        cmocka_unit_test(test_rmsprop),
        cmocka_unit_test(test_adagrad),
        cmocka_unit_test(test_lion),
        cmocka_unit_test(test_the_numbers_are_pytorchs),
        cmocka_unit_test(test_the_factor_scales_gradients),
        cmocka_unit_test(test_neighbours_make_one_run),
        cmocka_unit_test(test_parameters_without_gradient_are_skipped),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_the_list_owns_what_it_gets),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests_name("optimizers", tests, NULL, NULL);
}
