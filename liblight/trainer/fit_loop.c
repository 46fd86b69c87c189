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

/* Something asks to stop that is no failure. Rank 0's clock counts. */
static light_status check_time(light_trainer *t)
{
    if (isinf(t->max_seconds)) return LIGHT_OK;
    double seconds = light_now() - t->started_at;
    LIGHT_TRY(light_trainer_broadcast(t, &seconds, sizeof seconds));
    if (seconds < t->max_seconds) return LIGHT_OK;
    char why[96];
    snprintf(why, sizeof why, "max_time %s has passed", t->options.max_time);
    light_trainer_stop(t, why);
    return LIGHT_OK;
}

/* Whether a moment is one between two steps, where several ranks may do things together. */
static bool between_steps(const light_trainer *t)
{
    return !t->strategy || t->turn.ends;
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
    if (!light_trainer_has_validation(t) || !between_steps(t)) return false;
    if (every > 0 && (t->epoch.processed + 1) % every) return false;
    if (t->last_batch && t->num_train_batches < 0) return true;
    if (t->should_stop && minimum_reached(t)) return true;
    int64_t interval = validation_interval(t);
    int64_t done = every > 0 ? t->batch_current.processed : t->batch.processed;
    /* With a strategy the batches of a window are done together, and may go beyond it. */
    int64_t before = done - (t->strategy ? t->turn.window : 1);
    return interval > 0 && done / interval > before / interval;
}

/* ---- a batch ------------------------------------------------------------ */

/* Random numbers belong to the batch, whichever rank has it: those of a run alone, which counts batches. */
static void set_counter(light_trainer *t)
{
    int64_t before_epoch = t->batch.processed - t->turn.before;
    if (t->strategy) light_step_set_counter(t->step, (uint64_t)(before_epoch + t->turn.batch + 1));
}

/* Fetches the batch of the next turn; *more is false at the end of the epoch. One of size 0: this rank has none. */
static light_status next_batch(light_trainer *t, light_batch *batch, bool *more)
{
    *more = false;
    *batch = (light_batch){.epoch = t->epoch.processed, .index = -1};
    if (t->share.total >= 0 && t->turns >= light_share_turns(&t->share)) return LIGHT_OK;
    LIGHT_TRY(light_step_begin(t->step));
    if (t->step->host) LIGHT_TRY(light_step_begin(t->step->host));
    t->turn = light_share_turn(&t->share, t->turns);
    if (t->options.sync_batchnorm && light_trainer_world_size(t) > 1) {
        t->step->batch_group = t->strategy->host;
        t->step->batch_ranks = t->turn.present;
    }
    if (t->turn.batch >= 0) {
        set_counter(t);
        LIGHT_TRY(light_loader_next(t->train_loader, t->step, batch));
    }
    if (batch->size == 0 && !t->strategy) return LIGHT_OK; /* a stream is at its end */
    *more = true;
    t->turns++;
    t->current_batch = t->batch_current.processed;
    t->last_batch = t->turn.last || (!t->strategy && batch->is_last);
    return batch->size ? light_transfer_batch(t, batch) : LIGHT_OK;
}

static light_status write_step_metrics(light_trainer *t)
{
    int64_t every = t->options.log_every_n_steps;
    if (t->stepped && every > 0 && ((t->batches_that_stepped + 1) % every == 0 || t->should_stop)) {
        LIGHT_TRY(light_metrics_sync_step(t));
        return light_metrics_write(t);
    }
    light_metrics_drop_pending(t);
    return LIGHT_OK;
}

static light_status skip_epoch(light_trainer *t, int64_t n)
{
    if (light_trainer_world_size(t) > 1)
        return light_fail(LIGHT_ERR_UNSUPPORTED,
                          "%s.on_train_batch_start skips the rest of an epoch, which %d processes cannot do "
                          "together: use light_trainer_stop, or limit_train_batches",
                          t->module_hooks.name, light_trainer_world_size(t));
    t->batch.ready -= n;
    t->batch_current.ready -= n;
    t->skip_epoch = true;
    return LIGHT_OK;
}

/* Progress counts the batches of all ranks in this turn. */
static light_status run_batch(light_trainer *t, light_batch *batch)
{
    bool go_on = true, mine = batch->size > 0, any;
    int64_t n = t->turn.after - t->turn.before;
    t->running_batch = mine ? batch : NULL;
    t->moment = LIGHT_LOG_TRAIN_STEP;
    t->batch.ready += n;
    t->batch_current.ready += n;
    if (mine) LIGHT_TRY(light_call_on_train_batch_start(t, batch, &go_on));
    if (!go_on) return skip_epoch(t, n);
    t->batch.started += n;
    t->batch_current.started += n;
    LIGHT_TRY(light_begin_turn(t, true, mine, &any));
    LIGHT_TRY(mine ? light_train_on_batch(t, batch) : light_train_on_nothing(t));
    t->batch.processed += n;
    t->batch_current.processed += n;
    t->moment = LIGHT_LOG_TRAIN_STEP;
    LIGHT_TRY(mine ? light_call_on_train_batch_end(t, batch) : light_call_on_train_batch_missing(t));
    t->batch.completed += n;
    t->batch_current.completed += n;
    if (between_steps(t)) LIGHT_TRY(check_time(t));
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

/* The share of the epoch from where it stands. */
static light_status begin_share(light_trainer *t)
{
    t->share.origin = t->batch_current.processed;
    t->turns = 0;
    return light_begin_share(t->train_loader, t->epoch.processed, &t->share);
}

static light_status begin_epoch(light_trainer *t)
{
    t->batch_current = (light_progress){0};
    t->accumulated = 0;
    t->current_batch = 0;
    t->epoch.ready++;
    int64_t every = t->options.reload_dataloaders_every_n_epochs;
    if (every > 0 && t->epoch.processed > 0 && t->epoch.processed % every == 0)
        LIGHT_TRY(light_make_train_loader(t));
    LIGHT_TRY(begin_share(t));
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
        LIGHT_TRY(begin_share(t));
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
            bool stop = false;
            if (between_steps(t)) {
                LIGHT_TRY(light_save_point(t, LIGHT_RESUME_AFTER_BATCH));
                /* Here, where a checkpoint can be taken (run.c lets the callbacks ask for one). */
                LIGHT_TRY(light_ask_to_stop(t, &stop));
            }
            if (stop) return interrupted(t);
        }
        LIGHT_TRY(after_batch(t, resume));
        resume = LIGHT_RESUME_NONE;
        if (t->last_batch || (between_steps(t) && (steps_reached(t) || stop_is_due(t)))) break;
    }
    return end_epoch(t);
}

light_status light_fit_loop(light_trainer *t)
{
    if (t->num_train_batches == 0) return LIGHT_OK;
    t->moment = LIGHT_LOG_EPOCH;
    LIGHT_TRY(light_call_on_train_start(t));
    LIGHT_TRY(check_time(t)); /* a resumed run may have used it up */
    if (t->resume == LIGHT_RESUME_AFTER_EPOCH) t->resume = LIGHT_RESUME_NONE;
    while (t->resume != LIGHT_RESUME_NONE || !fit_is_done(t)) LIGHT_TRY(run_epoch(t));
    t->moment = LIGHT_LOG_FORBIDDEN;
    LIGHT_TRY(light_follow_buffers(t));
    LIGHT_TRY(light_poll_saves(t, true)); /* callbacks may want to try a failed one again */
    LIGHT_TRY(light_call_on_train_end(t));
    return light_save_point(t, LIGHT_RESUME_AFTER_EPOCH);
}
