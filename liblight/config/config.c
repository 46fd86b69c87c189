/* SPDX-License-Identifier: Apache-2.0 */
#include "config/config.h"

#include "base/memory.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

extern char **environ;

/* The two names that stand outside of sections. */
static const light_option ckpt_path_option = {.name = "ckpt_path",
                                              .type = LIGHT_OPTION_STRING,
                                              .offset = offsetof(light_config, ckpt_path),
                                              .string = "",
                                              .help = "checkpoint to go on from: last, best or a path"};

/* ---- sections ----------------------------------------------------------- */

static light_status add_section(light_config *c, const char *name, const char *help,
                                const light_option *options, void *object, light_callback *callback)
{
    if (c->n == LIGHT_MAX_SECTIONS) {
        light_callback_free(callback);
        return light_fail(LIGHT_ERR_INTERNAL, "more than %d sections of options", LIGHT_MAX_SECTIONS);
    }
    c->sections[c->n++] = (light_config_section){name, help, options, object, callback, false};
    return LIGHT_OK;
}

/* The callback of that kind which the program itself gives to the trainer. */
static light_callback *program_callback(const light_config *c, const light_callback_vtable *vtable)
{
    for (int i = 0; i < LIGHT_MAX_CALLBACKS; i++)
        if (c->trainer.callbacks[i] && c->trainer.callbacks[i]->vtable == vtable)
            return c->trainer.callbacks[i];
    return NULL;
}

static light_status add_extensions(light_config *c)
{
    for (const light_extension *e = light_extensions; e->name; e++) {
        if (!e->callback || !e->callback->options) continue;
        light_callback *callback = program_callback(c, e->callback);
        if (callback) {
            LIGHT_TRY(
                add_section(c, e->name, "callback of this program", e->callback->options, callback, NULL));
            continue;
        }
        callback = light_callback_new(e->callback);
        if (!callback) return LIGHT_ERR_MEMORY;
        LIGHT_TRY(add_section(c, e->name, "callback; setting one of these adds it", e->callback->options,
                              callback, callback));
    }
    return LIGHT_OK;
}

static light_status fill(light_config *c, const light_module_vtable *model,
                         const light_datamodule_vtable *data, const light_cli_options *program)
{
    c->trainer = program->trainer; /* its callbacks and loggers */
    light_options_default(light_trainer_option_table, &c->trainer);
    light_options_merge(light_trainer_option_table, &c->trainer, &program->trainer, 0);
    c->epochs_given = program->trainer.max_epochs != 0;
    if (!c->epochs_given) light_trainer_default_epochs(&c->trainer);
    c->ckpt_path = "";
    if (!(c->model = light_module_new(model))) return LIGHT_ERR_ARGUMENT;
    if (!(c->data = light_datamodule_new(data))) return LIGHT_ERR_ARGUMENT;
    LIGHT_TRY(add_section(c, "trainer", "how to train", light_trainer_option_table, &c->trainer, NULL));
    LIGHT_TRY(add_section(c, "model", model->name, model->options, c->model, NULL));
    LIGHT_TRY(add_section(c, "data", data->name, data->options, c->data, NULL));
    return add_extensions(c);
}

light_status light_config_new(light_config **out, const light_module_vtable *model,
                              const light_datamodule_vtable *data, const light_cli_options *program)
{
    light_config *c = light_calloc(1, sizeof *c);
    if (!c) return LIGHT_ERR_MEMORY;
    light_status status = fill(c, model, data, program);
    if (status != LIGHT_OK)
        light_config_free(c);
    else
        *out = c;
    return status;
}

void light_config_free(light_config *c)
{
    if (!c) return;
    for (int i = 0; i < c->n; i++) light_callback_free(c->sections[i].callback);
    for (int i = 0; i < LIGHT_MAX_CALLBACKS; i++) light_callback_free(c->trainer.callbacks[i]);
    for (int i = 0; i < LIGHT_MAX_LOGGERS; i++) light_logger_free(c->trainer.loggers[i]);
    light_module_free(c->model);
    light_datamodule_free(c->data);
    light_free(c);
}

light_config_section *light_config_section_find(light_config *c, const char *name)
{
    for (int i = 0; i < c->n; i++)
        if (!strcmp(c->sections[i].name, name)) return &c->sections[i];
    return NULL;
}

/* ---- names -------------------------------------------------------------- */

const light_option *light_config_find(const light_config *config, const char *name,
                                      light_config_section **section)
{
    light_config *c = (light_config *)config;
    *section = NULL;
    if (!strcmp(name, "ckpt_path")) return &ckpt_path_option;
    if (!strcmp(name, "seed_everything")) name = "trainer.seed";
    const char *dot = strchr(name, '.');
    if (!dot) return NULL;
    for (int i = 0; i < c->n; i++) {
        size_t length = strlen(c->sections[i].name);
        if ((size_t)(dot - name) != length || strncmp(c->sections[i].name, name, length)) continue;
        *section = &c->sections[i];
        return light_option_find(c->sections[i].options, dot + 1);
    }
    return NULL;
}

/* Offers every known name; one that has the right option in a wrong section, or in none, is meant most likely. */
light_status light_config_unknown(const light_config *c, const char *name, const char *where,
                                  const char *prefix)
{
    const char *dot = strrchr(name, '.'), *option = dot ? dot + 1 : name;
    light_string best = {0};
    light_nearest by_option = {.wanted = option}, by_section = {.wanted = NULL};
    char section[64] = "";
    snprintf(section, sizeof section, "%.*s", dot ? (int)(dot - name) : 0, name);
    by_section.wanted = section;
    for (int i = 0; i < c->n; i++) light_nearest_offer(&by_section, c->sections[i].name);
    light_nearest_offer(&by_option, "seed_everything");
    light_nearest_offer(&by_option, "ckpt_path");
    const char *found = by_option.best ? "" : NULL;
    for (int pass = 0; pass < 2; pass++) { /* the section that was meant first */
        for (int i = 0; i < c->n; i++) {
            bool meant = by_section.best && !strcmp(by_section.best, c->sections[i].name);
            if (meant != (pass == 0)) continue;
            for (const light_option *o = c->sections[i].options; o && o->name; o++) {
                const char *before = by_option.best;
                light_nearest_offer(&by_option, o->name);
                if (by_option.best != before) found = c->sections[i].name;
            }
        }
    }
    if (by_option.best && found)
        light_string_printf(&best, " (did you mean %s%s%s%s?)", prefix, found, found[0] ? "." : "",
                            by_option.best);
    light_fail(LIGHT_ERR_ARGUMENT, "unknown option %s%s", where, light_string_text(&best));
    light_string_free(&best);
    return LIGHT_ERR_ARGUMENT;
}

light_status light_config_set(light_config *c, const char *name, const char *text, const char *where)
{
    light_config_section *section;
    const light_option *option = light_config_find(c, name, &section);
    if (!option) return light_config_unknown(c, name, where, "");
    if (option->type == LIGHT_OPTION_STRING && !light_config_is_text(text))
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "%s \"%s\": expected text in UTF-8, which configuration files are written in",
                          where, text);
    LIGHT_TRY(light_option_set(option, section ? section->object : c, text, where));
    if (section) section->touched = true;
    if (!strcmp(name, "trainer.max_epochs")) c->epochs_given = true;
    if (!c->epochs_given) light_trainer_default_epochs(&c->trainer);
    if (section && strcmp(name, "trainer.max_epochs") && strcmp(name, "seed_everything"))
        c->customized = true;
    return LIGHT_OK;
}

/* ---- environment -------------------------------------------------------- */

/* Whether a variable stands for SECTION.OPTION, or for an option outside of sections: "LIGHT_TRAINER__MAX_EPOCHS",
 * "LIGHT_CKPT_PATH". Names of options may have capitals, which the environment cannot show. */
static bool stands_for(const char *variable, size_t length, const char *section, const char *option)
{
    size_t ns = strlen(section), no = strlen(option);
    if (!ns) return length == 6 + no && !strncasecmp(variable + 6, option, no);
    return length == 6 + ns + 2 + no && !strncasecmp(variable + 6, section, ns) &&
           !strncmp(variable + 6 + ns, "__", 2) && !strncasecmp(variable + 6 + ns + 2, option, no);
}

/* The option's name behind NAME=VALUE; false when it is another program's variable. What looks like an option and is
 * none comes out as it would be written, for the message. */
static bool option_of_variable(const light_config *c, const char *variable, char *name, size_t bytes)
{
    static const char *const outside[] = {"seed_everything", "ckpt_path"};
    size_t length = strcspn(variable, "=");
    if (strncmp(variable, "LIGHT_", 6) || length >= bytes) return false;
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        if (stands_for(variable, length, "", outside[i])) {
            snprintf(name, bytes, "%s", outside[i]);
            return true;
        }
    for (int i = 0; i < c->n; i++)
        for (const light_option *o = c->sections[i].options; o && o->name; o++)
            if (stands_for(variable, length, c->sections[i].name, o->name)) {
                snprintf(name, bytes, "%s.%s", c->sections[i].name, o->name);
                return true;
            }
    const char *middle = strstr(variable + 6, "__");
    if (!middle || middle >= variable + length) return false;
    snprintf(name, bytes, "%.*s.%.*s", (int)(middle - variable - 6), variable + 6,
             (int)(variable + length - middle - 2), middle + 2);
    for (char *p = name; *p; p++) *p = (char)tolower((unsigned char)*p);
    return true;
}

light_status light_config_read_environment(light_config *c)
{
    char name[128], where[160];
    light_config_section *section;
    for (char **variable = environ; *variable; variable++) {
        if (!option_of_variable(c, *variable, name, sizeof name)) continue;
        snprintf(where, sizeof where, "environment variable %.*s", (int)strcspn(*variable, "="), *variable);
        if (!light_config_find(c, name, &section)) {
            light_config_unknown(c, name, name, "");
            return light_fail_in(LIGHT_ERR_ARGUMENT, "%s", where);
        }
        LIGHT_TRY(light_config_set(c, name, strchr(*variable, '=') + 1, where));
    }
    return LIGHT_OK;
}

/* ---- trainer ------------------------------------------------------------ */

light_trainer *light_config_trainer(light_config *c)
{
    int n = 0;
    while (n < LIGHT_MAX_CALLBACKS && c->trainer.callbacks[n]) n++;
    for (int i = 0; i < c->n; i++) {
        light_config_section *s = &c->sections[i];
        if (!s->callback || !s->touched) continue;
        if (n == LIGHT_MAX_CALLBACKS) {
            light_fail(LIGHT_ERR_ARGUMENT, "more than %d callbacks", LIGHT_MAX_CALLBACKS);
            return NULL;
        }
        c->trainer.callbacks[n++] = s->callback;
        s->callback = NULL;
    }
    light_trainer *t = light_trainer_new_resolved(&c->trainer);
    /* They are the trainer's now, and it has freed them if it could not be made. */
    memset(c->trainer.callbacks, 0, sizeof c->trainer.callbacks);
    memset(c->trainer.loggers, 0, sizeof c->trainer.loggers);
    return t;
}
