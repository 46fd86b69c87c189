/* SPDX-License-Identifier: Apache-2.0 */
/* The optimizers of a module together, and what manual optimization does with them. */
#include "optim/optimizer.h"
#include "optim/schedule.h"

#include "base/memory.h"

/* ---- the list ----------------------------------------------------------- */

light_status light_optimizers_new(light_optimizers **out)
{
    *out = light_calloc(1, sizeof **out);
    return *out ? LIGHT_OK : LIGHT_ERR_MEMORY;
}

void light_optimizers_free(light_optimizers *optimizers)
{
    if (!optimizers) return;
    for (int i = 0; i < optimizers->n; i++) {
        light_schedule_free(optimizers->entries[i].schedule);
        light_optimizer_free(optimizers->entries[i].optimizer);
    }
    light_free(optimizers->entries);
    light_free(optimizers);
}

static light_status append(light_optimizers *optimizers, light_optimizer *optimizer, light_schedule *schedule)
{
    if (schedule) LIGHT_TRY(light_schedule_attach(schedule, optimizer));
    size_t bytes = (size_t)(optimizers->n + 1) * sizeof *optimizers->entries;
    light_optimizers_entry *entries = light_realloc(optimizers->entries, bytes);
    if (!entries) return LIGHT_ERR_MEMORY;
    entries[optimizers->n++] = (light_optimizers_entry){optimizer, schedule};
    optimizers->entries = entries;
    optimizer->owner = optimizers;
    return LIGHT_OK;
}

light_status light_optimizers_add(light_optimizers *optimizers, light_optimizer *optimizer,
                                  light_schedule *schedule)
{
    light_status status = optimizer ? append(optimizers, optimizer, schedule) : light_error_status();
    if (optimizer && status == LIGHT_OK) return status;
    if (status == LIGHT_OK) status = light_fail(LIGHT_ERR_ARGUMENT, "light_optimizers_add: no optimizer");
    light_schedule_free(schedule);
    light_optimizer_free(optimizer);
    return status;
}

/* ---- manual optimization ------------------------------------------------ */

static bool may_go_on(light_step *s, const light_optimizer *optimizer)
{
    return optimizer && light_step_status(s) == LIGHT_OK;
}

static bool succeeded(light_step *s, light_status status)
{
    if (status != LIGHT_OK) light_step_fail(s, status, "%s", light_error_message());
    return status == LIGHT_OK;
}

void light_optimizer_step(light_step *s, light_optimizer *optimizer)
{
    if (!may_go_on(s, optimizer)) return;
    const light_optimizer_hooks *hooks = optimizer->hooks;
    light_tensor *factor = NULL;
    if (hooks && hooks->before_step && !succeeded(s, hooks->before_step(hooks->user, s, optimizer, &factor)))
        return;
    if (!succeeded(s, light_optimizer_step_now(optimizer, factor))) return;
    if (hooks && hooks->after_step) succeeded(s, hooks->after_step(hooks->user, s, optimizer));
}

void light_zero_grad(light_step *s, light_optimizer *optimizer)
{
    if (!may_go_on(s, optimizer)) return;
    const light_optimizer_hooks *hooks = optimizer->hooks;
    if (hooks && hooks->before_zero_grad && !succeeded(s, hooks->before_zero_grad(hooks->user, s, optimizer)))
        return;
    light_optimizer_zero_grad(optimizer);
}

/* ---- toggling ----------------------------------------------------------- */

typedef enum flag_action { SAVE, CLEAR, RESTORE } flag_action;

static void act(light_optimizer *optimizer, flag_action action)
{
    for (int g = 0; g < optimizer->n_groups; g++)
        for (int64_t i = 0; i < optimizer->groups[g].n; i++) {
            light_optimizer_entry *e = &optimizer->groups[g].entries[i];
            light_tensor *t = e->parameter->tensor;
            if (action == SAVE)
                e->saved_requires = light_requires_grad(t);
            else
                light_set_requires_grad(t, action == RESTORE && e->saved_requires);
        }
}

/* A parameter may belong to several optimizers: all flags are saved before one is changed. */
void light_toggle_optimizer(light_step *s, light_optimizer *optimizer)
{
    if (!may_go_on(s, optimizer)) return;
    light_optimizers *all = optimizer->owner;
    for (int i = 0; all && i < all->n; i++)
        if (all->entries[i].optimizer->toggled) {
            light_step_fail(s, LIGHT_ERR_STATE,
                            "toggle_optimizer: optimizer %d (%s) is toggled; untoggle it first", i,
                            all->entries[i].optimizer->class->name);
            return;
        }
    for (int i = 0; all && i < all->n; i++) act(all->entries[i].optimizer, SAVE);
    for (int i = 0; all && i < all->n; i++)
        if (all->entries[i].optimizer != optimizer) act(all->entries[i].optimizer, CLEAR);
    if (all) act(optimizer, RESTORE);
    optimizer->toggled = true;
}

void light_untoggle_optimizer(light_step *s, light_optimizer *optimizer)
{
    (void)s; /* also after a failure: the flags must come back */
    if (!optimizer || !optimizer->toggled) return;
    light_optimizers *all = optimizer->owner;
    for (int i = 0; all && i < all->n; i++) act(all->entries[i].optimizer, RESTORE);
    optimizer->toggled = false;
}
