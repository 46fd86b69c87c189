/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of a program: fit, validate, test, predict. */
#include "config/config.h"

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/world.h"

#include <light/message.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    light_stage stage;
    const char *help;
} commands[] = {
    {"fit", LIGHT_STAGE_FIT, "train, with validation"},
    {"validate", LIGHT_STAGE_VALIDATE, "run the validation set on a checkpoint"},
    {"test", LIGHT_STAGE_TEST, "run the test set on a checkpoint"},
    {"predict", LIGHT_STAGE_PREDICT, "write a checkpoint's predictions to predictions.csv"},
};
#define COMMANDS (sizeof commands / sizeof *commands)

typedef struct cli {
    const char *program;
    int argc;
    char **argv;
    light_stage stage;
    light_config *config;
    const light_cli_options *options;
    bool print_config, comments, print_precision, done; /* done: help was printed */
} cli;

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Processes of a job have the same command line, so what is wrong is mostly wrong for all: the first one says it. The
 * others speak when the job has not ended meanwhile. */
static void complain(const cli *c)
{
    if (light_world_get()->rank > 0) sleep(1);
    light_message(LIGHT_MESSAGE_ERROR, "%s: %s", c->program, light_error_message());
}

/* ---- help --------------------------------------------------------------- */

static void help_section(light_string *out, const light_config_section *s)
{
    light_string_printf(out, "%s options (%s):\n", s->name, s->help);
    for (const light_option *o = s->options; o && o->name; o++) {
        static const char *const types[] = {"",       "BOOL",   "NUMBER", "NUMBER",
                                            "NUMBER", "NUMBER", "BOOL",   "TEXT"};
        char text[512];
        light_string_printf(out, "  --%s.%s %s\n      %s", s->name, o->name,
                            o->choices ? o->choices : types[o->type], o->help ? o->help : "");
        light_option_get(o, s->object, text, sizeof text);
        light_string_printf(out, " (default: %s)\n", text[0] ? text : "\"\"");
    }
}

static void help(cli *c, bool all)
{
    light_string out = {0};
    if (c->options->description) light_string_printf(&out, "%s\n\n", c->options->description);
    light_string_printf(&out, "usage: %s COMMAND [--config FILE] [--SECTION.OPTION VALUE ..]\n\ncommands:\n",
                        c->program);
    for (size_t i = 0; i < COMMANDS; i++)
        light_string_printf(&out, "  %-10s %s\n", commands[i].name, commands[i].help);
    light_string_append(
        &out, "\noptions:\n"
              "  --config FILE           YAML file of options; may be given again, the later wins\n"
              "  --ckpt_path PATH        last, best or a path: fit goes on from it, the others use it\n"
              "  --seed_everything N     seed of initial values, shuffling and dropout\n"
              "  --print_config[=comments]  print the configuration and stop\n"
              "  --print_precision       print which dtype each operation runs in and stop\n"
              "  --help, --SECTION.help  this text, the options of a section\n"
              "  --version\n\nsections:\n");
    for (int i = 0; i < c->config->n; i++)
        light_string_printf(&out, "  %-22s %s\n", c->config->sections[i].name, c->config->sections[i].help);
    light_string_append(&out, "\nEach option is an environment variable too: LIGHT_TRAINER__MAX_EPOCHS=3.\n");
    for (int i = 0; all && i < c->config->n; i++) {
        light_string_append(&out, "\n");
        help_section(&out, &c->config->sections[i]);
    }
    light_output(light_string_text(&out));
    light_string_free(&out);
    c->done = true;
}

static bool section_help(cli *c, const char *name)
{
    size_t length = strlen(name);
    char section[64];
    light_string out = {0};
    if (length < 6 || length >= sizeof section || strcmp(name + length - 5, ".help")) return false;
    snprintf(section, sizeof section, "%.*s", (int)(length - 5), name);
    const light_config_section *s = light_config_section_find(c->config, section);
    if (!s) return false;
    help_section(&out, s);
    light_output(light_string_text(&out));
    light_string_free(&out);
    c->done = true;
    return true;
}

/* ---- arguments ---------------------------------------------------------- */

typedef struct argument {
    char name[128];
    const char *value; /* behind "="; NULL: none there */
} argument;

static light_status split(const char *text, argument *a)
{
    if (strncmp(text, "--", 2) || !text[2])
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "\"%s\" is no option; options are --SECTION.NAME VALUE (see --help)", text);
    const char *equals = strchr(text, '=');
    size_t length = equals ? (size_t)(equals - text - 2) : strlen(text + 2);
    if (length >= sizeof a->name) return light_fail(LIGHT_ERR_ARGUMENT, "unknown option %s", text);
    memcpy(a->name, text + 2, length);
    a->name[length] = '\0';
    a->value = equals ? equals + 1 : NULL;
    return LIGHT_OK;
}

/* The value of argument *i, which may be the next one. */
static const char *value_of(cli *c, const argument *a, int *i)
{
    if (a->value) return a->value;
    bool next = *i + 1 < c->argc && strncmp(c->argv[*i + 1], "--", 2);
    return next ? c->argv[++*i] : NULL;
}

static light_status set_option(cli *c, const argument *a, int *i)
{
    char where[160];
    light_config_section *section;
    snprintf(where, sizeof where, "--%s", a->name);
    const light_option *o = light_config_find(c->config, a->name, &section);
    if (!o) return light_config_unknown(c->config, a->name, where, "--");
    const char *value = value_of(c, a, i);
    if (!value && (o->type == LIGHT_OPTION_BOOL || o->type == LIGHT_OPTION_SWITCH)) value = "true";
    if (!value) return light_fail(LIGHT_ERR_ARGUMENT, "%s needs a value: %s", where, o->help ? o->help : "");
    return light_config_set(c->config, a->name, value, where);
}

/* Help comes before everything else, so that it shows defaults, and comes even when other arguments are wrong. */
static bool read_help(cli *c)
{
    for (int i = 2; i < c->argc && !c->done; i++) {
        if (!strcmp(c->argv[i], "-h") || !strcmp(c->argv[i], "--help"))
            help(c, true);
        else if (!strncmp(c->argv[i], "--", 2))
            section_help(c, c->argv[i] + 2);
    }
    return c->done;
}

/* Files come before the options on the line, wherever they stand. */
static light_status read_files(cli *c)
{
    for (int i = 2; i < c->argc; i++) {
        argument a;
        if (split(c->argv[i], &a) != LIGHT_OK || strcmp(a.name, "config")) continue;
        const char *path = value_of(c, &a, &i);
        if (!path) return light_fail(LIGHT_ERR_ARGUMENT, "--config needs the name of a YAML file");
        LIGHT_TRY(light_config_read_yaml(c->config, path));
    }
    return LIGHT_OK;
}

static light_status read_arguments(cli *c)
{
    for (int i = 2; i < c->argc; i++) {
        argument a;
        LIGHT_TRY(split(c->argv[i], &a));
        if (!strcmp(a.name, "config")) {
            value_of(c, &a, &i);
        } else if (!strcmp(a.name, "print_config")) {
            if (a.value && strcmp(a.value, "comments"))
                return light_fail(LIGHT_ERR_ARGUMENT,
                                  "--print_config=%s: expected --print_config or --print_config=comments",
                                  a.value);
            c->print_config = true;
            c->comments = a.value != NULL;
        } else if (!strcmp(a.name, "print_precision") && !a.value) {
            c->print_precision = true;
        } else {
            LIGHT_TRY(set_option(c, &a, &i));
        }
    }
    return LIGHT_OK;
}

static light_status read_command(cli *c)
{
    const char *command = c->argc > 1 ? c->argv[1] : NULL;
    if (!command || !strcmp(command, "--help") || !strcmp(command, "-h") || !strcmp(command, "help")) {
        help(c, false);
        return command ? LIGHT_OK
                       : light_fail(LIGHT_ERR_ARGUMENT, "which command? fit, validate, test or predict");
    }
    if (!strcmp(command, "--version")) {
        light_output("liblight " LIGHT_VERSION_TEXT "\n");
        c->done = true;
        return LIGHT_OK;
    }
    if (!strncmp(command, "--", 2) && section_help(c, command + 2)) return LIGHT_OK;
    if (command[0] == '-')
        return light_fail(LIGHT_ERR_ARGUMENT, "the command comes first: %s fit %s .. (see --help)",
                          c->program, command);
    light_nearest nearest = {.wanted = command};
    for (size_t i = 0; i < COMMANDS; i++) {
        if (!strcmp(command, commands[i].name)) {
            c->stage = commands[i].stage;
            return LIGHT_OK;
        }
        light_nearest_offer(&nearest, commands[i].name);
    }
    if (nearest.best)
        return light_fail(LIGHT_ERR_ARGUMENT, "unknown command \"%s\" (did you mean %s?)", command,
                          nearest.best);
    return light_fail(LIGHT_ERR_ARGUMENT, "unknown command \"%s\": expected fit, validate, test or predict",
                      command);
}

static light_status configure(cli *c)
{
    LIGHT_TRY(read_command(c));
    if (c->done || read_help(c)) return LIGHT_OK;
    LIGHT_TRY(read_files(c));
    LIGHT_TRY(light_config_read_environment(c->config));
    return read_arguments(c);
}

/* ---- after a run -------------------------------------------------------- */

static bool exists_in(const char *folder, const char *name)
{
    char *path = light_path_join(folder, name);
    bool found = path && (light_file_exists(path) || light_directory_exists(path));
    light_free(path);
    return found;
}

static void tell_file(const char *folder, const char *name, const char *what)
{
    if (exists_in(folder, name)) light_message(LIGHT_MESSAGE_INFO, "  %-20s %s", name, what);
}

/* As it can be pasted into a shell. */
static void append_word(light_string *out, const char *word)
{
    bool plain = !strpbrk(word, " \t\n'\"\\$`&|;<>()*?[]#~!{}");
    if (plain) {
        light_string_append(out, word);
        return;
    }
    light_string_append(out, "'");
    for (; *word; word++)
        if (*word == '\'')
            light_string_append(out, "'\\''");
        else
            light_string_append_bytes(out, word, 1);
    light_string_append(out, "'");
}

/* The line that goes on from this run. What was set for this run is set again, through its config.yaml. */
static void tell_next(const cli *c, const char *before, const char *command, const char *folder,
                      const char *arguments)
{
    light_string line = {0};
    append_word(&line, c->argv[0]);
    light_string_printf(&line, " %s", command);
    if (c->config->customized && exists_in(folder, "config.yaml")) {
        char *path = light_path_join(folder, "config.yaml");
        light_string_append(&line, " --config ");
        append_word(&line, path ? path : "");
        light_free(path);
    }
    light_message(LIGHT_MESSAGE_INFO, "%s%s %s", before, light_string_text(&line), arguments);
    light_string_free(&line);
}

static void tell_files(const char *folder)
{
    light_message(LIGHT_MESSAGE_INFO, "this run is in %s:", folder);
    tell_file(folder, "config.yaml", "its configuration, for --config");
    tell_file(folder, "metrics.csv", "what was logged");
    tell_file(folder, "learning_curve.svg", "the same as a picture");
    tell_file(folder, "checkpoints/best", "the best model");
    tell_file(folder, "checkpoints/last", "the newest state");
    tell_file(folder, "predictions.csv", "predictions");
}

static void tell_where(const cli *c, light_trainer *t)
{
    char more[96];
    const char *folder = light_trainer_log_dir(t), *before = "next: ";
    const light_module_vtable *module = &t->module_hooks;
    if (!folder[0]) return;
    tell_files(folder);
    if (c->stage == LIGHT_STAGE_FIT && module->test_step && exists_in(folder, "checkpoints/best") &&
        light_datamodule_has_loader(c->config->data, LIGHT_STAGE_TEST)) {
        tell_next(c, before, "test", folder, "--ckpt_path best");
        before = "      ";
    }
    if (c->stage == LIGHT_STAGE_TEST && module->predict_step &&
        light_datamodule_has_loader(c->config->data, LIGHT_STAGE_PREDICT))
        tell_next(c, before, "predict", folder, "--ckpt_path best");
    if (c->stage != LIGHT_STAGE_FIT || !exists_in(folder, "checkpoints/last")) return;
    int64_t steps = t->options.max_steps;
    if (steps > 0 && light_trainer_global_step(t) >= steps)
        snprintf(more, sizeof more, "--ckpt_path last --trainer.max_steps %lld", 2 * (long long)steps);
    else
        snprintf(more, sizeof more, "--ckpt_path last --trainer.max_epochs %lld",
                 (long long)light_trainer_current_epoch(t) + 5);
    tell_next(c, before, "fit", folder, more);
}

/* The same line again, from the newest checkpoint. */
static void tell_how_to_go_on(cli *c, light_status status)
{
    light_string line = {0};
    bool as_before = status != LIGHT_ERR_NOT_FOUND; /* a metric under another name would be missing again */
    append_word(&line, c->argv[0]);
    light_string_append(&line, " fit");
    for (int i = 2; i < c->argc; i++) {
        argument a;
        if (split(c->argv[i], &a) == LIGHT_OK && !strcmp(a.name, "ckpt_path")) {
            value_of(c, &a, &i);
            continue;
        }
        light_string_append(&line, " ");
        append_word(&line, c->argv[i]);
    }
    light_message(LIGHT_MESSAGE_INFO, "%s: %s --ckpt_path last",
                  as_before ? "to go on" : "to go on, with that put right", light_string_text(&line));
    light_string_free(&line);
}

static int exit_code(cli *c, light_trainer *t, light_status status)
{
    const char *folder = light_trainer_log_dir(t);
    if (status == LIGHT_OK) {
        const char *reason = light_trainer_stop_reason(t);
        if (reason[0]) light_message(LIGHT_MESSAGE_INFO, "stopped: %s", reason);
        if (c->stage == LIGHT_STAGE_FIT || c->stage == LIGHT_STAGE_TEST) tell_where(c, t);
        return light_exit_code(status);
    }
    if (status == LIGHT_ERR_PEER) return light_exit_code(status); /* it has been told */
    /* All ranks stop at the same step; the first one says it. */
    if (status == LIGHT_ERR_INTERRUPTED && light_trainer_global_rank(t) > 0) return light_exit_code(status);
    complain(c);
    if (status == LIGHT_ERR_FORMAT && light_trainer_ckpt_path(t)[0] && exists_in(folder, "config.yaml"))
        light_message(LIGHT_MESSAGE_INFO, "the options of that checkpoint's run: --config %s/config.yaml",
                      folder);
    /* A file that is damaged, or a checkpoint of another model, would be so the next time too. */
    if (c->stage == LIGHT_STAGE_FIT && status != LIGHT_ERR_FORMAT && folder[0] &&
        exists_in(folder, "checkpoints/last"))
        tell_how_to_go_on(c, status);
    return light_exit_code(status);
}

static light_status run(const cli *c, light_trainer *t, const light_run_options *options)
{
    const light_config *config = c->config;
    switch (c->stage) {
    case LIGHT_STAGE_FIT: return light_trainer_fit_with(t, config->model, config->data, options);
    case LIGHT_STAGE_VALIDATE: return light_trainer_validate_with(t, config->model, config->data, options);
    case LIGHT_STAGE_TEST: return light_trainer_test_with(t, config->model, config->data, options);
    case LIGHT_STAGE_PREDICT: return light_trainer_predict_with(t, config->model, config->data, options);
    }
    return light_fail(LIGHT_ERR_INTERNAL, "no stage %d", (int)c->stage);
}

static int train(cli *c)
{
    light_string yaml = {0};
    const char *path = c->config->ckpt_path;
    if (!path[0] && c->stage != LIGHT_STAGE_FIT) path = "best";
    /* Where predictions go is that callback's business. */
    light_config_section *writer = light_config_section_find(c->config, "prediction_writer");
    if (writer && c->stage == LIGHT_STAGE_PREDICT) writer->touched = true;
    light_config_write_yaml(c->config, &yaml, false);
    light_trainer *t = light_config_trainer(c->config);
    light_status status = t ? light_trainer_set_config(t, light_string_text(&yaml)) : LIGHT_ERR_ARGUMENT;
    light_string_free(&yaml);
    if (status == LIGHT_OK) status = run(c, t, &(light_run_options){.ckpt_path = path[0] ? path : NULL});
    int code = LIGHT_EXIT_USAGE;
    if (t)
        code = exit_code(c, t, status);
    else
        complain(c);
    light_trainer_free(t);
    return code;
}

static void print_config(const cli *c)
{
    light_string yaml = {0};
    light_config_write_yaml(c->config, &yaml, c->comments);
    light_output(light_string_text(&yaml));
    light_string_free(&yaml);
}

int light_cli_with(int argc, char **argv, const light_module_vtable *module,
                   const light_datamodule_vtable *data, const light_cli_options *options)
{
    cli c = {
        .program = argc > 0 ? base_name(argv[0]) : "program", .argc = argc, .argv = argv, .options = options};
    int code = 0;
    light_status status = light_config_new(&c.config, module, data, options);
    if (status != LIGHT_OK)
        code = LIGHT_EXIT_FAILED; /* the program's fault, not its user's */
    else if ((status = configure(&c)) != LIGHT_OK)
        code = LIGHT_EXIT_USAGE;
    if (status != LIGHT_OK)
        complain(&c);
    else if (c.print_config)
        print_config(&c);
    else if (c.print_precision)
        light_print_precision();
    else if (!c.done)
        code = train(&c);
    light_config_free(c.config);
    return code;
}
