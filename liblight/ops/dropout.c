/* SPDX-License-Identifier: Apache-2.0 */
/* Dropout. No mask is stored: backward makes the random numbers again. */
#include "ops/layout.h"
#include "ops/table.h"

#include <light/ops.h>

static light_status dropout_infer(light_step *s, light_node *node, light_spec *specs)
{
    if (!light_dtype_is_floating(light_dtype_of(node->in[0])))
        return light_op_fail(s, node, LIGHT_ERR_DTYPE, "the input must be floating, it is %s",
                             light_dtype_name(light_dtype_of(node->in[0])));
    node->in[0] = light_dense(s, node->in[0]);
    if (!node->in[0]) return light_step_status(s);
    specs[0] = light_spec_like(node->in[0]);
    return LIGHT_OK;
}

static light_status dropout_forward(light_step *s, light_node *node)
{
    return LIGHT_RUN(s, DROPOUT, .in = {node->in[0]}, .out = {node->out[0]}, .attrs = node->attrs,
                     .rng = node->rng);
}

static light_status dropout_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    light_like_slot gx = light_grad_slot_like(s, node, 0, node->out[0]);
    light_tensor *gy;

    if (!gx.tensor) return light_step_status(s);
    gy = light_step_like(s, grads[0], node->out[0]);
    if (!gy) return light_step_status(s);
    LIGHT_TRY(LIGHT_RUN(s, DROPOUT, .in = {gy}, .out = {gx.tensor}, .accumulate = gx.accumulate,
                        .attrs = node->attrs, .rng = node->rng));
    light_step_release(s, gy);
    return light_slot_finish(s, &gx);
}

static const light_op dropout_op = {.name = "dropout",
                                    .infer = dropout_infer,
                                    .forward = dropout_forward,
                                    .backward = dropout_backward,
                                    .random = true};

light_tensor *light_dropout(light_step *s, light_tensor *x, double p)
{
    light_dropout_attrs attrs = {.p = p};

    if (!s || !x) return NULL;
    if (!(p >= 0 && p <= 1))
        return light_step_fail(s, LIGHT_ERR_ARGUMENT, "dropout: p must be in [0, 1], it is %g", p);
    if (p == 0 || !light_step_training(s)) return x;
    return LIGHT_APPLY1(s, &dropout_op, &attrs, x);
}

const light_op *const light_dropout_ops[] = {&dropout_op, NULL};
