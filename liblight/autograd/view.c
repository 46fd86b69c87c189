/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's own operations: detach, alias and casts; and the 16-bit copies of parameters. */
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

/* ---- 16-bit copies of parameters ---------------------------------------- */

static bool is_stale(const light_step *s, const light_storage *values)
{
    const light_lowered *copy = values->lowered;
    if (!copy->made || copy->version != values->version) return true;
    bool here = !values->keeper || values->keeper->here; /* what is elsewhere was lowered there */
    return values->exposed && here && copy->serial != s->serial;
}

/* All of a storage as one row. */
static light_tensor row_of(light_storage *storage, light_dtype dtype)
{
    light_tensor row = {.storage = storage, .data = storage->data, .dtype = (uint8_t)dtype};
    light_tensor_set_shape(&row, LIGHT_SHAPE((int64_t)(storage->bytes / light_dtype_size(dtype))));
    return row;
}

static light_status bring(light_step *s, const light_storage *storage)
{
    light_keeper *keeper = storage->keeper;
    return keeper && !keeper->here ? keeper->fetch(keeper, s) : LIGHT_OK;
}

static light_status refresh(light_step *s, const light_tensor *t)
{
    light_storage *values = t->storage;
    light_lowered *copy = values->lowered;
    LIGHT_TRY(bring(s, copy->storage));
    if (!is_stale(s, values)) return LIGHT_OK;
    LIGHT_TRY(bring(s, values));
    light_tensor from = row_of(values, (light_dtype)t->dtype), to = row_of(copy->storage, copy->dtype);
    LIGHT_TRY(LIGHT_RUN(s, COPY, .in = {&from}, .out = {&to}));
    if (copy->made && copy->version != values->version) copy->storage->version++;
    copy->made = true;
    copy->version = values->version;
    copy->serial = s->serial;
    return LIGHT_OK;
}

light_tensor *light_step_lowered(light_step *s, light_tensor *t)
{
    if (!t->lowered || refresh(s, t) != LIGHT_OK) return NULL;
    t->lowered->requires_grad = t->requires_grad;
    return t->lowered;
}

light_tensor *light_seen(light_step *s, light_tensor *t)
{
    return s && s->lower_all && t && t->lowered ? light_step_lowered(s, t) : t;
}

/* A window on the same elements of the copy, for a window on a parameter. */
static light_status lowered_window(light_step *s, light_node *node)
{
    light_tensor *t = node->in[0], whole;
    LIGHT_TRY(refresh(s, t));
    whole = row_of(t->storage->lowered->storage, t->storage->lowered->dtype);
    int64_t offset = (t->data - (char *)t->storage->data) / (int64_t)light_dtype_size((light_dtype)t->dtype);
    node->out[0] = light_step_view(s, &whole, light_shape_of(t), t->strides, offset);
    return node->out[0] ? LIGHT_OK : LIGHT_ERR_MEMORY;
}

static const light_op lowered_op = {
    .name = "to_dtype", .infer = cast_infer, .forward = lowered_window, .backward = pass_on, .view = true};

/* ---- casts -------------------------------------------------------------- */

/* What several products read is cast once a step. Parameters are not data: optimizers write them without a word. */
static bool is_data(const light_tensor *x)
{
    return !x->step && !x->requires_grad && !x->grad && !x->master;
}

static bool has_cast(const light_step *s, const light_tensor *x, light_dtype dtype)
{
    return x->cast && x->cast_step == s->serial && x->cast_version == x->storage->version &&
           x->cast->dtype == dtype && !x->cast->storage->released;
}

light_tensor *light_step_cast(light_step *s, light_tensor *x, light_dtype dtype)
{
    cast_attrs attrs = {dtype};
    if (x && x->storage->lowered && x->storage->lowered->dtype == dtype)
        return x->lowered ? light_step_lowered(s, x) : LIGHT_APPLY1(s, &lowered_op, &attrs, x);
    bool data = x && is_data(x);
    if (data && has_cast(s, x, dtype)) return x->cast;
    light_tensor *y = LIGHT_APPLY1(s, &cast_op, &attrs, x);
    if (data && y) {
        x->cast = y;
        x->cast_step = s->serial;
        x->cast_version = x->storage->version;
    }
    return y;
}
