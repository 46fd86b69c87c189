/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration files: what is read, what each mistake is told as, and that what is written reads back the same. */
#include "program.h"

static light_config *config;

static int new_config(void **state)
{
    (void)state;
    light_message_set_level(LIGHT_MESSAGE_ERROR);
    return light_config_new(&config, &tiny_vtable, &points_vtable,
                            &(light_cli_options){.description = NULL}) == LIGHT_OK
               ? 0
               : -1;
}

static int free_config(void **state)
{
    (void)state;
    light_config_free(config);
    config = NULL;
    return 0;
}

static tiny *model(void)
{
    return (tiny *)config->model;
}

/* Reads the text as DIR/f.yaml; messages come out with "f.yaml" instead of the path. */
static const char *problem(const char *text)
{
    static char message[2048];
    put("f.yaml", text);
    light_status status = light_config_read_yaml(config, at("f.yaml"));
    if (status == LIGHT_OK) return "";
    const char *path = strstr(light_error_message(), folder);
    assert_ptr_equal(path, light_error_message());
    snprintf(message, sizeof message, "%s", light_error_message() + strlen(folder) + 1);
    return message;
}

#define assert_reads(text)          assert_string_equal(problem(text), "")
#define assert_problem(text, says_) assert_string_equal(problem(text), says_)

/* Steps without epochs are the only limit, in whatever order they are set; what was given stays. */
static void test_steps_alone_lift_the_limit_of_epochs(void **state)
{
    (void)state;
    assert_int_equal(config->trainer.max_epochs, 1000);
    assert_reads("trainer:\n  max_steps: 30\n");
    assert_int_equal(config->trainer.max_epochs, -1);
    light_string yaml = {0};
    light_config_write_yaml(config, &yaml, false);
    assert_non_null(strstr(light_string_text(&yaml), "\n  max_epochs: -1\n"));
    light_string_free(&yaml);
    assert_reads("trainer:\n  max_steps: -1\n");
    assert_int_equal(config->trainer.max_epochs, 1000);
    assert_reads("trainer:\n  max_epochs: 1000\n  max_steps: 30\n");
    assert_int_equal(config->trainer.max_epochs, 1000);
}

static void test_sections_of_scalars_are_read(void **state)
{
    (void)state;
    assert_reads("# a comment\n"
                 "seed_everything: 7\n"
                 "ckpt_path: some/where\n"
                 "trainer:\n"
                 "  max_epochs: 3   # so many\n"
                 "  limit_train_batches: 0.5\n"
                 "  enable_progress_bar: off\n"
                 "model: {hidden: 16, lr: 3.0e-4, name: \"a b\", kind: 'tanh'}\n"
                 "data:\n"
                 "  batch_size: 1e2\n");
    assert_int_equal(config->trainer.seed, 7);
    assert_string_equal(config->ckpt_path, "some/where");
    assert_int_equal(config->trainer.max_epochs, 3);
    assert_string_equal(config->trainer.limit_train_batches, "0.5");
    assert_int_equal(config->trainer.enable_progress_bar, LIGHT_OFF);
    assert_int_equal(model()->hidden, 16);
    assert_true(model()->lr == 3e-4f);
    assert_string_equal(model()->name, "a b");
    assert_string_equal(model()->kind, "tanh");
    assert_int_equal(((points *)config->data)->batch_size, 100);
}

static void test_empty_files_change_nothing(void **state)
{
    (void)state;
    assert_reads("");
    assert_reads("# only a comment\n\n");
    assert_reads("---\n");
    assert_reads("~\n");
    assert_reads("{}\n");
    assert_reads("trainer:\nmodel: {}\n");
    assert_false(config->customized);
}

static void test_null_keeps_what_was_there(void **state)
{
    (void)state;
    assert_reads("model:\n  hidden: 16\n  name:\n  lr: null\n  kind: ~\n");
    assert_reads("model:\n  hidden:\n");
    assert_int_equal(model()->hidden, 16);
    assert_string_equal(model()->name, "plain");
    assert_reads("model:\n  name: \"\"\n"); /* a text that is empty is a value */
    assert_string_equal(model()->name, "");
    assert_reads("model:\n  name: \"null\"\n");
    assert_string_equal(model()->name, "null");
}

static void test_wrong_types_and_ranges(void **state)
{
    (void)state;
    assert_problem("trainer:\n  max_epochs: three\n",
                   "f.yaml:2: trainer.max_epochs \"three\": expected a whole number");
    assert_problem("model:\n  lr: 0.1\n\n  hidden: 65\n",
                   "f.yaml:4: model.hidden 65: must be between 1 and 64");
    assert_problem("model:\n  fancy: 3\n", "f.yaml:2: model.fancy \"3\": expected true or false");
    assert_problem("model:\n  kind: relo\n",
                   "f.yaml:2: model.kind \"relo\": expected one of relu|tanh (did you mean relu?)");
    assert_problem("data:\n  batch_size: 0\n", "f.yaml:2: data.batch_size 0: must be at least 1");
    assert_problem("seed_everything: yes\n", "f.yaml:1: seed_everything \"yes\": expected a whole number");
}

static void test_unknown_names_get_the_nearest(void **state)
{
    (void)state;
    assert_problem("trainer:\n  max_epoch: 3\n",
                   "f.yaml:2: unknown option \"trainer.max_epoch\" (did you mean trainer.max_epochs?)");
    assert_problem("\ntraner:\n  max_epochs: 3\n",
                   "f.yaml:2: unknown section \"traner\" (did you mean trainer?)");
    assert_problem("max_epochs: 3\n",
                   "f.yaml:1: unknown option \"max_epochs\" (did you mean trainer.max_epochs?)");
    assert_problem("model:\n  batch_size: 3\n",
                   "f.yaml:2: unknown option \"model.batch_size\" (did you mean data.batch_size?)");
    assert_problem("seed_everythin: 3\n",
                   "f.yaml:1: unknown option \"seed_everythin\" (did you mean seed_everything?)");
    assert_problem("model:\n  zzzzzz: 3\n", "f.yaml:2: unknown option \"model.zzzzzz\"");
    assert_problem("zzzzzz: 3\n", "f.yaml:1: unknown option \"zzzzzz\"");
    assert_problem("csv:\n  path: x\n", "f.yaml:1: unknown option \"csv\"");
}

static void test_broken_yaml(void **state)
{
    (void)state;
    assert_problem("trainer:\n\tmax_epochs: 3\n",
                   "f.yaml:2: broken YAML: while scanning for the next token, found "
                   "character that cannot start any token");
    assert_problem("model: {hidden: 3\n",
                   "f.yaml:2: broken YAML: while parsing a flow mapping, did not find expected "
                   "',' or '}'");
    assert_problem("model:\n\n  name: a hidden: 1\n",
                   "f.yaml:3: broken YAML: mapping values are not allowed in this context");
    /* A deeper line goes on with the value above it. */
    assert_problem("trainer:\n  max_epochs: 3\n    min_epochs: 1\n",
                   "f.yaml:2: trainer.max_epochs \"3 min_epochs\": expected a whole number");
    assert_problem("model:\n  name: \"open\n",
                   "f.yaml:3: broken YAML: while scanning a quoted scalar, found unexpected "
                   "end of stream");
    assert_problem("model:\n  lr: 1\n  name: \xff\n", "f.yaml:3: broken YAML: invalid leading UTF-8 octet");
    assert_problem("model:\n  name: a\x01z\n", "f.yaml:2: broken YAML: control characters are not allowed");
}

static void test_what_is_no_scalar(void **state)
{
    (void)state;
    assert_problem("model:\n  hidden:\n    - 1\n    - 2\n",
                   "f.yaml:3: model.hidden: expected one value, found a list");
    assert_problem("model:\n  hidden: [1, 2]\n", "f.yaml:2: model.hidden: expected one value, found a list");
    assert_problem("model:\n  hidden: {a: 1}\n",
                   "f.yaml:2: model.hidden: expected one value, found a section");
    assert_problem("model:\n  hidden: &h 3\n  seen: *h\n",
                   "f.yaml:3: model.seen: expected one value, found an alias");
    assert_problem("- 1\n- 2\n", "f.yaml:1: top level: expected sections, found a list");
    assert_problem("hello\n", "f.yaml:1: top level: expected sections, found a value");
    assert_problem("model: 3\n", "f.yaml:1: model: expected options, indented, one a line, found a value");
    assert_problem("model:\n  - hidden\n",
                   "f.yaml:2: model: expected options, indented, one a line, found a list");
    assert_problem("model:\n  ? [a]\n  : 1\n",
                   "f.yaml:2: model: expected the name of an option, found a list");
    assert_problem("? {a: 1}\n: 1\n", "f.yaml:1: top level: expected the name of a section, found a section");
}

static void test_duplicates(void **state)
{
    (void)state;
    assert_problem("model:\n  lr: 1\n  hidden: 2\n  lr: 3\n", "f.yaml:4: model.lr is set twice in this file");
    assert_problem("model:\n  lr: 1\ndata:\nmodel:\n  hidden: 2\n",
                   "f.yaml:4: model is set twice in this file");
    assert_problem("seed_everything: 1\ntrainer:\n  seed: 2\n",
                   "f.yaml:3: seed_everything is set twice in this file");
    assert_reads("model:\n  lr: 1\n");
    assert_reads("model:\n  lr: 2\n"); /* another file */
    assert_true(model()->lr == 2);
}

static void test_second_document(void **state)
{
    (void)state;
    assert_problem("model:\n  lr: 1\n---\nmodel:\n  lr: 2\n", "f.yaml:3: a second document; one is expected");
    assert_reads("---\nmodel:\n  lr: 1\n...\n");
}

static void test_files_that_are_not_there(void **state)
{
    (void)state;
    char message[700];
    assert_int_not_equal(light_config_read_yaml(config, at("none.yaml")), LIGHT_OK);
    snprintf(message, sizeof message, "cannot open %s: No such file or directory", at("none.yaml"));
    assert_string_equal(light_error_message(), message);
}

/* ---- writing ------------------------------------------------------------ */

static char *written(bool comments)
{
    light_string text = {0};
    char *yaml;
    light_config_write_yaml(config, &text, comments);
    assert_int_equal(light_string_take(&text, &yaml), LIGHT_OK);
    return yaml;
}

static void test_what_is_written_reads_back_the_same(void **state)
{
    (void)state;
    static const char nasty[] =
        "tab\t newline\n quote\" back\\slash \x01\x7f : # é € 😀 nel\xc2\x85 sep\xe2\x80\xa8 "
        "bom\xef\xbb\xbf last\xef\xbf\xbf ";
    for (int comments = 0; comments < 2; comments++) {
        assert_int_equal(light_config_set(config, "model.name", nasty, "x"), LIGHT_OK);
        assert_int_equal(light_config_set(config, "model.lr", "0.1", "x"), LIGHT_OK);
        assert_int_equal(light_config_set(config, "model.decay", "0.30000000000000004", "x"), LIGHT_OK);
        assert_int_equal(light_config_set(config, "model.seen", "-9007199254740993", "x"), LIGHT_OK);
        assert_int_equal(light_config_set(config, "trainer.name", "null", "x"), LIGHT_OK);
        assert_int_equal(light_config_set(config, "trainer.limit_val_batches", "1", "x"), LIGHT_OK);
        assert_int_equal(light_config_set(config, "early_stopping.monitor", "no", "x"), LIGHT_OK);
        assert_int_equal(light_config_set(config, "ckpt_path", "a: b", "x"), LIGHT_OK);
        assert_int_equal(light_config_set(config, "seed_everything", "42", "x"), LIGHT_OK);
        char *first = written(comments);
        free_config(NULL);
        assert_int_equal(new_config(NULL), 0);
        put("f.yaml", first);
        if (light_config_read_yaml(config, at("f.yaml"))) fail_msg("%s\n%s", light_error_message(), first);
        assert_string_equal(model()->name, nasty);
        assert_true(model()->decay == 0.30000000000000004);
        assert_null(model()->nothing);
        assert_string_equal(config->trainer.limit_val_batches, "1");
        char *second = written(comments);
        assert_string_equal(first, second);
        light_free(first);
        light_free(second);
    }
}

static void test_long_texts_are_written_whole(void **state)
{
    (void)state;
    static char text[10001];
    memset(text, 'x', sizeof text - 1);
    assert_int_equal(light_config_set(config, "model.name", text, "x"), LIGHT_OK);
    char *yaml = written(false);
    assert_non_null(strstr(yaml, text));
    light_free(yaml);
}

static void test_text_that_yaml_cannot_hold_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"\xff",    "a\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                      "\xe2\x82"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(light_config_set(config, "model.name", bad[i], "--model.name"), LIGHT_ERR_ARGUMENT);
    assert_string_equal(model()->name, "plain");
}

static void test_comments_are_the_options_help(void **state)
{
    (void)state;
    char *yaml = written(true);
    assert_non_null(strstr(yaml, "  # width of the hidden layer\n  hidden: 8\n"));
    assert_non_null(strstr(
        yaml, "  # epochs at most; -1: no limit, as where max_steps alone is given\n  max_epochs: 1000\n"));
    light_free(yaml);
    yaml = written(false);
    assert_null(strchr(yaml, '#'));
    light_free(yaml);
}

static void test_callbacks_appear_when_they_are_used(void **state)
{
    (void)state;
    char *yaml = written(false);
    assert_null(strstr(yaml, "early_stopping"));
    light_free(yaml);
    assert_reads("early_stopping:\n  patience: 5\n");
    yaml = written(false);
    assert_non_null(strstr(yaml, "early_stopping:\n  monitor: \"\"\n"));
    assert_non_null(strstr(yaml, "  patience: 5\n"));
    light_free(yaml);
}

/* A callback that the program gives is the one that its section sets. */
static void test_section_of_a_callback_of_the_program(void **state)
{
    (void)state;
    free_config(NULL);
    light_callback *stop = light_early_stopping(.monitor = "val_loss", .patience = 9);
    light_cli_options options = {.trainer.callbacks = {stop}};
    assert_int_equal(light_config_new(&config, &tiny_vtable, &points_vtable, &options), LIGHT_OK);
    char *yaml = written(false);
    assert_non_null(strstr(yaml, "early_stopping:\n  monitor: \"val_loss\"\n"));
    assert_non_null(strstr(yaml, "  patience: 9\n"));
    light_free(yaml);
    assert_reads("early_stopping:\n  patience: 4\n");
    light_config_section *section = light_config_section_find(config, "early_stopping");
    assert_ptr_equal(section->object, stop);
    light_trainer *t = light_config_trainer(config);
    assert_non_null(t);
    assert_ptr_equal(light_trainer_get_options(t)->callbacks[0], stop);
    assert_null(light_trainer_get_options(t)->callbacks[1]);
    light_trainer_free(t);
}

/* Whatever allocation fails while a file is read, it is told and nothing leaks. */
static void test_out_of_memory(void **state)
{
    (void)state;
    put("f.yaml",
        "trainer:\n  max_epochs: 3\nmodel:\n  name: remembered nowhere before\nseed_everything: 3\n");
    int failures = 0;
    for (int n = 1; n < 100; n++) {
        light_memory_fail_nth(n);
        light_status status = light_config_read_yaml(config, at("f.yaml"));
        light_memory_fail_nth(0);
        if (status == LIGHT_OK) break;
        assert_int_equal(status, LIGHT_ERR_MEMORY);
        failures++;
    }
    assert_true(failures > 3);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, new_config, free_config)

static int all_tests(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_sections_of_scalars_are_read),
        TEST(test_steps_alone_lift_the_limit_of_epochs),
        TEST(test_empty_files_change_nothing),
        TEST(test_null_keeps_what_was_there),
        TEST(test_wrong_types_and_ranges),
        TEST(test_unknown_names_get_the_nearest),
        TEST(test_broken_yaml),
        TEST(test_what_is_no_scalar),
        TEST(test_duplicates),
        TEST(test_second_document),
        TEST(test_files_that_are_not_there),
        TEST(test_what_is_written_reads_back_the_same),
        TEST(test_long_texts_are_written_whole),
        TEST(test_text_that_yaml_cannot_hold_is_refused),
        TEST(test_comments_are_the_options_help),
        TEST(test_callbacks_appear_when_they_are_used),
        TEST(test_section_of_a_callback_of_the_program),
        TEST(test_out_of_memory),
    };
    return cmocka_run_group_tests_name("YAML", tests, make_folder, remove_folder);
}

PROGRAM_MAIN(.description = "A tiny program.")
