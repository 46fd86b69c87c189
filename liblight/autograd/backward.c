/* SPDX-License-Identifier: Apache-2.0 */
/* The backward pass: walks the tape from its end to its beginning. */
#include "autograd/step.h"

#include <string.h>

/* ---- where gradients go ------------------------------------------------- */

bool light_grad_needed(const light_node *node, int i)
{
    return node->in[i] && light_leaf(node->in[i])->requires_grad;
}

static light_status make_leaf_grad(light_step *s, light_tensor *t)
{
    if (t->step) {
        light_spec spec = light_spec_like(t);
        if (!(t->grad = light_step_tensor(s, spec))) return LIGHT_ERR_MEMORY;
    } else {
        LIGHT_TRY(light_step_record(
            s, light_tensor_new(&t->grad, light_shape_of(t), (light_dtype)t->dtype, t->storage->device)));
    }
    t->grad_fresh = true;
    return LIGHT_OK;
}

/* May be added to in place: nobody else looks at this memory, and each element has a place of its own. */
static bool exclusive(const light_tensor *grad)
{
    return grad->storage->refs == 1 && light_tensor_is_dense(grad);
}

static light_status make_exclusive(light_step *s, light_tensor *t)
{
    light_tensor *copy = light_step_tensor(s, light_spec_like(t));
    if (!copy) return LIGHT_ERR_MEMORY;
    LIGHT_TRY(LIGHT_RUN(s, COPY, .in = {t->grad}, .out = {copy}));
    light_step_release(s, t->grad);
    t->grad = copy;
    return LIGHT_OK;
}

static light_slot leaf_slot(light_step *s, light_tensor *t)
{
    light_keeper *keeper = t->storage->keeper;
    if (!t->grad && make_leaf_grad(s, t) != LIGHT_OK) return (light_slot){0};
    if (keeper && !keeper->grads_here && light_step_record(s, keeper->fetch_grads(keeper, s)) != LIGHT_OK)
        return (light_slot){0};
    light_slot slot = {t->grad, !t->grad_fresh};
    t->grad_fresh = false;
    return slot;
}

/* 16-bit memory for what one node contributes to a wider gradient. */
static light_slot narrow_slot(light_step *s, light_tensor *t)
{
    if (t->narrow_grad) return (light_slot){t->narrow_grad, 1};
    t->narrow_grad = light_step_tensor(s, light_spec_like(t));
    return (light_slot){t->narrow_grad, 0};
}

static light_status add_narrow(light_step *s, light_tensor *t)
{
    light_tensor *g = t->narrow_grad;
    t->narrow_grad = NULL;
    if (s->status != LIGHT_OK) return s->status;
    light_slot slot = leaf_slot(s, light_leaf(t));
    if (!slot.tensor) return s->status;
    LIGHT_TRY(LIGHT_RUN(s, COPY, .in = {g}, .out = {slot.tensor}, .accumulate = slot.accumulate));
    light_step_release(s, g);
    return LIGHT_OK;
}

/* wide: f32 memory is welcome where in[i] is the 16-bit copy of a parameter. */
static light_slot slot_for(light_step *s, light_node *node, int i, bool wide)
{
    const light_slot none = {0};
    if (!light_grad_needed(node, i)) return none;
    light_tensor *t = node->in[i];
    if (!t->node) return t->master && !wide ? narrow_slot(s, t) : leaf_slot(s, light_leaf(t));
    if (!t->grad) {
        t->grad = light_step_tensor(s, light_spec_like(t));
        return (light_slot){t->grad, 0};
    }
    if (!exclusive(t->grad) && make_exclusive(s, t) != LIGHT_OK) return none;
    return (light_slot){t->grad, 1};
}

light_slot light_grad_slot(light_step *s, light_node *node, int i)
{
    return slot_for(s, node, i, i < 32 && (node->op->wide_grads >> i & 1));
}

/* Adds g, summed over the dims that broadcasting made, to the gradient of in[i]. */
static light_status give_reduced(light_step *s, light_node *node, int i, light_tensor *g)
{
    light_slot slot = slot_for(s, node, i, true);
    if (!slot.tensor) return s->status;
    light_tensor *target = slot.tensor;
    light_shape shape = {.ndim = g->ndim};
    int64_t strides[LIGHT_MAX_DIMS];
    int shift = g->ndim - target->ndim;
    light_reduce_attrs attrs = {.code = LIGHT_REDUCE_SUM};
    for (int d = 0; d < g->ndim; d++) {
        shape.dims[d] = d < shift ? 1 : target->shape[d - shift];
        strides[d] = d < shift ? 0 : target->strides[d - shift];
        if (shape.dims[d] != g->shape[d]) attrs.dims |= 1u << d;
    }
    light_tensor *view = light_step_view(s, target, shape, strides, 0);
    if (!view) return LIGHT_ERR_MEMORY;
    light_status status =
        LIGHT_RUN(s, REDUCE, .in = {g}, .out = {view}, .attrs = &attrs, .accumulate = slot.accumulate);
    light_step_release(s, view);
    return status;
}

light_status light_grad_give(light_step *s, light_node *node, int i, light_tensor *g)
{
    if (!light_grad_needed(node, i)) return LIGHT_OK;
    if (!g) return s->status;
    light_tensor *t = node->in[i];
    bool same_shape = t->ndim == g->ndim && !memcmp(t->shape, g->shape, t->ndim * sizeof *t->shape);
    if (!same_shape) return give_reduced(s, node, i, g);
    if (t->node && !t->grad && t->dtype == g->dtype) {
        /* A window of its own, since the struct that came may be another tensor's gradient. */
        t->grad = light_step_view(s, g, light_shape_of(g), g->strides, 0);
        return t->grad ? LIGHT_OK : LIGHT_ERR_MEMORY;
    }
    light_slot slot = slot_for(s, node, i, true);
    if (!slot.tensor) return s->status;
    return LIGHT_RUN(s, COPY, .in = {g}, .out = {slot.tensor}, .accumulate = slot.accumulate);
}

/* ---- the walk ----------------------------------------------------------- */

/* A leaf whose last use has been passed is told so. */
static void count_down(light_step *s, light_node *node)
{
    for (int i = 0; i < node->n_in; i++) {
        light_tensor *t = node->in[i];
        if (!t || t->node) continue;
        t = light_leaf(t);
        if (!t->requires_grad || --t->uses > 0) continue;
        t->uses = 0;
        light_keeper *keeper = t->storage->keeper;
        if (keeper) keeper->ready(keeper, s, t);
        if (t->hook && t->grad && !t->grad_fresh) t->hook(t, t->hook_user);
    }
}

static void let_go(light_step *s, light_node *node)
{
    for (int i = 0; i < node->n_in && i < 32; i++)
        if (node->in[i] && (node->saved_in >> i & 1)) light_storage_unref(s, node->in[i]->storage);
    for (int i = 0; i < node->n_out; i++) {
        light_tensor *t = node->out[i];
        if (node->saved_out >> i & 1) light_storage_unref(s, t->storage);
        if (t->node != node || !t->grad) continue;
        light_step_release(s, t->grad);
        t->grad = NULL;
    }
    for (int i = 0; i < LIGHT_OP_MAX_EXTRA && node->extra[i]; i++) light_step_release(s, node->extra[i]);
}

static light_status check_saved(const light_node *node)
{
    for (int i = 0; i < node->n_in && i < LIGHT_OP_MAX_IN; i++)
        if (node->in[i] && (node->saved_in >> i & 1) && node->in[i]->storage->version != node->versions[i])
            return light_fail(LIGHT_ERR_STATE,
                              "backward: input %d was changed in place after the operation had read it", i);
    return LIGHT_OK;
}

/* Values that went away after the operation had read them come back. */
static light_status fetch_saved(light_step *s, const light_node *node)
{
    bool fetched = false;
    for (int i = 0; i < node->n_in && i < 32; i++) {
        light_tensor *t = node->in[i];
        light_keeper *keeper = t && (node->saved_in >> i & 1) ? t->storage->keeper : NULL;
        if (!keeper) continue;
        if (!keeper->here) LIGHT_TRY(keeper->fetch(keeper, s));
        if (t->master && !light_step_lowered(s, t->master)) return light_step_status(s);
        fetched = true;
    }
    return fetched ? light_all_here(node, true) : LIGHT_OK;
}

static light_status run_backward(light_step *s, light_node *node)
{
    light_tensor *grads_small[LIGHT_OP_MAX_OUT];
    bool any = false;
    for (int i = 0; i < node->n_out; i++) {
        grads_small[i] = node->out[i]->grad;
        any |= grads_small[i] != NULL;
    }
    if (!any) return LIGHT_OK;
    const char *outer = s->op, *path = light_step_set_path(s, node->path);
    s->op = node->op->name;
    light_status status = check_saved(node);
    if (status == LIGHT_OK) status = fetch_saved(s, node);
    light_range_push(s->device, node->op->name);
    if (status == LIGHT_OK) status = node->op->backward(s, node, grads_small);
    light_range_pop(s->device);
    light_step_record(s, status);
    for (int i = 0; i < node->n_in; i++)
        if (node->in[i] && node->in[i]->narrow_grad) add_narrow(s, node->in[i]);
    status = s->status;
    s->op = outer;
    s->path = path;
    return status;
}

static bool has_gradient(const light_node *node)
{
    for (int i = 0; i < node->n_out; i++)
        if (node->out[i]->node == node && node->out[i]->grad) return true;
    return false;
}

light_status light_walk_tape(light_step *s)
{
    light_node *node = s->tape, *kept = NULL, **link = &kept;
    s->tape = NULL;
    while (node && s->status == LIGHT_OK) {
        light_node *previous = node->previous;
        if (s->retain && !has_gradient(node)) {
            /* Not on the way to this loss: another backward may come for it. */
            *link = node;
            link = &node->previous;
        } else if (run_backward(s, node) == LIGHT_OK) {
            let_go(s, node);
            count_down(s, node);
        }
        node = previous;
    }
    *link = NULL;
    s->tape = kept;
    return s->status;
}

/* ---- entry -------------------------------------------------------------- */

/* The node of a loss is among the tape's last ones, so this looks at few. */
static bool on_tape(const light_step *s, const light_node *node)
{
    const light_node *n = s->tape;
    while (n && n != node) n = n->previous;
    return n != NULL;
}

static light_status check_root(const light_step *s, const light_tensor *t, const char *what)
{
    if (!light_dtype_is_floating((light_dtype)t->dtype))
        return light_fail(LIGHT_ERR_DTYPE, "%s is %s, a floating dtype is needed", what,
                          light_dtype_name((light_dtype)t->dtype));
    if (!t->requires_grad)
        return light_fail(LIGHT_ERR_ARGUMENT,
                          "%s depends on no parameter: nothing it was computed from requires a gradient",
                          what);
    if (!t->node || t->storage->released || !on_tape(s, t->node))
        return light_fail(LIGHT_ERR_STATE, "%s was used for backward before, or is itself a leaf", what);
    return LIGHT_OK;
}

/* What both ways to begin do: `seed` is scaled already. */
static light_status backward_from(light_step *s, light_tensor *t, light_tensor *seed)
{
    if (s->status != LIGHT_OK) return light_step_status(s);
    const char *outer = s->op;
    s->op = "backward";
    light_status status = LIGHT_OK;
    if (!t || !seed)
        status = light_fail(LIGHT_ERR_ARGUMENT, "no tensor to start from");
    else if ((status = check_root(s, t, "the loss")) == LIGHT_OK &&
             !light_shape_equal(light_shape_of(t), light_shape_of(seed)))
        status = light_fail(LIGHT_ERR_SHAPE, "the gradient's shape is not that of the tensor");
    if (status != LIGHT_OK) {
        light_step_record(s, status);
        s->op = outer;
        return light_step_status(s);
    }
    t->grad = light_step_view(s, seed, light_shape_of(seed), seed->strides, 0);
    light_storage_ref(t->storage);
    if (!s->retain) light_step_drop_users(s, NULL, t->storage);
    light_range_push(s->device, "backward");
    if (t->grad) light_walk_tape(s);
    light_range_pop(s->device);
    s->op = outer;
    return light_step_status(s);
}

/* grad times the loss scale. */
static light_tensor *scaled(light_step *s, light_tensor *grad)
{
    light_tensor *y = light_step_tensor(s, light_spec_like(grad));
    light_tensor *scale =
        light_step_tensor(s, (light_spec){.dtype = (light_dtype)grad->dtype, .shape = LIGHT_SCALAR});
    if (!y || !scale || LIGHT_RUN(s, COPY, .in = {s->grad_scale}, .out = {scale}) != LIGHT_OK) return NULL;
    light_tensor *wide = light_step_expanded(s, scale, light_shape_of(grad));
    light_binary_attrs attrs = {LIGHT_BINARY_MUL};
    if (!wide || LIGHT_RUN(s, BINARY, .in = {grad, wide}, .out = {y}, .attrs = &attrs) != LIGHT_OK)
        return NULL;
    return y;
}

light_status light_backward_from(light_step *s, light_tensor *t, light_tensor *grad)
{
    if (s->status == LIGHT_OK && t && grad && s->grad_scale) grad = scaled(s, grad);
    return backward_from(s, t, grad);
}

/* The gradient that the loss begins with: weight, times the loss scale. */
static light_tensor *seed_of(light_step *s, const light_tensor *loss, double weight)
{
    light_tensor *seed = light_step_tensor(s, light_spec_like(loss));
    if (!seed) return NULL;
    if (!s->grad_scale) {
        light_fill_attrs attrs = {.value = weight};
        return LIGHT_RUN(s, FILL, .out = {seed}, .attrs = &attrs) == LIGHT_OK ? seed : NULL;
    }
    light_tensor *wide = light_step_tensor(s, (light_spec){.dtype = LIGHT_F32, .shape = LIGHT_SCALAR});
    light_unary_attrs attrs = {.code = LIGHT_UNARY_MUL_SCALAR, .a = weight};
    if (!wide || LIGHT_RUN(s, UNARY, .in = {s->grad_scale}, .out = {wide}, .attrs = &attrs) != LIGHT_OK)
        return NULL;
    light_tensor *shaped = light_step_view(s, wide, light_shape_of(loss), NULL, 0);
    if (!shaped || LIGHT_RUN(s, COPY, .in = {shaped}, .out = {seed}) != LIGHT_OK) return NULL;
    return seed;
}

light_status light_backward_weighted(light_step *s, light_tensor *loss, double weight)
{
    if (s->status != LIGHT_OK) return light_step_status(s);
    if (loss && loss->numel != 1) {
        char text[256];
        light_step_fail(s, LIGHT_ERR_SHAPE,
                        "backward: the loss has shape %s, a scalar is needed (a mean or sum)",
                        light_shape_format(light_shape_of(loss), text, sizeof text));
        return light_step_status(s);
    }
    return backward_from(s, loss, loss ? seed_of(s, loss, weight) : NULL);
}

light_status light_backward(light_step *s, light_tensor *loss)
{
    return light_backward_weighted(s, loss, 1);
}
