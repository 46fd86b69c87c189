/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary positions. */
#include "ops/layout.h"
#include "ops/table.h"

#include <light/ops.h>

static light_status rope_infer(light_step *s, light_node *node, light_spec *specs)
{
    const light_rope_attrs *attrs = node->attrs;
    light_tensor *x = node->in[0];

    if (light_ndim(x) < 2 || !light_dtype_is_floating(light_dtype_of(x)) || light_dim(x, -1) % 2)
        return light_op_fail(
            s, node, LIGHT_ERR_SHAPE, "the input must be floating [.., T, d] with an even d, it is %s %s",
            light_dtype_name(light_dtype_of(x)), light_shape_format(light_shape_of(x), (char[256]){0}, 256));
    if (!(attrs->base > 0))
        return light_op_fail(s, node, LIGHT_ERR_ARGUMENT, "the base must be above 0, it is %g", attrs->base);
    if (!light_has_rows(x)) x = light_contiguous(s, x);
    node->in[0] = x;
    if (!x) return light_step_status(s);
    specs[0] = (light_spec){.dtype = light_dtype_of(x), .shape = light_shape_of(x)};
    return LIGHT_OK;
}

static light_status rope_forward(light_step *s, light_node *node)
{
    return LIGHT_RUN(s, ROPE, .in = {node->in[0]}, .out = {node->out[0]}, .attrs = node->attrs);
}

/* A rotation's gradient is the rotation back. */
static light_status rope_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    light_rope_attrs back = *(const light_rope_attrs *)node->attrs;
    light_like_slot gx = light_grad_slot_rows(s, node, 0);
    light_tensor *gy;

    if (!gx.tensor) return light_step_status(s);
    gy = light_step_rows(s, grads[0]);
    if (!gy) return light_step_status(s);
    back.inverse = !back.inverse;
    LIGHT_TRY(
        LIGHT_RUN(s, ROPE, .in = {gy}, .out = {gx.tensor}, .accumulate = gx.accumulate, .attrs = &back));
    light_step_release(s, gy);
    return light_slot_finish(s, &gx);
}

static const light_op rope_op = {
    .name = "rope", .infer = rope_infer, .forward = rope_forward, .backward = rope_backward};

light_tensor *light_rope(light_step *s, light_tensor *x, int64_t offset, double base, bool interleaved)
{
    light_rope_attrs attrs = {.offset = offset, .base = base, .interleaved = interleaved};

    return LIGHT_APPLY1(s, &rope_op, &attrs, x);
}

const light_op *const light_rope_ops[] = {&rope_op, NULL};
