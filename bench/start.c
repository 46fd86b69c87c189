/* SPDX-License-Identifier: Apache-2.0 */
/* Seconds from process start to the end of the first training step (MLP, batch 64, Adam).
 *
 * start          a hand-written loop
 * start_trainer  through the Trainer */
#include "common/bench.h"
#include "common/models.h"
#include "common/repeat.h"

#include <string.h>

static double first_step; /* seconds */

/* The MLP with what the Trainer needs; its struct is the one of common/models.c. */
static light_tensor *training_step(light_module *self, light_step *s, const light_batch *batch)
{
    return light_cross_entropy(s, light_forward(s, self, batch->fields[0]), batch->fields[1]);
}

static light_status configure_optimizers(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, light_adam(light_parameters(self), .lr = 1e-3), NULL);
}

static void on_train_batch_end(light_module *self, light_trainer *t, const light_batch *batch)
{
    (void)self, (void)t, (void)batch;
    first_step = bench_since_start();
}

static light_module *new_model(void)
{
    static light_module_vtable vtable;
    vtable = bench_mlp;
    vtable.training_step = training_step;
    vtable.configure_optimizers = configure_optimizers;
    vtable.on_train_batch_end = on_train_batch_end;
    return light_module_new(&vtable);
}

static light_status one_step(light_module *model, light_step *s, light_optimizer *adam)
{
    light_tensor *x, *y;
    LIGHT_TRY(bench_randn(&x, LIGHT_SHAPE(64, 784)));
    LIGHT_TRY(bench_randint(&y, LIGHT_SHAPE(64), 10));
    LIGHT_TRY(light_step_begin(s));
    LIGHT_TRY(light_backward(s, light_cross_entropy(s, light_forward(s, model, x), y)));
    LIGHT_TRY(light_optimizer_step_now(adam, NULL));
    light_optimizer_zero_grad(adam);
    first_step = bench_since_start();
    light_tensor_free(x);
    light_tensor_free(y);
    return LIGHT_OK;
}

static light_status by_hand(light_module *model)
{
    light_step *s;
    LIGHT_TRY(light_step_new(&s, .seed = 1));
    LIGHT_TRY(light_module_build(model, 1));
    light_train(model);
    light_optimizer *adam = light_adam(light_parameters(model), .lr = 1e-3);
    light_status status = adam ? one_step(model, s, adam) : LIGHT_ERR_MEMORY;
    light_optimizer_free(adam);
    light_step_free(s);
    return status;
}

static light_status with_trainer(light_module *model)
{
    bench_repeat *data = (bench_repeat *)light_datamodule_new(&bench_repeat_vtable);
    light_trainer *trainer = light_trainer_new(.accelerator = "cpu", .max_steps = 1, .barebones = true);
    light_status status = data && trainer ? LIGHT_OK : LIGHT_ERR_MEMORY;
    if (status == LIGHT_OK) {
        data->fields[0] = (light_field){"x", LIGHT_F32, LIGHT_SHAPE(784)};
        data->fields[1] = (light_field){"y", LIGHT_I64, LIGHT_SCALAR};
        data->batch_size = 64;
        data->batches = 1;
        status = light_trainer_fit(trainer, model, &data->base);
    }
    light_trainer_free(trainer);
    light_datamodule_free((light_datamodule *)data);
    return status;
}

int main(int argc, char **argv)
{
    const char *const cases[] = {"start", "start_trainer", NULL};
    bench_run run = bench_arguments(argc, argv, cases);
    light_module *model = new_model();
    light_status status = LIGHT_ERR_MEMORY;
    if (model) status = strcmp(run.name, "start") ? with_trainer(model) : by_hand(model);
    light_module_free(model);
    if (status == LIGHT_OK) bench_report(run.name, &first_step, 1, NULL);
    return bench_exit(status);
}
