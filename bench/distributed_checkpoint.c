/* SPDX-License-Identifier: Apache-2.0 */
/* Seconds to save and to load a training of several processes, page cache warm:
 *
 *     mpirun -np 2 build/bench/distributed_checkpoint zero1 --dir DIR
 *
 * save     from asking the Trainer for a checkpoint until it is durable on disk, as seen at the next batch's end
 * blocked  from asking until training goes on
 * load     opening lazily, reading and checking an equal part of each tensor, closing
 *
 * Each figure is that of the slowest rank. The model is common/models.h's stack with its AdamW state; batches are of one
 * sample, with a pause after each that leaves processors to the writers. DIR keeps the checkpoints. */
#include "common/bench.h"
#include "common/models.h"
#include "common/repeat.h"

#include "strategies/communicators.h"

#include <light/checkpoint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { STEPS = 30, MAX_ROUNDS = 32 }; /* steps from one checkpoint to the next */

static struct {
    bench_run run;
    int asked, written; /* rounds, with warm-up */
    bool moving;        /* training went on after asking */
    double when;        /* of asking */
    double save[MAX_ROUNDS], blocked[MAX_ROUNDS], load[MAX_ROUNDS];
    double bytes; /* of all tensors */
} bench;

static void path_of(char *path, size_t bytes, int round)
{
    snprintf(path, bytes, "%s/round%d", bench.run.dir, round);
}

/* ---- saving ------------------------------------------------------------- */

static void on_train_batch_start(light_callback *self, light_trainer *t, const light_batch *batch)
{
    (void)self, (void)t, (void)batch;
    if (!bench.moving) bench.blocked[bench.asked - 1] = bench_now() - bench.when;
    bench.moving = true;
}

static void on_train_batch_end(light_callback *self, light_trainer *t, const light_batch *batch)
{
    char path[4200];
    (void)self, (void)batch;
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    if (light_trainer_global_step(t) % STEPS || bench.asked == bench.run.warmup + bench.run.steps) return;
    if (bench.written < bench.asked) {
        light_trainer_fail(t, LIGHT_ERR_INTERNAL, "a checkpoint took longer than %d steps", STEPS);
        return;
    }
    path_of(path, sizeof path, bench.asked++);
    bench.moving = false;
    bench.when = bench_now();
    light_status status = light_trainer_save_checkpoint(t, path);
    if (status != LIGHT_OK) light_trainer_fail(t, status, "%s", light_error_message());
}

static void on_checkpoint_written(light_callback *self, light_trainer *t, const char *path,
                                  light_status status)
{
    (void)self, (void)t, (void)path;
    if (status == LIGHT_OK) bench.save[bench.written++] = bench_now() - bench.when;
}

static const light_callback_vtable asking_vtable = {
    LIGHT_CALLBACK(light_callback),
    .on_train_batch_start = on_train_batch_start,
    .on_train_batch_end = on_train_batch_end,
    .on_checkpoint_written = on_checkpoint_written,
};

static light_status fit(light_module *model, bench_repeat *data)
{
    bench_stack_data(data, 1, 1 << 20);
    const int rounds = bench.run.warmup + bench.run.steps;
    light_trainer *trainer =
        light_trainer_new(.accelerator = "cpu", .strategy = bench.run.name, .max_epochs = 1,
                          .max_steps = (int64_t)(rounds + 1) * STEPS, .shard_unit_mb = 2, .logger = "none",
                          .enable_checkpointing = LIGHT_OFF, .enable_progress_bar = LIGHT_OFF,
                          .enable_model_summary = LIGHT_OFF, .enable_learning_curve = LIGHT_OFF,
                          .default_root_dir = bench.run.dir,
                          .callbacks = {light_callback_new(&asking_vtable)});
    light_status status = trainer ? light_trainer_fit(trainer, model, &data->base) : LIGHT_ERR_MEMORY;
    light_trainer_free(trainer);
    if (status == LIGHT_OK && bench.written < rounds)
        status = light_fail(LIGHT_ERR_INTERNAL, "training ended before all checkpoints were written");
    return status;
}

static light_status save(void)
{
    light_module *model = light_module_new(&bench_stack);
    light_datamodule *data = light_datamodule_new(&bench_repeat_vtable);
    bench.moving = true;
    light_status status = model && data ? fit(model, (bench_repeat *)data) : LIGHT_ERR_MEMORY;
    light_datamodule_free(data);
    light_module_free(model);
    return status;
}

/* ---- loading ------------------------------------------------------------ */

/* Part `rank` of a tensor, into one that all are read into. */
static light_status read_part(const light_checkpoint *checkpoint, const light_checkpoint_tensor *tensor,
                              const light_communicator *c, light_tensor *room)
{
    const int64_t numel = light_shape_numel(tensor->shape), from = numel * c->rank / c->size,
                  n = numel * (c->rank + 1) / c->size - from;
    light_tensor *part;
    bench.bytes += (double)numel * (double)light_dtype_size(tensor->dtype);
    if (n == 0) return LIGHT_OK;
    LIGHT_TRY(light_tensor_wrap(&part, LIGHT_SHAPE(n), tensor->dtype, light_data(room)));
    light_status status = light_checkpoint_read_part(checkpoint, tensor->name, part, from);
    light_tensor_free(part);
    return status;
}

static light_status load(const light_communicator *c, light_tensor *room, const char *path)
{
    light_checkpoint *checkpoint;
    light_checkpoint_tensor tensor;
    LIGHT_TRY(light_checkpoint_open_lazily(path, &checkpoint));
    light_status status = LIGHT_OK;
    bench.bytes = 0;
    for (size_t i = 0; status == LIGHT_OK && light_checkpoint_tensor_at(checkpoint, i, &tensor); i++)
        status = read_part(checkpoint, &tensor, c, room);
    light_checkpoint_close(checkpoint);
    return status;
}

static light_status load_rounds(light_communicator *c, light_tensor *room)
{
    char path[4200];
    for (int i = 0; i < bench.asked; i++) {
        path_of(path, sizeof path, i);
        LIGHT_TRY(light_barrier(c, "a round"));
        double begin = bench_now();
        LIGHT_TRY(load(c, room, path));
        bench.load[i] = bench_now() - begin;
    }
    return LIGHT_OK;
}

/* ---- the figures -------------------------------------------------------- */

static void report_as(const char *figure, double *samples)
{
    char name[64];
    snprintf(name, sizeof name, "ckpt_%s_%s", bench.run.name, figure);
    bench_report(name, samples + bench.run.warmup, bench.run.steps, &(bench_work){.bytes = bench.bytes});
}

static light_status report(light_communicator *c)
{
    double *figures[] = {bench.save, bench.blocked, bench.load};
    static const char *const names[] = {"save", "blocked", "load"};
    for (int i = 0; i < 3; i++) {
        LIGHT_TRY(light_reduce_doubles(c, figures[i], bench.asked, LIGHT_COMBINE_MAX, "the slowest"));
        if (c->rank == 0) report_as(names[i], figures[i]);
    }
    return LIGHT_OK;
}

static light_status measure(void)
{
    light_communicator *c;
    light_tensor *room;
    LIGHT_TRY(save());
    LIGHT_TRY(light_tensor_new(&room, LIGHT_SHAPE(bench_stack_layer_parameters), LIGHT_F64, NULL));
    light_status status = light_mpi_communicator_new(&c);
    if (status == LIGHT_OK) {
        status = load_rounds(c, room);
        if (status == LIGHT_OK) status = report(c);
        light_communicator_free(c);
    }
    light_tensor_free(room);
    return status;
}

int main(int argc, char **argv)
{
    const char *const cases[] = {"ddp", "zero1", "zero2", "zero3", NULL};
    bench.run = bench_arguments(argc, argv, cases);
    bench_defaults(&bench.run, 1, 5);
    if (bench.run.warmup + bench.run.steps > MAX_ROUNDS) bench.run.steps = MAX_ROUNDS - bench.run.warmup;
    return bench_exit(measure());
}
