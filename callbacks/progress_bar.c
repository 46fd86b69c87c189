/* SPDX-License-Identifier: Apache-2.0 */
/* The progress bar: one line that is redrawn on a terminal, a plain line an epoch elsewhere. */
#include "callbacks/builtin.h"

#include "base/log.h"
#include "base/string.h"
#include "base/time.h"

#include <light/trainer.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define REDRAW_SECONDS 0.05
#define BAR_WIDTH      16

typedef struct progress_bar {
    light_callback base;
    light_progress_bar_options options;
    bool live;
    double drawn_at, stage_began_at, epoch_began_at;
    int64_t samples;
} progress_bar;

static const light_option options[] = {
    LIGHT_OPTION_IN(progress_bar, options, refresh_rate, 1,
                    "batches between updates, at most 20 updates a second"),
    LIGHT_OPTIONS_END,
};

/* "train_loss 0.312  val_acc 0.91": what was logged with .prog_bar. */
static void append_metrics(light_string *line, light_trainer *t)
{
    light_metric metric;
    bool shown;
    for (int i = 0; light_trainer_metric_at(t, i, &metric, &shown); i++)
        if (shown) light_string_printf(line, "  %s %.4g", metric.name, metric.value);
}

static void append_time(light_string *line, double seconds)
{
    int s = (int)seconds;
    if (s >= 3600)
        light_string_printf(line, "%d:%02d:%02d", s / 3600, s / 60 % 60, s % 60);
    else
        light_string_printf(line, "%d:%02d", s / 60, s % 60);
}

/* "epoch 3/9": counted from 0, like the epochs of checkpoints and metrics. */
static void append_epoch(light_string *line, const light_trainer *t)
{
    light_string_printf(line, "epoch %lld", (long long)light_trainer_current_epoch(t));
    if (light_trainer_max_epochs(t) > 0)
        light_string_printf(line, "/%lld", (long long)light_trainer_max_epochs(t) - 1);
}

static const char *what_runs(const light_trainer *t)
{
    switch (light_trainer_stage(t)) {
    case LIGHT_STAGE_VALIDATE: return light_trainer_sanity_checking(t) ? "sanity check" : "validating";
    case LIGHT_STAGE_TEST: return "testing";
    case LIGHT_STAGE_PREDICT: return "predicting";
    default: return NULL;
    }
}

static void append_bar(light_string *line, int64_t done, int64_t total)
{
    if (total <= 0) {
        light_string_printf(line, " %lld", (long long)done);
        return;
    }
    int filled = (int)(BAR_WIDTH * done / total);
    light_string_printf(line, " %3d%% |", (int)(100 * done / total));
    for (int i = 0; i < BAR_WIDTH; i++) light_string_append(line, i < filled ? "█" : "·");
    light_string_printf(line, "| %lld/%lld", (long long)done, (long long)total);
}

static void draw(progress_bar *p, light_trainer *t, bool now)
{
    double time = light_now();
    int64_t done = light_trainer_batches_done(t), total = light_trainer_num_batches(t);
    if (!p->live || (!now && done != total && time - p->drawn_at < REDRAW_SECONDS)) return;
    light_string line = {0};
    const char *name = what_runs(t);
    if (name)
        light_string_append(&line, name);
    else
        append_epoch(&line, t);
    append_bar(&line, done, total);
    double elapsed = time - p->stage_began_at;
    light_string_append(&line, "  ");
    append_time(&line, elapsed);
    if (total > 0 && done > 0 && done < total) {
        light_string_append(&line, "<");
        append_time(&line, elapsed / (double)done * (double)(total - done));
    }
    append_metrics(&line, t);
    if (elapsed > 0) light_string_printf(&line, "  %.0f samples/s", (double)p->samples / elapsed);
    light_progress_line(light_string_text(&line), false);
    light_string_free(&line);
    p->drawn_at = time;
}

static void begin_stage(progress_bar *p)
{
    p->stage_began_at = light_now();
    p->samples = 0;
}

/* ---- moments ------------------------------------------------------------ */

static void on_start(light_callback *self, light_trainer *t)
{
    progress_bar *p = (progress_bar *)self;
    (void)t;
    p->live = light_progress_is_live();
    begin_stage(p);
}

/* A run that goes on in the middle of an epoch counts from here. */
static void on_fit_start(light_callback *self, light_trainer *t)
{
    progress_bar *p = (progress_bar *)self;
    on_start(self, t);
    p->epoch_began_at = p->stage_began_at;
}

static void on_epoch_start(light_callback *self, light_trainer *t)
{
    progress_bar *p = (progress_bar *)self;
    p->epoch_began_at = light_now();
    begin_stage(p);
    draw(p, t, true);
}

static void on_batch_end(light_callback *self, light_trainer *t, const light_batch *batch)
{
    progress_bar *p = (progress_bar *)self;
    p->samples += batch->size;
    if (!p->live) return;
    if (p->options.refresh_rate > 1 && light_trainer_batches_done(t) % p->options.refresh_rate) return;
    draw(p, t, false);
}

static void on_predict_batch_end(light_callback *self, light_trainer *t, const light_batch *batch,
                                 light_tensor *prediction)
{
    (void)prediction;
    on_batch_end(self, t, batch);
}

/* The epoch's last word: a line that stays. */
static void on_train_epoch_end(light_callback *self, light_trainer *t)
{
    progress_bar *p = (progress_bar *)self;
    light_string line = {0};
    append_epoch(&line, t);
    light_string_printf(&line, "  %lld batches in ", (long long)light_trainer_batches_done(t));
    append_time(&line, light_now() - p->epoch_began_at);
    append_metrics(&line, t);
    light_progress_line(light_string_text(&line), true);
    light_string_free(&line);
}

static void on_evaluation_end(light_callback *self, light_trainer *t)
{
    (void)self, (void)t;
    light_progress_line("", false);
}

static void on_exception(light_callback *self, light_trainer *t, light_status status)
{
    (void)self, (void)t, (void)status;
    light_progress_line("", false);
}

const light_callback_vtable light_progress_bar_vtable = {
    LIGHT_CALLBACK(progress_bar),
    .options = options,
    .watches_metrics = true, /* so that it shows what the module logs at the epoch's end */
    .on_fit_start = on_fit_start,
    .on_validation_start = on_start,
    .on_test_start = on_start,
    .on_predict_start = on_start,
    .on_train_epoch_start = on_epoch_start,
    .on_train_batch_end = on_batch_end,
    .on_validation_batch_end = on_batch_end,
    .on_test_batch_end = on_batch_end,
    .on_predict_batch_end = on_predict_batch_end,
    .on_train_epoch_end = on_train_epoch_end,
    .on_test_end = on_evaluation_end,
    .on_predict_end = on_evaluation_end,
    .on_exception = on_exception,
};

light_callback *light_progress_bar_with(const light_progress_bar_options *given)
{
    light_callback *callback = light_callback_new(&light_progress_bar_vtable);
    if (callback) light_options_merge(options, callback, given, offsetof(progress_bar, options));
    return callback;
}
