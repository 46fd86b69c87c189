/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration of a program: sections of options, filled from defaults, files, environment and command line.
 *
 * Sections are "trainer", "model", "data", and one for each callback that is known by name. Setting an option of a
 * callback's section adds that callback to the trainer; where the program gives one of that kind itself, the section is
 * that one's. */
#ifndef LIGHT_CONFIG_CONFIG_H
#define LIGHT_CONFIG_CONFIG_H

#include "base/string.h"
#include "trainer/trainer.h"

#include <light/cli.h>

#define LIGHT_MAX_SECTIONS 32

typedef struct light_config_section {
    const char *name;
    const char *help;
    const light_option *options;
    void *object;
    light_callback *callback; /* of an extension's section: used when an option of it was set */
    bool touched;
} light_config_section;

typedef struct light_config {
    light_config_section sections[LIGHT_MAX_SECTIONS];
    int n;
    light_trainer_options trainer;
    light_module *model;
    light_datamodule *data;
    const char *ckpt_path; /* kept by option.c's texts; "" none */
    bool customized;       /* more was set than how long to train and where from */
    bool epochs_given;     /* max_epochs was, by program or user */
} light_config;

/* With the defaults of option tables and program. Free with light_config_free. */
light_status light_config_new(light_config **out, const light_module_vtable *model,
                              const light_datamodule_vtable *data, const light_cli_options *program);
void light_config_free(light_config *config); /* NULL is fine */

/* Sets "SECTION.OPTION", "seed_everything" or "ckpt_path". `where` begins messages: "--trainer.max_epochs",
 * "fashion.yaml:3: max_epochs". An unknown name is an error with the nearest known one. */
light_status light_config_set(light_config *config, const char *name, const char *text, const char *where);
/* The option behind a name, NULL when there is none. */
const light_option *light_config_find(const light_config *config, const char *name,
                                      light_config_section **section);
light_config_section *light_config_section_find(light_config *config, const char *name);
/* "unknown option WHERE (did you mean ..?)" into the error; `prefix` goes before the suggestion ("--"). */
light_status light_config_unknown(const light_config *config, const char *name, const char *where,
                                  const char *prefix);

light_status light_config_read_yaml(light_config *config, const char *path);
/* Whether YAML can hold the text: it is UTF-8. */
bool light_config_is_text(const char *text);
/* LIGHT_SECTION__OPTION, LIGHT_SEED_EVERYTHING, LIGHT_CKPT_PATH. */
light_status light_config_read_environment(light_config *config);
/* The whole configuration as YAML, which light_config_read_yaml reads back to the same. */
void light_config_write_yaml(const light_config *config, light_string *out, bool comments);

/* The trainer that the configuration describes; callbacks that were configured go over to it. NULL after a failure. */
light_trainer *light_config_trainer(light_config *config);

#endif
