/* SPDX-License-Identifier: Apache-2.0 */
/* What goes along one dim: argmax, argmin, topk, cumsum. */
#include "ops/common.h"
#include "ops/table.h"

#include <light/ops.h>

static light_status check_dim(light_step *s, const light_node *node, int *dim)
{
    const light_tensor *x = node->in[0];
    int given = *dim;
    if (x->ndim == 0 && (given == 0 || given == -1)) {
        *dim = 0;
        return LIGHT_OK;
    }
    if (light_normalize_dim(dim, x->ndim)) return LIGHT_OK;
    return light_op_fail(s, node, LIGHT_ERR_ARGUMENT, "dim %d of a tensor of shape %s", given,
                         light_shape_text(x));
}

/* ---- argmax, argmin ----------------------------------------------------- */

static light_status arg_infer(light_step *s, light_node *node, light_spec *specs)
{
    light_arg_reduce_attrs *attrs = node->attrs;
    const light_tensor *x = node->in[0];
    LIGHT_TRY(check_dim(s, node, &attrs->dim));
    if (x->ndim && x->shape[attrs->dim] == 0)
        return light_op_fail(s, node, LIGHT_ERR_SHAPE, "no elements in dim %d of shape %s", attrs->dim,
                             light_shape_text(x));
    specs[0] = (light_spec){.dtype = LIGHT_I64};
    for (int d = 0; d < x->ndim; d++)
        if (d != attrs->dim) specs[0].shape.dims[specs[0].shape.ndim++] = x->shape[d];
    return LIGHT_OK;
}

static light_status arg_forward(light_step *s, light_node *node)
{
    const light_arg_reduce_attrs *attrs = node->attrs;
    light_tensor *x = node->in[0], *y = node->out[0];
    light_shape shape = light_shape_of(x);
    int64_t strides[LIGHT_MAX_DIMS];
    if (shape.ndim) shape.dims[attrs->dim] = 1;
    for (int d = 0, from = 0; d < shape.ndim; d++) strides[d] = d == attrs->dim ? 1 : y->strides[from++];
    light_tensor *view = light_step_view(s, y, shape, strides, 0);
    if (!view) return LIGHT_ERR_MEMORY;
    light_status status = LIGHT_RUN(s, ARG_REDUCE, .in = {x}, .out = {view}, .attrs = attrs);
    light_step_release(s, view);
    return status;
}

static const light_op argmax_op = {.name = "argmax", .infer = arg_infer, .forward = arg_forward};
static const light_op argmin_op = {.name = "argmin", .infer = arg_infer, .forward = arg_forward};

light_tensor *light_argmax(light_step *s, light_tensor *x, int dim)
{
    light_arg_reduce_attrs attrs = {.dim = dim};
    return LIGHT_APPLY1(s, &argmax_op, &attrs, x);
}

light_tensor *light_argmin(light_step *s, light_tensor *x, int dim)
{
    light_arg_reduce_attrs attrs = {.dim = dim, .min = true};
    return LIGHT_APPLY1(s, &argmin_op, &attrs, x);
}

/* ---- topk --------------------------------------------------------------- */

static light_status topk_infer(light_step *s, light_node *node, light_spec *specs)
{
    light_topk_attrs *attrs = node->attrs;
    const light_tensor *x = node->in[0];
    LIGHT_TRY(check_dim(s, node, &attrs->dim));
    int64_t size = x->ndim ? x->shape[attrs->dim] : 1;
    if (attrs->k < 1 || attrs->k > size)
        return light_op_fail(s, node, LIGHT_ERR_ARGUMENT, "k is %lld, dim %d of %s has %lld elements",
                             (long long)attrs->k, attrs->dim, light_shape_text(x), (long long)size);
    specs[0] = (light_spec){.dtype = (light_dtype)x->dtype, .shape = light_shape_of(x)};
    if (x->ndim) specs[0].shape.dims[attrs->dim] = attrs->k;
    specs[1] = specs[0];
    specs[1].dtype = LIGHT_I64;
    return LIGHT_OK;
}

static light_status topk_forward(light_step *s, light_node *node)
{
    return LIGHT_RUN(s, TOPK, .in = {node->in[0]}, .out = {node->out[0], node->out[1]}, .attrs = node->attrs);
}

static light_status topk_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    light_gather_attrs attrs = {.dim = ((const light_topk_attrs *)node->attrs)->dim};
    light_fill_attrs zero = {0};
    light_slot gx = light_grad_slot(s, node, 0);
    if (!gx.tensor) return LIGHT_OK;
    if (!gx.accumulate) LIGHT_TRY(LIGHT_RUN(s, FILL, .out = {gx.tensor}, .attrs = &zero));
    return LIGHT_RUN(s, SCATTER_ADD, .in = {grads[0], node->out[1]}, .out = {gx.tensor}, .attrs = &attrs);
}

static const light_op topk_op = {.name = "topk",
                                 .infer = topk_infer,
                                 .forward = topk_forward,
                                 .backward = topk_backward,
                                 .saves_out = 1u << 1};

light_tensor *light_topk(light_step *s, light_tensor *x, int64_t k, int dim, light_tensor **indices)
{
    light_topk_attrs attrs = {.k = k, .dim = dim};
    light_tensor *out[2] = {NULL, NULL};
    light_apply(s, &topk_op, &x, 1, 0, &attrs, sizeof attrs, out, 2);
    if (indices) *indices = out[1];
    return out[0];
}

/* ---- cumsum ------------------------------------------------------------- */

static light_status cumsum_infer(light_step *s, light_node *node, light_spec *specs)
{
    light_cumsum_attrs *attrs = node->attrs;
    LIGHT_TRY(check_dim(s, node, &attrs->dim));
    specs[0] = light_spec_like(node->in[0]);
    if (!light_dtype_is_floating(specs[0].dtype)) specs[0].dtype = LIGHT_I64;
    return LIGHT_OK;
}

static light_status cumsum_forward(light_step *s, light_node *node)
{
    return LIGHT_RUN(s, CUMSUM, .in = {node->in[0]}, .out = {node->out[0]}, .attrs = node->attrs);
}

static light_status cumsum_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    light_cumsum_attrs attrs = *(const light_cumsum_attrs *)node->attrs;
    light_slot gx = light_grad_slot(s, node, 0);
    attrs.reverse = true;
    if (!gx.tensor) return LIGHT_OK;
    return LIGHT_RUN(s, CUMSUM, .in = {grads[0]}, .out = {gx.tensor}, .attrs = &attrs,
                     .accumulate = gx.accumulate);
}

static const light_op cumsum_op = {.name = "cumsum",
                                   .infer = cumsum_infer,
                                   .forward = cumsum_forward,
                                   .backward = cumsum_backward,
                                   .precision = LIGHT_OP_FULL};

light_tensor *light_cumsum(light_step *s, light_tensor *x, int dim)
{
    light_cumsum_attrs attrs = {.dim = dim};
    return LIGHT_APPLY1(s, &cumsum_op, &attrs, x);
}

const light_op *const light_scan_ops[] = {&argmax_op, &argmin_op, &topk_op, &cumsum_op, NULL};
