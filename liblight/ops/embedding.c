/* SPDX-License-Identifier: Apache-2.0 */
/* Embedding: rows of a table by index. */
#include "ops/layout.h"
#include "ops/table.h"

#include <light/ops.h>

enum { WEIGHT, INDEX };

static light_status embedding_infer(light_step *s, light_node *node, light_spec *specs)
{
    const light_embedding_attrs *attrs = node->attrs;
    light_tensor *weight = node->in[WEIGHT], *index = node->in[INDEX];
    light_shape shape = light_shape_of(index);

    if (light_ndim(weight) != 2 || !light_dtype_is_floating(light_dtype_of(weight)))
        return light_op_fail(s, node, LIGHT_ERR_SHAPE,
                             "the table must be floating [rows, width], it is %s %s",
                             light_dtype_name(light_dtype_of(weight)),
                             light_shape_format(light_shape_of(weight), (char[256]){0}, 256));
    if (light_dtype_of(index) != LIGHT_I64 && light_dtype_of(index) != LIGHT_I32)
        return light_op_fail(s, node, LIGHT_ERR_DTYPE, "indices must be i64 or i32, these are %s",
                             light_dtype_name(light_dtype_of(index)));
    if (shape.ndim == LIGHT_MAX_DIMS || light_numel(index) > INT32_MAX)
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "%lld indices with %d dims are too many",
                             (long long)light_numel(index), shape.ndim);
    if (attrs->padding_idx < -1 || attrs->padding_idx >= light_dim(weight, 0))
        return light_op_fail(s, node, LIGHT_ERR_ARGUMENT, "padding_idx %lld is no row of %s",
                             (long long)attrs->padding_idx,
                             light_shape_format(light_shape_of(weight), (char[256]){0}, 256));
    node->in[WEIGHT] = weight = light_contiguous(s, weight);
    node->in[INDEX] = light_contiguous(s, index);
    if (!weight || !node->in[INDEX]) return light_step_status(s);
    shape.dims[shape.ndim++] = light_dim(weight, 1);
    specs[0] = (light_spec){.dtype = light_dtype_of(weight), .shape = shape};
    return LIGHT_OK;
}

static light_status embedding_forward(light_step *s, light_node *node)
{
    return LIGHT_RUN(s, EMBEDDING, .in = {node->in[WEIGHT], node->in[INDEX]}, .out = {node->out[0]},
                     .attrs = node->attrs);
}

static light_status embedding_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    light_like_slot gw = light_grad_slot_like(s, node, WEIGHT, node->in[WEIGHT]);
    light_tensor *gy;

    if (!gw.tensor) return light_step_status(s);
    gy = light_step_contiguous(s, grads[0]);
    if (!gy) return light_step_status(s);
    LIGHT_TRY(LIGHT_RUN(s, EMBEDDING_BACKWARD, .in = {gy, node->in[INDEX]}, .out = {gw.tensor},
                        .accumulate = gw.accumulate, .attrs = node->attrs));
    light_step_release(s, gy);
    return light_slot_finish(s, &gw);
}

static const light_op embedding_op = {
    .name = "embedding",
    .infer = embedding_infer,
    .forward = embedding_forward,
    .backward = embedding_backward,
    .saves_in = 1u << INDEX,
    .wide_grads = 1u << WEIGHT,
};

light_tensor *light_embedding_op(light_step *s, light_tensor *weight, light_tensor *indices,
                                 int64_t padding_idx)
{
    light_embedding_attrs attrs = {.padding_idx = padding_idx};

    return LIGHT_APPLY2(s, &embedding_op, &attrs, weight, indices);
}

const light_op *const light_embedding_ops[] = {&embedding_op, NULL};
