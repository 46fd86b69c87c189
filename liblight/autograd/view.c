/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's own operations: detach, alias and the casts of mixed precision. */
#include "autograd/step.h"

#include <string.h>

static light_status same_spec(light_step *s, light_node *node, light_spec *specs)
{
    (void)s;
    specs[0] = light_spec_like(node->in[0]);
    return LIGHT_OK;
}

static light_status window(light_step *s, light_node *node)
{
    light_tensor *t = node->in[0];
    node->out[0] = light_step_view(s, t, light_shape_of(t), t->strides, 0);
    return node->out[0] ? LIGHT_OK : LIGHT_ERR_MEMORY;
}

static light_status pass_on(light_step *s, light_node *node, light_tensor *const *grads)
{
    return light_grad_give(s, node, 0, grads[0]);
}

static const light_op alias_op = {
    .name = "alias", .infer = same_spec, .forward = window, .backward = pass_on, .view = true};
static const light_op detach_op = {.name = "detach", .infer = same_spec, .forward = window, .view = true};

light_tensor *light_alias(light_step *s, light_tensor *t)
{
    return light_apply(s, &alias_op, &t, 1, 0, NULL, 0, NULL, 1);
}

light_tensor *light_detach(light_step *s, light_tensor *t)
{
    return light_apply(s, &detach_op, &t, 1, 0, NULL, 0, NULL, 1);
}

typedef struct cast_attrs {
    light_dtype dtype;
} cast_attrs;

static light_status cast_infer(light_step *s, light_node *node, light_spec *specs)
{
    (void)s;
    specs[0] = light_spec_like(node->in[0]);
    specs[0].dtype = ((const cast_attrs *)node->attrs)->dtype;
    return LIGHT_OK;
}

static light_status cast_forward(light_step *s, light_node *node)
{
    return LIGHT_RUN(s, COPY, .in = {node->in[0]}, .out = {node->out[0]});
}

/* light_grad_give converts to the input's dtype. */
static const light_op cast_op = {
    .name = "to_dtype", .infer = cast_infer, .forward = cast_forward, .backward = pass_on};

light_tensor *light_step_cast(light_step *s, light_tensor *x, light_dtype dtype)
{
    cast_attrs attrs = {dtype};
    bool leaf = x && !x->step;
    if (leaf && x->cast && x->cast_step == s->serial && x->cast->dtype == dtype &&
        x->cast->requires_grad == (x->requires_grad && s->grad_enabled))
        return x->cast;
    light_tensor *y = light_apply(s, &cast_op, &x, 1, 0, &attrs, sizeof attrs, NULL, 1);
    if (leaf && y) {
        x->cast = y;
        x->cast_step = s->serial;
    }
    return y;
}
