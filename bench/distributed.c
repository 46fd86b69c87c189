/* SPDX-License-Identifier: Apache-2.0 */
/* One strategy on as many processes as mpirun starts: what a step sends, what is held, how long it takes.
 *
 *     mpirun -np 2 build/bench/distributed zero3
 *
 * bench/distributed.py runs the cases on 1, 2, 4 and 8 processes and prints the table. The model is common/models.h's
 * stack, trained through the Trainer with AdamW, in f32 or (_bf16) in bf16-mixed, the same number of samples on every rank.
 *
 * sent     bytes that rank 0's communicator counts per optimizer step, once steps repeat
 * exposed  seconds from the end of backward until the gradients are those of all ranks
 * held     bytes of lasting device memory between two steps: values, gradients, optimizer state and what the strategy
 *          keeps beside them. The device's two calls for such memory are counted; the arena of activations is not.
 *
 * The case `communication` is ddp's sums without a training: the buckets of the gradients, one after the other. */
#include "common/bench.h"
#include "common/models.h"
#include "common/repeat.h"

#include "nn/flat.h"
#include "nn/parameter.h"
#include "strategies/communicators.h"
#include "trainer/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNIT_MB 2.0 /* a unit of zero1 to zero3 and a bucket of ddp: one layer */

typedef struct distributed_case {
    const char *name, *strategy;
    int batches;           /* micro-batches of a rank in a step */
    double bucket_mb;      /* 0: UNIT_MB */
    bool late;             /* gradients are summed after backward, not during it */
    const char *precision; /* NULL: 32-true */
} distributed_case;

static const distributed_case cases[] = {
    {"ddp", "ddp", 1, 0, false, NULL},
    {"zero1", "zero1", 1, 0, false, NULL},
    {"zero2", "zero2", 1, 0, false, NULL},
    {"zero3", "zero3", 1, 0, false, NULL},
    {"zero3_bf16", "zero3", 1, 0, false, "bf16-mixed"},
    {"ddp_a4", "ddp", 4, 0, false, NULL},
    {"zero1_a4", "zero1", 4, 0, false, NULL},
    {"zero2_a4", "zero2", 4, 0, false, NULL},
    {"zero3_a4", "zero3", 4, 0, false, NULL},
    {"zero3_bf16_a4", "zero3", 4, 0, false, "bf16-mixed"},
    {"ddp_late", "ddp", 1, 0, true, NULL},
    {"ddp_one_bucket", "ddp", 1, 1e6, false, NULL},
    {"communication", NULL, 1, 0, false, NULL},
};
enum { CASES = sizeof cases / sizeof *cases };

typedef struct run_state {
    bench_run *run;
    const distributed_case *kind;
    int rank, ranks;
    double *samples, *exposed, last;
    light_strategy_vtable watched; /* the strategy's, with a clock in it */
    const light_strategy_vtable *real;
    int64_t steps; /* seen, from -warmup */
    uint64_t sent_before, sent;
    int64_t held, parameters;
    size_t largest; /* bytes of a flat buffer */
} run_state;

static run_state state;

/* ---- counting lasting memory -------------------------------------------- */

static int64_t held; /* now */

static light_status allocate(light_device *device, size_t bytes, void **data)
{
    LIGHT_TRY(light_cpu_backend.allocate(device, bytes, data));
    __atomic_add_fetch(&held, (int64_t)bytes, __ATOMIC_RELAXED);
    return LIGHT_OK;
}

static void release(light_device *device, void *data, size_t bytes)
{
    __atomic_sub_fetch(&held, (int64_t)bytes, __ATOMIC_RELAXED);
    light_cpu_backend.release(device, data, bytes);
}

static void count_memory(void)
{
    static light_backend counting;
    counting = light_cpu_backend;
    counting.allocate = allocate;
    counting.release = release;
    light_device_cpu()->backend = &counting;
}

/* ---- the formulas ------------------------------------------------------- */

/* Bytes that a rank sends in a step, per parameter: a reduction or a gather moves (n-1)/n of the model, in f32 but for what
 * zero3 gathers in a 16-bit precision. */
static double bytes_sent(const distributed_case *kind, double n)
{
    double a = kind->batches, moved = 4 * 2;
    if (!strcmp(kind->strategy, "zero2")) moved = 4 * (a + 1);
    if (!strcmp(kind->strategy, "zero3")) moved = (4 + 2 * (kind->precision ? 2 : 4)) * a;
    return moved * (n - 1) / n;
}

/* Bytes that a rank holds, per parameter: f32 values, gradients and AdamW's two moments. */
static double bytes_held(const distributed_case *kind, double n)
{
    int level = kind->strategy[0] == 'z' ? kind->strategy[4] - '0' : 0;
    return (level >= 3 ? 4 / n : 4) + (level >= 2 ? 4 / n : 4) + (level >= 1 ? 8 / n : 8);
}

/* ---- watching the training ---------------------------------------------- */

static light_status after_backward(light_strategy *self, light_step *s, const light_window *window,
                                   bool backward)
{
    double begin = bench_now();
    LIGHT_TRY(state.real->after_backward(self, s, window, backward));
    /* The step that is being taken comes after those seen so far. */
    if (window->last && state.steps >= 0 && state.steps < state.run->steps)
        state.exposed[state.steps] = bench_now() - begin;
    return LIGHT_OK;
}

static void on_train_start(light_callback *self, light_trainer *t)
{
    (void)self;
    state.real = t->strategy->vtable;
    state.watched = *state.real;
    state.watched.after_backward = after_backward;
    t->strategy->vtable = &state.watched;
}

static void note_model(const light_trainer *t)
{
    state.parameters = 0;
    state.largest = 0;
    for (light_parameter *p = light_next_parameter(t->module, NULL); p;
         p = light_next_parameter(t->module, p))
        state.parameters += p->tensor->numel;
    for (int i = 0; i < t->module->flat->n; i++)
        if (t->module->flat->buffers[i].bytes > state.largest)
            state.largest = t->module->flat->buffers[i].bytes;
}

static void on_train_batch_end(light_callback *self, light_trainer *t, const light_batch *batch)
{
    (void)self, (void)batch;
    double now = bench_now();
    int64_t step = light_trainer_global_step(t) - state.run->warmup;
    if (step == state.steps) return; /* a window goes on */
    state.steps = step;
    if (step == 0) state.sent_before = t->strategy->tensors->bytes;
    if (step > 0) state.samples[step - 1] = now - state.last;
    if (step == state.run->steps) {
        state.rank = t->strategy->rank;
        state.ranks = t->strategy->size;
        state.sent = t->strategy->tensors->bytes - state.sent_before;
        state.held = held;
        note_model(t);
    }
    state.last = bench_now();
}

static const light_callback_vtable watching_vtable = {
    LIGHT_CALLBACK(light_callback),
    .on_train_start = on_train_start,
    .on_train_batch_end = on_train_batch_end,
};

/* ---- the runs ----------------------------------------------------------- */

static light_status fit(light_module *model, bench_repeat *data)
{
    const distributed_case *kind = state.kind;
    bench_stack_data(data, 64, 1 << 20);
    light_trainer *trainer = light_trainer_new(
            .accelerator = "cpu", .strategy = kind->strategy, .max_epochs = 1,
            .max_steps = state.run->warmup + state.run->steps, .accumulate_grad_batches = kind->batches,
            .precision = kind->precision, .bucket_cap_mb = kind->bucket_mb > 0 ? kind->bucket_mb : UNIT_MB,
            .shard_unit_mb = UNIT_MB,
            /* The model has no BatchNorm: all that is left of this flag is that sums wait for the end of backward. */
            .sync_batchnorm = kind->late, .logger = "none", .enable_checkpointing = LIGHT_OFF,
            .enable_progress_bar = LIGHT_OFF, .enable_model_summary = LIGHT_OFF,
            .enable_learning_curve = LIGHT_OFF, .default_root_dir = state.run->dir,
            .callbacks = {light_callback_new(&watching_vtable)});
    light_status status = trainer ? light_trainer_fit(trainer, model, &data->base) : LIGHT_ERR_MEMORY;
    light_trainer_free(trainer);
    if (status == LIGHT_OK && state.steps != state.run->steps)
        status = light_fail(LIGHT_ERR_INTERNAL, "training ended after %lld of %d timed steps",
                            (long long)state.steps, state.run->steps);
    return status;
}

/* ddp's buckets: all are started, the last one is waited for. */
static light_status sum_buckets(light_communicator *c, float *gradients, int64_t count, int64_t bucket)
{
    light_ticket ticket = 0;
    for (int64_t at = 0; at < count; at += bucket)
        LIGHT_TRY(
            light_communicate_start(c,
                                    &(light_collective){.kind = LIGHT_ALL_REDUCE,
                                                        .in = gradients + at,
                                                        .out = gradients + at,
                                                        .count = count - at < bucket ? count - at : bucket,
                                                        .dtype = LIGHT_F32,
                                                        .what = "gradients"},
                                    &ticket));
    return light_communicate_wait(c, ticket);
}

static light_status time_sums(light_communicator *c, float *gradients)
{
    state.rank = c->rank;
    state.ranks = c->size;
    for (int i = -state.run->warmup; i < state.run->steps; i++) {
        LIGHT_TRY(light_barrier(c, "a round"));
        double begin = bench_now();
        LIGHT_TRY(sum_buckets(c, gradients, state.parameters, bench_stack_layer_parameters));
        if (i >= 0) state.samples[i] = bench_now() - begin;
    }
    return LIGHT_OK;
}

static light_status communication(void)
{
    light_communicator *c;
    state.parameters = bench_stack_parameters;
    float *gradients = calloc((size_t)state.parameters, sizeof *gradients);
    if (!gradients) return light_fail(LIGHT_ERR_MEMORY, "no memory for the gradients");
    light_status status = light_mpi_communicator_new(&c);
    if (status == LIGHT_OK) {
        status = time_sums(c, gradients);
        light_communicator_free(c);
    }
    free(gradients);
    return status;
}

static light_status training(void)
{
    light_module *model = light_module_new(&bench_stack);
    light_datamodule *data = light_datamodule_new(&bench_repeat_vtable);
    light_status status = model && data ? fit(model, (bench_repeat *)data) : LIGHT_ERR_MEMORY;
    light_datamodule_free(data);
    light_module_free(model);
    return status;
}

/* Sizes in a line of their own. */
static void report(void)
{
    const distributed_case *kind = state.kind;
    double n = state.ranks, parameters = (double)state.parameters;
    printf("{\"case\": \"%s_sizes\", \"ranks\": %d, \"parameters\": %lld", kind->name, state.ranks,
           (long long)state.parameters);
    if (kind->strategy)
        printf(", \"batches\": %d, \"sent\": %.1f, \"sent_formula\": %.1f, \"held\": %lld, "
               "\"held_formula\": %.1f, \"largest_unit\": %zu",
               kind->batches, (double)state.sent / state.run->steps, parameters * bytes_sent(kind, n),
               (long long)state.held, parameters * bytes_held(kind, n), state.largest);
    printf("}\n");
    bench_report(kind->name, state.samples, state.run->steps, NULL);
    char name[64];
    snprintf(name, sizeof name, "%s_exposed", kind->name);
    if (kind->strategy) bench_report(name, state.exposed, state.run->steps, NULL);
}

int main(int argc, char **argv)
{
    const char *names[CASES + 1] = {NULL};
    for (int i = 0; i < CASES; i++) names[i] = cases[i].name;
    bench_run run = bench_arguments(argc, argv, names);
    bench_defaults(&run, 2, 10);
    state.run = &run;
    state.kind = cases;
    while (strcmp(state.kind->name, run.name)) state.kind++;
    state.steps = -run.warmup;
    state.samples = calloc((size_t)run.steps * 2, sizeof *state.samples);
    state.exposed = state.samples + run.steps;
    count_memory();
    light_status status = !state.samples         ? light_fail(LIGHT_ERR_MEMORY, "no memory for the samples")
                          : state.kind->strategy ? training()
                                                 : communication();
    if (status == LIGHT_OK && state.rank == 0) report();
    free(state.samples);
    return bench_exit(status);
}
