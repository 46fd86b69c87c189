/* SPDX-License-Identifier: Apache-2.0 */
/* The moments of a run: every callback in its order, then the module. */
#include "trainer/trainer.h"

#include <string.h>

light_status light_trainer_failure(const light_trainer *t)
{
    if (t->failure == LIGHT_OK || t->failure_waits) return LIGHT_OK;
    return light_fail(t->failure, "%s", t->failure_text);
}

/* What a hook may have left behind: its own failure, or one of an operation in the step. */
static light_status hook_result(light_trainer *t)
{
    t->current_callback = NULL;
    LIGHT_TRY(light_trainer_failure(t));
    return t->step ? light_step_status(t->step) : LIGHT_OK;
}

#define CALL_CALLBACKS(t, hook, ...)                                                                         \
    for (int i_ = 0; i_ < (t)->n_callbacks; i_++) {                                                          \
        if (!(t)->callbacks[i_].hooks.hook) continue;                                                        \
        (t)->current_callback = (t)->callbacks[i_].callback;                                                 \
        (t)->callbacks[i_].hooks.hook((t)->current_callback, __VA_ARGS__);                                   \
    }

#define X(hook)                                                                                              \
    light_status light_call_##hook(light_trainer *t)                                                         \
    {                                                                                                        \
        light_range_push(t->device, #hook);                                                                  \
        CALL_CALLBACKS(t, hook, t)                                                                           \
        t->current_callback = NULL;                                                                          \
        if (t->module_hooks.hook) t->module_hooks.hook(t->module, t);                                        \
        light_range_pop(t->device);                                                                          \
        return hook_result(t);                                                                               \
    }
LIGHT_MOMENT_MAP(X)
#undef X

#define X(hook)                                                                                              \
    light_status light_call_##hook(light_trainer *t, const light_batch *batch)                               \
    {                                                                                                        \
        light_range_push(t->device, #hook);                                                                  \
        CALL_CALLBACKS(t, hook, t, batch)                                                                    \
        t->current_callback = NULL;                                                                          \
        if (t->module_hooks.hook) t->module_hooks.hook(t->module, t, batch);                                 \
        light_range_pop(t->device);                                                                          \
        return hook_result(t);                                                                               \
    }
LIGHT_BATCH_MOMENT_MAP(X)
#undef X

light_status light_call_on_train_batch_start(light_trainer *t, const light_batch *batch, bool *go_on)
{
    CALL_CALLBACKS(t, on_train_batch_start, t, batch)
    t->current_callback = NULL;
    *go_on =
        !t->module_hooks.on_train_batch_start || t->module_hooks.on_train_batch_start(t->module, t, batch);
    return hook_result(t);
}

light_status light_call_on_train_batch_missing(light_trainer *t)
{
    const light_batch none = {.epoch = t->epoch.processed, .index = -1};
    for (int i = 0; i < t->n_callbacks; i++) {
        const light_callback_vtable *hooks = &t->callbacks[i].hooks;
        if (!hooks->on_train_batch_end || !hooks->watches_metrics || !hooks->writes_checkpoints) continue;
        t->current_callback = t->callbacks[i].callback;
        hooks->on_train_batch_end(t->current_callback, t, &none);
    }
    return hook_result(t);
}

light_status light_call_on_predict_batch_end(light_trainer *t, const light_batch *batch,
                                             light_tensor *prediction)
{
    CALL_CALLBACKS(t, on_predict_batch_end, t, batch, prediction)
    t->current_callback = NULL;
    if (t->module_hooks.on_predict_batch_end) t->module_hooks.on_predict_batch_end(t->module, t, batch);
    return hook_result(t);
}

light_status light_call_on_before_backward(light_trainer *t, light_tensor *loss)
{
    CALL_CALLBACKS(t, on_before_backward, t, loss)
    t->current_callback = NULL;
    if (t->module_hooks.on_before_backward) t->module_hooks.on_before_backward(t->module, t, loss);
    return hook_result(t);
}

/* Those that watch metrics come after the module, which may log in this hook what they monitor. */
light_status light_call_on_train_epoch_end(light_trainer *t)
{
    for (int watchers = 0; watchers < 2; watchers++) {
        for (int i = 0; i < t->n_callbacks; i++) {
            const light_callback_entry *e = &t->callbacks[i];
            if (!e->hooks.on_train_epoch_end || e->hooks.watches_metrics != (bool)watchers) continue;
            t->current_callback = e->callback;
            e->hooks.on_train_epoch_end(e->callback, t);
        }
        t->current_callback = NULL;
        if (!watchers && t->module_hooks.on_train_epoch_end) t->module_hooks.on_train_epoch_end(t->module, t);
        LIGHT_TRY(light_metrics_end_epoch(t, 0));
    }
    return hook_result(t);
}

light_status light_call_on_sanity_check(light_trainer *t, bool start)
{
    if (start) {
        CALL_CALLBACKS(t, on_sanity_check_start, t)
    } else {
        CALL_CALLBACKS(t, on_sanity_check_end, t)
    }
    return hook_result(t);
}

light_status light_call_setup(light_trainer *t)
{
    LIGHT_TRY(light_datamodule_setup(t->data, t->run_stage));
    for (int i = 0; i < t->n_callbacks; i++) {
        if (!t->callbacks[i].hooks.setup) continue;
        t->current_callback = t->callbacks[i].callback;
        light_status status = t->callbacks[i].hooks.setup(t->current_callback, t, t->run_stage);
        if (status != LIGHT_OK) return light_fail_in(status, "%s", t->callbacks[i].hooks.name);
    }
    t->current_callback = NULL;
    if (t->module_hooks.setup) t->module_hooks.setup(t->module, t, t->run_stage);
    return hook_result(t);
}

void light_call_teardown(light_trainer *t)
{
    light_datamodule_teardown(t->data, t->run_stage);
    CALL_CALLBACKS(t, teardown, t, t->run_stage)
    t->current_callback = NULL;
    if (t->module_hooks.teardown) t->module_hooks.teardown(t->module, t, t->run_stage);
}

void light_call_on_exception(light_trainer *t, light_status status)
{
    char text[sizeof t->failure_text];
    strncpy(text, light_error_message(), sizeof text - 1);
    text[sizeof text - 1] = '\0';
    CALL_CALLBACKS(t, on_exception, t, status)
    t->current_callback = NULL;
    if (t->data) light_datamodule_on_exception(t->data, status);
    light_fail(status, "%s", text); /* hooks may have written another */
}
