/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters inside the library: walking sets, filling, freeing. */
#ifndef LIGHT_NN_PARAMETER_H
#define LIGHT_NN_PARAMETER_H

#include "tensor/tensor.h"

#include <light/module.h>

/* Memory for the own part of a parameter of which this process keeps no more than that. */
typedef struct light_shard {
    light_storage *values, *grads;
    size_t offset; /* of element own_begin, in bytes, in both */
} light_shard;

/* A window without an owner on the elements [begin, begin + tensor.numel) of a parameter or of what belongs to one. It
 * has the parameter's shape where it is all of it, else it is 1-d. */
typedef struct light_part {
    light_tensor tensor;
    int64_t begin;
} light_part;
/* The part that this process updates and saves. */
light_part light_parameter_own(const light_parameter *p);
light_part light_parameter_own_grad(const light_parameter *p); /* its gradient, where there is one */
/* Of a part that other processes have too, what this one is to save: all together save each element once. */
light_part light_part_to_save(const light_parameter *p, light_part part);
/* The part that lies in its memory for good: all of it, or its own. */
light_part light_parameter_held(const light_parameter *p);

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
