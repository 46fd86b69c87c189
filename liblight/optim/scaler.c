/* SPDX-License-Identifier: Apache-2.0 */
/* Dynamic loss scaling. */
#include "optim/scaler.h"

#include "nn/flat.h"

#include "base/memory.h"

#include <string.h>

enum { STATE_BYTES = LIGHT_LOSS_SCALE_SIZE * sizeof(float) };

/* `n` numbers of a state from `first` on. */
static light_tensor numbers(const light_tensor *state, int first, int64_t n)
{
    light_tensor window = {
        .storage = state->storage, .data = state->data + first * (int)sizeof(float), .dtype = LIGHT_F32};
    light_tensor_set_shape(&window, n == 1 ? LIGHT_SCALAR : LIGHT_SHAPE(n));
    return window;
}

static light_tensor state_at(light_storage *storage, int i)
{
    light_tensor first = {.storage = storage, .data = storage->data, .dtype = LIGHT_F32};
    return numbers(&first, i * LIGHT_LOSS_SCALE_SIZE, LIGHT_LOSS_SCALE_SIZE);
}

/* ---- life --------------------------------------------------------------- */

/* Losses of the next step are to be scaled by what the scale is now. */
static light_status tell_losses(light_scaler *scaler)
{
    if (!scaler->copy) return LIGHT_OK;
    light_device *device = scaler->copy->device;
    return device->backend->copy(device, scaler->seed.data, scaler->scale.data, sizeof(float),
                                 LIGHT_COPY_HOST_TO_DEVICE);
}

static light_status write_states(light_scaler *scaler, double scale, double tracker)
{
    const float first[LIGHT_LOSS_SCALE_SIZE] = {(float)scale, (float)tracker};
    LIGHT_TRY(light_tensor_write(&scaler->common, LIGHT_F32, first, sizeof first));
    for (int i = 0; scaler->own && i < scaler->optimizers->n; i++)
        LIGHT_TRY(light_tensor_write(&scaler->own[i], LIGHT_F32, first, sizeof first));
    return tell_losses(scaler);
}

static light_status make_seed(light_scaler *scaler, light_device *device)
{
    scaler->seed = scaler->scale;
    if (scaler->storage->device == device) return LIGHT_OK;
    LIGHT_TRY(light_storage_new(&scaler->copy, sizeof(float), device));
    scaler->seed.storage = scaler->copy;
    scaler->seed.data = scaler->copy->data;
    return LIGHT_OK;
}

static light_status make_states(light_scaler *scaler, light_device *device, bool shared)
{
    const light_optimizers *all = scaler->optimizers;
    size_t states = shared ? 1 + (size_t)all->n : 1;
    LIGHT_TRY(light_storage_new(&scaler->storage, states * STATE_BYTES,
                                all->n ? all->entries[0].optimizer->device : device));
    scaler->common = state_at(scaler->storage, 0);
    scaler->scale = numbers(&scaler->common, LIGHT_LOSS_SCALE_SCALE, 1);
    LIGHT_TRY(make_seed(scaler, device));
    if (shared) {
        scaler->own = light_calloc(states, sizeof *scaler->own);
        scaler->stepped = light_calloc(states, sizeof *scaler->stepped);
        if (!scaler->own || !scaler->stepped) return LIGHT_ERR_MEMORY;
    }
    for (int i = 0; i < all->n; i++) {
        if (shared) scaler->own[i] = state_at(scaler->storage, 1 + i);
        all->entries[i].optimizer->scaling = shared ? &scaler->own[i] : &scaler->common;
    }
    return write_states(scaler, LIGHT_SCALER_INIT, 0);
}

light_status light_scaler_new(light_scaler **out, light_optimizers *optimizers, light_device *device,
                              bool shared)
{
    light_scaler *scaler = light_calloc(1, sizeof *scaler);
    if (!scaler) return LIGHT_ERR_MEMORY;
    *scaler = (light_scaler){.attrs = {.growth_factor = 2, .backoff_factor = 0.5, .growth_interval = 2000},
                             .optimizers = optimizers};
    light_status status = make_states(scaler, device, shared);
    if (status != LIGHT_OK) {
        light_scaler_free(scaler);
        return status;
    }
    *out = scaler;
    return LIGHT_OK;
}

void light_scaler_free(light_scaler *scaler)
{
    if (!scaler) return;
    for (int i = 0; i < scaler->optimizers->n; i++) scaler->optimizers->entries[i].optimizer->scaling = NULL;
    light_storage_free(scaler->storage);
    light_storage_free(scaler->copy);
    light_free(scaler->own);
    light_free(scaler->stepped);
    light_free(scaler);
}

/* ---- a step ------------------------------------------------------------- */

static light_status advance(const light_scaler *scaler, light_step *s, light_tensor *state)
{
    return LIGHT_RUN(s, LOSS_SCALE, .in = {state}, .out = {state}, .attrs = &scaler->attrs);
}

/* Counts what optimizer i's last step came to. The scale stays that of all. */
static light_status settle(light_scaler *scaler, light_step *s, int i)
{
    light_tensor from = numbers(&scaler->common, LIGHT_LOSS_SCALE_SCALE, 2),
                 to = numbers(&scaler->own[i], LIGHT_LOSS_SCALE_SCALE, 2);
    LIGHT_TRY(advance(scaler, s, &scaler->own[i]));
    return LIGHT_RUN(s, COPY, .in = {&from}, .out = {&to});
}

static light_status look_at_gradients(light_step *s, const light_optimizer *optimizer, light_tensor *finite)
{
    light_optimizer_run run;
    uint32_t accumulate = 0;
    for (int g = 0; g < optimizer->n_groups; g++)
        for (int64_t at = 0; light_optimizer_next_run(&optimizer->groups[g], &at, &run); accumulate = 1)
            LIGHT_TRY(LIGHT_RUN(s, ALL_FINITE, .in = {&run.grad}, .out = {finite}, .accumulate = accumulate));
    if (!accumulate) LIGHT_TRY(LIGHT_RUN(s, FILL, .out = {finite}, .attrs = &(light_fill_attrs){1}));
    const light_sharing *sharing = light_optimizer_sharing(optimizer);
    if (!sharing || !sharing->group) return LIGHT_OK;
    return light_communicate(sharing->group, &(light_collective){.kind = LIGHT_ALL_REDUCE,
                                                                 .in = finite->data,
                                                                 .out = finite->data,
                                                                 .count = 1,
                                                                 .dtype = LIGHT_F32,
                                                                 .combine = LIGHT_COMBINE_MIN,
                                                                 .what = "finite gradients"});
}

light_status light_scaler_check(light_scaler *scaler, light_step *s, int i, const light_tensor *norm)
{
    const light_optimizer *optimizer = scaler->optimizers->entries[i].optimizer;
    light_tensor found = numbers(optimizer->scaling, LIGHT_LOSS_SCALE_FOUND, 1);
    light_tensor *finite = light_step_tensor(s, (light_spec){.dtype = LIGHT_F32, .shape = LIGHT_SCALAR});
    if (!finite) return light_step_status(s);
    if (scaler->own && scaler->stepped[i]) LIGHT_TRY(settle(scaler, s, i)); /* twice before one update */
    LIGHT_TRY(norm ? LIGHT_RUN(s, ALL_FINITE, .in = {norm}, .out = {finite})
                   : look_at_gradients(s, optimizer, finite));
    LIGHT_TRY(LIGHT_RUN(s, UNARY, .in = {finite}, .out = {finite},
                        .attrs = &(light_unary_attrs){.code = LIGHT_UNARY_NEG}));
    LIGHT_TRY(LIGHT_RUN(s, UNARY, .in = {finite}, .out = {&found},
                        .attrs = &(light_unary_attrs){.code = LIGHT_UNARY_ADD_SCALAR, .a = 1}));
    light_step_release(s, finite);
    if (!scaler->own) return LIGHT_OK;
    scaler->stepped[i] = true;
    light_tensor any = numbers(&scaler->common, LIGHT_LOSS_SCALE_FOUND, 1);
    return LIGHT_RUN(s, BINARY, .in = {&any, &found}, .out = {&any},
                     .attrs = &(light_binary_attrs){LIGHT_BINARY_MAXIMUM});
}

light_status light_scaler_factor(light_scaler *scaler, light_step *s, light_tensor **factor)
{
    *factor = light_step_tensor(s, (light_spec){.dtype = LIGHT_F32, .shape = LIGHT_SCALAR});
    if (!*factor) return light_step_status(s);
    return LIGHT_RUN(s, UNARY, .in = {&scaler->scale}, .out = {*factor},
                     .attrs = &(light_unary_attrs){.code = LIGHT_UNARY_RECIPROCAL});
}

light_status light_scaler_unscale(light_scaler *scaler, light_step *s, int i)
{
    const light_optimizer *optimizer = scaler->optimizers->entries[i].optimizer;
    light_tensor *factor;
    light_optimizer_run run;
    LIGHT_TRY(light_scaler_check(scaler, s, i, NULL));
    LIGHT_TRY(light_scaler_factor(scaler, s, &factor));
    for (int g = 0; g < optimizer->n_groups; g++)
        for (int64_t at = 0; light_optimizer_next_run(&optimizer->groups[g], &at, &run);)
            LIGHT_TRY(LIGHT_RUN(s, SCALE, .in = {&run.grad, factor}, .out = {&run.grad}));
    return LIGHT_OK;
}

light_status light_scaler_update(light_scaler *scaler, light_step *s)
{
    bool any = !scaler->own;
    for (int i = 0; scaler->own && i < scaler->optimizers->n; i++) any |= scaler->stepped[i];
    if (!any) return LIGHT_OK;
    LIGHT_TRY(advance(scaler, s, &scaler->common));
    for (int i = 0; scaler->own && i < scaler->optimizers->n; i++) {
        LIGHT_TRY(settle(scaler, s, i));
        scaler->stepped[i] = false;
    }
    return tell_losses(scaler);
}

/* ---- for the host ------------------------------------------------------- */

static light_status read_common(const light_scaler *scaler, float state[LIGHT_LOSS_SCALE_SIZE])
{
    return light_tensor_read(&scaler->common, LIGHT_F32, state, STATE_BYTES);
}

light_status light_scaler_read(const light_scaler *scaler, double *scale)
{
    float state[LIGHT_LOSS_SCALE_SIZE];
    LIGHT_TRY(read_common(scaler, state));
    *scale = (double)state[LIGHT_LOSS_SCALE_SCALE];
    return LIGHT_OK;
}

light_status light_scaler_save(const light_scaler *scaler, light_state *state)
{
    float now[LIGHT_LOSS_SCALE_SIZE];
    LIGHT_TRY(read_common(scaler, now));
    LIGHT_TRY(light_state_put_double(state, "scale", (double)now[LIGHT_LOSS_SCALE_SCALE]));
    return light_state_put_double(state, "growth_tracker", (double)now[LIGHT_LOSS_SCALE_TRACKER]);
}

light_status light_scaler_load(light_scaler *scaler, const light_state *state)
{
    double scale, tracker;
    LIGHT_TRY(light_state_get_double(state, "scale", &scale));
    LIGHT_TRY(light_state_get_double(state, "growth_tracker", &tracker));
    return write_states(scaler, scale, tracker);
}
