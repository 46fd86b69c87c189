/* SPDX-License-Identifier: Apache-2.0 */
/* The Trainer: loops, checkpoints, logging, limits. Flags have Lightning's names, defaults and meanings; where they
 * differ, docs/architecture.md says why. */
#ifndef LIGHT_TRAINER_H
#define LIGHT_TRAINER_H

#include <light/callback.h>
#include <light/data.h>
#include <light/logger.h>
#include <light/module.h>
#include <light/optim.h>

#define LIGHT_MAX_CALLBACKS 32
#define LIGHT_MAX_LOGGERS   8

/* Zero means the default; where zero itself is meant, write LIGHT_ZERO_COUNT. Limits are text, as on the command line, because 1 and 1.0 differ: "10" is ten batches,
 * "0.25" a quarter, "1.0" all, "0" none. */
typedef struct light_trainer_options {
    const char *accelerator; /* "auto" (light_default_device), "cpu", "cuda" */
    const char *devices;     /* "auto", a number */
    const char *strategy;    /* "auto": single, or ddp where there are several processes; "ddp", .. */
    const char *precision;   /* "32-true", "64-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true" */
    int64_t max_epochs;      /* 1000, without limit where max_steps is given; -1: no limit */
    int64_t min_epochs;
    int64_t max_steps; /* optimizer steps; -1, the default: no limit */
    int64_t min_steps;
    const char *max_time; /* "DD:HH:MM:SS" */
    const char *limit_train_batches, *limit_val_batches, *limit_test_batches,
        *limit_predict_batches;          /* "1.0" */
    const char *overfit_batches;         /* "0.0" */
    int64_t fast_dev_run;                /* run so many batches of everything, log and save nothing */
    const char *val_check_interval;      /* "1.0" of an epoch, or "100" batches */
    int64_t check_val_every_n_epoch;     /* 1; -1: val_check_interval counts batches across epochs */
    int64_t num_sanity_val_steps;        /* 2; -1: all; LIGHT_ZERO_COUNT: none */
    int64_t accumulate_grad_batches;     /* 1 */
    double gradient_clip_val;            /* 0: off */
    const char *gradient_clip_algorithm; /* "norm", "value" */
    int64_t log_every_n_steps;           /* 50 */
    light_switch enable_checkpointing;   /* on: a ModelCheckpoint is added unless one is given */
    light_switch enable_progress_bar;
    light_switch enable_model_summary;
    light_switch enable_learning_curve;
    bool detect_anomaly; /* stop at the first loss that is NaN or infinite */
    /* Steps that repeat (batches of one shape) are recorded and launched as CUDA graphs: training_step then runs for the
     * first few only, so what it does on the host must not change from step to step. */
    bool cuda_graphs;
    int64_t reload_dataloaders_every_n_epochs;
    const char *default_root_dir; /* "runs" */
    const char *name;             /* of the runs in it; the module's name */
    int64_t seed;                 /* of initialisation, shuffling, dropout; default 1 */
    const char *logger;           /* "csv" unless loggers are given; "none" */
    bool barebones;               /* nothing that costs time: no logging, checkpoints, bar, summary */

    /* Several processes (docs/distributed.md) */
    int64_t num_nodes; /* 1; on more than one host srun or mpirun starts the processes */
    /* "false", "true", "warn": the same run gives the same bits again. "elastic": also with another number of processes;
     * accumulate_grad_batches then counts the batches of all of them together. */
    const char *deterministic;
    bool sync_batchnorm;                  /* BatchNorm uses the batches of all processes */
    light_switch use_distributed_sampler; /* off: every process goes through a loader of its own */
    double bucket_cap_mb;                 /* 25: gradients that ddp sums in one go */
    bool find_unused_parameters;          /* batches may leave parameters out */
    double shard_unit_mb;                 /* 16: parameters that fsdp and zero1 to zero3 gather in one go */
    int64_t shard_size;                   /* 0: all; processes that share one copy of the model */
    bool cpu_offload;          /* fsdp, zero1 to zero3: what a process owns is updated in host memory */
    double collective_timeout; /* 60: seconds that a process may keep the others waiting */
    int64_t max_restarts;      /* 0: of a job that dies, by the process that has started it */

    light_callback *callbacks[LIGHT_MAX_CALLBACKS]; /* up to the first NULL */
    light_logger *loggers[LIGHT_MAX_LOGGERS];
} light_trainer_options;

/* Prints which dtype each operation runs in under each value of `precision`. */
LIGHT_API void light_print_precision(void);

/* NULL after a failure (light_error_message tells): a flag that does not fit, callbacks that do not go together. */
#define light_trainer_new(...) light_trainer_new_with(&(light_trainer_options){__VA_ARGS__})
LIGHT_API light_trainer *light_trainer_new_with(const light_trainer_options *options);
/* With the callbacks and loggers that it owns. Module and data stay. NULL is fine. */
LIGHT_API void light_trainer_free(light_trainer *t);

typedef struct light_run_options {
    /* "last", "best", "last-if-any" (fit: start anew when there is none), or a path. Default: as the module is. */
    const char *ckpt_path;
    bool quiet; /* validate, test: prints no table of results */
} light_run_options;

/* Each returns when the run is over: LIGHT_OK, LIGHT_ERR_INTERRUPTED after Ctrl-C, SIGTERM or SIGUSR1, or what went wrong
 * first. main returns light_exit_code of it. */
#define light_trainer_fit(t, module, data, ...)                                                              \
    light_trainer_fit_with(t, module, data, &(light_run_options){__VA_ARGS__})
#define light_trainer_validate(t, module, data, ...)                                                         \
    light_trainer_validate_with(t, module, data, &(light_run_options){__VA_ARGS__})
#define light_trainer_test(t, module, data, ...)                                                             \
    light_trainer_test_with(t, module, data, &(light_run_options){__VA_ARGS__})
/* Predictions go to the callbacks' on_predict_batch_end. */
#define light_trainer_predict(t, module, data, ...)                                                          \
    light_trainer_predict_with(t, module, data, &(light_run_options){__VA_ARGS__})
LIGHT_API light_status light_trainer_fit_with(light_trainer *t, light_module *module, light_datamodule *data,
                                              const light_run_options *options);
LIGHT_API light_status light_trainer_validate_with(light_trainer *t, light_module *module,
                                                   light_datamodule *data, const light_run_options *options);
LIGHT_API light_status light_trainer_test_with(light_trainer *t, light_module *module, light_datamodule *data,
                                               const light_run_options *options);
LIGHT_API light_status light_trainer_predict_with(light_trainer *t, light_module *module,
                                                  light_datamodule *data, const light_run_options *options);

/* ---- from hooks --------------------------------------------------------- */

/* Ends training after the current batch, once min_epochs and min_steps are reached. `why` is copied. */
LIGHT_API void light_trainer_stop(light_trainer *t, const char *why);
/* Fails the run after the current hook. */
LIGHT_API void light_trainer_fail(light_trainer *t, light_status status, const char *format, ...)
    LIGHT_PRINTF(3, 4);
/* Fails it when the moment that runs is over: for what is no reason to lose the work done so far, since on_exception may
 * then have a checkpoint taken. */
LIGHT_API void light_trainer_fail_at_rest(light_trainer *t, light_status status, const char *format, ...)
    LIGHT_PRINTF(3, 4);
/* In on_exception: nothing is half done, and a checkpoint that is asked for will be taken. */
LIGHT_API bool light_trainer_at_rest(const light_trainer *t);
/* Asks for a checkpoint at `path`. It is taken when the moment that runs (batch end, validation end, epoch end) is
 * over, when nothing is half done, and written in the background. Outside of a run it is taken at once. */
LIGHT_API light_status light_trainer_save_checkpoint(light_trainer *t, const char *path);
LIGHT_API light_status light_trainer_save_weights(light_trainer *t, const char *path);

/* The last value of a logged metric, as monitors see it. False when there is none. */
LIGHT_API bool light_trainer_metric(const light_trainer *t, const char *name, double *value);
/* The same for decisions: with several processes all of them get what rank 0 has. All have to call it. */
LIGHT_API bool light_trainer_monitor(light_trainer *t, const char *name, double *value);
/* All of them: i from 0; false at the end. */
LIGHT_API bool light_trainer_metric_at(const light_trainer *t, int i, light_metric *metric, bool *prog_bar);

/* Their names, "val_loss, val_acc", or "nothing", into `text`, which it returns; for messages. */
LIGHT_API char *light_trainer_metric_names(const light_trainer *t, char *text, size_t bytes);

LIGHT_API int64_t light_trainer_global_step(const light_trainer *t);   /* optimizer steps so far */
LIGHT_API int64_t light_trainer_current_epoch(const light_trainer *t); /* from 0 */
LIGHT_API int64_t light_trainer_max_epochs(const light_trainer *t);
LIGHT_API int64_t light_trainer_max_steps(const light_trainer *t);
/* Batches of the loop that runs (train, validation, ..), of all processes; -1 when not known. Done so far in this epoch. */
LIGHT_API int64_t light_trainer_num_batches(const light_trainer *t);
LIGHT_API int64_t light_trainer_batches_done(const light_trainer *t);
/* Optimizer steps that the run will take; -1: not known. */
LIGHT_API int64_t light_trainer_estimated_stepping_batches(const light_trainer *t);
/* The run has a validation loop: the module, the datamodule and limit_val_batches allow it. */
LIGHT_API bool light_trainer_has_validation(const light_trainer *t);
/* In on_train_batch_end: validation comes right after this batch. */
LIGHT_API bool light_trainer_validates_next(const light_trainer *t);
LIGHT_API bool light_trainer_sanity_checking(const light_trainer *t);
LIGHT_API light_stage light_trainer_stage(const light_trainer *t); /* VALIDATE also within fit */
LIGHT_API light_stage
light_trainer_run_stage(const light_trainer *t); /* what was called: FIT also while validating */
LIGHT_API const char *light_trainer_stop_reason(const light_trainer *t); /* "" while there is none */
LIGHT_API const char *light_trainer_log_dir(
    const light_trainer *t); /* the run's folder; "" when it has none */
/* The checkpoint that this run went on from or used; "" when it had none. */
LIGHT_API const char *light_trainer_ckpt_path(const light_trainer *t);
/* This process of how many; 0 of 1 without a strategy. Rank 0 alone writes logs and the run's folder. */
LIGHT_API int light_trainer_global_rank(const light_trainer *t);
LIGHT_API int light_trainer_world_size(const light_trainer *t);
/* What rank 0 has in `bytes` to all ranks; waiting for each other. All ranks call them, or they fail together. */
LIGHT_API light_status light_trainer_broadcast(light_trainer *t, void *bytes, size_t n);
LIGHT_API light_status light_trainer_barrier(light_trainer *t);
LIGHT_API light_module *light_trainer_module(const light_trainer *t);
LIGHT_API light_datamodule *light_trainer_datamodule(const light_trainer *t);
LIGHT_API light_optimizer *light_trainer_optimizer(const light_trainer *t, int i); /* NULL past the last */
LIGHT_API light_schedule *light_trainer_schedule(const light_trainer *t, int i);   /* or NULL */
LIGHT_API const light_trainer_options *light_trainer_get_options(const light_trainer *t);

/* ---- from steps --------------------------------------------------------- */

typedef enum light_reduce_fx { LIGHT_FX_MEAN = 0, LIGHT_FX_SUM, LIGHT_FX_MIN, LIGHT_FX_MAX } light_reduce_fx;

typedef struct light_log_options {
    bool prog_bar;
    light_switch logger;   /* default on */
    light_switch on_step;  /* default: on in training_step, off elsewhere */
    light_switch on_epoch; /* default: the opposite */
    light_reduce_fx reduce_fx;
    int64_t batch_size; /* weight in the mean; default: the batch's */
    light_switch
        add_dataloader_idx; /* with several evaluation loaders "/dataloader_idx_N" is added; default on */
    /* With several processes: values of all of them together; default: on for an epoch's, off for a step's, which are those
     * of rank 0 then. Those of a step are brought together where they are logged (log_every_n_steps). */
    light_switch sync_dist;
} light_log_options;

/* Logs a scalar tensor of the step. NULL (an operation failed) is ignored. With on_step and on_epoch both on the names
 * are NAME_step and NAME_epoch. */
#define light_log(s, name, value, ...) light_log_with(s, name, value, &(light_log_options){__VA_ARGS__})
LIGHT_API void light_log_with(light_step *s, const char *name, light_tensor *value,
                              const light_log_options *options);
/* The same for a plain number, also from hooks. */
#define light_log_value(t, name, value, ...)                                                                 \
    light_log_value_with(t, name, value, &(light_log_options){__VA_ARGS__})
LIGHT_API void light_log_value_with(light_trainer *t, const char *name, double value,
                                    const light_log_options *options);

/* The trainer that runs this step, or NULL. */
LIGHT_API light_trainer *light_step_trainer(light_step *s);
/* Manual optimization: the i-th optimizer of configure_optimizers; a failure of the step when there is none. */
LIGHT_API light_optimizer *light_optimizer_at(light_step *s, int i);
/* backward with its hooks; may be called several times a step. */
LIGHT_API void light_manual_backward(light_step *s, light_tensor *loss);

#endif
