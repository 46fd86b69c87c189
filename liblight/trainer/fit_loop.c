/* SPDX-License-Identifier: Apache-2.0 */
/* Training: epochs, batches, when to validate, when to stop. The order of the moments is Lightning's. */
#include "trainer/trainer.h"

#include "base/time.h"

#include <light/message.h>

#include <math.h>
#include <stdio.h>

/* ---- when --------------------------------------------------------------- */

static bool minimum_reached(const light_trainer *t)
{
    return t->epoch.processed >= t->options.min_epochs && t->global_step >= t->options.min_steps;
}

static bool steps_reached(const light_trainer *t)
{
    return t->options.max_steps >= 0 && t->global_step >= t->options.max_steps;
}

bool light_stop_is_held_off(const light_trainer *t)
{
    return t->should_stop && !minimum_reached(t);
}

/* Somebody asked to stop, and nothing forbids it. */
static bool stop_is_due(light_trainer *t)
{
    if (!t->should_stop) return false;
    if (minimum_reached(t)) return true;
    if (!t->said_minimum)
        light_message(LIGHT_MESSAGE_INFO,
                      "asked to stop (%s), but training goes on until min_epochs %lld and min_steps %lld",
                      t->stop_reason, (long long)t->options.min_epochs, (long long)t->options.min_steps);
    t->said_minimum = true;
    return false;
}

static bool fit_is_done(light_trainer *t)
{
    if (t->num_train_batches == 0) return true;
    if (steps_reached(t)) return true;
    if (t->options.max_epochs >= 0 && t->epoch.processed >= t->options.max_epochs) return true;
    return stop_is_due(t);
}

/* Something asks to stop that is no failure. */
static void check_time(light_trainer *t)
{
    if (isinf(t->max_seconds) || light_now() - t->started_at < t->max_seconds) return;
    char why[96];
    snprintf(why, sizeof why, "max_time %s has passed", t->options.max_time);
    light_trainer_stop(t, why);
}

/* The batches between validations, in an epoch or across epochs. */
static int64_t validation_interval(const light_trainer *t)
{
    if (!t->val_interval.is_fraction) return t->val_interval.batches;
    if (t->num_train_batches < 0) return 0; /* a stream: at its end only */
    int64_t interval = (int64_t)((double)t->num_train_batches * t->val_interval.fraction);
    return interval > 0 ? interval : 1;
}

bool light_trainer_has_validation(const light_trainer *t)
{
    bool none = t->limit_val.is_fraction ? t->limit_val.fraction == 0 : t->limit_val.batches == 0;
    return !none && t->module_hooks.validation_step &&
           light_datamodule_has_loader(t->data, LIGHT_STAGE_VALIDATE);
}

bool light_trainer_validates_next(const light_trainer *t)
{
    int64_t every = t->options.check_val_every_n_epoch;
    if (!light_trainer_has_validation(t)) return false;
    if (every > 0 && (t->epoch.processed + 1) % every) return false;
    if (t->last_batch && t->num_train_batches < 0) return true;
    if (t->should_stop && minimum_reached(t)) return true;
    int64_t interval = validation_interval(t);
    int64_t done = every > 0 ? t->batch_current.processed : t->batch.processed;
    return interval > 0 && done % interval == 0;
}

/* ---- a batch ------------------------------------------------------------ */

/* Fetches the next batch; *more is false at the end of the epoch. */
static light_status next_batch(light_trainer *t, light_batch *batch, bool *more)
{
    *more = false;
    if (t->num_train_batches >= 0 && t->batch_current.processed >= t->num_train_batches) return LIGHT_OK;
    LIGHT_TRY(light_step_begin(t->step));
    LIGHT_TRY(light_loader_next(t->train_loader, t->step, batch));
    if (batch->size == 0) return LIGHT_OK;
    *more = true;
    t->current_batch = t->batch_current.processed;
    t->last_batch = batch->is_last || t->current_batch + 1 == t->num_train_batches;
    return light_transfer_batch(t, batch);
}

static light_status write_step_metrics(light_trainer *t)
{
    int64_t every = t->options.log_every_n_steps;
    if (t->stepped && every > 0 && ((t->batches_that_stepped + 1) % every == 0 || t->should_stop))
        return light_metrics_write(t);
    light_metrics_drop_pending(t);
    return LIGHT_OK;
}

static light_status run_batch(light_trainer *t, light_batch *batch)
{
    bool go_on;
    t->running_batch = batch;
    t->moment = LIGHT_LOG_TRAIN_STEP;
    t->batch.ready++;
    t->batch_current.ready++;
    LIGHT_TRY(light_call_on_train_batch_start(t, batch, &go_on));
    if (!go_on) {
        t->batch.ready--;
        t->batch_current.ready--;
        t->skip_epoch = true;
        return LIGHT_OK;
    }
    t->batch.started++;
    t->batch_current.started++;
    LIGHT_TRY(light_train_on_batch(t, batch));
    t->batch.processed++;
    t->batch_current.processed++;
    t->moment = LIGHT_LOG_TRAIN_STEP;
    LIGHT_TRY(light_call_on_train_batch_end(t, batch));
    t->batch.completed++;
    t->batch_current.completed++;
    check_time(t);
    return write_step_metrics(t);
}

/* What follows a batch: validation, schedules that watch a metric. */
static light_status after_batch(light_trainer *t, light_resume_point resume)
{
    if (resume != LIGHT_RESUME_AFTER_VALIDATION) {
        bool due = light_trainer_validates_next(t);
        if (due) LIGHT_TRY(light_evaluation_loop(t, LIGHT_STAGE_VALIDATE, -1));
        if (t->stepped) LIGHT_TRY(light_schedules_on_metric(t, LIGHT_INTERVAL_STEP));
        if (due) LIGHT_TRY(light_save_point(t, LIGHT_RESUME_AFTER_VALIDATION));
    }
    if (t->stepped) t->batches_that_stepped++;
    t->stepped = false;
    return light_poll_saves(t, false);
}

static light_status interrupted(light_trainer *t)
{
    t->at_rest = true;
    return light_fail(LIGHT_ERR_INTERRUPTED, "interrupted at step %lld (epoch %lld)",
                      (long long)t->global_step, (long long)t->epoch.processed);
}

/* ---- an epoch ----------------------------------------------------------- */

static light_status begin_epoch(light_trainer *t)
{
    t->batch_current = (light_progress){0};
    t->accumulated = 0;
    t->current_batch = 0;
    t->epoch.ready++;
    int64_t every = t->options.reload_dataloaders_every_n_epochs;
    if (every > 0 && t->epoch.processed > 0 && t->epoch.processed % every == 0)
        LIGHT_TRY(light_make_train_loader(t));
    LIGHT_TRY(light_loader_begin(t->train_loader, t->epoch.processed, 0));
    t->moment = LIGHT_LOG_EPOCH;
    LIGHT_TRY(light_call_on_train_epoch_start(t));
    t->epoch.started++;
    return LIGHT_OK;
}

static light_status end_epoch(light_trainer *t)
{
    t->epoch.processed++;
    t->moment = LIGHT_LOG_EPOCH;
    LIGHT_TRY(light_call_on_train_epoch_end(t));
    t->moment = LIGHT_LOG_FORBIDDEN;
    /* An epoch that max_steps or a stop has cut short is none for schedules, and may have had no validation. */
    if (t->last_batch) LIGHT_TRY(light_schedules_on_metric(t, LIGHT_INTERVAL_EPOCH));
    LIGHT_TRY(light_metrics_write(t));
    t->epoch.completed++;
    LIGHT_TRY(light_save_point(t, LIGHT_RESUME_AFTER_EPOCH));
    return LIGHT_OK;
}

static light_status run_epoch(light_trainer *t)
{
    light_resume_point resume = t->resume;
    t->resume = LIGHT_RESUME_NONE;
    t->skip_epoch = false;
    if (resume == LIGHT_RESUME_NONE)
        LIGHT_TRY(begin_epoch(t));
    else
        LIGHT_TRY(light_loader_begin(t->train_loader, t->epoch.processed, t->batch_current.processed));
    for (;;) {
        if (resume == LIGHT_RESUME_NONE) {
            light_batch batch;
            bool more;
            LIGHT_TRY(next_batch(t, &batch, &more));
            if (!more) break;
            light_status status = run_batch(t, &batch);
            t->running_batch = NULL;
            LIGHT_TRY(status);
            if (t->skip_epoch) break;
            LIGHT_TRY(light_save_point(t, LIGHT_RESUME_AFTER_BATCH));
            /* Here, where a checkpoint can be taken (run.c lets the callbacks ask for one). */
            if (light_signals_pending()) return interrupted(t);
        }
        LIGHT_TRY(after_batch(t, resume));
        resume = LIGHT_RESUME_NONE;
        if (steps_reached(t) || t->last_batch) break;
        if (stop_is_due(t)) break;
    }
    return end_epoch(t);
}

light_status light_fit_loop(light_trainer *t)
{
    if (t->num_train_batches == 0) return LIGHT_OK;
    t->moment = LIGHT_LOG_EPOCH;
    LIGHT_TRY(light_call_on_train_start(t));
    check_time(t); /* a resumed run may have used it up */
    if (t->resume == LIGHT_RESUME_AFTER_EPOCH) t->resume = LIGHT_RESUME_NONE;
    while (t->resume != LIGHT_RESUME_NONE || !fit_is_done(t)) LIGHT_TRY(run_epoch(t));
    t->moment = LIGHT_LOG_FORBIDDEN;
    LIGHT_TRY(light_poll_saves(t, true)); /* callbacks may want to try a failed one again */
    LIGHT_TRY(light_call_on_train_end(t));
    return light_save_point(t, LIGHT_RESUME_AFTER_EPOCH);
}
