/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters inside the library: walking sets, filling, freeing. */
#ifndef LIGHT_NN_PARAMETER_H
#define LIGHT_NN_PARAMETER_H

#include <light/module.h>

/* The parameters of a set, buffers left out: NULL starts, NULL ends. */
light_parameter *light_parameter_set_next(light_parameter_set set, light_parameter *after);
/* Frees the records of one module with their tensors. */
void light_parameters_free(light_module *module);
/* "parent.name" in new memory, NULL when there is none. */
char *light_child_path(const light_module *parent, const char *name);
/* A name for messages: the path, or the type for a root. */
const char *light_module_label(const light_module *module);
/* Names may hold no dot and nothing that a file's path would choke on. */
light_status light_check_name(const light_module *owner, const char *name);

/* Fills `t` from Philox numbers keyed by (seed, path, element). */
light_status light_init_fill(light_tensor *t, light_init init, uint64_t seed, const char *path);

/* Around a module's forward: its path for messages and its mode for dropout. False when it has not been built: the step
 * has failed then, and there is nothing to leave. */
typedef struct light_module_scope {
    const char *path;
    bool training;
} light_module_scope;
bool light_module_enter(light_step *s, const light_module *module, light_module_scope *scope);
void light_module_leave(light_step *s, const light_module_scope *scope);

#endif
