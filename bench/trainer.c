/* SPDX-License-Identifier: Apache-2.0 */
/* Seconds per step of a trivial model (linear 32 -> 2 on a batch of 8, SGD), from one training_step to the next.
 *
 * trainer_loop       a hand-written loop around the same training_step and the same loader
 * trainer_barebones  the Trainer, barebones
 * trainer_default    the Trainer as it comes: progress bar, logger, checkpoint callback */
#include "common/bench.h"
#include "common/repeat.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    light_module base;
    light_linear layer;
    double *times; /* of each training_step */
    int at, room;
} trivial;

static light_status trivial_init(light_module *self)
{
    return light_linear_init(&((trivial *)self)->layer, self, "layer", .in_features = 32, .out_features = 2);
}

static light_tensor *trivial_training_step(light_module *self, light_step *s, const light_batch *batch)
{
    trivial *m = (trivial *)self;
    if (m->at < m->room) m->times[m->at++] = bench_now();
    return light_mse_loss(s, light_forward(s, &m->layer.base, batch->fields[0]), batch->fields[1]);
}

static light_optimizer *new_sgd(light_module *self)
{
    return light_sgd(light_parameters(self), .lr = 1e-3);
}

static light_status trivial_configure_optimizers(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, new_sgd(self), NULL);
}

static const light_module_vtable trivial_vtable = {
    LIGHT_MODULE(trivial),
    .init = trivial_init,
    .training_step = trivial_training_step,
    .configure_optimizers = trivial_configure_optimizers,
};

static light_status steps_by_hand(light_module *model, light_loader *loader, light_step *s,
                                  light_optimizer *sgd)
{
    LIGHT_TRY(light_loader_begin(loader, 0, 0));
    for (;;) {
        light_batch batch;
        LIGHT_TRY(light_step_begin(s));
        LIGHT_TRY(light_loader_next(loader, s, &batch));
        if (batch.size == 0) return LIGHT_OK;
        LIGHT_TRY(light_backward(s, trivial_training_step(model, s, &batch)));
        LIGHT_TRY(light_optimizer_step_now(sgd, NULL));
        light_optimizer_zero_grad(sgd);
    }
}

static light_status by_hand(light_module *model, const bench_repeat *data)
{
    light_step *s;
    LIGHT_TRY(light_step_new(&s, .seed = 1));
    LIGHT_TRY(light_module_build(model, 1));
    light_train(model);
    light_optimizer *sgd = new_sgd(model);
    light_loader *loader = bench_repeat_loader(data);
    light_status status = sgd && loader ? steps_by_hand(model, loader, s, sgd) : LIGHT_ERR_MEMORY;
    light_loader_free(loader);
    light_optimizer_free(sgd);
    light_step_free(s);
    return status;
}

static light_status with_trainer(light_module *model, bench_repeat *data, bool barebones, const char *dir)
{
    char folder[4096];
    LIGHT_TRY(bench_folder(folder, sizeof(folder), dir));
    light_trainer *trainer =
        barebones ? light_trainer_new(.accelerator = "cpu", .max_epochs = 1, .barebones = true)
                  : light_trainer_new(.accelerator = "cpu", .max_epochs = 1, .default_root_dir = folder);
    light_status status = trainer ? light_trainer_fit(trainer, model, &data->base) : LIGHT_ERR_MEMORY;
    if (status == LIGHT_OK && light_trainer_global_step(trainer) != data->batches)
        status = light_fail(LIGHT_ERR_INTERNAL, "the trainer has not taken all steps");
    light_trainer_free(trainer);
    bench_remove(folder);
    return status;
}

static light_status measure(bench_run *run, trivial *model, bench_repeat *data)
{
    bench_defaults(run, 200, 3000);
    model->room = run->warmup + run->steps + 1;
    model->times = calloc((size_t)model->room, sizeof(double));
    if (!model->times) return light_fail(LIGHT_ERR_MEMORY, "no memory for %d samples", model->room);
    data->fields[0] = (light_field){"x", LIGHT_F32, LIGHT_SHAPE(32)};
    data->fields[1] = (light_field){"y", LIGHT_F32, LIGHT_SHAPE(2)};
    data->batch_size = 8;
    data->batches = model->room;
    light_status status =
        strcmp(run->name, "trainer_loop")
            ? with_trainer(&model->base, data, !strcmp(run->name, "trainer_barebones"), run->dir)
            : by_hand(&model->base, data);
    double *samples = model->times + run->warmup;
    for (int i = 0; i < run->steps; i++) samples[i] = samples[i + 1] - samples[i];
    if (status == LIGHT_OK) bench_report(run->name, samples, run->steps, NULL);
    free(model->times);
    return status;
}

int main(int argc, char **argv)
{
    const char *const cases[] = {"trainer_loop", "trainer_barebones", "trainer_default", NULL};
    bench_run run = bench_arguments(argc, argv, cases);
    light_module *model = light_module_new(&trivial_vtable);
    light_datamodule *data = light_datamodule_new(&bench_repeat_vtable);
    light_status status = LIGHT_ERR_MEMORY;
    if (model && data) status = measure(&run, (trivial *)model, (bench_repeat *)data);
    light_datamodule_free(data);
    light_module_free(model);
    return bench_exit(status);
}
