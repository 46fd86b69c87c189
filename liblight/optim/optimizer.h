/* SPDX-License-Identifier: Apache-2.0 */
/* Inside an optimizer: groups, state, what checkpoints and the trainer use.
 *
 * A group keeps the state of its parameters in one buffer per kind of state, laid out like the parameters themselves,
 * so that a step is one kernel call per run of neighbouring parameters. */
#ifndef LIGHT_OPTIM_OPTIMIZER_H
#define LIGHT_OPTIM_OPTIMIZER_H

#include "tensor/device.h"

#include <light/optim.h>
#include <light/state.h>

#define LIGHT_OPTIMIZER_MAX_STATES 3

/* A kind of optimizer: its defaults, which options it reads, what its state is called. */
typedef struct light_optimizer_class {
    const char *name;
    light_optimizer_kind kind;
    light_optimizer_options defaults;
    const char *reads; /* names of options, each between spaces */
    /* out[1], out[2], out[3] of the kernel. momentum_buffer is there with a momentum only, max_exp_avg_sq with amsgrad,
     * grad_avg with centered. */
    const char *states[LIGHT_OPTIMIZER_MAX_STATES];
} light_optimizer_class;

/* One option, for whoever goes through all of them. */
typedef struct light_optimizer_field {
    const char *name; /* "betas[0]" is called "beta1" */
    size_t offset;
    bool is_bool;
} light_optimizer_field;
extern const light_optimizer_field light_optimizer_fields[];
extern const int light_optimizer_field_count;
double light_optimizer_field_get(const light_optimizer_options *options, int field);
void light_optimizer_field_set(light_optimizer_options *options, int field, double value);
/* `options` with what is zero taken from `defaults`, checked. */
light_status light_optimizer_options_complete(const light_optimizer_class *class,
                                              const light_optimizer_options *options,
                                              const light_optimizer_options *defaults,
                                              light_optimizer_options *out);

typedef struct light_optimizer_entry {
    light_parameter *parameter;
    size_t offset;       /* of its state, in bytes, in each of the group's state buffers */
    int64_t steps;       /* it has had; with those skipped since light_optimizer_settle */
    bool stepped;        /* the last step was one of them */
    bool saved_requires; /* while another optimizer is toggled */
} light_optimizer_entry;

typedef struct light_optimizer_group {
    light_optimizer_options options; /* as they stand now */
    double base_lr;                  /* what schedules start from */
    const char *state_names[LIGHT_OPTIMIZER_MAX_STATES];
    light_storage *states[LIGHT_OPTIMIZER_MAX_STATES];
    int64_t n;
    light_optimizer_entry *entries; /* by flat position */
} light_optimizer_group;

/* What the trainer does around steps of manual optimization. Each may be NULL. */
typedef struct light_optimizer_hooks {
    void *user;
    /* May set *factor, an f32 scalar for the gradients. */
    light_status (*before_step)(void *user, light_step *s, light_optimizer *optimizer, light_tensor **factor);
    light_status (*after_step)(void *user, light_step *s, light_optimizer *optimizer);
    light_status (*before_zero_grad)(void *user, light_step *s, light_optimizer *optimizer);
} light_optimizer_hooks;

struct light_optimizer {
    const light_optimizer_class *class;
    light_device *device;
    int n_groups;
    light_optimizer_group *groups;
    light_optimizers *owner;            /* whose others a toggle switches off; NULL: none */
    const light_optimizer_hooks *hooks; /* NULL: none; outlives the optimizer */
    light_tensor *scaling; /* state of loss scaling (optim/scaler.h), which owns it; NULL: none */
    bool toggled;
};

light_optimizer *light_optimizer_new(const light_optimizer_class *class, light_parameter_set set,
                                     const light_optimizer_options *options);

/* How its gradients are spread over processes; NULL: they are all here. */
const struct light_sharing *light_optimizer_sharing(const light_optimizer *optimizer);

/* ---- several, as configure_optimizers made them -------------------------- */

typedef struct light_optimizers_entry {
    light_optimizer *optimizer;
    light_schedule *schedule; /* or NULL */
} light_optimizers_entry;

struct light_optimizers {
    int n;
    light_optimizers_entry *entries;
};

light_status light_optimizers_new(light_optimizers **out);
void light_optimizers_free(light_optimizers *optimizers); /* with optimizers and schedules; NULL is fine */

/* ---- runs ---------------------------------------------------------------- */

/* Neighbouring parameters as one array: gradients, values, state. The tensors are windows without an owner. */
typedef struct light_optimizer_run {
    light_tensor grad, value, state[LIGHT_OPTIMIZER_MAX_STATES];
    light_tensor lowered; /* the values' 16-bit copy; data NULL: there is none */
    int64_t first, n;     /* entries of the group */
} light_optimizer_run;
/* State `state` of an entry's own part: a window without an owner. */
light_tensor light_optimizer_state_window(const light_optimizer_group *group, int64_t entry, int state);
/* The next run of `group` from entry *at on whose gradients are there; advances *at. False at the end. */
bool light_optimizer_next_run(const light_optimizer_group *group, int64_t *at, light_optimizer_run *run);

/* Takes the steps that loss scaling has skipped out of `steps`. Reads the device. */
light_status light_optimizer_settle(light_optimizer *optimizer);

/* Counts a step that the device has done without light_optimizer_step_now. */
void light_optimizer_count_step(light_optimizer *optimizer);

/* ---- state for checkpoints ----------------------------------------------- */

typedef struct light_optimizer_state {
    light_parameter *parameter; /* its path and shape */
    const char *name;           /* "exp_avg" */
    light_tensor
        tensor; /* of the own part (nn/parameter.h): a window without an owner, for reading and writing */
} light_optimizer_state;
/* All state tensors: i from 0; false when there is no i-th. */
bool light_optimizer_state_at(light_optimizer *optimizer, int64_t i, light_optimizer_state *out);
/* The one of a parameter, by path and name; false when there is none. */
bool light_optimizer_find_state(light_optimizer *optimizer, const char *path, const char *name,
                                light_optimizer_state *out);
/* The rest: the groups' hyperparameters and the steps of each parameter. */
light_status light_optimizer_save(light_optimizer *optimizer, light_state *state);
light_status light_optimizer_load(light_optimizer *optimizer, const light_state *state);

#endif
