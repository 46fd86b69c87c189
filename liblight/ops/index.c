/* SPDX-License-Identifier: Apache-2.0 */
/* Elements found by index: gather, index_select, one_hot. */
#include "ops/common.h"
#include "ops/table.h"

#include <light/ops.h>

static light_status check_index(light_step *s, const light_node *node, const light_tensor *index)
{
    if (index->dtype == LIGHT_I64 || index->dtype == LIGHT_I32) return LIGHT_OK;
    return light_op_fail(s, node, LIGHT_ERR_DTYPE, "the index is %s, it must be i32 or i64",
                         light_dtype_name((light_dtype)index->dtype));
}

static light_status check_dim(light_step *s, const light_node *node, int *dim)
{
    const light_tensor *x = node->in[0];
    int given = *dim;
    if (light_normalize_dim(dim, x->ndim)) return LIGHT_OK;
    return light_op_fail(s, node, LIGHT_ERR_ARGUMENT, "dim %d of a tensor of shape %s", given,
                         light_shape_text(x));
}

/* The gradient of in[0] is zero but where `kernel` adds to it. */
static light_status backward_by(light_step *s, light_node *node, light_tensor *g, light_kernel_id kernel)
{
    light_fill_attrs zero = {0};
    light_slot gx = light_grad_slot(s, node, 0);
    if (!gx.tensor) return LIGHT_OK;
    if (!gx.accumulate) LIGHT_TRY(LIGHT_RUN(s, FILL, .out = {gx.tensor}, .attrs = &zero));
    return light_run(s, kernel,
                     &(light_kernel_args){.in = {g, node->in[1]}, .out = {gx.tensor}, .attrs = node->attrs});
}

/* ---- gather ------------------------------------------------------------- */

static light_status gather_infer(light_step *s, light_node *node, light_spec *specs)
{
    light_gather_attrs *attrs = node->attrs;
    const light_tensor *x = node->in[0], *index = node->in[1];
    LIGHT_TRY(check_index(s, node, index));
    LIGHT_TRY(check_dim(s, node, &attrs->dim));
    bool fits = x->ndim == index->ndim;
    for (int d = 0; fits && d < x->ndim; d++) fits = d == attrs->dim || index->shape[d] <= x->shape[d];
    if (!fits)
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "index %s does not fit %s along dim %d",
                             light_shape_text(index), light_shape_text(x), attrs->dim);
    specs[0] = (light_spec){.dtype = (light_dtype)x->dtype, .shape = light_shape_of(index)};
    return LIGHT_OK;
}

static light_status gather_forward(light_step *s, light_node *node)
{
    return LIGHT_RUN(s, GATHER, .in = {node->in[0], node->in[1]}, .out = {node->out[0]},
                     .attrs = node->attrs);
}

static light_status gather_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    return backward_by(s, node, grads[0], LIGHT_KERNEL_SCATTER_ADD);
}

static const light_op gather_op = {.name = "gather",
                                   .infer = gather_infer,
                                   .forward = gather_forward,
                                   .backward = gather_backward,
                                   .saves_in = 2};

light_tensor *light_gather(light_step *s, light_tensor *x, int dim, light_tensor *index)
{
    light_gather_attrs attrs = {.dim = dim};
    return LIGHT_APPLY2(s, &gather_op, &attrs, x, index);
}

/* ---- index_select ------------------------------------------------------- */

static light_status select_infer(light_step *s, light_node *node, light_spec *specs)
{
    light_gather_attrs *attrs = node->attrs;
    const light_tensor *x = node->in[0], *index = node->in[1];
    LIGHT_TRY(check_index(s, node, index));
    LIGHT_TRY(check_dim(s, node, &attrs->dim));
    if (index->ndim > 1)
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "the index has shape %s, it must have one dim",
                             light_shape_text(index));
    specs[0] = light_spec_like(x);
    specs[0].shape.dims[attrs->dim] = index->numel;
    return LIGHT_OK;
}

static light_status select_forward(light_step *s, light_node *node)
{
    return LIGHT_RUN(s, INDEX_SELECT, .in = {node->in[0], node->in[1]}, .out = {node->out[0]},
                     .attrs = node->attrs);
}

static light_status select_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    return backward_by(s, node, grads[0], LIGHT_KERNEL_INDEX_ADD);
}

static const light_op index_select_op = {.name = "index_select",
                                         .infer = select_infer,
                                         .forward = select_forward,
                                         .backward = select_backward,
                                         .saves_in = 2};

light_tensor *light_index_select(light_step *s, light_tensor *x, int dim, light_tensor *index)
{
    light_gather_attrs attrs = {.dim = dim};
    return LIGHT_APPLY2(s, &index_select_op, &attrs, x, index);
}

/* ---- one_hot ------------------------------------------------------------ */

static light_status one_hot_infer(light_step *s, light_node *node, light_spec *specs)
{
    const light_one_hot_attrs *attrs = node->attrs;
    const light_tensor *index = node->in[0];
    if (index->dtype != LIGHT_U8) LIGHT_TRY(check_index(s, node, index));
    if (attrs->classes < 1 || index->ndim == LIGHT_MAX_DIMS)
        return light_op_fail(s, node, LIGHT_ERR_ARGUMENT, "%lld classes for an index of shape %s",
                             (long long)attrs->classes, light_shape_text(index));
    specs[0] = (light_spec){.dtype = LIGHT_I64, .shape = light_shape_of(index)};
    specs[0].shape.dims[specs[0].shape.ndim++] = attrs->classes;
    return LIGHT_OK;
}

static light_status one_hot_forward(light_step *s, light_node *node)
{
    return LIGHT_RUN(s, ONE_HOT, .in = {node->in[0]}, .out = {node->out[0]}, .attrs = node->attrs);
}

static const light_op one_hot_op = {.name = "one_hot", .infer = one_hot_infer, .forward = one_hot_forward};

light_tensor *light_one_hot(light_step *s, light_tensor *index, int64_t classes)
{
    light_one_hot_attrs attrs = {.classes = classes};
    return LIGHT_APPLY1(s, &one_hot_op, &attrs, index);
}

const light_op *const light_index_ops[] = {&gather_op, &index_select_op, &one_hot_op, NULL};
