/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: commands, flags, files, environment, which of them wins, help, and what a mistake costs. Nothing is
 * trained here. */
#include "program.h"

#include "callbacks/builtin.h"

static int clean(void **state)
{
    (void)state;
    return light_remove_tree(at("runs")) == LIGHT_OK ? 0 : -1;
}

/* The value of the first KEY of a section in the last output. */
static const char *printed(const char *key)
{
    static char value[256];
    char line[256];
    snprintf(line, sizeof line, "\n  %s: ", key);
    const char *found = strstr(out, line);
    if (!found) fail_msg("%s is not in:\n%s", key, out);
    found += strlen(line);
    snprintf(value, sizeof value, "%.*s", (int)strcspn(found, "\n"), found);
    return value;
}

static void test_no_command(void **state)
{
    (void)state;
    assert_int_equal(run_program(NULL), 2);
    assert_says(out, "usage: tiny COMMAND");
    assert_string_equal(err, "error: tiny: which command? fit, validate, test or predict\n");
}

static void test_wrong_commands(void **state)
{
    (void)state;
    assert_fails(2, "unknown command \"fti\" (did you mean fit?)", "fti");
    assert_fails(2, "unknown command \"valdate\" (did you mean validate?)", "valdate", "--trainer.max_epochs",
                 "3");
    assert_fails(2, "unknown command \"serve\": expected fit, validate, test or predict", "serve");
    assert_fails(2, "the command comes first: tiny fit --trainer.max_epochs .. (see --help)",
                 "--trainer.max_epochs", "3", "fit");
}

static void test_wrong_arguments(void **state)
{
    (void)state;
    assert_fails(2, "unknown option --trainer.max_epoch (did you mean --trainer.max_epochs?)", "fit",
                 "--trainer.max_epoch", "3");
    assert_fails(2, "unknown option --max_epochs (did you mean --trainer.max_epochs?)", "fit", "--max_epochs",
                 "3");
    assert_fails(2, "unknown option --model.batch_size (did you mean --data.batch_size?)", "fit",
                 "--model.batch_size=3");
    assert_fails(2, "unknown option --modle.lr (did you mean --model.lr?)", "fit", "--modle.lr", "3");
    assert_fails(2, "unknown option --zzzzzz", "fit", "--zzzzzz", "3");
    assert_fails(2, "--trainer.max_epochs \"three\": expected a whole number", "fit", "--trainer.max_epochs",
                 "three");
    assert_fails(2, "--trainer.max_epochs -2: must be at least -1", "fit", "--trainer.max_epochs", "-2");
    assert_fails(
        2,
        "--trainer.max_epochs needs a value: epochs at most; -1: no limit, as where max_steps alone is given",
        "fit", "--trainer.max_epochs");
    assert_fails(2, "--model.lr needs a value: learning rate", "fit", "--model.lr", "--model.hidden", "3");
    assert_fails(2, "--data.batch_size 0: must be at least 1", "fit", "--data.batch_size", "0");
    assert_fails(2, "--model.kind \"tahn\": expected one of relu|tanh (did you mean tanh?)", "fit",
                 "--model.kind", "tahn");
    assert_fails(2, "\"extra\" is no option; options are --SECTION.NAME VALUE (see --help)", "fit", "extra");
    assert_fails(2, "\"-v\" is no option; options are --SECTION.NAME VALUE (see --help)", "fit", "-v");
    assert_fails(2, "--print_config=all: expected --print_config or --print_config=comments", "fit",
                 "--print_config=all");
    assert_fails(2, "--config needs the name of a YAML file", "fit", "--config");
    assert_fails(2, "cannot open none.yaml: No such file or directory", "fit", "--config", "none.yaml");
    assert_false(light_file_exists(at("runs")));
}

/* What does not go together is told before anything is made. */
static void test_flags_that_do_not_fit(void **state)
{
    (void)state;
    assert_fails(
        2,
        "trainer.limit_val_batches \"abc\": expected a whole number of batches, such as 10, or a share between "
        "0.0 and 1.0",
        "fit", "--trainer.limit_val_batches", "abc");
    assert_fails(2, "trainer.check_val_every_n_epoch 0: must be 1 or more, or -1", "fit",
                 "--trainer.check_val_every_n_epoch", "0");
    assert_fails(2, "max_time \"1h\": expected DD:HH:MM:SS, such as 00:12:00:00", "fit", "--trainer.max_time",
                 "1h");
    assert_false(light_file_exists(at("runs")));
}

static void test_a_flag_without_a_value_is_true(void **state)
{
    (void)state;
    assert_int_equal(run_program("fit", "--model.fancy", "--trainer.detect_anomaly", "--print_config"), 0);
    assert_string_equal(printed("fancy"), "true");
    assert_string_equal(printed("detect_anomaly"), "true");
    assert_int_equal(run_program("fit", "--print_config", "--model.fancy", "no", "--model.bias", "off"), 0);
    assert_string_equal(printed("fancy"), "false");
    assert_string_equal(printed("bias"), "false");
    assert_int_equal(
        run_program("fit", "--print_config", "--trainer.enable_progress_bar=false", "--model.bias"), 0);
    assert_string_equal(printed("enable_progress_bar"), "false");
    assert_string_equal(printed("bias"), "true");
}

static void test_values_of_all_kinds(void **state)
{
    (void)state;
    assert_int_equal(run_program("fit", "--print_config", "--model.name=--x=1", "--model.seen", "-5",
                                 "--model.lr=1e-4", "--trainer.limit_val_batches", "1", "--model.decay", ".5",
                                 "--seed_everything", "9", "--ckpt_path", "last"),
                     0);
    assert_string_equal(printed("name"), "\"\""); /* the trainer's comes first */
    assert_says(out, "\n  name: \"--x=1\"\n");
    assert_string_equal(printed("seen"), "-5");
    assert_string_equal(printed("lr"), "0.0001");
    assert_string_equal(printed("limit_val_batches"), "\"1\"");
    assert_string_equal(printed("decay"), "0.5");
    assert_true(light_starts_with(out, "seed_everything: 9\nckpt_path: \"last\"\ntrainer:\n"));
    assert_int_equal(run_program("fit", "--print_config", "--model.lr", "1", "--model.lr", "2"), 0);
    assert_string_equal(printed("lr"), "2"); /* the last one counts */
}

/* table < program < files in their order < environment < command line */
static void test_what_wins(void **state)
{
    (void)state;
    put("one.yaml",
        "trainer:\n  max_epochs: 31\n  max_steps: 32\n  min_steps: 33\n  log_every_n_steps: 34\n");
    put("two.yaml", "trainer:\n  max_steps: 42\n  min_steps: 43\n  log_every_n_steps: 44\n");
    const char *environment = "LIGHT_TRAINER__MIN_STEPS=53";
    /* max_epochs is 21 in this program, min_epochs 22, and 1000 and 0 in the table. */
    assert_int_equal(run_program("fit", "--print_config"), 0);
    assert_string_equal(printed("max_epochs"), "21");
    assert_string_equal(printed("min_epochs"), "22");
    assert_string_equal(printed("max_steps"), "-1");
    assert_int_equal(run_program_with(environment, "fit", "--print_config", "--trainer.log_every_n_steps",
                                      "64", "--config", "one.yaml", "--config=two.yaml"),
                     0);
    assert_string_equal(printed("min_epochs"), "22");
    assert_string_equal(printed("max_epochs"), "31");
    assert_string_equal(printed("max_steps"), "42");
    assert_string_equal(printed("min_steps"), "53");
    assert_string_equal(printed("log_every_n_steps"), "64");
    assert_int_equal(run_program("fit", "--print_config", "--config", "two.yaml", "--config", "one.yaml"), 0);
    assert_string_equal(printed("max_steps"), "32");
    assert_int_equal(run_program_with(environment, "fit", "--print_config", "--trainer.min_steps", "63"), 0);
    assert_string_equal(printed("min_steps"), "63");
}

static void test_environment(void **state)
{
    (void)state;
    assert_int_equal(run_program_with("LIGHT_MODEL__NAME=a=b", "fit", "--print_config"), 0);
    assert_says(out, "\n  name: \"a=b\"\n");
    assert_int_equal(run_program_with("LIGHT_MODEL__NAME=", "fit", "--print_config"), 0);
    assert_says(
        out,
        "model:\n  hidden: 8\n  seen: 0\n  lr: 0.05\n  decay: 0\n  fancy: false\n  bias: true\n  name: \"\"\n");
    assert_int_equal(run_program_with("LIGHT_SEED_EVERYTHING=12", "fit", "--print_config"), 0);
    assert_true(light_starts_with(out, "seed_everything: 12\n"));
    assert_int_equal(run_program_with("LIGHT_CKPT_PATH=x", "fit", "--print_config"), 0);
    assert_says(out, "ckpt_path: \"x\"\n");
    assert_int_equal(run_program_with("LIGHT_EARLY_STOPPING__MONITOR=val_loss", "fit", "--print_config"), 0);
    assert_string_equal(printed("monitor"), "\"val_loss\"");
    assert_int_equal(run_program_with("LIGHT_TRAINER__MAX_EPOCHS=x", "fit"), 2);
    assert_string_equal(
        err, "error: tiny: environment variable LIGHT_TRAINER__MAX_EPOCHS \"x\": expected a whole number\n");
    assert_int_equal(run_program_with("LIGHT_TRAINER__MAX_EPOCH=3", "fit"), 2);
    assert_string_equal(
        err, "error: tiny: environment variable LIGHT_TRAINER__MAX_EPOCH: unknown option trainer.max_epoch "
             "(did you mean trainer.max_epochs?)\n");
    assert_int_equal(run_program_with("LIGHT_OTHER=3", "fit", "--print_config"), 0); /* not an option */
    assert_int_equal(run_program_with("XLIGHT_TRAINER__MAX_EPOCHS=x", "fit", "--print_config"), 0);
}

/* ---- help --------------------------------------------------------------- */

static void assert_section_is_in_help(const char *section, const light_option *options)
{
    char name[160], line[600];
    for (const light_option *o = options; o && o->name; o++) {
        snprintf(name, sizeof name, "\n  --%s.%s ", section, o->name);
        const char *found = strstr(out, name);
        if (!found) fail_msg("--%s.%s is not in the help", section, o->name);
        snprintf(line, sizeof line, "\n      %s (default: ", o->help);
        const char *help = strstr(found, line);
        if (!help || help != strchr(found + 1, '\n'))
            fail_msg("--%s.%s has no line of help", section, o->name);
    }
}

static void assert_whole_help(void)
{
    assert_true(light_starts_with(out, "A tiny program.\n\nusage: tiny COMMAND"));
    assert_section_is_in_help("trainer", light_trainer_option_table);
    assert_section_is_in_help("model", tiny_options);
    assert_section_is_in_help("data", points_options);
    for (const light_extension *e = light_extensions; e->name; e++)
        if (e->callback) assert_section_is_in_help(e->name, e->callback->options);
    assert_says(
        out,
        "--trainer.max_epochs NUMBER\n      epochs at most; -1: no limit, as where max_steps alone is given (default: 21)\n");
    assert_says(out, "--model.kind relu|tanh\n      nonlinearity (default: relu)\n");
    assert_says(out, "--model.fancy BOOL\n      be fancy (default: false)\n");
    assert_says(out, "--trainer.name TEXT\n");
}

static void test_help_shows_every_option(void **state)
{
    (void)state;
    assert_int_equal(run_program("fit", "--help"), 0);
    assert_whole_help();
    assert_string_equal(err, "");
    assert_int_equal(run_program("fit", "-h"), 0);
    assert_whole_help();
}

/* Help comes, with the defaults, whatever else stands on the line. */
static void test_help_comes_first(void **state)
{
    (void)state;
    assert_int_equal(run_program("fit", "--trainer.max_epochs", "77", "--trainer.wrong", "--config",
                                 "none.yaml", "--help"),
                     0);
    assert_whole_help();
}

static void test_short_help(void **state)
{
    (void)state;
    const char *words[] = {"--help", "-h", "help"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(run_program(words[i]), 0);
        assert_says(out, "usage: tiny COMMAND");
        assert_says(out, "\n  predict ");
        assert_says(out, "\n  early_stopping ");
        assert_says_not(out, "--trainer.max_epochs");
    }
}

static void test_help_of_a_section(void **state)
{
    (void)state;
    for (int with_command = 0; with_command < 2; with_command++) {
        assert_int_equal(with_command ? run_program("fit", "--model.help") : run_program("--model.help"), 0);
        assert_section_is_in_help("model", tiny_options);
        assert_says_not(out, "--trainer.");
    }
    assert_fails(2, "unknown option --modl.help", "fit", "--modl.help");
}

static void test_version(void **state)
{
    (void)state;
    assert_int_equal(run_program("--version"), 0);
    assert_string_equal(out, "liblight " LIGHT_VERSION_TEXT "\n");
}

/* ---- print_config ------------------------------------------------------- */

static void test_printed_configuration_reads_back(void **state)
{
    (void)state;
    const char *forms[] = {"--print_config", "--print_config=comments"};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(run_program("fit", "--model.lr", "0.1", "--model.name", "a \"b\"",
                                     "--early_stopping.patience", "7", "--seed_everything", "5", forms[i]),
                         0);
        char *first = light_strdup(out);
        put("printed.yaml", first);
        assert_int_equal(run_program("fit", "--config", "printed.yaml", forms[i]), 0);
        assert_string_equal(out, first);
        light_free(first);
        assert_string_equal(err, "");
    }
    assert_false(light_file_exists(at("runs")));
}

/* ---- print_precision ---------------------------------------------------- */

static void test_the_dtype_of_each_operation(void **state)
{
    static const char *const lines[] = {
        "operation                     32-true      64-true      bf16-mixed   16-mixed     bf16-true    16-true\n",
        "linear                        f32          f64          bf16         f16          bf16         f16\n",
        "softmax                       f32          f64          f32          f32          bf16         f16\n",
        "relu                          f32          f64          as it comes  as it comes  bf16         f16\n",
    };
    (void)state;
    assert_int_equal(run_program("fit", "--print_precision"), 0);
    const char *at_line = out;
    for (int i = 0; i < 4; i++) {
        at_line = strstr(at_line, lines[i]);
        if (!at_line) fail_msg("'%s' is not in '%s', or not behind the one before", lines[i], out);
    }
    assert_string_equal(err, "");
    assert_fails(2, "unknown option --print_precision", "fit", "--print_precision=all");
    assert_false(light_file_exists(at("runs")));
}

static int all_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_no_command, clean),
        cmocka_unit_test_setup(test_wrong_commands, clean),
        cmocka_unit_test_setup(test_wrong_arguments, clean),
        cmocka_unit_test_setup(test_flags_that_do_not_fit, clean),
        cmocka_unit_test_setup(test_a_flag_without_a_value_is_true, clean),
        cmocka_unit_test_setup(test_values_of_all_kinds, clean),
        cmocka_unit_test_setup(test_what_wins, clean),
        cmocka_unit_test_setup(test_environment, clean),
        cmocka_unit_test_setup(test_help_shows_every_option, clean),
        cmocka_unit_test_setup(test_help_comes_first, clean),
        cmocka_unit_test_setup(test_short_help, clean),
        cmocka_unit_test_setup(test_help_of_a_section, clean),
        cmocka_unit_test_setup(test_version, clean),
        cmocka_unit_test_setup(test_printed_configuration_reads_back, clean),
        cmocka_unit_test_setup(test_the_dtype_of_each_operation, clean),
    };
    return cmocka_run_group_tests_name("command line", tests, make_folder, remove_folder);
}

PROGRAM_MAIN(.description = "A tiny program.", .trainer = {.max_epochs = 21, .min_epochs = 22})
