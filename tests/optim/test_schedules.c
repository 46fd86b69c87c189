/* SPDX-License-Identifier: Apache-2.0 */
/* Every schedule against the learning rates that PyTorch 2.15 gave for the same settings (its own chained recursions in
 * double), and what schedules promise besides: totals, nesting, state, refusals. */
#include "optim/optimizer.h"
#include "optim/schedule.h"

#include "base/memory.h"

#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "support/near.h"

/* PyTorch multiplies its way from step to step; the rounding of a dozen products is the difference allowed. */
#define TOLERANCE (16 * DBL_EPSILON)

typedef struct {
    light_module base;
    light_tensor *w;
} net;

static light_status net_init(light_module *self)
{
    return light_add_parameter(self, &((net *)self)->w, "w", LIGHT_SHAPE(2), LIGHT_INIT_ZEROS);
}

static const light_module_vtable net_vtable = {LIGHT_MODULE(net), .init = net_init};
static light_module *module;

static int setup(void **state)
{
    (void)state;
    module = light_module_new(&net_vtable);
    return module && light_module_build(module, 1) == LIGHT_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    light_module_free(module);
    return 0;
}

static light_optimizer *optimizer(double lr)
{
    light_optimizer *opt = light_adamw(light_parameters(module), .lr = lr);
    assert_non_null(opt);
    return opt;
}

static void attach(light_schedule *schedule, light_optimizer *opt)
{
    if (light_schedule_attach(schedule, opt) != LIGHT_OK) fail_msg("%s", light_error_message());
}

static void advance(light_schedule *schedule, double metric)
{
    if (light_schedule_advance(schedule, metric) != LIGHT_OK) fail_msg("%s", light_error_message());
}

/* Frees the schedule. */
static void expect(light_schedule *schedule, const double *lr, const double *momentum, int n)
{
    light_optimizer *opt = optimizer(0.5);
    attach(schedule, opt);
    for (int t = 0; t < n; t++) {
        assert_int_equal(light_schedule_count(schedule), t);
        double have = light_optimizer_lr(opt, 0);
        if (fabs(have - lr[t]) > TOLERANCE)
            fail_msg("%s at %d: %.17g, should be %.17g", light_schedule_name(schedule), t, have, lr[t]);
        if (momentum) assert_near(light_optimizer_hyperparameters(opt, 0)->betas[0], momentum[t], TOLERANCE);
        if (t + 1 < n) advance(schedule, 0);
    }
    light_schedule_free(schedule);
    light_optimizer_free(opt);
}

#define EXPECT(schedule, ...)                                                                                \
    expect(schedule, (const double[]){__VA_ARGS__}, NULL, sizeof((double[]){__VA_ARGS__}) / sizeof(double))

/* ---- PyTorch's numbers, base 0.5 ----------------------------------------- */

static void test_step(void **state)
{
    (void)state;
    EXPECT(light_step_schedule(.step_size = 3, .gamma = 0.2), 0.5, 0.5, 0.5, 0.1, 0.1, 0.1, 0.02, 0.02);
    EXPECT(light_step_schedule(.step_size = 1), 0.5, 0.05, 0.005);
}

static void test_multi_step(void **state)
{
    (void)state;
    EXPECT(light_multi_step_schedule(.milestones = {2, 5, 5}, .gamma = 0.3), 0.5, 0.5, 0.15, 0.15, 0.15,
           0.0135, 0.0135, 0.0135);
}

static void test_exponential(void **state)
{
    (void)state;
    EXPECT(light_exponential_schedule(.gamma = 0.9), 0.5, 0.45, 0.405, 0.36450000000000005,
           0.32805000000000006, 0.2952450000000001);
}

static void test_linear(void **state)
{
    (void)state;
    EXPECT(light_linear_schedule(.total_steps = 5), 0.16666666666666666, 0.23333333333333334,
           0.30000000000000004, 0.36666666666666675, 0.43333333333333346, 0.5, 0.5, 0.5);
    EXPECT(light_linear_schedule(.start_factor = 1, .end_factor = LIGHT_ZERO, .total_steps = 4), 0.5, 0.375,
           0.25, 0.125, 0, 0);
}

static void test_polynomial(void **state)
{
    (void)state;
    EXPECT(light_polynomial_schedule(.total_steps = 5, .power = 2), 0.5, 0.32, 0.18, 0.08, 0.02, 0, 0, 0);
}

static void test_cosine(void **state)
{
    (void)state;
    EXPECT(light_cosine_schedule(.total_steps = 6, .eta_min = 0.1), 0.5, 0.47320508075688783, 0.4, 0.3, 0.2,
           0.1267949192431123, 0.1, 0.12679491924311226, 0.2, 0.3, 0.4, 0.47320508075688805, 0.5,
           0.47320508075688816, 0.4);
}

/* Four steps of warmup, then the cosine of six steps above. */
static void test_cosine_with_warmup(void **state)
{
    (void)state;
    EXPECT(light_cosine_schedule(.total_steps = 10, .warmup_steps = 4, .eta_min = 0.1), 0.1, 0.2, 0.3, 0.4,
           0.5, 0.47320508075688783, 0.4, 0.3, 0.2, 0.1267949192431123, 0.1);
    EXPECT(light_cosine_schedule(.total_steps = 4, .warmup_steps = 2, .warmup_start_factor = LIGHT_ZERO), 0,
           0.25, 0.5, 0.25, 0);
    EXPECT(light_warmup_schedule(.steps = 4, .then = light_cosine_schedule(.total_steps = 6, .eta_min = 0.1)),
           0.1, 0.2, 0.3, 0.4, 0.5, 0.47320508075688783, 0.4, 0.3, 0.2, 0.1267949192431123, 0.1);
    EXPECT(light_warmup_schedule(.steps = 1), 0.25, 0.5, 0.5);
}

static void test_cosine_restarts(void **state)
{
    (void)state;
    EXPECT(light_cosine_restarts_schedule(.t_0 = 3, .t_mult = 2, .eta_min = 0.05), 0.5, 0.3875, 0.1625, 0.5,
           0.4698557158514987, 0.3875, 0.275, 0.1625, 0.08014428414850129, 0.5, 0.49233331091504035,
           0.4698557158514987);
    EXPECT(light_cosine_restarts_schedule(.t_0 = 3), 0.5, 0.375, 0.125, 0.5, 0.375, 0.125, 0.5, 0.375);
}

static void test_one_cycle(void **state)
{
    (void)state;
    const double lr[] = {0.03200000000000003,
                         0.41600000000000004,
                         0.8,
                         0.7603877056107791,
                         0.6493965231598104,
                         0.48900961754903144,
                         0.3109935824509686,
                         0.1506066768401896,
                         0.03961549438922103,
                         3.2e-06};
    const double momentum[] = {0.95,
                               0.9,
                               0.85,
                               0.854951556604879,
                               0.8688255099070633,
                               0.8888739533021842,
                               0.9111260466978157,
                               0.9311744900929366,
                               0.945048443395121,
                               0.95};
    expect(light_one_cycle_schedule(.max_lr = 0.8, .total_steps = 10), lr, momentum, 10);
    const double lr3[] = {0.08,
                          0.2694736842105263,
                          0.4589473684210526,
                          0.6484210526315789,
                          0.762105263157895,
                          0.5726315789473686,
                          0.3831578947368423,
                          0.19368421052631601,
                          0.0706823529411765,
                          0.04738823529411767,
                          0.024094117647058835,
                          0.0008};
    const double momentum3[] = {0.95,
                                0.9236842105263158,
                                0.8973684210526316,
                                0.8710526315789473,
                                0.8552631578947368,
                                0.881578947368421,
                                0.9078947368421052,
                                0.9342105263157894,
                                0.95,
                                0.95,
                                0.95,
                                0.95};
    expect(light_one_cycle_schedule(.max_lr = 0.8, .total_steps = 12, .three_phase = true, .linear = true,
                                    .pct_start = 0.4, .div_factor = 10, .final_div_factor = 100),
           lr3, momentum3, 12);

    light_optimizer *opt = optimizer(0.5);
    light_schedule *s = light_one_cycle_schedule(.total_steps = 10);
    attach(s, opt);
    assert_near(light_optimizer_lr(opt, 0), 0.02, TOLERANCE); /* max_lr is the group's */
    for (int t = 0; t < 10; t++) advance(s, 0);
    assert_int_not_equal(light_schedule_advance(s, 0), LIGHT_OK);
    assert_non_null(strstr(light_error_message(), "one_cycle schedule: step 11; the cycle has 10 steps"));
    light_schedule_free(s);
    light_optimizer_free(opt);

    opt = light_sgd(light_parameters(module));
    s = light_one_cycle_schedule(.total_steps = 3);
    assert_int_not_equal(light_schedule_attach(s, opt), LIGHT_OK);
    assert_non_null(strstr(light_error_message(), "no momentum to cycle"));
    light_schedule_free(s);
    light_optimizer_free(opt);
}

static void test_sequential(void **state)
{
    (void)state;
    EXPECT(light_sequential_schedule(.schedules = {light_linear_schedule(.start_factor = 0.25),
                                                   light_exponential_schedule(.gamma = 0.5)},
                                     .milestones = {4}),
           0.125, 0.21875, 0.3125, 0.40625, 0.5, 0.25, 0.125, 0.0625, 0.03125);
    EXPECT(
        light_sequential_schedule(.schedules = {light_linear_schedule(.start_factor = 0.1, .end_factor = 0.1),
                                                light_step_schedule(.step_size = 2, .gamma = 0.5),
                                                light_cosine_schedule(.total_steps = 4)},
                                  .milestones = {2, 6}),
        0.05, 0.05, 0.5, 0.5, 0.25, 0.25, 0.5, 0.42677669529663687, 0.25, 0.07322330470336313, 0);
}

static double halved(int64_t t, void *user)
{
    ++*(int *)user;
    return t > 5 ? NAN : 1.0 / (double)(t + 1);
}

static void test_function(void **state)
{
    (void)state;
    int calls = 0;
    EXPECT(light_function_schedule(.function = halved, .user = &calls), 0.5, 0.25, 0.5 / 3, 0.125);
    assert_int_equal(calls, 4);
    light_optimizer *opt = optimizer(0.5);
    light_schedule *s = light_function_schedule(.function = halved, .user = &calls);
    attach(s, opt);
    for (int t = 0; t < 5; t++) advance(s, 0);
    assert_int_not_equal(light_schedule_advance(s, 0), LIGHT_OK);
    assert_non_null(strstr(light_error_message(), "the learning rate at step 6 would be"));
    light_schedule_free(s);
    light_optimizer_free(opt);
}

/* ---- reduce_on_plateau --------------------------------------------------- */

static const double metrics[] = {1.0,  0.9,  0.95,    0.91, 0.9,  0.92, 0.8,  0.85,
                                 0.81, 0.80, 0.79999, 0.7,  0.75, 0.76, 0.77, 0.78};

static void expect_plateau(light_schedule *s, const double lr[16])
{
    light_optimizer *opt = optimizer(1);
    attach(s, opt);
    for (int i = 0; i < 16; i++) {
        advance(s, metrics[i]);
        if (fabs(light_optimizer_lr(opt, 0) - lr[i]) > TOLERANCE)
            fail_msg("after metric %d: %.17g, should be %.17g", i, light_optimizer_lr(opt, 0), lr[i]);
    }
    light_schedule_free(s);
    light_optimizer_free(opt);
}

static void test_reduce_on_plateau(void **state)
{
    (void)state;
    expect_plateau(
        light_reduce_on_plateau(.monitor = "val_loss", .patience = 2, .factor = 0.5),
        (const double[]){1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.25, 0.125, 0.125});
    expect_plateau(light_reduce_on_plateau(.patience = 1, .cooldown = 2, .min_lr = 0.005, .threshold = 0.01,
                                           .threshold_mode = "abs"),
                   (const double[]){1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01, 0.01, 0.005,
                                    0.005, 0.005});
    expect_plateau(
        light_reduce_on_plateau(.mode = "max", .patience = LIGHT_NO_PATIENCE, .factor = 0.5, .eps = 0.1),
        (const double[]){1, 0.5, 0.25, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125,
                         0.125, 0.125, 0.125});
    light_schedule *s = light_reduce_on_plateau(.monitor = "val_loss", .lenient = true);
    assert_string_equal(light_schedule_monitor(s), "val_loss");
    assert_true(light_schedule_lenient(s));
    light_schedule_free(s);
}

/* ---- totals, intervals --------------------------------------------------- */

static void test_totals_come_from_the_trainer(void **state)
{
    (void)state;
    light_optimizer *opt = optimizer(0.5);
    light_schedule *s = light_cosine_schedule(.warmup_steps = 2);
    attach(s, opt);
    assert_int_not_equal(light_schedule_advance(s, 0), LIGHT_OK);
    assert_non_null(strstr(light_error_message(), "cosine schedule: the length of the run is not known"));
    assert_int_equal(light_schedule_set_total(s, 6, 3), LIGHT_OK);
    assert_near(light_optimizer_lr(opt, 0), 0.5 / 3, TOLERANCE); /* t = 0 */
    for (int t = 0; t < 4; t++) advance(s, 0);
    assert_near(light_optimizer_lr(opt, 0), 0.25, TOLERANCE); /* half of the way down from 2 to 6 */
    light_schedule_free(s);

    /* By epochs and every second one; a total of the user's stays. */
    assert_int_equal(light_optimizer_set_lr(opt, 0, 0.5), LIGHT_OK);
    s = light_polynomial_schedule(.interval = LIGHT_INTERVAL_EPOCH, .frequency = 2);
    attach(s, opt);
    assert_int_equal(light_schedule_set_total(s, 6000, 8), LIGHT_OK);
    advance(s, 0);
    assert_near(light_optimizer_lr(opt, 0), 0.375, TOLERANCE);
    light_schedule_free(s);

    assert_int_equal(light_optimizer_set_lr(opt, 0, 0.5), LIGHT_OK);
    s = light_polynomial_schedule(.total_steps = 2);
    attach(s, opt);
    assert_int_equal(light_schedule_set_total(s, 6000, 8), LIGHT_OK);
    advance(s, 0);
    assert_near(light_optimizer_lr(opt, 0), 0.25, TOLERANCE);
    light_schedule_free(s);

    /* What comes after a warmup gets the rest. */
    assert_int_equal(light_optimizer_set_lr(opt, 0, 0.5), LIGHT_OK);
    s = light_warmup_schedule(.steps = 2, .then = light_polynomial_schedule());
    attach(s, opt);
    assert_int_equal(light_schedule_set_total(s, 6, 1), LIGHT_OK);
    for (int t = 0; t < 4; t++) advance(s, 0);
    assert_near(light_optimizer_lr(opt, 0), 0.25, TOLERANCE);
    light_schedule_free(s);

    assert_int_equal(light_optimizer_set_lr(opt, 0, 0.5), LIGHT_OK);
    s = light_sequential_schedule(.schedules = {light_polynomial_schedule(), light_polynomial_schedule()},
                                  .milestones = {2});
    attach(s, opt);
    assert_int_equal(light_schedule_set_total(s, 6, 1), LIGHT_OK);
    advance(s, 0);
    assert_near(light_optimizer_lr(opt, 0), 0.25, TOLERANCE);
    for (int t = 0; t < 3; t++) advance(s, 0);
    assert_near(light_optimizer_lr(opt, 0), 0.25, TOLERANCE);
    light_schedule_free(s);
    light_optimizer_free(opt);
}

static void expect_interval(light_schedule *s, light_interval interval, int64_t frequency)
{
    assert_int_equal(light_schedule_failure(s), LIGHT_OK);
    assert_int_equal(light_schedule_interval(s), interval);
    assert_int_equal(light_schedule_frequency(s), frequency);
    light_schedule_free(s);
}

static void test_intervals(void **state)
{
    (void)state;
    expect_interval(light_cosine_schedule(), LIGHT_INTERVAL_STEP, 1);
    expect_interval(light_step_schedule(.step_size = 1), LIGHT_INTERVAL_EPOCH, 1);
    expect_interval(light_step_schedule(.step_size = 1, .interval = LIGHT_INTERVAL_STEP, .frequency = 5),
                    LIGHT_INTERVAL_STEP, 5);
    expect_interval(light_reduce_on_plateau(), LIGHT_INTERVAL_EPOCH, 1);
    expect_interval(light_warmup_schedule(.steps = 1), LIGHT_INTERVAL_STEP, 1);
    expect_interval(
        light_warmup_schedule(.steps = 1, .then = light_exponential_schedule(.gamma = 1, .frequency = 3)),
        LIGHT_INTERVAL_EPOCH, 3);
    expect_interval(light_sequential_schedule(.schedules = {light_exponential_schedule(.gamma = 1)}),
                    LIGHT_INTERVAL_EPOCH, 1);
}

/* ---- state --------------------------------------------------------------- */

/* Saved after `before` steps and loaded into another one: both go on alike. */
static void round_trip(light_schedule *a, light_schedule *b)
{
    light_optimizer *of_a = optimizer(0.5), *of_b = optimizer(0.5);
    attach(a, of_a);
    attach(b, of_b);
    for (int i = 0; i < 5; i++) advance(a, metrics[i]);
    light_state *state = light_state_new();
    assert_int_equal(light_schedule_save(a, light_state_group(state, "schedule")), LIGHT_OK);
    assert_int_equal(light_optimizer_save(of_a, light_state_group(state, "optimizer")), LIGHT_OK);
    assert_int_equal(light_optimizer_load(of_b, light_state_find_group(state, "optimizer")), LIGHT_OK);
    assert_int_equal(light_schedule_load(b, light_state_find_group(state, "schedule")), LIGHT_OK);
    light_state_free(state);
    for (int i = 5; i < 12; i++) {
        assert_true(light_optimizer_lr(of_a, 0) == light_optimizer_lr(of_b, 0));
        advance(a, metrics[i]);
        advance(b, metrics[i]);
    }
    assert_true(light_optimizer_lr(of_a, 0) == light_optimizer_lr(of_b, 0));
    assert_true(light_optimizer_lr(of_a, 0) != 0.5);
    light_schedule_free(a);
    light_schedule_free(b);
    light_optimizer_free(of_a);
    light_optimizer_free(of_b);
}

static void test_state_round_trip(void **state)
{
    (void)state;
    round_trip(light_cosine_schedule(.total_steps = 20), light_cosine_schedule(.total_steps = 20));
    round_trip(light_warmup_schedule(.steps = 7, .then = light_exponential_schedule(.gamma = 0.9)),
               light_warmup_schedule(.steps = 7, .then = light_exponential_schedule(.gamma = 0.9)));
    round_trip(light_reduce_on_plateau(.patience = 1), light_reduce_on_plateau(.patience = 1));

    light_state *s = light_state_new();
    light_schedule *a = light_step_schedule(.step_size = 1), *b = light_exponential_schedule(.gamma = 1);
    assert_int_equal(light_schedule_save(a, s), LIGHT_OK);
    assert_int_not_equal(light_schedule_load(b, s), LIGHT_OK);
    assert_non_null(strstr(light_error_message(), "of a step schedule, this one is exponential"));
    light_schedule_free(a);
    light_schedule_free(b);
    light_state_free(s);
}

/* ---- refusals ------------------------------------------------------------ */

static void refuse(light_schedule *s, const char *text)
{
    assert_non_null(s);
    assert_int_not_equal(light_schedule_failure(s), LIGHT_OK);
    if (!strstr(light_error_message(), text)) fail_msg("'%s' is not in: %s", text, light_error_message());
    light_optimizer *opt = optimizer(0.5);
    assert_int_not_equal(light_schedule_attach(s, opt), LIGHT_OK);
    light_optimizer_free(opt);
    light_schedule_free(s);
}

static void test_refusals(void **state)
{
    (void)state;
    refuse(light_step_schedule(), "step schedule: step_size is 0");
    refuse(light_multi_step_schedule(), "needs milestones");
    refuse(light_multi_step_schedule(.milestones = {5, 3}), "milestone 3 stands behind 5");
    refuse(light_exponential_schedule(), "gamma is 0");
    refuse(light_linear_schedule(.total_steps = -3), "total_steps is -3");
    refuse(light_cosine_schedule(.warmup_steps = -1), "warmup_steps is -1");
    refuse(light_cosine_restarts_schedule(), "t_0 is 0");
    refuse(light_one_cycle_schedule(.pct_start = 2), "pct_start is 2");
    refuse(light_function_schedule(), "needs a function");
    refuse(light_reduce_on_plateau(.mode = "down"), "mode is 'down'");
    refuse(light_reduce_on_plateau(.factor = 1), "factor is 1");
    refuse(light_step_schedule(.step_size = 1, .frequency = -1), "frequency is -1");
    refuse(light_warmup_schedule(.then = light_exponential_schedule(.gamma = 1)),
           "warmup schedule: steps is 0");
    refuse(light_warmup_schedule(.steps = 1, .then = light_step_schedule()), "step_size is 0");
    refuse(light_warmup_schedule(.steps = 1, .then = light_reduce_on_plateau()), "cannot be part of another");
    refuse(light_sequential_schedule(), "it needs schedules");
    refuse(light_sequential_schedule(.schedules = {light_exponential_schedule(.gamma = 1),
                                                   light_exponential_schedule(.gamma = 1)}),
           "milestone 0 is 0");
}

static void test_out_of_memory(void **state)
{
    (void)state;
    light_memory_counters before = light_memory_count();
    for (int64_t n = 1;; n++) {
        light_memory_fail_nth(n);
        light_schedule *s = light_sequential_schedule(.schedules = {light_warmup_schedule(.steps = 1),
                                                                    light_exponential_schedule(.gamma = 1)},
                                                      .milestones = {3});
        light_memory_fail_nth(0);
        assert_non_null(s);
        light_status status = light_schedule_failure(s);
        light_schedule_free(s);
        assert_int_equal(light_memory_count().live, before.live);
        if (status == LIGHT_OK) break;
        assert_int_equal(status, LIGHT_ERR_MEMORY);
        assert_true(n < 10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step),
        cmocka_unit_test(test_multi_step),
        cmocka_unit_test(test_exponential),
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_polynomial),
        cmocka_unit_test(test_cosine),
        cmocka_unit_test(test_cosine_with_warmup),
        cmocka_unit_test(test_cosine_restarts),
        cmocka_unit_test(test_one_cycle),
        cmocka_unit_test(test_sequential),
        cmocka_unit_test(test_function),
        cmocka_unit_test(test_reduce_on_plateau),
        cmocka_unit_test(test_totals_come_from_the_trainer),
        cmocka_unit_test(test_intervals),
        cmocka_unit_test(test_state_round_trip),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests_name("schedules", tests, setup, teardown);
}
