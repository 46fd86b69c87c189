/* SPDX-License-Identifier: Apache-2.0 */
/* Bringing tensors to a memory layout. */
#include "ops/layout.h"

#include <light/ops.h>

light_tensor *light_dense(light_step *s, light_tensor *x)
{
    return x->contiguous || light_tensor_is_channels_last(x) ? x : light_contiguous(s, x);
}

static light_tensor *empty_like(light_step *s, light_dtype dtype, const light_tensor *like)
{
    light_spec spec = light_spec_like(like);

    spec.dtype = dtype;
    return light_step_tensor(s, spec);
}

light_tensor *light_step_like(light_step *s, light_tensor *t, const light_tensor *like)
{
    light_tensor *copy;

    if (light_tensor_same_layout(t, like)) return light_step_view(s, t, light_shape_of(t), t->strides, 0);
    copy = empty_like(s, light_dtype_of(t), like);
    if (copy && LIGHT_RUN(s, COPY, .in = {t}, .out = {copy}) != LIGHT_OK) return NULL;
    return copy;
}

light_like_slot light_grad_slot_like(light_step *s, light_node *node, int i, const light_tensor *like)
{
    light_like_slot result = {.slot = light_grad_slot(s, node, i)};

    if (!result.slot.tensor) return result;
    if (light_tensor_same_layout(result.slot.tensor, like)) {
        result.tensor = result.slot.tensor;
        result.accumulate = result.slot.accumulate;
    } else {
        result.tensor = empty_like(s, light_dtype_of(result.slot.tensor), like);
    }
    return result;
}

bool light_has_rows(const light_tensor *t)
{
    return t->shape[t->ndim - 1] == 1 || t->strides[t->ndim - 1] == 1;
}

light_tensor *light_step_rows(light_step *s, light_tensor *t)
{
    return light_has_rows(t) ? light_step_view(s, t, light_shape_of(t), t->strides, 0)
                             : light_step_contiguous(s, t);
}

light_like_slot light_grad_slot_rows(light_step *s, light_node *node, int i)
{
    light_like_slot result = {.slot = light_grad_slot(s, node, i)};
    light_tensor *t = result.slot.tensor;

    if (!t) return result;
    result.tensor = t;
    result.accumulate = result.slot.accumulate;
    if (light_has_rows(t)) return result;
    result.tensor =
        light_step_tensor(s, (light_spec){.dtype = light_dtype_of(t), .shape = light_shape_of(t)});
    result.accumulate = 0;
    return result;
}

light_status light_slot_finish(light_step *s, light_like_slot *slot)
{
    light_status status;

    if (slot->tensor == slot->slot.tensor) return LIGHT_OK;
    status = LIGHT_RUN(s, COPY, .in = {slot->tensor}, .out = {slot->slot.tensor},
                       .accumulate = slot->slot.accumulate);
    light_step_release(s, slot->tensor);
    return status;
}
