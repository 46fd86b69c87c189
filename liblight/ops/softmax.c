/* SPDX-License-Identifier: Apache-2.0 */
/* softmax and log_softmax. */
#include "ops/common.h"
#include "ops/table.h"

#include <light/ops.h>

static light_status infer(light_step *s, light_node *node, light_spec *specs)
{
    light_softmax_attrs *attrs = node->attrs;
    const light_tensor *x = node->in[0];
    int given = attrs->dim;
    if (!light_normalize_dim(&attrs->dim, x->ndim))
        return light_op_fail(s, node, LIGHT_ERR_ARGUMENT, "dim %d of a tensor of shape %s", given,
                             light_shape_text(x));
    specs[0] = light_spec_like(x);
    return LIGHT_OK;
}

static light_status forward(light_step *s, light_node *node)
{
    return LIGHT_RUN(s, SOFTMAX, .in = {node->in[0]}, .out = {node->out[0]}, .attrs = node->attrs);
}

static light_status backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    light_slot gx = light_grad_slot(s, node, 0);
    if (!gx.tensor) return LIGHT_OK;
    return LIGHT_RUN(s, SOFTMAX_BACKWARD, .in = {grads[0], node->out[0]}, .out = {gx.tensor},
                     .attrs = node->attrs, .accumulate = gx.accumulate);
}

static const light_op softmax_op = {.name = "softmax",
                                    .infer = infer,
                                    .forward = forward,
                                    .backward = backward,
                                    .saves_out = 1,
                                    .precision = LIGHT_OP_FULL};
static const light_op log_softmax_op = {.name = "log_softmax",
                                        .infer = infer,
                                        .forward = forward,
                                        .backward = backward,
                                        .saves_out = 1,
                                        .precision = LIGHT_OP_FULL};

static light_tensor *softmax(light_step *s, light_tensor *x, int dim, bool log)
{
    light_softmax_attrs attrs = {.dim = dim, .log = log};
    if (x && !light_dtype_is_floating((light_dtype)x->dtype)) x = light_to_dtype(s, x, LIGHT_F32);
    return LIGHT_APPLY1(s, log ? &log_softmax_op : &softmax_op, &attrs, x);
}

light_tensor *light_softmax(light_step *s, light_tensor *x, int dim)
{
    return softmax(s, x, dim, false);
}

light_tensor *light_log_softmax(light_step *s, light_tensor *x, int dim)
{
    return softmax(s, x, dim, true);
}

const light_op *const light_softmax_ops[] = {&softmax_op, &log_softmax_op, NULL};
