/* SPDX-License-Identifier: Apache-2.0 */
/* Steps of several processes on a device: the host waits for nothing, but where batch norm goes over all of them. */
#include "strategies/launched.h"
#include "strategies/nets.h"

#include <float.h>

static light_status with_momentum(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, light_sgd(light_parameters(self), .lr = 0.05, .momentum = 0.9), NULL);
}

static const light_module_vtable model_vtable = {
    LIGHT_MODULE(normed),
    .init = normed_init,
    .forward = normed_forward,
    .training_step = logged_step,
    .configure_optimizers = with_momentum,
};

enum { MOST_NUMBERS = 512 };

typedef struct outcome {
    uint64_t waits;              /* of the host */
    float numbers[MOST_NUMBERS]; /* parameters, mean and variance */
} outcome;

/* One epoch. */
static outcome train(light_trainer_options options, int64_t batches)
{
    outcome o = {0};
    options.max_epochs = 1;
    options.accumulate_grad_batches = 2;
    options.gradient_clip_val = 0.5;
    options.shard_unit_mb = 0.0005;
    options.log_every_n_steps = 1000;
    lab l = lab_new(&model_vtable, quiet_trainer(options));
    l.data->batch_size = 2;
    l.data->train_samples = 2 * batches;
    uint64_t before = light_default_device()->synchronizations;
    assert_ok(lab_fit(&l));
    o.waits = light_default_device()->synchronizations - before;
    read_numbers(l.module, o.numbers, MOST_NUMBERS);
    lab_free(&l);
    return o;
}

static const char *const strategies[] = {"ddp", "zero1", "zero2", "zero3"};

static void must_not_wait(light_trainer_options options)
{
    assert_int_equal(train(options, 24).waits, train(options, 8).waits);
}

/* An epoch costs waits, its end reads metrics: three times as many steps, no wait more. */
static void no_step_waits_for_the_device(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        must_not_wait((light_trainer_options){.strategy = strategies[i]});
        must_not_wait((light_trainer_options){.strategy = strategies[i], .precision = "16-mixed"});
        must_not_wait((light_trainer_options){.strategy = strategies[i], .deterministic = "elastic"});
    }
}

/* Sums of 32 terms, in 6 steps at most, one behind the other. */
static void batch_norm_over_all_is_that_of_the_host(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        light_trainer_options options = {.strategy = strategies[i], .sync_batchnorm = true};
        outcome here = train(options, 24);
        options.accelerator = "cpu";
        outcome there = train(options, 24);
        for (int k = 0; k < MOST_NUMBERS; k++)
            if (!(fabsf(here.numbers[k] - there.numbers[k]) <=
                  6 * 32 * FLT_EPSILON * fmaxf(1, fabsf(there.numbers[k]))))
                fail_msg("%s: number %d is %.9g, on the host %.9g", strategies[i], k, (double)here.numbers[k],
                         (double)there.numbers[k]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_step_waits_for_the_device),
        cmocka_unit_test(batch_norm_over_all_is_that_of_the_host),
    };
    return cmocka_run_group_tests(tests, launched_begin, launched_end);
}
