/* SPDX-License-Identifier: Apache-2.0 */
/* One run of fit, validate, test or predict: setup, restore, the loop, teardown, failure. */
#include "trainer/trainer.h"

#include "base/exit.h"
#include "base/memory.h"
#include "base/time.h"
#include "base/world.h"
#include "nn/batch_statistics.h"
#include "nn/flat.h"

#include <light/message.h>

#include <signal.h>
#include <string.h>

static const char *stage_name(light_stage stage)
{
    static const char *const names[] = {"", "fit", "validate", "test", "predict"};
    return names[stage];
}

/* ---- before ------------------------------------------------------------- */

static light_status check_module(light_trainer *t)
{
    const light_module_vtable *m = &t->module_hooks;
    const char *missing = NULL;
    if (t->run_stage == LIGHT_STAGE_FIT && !m->training_step) missing = "training_step";
    if (t->run_stage == LIGHT_STAGE_FIT && !m->configure_optimizers) missing = "configure_optimizers";
    if (t->run_stage == LIGHT_STAGE_VALIDATE && !m->validation_step) missing = "validation_step";
    if (t->run_stage == LIGHT_STAGE_TEST && !m->test_step) missing = "test_step";
    if (t->run_stage == LIGHT_STAGE_PREDICT && !m->predict_step && !m->forward)
        missing = "predict_step or forward";
    if (missing)
        return light_fail(LIGHT_ERR_ARGUMENT, "%s needs %s in the vtable of module %s",
                          stage_name(t->run_stage), missing, m->name);
    if (m->manual_optimization &&
        (t->options.accumulate_grad_batches != 1 || t->options.gradient_clip_val > 0))
        return light_fail(
            LIGHT_ERR_ARGUMENT,
            "module %s optimizes manually: accumulate_grad_batches and gradient_clip_val are its own to do",
            m->name);
    light_stage loader = t->run_stage;
    if (!light_datamodule_has_loader(t->data, loader))
        return light_fail(LIGHT_ERR_ARGUMENT, "%s needs %s_dataloader in the vtable of datamodule %s",
                          stage_name(t->run_stage),
                          loader == LIGHT_STAGE_FIT        ? "train"
                          : loader == LIGHT_STAGE_VALIDATE ? "val"
                                                           : stage_name(loader),
                          t->data->vtable->name);
    return LIGHT_OK;
}

static void free_optimizers(light_trainer *t)
{
    light_scaler_free(t->scaler);
    light_optimizers_free(t->optimizers);
    t->scaler = NULL;
    t->optimizers = NULL;
}

static void forget_last_run(light_trainer *t)
{
    free_optimizers(t);
    light_metrics_clear(t);
    t->failure = LIGHT_OK;
    t->failure_waits = false;
    t->rest_point = LIGHT_RESUME_AFTER_BATCH; /* where Ctrl-C is looked for */
    t->stop_reason[0] = '\0';
    t->unsaved[0] = '\0';
    t->told_scale = t->should_stop = t->said_minimum = t->stepped = t->last_batch = t->at_rest = t->set_up =
        t->signalled = t->stream_ended = false;
    t->resume = LIGHT_RESUME_NONE;
    t->running_batch = NULL;
    t->moment = LIGHT_LOG_FORBIDDEN;
    t->current_batch = 0;
    t->num_train_batches = t->num_eval_batches = -1;
    if (t->run_stage != LIGHT_STAGE_FIT) return; /* the counters of the fit before stay to be asked */
    t->epoch = t->batch = t->batch_current = t->eval_batch = (light_progress){0};
    t->global_step = t->batches_that_stepped = t->accumulated = t->saved_step = 0;
}

/* The checkpoint decides the seed: its order of data and its random numbers go on. */
static void take_seed(light_trainer *t, const light_checkpoint *checkpoint)
{
    const light_state *loops = light_state_find_group(light_checkpoint_state(checkpoint), "loops");
    int64_t seed;
    if (!loops || !light_state_has(loops, "seed") || light_state_get(loops, "seed", &seed) != LIGHT_OK)
        return;
    if (seed != t->options.seed)
        light_message(LIGHT_MESSAGE_INFO, "seed %lld of the checkpoint is used instead of %lld",
                      (long long)seed, (long long)t->options.seed);
    t->options.seed = seed;
}

static light_status build(light_trainer *t)
{
    light_dtype dtype = light_set_default_dtype(t->precision->dtype);
    light_device *device = light_set_default_device(t->device);
    light_status status = light_module_build(t->module, (uint64_t)t->options.seed);
    light_set_default_device(device);
    light_set_default_dtype(dtype);
    LIGHT_TRY(status);
    LIGHT_TRY(light_module_to(t->module, t->device)); /* one that was built before */
    LIGHT_TRY(light_flat_lower(t->module->flat, t->precision->lower));
    light_graphs_free(t);
    light_step_free(t->step);
    t->step = NULL;
    LIGHT_TRY(light_step_new(&t->step, .device = t->device, .seed = (uint64_t)t->options.seed));
    t->step->dtype = light_precision_data(t->precision);
    t->step->lower = t->precision->lower;
    t->step->lower_all = t->precision->all;
    t->step->trainer = t;
    light_step_retain(t->step, t->module_hooks.manual_optimization);
    size_t modules = 0;
    for (light_module *m = t->module; m; m = light_next_module(t->module, m)) modules++;
    light_free(t->saved_modes);
    t->saved_modes = light_calloc(modules, sizeof *t->saved_modes);
    return t->saved_modes ? LIGHT_OK : LIGHT_ERR_MEMORY;
}

static light_status begin_loggers(light_trainer *t, int64_t resumed_step)
{
    for (int i = 0; i < t->n_loggers && light_trainer_global_rank(t) == 0; i++) {
        const light_logger_entry *e = &t->loggers[i];
        if (!e->hooks.begin) continue;
        light_status status = e->hooks.begin(e->logger, t, light_trainer_log_dir(t), resumed_step);
        if (status != LIGHT_OK) return light_fail_in(status, "logger %s", e->hooks.name);
    }
    return LIGHT_OK;
}

/* ---- fit ---------------------------------------------------------------- */

/* The neighbouring batches of a rank in a window. */
static light_status run_of_ranks(const light_trainer *t, int64_t *run)
{
    int64_t batches = t->options.accumulate_grad_batches, size = light_trainer_world_size(t);
    bool elastic = !strcmp(t->options.deterministic, "elastic");
    *run = !t->strategy ? 1 : elastic ? batches / size : batches;
    if (!elastic || size == 1) return LIGHT_OK;
    if (batches % size || (*run & (*run - 1)))
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "trainer.deterministic elastic: trainer.accumulate_grad_batches %lld counts the "
                          "batches of all processes; with %lld of them it must be %lld times a power of two",
                          (long long)batches, (long long)size, (long long)size);
    return LIGHT_OK;
}

/* What several processes cannot do together. */
static light_status check_shares(const light_trainer *t)
{
    const char *dataset = light_loader_dataset_name(t->train_loader);
    if (!t->streams || !t->strategy) return LIGHT_OK;
    if (!strcmp(t->options.deterministic, "elastic"))
        return light_fail(
            LIGHT_ERR_UNSUPPORTED,
            "trainer.deterministic elastic needs a dataset whose length is known; %s is a stream", dataset);
    if (t->options.sync_batchnorm)
        return light_fail(LIGHT_ERR_UNSUPPORTED,
                          "trainer.sync_batchnorm needs a dataset whose length is known; %s is a stream",
                          dataset);
    if (t->module_hooks.manual_optimization)
        return light_fail(LIGHT_ERR_UNSUPPORTED,
                          "module %s optimizes manually, which several processes can do only with datasets "
                          "whose length is known; %s is a stream",
                          t->module_hooks.name, dataset);
    return LIGHT_OK;
}

/* Manual optimization asks for sums as it likes, so ranks with a batch cannot go through a turn without the others. */
static light_status drop_short_window(light_trainer *t)
{
    int64_t size = light_trainer_world_size(t), rest = t->num_train_batches % size;
    if (!t->module_hooks.manual_optimization || rest == 0) return LIGHT_OK;
    if (t->num_train_batches < size)
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "module %s optimizes manually: an epoch of %lld batches is too short for %lld "
                          "processes",
                          t->module_hooks.name, (long long)t->num_train_batches, (long long)size);
    light_message(
        LIGHT_MESSAGE_WARNING,
        "module %s optimizes manually: the last %lld of %lld batches of an epoch are left out, since "
        "%lld processes go through it together",
        t->module_hooks.name, (long long)rest, (long long)t->num_train_batches, (long long)size);
    t->num_train_batches -= rest;
    return LIGHT_OK;
}

/* How the ranks share the epochs of the train loader. */
static light_status share_train_loader(light_trainer *t)
{
    int64_t run;
    t->streams = light_loader_num_batches(t->train_loader) < 0;
    LIGHT_TRY(run_of_ranks(t, &run));
    LIGHT_TRY(check_shares(t));
    LIGHT_TRY(light_share_loader(t, t->train_loader, run));
    int64_t available = light_shared_batches(t, t->train_loader);
    light_limit limit = t->limit_train;
    if (t->options.fast_dev_run > 0)
        limit.batches *= light_trainer_world_size(t); /* each rank tries so many */
    LIGHT_TRY(light_limit_batches("limit_train_batches", limit, available, &t->num_train_batches));
    LIGHT_TRY(drop_short_window(t));
    t->share = light_share_of(t, run, 0, t->num_train_batches);
    return LIGHT_OK;
}

light_status light_make_train_loader(light_trainer *t)
{
    light_loader_free(t->train_loader);
    t->train_loader = NULL;
    LIGHT_TRY(light_datamodule_loader(t->data, LIGHT_STAGE_FIT, &t->train_loader));
    if (!t->train_loader)
        return light_fail(LIGHT_ERR_ARGUMENT, "datamodule %s: train_dataloader gave no loader",
                          t->data->vtable->name);
    if (light_loader_following(t->train_loader))
        return light_fail(
            LIGHT_ERR_UNSUPPORTED,
            "datamodule %s: train_dataloader gave several loaders; training takes one (concatenate the "
            "datasets)",
            t->data->vtable->name);
    light_loader_set_seed(t->train_loader, (uint64_t)t->options.seed);
    if (t->overfit.is_fraction || t->overfit.batches) light_loader_set_shuffle(t->train_loader, false);
    if (light_loader_num_batches(t->train_loader) == 0)
        return light_fail(
            LIGHT_ERR_ARGUMENT,
            "train_dataloader: the dataset (%s) gives no batch: it is empty, or smaller than one batch with "
            "drop_last",
            light_loader_dataset_name(t->train_loader));
    LIGHT_TRY(share_train_loader(t));
    if (!t->val_interval.is_fraction && t->options.check_val_every_n_epoch != -1 &&
        t->num_train_batches > 0 && t->val_interval.batches > t->num_train_batches)
        return light_fail(
            LIGHT_ERR_ARGUMENT,
            "trainer.val_check_interval %lld is more than the %lld batches of an epoch: validation would "
            "never run (trainer.check_val_every_n_epoch -1 counts across epochs)",
            (long long)t->val_interval.batches, (long long)t->num_train_batches);
    return LIGHT_OK;
}

/* In deterministic elastic. With sync_batchnorm all ranks have the same; manual optimization, which has no windows, does it
 * with one process alone. */
static light_status make_batch_statistics(light_trainer *t)
{
    if (!t->strategy || !t->strategy->ordered) return LIGHT_OK;
    if (t->options.sync_batchnorm || t->module_hooks.manual_optimization) return LIGHT_OK;
    return light_batch_statistics_new(t->module, t->share.run, t->strategy->rank, t->strategy->size,
                                      t->device, &t->step->batch_statistics);
}

/* Optimizers in host memory compute there. */
static light_status make_host_step(light_trainer *t)
{
    light_step_free(t->host_step);
    t->host_step = t->step->host = NULL;
    if (!t->optimizers->n || t->optimizers->entries[0].optimizer->device == t->device) return LIGHT_OK;
    LIGHT_TRY(light_step_new(&t->host_step, .device = light_device_cpu(), .seed = (uint64_t)t->options.seed));
    t->step->host = t->host_step;
    return LIGHT_OK;
}

static light_status make_optimizers(light_trainer *t)
{
    LIGHT_TRY(light_optimizers_new(&t->optimizers));
    light_status status = t->module_hooks.configure_optimizers(t->module, t->optimizers);
    if (status != LIGHT_OK) return light_fail_in(status, "%s.configure_optimizers", t->module_hooks.name);
    if (t->optimizers->n > 1 && !t->module_hooks.manual_optimization)
        return light_fail(
            LIGHT_ERR_ARGUMENT,
            "%s.configure_optimizers added %d optimizers: more than one needs .manual_optimization = true",
            t->module_hooks.name, t->optimizers->n);
    if (!t->optimizers->n)
        light_message(LIGHT_MESSAGE_WARNING,
                      "%s.configure_optimizers added no optimizer: nothing will be trained",
                      t->module_hooks.name);
    light_optimizer_hooks_init(t);
    LIGHT_TRY(make_host_step(t));
    if (t->precision->scales)
        LIGHT_TRY(
            light_scaler_new(&t->scaler, t->optimizers, t->device, t->module_hooks.manual_optimization));
    int64_t steps = light_trainer_estimated_stepping_batches(t);
    for (int i = 0; i < t->optimizers->n; i++) {
        light_schedule *schedule = t->optimizers->entries[i].schedule;
        if (schedule) LIGHT_TRY(light_schedule_set_total(schedule, steps, t->options.max_epochs));
    }
    return LIGHT_OK;
}

static light_status run_fit(light_trainer *t)
{
    if (t->resume == LIGHT_RESUME_NONE) LIGHT_TRY(light_sanity_check(t));
    t->stage = LIGHT_STAGE_FIT;
    light_train(t->module);
    return light_fit_loop(t);
}

/* ---- the run ------------------------------------------------------------ */

/* Once on each host; the others of the host may use its files then. */
static light_status prepare_data(light_trainer *t)
{
    if (light_world_get()->local_rank == 0) LIGHT_TRY(light_datamodule_prepare_data(t->data));
    return light_trainer_barrier(t);
}

static light_status attach(light_trainer *t)
{
    if (!t->strategy) return LIGHT_OK;
    t->attached = true;
    return t->strategy->vtable->attach(t->strategy, t->module, t->step);
}

static light_status set_up(light_trainer *t, const light_checkpoint *checkpoint)
{
    LIGHT_TRY(prepare_data(t));
    if (checkpoint && t->run_stage == LIGHT_STAGE_FIT) take_seed(t, checkpoint);
    LIGHT_TRY(build(t));
    LIGHT_TRY(light_run_folder_open(t, checkpoint ? light_checkpoint_path(checkpoint) : NULL));
    t->set_up = true;
    LIGHT_TRY(light_call_setup(t));
    if (t->run_stage == LIGHT_STAGE_FIT) {
        LIGHT_TRY(light_make_train_loader(t));
        LIGHT_TRY(light_agree_on_model(t));
        LIGHT_TRY(attach(t)); /* optimizers keep state for what this rank owns */
        LIGHT_TRY(make_batch_statistics(t));
        LIGHT_TRY(make_optimizers(t));
        LIGHT_TRY(light_graphs_new(t));
    } else {
        LIGHT_TRY(light_agree_on_model(t));
        LIGHT_TRY(attach(t));
    }
    if (checkpoint) LIGHT_TRY(light_restore(t, checkpoint));
    if (checkpoint && t->strategy) LIGHT_TRY(t->strategy->vtable->after_step(t->strategy, t->step));
    t->saved_step = t->global_step;
    if (t->run_stage == LIGHT_STAGE_FIT)
        LIGHT_TRY(begin_loggers(t, checkpoint ? light_trainer_logged_step(t) : -1));
    return LIGHT_OK;
}

static light_status run_stage(light_trainer *t, const light_run_options *options)
{
    if (t->run_stage == LIGHT_STAGE_FIT) {
        LIGHT_TRY(light_call_on_fit_start(t));
        LIGHT_TRY(run_fit(t));
        LIGHT_TRY(light_poll_saves(t, true));
        LIGHT_TRY(light_call_on_fit_end(t));
        LIGHT_TRY(light_save_point(t, LIGHT_RESUME_AFTER_EPOCH));
        LIGHT_TRY(light_poll_saves(t, true));
        /* A failed save does not stop training, but a script must not take the run for saved. */
        if (t->unsaved[0])
            return light_fail(LIGHT_ERR_IO,
                              "training is done, but its last checkpoint could not be written: %s",
                              t->unsaved);
        return LIGHT_OK;
    }
    LIGHT_TRY(light_evaluation_loop(t, t->run_stage, -1));
    if (t->run_stage != LIGHT_STAGE_PREDICT && !options->quiet)
        LIGHT_TRY(
            light_metrics_print(t, t->run_stage == LIGHT_STAGE_TEST ? "test metric" : "validation metric"));
    return LIGHT_OK;
}

static light_status open_checkpoint(light_trainer *t, const light_run_options *options,
                                    light_checkpoint **checkpoint)
{
    char *path = NULL;
    *checkpoint = NULL;
    light_free(t->ckpt_path);
    t->ckpt_path = NULL;
    bool first = light_trainer_global_rank(t) == 0;
    light_status status = first ? light_find_checkpoint(t, options->ckpt_path, &path) : LIGHT_OK;
    LIGHT_TRY(light_follow_first(t, status, &path));
    if (!path) return LIGHT_OK;
    t->ckpt_path = path;
    /* Of several ranks each reads, and checks, what it needs. */
    LIGHT_TRY(light_trainer_world_size(t) > 1 ? light_checkpoint_open_lazily(path, checkpoint)
                                              : light_checkpoint_open(path, checkpoint));
    light_message(LIGHT_MESSAGE_INFO, "checkpoint: %s", path);
    return LIGHT_OK;
}

static void finalize_loggers(light_trainer *t, light_status status)
{
    if (t->run_stage != LIGHT_STAGE_FIT || light_trainer_global_rank(t) > 0) return;
    for (int i = 0; i < t->n_loggers; i++) {
        const light_logger_entry *e = &t->loggers[i];
        if (e->hooks.finalize && e->hooks.finalize(e->logger, status) != LIGHT_OK)
            light_message(LIGHT_MESSAGE_WARNING, "logger %s: %s", e->hooks.name, light_error_message());
    }
}

/* Everything that a failed run leaves is put in order; the error's text stays. */
static light_status on_failure(light_trainer *t, light_status status)
{
    char text[sizeof t->failure_text];
    strncpy(text, light_error_message(), sizeof text - 1);
    text[sizeof text - 1] = '\0';
    t->moment = LIGHT_LOG_FORBIDDEN;
    /* Ranks are at rest together, and fail alone: then the others are told before anything else. */
    bool alone = !t->strategy || t->at_rest || t->signalled;
    if (!alone && !t->strategy->vtable->fail(t->strategy, status, text)) status = LIGHT_ERR_PEER;
    light_call_on_exception(t, status);
    if (t->at_rest && t->run_stage == LIGHT_STAGE_FIT && t->batch_current.processed > 0)
        light_save_point(t, t->rest_point);
    for (int i = 0; i < t->n_saves; i++) light_free(t->saves[i].path);
    t->n_saves = 0;
    light_poll_saves(t, true);
    return light_fail(status, "%s", text);
}

/* Whether who sent a signal may start the program again and lose nothing by it. In a job others may have got it. */
static void note_signal(const light_trainer *t, light_status status)
{
    int signal_number = light_signals_pending();
    if (!signal_number && light_world_get()->size > 1) signal_number = SIGUSR1;
    bool asked = status == LIGHT_ERR_INTERRUPTED && signal_number != SIGINT;
    bool saved = t->run_stage != LIGHT_STAGE_FIT || t->saved_step == t->global_step;
    light_exit_by_signal(asked && saved ? signal_number : 0);
}

static light_status run_inside(light_trainer *t, const light_run_options *options)
{
    light_checkpoint *checkpoint = NULL;
    light_status status = light_strategy_open(t);
    if (status == LIGHT_OK) status = light_agree_on_settings(t);
    if (status == LIGHT_OK) status = check_module(t);
    if (status == LIGHT_OK) status = open_checkpoint(t, options, &checkpoint);
    if (status == LIGHT_OK) status = set_up(t, checkpoint);
    bool begun = status == LIGHT_OK;
    light_checkpoint_close(checkpoint);
    if (status == LIGHT_OK) status = run_stage(t, options);
    if (status != LIGHT_OK) status = on_failure(t, status);
    if (!begun) light_run_folder_drop(t);
    return status;
}

/* The module may go after a run. One that has failed has ended the job. */
static void leave_strategy(light_trainer *t, light_status status)
{
    if (t->step && t->step->batch_statistics) {
        light_batch_statistics_free(t->step->batch_statistics);
        t->step->batch_statistics = NULL;
    }
    if (t->strategy && t->attached) {
        if (t->strategy->size > 1) free_optimizers(t); /* their state is of this rank's part alone */
        t->strategy->vtable->detach(t->strategy);
    }
    t->attached = false;
    if (status != LIGHT_OK && status != LIGHT_ERR_INTERRUPTED) light_strategy_close(t);
}

light_status light_trainer_run(light_trainer *t, light_stage stage, light_module *module,
                               light_datamodule *data, const light_run_options *options)
{
    if (!t || !module || !data)
        return light_fail(LIGHT_ERR_ARGUMENT, "%s: no %s (it could not be made: %s)", stage_name(stage),
                          !t        ? "trainer"
                          : !module ? "module"
                                    : "datamodule",
                          light_error_message());
    if (t->running)
        return light_fail(LIGHT_ERR_STATE, "%s: this trainer is running already", stage_name(stage));
    if (t->data != data) {
        light_loader_free(t->eval_loader);
        t->eval_loader = NULL;
    }
    t->running = true;
    t->run_stage = t->stage = stage;
    t->module = module;
    t->data = data;
    memset(&t->module_hooks, 0, sizeof t->module_hooks);
    size_t size = module->vtable->size;
    memcpy(&t->module_hooks, module->vtable, size < sizeof t->module_hooks ? size : sizeof t->module_hooks);
    forget_last_run(t);
    t->started_at = light_now();
    light_signals_install();
    light_status status = run_inside(t, options);
    note_signal(t, status);
    light_signals_restore();
    finalize_loggers(t, status);
    /* Loaders hold workers; their datasets may go in teardown. */
    light_loader_free(t->train_loader);
    light_loader_free(t->eval_loader);
    t->train_loader = t->eval_loader = NULL;
    if (t->set_up) light_call_teardown(t);
    light_run_folder_leave(t);
    leave_strategy(t, status);
    t->running = false;
    return status;
}
