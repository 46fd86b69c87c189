/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a step: memory, errors, random state. */
#include "autograd/step.h"

#include "base/memory.h"
#include "base/philox.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static _Atomic uint64_t serials;

light_status light_step_new_with(light_step **out, const light_step_options *options)
{
    uint32_t key[2];
    light_step *s = light_calloc(1, sizeof *s);
    if (!s) return LIGHT_ERR_MEMORY;
    s->device = options->device ? options->device : light_default_device();
    light_rng_key(options->seed, LIGHT_RNG_STEP, 0, key);
    s->key = (uint64_t)key[1] << 32 | key[0];
    s->inference = options->inference;
    s->grad_enabled = !options->inference;
    s->training = !options->inference;
    s->path = "";
    light_status status = light_arena_new(&s->arena, s->device);
    if (status != LIGHT_OK) {
        light_free(s);
        return status;
    }
    *out = s;
    return LIGHT_OK;
}

void light_step_free(light_step *s)
{
    if (!s) return;
    light_arena_free(s->arena);
    light_pool_free(&s->pool);
    light_free(s);
}

void light_step_retry(light_step *s)
{
    /* Leaves outlive the step, so what the tape noted in them is taken back. */
    for (light_node *node = s->tape; node; node = node->previous)
        for (int i = 0; i < node->n_in; i++)
            if (node->in[i]) light_leaf(node->in[i])->uses = 0;
    s->tape = NULL;
    s->status = LIGHT_OK;
    s->error[0] = '\0';
    s->path = "";
    s->op = NULL;
    s->calls = 0;
}

light_status light_step_begin(light_step *s)
{
    light_step_retry(s);
    s->storages = NULL;
    light_arena_reset(s->arena);
    light_pool_reset(&s->pool);
    s->counter++;
    s->serial = atomic_fetch_add(&serials, 1) + 1;
    s->grad_enabled = !s->inference;
    return LIGHT_OK;
}

void light_step_set_counter(light_step *s, uint64_t counter)
{
    s->counter = counter;
}

uint64_t light_step_counter(const light_step *s)
{
    return s->counter;
}

size_t light_step_bytes(const light_step *s)
{
    return light_arena_used(s->arena);
}

size_t light_step_peak_bytes(const light_step *s)
{
    return light_arena_peak(s->arena);
}

light_device *light_step_device(const light_step *s)
{
    return s->device;
}

/* ---- errors ------------------------------------------------------------- */

light_status light_step_status(const light_step *s)
{
    /* The text may have been overwritten since by something that was handled. */
    return s->status == LIGHT_OK ? LIGHT_OK : light_fail(s->status, "%s", s->error);
}

light_status light_step_record(light_step *s, light_status status)
{
    if (s->status != LIGHT_OK || status == LIGHT_OK) return status;
    s->status = status;
    snprintf(s->error, sizeof s->error, "%s%s%s%s%s", s->path, s->path[0] ? ": " : "", s->op ? s->op : "",
             s->op ? ": " : "", light_error_message());
    return status;
}

light_tensor *light_step_fail(light_step *s, light_status status, const char *format, ...)
{
    char text[sizeof s->error];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    light_step_record(s, light_fail(status, "%s", text));
    return NULL;
}

light_status light_op_fail(light_step *s, const light_node *node, light_status status, const char *format,
                           ...)
{
    char text[sizeof s->error];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    s->op = node->op->name;
    return light_step_record(s, light_fail(status, "%s", text));
}

/* ---- modes -------------------------------------------------------------- */

bool light_set_grad_enabled(light_step *s, bool enabled)
{
    bool was = s->grad_enabled;
    s->grad_enabled = enabled && !s->inference;
    return was;
}

void light_step_retain(light_step *s, bool retain)
{
    s->retain = retain;
}

const char *light_step_set_path(light_step *s, const char *path)
{
    const char *was = s->path;
    s->path = path ? path : "";
    return was;
}

bool light_step_training(const light_step *s)
{
    return s->training;
}

bool light_step_set_training(light_step *s, bool training)
{
    bool was = s->training;
    s->training = training;
    return was;
}

void light_step_draw(light_step *s, uint64_t rng[2])
{
    rng[0] = s->key;
    rng[1] = s->counter * LIGHT_RNG_CALLS + s->calls++ % LIGHT_RNG_CALLS;
}

/* ---- memory ------------------------------------------------------------- */

void light_storage_ref(light_storage *storage)
{
    storage->refs++;
}

void light_storage_unref(light_step *s, light_storage *storage)
{
    if (--storage->refs == 0 && storage->block >= 0) {
        light_arena_give(s->arena, storage->block);
        storage->released = true;
    }
}

void light_step_drop_users(light_step *s, const light_storage *since, const light_storage *keep)
{
    for (light_storage *storage = s->storages; storage && storage != since; storage = storage->next) {
        if (!storage->user_holds || storage == keep) continue;
        storage->user_holds = false;
        light_storage_unref(s, storage);
    }
}

static light_tensor *new_tensor(light_step *s)
{
    light_tensor *t = light_pool_take(&s->pool, sizeof *t);
    if (!t) {
        light_step_record(s, LIGHT_ERR_MEMORY);
        return NULL;
    }
    t->step = s;
    return t;
}

light_tensor *light_step_tensor(light_step *s, light_spec spec)
{
    light_tensor *t = new_tensor(s);
    light_storage *storage = t ? light_pool_take(&s->pool, sizeof *storage) : NULL;
    if (!storage) return NULL;
    t->dtype = (uint8_t)spec.dtype;
    if (spec.channels_last && spec.shape.ndim == 4)
        light_tensor_set_channels_last(t, spec.shape);
    else
        light_tensor_set_shape(t, spec.shape);
    storage->bytes = (size_t)t->numel * light_dtype_size(spec.dtype);
    storage->device = s->device;
    storage->block = light_arena_take(s->arena, storage->bytes, &storage->data);
    if (storage->block < 0) {
        light_step_record(s, LIGHT_ERR_MEMORY);
        return NULL;
    }
    storage->refs = 1;
    storage->next = s->storages;
    s->storages = storage;
    t->storage = storage;
    t->data = storage->data;
    return t;
}

light_tensor *light_step_wrap(light_step *s, light_spec spec, void *data)
{
    light_tensor *t = new_tensor(s);
    light_storage *storage = t ? light_pool_take(&s->pool, sizeof *storage) : NULL;
    if (!storage) return NULL;
    t->dtype = (uint8_t)spec.dtype;
    light_tensor_set_shape(t, spec.shape);
    *storage = (light_storage){.data = data,
                               .bytes = (size_t)t->numel * light_dtype_size(spec.dtype),
                               .device = s->device,
                               .refs = 1,
                               .block = -1,
                               .borrowed = true};
    t->storage = storage;
    t->data = data;
    return t;
}

void light_step_release(light_step *s, light_tensor *t)
{
    if (t) light_storage_unref(s, t->storage);
}

light_tensor *light_step_view(light_step *s, light_tensor *t, light_shape shape, const int64_t *strides,
                              int64_t offset)
{
    light_tensor *view = new_tensor(s);
    if (!view) return NULL;
    view->storage = t->storage;
    view->dtype = t->dtype;
    view->data = t->data + offset * (int64_t)light_dtype_size((light_dtype)t->dtype);
    light_tensor_set_shape(view, shape);
    if (strides) {
        memcpy(view->strides, strides, (size_t)shape.ndim * sizeof *strides);
        light_tensor_refresh(view);
    }
    light_storage_ref(t->storage);
    return view;
}

light_tensor *light_alias_view(light_step *s, light_tensor *t)
{
    return light_step_view(s, t, light_shape_of(t), t->strides, 0);
}

light_tensor *light_step_expanded(light_step *s, light_tensor *t, light_shape shape)
{
    int64_t strides[LIGHT_MAX_DIMS];
    int shift = shape.ndim - t->ndim;
    for (int i = 0; i < shape.ndim; i++) {
        bool repeated = i < shift || (t->shape[i - shift] == 1 && shape.dims[i] != 1);
        strides[i] = repeated ? 0 : t->strides[i - shift];
    }
    return light_step_view(s, t, shape, strides, 0);
}

light_tensor *light_step_contiguous(light_step *s, light_tensor *t)
{
    if (t->contiguous) {
        light_storage_ref(t->storage);
        return t;
    }
    light_tensor *copy =
        light_step_tensor(s, (light_spec){.dtype = (light_dtype)t->dtype, .shape = light_shape_of(t)});
    if (copy && LIGHT_RUN(s, COPY, .in = {t}, .out = {copy}) != LIGHT_OK) return NULL;
    return copy;
}
