/* SPDX-License-Identifier: Apache-2.0 */
/* Callbacks: behaviour that is neither the model's nor the data's. A user's struct has a light_callback first and
 * fills in the hooks it wants. Names and order are Lightning's: at each moment all callbacks in their order, then the
 * module; at on_train_epoch_end those that watch metrics (EarlyStopping, ModelCheckpoint) come after the module. */
#ifndef LIGHT_CALLBACK_H
#define LIGHT_CALLBACK_H

#include <light/data.h>
#include <light/module.h>
#include <light/state.h>

typedef struct light_callback light_callback;
typedef struct light_callback_vtable light_callback_vtable;

struct light_callback {
    const light_callback_vtable *vtable;
    bool owned; /* made by light_callback_new: the trainer that it is given to frees it */
};

struct light_callback_vtable {
    size_t size; /* the first three by LIGHT_CALLBACK */
    const char *name;
    size_t instance_size;
    const light_option *options; /* for the command line, when registered by name */
    bool watches_metrics;        /* runs after the module at on_train_epoch_end */
    bool writes_checkpoints;     /* runs after all other callbacks */
    /* With both of these the callback decides for all processes: where this process has no batch while others do, its
     * on_train_batch_end is called with a batch of size 0. */
    void (*free)(light_callback *self);

    light_status (*setup)(light_callback *self, light_trainer *t, light_stage stage);
    void (*teardown)(light_callback *self, light_trainer *t, light_stage stage);
    void (*on_fit_start)(light_callback *self, light_trainer *t);
    void (*on_fit_end)(light_callback *self, light_trainer *t);
    void (*on_sanity_check_start)(light_callback *self, light_trainer *t);
    void (*on_sanity_check_end)(light_callback *self, light_trainer *t);
    void (*on_train_start)(light_callback *self, light_trainer *t);
    void (*on_train_end)(light_callback *self, light_trainer *t);
    void (*on_train_epoch_start)(light_callback *self, light_trainer *t);
    void (*on_train_epoch_end)(light_callback *self, light_trainer *t);
    void (*on_train_batch_start)(light_callback *self, light_trainer *t, const light_batch *batch);
    void (*on_train_batch_end)(light_callback *self, light_trainer *t, const light_batch *batch);
    void (*on_validation_start)(light_callback *self, light_trainer *t);
    void (*on_validation_end)(light_callback *self, light_trainer *t);
    void (*on_validation_epoch_start)(light_callback *self, light_trainer *t);
    void (*on_validation_epoch_end)(light_callback *self, light_trainer *t);
    void (*on_validation_batch_start)(light_callback *self, light_trainer *t, const light_batch *batch);
    void (*on_validation_batch_end)(light_callback *self, light_trainer *t, const light_batch *batch);
    void (*on_test_start)(light_callback *self, light_trainer *t);
    void (*on_test_end)(light_callback *self, light_trainer *t);
    void (*on_test_epoch_start)(light_callback *self, light_trainer *t);
    void (*on_test_epoch_end)(light_callback *self, light_trainer *t);
    void (*on_test_batch_start)(light_callback *self, light_trainer *t, const light_batch *batch);
    void (*on_test_batch_end)(light_callback *self, light_trainer *t, const light_batch *batch);
    void (*on_predict_start)(light_callback *self, light_trainer *t);
    void (*on_predict_end)(light_callback *self, light_trainer *t);
    void (*on_predict_epoch_start)(light_callback *self, light_trainer *t);
    void (*on_predict_epoch_end)(light_callback *self, light_trainer *t);
    void (*on_predict_batch_start)(light_callback *self, light_trainer *t, const light_batch *batch);
    /* `prediction` is what predict_step returned, valid until the hook returns. */
    void (*on_predict_batch_end)(light_callback *self, light_trainer *t, const light_batch *batch,
                                 light_tensor *prediction);
    void (*on_before_zero_grad)(light_callback *self, light_trainer *t);
    void (*on_before_backward)(light_callback *self, light_trainer *t, light_tensor *loss);
    void (*on_after_backward)(light_callback *self, light_trainer *t);
    void (*on_before_optimizer_step)(light_callback *self, light_trainer *t);
    /* The run has failed or was interrupted; light_error_message says why. */
    void (*on_exception)(light_callback *self, light_trainer *t, light_status status);
    /* A checkpoint that this callback asked for is on disk (LIGHT_OK), or could not be written. */
    void (*on_checkpoint_written)(light_callback *self, light_trainer *t, const char *path,
                                  light_status status);

    /* What the callback keeps in a checkpoint, in a group of its own. */
    light_status (*save_state)(light_callback *self, light_state *state);
    light_status (*load_state)(light_callback *self, const light_state *state);
    /* Where this callback's "best" and "last" checkpoints are found; NULL: it has none. */
    const char *(*checkpoint_folder)(light_callback *self, light_trainer *t);
};

#define LIGHT_CALLBACK(type)                                                                                 \
    .size = sizeof(light_callback_vtable), .name = #type, .instance_size = sizeof(type)

/* A zeroed instance with default options, which the trainer frees. NULL when out of memory. */
LIGHT_API light_callback *light_callback_new(const light_callback_vtable *vtable);
LIGHT_API void light_callback_free(
    light_callback *callback); /* only what light_callback_new made; NULL is fine */

/* ---- the callbacks that ship -------------------------------------------- */

/* Saves checkpoints. At most one of the three triggers may be set; default: every epoch, after its validation. Folders
 * below dirpath (default: checkpoints/ of the run's folder) are named by `filename`, default "{epoch}-{step}", where
 * {NAME} and {NAME:.3f} become "NAME=VALUE" of a logged metric. The links "best" and "last" there point to them. */
typedef struct light_model_checkpoint_options {
    const char *dirpath;
    const char *filename;
    const char *monitor;    /* "auto": val_loss where it is logged, else none */
    const char *mode;       /* "min" (default) or "max" */
    int64_t save_top_k;     /* default 1; -1: all; LIGHT_ZERO_COUNT: none */
    light_switch save_last; /* keep the newest too; default on */
    light_switch save_on_exception;
    bool save_weights_only;
    int64_t every_n_train_steps; /* optimizer steps */
    int64_t every_n_epochs;
    double train_time_interval; /* seconds */
    bool verbose;
} light_model_checkpoint_options;
#define light_model_checkpoint(...)                                                                          \
    light_model_checkpoint_with(&(light_model_checkpoint_options){__VA_ARGS__})
LIGHT_API light_callback *light_model_checkpoint_with(const light_model_checkpoint_options *options);
/* The best model's path, "" before there is one. */
LIGHT_API const char *light_model_checkpoint_best_path(const light_callback *callback);

/* Stops when a metric has not improved by more than min_delta over `patience` checks. */
typedef struct light_early_stopping_options {
    const char *monitor; /* must be given */
    const char *mode;    /* "min" (default) or "max" */
    double min_delta;
    int64_t patience;          /* checks; default 3; LIGHT_ZERO_COUNT: 0 */
    light_switch strict;       /* a metric that is missing is an error; default on */
    light_switch check_finite; /* NaN or infinity stops; default on */
    const char *stopping_threshold,
        *divergence_threshold; /* numbers; stop at once when as good, as bad, as this */
    bool
        check_on_train_epoch_end; /* default: after validation, in a run that has none at the end of epochs */
    bool verbose;
} light_early_stopping_options;
#define light_early_stopping(...) light_early_stopping_with(&(light_early_stopping_options){__VA_ARGS__})
LIGHT_API light_callback *light_early_stopping_with(const light_early_stopping_options *options);

/* Logs the learning rate of each optimizer and group: "lr-adamw", "lr-adamw/pg1". */
typedef struct light_learning_rate_monitor_options {
    const char *logging_interval; /* "step" (default) or "epoch" */
    bool log_momentum, log_weight_decay;
} light_learning_rate_monitor_options;
#define light_learning_rate_monitor(...)                                                                     \
    light_learning_rate_monitor_with(&(light_learning_rate_monitor_options){__VA_ARGS__})
LIGHT_API light_callback *light_learning_rate_monitor_with(
    const light_learning_rate_monitor_options *options);

/* Prints a table of modules and parameters when fit starts. */
typedef struct light_model_summary_options {
    int64_t max_depth; /* default 1: children of the root; -1: all */
} light_model_summary_options;
#define light_model_summary(...) light_model_summary_with(&(light_model_summary_options){__VA_ARGS__})
LIGHT_API light_callback *light_model_summary_with(const light_model_summary_options *options);

/* A live bar on a terminal, a plain line an epoch elsewhere. */
typedef struct light_progress_bar_options {
    int64_t refresh_rate; /* batches between updates; default 1, at most 20 updates a second */
} light_progress_bar_options;
#define light_progress_bar(...) light_progress_bar_with(&(light_progress_bar_options){__VA_ARGS__})
LIGHT_API light_callback *light_progress_bar_with(const light_progress_bar_options *options);

/* Draws learning curves (SVG) of the logged epoch metrics into the run's folder when fit ends. */
LIGHT_API light_callback *light_learning_curve(void);

#endif
