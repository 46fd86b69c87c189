/* SPDX-License-Identifier: Apache-2.0 */
/* LearningRateMonitor: the learning rates as metrics, "lr-adamw", "lr-adamw/pg1" for the second group. */
#include "callbacks/builtin.h"

#include <light/trainer.h>

#include <stdio.h>
#include <string.h>

typedef struct learning_rate_monitor {
    light_callback base;
    light_learning_rate_monitor_options options;
} learning_rate_monitor;

#define OPTION(field, value, help) LIGHT_OPTION_IN(learning_rate_monitor, options, field, value, help)
static const light_option options[] = {
    LIGHT_OPTION_IN_CHOICE(learning_rate_monitor, options, logging_interval, "step", "step|epoch",
                           "log at each optimizer step or at each epoch"),
    OPTION(log_momentum, false, "log momentum (beta1) too"),
    OPTION(log_weight_decay, false, "log weight decay too"),
    LIGHT_OPTIONS_END,
};

static void log_one(light_trainer *t, bool step, const char *what, const char *optimizer, int index,
                    int group, double value)
{
    char name[128], number[16] = "";
    if (index > 0) snprintf(number, sizeof number, "-%d", index);
    if (group > 0)
        snprintf(name, sizeof name, "lr-%s%s/pg%d%s", optimizer, number, group, what);
    else
        snprintf(name, sizeof name, "lr-%s%s%s", optimizer, number, what);
    light_log_value(t, name, value, .on_step = step ? LIGHT_ON : LIGHT_OFF,
                    .on_epoch = step ? LIGHT_OFF : LIGHT_ON);
}

static void log_all(const learning_rate_monitor *m, light_trainer *t, bool step)
{
    light_optimizer *optimizer;
    for (int i = 0; (optimizer = light_trainer_optimizer(t, i)); i++) {
        const char *name = light_optimizer_name(optimizer);
        for (int g = 0; g < light_optimizer_groups(optimizer); g++) {
            const light_optimizer_options *o = light_optimizer_hyperparameters(optimizer, g);
            log_one(t, step, "", name, i, g, light_optimizer_lr(optimizer, g));
            if (m->options.log_momentum)
                log_one(t, step, "-momentum", name, i, g, o->betas[0] != 0 ? o->betas[0] : o->momentum);
            if (m->options.log_weight_decay) log_one(t, step, "-weight_decay", name, i, g, o->weight_decay);
        }
    }
}

static void on_train_batch_start(light_callback *self, light_trainer *t, const light_batch *batch)
{
    const learning_rate_monitor *m = (const learning_rate_monitor *)self;
    (void)batch;
    if (!strcmp(m->options.logging_interval, "step")) log_all(m, t, true);
}

static void on_train_epoch_start(light_callback *self, light_trainer *t)
{
    const learning_rate_monitor *m = (const learning_rate_monitor *)self;
    if (!strcmp(m->options.logging_interval, "epoch")) log_all(m, t, false);
}

const light_callback_vtable light_learning_rate_monitor_vtable = {
    LIGHT_CALLBACK(learning_rate_monitor),
    .options = options,
    .on_train_batch_start = on_train_batch_start,
    .on_train_epoch_start = on_train_epoch_start,
};

light_callback *light_learning_rate_monitor_with(const light_learning_rate_monitor_options *given)
{
    light_callback *callback = light_callback_new(&light_learning_rate_monitor_vtable);
    if (callback) light_options_merge(options, callback, given, offsetof(learning_rate_monitor, options));
    return callback;
}
