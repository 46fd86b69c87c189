/* SPDX-License-Identifier: Apache-2.0 */
/* The trainer's flags: one table, their defaults, and which do not go together. */
#include "trainer/trainer.h"

#include "base/memory.h"
#include "base/string.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define T light_trainer_options
const light_option light_trainer_option_table[] = {
    LIGHT_OPTION(T, accelerator, "auto", "device to run on: auto, cpu or cuda"),
    LIGHT_OPTION(T, devices, "auto", "processes on each host, with a device each: auto or a number"),
    LIGHT_OPTION(T, strategy, "auto",
                 "how processes share the work: auto, single, ddp, zero1, zero2, zero3 or fsdp"),
    LIGHT_OPTION_CHOICE(T, precision, "32-true", "32-true|64-true|bf16-mixed|16-mixed|bf16-true|16-true",
                        "dtype of all that is computed (true), or of products alone (mixed)"),
    LIGHT_OPTION_RANGE(T, max_epochs, 1000, -1, INFINITY,
                       "epochs at most; -1: no limit, as where max_steps alone is given"),
    LIGHT_OPTION_RANGE(T, min_epochs, 0, 0, INFINITY, "epochs at least, whatever asks to stop"),
    LIGHT_OPTION_RANGE(T, max_steps, -1, -1, INFINITY, "optimizer steps at most; -1: no limit"),
    LIGHT_OPTION_RANGE(T, min_steps, 0, 0, INFINITY, "optimizer steps at least"),
    LIGHT_OPTION(T, max_time, "", "wall time at most, DD:HH:MM:SS; empty: no limit"),
    LIGHT_OPTION(T, limit_train_batches, "1.0",
                 "training batches an epoch: 10 is ten, 0.25 a quarter, 1.0 all"),
    LIGHT_OPTION(T, limit_val_batches, "1.0", "validation batches, likewise; 0 turns validation off"),
    LIGHT_OPTION(T, limit_test_batches, "1.0", "test batches, likewise"),
    LIGHT_OPTION(T, limit_predict_batches, "1.0", "batches to predict, likewise"),
    LIGHT_OPTION(T, overfit_batches, "0.0", "train and validate on so many batches, without shuffling"),
    LIGHT_OPTION_RANGE(T, fast_dev_run, 0, 0, INFINITY, "run so many batches of everything and save nothing"),
    LIGHT_OPTION(T, val_check_interval, "1.0", "validate every 0.25 epochs, or every 100 batches"),
    LIGHT_OPTION_RANGE(T, check_val_every_n_epoch, 1, -1, INFINITY,
                       "validate in every nth epoch; -1: val_check_interval counts batches across epochs"),
    LIGHT_OPTION_RANGE(T, num_sanity_val_steps, 2, -1, INFINITY,
                       "validation batches before training; -1: all"),
    LIGHT_OPTION_RANGE(T, accumulate_grad_batches, 1, 1, INFINITY,
                       "batches of each process to one optimizer step"),
    LIGHT_OPTION_RANGE(T, gradient_clip_val, 0.0, 0, INFINITY,
                       "limit of the gradients' norm or values; 0: none"),
    LIGHT_OPTION_CHOICE(T, gradient_clip_algorithm, "norm", "norm|value", "what gradient_clip_val limits"),
    LIGHT_OPTION_RANGE(T, log_every_n_steps, 50, 0, INFINITY,
                       "optimizer steps between rows of step metrics; 0: none"),
    LIGHT_OPTION(T, enable_checkpointing, LIGHT_ON, "save checkpoints (see model_checkpoint)"),
    LIGHT_OPTION(T, enable_progress_bar, LIGHT_ON, "show progress"),
    LIGHT_OPTION(T, enable_model_summary, LIGHT_ON, "print the model's layers before training"),
    LIGHT_OPTION(T, enable_learning_curve, LIGHT_ON, "draw learning_curve.svg when training ends"),
    LIGHT_OPTION(T, cuda_graphs, false, "record steps that repeat and launch them at once (cuda only)"),
    LIGHT_OPTION(T, detect_anomaly, false, "stop at the first loss that is NaN or infinite"),
    LIGHT_OPTION_RANGE(T, reload_dataloaders_every_n_epochs, 0, 0, INFINITY,
                       "make the training loader anew; 0: never"),
    LIGHT_OPTION(T, default_root_dir, "runs", "folder of all runs"),
    LIGHT_OPTION(T, name, "", "folder of this program's runs in it; empty: the module's name"),
    LIGHT_OPTION_RANGE(T, seed, 1, 0, 9e15, "seed of initial values, shuffling and dropout"),
    LIGHT_OPTION_CHOICE(T, logger, "csv", "csv|none", "where metrics go"),
    LIGHT_OPTION(T, barebones, false, "turn off everything that costs time: to measure the trainer itself"),
    LIGHT_OPTION_RANGE(T, num_nodes, 1, 1, 1e6, "hosts of the job, on which srun or mpirun has started it"),
    LIGHT_OPTION_CHOICE(
        T, deterministic, "false", "false|true|warn|elastic",
        "elastic: the same bits for any number of processes; accumulate_grad_batches then counts those of all"),
    LIGHT_OPTION(T, sync_batchnorm, false, "BatchNorm uses the batches of all processes"),
    LIGHT_OPTION(T, use_distributed_sampler, LIGHT_ON,
                 "processes share the batches of each loader; false: each has all of its own"),
    LIGHT_OPTION_RANGE(T, bucket_cap_mb, 25.0, 0.001, 1e6, "MiB of gradients that ddp sums in one go"),
    LIGHT_OPTION(T, find_unused_parameters, false,
                 "batches may leave parameters out, other ones on each process"),
    LIGHT_OPTION_RANGE(T, shard_unit_mb, 16.0, 0.0001, 1e6,
                       "MiB of parameters that zero1 to zero3 and fsdp gather in one go"),
    LIGHT_OPTION_RANGE(T, shard_size, 0, 0, 1e6,
                       "processes that share one copy of the model (zero1 to zero3, fsdp); 0: all of them"),
    LIGHT_OPTION(T, cpu_offload, false,
                 "fsdp and zero1 to zero3 on cuda: optimizer state in host memory, steps on the CPU"),
    LIGHT_OPTION_RANGE(T, collective_timeout, 60.0, 0.1, 86400,
                       "seconds that a process may keep the others of a job waiting before all are ended"),
    LIGHT_OPTION_RANGE(
        T, max_restarts, 0, 0, 1000,
        "restarts, from the last checkpoint, of a job that has started itself and whose processes died or hung"),
    LIGHT_OPTIONS_END,
};
#undef T

/* Ranges and choices hold for options written in C too. */
static light_status check_one(const light_option *o, const light_trainer_options *options)
{
    const void *field = (const char *)options + o->offset;
    char where[64];
    double value = o->type == LIGHT_OPTION_INT64    ? (double)*(const int64_t *)field
                   : o->type == LIGHT_OPTION_DOUBLE ? *(const double *)field
                                                    : 0;
    snprintf(where, sizeof where, "trainer.%s", o->name);
    if ((o->low != 0 || o->high != 0) && !(value >= o->low && value <= o->high))
        return light_fail(LIGHT_ERR_ARGUMENT, "%s %g: must be between %g and %g", where, value, o->low,
                          o->high);
    light_trainer_options scratch = *options;
    if (o->choices) return light_option_set(o, &scratch, *(const char *const *)field, where);
    return LIGHT_OK;
}

/* This process's device, and how it shares the work. */
static light_status choose_device(light_trainer *t)
{
    const light_trainer_options *o = &t->options;
    LIGHT_TRY(light_strategy_find(o, &t->strategy_table));
    if (t->strategy_table) {
        LIGHT_TRY(t->strategy_table->launch(o));
        return t->strategy_table->device(o, &t->device);
    }
    if (strcmp(o->accelerator, "auto"))
        return light_device_get(strcmp(o->accelerator, "gpu") ? o->accelerator : "cuda", &t->device);
    t->device = light_default_device();
    return LIGHT_OK;
}

static light_status parse_limits(light_trainer *t)
{
    const light_trainer_options *o = &t->options;
    LIGHT_TRY(light_limit_parse("trainer.limit_train_batches", o->limit_train_batches, &t->limit_train));
    LIGHT_TRY(light_limit_parse("trainer.limit_val_batches", o->limit_val_batches, &t->limit_val));
    LIGHT_TRY(light_limit_parse("trainer.limit_test_batches", o->limit_test_batches, &t->limit_test));
    LIGHT_TRY(
        light_limit_parse("trainer.limit_predict_batches", o->limit_predict_batches, &t->limit_predict));
    LIGHT_TRY(light_limit_parse("trainer.overfit_batches", o->overfit_batches, &t->overfit));
    LIGHT_TRY(light_limit_parse("trainer.val_check_interval", o->val_check_interval, &t->val_interval));
    if (t->val_interval.is_fraction ? t->val_interval.fraction == 0 : t->val_interval.batches == 0)
        return light_fail(
            LIGHT_ERR_ARGUMENT,
            "trainer.val_check_interval %s: must be above 0; trainer.limit_val_batches 0 turns validation off",
            o->val_check_interval);
    if (o->check_val_every_n_epoch == 0)
        return light_fail(LIGHT_ERR_ARGUMENT, "trainer.check_val_every_n_epoch 0: must be 1 or more, or -1");
    if (o->check_val_every_n_epoch == -1 && t->val_interval.is_fraction)
        return light_fail(
            LIGHT_ERR_ARGUMENT,
            "trainer.check_val_every_n_epoch -1 needs trainer.val_check_interval in batches, such as 100, "
            "not %s",
            o->val_check_interval);
    return light_parse_max_time(o->max_time, &t->max_seconds);
}

/* Flags that stand for several others. */
static void apply_shorthands(light_trainer *t)
{
    light_trainer_options *o = &t->options;
    if (o->fast_dev_run > 0) {
        const light_limit n = {.batches = o->fast_dev_run};
        t->limit_train = t->limit_val = t->limit_test = t->limit_predict = n;
        t->val_interval = (light_limit){.is_fraction = true, .fraction = 1};
        o->max_epochs = 1;
        o->max_steps = o->fast_dev_run;
        o->num_sanity_val_steps = 0;
        o->check_val_every_n_epoch = 1;
        o->enable_checkpointing = o->enable_learning_curve = LIGHT_OFF;
        o->logger = "none";
    }
    if (o->barebones) {
        o->enable_checkpointing = o->enable_progress_bar = o->enable_model_summary =
            o->enable_learning_curve = LIGHT_OFF;
        o->num_sanity_val_steps = 0;
        o->log_every_n_steps = 0;
        o->logger = "none";
    }
    bool overfit = t->overfit.is_fraction ? t->overfit.fraction > 0 : t->overfit.batches > 0;
    if (overfit)
        t->limit_train = t->limit_val = t->overfit;
    else
        t->overfit = (light_limit){0};
}

void light_trainer_default_epochs(light_trainer_options *options)
{
    const light_option *o = light_option_find(light_trainer_option_table, "max_epochs");
    options->max_epochs = options->max_steps >= 0 ? -1 : (int64_t)o->number;
}

light_status light_trainer_resolve(light_trainer *t, const light_trainer_options *options, bool as_they_stand)
{
    t->options = *options;
    if (!as_they_stand) {
        light_options_default(light_trainer_option_table, &t->options);
        light_options_merge(light_trainer_option_table, &t->options, options, 0);
        if (!options->max_epochs) light_trainer_default_epochs(&t->options);
    }
    for (const light_option *o = light_trainer_option_table; o->name; o++)
        LIGHT_TRY(check_one(o, &t->options));
    t->precision = light_precision_find(t->options.precision);
    LIGHT_TRY(parse_limits(t));
    apply_shorthands(t);
    return choose_device(t); /* last, since it may start processes with these flags */
}
