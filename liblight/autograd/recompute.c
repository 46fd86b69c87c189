/* SPDX-License-Identifier: Apache-2.0 */
/* Activation checkpointing: a node whose backward runs a piece of the forward pass again, on a tape of its own. */
#include "autograd/step.h"

#include <string.h>

typedef struct recompute_attrs {
    light_recompute_fn fn;
    void *user;
    uint64_t calls;
    bool training;
} recompute_attrs;

/* Runs fn as it ran first: the same random numbers, the same mode. */
static light_tensor *run_again(light_step *s, const recompute_attrs *a, light_tensor **inputs, int n)
{
    uint64_t calls = s->calls;
    bool training = light_step_set_training(s, a->training);
    s->calls = a->calls;
    light_tensor *y = a->fn(s, a->user, inputs, n);
    s->calls = calls;
    s->training = training;
    return y;
}

static light_status recompute_infer(light_step *s, light_node *node, light_spec *specs)
{
    (void)s, (void)node, (void)specs;
    return LIGHT_OK;
}

static light_status recompute_forward(light_step *s, light_node *node)
{
    recompute_attrs *a = node->attrs;
    const light_storage *since = s->storages;
    a->calls = s->calls;
    a->training = s->training;
    bool was = light_set_grad_enabled(s, false);
    light_tensor *y = a->fn(s, a->user, node->in, node->n_in);
    light_set_grad_enabled(s, was);
    if (!y)
        return s->status != LIGHT_OK ? s->status : light_fail(LIGHT_ERR_USER, "the function returned NULL");
    /* What fn made on its way is not held for anybody. */
    light_step_drop_users(s, since, y->storage);
    node->out[0] = light_step_view(s, y, light_shape_of(y), y->strides, 0);
    return node->out[0] ? LIGHT_OK : LIGHT_ERR_MEMORY;
}

static light_status recompute_backward(light_step *s, light_node *node, light_tensor *const *grads)
{
    const recompute_attrs *a = node->attrs;
    light_tensor *leaves[LIGHT_OP_MAX_IN];
    const light_storage *since = s->storages;
    light_node *outer = s->tape;
    bool retain = s->retain;
    for (int i = 0; i < node->n_in; i++) {
        light_tensor *t = node->in[i];
        leaves[i] = light_step_view(s, t, light_shape_of(t), t->strides, 0);
        if (!leaves[i]) return LIGHT_ERR_MEMORY;
        leaves[i]->requires_grad = t->requires_grad;
    }
    s->tape = NULL;
    s->retain = false;
    bool was = light_set_grad_enabled(s, true);
    light_tensor *y = run_again(s, a, leaves, node->n_in);
    if (y && y->node) {
        light_step_drop_users(s, since, NULL);
        y->grad = light_step_view(s, grads[0], light_shape_of(grads[0]), grads[0]->strides, 0);
        if (y->grad) light_walk_tape(s);
    }
    light_set_grad_enabled(s, was);
    s->tape = outer;
    s->retain = retain;
    for (int i = 0; i < node->n_in && s->status == LIGHT_OK; i++) {
        light_tensor *g = leaves[i]->grad;
        if (g) {
            LIGHT_TRY(light_grad_give(s, node, i, g));
            light_step_release(s, g);
        }
        light_step_release(s, leaves[i]);
    }
    return s->status;
}

static const light_op recompute_op = {
    .name = "recompute",
    .infer = recompute_infer,
    .forward = recompute_forward,
    .backward = recompute_backward,
    .saves_in = ~0u,
    .view = true,
};

light_tensor *light_recompute(light_step *s, light_recompute_fn fn, void *user, light_tensor **inputs, int n)
{
    if (n < 1 || n > LIGHT_OP_MAX_IN)
        return light_step_fail(s, LIGHT_ERR_ARGUMENT, "recompute: %d inputs, 1 to %d are possible", n,
                               LIGHT_OP_MAX_IN);
    bool needed = false;
    for (int i = 0; i < n; i++) needed |= light_requires_grad(inputs[i]);
    /* With no gradient to pass back through, the node would never be visited: fn goes on the tape itself. */
    if (!s->grad_enabled || !needed) return fn(s, user, inputs, n);
    recompute_attrs attrs = {.fn = fn, .user = user};
    return light_apply(s, &recompute_op, inputs, n, 0, &attrs, sizeof attrs, NULL, 1);
}
