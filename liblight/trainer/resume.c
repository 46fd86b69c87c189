/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints of a run: what goes in, and back. They are taken at save points, between the hooks of one moment and the
 * next, so that nothing is half done: whoever resumes knows exactly what comes next. */
#include "trainer/trainer.h"

#include "base/memory.h"
#include "base/string.h"
#include "base/time.h"
#include "nn/parameter.h"

#include <light/message.h>

#include <stdio.h>
#include <string.h>

/* ---- the state tree ----------------------------------------------------- */

static light_status put_progress(light_state *state, const char *name, const light_progress *p)
{
    const int64_t values[] = {p->ready, p->started, p->processed, p->completed};
    return light_state_put_int64s(state, name, values, 4);
}

static light_status get_progress(const light_state *state, const char *name, light_progress *p)
{
    const int64_t *values;
    size_t n;
    LIGHT_TRY(light_state_get_int64s(state, name, &values, &n));
    if (n != 4) return light_fail(LIGHT_ERR_FORMAT, "loops/%s: %zu numbers, 4 expected", name, n);
    *p = (light_progress){values[0], values[1], values[2], values[3]};
    return LIGHT_OK;
}

static light_status save_loops(const light_trainer *t, light_state *state, light_resume_point point)
{
    LIGHT_TRY(light_state_put(state, "resume_point", (int)point));
    LIGHT_TRY(put_progress(state, "epoch", &t->epoch));
    LIGHT_TRY(put_progress(state, "batch", &t->batch));
    LIGHT_TRY(put_progress(state, "batch_current", &t->batch_current));
    LIGHT_TRY(put_progress(state, "eval_batch", &t->eval_batch));
    LIGHT_TRY(light_state_put(state, "global_step", t->global_step));
    LIGHT_TRY(light_state_put(state, "batches_that_stepped", t->batches_that_stepped));
    LIGHT_TRY(light_state_put(state, "accumulated", t->accumulated));
    LIGHT_TRY(light_state_put(state, "window", t->window));
    LIGHT_TRY(light_state_put(state, "stepped", t->stepped));
    LIGHT_TRY(light_state_put(state, "last_batch", t->last_batch));
    LIGHT_TRY(light_state_put(state, "stop_held_off", light_stop_is_held_off(t)));
    LIGHT_TRY(light_state_put(state, "stop_reason", (const char *)t->stop_reason));
    LIGHT_TRY(light_state_put(state, "seed", t->options.seed));
    LIGHT_TRY(light_state_put(state, "seconds", light_now() - t->started_at));
    /* That of the batch before, whichever rank had it. */
    int64_t counter = t->strategy ? t->batch.processed : (int64_t)light_step_counter(t->step);
    return light_state_put(state, "step_counter", counter);
}

static light_status load_loops(light_trainer *t, const light_state *state)
{
    int point;
    uint64_t counter;
    double seconds;
    bool held_off;
    const char *reason;
    LIGHT_TRY(light_state_get(state, "resume_point", &point));
    LIGHT_TRY(get_progress(state, "epoch", &t->epoch));
    LIGHT_TRY(get_progress(state, "batch", &t->batch));
    LIGHT_TRY(get_progress(state, "batch_current", &t->batch_current));
    LIGHT_TRY(get_progress(state, "eval_batch", &t->eval_batch));
    LIGHT_TRY(light_state_get(state, "global_step", &t->global_step));
    LIGHT_TRY(light_state_get(state, "batches_that_stepped", &t->batches_that_stepped));
    LIGHT_TRY(light_state_get(state, "accumulated", &t->accumulated));
    LIGHT_TRY(light_state_get(state, "window", &t->window));
    LIGHT_TRY(light_state_get(state, "stepped", &t->stepped));
    LIGHT_TRY(light_state_get(state, "last_batch", &t->last_batch));
    LIGHT_TRY(light_state_get(state, "stop_held_off", &held_off));
    LIGHT_TRY(light_state_get(state, "stop_reason", &reason));
    if (held_off) light_trainer_stop(t, reason); /* a stop that has ended a run does not end the next one */
    LIGHT_TRY(light_state_get(state, "step_counter", &counter));
    LIGHT_TRY(light_state_get(state, "seconds", &seconds));
    t->started_at -= seconds; /* max_time counts all of the training */
    light_step_set_counter(t->step, counter);
    t->current_batch = t->batch_current.processed;
    t->resume = (light_resume_point)point;
    t->turn = (light_turn){.window = t->window, .ends = true};
    if (t->strategy && t->accumulated)
        return light_fail(
            LIGHT_ERR_STATE,
            "it was taken after %lld batches of an accumulation window; with strategy %s a run can "
            "go on only where a window ends",
            (long long)t->accumulated, t->strategy->vtable->name);
    return LIGHT_OK;
}

/* "model_checkpoint", and "model_checkpoint_2" for the second one of a kind. */
static char *callback_key(const light_trainer *t, int i)
{
    int same = 1;
    for (int j = 0; j < i; j++) same += !strcmp(t->callbacks[j].hooks.name, t->callbacks[i].hooks.name);
    return same == 1 ? light_strdup(t->callbacks[i].hooks.name)
                     : light_format("%s_%d", t->callbacks[i].hooks.name, same);
}

static light_status save_callbacks(light_trainer *t, light_state *state)
{
    for (int i = 0; i < t->n_callbacks; i++) {
        if (!t->callbacks[i].hooks.save_state) continue;
        char *key = callback_key(t, i);
        light_state *group = key ? light_state_group(state, key) : NULL;
        light_free(key);
        if (!group) return LIGHT_ERR_MEMORY;
        LIGHT_TRY(t->callbacks[i].hooks.save_state(t->callbacks[i].callback, group));
    }
    return LIGHT_OK;
}

static light_status load_callbacks(light_trainer *t, const light_state *state)
{
    for (int i = 0; state && i < t->n_callbacks; i++) {
        if (!t->callbacks[i].hooks.load_state) continue;
        char *key = callback_key(t, i);
        if (!key) return LIGHT_ERR_MEMORY;
        const light_state *group = light_state_find_group(state, key);
        light_status status =
            group ? t->callbacks[i].hooks.load_state(t->callbacks[i].callback, group) : LIGHT_OK;
        if (status != LIGHT_OK) light_fail_in(status, "callback %s", key);
        light_free(key);
        LIGHT_TRY(status);
    }
    return LIGHT_OK;
}

static light_status save_options(const light_option *options, const void *object, light_state *state)
{
    for (const light_option *o = options; o && o->name; o++) {
        char text[1024];
        LIGHT_TRY(
            light_state_put(state, o->name, (const char *)light_option_get(o, object, text, sizeof text)));
    }
    return LIGHT_OK;
}

static light_status save_hyperparameters(const light_trainer *t, light_state *state)
{
    light_state *model = light_state_group(state, "model"), *data = light_state_group(state, "data");
    if (!model || !data) return LIGHT_ERR_MEMORY;
    LIGHT_TRY(light_state_put(state, "model_name", t->module_hooks.name));
    LIGHT_TRY(light_state_put(state, "precision", t->options.precision));
    LIGHT_TRY(save_options(t->module_hooks.options, t->module, model));
    if (t->data) LIGHT_TRY(save_options(t->data->vtable->options, t->data, data));
    return t->config ? light_state_put(state, "config_yaml", (const char *)t->config) : LIGHT_OK;
}

static light_status save_optimizers(const light_trainer *t, light_state *optimizers, light_state *schedules)
{
    for (int i = 0; t->optimizers && i < t->optimizers->n; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        light_state *group = light_state_group(optimizers, name);
        if (!group) return LIGHT_ERR_MEMORY;
        LIGHT_TRY(light_optimizer_save(t->optimizers->entries[i].optimizer, group));
        if (!t->optimizers->entries[i].schedule) continue;
        if (!(group = light_state_group(schedules, name))) return LIGHT_ERR_MEMORY;
        LIGHT_TRY(light_schedule_save(t->optimizers->entries[i].schedule, group));
    }
    return LIGHT_OK;
}

/* Those who share the loader, where they are several. */
static light_communicator *sharing_ranks(const light_trainer *t)
{
    return t->strategy && t->share.size > 1 && !t->share.dealt ? t->strategy->host : NULL;
}

static light_status build_state(light_trainer *t, light_state *state, bool weights_only,
                                light_resume_point point)
{
    static const char *const names[] = {"hyperparameters", "loops",    "optimizers", "lr_schedulers",
                                        "callbacks",       "metrics",  "loader",     "datamodule",
                                        "module",          "precision"};
    light_state *g[10];
    for (int i = 0; i < 10; i++)
        if (!(g[i] = light_state_group(state, names[i]))) return LIGHT_ERR_MEMORY;
    LIGHT_TRY(save_hyperparameters(t, g[0]));
    if (t->module_hooks.save_state) LIGHT_TRY(t->module_hooks.save_state(t->module, g[8]));
    if (weights_only) return LIGHT_OK;
    LIGHT_TRY(save_loops(t, g[1], point));
    LIGHT_TRY(save_optimizers(t, g[2], g[3]));
    LIGHT_TRY(save_callbacks(t, g[4]));
    LIGHT_TRY(light_metrics_save(t, g[5]));
    if (t->scaler) LIGHT_TRY(light_scaler_save(t->scaler, g[9]));
    if (t->train_loader) LIGHT_TRY(light_loader_save_state(t->train_loader, sharing_ranks(t), g[6]));
    return light_datamodule_save_state(t->data, g[7]);
}

/* ---- tensors ------------------------------------------------------------ */

/* What this process has of a parameter, or of what belongs to one and has its shape. */
static light_status list_part(light_checkpoint_list *list, const char *name, const light_parameter *p,
                              light_part part)
{
    const light_shape shape = light_shape_of(p->tensor);
    part = light_part_to_save(p, part);
    return light_checkpoint_list_add_part(list, name, &part.tensor, &shape, part.begin);
}

static light_status list_optimizer(light_checkpoint_list *list, light_optimizer *optimizer, int index)
{
    light_optimizer_state state;
    for (int64_t i = 0; light_optimizer_state_at(optimizer, i, &state); i++) {
        char *name = light_format("optimizer/%d/state/%s/%s", index, state.parameter->path, state.name);
        light_status status = name ? list_part(list, name, state.parameter,
                                               (light_part){state.tensor, state.parameter->own_begin})
                                   : LIGHT_ERR_MEMORY;
        light_free(name);
        LIGHT_TRY(status);
    }
    return LIGHT_OK;
}

/* The gradients of an accumulation window that is not full yet; with manual optimization, all that there are. */
static light_status list_gradients(const light_trainer *t, light_checkpoint_list *list)
{
    for (light_parameter *p = light_next_parameter(t->module, NULL); p;
         p = light_next_parameter(t->module, p)) {
        if (p->is_buffer || !light_grad(p->tensor)) continue;
        char *name = light_format("gradients/%s", p->path);
        light_status status = name ? list_part(list, name, p, light_parameter_own_grad(p)) : LIGHT_ERR_MEMORY;
        light_free(name);
        LIGHT_TRY(status);
    }
    return LIGHT_OK;
}

static light_status build_list(light_trainer *t, light_checkpoint_list *list, bool weights_only)
{
    LIGHT_TRY(light_checkpoint_list_add_module(list, t->module, "model"));
    if (weights_only || !t->optimizers) return LIGHT_OK;
    for (int i = 0; i < t->optimizers->n; i++)
        LIGHT_TRY(list_optimizer(list, t->optimizers->entries[i].optimizer, i));
    bool open = t->accumulated > 0 || t->module_hooks.manual_optimization;
    return open ? list_gradients(t, list) : LIGHT_OK;
}

/* ---- saving ------------------------------------------------------------- */

static void checkpoint_written(void *user, const light_checkpoint_result *result)
{
    light_trainer *t = user;
    light_callback *callback = t->in_flight.callback;
    t->unsaved[0] = '\0';
    if (result->status != LIGHT_OK)
        snprintf(t->unsaved, sizeof t->unsaved, "%s: %s", result->path, result->message);
    else if (!t->in_flight.weights_only)
        t->saved_step = t->in_flight.step;
    if (result->status != LIGHT_OK && light_trainer_global_rank(t) == 0)
        light_message(LIGHT_MESSAGE_WARNING, "checkpoint %s was not written: %s; training goes on",
                      result->path, result->message);
    else if (result->status == LIGHT_OK)
        light_message(LIGHT_MESSAGE_DEBUG, "checkpoint %s: %.1f MB, training waited %.1f ms", result->path,
                      (double)result->bytes / 1e6, result->blocked_seconds * 1e3);
    for (int i = 0; i < t->n_callbacks; i++)
        if (t->callbacks[i].callback == callback && t->callbacks[i].hooks.on_checkpoint_written)
            t->callbacks[i].hooks.on_checkpoint_written(callback, t, result->path, result->status);
}

/* All ranks write a checkpoint of a run; after it rank 0 has everything. */
static const light_checkpoint_group *writers(const light_trainer *t)
{
    return t->attached && t->strategy->size > 1 ? &t->strategy->checkpoint_group : NULL;
}

light_status light_save_now(light_trainer *t, const light_save_request *request, light_resume_point point)
{
    light_checkpoint_list list = {0};
    light_state *state = light_state_new();
    light_status status = state ? LIGHT_OK : LIGHT_ERR_MEMORY;
    if (status == LIGHT_OK && !t->writer) status = light_checkpoint_writer_new(&t->writer);
    if (status == LIGHT_OK) status = light_poll_saves(t, true);
    if (status == LIGHT_OK) status = build_state(t, state, request->weights_only, point);
    if (status == LIGHT_OK) status = build_list(t, &list, request->weights_only);
    if (status != LIGHT_OK) {
        light_state_free(state);
    } else {
        t->in_flight = *request;
        t->in_flight.step = t->global_step;
        status = light_checkpoint_save(t->writer, &(light_checkpoint_request){.path = request->path,
                                                                              .group = writers(t),
                                                                              .tensors = &list,
                                                                              .state = state,
                                                                              .step = t->global_step,
                                                                              .epoch = t->epoch.processed,
                                                                              .background = t->running,
                                                                              .done = checkpoint_written,
                                                                              .user = t});
    }
    light_checkpoint_list_free(&list);
    return status;
}

light_status light_poll_saves(light_trainer *t, bool wait)
{
    /* How a save ended has been told by checkpoint_written; it does not end training. */
    if (t->writer) (void)(wait ? light_checkpoint_wait(t->writer) : light_checkpoint_poll(t->writer));
    return LIGHT_OK;
}

light_status light_save_point(light_trainer *t, light_resume_point point)
{
    for (int i = 0; i < t->n_saves; i++) {
        light_save_request request = t->saves[i];
        light_status status = light_save_now(t, &request, point);
        if (status != LIGHT_OK) {
            const light_checkpoint_result result = {
                .path = request.path, .status = status, .message = light_error_message()};
            t->in_flight = request;
            checkpoint_written(t, &result);
        }
        light_free(request.path);
    }
    t->n_saves = 0;
    if (!t->failure_waits) return LIGHT_OK;
    t->failure_waits = false;
    t->at_rest = true;
    t->rest_point = point;
    return light_trainer_failure(t);
}

static light_status ask_for_save(light_trainer *t, const char *path, bool weights_only)
{
    light_save_request request = {.weights_only = weights_only, .callback = t->current_callback};
    if (!t->module || !t->step)
        return light_fail(LIGHT_ERR_STATE,
                          "save_checkpoint %s: no run has been started, there is nothing to save", path);
    if (!t->running) {
        if (light_trainer_global_rank(t) > 0) return LIGHT_OK;
        if (!weights_only && light_trainer_world_size(t) > 1)
            return light_fail(
                LIGHT_ERR_STATE,
                "save_checkpoint %s: the optimizers of %d processes are together within a run only; "
                "light_trainer_save_weights saves the model",
                path, light_trainer_world_size(t));
        request.path = (char *)path;
        return light_save_now(t, &request, LIGHT_RESUME_AFTER_EPOCH);
    }
    if (t->n_saves == LIGHT_MAX_SAVES)
        return light_fail(LIGHT_ERR_STATE,
                          "save_checkpoint %s: %d checkpoints have been asked for in one moment", path,
                          LIGHT_MAX_SAVES);
    if (!(request.path = light_strdup(path))) return LIGHT_ERR_MEMORY;
    t->saves[t->n_saves++] = request;
    return LIGHT_OK;
}

light_status light_trainer_save_checkpoint(light_trainer *t, const char *path)
{
    return ask_for_save(t, path, false);
}

light_status light_trainer_save_weights(light_trainer *t, const char *path)
{
    return ask_for_save(t, path, true);
}

/* ---- restoring ---------------------------------------------------------- */

static light_status load_optimizer(const light_checkpoint *checkpoint, light_optimizer *optimizer, int index,
                                   const light_state *state)
{
    char name[16];
    snprintf(name, sizeof name, "%d", index);
    const light_state *group = state ? light_state_find_group(state, name) : NULL;
    if (!group)
        return light_fail(LIGHT_ERR_FORMAT,
                          "it holds no optimizer %d; to take the weights alone use "
                          "light_checkpoint_load_module",
                          index);
    LIGHT_TRY(light_optimizer_load(optimizer, group));
    light_optimizer_state s;
    for (int64_t i = 0; light_optimizer_state_at(optimizer, i, &s); i++) {
        char *path = light_format("optimizer/%d/state/%s/%s", index, s.parameter->path, s.name);
        light_status status =
            path ? light_checkpoint_read_part(checkpoint, path, &s.tensor, s.parameter->own_begin)
                 : LIGHT_ERR_MEMORY;
        light_free(path);
        LIGHT_TRY(status);
    }
    return LIGHT_OK;
}

static light_status load_gradients(light_trainer *t, const light_checkpoint *checkpoint)
{
    for (light_parameter *p = light_next_parameter(t->module, NULL); p;
         p = light_next_parameter(t->module, p)) {
        char *name = light_format("gradients/%s", p->path);
        light_checkpoint_tensor found;
        if (!name) return LIGHT_ERR_MEMORY;
        light_status status = LIGHT_OK;
        if (!p->is_buffer && light_checkpoint_find(checkpoint, name, &found)) {
            light_part own = light_parameter_own_grad(p);
            status = light_checkpoint_read_part(checkpoint, name, &own.tensor, own.begin);
            p->tensor->grad_fresh = false;
        }
        light_free(name);
        LIGHT_TRY(status);
    }
    return LIGHT_OK;
}

/* Where the loader goes on counts, since batches may have another size than they had. */
static light_status load_position(light_trainer *t, const light_state *state)
{
    int64_t epoch, batch;
    LIGHT_TRY(light_loader_load_state(t->train_loader, state));
    light_loader_position(t->train_loader, &epoch, &batch);
    if (t->resume != LIGHT_RESUME_AFTER_EPOCH && !t->share.dealt)
        t->batch_current = (light_progress){batch, batch, batch, batch};
    return LIGHT_OK;
}

static light_status restore_fit(light_trainer *t, const light_checkpoint *checkpoint,
                                const light_state *state)
{
    const light_state *loops = light_state_find_group(state, "loops");
    if (!loops || !light_state_has(loops, "resume_point"))
        return light_fail(LIGHT_ERR_FORMAT, "it holds weights only, training cannot go on from it");
    const light_state *optimizers = light_state_find_group(state, "optimizers");
    const light_state *schedules = light_state_find_group(state, "lr_schedulers");
    for (int i = 0; i < t->optimizers->n; i++) {
        char name[16];
        LIGHT_TRY(load_optimizer(checkpoint, t->optimizers->entries[i].optimizer, i, optimizers));
        snprintf(name, sizeof name, "%d", i);
        const light_state *group = schedules ? light_state_find_group(schedules, name) : NULL;
        if (group && t->optimizers->entries[i].schedule)
            LIGHT_TRY(light_schedule_load(t->optimizers->entries[i].schedule, group));
    }
    /* A run that goes on in 16-mixed from another precision begins with a new scale. */
    const light_state *precision = light_state_find_group(state, "precision");
    if (t->scaler && precision && light_state_has(precision, "scale"))
        LIGHT_TRY(light_scaler_load(t->scaler, precision));
    LIGHT_TRY(load_loops(t, loops));
    LIGHT_TRY(load_gradients(t, checkpoint));
    const light_state *metrics = light_state_find_group(state, "metrics");
    if (metrics) LIGHT_TRY(light_metrics_load(t, metrics));
    const light_state *loader = light_state_find_group(state, "loader");
    if (loader && light_state_has(loader, "epoch")) LIGHT_TRY(load_position(t, loader));
    const light_state *data = light_state_find_group(state, "datamodule");
    return data ? light_datamodule_load_state(t->data, data) : LIGHT_OK;
}

/* What the checkpoint's run had; for weights saved without a trainer, what has such parameters. */
static const char *precision_of(const light_checkpoint *checkpoint, light_dtype dtype)
{
    const light_state *hyper = light_state_find_group(light_checkpoint_state(checkpoint), "hyperparameters");
    const char *precision;
    if (hyper && light_state_has(hyper, "precision") &&
        light_state_get(hyper, "precision", &precision) == LIGHT_OK)
        return precision;
    return dtype == LIGHT_F64 ? "64-true" : "32-true";
}

/* Parameters of the run's dtype that are of another in the checkpoint: not another model, but another precision. */
static light_status check_precision(light_trainer *t, const light_checkpoint *checkpoint)
{
    const light_dtype dtype = t->precision->dtype;
    for (light_parameter *p = light_next_parameter(t->module, NULL); p;
         p = light_next_parameter(t->module, p)) {
        light_checkpoint_tensor found;
        char *name = light_format("model/%s", p->path);
        if (!name) return LIGHT_ERR_MEMORY;
        bool there = light_checkpoint_find(checkpoint, name, &found);
        light_free(name);
        if (p->is_buffer || !there || light_dtype_of(p->tensor) != dtype || found.dtype == dtype) continue;
        return light_fail(
            LIGHT_ERR_FORMAT,
            "checkpoint %s has parameters in %s, and those of a run with --trainer.precision %s "
            "are %s: give --trainer.precision %s",
            light_checkpoint_path(checkpoint), light_dtype_name(found.dtype), t->options.precision,
            light_dtype_name(dtype), precision_of(checkpoint, found.dtype));
    }
    return LIGHT_OK;
}

light_status light_restore(light_trainer *t, const light_checkpoint *checkpoint)
{
    const light_state *state = light_checkpoint_state(checkpoint);
    const light_state *module = light_state_find_group(state, "module");
    light_status status = LIGHT_OK;
    LIGHT_TRY(check_precision(t, checkpoint));
    LIGHT_TRY(
        light_checkpoint_read_module(checkpoint, t->module, "model", true)); /* names the checkpoint itself */
    if (module && t->module_hooks.load_state) status = t->module_hooks.load_state(t->module, module);
    if (status == LIGHT_OK && t->run_stage == LIGHT_STAGE_FIT) status = restore_fit(t, checkpoint, state);
    if (status == LIGHT_OK) status = load_callbacks(t, light_state_find_group(state, "callbacks"));
    if (status != LIGHT_OK) light_fail_in(status, "checkpoint %s", light_checkpoint_path(checkpoint));
    return status;
}
