/* SPDX-License-Identifier: Apache-2.0 */
/* How long training runs, when it validates, what the limits mean, and how everything is counted. */
#include "trainer/lab.h"

#include "trainer/trainer.h"

/* ---- what is observed --------------------------------------------------- */

typedef struct observation {
    int batches, validation_batches, sanity_batches, test_batches, predict_batches, train_loaders;
    int first_indices[256];
    char validated_after[512]; /* "4 8 ": batches of training so far */
    int stop_at, skip_at, fail_in_step, fail_in_end;
} observation;

static observation seen;

static light_tensor *training_step(light_module *self, light_step *s, const light_batch *batch)
{
    if (seen.batches == seen.fail_in_step) return light_step_fail(s, LIGHT_ERR_USER, "enough");
    if (seen.batches < 256) seen.first_indices[seen.batches] = (int)batch->indices[0];
    seen.batches++;
    return boring_loss(self, s, batch);
}

static bool on_train_batch_start(light_module *self, light_trainer *t, const light_batch *batch)
{
    (void)self, (void)t;
    return batch->index != seen.skip_at;
}

static void on_train_batch_end(light_module *self, light_trainer *t, const light_batch *batch)
{
    (void)self, (void)batch;
    if (seen.batches - 1 == seen.stop_at) light_trainer_stop(t, "the test says so");
    if (seen.batches - 1 == seen.fail_in_end) light_trainer_fail(t, LIGHT_ERR_USER, "enough of it");
}

static void on_validation_start(light_module *self, light_trainer *t)
{
    (void)self;
    size_t used = strlen(seen.validated_after);
    assert_int_equal(light_trainer_stage(t), LIGHT_STAGE_VALIDATE);
    if (light_trainer_sanity_checking(t)) return;
    snprintf(seen.validated_after + used, sizeof seen.validated_after - used, "%d ", seen.batches);
}

static void validation_step(light_module *self, light_step *s, const light_batch *batch)
{
    boring_loss(self, s, batch);
    if (light_trainer_sanity_checking(light_step_trainer(s)))
        seen.sanity_batches++;
    else
        seen.validation_batches++;
}

static void test_step(light_module *self, light_step *s, const light_batch *batch)
{
    boring_loss(self, s, batch);
    seen.test_batches++;
}

static light_tensor *predict_step(light_module *self, light_step *s, const light_batch *batch)
{
    seen.predict_batches++;
    return light_forward(s, self, batch->fields[0]);
}

static const light_module_vtable observed_vtable = {
    LIGHT_MODULE(boring),
    .init = boring_init,
    .forward = boring_forward,
    .training_step = training_step,
    .validation_step = validation_step,
    .test_step = test_step,
    .predict_step = predict_step,
    .configure_optimizers = boring_optimizers,
    .on_train_batch_start = on_train_batch_start,
    .on_train_batch_end = on_train_batch_end,
    .on_validation_start = on_validation_start,
};

static light_loader *counted_train(light_datamodule *self)
{
    seen.train_loaders++;
    return lab_train(self);
}

static const light_datamodule_vtable counted_vtable = {
    LIGHT_DATAMODULE(lab_data), .options = lab_data_options,        .train_dataloader = counted_train,
    .val_dataloader = lab_val,  .test_dataloader = lab_test_loader, .predict_dataloader = lab_test_loader,
};

static lab observed(light_trainer_options options)
{
    seen = (observation){.stop_at = -1, .skip_at = -1, .fail_in_step = -1, .fail_in_end = -1};
    options.default_root_dir = folder;
    if (!options.enable_checkpointing) options.enable_checkpointing = LIGHT_OFF;
    return lab_new_with(&observed_vtable, &counted_vtable, light_trainer_new_with(&options));
}

/* ---- how long ----------------------------------------------------------- */

static void whichever_limit_comes_first_ends_training(void **state)
{
    static const struct {
        int64_t max_epochs, max_steps, steps, epochs;
    } rows[] = {{1, 0, 4, 1},
                {5, 10, 10, 3},
                {2, 100, 8, 2},
                {-1, 3, 3, 1},
                {3, -1, 12, 3},
                {LIGHT_ZERO_COUNT, 0, 0, 0},
                {5, LIGHT_ZERO_COUNT, 0, 0}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lab l = observed((light_trainer_options){.max_epochs = rows[i].max_epochs,
                                                 .max_steps = rows[i].max_steps,
                                                 .limit_train_batches = "4",
                                                 .limit_val_batches = "1"});
        assert_ok(lab_fit(&l));
        assert_int_equal(light_trainer_global_step(l.trainer), rows[i].steps);
        assert_int_equal(light_trainer_current_epoch(l.trainer), rows[i].epochs);
        assert_int_equal(seen.batches, rows[i].steps);
        lab_free(&l);
    }
    /* A limit of steps alone is the only one: 1000 epochs are no end to it. */
    lab l = observed((light_trainer_options){.max_steps = 1003,
                                             .limit_train_batches = "1",
                                             .limit_val_batches = "0",
                                             .enable_progress_bar = LIGHT_OFF,
                                             .logger = "none"});
    assert_int_equal(light_trainer_max_epochs(l.trainer), -1);
    assert_ok(lab_fit(&l));
    assert_int_equal(light_trainer_current_epoch(l.trainer), 1003);
    lab_free(&l);
    assert_null(light_trainer_new(.max_epochs = -2));
    assert_non_null(strstr(light_error_message(), "max_epochs"));
    assert_null(light_trainer_new(.max_steps = -2));
    assert_non_null(strstr(light_error_message(), "max_steps"));
}

static void minimums_hold_off_a_stop(void **state)
{
    static const struct {
        const char *batches;
        int64_t min_epochs, min_steps, steps;
    } rows[] = {{"5", 0, 0, 1},  {"3", 0, 10, 10}, {"5", 0, 12, 12}, {"5", 3, 10, 15},
                {"5", 2, 0, 10}, {"3", 3, 0, 9},   {"5", 1, 15, 15}, {"3", 5, 4, 15}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lab l = observed((light_trainer_options){.max_epochs = 20,
                                                 .min_epochs = rows[i].min_epochs,
                                                 .min_steps = rows[i].min_steps,
                                                 .limit_train_batches = rows[i].batches,
                                                 .limit_val_batches = "0"});
        seen.stop_at = 0;
        assert_ok(lab_fit(&l));
        if (light_trainer_global_step(l.trainer) != rows[i].steps)
            fail_msg("row %d: %d steps", (int)i, (int)light_trainer_global_step(l.trainer));
        assert_string_equal(light_trainer_stop_reason(l.trainer), "the test says so");
        lab_free(&l);
    }
}

static void a_stop_inside_an_epoch_validates_and_ends_it(void **state)
{
    (void)state;
    lab l = observed((light_trainer_options){.max_epochs = 20, .limit_val_batches = "1"});
    seen.stop_at = 4;
    assert_ok(lab_fit(&l));
    assert_int_equal(light_trainer_global_step(l.trainer), 5);
    assert_int_equal(light_trainer_current_epoch(l.trainer), 1);
    assert_string_equal(seen.validated_after, "5 ");
    lab_free(&l);
}

static void on_train_batch_start_may_skip_the_rest_of_the_epoch(void **state)
{
    (void)state;
    for (int b = 0; b <= 3; b++) {
        lab l = observed((light_trainer_options){.max_epochs = 2, .limit_val_batches = "0"});
        seen.skip_at = b;
        assert_ok(lab_fit(&l));
        assert_int_equal(light_trainer_global_step(l.trainer), b * 2);
        assert_int_equal(light_trainer_current_epoch(l.trainer), 2);
        lab_free(&l);
    }
}

static void time_that_has_passed_ends_training(void **state)
{
    (void)state;
    lab l = observed((light_trainer_options){.max_epochs = 3, .max_time = "00:00:00:00", .min_steps = 2});
    assert_ok(lab_fit(&l));
    assert_int_equal(light_trainer_global_step(l.trainer), 2);
    assert_string_equal(light_trainer_stop_reason(l.trainer), "max_time 00:00:00:00 has passed");
    lab_free(&l);
    l = observed((light_trainer_options){.max_epochs = 1, .max_time = "01:00:00:00"});
    assert_ok(lab_fit(&l));
    assert_int_equal(light_trainer_global_step(l.trainer), 64);
    lab_free(&l);
    assert_null(light_trainer_new(.max_time = "12 hours"));
    assert_non_null(strstr(light_error_message(), "DD:HH:MM:SS"));
}

/* ---- limits ------------------------------------------------------------- */

static void limits_are_batches_or_shares(void **state)
{
    static const struct {
        const char *limit;
        int batches;
    } rows[] = {{"100", 64},  {"7", 7},     {"1", 1}, {"1.0", 64},
                {"0.25", 16}, {"0.99", 63}, {"0", 0}, {"0.0", 0}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *limit = rows[i].limit;
        lab l = observed((light_trainer_options){.max_epochs = 1,
                                                 .limit_train_batches = limit,
                                                 .limit_val_batches = limit,
                                                 .limit_test_batches = limit,
                                                 .limit_predict_batches = limit});
        assert_ok(lab_fit(&l));
        assert_int_equal(seen.batches, rows[i].batches);
        assert_int_equal(seen.validation_batches, rows[i].batches);
        assert_int_equal(light_trainer_current_epoch(l.trainer), rows[i].batches > 0);
        assert_ok(lab_validate(&l, .quiet = true));
        assert_int_equal(seen.validation_batches, 2 * rows[i].batches);
        assert_ok(lab_run_test(&l, .quiet = true));
        assert_int_equal(seen.test_batches, rows[i].batches);
        assert_ok(lab_predict(&l));
        assert_int_equal(seen.predict_batches, rows[i].batches);
        lab_free(&l);
    }
}

static void limits_that_make_no_sense_are_errors(void **state)
{
    static const char *const texts[] = {"-3", "some", "1.5", "", "10x", "-0.5"};
    (void)state;
    for (size_t i = 1; i < sizeof texts / sizeof *texts; i++) {
        if (!texts[i][0]) continue; /* "" is the default */
        assert_null(light_trainer_new(.limit_train_batches = texts[i]));
        assert_non_null(strstr(light_error_message(), "trainer.limit_train_batches"));
        assert_non_null(strstr(light_error_message(), texts[i]));
    }
    lab l = observed((light_trainer_options){.limit_train_batches = "0.001"});
    assert_fails(lab_fit(&l), LIGHT_ERR_ARGUMENT, "limit_train_batches", "less than one batch");
    lab_free(&l);
    l = observed((light_trainer_options){.limit_train_batches = "0.5"});
    light_datamodule_free(&l.data->base);
    l.data = (lab_data *)light_datamodule_new(&lab_stream_vtable);
    assert_fails(lab_fit(&l), LIGHT_ERR_ARGUMENT, "limit_train_batches", "stream");
    lab_free(&l);
}

static void overfitting_takes_the_first_batches_in_order(void **state)
{
    static const struct {
        const char *overfit;
        int batches;
    } rows[] = {{"2", 2}, {"0.1", 6}, {"1", 1}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lab l = observed((light_trainer_options){.max_epochs = 2, .overfit_batches = rows[i].overfit});
        l.data->shuffle = true;
        assert_ok(lab_fit(&l));
        assert_int_equal(seen.batches, 2 * rows[i].batches);
        assert_int_equal(seen.validation_batches, 2 * rows[i].batches);
        for (int b = 0; b < seen.batches; b++) assert_int_equal(seen.first_indices[b], b % rows[i].batches);
        lab_free(&l);
    }
}

static void a_fast_dev_run_leaves_nothing_behind(void **state)
{
    (void)state;
    for (int n = 1; n <= 4; n += 3) {
        lab l = observed((light_trainer_options){
            .fast_dev_run = n,
            .max_epochs = 7,
            .enable_checkpointing = LIGHT_ON,
            .loggers = {light_csv_logger()},
            .callbacks = {light_model_checkpoint(.monitor = "nothing", .every_n_train_steps = 1)}});
        assert_ok(lab_fit(&l));
        assert_int_equal(seen.batches, n);
        assert_int_equal(seen.validation_batches, n);
        assert_int_equal(seen.sanity_batches, 0);
        assert_int_equal(light_trainer_global_step(l.trainer), n);
        assert_ok(lab_run_test(&l, .quiet = true));
        assert_int_equal(seen.test_batches, n);
        assert_string_equal(light_trainer_log_dir(l.trainer), "");
        assert_false(light_directory_exists(at("boring")));
        lab_free(&l);
    }
}

/* ---- validation --------------------------------------------------------- */

static void validation_comes_when_it_is_due(void **state)
{
    static const struct {
        const char *interval;
        int64_t every, epochs;
        const char *batches, *after;
    } rows[] = {
        {"1.0", 1, 2, "4", "4 8 "},   {"0.5", 1, 2, "4", "2 4 6 8 "}, {"0.25", 1, 1, "4", "1 2 3 4 "},
        {"2", 1, 2, "5", "2 4 7 9 "}, {"1", 1, 1, "3", "1 2 3 "},     {"3", -1, 3, "4", "3 6 9 12 "},
        {"5", -1, 3, "4", "5 10 "},   {"1.0", 2, 4, "2", "4 8 "},     {"1.0", 3, 4, "2", "6 "},
        {"0.5", 2, 2, "4", "6 8 "},   {"0.3", 1, 1, "10", "3 6 9 "},  {"0.01", 1, 1, "3", "1 2 3 "},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lab l = observed((light_trainer_options){.max_epochs = rows[i].epochs,
                                                 .val_check_interval = rows[i].interval,
                                                 .check_val_every_n_epoch = rows[i].every,
                                                 .limit_train_batches = rows[i].batches,
                                                 .limit_val_batches = "1"});
        assert_ok(lab_fit(&l));
        if (strcmp(seen.validated_after, rows[i].after))
            fail_msg("row %d: after %s, not %s", (int)i, seen.validated_after, rows[i].after);
        lab_free(&l);
    }
}

static void intervals_that_never_come_are_errors(void **state)
{
    (void)state;
    lab l = observed((light_trainer_options){.val_check_interval = "5", .limit_train_batches = "4"});
    assert_fails(lab_fit(&l), LIGHT_ERR_ARGUMENT, "val_check_interval 5", "4 batches");
    lab_free(&l);
    assert_null(light_trainer_new(.val_check_interval = "0.5", .check_val_every_n_epoch = -1));
    assert_non_null(strstr(light_error_message(), "in batches"));
    assert_null(light_trainer_new(.val_check_interval = "0"));
    assert_non_null(strstr(light_error_message(), "above 0"));
    assert_null(light_trainer_new(.check_val_every_n_epoch = LIGHT_ZERO_COUNT));
    assert_non_null(strstr(light_error_message(), "check_val_every_n_epoch"));
}

static void a_stream_validates_at_its_end(void **state)
{
    (void)state;
    lab l = observed((light_trainer_options){.max_epochs = 2, .limit_val_batches = "1"});
    light_datamodule_free(&l.data->base);
    l.data = (lab_data *)light_datamodule_new(&lab_stream_vtable);
    l.data->train_samples = 5;
    assert_ok(lab_fit(&l));
    assert_string_equal(seen.validated_after, "5 10 ");
    assert_int_equal(light_trainer_global_step(l.trainer), 10);
    lab_free(&l);
}

static void the_sanity_check_takes_so_many_batches_of_each_loader(void **state)
{
    static const struct {
        int64_t steps, loaders;
        int batches;
    } rows[] = {{0, 1, 2}, {LIGHT_ZERO_COUNT, 1, 0}, {3, 2, 6}, {-1, 1, 5}, {100, 2, 10}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lab l = observed((light_trainer_options){.max_steps = 1, .num_sanity_val_steps = rows[i].steps});
        l.data->val_samples = 5;
        l.data->val_loaders = rows[i].loaders;
        assert_ok(lab_fit(&l));
        assert_int_equal(seen.sanity_batches, rows[i].batches);
        lab_free(&l);
    }
}

static void the_sanity_check_changes_nothing(void **state)
{
    float weights[3][LAB_WEIGHTS];
    static const int64_t steps[] = {LIGHT_ZERO_COUNT, 2, -1};
    int order[3][64];
    (void)state;
    for (int i = 0; i < 3; i++) {
        lab l = observed((light_trainer_options){.max_epochs = 1, .num_sanity_val_steps = steps[i]});
        l.data->shuffle = true;
        assert_ok(lab_fit(&l));
        lab_read_weights(l.module, weights[i]);
        memcpy(order[i], seen.first_indices, sizeof order[i]);
        lab_free(&l);
    }
    assert_memory_equal(weights[0], weights[1], sizeof weights[0]);
    assert_memory_equal(weights[0], weights[2], sizeof weights[0]);
    assert_memory_equal(order[0], order[1], sizeof order[0]);
}

static void validation_leaves_the_modes_of_modules_as_they_were(void **state)
{
    (void)state;
    lab l = observed((light_trainer_options){.max_epochs = 1});
    assert_ok(light_module_build(l.module, 1));
    light_train(l.module);
    ((boring *)l.module)->layer.base.training = false; /* held in eval mode by its owner */
    assert_ok(lab_validate(&l, .quiet = true));
    assert_true(l.module->training);
    assert_false(((boring *)l.module)->layer.base.training);
    lab_free(&l);
}

/* ---- counters ----------------------------------------------------------- */

static void assert_progress(light_progress p, int64_t ready, int64_t started, int64_t processed,
                            int64_t completed)
{
    assert_int_equal(p.ready, ready);
    assert_int_equal(p.started, started);
    assert_int_equal(p.processed, processed);
    assert_int_equal(p.completed, completed);
}

static void a_complete_run_has_completed_everything(void **state)
{
    (void)state;
    lab l = observed(
        (light_trainer_options){.max_epochs = 2, .limit_train_batches = "3", .limit_val_batches = "4"});
    assert_ok(lab_fit(&l));
    assert_progress(l.trainer->epoch, 2, 2, 2, 2);
    assert_progress(l.trainer->batch, 6, 6, 6, 6);
    assert_progress(l.trainer->batch_current, 3, 3, 3, 3);
    assert_progress(l.trainer->eval_batch, 8, 8, 8, 8); /* without the sanity check */
    lab_free(&l);
}

static void a_failure_shows_how_far_it_came(void **state)
{
    (void)state;
    for (int k = 1; k <= 3; k++) {
        lab l = observed((light_trainer_options){.max_epochs = 2,
                                                 .limit_train_batches = "3",
                                                 .limit_val_batches = "0",
                                                 .accumulate_grad_batches = k});
        seen.fail_in_step = 4; /* epoch 1, batch 1 */
        assert_fails(lab_fit(&l), LIGHT_ERR_USER, "enough");
        assert_progress(l.trainer->epoch, 2, 2, 1, 1);
        assert_progress(l.trainer->batch, 5, 5, 4, 4);
        assert_progress(l.trainer->batch_current, 2, 2, 1, 1);
        assert_int_equal(light_trainer_global_step(l.trainer), (3 + k - 1) / k + 1 / k);
        lab_free(&l);
        l = observed((light_trainer_options){.max_epochs = 2,
                                             .limit_train_batches = "3",
                                             .limit_val_batches = "0",
                                             .accumulate_grad_batches = k});
        seen.fail_in_end = 4;
        assert_fails(lab_fit(&l), LIGHT_ERR_USER, "enough of it");
        assert_progress(l.trainer->batch, 5, 5, 5, 4);
        /* The trainer can be used again. */
        seen.fail_in_end = -1;
        seen.batches = 0;
        assert_ok(lab_fit(&l));
        assert_int_equal(seen.batches, 6);
        assert_progress(l.trainer->epoch, 2, 2, 2, 2);
        lab_free(&l);
    }
}

static void loaders_are_made_anew_when_asked(void **state)
{
    (void)state;
    lab l = observed((light_trainer_options){
        .max_epochs = 5, .limit_train_batches = "1", .reload_dataloaders_every_n_epochs = 2});
    assert_ok(lab_fit(&l));
    assert_int_equal(seen.train_loaders, 3); /* at epochs 0, 2, 4 */
    lab_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        lab_test(whichever_limit_comes_first_ends_training),
        lab_test(minimums_hold_off_a_stop),
        lab_test(a_stop_inside_an_epoch_validates_and_ends_it),
        lab_test(on_train_batch_start_may_skip_the_rest_of_the_epoch),
        lab_test(time_that_has_passed_ends_training),
        lab_test(limits_are_batches_or_shares),
        lab_test(limits_that_make_no_sense_are_errors),
        lab_test(overfitting_takes_the_first_batches_in_order),
        lab_test(a_fast_dev_run_leaves_nothing_behind),
        lab_test(validation_comes_when_it_is_due),
        lab_test(intervals_that_never_come_are_errors),
        lab_test(a_stream_validates_at_its_end),
        lab_test(the_sanity_check_takes_so_many_batches_of_each_loader),
        lab_test(the_sanity_check_changes_nothing),
        lab_test(validation_leaves_the_modes_of_modules_as_they_were),
        lab_test(a_complete_run_has_completed_everything),
        lab_test(a_failure_shows_how_far_it_came),
        lab_test(loaders_are_made_anew_when_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
