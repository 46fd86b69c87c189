/* SPDX-License-Identifier: Apache-2.0 */
/* Modules, autograd, clipping, an optimizer and a schedule together, in a loop of one's own: it learns, and once it runs
 * it asks the heap for nothing. */
#include "base/memory.h"
#include "optim/clip.h"

#include <light/light.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { BATCH = 16, FEATURES = 6, T = 3 };

typedef struct {
    light_module base;
    light_gru gru;
    light_layer_norm norm;
    light_linear out;
} net;

static light_status net_init(light_module *self)
{
    net *m = (net *)self;
    LIGHT_TRY(
        light_gru_init(&m->gru, self, "gru", .input_size = FEATURES, .hidden_size = 8, .batch_first = true));
    LIGHT_TRY(light_layer_norm_init(&m->norm, self, "norm", .features = 8));
    return light_linear_init(&m->out, self, "out", .in_features = 8, .out_features = 2);
}

static light_tensor *net_forward(light_module *self, light_step *s, light_tensor *x)
{
    net *m = (net *)self;
    x = light_select(s, light_forward(s, &m->gru.base, x), 1, -1);
    return light_forward(s, &m->out.base, light_forward(s, &m->norm.base, x));
}

static const light_module_vtable net_vtable = {LIGHT_MODULE(net), .init = net_init, .forward = net_forward};

/* Two classes: the sign of the first feature's sum over time. */
static light_tensor *loss_of(light_step *s, light_module *m, int step)
{
    float x[BATCH * T * FEATURES];
    int64_t y[BATCH];
    for (int n = 0; n < BATCH; n++) {
        float sum = 0;
        for (int i = 0; i < T * FEATURES; i++) {
            float value = sinf((float)((step % 8 * BATCH + n) * 97 + i * 31) * 1.7F);
            x[n * T * FEATURES + i] = value;
            if (i % FEATURES == 0) sum += value;
        }
        y[n] = sum > 0;
    }
    light_tensor *logits =
        light_forward(s, m, light_from_host(s, LIGHT_SHAPE(BATCH, T, FEATURES), LIGHT_F32, x));
    return light_cross_entropy(s, logits, light_from_host(s, LIGHT_SHAPE(BATCH), LIGHT_I64, y));
}

static light_status one_step(light_step *s, light_module *m, light_optimizer *opt, light_schedule *schedule,
                             int step, double *value)
{
    light_tensor *factor;
    LIGHT_TRY(light_step_begin(s));
    light_tensor *loss = loss_of(s, m, step);
    LIGHT_TRY(light_backward(s, loss));
    LIGHT_TRY(light_grad_norm_factor(s, opt, 1.0, NULL, &factor));
    LIGHT_TRY(light_optimizer_step_now(opt, factor));
    light_optimizer_zero_grad(opt);
    LIGHT_TRY(light_schedule_advance(schedule, 0));
    return light_item(loss, value);
}

static void test_it_learns_and_allocates_nothing(void **state)
{
    (void)state;
    light_module *m = light_module_new(&net_vtable);
    light_step *s;
    double first = 0, last = 0;
    uint64_t calls = 0;
    assert_non_null(m);
    assert_int_equal(light_module_build(m, 1), LIGHT_OK);
    assert_int_equal(light_step_new(&s, .seed = 1), LIGHT_OK);
    light_optimizer *opt = light_adamw(light_parameters(m), .lr = 0.02);
    light_schedule *schedule = light_cosine_schedule(.total_steps = 200, .warmup_steps = 10);
    assert_int_equal(light_schedule_attach(schedule, opt), LIGHT_OK);
    for (int step = 0; step < 200; step++) {
        double value;
        if (step == 20) calls = light_memory_count().calls;
        if (one_step(s, m, opt, schedule, step, &value) != LIGHT_OK) fail_msg("%s", light_error_message());
        if (step < 8) first += value / 8;
        if (step >= 192) last += value / 8;
    }
    assert_int_equal(light_memory_count().calls, calls);
    assert_true(first > 0.5);
    assert_true(last < 0.2 * first);
    light_schedule_free(schedule);
    light_optimizer_free(opt);
    light_step_free(s);
    light_module_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_it_learns_and_allocates_nothing)};
    return cmocka_run_group_tests_name("training", tests, NULL, NULL);
}
