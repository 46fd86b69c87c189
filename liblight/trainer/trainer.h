/* SPDX-License-Identifier: Apache-2.0 */
/* The struct behind light_trainer, and what its files share.
 *
 *     trainer.c       making and freeing, options, entry points
 *     run.c           one run: setup, restore, the loop, teardown, failure
 *     fit_loop.c      epochs and batches of training; evaluation_loop.c: validation, test, prediction
 *     optimize.c      loss, backward, clipping, optimizer and schedule steps
 *     graph.c         steps that repeat as graphs of the device
 *     log.c           light_log, the metrics and when they are written; arrivals.c: values of a device;
 *                     log_ranks.c: those of several ranks together
 *     hooks.c         calling callbacks and module at each moment
 *     resume.c        what goes into a checkpoint, and back
 *     run_folder.c    where a run's files are
 *     ranks.c         the trainer among the processes of a job; agreement.c: whether all are about to do the same
 *     limits.c        limits and intervals, from text to batches
 *     signals.c       Ctrl-C
 *     options.c       the table of flags, their defaults and checks
 *     precision.c     what the values of the flag precision stand for
 */
#ifndef LIGHT_TRAINER_TRAINER_H
#define LIGHT_TRAINER_TRAINER_H

#include "autograd/step.h"
#include "base/exact.h"
#include "base/world.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/fence.h"
#include "data/datamodule.h"
#include "data/loader.h"
#include "optim/optimizer.h"
#include "optim/scaler.h"
#include "optim/schedule.h"
#include "trainer/strategy.h"

#include <light/trainer.h>

/* How far a loop is. A number is counted up when it begins (ready), when its start hooks have run (started), when its
 * work is done (processed) and when its end hooks have run (completed). */
typedef struct light_progress {
    int64_t ready, started, processed, completed;
} light_progress;

/* Where a run continues: between which two moments the checkpoint was taken. */
typedef enum light_resume_point {
    LIGHT_RESUME_NONE = 0,
    LIGHT_RESUME_AFTER_BATCH,      /* its validation, if it is due, comes next */
    LIGHT_RESUME_AFTER_VALIDATION, /* inside an epoch */
    LIGHT_RESUME_AFTER_EPOCH
} light_resume_point;

/* A limit or an interval as it was given. */
typedef struct light_limit {
    bool is_fraction;
    double fraction; /* 0 .. 1 */
    int64_t batches;
} light_limit;

/* A value on its way from the device. */
typedef struct light_arrival {
    int ticket;        /* of the backend's fetch */
    int which, logged; /* whose value it is: in light_metrics.logged */
    bool on_step, on_epoch;
    double weight;
} light_arrival;

/* What is fetched for it. */
typedef struct light_graph_log {
    light_arrival arrival; /* without its ticket */
    const void *data;      /* on the device */
    light_dtype dtype;     /* f32 or f64 */
} light_graph_log;

typedef struct light_graphs light_graphs;

/* One name that is logged. */
typedef struct light_logged {
    char *name;
    light_log_options options; /* as resolved: no LIGHT_DEFAULT left */
    int dataloader_idx;        /* -1: not one of several */
    uint64_t last_step; /* serial of the step that logged it last: twice with other options is an error */
    bool has_step, has_epoch;
    bool of_epoch; /* logged at the start or end of epochs, not for batches */
    double step_value, step_weight;
    double sum, weight, extreme;                 /* of the epoch so far */
    light_exact_sum *exact;                      /* instead of sum, with a strategy; else NULL */
    int step_metric, epoch_metric, plain_metric; /* in `metrics`, -1: not there yet */
} light_logged;

typedef struct light_metric_entry {
    char *name;
    double value;
    bool known, prog_bar, logger;
    bool pending; /* logged since metrics were written last */
} light_metric_entry;

/* What all ranks have logged. */
typedef struct light_merged {
    light_logged *logged;
    int *ranks; /* the first one that has logged it */
    int n;
} light_merged;

typedef struct light_metrics {
    light_logged *logged[2]; /* training, evaluation */
    int n_logged[2], capacity_logged[2];
    light_metric_entry *entries;
    int n, capacity;
    light_metric *row; /* for the loggers */
    int next_logged;   /* guess where the next light_log finds its name */
    light_arrival arrivals[LIGHT_FETCHES];
    int first_arrival, n_arrivals; /* a ring, in the order of logging */
} light_metrics;

/* Whose hooks run, for light_log's rules. */
typedef enum light_log_moment {
    LIGHT_LOG_FORBIDDEN,
    LIGHT_LOG_TRAIN_STEP,
    LIGHT_LOG_EVALUATION_STEP,
    LIGHT_LOG_EPOCH /* start and end of epochs: values of an epoch only */
} light_log_moment;

/* A checkpoint asked for by a hook, taken when its moment is over. */
typedef struct light_save_request {
    char *path;
    bool weights_only;
    light_callback *callback; /* to be told; NULL: nobody */
    int64_t step;             /* global_step when it was taken */
} light_save_request;

/* What a value of the flag `precision` stands for. */
typedef struct light_precision {
    const char *name;  /* "bf16-mixed" */
    light_dtype dtype; /* of parameters, their gradients and the optimizer's state */
    light_dtype lower; /* operations of 16 bits run in this dtype; LIGHT_DTYPE_DEFAULT: there are none */
    bool all;          /* all operations and the inputs are of 16 bits, not only products */
    bool scales;       /* losses are scaled */
} light_precision;

/* The dtype of inputs. */
static inline light_dtype light_precision_data(const light_precision *p)
{
    return p->all ? p->lower : p->dtype;
}

typedef struct light_callback_entry {
    light_callback *callback;
    light_callback_vtable hooks; /* a full-size copy: hooks that an older program does not know are NULL */
} light_callback_entry;

typedef struct light_logger_entry {
    light_logger *logger;
    light_logger_vtable hooks;
} light_logger_entry;

#define LIGHT_MAX_SAVES 8

struct light_trainer {
    light_trainer_options options; /* resolved: no defaults left */
    light_limit limit_train, limit_val, limit_test, limit_predict, overfit, val_interval;
    double max_seconds; /* INFINITY: no limit */
    light_callback_entry callbacks[LIGHT_MAX_CALLBACKS + 8];
    int n_callbacks;
    light_callback *current_callback; /* whose hook runs */
    light_logger_entry loggers[LIGHT_MAX_LOGGERS];
    int n_loggers;
    light_device *device;
    const light_precision *precision;
    const light_strategy_vtable *strategy_table; /* NULL: single */
    light_strategy *strategy; /* from the first run on; NULL: single. With one, steps are of whole windows */
    bool attached;            /* to the module */
    int64_t boundaries;       /* moments at which ranks could agree to stop */
    bool signalled;           /* they did */

    /* the run */
    light_stage run_stage, stage;
    bool running, sanity_checking;
    light_module *module;
    light_module_vtable module_hooks;
    light_datamodule *data;
    light_step *step;
    light_graphs *graphs;                     /* NULL: every step is eager */
    light_loader *train_loader, *eval_loader; /* the chains of datamodule hooks */
    light_stage eval_loader_stage;
    light_optimizers *optimizers;
    light_step *host_step; /* step->host */
    light_optimizer_hooks optimizer_hooks;
    light_scaler *scaler; /* NULL: losses are not scaled */
    bool told_scale;      /* that the loss scale has collapsed */
    bool *saved_modes;    /* train flags of all modules while evaluation runs */
    char *log_dir;
    bool new_folder;      /* log_dir was made by this run */
    light_fence *fence;   /* of log_dir, while fit writes there */
    char *ckpt_path;      /* the checkpoint in use, or NULL */
    light_status failure; /* by light_trainer_fail; its text: */
    char failure_text[1024];
    bool failure_waits; /* for a moment where a checkpoint can be taken */
    char stop_reason[256];
    bool should_stop;
    double started_at;

    /* loops */
    light_progress epoch, batch, batch_current, eval_batch; /* batches of all ranks */
    int64_t num_train_batches, num_eval_batches;            /* of all ranks, after limits; -1: not known */
    int64_t global_step;
    int64_t batches_that_stepped;
    int64_t accumulated; /* batches of this rank in the open accumulation window */
    int64_t window;      /* what their gradients were divided by */
    light_share share;   /* of the epoch that is trained on */
    int64_t turns;       /* taken since the share's origin */
    light_turn turn;     /* the current one */
    light_turn eval_turn;
    bool streams;      /* the loader reads a stream: ranks may end anywhere */
    bool eval_streams; /* so does the one of the evaluation that runs */
    bool stream_ended; /* this rank has */
    bool stepped;      /* the last batch ended a window */
    bool skip_epoch;
    bool at_rest; /* failed between two moments, where a checkpoint can be taken: */
    light_resume_point rest_point;
    bool set_up; /* setup has been called, so teardown is due */
    bool said_minimum;
    int64_t current_batch; /* in the loop that runs */
    bool last_batch;
    light_resume_point resume;
    light_batch *running_batch;
    light_log_moment moment;
    light_metrics metrics;

    char *config; /* config.yaml's text, or NULL */
    light_checkpoint_writer *writer;
    light_save_request saves[LIGHT_MAX_SAVES];
    int n_saves;
    light_save_request in_flight;
    int64_t saved_step; /* global_step of the newest state that is on disk */
    char unsaved[512];  /* why the last save failed; "" when it did not */
};

/* hooks.c. What a hook has recorded, and what does not wait. The others return it too. */
light_status light_trainer_failure(const light_trainer *t);
/* clang-format off */
#define LIGHT_MOMENT_MAP(X)                                                                                  \
    X(on_fit_start) X(on_fit_end) X(on_train_start) X(on_train_end) X(on_train_epoch_start)                  \
    X(on_validation_start) X(on_validation_end) X(on_validation_epoch_start) X(on_validation_epoch_end)      \
    X(on_test_start) X(on_test_end) X(on_test_epoch_start) X(on_test_epoch_end)                              \
    X(on_predict_start) X(on_predict_end) X(on_predict_epoch_start) X(on_predict_epoch_end)                  \
    X(on_before_zero_grad) X(on_after_backward) X(on_before_optimizer_step)
#define LIGHT_BATCH_MOMENT_MAP(X)                                                                            \
    X(on_train_batch_end) X(on_validation_batch_start) X(on_validation_batch_end) X(on_test_batch_start)     \
    X(on_test_batch_end) X(on_predict_batch_start)
/* clang-format on */
#define X(hook) light_status light_call_##hook(light_trainer *t);
LIGHT_MOMENT_MAP(X)
#undef X
#define X(hook) light_status light_call_##hook(light_trainer *t, const light_batch *batch);
LIGHT_BATCH_MOMENT_MAP(X)
#undef X
light_status light_call_on_train_batch_start(light_trainer *t, const light_batch *batch, bool *go_on);
/* on_train_batch_end where this rank has no batch: of those callbacks that decide for all ranks. */
light_status light_call_on_train_batch_missing(light_trainer *t);
light_status light_call_on_predict_batch_end(light_trainer *t, const light_batch *batch,
                                             light_tensor *prediction);
light_status light_call_on_before_backward(light_trainer *t, light_tensor *loss);
light_status light_call_on_train_epoch_end(light_trainer *t);
light_status light_call_on_sanity_check(light_trainer *t, bool start);
light_status light_call_setup(light_trainer *t);
void light_call_teardown(light_trainer *t);
void light_call_on_exception(light_trainer *t, light_status status);

/* options.c: the flags into t, checked; zeros mean defaults unless they are meant `as_they_stand`. */
light_status light_trainer_resolve(light_trainer *t, const light_trainer_options *options,
                                   bool as_they_stand);

/* max_epochs where it was not given: a limit of steps stands alone, else there are so many as the table says. */
void light_trainer_default_epochs(light_trainer_options *options);

/* ranks.c */
/* What the flags strategy, devices, num_nodes and deterministic stand for; NULL: single. */
light_status light_strategy_find(const light_trainer_options *options, const light_strategy_vtable **table);
light_status light_strategy_open(light_trainer *t);
void light_strategy_close(light_trainer *t);
/* What only rank 0 did: its status, with the message, and the text that it made (NULL: none), to all ranks. */
light_status light_follow_first(light_trainer *t, light_status status, char **text);
/* Buffers, such as the running statistics of batch norm, are those of each rank's own batches while training goes on; here
 * they become those of rank 0, which are saved too. */
light_status light_follow_buffers(light_trainer *t);
/* Between two steps: whether all ranks are to stop here, since one was asked to by a signal. */
light_status light_ask_to_stop(light_trainer *t, bool *stop);
/* Has the loader read this rank's batches, `run` at a time. */
light_status light_share_loader(const light_trainer *t, light_loader *loader, int64_t run);
/* The batches of an epoch over all ranks; -1: a stream. */
int64_t light_shared_batches(const light_trainer *t, const light_loader *loader);
light_share light_share_of(const light_trainer *t, int64_t run, int64_t origin, int64_t total);
/* light_loader_begin where the share begins. */
light_status light_begin_share(light_loader *loader, int64_t epoch, const light_share *share);

/* agreement.c: one line that names the first difference, on all ranks, unless all have the same. */
light_status light_agree_on_settings(const light_trainer *t); /* options, callbacks, version */
light_status light_agree_on_model(const light_trainer *t);    /* parameters and training data */
light_status light_agree_on_loaders(const light_trainer *t, const char *which, const light_loader *first);

/* run.c */
light_status light_make_train_loader(light_trainer *t);
light_status light_trainer_run(light_trainer *t, light_stage stage, light_module *module,
                               light_datamodule *data, const light_run_options *options);

/* fit_loop.c, evaluation_loop.c */
light_status light_fit_loop(light_trainer *t);
/* Somebody asked to stop, but min_epochs and min_steps are not reached. */
bool light_stop_is_held_off(const light_trainer *t);
light_status light_make_eval_loader(light_trainer *t, light_stage stage);
/* The loaders of `stage`, at most `limit` batches of each (-1: all). */
light_status light_evaluation_loop(light_trainer *t, light_stage stage, int64_t limit);
light_status light_sanity_check(light_trainer *t);
/* Brings a batch to the device and to the run's dtype. */
light_status light_transfer_batch(light_trainer *t, light_batch *batch);

/* optimize.c */
light_status light_train_on_batch(light_trainer *t, light_batch *batch);
light_status light_train_eagerly(light_trainer *t, light_batch *batch);
/* A turn in which other ranks have batches and this one has none. */
light_status light_train_on_nothing(light_trainer *t);
/* The length of the accumulation window that the current batch begins, and whether the current batch ends one. */
int64_t light_window_length(const light_trainer *t);
/* The current turn as strategies see it. */
light_window light_window_of(const light_trainer *t, bool last);
/* ranks.c. Around a turn of training or of evaluation: see light_strategy_vtable.begin_batch. `mine`: this rank has a batch;
 * *any: some rank that it goes through the turn with has one. */
light_status light_begin_turn(light_trainer *t, bool training, bool mine, bool *any);
light_status light_end_turn(light_trainer *t);
bool light_window_ends(const light_trainer *t);
/* Counts a step of automatic optimization whose work the device has been asked for by a graph. */
light_status light_count_recorded_step(light_trainer *t);

/* graph.c: steps that repeat as graphs of the device. */
light_status light_graphs_new(light_trainer *t); /* t->graphs, where the options ask for them */
void light_graphs_free(light_trainer *t);
light_status light_train_with_graphs(light_trainer *t, light_batch *batch);
/* Whether the step is being recorded: then `log` is noted, to be fetched after each launch. */
bool light_graph_keeps_log(light_trainer *t, const light_graph_log *log);
light_status light_schedules_at_epoch_end(light_trainer *t); /* those that need no metric */
light_status light_schedules_on_metric(light_trainer *t, light_interval interval);
void light_optimizer_hooks_init(light_trainer *t);
/* Warns, once, when the loss scale shows that no step works any more. Waits for the device. */
light_status light_watch_loss_scale(light_trainer *t);

/* log.c */
void light_metrics_free(light_metrics *m);
/* Forgets everything logged in training (0) or evaluation (1), values that monitors see excepted. */
light_status light_metrics_reset(light_trainer *t, int which);
void light_metrics_clear(light_trainer *t); /* all of it, names too */
/* Reduces what was logged for the epoch. */
light_status light_metrics_end_epoch(light_trainer *t, int which);
/* The last optimizer step that was done, counted from 0: where metrics are logged. It never falls. */
int64_t light_trainer_logged_step(const light_trainer *t);
/* Gives what is pending to the loggers, at that step. */
light_status light_metrics_write(light_trainer *t);
void light_metrics_drop_pending(light_trainer *t);
light_status light_metrics_save(const light_trainer *t, light_state *state);
light_status light_metrics_load(light_trainer *t, const light_state *state);
light_status light_metrics_print(light_trainer *t, const char *title);
/* The host's part of a light_log in a step that is launched as a graph. */
light_status light_log_again(light_trainer *t, const light_graph_log *log);
/* One value of the epoch. */
void light_logged_add(light_logged *l, double value, double weight);
/* What they come to. */
double light_logged_value(const light_logged *l);
/* The value of all ranks in place of this one's last step; it may never have logged the name. */
void light_logged_take_step(light_trainer *t, const light_logged *merged, double value);

/* log_ranks.c, for runs with a strategy. What all ranks have logged of the epoch; freed by light_merged_free. */
light_status light_merge_epoch(light_trainer *t, int which, light_merged *out);
void light_merged_free(light_merged *m);
/* Values of the step that training logs, of the names that ask for it. */
light_status light_metrics_sync_step(light_trainer *t);

/* arrivals.c */
/* Fetches a scalar of the step for `arrival`, whose ticket it sets. */
light_status light_arrival_start(light_trainer *t, light_step *s, light_tensor *value, light_arrival arrival);
light_status light_arrival_fetch(light_trainer *t, const light_graph_log *log);
/* Takes in values that have arrived from the device; with `wait`, all of them. Whoever reads metrics calls it first. */
light_status light_metrics_settle(light_trainer *t, bool wait);

/* resume.c */
light_status light_save_point(light_trainer *t, light_resume_point point);
light_status light_save_now(light_trainer *t, const light_save_request *request, light_resume_point point);
/* What an open checkpoint holds into the run: for fit everything, else weights and the state of module and callbacks. */
light_status light_restore(light_trainer *t, const light_checkpoint *checkpoint);
/* Tells callbacks about checkpoints that have reached the disk; with `wait`, waits for them. */
light_status light_poll_saves(light_trainer *t, bool wait);

/* run_folder.c */
light_status light_run_folder_open(light_trainer *t, const char *resumed_from);
/* A run that could not begin leaves no folder behind. */
void light_run_folder_drop(light_trainer *t);
/* This run writes there no more. */
void light_run_folder_leave(light_trainer *t);
/* The path that "last", "best" or a path means, to be freed; *path NULL for "last-if-any" when there is none. */
light_status light_find_checkpoint(light_trainer *t, const char *wanted, char **path);

/* limits.c */
light_status light_limit_parse(const char *flag, const char *text, light_limit *limit);
light_status light_limit_batches(const char *flag, light_limit limit, int64_t available, int64_t *batches);
light_status light_parse_max_time(const char *text, double *seconds);

/* signals.c */
void light_signals_install(void);
void light_signals_restore(void);
int light_signals_pending(void); /* the signal that asked to stop, or 0 */

/* The callbacks, loggers and strategies that are known by name, for flags and the command line. The table is made by those who
 * implement them (config/extensions.c); it ends with a name of NULL. */
typedef struct light_extension {
    const char *name; /* "early_stopping" */
    const light_callback_vtable *callback;
    const light_logger_vtable *logger;
    const light_strategy_vtable *strategy;
} light_extension;
extern const light_extension light_extensions[];
const light_extension *light_extension_find(const char *name); /* NULL: there is none */

/* precision.c: one of the values that the flag takes. */
const light_precision *light_precision_find(const char *name);

/* The trainer's own option table. */
extern const light_option light_trainer_option_table[];
/* The trainer from options whose zeros are meant as they stand (command line, config files). */
light_trainer *light_trainer_new_resolved(const light_trainer_options *options);
/* config.yaml's text, which fit puts into the run's folder and into checkpoints; copied. */
light_status light_trainer_set_config(light_trainer *t, const char *yaml);

#endif
