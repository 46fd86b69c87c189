/* SPDX-License-Identifier: Apache-2.0 */
/* Steps of several processes on a device: the host waits for nothing, but where batch norm goes over all of them. */
#include "trainer/lab.h"

#include "strategies/communicators.h"
#include "tensor/tensor.h"

#include <float.h>

typedef struct model {
    light_module base;
    light_linear layer;
    light_batch_norm norm;
    light_linear head;
} model;

static light_status model_init(light_module *self)
{
    model *m = (model *)self;
    LIGHT_TRY(light_linear_init(&m->layer, self, "layer", .in_features = LAB_FEATURES, .out_features = 6));
    LIGHT_TRY(light_batch_norm_init(&m->norm, self, "norm", .features = 6));
    return light_linear_init(&m->head, self, "head", .in_features = 6, .out_features = LAB_CLASSES);
}

static light_tensor *model_forward(light_module *self, light_step *s, light_tensor *x)
{
    model *m = (model *)self;
    x = light_relu(s, light_forward(s, &m->norm.base, light_forward(s, &m->layer.base, x)));
    return light_forward(s, &m->head.base, x);
}

static light_tensor *model_training_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_tensor *loss = light_cross_entropy(s, light_forward(s, self, batch->fields[0]), batch->fields[1]);
    light_log(s, "loss", loss, .on_step = true, .on_epoch = true);
    return loss;
}

static light_status model_optimizers(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, light_sgd(light_parameters(self), .lr = 0.05, .momentum = 0.9), NULL);
}

static const light_module_vtable model_vtable = {
    LIGHT_MODULE(model),
    .init = model_init,
    .forward = model_forward,
    .training_step = model_training_step,
    .configure_optimizers = model_optimizers,
};

enum { MOST_NUMBERS = 512 };

typedef struct outcome {
    uint64_t waits;              /* of the host */
    float numbers[MOST_NUMBERS]; /* parameters, mean and variance */
} outcome;

/* One epoch. All processes of the launcher have the same folder. */
static outcome train(light_trainer_options options, int64_t batches)
{
    outcome o = {0};
    float *to = o.numbers;
    options.max_epochs = 1;
    options.accumulate_grad_batches = 2;
    options.gradient_clip_val = 0.5;
    options.shard_unit_mb = 0.0005;
    options.log_every_n_steps = 1000;
    options.default_root_dir = folder;
    options.enable_progress_bar = options.enable_model_summary = LIGHT_OFF;
    options.enable_learning_curve = options.enable_checkpointing = LIGHT_OFF;
    light_trainer *t = light_trainer_new_with(&options);
    if (!t) fail_msg("%s", light_error_message());
    lab l = lab_new(&model_vtable, t);
    l.data->batch_size = 2;
    l.data->train_samples = 2 * batches;
    uint64_t before = light_default_device()->synchronizations;
    assert_ok(lab_fit(&l));
    o.waits = light_default_device()->synchronizations - before;
    for (light_parameter *p = light_next_parameter(l.module, NULL); p;
         p = light_next_parameter(l.module, p)) {
        if (p->tensor->dtype != LIGHT_F32) continue;
        assert_in_range(to + p->tensor->numel - o.numbers, 1, MOST_NUMBERS);
        assert_ok(light_tensor_read(p->tensor, LIGHT_F32, to, (size_t)p->tensor->numel * sizeof *to));
        to += p->tensor->numel;
    }
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

static light_communicator *host;

static int begin(void **state)
{
    (void)state;
    light_message_set_level(LIGHT_MESSAGE_ERROR);
    snprintf(folder, sizeof folder, "%s/light-steps-%d", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp",
             (int)getppid());
    return light_mpi_communicator_new(&host) == LIGHT_OK ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    light_status status = light_barrier(host, "end");
    if (host->rank == 0 && light_directory_exists(folder)) status = light_remove_tree(folder);
    light_communicator_free(host);
    return status == LIGHT_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_step_waits_for_the_device),
        cmocka_unit_test(batch_norm_over_all_is_that_of_the_host),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
