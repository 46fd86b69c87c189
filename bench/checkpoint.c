/* SPDX-License-Identifier: Apache-2.0 */
/* Seconds to save and to load GPT-2 124M with its AdamW state (1.49 GB), page cache warm.
 *
 * ckpt_save     from asking the Trainer for a checkpoint until it is durable on disk
 * ckpt_blocked  from asking until training goes on
 * ckpt_load     opening (every byte is checked), reading all tensors into live ones, closing
 * ckpt_load_part  what the second of two processes does: opening lazily, reading (and checking) the second half of each
 *                 tensor; `bytes` are those halves
 *
 * One real training step makes the optimizer's state; after it training_step skips its batches, so that the times are
 * the checkpoint's alone. */
#include "common/bench.h"
#include "common/models.h"
#include "common/repeat.h"

#include <light/checkpoint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_SHAPES = 64 };

typedef struct {
    bench_run *run;
    char folder[4096], path[4200];
    double asked;         /* when; 0: no checkpoint is under way */
    bool stepped, moving; /* the optimizer's state exists; training went on after asking */
    int round;            /* counts from -warmup */
    double *save, *blocked, *load, *load_part;
    bench_work work; /* the file's size */
    bench_work half;
    light_module *model;
    light_tensor *targets[MAX_SHAPES]; /* where the optimizer's tensors are read to, one for each shape */
} bench_state;

static bench_state bench;

static light_tensor *training_step(light_module *self, light_step *s, const light_batch *batch)
{
    if (bench.asked > 0 && !bench.moving) {
        if (bench.round >= 0) bench.blocked[bench.round] = bench_now() - bench.asked;
        bench.moving = true;
    }
    if (bench.stepped) {
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
        return NULL;
    }
    bench.stepped = true;
    light_tensor *logits = light_forward(s, self, batch->fields[0]);
    return light_cross_entropy(s, light_reshape(s, logits, LIGHT_SHAPE(-1, 50257)),
                               light_reshape(s, batch->fields[1], LIGHT_SHAPE(-1)));
}

static light_status configure_optimizers(light_module *self, light_optimizers *out)
{
    return light_optimizers_add(out, light_adamw(light_parameters(self), .lr = 1e-9), NULL);
}

/* The optimizer's own tensors are out of a program's reach, so its state is read into others of the same shapes. */
static light_status target_for(const light_checkpoint_tensor *tensor, light_tensor **out)
{
    for (int i = 0; i < MAX_SHAPES; i++) {
        light_tensor **slot = &bench.targets[i];
        if (!*slot) LIGHT_TRY(light_tensor_new(slot, tensor->shape, tensor->dtype, NULL));
        *out = *slot;
        if (light_shape_equal(light_shape_of(*slot), tensor->shape) && light_dtype_of(*slot) == tensor->dtype)
            return LIGHT_OK;
    }
    return light_fail(LIGHT_ERR_INTERNAL, "more than %d shapes", MAX_SHAPES);
}

static light_status read_all(const light_checkpoint *checkpoint)
{
    LIGHT_TRY(light_checkpoint_read_module(checkpoint, bench.model, "model", true));
    light_checkpoint_tensor tensor;
    bench.work.bytes = 0;
    for (size_t i = 0; light_checkpoint_tensor_at(checkpoint, i, &tensor); i++) {
        bench.work.bytes += (double)light_shape_numel(tensor.shape) * (double)light_dtype_size(tensor.dtype);
        if (!strncmp(tensor.name, "model/", 6)) continue;
        light_tensor *to;
        LIGHT_TRY(target_for(&tensor, &to));
        LIGHT_TRY(light_checkpoint_read(checkpoint, tensor.name, to, NULL));
    }
    return LIGHT_OK;
}

static light_status load(double *seconds)
{
    double begin = bench_now();
    light_checkpoint *checkpoint;
    LIGHT_TRY(light_checkpoint_open(bench.path, &checkpoint));
    light_status status = read_all(checkpoint);
    light_checkpoint_close(checkpoint);
    *seconds = bench_now() - begin;
    return status;
}

static light_status read_half(const light_checkpoint *checkpoint, const light_checkpoint_tensor *tensor)
{
    const int64_t numel = light_shape_numel(tensor->shape), begin = numel / 2;
    light_tensor *whole, *part;
    LIGHT_TRY(target_for(tensor, &whole));
    LIGHT_TRY(light_tensor_wrap(&part, LIGHT_SHAPE(numel - begin), tensor->dtype, light_data(whole)));
    light_status status = light_checkpoint_read_part(checkpoint, tensor->name, part, begin);
    bench.half.bytes += (double)(numel - begin) * (double)light_dtype_size(tensor->dtype);
    light_tensor_free(part);
    return status;
}

static light_status load_part(double *seconds)
{
    double begin = bench_now();
    light_checkpoint *checkpoint;
    light_checkpoint_tensor tensor;
    light_status status = light_checkpoint_open_lazily(bench.path, &checkpoint);
    LIGHT_TRY(status);
    bench.half.bytes = 0;
    for (size_t i = 0; status == LIGHT_OK && light_checkpoint_tensor_at(checkpoint, i, &tensor); i++)
        status = read_half(checkpoint, &tensor);
    light_checkpoint_close(checkpoint);
    *seconds = bench_now() - begin;
    return status;
}

/* ---- the callback that asks --------------------------------------------- */

static void on_train_batch_end(light_callback *self, light_trainer *t, const light_batch *batch)
{
    (void)self, (void)batch;
    if (bench.asked > 0 || !bench.stepped) return;
    bench.moving = false;
    bench.asked = bench_now();
    light_status status = light_trainer_save_checkpoint(t, bench.path);
    if (status != LIGHT_OK) light_trainer_fail(t, status, "%s", light_error_message());
}

static void on_checkpoint_written(light_callback *self, light_trainer *t, const char *path,
                                  light_status status)
{
    (void)self, (void)path;
    double unused[2], *seconds = bench.round >= 0 ? &bench.load[bench.round] : &unused[0],
                      *of_part = bench.round >= 0 ? &bench.load_part[bench.round] : &unused[1];
    if (bench.round >= 0) bench.save[bench.round] = bench_now() - bench.asked;
    if (status == LIGHT_OK) status = load(seconds);
    if (status == LIGHT_OK) status = load_part(of_part);
    if (status == LIGHT_OK) status = light_checkpoint_remove(bench.path);
    if (status != LIGHT_OK) light_trainer_fail(t, status, "%s", light_error_message());
    bench.asked = 0;
    if (++bench.round == bench.run->steps) light_trainer_stop(t, "measured");
}

static const light_callback_vtable asking_vtable = {
    LIGHT_CALLBACK(light_callback),
    .on_train_batch_end = on_train_batch_end,
    .on_checkpoint_written = on_checkpoint_written,
};

/* ---- the run ------------------------------------------------------------ */

static light_status fit(light_module *model, bench_repeat *data)
{
    data->fields[0] = (light_field){"tokens", LIGHT_I64, LIGHT_SHAPE(8)};
    data->fields[1] = (light_field){"targets", LIGHT_I64, LIGHT_SHAPE(8)};
    data->batch_size = 1;
    data->batches = 1000000;
    light_trainer *trainer =
        light_trainer_new(.accelerator = "cpu", .max_epochs = 1, .logger = "none",
                          .default_root_dir = bench.folder, .enable_checkpointing = LIGHT_OFF,
                          .enable_progress_bar = LIGHT_OFF, .enable_model_summary = LIGHT_OFF,
                          .enable_learning_curve = LIGHT_OFF,
                          .callbacks = {light_callback_new(&asking_vtable)});
    light_status status = trainer ? light_trainer_fit(trainer, model, &data->base) : LIGHT_ERR_MEMORY;
    light_trainer_free(trainer);
    if (status == LIGHT_OK && bench.round < bench.run->steps)
        status = light_fail(LIGHT_ERR_INTERNAL, "training ended before all checkpoints were written");
    return status;
}

static light_status measure_in_folder(void)
{
    bench_defaults(bench.run, 1, 3);
    int n = bench.run->steps;
    bench.round = -bench.run->warmup;
    bench.save = calloc((size_t)n * 4, sizeof(double));
    if (!bench.save) return light_fail(LIGHT_ERR_MEMORY, "no memory for %d samples", n);
    bench.blocked = bench.save + n;
    bench.load = bench.blocked + n;
    bench.load_part = bench.load + n;

    static light_module_vtable vtable;
    vtable = bench_gpt2;
    vtable.training_step = training_step;
    vtable.configure_optimizers = configure_optimizers;
    bench.model = light_module_new(&vtable);
    light_datamodule *data = light_datamodule_new(&bench_repeat_vtable);
    light_status status = bench.model && data ? fit(bench.model, (bench_repeat *)data) : LIGHT_ERR_MEMORY;
    light_datamodule_free(data);
    light_module_free(bench.model);
    for (int i = 0; i < MAX_SHAPES; i++) light_tensor_free(bench.targets[i]);
    if (status == LIGHT_OK) {
        bench_report("ckpt_save", bench.save, n, &bench.work);
        bench_report("ckpt_blocked", bench.blocked, n, &bench.work);
        bench_report("ckpt_load", bench.load, n, &bench.work);
        bench_report("ckpt_load_part", bench.load_part, n, &bench.half);
    }
    free(bench.save);
    return status;
}

static light_status measure(void)
{
    LIGHT_TRY(bench_folder(bench.folder, sizeof(bench.folder), bench.run->dir));
    snprintf(bench.path, sizeof(bench.path), "%s/bench.ckpt", bench.folder);
    light_status status = measure_in_folder();
    bench_remove(bench.folder);
    return status;
}

int main(int argc, char **argv)
{
    const char *const cases[] = {"ckpt", NULL};
    bench_run run = bench_arguments(argc, argv, cases);
    bench.run = &run;
    return bench_exit(measure());
}
