/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: PROGRAM fit|validate|test|predict [--config FILE] [--SECTION.OPTION VALUE ..]. */
#ifndef LIGHT_CLI_H
#define LIGHT_CLI_H

#include <light/trainer.h>

typedef struct light_cli_options {
    const char *description;       /* one line for --help */
    light_trainer_options trainer; /* defaults of this program, and its callbacks and loggers */
} light_cli_options;

/* What main returns: 0, or 1 after a failure, 2 for a wrong command line, 130 after Ctrl-C, 75 after SIGTERM or SIGUSR1
 * with the state saved, 76 when another process of the job is lost. Prints the failure in one line to stderr. */
#define light_cli(argc, argv, module, data, ...)                                                             \
    light_cli_with(argc, argv, module, data, &(light_cli_options){__VA_ARGS__})
LIGHT_API int light_cli_with(int argc, char **argv, const light_module_vtable *module,
                             const light_datamodule_vtable *data, const light_cli_options *options);

#endif
