/* SPDX-License-Identifier: Apache-2.0 */
/* EarlyStopping: ends training when a metric stops improving. Patience counts checks, as in Lightning. */
#include "callbacks/builtin.h"

#include <light/message.h>
#include <light/trainer.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct early_stopping {
    light_callback base;
    light_early_stopping_options options;
    double stopping_threshold, divergence_threshold; /* NAN: none */
    double best;
    int64_t wait_count;
} early_stopping;

#define OPTION(field, value, help) LIGHT_OPTION_IN(early_stopping, options, field, value, help)
static const light_option options[] = {
    OPTION(monitor, "", "metric to watch; must be given"),
    LIGHT_OPTION_IN_CHOICE(early_stopping, options, mode, "min", "min|max",
                           "whether smaller or larger is better"),
    OPTION(min_delta, 0.0, "a smaller change is no improvement"),
    OPTION(patience, 3, "checks without improvement before training stops"),
    OPTION(strict, LIGHT_ON, "a metric that is missing is an error"),
    OPTION(check_finite, LIGHT_ON, "stop when the metric is NaN or infinite"),
    OPTION(stopping_threshold, "", "stop when the metric is better than this"),
    OPTION(divergence_threshold, "", "stop when the metric is worse than this"),
    OPTION(check_on_train_epoch_end, false, "check at the end of epochs instead of after validation"),
    OPTION(verbose, false, "tell of each improvement"),
    LIGHT_OPTIONS_END,
};

static bool better(const early_stopping *e, double value, double than)
{
    return strcmp(e->options.mode, "max") ? value < than : value > than;
}

/* "" is none. */
static light_status parse_threshold(const char *name, const char *text, double *value)
{
    char *end;
    *value = NAN;
    if (!text[0]) return LIGHT_OK;
    *value = strtod(text, &end);
    if (*end || isnan(*value))
        return light_fail(LIGHT_ERR_ARGUMENT, "%s \"%s\": expected a number", name, text);
    return LIGHT_OK;
}

static light_status setup(light_callback *self, light_trainer *t, light_stage stage)
{
    early_stopping *e = (early_stopping *)self;
    (void)t;
    if (stage != LIGHT_STAGE_FIT) return LIGHT_OK;
    if (!e->options.monitor[0])
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "monitor is not set: name the metric to watch, such as val_loss");
    if (e->options.patience < 0)
        return light_fail(LIGHT_ERR_ARGUMENT, "patience %lld: must be 0 or more",
                          (long long)e->options.patience);
    LIGHT_TRY(parse_threshold("stopping_threshold", e->options.stopping_threshold, &e->stopping_threshold));
    LIGHT_TRY(
        parse_threshold("divergence_threshold", e->options.divergence_threshold, &e->divergence_threshold));
    e->best = strcmp(e->options.mode, "max") ? INFINITY : -INFINITY;
    e->wait_count = 0;
    return LIGHT_OK;
}

/* Why training should stop at this value, into `why`; false when it should not. */
static bool judge(early_stopping *e, double value, char *why, size_t bytes)
{
    const light_early_stopping_options *o = &e->options;
    double delta = strcmp(o->mode, "max") ? -fabs(o->min_delta) : fabs(o->min_delta);
    if (o->check_finite == LIGHT_ON && !isfinite(value)) {
        snprintf(why, bytes, "early stopping: %s is %g", o->monitor, value);
    } else if (!isnan(e->stopping_threshold) && better(e, value, e->stopping_threshold)) {
        snprintf(why, bytes, "early stopping: %s = %.6g has passed the stopping threshold %g", o->monitor,
                 value, e->stopping_threshold);
    } else if (!isnan(e->divergence_threshold) && better(e, e->divergence_threshold, value)) {
        snprintf(why, bytes, "early stopping: %s = %.6g has passed the divergence threshold %g", o->monitor,
                 value, e->divergence_threshold);
    } else if (better(e, value, e->best + delta)) {
        if (o->verbose) light_message(LIGHT_MESSAGE_INFO, "%s improved to %.6g", o->monitor, value);
        e->best = value;
        e->wait_count = 0;
        return false;
    } else if (++e->wait_count >= o->patience) {
        snprintf(why, bytes, "early stopping: %s has not improved in %lld checks; best %.6g", o->monitor,
                 (long long)e->wait_count, e->best);
    } else {
        return false;
    }
    return true;
}

static void check(early_stopping *e, light_trainer *t)
{
    double value;
    char why[256], names[512];
    if (light_trainer_sanity_checking(t) || light_trainer_run_stage(t) != LIGHT_STAGE_FIT) return;
    if (!light_trainer_monitor(t, e->options.monitor, &value)) {
        if (e->options.strict == LIGHT_ON)
            light_trainer_fail_at_rest(
                t, LIGHT_ERR_NOT_FOUND,
                "early stopping watches \"%s\" (--early_stopping.monitor), which has not "
                "been logged; logged: %s",
                e->options.monitor, light_trainer_metric_names(t, names, sizeof names));
        return;
    }
    if (judge(e, value, why, sizeof why)) light_trainer_stop(t, why);
}

static bool at_epoch_end(const early_stopping *e, const light_trainer *t)
{
    return e->options.check_on_train_epoch_end || !light_trainer_has_validation(t);
}

static void on_validation_end(light_callback *self, light_trainer *t)
{
    early_stopping *e = (early_stopping *)self;
    if (!at_epoch_end(e, t)) check(e, t);
}

static void on_train_epoch_end(light_callback *self, light_trainer *t)
{
    early_stopping *e = (early_stopping *)self;
    if (at_epoch_end(e, t)) check(e, t);
}

static light_status save_state(light_callback *self, light_state *state)
{
    const early_stopping *e = (const early_stopping *)self;
    LIGHT_TRY(light_state_put(state, "best", e->best));
    return light_state_put(state, "wait_count", e->wait_count);
}

static light_status load_state(light_callback *self, const light_state *state)
{
    early_stopping *e = (early_stopping *)self;
    LIGHT_TRY(light_state_get(state, "best", &e->best));
    return light_state_get(state, "wait_count", &e->wait_count);
}

const light_callback_vtable light_early_stopping_vtable = {
    LIGHT_CALLBACK(early_stopping),
    .options = options,
    .watches_metrics = true,
    .setup = setup,
    .on_validation_end = on_validation_end,
    .on_train_epoch_end = on_train_epoch_end,
    .save_state = save_state,
    .load_state = load_state,
};

light_callback *light_early_stopping_with(const light_early_stopping_options *given)
{
    light_callback *callback = light_callback_new(&light_early_stopping_vtable);
    if (callback) light_options_merge(options, callback, given, offsetof(early_stopping, options));
    return callback;
}
