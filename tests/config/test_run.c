/* SPDX-License-Identifier: Apache-2.0 */
/* Whole runs through the command line: fit, go on, validate, test, predict, Ctrl-C, and folders that cannot be
 * written. */
#include "program.h"

#include <ctype.h>
#include <dirent.h>
#include <time.h>

static int begin(void **state)
{
    (void)state;
    return light_remove_tree(at("runs")) == LIGHT_OK ? 0 : -1;
}

#define RUN "runs/tiny/version_0"

/* The file in the test's folder as text (light_free). */
static char *content(const char *name)
{
    char *text;
    size_t bytes;
    if (light_file_read(at(name), &text, &bytes)) fail_msg("%s", light_error_message());
    return text;
}

static void assert_same_weights(const char *a, const char *b)
{
    light_checkpoint *first, *second;
    light_config *one, *two;
    const light_cli_options program = {.description = NULL};
    assert_int_equal(light_config_new(&one, &tiny_vtable, &points_vtable, &program), LIGHT_OK);
    assert_int_equal(light_config_new(&two, &tiny_vtable, &points_vtable, &program), LIGHT_OK);
    assert_int_equal(light_module_build(one->model, 1), LIGHT_OK);
    assert_int_equal(light_module_build(two->model, 2), LIGHT_OK);
    if (light_checkpoint_open(at(a), &first) ||
        light_checkpoint_read_module(first, one->model, "model", true))
        fail_msg("%s", light_error_message());
    if (light_checkpoint_open(at(b), &second) ||
        light_checkpoint_read_module(second, two->model, "model", true))
        fail_msg("%s", light_error_message());
    light_parameter *p = light_next_parameter(one->model, NULL), *q = light_next_parameter(two->model, NULL);
    assert_non_null(p);
    for (; p && q; p = light_next_parameter(one->model, p), q = light_next_parameter(two->model, q)) {
        float x[256], y[256];
        size_t n = (size_t)light_numel(p->tensor);
        assert_true(n <= 256);
        assert_int_equal(light_tensor_read(p->tensor, LIGHT_F32, x, n * sizeof *x), LIGHT_OK);
        assert_int_equal(light_tensor_read(q->tensor, LIGHT_F32, y, n * sizeof *y), LIGHT_OK);
        assert_memory_equal(x, y, n * sizeof *x);
    }
    light_checkpoint_close(first);
    light_checkpoint_close(second);
    light_config_free(one);
    light_config_free(two);
}

/* Every file that the last words name is there, and every command that they offer works. */
static void test_fit_tells_where_things_are(void **state)
{
    (void)state;
    const char *names[] = {"config.yaml", "metrics.csv", "learning_curve.svg", "checkpoints/best",
                           "checkpoints/last"};
    char line[256];
    assert_int_equal(run_program("fit", "--trainer.max_epochs", "3"), 0);
    assert_string_equal(out, "");
    assert_says(err, "\nthis run is in " RUN ":\n");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(line, sizeof line, "\n  %-20s ", names[i]);
        assert_says(err, line);
        snprintf(line, sizeof line, RUN "/%s", names[i]);
        if (access(at(line), R_OK)) fail_msg("%s is not there", line);
    }
    assert_says(
        err, "\nnext: tiny test --ckpt_path best\n      tiny fit --ckpt_path last --trainer.max_epochs 8\n");
    assert_int_equal(run_program("test", "--ckpt_path", "best"), 0);
    assert_says(err, "/" RUN ":\n  config.yaml  ");
    assert_says(err, "\nnext: tiny predict --ckpt_path best\n");
    assert_int_equal(run_program("predict", "--ckpt_path", "best"), 0);
    assert_int_equal(run_program("fit", "--ckpt_path", "last", "--trainer.max_epochs", "8"), 0);
    assert_says(err, "epoch 3/7 ");
    assert_says(err, "this run is in ");
    assert_says_not(err, "epoch 2/7 ");
    assert_false(light_file_exists(at("runs/tiny/version_1")));
}

/* Not on a terminal: one plain line an epoch, nothing that is redrawn. */
static void test_progress_is_plain_in_a_file(void **state)
{
    (void)state;
    assert_int_equal(run_program("fit", "--trainer.max_epochs", "2"), 0);
    for (const char *p = err; *p; p++)
        if (*p != '\n' && !isprint((unsigned char)*p)) fail_msg("byte %d in:\n%s", *p, err);
    assert_says(err, "\nepoch 0/1  6 batches in 0:00  train_loss ");
    assert_says(err, "\nepoch 1/1  6 batches in 0:00  train_loss ");
    assert_says(err, "module  type        params  mode\n");
}

/* What was set is needed by the next command too: it is offered with the run's configuration. */
static void test_next_commands_keep_the_configuration(void **state)
{
    (void)state;
    assert_int_equal(run_program("fit", "--trainer.max_epochs", "1", "--model.hidden", "5",
                                 "--trainer.default_root_dir", "runs/with space"),
                     0);
    assert_says(err,
                "\nnext: tiny test --config 'runs/with space/tiny/version_0/config.yaml' --ckpt_path best\n");
    assert_int_equal(
        run_program("test", "--config", "runs/with space/tiny/version_0/config.yaml", "--ckpt_path", "best"),
        0);
    assert_int_equal(run_program("fit", "--config", "runs/with space/tiny/version_0/config.yaml",
                                 "--ckpt_path", "last", "--trainer.max_epochs", "2"),
                     0);
}

/* Where steps were the limit, going on takes more of them. */
static void test_a_run_of_steps_goes_on(void **state)
{
    (void)state;
    assert_int_equal(run_program("fit", "--trainer.max_steps", "9"), 0);
    assert_says(err, "\nepoch 1  ");
    assert_says(err, "fit --config " RUN "/config.yaml --ckpt_path last --trainer.max_steps 18\n");
    assert_int_equal(run_program("fit", "--config", RUN "/config.yaml", "--ckpt_path", "last",
                                 "--trainer.max_steps", "18"),
                     0);
    assert_says(err, "\nepoch 2  ");
}

/* The line says which option is wrong, and the run goes on from where it was noticed. */
static void test_a_wrong_monitor_is_put_right(void **state)
{
    (void)state;
    assert_int_equal(run_program("fit", "--trainer.max_epochs", "2", "--early_stopping.monitor", "val_los"),
                     1);
    assert_says(err, "\"val_los\" (--early_stopping.monitor), which has not been logged; logged: ");
    assert_says(err, "\nto go on, with that put right: tiny fit --trainer.max_epochs 2 "
                     "--early_stopping.monitor val_los --ckpt_path last\n");
    assert_int_equal(run_program("fit", "--trainer.max_epochs", "2", "--early_stopping.monitor", "val_loss",
                                 "--ckpt_path", "last"),
                     0);
    assert_says(err, "\nepoch 0/1  ");
    assert_says(err, "\nepoch 1/1  ");
}

static void test_config_of_a_run_repeats_it(void **state)
{
    (void)state;
    assert_int_equal(run_program("fit", "--trainer.max_epochs", "3", "--model.hidden", "8", "--model.lr",
                                 "0.013", "--seed_everything", "17", "--early_stopping.monitor", "val_loss",
                                 "--model_checkpoint.filename", "at-{step}", "--data.batch_size", "7"),
                     0);
    char *saved = content(RUN "/config.yaml");
    assert_int_equal(run_program("fit", "--config", RUN "/config.yaml", "--print_config"), 0);
    assert_string_equal(out, saved);
    assert_int_equal(run_program("fit", "--config", RUN "/config.yaml"), 0);
    char *again = content("runs/tiny/version_1/config.yaml");
    assert_string_equal(again, saved);
    assert_same_weights(RUN "/checkpoints/last", "runs/tiny/version_1/checkpoints/last");
    char *one = content(RUN "/metrics.csv"), *two = content("runs/tiny/version_1/metrics.csv");
    assert_string_equal(one, two);
    light_free(one);
    light_free(two);
    light_free(saved);
    light_free(again);
}

static void test_other_seeds_give_other_weights(void **state)
{
    (void)state;
    assert_int_equal(run_program("fit", "--trainer.max_epochs", "1"), 0);
    assert_int_equal(run_program("fit", "--trainer.max_epochs", "1", "--seed_everything", "2"), 0);
    char *one = content(RUN "/metrics.csv"), *two = content("runs/tiny/version_1/metrics.csv");
    assert_string_not_equal(one, two);
    light_free(one);
    light_free(two);
}

static void test_validate_and_test_print_a_table(void **state)
{
    (void)state;
    assert_int_equal(run_program("fit", "--trainer.max_epochs", "30"), 0);
    assert_int_equal(run_program("test"), 0); /* the best, when nothing is said */
    assert_says(err, "/" RUN "/checkpoints/");
    assert_says(err, "\ntest metric         value\n-------------------------\ntest_loss ");
    const char *line = strstr(err, "\ntest_acc ");
    assert_non_null(line);
    assert_true(strtod(line + strlen("\ntest_acc "), NULL) > 0.5); /* it has learned: chance is 1/3 */
    assert_int_equal(run_program("validate", "--ckpt_path", "last"), 0);
    assert_says(err, "\nvalidation metric         value\n-------------------------------\nval_loss ");
    assert_int_equal(run_program("validate", "--ckpt_path", RUN "/checkpoints/last"), 0);
}

static void test_predictions(void **state)
{
    (void)state;
    assert_int_equal(run_program("fit", "--trainer.max_epochs", "30"), 0);
    assert_int_equal(run_program("test"), 0);
    double accuracy = strtod(strstr(err, "\ntest_acc ") + strlen("\ntest_acc "), NULL);
    assert_int_equal(run_program("predict", "--data.batch_size", "7"), 0);
    assert_says(err, "\npredictions: ");
    assert_says(err, "/" RUN "/predictions.csv\n");
    char *text = content(RUN "/predictions.csv"), *line = text;
    assert_true(light_starts_with(line, "index,prediction\n"));
    int correct = 0;
    points data = {.base.vtable = &points_vtable};
    assert_int_equal(points_setup(&data.base, LIGHT_STAGE_PREDICT), LIGHT_OK); /* fills point_y */
    light_dataset_free(data.all);
    for (int i = 0; i < POINTS; i++) {
        int index, prediction;
        line = strchr(line, '\n') + 1;
        assert_int_equal(sscanf(line, "%d,%d", &index, &prediction), 2);
        assert_int_equal(index, i);
        assert_in_range(prediction, 0, 2);
        correct += prediction == point_y[i];
    }
    assert_string_equal(strchr(line, '\n'), "\n");
    assert_true(fabs((double)correct / POINTS - accuracy) < 1e-5); /* printed with 6 digits */
    light_free(text);
    assert_int_equal(run_program("predict", "--prediction_writer.path", "mine.csv",
                                 "--trainer.limit_predict_batches", "2"),
                     0);
    text = content("mine.csv");
    int lines = 0;
    for (const char *p = text; *p; p++) lines += *p == '\n';
    assert_int_equal(lines, 1 + 2 * 10);
    light_free(text);
    assert_int_equal(run_program("predict", "--prediction_writer.path", "no/such/folder.csv"), 1);
    assert_says(err, "cannot write predictions to no/such/folder.csv: No such file or directory\n");
}

static void test_no_checkpoint_to_use(void **state)
{
    (void)state;
    assert_fails(1, "ckpt_path \"best\": no checkpoint found below runs/tiny; run fit first, or give a path",
                 "test");
    assert_fails(1, "ckpt_path \"last\": no checkpoint found below runs/tiny; run fit first, or give a path",
                 "fit", "--ckpt_path", "last");
    assert_fails(1, "there is no checkpoint runs/nothing", "predict", "--ckpt_path", "runs/nothing");
}

static void test_checkpoint_of_another_model(void **state)
{
    (void)state;
    assert_int_equal(run_program("fit", "--trainer.max_epochs", "1"), 0);
    assert_int_equal(run_program("test", "--model.hidden", "5"), 1);
    const char *line = strstr(err, "error: tiny: checkpoint ");
    assert_non_null(line);
    assert_says(
        line,
        " is of another model; 3 different: model/fc1.weight (f32 [8, 4] in the checkpoint, f32 [5, 4] in "
        "the module)");
    const char *path = strstr(line, "checkpoint /");
    assert_null(strstr(path + 1, "checkpoint /")); /* named once */
    /* One line, and where the options are that would fit. */
    assert_says(strchr(line, '\n') + 1, "the options of that checkpoint's run: --config /");
    assert_says(err, "/runs/tiny/version_0/config.yaml\n");
}

/* ---- Ctrl-C ------------------------------------------------------------- */

/* Until the program has said `text`; looks at the file each millisecond, for a minute at most. */
static void wait_until_said(const char *text)
{
    static char said[1 << 17];
    for (int i = 0; i < 60000; i++) {
        FILE *file = fopen(at("stderr"), "r");
        size_t n = file ? fread(said, 1, sizeof said - 1, file) : 0;
        if (file) fclose(file);
        said[n] = '\0';
        if (strstr(said, text)) return;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    kill(running, SIGKILL);
    fail_msg("not said within a minute: %s\nbut:\n%s", text, said);
}

static void interrupt_a_run(int signal_number, int code)
{
    remove(at("stderr"));
    start(NULL, NULL, (const char *const[]){"fit", "--trainer.max_epochs", "-1", NULL});
    wait_until_said("epoch 1 ");
    assert_int_equal(kill(running, signal_number), 0);
    if (signal_number == SIGUSR1) assert_int_equal(kill(running, signal_number), 0); /* twice does no harm */
    assert_int_equal(finish(), code);
    assert_says(err, "\nerror: tiny: interrupted at step ");
    assert_says(err, "\nto go on: tiny fit --trainer.max_epochs -1 --ckpt_path last\n");
}

static void test_interrupt_and_go_on(void **state)
{
    (void)state;
    char expected[64];
    interrupt_a_run(SIGINT, 130);
    long long step = -1, epoch = -1;
    assert_int_equal(
        sscanf(strstr(err, "interrupted at step "), "interrupted at step %lld (epoch %lld)", &step, &epoch),
        2);
    assert_true(step >= 12 && epoch >= 2);
    snprintf(expected, sizeof expected, "%lld", epoch + 1);
    assert_int_equal(run_program("fit", "--ckpt_path", "last", "--trainer.max_epochs", expected), 0);
    assert_says(err, "checkpoint: ");
    /* It went on in the middle: the epoch that was interrupted is the only one that ended. */
    snprintf(expected, sizeof expected, "\nepoch %lld/%lld ", epoch, epoch);
    assert_says(err, expected);
    int epochs = 0;
    for (const char *p = err; (p = strstr(p, "\nepoch ")); p++) epochs++;
    assert_int_equal(epochs, 1);
    /* To the bit where a run that was never stopped arrives. */
    snprintf(expected, sizeof expected, "%lld", epoch + 1);
    assert_int_equal(run_program("fit", "--trainer.max_epochs", expected), 0);
    assert_same_weights(RUN "/checkpoints/last", "runs/tiny/version_1/checkpoints/last");
}

static void test_stop_for_a_scheduler(void **state)
{
    (void)state;
    interrupt_a_run(SIGTERM, 75);
    assert_int_equal(run_program("validate", "--ckpt_path", "last"), 0);
    interrupt_a_run(SIGUSR1, 75);
    assert_int_equal(run_program("validate", "--ckpt_path", "last"), 0);
}

/* Nothing is saved: starting again would lose what has been done, so nobody is asked to. */
static void test_stop_without_checkpoints(void **state)
{
    (void)state;
    remove(at("stderr"));
    start(NULL, NULL,
          (const char *const[]){"fit", "--trainer.max_epochs", "-1", "--trainer.enable_checkpointing",
                                "false", NULL});
    wait_until_said("epoch 1 ");
    assert_int_equal(kill(running, SIGUSR1), 0);
    assert_int_equal(finish(), 130);
}

/* ---- folders ------------------------------------------------------------ */

static void test_runs_folder_that_cannot_be_made(void **state)
{
    (void)state;
    put("occupied", "a file");
    assert_fails(1, "cannot make the folder occupied: File exists", "fit", "--trainer.default_root_dir",
                 "occupied");
    assert_int_equal(mkdir(at("locked"), 0755), 0);
    assert_int_equal(chmod(folder, 0755), 0);
    assert_int_equal(chmod(at("locked"), 0555), 0);
    as_nobody = true;
    int code = run_program("fit", "--trainer.default_root_dir", "locked");
    as_nobody = false;
    if (code == NOT_STARTED) skip();
    assert_int_equal(code, 1);
    assert_string_equal(err, "error: tiny: cannot make the folder locked/tiny: Permission denied\n");
}

/* A run can be tested, and predicted elsewhere, by somebody who may only read it. */
static void test_read_only_runs(void **state)
{
    (void)state;
    assert_int_equal(run_program("fit", "--trainer.max_epochs", "1"), 0);
    assert_int_equal(chmod(folder, 0755), 0);
    as_nobody = true;
    int tested = run_program("test");
    int predicted = run_program("predict");
    as_nobody = false;
    if (tested == NOT_STARTED) skip();
    assert_int_equal(tested, 0);
    assert_int_equal(predicted, 1);
    assert_says(err, "cannot write predictions to ");
    assert_says(err, "/" RUN "/predictions.csv: Permission denied\n");
}

static void test_nothing_is_left_by_fast_dev_run(void **state)
{
    (void)state;
    assert_int_equal(run_program("fit", "--trainer.fast_dev_run", "2"), 0);
    assert_false(light_directory_exists(at("runs")));
    assert_says_not(err, "this run is in");
    assert_says_not(err, "next:");
}

static int all_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_fit_tells_where_things_are, begin),
        cmocka_unit_test_setup(test_progress_is_plain_in_a_file, begin),
        cmocka_unit_test_setup(test_next_commands_keep_the_configuration, begin),
        cmocka_unit_test_setup(test_a_run_of_steps_goes_on, begin),
        cmocka_unit_test_setup(test_a_wrong_monitor_is_put_right, begin),
        cmocka_unit_test_setup(test_config_of_a_run_repeats_it, begin),
        cmocka_unit_test_setup(test_other_seeds_give_other_weights, begin),
        cmocka_unit_test_setup(test_validate_and_test_print_a_table, begin),
        cmocka_unit_test_setup(test_predictions, begin),
        cmocka_unit_test_setup(test_no_checkpoint_to_use, begin),
        cmocka_unit_test_setup(test_checkpoint_of_another_model, begin),
        cmocka_unit_test_setup(test_interrupt_and_go_on, begin),
        cmocka_unit_test_setup(test_stop_for_a_scheduler, begin),
        cmocka_unit_test_setup(test_stop_without_checkpoints, begin),
        cmocka_unit_test_setup(test_runs_folder_that_cannot_be_made, begin),
        cmocka_unit_test_setup(test_read_only_runs, begin),
        cmocka_unit_test_setup(test_nothing_is_left_by_fast_dev_run, begin),
    };
    return cmocka_run_group_tests_name("runs", tests, make_folder, remove_folder);
}

PROGRAM_MAIN(.description = "A tiny program.")
