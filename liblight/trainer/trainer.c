/* SPDX-License-Identifier: Apache-2.0 */
/* Making and freeing trainers, and what can be asked of one. */
#include "trainer/trainer.h"

#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- extensions --------------------------------------------------------- */

/* A table as this library knows it, from one that a program built against an older or newer version brought. */
static void copy_vtable(void *to, size_t size, const void *from, size_t from_size)
{
    memset(to, 0, size);
    memcpy(to, from, from_size < size ? from_size : size);
}

static light_status check_vtable(const char *kind, const char *maker, size_t size, const char *name)
{
    if (size < sizeof(size_t) + 2 * sizeof(void *) || !name)
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "%s \"%s\": its vtable has no size and name; begin it with %s(type)", kind,
                          name ? name : "", maker);
    return LIGHT_OK;
}

light_callback *light_callback_new(const light_callback_vtable *vtable)
{
    if (check_vtable("callback", "LIGHT_CALLBACK", vtable->size, vtable->name) != LIGHT_OK) return NULL;
    light_callback *callback = light_calloc(1, vtable->instance_size);
    if (!callback) return NULL;
    callback->vtable = vtable;
    callback->owned = true;
    if (vtable->options) light_options_default(vtable->options, callback);
    return callback;
}

void light_callback_free(light_callback *callback)
{
    if (!callback || !callback->owned) return;
    if (callback->vtable->free) callback->vtable->free(callback);
    light_free(callback);
}

light_logger *light_logger_new(const light_logger_vtable *vtable)
{
    if (check_vtable("logger", "LIGHT_LOGGER", vtable->size, vtable->name) != LIGHT_OK) return NULL;
    light_logger *logger = light_calloc(1, vtable->instance_size);
    if (!logger) return NULL;
    logger->vtable = vtable;
    logger->owned = true;
    if (vtable->options) light_options_default(vtable->options, logger);
    return logger;
}

void light_logger_free(light_logger *logger)
{
    if (!logger || !logger->owned) return;
    if (logger->vtable->free) logger->vtable->free(logger);
    light_free(logger);
}

const light_extension *light_extension_find(const char *name)
{
    for (const light_extension *e = light_extensions; e->name; e++)
        if (!strcmp(e->name, name)) return e;
    return NULL;
}

/* ---- callbacks and loggers of a trainer --------------------------------- */

static light_status add_callback(light_trainer *t, light_callback *callback)
{
    light_callback_entry *e = &t->callbacks[t->n_callbacks];
    LIGHT_TRY(check_vtable("callback", "LIGHT_CALLBACK", callback->vtable->size, callback->vtable->name));
    for (int i = 0; i < t->n_callbacks; i++)
        if (t->callbacks[i].callback == callback)
            return light_fail(LIGHT_ERR_ARGUMENT, "callback %s is given twice", callback->vtable->name);
    e->callback = callback;
    copy_vtable(&e->hooks, sizeof e->hooks, callback->vtable, callback->vtable->size);
    t->n_callbacks++;
    return LIGHT_OK;
}

static bool has_callback(const light_trainer *t, const light_callback_vtable *vtable)
{
    for (int i = 0; i < t->n_callbacks; i++)
        if (t->callbacks[i].callback->vtable == vtable) return true;
    return false;
}

static light_status add_default_callback(light_trainer *t, light_switch enabled, const char *name)
{
    const light_extension *extension = enabled == LIGHT_ON ? light_extension_find(name) : NULL;
    if (!extension || has_callback(t, extension->callback)) return LIGHT_OK;
    light_callback *callback = light_callback_new(extension->callback);
    return callback ? add_callback(t, callback) : LIGHT_ERR_MEMORY;
}

static light_status add_logger(light_trainer *t, light_logger *logger)
{
    light_logger_entry *e = &t->loggers[t->n_loggers];
    LIGHT_TRY(check_vtable("logger", "LIGHT_LOGGER", logger->vtable->size, logger->vtable->name));
    e->logger = logger;
    copy_vtable(&e->hooks, sizeof e->hooks, logger->vtable, logger->vtable->size);
    t->n_loggers++;
    return LIGHT_OK;
}

/* Those that write checkpoints come last, so that they save what the others have just set. */
static void order_callbacks(light_trainer *t)
{
    light_callback_entry sorted[sizeof t->callbacks / sizeof *t->callbacks];
    int n = 0;
    for (int writers = 0; writers < 2; writers++)
        for (int i = 0; i < t->n_callbacks; i++)
            if (t->callbacks[i].hooks.writes_checkpoints == (bool)writers) sorted[n++] = t->callbacks[i];
    memcpy(t->callbacks, sorted, (size_t)n * sizeof *sorted);
}

/* A callback that could not be made is a NULL in the list, which must not end it silently. */
static light_status check_list(const light_trainer_options *o)
{
    for (int i = 1; i < LIGHT_MAX_CALLBACKS; i++)
        if (o->callbacks[i] && !o->callbacks[i - 1])
            return light_fail(LIGHT_ERR_ARGUMENT, "callback %d is NULL (it could not be made: %s)", i - 1,
                              light_error_message());
    return LIGHT_OK;
}

static light_status add_extensions(light_trainer *t)
{
    const light_trainer_options *o = &t->options;
    bool trial = o->fast_dev_run > 0; /* saves and logs nothing */
    LIGHT_TRY(check_list(o));
    for (int i = 0; i < LIGHT_MAX_CALLBACKS && o->callbacks[i] && !o->barebones; i++) {
        LIGHT_TRY(add_callback(t, o->callbacks[i]));
        if (trial && t->callbacks[t->n_callbacks - 1].hooks.writes_checkpoints) t->n_callbacks--;
    }
    for (int i = 0; i < LIGHT_MAX_LOGGERS && o->loggers[i] && !o->barebones && !trial; i++)
        LIGHT_TRY(add_logger(t, o->loggers[i]));
    LIGHT_TRY(add_default_callback(t, o->enable_model_summary, "model_summary"));
    LIGHT_TRY(add_default_callback(t, o->enable_progress_bar, "progress_bar"));
    LIGHT_TRY(add_default_callback(t, o->enable_learning_curve, "learning_curve"));
    LIGHT_TRY(add_default_callback(t, o->enable_checkpointing, "model_checkpoint"));
    order_callbacks(t);
    const light_extension *csv =
        !o->loggers[0] && strcmp(o->logger, "none") ? light_extension_find(o->logger) : NULL;
    if (!csv) return LIGHT_OK;
    light_logger *logger = light_logger_new(csv->logger);
    return logger ? add_logger(t, logger) : LIGHT_ERR_MEMORY;
}

/* ---- life --------------------------------------------------------------- */

/* Those in use, and those that were given but are not: barebones, or a trainer that could not be made. */
static void free_extensions(light_trainer *t)
{
    for (int i = 0; i < LIGHT_MAX_CALLBACKS; i++) {
        bool listed = !t->options.callbacks[i];
        for (int j = 0; j < t->n_callbacks; j++)
            listed |= t->callbacks[j].callback == t->options.callbacks[i];
        for (int j = 0; j < i; j++) listed |= t->options.callbacks[j] == t->options.callbacks[i];
        if (!listed) light_callback_free(t->options.callbacks[i]);
    }
    for (int i = 0; i < LIGHT_MAX_LOGGERS; i++) {
        bool listed = !t->options.loggers[i];
        for (int j = 0; j < t->n_loggers; j++) listed |= t->loggers[j].logger == t->options.loggers[i];
        for (int j = 0; j < i; j++) listed |= t->options.loggers[j] == t->options.loggers[i];
        if (!listed) light_logger_free(t->options.loggers[i]);
    }
    for (int i = 0; i < t->n_callbacks; i++) light_callback_free(t->callbacks[i].callback);
    for (int i = 0; i < t->n_loggers; i++) light_logger_free(t->loggers[i].logger);
}

static light_trainer *new_trainer(const light_trainer_options *options, bool as_they_stand)
{
    light_trainer *t = light_calloc(1, sizeof *t);
    if (!t) return NULL;
    light_status status = light_trainer_resolve(t, options, as_they_stand);
    if (status == LIGHT_OK) status = add_extensions(t);
    if (status == LIGHT_OK) return t;
    light_trainer_free(t);
    return NULL;
}

light_trainer *light_trainer_new_with(const light_trainer_options *options)
{
    return new_trainer(options, false);
}

light_trainer *light_trainer_new_resolved(const light_trainer_options *options)
{
    return new_trainer(options, true);
}

void light_trainer_free(light_trainer *t)
{
    if (!t) return;
    light_checkpoint_writer_free(t->writer); /* may still tell callbacks */
    free_extensions(t);
    for (int i = 0; i < t->n_saves; i++) light_free(t->saves[i].path);
    light_loader_free(t->train_loader);
    light_loader_free(t->eval_loader);
    light_scaler_free(t->scaler);
    light_optimizers_free(t->optimizers);
    light_metrics_clear(t);
    light_graphs_free(t);
    light_step_free(t->step);
    light_step_free(t->host_step);
    light_free(t->saved_modes);
    light_free(t->log_dir);
    light_free(t->ckpt_path);
    light_free(t->config);
    light_strategy_close(t);
    light_free(t);
}

light_status light_trainer_set_config(light_trainer *t, const char *yaml)
{
    char *copy = light_strdup(yaml);
    if (!copy) return LIGHT_ERR_MEMORY;
    light_free(t->config);
    t->config = copy;
    return LIGHT_OK;
}

/* ---- entry points ------------------------------------------------------- */

light_status light_trainer_fit_with(light_trainer *t, light_module *module, light_datamodule *data,
                                    const light_run_options *options)
{
    return light_trainer_run(t, LIGHT_STAGE_FIT, module, data, options);
}

light_status light_trainer_validate_with(light_trainer *t, light_module *module, light_datamodule *data,
                                         const light_run_options *options)
{
    return light_trainer_run(t, LIGHT_STAGE_VALIDATE, module, data, options);
}

light_status light_trainer_test_with(light_trainer *t, light_module *module, light_datamodule *data,
                                     const light_run_options *options)
{
    return light_trainer_run(t, LIGHT_STAGE_TEST, module, data, options);
}

light_status light_trainer_predict_with(light_trainer *t, light_module *module, light_datamodule *data,
                                        const light_run_options *options)
{
    return light_trainer_run(t, LIGHT_STAGE_PREDICT, module, data, options);
}

/* ---- from hooks --------------------------------------------------------- */

void light_trainer_stop(light_trainer *t, const char *why)
{
    if (t->should_stop) return;
    t->should_stop = true;
    snprintf(t->stop_reason, sizeof t->stop_reason, "%s", why ? why : "");
}

static void record_failure(light_trainer *t, light_status status, bool waits, const char *format,
                           va_list arguments)
{
    if (t->failure != LIGHT_OK) return;
    vsnprintf(t->failure_text, sizeof t->failure_text, format, arguments);
    t->failure = status;
    t->failure_waits = waits && t->run_stage == LIGHT_STAGE_FIT; /* other runs save nothing */
}

void light_trainer_fail(light_trainer *t, light_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    record_failure(t, status, false, format, arguments);
    va_end(arguments);
}

void light_trainer_fail_at_rest(light_trainer *t, light_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    record_failure(t, status, true, format, arguments);
    va_end(arguments);
}

bool light_trainer_at_rest(const light_trainer *t)
{
    return t->at_rest;
}

/* ---- asking ------------------------------------------------------------- */

int64_t light_trainer_global_step(const light_trainer *t)
{
    return t->global_step;
}

int64_t light_trainer_current_epoch(const light_trainer *t)
{
    return t->epoch.completed;
}

int64_t light_trainer_max_epochs(const light_trainer *t)
{
    return t->options.max_epochs;
}

int64_t light_trainer_max_steps(const light_trainer *t)
{
    return t->options.max_steps;
}

int64_t light_trainer_num_batches(const light_trainer *t)
{
    return t->stage == LIGHT_STAGE_FIT ? t->num_train_batches : t->num_eval_batches;
}

int64_t light_trainer_batches_done(const light_trainer *t)
{
    return t->stage == LIGHT_STAGE_FIT ? t->batch_current.processed : t->current_batch;
}

int64_t light_trainer_estimated_stepping_batches(const light_trainer *t)
{
    const light_trainer_options *o = &t->options;
    if (t->num_train_batches < 0 || o->max_epochs < 0) return o->max_steps;
    int64_t k = t->strategy && t->share.size ? t->share.size * t->share.run : o->accumulate_grad_batches;
    int64_t steps = (t->num_train_batches + k - 1) / k * (o->max_epochs > 0 ? o->max_epochs : 1);
    return o->max_steps >= 0 && o->max_steps < steps ? o->max_steps : steps;
}

bool light_trainer_sanity_checking(const light_trainer *t)
{
    return t->sanity_checking;
}

light_stage light_trainer_stage(const light_trainer *t)
{
    return t->stage;
}

light_stage light_trainer_run_stage(const light_trainer *t)
{
    return t->run_stage;
}

const char *light_trainer_stop_reason(const light_trainer *t)
{
    return t->stop_reason;
}

const char *light_trainer_log_dir(const light_trainer *t)
{
    return t->log_dir ? t->log_dir : "";
}

const char *light_trainer_ckpt_path(const light_trainer *t)
{
    return t->ckpt_path ? t->ckpt_path : "";
}

light_module *light_trainer_module(const light_trainer *t)
{
    return t->module;
}

light_datamodule *light_trainer_datamodule(const light_trainer *t)
{
    return t->data;
}

light_optimizer *light_trainer_optimizer(const light_trainer *t, int i)
{
    return t->optimizers && i >= 0 && i < t->optimizers->n ? t->optimizers->entries[i].optimizer : NULL;
}

light_schedule *light_trainer_schedule(const light_trainer *t, int i)
{
    return t->optimizers && i >= 0 && i < t->optimizers->n ? t->optimizers->entries[i].schedule : NULL;
}

const light_trainer_options *light_trainer_get_options(const light_trainer *t)
{
    return &t->options;
}
