/* SPDX-License-Identifier: Apache-2.0 */
/* The callbacks that ship: when EarlyStopping stops, what ModelCheckpoint keeps and survives, what the others say. */
#include "trainer/lab.h"

#include "callbacks/builtin.h"

#include <light/checkpoint.h>

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* ---- a module whose losses are written down ----------------------------- */

static const double *script; /* val_loss of each validation */
static int validations;

static void log_script(light_module *self, light_trainer *t)
{
    (void)self;
    light_log_value(t, "val_loss", script[validations], .prog_bar = true);
    if (!light_trainer_sanity_checking(t)) validations++;
}

static light_tensor *quiet_training_step(light_module *self, light_step *s, const light_batch *batch)
{
    return boring_loss(self, s, batch);
}

static void quiet_validation_step(light_module *self, light_step *s, const light_batch *batch)
{
    boring_loss(self, s, batch);
}

static const light_module_vtable scripted_vtable = {
    LIGHT_MODULE(boring),
    .init = boring_init,
    .forward = boring_forward,
    .training_step = quiet_training_step,
    .validation_step = quiet_validation_step,
    .configure_optimizers = boring_optimizers,
    .on_validation_epoch_end = log_script,
};

static lab scripted(light_trainer_options options, const double *losses)
{
    script = losses;
    validations = 0;
    if (!options.default_root_dir) options.default_root_dir = folder;
    if (!options.enable_checkpointing) options.enable_checkpointing = LIGHT_OFF;
    if (!options.limit_train_batches) options.limit_train_batches = "2";
    options.limit_val_batches = "2";
    return lab_new(&scripted_vtable, light_trainer_new_with(&options));
}

/* ---- EarlyStopping ------------------------------------------------------ */

static void check_stop(light_early_stopping_options options, const double *losses, int last_epoch,
                       const char *reason)
{
    options.monitor = "val_loss";
    lab l = scripted(
        (light_trainer_options){.max_epochs = 12, .callbacks = {light_early_stopping_with(&options)}},
        losses);
    assert_ok(lab_fit(&l));
    assert_int_equal(light_trainer_current_epoch(l.trainer) - 1, last_epoch);
    if (!strstr(light_trainer_stop_reason(l.trainer), reason))
        fail_msg("\"%s\" is not in \"%s\"", reason, light_trainer_stop_reason(l.trainer));
    lab_free(&l);
}

#define LOSSES(...)                                                                                          \
    (const double[16])                                                                                       \
    {                                                                                                        \
        __VA_ARGS__                                                                                          \
    }

static void patience_counts_checks_without_improvement(void **state)
{
    (void)state;
    check_stop((light_early_stopping_options){.patience = 3}, LOSSES(6, 5, 5, 5, 5, 5), 4,
               "not improved in 3");
    check_stop((light_early_stopping_options){.patience = 1}, LOSSES(6, 5, 4, 4, 3, 3), 3,
               "not improved in 1");
    check_stop((light_early_stopping_options){.patience = 3}, LOSSES(6, 5, 6, 5, 5, 5), 4, "best 5");
    check_stop((light_early_stopping_options){.patience = 1, .mode = "max"}, LOSSES(1, 2, 3, 3), 3, "best 3");
    check_stop((light_early_stopping_options){.patience = 2, .min_delta = 0.5},
               LOSSES(6, 5, 4.6, 4.4, 4.3, 4), 5, "best 4.4");
    check_stop((light_early_stopping_options){.patience = LIGHT_ZERO_COUNT}, LOSSES(6, 5, 7, 1), 2, "best 5");
}

static void thresholds_and_non_finite_values_stop(void **state)
{
    (void)state;
    check_stop((light_early_stopping_options){0}, LOSSES(8, 4, 2, 3, 4, 5, 8, 10), 5, "not improved");
    check_stop((light_early_stopping_options){.stopping_threshold = "2.9"},
               LOSSES(9, 8, 7, 6, 5, 6, 4, 3, 2, 1), 8, "stopping threshold");
    check_stop((light_early_stopping_options){.divergence_threshold = "15.9"}, LOSSES(9, 4, 2, 16, 32, 64), 3,
               "divergence threshold");
    check_stop((light_early_stopping_options){0}, LOSSES(4, 3, INFINITY, 2), 2, "inf");
    check_stop((light_early_stopping_options){0}, LOSSES(4, 3, NAN, 2), 2, "nan");
    check_stop((light_early_stopping_options){.check_finite = LIGHT_OFF, .patience = 2},
               LOSSES(4, 3, NAN, NAN, 2), 3, "not improved");
}

static void stopping_waits_for_min_epochs_and_says_so_once(void **state)
{
    (void)state;
    lab l = scripted(
        (light_trainer_options){.max_epochs = 10,
                                .min_epochs = 5,
                                .callbacks = {light_early_stopping(.monitor = "val_loss", .patience = 1)}},
        LOSSES(5, 5, 5, 5, 5, 5, 5, 5, 5, 5));
    lab_listen(LIGHT_MESSAGE_INFO);
    assert_ok(lab_fit(&l));
    lab_stop_listening();
    assert_int_equal(light_trainer_global_step(l.trainer), 10);
    assert_int_equal(light_trainer_current_epoch(l.trainer), 5);
    assert_int_equal(occurrences(lab_messages, "training goes on until min_epochs 5"), 1);
    lab_free(&l);
}

static void a_stop_that_was_held_off_is_remembered(void **state)
{
    light_trainer_options o = {.max_epochs = 9, .min_epochs = 5};
    (void)state;
    o.callbacks[0] = light_early_stopping(.monitor = "val_loss", .patience = 1);
    o.callbacks[1] =
        light_model_checkpoint(.monitor = "", .save_top_k = -1, .dirpath = at("held"), .filename = "{epoch}");
    lab l = scripted(o, LOSSES(5, 5, 4, 3, 2, 1));
    assert_ok(lab_fit(&l));
    assert_int_equal(light_trainer_current_epoch(l.trainer), 5);
    lab_free(&l);
    o.callbacks[0] = light_early_stopping(.monitor = "val_loss", .patience = 1);
    o.callbacks[1] = NULL;
    l = scripted(o, LOSSES(3, 2, 1, 0));
    assert_ok(lab_fit(&l, .ckpt_path = at("held/epoch=2")));
    assert_int_equal(light_trainer_current_epoch(l.trainer), 5);
    assert_non_null(strstr(light_trainer_stop_reason(l.trainer), "not improved"));
    lab_free(&l);
    /* A stop that has ended the run is not asked for again. */
    o.callbacks[0] = light_early_stopping(.monitor = "val_loss", .patience = 1);
    l = scripted(o, LOSSES(1, 0, -1, -2));
    assert_ok(lab_fit(&l, .ckpt_path = at("held/epoch=4")));
    assert_int_equal(light_trainer_current_epoch(l.trainer), 9);
    lab_free(&l);
}

static void a_metric_that_is_missing_is_an_error_unless_lenient(void **state)
{
    (void)state;
    lab l = scripted(
        (light_trainer_options){.max_epochs = 2, .callbacks = {light_early_stopping(.monitor = "loss_val")}},
        LOSSES(1, 2, 3));
    assert_fails(lab_fit(&l), LIGHT_ERR_NOT_FOUND, "early stopping", "\"loss_val\"",
                 "has not been logged; logged: ", "val_loss");
    lab_free(&l);
    l = scripted(
        (light_trainer_options){
            .max_epochs = 2, .callbacks = {light_early_stopping(.monitor = "loss_val", .strict = LIGHT_OFF)}},
        LOSSES(1, 2, 3));
    assert_ok(lab_fit(&l));
    lab_free(&l);
    l = scripted((light_trainer_options){.max_epochs = 2, .callbacks = {light_early_stopping(.patience = 2)}},
                 LOSSES(1, 2, 3));
    assert_fails(lab_fit(&l), LIGHT_ERR_ARGUMENT, "early_stopping", "monitor is not set");
    lab_free(&l);
}

static light_tensor *constant_training_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_log_value(light_step_trainer(s), "constant", 1, .on_step = LIGHT_OFF, .on_epoch = true);
    return boring_loss(self, s, batch);
}

static void without_validation_it_looks_at_the_end_of_epochs(void **state)
{
    static const light_module_vtable vtable = {
        LIGHT_MODULE(boring), .init = boring_init, .forward = boring_forward,
        .training_step = constant_training_step, .configure_optimizers = boring_optimizers};
    (void)state;
    lab l =
        lab_new(&vtable,
                light_trainer_new(.default_root_dir = folder, .max_epochs = 9, .limit_train_batches = "2",
                                  .enable_checkpointing = LIGHT_OFF,
                                  .callbacks = {light_early_stopping(.monitor = "constant", .patience = 2)}));
    assert_ok(lab_fit(&l));
    assert_int_equal(light_trainer_current_epoch(l.trainer), 3);
    lab_free(&l);
}

/* ---- ModelCheckpoint: which are kept ------------------------------------ */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in a folder, sorted, with a blank behind each; a link as "last>epoch=1". */
static const char *names_in(const char *path)
{
    static char text[1024];
    char *names[64], target[256];
    int n = 0;
    DIR *dir = opendir(path);
    text[0] = '\0';
    if (!dir) return text;
    for (struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] == '.') continue;
        char full[800];
        snprintf(full, sizeof full, "%s/%s", path, e->d_name);
        ssize_t length = readlink(full, target, sizeof target - 1);
        if (length > 0) target[length] = '\0';
        assert_true(n < 64);
        names[n] = malloc(600);
        snprintf(names[n++], 600, "%s%s%s", e->d_name, length > 0 ? ">" : "", length > 0 ? target : "");
    }
    closedir(dir);
    qsort(names, (size_t)n, sizeof *names, by_name);
    for (int i = 0; i < n; i++) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s ", names[i]);
        free(names[i]);
    }
    return text;
}

static const char *kept_by(light_model_checkpoint_options options, int64_t epochs, const double *losses)
{
    if (!options.filename) options.filename = "{epoch}";
    options.dirpath = at("kept");
    assert_ok(light_remove_tree(options.dirpath));
    lab l = scripted(
        (light_trainer_options){.max_epochs = epochs, .callbacks = {light_model_checkpoint_with(&options)}},
        losses);
    assert_ok(lab_fit(&l));
    lab_free(&l);
    return names_in(options.dirpath);
}

static void the_best_k_are_kept(void **state)
{
    const double *losses = LOSSES(10, 9, 2.8, 5, 2.5);
    light_model_checkpoint_options o = {.monitor = "val_loss", .save_last = LIGHT_OFF};
    (void)state;
    o.save_top_k = 1;
    assert_string_equal(kept_by(o, 5, losses), "best>epoch=4 epoch=4 ");
    o.save_top_k = 2;
    assert_string_equal(kept_by(o, 5, losses), "best>epoch=4 epoch=2 epoch=4 ");
    o.save_top_k = 3;
    assert_string_equal(kept_by(o, 5, losses), "best>epoch=4 epoch=2 epoch=3 epoch=4 ");
    o.save_top_k = 4;
    assert_string_equal(kept_by(o, 5, losses), "best>epoch=4 epoch=1 epoch=2 epoch=3 epoch=4 ");
    o.save_top_k = -1;
    assert_string_equal(kept_by(o, 5, losses), "best>epoch=4 epoch=0 epoch=1 epoch=2 epoch=3 epoch=4 ");
    o.mode = "max";
    o.save_top_k = 2;
    assert_string_equal(kept_by(o, 5, losses), "best>epoch=0 epoch=0 epoch=1 ");
}

static void the_newest_is_kept_too(void **state)
{
    light_model_checkpoint_options o = {.monitor = "val_loss"};
    (void)state;
    assert_string_equal(kept_by(o, 5, LOSSES(10, 9, 2.8, 5, 2.5)), "best>epoch=4 epoch=4 last>epoch=4 ");
    assert_string_equal(kept_by(o, 4, LOSSES(10, 9, 2.8, 5)), "best>epoch=2 epoch=2 epoch=3 last>epoch=3 ");
    o.save_top_k = LIGHT_ZERO_COUNT;
    assert_string_equal(kept_by(o, 4, LOSSES(10, 9, 2.8, 5)), "epoch=3 last>epoch=3 ");
    o.save_last = LIGHT_OFF;
    assert_string_equal(kept_by(o, 4, LOSSES(10, 9, 2.8, 5)), "");
    /* Without a metric the newest is the best. */
    o = (light_model_checkpoint_options){.monitor = "", .save_top_k = 2, .save_last = LIGHT_OFF};
    assert_string_equal(kept_by(o, 4, LOSSES(10, 9, 2.8, 5)), "best>epoch=3 epoch=2 epoch=3 ");
}

static void nan_is_worse_than_any_number(void **state)
{
    light_model_checkpoint_options o = {.monitor = "val_loss", .save_last = LIGHT_OFF};
    (void)state;
    assert_string_equal(kept_by(o, 3, LOSSES(NAN, 5, 9)), "best>epoch=1 epoch=1 ");
    assert_string_equal(kept_by(o, 3, LOSSES(5, NAN, 9)), "best>epoch=0 epoch=0 ");
    o.mode = "max";
    assert_string_equal(kept_by(o, 2, LOSSES(NAN, -5)), "best>epoch=1 epoch=1 ");
}

static void names_hold_metrics(void **state)
{
    light_model_checkpoint_options o = {.filename = "a-{epoch}-{val_loss:.2f}-{step}", .monitor = "val_loss"};
    (void)state;
    assert_string_equal(kept_by(o, 1, LOSSES(2.5)), "a-epoch=0-val_loss=2.50-step=2 "
                                                    "best>a-epoch=0-val_loss=2.50-step=2 "
                                                    "last>a-epoch=0-val_loss=2.50-step=2 ");
}

static void names_that_are_taken_get_a_number(void **state)
{
    (void)state;
    const light_model_checkpoint_options o = {
        .filename = "model", .monitor = "", .dirpath = at("same"), .save_top_k = -1};
    for (int run = 0; run < 2; run++) {
        lab l =
            scripted((light_trainer_options){.max_epochs = 1, .callbacks = {light_model_checkpoint_with(&o)}},
                     LOSSES(1, 1));
        assert_ok(lab_fit(&l));
        lab_free(&l);
    }
    assert_string_equal(names_in(at("same")), "best>model-v1 last>model-v1 model model-v1 ");
}

static void every_nth_epoch_or_step_is_saved(void **state)
{
    light_model_checkpoint_options o = {
        .monitor = "", .save_top_k = -1, .save_last = LIGHT_OFF, .every_n_epochs = 2};
    const double *losses = LOSSES(5, 4, 3, 2, 1, 1);
    (void)state;
    assert_string_equal(kept_by(o, 5, losses), "best>epoch=3 epoch=1 epoch=3 ");
    o.every_n_epochs = 0;
    o.every_n_train_steps = 3;
    o.filename = "{step}";
    assert_string_equal(kept_by(o, 5, losses), "best>step=9 step=3 step=6 step=9 ");
    /* A metric that comes with the validation after the batch is waited for. */
    o.every_n_train_steps = 2;
    o.monitor = "val_loss";
    o.save_top_k = 1;
    o.filename = "{step}-{val_loss:.0f}";
    assert_string_equal(kept_by(o, 4, LOSSES(9, 7, 8, 6)), "best>step=8-val_loss=6 step=8-val_loss=6 ");
    o.every_n_epochs = 1;
    lab l = scripted((light_trainer_options){.callbacks = {light_model_checkpoint_with(&o)}}, losses);
    assert_fails(lab_fit(&l), LIGHT_ERR_ARGUMENT, "model_checkpoint", "exclude each other");
    lab_free(&l);
}

/* "every_n_train_steps" with validation once an epoch: the first save waits for the first value. */
static void a_metric_that_is_not_there_yet_defers_the_save(void **state)
{
    (void)state;
    const light_model_checkpoint_options o = {.monitor = "val_loss",
                                              .save_top_k = -1,
                                              .dirpath = at("deferred"),
                                              .every_n_train_steps = 1,
                                              .filename = "{step}",
                                              .save_last = LIGHT_OFF};
    lab l = scripted((light_trainer_options){.max_epochs = 2,
                                             .limit_train_batches = "3",
                                             .callbacks = {light_model_checkpoint_with(&o)}},
                     LOSSES(3, 2, 1));
    assert_ok(lab_fit(&l));
    lab_free(&l);
    assert_string_equal(names_in(at("deferred")), "best>step=6 step=3 step=4 step=5 step=6 ");
}

static void saves_follow_validations(void **state)
{
    static const struct {
        int64_t k, epochs;
        const char *interval;
        int saves;
    } rows[] = {{1, 1, "1.0", 1}, {2, 2, "1.0", 2}, {2, 1, "0.25", 4}, {2, 2, "0.3", 6}};
    const double *falling = LOSSES(16, 15, 14, 13, 12, 11, 10, 9, 8, 7);
    (void)state;
    for (int i = 0; i < 4; i++) {
        light_callback *checkpoints =
            light_model_checkpoint(.monitor = "val_loss", .save_top_k = rows[i].k, .verbose = true);
        lab l = scripted((light_trainer_options){.max_epochs = rows[i].epochs,
                                                 .limit_train_batches = "1.0",
                                                 .val_check_interval = rows[i].interval,
                                                 .callbacks = {checkpoints}},
                         falling);
        lab_listen(LIGHT_MESSAGE_INFO);
        assert_ok(lab_fit(&l));
        lab_stop_listening();
        /* The newest state is written once more where training goes on behind the last validation. */
        int extra = !strcmp(rows[i].interval, "0.3");
        assert_int_equal(occurrences(lab_messages, "checkpoint written"), rows[i].saves + extra);
        lab_free(&l);
    }
}

static void a_missing_metric_is_an_error_only_once_it_should_be_there(void **state)
{
    (void)state;
    lab l = scripted(
        (light_trainer_options){.max_epochs = 2, .callbacks = {light_model_checkpoint(.monitor = "val_acc")}},
        LOSSES(1, 2, 3));
    assert_fails(lab_fit(&l), LIGHT_ERR_NOT_FOUND, "model_checkpoint", "\"val_acc\"");
    lab_free(&l);
    /* max_steps before the first validation: nothing is lost. */
    lab_listen(LIGHT_MESSAGE_WARNING);
    l = scripted((light_trainer_options){.max_steps = 1,
                                         .num_sanity_val_steps = LIGHT_ZERO_COUNT,
                                         .callbacks = {light_model_checkpoint(.monitor = "val_loss",
                                                                              .dirpath = at("early"))}},
                 LOSSES(1, 2, 3));
    assert_ok(lab_fit(&l));
    lab_stop_listening();
    assert_int_equal(occurrences(lab_messages, "warning: "), 1);
    assert_string_equal(names_in(at("early")), "epoch=0-step=1 last>epoch=0-step=1 ");
    lab_free(&l);
}

/* The error comes when the metric is first needed, and costs nothing: the run goes on under the right name, to the bits of
 * one that had it from the beginning. */
static void a_wrong_monitor_loses_no_work(void **state)
{
    float whole[LAB_WEIGHTS], resumed[LAB_WEIGHTS];
    (void)state;
    for (int stopping = 0; stopping < 2; stopping++) {
        const char *dir = at("wrong-%d", stopping), *monitor = "val_los";
        for (int run = 0; run < 3; run++) { /* whole, wrong, resumed */
            bool wrong = run == 1;
            light_trainer_options o = {.max_epochs = 3};
            o.callbacks[0] = light_model_checkpoint(.dirpath = run ? dir : at("whole-%d", stopping),
                                                    .monitor = wrong && !stopping ? monitor : "val_loss");
            if (stopping)
                o.callbacks[1] = light_early_stopping(.monitor = wrong ? monitor : "val_loss", .patience = 9);
            lab l = scripted(o, LOSSES(3, 2, 1));
            if (run == 2) validations = 1; /* the first epoch's has been */
            if (wrong)
                assert_fails(lab_fit(&l), LIGHT_ERR_NOT_FOUND, "\"val_los\"",
                             stopping ? "--early_stopping.monitor" : "--model_checkpoint.monitor",
                             "logged: val_loss");
            else
                assert_ok(lab_fit(&l, .ckpt_path = run ? at("wrong-%d/last", stopping) : NULL));
            assert_int_equal(light_trainer_global_step(l.trainer), wrong ? 2 : 6);
            if (wrong) /* after the validation that was waited for, or the end of the epoch */
                assert_string_equal(names_in(dir), stopping ? "epoch=0-step=2 last>epoch=0-step=2 "
                                                            : "epoch=1-step=2 last>epoch=1-step=2 ");
            if (!wrong) lab_read_weights(l.module, run ? resumed : whole);
            lab_free(&l);
        }
        assert_memory_equal(whole, resumed, sizeof whole);
    }
}

static void the_file_that_a_run_goes_on_from_stays(void **state)
{
    light_model_checkpoint_options o = {
        .monitor = "val_loss", .filename = "{epoch}", .dirpath = at("resumed"), .save_last = LIGHT_OFF};
    (void)state;
    lab l = scripted((light_trainer_options){.max_epochs = 1, .callbacks = {light_model_checkpoint_with(&o)}},
                     LOSSES(5));
    assert_ok(lab_fit(&l));
    lab_free(&l);
    /* Through a link, so that its path is another one than the callback's. */
    assert_int_equal(symlink(at("resumed/epoch=0"), at("link")), 0);
    l = scripted((light_trainer_options){.max_epochs = 3, .callbacks = {light_model_checkpoint_with(&o)}},
                 LOSSES(4, 3, 2));
    assert_ok(lab_fit(&l, .ckpt_path = at("link")));
    assert_string_equal(names_in(at("resumed")), "best>epoch=2 epoch=0 epoch=2 ");
    lab_free(&l);
    /* What it knows of older ones goes on: the better one of the first run keeps its place. */
    assert_ok(light_remove_tree(at("resumed")));
    l = scripted((light_trainer_options){.max_epochs = 2, .callbacks = {light_model_checkpoint_with(&o)}},
                 LOSSES(5, 1));
    assert_ok(lab_fit(&l));
    lab_free(&l);
    l = scripted((light_trainer_options){.max_epochs = 2, .callbacks = {light_model_checkpoint_with(&o)}},
                 LOSSES(4, 3, 2));
    assert_ok(lab_fit(&l, .ckpt_path = at("resumed/epoch=1"))); /* which has nothing left to do */
    const light_callback *callback = light_trainer_get_options(l.trainer)->callbacks[0];
    assert_non_null(strstr(light_model_checkpoint_best_path(callback), "resumed/epoch=1"));
    lab_free(&l);
    l = scripted((light_trainer_options){.max_epochs = 4, .callbacks = {light_model_checkpoint_with(&o)}},
                 LOSSES(4, 3, 2));
    assert_ok(lab_fit(&l, .ckpt_path = at("resumed/epoch=1")));
    assert_string_equal(names_in(at("resumed")), "best>epoch=1 epoch=1 ");
    lab_free(&l);
}

/* ---- ModelCheckpoint: disks that fail ----------------------------------- */

typedef struct breaker {
    light_callback base;
    int64_t nth;    /* call that fails, from the second epoch's end on */
    bool disk_full; /* from then on nothing fits */
} breaker;

static void wait_for(const char *path)
{
    for (int i = 0; i < 5000 && !light_directory_exists(path); i++) usleep(1000);
    assert_true(light_directory_exists(path));
}

static void break_disk(light_callback *self, light_trainer *t)
{
    breaker *b = (breaker *)self;
    if (light_trainer_current_epoch(t) != 1) return;
    if (b->nth) light_file_fail_nth(b->nth, ENOSPC);
    if (b->disk_full) {
        struct rlimit limit;
        wait_for(at("full/epoch=0")); /* which is written in the background */
        getrlimit(RLIMIT_FSIZE, &limit);
        limit.rlim_cur = 512;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    }
}

static const light_callback_vtable breaker_vtable = {LIGHT_CALLBACK(breaker), .watches_metrics = true,
                                                     .on_train_epoch_end = break_disk};

static void open_and_close(const char *path, int64_t step)
{
    light_checkpoint *checkpoint;
    assert_ok(light_checkpoint_open(path, &checkpoint));
    assert_int_equal(light_checkpoint_step(checkpoint), step);
    light_checkpoint_close(checkpoint);
}

static void a_save_that_fails_costs_a_warning(void **state)
{
    int64_t n = 1;
    (void)state;
    for (bool failed = true; failed; n++) {
        breaker b = {.base.vtable = &breaker_vtable, .nth = n};
        assert_ok(light_remove_tree(at("runs")));
        light_callback *checkpoints =
            light_model_checkpoint(.monitor = "val_loss", .dirpath = at("runs"), .filename = "{epoch}");
        lab l = scripted((light_trainer_options){.max_epochs = 3, .callbacks = {&b.base, checkpoints}},
                         LOSSES(3, 2, 4));
        lab_listen(LIGHT_MESSAGE_WARNING);
        assert_ok(lab_fit(&l));
        lab_stop_listening();
        light_file_fail_nth(0, 0);
        assert_int_equal(light_trainer_global_step(l.trainer), 6);
        failed = occurrences(lab_messages, "warning: ") > 0;
        open_and_close(at("runs/last"), 6);
        light_checkpoint *best;
        assert_ok(light_checkpoint_open(at("runs/best"), &best));
        light_checkpoint_close(best);
        assert_null(strstr(names_in(at("runs")), "tmp"));
        lab_free(&l);
    }
    assert_true(n > 5);
}

static void a_disk_that_stays_full_leaves_the_old_checkpoint(void **state)
{
    breaker b = {.base.vtable = &breaker_vtable, .disk_full = true};
    struct rlimit before;
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    light_callback *checkpoints =
        light_model_checkpoint(.monitor = "val_loss", .dirpath = at("full"), .filename = "{epoch}");
    lab l = scripted((light_trainer_options){.max_epochs = 4, .callbacks = {&b.base, checkpoints}},
                     LOSSES(3, 2, 1, 0));
    lab_listen(LIGHT_MESSAGE_WARNING);
    light_status status = lab_fit(&l);
    setrlimit(RLIMIT_FSIZE, &before);
    lab_stop_listening();
    /* All of it is trained, but whoever reads the status learns that the newest state is not on disk. */
    assert_fails(status, LIGHT_ERR_IO, "training is done, but its last checkpoint could not be written",
                 "full/");
    assert_int_equal(light_trainer_global_step(l.trainer), 8);
    assert_true(occurrences(lab_messages, "was not written") >= 3);
    assert_true(occurrences(lab_messages, "training goes on") >= 3);
    assert_string_equal(names_in(at("full")), "best>epoch=0 epoch=0 last>epoch=0 ");
    assert_non_null(strstr(light_model_checkpoint_best_path(checkpoints), "epoch=0"));
    open_and_close(at("full/best"), 2);
    lab_free(&l);
}

static void close_folder(light_callback *self, light_trainer *t)
{
    (void)self;
    if (light_trainer_current_epoch(t) != 1) return;
    wait_for(at("closed/epoch=0"));
    chmod(at("closed"), 0555);
}

static void a_folder_that_becomes_read_only_leaves_the_old_checkpoint(void **state)
{
    static const light_callback_vtable closer = {LIGHT_CALLBACK(breaker), .watches_metrics = true,
                                                 .on_train_epoch_end = close_folder};
    breaker b = {.base.vtable = &closer};
    (void)state;
    if (geteuid() == 0) skip(); /* who may write everywhere */
    light_callback *checkpoints =
        light_model_checkpoint(.monitor = "val_loss", .dirpath = at("closed"), .filename = "{epoch}");
    lab l = scripted((light_trainer_options){.max_epochs = 3, .callbacks = {&b.base, checkpoints}},
                     LOSSES(3, 2, 1));
    lab_listen(LIGHT_MESSAGE_WARNING);
    light_status status = lab_fit(&l);
    chmod(at("closed"), 0755);
    lab_stop_listening();
    assert_fails(status, LIGHT_ERR_IO, "training is done, but its last checkpoint could not be written");
    assert_true(occurrences(lab_messages, "was not written") >= 2);
    open_and_close(at("closed/epoch=0"), 2);
    assert_null(strstr(names_in(at("closed")), "epoch=1"));
    lab_free(&l);
}

/* ---- the others --------------------------------------------------------- */

static bool is_bias(const light_parameter *p, void *user)
{
    (void)user;
    return !strcmp(p->name, "bias");
}

static bool is_weight(const light_parameter *p, void *user)
{
    (void)user;
    return !strcmp(p->name, "weight");
}

static light_status grouped_optimizers(light_module *self, light_optimizers *out)
{
    light_optimizer *sgd =
        light_sgd(light_parameters_where(self, is_weight, NULL), .lr = 0.1, .momentum = 0.9);
    light_status status = sgd ? light_optimizer_add_group(sgd, light_parameters_where(self, is_bias, NULL),
                                                          .lr = 0.01, .weight_decay = 0.25)
                              : LIGHT_ERR_ARGUMENT;
    light_schedule *schedule = light_exponential_schedule(.gamma = 0.5);
    LIGHT_TRY(light_optimizers_add(out, sgd, schedule));
    return status;
}

static void learning_rates_are_logged_by_optimizer_and_group(void **state)
{
    static const light_module_vtable vtable = {
        LIGHT_MODULE(boring), .init = boring_init, .forward = boring_forward,
        .training_step = quiet_training_step, .configure_optimizers = grouped_optimizers};
    char path[600];
    (void)state;
    lab l = lab_new(&vtable,
                    light_trainer_new(.default_root_dir = folder, .max_epochs = 2, .limit_train_batches = "1",
                                      .log_every_n_steps = 1, .enable_checkpointing = LIGHT_OFF,
                                      .callbacks = {light_learning_rate_monitor(.log_momentum = true,
                                                                                .log_weight_decay = true)}));
    assert_ok(lab_fit(&l));
    snprintf(path, sizeof path, "%s/metrics.csv", light_trainer_log_dir(l.trainer));
    char *csv = read_text(path);
    assert_string_equal(csv, "step,lr-sgd,lr-sgd-momentum,lr-sgd-weight_decay,lr-sgd/pg1,lr-sgd/pg1-momentum,"
                             "lr-sgd/pg1-weight_decay,epoch\n"
                             "0,0.1,0.9,0,0.01,0.9,0.25,0\n"
                             "1,0.05,0.9,0,0.005,0.9,0.25,1\n");
    light_free(csv);
    lab_free(&l);
}

static void summary_and_progress_are_lines(void **state)
{
    (void)state;
    lab l = scripted((light_trainer_options){.max_epochs = 2}, LOSSES(0.5, 0.25));
    lab_listen(LIGHT_MESSAGE_INFO);
    assert_ok(lab_fit(&l));
    lab_stop_listening();
    assert_int_equal(occurrences(lab_messages, "66 parameters, 66 of them trainable"), 1);
    assert_int_equal(occurrences(lab_messages, "layer "), 1);
    assert_int_equal(occurrences(lab_messages, "epoch 0/1  2 batches in "), 1);
    assert_int_equal(occurrences(lab_messages, "epoch 1/1  2 batches in "), 1);
    assert_int_equal(occurrences(lab_messages, "val_loss 0.25"), 1);
    lab_free(&l);
    l = scripted((light_trainer_options){.max_epochs = 1,
                                         .enable_progress_bar = LIGHT_OFF,
                                         .enable_model_summary = LIGHT_OFF},
                 LOSSES(0.5));
    lab_listen(LIGHT_MESSAGE_INFO);
    assert_ok(lab_fit(&l));
    lab_stop_listening();
    assert_string_equal(lab_messages, "");
    lab_free(&l);
}

/* Every tag is closed in order; returns how many there were. */
static int check_xml(const char *text)
{
    char open[32][32];
    int depth = 0, tags = 0;
    for (const char *p = strchr(text, '<'); p; p = strchr(p + 1, '<')) {
        const char *end = strchr(p, '>');
        assert_non_null(end);
        if (p[1] == '?' || p[1] == '!') continue;
        size_t length = strcspn(p + 1, " />\n");
        if (p[1] == '/') {
            length = strcspn(p + 2, " >");
            assert_true(depth > 0);
            depth--;
            assert_int_equal(strlen(open[depth]), length);
            assert_memory_equal(open[depth], p + 2, length);
        } else if (end[-1] != '/') {
            assert_true(depth < 32 && length < 32);
            snprintf(open[depth++], 32, "%.*s", (int)length, p + 1);
        }
        tags++;
    }
    assert_int_equal(depth, 0);
    assert_null(strstr(text, "nan"));
    assert_null(strstr(text, "inf"));
    return tags;
}

static void the_learning_curve_is_a_picture(void **state)
{
    char path[600];
    (void)state;
    lab l = lab_new(&boring_vtable,
                    light_trainer_new(.default_root_dir = folder, .max_epochs = 3, .log_every_n_steps = 4,
                                      .limit_val_batches = "3", .enable_checkpointing = LIGHT_OFF));
    assert_ok(lab_fit(&l));
    snprintf(path, sizeof path, "%s/learning_curve.svg", light_trainer_log_dir(l.trainer));
    char *svg = read_text(path);
    assert_true(light_file_exists(path));
    assert_true(check_xml(svg) > 20);
    assert_int_equal(occurrences(svg, "<polyline"), 2); /* train_loss and val_loss, in one panel */
    assert_int_equal(occurrences(svg, ">loss</text>"), 1);
    light_free(svg);
    lab_free(&l);
}

static void predictions_are_rows(void **state)
{
    (void)state;
    light_callback *writer = light_callback_new(&light_prediction_writer_vtable);
    const light_option *path = light_option_find(light_prediction_writer_vtable.options, "path");
    assert_ok(light_option_set(path, writer, at("predictions.csv"), "path"));
    lab l = lab_new(&boring_vtable, light_trainer_new(.default_root_dir = folder,
                                                      .limit_predict_batches = "3", .callbacks = {writer}));
    l.data->batch_size = 4;
    assert_ok(lab_predict(&l));
    char *text = read_text(at("predictions.csv"));
    assert_memory_equal(text, "index,prediction_0,prediction_1\n0,", 34);
    assert_int_equal(occurrences(text, "\n"), 13);
    assert_non_null(strstr(text, "\n11,"));
    light_free(text);
    lab_free(&l);
}

static void a_callback_is_given_once(void **state)
{
    (void)state;
    light_callback *callback = light_early_stopping(.monitor = "val_loss");
    assert_null(light_trainer_new(.callbacks = {callback, callback})); /* which frees it */
    assert_non_null(strstr(light_error_message(), "given twice"));
    /* Not in use, but freed. */
    light_trainer *trainer = light_trainer_new(.barebones = true, .loggers = {light_csv_logger()},
                                               .callbacks = {light_early_stopping(.monitor = "val_loss")});
    assert_non_null(trainer);
    light_trainer_free(trainer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        lab_test(patience_counts_checks_without_improvement),
        lab_test(thresholds_and_non_finite_values_stop),
        lab_test(stopping_waits_for_min_epochs_and_says_so_once),
        lab_test(a_stop_that_was_held_off_is_remembered),
        lab_test(a_metric_that_is_missing_is_an_error_unless_lenient),
        lab_test(without_validation_it_looks_at_the_end_of_epochs),
        lab_test(the_best_k_are_kept),
        lab_test(the_newest_is_kept_too),
        lab_test(nan_is_worse_than_any_number),
        lab_test(names_hold_metrics),
        lab_test(names_that_are_taken_get_a_number),
        lab_test(every_nth_epoch_or_step_is_saved),
        lab_test(a_metric_that_is_not_there_yet_defers_the_save),
        lab_test(saves_follow_validations),
        lab_test(a_missing_metric_is_an_error_only_once_it_should_be_there),
        lab_test(a_wrong_monitor_loses_no_work),
        lab_test(the_file_that_a_run_goes_on_from_stays),
        lab_test(a_save_that_fails_costs_a_warning),
        lab_test(a_disk_that_stays_full_leaves_the_old_checkpoint),
        lab_test(a_folder_that_becomes_read_only_leaves_the_old_checkpoint),
        lab_test(learning_rates_are_logged_by_optimizer_and_group),
        lab_test(summary_and_progress_are_lines),
        lab_test(the_learning_curve_is_a_picture),
        lab_test(predictions_are_rows),
        lab_test(a_callback_is_given_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
