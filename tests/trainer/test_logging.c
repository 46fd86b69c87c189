/* SPDX-License-Identifier: Apache-2.0 */
/* light_log: names, reductions, where it may be called, when rows are written, and what metrics.csv holds. */
#include "trainer/lab.h"

/* ---- one test at a time says what is logged ----------------------------- */

static void (*in_training_step)(light_step *s, const light_batch *batch);
static void (*in_validation_step)(light_step *s, const light_batch *batch);
static void (*in_hook)(light_trainer *t);
static const char *hook_name;

static light_tensor *training_step(light_module *self, light_step *s, const light_batch *batch)
{
    light_tensor *loss = boring_loss(self, s, batch);
    if (in_training_step) in_training_step(s, batch);
    return loss;
}

static void validation_step(light_module *self, light_step *s, const light_batch *batch)
{
    boring_loss(self, s, batch);
    if (in_validation_step) in_validation_step(s, batch);
}

static light_tensor *predict_step(light_module *self, light_step *s, const light_batch *batch)
{
    if (hook_name && !strcmp(hook_name, "predict_step")) in_hook(light_step_trainer(s));
    return light_forward(s, self, batch->fields[0]);
}

/* clang-format off */
#define HOOKS(X) \
    X(on_fit_start) X(on_fit_end) X(on_train_start) X(on_train_end) X(on_train_epoch_start) \
    X(on_train_epoch_end) X(on_validation_start) X(on_validation_end) X(on_validation_epoch_start) \
    X(on_validation_epoch_end) X(on_before_zero_grad) X(on_after_backward) X(on_before_optimizer_step) \
    X(on_predict_start) X(on_predict_epoch_end)
/* clang-format on */
#define X(hook)                                                                                              \
    static void hook(light_module *self, light_trainer *t)                                                   \
    {                                                                                                        \
        (void)self;                                                                                          \
        if (hook_name && !strcmp(hook_name, #hook) && !light_trainer_sanity_checking(t)) in_hook(t);         \
    }
HOOKS(X)
#undef X

#define X(hook) .hook = hook,
static const light_module_vtable logging_vtable = {LIGHT_MODULE(boring),
                                                   .init = boring_init,
                                                   .forward = boring_forward,
                                                   .training_step = training_step,
                                                   .validation_step = validation_step,
                                                   .test_step = validation_step,
                                                   .predict_step = predict_step,
                                                   .configure_optimizers = boring_optimizers,
                                                   HOOKS(X)};
#undef X

static lab logging(light_trainer_options options)
{
    options.default_root_dir = folder;
    options.enable_checkpointing = LIGHT_OFF;
    options.enable_learning_curve = LIGHT_OFF;
    return lab_new(&logging_vtable, light_trainer_new_with(&options));
}

static int begin(void **state)
{
    in_training_step = in_validation_step = NULL;
    in_hook = NULL;
    hook_name = NULL;
    return lab_begin(state);
}

static char *csv_of(const lab *l)
{
    char path[600];
    snprintf(path, sizeof path, "%s/metrics.csv", light_trainer_log_dir(l->trainer));
    return read_text(path);
}

static void assert_csv(const lab *l, const char *expected)
{
    char *csv = csv_of(l);
    assert_string_equal(csv, expected);
    light_free(csv);
}

static bool logged(const light_trainer *t, const char *name)
{
    double value;
    return light_trainer_metric(t, name, &value);
}

/* ---- names and reductions ----------------------------------------------- */

static void log_names(light_step *s, const light_batch *batch)
{
    double i = (double)batch->index;
    light_trainer *t = light_step_trainer(s);
    light_log_value(t, "default", i);
    light_log_value(t, "step", i, .on_step = true);
    light_log_value(t, "epoch_only", i, .on_step = LIGHT_OFF, .on_epoch = true);
    light_log_value(t, "both", i, .on_step = true, .on_epoch = true);
    light_log_value(t, "neither", i, .on_step = LIGHT_OFF, .on_epoch = LIGHT_OFF);
}

static void names_say_step_or_epoch_where_both_are_asked_for(void **state)
{
    (void)state;
    in_training_step = log_names;
    lab l = logging((light_trainer_options){.max_epochs = 1, .limit_train_batches = "4"});
    assert_ok(lab_fit(&l));
    light_trainer *t = l.trainer;
    assert_true(metric_of(t, "default") == 3);
    assert_true(metric_of(t, "step") == 3);
    assert_true(metric_of(t, "epoch_only") == 1.5);
    assert_true(metric_of(t, "both_step") == 3);
    assert_true(metric_of(t, "both_epoch") == 1.5);
    assert_true(metric_of(t, "both") == 1.5);
    static const char *const absent[] = {"neither", "default_step", "default_epoch", "step_step",
                                         "epoch_only_epoch"};
    for (int i = 0; i < 5; i++) assert_false(logged(t, absent[i]));
    lab_free(&l);
}

static void log_reductions(light_step *s, const light_batch *batch)
{
    double i = (double)batch->index;
    light_tensor *value = light_full(s, LIGHT_SCALAR, i + 1, LIGHT_F32);
    light_log(s, "mean", value);
    light_log(s, "weighted", value, .batch_size = batch->index == 0 ? 9 : 1);
    light_log(s, "sum", value, .reduce_fx = LIGHT_FX_SUM);
    light_log(s, "min", value, .reduce_fx = LIGHT_FX_MIN);
    light_log(s, "max", value, .reduce_fx = LIGHT_FX_MAX);
}

static void an_epochs_values_are_reduced(void **state)
{
    (void)state;
    in_validation_step = log_reductions;
    lab l = logging((light_trainer_options){0});
    l.data->val_samples = 10; /* batches of 4, 4 and 2 */
    l.data->batch_size = 4;
    assert_ok(lab_validate(&l, .quiet = true));
    assert_true(metric_of(l.trainer, "mean") == (1 * 4 + 2 * 4 + 3 * 2) / 10.0);
    assert_true(metric_of(l.trainer, "weighted") == (1 * 9 + 2 + 3) / 11.0);
    assert_true(metric_of(l.trainer, "sum") == 6);
    assert_true(metric_of(l.trainer, "min") == 1);
    assert_true(metric_of(l.trainer, "max") == 3);
    lab_free(&l);
}

static void log_by_loader(light_step *s, const light_batch *batch)
{
    light_trainer *t = light_step_trainer(s);
    light_log_value(t, "loss", batch->dataloader_idx * 10 + (double)batch->index);
    light_log_value(t, "all", batch->dataloader_idx, .add_dataloader_idx = LIGHT_OFF);
}

static void several_loaders_give_a_metric_each(void **state)
{
    (void)state;
    in_validation_step = log_by_loader;
    lab l = logging((light_trainer_options){0});
    l.data->val_samples = 3;
    l.data->val_loaders = 2;
    assert_ok(lab_validate(&l, .quiet = true));
    assert_true(metric_of(l.trainer, "loss/dataloader_idx_0") == 1);
    assert_true(metric_of(l.trainer, "loss/dataloader_idx_1") == 11);
    assert_true(metric_of(l.trainer, "all") == 0.5);
    assert_false(logged(l.trainer, "loss"));
    lab_free(&l);
}

static void log_sanity(light_step *s, const light_batch *batch)
{
    (void)batch;
    if (light_trainer_sanity_checking(light_step_trainer(s)))
        light_log_value(light_step_trainer(s), "sane", 1);
}

static void the_sanity_checks_metrics_are_dropped(void **state)
{
    (void)state;
    in_validation_step = log_sanity;
    lab l = logging((light_trainer_options){.max_steps = 1});
    assert_ok(lab_fit(&l));
    assert_false(logged(l.trainer, "sane"));
    assert_csv(&l, "");
    lab_free(&l);
}

static void log_prog_bar(light_step *s, const light_batch *batch)
{
    (void)batch;
    light_log_value(light_step_trainer(s), "shown", 1, .prog_bar = true, .on_epoch = true, .on_step = true);
    light_log_value(light_step_trainer(s), "hidden", 1, .logger = LIGHT_OFF);
}

static void prog_bar_and_logger_are_chosen_by_metric(void **state)
{
    light_metric metric;
    bool shown;
    int n_shown = 0;
    (void)state;
    in_training_step = log_prog_bar;
    lab l = logging((light_trainer_options){.max_steps = 1, .log_every_n_steps = 1});
    assert_ok(lab_fit(&l));
    for (int i = 0; light_trainer_metric_at(l.trainer, i, &metric, &shown); i++) n_shown += shown;
    assert_int_equal(n_shown, 2);
    assert_csv(&l, "step,shown_step,epoch,shown_epoch\n0,1,0,1\n");
    lab_free(&l);
}

/* ---- errors ------------------------------------------------------------- */

static void log_twice(light_step *s, const light_batch *batch)
{
    (void)batch;
    light_log_value(light_step_trainer(s), "loss", 1);
    light_log_value(light_step_trainer(s), "loss", 1, .on_epoch = true);
}

static void log_twice_alike(light_step *s, const light_batch *batch)
{
    (void)batch;
    light_log_value(light_step_trainer(s), "loss", 1);
    light_log_value(light_step_trainer(s), "loss", 2);
}

static void a_name_has_one_set_of_options_in_a_step(void **state)
{
    (void)state;
    in_training_step = log_twice;
    lab l = logging((light_trainer_options){.max_steps = 1});
    assert_fails(lab_fit(&l), LIGHT_ERR_ARGUMENT, "light_log(\"loss\")", "other options");
    in_training_step = log_twice_alike;
    assert_ok(lab_fit(&l));
    assert_true(metric_of(l.trainer, "loss") == 2);
    lab_free(&l);
}

static void log_vector(light_step *s, const light_batch *batch)
{
    light_log(s, "input", batch->fields[0]);
}

static void only_scalars_are_logged(void **state)
{
    (void)state;
    in_training_step = log_vector;
    lab l = logging((light_trainer_options){.max_steps = 1});
    assert_fails(lab_fit(&l), LIGHT_ERR_SHAPE, "light_log(\"input\")", "[1, 32]");
    lab_free(&l);
}

static void log_here(light_trainer *t)
{
    light_log_value(t, "here", 7);
}

static void log_step_here(light_trainer *t)
{
    light_log_value(t, "here", 7, .on_step = true);
}

static void some_hooks_allow_no_logging(void **state)
{
    static const char *const forbidden[] = {"on_fit_start", "on_fit_end", "on_train_end",
                                            "on_validation_end"};
    static const char *const in_predict[] = {"on_predict_start", "on_predict_epoch_end", "predict_step"};
    static const char *const allowed[] = {
        "on_train_start",      "on_train_epoch_start",      "on_train_epoch_end",
        "on_validation_start", "on_validation_epoch_start", "on_validation_epoch_end",
        "on_before_zero_grad", "on_after_backward",         "on_before_optimizer_step"};
    (void)state;
    in_hook = log_here;
    lab l = logging((light_trainer_options){.max_epochs = 1, .limit_train_batches = "2"});
    for (int i = 0; i < 4; i++) {
        hook_name = forbidden[i];
        assert_fails(lab_fit(&l), LIGHT_ERR_STATE, "light_log(\"here\")", "nothing can be logged here");
    }
    for (int i = 0; i < 3; i++) {
        hook_name = in_predict[i];
        assert_fails(lab_predict(&l), LIGHT_ERR_STATE, "nothing can be logged here");
    }
    for (int i = 0; i < 9; i++) {
        hook_name = allowed[i];
        assert_ok(lab_fit(&l));
        if (!logged(l.trainer, "here")) fail_msg("not logged in %s", hook_name);
        assert_true(metric_of(l.trainer, "here") == 7);
    }
    in_hook = log_step_here;
    for (int i = 0; i < 6; i++) {
        hook_name = allowed[i];
        assert_fails(lab_fit(&l), LIGHT_ERR_ARGUMENT, "light_log(\"here\"", "no step");
    }
    lab_free(&l);
}

/* ---- rows --------------------------------------------------------------- */

static void log_index(light_step *s, const light_batch *batch)
{
    light_log_value(light_step_trainer(s), "i", (double)batch->index);
}

static void log_both(light_step *s, const light_batch *batch)
{
    light_log_value(light_step_trainer(s), "i", (double)batch->index, .on_step = true, .on_epoch = true);
}

static void log_val(light_step *s, const light_batch *batch)
{
    light_log_value(light_step_trainer(s), "val", 0.5 + (double)batch->index);
}

static void every_nth_step_is_a_row(void **state)
{
    (void)state;
    in_training_step = log_index;
    lab l =
        logging((light_trainer_options){.max_epochs = 2, .limit_train_batches = "5", .log_every_n_steps = 3});
    assert_ok(lab_fit(&l));
    assert_csv(&l, "step,i,epoch\n2,2,0\n5,0,1\n8,3,1\n");
    lab_free(&l);
    l = logging((light_trainer_options){
        .max_epochs = 1, .limit_train_batches = "5", .log_every_n_steps = LIGHT_ZERO_COUNT});
    assert_ok(lab_fit(&l));
    assert_csv(&l, "");
    lab_free(&l);
}

static void one_row_a_step_with_new_columns_behind(void **state)
{
    (void)state;
    in_training_step = log_both;
    in_validation_step = log_val;
    lab l = logging((light_trainer_options){
        .max_epochs = 2, .limit_train_batches = "3", .limit_val_batches = "2", .log_every_n_steps = 1});
    assert_ok(lab_fit(&l));
    assert_csv(&l, "step,i_step,epoch,val,i_epoch\n"
                   "0,0,0,,\n"
                   "1,1,0,,\n"
                   "2,2,0,1,1\n"
                   "3,0,1,,\n"
                   "4,1,1,,\n"
                   "5,2,1,1,1\n");
    lab_free(&l);
}

static void accumulation_counts_optimizer_steps(void **state)
{
    (void)state;
    in_training_step = log_index;
    in_validation_step = log_val;
    lab l = logging((light_trainer_options){.max_epochs = 1,
                                            .limit_train_batches = "7",
                                            .limit_val_batches = "1",
                                            .val_check_interval = "4",
                                            .accumulate_grad_batches = 3,
                                            .log_every_n_steps = 1});
    assert_ok(lab_fit(&l));
    assert_csv(&l, "step,i,epoch,val\n0,2,0,0.5\n1,5,0,\n2,6,0,\n");
    lab_free(&l);
}

static void log_odd(light_step *s, const light_batch *batch)
{
    light_trainer *t = light_step_trainer(s);
    light_log_value(t, "a,\"b\"", 1.0 / 3);
    light_log_value(t, "nan", batch->index == 0 ? -NAN : 1e-30);
    light_log_value(t, "huge", batch->index == 0 ? INFINITY : 1e300);
}

static void odd_names_and_values_can_be_read_back(void **state)
{
    (void)state;
    in_training_step = log_odd;
    lab l = logging((light_trainer_options){.max_steps = 2, .log_every_n_steps = 1});
    assert_ok(lab_fit(&l));
    assert_csv(&l, "step,a__b_,nan,huge,epoch\n0,0.333333333,nan,inf,0\n1,0.333333333,1e-30,1e+300,0\n");
    lab_free(&l);
}

static void without_logger_there_is_no_file(void **state)
{
    (void)state;
    in_training_step = log_index;
    lab l = logging((light_trainer_options){.max_steps = 2, .log_every_n_steps = 1, .logger = "none"});
    assert_ok(lab_fit(&l));
    assert_csv(&l, "");
    assert_true(metric_of(l.trainer, "i") == 1);
    lab_free(&l);
}

/* ---- a logger of one's own ---------------------------------------------- */

typedef struct own_logger {
    light_logger base;
    int begun, rows, finalized;
    int64_t last_step;
    double last_epoch;
    light_status status, fails;
} own_logger;

static light_status own_begin(light_logger *self, light_trainer *t, const char *run, int64_t resumed_step)
{
    (void)t;
    assert_true(run[0]);
    assert_int_equal(resumed_step, -1);
    ((own_logger *)self)->begun++;
    return LIGHT_OK;
}

static light_status own_log(light_logger *self, int64_t step, const light_metric *metrics, int n)
{
    own_logger *o = (own_logger *)self;
    assert_int_equal(o->begun, o->finalized + 1);
    assert_string_equal(metrics[n - 1].name, "epoch");
    o->last_epoch = metrics[n - 1].value;
    o->last_step = step;
    o->rows++;
    return o->fails == LIGHT_OK ? LIGHT_OK : light_fail(o->fails, "the server does not answer");
}

static light_status own_finalize(light_logger *self, light_status status)
{
    ((own_logger *)self)->finalized++;
    ((own_logger *)self)->status = status;
    return LIGHT_OK;
}

static const light_logger_vtable own_vtable = {LIGHT_LOGGER(own_logger), .begin = own_begin,
                                               .log_metrics = own_log, .finalize = own_finalize};

static void a_logger_that_fails_does_not_stop_training(void **state)
{
    own_logger own = {.base.vtable = &own_vtable, .fails = LIGHT_ERR_IO};
    (void)state;
    in_training_step = log_index;
    in_validation_step = log_val;
    lab l = logging((light_trainer_options){.max_epochs = 2,
                                            .limit_train_batches = "2",
                                            .limit_val_batches = "1",
                                            .log_every_n_steps = 1,
                                            .loggers = {&own.base}});
    lab_listen(LIGHT_MESSAGE_WARNING);
    assert_ok(lab_fit(&l));
    lab_stop_listening();
    assert_int_equal(own.begun, 1);
    assert_int_equal(own.finalized, 1);
    assert_int_equal(own.status, LIGHT_OK);
    assert_int_equal(own.rows, 6); /* 4 steps, 2 validations */
    assert_int_equal(own.last_step, 3);
    assert_true(own.last_epoch == 1);
    assert_int_equal(occurrences(lab_messages, "warning: own_logger: the server does not answer"), 6);
    assert_ok(lab_validate(&l, .quiet = true)); /* is not logged: own_log would see it */
    in_training_step = log_twice;
    assert_fails(lab_fit(&l), LIGHT_ERR_ARGUMENT, "other options");
    assert_int_equal(own.status, LIGHT_ERR_ARGUMENT);
    lab_free(&l);
}

/* ---- the table ---------------------------------------------------------- */

static void test_prints_what_it_found(void **state)
{
    (void)state;
    in_validation_step = log_val;
    lab l = logging((light_trainer_options){.enable_progress_bar = LIGHT_OFF});
    l.data->test_samples = 2;
    lab_listen(LIGHT_MESSAGE_INFO);
    assert_ok(lab_run_test(&l));
    lab_stop_listening();
    assert_int_equal(occurrences(lab_messages, "test metric"), 1);
    assert_non_null(strstr(lab_messages, "\nval "));
    assert_non_null(strstr(lab_messages, " 1\n"));
    lab_free(&l);
}

#define test(name) cmocka_unit_test_setup_teardown(name, begin, lab_end)

/* ---- metrics.csv without memory ------------------------------------------- */

/* Logs a row that brings two new columns while the nth allocation fails; *reached: there was one. */
static void log_without_memory(int64_t n, bool *reached)
{
    static const light_metric narrow[] = {{"a", 1}, {"epoch", 0}};
    static const light_metric wide[] = {{"a", 2}, {"b", 3}, {"c", 4}, {"epoch", 0}};
    static const light_metric middle[] = {{"a", 5}, {"b", 6}, {"epoch", 0}};
    light_logger *logger = light_csv_logger();
    const light_logger_vtable *v = logger->vtable;
    assert_ok(light_make_directories(at("%d", (int)n)));
    assert_ok(v->begin(logger, NULL, at("%d", (int)n), -1));
    assert_ok(v->log_metrics(logger, 0, narrow, 2));
    light_memory_fail_nth(n);
    light_status status = v->log_metrics(logger, 1, wide, 4);
    light_memory_fail_nth(0);
    *reached = status != LIGHT_OK;
    if (*reached) assert_int_equal(status, LIGHT_ERR_MEMORY);
    assert_ok(v->log_metrics(logger, 2, middle, 3));
    assert_ok(v->finalize(logger, LIGHT_OK));
    light_logger_free(logger);
    char *csv = read_text(at("%d/metrics.csv", (int)n));
    bool all = strstr(csv, ",c\n"); /* columns are there, and what failed was the row */
    if (!*reached)
        assert_string_equal(csv, "step,a,epoch,b,c\n0,1,0,,\n1,2,0,3,4\n2,5,0,6,\n");
    else
        assert_string_equal(csv, all ? "step,a,epoch,b,c\n0,1,0,,\n2,5,0,6,\n"
                                     : "step,a,epoch,b\n0,1,0,\n2,5,0,6\n");
    light_free(csv);
}

static void columns_come_all_or_none(void **state)
{
    bool reached = true;
    int64_t n = 0;
    (void)state;
    while (reached) log_without_memory(++n, &reached);
    assert_true(n > 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(names_say_step_or_epoch_where_both_are_asked_for),
        test(an_epochs_values_are_reduced),
        test(several_loaders_give_a_metric_each),
        test(the_sanity_checks_metrics_are_dropped),
        test(prog_bar_and_logger_are_chosen_by_metric),
        test(a_name_has_one_set_of_options_in_a_step),
        test(only_scalars_are_logged),
        test(some_hooks_allow_no_logging),
        test(every_nth_step_is_a_row),
        test(one_row_a_step_with_new_columns_behind),
        test(accumulation_counts_optimizer_steps),
        test(odd_names_and_values_can_be_read_back),
        test(without_logger_there_is_no_file),
        test(a_logger_that_fails_does_not_stop_training),
        test(test_prints_what_it_found),
        lab_test(columns_come_all_or_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
