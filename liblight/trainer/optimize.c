/* SPDX-License-Identifier: Apache-2.0 */
/* One batch of training: loss, backward, accumulation, clipping, optimizer, schedules. */
#include "nn/batch_statistics.h"
#include "optim/clip.h"
#include "trainer/trainer.h"

#include <light/message.h>
#include <light/ops.h>

#include <math.h>
#include <string.h>

/* The length of the accumulation window that the current batch begins. The last window of an epoch may be shorter, and
 * is averaged over its own length. */
int64_t light_window_length(const light_trainer *t)
{
    int64_t k = t->options.accumulate_grad_batches;
    if (t->strategy) return t->turn.window;
    if (t->num_train_batches < 0) return k;
    int64_t rest = t->num_train_batches - t->current_batch;
    return rest < k ? rest : k;
}

bool light_window_ends(const light_trainer *t)
{
    if (t->strategy) return t->turn.ends;
    return t->accumulated + 1 >= t->options.accumulate_grad_batches || t->last_batch;
}

static light_status check_loss(light_trainer *t, light_tensor *loss)
{
    char text[256];
    if (loss->numel != 1)
        return light_fail(
            LIGHT_ERR_SHAPE,
            "%s.training_step: the loss has shape %s, a scalar is needed (take its mean or sum)",
            t->module_hooks.name, light_shape_format(light_shape_of(loss), text, sizeof text));
    if (!loss->requires_grad)
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "%s.training_step: the loss depends on no parameter that requires a gradient",
                          t->module_hooks.name);
    if (t->options.detect_anomaly) {
        double value;
        LIGHT_TRY(light_item(loss, &value));
        if (!isfinite(value))
            return light_fail(LIGHT_ERR_NUMERIC,
                              "the loss is %g in epoch %lld, batch %lld (detect_anomaly is on)",
                              isnan(value) ? (double)NAN : value, (long long)t->epoch.processed,
                              (long long)t->current_batch);
    }
    return LIGHT_OK;
}

static light_status zero_grad(light_trainer *t)
{
    LIGHT_TRY(light_call_on_before_zero_grad(t));
    for (int i = 0; i < t->optimizers->n; i++) light_optimizer_zero_grad(t->optimizers->entries[i].optimizer);
    return LIGHT_OK;
}

light_window light_window_of(const light_trainer *t, bool last)
{
    /* A stream may end anywhere, so that all ranks may still have batches. */
    return (light_window){.batches = t->turn.window,
                          .mine = t->streams ? t->accumulated + 1 : t->turn.mine,
                          .done = t->accumulated,
                          .contributors = t->streams ? t->share.size : t->turn.contributors,
                          .present = t->streams ? t->share.size : t->turn.present,
                          .first = t->turn.begins,
                          .last = last,
                          .manual = t->module_hooks.manual_optimization};
}

static light_status backward(light_trainer *t, light_tensor *loss, double weight, bool last)
{
    const light_window window = light_window_of(t, last);
    LIGHT_TRY(light_call_on_before_backward(t, loss));
    if (t->strategy) LIGHT_TRY(t->strategy->vtable->before_backward(t->strategy, t->step, &window));
    LIGHT_TRY(light_backward_weighted(t->step, loss, weight));
    if (t->strategy) LIGHT_TRY(t->strategy->vtable->after_backward(t->strategy, t->step, &window, true));
    LIGHT_TRY(light_end_turn(t));
    return light_call_on_after_backward(t);
}

/* This rank has no batch in this turn: it takes part in the sums all the same. */
static light_status reduce_without_batch(light_trainer *t)
{
    light_window window = light_window_of(t, t->turn.ends);
    if (t->accumulated == 0) window.mine = 0;
    return t->strategy->vtable->after_backward(t->strategy, t->step, &window, false);
}

/* ---- the optimizer's step ----------------------------------------------- */

/* The learning rates of schedules that go by the step. */
static light_status advance_schedule(light_trainer *t, light_schedule *schedule, int64_t count)
{
    if (!schedule || count % light_schedule_frequency(schedule)) return LIGHT_OK;
    const char *monitor = light_schedule_monitor(schedule);
    double value = 0;
    char names[512];
    if (monitor && !light_trainer_monitor(t, monitor, &value)) {
        if (light_schedule_lenient(schedule)) return LIGHT_OK;
        return light_fail(LIGHT_ERR_NOT_FOUND,
                          "schedule %s monitors \"%s\", which has not been logged when it is due; logged: %s",
                          light_schedule_name(schedule), monitor,
                          light_trainer_metric_names(t, names, sizeof names));
    }
    return light_schedule_advance(schedule, value);
}

static light_status schedules_after_step(light_trainer *t)
{
    for (int i = 0; i < t->optimizers->n; i++) {
        light_schedule *schedule = t->optimizers->entries[i].schedule;
        if (schedule && light_schedule_interval(schedule) == LIGHT_INTERVAL_STEP &&
            !light_schedule_monitor(schedule))
            LIGHT_TRY(advance_schedule(t, schedule, t->global_step));
    }
    return LIGHT_OK;
}

light_status light_schedules_at_epoch_end(light_trainer *t)
{
    for (int i = 0; i < t->optimizers->n; i++) {
        light_schedule *schedule = t->optimizers->entries[i].schedule;
        if (schedule && light_schedule_interval(schedule) == LIGHT_INTERVAL_EPOCH &&
            !light_schedule_monitor(schedule))
            LIGHT_TRY(advance_schedule(t, schedule, t->epoch.processed + 1));
    }
    return LIGHT_OK;
}

light_status light_schedules_on_metric(light_trainer *t, light_interval interval)
{
    if (t->module_hooks.manual_optimization) return LIGHT_OK;
    for (int i = 0; i < t->optimizers->n; i++) {
        light_schedule *schedule = t->optimizers->entries[i].schedule;
        if (schedule && light_schedule_interval(schedule) == interval && light_schedule_monitor(schedule))
            LIGHT_TRY(advance_schedule(
                t, schedule, interval == LIGHT_INTERVAL_STEP ? t->global_step : t->epoch.processed));
    }
    return LIGHT_OK;
}

/* ---- clipping and loss scaling ------------------------------------------ */

/* Gradients are too large by the loss scale until the optimizer's own pass, unless somebody looks at them before. */
static bool gradients_are_read(const light_trainer *t)
{
    bool read = t->module_hooks.on_before_optimizer_step || t->module_hooks.configure_gradient_clipping;
    for (int i = 0; i < t->n_callbacks; i++) read |= t->callbacks[i].hooks.on_before_optimizer_step != NULL;
    return read;
}

static bool clips_values(const light_trainer *t)
{
    return t->options.gradient_clip_val > 0 && !strcmp(t->options.gradient_clip_algorithm, "value");
}

static void set_scaled(light_trainer *t, bool scaled)
{
    t->step->grad_scale = t->scaler && scaled ? &t->scaler->seed : NULL;
    if (t->step->host) t->step->host->grad_scale = t->scaler && scaled ? &t->scaler->scale : NULL;
}

static light_status unscale(light_trainer *t, int i)
{
    set_scaled(t, false);
    return light_scaler_unscale(t->scaler, light_step_for_optimizers(t->step), i);
}

/* *factor: what the optimizer multiplies gradients by; *norm: theirs. NULL: there is none. */
static light_status clip(light_trainer *t, light_optimizer *optimizer, light_tensor **norm,
                         light_tensor **factor)
{
    *norm = *factor = NULL;
    if (t->module_hooks.configure_gradient_clipping) {
        LIGHT_TRY(t->module_hooks.configure_gradient_clipping(t->module, t));
        return light_step_status(t->step);
    }
    if (clips_values(t)) return light_grad_clamp(optimizer, t->options.gradient_clip_val);
    if (t->options.gradient_clip_val > 0)
        return light_grad_norm_factor(light_step_for_optimizers(t->step), optimizer,
                                      t->options.gradient_clip_val, norm, factor);
    return t->step->grad_scale ? light_scaler_factor(t->scaler, light_step_for_optimizers(t->step), factor)
                               : LIGHT_OK;
}

static light_status clip_and_step(light_trainer *t, light_optimizer *optimizer)
{
    light_tensor *norm, *factor;
    if (t->scaler && (gradients_are_read(t) || clips_values(t))) LIGHT_TRY(unscale(t, 0));
    LIGHT_TRY(light_call_on_before_optimizer_step(t));
    LIGHT_TRY(clip(t, optimizer, &norm, &factor));
    if (t->step->grad_scale)
        LIGHT_TRY(light_scaler_check(t->scaler, light_step_for_optimizers(t->step), 0, norm));
    light_range_push(t->device, "optimizer_step");
    light_status status = light_optimizer_step_now(optimizer, factor);
    light_range_pop(t->device);
    LIGHT_TRY(status);
    if (t->strategy) LIGHT_TRY(t->strategy->vtable->after_step(t->strategy, t->step));
    set_scaled(t, true);
    t->global_step++;
    return t->scaler ? light_scaler_update(t->scaler, light_step_for_optimizers(t->step)) : LIGHT_OK;
}

/* 65536 halved thirty times and never doubled. */
#define LEAST_LOSS_SCALE 1e-4

light_status light_watch_loss_scale(light_trainer *t)
{
    double scale;
    if (!t->scaler || t->told_scale) return LIGHT_OK;
    LIGHT_TRY(light_scaler_read(t->scaler, &scale));
    if (scale >= LEAST_LOSS_SCALE) return LIGHT_OK;
    t->told_scale = true;
    light_message(
        LIGHT_MESSAGE_WARNING,
        "trainer.precision 16-mixed: the loss scale has fallen to %g by step %lld, since gradients "
        "were not finite again and again, and those steps were skipped; look for a loss that is NaN, "
        "lower the learning rate, or use bf16-mixed",
        scale, (long long)t->global_step);
    return LIGHT_OK;
}

/* ---- automatic optimization --------------------------------------------- */

/* The batches that made up the window that ends, over all ranks, and whether there are more behind it. */
static light_status count_window(light_trainer *t, int64_t *batches)
{
    *batches = t->strategy && !t->streams ? t->turn.window : t->accumulated;
    if (!t->strategy || !t->streams) return LIGHT_OK;
    double sums[2] = {(double)t->accumulated, !t->stream_ended};
    LIGHT_TRY(light_reduce_doubles(t->strategy->host, sums, 2, LIGHT_COMBINE_SUM, "batches of a stream"));
    *batches = (int64_t)sums[0];
    t->last_batch |= sums[1] == 0;
    return LIGHT_OK;
}

/* A window turned out shorter (a stream ended, a batch was skipped): its gradients were divided by too much. */
static light_status mend_short_window(light_trainer *t, light_optimizer *optimizer, int64_t batches)
{
    if (batches == t->window) return LIGHT_OK;
    double ratio = (double)t->window / (double)batches;
    light_step *s = light_step_for_optimizers(t->step);
    light_tensor *factor = light_full(s, LIGHT_SCALAR, ratio, LIGHT_F32);
    if (!factor) return light_step_status(s);
    for (int g = 0; g < optimizer->n_groups; g++) {
        int64_t at = 0;
        light_optimizer_run run;
        while (light_optimizer_next_run(&optimizer->groups[g], &at, &run))
            LIGHT_TRY(LIGHT_RUN(s, SCALE, .in = {&run.grad, factor}, .out = {&run.grad}));
    }
    return LIGHT_OK;
}

static light_status accumulate(light_trainer *t, light_tensor *loss)
{
    LIGHT_TRY(check_loss(t, loss));
    if (t->accumulated == 0) {
        t->window = light_window_length(t);
        LIGHT_TRY(zero_grad(t));
    }
    LIGHT_TRY(backward(t, loss, 1.0 / (double)t->window, t->turn.ends));
    t->accumulated++;
    return LIGHT_OK;
}

static light_status end_window(light_trainer *t)
{
    int64_t batches;
    LIGHT_TRY(count_window(t, &batches));
    if (batches == 0) return LIGHT_OK; /* a stream that gave nothing more */
    if (t->step->batch_statistics)
        LIGHT_TRY(light_batch_statistics_apply(t->step->batch_statistics, t->step, t->strategy->tensors,
                                               t->strategy->host, batches));
    if (t->optimizers->n) {
        LIGHT_TRY(mend_short_window(t, t->optimizers->entries[0].optimizer, batches));
        LIGHT_TRY(clip_and_step(t, t->optimizers->entries[0].optimizer));
    } else {
        t->global_step++;
    }
    t->accumulated = 0;
    t->stepped = true;
    return schedules_after_step(t);
}

/* Ranks cannot know of each other that a batch was skipped. */
static light_status no_loss(light_trainer *t)
{
    if (!t->strategy) return LIGHT_OK;
    return light_fail(
        LIGHT_ERR_UNSUPPORTED,
        "%s.training_step gave no loss for batch %lld of epoch %lld: with strategy %s each batch "
        "needs one",
        t->module_hooks.name, (long long)t->turn.batch, (long long)t->epoch.processed,
        t->strategy->vtable->name);
}

static light_status optimize(light_trainer *t, light_tensor *loss)
{
    LIGHT_TRY(loss ? accumulate(t, loss) : no_loss(t));
    bool ends = t->strategy ? t->turn.ends
                            : t->accumulated > 0 &&
                                  (t->accumulated >= t->options.accumulate_grad_batches || t->last_batch);
    return ends ? end_window(t) : LIGHT_OK;
}

light_status light_train_on_nothing(light_trainer *t)
{
    t->stepped = false;
    t->stream_ended = true;
    set_scaled(t, true);
    if (t->turn.begins) {
        t->window = light_window_length(t);
        LIGHT_TRY(zero_grad(t));
    }
    LIGHT_TRY(reduce_without_batch(t));
    if (!t->turn.ends) return LIGHT_OK;
    LIGHT_TRY(end_window(t));
    return t->last_batch ? light_schedules_at_epoch_end(t) : LIGHT_OK;
}

static light_status end_manual_batch(light_trainer *t, int64_t steps_before)
{
    t->stepped = t->global_step != steps_before;
    return t->scaler ? light_scaler_update(t->scaler, light_step_for_optimizers(t->step)) : LIGHT_OK;
}

light_status light_count_recorded_step(light_trainer *t)
{
    bool ends = light_window_ends(t);
    if (t->accumulated++ == 0) t->window = light_window_length(t);
    if (!ends) return LIGHT_OK;
    for (int i = 0; i < t->optimizers->n; i++)
        light_optimizer_count_step(t->optimizers->entries[i].optimizer);
    t->global_step++;
    t->accumulated = 0;
    t->stepped = true;
    return schedules_after_step(t);
}

light_status light_train_eagerly(light_trainer *t, light_batch *batch)
{
    light_step *s = t->step;
    t->stepped = false;
    t->moment = LIGHT_LOG_TRAIN_STEP;
    t->stream_ended = batch->is_last;
    set_scaled(t, true);
    int64_t steps_before = t->global_step;
    if (s->batch_statistics) LIGHT_TRY(light_batch_statistics_begin(s->batch_statistics, s, t->accumulated));
    light_range_push(s->device, "training_step");
    light_tensor *loss = t->module_hooks.training_step(t->module, s, batch);
    light_range_pop(s->device);
    LIGHT_TRY(light_step_status(s));
    LIGHT_TRY(light_trainer_failure(t));
    if (t->module_hooks.manual_optimization)
        LIGHT_TRY(end_manual_batch(t, steps_before));
    else
        LIGHT_TRY(optimize(t, loss));
    return LIGHT_OK;
}

light_status light_train_on_batch(light_trainer *t, light_batch *batch)
{
    LIGHT_TRY(t->graphs ? light_train_with_graphs(t, batch) : light_train_eagerly(t, batch));
    if (t->last_batch && !t->module_hooks.manual_optimization) LIGHT_TRY(light_schedules_at_epoch_end(t));
    return LIGHT_OK;
}

/* ---- manual optimization ------------------------------------------------ */

static int index_of(const light_trainer *t, const light_optimizer *optimizer)
{
    int i = 0;
    while (t->optimizers->entries[i].optimizer != optimizer) i++;
    return i;
}

static light_status before_manual_step(void *user, light_step *s, light_optimizer *optimizer,
                                       light_tensor **factor)
{
    light_trainer *t = user;
    if (t->scaler && gradients_are_read(t)) LIGHT_TRY(unscale(t, index_of(t, optimizer)));
    LIGHT_TRY(light_call_on_before_optimizer_step(t));
    if (!s->grad_scale) return LIGHT_OK;
    light_step *there = light_step_for_optimizers(s);
    LIGHT_TRY(light_scaler_check(t->scaler, there, index_of(t, optimizer), NULL));
    return light_scaler_factor(t->scaler, there, factor);
}

static light_status after_manual_step(void *user, light_step *s, light_optimizer *optimizer)
{
    light_trainer *t = user;
    (void)optimizer;
    if (t->strategy) LIGHT_TRY(t->strategy->vtable->after_step(t->strategy, s));
    set_scaled(t, true);
    t->global_step++;
    return LIGHT_OK;
}

static light_status before_manual_zero_grad(void *user, light_step *s, light_optimizer *optimizer)
{
    (void)s, (void)optimizer;
    return light_call_on_before_zero_grad(user);
}

void light_optimizer_hooks_init(light_trainer *t)
{
    t->optimizer_hooks = (light_optimizer_hooks){.user = t,
                                                 .before_step = before_manual_step,
                                                 .after_step = after_manual_step,
                                                 .before_zero_grad = before_manual_zero_grad};
    for (int i = 0; i < t->optimizers->n; i++)
        t->optimizers->entries[i].optimizer->hooks = &t->optimizer_hooks;
}

light_trainer *light_step_trainer(light_step *s)
{
    return s ? s->trainer : NULL;
}

light_optimizer *light_optimizer_at(light_step *s, int i)
{
    light_trainer *t = light_step_trainer(s);
    int n = t && t->optimizers ? t->optimizers->n : 0;
    if (i >= 0 && i < n) return t->optimizers->entries[i].optimizer;
    light_step_fail(s, LIGHT_ERR_ARGUMENT, "optimizer %d does not exist: configure_optimizers added %d", i,
                    n);
    return NULL;
}

void light_manual_backward(light_step *s, light_tensor *loss)
{
    light_trainer *t = light_step_trainer(s);
    if (!t) {
        light_backward(s, loss);
        return;
    }
    if (!loss) return;
    light_status status = backward(t, loss, t->strategy ? 1.0 / (double)t->turn.window : 1, true);
    if (light_trainer_failure(t) == LIGHT_OK) light_step_record(s, status); /* else it is a hook's own */
}
